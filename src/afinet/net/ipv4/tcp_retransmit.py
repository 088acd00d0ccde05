"""net/ipv4/tcp_output.c, its part that sends again, and that probes.

tcp_xmit_retransmit_queue sends what was marked lost, as far as the congestion window goes; tcp_retransmit_skb sends one segment
again and keeps the counts; tcp_send_loss_probe is RFC 8985's TLP; tcp_send_probe0, tcp_write_wakeup and tcp_xmit_probe_skb ask a
peer whether it is there and whether its window is open.

Left out: skb_still_in_host_queue (a retransmission while the original still waits in the local qdisc).
"""

from __future__ import annotations

from afinet.net.core.skbuff import SkBuff
from afinet.net.core.sock import SK_PACING_NONE, sk_mem_charge
from afinet.net.ipv4 import tcp_ack, tcp_ipv4, tcp_output, tcp_pacing, tcp_timer
from afinet.net.ipv4.inet_sock import ICSK_TIME_LOSS_PROBE, ICSK_TIME_PROBE0, ICSK_TIME_REO_TIMEOUT, ICSK_TIME_RETRANS
from afinet.net.ipv4.tcp_fragment import (
    TCP_FRAG_IN_RTX_QUEUE,
    TCP_FRAG_IN_WRITE_QUEUE,
    tcp_adjust_pcount,
    tcp_current_mss,
    tcp_fragment,
    tcp_set_skb_tso_segs,
    tcp_trim_head,
)
from afinet.net.ipv4.tcp_inline import (
    TCP_NAGLE_OFF,
    TCP_RESOURCE_PROBE_INTERVAL,
    TCP_SYNACK_NORMAL,
    TCP_TIMEOUT_INIT,
    TCP_TIMEOUT_MIN_US,
    tcp_highest_sack_replace,
    tcp_in_cwnd_reduction,
    tcp_packets_in_flight,
    tcp_rto_max,
    tcp_rto_min_us,
    tcp_rtx_queue_unlink_and_free,
    tcp_send_head,
    tcp_skb_timestamp_ts,
    tcp_wnd_end,
)
from afinet.net.ipv4.tcp_sock import (
    TCPCB_EVER_RETRANS,
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TCPHDR_ACK,
    TCPHDR_CWR,
    TCPHDR_ECE,
    TCPHDR_PSH,
    TCPHDR_SYN,
    TcpRequestSock,
    TcpSock,
    after,
    before,
    between,
    tcp_loss_state,
)
from afinet.uapi.errno import EAGAIN, EBUSY, EHOSTUNREACH, EINVAL, ENOMEM
from afinet.uapi.snmp import (
    LINUX_MIB_TCPFASTRETRANS,
    LINUX_MIB_TCPLOSSPROBES,
    LINUX_MIB_TCPRETRANSFAIL,
    LINUX_MIB_TCPSLOWSTARTRETRANS,
    LINUX_MIB_TCPSYNRETRANS,
    LINUX_MIB_TCPWINPROBE,
    TCP_MIB_RETRANSSEGS,
)
from afinet.uapi.socket import SOCK_TXREHASH_ENABLED
from afinet.uapi.tcp import TCP_CA_CWR, TCP_CLOSE, TCP_CA_Loss, TCP_CA_Open

# -- sending again ---------------------------------------------------------------------------------------------------------


