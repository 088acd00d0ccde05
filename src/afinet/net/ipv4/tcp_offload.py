"""net/ipv4/tcp_offload.c: TCP segments of many packets, cut (tcp_gso_segment) and put together (tcp4_gro_receive).

Merged are data segments that follow each other without a gap, with the same acknowledgement, window, flags and options (so the same
timestamp: what left its sender in one millisecond), full ones and one shorter one at the end. PSH and FIN may be on the last. Never
merged, and the end of what was held: a segment without data, SYN, RST, URG, and CWR, which must stay on a first packet.

Left out: fraglist GRO, AccECN's CWR on every packet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.net.core.gro import GroNode, NapiGroCb
from afinet.net.core.gso import GsoSegmenter
from afinet.net.core.skbuff import SKB_GSO_DODGY, SKB_GSO_TCP_FIXEDID, SKB_GSO_TCPV4, SkBuff, pskb_may_pull
from afinet.net.ipv4.inet_offload import InetSegmenter, gro_checksum_bad, inet_gro_complete
from afinet.net.ipv4.protocol import NetOffload, inet_add_offload
from afinet.uapi.errno import EINVAL, EPROTONOSUPPORT
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.wire import be, tcp
from afinet.wire.checksum import csum_fold, csum_tcpudp_nofold
from afinet.wire.tcp import TCPHDR_CWR, TCPHDR_FIN, TCPHDR_PSH, TCPHDR_RST, TCPHDR_SYN, TCPHDR_URG

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel

# The word of length, flags and window (tcp_flag_word): what may differ in it between packets that are merged.
_MAY_DIFFER: Final = (TCPHDR_CWR | TCPHDR_FIN | TCPHDR_PSH) << 16
_SAME: Final = 0xFFFFFFFF & ~_MAY_DIFFER
# Super-packets that stay as they are: not ours, or cut by another rule.
_NOT_MERGED: Final = SKB_GSO_DODGY | SKB_GSO_TCP_FIXEDID
# With these nothing may follow.
_LAST: Final = TCPHDR_URG | TCPHDR_PSH | TCPHDR_RST | TCPHDR_SYN | TCPHDR_FIN


class TcpOffload(NetOffload):
    """tcpv4_offload."""

    __slots__ = ()

    def gso_segment(self, skb: SkBuff, nh: int, th: int) -> tuple[int, GsoSegmenter | None]:
        return tcp4_gso_segment(skb, nh, th)

    def gro_receive(self, node: GroNode, skb: SkBuff, th: int, traits: int, id: int) -> bool:
        return tcp4_gro_receive(node, skb, th, traits, id)


def tcpv4_offload_init(kernel: Kernel) -> int:
    """0 or -errno. Once per Kernel."""
    return inet_add_offload(kernel, TcpOffload(), IPPROTO_TCP)


# -- cutting ---------------------------------------------------------------------------------------------------------------


def tcp4_gso_segment(skb: SkBuff, nh: int, th: int) -> tuple[int, GsoSegmenter | None]:
    if not skb.gso_type & SKB_GSO_TCPV4:
        return -EPROTONOSUPPORT, None
    at = th - skb.data
    if skb.csum_start != th or not pskb_may_pull(skb, at + tcp.TCP_HLEN):
        return -EINVAL, None
    thlen = (skb.head[th + tcp.TCP_DOFF_FLAGS] >> 4) * 4
    if thlen < tcp.TCP_HLEN or not pskb_may_pull(skb, at + thlen):
        return -EINVAL, None
    return 0, TcpSegmenter(skb, nh, th, thlen)


class TcpSegmenter(InetSegmenter):
    """tcp_gso_segment: sequence numbers go on; FIN and PSH stay on the last packet, CWR on the first."""

    __slots__ = ("ack_seq", "dport", "flags", "options", "payload", "seq", "sport", "total", "urg_ptr", "window")

    def __init__(self, skb: SkBuff, nh: int, th: int, thlen: int) -> None:
        total = skb.len + skb.data - th - thlen
        super().__init__(skb, max(1, -(-total // skb.gso_size)), nh, th)
        sport, dport, seq, ack_seq, doff_flags, window, _, urg_ptr = tcp.parse(skb.head, th)
        self.sport: int = sport
        self.dport: int = dport
        self.seq: int = seq
        self.ack_seq: int = ack_seq
        self.flags: int = doff_flags & 0xFFF
        self.window: int = window
        self.urg_ptr: int = urg_ptr
        self.options: bytes = skb.head[th + tcp.TCP_HLEN : th + thlen]
        self.payload: int = th + thlen
        self.total: int = total

    def take(self, count: int) -> SkBuff:
        offset = self.offset
        size = min(count * self.skb.gso_size, self.total - offset)
        flags = self.flags
        if count < self.left:
            flags &= ~(TCPHDR_FIN | TCPHDR_PSH)
        self.flags &= ~TCPHDR_CWR
        seq = self.seq + offset & 0xFFFFFFFF
        check = self.pseudo(tcp.TCP_HLEN + len(self.options) + size)
        header = tcp.emit(self.sport, self.dport, seq, self.ack_seq, flags, self.window, check, self.urg_ptr, self.options)
        seg = self.piece(header, self.payload, size, count, tcp.TCP_CHECK)
        seg.seq = seq
        seg.tcp_flags = flags & 0xFF
        stamp = self.skb.tx_tstamp
        if stamp is not None and (stamp.key - seq) & 0xFFFFFFFF < size:
            seg.tx_tstamp = stamp  # tcp_gso_tstamp: the packet with the byte that the stamp is about
        return seg


# -- putting together ------------------------------------------------------------------------------------------------------


class TcpGroCb(NapiGroCb):
    """The flow of a TCP segment that is held back."""

    __slots__ = ("ack_seq", "options", "seq_next", "word")

    def __init__(
        self, key: bytes, skb: SkBuff, gso_size: int, traits: int, id: int, seq_next: int, ack_seq: int, word: int, options: bytes
    ) -> None:
        super().__init__(key, skb, gso_size, traits, id)
        self.seq_next: int = seq_next
        self.ack_seq: int = ack_seq
        self.word: int = word  # header length, flags, window
        self.options: bytes = options

    def gro_complete(self) -> None:
        """tcp4_gro_complete: the flags of all, and a checksum that is the device's to fill in."""
        skb = self.skb
        head = skb.head
        th = skb.data + 20
        saddr, daddr, _ = be.unpack_u32x3(head, skb.data + 12)
        check = csum_fold(csum_tcpudp_nofold(saddr, daddr, skb.len - 20, IPPROTO_TCP, 0)) ^ 0xFFFF
        header = head[th : th + tcp.TCP_DOFF_FLAGS] + be.put_u32(self.word) + be.put_u16(check)
        inet_gro_complete(self, header, tcp.TCP_CHECK, SKB_GSO_TCPV4)


