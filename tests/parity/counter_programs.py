"""By how much the counters of /proc/net/snmp and netstat grow while a parity program runs, in both namespaces: the programs of
datagram_programs.py and the TCP ones of socket_programs.py, on the kernel (linux_oracle.py) and on afinet (test_counters.py)."""

from __future__ import annotations

import os
import time
from pathlib import Path

from afinet.net.ipv4.proc import snmp_counters
from tests.parity import programs
from tests.parity.afinet_calls import NSEC_PER_MSEC, AfinetCalls
from tests.parity.datagram_programs import kept_programs
from tests.parity.linux_calls import LinuxCalls
from tests.parity.programs import Calls, Program
from tests.parity.socket_programs import tcp_programs

SETTLE_MS = 6
# They depend on when a timer fires or on what ran before: the end of TIME_WAIT.
APART = ("TcpExtTW", "TcpExtTWRecycled", "TcpExtTWKilled", "TcpExtDelayedACKs", "TcpExtDelayedACKLocked")

RACES = ("multicast", "groups", "tcp shut-wr", "tcp shut-rdwr", "tcp peer-gone")


def all_programs() -> dict[str, Program]:
    """Without those whose packets are a race: when a report of a group goes out (what it says is compared in test_multicast.py),
    whether the delayed ACK of a FIN comes before the program ends."""
    found = {f"datagram: {name}": program for name, program in kept_programs().items()}
    found.update({f"tcp: {name}": program for name, program in tcp_programs().items()})
    return {name: program for name, program in found.items() if not any(word in name.lower() for word in RACES)}


def read_counters() -> dict[str, int]:
    found: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        lines = Path("/proc/thread-self/net", name).read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            prefix, *keys = names.split()
            for key, value in zip(keys, values.split()[1:], strict=True):
                found[prefix.rstrip(":") + key] = int(value)
    return found


def counters(calls: Calls) -> list[dict[str, int]]:
    """Of each namespace, when everything has arrived."""
    if isinstance(calls, AfinetCalls):
        end = calls.kernel.now + SETTLE_MS * NSEC_PER_MSEC
        while calls.kernel.next_timer() <= end:
            calls.kernel.run(calls.kernel.next_timer())
        calls.kernel.run(end)
        return [snmp_counters(net) for net in calls.nets]
    assert isinstance(calls, LinuxCalls)
    time.sleep(SETTLE_MS / 1000)
    out: list[dict[str, int]] = []
    for ns in (1, 0):
        calls.namespaces.enter(ns)
        out.insert(0, read_counters())
    return out


def run_program(calls: Calls, program: Program) -> list[dict[str, int]]:
    """In namespaces of its own: ARP that fails or a report that is repeated seconds later would count for another program."""
    kernel: LinuxCalls | None = None
    if isinstance(calls, LinuxCalls):
        calls = kernel = LinuxCalls(calls.wait_ms)
    before = counters(calls)
    programs.run_program(calls, program)
    after = counters(calls)
    if kernel is not None:
        for fd in kernel.namespaces.fds:
            os.close(fd)
    return [growth(old, new) for old, new in zip(before, after, strict=True)]


def growth(old: dict[str, int], new: dict[str, int]) -> dict[str, int]:
    grown = {name: n - old.get(name, 0) for name, n in new.items() if name not in APART and not name.startswith("MPTcp")}
    return {name: n for name, n in grown.items() if n}
