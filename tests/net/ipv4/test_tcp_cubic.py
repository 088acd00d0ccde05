"""CUBIC and HyStart, one ACK per line. How the window grows over whole rounds is compared with the kernel in
tests/parity/test_cwnd_rounds.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afinet.net.ipv4 import tcp_cong
from afinet.net.ipv4.tcp_cubic import HYSTART_ACK_TRAIN, Bictcp, TcpCubic, cubic_root
from afinet.net.ipv4.tcp_inline import TCP_INFINITE_SSTHRESH
from afinet.uapi import snmp
from afinet.uapi.socket import SO_SNDBUFFORCE, SOL_SOCKET
from afinet.uapi.tcp import TCP_CA_Loss, TCP_CA_Recovery
from afinet.wire.tcp_options import build_syn_options
from tests.net.ipv4.tcphost import MS, SEC
from tests.net.ipv4.test_tcp_recovery import Sender


class Cubic(Sender):
    """A sender with CUBIC; `rounds` lets round trips of 20 ms pass in which all that was sent is acknowledged, segment by segment.
    More to send is always there, so that a new window goes out while the old one is acknowledged."""

    def __init__(self, n: int = 0, hz: int = 1000) -> None:
        super().__init__(n, build_syn_options(1000, 10, True, False, 0, 0), congestion="cubic", hz=hz)
        assert self.setsockopt(self.task, self.fd, SOL_SOCKET, SO_SNDBUFFORCE, 2_000_000) == 0
        self.acked = 0
        self.count = n

    def rounds(self, n: int, rtt: int = 20 * MS, spacing: int = 0) -> None:
        for _ in range(n):
            want = 3 * self.sk.snd_cwnd - (self.count - self.acked)
            self.write(want)
            self.count += want
            self.tx()
            self.run(rtt)
            for _ in range(self.sk.packets_out):
                self.acked += 1
                self.ack(self.acked)
                if spacing:
                    self.run(spacing)

    @property
    def ca(self) -> Bictcp:
        ca = self.sk.icsk_ca_priv
        assert isinstance(ca, Bictcp)
        return ca


@given(st.integers(0, 1 << 62))
def test_the_cube_root_is_the_largest_number_whose_cube_is_not_larger(a: int) -> None:
    root = cubic_root(a)
    assert root**3 <= a < (root + 1) ** 3


def test_cubic_is_the_default_and_new_namespaces_have_the_first_ones() -> None:
    from tests.net.ipv4.tcphost import Pair

    p = Pair()
    assert p.na.ipv4.tcp_congestion_control.name == "cubic"
    assert tcp_cong.tcp_get_available_congestion_control(p.kernel) == "reno cubic"
    assert tcp_cong.tcp_get_allowed_congestion_control(p.kernel) == "reno cubic"


def test_nothing_is_kept_of_a_connection_before_its_first_data_is_acknowledged() -> None:
    p = Cubic(1)
    assert p.sk.icsk_ca_priv is None
    p.ack(1)
    assert p.ca.delay_min == 20_000 or p.ca.delay_min > 0


@pytest.mark.rfc9293("MAY-18")
def test_a_loss_leaves_seven_tenths_and_a_second_one_soon_after_gives_way() -> None:
    p = Cubic()
    p.sk.snd_cwnd = 100
    cubic = p.sk.icsk_ca_ops
    assert cubic is not None
    assert cubic.ssthresh(p.sk) == 100 * 717 // 1024 == 70
    assert (p.ca.last_max_cwnd, p.ca.epoch_start) == (100, 0)
    p.sk.snd_cwnd = 80
    assert cubic.ssthresh(p.sk) == 56
    # fast convergence: 80 was less than 100
    assert p.ca.last_max_cwnd == 80 * (1024 + 717) // 2048 == 68
    p.sk.snd_cwnd = 2
    assert cubic.ssthresh(p.sk) == 2


def test_the_window_returns_to_the_old_one_after_k_and_stays_about_there() -> None:
    p = Cubic()
    p.sk.snd_cwnd = 100
    cubic = p.sk.icsk_ca_ops
    assert isinstance(cubic, TcpCubic)
    cubic.tcp_friendliness = False
    p.sk.snd_ssthresh = cubic.ssthresh(p.sk)
    p.sk.snd_cwnd = p.sk.snd_ssthresh
    p.rounds(1)
    # K is the cube root of 30 packets over C = 0.4 packets/s^3: 4.217 s
    assert abs(p.ca.bic_K - 4.217 * 1024) < 8
    p.rounds(100)
    assert 90 <= p.sk.snd_cwnd < 100  # after 2 s: 100 - 0.4 * 2.2^3
    p.rounds(110)
    assert 98 <= p.sk.snd_cwnd <= 101
    p.rounds(150)
    assert p.sk.snd_cwnd > 105  # the other side of the curve


def test_where_reno_would_be_faster_the_window_grows_as_renos() -> None:
    p = Cubic()
    p.sk.snd_cwnd = 20
    cubic = p.sk.icsk_ca_ops
    assert cubic is not None
    p.sk.snd_ssthresh = cubic.ssthresh(p.sk)
    p.sk.snd_cwnd = p.sk.snd_ssthresh
    p.rounds(20)
    # Reno with a factor of 0.7 adds 3 * 0.3 / 1.7 = 0.53 packets a round trip
    assert abs(p.sk.snd_cwnd - (14 + 20 * 0.53)) < 2


def test_silence_does_not_let_the_window_leap_up_the_curve() -> None:
    p = Cubic()
    p.net.ipv4.sysctl_tcp_slow_start_after_idle = 0
    p.sk.snd_cwnd = 50
    cubic = p.sk.icsk_ca_ops
    assert cubic is not None
    p.sk.snd_ssthresh = cubic.ssthresh(p.sk)
    p.sk.snd_cwnd = p.sk.snd_ssthresh
    p.rounds(10)
    epoch, cwnd = p.ca.epoch_start, p.sk.snd_cwnd
    while p.sk.packets_out:
        p.acked += 1
        p.ack(p.acked)
    p.run(100 * SEC)
    p.rounds(1)
    assert p.ca.epoch_start - epoch in range(100_000 - 40, 100_041)  # jiffies of 1 ms
    assert p.sk.snd_cwnd <= cwnd + 2


def test_a_timeout_forgets_all() -> None:
    p = Cubic(10)
    p.tx()
    p.run(20 * MS)
    p.ack(1)
    assert p.ca.delay_min
    p.run(5 * SEC)
    assert p.sk.icsk_ca_state == TCP_CA_Loss
    assert (p.ca.delay_min, p.ca.last_max_cwnd, p.ca.found) == (0, 0, False)


def test_hystart_ends_slow_start_when_the_delay_rises() -> None:
    p = Cubic()
    p.rounds(3)
    assert p.sk.snd_ssthresh == TCP_INFINITE_SSTHRESH and p.sk.snd_cwnd == 80
    p.rounds(1, 23 * MS)  # not 4 ms more
    assert p.sk.snd_ssthresh == TCP_INFINITE_SSTHRESH
    p.rounds(1, 25 * MS)
    assert p.ca.found
    assert p.mib("TCPHystartDelayDetect") == 1
    # the ninth ACK of the round told
    assert p.mib("TCPHystartDelayCwnd") == p.sk.snd_ssthresh == 160 + 8
    assert p.sk.snd_cwnd < 200


def test_hystart_ends_slow_start_when_acks_come_in_a_train_of_half_the_delay() -> None:
    p = Cubic()
    cubic = p.sk.icsk_ca_ops
    assert isinstance(cubic, TcpCubic)
    cubic.hystart_detect = HYSTART_ACK_TRAIN
    p.rounds(3, spacing=500_000)
    assert p.ca.found and p.sk.snd_ssthresh < 80
    assert p.mib("TCPHystartTrainDetect") == 1
    assert p.mib("TCPHystartTrainCwnd") == p.sk.snd_ssthresh


def test_without_hystart_slow_start_goes_on() -> None:
    p = Cubic()
    cubic = p.sk.icsk_ca_ops
    assert isinstance(cubic, TcpCubic)
    cubic.hystart = False
    p.rounds(3, spacing=500_000)
    p.rounds(1, 60 * MS)
    assert p.sk.snd_cwnd == 160


def test_a_reduction_that_proves_wrong_is_taken_back() -> None:
    p = Cubic(10)
    p.tx()
    p.run(20 * MS)
    for n in range(2, 6):
        p.ack(0, 1, n)
    assert p.sk.icsk_ca_state == TCP_CA_Recovery and p.sk.snd_ssthresh == 7
    p.run(20 * MS)
    p.ack(10, 0, 1)  # a D-SACK: the retransmission was not needed
    assert p.sk.snd_cwnd >= 10 and p.sk.snd_ssthresh == TCP_INFINITE_SSTHRESH
    assert p.net.net_statistics[snmp.LINUX_MIB_TCPDSACKUNDO] + p.net.net_statistics[snmp.LINUX_MIB_TCPFULLUNDO] == 1
