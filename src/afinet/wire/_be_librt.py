"""be.py and csum_partial for the compiled build: mypyc turns librt.strings' reads into a load and a swap, and
returns a tuple of fixed length unboxed (unpack_tcp: 10 ns).

The twin of _be_struct.py; tests/wire/test_be.py holds them equal. Interpreted it works too, slowly.

librt's words are signed. Reading, a mask makes them unsigned. Writing, a word is put together from a signed
upper part, so that the interpreter's unbounded integers give the same as the registers' wrapping ones.
i32 reaches i64 by way of int because a cast would need mypy_extensions at run time; it costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from librt.strings import (
    BytesWriter,
    read_i16_be,
    read_i32_be,
    read_i64_be,
    read_i64_le,
    write_i32_be,
    write_i64_be,
)

if TYPE_CHECKING:
    from mypy_extensions import i64

Int3 = tuple[int, int, int]
Int4 = tuple[int, int, int, int]
Int8 = tuple[int, int, int, int, int, int, int, int]
Int9 = tuple[int, int, int, int, int, int, int, int, int]
Int10 = tuple[int, int, int, int, int, int, int, int, int, int]


def get_u8(b: bytes, off: int, /) -> int:
    return b[off]


def get_u16(b: bytes, off: int, /) -> int:
    w: int = read_i16_be(b, off)
    return w & 0xFFFF


def get_u32(b: bytes, off: int, /) -> int:
    w: int = read_i32_be(b, off)
    return w & 0xFFFFFFFF


def get_u64(b: bytes, off: int, /) -> int:
    w: int = read_i64_be(b, off)
    if w < 0:
        w += 0x10000000000000000
    return w


def _put32(w: BytesWriter, x: i64) -> None:
    s: int = x - ((x & 0x80000000) << 1)
    write_i32_be(w, s)


def _put64(w: BytesWriter, hi: i64, lo: i64) -> None:
    """hi and lo are 32 bits each."""
    write_i64_be(w, (hi - ((hi & 0x80000000) << 1)) << 32 | lo)


def put_u16(v: int, /) -> bytes:
    w = BytesWriter()
    w.append(v >> 8)
    w.append(v & 0xFF)
    return w.getvalue()


def put_u32(v: int, /) -> bytes:
    w = BytesWriter()
    _put32(w, v)
    return w.getvalue()


def put_u32s(words: list[int], /) -> bytes:
    w = BytesWriter()
    for v in words:
        _put32(w, v)
    return w.getvalue()


def unpack_u32x3(b: bytes, off: int, /) -> Int3:
    o: i64 = off
    x: i64 = read_i64_be(b, o)
    y: int = read_i32_be(b, o + 8)
    return x >> 32 & 0xFFFFFFFF, x & 0xFFFFFFFF, y & 0xFFFFFFFF


def pack_u32x3(a: int, b: int, c: int, /) -> bytes:
    w = BytesWriter()
    _put64(w, a, b)
    _put32(w, c)
    return w.getvalue()


def unpack_eth(b: bytes, off: int, /) -> Int3:
    o: i64 = off
    x: i64 = read_i64_be(b, o)
    y: i64 = read_i64_be(b, o + 6)
    return x >> 16 & 0xFFFFFFFFFFFF, y >> 16 & 0xFFFFFFFFFFFF, y & 0xFFFF


def pack_eth(dst: int, src: int, proto: int, /) -> bytes:
    w = BytesWriter()
    _put64(w, dst >> 16, (dst & 0xFFFF) << 16 | src >> 32)
    _put32(w, src & 0xFFFFFFFF)
    w.append(proto >> 8)
    w.append(proto & 0xFF)
    return w.getvalue()


def unpack_arp(b: bytes, off: int, /) -> Int9:
    o: i64 = off
    x: i64 = read_i64_be(b, o)
    y: i64 = read_i64_be(b, o + 8)
    t: i64 = read_i64_be(b, o + 16)
    tpa: int = read_i32_be(b, o + 24)
    return (
        x >> 48 & 0xFFFF, x >> 32 & 0xFFFF, x >> 24 & 0xFF, x >> 16 & 0xFF, x & 0xFFFF,
        y >> 16 & 0xFFFFFFFFFFFF, (y & 0xFFFF) << 16 | t >> 48 & 0xFFFF, t & 0xFFFFFFFFFFFF, tpa & 0xFFFFFFFF,
    )  # fmt: skip


def pack_arp(
    hrd: int, pro: int, hln: int, pln: int, op: int, sha: int, spa: int, tha: int, tpa: int, /
) -> bytes:
    w = BytesWriter()
    _put64(w, hrd << 16 | pro, hln << 24 | pln << 16 | op)
    _put64(w, sha >> 16, (sha & 0xFFFF) << 16 | spa >> 16)
    _put64(w, (spa & 0xFFFF) << 16 | tha >> 32, tha & 0xFFFFFFFF)
    _put32(w, tpa)
    return w.getvalue()


def unpack_ip(b: bytes, off: int, /) -> Int10:
    o: i64 = off
    x: i64 = read_i64_be(b, o)
    y: i64 = read_i64_be(b, o + 8)
    daddr: int = read_i32_be(b, o + 16)
    return (
        x >> 56 & 0xFF, x >> 48 & 0xFF, x >> 32 & 0xFFFF, x >> 16 & 0xFFFF, x & 0xFFFF,
        y >> 56 & 0xFF, y >> 48 & 0xFF, y >> 32 & 0xFFFF, y & 0xFFFFFFFF, daddr & 0xFFFFFFFF,
    )  # fmt: skip


def pack_ip(
    version_ihl: int, tos: int, tot_len: int, id: int, frag_off: int,
    ttl: int, protocol: int, check: int, saddr: int, daddr: int, /,
) -> bytes:  # fmt: skip
    w = BytesWriter()
    a: i64 = version_ihl
    b: i64 = tos
    c: i64 = tot_len
    d: i64 = id
    e: i64 = frag_off
    f: i64 = ttl
    g: i64 = protocol
    h: i64 = check
    _put64(w, a << 24 | b << 16 | c, d << 16 | e)
    _put64(w, f << 24 | g << 16 | h, saddr)
    _put32(w, daddr)
    return w.getvalue()


def unpack_icmp(b: bytes, off: int, /) -> Int4:
    x: i64 = read_i64_be(b, off)
    return x >> 56 & 0xFF, x >> 48 & 0xFF, x >> 32 & 0xFFFF, x & 0xFFFFFFFF


def pack_icmp(type: int, code: int, check: int, rest: int, /) -> bytes:
    w = BytesWriter()
    _put64(w, type << 24 | code << 16 | check, rest)
    return w.getvalue()


def unpack_udp(b: bytes, off: int, /) -> Int4:
    x: i64 = read_i64_be(b, off)
    return x >> 48 & 0xFFFF, x >> 32 & 0xFFFF, x >> 16 & 0xFFFF, x & 0xFFFF


def pack_udp(sport: int, dport: int, length: int, check: int, /) -> bytes:
    w = BytesWriter()
    _put64(w, sport << 16 | dport, length << 16 | check)
    return w.getvalue()


def unpack_tcp(b: bytes, off: int, /) -> Int8:
    o: i64 = off
    x: i64 = read_i64_be(b, o)
    y: i64 = read_i64_be(b, o + 8)
    t: int = read_i32_be(b, o + 16)
    z: i64 = t
    return (
        x >> 48 & 0xFFFF, x >> 32 & 0xFFFF, x & 0xFFFFFFFF, y >> 32 & 0xFFFFFFFF,
        y >> 16 & 0xFFFF, y & 0xFFFF, z >> 16 & 0xFFFF, z & 0xFFFF,
    )  # fmt: skip


def pack_tcp(
    sport: int, dport: int, seq: int, ack_seq: int, doff_flags: int, window: int, check: int, urg_ptr: int, /
) -> bytes:
    w = BytesWriter()
    a: i64 = sport
    b: i64 = dport
    c: i64 = doff_flags
    d: i64 = window
    e: i64 = check
    f: i64 = urg_ptr
    _put64(w, a << 16 | b, seq)
    _put64(w, ack_seq, c << 16 | d)
    _put32(w, e << 16 | f)
    return w.getvalue()


def pack_tcp_options(
    sport: int, dport: int, seq: int, ack_seq: int, doff_flags: int, window: int, check: int, urg_ptr: int,
    options: bytes, /,
) -> bytes:  # fmt: skip
    w = BytesWriter()
    a: i64 = sport
    b: i64 = dport
    c: i64 = doff_flags
    d: i64 = window
    e: i64 = check
    f: i64 = urg_ptr
    _put64(w, a << 16 | b, seq)
    _put64(w, ack_seq, c << 16 | d)
    _put32(w, e << 16 | f)
    w.write(options)
    return w.getvalue()


def csum_partial(data: bytes, start: int, end: int, sum: int, /) -> int:
    """See checksum.csum_partial. Eight bytes a read, four reads a turn, added as little-endian 32-bit halves:
    a one's-complement sum does not mind the byte order, which is put right once at the end."""
    i: i64 = start
    n: i64 = end
    acc: i64 = 0
    a: i64
    b: i64
    c: i64
    d: i64
    while n - i >= 32:
        a = read_i64_le(data, i)
        b = read_i64_le(data, i + 8)
        c = read_i64_le(data, i + 16)
        d = read_i64_le(data, i + 24)
        acc += (a & 0xFFFFFFFF) + (a >> 32 & 0xFFFFFFFF) + (b & 0xFFFFFFFF) + (b >> 32 & 0xFFFFFFFF)
        acc += (c & 0xFFFFFFFF) + (c >> 32 & 0xFFFFFFFF) + (d & 0xFFFFFFFF) + (d >> 32 & 0xFFFFFFFF)
        i += 32
    while n - i >= 8:
        a = read_i64_le(data, i)
        acc += (a & 0xFFFFFFFF) + (a >> 32 & 0xFFFFFFFF)
        i += 8
    acc = (acc & 0xFFFFFFFF) + (acc >> 32)
    acc = (acc & 0xFFFF) + (acc >> 16)
    acc = (acc & 0xFFFF) + (acc >> 16)
    acc = (acc & 0xFFFF) + (acc >> 16)
    acc = (acc & 0xFF) << 8 | acc >> 8
    while n - i >= 2:
        v: int = read_i16_be(data, i)
        a = v
        acc += a & 0xFFFF
        i += 2
    if i < n:
        u: int = data[i]
        a = u
        acc += a << 8
    b = sum
    acc += b
    while acc > 0xFFFF:
        acc = (acc & 0xFFFF) + (acc >> 16)
    return acc
