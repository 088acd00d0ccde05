"""Requirements of RFC 9293 that no other test shows, section by section. docs/conformance.md lists them all."""

from __future__ import annotations

import pytest

from afinet.init import syscalls
from afinet.kernel.sysctl import sysctl_write
from afinet.net.core import dev as dev_core
from afinet.net.core.sock import lock_sock, release_sock
from afinet.net.ipv4.tcp_inline import TCP_URG_NOTYET
from afinet.uapi.errno import EAGAIN, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT
from afinet.uapi.eventpoll import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLPRI
from afinet.uapi.in_ import IPPROTO_IP, IPPROTO_TCP
from afinet.uapi.sockaddr import pack_cmsg, pack_s32, pack_sockaddr_in
from afinet.uapi.socket import SO_KEEPALIVE, SO_OOBINLINE, SO_RCVBUF, SO_REUSEADDR, SOL_SOCKET
from afinet.uapi.sockios import SIOCATMARK
from afinet.uapi.tcp import (
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
)
from afinet.wire import ip as wire_ip
from afinet.wire import tcp as wire_tcp
from afinet.wire.checksum import csum_partial, csum_tcpudp_nofold
from tests.net.ipv4.iphost import addr, icmp_packet
from tests.net.ipv4.tcphost import MS, MSS1460, SEC, A, B, Peer, Segment, syn_options, tcp_sk, ts_options
from tests.net.ipv4.test_tcp_input import Receiver
from tests.net.ipv4.test_tcp_recovery import PLAIN_SYN, Sender

MSG_OOB, MSG_ERRQUEUE, MSG_DONTWAIT = 1, 0x2000, 0x40
IP_TOS, IP_TTL, IP_OPTIONS, IP_PKTOPTIONS, IP_RECVERR, IP_RECVTOS = 1, 2, 4, 9, 11, 13
HOUR = 3600 * SEC


def kinds(options: bytes) -> list[int]:
    """The kinds of options, which must all be whole."""
    out = []
    i = 0
    while i < len(options):
        out.append(options[i])
        if options[i] <= 1:
            i += 1
            continue
        assert 2 <= options[i + 1] <= len(options) - i
        i += options[i + 1]
    return out


def quoted(p: Peer, s: Segment, type: int, code: int, rest: int = 0) -> None:
    """An ICMP error from the peer about a segment that we sent."""
    th = wire_tcp.emit(s.sport, s.dport, s.seq, s.ack, s.flags, s.window, 0, 0, b"")
    p.host.receive(icmp_packet(type, code, rest, wire_ip.emit(0, 40, 0, 0x4000, 64, 6, A, B) + th))


def segment(sport: int, flags: int, seq: int, ack: int = 0, saddr: int = B, daddr: int = A, options: bytes = b"") -> bytes:
    """A segment to port 80 with IP options, from and to anywhere."""
    sum = csum_partial(b"", 0, 0, csum_tcpudp_nofold(saddr, daddr, 20, 6, 0))
    th = wire_tcp.emit_csum(sport, 80, seq, ack, flags, 1000, 0, b"", sum)
    return wire_ip.emit(0, 40 + len(options), 1, 0x4000, 64, 6, saddr, daddr, options) + th


def syn_sent(p: Peer, options: dict[int, int | bytes] | None = None) -> tuple[int, Segment]:
    """A descriptor that connects to the peer, and its SYN."""
    fd = p.socket(p.task, nonblock=True)
    for name, value in (options or {}).items():
        assert p.setsockopt(p.task, fd, IPPROTO_IP, name, value) == 0
    p.connect(p.task, fd, B, 80)
    syn = p.tx1()
    p.sport, p.dport = 80, syn.sport
    return fd, syn


# -- 3.1: header and options -----------------------------------------------------------------------------------------------


@pytest.mark.rfc9293("MUST-1", "REC-1")
def test_a_window_is_unsigned_and_with_its_scale_32_bits_wide() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(syn_options(1460, 14, False, False, 0, 0))
    p.rx(".", p.ISN + 1, isn + 1, win=0xFFFF)
    assert tcp_sk(p.task, fd).snd_wnd == 0xFFFF << 14


