"""What the differential fuzzer found (fuzz.py), and what probes settled: one case each, as small as it gets."""

from __future__ import annotations

from tests.parity.packets import HOST, PEER
from tests.parity.programs import Program, Step, i32, sa

DONTWAIT = 0x40
INFO, COUNT, COUNTERS = ("info", "s"), ("count", ""), ("counters", "")


def passive(syn: str, ack: str = ". nxt ack snd", *options: Step) -> Program:
    """A connection that the peer opened, `options` set on the listener."""
    return [
        ("socket", "l", "tcp"),
        ("setsockopt", "l", 1, 2, i32(1)),
        ("bind", "l", sa(HOST, 80)),
        *options,
        ("listen", "l", 5),
        ("peer", "p", 80),
        ("<", "p", f"S 0 {syn}"),
        ("<", "p", ack),
        ("accept", "l", "s"),
    ]


def active(synack: str, *options: Step) -> Program:
    """A connection to the peer, `options` set before."""
    opened: Program = [("socket", "s", "tcp"), ("target", "p", 7001), *options, ("connect", "s", sa(PEER, 7001))]
    return [*opened, ("<", "p", f"S. 0 ack snd {synack}")]


def send(size: int, flags: int = 0) -> Step:
    return ("send", "s", bytes(size), DONTWAIT | flags)


def recv(size: int, flags: int = 0) -> Step:
    return ("recv", "s", size, DONTWAIT | flags)


def peer(line: str) -> Step:
    return ("<", "p", line)


