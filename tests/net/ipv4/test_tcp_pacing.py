"""Pacing inside TCP: SO_MAX_PACING_RATE, and algorithms that ask for it."""

from __future__ import annotations

from afinet.net.core.sock import SK_PACING_NEEDED, SK_PACING_NONE
from afinet.net.ipv4.tcp_cong import TcpReno, tcp_register_congestion_control
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.socket import SO_MAX_PACING_RATE, SOL_SOCKET
from afinet.uapi.tcp import TCP_CONGESTION
from tests.net.ipv4.tcphost import MS, Pair, tcp_sk
from tests.net.ipv4.test_tcp_recovery import Sender


def test_without_a_rate_nothing_is_held_back() -> None:
    p = Sender(10)
    assert p.sk.sk_pacing_status == SK_PACING_NONE
    assert p.sent() == list(range(10))
    assert p.sk.tcp_cold is None


def test_a_sock_with_a_rate_sends_one_segment_at_a_time() -> None:
    p = Sender(0)
    # one segment of 1000 bytes each 2 ms
    assert p.setsockopt(p.task, p.fd, SOL_SOCKET, SO_MAX_PACING_RATE, 500_000) == 0
    assert p.sk.sk_pacing_status == SK_PACING_NEEDED
    p.sk.snd_cwnd = 30
    p.write(20)
    # the first ten go at once, and one that the tenth does not hold back
    assert p.sent() == list(range(10))
    for n in range(10, 20):
        p.run(2 * MS - 1)
        assert p.silent()
        p.run(1)
        assert p.sent() == [n]
    p.run(10 * MS)
    assert p.silent()


def test_a_timer_for_what_was_sent_waits_for_the_segments_time() -> None:
    p = Sender(0)
    assert p.setsockopt(p.task, p.fd, SOL_SOCKET, SO_MAX_PACING_RATE, 10_000) == 0
    p.write(10)
    assert p.sent() == list(range(10))
    # the tenth of 1000 bytes at 10 kB/s: the next may leave in 100 ms, and the loss probe is put off by as much
    assert p.sk.icsk_timeout - p.kernel.now > 100 * MS


def test_the_rate_limits_a_transfer() -> None:
    p = Pair()
    client, server, _ = p.established()
    assert p.setsockopt(p.ta, client, SOL_SOCKET, SO_MAX_PACING_RATE, 1_000_000) == 0
    start = p.kernel.now
    left = 1_000_000
    while left:
        left -= p.send(p.ta, client, bytes(min(left, 10_000)))
        while True:
            p.run()
            if not tcp_sk(p.tb, server).sk_receive_queue.qlen:
                break
            p.recv(p.tb, server, 1 << 20)
    while tcp_sk(p.ta, client).packets_out or tcp_sk(p.ta, client).sk_write_queue.qlen:
        p.run(MS)
        if tcp_sk(p.tb, server).sk_receive_queue.qlen:
            p.recv(p.tb, server, 1 << 20)
    # The first ten packets go at once, and nobody waits for the time of the last segment, up to 45 packets.
    assert 0.92 < (p.kernel.now - start) / 1e9 < 1.03


def test_a_sock_that_ends_takes_its_timer_along() -> None:
    p = Sender(0)
    assert p.setsockopt(p.task, p.fd, SOL_SOCKET, SO_MAX_PACING_RATE, 1000) == 0
    p.write(20)
    cold = p.sk.tcp_cold
    assert cold is not None and cold.pacing_timer is not None and cold.pacing_timer.timer_pending()
    p.rx("R", p.ISN + 1)
    assert not cold.pacing_timer.timer_pending()


class Paced(TcpReno):
    """Reno, that asks to be paced at a rate of its own."""

    def __init__(self) -> None:
        super().__init__("paced")

    def init(self, sk: TcpSock) -> None:
        sk.sk_pacing_status = SK_PACING_NEEDED
        sk.sk_pacing_rate = 1_000_000


def test_an_algorithm_asks_for_pacing() -> None:
    p = Sender(0)
    tcp_register_congestion_control(p.kernel, Paced())
    assert p.setsockopt(p.task, p.fd, IPPROTO_TCP, TCP_CONGESTION, b"paced") == 0
    p.sk.snd_cwnd = 30
    p.write(20)
    assert p.sent() == list(range(10))
    p.run(3 * MS)
    assert p.sent() == [10, 11, 12]
