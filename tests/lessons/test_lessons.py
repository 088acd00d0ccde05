"""What hurt others in production, from the fix logs and issue threads of user-space stacks: one sentence each, in virtual time."""

from __future__ import annotations

import time

import pytest

from afinet import Network
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.net.core.dev import dev_add_pack
from afinet.net.core.flow import Flowi4
from afinet.net.core.netdevice import NetDevice, PacketType
from afinet.net.core.skbuff import SkBuff
from afinet.net.ipv4 import tcp_ipv4
from afinet.net.ipv4.fib_frontend import fib_lookup, ip_route_add
from afinet.net.ipv4.ip_fib import FibResult
from afinet.sim.script import Calls, Script, start
from afinet.uapi.errno import (
    EADDRNOTAVAIL,
    EAGAIN,
    ECONNABORTED,
    ECONNREFUSED,
    ECONNRESET,
    EHOSTUNREACH,
    EINVAL,
    ENETUNREACH,
    ETIMEDOUT,
)
from afinet.uapi.in_ import IP_RECVERR, IPPROTO_IP
from afinet.uapi.snmp import LINUX_MIB_TCPOFOQUEUE, TCP_MIB_RETRANSSEGS
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import AF_INET, MSG_DONTWAIT, SHUT_RD, SOCK_DGRAM, SOCK_STREAM
from afinet.wire import icmp as wire_icmp
from afinet.wire import ip as wire_ip
from afinet.wire import udp as wire_udp
from tests.leaks import check_kernel, close_and_check
from tests.net.core import devices
from tests.net.ipv4.iphost import addr
from tests.net.ipv4.tcphost import MSS1460, SEC, A, B, Pair, Peer, tcp_sk
from tests.scenarios import PORT, Flow, both_ends_connect, finish, go, pair, pattern, read_to_end, request, serve_one, transfer
from tests.test_hostile_tcp import STATES, Live, Target, tcp_packet

# -- ends that never came --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("timeout", "lasts"), [(10, 10), (60, 60), (100, 80)])
def test_a_fin_wait_2_orphan_is_reaped_after_tcp_fin_timeout(timeout: int, lasts: int) -> None:
    """The peer acknowledges the FIN and never sends its own. Of more than a minute, Linux waits twice for what is above it."""
    p = Target()
    p.net.ipv4.sysctl_tcp_fin_timeout = timeout * NSEC_PER_SEC
    live = Live(p, "FIN_WAIT2")
    assert p.kernel.inet_hashinfo is not None
    live.close()
    p.run((lasts - 2) * SEC)
    assert len(p.kernel.inet_hashinfo.ehash) == 1
    p.run(4 * SEC)
    assert not p.kernel.inet_hashinfo.ehash and p.net.ipv4.tw_count == 0


@pytest.mark.parametrize("state", ["FIN_WAIT1", "CLOSING", "LAST_ACK"])
def test_a_state_that_waits_for_an_acknowledgement_that_never_comes_ends(state: str) -> None:
    p = Target()
    live = Live(p, state)
    live.close()
    p.run(900 * SEC)
    assert p.kernel.inet_hashinfo is not None
    assert not p.kernel.inet_hashinfo.ehash and tcp_ipv4.tcp_prot(p.kernel).orphan_count == 0


@pytest.mark.parametrize("state", STATES)
def test_an_abort_works_in_every_state(state: str) -> None:
    p = Target()
    prot = tcp_ipv4.tcp_prot(p.kernel)
    live = Live(p, state)
    hinfo = p.kernel.inet_hashinfo
    assert hinfo is not None
    for sk in list(hinfo.ehash.values()):
        assert prot.diag_destroy(sk, ECONNABORTED) == 0
    if state == "LISTEN":
        assert prot.diag_destroy(live.sk, ECONNABORTED) == 0
    assert not hinfo.ehash
    if state not in ("LISTEN", "NEW_SYN_RECV", "TIME_WAIT", "CLOSE", "LAST_ACK"):
        assert p.so_error(p.task, live.fd) == ECONNABORTED
    p.run()
    p.tx()


