"""One direction of a simulated link: the Wire behind a veth end, and the events that bring its packets to the other end.

What happens to a packet, in this order:

1. A cut link loses it.
2. With a rate, it waits for those before it: a drop-tail queue, bounded in packets or bytes. No event is spent on leaving the
   queue: when each packet's last bit leaves is computed when it comes (integers; what a division leaves over is carried on).
3. netem's engine (net/sched/sch_netem.py) says whether it is lost on the way, doubled, damaged, sent ahead, and how long it
   travels. What is lost has used the link's rate, unlike in the qdisc, which loses it first.
4. It arrives. As in sch_netem's tfifo, packets in flight that keep their order stand in a queue and only those that overtake in a
   heap; one event of the hub stands for the first of all. What arrives at the same instant arrives together, through GRO.

A super-packet (one object for up to 64 KB of a flow, cut by nobody yet) is a train. Each of its packets, with headers of its own,
has its own turn at 2 and 3, the draws in the order in which single packets would make them, and counts by itself. Packets of a
train travel on as one object where nothing separates them; the one that is lost, doubled, damaged, sent ahead or turned away at the
queue is cut out, and a different delay cuts. With a rate, a packet arrives when its own last bit does, with one concession to how a
fast card works: packets of a train whose last bits leave no more than COALESCE after the first one's arrive together, when the last
of them does, as a card that waits a little before it interrupts and GRO behind it would have it. At 100 Mbit/s, where 1,514 bytes
take 121 us, and below, packets thus come one by one, and acknowledgements are clocked by the path; at 1 Gbit/s up to six come at
once, at 10 Gbit/s all of 64 KB. Without a rate a train arrives whole.

As under sch_netem, a packet that is queued or under way is no longer charged to its sender's socket, so a sender can fill the
queue: a link stands for a path, not for a network card.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from afinet.drivers.veth import Wire, veth_receive
from afinet.kernel.random import RandomStream
from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_LINK_LOSS,
    SKB_DROP_REASON_QDISC_DROP,
    SKB_DROP_REASON_SKB_GSO_SEG,
)
from afinet.net.core.gro import napi_gro_flush
from afinet.net.core.gso import GsoSegmenter, gso_transport_hlen, qdisc_pkt_len, skb_gso_segmenter, skb_segs
from afinet.net.core.netdevice import NETDEV_TX_OK, dev_net
from afinet.net.core.skbuff import (
    SkBuff,
    SkBuffHead,
    consume_skb,
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
# How long (ns) a train may take to arrive as one: network cards coalesce interrupts over 20 to 120 us (ethtool -c, rx-usecs).
COALESCE: Final = 64_000

# What becomes of a packet, bit by bit.
LOST: Final = 1
DOUBLED: Final = 2
DAMAGED: Final = 4
AHEAD: Final = 8  # of those under way
FULL: Final = 16  # there is no room for it in the queue


class LinkEnd(Wire):
    """The direction away from one end. Set the parameters, then `changed`; they may change while packets are under way."""

    __slots__ = (
        "busy_until",
        "bytes",
        "corrupted",
        "cut",
        "delay",
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
        "twin_delay",
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
        # What `decide` said last.
        self.delay: int = 0
        self.twin_delay: int = 0
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
            self.lost += skb_segs(skb)
            kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_LINK_LOSS)
        elif skb.gso_size:
            self.transmit_train(skb, dev)
        else:
            when = self.leave(skb.len) if self.rate else self.hub.now
            if when < 0:
                self.overflow(skb, dev)
            elif self.plain:
                self.send(skb, when + self.netem.latency)
            else:
                self.carry(skb, dev, when, self.decide())
        return NETDEV_TX_OK

    def transmit_train(self, skb: SkBuff, dev: NetDevice) -> None:
        """A super-packet: each of its packets has its turn at the queue, the rate and the engine; those that nothing separates go
        on together."""
        segs = skb.gso_segs
        size = skb.gso_size
        header = skb.csum_start - skb.data + gso_transport_hlen(skb)
        tail = skb.len - header - (segs - 1) * size
        if not 0 < tail <= size:
            kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_SKB_GSO_SEG)
            return
        rate = self.rate
        plain = self.plain
        when = self.hub.now
        if plain and not rate:
            self.send(skb, when + self.netem.latency)
            return
        self.delay = self.netem.latency
        cutter: GsoSegmenter | None = None
        run = 0  # packets that go together and have not been sent
        began = 0  # when the last bit of the first of them left,
        ended = 0  # and of the last
        delay = 0
        for i in range(segs):
            if rate:
                when = self.leave(header + (size if i < segs - 1 else tail))
            fate = FULL if when < 0 else 0 if plain else self.decide()
            joins = run > 0 and fate == 0 and self.delay == delay and when - began <= COALESCE
            if fate or (run and not joins):
                if cutter is None:
                    cutter = self.cutter(skb, dev)
                    if cutter is None:
                        return
                if run:
                    self.send(cutter.take(run), ended + delay)
                    run = 0
                if fate:
                    self.carry(cutter.take(1), dev, when, fate)
                    continue
            if run == 0:
                began = when
                delay = self.delay
            run += 1
            ended = when
        if run == segs:
            self.send(skb, ended + delay)
            return
        if run and cutter is not None:
            self.send(cutter.take(run), ended + delay)
        consume_skb(skb)

    def cutter(self, skb: SkBuff, dev: NetDevice) -> GsoSegmenter | None:
        """Who cuts a super-packet. None: nobody can, it is dropped."""
        _, cutter = skb_gso_segmenter(dev_net(dev).kernel, skb)
        if cutter is None or cutter.left != skb.gso_segs:
            kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_SKB_GSO_SEG)
            return None
        return cutter

    def leave(self, length: int) -> int:
        """A packet of `length` bytes comes to the queue: when its last bit leaves, -1 if there is no room for it."""
        when = self.hub.now
        rate = self.rate
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
                return -1
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
        return when

    def overflow(self, skb: SkBuff, dev: NetDevice) -> None:
        """The queue is full."""
        self.overflowed += 1
        dev.stats.tx_dropped += 1
        kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_QDISC_DROP)

    def decide(self) -> int:
        """Let the engine decide about the next packet: LOST, or what else becomes of it; 0: nothing. It travels for `delay`, and
        its double for `twin_delay`."""
        q = self.netem
        fate = 0
        count = 1
        if q.duplicate_event():
            count = 2
            self.duplicated += 1
        if q.loss_event():
            count -= 1  # of two, one is left
            self.lost += 1
        if count == 0:
            return LOST
        if count == 2:
            fate = DOUBLED
            self.twin_delay = q.delay()
        if q.corrupt_event():
            fate |= DAMAGED
        if q.reorder_event():
            fate |= AHEAD
            self.delay = 0
        else:
            self.delay = q.delay()
        return fate

    def carry(self, skb: SkBuff, dev: NetDevice, when: int, fate: int) -> None:
        """Do what was decided with a packet whose last bit leaves at `when`."""
        if fate & FULL:
            self.overflow(skb, dev)
            return
        if fate & LOST:
            kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_LINK_LOSS)
            return
        delay = self.delay
        if fate & DOUBLED:
            self.send(skb_clone(skb), when + self.twin_delay)
        if fate & DAMAGED and netem_corrupt(self.netem, skb) == 0:
            self.corrupted += 1
        self.send(skb, when + delay)

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
        skb = self.next_due(now)
        while skb is not None:
            following = self.next_due(now)
            self.packets += skb_segs(skb)
            self.bytes += qdisc_pkt_len(skb)
            # One that comes alone has nothing to be merged with.
            veth_receive(peer, skb, n > 0 or following is not None)
            n += 1
            if following is None or n == BATCH:
                if n > 1:
                    napi_gro_flush(kernel)
                place.run()
                n = 0
            skb = following
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
