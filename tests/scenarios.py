"""Core scenarios: whole runs on raw system calls, each a function of its seed. Their trace hashes are in tests/scenarios.json.

    python -m tests.scenarios             print the hashes
    python -m tests.scenarios --update    write them, after a change that is meant to change packets

A hash covers every packet at every device: time, host, device, direction, bytes. The same on every Python, interpreted or compiled.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from afinet import Host, Network
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.kernel.wait import Kiocb
from afinet.net.core.dev import dev_set_mtu
from afinet.runner.virtual import SimTask, current_task
from afinet.sim.script import Calls, Script, start
from afinet.uapi.errno import EAGAIN, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EIOCBQUEUED, ETIMEDOUT
from afinet.uapi.in_ import (
    IP_ADD_MEMBERSHIP,
    IP_MULTICAST_IF,
    IP_RECVERR,
    IP_TTL,
    IPPROTO_ICMP,
    IPPROTO_IP,
    IPPROTO_TCP,
)
from afinet.uapi.snmp import (
    IPSTATS_MIB_CSUMERRORS,
    IPSTATS_MIB_FRAGCREATES,
    IPSTATS_MIB_FRAGFAILS,
    LINUX_MIB_LISTENOVERFLOWS,
    TCP_MIB_CSUMERRORS,
)
from afinet.uapi.sockaddr import pack_linger, pack_sockaddr_in, pack_timeval
from afinet.uapi.socket import (
    AF_INET,
    MSG_DONTWAIT,
    MSG_OOB,
    SHUT_WR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_OOBINLINE,
    SO_RCVBUF,
    SO_RCVTIMEO,
    SO_REUSEPORT,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
)
from afinet.uapi.sockios import SIOCATMARK
from afinet.uapi.tcp import TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_NODELAY

HASHES = Path(__file__).with_name("scenarios.json")
PORT = 80
Flow = Generator[Any, Any, Any]


# Networks whose flows are tasks of the runner, each on a stack of its own (tests/test_switch.py), instead of scripts.
AS_TASKS: list[Network] = []


def go(host: Host, function: Callable[..., Flow], *args: Any) -> Script | SimTask:
    process = new_task(host.kernel, host.net, function.__name__, None)
    if host.network in AS_TASKS:
        return host.network.runner.spawn(process, blocking, (function, *args), name=function.__name__)
    return start(host.network.runner.hub, process, function, *args)


def blocking(function: Callable[..., Flow], *args: Any) -> Any:
    """A flow as a program of blocking calls."""
    me = current_task()
    assert me is not None
    flow = function(Calls(me.hub, me.process), *args)
    answer: Any = None
    while True:
        try:
            op = flow.send(answer)
        except StopIteration as stop:
            return stop.value
        iocb = Kiocb()
        while True:
            answer = op(iocb)
            if (answer[0] if isinstance(answer, tuple) else answer) != -EIOCBQUEUED:
                break
            me.wait_iocb(iocb, function.__name__)


def finish(net: Network, *scripts: Script | SimTask, limit: int = 600) -> None:
    """Run until the scripts have ended, then until the connections have: 70 s see TIME_WAIT out."""
    hub = net.runner.hub
    deadline = hub.now + limit * NSEC_PER_SEC
    while not all(s.done for s in scripts):
        assert hub.now < deadline, [s.name for s in scripts if not s.done]
        if net in AS_TASKS:
            net.runner.run(deadline, lambda: all(s.done for s in scripts))
        else:
            hub.run(deadline, 1000)
    net.run_for("70s")


def int32(value: int) -> bytes:
    return struct.pack("<i", value)


def pattern(size: int) -> bytes:
    return bytes((i * 131 + (i >> 8)) & 255 for i in range(size))


def read_to_end(c: Calls, fd: int, pause: int = 0, size: int = 65536) -> Flow:
    pieces: list[bytes] = []
    while True:
        n, got, _ = yield c.recv(fd, size)
        if n <= 0:
            assert n == 0, n
            return b"".join(pieces)
        pieces += got
        if pause:
            yield c.sleep(pause)


def serve_one(c: Calls, reply: bytes, rcvbuf: int = 0, pause: int = 0) -> Flow:
    """Accept one connection, read it to its end, answer, close. What was read."""
    listener = c.socket(AF_INET, SOCK_STREAM)
    if rcvbuf:
        assert c.setsockopt(listener, SOL_SOCKET, SO_RCVBUF, int32(rcvbuf)) == 0
    assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
    assert c.listen(listener, 16) == 0
    fd, _ = yield c.accept(listener)
    assert fd >= 0, fd
    data = yield from read_to_end(c, fd, pause)
    if reply:
        assert (yield c.send(fd, reply)) == len(reply)
    yield c.close(fd)
    yield c.close(listener)
    return data


def request(c: Calls, addr: int, data: bytes, chunk: int = 1 << 20) -> Flow:
    """Connect, send, shut down, read the answer to its end."""
    fd = c.socket(AF_INET, SOCK_STREAM)
    err = yield c.connect(fd, pack_sockaddr_in(addr, PORT))
    assert err == 0, err
    for at in range(0, len(data), chunk):
        part = data[at : at + chunk]
        assert (yield c.send(fd, part)) == len(part)
    assert c.shutdown(fd, SHUT_WR) == 0
    answer = yield from read_to_end(c, fd)
    yield c.close(fd)
    return answer


def pair(net: Network, **link: Any) -> tuple[Host, Host]:
    client, server = net.host("client"), net.host("server")
    net.link(client, server, **link)
    return client, server


def transfer(net: Network, up: int, down: int, chunk: int = 1 << 20, rcvbuf: int = 0, pause: int = 0, **link: Any) -> None:
    client, server = pair(net, **link)
    there, back = pattern(up), pattern(down)
    s = go(server, serve_one, back, rcvbuf, pause)
    r = go(client, request, server.ipv4_addresses()[0], there, chunk)
    finish(net, s, r)
    assert s.value == there
    assert r.value == back


# -- the scenarios ---------------------------------------------------------------------------------------------------------


def one_byte_each_way(net: Network) -> None:
    transfer(net, 1, 1, delay="10ms")


def bulk_without_loss(net: Network) -> None:
    transfer(net, 1_000_000, 10, delay="10ms", rate="100mbit")


def bulk_with_loss(net: Network) -> None:
    transfer(net, 400_000, 400_000, delay="20ms", rate="20mbit", loss=0.02)


def reordering_and_duplicates(net: Network) -> None:
    transfer(net, 300_000, 3000, delay="10ms", jitter="4ms", reorder=0.05, duplicate=0.03, rate="50mbit")


def a_slow_reader(net: Network) -> None:
    transfer(net, 120_000, 0, delay="5ms", rcvbuf=8192, pause=300 * NSEC_PER_MSEC)


def small_writes(net: Network) -> None:
    transfer(net, 4000, 4000, chunk=7, delay="30ms", loss=0.01)


def two_flows_share_a_router(net: Network) -> None:
    left, right, router, server = net.host("left"), net.host("right"), net.host("router"), net.host("server")
    net.link(left, router, delay="3ms")
    net.link(right, router, delay="9ms")
    net.link(router, server, delay="5ms", rate="10mbit", queue=30)
    net.run(until="1us")

    def serve(c: Calls) -> Flow:
        listener = c.socket(AF_INET, SOCK_STREAM)
        assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
        assert c.listen(listener, 16) == 0
        total = 0
        for _ in range(2):
            fd, _ = yield c.accept(listener)
            total += len((yield from read_to_end(c, fd)))
            yield c.close(fd)
        yield c.close(listener)
        return total

    s = go(server, serve)
    flows = [go(host, request, server.ipv4_addresses()[0], pattern(200_000)) for host in (left, right)]
    finish(net, s, *flows)
    assert s.value == 400_000


def datagrams_in_fragments(net: Network) -> None:
    client, server = pair(net, delay="2ms", loss=0.05)

    def echo(c: Calls) -> Flow:
        fd = c.socket(AF_INET, SOCK_DGRAM)
        assert c.bind(fd, pack_sockaddr_in(0, PORT)) == 0
        assert c.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, pack_timeval(10, 0)) == 0
        while True:
            n, pieces, addr = yield c.recv(fd, 65536)
            if n == -EAGAIN:
                return
            assert (yield c.send(fd, b"".join(pieces), 0, addr)) == n

    def ask(c: Calls, addr: int) -> Flow:
        fd = c.socket(AF_INET, SOCK_DGRAM)
        assert (yield c.connect(fd, pack_sockaddr_in(addr, PORT))) == 0
        for size in (0, 1, 1472, 1473, 4000, 9000):
            assert (yield c.send(fd, pattern(size))) == size
            yield c.sleep(50 * NSEC_PER_MSEC)
        yield c.close(fd)

    go(server, echo)
    finish(net, go(client, ask, server.ipv4_addresses()[0]))


def echo_requests(net: Network) -> None:
    client, server = pair(net, delay="7ms", loss=0.1)

    def ping(c: Calls, addr: int) -> Flow:
        fd = c.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)
        for seq in range(20):
            body = struct.pack(">BBHHH", 8, 0, 0, 77, seq) + pattern(56)
            total = sum(struct.unpack(f">{len(body) // 2}H", body))
            total = (total & 0xFFFF) + (total >> 16)
            check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
            message = body[:2] + struct.pack(">H", check) + body[4:]
            assert (yield c.send(fd, message, 0, pack_sockaddr_in(addr, 0))) == len(message)
            yield c.sleep(100 * NSEC_PER_MSEC)
        yield c.close(fd)

    finish(net, go(client, ping, server.ipv4_addresses()[0]))


def refused_and_unanswered(net: Network) -> None:
    client, server = pair(net, delay="1ms")

    def knock(c: Calls, addr: int, expected: int) -> Flow:
        fd = c.socket(AF_INET, SOCK_STREAM)
        err = yield c.connect(fd, pack_sockaddr_in(addr, PORT))
        assert err == -expected, err
        yield c.close(fd)

    finish(net, go(client, knock, server.ipv4_addresses()[0], ECONNREFUSED))
    net.links[0].cut()  # ARP finds out sooner than TCP
    finish(net, go(client, knock, server.ipv4_addresses()[0], EHOSTUNREACH))


def keepalive_finds_a_dead_peer(net: Network) -> None:
    client, server = pair(net, delay="1ms")

    def hold(c: Calls) -> Flow:
        listener = c.socket(AF_INET, SOCK_STREAM)
        assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
        assert c.listen(listener, 1) == 0
        yield c.accept(listener)
        yield c.sleep(300 * NSEC_PER_SEC)

    def wait(c: Calls, addr: int) -> Flow:
        fd = c.socket(AF_INET, SOCK_STREAM)
        for level, option, value in (
            (SOL_SOCKET, SO_KEEPALIVE, 1),
            (IPPROTO_TCP, TCP_KEEPIDLE, 10),
            (IPPROTO_TCP, TCP_KEEPINTVL, 3),
            (IPPROTO_TCP, TCP_KEEPCNT, 4),
            (IPPROTO_TCP, TCP_NODELAY, 1),
        ):
            assert c.setsockopt(fd, level, option, int32(value)) == 0
        assert (yield c.connect(fd, pack_sockaddr_in(addr, PORT))) == 0
        assert (yield c.send(fd, b"x")) == 1
        yield c.sleep(NSEC_PER_SEC)
        net.links[0].cut()
        n, _, _ = yield c.recv(fd, 1)
        assert n == -ETIMEDOUT, n
        yield c.close(fd)

    go(server, hold)
    finish(net, go(client, wait, server.ipv4_addresses()[0]))


def both_ends_connect(net: Network) -> None:
    """Simultaneous open: two SYNs cross, and there is no server."""
    left, right = pair(net, delay="10ms")

    def peer(c: Calls, addr: int, mine: bytes) -> Flow:
        fd = c.socket(AF_INET, SOCK_STREAM)
        assert c.bind(fd, pack_sockaddr_in(0, PORT)) == 0
        err = yield c.connect(fd, pack_sockaddr_in(addr, PORT))
        assert err == 0, err
        assert (yield c.send(fd, mine)) == len(mine)
        assert c.shutdown(fd, SHUT_WR) == 0
        theirs = yield from read_to_end(c, fd)
        yield c.close(fd)
        return theirs

    one = go(left, peer, right.ipv4_addresses()[0], b"from the left")
    two = go(right, peer, left.ipv4_addresses()[0], b"from the right")
    finish(net, one, two)
    assert (one.value, two.value) == (b"from the right", b"from the left")


def a_reset_by_linger(net: Network) -> None:
    """SO_LINGER of zero: a close throws the data away and resets."""
    client, server = pair(net, delay="5ms", rate="1mbit")

    def serve(c: Calls) -> Flow:
        listener = c.socket(AF_INET, SOCK_STREAM)
        assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
        assert c.listen(listener, 1) == 0
        fd, _ = yield c.accept(listener)
        total = 0
        while True:
            n, _, _ = yield c.recv(fd, 1000)
            if n < 0:
                assert n == -ECONNRESET, n
                return total
            total += n

    def give_up(c: Calls, addr: int) -> Flow:
        fd = c.socket(AF_INET, SOCK_STREAM)
        assert (yield c.connect(fd, pack_sockaddr_in(addr, PORT))) == 0
        assert (yield c.send(fd, pattern(100_000))) == 100_000
        yield c.sleep(100 * NSEC_PER_MSEC)
        assert c.setsockopt(fd, SOL_SOCKET, SO_LINGER, pack_linger(1, 0)) == 0
        yield c.close(fd)

    s = go(server, serve)
    finish(net, s, go(client, give_up, server.ipv4_addresses()[0]))
    assert 0 < s.value < 100_000


def listeners_that_share_a_port(net: Network) -> None:
    """SO_REUSEPORT: three processes, thirty connections, each taken by one of them, and everyone gets some."""
    client, server = pair(net, delay="1ms")

    def serve(c: Calls) -> Flow:
        listener = c.socket(AF_INET, SOCK_STREAM)
        assert c.setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, int32(1)) == 0
        assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
        assert c.listen(listener, 64) == 0
        assert c.setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, pack_timeval(10, 0)) == 0
        served[c.task.pid] = 0
        while True:
            fd, _ = yield c.accept(listener)
            if fd == -EAGAIN:
                return
            served[c.task.pid] += 1
            yield from read_to_end(c, fd)
            yield c.close(fd)

    served: dict[int, int] = {}
    for _ in range(3):
        go(server, serve)
    finish(net, *(go(client, request, server.ipv4_addresses()[0], b"x" * i) for i in range(30)))
    assert sum(served.values()) == 30 and min(served.values()) > 0, served


def an_overflowing_backlog(net: Network) -> None:
    """More connections than the backlog holds: the last ACKs are dropped and come again, and in the end all are served."""
    client, server = pair(net, delay="3ms")

    def serve(c: Calls) -> Flow:
        listener = c.socket(AF_INET, SOCK_STREAM)
        assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
        assert c.listen(listener, 2) == 0
        yield c.sleep(2500 * NSEC_PER_MSEC)
        for _ in range(8):
            fd, _ = yield c.accept(listener)
            yield from read_to_end(c, fd)
            yield c.close(fd)
        yield c.close(listener)

    s = go(server, serve)
    finish(net, s, *(go(client, request, server.ipv4_addresses()[0], pattern(100)) for _ in range(8)))
    assert server.net.net_statistics[LINUX_MIB_LISTENOVERFLOWS] > 0


def an_urgent_byte(net: Network) -> None:
    """Out of band, then in line at the mark."""
    client, server = pair(net, delay="4ms")

    def serve(c: Calls, inline: bool) -> Flow:
        listener = c.socket(AF_INET, SOCK_STREAM)
        assert c.setsockopt(listener, SOL_SOCKET, SO_OOBINLINE, int32(inline)) == 0
        assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
        assert c.listen(listener, 1) == 0
        fd, _ = yield c.accept(listener)
        yield c.sleep(NSEC_PER_SEC)
        before = b"".join((yield c.recv(fd, 100))[1])
        assert syscalls.sys_ioctl(c.task, fd, SIOCATMARK, bytes(4)) == (0, int32(1))
        urgent = b"" if inline else b"".join((yield c.recv(fd, 1, MSG_OOB))[1])
        rest = yield from read_to_end(c, fd)
        yield c.close(fd)
        yield c.close(listener)
        return before, urgent, rest

    def call(c: Calls, addr: int) -> Flow:
        fd = c.socket(AF_INET, SOCK_STREAM)
        assert (yield c.connect(fd, pack_sockaddr_in(addr, PORT))) == 0
        for data, flags in ((b"before", 0), (b"!", MSG_OOB), (b"after", 0)):
            assert (yield c.send(fd, data, flags)) == len(data)
        yield c.close(fd)

    for inline, expected in ((False, (b"before", b"!", b"after")), (True, (b"before", b"", b"!after"))):
        s = go(server, serve, inline)
        finish(net, s, go(client, call, server.ipv4_addresses()[0]))
        assert s.value == expected, s.value


def a_multicast_group(net: Network) -> None:
    """Two of three neighbours have joined; the sender hears itself."""
    sender = net.host("sender")
    receivers = [net.host(name, router=False) for name in ("one", "two", "deaf")]
    for host in receivers:
        net.link(sender, host, delay="2ms")
    group = 0xEF010203

    def listen(c: Calls, joins: bool, address: int) -> Flow:
        fd = c.socket(AF_INET, SOCK_DGRAM)
        assert c.bind(fd, pack_sockaddr_in(0, PORT)) == 0
        if joins:
            assert c.setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, struct.pack(">II", group, address)) == 0
        yield c.sleep(NSEC_PER_SEC)
        n, pieces, _ = yield c.recv(fd, 100, MSG_DONTWAIT)
        yield c.close(fd)
        return b"".join(pieces) if n >= 0 else n

    def send(c: Calls) -> Flow:
        own = sender.ipv4_addresses()
        hear = c.socket(AF_INET, SOCK_DGRAM)
        assert c.bind(hear, pack_sockaddr_in(group, PORT)) == 0
        assert c.setsockopt(hear, IPPROTO_IP, IP_ADD_MEMBERSHIP, struct.pack(">II", group, own[0])) == 0
        fd = c.socket(AF_INET, SOCK_DGRAM)
        for address in own:
            assert c.setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, struct.pack(">I", address)) == 0
            assert (yield c.send(fd, b"to the group", 0, pack_sockaddr_in(group, PORT))) == 12
        _, pieces, _ = yield c.recv(hear, 100)
        yield c.close(hear)
        yield c.close(fd)
        return b"".join(pieces)

    scripts = [go(host, listen, host.name != "deaf", host.ipv4_addresses()[0]) for host in receivers]
    scripts.append(go(sender, send))
    finish(net, *scripts)
    assert [s.value for s in scripts] == [b"to the group", b"to the group", -EAGAIN, b"to the group"]


def bits_that_flip(net: Network) -> None:
    """A link that damages packets: each is dropped by a checksum, and the stream is whole."""
    transfer(net, 200_000, 50_000, delay="5ms", rate="20mbit", corrupt=0.03)
    dropped = 0
    for host in net.hosts.values():
        dropped += host.net.tcp_statistics[TCP_MIB_CSUMERRORS] + host.net.ip_statistics[IPSTATS_MIB_CSUMERRORS]
    assert dropped > 3


def a_small_mtu_behind_a_router(net: Network) -> None:
    """Path MTU discovery: the router says that fragmentation is needed, the sender's segments get smaller, the data arrives."""
    left, router, right = net.host("left"), net.host("router"), net.host("right")
    net.link(left, router, delay="2ms")
    narrow = net.link(router, right, delay="8ms", mtu=600)
    # As if the far end did not say how little it can take: its own link is not the narrow one.
    assert dev_set_mtu(narrow.device_b, 1500) == 0
    net.run(until="1us")
    data = pattern(60_000)
    s = go(right, serve_one, pattern(10))
    r = go(left, request, right.ipv4_addresses()[0], data)
    finish(net, s, r)
    assert s.value == data
    assert router.net.ip_statistics[IPSTATS_MIB_FRAGFAILS] > 0
    assert left.net.ip_statistics[IPSTATS_MIB_FRAGCREATES] == 0


