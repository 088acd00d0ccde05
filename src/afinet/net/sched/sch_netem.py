"""net/sched/sch_netem.c: a bad network, on purpose: the engine that decides (`Netem`), and the qdisc that obeys (`NetemQdisc`).

`Netem` holds the parameters and the state of chance of one direction of a link, and answers for each packet: is it lost, is it
duplicated, damaged, sent ahead of others, and how long is it under way. The simulator's links ask the same questions, so a link
and a qdisc with the same parameters behave the same.

Chance is an integer: a probability p is the threshold round(p * 2**32), an event happens when a 32-bit draw of the engine's own
stream is below it. Each question draws only if its parameter is set, so adding corruption does not change who is lost.

Left out: slots, child qdiscs, and changing the parameters of a running qdisc.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core import dev as dev_core
from afinet.net.core import gso
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_LINK_LOSS,
    SKB_DROP_REASON_QDISC_OVERLIMIT,
    SKB_DROP_REASON_QUEUE_PURGE,
    SKB_DROP_REASON_SKB_GSO_SEG,
)
from afinet.net.core.gso import qdisc_pkt_len
from afinet.net.core.netdevice import NET_XMIT_SUCCESS, dev_net
from afinet.net.core.skbuff import (
    CHECKSUM_PARTIAL,
    SkBuff,
    consume_skb,
    kfree_skb_reason,
    skb_clone,
    skb_linearize,
    skb_orphan,
    skb_queue_head,
)
from afinet.net.sched.netem_dist import NETEM_DIST_SCALE
from afinet.net.sched.sch_generic import (
    Qdisc,
    QdiscWatchdog,
    qdisc_bstats_update,
    qdisc_dequeue_head,
    qdisc_drop,
    qdisc_reset_gso_skb,
    qdisc_reset_queue,
    qdisc_watchdog_cancel,
    qdisc_watchdog_schedule_ns,
)
from afinet.uapi.if_ether import ETH_P_IP
from afinet.wire import be
from afinet.wire.checksum import csum_fold, csum_partial

if TYPE_CHECKING:
    from afinet.kernel.random import RandomStream
    from afinet.net.core.netdevice import NetDevice

NETEM_ALWAYS: Final = 1 << 32  # the threshold of probability 1

# loss_model
CLG_RANDOM: Final = 0
CLG_4_STATES: Final = 1
CLG_GILB_ELL: Final = 2

# States of the four-state model, and of Gilbert-Elliott's two.
TX_IN_GAP_PERIOD: Final = 1
TX_IN_BURST_PERIOD: Final = 2
LOST_IN_GAP_PERIOD: Final = 3
LOST_IN_BURST_PERIOD: Final = 4
GOOD_STATE: Final = 1
BAD_STATE: Final = 2


def netem_threshold(p: float) -> int:
    """The threshold of a probability between 0 and 1."""
    return max(0, min(NETEM_ALWAYS, round(p * NETEM_ALWAYS)))


class Crndstate:
    """struct crndstate: draws of which each depends on the one before, with the weight `rho` / 2**32."""

    __slots__ = ("last", "random", "rho")

    def __init__(self, random: RandomStream) -> None:
        self.random: RandomStream = random
        self.rho: int = 0
        self.last: int = 0

    def init(self, rho: int) -> None:
        """init_crandom: `rho` is a threshold (netem_threshold of the correlation)."""
        self.rho = min(rho, NETEM_ALWAYS - 1)
        self.last = self.random.get_random_u32()

    def get_crandom(self) -> int:
        """32 bits."""
        value = self.random.get_random_u32()
        if self.rho == 0:
            return value
        rho = self.rho + 1
        self.last = (value * (NETEM_ALWAYS - rho) + self.last * rho) >> 32
        return self.last


class Netem:
    """struct netem_sched_data, without the queue. Set the parameters, then ask, in the order of the methods.

    Times are ns, `rate` is bytes a second, probabilities are thresholds (netem_threshold).
    """

    __slots__ = (
        "a1",
        "a2",
        "a3",
        "a4",
        "a5",
        "cell_overhead",
        "cell_size",
        "clg_state",
        "corrupt",
        "corrupt_cor",
        "counter",
        "delay_cor",
        "delay_dist",
        "dup_cor",
        "duplicate",
        "ecn",
        "gap",
        "jitter",
        "latency",
        "loss",
        "loss_cor",
        "loss_model",
        "packet_overhead",
        "random",
        "rate",
        "reorder",
        "reorder_cor",
    )

    def __init__(self, random: RandomStream) -> None:
        self.random: RandomStream = random
        self.latency: int = 0
        self.jitter: int = 0
        self.delay_dist: list[int] | None = None  # netem_dist.py; None: uniform in latency +- jitter
        self.delay_cor: Crndstate = Crndstate(random)
        self.loss: int = 0
        self.loss_cor: Crndstate = Crndstate(random)
        self.loss_model: int = CLG_RANDOM
        self.clg_state: int = TX_IN_GAP_PERIOD
        self.a1: int = 0
        self.a2: int = 0
        self.a3: int = 0
        self.a4: int = 0
        self.a5: int = 0
        self.ecn: bool = False  # mark instead of losing
        self.duplicate: int = 0
        self.dup_cor: Crndstate = Crndstate(random)
        self.corrupt: int = 0
        self.corrupt_cor: Crndstate = Crndstate(random)
        self.reorder: int = 0
        self.reorder_cor: Crndstate = Crndstate(random)
        self.gap: int = 0  # of each `gap` packets one may go ahead; 0: none
        self.counter: int = 0
        self.rate: int = 0  # 0: no limit
        self.packet_overhead: int = 0  # bytes more a packet than it has (may be negative)
        self.cell_size: int = 0  # as on ATM: whole cells are sent
        self.cell_overhead: int = 0

    # -- parameters ---------------------------------------------------------------------------------------------------

    def set_reorder(self, reorder: int, gap: int = 1) -> None:
        """`reorder PROB gap N`: a packet goes ahead with probability `reorder`; at most each `gap`-th does."""
        self.reorder = reorder
        self.gap = gap if reorder else 0

    def set_loss_state(self, p13: int, p31: int, p32: int, p23: int, p14: int) -> None:
        """`loss state`: the probabilities of going from one of the four states to another."""
        self.loss_model = CLG_4_STATES
        self.clg_state = TX_IN_GAP_PERIOD
        self.a1, self.a2, self.a3, self.a4, self.a5 = p13, p31, p32, p14, p23

    def set_loss_gemodel(self, p: int, r: int, h: int, k1: int) -> None:
        """`loss gemodel`: good to bad, bad to good, `h` = 1 - loss in the bad state, `k1` = loss in the good state.

        As tc has it: p alone loses every packet of the bad state (h = 0, k1 = 0).
        """
        self.loss_model = CLG_GILB_ELL
        self.clg_state = GOOD_STATE
        self.a1, self.a2, self.a3, self.a4 = p, r, h, k1

    # -- what becomes of a packet -------------------------------------------------------------------------------------

    def duplicate_event(self) -> bool:
        """Whether it comes twice."""
        return self.duplicate != 0 and self.dup_cor.get_crandom() < self.duplicate

    def loss_event(self) -> bool:
        """Whether it is lost."""
        if self.loss_model == CLG_RANDOM:
            return self.loss != 0 and self.loss_cor.get_crandom() < self.loss
        if self.loss_model == CLG_4_STATES:
            return self.loss_4state()
        return self.loss_gilb_ell()

    def loss_4state(self) -> bool:
        """Salsano's GI model: gaps with single losses, bursts with many."""
        rnd = self.random.get_random_u32()
        state = self.clg_state
        if state == TX_IN_GAP_PERIOD:
            if rnd < self.a4:
                self.clg_state = LOST_IN_GAP_PERIOD
                return True
            if rnd < self.a1 + self.a4:
                self.clg_state = LOST_IN_BURST_PERIOD
                return True
        elif state == TX_IN_BURST_PERIOD:
            if rnd < self.a5:
                self.clg_state = LOST_IN_BURST_PERIOD
                return True
        elif state == LOST_IN_BURST_PERIOD:
            if rnd < self.a3:
                self.clg_state = TX_IN_BURST_PERIOD
            elif rnd < self.a2 + self.a3:
                self.clg_state = TX_IN_GAP_PERIOD
            else:
                return True
        else:
            self.clg_state = TX_IN_GAP_PERIOD
        return False

    def loss_gilb_ell(self) -> bool:
        """Two states, each with a loss of its own. The draw that may change the state comes first, and the loss is still that of
        the state before."""
        if self.clg_state == GOOD_STATE:
            if self.random.get_random_u32() < self.a1:
                self.clg_state = BAD_STATE
            return self.random.get_random_u32() < self.a4
        if self.random.get_random_u32() < self.a2:
            self.clg_state = GOOD_STATE
        return self.random.get_random_u32() >= self.a3

    def corrupt_event(self) -> bool:
        """Whether a bit is flipped (netem_corrupt)."""
        return self.corrupt != 0 and self.corrupt_cor.get_crandom() < self.corrupt

    def reorder_event(self) -> bool:
        """Whether it goes ahead of those that are under way. Counts the packets between."""
        if self.gap == 0 or self.counter < self.gap - 1 or self.reorder_cor.get_crandom() >= self.reorder:
            self.counter += 1
            return False
        self.counter = 0
        return True

    def delay(self) -> int:
        """How long it is under way: latency and jitter, never negative."""
        if self.jitter == 0:
            return self.latency
        delay = tabledist(self.latency, self.jitter, self.delay_cor, self.delay_dist)
        return delay if delay > 0 else 0

    def packet_time_ns(self, length: int) -> int:
        """How long `length` bytes take at `rate`; 0 without a rate."""
        if self.rate == 0:
            return 0
        length += self.packet_overhead
        if self.cell_size:
            cells = (length + self.cell_size - 1) // self.cell_size
            length = cells * (self.cell_size + self.cell_overhead)
        return length * NSEC_PER_SEC // self.rate if length > 0 else 0


