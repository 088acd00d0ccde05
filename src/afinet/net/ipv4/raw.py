"""net/ipv4/raw.c: raw sockets.

Up: raw_local_deliver, called by ip_input for every packet that is delivered here, gives a clone to each sock of that protocol that
fits; the program sees the IP header. Down: raw_sendmsg -> ip_append_data -> ip_push_pending_frames, or raw_send_hdrinc with
the program's own header (IP_HDRINCL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.kernel.machine import Kernel
from afinet.kernel.wait import Kiocb
from afinet.net.core.datagram import (
    __skb_recv_datagram,
    skb_copy_datagram_msg,
    skb_free_datagram,
    sock_queue_rcv_skb_reason,
)
from afinet.net.core.drop_reason import SKB_CONSUMED, SKB_DROP_REASON_SECURITY_HOOK
from afinet.net.core.flow import FLOWI_FLAG_ANYSRC, Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.core.netdevice import dev_net
from afinet.net.core.skbuff import (
    SkBuff,
    alloc_skb,
    kfree_skb_reason,
    skb_clone,
    skb_queue_purge,
    skb_set_owner_w,
)
from afinet.net.core.sock import (
    SOCK_BROADCAST,
    SOCK_LOCALROUTE,
    Proto,
    Sock,
    lock_sock,
    release_sock,
    sk_common_release,
    sk_dst_reset,
    sk_error_report,
    sk_wmem_alloc_get,
    sock_alloc_send_check,
    sock_flag,
    sock_hold,
    sock_prot_inuse_add,
    sock_put,
)
from afinet.net.ipv4 import af_inet, datagram, icmp, igmp, ip_output, ip_sockglue, route
from afinet.net.ipv4.inet_sock import INET_FLAGS_HDRINCL, INET_FLAGS_RECVERR, InetSock, inet_test_bit
from afinet.security import security
from afinet.uapi.errno import (
    EACCES,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EDESTADDRREQ,
    EHOSTUNREACH,
    EINVAL,
    EMSGSIZE,
    ENETUNREACH,
    ENOBUFS,
    ENOIOCTLCMD,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPIPE,
    EPROTO,
)
from afinet.uapi.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_FILTER,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    NR_ICMP_UNREACH,
)
from afinet.uapi.in_ import IP_PMTUDISC_DONT, IPPROTO_ICMP, IPPROTO_RAW, ipv4_is_multicast
from afinet.uapi.in_route import RTCF_BROADCAST
from afinet.uapi.rtnetlink import RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST
from afinet.uapi.snmp import IPSTATS_MIB_OUTNOROUTES
from afinet.uapi.sockaddr import SIZEOF_SOCKADDR_IN, pack_sockaddr_in, sa_family, unpack_sockaddr_in
from afinet.uapi.socket import (
    AF_INET,
    AF_UNSPEC,
    MSG_DONTROUTE,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    SEND_SHUTDOWN,
    SOL_RAW,
)
from afinet.uapi.sockios import SIOCINQ, SIOCOUTQ
from afinet.uapi.tcp import TCP_CLOSE, TCP_ESTABLISHED
from afinet.wire import be, ip

if TYPE_CHECKING:
    from afinet.net.socket import MsgHdr

SOCK_BINDADDR_LOCK: Final = 4


class RawSock(InetSock):
    """struct raw_sock."""

    __slots__ = ("filter", "hashed")

    def __init__(self, net: Net, family: int, prot: Proto) -> None:
        super().__init__(net, family, prot)
        self.filter: int = 0  # ICMP_FILTER: a set bit keeps that ICMP type away
        self.hashed: bool = False

    def sk_destruct(self) -> None:
        af_inet.inet_sock_destruct(self)


# -- softirq side ----------------------------------------------------------------------------------------------------------


def raw_v4_match(sk: RawSock, net: Net, raddr: int, laddr: int, dif: int) -> bool:
    return (
        sk.sk_net is net
        and (not sk.inet_daddr or sk.inet_daddr == raddr)
        and (not sk.inet_rcv_saddr or sk.inet_rcv_saddr == laddr)
        and (not sk.sk_bound_dev_if or sk.sk_bound_dev_if == dif)
    )


def icmp_filter(sk: RawSock, skb: SkBuff) -> bool:
    """Whether ICMP_FILTER keeps this packet away; short ones pass no filter."""
    if skb.tail - skb.data < 8:
        return True
    kind = skb.head[skb.data]
    return kind < 32 and sk.filter >> kind & 1 == 1


def raw_local_deliver(skb: SkBuff, protocol: int) -> bool:
    """Clone the packet (`skb.data` at the transport header) to every raw sock that fits. True if one did."""
    dev = skb.dev
    assert dev is not None
    net = dev_net(dev)
    chain = raw_hash(net.kernel).get(protocol)
    if chain is None:
        return False
    saddr = be.get_u32(skb.head, skb.network_header + 12)
    daddr = be.get_u32(skb.head, skb.network_header + 16)
    delivered = False
    for sk in chain[:]:
        if not raw_v4_match(sk, net, saddr, daddr, dev.ifindex):
            continue
        delivered = True
        if protocol == IPPROTO_ICMP and icmp_filter(sk, skb):
            continue
        if ipv4_is_multicast(daddr) and not igmp.ip_mc_sf_allow(sk, daddr, saddr, dev.ifindex):
            continue
        raw_rcv(sk, skb_clone(skb))
    return delivered


def raw_rcv(sk: RawSock, skb: SkBuff) -> int:
    """Back to the IP header, and into the queue."""
    skb.len += skb.data - skb.network_header
    skb.data = skb.network_header
    if security.security_sock_rcv_skb(sk, skb):
        sk.sk_drops += 1
        return kfree_skb_reason(sk.sk_net, skb, SKB_DROP_REASON_SECURITY_HOOK)
    skb.dst = None
    reason = sock_queue_rcv_skb_reason(sk, skb)
    return kfree_skb_reason(sk.sk_net, skb, reason) if reason else 0


def raw_icmp_error(skb: SkBuff, protocol: int, info: int) -> None:
    """An ICMP error about a packet of `protocol`; `skb.data` is at the quoted IP header."""
    dev = skb.dev
    assert dev is not None
    net = dev_net(dev)
    chain = raw_hash(net.kernel).get(protocol)
    if chain is None:
        return
    saddr = be.get_u32(skb.head, skb.data + 12)
    daddr = be.get_u32(skb.head, skb.data + 16)
    for sk in chain[:]:
        if raw_v4_match(sk, net, daddr, saddr, dev.ifindex):
            raw_err(sk, skb, info)


def raw_err(sk: RawSock, skb: SkBuff, info: int) -> None:
    type = skb.head[skb.transport_header]
    code = skb.head[skb.transport_header + 1]
    if type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED:
        route.ipv4_sk_update_pmtu(skb, sk, info)
    elif type == ICMP_REDIRECT:
        route.ipv4_sk_redirect(skb, sk)
        return
    recverr = inet_test_bit(sk, INET_FLAGS_RECVERR)
    if not recverr and sk.sk_state != TCP_ESTABLISHED:
        return
    err = EHOSTUNREACH
    harderr = False
    if type == ICMP_SOURCE_QUENCH:
        return
    if type == ICMP_PARAMETERPROB:
        err = EPROTO
        harderr = True
    elif type == ICMP_DEST_UNREACH:
        if code > NR_ICMP_UNREACH:
            return
        if code == ICMP_FRAG_NEEDED:
            harderr = sk.pmtudisc != IP_PMTUDISC_DONT
            err = EMSGSIZE
        else:
            err, harderr = icmp.icmp_err_convert(code)
    elif type != ICMP_TIME_EXCEEDED:
        err = EHOSTUNREACH
    if recverr:
        payload = skb.data if inet_test_bit(sk, INET_FLAGS_HDRINCL) else skb.data + (skb.head[skb.data] & 15) * 4
        ip_sockglue.ip_icmp_error(sk, skb, err, 0, info, payload)
    if recverr or harderr:
        sk.sk_err = err
        sk_error_report(sk)


# -- sending ---------------------------------------------------------------------------------------------------------------


def raw_sendmsg(sk: RawSock, msg: MsgHdr, length: int) -> int:
    """Bytes sent, -errno, or -EIOCBQUEUED."""
    if length > 0xFFFF:
        return -EMSGSIZE
    if msg.msg_flags & MSG_OOB:
        return -EOPNOTSUPP
    net = sk.sk_net
    hdrincl = inet_test_bit(sk, INET_FLAGS_HDRINCL)
    if msg.msg_name:
        if len(msg.msg_name) < SIZEOF_SOCKADDR_IN:
            return -EINVAL
        family = sa_family(msg.msg_name)
        daddr, _ = unpack_sockaddr_in(msg.msg_name)
        if family != AF_INET and family != AF_UNSPEC:
            return -EAFNOSUPPORT
    else:
        if sk.sk_state != TCP_ESTABLISHED:
            return -EDESTADDRREQ
        daddr = sk.inet_daddr
    ipc = ip_output.IpcmCookie()
    ip_output.ipcm_init_sk(ipc, sk)
    if hdrincl:
        ipc.protocol = IPPROTO_RAW
    if msg.msg_control:
        err = ip_sockglue.ip_cmsg_send(sk, msg.msg_control, ipc)
        if err:
            return err
    saddr = ipc.addr
    ipc.addr = daddr
    if ipc.opt is None:
        ipc.opt = sk.inet_opt
    if ipc.opt is not None:
        if hdrincl:
            return -EINVAL  # options belong into the program's own header
        if ipc.opt.srr:
            if not daddr:
                return -EINVAL
            daddr = ipc.opt.faddr
    tos = ipc.tos if ipc.tos >= 0 else sk.tos
    scope = RT_SCOPE_UNIVERSE
    if sock_flag(sk, SOCK_LOCALROUTE) or msg.msg_flags & MSG_DONTROUTE:
        scope = RT_SCOPE_LINK
    if ipv4_is_multicast(daddr):
        if not ipc.oif:
            ipc.oif = sk.mc_index
        if not saddr:
            saddr = sk.mc_addr
    elif not ipc.oif:
        ipc.oif = sk.uc_index
    flags = FLOWI_FLAG_ANYSRC if hdrincl else 0
    proto = IPPROTO_RAW if hdrincl else sk.sk_protocol
    fl4 = Flowi4(daddr, saddr, ipc.oif, proto, tos & 0xFC, scope, sk.sk_mark, flags, 0, 0, 1, sk.sk_uid)
    if not hdrincl and sk.sk_protocol == IPPROTO_ICMP and len(msg.msg_data) >= 2:
        fl4.fl4_dport = msg.msg_data[0] << 8 | msg.msg_data[1]  # type and code (raw_probe_proto_opt)
    err, rt = route.ip_route_output_flow(net, fl4, sk)
    if err or rt is None:
        if err == -ENETUNREACH:
            net.ip_statistics[IPSTATS_MIB_OUTNOROUTES] += 1
        return err
    if rt.rt_flags & RTCF_BROADCAST and not sock_flag(sk, SOCK_BROADCAST):
        return -EACCES
    if hdrincl:
        return raw_send_hdrinc(sk, fl4, msg, length, rt)
    if not ipc.addr:
        ipc.addr = fl4.daddr
    lock_sock(sk)
    err, skb = ip_output.ip_make_skb(sk, fl4, msg, length, 0, ipc, rt)
    if err == 0 and skb is not None:
        err = ip_output.ip_send_skb(net, skb)
        if err == -ENOBUFS and not inet_test_bit(sk, INET_FLAGS_RECVERR):
            err = 0
    release_sock(sk)
    return err or length


def raw_send_hdrinc(sk: RawSock, fl4: Flowi4, msg: MsgHdr, length: int, rt: route.Rtable) -> int:
    """The program's own IP header: total length and checksum are always filled in, source and id where they are zero."""
    net = sk.sk_net
    if length > rt.dev.mtu:
        ip_sockglue.ip_local_error(sk, EMSGSIZE, fl4.daddr, sk.inet_dport, rt.dev.mtu)
        return -EMSGSIZE
    if length < 20:
        return -EINVAL
    err = sock_alloc_send_check(sk, msg.iocb, msg.msg_flags & MSG_DONTWAIT != 0)
    if err:
        return err
    data = msg.msg_data
    ihl = (data[0] & 15) * 4
    if ihl < 20 or ihl > length:
        return -EINVAL
    version_ihl, tos, _, ident, frag_off, ttl, protocol, _, saddr, daddr = ip.parse(data, 0)
    if not saddr:
        saddr = fl4.saddr
    if not ident:
        ident = ip_output.ip_select_ident(net, sk, saddr, daddr, protocol)
    header = ip.emit(tos, length, ident, frag_off, ttl, protocol, saddr, daddr, data[20:ihl])
    skb = alloc_skb(header + data[ihl:])
    skb.network_header = 0
    skb.transport_header = ihl
    skb.protocol = 0x0800
    skb.priority = sk.sk_priority
    skb.mark = sk.sk_mark
    skb.dev = rt.dev
    skb.dst = rt
    skb_set_owner_w(skb, sk)
    err = rt.output(net, sk, skb)
    if err > 0:
        err = 0 if err == 2 else -ENOBUFS  # net_xmit_errno: congestion is no error
    if err == -ENOBUFS and not inet_test_bit(sk, INET_FLAGS_RECVERR):
        err = 0
    return err or length