@pytest.mark.rfc9293("MUST-2")
def test_every_segment_goes_out_with_a_right_checksum() -> None:
    p = Peer()
    _, fd, isn = p.open_passive()  # Segment verifies the SYN-ACK's, as all below
    end = isn + 1
    for size in (1, 2, 535, 536, 5000):
        p.send(p.task, fd, b"x" * size)
        end += size
        p.rx(".", p.ISN + 1, end)
    p.close(p.task, fd)
    p.rx("P.", p.ISN + 1, end, b"late")
    assert {s.flags & 0x17 for s in p.tx()} >= {0x10, 0x11, 0x04}


@pytest.mark.rfc9293("MUST-4", "MUST-6", "MUST-14", "MUST-64")
@pytest.mark.parametrize(
    "options",
    [
        b"\2\4\3\xe8",
        b"\1\2\4\3\xe8\0\0\0",  # at an odd place, and the end of the list
        b"\1\1\1\2\4\3\xe8\1",
        b"\xfd\4\xab\xcd\2\4\3\xe8",  # behind one that nobody knows
        b"\xfe\7abcde\2\4\3\xe8\0",
    ],
)
def test_an_mss_of_1000_is_found_and_kept_to_wherever_it_stands(options: bytes) -> None:
    p = Peer()
    _, fd, _ = p.open_passive(options)
    p.send(p.task, fd, b"x" * 2000)
    assert [len(s.data) for s in p.tx()] == [1000, 1000]


@pytest.mark.rfc9293("MUST-5")
def test_options_may_come_with_any_segment() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.rx("P.", p.ISN + 1, isn + 1, b"data", options=b"\1\1\1\1\xfd\4\xab\xcd" + ts_options(True, 7, 7, None))
    p.rx("F.", p.ISN + 5, isn + 1, options=b"\2\4\0\x64")
    assert p.recv(p.task, fd, 10) == b"data"
    assert p.recv(p.task, fd, 10) == b""
    assert tcp_sk(p.task, fd).mss_cache == 1460  # the MSS of a FIN says nothing


@pytest.mark.rfc9293("MUST-65", "MUST-68", "MUST-69", "MAY-3")
def test_our_options_are_whole_and_padded_by_nops_and_the_mss_comes_with_each_syn_and_nothing_else() -> None:
    p = Peer()
    fd, syn = syn_sent(p)
    assert 2 in kinds(syn.options)
    p.rx("S.", p.ISN, syn.seq + 1, options=syn_options(1460, 7, True, True, 5, syn.seq & 1))
    p.send(p.task, fd, b"x" * 3000)
    p.rx("P.", p.ISN + 100, syn.seq + 1, b"hole")
    p.close(p.task, fd)
    others = p.tx()
    q = Peer()
    q.listener(q.task, 80)
    q.rx("S", q.ISN, options=MSS1460)
    assert 2 in kinds(q.tx1().options)
    assert len(others) >= 4
    for s in (syn, *others):
        assert 0 not in kinds(s.options)  # no end of list, so no padding behind one
        assert (2 in kinds(s.options)) == (s.flags & 2 != 0)


# -- 3.4, 3.5: initial numbers, the handshake ------------------------------------------------------------------------------


@pytest.mark.rfc9293("MUST-8", "SHLD-1")
def test_the_initial_number_of_a_four_tuple_follows_a_clock() -> None:
    p = Peer()
    p.listener(p.task, 80)
    numbers = []
    for wait in (0, 64 * 1000, 10 * SEC):
        p.run(wait)
        p.rx("S", p.ISN)
        numbers.append(p.tx1().seq)
        p.rx("R", p.ISN + 1)
    assert numbers[1] - numbers[0] & 0xFFFFFFFF == 1000
    assert numbers[2] - numbers[1] & 0xFFFFFFFF == 10 * SEC // 64


@pytest.mark.rfc9293("MUST-9", "SHLD-1")
def test_one_initial_number_says_nothing_of_another_connections_or_another_machines() -> None:
    numbers = []
    for seed in (b"one", b"other"):
        p = Peer(seed)
        p.listener(p.task, 80)
        for port in (5000, 5001, 5002):
            p.sport = port
            p.rx("S", p.ISN)
            numbers.append(p.tx1().seq)
    assert len({n >> 12 for n in numbers}) == len(numbers)
    assert numbers[2] - numbers[1] != numbers[1] - numbers[0]


