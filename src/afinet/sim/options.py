"""What `afinet run`, or the test that replays a seed, asks of every Network of the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afinet.sim.host import Host
    from afinet.sim.network import Network


class Options:
    """`seed` overrides what the scenario says; `trace` turns the packet trace on; the callbacks hear of what is made."""

    def __init__(self) -> None:
        self.seed: int | None = None
        self.trace = False
        self.on_network: list[Callable[[Network], None]] = []
        self.on_host: list[Callable[[Host], None]] = []


options = Options()
