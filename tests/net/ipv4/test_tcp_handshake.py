"""Opening: connect, listen, accept, requests and their timers, the accept queue, RSTs. One packet per line."""

from __future__ import annotations

import pytest

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.core.sock import sock_prot_inuse_get
from afinet.net.ipv4 import tcp_ipv4
from afinet.uapi.errno import (
    EAGAIN,
    EALREADY,
    ECONNREFUSED,
    ECONNRESET,
    EHOSTUNREACH,
    EINPROGRESS,
    EINVAL,
    EIOCBQUEUED,
    EISCONN,
    ENETUNREACH,
    ENOTCONN,
    EPIPE,
    ETIMEDOUT,
)
from afinet.uapi.eventpoll import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLRDNORM, EPOLLWRNORM
from afinet.uapi.snmp import (
    LINUX_MIB_EMBRYONICRSTS,
    LINUX_MIB_LISTENDROPS,
    LINUX_MIB_LISTENOVERFLOWS,
    LINUX_MIB_TCPTIMEOUTS,
    TCP_MIB_ACTIVEOPENS,
    TCP_MIB_ATTEMPTFAILS,
    TCP_MIB_CURRESTAB,
    TCP_MIB_OUTRSTS,
    TCP_MIB_PASSIVEOPENS,
)
from afinet.uapi.sockaddr import pack_sockaddr_in, unpack_sockaddr_in
from afinet.uapi.socket import SHUT_RDWR
from afinet.uapi.tcp import TCP_CLOSE, TCP_DEFER_ACCEPT, TCP_ESTABLISHED, TCP_SYN_SENT
from afinet.wire import ip as wire_ip
from afinet.wire import tcp as wire_tcp
from tests.net.ipv4.iphost import addr, icmp_packet
from tests.net.ipv4.tcphost import MS, MSS1460, SEC, A, B, Pair, Peer, syn_options, tcp_sk

READABLE = EPOLLIN | EPOLLRDNORM
WRITABLE = EPOLLOUT | EPOLLWRNORM


# -- two hosts -------------------------------------------------------------------------------------------------------------


def test_connect_accept_one_byte_each_way_and_close() -> None:
    p = Pair()
    client, server, listener = p.established()
    assert p.send(p.ta, client, b"x") == 1
    assert p.recv(p.tb, server, 10) == b"x"
    assert p.send(p.tb, server, b"y") == 1
    assert p.recv(p.ta, client, 10) == b"y"
    assert p.na.tcp_statistics[TCP_MIB_ACTIVEOPENS] == 1
    assert p.nb.tcp_statistics[TCP_MIB_PASSIVEOPENS] == 1
    assert p.na.tcp_statistics[TCP_MIB_CURRESTAB] == 1
    _, name = syscalls.sys_getpeername(p.tb, server)
    assert unpack_sockaddr_in(name)[0] == A
    assert p.close(p.ta, client) == 0
    assert p.recv(p.tb, server, 10) == b""
    assert p.close(p.tb, server) == 0
    assert p.close(p.tb, listener) == 0
    p.run(70 * SEC)
    assert p.na.tcp_statistics[TCP_MIB_CURRESTAB] == 0
    p.assert_nothing_left()
    prot = tcp_ipv4.tcp_prot(p.kernel)
    assert sock_prot_inuse_get(p.na, prot) == 0 and sock_prot_inuse_get(p.nb, prot) == 0


def test_a_blocking_connect_waits_and_a_second_one_says_what_goes_on() -> None:
    p = Pair()
    p.listener(p.tb, 80)
    fd = p.socket(p.ta, nonblock=True)
    to = pack_sockaddr_in(B, 80)
    assert syscalls.sys_connect(p.ta, Kiocb(), fd, to) in (-EINPROGRESS, 0)
    p.run(MS)
    assert p.poll(p.ta, fd) == WRITABLE
    assert syscalls.sys_connect(p.ta, Kiocb(), fd, to) in (0, -EISCONN)
    assert syscalls.sys_connect(p.ta, Kiocb(), fd, to) == -EISCONN


