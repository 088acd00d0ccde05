"""The threaded runner: one Kernel in real time, for a process whose threads are ordinary threads. Leader and followers.

One lock guards the stack. A thread makes its system calls under it (realtask.py); one that must wait does not sleep on a condition
that another thread must signal, it becomes the *driver*: it polls the devices and the earliest timer, runs the stack until its own
condition holds, and hands the lead on (`ThreadedRunner.wait`). So a thread that waits for a packet is the one that reads it: no
hand-over of the GIL in between. Threads that wait while another leads are followers, each on a gate of its own.

While nobody waits, a background thread drives, so that a program that computes still acknowledges, retransmits and accepts. It
takes over only when nobody has led for GRACE, and a thread that comes to wait takes the lead from it at once.

Signals: a Python signal handler that raises must not do so inside the stack. `acquire` and `release` tell `inside`, and
stdlib/realtime.py has the handlers wait for the end of the call; a thread in poll() is outside, and is interrupted. This module is
compiled, and compiled code notices no signal by itself: the device's `read` (runner/hostio.py), which is not, lets the interpreter
look at each packet, and a signal that comes just before a poll() ends it by the wake-up descriptor.

At the end of the process `linger` drives on until everything that was sent is acknowledged, LINGER_LIMIT at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from afinet.drivers.tun import TUN_BUDGET, TunOps, tun_poll, tun_wake
from afinet.fs.file import fdget, iocb_release
from afinet.init import syscalls
from afinet.kernel.machine import Kernel, KernelRunner
from afinet.kernel.task import Task
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.kernel.wait import Kiocb, WaitQueueEntry
from afinet.net.core.link_watch import netif_carrier_off
from afinet.net.core.netdevice import NetDevice, NetDeviceOps
from afinet.runner import real
from afinet.runner.linger import FIN_WAIT2_GRACE, LINGER_LIMIT, LINGER_STEP, awaiting_fin, unacknowledged
from afinet.runner.readiness import Descriptor

# The host's own functions, bound before any stand-in takes their place.
_allocate_lock = real._thread.allocate_lock
_get_ident = real._thread.get_ident
_monotonic_ns = real.time.monotonic_ns
_sleep = real.time.sleep
_read, _write, _close = real.os.read, real.os.write, real.os.close

# How long (s) nobody may have driven before the background thread does: longer than a program thinks between two calls that wait.
GRACE: Final = 0.005
# What a driver gives a thread that wants the lock (s): locks are not fair.
YIELD: Final = 0.00005

PIPE_BUF: Final = 4096

POLLIN: Final = 1
POLLOUT: Final = 4
POLLERR: Final = 8
POLLHUP: Final = 16
POLLNVAL: Final = 32

# Sockets of these families are the host's own.
HOST_FAMILIES: Final[tuple[int, ...]] = tuple(
    int(getattr(real._socket, name)) for name in ("AF_UNIX", "AF_ALG", "AF_VSOCK") if hasattr(real._socket, name)
)


class Waiting:
    """One call that waits, or the background thread. `gate` is what a follower's thread sleeps on, `poller` what the driver is
    polling: another thread may be in the stack meanwhile, and find what it waits for."""

    __slots__ = ("deadline", "gate", "poller", "woken")

    def __init__(self, deadline: int) -> None:
        self.deadline: int = deadline
        self.woken: bool = False
        self.gate: Any = None
        self.poller: Poller | None = None

    def wake(self) -> bool:
        """Called with the lock held. False if it has been woken already: an exclusive wake-up goes on to the next."""
        if self.woken:
            return False
        self.woken = True
        self.open_gate()
        if self.poller is not None:
            self.poller.kick()
        return True

    def open_gate(self) -> None:
        gate = self.gate
        if gate is not None:
            self.gate = None
            gate.release()


class Entry(WaitQueueEntry):
    """A waiting call's entry on a wait queue."""

    __slots__ = ("mask", "waiting")

    def __init__(self, waiting: Waiting, mask: int, flags: int) -> None:
        super().__init__(flags)
        self.waiting: Waiting = waiting
        self.mask: int = mask

    def func(self, key: int) -> bool:
        if key and self.mask and not key & self.mask:
            return False
        return self.waiting.wake()


