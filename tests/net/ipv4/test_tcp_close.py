"""Closing: FINs in every order, TIME_WAIT, orphans, linger, resets, abort, disconnect."""

from __future__ import annotations

import pytest

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.ipv4 import tcp, tcp_ipv4
from afinet.uapi.errno import ECONNABORTED, ECONNRESET, EIOCBQUEUED, ENOENT, EPIPE
from afinet.uapi.eventpoll import EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLRDNORM, EPOLLWRNORM
from afinet.uapi.snmp import (
    LINUX_MIB_TCPABORTONCLOSE,
    LINUX_MIB_TCPABORTONDATA,
    LINUX_MIB_TCPABORTONLINGER,
    LINUX_MIB_TCPTIMEWAITOVERFLOW,
    LINUX_MIB_TIMEWAITED,
    LINUX_MIB_TIMEWAITKILLED,
    LINUX_MIB_TIMEWAITRECYCLED,
    TCP_MIB_ESTABRESETS,
)
from afinet.uapi.sockaddr import pack_linger, pack_sockaddr_in
from afinet.uapi.socket import SHUT_RD, SHUT_RDWR, SHUT_WR, SO_LINGER, SO_REUSEADDR, SOL_SOCKET
from afinet.uapi.tcp import (
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LINGER2,
    TCP_TIME_WAIT,
)
from tests.net.ipv4.tcphost import MS, MSS1460, SEC, A, B, Pair, Peer, syn_options, tcp_sk, ts_options

MINUTE = 60 * SEC


def tw_count(p: Peer | Pair) -> int:
    hinfo = p.kernel.inet_hashinfo
    assert hinfo is not None
    return sum(1 for sk in hinfo.ehash.values() if sk.sk_state == TCP_TIME_WAIT)


def end(p: Peer, *fds: int) -> None:
    """Close what is left and see that nothing remains."""
    for fd in fds:
        p.close(p.task, fd)
    p.run(3 * MINUTE)
    p.assert_nothing_left()


# -- FINs ------------------------------------------------------------------------------------------------------------------


def test_active_close() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    sk = tcp_sk(p.task, fd)
    p.close(p.task, fd)
    fin = p.tx1()
    assert fin.flags == 0x11 and fin.seq == (isn + 1) & 0xFFFFFFFF
    assert sk.sk_state == TCP_FIN_WAIT1
    p.rx(".", 1001, isn + 2)
    assert tw_count(p) == 1  # an orphan in FIN_WAIT2 is a small sock
    p.rx("F.", 1001, isn + 2)
    ack = p.tx1()
    assert ack.flags == 0x10 and ack.ack == 1002
    assert tw_count(p) == 1
    p.run(59 * SEC)
    assert tw_count(p) == 1
    p.run(2 * SEC)
    assert tw_count(p) == 0
    end(p, listener)


def test_passive_close_and_half_close() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    p.rx("F.", 1001, isn + 1)
    ack = p.tx1()
    assert ack.flags == 0x10 and ack.ack == 1002
    sk = tcp_sk(p.task, fd)
    assert sk.sk_state == TCP_CLOSE_WAIT
    assert p.poll(p.task, fd) == EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLOUT | EPOLLWRNORM
    assert p.recv(p.task, fd, 10) == b""
    assert p.recv(p.task, fd, 10) == b""
    assert p.send(p.task, fd, b"still") == 5
    assert p.tx1().data == b"still"
    p.rx(".", 1002, isn + 6)
    p.close(p.task, fd)
    assert p.tx1().flags == 0x11
    assert sk.sk_state == TCP_LAST_ACK
    p.rx(".", 1002, isn + 7)
    assert sk.sk_state == TCP_CLOSE and p.silent()
    end(p, listener)


def test_simultaneous_close() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    sk = tcp_sk(p.task, fd)
    p.shutdown(p.task, fd, SHUT_WR)
    assert p.tx1().flags == 0x11
    p.rx("F.", 1001, isn + 1)
    assert p.tx1().flags == 0x10
    assert sk.sk_state == TCP_CLOSING
    p.rx(".", 1002, isn + 2)
    assert tw_count(p) == 1 and sk.sk_state == TCP_CLOSE
    assert p.recv(p.task, fd, 10) == b""
    end(p, fd, listener)


