"""net/ipv4/ping.c: ping sockets, ICMP echo for programs without CAP_NET_RAW.

The local port is the ICMP identifier. Down: ping_v4_sendmsg checks the program's ICMP header (an echo request, code 0), puts the
identifier and the checksum in, and goes on through ip_make_skb. Up: icmp_rcv -> ping_rcv -> the sock with that identifier;
ICMP errors about our requests: ping_err. Who may open one: the groups in net.ipv4.ping_group_range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.kernel.machine import Kernel
from afinet.kernel.task import Cred, in_egroup
from afinet.kernel.wait import Kiocb
from afinet.net.core.datagram import (
    __skb_recv_datagram,
    skb_copy_datagram_msg,
    skb_free_datagram,
    sock_queue_rcv_skb_reason,
)
from afinet.net.core.drop_reason import SKB_DROP_REASON_NO_SOCKET
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.core.netdevice import dev_net
from afinet.net.core.skbuff import SkBuff, kfree_skb_reason, skb_clone, skb_push
from afinet.net.core.sock import (
    SOCK_BINDADDR_LOCK,
    SOCK_BINDPORT_LOCK,
    SOCK_BROADCAST,
    Proto,
    Sock,
    lock_sock,
    release_sock,
    sk_common_release,
    sk_dst_reset,
    sk_error_report,
    sock_flag,
    sock_hold,
    sock_prot_inuse_add,
    sock_put,
)
from afinet.net.ipv4 import af_inet, datagram, icmp, ip_output, ip_sockglue, route, udp
from afinet.net.ipv4.inet_sock import INET_FLAGS_RECVERR, InetSock, inet_mc_addr, inet_test_bit
from afinet.net.socket import sock_recv_cmsgs
from afinet.uapi.errno import (
    EACCES,
    EADDRINUSE,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EDESTADDRREQ,
    EHOSTUNREACH,
    EINVAL,
    EMSGSIZE,
    ENETUNREACH,
    ENOIOCTLCMD,
    EOPNOTSUPP,
    EPROTO,
    EREMOTEIO,
)
from afinet.uapi.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_ECHO,
    ICMP_EXT_ECHO,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    NR_ICMP_UNREACH,
)
from afinet.uapi.in_ import INADDR_ANY, IP_PMTUDISC_DONT, ipv4_is_multicast
from afinet.uapi.in_route import RTCF_BROADCAST
from afinet.uapi.rtnetlink import RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST
from afinet.uapi.snmp import IPSTATS_MIB_OUTNOROUTES
from afinet.uapi.sockaddr import SIZEOF_SOCKADDR_IN, pack_sockaddr_in, sa_family, unpack_sockaddr_in
from afinet.uapi.socket import (
    AF_INET,
    AF_UNSPEC,
    MSG_ERRQUEUE,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
)
from afinet.uapi.tcp import TCP_ESTABLISHED
from afinet.wire import be, checksum

if TYPE_CHECKING:
    from afinet.net.socket import MsgHdr

ICMP_HLEN: Final = 8


class PingSock(InetSock):
    """A ping socket's sock: struct inet_sock, `inet_num` the identifier."""

    __slots__ = ("hashed",)

    def __init__(self, net: Net, family: int, prot: Proto) -> None:
        super().__init__(net, family, prot)
        self.hashed: bool = False


# -- identifiers -----------------------------------------------------------------------------------------------------------


def ping_hashfn(net: Net, num: int) -> int:
    return net.net_cookie << 16 | num


def ping_get_port(sk: PingSock, ident: int) -> int:
    """Take identifier `ident`, 0 for the next free one. 0 or -EADDRINUSE (Linux: 1). Ping sockets have sk_reuse set, so only one
    whose program cleared SO_REUSEADDR keeps its identifier to itself."""
    prot = cast(PingProto, sk.sk_prot)
    table = prot.table
    if ident == 0:
        start = prot.port_rover
        for i in range(0xFFFF):
            candidate = (start + 1 + i) & 0xFFFF
            if candidate and ping_hashfn(sk.sk_net, candidate) not in table:
                ident = candidate
                prot.port_rover = candidate
                break
        else:
            return -EADDRINUSE
    else:
        for sk2 in table.get(ping_hashfn(sk.sk_net, ident), ()):
            if sk2 is not sk and not (sk2.sk_reuse and sk.sk_reuse):
                return -EADDRINUSE
    sk.inet_num = ident
    if not sk.hashed:
        sk.hashed = True
        table.setdefault(ping_hashfn(sk.sk_net, ident), []).insert(0, sk)
        sock_hold(sk)
        sock_prot_inuse_add(sk.sk_net, prot, 1)
    return 0


