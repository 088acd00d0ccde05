"""The virtual runner's tasks.

Each simulated thread of a simulated process is a `SimTask`. One of them runs at a time, and the hub (hub.py), never the OS, decides
which: the driver, who called `VirtualRunner.run`, resumes a task, and has control again when that parks or ends. What a task has
its stack on, and how control goes to and fro, is the `Switch`'s business: an OS thread of its own (baton.py) or a greenlet
(greenlets.py). The schedule is the same.

A call that has to wait: the stand-in calls the operation, and while that answers -EIOCBQUEUED calls `SimTask.wait_iocb`, which
registers on the wait queues that the Kiocb names, arms its deadline, parks, and unregisters. A wake-up puts the task in the hub's
ready queue; it runs when its turn comes, never inside the waker.

Tasks that are left when the Network ends are killed: `TaskKilled` is raised in each at its blocking point, so that its `finally`
clauses run.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from afinet.fs.file import iocb_release
from afinet.kernel.machine import Kernel
from afinet.kernel.random import RandomStream
from afinet.kernel.task import Task
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT, NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.kernel.wait import WQ_FLAG_EXCLUSIVE, Kiocb, WaitQueueEntry, WaitQueueHead, add_wait_queue, remove_wait_queue
from afinet.runner import real
from afinet.runner.hub import HUB_IDLE, HUB_STOPPED, HUB_TIME, Event, Hub

# A program sees a descriptor n of its simulated process as FD_BASE + n: above what a host hands out, and the same in each run.
FD_BASE = 1 << 20
# The idents of simulated threads: from here up by one, the same in each run. No pthread_t is so small and so odd.
IDENT_BASE = 1 << 20
# How many events between two returns of the hub to the interpreter, and between two collections of garbage.
BUDGET = 2_000
GC_YOUNG = 20_000
GC_FULL = 1_000_000
# A task that keeps reading the clock or finding nothing to do, and never waits, would hold time still for ever: every so many
# times it is charged a millisecond.
SPINS = 1_000
SPIN_COST = NSEC_PER_MSEC
# No task ran for so long, and none has a time limit: what still ticks is housekeeping. Longer than any time limit of TCP,
# keepalive (2 h 11 min) included.
STALLED = 24 * 3600 * NSEC_PER_SEC
# How often a task that swallows TaskKilled is woken again before it is given up.
KILL_ROUNDS = 100


class TaskKilled(SystemExit):
    """Raised in a task at its blocking point when its Network ends. A SystemExit, which most programs let pass."""


class DeadlockError(RuntimeError):
    """Nothing can ever happen again, and the run's goal is not reached. The text names each task and what it waits for."""


class _Current(real._thread._local):
    task: SimTask | None = None


current = _Current()


def current_task() -> SimTask | None:
    """The simulated thread that calls, None for any other thread."""
    return current.task


class _Deadline(Event):
    """The time limit of a parked task."""

    __slots__ = ("task",)

    def __init__(self, task: SimTask) -> None:
        super().__init__()
        self.task = task

    def fire(self, hub: Hub) -> None:
        self.task.wake()


class _Waiter(WaitQueueEntry):
    """A parked task's entry on a wait queue."""

    __slots__ = ("mask", "task")

    def __init__(self, task: SimTask, mask: int, flags: int) -> None:
        super().__init__(flags)
        self.task = task
        self.mask = mask

    def func(self, key: int) -> bool:
        if key and self.mask and not key & self.mask:
            return False
        # Already on its way: an exclusive wake-up goes on to the next waiter.
        return self.task.wake()


class Switch:
    """How the driver lets a task run, and gets control back."""

    name = ""

    def task(
        self, runner: VirtualRunner, process: Task, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str
    ) -> SimTask:
        """A new task, which has not begun."""
        raise NotImplementedError

    def begin(self) -> None:
        """The calling thread becomes the driver. RuntimeError if it cannot."""

    def end(self) -> None:
        """And is no longer."""

    def usable(self) -> bool:
        """Whether `begin` would work."""
        return True


