"""The programs of test_datagram_errnos.py: UDP, ping and raw sockets in every state, under every call, and longer stories."""

from __future__ import annotations

import struct
from socket import inet_aton

from tests.parity.programs import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    MSG_CONFIRM,
    MSG_DONTROUTE,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_PROBE,
    MSG_TRUNC,
    SOCK_DGRAM,
    SOCK_RAW,
    Program,
    cmsg,
    i32,
    icmp,
    iphdr,
    sa,
)

LO, LO2, V0, V1 = "127.0.0.1", "127.0.0.2", "10.9.0.1", "10.9.0.2"
SIOCINQ, SIOCOUTQ = 0x541B, 0x5411
SOL_SOCKET, SOL_IP, SOL_UDP, SOL_RAW = 1, 0, 17, 255
SO_REUSEADDR, SO_TYPE, SO_ERROR, SO_DONTROUTE, SO_BROADCAST, SO_SNDBUF, SO_RCVBUF = 2, 3, 4, 5, 6, 7, 8
SO_NO_CHECK, SO_REUSEPORT, SO_BINDTODEVICE, SO_TIMESTAMP, SO_TIMESTAMPNS = 11, 15, 25, 29, 35
SO_RXQ_OVFL, SO_PEEK_OFF, SO_PROTOCOL, SO_SELECT_ERR_QUEUE = 40, 42, 38, 45
IP_TOS, IP_TTL, IP_HDRINCL, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL, IP_RECVTOS = 1, 2, 3, 8, 10, 11, 12, 13
IP_MTU, IP_FREEBIND, IP_RECVORIGDSTADDR, IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP = 14, 15, 20, 32, 33, 34
IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP, IP_MULTICAST_ALL, IP_BIND_ADDRESS_NO_PORT = 35, 36, 49, 24
UDP_CORK, ICMP_FILTER = 1, 1
WAIT0 = MSG_DONTWAIT


def on(slot: str, level: int, name: int, value: int = 1) -> tuple[object, ...]:
    return ("setsockopt", slot, level, name, i32(value))


# -- the matrix: kind x state x call -----------------------------------------------------------------------------------------

STATES: dict[str, Program] = {
    "unbound": [],
    "bound": [("bind", "s", sa(LO, 5001))],
    "bound-any": [("bind", "s", sa("0.0.0.0", 5001))],
    "bound-v0": [("bind", "s", sa(V0, 5001))],
    "connected": [("connect", "s", sa(LO, 5002))],
    "connected-v1": [("connect", "s", sa(V1, 5002))],
    "bound-connected": [("bind", "s", sa(LO, 5001)), ("connect", "s", sa(LO, 5002))],
    "any-connected": [("bind", "s", sa("0.0.0.0", 5001)), ("connect", "s", sa(LO, 5002))],
    "disconnected": [("connect", "s", sa(LO, 5002)), ("connect", "s", sa("0.0.0.0", 0, AF_UNSPEC))],
    "bound-disconnected": [
        ("bind", "s", sa(LO, 5001)),
        ("connect", "s", sa(LO, 5002)),
        ("connect", "s", sa("0.0.0.0", 0, AF_UNSPEC)),
    ],
    "shut-rd": [("connect", "s", sa(LO, 5002)), ("shutdown", "s", 0)],
    "shut-wr": [("connect", "s", sa(LO, 5002)), ("shutdown", "s", 1)],
    "shut-rdwr": [("connect", "s", sa(LO, 5002)), ("shutdown", "s", 2)],
    "unbound-shut": [("shutdown", "s", 2)],
}

ECHO = icmp(8, 0, 0x1234, 1, b"payload")
PAYLOAD = {"udp": b"payload", "ping": ECHO, "rawicmp": ECHO, "raw253": b"payload", "rawudp": bytes(8), "rawraw": b""}
PAYLOAD["rawraw"] = iphdr(LO, LO, 253, b"payload")


