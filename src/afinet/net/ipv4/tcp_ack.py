"""net/ipv4/tcp_input.c, its part that takes in an ACK: what it acknowledges, how long that took, what is lost, how large the
congestion window is.

Call order: tcp_ack -> tcp_ack_update_window, tcp_sacktag_write_queue (tcp_sack.py) -> tcp_clean_rtx_queue (frees what is
acknowledged, measures the RTT) -> tcp_fastretrans_alert (Open, Disorder, CWR, Recovery, Loss; undo) -> tcp_cong_control (PRR or
cong_avoid) -> tcp_xmit_recovery. The retransmit timer comes in through tcp_enter_loss.

Left out: AccECN (RFC 3168's ECN is here).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.time import NSEC_PER_MSEC
from afinet.net.core import timestamping
from afinet.net.core.drop_reason import SKB_DROP_REASON_TCP_ACK_UNSENT_DATA, SKB_DROP_REASON_TCP_TOO_OLD_ACK
from afinet.net.core.skbuff import SkBuff, consume_skb
from afinet.net.core.sock import sk_mem_uncharge
from afinet.net.ipv4 import tcp_input, tcp_mtup, tcp_output, tcp_recovery, tcp_retransmit, tcp_rtt, tcp_sack, tcp_timer
from afinet.net.ipv4.inet_sock import ICSK_TIME_LOSS_PROBE, ICSK_TIME_PROBE0, ICSK_TIME_REO_TIMEOUT, ICSK_TIME_RETRANS
from afinet.net.ipv4.tcp_cong import tcp_ca_event, tcp_set_ca_state
from afinet.net.ipv4.tcp_fragment import tcp_current_mss, tcp_sync_mss, tcp_trim_head
from afinet.net.ipv4.tcp_inline import (
    CA_ACK_ECE,
    CA_ACK_SLOWPATH,
    CA_ACK_WIN_UPDATE,
    CA_EVENT_COMPLETE_CWR,
    CA_EVENT_LOSS,
    FLAG_ACK_MAYBE_DELAYED,
    FLAG_ACKED,
    FLAG_CA_ALERT,
    FLAG_DATA,
    FLAG_DATA_ACKED,
    FLAG_DATA_SACKED,
    FLAG_DSACK_TLP,
    FLAG_DSACKING_ACK,
    FLAG_ECE,
    FLAG_FORWARD_PROGRESS,
    FLAG_LOST_RETRANS,
    FLAG_NO_CHALLENGE_ACK,
    FLAG_NOT_DUP,
    FLAG_ORIG_SACK_ACKED,
    FLAG_RETRANS_DATA_ACKED,
    FLAG_SACK_RENEGING,
    FLAG_SET_XMIT_TIMER,
    FLAG_SLOWPATH,
    FLAG_SND_UNA_ADVANCED,
    FLAG_SYN_ACKED,
    FLAG_UPDATE_TS_RECENT,
    FLAG_WIN_UPDATE,
    TCP_CHRONO_BUSY,
    TCP_ECN_OK,
    TCP_ECN_QUEUE_CWR,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_NAGLE_OFF,
    TCP_RACK_RECOVERY_THRESH,
    tcp_clear_all_retrans_hints,
    tcp_current_ssthresh,
    tcp_fast_path_check,
    tcp_highest_sack_seq,
    tcp_in_cwnd_reduction,
    tcp_is_reno,
    tcp_lost,
    tcp_packets_in_flight,
    tcp_rto_max,
    tcp_rtx_queue_head,
    tcp_send_head,
    tcp_skb_seglen,
    tcp_skb_timestamp_ts,
    tcp_time_stamp_ms,
    tcp_wnd_end,
)
from afinet.net.ipv4.tcp_rate import TcpSacktagState, tcp_rate_gen, tcp_rate_skb_delivered
from afinet.net.ipv4.tcp_sock import (
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TCPHDR_ECE,
    TCPHDR_SYN,
    TcpSock,
    after,
    before,
    between,
    tcp_loss_state,
)
from afinet.uapi.errqueue import SCM_TSTAMP_ACK
from afinet.uapi.rtnetlink import RTAX_INITCWND
from afinet.uapi.snmp import (
    LINUX_MIB_TCPDELIVERED,
    LINUX_MIB_TCPDELIVEREDCE,
    LINUX_MIB_TCPDSACKUNDO,
    LINUX_MIB_TCPFULLUNDO,
    LINUX_MIB_TCPHPACKS,
    LINUX_MIB_TCPLOSSPROBERECOVERY,
    LINUX_MIB_TCPLOSSUNDO,
    LINUX_MIB_TCPLOSTRETRANSMIT,
    LINUX_MIB_TCPPARTIALUNDO,
    LINUX_MIB_TCPPUREACKS,
    LINUX_MIB_TCPRENORECOVERY,
    LINUX_MIB_TCPRENOREORDER,
    LINUX_MIB_TCPSACKRECOVERY,
    LINUX_MIB_TCPSACKRENEGING,
    LINUX_MIB_TCPSPURIOUSRTOS,
)
from afinet.uapi.tcp import (
    TCP_CA_CWR,
    TCP_SYN_SENT,
    TCP_CA_Disorder,
    TCP_CA_Loss,
    TCP_CA_Open,
    TCP_CA_Recovery,
)
from afinet.wire import be

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.dst import DstEntry

# what tcp_xmit_recovery is to do
REXMIT_NONE: Final = 0
REXMIT_LOST: Final = 1  # send again what is marked lost
REXMIT_NEW: Final = 2  # F-RTO: send new data


def tcp_scratch(kernel: Kernel) -> TcpSacktagState:
    state = kernel.tcp_sacktag_state
    if state is None:
        state = TcpSacktagState()
        kernel.tcp_sacktag_state = state
    return state


# -- the retransmit timer --------------------------------------------------------------------------------------------------


def tcp_rto_delta(sk: TcpSock) -> int:
    """ns until the oldest segment has been in flight for an RTO."""
    skb = tcp_rtx_queue_head(sk)
    if skb is None:
        return sk.icsk_rto
    return skb.tstamp + sk.icsk_rto - sk.tcp_mstamp


def tcp_rearm_rto(sk: TcpSock) -> None:
    """RFC 6298, 5.1 to 5.3."""
    if not sk.packets_out:
        tcp_timer.inet_csk_clear_retrans(sk)
        return
    rto = sk.icsk_rto
    pending = sk.icsk_pending
    if pending == ICSK_TIME_REO_TIMEOUT or pending == ICSK_TIME_LOSS_PROBE:
        # they came before the RTO, which began with the segment
        rto = max(tcp_rto_delta(sk), 1)
    tcp_timer.tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, rto)


def tcp_clear_retrans(tp: TcpSock) -> None:
    """tcp_clear_retrans: no retransmission is in flight, nothing is marked."""
    tp.retrans_out = 0
    tp.lost_out = 0
    tp.undo_marker = 0
    tp.undo_retrans = -1
    tp.sacked_out = 0
    stats = tp.loss_state
    if stats is not None:
        stats.rto_stamp = 0
        stats.total_rto = 0
        stats.total_rto_recoveries = 0
        stats.total_rto_time = 0


def tcp_update_rto_time(tp: TcpSock) -> None:
    stats = tp.loss_state
    if stats is not None and stats.rto_stamp:
        stats.total_rto_time += tcp_time_stamp_ms(tp) - stats.rto_stamp
        stats.rto_stamp = 0


# -- marks -----------------------------------------------------------------------------------------------------------------


def tcp_mark_skb_lost(sk: TcpSock, skb: SkBuff) -> None:
    """`skb` is taken for lost: the original, or the retransmission of it."""
    sacked = skb.sacked
    if sacked & TCPCB_SACKED_ACKED:
        return
    hint = sk.retransmit_skb_hint
    if (hint is None and sk.retrans_out >= sk.lost_out) or (hint is not None and before(skb.seq, hint.seq)):
        sk.retransmit_skb_hint = skb
    pcount = skb.gso_segs
    if sacked & TCPCB_LOST:
        if sacked & TCPCB_SACKED_RETRANS:
            skb.sacked = sacked & ~TCPCB_SACKED_RETRANS
            sk.retrans_out -= pcount
            sk.sk_net.net_statistics[LINUX_MIB_TCPLOSTRETRANSMIT] += pcount
            tcp_loss_state(sk).lost += pcount
    else:
        sk.lost_out += pcount
        skb.sacked = sacked | TCPCB_LOST
        tcp_loss_state(sk).lost += pcount


def tcp_limit_reno_sacked(tp: TcpSock) -> bool:
    """Without SACK, at least one segment is a hole."""
    holes = min(max(tp.lost_out, 1), tp.packets_out)
    if tp.sacked_out + holes > tp.packets_out:
        tp.sacked_out = tp.packets_out - holes
        return True
    return False


def tcp_check_reno_reordering(sk: TcpSock, addend: int) -> None:
    """More duplicate ACKs than segments could have caused: the network reorders."""
    if not tcp_limit_reno_sacked(sk):
        return
    sk.reordering = min(sk.packets_out + addend, sk.sk_net.ipv4.sysctl_tcp_max_reordering)
    tcp_loss_state(sk).reord_seen += 1
    sk.sk_net.net_statistics[LINUX_MIB_TCPRENOREORDER] += 1


def tcp_add_reno_sack(sk: TcpSock, num_dupack: int, ece_ack: bool) -> None:
    """Without SACK: a duplicate ACK says that one segment more was delivered."""
    if num_dupack:
        prior_sacked = sk.sacked_out
        sk.sacked_out = prior_sacked + num_dupack
        tcp_check_reno_reordering(sk, 0)
        delivered = sk.sacked_out - prior_sacked
        if delivered > 0:
            tcp_count_delivered(sk, delivered, ece_ack)


def tcp_remove_reno_sacks(sk: TcpSock, acked: int, ece_ack: bool) -> None:
    """One of the acknowledged segments filled the hole, the others ate up duplicate ACKs."""
    if acked > 0:
        tcp_count_delivered(sk, max(acked - sk.sacked_out, 1), ece_ack)
        sk.sacked_out = 0 if acked - 1 >= sk.sacked_out else sk.sacked_out - (acked - 1)
    tcp_check_reno_reordering(sk, acked)


def tcp_count_delivered(tp: TcpSock, delivered: int, ece_ack: bool) -> None:
    tp.delivered += delivered
    if ece_ack:
        tp.delivered_ce += delivered


def tcp_timeout_mark_lost(sk: TcpSock) -> None:
    """After a timeout everything is lost, but what was sent less than an RTT ago; a peer that SACKed the head and does not
    acknowledge it has reneged, and its SACKs are void."""
    head = tcp_rtx_queue_head(sk)
    is_reneg = head is not None and head.sacked & TCPCB_SACKED_ACKED != 0
    if is_reneg:
        sk.sk_net.net_statistics[LINUX_MIB_TCPSACKRENEGING] += 1
        sk.sacked_out = 0
        sk.is_sack_reneg = True
        sk.tsorted_sent_queue = None
    elif tcp_is_reno(sk):
        sk.sacked_out = 0
    skb = head
    while skb is not None:
        if is_reneg:
            skb.sacked &= ~TCPCB_SACKED_ACKED
        if is_reneg or skb is head or tcp_recovery.tcp_rack_skb_timeout(sk, skb, 0) <= 0:
            tcp_mark_skb_lost(sk, skb)
        skb = skb.next
    tcp_clear_all_retrans_hints(sk)


def tcp_enter_loss(sk: TcpSock) -> None:
    """The retransmit timer went off."""
    net = sk.sk_net.ipv4
    new_recovery = sk.icsk_ca_state < TCP_CA_Recovery
    tcp_timeout_mark_lost(sk)
    # Reduce ssthresh once a window.
    state = sk.icsk_ca_state
    if state <= TCP_CA_Disorder or not after(sk.high_seq, sk.snd_una) or (state == TCP_CA_Loss and not sk.icsk_retransmits):
        loss = tcp_loss_state(sk)
        loss.prior_ssthresh = tcp_current_ssthresh(sk)
        loss.prior_cwnd = sk.snd_cwnd
        ca = sk.icsk_ca_ops
        assert ca is not None
        sk.snd_ssthresh = ca.ssthresh(sk)
        tcp_ca_event(sk, CA_EVENT_LOSS)
        tcp_init_undo(sk)
    sk.snd_cwnd = tcp_packets_in_flight(sk) + 1
    sk.snd_cwnd_cnt = 0
    sk.snd_cwnd_stamp = sk.kernel.now
    # A timeout after many duplicates: the reordering that was assumed was too much.
    if state <= TCP_CA_Disorder and sk.sacked_out >= net.sysctl_tcp_reordering:
        sk.reordering = min(sk.reordering, net.sysctl_tcp_reordering)
    tcp_set_ca_state(sk, TCP_CA_Loss)
    sk.high_seq = sk.snd_nxt
    sk.tlp_high_seq = 0
    tcp_ecn_queue_cwr(sk)
    # RFC 5682: find out whether the timeout was spurious, unless this is a second one in the same recovery from loss by SACK
    sk.frto = net.sysctl_tcp_frto != 0 and (new_recovery or sk.icsk_retransmits != 0)


# -- reductions of the congestion window -----------------------------------------------------------------------------------


def tcp_ecn_queue_cwr(tp: TcpSock) -> None:
    if tp.ecn_flags & TCP_ECN_OK:
        tp.ecn_flags |= TCP_ECN_QUEUE_CWR


def tcp_init_cwnd(tp: TcpSock, dst: DstEntry | None) -> int:
    """RFC 6928's initial window, or the route's."""
    cwnd = 0
    if dst is not None and dst.metrics is not None:
        cwnd = dst.metrics[RTAX_INITCWND - 1]
    return cwnd or TCP_INIT_CWND


def tcp_init_undo(tp: TcpSock) -> None:
    """What is retransmitted from here on might turn out to have been in vain."""
    tp.undo_marker = tp.snd_una
    tp.undo_retrans = tp.retrans_out
    if tp.tlp_high_seq and tp.tlp_retrans:
        tp.undo_retrans += 1
    # zero would say "all of it was in vain"
    if not tp.undo_retrans:
        tp.undo_retrans = -1


def tcp_init_cwnd_reduction(sk: TcpSock) -> None:
    """Begin proportional rate reduction (RFC 6937)."""
    sk.high_seq = sk.snd_nxt
    sk.tlp_high_seq = 0
    sk.snd_cwnd_cnt = 0
    loss = tcp_loss_state(sk)
    loss.prior_cwnd = sk.snd_cwnd
    loss.prr_delivered = 0
    loss.prr_out = 0
    ca = sk.icsk_ca_ops
    assert ca is not None
    sk.snd_ssthresh = ca.ssthresh(sk)
    tcp_ecn_queue_cwr(sk)


def tcp_cwnd_reduction(sk: TcpSock, newly_acked_sacked: int, newly_lost: int, flag: int) -> None:
    """Of what was delivered, send so much that the window ends at ssthresh when the recovery does."""
    loss = tcp_loss_state(sk)
    if newly_acked_sacked <= 0 or not loss.prior_cwnd:
        return
    in_flight = tcp_packets_in_flight(sk)
    delta = sk.snd_ssthresh - in_flight
    loss.prr_delivered += newly_acked_sacked
    if delta < 0:
        sndcnt = (sk.snd_ssthresh * loss.prr_delivered + loss.prior_cwnd - 1) // loss.prior_cwnd - loss.prr_out
    else:
        sndcnt = max(loss.prr_delivered - loss.prr_out, newly_acked_sacked)
        if flag & FLAG_SND_UNA_ADVANCED and not newly_lost:
            sndcnt += 1
        sndcnt = min(delta, sndcnt)
    # the first retransmission goes out in any case
    sndcnt = max(sndcnt, 0 if loss.prr_out else 1)
    sk.snd_cwnd = in_flight + sndcnt


def tcp_end_cwnd_reduction(sk: TcpSock) -> None:
    if sk.snd_ssthresh < TCP_INFINITE_SSTHRESH and (sk.icsk_ca_state == TCP_CA_CWR or sk.undo_marker):
        sk.snd_cwnd = sk.snd_ssthresh
        sk.snd_cwnd_stamp = sk.kernel.now
    tcp_ca_event(sk, CA_EVENT_COMPLETE_CWR)


def tcp_enter_cwr(sk: TcpSock) -> None:
    """Congestion without loss: an ECN echo, or a full local queue."""
    tcp_loss_state(sk).prior_ssthresh = 0
    if sk.icsk_ca_state < TCP_CA_CWR:
        sk.undo_marker = 0
        tcp_init_cwnd_reduction(sk)
        tcp_set_ca_state(sk, TCP_CA_CWR)


def tcp_enter_recovery(sk: TcpSock, ece_ack: bool) -> None:
    """Something is marked lost: retransmit it and halve the rate."""
    mib = LINUX_MIB_TCPRENORECOVERY if tcp_is_reno(sk) else LINUX_MIB_TCPSACKRECOVERY
    sk.sk_net.net_statistics[mib] += 1
    loss = tcp_loss_state(sk)
    loss.prior_ssthresh = 0
    tcp_init_undo(sk)
    if not tcp_in_cwnd_reduction(sk):
        if not ece_ack:
            loss.prior_ssthresh = tcp_current_ssthresh(sk)
        tcp_init_cwnd_reduction(sk)
    tcp_set_ca_state(sk, TCP_CA_Recovery)


# -- undo ------------------------------------------------------------------------------------------------------------------


def tcp_any_retrans_done(sk: TcpSock) -> bool:
    if sk.retrans_out:
        return True
    skb = tcp_rtx_queue_head(sk)
    return skb is not None and skb.sacked & TCPCB_EVER_RETRANS != 0


def tcp_tsopt_ecr_before(tp: TcpSock, when: int) -> bool:
    rx_opt = tp.rx_opt
    return rx_opt.saw_tstamp and rx_opt.rcv_tsecr != 0 and before(rx_opt.rcv_tsecr, when)


def tcp_packet_delayed(tp: TcpSock) -> bool:
    """The ACK answers a segment that was sent before the first retransmission (Eifel), or there was none."""
    if tp.retrans_stamp:
        return tcp_tsopt_ecr_before(tp, tp.retrans_stamp)
    # Two cases forget retrans_stamp though something was sent again: without SACK, when high_seq is acknowledged, and SYNs.
    if tcp_is_reno(tp) and not before(tp.snd_una, tp.high_seq):
        return False
    return tp.sk_state != TCP_SYN_SENT


def tcp_may_undo(tp: TcpSock) -> bool:
    return tp.undo_marker != 0 and (not tp.undo_retrans or tcp_packet_delayed(tp))


def tcp_undo_cwnd_reduction(sk: TcpSock, unmark_loss: bool) -> None:
    """It was no loss: back to the window of before."""
    if unmark_loss:
        skb = tcp_rtx_queue_head(sk)
        while skb is not None:
            skb.sacked &= ~TCPCB_LOST
            skb = skb.next
        sk.lost_out = 0
        tcp_clear_all_retrans_hints(sk)
        sk.tsorted_sent_queue = None
    loss = sk.loss_state
    if loss is not None and loss.prior_ssthresh:
        ca = sk.icsk_ca_ops
        assert ca is not None
        sk.snd_cwnd = ca.undo_cwnd(sk)
        if loss.prior_ssthresh > sk.snd_ssthresh:
            sk.snd_ssthresh = loss.prior_ssthresh
            sk.ecn_flags &= ~TCP_ECN_QUEUE_CWR
    sk.snd_cwnd_stamp = sk.kernel.now
    sk.undo_marker = 0
    sk.rack_advanced = True  # look again for what is lost nevertheless


def tcp_is_non_sack_preventing_reopen(sk: TcpSock) -> bool:
    """Without SACK the state is held until something above high_seq is acknowledged, or duplicate ACKs of old retransmissions
    would be taken for a new loss (RFC 6582, 4.1)."""
    if sk.snd_una == sk.high_seq and tcp_is_reno(sk):
        if not tcp_any_retrans_done(sk):
            sk.retrans_stamp = 0
        return True
    return False


def tcp_try_undo_recovery(sk: TcpSock) -> bool:
    """Recovery has reached its end; True: the state is held all the same."""
    if tcp_may_undo(sk):
        mib = LINUX_MIB_TCPLOSSUNDO if sk.icsk_ca_state == TCP_CA_Loss else LINUX_MIB_TCPFULLUNDO
        tcp_undo_cwnd_reduction(sk, False)
        sk.sk_net.net_statistics[mib] += 1
    elif sk.rack_reo_wnd_persist:
        sk.rack_reo_wnd_persist -= 1
    if tcp_is_non_sack_preventing_reopen(sk):
        return True
    tcp_set_ca_state(sk, TCP_CA_Open)
    sk.is_sack_reneg = False
    return False


def tcp_try_undo_dsack(sk: TcpSock) -> bool:
    """D-SACKs have told of every retransmission that it was in vain."""
    if sk.undo_marker and not sk.undo_retrans:
        sk.rack_reo_wnd_persist = min(TCP_RACK_RECOVERY_THRESH, sk.rack_reo_wnd_persist + 1)
        tcp_undo_cwnd_reduction(sk, False)
        sk.sk_net.net_statistics[LINUX_MIB_TCPDSACKUNDO] += 1
        return True
    return False


def tcp_try_undo_loss(sk: TcpSock, frto_undo: bool) -> bool:
    """The timeout was spurious: by F-RTO, by timestamps, or by D-SACKs."""
    if not (frto_undo or tcp_may_undo(sk)):
        return False
    tcp_undo_cwnd_reduction(sk, True)
    stats = sk.sk_net.net_statistics
    stats[LINUX_MIB_TCPLOSSUNDO] += 1
    if frto_undo:
        stats[LINUX_MIB_TCPSPURIOUSRTOS] += 1
    sk.icsk_retransmits = 0
    if tcp_is_non_sack_preventing_reopen(sk):
        return True
    if frto_undo or sk.rx_opt.sack_ok:
        tcp_set_ca_state(sk, TCP_CA_Open)
        sk.is_sack_reneg = False
    return True


def tcp_try_undo_partial(sk: TcpSock, prior_snd_una: int) -> bool:
    """A partial ACK in Recovery, by a segment that was only delayed. True: hold still until the rest is clear."""
    if sk.undo_marker and tcp_packet_delayed(sk):
        tcp_sack.tcp_check_sack_reordering(sk, prior_snd_una, True)
        if sk.retrans_out:
            return True
        if not tcp_any_retrans_done(sk):
            sk.retrans_stamp = 0
        tcp_undo_cwnd_reduction(sk, True)
        sk.sk_net.net_statistics[LINUX_MIB_TCPPARTIALUNDO] += 1
        tcp_try_keep_open(sk)
    return False


def tcp_try_keep_open(sk: TcpSock) -> None:
    state = TCP_CA_Open
    if sk.sacked_out + sk.lost_out or tcp_any_retrans_done(sk):
        state = TCP_CA_Disorder
    if sk.icsk_ca_state != state:
        tcp_set_ca_state(sk, state)
        sk.high_seq = sk.snd_nxt


def tcp_try_to_open(sk: TcpSock, flag: int) -> None:
    if not tcp_any_retrans_done(sk):
        sk.retrans_stamp = 0
    if flag & FLAG_ECE:
        tcp_enter_cwr(sk)
    if sk.icsk_ca_state != TCP_CA_CWR:
        tcp_try_keep_open(sk)


# -- the state machine of loss ---------------------------------------------------------------------------------------------


def tcp_identify_packet_loss(sk: TcpSock, ack_flag: int) -> int:
    """Mark what this ACK shows to be lost. Returns the flags."""
    rtx = sk.tcp_rtx_queue
    if rtx is None or rtx.head is None:
        return ack_flag
    if tcp_is_reno(sk):
        tcp_recovery.tcp_newreno_mark_lost(sk, ack_flag & FLAG_SND_UNA_ADVANCED != 0)
        return ack_flag
    prior_retrans = sk.retrans_out
    if tcp_recovery.tcp_rack_mark_lost(sk):
        ack_flag &= ~FLAG_SET_XMIT_TIMER
    if prior_retrans > sk.retrans_out:
        ack_flag |= FLAG_LOST_RETRANS
    return ack_flag


def tcp_process_loss(sk: TcpSock, flag: int, num_dupack: int) -> int:
    """An ACK in the Loss state: F-RTO (RFC 5682), then slow start over what is lost. Returns REXMIT_*."""
    recovered = not before(sk.snd_una, sk.high_seq)
    if flag & FLAG_SND_UNA_ADVANCED and tcp_try_undo_loss(sk, False):
        return REXMIT_NONE
    if sk.frto:
        # Step 3.b: data that was never sent again was delivered.
        if flag & FLAG_ORIG_SACK_ACKED and tcp_try_undo_loss(sk, True):
            return REXMIT_NONE
        if after(sk.snd_nxt, sk.high_seq):
            if flag & FLAG_DATA_SACKED or num_dupack:
                sk.frto = False  # step 3.a: it was a loss
        elif flag & FLAG_SND_UNA_ADVANCED and not recovered:
            sk.high_seq = sk.snd_nxt
            # Step 2.b: new data, if there is some.
            if sk.write_seq != sk.snd_nxt and after(tcp_wnd_end(sk), sk.snd_nxt):
                return REXMIT_NEW
            sk.frto = False
    if recovered:
        tcp_try_undo_recovery(sk)
        return REXMIT_NONE
    if tcp_is_reno(sk):
        # A duplicate ACK now tells of new data of step 2.b.
        if after(sk.snd_nxt, sk.high_seq) and num_dupack:
            tcp_add_reno_sack(sk, num_dupack, flag & FLAG_ECE != 0)
        elif flag & FLAG_SND_UNA_ADVANCED:
            sk.sacked_out = 0
    return REXMIT_LOST


def tcp_fastretrans_alert(sk: TcpSock, prior_snd_una: int, num_dupack: int, ack_flag: int) -> tuple[int, int]:
    """Something is, or was, amiss. Returns (the flags, REXMIT_*)."""
    flag = ack_flag
    ece_ack = flag & FLAG_ECE != 0
    if not sk.packets_out and sk.sacked_out:
        sk.sacked_out = 0

    # A. An ECN echo: the reduction is required, no undo.
    if ece_ack and sk.loss_state is not None:
        sk.loss_state.prior_ssthresh = 0

    # B. The head is SACKed and not acknowledged: wait a little, then take the SACKs for reneged.
    if flag & FLAG_SACK_RENEGING and flag & FLAG_SND_UNA_ADVANCED:
        delay = max((sk.srtt_us >> 4) * 1000, 10 * NSEC_PER_MSEC)
        tcp_timer.inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, delay)
        return ack_flag & ~FLAG_SET_XMIT_TIMER, REXMIT_NONE

    # D. A state ends when high_seq is acknowledged.
    state = sk.icsk_ca_state
    if state == TCP_CA_Open:
        sk.retrans_stamp = 0
    elif not before(sk.snd_una, sk.high_seq):
        if state == TCP_CA_CWR:
            # CWR is held until something above it is acknowledged, so that the CWR flag has reached the receiver
            if sk.snd_una != sk.high_seq:
                tcp_end_cwnd_reduction(sk)
                tcp_set_ca_state(sk, TCP_CA_Open)
        elif state == TCP_CA_Recovery:
            if tcp_is_reno(sk):
                sk.sacked_out = 0
            if tcp_try_undo_recovery(sk):
                return ack_flag, REXMIT_NONE
            tcp_end_cwnd_reduction(sk)

    # E. What the state makes of the ACK.
    state = sk.icsk_ca_state
    if state == TCP_CA_Recovery:
        if not flag & FLAG_SND_UNA_ADVANCED:
            if tcp_is_reno(sk):
                tcp_add_reno_sack(sk, num_dupack, ece_ack)
        elif tcp_try_undo_partial(sk, prior_snd_una):
            return ack_flag, REXMIT_NONE
        if tcp_try_undo_dsack(sk):
            tcp_try_to_open(sk, flag)
        ack_flag = tcp_identify_packet_loss(sk, ack_flag)
        if sk.icsk_ca_state != TCP_CA_Recovery:
            if not sk.lost_out:
                return ack_flag, REXMIT_NONE
            # undone, and yet something is lost
            tcp_enter_recovery(sk, ece_ack)
        return ack_flag, REXMIT_LOST
    rexmit = REXMIT_NONE
    if state == TCP_CA_Loss:
        rexmit = tcp_process_loss(sk, flag, num_dupack)
        if sk.icsk_ca_state != TCP_CA_Loss:
            tcp_update_rto_time(sk)
        ack_flag = tcp_identify_packet_loss(sk, ack_flag)
        if not (sk.icsk_ca_state == TCP_CA_Open or ack_flag & FLAG_LOST_RETRANS):
            return ack_flag, rexmit
    if tcp_is_reno(sk):
        if flag & FLAG_SND_UNA_ADVANCED:
            sk.sacked_out = 0
        tcp_add_reno_sack(sk, num_dupack, ece_ack)
    if sk.icsk_ca_state <= TCP_CA_Disorder:
        tcp_try_undo_dsack(sk)
    ack_flag = tcp_identify_packet_loss(sk, ack_flag)
    if not sk.lost_out:
        tcp_try_to_open(sk, flag)
        return ack_flag, rexmit
    if sk.tcp_cold is not None and sk.tcp_cold.icsk_mtup is not None:
        mtup = sk.tcp_cold.icsk_mtup
        if sk.icsk_ca_state < TCP_CA_CWR and mtup.probe_size and sk.snd_una == mtup.probe_seq_start:
            tcp_mtup.tcp_mtup_probe_failed(sk, mtup)
            sk.snd_cwnd += 1  # which the probe had cost
            tcp_simple_retransmit(sk)
            return ack_flag, rexmit
    tcp_enter_recovery(sk, ece_ack)
    return ack_flag, REXMIT_LOST


def tcp_process_tlp_ack(sk: TcpSock, ack: int, flag: int) -> None:
    """Whether a tail loss probe repaired a loss, which then costs half the window (RFC 8985, 7.4)."""
    if before(ack, sk.tlp_high_seq):
        return
    if not sk.tlp_retrans:
        sk.tlp_high_seq = 0  # it was new data
    elif flag & FLAG_DSACK_TLP:
        sk.tlp_high_seq = 0  # both arrived
    elif after(ack, sk.tlp_high_seq):
        tcp_init_cwnd_reduction(sk)
        tcp_set_ca_state(sk, TCP_CA_CWR)
        tcp_end_cwnd_reduction(sk)
        tcp_try_keep_open(sk)
        sk.sk_net.net_statistics[LINUX_MIB_TCPLOSSPROBERECOVERY] += 1
    elif not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DATA_SACKED):
        sk.tlp_high_seq = 0  # a pure duplicate: both arrived


def tcp_simple_retransmit(sk: TcpSock) -> None:
    """The path's MTU fell: what is too large is lost, and that is no congestion."""
    mss = tcp_current_mss(sk)
    skb = tcp_rtx_queue_head(sk)
    while skb is not None:
        if tcp_skb_seglen(skb) > mss:
            tcp_mark_skb_lost(sk, skb)
        skb = skb.next
    if not sk.lost_out:
        return
    if tcp_is_reno(sk):
        tcp_limit_reno_sacked(sk)
    if sk.icsk_ca_state != TCP_CA_Loss:
        sk.high_seq = sk.snd_nxt
        sk.snd_ssthresh = tcp_current_ssthresh(sk)
        tcp_loss_state(sk).prior_ssthresh = 0
        sk.undo_marker = 0
        tcp_set_ca_state(sk, TCP_CA_Loss)
    tcp_retransmit.tcp_xmit_retransmit_queue(sk)


