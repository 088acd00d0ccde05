"""net/ipv4/tcp_output.c: what a connection sends.

Call order: tcp_push_pending_frames or tcp_push_one -> tcp_write_xmit (congestion window, peer's window, Nagle, small queues) ->
tcp_transmit_skb -> tcp_send_segment (header, options, checksum) -> icsk_af_ops.queue_xmit; tcp_event_new_data_sent moves the
segment to the retransmit queue. tcp_send_ack and its like make segments without data. tcp_connect, tcp_make_synack and
tcp_send_fin open and close. The window that goes along is chosen by tcp_select_window.

A queued segment is payload only, pieces of bytes in `frags`. Each transmission makes a new packet whose head is the header and
whose frags are the same pieces: nothing is copied.

In other rooms: tcp_fragment.py (cutting, segment sizes), tcp_retransmit.py (retransmissions, loss and window probes),
tcp_pacing.py, tcp_mtup.py.

Left out: fast open, MD5 and AO, zerocopy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.softirq import TASKLET_SOFTIRQ, SoftirqAction, open_softirq
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_USEC
from afinet.kernel.win_minmax import minmax_get
from afinet.net.core.netdevice import NETIF_F_HW_CSUM, NETIF_F_TSO
from afinet.net.core.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    DESTRUCTOR_NONE,
    DESTRUCTOR_TCP_WFREE,
    DESTRUCTOR_WFREE,
    SKB_GSO_TCPV4,
    SkBuff,
    skb_pieces,
    skb_truesize,
    skb_unlink,
)
from afinet.net.core.sock import (
    SK_PACING_NONE,
    Sock,
    sk_forced_mem_schedule,
    sk_free,
    sk_mem_charge,
    sk_unused_reserved_mem,
    sock_hold,
    sock_put,
)
from afinet.net.ipv4 import tcp, tcp_ack, tcp_cong, tcp_input, tcp_mtup, tcp_pacing, tcp_rcvq, tcp_retransmit, tcp_timer
from afinet.net.ipv4.inet_sock import (
    ICSK_ACK_NOMEM,
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_RETRANS,
)
from afinet.net.ipv4.tcp_cong import tcp_ca_event, tcp_ca_needs_ecn
from afinet.net.ipv4.tcp_fragment import (
    tcp_current_mss,
    tcp_grow_skb,
    tcp_mss_clamp,
    tcp_mtup_init,
    tcp_set_skb_tso_segs,
    tcp_sync_mss,
    tso_fragment,
)
from afinet.net.ipv4.tcp_inline import (
    CA_EVENT_CWND_RESTART,
    CA_EVENT_TX_START,
    MAX_TCP_HEADER,
    MAX_TCP_WINDOW,
    TCP_ATO_MIN,
    TCP_CHRONO_BUSY,
    TCP_CHRONO_RWND_LIMITED,
    TCP_CHRONO_SNDBUF_LIMITED,
    TCP_CHRONO_UNSPEC,
    TCP_DEFERRED_ALL,
    TCP_DELACK_MAX,
    TCP_ECN_DEMAND_CWR,
    TCP_ECN_OK,
    TCP_ECN_QUEUE_CWR,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
    TCP_RTO_MIN,
    TCPF_ACK_DEFERRED,
    TCPF_DELACK_TIMER_DEFERRED,
    TCPF_MTU_REDUCED_DEFERRED,
    TCPF_TSQ_DEFERRED,
    TCPF_WRITE_TIMER_DEFERRED,
    TSQF_QUEUED,
    TSQF_THROTTLED,
    inet_csk_in_pingpong_mode,
    inet_csk_inc_pingpong_cnt,
    tcp_current_ssthresh,
    tcp_delack_max,
    tcp_full_space,
    tcp_in_cwnd_reduction,
    tcp_is_cwnd_limited,
    tcp_mstamp_refresh,
    tcp_packets_in_flight,
    tcp_rtx_queue_head,
    tcp_time_stamp_ts,
    tcp_under_memory_pressure,
    tcp_win_from_space,
)
from afinet.net.ipv4.tcp_queue import TcpSkbQueue
from afinet.net.ipv4.tcp_rate import tcp_rate_skb_sent
from afinet.net.ipv4.tcp_sock import (
    TCPHDR_ACK,
    TCPHDR_CWR,
    TCPHDR_ECE,
    TCPHDR_FIN,
    TCPHDR_PSH,
    TCPHDR_RST,
    TCPHDR_SYN,
    TCPHDR_URG,
    TcpRequestSock,
    TcpSock,
    after,
    before,
    tcp_loss_state,
    tcp_write_queue,
)
from afinet.uapi.errno import ECONNREFUSED, EHOSTUNREACH
from afinet.uapi.rtnetlink import RTAX_FEATURE_ECN, RTAX_FEATURES, RTAX_INITRWND, RTAX_WINDOW
from afinet.uapi.snmp import (
    LINUX_MIB_TCPACKCOMPRESSED,
    LINUX_MIB_TCPFROMZEROWINDOWADV,
    LINUX_MIB_TCPORIGDATASENT,
    LINUX_MIB_TCPTOZEROWINDOWADV,
    LINUX_MIB_TCPWANTZEROWINDOWADV,
    TCP_MIB_ACTIVEOPENS,
    TCP_MIB_OUTRSTS,
    TCP_MIB_OUTSEGS,
)
from afinet.uapi.socket import SOCK_NOSPACE, SOCK_RCVBUF_LOCK
from afinet.uapi.tcp import TCP_CLOSE, TCPF_CLOSE_WAIT, TCPF_CLOSING, TCPF_ESTABLISHED, TCPF_FIN_WAIT1, TCPF_LAST_ACK
from afinet.wire import be
from afinet.wire import tcp as wire_tcp
from afinet.wire.checksum import csum_pieces
from afinet.wire.tcp_options import build_established_options, build_syn_options

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.dst import DstEntry

_TSTAMP_WORD: Final = 0x0101080A
_PURE_ACK_TRUESIZE: Final = 2  # skb_set_tcp_pure_ack: an ACK is charged next to nothing
_SK_PACING_SHIFT: Final = 10


# -- the window ------------------------------------------------------------------------------------------------------------


def tcp_select_initial_window(
    sk: Sock, space: int, mss: int, window_clamp: int, wscale_ok: bool, init_rcv_wnd: int
) -> tuple[int, int, int]:
    """What to offer first, of `space` bytes of window: (rcv_wnd, window_clamp, rcv_wscale)."""
    net = sk.sk_net
    if space < 0:
        space = 0
    if window_clamp == 0:
        window_clamp = 0xFFFF << 14
    space = min(window_clamp, space)
    if space > mss > 0:
        space -= space % mss
    rcv_wnd = space
    if net.ipv4.sysctl_tcp_workaround_signed_windows:
        rcv_wnd = min(space, MAX_TCP_WINDOW)
    if init_rcv_wnd:
        rcv_wnd = min(rcv_wnd, init_rcv_wnd * mss)
    rcv_wscale = 0
    if wscale_ok:
        # the scale cannot be changed later: allow for the largest buffer there may ever be
        space = max(space, net.ipv4.sysctl_tcp_rmem[2], net.core.sysctl_rmem_max)
        space = min(space, window_clamp)
        rcv_wscale = min(max(space.bit_length() - 16, 0), 14)
    return rcv_wnd, min(0xFFFF << rcv_wscale, window_clamp), rcv_wscale


def __tcp_select_window(sk: TcpSock) -> int:
    """How much to offer, by what is free; 0 rather than a silly little (RFC 9293, 3.8.6.2.2; RFC 1122, 4.2.3.3)."""
    mss = sk.icsk_ack_rcv_mss
    ratio: int = sk.scaling_ratio
    rcvbuf = sk.sk_rcvbuf
    free_space = (rcvbuf - sk.sk_backlog_len - sk.sk_rmem_alloc) * ratio >> 8
    allowed_space = rcvbuf * ratio >> 8
    full_space = sk.window_clamp
    if allowed_space < full_space:
        full_space = allowed_space
    if mss > full_space:
        mss = full_space
        if mss <= 0:
            return 0
    wscale: int = sk.rx_opt.rcv_wscale
    if wscale and sk.sk_net.ipv4.sysctl_tcp_shrink_window:
        # The window may follow the free space down, even below what was offered.
        free_space = free_space >> wscale << wscale
        if free_space < allowed_space >> 4 or free_space < mss or free_space < 1 << wscale:
            return 0
        return _align(min(free_space, sk.rcv_ssthresh), wscale) if sk.rcv_ssthresh < free_space else free_space
    if free_space < full_space >> 1:
        sk.icsk_ack_quick = 0
        if tcp_under_memory_pressure(sk):
            tcp_adjust_rcv_ssthresh(sk)
        free_space = free_space >> wscale << wscale
        # Below a segment, or a sixteenth of the buffer: close the window, else data would come that cannot be kept.
        if free_space < allowed_space >> 4 or free_space < mss:
            return 0
    if free_space > sk.rcv_ssthresh:
        free_space = sk.rcv_ssthresh
    if wscale:
        return _align(free_space, wscale)
    window = sk.rcv_wnd
    # Whole segments, and no change that is not worth a segment.
    if window <= free_space - mss or window > free_space:
        window = free_space - free_space % mss
    elif mss == full_space and free_space > window + (full_space >> 1):
        window = free_space
    return window


def _align(value: int, shift: int) -> int:
    return -(-value >> shift) << shift


def tcp_adjust_rcv_ssthresh(sk: TcpSock) -> None:
    """Memory is short: offer four segments at most, or what SO_RESERVE_MEM has left."""
    sk.rcv_ssthresh = min(sk.rcv_ssthresh, 4 * sk.advmss)
    unused = sk_unused_reserved_mem(sk)
    if unused:
        sk.rcv_ssthresh = max(sk.rcv_ssthresh, tcp_win_from_space(sk, unused))


def tcp_select_window(sk: TcpSock) -> int:
    """The window field of the segment that is being sent; remembers what was offered."""
    old_win = sk.rcv_wnd
    if sk.icsk_ack_pending & ICSK_ACK_NOMEM:
        # data was just dropped for want of memory: say so
        sk.pred_flags = 0
        sk.rcv_wnd = 0
        sk.rcv_wup = sk.rcv_nxt
        return 0
    cur_win = (sk.rcv_wup + old_win - sk.rcv_nxt) & 0xFFFFFFFF
    if cur_win >= 0x80000000:
        cur_win = 0
    new_win = __tcp_select_window(sk)
    wscale: int = sk.rx_opt.rcv_wscale
    if new_win < cur_win and not (wscale and sk.sk_net.ipv4.sysctl_tcp_shrink_window):
        # What was offered is not taken back (RFC 9293, 3.8.6).
        if new_win == 0:
            sk.sk_net.net_statistics[LINUX_MIB_TCPWANTZEROWINDOWADV] += 1
        new_win = -(-cur_win >> wscale) << wscale
    sk.rcv_wnd = new_win
    sk.rcv_wup = sk.rcv_nxt
    if wscale == 0 and sk.sk_net.ipv4.sysctl_tcp_workaround_signed_windows:
        if new_win > MAX_TCP_WINDOW:
            new_win = MAX_TCP_WINDOW
    elif new_win > 0xFFFF << wscale:
        new_win = 0xFFFF << wscale
    new_win >>= wscale
    if new_win == 0:
        sk.pred_flags = 0
        if old_win:
            sk.sk_net.net_statistics[LINUX_MIB_TCPTOZEROWINDOWADV] += 1
    elif old_win == 0:
        sk.sk_net.net_statistics[LINUX_MIB_TCPFROMZEROWINDOWADV] += 1
    return new_win


# -- one segment -----------------------------------------------------------------------------------------------------------


def tcp_advertise_mss(sk: TcpSock) -> int:
    """The MSS to announce: the route may have less to offer than when the connection began."""
    dst = sk.sk_dst_cache
    mss = sk.advmss
    if dst is not None:
        metric = dst.advmss()
        if metric < mss:
            mss = metric
            sk.advmss = mss
    return mss


def tcp_syn_options(sk: TcpSock, tsval: int) -> bytes:
    net = sk.sk_net.ipv4
    wscale = sk.rx_opt.rcv_wscale if net.sysctl_tcp_window_scaling else -1
    return build_syn_options(
        tcp_advertise_mss(sk), wscale, net.sysctl_tcp_sack != 0, net.sysctl_tcp_timestamps != 0, tsval, sk.rx_opt.ts_recent
    )


def tcp_established_options(sk: TcpSock, tsval: int) -> bytes:
    """Timestamp, then D-SACK and SACK blocks as far as they fit."""
    rx_opt = sk.rx_opt
    if rx_opt.num_sacks or sk.duplicate_sack is not None:
        room = 6 if rx_opt.tstamp_ok else 8
        blocks: list[int] = []
        if sk.duplicate_sack is not None:
            blocks.extend(sk.duplicate_sack)
            sk.duplicate_sack = None
        if sk.selective_acks is not None:
            blocks.extend(sk.selective_acks)
        return build_established_options(rx_opt.tstamp_ok, tsval, rx_opt.ts_recent, blocks[:room])
    if rx_opt.tstamp_ok:
        return be.pack_u32x3(_TSTAMP_WORD, tsval, rx_opt.ts_recent)
    return b""


def tcp_send_segment(
    sk: TcpSock, seq: int, flags: int, frags: list[bytes] | None, size: int, truesize: int, options: bytes, ack_seq: int
) -> SkBuff:
    """The packet of one segment: header, checksum, charge. What is common to all that a full sock sends."""
    urg_ptr = 0
    if sk.snd_una != sk.snd_up and before(seq, sk.snd_up):
        if before(sk.snd_up, (seq + 0x10000) & 0xFFFFFFFF):
            urg_ptr = (sk.snd_up - seq) & 0xFFFFFFFF
            flags |= TCPHDR_URG
        elif after((seq + 0xFFFF) & 0xFFFFFFFF, sk.snd_nxt):
            urg_ptr = 0xFFFF
            flags |= TCPHDR_URG
    if flags & TCPHDR_SYN:
        window = sk.rcv_wnd
        if window > 0xFFFF:
            window = 0xFFFF  # the window of a SYN is never scaled (RFC 7323, 2.2)
    else:
        window = tcp_select_window(sk)
        if sk.ecn_flags:
            flags = tcp_ecn_send(sk, flags, size, seq)
    header_len = 20 + len(options)
    dst = sk.sk_dst_cache
    sum = sk.inet_saddr + sk.inet_daddr + header_len + size + 6
    if dst is not None and dst.dev.features & NETIF_F_HW_CSUM:
        while sum > 0xFFFF:
            sum = (sum & 0xFFFF) + (sum >> 16)
        if options:
            head = be.pack_tcp_options(
                sk.inet_sport, sk.inet_dport, seq, ack_seq, header_len << 10 | flags, window, sum, urg_ptr, options
            )
        else:
            head = be.pack_tcp(sk.inet_sport, sk.inet_dport, seq, ack_seq, header_len << 10 | flags, window, sum, urg_ptr)
        summed = CHECKSUM_PARTIAL
    else:
        if frags is not None:
            sum = csum_pieces(frags, sum)
        head = wire_tcp.emit_csum(sk.inet_sport, sk.inet_dport, seq, ack_seq, flags, window, urg_ptr, options, sum)
        summed = CHECKSUM_NONE
    skb = SkBuff(head, frags, size, truesize)
    skb.ip_summed = summed
    skb.csum_offset = 16
    skb.sk = sk
    skb.destructor = DESTRUCTOR_TCP_WFREE
    sk.sk_wmem_alloc += truesize
    skb.hash = sk.sk_txhash
    skb.tcp_flags = flags
    if flags & TCPHDR_ACK:
        tcp_event_ack_sent(sk, ack_seq)
    return skb


def tcp_event_ack_sent(sk: TcpSock, rcv_nxt: int) -> None:
    """An ACK is leaving: none is owed any more."""
    if sk.compressed_ack:
        held: int = sk.compressed_ack
        sk.sk_net.net_statistics[LINUX_MIB_TCPACKCOMPRESSED] += held
        sk.compressed_ack = 0
        timer = sk.compressed_ack_timer
        if timer is not None and sk.kernel.del_timer(timer):
            sock_put(sk)
    if rcv_nxt != sk.rcv_nxt:
        return  # an out of date ACK, sent on purpose
    quick = sk.icsk_ack_quick
    if quick and sk.icsk_ack_pending & ICSK_ACK_SCHED:  # an ACK of nothing new uses up none
        if quick == 1:
            sk.icsk_ack_ato = TCP_ATO_MIN  # leaving quick ACK mode
        sk.icsk_ack_quick = quick - 1
    sk.icsk_ack_pending = 0


def tcp_event_data_sent(sk: TcpSock) -> None:
    now = sk.kernel.now
    if sk.packets_out - sk.sacked_out - sk.lost_out + sk.retrans_out == 0:
        tcp_ca_event(sk, CA_EVENT_TX_START)
    sk.lsndtime = now
    # data soon after data came: an answer, this may be a dialogue
    if now - sk.icsk_ack_lrcvtime < sk.icsk_ack_ato:
        inet_csk_inc_pingpong_cnt(sk)


def tcp_transmit_skb(sk: TcpSock, skb: SkBuff, clone_it: bool = True, rcv_nxt: int = -1) -> int:
    """Send a segment; with `clone_it` it stays queued, for it may have to be sent again. 0, -errno, or NET_XMIT_* above 0.

    `rcv_nxt` is the ACK to send, by default the current one.
    """
    if rcv_nxt < 0:
        rcv_nxt = sk.rcv_nxt
    now = sk.kernel.now
    flags = skb.tcp_flags
    seq = skb.seq
    size = skb.len
    tsval = (now // NSEC_PER_MSEC + sk.tsoffset) & 0xFFFFFFFF
    if flags & TCPHDR_SYN:
        options = tcp_syn_options(sk, tsval)
    else:
        options = tcp_established_options(sk, tsval)
    if skb.data_len == size:
        frags = skb.frags
    else:
        frags = skb_pieces(skb, 0, size)
    segs = skb.gso_segs
    if segs > 1:
        flags |= TCPHDR_PSH  # so that the receiver's GRO delivers at once
    packet = tcp_send_segment(sk, seq, flags, frags, size, skb.truesize, options, rcv_nxt if flags & TCPHDR_ACK else 0)
    packet.tx_tstamp = skb.tx_tstamp
    packet.gso_segs = segs
    if segs > 1:
        packet.gso_size = skb.gso_size
        packet.gso_type = SKB_GSO_TCPV4
    if size:
        tcp_event_data_sent(sk)
        sk.data_segs_out += segs
        sk.bytes_sent += size
    if after(skb.end_seq, sk.snd_nxt) or seq == skb.end_seq:
        sk.sk_net.tcp_statistics[TCP_MIB_OUTSEGS] += segs
    sk.segs_out += segs
    skb.tstamp = now
    skb.tx_order = sk.segs_out
    ops = sk.icsk_af_ops
    assert ops is not None
    err = ops.queue_xmit(sk, packet, None)
    if err > 0:
        # the local queue is congested: so is the path
        tcp_ack.tcp_enter_cwr(sk)
        err = 0 if err == 2 else err  # NET_XMIT_CN: it will go out all the same
    if err == 0 and clone_it:
        tsorted = sk.tsorted_sent_queue
        if tsorted is not None:
            tsorted.move_tail(skb)
        tcp_rate_skb_sent(sk, skb)
        if sk.sk_pacing_status != SK_PACING_NONE:
            tcp_pacing.tcp_update_skb_after_send(sk, size)
    return err


def tcp_control_skb(sk: TcpSock, seq: int, flags: int) -> SkBuff:
    """tcp_init_nondata_skb: a segment that carries no data. SYN and FIN take a sequence number."""
    skb = SkBuff(b"", None, 0, skb_truesize(MAX_TCP_HEADER))
    skb.tcp_flags = flags
    skb.gso_segs = 1
    skb.seq = seq
    skb.end_seq = (seq + 1) & 0xFFFFFFFF if flags & (TCPHDR_SYN | TCPHDR_FIN) else seq
    return skb


def tcp_queue_skb(sk: TcpSock, skb: SkBuff) -> None:
    """A segment of our own making joins the write queue."""
    sk.write_seq = skb.end_seq
    sk.sk_wmem_queued += skb.truesize
    sk_mem_charge(sk, skb.truesize)
    tcp_add_write_queue_tail(sk, skb)


def tcp_add_write_queue_tail(sk: TcpSock, skb: SkBuff) -> None:
    q = sk.sk_write_queue
    tail = q.tail
    if tail is None:
        q = tcp_write_queue(sk)
    skb.list = q
    skb.prev = tail
    skb.next = None
    if tail is None:
        q.head = skb
        tcp_chrono_start(sk, TCP_CHRONO_BUSY)
    else:
        tail.next = skb
    q.tail = skb
    q.qlen += 1


def tcp_rtx_queue_insert(sk: TcpSock, skb: SkBuff) -> None:
    """The newest segment joins the retransmit queue."""
    rtx = sk.tcp_rtx_queue
    if rtx is None:
        rtx = TcpSkbQueue()
        sk.tcp_rtx_queue = rtx
    rtx.append(skb)


# -- ECN (RFC 3168) --------------------------------------------------------------------------------------------------------


def tcp_ecn_send(sk: TcpSock, flags: int, size: int, seq: int) -> int:
    """The ECN flags of a segment; the code point goes with the sock's TOS."""
    if not sk.ecn_flags & TCP_ECN_OK:
        return flags
    # Not-retransmitted data segments say ECT (RFC 3168, 6.1.5), nothing else does.
    if size and not before(seq, sk.snd_nxt):
        sk.tos |= 2
        if sk.ecn_flags & TCP_ECN_QUEUE_CWR:
            sk.ecn_flags &= ~TCP_ECN_QUEUE_CWR
            flags |= TCPHDR_CWR
    elif not tcp_ca_needs_ecn(sk):
        sk.tos &= ~3
    if sk.ecn_flags & TCP_ECN_DEMAND_CWR:
        flags |= TCPHDR_ECE
    return flags