PLAIN = "<mss 1460,sackOK,nop,ws 7>"
CLAMP = ("setsockopt", "l", 6, 10, i32(1000))  # TCP_WINDOW_CLAMP
CASES: dict[str, Program] = {
    "two challenges of a request are one too many": [
        *passive(PLAIN)[:-2], COUNT, peer("R nxt+10"), peer("R nxt+10"), COUNTERS,
    ],
    "a request's challenge is limited by whatever else was answered, data or not": [
        *passive(PLAIN, "W. nxt-10 ack snd")[:-1], COUNT, peer("R. edge(1448) ack una"), COUNTERS,
    ],
    "segments in a row, read one by one": [
        *passive(PLAIN), COUNT, *[step for _ in range(20) for step in (peer("P. nxt(1000) ack snd"), recv(2000))], COUNTERS, INFO,
    ],
    "segments in a row, not read": [
        *passive(PLAIN), COUNT, *[peer("P. nxt(1000) ack snd")] * 10, COUNTERS,
        *[peer("P. nxt(10) ack snd")] * 10, COUNTERS, INFO,
    ],
    "what they are charged": [
        *passive(PLAIN),
        *[step for n in (1, 10, 100, 500, 1448) for step in (peer(f"P. nxt({n}) ack snd"), ("getsockopt", "s", 1, 55, 4))],
    ],
    "MSG_TRUNC throws away": [*active(PLAIN), peer("P. nxt(100) ack snd"), recv(1, 0x20), recv(100)],
    "what waited in small pieces goes in larger ones": [
        *active("win 1 <sackOK,TS 100 ecr last>"), send(1460), peer("P. edge-1(10) ack snd win 500 <nop,nop,TS 121 ecr last>"),
    ],
    "a corked write goes when data comes and memory is short": [
        *passive(PLAIN), send(3000, 0x8000), peer("P. nxt(1000) ack snd"), INFO,
    ],
    "an error while connecting is told in the queue of errors too": [
        *active("")[:-1], peer("icmp 3 3"), recv(100), ("poll", "s"), ("getsockopt", "s", 1, 4, 4),
    ],
    "a filled hole is a DSACK of what was there": [
        *passive(PLAIN), peer("P. nxt+1(100) ack snd"), peer("P. nxt(1460) ack snd"),
    ],
    "a DSACK lasts until data comes": [
        *active("<mss 536,sackOK,nop,ws 1>"), peer("P. nxt(1400) ack snd"), peer("P. 1401(1) ack snd"),
        peer("P. 1401(1000) ack snd"), peer("P. nxt+1000(1448) ack snd"),
    ],
    "the urgent byte of a segment that begins behind it": [
        *passive(PLAIN), peer("U. nxt+1000 ack una urg 2000"), peer("P. nxt+3000(1448) ack una"), ("poll", "s"),
    ],
    "an ACK beyond what is expected moves the window's number": [
        *passive("<mss 1460,sackOK>"), peer(". edge-1 ack snd"), peer("P. nxt(1448) ack snd"), peer(". nxt ack snd win 1"), INFO,
    ],
    "a duplicate uses up no quick ACK": [
        *passive("<mss 1460,sackOK,nop,ws 7>", ". nxt ack snd", CLAMP), peer("P. nxt(10) ack snd"), peer("P. nxt-10(10) ack snd"),
        peer("P. nxt(1) ack snd"), INFO,
    ],
    "more than the window is not taken while something waits": [
        *passive(PLAIN, ". nxt ack snd", CLAMP), peer("P. nxt(1) ack snd"), peer("P. nxt(1460) ack snd"), INFO,
    ],
    "more than the window is taken by who has nothing": [
        *passive(PLAIN, ". nxt ack snd", CLAMP), peer("P. nxt(1460) ack snd"), INFO,
    ],
    "a SYN with FIN ends TIME_WAIT and leaves no number behind": [
        *passive("<mss 1000,sackOK,nop,ws 15>"), ("shutdown", "s", 1), peer("F. nxt ack snd"), peer("SF edge-1 <mss 1460>"),
        peer("S nxt+3000 <mss 1460,sackOK>"),
    ],
    "an ACK out of TIME_WAIT is not ECN-capable": [
        *passive(PLAIN)[:6], peer(f"SEW 0 {PLAIN}"), peer(". nxt ack snd"), ("accept", "l", "s"), send(1000), ("shutdown", "s", 1),
        peer("F. nxt ack snd"), peer("P. nxt(500) ack snd"),
    ],
    "a part of a segment that the path made too large": [
        *active("<mss 1000,nop,ws 7>"), send(500), send(1448), peer("icmp 3 4 rest 1000"), peer(". nxt+3000 ack una+100"), INFO,
    ],
    "the path becomes narrow twice": [
        *passive("<mss 1000,TS 100 ecr last,nop,ws 7>", ". nxt ack snd <nop,nop,TS 101 ecr last>"), send(2000),
        peer("icmp 3 4 rest 576"), peer("icmp 3 4 rest 0"),
    ],
    "a delayed ACK comes in time": [*passive(PLAIN), *[peer("P. nxt(1000) ack snd"), recv(2000)] * 17, ("sleep", "", 60)],
    "a FIN is acknowledged with the next tick": [*passive(PLAIN), peer("F. nxt ack snd"), ("sleep", "", 10), ("poll", "s")],
    "a look at what is there tells of a wider window too": [
        *active("win 1000 <mss 40,sackOK,TS 100 ecr last,nop,ws 15>", ("setsockopt", "s", 6, 10, i32(1000))),
        ("setsockopt", "s", 1, 7, i32(400_000)), send(9000), peer(". nxt ack snd <nop,nop,TS 111 ecr last>"),
        peer(". nxt ack snd win 1 <nop,nop,TS 112 ecr last>"), peer("P. nxt(1) ack snd <nop,nop,TS 112 ecr last>"),
        peer(". nxt ack snd <nop,nop,TS 113 ecr last>"), recv(1000, 0x20),
        peer("P. nxt(1448) ack snd win 65535 <nop,nop,TS 114 ecr last>"), recv(100, 2), INFO,
    ],
    "a FIN right behind data that is out of order lets the window grow": [
        *passive("<mss 1460,sackOK>"), peer("P. nxt+1000(1000) ack snd"), peer("F. nxt+2000 ack snd"), INFO,
    ],
    "what a window holds beside SACK blocks is less than a segment of the usual size": [
        *active("win 0 <mss 40,sackOK,TS 100 ecr last,nop,ws 0>", ("setsockopt", "s", 1, 7, i32(400_000))), send(3000),
        peer(". edge ack una <nop,nop,TS 102 ecr last>"), peer("P. nxt-1(10) ack snd win 65535 <nop,nop,TS 122 ecr last>"),
        peer("F. nxt+1 ack una+100 win 500 <nop,nop,TS 123 ecr last>"), INFO,
    ],
    "the destination of an ICMP message": [
        ("peer", "p", 9), ("socket", "s", "rawicmp"), ("setsockopt", "s", 0, 20, i32(1)), peer("echo 7 1 (100)"),
        ("recv", "s", 3, DONTWAIT, 0), ("recv", "s", 3, DONTWAIT, 256),
    ],
}  # fmt: skip


def all_programs() -> dict[str, Program]:
    return CASES
