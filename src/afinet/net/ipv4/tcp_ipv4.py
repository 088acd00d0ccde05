"""net/ipv4/tcp_ipv4.c: TCP over IPv4, `tcp_prot`.

Down: tcp_v4_connect (route, source address, source port, initial sequence number) -> tcp_output.tcp_connect. Up: tcp_v4_rcv
(checks, lookup) -> backlog of an owned sock, or tcp_v4_do_rcv -> tcp_rcv_established, tcp_rcv_state_process; a request ->
tcp_check_req -> tcp_child_process; TIME_WAIT -> tcp_timewait_state_process; nobody -> tcp_v4_send_reset. Errors: tcp_v4_err.

What depends on the network protocol hangs on two objects, as in Linux, so that IPv6 can bring its own: Ipv4Specific
(icsk_af_ops) and TcpRequestSockIpv4Ops (tcp_ipv4_reply.py). Left out: MD5 and AO authentication, XFRM, the coalescing of a
backlog (it holds only what comes in during one call of its owner), /proc/net/tcp (tools)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet._mypyc import mypyc_attr
from afinet.net.core import filter, secure_seq
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_NO_SOCKET,
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_OTHERHOST,
    SKB_DROP_REASON_PKT_TOO_SMALL,
    SKB_DROP_REASON_SOCKET_BACKLOG,
    SKB_DROP_REASON_TCP_CSUM,
    SKB_DROP_REASON_TCP_MINTTL,
)
from afinet.net.core.flow import Flowi4
from afinet.net.core.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_UNNECESSARY,
    SkBuff,
    kfree_skb_reason,
    pskb_may_pull,
)
from afinet.net.core.sock import (
    SLAB_TYPESAFE_BY_RCU,
    Proto,
    Sock,
    SockCommon,
    sk_add_backlog,
    sk_error_report,
    sk_free,
    sk_setup_caps,
    sock_owned_by_user,
    sock_put,
)
from afinet.net.ipv4 import (
    af_inet,
    icmp,
    inet_connection_sock,
    inet_hashtables,
    inet_timewait_sock,
    ip_output,
    ip_sockglue,
    route,
    tcp,
    tcp_ack,
    tcp_cong,
    tcp_fragment,
    tcp_input,
    tcp_ipv4_reply,
    tcp_minisocks,
    tcp_output,
    tcp_rcvq,
    tcp_recvmsg,
    tcp_rtt,
    tcp_timer,
)
from afinet.net.ipv4.inet_sock import INET_FLAGS_RECVERR, InetConnectionSock, InetConnectionSockAfOps, inet_test_bit
from afinet.net.ipv4.protocol import NetProtocol, net_of
from afinet.net.ipv4.tcp_inline import (
    MAX_TCP_HEADER,
    TCP_TIMEOUT_INIT,
    TCPF_MTU_REDUCED_DEFERRED,
    inet_csk_rto_backoff,
    tcp_mstamp_refresh,
    tcp_rto_max,
    tcp_rtx_queue_head,
)
from afinet.net.ipv4.tcp_sock import (
    TCPHDR_FIN,
    TcpRequestSock,
    TcpSock,
    TcpTimewaitSock,
    between,
)
from afinet.uapi.errno import EAFNOSUPPORT, EHOSTUNREACH, EINVAL, EMSGSIZE, ENETUNREACH, ENOENT, EPROTO
from afinet.uapi.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    ICMP_HOST_UNREACH,
    ICMP_NET_UNREACH,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    NR_ICMP_UNREACH,
)
from afinet.uapi.if_packet import PACKET_HOST
from afinet.uapi.in_ import IP_PMTUDISC_DONT, IPPROTO_TCP
from afinet.uapi.snmp import (
    ICMP_MIB_INERRORS,
    IPSTATS_MIB_OUTNOROUTES,
    LINUX_MIB_LISTENDROPS,
    LINUX_MIB_LISTENOVERFLOWS,
    LINUX_MIB_LOCKDROPPEDICMPS,
    LINUX_MIB_OUTOFWINDOWICMPS,
    LINUX_MIB_TCPBACKLOGDROP,
    LINUX_MIB_TCPMINTTLDROP,
    TCP_MIB_CSUMERRORS,
    TCP_MIB_INERRS,
    TCP_MIB_INSEGS,
)
from afinet.uapi.sockaddr import SIZEOF_SOCKADDR_IN, sa_family, unpack_sockaddr_in
from afinet.uapi.socket import AF_INET, SOCK_TXREHASH_ENABLED
from afinet.uapi.tcp import (
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    TCP_MSS_DEFAULT,
    TCP_NEW_SYN_RECV,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
)
from afinet.wire import be
from afinet.wire import tcp as wire_tcp
from afinet.wire.checksum import csum_block_add, csum_partial, csum_pieces

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.kernel.wait import Kiocb
    from afinet.net.core.dst import DstEntry
    from afinet.net.core.net_namespace import Net
    from afinet.net.socket import MsgHdr

TCP_TW_SUCCESS: Final = 0
TCP_TW_RST: Final = 1
TCP_TW_ACK: Final = 2
TCP_TW_SYN: Final = 3
TCP_TW_ACK_OOW: Final = 4

RTCF_BROADCAST: Final = 0x10000000
RTCF_MULTICAST: Final = 0x20000000
INET_ECN_MASK: Final = 3
LOOPBACK_IFINDEX: Final = 1

SIZEOF_TCP_SOCK: Final = 2432  # bytes, of Linux 6.18 on x86-64: what a sock is charged (obj_size)


# -- connect ---------------------------------------------------------------------------------------------------------------


def tcp_twsk_unique(sk: SockCommon, tw: TcpTimewaitSock, want_tw: bool) -> bool:
    """Whether a new connection may take the four-tuple of `tw`. With PAWS that is safe, and its sequence numbers begin beyond
    the old ones; still tcp_tw_reuse has to allow it (2: over loopback only) unless the port was bound, where failing would be
    no help."""
    net = sk.sk_net
    reuse = net.ipv4.sysctl_tcp_tw_reuse
    if tw.tw_substate != TCP_TIME_WAIT:
        reuse = 0
    if reuse == 2 and not (tw.sk_bound_dev_if == LOOPBACK_IFINDEX or tw.inet_daddr >> 24 == 127 or tw.inet_rcv_saddr >> 24 == 127):
        reuse = 0
    stamp = tw.tw_ts_recent_stamp
    if not stamp:
        return False
    if want_tw:
        now = net.kernel.now // 1_000_000
        if not reuse or now < tw.tw_entry_stamp + net.ipv4.sysctl_tcp_tw_reuse_delay:
            return False
    tp = cast(TcpSock, sk)
    if not tp.repair:
        tp.write_seq = (tw.tw_snd_nxt + 65535 + 2) & 0xFFFFFFFF or 1
        tp.rx_opt.ts_recent = tw.tw_ts_recent
        tp.rx_opt.ts_recent_stamp = stamp
    return True


def tcp_v4_pre_connect(sk: Sock, uaddr: bytes) -> int:
    """Linux runs a cgroup's BPF program here. 0 or -EINVAL."""
    return -EINVAL if len(uaddr) < SIZEOF_SOCKADDR_IN else 0


