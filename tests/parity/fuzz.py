"""The differential fuzzer: random programs of system calls and incoming packets, on the running kernel and on afinet.

    python -m tests.parity.fuzz --seconds N --seed S [--only tcp|calls|datagrams] [--first N]

Each program is a function of the seed and its number (`--first` begins there). Where the two differ, the program is cut down to the
steps that it takes, and printed as a case that can be pasted into found_cases.py. A kernel's answer may depend on where its clock
ticks: what differs is put to it again, and a divergence is what never agrees. afinet must neither raise nor warn, nor, every
PER_KERNEL programs, have left anything behind. The closing line says how many programs ran, how long, and how many diverged.

tcp: one connection with a played peer, opened from either side, and then segments right and wrong, calls and options in any order.
calls: TCP sockets among each other on the loopback. datagrams: UDP, ping and raw sockets, among each other and with
packets of a peer.

Left out of the draw is what docs/differences.md says, and what hangs on microseconds: SACK blocks, whose retransmissions RACK
decides by comparing times, and path MTU news on connections that have SACK. Reno's duplicate ACKs are in.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
import traceback
from typing import Any

from tests import leaks
from tests.parity.afinet_calls import AfinetCalls
from tests.parity.datagram_programs import LO, LO2, PAYLOAD, SIOCINQ, V0, V1, on
from tests.parity.linux_calls import LinuxCalls
from tests.parity.packets import HOST, PEER
from tests.parity.programs import AF_UNSPEC, Program, Step, cmsg, has_timers, i32, run_program, sa

PER_KERNEL = 200
RCV_SPACE = re.compile(r", rcv_space \d+")
WAITS_MS = (0, 0, 1, 3, 3, 10, 20, 50)  # how often, and how patiently, Linux is asked before its answer counts as different
DONTWAIT = 0x40


# -- datagrams -------------------------------------------------------------------------------------------------------------

HOSTS = (LO, LO2, V0, V1, "0.0.0.0", "10.9.0.255", "224.1.1.1", "8.8.8.8", "255.255.255.255")
OPTIONS = ((1, 2), (1, 15), (1, 6), (0, 8), (0, 11), (0, 12), (1, 45), (1, 5), (17, 1), (0, 10), (1, 42), (0, 49), (0, 13), (0, 20))
FLAGS = (0, 0, 0, 0, 1, 4, 0x8000, 0x800, 0x10)


def datagram_step(rng: random.Random, slot: str, kind: str) -> Program:
    hosts = (PEER, HOST) if rng.random() < 0.3 else HOSTS[:5] if rng.random() < 0.8 else HOSTS
    address = sa(rng.choice(hosts), rng.choice((5001, 5002, 5003, 0)))
    what = rng.randrange(17)
    if what == 0:
        return [("bind", slot, address)]
    if what == 1:
        return [("connect", slot, address if rng.random() < 0.8 else sa("0.0.0.0", 0, AF_UNSPEC))]
    if what < 6:
        data = PAYLOAD[kind] if rng.random() < 0.8 else PAYLOAD[kind][: rng.randrange(9)]
        to = address if rng.random() < 0.6 else b""
        control = cmsg(0, 2, i32(rng.choice((0, 1, 64, 256)))) if rng.random() < 0.1 else b""
        return [("send", slot, data, rng.choice(FLAGS), to, control)]
    if what < 9:
        flags = DONTWAIT | rng.choice((0, 0, 2, 0x20, 0x2000, 1))
        return [("recv", slot, rng.choice((0, 3, 100)), flags, rng.choice((0, 256)))]
    if what == 9:
        return [("shutdown", slot, rng.choice((0, 1, 2)))] if rng.random() < 0.4 else [("poll", slot)]
    if what == 10:
        # Of what is no UDP, the port that IP_RECVORIGDSTADDR tells is part of a checksum.
        level, name = rng.choice(OPTIONS if kind == "udp" else OPTIONS[:-1])
        return [on(slot, level, name, rng.choice((0, 1, 2)))]
    if what == 11:
        return [("getsockname", slot), ("getpeername", slot)]
    if what == 12:
        return [("getsockopt", slot, 1, 4, 4), ("ioctl", slot, SIOCINQ)]
    if what == 13 and rng.random() < 0.3:
        return [("setsockopt", slot, 1, 25, rng.choice((b"lo", b"v0", b"t0", b"")))]
    if what >= 14:
        size = rng.choice((0, 1, 10, 100, 1400))
        line = rng.choice(
            (
                f"udp {rng.choice((5001, 5002))}>{rng.choice((5001, 5002, 5003, 9))} ({size})",
                f"udp {rng.choice((5001, 5002))}>{rng.choice((5001, 5002, 5003, 9))} ({size})",
                f"icmp 3 {rng.choice((0, 1, 2, 3, 4, 5, 9, 13, 14, 15))} rest {rng.choice((0, 68, 576, 1400))}",
                f"icmp {rng.choice((11, 12, 4, 5))} {rng.choice((0, 1))} rest {rng.choice((0, 20 << 24))}",
                f"echo 7 1 ({size})",
                f"echoreply 7 1 ({size})",
                f"ip {rng.choice((253, 254, 1))} ({size})",
            )
        )
        return [("<", "p", line)]
    return [("poll", slot)]


def datagrams(rng: random.Random) -> Program:
    kinds = {slot: rng.choice(("udp", "udp", "udp", "ping", "rawicmp", "raw253", "rawudp")) for slot in "abc"}
    program: Program = [("peer", "p", 9), *[("socket", slot, kind, int(slot == "c")) for slot, kind in kinds.items()]]
    for _ in range(rng.randrange(4, 25)):
        slot = rng.choice("aabbc")
        program += datagram_step(rng, slot, kinds[slot])
    return program


# -- TCP -------------------------------------------------------------------------------------------------------------------

SETTABLE: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (1, 8, (60000, 200000)),  # SO_RCVBUF
    (1, 9, (0, 1)),  # SO_KEEPALIVE
    (1, 10, (0, 1)),  # SO_OOBINLINE
    (1, 18, (1, 10, 1000)),  # SO_RCVLOWAT
    (1, 42, (0, 5, -1)),  # SO_PEEK_OFF
    (6, 1, (0, 1)),  # TCP_NODELAY
    (6, 2, (88, 500, 1000)),  # TCP_MAXSEG
    (6, 3, (0, 1)),  # TCP_CORK
    (6, 8, (-1, 0, 60)),  # TCP_LINGER2
    (6, 9, (0, 1, 5)),  # TCP_DEFER_ACCEPT
    (6, 10, (0, 1000, 5000, 65535)),  # TCP_WINDOW_CLAMP
    (6, 12, (0, 1, 2)),  # TCP_QUICKACK
    (6, 18, (0, 1000)),  # TCP_USER_TIMEOUT
    (6, 25, (1, 1000)),  # TCP_NOTSENT_LOWAT
    (0, 1, (0, 16, 0x20)),  # IP_TOS
    (0, 2, (1, 64, 255)),  # IP_TTL
    (0, 11, (0, 1)),  # IP_RECVERR
)
READABLE = ((1, 4, 4), (1, 8, 4), (1, 18, 4), (6, 2, 4), (6, 10, 4), (6, 12, 4), (0, 14, 4))
SEQUENCES = ("nxt", "nxt", "nxt", "nxt", "nxt", "nxt-1", "nxt-10", "nxt+1", "nxt+10", "nxt+1000", "nxt+3000", "edge", "edge-1")
ACKS = (*("snd",) * 6, "una", "una", "una+1", "una+100", "una+1000", "una-1", "snd-1", "snd+1", "una-100000")
KINDS = (*(".", "P.") * 4, "F.", "FP.", "R", "R.", "S", "S.", "-", "P", "F", "SF", "U.", "PU.", "E.", "W.", "SEW")
BAD_OPTIONS = ("raw 00", "raw 0200", "raw 0204", "raw ff", "raw fd04abcd", "raw 0101", "raw 0504", "mss 500")
SIZES = (1, 1, 5, 10, 100, 500, 1000, 1400, 1448, 1460)
WINDOWS = (65535, 65535, 65535, 1000, 500, 100, 1, 0)


def ground(slot: str) -> Program:
    """What every socket of TCP begins with: a send buffer that is seldom full, and no care for what earlier programs left."""
    return [("setsockopt", slot, 1, 7, i32(400_000)), ("setsockopt", slot, 1, 2, i32(1))]


class Tcp:
    """One program with a played peer."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tsval = 100
        self.ts = rng.random() < 0.6
        self.sack = rng.random() < 0.7

    def syn_options(self) -> str:
        rng = self.rng
        parts = []
        if rng.random() < 0.9:
            parts.append(f"mss {rng.choice((1460, 1460, 1460, 1000, 536, 100, 40, 0))}")
        if self.sack:
            parts.append("sackOK")
        if self.ts:
            parts.append(f"TS {self.tsval} ecr last")
        if rng.random() < 0.7:
            parts.append(f"nop,ws {rng.choice((0, 1, 7, 7, 7, 14, 15))}")
        return f" <{','.join(parts)}>" if parts else ""

    def options(self) -> str:
        rng = self.rng
        parts = []
        if self.ts and rng.random() < 0.95:
            self.tsval += rng.choice((0, 0, 1, 1, 1, 10))
            val = self.tsval + (rng.choice((-50, -1, 1 << 20)) if rng.random() < 0.05 else 0)
            parts.append(f"nop,nop,TS {val} ecr {'last' if rng.random() < 0.9 else rng.choice(('0', 'last-1', 'last+5'))}")
        if rng.random() < 0.03:
            parts.append(rng.choice(BAD_OPTIONS))
        return f" <{','.join(parts)}>" if parts else ""

    def segment(self, plain: bool = False) -> Step:
        rng = self.rng
        if rng.random() < 0.06:
            code = rng.choice((0, 1, 2, 3, 5, 9, 13) if self.sack else (0, 1, 2, 3, 4, 4, 4, 5, 9, 13))
            return ("<", "p", f"icmp 3 {code} rest {rng.choice((68, 576, 576, 1000, 1400, 1500, 0))}")
        kind = rng.choice(("P.", ".") if plain else KINDS)
        options = self.syn_options() if "S" in kind else self.options()
        size = rng.choice(SIZES) if "P" in kind or rng.random() < 0.1 else 0
        line = f"{kind} {'nxt' if plain else rng.choice(SEQUENCES)}" + (f"({size})" if size else "")
        if "." in kind:
            line += f" ack {'snd' if plain else rng.choice(ACKS)}"
        if rng.random() < 0.4:
            line += f" win {rng.choice(WINDOWS)}"
        if "U" in kind:
            line += f" urg {rng.choice((0, 1, 1, 2, 5, 100, 2000))}"
        return ("<", "p", line + options)

    def call(self, slot: str) -> Step:
        rng = self.rng
        what = rng.randrange(16)
        if what < 4:
            data = bytes(rng.choice((1, 1, 10, 100, 500, 1000, 1448, 1460, 2000, 3000, 5000, 9000)))
            return ("send", slot, data, DONTWAIT | rng.choice((0, 0, 0, 0, 0x8000, 1, 0x80, 0x4000)))
        if what < 8:
            return ("recv", slot, rng.choice((1, 5, 100, 1000, 20000)), DONTWAIT | rng.choice((0, 0, 0, 0, 2, 1, 0x20, 3, 0x2000)))
        if what == 8:
            return ("shutdown", slot, rng.choice((0, 1, 1, 2)))
        if what == 9:
            return ("close", slot) if rng.random() < 0.4 else ("poll", slot)
        if what == 10:
            level, name, values = rng.choice(SETTABLE)
            return ("setsockopt", slot, level, name, i32(rng.choice(values)))
        if what == 11:
            if rng.random() < 0.5:
                return ("setsockopt", slot, 1, 13, i32(rng.choice((0, 1))) + i32(0))
            return ("getsockopt", slot, *rng.choice(READABLE))
        if what == 12:
            return ("ioctl", slot, rng.choice((0x541B, 0x5411, 0x8905, 0x894B)))
        if what == 13:
            return rng.choice((("accept", "l", "s"), ("getpeername", slot), ("getsockname", slot), ("listen", slot, 1)))
        if what == 14 and rng.random() < 0.2:
            return ("connect", slot, rng.choice((sa(PEER, 7001), sa("0.0.0.0", 0, AF_UNSPEC))))
        return rng.choice((("info", slot), ("poll", slot)))

    def program(self) -> Program:
        rng = self.rng
        steps: Program = []
        if rng.random() < 0.5:
            steps += [("socket", "l", "tcp"), *ground("l"), ("bind", "l", sa(HOST, 80))]
            for _ in range(rng.choice((0, 0, 1, 2))):
                level, name, values = rng.choice(SETTABLE)
                steps.append(("setsockopt", "l", level, name, i32(rng.choice(values))))
            steps += [("listen", "l", rng.choice((0, 1, 5))), ("peer", "p", 80), ("count", "")]
            steps.append(("<", "p", f"S{'EW' if rng.random() < 0.1 else ''} 0 win {rng.choice(WINDOWS)}{self.syn_options()}"))
            if rng.random() < 0.9:
                steps += [("<", "p", f". nxt ack snd win {rng.choice(WINDOWS)}{self.options()}"), ("accept", "l", "s")]
        else:
            steps += [("socket", "s", "tcp"), *ground("s"), ("target", "p", 7001)]
            for _ in range(rng.choice((0, 0, 1, 2))):
                level, name, values = rng.choice(SETTABLE)
                steps.append(("setsockopt", "s", level, name, i32(rng.choice(values))))
            steps += [("count", ""), ("connect", "s", sa(PEER, 7001))]
            if rng.random() < 0.9:
                steps.append(("<", "p", f"S. 0 ack snd win {rng.choice(WINDOWS)}{self.syn_options()}"))
        # Some programs are mostly sane, and get far; some are not.
        sane = rng.choice((0.0, 0.5, 0.9))
        for _ in range(rng.randrange(2, 22)):
            steps.append(self.segment(rng.random() < sane) if rng.random() < 0.55 else self.call("s"))
        return [*steps, ("poll", "s"), ("info", "s"), ("counters", "")]