# -- the ACK ---------------------------------------------------------------------------------------------------------------


def tcp_tso_acked(sk: TcpSock, skb: SkBuff) -> int:
    """Of a segment of several packets, some are acknowledged: drop them. How many."""
    packets = skb.gso_segs
    if tcp_trim_head(sk, skb, (sk.snd_una - skb.seq) & 0xFFFFFFFF):
        return 0
    return packets - skb.gso_segs


def tcp_ack_tstamp(sk: TcpSock, skb: SkBuff, prior_snd_una: int) -> None:
    """Tell a sender who asked (SOF_TIMESTAMPING_TX_ACK) that the byte in question is acknowledged."""
    stamp = skb.tx_tstamp
    if stamp is not None and not before(stamp.key, prior_snd_una) and before(stamp.key, sk.snd_una):
        timestamping.__skb_tstamp_tx(skb, sk, SCM_TSTAMP_ACK)


def tcp_clean_rtx_queue(sk: TcpSock, prior_fack: int, prior_snd_una: int, state: TcpSacktagState, ece_ack: bool) -> int:
    """Free what is acknowledged; measure. Returns FLAG_*."""
    rtx = sk.tcp_rtx_queue
    flag = 0
    first_ackt = 0
    last_ackt = 0
    pkts_acked = 0
    fully_acked = True
    snd_una = sk.snd_una
    high_seq = sk.high_seq
    is_sack = sk.rx_opt.sack_ok != 0
    reord = sk.snd_nxt
    rate = state.rate
    tsorted = sk.tsorted_sent_queue
    skb = None if rtx is None else rtx.head
    while skb is not None:
        sacked = skb.sacked
        acked_pcount = skb.gso_segs
        start_seq = skb.seq
        end_seq = skb.end_seq
        if (snd_una - end_seq) & 0xFFFFFFFF > 0x7FFFFFFF:
            # the ACK ends in or before this segment
            if acked_pcount == 1 or not after(snd_una, start_seq):
                break
            acked_pcount = tcp_tso_acked(sk, skb)
            if not acked_pcount:
                break
            fully_acked = False
        if sacked & TCPCB_RETRANS:
            if sacked & TCPCB_SACKED_RETRANS:
                sk.retrans_out -= acked_pcount
            flag |= FLAG_RETRANS_DATA_ACKED
        elif not sacked & TCPCB_SACKED_ACKED:
            last_ackt = skb.tstamp
            if not first_ackt:
                first_ackt = last_ackt
            if before(start_seq, reord):
                reord = start_seq
            if (high_seq - end_seq) & 0xFFFFFFFF <= 0x7FFFFFFF:
                flag |= FLAG_ORIG_SACK_ACKED
        if sacked & TCPCB_SACKED_ACKED:
            sk.sacked_out -= acked_pcount
        elif is_sack:
            sk.delivered += acked_pcount
            if ece_ack:
                sk.delivered_ce += acked_pcount
            # an ACK of the original is no evidence about when the retransmission arrived
            if not (sacked & TCPCB_RETRANS and tcp_tsopt_ecr_before(sk, tcp_skb_timestamp_ts(skb))):
                tcp_recovery.tcp_rack_advance(sk, skb, sacked)
        if sacked & TCPCB_LOST:
            sk.lost_out -= acked_pcount
        sk.packets_out -= acked_pcount
        pkts_acked += acked_pcount
        tcp_rate_skb_delivered(sk, skb, rate)
        if skb.tcp_flags & TCPHDR_SYN:
            # Data sent with or after the SYN is timed anew.
            flag |= FLAG_SYN_ACKED
            sk.retrans_stamp = 0
        else:
            flag |= FLAG_DATA_ACKED
        if skb.txstamp_ack:
            tcp_ack_tstamp(sk, skb, prior_snd_una)
        if not fully_acked:
            break
        next_skb = skb.next
        if skb is sk.retransmit_skb_hint:
            sk.retransmit_skb_hint = None
        if skb is sk.highest_sack:
            sk.highest_sack = next_skb
        if tsorted is not None:
            tsorted.remove(skb)
        assert rtx is not None
        rtx.pop_head()
        # tcp_wmem_free_skb
        truesize = skb.truesize
        sk.sk_wmem_queued -= truesize
        sk_mem_uncharge(sk, truesize)
        consume_skb(skb)
        skb = next_skb
    if skb is None:
        if sk.sk_write_queue.head is None:
            tcp_output.tcp_chrono_stop(sk, TCP_CHRONO_BUSY)
        sk.tsorted_sent_queue = None
        if sk.loss_state is not None:
            sk.loss_state.recv_sack_cache = None
        # All is acknowledged. An idle connection keeps no queue, and numbers that are equal are one object: memory counts when
        # there are a million of them.
        sk.tcp_rtx_queue = None
        snd_nxt = sk.snd_nxt
        if snd_una == snd_nxt:
            snd_una = snd_nxt
            sk.snd_una = snd_nxt
            if sk.write_seq == snd_nxt:
                sk.write_seq = snd_nxt
            if sk.pushed_seq == snd_nxt:
                sk.pushed_seq = snd_nxt
    elif skb.sacked & TCPCB_SACKED_ACKED:
        flag |= FLAG_SACK_RENEGING
    if between(sk.snd_up, prior_snd_una, snd_una):
        sk.snd_up = snd_una

    mstamp = sk.tcp_mstamp
    seq_rtt_us = -1
    ca_rtt_us = -1
    sack_rtt_us = -1
    if first_ackt and not flag & FLAG_RETRANS_DATA_ACKED:
        seq_rtt_us = (mstamp - first_ackt) // 1000
        ca_rtt_us = (mstamp - last_ackt) // 1000
        if (
            pkts_acked == 1
            and fully_acked
            and rate.prior_delivered + 1 == sk.delivered
            and not flag & (FLAG_CA_ALERT | FLAG_SYN_ACKED)
        ):
            # a lone packet over a round trip: its ACK was probably delayed
            flag |= FLAG_ACK_MAYBE_DELAYED
    if state.first_sackt:
        sack_rtt_us = (mstamp - state.first_sackt) // 1000
        ca_rtt_us = (mstamp - state.last_sackt) // 1000
    rtt_update = tcp_rtt.tcp_ack_update_rtt(sk, flag, seq_rtt_us, sack_rtt_us, ca_rtt_us, state)
    if flag & FLAG_ACKED:
        flag |= FLAG_SET_XMIT_TIMER
        if sk.tcp_cold is not None and sk.tcp_cold.icsk_mtup is not None:
            mtup = sk.tcp_cold.icsk_mtup
            if mtup.probe_size and not after(mtup.probe_seq_end, sk.snd_una):
                tcp_mtup.tcp_mtup_probe_success(sk, mtup)
        if not is_sack:
            tcp_remove_reno_sacks(sk, pkts_acked, ece_ack)
            if flag & FLAG_RETRANS_DATA_ACKED:
                flag &= ~FLAG_ORIG_SACK_ACKED
        elif before(reord, prior_fack):
            # a hole that was never sent again has filled: reordering
            tcp_sack.tcp_check_sack_reordering(sk, reord, False)
    elif skb is not None and rtt_update and sack_rtt_us >= 0 and sack_rtt_us > (mstamp - skb.tstamp) // 1000:
        # SACKs of segments older than the head's last transmission do not put off its timeout
        flag |= FLAG_SET_XMIT_TIMER
    ca = sk.icsk_ca_ops
    if ca is not None:
        ca.pkts_acked(sk, pkts_acked, rate.rtt_us, sk.mss_cache * (sk.delivered - rate.prior_delivered))
    return flag


