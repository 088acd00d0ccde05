"""What SOL_SOCKET options do, and for whom. Their values and errors over all kinds are compared with Linux in tests/parity."""

from __future__ import annotations

import pytest

from afinet.fs.file import fdget
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.memcontrol import PAGE_SIZE, MemCgroup
from afinet.kernel.task import Cred, Task
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.kernel.wait import Kiocb
from afinet.net.core import datagram
from afinet.net.core.dev import dev_open
from afinet.net.core.sock import Sock
from afinet.net.ipv4.devinet import inet_addr_add
from afinet.net.socket import SocketFile
from afinet.uapi.errno import (
    EACCES,
    EAGAIN,
    EDOM,
    EINVAL,
    EIOCBQUEUED,
    ENOMEM,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPERM,
)
from afinet.uapi.in_ import IPPROTO_UDP
from afinet.uapi.sockaddr import (
    get_s32,
    get_s64,
    get_u32,
    pack_linger,
    pack_s32,
    pack_sockaddr_in,
    pack_timeval,
    pack_u64,
    parse_cmsgs,
    unpack_timeval,
)
from afinet.uapi.socket import (
    AF_INET,
    MSG_CTRUNC,
    SCM_TIMESTAMP,
    SCM_TIMESTAMPNS,
    SO_ATTACH_BPF,
    SO_BINDTODEVICE,
    SO_BUSY_POLL,
    SO_BUSY_POLL_BUDGET,
    SO_COOKIE,
    SO_DEBUG,
    SO_ERROR,
    SO_LINGER,
    SO_MARK,
    SO_MAX_PACING_RATE,
    SO_MEMINFO,
    SO_NETNS_COOKIE,
    SO_PEEK_OFF,
    SO_PEERNAME,
    SO_PREFER_BUSY_POLL,
    SO_PRIORITY,
    SO_RCVBUF,
    SO_RCVBUFFORCE,
    SO_RCVMARK,
    SO_RCVTIMEO,
    SO_RESERVE_MEM,
    SO_RXQ_OVFL,
    SO_SNDBUF,
    SO_SNDBUFFORCE,
    SO_SNDTIMEO,
    SO_TIMESTAMP,
    SO_TIMESTAMP_NEW,
    SO_TIMESTAMPNS,
    SO_TXTIME,
    SO_WIFI_STATUS,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
)
from tests.leaks import start_kernel

LO = 0x7F000001


class World:
    """One namespace with `lo` up."""

    def __init__(self) -> None:
        self.kernel = start_kernel("test", b"seed")
        net = self.kernel.init_net
        assert net is not None and net.loopback_dev is not None
        self.net = net
        dev_open(net.loopback_dev)
        self.root = new_task(self.kernel, net, "root", None)
        self.user = new_task(self.kernel, net, "user", Cred(1000, 1000))

    def socket(self, task: Task, type: int = SOCK_DGRAM, protocol: int = 0) -> int:
        fd = syscalls.sys_socket(task, AF_INET, type, protocol)
        assert fd >= 0
        return fd

    def sk(self, task: Task, fd: int) -> Sock:
        file = fdget(task.files, fd)
        assert isinstance(file, SocketFile) and file.sock.sk is not None
        return file.sock.sk

    def set(self, task: Task, fd: int, option: int, value: int | bytes) -> int:
        data = pack_s32(value) if isinstance(value, int) else value
        return syscalls.sys_setsockopt(task, fd, SOL_SOCKET, option, data)

    def get(self, task: Task, fd: int, option: int, size: int = 4) -> bytes:
        err, value = syscalls.sys_getsockopt(task, fd, SOL_SOCKET, option, size)
        assert err == 0, err
        return value

    def pair(self) -> tuple[int, int]:
        """A bound receiver on port 5000 and a sender connected to it."""
        receiver, sender = self.socket(self.root), self.socket(self.root)
        assert syscalls.sys_bind(self.root, receiver, pack_sockaddr_in(LO, 5000)) == 0
        assert syscalls.sys_connect(self.root, Kiocb(), sender, pack_sockaddr_in(LO, 5000)) == 0
        return receiver, sender

    def send(self, fd: int, data: bytes) -> None:
        assert syscalls.sys_sendto(self.root, Kiocb(), fd, data, 0, b"") == len(data)
        self.kernel.run(self.kernel.now)


