"""net/ipv4/af_inet.c: the AF_INET family: inetsw, socket creation, and what its three kinds of socket answer to system calls.

Call order: inet_init at boot; then __sock_create -> InetFamilyOps.create -> inet_create -> sk_alloc, sock_init_data, prot.init. The
verbs arrive in InetStreamOps, InetDgramOps or InetSockrawOps, whose methods call the functions named after Linux's, which call
`sk.sk_prot`.

A blocking connect() waits through its Kiocb: `ki_state` says how far the call has come (CONNECT_*), `ki_pos` how many
disconnects the sock had seen when it began to wait.

Left out: the BPF hooks of cgroups, GRO and GSO callbacks (net/core/gso.py cuts super-packets), IPPROTO_MPTCP's rewriting, l3mdev.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet._mypyc import mypyc_attr
from afinet.kernel.task import ns_capable
from afinet.kernel.wait import Kiocb
from afinet.net.core import datagram
from afinet.net.core.drop_reason import SKB_DROP_REASON_SOCKET_CLOSE
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import Net, PernetOperations, register_pernet_subsys
from afinet.net.core.skbuff import skb_queue_purge
from afinet.net.core.sock import (
    SOCK_BINDADDR_LOCK,
    SOCK_BINDPORT_LOCK,
    SOCK_DEAD,
    SOCK_LINGER,
    Sock,
    __sk_dst_check,
    lock_sock,
    mem_cgroup_sk_inherit,
    proto_register,
    release_sock,
    sk_alloc,
    sk_common_release,
    sk_dst_reset,
    sk_mem_reclaim,
    sk_setup_caps,
    sk_sleep,
    sock_error,
    sock_graft,
    sock_init_data,
    sock_intr_errno,
    sock_sndtimeo,
)
from afinet.net.ipv4 import (
    arp,
    devinet,
    icmp,
    igmp,
    igmp_sock,
    inet_connection_sock,
    inet_hashtables,
    ip_fragment,
    ip_output,
    ping,
    raw,
    route,
    sysctl_net_ipv4,
    tcp,
    tcp_ipv4,
    udp,
)
from afinet.net.ipv4.inet_sock import (
    INET_FLAGS_BIND_ADDRESS_NO_PORT,
    INET_FLAGS_DEFER_CONNECT,
    INET_FLAGS_FREEBIND,
    INET_FLAGS_HDRINCL,
    INET_FLAGS_IS_ICSK,
    INET_FLAGS_MC_ALL,
    INET_FLAGS_MC_LOOP,
    INET_FLAGS_NODEFRAG,
    INET_FLAGS_TRANSPARENT,
    InetConnectionSock,
    InetSock,
    inet_assign_bit,
    inet_test_bit,
)
from afinet.net.ipv4.netns import NetnsIpv4
from afinet.net.ipv4.protocol import inet_add_protocol
from afinet.net.socket import (
    MsgHdr,
    NetProtoFamily,
    ProtoOps,
    Socket,
    sock_create_kern,
    sock_register,
)
from afinet.uapi.capability import CAP_NET_BIND_SERVICE, CAP_NET_RAW
from afinet.uapi.errno import (
    EACCES,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EAGAIN,
    EALREADY,
    ECONNABORTED,
    EEXIST,
    EFAULT,
    EINPROGRESS,
    EINVAL,
    EISCONN,
    ENOBUFS,
    ENOENT,
    ENOTCONN,
    EPERM,
    EPIPE,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
)
from afinet.uapi.fcntl import O_NONBLOCK
from afinet.uapi.in_ import (
    INADDR_ANY,
    IP_PMTUDISC_DONT,
    IP_PMTUDISC_WANT,
    IPPROTO_ICMP,
    IPPROTO_IGMP,
    IPPROTO_IP,
    IPPROTO_MPTCP,
    IPPROTO_RAW,
    IPPROTO_TCP,
    IPPROTO_UDP,
)
from afinet.uapi.rtnetlink import RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST
from afinet.uapi.sockaddr import (
    SIZEOF_SA_FAMILY,
    SIZEOF_SOCKADDR_IN,
    get_s32,
    get_s64,
    pack_s32,
    pack_sockaddr_in,
    sa_family,
    unpack_sockaddr_in,
)
from afinet.uapi.socket import (
    AF_INET,
    AF_UNSPEC,
    RCV_SHUTDOWN,
    SHUTDOWN_MASK,
    SOCK_DGRAM,
    SOCK_MAX,
    SOCK_RAW,
    SOCK_STREAM,
    SS_CONNECTED,
    SS_CONNECTING,
    SS_DISCONNECTING,
    SS_UNCONNECTED,
)
from afinet.uapi.sockios import (
    SIOCGIFADDR,
    SIOCGIFBRDADDR,
    SIOCGIFCONF,
    SIOCGIFDSTADDR,
    SIOCGIFNETMASK,
    SIOCGIFPFLAGS,
    SIOCSIFADDR,
    SIOCSIFBRDADDR,
    SIOCSIFDSTADDR,
    SIOCSIFFLAGS,
    SIOCSIFNETMASK,
    SIOCSIFPFLAGS,
)
from afinet.uapi.tcp import (
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
)

if TYPE_CHECKING:
    from afinet.fs.file import File
    from afinet.kernel.machine import Kernel
    from afinet.kernel.task import Task
    from afinet.net.core.sock import Proto

IPPROTO_MAX: Final = IPPROTO_MPTCP + 1

SIZEOF_IFCONF: Final = 16

# include/net/protocol.h
INET_PROTOSW_REUSE: Final = 0x01  # ports are reusable by default
INET_PROTOSW_PERMANENT: Final = 0x02  # not to be unregistered or overridden
INET_PROTOSW_ICSK: Final = 0x04  # an inet_connection_sock

# __inet_bind's flags
BIND_FORCE_ADDRESS_NO_PORT: Final = 1 << 0
BIND_WITH_LOCK: Final = 1 << 1
BIND_NO_CAP_NET_BIND_SERVICE: Final = 1 << 3

SK_CAN_REUSE: Final = 1

# how far a connect() has come, in Kiocb.ki_state
CONNECT_NEW: Final = 0
CONNECT_STARTED: Final = 1  # this call sent the SYN: -EINPROGRESS if it may not wait longer
CONNECT_JOINED: Final = 2  # another call had sent it: -EALREADY


class InetProtosw:
    """struct inet_protosw: a type and protocol of AF_INET, with who answers for them."""

    __slots__ = ("flags", "ops", "prot", "protocol", "type")

    def __init__(self, type: int, protocol: int, prot: Proto, ops: ProtoOps, flags: int) -> None:
        self.type: int = type
        self.protocol: int = protocol  # IPPROTO_IP: any
        self.prot: Proto = prot
        self.ops: ProtoOps = ops
        self.flags: int = flags


def inet_sk(sk: Sock | None) -> InetSock:
    """The sock of a socket as struct inet_sock. A socket has one from creation to its release."""
    return cast(InetSock, sk)


def inet_csk(sk: Sock | None) -> InetConnectionSock:
    return cast(InetConnectionSock, sk)


# -- creation --------------------------------------------------------------------------------------------------------------


def inet_create(net: Net, sock: Socket, protocol: int, kern: bool, task: Task | None) -> int:
    """Make `sock` an AF_INET socket of its type and `protocol`. 0 or -errno."""
    if protocol < 0 or protocol >= IPPROTO_MAX:
        return -EINVAL
    sock.state = SS_UNCONNECTED

    # The first entry of the type that matches: exactly, or because one side says IPPROTO_IP. Both saying it do not match: there is
    # no raw socket for protocol 0.
    answer: InetProtosw | None = None
    err = -ESOCKTNOSUPPORT
    for entry in net.kernel.inetsw[sock.type]:
        if protocol == entry.protocol:
            if protocol != IPPROTO_IP:
                answer = entry
                break
        elif protocol == IPPROTO_IP:
            protocol = entry.protocol
            answer = entry
            break
        elif entry.protocol == IPPROTO_IP:
            answer = entry
            break
        err = -EPROTONOSUPPORT
    if answer is None:
        return err
    if sock.type == SOCK_RAW and not kern and not ns_capable(net.kernel, CAP_NET_RAW):
        return -EPERM

    sock.ops = answer.ops
    made = sk_alloc(net, AF_INET, answer.prot, kern)
    if made is None:
        return -ENOBUFS
    sk = cast(InetSock, made)
    if answer.flags & INET_PROTOSW_REUSE:
        sk.sk_reuse = SK_CAN_REUSE
    inet_assign_bit(sk, INET_FLAGS_IS_ICSK, answer.flags & INET_PROTOSW_ICSK != 0)
    inet_assign_bit(sk, INET_FLAGS_NODEFRAG, False)
    if sock.type == SOCK_RAW:
        sk.inet_num = protocol
        if protocol == IPPROTO_RAW:
            inet_assign_bit(sk, INET_FLAGS_HDRINCL, True)
    sk.pmtudisc = IP_PMTUDISC_DONT if net.ipv4.sysctl_ip_no_pmtu_disc else IP_PMTUDISC_WANT
    sk.inet_id = 0

    sock_init_data(sock, sk, sock.uid)

    # sk_destruct is inet_sock_destruct: InetSock's method.
    sk.sk_protocol = protocol
    sk.sk_txrehash = net.core.sysctl_txrehash
    sk.uc_ttl = -1
    inet_assign_bit(sk, INET_FLAGS_MC_LOOP, True)
    sk.mc_ttl = 1
    inet_assign_bit(sk, INET_FLAGS_MC_ALL, True)
    sk.mc_index = 0
    sk.rcv_tos = 0

    if sk.inet_num:
        # A protocol that lets the creator choose the number is matched by it at once (raw).
        sk.inet_sport = sk.inet_num
        err = sk.sk_prot.hash(sk)
        if err:
            return inet_create_failed(sock, sk, err)
    err = sk.sk_prot.init(sk)
    if err:
        return inet_create_failed(sock, sk, err)
    return 0


def inet_create_failed(sock: Socket, sk: InetSock, err: int) -> int:
    sk_common_release(sk)
    sock.sk = None
    sock.ops = None
    return err


def inet_ctl_sock_create(net: Net, family: int, type: int, protocol: int) -> tuple[int, Sock | None]:
    """A sock of the kernel's own for sending only: unhashed, so that nothing is delivered to it. (0 or -errno, sock)."""
    err, sock = sock_create_kern(net, family, type, protocol)
    if sock is None:
        return err, None
    sk = sock.sk
    assert sk is not None
    sk.sk_prot.unhash(sk)
    return 0, sk


