"""TCP sockets under calls that wait, from several callers at once. What Linux 6.18 does in each case was seen on a running one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from afinet.drivers.veth import veth_newlink
from afinet.fs.file import fdget
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.task import Task
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.kernel.wait import Kiocb
from afinet.net.core.dev import dev_open
from afinet.net.core.net_namespace import copy_net_ns
from afinet.net.ipv4.devinet import inet_addr_add
from afinet.net.ipv4.inet_sock import InetSock
from afinet.net.socket import SocketFile
from afinet.uapi.errno import (
    EAGAIN,
    EALREADY,
    EBADF,
    ECONNREFUSED,
    ECONNRESET,
    EHOSTUNREACH,
    EINPROGRESS,
    EINTR,
    EINVAL,
    EIOCBQUEUED,
    EISCONN,
    EMFILE,
    EPIPE,
)
from afinet.uapi.eventpoll import EPOLLHUP, EPOLLIN, EPOLLOUT
from afinet.uapi.fcntl import F_GETFL, F_SETFL, O_NONBLOCK, O_RDWR
from afinet.uapi.sockaddr import pack_linger, pack_s32, pack_sockaddr_in, pack_timeval, sockaddr_unspec, unpack_sockaddr_in
from afinet.uapi.socket import (
    AF_INET,
    MSG_NOSIGNAL,
    MSG_PEEK,
    MSG_WAITALL,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SO_LINGER,
    SO_RCVBUF,
    SO_RCVTIMEO,
    SO_SNDTIMEO,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    SS_CONNECTED,
    SS_CONNECTING,
    SS_UNCONNECTED,
)
from tests.leaks import start_kernel

V0, V1, NOBODY = 0x0A000001, 0x0A000002, 0x0A00004D
SERVER = pack_sockaddr_in(V1, 80)


class Call:
    """A call in progress: tried again until it has an answer. `try_()` says the answer or None."""

    def __init__(self, w: "World", op: object) -> None:
        self.iocb = Kiocb()
        self.op = op
        self.answer: object = None
        w.calls.append(self)
        self.try_()

    def try_(self) -> object:
        if self.answer is None:
            assert callable(self.op)
            answer = self.op(self.iocb)
            n = answer[0] if isinstance(answer, tuple) else answer
            if n != -EIOCBQUEUED:
                self.answer = answer
        return self.answer


class World:
    """A client at 10.0.0.1 and a server at 10.0.0.2, which listens on port 80 as descriptor 3."""

    def __init__(self) -> None:
        self.kernel = start_kernel("test", b"seed")
        self.calls: list[Call] = []
        a, b = copy_net_ns(self.kernel, "a"), copy_net_ns(self.kernel, "b")
        for dev, addr in zip(veth_newlink(a, "v0", b, "v1"), (V0, V1), strict=True):
            inet_addr_add(dev, addr, 24)
            dev_open(dev)
        for net in (a, b):  # an unreachable neighbour is told by ICMP over lo
            assert net.loopback_dev is not None
            dev_open(net.loopback_dev)
        self.a = new_task(self.kernel, a, "client", None)
        self.b = new_task(self.kernel, b, "server", None)
        self.listener = self.socket(self.b)
        assert syscalls.sys_bind(self.b, self.listener, SERVER) == 0
        assert syscalls.sys_listen(self.b, self.listener, 8) == 0
        self.advance(0)

    def socket(self, task: Task, flags: int = 0) -> int:
        fd = syscalls.sys_socket(task, AF_INET, SOCK_STREAM | flags, 0)
        assert fd >= 0
        return fd

    def advance(self, ns: int) -> None:
        end = self.kernel.now + ns
        when = self.kernel.run(self.kernel.now)
        while when <= end:
            when = self.kernel.run(when)
        self.kernel.run(end)

    def call(self, op: object) -> Call:
        return Call(self, op)

    def connect(self, fd: int, addr: bytes = SERVER) -> Call:
        return self.call(lambda iocb: syscalls.sys_connect(self.a, iocb, fd, addr))

    def accept(self) -> Call:
        return self.call(lambda iocb: syscalls.sys_accept4(self.b, iocb, self.listener, 0))

    def recv(self, task: Task, fd: int, size: int = 100, flags: int = 0) -> Call:
        return self.call(lambda iocb: syscalls.sys_recvfrom(task, iocb, fd, size, flags))

    def send(self, task: Task, fd: int, data: bytes, flags: int = 0) -> Call:
        return self.call(lambda iocb: syscalls.sys_sendto(task, iocb, fd, data, flags, b""))

    def pair(self) -> tuple[int, int]:
        """A connection: (the client's descriptor, the server's)."""
        fd = self.socket(self.a)
        call = self.connect(fd)
        self.advance(0)
        assert call.try_() == 0
        accepted = self.accept().answer
        assert isinstance(accepted, tuple) and accepted[0] >= 0
        return fd, accepted[0]

    def set(self, task: Task, fd: int, option: int, value: bytes) -> None:
        assert syscalls.sys_setsockopt(task, fd, SOL_SOCKET, option, value) == 0

    def state(self, fd: int) -> int:
        file = fdget(self.a.files, fd)
        assert isinstance(file, SocketFile)
        return file.sock.state

    def sk(self, task: Task, fd: int) -> InetSock:
        file = fdget(task.files, fd)
        assert isinstance(file, SocketFile) and isinstance(file.sock.sk, InetSock)
        return file.sock.sk


@pytest.fixture
def w() -> Iterator[World]:
    world = World()
    yield world
    for call in world.calls:
        if call.answer is None:
            syscalls.abandon(call.iocb)


# -- connect -------------------------------------------------------------------------------------------------------------


def test_a_blocking_connect_waits_for_the_handshake(w: World) -> None:
    fd = w.socket(w.a)
    call = w.connect(fd)
    if call.answer is None:
        assert w.state(fd) == SS_CONNECTING
        w.advance(0)
    assert call.try_() == 0
    assert w.state(fd) == SS_CONNECTED
    assert w.connect(fd).answer == -EISCONN


def test_a_nonblocking_connect_is_in_progress_then_done(w: World) -> None:
    fd = w.socket(w.a, SOCK_NONBLOCK)
    assert w.connect(fd, pack_sockaddr_in(NOBODY, 80)).answer == -EINPROGRESS
    assert w.connect(fd, pack_sockaddr_in(NOBODY, 80)).answer == -EALREADY
    fd = w.socket(w.a, SOCK_NONBLOCK)
    assert w.connect(fd).answer == -EINPROGRESS
    w.advance(0)
    assert syscalls.sys_poll(w.a, Kiocb(), [(fd, EPOLLOUT)], 0) == (1, [EPOLLOUT])
    assert w.connect(fd).answer == 0
    assert w.connect(fd).answer == -EISCONN


def test_a_refused_connect_leaves_a_socket_that_can_try_again(w: World) -> None:
    fd = w.socket(w.a)
    call = w.connect(fd, pack_sockaddr_in(V1, 81))
    w.advance(0)
    assert call.try_() == -ECONNREFUSED
    assert w.state(fd) == SS_UNCONNECTED
    call = w.connect(fd)
    w.advance(0)
    assert call.try_() == 0


def test_nobody_there_is_ehostunreach_when_arp_gives_up(w: World) -> None:
    fd = w.socket(w.a)
    call = w.connect(fd, pack_sockaddr_in(NOBODY, 80))
    w.advance(2 * NSEC_PER_SEC)
    assert call.try_() is None
    w.advance(2 * NSEC_PER_SEC)
    assert call.try_() == -EHOSTUNREACH
    assert w.state(fd) == SS_UNCONNECTED


def test_the_send_timeout_ends_a_connect_but_not_the_handshake(w: World) -> None:
    fd = w.socket(w.a)
    w.set(w.a, fd, SO_SNDTIMEO, pack_timeval(0, 300000))
    first = w.connect(fd, pack_sockaddr_in(NOBODY, 80))
    w.advance(300 * NSEC_PER_MSEC - 1)
    assert first.try_() is None
    w.advance(1)
    assert first.try_() == -EINPROGRESS
    second = w.connect(fd, pack_sockaddr_in(NOBODY, 80))
    w.advance(300 * NSEC_PER_MSEC)
    assert second.try_() == -EALREADY
    assert w.state(fd) == SS_CONNECTING


def test_a_signal_interrupts_a_connect_that_goes_on(w: World) -> None:
    fd = w.socket(w.a)
    call = w.connect(fd, pack_sockaddr_in(NOBODY, 80))
    call.iocb.ki_signal = True
    assert call.try_() == -EINTR
    assert w.state(fd) == SS_CONNECTING


def test_the_error_of_a_connect_is_told_to_one_of_its_waiters(w: World) -> None:
    fd = w.socket(w.a)
    first = w.connect(fd, pack_sockaddr_in(NOBODY, 80))
    joined = w.connect(fd, pack_sockaddr_in(NOBODY, 80))
    w.advance(4 * NSEC_PER_SEC)
    assert (first.try_(), joined.try_()) == (-EHOSTUNREACH, -EPIPE)


def test_success_is_told_to_all_its_waiters(w: World) -> None:
    fd = w.socket(w.a, SOCK_NONBLOCK)
    assert w.connect(fd).answer == -EINPROGRESS
    assert syscalls.sys_fcntl(w.a, fd, F_SETFL, 0) == 0
    assert syscalls.sys_fcntl(w.a, fd, F_GETFL, 0) == O_RDWR
    first, second = w.connect(fd), w.connect(fd)
    w.advance(0)
    assert first.try_() == 0
    assert second.try_() in (0, -EISCONN)  # -EISCONN if it only began when all was over


def test_dissolving_the_association_ends_every_wait(w: World) -> None:
    fd = w.socket(w.a)
    first = w.connect(fd, pack_sockaddr_in(NOBODY, 80))
    joined = w.connect(fd, pack_sockaddr_in(NOBODY, 80))
    assert w.connect(fd, sockaddr_unspec()).answer == 0
    assert (first.try_(), joined.try_()) == (-EPIPE, -EPIPE)
    assert w.state(fd) == SS_UNCONNECTED


def test_shutdown_resets_a_connect_that_waits(w: World) -> None:
    fd = w.socket(w.a)
    call = w.connect(fd, pack_sockaddr_in(NOBODY, 80))
    assert syscalls.sys_shutdown(w.a, fd, SHUT_RDWR) == 0
    assert call.try_() == -ECONNRESET


def test_a_connect_goes_on_after_a_close_of_its_descriptor(w: World) -> None:
    fd = w.socket(w.a)
    call = w.connect(fd, pack_sockaddr_in(NOBODY, 80))
    assert syscalls.sys_close(w.a, Kiocb(), fd) == 0
    assert call.try_() is None
    w.advance(4 * NSEC_PER_SEC)
    assert call.try_() == -EHOSTUNREACH
    assert w.kernel.warned == {}


# -- accept --------------------------------------------------------------------------------------------------------------


def test_a_blocking_accept_gets_the_next_connection(w: World) -> None:
    call = w.accept()
    assert call.answer is None
    fd = w.socket(w.a)
    w.connect(fd)
    w.advance(0)
    answer = call.try_()
    assert isinstance(answer, tuple)
    new, addr = answer
    assert new == 4
    assert unpack_sockaddr_in(addr)[0] == V0
    assert addr == syscalls.sys_getsockname(w.a, fd)[1]
    assert syscalls.sys_getpeername(w.b, new) == (0, addr)
    assert syscalls.sys_getsockname(w.b, new) == (0, SERVER)


def test_accepts_timeout_and_nonblocking(w: World) -> None:
    w.set(w.b, w.listener, SO_RCVTIMEO, pack_timeval(1, 0))
    call = w.accept()
    w.advance(NSEC_PER_SEC)
    assert call.try_() == (-EAGAIN, b"")
    assert syscalls.sys_fcntl(w.b, w.listener, F_SETFL, O_NONBLOCK) == 0
    assert w.accept().answer == (-EAGAIN, b"")


def test_shutdown_of_a_listener_wakes_its_accept(w: World) -> None:
    call = w.accept()
    assert syscalls.sys_shutdown(w.b, w.listener, SHUT_WR) == 0
    assert call.try_() is None
    assert syscalls.sys_shutdown(w.b, w.listener, SHUT_RD) == 0
    assert call.try_() == (-EINVAL, b"")


def test_an_accept_goes_on_after_a_close_of_the_listener(w: World) -> None:
    call = w.accept()
    assert syscalls.sys_close(w.b, Kiocb(), w.listener) == 0
    assert call.try_() is None
    fd = w.socket(w.a)
    connect = w.connect(fd)
    w.advance(0)
    assert connect.try_() == 0
    answer = call.try_()
    assert isinstance(answer, tuple) and answer[0] == 3  # the number that the listener had
    refused = w.connect(w.socket(w.a))
    w.advance(0)
    assert refused.try_() == -ECONNREFUSED


def test_no_descriptor_leaves_the_connection_in_the_queue(w: World) -> None:
    w.connect(w.socket(w.a))
    w.advance(0)
    w.b.rlimit_nofile = 4
    assert w.accept().answer == (-EMFILE, b"")
    w.b.rlimit_nofile = 5
    answer = w.accept().answer
    assert isinstance(answer, tuple) and answer[0] == 4


# -- data ----------------------------------------------------------------------------------------------------------------


def test_a_byte_goes_over_and_comes_back(w: World) -> None:
    fd, child = w.pair()
    call = w.recv(w.b, child)
    assert call.answer is None
    assert w.send(w.a, fd, b"!").answer == 1
    w.advance(0)
    assert call.try_() == (1, [b"!"], b"")
    assert syscalls.sys_write(w.b, Kiocb(), child, b"?") == 1
    w.advance(0)
    assert syscalls.sys_read(w.a, Kiocb(), fd, 10) == (1, [b"?"])


def test_waitall_gathers_and_peek_leaves(w: World) -> None:
    fd, child = w.pair()
    call = w.recv(w.b, child, 6, MSG_WAITALL)
    w.send(w.a, fd, b"abc")
    w.advance(0)
    assert call.try_() is None
    w.send(w.a, fd, b"defg")
    w.advance(0)
    answer = call.try_()
    assert isinstance(answer, tuple) and (answer[0], b"".join(answer[1])) == (6, b"abcdef")
    assert w.recv(w.b, child, 6, MSG_PEEK).answer == (1, [b"g"], b"")
    assert w.recv(w.b, child, 6).answer == (1, [b"g"], b"")


def test_a_signal_gives_waitall_what_there_is(w: World) -> None:
    fd, child = w.pair()
    w.send(w.a, fd, b"abc")
    w.advance(0)
    call = w.recv(w.b, child, 6, MSG_WAITALL)
    assert call.answer is None
    call.iocb.ki_signal = True
    answer = call.try_()
    assert isinstance(answer, tuple) and (answer[0], b"".join(answer[1])) == (3, b"abc")


def test_a_send_larger_than_the_buffers_waits_and_is_whole(w: World) -> None:
    fd, child = w.pair()
    data = bytes(range(256)) * 4096
    call = w.send(w.a, fd, data)
    got = []
    for _ in range(1000):
        w.advance(NSEC_PER_MSEC)
        call.try_()
        recv = w.recv(w.b, child, 65536, 0x40)
        assert isinstance(recv.answer, tuple)
        if recv.answer[0] > 0:
            got.extend(recv.answer[1])
        if call.answer is not None and recv.answer[0] < 0:
            break
    assert call.answer == len(data)
    assert b"".join(got) == data


def test_shutdown_for_reading_wakes_a_receive_with_end_of_file(w: World) -> None:
    fd, _ = w.pair()
    call = w.recv(w.a, fd)
    assert call.answer is None
    assert syscalls.sys_shutdown(w.a, fd, SHUT_RD) == 0
    assert call.try_() == (0, [], b"")


def test_dissolving_the_association_ends_a_receive(w: World) -> None:
    fd, _ = w.pair()
    call = w.recv(w.a, fd)
    assert w.connect(fd, sockaddr_unspec()).answer == 0
    answer = call.try_()
    assert isinstance(answer, tuple) and answer[0] == -EPIPE


def test_a_receive_goes_on_after_a_close_of_its_descriptor(w: World) -> None:
    fd, child = w.pair()
    call = w.recv(w.a, fd)
    assert syscalls.sys_close(w.a, Kiocb(), fd) == 0
    w.advance(NSEC_PER_SEC)
    assert call.try_() is None
    assert syscalls.sys_close(w.a, Kiocb(), fd) == -EBADF
    w.send(w.b, child, b"hi")
    w.advance(0)
    assert call.try_() == (2, [b"hi"], b"")
    w.advance(0)
    assert w.recv(w.b, child).answer == (0, [], b"")  # only now the FIN


def test_writing_after_shutdown_is_epipe_with_a_signal_unless_refused(w: World) -> None:
    fd, _ = w.pair()
    assert syscalls.sys_shutdown(w.a, fd, SHUT_WR) == 0
    assert w.send(w.a, fd, b"x", MSG_NOSIGNAL).answer == -EPIPE
    assert w.a.sigpipe == 0
    assert w.send(w.a, fd, b"x").answer == -EPIPE
    assert w.a.sigpipe == 1


# -- close ---------------------------------------------------------------------------------------------------------------


def test_close_sends_fin_and_the_peer_reads_the_end(w: World) -> None:
    fd, child = w.pair()
    w.send(w.a, fd, b"bye")
    assert syscalls.sys_close(w.a, Kiocb(), fd) == 0
    w.advance(0)
    assert w.recv(w.b, child).answer == (3, [b"bye"], b"")
    assert w.recv(w.b, child).answer == (0, [], b"")
    assert syscalls.sys_close(w.b, Kiocb(), child) == 0
    w.advance(70 * NSEC_PER_SEC)
    assert w.kernel.warned == {}


def fill(w: World) -> tuple[int, int]:
    """A connection whose receiver's buffer is full, with unsent data left."""
    fd, child = w.pair()
    w.set(w.b, child, SO_RCVBUF, pack_s32(2304))
    assert syscalls.sys_fcntl(w.a, fd, F_SETFL, O_NONBLOCK) == 0
    for _ in range(200):
        w.send(w.a, fd, bytes(65536))
        w.advance(NSEC_PER_MSEC)
    return fd, child


