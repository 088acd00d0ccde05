"""AF_INET's part of the socket calls: creation, bind, names, release. TCP's states are in tests/parity."""

from __future__ import annotations

import pytest

from afinet.drivers.veth import veth_newlink
from afinet.fs.file import fdget
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.machine import Kernel
from afinet.kernel.memcontrol import MemCgroup
from afinet.kernel.sysctl import sysctl_write
from afinet.kernel.task import CAP_FULL_SET, Cred, Task
from afinet.kernel.time import NSEC_PER_SEC
from afinet.kernel.trace import TraceProbe
from afinet.kernel.wait import Kiocb
from afinet.net.core.dev import dev_open
from afinet.net.core.net_namespace import copy_net_ns
from afinet.net.core.skbuff import alloc_skb, skb_queue_tail, skb_set_owner_r
from afinet.net.core.sock import sock_inuse_get
from afinet.net.ipv4 import af_inet
from afinet.net.ipv4.devinet import inet_addr_add
from afinet.net.ipv4.inet_sock import (
    INET_FLAGS_HDRINCL,
    INET_FLAGS_IS_ICSK,
    INET_FLAGS_MC_ALL,
    INET_FLAGS_MC_LOOP,
    InetSock,
    inet_test_bit,
)
from afinet.net.socket import SocketFile
from afinet.uapi.capability import CAP_NET_BIND_SERVICE, CAP_NET_RAW
from afinet.uapi.errno import (
    EACCES,
    EADDRINUSE,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EAGAIN,
    EBADF,
    EFAULT,
    EINVAL,
    EIOCBQUEUED,
    EISCONN,
    ENODEV,
    ENOENT,
    ENOTCONN,
    ENOTTY,
    EOPNOTSUPP,
    EPERM,
)
from afinet.uapi.eventpoll import EPOLLIN
from afinet.uapi.in_ import IP_FREEBIND
from afinet.uapi.sockaddr import get_s32, get_s64, pack_s32, pack_sockaddr_in, sockaddr_unspec, unpack_sockaddr_in
from afinet.uapi.socket import (
    AF_INET,
    AF_INET6,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    SS_UNCONNECTED,
)
from afinet.uapi.sockios import (
    SIOCGIFADDR,
    SIOCGIFCONF,
    SIOCGIFFLAGS,
    SIOCGIFHWADDR,
    SIOCGIFINDEX,
    SIOCGIFMTU,
    SIOCGIFNAME,
    SIOCGIFTXQLEN,
    SIOCGSTAMP,
    SIOCGSTAMPNS,
    SIOCSIFFLAGS,
    SIOCSIFMTU,
)
from afinet.uapi.tcp import TCP_CLOSE
from tests.leaks import start_kernel

LO, V0, V1 = 0x7F000001, 0x0A000001, 0x0A000002


class World:
    """Two namespaces with `lo` up and a veth pair, 10.0.0.1/24 and 10.0.0.2/24."""

    def __init__(self) -> None:
        self.kernel = start_kernel("test", b"seed")
        self.net, self.peer = copy_net_ns(self.kernel, "a"), copy_net_ns(self.kernel, "b")
        for net in (self.net, self.peer):
            assert net.loopback_dev is not None
            dev_open(net.loopback_dev)
        for dev, addr in zip(veth_newlink(self.net, "v0", self.peer, "v1"), (V0, V1), strict=True):
            inet_addr_add(dev, addr, 24, broadcast=addr | 0xFF)
            dev_open(dev)
        self.root = new_task(self.kernel, self.net, "root", None)
        self.user = new_task(self.kernel, self.net, "user", Cred(1000, 1000))
        self.other = new_task(self.kernel, self.peer, "other", None)
        self.run(1)

    def run(self, seconds: int = 0) -> None:
        end = self.kernel.now + seconds * NSEC_PER_SEC
        when = self.kernel.run(self.kernel.now)
        while when <= end:
            when = self.kernel.run(when)
        self.kernel.run(end)

    def socket(self, task: Task, type: int, protocol: int = 0) -> int:
        fd = syscalls.sys_socket(task, AF_INET, type, protocol)
        assert fd >= 0, fd
        return fd

    def sk(self, task: Task, fd: int) -> InetSock:
        file = fdget(task.files, fd)
        assert isinstance(file, SocketFile)
        assert isinstance(file.sock.sk, InetSock)
        return file.sock.sk


