"""net/core/skbuff.c: struct sk_buff, its queues, cloning, freeing.

A packet is linear `head[data:tail]` followed by the pieces in `frags`; both are immutable bytes, so clones share them and
nothing is copied until someone asks for contiguous bytes. Headers are pushed by putting new bytes before the head. Header
offsets (`mac_header`, `network_header`, `transport_header`) index `head`. A transmitted segment is thus a head of headers and
the payload pieces that the program handed in, joined once, in a driver that needs them joined.

What Linux overlays in `skb->cb` are plain fields here: `seq` to `delivered_ce` are TCP_SKB_CB, `opt`, `ip_flags` and
`frag_max_size` are IPCB. Who holds an skb frees it: `consume_skb` when it did its work, `kfree_skb_reason` when it is dropped;
both give back the memory charged to the owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.net.core import sock as sock_mod
from afinet.net.core.drop_reason import DROP_REASON_NAMES
from afinet.wire import be, checksum

if TYPE_CHECKING:
    from afinet.net.core.dst import DstEntry
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.sock import Sock
    from afinet.net.ipv4.ip_options import IpOptions

CHECKSUM_NONE: Final = 0
CHECKSUM_UNNECESSARY: Final = 1
CHECKSUM_COMPLETE: Final = 2
CHECKSUM_PARTIAL: Final = 3  # the transport checksum field holds the folded pseudo-header sum; the rest is to be added

# What becomes of the owner's charge when the skb is freed or orphaned (skb->destructor).
DESTRUCTOR_NONE: Final = 0
DESTRUCTOR_WFREE: Final = 1  # sock_wfree
DESTRUCTOR_RFREE: Final = 2  # sock_rfree
DESTRUCTOR_TCP_WFREE: Final = 3  # tcp_wfree

SKB_DATA_ALIGN: Final = 64
# Aligned, on x86-64: what Linux charges beside the data.
SIZEOF_SK_BUFF: Final = 256
SIZEOF_SKB_SHARED_INFO: Final = 320
SKB_OVERHEAD: Final = SIZEOF_SK_BUFF + SIZEOF_SKB_SHARED_INFO

SKB_GSO_TCPV4: Final = 1
SKB_GSO_DODGY: Final = 1 << 1  # made outside of this host, by who may lie about it
SKB_GSO_TCP_FIXEDID: Final = 1 << 3  # the packets all have the same identification
SKB_GSO_UDP_L4: Final = 1 << 17


class SkbTxTstamp:
    """tx_flags and tskey of skb_shinfo(skb): which stamps are wanted (SKBTX_*), and the number that the program knows it by."""

    __slots__ = ("flags", "key")

    def __init__(self, flags: int, key: int) -> None:
        self.flags: int = flags
        self.key: int = key


class SkBuff:
    """struct sk_buff."""

    __slots__ = (
        "ack_seq",
        "cb",
        "csum_offset",
        "csum_start",
        "data",
        "data_len",
        "delivered",
        "delivered_ce",
        "delivered_mstamp",
        "destructor",
        "dev",
        "dropcount",
        "dst",
        "end_seq",
        "eor",
        "first_tx_mstamp",
        "frag_max_size",
        "frags",
        "gso_segs",
        "gso_size",
        "gso_type",
        "hash",
        "head",
        "ignore_df",
        "ip_flags",
        "ip_summed",
        "is_app_limited",
        "len",
        "list",
        "mac_header",
        "mark",
        "network_header",
        "next",
        "opt",
        "pkt_type",
        "prev",
        "priority",
        "protocol",
        "sacked",
        "seq",
        "sk",
        "skb_iif",
        "tail",
        "tcp_flags",
        "transport_header",
        "truesize",
        "tstamp",
        "tx_order",
        "tx_tstamp",
        "txstamp_ack",
    )

    def __init__(self, head: bytes, frags: list[bytes] | None, data_len: int, truesize: int) -> None:
        size = len(head)
        self.head: bytes = head
        self.data: int = 0  # where the current header begins, in head
        self.tail: int = size  # where the linear part ends, in head
        self.frags: list[bytes] | None = frags  # never an empty list; shared by clones: replace, do not write
        self.data_len: int = data_len  # bytes in frags
        self.len: int = size + data_len  # bytes from `data` to the end of frags
        self.truesize: int = truesize
        self.mac_header: int = 0
        self.network_header: int = 0
        self.transport_header: int = 0
        # queue
        self.next: SkBuff | None = None
        self.prev: SkBuff | None = None
        self.list: SkBuffHead | None = None
        # whose
        self.sk: Sock | None = None
        self.destructor: int = DESTRUCTOR_NONE
        self.dev: NetDevice | None = None
        self.dst: DstEntry | None = None
        # what
        self.protocol: int = 0  # ETH_P_*
        self.pkt_type: int = 0  # PACKET_HOST, ...
        self.ip_summed: int = CHECKSUM_NONE
        self.csum_start: int = 0  # with CHECKSUM_PARTIAL: offset in head of the transport header,
        self.csum_offset: int = 0  # and of its checksum field from there
        self.gso_size: int = 0  # payload bytes a packet on the wire, 0: not a super-packet
        self.gso_segs: int = 0
        self.gso_type: int = 0
        self.skb_iif: int = 0
        self.mark: int = 0
        self.priority: int = 0
        self.hash: int = 0
        self.tstamp: int = 0  # ns, CLOCK_REALTIME on receipt, CLOCK_MONOTONIC (skb_mstamp_ns) in the TCP write queues
        self.dropcount: int = 0  # SOCK_SKB_CB: sk_drops when it was queued, with SO_RXQ_OVFL
        self.tx_tstamp: SkbTxTstamp | None = None  # the sender wants to know when it leaves
        self.ignore_df: bool = False
        # IPCB
        self.opt: IpOptions | None = None
        self.ip_flags: int = 0  # IPSKB_*
        self.frag_max_size: int = 0
        # TCP_SKB_CB
        self.seq: int = 0
        self.end_seq: int = 0
        self.ack_seq: int = 0
        self.tcp_flags: int = 0
        self.sacked: int = 0  # TCPCB_*
        self.eor: bool = False
        self.txstamp_ack: bool = False
        self.is_app_limited: bool = False
        self.tx_order: int = 0  # the how-manyeth transmission of its sock the last one of this segment was
        self.delivered: int = 0
        self.delivered_ce: int = 0
        self.first_tx_mstamp: int = 0
        self.delivered_mstamp: int = 0
        self.cb: object = None  # any other protocol's control block


class SkBuffHead:
    """struct sk_buff_head: a doubly linked queue that knows its length."""

    __slots__ = ("head", "qlen", "tail")

    def __init__(self) -> None:
        self.head: SkBuff | None = None
        self.tail: SkBuff | None = None
        self.qlen: int = 0


def skb_peek(q: SkBuffHead) -> SkBuff | None:
    return q.head


def skb_peek_tail(q: SkBuffHead) -> SkBuff | None:
    return q.tail


def skb_queue_tail(q: SkBuffHead, skb: SkBuff) -> None:
    tail = q.tail
    skb.list = q
    skb.prev = tail
    skb.next = None
    if tail is None:
        q.head = skb
    else:
        tail.next = skb
    q.tail = skb
    q.qlen += 1


def skb_queue_head(q: SkBuffHead, skb: SkBuff) -> None:
    head = q.head
    skb.list = q
    skb.prev = None
    skb.next = head
    if head is None:
        q.tail = skb
    else:
        head.prev = skb
    q.head = skb
    q.qlen += 1


def skb_append(q: SkBuffHead, after: SkBuff, skb: SkBuff) -> None:
    """Put `skb` behind `after`."""
    following = after.next
    skb.list = q
    skb.prev = after
    skb.next = following
    after.next = skb
    if following is None:
        q.tail = skb
    else:
        following.prev = skb
    q.qlen += 1


def skb_unlink(q: SkBuffHead, skb: SkBuff) -> None:
    before = skb.prev
    following = skb.next
    if before is None:
        q.head = following
    else:
        before.next = following
    if following is None:
        q.tail = before
    else:
        following.prev = before
    skb.next = None
    skb.prev = None
    skb.list = None
    q.qlen -= 1


def skb_dequeue(q: SkBuffHead) -> SkBuff | None:
    skb = q.head
    if skb is not None:
        skb_unlink(q, skb)
    return skb


def skb_queue_purge(net: Net, q: SkBuffHead, reason: int) -> None:
    """Drop all that is queued."""
    while True:
        skb = skb_dequeue(q)
        if skb is None:
            return
        kfree_skb_reason(net, skb, reason)


# -- making ----------------------------------------------------------------------------------------------------------------


def skb_truesize(size: int) -> int:
    """SKB_TRUESIZE: what a packet of `size` bytes is charged."""
    return ((size + SKB_DATA_ALIGN - 1) & -SKB_DATA_ALIGN) + SKB_OVERHEAD


def alloc_skb(head: bytes) -> SkBuff:
    """A linear packet."""
    return SkBuff(head, None, 0, skb_truesize(len(head)))


def skb_clone(skb: SkBuff) -> SkBuff:
    """A second packet over the same bytes, owned by nobody."""
    n = SkBuff(skb.head, skb.frags, skb.data_len, skb.truesize)
    n.data = skb.data
    n.tail = skb.tail
    n.len = skb.len
    n.mac_header = skb.mac_header
    n.network_header = skb.network_header
    n.transport_header = skb.transport_header
    n.dev = skb.dev
    n.dst = skb.dst
    n.protocol = skb.protocol
    n.pkt_type = skb.pkt_type
    n.ip_summed = skb.ip_summed
    n.csum_start = skb.csum_start
    n.csum_offset = skb.csum_offset
    n.gso_size = skb.gso_size
    n.gso_segs = skb.gso_segs
    n.gso_type = skb.gso_type
    n.skb_iif = skb.skb_iif
    n.mark = skb.mark
    n.priority = skb.priority
    n.hash = skb.hash
    n.tstamp = skb.tstamp
    n.tx_tstamp = skb.tx_tstamp
    n.ignore_df = skb.ignore_df
    n.opt = skb.opt
    n.ip_flags = skb.ip_flags
    n.frag_max_size = skb.frag_max_size
    n.seq = skb.seq
    n.end_seq = skb.end_seq
    n.ack_seq = skb.ack_seq
    n.tcp_flags = skb.tcp_flags
    n.cb = skb.cb
    return n


# -- bytes -----------------------------------------------------------------------------------------------------------------


def skb_headlen(skb: SkBuff) -> int:
    """Bytes in the linear part."""
    return skb.len - skb.data_len


def skb_push(skb: SkBuff, header: bytes) -> None:
    """Put `header` before the packet; `data` then indexes its first byte. Header offsets move along."""
    data = skb.data
    if data == 0 and skb.tail == len(skb.head):
        skb.head = header + skb.head
    else:
        skb.head = header + skb.head[data : skb.tail]
    shift = len(header) - data
    skb.data = 0
    skb.tail = len(skb.head)
    skb.len += len(header)
    skb.mac_header += shift
    skb.network_header += shift
    skb.transport_header += shift
    skb.csum_start += shift


def skb_pull(skb: SkBuff, n: int) -> None:
    """Step over `n` bytes of the linear part; the caller has made sure of them."""
    skb.data += n
    skb.len -= n


def pskb_may_pull(skb: SkBuff, n: int) -> bool:
    """Make the first `n` bytes linear. False if the packet is shorter."""
    if n <= skb.len - skb.data_len:
        return True
    if n > skb.len:
        return False
    skb_linearize(skb)
    return True


def skb_linearize(skb: SkBuff) -> None:
    """Gather the whole packet in `head`, keeping the offsets."""
    frags = skb.frags
    if frags is not None:
        skb.head = b"".join([skb.head[: skb.tail], *frags])
        skb.tail = len(skb.head)
        skb.frags = None
        skb.data_len = 0


def pskb_trim(skb: SkBuff, length: int) -> None:
    """Cut the packet to `length` bytes from `data`; nothing happens if it is not longer."""
    surplus = skb.len - length
    if surplus <= 0:
        return
    frags = skb.frags
    if frags is not None:
        left = skb.data_len - surplus
        if left <= 0:
            skb.frags = None
            skb.data_len = 0
            skb.tail += left
        else:
            skb.frags = pieces_slice(frags, 0, left)
            skb.data_len = left
    else:
        skb.tail -= surplus
    skb.len = length


def skb_tobytes(skb: SkBuff, offset: int = 0) -> bytes:
    """The bytes from `data + offset` to the end."""
    if skb.frags is None:
        return skb.head[skb.data + offset : skb.tail]
    return b"".join(skb_pieces(skb, offset, skb.len - offset))


def skb_pieces(skb: SkBuff, offset: int, n: int) -> list[bytes]:
    """`n` bytes from `data + offset` on, as pieces; whole pieces are shared, not copied."""
    headlen = skb.len - skb.data_len
    frags = skb.frags
    if offset >= headlen:
        if frags is None:
            return []
        if offset == headlen and n >= skb.data_len:
            return frags
        return pieces_slice(frags, offset - headlen, n)
    start = skb.data + offset
    take = headlen - offset
    if take >= n or frags is None:
        return [skb.head[start : start + min(n, take)]]
    return [skb.head[start : start + take], *pieces_slice(frags, 0, n - take)]


def skb_pieces_from(skb: SkBuff, off: int, n: int) -> list[bytes]:
    """Up to `n` bytes from offset `off` of `head` on, wherever `data` is."""
    piece = skb.head[off : min(off + n, skb.tail)]
    frags = skb.frags
    if frags is None or len(piece) == n:
        return [piece] if piece else []
    pieces = [piece] if piece else []
    skip = off - skb.tail if off > skb.tail else 0
    return pieces + pieces_slice(frags, skip, n - len(piece))


def skb_header_pointer(skb: SkBuff, off: int, n: int) -> bytes:
    """`n` bytes from offset `off` of `head` on, fewer where the packet ends: for reading a header that may be anywhere in it."""
    if off + n <= skb.tail or skb.frags is None:
        return skb.head[off : min(off + n, skb.tail)]
    return b"".join(skb_pieces_from(skb, off, n))


def skb_frame(skb: SkBuff) -> bytes:
    """The frame from its link header on as a wire would carry it: contiguous, a checksum left to the device filled in."""
    frame = skb.head[skb.mac_header : skb.tail]
    if skb.frags is not None:
        frame = b"".join([frame, *skb.frags])
    if skb.ip_summed == CHECKSUM_PARTIAL:
        start = skb.csum_start - skb.mac_header
        at = start + skb.csum_offset
        # The field holds the pseudo-header's sum, so the sum over the transport packet is the checksum (skb_checksum_help).
        value = checksum.csum_fold(checksum.csum_partial(frame, start, len(frame), 0))
        frame = frame[:at] + be.put_u16(value or 0xFFFF) + frame[at + 2 :]
    return frame


def pieces_slice(pieces: list[bytes], offset: int, n: int) -> list[bytes]:
    """`n` bytes of the concatenation of `pieces` from `offset` on, whole pieces shared."""
    out: list[bytes] = []
    for piece in pieces:
        size = len(piece)
        if offset >= size:
            offset -= size
            continue
        if n <= 0:
            break
        if offset == 0 and size <= n:
            out.append(piece)
            n -= size
        else:
            part = piece[offset : offset + n]
            out.append(part)
            n -= len(part)
            offset = 0
    return out


# -- owning and freeing ----------------------------------------------------------------------------------------------------


def skb_set_owner_w(skb: SkBuff, sk: Sock) -> None:
    """Charge the packet to the sender's `sk_wmem_alloc`."""
    skb_orphan(skb)
    skb.sk = sk
    skb.destructor = DESTRUCTOR_WFREE
    sk.sk_wmem_alloc += skb.truesize