def tcp_ecn_send_syn(sk: TcpSock, skb: SkBuff) -> None:
    sk.ecn_flags = 0
    needs_ecn = tcp_ca_needs_ecn(sk)
    dst = sk.sk_dst_cache
    wanted = dst is not None and dst.metrics is not None and dst.metrics[RTAX_FEATURES - 1] & RTAX_FEATURE_ECN != 0
    if sk.sk_net.ipv4.sysctl_tcp_ecn == 1 or needs_ecn or wanted:
        if needs_ecn:
            sk.tos |= 2
        skb.tcp_flags |= TCPHDR_ECE | TCPHDR_CWR
        sk.ecn_flags = TCP_ECN_OK


# -- sending what is queued ------------------------------------------------------------------------------------------------


def tcp_minshall_check(tp: TcpSock) -> bool:
    """A small segment is in flight."""
    return after(tp.snd_sml, tp.snd_una) and not after(tp.snd_sml, tp.snd_nxt)


def tcp_nagle_test(tp: TcpSock, skb: SkBuff, cur_mss: int, nonagle: int) -> bool:
    """Whether `skb` may go out now. A short one waits while another short one is in flight (Nagle as modified by Minshall)."""
    if nonagle & TCP_NAGLE_PUSH or skb.len >= cur_mss:
        return True
    if tp.snd_una != tp.snd_up or skb.tcp_flags & TCPHDR_FIN:
        return True
    if nonagle & TCP_NAGLE_CORK:
        return False
    return not (nonagle == 0 and tp.packets_out and tcp_minshall_check(tp))


