"""connect() of datagram sockets and the route it keeps; the error queue; what MSG_PEEK shows."""

from __future__ import annotations

from afinet.net.core import datagram as core_datagram
from afinet.net.core.datagram import SockExterrSkb, sock_dequeue_err_skb, sock_queue_err_skb
from afinet.net.core.neighbour import neigh_lookup
from afinet.net.core.skbuff import alloc_skb, consume_skb
from afinet.net.ipv4 import devinet
from afinet.net.ipv4.inet_sock import InetSock
from afinet.uapi.errno import EACCES, EAGAIN, ECONNREFUSED, EHOSTUNREACH, EINVAL, ENETUNREACH, ENOMEM
from afinet.uapi.errqueue import SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_LOCAL
from afinet.uapi.eventpoll import EPOLLERR, EPOLLIN, EPOLLPRI
from afinet.uapi.neighbour import NUD_REACHABLE, NUD_STALE
from afinet.uapi.snmp import IPSTATS_MIB_OUTNOROUTES
from tests.net.ipv4.dgramhost import LO, SEC, A, B, Hosts, addr, sa
from tests.parity.programs import i32


def inet(h: Hosts, fd: int) -> InetSock:
    sk = h.sk(fd)
    assert isinstance(sk, InetSock)
    return sk


def test_connect_fixes_both_ends_and_keeps_the_route() -> None:
    h = Hosts()
    for fd in (h.udp(0), h.raw(253), h.ping()):
        assert h.connect(fd, sa(B, 7)) == 0
        sk = inet(h, fd)
        assert (sk.inet_saddr, sk.inet_rcv_saddr, sk.inet_daddr, sk.inet_dport) == (addr(A), addr(A), addr(B), 7)
        assert sk.sk_dst_cache is not None and sk.sk_txhash != 0
    h.check_clean()


def test_a_connect_that_fails_changes_nothing_but_the_route() -> None:
    h = Hosts()
    fd = h.udp(0)
    no_routes = h.a.ip_statistics[IPSTATS_MIB_OUTNOROUTES]
    assert h.connect(fd, sa("8.8.8.8", 7)) == -ENETUNREACH
    assert h.a.ip_statistics[IPSTATS_MIB_OUTNOROUTES] == no_routes + 1
    assert h.connect(fd, sa("10.9.0.255", 7)) == -EACCES
    assert h.connect(fd, sa(B, 7)[:9]) == -EINVAL
    sk = inet(h, fd)
    assert (sk.inet_saddr, sk.inet_daddr, sk.inet_dport) == (0, 0, 0)
    assert sk.inet_num != 0  # the port that connect() took before it failed stays, as in Linux
    h.check_clean()


def test_a_connected_sock_finds_its_new_route_when_the_old_one_is_gone() -> None:
    h = Hosts()
    fd = h.udp(0, connect=sa(B, 7))
    old = h.sk(fd).sk_dst_cache
    dev = h.a.dev_by_name["v0"]
    devinet.inet_addr_add(dev, addr("10.9.0.3"), 24, broadcast=addr("10.9.0.255"))  # every cached route is to be asked for anew
    assert h.send(fd, b"x") == 1
    new = h.sk(fd).sk_dst_cache
    assert new is not None and new is not old and new.check(0)
    h.check_clean()


def test_the_route_is_renewed_when_the_sock_is_let_go() -> None:
    h = Hosts()
    fd = h.udp(0, connect=sa(B, 7))
    old = h.sk(fd).sk_dst_cache
    assert old is not None
    old.obsolete = 2
    h.setsockopt(fd, 17, 1, i32(0))  # UDP_CORK off: lock_sock, release_sock
    assert h.sk(fd).sk_dst_cache is not old
    h.check_clean()


def test_a_sock_connected_while_corked_sends_to_the_new_peer() -> None:
    h = Hosts()
    old, new = h.udp(0, sa(LO, 5002)), h.udp(0, sa(LO, 5003))
    fd = h.udp(0, sa(LO, 5001), sa(LO, 5002))
    h.send(fd, b"for whom", flags=0x8000)
    h.connect(fd, sa(LO, 5003))
    h.send(fd, b"?")
    assert h.recv(old) == -EAGAIN and h.recv(new) == b"for whom?"
    h.check_clean()