# -- inetsw ----------------------------------------------------------------------------------------------------------------


def inet_register_protosw(kernel: Kernel, p: InetProtosw) -> int:
    """Add an entry. 0, -EINVAL for a bad type, -EEXIST where a permanent entry has that protocol (Linux logs and returns).

    It goes before every entry that is not permanent, so that what was registered last answers first.
    """
    if p.type < 0 or p.type >= SOCK_MAX:
        return -EINVAL
    entries = kernel.inetsw[p.type]
    at = 0
    for entry in entries:
        # Only permanent ones are looked at: others may be overridden.
        if not entry.flags & INET_PROTOSW_PERMANENT:
            break
        if entry.protocol == p.protocol:
            return -EEXIST
        at += 1
    entries.insert(at, p)
    return 0


def inet_unregister_protosw(kernel: Kernel, p: InetProtosw) -> int:
    """Take an entry away; its sockets live on. 0, -EPERM for a permanent one (Linux logs and returns), -ENOENT."""
    if p.flags & INET_PROTOSW_PERMANENT:
        return -EPERM
    if p.type < 0 or p.type >= SOCK_MAX:
        return -EINVAL
    entries = kernel.inetsw[p.type]
    for i in range(len(entries)):
        if entries[i] is p:
            del entries[i]
            return 0
    return -ENOENT


