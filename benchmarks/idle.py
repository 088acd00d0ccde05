"""Memory of idle established connections, with everything that belongs to them: socks, sockets, files, descriptors, hash entries.

The process's resident memory before and after N connections between two hosts, divided by 2 N.
"""

from __future__ import annotations

import gc
import os

from afinet import Network
from afinet.init.main import new_task
from afinet.sim.script import Calls, start
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import AF_INET, SOCK_STREAM

from .bulk import run_until

PORT = 7
CONNECTIONS = 10_000


def server(c: Calls, count: int):  # type: ignore[no-untyped-def]
    listener = c.socket(AF_INET, SOCK_STREAM)
    assert c.bind(listener, pack_sockaddr_in(0, PORT)) == 0
    assert c.listen(listener, 4096) == 0
    for _ in range(count):
        fd, _ = yield c.accept(listener)
        assert fd >= 0, fd
    return count


def client(c: Calls, addr: int, count: int):  # type: ignore[no-untyped-def]
    for _ in range(count):
        fd = c.socket(AF_INET, SOCK_STREAM)
        err = yield c.connect(fd, pack_sockaddr_in(addr, PORT))
        assert err == 0, err
    return count


def resident() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(connections: int = CONNECTIONS) -> dict[str, object]:
    with Network(seed=1) as net:
        a, b = net.host("a"), net.host("b")
        net.link(a, b, delay="1ms")
        net.run(until="1ms")
        hub = net.runner.hub
        tasks = [new_task(b.kernel, b.net, "server", None), new_task(a.kernel, a.net, "client", None)]
        for task in tasks:
            task.rlimit_nofile = 1 << 20
        warm = 500
        for count in (warm, connections):
            if count == connections:
                gc.collect()
                before = resident()
            port_server = start(hub, tasks[0], server if count == warm else more, *((count,) if count == warm else (count, 3)))
            port_client = start(hub, tasks[1], client, b.ipv4_addresses()[0], count)
            run_until(hub, lambda s=port_server, k=port_client: s.done and k.done)
        net.run_for("10s")  # delayed ACKs and the like are over: the connections are idle
        gc.collect()
        each = (resident() - before) / (2 * connections)
        return {"bytes_end": each, "connections": connections}


def more(c: Calls, count: int, listener: int):  # type: ignore[no-untyped-def]
    """Accept `count` more on the listener that `server` left open."""
    for _ in range(count):
        fd, _ = yield c.accept(listener)
        assert fd >= 0, fd
    return count
