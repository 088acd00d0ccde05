"""include/net/tcp.h, and the inlines of include/net/inet_connection_sock.h that arm no timer: constants and leaf functions.

Imports nothing that could import it back; every file of TCP may import names from here. Times are ns, windows and buffers bytes,
timestamps of the option milliseconds. (The inlines that arm and stop the retransmit timer are in tcp_timer.py, since the timers are
made there when first armed.)
"""

from __future__ import annotations

from typing import Final

from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC
from afinet.net.core.skbuff import SkBuff, consume_skb, skb_append, skb_unlink
from afinet.net.core.sock import Sock, sk_mem_uncharge
from afinet.net.ipv4.inet_sock import (
    ICSK_ACK_PUSHED,
    ICSK_ACK_SCHED,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    InetConnectionSock,
)
from afinet.net.ipv4.tcp_sock import (
    TcpOptionsReceived,
    TcpSock,
    after,
)
from afinet.uapi.rtnetlink import RTAX_LOCK, RTAX_RTO_MIN
from afinet.uapi.tcp import (
    TCP_CA_CWR,
    TCPF_CA_CWR,
    TCP_CA_Recovery,
    TCPF_CA_Recovery,
)

# L1_CACHE_ALIGN(128 + MAX_HEADER), what Linux reserves in front of a segment; MAX_HEADER as without wireless devices
MAX_TCP_HEADER: Final = 256
MAX_TCP_OPTION_SPACE: Final = 40
TCP_MIN_SND_MSS: Final = 48
TCP_MIN_GSO_SIZE: Final = TCP_MIN_SND_MSS - MAX_TCP_OPTION_SPACE
MAX_TCP_WINDOW: Final = 32767  # the window of a SYN, before any scale is agreed
TCP_MIN_MSS: Final = 88
TCP_MSS_DEFAULT: Final = 536
TCP_INIT_CWND: Final = 10
TCP_INFINITE_SSTHRESH: Final = 0x7FFFFFFF
TCP_MAX_QUICKACKS: Final = 16
TCP_FASTRETRANS_THRESH: Final = 3
TCP_RMEM_TO_WIN_SCALE: Final = 8
TCP_DEFAULT_SCALING_RATIO: Final = 1 << (TCP_RMEM_TO_WIN_SCALE - 1)
TCP_SKB_MIN_TRUESIZE: Final = 2048 + 256
TCP_RACK_RECOVERY_THRESH: Final = 16

TCP_RTO_MAX: Final = 120 * NSEC_PER_SEC
TCP_RTO_MIN: Final = NSEC_PER_SEC // 5
TCP_TIMEOUT_MIN: Final = 2 * NSEC_PER_MSEC  # TCP_TIMEOUT_MIN_US, for RACK and TLP
TCP_TIMEOUT_MIN_US: Final = 2000
TCP_TIMEOUT_INIT: Final = NSEC_PER_SEC
TCP_TIMEOUT_FALLBACK: Final = 3 * NSEC_PER_SEC
TCP_DELACK_MAX: Final = NSEC_PER_SEC // 5
TCP_DELACK_MIN: Final = NSEC_PER_SEC // 25
TCP_ATO_MIN: Final = NSEC_PER_SEC // 25
TCP_RESOURCE_PROBE_INTERVAL: Final = NSEC_PER_SEC // 2
TCP_TIMEWAIT_LEN: Final = 60 * NSEC_PER_SEC
TCP_FIN_TIMEOUT: Final = TCP_TIMEWAIT_LEN
TCP_FIN_TIMEOUT_MAX: Final = 120 * NSEC_PER_SEC
TCP_KEEPALIVE_TIME: Final = 7200 * NSEC_PER_SEC
TCP_KEEPALIVE_PROBES: Final = 9
TCP_KEEPALIVE_INTVL: Final = 75 * NSEC_PER_SEC
MAX_TCP_KEEPIDLE: Final = 32767  # seconds
MAX_TCP_KEEPINTVL: Final = 32767
MAX_TCP_KEEPCNT: Final = 127
MAX_TCP_SYNCNT: Final = 127
TCP_PAWS_WRAP: Final = 0x7FFFFFFF // 1_000_000  # seconds: after this long, wrapped timestamps cannot be told from old ones
TCP_PAWS_MSL: Final = 60  # seconds
TCP_PAWS_WINDOW: Final = 1

