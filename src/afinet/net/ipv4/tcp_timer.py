"""net/ipv4/tcp_timer.c, and the inlines of inet_connection_sock.h that arm timers.

A connection has three timers, each made when first armed: the retransmit timer, which serves four events (`icsk_pending`:
retransmission, zero window probe, tail loss probe, RACK's reordering timeout); the delayed ACK timer; and the keepalive timer,
which also ends an orphan's FIN_WAIT2. A fourth, exact one holds compressed ACKs back (tcp_rcvq.py). An armed timer holds its
sock.

Call order: tcp_write_timer -> tcp_write_timer_handler -> tcp_retransmit_timer | tcp_probe_timer | tcp_send_loss_probe |
tcp_rack_reo_timeout; tcp_delack_timer; tcp_keepalive_timer.

As in Linux, clearing an event mostly only forgets it, and the timer fires for nothing: that is cheaper than to cancel and to arm it
again at every segment. Closing cancels (tcp_clear_xmit_timers).

Left out: RTO by BPF; path blackhole detection of fast open.
"""

from __future__ import annotations

from typing import Final

from afinet.kernel.time import NSEC_PER_MSEC
from afinet.kernel.timer import TimerList
from afinet.net.core.request_sock import RequestSock
from afinet.net.core.sock import (
    SK_PACING_NONE,
    SOCK_DEAD,
    SOCK_KEEPOPEN,
    Sock,
    sk_reset_timer,
    sk_stop_timer,
    sock_flag,
    sock_hold,
    sock_put,
)
from afinet.net.ipv4 import (
    tcp,
    tcp_ack,
    tcp_ipv4,
    tcp_minisocks,
    tcp_mtup,
    tcp_output,
    tcp_pacing,
    tcp_rcvq,
    tcp_recovery,
    tcp_retransmit,
)
from afinet.net.ipv4.inet_sock import (
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    InetConnectionSock,
)
from afinet.net.ipv4.tcp_inline import (
    TCP_ATO_MIN,
    TCP_RESOURCE_PROBE_INTERVAL,
    TCP_RTO_MIN,
    TCP_TIMEOUT_INIT,
    TCP_TIMEWAIT_LEN,
    TCPF_DELACK_TIMER_DEFERRED,
    TCPF_WRITE_TIMER_DEFERRED,
    inet_csk_exit_pingpong_mode,
    inet_csk_in_pingpong_mode,
    inet_csk_rto_backoff,
    keepalive_intvl_when,
    keepalive_probes,
    keepalive_time_elapsed,
    keepalive_time_when,
    tcp_fin_time,
    tcp_in_initial_slowstart,
    tcp_is_sack,
    tcp_linger2,
    tcp_mstamp_refresh,
    tcp_rto_max,
    tcp_rto_min,
    tcp_rtx_queue_head,
    tcp_send_head,
    tcp_skb_timestamp_ts,
    tcp_time_stamp_ms,
    tcp_time_stamp_ts,
    tcp_user_timeout,
    tcp_write_queue_empty,
)
from afinet.net.ipv4.tcp_sock import TcpSock, tcp_cold, tcp_loss_state
from afinet.uapi.errno import ETIMEDOUT
from afinet.uapi.snmp import (
    LINUX_MIB_DELAYEDACKLOCKED,
    LINUX_MIB_DELAYEDACKS,
    LINUX_MIB_TCPABORTONMEMORY,
    LINUX_MIB_TCPABORTONTIMEOUT,
    LINUX_MIB_TCPKEEPALIVE,
    LINUX_MIB_TCPLOSSFAILURES,
    LINUX_MIB_TCPRENOFAILURES,
    LINUX_MIB_TCPRENORECOVERYFAIL,
    LINUX_MIB_TCPSACKFAILURES,
    LINUX_MIB_TCPSACKRECOVERYFAIL,
    LINUX_MIB_TCPTIMEOUTREHASH,
    LINUX_MIB_TCPTIMEOUTS,
)
from afinet.uapi.tcp import (
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT2,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_CA_Disorder,
    TCP_CA_Loss,
    TCP_CA_Recovery,
)

