"""net/ipv4/udp.c: UDP.

Ports and the lookup of a packet's sock are in udp_table.py.

Down: udp_sendmsg -> ip_route_output_flow -> ip_make_skb -> udp_send_skb -> ip_send_skb; corked data gathers in `cork` and goes with
udp_push_pending_frames. Up: UdpProtocol.early_demux, then udp_rcv (__udp4_lib_rcv) -> __udp4_lib_lookup -> udp_queue_rcv_skb ->
__udp_enqueue_schedule_skb; udp_recvmsg takes it from there. ICMP errors: udp_err.

A checksum over more than CHECKSUM_BREAK bytes is verified when the datagram is read, polled for or counted, as in Linux: until
then a bad one stands in the queue.

UDP_SEGMENT: a message is sent as one super-packet, cut on its way out (udp_offload.py). UDP_GRO: a sock takes what arrives as one
super-packet whole, and is told the length of the datagrams; for one that did not ask it is cut again (udp_rcv_segment).

Left out: encapsulation (UDP_ENCAP), UDP_NO_CHECK6_*: -ENOPROTOOPT. UDP-Lite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.kernel.machine import Kernel
from afinet.net.core.datagram import (
    __skb_recv_datagram,
    datagram_poll,
    msg_zerocopy_callback,
    sk_peek_offset,
    sk_peek_offset_bwd,
    skb_copy_datagram_msg,
    skb_free_datagram,
)
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_NO_SOCKET,
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_PKT_TOO_SMALL,
    SKB_DROP_REASON_PROTO_MEM,
    SKB_DROP_REASON_SKB_GSO_SEG,
    SKB_DROP_REASON_SOCKET_RCVBUFF,
    SKB_DROP_REASON_UDP_CSUM,
)
from afinet.net.core.filter import sk_filter_trim_cap
from afinet.net.core.flow import Flowi4
from afinet.net.core.gso import skb_gso_segment
from afinet.net.core.net_namespace import Net
from afinet.net.core.netdevice import NETIF_F_HW_CSUM, dev_net
from afinet.net.core.scm import put_cmsg
from afinet.net.core.skbuff import (
    CHECKSUM_COMPLETE,
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_UDP_L4,
    SkBuff,
    consume_skb,
    kfree_skb_reason,
    pskb_may_pull,
    pskb_trim,
    skb_clone,
    skb_pieces,
    skb_pull,
    skb_push,
    skb_queue_tail,
    skb_set_owner_r,
    skb_unlink,
)
from afinet.net.core.sock import (
    SOCK_BINDADDR_LOCK,
    SOCK_BINDPORT_LOCK,
    SOCK_BROADCAST,
    SOCK_DEAD,
    SOCK_RXQ_OVFL,
    SOCK_ZEROCOPY,
    Sock,
    SockCommon,
    __sk_dst_check,
    lock_sock,
    release_sock,
    sk_dst_reset,
    sk_dst_set,
    sk_error_report,
    sk_rmem_schedule,
    sk_wmem_alloc_get,
    sock_flag,
    sock_set_flag,
)
from afinet.net.ipv4 import datagram, icmp, igmp_sock, ip_output, ip_sockglue, route, udp_table
from afinet.net.ipv4.inet_sock import INET_FLAGS_RECVERR, InetSock, inet_mc_addr, inet_test_bit
from afinet.net.ipv4.protocol import NetProtocol
from afinet.net.ipv4.udp_sock import UdpSock as UdpSock
from afinet.net.ipv4.udp_sock import UdpTableProto, udp_get_table_prot
from afinet.net.socket import sock_recv_cmsgs
from afinet.uapi.errno import (
    EACCES,
    EAFNOSUPPORT,
    EDESTADDRREQ,
    EHOSTUNREACH,
    EINVAL,
    EIOCBQUEUED,
    EMSGSIZE,
    ENETUNREACH,
    ENOBUFS,
    ENOENT,
    ENOIOCTLCMD,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPROTO,
)
from afinet.uapi.eventpoll import EPOLLIN, EPOLLRDNORM
from afinet.uapi.fcntl import O_NONBLOCK
from afinet.uapi.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    ICMP_PORT_UNREACH,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    NR_ICMP_UNREACH,
)
from afinet.uapi.if_packet import PACKET_HOST
from afinet.uapi.in_ import IP_PMTUDISC_DONT, IPPROTO_UDP, ipv4_is_multicast
from afinet.uapi.in_route import RTCF_BROADCAST, RTCF_MULTICAST
from afinet.uapi.rtnetlink import RT_SCOPE_LINK
from afinet.uapi.snmp import (
    ICMP_MIB_INERRORS,
    IPSTATS_MIB_OUTNOROUTES,
    UDP_MIB_CSUMERRORS,
    UDP_MIB_IGNOREDMULTI,
    UDP_MIB_INDATAGRAMS,
    UDP_MIB_INERRORS,
    UDP_MIB_MEMERRORS,
    UDP_MIB_NOPORTS,
    UDP_MIB_OUTDATAGRAMS,
    UDP_MIB_RCVBUFERRORS,
    UDP_MIB_SNDBUFERRORS,
)
from afinet.uapi.sockaddr import (
    SIZEOF_INT,
    SIZEOF_SOCKADDR_IN,
    get_s32,
    pack_s32,
    pack_sockaddr_in,
    parse_cmsgs,
    sa_family,
    unpack_sockaddr_in,
)
from afinet.uapi.socket import (
    AF_INET,
    AF_UNSPEC,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_PROBE,
    MSG_TRUNC,
    MSG_ZEROCOPY,
    RCV_SHUTDOWN,
    SOCK_NOSPACE,
    SOL_UDP,
)
from afinet.uapi.sockios import SIOCINQ, SIOCOUTQ
from afinet.uapi.tcp import TCP_CLOSE, TCP_ESTABLISHED
from afinet.uapi.udp import UDP_CORK, UDP_GRO, UDP_SEGMENT
from afinet.wire import be, checksum

if TYPE_CHECKING:
    from afinet.fs.file import File
    from afinet.net.ipv4.route import Rtable
    from afinet.net.socket import MsgHdr, Socket

UDP_HLEN: Final = 8
UDP_MAX_SEGMENTS: Final = 128
CHECKSUM_BREAK: Final = 76  # a shorter datagram's checksum is verified when it comes in


# -- sending ---------------------------------------------------------------------------------------------------------------


def udp_sendmsg(sk: UdpSock, msg: MsgHdr, length: int) -> int:
    """Send one datagram, or add to the corked one. Bytes taken, -errno, or -EIOCBQUEUED."""
    if length > 0xFFFF:
        return -EMSGSIZE
    if msg.msg_flags & MSG_OOB:
        return -EOPNOTSUPP
    net = sk.sk_net
    corkreq = sk.corkflag or msg.msg_flags & MSG_MORE != 0
    # 1. There is a cork: the data goes into it, whatever address the call names.
    if sk.pending:
        lock_sock(sk)
        err = udp_append(sk, msg, length, corkreq)
        release_sock(sk)
        return udp_sent(sk, err, length)
    # 2. Get and verify the address.
    connected = False
    if msg.msg_name:
        if len(msg.msg_name) < SIZEOF_SOCKADDR_IN:
            return -EINVAL
        family = sa_family(msg.msg_name)
        if family != AF_INET and family != AF_UNSPEC:
            return -EAFNOSUPPORT
        daddr, dport = unpack_sockaddr_in(msg.msg_name)
        if dport == 0:
            return -EINVAL
    else:
        if sk.sk_state != TCP_ESTABLISHED:
            return -EDESTADDRREQ
        daddr = sk.inet_daddr
        dport = sk.inet_dport
        connected = True  # the sock's own route will do, unless an option says otherwise
    # 3. What control messages and options ask.
    ipc = ip_output.IpcmCookie()
    ip_output.ipcm_init_sk(ipc, sk)
    ipc.gso_size = sk.gso_size
    if msg.msg_control:
        err = udp_cmsg_send(msg.msg_control, ipc)
        if err > 0:
            err = ip_sockglue.ip_cmsg_send(sk, msg.msg_control, ipc)
            connected = False
        if err < 0:
            return err
    if ipc.opt is None:
        ipc.opt = sk.inet_opt
    saddr = ipc.addr
    faddr = daddr
    ipc.addr = daddr
    if ipc.opt is not None and ipc.opt.srr:
        if not daddr:
            return -EINVAL
        faddr = ipc.opt.faddr
        connected = False
    scope = datagram.ip_sendmsg_scope(sk, ipc, msg)
    if scope == RT_SCOPE_LINK:
        connected = False
    if ipv4_is_multicast(daddr):
        if not ipc.oif:
            ipc.oif = sk.mc_index
        if not saddr:
            saddr = inet_mc_addr(sk)
        connected = False
    elif not ipc.oif:
        ipc.oif = sk.uc_index
    # 4. The route: a connected sock's own, with the flow it was made for, or a new one.
    rt: Rtable | None = None
    fl4: Flowi4 | None = None
    if connected:
        rt = cast("Rtable | None", __sk_dst_check(sk))
        fl4 = sk.cork_fl4
    if rt is None or fl4 is None:
        fl4 = Flowi4(
            faddr,
            saddr,
            ipc.oif,
            IPPROTO_UDP,
            (ipc.tos if ipc.tos >= 0 else sk.tos) & 0xFC,
            scope,
            ipc.mark,
            ip_output.inet_sk_flowi_flags(sk),
            dport,
            sk.inet_sport,
            1,
            sk.sk_uid,
        )
        err, rt = route.ip_route_output_flow(net, fl4, sk)
        if err or rt is None:
            if err == -ENETUNREACH:
                net.ip_statistics[IPSTATS_MIB_OUTNOROUTES] += 1
            return udp_sent(sk, err, length)
        if rt.rt_flags & RTCF_BROADCAST and not sock_flag(sk, SOCK_BROADCAST):
            return -EACCES
        if connected:
            sk_dst_set(sk, rt)
    if datagram.ip_msg_confirm(msg, rt, fl4.daddr, length):
        return 0
    if not ipc.addr:
        ipc.addr = fl4.daddr
    # 5. The usual case: no cork.
    if not corkreq:
        err, skb = ip_output.ip_make_skb(sk, fl4, msg, length, UDP_HLEN, ipc, rt)
        if err == 0 and skb is not None:
            err = udp_send_skb(sk, skb, fl4)
        return udp_sent(sk, err, length)
    # 6. Begin a cork.
    lock_sock(sk)
    sk.cork_fl4 = fl4
    # Linux notes the final destination here: unlike others, a corked datagram with a source route has it in its header.
    fl4.daddr = ipc.addr
    err = ip_output.ip_setup_cork(sk, fl4, ipc, rt)
    if err == 0:
        sk.pending = AF_INET
        err = udp_append(sk, msg, length, corkreq)
    release_sock(sk)
    return udp_sent(sk, err, length)


def udp_cmsg_send(control: bytes, ipc: ip_output.IpcmCookie) -> int:
    """1 when there are control messages for IP, 0 when there are none, -EINVAL. UDP's own is UDP_SEGMENT, 16 bits."""
    cmsgs = parse_cmsgs(control)
    if cmsgs is None:
        return -EINVAL
    need_ip = 0
    for level, type, data in cmsgs:
        if level != SOL_UDP:
            need_ip = 1
        elif type == UDP_SEGMENT and len(data) == 2:
            ipc.gso_size = data[0] | data[1] << 8
        else:
            return -EINVAL
    return need_ip


