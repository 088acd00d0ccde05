"""net/core/flow_dissector.c: what tells a flow from others, read out of a packet: addresses, protocol, ports.

`skb_flow_dissect_flow_keys` follows the headers from the IPv4 one (`network_header`) inwards, through IP in IP and GRE, as far as
the flags allow. Every read is checked; what does not parse ends the dissection with what is known so far.

Left out: IPv6 and what else may be inside a tunnel, flow labels, MPLS, VLANs, the keys of tc's flower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.net.core.skbuff import skb_header_pointer
from afinet.uapi.in_ import (
    IPPROTO_AH,
    IPPROTO_DCCP,
    IPPROTO_ESP,
    IPPROTO_GRE,
    IPPROTO_IPIP,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
)
from afinet.wire import be, ip

if TYPE_CHECKING:
    from afinet.net.core.skbuff import SkBuff

FLOW_DISSECTOR_F_STOP_AT_ENCAP: Final = 1
FLOW_DISSECTOR_MAX_HDRS: Final = 15

# In front of what GRE carries: its own header of four bytes, and four for each of these flags.
GRE_CSUM: Final = 0x8000
GRE_KEY: Final = 0x2000
GRE_SEQ: Final = 0x1000
GRE_VERSION: Final = 0x0007
ETH_P_IP: Final = 0x0800


class FlowKeys:
    """struct flow_keys: what a flow is known by. Numbers are in host order; what is not known is 0."""

    __slots__ = ("dport", "dst", "encapsulation", "ip_proto", "is_fragment", "sport", "src")

    def __init__(self) -> None:
        self.src: int = 0
        self.dst: int = 0
        self.ip_proto: int = 0
        self.sport: int = 0
        self.dport: int = 0
        self.is_fragment: bool = False
        self.encapsulation: bool = False  # there is a tunnel; without STOP_AT_ENCAP the rest is of the packet inside

    def consistentify(self) -> None:
        """__flow_hash_consistentify: both directions of a flow look the same."""
        if self.dst < self.src:
            self.src, self.dst = self.dst, self.src
        if self.dport < self.sport:
            self.sport, self.dport = self.dport, self.sport


def proto_ports_offset(proto: int) -> int:
    """Where the ports stand in the transport header; -1: it has none."""
    if proto in (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_DCCP, IPPROTO_ESP, IPPROTO_SCTP, IPPROTO_UDPLITE):
        return 0
    return 4 if proto == IPPROTO_AH else -1


def gre_payload(skb: SkBuff, off: int) -> int:
    """Where the IPv4 packet in a GRE packet begins; -1: there is none."""
    gre = skb_header_pointer(skb, off, 4)
    if len(gre) < 4 or be.get_u16(gre, 2) != ETH_P_IP:
        return -1
    flags = be.get_u16(gre, 0)
    if flags & GRE_VERSION:
        return -1
    for bit in (GRE_CSUM, GRE_KEY, GRE_SEQ):
        if flags & bit:
            off += 4
    return off + 4


def skb_flow_dissect_flow_keys(skb: SkBuff, flags: int) -> FlowKeys:
    """The keys of the packet whose IPv4 header is at `network_header`; with FLOW_DISSECTOR_F_STOP_AT_ENCAP of the outermost one."""
    keys = FlowKeys()
    off = skb.network_header
    for _ in range(FLOW_DISSECTOR_MAX_HDRS):
        iph = skb_header_pointer(skb, off, ip.IP_HLEN)
        if len(iph) < ip.IP_HLEN or not 0x45 <= iph[0] <= 0x4F:
            break
        keys.src = be.get_u32(iph, ip.IP_SADDR)
        keys.dst = be.get_u32(iph, ip.IP_DADDR)
        proto = iph[ip.IP_PROTOCOL]
        keys.ip_proto = proto
        keys.sport = keys.dport = 0
        off += (iph[0] & 15) * 4
        keys.is_fragment = be.get_u16(iph, ip.IP_FRAG_OFF) & (ip.IP_MF | ip.IP_OFFSET) != 0
        if keys.is_fragment:
            break  # the first one has ports, the others not: none counts
        if proto == IPPROTO_IPIP or proto == IPPROTO_GRE:
            inner = off if proto == IPPROTO_IPIP else gre_payload(skb, off)
            if inner < 0:
                break
            keys.encapsulation = True
            if flags & FLOW_DISSECTOR_F_STOP_AT_ENCAP:
                break
            off = inner
            continue
        at = proto_ports_offset(proto)
        if at >= 0:
            ports = skb_header_pointer(skb, off + at, 4)
            if len(ports) == 4:
                keys.sport = be.get_u16(ports, 0)
                keys.dport = be.get_u16(ports, 2)
        break
    return keys
