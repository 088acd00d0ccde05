"""include/linux/tcp.h: struct tcp_sock, tcp_request_sock, tcp_timewait_sock, tcp_options_received.

Sequence numbers are ints in [0, 2**32), compared only with before, after and between. Times are ns unless a comment says otherwise:
`srtt_us` is microseconds << 3, `mdev_us` << 2, as in Linux; TCP timestamps are milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import i16, i32, mypyc_attr
from afinet.kernel.softirq import TASKLET_SOFTIRQ, raise_softirq
from afinet.kernel.win_minmax import MINMAX_NONE, MinMax
from afinet.net.core import sock as sock_mod
from afinet.net.core import stream
from afinet.net.core.skbuff import SkBuffHead
from afinet.net.core.sock import SockCommon
from afinet.net.ipv4.inet_sock import IcskMtup, InetConnectionSock, InetRequestSock

if TYPE_CHECKING:
    from afinet.kernel.timer import TimerList
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Proto, Sock
    from afinet.net.ipv4.inet_hashtables import InetBind2Bucket, InetBindBucket
    from afinet.net.ipv4.tcp_ipv4_reply import TcpRequestSockAfOps
    from afinet.net.ipv4.tcp_pacing import TcpPacingTimer
    from afinet.net.ipv4.tcp_queue import TcpSkbQueue, TsortedQueue
    from afinet.net.ipv4.tcp_rcvq import TcpCompressedAckTimer

TCP_SACK_SEEN: Final = 1
TCP_DSACK_SEEN: Final = 4

# TCP_SKB_CB(skb)->sacked
TCPCB_SACKED_ACKED: Final = 0x01
TCPCB_SACKED_RETRANS: Final = 0x02
TCPCB_LOST: Final = 0x04
TCPCB_TAGBITS: Final = 0x07
TCPCB_REPAIRED: Final = 0x10
TCPCB_EVER_RETRANS: Final = 0x80
TCPCB_RETRANS: Final = TCPCB_SACKED_RETRANS | TCPCB_EVER_RETRANS | TCPCB_REPAIRED

# tcp_flags; the header's bits
TCPHDR_FIN: Final = 0x01
TCPHDR_SYN: Final = 0x02
TCPHDR_RST: Final = 0x04
TCPHDR_PSH: Final = 0x08
TCPHDR_ACK: Final = 0x10
TCPHDR_URG: Final = 0x20
TCPHDR_ECE: Final = 0x40
TCPHDR_CWR: Final = 0x80
TCPHDR_AE: Final = 0x100


@mypyc_attr(acyclic=True)
class TcpOptionsReceived:
    """struct tcp_options_received: what the peer's options said."""

    __slots__ = (
        "mss_clamp",
        "num_sacks",
        "rcv_tsecr",
        "rcv_tsval",
        "rcv_wscale",
        "sack_ok",
        "saw_tstamp",
        "snd_wscale",
        "ts_recent",
        "ts_recent_stamp",
        "tstamp_ok",
        "user_mss",
        "wscale_ok",
    )

    def __init__(self) -> None:
        self.ts_recent_stamp: int = 0  # seconds, when ts_recent was set
        self.ts_recent: int = 0
        self.rcv_tsval: int = 0
        self.rcv_tsecr: int = 0
        # The small ones stand together, which leaves no holes in the compiled struct.
        self.user_mss: i32 = 0
        self.mss_clamp: i32 = 0
        self.sack_ok: i16 = 0  # TCP_SACK_SEEN | TCP_DSACK_SEEN
        self.snd_wscale: i16 = 0
        self.rcv_wscale: i16 = 0
        self.num_sacks: i16 = 0
        self.saw_tstamp: bool = False
        self.tstamp_ok: bool = False
        self.wscale_ok: bool = False