def test_shutdown_for_writing_sends_a_fin_and_reading_goes_on() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    assert p.shutdown(p.task, fd, SHUT_WR) == 0
    assert p.tx1().flags == 0x11
    p.rx(".", 1001, isn + 2)
    assert tcp_sk(p.task, fd).sk_state == TCP_FIN_WAIT2
    assert p.send(p.task, fd, b"x") == -EPIPE
    p.rx("P.", 1001, isn + 2, b"data")
    assert p.recv(p.task, fd, 10) == b"data"
    p.tx()
    p.rx("F.", 1005, isn + 2)
    assert p.recv(p.task, fd, 10) == b""
    assert p.poll(p.task, fd) & EPOLLHUP
    end(p, fd, listener)


def test_shutdown_for_reading_is_local() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    iocb = Kiocb()
    assert syscalls.sys_recvfrom(p.task, iocb, fd, 10, 0)[0] == -EIOCBQUEUED
    assert p.shutdown(p.task, fd, SHUT_RD) == 0
    assert syscalls.sys_recvfrom(p.task, iocb, fd, 10, 0)[0] == 0
    assert p.silent()
    p.close(p.task, fd)
    p.rx("R", 1001, isn + 2)
    end(p, listener)


def test_a_fin_is_sent_again_until_it_is_acknowledged() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    p.close(p.task, fd)
    p.tx()
    p.run(SEC)
    again = p.tx()
    assert again and all(s.flags == 0x11 for s in again)
    p.rx(".", 1001, isn + 2)
    p.rx("F.", 1001, isn + 2)
    end(p, listener)


# -- orphans ---------------------------------------------------------------------------------------------------------------


def test_an_orphan_in_fin_wait_2_is_reaped_after_tcp_fin_timeout() -> None:
    p = Peer()
    p.net.ipv4.sysctl_tcp_fin_timeout = 5 * SEC
    listener, fd, isn = p.open_passive(MSS1460)
    p.close(p.task, fd)
    p.rx(".", 1001, isn + 2)
    assert tw_count(p) == 1
    p.run(4 * SEC)
    assert tw_count(p) == 1
    p.run(2 * SEC)
    assert tw_count(p) == 0
    p.tx()
    p.rx("F.", 1001, isn + 2)
    assert p.tx1().flags == 4
    end(p, listener)


def test_tcp_linger2_makes_an_orphan_wait_longer_than_time_wait() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    assert p.setsockopt(p.task, fd, 6, TCP_LINGER2, 100) == 0
    sk = tcp_sk(p.task, fd)
    p.close(p.task, fd)
    p.rx(".", 1001, isn + 2)
    assert sk.sk_state == TCP_FIN_WAIT2
    p.run(50 * SEC)
    assert sk.sk_state == TCP_CLOSE and tw_count(p) == 1
    p.run(51 * SEC)
    assert tw_count(p) == 0
    end(p, listener)


def test_a_negative_tcp_linger2_resets_in_fin_wait_2() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    p.setsockopt(p.task, fd, 6, TCP_LINGER2, -1)
    p.shutdown(p.task, fd, SHUT_WR)
    p.rx(".", 1001, isn + 2)
    p.tx()
    p.close(p.task, fd)
    assert p.tx1().flags & 4
    assert p.net.net_statistics[LINUX_MIB_TCPABORTONLINGER] == 1
    end(p, listener)


@pytest.mark.rfc9293("SHLD-3", "MAY-1")
def test_data_for_an_orphan_is_answered_with_a_rst() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    p.close(p.task, fd)
    p.tx()
    p.rx("P.", 1001, isn + 1, b"too late")
    assert any(s.flags & 4 for s in p.tx())
    assert p.net.net_statistics[LINUX_MIB_TCPABORTONDATA] == 1
    end(p, listener)


# -- resets ----------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc9293("SHLD-3")
def test_closing_with_unread_data_resets() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    p.rx("P.", 1001, isn + 1, b"unread")
    p.tx()
    p.close(p.task, fd)
    rst = p.tx1()
    assert rst.flags == 0x14 and rst.seq == (isn + 1) & 0xFFFFFFFF
    assert p.net.net_statistics[LINUX_MIB_TCPABORTONCLOSE] == 1
    assert p.net.tcp_statistics[TCP_MIB_ESTABRESETS] == 1
    end(p, listener)