def test_connecting_to_nobody_is_refused() -> None:
    p = Pair()
    fd = p.socket(p.ta)
    assert p.connect(p.ta, fd, B, 81) == -ECONNREFUSED
    assert p.nb.tcp_statistics[TCP_MIB_OUTRSTS] == 1
    assert p.na.tcp_statistics[TCP_MIB_ATTEMPTFAILS] == 1
    # the sock can try again
    p.listener(p.tb, 81)
    assert p.connect(p.ta, fd, B, 81) == 0


def test_connecting_to_oneself_over_loopback_works() -> None:
    p = Pair()
    listener = p.listener(p.ta, 80)
    fd = p.socket(p.ta)
    assert p.connect(p.ta, fd, addr("127.0.0.1"), 80) == 0
    server = p.accept(p.ta, listener)
    assert p.send(p.ta, fd, b"hello") == 5
    assert p.recv(p.ta, server, 10) == b"hello"


def test_a_sock_can_connect_to_itself() -> None:
    """Simultaneous open with oneself: what a sock does whose own port is the one it connects to."""
    p = Pair()
    fd = p.socket(p.ta)
    assert syscalls.sys_bind(p.ta, fd, pack_sockaddr_in(A, 5555)) == 0
    assert p.connect(p.ta, fd, A, 5555) == 0
    assert p.send(p.ta, fd, b"echo") == 4
    assert p.recv(p.ta, fd, 10) == b"echo"


# -- an active open, one packet per line -------------------------------------------------------------------------------------


def test_the_syn_is_linuxs() -> None:
    p = Peer()
    fd = p.socket(p.task, nonblock=True)
    assert p.connect(p.task, fd, B, 80) == -EINPROGRESS
    syn = p.tx1()
    assert syn.flags == 2 and syn.ack == 0 and syn.window == 64240 and syn.ttl == 64 and syn.frag_off == 0x4000
    assert syn.options[:8] == bytes.fromhex("020405b40402080a") and syn.options[16:] == bytes.fromhex("0103030a")
    assert tcp_sk(p.task, fd).sk_state == TCP_SYN_SENT
    assert p.poll(p.task, fd) == 0


@pytest.mark.rfc9293("MUST-22")
def test_a_syn_is_sent_again_and_then_the_connection_times_out() -> None:
    """tcp_syn_linear_timeouts 4 come on top of tcp_syn_retries 6: the last SYN after 67 seconds, the end after 131."""
    p = Peer()
    fd = p.socket(p.task, nonblock=True)
    p.connect(p.task, fd, B, 80)
    start = p.kernel.now
    at = []
    p.tx()
    for _ in range(200):
        p.run(SEC)
        at.extend([round((p.kernel.now - start) / SEC)] * len(p.tx()))
    assert at == [1, 2, 3, 4, 5, 7, 11, 19, 35, 67]
    assert p.so_error(p.task, fd) == ETIMEDOUT
    assert tcp_sk(p.task, fd).sk_state == TCP_CLOSE
    p.close(p.task, fd)
    p.assert_nothing_left()


def test_a_rst_refuses_only_if_it_acknowledges_the_syn() -> None:
    p = Peer()
    fd = p.socket(p.task, nonblock=True)
    p.connect(p.task, fd, B, 80)
    syn = p.tx1()
    p.sport, p.dport = 80, syn.sport
    p.rx("R", 0)
    p.rx("R.", 0, syn.seq)
    assert tcp_sk(p.task, fd).sk_state == TCP_SYN_SENT
    p.tx()
    p.rx("R.", 0, syn.seq + 1)
    assert p.poll(p.task, fd) == READABLE | WRITABLE | EPOLLERR | EPOLLHUP | EPOLLRDHUP
    assert p.so_error(p.task, fd) == ECONNREFUSED
    assert p.silent()


def test_a_wrong_ack_in_syn_sent_gets_a_rst_and_the_syn_goes_on() -> None:
    p = Peer()
    fd = p.socket(p.task, nonblock=True)
    p.connect(p.task, fd, B, 80)
    syn = p.tx1()
    p.sport, p.dport = 80, syn.sport
    p.rx("S.", 500, syn.seq + 2)
    rst = p.tx1()
    assert rst.flags == 4 and rst.seq == (syn.seq + 2) & 0xFFFFFFFF
    p.rx("S.", 500, syn.seq + 1, options=MSS1460)
    ack = p.tx1()
    assert ack.flags == 0x10 and ack.ack == 501
    assert tcp_sk(p.task, fd).sk_state == TCP_ESTABLISHED


