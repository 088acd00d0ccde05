"""The offload part of net/ipv4/af_inet.c: IP headers of packets that are cut (inet_gso_segment) or put together (inet_gro_receive).

What the transports do is in tcp_offload.py and udp_offload.py, which register themselves in `Kernel.inet_offloads`, as Linux's
tcpv4_offload_init and udpv4_offload_init do.

Each packet that is cut off gets the link and network header of the whole with its own length, identification and checksum, a
transport header, and its share of the payload pieces; the transport checksum is left to the device (CHECKSUM_PARTIAL), or to
skb_checksum_help.

Left out: fragments (UFO), encapsulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.net.core import gso
from afinet.net.core.gro import GRO_TRAIT_DF, GroNode, NapiGroCb
from afinet.net.core.skbuff import (
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_TCP_FIXEDID,
    SkBuff,
    pskb_may_pull,
    skb_pieces,
    skb_truesize,
)
from afinet.uapi.errno import EINVAL, EPROTONOSUPPORT
from afinet.uapi.if_ether import ETH_P_IP
from afinet.wire import ip
from afinet.wire.checksum import csum_fold, csum_partial, csum_pieces, csum_tcpudp_nofold

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel


class IpPacketOffload(gso.PacketOffload):
    """ip_packet_offload."""

    __slots__ = ("kernel",)

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(ETH_P_IP)
        self.kernel: Kernel = kernel

    def gso_segment(self, skb: SkBuff) -> tuple[int, gso.GsoSegmenter | None]:
        return inet_gso_segment(self.kernel, skb)

    def gro_receive(self, node: GroNode, skb: SkBuff) -> bool:
        return inet_gro_receive(self.kernel, node, skb)


def ipv4_offload_init(kernel: Kernel) -> int:
    """Once per Kernel."""
    gso.dev_add_offload(kernel, IpPacketOffload(kernel))
    return 0


# -- cutting ---------------------------------------------------------------------------------------------------------------


def inet_gso_segment(kernel: Kernel, skb: SkBuff) -> tuple[int, gso.GsoSegmenter | None]:
    """(0, who cuts it) or (-errno, None): -EINVAL for headers that are not whole, -EPROTONOSUPPORT for another transport."""
    maclen = skb.network_header - skb.data
    if maclen < 0 or skb.gso_size <= 0 or not pskb_may_pull(skb, maclen + ip.IP_HLEN):
        return -EINVAL, None
    nh = skb.network_header
    version_ihl = skb.head[nh]
    ihl = (version_ihl & 15) * 4
    if version_ihl >> 4 != 4 or ihl < ip.IP_HLEN or not pskb_may_pull(skb, maclen + ihl):
        return -EINVAL, None
    offload = kernel.inet_offloads.get(skb.head[nh + ip.IP_PROTOCOL])
    if offload is None:
        return -EPROTONOSUPPORT, None
    return offload.gso_segment(skb, nh, nh + ihl)


class InetSegmenter(gso.GsoSegmenter):
    """skb_segment for a packet with an IPv4 header: a transport's segmenter makes the headers of its own."""

    __slots__ = ("daddr", "frag_off", "id", "id_step", "ip_options", "nh", "offset", "protocol", "saddr", "th", "tos", "ttl")

    def __init__(self, skb: SkBuff, segs: int, nh: int, th: int) -> None:
        super().__init__(skb, segs)
        self.nh: int = nh
        self.th: int = th
        self.offset: int = 0  # how much of the payload has been taken
        _, tos, _, id, frag_off, ttl, protocol, _, saddr, daddr = ip.parse(skb.head, nh)
        self.tos: int = tos
        self.id: int = id
        self.id_step: int = 0 if skb.gso_type & SKB_GSO_TCP_FIXEDID else 1
        self.frag_off: int = frag_off
        self.ttl: int = ttl
        self.protocol: int = protocol
        self.saddr: int = saddr
        self.daddr: int = daddr
        self.ip_options: bytes = skb.head[nh + ip.IP_HLEN : th]

    def pseudo(self, length: int) -> int:
        """What the checksum field of `length` bytes of transport holds until the rest is summed."""
        return csum_fold(csum_tcpudp_nofold(self.saddr, self.daddr, length, self.protocol, 0)) ^ 0xFFFF

    def piece(self, header: bytes, at: int, size: int, count: int, csum_offset: int) -> SkBuff:
        """`count` packets: the transport `header`, and `size` bytes of payload, which begins at `at` in the whole."""
        skb = self.skb
        nh = self.nh
        maclen = nh - skb.data
        length = self.th - nh + len(header) + size
        iph = ip.emit(self.tos, length, self.id, self.frag_off, self.ttl, self.protocol, self.saddr, self.daddr, self.ip_options)
        self.id = self.id + count * self.id_step & 0xFFFF
        head = skb.head[skb.data : nh] + iph + header
        payload = skb_pieces(skb, at - skb.data + self.offset, size) if size else None
        seg = SkBuff(head, payload, size, skb_truesize(len(head) + size))
        seg.dev = skb.dev
        seg.dst = skb.dst
        seg.protocol = skb.protocol
        seg.pkt_type = skb.pkt_type
        seg.mark = skb.mark
        seg.priority = skb.priority
        seg.hash = skb.hash
        seg.tstamp = skb.tstamp
        seg.skb_iif = skb.skb_iif
        seg.ignore_df = skb.ignore_df
        seg.opt = skb.opt
        seg.ip_flags = skb.ip_flags
        seg.frag_max_size = skb.frag_max_size
        seg.network_header = maclen
        seg.transport_header = maclen + self.th - nh
        seg.ip_summed = CHECKSUM_PARTIAL
        seg.csum_start = seg.transport_header
        seg.csum_offset = csum_offset
        if count > 1:
            seg.gso_size = skb.gso_size
            seg.gso_segs = count
            seg.gso_type = skb.gso_type
        self.offset += size
        self.left -= count
        return seg


