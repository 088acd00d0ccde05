"""net/ipv4/ip_input.c: a received IPv4 packet, from the device layer to its transport protocol.

Order: IpPacketType.func -> ip_rcv (with ip_rcv_core's checks) -> ip_rcv_finish (early demux, the route, options) -> dst.input,
that is ip_local_deliver or ip_forward -> ip_protocol_deliver -> raw socks, then inet_protos[protocol].handler.

Every packet that ends here is counted in the namespace's MIB and freed with its drop reason. The skb keeps its offsets:
`network_header` at the IP header, `transport_header` behind it and its options; handlers get it with `data` at the latter.

Left out: netfilter hooks, listified receive (GRO lists), xfrm, multicast routing (ip_mr_input).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from afinet.net.core import skbuff
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_IP_CSUM,
    SKB_DROP_REASON_IP_INHDR,
    SKB_DROP_REASON_IP_NOPROTO,
    SKB_DROP_REASON_IP_RPFILTER,
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_OTHERHOST,
    SKB_DROP_REASON_PKT_TOO_SMALL,
    SKB_DROP_REASON_UNICAST_IN_L2_MULTICAST,
)
from afinet.net.core.netdevice import NET_RX_DROP, PacketType
from afinet.net.core.skbuff import kfree_skb_reason, pskb_may_pull, pskb_trim
from afinet.net.ipv4 import devinet, icmp, ip_fragment, ip_options, raw, route
from afinet.net.ipv4.protocol import net_of
from afinet.uapi.icmp import ICMP_DEST_UNREACH, ICMP_PROT_UNREACH
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.if_packet import PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST
from afinet.uapi.rtnetlink import RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST
from afinet.uapi.snmp import (
    IPSTATS_MIB_CSUMERRORS,
    IPSTATS_MIB_INBCASTOCTETS,
    IPSTATS_MIB_INBCASTPKTS,
    IPSTATS_MIB_INDELIVERS,
    IPSTATS_MIB_INHDRERRORS,
    IPSTATS_MIB_INMCASTOCTETS,
    IPSTATS_MIB_INMCASTPKTS,
    IPSTATS_MIB_INNOECTPKTS,
    IPSTATS_MIB_INOCTETS,
    IPSTATS_MIB_INPKTS,
    IPSTATS_MIB_INTRUNCATEDPKTS,
    IPSTATS_MIB_INUNKNOWNPROTOS,
    LINUX_MIB_IPRPFILTER,
)
from afinet.wire.checksum import csum_partial
from afinet.wire.ip import IP_PROTOCOL, parse

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.ipv4.inet_sock import InetSock
    from afinet.net.ipv4.raw import RawSock
    from afinet.net.ipv4.rtable import Rtable


class IpPacketType(PacketType):
    """ip_packet_type, registered by ip_output.ip_init."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(ETH_P_IP)

    def func(self, skb: SkBuff, dev: NetDevice) -> int:
        return ip_rcv(skb, dev)


def ip_rcv(skb: SkBuff, dev: NetDevice) -> int:
    """Take a packet whose `data` is at its IP header: check the header, trim link padding, find the route, pass it on."""
    net = dev.nd_net
    assert net is not None
    stats = net.ip_statistics
    # -- ip_rcv_core
    # Somebody else's, seen because the device is promiscuous: not counted as received.
    if skb.pkt_type == PACKET_OTHERHOST:
        dev.stats.rx_dropped += 1
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_OTHERHOST)
    stats[IPSTATS_MIB_INPKTS] += 1
    stats[IPSTATS_MIB_INOCTETS] += skb.len
    if skb.len - skb.data_len < 20 and not pskb_may_pull(skb, 20):
        return ip_rcv_inhdr_error(net, skb)
    off = skb.data
    head = skb.head
    version_ihl, tos, tot_len, _id, frag_off, _ttl, protocol, _check, saddr, daddr = parse(head, off)
    # RFC 1122 3.2.1.2: silently discard what has a wrong checksum; 3.2.1.1: what is not version 4.
    if not 0x45 <= version_ihl <= 0x4F:
        return ip_rcv_inhdr_error(net, skb)
    segs = skb.gso_segs
    stats[IPSTATS_MIB_INNOECTPKTS + (tos & 3)] += segs if segs > 1 else 1
    hlen = (version_ihl & 15) << 2
    if hlen > 20:
        if not pskb_may_pull(skb, hlen):
            return ip_rcv_inhdr_error(net, skb)
        head = skb.head
    if csum_partial(head, off, off + hlen, 0) != 0xFFFF:
        stats[IPSTATS_MIB_CSUMERRORS] += 1
        stats[IPSTATS_MIB_INHDRERRORS] += 1
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_IP_CSUM)
    if skb.len != tot_len:
        if skb.len < tot_len:
            stats[IPSTATS_MIB_INTRUNCATEDPKTS] += 1
            return kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        if tot_len < hlen:
            return ip_rcv_inhdr_error(net, skb)
        # The link padded the packet to its minimum.
        pskb_trim(skb, tot_len)
    elif tot_len < hlen:
        return ip_rcv_inhdr_error(net, skb)
    skb.network_header = off
    skb.transport_header = off + hlen
    skb.opt = None
    skb.ip_flags = 0
    skb.frag_max_size = 0
    if skb.destructor:
        skbuff.skb_orphan(skb)
    # -- ip_rcv_finish
    kernel = net.kernel
    if (
        skb.dst is None
        and frag_off & 0x3FFF == 0  # not a fragment: it has ports
        and net.ipv4.sysctl_ip_early_demux
    ):
        prot = kernel.inet_protos[protocol]
        if prot is not None:
            prot.early_demux(net, skb)
    # Loopback and early demux leave a route on the packet.
    if skb.dst is None:
        reason = route.ip_route_input_noref(skb, daddr, saddr, tos, dev)
        if reason:
            if reason == SKB_DROP_REASON_IP_RPFILTER:
                net.net_statistics[LINUX_MIB_IPRPFILTER] += 1
            return kfree_skb_reason(net, skb, reason)
    if hlen > 20 and not ip_rcv_options(net, skb, dev):
        return NET_RX_DROP
    rt = cast("Rtable", skb.dst)  # a source route may have changed it
    if rt.rt_type > RTN_LOCAL or skb.pkt_type:
        reason = ip_rcv_not_unicast(net, skb, dev, rt.rt_type)
        if reason:
            return kfree_skb_reason(net, skb, reason)
    return rt.input(skb)