def test_a_connect_that_fails_leaves_nothing_hashed() -> None:
    """Refused, unreachable, timed out, without a free port: the same socket tries again each time."""
    p = Pair()
    hinfo = p.kernel.inet_hashinfo
    assert hinfo is not None

    def nothing_hashed() -> bool:
        return not (hinfo.ehash or hinfo.bhash or hinfo.bhash2 or hinfo.lhash2)

    fd = p.socket(p.ta)
    assert p.connect(p.ta, fd, B, 80) == -ECONNREFUSED and nothing_hashed()
    assert p.connect(p.ta, fd, addr("8.8.8.8"), 80) == -ENETUNREACH and nothing_hashed()
    assert p.connect(p.ta, fd, B + 77, 80) == -EHOSTUNREACH and nothing_hashed()
    p.na.ipv4.ip_local_ports[:] = [5000, 5000]
    holder = p.socket(p.ta)
    assert syscalls.sys_bind(p.ta, holder, pack_sockaddr_in(0, 5000)) == 0
    assert p.connect(p.ta, fd, B, 80) == -EADDRNOTAVAIL
    p.close(p.ta, holder)
    assert nothing_hashed()
    q = Peer()
    fd = q.socket(q.task)
    assert q.connect(q.task, fd, B, 80) == -ETIMEDOUT  # 127 s and more of silence
    assert q.kernel.inet_hashinfo is not None
    assert not q.kernel.inet_hashinfo.ehash and not q.kernel.inet_hashinfo.bhash


def test_children_that_died_before_accept_are_handed_out_dead_and_leave_nothing() -> None:
    """As on Linux: accept() gives them, the first read tells. Those that nobody accepts end with the listener."""
    p = Peer()
    listener = p.listener(p.task, 80, 10)
    for port in range(5000, 5006):
        p.sport = port
        p.handshake(MSS1460)
        p.rx("R", p.ISN + 1)
    for _ in range(3):
        fd = p.accept(p.task, listener)
        assert p.recv(p.task, fd, 1) == -ECONNRESET
        assert p.recv(p.task, fd, 1) == b""
        p.close(p.task, fd)
    p.close(p.task, listener)
    p.assert_nothing_left()


# -- waiting in one thread, ending in another ------------------------------------------------------------------------------


class Threads:
    """Two processes of a network, each with as many threads as are started."""

    def __init__(self, net: Network) -> None:
        self.net = net
        client, server = pair(net, delay="1ms")
        self.address = server.ipv4_addresses()[0]
        self.hub = net.runner.hub
        self.client = new_task(client.kernel, client.net, "client", None)
        self.server = new_task(server.kernel, server.net, "server", None)
        c = Calls(self.hub, self.server)
        self.listener = c.socket(AF_INET, SOCK_STREAM)
        assert c.bind(self.listener, pack_sockaddr_in(0, PORT)) == 0
        assert c.listen(self.listener, 8) == 0

    def thread(self, function: object, *args: object) -> Script:
        return start(self.hub, self.server, function, *args)  # type: ignore[arg-type]


def test_shutdown_in_another_thread_wakes_recv_with_the_end_and_accept_with_einval() -> None:
    with Network(seed=1) as net:
        t = Threads(net)

        def connect(c: Calls) -> Flow:
            fd = c.socket(AF_INET, SOCK_STREAM)
            assert (yield c.connect(fd, pack_sockaddr_in(t.address, PORT))) == 0
            yield c.sleep(10 * NSEC_PER_SEC)

        def receive(c: Calls) -> Flow:
            fd, _ = yield c.accept(t.listener)
            fds.append(fd)
            n, _, _ = yield c.recv(fd, 100)
            return n, c.hub.now

        def accept(c: Calls) -> Flow:
            yield c.sleep(NSEC_PER_SEC)
            fd, _ = yield c.accept(t.listener)
            return fd, c.hub.now

        def end(c: Calls) -> Flow:
            yield c.sleep(2 * NSEC_PER_SEC)
            assert c.shutdown(fds[0], SHUT_RD) == 0
            yield c.sleep(NSEC_PER_SEC)
            assert c.shutdown(t.listener, SHUT_RD) == 0

        fds: list[int] = []
        began = t.hub.now
        start(t.hub, t.client, connect)
        receiver, accepter = t.thread(receive), t.thread(accept)
        finish(net, t.thread(end), receiver, accepter)
        assert receiver.value == (0, began + 2 * NSEC_PER_SEC)
        assert accepter.value == (-EINVAL, began + 3 * NSEC_PER_SEC)