TCP_NAGLE_OFF: Final = 1
TCP_NAGLE_CORK: Final = 2
TCP_NAGLE_PUSH: Final = 4

TCP_ECN_OK: Final = 1
TCP_ECN_QUEUE_CWR: Final = 2
TCP_ECN_DEMAND_CWR: Final = 4
TCP_ECN_SEEN: Final = 8

TCP_URG_VALID: Final = 0x0100
TCP_URG_NOTYET: Final = 0x0200
TCP_URG_READ: Final = 0x0400

# tcp_sock.tsq_flags
TSQF_THROTTLED: Final = 1 << 0
TSQF_QUEUED: Final = 1 << 1
TCPF_TSQ_DEFERRED: Final = 1 << 2
TCPF_WRITE_TIMER_DEFERRED: Final = 1 << 3
TCPF_DELACK_TIMER_DEFERRED: Final = 1 << 4
TCPF_MTU_REDUCED_DEFERRED: Final = 1 << 5
TCPF_ACK_DEFERRED: Final = 1 << 6
TCP_DEFERRED_ALL: Final = (
    TCPF_TSQ_DEFERRED | TCPF_WRITE_TIMER_DEFERRED | TCPF_DELACK_TIMER_DEFERRED | TCPF_MTU_REDUCED_DEFERRED | TCPF_ACK_DEFERRED
)

# enum tcp_chrono
TCP_CHRONO_UNSPEC: Final = 0
TCP_CHRONO_BUSY: Final = 1
TCP_CHRONO_RWND_LIMITED: Final = 2
TCP_CHRONO_SNDBUF_LIMITED: Final = 3

# enum tcp_synack_type
TCP_SYNACK_NORMAL: Final = 0
TCP_SYNACK_FASTOPEN: Final = 1
TCP_SYNACK_COOKIE: Final = 2

# enum tcp_ca_event
CA_EVENT_TX_START: Final = 0
CA_EVENT_CWND_RESTART: Final = 1
CA_EVENT_COMPLETE_CWR: Final = 2
CA_EVENT_LOSS: Final = 3
CA_EVENT_ECN_NO_CE: Final = 4
CA_EVENT_ECN_IS_CE: Final = 5

# flags of tcp_congestion_ops.in_ack_event
CA_ACK_SLOWPATH: Final = 1
CA_ACK_WIN_UPDATE: Final = 2
CA_ACK_ECE: Final = 4

# what an ACK did and said (tcp_input.c)
FLAG_DATA: Final = 0x01  # the segment contained data
FLAG_WIN_UPDATE: Final = 0x02
FLAG_DATA_ACKED: Final = 0x04  # data was acknowledged
FLAG_RETRANS_DATA_ACKED: Final = 0x08  # some of it had been sent again
FLAG_SYN_ACKED: Final = 0x10
FLAG_DATA_SACKED: Final = 0x20  # newly SACKed
FLAG_ECE: Final = 0x40
FLAG_LOST_RETRANS: Final = 0x80  # a retransmission was lost too
FLAG_SLOWPATH: Final = 0x100  # do not skip the window update
FLAG_ORIG_SACK_ACKED: Final = 0x200  # data never sent again was delivered
FLAG_SND_UNA_ADVANCED: Final = 0x400
FLAG_DSACKING_ACK: Final = 0x800
FLAG_SET_XMIT_TIMER: Final = 0x1000
FLAG_SACK_RENEGING: Final = 0x2000
FLAG_UPDATE_TS_RECENT: Final = 0x4000
FLAG_NO_CHALLENGE_ACK: Final = 0x8000
FLAG_ACK_MAYBE_DELAYED: Final = 0x10000
FLAG_DSACK_TLP: Final = 0x20000