@pytest.fixture
def w() -> World:
    world = World()
    assert inet_addr_add(world.net.dev_by_name["lo"], LO, 8, scope=254) in (0, -17)
    return world


def test_buffers_are_doubled_bounded_and_forced_by_the_privileged(w: World) -> None:
    fd = w.socket(w.user)
    assert w.set(w.user, fd, SO_RCVBUF, 10000) == 0
    assert get_s32(w.get(w.user, fd, SO_RCVBUF), 0) == 20000
    assert w.set(w.user, fd, SO_RCVBUF, 1 << 30) == 0
    assert get_s32(w.get(w.user, fd, SO_RCVBUF), 0) == 2 * w.net.core.sysctl_rmem_max
    assert w.set(w.user, fd, SO_RCVBUF, 0) == 0
    assert get_s32(w.get(w.user, fd, SO_RCVBUF), 0) == 2304
    assert w.set(w.user, fd, SO_SNDBUF, 1) == 0
    assert get_s32(w.get(w.user, fd, SO_SNDBUF), 0) == 4608
    for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
        assert w.set(w.user, fd, option, 1 << 24) == -EPERM
    fd = w.socket(w.root)
    assert w.set(w.root, fd, SO_RCVBUFFORCE, 1 << 24) == 0
    assert get_s32(w.get(w.root, fd, SO_RCVBUF), 0) == 1 << 25
    assert w.set(w.root, fd, SO_SNDBUFFORCE, -1) == 0
    assert get_s32(w.get(w.root, fd, SO_SNDBUF), 0) == 4608


def test_what_only_the_privileged_may_set(w: World) -> None:
    fd = w.socket(w.user)
    assert w.set(w.user, fd, SO_MARK, 7) == -EPERM
    assert w.set(w.user, fd, SO_DEBUG, 1) == -EACCES
    assert w.set(w.user, fd, SO_DEBUG, 0) == 0
    assert w.set(w.user, fd, SO_PRIORITY, 6) == 0
    assert w.set(w.user, fd, SO_PRIORITY, 7) == -EPERM
    assert w.set(w.user, fd, SO_PRIORITY, -1) == -EPERM
    assert w.set(w.user, fd, SO_BINDTODEVICE, b"lo") == 0
    assert w.set(w.user, fd, SO_BINDTODEVICE, b"") == -EPERM  # no way back
    fd = w.socket(w.root)
    assert w.set(w.root, fd, SO_MARK, -1) == 0
    assert w.sk(w.root, fd).sk_mark == 0xFFFFFFFF
    assert w.set(w.root, fd, SO_PRIORITY, 7) == 0


def test_timeouts_round_up_to_jiffies_and_end_a_call_to_the_nanosecond(w: World) -> None:
    receiver, _ = w.pair()
    sk = w.sk(w.root, receiver)
    assert w.set(w.root, receiver, SO_RCVTIMEO, pack_timeval(0, 1)) == 0
    assert datagram.sk_cold(sk).sk_rcvtimeo == NSEC_PER_MSEC
    assert w.set(w.root, receiver, SO_RCVTIMEO, pack_timeval(2, 500001)) == 0
    assert datagram.sk_cold(sk).sk_rcvtimeo == 2501 * NSEC_PER_MSEC
    assert unpack_timeval(w.get(w.root, receiver, SO_RCVTIMEO, 16)) == (2, 501000)
    assert w.set(w.root, receiver, SO_RCVTIMEO, pack_timeval(0, 1000000)) == -EDOM
    assert w.set(w.root, receiver, SO_SNDTIMEO, pack_timeval(-1, 0)) == 0
    assert datagram.sk_cold(sk).sk_sndtimeo == 0
    assert w.set(w.root, receiver, SO_SNDTIMEO, bytes(15)) == -EINVAL
    iocb = Kiocb()
    begin = w.kernel.now
    assert syscalls.sys_recvfrom(w.root, iocb, receiver, 1, 0)[0] == -EIOCBQUEUED
    assert iocb.ki_deadline == begin + 2501 * NSEC_PER_MSEC
    w.kernel.run(iocb.ki_deadline - 1)
    assert syscalls.sys_recvfrom(w.root, iocb, receiver, 1, 0)[0] == -EIOCBQUEUED
    w.kernel.run(iocb.ki_deadline)
    assert syscalls.sys_recvfrom(w.root, iocb, receiver, 1, 0)[0] == -EAGAIN


