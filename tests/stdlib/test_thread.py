"""Python's own threading.py and queue.py over the stand-ins for _thread and time, in tasks."""

from __future__ import annotations

import sys
import threading as host_threading
import time as host_time
from types import ModuleType
from typing import Any

import pytest

from afinet.runner.virtual import DeadlockError, current_task
from afinet.stdlib import _thread, time
from afinet.stdlib.over import load_over
from tests.runner.test_virtual import Bench, bench

assert bench  # the fixture, for either way of switching


@pytest.fixture(scope="module")
def threading() -> Any:
    alias = "tests_threading_over"
    yield load_over("threading", alias, {"_thread": _thread, "time": time})
    del sys.modules[alias]


@pytest.fixture(scope="module")
def queue(threading: ModuleType) -> Any:
    alias = "tests_queue_over"
    without_c: Any = ModuleType("_queue")
    yield load_over("queue", alias, {"threading": threading, "time": time, "_queue": without_c})
    del sys.modules[alias]


def run(bench: Bench, fn: Any) -> Any:
    task = bench.spawn(fn)
    task.watched = True
    bench.run_all()
    return task.result()


def test_threads_run_join_and_have_names_and_idents(bench: Bench, threading: Any) -> None:
    def program() -> None:
        def body(n: int) -> None:
            time.sleep(n)
            bench.note((n, threading.current_thread().name, threading.get_ident()))

        threads = [threading.Thread(target=body, args=(n,), name=f"t{n}") for n in (3, 1, 2)]
        for t in threads:
            t.start()
        assert all(t.is_alive() for t in threads)
        for t in threads:
            t.join()
        assert not any(t.is_alive() for t in threads)

    run(bench, program)
    assert [(ms, n, name) for ms, (n, name, _) in bench.log] == [(1000, 1, "t1"), (2000, 2, "t2"), (3000, 3, "t3")]
    # simulated idents, the same in each run
    assert [ident - (1 << 20) for _, (_, _, ident) in bench.log] == [3, 4, 2]


def test_join_with_a_time_limit_returns_while_the_thread_lives(bench: Bench, threading: Any) -> None:
    def program() -> None:
        t = threading.Thread(target=time.sleep, args=(10,))
        t.start()
        t.join(2.5)
        bench.note(t.is_alive())
        t.join()
        bench.note(t.is_alive())

    run(bench, program)
    assert bench.log == [(2500, True), (10000, False)]


def test_a_lock_is_taken_in_turns(bench: Bench, threading: Any) -> None:
    lock = threading.Lock()

    def body(name: str) -> None:
        with lock:
            bench.note(name)
            time.sleep(1)

    for name in "abc":
        bench.spawn(body, name)
    bench.run_all()
    assert bench.log == [(0, "a"), (1000, "b"), (2000, "c")]
    assert not lock.locked()


def test_a_lock_with_a_time_limit_gives_up(bench: Bench, threading: Any) -> None:
    lock = threading.Lock()

    def holder() -> None:
        with lock:
            time.sleep(10)

    def taker() -> None:
        bench.note(lock.acquire(timeout=0.5))
        bench.note(lock.acquire(blocking=False))
        with pytest.raises(ValueError):
            lock.acquire(blocking=False, timeout=1)

    bench.spawn(holder)
    bench.spawn(taker)
    bench.run_all()
    assert bench.log == [(500, False), (500, False)]


def test_the_wake_up_of_a_waiter_that_gives_up_goes_to_the_next(bench: Bench, threading: Any) -> None:
    lock = threading.Lock()

    def holder() -> None:
        with lock:
            time.sleep(1)

    def impatient() -> None:
        bench.note(("impatient", lock.acquire(timeout=1)))
        if lock.locked():
            lock.release()

    def patient() -> None:
        with lock:
            bench.note("patient")

    for fn in (holder, impatient, patient):
        bench.spawn(fn)
    bench.run_all()
    assert (1000, "patient") in bench.log


def test_an_rlock_is_its_owners_own(bench: Bench, threading: Any) -> None:
    lock = _thread.RLock()

    def owner() -> None:
        with lock, lock:
            assert lock._is_owned()
            time.sleep(1)

    def other() -> None:
        time.sleep(0.5)
        assert not lock.acquire(blocking=False)
        with pytest.raises(RuntimeError, match="un-acquired"):
            lock.release()
        with lock:
            bench.note("got it")

    bench.spawn(owner)
    bench.spawn(other)
    bench.run_all()
    assert bench.log == [(1000, "got it")]


def test_events_and_conditions_wait_in_virtual_time(bench: Bench, threading: Any) -> None:
    event, cond = threading.Event(), threading.Condition()
    items: list[int] = []

    def waiter() -> None:
        bench.note(event.wait(0.25))
        bench.note(event.wait())
        with cond:
            bench.note(cond.wait_for(lambda: items, timeout=30))

    def setter() -> None:
        time.sleep(1)
        event.set()
        time.sleep(1)
        with cond:
            items.append(1)
            cond.notify_all()

    bench.spawn(waiter)
    bench.spawn(setter)
    bench.run_all()
    assert bench.log == [(250, False), (1000, True), (2000, [1])]