def tcp_v4_connect(sk: TcpSock, uaddr: bytes) -> int:
    """Begin a connection to the packed sockaddr `uaddr`: route, addresses, port, numbers, and the SYN. 0 or -errno. The sock is
    owned."""
    if len(uaddr) < SIZEOF_SOCKADDR_IN:
        return -EINVAL
    if sa_family(uaddr) != AF_INET:
        return -EAFNOSUPPORT
    daddr, dport = unpack_sockaddr_in(uaddr)
    nexthop = daddr
    opt = sk.inet_opt
    if opt is not None and opt.srr:
        if not daddr:
            return -EINVAL
        nexthop = opt.faddr
    net = sk.sk_net
    orig_sport = sk.inet_sport
    fl4 = Flowi4()
    err, rt = route.ip_route_connect(fl4, nexthop, sk.inet_saddr, sk.sk_bound_dev_if, IPPROTO_TCP, orig_sport, dport, sk)
    if err or rt is None:
        if err == -ENETUNREACH:
            net.ip_statistics[IPSTATS_MIB_OUTNOROUTES] += 1
        return err
    if rt.rt_flags & (RTCF_MULTICAST | RTCF_BROADCAST):
        return -ENETUNREACH
    if opt is None or not opt.srr:
        daddr = fl4.daddr

    if not sk.inet_saddr:
        inet_hashtables.inet_bhash2_update_saddr(sk, fl4.saddr)
    else:
        sk.inet_rcv_saddr = sk.inet_saddr
    if sk.rx_opt.ts_recent_stamp and sk.inet_daddr != daddr:
        # a second connect() of the same sock, to another host
        sk.rx_opt.ts_recent = 0
        sk.rx_opt.ts_recent_stamp = 0
        if not sk.repair:
            sk.write_seq = 0
    sk.inet_dport = dport
    sk.inet_daddr = daddr
    sk.icsk_ext_hdr_len = opt.optlen if opt is not None else 0
    sk.rx_opt.mss_clamp = TCP_MSS_DEFAULT

    # The sock's identity is still unknown (its port may be 0), but it is in SYN_SENT while it is being hashed.
    tcp.tcp_set_state(sk, TCP_SYN_SENT)
    err = inet_hashtables.inet_hash_connect(sk)
    if err == 0:
        sk_set_txhash(sk)
        err, rt = route.ip_route_newports(fl4, rt, orig_sport, dport, sk.inet_sport, sk.inet_dport, sk)
    if err or rt is None:
        return _connect_failed(sk, err)
    # The route is the sock's from here on.
    sk_setup_caps(sk, rt)
    if not sk.repair:
        if not sk.write_seq:
            sk.write_seq = secure_seq.secure_tcp_seq(net, sk.inet_saddr, sk.inet_daddr, sk.inet_sport, dport)
        sk.tsoffset = secure_seq.secure_tcp_ts_off(net, sk.inet_saddr, sk.inet_daddr)
    sk.inet_id = sk.kernel.random("ipid").get_random_u32() & 0xFFFF
    err = tcp_output.tcp_connect(sk)
    if err:
        return _connect_failed(sk, err)
    return 0


def _connect_failed(sk: TcpSock, err: int) -> int:
    """Unhash the sock and give the port back, so that nothing of the attempt stays."""
    tcp.tcp_set_state(sk, TCP_CLOSE)
    inet_hashtables.inet_bhash2_reset_saddr(sk)
    sk.inet_dport = 0
    return err


def sk_set_txhash(sk: Sock) -> None:
    """A random hash for the flow, by which queues and paths are chosen."""
    sk.sk_txhash = sk.kernel.random("txhash").get_random_u32() or 1