def test_a_negative_linger_is_for_ever(w: World) -> None:
    fd = w.socket(w.root, SOCK_STREAM)
    assert w.set(w.root, fd, SO_LINGER, pack_linger(1, -1)) == 0
    assert datagram.sk_cold(w.sk(w.root, fd)).sk_lingertime > 1 << 60
    assert w.set(w.root, fd, SO_LINGER, pack_linger(1, 3)) == 0
    assert datagram.sk_cold(w.sk(w.root, fd)).sk_lingertime == 3 * NSEC_PER_SEC


def test_an_error_is_told_once_the_hard_one_first(w: World) -> None:
    fd = w.socket(w.root)
    sk = w.sk(w.root, fd)
    sk.sk_err, sk.sk_err_soft = 111, 113
    assert [get_s32(w.get(w.root, fd, SO_ERROR), 0) for _ in range(3)] == [111, 113, 0]


def test_cookies_name_socks_and_namespaces(w: World) -> None:
    a, b = w.socket(w.root), w.socket(w.root)
    first = w.get(w.root, a, SO_COOKIE, 8)
    assert first == w.get(w.root, a, SO_COOKIE, 8) != w.get(w.root, b, SO_COOKIE, 8)
    assert w.get(w.root, a, SO_NETNS_COOKIE, 8) == pack_u64(w.net.net_cookie)


def test_meminfo_is_the_socks_account(w: World) -> None:
    receiver, sender = w.pair()
    w.send(sender, b"x" * 100)
    words = w.get(w.root, receiver, SO_MEMINFO, 100)
    sk = w.sk(w.root, receiver)
    assert len(words) == 36
    assert get_u32(words, 0) == sk.sk_rmem_alloc > 0
    assert get_u32(words, 4) == sk.sk_rcvbuf
    assert get_u32(words, 16) == sk.sk_forward_alloc


def test_reserved_memory_needs_a_group_and_comes_in_pages(w: World) -> None:
    fd = w.socket(w.user)
    assert w.set(w.user, fd, SO_RESERVE_MEM, 5000) == -EOPNOTSUPP
    w.user.memcg = MemCgroup("slice", 4 * PAGE_SIZE)
    fd = w.socket(w.user)
    sk = w.sk(w.user, fd)
    assert w.set(w.user, fd, SO_RESERVE_MEM, 5000) == 0
    assert (datagram.sk_cold(sk).sk_reserved_mem, sk.sk_forward_alloc) == (2 * PAGE_SIZE, 2 * PAGE_SIZE)
    assert w.user.memcg.usage == 2
    assert w.set(w.user, fd, SO_RESERVE_MEM, 5 * PAGE_SIZE) == -ENOMEM
    assert w.user.memcg.usage == 2
    assert w.set(w.user, fd, SO_RESERVE_MEM, 0) == 0
    assert w.user.memcg.usage == 0
    w.set(w.user, fd, SO_RESERVE_MEM, 1)
    syscalls.sys_close(w.user, Kiocb(), fd)
    assert w.user.memcg.usage == 0 and w.kernel.warned == {}