# -- the end of a sock -----------------------------------------------------------------------------------------------------


def inet_sock_destruct(sk: InetSock) -> None:
    """The last reference and the last sent packet are gone. What is still charged now is a leak: WARN, for the tests to see."""
    net = sk.sk_net
    kernel = sk.kernel
    if sk.sk_receive_queue.qlen:
        skb_queue_purge(net, sk.sk_receive_queue, SKB_DROP_REASON_SOCKET_CLOSE)
    cold = sk.sk_cold
    if cold is not None:
        skb_queue_purge(net, cold.sk_error_queue, SKB_DROP_REASON_SOCKET_CLOSE)
        cold.sk_reserved_mem = 0
    sk_mem_reclaim(sk)
    if sk.sk_type == SOCK_STREAM and sk.sk_state != TCP_CLOSE:
        kernel.warn_on("Attempt to release TCP socket in state")
        return
    if not sk.sk_flags >> SOCK_DEAD & 1:
        kernel.warn_on("Attempt to release alive inet socket")
        return
    if sk.sk_rmem_alloc:
        kernel.warn_on("inet_sock_destruct: sk_rmem_alloc")
    if sk.sk_wmem_alloc:
        kernel.warn_on("inet_sock_destruct: sk_wmem_alloc")
    if sk.sk_wmem_queued:
        kernel.warn_on("inet_sock_destruct: sk_wmem_queued")
    if sk.sk_forward_alloc:
        kernel.warn_on("inet_sock_destruct: sk_forward_alloc")
    sk.inet_opt = None
    sk_dst_reset(sk)


def inet_release(sock: Socket, iocb: Kiocb) -> int:
    """The socket's file is gone. -EIOCBQUEUED while SO_LINGER waits, else 0."""
    sk = sock.sk
    if sk is None:
        return 0
    # Programs forget to leave their groups.
    igmp_sock.ip_mc_drop_socket(inet_sk(sk))
    # An exiting or signalled caller does not linger.
    timeout = 0
    if sk.sk_flags >> SOCK_LINGER & 1 and not iocb.ki_signal and sk.sk_cold is not None:
        timeout = sk.sk_cold.sk_lingertime
    err = sk.sk_prot.close(sk, timeout, iocb)
    if err < 0:
        return err
    sock.sk = None
    return 0


# -- bind and listen -------------------------------------------------------------------------------------------------------


def inet_port_requires_bind_service(net: Net, port: int) -> bool:
    """Ports below net.ipv4.ip_unprivileged_port_start ask for CAP_NET_BIND_SERVICE."""
    return port < net.ipv4.sysctl_ip_prot_sock


def inet_can_nonlocal_bind(net: Net, inet: InetSock) -> bool:
    return (
        net.ipv4.sysctl_ip_nonlocal_bind != 0
        or inet.inet_flags & (1 << INET_FLAGS_FREEBIND | 1 << INET_FLAGS_TRANSPARENT) != 0
    )


