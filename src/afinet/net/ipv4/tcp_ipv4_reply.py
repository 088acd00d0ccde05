"""net/ipv4/tcp_ipv4.c, its part without a full sock: RST, the ACKs of requests and of TIME_WAIT, SYN-ACKs, and making requests.

tcp_v4_send_reset answers what fits nothing; tcp_v4_send_ack speaks for the small socks. TcpRequestSockOps is tcp_prot's
rsk_prot; TcpRequestSockIpv4Ops is what tcp_conn_request (tcp_input.c) asks about a SYN. """

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet._mypyc import mypyc_attr
from afinet.net.core import secure_seq
from afinet.net.core.flow import Flowi4
from afinet.net.core.skbuff import SkBuff
from afinet.net.core.sock import Sock, SockCommon
from afinet.net.ipv4 import inet_connection_sock, inet_timewait_sock, ip_options, ip_output, route, tcp_output, tcp_timer
from afinet.net.ipv4.protocol import net_of
from afinet.net.ipv4.tcp_inline import tcp_clock_ts
from afinet.net.ipv4.tcp_sock import TCPHDR_ACK, TCPHDR_RST, TcpRequestSock, TcpSock, TcpTimewaitSock
from afinet.security import security
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.rtnetlink import RTN_LOCAL
from afinet.uapi.snmp import TCP_MIB_OUTRSTS, TCP_MIB_OUTSEGS
from afinet.uapi.socket import AF_INET
from afinet.uapi.tcp import TCP_LISTEN, TCP_MSS_DEFAULT, TCP_NEW_SYN_RECV, TCP_TIME_WAIT
from afinet.wire import be, tcp_options
from afinet.wire import tcp as wire_tcp
from afinet.wire.checksum import csum_tcpudp_nofold

if TYPE_CHECKING:
    from afinet.net.core.dst import DstEntry
    from afinet.net.core.net_namespace import Net
    from afinet.net.ipv4.ip_options import IpOptions

IP_REPLY_ARG_NOSRCCHECK: Final = 1
INET_ECN_MASK: Final = 3


# -- answers without a connection ------------------------------------------------------------------------------------------


def tcp_v4_send_reset(sk: SockCommon | None, skb: SkBuff) -> None:
    """Answer a segment that fits nothing with a RST (RFC 9293, 3.10.7.1). `skb.data` is at its TCP header; it stays the
    caller's."""
    head = skb.head
    th = skb.transport_header
    sport, dport, seq, ack_seq, doff_flags, _window, _check, _urg = wire_tcp.parse(head, th)
    # Never a reset for a reset.
    if doff_flags & TCPHDR_RST:
        return
    # Without a sock, the route must say that the packet was for this host alone.
    if sk is None:
        dst = skb.dst
        if dst is not None and cast("route.Rtable", dst).rt_type != RTN_LOCAL:
            return
    net = net_of(skb) if sk is None else sk.sk_net
    iph = skb.network_header
    saddr = be.get_u32(head, iph + 12)
    daddr = be.get_u32(head, iph + 16)
    flags = TCPHDR_RST
    if doff_flags & TCPHDR_ACK:
        seq_out = ack_seq
        ack_out = 0
    else:
        flags |= TCPHDR_ACK
        seq_out = 0
        length = skb.len - (doff_flags >> 12 << 2) + (skb.data - th)
        ack_out = (seq + (doff_flags >> 1 & 1) + (doff_flags & 1) + length) & 0xFFFFFFFF
    trace = net.kernel.trace
    if trace.tcp_send_reset:
        trace.fire("tcp:tcp_send_reset", {"skb": skb, "sk": sk, "saddr": daddr, "daddr": saddr, "sport": dport, "dport": sport})
    mark = 0
    uid = 0
    oif = 0
    txhash = 0
    if sk is not None:
        oif = sk.sk_bound_dev_if
        if sk.sk_state == TCP_TIME_WAIT:
            mark = inet_timewait_sock.inet_twsk(sk).tw_mark
        elif sk.sk_state != TCP_NEW_SYN_RECV:
            full = cast(Sock, sk)
            mark = full.sk_mark
            uid = full.sk_uid
            txhash = full.sk_txhash
    reply = wire_tcp.emit_csum(
        dport, sport, seq_out, ack_out, flags, 0, 0, b"", csum_tcpudp_nofold(daddr, saddr, 20, IPPROTO_TCP, 0)
    )
    ip_output.ip_send_unicast_reply(net, _reply_sk(sk), skb, skb.opt, saddr, daddr, reply, 0, oif, head[iph + 1], mark, uid, txhash)
    net.tcp_statistics[TCP_MIB_OUTSEGS] += 1
    net.tcp_statistics[TCP_MIB_OUTRSTS] += 1