def test_linger_waits_even_on_a_nonblocking_socket(w: World) -> None:
    fd, _ = fill(w)
    w.set(w.a, fd, SO_LINGER, pack_linger(1, 1))
    call = w.call(lambda iocb: syscalls.sys_close(w.a, iocb, fd))
    assert call.answer is None
    assert w.socket(w.a) == fd  # the number is free at once
    w.advance(NSEC_PER_SEC - 1)
    assert call.try_() is None
    w.advance(1)
    assert call.try_() == 0


def test_linger_ends_when_all_is_acknowledged(w: World) -> None:
    fd, child = w.pair()
    w.set(w.a, fd, SO_LINGER, pack_linger(1, 30))
    w.send(w.a, fd, b"x" * 1000)
    call = w.call(lambda iocb: syscalls.sys_close(w.a, iocb, fd))
    w.advance(NSEC_PER_SEC)
    if call.try_() is None:
        # the peer's FIN is what it waits for: FIN_WAIT2 ends the wait in Linux as soon as our FIN is acknowledged
        syscalls.sys_close(w.b, Kiocb(), child)
        w.advance(NSEC_PER_SEC)
    assert call.try_() == 0


def test_linger_of_zero_resets(w: World) -> None:
    fd, child = w.pair()
    w.set(w.a, fd, SO_LINGER, pack_linger(1, 0))
    assert syscalls.sys_close(w.a, Kiocb(), fd) == 0
    w.advance(0)
    answer = w.recv(w.b, child).answer
    assert isinstance(answer, tuple) and answer[0] == -ECONNRESET