def test_semaphores_barriers_and_timers_work(bench: Bench, threading: Any) -> None:
    sem, barrier = threading.Semaphore(2), threading.Barrier(3)

    def body(n: int) -> None:
        with sem:
            time.sleep(1)
        barrier.wait()
        bench.note(n)

    def program() -> None:
        threading.Timer(0.5, bench.note, args=("timer",)).start()
        for n in range(3):
            threading.Thread(target=body, args=(n,)).start()

    run(bench, program)
    assert bench.log[0] == (500, "timer")
    assert sorted(bench.log[1:]) == [(2000, 0), (2000, 1), (2000, 2)]


def test_queues_hand_over_between_threads(bench: Bench, threading: Any, queue: Any) -> None:
    def program() -> None:
        q, simple = queue.Queue(maxsize=1), queue.SimpleQueue()

        def producer() -> None:
            for n in range(3):
                q.put(n)
            time.sleep(5)
            simple.put("late")

        threading.Thread(target=producer, daemon=True).start()
        for _ in range(3):
            time.sleep(1)
            bench.note(q.get())
            q.task_done()
        with pytest.raises(queue.Empty):
            q.get(timeout=0.5)
        bench.note(simple.get())

    run(bench, program)
    assert [what for _, what in bench.log] == [0, 1, 2, "late"]
    assert bench.log[-1][0] == 7000  # the last item went in at 2 s


def test_an_exception_in_a_thread_goes_to_threadings_hook(
    bench: Bench, threading: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def program() -> None:
        t = threading.Thread(target=lambda: 1 / 0, name="broken")
        t.start()
        t.join()

    run(bench, program)
    err = capsys.readouterr().err
    assert "Exception in thread broken" in err and "ZeroDivisionError" in err


def test_a_raw_threads_exception_is_reported_and_system_exit_is_not(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    def program() -> None:
        _thread.start_new_thread(lambda: 1 / 0, ())
        _thread.start_new_thread(sys.exit, (3,))

    run(bench, program)
    err = capsys.readouterr().err
    assert "Exception ignored in thread started by" in err and "SystemExit" not in err
    with pytest.raises(TypeError, match="first arg must be callable"):
        _thread.start_new_thread(None, ())  # type: ignore[arg-type]


def test_thread_locals_are_each_tasks_own(bench: Bench, threading: Any) -> None:
    local = threading.local()

    def body(n: int) -> None:
        local.value = n
        time.sleep(1)
        bench.note(local.value == n)

    for n in range(4):
        bench.spawn(body, n)
    bench.run_all()
    assert [what for _, what in bench.log] == [True] * 4


def test_threads_are_killed_with_the_network(bench: Bench, threading: Any) -> None:
    cleaned = []
    threads: list[Any] = []

    def body() -> None:
        try:
            time.sleep(1e6)
        finally:
            cleaned.append(1)

    def program() -> None:
        threads.append(threading.Thread(target=body, daemon=True))
        threads[0].start()

    bench.spawn(program)
    bench.runner.run(until=bench.hub.now + 10**9)
    bench.runner.close()
    assert cleaned == [1] and not threads[0].is_alive()


def test_two_locks_taken_crosswise_are_a_deadlock_and_named(bench: Bench, threading: Any) -> None:
    one, two = threading.Lock(), threading.Lock()

    def body(first: Any, second: Any) -> None:
        with first:
            time.sleep(1)
            with second:
                pass

    bench.spawn(body, one, two)
    bench.spawn(body, two, one)
    with pytest.raises(DeadlockError, match="body on box: a lock"):
        bench.run_all()


def test_outside_of_a_task_everything_is_the_hosts(threading: Any) -> None:
    assert current_task() is None
    assert _thread.get_ident() == host_threading.get_ident()
    lock, seen = threading.Lock(), []

    def body() -> None:
        with lock:
            seen.append(threading.get_ident())

    t = threading.Thread(target=body)
    with lock:
        t.start()
        assert not seen
    t.join()
    assert seen == [t.ident]
    event = threading.Event()
    assert not event.wait(0.01)


def test_clocks_are_virtual_in_a_task_and_the_hosts_outside(bench: Bench) -> None:
    def program() -> None:
        assert time.time() == 946684800.0 and time.time_ns() == 946684800 * 10**9
        assert time.gmtime()[:6] == (2000, 1, 1, 0, 0, 0)
        assert time.monotonic() == time.perf_counter() == 3600.0
        time.sleep(0.0015)
        assert time.monotonic_ns() == 3600 * 10**9 + 1_500_000
        assert time.clock_gettime(host_time.CLOCK_REALTIME) == 946684800.0015
        assert time.clock_gettime_ns(host_time.CLOCK_MONOTONIC) == time.monotonic_ns()
        assert time.strftime("%Y-%m-%d", time.gmtime()) == "2000-01-01"
        with pytest.raises(ValueError, match="non-negative"):
            time.sleep(-1)
        with pytest.raises(TypeError):
            time.sleep("1")
        time.sleep(2)  # an int

    run(bench, program)
    assert bench.ms() == 2001.5
    assert abs(time.time() - host_time.time()) < 5


def test_a_loop_that_only_reads_the_clock_ends(bench: Bench) -> None:
    def program() -> None:
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            pass

    run(bench, program)
    assert bench.ms() == pytest.approx(50, abs=2)


def test_the_stand_in_has_every_name_of_the_module_it_stands_for() -> None:
    import _thread as host

    assert set(dir(host)) <= set(dir(_thread))
    assert set(dir(host_time)) <= set(dir(time))
    assert set(dir(host.allocate_lock())) <= set(dir(_thread.allocate_lock()))
    assert set(dir(host.RLock())) - {"__module__"} <= set(dir(_thread.RLock()))