TCP_THIN_LINEAR_RETRIES: Final = 6  # after so many linear timeouts a thin stream backs off too


class TcpWriteTimer(TimerList):
    """sk->tcp_retransmit_timer."""

    __slots__ = ("sk",)

    def __init__(self, sk: TcpSock) -> None:
        super().__init__()
        self.sk: TcpSock = sk

    def function(self) -> None:
        tcp_write_timer(self.sk)


class TcpDelackTimer(TimerList):
    """icsk_delack_timer."""

    __slots__ = ("sk",)

    def __init__(self, sk: TcpSock) -> None:
        super().__init__()
        self.sk: TcpSock = sk

    def function(self) -> None:
        tcp_delack_timer(self.sk)


class TcpKeepaliveTimer(TimerList):
    """icsk_keepalive_timer."""

    __slots__ = ("sk",)

    def __init__(self, sk: TcpSock) -> None:
        super().__init__()
        self.sk: TcpSock = sk

    def function(self) -> None:
        tcp_keepalive_timer(self.sk)


def tcp_init_xmit_timers(sk: TcpSock) -> None:
    """A new sock has none yet."""
    sk.icsk_retransmit_timer = None
    sk.icsk_delack_timer = None
    sk.sk_keepalive_timer = None
    sk.compressed_ack_timer = None
    sk.icsk_pending = 0
    sk.icsk_ack_pending = 0


def tcp_clear_xmit_timers(sk: TcpSock) -> None:
    """Cancel all; the sock is going away."""
    sk_stop_timer(sk, sk.compressed_ack_timer)
    if sk.tcp_cold is not None:
        sk_stop_timer(sk, sk.tcp_cold.pacing_timer)
    inet_csk_clear_xmit_timers(sk)


def inet_csk_clear_xmit_timers(sk: TcpSock) -> None:
    sk.icsk_pending = 0
    sk.icsk_ack_pending = 0
    sk_stop_timer(sk, sk.icsk_retransmit_timer)
    sk_stop_timer(sk, sk.icsk_delack_timer)
    sk_stop_timer(sk, sk.sk_keepalive_timer)


def inet_csk_reset_xmit_timer(sk: TcpSock, what: int, when: int) -> None:
    """Arm the retransmit timer for event `what`, `when` ns from now."""
    if when > sk.icsk_rto_max:
        when = sk.icsk_rto_max
    kernel = sk.kernel
    when += kernel.now
    sk.icsk_pending = what
    sk.icsk_timeout = when
    timer = sk.icsk_retransmit_timer
    if timer is None:
        timer = TcpWriteTimer(sk)
        sk.icsk_retransmit_timer = timer
    if not kernel.mod_timer(timer, when):
        sk.sk_refcnt += 1


def tcp_reset_xmit_timer(sk: TcpSock, what: int, when: int) -> None:
    """The same for what was just sent: its time begins when pacing lets it leave."""
    if sk.sk_pacing_status != SK_PACING_NONE:
        when += tcp_pacing.tcp_pacing_delay(sk)
    inet_csk_reset_xmit_timer(sk, what, when)


def inet_csk_clear_retrans(sk: TcpSock) -> None:
    """inet_csk_clear_xmit_timer(ICSK_TIME_RETRANS or ICSK_TIME_PROBE0)."""
    sk.icsk_pending = 0
    sk_stop_timer(sk, sk.icsk_retransmit_timer)


def inet_csk_clear_dack(sk: TcpSock) -> None:
    """inet_csk_clear_xmit_timer(ICSK_TIME_DACK). The timer runs on and will find nothing to do."""
    sk.icsk_ack_pending = 0


def inet_csk_reset_dack(sk: TcpSock, expires: int) -> None:
    """Arm the delayed ACK timer for `expires` (ns, absolute)."""
    sk.icsk_ack_pending |= ICSK_ACK_SCHED | ICSK_ACK_TIMER
    sk.icsk_ack_timeout = expires
    kernel = sk.kernel
    timer = sk.icsk_delack_timer
    if timer is None:
        timer = TcpDelackTimer(sk)
        sk.icsk_delack_timer = timer
    if not kernel.mod_timer(timer, expires):
        sk.sk_refcnt += 1


