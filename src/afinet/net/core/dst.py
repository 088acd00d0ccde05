"""net/core/dst.c: the cached answer of a route lookup. `Rtable` (net/ipv4/route.py) is the IPv4 one.

What Linux reaches through `dst->ops`, `dst->input` and `dst->output` are methods that a family overrides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.uapi.errno import EOPNOTSUPP
from afinet.uapi.rtnetlink import RTAX_MAX

if TYPE_CHECKING:
    from afinet.net.core.neighbour import Neighbour
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Sock

DST_NOPOLICY: Final = 0x0004
DST_NOCOUNT: Final = 0x0008
DST_METADATA: Final = 0x0080

DST_FEATURE_ECN_CA: Final = 1 << 31  # in RTAX_FEATURES: the route's congestion control needs ECN

DST_OBSOLETE_NONE: Final = 0
DST_OBSOLETE_DEAD: Final = 2
DST_OBSOLETE_FORCE_CHK: Final = -1
DST_OBSOLETE_KILL: Final = -2


class DstEntry:
    """struct dst_entry."""

    __slots__ = ("dev", "error", "expires", "flags", "header_len", "lastuse", "metrics", "net", "obsolete")

    def __init__(self, net: Net, dev: NetDevice, flags: int = 0) -> None:
        self.net: Net = net
        self.dev: NetDevice = dev
        self.flags: int = flags
        self.error: int = 0
        self.obsolete: int = DST_OBSOLETE_NONE
        self.expires: int = 0  # ns; 0 is never
        self.lastuse: int = 0
        self.header_len: int = 0
        self.metrics: list[int] | None = None  # indexed by RTAX_* - 1; None: all default. Shared: replace, never write.

    def input(self, skb: SkBuff) -> int:
        """dst->input: what becomes of a received packet with this route."""
        return -EOPNOTSUPP

    def output(self, net: Net, sk: Sock | None, skb: SkBuff) -> int:
        """dst->output: send a packet whose network header is in place."""
        return -EOPNOTSUPP

    def check(self, cookie: int) -> bool:
        """Whether the route still holds (dst->ops->check)."""
        return self.obsolete == DST_OBSOLETE_NONE

    def mtu(self) -> int:
        """dst_mtu."""
        return self.dev.mtu

    def advmss(self) -> int:
        """dst_metric_advmss: the MSS to announce."""
        return self.dev.mtu - 40

    def update_pmtu(self, sk: Sock | None, skb: SkBuff | None, mtu: int, confirm_neigh: bool) -> None:
        """A router said that packets over `mtu` do not pass."""

    def redirect(self, sk: Sock | None, skb: SkBuff) -> None:
        """A router named a better next hop."""

    def link_failure(self, skb: SkBuff) -> None:
        """The next hop cannot be reached."""

    def neigh_lookup(self, daddr: int) -> Neighbour | None:
        """The neighbour to which a packet for `daddr` goes."""
        return None


def dst_metric_raw(dst: DstEntry, metric: int) -> int:
    """The value of RTAX_* `metric`, 0 for unset."""
    return 0 if dst.metrics is None else dst.metrics[metric - 1]


def dst_metric_set(dst: DstEntry, metric: int, value: int) -> None:
    """Copy on write (dst_cow_metrics_generic)."""
    metrics = [0] * RTAX_MAX if dst.metrics is None else dst.metrics[:]
    metrics[metric - 1] = value
    dst.metrics = metrics
