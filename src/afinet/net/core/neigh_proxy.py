"""net/core/neighbour.c's proxy queue: questions that are answered for somebody else, each after a random part of proxy_delay, so
that the one who is asked for, or a nearer proxy, comes first.

pneigh_enqueue keeps the packet; when its time has come the table's `proxy_redo` treats it as if it had just arrived.

Left out: entries for single addresses (`ip neigh add proxy`), which netlink makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.kernel.timer import TimerList
from afinet.net.core.drop_reason import SKB_DROP_REASON_NEIGH_QUEUEFULL
from afinet.net.core.skbuff import kfree_skb_reason

if TYPE_CHECKING:
    from afinet.net.core.neighbour import NeighParms, NeighTable
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.skbuff import SkBuff


class ProxyEntry:
    """A question that waits (NEIGH_CB(skb)->sched_next)."""

    __slots__ = ("parms", "sched_next", "skb")

    def __init__(self, skb: SkBuff, parms: NeighParms, sched_next: int) -> None:
        self.skb: SkBuff = skb
        self.parms: NeighParms = parms
        self.sched_next: int = sched_next  # ns


class ProxyQueue(TimerList):
    """neigh_table.proxy_queue and proxy_timer."""

    __slots__ = ("queue", "tbl")

    def __init__(self, tbl: NeighTable) -> None:
        super().__init__()
        self.tbl: NeighTable = tbl
        self.queue: list[ProxyEntry] = []

    def function(self) -> None:
        """neigh_proxy_process."""
        now = self.tbl.kernel.now
        due = [entry for entry in self.queue if entry.sched_next <= now]
        self.queue = [entry for entry in self.queue if entry.sched_next > now]
        self.rearm()
        for entry in due:
            entry.parms.qlen -= 1
            self.tbl.proxy_redo(entry.skb)

    def rearm(self) -> None:
        if self.queue:
            self.tbl.kernel.mod_timer(self, min([entry.sched_next for entry in self.queue]))
        else:
            self.tbl.kernel.del_timer(self)


def pneigh_enqueue(tbl: NeighTable, parms: NeighParms, skb: SkBuff) -> None:
    """Take the packet, and have the table look at it again within proxy_delay; too many are dropped (proxy_qlen)."""
    if parms.qlen > parms.proxy_qlen:
        kfree_skb_reason(tbl.net, skb, SKB_DROP_REASON_NEIGH_QUEUEFULL)
        return
    proxy = tbl.proxy_queue
    if proxy is None:
        proxy = ProxyQueue(tbl)
        tbl.proxy_queue = proxy
    kernel = tbl.kernel
    tick = kernel.tick_nsec
    delay = kernel.random("proxy").get_random_u32_below(max(parms.proxy_delay // tick, 1)) * tick
    skb.dst = None
    proxy.queue.append(ProxyEntry(skb, parms, kernel.now + delay))
    parms.qlen += 1
    proxy.rearm()


def pneigh_queue_purge(tbl: NeighTable, dev: NetDevice) -> None:
    """The device goes: so do the questions that came by it."""
    proxy = tbl.proxy_queue
    if proxy is None:
        return
    kept: list[ProxyEntry] = []
    for entry in proxy.queue:
        if entry.skb.dev is dev:
            entry.parms.qlen -= 1
            kfree_skb_reason(tbl.net, entry.skb, SKB_DROP_REASON_NEIGH_QUEUEFULL)
        else:
            kept.append(entry)
    proxy.queue = kept
    proxy.rearm()
