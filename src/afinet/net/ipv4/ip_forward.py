"""net/ipv4/ip_forward.c: a packet for somebody else (RFC 1812, 5).

dst->input of an input route that leads on: ip_forward checks TTL, source route and length, tells the sender what is wrong, then
ip_forward_finish writes the options and hands the packet to dst->output.

Left out: netfilter hooks, xfrm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_IP_INHDR,
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_PKT_TOO_BIG,
)
from afinet.net.core.gso import skb_gso_network_seglen
from afinet.net.core.netdevice import NET_RX_SUCCESS
from afinet.net.core.skbuff import kfree_skb_reason
from afinet.net.ipv4 import icmp, ip_input, ip_options, ip_sockglue, route, rtable
from afinet.net.ipv4.inet_sock import IPSKB_DOREDIRECT, IPSKB_FORWARDED
from afinet.net.ipv4.protocol import net_of
from afinet.uapi.icmp import ICMP_DEST_UNREACH, ICMP_EXC_TTL, ICMP_FRAG_NEEDED, ICMP_SR_FAILED, ICMP_TIME_EXCEEDED
from afinet.uapi.if_packet import PACKET_HOST
from afinet.uapi.snmp import IPSTATS_MIB_FRAGFAILS, IPSTATS_MIB_INHDRERRORS, IPSTATS_MIB_OUTFORWDATAGRAMS
from afinet.wire import ip

if TYPE_CHECKING:
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.ipv4.rtable import Rtable


def ip_exceeds_mtu(skb: SkBuff, mtu: int) -> bool:
    """Whether the packet is too long for the way on and may not be fragmented."""
    if skb.len <= mtu or not skb.head[skb.network_header + ip.IP_FRAG_OFF] & 0x40:
        return False
    # The original's fragments were longer, and DF was set on them.
    if skb.frag_max_size > mtu:
        return True
    if skb.ignore_df:
        return False
    return not (skb.gso_size and skb_gso_network_seglen(skb) <= mtu)


def ip_forward(skb: SkBuff) -> int:
    """dst->input: send it on. NET_RX_DROP (1), or what dst->output returns."""
    net = net_of(skb)
    stats = net.ip_statistics
    # A link-layer broadcast must not be multiplied (RFC 1812, 5.3.4).
    if skb.pkt_type != PACKET_HOST or skb.sk is not None:
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    opt = skb.opt
    if opt is not None and opt.router_alert and ip_input.ip_call_ra_chain(skb):
        return NET_RX_SUCCESS
    nh = skb.network_header
    head = skb.head
    # TTL goes down first of all, so a packet with 1 ends here.
    if head[nh + ip.IP_TTL] <= 1:
        stats[IPSTATS_MIB_INHDRERRORS] += 1
        icmp.icmp_send(skb, ICMP_TIME_EXCEEDED, ICMP_EXC_TTL, 0)
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_IP_INHDR)
    rt = cast("Rtable", skb.dst)
    if opt is not None and opt.is_strictroute and rt.rt_uses_gateway:
        icmp.icmp_send(skb, ICMP_DEST_UNREACH, ICMP_SR_FAILED, 0)
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    stats[IPSTATS_MIB_OUTFORWDATAGRAMS] += 1
    skb.ip_flags |= IPSKB_FORWARDED
    mtu = rtable.ip_dst_mtu_maybe_forward(rt, True)
    if ip_exceeds_mtu(skb, mtu):
        stats[IPSTATS_MIB_FRAGFAILS] += 1
        icmp.icmp_send(skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu)
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_BIG)
    hlen = (head[nh] & 15) << 2
    skb.head = head[:nh] + ip.ip_decrease_ttl(head, nh) + head[nh + hlen :]
    if skb.ip_flags & IPSKB_DOREDIRECT and not (opt is not None and opt.srr):
        route.ip_rt_send_redirect(skb)
    if net.ipv4.sysctl_ip_fwd_update_priority:
        skb.priority = ip_sockglue.rt_tos2priority(head[nh + ip.IP_TOS])
    # ip_forward_finish
    if opt is not None and opt.optlen:
        ip_options.ip_forward_options(net, skb)
    return rt.output(net, None, skb)
