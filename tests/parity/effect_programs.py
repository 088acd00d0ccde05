"""What socket options do, beside their value: who may share a port, where packets go, what a filter lets through, what is told.

`all_programs()` as in socket_programs.py; the matrix of bind() is generated.
"""

from __future__ import annotations

import struct
from itertools import product

from tests.parity.programs import MSG_DONTWAIT, MSG_PEEK, Program, cmsg, i32, icmp, sa

LO, LO2, V0, V1 = "127.0.0.1", "127.0.0.2", "10.9.0.1", "10.9.0.2"
ANY = "0.0.0.0"
SOL_SOCKET, SOL_IP, SOL_TCP, SOL_UDP = 1, 0, 6, 17
SO_REUSEADDR, SO_DONTROUTE, SO_NO_CHECK, SO_PRIORITY, SO_LINGER, SO_REUSEPORT, SO_RCVLOWAT, SO_BINDTODEVICE = (
    2,
    5,
    11,
    12,
    13,
    15,
    18,
    25,
)
SO_MARK, SO_PEEK_OFF, SO_INCOMING_CPU, SO_BINDTOIFINDEX, SO_RCVMARK, SO_RCVPRIORITY = 36, 42, 49, 62, 75, 82
SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_ATTACH_REUSEPORT_CBPF, SO_DETACH_REUSEPORT_BPF = 26, 27, 51, 68
IP_TOS, IP_TTL, IP_RECVTTL, IP_RECVTOS, IP_FREEBIND, IP_TRANSPARENT, IP_RECVORIGDSTADDR, IP_MINTTL = 1, 2, 12, 13, 15, 19, 20, 21
IP_BIND_ADDRESS_NO_PORT, IP_UNICAST_IF, IP_LOCAL_PORT_RANGE = 24, 50, 51
NOW = MSG_DONTWAIT


def on(slot: str, level: int, name: int, value: int = 1) -> tuple[object, ...]:
    return ("setsockopt", slot, level, name, i32(value))


def insn(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jt, jf, k & 0xFFFFFFFF)


# -- who may share a port --------------------------------------------------------------------------------------------------

SHARING = {"none": (0, 0), "addr": (1, 0), "port": (0, 1), "both": (1, 1)}
PLACES = {"same": (LO, LO), "any first": (ANY, LO), "any last": (LO, ANY), "any both": (ANY, ANY), "others": (LO, V0)}


def sharing() -> dict[str, Program]:
    """Two sockets, what each of them set, where each binds, and whether the first one listens."""
    programs: dict[str, Program] = {}
    for kind, listens in (("udp", 0), ("tcp", 0), ("tcp", 1)):
        for (first, (a1, p1)), (second, (a2, p2)) in product(SHARING.items(), SHARING.items()):
            steps: Program = []
            port = 6100
            for one, two in PLACES.values():
                port += 1
                steps += [
                    ("socket", "a", kind),
                    ("socket", "b", kind),
                    *[on("a", SOL_SOCKET, name) for name, set in ((SO_REUSEADDR, a1), (SO_REUSEPORT, p1)) if set],
                    *[on("b", SOL_SOCKET, name) for name, set in ((SO_REUSEADDR, a2), (SO_REUSEPORT, p2)) if set],
                    ("bind", "a", sa(one, port)),
                    *([("listen", "a", 1)] if listens else []),
                    ("bind", "b", sa(two, port)),
                    *([("listen", "b", 1)] if kind == "tcp" else []),
                    *([("listen", "a", 1)] if kind == "tcp" else []),
                    ("close", "a"),
                    ("close", "b"),
                ]
            programs[f"{kind}{' listening' if listens else ''}: first {first}, second {second}"] = steps
    return programs


