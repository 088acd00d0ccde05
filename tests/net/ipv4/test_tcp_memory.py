"""Memory as Linux means it: tcp_mem and its pressure, guaranteed minimums, autotuning, reserved memory, orphans, task groups. At
the end of each test all that was charged has come back (tests/leaks.py, and assert_nothing_left)."""

from __future__ import annotations

import pytest

from afinet import Network, UsageError
from afinet.init import syscalls
from afinet.kernel.memcontrol import PAGE_SIZE, MemCgroup, mem_cgroup_attach, mem_cgroup_sk_charge, mem_cgroup_sk_uncharge
from afinet.kernel.task import Task
from afinet.kernel.wait import Kiocb
from afinet.net.core.net_namespace import Net
from afinet.net.ipv4 import tcp_ipv4
from afinet.net.ipv4.tcp_inline import tcp_receive_window
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.uapi import snmp
from afinet.uapi.errno import EAGAIN, EIOCBQUEUED
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import (
    AF_INET,
    MSG_DONTWAIT,
    SO_RCVBUF,
    SO_RESERVE_MEM,
    SO_SNDBUF,
    SO_SNDTIMEO,
    SOCK_DGRAM,
    SOL_SOCKET,
)
from afinet.uapi.tcp import TCP_CLOSE, TCP_NODELAY
from afinet.wire.tcp_options import build_syn_options
from tests.net.ipv4.tcphost import MS, SEC, B, Pair, Peer, tcp_sk


def mib(net: Net, name: str) -> int:
    return net.net_statistics[snmp.SNMP4_NET_LIST.index(name)]


def mem(p: Pair | Peer) -> list[int]:
    """tcp_mem: pages where pressure ends, where it begins, and no more."""
    limits = tcp_ipv4.tcp_prot(p.kernel).sysctl_mem
    assert limits is not None
    return limits


def fill(p: Pair, task: Task, fd: int, size: int = 10_000) -> int:
    """Write until -EAGAIN. How much was taken."""
    total = 0
    while True:
        ret = p.send(task, fd, b"m" * size, MSG_DONTWAIT)
        if ret < 0:
            assert ret == -EAGAIN
            return total
        total += ret
        p.run(MS)


def drain(p: Pair, task: Task, fd: int) -> int:
    total = 0
    while True:
        data = p.recv(task, fd, 1 << 20, MSG_DONTWAIT)
        if not isinstance(data, bytes) or not data:
            return total
        total += len(data)
        p.run(MS)


def finish(p: Pair, *ends: tuple[Task, int]) -> None:
    for task, fd in ends:
        p.close(task, fd)
    p.run(300 * SEC)
    p.assert_nothing_left()


# -- the protocol ----------------------------------------------------------------------------------------------------------


def test_pressure_is_entered_and_left_and_both_are_counted() -> None:
    p = Pair()
    prot = tcp_ipv4.tcp_prot(p.kernel)
    c, s, listener = p.established()
    mem(p)[:] = [20, 30, 400]
    sent = fill(p, p.ta, c)
    assert prot.memory_pressure and mib(p.na, "TCPMemoryPressures") + mib(p.nb, "TCPMemoryPressures") == 1
    p.run(50 * MS)
    got = 0
    while got < sent:
        got += drain(p, p.tb, s)
        p.run(300 * MS)
    assert prot.memory_pressure == 0 and prot.memory_allocated < 20
    assert mib(p.na, "TCPMemoryPressuresChrono") + mib(p.nb, "TCPMemoryPressuresChrono") >= 50  # ms
    finish(p, (p.ta, c), (p.tb, s), (p.tb, listener))


def test_under_pressure_the_window_that_is_offered_shrinks() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive()
    sk = tcp_sk(p.task, fd)
    p.rx("P.", 1001, isn + 1, b"x" * 1000)
    assert p.tx1().window > 20_000
    sk.sk_prot.memory_pressure = p.kernel.now
    try:
        sk.rcv_ssthresh = 60_000
        sk.sk_rcvbuf = 100_000
        sk.sk_rmem_alloc += 80_000  # more than half is used
        p.rx("P.", 2001, isn + 1, b"x" * 1000)
        p.run(100 * MS)
        assert sk.rcv_ssthresh == 4 * sk.advmss
    finally:
        sk.sk_rmem_alloc -= 80_000
        sk.sk_prot.memory_pressure = 0
    p.close(p.task, fd)
    p.close(p.task, listener)