def sk_rethink_txhash(sk: Sock) -> bool:
    """The path may be at fault: another hash, if the sock is to try others (SO_TXREHASH)."""
    if sk.sk_txhash and sk.sk_txrehash == SOCK_TXREHASH_ENABLED:
        sk_set_txhash(sk)
        return True
    return False


# -- errors ----------------------------------------------------------------------------------------------------------------


def tcp_v4_mtu_reduced(sk: TcpSock) -> None:
    """The path takes less than it did (`mtu_info`)."""
    if sk.sk_state == TCP_LISTEN or sk.sk_state == TCP_CLOSE:
        return
    mtu: int = sk.mtu_info
    dst = inet_connection_sock.inet_csk_update_pmtu(sk, mtu)
    if dst is None:
        return
    # Something is about to go wrong; remember it, should the connection not recover.
    if mtu < dst.mtu() and ip_output.ip_dont_fragment(sk, dst):
        sk.sk_err_soft = EMSGSIZE
    mtu = dst.mtu()
    if sk.pmtudisc != IP_PMTUDISC_DONT and ip_output.ip_sk_accept_pmtu(sk) and sk.icsk_pmtu_cookie > mtu:
        tcp_fragment.tcp_sync_mss(sk, mtu)
        # The packet that was too long is lost for certain: send it again now, in pieces that fit.
        tcp_ack.tcp_simple_retransmit(sk)


def do_redirect(skb: SkBuff, sk: TcpSock) -> None:
    dst = sk.sk_dst_cache
    if dst is not None and (not dst.obsolete or dst.check(0)):
        dst.redirect(sk, skb)


def tcp_req_err(req: TcpRequestSock, seq: int, abort: bool) -> None:
    """An error about the SYN-ACK of a request."""
    if seq != req.snt_isn:
        req.sk_net.net_statistics[LINUX_MIB_OUTOFWINDOWICMPS] += 1
    elif abort:
        # Still SYN_RECV to the peer: forget it silently.
        listener = req.rsk_listener
        if listener is not None:
            inet_connection_sock.inet_csk_reqsk_queue_drop(listener, req)
            tcp_listendrop(listener)


def tcp_ld_RTO_revert(sk: TcpSock, seq: int) -> None:
    """RFC 6069: a destination unreachable about the oldest segment says that the silence is not congestion: undo one
    backoff."""
    if sock_owned_by_user(sk):
        return
    if seq != sk.snd_una or not sk.icsk_retransmits or not sk.icsk_backoff:
        return
    skb = tcp_rtx_queue_head(sk)
    if skb is None:
        return
    sk.icsk_backoff -= 1
    if sk.srtt_us:
        tcp_rtt.tcp_set_rto(sk)
    else:
        sk.icsk_rto = TCP_TIMEOUT_INIT
    sk.icsk_rto = inet_csk_rto_backoff(sk, tcp_rto_max(sk))
    tcp_mstamp_refresh(sk)
    remaining = sk.icsk_rto - (sk.tcp_mstamp - skb.tstamp)
    if remaining > 0:
        tcp_timer.inet_csk_reset_xmit_timer(sk, 1, remaining)  # ICSK_TIME_RETRANS
    else:
        tcp_timer.tcp_retransmit_timer(sk)


def tcp_v4_err(skb: SkBuff, info: int) -> int:
    """An ICMP error about a segment of ours; `skb.data` is at the quoted IP header. 0 or -ENOENT when the quote is nobody's."""
    net = net_of(skb)
    head = skb.head
    iph = skb.data
    if skb.tail < iph + 20:
        return -ENOENT
    th = iph + ((head[iph] & 15) << 2)
    if skb.tail < th + 8:
        return -ENOENT
    type = head[skb.transport_header]
    code = head[skb.transport_header + 1]
    saddr = be.get_u32(head, iph + 12)
    daddr = be.get_u32(head, iph + 16)
    found = inet_hashtables.__inet_lookup_established(
        net, hashinfo(net), daddr, be.get_u16(head, th + 2), saddr, be.get_u16(head, th), skb.skb_iif
    )
    if found is None:
        net.icmp_statistics[ICMP_MIB_INERRORS] += 1
        return -ENOENT
    if found.sk_state == TCP_TIME_WAIT:
        return 0
    seq = be.get_u32(head, th + 4)
    if found.sk_state == TCP_NEW_SYN_RECV:
        abort = (
            type == ICMP_PARAMETERPROB
            or type == ICMP_TIME_EXCEEDED
            or (type == ICMP_DEST_UNREACH and (code == ICMP_NET_UNREACH or code == ICMP_HOST_UNREACH))
        )
        tcp_req_err(cast(TcpRequestSock, found), seq, abort)
        return 0
    sk = cast(TcpSock, found)
    owned = sock_owned_by_user(sk)
    # A locally made fragmentation-needed may well meet the sock owned: it is remembered.
    if owned and not (type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED):
        net.net_statistics[LINUX_MIB_LOCKDROPPEDICMPS] += 1
    if sk.sk_state == TCP_CLOSE:
        return 0
    if head[iph + 8] < sk.min_ttl:
        net.net_statistics[LINUX_MIB_TCPMINTTLDROP] += 1
        return 0
    # RFC 5927: only a quote of what is in flight is believed.
    if sk.sk_state != TCP_LISTEN and not between(seq, sk.snd_una, sk.snd_nxt):
        net.net_statistics[LINUX_MIB_OUTOFWINDOWICMPS] += 1
        return 0
    sk.sk_refcnt += 1
    _tcp_v4_err(sk, skb, th, type, code, seq, info, owned)
    sock_put(sk)
    return 0


