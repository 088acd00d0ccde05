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
from afinet.init.main import new_task
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.sim.script import Calls, Script, start
from afinet.uapi.errno import ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT
from afinet.uapi.in_ import IPPROTO_ICMP, IPPROTO_TCP
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import AF_INET, SHUT_WR, SO_KEEPALIVE, SO_RCVBUF, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, SOL_SOCKET
from afinet.uapi.tcp import TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_NODELAY

HASHES = Path(__file__).with_name("scenarios.json")
PORT = 80
Flow = Generator[Any, Any, Any]


def go(host: Host, function: Callable[..., Flow], *args: Any) -> Script:
    return start(host.network.runner.hub, new_task(host.kernel, host.net, function.__name__, None), function, *args)


def finish(net: Network, *scripts: Script, limit: int = 600) -> None:
    """Run until the scripts have ended, then until the connections have: 70 s see TIME_WAIT out."""
    hub = net.runner.hub
    deadline = hub.now + limit * NSEC_PER_SEC
    while not all(s.done for s in scripts):
        assert hub.now < deadline, [s.name for s in scripts if not s.done]
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
        while True:
            n, pieces, addr = yield c.recv(fd, 65536)
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
