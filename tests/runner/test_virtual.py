"""The thread baton: who runs when, waiting, time limits, deadlocks, killing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from afinet.kernel.machine import Kernel
from afinet.kernel.task import Task
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.kernel.wait import Kiocb, WaitQueueHead, wake_up_poll
from afinet.runner.switch import choose, why_no_greenlets
from afinet.runner.virtual import DeadlockError, SimTask, Switch, TaskKilled, VirtualRunner, current_task
from tests.runner.machines import process

START = 3600 * 10**9
MS = 10**6
EIOCBQUEUED = 529


class Bench:
    """A runner with one process."""

    def __init__(self, switch: Switch) -> None:
        self.runner = VirtualRunner(START, switch)
        self.hub = self.runner.hub
        self.kernel = Kernel("box")
        self.hub.attach(self.kernel)
        self.process = process(self.kernel)
        self.log: list[Any] = []

    def spawn(self, fn: Any, *args: Any) -> SimTask:
        return self.runner.spawn(self.process, fn, args)

    def run_all(self) -> None:
        self.runner.run(goal=lambda: not self.runner.tasks)

    def ms(self) -> float:
        return (self.hub.now - START) / MS

    def note(self, what: object) -> None:
        self.log.append((self.ms(), what))


WAYS = [
    "baton",
    pytest.param("greenlet", marks=pytest.mark.skipif(why_no_greenlets() != "", reason="greenlets cannot be used here")),
]


@pytest.fixture(params=WAYS)
def bench(request: pytest.FixtureRequest) -> Any:
    b = Bench(choose(request.param, False))
    yield b
    b.runner.close()


def me() -> SimTask:
    task = current_task()
    assert task is not None
    return task


def test_tasks_take_turns_in_the_order_of_their_deadlines(bench: Bench) -> None:
    def sleeper(name: str, period: int, n: int) -> None:
        for _ in range(n):
            me().sleep(period * MS)
            bench.note(name)

    bench.spawn(sleeper, "a", 10, 3)
    bench.spawn(sleeper, "b", 15, 2)
    bench.run_all()
    assert bench.log == [(10, "a"), (15, "b"), (20, "a"), (30, "b"), (30, "a")]


def test_each_task_has_an_os_thread_and_thread_locals_of_its_own(bench: Bench) -> None:
    local = threading.local()
    seen = []

    def body(n: int) -> None:
        local.n = n
        me().sleep(MS)
        seen.append((local.n, threading.get_ident()))

    for n in range(5):
        bench.spawn(body, n)
    bench.run_all()
    assert [n for n, _ in seen] == [0, 1, 2, 3, 4]
    assert current_task() is None


def test_a_wait_ends_by_the_wake_up_or_by_its_deadline(bench: Bench) -> None:
    wq = WaitQueueHead()
    box: list[int] = []

    def op(iocb: Kiocb, limit: int) -> int:
        if box:
            return box.pop()
        if iocb.timeout(bench.kernel.now, limit) == 0:
            return -11
        return iocb.wait(wq, 1)

    def consumer(limit: int) -> None:
        iocb = Kiocb()
        while (r := op(iocb, limit)) == -EIOCBQUEUED:
            me().wait_iocb(iocb, "op")
        bench.note(r)

    def producer() -> None:
        me().sleep(30 * MS)
        wake_up_poll(wq, 4)  # not what they wait for
        me().sleep(10 * MS)
        box.append(7)
        wake_up_poll(wq, 1)

    bench.spawn(consumer, MAX_SCHEDULE_TIMEOUT)
    bench.spawn(consumer, 20 * MS)
    bench.spawn(producer)
    bench.run_all()
    assert bench.log == [(20, -11), (40, 7)]
    assert not wq.entries


def test_an_exclusive_wake_up_reaches_one_waiter_after_the_other(bench: Bench) -> None:
    wq = WaitQueueHead()

    def waiter(name: str) -> None:
        iocb = Kiocb()
        iocb.wait(wq, 1, exclusive=True)
        me().wait_iocb(iocb, "accept")
        bench.note(name)

    def waker() -> None:
        for _ in range(3):
            me().sleep(10 * MS)
            wake_up_poll(wq, 1)

    for name in "abc":
        bench.spawn(waiter, name)
    bench.spawn(waker)
    bench.run_all()
    assert bench.log == [(10, "a"), (20, "b"), (30, "c")]


def test_two_wake_ups_in_one_instant_wake_two_exclusive_waiters(bench: Bench) -> None:
    wq = WaitQueueHead()

    def waiter(name: str) -> None:
        iocb = Kiocb()
        iocb.wait(wq, 1, exclusive=True)
        me().wait_iocb(iocb, "accept")
        bench.note(name)

    def waker() -> None:
        me().sleep(MS)
        wake_up_poll(wq, 1)
        wake_up_poll(wq, 1)

    bench.spawn(waiter, "a")
    bench.spawn(waiter, "b")
    bench.spawn(waker)
    bench.run_all()
    assert bench.log == [(1, "a"), (1, "b")]


def test_one_of_several_queues_ends_a_poll_and_all_entries_are_taken_off(bench: Bench) -> None:
    queues = [WaitQueueHead() for _ in range(3)]

    def poller() -> None:
        iocb = Kiocb()
        iocb.wait_poll([(wq, 1) for wq in queues])
        me().wait_iocb(iocb, "poll")
        bench.note("polled")

    def waker() -> None:
        me().sleep(5 * MS)
        wake_up_poll(queues[1], 1)

    bench.spawn(poller)
    bench.spawn(waker)
    bench.run_all()
    assert bench.log == [(5, "polled")]
    assert all(not wq.entries for wq in queues)


def test_result_returns_the_value_or_raises_the_exception(bench: Bench) -> None:
    def good() -> int:
        return 42

    def bad() -> None:
        raise KeyError("lost")

    one, two = bench.spawn(good), bench.spawn(bad)
    two.watched = True
    with pytest.raises(RuntimeError, match="has not ended"):
        one.result()
    bench.run_all()
    assert one.result() == 42
    with pytest.raises(KeyError, match="lost"):
        two.result()


def test_an_exception_that_nobody_waits_for_is_reported(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    def bad() -> None:
        raise KeyError("lost")

    bench.spawn(bad)
    bench.run_all()
    err = capsys.readouterr().err
    assert "Exception in task bad on host box" in err and "KeyError: 'lost'" in err


def test_join_waits_for_the_end_or_the_deadline(bench: Bench) -> None:
    def child() -> None:
        me().sleep(30 * MS)

    def parent() -> None:
        task = bench.spawn(child)
        bench.note(task.join(bench.hub.now + 10 * MS))
        bench.note(task.join())

    bench.spawn(parent)
    bench.run_all()
    assert bench.log == [(10, False), (30, True)]


def test_a_deadlock_names_each_task_and_what_it_waits_for(bench: Bench) -> None:
    def one() -> None:
        me().park(MAX_SCHEDULE_TIMEOUT, "accept()", 3)

    bench.spawn(one)
    with pytest.raises(DeadlockError) as e:
        bench.run_all()
    assert "one on box: accept(), descriptor 3" in str(e.value)


def test_housekeeping_timers_alone_do_not_hide_a_deadlock(bench: Bench) -> None:
    from afinet.kernel.timer import TimerList

    class Periodic(TimerList):
        def function(self) -> None:
            bench.kernel.mod_timer(self, bench.kernel.now + 30_000 * MS)

    bench.kernel.mod_timer(Periodic(), START)
    bench.spawn(lambda: me().park(MAX_SCHEDULE_TIMEOUT, "nothing"))
    with pytest.raises(DeadlockError):
        bench.run_all()


def test_a_run_ends_at_its_time_and_goes_on_from_there(bench: Bench) -> None:
    def body() -> None:
        me().sleep(30 * MS)
        bench.note("woke")

    bench.spawn(body)
    assert not bench.runner.run(until=START + 20 * MS, goal=lambda: not bench.runner.tasks)
    assert bench.ms() == 20 and bench.log == []
    assert bench.runner.run(until=START + 90 * MS, goal=lambda: not bench.runner.tasks)
    assert bench.ms() == 30


def test_who_only_reads_the_clock_is_charged_for_it(bench: Bench) -> None:
    def impatient() -> None:
        while bench.ms() < 5:
            me().spin()
        bench.note("done")

    bench.spawn(impatient)
    bench.run_all()
    assert bench.log == [(5, "done")]


def test_killing_runs_the_finally_clauses_and_ends_the_threads(bench: Bench) -> None:
    def body() -> None:
        try:
            me().park(MAX_SCHEDULE_TIMEOUT, "for ever")
        finally:
            bench.note("cleaned")

    def stubborn() -> None:
        for _ in range(3):
            try:
                me().park(MAX_SCHEDULE_TIMEOUT, "for ever")
            except TaskKilled:
                bench.note("again")

    before = threading.active_count()
    tasks = [bench.spawn(body), bench.spawn(stubborn)]
    bench.runner.run(until=START + MS)
    tasks.append(bench.spawn(body))  # never started
    bench.runner.close()
    assert [what for _, what in bench.log] == ["again", "again", "again", "cleaned"]
    assert all(t.done for t in tasks) and not bench.runner.tasks
    assert threading.active_count() == before


def test_a_task_cannot_run_the_network(bench: Bench) -> None:
    bench.spawn(bench.run_all).watched = True
    bench.run_all()
    # the inner call raised inside the task
    assert not bench.runner.tasks


def test_the_last_thread_takes_its_process_with_it(bench: Bench) -> None:
    gone: list[Task] = []
    bench.runner.process_exit = gone.append  # type: ignore[method-assign, assignment]

    def parent() -> None:
        bench.spawn(lambda: me().sleep(5 * MS))

    bench.spawn(parent)
    bench.runner.run(until=START + MS)
    assert gone == []
    bench.run_all()
    assert gone == [bench.process]


def test_the_garbage_collector_is_off_while_it_runs_and_back_on_after(bench: Bench) -> None:
    import gc

    states = []
    bench.spawn(lambda: states.append(gc.isenabled()))
    bench.run_all()
    assert states == [False] and gc.isenabled()


def test_two_runs_make_the_same_schedule_whatever_switches() -> None:
    def one_run(way: str) -> list[Any]:
        b = Bench(choose(way, False))
        wq = WaitQueueHead()

        def body(n: int) -> None:
            for i in range(20):
                me().sleep((n * 7 + i * 3) % 11 * MS)
                b.note((n, me().ident))
                wake_up_poll(wq, 1)
                iocb = Kiocb()
                iocb.wait(wq, 1, exclusive=True)
                iocb.ki_deadline = b.hub.now + (n + i) % 5 * MS
                me().wait_iocb(iocb, "x")

        for n in range(8):
            b.spawn(body, n)
        b.run_all()
        return b.log

    first = one_run("baton")
    assert one_run("baton") == first
    if not why_no_greenlets():
        assert one_run("greenlet") == first


def test_who_only_yields_does_not_hold_time_still(bench: Bench) -> None:
    done: list[int] = []

    def yielder() -> None:
        while not done:
            me().sleep(0)

    def sleeper() -> None:
        me().sleep(3 * MS)
        done.append(1)

    bench.spawn(yielder)
    bench.spawn(sleeper)
    bench.run_all()
    assert 3 <= bench.ms() < 5


def test_a_program_that_exits_well_has_no_error(bench: Bench) -> None:
    import sys

    good, bad = bench.spawn(sys.exit), bench.spawn(sys.exit, 3)
    bench.run_all()
    assert good.result() is None
    with pytest.raises(SystemExit):
        bad.result()
