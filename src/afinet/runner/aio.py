"""The aio runner: one Kernel in real time inside the user's asyncio loop. No thread, no lock.

The loop tells when a device has packets (add_reader, or a queue's own word) and when the earliest timer is due (call_at); each time
the stack does what there is to do and returns. A coroutine makes a system call directly (`call`); one that has to wait puts an
entry on the wait queues and awaits a future (`finish`), and calls again with the same record.

A device whose other end took nothing (-EAGAIN) stops its queue: the loop then watches for room as well (`_look`).

The clock is the loop's own, so a loop with a clock of its own drives the stack by that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from afinet.drivers.tun import TUN_BUDGET, TunIO, TunOps, tun_poll, tun_wake
from afinet.init import syscalls
from afinet.kernel.machine import Kernel, KernelRunner
from afinet.kernel.task import Task
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT, NSEC_PER_SEC
from afinet.kernel.wait import (
    WQ_FLAG_EXCLUSIVE,
    Kiocb,
    WaitQueueEntry,
    WaitQueueHead,
    add_wait_queue,
    remove_wait_queue,
    wake_up_poll,
)
from afinet.net.core.dev import unregister_netdevice
from afinet.net.core.link_watch import netif_carrier_off
from afinet.net.core.netdevice import NetDevice
from afinet.runner import real
from afinet.runner.linger import FIN_WAIT2_GRACE, LINGER_LIMIT, LINGER_STEP, awaiting_fin, unacknowledged
from afinet.runner.queueio import LIMIT, Closed, PacketQueue
from afinet.uapi.errno import EAGAIN, EIOCBQUEUED, ENETDOWN, ESHUTDOWN
from afinet.uapi.eventpoll import POLLIN, POLLOUT


class QueueIO(PacketQueue):
    """For coroutines of the loop that the stack runs in: `put` and `get` wait as those of asyncio.Queue do."""

    def __init__(self, limit: int = LIMIT, *, tap: bool = False) -> None:
        super().__init__(limit, tap=tap)
        self._putters: deque[asyncio.Future[None]] = deque()
        self._getters: deque[asyncio.Future[None]] = deque()
        # The runner's: there is something to read (POLLIN), or room again (POLLOUT).
        self.listener: Callable[[int], None] | None = None

    # -- the stack's side ----------------------------------------------------------------------------------------------

    def read(self) -> bytes | None:
        if not self.incoming:
            return None
        packet = self.incoming.popleft()
        _wake(self._putters)
        return packet

    def writev(self, pieces: list[bytes]) -> int:
        if self.closed:
            return -ENETDOWN
        if not self.room():
            return -EAGAIN
        self.outgoing.append(b"".join(pieces))
        _wake(self._getters)
        return 0

    # -- the user's side -----------------------------------------------------------------------------------------------

    def put_nowait(self, packet: bytes) -> None:
        """Hand a packet to the stack. asyncio.QueueFull if there is no room."""
        packet = self._checked(packet)
        if len(self.incoming) >= self.limit:
            raise asyncio.QueueFull
        self.incoming.append(packet)
        if self.listener is not None:
            self.listener(POLLIN)

    async def put(self, packet: bytes) -> None:
        """The same, when there is room."""
        packet = self._checked(packet)
        while len(self.incoming) >= self.limit and not self.closed:
            await _turn(self._putters)
        self.put_nowait(packet)

    def get_nowait(self) -> bytes:
        """The next packet that the stack sends. asyncio.QueueEmpty if there is none; Closed after the last one."""
        if not self.outgoing:
            raise Closed if self.closed else asyncio.QueueEmpty
        full = not self.room()
        packet = self.outgoing.popleft()
        if full and self.listener is not None:
            self.listener(POLLOUT)
        return packet

    async def get(self) -> bytes:
        """The same, when there is one."""
        while not self.outgoing and not self.closed:
            await _turn(self._getters)
        return self.get_nowait()

    def __aiter__(self) -> QueueIO:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.get()
        except Closed:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Whoever waits gets `Closed`, when the queue is empty; what the stack sends from now on is lost, and counted."""
        self.closed = True
        while self._putters:
            _wake(self._putters)
        while self._getters:
            _wake(self._getters)
        if self.listener is not None:
            self.listener(POLLOUT)


def _wake(waiters: deque[asyncio.Future[None]]) -> None:
    """The first who still waits."""
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return