def tcp(rng: random.Random) -> Program:
    return Tcp(rng).program()


def calls(rng: random.Random) -> Program:
    """Sockets of TCP among each other."""
    maker = Tcp(rng)
    steps: Program = [step for slot in "lab" for step in [("socket", slot, "tcp"), *ground(slot)]]
    if rng.random() < 0.8:
        steps += [("bind", "l", sa(LO, 6001)), ("listen", "l", rng.choice((0, 1, 5)))]
    if rng.random() < 0.7:
        steps += [("connect", "a", sa(LO, 6001)), ("accept", "l", "s")]
    for _ in range(rng.randrange(3, 20)):
        slot = rng.choice("aaabsssl")
        what = rng.random()
        if what < 0.08:
            steps.append(("connect", slot, rng.choice((sa(LO, 6001), sa(LO, 6002), sa(LO, 6009), sa("0.0.0.0", 0, AF_UNSPEC)))))
        elif what < 0.12:
            steps.append(("bind", slot, rng.choice((sa(LO, 6001), sa(LO, 6002), sa("0.0.0.0", 6002), sa(LO, 0)))))
        elif what < 0.15:
            steps.append(("listen", slot, rng.choice((0, 1, 5))))
        else:
            step = maker.call(slot)
            # What a segment on the loopback is charged, and so the windows and sizes, depends on the kernel's configuration.
            steps.append(step if step[0] not in ("connect", "info", "getsockopt") else ("poll", slot))
    return [*steps, *[("poll", slot) for slot in "asl"]]


