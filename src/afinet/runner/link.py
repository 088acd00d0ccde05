"""One direction of a simulated link: the Wire behind a veth end, and the events that bring its packets to the other end.

What happens to a packet, in this order:

1. A cut link loses it.
2. With a rate, it waits for those before it: a drop-tail queue, bounded in packets or bytes. No event is spent on leaving the
   queue: when each packet's last bit leaves is computed when it comes (integers; what a division leaves over is carried on).
3. netem's engine (net/sched/sch_netem.py) says whether it is lost on the way, doubled, damaged, sent ahead, and how long it
   travels. What is lost has used the link's rate, unlike in the qdisc, which loses it first.
4. It arrives. As in sch_netem's tfifo, packets in flight that keep their order stand in a queue and only those that overtake in a
   heap; one event of the hub stands for the first of all. What arrives at the same instant arrives together.

As under sch_netem, a packet that is queued or under way is no longer charged to its sender's socket, so a sender can fill the
queue: a link stands for a path, not for a network card.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from afinet.drivers.veth import Wire, veth_receive
from afinet.kernel.random import RandomStream
from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core.drop_reason import SKB_DROP_REASON_LINK_LOSS, SKB_DROP_REASON_QDISC_DROP
from afinet.net.core.netdevice import NETDEV_TX_OK, dev_net
from afinet.net.core.skbuff import (
    SkBuff,
    SkBuffHead,
    kfree_skb_reason,
    skb_clone,
    skb_orphan,
    skb_queue_tail,
    skb_unlink,
)
from afinet.net.sched.sch_netem import CLG_RANDOM, Netem, netem_corrupt
from afinet.runner.hub import Event, Hub, HubKernel

if TYPE_CHECKING:
    from afinet.net.core.netdevice import NetDevice

# Packets handed to the peer before its softirq runs: far below net.core.netdev_max_backlog, which bounds what it takes at once.
BATCH: Final = 64


class LinkEnd(Wire):
    """The direction away from one end. Set the parameters, then `changed`; they may change while packets are under way."""

    __slots__ = (
        "busy_until",
        "bytes",
        "corrupted",
        "cut",
        "duplicated",
        "event",
        "in_order",
        "hub",
        "limit",
        "limit_bytes",
        "lost",
        "netem",
        "overflowed",
        "overtaking",
        "packets",
        "peer",
        "place",
        "plain",
        "queued_bytes",
        "rate",
        "remainder",
        "seq",
        "waiting",
        "waiting_head",
    )

    peer: NetDevice  # the device at the other end, and its Kernel's place in the hub
    place: HubKernel

    def __init__(self, hub: Hub, random: RandomStream) -> None:
        self.hub: Hub = hub
        self.netem: Netem = Netem(random)
        self.rate: int = 0  # bits a second; 0: no limit
        self.limit: int = 1000  # packets that may wait; 0: no limit
        self.limit_bytes: int = 0
        self.cut: bool = False
        self.plain: bool = True  # the engine decides nothing: every packet travels `latency`
        # The queue: when each waiting packet's first bit leaves, and its length, from `waiting_head` on. A list with a moving
        # head, since a deque of pairs costs the compiled build six allocations and calls a packet.
        self.waiting: list[int] = []
        self.waiting_head: int = 0
        self.queued_bytes: int = 0
        self.busy_until: int = 0
        self.remainder: int = 0
        self.in_order: SkBuffHead = SkBuffHead()
        self.overtaking: list[tuple[int, int, SkBuff]] = []
        self.seq: int = 0
        self.event: LinkEvent = LinkEvent(self)
        # what became of the packets
        self.packets: int = 0  # arrived
        self.bytes: int = 0
        self.lost: int = 0
        self.overflowed: int = 0
        self.duplicated: int = 0
        self.corrupted: int = 0

    def connect(self, peer: NetDevice, place: HubKernel) -> None:
        """Where packets arrive."""
        self.peer = peer
        self.place = place

    def changed(self) -> None:
        """The parameters were changed."""
        q = self.netem
        self.plain = not (q.jitter or q.loss or q.loss_model != CLG_RANDOM or q.duplicate or q.corrupt or q.gap)

    def transmit(self, skb: SkBuff, dev: NetDevice) -> int:
        if skb.destructor:
            skb_orphan(skb)
        if self.cut:
            self.lost += 1
            kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_LINK_LOSS)
            return NETDEV_TX_OK
        when = self.hub.now
        rate = self.rate
        if rate:
            length = skb.len
            busy = self.busy_until
            if busy > when:
                waiting = self.waiting
                head = self.waiting_head
                while head < len(waiting) and waiting[head] <= when:
                    self.queued_bytes -= waiting[head + 1]
                    head += 2
                if head >= 512 and 2 * head >= len(waiting):
                    del waiting[:head]
                    head = 0
                self.waiting_head = head
                queued = (len(waiting) - head) >> 1
                limit_bytes = self.limit_bytes
                if (self.limit and queued >= self.limit) or (limit_bytes and self.queued_bytes + length > limit_bytes):
                    self.overflowed += 1
                    dev.stats.tx_dropped += 1
                    kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_QDISC_DROP)
                    return NETDEV_TX_OK
                waiting.append(busy)
                waiting.append(length)
                self.queued_bytes += length
                when = busy
                work = length * (8 * NSEC_PER_SEC) + self.remainder
            else:
                if self.waiting:
                    self.waiting.clear()
                    self.waiting_head = 0
                    self.queued_bytes = 0
                work = length * (8 * NSEC_PER_SEC)
            spent = work // rate
            self.remainder = work - spent * rate
            when += spent
            self.busy_until = when
        if self.plain:
            self.send(skb, when + self.netem.latency)
        else:
            self.impair(skb, dev, when)
        return NETDEV_TX_OK

    def impair(self, skb: SkBuff, dev: NetDevice, when: int) -> None:
        """Let the engine decide about a packet whose last bit leaves at `when`."""
        q = self.netem
        count = 1
        if q.duplicate_event():
            count = 2
        if q.loss_event():
            count -= 1
            self.lost += 1
        if count == 0:
            kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_LINK_LOSS)
            return
        if count == 2:
            self.duplicated += 1
            twin = skb_clone(skb)
            self.send(twin, when + q.delay())
        if q.corrupt_event() and netem_corrupt(q, skb) == 0:
            self.corrupted += 1
        if q.reorder_event():
            self.send(skb, when)
        else:
            self.send(skb, when + q.delay())

    def send(self, skb: SkBuff, when: int) -> None:
        """On its way, to arrive at `when` (noted in `skb.tstamp`)."""
        skb.tstamp = when
        in_order = self.in_order
        last = in_order.tail
        if last is None or last.tstamp <= when:
            skb_queue_tail(in_order, skb)
        else:
            self.seq += 1
            heappush(self.overtaking, (when, self.seq, skb))
        event = self.event
        if event.when < 0 or when < event.when:
            self.hub.schedule(event, when)

    def next_due(self, now: int) -> SkBuff | None:
        """Take what arrives first, if that is due at `now`. Of two that arrive together, the one that kept its place."""
        skb = self.in_order.head
        overtaking = self.overtaking
        if overtaking and (skb is None or overtaking[0][0] < skb.tstamp):
            return heappop(overtaking)[2] if overtaking[0][0] <= now else None
        if skb is None or skb.tstamp > now:
            return None
        skb_unlink(self.in_order, skb)
        return skb

    def arrive(self) -> None:
        """Bring what is due to the other end, and let its Kernel run."""
        hub = self.hub
        now = hub.now
        place = self.place
        peer = self.peer
        kernel = place.kernel
        if kernel.now < now:
            kernel.now = now
        n = 0
        while True:
            skb = self.next_due(now)
            if skb is None:
                break
            self.packets += 1
            self.bytes += skb.len
            veth_receive(peer, skb)
            n += 1
            if n == BATCH:
                n = 0
                place.run()
        if n:
            place.run()
        first = self.in_order.head
        if first is not None:
            when = first.tstamp
            if self.overtaking and self.overtaking[0][0] < when:
                when = self.overtaking[0][0]
            hub.schedule(self.event, when)
        elif self.overtaking:
            hub.schedule(self.event, self.overtaking[0][0])


class LinkEvent(Event):
    """The first packet in flight arrives."""

    __slots__ = ("end",)

    def __init__(self, end: LinkEnd) -> None:
        super().__init__()
        self.end: LinkEnd = end

    def fire(self, hub: Hub) -> None:
        self.end.arrive()