class TcpLossState:
    """Fields of struct tcp_sock that stay 0 where nothing is lost or reordered and no rate is reduced. Made by `tcp_loss_state`."""

    __slots__ = (
        "bytes_retrans",
        "dsack_dups",
        "lost",
        "prior_cwnd",
        "prior_ssthresh",
        "prr_delivered",
        "prr_out",
        "rack_last_delivered",
        "recv_sack_cache",
        "rcv_ooopack",
        "reord_seen",
        "rto_stamp",
        "timeout_rehash",
        "total_retrans",
        "total_rto",
        "total_rto_recoveries",
        "total_rto_time",
    )

    def __init__(self) -> None:
        # the reduction in progress, or the last
        self.prior_cwnd: int = 0  # before it, for PRR and for undoing it
        self.prior_ssthresh: int = 0  # 0: it cannot be undone
        self.prr_delivered: int = 0
        self.prr_out: int = 0
        self.rack_last_delivered: int = 0  # `delivered` at the last step of RACK's reordering window
        self.recv_sack_cache: list[int] | None = None  # flat start, end pairs of the last SACK option, in order of seq
        self.lost: int = 0  # packets marked lost so far
        # for TCP_INFO
        self.bytes_retrans: int = 0
        self.total_retrans: int = 0
        self.dsack_dups: int = 0
        self.reord_seen: int = 0  # how often the path was seen to reorder
        self.rcv_ooopack: int = 0
        self.timeout_rehash: int = 0  # flow hashes drawn anew after a timeout
        self.total_rto: int = 0
        self.total_rto_recoveries: int = 0
        self.total_rto_time: int = 0  # ms
        self.rto_stamp: int = 0  # ms, when the recovery in progress began


class TcpColdFields:
    """What few connections have: rare options, urgent data, unanswered probes. Fields of struct tcp_sock and inet_connection_sock.
    Made by `tcp_cold` at first use; an option that is 0 is the namespace's. Times are ns."""

    __slots__ = (
        "icsk_delack_max",
        "icsk_mtup",
        "icsk_probes_tstamp",
        "icsk_user_timeout",
        "keepalive_intvl",
        "keepalive_probes",
        "keepalive_time",
        "last_oow_ack_time",
        "linger2",
        "notsent_lowat",
        "pacing_timer",
        "recvmsg_inq",
        "save_syn",
        "saved_syn",
        "thin_lto",
        "urg_seq",
    )

    def __init__(self) -> None:
        self.icsk_user_timeout: int = 0  # TCP_USER_TIMEOUT
        self.icsk_mtup: IcskMtup | None = None  # while path MTU probing is on
        self.icsk_delack_max: int = 0  # TCP_DELACK_MAX_US
        self.keepalive_time: int = 0
        self.keepalive_intvl: int = 0
        self.keepalive_probes: int = 0
        self.linger2: int = 0  # TCP_LINGER2; -1: an orphan does not stay in FIN_WAIT2
        self.notsent_lowat: int = 0
        self.thin_lto: bool = False
        self.recvmsg_inq: bool = False  # TCP_INQ
        self.save_syn: int = 0
        self.saved_syn: bytes | None = None
        self.icsk_probes_tstamp: int = 0  # when the first window probe that is not answered was sent
        self.last_oow_ack_time: int = 0  # when a segment out of the window was last answered
        self.pacing_timer: TcpPacingTimer | None = None
        self.urg_seq: int = 0  # where the urgent byte is or was; urg_data says whether there is one