def test_linger_zero_resets() -> None:
    p = Peer()
    listener, fd, _ = p.open_passive(MSS1460)
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_LINGER, pack_linger(1, 0))
    p.close(p.task, fd)
    assert p.tx1().flags == 0x14
    assert p.net.net_statistics[LINUX_MIB_TCPABORTONDATA] == 1
    end(p, listener)


def test_linger_waits_for_the_last_ack_and_no_longer_than_asked() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_LINGER, pack_linger(1, 10))
    iocb = Kiocb()
    start = p.kernel.now
    assert syscalls.sys_close(p.task, iocb, fd) == -EIOCBQUEUED
    assert p.tx1().flags == 0x11
    p.run(SEC // 10)
    p.rx(".", 1001, isn + 2)
    assert syscalls.sys_close(p.task, iocb, fd) == 0
    assert tw_count(p) == 1

    p.sport = 5001
    isn = p.handshake(MSS1460)
    fd = p.accept(p.task, listener)
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_LINGER, pack_linger(1, 10))
    start = p.kernel.now
    assert p.close(p.task, fd) == 0
    assert 9 * SEC < p.kernel.now - start < 11 * SEC
    p.rx("R", 1001, isn + 2)
    end(p, listener)


def test_a_rst_ends_the_connection() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    p.rx("R", 1001)
    assert p.recv(p.task, fd, 1) == -ECONNRESET
    assert p.recv(p.task, fd, 1) == b""
    assert p.send(p.task, fd, b"x") == -EPIPE
    assert p.silent() and isn >= 0
    end(p, fd, listener)


def test_a_rst_in_close_wait_is_a_broken_pipe() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    p.rx("F.", 1001, isn + 1)
    p.rx("R", 1002)
    assert p.send(p.task, fd, b"x") == -EPIPE
    end(p, fd, listener)


def test_abort_ends_a_sock_of_any_kind() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    sk = tcp_sk(p.task, fd)
    assert tcp.tcp_abort(sk, ECONNABORTED) == 0
    assert p.tx1().flags & 4
    assert p.recv(p.task, fd, 1) == -ECONNABORTED
    assert tcp.tcp_abort(sk, ECONNABORTED) == -ENOENT
    # a request, and a TIME_WAIT sock
    hinfo = p.kernel.inet_hashinfo
    assert hinfo is not None
    p.sport = 5001
    p.rx("S", 1000, options=MSS1460)
    (req,) = hinfo.ehash.values()
    assert tcp.tcp_abort(req, ECONNABORTED) == 0
    assert not hinfo.ehash
    p.tx()
    isn = p.handshake(MSS1460)
    conn = p.accept(p.task, listener)
    p.close(p.task, conn)
    p.rx(".", 1001, isn + 2)
    (tw,) = hinfo.ehash.values()
    assert tcp.tcp_abort(tw, ECONNABORTED) == 0
    end(p, fd, listener)


def test_shutdown_both_ways_and_close() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    p.shutdown(p.task, fd, SHUT_RDWR)
    assert p.tx1().flags == 0x11
    p.close(p.task, fd)
    p.rx(".", 1001, isn + 2)
    p.rx("F.", 1001, isn + 2)
    end(p, listener)


# -- TIME_WAIT -------------------------------------------------------------------------------------------------------------


def in_time_wait(p: Peer, options: bytes = MSS1460) -> tuple[int, int]:
    """(listener, our isn) with a connection in TIME_WAIT."""
    listener, fd, isn = p.open_passive(options)
    p.close(p.task, fd)
    p.rx(".", 1001, isn + 2)
    p.rx("F.", 1001, isn + 2)
    p.tx()
    assert tw_count(p) == 1
    return listener, isn


def test_time_wait_acknowledges_the_fin_again() -> None:
    p = Peer()
    listener, isn = in_time_wait(p)
    p.rx("F.", 1001, isn + 2)
    ack = p.tx1()
    assert ack.flags == 0x10 and ack.seq == (isn + 2) & 0xFFFFFFFF and ack.ack == 1002
    p.rx(".", 900, isn + 2)
    assert p.tx1().flags == 0x10
    p.rx(".", 900, isn + 2)
    assert p.silent()  # not twice within tcp_invalid_ratelimit; a FIN is no part of a loop of ACKs
    p.rx("F.", 1001, isn + 2)
    assert p.tx1().flags == 0x10
    p.run(600 * MS)
    p.rx(".", 900, isn + 2)
    assert p.tx1().flags == 0x10
    end(p, listener)


