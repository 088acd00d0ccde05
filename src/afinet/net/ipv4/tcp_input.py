"""net/ipv4/tcp_input.c: what becomes of a segment that arrives.

Call order: tcp_v4_do_rcv -> tcp_rcv_established (header prediction first) or tcp_rcv_state_process (every other state; a listener's
SYN goes to tcp_conn_request) -> tcp_validate_incoming (PAWS, sequence number, RST, SYN; RFC 5961) -> tcp_ack -> tcp_urg ->
tcp_data_queue -> tcp_data_snd_check, tcp_ack_snd_check.

Linux has all of it in one file. Here: this file, the numbered steps of RFC 9293, 3.10.7; tcp_ack.py, what an ACK does;
tcp_sack.py, its SACK blocks; tcp_rcvq.py, what data does; tcp_recovery.py, RACK; tcp_rtt.py, round trips.

Header prediction: in the common case a segment is exactly what was expected, its flag word and window equal to `pred_flags`, its
number to rcv_nxt. It is then either a pure ACK for a bulk sender or the next data for a bulk receiver, and goes past all the
checks.

Left out: fast open, SYN cookies (a full queue of requests drops the SYN), MD5 and AO, PLB, the metrics of earlier connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_PKT_TOO_SMALL,
    SKB_DROP_REASON_TCP_ABORT_ON_DATA,
    SKB_DROP_REASON_TCP_CLOSE,
    SKB_DROP_REASON_TCP_FLAGS,
    SKB_DROP_REASON_TCP_INVALID_ACK_SEQUENCE,
    SKB_DROP_REASON_TCP_INVALID_END_SEQUENCE,
    SKB_DROP_REASON_TCP_INVALID_SEQUENCE,
    SKB_DROP_REASON_TCP_INVALID_SYN,
    SKB_DROP_REASON_TCP_OLD_ACK,
    SKB_DROP_REASON_TCP_OLD_SEQUENCE,
    SKB_DROP_REASON_TCP_RESET,
    SKB_DROP_REASON_TCP_RFC7323_PAWS,
    SKB_DROP_REASON_TCP_RFC7323_PAWS_ACK,
)
from afinet.net.core.dst import DST_FEATURE_ECN_CA
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.core.skbuff import SkBuff, consume_skb, kfree_skb_reason
from afinet.net.core.sock import (
    SOCK_DEAD,
    SOCK_KEEPOPEN,
    sock_flag,
)
from afinet.net.ipv4 import (
    inet_connection_sock,
    tcp,
    tcp_ack,
    tcp_ipv4,
    tcp_minisocks,
    tcp_output,
    tcp_rcvq,
    tcp_sack,
    tcp_timer,
)
from afinet.net.ipv4.inet_sock import ICSK_ACK_SCHED, ICSK_TIME_RETRANS, INET_FLAGS_TRANSPARENT, inet_test_bit
from afinet.net.ipv4.tcp_cong import tcp_ca_needs_ecn, tcp_init_congestion_control
from afinet.net.ipv4.tcp_fragment import tcp_mtup_init, tcp_sync_mss
from afinet.net.ipv4.tcp_inline import (
    FLAG_DATA,
    FLAG_NO_CHALLENGE_ACK,
    FLAG_SLOWPATH,
    FLAG_UPDATE_TS_RECENT,
    TCP_DELACK_MAX,
    TCP_ECN_OK,
    TCP_HP_BITS,
    TCP_INFINITE_SSTHRESH,
    TCP_MAX_QUICKACKS,
    TCP_PAWS_WINDOW,
    TCP_TIMEOUT_FALLBACK,
    TCP_TIMEOUT_INIT,
    TCP_TIMEOUT_MIN,
    TCP_TIMEWAIT_LEN,
    inet_csk_in_pingpong_mode,
    inet_csk_schedule_ack,
    keepalive_time_when,
    tcp_clear_options,
    tcp_fast_path_on,
    tcp_fast_path_on_window,
    tcp_fin_time,
    tcp_linger2,
    tcp_mstamp_refresh,
    tcp_paws_check,
    tcp_paws_reject,
    tcp_receive_window,
    tcp_time_stamp_ts,
)
from afinet.net.ipv4.tcp_sock import (
    TCP_SACK_SEEN,
    TCPHDR_ACK,
    TCPHDR_CWR,
    TCPHDR_ECE,
    TCPHDR_FIN,
    TCPHDR_RST,
    TCPHDR_SYN,
    TcpOptionsReceived,
    TcpRequestSock,
    TcpSock,
    after,
    before,
    between,
    tcp_cold,
    tcp_loss_state,
)
from afinet.security import security
from afinet.uapi.errno import ECONNREFUSED, ECONNRESET, EPIPE
from afinet.uapi.rtnetlink import RTAX_FEATURE_ECN, RTAX_FEATURES
from afinet.uapi.snmp import (
    LINUX_MIB_BEYOND_WINDOW,
    LINUX_MIB_LISTENOVERFLOWS,
    LINUX_MIB_PAWS_OLD_ACK,
    LINUX_MIB_PAWSACTIVEREJECTED,
    LINUX_MIB_PAWSESTABREJECTED,
    LINUX_MIB_TCPABORTONDATA,
    LINUX_MIB_TCPACKSKIPPEDCHALLENGE,
    LINUX_MIB_TCPACKSKIPPEDPAWS,
    LINUX_MIB_TCPACKSKIPPEDSEQ,
    LINUX_MIB_TCPCHALLENGEACK,
    LINUX_MIB_TCPHPHITS,
    LINUX_MIB_TCPREQQFULLDROP,
    LINUX_MIB_TCPSYNCHALLENGE,
    TCP_MIB_INERRS,
)
from afinet.uapi.socket import RCV_SHUTDOWN, SEND_SHUTDOWN
from afinet.uapi.tcp import (
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
)
from afinet.wire import be
from afinet.wire.tcp_options import parse_fast_timestamp, parse_tcp_options

if TYPE_CHECKING:
    from afinet.net.core.dst import DstEntry
    from afinet.net.ipv4.tcp_ipv4_reply import TcpRequestSockAfOps, TcpRequestSockOps


# -- options ---------------------------------------------------------------------------------------------------------------


def tcp_parse_options(net: Net, skb: SkBuff, opt_rx: TcpOptionsReceived, estab: bool) -> None:
    """Read the options into `opt_rx`; those of a SYN only if `estab` is false. SACK blocks are left with the skb (`sacked`,
    `cb`)."""
    th = skb.transport_header
    head = skb.head
    opt_rx.saw_tstamp = False
    end = th + (head[th + 12] >> 4 << 2)
    if end == th + 20:
        return
    parsed = tcp_ack.tcp_scratch(net.kernel).parsed
    parse_tcp_options(head, th + 20, end, parsed)
    ipv4 = net.ipv4
    if not estab and skb.tcp_flags & TCPHDR_SYN:
        mss = parsed.mss
        if mss:
            user_mss = opt_rx.user_mss
            opt_rx.mss_clamp = user_mss if 0 < user_mss < mss else mss
        if parsed.wscale >= 0 and ipv4.sysctl_tcp_window_scaling:
            opt_rx.wscale_ok = True
            opt_rx.snd_wscale = min(parsed.wscale, 14)
        if parsed.sack_perm and ipv4.sysctl_tcp_sack:
            opt_rx.sack_ok = TCP_SACK_SEEN
            opt_rx.num_sacks = 0
    if parsed.saw_tstamp and (opt_rx.tstamp_ok if estab else ipv4.sysctl_tcp_timestamps != 0):
        opt_rx.saw_tstamp = True
        opt_rx.rcv_tsval = parsed.tsval
        opt_rx.rcv_tsecr = parsed.tsecr
    if parsed.sacks is not None and opt_rx.sack_ok:
        skb.sacked = 1
        skb.cb = parsed.sacks


def tcp_fast_parse_options(sk: TcpSock, skb: SkBuff) -> None:
    """Options of an established connection: nothing, or the timestamp alone, or the whole parser."""
    th = skb.transport_header
    head = skb.head
    doff = head[th + 12] >> 4
    rx_opt = sk.rx_opt
    if doff == 5:
        rx_opt.saw_tstamp = False
        return
    if doff == 8 and rx_opt.tstamp_ok:
        ok, tsval, tsecr = parse_fast_timestamp(head, th + 20, 12)
        if ok:
            rx_opt.saw_tstamp = True
            rx_opt.rcv_tsval = tsval
            rx_opt.rcv_tsecr = (tsecr - sk.tsoffset) & 0xFFFFFFFF if tsecr else 0
            return
    tcp_parse_options(sk.sk_net, skb, rx_opt, True)
    if rx_opt.saw_tstamp and rx_opt.rcv_tsecr:
        rx_opt.rcv_tsecr = (rx_opt.rcv_tsecr - sk.tsoffset) & 0xFFFFFFFF


def tcp_store_ts_recent(sk: TcpSock) -> None:
    sk.rx_opt.ts_recent = sk.rx_opt.rcv_tsval
    sk.rx_opt.ts_recent_stamp = sk.kernel.now // NSEC_PER_SEC


def tcp_replace_ts_recent(sk: TcpSock, seq: int) -> None:
    """RFC 7323, 4.3: the timestamp to echo is that of the segment that the last ACK sent covered."""
    rx_opt = sk.rx_opt
    if rx_opt.saw_tstamp and not after(seq, sk.rcv_wup) and tcp_paws_check(rx_opt, sk.kernel.now, 0):
        rx_opt.ts_recent = rx_opt.rcv_tsval
        rx_opt.ts_recent_stamp = sk.kernel.now // NSEC_PER_SEC


# -- checks ----------------------------------------------------------------------------------------------------------------


def tcp_oow_rate_limited(sk: TcpSock, mib: int) -> bool:
    """Whether an answer to a segment out of the window would be one too many (tcp_invalid_ratelimit)."""
    now = sk.kernel.now
    cold = tcp_cold(sk)
    last = cold.last_oow_ack_time
    if last and 0 <= now - last < sk.sk_net.ipv4.sysctl_tcp_invalid_ratelimit:
        sk.sk_net.net_statistics[mib] += 1
        return True
    cold.last_oow_ack_time = now
    return False


def tcp_skb_oow_rate_limited(sk: TcpSock, skb: SkBuff, mib: int) -> bool:
    """Data is answered always: it cannot be part of a loop of ACKs."""
    if skb.seq != skb.end_seq and not skb.tcp_flags & TCPHDR_SYN:
        return False
    return tcp_oow_rate_limited(sk, mib)


def tcp_send_challenge_ack(sk: TcpSock) -> None:
    """RFC 5961: ask a peer whose RST or SYN may be forged where it is. Limited per sock, and per namespace
    (tcp_challenge_ack_limit)."""
    if tcp_oow_rate_limited(sk, LINUX_MIB_TCPACKSKIPPEDCHALLENGE):
        return
    net = sk.sk_net.ipv4
    limit = net.sysctl_tcp_challenge_ack_limit
    if limit != 0x7FFFFFFF:
        now = sk.kernel.now // NSEC_PER_SEC
        if now != net.tcp_challenge_timestamp:
            net.tcp_challenge_timestamp = now
            half = (limit + 1) >> 1
            net.tcp_challenge_count = half + sk.kernel.random("challenge_ack").get_random_u32_below(max(limit, 1))
        if net.tcp_challenge_count <= 0:
            return
        net.tcp_challenge_count -= 1
    sk.sk_net.net_statistics[LINUX_MIB_TCPCHALLENGEACK] += 1
    tcp_output.tcp_send_ack(sk)


def tcp_disordered_ack(sk: TcpSock, skb: SkBuff) -> int:
    """A segment with an old timestamp: 0 for a pure duplicate ACK that changes nothing and whose timestamp is not much too old (the
    network reorders ACKs, which RFC 7323 forgot); else the reason to drop it."""
    rx_opt = sk.rx_opt
    seq = skb.seq
    ack = skb.ack_seq
    if not skb.tcp_flags & TCPHDR_ACK or seq != skb.end_seq:
        return SKB_DROP_REASON_TCP_RFC7323_PAWS
    if seq != sk.rcv_nxt:
        # An old ACK is nothing unusual.
        return SKB_DROP_REASON_TCP_RFC7323_PAWS_ACK if before(seq, sk.rcv_nxt) else SKB_DROP_REASON_TCP_RFC7323_PAWS
    if ack != sk.snd_una:
        return SKB_DROP_REASON_TCP_RFC7323_PAWS
    wscale: int = rx_opt.snd_wscale
    window = be.get_u16(skb.head, skb.transport_header + 14) << wscale
    if after(seq, sk.snd_wl1) or (seq == sk.snd_wl1 and (window > sk.snd_wnd or not window)):
        return SKB_DROP_REASON_TCP_RFC7323_PAWS
    age = (rx_opt.ts_recent - rx_opt.rcv_tsval) & 0xFFFFFFFF
    if age > 0x7FFFFFFF or age <= sk.icsk_rto * 1200 // NSEC_PER_SEC:
        return 0
    return SKB_DROP_REASON_TCP_RFC7323_PAWS


def tcp_sequence(sk: TcpSock, seq: int, end_seq: int, fin: int) -> int:
    """RFC 9293's first check. 0, or the drop reason."""
    if before(end_seq, sk.rcv_wup):
        return SKB_DROP_REASON_TCP_OLD_SEQUENCE
    right = (sk.rcv_nxt + tcp_receive_window(sk)) & 0xFFFFFFFF
    # a bare FIN may stick out: some systems send it into a closed window
    if after(end_seq, right) and after((end_seq - fin) & 0xFFFFFFFF, right):
        if after(seq, right):
            return SKB_DROP_REASON_TCP_INVALID_SEQUENCE
        # beyond the window, but welcome if nothing waits to be read
        if sk.sk_receive_queue.qlen:
            return SKB_DROP_REASON_TCP_INVALID_END_SEQUENCE
    return 0