class TcpSock(InetConnectionSock):
    """struct tcp_sock."""

    __slots__ = (
        "advmss",
        "app_limited",
        "bytes_acked",
        "bytes_received",
        "bytes_sent",
        "chrono_start",
        "chrono_stat",
        "chrono_type",
        "compressed_ack",
        "compressed_ack_timer",
        "copied_seq",
        "cwnd_usage_seq",
        "data_segs_in",
        "data_segs_out",
        "delivered",
        "delivered_ce",
        "delivered_mstamp",
        "duplicate_sack",
        "ecn_flags",
        "first_tx_mstamp",
        "frto",
        "high_seq",
        "highest_sack",
        "is_cwnd_limited",
        "is_sack_reneg",
        "loss_state",
        "lost_out",
        "lsndtime",
        "max_packets_out",
        "max_window",
        "mdev_max_us",
        "mdev_us",
        "mss_cache",
        "mtu_info",
        "nonagle",
        "out_of_order_queue",
        "packets_out",
        "pred_flags",
        "pushed_seq",
        "rack_advanced",
        "rack_dsack_seen",
        "rack_end_seq",
        "rack_mstamp",
        "rack_tx_order",
        "rack_reo_wnd_persist",
        "rack_reo_wnd_steps",
        "rack_rtt_us",
        "rate_app_limited",
        "rate_delivered",
        "rate_interval_us",
        "rcv_nxt",
        "rcv_rtt_last_tsecr",
        "rcv_rtt_seq",
        "rcv_rtt_time",
        "rcv_rtt_us",
        "rcv_ssthresh",
        "rcv_tstamp",
        "rcv_wnd",
        "rcv_wup",
        "rcvq_space_copied",
        "rcvq_space_seq",
        "rcvq_space_time",
        "reordering",
        "repair",
        "retrans_out",
        "retrans_stamp",
        "retransmit_skb_hint",
        "rtt_min",
        "rtt_seq",
        "rttvar_us",
        "rx_opt",
        "sacked_out",
        "scaling_ratio",
        "segs_in",
        "segs_out",
        "selective_acks",
        "snd_cwnd",
        "snd_cwnd_cnt",
        "snd_cwnd_stamp",
        "snd_cwnd_used",
        "snd_nxt",
        "snd_sml",
        "snd_ssthresh",
        "snd_una",
        "snd_up",
        "snd_wl1",
        "snd_wnd",
        "srtt_us",
        "tcp_cold",
        "tcp_header_len",
        "tcp_mstamp",
        "tcp_rtx_queue",
        "tlp_high_seq",
        "tlp_retrans",
        "tsoffset",
        "tsorted_sent_queue",
        "tsq_flags",
        "undo_marker",
        "undo_retrans",
        "urg_data",
        "window_clamp",
        "write_seq",
    )

    def __init__(self, net: Net, family: int, prot: Proto) -> None:
        super().__init__(net, family, prot)
        # Made when something is first queued: an idle connection has none.
        self.sk_receive_queue = net.ipv4.no_packets
        self.sk_write_queue = net.ipv4.no_packets
        # RFC 9293's variables
        self.rcv_nxt: int = 0
        self.copied_seq: int = 0  # head of what the program has not read yet
        self.rcv_wup: int = 0  # rcv_nxt on the last window update sent
        self.rcv_wnd: int = 0
        self.snd_nxt: int = 0
        self.snd_una: int = 0
        self.snd_sml: int = 0  # last byte of the most recently sent small packet (Minshall)
        self.snd_wl1: int = 0
        self.snd_wnd: int = 0
        self.max_window: int = 0
        self.write_seq: int = 0  # tail + 1 of the data the program wrote
        self.pushed_seq: int = 0
        self.pred_flags: int = 0  # header prediction: 0 is off
        # segments and bytes, for TCP_INFO
        self.segs_in: int = 0
        self.data_segs_in: int = 0
        self.segs_out: int = 0
        self.data_segs_out: int = 0
        self.bytes_received: int = 0
        self.bytes_acked: int = 0
        self.bytes_sent: int = 0
        self.loss_state: TcpLossState | None = None
        # clocks
        self.tcp_mstamp: int = 0  # ns; the time of the segment in hand
        self.rcv_tstamp: int = 0  # when an ACK was last received
        self.lsndtime: int = 0  # when data was last sent
        self.compressed_ack_timer: TcpCompressedAckTimer | None = None
        self.tsoffset: int = 0
        # options
        self.rx_opt: TcpOptionsReceived = TcpOptionsReceived()
        self.advmss: int = 0
        self.mss_cache: int = 0
        self.window_clamp: int = 0
        self.rcv_ssthresh: int = 0
        # RTT
        self.srtt_us: int = 0
        self.mdev_us: int = 0
        self.mdev_max_us: int = 0
        self.rttvar_us: int = 0
        self.rtt_seq: int = 0
        self.rtt_min: MinMax = MINMAX_NONE
        # sending
        self.packets_out: int = 0
        self.retrans_out: int = 0
        self.max_packets_out: int = 0
        self.cwnd_usage_seq: int = 0  # end of the window over which the use of cwnd is watched
        self.snd_ssthresh: int = 0x7FFFFFFF
        self.snd_cwnd: int = 10
        self.snd_cwnd_cnt: int = 0
        self.snd_cwnd_used: int = 0
        self.snd_cwnd_stamp: int = 0
        self.delivered: int = 0
        self.delivered_ce: int = 0
        self.app_limited: int = 0
        self.first_tx_mstamp: int = 0
        self.delivered_mstamp: int = 0
        self.rate_delivered: int = 0
        self.rate_interval_us: int = 0
        # recovery
        self.lost_out: int = 0
        self.sacked_out: int = 0
        self.high_seq: int = 0
        self.retrans_stamp: int = 0  # ms timestamp of the first retransmission of this episode
        self.undo_marker: int = 0
        self.tlp_high_seq: int = 0
        self.highest_sack: SkBuff | None = None
        self.retransmit_skb_hint: SkBuff | None = None
        self.rack_mstamp: int = 0  # when the last sent segment that was delivered had been sent,
        self.rack_tx_order: int = 0  # and as which transmission of the sock
        self.rack_rtt_us: int = 0
        self.rack_end_seq: int = 0
        self.tcp_rtx_queue: TcpSkbQueue | None = None  # sent and not acknowledged, in order of seq
        self.tsorted_sent_queue: TsortedQueue | None = None  # what RACK looks through, while something is amiss
        # receiving
        self.out_of_order_queue: TcpSkbQueue | None = None
        self.duplicate_sack: list[int] | None = None  # [start, end] of the D-SACK to send, once
        self.selective_acks: list[int] | None = None  # flat start, end pairs, most recent first
        self.rcvq_space_copied: int = 0
        self.rcvq_space_seq: int = 0
        self.rcvq_space_time: int = 0
        self.rcv_rtt_us: int = 0  # << 3
        self.rcv_rtt_last_tsecr: int = 0
        self.rcv_rtt_seq: int = 0
        self.rcv_rtt_time: int = 0
        self.snd_up: int = 0
        self.tcp_cold: TcpColdFields | None = None
        # chronographs of TCP_INFO
        self.chrono_start: int = 0
        self.chrono_stat: list[int] | None = None
        # The small ones stand together, which leaves no holes in the compiled struct.
        self.tcp_header_len: i32 = 0
        self.compressed_ack: i32 = 0
        self.mtu_info: i32 = 0  # what an ICMP error said while the sock was owned
        self.reordering: i32 = 0
        self.undo_retrans: i32 = 0
        self.scaling_ratio: i16 = 0
        self.nonagle: i16 = 0  # TCP_NAGLE_OFF, _CORK, _PUSH
        self.ecn_flags: i16 = 0
        self.tsq_flags: i16 = 0  # TCPF_TSQ_DEFERRED and its like: what release_cb has to do
        self.rack_reo_wnd_steps: i16 = 1
        self.rack_reo_wnd_persist: i16 = 0
        self.urg_data: i16 = 0  # TCP_URG_VALID, _NOTYET, _READ | byte
        self.chrono_type: i16 = 0
        self.repair: bool = False
        self.is_cwnd_limited: bool = False
        self.rate_app_limited: bool = False
        self.frto: bool = False
        self.is_sack_reneg: bool = False
        self.tlp_retrans: bool = False
        self.rack_dsack_seen: bool = False
        self.rack_advanced: bool = False

    def sk_write_space(self) -> None:
        """sk_stream_write_space."""
        stream.sk_stream_write_space(self)

    def tstamp_key(self, write_seq: bool) -> int:
        return self.write_seq if write_seq else self.snd_una

    def tcp_wfree(self, truesize: int) -> None:
        """A segment left the device queues (net/ipv4/tcp_output.c). A sender that was held back by TCP small queues goes on: its
        sock is queued for the tasklet, which takes over the reference that this segment held."""
        self.sk_wmem_alloc -= truesize - 1
        flags = self.tsq_flags
        if flags & 1 and not flags & 2:  # TSQF_THROTTLED, TSQF_QUEUED
            self.tsq_flags = flags & ~1 | 2
            kernel = self.kernel
            kernel.tsq_head.append(self)
            raise_softirq(kernel, TASKLET_SOFTIRQ)
            return
        self.sk_wmem_alloc -= 1
        if self.sk_wmem_alloc == 0:
            _wmem_gone(self)