def test_close_in_another_thread_wakes_nobody() -> None:
    """The waiting call holds the file, as on Linux: it goes on, and gets what comes."""
    with Network(seed=1) as net:
        t = Threads(net)

        def connect(c: Calls) -> Flow:
            fd = c.socket(AF_INET, SOCK_STREAM)
            assert (yield c.connect(fd, pack_sockaddr_in(t.address, PORT))) == 0
            yield c.sleep(5 * NSEC_PER_SEC)
            assert (yield c.send(fd, b"late")) == 4
            n, _, _ = yield c.recv(fd, 1)
            return n  # the file's last reference went with the call

        def receive(c: Calls) -> Flow:
            fd, _ = yield c.accept(t.listener)
            fds.append(fd)
            n, pieces, _ = yield c.recv(fd, 100)
            return n, b"".join(pieces), c.hub.now

        def end(c: Calls) -> Flow:
            yield c.sleep(2 * NSEC_PER_SEC)
            assert (yield c.close(fds[0])) == 0

        fds: list[int] = []
        began = t.hub.now
        peer = start(t.hub, t.client, connect)
        receiver = t.thread(receive)
        finish(net, peer, receiver, t.thread(end))
        n, data, when = receiver.value
        assert (n, data) == (4, b"late") and when > began + 5 * NSEC_PER_SEC
        assert peer.value == 0


# -- without bounds --------------------------------------------------------------------------------------------------------


def test_the_out_of_order_queue_is_bounded_by_the_receive_buffer() -> None:
    p = Target()
    live = Live(p, "ESTABLISHED")
    for dseq in range(60_000, 1, -2):
        p.put(live.segment(0x10, dseq=dseq, data=b"o"))
    assert live.sk.sk_rmem_alloc <= live.sk.sk_rcvbuf + 1000
    assert p.net.net_statistics[LINUX_MIB_TCPOFOQUEUE] > 0
    p.tx()


def test_fragments_datagrams_and_errors_that_nobody_reads_are_bounded() -> None:
    p = Peer()
    fd = syscalls.sys_socket(p.task, AF_INET, SOCK_DGRAM, 0)
    assert syscalls.sys_bind(p.task, fd, pack_sockaddr_in(0, 53)) == 0
    assert p.setsockopt(p.task, fd, IPPROTO_IP, IP_RECVERR, 1) == 0
    for i in range(3000):
        # a datagram, a first fragment of a datagram of its own, and an error about one sent from here
        datagram = wire_udp.emit(1000, 53, 8 + 500, 0) + bytes(500)
        p.host.receive(wire_ip.emit(0, 20 + len(datagram), i, 0, 64, 17, B, A) + datagram)
        p.host.receive(wire_ip.emit(0, 20 + 1400, i, 0x2000, 64, 17, B + i % 200, A) + bytes(1400))
        inner = wire_ip.emit(0, 28, 1, 0, 64, 17, A, B) + wire_udp.emit(53, 1000, 8, 0)
        error = wire_icmp.emit(3, 1, 0, inner)
        p.host.receive(wire_ip.emit(0, 20 + len(error), 1, 0, 64, 1, B, A) + error)
    assert p.net.ipv4.fqdir is not None
    assert p.net.ipv4.fqdir.mem <= p.net.ipv4.fqdir.high_thresh + 10_000
    file = p.task.files.fd[fd]
    sk = file.sock.sk  # type: ignore[union-attr]
    assert sk.sk_rmem_alloc <= sk.sk_rcvbuf + 2000
    assert sk.sk_cold is not None and 0 < sk.sk_cold.sk_error_queue.qlen < 1000
    p.run(60 * SEC)
    assert p.net.ipv4.fqdir.mem == 0


def test_connections_in_the_making_are_bounded_by_the_backlog() -> None:
    p = Target()
    for i in range(2000):
        p.put(tcp_packet(1024 + i, 80, i, 0, 2, options=MSS1460, saddr=B + i % 100))
    queue = tcp_sk(p.task, p.port80).icsk_accept_queue
    assert queue is not None and queue.qlen <= 17
    p.tx()


# -- slow without need -----------------------------------------------------------------------------------------------------


def test_small_writes_do_not_crawl_at_one_a_round_trip() -> None:
    """Nagle: while a segment is under way, the small writes gather. 200 writes at 100 ms a round trip take a few of these."""
    with Network(seed=1) as net:
        client, server = pair(net, delay="50ms")
        s = go(server, serve_one, b"ok")
        r = go(client, request, server.ipv4_addresses()[0], pattern(2000), 10)
        while not r.done:
            net.run_for("10ms")
        assert r.value == b"ok"
        assert net.now < 0.7
        finish(net, s)