def ports() -> dict[str, Program]:
    """IP_LOCAL_PORT_RANGE and IP_BIND_ADDRESS_NO_PORT. Ranges of one port, so that the answer is known."""
    programs: dict[str, Program] = {}
    one = 40123
    only = struct.pack("=I", one << 16 | one)
    for kind in ("udp", "tcp"):
        programs[f"{kind}: a range of one port"] = [
            ("socket", "a", kind),
            ("setsockopt", "a", SOL_IP, IP_LOCAL_PORT_RANGE, only),
            ("bind", "a", sa(LO, 0)),
            ("getsockname", "a"),
            ("socket", "b", kind),
            ("setsockopt", "b", SOL_IP, IP_LOCAL_PORT_RANGE, only),
            ("bind", "b", sa(LO, 0)),
            ("bind", "b", sa(LO2, 0)),
            ("getsockname", "b"),
            ("socket", "c", kind),
            ("setsockopt", "c", SOL_IP, IP_LOCAL_PORT_RANGE, i32(0)),
            ("bind", "c", sa(LO, one)),
            ("close", "a"),
            ("bind", "c", sa(LO, one)),
        ]
        programs[f"{kind}: a range outside the namespace's"] = [
            ("socket", "a", kind),
            ("setsockopt", "a", SOL_IP, IP_LOCAL_PORT_RANGE, i32(2000 << 16 | 1000)),
            ("bind", "a", sa(LO, 0)),
            ("getsockname", "a"),
        ]
        programs[f"{kind}: connect in a range of one port"] = [
            ("socket", "l", kind),
            on("l", SOL_SOCKET, SO_REUSEADDR),
            ("bind", "l", sa(LO, 6201)),
            *([("listen", "l", 4)] if kind == "tcp" else []),
            ("socket", "a", kind),
            ("setsockopt", "a", SOL_IP, IP_LOCAL_PORT_RANGE, only),
            ("connect", "a", sa(LO, 6201)),
            ("getsockname", "a"),
            ("socket", "b", kind),
            ("setsockopt", "b", SOL_IP, IP_LOCAL_PORT_RANGE, only),
            ("connect", "b", sa(LO, 6201)),
            ("getsockname", "b"),
            # Another peer, the same port: a stream may.
            ("connect", "b", sa(LO2, 6201)),
            ("setsockopt", "a", SOL_SOCKET, SO_LINGER, i32(1) + i32(0)),
            ("setsockopt", "b", SOL_SOCKET, SO_LINGER, i32(1) + i32(0)),
            ("getsockname", "l"),
            ("bind", "a", sa(LO, one)),
        ]
        programs[f"{kind}: no port until connect"] = [
            ("socket", "a", kind),
            on("a", SOL_IP, IP_BIND_ADDRESS_NO_PORT),
            ("setsockopt", "a", SOL_IP, IP_LOCAL_PORT_RANGE, only),
            ("bind", "a", sa(LO2, 0)),
            ("getsockname", "a"),
            ("connect", "a", sa(LO, 6209)),
            ("getsockname", "a"),
            ("bind", "a", sa(LO, one)),
        ]
    return programs


# -- where packets go ------------------------------------------------------------------------------------------------------


