"""net/ipv4/ip_sockglue.c: what joins IPv4 and the sockets: options of level SOL_IP, control messages, the error queue.

Options: ip_setsockopt and ip_getsockopt, values and errors as ip(7) and Linux 6.18 have them. Control messages: ip_cmsg_send reads
what a sending call asks for, ip_cmsg_recv_offset writes what a receiver asked to be told. Errors: ip_icmp_error (from the
protocols' err_handler) and ip_local_error (from ip_output) queue them, ip_recv_error is MSG_ERRQUEUE.

Left out, and answered -ENOPROTOOPT: multicast routing, xfrm policies. Source filters cannot be read back (-EINVAL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.task import ns_capable
from afinet.net.core import datagram, timestamping
from afinet.net.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, SKB_DROP_REASON_QUEUE_PURGE
from afinet.net.core.scm import put_cmsg
from afinet.net.core.skbuff import (
    CHECKSUM_COMPLETE,
    alloc_skb,
    consume_skb,
    kfree_skb_reason,
    pskb_may_pull,
    skb_clone,
    skb_header_pointer,
    skb_pieces,
    skb_pull,
    skb_queue_purge,
)
from afinet.net.core.sock import lock_sock, release_sock, sk_dst_reset
from afinet.net.core.sockopt import sk_set_prio_allowed
from afinet.net.ipv4 import devinet, fib_frontend, icmp, igmp_sock, ip_options, rtable, tcp_fragment
from afinet.net.ipv4.inet_sock import (
    INET_FLAGS_BIND_ADDRESS_NO_PORT,
    INET_FLAGS_CHECKSUM,
    INET_FLAGS_FREEBIND,
    INET_FLAGS_HDRINCL,
    INET_FLAGS_IS_ICSK,
    INET_FLAGS_MC_ALL,
    INET_FLAGS_MC_LOOP,
    INET_FLAGS_NODEFRAG,
    INET_FLAGS_ORIGDSTADDR,
    INET_FLAGS_PASSSEC,
    INET_FLAGS_PKTINFO,
    INET_FLAGS_RECVERR,
    INET_FLAGS_RECVERR_RFC4884,
    INET_FLAGS_RECVFRAGSIZE,
    INET_FLAGS_RECVOPTS,
    INET_FLAGS_RETOPTS,
    INET_FLAGS_RTALERT,
    INET_FLAGS_TOS,
    INET_FLAGS_TRANSPARENT,
    INET_FLAGS_TTL,
    InetSock,
    inet_assign_bit,
    inet_mc_addr,
    inet_test_bit,
)
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.security import security
from afinet.uapi.capability import CAP_NET_ADMIN, CAP_NET_RAW
from afinet.uapi.errno import (
    EADDRINUSE,
    EADDRNOTAVAIL,
    EAGAIN,
    EINVAL,
    ENOBUFS,
    ENOPROTOOPT,
    ENOTCONN,
    EOPNOTSUPP,
    EPERM,
    EPROTO,
)
from afinet.uapi.errqueue import SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_LOCAL
from afinet.uapi.in_ import (
    IP_ADD_MEMBERSHIP,
    IP_ADD_SOURCE_MEMBERSHIP,
    IP_BIND_ADDRESS_NO_PORT,
    IP_BLOCK_SOURCE,
    IP_CHECKSUM,
    IP_DROP_MEMBERSHIP,
    IP_DROP_SOURCE_MEMBERSHIP,
    IP_FREEBIND,
    IP_HDRINCL,
    IP_LOCAL_PORT_RANGE,
    IP_MINTTL,
    IP_MSFILTER,
    IP_MTU,
    IP_MTU_DISCOVER,
    IP_MULTICAST_ALL,
    IP_MULTICAST_IF,
    IP_MULTICAST_LOOP,
    IP_MULTICAST_TTL,
    IP_NODEFRAG,
    IP_OPTIONS,
    IP_ORIGDSTADDR,
    IP_PASSSEC,
    IP_PKTINFO,
    IP_PKTOPTIONS,
    IP_PMTUDISC_DONT,
    IP_PMTUDISC_OMIT,
    IP_PROTOCOL,
    IP_RECVERR,
    IP_RECVERR_RFC4884,
    IP_RECVFRAGSIZE,
    IP_RECVOPTS,
    IP_RECVTOS,
    IP_RECVTTL,
    IP_RETOPTS,
    IP_ROUTER_ALERT,
    IP_TOS,
    IP_TRANSPARENT,
    IP_TTL,
    IP_UNBLOCK_SOURCE,
    IP_UNICAST_IF,
    IPPROTO_ICMP,
    IPPROTO_RAW,
    MCAST_BLOCK_SOURCE,
    MCAST_EXCLUDE,
    MCAST_INCLUDE,
    MCAST_JOIN_GROUP,
    MCAST_JOIN_SOURCE_GROUP,
    MCAST_LEAVE_GROUP,
    MCAST_LEAVE_SOURCE_GROUP,
    MCAST_MSFILTER,
    MCAST_UNBLOCK_SOURCE,
)
from afinet.uapi.ip import MAX_IPOPTLEN
from afinet.uapi.net_tstamp import SOF_TIMESTAMPING_OPT_CMSG, SOF_TIMESTAMPING_OPT_ID
from afinet.uapi.sockaddr import (
    get_be32,
    get_s32,
    pack_be32,
    pack_cmsg,
    pack_in_pktinfo,
    pack_s32,
    pack_sockaddr_in,
    pack_u32,
    parse_cmsgs,
    sa_family,
    unpack_in_pktinfo,
)
from afinet.uapi.socket import (
    AF_INET,
    MSG_CTRUNC,
    MSG_ERRQUEUE,
    MSG_TRUNC,
    SCM_RIGHTS,
    SCM_TS_OPT_ID,
    SO_MARK,
    SO_PRIORITY,
    SO_TIMESTAMPING,
    SO_TIMESTAMPING_NEW,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
)
from afinet.uapi.tcp import TCP_CLOSE, TCP_LISTEN
from afinet.wire import be, checksum, ip

if TYPE_CHECKING:
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.ipv4.igmp_sock import IpMcSocklist
    from afinet.net.ipv4.ip_output import IpcmCookie
    from afinet.net.socket import MsgHdr

SOL_IP: Final = 0
SCM_CREDENTIALS: Final = 2
SCM_SECURITY: Final = 3
LOOPBACK_IFINDEX: Final = 1
# Those of inet_flags that ask for a control message (IP_CMSG_ALL): the nine lowest.
IP_CMSG_ALL: Final = 0x1FF
SIZEOF_IP_MREQ: Final = 8
SIZEOF_IP_MREQN: Final = 12
SIZEOF_IP_MREQ_SOURCE: Final = 12
SIZEOF_IP_MSFILTER: Final = 16  # without the sources
SIZEOF_GROUP_REQ: Final = 136
SIZEOF_GROUP_SOURCE_REQ: Final = 264
SIZEOF_GROUP_FILTER: Final = 144  # without the sources
SIZEOF_SOCKADDR_STORAGE: Final = 128

# ip_tos2prio (route.c), by the four TOS bits: TC_PRIO_BESTEFFORT, BULK, INTERACTIVE, INTERACTIVE_BULK.
_TOS2PRIO: Final = (0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4)

_SOURCE_OPTIONS: Final = (IP_UNBLOCK_SOURCE, IP_BLOCK_SOURCE, IP_ADD_SOURCE_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP)
_MULTICAST_OPTIONS: Final = (
    IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP, *_SOURCE_OPTIONS, IP_MSFILTER, MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP, MCAST_BLOCK_SOURCE,
    MCAST_UNBLOCK_SOURCE, MCAST_JOIN_SOURCE_GROUP, MCAST_LEAVE_SOURCE_GROUP, MCAST_MSFILTER,
)  # fmt: skip

# Options that are a bit of inet_flags and no more.
_FLAG_OPTIONS: Final[dict[int, int]] = {
    IP_PKTINFO: INET_FLAGS_PKTINFO,
    IP_RECVTTL: INET_FLAGS_TTL,
    IP_RECVTOS: INET_FLAGS_TOS,
    IP_RECVOPTS: INET_FLAGS_RECVOPTS,
    IP_RETOPTS: INET_FLAGS_RETOPTS,
    IP_PASSSEC: INET_FLAGS_PASSSEC,
    IP_ORIGDSTADDR: INET_FLAGS_ORIGDSTADDR,
    IP_RECVFRAGSIZE: INET_FLAGS_RECVFRAGSIZE,
    IP_RECVERR: INET_FLAGS_RECVERR,
    IP_RECVERR_RFC4884: INET_FLAGS_RECVERR_RFC4884,
    IP_FREEBIND: INET_FLAGS_FREEBIND,
    IP_HDRINCL: INET_FLAGS_HDRINCL,
    IP_MULTICAST_LOOP: INET_FLAGS_MC_LOOP,
    IP_MULTICAST_ALL: INET_FLAGS_MC_ALL,
    IP_TRANSPARENT: INET_FLAGS_TRANSPARENT,
    IP_NODEFRAG: INET_FLAGS_NODEFRAG,
    IP_BIND_ADDRESS_NO_PORT: INET_FLAGS_BIND_ADDRESS_NO_PORT,
    IP_CHECKSUM: INET_FLAGS_CHECKSUM,
}


class InetColdFields:
    """What few InetSocks have. Made by `inet_cold` at first use."""

    __slots__ = ("local_port_range", "mc_addr", "mc_list")

    def __init__(self) -> None:
        self.mc_addr: int = 0  # IP_MULTICAST_IF
        self.local_port_range: int = 0  # IP_LOCAL_PORT_RANGE: high << 16 | low
        self.mc_list: list[IpMcSocklist] = []  # multicast groups joined, newest first


def inet_cold(sk: InetSock) -> InetColdFields:
    cold = sk.inet_cold
    if cold is None:
        cold = InetColdFields()
        sk.inet_cold = cold
    return cold


def rt_tos2priority(tos: int) -> int:
    """The packet priority (TC_PRIO_*) of a TOS byte."""
    return _TOS2PRIO[tos >> 1 & 15]


# -- control messages of a sending call --------------------------------------------------------------------------------------


def ip_cmsg_send(sk: InetSock, control: bytes, ipc: IpcmCookie) -> int:
    """Put what the control messages ask for into `ipc`. 0, -EINVAL, -EPERM."""
    cmsgs = parse_cmsgs(control)
    if cmsgs is None:
        return -EINVAL
    for level, type, data in cmsgs:
        if level == SOL_SOCKET:
            err = __sock_cmsg_send(sk, type, data, ipc)
            if err:
                return err
            continue
        if level != SOL_IP:
            continue
        if type == IP_RETOPTS:
            err, ipc.opt = ip_options.ip_options_get(sk.sk_net, data[:MAX_IPOPTLEN])
            if err:
                return err
        elif type == IP_PKTINFO:
            if len(data) != 12:
                return -EINVAL
            ifindex, spec_dst, _ = unpack_in_pktinfo(data)
            if ifindex:
                ipc.oif = ifindex
            ipc.addr = spec_dst
        elif type == IP_TTL:
            if len(data) != 4:
                return -EINVAL
            val = get_s32(data, 0)
            if not 1 <= val <= 255:
                return -EINVAL
            ipc.ttl = val
        elif type == IP_TOS:
            if len(data) == 4:
                val = get_s32(data, 0)
            elif len(data) == 1:
                val = data[0]
            else:
                return -EINVAL
            if not 0 <= val <= 255:
                return -EINVAL
            ipc.tos = val
            ipc.priority = rt_tos2priority(val)
        elif type == IP_PROTOCOL:
            if len(data) != 4:
                return -EINVAL
            val = get_s32(data, 0)
            if not 1 <= val <= 255:
                return -EINVAL
            ipc.protocol = val
        else:
            return -EINVAL
    return 0


def __sock_cmsg_send(sk: InetSock, type: int, data: bytes, ipc: IpcmCookie) -> int:
    """core/sock.c's: the control messages of level SOL_SOCKET that a sending call knows."""
    if type == SO_MARK:
        if not ns_capable(sk.kernel, CAP_NET_RAW) and not ns_capable(sk.kernel, CAP_NET_ADMIN):
            return -EPERM
        if len(data) != 4:
            return -EINVAL
        ipc.mark = get_s32(data, 0) & 0xFFFFFFFF
        return 0
    if type == SO_PRIORITY:
        if len(data) != 4:
            return -EINVAL
        val = get_s32(data, 0)
        if not sk_set_prio_allowed(sk, val):
            return -EPERM
        ipc.priority = val
        return 0
    if type == SO_TIMESTAMPING or type == SO_TIMESTAMPING_NEW:
        tsflags = timestamping.cmsg_timestamping(sk, ipc.tsflags, data)
        if tsflags < 0:
            return tsflags
        ipc.tsflags = tsflags
        return 0
    if type == SCM_TS_OPT_ID:
        if timestamping.is_tcp(sk) or not timestamping.sk_tsflags(sk) & SOF_TIMESTAMPING_OPT_ID or len(data) != 4:
            return -EINVAL
        ipc.ts_opt_id = get_s32(data, 0) & 0xFFFFFFFF
        return 0
    # SCM_RIGHTS and SCM_CREDENTIALS belong to AF_UNIX and are passed over.
    return 0 if type == SCM_RIGHTS or type == SCM_CREDENTIALS else -EINVAL


