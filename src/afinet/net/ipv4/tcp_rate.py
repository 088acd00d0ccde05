"""net/ipv4/tcp_rate.c: samples of the delivery rate (draft-cheng-iccrg-delivery-rate-estimation).

When a segment is sent, it takes along how much had been delivered by then (tcp_rate_skb_sent). When it is delivered, the difference
over the longer of the send and the ACK interval is a sample of the rate: tcp_rate_skb_delivered finds the most recently sent of the
segments that an ACK delivers, tcp_rate_gen makes the sample. A segment that was sent while the program had nothing more to send
says less: `app_limited`.

Times are ns; `interval_us` and `rtt_us` microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.kernel.win_minmax import minmax_get
from afinet.net.ipv4.tcp_inline import tcp_skb_sent_after, tcp_stamp_us_delta
from afinet.net.ipv4.tcp_sock import TCPCB_RETRANS, after
from afinet.wire.tcp_options import ParsedOptions

if TYPE_CHECKING:
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.ipv4.tcp_sock import TcpSock


class RateSample:
    """struct rate_sample. One belongs to each ACK that is processed."""

    __slots__ = (
        "acked_sacked",
        "delivered",
        "delivered_ce",
        "interval_us",
        "is_ack_delayed",
        "is_app_limited",
        "is_retrans",
        "last_end_seq",
        "losses",
        "prior_delivered",
        "prior_delivered_ce",
        "prior_in_flight",
        "prior_mstamp",
        "rcv_interval_us",
        "rtt_us",
        "snd_interval_us",
    )

    def __init__(self) -> None:
        self.prior_mstamp: int = 0  # when the window of the sample began; 0: no segment was delivered
        self.prior_delivered: int = 0
        self.prior_delivered_ce: int = 0
        self.delivered: int = 0  # packets, -1: no valid sample
        self.delivered_ce: int = 0
        self.interval_us: int = 0
        self.snd_interval_us: int = 0
        self.rcv_interval_us: int = 0
        self.rtt_us: int = 0
        self.losses: int = 0
        self.acked_sacked: int = 0
        self.prior_in_flight: int = 0
        self.last_end_seq: int = 0
        self.is_app_limited: bool = False
        self.is_retrans: bool = False
        self.is_ack_delayed: bool = False


class TcpSacktagState:
    """struct tcp_sacktag_state, with the rate sample: the scratch of one ACK. One a Kernel, used again for each."""

    __slots__ = ("first_sackt", "flag", "last_sackt", "parsed", "rate", "reord", "sack_delivered")

    def __init__(self) -> None:
        self.first_sackt: int = 0  # when the first and the last newly SACKed, never retransmitted segment were sent (ns)
        self.last_sackt: int = 0
        self.reord: int = 0  # the lowest sequence number that came late
        self.sack_delivered: int = 0
        self.flag: int = 0
        self.rate: RateSample = RateSample()
        self.parsed: ParsedOptions = ParsedOptions()


def tcp_rate_skb_sent(tp: TcpSock, skb: SkBuff) -> None:
    """Called when a segment leaves, and again when it is sent again."""
    if tp.packets_out == 0:
        # after an idle period, the send interval begins here
        tp.first_tx_mstamp = skb.tstamp
        tp.delivered_mstamp = skb.tstamp
    skb.first_tx_mstamp = tp.first_tx_mstamp
    skb.delivered_mstamp = tp.delivered_mstamp
    skb.delivered = tp.delivered
    skb.delivered_ce = tp.delivered_ce
    skb.is_app_limited = tp.app_limited != 0


def tcp_rate_skb_delivered(tp: TcpSock, skb: SkBuff, rs: RateSample) -> None:
    """`skb` is delivered, by the cumulative ACK or by a SACK: is it the last sent one of this ACK?"""
    if skb.delivered_mstamp == 0:
        return
    tx_tstamp = skb.tstamp
    if (
        rs.prior_delivered == 0
        or rs.prior_mstamp == 0
        or tcp_skb_sent_after(tx_tstamp, tp.first_tx_mstamp, skb.end_seq, rs.last_end_seq)
    ):
        rs.prior_delivered_ce = skb.delivered_ce
        rs.prior_delivered = skb.delivered
        rs.prior_mstamp = skb.delivered_mstamp
        rs.is_app_limited = skb.is_app_limited
        rs.is_retrans = skb.sacked & TCPCB_RETRANS != 0
        rs.last_end_seq = skb.end_seq
        # the send interval of the next sample begins where this segment was sent
        tp.first_tx_mstamp = tx_tstamp
        rs.interval_us = tcp_stamp_us_delta(tx_tstamp, skb.first_tx_mstamp)
    # Delivered once: a second look (first SACKed, then acknowledged) does not count.
    if skb.sacked & 1:  # TCPCB_SACKED_ACKED
        skb.delivered_mstamp = 0


def tcp_rate_gen(tp: TcpSock, delivered: int, lost: int, is_sack_reneg: bool, rs: RateSample) -> None:
    """Finish the sample of this ACK, which newly delivered and newly lost so many packets."""
    if tp.app_limited and after(tp.delivered & 0xFFFFFFFF, tp.app_limited & 0xFFFFFFFF):
        tp.app_limited = 0
    if delivered:
        tp.delivered_mstamp = tp.tcp_mstamp
    rs.acked_sacked = delivered
    rs.losses = lost
    if rs.prior_mstamp == 0 or is_sack_reneg:
        rs.delivered = -1
        rs.interval_us = -1
        return
    rs.delivered = tp.delivered - rs.prior_delivered
    rs.delivered_ce = tp.delivered_ce - rs.prior_delivered_ce
    # The rate cannot have been higher than either what was sent or what was acknowledged: take the longer interval.
    snd_us = rs.interval_us
    ack_us = tcp_stamp_us_delta(tp.tcp_mstamp, rs.prior_mstamp)
    rs.interval_us = snd_us if snd_us > ack_us else ack_us
    rs.snd_interval_us = snd_us
    rs.rcv_interval_us = ack_us
    # A sample shorter than the least RTT comes from something like a retransmission taken for the original.
    if rs.interval_us < minmax_get(tp.rtt_min):
        rs.interval_us = -1
        return
    # Keep the best one that the program's silence did not spoil.
    if not rs.is_app_limited or rs.delivered * tp.rate_interval_us >= tp.rate_delivered * rs.interval_us:
        tp.rate_delivered = rs.delivered
        tp.rate_interval_us = rs.interval_us
        tp.rate_app_limited = rs.is_app_limited


def tcp_rate_check_app_limited(sk: TcpSock) -> None:
    """The program is about to write: if the connection had been waiting for it, say so until what is in flight is delivered."""
    if (
        (sk.write_seq - sk.snd_nxt) & 0xFFFFFFFF < sk.mss_cache
        and sk.sk_wmem_alloc - 1 < 4096
        and sk.packets_out - sk.sacked_out - sk.lost_out + sk.retrans_out < sk.snd_cwnd
        and sk.lost_out <= sk.retrans_out
    ):
        sk.app_limited = (sk.delivered + sk.packets_out - sk.sacked_out - sk.lost_out + sk.retrans_out) or 1