def test_questions_and_answers_take_a_round_trip_each() -> None:
    """No delayed ACK, no Nagle stands between a question and its answer: 50 at 10 ms are half a second."""
    with Network(seed=1) as net:
        client, server = pair(net, delay="5ms")

        def serve(c: Calls) -> Flow:
            listener = c.socket(AF_INET, SOCK_STREAM)
            assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
            assert c.listen(listener, 1) == 0
            fd, _ = yield c.accept(listener)
            while (n := (yield c.recv(fd, 100))[0]) > 0:
                assert (yield c.send(fd, b"a" * n)) == n
            yield c.close(fd)
            yield c.close(listener)

        def ask(c: Calls) -> Flow:
            fd = c.socket(AF_INET, SOCK_STREAM)
            assert (yield c.connect(fd, pack_sockaddr_in(server.ipv4_addresses()[0], PORT))) == 0
            began = c.hub.now
            for _ in range(50):
                assert (yield c.send(fd, b"q" * 30)) == 30
                n, _, _ = yield c.recv(fd, 100)
                assert n == 30
            took = c.hub.now - began
            yield c.close(fd)
            return took

        s, r = go(server, serve), go(client, ask)
        finish(net, s, r)
        assert 500 * NSEC_PER_MSEC <= r.value < 510 * NSEC_PER_MSEC


def test_idle_connections_cost_no_tick() -> None:
    """A hundred of them for an hour: no timer, and hardly an event."""
    with Network(seed=1) as net:
        client, server = pair(net, delay="1ms")

        def serve(c: Calls) -> Flow:
            listener = c.socket(AF_INET, SOCK_STREAM)
            assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
            assert c.listen(listener, 200) == 0
            for _ in range(100):
                yield c.accept(listener)

        def connect(c: Calls) -> Flow:
            for _ in range(100):
                fd = c.socket(AF_INET, SOCK_STREAM)
                assert (yield c.connect(fd, pack_sockaddr_in(server.ipv4_addresses()[0], PORT))) == 0

        s, r = go(server, serve), go(client, connect)
        finish(net, s, r)
        net.run_for("10min")
        before = net.runner.hub.events
        net.run_for("1h")
        assert net.runner.hub.events - before < 20
        for host in (client, server):
            assert not [line for line in check_kernel(host.kernel) if "timers" in line and "Tcp" in line]


def test_ten_thousand_routes_are_not_scanned() -> None:
    p = Pair()
    for i in range(10_000):
        assert ip_route_add(p.na, addr("20.0.0.0") + (i << 8), 24, B, "") == 0
    began = time.perf_counter()
    for i in range(10_000):
        res = FibResult()
        assert fib_lookup(p.na, Flowi4(daddr=addr("20.0.0.7") + (i << 8)), res, 0) == 0 and res.prefixlen == 24
    assert time.perf_counter() - began < 30  # scanning took others 500 s; this takes 0.1


# -- what a stack has to be able to do -------------------------------------------------------------------------------------


def test_two_stacks_live_in_one_process() -> None:
    """The same names, addresses and ports in two networks, one run in the middle of the other."""
    with Network(seed=1) as outer, Network(seed=2) as inner:
        for net in (outer, inner):
            pair(net, delay="5ms")
        s = go(outer.hosts["server"], serve_one, b"outer")
        r = go(outer.hosts["client"], request, outer.hosts["server"].ipv4_addresses()[0], b"x")
        outer.run_for("12ms")
        s2 = go(inner.hosts["server"], serve_one, b"inner")
        r2 = go(inner.hosts["client"], request, inner.hosts["server"].ipv4_addresses()[0], b"x")
        finish(inner, s2, r2)
        assert not r.done and r2.value == b"inner"
        finish(outer, s, r)
        assert r.value == b"outer"


@pytest.mark.parametrize("isn", [0xFFFFFFFE, 0xFFFFFF00, 0xFFFF0000, 0x7FFFFFF0, 0x7FFF0000])
def test_sequence_numbers_wrap(isn: int) -> None:
    """Of both sides, in the middle of a stream."""
    p = Pair()
    listener = p.listener(p.tb, 80)
    fd = p.socket(p.ta)
    tcp_sk(p.ta, fd).write_seq = isn
    assert p.connect(p.ta, fd, B, 80) == 0
    server = p.accept(p.tb, listener)
    assert tcp_sk(p.tb, server).rcv_nxt == (isn + 1) & 0xFFFFFFFF
    data = pattern(150_000)
    got = b""
    for at in range(0, len(data), 10_000):
        assert p.send(p.ta, fd, data[at : at + 10_000]) == 10_000
        while isinstance(piece := p.recv(p.tb, server, 65536, MSG_DONTWAIT), bytes):
            got += piece
    p.run(SEC)
    while isinstance(piece := p.recv(p.tb, server, 65536, MSG_DONTWAIT), bytes) and piece:
        got += piece
    assert got == data
    q = Peer()
    q.ISN = isn
    _, fd, ours = q.open_passive(MSS1460)
    q.rx(".", isn + 4, ours + 1, b"def")
    q.rx(".", isn + 1, ours + 1, b"abc")
    assert q.recv(q.task, fd, 10) == b"abcdef"


