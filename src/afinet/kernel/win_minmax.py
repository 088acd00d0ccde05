"""lib/win_minmax.c: the minimum (or maximum) of a measurement over a sliding window of time (Kathleen Nichols' algorithm).

Three samples are kept: the best, and the second and third best that are more recent. The estimate is exact at the window's edges
and never off by more than a quarter of the window in between. TCP keeps its minimal RTT so: microseconds, over tcp_min_rtt_wlen.
"""

from __future__ import annotations

from afinet._mypyc import mypyc_attr


@mypyc_attr(acyclic=True)
class MinMax:
    """struct minmax. Times in any unit that the caller keeps to; `v0` is the estimate."""

    __slots__ = ("t0", "t1", "t2", "v0", "v1", "v2")

    def __init__(self, t: int, meas: int) -> None:
        self.t0: int = t
        self.v0: int = meas
        self.t1: int = t
        self.v1: int = meas
        self.t2: int = t
        self.v2: int = meas


def minmax_get(m: MinMax) -> int:
    return m.v0


def minmax_reset(m: MinMax, t: int, meas: int) -> int:
    """Forget the past."""
    m.t0 = m.t1 = m.t2 = t
    m.v0 = m.v1 = m.v2 = meas
    return meas


def minmax_running_min(m: MinMax, win: int, t: int, meas: int) -> int:
    """Take a sample in; the minimum over the last `win`."""
    if meas <= m.v0 or t - m.t2 > win:
        return minmax_reset(m, t, meas)
    if meas <= m.v1:
        m.t1 = m.t2 = t
        m.v1 = m.v2 = meas
    elif meas <= m.v2:
        m.t2 = t
        m.v2 = meas
    return _subwin_update(m, win, t, meas)


def minmax_running_max(m: MinMax, win: int, t: int, meas: int) -> int:
    """Take a sample in; the maximum over the last `win`."""
    if meas >= m.v0 or t - m.t2 > win:
        return minmax_reset(m, t, meas)
    if meas >= m.v1:
        m.t1 = m.t2 = t
        m.v1 = m.v2 = meas
    elif meas >= m.v2:
        m.t2 = t
        m.v2 = meas
    return _subwin_update(m, win, t, meas)


def _subwin_update(m: MinMax, win: int, t: int, meas: int) -> int:
    """The best has left the window, or a quarter, or a half of it went by without a second, a third choice."""
    age = t - m.t0
    if age > win:
        m.t0 = m.t1
        m.v0 = m.v1
        m.t1 = m.t2
        m.v1 = m.v2
        m.t2 = t
        m.v2 = meas
        if t - m.t0 > win:
            m.t0 = m.t1
            m.v0 = m.v1
            m.t1 = m.t2
            m.v1 = m.v2
            m.t2 = t
            m.v2 = meas
    elif m.t1 == m.t0 and age > win >> 2:
        m.t1 = m.t2 = t
        m.v1 = m.v2 = meas
    elif m.t2 == m.t1 and age > win >> 1:
        m.t2 = t
        m.v2 = meas
    return m.v0