async def _turn(waiters: deque[asyncio.Future[None]]) -> None:
    """Wait in line."""
    waiter = asyncio.get_running_loop().create_future()
    waiters.append(waiter)
    try:
        await waiter
    except asyncio.CancelledError:
        if waiter.done() and not waiter.cancelled():
            _wake(waiters)  # whose turn it was is going away
        raise


class _Entry(WaitQueueEntry):
    """A waiting call's entry on a wait queue."""

    __slots__ = ("future", "mask")

    def __init__(self, future: asyncio.Future[None], mask: int, flags: int) -> None:
        super().__init__(flags)
        self.future = future
        self.mask = mask

    def func(self, key: int) -> bool:
        if (key and self.mask and not key & self.mask) or self.future.done():
            return False
        self.future.set_result(None)
        return True


class AioRunner(KernelRunner):
    """The driver of `kernel` in `loop`. `attach` the devices; `finish` makes the calls of coroutines; `close` at the end."""

    def __init__(self, kernel: Kernel, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.kernel = kernel
        self.loop = loop
        # The Kernel's clock goes on from where it stands, whatever the loop's counts from.
        self.offset = kernel.now - self._loop_ns()
        kernel.boot_time = real.time.time_ns() - kernel.now
        kernel.runner = self
        self.devices: list[NetDevice] = []
        self.watched: list[NetDevice] = []  # of those, whose descriptor is watched for room
        self.armed = MAX_SCHEDULE_TIMEOUT  # when (ns) the timer goes off
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[asyncio.Future[None], None] = {}  # one for each coroutine that waits in a call

    def _loop_ns(self) -> int:
        return int(self.loop.time() * NSEC_PER_SEC)

    def now(self) -> int:
        """The Kernel's CLOCK_MONOTONIC (ns)."""
        return self._loop_ns() + self.offset

    def sync(self, kernel: Kernel) -> None:
        now = self.now()
        if now > kernel.now:
            kernel.now = now

    def deadline_moved(self, kernel: Kernel, when: int) -> None:
        if when < self.armed:
            self._arm(when)

    def _arm(self, when: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.armed = when
        if when < MAX_SCHEDULE_TIMEOUT:
            self._timer = self.loop.call_at((when - self.offset) / NSEC_PER_SEC, self._due)

    def _due(self) -> None:
        self._timer = None
        self.armed = MAX_SCHEDULE_TIMEOUT
        self.run()

    def run(self) -> None:
        """Have the stack do all that is due."""
        deadline = self.kernel.run(self.now())
        if deadline != self.armed:
            self._arm(deadline)
        self._look()

    # -- devices -------------------------------------------------------------------------------------------------------

    def attach(self, dev: NetDevice) -> None:
        """Drive `dev`, a device of drivers/tun.py over a QueueIO, or over an I/O object with a fileno() that the loop can watch."""
        io = _io(dev)
        self.devices.append(dev)
        if isinstance(io, QueueIO):
            io.listener = _Listener(self, dev)
            if io.incoming:
                io.listener(POLLIN)
        else:
            self.loop.add_reader(_fileno(io), self._readable, dev)
        self._look()

    def _readable(self, dev: NetDevice) -> None:
        if tun_poll(dev, TUN_BUDGET) == 0 and _is_gone(_fileno(_io(dev))):
            self.detach(dev)
            netif_carrier_off(dev)
        self.run()

    def _writable(self, dev: NetDevice) -> None:
        self.loop.remove_writer(_fileno(_io(dev)))
        self.watched.remove(dev)
        tun_wake(dev)
        self.run()

    def _look(self) -> None:
        """Watch for room where a device's queue is stopped. Called after everything that may send."""
        for dev in self.devices:
            if dev.queue_stopped and dev not in self.watched:
                io = _io(dev)
                if not isinstance(io, QueueIO):
                    self.watched.append(dev)
                    self.loop.add_writer(_fileno(io), self._writable, dev)

    def detach(self, dev: NetDevice) -> None:
        """Drive `dev` no more."""
        io = _io(dev)
        self.devices.remove(dev)
        if isinstance(io, QueueIO):
            io.listener = None
            return
        self.loop.remove_reader(_fileno(io))
        if dev in self.watched:
            self.watched.remove(dev)
            self.loop.remove_writer(_fileno(io))

    # -- system calls --------------------------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """A system call that does not wait, on time."""
        self.sync(self.kernel)
        answer = function(*args)
        self._look()
        return answer

    async def finish(self, function: Callable[..., Any], task: Task, *args: Any) -> Any:
        """A system call that takes a Kiocb, to its end. Cancelled, it lets go of what it holds."""
        iocb = Kiocb()
        while True:
            answer = self.call(function, task, iocb, *args)
            if (answer[0] if isinstance(answer, tuple) else answer) != -EIOCBQUEUED:
                return answer
            try:
                await self._wait(iocb)
            except BaseException:
                syscalls.abandon(iocb)
                raise

    async def _wait(self, iocb: Kiocb) -> None:
        """Wait as `iocb` says, once."""
        future: asyncio.Future[None] = self.loop.create_future()
        self._waiting[future] = None
        entries: list[tuple[WaitQueueHead, _Entry]] = []
        timer: asyncio.TimerHandle | None = None
        try:
            wq = iocb.ki_wq
            if wq is not None:
                entries.append((wq, _Entry(future, iocb.ki_mask, WQ_FLAG_EXCLUSIVE if iocb.ki_exclusive else 0)))
            else:
                entries += [(head, _Entry(future, mask, 0)) for head, mask in iocb.ki_poll or ()]
            for head, entry in entries:
                add_wait_queue(head, entry)
            if iocb.missed():
                return
            if 0 <= iocb.ki_deadline < MAX_SCHEDULE_TIMEOUT:
                timer = self.loop.call_at((iocb.ki_deadline - self.offset) / NSEC_PER_SEC, _over, future)
            await future
        except asyncio.CancelledError:
            if wq is not None and iocb.ki_exclusive and future.done() and not future.cancelled():
                wake_up_poll(wq, 0)  # the wake-up was for one, and this one is going away
            raise
        finally:
            del self._waiting[future]
            for head, entry in entries:
                remove_wait_queue(head, entry)
            if timer is not None:
                timer.cancel()

    # -- the end -------------------------------------------------------------------------------------------------------

    async def interrupt(self) -> None:
        """End every call that waits, by OSError."""
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(OSError(ESHUTDOWN, "the machine is closed"))
        while self._waiting:
            await asyncio.sleep(0)

    async def linger(self, limit: int = LINGER_LIMIT) -> bool:
        """Until all that was sent is acknowledged, `limit` ns at most. Says whether it is."""
        end = self.now() + limit
        while unacknowledged(self.kernel):
            if self.now() >= end or not self.devices:
                return False
            await asyncio.sleep(LINGER_STEP / NSEC_PER_SEC)
        grace = min(self.now() + FIN_WAIT2_GRACE, end)
        while self.devices and self.now() < grace and awaiting_fin(self.kernel):
            await asyncio.sleep(LINGER_STEP / NSEC_PER_SEC)
        return True

    def close(self) -> None:
        """Nothing moves any more: no callback of the loop is left, and no device."""
        for dev in list(self.devices):
            self.detach(dev)
            unregister_netdevice(dev)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.kernel.runner = None


class _Listener:
    """What a QueueIO calls. The stack never runs inside the caller: the loop calls it, once however much has come."""

    def __init__(self, runner: AioRunner, dev: NetDevice) -> None:
        self.runner = runner
        self.dev = dev
        self.scheduled = False

    def __call__(self, events: int) -> None:
        if not self.scheduled and (events & POLLIN or self.dev.queue_stopped):
            self.scheduled = True
            self.runner.loop.call_soon(self.serve)

    def serve(self) -> None:
        self.scheduled = False
        dev, io = self.dev, _io(self.dev)
        if dev not in self.runner.devices or not isinstance(io, QueueIO):
            return
        if dev.queue_stopped and io.room():
            tun_wake(dev)
        tun_poll(dev, TUN_BUDGET)
        self.runner.run()
        if io.incoming or (dev.queue_stopped and io.room()):
            self(POLLIN)


def _io(dev: NetDevice) -> TunIO:
    ops = dev.netdev_ops
    assert isinstance(ops, TunOps)
    return ops.io


def _fileno(io: TunIO) -> int:
    fd: int = cast(Any, io).fileno()
    return fd


def _over(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _is_gone(fd: int) -> bool:
    """Whether the descriptor is readable only because its device has been taken away."""
    poll = real.select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
