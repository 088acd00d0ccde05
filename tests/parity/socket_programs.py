"""The programs of test_socket_parity.py: creation, socket options, and TCP sockets in every state under every call."""

from __future__ import annotations

import struct

from tests.parity.programs import AF_INET, AF_UNSPEC, MSG_DONTWAIT, MSG_OOB, MSG_PEEK, Program, i32, sa

LO, V0, V1 = "127.0.0.1", "10.9.0.1", "10.9.0.2"
SOL_SOCKET = 1
SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_ACCEPTCONN, SO_PROTOCOL, SO_DOMAIN = 2, 3, 4, 30, 38, 39
SO_LINGER, SO_BINDTODEVICE, SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW = 13, 25, 20, 21, 66, 67
SIOCINQ, SIOCOUTQ, SIOCATMARK, SIOCOUTQNSD = 0x541B, 0x5411, 0x8905, 0x894B


# -- creation --------------------------------------------------------------------------------------------------------------


def creation_programs() -> dict[str, Program]:
    # Not asked for: what Linux may load a module for (SCTP, DCCP, MPTCP, UDP-Lite) and SOCK_PACKET.
    protocols = (-1, 0, 1, 2, 3, 6, 17, 41, 50, 200, 253, 255, 256, 261, 263, 1000)
    programs: dict[str, Program] = {}
    for family in (-1, 0, 46, 99):
        programs[f"create family {family}"] = [("socket3", "s", family, 1, 0)]
    for type in (0, 1, 2, 3, 7, 8, 9, 11, 12, 15):
        steps: Program = []
        for protocol in protocols:
            slot = f"s{protocol}"
            steps.append(("socket3", slot, AF_INET, type, protocol))
            for name in (SO_TYPE, SO_PROTOCOL, SO_DOMAIN):
                steps.append(("getsockopt", slot, SOL_SOCKET, name, 4))
            steps.append(("close", slot))
        programs[f"create type {type}"] = steps
    programs["create flags"] = [
        ("socket3", "a", AF_INET, 1 | flag, 0) for flag in (0x10, 0x100, 0x800, 0x80000, 0x80800, 1 << 30)
    ]
    return programs


# -- options ---------------------------------------------------------------------------------------------------------------

KINDS = ("tcp", "udp", "rawicmp", "ping")
INT_OPTIONS = {
    "SO_DEBUG": 1, "SO_REUSEADDR": 2, "SO_TYPE": 3, "SO_ERROR": 4, "SO_DONTROUTE": 5, "SO_BROADCAST": 6, "SO_SNDBUF": 7,
    "SO_RCVBUF": 8, "SO_KEEPALIVE": 9, "SO_OOBINLINE": 10, "SO_NO_CHECK": 11, "SO_PRIORITY": 12, "SO_BSDCOMPAT": 14,
    "SO_REUSEPORT": 15, "SO_PASSCRED": 16, "SO_RCVLOWAT": 18, "SO_SNDLOWAT": 19, "SO_TIMESTAMP": 29, "SO_ACCEPTCONN": 30,
    "SO_SNDBUFFORCE": 32, "SO_RCVBUFFORCE": 33, "SO_PASSSEC": 34, "SO_TIMESTAMPNS": 35, "SO_MARK": 36, "SO_PROTOCOL": 38,
    "SO_DOMAIN": 39, "SO_RXQ_OVFL": 40, "SO_PEEK_OFF": 42, "SO_NOFCS": 43, "SO_LOCK_FILTER": 44,
    "SO_SELECT_ERR_QUEUE": 45, "SO_BPF_EXTENSIONS": 48, "SO_INCOMING_CPU": 49, "SO_CNX_ADVICE": 53, "SO_ZEROCOPY": 60,
    "SO_BUF_LOCK": 72, "SO_TXREHASH": 74, "SO_RCVMARK": 75, "SO_RCVPRIORITY": 82, "SO_DETACH_FILTER": 27,
    "SO_TIMESTAMP_NEW": 63, "SO_TIMESTAMPNS_NEW": 64, "SO_PEERGROUPS": 59, "unknown 200": 200, "unknown 0": 0,
}  # fmt: skip
VALUES = (0, 1, 2, 7, 5000, -1, 0x7FFFFFFF)