class TcpRequestSock(InetRequestSock):
    """struct tcp_request_sock."""

    __slots__ = (
        "af_specific",
        "last_oow_ack_time",
        "rcv_isn",
        "rcv_nxt",
        "req_usec_ts",
        "saved_syn",
        "snt_isn",
        "snt_synack",
        "snt_tsval_first",
        "snt_tsval_last",
        "syn_tos",
        "tfo_listener",
        "ts_off",
        "txhash",
    )

    def __init__(self, net: Net, family: int, prot: Proto, listener: Sock) -> None:
        super().__init__(net, family, prot, listener)
        self.af_specific: TcpRequestSockAfOps | None = None
        self.saved_syn: bytes | None = None
        self.rcv_isn: int = 0
        self.snt_isn: int = 0
        self.rcv_nxt: int = 0
        self.ts_off: int = 0
        self.txhash: int = 0
        self.syn_tos: int = 0
        self.snt_synack: int = 0  # ns, when the first SYN-ACK was sent; 0 after a retransmission (Karn)
        self.snt_tsval_first: int = 0
        self.snt_tsval_last: int = 0
        self.last_oow_ack_time: int = 0
        self.req_usec_ts: bool = False
        self.tfo_listener: bool = False


class TcpTimewaitSock(SockCommon):
    """struct inet_timewait_sock, tcp_timewait_sock: what is kept of a closed connection for TCP_TIMEWAIT_LEN."""

    __slots__ = (
        "tw_bslot",
        "tw_last_oow_ack_time",
        "tw_mark",
        "tw_rcv_nxt",
        "tw_rcv_wnd",
        "tw_rcv_wscale",
        "tw_snd_nxt",
        "tw_sport",
        "tw_substate",
        "tw_tb",
        "tw_tb2",
        "tw_timeout",
        "tw_timer",
        "tw_tos",
        "tw_transparent",
        "tw_ts_offset",
        "tw_ts_recent",
        "tw_ts_recent_stamp",
        "tw_entry_stamp",
    )

    def __init__(self, net: Net, family: int, prot: Proto) -> None:
        super().__init__(net, family, prot)
        self.tw_substate: int = 0  # TCP_FIN_WAIT2 or TCP_TIME_WAIT
        self.tw_sport: int = 0
        self.tw_rcv_wscale: int = 0
        self.tw_tos: int = 0
        self.tw_mark: int = 0
        self.tw_transparent: bool = False
        self.tw_timeout: int = 0  # ns
        self.tw_timer: TimerList | None = None
        self.tw_tb: InetBindBucket | None = None
        self.tw_tb2: InetBind2Bucket | None = None
        self.tw_bslot: int = 0
        self.tw_rcv_nxt: int = 0
        self.tw_snd_nxt: int = 0
        self.tw_rcv_wnd: int = 0
        self.tw_ts_offset: int = 0
        self.tw_last_oow_ack_time: int = 0
        self.tw_entry_stamp: int = 0
        self.tw_ts_recent: int = 0
        self.tw_ts_recent_stamp: int = 0