def tcp_snd_wnd_test(tp: TcpSock, skb: SkBuff, cur_mss: int) -> bool:
    """At least one packet of `skb` fits into the peer's window."""
    end_seq = skb.end_seq
    if skb.len > cur_mss:
        end_seq = (skb.seq + cur_mss) & 0xFFFFFFFF
    return (tp.snd_una + tp.snd_wnd - end_seq) & 0xFFFFFFFF < 0x80000000


def tcp_cwnd_test(tp: TcpSock) -> int:
    """How many packets the congestion window still admits; at most half of it in one go."""
    in_flight = tp.packets_out - tp.sacked_out - tp.lost_out + tp.retrans_out
    cwnd = tp.snd_cwnd
    if in_flight >= cwnd:
        return 0
    half = cwnd >> 1 or 1
    left = cwnd - in_flight
    return half if half < left else left


def tcp_can_tso(sk: TcpSock) -> bool:
    """Segments of several packets are made where the route's device cuts them."""
    dst = sk.sk_dst_cache
    return dst is not None and dst.dev.features & NETIF_F_TSO != 0


def tcp_gso_max_size(sk: TcpSock) -> int:
    """How much payload a segment may have, so that its headers fit in front (sk_trim_gso_size)."""
    return sk.sk_gso_max_size - MAX_TCP_HEADER - 1