def tcp_ack_update_window(sk: TcpSock, skb: SkBuff, ack: int, ack_seq: int) -> int:
    """RFC 9293, 3.10.7.4: the newest segment tells the window."""
    flag = 0
    nwin = be.get_u16(skb.head, skb.transport_header + 14)
    if not skb.tcp_flags & TCPHDR_SYN:
        wscale: int = sk.rx_opt.snd_wscale
        nwin <<= wscale
    if after(ack, sk.snd_una) or after(ack_seq, sk.snd_wl1) or (ack_seq == sk.snd_wl1 and (nwin > sk.snd_wnd or not nwin)):
        flag = FLAG_WIN_UPDATE
        sk.snd_wl1 = ack_seq
        if sk.snd_wnd != nwin:
            sk.snd_wnd = nwin
            # the only place where header prediction comes back for a sender
            sk.pred_flags = 0
            tcp_fast_path_check(sk)
            if sk.write_seq != sk.snd_nxt:
                tcp_output.tcp_slow_start_after_idle_check(sk)
            if nwin > sk.max_window:
                sk.max_window = nwin
                tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
    sk.bytes_acked += (ack - sk.snd_una) & 0xFFFFFFFF
    sk.snd_una = ack
    return flag


def tcp_ack_probe(sk: TcpSock) -> None:
    """An ACK with nothing in flight: does it open the window enough?"""
    head = tcp_send_head(sk)
    if head is None:
        return
    if not after(head.end_seq, tcp_wnd_end(sk)):
        sk.icsk_backoff = 0
        if sk.tcp_cold is not None:
            sk.tcp_cold.icsk_probes_tstamp = 0
        tcp_timer.inet_csk_clear_retrans(sk)
        # tcp_data_snd_check sends
    else:
        when = tcp_output.tcp_probe0_when(sk, tcp_rto_max(sk))
        when = tcp_timer.tcp_clamp_probe0_to_user_timeout(sk, when)
        tcp_timer.inet_csk_reset_xmit_timer(sk, ICSK_TIME_PROBE0, when)