# -- control messages for a receiver -------------------------------------------------------------------------------------------


def inet_cmsg_flags(sk: InetSock) -> int:
    return sk.inet_flags & IP_CMSG_ALL


def ip_cmsg_recv(msg: MsgHdr, sk: InetSock, skb: SkBuff) -> None:
    ip_cmsg_recv_offset(msg, sk, skb, 0, 0)


def ip_cmsg_recv_offset(msg: MsgHdr, sk: InetSock, skb: SkBuff, tlen: int, offset: int) -> None:
    """Tell the receiver of `skb` what it asked for. `network_header` and `transport_header` are where they were on receipt."""
    flags = sk.inet_flags
    if not flags & IP_CMSG_ALL:
        return
    head = skb.head
    nh = skb.network_header
    if flags >> INET_FLAGS_PKTINFO & 1:
        ip_cmsg_recv_pktinfo(msg, sk, skb)
    if flags >> INET_FLAGS_TTL & 1:
        put_cmsg(msg, SOL_IP, IP_TTL, pack_s32(head[nh + ip.IP_TTL]))
    if flags >> INET_FLAGS_TOS & 1:
        put_cmsg(msg, SOL_IP, IP_TOS, head[nh + ip.IP_TOS : nh + ip.IP_TOS + 1])
    opt = skb.opt
    if opt is not None and opt.optlen:
        if flags >> INET_FLAGS_RECVOPTS & 1:
            put_cmsg(msg, SOL_IP, IP_RECVOPTS, head[nh + ip.IP_HLEN : nh + ip.IP_HLEN + opt.optlen])
        if flags >> INET_FLAGS_RETOPTS & 1:
            err, echo = ip_options.ip_options_echo(sk.sk_net, skb, opt)
            if err:
                msg.msg_flags |= MSG_CTRUNC
            elif echo is not None:
                put_cmsg(msg, SOL_IP, IP_RETOPTS, ip_options.ip_options_undo(echo))
    if flags >> INET_FLAGS_PASSSEC & 1 and sk.kernel.security_hooks:
        context = security.security_socket_getpeersec_dgram(sk, skb)
        if context:
            put_cmsg(msg, SOL_IP, SCM_SECURITY, context)
    if flags >> INET_FLAGS_ORIGDSTADDR & 1:
        ports = skb_header_pointer(skb, skb.transport_header, 4)
        if len(ports) == 4:
            addr = pack_sockaddr_in(be.get_u32(head, nh + ip.IP_DADDR), be.get_u16(ports, 2))
            put_cmsg(msg, SOL_IP, IP_ORIGDSTADDR, addr)
    if flags >> INET_FLAGS_CHECKSUM & 1 and skb.ip_summed == CHECKSUM_COMPLETE:
        put_cmsg(msg, SOL_IP, IP_CHECKSUM, pack_u32(payload_csum(skb, offset)))
    if flags >> INET_FLAGS_RECVFRAGSIZE & 1 and skb.frag_max_size:
        put_cmsg(msg, SOL_IP, IP_RECVFRAGSIZE, pack_s32(skb.frag_max_size))