def places() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for option, name in ((IP_FREEBIND, "freebind"), (IP_TRANSPARENT, "transparent")):
        for kind in ("udp", "tcp", "ping", "raw253"):
            programs[f"{kind}: {name}"] = [
                ("socket", "s", kind),
                ("bind", "s", sa("10.1.2.3", 6300)),
                on("s", SOL_IP, option),
                ("bind", "s", sa("10.1.2.3", 6300)),
                ("getsockname", "s"),
                ("connect", "s", sa(LO, 6301)),
                ("getsockname", "s"),
                ("poll", "s"),
            ]
    for device in (b"lo", b"v0"):
        for peer in (LO, V0, V1):
            programs[f"udp bound to {device.decode()} sends to {peer}"] = [
                ("socket", "r", "udp", int(peer == V1)),
                ("bind", "r", sa(ANY, 6310)),
                ("socket", "s", "udp"),
                ("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, device),
                ("send", "s", b"bound", 0, sa(peer, 6310)),
                ("recv", "r", 10, NOW),
                ("connect", "s", sa(peer, 6310)),
                ("getsockname", "s"),
            ]
            programs[f"udp bound to {device.decode()} hears from {peer}"] = [
                ("socket", "r", "udp"),
                ("setsockopt", "r", SOL_SOCKET, SO_BINDTODEVICE, device),
                ("bind", "r", sa(ANY, 6311)),
                ("socket", "s", "udp", int(peer == V1)),
                ("send", "s", b"bound", 0, sa(V0 if peer == V1 else peer, 6311)),
                ("recv", "r", 10, NOW),
                ("setsockopt", "r", SOL_SOCKET, SO_BINDTODEVICE, b""),
                ("send", "s", b"free", 0, sa(V0 if peer == V1 else peer, 6311)),
                ("recv", "r", 10, NOW),
            ]
    for index in (1, 2):
        for peer in (LO, V1, "8.8.8.8"):
            programs[f"udp by device {index} to {peer}"] = [
                ("socket", "s", "udp"),
                ("setsockopt", "s", SOL_IP, IP_UNICAST_IF, index.to_bytes(4, "big")),
                ("send", "s", b"x", 0, sa(peer, 6320)),
                ("connect", "s", sa(peer, 6320)),
                ("getsockname", "s"),
                ("setsockopt", "s", SOL_SOCKET, SO_BINDTOIFINDEX, i32(2)),
                ("setsockopt", "s", SOL_IP, IP_UNICAST_IF, index.to_bytes(4, "big")),
            ]
    programs["tcp: IP_MINTTL"] = [
        ("socket", "l", "tcp"),
        on("l", SOL_SOCKET, SO_REUSEADDR),
        on("l", SOL_IP, IP_MINTTL, 200),
        ("bind", "l", sa(LO, 6330)),
        ("listen", "l", 4),
        ("socket", "s", "tcp"),
        ("connect", "s", sa(LO, 6330)),
        ("poll", "s"),
        ("close", "s"),
        ("socket", "s", "tcp"),
        on("s", SOL_IP, IP_TTL, 200),
        ("connect", "s", sa(LO, 6330)),
        ("poll", "s"),
        ("setsockopt", "s", SOL_SOCKET, SO_LINGER, i32(1) + i32(0)),
    ]
    return programs


# -- what is told ----------------------------------------------------------------------------------------------------------


def told() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    pair: Program = [("socket", "r", "udp"), ("bind", "r", sa(LO, 6400)), ("socket", "s", "udp")]
    programs["udp: mark and priority"] = [
        *pair,
        on("r", SOL_SOCKET, SO_RCVMARK),
        on("r", SOL_SOCKET, SO_RCVPRIORITY),
        ("send", "s", b"1", 0, sa(LO, 6400)),
        ("recv", "r", 10, NOW, 200),
        on("s", SOL_SOCKET, SO_MARK, 77),
        on("s", SOL_SOCKET, SO_PRIORITY, 5),
        ("send", "s", b"2", 0, sa(LO, 6400)),
        ("recv", "r", 10, NOW, 200),
        ("send", "s", b"3", 0, sa(LO, 6400), cmsg(SOL_SOCKET, SO_MARK, i32(99)) + cmsg(SOL_SOCKET, SO_PRIORITY, i32(3))),
        ("recv", "r", 10, NOW, 200),
        ("send", "s", b"4", 0, sa(LO, 6400), cmsg(SOL_SOCKET, SO_MARK, b"\1")),
        ("send", "s", b"5", 0, sa(LO, 6400), cmsg(SOL_SOCKET, SO_PRIORITY, i32(-1))),
        ("recv", "r", 10, NOW, 200),
    ]
    programs["udp: TOS and priority"] = [
        *pair,
        on("r", SOL_IP, IP_RECVTOS),
        on("r", SOL_IP, IP_RECVTTL),
        on("r", SOL_SOCKET, SO_RCVPRIORITY),
        *[
            step
            for tos in (0, 4, 8, 0x10, 0x18, 0x1E, 0xB8, 0xFF)
            for step in (
                on("s", SOL_IP, IP_TOS, tos),
                ("getsockopt", "s", SOL_SOCKET, SO_PRIORITY, 4),
                ("send", "s", b"x", 0, sa(LO, 6400)),
                ("recv", "r", 10, NOW, 200),
                ("send", "s", b"x", 0, sa(LO, 6400), cmsg(SOL_IP, IP_TOS, i32(tos))),
                ("recv", "r", 10, NOW, 200),
                ("send", "s", b"x", 0, sa(LO, 6400), cmsg(SOL_IP, IP_TOS, bytes([tos]))),
                ("recv", "r", 10, NOW, 200),
            )
        ],
    ]
    programs["udp: SO_PEEK_OFF"] = [
        *pair,
        ("send", "s", b"abcdef", 0, sa(LO, 6400)),
        ("send", "s", b"ghijkl", 0, sa(LO, 6400)),
        on("r", SOL_SOCKET, SO_PEEK_OFF, 2),
        *[("recv", "r", 3, NOW | MSG_PEEK), ("getsockopt", "r", SOL_SOCKET, SO_PEEK_OFF, 4)] * 5,
        ("recv", "r", 2, NOW),
        ("getsockopt", "r", SOL_SOCKET, SO_PEEK_OFF, 4),
        ("recv", "r", 9, NOW | MSG_PEEK),
        on("r", SOL_SOCKET, SO_PEEK_OFF, -1),
        ("recv", "r", 9, NOW | MSG_PEEK),
        ("recv", "r", 9, NOW),
    ]
    itself: Program = [
        ("socket", "s", "tcp"),
        on("s", SOL_SOCKET, SO_REUSEADDR),
        ("bind", "s", sa(LO, 6410)),
        ("connect", "s", sa(LO, 6410)),
        ("poll", "s"),
    ]
    abort: Program = [("setsockopt", "s", SOL_SOCKET, SO_LINGER, i32(1) + i32(0))]
    programs["tcp: SO_PEEK_OFF"] = [
        *itself,
        ("send", "s", b"abcdefghijkl", 0x4000),
        on("s", SOL_SOCKET, SO_PEEK_OFF, 2),
        *[("recv", "s", 3, NOW | MSG_PEEK), ("getsockopt", "s", SOL_SOCKET, SO_PEEK_OFF, 4)] * 5,
        ("recv", "s", 4, NOW),
        ("getsockopt", "s", SOL_SOCKET, SO_PEEK_OFF, 4),
        ("recv", "s", 9, NOW | MSG_PEEK),
        *abort,
    ]
    programs["tcp: SO_RCVLOWAT"] = [
        *itself,
        on("s", SOL_SOCKET, SO_RCVLOWAT, 5),
        ("send", "s", b"abc", 0x4000),
        ("poll", "s"),
        ("recv", "s", 2, NOW | MSG_PEEK),
        ("send", "s", b"def", 0x4000),
        ("poll", "s"),
        ("recv", "s", 2, NOW),
        ("poll", "s"),
        on("s", SOL_SOCKET, SO_RCVLOWAT, 1),
        ("poll", "s"),
        *abort,
    ]
    return programs


# -- filters ---------------------------------------------------------------------------------------------------------------


def filters() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    keep, drop = insn(6, -1), insn(6, 0)
    echo = icmp(8, 0, 0x1234, 1, b"payload")
    for label, program in {
        "keep": keep,
        "drop": drop,
        "one byte": insn(6, 1),
        "24 bytes": insn(6, 24),
        "first byte": insn(0x30, 0) + insn(0x16, 0),
        "byte nine": insn(0x30, 9) + insn(0x16, 0),
        "IP's protocol": insn(0x30, -0x100000 + 9) + insn(0x54, 31) + insn(0x16, 0),
        "length": insn(0x80, 0) + insn(0x16, 0),
        "payload offset": insn(0x20, -0x1000 + 52) + insn(0x16, 0),
    }.items():
        programs[f"filter {label}: raw253"] = [
            ("socket", "r", "raw253"),
            ("attach", "r", SO_ATTACH_FILTER, program),
            ("socket", "s", "raw253"),
            ("send", "s", b"payload", 0, sa(LO)),
            ("recv", "r", 100, NOW),
        ]
        programs[f"filter {label}: ping"] = [
            ("socket", "s", "ping"),
            ("attach", "s", SO_ATTACH_FILTER, program),
            ("send", "s", echo, 0, sa(LO)),
            ("recv", "s", 100, NOW),
        ]
        if label == "byte nine":
            continue  # of a stream's acknowledgement number, which is chance
        programs[f"filter {label}: tcp"] = [
            ("socket", "l", "tcp"),
            on("l", SOL_SOCKET, SO_REUSEADDR),
            ("bind", "l", sa(LO, 6500)),
            ("listen", "l", 4),
            ("attach", "l", SO_ATTACH_FILTER, program),
            ("socket", "s", "tcp"),
            ("connect", "s", sa(LO, 6500)),
            ("poll", "s"),
            ("setsockopt", "s", SOL_SOCKET, SO_LINGER, i32(1) + i32(0)),
        ]
        programs[f"filter {label}: a stream to itself"] = [
            ("socket", "s", "tcp"),
            on("s", SOL_SOCKET, SO_REUSEADDR),
            ("bind", "s", sa(LO, 6501)),
            ("connect", "s", sa(LO, 6501)),
            ("poll", "s"),
            ("attach", "s", SO_ATTACH_FILTER, program),
            ("send", "s", b"twelve bytes", 0x4000),
            ("recv", "s", 100, NOW),
            ("setsockopt", "s", SOL_SOCKET, SO_LINGER, i32(1) + i32(0)),
        ]
    payload = insn(0x30, 0) + insn(0x16, 0)
    members: Program = []
    for slot in "abc":
        members += [("socket", slot, "udp"), on(slot, SOL_SOCKET, SO_REUSEPORT), ("bind", slot, sa(LO, 6510))]
    programs["reuseport: by payload"] = [
        *members,
        ("attach", "b", SO_ATTACH_REUSEPORT_CBPF, payload),
        ("socket", "s", "udp"),
        *[
            step
            for first in (b"\1", b"\0x", b"\2yz", b"")
            for step in (
                ("send", "s", first, 0, sa(LO, 6510)),
                *[("recv", slot, 10, NOW) for slot in "abc"],
            )
        ],
        ("close", "b"),
        # The last member took the place of the one that left.
        *[
            step
            for first in (b"\0", b"\1")
            for step in (("send", "s", first, 0, sa(LO, 6510)), *[("recv", slot, 10, NOW) for slot in "ac"])
        ],
        ("setsockopt", "a", SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, i32(0)),
        ("setsockopt", "a", SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, i32(0)),
    ]
    programs["reuseport: programs and bind"] = [
        ("socket", "a", "udp"),
        ("attach", "a", SO_ATTACH_REUSEPORT_CBPF, payload),
        on("a", SOL_SOCKET, SO_REUSEPORT),
        ("setsockopt", "a", SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, i32(0)),
        ("attach", "a", SO_ATTACH_REUSEPORT_CBPF, payload),
        ("bind", "a", sa(LO, 6511)),
        ("socket", "b", "udp"),
        on("b", SOL_SOCKET, SO_REUSEPORT),
        ("bind", "b", sa(LO, 6511)),
        ("socket", "c", "udp"),
        on("c", SOL_SOCKET, SO_REUSEPORT),
        ("attach", "c", SO_ATTACH_REUSEPORT_CBPF, payload),
        ("bind", "c", sa(LO, 6511)),
        ("socket", "d", "udp"),
        ("bind", "d", sa(LO, 6512)),
        on("d", SOL_SOCKET, SO_REUSEPORT),
        ("attach", "d", SO_ATTACH_REUSEPORT_CBPF, payload),
    ]
    return programs


def all_programs() -> dict[str, Program]:
    return {**sharing(), **ports(), **places(), **told(), **filters()}