def inet_addr_valid_or_nonlocal(net: Net, inet: InetSock, addr: int, addr_type: int) -> bool:
    return (
        addr == INADDR_ANY
        or addr_type == RTN_LOCAL
        or addr_type == RTN_MULTICAST
        or addr_type == RTN_BROADCAST
        or inet_can_nonlocal_bind(net, inet)
    )


def inet_bind(sock: Socket, uaddr: bytes) -> int:
    return inet_bind_sk(inet_sk(sock.sk), uaddr)


def inet_bind_sk(sk: InetSock, uaddr: bytes) -> int:
    prot = sk.sk_prot
    if prot.has_bind():
        return prot.bind(sk, uaddr)
    if len(uaddr) < SIZEOF_SOCKADDR_IN:
        return -EINVAL
    return __inet_bind(sk, uaddr, BIND_WITH_LOCK)


def __inet_bind(sk: InetSock, uaddr: bytes, flags: int) -> int:
    net = sk.sk_net
    addr, snum = unpack_sockaddr_in(uaddr)
    family = sa_family(uaddr)
    # Compatibility: AF_UNSPEC counts as AF_INET, but only with the wildcard address.
    if family != AF_INET and (family != AF_UNSPEC or addr != INADDR_ANY):
        return -EAFNOSUPPORT
    addr_type = route.inet_addr_type(net, addr)
    if not inet_addr_valid_or_nonlocal(net, sk, addr, addr_type):
        return -EADDRNOTAVAIL
    if (
        snum
        and not flags & BIND_NO_CAP_NET_BIND_SERVICE
        and inet_port_requires_bind_service(net, snum)
        and not ns_capable(sk.kernel, CAP_NET_BIND_SERVICE)
    ):
        return -EACCES
    if flags & BIND_WITH_LOCK:
        lock_sock(sk)
    err = inet_bind_locked(sk, addr, snum, addr_type, flags)
    if flags & BIND_WITH_LOCK:
        release_sock(sk)
    return err


def inet_bind_locked(sk: InetSock, addr: int, snum: int, addr_type: int, flags: int) -> int:
    # An active sock, or a second bind.
    if sk.sk_state != TCP_CLOSE or sk.inet_num:
        return -EINVAL
    sk.inet_rcv_saddr = addr
    # To broadcast and multicast one listens; packets leave with the device's own address.
    sk.inet_saddr = 0 if addr_type == RTN_BROADCAST or addr_type == RTN_MULTICAST else addr
    if snum or not (
        inet_test_bit(sk, INET_FLAGS_BIND_ADDRESS_NO_PORT) or flags & BIND_FORCE_ADDRESS_NO_PORT
    ):
        err = sk.sk_prot.get_port(sk, snum)
        if err:
            sk.inet_saddr = 0
            sk.inet_rcv_saddr = 0
            return err
    if sk.inet_rcv_saddr:
        sk.sk_userlocks |= SOCK_BINDADDR_LOCK
    if snum:
        sk.sk_userlocks |= SOCK_BINDPORT_LOCK
    sk.inet_sport = sk.inet_num
    sk.inet_daddr = 0
    sk.inet_dport = 0
    sk_dst_reset(sk)
    return 0


def inet_autobind(sk: InetSock) -> int:
    """A port for a sock that never bound one: 0, or -EAGAIN when there is none."""
    err = 0
    lock_sock(sk)
    if not sk.inet_num:
        if sk.sk_prot.get_port(sk, 0):
            err = -EAGAIN
        else:
            sk.inet_sport = sk.inet_num
    release_sock(sk)
    return err


def inet_listen(sock: Socket, backlog: int) -> int:
    sk = inet_csk(sock.sk)
    lock_sock(sk)
    err = -EINVAL
    if sock.state == SS_UNCONNECTED and sock.type == SOCK_STREAM:
        err = __inet_listen_sk(sk, backlog)
    release_sock(sk)
    return err


def __inet_listen_sk(sk: InetConnectionSock, backlog: int) -> int:
    """Begin to listen, or only change the backlog of who listens already."""
    old_state = sk.sk_state
    if old_state != TCP_CLOSE and old_state != TCP_LISTEN:
        return -EINVAL
    sk.sk_max_ack_backlog = backlog
    if old_state != TCP_LISTEN:
        return inet_connection_sock.inet_csk_listen_start(sk)
    return 0


# -- connect and accept ----------------------------------------------------------------------------------------------------


def inet_dgram_connect(sock: Socket, uaddr: bytes, flags: int) -> int:
    sk = inet_sk(sock.sk)
    if len(uaddr) < SIZEOF_SA_FAMILY:
        return -EINVAL
    prot = sk.sk_prot
    if sa_family(uaddr) == AF_UNSPEC:
        return prot.disconnect(sk, flags)
    err = prot.pre_connect(sk, uaddr)
    if err:
        return err
    if not sk.inet_num and inet_autobind(sk):
        return -EAGAIN
    return prot.connect(sk, uaddr)


def inet_stream_connect(sock: Socket, uaddr: bytes, flags: int, iocb: Kiocb) -> int:
    sk = inet_sk(sock.sk)
    lock_sock(sk)
    err = __inet_stream_connect(sock, uaddr, flags, False, iocb)
    release_sock(sk)
    return err