def tcp_in_ack_event(sk: TcpSock, flag: int) -> None:
    ca = sk.icsk_ca_ops
    if ca is not None:
        ca_flag = 0
        if flag & FLAG_WIN_UPDATE:
            ca_flag |= CA_ACK_WIN_UPDATE
        if flag & FLAG_SLOWPATH:
            ca_flag |= CA_ACK_SLOWPATH
            if flag & FLAG_ECE:
                ca_flag |= CA_ACK_ECE
        ca.in_ack_event(sk, ca_flag)


def tcp_newly_delivered(sk: TcpSock, prior_delivered: int, flag: int) -> int:
    delivered = sk.delivered - prior_delivered
    if delivered:
        stats = sk.sk_net.net_statistics
        stats[LINUX_MIB_TCPDELIVERED] += delivered
        if flag & FLAG_ECE:
            stats[LINUX_MIB_TCPDELIVEREDCE] += delivered
    return delivered


def tcp_update_pacing_rate(sk: TcpSock) -> None:
    """Bytes a second: the window over the RTT, times 2 in slow start and 1.2 after it."""
    net = sk.sk_net.ipv4
    cwnd = sk.snd_cwnd
    ratio = net.sysctl_tcp_pacing_ss_ratio if cwnd < sk.snd_ssthresh >> 1 else net.sysctl_tcp_pacing_ca_ratio
    if sk.packets_out > cwnd:
        cwnd = sk.packets_out
    rate = sk.mss_cache * 80000 * ratio * cwnd
    if sk.srtt_us:
        rate //= sk.srtt_us
    cold = sk.sk_cold
    if cold is not None and 0 <= cold.sk_max_pacing_rate < rate:
        rate = cold.sk_max_pacing_rate
    sk.sk_pacing_rate = rate


