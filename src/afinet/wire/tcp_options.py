"""TCP options: the fast path for the timestamp alone, the full parser, and the builders.

Reading is as tolerant as tcp_parse_options of net/ipv4/tcp_input.c: a length below 2 or past the end stops
it, what is unknown is skipped, what is known but has the wrong length is ignored. What an option *means*
(only in a SYN, allowed by a sysctl, a window scale clamped to 14) is the caller's business. Writing is in the
order of tcp_options_write of net/ipv4/tcp_output.c, so that a capture looks like Linux's.
"""

from __future__ import annotations

from typing import Final, final

from afinet.wire import be

TCPOPT_NOP: Final = 1
TCPOPT_EOL: Final = 0
TCPOPT_MSS: Final = 2
TCPOPT_WINDOW: Final = 3
TCPOPT_SACK_PERM: Final = 4
TCPOPT_SACK: Final = 5
TCPOPT_TIMESTAMP: Final = 8
TCPOPT_MD5SIG: Final = 19
TCPOPT_AO: Final = 29
TCPOPT_MPTCP: Final = 30
TCPOPT_FASTOPEN: Final = 34
TCPOPT_EXP: Final = 254
TCPOPT_FASTOPEN_MAGIC: Final = 0xF989

TCPOLEN_MSS: Final = 4
TCPOLEN_WINDOW: Final = 3
TCPOLEN_SACK_PERM: Final = 2
TCPOLEN_TIMESTAMP: Final = 10
TCPOLEN_MD5SIG: Final = 18
TCPOLEN_FASTOPEN_BASE: Final = 2
TCPOLEN_EXP_FASTOPEN_BASE: Final = 4

TCPOLEN_TSTAMP_ALIGNED: Final = 12
TCPOLEN_WSCALE_ALIGNED: Final = 4
TCPOLEN_SACKPERM_ALIGNED: Final = 4
TCPOLEN_SACK_BASE: Final = 2
TCPOLEN_SACK_BASE_ALIGNED: Final = 4
TCPOLEN_SACK_PERBLOCK: Final = 8
TCPOLEN_MSS_ALIGNED: Final = 4

TCP_NUM_SACKS: Final = 4
TCP_MAX_WSCALE: Final = 14
MAX_TCP_OPTION_SPACE: Final = 40

TCP_FASTOPEN_COOKIE_MIN: Final = 4
TCP_FASTOPEN_COOKIE_MAX: Final = 16

# NOP, NOP, TIMESTAMP, 10: the first word of what nearly every segment carries.
_TSTAMP_WORD: Final = 0x0101080A


@final
class ParsedOptions:
    """What the options of one segment said. Made once and used again: parse_tcp_options clears it."""

    __slots__ = (
        "mss", "wscale", "sack_perm", "saw_tstamp", "tsval", "tsecr", "sacks", "fastopen", "fastopen_exp",
        "md5", "saw_unknown",
    )  # fmt: skip

    mss: int  # 0: none, or none but 0, which Linux ignores
    wscale: int  # as sent, it may exceed 14; -1: none
    sack_perm: bool
    saw_tstamp: bool
    tsval: int
    tsecr: int
    sacks: list[int] | None  # start, end, start, end, ... of the last SACK option
    fastopen: bytes | None  # b"" asks for a cookie
    fastopen_exp: bool  # it came as the experimental option
    md5: bytes | None  # the 16 bytes of the digest
    saw_unknown: bool

    def __init__(self) -> None:
        self.mss = 0
        self.wscale = -1
        self.sack_perm = False
        self.saw_tstamp = False
        self.tsval = 0
        self.tsecr = 0
        self.sacks = None
        self.fastopen = None
        self.fastopen_exp = False
        self.md5 = None
        self.saw_unknown = False

    def clear(self) -> None:
        self.mss = 0
        self.wscale = -1
        self.sack_perm = False
        self.saw_tstamp = False
        self.tsval = 0
        self.tsecr = 0
        self.sacks = None
        self.fastopen = None
        self.fastopen_exp = False
        self.md5 = None
        self.saw_unknown = False


def parse_fast_timestamp(b: bytes, off: int, length: int) -> tuple[bool, int, int]:
    """tcp_parse_aligned_timestamp: (True, tsval, tsecr) where the options, `length` bytes at `off`, are
    exactly NOP NOP TIMESTAMP; else (False, 0, 0) and parse_tcp_options must look. The caller has checked that
    they are there."""
    if length != TCPOLEN_TSTAMP_ALIGNED:
        return False, 0, 0
    word, tsval, tsecr = be.unpack_u32x3(b, off)
    if word != _TSTAMP_WORD:
        return False, 0, 0
    return True, tsval, tsecr