def tcp4_gro_receive(node: GroNode, skb: SkBuff, th: int, traits: int, id: int) -> bool:
    """tcp_gro_receive."""
    room = skb.tail - th
    if room < tcp.TCP_HLEN:
        return False
    head = skb.head
    _, _, seq, ack_seq, doff_flags, window, _, _ = tcp.parse(head, th)
    thlen = doff_flags >> 12 << 2
    if thlen < tcp.TCP_HLEN or thlen > room or gro_checksum_bad(skb, th, IPPROTO_TCP):
        return False
    at = th - skb.data + thlen
    length = skb.len - at
    last = doff_flags & _LAST != 0
    gso_size = skb.gso_size
    if gso_size and (
        skb.gso_type & _NOT_MERGED or length != skb.gso_segs * gso_size or not skb.gso_type & SKB_GSO_TCPV4
    ):
        last = True
    key = head[th - 8 : th + 4]  # addresses and ports
    found = node.held.get(key)
    if isinstance(found, TcpGroCb):
        word = doff_flags << 16 | window
        mss = found.gso_size
        if (
            seq == found.seq_next
            and ack_seq == found.ack_seq
            and (word ^ found.word) & _SAME == 0
            and not doff_flags & TCPHDR_CWR
            and (thlen == tcp.TCP_HLEN or head[th + tcp.TCP_HLEN : th + thlen] == found.options)
            and (0 < length <= mss if gso_size == 0 else gso_size == mss and not skb.gso_type & _NOT_MERGED)
            and not found.network_flush(skb, traits, id)
            and found.gro_receive(skb, at, length)
        ):
            found.word |= word & _MAY_DIFFER
            found.seq_next = seq + length & 0xFFFFFFFF
            if last or length < mss:
                node.complete(found)
            return True
        node.complete(found)
    if last or length <= 0:
        return False
    node.hold(
        TcpGroCb(
            key,
            skb,
            gso_size or length,
            traits,
            id,
            seq + length & 0xFFFFFFFF,
            ack_seq,
            doff_flags << 16 | window,
            head[th + tcp.TCP_HLEN : th + thlen],
        )
    )
    return True
