"""The study's path, name by name as docs/seed_names.txt has it: what each function of socket() and connect() does by itself, and
each member of tcp_prot. docs/seed.md is generated from the names and these tests."""

from __future__ import annotations

from typing import cast

import pytest

from afinet.fs.file import File, fd_install
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.memcontrol import MemCgroup
from afinet.kernel.task import Cred, Task
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.kernel.wait import Kiocb
from afinet.net import socket
from afinet.net.core import secure_seq
from afinet.net.core import sock as core_sock
from afinet.net.core.datagram import sk_cold
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.core.sock import (
    SK_CAN_REUSE,
    lock_sock,
    mem_cgroup_sk_alloc,
    release_sock,
    sk_alloc,
    sk_common_release,
    sk_rx_queue_clear,
    sk_set_socket,
    sk_tx_queue_clear,
    sock_error,
    sock_init_data,
    sock_inuse_get,
    sock_net_set,
)
from afinet.net.ipv4 import af_inet, fib_frontend, fib_trie, inet_hashtables, ip_fib, ping, route, tcp, tcp_ipv4, tcp_output
from afinet.net.ipv4.af_inet import (
    INET_PROTOSW_ICSK,
    INET_PROTOSW_PERMANENT,
    INET_PROTOSW_REUSE,
    InetDgramOps,
    InetFamilyOps,
    InetProtosw,
    InetSockrawOps,
    InetStreamOps,
    inet_register_protosw,
    inet_unregister_protosw,
)
from afinet.net.ipv4.inet_sock import INET_FLAGS_IS_ICSK, InetSock
from afinet.net.ipv4.ip_fib import FIB_LOOKUP_NOREF, FibResult
from afinet.net.ipv4.ping import PingProto
from afinet.net.ipv4.raw import RawProto
from afinet.net.ipv4.tcp_ipv4 import TcpProto
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.net.ipv4.udp import UdpProto
from afinet.net.socket import MsgHdr, NetProtoFamily, Socket
from afinet.security.security import SecurityHook, security_add_hooks, security_socket_connect, security_socket_create
from afinet.uapi.errno import (
    EACCES,
    EADDRINUSE,
    EAFNOSUPPORT,
    EALREADY,
    EBADF,
    ECONNABORTED,
    ECONNREFUSED,
    EEXIST,
    EINPROGRESS,
    EINVAL,
    EISCONN,
    EMFILE,
    ENETUNREACH,
    ENOENT,
    ENOTSOCK,
    EPERM,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
)
from afinet.uapi.fcntl import FD_CLOEXEC, O_CLOEXEC, O_NONBLOCK, O_RDWR
from afinet.uapi.in_ import IPPROTO_ICMP, IPPROTO_IP, IPPROTO_RAW, IPPROTO_TCP, IPPROTO_UDP
from afinet.uapi.rtnetlink import RT_TABLE_LOCAL, RT_TABLE_MAIN, RTN_BROADCAST, RTN_LOCAL, RTN_UNICAST
from afinet.uapi.snmp import LINUX_MIB_TCPMEMORYPRESSURES
from afinet.uapi.sockaddr import pack_s32, pack_sockaddr_in
from afinet.uapi.socket import (
    AF_INET,
    AF_UNSPEC,
    MSG_DONTWAIT,
    MSG_SPLICE_PAGES,
    SEND_SHUTDOWN,
    SO_ERROR,
    SO_KEEPALIVE,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_PACKET,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
    SS_CONNECTED,
    SS_CONNECTING,
    SS_UNCONNECTED,
)
from afinet.uapi.sockios import SIOCATMARK, SIOCINQ, SIOCOUTQ, SIOCOUTQNSD
from afinet.uapi.tcp import (
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_LISTEN,
    TCP_MAXSEG,
    TCP_NODELAY,
    TCP_NOTSENT_LOWAT,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
)
from tests.net.ipv4.iphost import addr
from tests.net.ipv4.tcphost import MSS1460, SEC, A, B, Pair, Peer, tcp_sk


@pytest.fixture
def p() -> Pair:
    return Pair(b"path")


def make(task: Task, type: int, protocol: int = 0) -> Socket:
    """A socket without a descriptor. The caller releases it."""
    err, sock = socket.sock_create(task, AF_INET, type, protocol)
    assert err == 0 and sock is not None
    return sock


def inet(sock: Socket) -> InetSock:
    assert isinstance(sock.sk, InetSock)
    return sock.sk


class Says(SecurityHook):
    """Answers `err`, and remembers what it was asked."""

    def __init__(self, err: int) -> None:
        super().__init__()
        self.err = err
        self.asked: list[object] = []

    def socket_create(self, net: Net, family: int, type: int, protocol: int, kern: bool) -> int:
        self.asked.append((family, type, protocol, kern))
        return self.err

    def socket_connect(self, sock: Socket, address: bytes) -> int:
        self.asked.append(address)
        return self.err


# -- creation --------------------------------------------------------------------------------------------------------------