FLAG_ACKED: Final = FLAG_DATA_ACKED | FLAG_SYN_ACKED
FLAG_NOT_DUP: Final = FLAG_DATA | FLAG_WIN_UPDATE | FLAG_ACKED
FLAG_CA_ALERT: Final = FLAG_DATA_SACKED | FLAG_ECE | FLAG_DSACKING_ACK
FLAG_FORWARD_PROGRESS: Final = FLAG_ACKED | FLAG_DATA_SACKED

# Header prediction compares the flags and the window, the data offset being implied by the length (tcp_flag_word).
TCP_FLAG_CWR: Final = 0x0080_0000
TCP_FLAG_ECE: Final = 0x0040_0000
TCP_FLAG_URG: Final = 0x0020_0000
TCP_FLAG_ACK: Final = 0x0010_0000
TCP_FLAG_PSH: Final = 0x0008_0000
TCP_FLAG_RST: Final = 0x0004_0000
TCP_FLAG_SYN: Final = 0x0002_0000
TCP_FLAG_FIN: Final = 0x0001_0000
TCP_RESERVED_BITS: Final = 0x0E00_0000
TCP_DATA_OFFSET: Final = 0xF000_0000
TCP_HP_BITS: Final = 0xFFFF_FFFF & ~(TCP_RESERVED_BITS | TCP_FLAG_PSH)
TCP_REMNANT: Final = TCP_FLAG_FIN | TCP_FLAG_URG | TCP_FLAG_SYN | TCP_FLAG_PSH


# -- time ------------------------------------------------------------------------------------------------------------------


def tcp_mstamp_refresh(tp: TcpSock) -> None:
    """The time that the work in hand goes by."""
    tp.tcp_mstamp = tp.kernel.now


def tcp_jiffies32(sk: Sock) -> int:
    """Now, in ns: afinet keeps in ns what Linux keeps in jiffies."""
    return sk.kernel.now


def tcp_time_stamp_ms(tp: TcpSock) -> int:
    return tp.tcp_mstamp // NSEC_PER_MSEC


def tcp_time_stamp_ts(tp: TcpSock) -> int:
    """What goes into the timestamp option and into retrans_stamp, before the sock's offset: milliseconds, 32 bits."""
    return tp.tcp_mstamp // NSEC_PER_MSEC & 0xFFFFFFFF


def tcp_clock_ms(sk: Sock) -> int:
    return sk.kernel.now // NSEC_PER_MSEC


def tcp_clock_ts(sk: Sock) -> int:
    return sk.kernel.now // NSEC_PER_MSEC & 0xFFFFFFFF


def tcp_skb_timestamp_us(skb: SkBuff) -> int:
    return skb.tstamp // NSEC_PER_USEC


def tcp_skb_timestamp_ts(skb: SkBuff) -> int:
    return skb.tstamp // NSEC_PER_MSEC & 0xFFFFFFFF


def tcp_stamp_us_delta(t1: int, t0: int) -> int:
    """Microseconds from `t0` to `t1` (ns), at least 0."""
    delta = (t1 - t0) // NSEC_PER_USEC
    return delta if delta > 0 else 0


def tcp_rto_min(sk: TcpSock) -> int:
    """ns; the route's, if that is locked (`ip route` always locks it)."""
    dst = sk.sk_dst_cache
    if dst is not None and dst.metrics is not None and dst.metrics[RTAX_LOCK - 1] >> RTAX_RTO_MIN & 1:
        return dst.metrics[RTAX_RTO_MIN - 1] * NSEC_PER_MSEC
    return sk.icsk_rto_min


def tcp_rto_min_us(sk: TcpSock) -> int:
    return tcp_rto_min(sk) // NSEC_PER_USEC


def tcp_rto_max(sk: InetConnectionSock) -> int:
    return sk.icsk_rto_max


def tcp_delack_max(sk: TcpSock) -> int:
    """icsk_delack_max: how long an ACK is held back at most (ns)."""
    cold = sk.tcp_cold
    return (cold.icsk_delack_max if cold is not None else 0) or TCP_DELACK_MAX


def tcp_user_timeout(sk: TcpSock) -> int:
    """icsk_user_timeout (ns); 0: none was set."""
    cold = sk.tcp_cold
    return cold.icsk_user_timeout if cold is not None else 0