@pytest.mark.rfc9293("MUST-10")
def test_simultaneous_open() -> None:
    p = Peer()
    fd = p.socket(p.task, nonblock=True)
    p.connect(p.task, fd, B, 80)
    syn = p.tx1()
    p.sport, p.dport = 80, syn.sport
    p.rx("S", 500, options=MSS1460)
    synack = p.tx1()
    assert synack.flags == 0x12 and synack.seq == syn.seq and synack.ack == 501
    p.rx("S.", 500, syn.seq + 1, options=MSS1460)
    p.tx()
    assert tcp_sk(p.task, fd).sk_state == TCP_ESTABLISHED
    assert p.send(p.task, fd, b"x") == 1
    assert p.tx1().data == b"x"


@pytest.mark.rfc9293("SHLD-26")
def test_an_icmp_unreachable_ends_a_connection_that_is_being_made() -> None:
    for code, errno in ((0, ENETUNREACH), (1, EHOSTUNREACH), (3, ECONNREFUSED)):
        p = Peer()
        fd = p.socket(p.task, nonblock=True)
        p.connect(p.task, fd, B, 80)
        syn = p.tx1()
        th = wire_tcp.emit(syn.sport, 80, syn.seq, 0, 2, 64240, 0, 0, b"")
        p.host.receive(icmp_packet(3, code, 0, wire_ip.emit(0, 40, 0, 0x4000, 64, 6, A, B) + th))
        assert p.so_error(p.task, fd) == errno
        assert p.silent()


def test_an_icmp_error_out_of_window_is_counted_and_ignored() -> None:
    p = Peer()
    fd = p.socket(p.task, nonblock=True)
    p.connect(p.task, fd, B, 80)
    syn = p.tx1()
    th = wire_tcp.emit(syn.sport, 80, syn.seq + 100 & 0xFFFFFFFF, 0, 2, 64240, 0, 0, b"")
    p.host.receive(icmp_packet(3, 1, 0, wire_ip.emit(0, 40, 0, 0x4000, 64, 6, A, B) + th))
    assert tcp_sk(p.task, fd).sk_state == TCP_SYN_SENT
    assert p.net.net_statistics[7] == 1  # OutOfWindowIcmps


def test_connect_af_unspec_takes_the_connection_back() -> None:
    p = Peer()
    fd = p.socket(p.task, nonblock=True)
    p.connect(p.task, fd, B, 80)
    p.tx()
    assert syscalls.sys_connect(p.task, Kiocb(), fd, pack_sockaddr_in(B, 80)) == -EALREADY
    assert syscalls.sys_connect(p.task, Kiocb(), fd, bytes(16)) == 0
    assert p.silent()
    p.run(5 * SEC)
    assert p.silent()
    assert p.connect(p.task, fd, B, 80) == -EINPROGRESS
    assert p.tx1().flags == 2


# -- a passive open ----------------------------------------------------------------------------------------------------------


def test_the_syn_ack_answers_what_the_syn_offered() -> None:
    p = Peer()
    p.listener(p.task, 80)
    p.rx("S", 1000, options=syn_options(1400, 7, True, True, 55, 0), win=65535)
    synack = p.tx1()
    assert synack.flags == 0x12 and synack.ack == 1001 and synack.window == 65160
    assert synack.options[:8] == bytes.fromhex("020405b40402080a")
    assert synack.options[12:16] == (55).to_bytes(4, "big")
    assert synack.options[16:] == bytes.fromhex("0103030a")
    p.sport = 5001
    p.rx("S", 1000)
    bare = p.tx1()
    assert bare.options == bytes.fromhex("020405b4") and bare.window == 64240


