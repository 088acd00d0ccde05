"""The programs of test_tcp_parity.py: tcp(7)'s options with many values and lengths in three states, what they do, urgent data.

In the language of file_programs.py.
"""

from __future__ import annotations

from tests.parity.file_programs import LISTENER, LO, PAIR, Program, Step, hear, say
from tests.parity.file_programs import run_program as run_program
from tests.parity.programs import MSG_DONTWAIT, MSG_OOB, MSG_PEEK, MSG_TRUNC, i32, sa

SOL_SOCKET, SOL_TCP = 1, 6
SO_OOBINLINE, SO_SNDBUF, SO_RCVBUF = 10, 7, 8
MSG_WAITALL, MSG_MORE = 0x100, 0x8000
SIOCINQ, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK = 0x541B, 0x5411, 0x894B, 0x8905
POLL = 0x7FFF

OPTIONS = {
    1: "NODELAY", 2: "MAXSEG", 3: "CORK", 4: "KEEPIDLE", 5: "KEEPINTVL", 6: "KEEPCNT", 7: "SYNCNT", 8: "LINGER2", 9: "DEFER_ACCEPT",
    10: "WINDOW_CLAMP", 12: "QUICKACK", 16: "THIN_LINEAR_TIMEOUTS", 17: "THIN_DUPACK", 18: "USER_TIMEOUT", 25: "NOTSENT_LOWAT",
    27: "SAVE_SYN", 36: "INQ", 43: "IS_MPTCP", 44: "RTO_MAX_MS", 45: "RTO_MIN_US", 46: "DELACK_MAX_US", 47: "beyond the last",
    15: "none", 0: "zero", -1: "minus one",
}  # fmt: skip
# Not here, and said so: docs/differences.md.
REFUSED = {
    14: "MD5SIG", 19: "REPAIR", 20: "REPAIR_QUEUE", 21: "QUEUE_SEQ", 22: "REPAIR_OPTIONS", 23: "FASTOPEN", 29: "REPAIR_WINDOW",
    30: "FASTOPEN_CONNECT", 31: "ULP", 32: "MD5SIG_EXT", 33: "FASTOPEN_KEY", 34: "FASTOPEN_NO_COOKIE", 35: "ZEROCOPY_RECEIVE",
    37: "TX_DELAY", 38: "AO_ADD_KEY", 39: "AO_DEL_KEY", 40: "AO_INFO", 41: "AO_GET_KEYS", 42: "AO_REPAIR",
}  # fmt: skip

VALUES = (
    0, 1, 2, 3, -1, 10, 60, 87, 88, 120, 121, 127, 128, 255, 256, 536, 999, 1000, 1151, 1152, 1153, 8000, 32767, 32768, 65535,
    100000, 120000, 120001, 200000, 200001, 0x7FFFFFFF, -0x80000000,
)  # fmt: skip
# Kept in jiffies: values that are whole ones at 250 and at 1000 Hz.
TICKS = (0, -1, 1, 1000, 8000, 36000, 100000, 120000, 124000, 200000, 204000, 400000, 0x7FFFFFFF, -0x80000000)
ODD = (b"", b"\1", b"\1\0", b"\1\0\0", i32(1) + b"\0", i32(1) + i32(7), bytes(16))

STATES: dict[str, Program] = {
    "closed": [("socket", "tcp", "=s")],
    "listening": [*LISTENER, ("socket", "tcp", "=s"), ("bind", "@s", sa(LO, 6105)), ("listen", "@s", 4)],
    "established": PAIR,
}


def get(option: int, size: int = 16, fd: str = "@s", level: int = SOL_TCP) -> Step:
    return ("getsockopt", fd, level, option, size)


def put(option: int, value: int | bytes, fd: str = "@s", level: int = SOL_TCP) -> Step:
    return ("setsockopt", fd, level, option, value if isinstance(value, bytes) else i32(value))


def matrix() -> dict[str, Program]:
    programs: dict[str, Program] = {}
    for state, before in STATES.items():
        for option, name in OPTIONS.items():
            steps = [*before, *(get(option, n) for n in (4, 0, 1, 2, 3, 5, 16))]
            if state != "listening" and option == 2:
                steps = before[:]  # TCP_MAXSEG tells the segment size of the path, which is lo's
            values = TICKS if option in (44, 45, 46) else VALUES
            for value in (*map(i32, values), *ODD):
                # the window clamp of a connection is what the memory of its packets makes it
                show = not (option in (2, 10) and state != "closed")
                steps += [put(option, value), *([get(option)] if show else [])]
            programs[f"{state}: {name}"] = steps
    return programs


def refused() -> dict[str, Program]:
    return {
        f"refused: {name}": [("socket", "tcp", "=s"), put(option, 1), put(option, b"x" * 40), get(option, 4)]
        for option, name in REFUSED.items()
    }


# -- congestion control ----------------------------------------------------------------------------------------------------