def payload_csum(skb: SkBuff, offset: int) -> int:
    """ip_cmsg_recv_checksum: the ones' complement sum of the payload from `offset` on, as little-endian machines have it. Linux's
    is not folded: equal modulo 0xffff."""
    sum = checksum.csum_pieces(skb_pieces(skb, 0, skb.len), 0)
    if offset:
        sum += checksum.csum_fold(checksum.csum_pieces(skb_pieces(skb, 0, offset), 0))  # less what was peeked at before
    folded = checksum.csum_fold(sum) ^ 0xFFFF
    return (folded & 0xFF) << 8 | folded >> 8


def ip_cmsg_recv_pktinfo(msg: MsgHdr, sk: InetSock, skb: SkBuff) -> None:
    """Device, own address, destination. Linux computes the first two when it queues the packet (ipv4_pktinfo_prepare), which keeps
    its route here, so that it is done for a packet that is read only."""
    daddr = be.get_u32(skb.head, skb.network_header + ip.IP_DADDR)
    rt = skb.dst
    ifindex = 0
    spec_dst = 0
    serr = skb.cb
    if isinstance(serr, datagram.SockExterrSkb):
        if serr.iif:
            # A packet that was sent, with its time: by which device, and from which address.
            ifindex = serr.iif
            spec_dst = be.get_u32(skb.head, skb.network_header + ip.IP_SADDR)
        else:
            ifindex = skb.skb_iif  # an ICMP error: nobody prepared anything
    elif isinstance(rt, rtable.Rtable):
        ifindex = skb.skb_iif
        # Over loopback: the device whose address it was sent to.
        if ifindex == LOOPBACK_IFINDEX and rt.rt_iif:
            ifindex = rt.rt_iif
        dev = sk.sk_net.dev_by_index.get(skb.skb_iif)
        if dev is not None:
            skb.dev = dev
            spec_dst = fib_frontend.fib_compute_spec_dst(skb)
            skb.dev = None
    elif sk.sk_protocol == IPPROTO_ICMP and sk.sk_type == SOCK_DGRAM:
        ifindex = skb.skb_iif  # ping prepares nothing: what stands there is the device, and no address
    put_cmsg(msg, SOL_IP, IP_PKTINFO, pack_in_pktinfo(ifindex, spec_dst, daddr))