def test_the_peers_name(w: World) -> None:
    _, sender = w.pair()
    assert w.get(w.root, sender, SO_PEERNAME, 16) == pack_sockaddr_in(LO, 5000)
    assert w.get(w.root, sender, SO_PEERNAME, 4) == pack_sockaddr_in(LO, 5000)[:4]
    assert syscalls.sys_getsockopt(w.root, sender, SOL_SOCKET, SO_PEERNAME, 17)[0] == -EINVAL


@pytest.mark.parametrize(
    ("option", "kind", "unit"),
    [(SO_TIMESTAMP, SCM_TIMESTAMP, 1000), (SO_TIMESTAMPNS, SCM_TIMESTAMPNS, 1), (SO_TIMESTAMP_NEW, SO_TIMESTAMP_NEW, 1000)],
)
def test_a_datagram_carries_its_time(w: World, option: int, kind: int, unit: int) -> None:
    receiver, sender = w.pair()
    assert w.set(w.root, receiver, option, 1) == 0
    w.send(sender, b"a")
    w.send(sender, b"b")
    _, _, control, flags, _ = syscalls.sys_recvmsg(w.root, Kiocb(), receiver, 10, 100, 0)
    messages = parse_cmsgs(control)
    assert messages is not None and flags == 0
    ((level, type, data),) = messages
    assert (level, type, len(data)) == (SOL_SOCKET, kind, 16)
    stamp = get_s64(data, 0) * NSEC_PER_SEC + get_s64(data, 8) * unit
    assert w.kernel.ktime_get_real() - stamp < 1000
    assert syscalls.sys_recvmsg(w.root, Kiocb(), receiver, 10, 0, 0)[3] == MSG_CTRUNC  # no room for it


def test_drops_and_marks_come_along(w: World) -> None:
    receiver, sender = w.pair()
    assert w.set(w.root, receiver, SO_RXQ_OVFL, 1) == 0
    assert w.set(w.root, receiver, SO_RCVMARK, 1) == 0
    assert w.set(w.root, sender, SO_MARK, 9) == 0
    assert w.set(w.root, receiver, SO_RCVBUF, 0) == 0
    for _ in range(10):
        w.send(sender, b"x" * 500)
    drops = w.sk(w.root, receiver).sk_drops
    assert drops > 0
    while syscalls.sys_recvfrom(w.root, Kiocb(), receiver, 500, 0x40)[0] > 0:
        pass
    w.send(sender, b"last")
    _, pieces, control, _, _ = syscalls.sys_recvmsg(w.root, Kiocb(), receiver, 10, 100, 0)
    assert pieces == [b"last"]
    assert parse_cmsgs(control) == [(1, SO_RXQ_OVFL, pack_s32(drops)), (1, SO_MARK, pack_s32(9))]


def test_peeking_at_an_offset_is_for_streams_and_udp(w: World) -> None:
    assert w.set(w.root, w.socket(w.root, SOCK_STREAM), SO_PEEK_OFF, 3) == 0
    assert w.set(w.root, w.socket(w.root), SO_PEEK_OFF, 3) == 0
    assert w.set(w.root, w.socket(w.root, SOCK_RAW, IPPROTO_UDP), SO_PEEK_OFF, 3) == -EOPNOTSUPP


def test_a_pacing_rate_limits_at_once(w: World) -> None:
    fd = w.socket(w.root, SOCK_STREAM)
    sk = w.sk(w.root, fd)
    assert w.set(w.root, fd, SO_MAX_PACING_RATE, 1000) == 0
    assert (datagram.sk_cold(sk).sk_max_pacing_rate, sk.sk_pacing_rate) == (1000, 1000)
    assert w.set(w.root, fd, SO_MAX_PACING_RATE, -1) == 0
    assert datagram.sk_cold(sk).sk_max_pacing_rate == -1


def test_what_nothing_here_would_act_on_is_refused(w: World) -> None:
    fd = w.socket(w.root)
    for option in (SO_TXTIME, SO_BUSY_POLL, SO_PREFER_BUSY_POLL, SO_BUSY_POLL_BUDGET, SO_WIFI_STATUS, SO_ATTACH_BPF):
        assert w.set(w.root, fd, option, bytes(8)) == -ENOPROTOOPT
