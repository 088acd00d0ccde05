"""What stands for `select`: select(), poll() and epoll over simulated descriptors for a simulated task, the host's for any other
thread.

kqueue and devpoll are left out, so that `selectors.DefaultSelector`, and asyncio with it, uses what a simulated task has: epoll
where the host has it too, and poll() elsewhere.
"""

from __future__ import annotations

import math
from typing import Any

from afinet.init import syscalls
from afinet.kernel.task import Task
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT, NSEC_PER_MSEC
from afinet.kernel.wait import Kiocb
from afinet.runner import real
from afinet.runner.virtual import FD_BASE, SimTask, current_task
from afinet.stdlib._socket import finish_close, os_error, own_fd
from afinet.uapi.errno import EINVAL, EIOCBQUEUED
from afinet.uapi.eventpoll import EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD

_real = real.select

_ABSENT = ("kqueue", "kevent", "devpoll")
globals().update({k: v for k, v in vars(_real).items() if not k.startswith(("__", "KQ_")) and k not in _ABSENT})
__all__ = [k for k in globals() if k in vars(_real) and not k.startswith("_")]

error = OSError

# poll()'s bits are the same numbers on every system that has it, and the kernel's.
POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 2, 4, 8, 16, 32
POLLRDNORM, POLLRDBAND, POLLWRNORM, POLLWRBAND, POLLRDHUP = 0x40, 0x80, 0x100, 0x200, 0x2000

def _fileno(obj: Any) -> int:
    """PyObject_AsFileDescriptor."""
    if isinstance(obj, int):
        fd = obj
    else:
        try:
            method = obj.fileno
        except AttributeError:
            raise TypeError("argument must be an int, or have a fileno() method.") from None
        fd = method()
        if not isinstance(fd, int):
            raise TypeError("fileno() returned a non-integer")
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    return fd


def _poll(me: SimTask, fds: list[tuple[int, int]], timeout: int) -> list[int]:
    """The mask of each of `fds` (program's number, events); all zero when `timeout` (ns) was over first."""
    sim = [(fd - FD_BASE, events) for fd, events in fds]
    iocb = Kiocb()
    while True:
        n, revents = syscalls.sys_poll(me.process, iocb, sim, timeout)
        if n != -EIOCBQUEUED:
            break
        me.wait_iocb(iocb, "poll()")
    if n < 0:
        raise os_error(n)
    if n == 0 and timeout == 0:
        me.spin()
    return revents


def _host_descriptor(fds: list[int]) -> None:
    for fd in fds:
        if fd < FD_BASE:
            raise ValueError(
                f"descriptor {fd} is the host's own: a simulated task cannot wait for it, since virtual time does not run for it"
            )


def _nsec(timeout: Any, unit: float) -> int:
    if timeout is None:
        return MAX_SCHEDULE_TIMEOUT
    if not isinstance(timeout, (int, float)):
        raise TypeError("timeout must be a real number or None")
    return min(math.ceil(timeout * unit), MAX_SCHEDULE_TIMEOUT)


def select(rlist: Any, wlist: Any, xlist: Any, timeout: Any = None, /) -> tuple[list[Any], list[Any], list[Any]]:
    me = current_task()
    if me is None:
        return _real.select(rlist, wlist, xlist, timeout)
    limit = _nsec(timeout, 1e9)
    if limit < 0:
        raise ValueError("timeout must be non-negative")
    sets = [[(obj, _fileno(obj)) for obj in objs] for objs in (rlist, wlist, xlist)]
    for objs in sets:
        _host_descriptor([fd for _, fd in objs])
    wanted = [[fd - FD_BASE for _, fd in objs] for objs in sets]
    iocb = Kiocb()
    while True:
        n, *ready = syscalls.sys_select(me.process, iocb, wanted[0], wanted[1], wanted[2], limit)
        if n != -EIOCBQUEUED:
            break
        me.wait_iocb(iocb, "select()")
    if n < 0:
        raise os_error(n)
    if n == 0 and limit == 0:
        me.spin()
    r, w, x = ([obj for obj, fd in objs if fd - FD_BASE in found] for objs, found in zip(sets, ready, strict=True))
    return r, w, x


class SimPoll:
    """select.poll of a simulated task."""

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}
        self._busy = False

    def register(self, fd: Any, eventmask: int = POLLIN | POLLPRI | POLLOUT, /) -> None:
        self._fds[_fileno(fd)] = _mask(eventmask)

    def modify(self, fd: Any, eventmask: int, /) -> None:
        number = _fileno(fd)
        if number not in self._fds:
            raise os_error(-2)  # ENOENT
        self._fds[number] = _mask(eventmask)

    def unregister(self, fd: Any, /) -> None:
        del self._fds[_fileno(fd)]

    def poll(self, timeout: Any = None, /) -> list[tuple[int, int]]:
        me = current_task()
        if me is None:
            raise RuntimeError("a poll object made in a simulated task works in one only")
        if self._busy:
            raise RuntimeError("concurrent poll() invocation")
        limit = _nsec(timeout, 1e6)
        if limit < 0:
            limit = MAX_SCHEDULE_TIMEOUT
        fds = list(self._fds.items())
        _host_descriptor(list(self._fds))
        self._busy = True
        try:
            revents = _poll(me, fds, limit)
        finally:
            self._busy = False
        return [(fd, mask) for (fd, _), mask in zip(fds, revents, strict=True) if mask]