@pytest.fixture
def w() -> World:
    return World()


def bind(task: Task, fd: int, addr: int, port: int) -> int:
    return syscalls.sys_bind(task, fd, pack_sockaddr_in(addr, port))


# -- creation ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "protocol", "name", "number"),
    [
        (SOCK_STREAM, 0, "TCP", 6),
        (SOCK_STREAM, 6, "TCP", 6),
        (SOCK_DGRAM, 0, "UDP", 17),
        (SOCK_DGRAM, 17, "UDP", 17),
        (SOCK_RAW, 99, "RAW", 99),
        (SOCK_RAW, 255, "RAW", 255),
    ],
)
def test_each_of_the_four_kinds_is_made_complete(w: World, type: int, protocol: int, name: str, number: int) -> None:
    fd = w.socket(w.root, type, protocol)
    file = fdget(w.root.files, fd)
    assert isinstance(file, SocketFile)
    sock = file.sock
    sk = w.sk(w.root, fd)
    assert (sock.state, sock.type, sk.sk_type, sk.sk_protocol) == (SS_UNCONNECTED, type, type, number)
    assert sk.sk_prot.name == sk.sk_prot_creator.name == name
    assert sk.sk_socket is sock and sock.sk is sk
    assert (sk.sk_family, sk.sk_state, sk.sk_net) == (AF_INET, TCP_CLOSE, w.net)
    assert not sk.sk_kern_sock and sk.sk_net_refcnt and sk.sk_wmem_alloc == 1
    assert (sk.sk_rx_queue_mapping, sk.sk_tx_queue_mapping) == (-1, -1)
    assert (sk.uc_ttl, sk.mc_ttl, sk.pmtudisc, sk.mc_index, sk.rcv_tos, sk.inet_id) == (-1, 1, 1, 0, 0, 0)
    assert inet_test_bit(sk, INET_FLAGS_MC_LOOP) and inet_test_bit(sk, INET_FLAGS_MC_ALL)
    assert inet_test_bit(sk, INET_FLAGS_IS_ICSK) == (type == SOCK_STREAM)
    assert inet_test_bit(sk, INET_FLAGS_HDRINCL) == (protocol == 255)
    assert sk.inet_num == sk.inet_sport == (protocol if type == SOCK_RAW else 0)
    assert sk.sk_txrehash == 1
    if name != "TCP":
        assert (sk.sk_rcvbuf, sk.sk_sndbuf) == (212992, 212992)
    assert sk.sk_reuse == (1 if type == SOCK_RAW else 0)


def test_a_ping_socket_is_for_the_groups_of_the_range(w: World) -> None:
    assert syscalls.sys_socket(w.root, AF_INET, SOCK_DGRAM, 1) == -EACCES
    assert sysctl_write(w.net.sysctl_table, "net.ipv4.ping_group_range", "1000 1000") == 0
    assert syscalls.sys_socket(w.root, AF_INET, SOCK_DGRAM, 1) == -EACCES
    assert syscalls.sys_socket(w.user, AF_INET, SOCK_DGRAM, 1) == 3
    task = new_task(w.kernel, w.net, "grouped", Cred(5, 5, [7, 1000]))
    assert syscalls.sys_socket(task, AF_INET, SOCK_DGRAM, 1) == 3


def test_a_failed_creation_leaves_nothing(w: World) -> None:
    before = sock_inuse_get(w.net)
    assert syscalls.sys_socket(w.root, AF_INET, SOCK_DGRAM, 1) == -EACCES
    assert sock_inuse_get(w.net) == before
    assert w.kernel.warned == {}
    assert len(w.root.files.fd) == 3