def test_a_syn_ack_is_sent_again_five_times_and_then_the_request_is_forgotten() -> None:
    p = Peer()
    fd = p.listener(p.task, 80)
    p.rx("S", 1000, options=MSS1460)
    start = p.kernel.now
    at = [0]
    p.tx()
    queue = tcp_sk(p.task, fd).icsk_accept_queue
    assert queue is not None and (queue.qlen, queue.young) == (1, 1)
    for _ in range(70):
        p.run(SEC)
        at.extend([round((p.kernel.now - start) / SEC)] * len(p.tx()))
    assert at == [0, 1, 3, 7, 15, 31]
    assert (queue.qlen, queue.young) == (0, 0)
    assert p.net.net_statistics[LINUX_MIB_TCPTIMEOUTS] == 6
    p.close(p.task, fd)
    p.assert_nothing_left()


def test_the_syn_again_brings_the_same_syn_ack_again() -> None:
    p = Peer()
    p.listener(p.task, 80)
    p.rx("S", 1000, options=MSS1460)
    first = p.tx1()
    p.run(600 * MS)
    p.rx("S", 1000, options=MSS1460)
    again = p.tx1()
    assert again.seq == first.seq and again.flags == 0x12


def test_a_wrong_ack_for_a_request_gets_a_rst_from_the_listener() -> None:
    p = Peer()
    fd = p.listener(p.task, 80)
    p.rx("S", 1000, options=MSS1460)
    synack = p.tx1()
    p.rx(".", 1001, synack.seq + 2)
    rst = p.tx1()
    assert rst.flags == 4 and rst.seq == (synack.seq + 2) & 0xFFFFFFFF
    assert tcp_sk(p.task, fd).sk_ack_backlog == 0
    p.rx(".", 1001, synack.seq + 1)
    assert p.accept(p.task, fd) >= 0


def test_a_rst_forgets_a_request() -> None:
    p = Peer()
    fd = p.listener(p.task, 80)
    p.rx("S", 1000, options=MSS1460)
    p.tx()
    p.rx("R", 1001)
    assert p.silent()
    assert p.net.net_statistics[LINUX_MIB_EMBRYONICRSTS] == 1
    queue = tcp_sk(p.task, fd).icsk_accept_queue
    assert queue is not None and queue.qlen == 0
    p.close(p.task, fd)
    p.assert_nothing_left()


def test_data_with_the_last_ack_is_there_at_once() -> None:
    p = Peer()
    fd = p.listener(p.task, 80)
    p.rx("S", 1000, options=MSS1460)
    synack = p.tx1()
    p.rx("P.", 1001, synack.seq + 1, b"early")
    conn = p.accept(p.task, fd)
    assert p.recv(p.task, conn, 10) == b"early"


def test_the_accept_queue_takes_one_more_than_the_backlog_and_then_drops() -> None:
    p = Peer()
    fd = p.listener(p.task, 80, backlog=1)
    seqs = {}
    for port in range(5000, 5004):
        p.sport = port
        p.rx("S", 1000, options=MSS1460)
        out = p.tx()
        if out:
            seqs[port] = out[0].seq
            p.rx(".", 1001, out[0].seq + 1)
    assert sorted(seqs) == [5000, 5001]
    assert tcp_sk(p.task, fd).sk_ack_backlog == 2
    assert p.net.net_statistics[LINUX_MIB_LISTENOVERFLOWS] == 2
    assert p.net.net_statistics[LINUX_MIB_LISTENDROPS] == 2
    assert p.accept(p.task, fd) >= 0
    p.sport = 5002
    p.rx("S", 1000, options=MSS1460)
    assert p.tx1().flags == 0x12


def test_accept_hands_out_connections_in_order_and_wakes_one_waiter_each() -> None:
    p = Peer()
    fd = p.listener(p.task, 80)
    iocb = Kiocb()
    assert syscalls.sys_accept4(p.task, iocb, fd, 0)[0] == -EIOCBQUEUED
    assert iocb.ki_exclusive and iocb.ki_mask & EPOLLIN
    for port in (5000, 5001, 5002):
        p.sport = port
        p.handshake(MSS1460)
    assert p.poll(p.task, fd) == READABLE
    ports = []
    for _ in range(3):
        conn = p.accept(p.task, fd)
        ports.append(unpack_sockaddr_in(syscalls.sys_getpeername(p.task, conn)[1])[1])
    assert ports == [5000, 5001, 5002]
    nonblocking = p.socket(p.task, nonblock=True)
    assert syscalls.sys_accept4(p.task, Kiocb(), nonblocking, 0)[0] == -EINVAL
    syscalls.abandon(iocb)


