"""What an idle established connection costs: all that belongs to one end, socks, sockets, files, descriptors, hash entries.

`python -m benchmarks idle` gives the process's figures at 10,000 connections; here is counted what the allocator was asked for,
which is the same in every run.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

import afinet
from afinet import Network
from afinet.init.main import new_task
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.net.socket import SocketFile
from afinet.sim.script import Calls, Script, start
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import AF_INET, SOCK_STREAM
from afinet.uapi.tcp import TCP_ESTABLISHED

PORT = 7
BOUND = 2_000 if afinet.COMPILED else 4_000


def listener(c: Calls) -> Generator[Any, Any, int]:
    fd = c.socket(AF_INET, SOCK_STREAM)
    assert c.bind(fd, pack_sockaddr_in(0, PORT)) == 0
    assert c.listen(fd, 128) == 0
    yield c.sleep(1)
    return fd


def accepting(c: Calls, fd: int, count: int) -> Generator[Any, Any, list[int]]:
    fds = []
    for _ in range(count):
        new, _ = yield c.accept(fd)
        assert new >= 0
        fds.append(new)
    return fds


def connecting(c: Calls, addr: int, count: int) -> Generator[Any, Any, list[int]]:
    fds = []
    for _ in range(count):
        fd = c.socket(AF_INET, SOCK_STREAM)
        assert (yield c.connect(fd, pack_sockaddr_in(addr, PORT))) == 0
        fds.append(fd)
    return fds


class Idle:
    """Two hosts that open connections and leave them idle."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.a, self.b = net.host("a"), net.host("b")
        net.link(self.a, self.b, delay="1ms")
        net.run(until="1ms")
        self.tasks = [new_task(h.kernel, h.net, h.kernel.hostname, None) for h in (self.a, self.b)]
        for task in self.tasks:
            task.rlimit_nofile = 1 << 16
        self.fd = self.ended(start(net.runner.hub, self.tasks[1], listener))

    def ended(self, script: Script) -> Any:
        for _ in range(100):
            if script.done:
                return script.value
            self.net.run_for("1s")
        raise AssertionError("the script does not end")

    def more(self, count: int) -> None:
        hub = self.net.runner.hub
        server = start(hub, self.tasks[1], accepting, self.fd, count)
        client = start(hub, self.tasks[0], connecting, self.b.ipv4_addresses()[0], count)
        assert len(self.ended(client)) == len(self.ended(server)) == count
        self.net.run_for("10s")  # delayed ACKs and the like are over
        gc.collect()


def test_an_idle_connection_stays_within_its_bound() -> None:
    count = 500
    with Network(seed=1) as net:
        idle = Idle(net)
        idle.more(100)  # whatever is made once
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            idle.more(count)
            each = (tracemalloc.get_traced_memory()[0] - before) / (2 * count)
        finally:
            tracemalloc.stop()
    assert each < BOUND, f"{each:.0f} bytes an end"
    assert TcpSock.__basicsize__ < BOUND * 3 // 4


def test_an_idle_connection_owns_these_objects_and_no_others() -> None:
    """Nothing is left of the handshake: no request, no packet, no route of its own, no record of a call."""
    count = 50
    with Network(seed=1) as net:
        idle = Idle(net)
        idle.more(10)
        before = Counter(type(o).__name__ for o in gc.get_objects())
        idle.more(count)
        now = Counter(type(o).__name__ for o in gc.get_objects())
        grown = {name: now[name] - before[name] for name in now if now[name] - before[name] >= count}
        both = {"TcpSock": 2 * count, "Socket": 2 * count, "SocketFile": 2 * count}
        # the client bound a port and waited, and its SYN had a timer
        client = {"InetBindBucket": count, "InetBind2Bucket": count, "WaitQueueHead": count, "TcpWriteTimer": count}
        # interpreted, objects without references to others are tracked, too
        untracked = {"TcpOptionsReceived": 2 * count}
        grown = {name: n for name, n in grown.items() if name not in untracked or n != untracked[name]}
        assert grown == both | client


@pytest.mark.parametrize("host", [0, 1])
def test_an_idle_connection_has_no_timer_and_no_queue(host: int) -> None:
    with Network(seed=1) as net:
        idle = Idle(net)
        idle.more(3)
        task = idle.tasks[host]
        all_socks = [file.sock.sk for file in task.files.fd if isinstance(file, SocketFile)]
        socks = [sk for sk in all_socks if isinstance(sk, TcpSock) and sk.sk_state == TCP_ESTABLISHED]
        assert len(socks) == 3
        for sk in socks:
            for timer in (sk.icsk_retransmit_timer, sk.icsk_delack_timer, sk.sk_keepalive_timer, sk.compressed_ack_timer):
                assert timer is None or not timer.timer_pending()
            assert sk.sk_receive_queue is sk.sk_write_queue is sk.sk_net.ipv4.no_packets
            assert sk.tcp_rtx_queue is None and sk.out_of_order_queue is None and sk.sk_backlog is None
            assert sk.tcp_cold is None and sk.loss_state is None and sk.sk_cold is None and sk.inet_cold is None
            assert sk.sk_wq is None or sk.sk_wq.entries is None
