"""UDP between two hosts and over loopback. What every call answers in every state is compared with Linux in
tests/parity/test_datagram_errnos.py; here are counters, waiting, memory, choice of sock, and bad input."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.kernel.sysctl import sysctl_write
from afinet.net.core.drop_reason import SKB_DROP_REASON_NO_SOCKET, SKB_DROP_REASON_SOCKET_RCVBUFF, SKB_DROP_REASON_UDP_CSUM
from afinet.net.core.skbuff import SkBuff
from afinet.net.core.sock import Sock
from afinet.net.ipv4.udp import UdpProto
from afinet.security.security import SecurityHook, security_add_hooks
from afinet.uapi.errno import EADDRINUSE, EAGAIN, ECONNABORTED, ECONNREFUSED, EHOSTUNREACH, EINTR, EMSGSIZE, EPERM, EPROTO
from afinet.uapi.snmp import (
    ICMP_MIB_INERRORS,
    IPSTATS_MIB_INDELIVERS,
    IPSTATS_MIB_OUTDISCARDS,
    UDP_MIB_CSUMERRORS,
    UDP_MIB_IGNOREDMULTI,
    UDP_MIB_INDATAGRAMS,
    UDP_MIB_INERRORS,
    UDP_MIB_MEMERRORS,
    UDP_MIB_NOPORTS,
    UDP_MIB_OUTDATAGRAMS,
    UDP_MIB_RCVBUFERRORS,
)
from tests.net.ipv4.dgramhost import LO, MS, SEC, A, B, Hosts, addr, ip_packet, sa, udp_packet
from tests.parity.programs import i32, icmp

SOL_SOCKET, SO_RCVBUF, SO_SNDBUF, SO_REUSEPORT, SO_RCVTIMEO, SO_SNDTIMEO = 1, 8, 7, 15, 20, 21


def timeval(ms: int) -> bytes:
    return struct.pack("<qq", ms // 1000, ms % 1000 * 1000)


# -- counters ----------------------------------------------------------------------------------------------------------------


def test_a_datagram_and_its_answer_are_counted_once_at_each_end() -> None:
    h = Hosts()
    server = h.udp(1, sa(B, 5002))
    client = h.udp(0, connect=sa(B, 5002))
    assert h.send(client, b"hello") == 5
    assert h.recv(server) == b"hello"
    assert h.send(server, b"answer", h.getsockname(client)[1]) == 6
    assert h.recv(client) == b"answer"
    assert h.a.udp_statistics[UDP_MIB_OUTDATAGRAMS] == h.a.udp_statistics[UDP_MIB_INDATAGRAMS] == 1
    assert h.b.udp_statistics[UDP_MIB_OUTDATAGRAMS] == h.b.udp_statistics[UDP_MIB_INDATAGRAMS] == 1
    assert h.b.ip_statistics[IPSTATS_MIB_INDELIVERS] == 1
    h.check_clean()


def test_a_datagram_for_no_port_is_answered_and_counted() -> None:
    h = Hosts()
    client = h.udp(0, connect=sa(B, 5002))
    h.send(client, b"x")
    assert h.b.udp_statistics[UDP_MIB_NOPORTS] == 1
    assert h.b.udp_statistics[UDP_MIB_INERRORS] == 0
    assert h.b.drop_reasons[SKB_DROP_REASON_NO_SOCKET] == 1
    assert h.b.icmpmsg_out == {3: 1}
    assert h.recv(client) == -ECONNREFUSED
    h.check_clean()


def test_an_error_about_a_datagram_nobody_sent_is_an_icmp_error() -> None:
    h = Hosts()
    quote = udp_packet(B, A, 999, 53, b"")[:28]
    h.inject(ip_packet(A, B, 1, icmp(3, 3, 0, 0, quote)))
    assert h.b.icmp_statistics[ICMP_MIB_INERRORS] == 1
    h.check_clean()


@pytest.mark.parametrize(
    ("kind", "code", "errno"),
    [(3, 0, 0), (3, 1, 0), (3, 2, 92), (3, 3, ECONNREFUSED), (3, 4, EMSGSIZE), (3, 6, 101), (3, 13, EHOSTUNREACH),
     (4, 0, 0), (5, 1, 0), (11, 0, 0), (12, 0, EPROTO)],
)  # fmt: skip
def test_hard_errors_reach_a_connected_sock_and_soft_ones_only_who_asks(kind: int, code: int, errno: int) -> None:
    h = Hosts()
    fd = h.udp(1, sa(B, 5001), sa(A, 5002))
    lone = h.udp(1, sa(B, 5003))
    asking = h.udp(1, sa(B, 5004))
    h.setsockopt(asking, 0, 11, i32(1))
    for port in (5001, 5003, 5004):
        quote = udp_packet(B, A, port, 5002, b"")[:28]
        h.inject(ip_packet(A, B, 1, icmp(kind, code, 0, 1400 if kind == 3 and code == 4 else 0, quote)))
    assert h.recv(fd) == (-errno if errno else -EAGAIN)
    assert h.recv(lone) == -EAGAIN
    soft = {(3, 0): 101, (3, 1): EHOSTUNREACH, (11, 0): EHOSTUNREACH}
    told = errno or soft.get((kind, code), 0)
    assert h.recv(asking) == (-told if told else -EAGAIN)
    assert (h.recvmsg(asking, 100, 0x2000, 512)[0] == 0) == (told != 0)
    h.check_clean()


def test_a_bad_checksum_is_counted_when_read_if_long_and_at_once_if_short() -> None:
    h = Hosts()
    fd = h.udp(1, sa(B, 5002))
    h.inject(udp_packet(A, B, 1, 5002, b"short", check=1))
    assert h.b.udp_statistics[UDP_MIB_CSUMERRORS] == 1
    h.inject(udp_packet(A, B, 1, 5002, bytes(100), check=1))
    h.inject(udp_packet(A, B, 1, 5002, bytes(101), check=1))
    h.inject(udp_packet(A, B, 1, 5002, b"good" * 30))
    assert h.b.udp_statistics[UDP_MIB_CSUMERRORS] == 1
    assert h.sk(fd).sk_receive_queue.qlen == 3
    assert h.recv(fd) == b"good" * 30
    assert h.b.udp_statistics[UDP_MIB_CSUMERRORS] == h.b.udp_statistics[UDP_MIB_INERRORS] == 3
    assert h.b.drop_reasons[SKB_DROP_REASON_UDP_CSUM] == 3
    assert h.b.udp_statistics[UDP_MIB_INDATAGRAMS] == 1
    assert h.sk(fd).sk_drops == 2
    h.check_clean()


def test_a_damaged_datagram_for_no_port_is_not_answered() -> None:
    h = Hosts()
    h.inject(udp_packet(A, B, 1, 5002, bytes(100), check=1))
    assert h.b.udp_statistics[UDP_MIB_NOPORTS] == 0
    assert h.b.udp_statistics[UDP_MIB_CSUMERRORS] == 1
    assert h.b.icmpmsg_out == {}
    h.check_clean()


def test_a_broadcast_reaches_everybody_on_the_port_and_nobody_is_told_of_one_without_takers() -> None:
    h = Hosts()
    fds = []
    for _ in range(3):
        fd = h.udp(1)
        h.setsockopt(fd, SOL_SOCKET, 2, i32(1))
        assert h.bind(fd, sa("0.0.0.0", 5002)) == 0
        fds.append(fd)
    s = h.udp(0)
    h.setsockopt(s, SOL_SOCKET, 6, i32(1))
    assert h.send(s, b"all", sa("10.9.0.255", 5002)) == 3
    assert [h.recv(fd) for fd in fds] == [b"all"] * 3
    assert h.send(s, b"none", sa("10.9.0.255", 5003)) == 4
    assert h.b.udp_statistics[UDP_MIB_IGNOREDMULTI] == 1
    assert h.b.udp_statistics[UDP_MIB_NOPORTS] == 0
    h.check_clean()


# -- waiting -----------------------------------------------------------------------------------------------------------------


def test_a_reader_waits_and_one_datagram_wakes_one_of_two() -> None:
    h = Hosts()
    fd = h.udp(1, sa(B, 5002))
    first, second = h.recv_wait(fd), h.recv_wait(fd)
    assert not first.done and not second.done
    s = h.udp(0)
    h.send(s, b"one", sa(B, 5002))
    assert first.step() and not second.step()
    assert b"".join(first.result[1]) == b"one"
    h.send(s, b"two", sa(B, 5002))
    assert second.step()
    assert b"".join(second.result[1]) == b"two"
    h.check_clean()


def test_SO_RCVTIMEO_ends_the_wait_at_its_time_and_no_later() -> None:
    h = Hosts()
    fd = h.udp(1, sa(B, 5002))
    assert h.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeval(250)) == 0
    start = h.kernel.now
    wait = h.recv_wait(fd)
    assert wait.iocb.ki_deadline == start + 250 * MS
    h.run_until(start + 249 * MS)
    assert not wait.step()
    h.run_until(start + 250 * MS)
    assert wait.step() and wait.result[0] == -EAGAIN
    h.check_clean()


def test_a_signal_interrupts_a_reader() -> None:
    h = Hosts()
    wait = h.recv_wait(h.udp(1, sa(B, 5002)))
    assert wait.interrupt()[0] == -EINTR
    h.check_clean()


def test_shutdown_ends_a_blocked_read_with_end_of_file() -> None:
    h = Hosts()
    fd = h.udp(1, sa(B, 5002), sa(A, 1))
    wait = h.recv_wait(fd)
    h.shutdown(fd, 0)
    assert wait.step() and wait.result[0] == 0
    assert h.recv(fd) == -EAGAIN  # who does not wait is not told
    h.check_clean()


def test_an_icmp_error_wakes_a_blocked_reader() -> None:
    h = Hosts()
    fd = h.udp(0, connect=sa(B, 5002))
    wait = h.recv_wait(fd)
    h.send(fd, b"x")
    assert wait.step() and wait.result[0] == -ECONNREFUSED
    h.check_clean()


def test_a_sender_waits_for_room_and_goes_on_when_the_neighbour_gives_up() -> None:
    h = Hosts()
    fd = h.udp(0)
    h.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, i32(1))
    sent = 0
    while h.send(fd, b"x", sa("10.9.0.77", 5002)) == 1:
        sent += 1
    assert sent == 6  # 832 bytes each, 4608 allowed
    assert h.a.ip_statistics[IPSTATS_MIB_OUTDISCARDS] == 1
    assert not h.poll(fd, 4)
    wait = h.send_wait(fd, b"waited", sa("10.9.0.77", 5002))
    assert not wait.done
    h.run_until(h.kernel.now + 5 * SEC)  # three requests, a second each
    assert wait.step() and wait.result == 6
    h.check_clean()


def test_SO_SNDTIMEO_ends_a_blocked_send() -> None:
    h = Hosts()
    fd = h.udp(0)
    h.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, i32(1))
    h.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, timeval(100))
    while h.send(fd, b"x", sa("10.9.0.77", 5002)) == 1:
        pass
    wait = h.send_wait(fd, b"late", sa("10.9.0.77", 5002))
    h.run_until(h.kernel.now + 100 * MS)
    assert wait.step() and wait.result == -EAGAIN
    h.check_clean()


# -- memory ------------------------------------------------------------------------------------------------------------------


def test_the_receive_buffer_is_a_limit_with_its_counter() -> None:
    h = Hosts()
    fd = h.udp(1, sa(B, 5002))
    h.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, i32(4000))  # 8000 inside
    s = h.udp(0)
    for _ in range(20):
        h.send(s, bytes(1000), sa(B, 5002))
    sk = h.sk(fd)
    assert sk.sk_receive_queue.qlen == 3  # 2304 bytes each
    assert sk.sk_rmem_alloc == 3 * 2304
    assert sk.sk_drops == 17
    assert h.b.udp_statistics[UDP_MIB_RCVBUFERRORS] == h.b.udp_statistics[UDP_MIB_INERRORS] == 17
    assert h.b.drop_reasons[SKB_DROP_REASON_SOCKET_RCVBUFF] == 17
    assert h.prot("UDP").memory_allocated == 2  # pages
    h.check_clean()


def test_udp_mem_is_a_limit_for_all_sockets_together() -> None:
    h = Hosts()
    net = h.kernel.init_net
    assert net is not None
    assert sysctl_write(net.sysctl_table, "net.ipv4.udp_mem", "4 5 6") == 0
    fds = [h.udp(1, sa(B, 5000 + i)) for i in range(3)]
    s = h.udp(0)
    for _ in range(20):
        for i in range(3):
            h.send(s, bytes(1000), sa(B, 5000 + i))
    prot = h.prot("UDP")
    # Beyond the first value a sock gets only what brings it over its minimum (udp_rmem_min).
    assert 4 <= prot.memory_allocated <= 6
    errors = h.b.udp_statistics[UDP_MIB_MEMERRORS]
    assert errors == h.b.udp_statistics[UDP_MIB_INERRORS] > 0
    assert errors + sum(h.sk(fd).sk_receive_queue.qlen for fd in fds) == 60
    for fd in fds:
        while isinstance(h.recv(fd), bytes):
            pass
    assert prot.memory_allocated == 0
    h.send(s, b"again", sa(B, 5000))
    assert h.recv(fds[0]) == b"again"
    h.check_clean()


def test_a_closed_sock_lives_until_its_packets_are_gone() -> None:
    h = Hosts()
    fd = h.udp(0)
    sk = h.sk(fd)
    h.send(fd, b"x", sa("10.9.0.77", 5002))
    h.close(fd)
    assert sk.sk_refcnt == 0 and sk.sk_wmem_alloc == 832
    h.run_until(h.kernel.now + 5 * SEC)
    assert sk.sk_wmem_alloc == 0
    h.check_clean()


# -- ports and choice ----------------------------------------------------------------------------------------------------------


def test_ephemeral_ports_come_from_the_range_skip_reserved_ones_and_run_out() -> None:
    h = Hosts()
    table = h.a.sysctl_table
    assert sysctl_write(table, "net.ipv4.ip_local_port_range", "40000 40009") == 0
    assert sysctl_write(table, "net.ipv4.ip_local_reserved_ports", "40003-40004") == 0
    ports = set()
    for _ in range(8):
        fd = h.udp(0, sa("0.0.0.0", 0))
        ports.add(struct.unpack("!H", h.getsockname(fd)[1][2:4])[0])
    assert ports == set(range(40000, 40010)) - {40003, 40004}
    fd = h.udp(0)
    assert h.bind(fd, sa("0.0.0.0", 0)) == -EADDRINUSE
    assert h.send(fd, b"x", sa(B, 1)) == -EAGAIN
    assert h.connect(fd, sa(B, 1)) == -EAGAIN
    # another address has ports of its own
    other = h.udp(1, sa("0.0.0.0", 0))
    assert h.getsockname(other)[0] == 0
    h.check_clean()


def test_ephemeral_ports_differ_between_seeds_and_not_between_runs() -> None:
    def port(h: Hosts) -> bytes:
        return h.getsockname(h.udp(0, sa("0.0.0.0", 0)))[1]

    assert port(Hosts()) == port(Hosts())


def test_SO_REUSEPORT_spreads_flows_and_keeps_each_with_one_sock() -> None:
    h = Hosts()
    fds = []
    for _ in range(4):
        fd = h.udp(1)
        h.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, i32(1))
        assert h.bind(fd, sa(B, 5002)) == 0
        fds.append(fd)
    counts = [0] * 4
    for port in range(6000, 6080):
        s = h.udp(0, sa(A, port), sa(B, 5002))
        for _ in range(3):
            h.send(s, b"x")
        got = [h.sk(fd).sk_receive_queue.qlen for fd in fds]
        assert sorted(got) == [0, 0, 0, 3], port
        counts[got.index(3)] += 1
        for fd in fds:
            while isinstance(h.recv(fd), bytes):
                pass
        h.close(s)
    assert all(c >= 8 for c in counts), counts
    # A member that connects takes its peer's datagrams and no others.
    assert h.connect(fds[0], sa(A, 7000)) == 0
    stranger, peer = h.udp(0, sa(A, 7001), sa(B, 5002)), h.udp(0, sa(A, 7000), sa(B, 5002))
    for _ in range(3):
        h.send(stranger, b"stranger")
    h.send(peer, b"peer")
    assert h.recv(fds[0]) == b"peer"
    assert h.recv(fds[0]) == -EAGAIN
    h.check_clean()


def test_a_connected_sock_keeps_its_input_route_and_drops_it_when_it_is_stale() -> None:
    h = Hosts()
    server = h.udp(1, sa(B, 5002), sa(A, 5001))
    client = h.udp(0, sa(A, 5001), sa(B, 5002))
    h.send(client, b"1")
    rx_dst = h.sk(server).sk_rx_dst
    assert rx_dst is not None
    h.send(client, b"2")
    assert h.sk(server).sk_rx_dst is rx_dst
    rx_dst.obsolete = 2
    h.send(client, b"3")
    assert h.recv(server) == b"1" and h.recv(server) == b"2"
    h.check_clean()


def test_ten_thousand_socks_on_one_host_are_found_by_hash() -> None:
    h = Hosts()
    h.task.rlimit_nofile = 20000
    for port in range(10000, 20000):
        h.udp(1, sa(B, port))
    prot = h.prot("UDP")
    assert isinstance(prot, UdpProto)
    assert max(len(chain) for chain in prot.table.hash2.values()) == 1
    s = h.udp(0)
    h.send(s, b"x", sa(B, 19999))
    assert h.b.udp_statistics[UDP_MIB_NOPORTS] == 0
    h.check_clean()
    assert prot.table.hash == prot.table.hash2 == prot.table.hash4 == {}


# -- from outside ------------------------------------------------------------------------------------------------------------


class Deny(SecurityHook):
    def socket_sock_rcv_skb(self, sk: Sock, skb: SkBuff) -> int:
        return -EPERM


def test_a_security_hook_drops_what_comes_in() -> None:
    h = Hosts()
    fd = h.udp(1, sa(B, 5002))
    security_add_hooks(h.kernel, Deny())
    h.send(h.udp(0), b"x", sa(B, 5002))
    assert h.recv(fd) == -EAGAIN
    assert h.sk(fd).sk_drops == h.b.udp_statistics[UDP_MIB_INERRORS] == 1
    h.check_clean()


def test_diag_destroy_ends_a_blocked_read() -> None:
    h = Hosts()
    fd = h.udp(1, connect=sa(A, 5002))
    wait = h.recv_wait(fd)
    sk = h.sk(fd)
    assert sk.sk_prot.diag_destroy(sk, ECONNABORTED) == 0
    assert wait.step() and wait.result[0] == -ECONNABORTED
    assert h.getpeername(fd)[0] < 0
    h.check_clean()


# -- hostile datagrams -------------------------------------------------------------------------------------------------------


def accounted(h: Hosts) -> int:
    """What became of datagrams at B: delivered, no port, damaged."""
    stats = h.b.udp_statistics
    return stats[UDP_MIB_INDATAGRAMS] + stats[UDP_MIB_NOPORTS] + stats[UDP_MIB_INERRORS]


def test_a_datagram_cut_at_every_byte_is_a_counted_drop() -> None:
    h = Hosts()
    fd = h.udp(1, sa(B, 5002))
    whole = udp_packet(A, B, 5001, 5002, b"payload of a datagram")[20:]
    for n in range(len(whole)):
        h.inject(ip_packet(A, B, 17, whole[:n]))
        assert h.recv(fd) == -EAGAIN
    assert h.b.udp_statistics[UDP_MIB_INERRORS] == len(whole)
    h.inject(ip_packet(A, B, 17, whole + b"padding"))
    assert h.recv(fd) == b"payload of a datagram"
    h.check_clean()


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=120),
    length=st.one_of(st.just(-1), st.integers(0, 0xFFFF), st.integers(0, 130)),
    check=st.one_of(st.just(-1), st.integers(0, 0xFFFF)),
    sport=st.integers(0, 0xFFFF),
    dport=st.sampled_from([0, 5002, 5003]),
    frag_off=st.sampled_from([0, 0x2000, 0x4000, 1, 0x2001, 0x1FFF]),
    source=st.sampled_from([A, B, "0.0.0.0", LO, "255.255.255.255", "224.1.1.1", "10.9.0.255", "8.8.8.8"]),
    dest=st.sampled_from([B, "10.9.0.255", "255.255.255.255", "224.0.0.1", "224.1.1.1"]),
)
def test_no_datagram_raises_or_leaks(
    data: bytes, length: int, check: int, sport: int, dport: int, frag_off: int, source: str, dest: str
) -> None:
    h = HOSTILE[0]
    fds = HOSTILE_FDS
    datagram = udp_packet(source, dest, sport, dport, data, check, length)[20:]
    h.inject(ip_packet(source, dest, 17, datagram, frag_off))
    for fd in fds:
        while not isinstance(h.recv(fd), int):
            pass
        assert h.sk(fd).sk_rmem_alloc == 0
    assert h.kernel.warned == {}


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    kind=st.integers(0, 255),
    code=st.integers(0, 20),
    quote=st.one_of(st.binary(max_size=60), st.integers(0, 36).map(lambda n: (udp_packet(B, A, 5002, 9, bytes(8))[:n]))),
)
def test_no_icmp_error_raises_or_leaks(kind: int, code: int, quote: bytes) -> None:
    h = HOSTILE[0]
    h.inject(ip_packet(A, B, 1, icmp(kind, code, 0, 576, quote)))
    for fd in HOSTILE_FDS:
        while not isinstance(h.recv(fd), int):
            pass
        while h.recvmsg(fd, 100, 0x2000, 512)[0] >= 0:
            pass
        assert h.sk(fd).sk_rmem_alloc == 0
    assert h.kernel.warned == {}


def make_hostile() -> tuple[Hosts, list[int]]:
    h = Hosts()
    fds = [h.udp(1, sa("0.0.0.0", 5002)), h.udp(1, sa(B, 5003), sa(A, 9)), h.raw(17, 1), h.raw(1, 1)]
    h.setsockopt(fds[0], 0, 11, i32(1))
    return h, fds


_HOSTILE, HOSTILE_FDS = make_hostile()
HOSTILE = [_HOSTILE]


def test_after_the_hostile_ones_nothing_is_left() -> None:
    HOSTILE[0].check_clean()
    assert addr(A) == 0x0A090001