def tcp_reset_check(sk: TcpSock, skb: SkBuff) -> bool:
    """Some systems send the RST that follows their FIN with the FIN's number."""
    return skb.seq == (sk.rcv_nxt - 1) & 0xFFFFFFFF and (
        sk.sk_state == TCP_CLOSE_WAIT or sk.sk_state == TCP_LAST_ACK or sk.sk_state == TCP_CLOSING
    )


def tcp_reset(sk: TcpSock, skb: SkBuff) -> None:
    """A valid RST: the connection is over, the user is told."""
    trace = sk.kernel.trace
    if trace.tcp_receive_reset:
        trace.fire("tcp:tcp_receive_reset", {"sport": sk.inet_sport, "dport": sk.inet_dport, "sk": sk})
    state = sk.sk_state
    if state == TCP_CLOSE:
        return
    if state == TCP_SYN_SENT:
        err = ECONNREFUSED
    elif state == TCP_CLOSE_WAIT:
        err = EPIPE
    else:
        err = ECONNRESET
    tcp.tcp_done_with_error(sk, err)


def tcp_validate_incoming(sk: TcpSock, skb: SkBuff, syn_inerr: bool) -> bool:
    """Steps 1 to 4 of RFC 9293, 3.10.7.4. False: the segment was dealt with and is gone."""
    net = sk.sk_net
    flags = skb.tcp_flags
    rx_opt = sk.rx_opt
    # 0. PAWS (RFC 7323, 5.3)
    tcp_fast_parse_options(sk, skb)
    if rx_opt.saw_tstamp and not flags & TCPHDR_RST and not tcp_paws_check(rx_opt, sk.kernel.now, TCP_PAWS_WINDOW):
        reason = tcp_disordered_ack(sk, skb)
        if reason:
            if flags & TCPHDR_SYN:
                return _syn_challenge(sk, skb, syn_inerr)
            if reason == SKB_DROP_REASON_TCP_RFC7323_PAWS_ACK:
                net.net_statistics[LINUX_MIB_PAWS_OLD_ACK] += 1
            else:
                net.net_statistics[LINUX_MIB_PAWSESTABREJECTED] += 1
                if not tcp_skb_oow_rate_limited(sk, skb, LINUX_MIB_TCPACKSKIPPEDPAWS):
                    tcp_sack.tcp_send_dupack(sk, skb)
            kfree_skb_reason(net, skb, reason)
            return False

    # 1. the sequence number
    reason = tcp_sequence(sk, skb.seq, skb.end_seq, flags & TCPHDR_FIN)
    if reason:
        if not flags & TCPHDR_RST:
            if flags & TCPHDR_SYN:
                return _syn_challenge(sk, skb, syn_inerr)
            if reason != SKB_DROP_REASON_TCP_OLD_SEQUENCE:
                net.net_statistics[LINUX_MIB_BEYOND_WINDOW] += 1
            if not tcp_skb_oow_rate_limited(sk, skb, LINUX_MIB_TCPACKSKIPPEDSEQ):
                tcp_sack.tcp_send_dupack(sk, skb)
        elif tcp_reset_check(sk, skb):
            tcp_reset(sk, skb)
            consume_skb(skb)
            return False
        kfree_skb_reason(net, skb, reason)
        return False

    # 2. RST (RFC 5961, 3.2): believed only with exactly the next number, or the end of the last SACK block
    if flags & TCPHDR_RST:
        seq = skb.seq
        ok = seq == sk.rcv_nxt or tcp_reset_check(sk, skb)
        sacks = sk.selective_acks
        if not ok and rx_opt.sack_ok and sacks is not None:
            max_sack = sacks[1]
            i = 3
            while i < len(sacks):
                if after(sacks[i], max_sack):
                    max_sack = sacks[i]
                i += 2
            ok = seq == max_sack
        if ok:
            tcp_reset(sk, skb)
            consume_skb(skb)
            return False
        tcp_send_challenge_ack(sk)
        kfree_skb_reason(net, skb, SKB_DROP_REASON_TCP_RESET)
        return False

    # 4. SYN (RFC 5961, 4.2): a challenge, unless it is the SYN-ACK of a simultaneous open
    if flags & TCPHDR_SYN:
        if (
            sk.sk_state == TCP_SYN_RECV
            and sk.sk_socket is not None
            and flags & TCPHDR_ACK
            and (skb.seq + 1) & 0xFFFFFFFF == skb.end_seq
            and skb.end_seq == sk.rcv_nxt
            and skb.ack_seq == sk.snd_nxt
        ):
            return True
        return _syn_challenge(sk, skb, syn_inerr)
    return True