def __inet_stream_connect(sock: Socket, uaddr: bytes | None, flags: int, is_sendmsg: bool, iocb: Kiocb) -> int:
    """Connect, or go on waiting for it. `uaddr` is None when sendmsg finishes a deferred (fast open) connect. The sock is owned."""
    sk = inet_sk(sock.sk)
    if iocb.ki_state == CONNECT_NEW:
        if uaddr is not None:
            if len(uaddr) < SIZEOF_SA_FAMILY:
                return -EINVAL
            if sa_family(uaddr) == AF_UNSPEC:
                sk.sk_disconnects += 1
                err = sk.sk_prot.disconnect(sk, flags)
                sock.state = SS_DISCONNECTING if err else SS_UNCONNECTED
                return err
        state = sock.state
        if state == SS_CONNECTED:
            return -EISCONN
        if state == SS_CONNECTING:
            if inet_test_bit(sk, INET_FLAGS_DEFER_CONNECT):
                err = -EINPROGRESS if is_sendmsg else -EISCONN
            else:
                err = -EALREADY
            iocb.ki_state = CONNECT_JOINED
        elif state == SS_UNCONNECTED:
            if sk.sk_state != TCP_CLOSE:
                return -EISCONN
            address = uaddr if uaddr is not None else b""
            err = sk.sk_prot.pre_connect(sk, address)
            if err:
                return err
            err = sk.sk_prot.connect(sk, address)
            if err < 0:
                return err
            sock.state = SS_CONNECTING
            if inet_test_bit(sk, INET_FLAGS_DEFER_CONNECT):
                return 0
            err = -EINPROGRESS
            iocb.ki_state = CONNECT_STARTED
        else:
            return -EINVAL
        iocb.ki_pos = sk.sk_disconnects
    else:
        err = -EINPROGRESS if iocb.ki_state == CONNECT_STARTED else -EALREADY

    timeo = sock_sndtimeo(sk, iocb, flags & O_NONBLOCK != 0)
    if sk.sk_state == TCP_SYN_SENT or sk.sk_state == TCP_SYN_RECV:
        if timeo == 0:
            return err
        if iocb.ki_signal:
            return sock_intr_errno(timeo)
        return inet_wait_for_connect(sk, iocb)
    if sk.sk_disconnects != iocb.ki_pos:
        return -EPIPE

    # Closed by RST, timeout, an ICMP error, or another call that disconnected.
    if sk.sk_state == TCP_CLOSE:
        err = sock_error(sk) or -ECONNABORTED
        sock.state = SS_UNCONNECTED
        sk.sk_disconnects += 1  # who else waited for this connection gets -EPIPE: the error is told once
        if sk.sk_prot.disconnect(sk, flags):
            sock.state = SS_DISCONNECTING
        return err
    # An error that came in after the handshake (IP_RECVERR) is for the next call to tell.
    sock.state = SS_CONNECTED
    return 0


def inet_wait_for_connect(sk: InetSock, iocb: Kiocb) -> int:
    """Until the handshake ends: a change of state wakes with no mask, an error with EPOLLERR; either will do."""
    return iocb.wait(sk_sleep(sk), 0)


def inet_accept(sock: Socket, newsock: Socket, flags: int, iocb: Kiocb) -> int:
    """Take a connection from the accept queue into `newsock`. 0, -errno, or -EIOCBQUEUED."""
    sk1 = sock.sk
    assert sk1 is not None
    err, sk2 = sk1.sk_prot.accept(sk1, flags, iocb)
    if sk2 is None:
        return err
    lock_sock(sk2)
    __inet_accept(newsock, inet_sk(sk2))
    release_sock(sk2)
    return 0


def __inet_accept(newsock: Socket, newsk: InetSock) -> None:
    state = newsk.sk_state
    if state not in (
        TCP_ESTABLISHED,
        TCP_SYN_RECV,
        TCP_FIN_WAIT1,
        TCP_FIN_WAIT2,
        TCP_CLOSING,
        TCP_CLOSE_WAIT,
        TCP_CLOSE,
    ):
        newsk.kernel.warn_on("__inet_accept: a child in an impossible state")
    mem_cgroup_sk_inherit(newsk)
    sock_graft(newsk, newsock)
    newsock.state = SS_CONNECTED


def inet_getname(sock: Socket, peer: int) -> tuple[int, bytes]:
    """(0, address) or (-ENOTCONN, b""); `peer` 2 tells the peer of a connection that is closed already (accept)."""
    sk = inet_sk(sock.sk)
    if peer:
        if not sk.inet_dport or ((sk.sk_state == TCP_CLOSE or sk.sk_state == TCP_SYN_SENT) and peer == 1):
            return -ENOTCONN, b""
        return 0, pack_sockaddr_in(sk.inet_daddr, sk.inet_dport)
    return 0, pack_sockaddr_in(sk.inet_rcv_saddr or sk.inet_saddr, sk.inet_sport)


# -- data ------------------------------------------------------------------------------------------------------------------


