"""On a real wire: afinet over a TUN device, with the kernel as its peer, beside the kernel over a veth pair, in one run.

python -m benchmarks wire [--build compiled|interpreted] [--seconds S] [--repeat N] [--only WORK ...] [--json], as root: the network
namespaces are this run's own. `make bench-wire` does it.

Four columns. *kernel*: peers/driver.c against peers/server.c, in two namespaces with a veth pair between them. *kernel, Python*:
the driver against the programs of peers/programs.py, by the same Python. *compiled* and *interpreted*: the driver in a namespace
with a TUN device, against the same programs, unmodified, under `afinet up`. The driver is the kernel's TCP each time (Reno, which
every kernel allows in a namespace); the programs are plain blocking sockets, one thread. Each figure is the median of --repeat runs
of --seconds each, "longest" the longest of them; the columns take turns, so that a machine's mood falls on all of them.

    bulk in             MB/s (10^6) that the driver gets rid of: 128 KB writes, shutdown, until the program's own end comes back.
                        The program: recv_into() 256 KB
    bulk out            MB/s that the driver reads. The program: sendall() 128 KB
    plain in, plain out the same, one packet a call: TUN without offloads (afinet up --no-offload), the veth pair without tso, gso,
                        gro and tx. Every packet is of the MTU's size, 1500, with its checksum
    request/response    exchanges of 1 byte a second on one connection, TCP_NODELAY, driver and program pinned to the same CPU
    accepting           connections a second, one after the other: connect, shutdown, read to the end, close; the program is the
                        server. Driver and program pinned to the same CPU
    connecting          the same with the program as the client of peers/server.c
    idle                1,000 connections after 1,000 others, nothing sent for --seconds: CPU per cent of the program's process
                        (/proc/PID/task/*/schedstat), and how much its resident memory grew for each. The kernel's memory is
                        outside its processes: not shown
    signal in, out      ms from the kill() to the first line of the program's own handler of SIGINT, in the middle of bulk in or
                        out; the median and the longest of 20
"""

from __future__ import annotations

import argparse
import array
import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.wire_real.namespaces import Namespace, wait_for_line, why_not

PEERS = Path(__file__).resolve().parent / "peers"
KERNEL, PEER = "10.9.0.1", "10.9.0.2"  # the driver's address; that of what is measured
ECHO, SINK, SOURCE = 7, 9, 19
WARM, IDLE = 1000, 1000  # what the process had to spare is used up by the first
SIGNALS = 20

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO = 0x17, 0x1F, 0x24, 0x2C


class BenchError(Exception):
    """Why there is no figure. One line."""


