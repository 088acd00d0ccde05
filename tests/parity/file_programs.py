"""The programs of test_file_parity.py: epoll stories, pipes, splice and sendfile, many messages at once, the MSG_ flags.

A step is (call, arguments...), the call a method of LinuxFiles and AfinetFiles. "@s" stands for the descriptor that an earlier step
left under the name s; a last argument "=s" leaves the descriptor that this step answers there ("=r,w" for two).
"""

from __future__ import annotations

from typing import Any

from tests.parity.programs import KINDS, MSG_DONTWAIT, MSG_OOB, MSG_TRUNC, SOCK_NONBLOCK, i32, sa, show_err

Step = tuple[Any, ...]
Program = list[Step]

LO = "127.0.0.1"
SOL_SOCKET, SO_REUSEADDR, SO_LINGER = 1, 2, 13
ADD, DEL, MOD = 1, 2, 3
IN, PRI, OUT, ERR, HUP, RDNORM, WRNORM, RDHUP = 1, 2, 4, 8, 0x10, 0x40, 0x100, 0x2000
ET, ONESHOT, WAKEUP, EXCLUSIVE = 1 << 31, 1 << 30, 1 << 29, 1 << 28
ALL = IN | PRI | OUT | RDHUP | RDNORM | WRNORM


def show(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 64 else f"{value[:16].hex()}..{len(value)}"
    if isinstance(value, (list, tuple)):
        return [show(v) for v in value]
    return value


def hide(kind: str, answer: Any) -> Any:
    """What was received, without what is not the socket's to say: the identifier and checksum of an echo, and what stands in the
    buffer of a TCP socket that was told to leave it alone (MSG_TRUNC)."""
    if isinstance(answer, bytes):
        return b"" if kind == "tcp, trunc" else answer[:2] + answer[6:] if kind == "ping" and len(answer) != 16 else answer
    return type(answer)(hide(kind, v) for v in answer) if isinstance(answer, (list, tuple)) else answer


def run_program(calls: Any, program: Program) -> list[Any]:
    """What every step answered. Descriptors are only said to be there."""
    fds: dict[str, int] = {}
    out: list[Any] = []
    for step in program:
        call = step[0]
        args: list[Any] = [fds.get(a[1:], -1) if isinstance(a, str) and a[:1] == "@" else a for a in step[1:]]
        names = args.pop()[1:].split(",") if args and isinstance(args[-1], str) and args[-1][:1] == "=" else []
        if call == "socket":
            type, protocol = KINDS[args[0]]
            answer: Any = calls.socket(args[1] if len(args) > 1 else 0, 2, type | SOCK_NONBLOCK, protocol)
        elif call.endswith("_of"):
            kind, flags = args[1], args[4 if call == "recvmmsg_of" else 3]
            quiet = ", trunc" if kind == "tcp" and flags & MSG_TRUNC else ""
            answer = hide(kind + quiet, getattr(calls, call[:-3])(args[0], *args[2:]))
        else:
            answer = getattr(calls, call)(*args)
        first = answer[0] if isinstance(answer, tuple) else answer
        if names and first >= 0:
            found = [answer] if len(names) == 1 else answer[1:]
            for name, fd in zip(names, found, strict=True):
                fds[name] = fd
            out.append("fd")
        elif isinstance(answer, tuple):
            out.append([show_err(first), *show(answer[1:])] if not names else show_err(first))
        else:
            out.append(show_err(answer))
        if call == "close" and answer == 0:
            name = step[1][1:]
            fds.pop(name, None)
    calls.clean(list(fds.values()))
    return out


# -- the pieces ------------------------------------------------------------------------------------------------------------

EPOLL: Program = [("epoll_create1", 0, "=e")]
LISTENER: Program = [
    ("socket", "tcp", "=l"),
    # The programs run one after the other: what a previous one left in TIME_WAIT must not matter.
    ("setsockopt", "@l", SOL_SOCKET, SO_REUSEADDR, i32(1)),
    ("bind", "@l", sa(LO, 6101)),
    ("listen", "@l", 8),
]
PAIR: Program = [
    *LISTENER,
    ("socket", "tcp", "=s"),
    ("connect", "@s", sa(LO, 6101)),
    ("accept4", "@l", SOCK_NONBLOCK, "=c"),
]
UDP: Program = [
    ("socket", "udp", "=s"),
    ("bind", "@s", sa(LO, 6102)),
    ("socket", "udp", "=c"),
    ("bind", "@c", sa(LO, 6108)),
    ("connect", "@c", sa(LO, 6102)),
]
RESET = ("setsockopt", "@c", SOL_SOCKET, SO_LINGER, i32(1) + i32(0))


def watch(fd: str, events: int, data: int = 1, ep: str = "@e") -> Step:
    return ("epoll_ctl", ep, ADD, fd, events, data)


def wait(maxevents: int = 10, ep: str = "@e") -> Step:
    return ("epoll_wait", ep, maxevents)


def say(data: bytes, fd: str = "@c") -> Step:
    return ("sendmsg", fd, data, 0x4000)


def hear(size: int = 100, flags: int = MSG_DONTWAIT, fd: str = "@s") -> Step:
    return ("read", fd, size) if not flags else ("recvmsg", fd, size, flags)


# -- epoll -----------------------------------------------------------------------------------------------------------------

# TCP states by how they are reached; what is watched is "@s".
STATES: dict[str, Program] = {
    "fresh": [("socket", "tcp", "=s")],
    "listening": [*LISTENER, ("socket", "tcp", "=s"), ("bind", "@s", sa(LO, 6103)), ("listen", "@s", 4)],
    "listening with a connection": [
        ("socket", "tcp", "=s"),
        ("setsockopt", "@s", SOL_SOCKET, SO_REUSEADDR, i32(1)),
        ("bind", "@s", sa(LO, 6104)),
        ("listen", "@s", 4),
        ("socket", "tcp", "=c"),
        ("connect", "@c", sa(LO, 6104)),
    ],
    "connecting": [("socket", "tcp", "=s"), ("connect", "@s", sa("10.9.0.77", 6101))],
    "refused": [("socket", "tcp", "=s"), ("connect", "@s", sa(LO, 6109))],
    "established": PAIR,
    "established with data": [*PAIR, say(b"data")],
    "established with urgent data": [*PAIR, ("sendmsg", "@c", b"!", MSG_OOB)],
    "close-wait": [*PAIR, ("shutdown", "@c", 1)],
    "close-wait with data": [*PAIR, say(b"data"), ("shutdown", "@c", 1)],
    "fin-wait-2": [*PAIR, ("shutdown", "@s", 1)],
    "both closed": [*PAIR, ("shutdown", "@c", 1), ("shutdown", "@s", 1)],
    "shut-rd": [*PAIR, ("shutdown", "@s", 0)],
    "shut-rdwr": [*PAIR, ("shutdown", "@s", 2)],
    "reset": [*PAIR, RESET, ("close", "@c")],
    "disconnected": [*PAIR, ("connect", "@s", bytes(16))],
    "udp": UDP,
    "udp with a datagram": [*UDP, say(b"data")],
    "udp with an error": [("socket", "udp", "=s"), ("connect", "@s", sa(LO, 6109)), say(b"x", "@s")],
    "udp shut": [*UDP, ("connect", "@s", sa(LO, 6109)), ("shutdown", "@s", 2)],
    "an epoll with nothing": [("epoll_create1", 0, "=s")],
}


def epoll_programs() -> dict[str, Program]:
    p: dict[str, Program] = {}
    for state, before in STATES.items():
        for how, bits in {"level": 0, "edge": ET, "oneshot": ONESHOT}.items():
            p[f"epoll {how}: {state}"] = [*before, *EPOLL, watch("@s", ALL | bits), wait(), wait()]
        p[f"epoll nothing asked: {state}"] = [*before, *EPOLL, watch("@s", 0), wait()]
        p[f"epoll exclusive: {state}"] = [*before, *EPOLL, watch("@s", IN | OUT | EXCLUSIVE), wait(), wait()]
        p[f"epoll watched from the beginning: {state}"] = [
            *before[:1],
            *EPOLL,
            watch("@s" if before[0][-1] == "=s" else "@l", ALL | ET),
            *before[1:],
            wait(),
            wait(),
        ]
    # What an edge is: every change while it is watched, in the order of things.
    for how, bits in {"level": 0, "edge": ET, "oneshot": ONESHOT}.items():
        p[f"epoll {how}: a conversation"] = [
            *PAIR, *EPOLL, watch("@s", IN | RDHUP | bits), wait(), say(b"one"), wait(), wait(), say(b"two"), wait(), hear(2),
            wait(),
            hear(), wait(), say(b"three"), wait(), ("epoll_ctl", "@e", MOD, "@s", IN | RDHUP | bits, 2), wait(),
            ("shutdown", "@c", 1), wait(), wait(), hear(), wait(), hear(), wait(), ("close", "@c"), wait(), ("close", "@s"), wait(),
        ]  # fmt: skip
        p[f"epoll {how}: connect"] = [
            *LISTENER, ("socket", "tcp", "=s"), *EPOLL, watch("@s", ALL | bits), wait(), ("connect", "@s", sa(LO, 6101)), wait(),
            wait(),
            ("connect", "@s", sa(LO, 6101)), wait(), ("accept4", "@l", SOCK_NONBLOCK, "=c"), wait(), say(b"x"), wait(), RESET,
            ("close", "@c"), wait(), wait(), ("getsockopt", "@s", SOL_SOCKET, 4, 4), wait(), hear(), wait(),
        ]  # fmt: skip
        p[f"epoll {how}: a listener"] = [
            *LISTENER, *EPOLL, watch("@l", ALL | bits), wait(), *PAIR[4:6], wait(), wait(), ("socket", "tcp", "=t"),
            ("connect", "@t", sa(LO, 6101)), wait(), ("accept4", "@l", 0, "=c"), wait(), ("accept4", "@l", 0, "=d"), wait(),
            ("accept4", "@l", 0), wait(), ("shutdown", "@l", 0), wait(), wait(),
        ]  # fmt: skip
        p[f"epoll {how}: urgent data"] = [
            *PAIR, *EPOLL, watch("@s", IN | PRI | bits), say(b"a"), wait(), ("sendmsg", "@c", b"!", MSG_OOB), wait(), wait(),
            hear(10, MSG_OOB), wait(), hear(), wait(), say(b"b"), wait(), wait(),
        ]  # fmt: skip
        p[f"epoll {how}: a full pipe of TCP"] = [
            *PAIR, ("setsockopt", "@s", SOL_SOCKET, 7, i32(4608)), ("setsockopt", "@c", SOL_SOCKET, 8, i32(2304)), *EPOLL,
            watch("@s", OUT | bits), wait(), say(bytes(100), "@s"), wait(),
        ]  # fmt: skip
    errors: Program = [
        *PAIR, ("epoll_create1", 1), ("epoll_create1", 0x80000, "=f"), ("fcntl", "@f", 1, 0), ("fcntl", "@f", 3, 0), *EPOLL,
        ("fcntl", "@e", 1, 0), ("fcntl", "@e", 3, 0), ("read", "@e", 10), ("write", "@e", b"x"), ("ioctl_int", "@e", 0x541B),
        ("epoll_ctl", "@e", ADD, "@none", IN, 1), ("epoll_ctl", "@none", ADD, "@s", IN, 1), ("epoll_ctl", "@e", ADD, "@e", IN, 1),
        ("epoll_ctl", "@s", ADD, "@c", IN, 1), ("epoll_ctl", "@s", ADD, "@s", IN, 1), ("epoll_ctl", "@e", 0, "@s", IN, 1),
        ("epoll_ctl", "@e", 9, "@s", IN, 1), ("epoll_ctl", "@e", DEL, "@s", 0, 0), ("epoll_ctl", "@e", MOD, "@s", IN, 0),
        watch("@s", IN),
        watch("@s", OUT), ("epoll_ctl", "@e", MOD, "@s", IN | EXCLUSIVE, 0), ("epoll_ctl", "@e", 9, "@s", IN, 1),
        ("epoll_ctl", "@e", DEL, "@s", 0, 0), watch("@f", IN | EXCLUSIVE), watch("@c", IN | PRI | EXCLUSIVE),
        watch("@c", IN | ONESHOT | EXCLUSIVE), watch("@c", IN | RDHUP | EXCLUSIVE), watch("@c", ERR | HUP | ET | EXCLUSIVE),
        ("epoll_ctl", "@e", MOD, "@c", IN, 0), ("epoll_ctl", "@e", MOD, "@c", IN | EXCLUSIVE, 0), watch("@s", IN | WAKEUP),
        watch("@l", 0xFFFFFFFF), watch("@l", 0x0FFFFFFF), wait(), ("epoll_ctl", "@e", MOD, "@l", 0xEFFFFFFF, 5), wait(),
        *[("epoll_wait", fd, n) for fd in ("@e", "@s", "@none") for n in (0, -1, 178956970, 178956971, 1)],
    ]  # fmt: skip
    p["epoll errors"] = errors
    # Files, not descriptors.
    p["epoll a descriptor that was dupped and closed"] = [
        *PAIR, *EPOLL, watch("@s", IN, 7), ("dup", "@s", "=d"), watch("@d", IN, 8), say(b"x"), wait(), wait(1), wait(1),
        ("close", "@s"),
        wait(), ("epoll_ctl", "@e", DEL, "@d", 0, 0), wait(), ("close", "@d"), wait(),
    ]  # fmt: skip
    p["epoll the order of one file under four numbers"] = [
        *PAIR, *EPOLL, *[("dup", "@s", f"=d{i}") for i in range(3)], watch("@s", IN | ET, 1),
        *[watch(f"@d{i}", IN | ET, 2 + i) for i in range(3)], say(b"x"), wait(2), wait(2), wait(2), say(b"y"), wait(3), wait(3),
    ]  # fmt: skip
    many: Program = [
        ("setsockopt", "@l", SOL_SOCKET, SO_REUSEADDR, i32(1)), *EPOLL,
        *[step for i in range(4) for step in (("socket", "tcp", f"=s{i}"), ("connect", f"@s{i}", sa(LO, 6101)),
                                              ("accept4", "@l", 0, f"=c{i}"), watch(f"@s{i}", IN, i))],
    ]  # fmt: skip
    p["epoll the order of the ready list"] = [
        *LISTENER, *many, say(b"x", "@c2"), say(b"x", "@c0"), say(b"x", "@c3"), wait(), wait(1), wait(1), say(b"x", "@c1"),
        wait(2), wait(2),
        hear(10, MSG_DONTWAIT, "@s3"), wait(2), wait(2), ("epoll_ctl", "@e", MOD, "@s0", IN, 9), wait(3), wait(),
        ("close", "@s2"), wait(),
    ]  # fmt: skip
    # Epolls that watch each other.
    p["epoll nested"] = [
        *PAIR, *EPOLL, ("epoll_create1", 0, "=f"), watch("@e", IN, 5, "@f"), wait(10, "@f"), watch("@s", IN, 6), wait(10, "@f"),
        say(b"x"),
        wait(10, "@f"), ("poll", "@e", 0x7FFF), ("poll", "@f", 0x7FFF), wait(), wait(10, "@f"), hear(), wait(10, "@f"), wait(),
        say(b"y"),
        hear(), wait(10, "@f"), ("poll", "@f", 0x7FFF), say(b"z"), ("close", "@e"), wait(10, "@f"),
    ]  # fmt: skip
    for bits, how in ((ET, "edge"), (ONESHOT, "oneshot")):
        p[f"epoll nested, {how} outside"] = [
            *PAIR, *EPOLL, ("epoll_create1", 0, "=f"), watch("@e", IN | bits, 5, "@f"), watch("@s", IN, 6), say(b"x"),
            wait(10, "@f"),
            wait(10, "@f"), wait(), wait(10, "@f"), say(b"y"), wait(10, "@f"), wait(10, "@f"),
            ("epoll_ctl", "@f", MOD, "@e", IN | bits, 7), wait(10, "@f"),
        ]  # fmt: skip
        p[f"epoll nested, {how} inside"] = [
            *PAIR, *EPOLL, ("epoll_create1", 0, "=f"), watch("@e", IN, 5, "@f"), watch("@s", IN | bits, 6), say(b"x"),
            wait(10, "@f"),
            wait(10, "@f"), wait(), wait(10, "@f"), say(b"y"), wait(10, "@f"), wait(), wait(10, "@f"),
        ]  # fmt: skip
    chain: Program = [("epoll_create1", 0, f"=e{i}") for i in range(8)]
    p["epoll a chain from below"] = [*chain, *[watch(f"@e{i}", IN, 1, f"@e{i + 1}") for i in range(7)]]
    p["epoll a chain from above"] = [*chain, *[watch(f"@e{i}", IN, 1, f"@e{i + 1}") for i in reversed(range(7))]]
    p["epoll a chain joined in the middle"] = [*chain, *[watch(f"@e{i}", IN, 1, f"@e{i + 1}") for i in (0, 2, 4, 6, 1, 3, 5)]]
    p["epoll a chain over a socket"] = [
        *chain, *PAIR, *[watch(f"@e{i}", IN, 1, f"@e{i + 1}") for i in range(4)], watch("@s", IN, 1, "@e0"), say(b"x"),
        wait(10, "@e4"), wait(10, "@e3"), hear(), wait(10, "@e4"), wait(10, "@e0"),
    ]  # fmt: skip
    p["epoll loops"] = [
        *chain, watch("@e0", IN, 1, "@e1"), watch("@e1", IN, 1, "@e0"), watch("@e1", IN, 1, "@e2"), watch("@e2", IN, 1, "@e0"),
        watch("@e3", IN, 1, "@e0"), watch("@e2", IN, 1, "@e3"), ("epoll_ctl", "@e1", DEL, "@e0", 0, 0), watch("@e1", IN, 1, "@e0"),
    ]  # fmt: skip
    p["epoll too many ways up"] = [
        *PAIR, *EPOLL, watch("@s", IN), *[step for i in range(502) for step in (("epoll_create1", 0, f"=m{i}"),
        watch("@e", IN, 1, f"@m{i}"))],
        watch("@c", IN),
    ]  # fmt: skip
    p["epoll ends before what it watches"] = [
        *PAIR, *EPOLL, watch("@s", IN), ("close", "@e"), say(b"x"), hear(), *EPOLL, watch("@s", IN), wait(), ("close", "@s"),
        wait(),
        ("close", "@e"),
    ]  # fmt: skip
    p["epoll two epolls of one socket"] = [
        *PAIR, *EPOLL, ("epoll_create1", 0, "=f"), watch("@s", IN | ET, 1), watch("@s", IN | ET, 2, "@f"), say(b"x"), wait(),
        wait(10, "@f"), wait(), wait(10, "@f"),
    ]  # fmt: skip
    # Nobody waits in any of them, so that each passes the wake-up on or takes it, as its events say.
    for name, events in {"in": IN, "out": OUT, "in and out": IN | OUT, "error only": ERR}.items():
        p[f"epoll exclusive in three epolls: {name}"] = [
            *PAIR, *[step for i in range(3) for step in (("epoll_create1", 0, f"=x{i}"),
            watch("@s", events | ET | EXCLUSIVE, i, f"@x{i}"))],
            *[wait(10, f"@x{i}") for i in range(3)], say(b"x"), *[wait(10, f"@x{i}") for i in range(3)],
            ("shutdown", "@c", 1), *[wait(10, f"@x{i}") for i in range(3)],
        ]  # fmt: skip
    p["epoll oneshot is armed again"] = [
        *PAIR, *EPOLL, watch("@s", IN | ONESHOT, 1), say(b"x"), wait(), say(b"y"), wait(),
        ("epoll_ctl", "@e", MOD, "@s", IN | ONESHOT, 2),
        wait(), wait(), ("epoll_ctl", "@e", MOD, "@s", OUT | ONESHOT, 3), wait(), ("shutdown", "@c", 2), wait(),
        ("epoll_ctl", "@e", MOD, "@s", ONESHOT, 4), wait(), ("epoll_ctl", "@e", DEL, "@s", 0, 0), watch("@s", IN), wait(),
    ]  # fmt: skip
    return p


# -- many messages, and every flag -----------------------------------------------------------------------------------------

FLAGS = {
    "OOB": 1, "PEEK": 2, "DONTROUTE": 4, "CTRUNC": 8, "PROBE": 0x10, "TRUNC": 0x20, "DONTWAIT": 0x40, "EOR": 0x80, "WAITALL": 0x100,
    "FIN": 0x200, "SYN": 0x400, "CONFIRM": 0x800, "RST": 0x1000, "ERRQUEUE": 0x2000, "NOSIGNAL": 0x4000, "MORE": 0x8000,
    "WAITFORONE": 0x10000, "SENDPAGE_NOTLAST": 0x20000, "BATCH": 0x40000, "NO_SHARED_FRAGS": 0x80000, "ZEROCOPY": 0x4000000,
    "SPLICE_PAGES": 0x8000000, "CMSG_CLOEXEC": 0x40000000, "bit 20": 1 << 20, "bit 31": -1 << 31,
}  # fmt: skip
PING: Program = [("socket", "ping", "=c"), ("connect", "@c", sa(LO)), ("dup", "@c", "=s")]
ECHO = bytes([8, 0, 0, 0, 0, 0, 0, 1]) + b"an echo request"
KIND: dict[str, tuple[Program, bytes]] = {"tcp": (PAIR, b"hello world"), "udp": (UDP, b"hello world"), "ping": (PING, ECHO)}


def flag_programs() -> dict[str, Program]:
    p: dict[str, Program] = {}
    for kind, (before, data) in KIND.items():
        for name, flag in FLAGS.items():
            p[f"{kind} send MSG_{name}"] = [
                *before, ("sendmsg", "@c", data, flag), ("sendmsg", "@c", b"", flag), ("poll", "@s", 0x7FFF),
                ("recvmsg_of", "@s", kind, 100, MSG_DONTWAIT), ("ioctl_int", "@s", 0x8905),
                ("recvmsg_of", "@s", kind, 100, MSG_DONTWAIT),
                ("sendmsg", "@c", data[:8], 0x4000), ("recvmsg_of", "@s", kind, 100, MSG_DONTWAIT), ("poll", "@c", 0x7FFF),
            ]  # fmt: skip
            p[f"{kind} receive MSG_{name}"] = [
                *before, ("sendmsg", "@c", data, 0x4000), ("recvmsg_of", "@s", kind, 5, flag | MSG_DONTWAIT),
                ("recvmsg_of", "@s", kind, 100, flag | MSG_DONTWAIT), ("recvmsg_of", "@s", kind, 100, flag | MSG_DONTWAIT),
                ("recvmsg_of", "@s", kind, 100, MSG_DONTWAIT), ("recvmsg_of", "@s", kind, 0, flag | MSG_DONTWAIT),
                ("sendmsg", "@c", b"!" if kind == "tcp" else data, 1 if kind == "tcp" else 0),
                ("recvmsg_of", "@s", kind, 100, flag | MSG_DONTWAIT), ("recvmsg_of", "@s", kind, 100, MSG_DONTWAIT),
                ("poll", "@s", 0x7FFF),
            ]  # fmt: skip
    for size in (0, 1, 5, 11, 100):
        for flags, name in {0: "plain", 2: "peek", 0x20: "trunc", 0x22: "peek and trunc", 0x100: "waitall"}.items():
            for kind, (before, data) in KIND.items():
                p[f"{kind} receive {size}, {name}"] = [
                    *before, ("sendmsg", "@c", data, 0x4000), ("sendmsg", "@c", data, 0x4000),
                    *[("recvmsg_of", "@s", kind, size, flags | MSG_DONTWAIT)] * 3, ("ioctl_int", "@s", 0x541B),
                ]  # fmt: skip
    p["tcp MSG_MORE holds back, and the next send lets go"] = [
        *PAIR, ("sendmsg", "@c", b"one", 0x8000), ("poll", "@s", 1), ("ioctl_int", "@c", 0x894B), ("sendmsg", "@c", b"two", 0x8000),
        ("poll", "@s", 1), ("sendmsg", "@c", b"three", 0), ("poll", "@s", 1), hear(), ("ioctl_int", "@c", 0x894B),
    ]  # fmt: skip
    p["udp MSG_MORE joins datagrams"] = [
        *UDP, ("sendmsg", "@c", b"one", 0x8000), ("sendmsg", "@c", b"two", 0x8000), hear(), ("sendmsg", "@c", b"", 0), hear(),
        ("sendmsg", "@c", b"x", 0x8000), ("close", "@c"), hear(),
    ]  # fmt: skip
    p["tcp SIGPIPE or not"] = [
        *PAIR, ("shutdown", "@c", 1), ("sendmsg", "@c", b"x", 0x4000), ("sendmsg", "@c", b"x", 0), ("write", "@c", b"x"),
    ]  # fmt: skip
    return p


def many_programs() -> dict[str, Program]:
    p: dict[str, Program] = {}
    three = [(b"one", b"", b""), (b"", b"", b""), (b"three", b"", b"")]
    for kind, (before, _) in KIND.items():
        if kind == "ping":
            three = [(ECHO, b"", b"")] * 3
        for flags in (0, 1, 2, 0x20, 0x40, 0x8000, 0x10000, 0x40000):
            p[f"{kind} sendmmsg, flags {flags:#x}"] = [
                *before, ("sendmmsg", "@c", three, flags), *[("recvmsg_of", "@s", kind, 100, MSG_DONTWAIT)] * 4
            ]  # fmt: skip
            p[f"{kind} recvmmsg, flags {flags:#x}"] = [
                *before, ("sendmmsg", "@c", three, 0), ("recvmmsg_of", "@s", kind, 2, 4, flags | MSG_DONTWAIT, None),
                ("recvmmsg_of", "@s", kind, 5, 40, flags | MSG_DONTWAIT, None),
                ("recvmmsg_of", "@s", kind, 5, 40, flags | MSG_DONTWAIT, None),
            ]  # fmt: skip
    p["sendmmsg and recvmmsg of nothing"] = [
        *UDP, ("sendmmsg", "@c", [], 0), ("recvmmsg", "@s", 0, 10, MSG_DONTWAIT, None), ("sendmmsg", "@none", [], 0),
        ("recvmmsg", "@none", 0, 10, MSG_DONTWAIT, None), *EPOLL, ("sendmmsg", "@e", [], 0), ("recvmmsg", "@e", 0, 10, 0, None),
    ]  # fmt: skip
    p["sendmmsg to different places, one of them wrong"] = [
        *UDP, ("socket", "udp", "=t"), ("bind", "@t", sa(LO, 6103)), ("socket", "udp", "=u"),
        ("sendmmsg", "@u", [(b"a", sa(LO, 6102), b""), (b"b", sa(LO, 6103), b""), (b"c", sa("255.255.255.255", 1), b""),
                            (b"d", sa(LO, 6102), b"")], 0),
        ("sendmmsg", "@u", [(b"e", sa("255.255.255.255", 1), b""), (b"f", sa(LO, 6102), b"")], 0),
        ("sendmmsg", "@u", [(b"g", b"", b"")], 0), ("sendmmsg", "@u", [(b"h", sa(LO, 6103)[:5], b"")], 0),
        ("recvmmsg", "@s", 5, 10, MSG_DONTWAIT, None), ("recvmmsg", "@t", 5, 10, MSG_DONTWAIT, None),
        ("sendmmsg", "@u", [(b"x", sa(LO, 6102), b"")] * 1030, 0), ("getsockopt", "@u", SOL_SOCKET, 4, 4),
    ]  # fmt: skip
    p["recvmmsg and the pending error"] = [
        *UDP, ("connect", "@c", sa(LO, 6109)), ("sendmsg", "@c", b"x", 0), ("recvmmsg", "@c", 2, 10, 0x2000 | MSG_DONTWAIT, None),
        ("recvmmsg", "@c", 2, 10, MSG_DONTWAIT, None), ("recvmmsg", "@c", 2, 10, MSG_DONTWAIT, None), ("sendmsg", "@c", b"x", 0),
        ("recvmmsg", "@c", 0, 10, MSG_DONTWAIT, None), ("getsockopt", "@c", SOL_SOCKET, 4, 4),
    ]  # fmt: skip
    p["recvmmsg and its time limit"] = [
        *UDP, *[say(b"x")] * 4, ("recvmmsg", "@s", 4, 10, 0, 0), ("recvmmsg", "@s", 2, 10, 0, 10**9),
        ("recvmmsg", "@s", 4, 10, 0, 10**9),
        ("recvmmsg", "@s", 4, 10, 0x10000, 10**9), ("recvmmsg", "@s", 4, 10, 0, 0),
    ]  # fmt: skip
    p["recvmmsg of urgent data"] = [*PAIR, ("sendmsg", "@c", b"!", MSG_OOB),
    ("recvmmsg", "@s", 3, 10, MSG_OOB | MSG_DONTWAIT, None)]
    p["accept4 flags"] = [
        *PAIR, *[("accept4", "@l", flags) for flags in (0, 1, 0x800, 0x80000, 0x80800, 4)], ("accept4", "@none", 4),
        ("accept4", "@s", 4),
        ("accept4", "@s", 0), *EPOLL, ("accept4", "@e", 0), ("socket", "tcp", "=t"), ("connect", "@t", sa(LO, 6101)),
        ("accept4", "@l", 0x80800, "=d"), ("fcntl", "@d", 1, 0), ("fcntl", "@d", 3, 0), ("socket", "tcp", "=u"),
        ("connect", "@u", sa(LO, 6101)), ("accept4", "@l", 0, "=f"), ("fcntl", "@f", 1, 0), ("fcntl", "@f", 3, 0),
        ("socket", "udp", "=g"), ("accept4", "@g", 0),
    ]  # fmt: skip
    return p


# -- pipes, splice, sendfile -----------------------------------------------------------------------------------------------

NB, DIRECT, CLOEXEC = 0x800, 0x4000, 0x80000
FIONREAD, F_SETPIPE_SZ, F_GETPIPE_SZ = 0x541B, 1031, 1032
PIPE: Program = [("pipe2", NB, "=r,w")]
BIG: Program = [("pipe2", NB, "=r,w"), ("fcntl", "@w", F_SETPIPE_SZ, 1 << 20)]
TEXT = bytes(range(256)) * 64


def pipe_programs() -> dict[str, Program]:
    p: dict[str, Program] = {}
    left = ("ioctl_int", "@r", FIONREAD)
    for sizes in ((1,), (4096,), (4095, 1), (4097,), (65536,), (65537,), (100, 100, 100), (1, 4096, 4096), (4000, 97),
    (4000, 96, 1),
                  (61440, 4095, 1, 1), (61440, 4096, 1), (65535, 1, 1), (70000, 1), (5000, 5000, 5000)):
        p[f"pipe writes of {sizes}"] = [
            *PIPE, *[step for n in sizes for step in (("write", "@w", TEXT[:1] * n), left, ("poll", "@w", 0x7FFF),
            ("poll", "@r", 0x7FFF))],
            ("read", "@r", 1), left, ("write", "@w", b"x" * 4096), left, ("poll", "@w", 0x7FFF), ("read", "@r", 4095), left,
            ("write", "@w", b"y"), ("poll", "@w", 0x7FFF), ("read", "@r", 100000), left, ("read", "@r", 1),
        ]  # fmt: skip
    p["pipe full of single bytes in packets"] = [
        ("pipe2", NB | DIRECT, "=r,w"), *[("write", "@w", b"ab")] * 17, left, ("read", "@r", 1), left, ("read", "@r", 10), left,
        ("write", "@w", bytes(5000)), left, ("read", "@r", 10000), *[("read", "@r", 10000)] * 15, ("fcntl", "@w", 3, 0),
        ("fcntl", "@r", 3, 0),
        ("fcntl", "@w", 4, 0), ("fcntl", "@w", 3, 0), ("write", "@w", b"a"), ("write", "@w", b"b"), ("read", "@r", 10),
        ("fcntl", "@w", 4, DIRECT), ("write", "@w", b"a"), ("write", "@w", b"b"), ("fcntl", "@w", 4, NB), ("write", "@w", b"c"),
        *[("read", "@r", 10)] * 4,
    ]  # fmt: skip
    p["pipe flags"] = [
        *[step for flags in (0, NB, CLOEXEC, NB | CLOEXEC | DIRECT) for step in (
            ("pipe2", flags, "=a,b"), ("fcntl", "@a", 1, 0), ("fcntl", "@b", 1, 0), ("fcntl", "@a", 3, 0), ("fcntl", "@b", 3, 0))],
        ("pipe2", 1), ("pipe2", 0x400), ("pipe2", 0x80), ("fcntl", "@a", 4, NB | 0x400), ("fcntl", "@a", 3, 0),
        ("socket", "udp", "=s"), ("fcntl", "@s", 4, DIRECT), ("fcntl", "@s", 3, 0),
    ]  # fmt: skip
    p["pipe the wrong end"] = [
        *PIPE, ("read", "@w", 1), ("write", "@r", b"x"), ("lseek", "@r", 0, 0), ("pread", "@r", 1, 0), ("pwrite", "@w", b"x", 0),
        ("ftruncate", "@w", 0), ("accept4", "@r", 0), ("recvmsg", "@r", 1, 0), ("ioctl_int", "@w", FIONREAD),
        ("ioctl_int", "@w", 0x1234),
        ("read", "@r", 0), ("write", "@w", b""), ("getsockopt", "@r", SOL_SOCKET, 3, 4), ("fcntl", "@w", 9999, 0),
    ]  # fmt: skip
    p["pipe sizes"] = [
        *PIPE, *[step for n in (0, 1, 4096, 4097, 65536, 100000, 1048576, -1) for step in (
            ("fcntl", "@r", F_SETPIPE_SZ, n), ("fcntl", "@w", F_GETPIPE_SZ, 0))], ("fcntl", "@w", F_SETPIPE_SZ, 8192),
        ("write", "@w", b"x" * 4096), ("fcntl", "@w", F_SETPIPE_SZ, 4096), ("write", "@w", b"y"),
        ("fcntl", "@w", F_SETPIPE_SZ, 8192),
        ("write", "@w", b"y"), ("fcntl", "@w", F_SETPIPE_SZ, 4096), left, ("fcntl", "@w", F_SETPIPE_SZ, 8192),
        ("socket", "udp", "=s"),
        ("fcntl", "@s", F_GETPIPE_SZ, 0), ("fcntl", "@s", F_SETPIPE_SZ, 4096), *EPOLL, ("fcntl", "@e", F_GETPIPE_SZ, 0),
    ]  # fmt: skip
    p["pipe without a writer"] = [
        *PIPE, ("write", "@w", b"abc"), ("poll", "@r", 0x7FFF), ("close", "@w"), ("poll", "@r", 0x7FFF), ("read", "@r", 2),
        ("read", "@r", 2),
        ("poll", "@r", 0x7FFF), ("read", "@r", 2),
    ]  # fmt: skip
    p["pipe without a reader"] = [
        *PIPE, ("write", "@w", b"abc"), ("poll", "@w", 0x7FFF), ("close", "@r"), ("poll", "@w", 0x7FFF), ("write", "@w", b"x"),
        ("write", "@w", b""), ("ioctl_int", "@w", FIONREAD), ("splice", "@r", None, "@w", None, 1, 0),
    ]  # fmt: skip
    for how, bits in {"level": 0, "edge": ET}.items():
        p[f"pipe in an epoll, {how}"] = [
            *PIPE, *EPOLL, watch("@r", IN | OUT | RDHUP | bits, 1), watch("@w", IN | OUT | RDHUP | bits, 2), wait(), wait(),
            ("write", "@w", b"a"), wait(), ("write", "@w", b"b"), wait(), wait(), ("read", "@r", 1), wait(),
            ("write", "@w", bytes(70000)),
            wait(), ("read", "@r", 100), wait(), ("read", "@r", 4096), wait(), ("read", "@r", 4096), wait(), ("dup", "@w", "=v"),
            ("close", "@w"),
            wait(), ("close", "@v"), wait(), wait(), ("read", "@r", 100000), wait(), ("close", "@r"), wait(),
        ]  # fmt: skip
        p[f"pipe in an epoll without a reader, {how}"] = [
            *PIPE, *EPOLL, watch("@w", OUT | bits, 2), wait(), ("close", "@r"), wait(), wait(), ("write", "@w", b"x"), wait(),
        ]  # fmt: skip
    return p


def splice_programs() -> dict[str, Program]:
    p: dict[str, Program] = {}
    left = ("ioctl_int", "@r", FIONREAD)
    two: Program = [*PIPE, ("pipe2", NB, "=r2,w2")]
    left2 = ("ioctl_int", "@r2", FIONREAD)
    mem: Program = [("memfd_create", 0, "=m"), ("write", "@m", TEXT)]
    p["splice errors"] = [
        *two, *PAIR, *mem, ("splice", "@r", None, "@w", None, 0, 0), ("splice", "@r", None, "@w2", None, 0, 99),
        ("splice", "@r", None, "@w2", None, 1, 16), ("splice", "@none", None, "@w2", None, 1, 0),
        ("splice", "@r", None, "@none", None, 1, 0),
        ("splice", "@r", None, "@w", None, 1, 0), ("splice", "@r", 0, "@w2", None, 1, 0), ("splice", "@r", None, "@w2", 0, 1, 0),
        ("splice", "@w", None, "@w2", None, 1, 0), ("splice", "@r", None, "@r2", None, 1, 0),
        ("splice", "@s", None, "@c", None, 1, 0),
        ("splice", "@m", None, "@s", None, 1, 0), ("splice", "@s", 0, "@w", None, 1, 0), ("splice", "@r", None, "@s", 0, 1, 0),
        ("splice", "@m", -1, "@w", None, 1, 0), ("splice", "@l", None, "@w", None, 1, 0), ("splice", "@s", None, "@w", None, 1, 0),
        ("splice", "@r", None, "@s", None, 1, 0), *EPOLL, ("splice", "@e", None, "@w", None, 1, 0),
        ("splice", "@r", None, "@e", None, 1, 0),
        ("splice", "@r", None, "@l", None, 1, 0), ("write", "@w", b"x"), ("splice", "@r", None, "@e", None, 1, 0),
        ("splice", "@r", None, "@l", None, 1, 0), left, ("socket", "tcp", "=f"), ("splice", "@r", None, "@f", None, 1, 0), left,
        ("splice", "@f", None, "@w", None, 1, 0), ("tee", "@r", "@w", 1, 0), ("tee", "@r", "@s", 1, 0), ("tee", "@r", "@w2", 1, 16),
        ("tee", "@r", "@w2", 0, 0), ("tee", "@w", "@w2", 1, 0), ("tee", "@none", "@w2", 1, 0), ("tee", "@r", "@r2", 1, 0),
        ("vmsplice", "@s", b"x", 0), ("vmsplice", "@none", b"x", 0), ("vmsplice", "@w", b"", 0), ("vmsplice", "@w", b"x", 16),
    ]  # fmt: skip
    p["splice from pipe to pipe"] = [
        *two, ("splice", "@r", None, "@w2", None, 5, 0), ("write", "@w", b"hello world"),
        ("splice", "@r", None, "@w2", None, 5, 0), left, left2,
        ("write", "@w2", b"!"), ("write", "@w", b"?"), ("splice", "@r", None, "@w2", None, 100, 0),
        left, left2, ("read", "@r2", 100),
        ("write", "@w", b"x" * 65536), ("splice", "@r", None, "@w2", None, 100000, 0), left2, ("write", "@w", b"more"),
        ("splice", "@r", None, "@w2", None, 1, 0), ("close", "@r2"), ("splice", "@r", None, "@w2", None, 1, 0), ("close", "@w"),
        ("read", "@r", 100), ("splice", "@r", None, "@w2", None, 1, 0),
    ]  # fmt: skip
    p["splice a byte at a time until the pipe is full"] = [
        *two, ("write", "@w", b"abcdefghijklmnopqrstuvwxyz"), *[("splice", "@r", None, "@w2", None, 1, 0)] * 17, left, left2,
        ("write", "@w2", b"x"), ("poll", "@w2", 0x7FFF), ("read", "@r2", 1), ("write", "@w2", b"y"), ("read", "@r2", 100),
    ]  # fmt: skip
    p["tee"] = [
        *two, ("tee", "@r", "@w2", 100, 0), ("write", "@w", b"hello world"), ("tee", "@r", "@w2", 5, 0),
        ("tee", "@r", "@w2", 100, 0), left, left2,
        ("write", "@w", b"!"), ("write", "@w2", b"?"), ("read", "@r", 100), ("read", "@r2", 100), ("write", "@w", b"x" * 65536),
        ("tee", "@r", "@w2", 65536, 0), ("tee", "@r", "@w2", 1, 0), left, left2, ("read", "@r2", 65536), ("close", "@r2"),
        ("tee", "@r", "@w2", 1, 0), ("read", "@r", 100000), ("close", "@w"), ("tee", "@r", "@w2", 1, 0),
    ]  # fmt: skip
    p["splice from TCP"] = [
        *PAIR, *PIPE, ("splice", "@s", None, "@w", None, 100, 0), ("splice", "@s", None, "@w", None, 100, 2), say(b"hello "),
        say(b"world"),
        ("splice", "@s", None, "@w", None, 8, 0), left, ("splice", "@s", None, "@w", None, 100, 0), left, ("read", "@r", 100),
        ("write", "@w", b"x" * 65536), say(b"more"), ("splice", "@s", None, "@w", None, 100, 0), ("read", "@r", 100000),
        ("splice", "@s", None, "@w", None, 100, 0), ("read", "@r", 100), ("shutdown", "@c", 1),
        ("splice", "@s", None, "@w", None, 100, 0),
        ("close", "@r"), ("splice", "@s", None, "@w", None, 100, 0),
    ]  # fmt: skip
    p["splice from TCP up to the urgent byte"] = [
        *PAIR, *PIPE, say(b"abc"), ("sendmsg", "@c", b"!", MSG_OOB), say(b"def"), ("splice", "@s", None, "@w", None, 100, 0), left,
    ]  # fmt: skip
    p["splice from a TCP socket that was reset"] = [*PAIR, *PIPE, RESET, ("close", "@c"),
    *[("splice", "@s", None, "@w", None, 9, 0)] * 2]
    p["splice to TCP"] = [
        *PAIR, *PIPE, ("splice", "@r", None, "@s", None, 5, 0), ("write", "@w", b"hello world"),
        ("splice", "@r", None, "@s", None, 5, 0),
        hear(100, MSG_DONTWAIT, "@c"), ("splice", "@r", None, "@s", None, 3, 4), hear(100, MSG_DONTWAIT, "@c"),
        ("splice", "@r", None, "@s", None, 100, 0), hear(100, MSG_DONTWAIT, "@c"), ("write", "@w", b"x" * 60000),
        ("splice", "@r", None, "@s", None, 60000, 0), left, ("write", "@w", b"y"), ("close", "@w"),
        ("splice", "@r", None, "@s", None, 9, 0),
        ("splice", "@r", None, "@s", None, 9, 0),
    ]  # fmt: skip
    p["splice to TCP that cannot send"] = [
        *PAIR, *PIPE, ("shutdown", "@s", 1), ("write", "@w", b"hello"), ("splice", "@r", None, "@s", None, 5, 0), left,
    ]  # fmt: skip
    p["splice to UDP"] = [
        *UDP, *PIPE, ("write", "@w", b"hello world"), ("splice", "@r", None, "@c", None, 5, 0),
        ("splice", "@r", None, "@c", None, 100, 4),
        hear(), hear(), ("write", "@w", b"!"), ("splice", "@r", None, "@c", None, 100, 0), hear(), ("write", "@w", b"z" * 65536),
        ("splice", "@r", None, "@c", None, 65536, 0), left, ("splice", "@r", None, "@c", None, 8192, 0), left, hear(9000),
        ("splice", "@r", None, "@s", None, 8192, 0), left,
    ]  # fmt: skip
    p["splice from UDP"] = [
        *UDP, *PIPE, ("splice", "@s", None, "@w", None, 100, 0), say(b"hello world"), ("splice", "@s", None, "@w", None, 5, 0),
        say(b""), say(b"x"),
        ("splice", "@s", None, "@w", None, 100, 0), ("splice", "@s", None, "@w", None, 100, 0), ("read", "@r", 100),
        say(bytes(9000)),
        ("splice", "@s", None, "@w", None, 100000, 0), left, ("write", "@w", b"q" * 56000), say(bytes(9000)),
        ("splice", "@s", None, "@w", None, 100000, 0), left,
    ]  # fmt: skip
    p["splice from and to a file"] = [
        *PIPE, *mem, ("splice", "@m", None, "@w", None, 10, 0), ("splice", "@m", 4090, "@w", None, 10, 0), ("read", "@r", 100),
        ("lseek", "@m", 1, 0), ("splice", "@m", None, "@w", None, 10, 0), ("lseek", "@m", 0, 1),
        ("splice", "@m", 99999, "@w", None, 10, 0),
        ("splice", "@m", 5, "@w", None, 100000, 0), ("poll", "@w", 0x7FFF), ("memfd_create", 1, "=n"),
        ("splice", "@r", None, "@n", None, 7, 0),
        ("splice", "@r", None, "@n", 3, 7, 0), ("lseek", "@n", 0, 1), ("pread", "@n", 20, 0),
        left, ("splice", "@r", None, "@n", None, 1 << 20, 0),
        ("lseek", "@n", 0, 2), ("splice", "@r", None, "@n", None, 1, 0), ("fcntl", "@n", 4, 0x400), ("write", "@w", b"x"),
        ("splice", "@r", None, "@n", None, 1, 0), ("fcntl", "@n", 1, 0), ("fcntl", "@n", 3, 0), ("fcntl", "@m", 1, 0),
    ]  # fmt: skip
    p["splice many small buffers from a pipe"] = [
        *BIG, ("pipe2", NB, "=r2,w2"), *PAIR, *[step for i in range(20) for step in (("write", "@w", b"abc"),
        ("splice", "@r", None, "@w2", None, 3, 0))], left2, ("splice", "@r2", None, "@s", None, 100, 0),
        hear(100, MSG_DONTWAIT, "@c"), left2,
    ]  # fmt: skip
    p["vmsplice"] = [
        *PIPE, ("vmsplice", "@w", b"hello", 0), left, ("write", "@w", b"!"), ("read", "@r", 100),
        ("fcntl", "@w", F_SETPIPE_SZ, 4096),
        ("write", "@w", b"x"), ("vmsplice", "@w", b"hello", 2), ("close", "@r"), ("vmsplice", "@w", b"hello", 0),
    ]  # fmt: skip
    p["a memfd"] = [
        *mem, ("lseek", "@m", 0, 1), ("read", "@m", 10), ("lseek", "@m", -4, 2), ("read", "@m", 10), ("lseek", "@m", -1, 0),
        ("lseek", "@m", 5, 3 + 5), ("pread", "@m", 4, 2), ("pread", "@m", 4, -1), ("pwrite", "@m", b"zz", 1), ("pread", "@m", 4, 0),
        ("ftruncate", "@m", 6), ("pread", "@m", 10, 0), ("ftruncate", "@m", 9), ("pread", "@m", 10, 0), ("ftruncate", "@m", -1),
        ("pwrite", "@m", b"end", 12), ("pread", "@m", 20, 0), ("poll", "@m", 0x7FFF), *EPOLL, watch("@m", IN), watch("@m", 0),
        ("memfd_create", 0x40000000), ("dup", "@m", "=n"), ("lseek", "@n", 3, 0), ("lseek", "@m", 0, 1), ("fcntl", "@m", 4, 0x400),
        ("write", "@m", b"!"), ("lseek", "@m", 0, 1), ("pwrite", "@m", b"0", 0), ("read", "@m", 0), ("fcntl", "@m", 4, DIRECT),
    ]  # fmt: skip
    p["sendfile errors"] = [
        *PAIR, *PIPE, *mem, ("sendfile", "@s", "@none", 0, 1), ("sendfile", "@none", "@m", 0, 1), ("sendfile", "@s", "@c", None, 1),
        ("sendfile", "@s", "@c", 0, 1), ("sendfile", "@s", "@r", None, 1), ("sendfile", "@s", "@r", 0, 1),
        ("sendfile", "@s", "@w", None, 1),
        ("sendfile", "@r", "@m", 0, 1), ("sendfile", "@s", "@m", -1, 1), ("sendfile", "@s", "@m", 0, 0),
        ("sendfile", "@l", "@m", 0, 1), *EPOLL,
        ("sendfile", "@e", "@m", 0, 1), ("sendfile", "@s", "@e", None, 1), ("sendfile", "@w", "@s", None, 1),
        ("sendfile", "@w", "@s", 0, 1),
        ("sendfile", "@s", "@m", 99999, 10), ("sendfile", "@s", "@m", 0, -1),
    ]  # fmt: skip
    p["sendfile to TCP"] = [
        *PAIR, *mem, ("sendfile", "@s", "@m", 0, 10), hear(100, MSG_DONTWAIT, "@c"), ("sendfile", "@s", "@m", None, 10),
        ("lseek", "@m", 0, 0),
        ("sendfile", "@s", "@m", None, 10), ("lseek", "@m", 0, 1), hear(100, MSG_DONTWAIT, "@c"),
        ("sendfile", "@s", "@m", 16380, 10),
        hear(100, MSG_DONTWAIT, "@c"), ("sendfile", "@s", "@m", 0, 1 << 20), hear(100000, MSG_DONTWAIT, "@c"),
        ("ioctl_int", "@s", 0x894B),
        ("shutdown", "@s", 1), ("sendfile", "@s", "@m", 0, 10),
    ]  # fmt: skip
    p["sendfile to UDP"] = [
        *UDP, *mem, ("sendfile", "@c", "@m", 0, 10), hear(), ("sendfile", "@c", "@m", 16380, 10), hear(),
        ("sendfile", "@c", "@m", 0, 16384),
        hear(20000), ("sendfile", "@s", "@m", 0, 10),
    ]  # fmt: skip
    p["sendfile to a pipe and to a file"] = [
        *PIPE, *mem, ("sendfile", "@w", "@m", 3, 10), left, ("read", "@r", 100), ("sendfile", "@w", "@m", None, 10),
        ("lseek", "@m", 2, 0),
        ("sendfile", "@w", "@m", None, 10), ("lseek", "@m", 0, 1), ("sendfile", "@w", "@m", 0, 1 << 20),
        left, ("write", "@w", b"x" * 65536),
        ("sendfile", "@w", "@m", 0, 10), ("memfd_create", 0, "=n"), ("write", "@n", b"abc"), ("sendfile", "@n", "@m", 5, 10),
        ("lseek", "@n", 0, 1), ("pread", "@n", 100, 0), ("fcntl", "@n", 4, 0x400), ("sendfile", "@n", "@m", 5, 10),
        ("sendfile", "@m", "@m", 0, 10),
    ]  # fmt: skip
    return p


def all_programs() -> dict[str, Program]:
    return {**epoll_programs(), **flag_programs(), **many_programs(), **pipe_programs(), **splice_programs()}