def inet_csk_reset_keepalive_timer(sk: TcpSock, length: int) -> None:
    """`length` ns from now."""
    timer = sk.sk_keepalive_timer
    if timer is None:
        timer = TcpKeepaliveTimer(sk)
        sk.sk_keepalive_timer = timer
    sk_reset_timer(sk, timer, sk.kernel.now + length)


def inet_csk_delete_keepalive_timer(sk: InetConnectionSock) -> None:
    sk_stop_timer(sk, sk.sk_keepalive_timer)


# -- the end of patience ---------------------------------------------------------------------------------------------------


def tcp_timeout_init(sk: TcpSock) -> int:
    """The RTO before anything was measured (ns)."""
    return min(TCP_TIMEOUT_INIT, tcp_rto_max(sk))


def tcp_write_err(sk: TcpSock) -> None:
    """Nothing came back for too long."""
    tcp.tcp_done_with_error(sk, sk.sk_err_soft or ETIMEDOUT)
    sk.sk_net.net_statistics[LINUX_MIB_TCPABORTONTIMEOUT] += 1


def tcp_out_of_resources(sk: TcpSock, do_reset: bool) -> bool:
    """There are too many orphans, or too little memory, to keep this orphan. If so it is gone when this returns."""
    shift = 0
    now = sk.kernel.now
    # orphans that sent nothing for long, or that only see errors, weigh double
    if now - sk.lsndtime > 2 * tcp_rto_max(sk) or not do_reset:
        shift += 1
    if sk.sk_err_soft:
        shift += 1
    if not tcp.tcp_check_oom(sk, shift):
        return False
    if now - sk.lsndtime <= TCP_TIMEWAIT_LEN or (not sk.snd_wnd and not sk.packets_out):
        do_reset = True
    if do_reset:
        tcp_output.tcp_send_active_reset(sk)
    tcp.tcp_done(sk)
    sk.sk_net.net_statistics[LINUX_MIB_TCPABORTONMEMORY] += 1
    return True


def tcp_orphan_retries(sk: TcpSock, alive: bool) -> int:
    """How often an orphan retransmits (RFC 1122's R2, for connections that nobody waits for)."""
    retries = sk.sk_net.ipv4.sysctl_tcp_orphan_retries
    if sk.sk_err_soft and not alive:
        retries = 0
    if retries == 0 and alive:
        retries = 8
    return retries