class Poller:
    """A poll object with a descriptor of its own to wake it up by."""

    def __init__(self) -> None:
        self.poll: Any = real.select.poll()
        self.until: int = -1  # when (ns) the poll that is going on ends by itself; -1: there is none
        self.kicked: bool = False
        # A pipe: signal.set_wakeup_fd() writes a single byte, which an eventfd does not take.
        self.receive, self.send = real.os.pipe()
        for fd in (self.receive, self.send):
            real.os.set_blocking(fd, False)
        self.poll.register(self.receive, POLLIN)

    def kick(self) -> None:
        """Have the poll end; if there is none, the next one. Called with the lock held."""
        if not self.kicked:
            self.kicked = True
            try:
                _write(self.send, b"\0")
            except BlockingIOError:
                pass  # full of signals: that wakes it too

    def drain(self) -> None:
        self.kicked = False
        _read(self.receive, PIPE_BUF)

    def close(self) -> None:
        _close(self.receive)
        _close(self.send)


def _milliseconds(until: int, now: int) -> int | None:
    """poll()'s argument for a deadline (ns), rounded up: a timer is never early."""
    if until >= MAX_SCHEDULE_TIMEOUT:
        return None
    left = until - now
    return min(-(-left // 1_000_000), 1 << 30) if left > 0 else 0


class RealKernel(KernelRunner):
    """A Kernel's way to its runner."""

    def __init__(self, runner: ThreadedRunner) -> None:
        super().__init__()
        self.runner: ThreadedRunner = runner

    def sync(self, kernel: Kernel) -> None:
        # Whoever holds the lock sees to the time.
        if self.runner.owner == 0:
            kernel.now = max(kernel.now, self.runner.now())

    def deadline_moved(self, kernel: Kernel, when: int) -> None:
        self.runner.deadline_moved(when)


class ThreadedRunner:
    """The driver of `kernel`. `attach` the devices, `start` the background thread, give tasks to the program's threads."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel: Kernel = kernel
        # The Kernel's clock goes on from where it stands, whatever the host's monotonic clock counts from.
        self.offset: int = kernel.now - _monotonic_ns()
        kernel.boot_time = real.time.time_ns() - self.now()
        kernel.runner = RealKernel(self)
        self.lock: Any = _allocate_lock()
        self.owner: int = 0  # the thread that holds the lock
        self.queue: list[int] = []  # one item for each thread that waits for the lock
        self.main: int = _get_ident()
        self.inside: bool = False  # the main thread holds the lock, or is about to
        self.signals: deque[Callable[[], None]] = deque()  # what came while it did
        self.deferred: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self.devices: dict[int, NetDevice] = {}  # by descriptor
        self.polled: dict[int, int] = {}  # descriptor -> what the pollers ask of it
        # Another thread may lead at any time, and mypyc believes what a check or an assignment said of an Optional: so there always
        # is a leader, if need be `nobody`.
        self.nobody: Waiting = Waiting(MAX_SCHEDULE_TIMEOUT)
        self.leader: Waiting = self.nobody
        self.turns: int = 0  # how often somebody has taken the lead
        self.followers: deque[Waiting] = deque()
        self.foreground: Poller = Poller()
        self.background: Poller = Poller()
        self._background: Waiting = Waiting(MAX_SCHEDULE_TIMEOUT)
        self._parked: bool = False
        self._parking: Any = real.select.poll()
        self._parking.register(self.background.receive, POLLIN)
        self._running: bool = False
        self._stopping: bool = False
        self.exited: bool = False  # the program's process has ended; some of its threads may not know
        self._ended: Any = _allocate_lock()
        self.budget: int = 1
        # Real descriptors of the program's files: by the process's own number, and the other way round.
        self.descriptors: dict[int, Descriptor] = {}
        self.numbers: dict[int, int] = {}
        # What the stand-ins ask of a runner.
        self.default_timeout: dict[int, float] = {}
        self.resolver: Any = None
        self.host_families: tuple[int, ...] = HOST_FAMILIES

    def now(self) -> int:
        """The Kernel's CLOCK_MONOTONIC (ns)."""
        return _monotonic_ns() + self.offset

    # -- the lock ------------------------------------------------------------------------------------------------------

    def acquire(self) -> None:
        me = _get_ident()
        if me == self.main:
            self.inside = True
        if not self.lock.acquire(False):
            self.queue.append(me)
            try:
                self.lock.acquire()
            finally:
                self.queue.pop()
        self.owner = me

    def release(self) -> None:
        """Let the lock go; what had to wait for that (finalizers, signal handlers) is called, and may raise."""
        me = _get_ident()
        if self.owner != me:
            return
        while self.deferred:
            fn, args = self.deferred.popleft()
            fn(*args)
        self.owner = 0
        self.lock.release()
        if me == self.main:
            self.inside = False
            while self.signals:
                self.signals.popleft()()

    def deadline_moved(self, when: int) -> None:
        """A system call armed an earlier timer: if a driver sleeps for longer, wake it."""
        for poller in (self.foreground, self.background):
            if when < poller.until:
                poller.kick()

    # -- waiting -------------------------------------------------------------------------------------------------------

    def wait(self, me: Waiting) -> None:
        """Until `me` is woken or its time is over. With the lock held; it is let go meanwhile, and held again at the end."""
        try:
            while not me.woken and me.deadline > self.now():
                leader = self.leader
                if leader is self.nobody or leader is self._background:
                    self.leader = me
                    self.turns += 1
                    if leader is self._background:
                        self.background.kick()  # it is to let go
                    self.drive(me, self.foreground)
                else:
                    self._follow(me)
        finally:
            if self.owner != _get_ident():
                self.acquire()  # a signal at an unlucky instant
            if self.leader is me:
                self.leader = self.nobody
            if self.leader is self.nobody:
                self._hand_on()

    def _follow(self, me: Waiting) -> None:
        gate = me.gate = _allocate_lock()
        gate.acquire()
        self.followers.append(me)
        try:
            self.release()
            timeout = -1.0
            if me.deadline < MAX_SCHEDULE_TIMEOUT:
                timeout = min(max(me.deadline - self.now(), 0) / 1e9, real._thread.TIMEOUT_MAX)
            gate.acquire(True, timeout)
        finally:
            self.acquire()
            me.gate = None
            if me in self.followers:
                self.followers.remove(me)

    def _hand_on(self) -> None:
        """Nobody leads: give it to the follower who has waited longest, or let the background thread see to it."""
        while self.followers:
            follower = self.followers.popleft()
            if follower.gate is not None:
                follower.open_gate()
                return
        if self._parked:
            self._parked = False
            self.background.kick()

    def drive(self, me: Waiting, poller: Poller) -> None:
        """Run the stack while `me` leads and waits. With the lock held."""
        kernel = self.kernel
        while True:
            now = self.now()
            deadline = kernel.run(now)
            if me.woken or me.deadline <= now or self.leader is not me:
                return
            self._poll(me, poller, min(deadline, me.deadline), now)

    def _poll(self, me: Waiting, poller: Poller, until: int, now: int) -> None:
        """Wait for a device or for `until` (ns), without the lock; then take in what has come."""
        for fd, dev in self.devices.items():
            wanted = POLLIN | POLLOUT if dev.queue_stopped else POLLIN
            if wanted != self.polled[fd]:
                self._ask(fd, wanted)
        poller.until = until
        me.poller = poller
        timeout = 0 if self.kernel.softirq_pending else _milliseconds(until, now)
        ready: list[tuple[int, int]] = []
        try:
            self.release()
            if self.queue:
                _sleep(YIELD)
            ready = poller.poll.poll(timeout)
        finally:
            self.acquire()
            me.poller = None
            poller.until = -1
        for fd, events in ready:
            if fd in self.devices:
                self._serve(fd, events)
            elif fd == poller.receive:
                poller.drain()
                real.notice_signals()  # a handler's turn comes at the next release()
            else:
                me.woken = True  # one of the host's, see wait_for

    def _ask(self, fd: int, events: int) -> None:
        self.polled[fd] = events
        self.foreground.poll.register(fd, events)
        self.background.poll.register(fd, events)

    def _serve(self, fd: int, events: int) -> None:
        """A device has something. Reading goes on for as long as it gets more each time: one packet at first, so that a lone one
        costs no second, futile read; TUN_BUDGET in a stream."""
        dev = self.devices[fd]
        if events & POLLOUT and dev.queue_stopped:
            tun_wake(dev)
        if events & POLLIN:
            budget = self.budget
            if tun_poll(dev, budget) == budget:
                self.budget = min(2 * budget, TUN_BUDGET)
            else:
                self.budget = max(budget // 2, 1)
        elif events & (POLLERR | POLLHUP | POLLNVAL):
            # The device has been taken away.
            del self.devices[fd]
            del self.polled[fd]
            self.foreground.poll.unregister(fd)
            self.background.poll.unregister(fd)
            netif_carrier_off(dev)

    def wait_for(self, host: dict[int, int], deadline: int) -> bool:
        """Wait in the host's own select, poll or epoll, and drive meanwhile: until one of its descriptors (descriptor -> events)
        is ready, or `deadline` (ns). False at once if another thread drives."""
        self.acquire()
        try:
            if self.leader is not self.nobody and self.leader is not self._background:
                return False
            poll = self.foreground.poll
            for fd, events in host.items():
                poll.register(fd, events)
            try:
                self.wait(Waiting(deadline))
            finally:
                for fd in host:
                    poll.unregister(fd)
        finally:
            self.release()
        return True

    # -- the background thread -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Have the background thread drive whenever nobody else does."""
        if not self._running:
            self._running = True
            self._ended.acquire()
            real._thread.start_new_thread(self._in_background, ())

    def _in_background(self) -> None:
        me = self._background
        self.acquire()
        try:
            while not self._stopping:
                if self.leader is me:
                    self.drive(me, self.background)
                elif self.leader is not self.nobody:
                    self._parked = True
                    self._park(None)
                    self._parked = False
                else:
                    turns = self.turns
                    self._park(GRACE * 1000)
                    if self.leader is self.nobody and self.turns == turns:
                        self.leader = me
        finally:
            if self.leader is me:
                self.leader = self.nobody
            self.release()
            self._ended.release()

    def _park(self, timeout: float | None) -> None:
        self.release()
        try:
            ready = self._parking.poll(timeout)
        finally:
            self.acquire()
        if ready:
            self.background.drain()

    # -- devices -------------------------------------------------------------------------------------------------------

    def attach(self, dev: NetDevice) -> None:
        """Drive `dev`, a device of drivers/tun.py whose I/O object has a fileno()."""
        ops = dev.netdev_ops
        assert isinstance(ops, TunOps)
        fd: int = cast(Any, ops.io).fileno()
        self.acquire()
        try:
            self.devices[fd] = dev
            self._ask(fd, POLLIN)
            self.deadline_moved(0)
        finally:
            self.release()

    def once(self) -> None:
        """Take in what there is, and do what is due, without waiting."""
        self.acquire()
        try:
            for dev in list(self.devices.values()):
                tun_poll(dev, TUN_BUDGET)
            self.kernel.run(self.now())
        finally:
            self.release()

    # -- descriptors ---------------------------------------------------------------------------------------------------

    def show(self, task: Task, fd: int) -> int:
        """A real descriptor of the host in the readiness of the process's own `fd`; the same one at each call."""
        known = self.descriptors.get(fd)
        if known is None:
            self.acquire()
            try:
                file = fdget(task.files, fd)
                if file is None:
                    return -1
                known = self.descriptors[fd] = Descriptor(file)
                self.numbers[known.fileno()] = fd
            finally:
                self.release()
        return known.fileno()

    def forget(self, fd: int) -> None:
        """`fd` is being closed."""
        known = self.descriptors.pop(fd, None)
        if known is not None:
            del self.numbers[known.fileno()]
            known.close()

    # -- the end -------------------------------------------------------------------------------------------------------

    def give_up(self, iocb: Kiocb) -> None:
        """An exception ends a call that waited: it lets go of the file that it held."""
        self.acquire()
        try:
            if not self.exited:
                iocb_release(iocb)
        finally:
            self.release()

    def vanish(self) -> None:
        """The process has ended: of its threads only the main one, which sees to the end, returns from this. With the lock held."""
        if _get_ident() != self.main:
            self.release()
            gate = _allocate_lock()
            gate.acquire()
            gate.acquire()

    def exit(self, task: Task) -> None:
        """The process ends: its descriptors are closed, as at the end of any process."""
        self.acquire()
        try:
            for fd in list(self.descriptors):
                self.forget(fd)
            # Calls that wait in daemon threads, or that a signal has interrupted, hold files; they end with the process.
            self.exited = True
            # Whoever led does so no more: a daemon thread, in a poll that is left to it, or this one, if a signal ends the process.
            self.leader = self.nobody
            self.foreground = Poller()
            for fd, events in self.polled.items():
                self.foreground.poll.register(fd, events)
            files = [file for file in task.files.fd if file is not None]
            for file in files:
                file.f_count = files.count(file)
            self.kernel.now = max(self.kernel.now, self.now())
            syscalls.sys_exit(task)
        finally:
            self.release()

    def linger(self, limit: int = LINGER_LIMIT) -> bool:
        """Drive until all that was sent is acknowledged, `limit` ns at most. Says whether it is."""
        end = self.now() + limit
        self.acquire()
        try:
            while unacknowledged(self.kernel):
                now = self.now()
                if now >= end or not self.devices:
                    return False
                self.wait(Waiting(min(now + LINGER_STEP, end)))
            # All is delivered. A peer that closes now, as most do, gets its acknowledgement too.
            grace = self.now() + FIN_WAIT2_GRACE
            while self.devices and self.now() < min(grace, end) and awaiting_fin(self.kernel):
                self.wait(Waiting(self.now() + LINGER_STEP))
        finally:
            self.release()
        return True

    def after_fork(self) -> None:
        """In the child of a fork: the machine stayed with the parent. Here it loses its devices, so that no packet is taken away
        from there; calls that wait for one wait for ever."""
        for fd, dev in list(self.devices.items()):
            dev.netdev_ops = NetDeviceOps()
            netif_carrier_off(dev)
            _close(fd)
        self.devices.clear()
        self.lock = _allocate_lock()
        self.owner = 0
        self.queue.clear()
        self.inside = False
        self.main = _get_ident()
        self.leader = self.nobody
        self.followers.clear()
        self.foreground = Poller()
        self.background = Poller()
        self._running = False

    def stop(self) -> None:
        """End the background thread. Nothing moves any more afterwards."""
        if self._running:
            self.acquire()
            self._stopping = True
            if self.leader is self._background:
                self.leader = self.nobody
            self.background.kick()
            self.release()
            self._ended.acquire()
            self._running = False

    def close(self) -> None:
        """Stop, and close every descriptor but the devices' own."""
        self.stop()
        for fd in list(self.descriptors):
            self.forget(fd)
        self.foreground.close()
        self.background.close()
