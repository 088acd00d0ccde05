"""include/linux/rbtree.h's role in TCP: segments in the order of their sequence numbers.

Linux keeps the retransmit queue and the out-of-order queue in red-black trees. Here both are doubly linked lists through
`skb.next` and `skb.prev`, which makes the common operations (append, take the head, step) a few stores; and an index, an array of
the same segments for bisection, that is built at the first search and dropped when the queue runs empty. A connection without loss
never searches, so it never has one. Inserting and deleting in the middle shift the array by one memmove.

`TsortedQueue` is Linux's `tsorted_sent_queue`: the segments that RACK may still take for lost, in the order they were last sent.
Without retransmissions that is the order of the retransmit queue, so it is made when loss detection first needs it and dropped at
the end of the episode (tcp_recovery.py).

Queues span less than 2**31 sequence numbers.
"""

from __future__ import annotations

from afinet.net.core.skbuff import SkBuff
from afinet.net.ipv4.tcp_sock import TCPCB_LOST, TCPCB_SACKED_ACKED, TCPCB_SACKED_RETRANS


class TcpSkbQueue:
    """An ordered queue of segments. Step through it by `head`, `skb.next`, `skb.prev`."""

    __slots__ = ("base", "head", "index", "tail")

    def __init__(self) -> None:
        self.head: SkBuff | None = None
        self.tail: SkBuff | None = None
        self.index: list[SkBuff] | None = None
        self.base: int = 0  # entries of `index` before this one have left the queue

    def append(self, skb: SkBuff) -> None:
        """Put `skb`, which comes after all others, at the end."""
        tail = self.tail
        skb.next = None
        skb.prev = tail
        if tail is None:
            self.head = skb
        else:
            tail.next = skb
        self.tail = skb
        if self.index is not None:
            self.index.append(skb)

    def pop_head(self) -> SkBuff | None:
        """The head leaves; returns the one that is the head now."""
        skb = self.head
        assert skb is not None
        following = skb.next
        skb.next = None
        self.head = following
        if following is None:
            self.tail = None
            self.index = None
            return None
        following.prev = None
        index = self.index
        if index is not None:
            base = self.base + 1
            if base > 64 and base * 2 > len(index):
                del index[:base]
                base = 0
            self.base = base
        return following

    def insert_after(self, before: SkBuff, skb: SkBuff) -> None:
        """Put `skb` behind `before`, which is in the queue."""
        following = before.next
        if following is None:
            self.append(skb)
            return
        skb.prev = before
        skb.next = following
        before.next = skb
        following.prev = skb
        index = self.index
        if index is not None:
            index.insert(self._position(index, before) + 1, skb)

    def insert_head(self, skb: SkBuff) -> None:
        """Put `skb`, which comes before all others, at the front."""
        following = self.head
        if following is None:
            self.append(skb)
            return
        skb.prev = None
        skb.next = following
        following.prev = skb
        self.head = skb
        index = self.index
        if index is not None:
            if self.base:
                self.base -= 1
                index[self.base] = skb
            else:
                index.insert(0, skb)

    def unlink(self, skb: SkBuff) -> None:
        """`skb` leaves."""
        before = skb.prev
        if before is None:
            self.pop_head()
            return
        index = self.index
        if index is not None:
            del index[self._position(index, skb)]
        following = skb.next
        before.next = following
        if following is None:
            self.tail = before
        else:
            following.prev = before
        skb.next = None
        skb.prev = None

    def find_last_not_after(self, seq: int) -> SkBuff | None:
        """The last segment that starts at or before `seq`; None if all start after it."""
        head = self.head
        if head is None:
            return None
        index = self.index
        if index is None:
            index = self._build()
        # Compare distances from a point that is before everything: half the number space behind the head.
        origin = (head.seq - 0x40000000) & 0xFFFFFFFF
        distance = (seq - origin) & 0xFFFFFFFF
        lo = self.base
        hi = len(index)
        while lo < hi:
            mid = (lo + hi) >> 1
            if (index[mid].seq - origin) & 0xFFFFFFFF <= distance:
                lo = mid + 1
            else:
                hi = mid
        if lo == self.base:
            return None
        return index[lo - 1]

    def find(self, seq: int) -> SkBuff | None:
        """The segment that contains `seq`."""
        skb = self.find_last_not_after(seq)
        if skb is None or (skb.end_seq - seq - 1) & 0xFFFFFFFF > 0x7FFFFFFF:
            return None
        return skb

    def _build(self) -> list[SkBuff]:
        index: list[SkBuff] = []
        skb = self.head
        while skb is not None:
            index.append(skb)
            skb = skb.next
        self.index = index
        self.base = 0
        return index

    def _position(self, index: list[SkBuff], skb: SkBuff) -> int:
        """Where `skb` stands in the index: bisection, then identity (a SYN and a FIN may share a number with data)."""
        head = self.head
        assert head is not None
        origin = (head.seq - 0x40000000) & 0xFFFFFFFF
        distance = (skb.seq - origin) & 0xFFFFFFFF
        lo = self.base
        hi = len(index)
        while lo < hi:
            mid = (lo + hi) >> 1
            if (index[mid].seq - origin) & 0xFFFFFFFF < distance:
                lo = mid + 1
            else:
                hi = mid
        while index[lo] is not skb:
            lo += 1
        return lo