def skb_set_owner_r(skb: SkBuff, sk: Sock) -> None:
    """Charge the packet to the receiver's `sk_rmem_alloc` and forward allocation."""
    skb_orphan(skb)
    skb.sk = sk
    skb.destructor = DESTRUCTOR_RFREE
    sk.sk_rmem_alloc += skb.truesize
    sock_mod.sk_mem_charge(sk, skb.truesize)


def skb_orphan(skb: SkBuff) -> None:
    """Give the charge back and forget the owner."""
    sk = skb.sk
    destructor = skb.destructor
    if destructor == DESTRUCTOR_NONE:
        skb.sk = None
        return
    skb.sk = None
    skb.destructor = DESTRUCTOR_NONE
    assert sk is not None
    if destructor == DESTRUCTOR_RFREE:
        sock_mod.sock_rfree(sk, skb.truesize)
    elif destructor == DESTRUCTOR_WFREE:
        sock_mod.sock_wfree(sk, skb.truesize)
    else:
        sk.tcp_wfree(skb.truesize)


def skb_scrub_packet(skb: SkBuff, xnet: bool) -> None:
    """Forget what the sending side knew of the packet; with `xnet` (another namespace) its mark and time too. The owner stays."""
    skb.ignore_df = False
    skb.dst = None
    skb.hash = 0
    if xnet:
        skb.mark = 0
        skb.tstamp = 0


def consume_skb(skb: SkBuff) -> None:
    """Free a packet that did its work."""
    if skb.destructor:
        skb_orphan(skb)


def kfree_skb_reason(net: Net, skb: SkBuff, reason: int) -> int:
    """Drop a packet: count the reason, tell the tracepoint. Returns NET_RX_DROP (1), for the caller to return."""
    net.drop_reasons[reason] += 1
    kernel = net.kernel
    if kernel.trace.kfree_skb:
        kernel.trace.fire(
            "skb:kfree_skb", {"protocol": skb.protocol, "reason": DROP_REASON_NAMES[reason], "skb": skb, "rx_sk": skb.sk}
        )
    if skb.destructor:
        skb_orphan(skb)
    return 1
