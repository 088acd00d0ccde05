"""lib/win_minmax.c: the minimum (or maximum) of a measurement over a sliding window of time (Kathleen Nichols' algorithm).

Three samples are kept: the best, and the second and third best that are more recent. The estimate is exact at the window's edges
and never off by more than a quarter of the window in between. TCP keeps its minimal RTT so: microseconds, over tcp_min_rtt_wlen.
"""

from __future__ import annotations

from typing import Final

# struct minmax, a value and no object (compiled, it lies within the struct that holds it): the time and the measurement of each
# sample, the best first. Times in any unit that the caller keeps to.
MinMax = tuple[int, int, int, int, int, int]

# Before the first sample of a minimum.
MINMAX_NONE: Final = (0, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0, 0xFFFFFFFF)


def minmax_get(m: MinMax) -> int:
    """The estimate."""
    return m[1]


def minmax_reset(t: int, meas: int) -> MinMax:
    """Forget the past."""
    return t, meas, t, meas, t, meas


def minmax_running_min(m: MinMax, win: int, t: int, meas: int) -> MinMax:
    """Take a sample in; minmax_get then is the minimum over the last `win`."""
    t0, v0, t1, v1, t2, v2 = m
    if meas <= v0 or t - t2 > win:
        return t, meas, t, meas, t, meas
    if meas <= v1:
        m = t0, v0, t, meas, t, meas
    elif meas <= v2:
        m = t0, v0, t1, v1, t, meas
    return _subwin_update(m, win, t, meas)


def minmax_running_max(m: MinMax, win: int, t: int, meas: int) -> MinMax:
    """Take a sample in; minmax_get then is the maximum over the last `win`."""
    t0, v0, t1, v1, t2, v2 = m
    if meas >= v0 or t - t2 > win:
        return t, meas, t, meas, t, meas
    if meas >= v1:
        m = t0, v0, t, meas, t, meas
    elif meas >= v2:
        m = t0, v0, t1, v1, t, meas
    return _subwin_update(m, win, t, meas)


def _subwin_update(m: MinMax, win: int, t: int, meas: int) -> MinMax:
    """The best has left the window, or a quarter, or a half of it went by without a second, a third choice."""
    t0, v0, t1, v1, t2, v2 = m
    age = t - t0
    if age > win:
        if t - t1 > win:
            return t2, v2, t, meas, t, meas
        return t1, v1, t2, v2, t, meas
    if t1 == t0 and age > win >> 2:
        return t0, v0, t, meas, t, meas
    if t2 == t1 and age > win >> 1:
        return t0, v0, t1, v1, t, meas
    return m