def tcp_linger2(tp: TcpSock) -> int:
    cold = tp.tcp_cold
    return cold.linger2 if cold is not None else 0


def tcp_fin_time(sk: TcpSock) -> int:
    """How long FIN_WAIT2 of an orphan lasts (ns): at least 3.5 RTO, so that a lost ACK of our FIN can be repaired."""
    timeout = tcp_linger2(sk) or sk.sk_net.ipv4.sysctl_tcp_fin_timeout
    rto = sk.icsk_rto
    floor = (rto << 2) - (rto >> 1)
    return timeout if timeout > floor else floor


def keepalive_intvl_when(tp: TcpSock) -> int:
    cold = tp.tcp_cold
    return (cold.keepalive_intvl if cold is not None else 0) or tp.sk_net.ipv4.sysctl_tcp_keepalive_intvl


def keepalive_time_when(tp: TcpSock) -> int:
    cold = tp.tcp_cold
    return (cold.keepalive_time if cold is not None else 0) or tp.sk_net.ipv4.sysctl_tcp_keepalive_time


def keepalive_probes(tp: TcpSock) -> int:
    cold = tp.tcp_cold
    return (cold.keepalive_probes if cold is not None else 0) or tp.sk_net.ipv4.sysctl_tcp_keepalive_probes


def keepalive_time_elapsed(tp: TcpSock) -> int:
    """ns since anything came from the peer."""
    now = tp.kernel.now
    return min(now - tp.icsk_ack_lrcvtime, now - tp.rcv_tstamp)


# -- windows and buffers ---------------------------------------------------------------------------------------------------


def tcp_win_from_space(tp: TcpSock, space: int) -> int:
    """How much window `space` bytes of buffer stand for, by the measured ratio of payload to truesize."""
    ratio: int = tp.scaling_ratio
    return space * ratio >> TCP_RMEM_TO_WIN_SCALE


def tcp_space_from_win(tp: TcpSock, win: int) -> int:
    """The inverse of tcp_win_from_space, rounded up."""
    ratio: int = tp.scaling_ratio
    return (win << TCP_RMEM_TO_WIN_SCALE) // ratio


def tcp_space(tp: TcpSock) -> int:
    """Window that the free part of the receive buffer stands for; negative when it is overcommitted."""
    return tcp_win_from_space(tp, tp.sk_rcvbuf - tp.sk_backlog_len - tp.sk_rmem_alloc)


def tcp_full_space(tp: TcpSock) -> int:
    return tcp_win_from_space(tp, tp.sk_rcvbuf)


def tcp_scaling_ratio_init(tp: TcpSock) -> None:
    """tcp_scaling_ratio: until something is measured, half of the buffer is payload."""
    tp.scaling_ratio = TCP_DEFAULT_SCALING_RATIO


def tcp_receive_window(tp: TcpSock) -> int:
    """What is left of the window that was advertised."""
    win = (tp.rcv_wup + tp.rcv_wnd - tp.rcv_nxt) & 0xFFFFFFFF
    return win if win < 0x80000000 else 0


def tcp_wnd_end(tp: TcpSock) -> int:
    """The first sequence number that the peer's window does not admit."""
    return (tp.snd_una + tp.snd_wnd) & 0xFFFFFFFF


def tcp_rmem_pressure(sk: TcpSock) -> bool:
    """Little of the receive buffer is left, or the protocol is under pressure."""
    if tcp_under_memory_pressure(sk):
        return True
    rcvbuf = sk.sk_rcvbuf
    return sk.sk_rmem_alloc > rcvbuf - (rcvbuf >> 3)


def tcp_under_memory_pressure(sk: Sock) -> bool:
    memcg = sk.sk_memcg
    if memcg is not None and memcg.tcpmem_pressure:
        return True
    return sk.sk_prot.memory_pressure != 0


def tcp_epollin_ready(sk: TcpSock, target: int) -> bool:
    """Whether a reader that wants `target` bytes should be woken."""
    avail = (sk.rcv_nxt - sk.copied_seq) & 0xFFFFFFFF
    if avail == 0 or avail > 0x7FFFFFFF:
        return False
    if avail >= target or tcp_rmem_pressure(sk):
        return True
    return tcp_receive_window(sk) <= sk.icsk_ack_rcv_mss