def tcp_model_timeout(sk: TcpSock, boundary: int, rto_base: int) -> int:
    """How long `boundary` timeouts take that start at `rto_base` and double up to the maximum (ns)."""
    rto_max = tcp_rto_max(sk)
    threshold = max((rto_max // rto_base).bit_length() - 1, 0)
    if boundary <= threshold:
        return ((2 << boundary) - 1) * rto_base
    return ((2 << threshold) - 1) * rto_base + (boundary - threshold) * rto_max


def retransmits_timed_out(sk: TcpSock, boundary: int, timeout: int) -> bool:
    """Whether retransmission has gone on for `timeout` ns, or for 0 as long as `boundary` timeouts of a quick path would take."""
    if not sk.icsk_retransmits:
        return False
    if timeout == 0:
        rto_base = TCP_RTO_MIN
        if sk.sk_state == TCP_SYN_SENT or sk.sk_state == TCP_SYN_RECV:
            rto_base = tcp_timeout_init(sk)
        timeout = tcp_model_timeout(sk, boundary, rto_base)
    elapsed = (tcp_time_stamp_ts(sk) - sk.retrans_stamp) & 0xFFFFFFFF
    if elapsed > 0x7FFFFFFF:
        return False
    return elapsed >= timeout // NSEC_PER_MSEC


def tcp_write_timeout(sk: TcpSock) -> bool:
    """R1 and R2 of RFC 1122, 4.2.3.5. True: the connection is given up, and gone."""
    net = sk.sk_net.ipv4
    expired = False
    if sk.sk_state == TCP_SYN_SENT or sk.sk_state == TCP_SYN_RECV:
        if sk.icsk_retransmits:
            dst_negative_advice(sk)
        retry_until = sk.icsk_syn_retries or net.sysctl_tcp_syn_retries
        max_retransmits = retry_until
        if sk.sk_state == TCP_SYN_SENT:
            max_retransmits += net.sysctl_tcp_syn_linear_timeouts
        expired = sk.icsk_retransmits >= max_retransmits
    else:
        if retransmits_timed_out(sk, net.sysctl_tcp_retries1, 0):
            tcp_mtup.tcp_mtu_probing(sk)
            dst_negative_advice(sk)
        retry_until = net.sysctl_tcp_retries2
        if sock_flag(sk, SOCK_DEAD):
            alive = sk.icsk_rto < tcp_rto_max(sk)
            retry_until = tcp_orphan_retries(sk, alive)
            do_reset = alive or not retransmits_timed_out(sk, retry_until, 0)
            if tcp_out_of_resources(sk, do_reset):
                return True
    if not expired:
        expired = retransmits_timed_out(sk, retry_until, tcp_user_timeout(sk))
    if expired:
        tcp_write_err(sk)
        return True
    if tcp_ipv4.sk_rethink_txhash(sk):
        tcp_loss_state(sk).timeout_rehash += 1
        sk.sk_net.net_statistics[LINUX_MIB_TCPTIMEOUTREHASH] += 1
    return False


def dst_negative_advice(sk: TcpSock) -> None:
    """The route may have gone bad: look it up again with the next segment (ipv4_negative_advice)."""
    dst = sk.sk_dst_cache
    if dst is not None and (dst.obsolete or dst.expires):
        sk.sk_dst_cache = None


def tcp_clamp_rto_to_user_timeout(sk: TcpSock) -> int:
    """The RTO, shortened so that TCP_USER_TIMEOUT is met when it is over."""
    user_timeout = tcp_user_timeout(sk)
    if user_timeout == 0:
        return sk.icsk_rto
    elapsed = (tcp_time_stamp_ts(sk) - sk.retrans_stamp) & 0xFFFFFFFF
    remaining = user_timeout - elapsed * NSEC_PER_MSEC
    if remaining <= 0:
        return 1
    return min(sk.icsk_rto, remaining)


def tcp_clamp_probe0_to_user_timeout(sk: TcpSock, when: int) -> int:
    user_timeout = tcp_user_timeout(sk)
    probes_tstamp = 0 if sk.tcp_cold is None else sk.tcp_cold.icsk_probes_tstamp
    if user_timeout == 0 or probes_tstamp == 0:
        return when
    elapsed = max(sk.kernel.now - probes_tstamp, 0)
    remaining = user_timeout - elapsed
    if remaining <= 0:
        remaining = sk.kernel.tick_nsec
    return min(remaining, when)


# -- retransmission --------------------------------------------------------------------------------------------------------


def tcp_write_timer(sk: TcpSock) -> None:
    """The retransmit timer went off."""
    if sk.icsk_pending:
        if sk.sk_lock_owned:
            if not sk.tsq_flags & TCPF_WRITE_TIMER_DEFERRED:
                sk.tsq_flags |= TCPF_WRITE_TIMER_DEFERRED
                sock_hold(sk)
        else:
            tcp_write_timer_handler(sk)
    sock_put(sk)


def tcp_write_timer_handler(sk: TcpSock) -> None:
    if sk.sk_state == TCP_CLOSE or sk.sk_state == TCP_LISTEN or not sk.icsk_pending:
        return
    if sk.icsk_timeout > sk.kernel.now:
        timer = sk.icsk_retransmit_timer
        if timer is not None:
            sk_reset_timer(sk, timer, sk.icsk_timeout)
        return
    tcp_mstamp_refresh(sk)
    event = sk.icsk_pending
    if event == ICSK_TIME_REO_TIMEOUT:
        tcp_recovery.tcp_rack_reo_timeout(sk)
    elif event == ICSK_TIME_LOSS_PROBE:
        tcp_retransmit.tcp_send_loss_probe(sk)
    elif event == ICSK_TIME_RETRANS:
        sk.icsk_pending = 0
        tcp_retransmit_timer(sk)
    elif event == ICSK_TIME_PROBE0:
        sk.icsk_pending = 0
        tcp_probe_timer(sk)


def tcp_update_rto_stats(sk: TcpSock) -> None:
    stats = tcp_loss_state(sk)
    if not sk.icsk_retransmits:
        stats.total_rto_recoveries += 1
        stats.rto_stamp = tcp_time_stamp_ms(sk)
    sk.icsk_retransmits += 1
    stats.total_rto += 1


def tcp_rtx_probe0_timed_out(sk: TcpSock, rtx_delta: int) -> bool:
    """The window was closed on data that is in flight, for longer (ms) than a dead peer is waited for."""
    timeout = tcp_rto_max(sk) * 2
    rcv_delta = sk.kernel.now - sk.rcv_tstamp
    user_timeout = tcp_user_timeout(sk)
    if user_timeout:
        # without user timeout the peer is alive as long as it acknowledges
        if rtx_delta * NSEC_PER_MSEC > user_timeout and rcv_delta > user_timeout:
            return True
    return rcv_delta > timeout and rtx_delta * NSEC_PER_MSEC > timeout


def tcp_stream_is_thin(tp: TcpSock) -> bool:
    return tp.packets_out < 4 and not tcp_in_initial_slowstart(tp)


def tcp_retransmit_timer(sk: TcpSock) -> None:
    """The RTO has passed without an ACK of the oldest segment (RFC 6298, 5.4 to 5.7)."""
    if not sk.packets_out:
        return
    skb = tcp_rtx_queue_head(sk)
    if skb is None:
        return
    net = sk.sk_net
    state = sk.sk_state
    if not sk.snd_wnd and not sock_flag(sk, SOCK_DEAD) and state != TCP_SYN_SENT and state != TCP_SYN_RECV:
        # The receiver shrank its window to zero with data in flight: go on as with a closed window, as long as it answers.
        rtx_delta = (tcp_time_stamp_ts(sk) - (sk.retrans_stamp or tcp_skb_timestamp_ts(skb))) & 0xFFFFFFFF
        if tcp_rtx_probe0_timed_out(sk, rtx_delta):
            tcp_write_err(sk)
            return
        tcp_ack.tcp_enter_loss(sk)
        tcp_retransmit.tcp_retransmit_skb(sk, skb, 1)
        sk.sk_dst_cache = None
    else:
        stats = net.net_statistics
        stats[LINUX_MIB_TCPTIMEOUTS] += 1
        if tcp_write_timeout(sk):
            return
        if sk.icsk_retransmits == 0:
            mib = 0
            if sk.icsk_ca_state == TCP_CA_Recovery:
                mib = LINUX_MIB_TCPSACKRECOVERYFAIL if tcp_is_sack(sk) else LINUX_MIB_TCPRENORECOVERYFAIL
            elif sk.icsk_ca_state == TCP_CA_Loss:
                mib = LINUX_MIB_TCPLOSSFAILURES
            elif sk.icsk_ca_state == TCP_CA_Disorder or sk.sacked_out:
                mib = LINUX_MIB_TCPSACKFAILURES if tcp_is_sack(sk) else LINUX_MIB_TCPRENOFAILURES
            if mib:
                stats[mib] += 1
        tcp_ack.tcp_enter_loss(sk)
        tcp_update_rto_stats(sk)
        head = tcp_rtx_queue_head(sk)
        if head is not None and tcp_retransmit.tcp_retransmit_skb(sk, head, 1) > 0:
            # The device would not take it: that is no reason to back off.
            inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, TCP_RESOURCE_PROBE_INTERVAL)
            return
    # Double the RTO, but for the first SYNs and for thin streams.
    if (
        sk.sk_state == TCP_ESTABLISHED
        and ((sk.tcp_cold is not None and sk.tcp_cold.thin_lto) or net.ipv4.sysctl_tcp_thin_linear_timeouts)
        and tcp_stream_is_thin(sk)
        and sk.icsk_retransmits <= TCP_THIN_LINEAR_RETRIES
    ):
        sk.icsk_backoff = 0
        rto = ((sk.srtt_us >> 3) + sk.rttvar_us) * 1000
        sk.icsk_rto = max(min(rto, tcp_rto_max(sk)), tcp_rto_min(sk))
    elif sk.sk_state != TCP_SYN_SENT or tcp_loss_state(sk).total_rto > net.ipv4.sysctl_tcp_syn_linear_timeouts:
        sk.icsk_backoff += 1
        sk.icsk_rto = min(sk.icsk_rto << 1, tcp_rto_max(sk))
    inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, tcp_clamp_rto_to_user_timeout(sk))
    if retransmits_timed_out(sk, net.ipv4.sysctl_tcp_retries1 + 1, 0):
        sk.sk_dst_cache = None