class SimTask(Event):
    """A simulated thread of the simulated process `process`. As an Event of the hub: its turn to run."""

    def __init__(
        self, runner: VirtualRunner, process: Task, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str
    ) -> None:
        super().__init__()
        self.runner = runner
        self.hub = runner.hub
        self.kernel: Kernel = process.kernel
        self.process = process
        self.name = name
        runner.ident_seq += 1
        self.ident = IDENT_BASE + runner.ident_seq
        self.started = False
        self.done = False
        self.killed = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.watched = False  # somebody asks for the result: an error is not reported a second time
        self.waiting_for = ""
        self.waiting_fd = -1
        self.joiners: list[SimTask] = []
        self.at_exit: Callable[[], None] | None = None  # what _thread's sentinel and handle want to hear
        self._call = (fn, args, kwargs)
        self._parked = False
        self._woken = True  # until its first turn: it is in the ready queue
        self._deadline = _Deadline(self)
        self._spins = 0

    def __repr__(self) -> str:
        return f"<task {self.name}@{self.kernel.hostname}>"

    # -- the driver's side ---------------------------------------------------------------------------------------------

    def fire(self, hub: Hub) -> None:
        """Run the task until it parks or ends."""
        if self.done:
            return
        kernel = self.kernel
        if kernel.now < hub.now:
            kernel.now = hub.now
        runner = self.runner
        runner.last_ran = hub.now
        runner.running = self
        try:
            self._resume()
        finally:
            runner.running = None
            if self.done:
                runner.finished(self)

    def _resume(self) -> None:
        """Give control to the task, for the first time or where it parked; return when it parks again or has ended."""
        raise NotImplementedError

    def wake(self) -> bool:
        """Put a parked task in the ready queue. False if it is there already, or not parked."""
        if self._woken or not self._parked:
            return False
        self._woken = True
        self.hub.ready.append(self)
        return True

    # -- the task's own side -------------------------------------------------------------------------------------------

    def _suspend(self) -> None:
        """Give control back to the driver; return when the task is resumed."""
        raise NotImplementedError

    def run(self) -> None:
        """The task, from its beginning to its end."""
        fn, args, kwargs = self._call
        del self._call
        try:
            if not self.killed:
                self.value = fn(*args, **kwargs)
        except SystemExit as e:
            # sys.exit() is how many programs end well. TaskKilled is one too.
            if not self.killed and e.code not in (None, 0):
                self.error = e
        except BaseException as e:
            if not self.killed:
                self.error = e
        del fn, args, kwargs
        if self.at_exit is not None:
            self.at_exit()
            self.at_exit = None
        for task in self.joiners:
            task.wake()
        self.done = True

    def park(self, deadline: int, what: str, fd: int = -1) -> None:
        """Give up control until somebody wakes this task, or the clock reaches `deadline` (ns). For the task itself to call;
        whoever is to wake it knows of it already. `what` and `fd` are for the report of a deadlock."""
        then = self.hub.now
        self.waiting_for = what
        self.waiting_fd = fd
        self._woken = False
        self._parked = True
        if deadline < MAX_SCHEDULE_TIMEOUT:
            self.hub.schedule(self._deadline, deadline)
        self._suspend()
        self._parked = False
        if self.hub.now > then:
            self._spins = 0
        if self._deadline.when >= 0:
            self.hub.cancel(self._deadline)
        self.waiting_for = ""
        if self.killed:
            raise TaskKilled

    def wait_iocb(self, iocb: Kiocb, what: str, fd: int = -1) -> None:
        """Wait as `iocb` says, once. The caller then calls its operation again."""
        if iocb.missed():
            return
        deadline = iocb.wakes_at()
        entries: list[tuple[WaitQueueHead, _Waiter]] = []
        wq = iocb.ki_wq
        if wq is not None:
            entry = _Waiter(self, iocb.ki_mask, WQ_FLAG_EXCLUSIVE if iocb.ki_exclusive else 0)
            add_wait_queue(wq, entry)
            entries.append((wq, entry))
        else:
            for head, mask in iocb.ki_poll or ():
                entry = _Waiter(self, mask, 0)
                entries.append((head, entry))
                add_wait_queue(head, entry)
        try:
            self.park(deadline, what, fd)
        except TaskKilled:
            iocb_release(iocb)  # the call is given up: so is the file that it held
            raise
        finally:
            for head, entry in entries:
                remove_wait_queue(head, entry)

    def sleep(self, nsec: int) -> None:
        """Let `nsec` pass. Zero lets the others of this instant run."""
        if nsec <= 0:
            self.spin()
        self.park(self.hub.now + max(nsec, 0), "sleep")

    def spin(self) -> None:
        """Called where a program may turn in place, and no time passes: reading the clock, an operation that would block."""
        self._spins += 1
        if self._spins >= SPINS:
            self.park(self.hub.now + SPIN_COST, "spin")

    def join(self, deadline: int = MAX_SCHEDULE_TIMEOUT) -> bool:
        """For another task to call: wait until this one has ended. False when `deadline` (ns) came first."""
        me = current.task
        assert me is not None and me is not self
        while not self.done:
            if deadline <= self.hub.now:
                return False
            self.joiners.append(me)
            try:
                me.park(deadline, f"the end of {self.name}")
            finally:
                if me in self.joiners:
                    self.joiners.remove(me)
        return True

    def result(self) -> Any:
        """What the function returned. Its exception is raised here; RuntimeError while it has not ended."""
        if not self.done:
            where = f"{self.name} on {self.kernel.hostname}"
            raise RuntimeError(f"{where} has not ended: net.run(until={self.name}) runs it to its end")
        if self.error is not None:
            raise self.error
        return self.value