def _tcp_v4_err(sk: TcpSock, skb: SkBuff, th: int, type: int, code: int, seq: int, info: int, owned: bool) -> None:
    """What the error does to the connection that it is about."""
    if type == ICMP_REDIRECT:
        if not owned:
            do_redirect(skb, sk)
        return
    if type == ICMP_SOURCE_QUENCH:  # RFC 6633: ignored
        return
    if type == ICMP_PARAMETERPROB:
        err = EPROTO
    elif type == ICMP_DEST_UNREACH:
        if code > NR_ICMP_UNREACH:
            return
        if code == ICMP_FRAG_NEEDED:  # RFC 1191
            # Listeners do not care: a SYN-ACK is short enough for any path.
            if sk.sk_state == TCP_LISTEN:
                return
            sk.mtu_info = info
            if not owned:
                tcp_v4_mtu_reduced(sk)
            elif not sk.tsq_flags & TCPF_MTU_REDUCED_DEFERRED:
                sk.tsq_flags |= TCPF_MTU_REDUCED_DEFERRED
                sk.sk_refcnt += 1
            return
        err = icmp.icmp_err_convert(code)[0]
        if code == ICMP_NET_UNREACH or code == ICMP_HOST_UNREACH:
            tcp_ld_RTO_revert(sk, seq)
    elif type == ICMP_TIME_EXCEEDED:
        err = EHOSTUNREACH
    else:
        return
    if sk.sk_state == TCP_SYN_SENT or sk.sk_state == TCP_SYN_RECV:
        # The queue of errors tells more than the errno; while connecting, IP_RECVERR is not asked for.
        ip_sockglue.ip_icmp_error(sk, skb, err, be.get_u16(skb.head, th + 2), info, th)
        if not owned:
            tcp.tcp_done_with_error(sk, err)
        else:
            sk.sk_err_soft = err
        return
    # A connection that stands is not ended by an error (RFC 1122, 4.2.3.9: soft errors); it is told if the connection fails
    # later, or at once if the program asked for it.
    if not owned and inet_test_bit(sk, INET_FLAGS_RECVERR):
        sk.sk_err = err
        sk_error_report(sk)
    else:
        sk.sk_err_soft = err


# -- requests -----------------------------------------------------------------------------------------------------------


def tcp_listendrop(sk: Sock) -> None:
    """A SYN or an ACK was dropped at a listener."""
    sk.sk_drops += 1
    sk.sk_net.net_statistics[LINUX_MIB_LISTENDROPS] += 1


def tcp_v4_conn_request(sk: TcpSock, skb: SkBuff) -> int:
    """A SYN for a listener. 0: it was dealt with."""
    # Never answer a SYN to broadcast or multicast.
    dst = skb.dst
    if dst is not None and cast("route.Rtable", dst).rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST):
        tcp_listendrop(sk)
        return 0
    prot = tcp_prot_of(sk)
    return tcp_input.tcp_conn_request(prot.request_sock_ops, prot.request_sock_ipv4_ops, sk, skb)


def tcp_v4_syn_recv_sock(
    sk: TcpSock, skb: SkBuff, req: TcpRequestSock, dst: DstEntry | None, req_unhash: TcpRequestSock | None
) -> tuple[TcpSock | None, bool]:
    """The three-way handshake is done: make the full sock. (sock or None, whether it owns the request's place in ehash)."""
    net = sk.sk_net
    if inet_connection_sock.sk_acceptq_is_full(sk):
        net.net_statistics[LINUX_MIB_LISTENOVERFLOWS] += 1
        tcp_listendrop(sk)
        return None, False
    newsk = tcp_minisocks.tcp_create_openreq_child(sk, req, skb)
    inet_sk_rx_dst_set(newsk, skb)
    iph = skb.network_header
    newsk.inet_opt = req.ireq_opt
    newsk.mc_index = skb.skb_iif
    newsk.mc_ttl = skb.head[iph + 8]
    newsk.rcv_tos = skb.head[iph + 1]
    newsk.icsk_ext_hdr_len = req.ireq_opt.optlen if req.ireq_opt is not None else 0
    newsk.inet_id = sk.kernel.random("ipid").get_random_u32() & 0xFFFF
    if net.ipv4.sysctl_tcp_reflect_tos:
        newsk.tos = req.syn_tos & ~INET_ECN_MASK
    if dst is None:
        dst = inet_connection_sock.inet_csk_route_child_sock(sk, newsk, req)
    if dst is None or _syn_recv_bind(sk, newsk, dst):
        newsk.inet_opt = None
        inet_connection_sock.inet_csk_prepare_forced_close(newsk)
        tcp.tcp_done(newsk)
        tcp_listendrop(sk)
        return None, False
    own_req = inet_hashtables.inet_ehash_nolisten(newsk, req_unhash)
    if own_req:
        tcp.tcp_move_syn(newsk, req)
        req.ireq_opt = None
    else:
        newsk.inet_opt = None
    return newsk, own_req


def _syn_recv_bind(sk: TcpSock, newsk: TcpSock, dst: DstEntry) -> int:
    """Give the child its route, its MSS and its listener's port. 0 or -errno."""
    sk_setup_caps(newsk, dst)
    tcp_minisocks.tcp_ca_openreq_child(newsk, dst)
    tcp_fragment.tcp_sync_mss(newsk, dst.mtu())
    newsk.advmss = tcp_fragment.tcp_mss_clamp(sk, dst.advmss())
    tcp_rcvq.tcp_initialize_rcv_mss(newsk)
    return inet_hashtables.__inet_inherit_port(sk, newsk)