def tcp_probe_timer(sk: TcpSock) -> None:
    """The window is closed and nothing is in flight: ask whether it is still (RFC 9293, 3.8.6.1)."""
    skb = tcp_send_head(sk)
    if sk.packets_out or skb is None:
        sk.icsk_probes_out = 0
        if sk.tcp_cold is not None:
            sk.tcp_cold.icsk_probes_tstamp = 0
        return
    # RFC 1122, 4.2.2.17: the connection stays open as long as the peer answers, unless the user said otherwise.
    user_timeout = tcp_user_timeout(sk)
    now = sk.kernel.now
    cold = tcp_cold(sk)
    if not cold.icsk_probes_tstamp:
        cold.icsk_probes_tstamp = now
    elif user_timeout and now - cold.icsk_probes_tstamp >= user_timeout:
        tcp_write_err(sk)
        return
    max_probes = sk.sk_net.ipv4.sysctl_tcp_retries2
    if sock_flag(sk, SOCK_DEAD):
        rto_max = tcp_rto_max(sk)
        alive = inet_csk_rto_backoff(sk, rto_max) < rto_max
        max_probes = tcp_orphan_retries(sk, alive)
        if not alive and sk.icsk_backoff >= max_probes:
            tcp_write_err(sk)
            return
        if tcp_out_of_resources(sk, True):
            return
    if sk.icsk_probes_out >= max_probes:
        tcp_write_err(sk)
    else:
        tcp_retransmit.tcp_send_probe0(sk)


