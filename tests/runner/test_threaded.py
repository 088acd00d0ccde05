"""The threaded runner in real time: two machines in this process, a driver each, on a wire that is a socketpair of the host.

Nothing here sleeps to let something happen: what is waited for is waited for, with a limit that no passing test reaches.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from afinet.drivers.tun import TunIO, tun_newlink
from afinet.init.main import new_task
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.kernel.wait import Kiocb
from afinet.net.core import dev as dev_core
from afinet.net.ipv4 import devinet
from afinet.runner.linger import unacknowledged
from afinet.runner.realtask import RealTask
from afinet.runner.threaded import ThreadedRunner
from afinet.stdlib.realtime import _Handler
from afinet.uapi.errno import EAGAIN, EBADF, EIOCBQUEUED
from afinet.uapi.eventpoll import POLLIN
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import AF_INET, SHUT_WR, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM
from tests.leaks import start_kernel
from tests.net.core.devices import init_net
from tests.net.ipv4.iphost import addr

pytestmark = pytest.mark.wire

A, B = addr("10.0.0.1"), addr("10.0.0.2")
LIMIT = 20.0  # seconds, for a test that hangs


class PairIO(TunIO):
    """One end of a wire: a datagram socketpair."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        end.setblocking(False)
        self.dead = False
        self.full = 0  # how often the wire took nothing

    def read(self) -> bytes | None:
        try:
            return self.end.recv(70_000)
        except BlockingIOError:
            return None

    def writev(self, pieces: list[bytes]) -> int:
        if self.dead:
            return 0
        try:
            self.end.sendmsg(pieces)
        except (BlockingIOError, OSError):
            self.full += 1
            return -EAGAIN
        return 0

    def fileno(self) -> int:
        return self.end.fileno()


class Machine:
    """A machine with one process, in real time."""

    def __init__(self, name: str, end: socket.socket, local: int) -> None:
        self.kernel = start_kernel(name, name.encode())
        net = init_net(self.kernel)
        assert net.loopback_dev is not None
        dev_core.dev_open(net.loopback_dev)
        self.runner = ThreadedRunner(self.kernel)
        self.io = PairIO(end)
        self.dev = tun_newlink(net, "tun0", self.io, False, 10, True)
        dev_core.dev_open(self.dev)
        assert devinet.inet_addr_add(self.dev, local, 24) == 0
        self.process = new_task(self.kernel, net, name, None)
        self.task = RealTask(self.runner, self.process)
        self.calls: Any = self.task.calls
        self.runner.attach(self.dev)
        self.runner.start()

    def wait(self, call: Callable[..., Any], *args: Any) -> Any:
        """A system call that may wait, to its end."""
        iocb = Kiocb()
        while True:
            answer = call(self.process, iocb, *args)
            if (answer[0] if isinstance(answer, tuple) else answer) != -EIOCBQUEUED:
                return answer
            self.task.wait_iocb(iocb, "test")

    def socket(self, type: int = SOCK_STREAM) -> int:
        fd: int = self.calls.sys_socket(self.process, AF_INET, type, 0)
        assert fd >= 0
        return fd

    def listen(self, port: int = 80) -> int:
        fd = self.socket()
        assert self.calls.sys_bind(self.process, fd, pack_sockaddr_in(0, port)) == 0
        assert self.calls.sys_listen(self.process, fd, 100) == 0
        return fd

    def connect(self, to: int, port: int = 80) -> int:
        fd = self.socket()
        assert self.wait(self.calls.sys_connect, fd, pack_sockaddr_in(to, port)) == 0
        return fd

    def accept(self, fd: int) -> int:
        conn: int = self.wait(self.calls.sys_accept4, fd, 0)[0]
        assert conn >= 0
        return conn

    def send(self, fd: int, data: bytes) -> None:
        assert self.wait(self.calls.sys_sendto, fd, data, 0, b"") == len(data)

    def recv(self, fd: int, size: int = 1 << 20) -> bytes:
        n, pieces, _ = self.wait(self.calls.sys_recvfrom, fd, size, 0)
        assert n >= 0, n
        return b"".join(pieces)

    def close(self, fd: int) -> None:
        assert self.wait(self.calls.sys_close, fd) == 0

    def shown(self, fd: int) -> int:
        return self.runner.show(self.process, fd)


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    a, b = Machine("a", pair[0], A), Machine("b", pair[1], B)
    yield a, b
    for machine in (a, b):
        machine.runner.close()
        machine.io.dead = True
        assert machine.runner.owner == 0 and machine.runner.leader is machine.runner.nobody and not machine.runner.followers
    for end in pair:
        end.close()