def tabledist(mu: int, sigma: int, cor: Crndstate, dist: list[int] | None) -> int:
    """A delay around `mu`: uniform within `sigma`, or `sigma` times an entry of a table."""
    rnd = cor.get_crandom()
    if dist is None:
        # 2 * sigma scaled by the draw, in two steps to stay within 62 bits
        width = 2 * sigma
        return mu - sigma + ((width >> 16) * rnd >> 16) + ((width & 0xFFFF) * rnd >> 32)
    t = dist[rnd % len(dist)]
    # toward zero, as C divides
    x = sigma % NETEM_DIST_SCALE * t
    half = NETEM_DIST_SCALE // 2
    x = (x + half) // NETEM_DIST_SCALE if x >= 0 else -((half - x) // NETEM_DIST_SCALE)
    return x + sigma // NETEM_DIST_SCALE * t + mu


def netem_corrupt(q: Netem, skb: SkBuff) -> int:
    """Flip one bit of the packet, its checksum made good before (the damage is to be found by it). 0 or -errno."""
    if skb.ip_summed == CHECKSUM_PARTIAL:
        err = dev_core.skb_checksum_help(skb)
        if err:
            return err
    size = skb.len - skb.data_len
    if size == 0:
        skb_linearize(skb)
        size = skb.len
        if size == 0:
            return 0
    at = skb.data + q.random.get_random_u32_below(size)
    bit = q.random.get_random_u32_below(8)
    head = skb.head
    skb.head = head[:at] + bytes([head[at] ^ (1 << bit)]) + head[at + 1 :]
    return 0


