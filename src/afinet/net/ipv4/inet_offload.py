"""Segmentation of IPv4 super-packets in software: inet_gso_segment of net/ipv4/af_inet.c, with tcp_offload.c's and udp_offload.c's.

validate_xmit_skb (net/core/dev.py) comes here with a super-packet that the device cannot cut itself. Each segment gets the link and
network header of the whole with its own length, identification and checksum, a transport header, and its share of the payload
pieces; the transport checksum is left to the device (CHECKSUM_PARTIAL), or to skb_checksum_help.

Left out: receive offload (GRO), fragments (UFO), encapsulation, fixed identifications.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.net.core import gso
from afinet.net.core.skbuff import (
    CHECKSUM_PARTIAL,
    DESTRUCTOR_NONE,
    SKB_GSO_TCPV4,
    SKB_GSO_UDP_L4,
    SkBuff,
    pskb_may_pull,
    skb_pieces,
    skb_truesize,
)
from afinet.uapi.errno import EINVAL, EPROTONOSUPPORT
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.in_ import IPPROTO_TCP, IPPROTO_UDP
from afinet.wire import ip, tcp, udp
from afinet.wire.checksum import csum_fold, csum_tcpudp_nofold
from afinet.wire.tcp import TCPHDR_CWR, TCPHDR_FIN, TCPHDR_PSH

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel


class IpPacketOffload(gso.PacketOffload):
    """ip_packet_offload."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(ETH_P_IP)

    def gso_segment(self, skb: SkBuff) -> tuple[int, SkBuff | None]:
        return inet_gso_segment(skb)


def ipv4_offload_init(kernel: Kernel) -> int:
    """Once per Kernel."""
    gso.dev_add_offload(kernel, IpPacketOffload())
    return 0


def inet_gso_segment(skb: SkBuff) -> tuple[int, SkBuff | None]:
    """(0, segments) or (-errno, None): -EINVAL for headers that are not whole, -EPROTONOSUPPORT for another transport."""
    maclen = skb.network_header - skb.data
    if maclen < 0 or skb.gso_size <= 0 or not pskb_may_pull(skb, maclen + ip.IP_HLEN):
        return -EINVAL, None
    nh = skb.network_header
    version_ihl, _, _, _, _, _, protocol, _, _, _ = ip.parse(skb.head, nh)
    ihl = (version_ihl & 15) * 4
    if version_ihl >> 4 != 4 or ihl < ip.IP_HLEN or not pskb_may_pull(skb, maclen + ihl):
        return -EINVAL, None
    th = nh + ihl
    if protocol == IPPROTO_TCP and skb.gso_type & SKB_GSO_TCPV4:
        return tcp4_gso_segment(skb, nh, th)
    if protocol == IPPROTO_UDP and skb.gso_type & SKB_GSO_UDP_L4:
        return udp4_gso_segment(skb, nh, th)
    return -EPROTONOSUPPORT, None


def tcp4_gso_segment(skb: SkBuff, nh: int, th: int) -> tuple[int, SkBuff | None]:
    """tcp_gso_segment: sequence numbers go on; FIN and PSH stay on the last segment, CWR on the first."""
    at = th - skb.data
    if not pskb_may_pull(skb, at + tcp.TCP_HLEN):
        return -EINVAL, None
    sport, dport, seq, ack_seq, doff_flags, window, _, urg_ptr = tcp.parse(skb.head, th)
    thlen = (doff_flags >> 12) * 4
    if thlen < tcp.TCP_HLEN or not pskb_may_pull(skb, at + thlen):
        return -EINVAL, None
    head = skb.head
    options = head[th + tcp.TCP_HLEN : th + thlen]
    saddr, daddr = ip.parse(head, nh)[8:]
    total = skb.len - at - thlen
    mss = skb.gso_size
    chain = SegmentChain(skb, nh, th)
    offset = 0
    while offset < total or offset == 0:
        size = min(mss, total - offset)
        flags = doff_flags & 0xFFF
        if offset + size < total:
            flags &= ~(TCPHDR_FIN | TCPHDR_PSH)
        if offset:
            flags &= ~TCPHDR_CWR
        pseudo = csum_fold(csum_tcpudp_nofold(saddr, daddr, thlen + size, IPPROTO_TCP, 0)) ^ 0xFFFF
        header = tcp.emit(sport, dport, seq + offset & 0xFFFFFFFF, ack_seq, flags, window, pseudo, urg_ptr, options)
        seg = chain.add(header, offset, size, tcp.TCP_CHECK)
        seg.seq = seq + offset & 0xFFFFFFFF
        seg.tcp_flags = flags & 0xFF
        offset += size
    return 0, chain.finish()