def parse_tcp_options(b: bytes, off: int, end: int, out: ParsedOptions) -> None:
    """Read b[off:end] into `out`. Never raises as long as end <= len(b)."""
    out.clear()
    while off < end:
        kind = be.get_u8(b, off)
        if kind == TCPOPT_EOL:
            return
        if kind == TCPOPT_NOP:
            off += 1
            continue
        if end - off < 2:
            return
        size = be.get_u8(b, off + 1)
        if size < 2 or size > end - off:
            return
        if kind == TCPOPT_TIMESTAMP:
            if size == TCPOLEN_TIMESTAMP:
                out.saw_tstamp = True
                out.tsval = be.get_u32(b, off + 2)
                out.tsecr = be.get_u32(b, off + 6)
        elif kind == TCPOPT_SACK:
            if size >= TCPOLEN_SACK_BASE + TCPOLEN_SACK_PERBLOCK and (size - TCPOLEN_SACK_BASE) & 7 == 0:
                sacks: list[int] = []
                p = off + 2
                while p < off + size:
                    sacks.append(be.get_u32(b, p))
                    p += 4
                out.sacks = sacks
        elif kind == TCPOPT_MSS:
            if size == TCPOLEN_MSS:
                mss = be.get_u16(b, off + 2)
                if mss != 0:
                    out.mss = mss
        elif kind == TCPOPT_WINDOW:
            if size == TCPOLEN_WINDOW:
                out.wscale = be.get_u8(b, off + 2)
        elif kind == TCPOPT_SACK_PERM:
            if size == TCPOLEN_SACK_PERM:
                out.sack_perm = True
        elif kind == TCPOPT_MD5SIG:
            if size == TCPOLEN_MD5SIG:
                out.md5 = b[off + 2 : off + 18]
        elif kind == TCPOPT_FASTOPEN:
            _parse_fastopen(b, off + 2, size - TCPOLEN_FASTOPEN_BASE, False, out)
        elif kind == TCPOPT_EXP:
            if size >= TCPOLEN_EXP_FASTOPEN_BASE and be.get_u16(b, off + 2) == TCPOPT_FASTOPEN_MAGIC:
                _parse_fastopen(b, off + 4, size - TCPOLEN_EXP_FASTOPEN_BASE, True, out)
            else:
                out.saw_unknown = True
        else:
            out.saw_unknown = True
        off += size


def _parse_fastopen(b: bytes, off: int, length: int, exp: bool, out: ParsedOptions) -> None:
    """tcp_parse_fastopen_option: odd lengths are not seen at all, even ones out of range void what was
    seen."""
    if length & 1:
        return
    if length == 0 or TCP_FASTOPEN_COOKIE_MIN <= length <= TCP_FASTOPEN_COOKIE_MAX:
        out.fastopen = b[off : off + length]
    else:
        out.fastopen = None
    out.fastopen_exp = exp


def build_syn_options(mss: int, wscale: int, sack_perm: bool, ts: bool, tsval: int, tsecr: int) -> bytes:
    """The options of a SYN or SYN-ACK: MSS, SACK-permitted with the timestamp or alone, window scale (-1:
    none). A fast open option may be appended."""
    words: list[int] = []
    if mss:
        words.append(TCPOPT_MSS << 24 | TCPOLEN_MSS << 16 | mss)
    if ts:
        if sack_perm:
            words.append(
                TCPOPT_SACK_PERM << 24 | TCPOLEN_SACK_PERM << 16 | TCPOPT_TIMESTAMP << 8 | TCPOLEN_TIMESTAMP
            )
        else:
            words.append(_TSTAMP_WORD)
        words.append(tsval)
        words.append(tsecr)
    elif sack_perm:
        words.append(TCPOPT_NOP << 24 | TCPOPT_NOP << 16 | TCPOPT_SACK_PERM << 8 | TCPOLEN_SACK_PERM)
    if wscale >= 0:
        words.append(TCPOPT_NOP << 24 | TCPOPT_WINDOW << 16 | TCPOLEN_WINDOW << 8 | wscale)
    return be.put_u32s(words)


def build_established_options(ts: bool, tsval: int, tsecr: int, sacks: list[int] | None) -> bytes:
    """The options of any later segment. `sacks` is start, end, ...: at most 4 blocks, 3 beside a timestamp
    (the caller counts: what is given is written)."""
    if not sacks:
        if ts:
            return be.pack_u32x3(_TSTAMP_WORD, tsval, tsecr)
        return b""
    words: list[int] = []
    if ts:
        words.append(_TSTAMP_WORD)
        words.append(tsval)
        words.append(tsecr)
    words.append(TCPOPT_NOP << 24 | TCPOPT_NOP << 16 | TCPOPT_SACK << 8 | TCPOLEN_SACK_BASE + len(sacks) * 4)
    return be.put_u32s(words + sacks)


def build_fastopen_option(cookie: bytes, exp: bool) -> bytes:
    """Comes last, padded with NOPs to four bytes; b"" asks for a cookie."""
    n = len(cookie)
    if exp:
        head = be.put_u32(TCPOPT_EXP << 24 | TCPOLEN_EXP_FASTOPEN_BASE + n << 16 | TCPOPT_FASTOPEN_MAGIC)
    else:
        head = be.put_u16(TCPOPT_FASTOPEN << 8 | TCPOLEN_FASTOPEN_BASE + n)
    return pad_options(head + cookie)


def pad_options(options: bytes) -> bytes:
    """NOPs up to the next multiple of four."""
    n = len(options) & 3
    if n == 0:
        return options
    return options + b"\x01\x01\x01"[n - 1 :]