# -- the error queue -----------------------------------------------------------------------------------------------------------


def ip_icmp_error(sk: InetSock, skb: SkBuff, err: int, port: int, info: int, payload: int) -> None:
    """Queue an ICMP error for a sock with IP_RECVERR. `skb` is as err_handler gets it, and the caller's; `port` is the one the
    quoted datagram was sent to, `payload` the offset in `head` of its payload, which the program gets to see."""
    head = skb.head
    th = skb.transport_header
    clone = skb_clone(skb)
    serr = datagram.SockExterrSkb(err, SO_EE_ORIGIN_ICMP, head[th], head[th + 1], info)
    serr.addr_offset = skb.data + ip.IP_DADDR - skb.network_header
    serr.port = port
    clone.cb = serr
    clone.dev = None
    n = payload - skb.data
    if n <= skb.len and pskb_may_pull(clone, n):
        skb_pull(clone, n)
        if inet_test_bit(sk, INET_FLAGS_RECVERR_RFC4884):
            serr.ee_data = icmp.ipv4_icmp_error_rfc4884(clone, th)
        clone.transport_header = clone.data
        if datagram.sock_queue_err_skb(sk, clone) == 0:
            return
    kfree_skb_reason(sk.sk_net, clone, SKB_DROP_REASON_NOT_SPECIFIED)


