"""The thread baton: every simulated thread has an OS thread of its own, and one of them all runs at a time.

Who has the baton runs. The driver hands it to a task by releasing the task's gate, and gets it back by acquiring the baton, which
the task releases when it parks or ends. Thread-locals, running event loops, contexts and the interpreter's own locks are Python's,
and need no help: what a program may do at all, it may do here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from afinet.kernel.task import Task
from afinet.runner import real
from afinet.runner.virtual import SimTask, Switch, VirtualRunner, current

_allocate_lock = real._thread.allocate_lock


class BatonSwitch(Switch):
    name = "baton"

    def __init__(self) -> None:
        self.baton = _allocate_lock()
        self.baton.acquire()
        self.broken = False  # a task took the baton and did not give it back
        self._affinity: set[int] | None = None

    def task(
        self, runner: VirtualRunner, process: Task, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str
    ) -> SimTask:
        return BatonTask(self, runner, process, fn, args, kwargs, name)

    def begin(self) -> None:
        if self.broken:
            raise RuntimeError("an interrupted task did not come back: this network cannot go on")
        self._affinity = _pin()

    def end(self) -> None:
        _unpin(self._affinity)

    def usable(self) -> bool:
        return not self.broken


class BatonTask(SimTask):
    def __init__(
        self,
        switch: BatonSwitch,
        runner: VirtualRunner,
        process: Task,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str,
    ) -> None:
        super().__init__(runner, process, fn, args, kwargs, name)
        self._switch = switch
        self._gate = _allocate_lock()
        self._gate.acquire()
        self._reap: Callable[[], object] | None = None

    def _resume(self) -> None:
        switch = self._switch
        if self.started:
            self._gate.release()
        else:
            self.started = True
            self._start_thread()
        try:
            switch.baton.acquire()
        except BaseException:
            # Ctrl-C, while the task holds the baton: take it back as soon as the task lets go.
            if not switch.baton.acquire(True, 2.0):
                switch.broken = True
            raise
        if self.done and self._reap is not None:
            # The thread's locals are gone when this returns, so their finalizers have a place in the order of things.
            self._reap()
            self._reap = None

    def _suspend(self) -> None:
        self._switch.baton.release()
        self._gate.acquire()

    def _start_thread(self) -> None:
        if sys.version_info >= (3, 13):
            self._reap = real._thread.start_joinable_thread(self._main, daemon=True).join
        else:
            real._thread.start_new_thread(self._main, ())

    def _main(self) -> None:
        current.task = self
        if sys.version_info < (3, 13):
            sentinel = vars(real._thread)["_set_sentinel"]()
            sentinel.acquire()
            # A second sentinel in this thread, whoever sets it, takes the place of this one: do not wait for ever.
            self._reap = partial(sentinel.acquire, True, 1.0)
        self.run()
        self._switch.baton.release()


def _pin() -> set[int] | None:
    """Keep this thread, and those that it starts, on one CPU: a hand-over of the baton is then a switch, not a wake-up of another
    CPU. Returns what to restore."""
    try:
        before = real.os.sched_getaffinity(0)
        cpus = sorted(before)
        real.os.sched_setaffinity(0, {cpus[real.os.getpid() % len(cpus)]})
    except (AttributeError, OSError):
        return None
    return before


def _unpin(before: set[int] | None) -> None:
    if before is not None:
        real.os.sched_setaffinity(0, before)