# -- receiving -------------------------------------------------------------------------------------------------------------


class TcpProtocol(NetProtocol):
    """tcp_protocol: TCP's entry in inet_protos."""

    def __init__(self) -> None:
        super().__init__(True, True)

    def early_demux(self, net: Net, skb: SkBuff) -> None:
        if net.ipv4.sysctl_tcp_early_demux:
            tcp_v4_early_demux(net, skb)

    def handler(self, skb: SkBuff) -> int:
        return tcp_v4_rcv(skb)

    def err_handler(self, skb: SkBuff, info: int) -> int:
        return tcp_v4_err(skb, info)


def hashinfo(net: Net) -> inet_hashtables.InetHashinfo:
    hinfo = net.kernel.inet_hashinfo
    assert hinfo is not None
    return hinfo


def inet_sk_rx_dst_set(sk: Sock, skb: SkBuff) -> None:
    """Remember the input route, for the segments to come."""
    dst = skb.dst
    if dst is not None:
        sk.sk_rx_dst = dst
        sk.sk_rx_dst_ifindex = skb.skb_iif


def tcp_v4_early_demux(net: Net, skb: SkBuff) -> None:
    """Before the route of a packet is looked up: the connection that it belongs to knows it."""
    if skb.pkt_type != PACKET_HOST:
        return
    th = skb.transport_header
    if skb.tail - th < 20:
        return
    head = skb.head
    saddr, daddr, ports = be.unpack_u32x3(head, skb.network_header + 12)
    if th - skb.network_header != 20:
        ports = be.get_u32(head, th)
    hinfo = net.kernel.inet_hashinfo
    assert hinfo is not None
    sk = inet_hashtables.__inet_lookup_established(net, hinfo, saddr, ports >> 16, daddr, ports & 0xFFFF, skb.skb_iif)
    if sk is None or sk.sk_state == TCP_TIME_WAIT or sk.sk_state == TCP_NEW_SYN_RECV:
        return
    full = cast(Sock, sk)
    skb.sk = full  # no reference: the packet and the sock are looked at within this softirq
    dst = full.sk_rx_dst
    if dst is not None and full.sk_rx_dst_ifindex == skb.skb_iif and (not dst.obsolete or dst.check(0)):
        skb.dst = dst


def tcp_v4_csum_ok(skb: SkBuff, saddr: int, daddr: int) -> bool:
    """Verify the checksum of a segment, `skb.data` at its header."""
    head = skb.head
    data = skb.data
    tail = skb.tail
    sum = csum_partial(head, data, tail, saddr + daddr + skb.len + IPPROTO_TCP)
    frags = skb.frags
    if frags is not None:
        sum = csum_block_add(sum, csum_partial_pieces(frags), tail - data)
    while sum > 0xFFFF:
        sum = (sum & 0xFFFF) + (sum >> 16)
    return sum == 0xFFFF


def csum_partial_pieces(pieces: list[bytes]) -> int:
    """The folded sum of the pieces, for csum_block_add."""
    sum = csum_pieces(pieces, 0)
    while sum > 0xFFFF:
        sum = (sum & 0xFFFF) + (sum >> 16)
    return sum


def tcp_filter(sk: Sock, skb: SkBuff) -> int:
    """A drop reason of the hooks or the socket's filter, or 0. The filter may cut payload off: the segment is then as if it had
    come so, and the peer will send the rest again."""
    doff = skb.head[skb.data + 12] >> 4
    before = skb.len
    reason = filter.sk_filter_trim_cap(sk, skb, doff * 4)
    if skb.len < before:
        skb.end_seq = (skb.end_seq - (before - skb.len)) & 0xFFFFFFFF
    return reason


def tcp_add_backlog(sk: TcpSock, skb: SkBuff) -> bool:
    """Queue behind the owner. True: there is no room, the caller drops. A little more than the receive buffer is let in, since
    only the owner can make room there."""
    if sk_add_backlog(sk, skb, (sk.sk_rcvbuf << 1) + (sk.sk_sndbuf >> 1) + 64 * 1024):
        sk.sk_net.net_statistics[LINUX_MIB_TCPBACKLOGDROP] += 1
        return True
    return False


