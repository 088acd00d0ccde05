"""kernel/time/timer.c and hrtimer.c: timers on one heap of (when, seq, timer).

Re-arming is lazy: a timer moved later keeps its place in the heap and is put back when that place comes up; one moved earlier
gets a second place and the first is skipped. A connection that re-arms its retransmit timer at every ACK thus costs a store,
no heap operation. Ties run in the order of arming, so a schedule is a function of its inputs.

`mod_timer` rounds up to the next jiffy, as everything that Linux keeps in jiffies; `hrtimer_start` is exact.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from afinet._mypyc import mypyc_attr
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT


@mypyc_attr(allow_interpreted_subclasses=True)
class TimerList:
    """struct timer_list. A subclass per use overrides `function`."""

    __slots__ = ("expires", "heap_seq", "heap_when")

    def __init__(self) -> None:
        self.expires: int = -1  # ns; -1 while not pending
        self.heap_when: int = -1  # when the heap will look at this timer next; -1: it will not
        self.heap_seq: int = 0  # which entry of the heap is the valid one

    def function(self) -> None:
        """Called once at `expires`, the timer no longer pending."""
        raise NotImplementedError

    def timer_pending(self) -> bool:
        return self.expires >= 0


class TimerBase:
    """struct timer_base: all timers of one Kernel."""

    __slots__ = ("heap", "pending", "seq")

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, TimerList]] = []
        self.seq: int = 0
        self.pending: int = 0  # timers armed: what a leak check reads

    def start(self, timer: TimerList, when: int) -> bool:
        """Arm `timer` for `when` (ns). Says whether it was pending."""
        was = timer.expires >= 0
        timer.expires = when
        if not was:
            self.pending += 1
        if timer.heap_when < 0 or when < timer.heap_when:
            seq = self.seq + 1
            self.seq = seq
            timer.heap_when = when
            timer.heap_seq = seq
            heappush(self.heap, (when, seq, timer))
            if len(self.heap) > 64 and len(self.heap) > 4 * self.pending:
                self.compact()
        return was

    def cancel(self, timer: TimerList) -> bool:
        """Disarm. Says whether it was pending. Its place in the heap is skipped when it comes up."""
        if timer.expires < 0:
            return False
        timer.expires = -1
        self.pending -= 1
        return True

    def compact(self) -> None:
        """Drop the places of cancelled timers, so that the heap is bounded by the timers that are armed."""
        heap: list[tuple[int, int, TimerList]] = []
        for entry in self.heap:
            timer = entry[2]
            if timer.heap_seq != entry[1]:
                continue
            if timer.expires < 0:
                timer.heap_when = -1
                continue
            heap.append(entry)
        heapify(heap)
        self.heap = heap

    def next_expiry(self) -> int:
        """The earliest instant at which something may be due, MAX_SCHEDULE_TIMEOUT if nothing is."""
        while self.heap:
            when, seq, timer = self.heap[0]
            if timer.heap_seq == seq and timer.expires >= 0:
                if timer.expires == when:
                    return when
                # moved later: give it its true place
                heappop(self.heap)
                self.seq += 1
                timer.heap_seq = self.seq
                timer.heap_when = timer.expires
                heappush(self.heap, (timer.expires, timer.heap_seq, timer))
                continue
            heappop(self.heap)
            if timer.heap_seq == seq:
                timer.heap_when = -1
        return MAX_SCHEDULE_TIMEOUT

    def pop_due(self, now: int) -> TimerList | None:
        """The next timer due at `now`, disarmed, or None."""
        if self.next_expiry() > now:
            return None
        timer = heappop(self.heap)[2]
        timer.heap_when = -1
        timer.expires = -1
        self.pending -= 1
        return timer