def tcp_collapse_retrans(sk: TcpSock, skb: SkBuff) -> bool:
    """Append the segment behind `skb` to it."""
    next_skb = skb.next
    if next_skb is None:
        return False
    if next_skb.len:
        if skb.data_len != skb.len or next_skb.data_len != next_skb.len:
            return False
        frags = skb.frags
        more = next_skb.frags
        assert frags is not None and more is not None
        skb.frags = frags + more
        skb.len += next_skb.len
        skb.data_len = skb.len
        skb.truesize += next_skb.len
        sk.sk_wmem_queued += next_skb.len
        sk_mem_charge(sk, next_skb.len)
    tcp_highest_sack_replace(sk, next_skb, skb)
    skb.end_seq = next_skb.end_seq
    skb.tcp_flags |= next_skb.tcp_flags
    skb.sacked |= next_skb.sacked & TCPCB_EVER_RETRANS
    skb.eor = next_skb.eor
    if next_skb is sk.retransmit_skb_hint:
        sk.retransmit_skb_hint = skb
    tcp_adjust_pcount(sk, next_skb, next_skb.gso_segs)
    tsorted = sk.tsorted_sent_queue
    if tsorted is not None:
        tsorted.remove(next_skb)
    tcp_rtx_queue_unlink_and_free(next_skb, sk)
    return True


def tcp_retrans_try_collapse(sk: TcpSock, to: SkBuff, space: int) -> None:
    """Fill a small segment up with what follows, when it has to be sent again anyway."""
    if not sk.sk_net.ipv4.sysctl_tcp_retrans_collapse or to.tcp_flags & TCPHDR_SYN:
        return
    if to.gso_segs > 1 or to.sacked & TCPCB_SACKED_ACKED:
        return
    space -= to.len
    while True:
        skb = to.next
        if skb is None or skb.gso_segs > 1 or skb.sacked & TCPCB_SACKED_ACKED or to.eor:
            return
        space -= skb.len
        if space < 0 or after(skb.end_seq, tcp_wnd_end(sk)) or not tcp_collapse_retrans(sk, to):
            return


def __tcp_retransmit_skb(sk: TcpSock, skb: SkBuff, segs: int) -> int:
    """Send at most `segs` packets of `skb` again. 0, -errno, or above 0 when the local queue refused."""
    if sk.tcp_cold is not None and sk.tcp_cold.icsk_mtup is not None:
        sk.tcp_cold.icsk_mtup.probe_size = 0  # whatever becomes of the probe, it proves nothing now
    if skb.tcp_flags & TCPHDR_SYN and before(skb.seq, sk.snd_una):
        # the SYN is acknowledged, the data with it is not
        skb.tcp_flags &= ~TCPHDR_SYN
        skb.seq = (skb.seq + 1) & 0xFFFFFFFF
    if before(skb.seq, sk.snd_una):
        if before(skb.end_seq, sk.snd_una):
            return -EINVAL
        if tcp_trim_head(sk, skb, (sk.snd_una - skb.seq) & 0xFFFFFFFF):
            return -ENOMEM
    ops = sk.icsk_af_ops
    assert ops is not None
    if ops.rebuild_header(sk):
        return -EHOSTUNREACH
    cur_mss = tcp_current_mss(sk)
    avail_wnd = (tcp_wnd_end(sk) - skb.seq) & 0xFFFFFFFF
    if avail_wnd == 0 or avail_wnd > 0x7FFFFFFF:
        # The receiver took its window back: only the head goes, as a probe.
        if skb.seq != sk.snd_una:
            return -EAGAIN
        avail_wnd = cur_mss
    length = cur_mss * segs
    if length > avail_wnd:
        length = avail_wnd - avail_wnd % cur_mss or avail_wnd
    if skb.len > length:
        if tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, length, cur_mss):
            return -ENOMEM
    else:
        diff = skb.gso_segs
        tcp_set_skb_tso_segs(skb, cur_mss)
        diff -= skb.gso_segs
        if diff:
            tcp_adjust_pcount(sk, skb, diff)
        avail_wnd = min(avail_wnd, cur_mss)
        if 0 < skb.len < avail_wnd:
            tcp_retrans_try_collapse(sk, skb, avail_wnd)
    if skb.tcp_flags & TCPHDR_SYN and skb.tcp_flags & TCPHDR_ECE and skb.tcp_flags & TCPHDR_CWR:
        # RFC 3168, 6.1.1.1: the answer may be lost because of ECN
        if sk.sk_net.ipv4.sysctl_tcp_ecn_fallback:
            skb.tcp_flags &= ~(TCPHDR_ECE | TCPHDR_CWR)
    net = sk.sk_net
    segs = skb.gso_segs
    net.tcp_statistics[TCP_MIB_RETRANSSEGS] += segs
    if skb.tcp_flags & TCPHDR_SYN:
        net.net_statistics[LINUX_MIB_TCPSYNRETRANS] += 1
    stats = tcp_loss_state(sk)
    stats.total_retrans += segs
    stats.bytes_retrans += skb.len
    err = tcp_output.tcp_transmit_skb(sk, skb)
    trace = sk.kernel.trace
    if err == 0:
        if trace.tcp_retransmit_skb:
            trace.fire(
                "tcp:tcp_retransmit_skb",
                {"sport": sk.inet_sport, "dport": sk.inet_dport, "saddr": sk.inet_saddr, "daddr": sk.inet_daddr,
                 "state": sk.sk_state, "seq": skb.seq, "len": skb.len, "sk": sk},
            )  # fmt: skip
    elif err != -EBUSY:
        net.net_statistics[LINUX_MIB_TCPRETRANSFAIL] += segs
    # Even a failed try spoils the RTT that this segment would tell.
    skb.sacked |= TCPCB_EVER_RETRANS
    return err