class Resolver:
    """What knows the names of a Network's hosts."""

    def lookup(self, kernel: Kernel, name: str) -> list[int]:
        """The addresses of `name` as `kernel` sees it, the nearest first; empty if there is no such name."""
        return []

    def reverse(self, kernel: Kernel, addr: int) -> str | None:
        return None


class VirtualRunner:
    """The tasks and the hub of one Network."""

    def __init__(self, now: int, switch: Switch, seed: bytes = b"") -> None:
        self.hub = Hub(now)
        self.switch = switch
        self.urandom = RandomStream(seed, "urandom")  # what os.urandom gives the tasks
        self.tasks: dict[int, SimTask] = {}  # alive, in the order of their making
        self.threads: dict[int, int] = {}  # id of a process -> how many of its threads are alive
        self.ident_seq = 0
        self.running: SimTask | None = None
        self.last_ran = now  # when a task last had its turn (ns)
        self.goal: Callable[[], bool] | None = None
        self.driving = False
        self.resolver: Resolver | None = None
        self.default_timeout: dict[int, float] = {}  # id of a process -> socket.setdefaulttimeout
        self.host_families: tuple[int, ...] = ()  # families that are left to the host: none here
        self.numbers: dict[int, int] = {}  # real descriptors that stand for simulated ones: none here
        self._next_gc = GC_YOUNG
        self._next_full = GC_FULL

    def spawn(
        self,
        process: Task,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        name: str = "",
    ) -> SimTask:
        """A new thread of `process`, which runs when its turn comes."""
        task = self.switch.task(self, process, fn, args, kwargs or {}, name or getattr(fn, "__name__", "task"))
        self.tasks[task.ident] = task
        self.threads[id(process)] = self.threads.get(id(process), 0) + 1
        self.hub.ready.append(task)
        return task

    def show(self, process: Task, fd: int) -> int:
        """The number by which the program knows descriptor `fd` of its process."""
        return fd + FD_BASE

    def finished(self, task: SimTask) -> None:
        """`task` has ended; the last one of a process takes the process with it."""
        del self.tasks[task.ident]
        left = self.threads[id(task.process)] - 1
        if left:
            self.threads[id(task.process)] = left
        else:
            del self.threads[id(task.process)]
            self.default_timeout.pop(id(task.process), None)
            self.process_exit(task.process)
        if task.error is not None and not task.watched and not isinstance(task.error, SystemExit):
            self.task_failed(task)
        if self.goal is not None and self.goal():
            self.hub.stop()

    def process_exit(self, process: Task) -> None:
        """The last thread of `process` ended. The simulator closes its descriptors here."""

    def task_failed(self, task: SimTask) -> None:
        """`task` ended by an exception that nobody waits for: tell the user, as the interpreter does for a thread."""
        error = task.error
        assert error is not None
        print(f"Exception in task {task.name} on host {task.kernel.hostname}:", file=sys.stderr)
        sys.excepthook(type(error), error, error.__traceback__)

    # -- running -------------------------------------------------------------------------------------------------------

    def run(self, until: int = MAX_SCHEDULE_TIMEOUT, goal: Callable[[], bool] | None = None) -> bool:
        """Run until `goal()` holds, looked at whenever a task ends, or the clock reaches `until` (ns). Says whether the goal holds.

        DeadlockError when neither can come. Garbage is collected by the count of events only.
        """
        if current.task is not None:
            raise RuntimeError("a simulated task cannot run the network that runs it: use its own waiting calls, or net.sleep")
        if self.driving:
            raise RuntimeError("this network is running already")
        if goal is not None and goal():
            return True
        self.switch.begin()
        hub = self.hub
        self.goal = goal
        self.driving = True
        self.last_ran = hub.now
        hub.stopping = False
        collecting = gc.isenabled()
        gc.disable()
        try:
            while True:
                answer = hub.run(until, BUDGET)
                if answer == HUB_STOPPED:
                    return True
                if answer == HUB_TIME:
                    return False
                if answer == HUB_IDLE or (goal is not None and self._stalled()):
                    raise DeadlockError(self.deadlock())
                if hub.events >= self._next_gc:
                    self._collect()
        finally:
            self.goal = None
            self.driving = False
            hub.sync()
            self.switch.end()
            if collecting:
                gc.enable()

    def _stalled(self) -> bool:
        if self.hub.now - self.last_ran < STALLED:
            return False
        for task in self.tasks.values():
            if task._deadline.when >= 0:
                return False
        return True

    def _collect(self) -> None:
        hub = self.hub
        self._next_gc = hub.events + GC_YOUNG
        if hub.events >= self._next_full:
            self._next_full = hub.events + GC_FULL
            gc.collect()
        else:
            gc.collect(1)

    def deadlock(self) -> str:
        """One line a task: what it waits for."""
        lines = ["nothing can happen any more, and these tasks still wait:"]
        for task in self.tasks.values():
            what = task.waiting_for or "its turn"
            if task.waiting_fd >= 0:
                what += f", descriptor {task.waiting_fd}"
            lines.append(f"  {task.name} on {task.kernel.hostname}: {what}")
        if len(lines) == 1:
            lines = ["nothing can happen any more: there is no task"]
        return "\n".join(lines)

    def close(self) -> None:
        """Kill every task that is left, the youngest first, as a program's threads end before it does."""
        if not self.switch.usable():
            return
        # A pool's worker logs whatever ends it, even a SystemExit; a thread tells of all that are not SystemExit itself.
        pools = sys.modules.get("concurrent.futures._base")
        if pools is not None:
            pools.LOGGER.addFilter(_not_killed)
        threading = sys.modules.get("threading")
        tell = None
        if threading is not None:
            tell = threading.excepthook
            threading.excepthook = partial(_tell_but_killed, tell)  # type: ignore[attr-defined]
        try:
            self._kill_all()
        finally:
            if pools is not None:
                pools.LOGGER.removeFilter(_not_killed)
            if threading is not None:
                threading.excepthook = tell  # type: ignore[attr-defined]

    def _kill_all(self) -> None:
        self.switch.begin()
        for task in reversed(list(self.tasks.values())):
            task.killed = True
            for _ in range(KILL_ROUNDS):
                if task.done:
                    break
                if not task.started:
                    task.done = True
                    self.finished(task)
                    break
                task.fire(self.hub)
        self.hub.ready.clear()
        self.switch.end()


def _not_killed(record: Any) -> bool:
    """A filter of logging: not about TaskKilled."""
    return not (record.exc_info and record.exc_info[0] is TaskKilled)


def _tell_but_killed(tell: Callable[[Any], Any], args: Any) -> None:
    """threading.excepthook while tasks are killed."""
    if args.exc_type is not TaskKilled:
        tell(args)