@pytest.mark.rfc9293("MUST-11")
def test_a_rst_in_syn_received_leaves_the_listener_and_ends_who_connected() -> None:
    p = Peer()
    listener = p.listener(p.task, 80)
    p.rx("S", p.ISN)
    p.rx("R", p.ISN + 1, p.tx1().seq)
    p.handshake()
    assert p.accept(p.task, listener) >= 0
    q = Peer()
    fd, syn = syn_sent(q)
    q.rx("S", q.ISN)
    assert tcp_sk(q.task, fd).sk_state == TCP_SYN_RECV
    q.rx("R.", q.ISN + 1, syn.seq + 1)
    assert tcp_sk(q.task, fd).sk_state == TCP_CLOSE
    assert q.so_error(q.task, fd) in (ECONNRESET, ECONNREFUSED)


@pytest.mark.rfc9293("SHLD-2")
def test_a_rst_may_carry_data() -> None:
    p = Peer()
    _, fd, isn = p.open_passive()
    p.rx("R.", p.ISN + 1, isn + 1, b"out of memory")
    assert p.recv(p.task, fd, 100) == -ECONNRESET


# -- 3.6: closing ----------------------------------------------------------------------------------------------------------


@pytest.mark.rfc9293("MUST-12")
def test_a_program_can_tell_a_close_from_an_abort() -> None:
    p = Peer()
    _, fd, isn = p.open_passive()
    p.rx("F.", p.ISN + 1, isn + 1)
    assert p.recv(p.task, fd, 1) == b""
    q = Peer()
    _, fd, isn = q.open_passive()
    q.rx("R.", q.ISN + 1, isn + 1)
    assert q.recv(q.task, fd, 1) == -ECONNRESET


@pytest.mark.rfc9293("MUST-13")
def test_who_closes_first_waits_for_twice_30_seconds() -> None:
    p = Peer()
    _, fd, isn = p.open_passive()
    p.close(p.task, fd)
    p.rx("F.", p.ISN + 1, isn + 2)
    p.tx()
    p.run(59 * SEC)
    p.rx("P.", p.ISN, isn + 2, b"x")  # old, and answered by what waits; it does not begin anew, or the next would be too
    assert p.tx1().flags == 0x10
    p.run(61 * SEC)
    p.sport += 1
    p.rx(".", p.ISN, isn + 2)
    assert p.tx1().flags == 0x04
    p.sport -= 1
    p.rx("P.", p.ISN, isn + 2, b"x")
    assert p.tx1().flags == 0x04  # nobody is there


# -- 3.7: segments ---------------------------------------------------------------------------------------------------------


@pytest.mark.rfc9293("MUST-15")
def test_without_an_mss_option_segments_have_536_bytes() -> None:
    p = Peer()
    _, fd, _ = p.open_passive()
    p.send(p.task, fd, b"x" * 1072)
    assert [len(s.data) for s in p.tx()] == [536, 536]


@pytest.mark.rfc9293("MUST-16", "SHLD-28")
def test_segments_are_as_large_as_the_peers_mss_and_our_own_link_admit_less_the_options() -> None:
    cases = ((1500, 1460, True, 1448), (1500, 9000, False, 1460), (1500, 700, False, 700), (700, 1460, False, 660))
    for mtu, mss, stamped, size in cases:
        p = Peer(mtu=mtu)
        _, fd, isn = p.open_passive(syn_options(mss, -1, False, stamped, 5, 0))
        p.rx(".", p.ISN + 1, isn + 1)
        p.send(p.task, fd, b"x" * 4000)
        assert [len(s.data) for s in p.tx()][:2] == [size, size]


@pytest.mark.rfc9293("MUST-67", "SHLD-5", "SHLD-6")
def test_the_mss_that_we_offer_fits_our_link_and_follows_its_mtu() -> None:
    p = Peer()
    for mtu in (1500, 1000, 576, 1400):
        assert dev_core.dev_set_mtu(p.host.dev, mtu) == 0
        fd, syn = syn_sent(p)
        assert syn.options[:4] == b"\2\4" + (mtu - 40).to_bytes(2, "big")
        p.close(p.task, fd)