def test_raw_sockets_ask_for_cap_net_raw(w: World) -> None:
    assert syscalls.sys_socket(w.user, AF_INET, SOCK_RAW, 1) == -EPERM
    assert syscalls.sys_socket(w.user, AF_INET, SOCK_RAW, 0) < 0
    privileged = new_task(w.kernel, w.net, "cap", Cred(1000, 1000, cap_effective=1 << CAP_NET_RAW))
    assert syscalls.sys_socket(privileged, AF_INET, SOCK_RAW, 1) == 3
    powerless = new_task(w.kernel, w.net, "nocap", Cred(0, 0, cap_effective=CAP_FULL_SET & ~(1 << CAP_NET_RAW)))
    assert syscalls.sys_socket(powerless, AF_INET, SOCK_RAW, 1) == -EPERM


def test_pmtu_discovery_follows_the_namespace(w: World) -> None:
    sysctl_write(w.net.sysctl_table, "net.ipv4.ip_no_pmtu_disc", "1")
    assert w.sk(w.root, w.socket(w.root, SOCK_DGRAM)).pmtudisc == 0


def test_memory_is_charged_to_the_tasks_group(w: World) -> None:
    w.user.memcg = MemCgroup("slice")
    assert w.sk(w.user, w.socket(w.user, SOCK_DGRAM)).sk_memcg is w.user.memcg
    assert w.sk(w.root, w.socket(w.root, SOCK_DGRAM)).sk_memcg is None


def test_a_control_sock_is_the_kernels_and_gets_nothing(w: World) -> None:
    before = sock_inuse_get(w.net)
    err, sk = af_inet.inet_ctl_sock_create(w.net, AF_INET, SOCK_RAW, 99)
    assert err == 0 and sk is not None
    assert sk.sk_kern_sock and not sk.sk_net_refcnt
    assert sock_inuse_get(w.net) == before
    err, sk = af_inet.inet_ctl_sock_create(w.net, AF_INET6, SOCK_RAW, 99)
    assert (err, sk) == (-EAFNOSUPPORT, None)


# -- bind ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", [SOCK_STREAM, SOCK_DGRAM])
def test_bind_takes_local_addresses_only_unless_told(w: World, type: int) -> None:
    t = w.root
    assert bind(t, w.socket(t, type), LO, 5000) == 0
    assert bind(t, w.socket(t, type), V0, 5001) == 0
    assert bind(t, w.socket(t, type), 0, 5002) == 0
    assert bind(t, w.socket(t, type), 0x7F010203, 5003) == 0  # the whole of 127/8 is local
    fd = w.socket(t, type)
    assert bind(t, fd, V1, 5004) == -EADDRNOTAVAIL
    assert bind(t, fd, 0x01020304, 5004) == -EADDRNOTAVAIL
    assert syscalls.sys_setsockopt(t, fd, 0, IP_FREEBIND, pack_s32(1)) == 0
    assert bind(t, fd, 0x01020304, 5004) == 0
    sysctl_write(w.net.sysctl_table, "net.ipv4.ip_nonlocal_bind", "1")
    assert bind(t, w.socket(t, type), V1, 5005) == 0


def test_broadcast_and_multicast_are_bound_for_receiving_only(w: World) -> None:
    for addr in (0xE0000001, 0x0A0000FF, 0xFFFFFFFF):
        fd = w.socket(w.root, SOCK_DGRAM)
        assert bind(w.root, fd, addr, 5000) == 0
        sk = w.sk(w.root, fd)
        assert (sk.inet_rcv_saddr, sk.inet_saddr) == (addr, 0)
        assert syscalls.sys_getsockname(w.root, fd) == (0, pack_sockaddr_in(addr, 5000))