def ping_unhash(sk: PingSock) -> None:
    if not sk.hashed:
        return
    sk.hashed = False
    table = cast(PingProto, sk.sk_prot).table
    key = ping_hashfn(sk.sk_net, sk.inet_num)
    chain = table[key]
    chain.remove(sk)
    if not chain:
        del table[key]
    sk.inet_num = 0
    sk.inet_sport = 0
    sock_prot_inuse_add(sk.sk_net, sk.sk_prot, -1)
    sock_put(sk)


def ping_lookup(prot: PingProto, net: Net, ident: int, daddr: int, dif: int) -> PingSock | None:
    """The sock with this identifier that takes packets to `daddr` by device `dif`."""
    for sk in prot.table.get(ping_hashfn(net, ident), ()):
        if (not sk.inet_rcv_saddr or sk.inet_rcv_saddr == daddr) and (not sk.sk_bound_dev_if or sk.sk_bound_dev_if == dif):
            return sk
    return None


# -- system calls ----------------------------------------------------------------------------------------------------------


def ping_init_sock(sk: Sock, cred: Cred) -> int:
    """Whether this credential may have a ping socket: 0 or -EACCES."""
    low, high = sk.sk_net.ipv4.ping_group_range
    return 0 if in_egroup(cred, low, high) else -EACCES


def ping_check_bind_addr(sk: PingSock, uaddr: bytes) -> int:
    """Only an own address, or none. AF_UNSPEC counts as AF_INET, but only with the wildcard address."""
    if len(uaddr) < SIZEOF_SOCKADDR_IN:
        return -EINVAL
    addr, _ = unpack_sockaddr_in(uaddr)
    family = sa_family(uaddr)
    if family != AF_INET and not (family == AF_UNSPEC and addr == INADDR_ANY):
        return -EAFNOSUPPORT
    if addr == INADDR_ANY:
        return 0
    kind = route.inet_addr_type(sk.sk_net, addr)
    if kind == RTN_MULTICAST or kind == RTN_BROADCAST:
        return -EADDRNOTAVAIL
    if kind != RTN_LOCAL and not af_inet.inet_can_nonlocal_bind(sk.sk_net, sk):
        return -EADDRNOTAVAIL
    return 0


def ping_bind(sk: PingSock, uaddr: bytes) -> int:
    """Bind to an own address and, by the port, to an identifier."""
    err = ping_check_bind_addr(sk, uaddr)
    if err:
        return err
    if sk.inet_num:
        return -EINVAL
    addr, port = unpack_sockaddr_in(uaddr)
    if ping_get_port(sk, port):
        return -EADDRINUSE
    sk.inet_rcv_saddr = addr
    sk.inet_saddr = addr
    if addr:
        sk.sk_userlocks |= SOCK_BINDADDR_LOCK
    if port:
        sk.sk_userlocks |= SOCK_BINDPORT_LOCK
    sk.inet_sport = sk.inet_num
    sk.inet_daddr = 0
    sk.inet_dport = 0
    sk_dst_reset(sk)
    return 0


def ping_supported(type: int, code: int) -> bool:
    return (type == ICMP_ECHO or type == ICMP_EXT_ECHO) and code == 0


