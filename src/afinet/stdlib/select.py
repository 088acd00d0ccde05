"""What stands for `select`: select() and poll() over simulated descriptors for a simulated task, the host's for any other thread.

There is no epoll here, and no kqueue and devpoll: `selectors.DefaultSelector`, and asyncio with it, falls back to poll(), which
simulated tasks have. A program that names epoll itself gets the AttributeError it would get on another system.
"""

from __future__ import annotations

import math
from typing import Any

from afinet.init import syscalls
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.kernel.wait import Kiocb
from afinet.runner import real
from afinet.runner.virtual import FD_BASE, SimTask, current_task
from afinet.stdlib._socket import os_error
from afinet.uapi.errno import EIOCBQUEUED

_real = real.select

_ABSENT = ("epoll", "kqueue", "kevent", "devpoll")
globals().update(
    {k: v for k, v in vars(_real).items() if not k.startswith(("__", "EPOLL", "KQ_")) and k not in _ABSENT}
)
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


if not hasattr(_real, "poll"):  # Windows
    __all__ += ["poll", "POLLIN", "POLLPRI", "POLLOUT", "POLLERR", "POLLHUP", "POLLNVAL"]

real.like_builtins(globals(), _real)
