"""What stands for `_thread`: threads and locks that are simulated for a simulated task, and the host's for any other thread.

A lock may be used by both kinds: its state is a host lock, which a task only ever *tries*. A task that finds it taken parks in the
hub and is woken by the release; so no task ever blocks the OS thread that it runs on, and with it the simulation.

Everything that is not defined here is the host's own (`_local` among it: a task has an OS thread, or what the interpreter keeps for
one is exchanged with it, runner/greenlets.py).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.runner import real
from afinet.runner.virtual import SimTask, current_task

_real = real._thread
_allocate_lock = _real.allocate_lock

globals().update({k: v for k, v in vars(_real).items() if not k.startswith("__")})

error = RuntimeError
TIMEOUT_MAX: float = _real.TIMEOUT_MAX
__all__ = [k for k in vars(_real) if not k.startswith("_")]


def _limit(blocking: bool, timeout: float) -> None:
    """The checks that the C lock makes of its arguments."""
    if not blocking and timeout != -1:
        raise ValueError("can't specify a timeout for a non-blocking call")
    if timeout < 0 and timeout != -1:
        raise ValueError("timeout value must be a non-negative number" if sys.version_info >= (3, 13)
                         else "timeout value must be positive")  # fmt: skip
    if timeout > TIMEOUT_MAX:
        raise OverflowError("timeout value is too large")


def deadline_of(task: SimTask, timeout: float | None) -> int:
    """The instant (ns) at which a time limit of `timeout` seconds is over; None and -1 are none. Rounded up, never to nothing."""
    if timeout is None or timeout < 0:
        return MAX_SCHEDULE_TIMEOUT
    nsec = int(timeout * 1e9)
    if nsec < timeout * 1e9:
        nsec += 1
    return min(task.hub.now + nsec, MAX_SCHEDULE_TIMEOUT)


class lock:
    """_thread.lock."""

    __slots__ = ("__weakref__", "_state", "_waiters")

    def __init__(self) -> None:
        self._state = _allocate_lock()
        self._waiters: deque[SimTask] | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if timeout != -1:
            _limit(blocking, timeout)
        state = self._state
        if state.acquire(False):
            return True
        task = current_task()
        if task is None:
            return state.acquire(blocking, timeout)
        if not blocking:
            task.spin()
            return False
        deadline = deadline_of(task, timeout)
        waiters = self._waiters
        if waiters is None:
            waiters = self._waiters = deque()
        waiters.append(task)
        taken = False
        try:
            while True:
                task.park(deadline, "a lock")
                # Somebody may have been faster. Then this task keeps its place in the queue.
                taken = state.acquire(False)
                if taken:
                    return True
                if task.hub.now >= deadline:
                    return False
        finally:
            waiters.remove(task)
            if not taken and waiters and not state.locked():
                waiters[0].wake()  # the wake-up that this task did not use

    def release(self) -> None:
        self._state.release()
        if self._waiters:
            self._waiters[0].wake()

    def locked(self) -> bool:
        return self._state.locked()

    __enter__ = acquire

    def __exit__(self, *exc: object) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        self._state = _allocate_lock()
        self._waiters = None

    acquire_lock = acquire
    release_lock = release
    locked_lock = locked

    def __repr__(self) -> str:
        state = "locked" if self._state.locked() else "unlocked"
        return f"<{state} _thread.lock object at {id(self):#x}>"


LockType = lock


def allocate_lock() -> lock:
    return lock()


allocate = allocate_lock


class RLock:
    """_thread.RLock: owned by a thread, real or simulated."""

    __slots__ = ("__weakref__", "_block", "_count", "_owner")

    def __init__(self) -> None:
        self._block = lock()
        self._owner = 0
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = get_ident()
        if self._owner == me:
            self._count += 1
            return True
        if not self._block.acquire(blocking, timeout):
            return False
        self._owner = me
        self._count = 1
        return True

    __enter__ = acquire

    def release(self) -> None:
        if self._owner != get_ident() or not self._count:
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = 0
            self._block.release()

    def __exit__(self, *exc: object) -> None:
        self.release()

    def locked(self) -> bool:
        return self._block.locked()

    def _is_owned(self) -> bool:
        return self._owner == get_ident()

    def _recursion_count(self) -> int:
        return self._count if self._owner == get_ident() else 0

    def _release_save(self) -> tuple[int, int]:
        if not self._count:
            raise RuntimeError("cannot release un-acquired lock")
        state = (self._count, self._owner)
        self._count = 0
        self._owner = 0
        self._block.release()
        return state

    def _acquire_restore(self, state: tuple[int, int]) -> None:
        self._block.acquire()
        self._count, self._owner = state

    def _at_fork_reinit(self) -> None:
        self._block._at_fork_reinit()
        self._owner = 0
        self._count = 0

    def __repr__(self) -> str:
        state = "locked" if self._block.locked() else "unlocked"
        return f"<{state} _thread.RLock object owner={self._owner} count={self._count} at {id(self):#x}>"


# -- threads ---------------------------------------------------------------------------------------------------------------


def get_ident() -> int:
    task = current_task()
    return task.ident if task is not None else _real.get_ident()


def get_native_id() -> int:
    task = current_task()
    return task.ident if task is not None else _real.get_native_id()


def _thread_main(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A thread of a program: its result is nobody's, its exception is reported as the interpreter reports it."""
    try:
        function(*args, **kwargs)
    except SystemExit:
        pass
    except BaseException as e:
        # sys.unraisablehook wants a structure that only C can make.
        print(f"Exception ignored in thread started by: {function!r}", file=sys.stderr)
        sys.excepthook(type(e), e, e.__traceback__)