def test_low_ports_are_for_the_privileged(w: World) -> None:
    assert bind(w.user, w.socket(w.user, SOCK_STREAM), LO, 1023) == -EACCES
    assert bind(w.user, w.socket(w.user, SOCK_STREAM), LO, 1024) == 0
    capable = new_task(w.kernel, w.net, "cap", Cred(1000, 1000, cap_effective=1 << CAP_NET_BIND_SERVICE))
    assert bind(capable, w.socket(capable, SOCK_STREAM), LO, 80) == 0
    sysctl_write(w.net.sysctl_table, "net.ipv4.ip_unprivileged_port_start", "79")
    assert bind(w.user, w.socket(w.user, SOCK_STREAM), LO, 79) == 0
    assert bind(w.user, w.socket(w.user, SOCK_STREAM), LO, 78) == -EACCES


def test_bind_checks_the_address_family_and_length(w: World) -> None:
    fd = w.socket(w.root, SOCK_DGRAM)
    assert syscalls.sys_bind(w.root, fd, b"") == -EINVAL
    assert syscalls.sys_bind(w.root, fd, pack_sockaddr_in(LO, 5000)[:15]) == -EINVAL
    assert syscalls.sys_bind(w.root, fd, b"\x0a\0" + bytes(26)) == -EAFNOSUPPORT
    unspec = b"\0\0" + pack_sockaddr_in(LO, 5000)[2:]
    assert syscalls.sys_bind(w.root, fd, unspec) == -EAFNOSUPPORT
    wildcard = b"\0\0" + pack_sockaddr_in(0, 5000)[2:]
    assert syscalls.sys_bind(w.root, fd, wildcard) == 0
    assert syscalls.sys_getsockname(w.root, fd) == (0, pack_sockaddr_in(0, 5000))
    assert bind(w.root, fd, 0, 5001) == -EINVAL  # once only


def test_a_port_in_use_leaves_the_sock_unbound(w: World) -> None:
    a, b = w.socket(w.root, SOCK_DGRAM), w.socket(w.root, SOCK_DGRAM)
    assert bind(w.root, a, LO, 5000) == 0
    assert bind(w.root, b, LO, 5000) == -EADDRINUSE
    sk = w.sk(w.root, b)
    assert (sk.inet_saddr, sk.inet_rcv_saddr, sk.inet_num, sk.sk_userlocks) == (0, 0, 0, 0)
    assert bind(w.root, b, LO, 5001) == 0


def test_the_port_is_found_at_bind_send_or_connect(w: World) -> None:
    t = w.root
    fd = w.socket(t, SOCK_DGRAM)
    assert bind(t, fd, LO, 0) == 0
    sk = w.sk(t, fd)
    assert 32768 <= sk.inet_num <= 60999 and sk.inet_sport == sk.inet_num
    fd = w.socket(t, SOCK_DGRAM)
    assert syscalls.sys_sendto(t, Kiocb(), fd, b"x", 0, pack_sockaddr_in(LO, 9)) == 1
    assert w.sk(t, fd).inet_num
    fd = w.socket(t, SOCK_DGRAM)
    assert syscalls.sys_connect(t, Kiocb(), fd, pack_sockaddr_in(LO, 9)) == 0
    assert w.sk(t, fd).inet_num
    sysctl_write(w.net.sysctl_table, "net.ipv4.ip_local_port_range", "61000 61000")
    first, second = w.socket(t, SOCK_DGRAM), w.socket(t, SOCK_DGRAM)
    assert syscalls.sys_connect(t, Kiocb(), first, pack_sockaddr_in(LO, 9)) == 0
    assert syscalls.sys_connect(t, Kiocb(), second, pack_sockaddr_in(LO, 9)) == -EAGAIN
    assert syscalls.sys_sendto(t, Kiocb(), second, b"x", 0, pack_sockaddr_in(LO, 9)) == -EAGAIN


# -- names, connect, shutdown ----------------------------------------------------------------------------------------------


