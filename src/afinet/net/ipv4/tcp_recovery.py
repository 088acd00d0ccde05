"""net/ipv4/tcp_recovery.c: RACK (RFC 8985), and NewReno's rule for peers without SACK.

RACK: a segment is lost when one that was sent a reordering window later has been delivered. tcp_rack_advance remembers the most
recently sent segment that was delivered; tcp_rack_mark_lost looks through what was sent before it, in the order of sending; when
some of it is only suspect yet, the reordering timer looks again (tcp_rack_reo_timeout). The reordering window is a quarter of the
least RTT, widened when D-SACKs show that retransmissions were in vain (tcp_rack_update_reo_wnd).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.win_minmax import minmax_get
from afinet.net.core.skbuff import SkBuff
from afinet.net.ipv4 import tcp_ack, tcp_retransmit, tcp_timer
from afinet.net.ipv4.inet_sock import ICSK_TIME_REO_TIMEOUT, ICSK_TIME_RETRANS
from afinet.net.ipv4.tcp_fragment import TCP_FRAG_IN_RTX_QUEUE, tcp_fragment
from afinet.net.ipv4.tcp_inline import (
    TCP_RACK_RECOVERY_THRESH,
    TCP_TIMEOUT_MIN_US,
    tcp_lost,
    tcp_packets_in_flight,
    tcp_rack_sent_after,
    tcp_rtx_queue_head,
)
from afinet.net.ipv4.tcp_queue import TsortedQueue
from afinet.net.ipv4.tcp_sock import TCPCB_LOST, TCPCB_RETRANS, TCPCB_SACKED_RETRANS, TcpSock, tcp_loss_state
from afinet.uapi.tcp import TCP_CA_Recovery

if TYPE_CHECKING:
    from afinet.net.ipv4.tcp_rate import RateSample

# net.ipv4.tcp_recovery
TCP_RACK_LOSS_DETECTION: Final = 1
TCP_RACK_STATIC_REO_WND: Final = 2
TCP_RACK_NO_DUPTHRESH: Final = 4


def tcp_rack_reo_wnd(sk: TcpSock) -> int:
    """How much later (us) a segment must have been sent whose delivery proves the loss of another."""
    if sk.loss_state is None or not sk.loss_state.reord_seen:
        # Nothing was ever reordered here: be quick, in recovery and at the third duplicate.
        if sk.icsk_ca_state >= TCP_CA_Recovery:
            return 0
        if sk.sacked_out >= sk.reordering and not sk.sk_net.ipv4.sysctl_tcp_recovery & TCP_RACK_NO_DUPTHRESH:
            return 0
    steps: int = sk.rack_reo_wnd_steps
    wnd = (minmax_get(sk.rtt_min) >> 2) * steps
    limit = sk.srtt_us >> 3
    return wnd if wnd < limit else limit


def tcp_rack_skb_timeout(tp: TcpSock, skb: SkBuff, reo_wnd: int) -> int:
    """us until `skb` counts as lost; 0 or less: it does."""
    return tp.rack_rtt_us + reo_wnd - (tp.tcp_mstamp - skb.tstamp) // 1000


def tcp_rack_detect_loss(sk: TcpSock) -> int:
    """Mark what is lost; the time (us) until the last of what is suspect is lost too, 0 for nothing suspect."""
    reo_timeout = 0
    reo_wnd = tcp_rack_reo_wnd(sk)
    tsorted = sk.tsorted_sent_queue
    if tsorted is None:
        rtx = sk.tcp_rtx_queue
        if rtx is None:
            return 0
        tsorted = TsortedQueue(rtx)
        sk.tsorted_sent_queue = tsorted
    node = tsorted.head
    while node is not None:
        skb = node.skb
        node = node.next
        if skb.sacked & TCPCB_LOST and not skb.sacked & TCPCB_SACKED_RETRANS:
            continue  # marked, and not sent again yet
        if not tcp_rack_sent_after(sk, skb):
            break
        remaining = tcp_rack_skb_timeout(sk, skb, reo_wnd)
        if remaining <= 0:
            tcp_ack.tcp_mark_skb_lost(sk, skb)
            tsorted.remove(skb)
        elif remaining > reo_timeout:
            reo_timeout = remaining
    return reo_timeout


def tcp_rack_mark_lost(sk: TcpSock) -> bool:
    """Something new was delivered: look for losses. True: the reordering timer is armed."""
    if not sk.rack_advanced:
        return False
    sk.rack_advanced = False
    timeout = tcp_rack_detect_loss(sk)
    if timeout:
        when = (timeout + TCP_TIMEOUT_MIN_US) * 1000
        tcp_timer.inet_csk_reset_xmit_timer(sk, ICSK_TIME_REO_TIMEOUT, min(when, sk.icsk_rto))
        return True
    return False


def tcp_rack_advance(tp: TcpSock, skb: SkBuff, sacked: int) -> None:
    """`skb` was delivered."""
    xmit_time = skb.tstamp
    rtt_us = (tp.tcp_mstamp - xmit_time) // 1000
    if sacked & TCPCB_RETRANS:
        # Faster than any round trip: it was the original that came through, not this retransmission.
        if rtt_us < minmax_get(tp.rtt_min):
            return
    tp.rack_advanced = True
    tp.rack_rtt_us = rtt_us
    if xmit_time > tp.rack_mstamp or not tcp_rack_sent_after(tp, skb):
        tp.rack_mstamp = xmit_time
        tp.rack_tx_order = skb.tx_order
        tp.rack_end_seq = skb.end_seq


def tcp_rack_reo_timeout(sk: TcpSock) -> None:
    """The reordering timer went off."""
    prior_inflight = tcp_packets_in_flight(sk)
    lost = tcp_lost(sk)
    tcp_rack_detect_loss(sk)
    if prior_inflight != tcp_packets_in_flight(sk):
        if sk.icsk_ca_state != TCP_CA_Recovery:
            tcp_ack.tcp_enter_recovery(sk, False)
            tcp_ack.tcp_cwnd_reduction(sk, 1, tcp_lost(sk) - lost, 0)
        tcp_retransmit.tcp_xmit_retransmit_queue(sk)
    if sk.icsk_pending != ICSK_TIME_RETRANS:
        tcp_ack.tcp_rearm_rto(sk)


def tcp_rack_update_reo_wnd(sk: TcpSock, rs: RateSample) -> None:
    """Widen the window by a step in every round with a D-SACK; go back to one after 16 recoveries without."""
    if sk.sk_net.ipv4.sysctl_tcp_recovery & TCP_RACK_STATIC_REO_WND or not rs.prior_delivered:
        return
    loss = tcp_loss_state(sk)
    if rs.prior_delivered < loss.rack_last_delivered:
        sk.rack_dsack_seen = False  # a round trip has not passed since the last step
    if sk.rack_dsack_seen:
        sk.rack_reo_wnd_steps = min(0xFF, sk.rack_reo_wnd_steps + 1)
        sk.rack_dsack_seen = False
        loss.rack_last_delivered = sk.delivered
        sk.rack_reo_wnd_persist = TCP_RACK_RECOVERY_THRESH
    elif not sk.rack_reo_wnd_persist:
        sk.rack_reo_wnd_steps = 1


def tcp_newreno_mark_lost(sk: TcpSock, snd_una_advanced: bool) -> None:
    """Without SACK (RFC 6582): the head is lost at the third duplicate ACK, and at each partial ACK in recovery."""
    state = sk.icsk_ca_state
    if not ((state < TCP_CA_Recovery and sk.sacked_out >= sk.reordering) or (state == TCP_CA_Recovery and snd_una_advanced)):
        return
    skb = tcp_rtx_queue_head(sk)
    if skb is None or skb.sacked & TCPCB_LOST:
        return
    mss = skb.gso_size
    if skb.gso_segs > 1 and skb.len > mss:
        tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, mss, mss)
    tcp_ack.tcp_mark_skb_lost(sk, skb)