def tcp_v4_rcv(skb: SkBuff) -> int:
    """A segment for this host: `skb.data` at the TCP header. Always 0; the skb is gone."""
    net = net_of(skb)
    if skb.pkt_type != PACKET_HOST:
        kfree_skb_reason(net, skb, SKB_DROP_REASON_OTHERHOST)
        return 0
    stats = net.tcp_statistics
    # Counted even if it is bad.
    stats[TCP_MIB_INSEGS] += 1
    if skb.len - skb.data_len < 20 and not pskb_may_pull(skb, 20):
        kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        return 0
    head = skb.head
    sport, dport, seq, ack_seq, doff_flags, _window, _check, _urg = wire_tcp.parse(head, skb.data)
    hlen = doff_flags >> 12 << 2
    if hlen < 20:
        stats[TCP_MIB_INERRS] += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        return 0
    if skb.len - skb.data_len < hlen:
        if not pskb_may_pull(skb, hlen):
            kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
            return 0
        head = skb.head
    skb.transport_header = skb.data
    iph = skb.network_header
    saddr, daddr, _ = be.unpack_u32x3(head, iph + 12)
    if skb.ip_summed == CHECKSUM_NONE:
        if not tcp_v4_csum_ok(skb, saddr, daddr):
            stats[TCP_MIB_CSUMERRORS] += 1
            stats[TCP_MIB_INERRS] += 1
            kfree_skb_reason(net, skb, SKB_DROP_REASON_TCP_CSUM)
            return 0
        skb.ip_summed = CHECKSUM_UNNECESSARY

    # tcp_v4_fill_cb
    flags = doff_flags & 0x1FF
    skb.seq = seq
    skb.end_seq = (seq + (flags & TCPHDR_FIN) + (flags >> 1 & 1) + skb.len - hlen) & 0xFFFFFFFF
    skb.ack_seq = ack_seq
    skb.tcp_flags = flags
    skb.sacked = 0

    found: SockCommon | None = skb.sk
    if found is not None:
        skb.sk = None  # early demux found it
    else:
        hinfo = net.kernel.inet_hashinfo
        assert hinfo is not None
        found = inet_hashtables.__inet_lookup_established(net, hinfo, saddr, sport, daddr, dport, skb.skb_iif)
        if found is None:
            found = inet_hashtables.__inet_lookup_listener(net, hinfo, saddr, sport, daddr, dport, skb.skb_iif, skb)
            if found is None:
                tcp_ipv4_reply.tcp_v4_send_reset(None, skb)
                kfree_skb_reason(net, skb, SKB_DROP_REASON_NO_SOCKET)
                return 0
        state = found.sk_state
        if state == TCP_TIME_WAIT:
            found = tcp_v4_rcv_time_wait(net, skb, inet_timewait_sock.inet_twsk(found), saddr, sport, daddr, dport)
            if found is None:
                return 0
        elif state == TCP_NEW_SYN_RECV:
            found = tcp_v4_rcv_new_syn_recv(net, skb, cast(TcpRequestSock, found))
            if found is None:
                return 0
    sk = cast(TcpSock, found)
    if head[iph + 8] < sk.min_ttl:
        net.net_statistics[LINUX_MIB_TCPMINTTLDROP] += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_TCP_MINTTL)
        return 0
    if sk.sk_cold is not None or net.kernel.security_hooks:
        reason = tcp_filter(sk, skb)
        if reason:
            sk.sk_drops += 1
            kfree_skb_reason(net, skb, reason)
            return 0
    # Nothing here may free the sock under its own feet.
    sk.sk_refcnt += 1
    if sk.sk_state == TCP_LISTEN:
        tcp_v4_do_rcv(sk, skb)
        tcp_prot_of(sk).tcp_tw_isn = 0  # it was for this SYN, even if nothing became of it
    else:
        sk.sk_incoming_cpu = 0  # sk_incoming_cpu_update
        # tcp_segs_in
        segs = skb.gso_segs or 1
        sk.segs_in += segs
        if skb.len > hlen:
            sk.data_segs_in += segs
        if not sk.sk_lock_owned:
            tcp_v4_do_rcv(sk, skb)
        elif tcp_add_backlog(sk, skb):
            kfree_skb_reason(net, skb, SKB_DROP_REASON_SOCKET_BACKLOG)
    refcnt = sk.sk_refcnt - 1
    sk.sk_refcnt = refcnt
    if refcnt == 0:
        sk_free(sk)
    return 0


def tcp_v4_rcv_new_syn_recv(net: Net, skb: SkBuff, req: TcpRequestSock) -> SockCommon | None:
    """A segment of a connection being set up. The listener, if that has to deal with it, else None: it was dealt with."""
    listener = req.rsk_listener
    if listener is None or listener.sk_state != TCP_LISTEN:
        inet_connection_sock.inet_csk_reqsk_queue_drop(listener, req)
        # Look again: nobody has the four-tuple now. Another listener may have the port.
        iph = skb.network_header
        head = skb.head
        ports = be.get_u32(head, skb.transport_header)
        saddr, daddr, _ = be.unpack_u32x3(head, iph + 12)
        again = inet_hashtables.__inet_lookup(net, hashinfo(net), saddr, ports >> 16, daddr, ports & 0xFFFF, skb.skb_iif, skb)
        if again is None:
            tcp_ipv4_reply.tcp_v4_send_reset(None, skb)
            kfree_skb_reason(net, skb, SKB_DROP_REASON_NO_SOCKET)
        return again
    sk = cast(TcpSock, listener)
    if sk.sk_cold is not None or net.kernel.security_hooks:
        reason = tcp_filter(sk, skb)
        if reason:
            sk.sk_drops += 1
            kfree_skb_reason(net, skb, reason)
            return None
    sk.sk_refcnt += 1
    req.sk_refcnt += 1
    nsk, reason = tcp_minisocks.tcp_check_req(sk, skb, req, False)
    if nsk is None:
        inet_connection_sock.reqsk_put(req)
        kfree_skb_reason(net, skb, reason or SKB_DROP_REASON_NOT_SPECIFIED)
        sk.sk_drops += 1
        sock_put(sk)
        return None
    if nsk is sk:
        inet_connection_sock.reqsk_put(req)
        sock_put(sk)
        return sk
    # the reference taken above is the accept queue's now
    reason = tcp_minisocks.tcp_child_process(sk, nsk, skb)
    if reason:
        tcp_ipv4_reply.tcp_v4_send_reset(nsk, skb)
        kfree_skb_reason(net, skb, reason)
    sock_put(sk)
    return None