def _syn_challenge(sk: TcpSock, skb: SkBuff, syn_inerr: bool) -> bool:
    net = sk.sk_net
    if syn_inerr:
        net.tcp_statistics[TCP_MIB_INERRS] += 1
    net.net_statistics[LINUX_MIB_TCPSYNCHALLENGE] += 1
    tcp_send_challenge_ack(sk)
    kfree_skb_reason(net, skb, SKB_DROP_REASON_TCP_INVALID_SYN)
    return False


# -- ESTABLISHED -----------------------------------------------------------------------------------------------------------


def tcp_rcv_established(sk: TcpSock, skb: SkBuff) -> None:
    """A segment for an established connection, `skb.data` at its header. The skb is gone."""
    sk.tcp_mstamp = sk.kernel.now
    if sk.sk_rx_dst is None:
        ops = sk.icsk_af_ops
        assert ops is not None
        ops.sk_rx_dst_set(sk, skb)
    rx_opt = sk.rx_opt
    rx_opt.saw_tstamp = False
    head = skb.head
    th = skb.transport_header
    if (
        be.get_u32(head, th + 12) & TCP_HP_BITS == sk.pred_flags
        and skb.seq == sk.rcv_nxt
        and (sk.snd_nxt - skb.ack_seq) & 0xFFFFFFFF <= 0x7FFFFFFF
        and _rcv_predicted(sk, skb, head, th)
    ):
        return

    # The slow path.
    hlen = head[th + 12] >> 4 << 2
    net = sk.sk_net
    if skb.len < hlen:
        net.tcp_statistics[TCP_MIB_INERRS] += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        return
    if not skb.tcp_flags & (TCPHDR_ACK | TCPHDR_RST | TCPHDR_SYN):
        kfree_skb_reason(net, skb, SKB_DROP_REASON_TCP_FLAGS)
        return
    if not tcp_validate_incoming(sk, skb, True):
        return
    # 5. the ACK
    reason = tcp_ack.tcp_ack(sk, skb, FLAG_SLOWPATH | FLAG_UPDATE_TS_RECENT)
    if reason < 0:
        kfree_skb_reason(net, skb, -reason)
        return
    if rx_opt.saw_tstamp:
        tcp_rcvq.tcp_rcv_rtt_measure_ts(sk, skb)
    # 6. urgent data
    if skb.tcp_flags & 0x20 or sk.urg_data:
        tcp_rcvq.tcp_urg(sk, skb)
    # 7. the text
    tcp_rcvq.tcp_data_queue(sk, skb)
    tcp_rcvq.tcp_data_snd_check(sk)
    if sk.icsk_ack_pending & ICSK_ACK_SCHED:
        tcp_rcvq.__tcp_ack_snd_check(sk, True)


