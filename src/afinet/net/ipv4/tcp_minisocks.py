"""net/ipv4/tcp_minisocks.c: the small socks at both ends of a connection's life, requests and TIME_WAIT.

A request's segment: tcp_v4_rcv -> tcp_check_req -> (icsk_af_ops.syn_recv_sock -> tcp_create_openreq_child) ->
tcp_child_process. The end: tcp_time_wait -> TcpTimewaitSock -> tcp_timewait_state_process for each segment that comes after
all.

Left out: fast open's requests, MD5 and AO keys of TIME_WAIT socks, the migration of requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_TCP_OVERWINDOW,
    SKB_DROP_REASON_TCP_RESET,
    SKB_DROP_REASON_TCP_RFC7323_PAWS,
    SKB_DROP_REASON_TCP_RFC7323_TSECR,
    SKB_DROP_REASON_TCP_RFC7323_TW_PAWS,
)
from afinet.net.core.dst import dst_metric_raw
from afinet.net.core.sock import SOCK_KEEPOPEN, sock_flag, sock_owned_by_user, sock_put
from afinet.net.ipv4 import (
    inet_connection_sock,
    inet_timewait_sock,
    tcp,
    tcp_cong,
    tcp_fragment,
    tcp_input,
    tcp_output,
    tcp_rtt,
    tcp_timer,
)
from afinet.net.ipv4.tcp_inline import (
    TCP_MSS_DEFAULT,
    TCP_TIMEWAIT_LEN,
    keepalive_time_when,
    tcp_full_space,
    tcp_paws_reject,
    tcp_receive_window,
    tcp_time_stamp_ms,
)
from afinet.net.ipv4.tcp_sock import (
    TCPHDR_ACK,
    TCPHDR_FIN,
    TCPHDR_RST,
    TCPHDR_SYN,
    TcpOptionsReceived,
    TcpRequestSock,
    TcpSock,
    TcpTimewaitSock,
    after,
    before,
    between,
    tcp_loss_state,
)
from afinet.uapi.rtnetlink import RTAX_INITRWND, RTAX_WINDOW
from afinet.uapi.snmp import (
    LINUX_MIB_EMBRYONICRSTS,
    LINUX_MIB_PAWS_TW_REJECTED,
    LINUX_MIB_PAWSESTABREJECTED,
    LINUX_MIB_TCPACKSKIPPEDCHALLENGE,
    LINUX_MIB_TCPACKSKIPPEDFINWAIT2,
    LINUX_MIB_TCPACKSKIPPEDSYNRECV,
    LINUX_MIB_TCPACKSKIPPEDTIMEWAIT,
    LINUX_MIB_TCPCHALLENGEACK,
    LINUX_MIB_TCPDEFERACCEPTDROP,
    LINUX_MIB_TCPTIMEWAITOVERFLOW,
    LINUX_MIB_TSECRREJECTED,
    TCP_MIB_ATTEMPTFAILS,
    TCP_MIB_PASSIVEOPENS,
)
from afinet.uapi.socket import SOCK_RCVBUF_LOCK
from afinet.uapi.tcp import TCP_FIN_WAIT2, TCP_SYN_RECV, TCP_TIME_WAIT, TCP_CA_Open
from afinet.wire import be

if TYPE_CHECKING:
    from afinet.net.core.dst import DstEntry
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Sock

# enum tcp_tw_status
TCP_TW_SUCCESS: Final = 0
TCP_TW_RST: Final = 1
TCP_TW_ACK: Final = 2
TCP_TW_SYN: Final = 3
TCP_TW_ACK_OOW: Final = 4


def tcp_in_window(seq: int, end_seq: int, s_win: int, e_win: int) -> bool:
    """RFC 9293, 3.10.7.4: whether a segment overlaps the window [s_win, e_win)."""
    if seq == s_win:
        return True
    if after(end_seq, s_win) and before(seq, e_win):
        return True
    return seq == e_win and seq == end_seq


# -- TIME_WAIT -------------------------------------------------------------------------------------------------------------


def tcp_timewait_check_oow_rate_limit(tw: TcpTimewaitSock, skb: SkBuff, mib_idx: int) -> int:
    """An out-of-window segment is answered, but not in a loop with another confused host."""
    limited, tw.tw_last_oow_ack_time = tcp_oow_check(tw.sk_net, skb, mib_idx, tw.tw_last_oow_ack_time)
    return TCP_TW_SUCCESS if limited else TCP_TW_ACK_OOW


def tcp_oow_check(net: Net, skb: SkBuff, mib_idx: int, last_oow_ack_time: int) -> tuple[bool, int]:
    """tcp_oow_rate_limited for a small sock: (do not answer, when the last answer was sent). Data is always answered."""
    if skb.end_seq != skb.seq and not skb.tcp_flags & TCPHDR_SYN:
        return False, last_oow_ack_time
    return __tcp_oow_check(net, mib_idx, last_oow_ack_time)


def __tcp_oow_check(net: Net, mib_idx: int, last_oow_ack_time: int) -> tuple[bool, int]:
    """The same for any segment."""
    now = net.kernel.now
    if last_oow_ack_time and now - last_oow_ack_time < net.ipv4.sysctl_tcp_invalid_ratelimit:
        net.net_statistics[mib_idx] += 1
        return True, last_oow_ack_time
    return False, now


def tcp_timewait_state_process(tw: TcpTimewaitSock, skb: SkBuff) -> tuple[int, int, int]:
    """A segment for a small sock: (TCP_TW_*, the initial number with TCP_TW_SYN, a drop reason or 0).

    Both substates: FIN_WAIT2, where the peer's FIN is still to come, and TIME_WAIT.
    """
    net = tw.sk_net
    kernel = net.kernel
    now = kernel.now
    flags = skb.tcp_flags
    seq = skb.seq
    end_seq = skb.end_seq
    rcv_nxt = tw.tw_rcv_nxt
    rst = flags & TCPHDR_RST != 0
    saw_tstamp = False
    paws_reject = False
    tsval = 0
    if tw.tw_ts_recent_stamp and skb.head[skb.transport_header + 12] >> 4 > 5:
        opt = TcpOptionsReceived()
        tcp_input.tcp_parse_options(net, skb, opt, False)
        saw_tstamp = opt.saw_tstamp
        if saw_tstamp:
            tsval = opt.rcv_tsval
            opt.ts_recent = tw.tw_ts_recent
            opt.ts_recent_stamp = tw.tw_ts_recent_stamp
            paws_reject = tcp_paws_reject(opt, now, rst)

    if tw.tw_substate == TCP_FIN_WAIT2:
        # The checks of tcp_rcv_state_process once more. Out of window: send ACK.
        if paws_reject or not tcp_in_window(seq, end_seq, rcv_nxt, (rcv_nxt + tw.tw_rcv_wnd) & 0xFFFFFFFF):
            return tcp_timewait_check_oow_rate_limit(tw, skb, LINUX_MIB_TCPACKSKIPPEDFINWAIT2), 0, 0
        if rst:
            inet_timewait_sock.inet_twsk_deschedule_put(tw)
            return TCP_TW_SUCCESS, 0, 0
        if flags & TCPHDR_SYN and not before(seq, rcv_nxt):
            return TCP_TW_RST, 0, 0
        # A duplicate ACK?
        if not flags & TCPHDR_ACK or not after(end_seq, rcv_nxt) or end_seq == seq:
            return TCP_TW_SUCCESS, 0, 0
        # Data for nobody: reset.
        if not flags & TCPHDR_FIN or end_seq != (rcv_nxt + 1) & 0xFFFFFFFF:
            return TCP_TW_RST, 0, 0
        # The FIN: true TIME_WAIT from here.
        tw.tw_substate = TCP_TIME_WAIT
        tw.tw_rcv_nxt = end_seq
        if saw_tstamp:
            tw.tw_entry_stamp = now // NSEC_PER_MSEC
            tw.tw_ts_recent_stamp = now // NSEC_PER_SEC
            tw.tw_ts_recent = tsval
        inet_timewait_sock.inet_twsk_reschedule(tw, TCP_TIMEWAIT_LEN)
        return TCP_TW_ACK, 0, 0

    # RFC 1122, 4.2.2.13 lets a new SYN reopen the connection from TIME_WAIT. In window there can be a bare ACK or a RST.
    if not paws_reject and seq == rcv_nxt and (seq == end_seq or rst):
        if rst:
            # TIME_WAIT assassination (RFC 1337)
            if not net.ipv4.sysctl_tcp_rfc1337:
                inet_timewait_sock.inet_twsk_deschedule_put(tw)
                return TCP_TW_SUCCESS, 0, 0
        else:
            inet_timewait_sock.inet_twsk_reschedule(tw, TCP_TIMEWAIT_LEN)
        if saw_tstamp:
            tw.tw_ts_recent = tsval
            tw.tw_ts_recent_stamp = now // NSEC_PER_SEC
        return TCP_TW_SUCCESS, 0, 0

    # A new SYN: its number is beyond the old ones, or its timestamp is younger. The own number begins beyond the old window.
    if (
        flags & (TCPHDR_SYN | TCPHDR_RST | TCPHDR_ACK) == TCPHDR_SYN
        and not paws_reject
        and (after(seq, rcv_nxt) or (saw_tstamp and before(tw.tw_ts_recent, tsval)))
    ):
        isn = (tw.tw_snd_nxt + 65535 + 2) & 0xFFFFFFFF
        return TCP_TW_SYN, isn or 1, 0

    reason = 0
    if paws_reject:
        reason = SKB_DROP_REASON_TCP_RFC7323_TW_PAWS
        net.net_statistics[LINUX_MIB_PAWS_TW_REJECTED] += 1
    if not rst:
        # Out of window: an old duplicate, or the peer's FIN again. The wait begins anew, but not for a SYN that may be a good
        # one with a number that happens to lie below.
        if paws_reject or flags & TCPHDR_ACK:
            inet_timewait_sock.inet_twsk_reschedule(tw, TCP_TIMEWAIT_LEN)
        return tcp_timewait_check_oow_rate_limit(tw, skb, LINUX_MIB_TCPACKSKIPPEDTIMEWAIT), 0, reason
    return TCP_TW_SUCCESS, 0, reason


def tcp_time_wait(sk: TcpSock, state: int, timeo: int) -> None:
    """Replace `sk` by a small sock in `state` (TCP_FIN_WAIT2 or TCP_TIME_WAIT) for at least `timeo` ns, and be done with it."""
    net = sk.sk_net
    tw = inet_timewait_sock.inet_twsk_alloc(sk, state)
    if tw is not None:
        rx_opt = sk.rx_opt
        tw.tw_mark = sk.sk_mark
        tw.tw_rcv_wscale = rx_opt.rcv_wscale
        tw.tw_entry_stamp = tcp_time_stamp_ms(sk)
        tw.tw_rcv_nxt = sk.rcv_nxt
        tw.tw_snd_nxt = sk.snd_nxt
        tw.tw_rcv_wnd = tcp_receive_window(sk)
        tw.tw_ts_recent = rx_opt.ts_recent
        tw.tw_ts_recent_stamp = rx_opt.ts_recent_stamp
        tw.tw_ts_offset = sk.tsoffset
        # long enough for our last ACK to be sent again: 3.5 RTO
        rto = (sk.icsk_rto << 2) - (sk.icsk_rto >> 1)
        if timeo < rto:
            timeo = rto
        if state == TCP_TIME_WAIT:
            timeo = TCP_TIMEWAIT_LEN
        inet_timewait_sock.inet_twsk_hashdance_schedule(tw, sk, timeo)
    else:
        # Too many: just close. There are bigger problems than a connection that ends without ceremony.
        net.net_statistics[LINUX_MIB_TCPTIMEWAITOVERFLOW] += 1
    tcp.tcp_done(sk)


# -- requests --------------------------------------------------------------------------------------------------------------


def tcp_openreq_init_rwin(req: TcpRequestSock, sk_listener: TcpSock, dst: DstEntry) -> None:
    """The window and its scale that the SYN-ACK offers."""
    full_space = tcp_full_space(sk_listener)
    mss = tcp_fragment.tcp_mss_clamp(sk_listener, dst.advmss())
    clamp = sk_listener.window_clamp or dst_metric_raw(dst, RTAX_WINDOW)
    # A smaller receive buffer, when the user insists on one.
    if sk_listener.sk_userlocks & SOCK_RCVBUF_LOCK and (clamp > full_space or clamp == 0):
        clamp = full_space
    req.rsk_rcv_wnd, req.rsk_window_clamp, req.rcv_wscale = tcp_output.tcp_select_initial_window(
        sk_listener,
        full_space,
        mss - (12 if req.tstamp_ok else 0),
        clamp,
        req.wscale_ok,
        dst_metric_raw(dst, RTAX_INITRWND),
    )


def tcp_ca_openreq_child(sk: TcpSock, dst: DstEntry) -> None:
    """A child has the algorithm that its route names, else its listener's if that was chosen by TCP_CONGESTION, else the
    namespace's."""
    if not tcp_cong.tcp_ca_dst_init(sk, dst) and not sk.icsk_ca_setsockopt:
        tcp_cong.tcp_assign_congestion_control(sk)
    sk.icsk_ca_state = TCP_CA_Open