def _reply_sk(sk: SockCommon | None) -> Sock | None:
    """The full sock for which a control segment is sent, if there is one."""
    if sk is None or sk.sk_state == TCP_TIME_WAIT or sk.sk_state == TCP_NEW_SYN_RECV:
        return None
    return cast(Sock, sk)


def tcp_v4_send_ack(
    sk: SockCommon, skb: SkBuff, seq: int, ack: int, win: int, tsval: int, tsecr: int, oif: int, reply_flags: int, tos: int
) -> None:
    """An ACK for a TIME_WAIT sock or a request, out of the segment that asked for it. A timestamp option if `tsecr` is set."""
    net = sk.sk_net
    head = skb.head
    iph = skb.network_header
    saddr = be.get_u32(head, iph + 12)
    daddr = be.get_u32(head, iph + 16)
    ports = be.get_u32(head, skb.transport_header)
    options = tcp_options.build_established_options(True, tsval, tsecr, None) if tsecr else b""
    reply = wire_tcp.emit_csum(
        ports & 0xFFFF,
        ports >> 16,
        seq,
        ack,
        TCPHDR_ACK,
        win & 0xFFFF,
        0,
        options,
        csum_tcpudp_nofold(daddr, saddr, 20 + len(options), IPPROTO_TCP, 0),
    )
    mark = 0
    if sk.sk_state == TCP_TIME_WAIT:
        mark = inet_timewait_sock.inet_twsk(sk).tw_mark
    elif sk.sk_state != TCP_NEW_SYN_RECV:
        mark = cast(Sock, sk).sk_mark
    ip_output.ip_send_unicast_reply(net, _reply_sk(sk), skb, skb.opt, saddr, daddr, reply, reply_flags, oif, tos, mark)
    net.tcp_statistics[TCP_MIB_OUTSEGS] += 1


def tcp_v4_timewait_ack(tw: TcpTimewaitSock, skb: SkBuff, oow: bool) -> None:
    """`oow`: for a segment out of the window; such an ACK is not ECN-capable."""
    tsval = (tcp_tw_clock_ts(tw) + tw.tw_ts_offset) & 0xFFFFFFFF
    tcp_v4_send_ack(
        tw,
        skb,
        tw.tw_snd_nxt,
        tw.tw_rcv_nxt,
        tw.tw_rcv_wnd >> tw.tw_rcv_wscale,
        tsval,
        tw.tw_ts_recent,
        tw.sk_bound_dev_if,
        IP_REPLY_ARG_NOSRCCHECK if tw.tw_transparent else 0,
        tw.tw_tos & ~3 if oow else tw.tw_tos,
    )


def tcp_tw_clock_ts(tw: TcpTimewaitSock) -> int:
    return tw.sk_net.kernel.now // 1_000_000 & 0xFFFFFFFF


def tcp_v4_reqsk_send_ack(sk: TcpSock, skb: SkBuff, req: TcpRequestSock) -> None:
    """A challenge or duplicate ACK from a connection that is not established yet. Here, unlike in the SYN-ACK, the window is
    scaled."""
    seq = (req.snt_isn + 1) & 0xFFFFFFFF if sk.sk_state == TCP_LISTEN else sk.snd_nxt
    tcp_v4_send_ack(
        sk,
        skb,
        seq,
        req.rcv_nxt,
        min(req.rsk_rcv_wnd, 65535) >> req.rcv_wscale,
        (tcp_clock_ts(sk) + req.ts_off) & 0xFFFFFFFF,
        req.ts_recent,
        0,
        IP_REPLY_ARG_NOSRCCHECK if req.no_srccheck else 0,
        skb.head[skb.network_header + 1],
    )


# -- requests --------------------------------------------------------------------------------------------------------------


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpRequestSockOps:
    """struct request_sock_ops (proto.rsk_prot): how a protocol's requests are made, repeated, answered and unmade."""

    __slots__ = ()

    def reqsk_alloc(self, sk_listener: Sock) -> TcpRequestSock:
        """The slab's allocation."""
        return TcpRequestSock(sk_listener.sk_net, AF_INET, sk_listener.sk_prot, sk_listener)

    def rtx_syn_ack(self, sk: TcpSock, req: TcpRequestSock) -> int:
        return tcp_output.tcp_rtx_synack(sk, req)

    def send_ack(self, sk: TcpSock, skb: SkBuff, req: TcpRequestSock) -> None:
        tcp_v4_reqsk_send_ack(sk, skb, req)

    def send_reset(self, sk: TcpSock, skb: SkBuff) -> None:
        tcp_v4_send_reset(sk, skb)

    def destructor(self, req: TcpRequestSock) -> None:
        req.ireq_opt = None

    def syn_ack_timeout(self, req: TcpRequestSock) -> None:
        tcp_timer.tcp_syn_ack_timeout(req)


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpRequestSockAfOps:
    """struct tcp_request_sock_ops: what a request asks of its network protocol."""

    def __init__(self, mss_clamp: int) -> None:
        self.mss_clamp: int = mss_clamp

    def init_req(self, req: TcpRequestSock, sk: TcpSock, skb: SkBuff) -> None:
        """The request's addresses, out of the SYN."""
        raise NotImplementedError

    def route_req(self, sk: TcpSock, skb: SkBuff, fl4: Flowi4, req: TcpRequestSock) -> DstEntry | None:
        """init_req, the security hook, and the route of the SYN-ACK. None: drop."""
        raise NotImplementedError

    def init_seq(self, net: Net, skb: SkBuff) -> int:
        raise NotImplementedError

    def init_ts_off(self, net: Net, skb: SkBuff) -> int:
        raise NotImplementedError

    def send_synack(
        self,
        sk: TcpSock,
        dst: DstEntry | None,
        req: TcpRequestSock,
        synack_type: int,
    ) -> int:
        """0 or -errno."""
        raise NotImplementedError