def ip_local_error(sk: InetSock, err: int, daddr: int, port: int, info: int) -> None:
    """Queue an error that sending met on this host (a datagram longer than the path takes: `info` is the MTU)."""
    if not inet_test_bit(sk, INET_FLAGS_RECVERR):
        return
    skb = alloc_skb(ip.emit(0, 0, 0, 0, 0, 0, 0, daddr))
    serr = datagram.SockExterrSkb(err, SO_EE_ORIGIN_LOCAL, 0, 0, info)
    serr.addr_offset = ip.IP_DADDR
    serr.port = port
    skb.cb = serr
    skb_pull(skb, ip.IP_HLEN)
    skb.transport_header = skb.data
    if datagram.sock_queue_err_skb(sk, skb):
        kfree_skb_reason(sk.sk_net, skb, SKB_DROP_REASON_NOT_SPECIFIED)


def ip_recv_error(sk: InetSock, msg: MsgHdr, size: int) -> int:
    """MSG_ERRQUEUE: the oldest error with the payload that it is about. Bytes copied, or -EAGAIN."""
    skb = datagram.sock_dequeue_err_skb(sk)
    if skb is None:
        return -EAGAIN
    copied = skb.len
    if copied > size:
        msg.msg_flags |= MSG_TRUNC
        copied = size
    datagram.skb_copy_datagram_msg(skb, 0, msg, copied)
    timestamping.sock_recv_timestamp(msg, sk, skb)
    serr = skb.cb
    if isinstance(serr, datagram.SockExterrSkb):
        origin = serr.ee_origin
        if origin == SO_EE_ORIGIN_ICMP or origin == SO_EE_ORIGIN_LOCAL or serr.port:
            addr = be.get_u32(skb.head, skb.network_header + serr.addr_offset)
            msg.msg_name = pack_sockaddr_in(addr, serr.port)
        ee = (
            pack_s32(serr.ee_errno)
            + bytes([origin, serr.ee_type, serr.ee_code, 0])
            + pack_s32(serr.ee_info)
            + pack_s32(serr.ee_data)
        )
        offender = bytes(16)
        if ipv4_datagram_support_cmsg(sk, serr):
            # who said so, or who sent what is stamped
            offender = pack_sockaddr_in(be.get_u32(skb.head, skb.network_header + ip.IP_SADDR), 0)
            ip_cmsg_recv(msg, sk, skb)
        put_cmsg(msg, SOL_IP, IP_RECVERR, ee + offender)
    msg.msg_flags |= MSG_ERRQUEUE
    consume_skb(skb)
    return copied


def ipv4_datagram_support_cmsg(sk: InetSock, serr: datagram.SockExterrSkb) -> bool:
    """Whether control messages about its packet go with an error: those of ICMP, and, if asked for, time stamps with a packet."""
    if serr.ee_origin == SO_EE_ORIGIN_ICMP:
        return True
    return serr.iif != 0 and timestamping.sk_tsflags(sk) & SOF_TIMESTAMPING_OPT_CMSG != 0


# -- setting options -----------------------------------------------------------------------------------------------------------


def ip_setsockopt(sk: InetSock, level: int, optname: int, optval: bytes) -> int:
    if level != SOL_IP:
        return -ENOPROTOOPT
    return do_ip_setsockopt(sk, optname, optval)


def do_ip_setsockopt(sk: InetSock, optname: int, optval: bytes) -> int:
    """0 or -errno."""
    optlen = len(optval)
    # Most take an int or a char; none at all is the same as 0.
    val = 0
    if optlen >= 4:
        val = get_s32(optval, 0)
    elif optlen >= 1:
        val = optval[0]
    flag = _FLAG_OPTIONS.get(optname, -1)
    if flag >= 0:
        return ip_set_flag(sk, optname, flag, val, optlen)
    if optname == IP_TTL:
        if optlen < 1 or (val != -1 and not 1 <= val <= 255):
            return -EINVAL
        sk.uc_ttl = val
        return 0
    if optname == IP_MINTTL:
        if optlen < 1 or not 0 <= val <= 255:
            return -EINVAL
        sk.min_ttl = val
        return 0
    if optname == IP_MULTICAST_TTL:
        if sk.sk_type == SOCK_STREAM or optlen < 1:
            return -EINVAL
        if val == -1:
            val = 1
        if not 0 <= val <= 255:
            return -EINVAL
        sk.mc_ttl = val
        return 0
    if optname == IP_MTU_DISCOVER:
        if not IP_PMTUDISC_DONT <= val <= IP_PMTUDISC_OMIT:
            return -EINVAL
        sk.pmtudisc = val
        return 0
    if optname == IP_TOS:
        lock_sock(sk)
        __ip_sock_set_tos(sk, val)
        release_sock(sk)
        return 0
    if optname == IP_LOCAL_PORT_RANGE:
        low = val & 0xFFFF
        high = val >> 16 & 0xFFFF
        if optlen != 4 or (low and high and low > high):
            return -EINVAL
        inet_cold(sk).local_port_range = val & 0xFFFFFFFF
        return 0
    lock_sock(sk)
    err = ip_setsockopt_locked(sk, optname, optval, val)
    release_sock(sk)
    return err


