"""net/ipv4/tcp_input.c, its part that takes in data: the receive queue, the queue of what came out of order, the SACK blocks that
tell of it, memory, the window's growth, urgent data.

Call order: tcp_data_queue -> in order: tcp_queue_rcv, tcp_event_data_recv, tcp_fin, tcp_ofo_queue; out of order:
tcp_data_queue_ofo, tcp_sack_new_ofo_skb; then tcp_ack_snd_check decides whether an ACK goes now, later (delayed), or with others
(compressed).

Payload stays the pieces of bytes that the sender wrote: neighbouring segments are coalesced by joining lists of pieces, at most
17 as in an skb of Linux. When the buffer is overcommitted, small pieces are joined (tcp_collapse), then the out-of-order queue is
pruned, then data is dropped.
"""

from __future__ import annotations

from typing import Final

from afinet.kernel.timer import TimerList
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_PROTO_MEM,
    SKB_DROP_REASON_TCP_OFO_DROP,
    SKB_DROP_REASON_TCP_OFO_QUEUE_PRUNE,
    SKB_DROP_REASON_TCP_OFOMERGE,
    SKB_DROP_REASON_TCP_OLD_DATA,
    SKB_DROP_REASON_TCP_OVERWINDOW,
    SKB_DROP_REASON_TCP_ZEROWINDOW,
)
from afinet.net.core.skbuff import (
    DESTRUCTOR_NONE,
    DESTRUCTOR_RFREE,
    SIZEOF_SK_BUFF,
    SKB_DATA_ALIGN,
    SkBuff,
    consume_skb,
    kfree_skb_reason,
    skb_pieces,
    skb_queue_tail,
    skb_set_owner_r,
    skb_tobytes,
    skb_truesize,
    skb_unlink,
)
from afinet.net.core.sock import (
    SOCK_DEAD,
    SOCK_DONE,
    SOCK_MIN_SNDBUF,
    SOCK_URGINLINE,
    sk_forced_mem_schedule,
    sk_mem_charge,
    sk_mem_uncharge,
    sk_rmem_schedule,
    sk_unused_reserved_mem,
    sock_flag,
    sock_hold,
    sock_put,
    sock_set_flag,
)
from afinet.net.ipv4 import tcp, tcp_minisocks, tcp_output, tcp_rtt, tcp_sack, tcp_sockopt
from afinet.net.ipv4.inet_sock import (
    ICSK_ACK_NOMEM,
    ICSK_ACK_NOW,
    ICSK_ACK_PUSHED,
    ICSK_ACK_PUSHED2,
    ICSK_ACK_SCHED,
)
from afinet.net.ipv4.tcp_cong import tcp_ca_event, tcp_ca_needs_ecn
from afinet.net.ipv4.tcp_inline import (
    CA_EVENT_ECN_IS_CE,
    CA_EVENT_ECN_NO_CE,
    MAX_TCP_HEADER,
    TCP_ATO_MIN,
    TCP_CHRONO_SNDBUF_LIMITED,
    TCP_ECN_DEMAND_CWR,
    TCP_ECN_OK,
    TCP_ECN_SEEN,
    TCP_FASTRETRANS_THRESH,
    TCP_INIT_CWND,
    TCP_MAX_QUICKACKS,
    TCP_MIN_MSS,
    TCP_MSS_DEFAULT,
    TCP_URG_NOTYET,
    TCP_URG_VALID,
    TCPF_ACK_DEFERRED,
    TCPF_DELACK_TIMER_DEFERRED,
    inet_csk_enter_pingpong_mode,
    inet_csk_exit_pingpong_mode,
    inet_csk_in_pingpong_mode,
    tcp_epollin_ready,
    tcp_fast_path_check,
    tcp_full_space,
    tcp_mstamp_refresh,
    tcp_receive_window,
    tcp_space,
    tcp_space_from_win,
    tcp_under_memory_pressure,
    tcp_win_from_space,
)
from afinet.net.ipv4.tcp_queue import TcpSkbQueue
from afinet.net.ipv4.tcp_sock import (
    TCPHDR_CWR,
    TCPHDR_FIN,
    TCPHDR_PSH,
    TCPHDR_SYN,
    TCPHDR_URG,
    TcpSock,
    after,
    before,
    tcp_cold,
    tcp_loss_state,
    tcp_receive_queue,
)
from afinet.uapi.rtnetlink import RTAX_QUICKACK
from afinet.uapi.snmp import (
    LINUX_MIB_DELAYEDACKLOST,
    LINUX_MIB_OFOPRUNED,
    LINUX_MIB_PRUNECALLED,
    LINUX_MIB_RCVPRUNED,
    LINUX_MIB_TCPACKCOMPRESSED,
    LINUX_MIB_TCPOFODROP,
    LINUX_MIB_TCPOFOMERGE,
    LINUX_MIB_TCPOFOQUEUE,
    LINUX_MIB_TCPRCVCOALESCE,
    LINUX_MIB_TCPRCVCOLLAPSED,
    LINUX_MIB_TCPRCVQDROP,
    LINUX_MIB_TCPZEROWINDOWDROP,
)
from afinet.uapi.socket import RCV_SHUTDOWN, SOCK_NOSPACE, SOCK_RCVBUF_LOCK, SOCK_SNDBUF_LOCK
from afinet.uapi.tcp import TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_SYN_RECV, TCP_TIME_WAIT
from afinet.wire import be

_MAX_SKB_FRAGS: Final = 17
# How long a linear segment may be for its payload to be copied into the one before.
_COALESCE_COPY: Final = 2048
_COLLAPSE_SIZE: Final = 16384


# -- what the peer's segments look like ------------------------------------------------------------------------------------