class TsortedNode:
    """skb->tcp_tsorted_anchor."""

    __slots__ = ("next", "prev", "skb")

    def __init__(self, skb: SkBuff) -> None:
        self.skb: SkBuff = skb
        self.next: TsortedNode | None = None
        self.prev: TsortedNode | None = None


class TsortedQueue:
    """tp->tsorted_sent_queue. A segment in it has its node in `skb.cb`."""

    __slots__ = ("head", "tail")

    def __init__(self, rtx: TcpSkbQueue) -> None:
        """All of `rtx` that was sent and not delivered or given up, by when it was last sent."""
        self.head: TsortedNode | None = None
        self.tail: TsortedNode | None = None
        order: list[tuple[int, int, int, SkBuff]] = []
        n = 0
        skb = rtx.head
        while skb is not None:
            skb.cb = None
            sacked = skb.sacked
            if not sacked & TCPCB_SACKED_ACKED and (not sacked & TCPCB_LOST or sacked & TCPCB_SACKED_RETRANS):
                order.append((skb.tstamp, skb.tx_order, n, skb))
            n += 1
            skb = skb.next
        order.sort()
        for entry in order:
            self.move_tail(entry[3])

    def move_tail(self, skb: SkBuff) -> None:
        """`skb` was sent just now."""
        node = skb.cb
        if isinstance(node, TsortedNode):
            self._unlink(node)
        else:
            node = TsortedNode(skb)
            skb.cb = node
        tail = self.tail
        node.prev = tail
        node.next = None
        if tail is None:
            self.head = node
        else:
            tail.next = node
        self.tail = node

    def insert_after(self, before: SkBuff, skb: SkBuff) -> None:
        """`skb` was cut off `before`, and was sent when that was."""
        anchor = before.cb
        if not isinstance(anchor, TsortedNode):
            return
        node = TsortedNode(skb)
        skb.cb = node
        following = anchor.next
        node.prev = anchor
        node.next = following
        anchor.next = node
        if following is None:
            self.tail = node
        else:
            following.prev = node

    def remove(self, skb: SkBuff) -> None:
        """`skb` was delivered, or was taken for lost: nothing happens if it is not here."""
        node = skb.cb
        if isinstance(node, TsortedNode):
            self._unlink(node)
            skb.cb = None

    def _unlink(self, node: TsortedNode) -> None:
        before = node.prev
        following = node.next
        if before is None:
            self.head = following
        else:
            before.next = following
        if following is None:
            self.tail = before
        else:
            following.prev = before