def _mask(eventmask: int) -> int:
    if eventmask < 0:
        raise ValueError("value must be positive")
    if eventmask > 0xFFFF:
        raise OverflowError("Python int too large for C unsigned short")
    return eventmask


def poll() -> Any:
    if current_task() is None:
        return _real.poll()
    return SimPoll()


if hasattr(_real, "epoll"):
    _NO_LIMIT = 1023  # FD_SETSIZE - 1: what CPython's maxevents=-1 means

    class epoll:
        """select.epoll. Outside of a task the host's own is made instead."""

        _task: Task
        _fd: int

        def __new__(cls, sizehint: int = -1, flags: int = 0) -> Any:
            me = current_task()
            if me is None:
                return _real.epoll(sizehint, flags)
            if sizehint <= 0 and sizehint != -1:
                raise ValueError("sizehint must be positive or -1")
            if flags & ~_real.EPOLL_CLOEXEC:
                raise os_error(-EINVAL)
            fd = syscalls.sys_epoll_create1(me.process, _real.EPOLL_CLOEXEC)
            if fd < 0:
                raise os_error(fd)
            return cls._of(me, fd)

        @classmethod
        def _of(cls, me: SimTask, fd: int) -> epoll:
            self: epoll = object.__new__(cls)
            self._task = me.process
            self._fd = fd
            return self

        @classmethod
        def fromfd(cls, fd: int, /) -> Any:
            me = current_task()
            if me is None or own_fd(me, fd) == -1:
                return _real.epoll.fromfd(fd)
            return cls._of(me, own_fd(me, fd))

        def _own(self) -> int:
            if self._fd < 0:
                raise ValueError("I/O operation on closed epoll object")
            return self._fd

        @property
        def closed(self) -> bool:
            return self._fd < 0

        def fileno(self) -> int:
            return self._own() + FD_BASE

        def close(self) -> None:
            fd, self._fd = self._fd, -1
            if fd >= 0 and not self._task.exiting:
                err = finish_close(self._task, fd)
                if err < 0:
                    raise os_error(err)

        def __del__(self) -> None:
            self.close()

        def __enter__(self) -> epoll:
            self._own()
            return self

        def __exit__(self, *exc: object) -> None:
            self.close()

        def _ctl(self, op: int, fd: Any, eventmask: int) -> None:
            own = self._own()
            number = _fileno(fd)
            _host_descriptor([number])
            err = syscalls.sys_epoll_ctl(self._task, own, op, number - FD_BASE, eventmask, number)
            if err < 0:
                raise os_error(err)

        def register(self, fd: Any, eventmask: int = POLLIN | POLLPRI | POLLOUT) -> None:
            self._ctl(EPOLL_CTL_ADD, fd, eventmask)

        def modify(self, fd: Any, eventmask: int) -> None:
            self._ctl(EPOLL_CTL_MOD, fd, eventmask)

        def unregister(self, fd: Any) -> None:
            self._ctl(EPOLL_CTL_DEL, fd, 0)

        def poll(self, timeout: Any = None, maxevents: int = -1) -> list[tuple[int, int]]:
            me = current_task()
            own = self._own()
            if me is None:
                raise RuntimeError("an epoll object made in a simulated task works in one only")
            limit = _nsec(timeout, 1e9)
            if 0 < limit < MAX_SCHEDULE_TIMEOUT:
                limit = -(-limit // NSEC_PER_MSEC) * NSEC_PER_MSEC  # as CPython: never shorter, in whole milliseconds
            if maxevents == -1:
                maxevents = _NO_LIMIT
            elif maxevents < 1:
                raise ValueError(f"maxevents must be greater than 0, got {maxevents}")
            iocb = Kiocb()
            while True:
                n, events = syscalls.sys_epoll_wait(self._task, iocb, own, maxevents, limit)
                if n != -EIOCBQUEUED:
                    break
                me.wait_iocb(iocb, "epoll_wait()", own + FD_BASE)
            if n < 0:
                raise os_error(n)
            if n == 0 and limit == 0:
                me.spin()
            return [(data, revents) for revents, data in events]


if not hasattr(_real, "poll"):  # Windows
    __all__ += ["poll", "POLLIN", "POLLPRI", "POLLOUT", "POLLERR", "POLLHUP", "POLLNVAL"]

real.like_builtins(globals(), _real)
