"""Bulk transfer over one link: MTU 1500, 10 ms each way, no loss; both ends and all ACKs together.

A segment is one packet on the wire that carries data; up to 45 of them travel as one object, as through a card with TSO and GRO. At
10 Gbit/s what one sending call made arrives and is acknowledged together; without a rate a whole congestion window arrives in one
instant and shares an ACK (`burst_segments_s`). The buffers are large enough that the congestion window, not memory, is what grows.
"""

from __future__ import annotations

import gc
import time

from afinet import Network
from afinet.init.main import new_task
from afinet.kernel.time import NSEC_PER_SEC
from afinet.sim.script import Calls, start
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import AF_INET, SO_RCVLOWAT, SOCK_STREAM, SOL_SOCKET

PORT = 19
CHUNK = bytes(range(256)) * 512  # 128 KiB a call
WARM_UP = 4 << 20
MSS = 1448


def sink(c: Calls):  # type: ignore[no-untyped-def]
    """Accept one connection and read it to its end."""
    listener = c.socket(AF_INET, SOCK_STREAM)
    # Woken for 64 KiB, not for each segment; and until they are there, every other segment is acknowledged at once.
    assert c.setsockopt(listener, SOL_SOCKET, SO_RCVLOWAT, (1 << 16).to_bytes(4, "little")) == 0
    assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
    assert c.listen(listener, 1) == 0
    fd, _ = yield c.accept(listener)
    total = 0
    while True:
        n, _, _ = yield c.recv(fd, 1 << 20)
        if n <= 0:
            assert n == 0, n
            return total
        total += n


def source(c: Calls, addr: int, size: int):  # type: ignore[no-untyped-def]
    """Connect and send `size` bytes."""
    fd = c.socket(AF_INET, SOCK_STREAM)
    assert (yield c.connect(fd, pack_sockaddr_in(addr, PORT))) == 0
    left = size
    while left > 0:
        chunk = CHUNK if left >= len(CHUNK) else CHUNK[:left]
        sent = yield c.send(fd, chunk)
        assert sent == len(chunk), sent
        left -= sent
    yield c.close(fd)


def measure() -> dict[str, object]:
    result = transfer("10gbit")
    result["burst_segments_s"] = transfer(None)["segments_s"]
    return result


def transfer(rate: str | None, size: int = 0) -> dict[str, object]:
    import afinet

    size = size or (192 << 20 if afinet.COMPILED else 48 << 20)
    with Network(seed=1) as net:
        a, b = net.host("a"), net.host("b")
        net.link(a, b, delay="10ms", rate=rate, queue=10_000)
        for host in (a, b):
            host.sysctl("net.ipv4.tcp_rmem", (4096, 131072, 16 << 20))
            host.sysctl("net.ipv4.tcp_wmem", (4096, 16384, 16 << 20))
        net.run(until="1ms")
        hub = net.runner.hub
        receiver = start(hub, new_task(b.kernel, b.net, "sink", None), sink)
        sender = start(hub, new_task(a.kernel, a.net, "source", None), source, b.ipv4_addresses()[0], size)
        run_until(hub, lambda: b.devices[1].stats.rx_bytes > WARM_UP)
        before = b.devices[1].stats.rx_packets
        acks = a.devices[1].stats.rx_packets
        began = time.perf_counter()
        run_until(hub, lambda: receiver.done and sender.done)
        elapsed = time.perf_counter() - began
        segments = b.devices[1].stats.rx_packets - before
        assert receiver.value == size
        return {
            "segments_s": segments / elapsed,
            "mb_s": segments * MSS / elapsed / 1e6,
            "segments": segments,
            "acks": a.devices[1].stats.rx_packets - acks,
            "seconds": round(elapsed, 2),
            "virtual_s": round(net.now, 2),
        }


def run_until(hub, goal) -> None:  # type: ignore[no-untyped-def]
    """Run event by event until `goal()` holds; no more than ten virtual minutes. Garbage is collected now and then, as the virtual
    runner does it."""
    limit = hub.now + 600 * NSEC_PER_SEC
    events = 0
    gc.disable()
    while not goal():
        assert hub.now < limit, "the transfer does not end"
        hub.run(limit, 1)
        events += 1
        if events % 20_000 == 0:
            gc.collect(0)
    gc.enable()