@pytest.mark.rfc9293("MUST-17")
def test_tcp_nodelay_sends_each_byte_at_once() -> None:
    p = Peer()
    _, fd, _ = p.open_passive(MSS1460)
    p.setsockopt(p.task, fd, IPPROTO_TCP, TCP_NODELAY, 1)
    for _ in range(3):
        p.send(p.task, fd, b"x")
        assert p.tx1().data == b"x"


# -- 3.8: data -------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc9293("MUST-18")
def test_what_was_retransmitted_is_not_measured() -> None:
    p = Sender(1, PLAIN_SYN)
    p.tx()
    rto, srtt = p.sk.icsk_rto, p.sk.srtt_us
    p.run(rto + 50 * MS)
    assert p.sent() == [0]
    p.run(500 * MS)
    p.ack(1)
    assert p.sk.srtt_us == srtt  # Karn: which of the two was it?
    p.write(1)
    p.run(100 * MS)
    p.ack(2)
    assert p.sk.srtt_us == srtt - (srtt >> 3) + 100_000  # RFC 6298: 7/8 of the old, 1/8 of the new (kept 8-fold)


@pytest.mark.rfc9293("SHLD-10")
def test_r1_is_three_retransmissions() -> None:
    p = Peer()
    assert p.net.ipv4.sysctl_tcp_retries1 == 3


@pytest.mark.rfc9293("MUST-24", "MUST-25", "MUST-26", "MUST-28", "MUST-29", "SHLD-12", "MAY-5")
def test_keepalives_are_asked_for_begin_after_two_idle_hours_and_one_without_an_answer_kills_nobody() -> None:
    p = Sender(0)
    p.run(24 * HOUR)
    assert p.silent()  # nobody asked
    p.setsockopt(p.task, p.fd, SOL_SOCKET, SO_KEEPALIVE, 1)
    p.run(2 * HOUR - SEC)
    p.write(1)
    assert len(p.tx()) == 1
    p.ack(1)
    p.run(2 * HOUR - SEC)
    assert p.silent()  # not idle before
    p.run(2 * SEC)
    probe = p.tx1()
    assert (probe.seq, probe.flags, probe.data) == (p.base + 999, 0x10, b"")
    p.run(76 * SEC)
    assert len(p.tx()) == 1
    assert p.sk.sk_state == TCP_ESTABLISHED
    p.ack(1)
    # While something is outstanding, retransmissions do the asking.
    p.write(1)
    p.run(3 * SEC)
    assert p.sent() and p.mib("TCPKeepAlive") == 2


@pytest.mark.rfc9293("MUST-27")
def test_the_times_of_keepalives_are_the_programs() -> None:
    p = Sender(0)
    for name, value in ((TCP_KEEPIDLE, 5), (TCP_KEEPINTVL, 3), (TCP_KEEPCNT, 2)):
        assert p.setsockopt(p.task, p.fd, IPPROTO_TCP, name, value) == 0
    p.setsockopt(p.task, p.fd, SOL_SOCKET, SO_KEEPALIVE, 1)
    p.run(5 * SEC + 10 * MS)
    assert len(p.tx()) == 1
    p.run(3 * SEC)
    assert len(p.tx()) == 1
    p.run(3 * SEC)
    assert p.tx1().flags == 0x14
    assert p.so_error(p.task, p.fd) == ETIMEDOUT


@pytest.mark.rfc9293("MUST-30", "MUST-62")
def test_the_urgent_pointer_points_behind_the_urgent_byte_both_ways() -> None:
    p = Peer()
    _, fd, isn = p.open_passive()
    p.send(p.task, fd, b"abc", MSG_OOB)
    s = p.tx1()
    assert s.flags & 0x20 and s.urg == 3
    p.rx("PU.", p.ISN + 1, isn + 4, b"wxyz", urg=3)
    assert p.recv(p.task, fd, 1, MSG_OOB) == b"y"


