"""Timers: user timeout, keepalive, zero window probes, silly windows, orphans."""

from __future__ import annotations

import pytest

from afinet.net.ipv4 import tcp_info
from afinet.uapi import snmp
from afinet.uapi.errno import ETIMEDOUT
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.socket import SO_KEEPALIVE, SO_TXREHASH, SOL_SOCKET
from afinet.uapi.tcp import TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_NODELAY, TCP_USER_TIMEOUT
from tests.net.ipv4.tcphost import MS, SEC
from tests.net.ipv4.test_tcp_recovery import PLAIN_SYN, Sender


def quiet_until(p: Sender, limit: int) -> int:
    """ms until something is sent."""
    start = p.kernel.now
    while not p.host.link.sent:
        p.run(MS)
        assert p.kernel.now - start < limit
    return (p.kernel.now - start) // MS


@pytest.mark.rfc9293("MUST-21")
def test_tcp_user_timeout_ends_a_connection_whose_data_is_not_acknowledged() -> None:
    p = Sender(0, PLAIN_SYN)
    p.setsockopt(p.task, p.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 3000)
    start = p.kernel.now
    p.write(1)
    while p.sk.sk_err == 0:
        p.run(10 * MS)
        assert p.kernel.now - start < 10 * SEC
    assert p.sk.sk_err == ETIMEDOUT
    assert 3 * SEC <= p.kernel.now - start < 3600 * MS
    assert p.mib("TCPAbortOnTimeout") == 1


@pytest.mark.rfc9293("MUST-20", "SHLD-11")
def test_unacknowledged_data_is_sent_for_about_fifteen_minutes() -> None:
    p = Sender(1, PLAIN_SYN)
    start = p.kernel.now
    while p.sk.sk_err == 0:
        p.run(SEC)
    assert 900 * SEC < p.kernel.now - start < 1000 * SEC
    # 15 retransmissions, the last ones two minutes apart
    assert len(p.sent()) in (16, 17)


def test_keepalive_probes_an_idle_peer_and_gives_up() -> None:
    p = Sender(0)
    for opt, value in ((TCP_KEEPIDLE, 10), (TCP_KEEPINTVL, 2), (TCP_KEEPCNT, 3)):
        p.setsockopt(p.task, p.fd, IPPROTO_TCP, opt, value)
    p.setsockopt(p.task, p.fd, SOL_SOCKET, SO_KEEPALIVE, 1)
    p.run(9 * SEC)
    assert p.silent()
    assert quiet_until(p, 2 * SEC) <= 1001
    probe = p.tx1()
    assert (probe.seq, probe.flags, probe.data) == (p.base - 1, 0x10, b"")
    p.ack(0)
    p.run(9900 * MS)
    assert p.silent()  # it answered: idle begins anew
    p.run(100 * MS)
    assert len(p.tx()) == 1
    for _ in range(2):
        p.run(1900 * MS)
        assert p.silent()
        p.run(100 * MS)
        assert len(p.tx()) == 1
    p.run(2 * SEC)
    assert p.tx1().flags == 0x14  # RST
    assert p.so_error(p.task, p.fd) == ETIMEDOUT
    assert p.mib("TCPKeepAlive") == 4


def window(p: Sender, n: int, win: int) -> None:
    p.rx(".", p.ISN + 1, p.base + n, win=win)


@pytest.mark.rfc9293("MUST-36", "MUST-37", "SHLD-29", "SHLD-30")
def test_a_closed_window_is_probed_with_backoff_for_as_long_as_the_peer_answers() -> None:
    p = Sender(0, PLAIN_SYN)
    p.setsockopt(p.task, p.fd, IPPROTO_TCP, TCP_NODELAY, 1)
    p.write(1)
    p.tx()
    p.run(20 * MS)
    window(p, 1000, 0)
    p.write(1)
    assert p.silent()
    waits = []
    for _ in range(4):
        waits.append(quiet_until(p, 10 * SEC))
        probe = p.tx1()
        assert (probe.seq, probe.data) == (p.base + 999, b"")
        window(p, 1000, 0)
    rto = p.sk.icsk_rto // MS
    assert [round(w / rto) for w in waits] == [1, 2, 4, 8]
    assert p.mib("TCPWinProbe") == 4
    assert p.sk.icsk_probes_out == 0
    window(p, 1000, 65535)
    assert p.sent() == [1]
    window(p, 2000, 65535)
    assert p.sk.icsk_pending == 0