def tcp_create_openreq_child(sk: TcpSock, req: TcpRequestSock, skb: SkBuff) -> TcpSock:
    """The full sock of a request whose ACK, `skb`, came. Not hashed yet; two references (tcp_child_process lets one go)."""
    child = inet_connection_sock.inet_csk_clone_lock(sk, req)
    now = sk.kernel.now
    seq = (req.rcv_isn + 1) & 0xFFFFFFFF
    child.rcv_wup = seq
    child.copied_seq = seq
    child.rcv_nxt = seq
    child.segs_in = 1  # the SYN
    seq = (req.snt_isn + 1) & 0xFFFFFFFF
    child.snd_sml = seq
    child.snd_una = seq
    child.snd_nxt = seq
    child.snd_up = seq
    child.write_seq = seq
    child.pushed_seq = seq
    child.snd_wl1 = req.rcv_isn
    child.icsk_ack_lrcvtime = now
    child.lsndtime = now
    child.tcp_mstamp = now
    child.sk_txhash = req.txhash
    if req.num_retrans:
        tcp_loss_state(child).total_retrans = req.num_retrans
    if sock_flag(child, SOCK_KEEPOPEN):
        tcp_timer.inet_csk_reset_keepalive_timer(child, keepalive_time_when(child))
    rx_opt = child.rx_opt
    rx_opt.tstamp_ok = req.tstamp_ok
    rx_opt.sack_ok = 1 if req.sack_ok else 0
    child.window_clamp = req.rsk_window_clamp
    child.rcv_ssthresh = req.rsk_rcv_wnd
    child.rcv_wnd = req.rsk_rcv_wnd
    rx_opt.wscale_ok = req.wscale_ok
    if req.wscale_ok:
        rx_opt.snd_wscale = req.snd_wscale
        rx_opt.rcv_wscale = req.rcv_wscale
    else:
        rx_opt.snd_wscale = 0
        rx_opt.rcv_wscale = 0
        if child.window_clamp > 65535:
            child.window_clamp = 65535
    wscale: int = rx_opt.snd_wscale
    child.snd_wnd = be.get_u16(skb.head, skb.transport_header + 14) << wscale
    child.max_window = child.snd_wnd
    if req.tstamp_ok:
        rx_opt.ts_recent = req.ts_recent
        rx_opt.ts_recent_stamp = now // NSEC_PER_SEC
        child.tcp_header_len = 32
    else:
        rx_opt.ts_recent_stamp = 0
        child.tcp_header_len = 20
    if req.num_timeout:
        stats = tcp_loss_state(child)
        stats.total_rto = req.num_timeout
        stats.total_rto_recoveries = 1
        stats.total_rto_time = (now - req.snt_synack) // NSEC_PER_MSEC
        child.undo_marker = req.snt_isn
        child.retrans_stamp = req.snt_synack // NSEC_PER_MSEC & 0xFFFFFFFF
    child.tsoffset = req.ts_off
    if skb.len >= TCP_MSS_DEFAULT + child.tcp_header_len:
        child.icsk_ack_last_seg_size = skb.len - child.tcp_header_len
    rx_opt.mss_clamp = req.mss
    child.ecn_flags = 1 if req.ecn_ok else 0  # TCP_ECN_OK
    sk.sk_net.tcp_statistics[TCP_MIB_PASSIVEOPENS] += 1
    return child