def tcp_tso_segs(sk: TcpSock, mss_now: int) -> int:
    """How many packets a segment should have: about a millisecond's worth (tcp_tso_autosize)."""
    if not tcp_can_tso(sk):
        return 1
    net = sk.sk_net.ipv4
    ca = sk.icsk_ca_ops
    min_segs = 0 if ca is None else ca.min_tso_segs(sk)
    if min_segs == 0:
        min_segs = net.sysctl_tcp_min_tso_segs
    max_size = tcp_gso_max_size(sk)
    max_segs: int = sk.sk_gso_max_segs
    size = max_size
    if sk.sk_pacing_rate >= 0:
        size = sk.sk_pacing_rate >> _SK_PACING_SHIFT
        r = minmax_get(sk.rtt_min) >> net.sysctl_tcp_tso_rtt_log
        if r < 32:
            size += max_size >> r
        size = min(size, max_size)
    return min(max(size // mss_now, min_segs), max_segs)


def tcp_mss_split_point(sk: TcpSock, skb: SkBuff, mss_now: int, max_segs: int, nonagle: int) -> int:
    """How much of a segment of several packets may go now: windows, and whether Nagle holds its short tail."""
    window = (sk.snd_una + sk.snd_wnd - skb.seq) & 0xFFFFFFFF
    max_len = mss_now * max_segs
    if max_len <= window and skb.next is not None:
        return max_len
    needed = min(skb.len, window)
    if max_len <= needed:
        return max_len
    partial = needed % mss_now
    if partial and (nonagle & TCP_NAGLE_CORK or (not nonagle and sk.packets_out and tcp_minshall_check(sk))):
        return needed - partial
    return needed


def tcp_tso_should_defer(sk: TcpSock, skb: SkBuff, max_segs: int) -> int:
    """Whether to wait for an ACK that lets a larger segment out: 0 no, 1 yes (cwnd holds), 2 yes (the peer's window holds), 3
    just yes."""
    if sk.icsk_ca_state >= 3:  # TCP_CA_Recovery
        return 0
    # A burst is not put off for long.
    if sk.kernel.now - sk.lsndtime > NSEC_PER_MSEC:
        return 0
    in_flight = tcp_packets_in_flight(sk)
    send_win = (sk.snd_una + sk.snd_wnd - skb.seq) & 0xFFFFFFFF
    cong_win = (sk.snd_cwnd - in_flight) * sk.mss_cache
    limit = min(send_win, cong_win)
    if limit >= max_segs * sk.mss_cache:
        return 0
    if skb.next is not None and limit >= skb.len:
        return 0
    divisor = sk.sk_net.ipv4.sysctl_tcp_tso_win_divisor
    if divisor:
        chunk = min(sk.snd_wnd, sk.snd_cwnd * sk.mss_cache) // divisor
        if limit >= chunk:
            return 0
    elif limit > 3 * sk.mss_cache:
        return 0
    # The next ACK is expected half an RTT from now, or a millisecond, or later: then no, for a smooth ACK clock is worth more.
    head = tcp_rtx_queue_head(sk)
    if head is None:
        return 0
    srtt = sk.srtt_us * (NSEC_PER_USEC >> 3)
    if head.tstamp + srtt - sk.kernel.now > min(srtt >> 1, NSEC_PER_MSEC):
        return 0
    if cong_win < send_win:
        if cong_win <= skb.len:
            return 1
    elif send_win <= skb.len:
        return 2
    if skb.tcp_flags & TCPHDR_FIN or skb.eor:
        return 0
    return 3


def tcp_small_queue_check(sk: TcpSock, skb: SkBuff, factor: int) -> bool:
    """TCP small queues: no more than a millisecond's worth stands in the device queues. True: wait for tcp_wfree."""
    limit = sk.sk_net.ipv4.sysctl_tcp_limit_output_bytes
    rate = sk.sk_pacing_rate
    if rate >= 0:
        paced = max(2 * skb.truesize, rate >> _SK_PACING_SHIFT)
        if paced < limit or sk.sk_pacing_status != SK_PACING_NONE:
            limit = paced
    if sk.sk_wmem_alloc <= limit << factor:
        return False
    rtx = sk.tcp_rtx_queue
    # Always let one follow when little is in flight: completions may be coalesced.
    if rtx is None or rtx.head is None or rtx.head is rtx.tail:
        return False
    sk.tsq_flags |= TSQF_THROTTLED
    return True


def tcp_write_xmit(sk: TcpSock, mss_now: int, nonagle: int, push_one: int) -> bool:
    """Send what the windows admit. `push_one`: 1 one segment, 2 one segment over the congestion window (a loss probe).

    True: nothing is in flight and something could not be sent, so the window needs probing.
    """
    sk.tcp_mstamp = sk.kernel.now
    sent_pkts = 0
    rearm = False
    max_segs = tcp_tso_segs(sk, mss_now)
    is_cwnd_limited = False
    is_rwnd_limited = False
    if push_one == 0 and sk.tcp_cold is not None and sk.tcp_cold.icsk_mtup is not None:
        probed = tcp_mtup.tcp_mtu_probe(sk, sk.tcp_cold.icsk_mtup)
        if probed == 0:
            return False
        if probed > 0:
            sent_pkts = 1
    queue = sk.sk_write_queue
    while True:
        skb = queue.head
        if skb is None:
            break
        if sk.sk_pacing_status != SK_PACING_NONE and tcp_pacing.tcp_pacing_check(sk):
            break
        quota = tcp_cwnd_test(sk)
        if quota == 0:
            if push_one != 2:
                break
            quota = 1
        if quota > max_segs:
            quota = max_segs
        missing = quota * mss_now - skb.len
        if missing > 0 and skb.next is not None:
            # Two packets of a large MSS are more than an IP header can say. Linux makes such a segment, and its device cuts it.
            room = tcp_gso_max_size(sk) - skb.len
            if missing > room:
                missing = room
            if missing > 0:
                tcp_grow_skb(sk, skb, missing)
        size = skb.len
        segs = tcp_set_skb_tso_segs(skb, mss_now)
        if not tcp_snd_wnd_test(sk, skb, mss_now):
            is_rwnd_limited = True
            break
        if segs == 1:
            if size < mss_now and not tcp_nagle_test(sk, skb, mss_now, nonagle if skb.next is None else TCP_NAGLE_PUSH):
                break
        else:
            # For a single packet of the usual size the windows have been asked already.
            if push_one == 0 and (max_segs > 1 or mss_now != sk.mss_cache):
                why = tcp_tso_should_defer(sk, skb, max_segs)
                if why:
                    if why == 1:
                        is_cwnd_limited = True
                    elif why == 2:
                        is_rwnd_limited = True
                    break
            limit = mss_now
            if sk.snd_una == sk.snd_up:
                limit = tcp_mss_split_point(sk, skb, mss_now, quota, nonagle)
            if size > limit and tso_fragment(sk, skb, limit, mss_now):
                break
        if tcp_small_queue_check(sk, skb, 0):
            break
        if skb.end_seq == skb.seq:
            break  # a program is in the middle of filling it
        if tcp_transmit_skb(sk, skb):
            break
        # The timer is armed once, after the loop.
        rearm |= tcp_new_data_sent(sk, skb)
        if skb.len < skb.gso_segs * mss_now:
            sk.snd_sml = skb.end_seq  # tcp_minshall_update
        sent_pkts += skb.gso_segs
        if push_one:
            break
    if is_rwnd_limited:
        tcp_chrono_start(sk, TCP_CHRONO_RWND_LIMITED)
    elif sk.chrono_type == TCP_CHRONO_RWND_LIMITED:
        tcp_chrono_stop(sk, TCP_CHRONO_RWND_LIMITED)
    if tcp_packets_in_flight(sk) >= sk.snd_cwnd:
        is_cwnd_limited = True
    if sent_pkts or is_cwnd_limited:
        tcp_cwnd_validate(sk, is_cwnd_limited)
    if sent_pkts:
        if tcp_in_cwnd_reduction(sk):
            tcp_loss_state(sk).prr_out += sent_pkts
        # one loss probe a tail loss episode
        if push_one == 2 or not tcp_retransmit.tcp_schedule_loss_probe(sk, False):
            if rearm:
                tcp_ack.tcp_rearm_rto(sk)
        return False
    return not sk.packets_out and sk.write_seq != sk.snd_nxt


def tcp_event_new_data_sent(sk: TcpSock, skb: SkBuff) -> None:
    """A new segment is in flight: queues, counts, the timer."""
    if tcp_new_data_sent(sk, skb):
        tcp_ack.tcp_rearm_rto(sk)


def tcp_new_data_sent(sk: TcpSock, skb: SkBuff) -> bool:
    """tcp_event_new_data_sent but for the timer; whether that has to be armed."""
    prior_packets = sk.packets_out
    sk.snd_nxt = skb.end_seq
    skb_unlink(sk.sk_write_queue, skb)
    tcp_rtx_queue_insert(sk, skb)
    if sk.highest_sack is None:
        sk.highest_sack = skb
    segs = skb.gso_segs
    sk.packets_out = prior_packets + segs
    sk.sk_net.net_statistics[LINUX_MIB_TCPORIGDATASENT] += segs
    if sk.sk_socket is not None and sk.sk_socket.flags:
        tcp_rcvq.tcp_check_space(sk)
    return prior_packets == 0 or sk.icsk_pending == ICSK_TIME_LOSS_PROBE


def __tcp_push_pending_frames(sk: TcpSock, cur_mss: int, nonagle: int) -> None:
    # Nothing leaves a sock that was reset while it waited for memory.
    if sk.sk_state == TCP_CLOSE:
        return
    if tcp_write_xmit(sk, cur_mss, nonagle, 0):
        tcp_check_probe_timer(sk)


def tcp_push_pending_frames(sk: TcpSock) -> None:
    if sk.sk_write_queue.head is not None:
        __tcp_push_pending_frames(sk, tcp_current_mss(sk), sk.nonagle)


def tcp_push_one(sk: TcpSock, mss_now: int) -> None:
    """Send the one segment that is queued; tcp_sendmsg, when it starts a connection's burst."""
    tcp_write_xmit(sk, mss_now, TCP_NAGLE_PUSH, 1)


def tcp_check_probe_timer(sk: TcpSock) -> None:
    if not sk.packets_out and not sk.icsk_pending:
        tcp_timer.inet_csk_reset_xmit_timer(sk, ICSK_TIME_PROBE0, tcp_probe0_base(sk))


def tcp_probe0_base(sk: TcpSock) -> int:
    """Window probes are not sent faster than retransmissions could be (ns)."""
    return max(sk.icsk_rto, TCP_RTO_MIN)


def tcp_probe0_when(sk: TcpSock, max_when: int) -> int:
    backoff: int = sk.icsk_backoff
    return min(tcp_probe0_base(sk) << min(10, backoff), max_when)


# -- the use of the congestion window --------------------------------------------------------------------------------------


def tcp_cwnd_validate(sk: TcpSock, is_cwnd_limited: bool) -> None:
    """RFC 2861 and 7661: remember, per window, whether cwnd was what held us back."""
    if (
        is_cwnd_limited
        or not before(sk.snd_una, sk.cwnd_usage_seq)
        or (not sk.is_cwnd_limited and sk.packets_out > sk.max_packets_out)
    ):
        sk.is_cwnd_limited = is_cwnd_limited
        sk.max_packets_out = sk.packets_out
        sk.cwnd_usage_seq = sk.snd_nxt
    now = sk.kernel.now
    if tcp_is_cwnd_limited(sk):
        sk.snd_cwnd_used = 0
        sk.snd_cwnd_stamp = now
        return
    if sk.packets_out > sk.snd_cwnd_used:
        sk.snd_cwnd_used = sk.packets_out
    if sk.sk_net.ipv4.sysctl_tcp_slow_start_after_idle and now - sk.snd_cwnd_stamp >= sk.icsk_rto:
        tcp_cwnd_application_limited(sk)
    if sk.write_seq == sk.snd_nxt and sk.sk_socket is not None and sk.sk_socket.flags >> SOCK_NOSPACE & 1:
        if (TCPF_ESTABLISHED | TCPF_CLOSE_WAIT) >> sk.sk_state & 1:
            tcp_chrono_start(sk, TCP_CHRONO_SNDBUF_LIMITED)


def tcp_cwnd_application_limited(sk: TcpSock) -> None:
    """The program did not fill the window for an RTO: bring it half way down to what was used."""
    if sk.icsk_ca_state == 0 and sk.sk_socket is not None and not sk.sk_socket.flags >> SOCK_NOSPACE & 1:
        win_used = max(sk.snd_cwnd_used, tcp_init_cwnd(sk))
        if win_used < sk.snd_cwnd:
            sk.snd_ssthresh = tcp_current_ssthresh(sk)
            sk.snd_cwnd = (sk.snd_cwnd + win_used) >> 1
        sk.snd_cwnd_used = 0
    sk.snd_cwnd_stamp = sk.kernel.now


def tcp_init_cwnd(sk: TcpSock) -> int:
    return tcp_ack.tcp_init_cwnd(sk, sk.sk_dst_cache)


def tcp_cwnd_restart(sk: TcpSock, delta: int) -> None:
    """After `delta` ns of idleness: halve for every RTO, not below the initial window (RFC 2861)."""
    restart_cwnd = tcp_init_cwnd(sk)
    cwnd = sk.snd_cwnd
    tcp_ca_event(sk, CA_EVENT_CWND_RESTART)
    sk.snd_ssthresh = tcp_current_ssthresh(sk)
    restart_cwnd = min(restart_cwnd, cwnd)
    rto = sk.icsk_rto
    delta -= rto
    while delta > 0 and cwnd > restart_cwnd:
        cwnd >>= 1
        delta -= rto
    sk.snd_cwnd = max(cwnd, restart_cwnd)
    sk.snd_cwnd_stamp = sk.kernel.now
    sk.snd_cwnd_used = 0


def tcp_slow_start_after_idle_check(sk: TcpSock) -> None:
    """Before new data is queued. tcp_skb_entail calls it."""
    if not sk.sk_net.ipv4.sysctl_tcp_slow_start_after_idle or sk.packets_out:
        return
    delta = sk.kernel.now - sk.lsndtime
    if delta > sk.icsk_rto:
        tcp_cwnd_restart(sk, delta)


# -- chronographs of TCP_INFO ----------------------------------------------------------------------------------------------


def tcp_chrono_set(sk: TcpSock, new: int) -> None:
    now = sk.kernel.now
    old = sk.chrono_type
    if old > TCP_CHRONO_UNSPEC:
        stat = sk.chrono_stat
        if stat is None:
            stat = [0, 0, 0]
            sk.chrono_stat = stat
        stat[old - 1] += now - sk.chrono_start
    sk.chrono_start = now
    sk.chrono_type = new


def tcp_chrono_start(sk: TcpSock, kind: int) -> None:
    """From now on the connection is busy, or held back by `kind`; of several, the one with the higher number counts."""
    if kind > sk.chrono_type:
        tcp_chrono_set(sk, kind)


def tcp_chrono_stop(sk: TcpSock, kind: int) -> None:
    # Without unacknowledged data the connection is idle, whatever held it back.
    if sk.tcp_rtx_queue is None or (sk.tcp_rtx_queue.head is None and sk.sk_write_queue.head is None):
        tcp_chrono_set(sk, TCP_CHRONO_UNSPEC)
    elif kind == sk.chrono_type:
        tcp_chrono_set(sk, TCP_CHRONO_BUSY)


# -- ACKs ------------------------------------------------------------------------------------------------------------------


def tcp_acceptable_seq(sk: TcpSock) -> int:
    """The sequence number of a segment without data: inside the window, even if the peer shrank it below what was sent."""
    wnd_end = (sk.snd_una + sk.snd_wnd) & 0xFFFFFFFF
    snd_nxt = sk.snd_nxt
    wscale: int = sk.rx_opt.rcv_wscale
    if not before(wnd_end, snd_nxt) or (sk.rx_opt.wscale_ok and (snd_nxt - wnd_end) & 0xFFFFFFFF < 1 << wscale):
        return snd_nxt
    return wnd_end


def tcp_send_ack(sk: TcpSock) -> None:
    __tcp_send_ack(sk, sk.rcv_nxt)


def __tcp_send_ack(sk: TcpSock, rcv_nxt: int) -> None:
    if sk.sk_state == TCP_CLOSE:
        return
    tsval = (sk.kernel.now // NSEC_PER_MSEC + sk.tsoffset) & 0xFFFFFFFF
    options = tcp_established_options(sk, tsval)
    packet = tcp_send_segment(sk, tcp_acceptable_seq(sk), TCPHDR_ACK, None, 0, _PURE_ACK_TRUESIZE, options, rcv_nxt)
    packet.destructor = DESTRUCTOR_WFREE  # nobody waits for the end of an ACK
    sk.sk_net.tcp_statistics[TCP_MIB_OUTSEGS] += 1
    sk.segs_out += 1
    ops = sk.icsk_af_ops
    assert ops is not None
    if ops.queue_xmit(sk, packet, None) > 0:
        tcp_ack.tcp_enter_cwr(sk)


def tcp_send_delayed_ack(sk: TcpSock) -> None:
    """An ACK within the time that the peer's rhythm suggests, at most icsk_delack_max."""
    kernel = sk.kernel
    now = kernel.now
    ato = sk.icsk_ack_ato
    if ato > TCP_ATO_MIN:
        max_ato = 500 * NSEC_PER_MSEC
        if inet_csk_in_pingpong_mode(sk) or sk.icsk_ack_pending & 4:  # ICSK_ACK_PUSHED
            max_ato = TCP_DELACK_MAX
        # The slow path: with a measured RTT, no ACK is held back longer than that.
        if sk.srtt_us:
            rtt = max((sk.srtt_us >> 3) * NSEC_PER_USEC, TCP_ATO_MIN)
            if rtt < max_ato:
                max_ato = rtt
        ato = min(ato, max_ato)
    ato = min(ato, tcp_delack_max(sk))
    timeout = now + ato
    if sk.icsk_ack_pending & ICSK_ACK_TIMER:
        # One is due already: send now if it is about to be.
        if sk.icsk_ack_timeout <= now + (ato >> 2):
            tcp_send_ack(sk)
            return
        if timeout > sk.icsk_ack_timeout:
            timeout = sk.icsk_ack_timeout
    tcp_timer.inet_csk_reset_dack(sk, timeout)


# -- opening ---------------------------------------------------------------------------------------------------------------


def tcp_connect_init(sk: TcpSock) -> None:
    """The variables of an active open, as far as the route tells them."""
    dst = sk.sk_dst_cache
    assert dst is not None
    net = sk.sk_net.ipv4
    rx_opt = sk.rx_opt
    # assumed until the answer says otherwise
    sk.tcp_header_len = 32 if net.sysctl_tcp_timestamps else 20
    if rx_opt.user_mss:
        rx_opt.mss_clamp = rx_opt.user_mss
    sk.max_window = 0
    tcp_mtup_init(sk)
    tcp_sync_mss(sk, dst.mtu())
    tcp_cong.tcp_ca_dst_init(sk, dst)
    if not sk.window_clamp:
        sk.window_clamp = tcp_dst_metric(dst, RTAX_WINDOW)
    sk.advmss = tcp_mss_clamp(sk, dst.advmss())
    tcp_rcvq.tcp_initialize_rcv_mss(sk)
    full_space = tcp_full_space(sk)
    if sk.sk_userlocks & SOCK_RCVBUF_LOCK and (sk.window_clamp > full_space or sk.window_clamp == 0):
        sk.window_clamp = full_space
    mss = sk.advmss
    if rx_opt.ts_recent_stamp:
        mss -= sk.tcp_header_len - 20
    sk.rcv_wnd, sk.window_clamp, rx_opt.rcv_wscale = tcp_select_initial_window(
        sk, full_space, mss, sk.window_clamp, net.sysctl_tcp_window_scaling != 0, tcp_dst_metric(dst, RTAX_INITRWND)
    )
    sk.rcv_ssthresh = sk.rcv_wnd
    sk.sk_err = 0
    sk.sk_flags &= ~2  # SOCK_DONE
    sk.snd_wnd = 0
    sk.snd_wl1 = 0
    tcp.tcp_write_queue_purge(sk)
    sk.snd_una = sk.write_seq
    sk.snd_sml = sk.write_seq
    sk.snd_up = sk.write_seq
    sk.snd_nxt = sk.write_seq
    if not sk.repair:
        sk.rcv_nxt = 0
    else:
        sk.rcv_tstamp = sk.kernel.now
    sk.rcv_wup = sk.rcv_nxt
    sk.copied_seq = sk.rcv_nxt
    sk.icsk_rto = tcp_timer.tcp_timeout_init(sk)
    sk.icsk_retransmits = 0
    tcp_ack.tcp_clear_retrans(sk)


def tcp_dst_metric(dst: DstEntry, metric: int) -> int:
    return 0 if dst.metrics is None else dst.metrics[metric - 1]


def tcp_connect(sk: TcpSock) -> int:
    """Send the SYN. 0 or -errno."""
    ops = sk.icsk_af_ops
    assert ops is not None
    if ops.rebuild_header(sk):
        return -EHOSTUNREACH
    tcp_connect_init(sk)
    if sk.repair:
        tcp_input.tcp_finish_connect(sk, None)
        return 0
    buff = tcp_control_skb(sk, sk.write_seq, TCPHDR_SYN)
    tcp_mstamp_refresh(sk)
    sk.retrans_stamp = tcp_time_stamp_ts(sk)
    # tcp_connect_queue_skb
    sk_forced_mem_schedule(sk, buff.truesize)
    sk.sk_wmem_queued += buff.truesize
    sk_mem_charge(sk, buff.truesize)
    sk.write_seq = buff.end_seq
    sk.packets_out += 1
    tcp_ecn_send_syn(sk, buff)
    tcp_rtx_queue_insert(sk, buff)
    err = tcp_transmit_skb(sk, buff)
    if err == -ECONNREFUSED:
        return err
    # snd_nxt moves after sending, so that the SYN counts in tcpOutSegs
    sk.snd_nxt = sk.write_seq
    sk.pushed_seq = sk.write_seq
    sk.sk_net.tcp_statistics[TCP_MIB_ACTIVEOPENS] += 1
    tcp_timer.inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, sk.icsk_rto)
    return 0


def tcp_make_synack(sk: TcpSock, dst: DstEntry, req: TcpRequestSock, synack_type: int = 0) -> SkBuff:
    """The SYN-ACK of a request, its checksum in place (or CHECKSUM_PARTIAL). The caller sends it with ip_build_and_send_pkt."""
    net = sk.sk_net
    tcp_mss = tcp_mss_clamp(sk, dst.advmss())
    now = sk.kernel.now
    if req.snt_synack == 0:
        req.snt_synack = now
    tsval = 0
    if req.tstamp_ok:
        tsval = (now // NSEC_PER_MSEC + req.ts_off) & 0xFFFFFFFF
        if not req.snt_tsval_first:
            req.snt_tsval_first = tsval
        req.snt_tsval_last = tsval
    options = build_syn_options(tcp_mss, req.rcv_wscale if req.wscale_ok else -1, req.sack_ok, req.tstamp_ok, tsval, req.ts_recent)
    flags = TCPHDR_SYN | TCPHDR_ACK
    if req.ecn_ok:
        flags |= TCPHDR_ECE
    window = min(req.rsk_rcv_wnd, 0xFFFF)
    header_len = 20 + len(options)
    sum = req.inet_rcv_saddr + req.inet_daddr + header_len + 6
    if dst.dev.features & NETIF_F_HW_CSUM:
        while sum > 0xFFFF:
            sum = (sum & 0xFFFF) + (sum >> 16)
        head = wire_tcp.emit(req.inet_num, req.inet_dport, req.snt_isn, req.rcv_nxt, flags, window, sum, 0, options)
        summed = CHECKSUM_PARTIAL
    else:
        head = wire_tcp.emit_csum(req.inet_num, req.inet_dport, req.snt_isn, req.rcv_nxt, flags, window, 0, options, sum)
        summed = CHECKSUM_NONE
    skb = SkBuff(head, None, 0, skb_truesize(MAX_TCP_HEADER))
    skb.ip_summed = summed
    skb.csum_offset = 16
    skb.dst = dst
    skb.mark = req.ir_mark
    skb.hash = req.txhash
    skb.tcp_flags = flags
    skb.destructor = DESTRUCTOR_NONE
    net.tcp_statistics[TCP_MIB_OUTSEGS] += 1
    return skb


def tcp_rtx_synack(sk: TcpSock, req: TcpRequestSock) -> int:
    """Send the SYN-ACK of a request again. 0 or -errno."""
    return tcp_retransmit.tcp_rtx_synack(sk, req)


def tcp_send_synack(sk: TcpSock) -> int:
    """Simultaneous open: the SYN that is in flight is sent again as a SYN-ACK."""
    skb = tcp_rtx_queue_head(sk)
    if skb is None or not skb.tcp_flags & TCPHDR_SYN:
        return -14  # EFAULT
    if not skb.tcp_flags & TCPHDR_ACK:
        skb.tcp_flags |= TCPHDR_ACK
        skb.tcp_flags &= ~(TCPHDR_CWR | TCPHDR_ECE)
        if sk.ecn_flags & TCP_ECN_OK:
            skb.tcp_flags |= TCPHDR_ECE
    return tcp_transmit_skb(sk, skb)


# -- closing ---------------------------------------------------------------------------------------------------------------


def tcp_send_fin(sk: TcpSock) -> None:
    """A FIN, on the last segment that is waiting if there is one; under memory pressure even on one that was sent."""
    tail = sk.sk_write_queue.tail
    tskb = tail
    if tskb is None and tcp_under_memory_pressure(sk) and sk.tcp_rtx_queue is not None:
        tskb = sk.tcp_rtx_queue.tail
    if tskb is not None:
        tskb.tcp_flags |= TCPHDR_FIN
        tskb.end_seq = (tskb.end_seq + 1) & 0xFFFFFFFF
        sk.write_seq = (sk.write_seq + 1) & 0xFFFFFFFF
        if tail is None:
            # It goes out with the retransmission.
            sk.snd_nxt = (sk.snd_nxt + 1) & 0xFFFFFFFF
            return
    else:
        skb = tcp_control_skb(sk, sk.write_seq, TCPHDR_ACK | TCPHDR_FIN)
        sk_forced_mem_schedule(sk, skb.truesize)
        tcp_queue_skb(sk, skb)
    __tcp_push_pending_frames(sk, tcp_current_mss(sk), TCP_NAGLE_OFF)


def tcp_send_active_reset(sk: TcpSock) -> None:
    """RST, when data is thrown away or time is up (RFC 2525, 2.17)."""
    sk.sk_net.tcp_statistics[TCP_MIB_OUTRSTS] += 1
    skb = tcp_control_skb(sk, tcp_acceptable_seq(sk), TCPHDR_ACK | TCPHDR_RST)
    tcp_mstamp_refresh(sk)
    trace = sk.kernel.trace
    if trace.tcp_send_reset:
        trace.fire("tcp:tcp_send_reset", {"sport": sk.inet_sport, "dport": sk.inet_dport, "state": sk.sk_state, "sk": sk})
    tcp_transmit_skb(sk, skb, False)


# -- what was put off ------------------------------------------------------------------------------------------------------


class TcpTasklet(SoftirqAction):
    """tcp_tsq_workfn: socks whose segments left the device queues go on sending."""

    def action(self, kernel: Kernel) -> None:
        socks = kernel.tsq_head
        kernel.tsq_head = []
        for sk in socks:
            sk.tsq_flags &= ~TSQF_QUEUED
            tcp_tsq_handler(sk)
            sk_free(sk)  # the reference of the segment that put it here


def tcp_tasklet_init(kernel: Kernel) -> None:
    """tcp_tsq_work_init; tcp_init calls it."""
    open_softirq(kernel, TASKLET_SOFTIRQ, TcpTasklet())


def tcp_tsq_handler(sk: TcpSock) -> None:
    if not sk.sk_lock_owned:
        tcp_tsq_write(sk)
    elif not sk.tsq_flags & TCPF_TSQ_DEFERRED:
        sk.tsq_flags |= TCPF_TSQ_DEFERRED
        sock_hold(sk)


def tcp_tsq_write(sk: TcpSock) -> None:
    sending = TCPF_ESTABLISHED | TCPF_FIN_WAIT1 | TCPF_CLOSING | TCPF_CLOSE_WAIT | TCPF_LAST_ACK
    state: int = sk.sk_state
    if not sending >> state & 1:
        return
    if sk.lost_out > sk.retrans_out and sk.snd_cwnd > tcp_packets_in_flight(sk):
        tcp_mstamp_refresh(sk)
        tcp_retransmit.tcp_xmit_retransmit_queue(sk)
    tcp_write_xmit(sk, tcp_current_mss(sk), sk.nonagle, 0)


def tcp_release_cb(sk: TcpSock) -> None:
    """The owner is about to let the sock go: do what came up meanwhile."""
    flags = sk.tsq_flags
    if not flags & TCP_DEFERRED_ALL:
        return
    sk.tsq_flags = flags & ~TCP_DEFERRED_ALL
    if flags & TCPF_TSQ_DEFERRED:
        tcp_tsq_write(sk)
        sock_put(sk)
    if flags & TCPF_WRITE_TIMER_DEFERRED:
        tcp_timer.tcp_write_timer_handler(sk)
        sock_put(sk)
    if flags & TCPF_DELACK_TIMER_DEFERRED:
        tcp_timer.tcp_delack_timer_handler(sk)
        sock_put(sk)
    if flags & TCPF_MTU_REDUCED_DEFERRED:
        ops = sk.icsk_af_ops
        if ops is not None:
            ops.mtu_reduced(sk)
        sock_put(sk)
    if flags & TCPF_ACK_DEFERRED and sk.icsk_ack_pending & ICSK_ACK_SCHED:
        tcp_send_ack(sk)
