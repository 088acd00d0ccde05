"""A process of the threaded runner: its threads, clocks, locks, files and pipes are the host's, its IPv4 sockets are the stack's.

So far less is put in place than install.py does: `_socket`, the calls of `os` that take descriptors, `signal`, whose handlers must
not raise inside the stack, and `select`, whose callers drive the stack while they wait. A socket's fileno() is a real descriptor of
the right readiness, so that event loops which never heard of this work as well. AF_UNIX sockets and socketpair() are the host's.
Names are resolved as the host does it, by its own network.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

from afinet.kernel.task import Task
from afinet.runner import real, virtual
from afinet.runner.realtask import RealTask
from afinet.runner.threaded import ThreadedRunner
from afinet.stdlib import _socket, realselect
from afinet.stdlib import os as os_stand_in
from afinet.stdlib.install import rebind


def install_realtime(runner: ThreadedRunner, process: Task) -> RealTask:
    """From now on every thread of this process is one of `process`. Once a process, before anything imports socket or signal."""
    task = RealTask(runner, process)
    calls = task.calls
    for module in (_socket, os_stand_in):
        vars(module)["syscalls"] = calls
    replaced: dict[int, Any] = {}
    for theirs, ours in ((real._socket, _socket), (real.select, realselect)):
        replaced[id(theirs)] = ours
        for key, value in vars(theirs).items():
            new = getattr(ours, key, value)
            if new is not value and not key.startswith("__") and (callable(value) or isinstance(value, type)):
                replaced[id(value)] = new
    realselect.begin(runner)
    real.os.register_at_fork(after_in_child=runner.after_fork)
    for key in os_stand_in.REPLACED:
        replaced[id(getattr(real.os, key))] = getattr(os_stand_in, key)
    sys.modules["_socket"] = _socket
    sys.modules["select"] = realselect
    rebind(replaced)
    _defer_signals(runner)
    # The class attribute: what a thread that was never told sees.
    virtual._Current.task = cast(virtual.SimTask, task)
    return task


class _Handler:
    """A program's signal handler, called when the main thread is out of the stack."""

    def __init__(self, runner: ThreadedRunner, handler: Callable[..., Any], shown: Any = None) -> None:
        self.runner = runner
        self.handler = handler
        self.shown = shown if shown is not None else handler  # what getsignal() answers

    def __call__(self, signum: int, frame: Any) -> None:
        if self.runner.inside:
            self.runner.signals.append(lambda: self.handler(signum, frame))
        else:
            self.handler(signum, frame)


def end_by_signal(runner: ThreadedRunner, end: Callable[[], None], number: int) -> None:
    """Have `end` called before signal `number` ends the process, unless the program handles it. The program sees SIG_DFL."""
    import signal

    def last_words(signum: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        end()
        real.os.kill(real.os.getpid(), number)

    if signal.getsignal(number) == signal.SIG_DFL:
        vars(signal)["_signal"].signal(number, _Handler(runner, last_words, signal.SIG_DFL))


class _WakeupFd:
    """signal.set_wakeup_fd(): while the program has none of its own, a signal ends the poll() of the main thread that drives. A
    signal between its last look and that poll() would else wait for the next packet."""

    def __init__(self, runner: ThreadedRunner, set_wakeup_fd: Callable[..., int]) -> None:
        self.runner = runner
        self.set = set_wakeup_fd
        self.program: int = set_wakeup_fd(runner.foreground.send, warn_on_full_buffer=False)

    def after_fork(self) -> None:
        if self.program == -1:
            self.set(self.runner.foreground.send, warn_on_full_buffer=False)

    def __call__(self, fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
        if fd == -1:
            self.set(self.runner.foreground.send, warn_on_full_buffer=False)
        else:
            self.set(fd, warn_on_full_buffer=warn_on_full_buffer)
        before, self.program = self.program, fd
        return before


def _defer_signals(runner: ThreadedRunner) -> None:
    import signal

    below = vars(signal)["_signal"]
    set_handler, get_handler = below.signal, below.getsignal

    def program_sees(handler: Any) -> Any:
        return handler.shown if isinstance(handler, _Handler) else handler

    def signal_signal(signalnum: int, handler: Any, /) -> Any:
        wrap = callable(handler) and not isinstance(handler, _Handler)
        old = set_handler(signalnum, _Handler(runner, handler) if wrap else handler)
        return program_sees(old)

    def signal_getsignal(signalnum: int, /) -> Any:
        return program_sees(get_handler(signalnum))

    # signal.py reaches them by this name.
    vars(signal)["_signal"] = over = ModuleType("_signal")
    vars(over).update(vars(below), signal=signal_signal, getsignal=signal_getsignal)
    vars(signal)["set_wakeup_fd"] = wakeup = _WakeupFd(runner, below.set_wakeup_fd)
    real.os.register_at_fork(after_in_child=wakeup.after_fork)
    present = signal.getsignal(signal.SIGINT)
    if callable(present):
        signal.signal(signal.SIGINT, present)  # the interpreter's own, which raises KeyboardInterrupt