def udp4_gso_segment(skb: SkBuff, nh: int, th: int) -> tuple[int, SkBuff | None]:
    """__udp_gso_segment: a datagram of its own for each gso_size bytes."""
    at = th - skb.data
    if not pskb_may_pull(skb, at + udp.UDP_HLEN):
        return -EINVAL, None
    head = skb.head
    sport, dport, _, _ = udp.parse(head, th)
    saddr, daddr = ip.parse(head, nh)[8:]
    total = skb.len - at - udp.UDP_HLEN
    if total <= 0:
        return -EINVAL, None
    mss = skb.gso_size
    chain = SegmentChain(skb, nh, th)
    offset = 0
    while offset < total:
        size = min(mss, total - offset)
        length = udp.UDP_HLEN + size
        pseudo = csum_fold(csum_tcpudp_nofold(saddr, daddr, length, IPPROTO_UDP, 0)) ^ 0xFFFF
        chain.add(udp.emit(sport, dport, length, pseudo), offset, size, udp.UDP_CHECK)
        offset += size
    return 0, chain.finish()


class SegmentChain:
    """skb_segment: makes the segments of one packet, one after the other, linked through `next`."""

    __slots__ = ("count", "first", "id", "last", "maclen", "nh", "skb", "th", "truesize")

    def __init__(self, skb: SkBuff, nh: int, th: int) -> None:
        self.skb: SkBuff = skb
        self.nh: int = nh
        self.th: int = th
        self.maclen: int = nh - skb.data
        self.id: int = ip.parse(skb.head, nh)[3]
        self.count: int = 0
        self.truesize: int = 0
        self.first: SkBuff | None = None
        self.last: SkBuff | None = None

    def add(self, header: bytes, offset: int, size: int, csum_offset: int) -> SkBuff:
        """A segment with the transport `header` and `size` bytes of payload from `offset` on."""
        skb = self.skb
        old = skb.head
        nh = self.nh
        thlen = len(header)
        _, tos, _, _, frag_off, ttl, protocol, _, saddr, daddr = ip.parse(old, nh)
        options = old[nh + ip.IP_HLEN : self.th]
        length = self.th - nh + thlen + size
        iph = ip.emit(tos, length, self.id + self.count & 0xFFFF, frag_off, ttl, protocol, saddr, daddr, options)
        head = old[skb.data : nh] + iph + header
        payload = skb_pieces(skb, self.th - skb.data + thlen + offset, size) if size else None
        seg = SkBuff(head, payload, size, skb_truesize(len(head) + size))
        seg.dev = skb.dev
        seg.dst = skb.dst
        seg.protocol = skb.protocol
        seg.pkt_type = skb.pkt_type
        seg.mark = skb.mark
        seg.priority = skb.priority
        seg.hash = skb.hash
        seg.tstamp = skb.tstamp
        seg.mac_header = 0
        seg.network_header = self.maclen
        seg.transport_header = self.maclen + self.th - nh
        seg.ip_summed = CHECKSUM_PARTIAL
        seg.csum_start = seg.transport_header
        seg.csum_offset = csum_offset
        self.truesize += seg.truesize
        self.count += 1
        if self.last is None:
            self.first = seg
        else:
            self.last.next = seg
        self.last = seg
        return seg

    def finish(self) -> SkBuff | None:
        """Move the sender's charge from the whole to its segments, so that it is given back as they are freed."""
        skb = self.skb
        sk = skb.sk
        if sk is not None and skb.destructor != DESTRUCTOR_NONE:
            sk.sk_wmem_alloc += self.truesize - skb.truesize
            at = self.first
            while at is not None:
                at.sk = sk
                at.destructor = skb.destructor
                at = at.next
            skb.sk = None
            skb.destructor = DESTRUCTOR_NONE
        return self.first