def test_MSG_CONFIRM_takes_effect_with_MSG_PROBE() -> None:
    h = Hosts()
    server = h.udp(1, sa(B, 7))
    fd = h.udp(0)
    h.send(fd, b"x", sa(B, 7))
    tbl = h.a.arp_tbl
    assert tbl is not None
    dev = h.a.dev_by_name["v0"]
    neigh = neigh_lookup(tbl, addr(B), dev)
    assert neigh is not None
    h.run_until(h.kernel.now + 100 * SEC)
    neigh = neigh_lookup(tbl, addr(B), dev) or neigh
    before = neigh.nud_state
    assert before in (NUD_STALE, NUD_REACHABLE)
    confirmed = neigh.confirmed
    assert h.send(fd, b"", sa(B, 7), 0x800) == 0
    assert h.send(fd, b"", sa(B, 7), 0x810) == 0  # sends nothing
    assert neigh.confirmed > confirmed
    assert h.recv(server) == b"x" and h.recv(server) == b"" and h.recv(server) == -EAGAIN
    h.check_clean()


# -- the error queue ---------------------------------------------------------------------------------------------------------


def test_the_error_queue_is_bounded_by_the_receive_buffer_and_charged_to_it() -> None:
    h = Hosts()
    fd = h.udp(0)
    h.setsockopt(fd, 1, 8, i32(1))  # 2304
    sk = h.sk(fd)
    results = [sock_queue_err_skb(sk, alloc_skb(bytes(20))) for _ in range(10)]
    assert results.count(0) == 3 and set(results) == {0, -ENOMEM}
    assert sk.sk_rmem_alloc == 3 * 640
    while (skb := sock_dequeue_err_skb(sk)) is not None:
        consume_skb(skb)
    assert sk.sk_rmem_alloc == 0
    h.check_clean()


def test_taking_an_error_makes_the_next_one_pending_and_the_last_clears_it() -> None:
    h = Hosts()
    fd = h.udp(0)
    sk = h.sk(fd)
    for err, origin in ((ECONNREFUSED, SO_EE_ORIGIN_ICMP), (EHOSTUNREACH, SO_EE_ORIGIN_ICMP), (90, SO_EE_ORIGIN_LOCAL)):
        skb = alloc_skb(bytes(28))
        skb.cb = SockExterrSkb(err, origin, 3, 3, 0)
        assert sock_queue_err_skb(sk, skb) == 0
    sk.sk_err = ECONNREFUSED
    assert h.poll(fd, EPOLLERR) == EPOLLERR
    pending = []
    for _ in range(3):
        assert h.recvmsg(fd, 100, 0x2000, 512)[0] == 28
        pending.append(sk.sk_err)
    assert pending == [EHOSTUNREACH, 0, 0]
    assert h.recvmsg(fd, 100, 0x2000, 512)[0] == -EAGAIN
    h.check_clean()


def test_SO_SELECT_ERR_QUEUE_adds_POLLPRI() -> None:
    h = Hosts()
    fd = h.udp(0, connect=sa(B, 7))
    h.setsockopt(fd, 0, 11, i32(1))
    h.send(fd, b"x")
    assert h.poll(fd, EPOLLPRI | EPOLLIN) == EPOLLERR
    h.setsockopt(fd, 1, 45, i32(1))
    assert h.poll(fd, EPOLLPRI | EPOLLIN) == EPOLLERR | EPOLLPRI
    h.check_clean()


def test_errors_that_were_never_read_are_freed_with_the_sock() -> None:
    h = Hosts()
    fd = h.udp(0, connect=sa(B, 7))
    h.setsockopt(fd, 0, 11, i32(1))
    for _ in range(5):
        h.send(fd, b"x")
    assert core_datagram.sk_cold(h.sk(fd)).sk_error_queue.qlen >= 2
    h.check_clean()


# -- peeking -----------------------------------------------------------------------------------------------------------------


def test_MSG_PEEK_shares_the_bytes_and_charges_nothing() -> None:
    h = Hosts()
    server = h.udp(1, sa(B, 7))
    h.send(h.udp(0), b"x" * 1000, sa(B, 7))
    rmem = h.sk(server).sk_rmem_alloc
    for _ in range(3):
        assert h.recv(server, 10, 2) == b"x" * 10
    assert h.sk(server).sk_rmem_alloc == rmem
    assert h.recv(server) == b"x" * 1000
    assert h.sk(server).sk_rmem_alloc == 0
    h.check_clean()


def test_a_peeking_reader_waits_behind_what_it_has_seen() -> None:
    h = Hosts()
    server, s = h.udp(1, sa(B, 7)), h.udp(0)
    h.setsockopt(server, 1, 42, i32(0))
    h.send(s, b"abc", sa(B, 7))
    assert h.recv(server, 10, 2) == b"abc"
    assert h.recv(server, 10, 2) == -EAGAIN
    h.send(s, b"def", sa(B, 7))
    assert h.recv(server, 10, 2) == b"def"
    assert h.recv(server) == b"abc" and h.recv(server) == b"def"
    h.check_clean()
