"""Random programs of datagram system calls, a function of AFINET_FUZZ_SEED and AFINET_FUZZ_COUNT, on Linux and on afinet.

`python -m tests.parity.fuzz_datagrams` prints the first steps that differ. Needs root."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import Any

from tests.parity.datagram_programs import LO, LO2, PAYLOAD, SIOCINQ, V0, V1, on
from tests.parity.programs import AF_UNSPEC, Program, cmsg, i32, sa

HOSTS = (LO, LO2, V0, V1, "0.0.0.0", "10.9.0.255", "224.1.1.1", "8.8.8.8", "255.255.255.255")
OPTIONS = ((1, 2), (1, 15), (1, 6), (0, 8), (0, 11), (0, 12), (1, 45), (1, 5), (17, 1), (0, 10), (1, 42), (0, 49))
FLAGS = (0, 0, 0, 0, 1, 4, 0x8000, 0x800, 0x10)


def step(rng: random.Random, slot: str, kind: str) -> Program:
    address = sa(rng.choice(HOSTS[:5] if rng.random() < 0.8 else HOSTS), rng.choice((5001, 5002, 5003, 0)))
    what = rng.randrange(14)
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
        return [("recv", slot, rng.choice((0, 3, 100)), 0x40 | rng.choice((0, 0, 2, 0x20, 0x2000, 1)), rng.choice((0, 256)))]
    if what == 9:
        return [("shutdown", slot, rng.choice((0, 1, 2)))] if rng.random() < 0.4 else [("poll", slot)]
    if what == 10:
        level, name = rng.choice(OPTIONS)
        return [on(slot, level, name, rng.choice((0, 1, 2)))]
    if what == 11:
        return [("getsockname", slot), ("getpeername", slot)]
    if what == 12:
        return [("getsockopt", slot, 1, 4, 4), ("ioctl", slot, SIOCINQ)]
    if rng.random() < 0.3:
        return [("setsockopt", slot, 1, 25, rng.choice((b"lo", b"v0", b"")))]
    return [("poll", slot)]


def all_programs() -> dict[str, Program]:
    rng = random.Random(int(os.environ.get("AFINET_FUZZ_SEED", "1")))
    out: dict[str, Program] = {}
    for i in range(int(os.environ.get("AFINET_FUZZ_COUNT", "1000"))):
        kinds = {slot: rng.choice(("udp", "udp", "udp", "ping", "rawicmp", "raw253", "rawudp")) for slot in "abc"}
        program: Program = [("socket", slot, kind, int(slot == "c")) for slot, kind in kinds.items()]
        for _ in range(rng.randrange(4, 25)):
            slot = rng.choice("aabbc")
            program += step(rng, slot, kinds[slot])
        out[f"fuzz {i}"] = program
    return out


def plain(program: Program, results: list[Any]) -> list[Any]:
    """Without what a raw or ping socket shows of other socks' ports and identifiers."""
    kinds = {s[1]: s[2] for s in program if s[0] == "socket"}
    out = []
    for s, result in zip(program, results, strict=True):
        if s[0] == "recv" and isinstance(result, list) and kinds[s[1]] != "udp":
            shown = 0 if s[3] & 0x2000 else 4 if kinds[s[1]] == "ping" else 40
            result = [result[0], result[1][:shown], *result[2:]]
        out.append(result)
    return out


def main() -> int:
    from tests.parity.afinet_calls import AfinetCalls
    from tests.parity.programs import run_program

    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.linux_oracle", "tests.parity.fuzz_datagrams", "all_programs", "1"],
        capture_output=True,
        check=True,
    )
    linux = json.loads(done.stdout)
    calls = AfinetCalls()
    wrong = 0
    for name, program in all_programs().items():
        mine = plain(program, json.loads(json.dumps(run_program(calls, program))))
        for at, (a, b) in enumerate(zip(mine, plain(program, linux[name]), strict=True)):
            if a != b:
                wrong += 1
                print(f"{name} step {at} {program[at]}: afinet {a!r}, Linux {b!r}")
                for line in program[: at + 1] if wrong <= 3 else []:
                    print("   ", line)
                break
    print(f"{len(linux)} programs, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