def INET_ECN_set_ce(skb: SkBuff) -> bool:
    """Mark "congestion experienced" in the IPv4 header. False: the packet's transport does not do ECN."""
    at = skb.network_header
    head = skb.head
    if skb.protocol != ETH_P_IP or skb.tail - at < 20 or head[at] >> 4 != 4:
        return False
    tos = head[at + 1]
    if tos & 3 == 0:
        return False
    if tos & 3 != 3:
        end = at + (head[at] & 15) * 4
        if end > skb.tail:
            return False
        header = bytes([head[at], tos | 3]) + head[at + 2 : at + 10] + b"\0\0" + head[at + 12 : end]
        check = csum_fold(csum_partial(header, 0, len(header), 0))
        skb.head = head[:at] + header[:10] + be.put_u16(check) + header[12:] + head[end:]
    return True


class NetemQdisc(Qdisc):
    """netem as a qdisc. `limit` packets may be under way. What is delayed waits in a tfifo, ordered by the time it may go."""

    __slots__ = ("last_time", "netem", "seq", "tfifo", "watchdog")

    def __init__(self, dev: NetDevice, netem: Netem, limit: int = 1000) -> None:
        super().__init__(dev, limit)
        self.netem: Netem = netem
        self.tfifo: list[tuple[int, int, SkBuff]] = []  # a heap of (time_to_send, order of arrival, packet)
        self.seq: int = 0
        self.last_time: int = 0  # the latest time_to_send in the tfifo
        self.watchdog: QdiscWatchdog = QdiscWatchdog(self)

    def enqueue(self, skb: SkBuff) -> int:
        return netem_enqueue(self, skb, True)

    def dequeue(self) -> SkBuff | None:
        """What was reordered, then what is due; else wake up when something will be."""
        if self.q.head is not None:
            return qdisc_dequeue_head(self, self.q)
        if not self.tfifo:
            return None
        when = self.tfifo[0][0]
        if when > dev_net(self.dev).kernel.now:
            qdisc_watchdog_schedule_ns(self.watchdog, when)
            return None
        skb = heappop(self.tfifo)[2]
        self.qlen -= 1
        qdisc_bstats_update(self, skb)
        return skb

    def peek(self) -> SkBuff | None:
        if self.q.head is not None:
            return self.q.head
        if self.tfifo and self.tfifo[0][0] <= dev_net(self.dev).kernel.now:
            return self.tfifo[0][2]
        return None

    def reset(self) -> None:
        qdisc_reset_gso_skb(self)
        tfifo = self.tfifo
        self.tfifo = []
        net = dev_net(self.dev)
        for entry in tfifo:
            kfree_skb_reason(net, entry[2], SKB_DROP_REASON_QUEUE_PURGE)
        qdisc_reset_queue(self, self.q)
        qdisc_watchdog_cancel(self.watchdog)


