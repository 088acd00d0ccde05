"""net/ipv4/tcp_output.c, its part that paces: a sock whose rate is limited (SO_MAX_PACING_RATE, or an algorithm that asks for it by
`sk_pacing_status`) sends no segment before its time, which is when the one before it has been sent at `sk_pacing_rate`.

Call order: tcp_write_xmit and tcp_xmit_retransmit_queue ask tcp_pacing_check, which arms the timer when it is too early;
tcp_transmit_skb tells tcp_update_skb_after_send; the timer's tcp_pace_kick sends on. Times are exact (an hrtimer in Linux).

Left out: pacing by the fq qdisc (SK_PACING_FQ), which is not there.
"""

from __future__ import annotations

from typing import Final

from afinet.kernel.time import NSEC_PER_SEC
from afinet.kernel.timer import TimerList
from afinet.net.core.sock import SK_PACING_NONE, sock_hold, sock_put
from afinet.net.ipv4 import tcp_output
from afinet.net.ipv4.tcp_sock import TcpSock, tcp_cold

_UNPACED_SEGS: Final = 10  # the first segments of a connection go at once, as fq has always let them


class TcpPacingTimer(TimerList):
    """tp->pacing_timer and tp->tcp_wstamp_ns. Made when a paced sock first sends."""

    __slots__ = ("sk", "tcp_wstamp_ns")

    def __init__(self, sk: TcpSock) -> None:
        super().__init__()
        self.sk: TcpSock = sk
        self.tcp_wstamp_ns: int = 0  # when the next segment may leave

    def function(self) -> None:
        tcp_pace_kick(self.sk)


def tcp_pace_kick(sk: TcpSock) -> None:
    tcp_output.tcp_tsq_handler(sk)
    sock_put(sk)


def tcp_pacing_delay(sk: TcpSock) -> int:
    """ns until the next segment may leave; timers for what was sent are put off by it."""
    cold = sk.tcp_cold
    if sk.sk_pacing_status == SK_PACING_NONE or cold is None or cold.pacing_timer is None:
        return 0
    delay = cold.pacing_timer.tcp_wstamp_ns - sk.kernel.now
    return delay if delay > 0 else 0


def tcp_pacing_check(sk: TcpSock) -> bool:
    """Too early for the next segment; the timer will send it. (Asked of socks with a pacing status only.)"""
    cold = sk.tcp_cold
    if cold is None or cold.pacing_timer is None:
        return False
    timer = cold.pacing_timer
    if timer.tcp_wstamp_ns <= sk.kernel.now:
        return False
    if not timer.timer_pending():
        sk.kernel.hrtimer_start(timer, timer.tcp_wstamp_ns)
        sock_hold(sk)
    return True


def tcp_update_skb_after_send(sk: TcpSock, size: int) -> None:
    """`size` bytes of payload have left."""
    cold = tcp_cold(sk)
    timer = cold.pacing_timer
    if timer is None:
        timer = TcpPacingTimer(sk)
        cold.pacing_timer = timer
    now = sk.kernel.now
    prior = timer.tcp_wstamp_ns
    when = now if now > prior else prior
    rate = sk.sk_pacing_rate
    if rate > 0 and sk.data_segs_out >= _UNPACED_SEGS:
        length = size * NSEC_PER_SEC // rate
        # A timer that came late is made up for, by half of the gap at most.
        length -= min(length // 2, when - prior)
        when += length
    timer.tcp_wstamp_ns = when