def test_names_before_and_after_connect(w: World) -> None:
    t = w.root
    fd = w.socket(t, SOCK_DGRAM)
    assert syscalls.sys_getsockname(t, fd) == (0, pack_sockaddr_in(0, 0))
    assert syscalls.sys_getpeername(t, fd) == (-ENOTCONN, b"")
    assert syscalls.sys_connect(t, Kiocb(), fd, pack_sockaddr_in(V1, 9)) == 0
    err, name = syscalls.sys_getsockname(t, fd)
    assert err == 0 and unpack_sockaddr_in(name)[0] == V0
    assert syscalls.sys_getpeername(t, fd) == (0, pack_sockaddr_in(V1, 9))
    assert syscalls.sys_connect(t, Kiocb(), fd, sockaddr_unspec()) == 0
    assert syscalls.sys_getpeername(t, fd) == (-ENOTCONN, b"")
    assert syscalls.sys_connect(t, Kiocb(), fd, b"\0") == -EINVAL


def test_datagrams_go_both_ways_between_namespaces(w: World) -> None:
    server, client = w.socket(w.other, SOCK_DGRAM), w.socket(w.user, SOCK_DGRAM)
    assert bind(w.other, server, 0, 5000) == 0
    iocb = Kiocb()
    assert syscalls.sys_recvfrom(w.other, iocb, server, 100, 0)[0] == -EIOCBQUEUED
    assert syscalls.sys_sendto(w.user, Kiocb(), client, b"hello", 0, pack_sockaddr_in(V1, 5000)) == 5
    w.run(0)
    n, pieces, peer = syscalls.sys_recvfrom(w.other, iocb, server, 100, 0)
    assert (n, b"".join(pieces)) == (5, b"hello")
    assert unpack_sockaddr_in(peer)[0] == V0
    assert syscalls.sys_sendto(w.other, Kiocb(), server, b"back", 0, peer) == 4
    w.run(0)
    assert syscalls.sys_poll(w.user, Kiocb(), [(client, EPOLLIN)], 0) == (1, [EPOLLIN])
    assert syscalls.sys_read(w.user, Kiocb(), client, 100) == (4, [b"back"])


def test_shutdown_checks_how(w: World) -> None:
    fd = w.socket(w.root, SOCK_DGRAM)
    for how in (-1, 3, 100):
        assert syscalls.sys_shutdown(w.root, fd, how) == -EINVAL
    assert syscalls.sys_shutdown(w.root, fd, 0) == -ENOTCONN
    assert w.sk(w.root, fd).sk_shutdown == 1
    assert syscalls.sys_connect(w.root, Kiocb(), fd, pack_sockaddr_in(LO, 9)) == 0
    assert syscalls.sys_shutdown(w.root, fd, 1) == 0
    assert w.sk(w.root, fd).sk_shutdown == 3


def test_listen_and_accept_are_for_streams(w: World) -> None:
    for type, protocol in ((SOCK_DGRAM, 0), (SOCK_RAW, 99)):
        fd = w.socket(w.root, type, protocol)
        assert syscalls.sys_listen(w.root, fd, 1) == -EOPNOTSUPP
        assert syscalls.sys_accept4(w.root, Kiocb(), fd, 0)[0] == -EOPNOTSUPP
    fd = w.socket(w.root, SOCK_STREAM)
    assert syscalls.sys_accept4(w.root, Kiocb(), fd, 0)[0] == -EINVAL
    assert syscalls.sys_listen(w.root, fd, 1) == 0
    assert w.sk(w.root, fd).sk_max_ack_backlog == 1
    assert syscalls.sys_listen(w.root, fd, 9) == 0
    assert w.sk(w.root, fd).sk_max_ack_backlog == 9
    assert syscalls.sys_connect(w.root, Kiocb(), fd, pack_sockaddr_in(LO, 9)) == -EISCONN


# -- the end -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("type", "protocol"), [(SOCK_STREAM, 0), (SOCK_DGRAM, 0), (SOCK_RAW, 99)])
def test_a_closed_socket_is_gone_from_every_count(w: World, type: int, protocol: int) -> None:
    before = sock_inuse_get(w.net)
    fd = w.socket(w.root, type, protocol)
    sk = w.sk(w.root, fd)
    assert sock_inuse_get(w.net) == before + 1
    if type != SOCK_RAW:
        assert bind(w.root, fd, LO, 5000) == 0
    assert syscalls.sys_close(w.root, Kiocb(), fd) == 0
    assert sock_inuse_get(w.net) == before
    assert sk.sk_refcnt == 0 and sk.sk_wmem_alloc == 0 and sk.sk_socket is None
    assert w.kernel.warned == {}
    assert syscalls.sys_close(w.root, Kiocb(), fd) == -EBADF
    if type != SOCK_RAW:
        again = w.socket(w.root, type, protocol)
        assert bind(w.root, again, LO, 5000) == 0  # the port is free