def tcp_cong_control(sk: TcpSock, ack: int, acked_sacked: int, flag: int, state: TcpSacktagState) -> None:
    ca = sk.icsk_ca_ops
    assert ca is not None
    if ca.cong_control(sk, ack, flag, state.rate):
        return
    ca_state = sk.icsk_ca_state
    if ca_state == TCP_CA_CWR or ca_state == TCP_CA_Recovery:
        tcp_cwnd_reduction(sk, acked_sacked, state.rate.losses, flag)
    else:
        # With much reordering, SACKs have to do for growth (RFC 6675 lets only the cumulative ACK count).
        progress = FLAG_FORWARD_PROGRESS if sk.reordering > sk.sk_net.ipv4.sysctl_tcp_reordering else FLAG_DATA_ACKED
        if flag & progress:
            ca.cong_avoid(sk, ack, acked_sacked)
            sk.snd_cwnd_stamp = sk.kernel.now
    tcp_update_pacing_rate(sk)


def tcp_xmit_recovery(sk: TcpSock, rexmit: int) -> None:
    """Send what the ACK called for, now that the window is known."""
    if rexmit == REXMIT_NONE or sk.sk_state == TCP_SYN_SENT:
        return
    if rexmit == REXMIT_NEW:
        tcp_output.__tcp_push_pending_frames(sk, tcp_current_mss(sk), TCP_NAGLE_OFF)
        if after(sk.snd_nxt, sk.high_seq):
            return
        sk.frto = False
    tcp_retransmit.tcp_xmit_retransmit_queue(sk)