def test_a_rst_assassinates_time_wait_unless_rfc1337_is_heeded() -> None:
    p = Peer()
    listener, isn = in_time_wait(p)
    p.rx("R", 1002, isn + 2)
    assert tw_count(p) == 0 and p.silent()
    p.net.ipv4.sysctl_tcp_rfc1337 = 1
    p.close(p.task, listener)
    p.sport = 5001
    listener, isn = in_time_wait(p)
    p.rx("R", 1002, isn + 2)
    assert tw_count(p) == 1
    end(p, listener)


@pytest.mark.rfc9293("MAY-2")
def test_a_new_syn_beyond_the_old_numbers_reopens_the_connection() -> None:
    p = Peer()
    listener, isn = in_time_wait(p)
    p.rx("S", 900, options=MSS1460)  # an old one
    assert p.tx1().flags == 0x10
    p.rx("S", 5000, options=MSS1460)
    synack = p.tx1()
    assert synack.flags == 0x12 and synack.ack == 5001
    assert synack.seq == (isn + 2 + 65535 + 2) & 0xFFFFFFFF
    assert tw_count(p) == 0
    p.rx(".", 5001, synack.seq + 1)
    fd = p.accept(p.task, listener)
    assert fd >= 0
    p.rx("R", 5001)
    end(p, fd, listener)


def test_too_many_time_wait_socks_just_close() -> None:
    p = Peer()
    p.net.ipv4.sysctl_tcp_max_tw_buckets = 0
    listener, fd, isn = p.open_passive(MSS1460)
    p.close(p.task, fd)
    p.rx(".", 1001, isn + 2)
    assert tw_count(p) == 0
    assert p.net.net_statistics[LINUX_MIB_TCPTIMEWAITOVERFLOW] == 1
    end(p, listener)


def test_time_wait_is_counted() -> None:
    p = Peer()
    listener, _ = in_time_wait(p)
    assert p.net.ipv4.tw_count == 1
    assert p.net.net_statistics[LINUX_MIB_TIMEWAITED] == 1
    assert p.net.net_statistics[LINUX_MIB_TIMEWAITKILLED] == 0
    end(p, listener)
    assert p.net.ipv4.tw_count == 0


@pytest.mark.rfc9293("SHLD-4")
def test_connect_takes_the_four_tuple_of_a_time_wait_sock_when_timestamps_make_it_safe() -> None:
    p = Peer()
    options = syn_options(1460, 7, True, True, 100, 0)
    fd, isn = p.open_active(options)
    port = p.dport
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_REUSEADDR, 1)
    p.close(p.task, fd)
    p.tx()
    p.rx(".", 1001, isn + 2, options=ts_options(True, 101, 0, None))
    p.rx("F.", 1001, isn + 2, options=ts_options(True, 102, 0, None))
    p.tx()
    assert tw_count(p) == 1
    p.run(2 * SEC)
    # by bind(): the port was asked for, so it may be taken
    fd = p.socket(p.task, nonblock=True)
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_REUSEADDR, 1)
    assert syscalls.sys_bind(p.task, fd, pack_sockaddr_in(A, port)) == 0
    assert p.connect(p.task, fd, B, 80) == -115
    syn = p.tx1()
    assert syn.sport == port and syn.seq == (isn + 2 + 65537) & 0xFFFFFFFF
    assert p.net.net_statistics[LINUX_MIB_TIMEWAITRECYCLED] == 1
    end(p, fd)


def test_many_connections_come_and_go_without_a_trace() -> None:
    p = Pair()
    listener = p.listener(p.tb, 80)
    for i in range(50):
        c = p.socket(p.ta)
        assert p.connect(p.ta, c, B, 80) == 0
        s = p.accept(p.tb, listener)
        p.send(p.ta, c, b"x" * i * 100)
        if i % 3 == 0:
            p.close(p.tb, s)
            p.close(p.ta, c)
        elif i % 3 == 1:
            p.recv(p.tb, s, 100000)
            p.close(p.ta, c)
            p.close(p.tb, s)
        else:
            p.shutdown(p.ta, c, SHUT_WR)
            p.close(p.tb, s)
            p.close(p.ta, c)
        p.run(MS)
    p.close(p.tb, listener)
    p.run(3 * MINUTE)
    p.assert_nothing_left()
    prot = tcp_ipv4.tcp_prot(p.kernel)
    assert prot.memory_allocated == 0
    assert p.kernel.timers.pending <= 12
