"""Option x value x length: what setsockopt() and getsockopt() answer for every number of every level, on every kind of socket.

`cases()` yields (name, program) as programs.run_program takes them. A program begins with a fresh socket and asks for the default
with several lengths; then it sets several values and lengths and reads each back. The levels are SOL_SOCKET, SOL_IP, SOL_TCP,
SOL_UDP and SOL_RAW, each over all numbers up to the last that Linux 6.18 has and some beyond, so that an option which only one of
the two knows shows as well. What needs more than a value (filters, memberships, options that act on traffic) has programs of its
own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.parity.programs import Program, i32

KINDS = ("tcp", "udp", "ping", "rawicmp", "rawraw")
SOL_IP, SOL_SOCKET, SOL_TCP, SOL_UDP, SOL_RAW = 0, 1, 6, 17, 255

# Lengths asked for by getsockopt(), and values of setsockopt(): ints, then other lengths.
GET_LENGTHS = (4, 0, 1, 2, 3, 8, 16, 40)
VALUES = (0, 1, 2, 3, 7, 64, 255, 256, 5000, 70000, -1, 0x7FFFFFFF, -0x80000000)
ODD_VALUES = (
    b"",
    b"\1",
    b"\1\0",
    b"\5\0\0",
    i32(1) + i32(3),
    i32(0) + i32(0),
    struct.pack("=qq", 2, 8000),
    bytes(12),
    b"lo",
    bytes(41),
)

# Whose value is chance or the machine's: asked for elsewhere. SO_COOKIE, SO_NETNS_COOKIE, SO_INCOMING_NAPI_ID, TCP_CONGESTION,
# TCP_TIMESTAMP, TCP_CC_INFO.
RANDOM = {(SOL_SOCKET, 57), (SOL_SOCKET, 71), (SOL_SOCKET, 56), (SOL_TCP, 13), (SOL_TCP, 24), (SOL_TCP, 26)}
# A value that is a pointer or a descriptor of the caller's: SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF and _EBPF,
# IP_MSFILTER, MCAST_MSFILTER, the tables of netfilter (64 to 83) and multicast routing (200 to 212).
POINTERS = {(SOL_SOCKET, 26), (SOL_SOCKET, 50), (SOL_SOCKET, 51), (SOL_SOCKET, 52)}
# Time limits are kept in jiffies: only values that are whole ones at any HZ.
TIMEOUTS = {(SOL_SOCKET, n) for n in (20, 21, 66, 67)}
TICKS = {(SOL_TCP, 45), (SOL_TCP, 46)}  # TCP_RTO_MIN_US, TCP_DELACK_MAX_US
WHOLE_TICKS = [struct.pack("=qq", *t) for t in ((1, 0), (0, 8000), (0, 1000000), (0, -1), (-1, 0), (-1, 5), (0, 0), (1 << 62, 0))]

RANGES = {SOL_SOCKET: range(92), SOL_IP: range(60), SOL_UDP: (*range(4), *range(99, 107)), SOL_RAW: range(4), SOL_TCP: range(50)}
BEYOND = (0x7FFFFFFF, -1)


def values_of(level: int, option: int) -> list[bytes]:
    if (level, option) in TIMEOUTS:
        return [*WHOLE_TICKS, b"", bytes(3), bytes(8), bytes(15), WHOLE_TICKS[0] + bytes(8)]
    if (level, option) in TICKS:
        return [*(i32(v) for v in (8000, 12000, 40000, 200000, 204000, 1000000, 0, -1)), b"", bytes(3), i32(8000) + bytes(4)]
    return [*(i32(v) for v in VALUES), *ODD_VALUES]


def matrix(kind: str, level: int, option: int) -> Program:
    steps: Program = [("socket", "s", kind)]
    steps += [("getsockopt", "s", level, option, n) for n in GET_LENGTHS]
    if (level, option) in POINTERS:
        return steps
    for value in values_of(level, option):
        steps += [("setsockopt", "s", level, option, value), ("getsockopt", "s", level, option, 16)]
    return steps


def cases() -> Iterator[tuple[str, Program]]:
    for kind in KINDS:
        for level, numbers in RANGES.items():
            for option in (*numbers, *BEYOND):
                if (level, option) not in RANDOM:
                    yield f"{kind} level {level} option {option}", matrix(kind, level, option)


def all_programs() -> dict[str, Program]:
    return dict(cases())


# Where afinet refuses what Linux takes, on purpose: docs/differences.md has the reasons.
REFUSED = {
    (SOL_SOCKET, 41): "SO_WIFI_STATUS: no wireless devices",
    (SOL_SOCKET, 46): "SO_BUSY_POLL: no NAPI to poll",
    (SOL_SOCKET, 61): "SO_TXTIME: no qdisc that sends by time",
    (SOL_SOCKET, 69): "SO_PREFER_BUSY_POLL: no NAPI to poll",
    (SOL_SOCKET, 70): "SO_BUSY_POLL_BUDGET: no NAPI to poll",
    (SOL_SOCKET, 80): "SO_DEVMEM_DONTNEED: no device memory",
    (SOL_IP, 16): "IP_IPSEC_POLICY: no IPsec",
    (SOL_IP, 17): "IP_XFRM_POLICY: no IPsec",
    (SOL_TCP, 14): "TCP_MD5SIG: no MD5 signatures",
    **{(SOL_TCP, n): "TCP_REPAIR and what belongs to it" for n in (19, 20, 21, 22, 29)},
    **{(SOL_TCP, n): "TCP_FASTOPEN and what belongs to it" for n in (23, 30, 33, 34)},
    (SOL_TCP, 31): "TCP_ULP: no upper layer protocols",
    (SOL_TCP, 32): "TCP_MD5SIG_EXT: no MD5 signatures",
    (SOL_TCP, 35): "TCP_ZEROCOPY_RECEIVE: no mapped receiving",
    (SOL_TCP, 37): "TCP_TX_DELAY: no delayed sending",
    **{(SOL_TCP, n): "TCP-AO" for n in (38, 39, 40, 41, 42)},
    (SOL_UDP, 100): "UDP_ENCAP: no encapsulations",
    (SOL_UDP, 101): "UDP_NO_CHECK6_TX: no IPv6",
    (SOL_UDP, 102): "UDP_NO_CHECK6_RX: no IPv6",
}


def option_of(name: str) -> tuple[int, int]:
    """(level, number) of a case."""
    words = name.split()
    return int(words[2]), int(words[4])


# -- answers, kept short -----------------------------------------------------------------------------------------------------


def shorten(answers: list[object]) -> str:
    """One word an answer, what is repeated once: "0*3 EINVAL '00000001'". Empty values are "-"."""
    out: list[str] = []
    times: list[int] = []
    for answer in answers:
        word = f"{answer}" if answer != "" else "-"
        if out and out[-1] == word:
            times[-1] += 1
        else:
            out.append(word)
            times.append(1)
    return " ".join(word if n == 1 else f"{word}*{n}" for word, n in zip(out, times, strict=True))


def step_answers(short: str) -> list[str]:
    """`shorten` undone, words for words."""
    out: list[str] = []
    for word in short.split():
        text, _, n = word.partition("*")
        out += [text] * int(n or 1)
    return out