def tcp_initialize_rcv_mss(sk: TcpSock) -> None:
    """A first guess of the peer's segment size, to be corrected by what comes."""
    hint = min(sk.advmss, sk.mss_cache, sk.rcv_wnd // 2, TCP_MSS_DEFAULT)
    sk.icsk_ack_rcv_mss = max(hint, TCP_MIN_MSS)


def tcp_measure_rcv_mss(sk: TcpSock, skb: SkBuff) -> None:
    """How large the peer's full segments are (rcv_mss), and how much of the memory they take is payload (scaling_ratio)."""
    last_seg_size = sk.icsk_ack_last_seg_size
    sk.icsk_ack_last_seg_size = 0
    size = skb.gso_size or skb.len
    rcv_mss = sk.icsk_ack_rcv_mss
    if size >= rcv_mss:
        if size != rcv_mss:
            ratio = (skb.len << 8) // skb.truesize if skb.truesize else 0
            ratio = min(ratio, 255) or 1
            if ratio != sk.scaling_ratio:
                sk.scaling_ratio = ratio
                tcp_sockopt.tcp_set_window_clamp(sk, tcp_win_from_space(sk, sk.sk_rcvbuf))
                if sk.window_clamp < sk.rcvq_space_copied:
                    sk.rcvq_space_copied = sk.window_clamp
            sk.icsk_ack_rcv_mss = size if size < sk.advmss else sk.advmss
        # A full segment that is pushed ends a write: no more may come soon, so do not let the ACK wait for it.
        if skb.tcp_flags & TCPHDR_PSH:
            sk.icsk_ack_pending |= ICSK_ACK_PUSHED
        return
    # Smaller: perhaps full, with SACK blocks aboard. The length with the header does not vary then.
    size += skb.data - skb.transport_header
    if size >= TCP_MSS_DEFAULT + 20 or (
        size >= TCP_MIN_MSS + 20 and not skb.tcp_flags & (TCPHDR_FIN | TCPHDR_URG | TCPHDR_SYN | TCPHDR_PSH)
    ):
        size -= sk.tcp_header_len
        sk.icsk_ack_last_seg_size = size
        if size == last_seg_size:
            sk.icsk_ack_rcv_mss = size
            return
    if sk.icsk_ack_pending & ICSK_ACK_PUSHED:
        sk.icsk_ack_pending |= ICSK_ACK_PUSHED2
    sk.icsk_ack_pending |= ICSK_ACK_PUSHED


def tcp_incr_quickack(sk: TcpSock, max_quickacks: int) -> None:
    quickacks = sk.rcv_wnd // (2 * sk.icsk_ack_rcv_mss) or 2
    if quickacks > max_quickacks:
        quickacks = max_quickacks
    if quickacks > sk.icsk_ack_quick:
        sk.icsk_ack_quick = quickacks


def tcp_enter_quickack_mode(sk: TcpSock, max_quickacks: int) -> None:
    """Acknowledge the next segments at once."""
    tcp_incr_quickack(sk, max_quickacks)
    inet_csk_exit_pingpong_mode(sk)
    sk.icsk_ack_ato = TCP_ATO_MIN


def tcp_in_quickack_mode(sk: TcpSock) -> bool:
    if sk.icsk_ack_quick and not inet_csk_in_pingpong_mode(sk):
        return True
    dst = sk.sk_dst_cache
    return dst is not None and dst.metrics is not None and dst.metrics[RTAX_QUICKACK - 1] != 0


def tcp_data_ecn_check(sk: TcpSock, skb: SkBuff) -> None:
    """RFC 3168, 6.1.3: congestion experienced is echoed until CWR comes."""
    if not sk.ecn_flags & TCP_ECN_OK:
        return
    ecn = skb.head[skb.network_header + 1] & 3
    if ecn == 0:
        # The peer stopped marking: probably retransmissions, which should be acknowledged quickly.
        if sk.ecn_flags & TCP_ECN_SEEN:
            tcp_enter_quickack_mode(sk, 2)
        return
    if tcp_ca_needs_ecn(sk):
        tcp_ca_event(sk, CA_EVENT_ECN_IS_CE if ecn == 3 else CA_EVENT_ECN_NO_CE)
    if ecn == 3 and not sk.ecn_flags & TCP_ECN_DEMAND_CWR:
        tcp_enter_quickack_mode(sk, 2)
        sk.ecn_flags |= TCP_ECN_DEMAND_CWR
    sk.ecn_flags |= TCP_ECN_SEEN


# -- the receive buffer ----------------------------------------------------------------------------------------------------


def tcp_sndbuf_expand(sk: TcpSock) -> None:
    """Room for two windows, each segment counted with its overhead."""
    mss_clamp: int = sk.rx_opt.mss_clamp
    per_mss = max(mss_clamp, sk.mss_cache) + MAX_TCP_HEADER + 320
    per_mss = (1 << (per_mss - 1).bit_length()) + 256
    reordering: int = sk.reordering
    nr_segs = max(TCP_INIT_CWND, sk.snd_cwnd, reordering + 1)
    ca = sk.icsk_ca_ops
    sndmem = (2 if ca is None else ca.sndbuf_expand(sk)) * nr_segs * per_mss
    if sk.sk_sndbuf < sndmem:
        sk.sk_sndbuf = min(sndmem, sk.sk_net.ipv4.sysctl_tcp_wmem[2])


def tcp_init_buffer_space(sk: TcpSock) -> None:
    """The connection is established: what the buffers are to be."""
    app_win = sk.sk_net.ipv4.sysctl_tcp_app_win
    if not sk.sk_userlocks & SOCK_SNDBUF_LOCK:
        tcp_sndbuf_expand(sk)
    tcp_mstamp_refresh(sk)
    sk.rcvq_space_time = sk.tcp_mstamp
    sk.rcvq_space_seq = sk.copied_seq
    maxwin = tcp_full_space(sk)
    if sk.window_clamp >= maxwin:
        sk.window_clamp = maxwin
        if app_win and maxwin > 4 * sk.advmss:
            sk.window_clamp = max(maxwin - (maxwin >> app_win), 4 * sk.advmss)
    if app_win and sk.window_clamp > 2 * sk.advmss and sk.window_clamp + sk.advmss > maxwin:
        sk.window_clamp = max(2 * sk.advmss, maxwin - sk.advmss)
    sk.rcv_ssthresh = min(sk.rcv_ssthresh, sk.window_clamp)
    sk.snd_cwnd_stamp = sk.kernel.now
    sk.rcvq_space_copied = min(sk.rcv_ssthresh, sk.rcv_wnd, TCP_INIT_CWND * sk.advmss)


def tcp_grow_window(sk: TcpSock, skb: SkBuff, joined: bool = False) -> None:
    """Slow start of the window that is offered: by two segments for each that came, as long as their overhead is bearable. One
    without payload (a FIN) that was `joined` to another has none (truesize_adjust)."""
    room = min(sk.window_clamp, tcp_space(sk)) - sk.rcv_ssthresh
    if room <= 0:
        return
    if tcp_under_memory_pressure(sk):
        tcp_output.tcp_adjust_rcv_ssthresh(sk)
        return
    size = skb.len
    truesize = tcp_win_from_space(sk, skb.truesize) if size or not joined else 0
    incr = 0
    if truesize <= size:
        incr = 2 * sk.advmss
    else:
        # Small segments may still grow a small window.
        truesize >>= 1
        window = tcp_win_from_space(sk, sk.sk_net.ipv4.sysctl_tcp_rmem[2]) >> 1
        while sk.rcv_ssthresh <= window:
            if truesize <= size:
                incr = 2 * sk.icsk_ack_rcv_mss
                break
            truesize >>= 1
            window >>= 1
    if incr:
        incr = max(incr, 2 * size)
        sk.rcv_ssthresh += min(room, incr)
        sk.icsk_ack_quick |= 1


def tcp_clamp_window(sk: TcpSock) -> None:
    """The buffer is overcommitted: let it be as large as what is in it, and offer little."""
    rmem2 = sk.sk_net.ipv4.sysctl_tcp_rmem[2]
    sk.icsk_ack_quick = 0
    mem = sk.sk_prot.sysctl_mem
    if (
        sk.sk_rcvbuf < rmem2
        and not sk.sk_userlocks & SOCK_RCVBUF_LOCK
        and not tcp_under_memory_pressure(sk)
        and (mem is None or sk.sk_prot.memory_allocated < mem[0])
    ):
        sk.sk_rcvbuf = min(sk.sk_rmem_alloc, rmem2)
    if sk.sk_rmem_alloc > sk.sk_rcvbuf:
        sk.rcv_ssthresh = min(sk.window_clamp, 2 * sk.advmss)


def tcp_rcv_rtt_update(tp: TcpSock, sample: int, win_dep: bool) -> None:
    """The receiver's estimate of the RTT (us << 3). One that depends on the window is an upper bound only."""
    old = tp.rcv_rtt_us
    m = sample << 3
    if old == 0 or m < old:
        tp.rcv_rtt_us = m
        return
    # not while the program lags behind
    if win_dep or tp.rcv_nxt != tp.copied_seq:
        return
    tp.rcv_rtt_us = old - (old >> 3) + sample


def tcp_rcv_rtt_measure(tp: TcpSock) -> None:
    """Without timestamps: the time in which a window of data comes in."""
    if tp.rcv_rtt_time:
        if before(tp.rcv_nxt, tp.rcv_rtt_seq):
            return
        tcp_rcv_rtt_update(tp, (tp.tcp_mstamp - tp.rcv_rtt_time) // 1000 or 1, True)
    tp.rcv_rtt_seq = (tp.rcv_nxt + tp.rcv_wnd) & 0xFFFFFFFF
    tp.rcv_rtt_time = tp.tcp_mstamp


def tcp_rcv_rtt_measure_ts(sk: TcpSock, skb: SkBuff) -> None:
    """With timestamps: a full segment that echoes a new one of ours."""
    tsecr = sk.rx_opt.rcv_tsecr
    if tsecr == sk.rcv_rtt_last_tsecr:
        return
    sk.rcv_rtt_last_tsecr = tsecr
    if (skb.end_seq - skb.seq) & 0xFFFFFFFF >= sk.icsk_ack_rcv_mss:
        delta = tcp_rtt.tcp_rtt_tsopt_us(sk, 0)
        if delta > 0:
            tcp_rcv_rtt_update(sk, delta, False)


def tcp_rcvbuf_grow(sk: TcpSock, newval: int) -> None:
    """The program took `newval` bytes in an RTT: twice that should fit, and more while the sender may still be in slow start."""
    oldval = sk.rcvq_space_copied
    sk.rcvq_space_copied = newval
    net = sk.sk_net.ipv4
    if not net.sysctl_tcp_moderate_rcvbuf or sk.sk_userlocks & SOCK_RCVBUF_LOCK:
        return
    rcvwin = newval << 1
    if oldval > 0:
        rcvwin += rcvwin * (newval - oldval) // oldval << 1
    ofo = sk.out_of_order_queue
    if ofo is not None and ofo.tail is not None:
        rcvwin += (ofo.tail.end_seq - sk.rcv_nxt) & 0xFFFFFFFF
    rcvbuf = min(tcp_space_from_win(sk, rcvwin), net.sysctl_tcp_rmem[2])
    if rcvbuf > sk.sk_rcvbuf:
        sk.sk_rcvbuf = rcvbuf
        sk.window_clamp = tcp_win_from_space(sk, rcvbuf)


def tcp_rcv_space_adjust(sk: TcpSock) -> None:
    """Receive buffer autotuning (dynamic right-sizing). Called when the program has taken data."""
    tcp_mstamp_refresh(sk)
    rtt = sk.rcv_rtt_us
    if rtt == 0 or (sk.tcp_mstamp - sk.rcvq_space_time) // 1000 < rtt >> 3:
        return
    copied = (sk.copied_seq - sk.rcvq_space_seq) & 0xFFFFFFFF
    # what is still queued came in the same time
    copied -= (sk.rcv_nxt - sk.copied_seq) & 0xFFFFFFFF
    if copied > sk.rcvq_space_copied:
        tcp_rcvbuf_grow(sk, copied)
    sk.rcvq_space_seq = sk.copied_seq
    sk.rcvq_space_time = sk.tcp_mstamp


def tcp_event_data_recv(sk: TcpSock, skb: SkBuff) -> None:
    """Data came in order: sizes, times, and the rhythm that delayed ACKs go by."""
    sk.icsk_ack_pending |= ICSK_ACK_SCHED
    size = skb.len
    if size != sk.icsk_ack_rcv_mss or skb.tcp_flags & TCPHDR_PSH or sk.icsk_ack_last_seg_size or skb.gso_size:
        tcp_measure_rcv_mss(sk, skb)
    if not sk.rcv_rtt_time or (sk.rcv_nxt - sk.rcv_rtt_seq) & 0xFFFFFFFF < 0x80000000:
        tcp_rcv_rtt_measure(sk)
    now = sk.kernel.now
    ato = sk.icsk_ack_ato
    if not ato:
        # the first data of the connection
        tcp_incr_quickack(sk, TCP_MAX_QUICKACKS)
        sk.icsk_ack_ato = TCP_ATO_MIN
    else:
        m = now - sk.icsk_ack_lrcvtime
        if m <= TCP_ATO_MIN >> 1:
            sk.icsk_ack_ato = (ato >> 1) + (TCP_ATO_MIN >> 1)
        elif m < ato:
            ato = (ato >> 1) + m
            sk.icsk_ack_ato = ato if ato < sk.icsk_rto else sk.icsk_rto
        elif m > sk.icsk_rto:
            # The sender was silent for long: it may begin with a small window again.
            tcp_incr_quickack(sk, TCP_MAX_QUICKACKS)
    sk.icsk_ack_lrcvtime = now
    if sk.ecn_flags:
        tcp_data_ecn_check(sk, skb)
    if size >= 128 and sk.rcv_ssthresh < sk.window_clamp:
        tcp_grow_window(sk, skb)


# -- memory ----------------------------------------------------------------------------------------------------------------


def tcp_can_ingest(sk: TcpSock, skb: SkBuff) -> bool:
    """Counted is the payload of `skb`, not its truesize: else a small segment in a large buffer could find no room in a window that
    was offered."""
    return sk.sk_rmem_alloc + skb.len <= sk.sk_rcvbuf


def tcp_try_rmem_schedule(sk: TcpSock, skb: SkBuff) -> bool:
    """Make sure of memory for `skb`. False: there is none."""
    size = skb.truesize
    if not tcp_can_ingest(sk, skb) or not sk_rmem_schedule(sk, size):
        if tcp_prune_queue(sk, skb) < 0:
            return False
        while not sk_rmem_schedule(sk, size):
            if not tcp_prune_ofo_queue(sk, skb):
                return False
    return True


def _set_payload(skb: SkBuff, pieces: list[bytes]) -> None:
    """The segment's bytes, without its header, copied into one piece."""
    piece = b"".join(pieces)
    skb.head = b""
    skb.data = 0
    skb.tail = 0
    skb.transport_header = 0
    skb.frags = [piece]
    skb.len = len(piece)
    skb.data_len = len(piece)


def tcp_collapse_bloated(sk: TcpSock, skb: SkBuff) -> None:
    """A segment that was coalesced of many keeps what they took: copied, it takes what its bytes do."""
    size = skb_truesize(skb.len)
    saved = skb.truesize - size
    if saved > 0 and skb.len and skb.destructor == DESTRUCTOR_RFREE and tcp_win_from_space(sk, skb.truesize) > skb.len:
        _set_payload(skb, skb_pieces(skb, 0, skb.len))
        skb.truesize = size
        sk.sk_rmem_alloc -= saved
        sk_mem_uncharge(sk, saved)
        sk.sk_net.net_statistics[LINUX_MIB_TCPRCVCOLLAPSED] += 1


def tcp_collapse_one(sk: TcpSock, skb: SkBuff, next_skb: SkBuff) -> None:
    """Copy what two segments hold into one."""
    _set_payload(skb, skb_pieces(skb, 0, skb.len) + skb_pieces(next_skb, 0, next_skb.len))
    skb.end_seq = next_skb.end_seq
    skb.tcp_flags |= next_skb.tcp_flags
    saved = next_skb.truesize - next_skb.len
    if skb.destructor == DESTRUCTOR_RFREE:
        # the overhead of the second is gone: the first takes its payload over
        skb.truesize += next_skb.len
        next_skb.truesize = saved
    consume_skb(next_skb)
    sk.sk_net.net_statistics[LINUX_MIB_TCPRCVCOLLAPSED] += 1


def tcp_collapse(sk: TcpSock, in_skb: SkBuff) -> None:
    """Copy segments of the receive queue whose overhead is large, and join neighbours."""
    queue = sk.sk_receive_queue
    skb = queue.head
    while skb is not None:
        tcp_collapse_bloated(sk, skb)
        if tcp_can_ingest(sk, in_skb):
            return
        next_skb = skb.next
        if (
            next_skb is not None
            and next_skb.seq == skb.end_seq
            and not (skb.tcp_flags | next_skb.tcp_flags) & (TCPHDR_SYN | TCPHDR_FIN)
            and skb.len + next_skb.len <= _COLLAPSE_SIZE
        ):
            skb_unlink(queue, next_skb)
            tcp_collapse_one(sk, skb, next_skb)
            if tcp_can_ingest(sk, in_skb):
                return
        else:
            skb = next_skb


def tcp_collapse_ofo_queue(sk: TcpSock) -> None:
    queue = sk.out_of_order_queue
    skb = None if queue is None else queue.head
    while skb is not None and queue is not None:
        next_skb = skb.next
        if (
            next_skb is not None
            and next_skb.seq == skb.end_seq
            and not (skb.tcp_flags | next_skb.tcp_flags) & (TCPHDR_SYN | TCPHDR_FIN)
            and skb.len + next_skb.len <= _COLLAPSE_SIZE
        ):
            queue.unlink(next_skb)
            tcp_collapse_one(sk, skb, next_skb)
        else:
            skb = next_skb


def tcp_prune_ofo_queue(sk: TcpSock, in_skb: SkBuff) -> bool:
    """Throw away from the end of the out-of-order queue, an eighth of the buffer at a time. Says whether anything went."""
    queue = sk.out_of_order_queue
    if queue is None:
        return False
    pruned = False
    goal = sk.sk_rcvbuf >> 3
    while queue.tail is not None:
        skb = queue.tail
        if after(in_skb.seq, skb.seq):
            break  # what comes would be thrown away next
        pruned = True
        queue.unlink(skb)
        goal -= skb.truesize
        kfree_skb_reason(sk.sk_net, skb, SKB_DROP_REASON_TCP_OFO_QUEUE_PRUNE)
        if goal <= 0:
            if tcp_can_ingest(sk, in_skb) and not tcp_under_memory_pressure(sk):
                break
            goal = sk.sk_rcvbuf >> 3
    if queue.head is None:
        sk.out_of_order_queue = None
    if pruned:
        sk.sk_net.net_statistics[LINUX_MIB_OFOPRUNED] += 1
        # What was SACKed is gone: the sender has to be ready for that (RFC 2018, 8).
        if sk.rx_opt.sack_ok:
            tcp_sack.tcp_sack_reset(sk)
    return pruned


def tcp_prune_queue(sk: TcpSock, in_skb: SkBuff) -> int:
    """Make room: by a larger buffer, by collapsing, by pruning. -1: in vain, the segment has to be dropped."""
    if not sk.sk_rmem_alloc:
        return -1
    stats = sk.sk_net.net_statistics
    stats[LINUX_MIB_PRUNECALLED] += 1
    if not tcp_can_ingest(sk, in_skb):
        tcp_clamp_window(sk)
    elif tcp_under_memory_pressure(sk):
        tcp_output.tcp_adjust_rcv_ssthresh(sk)
    if tcp_can_ingest(sk, in_skb):
        return 0
    tcp_collapse_ofo_queue(sk)
    tcp_collapse(sk, in_skb)
    if tcp_can_ingest(sk, in_skb):
        return 0
    tcp_prune_ofo_queue(sk, in_skb)
    if tcp_can_ingest(sk, in_skb):
        return 0
    stats[LINUX_MIB_RCVPRUNED] += 1
    sk.pred_flags = 0
    return -1


# -- the queues ------------------------------------------------------------------------------------------------------------


def tcp_rcv_nxt_update(tp: TcpSock, seq: int) -> None:
    tp.bytes_received += (seq - tp.rcv_nxt) & 0xFFFFFFFF
    tp.rcv_nxt = seq


def tcp_try_coalesce(sk: TcpSock, to: SkBuff, skb: SkBuff) -> bool:
    """Append `skb`, its header pulled, to `to`, which it follows. True: `skb` is empty now and its owner's to free."""
    if skb.seq != to.end_seq or to.tcp_flags & TCPHDR_FIN:
        return False
    have = to.frags
    size = skb.len
    delta = size
    if skb.data_len == size:
        more = skb.frags
        if more is None:
            more = []
    elif skb.len > _COALESCE_COPY:
        return False  # a reader copies it, once, and two segments cost that no more than one
    else:
        more = skb_pieces(skb, 0, size)
        if to.data_len + size <= -len(to.head) % SKB_DATA_ALIGN:
            # it fits into the room behind the first one's data
            more = [b"".join(more if have is None else have + more)]
            have = None
            delta = 0
        else:
            # a page's reference changes hands: only the struct is saved
            delta = skb.truesize - SIZEOF_SK_BUFF
    if have is None:
        to.frags = more[:] or None
    else:
        if len(have) + len(more) > _MAX_SKB_FRAGS:
            return False
        to.frags = have + more
    to.data_len += size
    to.len += size
    to.end_seq = skb.end_seq
    to.ack_seq = skb.ack_seq
    to.tstamp = skb.tstamp
    to.tcp_flags |= skb.tcp_flags
    to.truesize += delta
    sk.sk_rmem_alloc += delta
    sk_mem_charge(sk, delta)
    sk.sk_net.net_statistics[LINUX_MIB_TCPRCVCOALESCE] += 1
    return True


def tcp_queue_rcv(sk: TcpSock, skb: SkBuff) -> bool:
    """The next bytes of the stream. True: they went into the last segment, `skb` is not needed any more."""
    queue = sk.sk_receive_queue
    tail = queue.tail
    eaten = tail is not None and tcp_try_coalesce(sk, tail, skb)
    end_seq = skb.end_seq
    sk.bytes_received += (end_seq - sk.rcv_nxt) & 0xFFFFFFFF
    sk.rcv_nxt = end_seq
    if eaten:
        return True
    if tail is None:
        queue = tcp_receive_queue(sk)
    skb_queue_tail(queue, skb)
    if skb.destructor != DESTRUCTOR_NONE:
        skb_set_owner_r(skb, sk)
    else:
        skb.sk = sk
        skb.destructor = DESTRUCTOR_RFREE
        truesize = skb.truesize
        sk.sk_rmem_alloc += truesize
        sk.sk_forward_alloc -= truesize
    return False


def tcp_data_ready(sk: TcpSock) -> None:
    """Wake a reader, if there is as much as it wants."""
    if tcp_epollin_ready(sk, sk.sk_rcvlowat) or sock_flag(sk, SOCK_DONE):
        sk.sk_data_ready()


def tcp_ofo_queue_purge(sk: TcpSock) -> None:
    """skb_rbtree_purge of the out-of-order queue."""
    queue = sk.out_of_order_queue
    if queue is None:
        return
    sk.out_of_order_queue = None
    skb = queue.head
    while skb is not None:
        following = skb.next
        skb.next = None
        skb.prev = None
        kfree_skb_reason(sk.sk_net, skb, SKB_DROP_REASON_TCP_OFO_DROP)
        skb = following


def tcp_ofo_empty(sk: TcpSock) -> bool:
    """Nothing is out of order. A function, since neither mypy nor mypyc expects a call to change a field that was looked at."""
    return sk.out_of_order_queue is None


def tcp_ofo_queue(sk: TcpSock) -> None:
    """A hole was filled: move what follows it to the receive queue."""
    queue = sk.out_of_order_queue
    dsack_high = sk.rcv_nxt
    while queue is not None and queue.head is not None:
        skb = queue.head
        if after(skb.seq, sk.rcv_nxt):
            return
        if before(skb.seq, dsack_high):
            dsack = dsack_high
            if before(skb.end_seq, dsack):
                dsack = skb.end_seq
            tcp_sack.tcp_dsack_extend(sk, skb.seq, dsack)
        if queue.pop_head() is None:
            sk.out_of_order_queue = None
        if not after(skb.end_seq, sk.rcv_nxt):
            kfree_skb_reason(sk.sk_net, skb, SKB_DROP_REASON_TCP_OFO_DROP)
            continue
        tail = sk.sk_receive_queue.tail
        eaten = tail is not None and tcp_try_coalesce(sk, tail, skb)
        tcp_rcv_nxt_update(sk, skb.end_seq)
        fin = skb.tcp_flags & TCPHDR_FIN
        if eaten:
            consume_skb(skb)
        else:
            skb_queue_tail(tcp_receive_queue(sk), skb)
        if fin:
            tcp_fin(sk)  # which purges the rest
            return


def tcp_data_queue_ofo(sk: TcpSock, skb: SkBuff) -> None:
    """A segment beyond the next byte, its header pulled."""
    net = sk.sk_net
    stats = net.net_statistics
    if sk.ecn_flags:
        tcp_data_ecn_check(sk, skb)
    if not tcp_try_rmem_schedule(sk, skb):
        stats[LINUX_MIB_TCPOFODROP] += 1
        sk.sk_data_ready()
        kfree_skb_reason(net, skb, SKB_DROP_REASON_PROTO_MEM)
        return
    tcp_measure_rcv_mss(sk, skb)
    sk.pred_flags = 0
    sk.icsk_ack_pending |= ICSK_ACK_SCHED
    tcp_loss_state(sk).rcv_ooopack += max(1, skb.gso_segs)
    stats[LINUX_MIB_TCPOFOQUEUE] += 1
    seq = skb.seq
    end_seq = skb.end_seq
    is_sack = sk.rx_opt.sack_ok != 0
    queue = sk.out_of_order_queue
    queued = _ofo_insert(sk, queue, skb)
    if is_sack:
        if queue is None:
            sk.selective_acks = [seq, end_seq]
            sk.rx_opt.num_sacks = 1
        else:
            tcp_sack.tcp_sack_new_ofo_skb(sk, seq, end_seq)
    if queued:
        # without SACK, the window stays, so that the ACKs are seen to be duplicates
        if is_sack:
            tcp_grow_window(sk, skb)
        skb_set_owner_r(skb, sk)
    # Holes take room that an RTT's worth of data does not: let the buffer follow.
    if sk.sk_socket is not None:
        tcp_rcvbuf_grow(sk, sk.rcvq_space_copied)


def _ofo_insert(sk: TcpSock, queue: TcpSkbQueue | None, skb: SkBuff) -> bool:
    """Put `skb` into its place, dropping what it doubles. False: it was dropped, or went into another segment."""
    net = sk.sk_net
    seq = skb.seq
    end_seq = skb.end_seq
    if queue is None:
        queue = TcpSkbQueue()
        sk.out_of_order_queue = queue
        queue.append(skb)
        return True
    last = queue.tail
    assert last is not None
    # Mostly it comes after all the others.
    if tcp_try_coalesce(sk, last, skb):
        if sk.rx_opt.sack_ok:
            tcp_grow_window(sk, skb, True)
        consume_skb(skb)
        return False
    if not before(seq, last.end_seq):
        queue.append(skb)
        return True
    prev = queue.find_last_not_after(seq)
    if prev is not None:
        if before(seq, prev.end_seq):
            if not after(end_seq, prev.end_seq):
                # nothing new
                net.net_statistics[LINUX_MIB_TCPOFOMERGE] += 1
                kfree_skb_reason(net, skb, SKB_DROP_REASON_TCP_OFOMERGE)
                tcp_sack.tcp_dsack_set(sk, seq, end_seq)
                return False
            if after(seq, prev.seq):
                tcp_sack.tcp_dsack_set(sk, seq, prev.end_seq)
                queue.insert_after(prev, skb)
            else:
                # the same start, and longer: it takes the place of the other
                queue.insert_after(prev, skb)
                queue.unlink(prev)
                tcp_sack.tcp_dsack_extend(sk, prev.seq, prev.end_seq)
                net.net_statistics[LINUX_MIB_TCPOFOMERGE] += 1
                kfree_skb_reason(net, prev, SKB_DROP_REASON_TCP_OFOMERGE)
        elif tcp_try_coalesce(sk, prev, skb):
            if sk.rx_opt.sack_ok:
                tcp_grow_window(sk, skb, True)
            consume_skb(skb)
            return False
        else:
            queue.insert_after(prev, skb)
    else:
        queue.insert_head(skb)
    # What it covers to the right is not needed any more.
    while True:
        following = skb.next
        if following is None or not after(end_seq, following.seq):
            return True
        if before(end_seq, following.end_seq):
            tcp_sack.tcp_dsack_extend(sk, following.seq, end_seq)
            return True
        queue.unlink(following)
        tcp_sack.tcp_dsack_extend(sk, following.seq, following.end_seq)
        net.net_statistics[LINUX_MIB_TCPOFOMERGE] += 1
        kfree_skb_reason(net, following, SKB_DROP_REASON_TCP_OFOMERGE)


def tcp_data_queue(sk: TcpSock, skb: SkBuff) -> None:
    """RFC 9293, 3.10.7.4, seventh: the text of a segment whose number and ACK were checked. The skb is gone."""
    if skb.seq == skb.end_seq:
        consume_skb(skb)
        return
    net = sk.sk_net
    hlen = skb.head[skb.transport_header + 12] >> 4 << 2
    skb.data += hlen
    skb.len -= hlen
    if sk.ecn_flags and skb.tcp_flags & TCPHDR_CWR:
        # the sender has reacted (tcp_ecn_accept_cwr); its window may be one packet, so answer at once
        sk.ecn_flags &= ~TCP_ECN_DEMAND_CWR
        sk.icsk_ack_pending |= ICSK_ACK_NOW
    sk.duplicate_sack = None
    seq = skb.seq
    rcv_nxt = sk.rcv_nxt
    reason = SKB_DROP_REASON_NOT_SPECIFIED
    behind = (rcv_nxt - seq) & 0xFFFFFFFF
    if behind <= 0x7FFFFFFF:
        # It begins at or below the next byte.
        if behind and not after(skb.end_seq, rcv_nxt):
            # All of it is old: a retransmission that was not needed.
            reason = SKB_DROP_REASON_TCP_OLD_DATA
            net.net_statistics[LINUX_MIB_DELAYEDACKLOST] += 1
            tcp_sack.tcp_dsack_set(sk, seq, skb.end_seq)
        else:
            if behind:
                tcp_sack.tcp_dsack_set(sk, seq, rcv_nxt)
            if tcp_receive_window(sk) or (not behind and not skb.len and skb.tcp_flags & TCPHDR_FIN):
                _queue_and_out(sk, skb)
                return
            reason = SKB_DROP_REASON_TCP_ZEROWINDOW
            net.net_statistics[LINUX_MIB_TCPZEROWINDOWDROP] += 1
    elif before(seq, (rcv_nxt + tcp_receive_window(sk)) & 0xFFFFFFFF):
        tcp_data_queue_ofo(sk, skb)
        return
    else:
        reason = SKB_DROP_REASON_TCP_OVERWINDOW  # a window probe, for instance
    tcp_enter_quickack_mode(sk, TCP_MAX_QUICKACKS)
    sk.icsk_ack_pending |= ICSK_ACK_SCHED
    kfree_skb_reason(net, skb, reason)


def _queue_and_out(sk: TcpSock, skb: SkBuff) -> None:
    """In sequence and in the window."""
    if skb.truesize > sk.sk_forward_alloc or sk.sk_rmem_alloc + skb.len > sk.sk_rcvbuf:
        if not tcp_try_rmem_schedule(sk, skb):
            sk.icsk_ack_pending |= ICSK_ACK_NOMEM | ICSK_ACK_NOW | ICSK_ACK_SCHED
            sk.sk_data_ready()
            if sk.sk_receive_queue.qlen and skb.len:
                sk.sk_net.net_statistics[LINUX_MIB_TCPRCVQDROP] += 1
                kfree_skb_reason(sk.sk_net, skb, SKB_DROP_REASON_PROTO_MEM)
                return
            sk_forced_mem_schedule(sk, skb.truesize)
    eaten = tcp_queue_rcv(sk, skb)
    if skb.len:
        tcp_event_data_recv(sk, skb)
    if skb.tcp_flags & TCPHDR_FIN:
        tcp_fin(sk)
    if sk.out_of_order_queue is not None:
        tcp_ofo_queue(sk)
        # RFC 5681, 4.2: when a hole is filled, the ACK goes at once
        if tcp_ofo_empty(sk):
            sk.icsk_ack_pending |= ICSK_ACK_NOW
    if sk.rx_opt.num_sacks:
        tcp_sack.tcp_sack_remove(sk)
    tcp_fast_path_check(sk)
    if eaten:
        consume_skb(skb)
    if not sock_flag(sk, SOCK_DEAD):
        tcp_data_ready(sk)


def tcp_fin(sk: TcpSock) -> None:
    """RFC 9293, 3.10.7.4, eighth: the peer's FIN is in sequence."""
    sk.icsk_ack_pending |= ICSK_ACK_SCHED
    sk.sk_shutdown |= RCV_SHUTDOWN
    sock_set_flag(sk, SOCK_DONE)
    state = sk.sk_state
    if state == TCP_SYN_RECV or state == TCP_ESTABLISHED:
        tcp.tcp_set_state(sk, TCP_CLOSE_WAIT)
        inet_csk_enter_pingpong_mode(sk)
    elif state == TCP_FIN_WAIT1:
        # Both close at once.
        tcp_output.tcp_send_ack(sk)
        tcp.tcp_set_state(sk, TCP_CLOSING)
    elif state == TCP_FIN_WAIT2:
        tcp_output.tcp_send_ack(sk)
        tcp_minisocks.tcp_time_wait(sk, TCP_TIME_WAIT, 0)
    # Nothing can come after a FIN.
    tcp_ofo_queue_purge(sk)
    if sk.rx_opt.sack_ok:
        tcp_sack.tcp_sack_reset(sk)
    if not sock_flag(sk, SOCK_DEAD):
        sk.sk_state_change()


# -- when to acknowledge ---------------------------------------------------------------------------------------------------


def __tcp_ack_snd_check(sk: TcpSock, ofo_possible: bool) -> None:
    """An ACK is owed: now, with the delayed ACK timer, or with the next few of a burst out of order."""
    rcv_nxt = sk.rcv_nxt
    lowat: int = sk.sk_rcvlowat
    if (
        # more than a full segment, and the window moves (else tcp_recvmsg will tell)
        (
            (rcv_nxt - sk.rcv_wup) & 0xFFFFFFFF > sk.icsk_ack_rcv_mss
            and ((rcv_nxt - sk.copied_seq) & 0xFFFFFFFF < lowat or tcp_output.__tcp_select_window(sk) >= sk.rcv_wnd)
        )
        or sk.icsk_ack_pending & ICSK_ACK_NOW
        or tcp_in_quickack_mode(sk)
    ):
        # from release_sock of the owner: one ACK at its end is enough
        if sk.sk_lock_owned and sk.sk_net.ipv4.sysctl_tcp_backlog_ack_defer:
            sk.tsq_flags |= TCPF_ACK_DEFERRED
            return
        tcp_output.tcp_send_ack(sk)
        return
    if not ofo_possible or sk.out_of_order_queue is None:
        tcp_output.tcp_send_delayed_ack(sk)
        return
    net = sk.sk_net.ipv4
    if not sk.rx_opt.sack_ok or sk.compressed_ack >= net.sysctl_tcp_comp_sack_nr:
        tcp_output.tcp_send_ack(sk)
        return
    # The first three duplicates go at once, for fast retransmit; later ones may be compressed.
    timer = sk.compressed_ack_timer
    if timer is None:
        timer = TcpCompressedAckTimer(sk)
        sk.compressed_ack_timer = timer
    if timer.compressed_ack_rcv_nxt != rcv_nxt:
        timer.compressed_ack_rcv_nxt = rcv_nxt
        timer.dup_ack_counter = 0
    if timer.dup_ack_counter < TCP_FASTRETRANS_THRESH:
        timer.dup_ack_counter += 1
        tcp_output.tcp_send_ack(sk)
        return
    sk.compressed_ack += 1
    if timer.timer_pending():
        return
    # a twentieth of the RTT, at most tcp_comp_sack_delay_ns
    rtt = sk.rcv_rtt_us
    if sk.srtt_us and sk.srtt_us < rtt:
        rtt = sk.srtt_us
    delay = min(net.sysctl_tcp_comp_sack_delay_ns, rtt * 125 // 20)
    sock_hold(sk)
    sk.kernel.hrtimer_start(timer, sk.kernel.now + delay)


def tcp_ack_snd_check(sk: TcpSock) -> None:
    if sk.icsk_ack_pending & ICSK_ACK_SCHED:
        __tcp_ack_snd_check(sk, True)


class TcpCompressedAckTimer(TimerList):
    """tp->compressed_ack_timer, and how many duplicates went at once."""

    __slots__ = ("compressed_ack_rcv_nxt", "dup_ack_counter", "sk")

    def __init__(self, sk: TcpSock) -> None:
        super().__init__()
        self.sk: TcpSock = sk
        self.compressed_ack_rcv_nxt: int = 0
        self.dup_ack_counter: int = 0

    def function(self) -> None:
        tcp_compressed_ack_kick(self.sk)


def tcp_compressed_ack_kick(sk: TcpSock) -> None:
    if sk.compressed_ack:
        if sk.sk_lock_owned:
            if not sk.tsq_flags & TCPF_DELACK_TIMER_DEFERRED:
                sk.tsq_flags |= TCPF_DELACK_TIMER_DEFERRED
                sock_hold(sk)
        else:
            # one of them is sent, not compressed
            sk.compressed_ack -= 1
            tcp_output.tcp_send_ack(sk)
    sock_put(sk)


def tcp_sack_compress_send_ack(sk: TcpSock) -> None:
    """More blocks than an ACK holds would be lost by waiting: send what is held back."""
    if not sk.compressed_ack:
        return
    timer = sk.compressed_ack_timer
    if timer is not None and sk.kernel.del_timer(timer):
        sock_put(sk)
    held: int = sk.compressed_ack
    sk.sk_net.net_statistics[LINUX_MIB_TCPACKCOMPRESSED] += held - 1
    sk.compressed_ack = 0
    tcp_output.tcp_send_ack(sk)


# -- the sender, after an ACK ----------------------------------------------------------------------------------------------


def tcp_should_expand_sndbuf(sk: TcpSock) -> bool:
    if sk.sk_userlocks & SOCK_SNDBUF_LOCK:
        return False
    if tcp_under_memory_pressure(sk):
        unused = sk_unused_reserved_mem(sk)
        if unused > SOCK_MIN_SNDBUF:
            sk.sk_sndbuf = unused
        return False
    mem = sk.sk_prot.sysctl_mem
    if mem is not None and sk.sk_prot.memory_allocated >= mem[0]:
        return False
    # a window that is full does not need more to send
    return sk.packets_out - sk.sacked_out - sk.lost_out + sk.retrans_out < sk.snd_cwnd


def tcp_check_space(sk: TcpSock) -> None:
    """A program waits for room in the send buffer: enlarge it if that would help, and wake it."""
    sock = sk.sk_socket
    if sock is not None and sock.flags >> SOCK_NOSPACE & 1:
        if tcp_should_expand_sndbuf(sk):
            tcp_sndbuf_expand(sk)
            sk.snd_cwnd_stamp = sk.kernel.now
        sk.sk_write_space()
        if not sock.flags >> SOCK_NOSPACE & 1:
            tcp_output.tcp_chrono_stop(sk, TCP_CHRONO_SNDBUF_LIMITED)


def tcp_data_snd_check(sk: TcpSock) -> None:
    if sk.sk_write_queue.head is not None:
        tcp_output.tcp_push_pending_frames(sk)
    sock = sk.sk_socket
    if sock is not None and sock.flags:
        tcp_check_space(sk)


# -- urgent data (RFC 6093) ------------------------------------------------------------------------------------------------


def tcp_check_urg(sk: TcpSock, skb: SkBuff) -> None:
    """A segment with URG: where does it point?"""
    ptr = be.get_u16(skb.head, skb.transport_header + 18)
    if ptr and not sk.sk_net.ipv4.sysctl_tcp_stdurg:
        ptr -= 1
    ptr = (ptr + skb.seq) & 0xFFFFFFFF
    # seen and read, or older than what was received, or not newer than the one there is
    if after(sk.copied_seq, ptr) or before(ptr, sk.rcv_nxt):
        return
    cold = tcp_cold(sk)
    if sk.urg_data and not after(ptr, cold.urg_seq):
        return
    # The last byte that was read was an urgent one not yet taken out of the stream: step over it now.
    if cold.urg_seq == sk.copied_seq and sk.urg_data and not sock_flag(sk, SOCK_URGINLINE) and sk.copied_seq != sk.rcv_nxt:
        first = sk.sk_receive_queue.head
        sk.copied_seq = (sk.copied_seq + 1) & 0xFFFFFFFF
        if first is not None and not before(sk.copied_seq, first.end_seq):
            skb_unlink(sk.sk_receive_queue, first)
            consume_skb(first)
    sk.urg_data = TCP_URG_NOTYET
    cold.urg_seq = ptr
    sk.pred_flags = 0


def tcp_urg(sk: TcpSock, skb: SkBuff) -> None:
    """`skb.data` at the TCP header."""
    if skb.tcp_flags & TCPHDR_URG:
        tcp_check_urg(sk, skb)
    if sk.urg_data == TCP_URG_NOTYET:
        # Counted from the header on, modulo 2**32: of a segment that begins right behind the byte, Linux takes one of the header.
        hlen = skb.head[skb.transport_header + 12] >> 4 << 2
        ptr = (tcp_cold(sk).urg_seq - skb.seq + hlen - (1 if skb.tcp_flags & TCPHDR_SYN else 0)) & 0xFFFFFFFF
        if ptr < skb.len:
            sk.urg_data = TCP_URG_VALID | skb_tobytes(skb, ptr)[0]
            if not sock_flag(sk, SOCK_DEAD):
                sk.sk_data_ready()
