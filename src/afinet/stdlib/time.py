"""What stands for `time`: the virtual clock for a simulated task, the host's for any other thread.

CLOCK_MONOTONIC is the hub's `now`; CLOCK_REALTIME starts at 2000-01-01T00:00:00Z. Time stands still while a task computes; who
does nothing but read the clock is charged for it (`SimTask.spin`), so that a loop `while time() < end: pass` ends.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from afinet.runner import real
from afinet.runner.virtual import SimTask, current_task

_real = real.time

globals().update({k: v for k, v in vars(_real).items() if not k.startswith("__")})
__all__ = [k for k in vars(_real) if not k.startswith("_")]

struct_time = _real.struct_time

# Clocks that are virtual, by whether they count from the epoch. Those of the process and the thread stay the host's.
_CLOCKS = {
    getattr(_real, name): realtime
    for name, realtime in (
        ("CLOCK_REALTIME", True),
        ("CLOCK_TAI", True),
        ("CLOCK_MONOTONIC", False),
        ("CLOCK_MONOTONIC_RAW", False),
        ("CLOCK_BOOTTIME", False),
        ("CLOCK_HIGHRES", False),
        ("CLOCK_UPTIME", False),
    )
    if hasattr(_real, name)
}


def _realtime(task: SimTask) -> int:
    task.spin()
    return task.hub.now + task.kernel.boot_time


def time() -> float:
    task = current_task()
    return _real.time() if task is None else _realtime(task) / 1e9


def time_ns() -> int:
    task = current_task()
    return _real.time_ns() if task is None else _realtime(task)


def monotonic_ns() -> int:
    task = current_task()
    if task is None:
        return _real.monotonic_ns()
    task.spin()
    return task.hub.now


def monotonic() -> float:
    task = current_task()
    if task is None:
        return _real.monotonic()
    task.spin()
    return task.hub.now / 1e9


def perf_counter_ns() -> int:
    return _real.perf_counter_ns() if current_task() is None else monotonic_ns()


def perf_counter() -> float:
    return _real.perf_counter() if current_task() is None else monotonic()


def clock_gettime_ns(clk_id: int, /) -> int:
    task = current_task()
    if task is None or clk_id not in _CLOCKS:
        return _real.clock_gettime_ns(clk_id)
    return _realtime(task) if _CLOCKS[clk_id] else monotonic_ns()


def clock_gettime(clk_id: int, /) -> float:
    task = current_task()
    if task is None or clk_id not in _CLOCKS:
        return _real.clock_gettime(clk_id)
    return clock_gettime_ns(clk_id) / 1e9


def sleep(seconds: Any, /) -> None:
    task = current_task()
    if task is None:
        _real.sleep(seconds)
        return
    if isinstance(seconds, float):
        if math.isnan(seconds):
            raise ValueError("Invalid value NaN (not a number)")
        nsec = math.ceil(seconds * 1e9)
    else:
        nsec = operator.index(seconds) * 1_000_000_000
    if nsec < 0:
        raise ValueError("sleep length must be non-negative")
    task.sleep(nsec)


def gmtime(seconds: float | None = None, /) -> struct_time:
    return _real.gmtime(time() if seconds is None else seconds)


def localtime(seconds: float | None = None, /) -> struct_time:
    return _real.localtime(time() if seconds is None else seconds)


def ctime(seconds: float | None = None, /) -> str:
    return _real.ctime(time() if seconds is None else seconds)


def asctime(tuple: Any = None, /) -> str:
    return _real.asctime(localtime() if tuple is None else tuple)


def strftime(format: str, tuple: Any = None, /) -> str:
    return _real.strftime(format, localtime() if tuple is None else tuple)


if not hasattr(_real, "clock_gettime"):  # Windows
    del clock_gettime, clock_gettime_ns

real.like_builtins(globals(), _real)