def inet_send_prepare(sk: InetSock) -> int:
    """A datagram sock that never bound gets a port now."""
    if not sk.inet_num and not sk.sk_prot.no_autobind and inet_autobind(sk):
        return -EAGAIN
    return 0


def inet_sendmsg(sock: Socket, msg: MsgHdr, size: int) -> int:
    sk = inet_sk(sock.sk)
    if not sk.inet_num and inet_send_prepare(sk):
        return -EAGAIN
    return sk.sk_prot.sendmsg(sk, msg, size)


def inet_recvmsg(sock: Socket, msg: MsgHdr, size: int, flags: int) -> int:
    sk = sock.sk
    assert sk is not None
    return sk.sk_prot.recvmsg(sk, msg, size, flags)


def inet_shutdown(sock: Socket, how: int) -> int:
    sk = inet_sk(sock.sk)
    how += 1  # SHUT_RD, SHUT_WR, SHUT_RDWR become the mask RCV_SHUTDOWN | SEND_SHUTDOWN
    if how & ~SHUTDOWN_MASK or not how:
        return -EINVAL
    err = 0
    lock_sock(sk)
    if sock.state == SS_CONNECTING:
        if sk.sk_state in (TCP_SYN_SENT, TCP_SYN_RECV, TCP_CLOSE):
            sock.state = SS_DISCONNECTING
        else:
            sock.state = SS_CONNECTED
    if sk.sk_state == TCP_LISTEN or sk.sk_state == TCP_SYN_SENT:
        # What other systems do by a close() that wakes the threads blocked in the socket.
        if sk.sk_state == TCP_SYN_SENT or how & RCV_SHUTDOWN:
            err = sk.sk_prot.disconnect(sk, O_NONBLOCK)
            sock.state = SS_DISCONNECTING if err else SS_UNCONNECTED
    else:
        # An unconnected sock says -ENOTCONN and still wakes its pollers, who see EPOLLHUP.
        if sk.sk_state == TCP_CLOSE:
            err = -ENOTCONN
        sk.sk_shutdown |= how
        sk.sk_prot.shutdown(sk, how)
    sk.sk_state_change()
    release_sock(sk)
    return err


def inet_ioctl(sock: Socket, cmd: int, arg: bytes) -> tuple[int, bytes]:
    """(0 or -errno, what `arg` becomes). -ENOIOCTLCMD passes on to the devices."""
    sk = sock.sk
    assert sk is not None
    if cmd == SIOCGIFCONF:
        return inet_ifconf(sk.sk_net, arg)
    if cmd in (
        SIOCGIFADDR,
        SIOCGIFBRDADDR,
        SIOCGIFNETMASK,
        SIOCGIFDSTADDR,
        SIOCGIFPFLAGS,
        SIOCSIFADDR,
        SIOCSIFBRDADDR,
        SIOCSIFNETMASK,
        SIOCSIFDSTADDR,
        SIOCSIFPFLAGS,
        SIOCSIFFLAGS,
    ):
        return devinet.devinet_ioctl(sk.sk_net, cmd, arg)
    return sk.sk_prot.ioctl(sk, cmd, arg)


def inet_ifconf(net: Net, arg: bytes) -> tuple[int, bytes]:
    """dev_ifconf. `ifc_len` says how much room there is at `ifc_buf`, and then how much was written; a null pointer asks for the
    length alone. A pointer cannot be followed here: what belongs there stands behind the 16 bytes of struct ifconf."""
    if len(arg) < SIZEOF_IFCONF:
        return -EFAULT, b""
    asks_length = get_s64(arg, 8) == 0
    array = devinet.inet_gifconf(net, -1 if asks_length else get_s32(arg, 0))
    out = pack_s32(len(array)) + arg[4:SIZEOF_IFCONF]
    return 0, out if asks_length else out + array


# -- state and route -------------------------------------------------------------------------------------------------------


def inet_sk_set_state(sk: Sock, state: int) -> None:
    """The only place where the state of an inet sock changes, and its tracepoint."""
    kernel = sk.kernel
    if kernel.trace.inet_sock_set_state:
        inet = inet_sk(sk)
        kernel.trace.fire(
            "sock:inet_sock_set_state",
            {
                "sk": sk,
                "oldstate": sk.sk_state,
                "newstate": state,
                "sport": inet.inet_sport,
                "dport": inet.inet_dport,
                "family": sk.sk_family,
                "protocol": sk.sk_protocol,
                "saddr": inet.inet_saddr,
                "daddr": inet.inet_daddr,
            },
        )
    sk.sk_state = state


def inet_sk_state_store(sk: Sock, newstate: int) -> None:
    inet_sk_set_state(sk, newstate)