def netem_enqueue(sch: NetemQdisc, skb: SkBuff, may_duplicate: bool) -> int:
    """A lost packet counts as sent: the sender must not notice."""
    q = sch.netem
    net = dev_net(sch.dev)
    # 1. none, one or two
    count = 1
    if may_duplicate and q.duplicate_event():
        count = 2
    if q.loss_event():
        if q.ecn and INET_ECN_set_ce(skb):
            sch.drops += 1  # counted, as Linux does, though it goes on
        else:
            count -= 1
    if count == 0:
        sch.drops += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_LINK_LOSS)
        return NET_XMIT_SUCCESS
    # 2. a packet under way is no longer in the sender's buffer: on real hardware it is freed when it leaves, not when it arrives
    if q.latency or q.jitter or q.rate:
        skb_orphan(skb)
    twin: SkBuff | None = None
    if count > 1:
        twin = skb_clone(skb)
    # 3. damage; of a super-packet, to the first of its packets (netem_segment)
    rest: SkBuff | None = None
    if q.corrupt_event():
        if skb.gso_size:
            err, segs = gso.skb_gso_segment(net.kernel, skb)
            if err or segs is None:
                return netem_drop(sch, skb, twin, rest, SKB_DROP_REASON_SKB_GSO_SEG)
            consume_skb(skb)
            skb = segs
            rest = skb.next
            skb.next = None
        if netem_corrupt(q, skb):
            return netem_drop(sch, skb, twin, rest, SKB_DROP_REASON_LINK_LOSS)
    # 4. room
    if sch.qlen >= sch.limit:
        return netem_drop(sch, skb, twin, rest, SKB_DROP_REASON_QDISC_OVERLIMIT)
    # 5. when it may go
    netem_delay(sch, skb)
    if twin is not None:
        netem_enqueue(sch, twin, False)
    # 6. the others of a super-packet that was cut each take their own chance
    while rest is not None:
        following = rest.next
        rest.next = None
        netem_enqueue(sch, rest, True)
        rest = following
    return NET_XMIT_SUCCESS


def netem_drop(sch: NetemQdisc, skb: SkBuff, twin: SkBuff | None, rest: SkBuff | None, reason: int) -> int:
    """qdisc_drop_all: the packet, its duplicate, and what hangs on it."""
    if twin is not None:
        qdisc_drop(sch, twin, reason)
    while rest is not None:
        following = rest.next
        rest.next = None
        qdisc_drop(sch, rest, reason)
        rest = following
    return qdisc_drop(sch, skb, reason)


def netem_delay(sch: NetemQdisc, skb: SkBuff) -> None:
    """Put a packet where it belongs: in the tfifo, or ahead of all."""
    q = sch.netem
    now = dev_net(sch.dev).kernel.now
    sch.qlen += 1
    sch.backlog += qdisc_pkt_len(skb)
    if q.reorder_event():
        skb_queue_head(sch.q, skb)
        sch.requeues += 1
        return
    when = now
    delay = q.delay()
    if q.rate:
        if sch.tfifo and sch.last_time > now:
            # Behind the last one: what it still waits for is part of our delay.
            delay = max(0, delay - (sch.last_time - now))
            when = sch.last_time
        delay += q.packet_time_ns(qdisc_pkt_len(skb))
    when += delay
    if not sch.tfifo or when > sch.last_time:
        sch.last_time = when
    sch.seq += 1
    heappush(sch.tfifo, (when, sch.seq, skb))
