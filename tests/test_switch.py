"""The baton and greenlets are one schedule: the same run, to the byte and the nanosecond.

Each core scenario, its flows as tasks that wait in blocking calls; tests/programs/test_programs.py does so with whole programs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from afinet import Network, socket
from afinet.runner.switch import choose, why_no_greenlets
from afinet.runner.virtual import current_task
from tests.scenarios import AS_TASKS, SCENARIOS

needs_greenlets = pytest.mark.skipif(why_no_greenlets() != "", reason=why_no_greenlets())
WAYS = ["baton", pytest.param("greenlet", marks=needs_greenlets)]


def trace_hash(scenario: Callable[[Network], None], switch: str) -> str:
    with Network(seed=7, trace=True, switch=switch) as net:
        AS_TASKS.append(net)
        try:
            scenario(net)
        finally:
            AS_TASKS.remove(net)
        assert net.runner.switch.name == switch
        return net.trace_hash


@needs_greenlets
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_a_scenario_is_the_same_run_by_either_way(scenario: Callable[[Network], None]) -> None:
    assert trace_hash(scenario, "baton") == trace_hash(scenario, "greenlet")


# -- choosing --------------------------------------------------------------------------------------------------------------------


def test_the_baton_is_chosen_where_the_process_is_not_ours_and_what_is_asked_for_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AFINET_SWITCH", raising=False)
    assert choose("auto", False).name == "baton"
    assert choose("auto", True).name == ("baton" if why_no_greenlets() else "greenlet")
    assert choose("baton", True).name == "baton"
    monkeypatch.setenv("AFINET_SWITCH", "baton")
    assert choose("auto", True).name == "baton"
    monkeypatch.setenv("AFINET_SWITCH", "thread")
    with pytest.raises(ValueError, match="'auto', 'baton', 'greenlet'"):
        choose("auto", False)
    with pytest.raises(ValueError, match="switch='both'"):
        Network(switch="both")


@needs_greenlets
def test_greenlets_stay_in_the_thread_that_began_them() -> None:
    with Network(switch="greenlet") as net:
        host = net.host("h")
        task = host.spawn(lambda: [current_task().sleep(10**9) for _ in range(3)])  # type: ignore[union-attr]
        net.run(until="1s")
        wrong: list[str] = []

        def elsewhere() -> None:
            try:
                net.run(until="2s")
            except RuntimeError as e:
                wrong.append(str(e))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(wrong) == 1 and "switch='baton'" in wrong[0]
        net.run(until=task)


# -- what belongs to a thread ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_what_belongs_to_a_thread_is_the_tasks_own(way: str) -> None:
    import asyncio
    import contextvars
    import sys

    local = threading.local()
    local.value = "the driver's"
    variable = contextvars.ContextVar("variable", default="nobody's")
    variable.set("the driver's")
    hooks = sys.get_asyncgen_hooks()
    seen: list[Any] = []

    def task(n: int) -> None:
        me = current_task()
        assert me is not None
        assert not hasattr(local, "value") and variable.get() == "nobody's"
        local.value = n
        variable.set(str(n))
        assert sys.get_asyncgen_hooks() == (None, None)
        ended: list[object] = []
        finalizer = ended.append
        sys.set_asyncgen_hooks(finalizer=finalizer)
        loop = asyncio.new_event_loop()
        asyncio.events._set_running_loop(loop)
        try:
            raise ValueError(n)
        except ValueError:
            me.sleep(10**6)
            error = sys.exc_info()[1]
        me.sleep(10**6)
        assert current_task() is me
        assert asyncio.events._get_running_loop() is loop
        asyncio.events._set_running_loop(None)
        loop.close()
        assert sys.get_asyncgen_hooks() == (None, finalizer)
        seen.append((local.value, variable.get(), error.args if error is not None else None, sys.exc_info()[1]))

    with Network(switch=way) as net:
        host = net.host("h")
        tasks = [host.spawn(task, n) for n in range(3)]
        while not all(t.done for t in tasks):
            net.run_for("0.5ms")
            assert (local.value, variable.get(), current_task()) == ("the driver's", "the driver's", None)
            assert sys.get_asyncgen_hooks() == hooks and asyncio.events._get_running_loop() is None
        for t in tasks:
            t.result()
    assert seen == [(n, str(n), (n,), None) for n in range(3)]


@pytest.mark.parametrize("way", WAYS)
def test_what_a_thread_local_holds_ends_with_its_task(way: str) -> None:
    local = threading.local()
    ended: list[int] = []

    class Held:
        def __init__(self, n: int) -> None:
            self.n = n

        def __del__(self) -> None:
            ended.append(self.n)

    def task(n: int) -> None:
        local.held = Held(n)
        me = current_task()
        assert me is not None
        me.sleep(n * 10**6)

    with Network(switch=way) as net:
        host = net.host("h")
        tasks = [host.spawn(task, n) for n in (2, 1)]
        for t in reversed(tasks):
            net.run(until=t)
            assert ended[-1:] == [1 if t is tasks[1] else 2]


@pytest.mark.parametrize("way", WAYS)
def test_two_tasks_may_share_a_buffer_and_take_turns(way: str) -> None:
    with Network(switch=way) as net:
        a, b = net.host("a"), net.host("b")
        net.link(a, b, delay="5ms")

        def serve() -> None:
            with socket.create_server(("", 80)) as s:
                conn, _ = s.accept()
                with conn:
                    assert conn.recv(100) == b"while they read"
                    for n in range(20):
                        current_task().sleep(10**7)  # type: ignore[union-attr]
                        conn.sendall(b"line %d\n" % n)

        def read() -> list[bytes]:
            s = socket.create_connection(("b", 80))
            f = s.makefile("rb")
            lines: list[bytes] = []

            def reader() -> None:
                while line := f.readline():
                    lines.append(line)

            me = current_task()
            assert me is not None
            others = [me.runner.spawn(me.process, reader) for _ in range(3)]
            s.sendall(b"while they read")
            for task in others:
                task.join()
                task.result()
            f.close()
            return lines

        b.spawn(serve)
        task = a.spawn(read)
        net.run(until=task)
        assert task.result() == [b"line %d\n" % n for n in range(20)]


@needs_greenlets
def test_a_keyboard_interrupt_in_a_task_is_for_who_runs_the_network() -> None:
    with Network(switch="greenlet") as net:

        def task() -> None:
            raise KeyboardInterrupt

        net.host("h").spawn(task)
        with pytest.raises(KeyboardInterrupt):
            net.run(until="1s")
        net.run(until="1s")
