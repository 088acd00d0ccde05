"""What stands for `select` in a process of the threaded runner: the host's select, poll and epoll, whose caller drives the stack
while it waits, unless another thread does.

Sockets of the stack are in them as the real descriptors of their readiness (runner/readiness.py). So an event loop's thread reads
the packets that it waits for itself; left to the background thread, each would cost a hand-over of the GIL.
"""

from __future__ import annotations

import math
from typing import Any

from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.runner import real
from afinet.runner.threaded import ThreadedRunner

_real = real.select

globals().update({k: v for k, v in vars(_real).items() if not k.startswith("__")})

POLLIN, POLLPRI, POLLOUT = 1, 2, 4


class _State:
    runner: ThreadedRunner | None = None


def begin(runner: ThreadedRunner) -> None:
    """From now on whoever waits drives `runner`."""
    _State.runner = runner


def _wait(host: dict[int, int], seconds: float | None) -> float | None:
    """Drive until one of `host` is ready or the time is over. The time limit (s) of the real call to follow: 0, or all of it if
    another thread drives."""
    runner = _State.runner
    if runner is None or runner.exited:
        return seconds
    deadline = MAX_SCHEDULE_TIMEOUT
    if seconds is not None:
        deadline = min(runner.now() + math.ceil(seconds * 1e9), MAX_SCHEDULE_TIMEOUT)
    return 0 if runner.wait_for(host, deadline) else seconds


class poll:
    """select.poll."""

    def __init__(self) -> None:
        self._poll = _real.poll()
        self._fds: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = POLLIN | POLLPRI | POLLOUT, /) -> None:
        self._poll.register(fd, eventmask)
        self._fds[_fileno(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int, /) -> None:
        self._poll.modify(fd, eventmask)
        self._fds[_fileno(fd)] = eventmask

    def unregister(self, fd: Any, /) -> None:
        self._poll.unregister(fd)
        del self._fds[_fileno(fd)]

    def poll(self, timeout: Any = None, /) -> list[tuple[int, int]]:
        ready = self._poll.poll(0)
        if ready or timeout == 0:
            return ready
        left = _wait(self._fds, None if timeout is None or timeout < 0 else timeout / 1000)
        return self._poll.poll(None if left is None else math.ceil(left * 1000))


def _fileno(fd: Any) -> int:
    return fd if isinstance(fd, int) else int(fd.fileno())


def select(rlist: Any, wlist: Any, xlist: Any, timeout: Any = None, /) -> tuple[list[Any], list[Any], list[Any]]:
    # The lists may be iterators.
    rlist, wlist, xlist = list(rlist), list(wlist), list(xlist)
    ready = _real.select(rlist, wlist, xlist, 0 if timeout is None or timeout > 0 else timeout)
    if any(ready) or timeout == 0:
        return ready
    host: dict[int, int] = {}
    for objects, events in ((rlist, POLLIN), (wlist, POLLOUT), (xlist, POLLPRI)):
        for obj in objects:
            fd = _fileno(obj)
            host[fd] = host.get(fd, 0) | events
    return _real.select(rlist, wlist, xlist, _wait(host, timeout))


if hasattr(_real, "epoll"):

    class epoll:
        """select.epoll, which is itself a descriptor that poll() can wait for."""

        def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
            self._epoll = _real.epoll(sizehint, flags)

        @classmethod
        def fromfd(cls, fd: int) -> epoll:
            self = cls.__new__(cls)
            self._epoll = _real.epoll.fromfd(fd)
            return self

        @property
        def closed(self) -> bool:
            return self._epoll.closed

        def fileno(self) -> int:
            return self._epoll.fileno()

        def close(self) -> None:
            self._epoll.close()

        def register(self, fd: Any, eventmask: int = POLLIN | POLLPRI | POLLOUT) -> None:
            self._epoll.register(fd, eventmask)

        def modify(self, fd: Any, eventmask: int) -> None:
            self._epoll.modify(fd, eventmask)

        def unregister(self, fd: Any) -> None:
            self._epoll.unregister(fd)

        def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
            ready = self._epoll.poll(0, maxevents)
            if ready or timeout == 0:
                return ready
            left = _wait({self._epoll.fileno(): POLLIN}, None if timeout is None or timeout < 0 else timeout)
            return self._epoll.poll(left, maxevents)

        def __enter__(self) -> epoll:
            return self

        def __exit__(self, *exc: object) -> None:
            self.close()


real.like_builtins(globals(), _real)