def tcp_syn_ack_timeout(req: RequestSock) -> None:
    """A SYN-ACK was not answered in time."""
    req.sk_net.net_statistics[LINUX_MIB_TCPTIMEOUTS] += 1


# -- delayed ACK -----------------------------------------------------------------------------------------------------------


def tcp_delack_timer(sk: TcpSock) -> None:
    """The delayed ACK timer went off."""
    if sk.icsk_ack_pending & ICSK_ACK_TIMER or sk.compressed_ack:
        if sk.sk_lock_owned:
            sk.sk_net.net_statistics[LINUX_MIB_DELAYEDACKLOCKED] += 1
            if not sk.tsq_flags & TCPF_DELACK_TIMER_DEFERRED:
                sk.tsq_flags |= TCPF_DELACK_TIMER_DEFERRED
                sock_hold(sk)
        else:
            tcp_delack_timer_handler(sk)
    sock_put(sk)


def tcp_delack_timer_handler(sk: TcpSock) -> None:
    if sk.sk_state == TCP_CLOSE or sk.sk_state == TCP_LISTEN:
        return
    if sk.compressed_ack:
        tcp_mstamp_refresh(sk)
        tcp_rcvq.tcp_sack_compress_send_ack(sk)
        return
    if not sk.icsk_ack_pending & ICSK_ACK_TIMER:
        return
    if sk.icsk_ack_timeout > sk.kernel.now:
        timer = sk.icsk_delack_timer
        if timer is not None:
            sk_reset_timer(sk, timer, sk.icsk_ack_timeout)
        return
    sk.icsk_ack_pending &= ~ICSK_ACK_TIMER
    if sk.icsk_ack_pending & ICSK_ACK_SCHED:
        if not inet_csk_in_pingpong_mode(sk):
            # The guess was wrong: the next segment takes longer to come.
            sk.icsk_ack_ato = min(sk.icsk_ack_ato << 1, sk.icsk_rto)
        else:
            # No reply came for the ACK to ride on: this is no dialogue.
            inet_csk_exit_pingpong_mode(sk)
            sk.icsk_ack_ato = TCP_ATO_MIN
        tcp_mstamp_refresh(sk)
        tcp_output.tcp_send_ack(sk)
        sk.sk_net.net_statistics[LINUX_MIB_DELAYEDACKS] += 1