KIND = {"tcp": tcp, "calls": calls, "datagrams": datagrams}


def program_of(seed: int, number: int, only: str) -> tuple[str, Program]:
    rng = random.Random(f"{seed}/{number}")
    kind = only or rng.choice(("tcp", "tcp", "tcp", "tcp", "calls", "datagrams"))
    return kind, KIND[kind](rng)


# -- both sides ------------------------------------------------------------------------------------------------------------


def plain(program: Program, results: list[Any]) -> list[Any]:
    """Without what a raw or ping socket shows of other socks' ports and identifiers, or the error queue of a quoted segment; and
    without a count that docs/differences.md says about FINs."""
    fins = any(step[0] == "<" and "F" in step[2].partition(" ")[0] for step in program)
    kinds = {s[1]: s[2] for s in program if s[0] == "socket"}
    out = []
    for s, result in zip(program, results, strict=True):
        if s[0] == "recv" and isinstance(result, list) and len(result) == 5 and kinds.get(s[1], "tcp") not in ("udp", "tcp"):
            shown = 0 if s[3] & 0x2000 else 4 if kinds[s[1]] == "ping" else 40
            result = [result[0], result[1][:shown], *result[2:]]
        elif s[0] == "recv" and isinstance(result, list) and len(result) == 5 and s[3] & 0x2001 and kinds.get(s[1], "tcp") == "tcp":
            result = [result[0], "", *result[2:]]  # of a quoted segment, or an urgent byte out of a header
        elif fins and s[0] == "counters":
            shown_counters = result[0] if isinstance(result, list) else result
            shown_counters.pop("TcpExtTCPRcvCoalesce", None)
        elif s[0] == "info" and isinstance(result, str):
            result = RCV_SPACE.sub("", result)  # begins anew with a round trip
        out.append(result)
    return out