def inet_sk_init_flowi4(inet: InetSock, fl4: Flowi4) -> None:
    """The flow of a connected sock, its source route's first hop as the destination."""
    opt = inet.inet_opt
    fl4.flowi4_oif = inet.sk_bound_dev_if
    fl4.flowi4_mark = inet.sk_mark
    fl4.flowi4_dscp = inet.tos & 0xFC
    fl4.flowi4_scope = ip_output.ip_sock_rt_scope(inet)
    fl4.flowi4_proto = inet.sk_protocol
    fl4.flowi4_flags = ip_output.inet_sk_flowi_flags(inet)
    fl4.flowi4_uid = inet.sk_uid
    fl4.daddr = opt.faddr if opt is not None and opt.srr else inet.inet_daddr
    fl4.saddr = inet.inet_saddr
    fl4.fl4_dport = inet.inet_dport
    fl4.fl4_sport = inet.inet_sport


def inet_sk_reselect_saddr(sk: InetSock) -> int:
    """net.ipv4.ip_dynaddr: the SYN may leave with another source address, if the route now says so."""
    old_saddr = sk.inet_saddr
    opt = sk.inet_opt
    daddr = opt.faddr if opt is not None and opt.srr else sk.inet_daddr
    fl4 = Flowi4()
    err, rt = route.ip_route_connect(
        fl4, daddr, 0, sk.sk_bound_dev_if, sk.sk_protocol, sk.inet_sport, sk.inet_dport, sk
    )
    if rt is None:
        return err
    if fl4.saddr == old_saddr:
        return 0
    inet_hashtables.inet_bhash2_update_saddr(inet_csk(sk), fl4.saddr)
    sk_setup_caps(sk, rt)
    # The sock's key changed: as the tables see it, it is another connection.
    sk.sk_prot.unhash(sk)
    return sk.sk_prot.hash(sk)


def inet_sk_rebuild_header(sk: InetSock) -> int:
    """Make sure that the sock has a route that holds. 0 or -errno (which is also left in sk_err_soft)."""
    if __sk_dst_check(sk, 0) is not None:
        return 0
    fl4 = Flowi4()
    inet_sk_init_flowi4(sk, fl4)
    err, rt = route.ip_route_output_flow(sk.sk_net, fl4, sk)
    if rt is not None:
        sk_setup_caps(sk, rt)
        return 0
    if (
        sk.sk_net.ipv4.sysctl_ip_dynaddr
        and sk.sk_state == TCP_SYN_SENT
        and not sk.sk_userlocks & SOCK_BINDADDR_LOCK
    ):
        err = inet_sk_reselect_saddr(sk)
        if err == 0:
            return 0
    sk.sk_err_soft = -err
    return err


# -- the operations --------------------------------------------------------------------------------------------------------