# -- receiving, system call side -------------------------------------------------------------------------------------------


def raw_recvmsg(sk: RawSock, msg: MsgHdr, size: int, flags: int) -> int:
    """One packet, IP header included."""
    if flags & MSG_OOB:
        return -EOPNOTSUPP
    if flags & MSG_ERRQUEUE:
        return ip_sockglue.ip_recv_error(sk, msg, size)
    err, skb, _ = __skb_recv_datagram(sk, sk.sk_receive_queue, flags, msg)
    if skb is None:
        return err
    total = skb.len
    copied = min(size, total)
    if copied < total:
        msg.msg_flags |= MSG_TRUNC
    skb_copy_datagram_msg(skb, 0, msg, copied)
    ip_sockglue.sock_recv_cmsgs(msg, sk, skb)
    msg.msg_name = pack_sockaddr_in(be.get_u32(skb.head, skb.network_header + 12), 0)
    if ip_sockglue.inet_cmsg_flags(sk):
        ip_sockglue.ip_cmsg_recv_offset(msg, sk, skb, 0, 0)
    if not flags & MSG_PEEK:
        skb_free_datagram(sk, skb)
    return total if flags & MSG_TRUNC else copied


# -- raw_prot --------------------------------------------------------------------------------------------------------------


class RawProto(Proto):
    """raw_prot."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "RAW")
        self.hash_table: dict[int, list[RawSock]] = {}  # by protocol number
        self.obj_size = 968

    def sk_prot_alloc(self, net: Net, family: int) -> Sock:
        return RawSock(net, family, self)

    def close(self, sk: Sock, timeout: int, iocb: Kiocb) -> int:
        sk_common_release(sk)
        return 0

    def destroy(self, sk: Sock) -> None:
        skb_queue_purge(sk.sk_net, sk.sk_write_queue, SKB_CONSUMED)

    def connect(self, sk: Sock, uaddr: bytes) -> int:
        lock_sock(sk)
        err = datagram.ip4_datagram_connect(cast(RawSock, sk), uaddr)
        release_sock(sk)
        return err

    def disconnect(self, sk: Sock, flags: int) -> int:
        raw = cast(RawSock, sk)
        raw.sk_state = TCP_CLOSE
        raw.inet_daddr = 0
        raw.inet_dport = 0
        if not raw.sk_userlocks & SOCK_BINDADDR_LOCK:
            raw.inet_rcv_saddr = 0
            raw.inet_saddr = 0
        sk_dst_reset(raw)
        return 0

    def has_bind(self) -> bool:
        return True

    def bind(self, sk: Sock, uaddr: bytes) -> int:
        raw = cast(RawSock, sk)
        if raw.sk_state != TCP_CLOSE or len(uaddr) < SIZEOF_SOCKADDR_IN:
            return -EINVAL
        addr, _ = unpack_sockaddr_in(uaddr)
        kind = route.inet_addr_type(raw.sk_net, addr)
        if addr and kind not in (RTN_LOCAL, RTN_MULTICAST, RTN_BROADCAST) and not af_inet.inet_can_nonlocal_bind(raw.sk_net, raw):
            return -EADDRNOTAVAIL
        raw.inet_rcv_saddr = addr
        raw.inet_saddr = 0 if kind in (RTN_MULTICAST, RTN_BROADCAST) else addr
        sk_dst_reset(raw)
        return 0

    def ioctl(self, sk: Sock, cmd: int, arg: bytes) -> tuple[int, bytes]:
        if cmd == SIOCOUTQ:
            return 0, sk_wmem_alloc_get(sk).to_bytes(4, "little")
        if cmd == SIOCINQ:
            head = sk.sk_receive_queue.head
            return 0, (0 if head is None else head.len).to_bytes(4, "little")
        return -ENOIOCTLCMD, b""

    def setsockopt(self, sk: Sock, level: int, optname: int, optval: bytes) -> int:
        raw = cast(RawSock, sk)
        if level != SOL_RAW:
            return ip_sockglue.ip_setsockopt(raw, level, optname, optval)
        if optname == ICMP_FILTER:
            if raw.inet_num != IPPROTO_ICMP:
                return -EOPNOTSUPP
            raw.filter = int.from_bytes(optval[:4], "little")  # a short value sets the low bytes, as in Linux
            return 0
        return -ENOPROTOOPT

    def getsockopt(self, sk: Sock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        raw = cast(RawSock, sk)
        if level != SOL_RAW:
            return ip_sockglue.ip_getsockopt(raw, level, optname, optlen)
        if optname == ICMP_FILTER:
            if raw.inet_num != IPPROTO_ICMP:
                return -EOPNOTSUPP, b""
            if optlen < 0:
                return -EINVAL, b""
            return 0, raw.filter.to_bytes(4, "little")[:optlen]
        return -ENOPROTOOPT, b""

    def sendmsg(self, sk: Sock, msg: MsgHdr, size: int) -> int:
        if sk.sk_shutdown & SEND_SHUTDOWN:
            return -EPIPE
        return raw_sendmsg(cast(RawSock, sk), msg, size)

    def recvmsg(self, sk: Sock, msg: MsgHdr, size: int, flags: int) -> int:
        return raw_recvmsg(cast(RawSock, sk), msg, size, flags)

    def backlog_rcv(self, sk: Sock, skb: SkBuff) -> int:
        return raw_rcv(cast(RawSock, sk), skb)

    def hash(self, sk: Sock) -> int:
        """raw_hash_sk."""
        raw = cast(RawSock, sk)
        raw.hashed = True
        self.hash_table.setdefault(raw.inet_num, []).append(raw)
        sock_hold(raw)
        sock_prot_inuse_add(raw.sk_net, self, 1)
        return 0

    def unhash(self, sk: Sock) -> None:
        """raw_unhash_sk."""
        raw = cast(RawSock, sk)
        if not raw.hashed:
            return
        raw.hashed = False
        chain = self.hash_table[raw.inet_num]
        chain.remove(raw)
        if not chain:
            del self.hash_table[raw.inet_num]
        sock_prot_inuse_add(raw.sk_net, self, -1)
        sock_put(raw)

    def diag_destroy(self, sk: Sock, err: int) -> int:
        """raw_abort."""
        lock_sock(sk)
        sk.sk_err = err
        sk_error_report(sk)
        self.disconnect(sk, 0)
        release_sock(sk)
        return 0


def raw_hash(kernel: Kernel) -> dict[int, list[RawSock]]:
    """The table that every delivered packet asks: empty, as a rule."""
    return kernel.raw_hash


def raw_init(kernel: Kernel, prot: RawProto) -> None:
    kernel.raw_hash = prot.hash_table