def tcp_retransmit_skb(sk: TcpSock, skb: SkBuff, segs: int) -> int:
    err = __tcp_retransmit_skb(sk, skb, segs)
    if err == 0:
        skb.sacked |= TCPCB_RETRANS & ~0x10
        sk.retrans_out += skb.gso_segs
    # when the first (try of a) retransmission of this episode was
    if not sk.retrans_stamp:
        sk.retrans_stamp = tcp_skb_timestamp_ts(skb)
    if sk.undo_retrans < 0:
        sk.undo_retrans = 0
    sk.undo_retrans += skb.gso_segs
    return err


def tcp_xmit_retransmit_queue(sk: TcpSock) -> None:
    """Send again, oldest first, what is marked lost and not in flight again."""
    if not sk.packets_out:
        return
    rtx = sk.tcp_rtx_queue
    if rtx is None:
        return
    rtx_head = rtx.head
    skb = sk.retransmit_skb_hint
    if skb is None:
        skb = rtx_head
    hole: SkBuff | None = None
    rearm_timer = False
    max_segs = tcp_output.tcp_tso_segs(sk, tcp_current_mss(sk))
    stats = sk.sk_net.net_statistics
    while skb is not None:
        if sk.sk_pacing_status != SK_PACING_NONE and tcp_pacing.tcp_pacing_check(sk):
            break
        if hole is None:
            sk.retransmit_skb_hint = skb
        segs = sk.snd_cwnd - tcp_packets_in_flight(sk)
        if segs <= 0 or sk.retrans_out >= sk.lost_out:
            break
        if segs > max_segs:
            segs = max_segs
        sacked = skb.sacked
        if not sacked & TCPCB_LOST:
            if hole is None and not sacked & (TCPCB_SACKED_RETRANS | TCPCB_SACKED_ACKED):
                hole = skb
        elif not sacked & (TCPCB_SACKED_ACKED | TCPCB_SACKED_RETRANS):
            if tcp_output.tcp_small_queue_check(sk, skb, 1):
                break
            if tcp_retransmit_skb(sk, skb, segs):
                break
            mib = LINUX_MIB_TCPSLOWSTARTRETRANS if sk.icsk_ca_state == TCP_CA_Loss else LINUX_MIB_TCPFASTRETRANS
            stats[mib] += skb.gso_segs
            if tcp_in_cwnd_reduction(sk):
                tcp_loss_state(sk).prr_out += skb.gso_segs
            if skb is rtx_head and sk.icsk_pending != ICSK_TIME_REO_TIMEOUT:
                rearm_timer = True
        skb = skb.next
    if rearm_timer:
        tcp_timer.tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, sk.icsk_rto)