def test___sys_socket_takes_two_flags_and_no_other(p: Pair) -> None:
    fd = socket.__sys_socket(p.ta, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
    assert fd == 3
    assert syscalls.sys_fcntl(p.ta, fd, 1, 0) == FD_CLOEXEC  # F_GETFD
    assert syscalls.sys_fcntl(p.ta, fd, 3, 0) == O_RDWR | O_NONBLOCK  # F_GETFL
    plain = socket.__sys_socket(p.ta, AF_INET, SOCK_STREAM, 0)
    assert (plain, syscalls.sys_fcntl(p.ta, plain, 1, 0), syscalls.sys_fcntl(p.ta, plain, 3, 0)) == (4, 0, O_RDWR)
    assert socket.__sys_socket(p.ta, AF_INET, SOCK_STREAM | 0o10, 0) == -ESOCKTNOSUPPORT  # a type of its own, in the mask
    assert socket.__sys_socket(p.ta, AF_INET, SOCK_STREAM | 0o20, 0) == -EINVAL


def test_sock_create_and___sock_create_check_ranges_before_anything(p: Pair) -> None:
    for family, type, err in (
        (-1, SOCK_STREAM, -EAFNOSUPPORT),
        (46, SOCK_STREAM, -EAFNOSUPPORT),
        (45, SOCK_STREAM, -EAFNOSUPPORT),
        (AF_INET, -1, -EINVAL),
        (AF_INET, 11, -EINVAL),
        (AF_INET, SOCK_PACKET, -EAFNOSUPPORT),  # what the 1990s wrote is AF_PACKET, which is not there
        (AF_INET, 0, -ESOCKTNOSUPPORT),
    ):
        assert socket.__sock_create(p.na, family, type, 0, False, p.ta) == (err, None)
    hook = Says(-EACCES)
    security_add_hooks(p.kernel, hook)
    assert security_socket_create(p.na, AF_INET, SOCK_DGRAM, 17, True) == -EACCES
    assert socket.sock_create(p.ta, AF_INET, SOCK_STREAM, 6) == (-EACCES, None)
    assert socket.sock_create(p.ta, 99, SOCK_STREAM, 6) == (-EAFNOSUPPORT, None)
    assert hook.asked == [(AF_INET, SOCK_DGRAM, 17, True), (AF_INET, SOCK_STREAM, 6, False)]


def test_sock_alloc_draws_an_inode_number_and_belongs_to_its_maker(p: Pair) -> None:
    user = new_task(p.kernel, p.na, "user", Cred(1000, 100))
    one, two = socket.sock_alloc(p.kernel, user), socket.sock_alloc(p.kernel, None)
    assert (one.uid, one.gid, two.uid, two.gid) == (1000, 100, 0, 0)
    assert two.ino == one.ino + 1
    assert one.state == SS_UNCONNECTED and one.sk is None and one.ops is None


def test_a_family_is_registered_once_and_net_families_holds_it(p: Pair) -> None:
    class Family(NetProtoFamily):
        def create(self, net: Net, sock: Socket, protocol: int, kern: bool, task: Task | None) -> int:
            return -EPERM

    assert isinstance(p.kernel.net_families[AF_INET], InetFamilyOps)
    assert socket.sock_register(p.kernel, Family(AF_INET)) == -EEXIST
    assert socket.sock_register(p.kernel, Family(40)) == 0
    assert socket.sock_create(p.ta, 40, SOCK_STREAM, 0) == (-EPERM, None)
    socket.sock_unregister(p.kernel, 40)
    assert socket.sock_create(p.ta, 40, SOCK_STREAM, 0) == (-EAFNOSUPPORT, None)


def test_inetsw_array_has_four_entries_and_their_flags_are_honoured(p: Pair) -> None:
    tcp_prot, udp_prot, raw_prot = p.kernel.inetsw[SOCK_STREAM][0].prot, p.kernel.inetsw[SOCK_DGRAM][0].prot, None
    ping_prot, raw_prot = p.kernel.ping_prot, p.kernel.inetsw[SOCK_RAW][0].prot
    assert ping_prot is not None
    rows = af_inet.inetsw_array(tcp_prot, udp_prot, ping_prot, raw_prot)
    assert [(q.type, q.protocol, type(q.prot), type(q.ops), q.flags) for q in rows] == [
        (SOCK_STREAM, IPPROTO_TCP, TcpProto, InetStreamOps, INET_PROTOSW_PERMANENT | INET_PROTOSW_ICSK),
        (SOCK_DGRAM, IPPROTO_UDP, UdpProto, InetDgramOps, INET_PROTOSW_PERMANENT),
        (SOCK_DGRAM, IPPROTO_ICMP, PingProto, InetSockrawOps, INET_PROTOSW_REUSE),
        (SOCK_RAW, IPPROTO_IP, RawProto, InetSockrawOps, INET_PROTOSW_REUSE),
    ]
    p.na.ipv4.ping_group_range[:] = [0, 0]
    for kind, protocol, reuse, icsk in (
        (SOCK_STREAM, 0, 0, True),
        (SOCK_DGRAM, 0, 0, False),
        (SOCK_DGRAM, IPPROTO_ICMP, SK_CAN_REUSE, False),
        (SOCK_RAW, 99, SK_CAN_REUSE, False),
    ):
        sock = make(p.ta, kind, protocol)
        sk = inet(sock)
        assert sk.sk_reuse == reuse  # INET_PROTOSW_REUSE
        assert (sk.inet_flags >> INET_FLAGS_IS_ICSK & 1 == 1) == icsk  # INET_PROTOSW_ICSK
        socket.sock_release(sock)


def test_inet_create_walks_inetsw_with_ipproto_ip_as_wild_card(p: Pair) -> None:
    """The errors say how far the walk came: no entry of that type, or none of that protocol."""

    def create(type: int, protocol: int) -> int:
        sock = socket.sock_alloc(p.kernel, p.ta)
        sock.type = type
        err = af_inet.inet_create(p.na, sock, protocol, True, None)
        if err:
            assert sock.sk is None and sock.ops is None
            return err
        number = inet(sock).sk_protocol
        socket.sock_release(sock)
        return number

    assert create(SOCK_STREAM, 0) == IPPROTO_TCP
    assert create(SOCK_DGRAM, 0) == IPPROTO_UDP
    assert create(SOCK_STREAM, IPPROTO_UDP) == -EPROTONOSUPPORT
    assert create(SOCK_DGRAM, 99) == -EPROTONOSUPPORT
    assert create(5, 0) == -ESOCKTNOSUPPORT  # SOCK_SEQPACKET
    assert create(SOCK_RAW, 0) == -EPROTONOSUPPORT  # IPPROTO_IP on both sides is no match
    assert create(SOCK_RAW, 99) == 99
    assert create(SOCK_RAW, IPPROTO_RAW) == IPPROTO_RAW
    assert (create(SOCK_STREAM, -1), create(SOCK_STREAM, 263)) == (-EINVAL, -EINVAL)


def test_protosw_entries_come_and_go_but_permanent_ones_stay(p: Pair) -> None:
    tcp_entry = p.kernel.inetsw[SOCK_STREAM][0]
    again = InetProtosw(SOCK_STREAM, IPPROTO_TCP, tcp_entry.prot, tcp_entry.ops, INET_PROTOSW_REUSE)
    assert inet_register_protosw(p.kernel, again) == -EEXIST
    assert inet_unregister_protosw(p.kernel, tcp_entry) == -EPERM
    other = InetProtosw(SOCK_STREAM, 200, tcp_entry.prot, tcp_entry.ops, INET_PROTOSW_REUSE)
    assert inet_register_protosw(p.kernel, other) == 0
    assert p.kernel.inetsw[SOCK_STREAM] == [tcp_entry, other]
    sock = make(p.ta, SOCK_STREAM, 200)
    assert inet(sock).sk_reuse == SK_CAN_REUSE and inet(sock).sk_protocol == 200
    socket.sock_release(sock)
    assert inet_unregister_protosw(p.kernel, other) == 0
    assert inet_unregister_protosw(p.kernel, other) == -ENOENT
    assert socket.sock_create(p.ta, AF_INET, SOCK_STREAM, 200) == (-EPROTONOSUPPORT, None)


def test_raw_needs_cap_net_raw_and_ping_a_group(p: Pair) -> None:
    user = new_task(p.kernel, p.na, "user", Cred(1000, 100, [7]))
    assert syscalls.sys_socket(user, AF_INET, SOCK_RAW, 99) == -EPERM
    assert syscalls.sys_socket(user, AF_INET, SOCK_DGRAM, IPPROTO_ICMP) == -EACCES  # ping_group_range is 1 0: nobody
    p.na.ipv4.ping_group_range[:] = [7, 7]
    fd = syscalls.sys_socket(user, AF_INET, SOCK_DGRAM, IPPROTO_ICMP)
    assert fd == 3
    file = user.files.fd[fd]
    assert isinstance(file, socket.SocketFile)
    assert ping.ping_init_sock(inet(file.sock), Cred(0, 0)) == -EACCES
    assert ping.ping_init_sock(inet(file.sock), Cred(0, 7)) == 0


def test_sk_alloc_makes_a_sock_of_the_protocols_struct(p: Pair) -> None:
    prot = tcp_ipv4.tcp_prot(p.kernel)
    before = sock_inuse_get(p.na)
    group = MemCgroup("group")
    p.kernel.current_memcg = group
    sk = sk_alloc(p.na, AF_INET, prot, False)
    assert sk is not None
    p.kernel.current_memcg = None
    assert isinstance(sk, TcpSock) and type(prot.sk_prot_alloc(p.na, AF_INET)) is TcpSock
    assert (sk.sk_family, sk.sk_prot, sk.sk_prot_creator) == (AF_INET, prot, prot)
    assert sk.sk_wmem_alloc == 1  # what keeps the sock until its last packet has left
    assert (sk.sk_kern_sock, sk.sk_net_refcnt, sk.sk_memcg) == (False, True, group)
    assert sock_inuse_get(p.na) == before + 1
    sock_net_set(sk, p.nb)
    assert sk.sk_net is p.nb
    sock_net_set(sk, p.na)
    # A sock of the kernel's own neither holds its namespace nor counts, and nobody is charged.
    own = sk_alloc(p.na, AF_INET, prot, True)
    assert own is not None
    p.kernel.current_memcg = group
    mem_cgroup_sk_alloc(own)
    p.kernel.current_memcg = None
    assert (own.sk_kern_sock, own.sk_net_refcnt, own.sk_memcg) == (True, False, None)
    assert sock_inuse_get(p.na) == before + 1
    for s in (sk, own):
        sock_init_data(None, s)
        core_sock.sock_orphan(s)
        core_sock.sock_put(s)
    assert sock_inuse_get(p.na) == before


def test_sock_init_data_takes_its_defaults_from_sysctl(p: Pair) -> None:
    p.na.core.sysctl_rmem_default = 111_111
    p.na.core.sysctl_wmem_default = 222_222
    sock = socket.sock_alloc(p.kernel, None)
    sock.type = SOCK_DGRAM
    sk = sk_alloc(p.na, AF_INET, tcp_ipv4.tcp_prot(p.kernel), True)
    assert sk is not None
    sock_init_data(sock, sk, 1000)
    assert (sk.sk_rcvbuf, sk.sk_sndbuf) == (111_111, 222_222)
    assert sk.sk_state == TCP_CLOSE and sk.sk_type == SOCK_DGRAM and sk.sk_uid == 1000
    assert sk.sk_socket is sock and sock.sk is sk
    cold = sk_cold(sk)
    assert (sk.sk_rcvlowat, cold.sk_rcvtimeo, cold.sk_sndtimeo) == (1, MAX_SCHEDULE_TIMEOUT, MAX_SCHEDULE_TIMEOUT)
    assert (sk.sk_rx_queue_mapping, sk.sk_tx_queue_mapping) == (-1, -1)
    sk_set_socket(sk, None)
    assert sk.sk_socket is None
    sk.sk_rx_queue_mapping = 2
    sk.sk_tx_queue_mapping = 3
    sk_rx_queue_clear(sk)
    assert (sk.sk_rx_queue_mapping, sk.sk_tx_queue_mapping) == (-1, 3)
    sk_tx_queue_clear(sk)
    assert sk.sk_tx_queue_mapping == -1
    core_sock.sock_orphan(sk)
    core_sock.sock_put(sk)
    for type, protocol in ((SOCK_STREAM, 0), (SOCK_DGRAM, 0)):
        made = make(p.ta, type, protocol)
        # TCP has buffers of its own (tcp_rmem[1], tcp_wmem[1]), UDP those of the core.
        expected = (131072, 16384) if type == SOCK_STREAM else (111_111, 222_222)
        assert (inet(made).sk_rcvbuf, inet(made).sk_sndbuf) == expected
        socket.sock_release(made)


def test_inet_sock_destruct_warns_of_what_is_still_charged(p: Pair) -> None:
    sock = make(p.ta, SOCK_DGRAM)
    sk = inet(sock)
    af_inet.inet_sock_destruct(sk)
    assert p.kernel.warned == {"Attempt to release alive inet socket": 1}
    p.kernel.warned.clear()
    socket.sock_release(sock)
    assert p.kernel.warned == {}


def test_sock_map_fd_gives_the_lowest_number_or_ends_the_socket(p: Pair) -> None:
    for expected in (3, 4, 5):
        assert socket.sock_map_fd(p.ta, make(p.ta, SOCK_STREAM), 0) == expected
    assert p.close(p.ta, 4) == 0
    assert socket.sock_map_fd(p.ta, make(p.ta, SOCK_STREAM), O_CLOEXEC) == 4
    assert syscalls.sys_fcntl(p.ta, 4, 1, 0) == FD_CLOEXEC
    p.ta.rlimit_nofile = 6
    before = sock_inuse_get(p.na)
    sock = make(p.ta, SOCK_STREAM)
    assert socket.sock_map_fd(p.ta, sock, 0) == -EMFILE
    assert sock.sk is None and sock_inuse_get(p.na) == before


# -- connect ---------------------------------------------------------------------------------------------------------------


def test___sys_connect_finds_the_socket_and_then_looks_at_the_address(p: Pair) -> None:
    fd = p.socket(p.ta, nonblock=True)
    there = pack_sockaddr_in(B, 80)
    assert socket.__sys_connect(p.ta, Kiocb(), 99, there) == -EBADF
    assert socket.sockfd_lookup_light(p.ta, 99) == (-EBADF, None)
    fd_install(p.ta.files, 4, File(O_RDWR), False)
    assert socket.sockfd_lookup_light(p.ta, 4) == (-ENOTSOCK, None)
    assert socket.__sys_connect(p.ta, Kiocb(), 4, there) == -ENOTSOCK
    err, sock = socket.sockfd_lookup_light(p.ta, fd)
    assert err == 0 and sock is not None
    assert socket.move_addr_to_kernel(bytes(128)) == 0
    assert socket.move_addr_to_kernel(bytes(129)) == -EINVAL
    assert socket.__sys_connect(p.ta, Kiocb(), fd, bytes(129)) == -EINVAL
    assert socket.__sys_connect(p.ta, Kiocb(), fd, b"\2") == -EINVAL
    hook = Says(-EACCES)
    security_add_hooks(p.kernel, hook)
    assert security_socket_connect(sock, there) == -EACCES
    assert socket.__sys_connect(p.ta, Kiocb(), fd, there) == -EACCES
    assert hook.asked == [there, there] and sock.state == SS_UNCONNECTED


def test_inet_stream_connect_answers_by_the_state_of_the_socket() -> None:
    p = Peer(b"path")
    fd = p.socket(p.task, nonblock=True)
    _, sock = socket.sockfd_lookup_light(p.task, fd)
    assert sock is not None
    there, nowhere = pack_sockaddr_in(B, 80), AF_UNSPEC.to_bytes(2, "little") + bytes(14)

    def connect(uaddr: bytes) -> int:
        return af_inet.inet_stream_connect(sock, uaddr, O_NONBLOCK, Kiocb())

    assert connect(there) == -EINPROGRESS and sock.state == SS_CONNECTING
    assert connect(there) == -EALREADY
    sk = tcp_sk(p.task, fd)
    syn = p.tx1()
    p.sport, p.dport = 80, syn.sport
    p.rx("S.", p.ISN, syn.seq + 1, options=MSS1460)
    assert connect(there) == 0 and sock.state == SS_CONNECTED
    lock_sock(sk)
    assert af_inet.__inet_stream_connect(sock, there, O_NONBLOCK, False, Kiocb()) == -EISCONN
    release_sock(sk)
    assert connect(nowhere) == 0 and sock.state == SS_UNCONNECTED and sk.sk_state == TCP_CLOSE
    p.tx()
    # Refused: the error is the connect()'s, once, and then the socket is as new.
    assert connect(there) == -EINPROGRESS
    syn = p.tx1()
    p.dport = syn.sport
    p.rx("R.", 0, syn.seq + 1)
    assert sk.sk_err == ECONNREFUSED
    assert connect(there) == -ECONNREFUSED and sock.state == SS_UNCONNECTED
    sk.sk_err = EPERM
    assert (sock_error(sk), sock_error(sk)) == (-EPERM, 0)


def test_tcp_v4_connect_chooses_route_source_and_port_and_sends_the_syn(p: Pair) -> None:
    fd = p.socket(p.ta, nonblock=True)
    sk = tcp_sk(p.ta, fd)
    lock_sock(sk)
    assert tcp_ipv4.tcp_v4_connect(sk, b"\2\0") == -EINVAL
    assert tcp_ipv4.tcp_v4_connect(sk, b"\3\0" + bytes(14)) == -EAFNOSUPPORT
    assert tcp_ipv4.tcp_v4_connect(sk, pack_sockaddr_in(addr("8.8.8.8"), 80)) == -ENETUNREACH
    assert tcp_ipv4.tcp_v4_connect(sk, pack_sockaddr_in(A | 255, 80)) == -ENETUNREACH  # a broadcast
    assert sk.sk_state == TCP_CLOSE and sk.inet_num == 0
    assert tcp_ipv4.tcp_v4_connect(sk, pack_sockaddr_in(B, 80)) == 0
    assert sk.sk_state == TCP_SYN_SENT
    assert (sk.inet_saddr, sk.inet_daddr, sk.inet_dport) == (A, B, 80)
    low, high = p.na.ipv4.ip_local_ports
    assert low <= sk.inet_num <= high
    hinfo = p.kernel.inet_hashinfo
    assert hinfo is not None
    found = inet_hashtables.__inet_lookup_established(p.na, hinfo, B, 80, A, sk.inet_num, 0)
    assert found is sk
    release_sock(sk)
    assert sk.sk_err == ECONNREFUSED  # nobody listens there: the answer was in the backlog


def test_ip_route_connect_fills_the_flow(p: Pair) -> None:
    sk = tcp_sk(p.ta, p.socket(p.ta))
    fl4 = Flowi4()
    route.ip_route_connect_init(fl4, B, 0, 0, IPPROTO_TCP, 0, 80, sk)
    assert (fl4.daddr, fl4.saddr, fl4.flowi4_proto, fl4.fl4_dport, fl4.fl4_sport) == (B, 0, IPPROTO_TCP, 80, 0)
    fl4 = Flowi4()
    err, rt = route.ip_route_connect(fl4, B, 0, 0, IPPROTO_TCP, 0, 80, sk)
    assert err == 0 and rt is not None
    assert (fl4.saddr, fl4.daddr, rt.dev) == (A, B, p.da)
    # Each step of the lookup alone gives the same; connect(0.0.0.0) means oneself.
    for lookup in (
        lambda f: route.ip_route_output_flow(p.na, f, sk),
        lambda f: route.__ip_route_output_key(p.na, f),
        lambda f: route.ip_route_output_key_hash(p.na, f, None),
        lambda f: route.ip_route_output_key_hash_rcu(p.na, f, FibResult(), None),
    ):
        flow = Flowi4(daddr=B)
        err, found = lookup(flow)
        assert err == 0 and found is not None
        assert (found.dev, flow.saddr) == (p.da, A)
        assert lookup(Flowi4(daddr=addr("8.8.8.8"))) == (-ENETUNREACH, None)
    fl4 = Flowi4()
    err, rt = route.ip_route_connect(fl4, 0, 0, 0, IPPROTO_TCP, 0, 80, sk)
    assert err == 0 and rt is not None and rt.rt_type == RTN_LOCAL
    assert fl4.daddr == addr("127.0.0.1") == fl4.saddr


def test_fib_lookup_goes_through_local_and_main_and_counts_no_reference(p: Pair) -> None:
    for table in (RT_TABLE_LOCAL, RT_TABLE_MAIN):
        assert fib_frontend.fib_get_table(p.na, table) is not None
    assert fib_frontend.fib_get_table(p.na, 77) is None
    for daddr, kind in ((A, RTN_LOCAL), (A | 255, RTN_BROADCAST), (B, RTN_UNICAST)):
        res = FibResult()
        assert fib_frontend.fib_lookup(p.na, Flowi4(daddr=daddr), res, 0) == 0
        assert res.type == kind
    assert fib_frontend.fib_lookup(p.na, Flowi4(daddr=addr("8.8.8.8")), FibResult(), 0) == -ENETUNREACH
    main = fib_frontend.fib_get_table(p.na, RT_TABLE_MAIN)
    assert main is not None
    res = FibResult()
    assert fib_trie.fib_table_lookup(main, Flowi4(daddr=B), res, FIB_LOOKUP_NOREF) == 0
    fi = res.fi
    assert fi is not None and (res.prefix, res.prefixlen) == (A & ~255, 24)
    references = fi.fib_clntref
    fib_frontend.fib_lookup(p.na, Flowi4(daddr=B), res, 0)
    assert fi.fib_clntref == references
    assert fib_trie.fib_table_lookup(main, Flowi4(daddr=B), res, 0) == 0
    assert fi.fib_clntref == references + 1
    fi.fib_clntref -= 1
    assert ip_fib.FIB_LOOKUP_NOREF == 1


def test_inet_hash_connect_gives_every_destination_its_own_order_of_ports(p: Pair) -> None:
    """RFC 6056, algorithm 4: the same destination counts on, another begins elsewhere; even before odd ports."""

    def connected(daddr: int) -> TcpSock:
        sk = tcp_sk(p.ta, p.socket(p.ta))
        sk.inet_saddr = sk.inet_rcv_saddr = A
        sk.inet_daddr, sk.inet_dport = daddr, 80
        lock_sock(sk)
        tcp.tcp_set_state(sk, TCP_SYN_SENT)
        assert inet_hashtables.inet_hash_connect(sk) == 0
        release_sock(sk)
        return sk

    to_b = [connected(B).inet_num for _ in range(4)]
    elsewhere = [connected(B + 5).inet_num for _ in range(4)]
    assert len(set(to_b)) == 4 and to_b != elsewhere
    low, high = p.na.ipv4.ip_local_ports
    assert all(low <= port <= high and (port - low) % 2 == 0 for port in to_b + elsewhere)


def test_secure_tcp_seq_is_secret_and_grows_with_time(p: Pair) -> None:
    """RFC 6528: a clock of 64 ns plus a keyed hash of the four-tuple."""
    one = secure_seq.secure_tcp_seq(p.na, A, B, 1000, 80)
    assert secure_seq.secure_tcp_seq(p.na, A, B, 1000, 80) == one
    others = {secure_seq.secure_tcp_seq(p.na, A, B, port, 80) for port in range(1001, 1100)}
    assert len(others) == 99 and one not in others
    p.run(64_000)
    assert (secure_seq.secure_tcp_seq(p.na, A, B, 1000, 80) - one) & 0xFFFFFFFF == 1000
    assert secure_seq.secure_tcp_seq(Pair(b"other").na, A, B, 1000, 80) != one


def test_tcp_connect_sends_a_syn_and_arms_its_retransmission() -> None:
    p = Peer(b"path")
    fd = p.socket(p.task, nonblock=True)
    sk = tcp_sk(p.task, fd)
    timers = p.kernel.timers.pending
    assert p.connect(p.task, fd, B, 80) == -EINPROGRESS
    syn = p.tx1()
    assert syn.flags == 2 and sk.snd_nxt == (syn.seq + 1) & 0xFFFFFFFF == sk.write_seq
    assert p.kernel.timers.pending == timers + 1
    p.run(SEC)
    assert p.tx1().seq == syn.seq
    assert callable(tcp_output.tcp_connect)


# -- tcp_prot --------------------------------------------------------------------------------------------------------------


def prot_of(p: Pair | Peer) -> TcpProto:
    prot = tcp_ipv4.tcp_prot(p.kernel)
    assert isinstance(prot, TcpProto)
    return prot


def test_tcp_prots_values_are_linuxes(p: Pair) -> None:
    prot = prot_of(p)
    assert type(prot) is TcpProto
    assert (prot.name, prot.owner, prot.no_autobind) == ("TCP", "afinet", True)
    assert prot.max_header == 256 and prot.obj_size > 2000
    assert prot.slab_flags == core_sock.SLAB_TYPESAFE_BY_RCU
    assert prot.hashinfo is p.kernel.inet_hashinfo
    assert prot.sysctl_mem is p.na.ipv4.sysctl_tcp_mem
    assert prot.sysctl_wmem(p.na) is p.na.ipv4.sysctl_tcp_wmem
    assert prot.sysctl_rmem(p.na) is p.na.ipv4.sysctl_tcp_rmem
    assert prot in p.kernel.proto_list


def test_tcp_prot_init_and_destroy_count_the_sock(p: Pair) -> None:
    """TcpProto.init is tcp_v4_init_sock, TcpProto.destroy tcp_v4_destroy_sock: sockets_allocated between the two."""
    prot = prot_of(p)
    assert prot.sockets_allocated == 0
    sk = sk_alloc(p.na, AF_INET, prot, False)
    assert sk is not None
    sock_init_data(None, sk)
    assert prot.init(sk) == 0
    assert isinstance(sk, TcpSock) and sk.icsk_af_ops is not None and sk.sk_rcvbuf == 131072
    assert prot.sockets_allocated == 1
    sk_common_release(sk)
    assert prot.sockets_allocated == 0


def test_tcp_prot_get_port_hash_unhash_and_put_port(p: Pair) -> None:
    """inet_csk_get_port, inet_hash, inet_unhash, inet_put_port, as listen() and close() call them on TcpProto."""
    prot = prot_of(p)
    hinfo = prot.hashinfo
    assert hinfo is not None
    one, two = (tcp_sk(p.ta, p.socket(p.ta)) for _ in range(2))
    lock_sock(one)
    assert prot.has_get_port() and prot.get_port(one, 4000) == 0
    assert prot.get_port(two, 4000) == -EADDRINUSE
    assert prot.get_port(two, 0) == 0 and two.inet_num != 4000
    assert len(hinfo.bhash) == 2
    tcp.tcp_set_state(one, TCP_LISTEN)
    one.inet_sport = one.inet_num
    assert prot.hash(one) == 0 and len(hinfo.lhash2) == 1
    prot.unhash(one)
    assert not hinfo.lhash2
    prot.put_port(one)
    assert len(hinfo.bhash) == 1
    tcp.tcp_set_state(one, TCP_CLOSE)
    release_sock(one)


def test_tcp_prot_pre_connect_connect_and_disconnect(p: Pair) -> None:
    """TcpProto.pre_connect is tcp_v4_pre_connect, connect tcp_v4_connect, disconnect tcp_disconnect: the sock can be used again."""
    prot = prot_of(p)
    sk = tcp_sk(p.ta, p.socket(p.ta))
    assert tcp_ipv4.tcp_v4_pre_connect(sk, b"") == -EINVAL
    there = pack_sockaddr_in(B + 7, 80)
    assert prot.pre_connect(sk, there) == 0
    for _ in range(2):
        lock_sock(sk)
        assert prot.connect(sk, there) == 0
        assert sk.sk_state == TCP_SYN_SENT and sk.inet_daddr == B + 7
        assert prot.disconnect(sk, 0) == 0
        assert (sk.sk_state, sk.inet_dport, sk.inet_num, sk.inet_saddr) == (TCP_CLOSE, 0, 0, 0)
        release_sock(sk)


def test_tcp_prot_accept_gives_the_oldest_connection(p: Pair) -> None:
    """inet_csk_accept through TcpProto.accept."""
    prot = prot_of(p)
    listener = p.listener(p.tb, 80)
    for _ in range(2):
        assert p.connect(p.ta, p.socket(p.ta), B, 80) == 0
    lsk = tcp_sk(p.tb, listener)
    ports = []
    for _ in range(2):
        err, child = prot.accept(lsk, O_NONBLOCK, Kiocb())
        assert err == 0 and isinstance(child, TcpSock) and child.sk_state == TCP_ESTABLISHED
        ports.append(child.inet_dport)
        core_sock.sock_orphan(child)
        prot.close(child, 0, Kiocb())
    assert ports == [tcp_sk(p.ta, 3).inet_num, tcp_sk(p.ta, 4).inet_num]


def test_tcp_prot_sendmsg_recvmsg_and_ioctl() -> None:
    """TcpProto.sendmsg is tcp_sendmsg, with MSG_SPLICE_PAGES for sendpage; recvmsg tcp_recvmsg; ioctl tcp_ioctl: SIOCINQ, SIOCOUTQ,
    SIOCOUTQNSD, SIOCATMARK."""
    p = Peer(b"path")
    prot = prot_of(p)
    _, fd, isn = p.open_passive(MSS1460, win=10)
    sk = tcp_sk(p.task, fd)
    assert prot.sendmsg(sk, MsgHdr(Kiocb(), b"copied ", b"", b"", 0), 7) == 7
    assert prot.sendmsg(sk, MsgHdr(Kiocb(), b"spliced", b"", b"", MSG_SPLICE_PAGES), 7) == 7

    def number(cmd: int) -> int:
        err, raw = prot.ioctl(sk, cmd, b"")
        assert err == 0
        return int.from_bytes(raw, "little")

    sent = sum(len(s.data) for s in p.tx())
    assert 7 <= sent <= 10  # the window
    assert (number(SIOCOUTQ), number(SIOCOUTQNSD)) == (14, 14 - sent)
    p.rx(".", p.ISN + 1, isn + 1 + sent)
    assert number(SIOCOUTQ) == 14 - sent
    p.rx("PU.", p.ISN + 1, isn + 1 + sent, b"0123456789", urg=1)
    assert (number(SIOCINQ), number(SIOCATMARK)) == (0, 1)  # at the mark: what is before it is all read
    msg = MsgHdr(Kiocb(), b"", b"", b"", 0)
    assert prot.recvmsg(sk, msg, 100, MSG_DONTWAIT) == 9
    assert (number(SIOCINQ), number(SIOCATMARK)) == (0, 0)
    assert prot.ioctl(sk, 0x1234, b"")[0] < 0


def test_tcp_prot_setsockopt_getsockopt_and_keepalive(p: Pair) -> None:
    """TcpProto.setsockopt is tcp_setsockopt, getsockopt tcp_getsockopt; SO_KEEPALIVE calls keepalive (tcp_set_keepalive)."""
    prot = prot_of(p)
    client, _, _ = p.established()
    sk = tcp_sk(p.ta, client)
    assert prot.setsockopt(sk, IPPROTO_TCP, TCP_NODELAY, pack_s32(1)) == 0
    assert prot.getsockopt(sk, IPPROTO_TCP, TCP_NODELAY, 4) == (0, pack_s32(1))
    assert prot.getsockopt(sk, IPPROTO_TCP, TCP_MAXSEG, 4) == (0, pack_s32(1448))
    assert prot.setsockopt(sk, IPPROTO_TCP, 9999, pack_s32(1)) < 0
    p.run(SEC)
    timers = p.kernel.timers.pending
    assert p.setsockopt(p.ta, client, SOL_SOCKET, SO_KEEPALIVE, 1) == 0
    assert p.kernel.timers.pending == timers + 1
    prot.keepalive(sk, False)
    assert p.kernel.timers.pending == timers


def test_tcp_prot_shutdown_and_close() -> None:
    """TcpProto.shutdown is tcp_shutdown, close tcp_close: an orphan (orphan_count) until the peer has closed, too, and then a
    TIME_WAIT sock."""
    p = Peer(b"path")
    prot = prot_of(p)
    _, fd, isn = p.open_passive(MSS1460)
    sk = tcp_sk(p.task, fd)
    lock_sock(sk)
    prot.shutdown(sk, SEND_SHUTDOWN)
    release_sock(sk)
    assert p.tx1().flags == 0x11
    assert (sk.sk_state, prot.orphan_count) == (TCP_FIN_WAIT1, 0)
    assert p.close(p.task, fd) == 0
    assert (sk.sk_state, prot.orphan_count) == (TCP_FIN_WAIT1, 1)
    p.rx("F.", p.ISN + 1, isn + 2)
    assert (sk.sk_state, prot.orphan_count, p.net.ipv4.tw_count) == (TCP_CLOSE, 0, 1)


def test_time_wait_and_request_socks_are_made_through_twsk_prot_and_rsk_prot(p: Pair) -> None:
    prot = prot_of(p)
    assert prot.twsk_prot is not None and prot.rsk_prot is not None
    tw = prot.twsk_prot.twsk_alloc(p.na, AF_INET, prot)
    listener = p.listener(p.tb, 80)
    req = prot.rsk_prot.reqsk_alloc(tcp_sk(p.tb, listener))
    assert tw.sk_prot is prot and req.rsk_listener is tcp_sk(p.tb, listener)
    hinfo = prot.hashinfo
    assert hinfo is not None
    fd = p.socket(p.ta)
    assert p.connect(p.ta, fd, B, 80) == 0
    port = tcp_sk(p.ta, fd).inet_num
    server = p.accept(p.tb, listener)
    p.close(p.ta, fd)
    p.run()
    p.close(p.tb, server)
    p.run()
    found = inet_hashtables.__inet_lookup_established(p.na, hinfo, B, 80, A, port, 0)
    assert found is not None and found.sk_state == TCP_TIME_WAIT and type(found) is type(tw)


def test_tcp_prot_backlog_rcv_and_release_cb_work_off_what_came_while_the_sock_was_owned() -> None:
    """A segment for an owned sock waits in the backlog; release_sock hands it to TcpProto.backlog_rcv (tcp_v4_do_rcv) and calls
    release_cb (tcp_release_cb)."""
    p = Peer(b"path")
    _, fd, isn = p.open_passive(MSS1460)
    sk = tcp_sk(p.task, fd)
    lock_sock(sk)
    p.rx("P.", p.ISN + 1, isn + 1, b"hello")
    assert sk.sk_backlog_len > 0 and sk.rcv_nxt == p.ISN + 1
    release_sock(sk)
    assert sk.sk_backlog_len == 0 and sk.rcv_nxt == p.ISN + 6
    assert p.recv(p.task, fd, 10) == b"hello"
    prot_of(p).release_cb(sk)
    assert not sk.sk_lock_owned


def test_tcp_prot_memory_pressure_is_entered_and_left() -> None:
    """With tcp_mem lowered: memory_allocated passes the second mark, enter_memory_pressure (tcp_enter_memory_pressure) is called;
    it falls below the first, leave_memory_pressure (tcp_leave_memory_pressure). Over the third, data is dropped."""
    p = Peer(b"path")
    prot = prot_of(p)
    assert prot.sysctl_mem is not None
    prot.sysctl_mem[:] = [2, 4, 12]
    _, fd, isn = p.open_passive(MSS1460)
    seq = p.ISN + 1
    for _ in range(40):
        p.rx(".", seq, isn + 1, b"x" * 1400)
        seq += 1400
        assert 0 <= prot.memory_allocated <= 12 + 1
    assert prot.memory_pressure > 0
    assert p.net.net_statistics[LINUX_MIB_TCPMEMORYPRESSURES] == 1
    while isinstance(piece := p.recv(p.task, fd, 65536, MSG_DONTWAIT), bytes) and piece:
        pass
    p.rx("R", tcp_sk(p.task, fd).rcv_nxt)
    assert prot.memory_allocated == 0 and prot.memory_pressure == 0
    sk = tcp_sk(p.task, fd)
    prot.enter_memory_pressure(sk)
    assert prot.memory_pressure == p.kernel.now
    prot.leave_memory_pressure(sk)
    assert prot.memory_pressure == 0


def test_tcp_prot_stream_memory_free_goes_by_the_unsent(p: Pair) -> None:
    """tcp_stream_memory_free: TCP_NOTSENT_LOWAT against what is written and not sent."""
    prot = prot_of(p)
    client, _, _ = p.established()
    sk = tcp_sk(p.ta, client)
    assert p.setsockopt(p.ta, client, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1000) == 0
    assert prot.stream_memory_free(sk, 0)
    sk.write_seq += 600
    assert prot.stream_memory_free(sk, 0) and not prot.stream_memory_free(sk, 1)
    sk.write_seq += 600
    assert not prot.stream_memory_free(sk, 0)
    sk.write_seq -= 1200


def test_tcp_prot_diag_destroy_ends_a_sock_of_any_state(p: Pair) -> None:
    """TcpProto.diag_destroy is tcp_abort (`ss -K`): the program is told, the peer reset, and nothing is left hashed."""
    prot = prot_of(p)
    client, server, listener = p.established()
    a = tcp_sk(p.ta, client)
    assert prot.diag_destroy(a, ECONNABORTED) == 0
    p.run()
    assert a.sk_state == TCP_CLOSE and p.so_error(p.ta, client) == ECONNABORTED
    assert tcp_sk(p.tb, server).sk_state == TCP_CLOSE
    assert prot.diag_destroy(a, ECONNABORTED) == -ENOENT
    assert prot.diag_destroy(tcp_sk(p.tb, listener), ECONNABORTED) == 0
    hinfo = prot.hashinfo
    assert hinfo is not None and not hinfo.ehash and not hinfo.lhash2
    waiting = p.socket(p.ta, nonblock=True)
    p.connect(p.ta, waiting, B + 7, 80)
    assert prot.diag_destroy(tcp_sk(p.ta, waiting), ECONNABORTED) == 0
    assert p.getsockopt(p.ta, waiting, SOL_SOCKET, SO_ERROR) == ECONNABORTED


# -- the other three -------------------------------------------------------------------------------------------------------


def test_each_kind_of_socket_has_its_proto_and_its_ops(p: Pair) -> None:
    p.na.ipv4.ping_group_range[:] = [0, 0]
    for type, protocol, prot, ops, connects in (
        (SOCK_STREAM, 0, TcpProto, InetStreamOps, "SS_CONNECTING"),
        (SOCK_DGRAM, 0, UdpProto, InetDgramOps, ""),
        (SOCK_DGRAM, IPPROTO_ICMP, PingProto, InetSockrawOps, ""),
        (SOCK_RAW, 99, RawProto, InetSockrawOps, ""),
    ):
        sock = make(p.ta, type, protocol)
        assert isinstance(inet(sock).sk_prot, prot) and isinstance(sock.ops, ops)
        there = pack_sockaddr_in(B, 80)
        err = cast(socket.ProtoOps, sock.ops).connect(sock, there, O_NONBLOCK, Kiocb())
        assert err == (-EINPROGRESS if connects else 0)
        listening = cast(socket.ProtoOps, sock.ops).listen(sock, 1)
        assert listening < 0
        socket.sock_release(sock)