def option_programs() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for kind in KINDS:
        for label, option in INT_OPTIONS.items():
            steps: Program = [("socket", "s", kind)]
            get = ("getsockopt", "s", SOL_SOCKET, option, 4)
            steps.append(get)
            for value in VALUES:
                steps += [("setsockopt", "s", SOL_SOCKET, option, i32(value)), get]
            programs[f"{kind} {label}"] = steps
        programs[f"{kind} option lengths"] = [
            ("socket", "s", kind),
            *[("setsockopt", "s", SOL_SOCKET, SO_REUSEADDR, i32(1)[:n]) for n in range(5)],
            ("setsockopt", "s", SOL_SOCKET, SO_REUSEADDR, bytes(8)),
            *[("getsockopt", "s", SOL_SOCKET, 8, n) for n in (0, 1, 2, 3, 4, 8, 100)],
        ]
        programs[f"{kind} SO_LINGER"] = [
            ("socket", "s", kind),
            ("getsockopt", "s", SOL_SOCKET, SO_LINGER, 8),
            ("setsockopt", "s", SOL_SOCKET, SO_LINGER, i32(1)),
            ("setsockopt", "s", SOL_SOCKET, SO_LINGER, i32(1) + i32(5)),
            ("getsockopt", "s", SOL_SOCKET, SO_LINGER, 8),
            ("getsockopt", "s", SOL_SOCKET, SO_LINGER, 5),
            ("getsockopt", "s", SOL_SOCKET, SO_LINGER, 100),
            ("setsockopt", "s", SOL_SOCKET, SO_LINGER, i32(0) + i32(9)),
            ("getsockopt", "s", SOL_SOCKET, SO_LINGER, 8),
            ("setsockopt", "s", SOL_SOCKET, SO_LINGER, i32(7) + i32(0)),
            ("getsockopt", "s", SOL_SOCKET, SO_LINGER, 8),
        ]
        for option in (SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW):
            steps = [("socket", "s", kind), ("getsockopt", "s", SOL_SOCKET, option, 16)]
            # Values that are whole jiffies at any HZ, or refused, so that the kernel's own HZ does not show.
            for sec, usec in ((1, 0), (0, 500000), (0, 4000), (0, 8000), (0, 1000000), (0, -1), (-1, 0), (-1, 5), (0, 0)):
                steps += [
                    ("setsockopt", "s", SOL_SOCKET, option, struct.pack("=qq", sec, usec)),
                    ("getsockopt", "s", SOL_SOCKET, option, 16),
                ]
            steps += [
                ("setsockopt", "s", SOL_SOCKET, option, bytes(15)),
                ("setsockopt", "s", SOL_SOCKET, option, bytes(3)),
                ("getsockopt", "s", SOL_SOCKET, option, 4),
                ("getsockopt", "s", SOL_SOCKET, option, 40),
            ]
            programs[f"{kind} timeout {option}"] = steps
        programs[f"{kind} SO_BINDTODEVICE"] = [
            ("socket", "s", kind),
            ("getsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, 16),
            ("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, b"nosuch"),
            ("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, b"lo"),
            ("getsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, 16),
            ("getsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, 15),
            ("getsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, 100),
            ("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, b"v0\0garbage"),
            ("getsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, 16),
            ("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, b"a-name-that-is-much-too-long"),
            ("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, b""),
            ("getsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, 16),
            ("setsockopt", "s", SOL_SOCKET, 62, i32(1)),
            ("getsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, 16),
            ("setsockopt", "s", SOL_SOCKET, 62, i32(-1)),
            ("getsockopt", "s", SOL_SOCKET, 62, 4),
        ]
        programs[f"{kind} odd values"] = [
            ("socket", "s", kind),
            ("getsockopt", "s", SOL_SOCKET, 47, 4),  # SO_MAX_PACING_RATE
            ("getsockopt", "s", SOL_SOCKET, 47, 8),
            ("setsockopt", "s", SOL_SOCKET, 47, i32(123456)),
            ("getsockopt", "s", SOL_SOCKET, 47, 8),
            ("setsockopt", "s", SOL_SOCKET, 47, struct.pack("=q", 1 << 40)),
            ("getsockopt", "s", SOL_SOCKET, 47, 8),
            ("getsockopt", "s", SOL_SOCKET, 47, 4),
            ("getsockopt", "s", SOL_SOCKET, 57, 4),  # SO_COOKIE
            ("getsockopt", "s", SOL_SOCKET, 71, 4),  # SO_NETNS_COOKIE
            ("getsockopt", "s", SOL_SOCKET, 71, 16),
            ("getsockopt", "s", SOL_SOCKET, 17, 12),  # SO_PEERCRED
            ("getsockopt", "s", SOL_SOCKET, 17, 100),
            ("getsockopt", "s", SOL_SOCKET, 28, 16),  # SO_PEERNAME
            ("getsockopt", "s", SOL_SOCKET, 26, 100),  # SO_GET_FILTER
            ("getsockopt", "s", SOL_SOCKET, 55, 100),  # SO_MEMINFO
            ("getsockopt", "s", SOL_SOCKET, 55, 7),
            ("getsockopt", "s", SOL_SOCKET, 73, 4),  # SO_RESERVE_MEM
            ("setsockopt", "s", SOL_SOCKET, 73, i32(-1)),
        ]
    return programs


# -- TCP: state x call -----------------------------------------------------------------------------------------------------

LISTENER: Program = [
    ("socket", "l", "tcp"),
    # The programs run one after the other: what a previous one left in TIME_WAIT must not matter.
    ("setsockopt", "l", SOL_SOCKET, SO_REUSEADDR, i32(1)),
    ("bind", "l", sa(LO, 6001)),
    ("listen", "l", 8),
]
CONNECTED: Program = [*LISTENER, ("connect", "s", sa(LO, 6001)), ("poll", "s")]
DISCONNECT = ("connect", "s", sa("0.0.0.0", 0, AF_UNSPEC))
TCP_STATES: dict[str, Program] = {
    "fresh": [],
    "bound": [("bind", "s", sa(LO, 6000))],
    "listening": [("bind", "s", sa(LO, 6000)), ("listen", "s", 4)],
    "listening-unbound": [("listen", "s", 4)],
    "connecting": [("connect", "s", sa("10.9.0.77", 6001))],
    "connected": CONNECTED,
    "refused": [("connect", "s", sa(LO, 6009)), ("poll", "s")],
    "refused-told": [("connect", "s", sa(LO, 6009)), ("poll", "s"), ("getsockopt", "s", SOL_SOCKET, SO_ERROR, 4)],
    "disconnected": [*CONNECTED, DISCONNECT],
    "listening-disconnected": [("bind", "s", sa(LO, 6000)), ("listen", "s", 4), DISCONNECT],
    "shut-rd": [*CONNECTED, ("shutdown", "s", 0)],
    "shut-wr": [*CONNECTED, ("shutdown", "s", 1)],
    "shut-rdwr": [*CONNECTED, ("shutdown", "s", 2)],
    "connecting-shut": [("connect", "s", sa("10.9.0.77", 6001)), ("shutdown", "s", 2)],
    "listening-shut-rd": [("bind", "s", sa(LO, 6000)), ("listen", "s", 4), ("shutdown", "s", 0)],
    "listening-shut-wr": [("bind", "s", sa(LO, 6000)), ("listen", "s", 4), ("shutdown", "s", 1)],
    "fresh-shut": [("shutdown", "s", 2)],
    "peer-gone": [*CONNECTED, ("accept", "l"), ("poll", "s")],
}
TCP_CALLS: dict[str, Program] = {
    "bind": [("bind", "s", sa(LO, 6005)), ("getsockname", "s")],
    "bind any": [("bind", "s", sa("0.0.0.0", 0)), ("bind", "s", sa("0.0.0.0", 0))],
    "bind unspec": [("bind", "s", sa("0.0.0.0", 6005, AF_UNSPEC)), ("bind", "s", sa(LO, 6005, AF_UNSPEC))],
    "bind other": [("bind", "s", addr) for addr in (sa("10.1.2.3", 6005), sa(LO, 6005, 10), sa(LO)[:8], b"")],
    "connect": [("connect", "s", sa(LO, 6009)), ("poll", "s"), ("connect", "s", sa(LO, 6009))],
    "connect short": [("connect", "s", sa(LO, 6009)[:n]) for n in (0, 1, 2, 8, 15)],
    "connect family": [("connect", "s", sa(LO, 6009, 10)), ("connect", "s", bytes(2))],
    "connect unspec": [DISCONNECT, DISCONNECT],
    "listen": [("listen", "s", 1), ("listen", "s", -1), ("getsockopt", "s", SOL_SOCKET, SO_ACCEPTCONN, 4)],
    "accept": [("accept", "s")],
    "shutdown": [("shutdown", "s", how) for how in (3, -1, 0, 1, 2, 2)],
    "shutdown wr": [("shutdown", "s", 1), ("poll", "s"), ("send", "s", b"x", 0x4000)],
    "names": [("getsockname", "s"), ("getpeername", "s")],
    "send": [("send", "s", b"abc", 0x4000), ("send", "s", b"abc", 0x4000)],
    "send to": [("send", "s", b"abc", 0x4000, sa(LO, 6009))],
    "send oob": [("send", "s", b"!", MSG_OOB | 0x4000)],
    "send nothing": [("send", "s", b"", 0x4000)],
    "recv": [("recv", "s", 10, MSG_DONTWAIT), ("recv", "s", 10, MSG_DONTWAIT)],
    "recv flags": [("recv", "s", 10, flag) for flag in (MSG_PEEK | MSG_DONTWAIT, MSG_OOB | MSG_DONTWAIT, 0x2000 | MSG_DONTWAIT)],
    "error": [("getsockopt", "s", SOL_SOCKET, SO_ERROR, 4), ("getsockopt", "s", SOL_SOCKET, SO_ERROR, 4)],
    "ioctl": [("ioctl", "s", cmd) for cmd in (SIOCINQ, SIOCOUTQ, SIOCATMARK, SIOCOUTQNSD, 0x1234)],
    "poll": [("poll", "s")],
}


def tcp_programs() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for state, before in TCP_STATES.items():
        for call, steps in TCP_CALLS.items():
            # Then the poll mask and the pending error: what the call left behind.
            programs[f"tcp {state}: {call}"] = [
                ("socket", "s", "tcp"),
                *before,
                *steps,
                ("poll", "s"),
                ("getsockopt", "s", SOL_SOCKET, SO_ERROR, 4),
            ]
    programs["tcp two listeners"] = [
        ("socket", "a", "tcp"),
        ("socket", "b", "tcp"),
        ("bind", "a", sa(LO, 6020)),
        ("bind", "b", sa(LO, 6020)),
        ("setsockopt", "a", SOL_SOCKET, SO_REUSEADDR, i32(1)),
        ("setsockopt", "b", SOL_SOCKET, SO_REUSEADDR, i32(1)),
        ("bind", "b", sa(LO, 6020)),
        ("listen", "a", 1),
        ("listen", "b", 1),
    ]
    programs["tcp connect to broadcast and multicast"] = [
        ("socket", "s", "tcp"),
        ("connect", "s", sa("255.255.255.255", 1)),
        ("connect", "s", sa("224.0.0.1", 1)),
        ("connect", "s", sa("10.9.0.255", 1)),
        ("connect", "s", sa("0.0.0.0", 6009)),
        ("poll", "s"),
        ("getpeername", "s"),
        ("connect", "s", sa("192.0.2.1", 1)),
    ]
    return programs


def all_programs() -> dict[str, Program]:
    return {**creation_programs(), **option_programs(), **tcp_programs()}