def tcp_v4_rcv_time_wait(
    net: Net, skb: SkBuff, tw: TcpTimewaitSock, saddr: int, sport: int, daddr: int, dport: int
) -> SockCommon | None:
    """A segment of a closed connection. The listener that a new SYN is for, else None: it was dealt with."""
    tw.sk_refcnt += 1
    status, isn, reason = tcp_minisocks.tcp_timewait_state_process(tw, skb)
    listener: Sock | None = None
    if status == TCP_TW_SYN:
        listener = inet_hashtables.inet_lookup_listener(net, hashinfo(net), saddr, sport, daddr, dport, skb.skb_iif, skb)
        if listener is not None:
            inet_timewait_sock.inet_twsk_deschedule_put(tw)
            tcp_prot_of(listener).tcp_tw_isn = isn
        else:
            status = TCP_TW_ACK
    if status == TCP_TW_ACK or status == TCP_TW_ACK_OOW:
        tcp_ipv4_reply.tcp_v4_timewait_ack(tw, skb, status == TCP_TW_ACK_OOW)
    elif status == TCP_TW_RST:
        tcp_ipv4_reply.tcp_v4_send_reset(tw, skb)
        inet_timewait_sock.inet_twsk_deschedule_put(tw)
    inet_timewait_sock.inet_twsk_put(tw)
    if listener is None:
        kfree_skb_reason(net, skb, reason or SKB_DROP_REASON_NOT_SPECIFIED)
    return listener


def tcp_v4_do_rcv(sk: TcpSock, skb: SkBuff) -> int:
    """A segment for a sock that nobody owns, or whose owner works off the backlog. The skb is gone."""
    if sk.sk_state == TCP_ESTABLISHED:
        dst = sk.sk_rx_dst
        if dst is not None and (sk.sk_rx_dst_ifindex != skb.skb_iif or (dst.obsolete and not dst.check(0))):
            sk.sk_rx_dst = None
        tcp_input.tcp_rcv_established(sk, skb)
        return 0
    reason = tcp_input.tcp_rcv_state_process(sk, skb)
    if reason:
        tcp_ipv4_reply.tcp_v4_send_reset(sk, skb)
        kfree_skb_reason(sk.sk_net, skb, reason)
    return 0


# -- icsk_af_ops -----------------------------------------------------------------------------------------------------------