def congestion() -> dict[str, Program]:
    names = (
        b"reno", b"reno\0", b"reno\0junk", b"cubic", b"nothing", b"", b"\0", b"renoX", b"ren", b"reno" + bytes(20),
        b"cubic12345678901", b"c" * 40, b"Reno",
    )  # fmt: skip
    p: dict[str, Program] = {}
    for state, before in STATES.items():
        steps = before[:]
        for name in names:
            steps += [put(13, name)]
            if name in (b"reno", b"cubic", b"nothing", b"reno\0junk"):
                steps += [get(13, n) for n in (16, 4, 1, 0, 64)]
        steps += [get(26, n) for n in (0, 4, 20)]  # TCP_CC_INFO: neither has any
        p[f"{state}: CONGESTION"] = steps
    p["CONGESTION is the child's too"] = [
        *LISTENER,
        put(13, b"reno", "@l"),
        ("socket", "tcp", "=s"),
        put(13, b"cubic"),
        ("connect", "@s", sa(LO, 6101)),
        ("accept4", "@l", 0, "=c"),
        get(13, 16, "@c"),
        put(13, b"cubic", "@l"),
        get(13, 16, "@c"),
        get(13),
    ]
    return p


# -- what options do -------------------------------------------------------------------------------------------------------


def inherited() -> dict[str, Program]:
    """What a child has of its listener."""
    values = {
        1: 1, 3: 1, 4: 100, 5: 7, 6: 3, 7: 4, 8: 30, 9: 5, 12: 0, 16: 1, 18: 5000, 25: 7777, 27: 1, 36: 1, 44: 5000, 45: 100000,
        46: 40000,
    }  # fmt: skip
    return {
        f"a child has its listener's {OPTIONS[option]}": [
            *LISTENER,
            put(option, value, "@l"),
            ("socket", "tcp", "=s"),
            ("connect", "@s", sa(LO, 6101)),
            ("sendmsg", "@s", b"now", 0),
            ("accept4", "@l", 0, "=c"),
            get(option, 4, "@c"),
            get(option, 4, "@l"),
        ]
        for option, value in values.items()
    }


def effects() -> dict[str, Program]:
    p: dict[str, Program] = {}
    p["NODELAY and CORK together"] = [
        *PAIR, put(3, 1), put(1, 1), get(3), get(1), put(3, 0), get(3), get(1), put(1, 0), get(1),
    ]  # fmt: skip
    p["CORK holds back until it is off"] = [
        *PAIR, put(3, 1, "@c"), say(b"a"), say(b"b"), ("poll", "@s", POLL), hear(), ("ioctl_int", "@c", SIOCOUTQNSD),
        put(3, 0, "@c"), ("poll", "@s", POLL), hear(), ("ioctl_int", "@c", SIOCOUTQNSD),
    ]  # fmt: skip
    p["NODELAY sends what CORK holds, once"] = [
        *PAIR, put(3, 1, "@c"), say(b"a"), hear(), put(1, 1, "@c"), hear(), say(b"b"), hear(), put(3, 0, "@c"), hear(),
    ]  # fmt: skip
    p["MSG_MORE holds back until more comes"] = [
        *PAIR, ("sendmsg", "@c", b"a", MSG_MORE), hear(), ("sendmsg", "@c", b"b", MSG_MORE), hear(), say(b"c"), hear(),
    ]  # fmt: skip
    p["INQ tells what is left"] = [
        *PAIR, put(36, 1), say(b"0123456789"),
        ("recvmsg", "@s", 4, MSG_DONTWAIT, 100), ("recvmsg", "@s", 3, MSG_PEEK | MSG_DONTWAIT, 100),
        ("recvmsg", "@s", 6, MSG_DONTWAIT, 10), ("recvmsg", "@s", 10, MSG_DONTWAIT, 100), ("shutdown", "@c", 1),
        ("recvmsg", "@s", 10, MSG_DONTWAIT, 100), put(36, 0), ("recvmsg", "@s", 10, MSG_DONTWAIT, 100),
    ]  # fmt: skip
    p["INQ counts the FIN as a byte"] = [
        *PAIR, put(36, 1), say(b"0123456789"), ("shutdown", "@c", 1), ("recvmsg", "@s", 4, MSG_DONTWAIT, 100),
        ("recvmsg", "@s", 10, MSG_DONTWAIT, 100), ("recvmsg", "@s", 10, MSG_DONTWAIT, 100),
    ]  # fmt: skip
    p["NOTSENT_LOWAT and writability"] = [
        *PAIR, put(25, 1, "@c"), ("poll", "@c", POLL), put(3, 1, "@c"), say(b"ab"), ("poll", "@c", POLL), say(b"c"),
        put(25, 0, "@c"), ("poll", "@c", POLL),
    ]  # fmt: skip
    p["QUICKACK reads back what the mode is"] = [
        *PAIR, get(12), put(12, 0), get(12), say(b"x"), hear(), get(12), put(12, 2), get(12), put(12, 1), get(12),
    ]  # fmt: skip
    p["WINDOW_CLAMP 0 on a connection"] = [*PAIR, put(10, 0), put(10, 5000), put(10, 0), put(10, 1)]
    p["DEFER_ACCEPT keeps a silent connection back"] = [
        *LISTENER, put(9, 30, "@l"), ("socket", "tcp", "=s"), ("connect", "@s", sa(LO, 6101)), ("poll", "@l", POLL), ("accept4",
        "@l", 0), ("sendmsg", "@s", b"!", 0), ("poll", "@l", POLL), ("accept4", "@l", 0, "=c"), hear(10, MSG_DONTWAIT, "@c"),
    ]  # fmt: skip
    p["SAVED_SYN is there once"] = [
        *LISTENER, put(27, 1, "@l"), ("socket", "tcp", "=s"), ("connect", "@s", sa(LO, 6101)), ("accept4", "@l", 0, "=c"),
        get(27, 4, "@c"), get(28, 1, "@c"), get(28, 19, "@c"), get(28, 0, "@l"), get(28, 0, "@s"), get(27, 4, "@l"),
    ]  # fmt: skip
    p["INFO in pieces"] = [*PAIR, get(11, 0), get(11, 1), get(11, 2), ("socket", "tcp", "=n"), get(11, 3, "@n"), get(11, 2, "@l")]
    p["INFO cannot be set"] = [("socket", "tcp", "=s"), put(11, 1), put(11, bytes(280)), put(26, bytes(20)), put(28, 1), put(24, 5)]
    return p


