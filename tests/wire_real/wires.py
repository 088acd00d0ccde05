"""What is between afinet and the kernel that is its peer: nothing, or a path with delay and loss.

direct   peer (kernel) = near: TUN device -- afinet
lossy    peer (kernel) -- TUN, relay.py, TUN -- near (kernel as a router): TUN device -- afinet
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.wire_real.namespaces import Namespace
from tests.wire_real.relay import attach

AFINET = "10.9.0.2"
GATEWAY = "10.9.0.1"
FAR, NEAR = "10.1.0.1", "10.1.0.2"
ROOT = Path(__file__).resolve().parents[2]

# Milliseconds and share of the packets lost, each way.
DELAY, LOSS = 10, 0.01


class Wire:
    """`peer` is where the kernel's programs run and `address` theirs; `near` is where afinet's device is."""

    def __init__(self, peer: Namespace, near: Namespace, address: str, lossy: bool) -> None:
        self.peer = peer
        self.near = near
        self.address = address
        self.lossy = lossy

    def up(self, *program: str, options: tuple[str, ...] = (), **kwargs: Any) -> subprocess.Popen[bytes]:
        """`afinet up` with `program` on the near end."""
        arguments = ["--tun", "afi0", "--address", f"{AFINET}/24", "--gateway", GATEWAY, *options]
        return self.near.up(*arguments, "--", *program, **kwargs)


@contextlib.contextmanager
def direct() -> Iterator[Wire]:
    ns = Namespace()
    try:
        yield Wire(ns, ns, GATEWAY, False)
    finally:
        ns.close()


@contextlib.contextmanager
def lossy(delay: int = DELAY, loss: float = LOSS, seed: int = 7) -> Iterator[Wire]:
    far, near = Namespace(), Namespace()
    fds = []
    for ns, name, address in ((far, "far0", FAR), (near, "near0", NEAR)):
        with ns.inside():
            fds.append(attach(name))
        ns.run("ip", "addr", "add", f"{address}/24", "dev", name)
        ns.run("ip", "link", "set", name, "up", "txqueuelen", "10000")
    far.run("ip", "route", "add", "10.9.0.0/24", "via", NEAR)
    with near.inside():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    with far.inside():
        # A new namespace may have another one, which paces by a qdisc that not every kernel has.
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")
    relay = subprocess.Popen(
        [sys.executable, "-m", "tests.wire_real.relay", *map(str, fds), str(delay), str(loss), str(seed)], pass_fds=fds, cwd=ROOT
    )
    for fd in fds:
        os.close(fd)
    try:
        yield Wire(far, near, FAR, True)
    finally:
        relay.kill()
        relay.wait()
        far.close()
        near.close()