def calls_of(kind: str) -> dict[str, Program]:
    data = PAYLOAD[kind]
    calls: dict[str, Program] = {}
    for name, addr in {
        "lo:5003": sa(LO, 5003),
        "lo:0": sa(LO, 0),
        "any:0": sa("0.0.0.0", 0),
        "any:5003": sa("0.0.0.0", 5003),
        "foreign": sa("8.8.8.8", 5003),
        "unspec-any": sa("0.0.0.0", 5003, AF_UNSPEC),
        "unspec-lo": sa(LO, 5003, AF_UNSPEC),
        "inet6-family": sa(LO, 5003, AF_INET6),
        "short": sa(LO, 5003)[:15],
        "empty": b"",
        "family-only": b"\2\0",
        "long": sa(LO, 5003) + bytes(12),
        "bcast": sa("10.9.0.255", 5003),
        "all-ones": sa("255.255.255.255", 5003),
        "mcast": sa("224.1.1.1", 5003),
        "port-80": sa(LO, 80),
        "lo2": sa(LO2, 5003),
    }.items():
        calls[f"bind {name}"] = [("bind", "s", addr)]
    for name, addr in {
        "lo": sa(LO, 5002),
        "lo:0": sa(LO, 0),
        "v1": sa(V1, 5002),
        "any": sa("0.0.0.0", 5002),
        "bcast": sa("10.9.0.255", 5002),
        "all-ones": sa("255.255.255.255", 5002),
        "mcast": sa("224.1.1.1", 5002),
        "unreachable": sa("8.8.8.8", 5002),
        "unspec": sa("0.0.0.0", 0, AF_UNSPEC),
        "unspec-2": b"\0\0",
        "byte": b"\2",
        "short": sa(LO, 5002)[:15],
        "inet6-family": sa(LO, 5002, AF_INET6),
        "class-e": sa("240.0.0.1", 5002),
    }.items():
        calls[f"connect {name}"] = [("connect", "s", addr)]
    for name, addr in {
        "": b"",
        " lo": sa(LO, 5002),
        " lo:0": sa(LO, 0),
        " v1": sa(V1, 5002),
        " any": sa("0.0.0.0", 5002),
        " bcast": sa("10.9.0.255", 5002),
        " all-ones": sa("255.255.255.255", 5002),
        " mcast": sa("224.1.1.1", 5002),
        " unreachable": sa("8.8.8.8", 5002),
        " unspec": sa(LO, 5002, AF_UNSPEC),
        " inet6-family": sa(LO, 5002, AF_INET6),
        " short": sa(LO, 5002)[:15],
        " class-e": sa("240.0.0.1", 5002),
    }.items():
        calls[f"send{name}"] = [("send", "s", data, 0, addr)]
        calls[f"send-empty{name}"] = [("send", "s", b"", 0, addr)]
        calls[f"send-oob{name}"] = [("send", "s", data, MSG_OOB, addr)]
        calls[f"send-broadcast{name}"] = [on("s", SOL_SOCKET, SO_BROADCAST), ("send", "s", data, 0, addr)]
        calls[f"send-dontroute{name}"] = [("send", "s", data, MSG_DONTROUTE, addr)]
        calls[f"send-more{name}"] = [("send", "s", data, MSG_MORE, addr), ("send", "s", data, 0, addr)]
        calls[f"send-confirm{name}"] = [("send", "s", data, MSG_CONFIRM, addr)]
        calls[f"send-probe{name}"] = [("send", "s", b"", MSG_PROBE, addr)]
        calls[f"send-badcmsg{name}"] = [("send", "s", data, 0, addr, cmsg(SOL_IP, 77, b"1234"))]
        calls[f"send-ttl0{name}"] = [("send", "s", data, 0, addr, cmsg(SOL_IP, IP_TTL, i32(0)))]
        calls[f"send-ttl7{name}"] = [("send", "s", data, 0, addr, cmsg(SOL_IP, IP_TTL, i32(7)))]
        calls[f"send-udpcmsg{name}"] = [("send", "s", data, 0, addr, cmsg(SOL_UDP, 1, b"1234"))]
    for size in (1, 7, 8, 19, 20, 1472, 1473, 65507, 65508, 65515, 65516, 65535, 65536):
        body = data[:1] + bytes(size - 1)
        calls[f"send {size} bytes"] = [("send", "s", body, 0, sa(LO, 5002))]
        calls[f"send {size} bytes to v1"] = [("send", "s", body, 0, sa(V1, 5002))]
        calls[f"send {size} bytes, DF"] = [on("s", SOL_IP, IP_MTU_DISCOVER, 2), ("send", "s", body, 0, sa(V1, 5002))]
    for name, flags in {
        "": 0,
        "-oob": MSG_OOB,
        "-peek": MSG_PEEK,
        "-errqueue": MSG_ERRQUEUE,
        "-trunc": MSG_TRUNC,
        "-all": 0x100,
    }.items():
        calls[f"recv{name}"] = [("recv", "s", 100, flags | WAIT0)]
        calls[f"recv{name} 0"] = [("recv", "s", 0, flags | WAIT0)]
    for how in (0, 1, 2, 3, -1):
        calls[f"shutdown {how}"] = [("shutdown", "s", how)]
    calls["listen"] = [("listen", "s", 5)]
    calls["accept"] = [("accept", "s")]
    calls["siocinq"] = [("ioctl", "s", SIOCINQ)]
    calls["siocoutq"] = [("ioctl", "s", SIOCOUTQ)]
    calls["siocatmark"] = [("ioctl", "s", 0x8905)]
    calls["peek-off"] = [on("s", SOL_SOCKET, SO_PEEK_OFF, 3), ("getsockopt", "s", SOL_SOCKET, SO_PEEK_OFF, 4)]
    calls["udp-cork"] = [on("s", SOL_UDP, UDP_CORK), ("getsockopt", "s", SOL_UDP, UDP_CORK, 4), on("s", SOL_UDP, UDP_CORK, 0)]
    calls["udp-cork short"] = [("setsockopt", "s", SOL_UDP, UDP_CORK, b"\1\0\0"), ("getsockopt", "s", SOL_UDP, UDP_CORK, 2)]
    calls["udp-unknown"] = [on("s", SOL_UDP, 99), ("getsockopt", "s", SOL_UDP, 99, 4)]
    calls["icmp-filter"] = [on("s", SOL_RAW, ICMP_FILTER, 0x55), ("getsockopt", "s", SOL_RAW, ICMP_FILTER, 4)]
    calls["icmp-filter short"] = [("setsockopt", "s", SOL_RAW, ICMP_FILTER, b"\7"), ("getsockopt", "s", SOL_RAW, ICMP_FILTER, 8)]
    calls["raw-unknown"] = [on("s", SOL_RAW, 9), ("getsockopt", "s", SOL_RAW, 9, 4)]
    calls["hdrincl"] = [on("s", SOL_IP, IP_HDRINCL), ("getsockopt", "s", SOL_IP, IP_HDRINCL, 4)]
    calls["mtu"] = [("getsockopt", "s", SOL_IP, IP_MTU, 4)]
    calls["bindtodevice v0"] = [("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, b"v0\0"), ("send", "s", data, 0, sa(V1, 5002))]
    calls["bindtodevice lo"] = [("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, b"lo"), ("send", "s", data, 0, sa(V1, 5002))]
    calls["bindtodevice none"] = [("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, b"nix\0")]
    calls["reuseport"] = [on("s", SOL_SOCKET, SO_REUSEPORT), ("getsockopt", "s", SOL_SOCKET, SO_REUSEPORT, 4)]
    calls["so-protocol"] = [("getsockopt", "s", SOL_SOCKET, SO_PROTOCOL, 4), ("getsockopt", "s", SOL_SOCKET, SO_TYPE, 4)]
    return calls


AFTER: Program = [
    ("getsockname", "s"),
    ("getpeername", "s"),
    ("poll", "s"),
    ("recv", "s", 200, WAIT0),
    ("getsockopt", "s", SOL_SOCKET, SO_ERROR, 4),
]


def matrix() -> dict[str, Program]:
    out: dict[str, Program] = {}
    for kind in ("udp", "ping", "rawicmp", "raw253", "rawraw"):
        for state, setup in STATES.items():
            for call, steps in calls_of(kind).items():
                out[f"{kind} {state}: {call}"] = [("socket", "s", kind), *setup, *steps, *AFTER]
    return out


# -- stories -----------------------------------------------------------------------------------------------------------------


def pair(kind: str = "udp", client: str = LO, server: str = LO, ns: int = 0) -> Program:
    return [
        ("socket", "p", kind, ns),
        ("bind", "p", sa(server, 5002)),
        ("socket", "s", kind),
        ("bind", "s", sa(client, 5001)),
        ("connect", "s", sa(server, 5002)),
    ]


def reuse_matrix() -> dict[str, Program]:
    """Whether a second sock may have a port, by its address, device and options."""
    out: dict[str, Program] = {}
    addresses = {"any": "0.0.0.0", "lo": LO, "lo2": LO2, "v0": V0, "mcast": "224.1.1.1", "bcast": "10.9.0.255"}
    options: dict[str, Program] = {
        "": [],
        "reuseaddr": [on("?", SOL_SOCKET, SO_REUSEADDR)],
        "reuseport": [on("?", SOL_SOCKET, SO_REUSEPORT)],
        "both": [on("?", SOL_SOCKET, SO_REUSEADDR), on("?", SOL_SOCKET, SO_REUSEPORT)],
        "dev": [("setsockopt", "?", SOL_SOCKET, SO_BINDTODEVICE, b"v0")],
        "dev-lo": [("setsockopt", "?", SOL_SOCKET, SO_BINDTODEVICE, b"lo")],
    }
    for kind in ("udp", "ping"):
        for a1, h1 in addresses.items():
            for a2, h2 in addresses.items():
                for o1, s1 in options.items():
                    for o2, s2 in options.items():
                        out[f"{kind} reuse {a1} {o1} / {a2} {o2}"] = [
                            ("socket", "a", kind),
                            *[(s[0], "a", *s[2:]) for s in s1],
                            ("bind", "a", sa(h1, 5001)),
                            ("socket", "b", kind),
                            *[(s[0], "b", *s[2:]) for s in s2],
                            ("bind", "b", sa(h2, 5001)),
                            ("getsockname", "b"),
                        ]
    return out


def who_gets_it() -> dict[str, Program]:
    """Which of several socks on one port takes a datagram."""
    out: dict[str, Program] = {}
    setups: dict[str, list[Program]] = {
        "any": [[("bind", "?", sa("0.0.0.0", 5002))]],
        "v0": [[("bind", "?", sa(V0, 5002))]],
        "lo": [[("bind", "?", sa(LO, 5002))]],
        "any-dev": [[("setsockopt", "?", SOL_SOCKET, SO_BINDTODEVICE, b"lo"), ("bind", "?", sa("0.0.0.0", 5002))]],
        "any-conn": [[("bind", "?", sa("0.0.0.0", 5002)), ("connect", "?", sa(LO, 5001))]],
        "lo-conn": [[("bind", "?", sa(LO, 5002)), ("connect", "?", sa(LO, 5001))]],
        "lo-other": [[("bind", "?", sa(LO, 5002)), ("connect", "?", sa(LO, 5009))]],
        "mcast": [[("bind", "?", sa("224.1.1.1", 5002))]],
        "bcast": [[("bind", "?", sa("127.255.255.255", 5002))]],
    }
    for n1, p1 in setups.items():
        for n2, p2 in setups.items():
            for target in (LO, V0, LO2, "127.255.255.255"):
                out[f"udp who {n1} / {n2} <- {target}"] = [
                    ("socket", "a", "udp"),
                    on("a", SOL_SOCKET, SO_REUSEADDR),
                    *[(s[0], "a", *s[2:]) for s in p1[0]],
                    ("socket", "b", "udp"),
                    on("b", SOL_SOCKET, SO_REUSEADDR),
                    *[(s[0], "b", *s[2:]) for s in p2[0]],
                    ("socket", "s", "udp"),
                    on("s", SOL_SOCKET, SO_BROADCAST),
                    ("bind", "s", sa(LO, 5001)),
                    ("send", "s", b"who", 0, sa(target, 5002)),
                    ("recv", "a", 10, WAIT0),
                    ("recv", "b", 10, WAIT0),
                    ("getsockopt", "s", SOL_SOCKET, SO_ERROR, 4),
                ]
    return out


def stories() -> dict[str, Program]:
    eighty = bytes(range(80))
    out: dict[str, Program] = {
        "udp: a datagram and its answer": [
            *pair(),
            ("send", "s", b"hello", 0),
            ("poll", "p"),
            ("ioctl", "p", SIOCINQ),
            ("recv", "p", 100, WAIT0),
            ("send", "p", b"answer", 0, sa(LO, 5001)),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, WAIT0),
        ],
        "udp: over the wire": [
            *pair("udp", V0, V1, 1),
            ("send", "s", b"hello", 0),
            ("recv", "p", 100, WAIT0),
            ("send", "p", b"answer", 0, sa(V0, 5001)),
            ("recv", "s", 100, WAIT0),
            ("send", "s", bytes(5000), 0),
            ("recv", "p", 6000, WAIT0),
            ("send", "s", bytes(65507), 0),
            ("recv", "p", 65536, WAIT0),
        ],
        "udp: nobody there, over the wire, unconnected": [
            ("socket", "s", "udp"),
            ("send", "s", b"x", 0, sa(V1, 5002)),
            ("poll", "s"),
            ("recv", "s", 100, WAIT0),
            ("getsockopt", "s", SOL_SOCKET, SO_ERROR, 4),
        ],
        "udp: nobody there, connected, tells the next call": [
            ("socket", "s", "udp"),
            ("connect", "s", sa(V1, 5002)),
            ("send", "s", b"x", 0),
            ("poll", "s"),
            ("send", "s", b"x", 0),
            ("send", "s", b"x", 0),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, WAIT0),
            ("getsockopt", "s", SOL_SOCKET, SO_ERROR, 4),
        ],
        "udp: a datagram to somebody else tells the pending error too": [
            *pair(),
            ("close", "p"),
            ("send", "s", b"x", 0),
            ("send", "s", b"x", 0, sa(V1, 5005)),
            ("recv", "s", 100, WAIT0),
        ],
        "udp: data waits before a pending error is told": [
            *pair(),
            ("send", "p", b"data", 0, sa(LO, 5001)),
            ("close", "p"),
            ("send", "s", b"x", 0),
            ("poll", "s"),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, WAIT0),
        ],
        "udp: truncation": [
            *pair(),
            *[("send", "s", eighty, 0)] * 6,
            ("recv", "p", 10, WAIT0),
            ("recv", "p", 10, WAIT0 | MSG_TRUNC),
            ("recv", "p", 10, WAIT0 | MSG_PEEK),
            ("recv", "p", 10, WAIT0 | MSG_PEEK | MSG_TRUNC),
            ("recv", "p", 0, WAIT0),
            ("recv", "p", 0, WAIT0 | MSG_TRUNC),
            ("recv", "p", 80, WAIT0),
            ("recv", "p", 81, WAIT0),
            ("recv", "p", 81, WAIT0),
        ],
        "udp: empty datagrams": [
            *pair(),
            ("send", "s", b"", 0),
            ("send", "s", b"", 0, sa(LO, 5002)),
            ("poll", "p"),
            ("ioctl", "p", SIOCINQ),
            ("recv", "p", 10, WAIT0 | MSG_PEEK),
            ("recv", "p", 10, WAIT0 | MSG_PEEK),
            ("recv", "p", 10, WAIT0),
            ("recv", "p", 0, WAIT0),
            ("recv", "p", 10, WAIT0),
        ],
        "udp: SO_PEEK_OFF": [
            *pair(),
            on("p", SOL_SOCKET, SO_PEEK_OFF, 0),
            ("send", "s", b"0123456789", 0),
            ("send", "s", b"", 0),
            ("send", "s", b"abcdefghij", 0),
            *[("recv", "p", 4, WAIT0 | MSG_PEEK), ("getsockopt", "p", SOL_SOCKET, SO_PEEK_OFF, 4)] * 8,
            ("recv", "p", 4, WAIT0),
            ("getsockopt", "p", SOL_SOCKET, SO_PEEK_OFF, 4),
            ("recv", "p", 4, WAIT0 | MSG_PEEK),
            ("recv", "p", 4, WAIT0 | MSG_PEEK | MSG_TRUNC),
            ("getsockopt", "p", SOL_SOCKET, SO_PEEK_OFF, 4),
            ("recv", "p", 20, WAIT0),
            ("recv", "p", 20, WAIT0 | MSG_PEEK),
            ("recv", "p", 20, WAIT0),
            ("recv", "p", 20, WAIT0),
        ],
        "udp: cork": [
            *pair(),
            on("s", SOL_UDP, UDP_CORK),
            ("send", "s", b"one ", 0),
            ("send", "s", b"two ", 0),
            ("poll", "p"),
            ("recv", "p", 100, WAIT0),
            ("send", "s", b"three", 0, sa(V1, 5009)),
            on("s", SOL_UDP, UDP_CORK, 0),
            ("recv", "p", 100, WAIT0),
            ("send", "s", b"alone", 0),
            ("recv", "p", 100, WAIT0),
        ],
        "udp: MSG_MORE": [
            *pair(),
            ("send", "s", b"one ", MSG_MORE),
            ("send", "s", b"", MSG_MORE),
            ("send", "s", b"two", 0),
            ("recv", "p", 100, WAIT0),
            ("send", "s", b"", MSG_MORE),
            ("send", "s", b"", 0),
            ("recv", "p", 100, WAIT0),
            ("send", "s", b"lost", MSG_MORE),
            ("close", "s"),
            ("recv", "p", 100, WAIT0),
        ],
        "udp: a cork that grows too long is thrown away": [
            *pair(),
            ("send", "s", bytes(60000), MSG_MORE),
            ("send", "s", bytes(6000), MSG_MORE),
            ("send", "s", b"fresh", 0),
            ("recv", "p", 100, WAIT0),
        ],
        "udp: connecting while corked keeps the old address": [
            *pair(),
            ("send", "s", b"one", MSG_MORE),
            ("connect", "s", sa(LO, 5009)),
            ("send", "s", b"two", 0),
            ("recv", "p", 100, WAIT0),
        ],
        "udp: an unconnected sock takes from anybody, a connected one from its peer": [
            ("socket", "a", "udp"),
            ("bind", "a", sa(LO, 5001)),
            ("socket", "b", "udp"),
            ("bind", "b", sa(LO, 5002)),
            ("socket", "c", "udp"),
            ("bind", "c", sa(LO, 5003)),
            ("connect", "a", sa(LO, 5002)),
            ("send", "c", b"stranger", 0, sa(LO, 5001)),
            ("send", "b", b"peer", 0, sa(LO, 5001)),
            ("recv", "a", 100, WAIT0),
            ("recv", "a", 100, WAIT0),
            ("connect", "a", sa("0.0.0.0", 0, AF_UNSPEC)),
            ("send", "c", b"stranger", 0, sa(LO, 5001)),
            ("recv", "a", 100, WAIT0),
        ],
        "udp: connecting again": [
            ("socket", "s", "udp"),
            ("connect", "s", sa(LO, 5002)),
            ("getsockname", "s"),
            ("connect", "s", sa(V1, 5003)),
            ("getsockname", "s"),
            ("getpeername", "s"),
            ("connect", "s", sa("0.0.0.0", 0, AF_UNSPEC)),
            ("getsockname", "s"),
            ("connect", "s", sa(V1, 5003)),
            ("getsockname", "s"),
            ("getpeername", "s"),
        ],
        "udp: disconnecting forgets the device": [
            ("socket", "s", "udp"),
            ("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, b"v0"),
            ("connect", "s", sa(V1, 5003)),
            ("getsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, 16),
            ("connect", "s", sa("0.0.0.0", 0, AF_UNSPEC)),
            ("getsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, 16),
        ],
        "udp: control messages": [
            *pair("udp", V0, V1, 1),
            on("p", SOL_IP, IP_PKTINFO),
            on("p", SOL_IP, IP_RECVTTL),
            on("p", SOL_IP, IP_RECVTOS),
            on("p", SOL_IP, IP_RECVORIGDSTADDR),
            on("p", SOL_SOCKET, SO_TIMESTAMP),
            on("p", SOL_SOCKET, SO_RXQ_OVFL),
            ("send", "s", b"x", 0),
            ("recv", "p", 10, WAIT0, 512),
            on("p", SOL_SOCKET, SO_TIMESTAMPNS),
            on("s", SOL_IP, IP_TOS, 0x10),
            on("s", SOL_IP, IP_TTL, 9),
            ("send", "s", b"x", 0, b"", cmsg(SOL_IP, IP_TTL, i32(5)) + cmsg(SOL_IP, IP_TOS, b"\x20")),
            ("recv", "p", 10, WAIT0, 512),
            ("send", "s", b"x", 0),
            ("recv", "p", 10, WAIT0 | MSG_PEEK, 64),
            ("recv", "p", 10, WAIT0, 20),
            ("send", "s", b"x", 0),
            ("recv", "p", 10, WAIT0, 0),
        ],
        "udp: source address by IP_PKTINFO": [
            ("socket", "p", "udp"),
            ("bind", "p", sa("0.0.0.0", 5002)),
            ("socket", "s", "udp"),
            ("bind", "s", sa("0.0.0.0", 5001)),
            *[
                step
                for source in ("0.0.0.0", LO, LO2, V0, "8.8.8.8")
                for step in (
                    ("send", "s", b"x", 0, sa(LO, 5002), cmsg(SOL_IP, IP_PKTINFO, i32(0) + inet_aton(source) + bytes(4))),
                    ("recv", "p", 10, WAIT0),
                )
            ],
            ("send", "s", b"x", 0, sa(LO, 5002), cmsg(SOL_IP, IP_PKTINFO, i32(99) + bytes(8))),
            ("send", "s", b"x", 0, sa(LO, 5002), cmsg(SOL_IP, IP_PKTINFO, i32(1))),
        ],
        "udp: error queue": [
            ("socket", "s", "udp"),
            on("s", SOL_IP, IP_RECVERR),
            ("bind", "s", sa(V0, 5001)),
            ("send", "s", b"payload", 0, sa(V1, 5002)),
            ("poll", "s"),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, WAIT0),
            ("poll", "s"),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
            ("poll", "s"),
            on("s", SOL_IP, IP_MTU_DISCOVER, 2),
            ("send", "s", bytes(2000), 0, sa(V1, 5002)),
            ("poll", "s"),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
            ("getsockopt", "s", SOL_SOCKET, SO_ERROR, 4),
            ("send", "s", b"payload", 0, sa(V1, 5002)),
            ("send", "s", b"second", 0, sa(V1, 5002)),
            ("recv", "s", 3, MSG_ERRQUEUE, 512),
            ("getsockopt", "s", SOL_SOCKET, SO_ERROR, 4),
            ("recv", "s", 3, MSG_ERRQUEUE, 512),
        ],
        "udp: error queue of a connected sock": [
            ("socket", "s", "udp"),
            on("s", SOL_IP, IP_RECVERR),
            on("s", SOL_SOCKET, SO_SELECT_ERR_QUEUE),
            ("connect", "s", sa(V1, 5002)),
            ("send", "s", b"payload", 0),
            ("poll", "s"),
            ("send", "s", b"payload", 0),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
            on("s", SOL_IP, IP_RECVERR, 0),
            ("poll", "s"),
        ],
        "udp: TTL exceeded is told only to who asks": [
            ("socket", "s", "udp"),
            ("connect", "s", sa(V1, 5002)),
            on("s", SOL_IP, IP_MTU_DISCOVER, 2),
            ("getsockopt", "s", SOL_IP, IP_MTU, 4),
            ("send", "s", bytes(1472), 0),
            ("recv", "s", 100, WAIT0),
            ("send", "s", bytes(1473), 0),
        ],
        "udp: multicast": [
            ("socket", "p", "udp", 1),
            ("bind", "p", sa("0.0.0.0", 5002)),
            ("socket", "q", "udp", 1),
            on("q", SOL_SOCKET, SO_REUSEADDR),
            ("bind", "q", sa("0.0.0.0", 5003)),
            ("setsockopt", "p", SOL_IP, IP_ADD_MEMBERSHIP, inet_aton("224.1.1.1") + inet_aton(V1)),
            ("setsockopt", "p", SOL_IP, IP_ADD_MEMBERSHIP, inet_aton("224.1.1.1") + inet_aton(V1)),
            ("setsockopt", "p", SOL_IP, IP_ADD_MEMBERSHIP, inet_aton("10.1.1.1") + inet_aton(V1)),
            ("setsockopt", "p", SOL_IP, IP_ADD_MEMBERSHIP, inet_aton("224.1.1.2") + inet_aton("8.8.8.8")),
            ("socket", "s", "udp"),
            ("bind", "s", sa(V0, 5001)),
            ("send", "s", b"no route", 0, sa("224.1.1.1", 5002)),
            ("setsockopt", "s", SOL_IP, IP_MULTICAST_IF, inet_aton(V0)),
            ("send", "s", b"group", 0, sa("224.1.1.1", 5002)),
            ("send", "s", b"group", 0, sa("224.1.1.1", 5003)),
            ("send", "s", b"other", 0, sa("224.1.1.9", 5002)),
            ("recv", "p", 100, WAIT0),
            ("recv", "p", 100, WAIT0),
            ("recv", "q", 100, WAIT0),
            on("q", SOL_IP, IP_MULTICAST_ALL, 0),
            ("send", "s", b"group", 0, sa("224.1.1.1", 5003)),
            ("recv", "q", 100, WAIT0),
            ("setsockopt", "p", SOL_IP, IP_DROP_MEMBERSHIP, inet_aton("224.1.1.1") + inet_aton(V1)),
            ("setsockopt", "p", SOL_IP, IP_DROP_MEMBERSHIP, inet_aton("224.1.1.1") + inet_aton(V1)),
            ("send", "s", b"group", 0, sa("224.1.1.1", 5002)),
            ("recv", "p", 100, WAIT0),
        ],
        "udp: multicast comes back to this host's own members": [
            ("socket", "p", "udp"),
            ("bind", "p", sa("224.1.1.1", 5002)),
            ("setsockopt", "p", SOL_IP, IP_ADD_MEMBERSHIP, inet_aton("224.1.1.1") + inet_aton(V0)),
            ("socket", "s", "udp"),
            ("bind", "s", sa(V0, 5001)),
            ("setsockopt", "s", SOL_IP, IP_MULTICAST_IF, inet_aton(V0)),
            ("send", "s", b"looped", 0, sa("224.1.1.1", 5002)),
            ("recv", "p", 100, WAIT0),
            on("s", SOL_IP, IP_MULTICAST_LOOP, 0),
            ("send", "s", b"not", 0, sa("224.1.1.1", 5002)),
            ("recv", "p", 100, WAIT0),
        ],
        "udp: broadcast": [
            ("socket", "p", "udp", 1),
            ("bind", "p", sa("0.0.0.0", 5002)),
            ("socket", "q", "udp", 1),
            ("bind", "q", sa("10.9.0.255", 5003)),
            ("socket", "u", "udp", 1),
            ("bind", "u", sa(V1, 5004)),
            ("socket", "s", "udp"),
            ("bind", "s", sa(V0, 5001)),
            ("send", "s", b"x", 0, sa("10.9.0.255", 5002)),
            on("s", SOL_SOCKET, SO_BROADCAST),
            ("send", "s", b"directed", 0, sa("10.9.0.255", 5002)),
            ("send", "s", b"directed", 0, sa("10.9.0.255", 5003)),
            ("send", "s", b"directed", 0, sa("10.9.0.255", 5004)),
            ("send", "s", b"limited", 0, sa("255.255.255.255", 5002)),
            ("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, b"v0"),
            ("send", "s", b"limited", 0, sa("255.255.255.255", 5002)),
            ("recv", "p", 100, WAIT0),
            ("recv", "p", 100, WAIT0),
            ("recv", "p", 100, WAIT0),
            ("recv", "q", 100, WAIT0),
            ("recv", "u", 100, WAIT0),
            ("connect", "s", sa("10.9.0.255", 5002)),
            ("send", "s", b"connected", 0),
            ("recv", "p", 100, WAIT0),
        ],
        "udp: the receive buffer is a limit, and SO_RXQ_OVFL counts": [
            *pair(),
            on("p", SOL_SOCKET, SO_RCVBUF, 1),
            on("p", SOL_SOCKET, SO_RXQ_OVFL),
            *[("send", "s", bytes(1000), 0)] * 8,
            ("recv", "p", 2000, WAIT0, 64),
            ("recv", "p", 2000, WAIT0, 64),
            ("recv", "p", 2000, WAIT0, 64),
            ("send", "s", bytes(60000), 0),
            ("recv", "p", 65536, WAIT0, 64),
        ],
        "udp: SO_NO_CHECK": [
            *pair("udp", V0, V1, 1),
            on("s", SOL_SOCKET, SO_NO_CHECK),
            ("send", "s", b"unchecked", 0),
            ("recv", "p", 100, WAIT0),
        ],
        "udp: SO_REUSEPORT spreads, a flow stays": [
            *[
                step
                for slot in "abcd"
                for step in (
                    ("socket", slot, "udp"),
                    on(slot, SOL_SOCKET, SO_REUSEPORT),
                    ("bind", slot, sa(LO, 5002)),
                )
            ],
            ("socket", "s", "udp"),
            ("bind", "s", sa(LO, 5001)),
            ("connect", "s", sa(LO, 5002)),
            ("send", "s", b"1", 0),
            ("close", "a"),
            ("close", "b"),
            ("close", "c"),
            ("send", "s", b"2", 0),
            ("close", "d"),
            ("send", "s", b"3", 0),
            ("send", "s", b"4", 0),
        ],
        "udp: bind without a port yet": [
            ("socket", "s", "udp"),
            on("s", SOL_IP, IP_BIND_ADDRESS_NO_PORT),
            ("bind", "s", sa(LO, 0)),
            ("getsockname", "s"),
            ("connect", "s", sa(LO, 5002)),
            ("getsockname", "s"),
            ("bind", "s", sa(LO, 0)),
        ],
        "udp: bind to a foreign address with IP_FREEBIND": [
            ("socket", "s", "udp"),
            on("s", SOL_IP, IP_FREEBIND),
            ("bind", "s", sa("8.8.8.8", 5001)),
            ("getsockname", "s"),
            ("send", "s", b"x", 0, sa(V1, 5002)),
            ("connect", "s", sa(V1, 5002)),
        ],
        "udp: shutdown": [
            *pair(),
            ("send", "p", b"before", 0, sa(LO, 5001)),
            ("shutdown", "s", 0),
            ("send", "p", b"after", 0, sa(LO, 5001)),
            ("poll", "s"),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, 0),
            ("recv", "s", 100, WAIT0),
            ("send", "s", b"still", 0),
            ("shutdown", "s", 1),
            ("send", "s", b"no", 0),
            ("poll", "s"),
        ],
        "ping: echo": [
            ("socket", "s", "ping"),
            ("send", "s", icmp(8, 0, 77, 1, b"abc"), 0, sa(LO, 0)),
            ("getsockname", "s"),
            ("poll", "s"),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, WAIT0),
            ("connect", "s", sa(V1, 7)),
            ("getsockname", "s"),
            ("getpeername", "s"),
            ("send", "s", icmp(8, 0, 77, 2, b"def"), 0),
            ("recv", "s", 9, WAIT0),
            ("send", "s", icmp(8, 0, 77, 3, b"def"), 0),
            ("recv", "s", 9, WAIT0 | MSG_TRUNC),
            ("send", "s", icmp(8, 0, 77, 4, b"def"), 0),
            ("recv", "s", 9, WAIT0 | MSG_PEEK),
            ("recv", "s", 9, WAIT0),
        ],
        "ping: only echo requests": [
            ("socket", "s", "ping"),
            *[("send", "s", icmp(t, c, 0, 1), 0, sa(LO, 0)) for t, c in ((0, 0), (8, 1), (13, 0), (3, 3), (42, 0), (42, 1))],
            *[("send", "s", b"\x08\0\0\0\0\0\0\0"[:n], 0, sa(LO, 0)) for n in range(9)],
        ],
        "ping: bound identifier": [
            ("socket", "s", "ping"),
            ("bind", "s", sa(LO, 4242)),
            ("getsockname", "s"),
            ("send", "s", icmp(8, 0, 1, 1), 0, sa(LO, 0)),
            ("recv", "s", 100, WAIT0),
            ("send", "s", icmp(8, 0, 1, 1), 0, sa(V1, 0)),
            ("bind", "s", sa(LO, 4243)),
            ("connect", "s", sa("0.0.0.0", 0, AF_UNSPEC)),
            ("getsockname", "s"),
            ("bind", "s", sa(LO, 4243)),
        ],
        "ping: control messages": [
            ("socket", "s", "ping"),
            on("s", SOL_IP, IP_PKTINFO),
            on("s", SOL_IP, IP_RECVTTL),
            on("s", SOL_SOCKET, SO_TIMESTAMP),
            ("send", "s", icmp(8, 0, 77, 1, b"abc"), 0, sa(V1, 0)),
            ("recv", "s", 100, WAIT0, 512),
        ],
        "ping: error queue": [
            ("socket", "s", "ping"),
            on("s", SOL_IP, IP_RECVERR),
            on("s", SOL_IP, IP_MTU_DISCOVER, 2),
            ("send", "s", icmp(8, 0, 77, 1, bytes(2000)), 0, sa(V1, 0)),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
            ("poll", "s"),
        ],
        "raw: sees requests and replies of this host": [
            ("socket", "s", "rawicmp"),
            ("send", "s", icmp(8, 0, 77, 1, b"abc"), 0, sa(LO, 0)),
            ("poll", "s"),
            ("ioctl", "s", SIOCINQ),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 10, WAIT0),
            ("recv", "s", 100, WAIT0),
            ("send", "s", icmp(8, 0, 77, 1, b"abc"), 0, sa(V1, 0)),
            ("recv", "s", 30, WAIT0 | MSG_TRUNC),
            ("recv", "s", 100, WAIT0),
        ],
        "raw: ICMP_FILTER": [
            ("socket", "s", "rawicmp"),
            ("setsockopt", "s", SOL_RAW, ICMP_FILTER, struct.pack("=I", 1 << 8)),
            ("send", "s", icmp(8, 0, 77, 1, b"abc"), 0, sa(LO, 0)),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, WAIT0),
            ("setsockopt", "s", SOL_RAW, ICMP_FILTER, struct.pack("=I", 1 << 0)),
            ("send", "s", icmp(8, 0, 77, 1, b"abc"), 0, sa(LO, 0)),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, WAIT0),
            ("send", "s", b"\x08", 0, sa(LO, 0)),
            ("recv", "s", 100, WAIT0),
        ],
        "raw: own header": [
            ("socket", "p", "raw253"),
            ("socket", "s", "rawraw"),
            *[
                step
                for packet in (
                    iphdr(V0, LO, 253, b"data"),
                    iphdr("0.0.0.0", LO, 253, b"data"),
                    iphdr(V0, LO, 253, b"data", tot_len=5),
                    iphdr(V0, LO, 253, b"data", ttl=3, tos=4, id=7),
                    iphdr(V0, LO, 253, b"data", frag_off=0x4000),
                    iphdr(V0, LO, 253, b"data", frag_off=0x2000),
                    iphdr(LO, V0, 253, b"data"),
                    iphdr(LO, LO, 253, b"data", version_ihl=0x44),
                    iphdr(LO, LO, 253, b"data", version_ihl=0x46),
                    iphdr(LO, LO, 253, b"data", version_ihl=0x4F),
                    iphdr(LO, LO, 253, b"data", version_ihl=0x65),
                    iphdr(LO, LO, 253, b"")[:19],
                    iphdr(LO, LO, 253, b""),
                    iphdr(LO, LO, 253, bytes(65515)),
                    iphdr(LO, LO, 253, bytes(65516), tot_len=65535),
                )
                for step in (("send", "s", packet, 0, sa(LO, 0)), ("recv", "p", 100, WAIT0))
            ],
            ("send", "s", iphdr(V0, V1, 253, bytes(1480)), 0, sa(V1, 0)),
            ("send", "s", iphdr(V0, V1, 253, bytes(1481)), 0, sa(V1, 0)),
        ],
        "raw: IP_HDRINCL on another protocol": [
            ("socket", "p", "raw253"),
            ("socket", "s", "raw253"),
            on("s", SOL_IP, IP_HDRINCL),
            ("send", "s", iphdr(LO, LO, 254, b"data"), 0, sa(LO, 0)),
            ("recv", "p", 100, WAIT0),
            ("send", "s", iphdr(LO, LO, 253, b"data"), 0, sa(LO, 0)),
            ("recv", "p", 100, WAIT0),
            on("s", SOL_IP, IP_HDRINCL, 0),
            ("send", "s", b"data", 0, sa(LO, 0)),
            ("recv", "p", 100, WAIT0),
            ("recv", "s", 100, WAIT0),
        ],
        "raw: bound and connected socks take their own only": [
            ("socket", "a", "raw253"),
            ("bind", "a", sa(LO, 0)),
            ("socket", "b", "raw253"),
            ("connect", "b", sa(LO, 0)),
            ("socket", "c", "raw253"),
            ("bind", "c", sa(V0, 0)),
            ("socket", "s", "raw253"),
            ("send", "s", b"1", 0, sa(LO, 0)),
            ("send", "s", b"2", 0, sa(V0, 0)),
            ("recv", "a", 100, WAIT0),
            ("recv", "a", 100, WAIT0),
            ("recv", "b", 100, WAIT0),
            ("recv", "b", 100, WAIT0),
            ("recv", "c", 100, WAIT0),
            ("recv", "c", 100, WAIT0),
        ],
        "raw: disconnecting unhashes": [
            ("socket", "a", "raw253"),
            ("connect", "a", sa(LO, 0)),
            ("send", "a", b"1", 0),
            ("recv", "a", 100, WAIT0),
            ("connect", "a", sa("0.0.0.0", 0, AF_UNSPEC)),
            ("getsockname", "a"),
            ("send", "a", b"2", 0, sa(LO, 0)),
            ("recv", "a", 100, WAIT0),
        ],
        "raw: nobody takes protocol 253 at the other host": [
            ("socket", "s", "raw253"),
            ("connect", "s", sa(V1, 0)),
            ("send", "s", b"x", 0),
            ("poll", "s"),
            ("send", "s", b"x", 0),
            ("recv", "s", 100, WAIT0),
        ],
        "raw: the same with the error queue": [
            ("socket", "s", "raw253"),
            on("s", SOL_IP, IP_RECVERR),
            ("send", "s", b"payload", 0, sa(V1, 0)),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
        ],
        "raw: nobody takes the protocol there, connected, eight bytes quoted": [
            ("socket", "s", "raw253"),
            ("connect", "s", sa(V1, 0)),
            ("send", "s", b"eight by", 0),
            ("poll", "s"),
            ("send", "s", b"eight by", 0),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, WAIT0),
        ],
        "raw: the same with the error queue, eight bytes quoted": [
            ("socket", "s", "raw253"),
            on("s", SOL_IP, IP_RECVERR),
            ("send", "s", b"eight bytes", 0, sa(V1, 0)),
            ("poll", "s"),
            ("recv", "s", 100, WAIT0),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
            ("poll", "s"),
        ],
        "raw: own header and the error queue": [
            ("socket", "s", "raw253"),
            on("s", SOL_IP, IP_HDRINCL),
            on("s", SOL_IP, IP_RECVERR),
            ("send", "s", iphdr(V0, V1, 253, b"eight bytes", id=5), 0, sa(V1, 0)),
            ("recv", "s", 4, MSG_ERRQUEUE, 512),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
            ("send", "s", iphdr(V0, V1, 253, bytes(1481)), 0, sa(V1, 0)),
            ("recv", "s", 100, MSG_ERRQUEUE, 512),
        ],
        "raw: IP_PKTINFO, IP_RECVTTL, IP_RECVTOS": [
            ("socket", "p", "raw253", 1),
            on("p", SOL_IP, IP_PKTINFO),
            on("p", SOL_IP, IP_RECVTTL),
            on("p", SOL_IP, IP_RECVTOS),
            on("p", SOL_SOCKET, SO_TIMESTAMPNS),
            ("socket", "s", "raw253"),
            on("s", SOL_IP, IP_TOS, 0x48),
            ("send", "s", b"x", 0, sa(V1, 0)),
            ("recv", "p", 100, WAIT0, 512),
            ("send", "s", b"x", 0, sa("10.9.0.255", 0)),
            on("s", SOL_SOCKET, SO_BROADCAST),
            ("send", "s", b"x", 0, sa("10.9.0.255", 0)),
            ("recv", "p", 100, WAIT0, 512),
        ],
        "raw: IP_OPTIONS": [
            ("socket", "p", "raw253", 1),
            ("socket", "s", "raw253"),
            ("setsockopt", "s", SOL_IP, 4, b"\x07\x07\x04" + bytes(5)),
            ("send", "s", b"recorded", 0, sa(V1, 0)),
            ("recv", "p", 100, WAIT0, 512),
        ],
        "udp: IP_OPTIONS": [
            *pair("udp", V0, V1, 1),
            on("p", SOL_IP, 6),
            on("p", SOL_IP, 7),
            ("setsockopt", "s", SOL_IP, 4, b"\x07\x07\x04" + bytes(5)),
            ("send", "s", b"recorded", 0),
            ("recv", "p", 100, WAIT0, 512),
            ("setsockopt", "s", SOL_IP, 4, b""),
            ("send", "s", b"plain", 0),
            ("recv", "p", 100, WAIT0, 512),
        ],
        "udp: pktinfo asked for after the datagram came": [
            *pair("udp", V0, V1, 1),
            ("send", "s", b"x", 0),
            ("poll", "p"),
            on("p", SOL_IP, IP_PKTINFO),
            ("recv", "p", 10, WAIT0, 512),
            ("send", "s", b"x", 0),
            ("recv", "p", 10, WAIT0, 512),
        ],
        "udp: pktinfo over loopback, broadcast and multicast": [
            ("socket", "p", "udp"),
            ("bind", "p", sa("0.0.0.0", 5002)),
            on("p", SOL_IP, IP_PKTINFO),
            ("setsockopt", "p", SOL_IP, IP_ADD_MEMBERSHIP, inet_aton("224.1.1.1") + inet_aton(V0)),
            ("socket", "s", "udp"),
            on("s", SOL_SOCKET, SO_BROADCAST),
            *[
                step
                for target in (LO, LO2, V0, "10.9.0.255", "127.255.255.255", "224.1.1.1")
                for step in (("send", "s", b"x", 0, sa(target, 5002)), ("recv", "p", 10, WAIT0, 512))
            ],
            ("socket", "t", "udp"),
            ("setsockopt", "t", SOL_SOCKET, SO_BINDTODEVICE, b"v0"),
            ("send", "t", b"x", 0, sa(V0, 5002)),
            ("recv", "p", 10, WAIT0, 512),
        ],
        "udp: a receiver bound to a device hears a sender bound to it through loopback": [
            ("socket", "p", "udp"),
            ("setsockopt", "p", SOL_SOCKET, SO_BINDTODEVICE, b"v0"),
            ("bind", "p", sa("0.0.0.0", 5002)),
            ("socket", "s", "udp"),
            ("send", "s", b"1", 0, sa(V0, 5002)),
            ("recv", "p", 10, WAIT0),
            ("setsockopt", "s", SOL_SOCKET, SO_BINDTODEVICE, b"v0"),
            ("send", "s", b"2", 0, sa(V0, 5002)),
            ("recv", "p", 10, WAIT0),
        ],
        "udp: the send buffer fills while nobody answers ARP": [
            ("socket", "s", "udp"),
            on("s", SOL_SOCKET, SO_SNDBUF, 1),
            *[
                step
                for _ in range(8)
                for step in (("send", "s", b"x", WAIT0, sa("10.9.0.77", 5002)), ("ioctl", "s", SIOCOUTQ), ("poll", "s"))
            ],
            ("shutdown", "s", 1),
            ("send", "s", b"x", WAIT0, sa("10.9.0.77", 5002)),
        ],
        **{
            f"udp: what {size} bytes are charged": [
                ("socket", "s", "udp"),
                ("send", "s", bytes(size), WAIT0, sa("10.9.0.78", 5002)),
                ("ioctl", "s", SIOCOUTQ),
            ]
            for size in (0, 1, 196, 197, 198, 644, 645, 646, 1472)
        },
        **{
            f"udp: how many of {size} bytes fit into SO_RCVBUF": [
                ("socket", "p", "udp"),
                on("p", SOL_SOCKET, SO_RCVBUF, 8000),
                ("bind", "p", sa(LO, 5002)),
                ("socket", "s", "udp"),
                *[("send", "s", bytes(size), 0, sa(LO, 5002))] * 24,
                *[("recv", "p", 10, WAIT0)] * 24,
            ]
            for size in (0, 100, 500, 1000, 1472, 4000, 9000, 30000)
        },
        "raw: the send buffer is no limit until it is full twice": [
            ("socket", "s", "raw253"),
            on("s", SOL_SOCKET, SO_SNDBUF, 1),
            *[("send", "s", b"x", WAIT0, sa("10.9.0.76", 5002))] * 16,
            ("ioctl", "s", SIOCOUTQ),
        ],
        "ping: the send buffer fills while nobody answers ARP": [
            ("socket", "s", "ping"),
            on("s", SOL_SOCKET, SO_SNDBUF, 1),
            *[("send", "s", ECHO, WAIT0, sa("10.9.0.75", 5002))] * 8,
            ("ioctl", "s", SIOCOUTQ),
            ("poll", "s"),
        ],
        "udp: a connected sock that corked for another address sends there ever after": [
            ("socket", "p", "udp"),
            ("bind", "p", sa(LO, 5002)),
            ("socket", "q", "udp"),
            ("bind", "q", sa(LO, 5003)),
            ("socket", "s", "udp"),
            ("connect", "s", sa(LO, 5002)),
            ("send", "s", b"one", MSG_MORE, sa(LO, 5003)),
            ("send", "s", b"two", 0),
            ("send", "s", b"three", 0),
            ("getpeername", "s"),
            *[("recv", slot, 100, WAIT0) for slot in "ppqqq"],
            ("connect", "s", sa(LO, 5002)),
            ("send", "s", b"four", 0),
            *[("recv", slot, 100, WAIT0) for slot in "pq"],
        ],
        "raw: a cork goes where the last call says, by the route of the first": [
            ("socket", "p", "raw253"),
            ("socket", "s", "raw253"),
            ("send", "s", b"one", MSG_MORE, sa(LO, 0)),
            ("send", "s", b"two", 0, sa(V0, 0)),
            ("recv", "p", 100, WAIT0),
            ("send", "s", b"three", MSG_MORE, sa(LO, 0)),
            ("send", "s", b"not added", MSG_PROBE, sa(LO2, 0)),
            ("recv", "p", 100, WAIT0),
        ],
        "raw: UDP beside its own sock": [
            ("socket", "r", "rawudp"),
            *pair(),
            ("send", "s", b"both", 0),
            ("recv", "p", 100, WAIT0),
            ("recv", "r", 100, WAIT0),
        ],
        "raw: a UDP datagram with a wrong checksum is dropped when it is read": [
            ("socket", "p", "udp"),
            ("bind", "p", sa(LO, 5002)),
            ("socket", "s", "rawudp"),
            ("send", "s", struct.pack("!HHHH", 5001, 5002, 12, 0x1234) + b"data", 0, sa(LO, 0)),
            ("poll", "p"),
            ("recv", "p", 100, WAIT0),
            ("send", "s", struct.pack("!HHHH", 5001, 5002, 12, 0) + b"data", 0, sa(LO, 0)),
            ("recv", "p", 100, WAIT0),
            ("send", "s", struct.pack("!HHHH", 5001, 5002, 108, 0x1234) + bytes(100), 0, sa(LO, 0)),
            ("poll", "p"),
            ("recv", "p", 100, WAIT0),
            ("send", "s", struct.pack("!HHHH", 5001, 5002, 11, 0) + b"data", 0, sa(LO, 0)),
            ("recv", "p", 100, WAIT0),
            ("send", "s", struct.pack("!HHHH", 5001, 5002, 13, 0) + b"data", 0, sa(LO, 0)),
            ("send", "s", struct.pack("!HHHH", 5001, 5002, 7, 0) + b"data", 0, sa(LO, 0)),
            ("send", "s", struct.pack("!HHH", 5001, 5002, 6), 0, sa(LO, 0)),
            ("recv", "p", 100, WAIT0),
        ],
        "raw: IP_MULTICAST_IF and groups": [
            ("socket", "p", "raw253", 1),
            ("setsockopt", "p", SOL_IP, IP_ADD_MEMBERSHIP, inet_aton("224.1.1.1") + inet_aton(V1)),
            ("socket", "s", "raw253"),
            ("setsockopt", "s", SOL_IP, IP_MULTICAST_IF, inet_aton(V0)),
            ("send", "s", b"group", 0, sa("224.1.1.1", 0)),
            ("recv", "p", 100, WAIT0),
        ],
    }
    for name, family, type, protocol in (
        ("dgram 0", AF_INET, SOCK_DGRAM, 0),
        ("dgram udp", AF_INET, SOCK_DGRAM, 17),
        ("dgram icmp", AF_INET, SOCK_DGRAM, 1),
        ("dgram tcp", AF_INET, SOCK_DGRAM, 6),
        ("dgram 253", AF_INET, SOCK_DGRAM, 253),
        ("dgram udplite", AF_INET, SOCK_DGRAM, 140),
        ("raw 0", AF_INET, SOCK_RAW, 0),
        ("raw 255", AF_INET, SOCK_RAW, 255),
        ("raw 256", AF_INET, SOCK_RAW, 256),
        ("raw 262", AF_INET, SOCK_RAW, 262),
        ("raw 263", AF_INET, SOCK_RAW, 263),
        ("raw -1", AF_INET, SOCK_RAW, -1),
        ("rdm", AF_INET, 4, 0),
        ("seqpacket", AF_INET, 5, 0),
        ("type 0", AF_INET, 0, 0),
        ("type 11", AF_INET, 11, 0),
        ("family 99", 99, SOCK_DGRAM, 0),
        ("family -1", -1, SOCK_DGRAM, 0),
        ("unspec", AF_UNSPEC, SOCK_DGRAM, 0),
    ):
        out[f"socket {name}"] = [("socket3", "s", family, type, protocol), ("getsockname", "s"), ("getpeername", "s")]
    return out


def kept_programs() -> dict[str, Program]:
    """Those whose answers are kept in datagram_answers.json, so that they are compared where there is no Linux 6.18, too."""
    return {**stories(), **who_gets_it()}


def all_programs() -> dict[str, Program]:
    return {**kept_programs(), **reuse_matrix(), **matrix()}