# -- counting packets ------------------------------------------------------------------------------------------------------


def tcp_is_sack(tp: TcpSock) -> bool:
    return tp.rx_opt.sack_ok != 0


def tcp_is_reno(tp: TcpSock) -> bool:
    return tp.rx_opt.sack_ok == 0


def tcp_left_out(tp: TcpSock) -> int:
    return tp.sacked_out + tp.lost_out


def tcp_lost(tp: TcpSock) -> int:
    """Packets marked lost so far."""
    return 0 if tp.loss_state is None else tp.loss_state.lost


def tcp_packets_in_flight(tp: TcpSock) -> int:
    """RFC 6675's pipe: sent, less what was delivered out of order or is taken for lost, plus what was sent again."""
    return tp.packets_out - tp.sacked_out - tp.lost_out + tp.retrans_out


def tcp_in_slow_start(tp: TcpSock) -> bool:
    return tp.snd_cwnd < tp.snd_ssthresh


def tcp_in_initial_slowstart(tp: TcpSock) -> bool:
    return tp.snd_ssthresh >= TCP_INFINITE_SSTHRESH


def tcp_in_cwnd_reduction(sk: TcpSock) -> bool:
    return (TCPF_CA_CWR | TCPF_CA_Recovery) >> sk.icsk_ca_state & 1 == 1


def tcp_current_ssthresh(sk: TcpSock) -> int:
    """ssthresh, or three quarters of the window outside recovery: what a loss now should not fall below (RFC 2861)."""
    if sk.icsk_ca_state == TCP_CA_CWR or sk.icsk_ca_state == TCP_CA_Recovery:
        return sk.snd_ssthresh
    return max(sk.snd_ssthresh, (sk.snd_cwnd >> 1) + (sk.snd_cwnd >> 2))


def tcp_skb_pcount(skb: SkBuff) -> int:
    """Packets on the wire that a queued skb stands for."""
    return skb.gso_segs


def tcp_skb_seglen(skb: SkBuff) -> int:
    """The size of one packet of `skb`."""
    return skb.len if skb.gso_segs <= 1 else skb.gso_size


def tcp_is_cwnd_limited(sk: TcpSock) -> bool:
    if sk.is_cwnd_limited:
        return True
    # in slow start, a window that was half used may still grow (RFC 7661)
    if sk.snd_cwnd < sk.snd_ssthresh:
        return sk.snd_cwnd < 2 * sk.max_packets_out
    return False


# -- options ---------------------------------------------------------------------------------------------------------------


def tcp_paws_check(rx_opt: TcpOptionsReceived, now: int, paws_win: int) -> bool:
    """The timestamp is acceptable: not older than the last one by more than `paws_win`, or that one is itself too old. `now` is
    ns."""
    age = (rx_opt.ts_recent - rx_opt.rcv_tsval) & 0xFFFFFFFF
    if age >= 0x80000000 or age <= paws_win:
        return True
    if now // NSEC_PER_SEC >= rx_opt.ts_recent_stamp + TCP_PAWS_WRAP:
        return True
    # Some systems send a zero timestamp in SYN: anything follows that.
    return rx_opt.ts_recent == 0