@mypyc_attr(allow_interpreted_subclasses=True)
class InetOps(ProtoOps):
    """What the three tables of AF_INET have in common."""

    def __init__(self) -> None:
        super().__init__(AF_INET)

    def release(self, sock: Socket, iocb: Kiocb) -> int:
        return inet_release(sock, iocb)

    def bind(self, sock: Socket, uaddr: bytes, task: Task | None) -> int:
        return inet_bind(sock, uaddr)

    def getname(self, sock: Socket, peer: int) -> tuple[int, bytes]:
        return inet_getname(sock, peer)

    def ioctl(self, sock: Socket, cmd: int, arg: bytes) -> tuple[int, bytes]:
        return inet_ioctl(sock, cmd, arg)

    def shutdown(self, sock: Socket, how: int) -> int:
        return inet_shutdown(sock, how)

    def setsockopt(self, sock: Socket, level: int, optname: int, optval: bytes) -> int:
        """sock_common_setsockopt."""
        sk = sock.sk
        assert sk is not None
        return sk.sk_prot.setsockopt(sk, level, optname, optval)

    def getsockopt(self, sock: Socket, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        """sock_common_getsockopt."""
        sk = sock.sk
        assert sk is not None
        return sk.sk_prot.getsockopt(sk, level, optname, optlen)

    def sendmsg(self, sock: Socket, msg: MsgHdr, size: int) -> int:
        return inet_sendmsg(sock, msg, size)

    def splice_eof(self, sock: Socket) -> None:
        sk = sock.sk
        assert sk is not None
        sk.sk_prot.splice_eof(sk)

    def recvmsg(self, sock: Socket, msg: MsgHdr, size: int, flags: int) -> int:
        return inet_recvmsg(sock, msg, size, flags)


@mypyc_attr(allow_interpreted_subclasses=True)
class InetStreamOps(InetOps):
    """inet_stream_ops: TCP."""

    def connect(self, sock: Socket, uaddr: bytes, flags: int, iocb: Kiocb) -> int:
        return inet_stream_connect(sock, uaddr, flags, iocb)

    def accept(self, sock: Socket, newsock: Socket, flags: int, iocb: Kiocb) -> int:
        return inet_accept(sock, newsock, flags, iocb)

    def poll(self, file: File | None, sock: Socket) -> int:
        return tcp.tcp_poll(inet_csk(sock.sk))

    def listen(self, sock: Socket, backlog: int) -> int:
        return inet_listen(sock, backlog)

    def set_peek_off(self, sk: Sock, val: int) -> int:
        """sk_set_peek_off."""
        sk.sk_peek_off = val
        return 0

    def has_set_peek_off(self) -> bool:
        return True

    def set_rcvlowat(self, sk: Sock, val: int) -> int:
        return tcp.tcp_set_rcvlowat(sk, val)


@mypyc_attr(allow_interpreted_subclasses=True)
class InetDgramOps(InetOps):
    """inet_dgram_ops: UDP, and datagram protocols registered from outside."""

    def connect(self, sock: Socket, uaddr: bytes, flags: int, iocb: Kiocb) -> int:
        return inet_dgram_connect(sock, uaddr, flags)

    def poll(self, file: File | None, sock: Socket) -> int:
        sk = inet_sk(sock.sk)
        if isinstance(sk, udp.UdpSock):
            return udp.udp_poll(file, sock)
        return datagram.datagram_poll(sk, sk.sk_receive_queue)  # a protocol from outside

    def set_peek_off(self, sk: Sock, val: int) -> int:
        """sk_set_peek_off."""
        sk.sk_peek_off = val
        return 0

    def has_set_peek_off(self) -> bool:
        return True


@mypyc_attr(allow_interpreted_subclasses=True)
class InetSockrawOps(InetOps):
    """inet_sockraw_ops: as inet_dgram_ops, with the plain datagram poll and without SO_PEEK_OFF."""

    def connect(self, sock: Socket, uaddr: bytes, flags: int, iocb: Kiocb) -> int:
        return inet_dgram_connect(sock, uaddr, flags)

    def poll(self, file: File | None, sock: Socket) -> int:
        sk = inet_sk(sock.sk)
        return datagram.datagram_poll(sk, sk.sk_receive_queue)


class InetFamilyOps(NetProtoFamily):
    """inet_family_ops."""

    def __init__(self) -> None:
        super().__init__(AF_INET)

    def create(self, net: Net, sock: Socket, protocol: int, kern: bool, task: Task | None) -> int:
        return inet_create(net, sock, protocol, kern, task)


# -- boot ------------------------------------------------------------------------------------------------------------------


def init_inet_pernet_ops(kernel: Kernel) -> None:
    register_pernet_subsys(kernel, Ipv4NetOps())


class Ipv4NetOps(PernetOperations):
    """ipv4_mib_ops and af_inet_ops: struct netns_ipv4, first of all that IPv4 keeps for a namespace."""

    def init(self, net: Net) -> int:
        net.ipv4 = NetnsIpv4(net)
        return 0


def inet_init(kernel: Kernel) -> int:
    """Boot AF_INET, in Linux's order. struct netns_ipv4, there a part of struct net, is made by the first pernet operation."""
    init_inet_pernet_ops(kernel)
    sysctl_net_ipv4.sysctl_ipv4_init(kernel)

    tcp_prot = tcp_ipv4.TcpProto(kernel)
    udp_prot = udp.UdpProto(kernel)
    raw_prot = raw.RawProto(kernel)
    ping_prot = ping.PingProto(kernel)
    for prot in (tcp_prot, udp_prot, raw_prot, ping_prot):
        err = proto_register(kernel, prot)
        if err:
            return err
    err = sock_register(kernel, InetFamilyOps())
    if err:
        return err

    inet_add_protocol(kernel, icmp.IcmpProtocol(), IPPROTO_ICMP)
    inet_add_protocol(kernel, udp.UdpProtocol(udp_prot), IPPROTO_UDP)
    inet_add_protocol(kernel, tcp_ipv4.TcpProtocol(), IPPROTO_TCP)
    inet_add_protocol(kernel, igmp.IgmpProtocol(), IPPROTO_IGMP)

    for _ in range(SOCK_MAX):
        kernel.inetsw.append([])
    for q in inetsw_array(tcp_prot, udp_prot, ping_prot, raw_prot):
        inet_register_protosw(kernel, q)

    arp.arp_init(kernel)
    ip_output.ip_init(kernel)
    tcp.tcp_init(kernel)
    udp.udp_init(kernel)
    raw.raw_init(kernel, raw_prot)
    ping.ping_init(kernel, ping_prot)
    icmp.icmp_init(kernel)
    ip_fragment.ipfrag_init(kernel)
    return 0


def inetsw_array(tcp_prot: Proto, udp_prot: Proto, ping_prot: Proto, raw_prot: Proto) -> list[InetProtosw]:
    """Upon startup we insert all the elements into the inetsw lists: the four kinds of IPv4 socket."""
    dgram_ops = InetDgramOps()
    permanent = INET_PROTOSW_PERMANENT
    return [
        InetProtosw(SOCK_STREAM, IPPROTO_TCP, tcp_prot, InetStreamOps(), permanent | INET_PROTOSW_ICSK),
        InetProtosw(SOCK_DGRAM, IPPROTO_UDP, udp_prot, dgram_ops, permanent),
        InetProtosw(SOCK_DGRAM, IPPROTO_ICMP, ping_prot, InetSockrawOps(), INET_PROTOSW_REUSE),
        InetProtosw(SOCK_RAW, IPPROTO_IP, raw_prot, InetSockrawOps(), INET_PROTOSW_REUSE),
    ]