def test_an_exit_does_not_linger(w: World) -> None:
    fd, _ = fill(w)
    w.set(w.a, fd, SO_LINGER, pack_linger(1, 100))
    assert syscalls.sys_exit(w.a) == 0
    assert w.kernel.warned == {}


def test_unread_data_makes_close_a_reset(w: World) -> None:
    fd, child = w.pair()
    w.send(w.b, child, b"unread")
    w.advance(0)
    assert syscalls.sys_close(w.a, Kiocb(), fd) == 0
    w.advance(0)
    n, revents = syscalls.sys_poll(w.b, Kiocb(), [(child, EPOLLIN)], 0)
    assert n == 1 and revents[0] & EPOLLHUP
    answer = w.recv(w.b, child).answer
    assert isinstance(answer, tuple) and answer[0] == -ECONNRESET


def test_nothing_is_left_after_many_connections(w: World) -> None:
    for _ in range(20):
        fd, child = w.pair()
        w.send(w.a, fd, b"x" * 3000)
        w.advance(NSEC_PER_MSEC)
        syscalls.sys_close(w.b, Kiocb(), child)
        syscalls.sys_close(w.a, Kiocb(), fd)
        w.advance(NSEC_PER_MSEC)
    w.advance(130 * NSEC_PER_SEC)
    tcp = w.kernel.proto_list[0]
    assert (tcp.memory_allocated, tcp.orphan_count, tcp.sockets_allocated) == (0, 0, 1)  # the listener
    assert w.kernel.warned == {}