def _rcv_predicted(sk: TcpSock, skb: SkBuff, head: bytes, th: int) -> bool:
    """The fast path of tcp_rcv_established. False, with nothing changed, if the segment needs a closer look."""
    hlen: int = sk.tcp_header_len
    size = skb.len
    rx_opt = sk.rx_opt
    if size > hlen:
        if skb.truesize > sk.sk_forward_alloc or sk.sk_rmem_alloc > sk.sk_rcvbuf:
            return False  # memory has to be found first
        if (sk.rcv_nxt + tcp_receive_window(sk) - skb.end_seq) & 0xFFFFFFFF > 0x7FFFFFFF:
            return False  # more than the window
    if hlen == 32:
        word, tsval, tsecr = be.unpack_u32x3(head, th + 20)
        if word != 0x0101080A:
            return False
        # an older timestamp than the last: PAWS decides
        if (tsval - rx_opt.ts_recent) & 0xFFFFFFFF > 0x7FFFFFFF:
            return False
        rx_opt.saw_tstamp = True
        rx_opt.rcv_tsval = tsval
        rx_opt.rcv_tsecr = (tsecr - sk.tsoffset) & 0xFFFFFFFF if tsecr else 0
        # in the window by prediction; seq <= rcv_wup comes down to this
        if sk.rcv_nxt == sk.rcv_wup:
            rx_opt.ts_recent = tsval
            rx_opt.ts_recent_stamp = sk.kernel.now // NSEC_PER_SEC
    if size == hlen:
        # A pure ACK, for a bulk sender.
        tcp_ack.tcp_ack(sk, skb, 0)
        consume_skb(skb)
        if sk.sk_write_queue.head is not None or sk.sk_socket is not None:
            tcp_rcvq.tcp_data_snd_check(sk)
        sk.rcv_rtt_last_tsecr = rx_opt.rcv_tsecr
        return True
    if size < hlen:
        sk.sk_net.tcp_statistics[TCP_MIB_INERRS] += 1
        kfree_skb_reason(sk.sk_net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        return True
    # The next data, for a bulk receiver.
    if hlen == 32 and rx_opt.rcv_tsecr != sk.rcv_rtt_last_tsecr:
        tcp_rcvq.tcp_rcv_rtt_measure_ts(sk, skb)
    sk.sk_net.net_statistics[LINUX_MIB_TCPHPHITS] += 1
    skb.data += hlen
    skb.len = size - hlen
    eaten = tcp_rcvq.tcp_queue_rcv(sk, skb)
    tcp_rcvq.tcp_event_data_recv(sk, skb)
    if skb.ack_seq != sk.snd_una:
        tcp_ack.tcp_ack(sk, skb, FLAG_DATA)
        tcp_rcvq.tcp_data_snd_check(sk)
        if sk.icsk_ack_pending & ICSK_ACK_SCHED:
            tcp_rcvq.__tcp_ack_snd_check(sk, False)
    else:
        sk.snd_wl1 = skb.seq
        tcp_rcvq.__tcp_ack_snd_check(sk, False)
    if eaten:
        consume_skb(skb)
    tcp_rcvq.tcp_data_ready(sk)
    return True


# -- SYN_SENT --------------------------------------------------------------------------------------------------------------


def tcp_init_metrics(sk: TcpSock) -> None:
    """tcp_metrics.c, without its cache of earlier connections."""
    sk.sk_dst_pending_confirm = True
    # The handshake may have reduced it without need.
    sk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    if sk.srtt_us == 0:
        # RFC 6298, 5.7: no sample from the handshake, since it was retransmitted. Be patient.
        sk.rttvar_us = TCP_TIMEOUT_FALLBACK // 1000
        sk.mdev_us = sk.rttvar_us
        sk.mdev_max_us = sk.rttvar_us
        sk.icsk_rto = min(TCP_TIMEOUT_FALLBACK, sk.icsk_rto_max)


def tcp_init_transfer(sk: TcpSock) -> None:
    """The connection is (about to be) established: window, congestion control, buffers."""
    tcp_mtup_init(sk)
    ops = sk.icsk_af_ops
    assert ops is not None
    ops.rebuild_header(sk)
    tcp_init_metrics(sk)
    # RFC 5681 would start with one packet after any loss of a SYN; one is forgiven, since the first RTO is short (RFC 6298).
    if sk.undo_marker and tcp_loss_state(sk).total_retrans > 1:
        sk.snd_cwnd = 1
    else:
        sk.snd_cwnd = tcp_ack.tcp_init_cwnd(sk, sk.sk_dst_cache)
    sk.snd_cwnd_stamp = sk.kernel.now
    tcp_init_congestion_control(sk)
    tcp_rcvq.tcp_init_buffer_space(sk)


def tcp_finish_connect(sk: TcpSock, skb: SkBuff | None) -> None:
    """Our SYN is acknowledged."""
    tcp.tcp_set_state(sk, TCP_ESTABLISHED)
    sk.icsk_ack_lrcvtime = sk.kernel.now
    if skb is not None:
        ops = sk.icsk_af_ops
        assert ops is not None
        ops.sk_rx_dst_set(sk, skb)
        if sk.kernel.security_hooks:
            security.security_inet_conn_established(sk, skb)
    tcp_init_transfer(sk)
    sk.lsndtime = sk.kernel.now  # lest the first write find the connection idle
    if sock_flag(sk, SOCK_KEEPOPEN):
        tcp_timer.inet_csk_reset_keepalive_timer(sk, keepalive_time_when(sk))
    if not sk.rx_opt.snd_wscale:
        tcp_fast_path_on_window(sk, sk.snd_wnd)
    else:
        sk.pred_flags = 0


def tcp_try_undo_spurious_syn(sk: TcpSock) -> None:
    """The answer echoes the first SYN's timestamp: sending it again was not necessary."""
    stamp = sk.retrans_stamp
    if sk.undo_marker and stamp and sk.rx_opt.saw_tstamp and stamp == sk.rx_opt.rcv_tsecr:
        sk.undo_marker = 0


def tcp_rcv_synsent_state_process(sk: TcpSock, skb: SkBuff) -> int:
    """RFC 9293, 3.10.7.3. -1: the connection stands, go on with the segment; 0: it is gone; above 0: answer it with RST (the
    reason)."""
    net = sk.sk_net
    rx_opt = sk.rx_opt
    flags = skb.tcp_flags
    saved_clamp = rx_opt.mss_clamp
    tcp_parse_options(net, skb, rx_opt, False)
    if rx_opt.saw_tstamp and rx_opt.rcv_tsecr:
        rx_opt.rcv_tsecr = (rx_opt.rcv_tsecr - sk.tsoffset) & 0xFFFFFFFF
    th = skb.transport_header
    window = be.get_u16(skb.head, th + 14)

    if flags & TCPHDR_ACK:
        # first, the ACK
        if not after(skb.ack_seq, sk.snd_una) or after(skb.ack_seq, sk.snd_nxt):
            # of an earlier connection: the RST clears that up, so try again soon
            if sk.icsk_retransmits == 0:
                tcp_timer.inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, TCP_TIMEOUT_MIN)
            tcp_clear_options(rx_opt)
            rx_opt.mss_clamp = saved_clamp
            return SKB_DROP_REASON_TCP_INVALID_ACK_SEQUENCE
        if rx_opt.saw_tstamp and rx_opt.rcv_tsecr and not between(rx_opt.rcv_tsecr, sk.retrans_stamp, tcp_time_stamp_ts(sk)):
            net.net_statistics[LINUX_MIB_PAWSACTIVEREJECTED] += 1
            tcp_clear_options(rx_opt)
            rx_opt.mss_clamp = saved_clamp
            return SKB_DROP_REASON_TCP_RFC7323_PAWS
        # second, RST
        if flags & TCPHDR_RST:
            tcp_reset(sk, skb)
            consume_skb(skb)
            return 0
        # fifth
        if not flags & TCPHDR_SYN:
            return _synsent_discard(sk, skb, saved_clamp, SKB_DROP_REASON_TCP_FLAGS)
        # fourth, the SYN: it is for us
        if sk.ecn_flags & TCP_ECN_OK and (not flags & TCPHDR_ECE or flags & TCPHDR_CWR):
            sk.ecn_flags &= ~TCP_ECN_OK
        sk.snd_wl1 = skb.seq
        tcp_try_undo_spurious_syn(sk)
        tcp_ack.tcp_ack(sk, skb, FLAG_SLOWPATH)
        sk.rcv_nxt = (skb.seq + 1) & 0xFFFFFFFF
        sk.rcv_wup = sk.rcv_nxt
        sk.snd_wnd = window  # of a SYN: not scaled
        if not rx_opt.wscale_ok:
            rx_opt.snd_wscale = 0
            rx_opt.rcv_wscale = 0
            sk.window_clamp = min(sk.window_clamp, 65535)
        if rx_opt.saw_tstamp:
            rx_opt.tstamp_ok = True
            sk.tcp_header_len = 32
            sk.advmss -= 12
            tcp_store_ts_recent(sk)
        else:
            sk.tcp_header_len = 20
        tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
        tcp_rcvq.tcp_initialize_rcv_mss(sk)
        sk.copied_seq = sk.rcv_nxt
        tcp_finish_connect(sk, skb)
        if not sock_flag(sk, SOCK_DEAD):
            sk.sk_state_change()
        if tcp_defer_accept(sk) or inet_csk_in_pingpong_mode(sk):
            # Data is about to be sent: let the ACK go with it.
            inet_csk_schedule_ack(sk)
            tcp_rcvq.tcp_enter_quickack_mode(sk, TCP_MAX_QUICKACKS)
            tcp_timer.inet_csk_reset_dack(sk, sk.kernel.now + TCP_DELACK_MAX)
            consume_skb(skb)
            return 0
        tcp_output.tcp_send_ack(sk)
        return -1

    # no ACK in the segment
    if flags & TCPHDR_RST:
        return _synsent_discard(sk, skb, saved_clamp, SKB_DROP_REASON_TCP_RESET)
    if rx_opt.ts_recent_stamp and rx_opt.saw_tstamp and tcp_paws_reject(rx_opt, sk.kernel.now, False):
        return _synsent_discard(sk, skb, saved_clamp, SKB_DROP_REASON_TCP_RFC7323_PAWS)
    if flags & TCPHDR_SYN:
        # Simultaneous open: both SYNs crossed, or a sock connects to itself.
        tcp.tcp_set_state(sk, TCP_SYN_RECV)
        if rx_opt.saw_tstamp:
            rx_opt.tstamp_ok = True
            tcp_store_ts_recent(sk)
            sk.tcp_header_len = 32
        else:
            sk.tcp_header_len = 20
        # The scale stays as it was offered, and the SYN-ACK offers it again, even to a peer that does not scale.
        sk.rcv_nxt = (skb.seq + 1) & 0xFFFFFFFF
        sk.copied_seq = sk.rcv_nxt
        sk.rcv_wup = sk.rcv_nxt
        sk.snd_wnd = window
        sk.snd_wl1 = skb.seq
        sk.max_window = window
        if sk.ecn_flags & TCP_ECN_OK and (not flags & TCPHDR_ECE or not flags & TCPHDR_CWR):
            sk.ecn_flags &= ~TCP_ECN_OK
        tcp_mtup_init(sk)
        tcp_sync_mss(sk, sk.icsk_pmtu_cookie)
        tcp_rcvq.tcp_initialize_rcv_mss(sk)
        tcp_output.tcp_send_synack(sk)
        consume_skb(skb)
        return 0
    return _synsent_discard(sk, skb, saved_clamp, SKB_DROP_REASON_TCP_FLAGS)


