"""Network namespaces of the tests' own: what crosses a TUN or TAP device between the kernel and afinet never leaves them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import afinet

CLONE_NEWNET = 0x40000000
HOME = os.path.dirname(os.path.dirname(os.path.abspath(afinet.__file__)))


def why_not() -> str:
    """What is missing for a real wire, "" for nothing."""
    if sys.platform != "linux":
        return "TUN and TAP devices are Linux's"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as e:
        return f"/dev/net/tun: {e.strerror}"
    if os.geteuid() != 0:
        return "making a network namespace takes root"
    return ""


def require() -> None:
    """Skip the module where there is no wire, and say so; fail where AFINET_REQUIRE_WIRE says that there is one."""
    import pytest  # the benchmarks use this module too

    reason = why_not()
    if reason and os.environ.get("AFINET_REQUIRE_WIRE"):
        raise RuntimeError(f"AFINET_REQUIRE_WIRE is set: {reason}")
    if reason:
        pytest.skip(f"NOT TESTED AGAINST THE KERNEL, no real wire here: {reason}", allow_module_level=True)


def main() -> int:
    """Say what is missing, for scripts: the exit status is 1 then."""
    reason = why_not()
    print(reason or "a real wire can be tested here")
    return 1 if reason else 0


class Namespace:
    """A network namespace with `lo` up. It ends with its last socket, process and this object."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            self._check(self.libc.unshare(CLONE_NEWNET))
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        finally:
            self._check(self.libc.setns(before, CLONE_NEWNET))
            os.close(before)
        self.processes: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def _check(result: int) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread, and what it makes and starts meanwhile, in the namespace."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._check(self.libc.setns(self.fd, CLONE_NEWNET))
        try:
            yield
        finally:
            self._check(self.libc.setns(before, CLONE_NEWNET))
            os.close(before)

    def run(self, *command: str) -> str:
        with self.inside():
            return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout

    def start(self, command: list[str], **kwargs: Any) -> subprocess.Popen[bytes]:
        """`command` in the namespace, with its output and complaints in pipes."""
        with self.inside():
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
        self.processes.append(process)
        return process

    def up(self, *arguments: str, env: dict[str, str] | None = None, **kwargs: Any) -> subprocess.Popen[bytes]:
        """`afinet up ...` in the namespace."""
        environment = dict(env or os.environ, PYTHONPATH=HOME)
        environment.pop("PYTHONUNBUFFERED", None)  # it would hide what becomes of `python -u`
        return self.start([sys.executable, "-m", "afinet", "up", *arguments], env=environment, **kwargs)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        os.close(self.fd)


def finish(process: subprocess.Popen[bytes], timeout: float = 30) -> tuple[int, str, str]:
    """(exit status, what it printed, what it complained about)."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out.decode(), err.decode()


def wait_for_line(process: subprocess.Popen[bytes], text: str, timeout: float = 20) -> None:
    """Until the program has printed `text`."""
    assert process.stdout is not None
    end = time.monotonic() + timeout
    seen = b""
    while text.encode() not in seen:
        line = process.stdout.readline()
        seen += line
        if not line or time.monotonic() > end:
            process.kill()
            _, err = process.communicate()
            raise AssertionError(f"no {text!r} in {seen!r}; it said: {err.decode()}")


if __name__ == "__main__":
    sys.exit(main())