def ip_rcv_inhdr_error(net: Net, skb: SkBuff) -> int:
    net.ip_statistics[IPSTATS_MIB_INHDRERRORS] += 1
    return kfree_skb_reason(net, skb, SKB_DROP_REASON_IP_INHDR)


def ip_rcv_not_unicast(net: Net, skb: SkBuff, dev: NetDevice, rt_type: int) -> int:
    """Count multicast and broadcast. A drop reason for a unicast packet that came in a link-layer broadcast (RFC 1122
    3.3.6 wants those discarded; Linux leaves it to drop_unicast_in_l2_multicast), else 0."""
    stats = net.ip_statistics
    if rt_type == RTN_MULTICAST:
        stats[IPSTATS_MIB_INMCASTPKTS] += 1
        stats[IPSTATS_MIB_INMCASTOCTETS] += skb.len
    elif rt_type == RTN_BROADCAST:
        stats[IPSTATS_MIB_INBCASTPKTS] += 1
        stats[IPSTATS_MIB_INBCASTOCTETS] += skb.len
    elif skb.pkt_type in (PACKET_BROADCAST, PACKET_MULTICAST):
        in_dev = dev.ip_ptr
        if in_dev is not None and (
            in_dev.cnf.drop_unicast_in_l2_multicast or in_dev.cnf_all.drop_unicast_in_l2_multicast
        ):
            return SKB_DROP_REASON_UNICAST_IN_L2_MULTICAST
    return 0


def ip_rcv_options(net: Net, skb: SkBuff, dev: NetDevice) -> bool:
    """Parse the options, follow a source route where the device allows it. False: the packet was dropped."""
    opt = ip_options.ip_options_compile(net, skb)
    if opt is None:
        net.ip_statistics[IPSTATS_MIB_INHDRERRORS] += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_IP_INHDR)
        return False
    if opt.srr:
        in_dev = dev.ip_ptr
        if in_dev is not None and not devinet.IN_DEV_SOURCE_ROUTE(in_dev):
            kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
            return False
        reason = ip_options.ip_options_rcv_srr(net, skb, dev)
        if reason:
            kfree_skb_reason(net, skb, reason)
            return False
    return True


def ip_call_ra_chain(skb: SkBuff) -> bool:
    """A packet on its way through that has the router alert option: to raw socks that want such, whole. Whether one took it."""
    net = net_of(skb)
    protocol = skb.head[skb.network_header + IP_PROTOCOL]
    ifindex = 0 if skb.dev is None else skb.dev.ifindex
    last: InetSock | None = None
    for sk in net.ipv4.ra_chain:
        if sk.inet_num != protocol or (sk.sk_bound_dev_if and sk.sk_bound_dev_if != ifindex):
            continue
        head = skb.head
        nh = skb.network_header
        if head[nh + 6] & 0x3F or head[nh + 7]:
            whole = ip_fragment.ip_defrag(net, skb, ip_fragment.IP_DEFRAG_CALL_RA_CHAIN)
            if whole is None:
                return True
            skb = whole
        if last is not None:
            raw.raw_rcv(cast("RawSock", last), skbuff.skb_clone(skb))
        last = sk
    if last is None:
        return False
    raw.raw_rcv(cast("RawSock", last), skb)
    return True


def ip_local_deliver(skb: SkBuff) -> int:
    """dst->input of a packet for this host: reassemble, then deliver."""
    head = skb.head
    nh = skb.network_header
    net = net_of(skb)
    if head[nh + 6] & 0x3F or head[nh + 7]:
        whole = ip_fragment.ip_defrag(net, skb, ip_fragment.IP_DEFRAG_LOCAL_DELIVER)
        if whole is None:
            return 0
        skb = whole
        head = skb.head
        nh = skb.network_header
    # ip_local_deliver_finish
    n = skb.transport_header - skb.data
    skb.data += n
    skb.len -= n
    return ip_protocol_deliver(net, skb, head[nh + 9])


def ip_protocol_deliver(net: Net, skb: SkBuff, protocol: int) -> int:
    """ip_protocol_deliver_rcu: copies to the raw socks of this protocol, the packet to its handler."""
    protos = net.kernel.inet_protos
    while True:
        delivered = raw.raw_local_deliver(skb, protocol)
        prot = protos[protocol]
        if prot is None:
            break
        ret = prot.handler(skb)
        if ret >= 0:
            net.ip_statistics[IPSTATS_MIB_INDELIVERS] += 1
            return 0
        protocol = -ret & 0xFF
    if delivered:
        net.ip_statistics[IPSTATS_MIB_INDELIVERS] += 1
        skbuff.consume_skb(skb)
        return 0
    net.ip_statistics[IPSTATS_MIB_INUNKNOWNPROTOS] += 1
    icmp.icmp_send(skb, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, 0)
    return kfree_skb_reason(net, skb, SKB_DROP_REASON_IP_NOPROTO)
