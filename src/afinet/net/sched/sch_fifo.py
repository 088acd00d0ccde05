"""net/sched/sch_fifo.c: pfifo (a limit in packets) and bfifo (in bytes); and pfifo_fast, which Linux has in sch_generic.c.

pfifo_fast is what a device gets unless net.core.default_qdisc says otherwise: three FIFOs, chosen by `skb.priority`, of which the
first that holds something is served.

Left out: pfifo_head_drop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.net.core.drop_reason import SKB_DROP_REASON_QDISC_OVERLIMIT
from afinet.net.core.gso import qdisc_pkt_len
from afinet.net.core.skbuff import SkBuffHead
from afinet.net.sched.sch_generic import (
    Qdisc,
    QdiscOps,
    qdisc_dequeue_head,
    qdisc_drop,
    qdisc_enqueue_tail,
    qdisc_reset_gso_skb,
    qdisc_reset_queue,
    register_qdisc,
)

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.skbuff import SkBuff

# sch_default_prio2band, by priority (TC_PRIO_*): interactive and control traffic first, bulk last.
PRIO2BAND: Final = (1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1)
TC_PRIO_MAX: Final = 15


class PfifoQdisc(Qdisc):
    """pfifo: `limit` packets; the device's tx_queue_len by default."""

    __slots__ = ()

    def __init__(self, dev: NetDevice, limit: int = 0) -> None:
        super().__init__(dev, limit or dev.tx_queue_len or 1)

    def enqueue(self, skb: SkBuff) -> int:
        if self.q.qlen < self.limit:
            return qdisc_enqueue_tail(self, self.q, skb)
        return qdisc_drop(self, skb, SKB_DROP_REASON_QDISC_OVERLIMIT)


class BfifoQdisc(Qdisc):
    """bfifo: `limit` bytes; by default tx_queue_len frames of the MTU."""

    __slots__ = ()

    def __init__(self, dev: NetDevice, limit: int = 0) -> None:
        super().__init__(dev, limit or (dev.tx_queue_len or 1) * (dev.mtu + dev.hard_header_len))

    def enqueue(self, skb: SkBuff) -> int:
        if self.backlog + qdisc_pkt_len(skb) <= self.limit:
            return qdisc_enqueue_tail(self, self.q, skb)
        return qdisc_drop(self, skb, SKB_DROP_REASON_QDISC_OVERLIMIT)


class PfifoFastQdisc(Qdisc):
    """pfifo_fast: three bands, each of the device's tx_queue_len packets."""

    __slots__ = ("bands",)

    def __init__(self, dev: NetDevice) -> None:
        super().__init__(dev, dev.tx_queue_len or 1)
        self.bands: list[SkBuffHead] = [SkBuffHead(), SkBuffHead(), SkBuffHead()]

    def enqueue(self, skb: SkBuff) -> int:
        band = self.bands[PRIO2BAND[skb.priority & TC_PRIO_MAX]]
        if band.qlen < self.limit:
            return qdisc_enqueue_tail(self, band, skb)
        return qdisc_drop(self, skb, SKB_DROP_REASON_QDISC_OVERLIMIT)

    def dequeue(self) -> SkBuff | None:
        for band in self.bands:
            if band.head is not None:
                return qdisc_dequeue_head(self, band)
        return None

    def peek(self) -> SkBuff | None:
        for band in self.bands:
            if band.head is not None:
                return band.head
        return None

    def reset(self) -> None:
        qdisc_reset_gso_skb(self)
        for band in self.bands:
            qdisc_reset_queue(self, band)


class PfifoOps(QdiscOps):
    __slots__ = ()

    def create(self, dev: NetDevice) -> Qdisc:
        return PfifoQdisc(dev)


class BfifoOps(QdiscOps):
    __slots__ = ()

    def create(self, dev: NetDevice) -> Qdisc:
        return BfifoQdisc(dev)


class PfifoFastOps(QdiscOps):
    __slots__ = ()

    def create(self, dev: NetDevice) -> Qdisc:
        return PfifoFastQdisc(dev)


def pktsched_init(kernel: Kernel) -> int:
    """sch_api.c's: the qdiscs that net.core.default_qdisc can name. Once per Kernel."""
    register_qdisc(kernel, PfifoFastOps("pfifo_fast"))
    register_qdisc(kernel, PfifoOps("pfifo"))
    register_qdisc(kernel, BfifoOps("bfifo"))
    return 0
