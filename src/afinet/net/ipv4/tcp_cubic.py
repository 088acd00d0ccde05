"""net/ipv4/tcp_cubic.c: CUBIC (RFC 9438) with HyStart (Ha and Rhee, 2011), the default congestion control.

After a loss at a window of Wmax packets the window is a cubic function of the time since then, flat around Wmax, which it passes K
seconds after the loss: W(t) = C (t - K)^3 + Wmax. So it depends on time and not on the RTT. Where Reno would be faster, it grows as
Reno does. HyStart ends slow start before it overshoots: when the ACKs of one round come in a train as long as the least RTT, or
when the delay of a round has risen.

Call order: `pkts_acked` (each ACK: least delay, HyStart) -> `cong_avoid` -> bictcp_update -> tcp_cong_avoid_ai; `ssthresh` at a
loss begins an epoch anew; TX_START moves the epoch by the time that the connection was idle.

All is integers, in Linux's units: time in jiffies of the kernel's hz and, inside the function, in 2**-10 s (BICTCP_HZ); delays in
us. What Linux has as module parameters are attributes of the object. K is exact; Linux takes one Newton step from a table, which is
off by up to 0.15 %. """

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.kernel.time import NSEC_PER_USEC
from afinet.net.core.sock import SK_PACING_NONE
from afinet.net.ipv4.tcp_cong import (
    TcpCongestionOps,
    tcp_cong_avoid_ai,
    tcp_register_congestion_control,
    tcp_slow_start,
)
from afinet.net.ipv4.tcp_inline import CA_EVENT_TX_START, tcp_is_cwnd_limited
from afinet.net.ipv4.tcp_sock import TcpSock, after
from afinet.uapi.snmp import (
    LINUX_MIB_TCPHYSTARTDELAYCWND,
    LINUX_MIB_TCPHYSTARTDELAYDETECT,
    LINUX_MIB_TCPHYSTARTTRAINCWND,
    LINUX_MIB_TCPHYSTARTTRAINDETECT,
)
from afinet.uapi.tcp import TCP_SYN_SENT, TCP_CA_Loss

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel

BICTCP_BETA_SCALE: Final = 1024
BICTCP_HZ: Final = 10  # log2 of the units of t and K in a second

HYSTART_ACK_TRAIN: Final = 1
HYSTART_DELAY: Final = 2
HYSTART_MIN_SAMPLES: Final = 8  # delays of a round that are not looked at
HYSTART_DELAY_MIN: Final = 4000  # us
HYSTART_DELAY_MAX: Final = 16000