def ip_set_flag(sk: InetSock, optname: int, flag: int, val: int, optlen: int) -> int:
    """The options that are one bit; some have conditions."""
    if optname == IP_RECVERR:
        cold = sk.sk_cold
        if not val and cold is not None:
            skb_queue_purge(sk.sk_net, cold.sk_error_queue, SKB_DROP_REASON_QUEUE_PURGE)
    elif optname == IP_RECVERR_RFC4884:
        if not 0 <= val <= 1:
            return -EINVAL
    elif optname == IP_HDRINCL or optname == IP_NODEFRAG:
        if sk.sk_type != SOCK_RAW:
            return -ENOPROTOOPT
    elif optname == IP_RECVFRAGSIZE:
        if sk.sk_type != SOCK_RAW and sk.sk_type != SOCK_DGRAM:
            return -EINVAL
    elif optname == IP_FREEBIND or optname == IP_MULTICAST_LOOP:
        if optlen < 1:
            return -EINVAL
    elif optname == IP_MULTICAST_ALL:
        if optlen < 1 or not 0 <= val <= 1:
            return -EINVAL
    elif optname == IP_TRANSPARENT:
        if val and not ns_capable(sk.kernel, CAP_NET_RAW) and not ns_capable(sk.kernel, CAP_NET_ADMIN):
            return -EPERM
        if optlen < 1:
            return -EINVAL
    inet_assign_bit(sk, flag, val != 0)
    return 0


def __ip_sock_set_tos(sk: InetSock, val: int) -> None:
    """TOS with its precedence. A stream's ECN bits are TCP's own."""
    old: int = sk.tos
    if sk.sk_type == SOCK_STREAM:
        val = val & ~3 | old & 3
    if old != val:
        sk.tos = val & 0xFF
        sk.sk_priority = rt_tos2priority(val)
        sk_dst_reset(sk)


def ip_setsockopt_locked(sk: InetSock, optname: int, optval: bytes, val: int) -> int:
    if optname == IP_OPTIONS:
        return ip_set_options(sk, optval)
    if optname == IP_UNICAST_IF:
        if len(optval) != 4:
            return -EINVAL
        ifindex = get_be32(optval, 0)  # in network order, unlike all others
        if ifindex == 0:
            sk.uc_index = 0
            return 0
        if ifindex not in sk.sk_net.dev_by_index:
            return -EADDRNOTAVAIL
        if sk.sk_bound_dev_if:
            return -EINVAL
        sk.uc_index = ifindex
        return 0
    if optname == IP_MULTICAST_IF:
        return ip_set_multicast_if(sk, optval)
    if optname in _MULTICAST_OPTIONS:
        return ip_mc_setsockopt(sk, optname, optval)
    if optname == IP_ROUTER_ALERT:
        err = ip_ra_control(sk, val != 0)
        if err == 0:
            inet_assign_bit(sk, INET_FLAGS_RTALERT, val != 0)
        return err
    return -ENOPROTOOPT


def ip_mc_setsockopt(sk: InetSock, optname: int, optval: bytes) -> int:
    """Memberships and source filters (RFC 3678): the forms by address, and by interface index (MCAST_*)."""
    optlen = len(optval)
    if optname == IP_ADD_MEMBERSHIP or optname == IP_DROP_MEMBERSHIP:
        if inet_test_bit(sk, INET_FLAGS_IS_ICSK):
            return -EPROTO
        if optlen < SIZEOF_IP_MREQ:
            return -EINVAL
        ifindex = get_s32(optval, 8) if optlen >= SIZEOF_IP_MREQN else 0
        mreq = igmp_sock.IpMreqn(get_be32(optval, 0), get_be32(optval, 4), ifindex)
        if optname == IP_ADD_MEMBERSHIP:
            return igmp_sock.ip_mc_join_group(sk, mreq)
        return igmp_sock.ip_mc_leave_group(sk, mreq)
    if optname == MCAST_JOIN_GROUP or optname == MCAST_LEAVE_GROUP:
        if inet_test_bit(sk, INET_FLAGS_IS_ICSK) or optlen < SIZEOF_GROUP_REQ:
            return -EINVAL
        if sa_family(optval[8:10]) != AF_INET:
            return -EINVAL
        mreq = igmp_sock.IpMreqn(get_be32(optval, 12), 0, get_s32(optval, 0))
        if optname == MCAST_JOIN_GROUP:
            return igmp_sock.ip_mc_join_group(sk, mreq)
        return igmp_sock.ip_mc_leave_group(sk, mreq)
    if optname == IP_MSFILTER:
        return ip_set_msfilter(sk, optval)
    if optname == MCAST_MSFILTER:
        return ip_set_mcast_msfilter(sk, optval)
    # One source more or less.
    if optname in _SOURCE_OPTIONS:
        if optlen != SIZEOF_IP_MREQ_SOURCE:
            return -EINVAL
        mreq = igmp_sock.IpMreqn(get_be32(optval, 0), get_be32(optval, 4))
        source = get_be32(optval, 8)
    else:
        if optlen < SIZEOF_GROUP_SOURCE_REQ:
            return -EINVAL
        if sa_family(optval[8:10]) != AF_INET or sa_family(optval[136:138]) != AF_INET:
            return -EADDRNOTAVAIL
        mreq = igmp_sock.IpMreqn(get_be32(optval, 12), 0, get_s32(optval, 0))
        source = get_be32(optval, 140)
    if optname == IP_BLOCK_SOURCE or optname == MCAST_BLOCK_SOURCE:
        return igmp_sock.ip_mc_source(sk, True, MCAST_EXCLUDE, mreq, source)
    if optname == IP_UNBLOCK_SOURCE or optname == MCAST_UNBLOCK_SOURCE:
        return igmp_sock.ip_mc_source(sk, False, MCAST_EXCLUDE, mreq, source)
    if optname == IP_DROP_SOURCE_MEMBERSHIP or optname == MCAST_LEAVE_SOURCE_GROUP:
        return igmp_sock.ip_mc_source(sk, False, MCAST_INCLUDE, mreq, source)
    err = igmp_sock.ip_mc_join_group_ssm(sk, mreq, MCAST_INCLUDE)
    if err and err != -EADDRINUSE:
        return err
    # The membership keeps its request; the source is added to whatever device that one found.
    found = igmp_sock.IpMreqn(mreq.imr_multiaddr, mreq.imr_address, mreq.imr_ifindex)
    return igmp_sock.ip_mc_source(sk, True, MCAST_INCLUDE, found, source)