def _synsent_discard(sk: TcpSock, skb: SkBuff, saved_clamp: int, reason: int) -> int:
    """Nothing of the segment's options stays."""
    tcp_clear_options(sk.rx_opt)
    sk.rx_opt.mss_clamp = saved_clamp
    kfree_skb_reason(sk.sk_net, skb, reason)
    return 0


def tcp_defer_accept(sk: TcpSock) -> bool:
    """TCP_DEFER_ACCEPT on a connecting sock."""
    queue = sk.icsk_accept_queue
    return queue is not None and queue.rskq_defer_accept != 0


# -- every other state -----------------------------------------------------------------------------------------------------


def tcp_rcv_state_process(sk: TcpSock, skb: SkBuff) -> int:
    """RFC 9293, 3.10.7.1 to 4, for all states but ESTABLISHED and TIME_WAIT. 0: the skb is gone; else the caller answers with RST
    and drops it for the reason returned."""
    net = sk.sk_net
    flags = skb.tcp_flags
    state = sk.sk_state
    if state == TCP_CLOSE:
        kfree_skb_reason(net, skb, SKB_DROP_REASON_TCP_CLOSE)
        return 0
    if state == TCP_LISTEN:
        if flags & TCPHDR_ACK:
            return SKB_DROP_REASON_TCP_FLAGS
        if flags & TCPHDR_RST:
            kfree_skb_reason(net, skb, SKB_DROP_REASON_TCP_RESET)
            return 0
        if flags & TCPHDR_SYN and not flags & TCPHDR_FIN:
            ops = sk.icsk_af_ops
            assert ops is not None
            ops.conn_request(sk, skb)
            consume_skb(skb)
            return 0
        kfree_skb_reason(net, skb, SKB_DROP_REASON_TCP_FLAGS)
        return 0
    tcp_mstamp_refresh(sk)
    sk.rx_opt.saw_tstamp = False
    if state == TCP_SYN_SENT:
        queued = tcp_rcv_synsent_state_process(sk, skb)
        if queued >= 0:
            return queued
        tcp_rcvq.tcp_urg(sk, skb)
        consume_skb(skb)
        tcp_rcvq.tcp_data_snd_check(sk)
        return 0

    if not flags & (TCPHDR_ACK | TCPHDR_RST | TCPHDR_SYN):
        kfree_skb_reason(net, skb, SKB_DROP_REASON_TCP_FLAGS)
        return 0
    if skb.len < skb.head[skb.transport_header + 12] >> 4 << 2:
        kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        return 0
    # 1 to 4
    if not tcp_validate_incoming(sk, skb, False):
        return 0
    # 5. the ACK
    reason = tcp_ack.tcp_ack(sk, skb, FLAG_SLOWPATH | FLAG_UPDATE_TS_RECENT | FLAG_NO_CHALLENGE_ACK)
    if reason <= 0:
        if sk.sk_state == TCP_SYN_RECV:
            return -reason if reason else SKB_DROP_REASON_TCP_OLD_ACK
        # while closing, old ones are taken
        if reason < 0:
            tcp_send_challenge_ack(sk)
            kfree_skb_reason(net, skb, -reason)
            return 0
    state = sk.sk_state
    fin = flags & TCPHDR_FIN
    if state == TCP_SYN_RECV:
        _synrecv_established(sk, skb)
    elif state == TCP_FIN_WAIT1:
        if sk.snd_una == sk.write_seq:
            # Our FIN is acknowledged.
            tcp.tcp_set_state(sk, TCP_FIN_WAIT2)
            sk.sk_shutdown |= SEND_SHUTDOWN
            sk.sk_dst_pending_confirm = True
            if not sock_flag(sk, SOCK_DEAD):
                sk.sk_state_change()
            else:
                # Nobody waits for what the peer may still send: give it tcp_fin_timeout.
                if tcp_linger2(sk) < 0 or (skb.end_seq != skb.seq and after((skb.end_seq - fin) & 0xFFFFFFFF, sk.rcv_nxt)):
                    tcp.tcp_done(sk)
                    net.net_statistics[LINUX_MIB_TCPABORTONDATA] += 1
                    return SKB_DROP_REASON_TCP_ABORT_ON_DATA
                tmo = tcp_fin_time(sk)
                if tmo > TCP_TIMEWAIT_LEN:
                    tcp_timer.inet_csk_reset_keepalive_timer(sk, tmo - TCP_TIMEWAIT_LEN)
                elif fin or sk.sk_lock_owned:
                    # the FIN comes with this segment
                    tcp_timer.inet_csk_reset_keepalive_timer(sk, tmo)
                else:
                    tcp_minisocks.tcp_time_wait(sk, TCP_FIN_WAIT2, tmo)
                    consume_skb(skb)
                    return 0
    elif state == TCP_CLOSING:
        if sk.snd_una == sk.write_seq:
            tcp_minisocks.tcp_time_wait(sk, TCP_TIME_WAIT, 0)
            consume_skb(skb)
            return 0
    elif state == TCP_LAST_ACK:
        if sk.snd_una == sk.write_seq:
            tcp.tcp_done(sk)
            consume_skb(skb)
            return 0

    # 6. urgent data
    tcp_rcvq.tcp_urg(sk, skb)

    # 7. the text
    state = sk.sk_state
    queued = -1
    if state == TCP_ESTABLISHED:
        queued = 1
    elif state == TCP_FIN_WAIT1 or state == TCP_FIN_WAIT2:
        queued = 1
    elif state == TCP_CLOSE_WAIT or state == TCP_CLOSING or state == TCP_LAST_ACK:
        # after a FIN only old text can come
        if before(skb.seq, sk.rcv_nxt):
            queued = 1
    if queued == 1:
        if state != TCP_ESTABLISHED and sk.sk_shutdown & RCV_SHUTDOWN:
            # RFC 1122, 4.2.2.13: data for a sock that nobody will read has to be answered with RST
            if skb.end_seq != skb.seq and after((skb.end_seq - fin) & 0xFFFFFFFF, sk.rcv_nxt):
                net.net_statistics[LINUX_MIB_TCPABORTONDATA] += 1
                tcp_reset(sk, skb)
                return SKB_DROP_REASON_TCP_ABORT_ON_DATA
        tcp_rcvq.tcp_data_queue(sk, skb)
    # the text may have ended the sock
    if sk.sk_state != TCP_CLOSE:
        tcp_rcvq.tcp_data_snd_check(sk)
        tcp_rcvq.tcp_ack_snd_check(sk)
    if queued != 1:
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    return 0