def cubic_root(a: int) -> int:
    """The cube root, rounded down: Newton's method from above."""
    if a <= 0:
        return 0
    x = 1 << (a.bit_length() + 2) // 3
    while True:
        y = (2 * x + a // (x * x)) // 3
        if y >= x:
            return x
        x = y


class Bictcp:
    """struct bictcp: what CUBIC keeps of a connection. Made when the first data is acknowledged, or lost."""

    __slots__ = (
        "ack_cnt",
        "bic_K",
        "bic_origin_point",
        "cnt",
        "curr_rtt",
        "delay_min",
        "end_seq",
        "epoch_start",
        "found",
        "last_ack",
        "last_cwnd",
        "last_max_cwnd",
        "last_time",
        "round_start",
        "sample_cnt",
        "tcp_cwnd",
    )

    def __init__(self) -> None:
        self.cnt: int = 0  # the window grows by 1 for so many packets acknowledged
        self.last_max_cwnd: int = 0  # Wmax
        self.last_cwnd: int = 0
        self.last_time: int = 0  # jiffies, when the function was last looked at
        self.bic_origin_point: int = 0  # the window at the flat part
        self.bic_K: int = 0  # when it is reached, from the epoch's beginning
        self.delay_min: int = 0  # us
        self.epoch_start: int = 0  # jiffies; 0: none has begun
        self.ack_cnt: int = 0
        self.tcp_cwnd: int = 0  # what Reno's window would be
        # HyStart; clocks in us
        self.sample_cnt: int = 0
        self.found: bool = False  # slow start was ended
        self.round_start: int = 0
        self.end_seq: int = 0  # of the round
        self.last_ack: int = 0  # when the train of ACKs last went on
        self.curr_rtt: int = 0  # the least of the round


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpCubic(TcpCongestionOps):
    """cubictcp, with its module parameters."""

    def __init__(self, name: str = "cubic", flags: int = 0) -> None:
        super().__init__(name, flags)
        self.fast_convergence: bool = True
        self.beta: int = 717  # of BICTCP_BETA_SCALE: what is left of the window after a loss
        self.initial_ssthresh: int = 0  # used without HyStart
        self.bic_scale: int = 41  # C is bic_scale / 1024 * 10
        self.tcp_friendliness: bool = True
        self.hystart: bool = True
        self.hystart_detect: int = HYSTART_ACK_TRAIN | HYSTART_DELAY
        self.hystart_low_window: int = 16
        self.hystart_ack_delta_us: int = 2000

    def init(self, sk: TcpSock) -> None:
        # bictcp_init's clean slate is made when there is something to write on it
        sk.icsk_ca_priv = None
        if not self.hystart and self.initial_ssthresh:
            sk.snd_ssthresh = self.initial_ssthresh

    def cwnd_event(self, sk: TcpSock, ev: int) -> None:
        if ev != CA_EVENT_TX_START:
            return
        ca = sk.icsk_ca_priv
        if isinstance(ca, Bictcp) and ca.epoch_start:
            # The program was silent: time goes on where it stood, or the window would leap up the curve.
            now = _jiffies(sk, sk.kernel.now)
            delta = now - _jiffies(sk, sk.lsndtime)
            if delta > 0:
                ca.epoch_start = min(ca.epoch_start + delta, now)

    def cong_avoid(self, sk: TcpSock, ack: int, acked: int) -> None:
        if not tcp_is_cwnd_limited(sk):
            return
        if sk.snd_cwnd < sk.snd_ssthresh:
            acked = tcp_slow_start(sk, acked)
            if not acked:
                return
        ca = _bictcp(sk)
        bictcp_update(self, ca, sk, acked)
        tcp_cong_avoid_ai(sk, ca.cnt, acked)

    def ssthresh(self, sk: TcpSock) -> int:
        """cubictcp_recalc_ssthresh."""
        ca = _bictcp(sk)
        ca.epoch_start = 0
        cwnd = sk.snd_cwnd
        if cwnd < ca.last_max_cwnd and self.fast_convergence:
            # Less than the last time: somebody else wants a share, so make room for it.
            ca.last_max_cwnd = cwnd * (BICTCP_BETA_SCALE + self.beta) // (2 * BICTCP_BETA_SCALE)
        else:
            ca.last_max_cwnd = cwnd
        return max(cwnd * self.beta // BICTCP_BETA_SCALE, 2)

    def set_state(self, sk: TcpSock, new_state: int) -> None:
        if new_state == TCP_CA_Loss:
            # A timeout: nothing that was known holds any more.
            ca = Bictcp()
            sk.icsk_ca_priv = ca
            bictcp_hystart_reset(ca, sk)

    def pkts_acked(self, sk: TcpSock, pkts_acked: int, rtt_us: int, in_flight: int) -> None:
        """cubictcp_acked."""
        if rtt_us < 0 or sk.sk_state == TCP_SYN_SENT:
            return
        ca = _bictcp(sk)
        kernel = sk.kernel
        # not in the first second of an epoch, when the queue is still full of what was lost
        if ca.epoch_start and kernel.now // kernel.tick_nsec - ca.epoch_start < kernel.hz:
            return
        delay = rtt_us or 1
        if ca.delay_min == 0 or ca.delay_min > delay:
            ca.delay_min = delay
        if not ca.found and self.hystart and sk.snd_cwnd < sk.snd_ssthresh:
            hystart_update(self, ca, sk, delay)


def cubictcp_register(kernel: Kernel) -> None:
    tcp_register_congestion_control(kernel, TcpCubic())


def _jiffies(sk: TcpSock, ns: int) -> int:
    return ns // sk.kernel.tick_nsec


def _bictcp(sk: TcpSock) -> Bictcp:
    ca = sk.icsk_ca_priv
    if isinstance(ca, Bictcp):
        return ca
    ca = Bictcp()
    bictcp_hystart_reset(ca, sk)
    sk.icsk_ca_priv = ca
    return ca


# -- the window ------------------------------------------------------------------------------------------------------------


def bictcp_update(cubic: TcpCubic, ca: Bictcp, sk: TcpSock, acked: int) -> None:
    """Set `cnt` to what the curve, or Reno, wants at this time."""
    kernel = sk.kernel
    cwnd = sk.snd_cwnd
    now = kernel.now // kernel.tick_nsec
    ca.ack_cnt += acked
    if ca.last_cwnd == cwnd and now - ca.last_time <= kernel.hz // 32:
        return
    # The curve is looked at once a jiffy at most; a reduction (epoch_start is 0) makes it looked at again.
    if not ca.epoch_start or now != ca.last_time:
        ca.last_cwnd = cwnd
        ca.last_time = now
        if not ca.epoch_start:
            ca.epoch_start = now
            ca.ack_cnt = acked
            ca.tcp_cwnd = cwnd
            if ca.last_max_cwnd <= cwnd:
                ca.bic_K = 0
                ca.bic_origin_point = cwnd
            else:
                cube_factor = (1 << 10 + 3 * BICTCP_HZ) // (cubic.bic_scale * 10)
                ca.bic_K = cubic_root(cube_factor * (ca.last_max_cwnd - cwnd))
                ca.bic_origin_point = ca.last_max_cwnd
        # where the curve will be one least RTT from now
        tick_us = kernel.tick_nsec // NSEC_PER_USEC
        t = (now - ca.epoch_start + (ca.delay_min + tick_us - 1) // tick_us << BICTCP_HZ) // kernel.hz
        offs = t - ca.bic_K
        delta = cubic.bic_scale * 10 * abs(offs) ** 3 >> 10 + 3 * BICTCP_HZ
        target = ca.bic_origin_point - delta if offs < 0 else ca.bic_origin_point + delta
        cnt = cwnd // (target - cwnd) if target > cwnd else 100 * cwnd
        # before the first loss nothing is known: not slower than 5 % an RTT
        if ca.last_max_cwnd == 0 and cnt > 20:
            cnt = 20
        ca.cnt = cnt
    if cubic.tcp_friendliness:
        # Reno with CUBIC's beta grows by one for so many packets acknowledged.
        beta_scale = 8 * (BICTCP_BETA_SCALE + cubic.beta) // 3 // (BICTCP_BETA_SCALE - cubic.beta)
        delta = cwnd * beta_scale >> 3
        if delta and ca.ack_cnt > delta:
            steps = (ca.ack_cnt - 1) // delta
            ca.ack_cnt -= steps * delta
            ca.tcp_cwnd += steps
        if ca.tcp_cwnd > cwnd:
            ca.cnt = min(ca.cnt, cwnd // (ca.tcp_cwnd - cwnd))
    # at most half as much again in an RTT
    if ca.cnt < 2:
        ca.cnt = 2


# -- HyStart ---------------------------------------------------------------------------------------------------------------


def bictcp_hystart_reset(ca: Bictcp, sk: TcpSock) -> None:
    """A round begins: until what is in flight now is acknowledged."""
    ca.round_start = sk.tcp_mstamp // NSEC_PER_USEC
    ca.last_ack = ca.round_start
    ca.end_seq = sk.snd_nxt
    ca.curr_rtt = 0xFFFFFFFF
    ca.sample_cnt = 0


def hystart_ack_delay(sk: TcpSock) -> int:
    """How long a sender's own large segments may hold a train up (us): four of them at the pacing rate, at most 1 ms."""
    rate = sk.sk_pacing_rate
    if rate <= 0:
        return 0
    max_size: int = sk.sk_gso_max_size
    return min(1000, max_size * 4_000_000 // rate)


def hystart_update(cubic: TcpCubic, ca: Bictcp, sk: TcpSock, delay: int) -> None:
    if after(sk.snd_una, ca.end_seq):
        bictcp_hystart_reset(ca, sk)
    cwnd = sk.snd_cwnd
    if cwnd < cubic.hystart_low_window:
        return
    stats = sk.sk_net.net_statistics
    if cubic.hystart_detect & HYSTART_ACK_TRAIN:
        now = sk.tcp_mstamp // NSEC_PER_USEC
        if now - ca.last_ack <= cubic.hystart_ack_delta_us:
            ca.last_ack = now
            threshold = ca.delay_min + hystart_ack_delay(sk)
            # Pacing may have spread the packets over half of the RTT; without it, a train of half of the RTT is enough.
            if sk.sk_pacing_status == SK_PACING_NONE:
                threshold >>= 1
            if now - ca.round_start > threshold:
                ca.found = True
                stats[LINUX_MIB_TCPHYSTARTTRAINDETECT] += 1
                stats[LINUX_MIB_TCPHYSTARTTRAINCWND] += cwnd
                sk.snd_ssthresh = cwnd
    if cubic.hystart_detect & HYSTART_DELAY:
        if ca.curr_rtt > delay:
            ca.curr_rtt = delay
        if ca.sample_cnt < HYSTART_MIN_SAMPLES:
            ca.sample_cnt += 1
        elif ca.curr_rtt > ca.delay_min + min(max(ca.delay_min >> 3, HYSTART_DELAY_MIN), HYSTART_DELAY_MAX):
            ca.found = True
            stats[LINUX_MIB_TCPHYSTARTDELAYDETECT] += 1
            stats[LINUX_MIB_TCPHYSTARTDELAYCWND] += cwnd
            sk.snd_ssthresh = cwnd