def tcp_ack(sk: TcpSock, skb: SkBuff, flag: int) -> int:
    """Take in the ACK of a segment. 1: fine; 0: old; below 0: the drop reason of one that is not acceptable, negated."""
    prior_snd_una = sk.snd_una
    ack_seq = skb.seq
    ack = skb.ack_seq
    state = sk.kernel.tcp_sacktag_state
    if state is None:
        state = tcp_scratch(sk.kernel)
    state.first_sackt = 0
    state.sack_delivered = 0
    rate = state.rate
    rate.prior_delivered = 0
    rate.prior_mstamp = 0
    prior_packets = sk.packets_out
    delivered = sk.delivered
    lost = tcp_lost(sk)
    is_sack_reneg = sk.is_sack_reneg
    num_dupack = 0
    rexmit = REXMIT_NONE

    advanced = (ack - prior_snd_una) & 0xFFFFFFFF
    if advanced > 0x7FFFFFFF:
        # Older than one we had. RFC 5961, 5.2: much too old ones are somebody's guesses.
        max_window = min(sk.max_window, sk.bytes_acked)
        if before(ack, (prior_snd_una - max_window) & 0xFFFFFFFF):
            if not flag & FLAG_NO_CHALLENGE_ACK:
                tcp_input.tcp_send_challenge_ack(sk)
            return -SKB_DROP_REASON_TCP_TOO_OLD_ACK
        return _tcp_old_ack(sk, skb, flag, prior_snd_una, state)
    if after(ack, sk.snd_nxt):
        if not flag & FLAG_NO_CHALLENGE_ACK:
            tcp_input.tcp_send_challenge_ack(sk)
        return -SKB_DROP_REASON_TCP_ACK_UNSENT_DATA
    if advanced:
        flag |= FLAG_SND_UNA_ADVANCED
        sk.icsk_retransmits = 0
    prior_fack = tcp_highest_sack_seq(sk) if sk.rx_opt.sack_ok else prior_snd_una
    rate.prior_in_flight = prior_packets - sk.sacked_out - sk.lost_out + sk.retrans_out

    # ts_recent may be updated now that the segment is known to be in the window
    if flag & FLAG_UPDATE_TS_RECENT:
        tcp_input.tcp_replace_ts_recent(sk, ack_seq)

    if flag & FLAG_SLOWPATH or not advanced:
        if ack_seq != skb.end_seq:
            flag |= FLAG_DATA
        else:
            sk.sk_net.net_statistics[LINUX_MIB_TCPPUREACKS] += 1
        flag |= tcp_ack_update_window(sk, skb, ack, ack_seq)
        if skb.sacked:
            sacks = skb.cb
            if isinstance(sacks, list):
                flag |= tcp_sack.tcp_sacktag_write_queue(sk, ack, sacks, prior_snd_una, state)
        if sk.ecn_flags & TCP_ECN_OK and skb.tcp_flags & (TCPHDR_ECE | TCPHDR_SYN) == TCPHDR_ECE:
            flag |= FLAG_ECE
        if state.sack_delivered:
            tcp_count_delivered(sk, state.sack_delivered, flag & FLAG_ECE != 0)
    else:
        # The window did not change (header prediction), and the ACK goes forward.
        sk.snd_wl1 = ack_seq
        sk.bytes_acked += advanced
        sk.snd_una = ack
        flag |= FLAG_WIN_UPDATE
        sk.sk_net.net_statistics[LINUX_MIB_TCPHPACKS] += 1

    sk.sk_err_soft = 0
    sk.icsk_probes_out = 0
    sk.rcv_tstamp = sk.kernel.now
    if not prior_packets:
        # Nothing was in flight.
        tcp_in_ack_event(sk, flag)
        if flag & FLAG_DSACKING_ACK:
            tcp_fastretrans_alert(sk, prior_snd_una, num_dupack, flag)
            tcp_newly_delivered(sk, delivered, flag)
        tcp_ack_probe(sk)
        if sk.tlp_high_seq:
            tcp_process_tlp_ack(sk, ack, flag)
        return 1

    flag |= tcp_clean_rtx_queue(sk, prior_fack, prior_snd_una, state, flag & FLAG_ECE != 0)
    if sk.rack_dsack_seen or sk.rack_reo_wnd_steps != 1:
        tcp_recovery.tcp_rack_update_reo_wnd(sk, rate)
    tcp_in_ack_event(sk, flag)
    if sk.tlp_high_seq:
        tcp_process_tlp_ack(sk, ack, flag)
    if not flag & FLAG_NOT_DUP or flag & FLAG_CA_ALERT or sk.icsk_ca_state != TCP_CA_Open:
        if not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DSACKING_ACK):
            # a duplicate; several, if the backlog or GRO made one of them
            num_dupack = max(1, skb.gso_segs)
        flag, rexmit = tcp_fastretrans_alert(sk, prior_snd_una, num_dupack, flag)
    if flag & FLAG_SET_XMIT_TIMER and not tcp_retransmit.tcp_schedule_loss_probe(sk, True):
        tcp_rearm_rto(sk)
    if flag & FLAG_FORWARD_PROGRESS or not flag & FLAG_NOT_DUP:
        sk.sk_dst_pending_confirm = True  # sk_dst_confirm
    if flag & FLAG_FORWARD_PROGRESS or not flag & FLAG_NOT_DUP:
        sk.sk_dst_pending_confirm = True  # what we send arrives: the neighbour is there
    delivered = tcp_newly_delivered(sk, delivered, flag)
    rate.is_ack_delayed = flag & FLAG_ACK_MAYBE_DELAYED != 0
    tcp_rate_gen(sk, delivered, tcp_lost(sk) - lost, is_sack_reneg, rate)
    tcp_cong_control(sk, ack, delivered, flag, state)
    if rexmit:
        tcp_xmit_recovery(sk, rexmit)
    return 1


def _tcp_old_ack(sk: TcpSock, skb: SkBuff, flag: int, prior_snd_una: int, state: TcpSacktagState) -> int:
    """Its number is old, its SACK blocks may be news."""
    sacks = skb.cb
    if skb.sacked and isinstance(sacks, list):
        delivered = sk.delivered
        flag |= tcp_sack.tcp_sacktag_write_queue(sk, skb.ack_seq, sacks, prior_snd_una, state)
        if state.sack_delivered:
            tcp_count_delivered(sk, state.sack_delivered, False)
        flag, rexmit = tcp_fastretrans_alert(sk, prior_snd_una, 0, flag)
        tcp_newly_delivered(sk, delivered, flag)
        tcp_xmit_recovery(sk, rexmit)
    return 0