def compile_peer(name: str, directory: Path) -> str:
    target = directory / name
    compiler = os.environ.get("CC", "cc")
    try:
        subprocess.run([compiler, "-O2", "-o", str(target), str(PEERS / f"{name}.c")], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise BenchError(f"no C compiler ({compiler}): the kernel's side of the measurements is written in C") from None
    except subprocess.CalledProcessError as e:
        raise BenchError(f"{name}.c does not compile: {e.stderr.splitlines()[0]}") from None
    return str(target)


def settle(ns: Namespace) -> None:
    """The same congestion control everywhere, and ports enough for connections that come and go."""
    values = {"tcp_congestion_control": "reno", "ip_local_port_range": "1025 65000", "tcp_tw_reuse": "1"}
    with ns.inside():
        for name, value in values.items():
            Path("/proc/sys/net/ipv4", name).write_text(value)


class Column:
    """One of the things that are compared: `start` runs a program, `driver` is the namespace in which the driver runs."""

    python = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.driver = Namespace()
        settle(self.driver)

    def start(self, what: list[str], plain: bool, cpu: int | None) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def close(self) -> None:
        self.driver.close()


class OnKernel(Column):
    """Two namespaces and a veth pair; the program is in the far one."""

    def __init__(self, name: str, server: str = "") -> None:
        super().__init__(name)
        self.server = server
        self.python = not server
        self.far = Namespace()
        settle(self.far)
        near, far = self.driver, self.far
        near.run("ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0")
        near.run("ip", "link", "set", "far0", "netns", f"/proc/{os.getpid()}/fd/{far.fd}")
        for ns, dev, address in ((near, "near0", KERNEL), (far, "far0", PEER)):
            ns.run("ip", "addr", "add", f"{address}/24", "dev", dev)
            ns.run("ip", "link", "set", dev, "up")

    def start(self, what: list[str], plain: bool, cpu: int | None) -> subprocess.Popen[bytes]:
        for ns, dev in ((self.driver, "near0"), (self.far, "far0")):
            with ns.inside():
                set_offloads(dev, not plain)
        return pin(self.far.start([self.server] if self.server else [sys.executable, str(PEERS / "programs.py"), *what]), cpu)

    def close(self) -> None:
        super().close()
        self.far.close()


class OnAfinet(Column):
    """One namespace; the program is behind its TUN device."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.env = dict(os.environ)
        self.env.pop("AFINET_PURE", None)
        if name == "interpreted":
            self.env["AFINET_PURE"] = "1"

    def start(self, what: list[str], plain: bool, cpu: int | None) -> subprocess.Popen[bytes]:
        options = ["--tun", "afi0", "--address", f"{PEER}/24", *(["--no-offload"] if plain else [])]
        return pin(self.driver.up(*options, "--", "python", str(PEERS / "programs.py"), *what, env=self.env), cpu)


def set_offloads(dev: str, on: bool) -> None:
    """ethtool -K DEV tx, tso, gso, gro on or off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for command in (ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO):
            value = array.array("I", [command, on])
            fcntl.ioctl(s, SIOCETHTOOL, struct.pack("16sP16x", dev.encode(), value.buffer_info()[0]))


def pin(process: subprocess.Popen[bytes], cpu: int | None) -> subprocess.Popen[bytes]:
    if cpu is not None:
        os.sched_setaffinity(process.pid, {cpu})
    return process


class Bench:
    def __init__(self, driver: str, server: str, seconds: float) -> None:
        self.driver = driver
        self.server = server
        self.seconds = seconds
        self.cpu = max(os.sched_getaffinity(0))

    @contextlib.contextmanager
    def program(self, column: Column, *what: str, plain: bool = False, cpu: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
        process = column.start(list(what), plain, cpu)
        try:
            if what[0] != "connect" or not column.python:
                wait_for_line(process, "ready")
            yield process
        finally:
            process.kill()
            process.communicate()

    def drive(self, column: Column, port: int, mode: str, value: float, cpu: int | None = None) -> subprocess.Popen[bytes]:
        command = [self.driver, PEER, str(port), mode, str(value)]
        return pin(column.driver.start(command, stdin=subprocess.PIPE), cpu)

    @staticmethod
    def answer(process: subprocess.Popen[bytes], within: float) -> dict[str, Any]:
        try:
            out, err = process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            process.kill()
            raise BenchError("it never ended") from None
        if process.returncode:
            raise BenchError(err.decode().strip().splitlines()[-1] if err.strip() else f"it ended with {process.returncode}")
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
        return answer

    def driven(self, column: Column, port: int, mode: str, cpu: int | None = None) -> dict[str, Any]:
        return self.answer(self.drive(column, port, mode, self.seconds, cpu), self.seconds + 60)

    # Each answers the figures of one run, by key.

    def bulk(self, column: Column, what: str, port: int, plain: bool) -> dict[str, float]:
        with self.program(column, what, plain=plain):
            got = self.driven(column, port, what)
        return {"MB/s": got["bytes"] / got["seconds"] / 1e6}

    def bulk_in(self, column: Column) -> dict[str, float]:
        return self.bulk(column, "sink", SINK, False)

    def bulk_out(self, column: Column) -> dict[str, float]:
        return self.bulk(column, "source", SOURCE, False)

    def plain_in(self, column: Column) -> dict[str, float]:
        return self.bulk(column, "sink", SINK, True)

    def plain_out(self, column: Column) -> dict[str, float]:
        return self.bulk(column, "source", SOURCE, True)

    def request_response(self, column: Column) -> dict[str, float]:
        with self.program(column, "echo", cpu=self.cpu):
            got = self.driven(column, ECHO, "rr", self.cpu)
        return {"a second": got["count"] / got["seconds"], "us, median": got["p50_us"], "us, 99 %": got["p99_us"]}

    def accepting(self, column: Column) -> dict[str, float]:
        with self.program(column, "accept", cpu=self.cpu):
            got = self.driven(column, ECHO, "crr", self.cpu)
        return {"a second": got["count"] / got["seconds"]}

    def connecting(self, column: Column) -> dict[str, float]:
        if not column.python:
            return self.accepting(column)  # the kernel's both ends, whichever way one looks
        server = pin(column.driver.start([self.server]), self.cpu)
        try:
            wait_for_line(server, "ready")
            process = column.start(["connect", KERNEL, str(self.seconds)], False, self.cpu)
            got = self.answer(process, self.seconds + 60)
        finally:
            server.kill()
            server.communicate()
        return {"a second": got["count"] / got["seconds"]}

    def idle(self, column: Column) -> dict[str, float]:
        with self.program(column, "idle", str(WARM + IDLE)) as process, contextlib.ExitStack() as stack:
            grown = [0]
            drivers = []
            for count in (WARM, IDLE):
                driver = self.drive(column, ECHO, "idle", count)
                stack.callback(driver.kill)
                drivers.append(driver)
                wait_for_line(driver, "open", 60)
                time.sleep(0.5)
                grown.append(resident(process.pid))
            before, began = cpu_time(process.pid), time.monotonic()
            time.sleep(self.seconds)
            busy = (cpu_time(process.pid) - before) / (time.monotonic() - began)
            for driver in drivers:
                assert driver.stdin is not None
                driver.stdin.write(b"\n")
                driver.stdin.flush()
                self.answer(driver, 60)  # every one of them is alive
        figures = {"CPU %": 100 * busy}
        if column.python:
            figures["bytes each"] = (grown[2] - grown[1]) / IDLE
        return figures

    def signal_in(self, column: Column) -> dict[str, float]:
        return self.signals(column, "sink", SINK)

    def signal_out(self, column: Column) -> dict[str, float]:
        return self.signals(column, "source", SOURCE)

    def signals(self, column: Column, what: str, port: int) -> dict[str, float]:
        """Latencies of SIGINT during a stream, in ms."""
        if not column.python:
            return {}
        took = []
        with self.program(column, what) as process:
            driver = self.drive(column, port, what, SIGNALS * 0.07 + 0.5)
            time.sleep(0.3)
            for _ in range(SIGNALS):
                sent = time.monotonic_ns()
                process.send_signal(signal.SIGINT)
                assert process.stdout is not None
                took.append((int(process.stdout.readline()) - sent) / 1e6)
                time.sleep(0.05)
            self.answer(driver, 60)
        return {"ms, median": statistics.median(took), LONGEST: max(took)}


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_time(pid: int) -> float:
    """Seconds, to the nanosecond, that a process's threads have run."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


LONGEST = "ms, longest"
WORK: dict[str, Callable[[Bench, Column], dict[str, float]]] = {
    "bulk in": Bench.bulk_in,
    "bulk out": Bench.bulk_out,
    "plain in": Bench.plain_in,
    "plain out": Bench.plain_out,
    "request/response": Bench.request_response,
    "accepting": Bench.accepting,
    "connecting": Bench.connecting,
    "idle": Bench.idle,
    "signal in": Bench.signal_in,
    "signal out": Bench.signal_out,
}

# By work, then by what is counted, then by column: the figures of the runs. None is a run that failed.
Figures = dict[str, dict[str, dict[str, list[float | None]]]]


def measure(bench: Bench, columns: list[Column], works: list[str], repeat: int, say: Callable[[str], None]) -> Figures:
    figures: Figures = {}
    for work in works:
        rows = figures[work] = {}
        failures: list[str] = []
        for _ in range(repeat):
            for column in columns:
                say(f"{work}, {column.name} ...")
                try:
                    got = WORK[work](bench, column)
                except (BenchError, AssertionError, ValueError) as e:
                    say(f"{work}, {column.name}: FAILED: {e}\n")
                    failures.append(column.name)
                    continue
                for key, value in got.items():
                    rows.setdefault(key, {}).setdefault(column.name, []).append(value)
        for name in failures:
            for row in rows.values() if rows else [rows.setdefault("", {})]:
                row.setdefault(name, []).append(None)
    return figures


def cell(key: str, values: list[float | None]) -> str:
    good = [value for value in values if value is not None]
    if not values:
        return "-"
    if not good:
        return "FAILED"
    figure = max(good) if key == LONGEST else statistics.median(good)
    failed = f" ({len(values) - len(good)} FAILED)" if len(good) < len(values) else ""
    return f"{figure:,.{0 if figure >= 20 else 1}f}{failed}"


def show(figures: Figures, columns: list[str], title: str) -> None:
    cells = [
        [f"{work}, {key}", *(cell(key, row.get(column, [])) for column in columns)]
        for work, rows in figures.items()
        for key, row in rows.items()
    ]
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        head = [title, *columns]
        widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
        for line in [head, *cells]:
            print("  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip())
        return
    table = Table(title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    for line in cells:
        table.add_row(*line)
    Console().print(table)


def main(arguments: list[str], builds: list[str]) -> int:
    """Measure `builds`, those that this Python has, and print. The exit status."""
    names = ", ".join(WORK)
    parser = argparse.ArgumentParser(prog="python -m benchmarks wire")
    parser.add_argument("--build", action="append", choices=builds, help="only this build")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each run takes")
    parser.add_argument("--repeat", type=int, default=3, help="runs of which the median counts")
    parser.add_argument("--only", action="append", choices=list(WORK), metavar="WORK", help=f"may be repeated: {names}")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(arguments)
    reason = why_not()
    if reason:
        print(f"wire: NOT MEASURED, no real wire here: {reason}", file=sys.stderr)
        return 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))  # inherited by the programs

    def say(line: str) -> None:
        if sys.stderr.isatty():
            line = f"\r\x1b[K{line}"
        elif line:
            line = line.rstrip("\n") + "\n"
        print(line, file=sys.stderr, end="", flush=True)

    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        try:
            driver, server = (compile_peer(name, Path(directory)) for name in ("driver", "server"))
        except BenchError as e:
            print(f"wire: {e}", file=sys.stderr)
            return 1
        columns: list[Column] = [OnKernel("kernel", server), OnKernel("kernel, Python")]
        columns += [OnAfinet(build) for build in args.build or builds]
        for column in columns:
            stack.callback(column.close)
        figures = measure(Bench(driver, server, args.seconds), columns, args.only or list(WORK), args.repeat, say)
    say("")
    if args.json:
        print(json.dumps({"seconds": args.seconds, "repeat": args.repeat, "cpus": os.cpu_count(), "figures": figures}))
    else:
        show(figures, [column.name for column in columns], f"{args.repeat} x {args.seconds:g} s")
    failed = any(None in values for rows in figures.values() for row in rows.values() for values in row.values())
    return 1 if failed else 0