class TcpRequestSockIpv4Ops(TcpRequestSockAfOps):
    """tcp_request_sock_ipv4_ops."""

    def __init__(self) -> None:
        super().__init__(TCP_MSS_DEFAULT)

    def init_req(self, req: TcpRequestSock, sk: TcpSock, skb: SkBuff) -> None:
        tcp_v4_init_req(req, sk, skb)

    def route_req(self, sk: TcpSock, skb: SkBuff, fl4: Flowi4, req: TcpRequestSock) -> DstEntry | None:
        return tcp_v4_route_req(sk, skb, fl4, req)

    def init_seq(self, net: Net, skb: SkBuff) -> int:
        return tcp_v4_init_seq(net, skb)

    def init_ts_off(self, net: Net, skb: SkBuff) -> int:
        return tcp_v4_init_ts_off(net, skb)

    def send_synack(
        self,
        sk: TcpSock,
        dst: DstEntry | None,
        req: TcpRequestSock,
        synack_type: int,
    ) -> int:
        return tcp_v4_send_synack(sk, dst, req, synack_type)


def tcp_v4_save_options(net: Net, skb: SkBuff) -> IpOptions | None:
    """The IP options that answers to `skb` carry (RFC 1122, 4.2.3.8)."""
    opt = skb.opt
    if opt is None or not opt.optlen:
        return None
    return ip_options.ip_options_echo(net, skb, opt)[1]


def tcp_v4_init_req(req: TcpRequestSock, sk: TcpSock, skb: SkBuff) -> None:
    head = skb.head
    iph = skb.network_header
    req.inet_daddr = be.get_u32(head, iph + 12)
    req.inet_rcv_saddr = be.get_u32(head, iph + 16)
    req.ireq_opt = tcp_v4_save_options(sk.sk_net, skb)


def tcp_v4_route_req(sk: TcpSock, skb: SkBuff, fl4: Flowi4, req: TcpRequestSock) -> DstEntry | None:
    tcp_v4_init_req(req, sk, skb)
    if sk.kernel.security_hooks and security.security_inet_conn_request(sk, skb):
        return None
    return inet_connection_sock.inet_csk_route_req(sk, fl4, req)


def tcp_v4_init_seq(net: Net, skb: SkBuff) -> int:
    head = skb.head
    iph = skb.network_header
    ports = be.get_u32(head, skb.transport_header)
    return secure_seq.secure_tcp_seq(net, be.get_u32(head, iph + 16), be.get_u32(head, iph + 12), ports & 0xFFFF, ports >> 16)


def tcp_v4_init_ts_off(net: Net, skb: SkBuff) -> int:
    head = skb.head
    iph = skb.network_header
    return secure_seq.secure_tcp_ts_off(net, be.get_u32(head, iph + 16), be.get_u32(head, iph + 12))


def tcp_v4_send_synack(
    sk: TcpSock,
    dst: DstEntry | None,
    req: TcpRequestSock,
    synack_type: int,
) -> int:
    """Send a SYN-ACK for `req`. 0 or -errno."""
    if dst is None:
        dst = inet_connection_sock.inet_csk_route_req(sk, Flowi4(), req)
        if dst is None:
            return -1
    skb = tcp_output.tcp_make_synack(sk, dst, req, synack_type)
    tos: int = sk.tos
    if sk.sk_net.ipv4.sysctl_tcp_reflect_tos:
        tos = req.syn_tos & ~INET_ECN_MASK | tos & INET_ECN_MASK
    err = ip_output.ip_build_and_send_pkt(skb, sk, req.inet_rcv_saddr, req.inet_daddr, req.ireq_opt, tos)
    return 0 if err == 2 else err  # net_xmit_eval: congestion is no error