def test_what_was_queued_is_thrown_away_and_uncharged(w: World) -> None:
    fd = w.socket(w.root, SOCK_DGRAM)
    sk = w.sk(w.root, fd)
    for _ in range(3):
        skb = alloc_skb(b"x" * 100)
        skb_set_owner_r(skb, sk)
        skb_queue_tail(sk.sk_receive_queue, skb)
    assert sk.sk_rmem_alloc > 0
    syscalls.sys_close(w.root, Kiocb(), fd)
    assert (sk.sk_rmem_alloc, sk.sk_receive_queue.qlen, sk.sk_forward_alloc) == (0, 0, 0)
    assert w.kernel.warned == {}


@pytest.mark.leaks("on purpose")
def test_a_leak_is_seen_when_the_sock_ends(w: World) -> None:
    fd = w.socket(w.root, SOCK_DGRAM)
    w.sk(w.root, fd).sk_rmem_alloc = 1
    syscalls.sys_close(w.root, Kiocb(), fd)
    assert w.kernel.warned == {"inet_sock_destruct: sk_rmem_alloc": 1}


def test_an_exit_closes_every_socket(w: World) -> None:
    before = sock_inuse_get(w.net)
    for type, protocol in ((SOCK_STREAM, 0), (SOCK_DGRAM, 0), (SOCK_RAW, 99)):
        w.socket(w.root, type, protocol)
    assert syscalls.sys_exit(w.root) == 0
    assert sock_inuse_get(w.net) == before
    assert w.root.pid not in w.kernel.tasks
    assert w.kernel.warned == {}


# -- ioctl ---------------------------------------------------------------------------------------------------------------


def ifreq(name: bytes, value: bytes = b"") -> bytes:
    return name.ljust(16, b"\0") + value.ljust(24, b"\0")


def test_devices_answer_ioctls_on_any_socket(w: World) -> None:
    fd = w.socket(w.user, SOCK_DGRAM)

    def ask(cmd: int, arg: bytes) -> tuple[int, bytes]:
        err, out = syscalls.sys_ioctl(w.user, fd, cmd, arg)
        return err, out[16:]

    dev = w.net.dev_by_name["v0"]
    assert ask(SIOCGIFINDEX, ifreq(b"v0"))[1][:4] == pack_s32(dev.ifindex)
    assert get_s32(ask(SIOCGIFMTU, ifreq(b"lo"))[1], 0) == 65536
    assert get_s32(ask(SIOCGIFTXQLEN, ifreq(b"v0"))[1], 0) == dev.tx_queue_len
    assert get_s32(ask(SIOCGIFFLAGS, ifreq(b"lo"))[1], 0) == 0x49  # UP | LOOPBACK | RUNNING
    assert ask(SIOCGIFHWADDR, ifreq(b"v0"))[1][:8] == b"\1\0" + dev.dev_addr.to_bytes(6, "big")
    assert syscalls.sys_ioctl(w.user, fd, SIOCGIFNAME, ifreq(b"", pack_s32(dev.ifindex)))[1][:16] == b"v0".ljust(16, b"\0")
    assert ask(SIOCGIFMTU, ifreq(b"nosuch"))[0] == -ENODEV
    assert ask(SIOCGIFNAME, ifreq(b"", pack_s32(99)))[0] == -ENODEV
    assert ask(SIOCGIFMTU, b"lo")[0] == -EFAULT
    assert ask(0x1234, ifreq(b"lo"))[0] == -ENOTTY
    assert ask(SIOCSIFMTU, ifreq(b"v0", pack_s32(1400)))[0] == -EPERM


