"""Any sequence of system calls: none raises, every answer is a number or a known errno, and an exit leaves nothing behind."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afinet.drivers.veth import veth_newlink
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.sysctl import sysctl_write
from afinet.kernel.task import Task
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT, NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.kernel.wait import Kiocb, KiocbVec
from afinet.net.core.dev import dev_open
from afinet.net.core.net_namespace import cleanup_net, copy_net_ns
from afinet.net.core.sock import sock_inuse_get
from afinet.net.ipv4.devinet import inet_addr_add
from afinet.uapi.errno import EIOCBQUEUED
from afinet.uapi.sockaddr import pack_linger, pack_s32, pack_sockaddr_in, pack_timeval, sockaddr_unspec
from tests.leaks import start_kernel

A, B, LO = 0x0A000001, 0x0A000002, 0x7F000001
ADDRESSES = [
    pack_sockaddr_in(addr, port) for addr in (A, B, LO, 0, 0xE0000001, 0xFFFFFFFF, 0x0A00004D) for port in (0, 80, 7000)
] + [sockaddr_unspec(), b"", b"\2\0", bytes(200)]

fds = st.integers(2, 12)
flags = st.sampled_from([0, 1, 2, 0x20, 0x40, 0x100, 0x2000, 0x4000, 0x8000, 0x20000000, -1])
datas = st.sampled_from([b"", b"x", bytes(1400), bytes(5000), bytes(70000), b"\x08\0\xf7\xff\0\0\0\0"])
addrs = st.sampled_from(ADDRESSES)
optvals = st.one_of(
    st.sampled_from([b"", b"lo\0", pack_linger(1, 0), pack_linger(1, 2), pack_timeval(0, 1000), bytes(40)]),
    st.integers(-(1 << 31), (1 << 31) - 1).map(pack_s32),
    st.integers(0, 2).map(pack_s32),
)
offsets = st.sampled_from([None, None, 0, 5, -1, 1 << 62])
sizes = st.sampled_from([0, 1, 5000, 1 << 20, -1])
levels = st.sampled_from([0, 1, 1, 1, 6, 17, 255])

calls = st.one_of(
    st.tuples(
        st.just("socket"),
        st.sampled_from([2, 2, 2, 2, 10, 99]),
        st.sampled_from([1, 1, 2, 2, 3, 3, 1 | 0x800, 2 | 0x80000, 9, -1]),
        st.sampled_from([0, 0, 0, 1, 6, 17, 255, 99, -5]),
    ),
    st.tuples(st.just("bind"), fds, addrs),
    st.tuples(st.just("connect"), fds, addrs),
    st.tuples(st.just("listen"), fds, st.integers(-1, 3)),
    st.tuples(st.just("accept"), fds),
    st.tuples(st.just("sendmsg"), fds, datas, st.sampled_from([b"", bytes(8), bytes(24), pack_s32(20) + bytes(24)]), flags, addrs),
    st.tuples(st.just("recvmsg"), fds, st.sampled_from([0, 1, 100, 100000]), st.sampled_from([0, 20, 200]), flags),
    st.tuples(st.just("shutdown"), fds, st.integers(-1, 3)),
    st.tuples(st.just("setsockopt"), fds, levels, st.integers(0, 85), optvals),
    st.tuples(st.just("getsockopt"), fds, levels, st.integers(0, 85), st.integers(-1, 300)),
    st.tuples(st.just("names"), fds),
    st.tuples(st.just("ioctl"), fds, st.sampled_from([0x541B, 0x5411, 0x8905, 0x894B, 0x5421, 0x8913, 0x8912, 0x8915, 7]), optvals),
    st.tuples(st.just("poll"), fds, st.integers(0, 0xFFFF)),
    st.tuples(st.just("dup2"), fds, fds),
    st.tuples(st.just("sendmmsg"), fds, st.lists(st.tuples(datas, st.sampled_from([b"", bytes(24)]), addrs), max_size=3), flags),
    st.tuples(
        st.just("recvmmsg"),
        fds,
        st.lists(st.tuples(st.sampled_from([0, 1, 100]), st.sampled_from([0, 20])), max_size=3),
        flags.map(lambda f: f & 0x7FFFFFFF),
        st.sampled_from([-1, 0, NSEC_PER_SEC]),
    ),
    st.tuples(st.just("pipe2"), st.sampled_from([0, 0x800, 0x4800, 1])),
    st.tuples(st.just("fcntl"), fds, st.sampled_from([3, 4, 1031, 1032]), st.sampled_from([0, 0x800, 4096, 1 << 17])),
    st.tuples(st.just("read"), fds, st.sampled_from([0, 1, 5000])),
    st.tuples(st.just("write"), fds, datas),
    st.tuples(st.just("splice"), fds, offsets, fds, offsets, sizes, st.integers(0, 16)),
    st.tuples(st.just("tee"), fds, fds, sizes, st.integers(0, 16)),
    st.tuples(st.just("vmsplice"), fds, datas, st.integers(0, 16)),
    st.tuples(st.just("sendfile"), fds, fds, offsets, sizes),
    st.tuples(st.just("memfd_create"), st.just("any"), st.integers(0, 2)),
    st.tuples(st.just("lseek"), fds, st.sampled_from([0, 5, -1, 1 << 62]), st.integers(0, 3)),
    st.tuples(st.just("pwrite64"), fds, datas, st.sampled_from([0, 5, -1, 1 << 62])),
    st.tuples(st.just("ftruncate"), fds, st.sampled_from([0, 5000, -1, 1 << 62])),
    st.tuples(st.just("clone"), st.sampled_from([0, 0x400, 0x400, 0x100])),
    st.tuples(st.just("execve"), st.just("other")),
    st.tuples(st.just("epoll_create1"), st.sampled_from([0, 0, 0x80000, 1])),
    st.tuples(st.just("epoll_ctl"), fds, st.integers(1, 3), fds, st.integers(0, 0xFFFFFFFF), st.integers(0, 3)),
    st.tuples(st.just("epoll_wait"), fds, st.integers(0, 3), st.sampled_from([0, NSEC_PER_MSEC, -1])),
    st.tuples(st.just("close"), fds),
    st.tuples(st.just("pass"), st.sampled_from([0, NSEC_PER_MSEC, NSEC_PER_SEC, 70 * NSEC_PER_SEC])),
)


class World:
    def __init__(self) -> None:
        self.kernel = start_kernel("any", b"seed")
        self.nets = [copy_net_ns(self.kernel, "a"), copy_net_ns(self.kernel, "b")]
        for net in self.nets:
            assert net.loopback_dev is not None
            dev_open(net.loopback_dev)
            sysctl_write(net.sysctl_table, "net.ipv4.ping_group_range", "0 1000")
        for dev, addr in zip(veth_newlink(self.nets[0], "v0", self.nets[1], "v1"), (A, B), strict=True):
            inet_addr_add(dev, addr, 24)
            dev_open(dev)
        self.tasks = [new_task(self.kernel, net, net.name, None) for net in self.nets]
        self.waiting: list[tuple[Any, Kiocb]] = []

    def furnish(self) -> None:
        """Both tasks begin with a socket of each kind (3 to 7) and a TCP connection between them (8)."""
        for task in self.tasks:
            for type, protocol in ((1, 0), (2, 0), (3, 1), (2, 1), (1 | 0x800, 0)):
                assert syscalls.sys_socket(task, 2, type, protocol) >= 0
        a, b = self.tasks
        syscalls.sys_bind(b, 3, pack_sockaddr_in(0, 80))
        syscalls.sys_listen(b, 3, 4)
        fd = syscalls.sys_socket(a, 2, 1, 0)
        iocb = Kiocb()
        while syscalls.sys_connect(a, iocb, fd, pack_sockaddr_in(B, 80)) == -EIOCBQUEUED:
            self.advance(0)
        assert syscalls.sys_accept4(b, Kiocb(), 3, 0)[0] == fd

    def advance(self, ns: int) -> None:
        end = self.kernel.now + ns
        when = self.kernel.run(self.kernel.now)
        while when <= end:
            when = self.kernel.run(when)
        self.kernel.run(end)

    def try_(self, op: Any, iocb: Any) -> None:
        answer = op(iocb)
        n = answer[0] if isinstance(answer, tuple) else answer
        if n == -EIOCBQUEUED:
            assert iocb.ki_wq is not None or iocb.ki_poll is not None
            self.waiting.append((op, iocb))
        else:
            assert n > -135

    def call(self, task: Task, call: tuple[Any, ...]) -> None:
        name, args = call[0], call[1:]
        s = syscalls
        if name == "socket":
            assert -135 < s.sys_socket(task, *args) < 1024
        elif name == "connect":
            self.try_(lambda iocb: s.sys_connect(task, iocb, *args), Kiocb())
        elif name == "accept":
            self.try_(lambda iocb: s.sys_accept4(task, iocb, args[0], 0), Kiocb())
        elif name == "sendmsg":
            self.try_(lambda iocb: s.sys_sendmsg(task, iocb, *args), Kiocb())
        elif name == "recvmsg":
            self.try_(lambda iocb: s.sys_recvmsg(task, iocb, *args), Kiocb())
        elif name == "sendmmsg":
            self.try_(lambda iocb: s.sys_sendmmsg(task, iocb, *args), KiocbVec())
        elif name == "recvmmsg":
            self.try_(lambda iocb: s.sys_recvmmsg(task, iocb, *args), KiocbVec())
        elif name in ("epoll_wait", "read", "write", "splice", "tee", "vmsplice", "sendfile"):
            function = getattr(s, f"sys_{name}")
            self.try_(lambda iocb: function(task, iocb, *args), Kiocb())
        elif name == "close":
            self.try_(lambda iocb: s.sys_close(task, iocb, args[0]), Kiocb())
        elif name == "poll":
            self.try_(lambda iocb: s.sys_poll(task, iocb, [args], NSEC_PER_SEC), Kiocb())
        elif name == "names":
            s.sys_getsockname(task, args[0])
            s.sys_getpeername(task, args[0])
        elif name == "pass":
            self.advance(args[0])
        else:
            getattr(s, f"sys_{name}")(task, *args)
        self.advance(0)

    def again(self) -> None:
        """Every call that waits is tried again, as a wake-up may do at any time."""
        waiting, self.waiting = self.waiting, []
        for op, iocb in waiting:
            self.try_(op, iocb)


@settings(derandomize=True, max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.booleans(), calls), min_size=5, max_size=60))
def test_any_sequence_of_calls_is_answered_and_an_exit_leaves_nothing(sequence: list[tuple[bool, tuple[Any, ...]]]) -> None:
    w = World()
    w.furnish()
    for which, call in sequence:
        w.call(w.tasks[which], call)
        w.again()
    for op, iocb in w.waiting:
        iocb.ki_signal = True
        answer = op(iocb)
        assert (answer[0] if isinstance(answer, tuple) else answer) != -EIOCBQUEUED
    for task in list(w.kernel.tasks.values()):
        assert syscalls.sys_exit(task) == 0
    w.advance(2000 * NSEC_PER_SEC)
    kernel = w.kernel
    assert kernel.warned == {}
    assert [sock_inuse_get(net) for net in w.nets] == [0, 0]
    for prot in kernel.proto_list:
        assert (prot.name, prot.memory_allocated, prot.orphan_count, prot.sockets_allocated) == (prot.name, 0, 0, 0)
    assert kernel.softirq_count == 0 and kernel.current is None


def test_a_namespace_can_be_taken_down() -> None:
    w = World()
    for task in w.tasks:
        fd = syscalls.sys_socket(task, 2, 2, 0)
        syscalls.sys_bind(task, fd, pack_sockaddr_in(0, 7000))
        syscalls.sys_exit(task)
    w.advance(NSEC_PER_SEC)
    for net in w.nets:
        cleanup_net(net)
    assert len(w.kernel.net_list) == 1
    w.advance(100 * NSEC_PER_SEC)
    assert w.kernel.warned == {}
    assert w.kernel.next_timer() <= MAX_SCHEDULE_TIMEOUT
