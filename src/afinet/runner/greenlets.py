"""Greenlets: the simulated threads take turns on the stack of one OS thread, in the very order in which the baton would go round.

A switch costs a tenth of a hand-over between threads. Greenlets are started and resumed by the driver alone, and park to the driver
alone. What Python keeps for an OS thread is exchanged when one is resumed and when it parks:

    thread-locals       the contents of the thread state's dictionary, where C's `_thread._local`, and so threading.local, has its
                        values; asyncio's running loop and this package's own `current` are among them
    asynchronous        sys.set_asyncgen_hooks
    generators' hooks
    the running loop    of asyncio's C version, which has a place of its own for it
    identity            is the task's: `_thread.get_ident` of the stand-ins (stdlib/_thread.py)
    contextvars, the exception being handled, the depth of the stack: greenlet's own doing

What cannot be right here: C code that asks which OS thread it is on. So greenlets are chosen without being asked for only where the
stand-ins are the whole process's (`afinet run`), where identity, locks and thread-locals of a program are ours; `swappable` tries
out that the thread state's dictionary is what it is believed to be. A C lock that is held over a switch would stop both ways: io's
buffers have one, and those that the stand-ins make take turns before they come to it (stdlib/bufferedio.py).

A network of greenlets belongs to the OS thread that first ran it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from afinet.kernel.task import Task
from afinet.runner import real
from afinet.runner.virtual import SimTask, Switch, VirtualRunner, current

# An extra, whose types nobody needs to have where the wheel is built.
greenlet: Any = import_module("greenlet")

_NO_HOOKS = (None, None)


def thread_dict() -> dict[Any, Any]:
    """PyThreadState_GetDict: what Python's C code keeps for this OS thread. The same object for as long as the thread lives."""
    import ctypes

    get = ctypes.pythonapi.PyThreadState_GetDict
    get.argtypes = []
    # A borrowed reference, and py_object would be a new one: cast() counts it.
    get.restype = ctypes.c_void_p
    found: dict[Any, Any] = ctypes.cast(get(), ctypes.py_object).value
    return found


def swappable() -> bool:
    """Whether thread-locals really live in the thread state's dictionary, and come and go with its contents."""
    probe = real._thread._local()
    probe.value = 1
    space = thread_dict()
    saved = space.copy()
    space.clear()
    gone = not hasattr(probe, "value")
    space.clear()
    space.update(saved)
    return gone and hasattr(probe, "value")


class GreenletSwitch(Switch):
    name = "greenlet"

    def __init__(self) -> None:
        self.thread = 0  # the OS thread that runs the network; 0 before the first time
        self.driver: Any = None  # the greenlet that does
        self.space: dict[Any, Any] = {}  # thread_dict() of it
        self.loops: Any = None  # where C's asyncio keeps the running loop

    def task(
        self, runner: VirtualRunner, process: Task, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str
    ) -> SimTask:
        return GreenletTask(self, runner, process, fn, args, kwargs, name)

    def begin(self) -> None:
        me = real._thread.get_ident()
        if self.thread not in (0, me):
            raise RuntimeError(
                "this network was begun in another thread, and its greenlets stay there: go on in that one, or make it with "
                "Network(switch='baton')"
            )
        self.thread = me
        self.driver = greenlet.getcurrent()
        self.space = thread_dict()
        # Loaded and not replaced by its Python version, which keeps the loop in a thread-local.
        self.loops = sys.modules.get("asyncio.events") if sys.modules.get("_asyncio") is not None else None

    def end(self) -> None:
        self.driver = None

    def usable(self) -> bool:
        return self.thread in (0, real._thread.get_ident())


class GreenletTask(SimTask):
    def __init__(
        self,
        switch: GreenletSwitch,
        runner: VirtualRunner,
        process: Task,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str,
    ) -> None:
        super().__init__(runner, process, fn, args, kwargs, name)
        self._switch = switch
        self._greenlet: Any = None
        self._locals: dict[Any, Any] = {}
        self._hooks: Any = _NO_HOOKS
        self._loop: Any = None

    def _resume(self) -> None:
        switch = self._switch
        if not self.started:
            self.started = True
            self._greenlet = greenlet.greenlet(self._main)
        mine = self._greenlet
        if mine.parent is not switch.driver:
            mine.parent = switch.driver
        space = switch.space
        outer = space.copy()
        outer_hooks = sys.get_asyncgen_hooks()
        loops = switch.loops
        outer_loop = loops._get_running_loop() if loops is not None else None
        space.clear()
        space.update(self._locals)
        if self._hooks != outer_hooks:
            sys.set_asyncgen_hooks(*self._hooks)
        if loops is not None:
            loops._set_running_loop(self._loop)
        try:
            mine.switch()
        finally:
            if loops is not None:
                self._loop = loops._get_running_loop()
                loops._set_running_loop(outer_loop)
            self._hooks = sys.get_asyncgen_hooks()
            if self._hooks != outer_hooks:
                sys.set_asyncgen_hooks(*outer_hooks)
            self._locals = space.copy()
            space.clear()
            space.update(outer)
        if self.done:
            # What the thread-locals held ends here, as with a thread.
            self._greenlet = None
            self._locals = {}
            if isinstance(self.error, KeyboardInterrupt):
                # Ctrl-C, upon whatever it came: it is for who runs the network.
                self.watched = True
                raise self.error

    def _suspend(self) -> None:
        self._switch.driver.switch()

    def _main(self) -> None:
        current.task = self
        self.run()