@pytest.mark.rfc9293("MUST-31", "MUST-32", "MUST-33")
def test_urgent_data_of_any_length_is_announced_and_its_end_is_marked() -> None:
    p = Peer()
    _, fd, isn = p.open_passive()
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_OOBINLINE, 1)
    p.rx("U.", p.ISN + 1, isn + 1, b"a" * 500, urg=900)  # the end is still to come
    assert not p.poll(p.task, fd) & EPOLLPRI
    p.rx("U.", p.ISN + 501, isn + 1, b"b" * 500, urg=400)
    assert p.poll(p.task, fd) & EPOLLPRI
    got = p.recv(p.task, fd, 2000)
    assert got == b"a" * 500 + b"b" * 399  # as far as the mark
    err, mark = syscalls.sys_ioctl(p.task, fd, SIOCATMARK, bytes(4))
    assert err == 0 and mark[0] == 1
    assert p.recv(p.task, fd, 2000) == b"b" * 101


@pytest.mark.rfc9293("MUST-66")
def test_with_the_window_shut_rst_and_urgent_pointers_still_count() -> None:
    p = Receiver()
    p.sk.sk_rcvbuf = 4000
    p.sk.sk_userlocks |= 2
    seq = 0
    while p.sk.rcv_wnd:
        p.data(seq, 1000)
        seq = p.sk.rcv_nxt - p.ISN - 1
        p.run(300 * MS)
    p.tx()
    assert p.sk.urg_data == 0
    p.rx("U.", p.ISN + 1 + seq, p.ours, urg=1)
    assert p.sk.urg_data == TCP_URG_NOTYET  # the program will be told when the byte comes
    p.rx("R.", p.ISN + 1 + seq, p.ours)
    assert p.sk.sk_state == TCP_CLOSE


@pytest.mark.rfc9293("MUST-34", "MUST-35", "MUST-37", "SHLD-15", "SHLD-16", "SHLD-17")
def test_a_peer_that_takes_its_window_back_is_sent_nothing_new_but_asked_and_never_timed_out() -> None:
    p = Sender(5, PLAIN_SYN)
    assert p.sent() == [0, 1, 2, 3, 4]
    p.rx(".", p.ISN + 1, p.base + 1000, win=2000)  # [1000, 3000) is left of [1000, 66535)
    p.write(1)
    assert p.silent()
    p.run(p.sk.icsk_rto + 50 * MS)
    assert p.sent() == [1]  # within the window, and again what is oldest
    p.rx(".", p.ISN + 1, p.base + 5000, win=0)
    for _ in range(30):
        p.run(60 * SEC)
        assert all(not s.data for s in p.tx())
        p.rx(".", p.ISN + 1, p.base + 5000, win=0)
    assert p.sk.sk_state == TCP_ESTABLISHED
    p.rx(".", p.ISN + 1, p.base + 5000, win=5000)
    assert p.sent() == [5]


@pytest.mark.rfc9293("SHLD-14", "MAY-8")
def test_the_right_edge_of_our_window_never_moves_left_and_may_stay_for_ever() -> None:
    p = Peer()
    listener = p.listener(p.task, 80)
    p.setsockopt(p.task, listener, SOL_SOCKET, SO_RCVBUF, 20000)
    isn = p.handshake(MSS1460)
    sk = tcp_sk(p.task, p.accept(p.task, listener))
    edge = 0
    for i in range(200):
        p.rx("P.", sk.rcv_nxt, isn + 1, b"d" * min((1460, 700, 1000)[i % 3], sk.rcv_wnd or 1))
        p.run(300 * MS)
        for s in p.tx():
            assert s.ack + s.window >= edge
            edge = s.ack + s.window
    assert sk.rcv_wnd == 0
    p.run(48 * HOUR)
    p.rx("P.", sk.rcv_nxt, isn + 1, b"d")
    assert p.tx1().window == 0 and sk.sk_state == TCP_ESTABLISHED


@pytest.mark.rfc9293("MAY-7")
def test_beyond_a_window_that_was_taken_back_only_the_oldest_data_is_retransmitted() -> None:
    p = Sender(3, PLAIN_SYN)
    p.tx()
    p.rx(".", p.ISN + 1, p.base, win=0)
    p.run(p.sk.icsk_rto * 8)
    assert set(p.sent()) <= {0}
    assert p.sk.sk_state == TCP_ESTABLISHED