class Both:
    def __init__(self) -> None:
        self.linux = LinuxCalls(0)
        self.linux_seconds = 0.0
        self.kernels = 0
        self.fresh()

    def fresh(self) -> None:
        leaks.watched.active = True
        leaks.watched.kernels = []
        self.afinet = AfinetCalls(0)

    def ask_afinet(self, program: Program) -> list[Any]:
        try:
            ours = json.loads(json.dumps(run_program(self.afinet, program)))
        except Exception:
            self.fresh()
            return ["RAISED " + traceback.format_exc(limit=-3)]
        if self.afinet.kernel.warned:
            warned = f"WARN {self.afinet.kernel.warned}"
            self.fresh()
            return [warned]
        return plain(program, ours)

    def differ(self, program: Program) -> tuple[list[Any], list[Any]] | None:
        """(afinet's answers, Linux's) if they never agree."""
        ours = self.ask_afinet(program)
        theirs: list[Any] = []
        for wait_ms in WAITS_MS:
            time.sleep(wait_ms / 100)  # a machine that has too much to do lets its softirqs wait
            self.linux.wait_ms = 0 if has_timers(program) else wait_ms
            since = time.monotonic()
            theirs = plain(program, json.loads(json.dumps(run_program(self.linux, program))))
            self.linux_seconds += time.monotonic() - since
            if ours == theirs:
                return None
        return ours, theirs

    def leftover(self) -> list[str]:
        """What this Kernel has left behind; then there is a new one."""
        left = leaks.close_and_check(leaks.watched.kernels)
        self.fresh()
        return left


