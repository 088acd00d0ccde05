"""net/ipv4/tcp_input.c, its part that measures round trips (RFC 6298, 7323; Karn).

tcp_ack_update_rtt takes the samples of one ACK; tcp_rtt_estimator smooths them as Linux does; tcp_set_rto makes the timeout of
them; the least RTT of the last tcp_min_rtt_wlen seconds is what RACK goes by.
"""

from __future__ import annotations

from afinet.kernel.time import NSEC_PER_SEC
from afinet.kernel.win_minmax import minmax_get, minmax_running_min
from afinet.net.ipv4 import tcp_ack
from afinet.net.ipv4.tcp_inline import FLAG_ACK_MAYBE_DELAYED, FLAG_ACKED, FLAG_SYN_ACKED, tcp_rto_min_us, tcp_time_stamp_ts
from afinet.net.ipv4.tcp_rate import TcpSacktagState
from afinet.net.ipv4.tcp_sock import TcpRequestSock, TcpSock, after


def tcp_min_rtt(tp: TcpSock) -> int:
    """us; 2**32 - 1 before anything was measured."""
    return minmax_get(tp.rtt_min)


def tcp_rtt_estimator(sk: TcpSock, mrtt_us: int) -> None:
    """RFC 6298 as Linux does it: srtt with gain 1/8; the deviation in mdev with gain 1/4, or 1/32 while the RTT falls; rttvar is
    its maximum over a window, and decays once per window."""
    m = mrtt_us
    srtt = sk.srtt_us
    if srtt:
        m -= srtt >> 3
        srtt += m
        mdev = sk.mdev_us
        if m < 0:
            m = -m - (mdev >> 2)
            if m > 0:
                m >>= 3
        else:
            m -= mdev >> 2
        mdev += m
        sk.mdev_us = mdev
        if mdev > sk.mdev_max_us:
            sk.mdev_max_us = mdev
            if mdev > sk.rttvar_us:
                sk.rttvar_us = mdev
        if after(sk.snd_una, sk.rtt_seq):
            if sk.mdev_max_us < sk.rttvar_us:
                sk.rttvar_us -= (sk.rttvar_us - sk.mdev_max_us) >> 2
            sk.rtt_seq = sk.snd_nxt
            sk.mdev_max_us = tcp_rto_min_us(sk)
    else:
        srtt = m << 3
        sk.mdev_us = m << 1  # so that the first RTO is three RTTs
        sk.rttvar_us = max(sk.mdev_us, tcp_rto_min_us(sk))
        sk.mdev_max_us = sk.rttvar_us
        sk.rtt_seq = sk.snd_nxt
    sk.srtt_us = srtt if srtt > 1 else 1


def tcp_set_rto(sk: TcpSock) -> None:
    """RTO = srtt + rttvar, in jiffies: rounded up to the tick."""
    tick = sk.kernel.tick_nsec
    rto = -(-((sk.srtt_us >> 3) + sk.rttvar_us) * 1000 // tick) * tick
    rto_max = sk.icsk_rto_max
    sk.icsk_rto = rto if rto < rto_max else rto_max


def tcp_rtt_tsopt_us(tp: TcpSock, min_delta: int) -> int:
    """What the echoed timestamp says of the RTT (us), -1 for nothing credible."""
    delta = (tcp_time_stamp_ts(tp) - tp.rx_opt.rcv_tsecr) & 0xFFFFFFFF
    if delta < 0x7FFFFFFF // 1000:
        return (delta or min_delta) * 1000
    return -1


def tcp_update_rtt_min(sk: TcpSock, rtt_us: int, flag: int) -> None:
    m = sk.rtt_min
    # a delayed ACK, which the filter would take for the path's RTT when the true ones have aged
    if flag & FLAG_ACK_MAYBE_DELAYED and rtt_us > m[1]:
        return
    sk.rtt_min = minmax_running_min(m, sk.sk_net.ipv4.sysctl_tcp_min_rtt_wlen * NSEC_PER_SEC, sk.kernel.now, rtt_us or 1)


def tcp_ack_update_rtt(sk: TcpSock, flag: int, seq_rtt_us: int, sack_rtt_us: int, ca_rtt_us: int, state: TcpSacktagState) -> bool:
    """Of the samples an ACK gives (-1 for none), prefer what was timed here to what the peer echoes (Karn excludes
    retransmissions)."""
    if seq_rtt_us < 0:
        seq_rtt_us = sack_rtt_us
    if seq_rtt_us < 0 and flag & FLAG_ACKED and sk.rx_opt.saw_tstamp and sk.rx_opt.rcv_tsecr:
        seq_rtt_us = ca_rtt_us = tcp_rtt_tsopt_us(sk, 1)
    state.rate.rtt_us = ca_rtt_us
    if seq_rtt_us < 0:
        return False
    tcp_update_rtt_min(sk, ca_rtt_us, flag)
    tcp_rtt_estimator(sk, seq_rtt_us)
    tcp_set_rto(sk)
    sk.icsk_backoff = 0
    return True


def tcp_synack_rtt_meas(sk: TcpSock, req: TcpRequestSock) -> None:
    """The RTT of a SYN-ACK that was sent once."""
    rtt_us = -1
    if not req.num_retrans and req.snt_synack:
        rtt_us = (sk.kernel.now - req.snt_synack) // 1000
    tcp_ack_update_rtt(sk, FLAG_SYN_ACKED, rtt_us, -1, rtt_us, tcp_ack.tcp_scratch(sk.kernel))
