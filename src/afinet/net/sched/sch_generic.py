"""net/sched/sch_generic.c: queueing disciplines: the base class, and the loop between a qdisc and its device.

dev_queue_xmit (net/core/dev.py) -> Qdisc.dev_xmit_skb: enqueue, then qdisc_run -> __qdisc_run -> qdisc_restart: dequeue, then
sch_direct_xmit. What the driver refuses (NETDEV_TX_BUSY, or its queue is stopped) waits in `gso_skb`, and goes first when
netif_wake_queue has NET_TX_SOFTIRQ run the qdisc again.

A qdisc of one's own subclasses `Qdisc` and overrides `enqueue`, `dequeue`, `peek`, `reset`; `dev_graft_qdisc` puts it on a device,
`register_qdisc` lets net.core.default_qdisc name it.

Left out: classes and filters, several transmit queues, dequeueing in bulk, the watchdog that resets hardware. dev_activate and
dev_deactivate are in net/core/link_watch.py, below this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.kernel.timer import TimerList
from afinet.net.core import dev as dev_core
from afinet.net.core.drop_reason import SKB_DROP_REASON_QDISC_DROP, SKB_DROP_REASON_QUEUE_PURGE
from afinet.net.core.gso import qdisc_pkt_len, skb_segs
from afinet.net.core.netdevice import NET_XMIT_DROP, NET_XMIT_SUCCESS, NETDEV_TX_BUSY, dev_net
from afinet.net.core.skbuff import SkBuffHead, kfree_skb_reason, skb_dequeue, skb_queue_purge, skb_queue_tail

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.skbuff import SkBuff

DEV_TX_WEIGHT: Final = 64  # net.core.dev_weight: packets sent in one go before others have a turn


@mypyc_attr(allow_interpreted_subclasses=True)
class Qdisc:
    """struct Qdisc and Qdisc_ops. As it is, a FIFO of `limit` packets.

    `qlen` and `backlog` (bytes) tell what is queued; a subclass keeps them, through qdisc_enqueue_tail and its sisters or itself.
    """

    __slots__ = (
        "backlog",
        "bytes",
        "dev",
        "drops",
        "gso_skb",
        "limit",
        "overlimits",
        "packets",
        "q",
        "qlen",
        "requeues",
        "running",
        "scheduled",
    )

    def __init__(self, dev: NetDevice, limit: int) -> None:
        self.dev: NetDevice = dev
        self.limit: int = limit
        self.q: SkBuffHead = SkBuffHead()
        self.qlen: int = 0
        self.backlog: int = 0
        self.gso_skb: SkBuff | None = None  # refused by the driver; the rest of a segmented packet hangs on `next`
        self.running: bool = False
        self.scheduled: bool = False  # on SoftnetData.output_queue
        # statistics: what was sent, what was not
        self.packets: int = 0
        self.bytes: int = 0
        self.drops: int = 0
        self.overlimits: int = 0
        self.requeues: int = 0

    def enqueue(self, skb: SkBuff) -> int:
        """Take a packet: NET_XMIT_SUCCESS; or drop it (qdisc_drop) and say NET_XMIT_DROP or NET_XMIT_CN."""
        if self.q.qlen < self.limit:
            return qdisc_enqueue_tail(self, self.q, skb)
        return qdisc_drop(self, skb, SKB_DROP_REASON_QDISC_DROP)

    def dequeue(self) -> SkBuff | None:
        """The next packet that may go now."""
        return qdisc_dequeue_head(self, self.q)

    def peek(self) -> SkBuff | None:
        """What `dequeue` would give."""
        return self.q.head

    def reset(self) -> None:
        """Drop everything (the device goes down)."""
        qdisc_reset_gso_skb(self)
        qdisc_reset_queue(self, self.q)

    def destroy(self) -> None:
        """The qdisc is taken off for good; `reset` has been called."""

    # What net/core/dev.py calls: not for overriding.

    def dev_xmit_skb(self, skb: SkBuff) -> int:
        """Enqueue and send what may be sent. NET_XMIT_*."""
        rc = self.enqueue(skb)
        if not self.running:
            qdisc_run(self)
        return rc

    def run(self) -> None:
        if not self.running:
            qdisc_run(self)


@mypyc_attr(allow_interpreted_subclasses=True)
class QdiscOps:
    """struct Qdisc_ops, as far as it makes one: `id` is the name in net.core.default_qdisc."""

    __slots__ = ("id",)

    def __init__(self, id: str) -> None:
        self.id: str = id

    def create(self, dev: NetDevice) -> Qdisc:
        raise NotImplementedError


def register_qdisc(kernel: Kernel, ops: QdiscOps) -> None:
    kernel.qdisc_base[ops.id] = ops


# -- helpers of qdiscs -----------------------------------------------------------------------------------------------------


def qdisc_enqueue_tail(sch: Qdisc, q: SkBuffHead, skb: SkBuff) -> int:
    skb_queue_tail(q, skb)
    sch.qlen += 1
    sch.backlog += qdisc_pkt_len(skb)
    return NET_XMIT_SUCCESS


def qdisc_dequeue_head(sch: Qdisc, q: SkBuffHead) -> SkBuff | None:
    skb = skb_dequeue(q)
    if skb is not None:
        sch.qlen -= 1
        qdisc_bstats_update(sch, skb)
    return skb


def qdisc_bstats_update(sch: Qdisc, skb: SkBuff) -> None:
    """A packet leaves the queue. Lengths and counts are those on the wire."""
    length = qdisc_pkt_len(skb)
    sch.backlog -= length
    sch.packets += skb_segs(skb)
    sch.bytes += length


def qdisc_drop(sch: Qdisc, skb: SkBuff, reason: int) -> int:
    """Drop a packet that is not queued: counted, freed. NET_XMIT_DROP."""
    sch.drops += 1
    kfree_skb_reason(dev_net(sch.dev), skb, reason)
    return NET_XMIT_DROP


def qdisc_reset_queue(sch: Qdisc, q: SkBuffHead) -> None:
    skb_queue_purge(dev_net(sch.dev), q, SKB_DROP_REASON_QUEUE_PURGE)
    sch.qlen = 0
    sch.backlog = 0


def qdisc_reset_gso_skb(sch: Qdisc) -> None:
    skb = sch.gso_skb
    sch.gso_skb = None
    if skb is not None:
        qdisc_account(sch, skb, -1)
    while skb is not None:
        following = skb.next
        skb.next = None
        kfree_skb_reason(dev_net(sch.dev), skb, SKB_DROP_REASON_QUEUE_PURGE)
        skb = following


def dev_graft_qdisc(dev: NetDevice, qdisc: Qdisc | None) -> None:
    """Put `qdisc` on the device (`tc qdisc replace dev DEV root`), None for noqueue; what the old one held is dropped."""
    old = dev.qdisc_sleeping
    dev.qdisc_sleeping = qdisc
    if dev.xmit_active:
        dev.qdisc = qdisc
    if old is not None:
        old.reset()
        old.destroy()


# -- the loop --------------------------------------------------------------------------------------------------------------


def qdisc_run(sch: Qdisc) -> None:
    """Send until there is nothing to send now, the driver refuses, or the quota is used up (then NET_TX_SOFTIRQ goes on)."""
    dev = sch.dev
    sch.running = True
    quota = DEV_TX_WEIGHT
    while not dev.queue_stopped and qdisc_restart(sch, dev):
        quota -= 1
        if quota <= 0:
            dev_core.netif_schedule_qdisc(sch)
            break
    sch.running = False


def qdisc_restart(sch: Qdisc, dev: NetDevice) -> bool:
    """Send one packet. False: there is none, or it was refused."""
    skb = sch.gso_skb
    if skb is not None:
        sch.gso_skb = None
        qdisc_account(sch, skb, -1)
    else:
        skb = sch.dequeue()
        if skb is None:
            return False
        skb = dev_core.validate_xmit_skb(skb, dev)
        if skb is None:
            return True
    return sch_direct_xmit(sch, dev, skb)


def sch_direct_xmit(sch: Qdisc, dev: NetDevice, skb: SkBuff) -> bool:
    """Hand a packet, or the segments of one, to the driver. False: what it did not take is put back."""
    if skb.next is None:
        if dev_core.dev_hard_start_xmit(skb, dev) != NETDEV_TX_BUSY:
            return True
        dev_requeue_skb(sch, skb)
        return False
    _rc, rest = dev_core.dev_xmit_list(skb, dev)
    if rest is None:
        return True
    dev_requeue_skb(sch, rest)
    return False


def dev_requeue_skb(sch: Qdisc, skb: SkBuff) -> None:
    """The driver gave it back: it is still part of the queue."""
    sch.gso_skb = skb
    sch.requeues += 1
    qdisc_account(sch, skb, 1)


def qdisc_account(sch: Qdisc, skb: SkBuff, sign: int) -> None:
    at: SkBuff | None = skb
    while at is not None:
        sch.qlen += sign
        sch.backlog += sign * qdisc_pkt_len(at)
        at = at.next


class QdiscWatchdog(TimerList):
    """struct qdisc_watchdog: runs a qdisc when its next packet may go."""

    __slots__ = ("sch",)

    def __init__(self, sch: Qdisc) -> None:
        super().__init__()
        self.sch: Qdisc = sch

    def function(self) -> None:
        dev_core.netif_schedule_qdisc(self.sch)


def qdisc_watchdog_schedule_ns(wd: QdiscWatchdog, when: int) -> None:
    """Run the qdisc at `when` (ns)."""
    if wd.expires != when:
        dev_net(wd.sch.dev).kernel.hrtimer_start(wd, when)


def qdisc_watchdog_cancel(wd: QdiscWatchdog) -> None:
    dev_net(wd.sch.dev).kernel.del_timer(wd)