@pytest.mark.rfc9293("MUST-59")
def test_what_waits_in_the_backlog_is_all_processed_before_it_is_acknowledged() -> None:
    p = Receiver()
    lock_sock(p.sk)  # a system call is at work on it
    p.data(0, 1000)
    p.data(1000, 1000)
    assert p.silent()
    release_sock(p.sk)
    assert p.acked(p.tx1()) == 2000


# -- 3.9: the interface to programs ----------------------------------------------------------------------------------------


@pytest.mark.rfc9293("MUST-41")
def test_listening_on_a_port_leaves_its_connections_alone() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive()
    p.close(p.task, listener)
    other = p.socket(p.task)
    p.setsockopt(p.task, other, SOL_SOCKET, SO_REUSEADDR, 1)
    tcp_sk(p.task, fd).sk_reuse = 1
    assert syscalls.sys_bind(p.task, other, pack_sockaddr_in(0, 80)) == 0
    assert syscalls.sys_listen(p.task, other, 5) == 0
    p.rx("P.", p.ISN + 1, isn + 1, b"still there")
    assert p.recv(p.task, fd, 100) == b"still there"
    assert p.poll(p.task, other) == 0


@pytest.mark.rfc9293("MUST-42")
def test_a_port_can_be_listened_on_while_a_connection_of_it_is_being_made() -> None:
    p = Peer()
    fd, other = p.socket(p.task, nonblock=True), p.socket(p.task)
    for each in (fd, other):
        p.setsockopt(p.task, each, SOL_SOCKET, SO_REUSEADDR, 1)
        assert syscalls.sys_bind(p.task, each, pack_sockaddr_in(0, 4000)) == 0
    p.connect(p.task, fd, B, 80)
    syn = p.tx1()
    assert tcp_sk(p.task, fd).sk_state == TCP_SYN_SENT and syn.sport == 4000
    assert syscalls.sys_listen(p.task, other, 5) == 0
    p.sport, p.dport = 5000, 4000
    p.handshake()
    assert p.accept(p.task, other) >= 0


@pytest.mark.rfc9293("MUST-43")
def test_a_program_may_choose_its_address() -> None:
    p = Peer()
    fd = p.socket(p.task, nonblock=True)
    far = addr("192.0.2.1")  # that of the other link
    assert syscalls.sys_bind(p.task, fd, pack_sockaddr_in(far, 0)) == 0
    p.connect(p.task, fd, B, 80)
    assert p.tx1().saddr == far


@pytest.mark.rfc9293("MUST-44", "MUST-45")
def test_without_one_the_route_chooses_and_the_connection_stays_with_it() -> None:
    p = Peer()
    fd, syn = syn_sent(p)
    assert syn.saddr == A
    p.rx("S.", p.ISN, syn.seq + 1)
    p.send(p.task, fd, b"x")
    p.close(p.task, fd)
    assert {s.saddr for s in p.tx()} == {A}


@pytest.mark.rfc9293("MUST-46")
@pytest.mark.parametrize("target", ["255.255.255.255", "224.0.0.1", "10.0.0.255"])
def test_nobody_connects_to_many(target: str) -> None:
    p = Peer()
    assert p.connect(p.task, p.socket(p.task, nonblock=True), addr(target), 80) in (-ENETUNREACH, -13)
    assert p.silent()


@pytest.mark.rfc9293("MUST-57", "MUST-63")
def test_a_syn_to_many_or_from_nobody_gets_no_answer() -> None:
    to_many = [("10.0.0.2", "10.0.0.255"), ("10.0.0.2", "224.0.0.1")]
    from_nobody = [(source, "10.0.0.1") for source in ("224.0.0.1", "255.255.255.255", "127.0.0.1")]
    for source, target in to_many + from_nobody:
        p = Peer()
        p.listener(p.task, 80)
        p.host.receive(segment(5000, 2, 1, saddr=addr(source), daddr=addr(target)))
        assert p.silent(), (source, target)