def thread(fn: Callable[..., object], *args: Any) -> Callable[[], Any]:
    """Start `fn` in a thread; the answer waits for its result."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(fn(*args))
        except BaseException as e:
            result.append(e)

    t = threading.Thread(target=run, daemon=True)
    t.start()

    def join() -> Any:
        t.join(LIMIT)
        assert result, "still running"
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]

    return join


def connected(a: Machine, b: Machine) -> tuple[int, int]:
    listener = b.listen()
    accepting = thread(b.accept, listener)
    near = a.connect(B)
    far: int = accepting()
    b.close(listener)
    return near, far


def test_a_call_that_waits_drives_the_stack(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    near, far = connected(a, b)
    receiving = thread(b.recv, far)
    a.send(near, b"hello")
    assert receiving() == b"hello"


def test_nobody_waits_and_the_handshake_is_made_all_the_same(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    listener = b.listen()
    near = a.connect(B)  # b's background thread answers
    a.send(near, b"early")
    assert b.recv(b.accept(listener)) == b"early"


@pytest.mark.parametrize("size", [0, 1, 100_000, 5_000_000])
def test_a_stream_arrives_whole_over_a_wire_that_is_full_at_times(machines: tuple[Machine, Machine], size: int) -> None:
    a, b = machines
    near, far = connected(a, b)
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]

    def receive() -> bytes:
        got = []
        while piece := b.recv(far):
            got.append(piece)
        return b"".join(got)

    receiving = thread(receive)
    if data:
        a.send(near, data)
    a.close(near)
    assert receiving() == data


def test_threads_that_wait_at_once_are_each_served(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    listener = b.listen()
    count = 8

    def serve(fd: int) -> None:
        while data := b.recv(fd):
            b.send(fd, data)

    def talk(i: int) -> bytes:
        fd = a.connect(B)
        got = b""
        for n in range(20):
            a.send(fd, b"%d:%d " % (i, n))
            got += a.recv(fd)
        a.close(fd)
        return got

    clients = [thread(talk, i) for i in range(count)]
    servers = [thread(serve, b.accept(listener)) for _ in range(count)]
    for i in range(count):
        assert clients[i]() == b"".join(b"%d:%d " % (i, n) for n in range(20))
    for server in servers:
        server()


def test_a_time_limit_is_kept_by_leader_and_follower(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    near, _ = connected(a, b)

    def poll(limit: int) -> tuple[int, float]:
        began = time.monotonic()
        n, _ = a.wait(a.calls.sys_poll, [(near, POLLIN)], limit * NSEC_PER_MSEC)
        return n, time.monotonic() - began

    waits = [thread(poll, limit) for limit in (50, 100, 150)]
    for wait, limit in zip(waits, (0.05, 0.1, 0.15), strict=True):
        n, took = wait()
        assert n == 0 and limit <= took < limit + 1


def test_a_shutdown_in_another_thread_ends_a_waiting_recv(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    near, _ = connected(a, b)
    receiving = thread(a.recv, near)
    a.calls.sys_shutdown(a.process, near, 2)
    assert receiving() == b""


def test_a_leader_in_its_poll_is_woken_by_what_another_thread_does(machines: tuple[Machine, Machine]) -> None:
    """A datagram over lo: no packet of the wire and no timer ends the poll."""
    a, _ = machines
    receiver, sender = a.socket(SOCK_DGRAM), a.socket(SOCK_DGRAM)
    assert a.calls.sys_bind(a.process, receiver, pack_sockaddr_in(addr("127.0.0.1"), 7)) == 0
    waiting = thread(a.recv, receiver)
    end = time.monotonic() + LIMIT
    while a.runner.foreground.until < 0 and time.monotonic() < end:
        threading.Event().wait(0.001)
    a.wait(a.calls.sys_sendto, sender, b"hello", 0, pack_sockaddr_in(addr("127.0.0.1"), 7))
    assert waiting() == b"hello"


def test_timers_fire_while_nobody_waits(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    b.io.dead = True  # nothing comes back
    fd = a.socket(SOCK_STREAM | SOCK_NONBLOCK)
    a.wait(a.calls.sys_connect, fd, pack_sockaddr_in(B, 80))
    sent = a.dev.stats.tx_packets
    end = time.monotonic() + LIMIT
    while a.dev.stats.tx_packets == sent and time.monotonic() < end:
        threading.Event().wait(0.02)
    assert a.dev.stats.tx_packets > sent  # the SYN again, a second later
    a.close(fd)


# -- descriptors -----------------------------------------------------------------------------------------------------------


def ready(fd: int, timeout: int = 0) -> int:
    """What the host's poll() says of a descriptor."""
    poller = select.poll()
    poller.register(fd, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    return dict(poller.poll(timeout)).get(fd, 0)


def until_ready(fd: int, mask: int) -> int:
    end = time.monotonic() + LIMIT
    while (now := ready(fd, 100)) & mask != mask and time.monotonic() < end:
        pass
    return now


def test_a_real_descriptor_is_ready_when_the_socket_is(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    near, far = connected(a, b)
    real = a.shown(near)
    assert a.shown(near) == real and a.runner.numbers[real] == near
    assert ready(real) == select.POLLOUT
    b.send(far, b"xy")
    assert until_ready(real, select.POLLIN) == select.POLLIN | select.POLLOUT
    assert a.recv(near, 1) == b"x" and ready(real) & select.POLLIN
    assert a.recv(near, 1) == b"y" and ready(real) == select.POLLOUT
    # fill the way out
    assert a.calls.sys_fcntl(a.process, near, 4, 0o4000) == 0
    # Until no acknowledgement makes room again. A little room, a third of what is queued, does not make it writable.
    while (sent := a.wait(a.calls.sys_sendto, near, bytes(1 << 20), 0, b"")) > 0 or ready(real, 50):
        assert sent == -EAGAIN or 0 < sent < 1 << 20
    draining = thread(lambda: sum(iter(lambda: len(b.recv(far)), 0)))
    assert until_ready(real, select.POLLOUT) & select.POLLOUT
    a.close(near)
    assert a.runner.numbers == {}
    assert draining() > 100_000
    b.close(far)


def test_the_peers_end_and_a_reset_show(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    near, far = connected(a, b)
    real = a.shown(near)
    b.calls.sys_shutdown(b.process, far, SHUT_WR)
    assert until_ready(real, select.POLLRDHUP) == select.POLLRDHUP | select.POLLIN | select.POLLOUT
    assert a.recv(near) == b"" and ready(real) & select.POLLIN
    a.send(near, b"unread")
    until_ready(b.shown(far), select.POLLIN)
    b.close(far)  # with something unread: a reset
    now = until_ready(real, select.POLLHUP)
    assert now & (select.POLLHUP | select.POLLERR) == select.POLLHUP | select.POLLERR
    a.close(near)


def test_a_listener_and_a_datagram_socket_show_their_readiness(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    listener = b.listen()
    real = b.shown(listener)
    assert ready(real) == 0
    near = a.connect(B)
    assert until_ready(real, select.POLLIN) == select.POLLIN
    far = b.accept(listener)
    assert ready(real) == 0
    udp = b.socket(SOCK_DGRAM)
    b.calls.sys_bind(b.process, udp, pack_sockaddr_in(0, 7))
    shown = b.shown(udp)
    assert ready(shown) == select.POLLOUT
    out = a.socket(SOCK_DGRAM)
    assert a.wait(a.calls.sys_sendto, out, b"x", 0, pack_sockaddr_in(B, 7)) == 1
    assert until_ready(shown, select.POLLIN) == select.POLLIN | select.POLLOUT
    for machine, fds in ((a, (near, out)), (b, (far, udp, listener))):
        for fd in fds:
            machine.close(fd)


def test_an_error_of_a_datagram_socket_shows_until_it_is_read(machines: tuple[Machine, Machine]) -> None:
    a, _ = machines
    fd = a.socket(SOCK_DGRAM)
    assert a.wait(a.calls.sys_connect, fd, pack_sockaddr_in(B, 9)) == 0
    real = a.shown(fd)
    assert a.wait(a.calls.sys_sendto, fd, b"x", 0, b"") == 1
    assert until_ready(real, select.POLLIN) == select.POLLIN | select.POLLOUT
    assert a.wait(a.calls.sys_recvfrom, fd, 10, 0)[0] == -111  # ECONNREFUSED
    assert ready(real) == select.POLLOUT
    a.close(fd)
    assert a.runner.show(a.process, fd) == -1
    assert a.wait(a.calls.sys_recvfrom, fd, 10, 0)[0] == -EBADF


# -- the end ---------------------------------------------------------------------------------------------------------------


def test_a_process_that_ends_lingers_until_all_is_acknowledged(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    near, far = connected(a, b)
    a.calls.sys_setsockopt(a.process, near, 1, 7, (2_000_000).to_bytes(4, "little"))
    sending = thread(a.send, near, bytes(400_000))
    sending()
    a.runner.exit(a.process)
    assert unacknowledged(a.kernel)

    def count() -> int:
        got = 0
        while n := len(b.recv(far, 30_000)):
            got += n
        return got

    counting = thread(count)
    assert a.runner.linger()
    assert not unacknowledged(a.kernel)
    assert counting() == 400_000


def test_lingering_has_a_limit(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    near, _ = connected(a, b)
    b.io.dead = True
    a.send(near, b"x")
    a.close(near)
    began = time.monotonic()
    assert not a.runner.linger(NSEC_PER_SEC // 5)
    assert 0.2 <= time.monotonic() - began < 5
    b.io.dead = False


# -- what comes at an unlucky instant --------------------------------------------------------------------------------------


def test_a_finalizer_inside_the_stack_waits_for_its_end(machines: tuple[Machine, Machine]) -> None:
    a, _ = machines
    fd = a.socket()
    a.runner.acquire()  # as if the collector ran in the middle of a call
    assert a.calls.sys_close(a.process, Kiocb(), fd) == 0
    assert a.process.files.fd[fd] is not None
    a.runner.release()
    assert a.process.files.fd[fd] is None


def test_a_signal_handler_waits_until_the_main_thread_is_out_of_the_stack(machines: tuple[Machine, Machine]) -> None:
    a, _ = machines
    heard: list[int] = []
    handler = _Handler(a.runner, lambda signum, frame: heard.append(signum))
    a.runner.acquire()
    handler(2, None)
    assert heard == []
    a.runner.release()
    assert heard == [2]
    handler(15, None)
    assert heard == [2, 15]


def test_an_exception_of_a_handler_ends_a_wait_and_leaves_nothing_behind(machines: tuple[Machine, Machine]) -> None:
    a, b = machines
    near, far = connected(a, b)

    class Stop(Exception):
        pass

    def interrupt() -> None:
        raise Stop

    def later() -> None:
        end = time.monotonic() + LIMIT
        while a.runner.leader is None or a.runner.leader is a.runner._background:
            assert time.monotonic() < end
            threading.Event().wait(0.001)
        a.runner.acquire()
        a.runner.signals.append(interrupt)
        a.runner.foreground.kick()
        a.runner.release()

    waker = thread(later)
    with pytest.raises(Stop):
        a.recv(near)
    waker()
    b.send(far, b"still there")
    assert a.recv(near) == b"still there"