# -- tail loss probes ------------------------------------------------------------------------------------------------------


def tcp_schedule_loss_probe(sk: TcpSock, advancing_rto: bool) -> bool:
    """Arm the timer for a loss probe two round trips from now (RFC 8985, 7.2). False: no probe, the RTO should be armed."""
    early = sk.sk_net.ipv4.sysctl_tcp_early_retrans
    if (
        (early != 3 and early != 4)
        or not sk.packets_out
        or not sk.rx_opt.sack_ok
        or (sk.icsk_ca_state != TCP_CA_Open and sk.icsk_ca_state != TCP_CA_CWR)
    ):
        return False
    if sk.srtt_us:
        timeout_us = sk.srtt_us >> 2
        # with one packet out, the ACK may be delayed
        timeout_us += tcp_rto_min_us(sk) if sk.packets_out == 1 else TCP_TIMEOUT_MIN_US
        timeout = timeout_us * 1000
    else:
        timeout = TCP_TIMEOUT_INIT
    rto_delta = sk.icsk_rto if advancing_rto else tcp_ack.tcp_rto_delta(sk)
    if 0 < rto_delta < timeout:
        timeout = rto_delta
    tcp_timer.tcp_reset_xmit_timer(sk, ICSK_TIME_LOSS_PROBE, timeout)
    return True


def tcp_send_loss_probe(sk: TcpSock) -> None:
    """Send a new segment, or the last one again, to draw the SACK that tells of a lost tail."""
    if sk.tlp_high_seq == 0 and _send_loss_probe(sk):
        # for loss detection (tcp_process_tlp_ack)
        sk.tlp_high_seq = sk.snd_nxt
        sk.sk_net.net_statistics[LINUX_MIB_TCPLOSSPROBES] += 1
        sk.icsk_pending = 0  # the RTO begins now
    tcp_ack.tcp_rearm_rto(sk)


def _send_loss_probe(sk: TcpSock) -> bool:
    mss = tcp_current_mss(sk)
    sk.tlp_retrans = False
    skb = tcp_send_head(sk)
    if skb is not None and tcp_output.tcp_snd_wnd_test(sk, skb, mss):
        packets = sk.packets_out
        tcp_output.tcp_write_xmit(sk, mss, TCP_NAGLE_OFF, 2)
        return sk.packets_out > packets
    rtx = sk.tcp_rtx_queue
    skb = None if rtx is None else rtx.tail
    if skb is None:
        sk.icsk_pending = 0
        return False
    segs = skb.gso_segs
    if segs > 1 and skb.len > (segs - 1) * mss:
        if tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, skb, (segs - 1) * mss, mss):
            return False
        skb = skb.next
        if skb is None:
            return False
    if __tcp_retransmit_skb(sk, skb, 1):
        return False
    sk.tlp_retrans = True
    return True


# -- probes ----------------------------------------------------------------------------------------------------------------


def tcp_xmit_probe_skb(sk: TcpSock, urgent: bool, mib: int) -> int:
    """A segment without data just below the window, which the peer has to answer; urgent ones tell the urgent pointer."""
    seq = sk.snd_una if urgent else (sk.snd_una - 1) & 0xFFFFFFFF
    skb = tcp_output.tcp_control_skb(sk, seq, TCPHDR_ACK)
    sk.sk_net.net_statistics[mib] += 1
    return tcp_output.tcp_transmit_skb(sk, skb, False)


def tcp_send_window_probe(sk: TcpSock) -> None:
    """TCP_REPAIR's: tell the peer of a window that was restored."""
    if sk.sk_state == 1:  # TCP_ESTABLISHED
        sk.snd_wl1 = (sk.rcv_nxt - 1) & 0xFFFFFFFF
        sk.tcp_mstamp = sk.kernel.now
        tcp_xmit_probe_skb(sk, False, LINUX_MIB_TCPWINPROBE)


