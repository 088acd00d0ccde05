"""connect, accept, close, one after the other: both ends in one thread, virtual delay of 10 microseconds."""

from __future__ import annotations

import time

from afinet import Network
from afinet.init.main import new_task
from afinet.sim.script import Calls, start
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import AF_INET, SOCK_STREAM

from .bulk import run_until

PORT = 9


def server(c: Calls):  # type: ignore[no-untyped-def]
    listener = c.socket(AF_INET, SOCK_STREAM)
    assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
    assert c.listen(listener, 128) == 0
    while True:
        fd, _ = yield c.accept(listener)
        n, _, _ = yield c.recv(fd, 1)
        assert n == 0, n
        yield c.close(fd)


def client(c: Calls, addr: int, count: int):  # type: ignore[no-untyped-def]
    for _ in range(count):
        fd = c.socket(AF_INET, SOCK_STREAM)
        assert (yield c.connect(fd, pack_sockaddr_in(addr, PORT))) == 0
        yield c.close(fd)


def measure(count: int = 0) -> dict[str, object]:
    import afinet

    count = count or (10_000 if afinet.COMPILED else 2_000)
    with Network(seed=1) as net:
        a, b = net.host("a"), net.host("b")
        net.link(a, b, delay="10us")
        net.run(until="1ms")
        hub = net.runner.hub
        start(hub, new_task(b.kernel, b.net, "server", None), server)
        script = start(hub, new_task(a.kernel, a.net, "client", None), client, b.ipv4_addresses()[0], count)
        began = time.perf_counter()
        run_until(hub, lambda: script.done)
        elapsed = time.perf_counter() - began
        return {"connections_s": count / elapsed, "connections": count, "seconds": round(elapsed, 2)}