def _synrecv_established(sk: TcpSock, skb: SkBuff) -> None:
    """SYN_RECV: the handshake is complete, of a passive open or a simultaneous one."""
    sk.delivered += 1  # the SYN-ACK, which tcp_ack does not see
    rx_opt = sk.rx_opt
    if rx_opt.tstamp_ok:
        sk.advmss -= 12
    tcp_try_undo_spurious_syn(sk)
    sk.retrans_stamp = 0
    tcp_init_transfer(sk)
    sk.copied_seq = sk.rcv_nxt
    tcp.tcp_set_state(sk, TCP_ESTABLISHED)
    sk.sk_state_change()
    sk.snd_una = skb.ack_seq
    wscale: int = rx_opt.snd_wscale
    sk.snd_wnd = be.get_u16(skb.head, skb.transport_header + 14) << wscale
    sk.snd_wl1 = skb.seq
    tcp_ack.tcp_update_pacing_rate(sk)
    sk.lsndtime = sk.kernel.now
    tcp_rcvq.tcp_initialize_rcv_mss(sk)
    tcp_fast_path_on(sk)
    if sk.sk_shutdown & SEND_SHUTDOWN:
        tcp.tcp_shutdown(sk, SEND_SHUTDOWN)


# -- a listener ------------------------------------------------------------------------------------------------------------


