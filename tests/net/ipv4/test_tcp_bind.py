"""Local ports: who may share one, and how connect() and bind(0) choose."""

from __future__ import annotations

import itertools

import pytest

from afinet.init import syscalls
from afinet.net.ipv4 import inet_hashtables
from afinet.uapi.errno import EADDRINUSE, EADDRNOTAVAIL, EINPROGRESS
from afinet.uapi.sockaddr import pack_sockaddr_in, unpack_sockaddr_in
from afinet.uapi.socket import SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET
from tests.net.ipv4.iphost import addr
from tests.net.ipv4.tcphost import A, B, Pair, Peer, tcp_sk

ANY, ONE, TWO = 0, addr("127.0.0.1"), addr("127.0.0.2")


def test_two_socks_share_a_port_exactly_when_linux_lets_them() -> None:
    """The 576 combinations were run on Linux 6.18 too; the rule below is what came out there."""
    p = Peer()
    t = p.task
    kinds = list(itertools.product((ANY, ONE, TWO), (0, 1), (0, 1), (0, 1)))
    for first, second in itertools.product(kinds, kinds):
        fds = []
        results = []
        for ip, reuse, reuseport, listen in (first, second):
            fd = p.socket(t)
            fds.append(fd)
            assert p.setsockopt(t, fd, SOL_SOCKET, SO_REUSEADDR, reuse) == 0
            assert p.setsockopt(t, fd, SOL_SOCKET, SO_REUSEPORT, reuseport) == 0
            err = syscalls.sys_bind(t, fd, pack_sockaddr_in(ip, 7777))
            results.append(err)
            if err == 0 and listen:
                results.append(syscalls.sys_listen(t, fd, 5))
        a1, r1, p1, l1 = first
        a2, r2, p2, l2 = second
        overlap = a1 == a2 or ANY in (a1, a2)
        ok = not overlap or (r1 and r2 and not l1) or (p1 and p2)
        want = [0] + [0] * l1 + [0 if ok else -EADDRINUSE] + ([0] * l2 if ok else [])
        assert results == want, (first, second)
        for fd in fds:
            p.close(t, fd)
    p.assert_nothing_left()


def test_so_reuseport_is_for_socks_of_one_user() -> None:
    p = Peer()
    t = p.task
    fds = [p.socket(t), p.socket(t)]
    for fd in fds:
        p.setsockopt(t, fd, SOL_SOCKET, SO_REUSEPORT, 1)
    tcp_sk(t, fds[1]).sk_uid = 1000
    assert syscalls.sys_bind(t, fds[0], pack_sockaddr_in(0, 7777)) == 0
    assert syscalls.sys_bind(t, fds[1], pack_sockaddr_in(0, 7777)) == -EADDRINUSE
    tcp_sk(t, fds[1]).sk_uid = 0
    assert syscalls.sys_bind(t, fds[1], pack_sockaddr_in(0, 7777)) == 0


def test_bind_to_port_0_gives_odd_ports_and_connect_gives_even_ones() -> None:
    p = Peer()
    t = p.task
    for _ in range(20):
        fd = p.socket(t)
        assert syscalls.sys_bind(t, fd, pack_sockaddr_in(0, 0)) == 0
        _, port = unpack_sockaddr_in(syscalls.sys_getsockname(t, fd)[1])
        assert port & 1 and 32768 <= port <= 60999
        fd = p.socket(t, nonblock=True)
        assert p.connect(t, fd, B, 80) == -EINPROGRESS
        port = p.tx1().sport
        assert not port & 1 and 32768 <= port <= 60999


def test_ports_run_out_and_come_back() -> None:
    p = Peer()
    t = p.task
    p.net.ipv4.ip_local_ports[:] = [40000, 40003]
    fds = []
    for _ in range(4):
        fd = p.socket(t)
        assert syscalls.sys_bind(t, fd, pack_sockaddr_in(0, 0)) == 0
        fds.append(fd)
    fd = p.socket(t)
    assert syscalls.sys_bind(t, fd, pack_sockaddr_in(0, 0)) == -EADDRINUSE
    assert p.connect(t, fd, B, 80) == -EADDRNOTAVAIL
    p.close(t, fds[2])
    assert p.setsockopt(t, fd, SOL_SOCKET, SO_REUSEADDR, 0) == 0
    assert syscalls.sys_bind(t, fd, pack_sockaddr_in(0, 0)) == 0