def tcp_paws_reject(rx_opt: TcpOptionsReceived, now: int, rst: bool) -> bool:
    """Whether PAWS says that the segment is old. An RST is believed again after an MSL (RFC 7323, 5.2: timestamps are optional
    there)."""
    if tcp_paws_check(rx_opt, now, 0):
        return False
    return not (rst and now // NSEC_PER_SEC >= rx_opt.ts_recent_stamp + TCP_PAWS_MSL)


def tcp_fast_path_on_window(tp: TcpSock, snd_wnd: int) -> None:
    """__tcp_fast_path_on: what the flag word of the next expected segment looks like."""
    if tp.ecn_flags & TCP_ECN_OK and tp.ecn_flags & TCP_ECN_DEMAND_CWR:
        tp.pred_flags = 0
        return
    header_len: int = tp.tcp_header_len
    tp.pred_flags = header_len << 26 | TCP_FLAG_ACK | snd_wnd


def tcp_fast_path_on(tp: TcpSock) -> None:
    wscale: int = tp.rx_opt.snd_wscale
    tcp_fast_path_on_window(tp, tp.snd_wnd >> wscale)


def tcp_fast_path_check(tp: TcpSock) -> None:
    """Turn header prediction on when nothing is out of order, the window is open and memory there is."""
    if tp.out_of_order_queue is None and tp.rcv_wnd and tp.sk_rmem_alloc < tp.sk_rcvbuf and tp.urg_data == 0:
        tcp_fast_path_on(tp)


def tcp_clear_options(rx_opt: TcpOptionsReceived) -> None:
    rx_opt.tstamp_ok = False
    rx_opt.sack_ok = 0
    rx_opt.wscale_ok = False
    rx_opt.snd_wscale = 0


# -- the write and retransmit queues ---------------------------------------------------------------------------------------


def tcp_write_queue_head(sk: Sock) -> SkBuff | None:
    return sk.sk_write_queue.head


def tcp_write_queue_tail(sk: Sock) -> SkBuff | None:
    return sk.sk_write_queue.tail


def tcp_send_head(sk: Sock) -> SkBuff | None:
    return sk.sk_write_queue.head


def tcp_write_queue_empty(sk: TcpSock) -> bool:
    """Nothing is queued that was not sent (by sequence numbers, as in Linux)."""
    return sk.write_seq == sk.snd_nxt


def tcp_rtx_queue_empty(sk: TcpSock) -> bool:
    return sk.tcp_rtx_queue is None or sk.tcp_rtx_queue.head is None


def tcp_rtx_and_write_queues_empty(sk: TcpSock) -> bool:
    return tcp_rtx_queue_empty(sk) and sk.sk_write_queue.head is None


def tcp_rtx_queue_head(sk: TcpSock) -> SkBuff | None:
    return None if sk.tcp_rtx_queue is None else sk.tcp_rtx_queue.head


def tcp_rtx_queue_tail(sk: TcpSock) -> SkBuff | None:
    return None if sk.tcp_rtx_queue is None else sk.tcp_rtx_queue.tail


def tcp_insert_write_queue_after(after_skb: SkBuff, skb: SkBuff, sk: TcpSock) -> None:
    skb_append(sk.sk_write_queue, after_skb, skb)


def tcp_unlink_write_queue(skb: SkBuff, sk: Sock) -> None:
    skb_unlink(sk.sk_write_queue, skb)


def tcp_rtx_queue_unlink(skb: SkBuff, sk: TcpSock) -> None:
    queue = sk.tcp_rtx_queue
    if queue is not None:
        queue.unlink(skb)


def tcp_wmem_free_skb(sk: Sock, skb: SkBuff) -> None:
    """A segment leaves the send queues for good."""
    sk.sk_wmem_queued -= skb.truesize
    sk_mem_uncharge(sk, skb.truesize)
    consume_skb(skb)


def tcp_rtx_queue_unlink_and_free(skb: SkBuff, sk: TcpSock) -> None:
    tcp_rtx_queue_unlink(skb, sk)
    tcp_wmem_free_skb(sk, skb)


def tcp_highest_sack_seq(tp: TcpSock) -> int:
    """One past the highest SACKed skb's start: the start of that skb, snd_una with none, snd_nxt when it is the last."""
    if tp.sacked_out == 0:
        return tp.snd_una
    skb = tp.highest_sack
    return tp.snd_nxt if skb is None else skb.seq


def tcp_highest_sack_reset(sk: TcpSock) -> None:
    sk.highest_sack = tcp_rtx_queue_head(sk)


def tcp_highest_sack_replace(sk: TcpSock, old: SkBuff, new: SkBuff | None) -> None:
    if old is sk.highest_sack:
        sk.highest_sack = new


def tcp_clear_all_retrans_hints(tp: TcpSock) -> None:
    tp.retransmit_skb_hint = None


def forced_push(tp: TcpSock) -> bool:
    """More than half of the largest window was written since the last PSH."""
    return after(tp.write_seq, (tp.pushed_seq + (tp.max_window >> 1)) & 0xFFFFFFFF)


def tcp_skb_can_collapse_to(skb: SkBuff) -> bool:
    return not skb.eor


def tcp_skb_sent_after(t1: int, t2: int, seq1: int, seq2: int) -> bool:
    """Whether (t1, seq1) was sent after (t2, seq2); ties are broken by sequence number."""
    return t1 > t2 or (t1 == t2 and after(seq1, seq2))


def tcp_rack_sent_after(tp: TcpSock, skb: SkBuff) -> bool:
    """Whether what RACK saw delivered was sent after `skb`.

    Linux compares times, and sequence numbers where they are equal. Under a virtual clock very much happens in one instant, new
    data and retransmissions among it, so the order of transmission decides; sequence numbers only between the parts of one
    segment.
    """
    t1 = tp.rack_mstamp
    t2 = skb.tstamp
    if t1 != t2:
        return t1 > t2
    if tp.rack_tx_order != skb.tx_order:
        return tp.rack_tx_order > skb.tx_order
    return after(tp.rack_end_seq, skb.end_seq)


# -- inet_connection_sock.h ------------------------------------------------------------------------------------------------


def inet_csk_schedule_ack(sk: InetConnectionSock) -> None:
    sk.icsk_ack_pending |= ICSK_ACK_SCHED


def inet_csk_ack_scheduled(sk: InetConnectionSock) -> bool:
    return sk.icsk_ack_pending & ICSK_ACK_SCHED != 0


def inet_csk_delack_init(sk: InetConnectionSock) -> None:
    """The whole of icsk_ack is cleared."""
    sk.icsk_ack_pending = 0
    sk.icsk_ack_quick = 0
    sk.icsk_ack_pingpong = 0
    sk.icsk_ack_ato = 0
    sk.icsk_ack_timeout = 0
    sk.icsk_ack_lrcvtime = 0
    sk.icsk_ack_last_seg_size = 0
    sk.icsk_ack_rcv_mss = 0


def inet_csk_in_pingpong_mode(sk: InetConnectionSock) -> bool:
    """An interactive session: ACKs wait for data to ride on."""
    return sk.icsk_ack_pingpong >= sk.sk_net.ipv4.sysctl_tcp_pingpong_thresh


def inet_csk_enter_pingpong_mode(sk: InetConnectionSock) -> None:
    sk.icsk_ack_pingpong = sk.sk_net.ipv4.sysctl_tcp_pingpong_thresh


def inet_csk_exit_pingpong_mode(sk: InetConnectionSock) -> None:
    sk.icsk_ack_pingpong = 0


def inet_csk_inc_pingpong_cnt(sk: InetConnectionSock) -> None:
    if sk.icsk_ack_pingpong < 255:
        sk.icsk_ack_pingpong += 1


def inet_csk_ack_pushed(sk: InetConnectionSock) -> bool:
    return sk.icsk_ack_pending & ICSK_ACK_PUSHED != 0


def inet_csk_rto_backoff(sk: InetConnectionSock, max_when: int) -> int:
    """The RTO after its doublings (ns)."""
    backoff: int = sk.icsk_backoff
    when = sk.icsk_rto << backoff
    return when if when < max_when else max_when


def icsk_pending_is_rtx(sk: InetConnectionSock) -> bool:
    pending = sk.icsk_pending
    return pending == ICSK_TIME_RETRANS or pending == ICSK_TIME_LOSS_PROBE or pending == ICSK_TIME_REO_TIMEOUT


# -- others ----------------------------------------------------------------------------------------------------------------


def tcp_too_many_orphans(sk: Sock, orphans: int) -> bool:
    """More orphans than tcp_max_orphans, or memory beyond its limit."""
    return orphans > sk.sk_net.ipv4.sysctl_tcp_max_orphans


def tcp_out_of_memory(sk: Sock) -> bool:
    mem = sk.sk_prot.sysctl_mem
    return sk.sk_wmem_queued > 2 * TCP_SKB_MIN_TRUESIZE and mem is not None and sk.sk_prot.memory_allocated > mem[2]


def tcp_urg_mode(tp: TcpSock) -> bool:
    return tp.snd_una != tp.snd_up