def errors_from_the_path(net: Network) -> None:
    """A closed port, a TTL that is too small, a host that is not there: each error reaches the socket that caused it."""
    left, router, right = net.host("left"), net.host("router"), net.host("right")
    net.link(left, router, delay="2ms")
    net.link(router, right, delay="2ms", subnet="10.9.0.0/24")
    net.run(until="1us")

    def ask(c: Calls, addr: int, ttl: int, expected: int) -> Flow:
        fd = c.socket(AF_INET, SOCK_DGRAM)
        for option, value in ((IP_TTL, ttl), (IP_RECVERR, 1)):
            assert c.setsockopt(fd, IPPROTO_IP, option, int32(value)) == 0
        assert (yield c.connect(fd, pack_sockaddr_in(addr, PORT))) == 0
        assert (yield c.send(fd, b"?")) == 1
        n, _, _ = yield c.recv(fd, 100)
        assert n == -expected, n
        yield c.close(fd)

    there = right.ipv4_addresses()[0]
    finish(net, go(left, ask, there, 64, ECONNREFUSED))
    finish(net, go(left, ask, there, 1, EHOSTUNREACH))
    finish(net, go(left, ask, there + 1, 64, EHOSTUNREACH))


SCENARIOS: tuple[Callable[[Network], None], ...] = (
    one_byte_each_way,
    bulk_without_loss,
    bulk_with_loss,
    reordering_and_duplicates,
    a_slow_reader,
    small_writes,
    two_flows_share_a_router,
    datagrams_in_fragments,
    echo_requests,
    refused_and_unanswered,
    keepalive_finds_a_dead_peer,
    both_ends_connect,
    a_reset_by_linger,
    listeners_that_share_a_port,
    an_overflowing_backlog,
    an_urgent_byte,
    a_multicast_group,
    bits_that_flip,
    a_small_mtu_behind_a_router,
    errors_from_the_path,
)


def trace_hash(scenario: Callable[[Network], None], seed: int = 7) -> str:
    with Network(seed=seed, trace=True) as net:
        scenario(net)
        return net.trace_hash


def main() -> int:
    hashes = {}
    for scenario in SCENARIOS:
        hashes[scenario.__name__] = trace_hash(scenario)
        print(f"{hashes[scenario.__name__]}  {scenario.__name__}", flush=True)
    if "--update" in sys.argv:
        HASHES.write_text(json.dumps(hashes, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
