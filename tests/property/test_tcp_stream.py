"""Any schedule of loss, reordering and duplication delivers the byte stream, to the last byte, through close.

AFINET_EXAMPLES=5000 tries so many; the usual number is what a daily run can afford.
"""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet import Network
from tests.scenarios import finish, go, pair, pattern, request, serve_one

shares = st.integers(0, 25)  # percent


@settings(max_examples=int(os.environ.get("AFINET_EXAMPLES", "60")), deadline=None)
@given(
    seed=st.integers(0, 2**32),
    up=st.integers(0, 60_000),
    down=st.integers(0, 60_000),
    chunk=st.sampled_from([1, 100, 1447, 1448, 1449, 65536]),
    loss=shares,
    reorder=shares,
    duplicate=shares,
    delay=st.integers(0, 60),
    jitter=st.integers(0, 30),
    rate=st.sampled_from([None, "1mbit", "100mbit"]),
    queue=st.sampled_from([5, 50, 1000]),
    sack=st.booleans(),
    timestamps=st.booleans(),
    window_scaling=st.booleans(),
)
def test_the_stream_arrives_whatever_the_link_does(
    seed: int,
    up: int,
    down: int,
    chunk: int,
    loss: int,
    reorder: int,
    duplicate: int,
    delay: int,
    jitter: int,
    rate: str | None,
    queue: int,
    sack: bool,
    timestamps: bool,
    window_scaling: bool,
) -> None:
    if chunk < 1000:
        up = min(up, 3000)
    with Network(seed=seed) as net:
        client, server = pair(
            net,
            delay=f"{delay}ms",
            jitter=f"{min(jitter, delay)}ms",
            loss=loss / 100,
            reorder=reorder / 100,
            duplicate=duplicate / 100,
            rate=rate,
            queue=queue,
        )
        for host in (client, server):
            host.sysctl("net.ipv4.tcp_sack", int(sack))
            host.sysctl("net.ipv4.tcp_timestamps", int(timestamps))
            host.sysctl("net.ipv4.tcp_window_scaling", int(window_scaling))
            host.sysctl("net.ipv4.tcp_syn_retries", 12)
            host.sysctl("net.ipv4.tcp_synack_retries", 12)
            # a neighbour that cannot be found is an honest EHOSTUNREACH: not what this is about
            host.sysctl("net.ipv4.neigh.eth0.mcast_solicit", 100)
            host.sysctl("net.ipv4.neigh.eth0.ucast_solicit", 100)
        there, back = pattern(up), pattern(down)
        s = go(server, serve_one, back)
        r = go(client, request, server.ipv4_addresses()[0], there, chunk)
        finish(net, s, r, limit=20_000)
        assert s.value == there
        assert r.value == back
        for host in (client, server):
            prot = next(p for p in host.kernel.proto_list if p.name == "TCP")
            assert prot.memory_allocated == 0, host.name