def tcp_write_wakeup(sk: TcpSock, mib: int) -> int:
    """Send what fits into the window, or a probe when nothing does. 0, -errno, or above 0 when the local queue refused."""
    if sk.sk_state == TCP_CLOSE:
        return -1
    skb = tcp_send_head(sk)
    wnd_end = tcp_wnd_end(sk)
    if skb is not None and before(skb.seq, wnd_end):
        mss = tcp_current_mss(sk)
        seg_size = (wnd_end - skb.seq) & 0xFFFFFFFF
        if before(sk.pushed_seq, skb.end_seq):
            sk.pushed_seq = skb.end_seq
        # The window is open, but less than a segment: silly window avoidance held it back until now.
        if seg_size < (skb.end_seq - skb.seq) & 0xFFFFFFFF or skb.len > mss:
            seg_size = min(seg_size, mss)
            skb.tcp_flags |= TCPHDR_PSH
            if seg_size < skb.len and tcp_fragment(sk, TCP_FRAG_IN_WRITE_QUEUE, skb, seg_size, mss):
                return -1
        if not skb.gso_segs:
            tcp_set_skb_tso_segs(skb, mss)
        skb.tcp_flags |= TCPHDR_PSH
        err = tcp_output.tcp_transmit_skb(sk, skb)
        if err == 0:
            tcp_output.tcp_event_new_data_sent(sk, skb)
        return err
    if between(sk.snd_up, (sk.snd_una + 1) & 0xFFFFFFFF, (sk.snd_una + 0xFFFF) & 0xFFFFFFFF):
        tcp_xmit_probe_skb(sk, True, mib)
    return tcp_xmit_probe_skb(sk, False, mib)


def tcp_send_probe0(sk: TcpSock) -> None:
    """The probe timer is due: probe the closed window and arm the timer again."""
    err = tcp_write_wakeup(sk, LINUX_MIB_TCPWINPROBE)
    if sk.packets_out or sk.write_seq == sk.snd_nxt:
        # not needed any more
        sk.icsk_probes_out = 0
        sk.icsk_backoff = 0
        if sk.tcp_cold is not None:
            sk.tcp_cold.icsk_probes_tstamp = 0
        return
    sk.icsk_probes_out += 1
    if err <= 0:
        if sk.icsk_backoff < sk.sk_net.ipv4.sysctl_tcp_retries2:
            sk.icsk_backoff += 1
        timeout = tcp_output.tcp_probe0_when(sk, tcp_rto_max(sk))
    else:
        timeout = TCP_RESOURCE_PROBE_INTERVAL
    timeout = tcp_timer.tcp_clamp_probe0_to_user_timeout(sk, timeout)
    tcp_timer.inet_csk_reset_xmit_timer(sk, ICSK_TIME_PROBE0, timeout)


def tcp_rtx_synack(sk: TcpSock, req: TcpRequestSock) -> int:
    """Send the SYN-ACK of a request again, with another flow hash, since the path may be at fault. 0 or -errno."""
    if sk.sk_txrehash == SOCK_TXREHASH_ENABLED:
        req.txhash = sk.kernel.random("txhash").get_random_u32() or 1
    res = tcp_ipv4.tcp_prot_of(sk).request_sock_ipv4_ops.send_synack(sk, None, req, TCP_SYNACK_NORMAL)
    if res == 0:
        net = sk.sk_net
        net.tcp_statistics[TCP_MIB_RETRANSSEGS] += 1
        net.net_statistics[LINUX_MIB_TCPSYNRETRANS] += 1
        trace = sk.kernel.trace
        if trace.tcp_retransmit_synack:
            trace.fire("tcp:tcp_retransmit_synack", {"sport": req.inet_num, "dport": req.inet_dport, "req": req, "sk": sk})
        req.num_retrans += 1
    return res