def test_without_memory_a_writer_tries_again_after_a_while_and_another_sock_s_memory_sets_it_free() -> None:
    p = Pair()
    c, s, listener = p.established()
    d, e, other = p.established(81)
    hoard = fill(p, p.ta, d)
    prot = tcp_ipv4.tcp_prot(p.kernel)
    mem(p)[:] = [prot.memory_allocated - 3, prot.memory_allocated - 2, prot.memory_allocated - 1]
    # c has nothing queued, so it gets one segment; then the memory is missing, not room in its buffer (which, set by the user, is
    # not made smaller).
    assert p.setsockopt(p.ta, c, SOL_SOCKET, SO_SNDBUF, 200_000) == 0
    iocb = Kiocb()
    data = b"w" * 60_000
    ret = syscalls.sys_sendto(p.ta, iocb, c, data, 0, b"")
    assert ret == -EIOCBQUEUED
    sk = tcp_sk(p.ta, c)
    p.run(10 * MS)
    tries = []
    for _ in range(5):
        assert syscalls.sys_sendto(p.ta, iocb, c, data, 0, b"") == -EIOCBQUEUED
        assert sk.sk_wmem_queued < sk.sk_sndbuf
        wait = iocb.wakes_at() - p.kernel.now
        assert 2 * MS <= wait <= 202 * MS
        tries.append(wait)
        # woken early, it goes on waiting
        p.run(wait // 2)
        assert syscalls.sys_sendto(p.ta, iocb, c, data, 0, b"") == -EIOCBQUEUED
        assert iocb.wakes_at() - p.kernel.now == wait - wait // 2
        p.run(wait - wait // 2)
    assert len(set(tries)) > 1
    # who does not wait: -EAGAIN, long before the send buffer is full
    more = 0
    while (taken := p.send(p.ta, c, b"x" * 1000, MSG_DONTWAIT)) > 0:
        more += taken
    assert taken == -EAGAIN and sk.sk_wmem_queued < sk.sk_sndbuf // 4
    got = drain(p, p.tb, e)
    while got < hoard:
        p.run(200 * MS)
        got += drain(p, p.tb, e)
    done = 0
    while ret == -EIOCBQUEUED:
        p.run(210 * MS)
        done += drain(p, p.tb, s)
        ret = syscalls.sys_sendto(p.ta, iocb, c, data, 0, b"")
    assert ret == 60_000
    while done < 60_000 + more:
        p.run(200 * MS)
        done += drain(p, p.tb, s)
    finish(p, (p.ta, c), (p.tb, s), (p.tb, listener), (p.ta, d), (p.tb, e), (p.tb, other))


def test_a_time_limit_ends_the_wait_for_memory() -> None:
    p = Pair()
    c, s, listener = p.established()
    tcp_ipv4.tcp_prot(p.kernel)
    mem(p)[:] = [0, 0, 0]
    assert p.setsockopt(p.ta, c, SOL_SOCKET, SO_SNDTIMEO, (1).to_bytes(8, "little") + bytes(8)) == 0
    begin = p.kernel.now
    sent = p.send(p.ta, c, b"x" * 100_000)
    assert 0 < sent < 100_000 and p.kernel.now - begin >= SEC
    mem(p)[:] = [1000, 2000, 3000]
    finish(p, (p.ta, c), (p.tb, s), (p.tb, listener))


def test_beyond_the_hard_limit_data_is_dropped_and_the_window_says_zero() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(build_syn_options(1460, 7, True, False, 0, 0))
    p.rx("P.", 1001, isn + 1, b"x" * 1000)
    p.tx()
    sk = tcp_sk(p.task, fd)
    sk.sk_forward_alloc, spare = 0, sk.sk_forward_alloc
    prot = sk.sk_prot
    before = mem(p)[:]
    mem(p)[:] = [0, 0, prot.memory_allocated]
    p.rx("P.", 2001, isn + 1, b"y" * 1000)
    assert p.tx1().window == 0
    assert mib(p.net, "TCPRcvQDrop") == 1
    sk.sk_forward_alloc += spare
    mem(p)[:] = before
    p.rx(".", 2000, isn + 1)  # a window probe
    assert p.tx1().window > 0
    p.rx("P.", 2001, isn + 1, b"y" * 1000)
    assert p.recv(p.task, fd, 4000) == b"x" * 1000 + b"y" * 1000
    p.close(p.task, fd)
    p.close(p.task, listener)


def test_small_segments_fill_the_buffer_with_payload_and_not_with_overhead() -> None:
    """A segment is counted by its payload; what many small ones took beside it is given back by copying them (tcp_collapse)."""
    p = Peer()
    listener = p.listener(p.task, p.dport)
    assert p.setsockopt(p.task, listener, SOL_SOCKET, SO_RCVBUF, 4000) == 0
    isn = p.handshake()
    fd = p.accept(p.task, listener)
    sk = tcp_sk(p.task, fd)
    taken = 0
    while tcp_receive_window(sk) >= 100:
        rcv_nxt = sk.rcv_nxt
        p.rx("P.", rcv_nxt, isn + 1, b"z" * 100)
        if sk.rcv_nxt == rcv_nxt:
            break
        taken += 1
        if tcp_receive_window(sk) < 100:
            p.run(50 * MS)  # the ACK that opens it again
    # half of SO_RCVBUF's 8000 bytes at least, of segments that each take 768 of them
    assert taken >= 40 and mib(p.net, "TCPRcvCollapsed") > 0
    assert p.recv(p.task, fd, 10_000) == b"z" * 100 * taken
    p.close(p.task, fd)
    p.close(p.task, listener)


# -- autotuning ------------------------------------------------------------------------------------------------------------


def bulk(moderate: int, rmem: list[int] | None = None, locked: int = 0) -> TcpSock:
    """The receiver's sock after 3 s of a bulk transfer over a link with 40 ms RTT."""
    with Network(seed=3) as net:
        a, b = net.host("a"), net.host("b")
        net.link(a, b, delay="20ms", rate="100mbit", queue=10_000)
        b.sysctl("net.ipv4.tcp_moderate_rcvbuf", moderate)
        if rmem is not None:
            b.sysctl("net.ipv4.tcp_rmem", rmem)
        found: list[TcpSock] = []

        def receive() -> None:
            from afinet import socket

            with socket.socket() as s:
                if locked:
                    s.setsockopt(SOL_SOCKET, SO_RCVBUF, locked)
                s.bind(("", 80))
                s.listen()
                conn, _ = s.accept()
                for socks in b.kernel.inet_hashinfo.ehash.values() if b.kernel.inet_hashinfo else ():
                    assert isinstance(socks, TcpSock)
                    found.append(socks)
                while conn.recv(1 << 20):
                    pass

        def send() -> None:
            from afinet import socket

            with socket.create_connection(("b", 80)) as s:
                for _ in range(200):
                    s.sendall(bytes(100_000))

        b.spawn(receive)
        a.spawn(send)
        net.run_for("3s")
        return found[0]


def test_the_receive_buffer_follows_what_the_program_reads_in_a_round_trip() -> None:
    sk = bulk(1)
    # 100 Mbit/s and 40 ms are 500 kB
    assert 1_000_000 < sk.sk_rcvbuf <= 33_554_432
    assert sk.rcvq_space_copied > 400_000


def test_the_receive_buffer_stays_within_tcp_rmem_or_where_it_was_put() -> None:
    assert bulk(1, [4096, 131072, 300_000]).sk_rcvbuf == 300_000
    assert bulk(0).sk_rcvbuf == 131072
    assert bulk(1, None, 50_000).sk_rcvbuf == 100_000


def test_the_send_buffer_follows_the_congestion_window() -> None:
    p = Pair()
    c, s, listener = p.established()
    sk = tcp_sk(p.ta, c)
    first = sk.sk_sndbuf
    for _ in range(30):
        iocb = Kiocb()
        while syscalls.sys_sendto(p.ta, iocb, c, bytes(1 << 20), 0, b"") == -EIOCBQUEUED:
            p.run(MS)
            drain(p, p.tb, s)
    assert first < sk.sk_sndbuf <= 4_194_304
    finish(p, (p.ta, c), (p.tb, s), (p.tb, listener))


# -- orphans ---------------------------------------------------------------------------------------------------------------


def test_more_orphans_than_tcp_max_orphans_are_reset() -> None:
    p = Pair()
    p.na.ipv4.sysctl_tcp_max_orphans = 2
    listener = p.listener(p.tb, 80)
    ends = []
    for _ in range(4):
        c = p.socket(p.ta)
        assert p.connect(p.ta, c, B, 80) == 0
        ends.append((c, p.accept(p.tb, listener)))
    prot = tcp_ipv4.tcp_prot(p.kernel)
    socks = [tcp_sk(p.ta, c) for c, _ in ends]
    # FIN_WAIT1 for good: the link is cut, the peer does not answer
    p.da.flags &= ~1
    for c, _ in ends:
        assert p.send(p.ta, c, b"data") == 4
        p.close(p.ta, c)
    assert prot.orphan_count == 2
    assert [sk.sk_state == TCP_CLOSE for sk in socks] == [False, False, True, True]
    assert mib(p.na, "TCPAbortOnMemory") == 2
    p.da.flags |= 1
    for _, s in ends:
        p.close(p.tb, s)
    p.close(p.tb, listener)
    p.run(1800 * SEC)
    p.assert_nothing_left()


# -- SO_RESERVE_MEM --------------------------------------------------------------------------------------------------------


def test_reserved_memory_is_what_a_sock_goes_on_with_under_pressure() -> None:
    p = Pair()
    mem_cgroup_attach(p.ta, MemCgroup("group"))
    c, s, listener = p.established()
    sk = tcp_sk(p.ta, c)
    assert p.setsockopt(p.ta, c, SOL_SOCKET, SO_RESERVE_MEM, 100_000) == 0
    assert sk.sk_forward_alloc >= 100_000
    prot = tcp_ipv4.tcp_prot(p.kernel)
    before = mem(p)[:]
    mem(p)[:] = [0, 0, prot.memory_allocated]
    assert p.setsockopt(p.ta, c, IPPROTO_TCP, TCP_NODELAY, 1) == 0
    # more than tcp_wmem[0], in one go, though the protocol has nothing to give
    assert p.send(p.ta, c, b"r" * 15_000, MSG_DONTWAIT) == 15_000
    mem(p)[:] = before
    p.run(SEC)
    assert drain(p, p.tb, s) == 15_000
    finish(p, (p.ta, c), (p.tb, s), (p.tb, listener))


# -- task groups -----------------------------------------------------------------------------------------------------------


def test_a_charge_counts_in_all_groups_above_and_fails_at_the_first_limit() -> None:
    top = MemCgroup("top", 10 * PAGE_SIZE)
    low = MemCgroup("low", 8 * PAGE_SIZE + 1, top)
    other = MemCgroup("other", -1, top)
    assert low.limit_in_bytes() == 8 * PAGE_SIZE
    assert mem_cgroup_sk_charge(low, 5) and mem_cgroup_sk_charge(other, 3)
    assert (low.usage, other.usage, top.usage) == (5, 3, 8)
    assert not mem_cgroup_sk_charge(low, 4)
    assert (low.usage, top.usage, low.failcnt, top.failcnt, low.tcpmem_pressure) == (5, 8, 1, 0, True)
    assert not mem_cgroup_sk_charge(low, 3)  # the group above
    assert (low.usage, top.usage, low.failcnt, top.failcnt) == (5, 8, 1, 1)
    assert mem_cgroup_sk_charge(low, 2)
    assert not low.tcpmem_pressure
    assert mem_cgroup_sk_charge(low, 4, True)
    assert (low.usage, top.usage, low.max_usage_in_bytes()) == (11, 14, 11 * PAGE_SIZE)
    mem_cgroup_sk_uncharge(low, 11)
    mem_cgroup_sk_uncharge(other, 3)
    assert (low.usage_in_bytes(), top.usage, top.max_usage) == (0, 0, 14)


def test_a_group_at_its_limit_makes_its_senders_wait_and_nobody_else_s() -> None:
    p = Pair()
    group = MemCgroup("group", 16 * PAGE_SIZE)
    mem_cgroup_attach(p.ta, group)
    c, s, listener = p.established()
    assert tcp_sk(p.ta, c).sk_memcg is group and tcp_sk(p.tb, s).sk_memcg is None
    sent = fill(p, p.ta, c)
    drained = drain(p, p.tb, s)
    p.da.flags &= ~1  # nothing is acknowledged any more
    while True:
        ret = p.send(p.ta, c, b"m" * 5000, MSG_DONTWAIT)
        if ret < 0:
            break
        sent += ret
    assert ret == -EAGAIN and group.failcnt > 0
    # The send buffer was made smaller. Beyond it a segment that was begun is filled up (64 KB), whatever the limit, as in Linux.
    assert tcp_sk(p.ta, c).sk_sndbuf < 16 * PAGE_SIZE and group.usage <= 16 + 2 * 16
    other = p.listener(p.ta, 90)
    d = p.socket(p.tb)
    p.da.flags |= 1
    assert p.connect(p.tb, d, tcp_sk(p.ta, c).inet_saddr, 90) == 0
    assert fill(p, p.tb, d) > 16 * PAGE_SIZE
    while drained < sent:
        p.run(SEC)
        drained += drain(p, p.tb, s)
    finish(p, (p.ta, c), (p.tb, s), (p.tb, listener), (p.ta, other), (p.tb, d))
    assert group.usage == 0


def test_a_sock_belongs_to_the_group_of_the_task_that_accepts_it_with_all_that_it_holds() -> None:
    p = Pair()
    group = MemCgroup("group")
    listener = p.listener(p.tb, 80)
    c = p.socket(p.ta)
    assert p.connect(p.ta, c, B, 80) == 0
    assert p.send(p.ta, c, b"d" * 10_000) == 10_000
    p.run(MS)
    prot = tcp_ipv4.tcp_prot(p.kernel)
    mem_cgroup_attach(p.tb, group)
    assert group.usage == 0
    s = p.accept(p.tb, listener)
    sk = tcp_sk(p.tb, s)
    assert sk.sk_memcg is group and tcp_sk(p.tb, listener).sk_memcg is None
    assert group.usage * PAGE_SIZE == sk.sk_rmem_alloc + sk.sk_forward_alloc
    assert group.usage <= prot.memory_allocated
    assert drain(p, p.tb, s) == 10_000
    finish(p, (p.ta, c), (p.tb, s), (p.tb, listener))
    assert group.usage == 0


def test_under_a_groups_pressure_little_window_is_offered_and_data_beyond_it_is_dropped() -> None:
    p = Pair()
    group = MemCgroup("group", 16 * PAGE_SIZE)
    mem_cgroup_attach(p.tb, group)
    c, s, listener = p.established()
    sent = fill(p, p.ta, c)
    p.run(SEC)
    sk = tcp_sk(p.tb, s)
    assert group.failcnt > 0 and group.usage <= 16 + 3
    assert sk.rcv_wnd <= 16 * PAGE_SIZE
    assert mib(p.nb, "PruneCalled") > 0
    got = drain(p, p.tb, s)
    while got < sent:
        p.run(SEC)
        got += drain(p, p.tb, s)
    finish(p, (p.ta, c), (p.tb, s), (p.tb, listener))
    assert group.usage == 0


def test_a_datagram_that_the_group_cannot_pay_for_is_dropped_and_counted() -> None:
    p = Pair()
    group = MemCgroup("group", 4 * PAGE_SIZE)
    mem_cgroup_attach(p.tb, group)
    u = syscalls.sys_socket(p.tb, AF_INET, SOCK_DGRAM, 0)
    assert syscalls.sys_bind(p.tb, u, pack_sockaddr_in(B, 9)) == 0
    v = syscalls.sys_socket(p.ta, AF_INET, SOCK_DGRAM, 0)
    for _ in range(20):
        assert syscalls.sys_sendto(p.ta, Kiocb(), v, b"d" * 1000, 0, pack_sockaddr_in(B, 9)) == 1000
        p.run(MS)
    errors = p.nb.udp_statistics[snmp.UDP_MIB_MEMERRORS]
    assert 0 < errors < 20 and group.failcnt == errors
    assert p.nb.udp_statistics[snmp.UDP_MIB_INERRORS] == errors
    got = 0
    while isinstance(p.recv(p.tb, u, 2000, MSG_DONTWAIT), bytes):
        got += 1
    assert got == 20 - errors
    for task, fd in ((p.tb, u), (p.ta, v)):
        syscalls.sys_close(task, Kiocb(), fd)
    assert group.usage == 0


def test_a_host_has_groups_for_its_programs() -> None:
    with Network(seed=5) as net:
        a, b = net.host("a"), net.host("b")
        net.link(a, b, delay="1ms")

        def send() -> int:
            from afinet import socket

            with socket.create_connection(("b", 80)) as s:
                s.settimeout(2)
                total = 0
                try:
                    while True:
                        total += s.send(bytes(20_000))
                except OSError:
                    return total

        reader = b.spawn(slow_reader)
        sender = a.spawn(send)
        group = b.memory_group("readers", "64kib", reader)
        net.run(until=sender)
        assert group.failcnt > 0 and 0 < group.max_usage_in_bytes() <= 64 * 1024 + 4 * PAGE_SIZE
        assert sender.result() < 3_000_000
        with pytest.raises(UsageError, match="limit='much' is not a size: write a number of bytes, or '64kb'"):
            b.memory_group("x", "much")


def slow_reader() -> None:
    """Accepts, and does not read."""
    from afinet import socket
    from afinet.stdlib import time

    with socket.create_server(("", 80)) as s:
        conn, _ = s.accept()
        time.sleep(10)
        conn.close()