def ip_set_msfilter(sk: InetSock, optval: bytes) -> int:
    """struct ip_msfilter: group, interface, mode, number of sources, sources."""
    if len(optval) < SIZEOF_IP_MSFILTER:
        return -EINVAL
    if len(optval) > sk.sk_net.core.sysctl_optmem_max:
        return -ENOBUFS
    numsrc = get_s32(optval, 12) & 0xFFFFFFFF
    if numsrc > sk.sk_net.ipv4.sysctl_igmp_max_msf:
        return -ENOBUFS
    if len(optval) < SIZEOF_IP_MSFILTER + 4 * numsrc:
        return -EINVAL
    mreq = igmp_sock.IpMreqn(get_be32(optval, 0), get_be32(optval, 4))
    sources = [get_be32(optval, SIZEOF_IP_MSFILTER + 4 * i) for i in range(numsrc)]
    return igmp_sock.ip_mc_msfilter(sk, mreq, get_s32(optval, 8), sources)


def ip_set_mcast_msfilter(sk: InetSock, optval: bytes) -> int:
    """struct group_filter: interface, group, mode, number of sources, sources; addresses as sockaddr_storage."""
    if len(optval) < SIZEOF_GROUP_FILTER:
        return -EINVAL
    if len(optval) > sk.sk_net.core.sysctl_optmem_max:
        return -ENOBUFS
    numsrc = get_s32(optval, 140) & 0xFFFFFFFF
    if numsrc > sk.sk_net.ipv4.sysctl_igmp_max_msf:
        return -ENOBUFS
    if len(optval) < SIZEOF_GROUP_FILTER + SIZEOF_SOCKADDR_STORAGE * numsrc:
        return -EINVAL
    if sa_family(optval[8:10]) != AF_INET:
        return -EADDRNOTAVAIL
    sources: list[int] = []
    for i in range(numsrc):
        off = SIZEOF_GROUP_FILTER + SIZEOF_SOCKADDR_STORAGE * i
        if sa_family(optval[off : off + 2]) != AF_INET:
            return -EADDRNOTAVAIL
        sources.append(get_be32(optval, off + 4))
    mreq = igmp_sock.IpMreqn(get_be32(optval, 12), 0, get_s32(optval, 0))
    return igmp_sock.ip_mc_msfilter(sk, mreq, get_s32(optval, 136), sources)


# -- IP_ROUTER_ALERT -----------------------------------------------------------------------------------------------------------


def ip_ra_control(sk: InetSock, on: bool) -> int:
    """Packets that are to be forwarded and have the router alert option (RFC 2113) go to raw socks of their protocol that ask for
    it, instead. 0, -EINVAL (no raw sock, or one of IPPROTO_RAW), -EADDRINUSE (asked already), -ENOBUFS (did not ask)."""
    if sk.sk_type != SOCK_RAW or sk.inet_num == IPPROTO_RAW:
        return -EINVAL
    chain = sk.sk_net.ipv4.ra_chain
    if sk in chain:
        if on:
            return -EADDRINUSE
        chain.remove(sk)
        return 0
    if not on:
        return -ENOBUFS
    chain.append(sk)
    return 0


def ip_set_options(sk: InetSock, optval: bytes) -> int:
    """IP_OPTIONS: what every packet of the sock carries. A stream's segments have the less room."""
    if len(optval) > MAX_IPOPTLEN:
        return -EINVAL
    err, opt = ip_options.ip_options_get(sk.sk_net, optval)
    if err:
        return err
    # No options at all are options of length 0, not none: a raw sock with IP_HDRINCL then refuses to send, as in Linux.
    old = sk.inet_opt
    if isinstance(sk, TcpSock):
        if old is not None:
            sk.icsk_ext_hdr_len -= old.optlen
        if opt is not None:
            sk.icsk_ext_hdr_len += opt.optlen
        if sk.sk_state not in (TCP_CLOSE, TCP_LISTEN):
            tcp_fragment.tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
    sk.inet_opt = opt
    return 0