@pytest.mark.rfc9293("MUST-47", "SHLD-20", "SHLD-25")
def test_soft_errors_are_told_to_who_asks() -> None:
    for asked in (0, 1):
        p = Peer()
        _, fd, _ = p.open_passive()
        p.setsockopt(p.task, fd, IPPROTO_IP, IP_RECVERR, asked)
        p.send(p.task, fd, b"x")
        quoted(p, p.tx1(), 3, 1)
        assert p.recv(p.task, fd, 100, MSG_ERRQUEUE | MSG_DONTWAIT) == -EAGAIN
        # Who does not ask is not woken, but SO_ERROR tells.
        assert (p.poll(p.task, fd) & EPOLLERR != 0) == (asked == 1)
        assert p.so_error(p.task, fd) == EHOSTUNREACH
        assert tcp_sk(p.task, fd).sk_state == TCP_ESTABLISHED


@pytest.mark.rfc9293("MUST-48", "MUST-49", "SHLD-21", "SHLD-22")
def test_tos_and_ttl_are_the_programs_and_may_change() -> None:
    p = Peer()
    fd, syn = syn_sent(p, {IP_TOS: 0xB8, IP_TTL: 7})
    assert (syn.tos, syn.ttl) == (0xB8, 7)
    p.rx("S.", p.ISN, syn.seq + 1)
    assert p.tx1().tos == 0xB8
    p.setsockopt(p.task, fd, IPPROTO_IP, IP_TOS, 0x28)
    p.setsockopt(p.task, fd, IPPROTO_IP, IP_TTL, 9)
    p.send(p.task, fd, b"x")
    s = p.tx1()
    assert (s.tos, s.ttl) == (0x28, 9)


@pytest.mark.rfc9293("MUST-50")
def test_ip_options_that_nobody_knows_do_no_harm() -> None:
    p = Peer()
    p.listener(p.task, 80)
    p.host.receive(segment(5000, 2, 1, options=b"\x9e\4\0\0\1\1\1\0"))
    assert p.tx1().flags == 0x12


LSRR = bytes([131, 7, 4])


@pytest.mark.rfc9293("MUST-51")
def test_a_program_may_give_a_source_route() -> None:
    p = Peer()
    hop = addr("10.0.0.3")
    fd = p.socket(p.task, nonblock=True)
    assert p.setsockopt(p.task, fd, IPPROTO_IP, IP_OPTIONS, LSRR + hop.to_bytes(4, "big")) == 0
    p.connect(p.task, fd, B, 80)
    packet = p.host.link.sent[0]
    assert packet[16:20] == hop.to_bytes(4, "big")  # to the first hop, with the destination behind it
    assert packet[20:27] == LSRR + B.to_bytes(4, "big")


def routed_syn(p: Peer, hop: int, isn: int) -> bytes:
    """A SYN arrives that came over `hop`; what answers it."""
    p.host.link.sent.clear()
    p.host.receive(segment(p.sport, 2, isn, options=bytes([131, 7, 8]) + hop.to_bytes(4, "big") + b"\0"))
    return p.host.link.sent[0]


@pytest.mark.rfc9293("MUST-53", "SHLD-24")
def test_an_answer_goes_back_the_way_the_question_came() -> None:
    p = Peer()
    for dev in ("all", "wire0"):
        assert sysctl_write(p.net.sysctl_table, f"net.ipv4.conf.{dev}.accept_source_route", "1") == 0
    listener = p.listener(p.task, 80)
    for i, text in enumerate(("10.0.0.3", "10.0.0.4")):  # the second question's way is the second answer's
        p.sport = 5000 + i
        hop = addr(text)
        synack = routed_syn(p, hop, 1)
        assert synack[16:20] == hop.to_bytes(4, "big") and synack[20:27] == LSRR + B.to_bytes(4, "big")
    assert p.poll(p.task, listener) == 0


@pytest.mark.rfc9293("MUST-52")
def test_a_programs_own_source_route_goes_before_the_received_one() -> None:
    p = Peer()
    for dev in ("all", "wire0"):
        assert sysctl_write(p.net.sysctl_table, f"net.ipv4.conf.{dev}.accept_source_route", "1") == 0
    listener = p.listener(p.task, 80)
    synack = routed_syn(p, addr("10.0.0.3"), 1)
    p.host.link.sent.clear()
    own = addr("10.0.0.5")
    p.host.receive(segment(p.sport, 16, 2, int.from_bytes(synack[32:36], "big") + 1))
    fd = p.accept(p.task, listener)
    assert p.setsockopt(p.task, fd, IPPROTO_IP, IP_OPTIONS, LSRR + own.to_bytes(4, "big")) == 0
    p.host.link.sent.clear()
    p.send(p.task, fd, b"x")
    assert p.host.link.sent[0][16:20] == own.to_bytes(4, "big")