def tcp_check_req(sk: TcpSock, skb: SkBuff, req: TcpRequestSock, fastopen: bool) -> tuple[TcpSock | None, int]:
    """A segment for a request of listener `sk`, the SYN_RECEIVED of RFC 9293.

    (the child that it makes, or `sk` when the listener has to answer with a RST, or None: dropped; a drop reason or 0).
    """
    net = sk.sk_net
    kernel = net.kernel
    now = kernel.now
    flg = skb.tcp_flags & (TCPHDR_RST | TCPHDR_SYN | TCPHDR_ACK)
    seq = skb.seq
    tsecr_reject = False
    paws_reject = False
    saw_tstamp = False
    tsval = 0
    if skb.head[skb.transport_header + 12] >> 4 > 5:
        opt = TcpOptionsReceived()
        tcp_input.tcp_parse_options(net, skb, opt, False)
        saw_tstamp = opt.saw_tstamp
        if saw_tstamp:
            tsval = opt.rcv_tsval
            opt.ts_recent = req.ts_recent
            if opt.rcv_tsecr and req.tstamp_ok and not fastopen:
                tsecr_reject = not between(opt.rcv_tsecr, req.snt_tsval_first, req.snt_tsval_last)
            # the true stamp is not stored; this estimate will do
            opt.ts_recent_stamp = (now - inet_connection_sock.tcp_reqsk_timeout(req)) // NSEC_PER_SEC
            paws_reject = tcp_paws_reject(opt, now, flg & TCPHDR_RST != 0)

    # The SYN again: so is the SYN-ACK, and its timer starts anew.
    if seq == req.rcv_isn and flg == TCPHDR_SYN and not paws_reject:
        limited, req.last_oow_ack_time = tcp_oow_check(net, skb, LINUX_MIB_TCPACKSKIPPEDSYNRECV, req.last_oow_ack_time)
        if not limited and tcp_output.tcp_rtx_synack(sk, req) == 0:
            timer = req.rsk_timer
            if timer is not None and timer.timer_pending():
                kernel.mod_timer(timer, now + inet_connection_sock.tcp_reqsk_timeout(req))
        return None, 0

    # An ACK for something that was never sent: RST, by the listener.
    if flg & (TCPHDR_ACK | TCPHDR_RST) == TCPHDR_ACK and not fastopen and skb.ack_seq != (req.snt_isn + 1) & 0xFFFFFFFF:
        return sk, 0

    # RFC 9293: first, check the sequence number.
    if (
        paws_reject
        or tsecr_reject
        or not tcp_in_window(seq, skb.end_seq, req.rcv_nxt, (req.rcv_nxt + min(req.rsk_rcv_wnd, 65535)) & 0xFFFFFFFF)
    ):
        if not flg & TCPHDR_RST:
            limited, req.last_oow_ack_time = tcp_oow_check(net, skb, LINUX_MIB_TCPACKSKIPPEDSYNRECV, req.last_oow_ack_time)
            ops = sk.sk_prot.rsk_prot
            if not limited and ops is not None:
                ops.send_ack(sk, skb, req)
        if paws_reject:
            net.net_statistics[LINUX_MIB_PAWSESTABREJECTED] += 1
            return None, SKB_DROP_REASON_TCP_RFC7323_PAWS
        if tsecr_reject:
            net.net_statistics[LINUX_MIB_TSECRREJECTED] += 1
            return None, SKB_DROP_REASON_TCP_RFC7323_TSECR
        return None, SKB_DROP_REASON_TCP_OVERWINDOW

    if flg & TCPHDR_RST and seq != req.rcv_nxt:
        # RFC 5961, 3.2: it may be forged
        limited, req.last_oow_ack_time = __tcp_oow_check(net, LINUX_MIB_TCPACKSKIPPEDCHALLENGE, req.last_oow_ack_time)
        ops = sk.sk_prot.rsk_prot
        if not limited and ops is not None:
            net.net_statistics[LINUX_MIB_TCPCHALLENGEACK] += 1
            ops.send_ack(sk, skb, req)
        return None, SKB_DROP_REASON_TCP_RESET

    if seq == req.rcv_isn:
        # a SYN with more: the SYN itself lies before the window
        flg &= ~TCPHDR_SYN

    # RFC 9293: second, check the RST bit; fourth, the SYN bit.
    if flg & (TCPHDR_RST | TCPHDR_SYN):
        net.tcp_statistics[TCP_MIB_ATTEMPTFAILS] += 1
        _embryonic_reset(sk, skb, req, flg)
        return None, 0

    # fifth, the ACK field: it was checked above, if there is one.
    if not flg & TCPHDR_ACK:
        return None, 0
    if fastopen:
        return sk, 0

    # TCP_DEFER_ACCEPT: a bare ACK is not worth a wake-up.
    queue = sk.icsk_accept_queue
    if queue is not None and req.num_timeout < queue.rskq_defer_accept and skb.end_seq == (req.rcv_isn + 1) & 0xFFFFFFFF:
        req.acked = True
        net.net_statistics[LINUX_MIB_TCPDEFERACCEPTDROP] += 1
        return None, 0

    # The ACK is valid: make the full sock, which this segment is then given to. Data in it is dealt with there.
    af_ops = inet_connection_sock.inet_csk_init_af_ops(sk)
    made, own_req = af_ops.syn_recv_sock(sk, skb, req, None, req)
    if made is None:
        if not net.ipv4.sysctl_tcp_abort_on_overflow:
            # The queue is full. The peer thinks that it is connected; its next segment, or our SYN-ACK, tries again.
            req.acked = True
            return None, 0
        _embryonic_reset(sk, skb, req, flg)
        return None, 0
    assert isinstance(made, TcpSock)
    child = made
    if own_req and saw_tstamp and not after(seq, req.rcv_nxt):
        child.rx_opt.ts_recent = tsval
    tcp_rtt.tcp_synack_rtt_meas(child, req)
    if inet_connection_sock.inet_csk_complete_hashdance(sk, child, req, own_req) is None:
        return None, 0
    return child, 0