def tcp_openreq_init(req: TcpRequestSock, rx_opt: TcpOptionsReceived, skb: SkBuff, sk: TcpSock) -> None:
    """What the SYN says of the connection."""
    req.rsk_rcv_wnd = 0
    req.rcv_isn = skb.seq
    req.rcv_nxt = (skb.seq + 1) & 0xFFFFFFFF
    req.snt_synack = 0
    req.snt_tsval_first = 0
    req.last_oow_ack_time = 0
    req.mss = rx_opt.mss_clamp
    req.ts_recent = rx_opt.rcv_tsval if rx_opt.saw_tstamp else 0
    req.tstamp_ok = rx_opt.tstamp_ok
    req.sack_ok = rx_opt.sack_ok != 0
    req.snd_wscale = rx_opt.snd_wscale
    req.wscale_ok = rx_opt.wscale_ok
    req.acked = False
    req.ecn_ok = False
    ports = be.get_u32(skb.head, skb.transport_header)
    req.inet_dport = ports >> 16
    req.inet_num = ports & 0xFFFF
    req.ir_mark = sk.sk_mark
    if not sk.sk_mark and sk.sk_net.ipv4.sysctl_tcp_fwmark_accept:
        req.ir_mark = skb.mark


def tcp_ecn_create_request(req: TcpRequestSock, skb: SkBuff, sk: TcpSock, dst: DstEntry) -> None:
    """The SYN asks for ECN and does not itself carry a mark, which would be a middlebox's doing."""
    flags = skb.tcp_flags
    if not (flags & TCPHDR_ECE and flags & TCPHDR_CWR):
        return
    marked = skb.head[skb.network_header + 1] & 3 != 0
    features = 0 if dst.metrics is None else dst.metrics[RTAX_FEATURES - 1]
    wanted = sk.sk_net.ipv4.sysctl_tcp_ecn != 0 or features & (RTAX_FEATURE_ECN | DST_FEATURE_ECN_CA) != 0
    if (not marked and wanted) or features & DST_FEATURE_ECN_CA or tcp_ca_needs_ecn(sk):
        req.ecn_ok = True