def ping_v4_sendmsg(sk: PingSock, msg: MsgHdr, length: int) -> int:
    """Send one echo request. Bytes sent, -errno or -EIOCBQUEUED."""
    # 1. ping_common_sendmsg: the program's ICMP header.
    if length > 0xFFFF:
        return -EMSGSIZE
    if length < ICMP_HLEN:
        return -EINVAL
    if msg.msg_flags & MSG_OOB:
        return -EOPNOTSUPP
    data = msg.msg_data
    if not ping_supported(data[0], data[1]):
        return -EINVAL
    net = sk.sk_net
    # 2. Get and verify the address.
    if msg.msg_name:
        if len(msg.msg_name) < SIZEOF_SOCKADDR_IN:
            return -EINVAL
        if sa_family(msg.msg_name) != AF_INET:
            return -EAFNOSUPPORT
        daddr, _ = unpack_sockaddr_in(msg.msg_name)
    else:
        if sk.sk_state != TCP_ESTABLISHED:
            return -EDESTADDRREQ
        daddr = sk.inet_daddr
    # 3. What control messages and options ask.
    ipc = ip_output.IpcmCookie()
    ip_output.ipcm_init_sk(ipc, sk)
    if msg.msg_control:
        err = ip_sockglue.ip_cmsg_send(sk, msg.msg_control, ipc)
        if err:
            return err
    if ipc.opt is None:
        ipc.opt = sk.inet_opt
    saddr = ipc.addr
    ipc.addr = daddr
    faddr = daddr
    if ipc.opt is not None and ipc.opt.srr:
        if not daddr:
            return -EINVAL
        faddr = ipc.opt.faddr
    if ipv4_is_multicast(daddr):
        if not ipc.oif:
            ipc.oif = sk.mc_index
        if not saddr:
            saddr = inet_mc_addr(sk)
    elif not ipc.oif:
        ipc.oif = sk.uc_index
    # 4. The route. The flow has type and code where others have ports.
    fl4 = Flowi4(
        faddr,
        saddr,
        ipc.oif,
        sk.sk_protocol,
        (ipc.tos if ipc.tos >= 0 else sk.tos) & 0xFC,
        datagram.ip_sendmsg_scope(sk, ipc, msg),
        ipc.mark,
        ip_output.inet_sk_flowi_flags(sk),
        data[0] << 8 | data[1],
        0,
        1,
        sk.sk_uid,
    )
    err, rt = route.ip_route_output_flow(net, fl4, sk)
    if err or rt is None:
        if err == -ENETUNREACH:
            net.ip_statistics[IPSTATS_MIB_OUTNOROUTES] += 1
        return err
    if rt.rt_flags & RTCF_BROADCAST and not sock_flag(sk, SOCK_BROADCAST):
        return -EACCES
    if datagram.ip_msg_confirm(msg, rt, fl4.daddr, length):
        return 0
    if not ipc.addr:
        ipc.addr = fl4.daddr
    # 5. Send. MSG_MORE means nothing here: what is appended is pushed at once.
    lock_sock(sk)
    payload = data[ICMP_HLEN:length]
    msg.msg_data = payload
    err, skb = ip_output.ip_make_skb(sk, fl4, msg, length - ICMP_HLEN, ICMP_HLEN, ipc, rt)
    msg.msg_data = data
    if err == 0 and skb is not None:
        skb_push(skb, ping_header(data, sk.inet_sport, payload))
        skb.transport_header = skb.data
        err = ip_output.ip_send_skb(net, skb)
    release_sock(sk)
    return err or length


def ping_header(data: bytes, ident: int, payload: bytes) -> bytes:
    """The ICMP header of the program, with the sock's identifier and a right checksum."""
    kind = data[0] << 8 | data[1]
    rest = ident << 16 | be.get_u16(data, 6)
    check = checksum.csum_fold(checksum.csum_partial(payload, 0, len(payload), kind + rest))
    return be.pack_icmp(data[0], data[1], check, rest)


def ping_recvmsg(sk: PingSock, msg: MsgHdr, size: int, flags: int) -> int:
    """One ICMP message, without its IP header. MSG_TRUNC does not change what is returned."""
    if flags & MSG_OOB:
        return -EOPNOTSUPP
    if flags & MSG_ERRQUEUE:
        return ip_sockglue.ip_recv_error(sk, msg, size)
    err, skb, _ = __skb_recv_datagram(sk, sk.sk_receive_queue, flags, 0, msg)
    if skb is None:
        return err
    copied = skb.len
    if copied > size:
        copied = size
        msg.msg_flags |= MSG_TRUNC
    skb_copy_datagram_msg(skb, 0, msg, copied)
    sock_recv_cmsgs(msg, sk, skb)
    msg.msg_name = pack_sockaddr_in(be.get_u32(skb.head, skb.network_header + 12), 0)
    if sk.inet_flags & ip_sockglue.IP_CMSG_ALL:
        ip_sockglue.ip_cmsg_recv(msg, sk, skb)
    if not flags & MSG_PEEK:
        skb_free_datagram(sk, skb)
    return copied


# -- softirq side ----------------------------------------------------------------------------------------------------------


def ping_rcv(skb: SkBuff) -> int:
    """An echo reply, `skb.data` at its ICMP header, the packet the caller's: who waits gets a clone. A drop reason, 0 if taken."""
    dev = skb.dev
    assert dev is not None
    net = dev_net(dev)
    prot = cast(PingProto, net.kernel.ping_prot)
    ident = be.get_u16(skb.head, skb.data + 4)
    daddr = be.get_u32(skb.head, skb.network_header + 16)
    sk = ping_lookup(prot, net, ident, daddr, route.inet_iif(skb))
    if sk is None:
        return SKB_DROP_REASON_NO_SOCKET
    clone = skb_clone(skb)
    clone.dst = None
    reason = sock_queue_rcv_skb_reason(sk, clone)
    if reason:
        kfree_skb_reason(net, clone, reason)
    return reason


