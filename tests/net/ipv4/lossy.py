"""A veth pair that loses, doubles and delays what a schedule says, for tests of TCP over bad paths."""

from __future__ import annotations

from collections.abc import Callable

from afinet.kernel.machine import Kernel
from afinet.kernel.timer import TimerList
from afinet.net.core.netdevice import NETIF_F_TSO, NetDevice, NetDeviceOps
from afinet.net.core.skbuff import SkBuff, consume_skb, skb_clone
from tests.net.ipv4.tcphost import Pair

DROP = -1
MS = 1_000_000


class Late(TimerList):
    """Hands a packet on when it is due."""

    def __init__(self, ops: BadPath, skb: SkBuff, dev: NetDevice) -> None:
        super().__init__()
        self.ops = ops
        self.skb = skb
        self.dev = dev

    def function(self) -> None:
        self.ops.inner.ndo_start_xmit(self.skb, self.dev)


class BadPath(NetDeviceOps):
    """`fate(n, skb)` says what happens to the n-th TCP packet of this direction: a list of delays (ns), one a copy; [] loses it."""

    def __init__(self, kernel: Kernel, inner: NetDeviceOps, fate: Callable[[int, SkBuff], list[int]]) -> None:
        self.kernel = kernel
        self.inner = inner
        self.fate = fate
        self.n = 0

    def ndo_open(self, dev: NetDevice) -> int:
        return self.inner.ndo_open(dev)

    def ndo_stop(self, dev: NetDevice) -> int:
        return self.inner.ndo_stop(dev)

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice) -> int:
        if skb.protocol != 0x0800:
            return self.inner.ndo_start_xmit(skb, dev)
        delays = self.fate(self.n, skb)
        self.n += 1
        for delay in delays:
            copy = skb_clone(skb)
            self.kernel.hrtimer_start(Late(self, copy, dev), self.kernel.now + delay)
        consume_skb(skb)
        return 0


def steady(delay: int) -> Callable[[int, SkBuff], list[int]]:
    """Every packet arrives after `delay` ns."""
    return lambda n, skb: [delay]


def lossy_pair(fate_ab: Callable[[int, SkBuff], list[int]], fate_ba: Callable[[int, SkBuff], list[int]], mtu: int = 1500) -> Pair:
    """The devices cut super-packets: `fate` sees what a wire would."""
    pair = Pair(mtu=mtu)
    for dev in (pair.da, pair.db):
        dev.features &= ~NETIF_F_TSO
    pair.da.netdev_ops = BadPath(pair.kernel, pair.da.netdev_ops, fate_ab)
    pair.db.netdev_ops = BadPath(pair.kernel, pair.db.netdev_ops, fate_ba)
    return pair
