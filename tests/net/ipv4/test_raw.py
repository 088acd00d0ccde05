"""Raw sockets: who gets a copy, what a program's own header becomes, limits, and bad input.

What every call answers in every state is compared with Linux in tests/parity/test_datagram_errnos.py."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.net.ipv4.raw import RawSock
from afinet.uapi.errno import EAGAIN, ECONNABORTED, EINVAL, EMSGSIZE, ENOBUFS
from afinet.uapi.snmp import (
    IPSTATS_MIB_INDELIVERS,
    IPSTATS_MIB_INUNKNOWNPROTOS,
    IPSTATS_MIB_OUTDISCARDS,
    IPSTATS_MIB_OUTREQUESTS,
)
from afinet.wire import checksum, ip
from tests.net.ipv4.dgramhost import A, B, Hosts, addr, ip_packet, sa
from tests.parity.programs import i32, icmp, iphdr

SOL_RAW, ICMP_FILTER, SOL_IP, IP_HDRINCL = 255, 1, 0, 3


def test_every_raw_sock_of_the_protocol_gets_a_copy_with_the_ip_header() -> None:
    h = Hosts()
    fds = [h.raw(253, 1), h.raw(253, 1), h.raw(254, 1)]
    s = h.raw(253)
    assert h.send(s, b"data", sa(B)) == 4
    got = [h.recv(fd) for fd in fds]
    assert got[0] == got[1] and got[2] == -EAGAIN
    packet = got[0]
    assert isinstance(packet, bytes)
    assert ip.parse(packet, 0)[2:3] + ip.parse(packet, 0)[6:7] == (24, 253)
    assert packet[20:] == b"data"
    assert checksum.ip_fast_csum(packet, 0, 5) == 0
    assert h.b.ip_statistics[IPSTATS_MIB_INDELIVERS] == 1
    h.check_clean()


def test_a_protocol_nobody_takes_is_unreachable_unless_a_raw_sock_listens() -> None:
    h = Hosts()
    s = h.raw(253)
    h.send(s, b"eight by", sa(B))
    assert h.b.ip_statistics[IPSTATS_MIB_INUNKNOWNPROTOS] == 1
    assert h.b.icmpmsg_out == {3: 1}
    fd = h.raw(253, 1)
    h.send(s, b"eight by", sa(B))
    assert h.b.icmpmsg_out == {3: 1}
    assert isinstance(h.recv(fd), bytes)
    h.check_clean()


def test_the_kernel_answers_an_echo_although_a_raw_sock_sees_it() -> None:
    h = Hosts()
    watcher = h.raw(1, 1)
    s = h.raw(1)
    h.send(s, icmp(8, 0, 7, 1, b"abc"), sa(B))
    seen, answer = h.recv(watcher), h.recv(s)
    assert isinstance(seen, bytes) and seen[20] == 8
    assert isinstance(answer, bytes) and answer[20] == 0 and answer[28:] == b"abc"
    h.check_clean()


def test_ICMP_FILTER_keeps_types_away_by_their_bit() -> None:
    h = Hosts()
    fd = h.raw(1, 1)
    assert h.setsockopt(fd, SOL_RAW, ICMP_FILTER, struct.pack("<I", 1 << 8 | 1 << 31)) == 0
    for kind in (8, 13, 31, 32, 255):
        h.inject(ip_packet(A, B, 1, icmp(kind, 0, 1, 1)))
    kinds = []
    while isinstance(packet := h.recv(fd), bytes):
        kinds.append(packet[20])
    assert kinds == [13, 32, 255]
    # three bytes change three bytes
    assert h.setsockopt(fd, SOL_RAW, ICMP_FILTER, b"\1\2\3") == 0
    assert h.getsockopt(fd, SOL_RAW, ICMP_FILTER, 4) == (0, b"\1\2\3\x80")
    assert h.setsockopt(fd, 1, 26, bytes(16)) == -EINVAL  # SO_ATTACH_FILTER: no instructions
    h.check_clean()


def test_an_own_header_is_completed_where_it_is_zero_and_kept_where_it_is_not() -> None:
    h = Hosts()
    fd, s = h.raw(253, 1), h.raw(255)
    requests = h.a.ip_statistics[IPSTATS_MIB_OUTREQUESTS]
    # another's address as the source: rp_filter is off, as in a fresh namespace of Linux
    packet = iphdr("1.2.3.4", B, 253, b"data", tot_len=9, ttl=3, tos=4, id=77, frag_off=0x4000)
    assert h.send(s, packet, sa(B)) == len(packet)
    got = h.recv(fd)
    assert isinstance(got, bytes)
    version_ihl, tos, tot_len, ident, frag_off, ttl, protocol, _, saddr, daddr = ip.parse(got, 0)
    assert (version_ihl, tos, tot_len, ident, frag_off, ttl) == (0x45, 4, 24, 77, 0x4000, 3)
    assert (protocol, saddr, daddr) == (253, addr("1.2.3.4"), addr(B))
    h.send(s, iphdr("0.0.0.0", B, 253, b"data"), sa(B))
    got = h.recv(fd)
    assert isinstance(got, bytes)
    assert ip.parse(got, 0)[8] == addr(A) and ip.parse(got, 0)[3] != 0
    assert checksum.ip_fast_csum(got, 0, 5) == 0
    # it goes past ip_local_out: no OutRequests
    assert h.a.ip_statistics[IPSTATS_MIB_OUTREQUESTS] == requests
    h.check_clean()


def test_an_own_header_longer_than_the_mtu_is_refused_and_others_are_fragmented() -> None:
    h = Hosts()
    s, fd = h.raw(253), h.raw(253, 1)
    assert h.send(s, bytes(4000), sa(B)) == 4000
    packet = h.recv(fd)
    assert isinstance(packet, bytes) and len(packet) == 4020
    assert h.setsockopt(s, SOL_IP, IP_HDRINCL, i32(1)) == 0
    assert h.send(s, iphdr(A, B, 253, bytes(1481)), sa(B)) == -EMSGSIZE
    h.check_clean()


def test_without_a_header_of_its_own_a_raw_sock_never_waits_but_fails_beyond_twice_its_buffer() -> None:
    h = Hosts()
    s = h.raw(253)
    h.setsockopt(s, 1, 7, i32(1))  # SO_SNDBUF 4608
    results = [h.send(s, b"x", sa("10.9.0.77")) for _ in range(14)]
    assert results == [1] * 12 + [-ENOBUFS] * 2
    assert h.a.ip_statistics[IPSTATS_MIB_OUTDISCARDS] == 2
    h.check_clean()


def test_a_full_receiver_is_passed_over_and_counts_its_drops() -> None:
    h = Hosts()
    fd, s = h.raw(253, 1), h.raw(253)
    h.setsockopt(fd, 1, 8, i32(1))  # SO_RCVBUF 2304
    for _ in range(5):
        h.send(s, b"x", sa(B))
    sk = h.sk(fd)
    assert isinstance(sk, RawSock)
    assert (sk.sk_receive_queue.qlen, sk.sk_drops) == (3, 2)
    # nobody took the other two
    assert h.b.ip_statistics[IPSTATS_MIB_INUNKNOWNPROTOS] == 2
    h.check_clean()


def test_MSG_MORE_gathers_one_packet_and_close_throws_it_away() -> None:
    h = Hosts()
    fd, s = h.raw(253, 1), h.raw(253)
    assert h.send(s, b"one ", sa(B), 0x8000) == 4
    assert h.recv(fd) == -EAGAIN
    assert h.send(s, b"two", sa(B)) == 3
    packet = h.recv(fd)
    assert isinstance(packet, bytes) and packet[20:] == b"one two"
    h.send(s, b"lost", sa(B), 0x8000)
    sk = h.sk(s)
    h.close(s)
    assert sk.sk_wmem_alloc == 0
    assert h.recv(fd) == -EAGAIN
    h.check_clean()


def test_a_reader_blocked_in_a_raw_sock_is_woken_and_can_be_aborted() -> None:
    h = Hosts()
    fd, s = h.raw(253, 1), h.raw(253)
    wait = h.recv_wait(fd)
    h.send(s, b"x", sa(B))
    assert wait.step() and wait.result[0] == 21
    wait = h.recv_wait(fd)
    sk = h.sk(fd)
    sk.sk_prot.diag_destroy(sk, ECONNABORTED)
    assert wait.step() and wait.result[0] == -ECONNABORTED
    h.check_clean()


def test_a_packet_cut_at_every_byte_reaches_a_raw_sock_or_is_dropped() -> None:
    h = Hosts()
    fd = h.raw(1, 1)
    whole = ip_packet(A, B, 1, icmp(8, 0, 1, 1, b"data"))
    for n in range(len(whole)):
        h.inject(whole[:n])
        assert h.recv(fd) == -EAGAIN
    h.inject(whole)
    assert h.recv(fd) == whole
    for n in range(20, len(whole)):
        h.inject(ip_packet(A, B, 1, whole[20:n]))
        packet = h.recv(fd)
        # what has no ICMP header passes no filter
        assert isinstance(packet, bytes) == (n >= 28), n
    h.check_clean()


@settings(derandomize=True, max_examples=200, deadline=None)
@given(packet=st.binary(max_size=100), protocol=st.integers(0, 255))
def test_no_own_header_raises(packet: bytes, protocol: int) -> None:
    h = SENDER[0]
    fd = h.raw(protocol or 255)
    h.setsockopt(fd, SOL_IP, IP_HDRINCL, i32(1))
    assert h.send(fd, packet, sa(B)) in (len(packet), -22)
    assert h.send(fd, b"\x45" + packet, sa(B)) in (len(packet) + 1, -22)
    h.close(fd)
    assert h.kernel.warned == {}


SENDER = [Hosts()]


def test_after_the_strange_headers_nothing_is_left() -> None:
    SENDER[0].check_clean()