def _wmem_gone(sk: TcpSock) -> None:
    # not in the class, where Python would mangle the name
    sock_mod.__sk_free(sk)


def tcp_receive_queue(tp: TcpSock) -> SkBuffHead:
    """sk_receive_queue to put something in."""
    queue = tp.sk_receive_queue
    if queue is tp.sk_net.ipv4.no_packets:
        queue = SkBuffHead()
        tp.sk_receive_queue = queue
    return queue


def tcp_write_queue(tp: TcpSock) -> SkBuffHead:
    """sk_write_queue to put something in."""
    queue = tp.sk_write_queue
    if queue is tp.sk_net.ipv4.no_packets:
        queue = SkBuffHead()
        tp.sk_write_queue = queue
    return queue


def tcp_loss_state(tp: TcpSock) -> TcpLossState:
    stats = tp.loss_state
    if stats is None:
        stats = TcpLossState()
        tp.loss_state = stats
    return stats


def tcp_cold(tp: TcpSock) -> TcpColdFields:
    cold = tp.tcp_cold
    if cold is None:
        cold = TcpColdFields()
        tp.tcp_cold = cold
    return cold


def tcp_clone_cold(child: TcpSock, parent: TcpSock) -> None:
    """A listener's rare options are its children's; the saved SYN is each one's own."""
    old = parent.tcp_cold
    if old is None:
        return
    cold = tcp_cold(child)
    cold.icsk_user_timeout = old.icsk_user_timeout
    cold.icsk_delack_max = old.icsk_delack_max
    cold.keepalive_time = old.keepalive_time
    cold.keepalive_intvl = old.keepalive_intvl
    cold.keepalive_probes = old.keepalive_probes
    cold.linger2 = old.linger2
    cold.notsent_lowat = old.notsent_lowat
    cold.thin_lto = old.thin_lto
    cold.recvmsg_inq = old.recvmsg_inq
    cold.save_syn = old.save_syn


def before(seq1: int, seq2: int) -> bool:
    """seq1 lies before seq2, modulo 2**32."""
    return (seq1 - seq2) & 0xFFFFFFFF > 0x7FFFFFFF


def after(seq2: int, seq1: int) -> bool:
    return (seq1 - seq2) & 0xFFFFFFFF > 0x7FFFFFFF


def between(seq1: int, seq2: int, seq3: int) -> bool:
    """seq2 <= seq1 <= seq3."""
    return (seq3 - seq2) & 0xFFFFFFFF >= (seq1 - seq2) & 0xFFFFFFFF
