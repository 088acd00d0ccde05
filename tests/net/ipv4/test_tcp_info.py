"""The clocks and the rates of TCP_INFO. Its other fields are compared with the kernel's in tests/parity/test_tcp_info.py."""

from __future__ import annotations

from afinet.net.ipv4.tcp_info import TcpInfo, pack_tcp_info, tcp_get_info
from afinet.net.ipv4.tcp_sockopt import TCP_DELACK_MAX_US, TCP_RTO_MIN_US
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.socket import MSG_DONTWAIT, SO_MAX_PACING_RATE, SO_SNDBUF, SOL_SOCKET
from tests.net.ipv4.tcphost import MS
from tests.net.ipv4.test_tcp_recovery import Sender


def info(p: Sender) -> TcpInfo:
    return tcp_get_info(p.sk)


def test_times_since_the_last_of_each_kind() -> None:
    p = Sender(1)
    p.run(30 * MS)
    p.ack(1)
    p.run(50 * MS)
    p.rx("P.", p.ISN + 1, p.base + 1000, b"data")
    p.run(7 * MS)
    i = info(p)
    assert (i.tcpi_last_data_sent, i.tcpi_last_ack_recv, i.tcpi_last_data_recv) == (87, 7, 7)
    p.run(100 * MS)
    p.rx(".", p.ISN + 5, p.base + 1000)
    i = info(p)
    assert (i.tcpi_last_data_sent, i.tcpi_last_ack_recv, i.tcpi_last_data_recv) == (187, 0, 107)


def test_round_trips_and_the_timeout() -> None:
    p = Sender(1)  # the SYN-ACK took 20 ms
    i = info(p)
    assert (i.tcpi_rtt, i.tcpi_rttvar, i.tcpi_min_rtt, i.tcpi_rto) == (20_000, 10_000, 20_000, 220_000)
    p.run(28 * MS)
    p.ack(1)
    i = info(p)
    # RFC 6298: 7/8 of 20 ms and 1/8 of 28 ms; 3/4 of 10 ms and 1/4 of 8 ms
    assert (i.tcpi_rtt, i.tcpi_rttvar, i.tcpi_min_rtt, i.tcpi_rto) == (21_000, 9_500, 20_000, 221_000)
    p.write(1)
    p.run(12 * MS)
    p.ack(2)
    assert info(p).tcpi_min_rtt == 12_000
    assert p.setsockopt(p.task, p.fd, IPPROTO_TCP, TCP_RTO_MIN_US, 50_000) == 0
    for n in range(3, 200):
        p.write(1)
        p.run(12 * MS)
        p.ack(n)
    i = info(p)
    assert i.tcpi_rtt == 12_000 and 61_000 <= i.tcpi_rto <= 64_000


def test_the_ack_timeout() -> None:
    p = Sender(0)
    assert info(p).tcpi_ato == 0
    p.rx("P.", p.ISN + 1, p.base, b"x" * 100)
    assert info(p).tcpi_ato == 40_000
    assert p.setsockopt(p.task, p.fd, IPPROTO_TCP, TCP_DELACK_MAX_US, 10_000) == 0
    assert info(p).tcpi_ato == 10_000


def test_what_a_connection_is_busy_with() -> None:
    p = Sender(0)
    p.run(100 * MS)
    assert info(p).tcpi_busy_time == 0
    p.write(1)
    p.run(30 * MS)
    i = info(p)
    assert (i.tcpi_busy_time, i.tcpi_rwnd_limited, i.tcpi_sndbuf_limited) == (30_000, 0, 0)
    # the peer's window is shut for 40 ms
    p.write(3)
    p.rx(".", p.ISN + 1, p.base + 4000, win=0)
    p.write(1)
    p.run(40 * MS)
    i = info(p)
    assert (i.tcpi_busy_time, i.tcpi_rwnd_limited) == (70_000, 40_000)
    p.rx(".", p.ISN + 1, p.base + 4000, win=60_000)
    p.run(5 * MS)
    p.ack(5)
    p.run(500 * MS)
    i = info(p)
    assert (i.tcpi_busy_time, i.tcpi_rwnd_limited) == (75_000, 40_000)
    # the send buffer is what holds the program up
    assert p.setsockopt(p.task, p.fd, SOL_SOCKET, SO_SNDBUF, 5000) == 0
    while p.send(p.task, p.fd, b"d" * 1000, MSG_DONTWAIT) > 0:
        pass
    p.run(20 * MS)
    assert info(p).tcpi_busy_time == 95_000


def test_rates() -> None:
    p = Sender(10)
    p.run(20 * MS)
    for n in range(1, 11):
        p.ack(n)
    i = info(p)
    # ten segments of 1000 bytes in a round trip of 20 ms; the program had no more, which is said
    assert i.tcpi_delivery_rate == 500_000 and i.tcpi_delivery_rate_app_limited == 1
    # in slow start, twice the window in a round trip
    assert i.tcpi_pacing_rate == 2 * 20 * 1000 * 50
    assert i.tcpi_max_pacing_rate == 0xFFFFFFFFFFFFFFFF
    assert p.setsockopt(p.task, p.fd, SOL_SOCKET, SO_MAX_PACING_RATE, 70_000) == 0
    i = info(p)
    assert (i.tcpi_pacing_rate, i.tcpi_max_pacing_rate) == (70_000, 70_000)


def test_time_spent_in_timeouts() -> None:
    p = Sender(1)
    p.run(1000 * MS)
    i = info(p)
    assert i.tcpi_total_rto >= 2 and i.tcpi_total_rto_recoveries == 1
    began = i.tcpi_total_rto_time
    p.run(100 * MS)
    assert info(p).tcpi_total_rto_time == began + 100
    p.ack(1)
    ended = info(p).tcpi_total_rto_time
    p.run(1000 * MS)
    assert info(p).tcpi_total_rto_time == ended >= began + 100


def test_the_struct_is_280_bytes_and_every_field_has_its_place() -> None:
    p = Sender(3)
    raw = pack_tcp_info(info(p))
    assert len(raw) == 280
    assert int.from_bytes(raw[80:84], "little") == p.sk.snd_cwnd
    assert int.from_bytes(raw[200:208], "little") == 3000  # bytes_sent
    assert raw[248:] == bytes(32)  # accurate ECN