# -- urgent data -----------------------------------------------------------------------------------------------------------


def mark() -> Step:
    return ("ioctl_int", "@s", SIOCATMARK)


def oob(size: int = 1, flags: int = 0) -> Step:
    return ("recvmsg", "@s", size, MSG_OOB | MSG_DONTWAIT | flags)


def urge(data: bytes, flags: int = 0) -> Step:
    return ("sendmsg", "@c", data, MSG_OOB | flags)


LOOK: Program = [("poll", "@s", POLL), mark(), ("ioctl_int", "@s", SIOCINQ)]
INLINE = put(SO_OOBINLINE, 1, "@s", SOL_SOCKET)
OUTLINE = put(SO_OOBINLINE, 0, "@s", SOL_SOCKET)

URGENT_SENT: dict[str, Program] = {
    "alone": [urge(b"!")],
    "after data": [say(b"abc"), urge(b"!")],
    "as the last of a write": [urge(b"abc!")],
    "before data": [urge(b"!"), say(b"xyz")],
    "in the middle": [say(b"abc"), urge(b"!"), say(b"xyz")],
    "twice": [say(b"abc"), urge(b"!"), say(b"def"), urge(b"?"), say(b"ghi")],
    "twice in a row": [urge(b"!"), urge(b"?")],
    "and the end": [say(b"abc"), urge(b"!"), ("shutdown", "@c", 1)],
    "of no bytes": [say(b"abc"), urge(b"")],
    "with MSG_MORE": [urge(b"!", MSG_MORE), say(b"xyz")],
}
URGENT_READ: dict[str, Program] = {
    "the stream first": [*LOOK, hear(), *LOOK, hear(), *LOOK, oob(), *LOOK, hear(), *LOOK],
    "the urgent byte first": [*LOOK, oob(), *LOOK, oob(), hear(), *LOOK, hear(), *LOOK, hear()],
    "byte by byte": [step for _ in range(8) for step in (*LOOK, hear(1))],
    "a look first": [oob(1, MSG_PEEK), *LOOK, oob(1, MSG_PEEK), oob(5), oob(), hear(100, MSG_PEEK | MSG_DONTWAIT), hear(), *LOOK],
    "into nothing": [oob(0), *LOOK, oob(1, MSG_TRUNC), *LOOK, hear(0), hear(), oob()],
    "inline": [INLINE, *LOOK, oob(), hear(), *LOOK, hear(), *LOOK, hear(), oob()],
    "inline, byte by byte": [INLINE, *(step for _ in range(8) for step in (*LOOK, hear(1)))],
    "inline, and then not": [INLINE, hear(1), OUTLINE, *LOOK, oob(), hear(), *LOOK, hear(), *LOOK],
    "not inline, and then inline": [hear(2), INLINE, *LOOK, oob(), hear(), *LOOK, hear(), *LOOK],
    "the byte, then inline": [oob(), INLINE, *LOOK, hear(), *LOOK, hear()],
    "all that there is": [hear(100, MSG_WAITALL | MSG_DONTWAIT), *LOOK, hear(100, MSG_WAITALL | MSG_DONTWAIT), *LOOK, oob()],
}


def urgent() -> dict[str, Program]:
    p = {
        f"urgent data {sent}: {read}": [*PAIR, *send, *steps]
        for sent, send in URGENT_SENT.items()
        for read, steps in URGENT_READ.items()
    }
    for state, before in STATES.items():
        p[f"urgent data, none: {state}"] = [*before, oob(), oob(0), mark(), ("poll", "@s", POLL), INLINE, oob(), mark()]
    p["urgent data after the end"] = [*PAIR, ("shutdown", "@c", 1), urge(b"!"), oob(), hear(), mark()]
    p["urgent data for a closed socket"] = [*PAIR, ("shutdown", "@s", 0), urge(b"!"), oob(), mark(), ("poll", "@s", POLL)]
    return p


def all_programs() -> dict[str, Program]:
    return {**matrix(), **refused(), **congestion(), **inherited(), **effects(), **urgent()}
