"""What the stand-ins meet as the current task in real time, one for all threads of the process, and its system calls.

Each call of init/syscalls.py is made under the runner's lock (`system_calls`); one that must wait drives the stack meanwhile
(runner/threaded.py).
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from afinet.init import syscalls
from afinet.kernel.machine import Kernel
from afinet.kernel.task import Task
from afinet.kernel.wait import WQ_FLAG_EXCLUSIVE, Kiocb, WaitQueueHead, add_wait_queue, remove_wait_queue
from afinet.runner import real
from afinet.runner.threaded import Entry, ThreadedRunner, Waiting

_get_ident = real._thread.get_ident
_monotonic_ns = real.time.monotonic_ns


class HostResolver:
    """Names and addresses of the host's own resolver: /etc/hosts, and the name servers that the host asks by its own network."""

    def lookup(self, kernel: Kernel, name: str) -> list[int]:
        try:
            found = real._socket.getaddrinfo(name, None, int(real._socket.AF_INET), int(real._socket.SOCK_STREAM))
        except OSError:
            return []
        return [int.from_bytes(real._socket.inet_aton(str(entry[4][0])), "big") for entry in found]

    def reverse(self, kernel: Kernel, addr: int) -> str | None:
        try:
            return real._socket.gethostbyaddr(real._socket.inet_ntoa(addr.to_bytes(4, "big")))[0]
        except OSError:
            return None


class Clock:
    """What a stand-in reads as `task.hub`: the time."""

    def __init__(self, runner: ThreadedRunner) -> None:
        self.runner: ThreadedRunner = runner

    @property
    def now(self) -> int:
        return self.runner.now()


class RealTask:
    """What `current_task()` answers in a process of the threaded runner: one for all of its threads."""

    def __init__(self, runner: ThreadedRunner, process: Task) -> None:
        runner.resolver = HostResolver()
        self.runner: ThreadedRunner = runner
        self.process: Task = process
        self.kernel: Kernel = process.kernel
        self.hub: Clock = Clock(runner)
        self.calls: Any = system_calls(runner)

    def wait_iocb(self, iocb: Kiocb, what: str, fd: int = -1) -> None:
        """Wait as `iocb` says, once. The caller then calls its operation again."""
        try:
            self._wait(iocb)
        except BaseException:
            self.runner.give_up(iocb)
            raise
        if self.runner.exited:
            self.runner.acquire()
            self.runner.vanish()
            self.runner.release()

    def _wait(self, iocb: Kiocb) -> None:
        runner = self.runner
        entries: list[tuple[WaitQueueHead, Entry]] = []
        waiting = Waiting(iocb.wakes_at())
        runner.acquire()
        try:
            if iocb.missed():
                return
            wq = iocb.ki_wq
            if wq is not None:
                entry = Entry(waiting, iocb.ki_mask, WQ_FLAG_EXCLUSIVE if iocb.ki_exclusive else 0)
                add_wait_queue(wq, entry)
                entries.append((wq, entry))
            else:
                for head, mask in iocb.ki_poll or ():
                    entry = Entry(waiting, mask, 0)
                    add_wait_queue(head, entry)
                    entries.append((head, entry))
            try:
                runner.wait(waiting)
            finally:
                for head, entry in entries:
                    remove_wait_queue(head, entry)
        finally:
            runner.release()

    def spin(self) -> None:
        """A call found nothing to do: if the program turns in place, let the world go on."""
        self.runner.once()


# Where a system call's descriptor is among its arguments: behind the task, or behind the task and the Kiocb.
_WITH_IOCB: Final = (
    "sys_connect", "sys_accept4", "sys_accept", "sys_sendto", "sys_recvfrom", "sys_sendmsg", "sys_recvmsg", "sys_read", "sys_write",
    "sys_close", "sys_sendmmsg", "sys_recvmmsg", "sys_sendfile", "sys_sendfile_from",
)  # fmt: skip
_WITHOUT_FD: Final = ("sys_socket", "sys_socketpair", "sys_poll", "sys_select", "sys_getpid", "sys_getuid", "sys_getgid")


def system_calls(runner: ThreadedRunner) -> Any:
    """init/syscalls.py's functions, each under the runner's lock and on time; afterwards the real descriptor, if the file has one,
    is brought up to date."""
    calls: dict[str, Any] = {}
    for name, function in vars(syscalls).items():
        if name.startswith("sys_"):
            at = 2 if name in _WITH_IOCB else 0 if name in _WITHOUT_FD else 1
            calls[name] = _locked(runner, function, at, name == "sys_close")
    calls["abandon"] = _locked(runner, syscalls.abandon, 0, False)
    return SimpleNamespace(**calls)


def _locked(runner: ThreadedRunner, function: Callable[..., Any], at: int, closing: bool) -> Callable[..., Any]:
    kernel = runner.kernel
    descriptors = runner.descriptors
    offset = runner.offset
    acquire, release = runner.acquire, runner.release

    def call(*args: Any) -> Any:
        if runner.owner == _get_ident():
            # The garbage collector ran inside the stack, and finalizes a socket.
            if not closing:
                raise RuntimeError("a system call from inside the stack")
            runner.deferred.append((call_now, args))
            return 0
        acquire()
        if runner.exited:
            runner.vanish()
        try:
            return call_now(*args)
        finally:
            try:
                release()
            except BaseException:
                if at == 2:
                    runner.give_up(args[1])
                raise

    def call_now(*args: Any) -> Any:
        now = _monotonic_ns() + offset
        if now > kernel.now:
            kernel.now = now
        if not descriptors or at == 0:
            return function(*args)
        fd = args[at]
        if closing:
            if args[1].ki_filp is None:  # its first try: later the number may be another file's
                runner.forget(fd)
            return function(*args)
        answer = function(*args)
        known = descriptors.get(fd)
        if known is not None:
            known.update()
        return answer

    return call
