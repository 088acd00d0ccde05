"""The programs of test_segment_parity.py: UDP_SEGMENT and UDP_GRO, sizes x segment sizes x paths, and what refuses them."""

from __future__ import annotations

import struct

from tests.parity.programs import MSG_DONTWAIT, MSG_MORE, MSG_PEEK, MSG_TRUNC, Program, cmsg, i32, sa

LO, V0, V1 = "127.0.0.1", "10.9.0.1", "10.9.0.2"
SOL_SOCKET, SOL_IP, SOL_UDP = 1, 0, 17
SO_NO_CHECK, SO_SNDBUF, SO_PEEK_OFF = 11, 7, 42
IP_TTL, IP_OPTIONS, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVTTL = 2, 4, 8, 10, 12
UDP_CORK, UDP_SEGMENT, UDP_GRO = 1, 103, 104
SIOCINQ, SIOCOUTQ = 0x541B, 0x5411
PORT = 6100


def u16(value: int) -> bytes:
    return struct.pack("=H", value)


def payload(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


def receiver(to: str, gro: int = 0) -> Program:
    """`r` receives, `w` sees the packets as they come to IP."""
    ns = 1 if to == V1 else 0
    steps: Program = [
        ("socket", "w", "rawudp", ns),
        ("socket", "r", "udp", ns),
        ("bind", "r", sa(to, PORT)),
    ]
    if gro:
        steps.append(("setsockopt", "r", SOL_UDP, UDP_GRO, i32(gro)))
    return steps


def sender(to: str) -> Program:
    mine = LO if to == LO else V0
    return [("socket", "s", "udp"), ("bind", "s", sa(mine, PORT + 5)), ("connect", "s", sa(to, PORT))]


def option(name: int, value: int, slot: str = "s", level: int = SOL_UDP) -> tuple[object, ...]:
    return ("setsockopt", slot, level, name, i32(value))


def read(n: int, size: int = 70000, flags: int = MSG_DONTWAIT, controllen: int = 100) -> Program:
    steps: Program = [("recv", "r", size, flags, controllen)] * n
    return [*steps, ("ioctl", "r", SIOCINQ)]


# The raw socket gets each packet as it comes to IP, a super-packet whole: its headers, and its length.
SEEN: Program = [("recv", "w", 28, MSG_DONTWAIT | MSG_TRUNC)] * 2


def sizes() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for to in (LO, V1):
        for segment in (1, 100, 1471, 1472, 1473, 1500, 40000, 65535):
            for size in (0, 1, 99, 100, 101, 128, 129, 200, 1472, 1473, 3000, 12800, 12801, 65507, 65508):
                for gro in (0, 1):
                    programs[f"{to} {size} by {segment} gro {gro}"] = [
                        *receiver(to, gro),
                        *sender(to),
                        option(UDP_SEGMENT, segment),
                        ("send", "s", payload(size), 0),
                        *read(3, 8, MSG_DONTWAIT | MSG_TRUNC),
                        *SEEN,
                        ("ioctl", "s", SIOCOUTQ),
                    ]
    return programs


def control_messages() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    messages = {
        "100": cmsg(SOL_UDP, UDP_SEGMENT, u16(100)),
        "0": cmsg(SOL_UDP, UDP_SEGMENT, u16(0)),
        "65535": cmsg(SOL_UDP, UDP_SEGMENT, u16(65535)),
        "twice": cmsg(SOL_UDP, UDP_SEGMENT, u16(100)) + cmsg(SOL_UDP, UDP_SEGMENT, u16(200)),
        "with a TTL": cmsg(SOL_UDP, UDP_SEGMENT, u16(100)) + cmsg(SOL_IP, IP_TTL, i32(7)),
        "after a TTL": cmsg(SOL_IP, IP_TTL, i32(7)) + cmsg(SOL_UDP, UDP_SEGMENT, u16(100)),
        "no data": cmsg(SOL_UDP, UDP_SEGMENT, b""),
        "a byte": cmsg(SOL_UDP, UDP_SEGMENT, b"\1"),
        "three bytes": cmsg(SOL_UDP, UDP_SEGMENT, b"\1\0\0"),
        "an int": cmsg(SOL_UDP, UDP_SEGMENT, i32(100)),
        "UDP_GRO": cmsg(SOL_UDP, UDP_GRO, i32(100)),
        "UDP_CORK": cmsg(SOL_UDP, UDP_CORK, i32(1)),
        "of nobody": cmsg(SOL_UDP, 77, u16(100)),
        "of a foreign level": cmsg(77, UDP_SEGMENT, u16(100)),
    }
    for name, control in messages.items():
        for segment in (0, 150):
            programs[f"control {name}, option {segment}"] = [
                *receiver(V1),
                ("setsockopt", "r", SOL_IP, IP_RECVTTL, i32(1)),
                *sender(V1),
                option(UDP_SEGMENT, segment),
                ("send", "s", payload(350), 0, b"", control),
                *read(4),
                ("send", "s", payload(320), 0),
                *read(4),
                ("send", "s", payload(320), 0, sa(V1, PORT), control),
                *read(4),
            ]
    return programs


def options() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for name in (UDP_SEGMENT, UDP_GRO):
        steps: Program = [("socket", "s", "udp")]
        for value in (-1, 0, 1, 2, 100, 65535, 65536, 0x7FFFFFFF, -0x80000000):
            steps += [option(name, value), ("getsockopt", "s", SOL_UDP, name, 4)]
        for length in range(6):
            steps.append(("setsockopt", "s", SOL_UDP, name, bytes([7, 0, 0, 0, 0, 0])[:length]))
        for length in (-1, 0, 1, 2, 3, 4, 5, 100):
            steps.append(("getsockopt", "s", SOL_UDP, name, length))
        programs[f"option {name}"] = steps
        programs[f"option {name} of other sockets"] = [
            step
            for kind in ("tcp", "ping", "rawudp")
            for step in (
                ("socket", kind, kind),
                ("setsockopt", kind, SOL_UDP, name, i32(1)),
                ("getsockopt", kind, SOL_UDP, name, 4),
            )
        ]
    return programs


def refusals() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for size in (50, 100, 101, 3000):
        programs[f"no checksums, {size} by 100"] = [
            *receiver(V1),
            *sender(V1),
            ("setsockopt", "s", SOL_SOCKET, SO_NO_CHECK, i32(1)),
            option(UDP_SEGMENT, 100),
            ("send", "s", payload(size), 0),
            *read(2),
            ("ioctl", "s", SIOCOUTQ),
        ]
    for discover in range(6):
        for segment, size in ((1472, 4000), (1473, 4000), (1473, 1400), (65535, 2000), (1400, 1401)):
            programs[f"discover {discover}, {size} by {segment}"] = [
                *receiver(V1),
                *sender(V1),
                option(IP_MTU_DISCOVER, discover, level=SOL_IP),
                option(UDP_SEGMENT, segment),
                ("send", "s", payload(size), 0),
                *read(3),
                *SEEN,
            ]
    route = bytes([7, 11, 4]) + bytes(9)  # record route
    for segment in (1460, 1461, 1472):
        programs[f"with IP options, by {segment}"] = [
            *receiver(V1),
            *sender(V1),
            ("setsockopt", "s", SOL_IP, IP_OPTIONS, route),
            option(UDP_SEGMENT, segment),
            ("send", "s", payload(4000), 0),
            *read(3),
        ]
    for size in (20_000, 60_000):
        programs[f"a small send buffer, {size}"] = [
            *receiver(V1),
            *sender(V1),
            ("setsockopt", "s", SOL_SOCKET, SO_SNDBUF, i32(4608)),
            option(UDP_SEGMENT, 1000),
            ("send", "s", payload(size), 0),
            ("send", "s", payload(size), 0),
            ("ioctl", "r", SIOCINQ),
        ]
    programs["nobody there"] = [
        ("socket", "s", "udp"),
        ("connect", "s", sa(V1, PORT + 1)),
        option(UDP_SEGMENT, 100),
        ("send", "s", payload(1000), 0),
        ("send", "s", payload(1000), 0),
        ("getsockopt", "s", SOL_SOCKET, 4, 4),
    ]
    programs["broadcast is refused"] = [
        ("socket", "s", "udp"),
        option(UDP_SEGMENT, 100),
        ("send", "s", payload(1000), 0, sa("10.9.0.255", PORT)),
    ]
    programs["multicast"] = [
        ("socket", "r", "udp"),
        ("bind", "r", sa("224.1.1.1", PORT)),
        ("setsockopt", "r", SOL_IP, 35, bytes([224, 1, 1, 1]) + bytes([10, 9, 0, 1])),
        ("socket", "s", "udp"),
        ("bind", "s", sa(V0, 0)),
        option(UDP_SEGMENT, 100),
        ("send", "s", payload(250), 0, sa("224.1.1.1", PORT)),
        *read(4),
    ]
    return programs


def corked() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for first, second in ((0, 100), (100, 0), (100, 100), (100, 200)):
        for pieces in ((150, 151), (50, 50), (50, 60), (0, 250), (6400, 6400), (6400, 6401)):
            steps: Program = [*receiver(V1), *sender(V1), option(UDP_SEGMENT, first), option(UDP_CORK, 1)]
            steps += [("send", "s", payload(pieces[0]), 0), option(UDP_SEGMENT, second), ("send", "s", payload(pieces[1]), 0)]
            steps += [option(UDP_CORK, 0), *read(4), *SEEN]
            programs[f"corked {pieces} by {first} then {second}"] = steps
    for control_first in (True, False):
        control = cmsg(SOL_UDP, UDP_SEGMENT, u16(100))
        programs[f"MSG_MORE, the control message {'first' if control_first else 'last'}"] = [
            *receiver(V1),
            *sender(V1),
            ("send", "s", payload(150), MSG_MORE, b"", control if control_first else b""),
            ("send", "s", payload(150), 0, b"", b"" if control_first else control),
            *read(4),
        ]
    return programs


def receiving() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for to in (LO, V1):
        base = [*receiver(to, 1), *sender(to), option(UDP_SEGMENT, 1000)]
        programs[f"{to} a short read"] = [*base, ("send", "s", payload(3500), 0), *read(2, 1500)]
        cut = read(2, 1500, MSG_DONTWAIT | MSG_TRUNC)
        programs[f"{to} a short read, MSG_TRUNC"] = [*base, ("send", "s", payload(3500), 0), *cut]
        programs[f"{to} peeked"] = [*base, ("send", "s", payload(3500), 0), *read(2, 1500, MSG_DONTWAIT | MSG_PEEK), *read(2)]
        programs[f"{to} no room for the control message"] = [
            *base,
            *[step for n in (0, 8, 16, 19, 20, 24) for step in (("send", "s", payload(1500), 0), *read(1, controllen=n))],
        ]
        programs[f"{to} switched off when it is there"] = [
            *base,
            ("send", "s", payload(2500), 0),
            option(UDP_GRO, 0, "r"),
            *read(2),
            ("send", "s", payload(2500), 0),
            *read(4),
        ]
        programs[f"{to} separate datagrams stay separate"] = [
            *receiver(to, 1),
            *sender(to),
            *[("send", "s", payload(500), 0)] * 3,
            *read(4),
        ]
        programs[f"{to} with IP_PKTINFO and IP_RECVTTL"] = [
            *base,
            ("setsockopt", "r", SOL_IP, IP_RECVTTL, i32(1)),
            ("send", "s", payload(2500), 0),
            *read(2),
            option(UDP_GRO, 0, "r"),
            ("send", "s", payload(2500), 0),
            *read(4),
        ]
        programs[f"{to} SO_PEEK_OFF"] = [
            *base,
            ("setsockopt", "r", SOL_SOCKET, SO_PEEK_OFF, i32(0)),
            ("send", "s", payload(2500), 0),
            *read(3, 1000, MSG_DONTWAIT | MSG_PEEK),
            *read(1),
        ]
        programs[f"{to} a connected receiver"] = [
            *receiver(to, 1),
            ("socket", "s", "udp"),
            ("bind", "s", sa(LO if to == LO else V0, PORT + 5)),
            ("connect", "s", sa(to, PORT)),
            ("connect", "r", sa(LO if to == LO else V0, PORT + 5)),
            option(UDP_SEGMENT, 100),
            ("send", "s", payload(250), 0),
            *read(2),
            option(UDP_GRO, 0, "r"),
            ("send", "s", payload(250), 0),
            *read(4),
        ]
    return programs


def all_programs() -> dict[str, Program]:
    return {**options(), **sizes(), **control_messages(), **refusals(), **corked(), **receiving()}