class Ipv4Specific(InetConnectionSockAfOps):
    """ipv4_specific."""

    def __init__(self) -> None:
        super().__init__(20, SIZEOF_SOCKADDR_IN)

    def queue_xmit(self, sk: InetConnectionSock, skb: SkBuff, fl4: Flowi4 | None) -> int:
        return ip_output.ip_queue_xmit(sk, skb, fl4)

    def rebuild_header(self, sk: InetConnectionSock) -> int:
        return af_inet.inet_sk_rebuild_header(sk)

    def sk_rx_dst_set(self, sk: InetConnectionSock, skb: SkBuff) -> None:
        inet_sk_rx_dst_set(sk, skb)

    def conn_request(self, sk: InetConnectionSock, skb: SkBuff) -> int:
        return tcp_v4_conn_request(cast(TcpSock, sk), skb)

    def syn_recv_sock(
        self, sk: InetConnectionSock, skb: SkBuff, req: TcpRequestSock, dst: DstEntry | None, req_unhash: TcpRequestSock | None
    ) -> tuple[InetConnectionSock | None, bool]:
        return tcp_v4_syn_recv_sock(cast(TcpSock, sk), skb, req, dst, req_unhash)

    def setsockopt(self, sk: InetConnectionSock, level: int, optname: int, optval: bytes) -> int:
        return ip_sockglue.ip_setsockopt(sk, level, optname, optval)

    def getsockopt(self, sk: InetConnectionSock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        return ip_sockglue.ip_getsockopt(sk, level, optname, optlen)

    def mtu_reduced(self, sk: InetConnectionSock) -> None:
        tcp_v4_mtu_reduced(cast(TcpSock, sk))


def tcp_v4_init_sock(sk: TcpSock) -> int:
    """proto.init."""
    tcp.tcp_init_sock(sk)
    sk.icsk_af_ops = tcp_prot_of(sk).ipv4_specific
    return 0


def tcp_v4_destroy_sock(sk: TcpSock) -> None:
    """proto.destroy: what the sock holds, its port last. Called once, by inet_csk_destroy_sock."""
    trace = sk.kernel.trace
    if trace.tcp_destroy_sock:
        trace.fire("tcp:tcp_destroy_sock", {"sk": sk, "sport": sk.inet_sport, "dport": sk.inet_dport, "daddr": sk.inet_daddr})
    tcp_timer.tcp_clear_xmit_timers(sk)
    tcp_cong.tcp_cleanup_congestion_control(sk)
    tcp.tcp_write_queue_purge(sk)
    if sk.out_of_order_queue is not None:
        tcp_rcvq.tcp_ofo_queue_purge(sk)
    if sk.icsk_bind2_hash is not None:
        inet_hashtables.inet_put_port(sk)
    sk.tcp_cold = None
    # Timers hold their sock: without them nothing is in a cycle, and the sock goes with its last reference.
    sk.icsk_retransmit_timer = None
    sk.icsk_delack_timer = None
    sk.sk_keepalive_timer = None
    sk.compressed_ack_timer = None
    sk.sk_rx_dst = None
    sk.sk_prot.sockets_allocated -= 1


# -- tcp_prot --------------------------------------------------------------------------------------------------------------


def tcp_prot(kernel: Kernel) -> TcpProto:
    """The TCP of a Kernel."""
    for prot in kernel.proto_list:
        if isinstance(prot, TcpProto):
            return prot
    raise LookupError("this Kernel has no TCP: inet_init has not run")


def tcp_prot_of(sk: SockCommon) -> TcpProto:
    return cast(TcpProto, sk.sk_prot)


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpProto(Proto):
    """struct proto tcp_prot."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "TCP")
        if kernel.inet_hashinfo is None:
            kernel.inet_hashinfo = inet_hashtables.InetHashinfo()
        self.hashinfo = kernel.inet_hashinfo
        self.max_header = MAX_TCP_HEADER
        self.obj_size = SIZEOF_TCP_SOCK
        self.slab_flags = SLAB_TYPESAFE_BY_RCU
        self.no_autobind = True
        self.sysctl_mem = tcp.tcp_init_mem()
        self.twsk_prot = inet_timewait_sock.TimewaitSockOps()
        self.request_sock_ops: tcp_ipv4_reply.TcpRequestSockOps = tcp_ipv4_reply.TcpRequestSockOps()
        self.rsk_prot = self.request_sock_ops
        self.request_sock_ipv4_ops: tcp_ipv4_reply.TcpRequestSockIpv4Ops = tcp_ipv4_reply.TcpRequestSockIpv4Ops()
        self.ipv4_specific: Ipv4Specific = Ipv4Specific()
        self.tcp_tw_isn: int = 0  # the initial number for the SYN in hand, which reuses a TIME_WAIT sock's four-tuple

    def sk_prot_alloc(self, net: Net, family: int) -> Sock:
        return TcpSock(net, family, self)

    def init(self, sk: Sock) -> int:
        return tcp_v4_init_sock(cast(TcpSock, sk))

    def destroy(self, sk: Sock) -> None:
        tcp_v4_destroy_sock(cast(TcpSock, sk))

    def close(self, sk: Sock, timeout: int, iocb: Kiocb) -> int:
        return tcp.tcp_close(cast(TcpSock, sk), timeout, iocb)

    def pre_connect(self, sk: Sock, uaddr: bytes) -> int:
        return tcp_v4_pre_connect(sk, uaddr)

    def connect(self, sk: Sock, uaddr: bytes) -> int:
        return tcp_v4_connect(cast(TcpSock, sk), uaddr)

    def disconnect(self, sk: Sock, flags: int) -> int:
        return tcp.tcp_disconnect(cast(TcpSock, sk), flags)

    def accept(self, sk: Sock, flags: int, iocb: Kiocb) -> tuple[int, Sock | None]:
        return inet_connection_sock.inet_csk_accept(cast(TcpSock, sk), flags, iocb)

    def ioctl(self, sk: Sock, cmd: int, arg: bytes) -> tuple[int, bytes]:
        return tcp.tcp_ioctl(cast(TcpSock, sk), cmd, arg)

    def shutdown(self, sk: Sock, how: int) -> None:
        tcp.tcp_shutdown(cast(TcpSock, sk), how)

    def setsockopt(self, sk: Sock, level: int, optname: int, optval: bytes) -> int:
        return tcp.tcp_setsockopt(cast(TcpSock, sk), level, optname, optval)

    def getsockopt(self, sk: Sock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        return tcp.tcp_getsockopt(cast(TcpSock, sk), level, optname, optlen)

    def keepalive(self, sk: Sock, valbool: bool) -> None:
        tcp_timer.tcp_set_keepalive(sk, valbool)

    def sendmsg(self, sk: Sock, msg: MsgHdr, size: int) -> int:
        return tcp.tcp_sendmsg(cast(TcpSock, sk), msg, size)

    def splice_eof(self, sk: Sock) -> None:
        tcp.tcp_splice_eof(cast(TcpSock, sk))

    def recvmsg(self, sk: Sock, msg: MsgHdr, size: int, flags: int) -> int:
        return tcp_recvmsg.tcp_recvmsg(cast(TcpSock, sk), msg, size, flags)

    def backlog_rcv(self, sk: Sock, skb: SkBuff) -> int:
        return tcp_v4_do_rcv(cast(TcpSock, sk), skb)

    def release_cb(self, sk: Sock) -> None:
        tcp_output.tcp_release_cb(cast(TcpSock, sk))

    def hash(self, sk: Sock) -> int:
        return inet_hashtables.inet_hash(cast(TcpSock, sk))

    def unhash(self, sk: Sock) -> None:
        inet_hashtables.inet_unhash(cast(TcpSock, sk))

    def get_port(self, sk: Sock, snum: int) -> int:
        return inet_connection_sock.inet_csk_get_port(cast(TcpSock, sk), snum)

    def has_get_port(self) -> bool:
        return True

    def put_port(self, sk: Sock) -> None:
        inet_hashtables.inet_put_port(cast(TcpSock, sk))

    def enter_memory_pressure(self, sk: Sock) -> None:
        tcp.tcp_enter_memory_pressure(sk)

    def leave_memory_pressure(self, sk: Sock) -> None:
        tcp.tcp_leave_memory_pressure(sk)

    def stream_memory_free(self, sk: Sock, wake: int) -> bool:
        return tcp.tcp_stream_memory_free(cast(TcpSock, sk), wake)

    def sysctl_wmem(self, net: Net) -> list[int]:
        return net.ipv4.sysctl_tcp_wmem

    def sysctl_rmem(self, net: Net) -> list[int]:
        return net.ipv4.sysctl_tcp_rmem

    def diag_destroy(self, sk: SockCommon, err: int) -> int:
        return tcp.tcp_abort(sk, err)