def _embryonic_reset(sk: TcpSock, skb: SkBuff, req: TcpRequestSock, flg: int) -> None:
    """End a request, with a RST unless one came."""
    if not flg & TCPHDR_RST:
        ops = sk.sk_prot.rsk_prot
        if ops is not None:
            ops.send_reset(sk, skb)
    if inet_connection_sock.inet_csk_reqsk_queue_drop(sk, req):
        sk.sk_net.net_statistics[LINUX_MIB_EMBRYONICRSTS] += 1


def tcp_child_process(parent: Sock, child: TcpSock, skb: SkBuff) -> int:
    """Give the segment that made `child` to it, and tell those who wait to accept. A reason to answer with RST (the skb is the
    caller's then), else 0."""
    reason = 0
    state = child.sk_state
    segs = skb.gso_segs or 1
    child.segs_in += segs
    if skb.len > skb.head[skb.transport_header + 12] >> 4 << 2:
        child.data_segs_in += segs
    if not sock_owned_by_user(child):
        reason = tcp_input.tcp_rcv_state_process(child, skb)
        # Wake the parent.
        if state == TCP_SYN_RECV and child.sk_state != state:
            parent.sk_data_ready()
    elif child.sk_backlog is None:
        child.sk_backlog = [skb]
    else:
        child.sk_backlog.append(skb)
    sock_put(child)
    return reason