# -- putting together ------------------------------------------------------------------------------------------------------


def inet_gro_receive(kernel: Kernel, node: GroNode, skb: SkBuff) -> bool:
    """Packets without options and without padding that are no fragments, their header checksum right, are the transport's to
    merge. Anything else goes up as it came."""
    at = skb.data
    head = skb.head
    if skb.tail - at < ip.IP_HLEN:
        return False
    version_ihl, tos, tot_len, id, frag_off, ttl, protocol, _, _, _ = ip.parse(head, at)
    if version_ihl != 0x45 or tot_len != skb.len or frag_off & ~ip.IP_DF:
        return False
    offload = kernel.inet_offloads.get(protocol)
    if offload is None or csum_partial(head, at, at + ip.IP_HLEN, 0) != 0xFFFF:
        return False
    return offload.gro_receive(node, skb, at + ip.IP_HLEN, tos << 24 | ttl << 16 | frag_off & GRO_TRAIT_DF, id)


def gro_checksum_bad(skb: SkBuff, th: int, protocol: int) -> bool:
    """skb_gro_checksum_validate: whether the checksum of what begins at `th` is wrong. What was found right is not summed again,
    here or above."""
    if skb.ip_summed:
        return False
    head = skb.head
    length = skb.len + skb.data - th
    nh = skb.data
    total = length + protocol
    if skb.frags is None:
        total += csum_partial(head, th, skb.tail, 0)
    else:
        total += csum_pieces(skb_pieces(skb, th - nh, length), 0)
    # The addresses stand before the transport header: there are no options.
    if csum_fold(csum_partial(head, nh + ip.IP_SADDR, th, total)):
        return True
    skb.ip_summed = CHECKSUM_UNNECESSARY
    return False


def inet_gro_complete(flow: NapiGroCb, transport: bytes, csum_offset: int, gso_type: int) -> None:
    """The IP header of what was put together; `transport` is the new transport header, from its first byte as far as it changes."""
    skb = flow.skb
    head = skb.head
    nh = skb.data
    _, tos, _, id, frag_off, ttl, protocol, _, saddr, daddr = ip.parse(head, nh)
    th = nh + ip.IP_HLEN
    iph = ip.emit(tos, skb.len, id, frag_off, ttl, protocol, saddr, daddr)
    skb.head = head[:nh] + iph + transport + head[th + len(transport) :]
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_start = th
    skb.csum_offset = csum_offset
    skb.gso_type = gso_type | SKB_GSO_TCP_FIXEDID if flow.ip_fixedid else gso_type