def test_one_port_serves_connections_to_different_peers() -> None:
    """What RFC 6056's search is for: the four-tuple has to be unique, not the port."""
    p = Peer()
    t = p.task
    p.net.ipv4.ip_local_ports[:] = [40000, 40001]
    seen = set()
    for port in range(1, 11):
        fd = p.socket(t, nonblock=True)
        assert p.connect(t, fd, B, port) == -EINPROGRESS
        syn = p.tx1()
        seen.add((syn.sport, syn.dport))
    assert len(seen) == 10 and {s for s, _ in seen} <= {40000, 40001}


def test_a_reserved_port_is_never_chosen_but_may_be_asked_for() -> None:
    p = Peer()
    t = p.task
    p.net.ipv4.ip_local_ports[:] = [40000, 40001]
    p.net.ipv4.ip_local_reserved_ports[:] = [40000]
    for _ in range(3):
        fd = p.socket(t, nonblock=True)
        assert p.connect(t, fd, B, 80 + fd) == -EINPROGRESS
        assert p.tx1().sport == 40001
    fd = p.socket(t)
    assert syscalls.sys_bind(t, fd, pack_sockaddr_in(0, 40000)) == 0


def test_a_failed_connect_leaves_no_trace() -> None:
    p = Peer()
    t = p.task
    fd = p.socket(t)
    assert p.connect(t, fd, addr("224.0.0.1"), 80) < 0
    assert p.connect(t, fd, addr("203.0.113.1"), 80) < 0  # no route
    assert p.silent()
    sk = tcp_sk(t, fd)
    assert sk.inet_num == 0 and sk.inet_rcv_saddr == 0 and sk.inet_dport == 0
    p.close(t, fd)
    p.assert_nothing_left()


def test_the_tables_keep_namespaces_apart() -> None:
    pair = Pair()
    for task in (pair.ta, pair.tb):
        fd = pair.socket(task)
        assert syscalls.sys_bind(task, fd, pack_sockaddr_in(0, 7777)) == 0
        assert syscalls.sys_listen(task, fd, 1) == 0
    hinfo = pair.kernel.inet_hashinfo
    assert hinfo is not None
    for net, ip in ((pair.na, A), (pair.nb, B)):
        sk = inet_hashtables.__inet_lookup_listener(net, hinfo, 1, 1, ip, 7777, 1)
        assert sk is not None and sk.sk_net is net


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_listener_at_the_very_address_wins_and_one_of_another_device_hears_nothing(order: tuple[int, int, int]) -> None:
    p = Peer()
    t = p.task
    dev, far = p.host.dev.ifindex, p.host.far.ifindex
    spec = [(0, 0), (A, dev), (A, far)]
    fds = {}
    for i in order:
        fd = p.socket(t)
        p.setsockopt(t, fd, SOL_SOCKET, SO_REUSEPORT, 1)
        ip, oif = spec[i]
        tcp_sk(t, fd).sk_bound_dev_if = oif
        assert syscalls.sys_bind(t, fd, pack_sockaddr_in(ip, 80)) == 0
        assert syscalls.sys_listen(t, fd, 1) == 0
        fds[i] = fd
    hinfo = p.kernel.inet_hashinfo
    assert hinfo is not None

    def look(ip: int, dif: int) -> object:
        return inet_hashtables.__inet_lookup_listener(p.net, hinfo, B, 5000, ip, 80, dif)

    assert look(A, dev) is tcp_sk(t, fds[1])
    assert look(A, far) is tcp_sk(t, fds[2])
    assert look(A, 99) is tcp_sk(t, fds[0])
    assert look(addr("192.0.2.1"), dev) is tcp_sk(t, fds[0])


def test_a_so_reuseport_group_spreads_connections_and_keeps_each_where_it_is() -> None:
    p = Peer()
    t = p.task
    fds = []
    for _ in range(4):
        fd = p.socket(t)
        p.setsockopt(t, fd, SOL_SOCKET, SO_REUSEPORT, 1)
        assert syscalls.sys_bind(t, fd, pack_sockaddr_in(0, 80)) == 0
        assert syscalls.sys_listen(t, fd, 1) == 0
        fds.append(fd)
    hinfo = p.kernel.inet_hashinfo
    assert hinfo is not None
    count = {tcp_sk(t, fd): 0 for fd in fds}
    for port in range(1, 401):
        sk = inet_hashtables.__inet_lookup_listener(p.net, hinfo, B, port, A, 80, 1)
        again = inet_hashtables.__inet_lookup_listener(p.net, hinfo, B, port, A, 80, 1)
        assert sk is again
        count[sk] += 1  # type: ignore[index]
    assert min(count.values()) > 60
    p.close(t, fds[0])
    for port in range(1, 51):
        sk = inet_hashtables.__inet_lookup_listener(p.net, hinfo, B, port, A, 80, 1)
        assert sk in [tcp_sk(t, fd) for fd in fds[1:]]
