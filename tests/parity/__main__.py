"""The oracle runs beside us: every parity case on the running kernel and on afinet, compared. `make parity`.

    python -m tests.parity [--only TEXT] [--show N]

--only takes the cases whose suite or name has TEXT in it. What differs is shown, the first N (20) in full; the closing line is
`N passed, N failed`. Needs root and Linux 6.18; all of it happens in network namespaces that end with the process.

A kernel's answer may depend on where its clock ticks: a delayed ACK of a FIN waits for the next tick, whenever that is. So a case
that differs is put to the kernel again, a few times; afinet's answer must be one that the kernel gives.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.parity import (
    datagram_programs,
    effect_programs,
    filter_cases,
    found_cases,
    ip_packets,
    ip_sends,
    option_cases,
    socket_programs,
    stamp_programs,
    tcp_segments,
    test_ip_packets,
    test_ip_sends,
)
from tests.parity.afinet_calls import AfinetCalls
from tests.parity.linux_calls import LinuxCalls
from tests.parity.programs import Program, has_timers, run_program

# How long the kernel gets, at each asking, for what is on its way to arrive.
WAITS_MS = (0, 0, 3, 3, 50)
PER_KERNEL = 500  # programs on one Kernel of afinet

Differ = dict[str, list[str]]


def as_json(answer: Any) -> Any:
    return json.loads(json.dumps(answer))


def differing(linux: LinuxCalls, programs: dict[str, Program]) -> Differ:
    """The programs that Linux and afinet answer differently, and how, a step a line."""
    differ: Differ = {}
    calls = AfinetCalls(0)
    for i, (name, program) in enumerate(programs.items()):
        if i % PER_KERNEL == 0:
            calls = AfinetCalls(0)
        ours = as_json(run_program(calls, program))
        theirs: list[Any] = []
        for wait_ms in WAITS_MS:
            time.sleep(wait_ms / 100)  # a machine that has too much to do lets its softirqs wait
            linux.wait_ms = 0 if has_timers(program) else wait_ms
            theirs = as_json(run_program(linux, program))
            if theirs == ours:
                break
        else:
            differ[name] = story(program, ours, theirs)
        if calls.kernel.warned:
            differ[name] = [f"WARN: {calls.kernel.warned}"]
            calls.kernel.warned.clear()
    return differ


def story(program: Program, ours: list[Any], theirs: list[Any]) -> list[str]:
    """The program as far as the first step that differs."""
    lines = []
    for step, mine, linux in zip(program, ours, theirs, strict=True):
        lines.append(f"{step!r},")
        if mine != linux:
            if isinstance(mine, dict) and isinstance(linux, dict):
                names = [n for n in {**linux, **mine} if mine.get(n) != linux.get(n)]
                mine, linux = {n: mine.get(n, 0) for n in names}, {n: linux.get(n, 0) for n in names}
            return [*lines, f"    afinet {mine!r}", f"    Linux  {linux!r}"]
    return lines


def compare_sends() -> tuple[int, Differ]:
    """tests/parity/ip_sends.py: a case a socket."""
    given = ip_sends.sends(test_ip_sends.SEED, test_ip_sends.COUNT)
    theirs = test_ip_sends.ask_linux()
    host = ip_sends.host()
    ours = [list(ip_sends.ask_afinet(host, what)) for what in given]
    pairs = enumerate(zip(given, ours, theirs, strict=True))
    return len(given), {f"send {i}": [f"{what}", f"    afinet {a}", f"    Linux  {b}"] for i, (what, a, b) in pairs if a != b}


def compare_packets() -> tuple[int, Differ]:
    """tests/parity/ip_packets.py: a case a packet, and one for the counters of each run."""
    count = 0
    differ: Differ = {}
    for run, sysctls in ip_packets.RUNS.items():
        given = ip_packets.packets(run, test_ip_packets.COUNT)
        theirs, counted = test_ip_packets.ask_linux(run)
        ours, counters = ip_packets.ask_afinet(sysctls, given)
        count += len(given) + 1
        for i, packet in enumerate(given):
            if ours[i] != theirs[i]:
                differ[f"{run}: packet {i}"] = [packet.hex(), f"    afinet {ours[i]}", f"    Linux  {theirs[i]}"]
        if counters != counted:
            differ[f"{run}: counters"] = [f"    afinet {counters}", f"    Linux  {counted}"]
    return count, differ


def compare_filters() -> tuple[int, Differ]:
    """tests/parity/filter_cases.py: a case a program of classic BPF with the packet that it is given."""
    cases = {name: insns for name, insns, _ in filter_cases.cases()}
    theirs = filter_cases.linux("cases")
    ours = filter_cases.run(AfinetCalls(), filter_cases.cases())
    differ = {
        name: [f"{cases[name][:20]}", f"    afinet {mine}", f"    Linux  {theirs[name]}"]
        for name, mine in ours.items()
        if mine != theirs[name]
    }
    return len(ours), differ


def option_programs() -> dict[str, Program]:
    """Without the options that afinet refuses, which docs/differences.md names (and test_option_cases.py checks)."""
    programs = option_cases.all_programs()
    return {name: steps for name, steps in programs.items() if option_cases.option_of(name) not in option_cases.REFUSED}


SUITES: dict[str, Callable[[], dict[str, Program]]] = {
    "sockets": socket_programs.all_programs,
    "options": option_programs,
    "found": found_cases.all_programs,
    "segments": tcp_segments.all_programs,
    "datagrams": datagram_programs.all_programs,
    "effects of options": effect_programs.all_programs,
    "time stamps and errors": stamp_programs.all_programs,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--show", type=int, default=20, metavar="N")
    args = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0 or not platform.release().startswith("6.18"):
        here = f"{platform.system()} {platform.release()}, user {os.geteuid()}"
        print(f"PARITY NOT CHECKED: needs root and Linux 6.18; this is {here}")
        return 1
    passed = failed = shown = 0

    def report(suite: str, count: int, differ: Differ, since: float) -> None:
        nonlocal passed, failed, shown
        passed += count - len(differ)
        failed += len(differ)
        print(f"{suite}: {count} cases, {len(differ)} differ, {time.monotonic() - since:.0f} s", flush=True)
        for name, lines in differ.items():
            shown += 1
            print("\n".join([f"  {suite}: {name}", *["    " + line for line in lines if shown <= args.show]]), flush=True)

    for suite, compare in (("packets", compare_packets), ("sends", compare_sends), ("filters", compare_filters)):
        if args.only in suite:
            since = time.monotonic()
            report(suite, *compare(), since)
    linux = LinuxCalls(0)
    for suite, all_programs in SUITES.items():
        since = time.monotonic()
        programs = {name: steps for name, steps in all_programs().items() if args.only in f"{suite}: {name}"}
        if programs:
            report(suite, len(programs), differing(linux, programs), since)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
