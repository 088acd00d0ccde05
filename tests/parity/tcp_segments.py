"""Segment x state: every kind of segment, at every place of its numbers and timestamps, into a connection in each state of TCP.

A connection is brought into the state with packets and system calls, one segment goes in, and then everything is looked at: what
came out, the poll mask, TCP_INFO, the pending error, what can be read, what was counted. A last segment, an old byte once more, is
always answered (data has no rate limit), and shows what is there now: a connection, a TIME_WAIT, or nothing.
"""

from __future__ import annotations

from tests.parity.packets import HOST, PEER
from tests.parity.programs import Program, i32, sa

SOL_SOCKET, SO_REUSEADDR, SO_ERROR, SIOCINQ, MSG_DONTWAIT = 1, 2, 4, 0x541B, 0x40

# What the peer's segments carry, by its connection: all the options that a SYN can have, or none.
SYN_OPTIONS = {"ts": " <mss 1460,sackOK,TS 100 ecr 0,nop,ws 7>", "plain": ""}
SYNACK_OPTIONS = {"ts": " <mss 1460,sackOK,TS 100 ecr last,nop,ws 7>", "plain": ""}
OPTIONS = {"ts": " <nop,nop,TS 100 ecr last>", "plain": ""}


def states(way: str) -> dict[str, Program]:
    """How to get into each state. The descriptor is `s`, where there is one; the peer is `p`."""
    opts = OPTIONS[way]
    listening: Program = [
        ("socket", "l", "tcp"),
        ("setsockopt", "l", SOL_SOCKET, SO_REUSEADDR, i32(1)),
        ("bind", "l", sa(HOST, 80)),
        ("listen", "l", 5),
        ("peer", "p", 80),
    ]
    asked: Program = [*listening, ("<", "p", f"S 0{SYN_OPTIONS[way]}")]
    connecting: Program = [("socket", "s", "tcp"), ("target", "p", 7001), ("connect", "s", sa(PEER, 7001))]
    established: Program = [*asked, ("<", "p", f". nxt ack snd{opts}"), ("accept", "l", "s")]
    fin_wait1: Program = [*established, ("shutdown", "s", 1)]
    fin_wait2: Program = [*fin_wait1, ("<", "p", f". nxt ack snd{opts}")]
    # The ACK of a FIN waits for the next tick when nothing was received before: let that go by.
    close_wait: Program = [*established, ("<", "p", f"F. nxt ack snd{opts}"), ("sleep", "", 10)]
    closing: Program = [*fin_wait1, ("<", "p", f"F. nxt ack snd-1{opts}")]
    gone: Program = [("close", "s")]
    return {
        "CLOSED": [("peer", "p", 80)],
        "LISTEN": listening,
        "SYN_SENT": connecting,
        "SYN_RECV": asked,
        "SYN_RECV crossed": [*connecting, ("<", "p", f"S 0{SYN_OPTIONS[way]}")],
        "ESTABLISHED": established,
        "ESTABLISHED active": [*connecting, ("<", "p", f"S. 0 ack snd{SYNACK_OPTIONS[way]}")],
        "ESTABLISHED sent": [*established, ("send", "s", bytes(100), 0)],
        "ESTABLISHED hole": [*established, ("<", "p", f"P. nxt+5(10) ack snd{opts}")],
        "FIN_WAIT1": fin_wait1,
        "FIN_WAIT1 closed": [*established, *gone],
        "FIN_WAIT2": fin_wait2,
        "FIN_WAIT2 closed": [*fin_wait2, *gone],
        "CLOSE_WAIT": close_wait,
        "CLOSING": closing,
        "CLOSING closed": [*closing, *gone],
        "LAST_ACK": [*close_wait, ("shutdown", "s", 1)],
        "LAST_ACK closed": [*close_wait, *gone],
        "TIME_WAIT": [*fin_wait2, ("<", "p", f"F. nxt ack snd{opts}")],
        "TIME_WAIT closed": [*fin_wait2, *gone, ("<", "p", f"F. nxt ack snd{opts}")],
    }


SEQUENCES = ("nxt-1", "nxt", "nxt+10", "edge-1", "edge", "edge+10")
ACKS = ("una-1", "snd", "snd+1", "una-100000")
# Without, with the next, an old and a far timestamp; in a SYN, with a next, an old one, and one that echoes what was never sent.
TIMES = ("", " <nop,nop,TS 150 ecr last>", " <nop,nop,TS 50 ecr last>", " <nop,nop,TS 1000000000 ecr last>")
SYN_TIMES = ("", " <mss 1460,nop,nop,sackOK,TS 150 ecr last,nop,ws 7>", " <TS 50 ecr last>", " <TS 150 ecr last+9999>")
WITH_ACK = ("S.", ".", "P.(5)", "F.", "F.(5)", "R.", "SF.")
WITHOUT_ACK = ("S", "-", "P(5)", "F", "R", "SF", "SR")


def segments(way: str) -> list[str]:
    out = []
    for kind in WITH_ACK + WITHOUT_ACK:
        flags, _, size = kind.partition("(")
        for seq in SEQUENCES:
            for ack in ACKS if kind in WITH_ACK else ("",):
                line = f"{flags} {seq}" + (f"({size}" if size else "") + (f" ack {ack}" if ack else "")
                times = ("",) if way == "plain" else SYN_TIMES if "S" in flags else TIMES
                out += [line + t for t in times]
    return out


LOOK: Program = [
    ("poll", "s"),
    ("info", "s"),
    ("getsockopt", "s", SOL_SOCKET, SO_ERROR, 4),
    ("ioctl", "s", SIOCINQ),
    ("recv", "s", 100, MSG_DONTWAIT),
]


def program(before: Program, way: str, segment: str) -> Program:
    return [
        *before,
        ("count", ""),
        ("<", "p", segment),
        *LOOK,
        ("counters", ""),
        ("<", "p", f"P. nxt-1(1) ack snd{OPTIONS[way]}"),
        ("info", "s"),
    ]


def all_programs() -> dict[str, Program]:
    return {
        f"{state} {way}: {segment}": program(before, way, segment)
        for way in ("ts", "plain")
        for state, before in states(way).items()
        for segment in segments(way)
    }


def kept_programs() -> dict[str, Program]:
    """One of seven: those whose answers are stored."""
    return {name: steps for i, (name, steps) in enumerate(all_programs().items()) if i % 7 == 0}
