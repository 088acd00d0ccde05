"""include/net/inet_sock.h, inet_connection_sock.h: struct inet_sock, inet_connection_sock and inet_request_sock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import i16, i32, mypyc_attr
from afinet.net.core.request_sock import RequestSock, RequestSockQueue
from afinet.net.core.sock import Sock

if TYPE_CHECKING:
    from afinet.kernel.timer import TimerList
    from afinet.net.core.dst import DstEntry
    from afinet.net.core.flow import Flowi4
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Proto
    from afinet.net.ipv4.inet_hashtables import InetBind2Bucket
    from afinet.net.ipv4.ip_options import IpOptions
    from afinet.net.ipv4.ip_output import InetCork
    from afinet.net.ipv4.ip_sockglue import InetColdFields
    from afinet.net.ipv4.tcp_cong import TcpCongestionOps
    from afinet.net.ipv4.tcp_sock import TcpRequestSock

# inet_sk(sk)->inet_flags, as bit numbers
INET_FLAGS_PKTINFO: Final = 0
INET_FLAGS_TTL: Final = 1
INET_FLAGS_TOS: Final = 2
INET_FLAGS_RECVOPTS: Final = 3
INET_FLAGS_RETOPTS: Final = 4
INET_FLAGS_PASSSEC: Final = 5
INET_FLAGS_ORIGDSTADDR: Final = 6
INET_FLAGS_CHECKSUM: Final = 7
INET_FLAGS_RECVFRAGSIZE: Final = 8
INET_FLAGS_RECVERR: Final = 9
INET_FLAGS_RECVERR_RFC4884: Final = 10
INET_FLAGS_FREEBIND: Final = 11
INET_FLAGS_HDRINCL: Final = 12
INET_FLAGS_MC_LOOP: Final = 13
INET_FLAGS_MC_ALL: Final = 14
INET_FLAGS_TRANSPARENT: Final = 15
INET_FLAGS_IS_ICSK: Final = 16
INET_FLAGS_NODEFRAG: Final = 17
INET_FLAGS_BIND_ADDRESS_NO_PORT: Final = 18
INET_FLAGS_DEFER_CONNECT: Final = 19
INET_FLAGS_RTALERT: Final = 21  # IP_ROUTER_ALERT

# skb.ip_flags, IPCB(skb)->flags (include/net/ip.h)
IPSKB_FORWARDED: Final = 1 << 0
IPSKB_XFRM_TUNNEL_SIZE: Final = 1 << 1
IPSKB_XFRM_TRANSFORMED: Final = 1 << 2
IPSKB_FRAG_COMPLETE: Final = 1 << 3
IPSKB_REROUTED: Final = 1 << 4
IPSKB_DOREDIRECT: Final = 1 << 5
IPSKB_FRAG_PMTU: Final = 1 << 6

# icsk_ack.pending
ICSK_ACK_SCHED: Final = 1
ICSK_ACK_TIMER: Final = 2
ICSK_ACK_PUSHED: Final = 4
ICSK_ACK_PUSHED2: Final = 8
ICSK_ACK_NOW: Final = 16
ICSK_ACK_NOMEM: Final = 32

# icsk_pending
ICSK_TIME_RETRANS: Final = 1
ICSK_TIME_PROBE0: Final = 3
ICSK_TIME_LOSS_PROBE: Final = 5
ICSK_TIME_REO_TIMEOUT: Final = 6


class InetSock(Sock):
    """struct inet_sock."""

    __slots__ = (
        "cork",
        "inet_cold",
        "inet_flags",
        "inet_id",
        "inet_opt",
        "inet_saddr",
        "inet_sport",
        "mc_index",
        "mc_ttl",
        "min_ttl",
        "pmtudisc",
        "rcv_tos",
        "tos",
        "uc_index",
        "uc_ttl",
    )

    def __init__(self, net: Net, family: int, prot: Proto) -> None:
        super().__init__(net, family, prot)
        self.inet_saddr: int = 0  # source address put into packets
        self.inet_opt: IpOptions | None = None
        self.cork: InetCork | None = None  # UDP_CORK, MSG_MORE
        self.inet_cold: InetColdFields | None = None  # multicast memberships and the like
        # The small ones stand together, which leaves no holes in the compiled struct.
        self.inet_sport: i32 = 0
        self.inet_flags: i32 = 0  # 1 << INET_FLAGS_*
        self.inet_id: i32 = 0
        self.mc_index: i32 = 0
        self.uc_index: i32 = 0
        self.uc_ttl: i16 = -1  # -1: the route's or the namespace's
        self.tos: i16 = 0
        self.rcv_tos: i16 = 0
        self.min_ttl: i16 = 0
        self.pmtudisc: i16 = 0  # IP_PMTUDISC_*
        self.mc_ttl: i16 = 1

    def sk_destruct(self) -> None:
        """inet_create sets it to inet_sock_destruct; protocols that override it end there."""
        from afinet.net.ipv4 import af_inet  # here, since af_inet needs this module's classes

        af_inet.inet_sock_destruct(self)


@mypyc_attr(allow_interpreted_subclasses=True)
class InetConnectionSockAfOps:
    """struct inet_connection_sock_af_ops: what a connection asks of its network protocol. One object a protocol
    (icsk_af_ops)."""

    def __init__(self, net_header_len: int, sockaddr_len: int) -> None:
        self.net_header_len: int = net_header_len
        self.sockaddr_len: int = sockaddr_len

    def queue_xmit(self, sk: InetConnectionSock, skb: SkBuff, fl4: Flowi4 | None) -> int:
        """Route and send a segment whose TCP header is in place. 0 or -errno, NET_XMIT_* above."""
        raise NotImplementedError

    def rebuild_header(self, sk: InetConnectionSock) -> int:
        """The cached route is gone: find another. 0 or -errno."""
        raise NotImplementedError

    def sk_rx_dst_set(self, sk: InetConnectionSock, skb: SkBuff) -> None:
        """Remember the input route of `skb` for early demux."""

    def conn_request(self, sk: InetConnectionSock, skb: SkBuff) -> int:
        """A SYN for listener `sk`. Negative: answer with RST."""
        raise NotImplementedError

    def syn_recv_sock(
        self, sk: InetConnectionSock, skb: SkBuff, req: TcpRequestSock, dst: DstEntry | None, req_unhash: TcpRequestSock | None
    ) -> tuple[InetConnectionSock | None, bool]:
        """(the full sock of a request or None, whether it took the request's place in the hash)."""
        raise NotImplementedError

    def setsockopt(self, sk: InetConnectionSock, level: int, optname: int, optval: bytes) -> int:
        raise NotImplementedError

    def getsockopt(self, sk: InetConnectionSock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        raise NotImplementedError

    def mtu_reduced(self, sk: InetConnectionSock) -> None:
        """The path MTU fell while the sock was owned."""


class IcskMtup:
    """icsk->icsk_mtup: the range in which path MTU probing looks, and the probe that is in flight. Sizes are MTUs."""

    __slots__ = ("probe_seq_end", "probe_seq_start", "probe_size", "probe_timestamp", "search_high", "search_low")

    def __init__(self, search_high: int, search_low: int, now: int) -> None:
        self.search_high: int = search_high
        self.search_low: int = search_low
        self.probe_timestamp: int = now  # ns, when the search began
        self.probe_size: int = 0  # 0: none is in flight
        self.probe_seq_start: int = 0
        self.probe_seq_end: int = 0


class InetConnectionSock(InetSock):
    """struct inet_connection_sock. Times are ns; `icsk_ack_*` are the fields of Linux's nested icsk_ack."""

    __slots__ = (
        "icsk_accept_queue",
        "icsk_ack_ato",
        "icsk_ack_last_seg_size",
        "icsk_ack_lrcvtime",
        "icsk_ack_pending",
        "icsk_ack_pingpong",
        "icsk_ack_quick",
        "icsk_ack_rcv_mss",
        "icsk_ack_timeout",
        "icsk_af_ops",
        "icsk_backoff",
        "icsk_bind2_hash",
        "icsk_ca_initialized",
        "icsk_ca_ops",
        "icsk_ca_priv",
        "icsk_ca_dst_locked",
        "icsk_ca_setsockopt",
        "icsk_ca_state",
        "icsk_delack_timer",
        "icsk_ext_hdr_len",
        "icsk_pending",
        "icsk_pmtu_cookie",
        "icsk_probes_out",
        "icsk_retransmit_timer",
        "icsk_retransmits",
        "icsk_rto",
        "icsk_rto_max",
        "icsk_rto_min",
        "icsk_syn_retries",
        "icsk_timeout",
        "sk_keepalive_timer",
    )

    def __init__(self, net: Net, family: int, prot: Proto) -> None:
        super().__init__(net, family, prot)
        self.icsk_accept_queue: RequestSockQueue | None = None  # a listener's
        self.icsk_bind2_hash: InetBind2Bucket | None = None
        self.icsk_af_ops: InetConnectionSockAfOps | None = None
        # timers, made when first armed
        self.icsk_retransmit_timer: TimerList | None = None
        self.icsk_delack_timer: TimerList | None = None
        self.sk_keepalive_timer: TimerList | None = None
        self.icsk_timeout: int = 0  # when the event of icsk_pending is due
        self.icsk_rto: int = 0
        self.icsk_rto_min: int = 0
        self.icsk_rto_max: int = 0
        # congestion control
        self.icsk_ca_ops: TcpCongestionOps | None = None
        self.icsk_ca_priv: object = None  # the algorithm's own
        # delayed ACK
        self.icsk_ack_ato: int = 0
        self.icsk_ack_timeout: int = 0
        self.icsk_ack_lrcvtime: int = 0
        self.icsk_ack_rcv_mss: int = 0
        # The small ones stand together, which leaves no holes in the compiled struct.
        self.icsk_retransmits: i32 = 0
        self.icsk_backoff: i32 = 0
        self.icsk_syn_retries: i32 = 0
        self.icsk_probes_out: i32 = 0
        self.icsk_ext_hdr_len: i32 = 0
        self.icsk_pmtu_cookie: i32 = 0
        self.icsk_ack_quick: i32 = 0
        self.icsk_ack_last_seg_size: i32 = 0
        self.icsk_pending: i16 = 0  # ICSK_TIME_*
        self.icsk_ca_state: i16 = 0  # TCP_CA_*
        self.icsk_ack_pending: i16 = 0  # ICSK_ACK_*
        self.icsk_ack_pingpong: i16 = 0
        self.icsk_ca_initialized: bool = False  # the algorithm's init() was called, so release() will be
        self.icsk_ca_setsockopt: bool = False
        self.icsk_ca_dst_locked: bool = False  # the route chose the algorithm


class InetRequestSock(RequestSock):
    """struct inet_request_sock. The own end is `inet_rcv_saddr`, `inet_num`, the peer's `inet_daddr`, `inet_dport`."""

    __slots__ = (
        "acked",
        "ecn_ok",
        "ir_iif",
        "ir_mark",
        "ireq_opt",
        "no_srccheck",
        "rcv_wscale",
        "sack_ok",
        "snd_wscale",
        "tstamp_ok",
        "wscale_ok",
    )

    def __init__(self, net: Net, family: int, prot: Proto, listener: Sock) -> None:
        super().__init__(net, family, prot, listener)
        self.snd_wscale: int = 0
        self.rcv_wscale: int = 0
        self.tstamp_ok: bool = False
        self.sack_ok: bool = False
        self.wscale_ok: bool = False
        self.ecn_ok: bool = False
        self.acked: bool = False
        self.no_srccheck: bool = False
        self.ir_iif: int = 0
        self.ir_mark: int = 0
        self.ireq_opt: IpOptions | None = None


def inet_mc_addr(sk: InetSock) -> int:
    """The source of multicasts that IP_MULTICAST_IF set, or 0."""
    return 0 if sk.inet_cold is None else sk.inet_cold.mc_addr


def inet_test_bit(sk: InetSock, bit: int) -> bool:
    return sk.inet_flags >> bit & 1 == 1


def inet_assign_bit(sk: InetSock, bit: int, value: bool) -> None:
    if value:
        sk.inet_flags |= 1 << bit
    else:
        sk.inet_flags &= ~(1 << bit)