def test_the_privileged_change_devices(w: World) -> None:
    fd = w.socket(w.root, SOCK_DGRAM)
    dev = w.net.dev_by_name["v0"]
    assert syscalls.sys_ioctl(w.root, fd, SIOCSIFMTU, ifreq(b"v0", pack_s32(1400)))[0] == 0
    assert dev.mtu == 1400
    assert syscalls.sys_ioctl(w.root, fd, SIOCSIFMTU, ifreq(b"v0", pack_s32(10)))[0] == -EINVAL
    assert syscalls.sys_ioctl(w.root, fd, SIOCSIFFLAGS, ifreq(b"v0", pack_s32(0)))[0] == 0
    assert not dev.flags & 1


# -- tracing ---------------------------------------------------------------------------------------------------------------


class Recorder(TraceProbe):
    def __init__(self) -> None:
        self.seen: list[tuple[object, object]] = []

    def probe(self, kernel: Kernel, name: str, fields: dict[str, object]) -> None:
        self.seen.append((fields["oldstate"], fields["newstate"]))


def test_a_change_of_state_is_traced(w: World) -> None:
    recorder = Recorder()
    w.kernel.trace.register("sock:inet_sock_set_state", recorder)
    fd = w.socket(w.root, SOCK_STREAM)
    assert syscalls.sys_listen(w.root, fd, 1) == 0
    assert recorder.seen == [(7, 10)]
    w.kernel.trace.unregister("sock:inet_sock_set_state", recorder)
    syscalls.sys_close(w.root, Kiocb(), fd)
    assert recorder.seen == [(7, 10)]


def test_addresses_are_listed(w: World) -> None:
    fd = w.socket(w.root, SOCK_DGRAM)
    assert syscalls.sys_ioctl(w.root, fd, SIOCGIFCONF, bytes(16)) == (0, pack_s32(80) + bytes(12))
    err, out = syscalls.sys_ioctl(w.root, fd, SIOCGIFCONF, pack_s32(79) + bytes(4) + pack_s32(1) * 2)
    assert err == 0 and get_s32(out, 0) == 40 and len(out) == 56
    err, out = syscalls.sys_ioctl(w.root, fd, SIOCGIFCONF, pack_s32(400) + bytes(4) + pack_s32(1) * 2)
    assert err == 0
    array = out[16:]
    assert get_s32(out, 0) == len(array) == 40 * 2
    assert [array[i : i + 2] for i in (0, 40)] == [b"lo", b"v0"]
    assert [unpack_sockaddr_in(array[i : i + 16])[0] for i in (16, 56)] == [LO, V0]
    assert syscalls.sys_ioctl(w.root, fd, SIOCGIFCONF, bytes(4))[0] == -EFAULT
    err, out = syscalls.sys_ioctl(w.root, fd, SIOCGIFADDR, ifreq(b"v0", b"\2\0"))
    assert err == 0 and unpack_sockaddr_in(out[16:32])[0] == V0


def test_the_stamp_of_the_last_packet(w: World) -> None:
    a, b = w.socket(w.root, SOCK_DGRAM), w.socket(w.root, SOCK_DGRAM)
    assert bind(w.root, a, LO, 5000) == 0
    assert syscalls.sys_ioctl(w.root, a, SIOCGSTAMP, bytes(16)) == (-ENOENT, b"")
    syscalls.sys_sendto(w.root, Kiocb(), b, b"x", 0, pack_sockaddr_in(LO, 5000))
    w.run(0)
    assert syscalls.sys_recvfrom(w.root, Kiocb(), a, 10, 0)[0] == 1
    err, out = syscalls.sys_ioctl(w.root, a, SIOCGSTAMPNS, bytes(16))
    assert err == 0
    assert get_s64(out, 0) * NSEC_PER_SEC + get_s64(out, 8) <= w.kernel.ktime_get_real()
    assert syscalls.sys_ioctl(w.root, a, SIOCGSTAMP, bytes(16))[0] == 0