def udp_append(sk: UdpSock, msg: MsgHdr, length: int, corkreq: bool) -> int:
    """do_append_data: add to the corked datagram, send it unless more is to come."""
    err = ip_output.ip_append_data(sk, msg, length, UDP_HLEN)
    if err == -EIOCBQUEUED:
        return err
    if err:
        udp_flush_pending_frames(sk)
        return err
    sk.corklen += length if sk.corklen else length + UDP_HLEN
    if not corkreq:
        return udp_push_pending_frames(sk)
    if msg.msg_flags & MSG_PROBE and sk.cork is not None and not sk.cork.length:
        udp_flush_pending_frames(sk)  # nothing was put into the cork
    return 0


def udp_sent(sk: UdpSock, err: int, length: int) -> int:
    """The end of udp_sendmsg: bytes, or the error, counted if it is for want of room."""
    if err == 0:
        return length
    socket = sk.sk_socket
    if err == -ENOBUFS or (err != -EIOCBQUEUED and socket is not None and socket.flags >> SOCK_NOSPACE & 1):
        sk.sk_net.udp_statistics[UDP_MIB_SNDBUFERRORS] += 1
    return err


def udp_set_gso(sk: UdpSock, skb: SkBuff, plan: ip_output.IpHeaderPlan) -> int:
    """UDP_SEGMENT: make a payload that is longer than one datagram a super-packet. 0, or -errno: a datagram would be too long for
    the route, there would be too many, or they would have no checksums."""
    size = plan.gso_size
    if plan.hlen + UDP_HLEN + min(skb.len, size) > plan.fragsize:
        return -EMSGSIZE
    if skb.len > size * UDP_MAX_SEGMENTS or sk.sk_no_check_tx:
        return -EINVAL
    if skb.len > size:
        skb.gso_size = size
        skb.gso_segs = -(-skb.len // size)
        skb.gso_type = SKB_GSO_UDP_L4
    return 0


def udp_send_skb(sk: UdpSock, skb: SkBuff, fl4: Flowi4) -> int:
    """Put the UDP header before a datagram's payload and hand it to IP."""
    net = sk.sk_net
    length = skb.len + UDP_HLEN
    dst = skb.dst
    assert dst is not None
    sport: int = sk.inet_sport
    dport = fl4.fl4_dport
    plan = cast(ip_output.IpHeaderPlan, skb.cb)
    if plan.gso_size:
        err = udp_set_gso(sk, skb, plan)
        if err:
            consume_skb(skb)
            return err
    if sk.sk_no_check_tx:
        skb_push(skb, be.pack_udp(sport, dport, length, 0))
    elif skb.gso_size or (plan.partial and dst.dev.features & NETIF_F_HW_CSUM and length + 20 <= dst.mtu()):
        # udp4_hwcsum: the field holds the pseudo-header's sum, who needs the rest adds it.
        pseudo = checksum.csum_fold(checksum.csum_tcpudp_nofold(fl4.saddr, fl4.daddr, length, IPPROTO_UDP, 0)) ^ 0xFFFF
        skb_push(skb, be.pack_udp(sport, dport, length, pseudo))
        skb.ip_summed = CHECKSUM_PARTIAL
        skb.csum_start = skb.data
        skb.csum_offset = 6
    else:
        total = checksum.csum_pieces(skb_pieces(skb, 0, skb.len), sport + dport + length)
        check = checksum.csum_tcpudp_magic(fl4.saddr, fl4.daddr, length, IPPROTO_UDP, total) or checksum.CSUM_MANGLED_0
        skb_push(skb, be.pack_udp(sport, dport, length, check))
    skb.transport_header = skb.data
    err = ip_output.ip_send_skb(net, skb)
    if err:
        if err == -ENOBUFS and not inet_test_bit(sk, INET_FLAGS_RECVERR):
            net.udp_statistics[UDP_MIB_SNDBUFERRORS] += 1
            err = 0
    else:
        net.udp_statistics[UDP_MIB_OUTDATAGRAMS] += 1
    return err


def udp_push_pending_frames(sk: UdpSock) -> int:
    """Send what is corked."""
    err = 0
    fl4 = ip_output.ip_cork_flow(sk)
    skb = ip_output.ip_finish_skb(sk)
    if skb is not None:
        err = udp_send_skb(sk, skb, fl4)
    sk.corklen = 0
    sk.pending = 0
    return err


def udp_splice_eof(sk: UdpSock) -> None:
    """Nothing follows what sendfile said MSG_MORE about."""
    if not sk.pending or sk.corkflag:
        return
    lock_sock(sk)
    if sk.pending and not sk.corkflag:
        udp_push_pending_frames(sk)
    release_sock(sk)


def udp_flush_pending_frames(sk: UdpSock) -> None:
    """Throw away what is corked."""
    if sk.pending:
        sk.corklen = 0
        sk.pending = 0
        ip_output.ip_flush_pending_frames(sk)


# -- receiving, softirq side -----------------------------------------------------------------------------------------------


class UdpProtocol(NetProtocol):
    """net_hotdata.udp_protocol: IP's way in."""

    def __init__(self, prot: UdpProto) -> None:
        super().__init__()
        self.prot: UdpProto = prot

    def early_demux(self, net: Net, skb: SkBuff) -> None:
        if net.ipv4.sysctl_udp_early_demux:
            udp_v4_early_demux(self.prot, net, skb)

    def handler(self, skb: SkBuff) -> int:
        return udp_rcv(self.prot, skb)

    def err_handler(self, skb: SkBuff, info: int) -> int:
        return udp_err(self.prot, skb, info)


def udp_v4_early_demux(prot: UdpProto, net: Net, skb: SkBuff) -> None:
    """A connected sock remembers its input route, which saves the lookup. Left out: multicast with a single listener."""
    table = prot.table
    dev = skb.dev
    if not table.hash4 or skb.pkt_type != PACKET_HOST or dev is None:
        return
    at = skb.transport_header
    if at + UDP_HLEN > skb.tail:
        return
    head = skb.head
    nh = skb.network_header
    sk = udp_table.udp4_lib_lookup4(
        net,
        table,
        be.get_u32(head, nh + 12),
        be.get_u16(head, at),
        be.get_u32(head, nh + 16),
        be.get_u16(head, at + 2),
        dev.ifindex,
    )
    if sk is None:
        return
    skb.sk = sk  # no charge: the packet goes up to it in this very call
    dst = sk.sk_rx_dst
    if dst is not None and dst.check(0):
        skb.dst = dst


def udp_lib_checksum_complete(skb: SkBuff) -> bool:
    """__udp_lib_checksum_complete: whether the checksum is wrong. What was found right is not summed again."""
    if skb.ip_summed != CHECKSUM_NONE:
        return False
    back = skb.data - skb.transport_header  # 8 once the header is pulled
    ulen = skb.len + back
    saddr = be.get_u32(skb.head, skb.network_header + 12)
    daddr = be.get_u32(skb.head, skb.network_header + 16)
    total = checksum.csum_pieces(skb_pieces(skb, -back, ulen), 0)
    if checksum.csum_tcpudp_magic(saddr, daddr, ulen, IPPROTO_UDP, total):
        return True
    skb.ip_summed = CHECKSUM_COMPLETE  # the sum is known, for IP_CHECKSUM
    return False


def udp_rcv(prot: UdpProto, skb: SkBuff) -> int:
    """__udp4_lib_rcv: `skb.data` is at the UDP header. 0; a packet that nobody wants is dropped here."""
    dev = skb.dev
    assert dev is not None
    net = dev_net(dev)
    # 1. The header.
    if not pskb_may_pull(skb, UDP_HLEN):
        return udp_rcv_drop(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
    head = skb.head
    sport, dport, ulen, check = be.unpack_udp(head, skb.data)
    if ulen > skb.len or ulen < UDP_HLEN:
        return udp_rcv_drop(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
    if ulen < skb.len:
        pskb_trim(skb, ulen)
    skb.transport_header = skb.data
    # 2. udp4_csum_init: what a device or this host vouches for is not summed; what is short is summed now.
    if check == 0 or skb.ip_summed == CHECKSUM_PARTIAL:
        skb.ip_summed = CHECKSUM_UNNECESSARY
    elif skb.ip_summed != CHECKSUM_UNNECESSARY:
        skb.ip_summed = CHECKSUM_NONE
        if ulen <= CHECKSUM_BREAK and udp_lib_checksum_complete(skb):
            return udp_rcv_drop(net, skb, SKB_DROP_REASON_UDP_CSUM)
    # 3. The sock: early demux found it,
    early = skb.sk
    if early is not None:
        skb.sk = None
        early.sk_rx_dst = skb.dst
        udp_queue_rcv_skb(cast(UdpSock, early), skb)
        return 0
    saddr = be.get_u32(head, skb.network_header + 12)
    daddr = be.get_u32(head, skb.network_header + 16)
    # or all that want it get a copy,
    rt = cast("Rtable", skb.dst)
    if rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST):
        return __udp4_lib_mcast_deliver(prot, net, skb, saddr, sport, daddr, dport)
    # or the best one.
    sk = udp_table.__udp4_lib_lookup(net, prot.table, saddr, sport, daddr, dport, rt.rt_iif or skb.skb_iif, skb)
    if sk is not None:
        udp_queue_rcv_skb(sk, skb)
        return 0
    # 4. Nobody. Say so, unless the packet is damaged.
    if udp_lib_checksum_complete(skb):
        return udp_rcv_drop(net, skb, SKB_DROP_REASON_UDP_CSUM)
    net.udp_statistics[UDP_MIB_NOPORTS] += 1
    icmp.icmp_send(skb, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, 0)
    kfree_skb_reason(net, skb, SKB_DROP_REASON_NO_SOCKET)
    return 0


def udp_rcv_drop(net: Net, skb: SkBuff, reason: int) -> int:
    """A damaged datagram: counted, and silently discarded (RFC 1122, 4.1.3.4)."""
    if reason == SKB_DROP_REASON_UDP_CSUM:
        net.udp_statistics[UDP_MIB_CSUMERRORS] += 1
    net.udp_statistics[UDP_MIB_INERRORS] += 1
    kfree_skb_reason(net, skb, reason)
    return 0


def __udp_is_mcast_sock(
    net: Net, sk: UdpSock, loc_port: int, loc_addr: int, rmt_port: int, rmt_addr: int, dif: int
) -> bool:
    return (
        sk.sk_net is net
        and sk.inet_num == loc_port
        and (not sk.inet_daddr or sk.inet_daddr == rmt_addr)
        and (not sk.inet_dport or sk.inet_dport == rmt_port)
        and (not sk.inet_rcv_saddr or sk.inet_rcv_saddr == loc_addr)
        and (not sk.sk_bound_dev_if or sk.sk_bound_dev_if == dif)
        and (not ipv4_is_multicast(loc_addr) or igmp_sock.ip_mc_sf_allow(sk, loc_addr, rmt_addr, dif))
    )


def __udp4_lib_mcast_deliver(prot: UdpProto, net: Net, skb: SkBuff, saddr: int, sport: int, daddr: int, dport: int) -> int:
    """Every sock that wants it gets a copy, the first one the packet itself."""
    dev = skb.dev
    assert dev is not None
    first: UdpSock | None = None
    for sk in prot.table.hash.get(udp_table.udp_hashfn(net, dport), []):
        if not __udp_is_mcast_sock(net, sk, dport, daddr, sport, saddr, dev.ifindex):
            continue
        if first is None:
            first = sk
        else:
            udp_queue_rcv_skb(sk, skb_clone(skb))
    if first is not None:
        udp_queue_rcv_skb(first, skb)
        return 0
    net.udp_statistics[UDP_MIB_IGNOREDMULTI] += 1
    kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    return 0


def udp_queue_rcv_skb(sk: UdpSock, skb: SkBuff) -> int:
    """Into the queue of `sk`; a super-packet that the sock did not ask for (udp_unexpected_gso) as the datagrams that it is."""
    if skb.gso_size == 0 or (sk.gro_enabled and skb.gso_type & SKB_GSO_UDP_L4):
        return udp_queue_rcv_one_skb(sk, skb)
    seg = udp_rcv_segment(sk, skb)
    while seg is not None:
        following = seg.next
        seg.next = None
        skb_pull(seg, seg.transport_header)
        seg.ip_summed = CHECKSUM_UNNECESSARY  # udp_post_segment_fix_csum: nobody will fill it in
        udp_queue_rcv_one_skb(sk, seg)
        seg = following
    return 0


def udp_rcv_segment(sk: UdpSock, skb: SkBuff) -> SkBuff | None:
    """The datagrams of a super-packet, `data` at their IP headers; None if it is no right one, dropped and counted."""
    net = sk.sk_net
    segs = skb.gso_segs
    skb.len += skb.data - skb.network_header
    skb.data = skb.network_header
    err, seg = skb_gso_segment(net.kernel, skb)
    if err:
        sk.sk_drops += segs
        net.udp_statistics[UDP_MIB_INERRORS] += segs
        kfree_skb_reason(net, skb, SKB_DROP_REASON_SKB_GSO_SEG)
        return None
    consume_skb(skb)
    return seg


def udp_queue_rcv_one_skb(sk: UdpSock, skb: SkBuff) -> int:
    """Past the filter, into the queue or the bin. `skb.data` is at the UDP header."""
    net = sk.sk_net
    if sk.sk_cold is not None or sk.kernel.security_hooks:
        if sk.sk_cold is not None and sk.sk_cold.sk_filter is not None and udp_lib_checksum_complete(skb):
            sk.sk_drops += 1
            return udp_rcv_drop(net, skb, SKB_DROP_REASON_UDP_CSUM)
        reason = sk_filter_trim_cap(sk, skb, UDP_HLEN)
        if reason:
            net.udp_statistics[UDP_MIB_INERRORS] += 1
            sk.sk_drops += 1
            return kfree_skb_reason(net, skb, reason)
    skb_pull(skb, UDP_HLEN)  # udp_csum_pull_header
    datagram.ipv4_pktinfo_prepare(sk, skb)
    return __udp_queue_rcv_skb(sk, skb)


def __udp_queue_rcv_skb(sk: UdpSock, skb: SkBuff) -> int:
    """__udp_enqueue_schedule_skb, and what becomes of a packet that finds no room. Linux takes no sock lock here, so neither does
    it matter here whether the sock is owned."""
    net = sk.sk_net
    rmem = sk.sk_rmem_alloc
    if rmem and rmem + skb.truesize > sk.sk_rcvbuf:  # one packet always fits, however small the buffer
        net.udp_statistics[UDP_MIB_RCVBUFERRORS] += 1
        reason = SKB_DROP_REASON_SOCKET_RCVBUFF
    elif not sk_rmem_schedule(sk, skb.truesize):
        net.udp_statistics[UDP_MIB_MEMERRORS] += 1
        reason = SKB_DROP_REASON_PROTO_MEM
    else:
        skb.dev = None  # udp_set_dev_scratch
        if sk.inet_daddr:
            sk.sk_incoming_cpu = 0
        skb_set_owner_r(skb, sk)
        flags = sk.sk_flags
        skb.dropcount = sk.sk_drops if flags >> SOCK_RXQ_OVFL & 1 else 0
        skb_queue_tail(sk.sk_receive_queue, skb)
        if not flags >> SOCK_DEAD & 1:
            sk.sk_data_ready()
        return 0
    net.udp_statistics[UDP_MIB_INERRORS] += 1
    sk.sk_drops += 1
    if sk.kernel.trace.udp_fail_queue_rcv_skb:
        sk.kernel.trace.fire("udp:udp_fail_queue_rcv_skb", {"rc": -reason, "lport": sk.inet_num, "sk": sk})
    return kfree_skb_reason(net, skb, reason)


def udp_err(prot: UdpProto, skb: SkBuff, info: int) -> int:
    """__udp4_lib_err: an ICMP error about a datagram we sent; `skb.data` is at the quoted IP header. 0 or -ENOENT."""
    dev = skb.dev
    assert dev is not None
    net = dev_net(dev)
    head = skb.head
    uh = skb.data + (head[skb.data] & 15) * 4
    type = head[skb.transport_header]
    code = head[skb.transport_header + 1]
    saddr = be.get_u32(head, skb.data + 12)
    daddr = be.get_u32(head, skb.data + 16)
    dest = be.get_u16(head, uh + 2)
    sk = udp_table.__udp4_lib_lookup(net, prot.table, daddr, dest, saddr, be.get_u16(head, uh), dev.ifindex, None)
    if sk is None:
        net.icmp_statistics[ICMP_MIB_INERRORS] += 1
        return -ENOENT
    err = EHOSTUNREACH  # ICMP_TIME_EXCEEDED, and what is unknown
    harderr = False
    if type == ICMP_SOURCE_QUENCH:
        return 0
    if type == ICMP_PARAMETERPROB:
        err = EPROTO
        harderr = True
    elif type == ICMP_DEST_UNREACH:
        if code == ICMP_FRAG_NEEDED:
            route.ipv4_sk_update_pmtu(skb, sk, info)
            if sk.pmtudisc == IP_PMTUDISC_DONT:
                return 0
            err = EMSGSIZE
            harderr = True
        elif code <= NR_ICMP_UNREACH:
            err, harderr = icmp.icmp_err_convert(code)
    elif type == ICMP_REDIRECT:
        route.ipv4_sk_redirect(skb, sk)
        return 0
    # RFC 1122, 4.1.3.3: pass it on to the program. Linux tells hard errors to connected socks, all to those that ask.
    if inet_test_bit(sk, INET_FLAGS_RECVERR):
        ip_sockglue.ip_icmp_error(sk, skb, err, dest, info, uh + UDP_HLEN)
    elif not harderr or sk.sk_state != TCP_ESTABLISHED:
        return 0
    sk.sk_err = err
    sk_error_report(sk)
    return 0


# -- receiving, system call side -------------------------------------------------------------------------------------------


def udp_drop_bad(sk: UdpSock, skb: SkBuff) -> None:
    """A datagram of the queue turned out to be damaged."""
    skb_unlink(sk.sk_receive_queue, skb)
    sk.sk_drops += 1
    udp_rcv_drop(sk.sk_net, skb, SKB_DROP_REASON_UDP_CSUM)


def first_packet_length(sk: UdpSock) -> int:
    """The length of the first datagram that is not damaged, -1 if there is none; those before it are dropped."""
    while True:
        skb = sk.sk_receive_queue.head
        if skb is None:
            return -1
        if not udp_lib_checksum_complete(skb):
            return skb.len
        udp_drop_bad(sk, skb)


def udp_recvmsg(sk: UdpSock, msg: MsgHdr, size: int, flags: int) -> int:
    """One datagram: bytes copied (its whole length with MSG_TRUNC), -errno or -EIOCBQUEUED."""
    if flags & MSG_ERRQUEUE:
        return ip_sockglue.ip_recv_error(sk, msg, size)
    peeking = flags & MSG_PEEK
    while True:
        err, skb, off = __skb_recv_datagram(sk, sk.sk_receive_queue, flags, sk_peek_offset(sk, flags), msg)
        if skb is None:
            return err
        if skb.ip_summed != CHECKSUM_NONE:
            break
        if not udp_lib_checksum_complete(skb):
            # Summed while it is copied as a whole, or for somebody who peeks: nobody remembers the sum.
            if peeking:
                skb.ip_summed = CHECKSUM_NONE
            elif size >= skb.len:
                skb.ip_summed = CHECKSUM_UNNECESSARY
            break
        # Damaged: as if it had never come.
        if peeking:
            skb_unlink(sk.sk_receive_queue, skb)
        sk.sk_drops += 1
        udp_rcv_drop(sk.sk_net, skb, SKB_DROP_REASON_UDP_CSUM)
    ulen = skb.len
    copied = size
    if copied > ulen - off:
        copied = ulen - off
    elif copied < ulen:
        msg.msg_flags |= MSG_TRUNC
    skb_copy_datagram_msg(skb, off, msg, copied)
    if not peeking:
        sk.sk_net.udp_statistics[UDP_MIB_INDATAGRAMS] += 1
    sock_recv_cmsgs(msg, sk, skb)
    msg.msg_name = pack_sockaddr_in(be.get_u32(skb.head, skb.network_header + 12), be.get_u16(skb.head, skb.transport_header))
    if skb.gso_size and sk.gro_enabled:
        put_cmsg(msg, SOL_UDP, UDP_GRO, pack_s32(skb.gso_size))  # udp_cmsg_recv
    if sk.inet_flags & ip_sockglue.IP_CMSG_ALL:
        ip_sockglue.ip_cmsg_recv_offset(msg, sk, skb, UDP_HLEN, off)
    ret = ulen if flags & MSG_TRUNC else copied
    # skb_consume_udp
    sk_peek_offset_bwd(sk, -ret if peeking else ret)
    if not peeking:
        skb_free_datagram(sk, skb)
    return ret


def udp_poll(file: File | None, sock: Socket) -> int:
    """datagram_poll, except that a reader who would block is not told of a damaged datagram."""
    sk = cast(UdpSock, sock.sk)
    mask = datagram_poll(sk, sk.sk_receive_queue)
    if (
        mask & EPOLLRDNORM
        and not (file is not None and file.f_flags & O_NONBLOCK)
        and not sk.sk_shutdown & RCV_SHUTDOWN
        and first_packet_length(sk) == -1
    ):
        mask &= ~(EPOLLIN | EPOLLRDNORM)
    return mask


# -- udp_prot --------------------------------------------------------------------------------------------------------------


class UdpProto(UdpTableProto):
    """udp_prot."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "UDP")
        self.obj_size = 1152  # sizeof(struct udp_sock) on x86-64

    def sk_prot_alloc(self, net: Net, family: int) -> Sock:
        return UdpSock(net, family, self)

    def init(self, sk: Sock) -> int:
        """udp_init_sock."""
        if self.sysctl_mem is None:
            init_net = self.kernel.init_net
            self.sysctl_mem = (sk.sk_net if init_net is None else init_net).ipv4.sysctl_udp_mem  # one for all namespaces
        return 0

    def destroy(self, sk: Sock) -> None:
        """udp_destroy_sock."""
        udp = cast(UdpSock, sk)
        lock_sock(udp)
        sock_set_flag(udp, SOCK_DEAD)  # against udp_abort
        udp_flush_pending_frames(udp)
        udp_set_gro(udp, False)
        release_sock(udp)

    def pre_connect(self, sk: Sock, uaddr: bytes) -> int:
        """udp_pre_connect runs the BPF programs of the cgroup, of which there are none; and only then looks at the length here,
        before the sock is given a port."""
        return 0

    def connect(self, sk: Sock, uaddr: bytes) -> int:
        return udp_connect(cast(UdpSock, sk), uaddr)

    def disconnect(self, sk: Sock, flags: int) -> int:
        udp_disconnect(cast(UdpSock, sk))
        return 0

    def ioctl(self, sk: Sock, cmd: int, arg: bytes) -> tuple[int, bytes]:
        """udp_ioctl."""
        if cmd == SIOCOUTQ:
            return 0, pack_s32(sk_wmem_alloc_get(sk))
        if cmd == SIOCINQ:
            return 0, pack_s32(max(0, first_packet_length(cast(UdpSock, sk))))
        return -ENOIOCTLCMD, b""

    def release_cb(self, sk: Sock) -> None:
        datagram.ip4_datagram_release_cb(sk)

    def setsockopt(self, sk: Sock, level: int, optname: int, optval: bytes) -> int:
        """udp_setsockopt, udp_lib_setsockopt."""
        udp = cast(UdpSock, sk)
        if level != SOL_UDP:
            return ip_sockglue.ip_setsockopt(udp, level, optname, optval)
        if len(optval) < SIZEOF_INT:
            return -EINVAL
        value = get_s32(optval, 0)
        if optname == UDP_SEGMENT:
            if not 0 <= value <= 0xFFFF:
                return -EINVAL
            udp.gso_size = value
        elif optname == UDP_GRO:
            udp_set_gro(udp, value != 0)
        elif optname == UDP_CORK:
            udp.corkflag = value != 0
            if not udp.corkflag:
                lock_sock(udp)
                if udp.pending:
                    udp_push_pending_frames(udp)
                release_sock(udp)
        else:
            return -ENOPROTOOPT
        return 0

    def getsockopt(self, sk: Sock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        """udp_getsockopt, udp_lib_getsockopt."""
        udp = cast(UdpSock, sk)
        if level != SOL_UDP:
            return ip_sockglue.ip_getsockopt(udp, level, optname, optlen)
        if optlen < 0:
            return -EINVAL, b""
        if optname == UDP_CORK:
            value = int(udp.corkflag)
        elif optname == UDP_SEGMENT:
            value = udp.gso_size
        elif optname == UDP_GRO:
            value = int(udp.gro_enabled)
        else:
            return -ENOPROTOOPT, b""
        return 0, pack_s32(value)[:optlen]

    def sendmsg(self, sk: Sock, msg: MsgHdr, size: int) -> int:
        n = udp_sendmsg(cast(UdpSock, sk), msg, size)
        if n >= 0 and msg.msg_flags & MSG_ZEROCOPY and sock_flag(sk, SOCK_ZEROCOPY):
            msg_zerocopy_callback(sk)
        return n

    def splice_eof(self, sk: Sock) -> None:
        udp_splice_eof(cast(UdpSock, sk))

    def recvmsg(self, sk: Sock, msg: MsgHdr, size: int, flags: int) -> int:
        return udp_recvmsg(cast(UdpSock, sk), msg, size, flags)

    def hashed(self, sk: Sock) -> bool:
        return cast(UdpSock, sk).udp_key >= 0

    def unhash(self, sk: Sock) -> None:
        udp_table.udp_lib_unhash(cast(UdpSock, sk))

    def rehash(self, sk: Sock) -> None:
        udp_table.udp_lib_rehash(cast(UdpSock, sk))

    def get_port(self, sk: Sock, snum: int) -> int:
        return udp_table.udp_v4_get_port(cast(UdpSock, sk), snum)

    def has_get_port(self) -> bool:
        return True

    def put_port(self, sk: Sock) -> None:
        udp_table.udp_lib_unhash(cast(UdpSock, sk))

    def has_memory_pressure(self) -> bool:
        return False

    def sysctl_wmem(self, net: Net) -> list[int]:
        return [net.ipv4.sysctl_udp_wmem_min, net.core.sysctl_wmem_default, net.core.sysctl_wmem_max]

    def sysctl_rmem(self, net: Net) -> list[int]:
        return [net.ipv4.sysctl_udp_rmem_min, net.core.sysctl_rmem_default, net.core.sysctl_rmem_max]

    def diag_destroy(self, sk: SockCommon, err: int) -> int:
        return udp_abort(cast(UdpSock, sk), err)


def udp_set_gro(sk: UdpSock, on: bool) -> None:
    """Whether the sock takes super-packets; the table knows how many do."""
    if on != sk.gro_enabled:
        sk.gro_enabled = on
        udp_get_table_prot(sk).gro_socks += 1 if on else -1


def udp_connect(sk: UdpSock, uaddr: bytes) -> int:
    lock_sock(sk)
    err = datagram.__ip4_datagram_connect(sk, uaddr)
    if err == 0:
        udp_table.udp4_hash4(sk)
    release_sock(sk)
    return err


def udp_disconnect(sk: UdpSock) -> None:
    lock_sock(sk)
    __udp_disconnect(sk)
    release_sock(sk)


def udp_abort(sk: UdpSock, err: int) -> int:
    """End the sock from outside: `err` (positive) is pending, the peer forgotten."""
    lock_sock(sk)
    if not sock_flag(sk, SOCK_DEAD):
        sk.sk_err = err
        sk_error_report(sk)
        __udp_disconnect(sk)
    release_sock(sk)
    return 0


def __udp_disconnect(sk: InetSock) -> None:
    """Forget the peer, the device, and what bind() did not fix. Raw and ping socks use it too: without a port of their own choice
    they are unhashed, and receive nothing any more."""
    sk.sk_state = TCP_CLOSE
    sk.inet_daddr = 0
    sk.inet_dport = 0
    sk.sk_bound_dev_if = 0
    if not sk.sk_userlocks & SOCK_BINDADDR_LOCK:
        sk.inet_rcv_saddr = 0
        sk.inet_saddr = 0
        if sk.sk_userlocks & SOCK_BINDPORT_LOCK:
            sk.sk_prot.rehash(sk)
    if not sk.sk_userlocks & SOCK_BINDPORT_LOCK:
        sk.sk_prot.unhash(sk)
        sk.inet_sport = 0
    sk_dst_reset(sk)


def udp_init(kernel: Kernel) -> None:
    """Nothing to size here: the tables grow (Linux allocates them and sets udp_mem from the machine's memory)."""