def ping_err(skb: SkBuff, info: int) -> None:
    """An ICMP error about one of our requests; `skb.data` is at the quoted IP header."""
    dev = skb.dev
    assert dev is not None
    net = dev_net(dev)
    inner = skb.data + (skb.head[skb.data] & 15) * 4
    if inner + ICMP_HLEN > skb.tail or not ping_supported(skb.head[inner], skb.head[inner + 1]):
        return
    prot = cast(PingProto, net.kernel.ping_prot)
    ident = be.get_u16(skb.head, inner + 4)
    sk = ping_lookup(prot, net, ident, be.get_u32(skb.head, skb.network_header + 16), route.inet_iif(skb))
    if sk is None:
        return
    type = skb.head[skb.transport_header]
    code = skb.head[skb.transport_header + 1]
    err = EHOSTUNREACH  # ICMP_TIME_EXCEEDED, and what is unknown
    harderr = False
    if type == ICMP_SOURCE_QUENCH:
        err = EREMOTEIO  # no real error, but ping wants to see it
    elif type == ICMP_PARAMETERPROB:
        err = EPROTO
        harderr = True
    elif type == ICMP_DEST_UNREACH:
        if code == ICMP_FRAG_NEEDED:
            route.ipv4_sk_update_pmtu(skb, sk, info)
            if sk.pmtudisc == IP_PMTUDISC_DONT:
                return
            err = EMSGSIZE
            harderr = True
        elif code <= NR_ICMP_UNREACH:
            err, harderr = icmp.icmp_err_convert(code)
    elif type == ICMP_REDIRECT:
        route.ipv4_sk_redirect(skb, sk)
        err = EREMOTEIO
    if inet_test_bit(sk, INET_FLAGS_RECVERR):
        ip_sockglue.ip_icmp_error(sk, skb, err, 0, info, inner)
    elif not harderr or sk.sk_state != TCP_ESTABLISHED:
        return
    sk.sk_err = err
    sk_error_report(sk)


# -- ping_prot -------------------------------------------------------------------------------------------------------------


class PingProto(Proto):
    """ping_prot."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "PING")
        self.table: dict[int, list[PingSock]] = {}
        self.port_rover: int = 0
        self.obj_size = 968  # sizeof(struct inet_sock) on x86-64

    def sk_prot_alloc(self, net: Net, family: int) -> Sock:
        return PingSock(net, family, self)

    def init(self, sk: Sock) -> int:
        task = self.kernel.current
        return 0 if task is None or sk.sk_kern_sock else ping_init_sock(sk, task.cred)

    def close(self, sk: Sock, timeout: int, iocb: Kiocb) -> int:
        sk_common_release(sk)
        return 0

    def pre_connect(self, sk: Sock, uaddr: bytes) -> int:
        """ping_pre_connect: as udp_pre_connect."""
        return 0

    def connect(self, sk: Sock, uaddr: bytes) -> int:
        return datagram.ip4_datagram_connect(cast(PingSock, sk), uaddr)

    def disconnect(self, sk: Sock, flags: int) -> int:
        ping_disconnect(cast(PingSock, sk))
        return 0

    def ioctl(self, sk: Sock, cmd: int, arg: bytes) -> tuple[int, bytes]:
        return -ENOIOCTLCMD, b""

    def release_cb(self, sk: Sock) -> None:
        datagram.ip4_datagram_release_cb(sk)

    def setsockopt(self, sk: Sock, level: int, optname: int, optval: bytes) -> int:
        return ip_sockglue.ip_setsockopt(cast(PingSock, sk), level, optname, optval)

    def getsockopt(self, sk: Sock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        return ip_sockglue.ip_getsockopt(cast(PingSock, sk), level, optname, optlen)

    def has_bind(self) -> bool:
        return True

    def bind(self, sk: Sock, uaddr: bytes) -> int:
        lock_sock(sk)
        err = ping_bind(cast(PingSock, sk), uaddr)
        release_sock(sk)
        return err

    def sendmsg(self, sk: Sock, msg: MsgHdr, size: int) -> int:
        return ping_v4_sendmsg(cast(PingSock, sk), msg, size)

    def recvmsg(self, sk: Sock, msg: MsgHdr, size: int, flags: int) -> int:
        return ping_recvmsg(cast(PingSock, sk), msg, size, flags)

    def backlog_rcv(self, sk: Sock, skb: SkBuff) -> int:
        reason = sock_queue_rcv_skb_reason(sk, skb)
        return kfree_skb_reason(sk.sk_net, skb, reason) if reason else 0

    def unhash(self, sk: Sock) -> None:
        ping_unhash(cast(PingSock, sk))

    def get_port(self, sk: Sock, snum: int) -> int:
        return ping_get_port(cast(PingSock, sk), snum)

    def has_get_port(self) -> bool:
        return True

    def put_port(self, sk: Sock) -> None:
        ping_unhash(cast(PingSock, sk))


def ping_disconnect(sk: PingSock) -> None:
    udp.__udp_disconnect(sk)


def ping_init(kernel: Kernel, prot: PingProto) -> None:
    kernel.ping_prot = prot