def test_a_window_that_never_opens_and_a_peer_that_is_silent_is_a_timeout() -> None:
    p = Sender(1, PLAIN_SYN)
    p.tx()
    window(p, 1000, 0)
    p.write(1)
    p.run(2000 * SEC)
    assert p.sk.sk_err == ETIMEDOUT
    assert p.mib("TCPWinProbe") == 15


@pytest.mark.rfc9293("MUST-38")
def test_a_silly_window_is_not_filled_until_the_probe_timer_says_so() -> None:
    p = Sender(0, PLAIN_SYN)
    p.setsockopt(p.task, p.fd, IPPROTO_TCP, TCP_NODELAY, 1)
    p.write(1)
    p.tx()
    window(p, 1000, 300)
    p.write(1)
    assert p.silent()  # 300 bytes are less than the segment of 1000
    wait = quiet_until(p, 5 * SEC)
    assert wait >= 190
    s = p.tx1()
    assert len(s.data) == 300 and s.seq == p.base + 1000


@pytest.mark.rfc9293("MUST-39")
def test_a_receiver_does_not_open_its_window_by_a_little() -> None:
    from tests.net.ipv4.test_tcp_input import Receiver

    p = Receiver()
    p.sk.sk_rcvbuf = 20000
    p.sk.sk_userlocks |= 2
    seq = 0
    for _ in range(100):
        p.data(seq, 1000)
        seq = p.sk.rcv_nxt - p.ISN - 1
        p.run(300 * MS)
        if p.sk.rcv_wnd == 0:
            break
    assert p.tx()[-1].window == 0
    p.recv(p.task, p.fd, 10)
    p.run(SEC)
    assert p.silent()
    while p.recv(p.task, p.fd, 100_000, 0x40) not in (b"", -11):
        pass
    update = p.tx()
    assert update and update[-1].window >= 2000
    assert p.mib("TCPFromZeroWindowAdv") == 1


def test_an_orphan_gives_up_sooner() -> None:
    p = Sender(1, PLAIN_SYN)
    p.tx()
    p.close(p.task, p.fd)
    start = p.kernel.now
    prot = p.sk.sk_prot
    assert prot.orphan_count == 1
    while prot.orphan_count:
        p.run(SEC)
        assert p.kernel.now - start < 300 * SEC
    assert p.kernel.now - start > 40 * SEC  # 8 tries
    assert p.sk.sk_wmem_queued == 0
    assert p.net.net_statistics[snmp.LINUX_MIB_TCPABORTONTIMEOUT] == 1


# -- SO_TXREHASH -----------------------------------------------------------------------------------------------------------


def test_a_timeout_draws_another_flow_hash_unless_SO_TXREHASH_forbids() -> None:
    """tcp_write_timeout: the path may be at fault. Counted as TcpTimeoutRehash and in tcpi_rehash."""
    for option, rehashes in ((None, 2), (1, 2), (0, 0)):
        p = Sender(1, PLAIN_SYN)
        if option is not None:
            p.setsockopt(p.task, p.fd, SOL_SOCKET, SO_TXREHASH, option)
        before = p.sk.sk_txhash
        p.run(900 * MS)  # the first retransmission and the second
        assert (p.sk.sk_txhash != before) == (rehashes > 0)
        assert p.mib("TcpTimeoutRehash") == rehashes
        assert tcp_info.tcp_get_info(p.sk).tcpi_rehash == rehashes