def start_new_thread(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, /) -> int:
    if not callable(function):
        raise TypeError("first arg must be callable")
    if not isinstance(args, tuple):
        raise TypeError("2nd arg must be a tuple")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise TypeError("optional 3rd arg must be a dictionary")
    task = current_task()
    if task is None:
        return _real.start_new_thread(function, args, kwargs or {})
    return _spawn(task, function, args, kwargs or {}).ident


start_new = start_new_thread


def _spawn(task: SimTask, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> SimTask:
    name = getattr(function, "__qualname__", "thread")
    return task.runner.spawn(task.process, _thread_main, (function, args, kwargs), name=name)


if sys.version_info < (3, 13):

    def _set_sentinel() -> Any:
        """A lock that is released when the calling thread has ended: what Thread.join waits for."""
        task = current_task()
        if task is None:
            return vars(_real)["_set_sentinel"]()
        sentinel = lock()
        task.at_exit = partial(_release, sentinel)
        return sentinel


def _release(sentinel: lock) -> None:
    if sentinel.locked():
        sentinel.release()


class _ThreadHandle:
    """_thread._ThreadHandle (3.13): what threading.Thread holds of its thread."""

    __slots__ = ("__weakref__", "_handle", "_ident", "_task")

    def __init__(self) -> None:
        self._handle: Any = None
        self._task: SimTask | None = None
        self._ident = 0

    @property
    def ident(self) -> int:
        if self._handle is not None:
            return int(self._handle.ident)
        return self._ident

    def is_done(self) -> bool:
        if self._handle is not None:
            return bool(self._handle.is_done())
        return self._task is not None and self._task.done

    def _set_done(self) -> None:
        if self._handle is not None:
            self._handle._set_done()

    def join(self, timeout: float | None = None) -> None:
        if self._handle is not None:
            self._handle.join(timeout)
            return
        if self._task is None:
            raise RuntimeError("thread not started")
        me = current_task()
        if me is self._task:
            raise RuntimeError("Cannot join current thread")
        if me is None:
            if not self._task.done:
                raise RuntimeError("a simulated thread runs only while its network does: join it from a task")
            return
        self._task.join(deadline_of(me, timeout))

    def __repr__(self) -> str:
        return f"<_ThreadHandle object: ident={self.ident}>"


def start_joinable_thread(
    function: Callable[[], object], handle: _ThreadHandle | None = None, daemon: bool = True
) -> _ThreadHandle:
    if handle is None:
        handle = _ThreadHandle()
    task = current_task()
    if task is None:
        # The annotations of typeshed hide this function below 3.13.
        handle._handle = vars(_real)["start_joinable_thread"](function, daemon=daemon)
    else:
        handle._task = _spawn(task, function, (), {})
        handle._ident = handle._task.ident
    return handle


def _make_thread_handle(ident: int) -> _ThreadHandle:
    handle = _ThreadHandle()
    task = current_task()
    if task is None:
        handle._handle = vars(_real)["_make_thread_handle"](ident)
    else:
        handle._task = task.runner.tasks.get(ident, task)
        handle._ident = ident
    return handle


if sys.version_info < (3, 13):
    del _ThreadHandle, start_joinable_thread, _make_thread_handle

real.like_builtins(globals(), _real)
