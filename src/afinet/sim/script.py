"""Processes written as generators over raw system calls: no thread, no stand-ins, integers and bytes only.

What tests and benchmarks drive the stack with. A script is a generator function that takes a `Calls` and yields one call at a
time; it is sent the call's result when there is one, however long (in virtual time) that took:

    def client(c):
        fd = c.socket(AF_INET, SOCK_STREAM, 0)          # calls that cannot wait answer at once
        assert (yield c.connect(fd, addr)) == 0         # calls that can are yielded
        sent = yield c.send(fd, b"hello")
        yield c.sleep(NSEC_PER_SEC)

    script = start(hub, task, client)
    hub.run(...)
    script.value
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from afinet.init import syscalls
from afinet.kernel.task import Task
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.kernel.wait import WQ_FLAG_EXCLUSIVE, Kiocb, WaitQueueEntry, WaitQueueHead, add_wait_queue, remove_wait_queue
from afinet.runner.hub import Event, Hub
from afinet.uapi.errno import EIOCBQUEUED

# What a script yields: called with the call's record until it answers something else than -EIOCBQUEUED, alone or in front.
Op = Callable[[Kiocb], Any]
ScriptFunction = Callable[..., Generator[Op, Any, Any]]


class Calls:
    """The system calls of a task. Those that may wait return an Op to yield."""

    def __init__(self, hub: Hub, task: Task) -> None:
        self.hub = hub
        self.task = task

    # at once
    def socket(self, family: int, type: int, protocol: int = 0) -> int:
        return syscalls.sys_socket(self.task, family, type, protocol)

    def bind(self, fd: int, addr: bytes) -> int:
        return syscalls.sys_bind(self.task, fd, addr)

    def listen(self, fd: int, backlog: int) -> int:
        return syscalls.sys_listen(self.task, fd, backlog)

    def shutdown(self, fd: int, how: int) -> int:
        return syscalls.sys_shutdown(self.task, fd, how)

    def setsockopt(self, fd: int, level: int, optname: int, optval: bytes) -> int:
        return syscalls.sys_setsockopt(self.task, fd, level, optname, optval)

    def getsockopt(self, fd: int, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        return syscalls.sys_getsockopt(self.task, fd, level, optname, optlen)

    def getsockname(self, fd: int) -> tuple[int, bytes]:
        return syscalls.sys_getsockname(self.task, fd)

    def getpeername(self, fd: int) -> tuple[int, bytes]:
        return syscalls.sys_getpeername(self.task, fd)

    # to yield
    def connect(self, fd: int, addr: bytes) -> Op:
        return lambda iocb: syscalls.sys_connect(self.task, iocb, fd, addr)

    def accept(self, fd: int, flags: int = 0) -> Op:
        """Answers (descriptor or -errno, address)."""
        return lambda iocb: syscalls.sys_accept4(self.task, iocb, fd, flags)

    def send(self, fd: int, data: bytes, flags: int = 0, addr: bytes = b"") -> Op:
        return lambda iocb: syscalls.sys_sendto(self.task, iocb, fd, data, flags, addr)

    def recv(self, fd: int, size: int, flags: int = 0) -> Op:
        """Answers (bytes read or -errno, pieces, address)."""
        return lambda iocb: syscalls.sys_recvfrom(self.task, iocb, fd, size, flags)

    def close(self, fd: int) -> Op:
        return lambda iocb: syscalls.sys_close(self.task, iocb, fd)

    def sleep(self, duration: int) -> Op:
        """Wait `duration` ns."""

        def op(iocb: Kiocb) -> int:
            if iocb.timeout(self.hub.now, duration):
                return iocb.wait_poll([])
            return 0

        return op


class _Entry(WaitQueueEntry):
    __slots__ = ("mask", "script")

    def __init__(self, script: Script, mask: int, flags: int) -> None:
        super().__init__(flags)
        self.script = script
        self.mask = mask

    def func(self, key: int) -> bool:
        if key and self.mask and not key & self.mask:
            return False
        return self.script.wake()


class _Deadline(Event):
    __slots__ = ("script",)

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script

    def fire(self, hub: Hub) -> None:
        self.script.wake()


class Script(Event):
    """A running script; as an Event its turn to go on."""

    def __init__(self, hub: Hub, task: Task, function: ScriptFunction, *args: Any) -> None:
        super().__init__()
        self.hub = hub
        self.task = task
        self.name = function.__name__
        self.generator = function(Calls(hub, task), *args)
        self.done = False
        self.value: Any = None
        self._op: Op | None = None
        self._iocb = Kiocb()
        self._entries: list[tuple[WaitQueueHead, _Entry]] = []
        self._deadline = _Deadline(self)
        self._woken = True
        hub.ready.append(self)

    def wake(self) -> bool:
        if self._woken or self.done:
            return False
        self._woken = True
        self.hub.ready.append(self)
        return True

    def fire(self, hub: Hub) -> None:
        for wq, entry in self._entries:
            remove_wait_queue(wq, entry)
        self._entries.clear()
        hub.cancel(self._deadline)
        kernel = self.task.kernel
        if kernel.now < hub.now:
            kernel.run(hub.now)
        answer: Any = None
        while True:
            if self._op is not None:
                answer = self._op(self._iocb)
                code = answer[0] if isinstance(answer, tuple) else answer
                if code == -EIOCBQUEUED:
                    self._wait()
                    return
            try:
                self._op = self.generator.send(answer)
            except StopIteration as stop:
                self.done = True
                self.value = stop.value
                return
            self._iocb = Kiocb()

    def _wait(self) -> None:
        iocb = self._iocb
        self._woken = False
        if iocb.ki_wq is not None:
            flags = WQ_FLAG_EXCLUSIVE if iocb.ki_exclusive else 0
            self._entries.append((iocb.ki_wq, _Entry(self, iocb.ki_mask, flags)))
        for wq, mask in iocb.ki_poll or ():
            self._entries.append((wq, _Entry(self, mask, 0)))
        for wq, entry in self._entries:
            add_wait_queue(wq, entry)
        if iocb.wakes_at() < MAX_SCHEDULE_TIMEOUT:
            self.hub.schedule(self._deadline, iocb.wakes_at())


def start(hub: Hub, task: Task, function: ScriptFunction, *args: Any) -> Script:
    """Have `function(calls, *args)` run as `task`; it begins when the hub next runs."""
    return Script(hub, task, function, *args)