def minimised(both: Both, program: Program) -> Program:
    """As few steps as still differ."""
    at = len(program) - 1
    while at >= 0:
        step = program[at]
        if step[0] not in ("peer", "target", "count", "counters") and step not in ground(step[1]):
            shorter = program[:at] + program[at + 1 :]
            if both.differ(shorter) is not None:
                program = shorter
        at -= 1
        at = min(at, len(program) - 1)
    without = [step for step in program if step[0] not in ("count", "counters")]
    return without if both.differ(without) is not None else program


def show_step(step: Step) -> str:
    """The step as Python, long data as what makes it."""
    shown = [f"bytes({len(a)})" if isinstance(a, bytes) and len(a) > 32 and not any(a) else repr(a) for a in step]
    return f"({', '.join(shown)})"


def show(name: str, program: Program, ours: list[Any], theirs: list[Any]) -> str:
    lines = [f'    "{name}": [', *[f"        {show_step(step)}," for step in program], "    ],"]
    if len(ours) != len(theirs):
        return "\n".join([*lines, f"# afinet {ours}"])
    for step, mine, linux in zip(program, ours, theirs, strict=True):
        if mine != linux:
            if isinstance(mine, dict) and isinstance(linux, dict):
                names = [n for n in {**linux, **mine} if mine.get(n) != linux.get(n)]
                mine, linux = {n: mine.get(n, 0) for n in names}, {n: linux.get(n, 0) for n in names}
            lines += [f"# {show_step(step)}", f"#   afinet {mine!r}", f"#   Linux  {linux!r}"]
            break
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity.fuzz")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, metavar="N")
    parser.add_argument("--only", choices=[*KIND, ""], default="")
    parser.add_argument("--stop", type=int, default=1, metavar="N", help="stop at the Nth divergence; 0: never")
    args = parser.parse_args()
    both = Both()
    start = time.monotonic()
    number = args.first
    diverged = 0
    while time.monotonic() - start < args.seconds:
        kind, program = program_of(args.seed, number, args.only)
        if both.differ(program) is not None:
            shorter = minimised(both, program)
            again = both.differ(shorter)
            if again is not None:
                diverged += 1
                print(show(f"{kind} {args.seed}/{number}", shorter, *again), flush=True)
        number += 1
        if number % PER_KERNEL == 0:
            left = both.leftover()
            if left:
                diverged += 1
                print(f"# left behind by programs {number - PER_KERNEL} to {number - 1}: {left}", flush=True)
        if args.stop and diverged >= args.stop:
            break
    ran = number - args.first
    print(f"{ran} programs in {time.monotonic() - start:.0f} s ({both.linux_seconds:.0f} s in the kernel), {diverged} diverged")
    return 1 if diverged else 0


if __name__ == "__main__":
    sys.exit(main())