@pytest.mark.rfc9293("MUST-54")
def test_an_icmp_error_goes_to_the_connection_that_it_quotes() -> None:
    p = Peer()
    first, syn = syn_sent(p)
    second, _ = syn_sent(p)
    quoted(p, syn, 3, 3)
    assert p.so_error(p.task, first) == ECONNREFUSED
    assert tcp_sk(p.task, second).sk_state == TCP_SYN_SENT
    assert not p.poll(p.task, second) & (EPOLLIN | EPOLLHUP)


@pytest.mark.rfc9293("MUST-56")
@pytest.mark.parametrize(("type", "code"), [(3, 0), (3, 1), (3, 5), (11, 0), (11, 1), (12, 0)])
def test_soft_icmp_errors_end_no_connection(type: int, code: int) -> None:
    p = Peer()
    _, fd, isn = p.open_passive()
    p.send(p.task, fd, b"x")
    quoted(p, p.tx1(), type, code)
    p.rx("P.", p.ISN + 1, isn + 2, b"y")
    assert p.recv(p.task, fd, 1) == b"y"


@pytest.mark.rfc9293("MUST-60", "MUST-61", "MAY-16")
def test_what_was_written_leaves_soon_and_its_last_segment_says_push() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.send(p.task, fd, b"x" * 3000)
    assert [s.flags & 8 for s in p.tx()] == [0, 0, 8]
    p.rx(".", p.ISN + 1, isn + 3001)
    p.send(p.task, fd, b"a", 0x8000)  # MSG_MORE: more comes
    p.send(p.task, fd, b"b", 0x8000)
    assert p.silent()
    p.run(210 * MS)  # or not
    s = p.tx1()
    assert s.data == b"ab" and s.flags & 8


@pytest.mark.rfc9293("MAY-13", "SHLD-31")
def test_out_of_order_segments_are_held_and_each_is_acknowledged_at_once() -> None:
    p = Receiver()
    for i in (3, 2, 1):
        p.data(i * 100, 100)
        assert p.acked(p.tx1()) == 0
    p.data(0, 100)
    assert p.acked(p.tx1()) == 400
    assert p.recv(p.task, p.fd, 1000) == b"d" * 400


@pytest.mark.rfc9293("MUST-20")
def test_after_r1_the_route_is_doubted_and_after_r2_the_connection_is_over() -> None:
    p = Sender(1, PLAIN_SYN)
    quoted(p, p.tx()[0], 3, 4, 576)  # the route now has a knowledge that may be wrong
    p.tx()
    p.run(MS)
    learnt = p.sk.sk_dst_cache
    assert learnt is not None
    routes = []
    for _ in range(6):
        p.run(p.sk.icsk_rto + MS)
        routes.append(p.sk.sk_dst_cache is learnt)
    assert routes[:2] == [True, True] and False in routes  # R1 is 3
    while p.sk.sk_err == 0:
        p.run(SEC)
    assert p.so_error(p.task, p.fd) == ETIMEDOUT
    assert 14 <= p.mib("TCPTimeouts") <= 17  # R2 is 15


@pytest.mark.rfc9293("MAY-9")
def test_a_program_can_see_the_tos_that_the_handshake_came_with() -> None:
    p = Peer()
    listener = p.listener(p.task, 80)
    p.rx("S", p.ISN)
    ack = bytearray(segment(p.sport, 16, p.ISN + 1, p.tx1().seq + 1))
    p.host.receive(wire_ip.emit(0x28, 40, 1, 0x4000, 64, 6, B, A) + bytes(ack[20:]))
    fd = p.accept(p.task, listener)
    assert p.setsockopt(p.task, fd, IPPROTO_IP, IP_RECVTOS, 1) == 0
    err, told = syscalls.sys_getsockopt(p.task, fd, IPPROTO_IP, IP_PKTOPTIONS, 100)
    assert err == 0 and told == pack_cmsg(0, IP_TOS, pack_s32(0x28))
