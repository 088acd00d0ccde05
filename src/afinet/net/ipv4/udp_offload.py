"""net/ipv4/udp_offload.c: datagrams sent as one (UDP_SEGMENT), cut (udp4_gso_segment), and put together (udp4_gro_receive) for a
sock that asked for it (UDP_GRO).

Merged are datagrams between the same ports, as long as the first or, the last one, shorter. Those without a checksum are not, for
what is sent as one has checksums.

Left out: tunnels (UDP_ENCAP), fraglist GRO, UFO, merging what is only forwarded (rx-udp-gro-forwarding, off in Linux too).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.net.core.gro import GroNode, NapiGroCb
from afinet.net.core.gso import GsoSegmenter
from afinet.net.core.skbuff import SKB_GSO_UDP_L4, SkBuff, pskb_may_pull
from afinet.net.ipv4 import udp_table
from afinet.net.ipv4.inet_offload import InetSegmenter, gro_checksum_bad, inet_gro_complete
from afinet.net.ipv4.protocol import NetOffload, inet_add_offload, net_of
from afinet.net.ipv4.udp_sock import UdpTable, UdpTableProto
from afinet.uapi.errno import EINVAL, EPROTONOSUPPORT
from afinet.uapi.in_ import IPPROTO_UDP
from afinet.wire import be, udp
from afinet.wire.checksum import csum_fold, csum_tcpudp_nofold

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel

UDP_GRO_CNT_MAX: Final = 64
_KEY: Final = b"\x11"  # behind addresses and ports: these are UDP's


class UdpOffload(NetOffload):
    """udpv4_offload. `table` has the socks that packets may be merged for."""

    __slots__ = ("table",)

    def __init__(self, table: UdpTable) -> None:
        self.table: UdpTable = table

    def gso_segment(self, skb: SkBuff, nh: int, th: int) -> tuple[int, GsoSegmenter | None]:
        return udp4_gso_segment(skb, nh, th)

    def gro_receive(self, node: GroNode, skb: SkBuff, th: int, traits: int, id: int) -> bool:
        # udp_encap_needed_key: as long as no sock asks for it there is nothing to look up
        return self.table.gro_socks > 0 and udp4_gro_receive(self.table, node, skb, th, traits, id)


def udpv4_offload_init(kernel: Kernel) -> int:
    """0 or -errno. Once per Kernel, after UDP itself."""
    table = UdpTable()
    for prot in kernel.proto_list:
        if isinstance(prot, UdpTableProto):
            table = prot.table
    return inet_add_offload(kernel, UdpOffload(table), IPPROTO_UDP)


# -- cutting ---------------------------------------------------------------------------------------------------------------


def udp4_gso_segment(skb: SkBuff, nh: int, th: int) -> tuple[int, GsoSegmenter | None]:
    if not skb.gso_type & SKB_GSO_UDP_L4:
        return -EPROTONOSUPPORT, None
    at = th - skb.data
    if skb.csum_start != th or not pskb_may_pull(skb, at + udp.UDP_HLEN) or skb.len <= at + udp.UDP_HLEN:
        return -EINVAL, None
    return 0, UdpSegmenter(skb, nh, th)


class UdpSegmenter(InetSegmenter):
    """__udp_gso_segment: a datagram of its own for each gso_size bytes."""

    __slots__ = ("dport", "sport", "total")

    def __init__(self, skb: SkBuff, nh: int, th: int) -> None:
        total = skb.len + skb.data - th - udp.UDP_HLEN
        super().__init__(skb, -(-total // skb.gso_size), nh, th)
        sport, dport, _, _ = udp.parse(skb.head, th)
        self.sport: int = sport
        self.dport: int = dport
        self.total: int = total

    def take(self, count: int) -> SkBuff:
        size = min(count * self.skb.gso_size, self.total - self.offset)
        length = udp.UDP_HLEN + size
        header = udp.emit(self.sport, self.dport, length, self.pseudo(length))
        first = self.offset == 0
        seg = self.piece(header, self.th + udp.UDP_HLEN, size, count, udp.UDP_CHECK)
        if first:
            seg.tx_tstamp = self.skb.tx_tstamp
        return seg


# -- putting together ------------------------------------------------------------------------------------------------------


class UdpGroCb(NapiGroCb):
    """The flow of a datagram that is held back."""

    __slots__ = ()

    def gro_complete(self) -> None:
        """udp4_gro_complete."""
        skb = self.skb
        length = skb.len - 20
        saddr, daddr, ports = be.unpack_u32x3(skb.head, skb.data + 12)
        check = csum_fold(csum_tcpudp_nofold(saddr, daddr, length, IPPROTO_UDP, 0)) ^ 0xFFFF
        inet_gro_complete(self, be.pack_udp(ports >> 16, ports & 0xFFFF, length, check), udp.UDP_CHECK, SKB_GSO_UDP_L4)


def udp4_gro_receive(table: UdpTable, node: GroNode, skb: SkBuff, th: int, traits: int, id: int) -> bool:
    """udp_gro_receive and udp_gro_receive_segment. A super-packet goes up as it came."""
    if skb.tail - th < udp.UDP_HLEN or skb.gso_size:
        return False
    head = skb.head
    sport, dport, ulen, check = be.unpack_udp(head, th)
    if check == 0 or ulen <= udp.UDP_HLEN or ulen != skb.len - 20 or gro_checksum_bad(skb, th, IPPROTO_UDP):
        return False
    saddr, daddr, _ = be.unpack_u32x3(head, th - 8)
    net = net_of(skb)
    dev = skb.dev
    assert dev is not None
    sk = udp_table.__udp4_lib_lookup(net, table, saddr, sport, daddr, dport, dev.ifindex, None)
    if sk is None or not sk.gro_enabled:
        return False
    size = ulen - udp.UDP_HLEN
    key = head[th - 8 : th + 4] + _KEY
    found = node.held.get(key)
    if found is not None:
        flow = cast(UdpGroCb, found)
        if size <= flow.gso_size and not flow.network_flush(skb, traits, id) and flow.gro_receive(skb, 28, size):
            if size != flow.gso_size or flow.count >= UDP_GRO_CNT_MAX:
                node.complete(flow)
            return True
        node.complete(flow)
    node.hold(UdpGroCb(key, skb, size, traits, id))
    return True
