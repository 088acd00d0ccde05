"""The event hub: order, lazy re-arming, kernels as events."""

from __future__ import annotations

from afinet.kernel.machine import Kernel
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.kernel.timer import TimerList
from afinet.runner.hub import HUB_BUDGET, HUB_IDLE, HUB_STOPPED, HUB_TIME, Event, Hub

START = 3600 * 10**9


class Note(Event):
    def __init__(self, log: list[tuple[int, str]], name: str) -> None:
        super().__init__()
        self.log = log
        self.name = name

    def fire(self, hub: Hub) -> None:
        self.log.append((hub.now - START, self.name))


class Tick(TimerList):
    def __init__(self, kernel: Kernel, log: list[int]) -> None:
        super().__init__()
        self.kernel = kernel
        self.log = log

    def function(self) -> None:
        self.log.append(self.kernel.now - START)


def test_events_fire_by_time_and_ties_in_the_order_of_scheduling() -> None:
    hub = Hub(START)
    log: list[tuple[int, str]] = []
    for name, when in (("c", 30), ("a", 10), ("b1", 20), ("b2", 20)):
        hub.schedule(Note(log, name), START + when)
    assert hub.run(MAX_SCHEDULE_TIMEOUT, 100) == HUB_IDLE
    assert log == [(10, "a"), (20, "b1"), (20, "b2"), (30, "c")]


def test_an_event_in_the_past_fires_now_and_the_clock_never_goes_back() -> None:
    hub = Hub(START)
    log: list[tuple[int, str]] = []
    hub.schedule(Note(log, "late"), 5)
    hub.run(MAX_SCHEDULE_TIMEOUT, 1)
    assert log == [(0, "late")] and hub.now == START


def test_the_ready_queue_is_served_before_the_clock_moves() -> None:
    hub = Hub(START)
    log: list[tuple[int, str]] = []
    hub.schedule(Note(log, "heap"), START)
    hub.ready.append(Note(log, "ready"))
    hub.run(MAX_SCHEDULE_TIMEOUT, 100)
    assert [name for _, name in log] == ["ready", "heap"]


def test_an_event_moved_later_earlier_or_cancelled_fires_once_or_never() -> None:
    hub = Hub(START)
    log: list[tuple[int, str]] = []
    later, earlier, never = Note(log, "later"), Note(log, "earlier"), Note(log, "never")
    for event in (later, earlier, never):
        hub.schedule(event, START + 50)
    hub.schedule(later, START + 90)
    hub.schedule(earlier, START + 10)
    hub.cancel(never)
    assert hub.run(MAX_SCHEDULE_TIMEOUT, 100) == HUB_IDLE
    assert log == [(10, "earlier"), (90, "later")]
    assert hub.live == 0 and not hub.heap


def test_a_run_ends_at_its_time_its_budget_or_when_stopped() -> None:
    hub = Hub(START)
    log: list[tuple[int, str]] = []
    hub.schedule(Note(log, "a"), START + 10)
    hub.schedule(Note(log, "b"), START + 20)
    assert hub.run(START + 15, 100) == HUB_TIME
    assert hub.now == START + 15 and log == [(10, "a")]
    hub.stop()
    assert hub.run(START + 99, 100) == HUB_STOPPED
    hub.schedule(Note(log, "c"), START + 20)
    assert hub.run(START + 99, 1) == HUB_BUDGET
    assert hub.run(START + 99, 100) == HUB_TIME
    assert hub.now == START + 99


def test_the_heap_stays_bounded_when_one_event_is_moved_to_and_fro() -> None:
    hub = Hub(START)
    log: list[tuple[int, str]] = []
    event = Note(log, "x")
    for i in range(10_000):
        hub.schedule(event, START + 1_000_000 - i)
    assert len(hub.heap) <= 257


def test_a_kernel_is_called_when_its_timers_are_due_and_at_no_other_time() -> None:
    hub = Hub(START)
    log: list[int] = []
    one, two = Kernel("one"), Kernel("two")
    hub.attach(one)
    hub.attach(two)
    one.mod_timer(Tick(one, log), START + 1_500_000)  # rounded up to 2 ms
    two.hrtimer_start(Tick(two, log), START + 1_700_000)
    assert hub.run(START + 10_000_000, 100) == HUB_TIME
    assert log == [1_700_000, 2_000_000]
    assert hub.events == 2


def test_sync_brings_every_clock_to_the_present() -> None:
    hub = Hub(START)
    kernel = Kernel()
    hub.attach(kernel)
    hub.run(START + 77, 10)
    assert kernel.now == START
    hub.sync()
    assert kernel.now == START + 77