def tcp_reqsk_record_syn(sk: TcpSock, req: TcpRequestSock, skb: SkBuff) -> None:
    """TCP_SAVE_SYN: keep the headers of the SYN."""
    cold = sk.tcp_cold
    if cold is not None and cold.save_syn:
        head = skb.head
        th = skb.transport_header
        start = skb.mac_header if cold.save_syn == 2 else skb.network_header
        req.saved_syn = head[start : th + (head[th + 12] >> 4 << 2)]


def tcp_conn_request(rsk_ops: TcpRequestSockOps, af_ops: TcpRequestSockAfOps, sk: TcpSock, skb: SkBuff) -> int:
    """A SYN for listener `sk`: make a request and send the SYN-ACK. Always 0; the skb stays the caller's."""
    net = sk.sk_net
    prot = tcp_ipv4.tcp_prot_of(sk)
    isn = prot.tcp_tw_isn
    prot.tcp_tw_isn = 0
    if inet_connection_sock.inet_csk_reqsk_queue_is_full(sk):
        # Without cookies, the SYN is lost; the peer will send another.
        net.net_statistics[LINUX_MIB_TCPREQQFULLDROP] += 1
        tcp_ipv4.tcp_listendrop(sk)
        return 0
    if inet_connection_sock.sk_acceptq_is_full(sk):
        net.net_statistics[LINUX_MIB_LISTENOVERFLOWS] += 1
        tcp_ipv4.tcp_listendrop(sk)
        return 0
    req = inet_connection_sock.inet_reqsk_alloc(sk, True)
    if req is None:
        tcp_ipv4.tcp_listendrop(sk)
        return 0
    tmp_opt = TcpOptionsReceived()
    tmp_opt.mss_clamp = af_ops.mss_clamp
    tmp_opt.user_mss = sk.rx_opt.user_mss
    tcp_parse_options(net, skb, tmp_opt, False)
    tmp_opt.tstamp_ok = tmp_opt.saw_tstamp
    tcp_openreq_init(req, tmp_opt, skb, sk)
    req.no_srccheck = inet_test_bit(sk, INET_FLAGS_TRANSPARENT)
    req.ir_iif = sk.sk_bound_dev_if
    req.sk_bound_dev_if = sk.sk_bound_dev_if
    fl4 = Flowi4()
    dst = af_ops.route_req(sk, skb, fl4, req)
    if dst is None:
        inet_connection_sock.reqsk_put(req)
        tcp_ipv4.tcp_listendrop(sk)
        return 0
    if tmp_opt.tstamp_ok:
        req.ts_off = af_ops.init_ts_off(net, skb)
    if not isn:
        max_syn_backlog = net.ipv4.sysctl_max_syn_backlog
        if not net.ipv4.sysctl_tcp_syncookies and max_syn_backlog - inet_connection_sock.inet_csk_reqsk_queue_len(sk) < (
            max_syn_backlog >> 2
        ):
            # The last quarter is for peers that have proved to be alive, of which nothing is remembered here.
            inet_connection_sock.reqsk_put(req)
            tcp_ipv4.tcp_listendrop(sk)
            return 0
        isn = af_ops.init_seq(net, skb)
    tcp_ecn_create_request(req, skb, sk, dst)
    req.snt_isn = isn
    req.txhash = sk.kernel.random("txhash").get_random_u32() or 1
    req.syn_tos = skb.head[skb.network_header + 1]
    tcp_minisocks.tcp_openreq_init_rwin(req, sk, dst)
    tcp_reqsk_record_syn(sk, req, skb)
    req.timeout = min(TCP_TIMEOUT_INIT, net.ipv4.sysctl_tcp_rto_max_ms * 1_000_000)
    if not inet_connection_sock.inet_csk_reqsk_queue_hash_add(sk, req):
        inet_connection_sock.reqsk_put(req)
        return 0
    af_ops.send_synack(sk, dst, req, 0)
    inet_connection_sock.reqsk_put(req)
    return 0