# -- keepalive -------------------------------------------------------------------------------------------------------------


def tcp_set_keepalive(sk: Sock, val: bool) -> None:
    """SO_KEEPALIVE: proto.keepalive."""
    assert isinstance(sk, TcpSock)
    if sk.sk_state == TCP_CLOSE or sk.sk_state == TCP_LISTEN:
        return
    if val and not sock_flag(sk, SOCK_KEEPOPEN):
        inet_csk_reset_keepalive_timer(sk, keepalive_time_when(sk))
    elif not val:
        inet_csk_delete_keepalive_timer(sk)


def tcp_keepalive_timer(sk: TcpSock) -> None:
    """The keepalive timer went off: probe an idle peer, or end an orphan's FIN_WAIT2."""
    _tcp_keepalive(sk)
    sock_put(sk)


def _tcp_keepalive(sk: TcpSock) -> None:
    if sk.sk_lock_owned:
        inet_csk_reset_keepalive_timer(sk, 50 * NSEC_PER_MSEC)
        return
    if sk.sk_state == TCP_LISTEN:
        return
    tcp_mstamp_refresh(sk)
    if sk.sk_state == TCP_FIN_WAIT2 and sock_flag(sk, SOCK_DEAD):
        if tcp_linger2(sk) >= 0:
            tmo = tcp_fin_time(sk) - TCP_TIMEWAIT_LEN
            if tmo > 0:
                tcp_minisocks.tcp_time_wait(sk, TCP_FIN_WAIT2, tmo)
                return
        tcp_output.tcp_send_active_reset(sk)
        tcp.tcp_done(sk)
        return
    if not sock_flag(sk, SOCK_KEEPOPEN) or sk.sk_state == TCP_CLOSE or sk.sk_state == TCP_SYN_SENT:
        return
    # With data in flight or waiting, the retransmit timer finds a dead peer.
    if sk.packets_out or not tcp_write_queue_empty(sk):
        inet_csk_reset_keepalive_timer(sk, keepalive_time_when(sk))
        return
    elapsed = keepalive_time_elapsed(sk)
    when = keepalive_time_when(sk)
    if elapsed >= when:
        user_timeout = tcp_user_timeout(sk)
        # TCP_USER_TIMEOUT overrides the number of probes.
        if (user_timeout and elapsed >= user_timeout and sk.icsk_probes_out > 0) or (
            not user_timeout and sk.icsk_probes_out >= keepalive_probes(sk)
        ):
            tcp_output.tcp_send_active_reset(sk)
            tcp_write_err(sk)
            return
        if tcp_retransmit.tcp_write_wakeup(sk, LINUX_MIB_TCPKEEPALIVE) <= 0:
            sk.icsk_probes_out += 1
            elapsed = keepalive_intvl_when(sk)
        else:
            elapsed = TCP_RESOURCE_PROBE_INTERVAL
    else:
        elapsed = when - elapsed
    inet_csk_reset_keepalive_timer(sk, elapsed)