def ip_set_multicast_if(sk: InetSock, optval: bytes) -> int:
    """An in_addr, an ip_mreq or an ip_mreqn: the device (or one of its addresses) by which multicasts leave."""
    if sk.sk_type == SOCK_STREAM or len(optval) < 4:
        return -EINVAL
    address = get_be32(optval, 4) if len(optval) >= SIZEOF_IP_MREQ else get_be32(optval, 0)
    ifindex = get_s32(optval, 8) if len(optval) >= SIZEOF_IP_MREQN else 0
    net = sk.sk_net
    if ifindex == 0:
        if address == 0:
            sk.mc_index = 0
            if sk.inet_cold is not None:
                sk.inet_cold.mc_addr = 0
            return 0
        dev = devinet.ip_dev_find(net, address)
    else:
        dev = net.dev_by_index.get(ifindex)
    if dev is None:
        return -EADDRNOTAVAIL
    if sk.sk_bound_dev_if and dev.ifindex != sk.sk_bound_dev_if:
        return -EINVAL
    sk.mc_index = dev.ifindex
    inet_cold(sk).mc_addr = address
    return 0


# -- reading options ---------------------------------------------------------------------------------------------------------


def ip_getsockopt(sk: InetSock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
    """(0, value of at most `optlen` bytes), or (-errno, b"")."""
    if level != SOL_IP:
        return -EOPNOTSUPP, b""
    return do_ip_getsockopt(sk, optname, optlen)


def do_ip_getsockopt(sk: InetSock, optname: int, optlen: int) -> tuple[int, bytes]:
    if optlen < 0:
        return -EINVAL, b""
    flag = _FLAG_OPTIONS.get(optname, -1)
    if flag >= 0:
        return 0, ip_copyval(int(inet_test_bit(sk, flag)), optlen)
    val: int
    if optname == IP_TOS:
        val = sk.tos
    elif optname == IP_TTL:
        val = sk.uc_ttl
        if val < 0:
            val = sk.sk_net.ipv4.sysctl_ip_default_ttl
    elif optname == IP_MINTTL:
        val = sk.min_ttl
    elif optname == IP_MULTICAST_TTL:
        val = sk.mc_ttl
    elif optname == IP_ROUTER_ALERT:
        val = int(inet_test_bit(sk, INET_FLAGS_RTALERT))
    elif optname == IP_MTU_DISCOVER:
        val = sk.pmtudisc
    elif optname == IP_LOCAL_PORT_RANGE:
        val = 0 if sk.inet_cold is None else sk.inet_cold.local_port_range
    elif optname == IP_PROTOCOL:
        val = sk.inet_num
    elif optname == IP_MTU:
        dst = sk.sk_dst_cache
        if dst is not None and dst.obsolete and not dst.check(0):
            dst = None
        if dst is None:
            return -ENOTCONN, b""
        val = dst.mtu()
    elif optname == IP_UNICAST_IF:
        raw = pack_be32(sk.uc_index)
        return 0, ip_copyval(get_s32(raw, 0), optlen)
    elif optname == IP_MULTICAST_IF:
        return 0, pack_be32(inet_mc_addr(sk))[:optlen]
    elif optname == IP_OPTIONS:
        opt = sk.inet_opt
        if opt is None or opt.optlen == 0:
            return 0, b""
        return 0, ip_options.ip_options_undo(opt)[:optlen]
    elif optname == IP_PKTOPTIONS:
        return ip_get_pktoptions(sk, optlen)
    elif optname == IP_MSFILTER or optname == MCAST_MSFILTER:
        return -EINVAL, b""  # the group stands in the caller's buffer, which a reading call has not got here: no group
    else:
        return -ENOPROTOOPT, b""
    return 0, ip_copyval(val, optlen)


def ip_copyval(val: int, optlen: int) -> bytes:
    """An int; or a char, where there is room for no more and it fits."""
    if 0 < optlen < 4 and 0 <= val <= 255:
        return bytes([val])
    return pack_s32(val)[:optlen]


def ip_get_pktoptions(sk: InetSock, optlen: int) -> tuple[int, bytes]:
    """IP_PKTOPTIONS, a stream's substitute for control messages: those that were asked for, with what the sock knows."""
    if sk.sk_type != SOCK_STREAM:
        return -ENOPROTOOPT, b""
    out = b""
    if inet_test_bit(sk, INET_FLAGS_PKTINFO):
        out += pack_cmsg(SOL_IP, IP_PKTINFO, pack_in_pktinfo(sk.mc_index, sk.inet_rcv_saddr, sk.inet_rcv_saddr))
    if inet_test_bit(sk, INET_FLAGS_TTL):
        out += pack_cmsg(SOL_IP, IP_TTL, pack_s32(sk.mc_ttl))
    if inet_test_bit(sk, INET_FLAGS_TOS):
        out += pack_cmsg(SOL_IP, IP_TOS, pack_s32(sk.rcv_tos))
    return 0, out[:optlen]