def test_a_connection_that_was_reset_before_accept_is_handed_out_dead() -> None:
    """Linux does not take it out of the queue; the error shows at the first read."""
    p = Peer()
    fd = p.listener(p.task, 80)
    isn = p.handshake(MSS1460)
    p.rx("R", 1001)
    conn = p.accept(p.task, fd)
    assert conn >= 0
    assert p.recv(p.task, conn, 1) == -ECONNRESET
    assert isn >= 0


def test_closing_a_listener_resets_what_nobody_accepted() -> None:
    p = Peer()
    fd = p.listener(p.task, 80)
    isn = p.handshake(MSS1460)
    p.sport = 5001
    p.rx("S", 1000, options=MSS1460)  # a request that is not finished
    p.tx()
    p.close(p.task, fd)
    rst = p.tx1()
    assert rst.flags & 4 and rst.dport == 5000 and rst.seq == (isn + 1) & 0xFFFFFFFF
    p.rx(".", 1001, 1)  # the request has no listener any more
    assert p.tx1().flags == 4
    p.run(5 * SEC)
    p.assert_nothing_left()


def test_shutdown_of_a_listener_wakes_accept_with_einval() -> None:
    p = Peer()
    fd = p.listener(p.task, 80)
    iocb = Kiocb()
    assert syscalls.sys_accept4(p.task, iocb, fd, 0)[0] == -EIOCBQUEUED
    assert p.shutdown(p.task, fd, SHUT_RDWR) == 0
    assert syscalls.sys_accept4(p.task, iocb, fd, 0)[0] == -EINVAL


def test_defer_accept_waits_for_data() -> None:
    p = Peer()
    fd = p.listener(p.task, 80)
    assert p.setsockopt(p.task, fd, 6, TCP_DEFER_ACCEPT, 5) == 0
    p.rx("S", 1000, options=MSS1460)
    synack = p.tx1()
    p.rx(".", 1001, synack.seq + 1)
    assert p.poll(p.task, fd) == 0
    assert p.silent()
    p.rx("P.", 1001, synack.seq + 1, b"GET")
    assert p.poll(p.task, fd) == READABLE
    conn = p.accept(p.task, fd)
    assert p.recv(p.task, conn, 10) == b"GET"


def test_an_unconnected_sock_says_so() -> None:
    p = Peer()
    fd = p.socket(p.task, nonblock=True)
    assert p.recv(p.task, fd, 10) == -ENOTCONN
    assert p.send(p.task, fd, b"x") == -EPIPE
    assert p.shutdown(p.task, fd, SHUT_RDWR) == -ENOTCONN
    assert p.poll(p.task, fd) == WRITABLE | EPOLLHUP | READABLE | EPOLLRDHUP
    fd = p.socket(p.task, nonblock=True)
    assert p.poll(p.task, fd) == WRITABLE | EPOLLHUP
    assert syscalls.sys_accept4(p.task, Kiocb(), fd, 0)[0] == -EINVAL
    assert syscalls.sys_connect(p.task, Kiocb(), fd, b"\2\0") == -EINVAL


def test_nothing_is_answered_with_a_rst_that_is_one() -> None:
    p = Peer()
    p.rx("S", 100)
    rst = p.tx1()
    assert rst.flags == 0x14 and rst.seq == 0 and rst.ack == 101
    p.rx("S.", 100, 77)
    rst = p.tx1()
    assert rst.flags == 4 and rst.seq == 77
    p.rx("F", 100, 0, b"abc")
    assert p.tx1().ack == 104
    p.rx("R", 100)
    p.rx("R.", 100, 5)
    assert p.silent()


def test_reading_with_nothing_there_says_eagain() -> None:
    p = Peer()
    _, fd, _ = p.open_passive(MSS1460)
    ret, _, _ = syscalls.sys_recvfrom(p.task, Kiocb(), fd, 10, 0x40)
    assert ret == -EAGAIN
