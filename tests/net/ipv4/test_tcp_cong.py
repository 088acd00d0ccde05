"""Congestion control: the registry, Reno, and an algorithm of the user's own."""

from __future__ import annotations

from afinet.net.ipv4.tcp_cong import (
    TCP_CONG_NON_RESTRICTED,
    TcpCongestionOps,
    tcp_ca_find,
    tcp_cong_avoid_ai,
    tcp_get_allowed_congestion_control,
    tcp_get_available_congestion_control,
    tcp_register_congestion_control,
    tcp_set_allowed_congestion_control,
    tcp_set_congestion_control,
    tcp_set_default_congestion_control,
    tcp_unregister_congestion_control,
)
from afinet.net.ipv4.tcp_rate import RateSample
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.uapi.errno import EEXIST, EINVAL, ENOENT, EPERM
from tests.net.ipv4.tcphost import MS
from tests.net.ipv4.test_tcp_recovery import SACK_SYN, Sender


class Fixed(TcpCongestionOps):
    """A window that nothing moves."""

    def __init__(self) -> None:
        super().__init__("fixed", TCP_CONG_NON_RESTRICTED)
        self.calls: list[str] = []

    def init(self, sk: TcpSock) -> None:
        sk.icsk_ca_priv = {"acks": 0}
        self.calls.append("init")

    def release(self, sk: TcpSock) -> None:
        self.calls.append("release")

    def cong_control(self, sk: TcpSock, ack: int, flag: int, rs: RateSample) -> bool:
        self.calls.append("cong_control")
        sk.snd_cwnd = 7
        return True

    def ssthresh(self, sk: TcpSock) -> int:
        return 7


def test_slow_start_doubles_and_congestion_avoidance_adds_one_a_round_trip() -> None:
    p = Sender(10)
    assert p.sk.snd_cwnd == 10
    p.tx()
    p.run(20 * MS)
    for i in range(2, 11, 2):
        p.ack(i)
    assert p.sk.snd_cwnd == 20
    p.sk.snd_ssthresh = 20
    first = 10
    for _ in range(2):
        cwnd = p.sk.snd_cwnd
        p.write(cwnd)
        p.tx()
        p.run(20 * MS)
        for i in range(first + 1, first + cwnd + 1):
            p.ack(i)
        first += cwnd
        assert p.sk.snd_cwnd == cwnd + 1


def test_a_window_that_is_not_used_does_not_grow() -> None:
    p = Sender(1)
    for i in range(1, 20):
        p.ack(i)
        p.write(1)
        p.run(10 * MS)
    assert p.sk.snd_cwnd == 10


def test_idleness_shrinks_the_window_to_the_initial_one() -> None:
    p = Sender(10)
    p.run(20 * MS)
    p.ack(10)
    assert p.sk.snd_cwnd == 20
    p.run(3000 * MS)
    p.tx()
    p.write(15)
    assert p.sk.snd_cwnd == 10
    assert len(p.sent()) == 10


def test_the_registry_knows_names_and_restrictions() -> None:
    p = Sender(0)
    kernel = p.kernel
    mine = Fixed()
    assert tcp_register_congestion_control(kernel, mine) == 0
    assert tcp_register_congestion_control(kernel, Fixed()) == -EEXIST
    assert tcp_register_congestion_control(kernel, TcpCongestionOps("x" * 16)) == -EINVAL
    assert "reno" in tcp_get_available_congestion_control(kernel).split()
    assert tcp_set_congestion_control(p.sk, "nothing") == -ENOENT
    assert tcp_set_allowed_congestion_control(kernel, "reno nothing") == -ENOENT
    assert tcp_set_allowed_congestion_control(kernel, "reno") == 0
    assert tcp_get_allowed_congestion_control(kernel) == "reno"
    assert tcp_set_congestion_control(p.sk, "fixed") == -EPERM
    assert tcp_set_congestion_control(p.sk, "fixed", True, True) == 0
    assert mine.calls == ["init"]
    assert tcp_set_congestion_control(p.sk, "reno") == 0
    assert mine.calls == ["init", "release"]
    tcp_unregister_congestion_control(kernel, mine)
    assert tcp_ca_find(kernel, "fixed") is None


def test_an_algorithm_of_the_users_own_decides() -> None:
    p = Sender(0, SACK_SYN)
    mine = Fixed()
    tcp_register_congestion_control(p.kernel, mine)
    assert tcp_set_default_congestion_control(p.net, "fixed") == 0
    assert tcp_set_congestion_control(p.sk, "fixed") == 0
    p.write(10)
    p.tx()
    p.ack(4)
    assert p.sk.snd_cwnd == 7 and "cong_control" in mine.calls
    assert isinstance(p.sk.icsk_ca_priv, dict)


def test_cong_avoid_uses_up_credit_gently() -> None:
    p = Sender(0)
    p.sk.snd_cwnd = 10
    p.sk.snd_cwnd_cnt = 15
    tcp_cong_avoid_ai(p.sk, 10, 1)
    assert (p.sk.snd_cwnd, p.sk.snd_cwnd_cnt) == (11, 1)
