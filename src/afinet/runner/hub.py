"""The event hub of the virtual runner: one heap of events, and one clock, for all hosts of a Network.

Time stands still while anything runs, and jumps to the next event when nothing can. Two queues decide what comes next:

1. `ready`: events of this very instant, first in, first out. A wake-up puts the woken task here and never calls it.
2. `heap`: (when, seq, event). Ties go by `seq`, the order of scheduling, so that a run is a function of its inputs.

Each event has at most one valid place in the heap, and re-arming is lazy, as with the kernel's timers: an event moved later keeps
its place until that comes up. A Kernel is one event, armed for its earliest timer (`HubKernel`); a packet in flight costs one
place, or none where its link has others in flight (runner/link.py).

No thread, no lock and no host clock here: an interpreted event may switch to a thread (runner/virtual.py) and come back.
Compiled loops take no signals, so `run` returns after `budget` events, for its caller to loop.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Final

from afinet._mypyc import mypyc_attr
from afinet.kernel.machine import Kernel, KernelRunner
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT

# What `Hub.run` answers.
HUB_BUDGET: Final = 0  # `budget` events were handled: call again
HUB_STOPPED: Final = 1  # stop() was called
HUB_TIME: Final = 2  # the clock stands at `until`, and nothing is due before it
HUB_IDLE: Final = 3  # nothing can ever happen again by itself


@mypyc_attr(allow_interpreted_subclasses=True)
class Event:
    """Something that happens at an instant. Override `fire`."""

    __slots__ = ("heap_seq", "heap_when", "when")

    def __init__(self) -> None:
        self.when: int = -1  # ns; -1 while not scheduled
        self.heap_when: int = -1  # when the heap will look at this event next; -1: it will not
        self.heap_seq: int = 0  # which entry of the heap is the valid one

    def fire(self, hub: Hub) -> None:
        """Called at `hub.now`, the event no longer scheduled."""
        raise NotImplementedError


class Hub:
    """The heap, the ready queue, and `now` (ns), the CLOCK_MONOTONIC of every Kernel that is attached."""

    __slots__ = ("events", "heap", "kernels", "live", "now", "ready", "seq", "stopping")

    def __init__(self, now: int) -> None:
        self.now: int = now
        self.heap: list[tuple[int, int, Event]] = []
        self.live: int = 0  # events scheduled in the heap
        self.ready: deque[Event] = deque()
        self.seq: int = 0
        self.events: int = 0  # handled so far
        self.stopping: bool = False
        self.kernels: list[HubKernel] = []

    def schedule(self, event: Event, when: int) -> None:
        """Have `event` fire at `when` (ns; the past is now). One already scheduled is moved."""
        if when < self.now:
            when = self.now
        if event.when < 0:
            self.live += 1
        event.when = when
        if event.heap_when < 0 or when < event.heap_when:
            seq = self.seq + 1
            self.seq = seq
            event.heap_when = when
            event.heap_seq = seq
            heappush(self.heap, (when, seq, event))
            if len(self.heap) > 256 and len(self.heap) > 4 * self.live:
                self.compact()

    def cancel(self, event: Event) -> None:
        """Have `event` not fire. Its place in the heap is skipped when that comes up."""
        if event.when >= 0:
            event.when = -1
            self.live -= 1

    def compact(self) -> None:
        """Drop the places of cancelled events, so that the heap is bounded by what is scheduled."""
        heap: list[tuple[int, int, Event]] = []
        for entry in self.heap:
            event = entry[2]
            if event.heap_seq != entry[1]:
                continue
            if event.when < 0:
                event.heap_when = -1
                continue
            heap.append(entry)
        heapify(heap)
        self.heap = heap

    def stop(self) -> None:
        """Have `run` return before the next event."""
        self.stopping = True

    def next_event(self) -> int:
        """When something happens next (ns), MAX_SCHEDULE_TIMEOUT for never."""
        if self.ready:
            return self.now
        while self.heap:
            when, seq, event = self.heap[0]
            if event.heap_seq == seq and event.when == when:
                return when
            heappop(self.heap)
            if event.heap_seq == seq:
                # moved later, or cancelled
                event.heap_when = -1
                if event.when >= 0:
                    self.seq += 1
                    event.heap_seq = self.seq
                    event.heap_when = event.when
                    heappush(self.heap, (event.when, self.seq, event))
        return MAX_SCHEDULE_TIMEOUT

    def run(self, until: int, budget: int) -> int:
        """Handle events up to and including those at `until` (ns; MAX_SCHEDULE_TIMEOUT: for as long as there are any), at most
        `budget` of them. Returns HUB_*."""
        ready = self.ready
        while budget > 0:
            if self.stopping:
                self.stopping = False
                return HUB_STOPPED
            if ready:
                event = ready.popleft()
            else:
                when = self.next_event()
                if when > until:
                    if until > self.now:
                        self.now = until
                    return HUB_TIME
                if when == MAX_SCHEDULE_TIMEOUT:
                    return HUB_IDLE
                event = heappop(self.heap)[2]
                event.heap_when = -1
                event.when = -1
                self.live -= 1
                self.now = when
            budget -= 1
            self.events += 1
            event.fire(self)
        return HUB_BUDGET

    # -- kernels ------------------------------------------------------------------------------------------------------

    def attach(self, kernel: Kernel) -> HubKernel:
        """Become the runner of `kernel`: its clock is the hub's from here on."""
        place = HubKernel(self, kernel)
        self.kernels.append(place)
        kernel.runner = place
        place.run()
        return place

    def sync(self) -> None:
        """Bring the clocks of all Kernels to `now`: for who looks at them from outside."""
        for place in self.kernels:
            if place.kernel.now < self.now:
                place.kernel.now = self.now


class HubKernel(KernelRunner):
    """A Kernel's place in the hub."""

    __slots__ = ("event", "hub", "kernel")

    def __init__(self, hub: Hub, kernel: Kernel) -> None:
        self.hub: Hub = hub
        self.kernel: Kernel = kernel
        self.event: KernelEvent = KernelEvent(self)

    def sync(self, kernel: Kernel) -> None:
        if kernel.now < self.hub.now:
            kernel.now = self.hub.now

    def deadline_moved(self, kernel: Kernel, when: int) -> None:
        event = self.event
        if event.when < 0 or when < event.when:
            self.hub.schedule(event, when)

    def run(self) -> None:
        """Let the Kernel do what is due now, and note when it wants to be called next."""
        hub = self.hub
        deadline = self.kernel.run(hub.now)
        event = self.event
        if deadline != event.when:
            if deadline < MAX_SCHEDULE_TIMEOUT:
                hub.schedule(event, deadline)
            else:
                hub.cancel(event)


class KernelEvent(Event):
    """The earliest timer of a Kernel."""

    __slots__ = ("place",)

    def __init__(self, place: HubKernel) -> None:
        super().__init__()
        self.place: HubKernel = place

    def fire(self, hub: Hub) -> None:
        self.place.run()