@pytest.mark.leaks("the packet of the handler that raised")
def test_one_exception_in_a_users_handler_does_not_end_the_stack() -> None:
    """The stack itself raises nothing; a user's PacketType, Qdisc or protocol may. Who called is told, and the rest goes on."""

    class Raises(PacketType):
        def func(self, skb: SkBuff, dev: NetDevice) -> int:
            raise ValueError("in the user's handler")

    kernel = devices.boot()
    one, two = devices.veth_pair(kernel)
    bad = Raises(0x88B6)
    good = devices.Handler()
    dev_add_pack(kernel, bad)
    dev_add_pack(kernel, good)
    with pytest.raises(ValueError, match="in the user's handler"):
        devices.send(one, two.dev_addr, b"x", 0x88B6)
        kernel.run(kernel.now)
    assert (kernel.softirq_count, kernel.running) == (0, False)
    devices.send(one, two.dev_addr, b"y")
    kernel.run(kernel.now)
    assert [payload for _, _, payload in good.got] == [b"y"]


def test_a_simultaneous_open_is_reached() -> None:
    with Network(seed=3) as net:
        both_ends_connect(net)


def test_packets_are_lost_and_the_stream_is_not() -> None:
    with Network(seed=4) as net:
        transfer(net, 100_000, 100_000, delay="10ms", loss=0.05, jitter="5ms", reorder=0.05, duplicate=0.05)
        assert sum(host.net.tcp_statistics[TCP_MIB_RETRANSSEGS] for host in net.hosts.values()) > 0


def test_a_half_open_connection_learns_late_that_its_peer_is_gone() -> None:
    """The server's process ends while the cable is out; nobody hears of it; half an hour later the client speaks, and is reset."""
    with Network(seed=5) as net:
        client, server = pair(net, delay="1ms")
        process = new_task(server.kernel, server.net, "server", None)

        def serve(c: Calls) -> Flow:
            listener = c.socket(AF_INET, SOCK_STREAM)
            assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
            assert c.listen(listener, 1) == 0
            yield c.accept(listener)

        def hold(c: Calls) -> Flow:
            fd = c.socket(AF_INET, SOCK_STREAM)
            assert (yield c.connect(fd, pack_sockaddr_in(server.ipv4_addresses()[0], PORT))) == 0
            yield c.sleep(1800 * NSEC_PER_SEC)
            n, _, _ = yield c.recv(fd, 1, MSG_DONTWAIT)
            assert n == -EAGAIN, n  # as good as new, for all that is known here
            assert (yield c.send(fd, b"hello?")) == 6
            n, _, _ = yield c.recv(fd, 1)
            return n

        serving = start(net.runner.hub, process, serve)
        holding = go(client, hold)
        net.run_for("1s")
        assert serving.done and not holding.done
        cut = net.links[0].cut()
        with cut:
            syscalls.sys_exit(process)
            net.run_for("25min")
        finish(net, holding, limit=3600)
        assert holding.value == -ECONNRESET


def test_a_network_of_many_connections_ends_at_once_and_leaves_nothing() -> None:
    """Fast teardown: the processes end, and their kernels are empty after a few virtual minutes."""
    with Network(seed=6) as net:
        client, server = pair(net, delay="20ms", loss=0.01)

        def serve(c: Calls) -> Flow:
            listener = c.socket(AF_INET, SOCK_STREAM)
            assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
            assert c.listen(listener, 200) == 0
            for _ in range(50):
                fd, _ = yield c.accept(listener)
                yield from read_to_end(c, fd)

        s = go(server, serve)
        for _ in range(50):
            go(client, request, server.ipv4_addresses()[0], pattern(500))
        while not s.done:
            net.run_for("100ms")
        scripts = [client.kernel, server.kernel]
    assert close_and_check(scripts) == []
