"""net/ipv4/ip_output.c: IPv4 packets on their way out.

Connected socks: ip_queue_xmit -> ip_local_out -> dst.output, that is ip_output or ip_mc_output -> ip_finish_output -> ip_fragment
when it is longer than the MTU -> ip_finish_output2 -> neigh_output.
Datagrams: ip_make_skb, or ip_append_data (several times while corked) and ip_push_pending_frames -> ip_send_skb -> ip_local_out.
Without a sock's help: ip_build_and_send_pkt (SYN-ACK), ip_send_unicast_reply (RST, and ACKs of TIME_WAIT).

The IP header is made in one step, checksum included, by wire.ip.emit; ip_local_out finds it complete, where Linux fills in the
length and the checksum. A datagram that exceeds the MTU is gathered as one skb and cut by ip_fragment; Linux builds it as a list
of fragment-sized skbs, which come out as the same packets.

Left out: netfilter hooks, xfrm, lightweight tunnels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.kernel.random import siphash
from afinet.net.core import dev as dev_core
from afinet.net.core import gso, neighbour, skbuff, sock, timestamping
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_IP_OUTNOROUTES,
    SKB_DROP_REASON_NEIGH_CREATEFAIL,
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_PKT_TOO_BIG,
    SKB_DROP_REASON_SKB_CSUM,
    SKB_DROP_REASON_SKB_GSO_SEG,
)
from afinet.net.core.dst import dst_metric_raw
from afinet.net.core.flow import FLOWI_FLAG_ANYSRC, Flowi4
from afinet.net.core.netdevice import NET_XMIT_CN
from afinet.net.core.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    DESTRUCTOR_WFREE,
    SIZEOF_SK_BUFF,
    SIZEOF_SKB_SHARED_INFO,
    SKB_OVERHEAD,
    SkBuff,
    kfree_skb_reason,
    skb_clone,
    skb_push,
    skb_truesize,
)
from afinet.net.core.sock import SOCK_LOCALROUTE
from afinet.net.ipv4 import icmp, ip_input, ip_options, ip_sockglue, route, rtable
from afinet.net.ipv4.inet_sock import (
    INET_FLAGS_HDRINCL,
    INET_FLAGS_MC_LOOP,
    INET_FLAGS_TRANSPARENT,
    IPSKB_FORWARDED,
    IPSKB_FRAG_COMPLETE,
    IPSKB_FRAG_PMTU,
    InetSock,
)
from afinet.uapi.errno import EFAULT, EHOSTUNREACH, EINVAL, EIOCBQUEUED, EMSGSIZE, ENETUNREACH, ENOBUFS, ENOMEM
from afinet.uapi.icmp import ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED
from afinet.uapi.if_ import IFF_LOOPBACK, IFF_POINTOPOINT
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.if_packet import PACKET_LOOPBACK
from afinet.uapi.in_ import (
    INADDR_ANY,
    IP_PMTUDISC_DO,
    IP_PMTUDISC_INTERFACE,
    IP_PMTUDISC_OMIT,
    IP_PMTUDISC_PROBE,
    IP_PMTUDISC_WANT,
    IPPROTO_ICMP,
    IPPROTO_TCP,
)
from afinet.uapi.in_route import RTCF_BROADCAST, RTCF_LOCAL, RTCF_MULTICAST
from afinet.uapi.rtnetlink import (
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTAX_HOPLIMIT,
    RTN_BROADCAST,
    RTN_MULTICAST,
)
from afinet.uapi.snmp import (
    IPSTATS_MIB_FRAGCREATES,
    IPSTATS_MIB_FRAGFAILS,
    IPSTATS_MIB_FRAGOKS,
    IPSTATS_MIB_OUTBCASTOCTETS,
    IPSTATS_MIB_OUTBCASTPKTS,
    IPSTATS_MIB_OUTDISCARDS,
    IPSTATS_MIB_OUTMCASTOCTETS,
    IPSTATS_MIB_OUTMCASTPKTS,
    IPSTATS_MIB_OUTNOROUTES,
    IPSTATS_MIB_OUTOCTETS,
    IPSTATS_MIB_OUTPKTS,
    IPSTATS_MIB_OUTREQUESTS,
)
from afinet.uapi.socket import MSG_DONTWAIT, MSG_PROBE
from afinet.wire import be, ip
from afinet.wire.checksum import ip_fast_csum
from afinet.wire.ip import IP_DF, IP_MF, IP_OFFSET, emit

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.dst import DstEntry
    from afinet.net.core.neighbour import Neighbour
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.sock import Sock
    from afinet.net.ipv4.ip_options import IpOptions
    from afinet.net.ipv4.rtable import Rtable
    from afinet.net.socket import MsgHdr

IP_MAX_MTU: Final = 0xFFFF
IPV4_MIN_MTU: Final = 68
# On x86-64, as SIOCOUTQ shows.
SKB_SMALL_HEAD_CACHE_SIZE: Final = 576
SKB_MAX_ALLOC_SIZE: Final = 16384
DATAGRAM_HEADROOM: Final = 31  # hh_len + 15

INET_DSCP_MASK: Final = 0xFC

IP_REPLY_ARG_NOSRCCHECK: Final = 1


# -- identification ----------------------------------------------------------------------------------------------------------

IP_IDENTS_BUCKETS: Final = 2048  # the least that Linux takes; it grows with the machine's memory


class IpIdents:
    """ip_idents and ip_tstamps of route.c: the generators of IP identifications for packets of no connected sock, chosen by
    a keyed hash of addresses and protocol. Buckets start at random numbers, when first used."""

    __slots__ = ("ids", "stamps")

    def __init__(self) -> None:
        self.ids: dict[int, int] = {}
        self.stamps: dict[int, int] = {}  # in ticks


def ip_idents_reserve(kernel: Kernel, hash: int, segs: int) -> int:
    """`segs` consecutive identifications, the first of which is returned (not yet cut to 16 bits). A bucket that rested
    skips a random number of them, at most one a tick, so that nobody can count packets through it."""
    idents = kernel.ip_idents
    assert idents is not None
    bucket = hash % IP_IDENTS_BUCKETS
    now = kernel.now // kernel.tick_nsec
    stream = kernel.random("ipid")
    id = idents.ids.get(bucket, -1)
    if id < 0:
        id = stream.get_random_u32()
    else:
        rested = now - idents.stamps[bucket]
        if rested > 0:
            id += stream.get_random_u32_below(min(rested, 0xFFFFFFFF))
    idents.stamps[bucket] = now
    idents.ids[bucket] = (id + segs) & 0xFFFFFFFF
    return id


def __ip_select_ident(net: Net, saddr: int, daddr: int, protocol: int, segs: int) -> int:
    key = be.put_u32s([daddr, saddr, protocol, net.net_cookie & 0xFFFFFFFF])
    return ip_idents_reserve(net.kernel, siphash(net.kernel.siphash_key, key), segs) & 0xFFFF


def ip_select_ident_segs(
    net: Net, sk: InetSock | None, frag_off: int, ignore_df: bool, saddr: int, daddr: int, protocol: int, segs: int
) -> int:
    """The identification: a connected sock counts its own; a packet that nobody may fragment needs none (RFC 6864)."""
    if sk is not None and sk.inet_daddr:
        id: int = sk.inet_id
        sk.inet_id = (id + segs) & 0xFFFF
        if sk.sk_protocol == IPPROTO_TCP:
            return id
        return sk.inet_id  # atomic_add_return: one later than TCP's
    if frag_off & IP_DF and not ignore_df:
        return 0
    return __ip_select_ident(net, saddr, daddr, protocol, segs)


def ip_select_ident(
    net: Net, sk: InetSock | None, saddr: int, daddr: int, protocol: int, frag_off: int = 0, ignore_df: bool = False
) -> int:
    return ip_select_ident_segs(net, sk, frag_off, ignore_df, saddr, daddr, protocol, 1)


# -- what a sock and a route say ---------------------------------------------------------------------------------------------


def ip_dont_fragment(sk: InetSock, dst: DstEntry) -> bool:
    """Whether packets of this sock carry DF."""
    pmtudisc = sk.pmtudisc
    return pmtudisc == IP_PMTUDISC_DO or (pmtudisc == IP_PMTUDISC_WANT and not rtable.ip_mtu_locked(cast("Rtable", dst)))


def ip_sk_accept_pmtu(sk: InetSock) -> bool:
    """Whether ICMP may change what the sock takes for the path MTU."""
    return sk.pmtudisc != IP_PMTUDISC_INTERFACE and sk.pmtudisc != IP_PMTUDISC_OMIT


def ip_sk_use_pmtu(sk: InetSock) -> bool:
    return sk.pmtudisc < IP_PMTUDISC_PROBE


def ip_sk_ignore_df(sk: InetSock) -> bool:
    return sk.pmtudisc < IP_PMTUDISC_DO or sk.pmtudisc == IP_PMTUDISC_OMIT


def ip4_dst_hoplimit(dst: DstEntry) -> int:
    return dst_metric_raw(dst, RTAX_HOPLIMIT) or dst.net.ipv4.sysctl_ip_default_ttl


def ip_select_ttl(sk: InetSock, dst: DstEntry) -> int:
    ttl: int = sk.uc_ttl
    return ttl if ttl >= 0 else ip4_dst_hoplimit(dst)


def inet_sk_flowi_flags(sk: InetSock) -> int:
    """A sock that may use any source address asks the lookup not to check it."""
    return FLOWI_FLAG_ANYSRC if sk.inet_flags & (1 << INET_FLAGS_HDRINCL | 1 << INET_FLAGS_TRANSPARENT) else 0


# -- out of the host -----------------------------------------------------------------------------------------------------------


def ip_local_out(net: Net, sk: Sock | None, skb: SkBuff) -> int:
    """Send a packet that this host made: `data` and `network_header` at its complete IP header, `dst` set. 0, NET_XMIT_CN
    and the like from a qdisc, or -errno; the skb is gone in every case."""
    net.ip_statistics[IPSTATS_MIB_OUTREQUESTS] += 1
    skb.protocol = ETH_P_IP
    dst = skb.dst
    assert dst is not None
    return dst.output(net, sk, skb)


def ip_output(net: Net, sk: Sock | None, skb: SkBuff) -> int:
    """dst->output of unicast."""
    dst = skb.dst
    assert dst is not None
    dev = dst.dev
    skb.dev = dev
    skb.protocol = ETH_P_IP
    # What fits both needs none of ip_finish_output's distinctions.
    n = skb.len
    if n <= dev.mtu and n <= dst.mtu() and not skb.frag_max_size:
        return ip_finish_output2(net, sk, skb)
    return ip_finish_output(net, sk, skb)


def ip_mc_output(net: Net, sk: Sock | None, skb: SkBuff) -> int:
    """dst->output of multicast and broadcast: a copy for this host's own listeners, the packet for the link."""
    rt = cast("Rtable", skb.dst)
    skb.dev = rt.dev
    skb.protocol = ETH_P_IP
    if rt.rt_flags & RTCF_MULTICAST:
        if rt.rt_flags & RTCF_LOCAL and sk_mc_loop(sk):
            dev_loopback_xmit(skb_clone(skb))
        # Multicasts with TTL 0 must not go beyond the host.
        if skb.head[skb.network_header + 8] == 0:
            skbuff.consume_skb(skb)
            return 0
    if rt.rt_flags & RTCF_BROADCAST:
        dev_loopback_xmit(skb_clone(skb))
    return ip_finish_output(net, sk, skb)


def sk_mc_loop(sk: Sock | None) -> bool:
    """Whether the sender wants its multicasts delivered on this host (IP_MULTICAST_LOOP)."""
    if isinstance(sk, InetSock):
        return sk.inet_flags >> INET_FLAGS_MC_LOOP & 1 == 1
    return True


def dev_loopback_xmit(skb: SkBuff) -> None:
    """Give a copy of an outgoing packet back to the device it leaves by, as received there, with its route: an output route
    that has local listeners has ip_local_deliver for its input."""
    skb.pkt_type = PACKET_LOOPBACK
    if skb.ip_summed == CHECKSUM_NONE:
        skb.ip_summed = CHECKSUM_UNNECESSARY
    skb.mac_header = skb.data
    dev_core.netif_rx(skb)


def ip_finish_output(net: Net, sk: Sock | None, skb: SkBuff) -> int:
    """Cut what is longer than the path takes, and on to the link."""
    dst = skb.dst
    assert dst is not None
    mtu = ip_skb_dst_mtu(sk, skb, dst)
    if skb.len > mtu:
        if skb.gso_size == 0:
            return ip_fragment(net, sk, skb, mtu)
        # The device, or dev_queue_xmit for it, cuts a super-packet; what counts here is one segment's length. Forwarded ones
        # that do not fit were refused by ip_forward, so too long a segment is our own, sent before the route's MTU fell.
        if gso.skb_gso_network_seglen(skb) > mtu:
            return ip_finish_output_gso(net, sk, skb, mtu)
    elif skb.frag_max_size:
        return ip_fragment(net, sk, skb, mtu)
    return ip_finish_output2(net, sk, skb)


def ip_skb_dst_mtu(sk: Sock | None, skb: SkBuff, dst: DstEntry) -> int:
    """The length over which this packet is fragmented. A prober (IP_PMTUDISC_PROBE and above) knows only the device's."""
    if isinstance(sk, InetSock) and sk.pmtudisc >= IP_PMTUDISC_PROBE:
        mtu = dst.dev.mtu
        return mtu if mtu < IP_MAX_MTU else IP_MAX_MTU
    if skb.ip_flags & IPSKB_FORWARDED:
        return rtable.ip_dst_mtu_maybe_forward(cast("Rtable", dst), True)
    return dst.mtu()


def ip_finish_output_gso(net: Net, sk: Sock | None, skb: SkBuff, mtu: int) -> int:
    """A super-packet whose segments exceed the MTU: cut it here and fragment each."""
    skb.mac_header = skb.data
    err, seg = gso.skb_gso_segment(net.kernel, skb)
    if err:
        kfree_skb_reason(net, skb, SKB_DROP_REASON_SKB_GSO_SEG)
        return -ENOMEM
    skbuff.consume_skb(skb)
    ret = 0
    while seg is not None:
        following = seg.next
        seg.next = None
        err = ip_fragment(net, sk, seg, mtu)
        if err and ret == 0:
            ret = err
        seg = following
    return ret


def ip_finish_output2(net: Net, sk: Sock | None, skb: SkBuff) -> int:
    """To the neighbour: the route's gateway, or the destination itself on the link."""
    rt = cast("Rtable", skb.dst)
    dev = rt.dev
    stats = net.ip_statistics
    rt_type = rt.rt_type
    if rt_type >= RTN_BROADCAST:
        if rt_type == RTN_MULTICAST:
            stats[IPSTATS_MIB_OUTMCASTPKTS] += 1
            stats[IPSTATS_MIB_OUTMCASTOCTETS] += skb.len
        elif rt_type == RTN_BROADCAST:
            stats[IPSTATS_MIB_OUTBCASTPKTS] += 1
            stats[IPSTATS_MIB_OUTBCASTOCTETS] += skb.len
    # Counted after fragmentation.
    stats[IPSTATS_MIB_OUTPKTS] += 1
    stats[IPSTATS_MIB_OUTOCTETS] += skb.len
    nexthop = rt.rt_gw4
    if nexthop == 0:
        if dev.flags & (IFF_LOOPBACK | IFF_POINTOPOINT):
            nexthop = INADDR_ANY  # one neighbour for whatever is at the other end
        else:
            nexthop = be.get_u32(skb.head, skb.network_header + 16)
    # One route serves all destinations of its link, so what it remembers is looked at before it is believed.
    neigh = rt.neigh_cache
    if neigh is None or neigh.primary_key != nexthop or neigh.dead:
        neigh = ip_neigh_gw4(net, dev, nexthop)
        if neigh is None:
            kfree_skb_reason(net, skb, SKB_DROP_REASON_NEIGH_CREATEFAIL)
            return -EINVAL
        rt.neigh_cache = neigh
    if sk is not None and sk.sk_dst_pending_confirm:
        # sock_confirm_neigh: what the transport heard from the other end spares us a question
        sk.sk_dst_pending_confirm = False
        neighbour.neigh_confirm(neigh)
    return neighbour.neigh_output(neigh, skb)


def ip_neigh_gw4(net: Net, dev: NetDevice, nexthop: int) -> Neighbour | None:
    """The neighbour `nexthop` on `dev`, made if there is none yet; None when the table is full."""
    tbl = net.arp_tbl
    assert tbl is not None
    neigh = neighbour.neigh_lookup(tbl, nexthop, dev)
    if neigh is None:
        neigh = neighbour.neigh_create(tbl, nexthop, dev)
    return neigh


# -- fragmentation -------------------------------------------------------------------------------------------------------------


def ip_fragment(net: Net, sk: Sock | None, skb: SkBuff, mtu: int) -> int:
    """Fragment, unless DF forbids it: then an ICMP error tells whoever sent it, this host's own socks too."""
    frag_off = be.get_u16(skb.head, skb.network_header + 6)
    if frag_off & IP_DF and (not skb.ignore_df or skb.frag_max_size > mtu):
        net.ip_statistics[IPSTATS_MIB_FRAGFAILS] += 1
        icmp.icmp_send(skb, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu)
        kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_BIG)
        return -EMSGSIZE
    return ip_do_fragment(net, sk, skb, mtu)


def ip_do_fragment(net: Net, sk: Sock | None, skb: SkBuff, mtu: int) -> int:
    """Send the packet as fragments of at most `mtu` bytes (RFC 791, 3.2): payload in multiples of eight, options without the
    copy bit only in the first."""
    stats = net.ip_statistics
    if skb.ip_summed == CHECKSUM_PARTIAL:
        err = dev_core.skb_checksum_help(skb)
        if err:
            stats[IPSTATS_MIB_FRAGFAILS] += 1
            kfree_skb_reason(net, skb, SKB_DROP_REASON_SKB_CSUM)
            return err
    # What came in fragments that must not be fragmented further goes out no longer than it came (RFC 1191).
    if skb.frag_max_size and skb.frag_max_size < mtu:
        mtu = skb.frag_max_size
    version_ihl, tos, _tot_len, id, frag_off, ttl, protocol, _check, saddr, daddr = ip.parse(skb.head, skb.network_header)
    hlen = (version_ihl & 15) * 4
    options = skb.head[skb.network_header + 20 : skb.network_header + hlen]
    room = (mtu - hlen) & ~7
    if room < 8:
        stats[IPSTATS_MIB_FRAGFAILS] += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_BIG)
        return -EMSGSIZE
    df = IP_DF if skb.ip_flags & IPSKB_FRAG_PMTU else 0
    base = frag_off & IP_OFFSET
    more = frag_off & IP_MF
    total = skb.len - hlen
    ptr = 0
    first = base == 0
    owner = skb.sk
    while ptr < total:
        size = total - ptr
        if size > mtu - hlen:
            size = room
        last = ptr + size >= total
        off = base + (ptr >> 3) | df | (more if last else IP_MF)
        # The first byte is the packet's own: a program's header (IP_HDRINCL) may hold another version.
        header = be.pack_ip(version_ihl, tos, hlen + size, id, off, ttl, protocol, 0, saddr, daddr) + options
        header = header[:10] + be.put_u16(ip_fast_csum(header, 0, hlen >> 2)) + header[12:]
        frag = SkBuff(header, skbuff.skb_pieces(skb, hlen + ptr, size), size, skb_truesize(hlen + size))
        frag.network_header = 0
        frag.transport_header = hlen
        frag.ip_flags = skb.ip_flags | IPSKB_FRAG_COMPLETE
        frag.pkt_type = skb.pkt_type
        frag.priority = skb.priority
        frag.protocol = skb.protocol
        frag.skb_iif = skb.skb_iif
        frag.dst = skb.dst
        frag.dev = skb.dev
        frag.mark = skb.mark
        frag.hash = skb.hash
        if owner is not None and skb.destructor:
            skbuff.skb_set_owner_w(frag, owner)
        if first:
            frag.tx_tstamp = skb.tx_tstamp
            options = ip_options.ip_options_fragment(options)
            first = False
        stats[IPSTATS_MIB_FRAGCREATES] += 1
        err = ip_finish_output2(net, sk, frag)
        if err:
            stats[IPSTATS_MIB_FRAGFAILS] += 1
            kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
            return err
        ptr += size
    skbuff.consume_skb(skb)
    stats[IPSTATS_MIB_FRAGOKS] += 1
    return 0


# -- connected socks -------------------------------------------------------------------------------------------------------------


def ip_queue_xmit(sk: InetSock, skb: SkBuff, fl4: Flowi4 | None) -> int:
    """Send a transport segment of a connected sock, `data` at its transport header. The route is the sock's, looked up again
    when it no longer holds; a given `fl4` (SCTP's, or a connection being set up) tells the addresses. 0 or -errno."""
    net = sk.sk_net
    opt = sk.inet_opt
    dst = skb.dst
    if dst is None:
        dst = sk.sk_dst_cache
        # __sk_dst_check
        if dst is None or (dst.obsolete and sock.__sk_dst_check(sk, 0) is None):
            err, rt = ip_queue_route(net, sk, fl4)
            if err or rt is None:
                net.ip_statistics[IPSTATS_MIB_OUTNOROUTES] += 1
                kfree_skb_reason(net, skb, SKB_DROP_REASON_IP_OUTNOROUTES)
                return -EHOSTUNREACH
            dst = rt
        skb.dst = dst
    if opt is not None and opt.is_strictroute and cast("Rtable", dst).rt_uses_gateway:
        net.ip_statistics[IPSTATS_MIB_OUTNOROUTES] += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_IP_OUTNOROUTES)
        return -EHOSTUNREACH
    # RFC 791: allocate and build the IP header.
    if fl4 is None:
        saddr = sk.inet_saddr
        daddr = sk.inet_daddr
        if opt is not None and opt.srr:
            daddr = opt.faddr
    else:
        saddr = fl4.saddr
        daddr = fl4.daddr
    ignore_df = skb.ignore_df
    if sk.pmtudisc == IP_PMTUDISC_WANT and dst.metrics is None and not ignore_df:  # ip_dont_fragment's usual case
        df = 0 if cast("Rtable", dst).rt_mtu_locked else IP_DF
    else:
        df = 0 if ignore_df or not ip_dont_fragment(sk, dst) else IP_DF
    ttl: int = sk.uc_ttl
    if ttl < 0:
        ttl = ip4_dst_hoplimit(dst)
    segs = skb.gso_segs or 1
    protocol = sk.sk_protocol
    if sk.inet_daddr:
        id: int = sk.inet_id
        sk.inet_id = (id + segs) & 0xFFFF
        if protocol != IPPROTO_TCP:
            id = sk.inet_id
    else:
        id = ip_select_ident_segs(net, sk, df, ignore_df, saddr, daddr, protocol, segs)
    if opt is None or opt.optlen == 0:
        header = emit(sk.tos & 0xFF, skb.len + 20, id, df, ttl, protocol, saddr, daddr)
        skb_push(skb, header)
        skb.transport_header = 20
    else:
        options = ip_options.ip_options_build(opt, saddr, sk.inet_daddr, net.kernel)
        header = emit(sk.tos & 0xFF, skb.len + 20 + len(options), id, df, ttl, protocol, saddr, daddr, options)
        skb_push(skb, header)
        skb.transport_header = len(header)
        skb.opt = opt
    skb.network_header = 0
    skb.priority = sk.sk_priority
    skb.mark = sk.sk_mark
    # ip_local_out
    net.ip_statistics[IPSTATS_MIB_OUTREQUESTS] += 1
    return dst.output(net, sk, skb)


def ip_queue_route(net: Net, sk: InetSock, fl4: Flowi4 | None) -> tuple[int, Rtable | None]:
    """Look the sock's route up and keep it."""
    opt = sk.inet_opt
    daddr = sk.inet_daddr
    if opt is not None and opt.srr:
        daddr = opt.faddr
    if fl4 is None:
        fl4 = Flowi4()
    # inet_sk_init_flowi4
    fl4.flowi4_oif = sk.sk_bound_dev_if
    fl4.flowi4_mark = sk.sk_mark
    fl4.flowi4_dscp = sk.tos & INET_DSCP_MASK
    fl4.flowi4_scope = ip_sock_rt_scope(sk)
    fl4.flowi4_proto = sk.sk_protocol
    fl4.flowi4_flags = inet_sk_flowi_flags(sk)
    fl4.flowi4_uid = sk.sk_uid
    fl4.daddr = daddr
    fl4.saddr = sk.inet_saddr
    fl4.fl4_dport = sk.inet_dport
    fl4.fl4_sport = sk.inet_sport
    err, rt = route.ip_route_output_flow(net, fl4, sk)
    if err == 0 and rt is not None:
        sock.sk_setup_caps(sk, rt)
    return err, rt


def ip_sock_rt_scope(sk: InetSock) -> int:
    return RT_SCOPE_LINK if sock.sock_flag(sk, SOCK_LOCALROUTE) else RT_SCOPE_UNIVERSE


# -- without a sock's help -----------------------------------------------------------------------------------------------------


def ip_build_and_send_pkt(
    skb: SkBuff, sk: InetSock, saddr: int, daddr: int, opt: IpOptions | None, tos: int
) -> int:
    """Send a segment whose sock is not connected yet (a SYN-ACK): `data` at its transport header, `dst` set. 0 or -errno."""
    net = sk.sk_net
    dst = skb.dst
    assert dst is not None
    options = b""
    to = daddr
    if opt is not None and opt.optlen:
        options = ip_options.ip_options_build(opt, saddr, daddr, net.kernel)
        skb.opt = opt
        if opt.srr:
            to = opt.faddr
    length = skb.len + 20 + len(options)
    id = 0
    df = IP_DF
    # Nobody fragments a packet this small, whatever the sock asked for, so it needs no identification.
    if skb.len + 20 > IPV4_MIN_MTU and not ip_dont_fragment(sk, dst):
        df = 0
        if sk.sk_protocol == IPPROTO_TCP:
            id = net.kernel.random("ipid").get_random_u32() & 0xFFFF
        else:
            id = __ip_select_ident(net, saddr, to, sk.sk_protocol, 1)
    skb_push(skb, emit(tos, length, id, df, ip_select_ttl(sk, dst), sk.sk_protocol, saddr, to, options))
    skb.network_header = 0
    skb.transport_header = 20 + len(options)
    skb.priority = sk.sk_priority
    if skb.mark == 0:
        skb.mark = sk.sk_mark
    return ip_local_out(net, skb.sk, skb)


def ip4_reply_mark(net: Net, mark: int) -> int:
    """IP4_REPLY_MARK: answers have the mark of what they answer, if fwmark_reflect says so."""
    return mark if net.ipv4.sysctl_fwmark_reflect else 0


def ip_send_unicast_reply(
    net: Net,
    orig_sk: Sock | None,
    skb: SkBuff,
    sopt: IpOptions | None,
    daddr: int,
    saddr: int,
    segment: bytes,
    flags: int = 0,
    bound_dev_if: int = 0,
    tos: int = 0,
    mark: int = 0,
    uid: int = 0,
    txhash: int = 0,
    priority: int = 0,
) -> None:
    """Answer the received packet `skb` with `segment`, a complete transport segment with its checksum in place (a RST, an ACK
    of TIME_WAIT or of a request). `sopt` are the options of the packet, to be echoed; `flags` is IP_REPLY_ARG_NOSRCCHECK for a
    source address that need not be ours. DF is set and the identification 0, as on Linux's control socks.

    An answer that cannot be sent is dropped; there is nobody to tell.
    """
    err, replyopts = ip_options.ip_options_echo(net, skb, sopt)
    if err:
        return
    to = daddr
    if replyopts is not None and replyopts.srr:
        to = replyopts.faddr
    protocol = skb.head[skb.network_header + 9]
    sport = be.get_u16(segment, 0)
    dport = be.get_u16(segment, 2)
    fl4 = Flowi4(
        to,
        saddr,
        bound_dev_if,
        protocol,
        tos & INET_DSCP_MASK,
        RT_SCOPE_UNIVERSE,
        ip4_reply_mark(net, skb.mark) or mark,
        FLOWI_FLAG_ANYSRC if flags & IP_REPLY_ARG_NOSRCCHECK else 0,
        dport,
        sport,
        1,
        uid,
    )
    err, rt = route.ip_route_output_flow(net, fl4, None)
    if err or rt is None:
        return
    options = b""
    if replyopts is not None and replyopts.optlen:
        options = ip_options.ip_options_build(replyopts, fl4.saddr, daddr, net.kernel)
    header = emit(
        tos, 20 + len(options) + len(segment), 0, IP_DF, ip4_dst_hoplimit(rt), protocol, fl4.saddr, fl4.daddr, options
    )
    nskb = SkBuff(header + segment, None, 0, skb_truesize(len(header) + len(segment)))
    nskb.transport_header = len(header)
    nskb.dst = rt
    nskb.mark = mark
    nskb.hash = txhash
    nskb.priority = priority
    nskb.opt = replyopts
    ip_local_out(net, None, nskb)


# -- datagrams -------------------------------------------------------------------------------------------------------------------


class IpcmCookie:
    """struct ipcm_cookie: what a sending call's control messages, or the sock, ask of its packet."""

    __slots__ = (
        "addr",
        "gso_size",
        "mark",
        "oif",
        "opt",
        "priority",
        "protocol",
        "tos",
        "transmit_time",
        "ts_opt_id",
        "tsflags",
        "ttl",
    )

    def __init__(self) -> None:
        self.addr: int = 0  # first the source address asked for, then the final destination
        self.oif: int = 0
        self.opt: IpOptions | None = None
        self.protocol: int = 0
        self.ttl: int = 0  # 0: the sock's
        self.tos: int = -1  # -1: the sock's
        self.priority: int = 0
        self.mark: int = 0
        self.transmit_time: int = 0
        self.tsflags: int = 0  # SOF_TIMESTAMPING_*
        self.ts_opt_id: int = -1  # SCM_TS_OPT_ID
        self.gso_size: int = 0


def ipcm_init_sk(ipc: IpcmCookie, sk: InetSock) -> None:
    ipc.tos = -1
    ipc.mark = sk.sk_mark
    ipc.priority = sk.sk_priority
    ipc.oif = sk.sk_bound_dev_if
    ipc.addr = sk.inet_saddr
    ipc.protocol = sk.inet_num
    if sk.sk_cold is not None:
        ipc.tsflags = sk.sk_cold.sk_tsflags


class InetCork:
    """struct inet_cork_full: a datagram being gathered. While one waits in a sock (`sk.cork`), its flow and its cookie's values
    are fixed."""

    __slots__ = (
        "addr",
        "corked",
        "dst",
        "fl4",
        "fragsize",
        "gso_size",
        "length",
        "mark",
        "opt",
        "pieces",
        "priority",
        "tos",
        "transhdrlen",
        "transmit_time",
        "truesize",
        "ts_opt_id",
        "tsflags",
        "ttl",
    )

    def __init__(self, fl4: Flowi4, ipc: IpcmCookie, rt: Rtable, fragsize: int) -> None:
        self.fl4: Flowi4 = fl4
        self.dst: DstEntry = rt
        self.fragsize: int = fragsize
        self.corked: bool = False  # more may come
        self.opt: IpOptions | None = ipc.opt
        self.addr: int = ipc.addr
        self.ttl: int = ipc.ttl
        self.tos: int = ipc.tos
        self.mark: int = ipc.mark
        self.priority: int = ipc.priority
        self.transmit_time: int = ipc.transmit_time
        self.tsflags: int = ipc.tsflags
        self.ts_opt_id: int = ipc.ts_opt_id
        self.gso_size: int = ipc.gso_size
        self.length: int = 0  # transport header included, as soon as something was appended
        self.transhdrlen: int = 0
        self.pieces: list[bytes] = []
        self.truesize: int = 0  # charged to the sock for what waits


class IpHeaderPlan:
    """What ip_send_skb needs to put the IP header before a datagram, when the transport header is there. In `skb.cb`."""

    __slots__ = ("addr", "daddr", "df", "fragsize", "gso_size", "hlen", "opt", "partial", "protocol", "saddr", "sk", "tos", "ttl")

    def __init__(self, sk: InetSock, saddr: int, daddr: int) -> None:
        self.sk: InetSock = sk
        self.saddr: int = saddr
        self.daddr: int = daddr
        self.df: int = 0
        self.hlen: int = 20
        self.fragsize: int = 0
        self.gso_size: int = 0  # the transport may make this a super-packet
        self.partial: bool = True  # the device may fill in the checksum
        self.tos: int = 0
        self.ttl: int = 0
        self.protocol: int = 0
        self.opt: IpOptions | None = None
        self.addr: int = 0  # final destination, for a source route


def ip_setup_cork(sk: InetSock, fl4: Flowi4, ipc: IpcmCookie, rt: Rtable) -> int:
    """Begin a corked datagram on `sk`. 0, or -ENETUNREACH for a device that carries no IPv4."""
    err, cork = ip_new_cork(sk, fl4, ipc, rt)
    if cork is not None:
        cork.corked = True
        sk.cork = cork
    return err


def ip_new_cork(sk: InetSock, fl4: Flowi4, ipc: IpcmCookie, rt: Rtable) -> tuple[int, InetCork | None]:
    fragsize = rt.mtu() if sk.pmtudisc < IP_PMTUDISC_PROBE else rt.dev.mtu
    if fragsize < IPV4_MIN_MTU:
        return -ENETUNREACH, None
    return 0, InetCork(fl4, ipc, rt, fragsize)


def ip_skb_truesize(length: int) -> int:
    """What a datagram of `length` bytes, IP header included, is charged: struct sk_buff and the slab object that holds its bytes,
    with room for a link header, and struct skb_shared_info; above SKB_MAX_ALLOC the bytes are in pages. How many datagrams fit
    into SO_SNDBUF and SO_RCVBUF depends on it."""
    size = length + DATAGRAM_HEADROOM + SIZEOF_SKB_SHARED_INFO
    if size <= SKB_SMALL_HEAD_CACHE_SIZE:
        return SIZEOF_SK_BUFF + SKB_SMALL_HEAD_CACHE_SIZE
    if size >= SKB_MAX_ALLOC_SIZE:
        return SIZEOF_SK_BUFF + SKB_SMALL_HEAD_CACHE_SIZE + length
    bucket = 1024
    while bucket < size:
        bucket <<= 1
    return SIZEOF_SK_BUFF + bucket


def __ip_append_data(sk: InetSock, cork: InetCork, msg: MsgHdr, length: int, transhdrlen: int) -> int:
    """Add `length` bytes of the message to the cork. The first piece waits for room in the send buffer (it may answer
    -EIOCBQUEUED, nothing changed); later ones fail with -ENOBUFS beyond twice that buffer, as Linux's do."""
    opt = cork.opt
    optlen = 0 if opt is None else opt.optlen
    mtu = IP_MAX_MTU if cork.gso_size else cork.fragsize
    fragheaderlen = 20 + optlen
    maxnonfragsize = IP_MAX_MTU if ip_sk_ignore_df(sk) else mtu
    first = cork.length == 0
    if first:
        cork.transhdrlen = transhdrlen
        total = transhdrlen + length
    else:
        total = cork.length + length
    if total > maxnonfragsize - fragheaderlen:
        ip_sockglue.ip_local_error(sk, EMSGSIZE, cork.fl4.daddr, sk.inet_dport, mtu - optlen)
        return -EMSGSIZE
    if first and transhdrlen:
        err = sock.sock_alloc_send_check(sk, msg.iocb, msg.msg_flags & MSG_DONTWAIT != 0)
        if err:
            if err != -EIOCBQUEUED:
                sk.sk_net.ip_statistics[IPSTATS_MIB_OUTDISCARDS] += 1
            return err
    elif first and sk.sk_wmem_alloc > 2 * sk.sk_sndbuf:
        # A raw sock without a transport header never waits; neither shutdown() nor a pending error stops it.
        sk.sk_net.ip_statistics[IPSTATS_MIB_OUTDISCARDS] += 1
        return -ENOBUFS
    maxfragdata = (mtu - fragheaderlen) & ~7
    # What Linux charges: an skb for every fragment.
    if total + fragheaderlen <= mtu:
        frags = 1
        truesize = ip_skb_truesize(total + fragheaderlen)
    else:
        frags = -(-total // maxfragdata)
        truesize = (frags - 1) * ip_skb_truesize(maxfragdata + fragheaderlen) + ip_skb_truesize(
            total - (frags - 1) * maxfragdata + fragheaderlen
        )
    if frags > 1 and sk.sk_wmem_alloc + truesize - cork.truesize > 2 * sk.sk_sndbuf + SKB_OVERHEAD + mtu:
        sk.sk_net.ip_statistics[IPSTATS_MIB_OUTDISCARDS] += 1
        return -ENOBUFS
    if length:
        data = msg.msg_data
        cork.pieces.append(data if len(data) == length else data[:length])
    cork.length = total
    sk.sk_wmem_alloc += truesize - cork.truesize
    cork.truesize = truesize
    return 0


def __ip_make_skb(sk: InetSock, cork: InetCork) -> SkBuff:
    """The datagram in the cork as one skb of its payload; transport header and IP header are still to be pushed."""
    dst = cork.dst
    rt = cast("Rtable", dst)
    size = cork.length - cork.transhdrlen
    # The cork's charge becomes the packet's.
    skb = SkBuff(b"", cork.pieces if cork.pieces else None, size, cork.truesize)
    skb.sk = sk
    skb.destructor = DESTRUCTOR_WFREE
    cork.truesize = 0
    opt = cork.opt
    # Unless the program demands path MTU discovery, what it sends may be fragmented here, even with DF set for routers.
    skb.ignore_df = ip_sk_ignore_df(sk)
    plan = IpHeaderPlan(sk, cork.fl4.saddr, cork.fl4.daddr)
    if opt is not None:
        plan.hlen += opt.optlen
    plan.fragsize = cork.fragsize
    plan.gso_size = cork.gso_size
    # As in Linux, which sums the pieces of a corked datagram as it copies them.
    plan.partial = not cork.corked or cork.gso_size > 0
    total = cork.length + plan.hlen
    pmtudisc = sk.pmtudisc
    if (
        pmtudisc == IP_PMTUDISC_DO
        or pmtudisc == IP_PMTUDISC_PROBE
        or (total <= dst.mtu() and ip_dont_fragment(sk, dst))
    ):
        plan.df = IP_DF
    if cork.ttl:
        plan.ttl = cork.ttl
    elif rt.rt_type == RTN_MULTICAST:
        plan.ttl = sk.mc_ttl
    else:
        plan.ttl = ip_select_ttl(sk, dst)
    plan.tos = cork.tos if cork.tos != -1 else sk.tos
    plan.protocol = sk.sk_protocol
    plan.opt = opt
    plan.addr = cork.addr
    skb.cb = plan
    skb.priority = cork.priority
    skb.mark = cork.mark
    skb.tstamp = cork.transmit_time
    if cork.tsflags:
        timestamping.skb_setup_tx_timestamp(skb, sk, cork.tsflags, cork.ts_opt_id)
    skb.dst = dst
    skb.dev = dst.dev
    skb.protocol = ETH_P_IP
    return skb


def ip_make_skb(
    sk: InetSock, fl4: Flowi4, msg: MsgHdr, length: int, transhdrlen: int, ipc: IpcmCookie, rt: Rtable
) -> tuple[int, SkBuff | None]:
    """(0, a datagram of the message's first `length` bytes), or (-errno or -EIOCBQUEUED, None).

    The skb holds the payload only, charged to the sock. Push the transport header of `transhdrlen` bytes, set
    `transport_header`, then call ip_send_skb.
    """
    if msg.msg_flags & MSG_PROBE:
        return 0, None
    err, cork = ip_new_cork(sk, fl4, ipc, rt)
    if err or cork is None:
        return err, None
    err = __ip_append_data(sk, cork, msg, length, transhdrlen)
    if err:
        return err, None
    return 0, __ip_make_skb(sk, cork)


def ip_append_data(sk: InetSock, msg: MsgHdr, length: int, transhdrlen: int) -> int:
    """Add to the datagram that ip_setup_cork began. 0, -errno (flush then), or -EIOCBQUEUED."""
    if msg.msg_flags & MSG_PROBE:
        return 0
    cork = sk.cork
    if cork is None:
        return -EFAULT
    return __ip_append_data(sk, cork, msg, length, transhdrlen)


def ip_cork_flow(sk: InetSock) -> Flowi4:
    """The flow of the datagram that waits."""
    cork = sk.cork
    assert cork is not None
    return cork.fl4


def ip_finish_skb(sk: InetSock, fl4: Flowi4 | None = None) -> SkBuff | None:
    """Take the datagram that waits, as ip_make_skb returns it; None if nothing was appended. A raw sock gives the flow of its last
    call, whose addresses go into the header even where the route is another destination's, the first call's."""
    cork = sk.cork
    sk.cork = None
    if cork is None or cork.truesize == 0:
        return None
    if fl4 is not None:
        cork.fl4 = fl4
    return __ip_make_skb(sk, cork)


def ip_push_pending_frames(sk: InetSock, fl4: Flowi4 | None = None) -> int:
    """Send the datagram that waits, of a protocol without a header of its own to add."""
    skb = ip_finish_skb(sk, fl4)
    if skb is None:
        return 0
    return ip_send_skb(sk.sk_net, skb)


def ip_flush_pending_frames(sk: InetSock) -> None:
    """Throw the datagram that waits away."""
    cork = sk.cork
    sk.cork = None
    if cork is not None and cork.truesize:
        truesize = cork.truesize
        cork.truesize = 0
        sock.sock_wfree(sk, truesize)


def ip_send_skb(net: Net, skb: SkBuff) -> int:
    """Put the IP header before a datagram of ip_make_skb and send it. 0 or -errno; a qdisc's congestion notice is no error."""
    plan = cast(IpHeaderPlan, skb.cb)
    skb.cb = None
    sk = plan.sk
    protocol = plan.protocol
    if protocol == IPPROTO_ICMP:
        icmp.icmp_out_count(net, skb_first_byte(skb))
    id = ip_select_ident_segs(net, sk, plan.df, skb.ignore_df, plan.saddr, plan.daddr, protocol, 1)
    opt = plan.opt
    options = b""
    if opt is not None and opt.optlen:
        options = ip_options.ip_options_build(opt, plan.saddr, plan.addr, net.kernel)
        skb.opt = opt
    hlen = 20 + len(options)
    tot_len = skb.len + hlen
    if tot_len > IP_MAX_MTU:
        tot_len = 0  # iph_set_totlen: a prober may use all of loopback's MTU, one byte more than the field can tell
    skb_push(skb, emit(plan.tos & 0xFF, tot_len, id, plan.df, plan.ttl, protocol, plan.saddr, plan.daddr, options))
    skb.network_header = 0
    skb.transport_header = hlen
    err = ip_local_out(net, sk, skb)
    if err:
        if err > 0:
            err = net_xmit_errno(err)
        if err:
            net.ip_statistics[IPSTATS_MIB_OUTDISCARDS] += 1
    return err


def skb_first_byte(skb: SkBuff) -> int:
    """The type of an ICMP message, wherever its bytes lie; 0 for an empty one."""
    if skb.tail > skb.data:
        return skb.head[skb.data]
    for piece in skb.frags or []:
        if piece:
            return piece[0]
    return 0


def net_xmit_errno(e: int) -> int:
    """A drop in the qdisc is -ENOBUFS, congestion (the packet was queued, another was dropped) is no error."""
    return 0 if e == NET_XMIT_CN else -ENOBUFS


# -- registration ----------------------------------------------------------------------------------------------------------------


def ip_init(kernel: Kernel) -> None:
    """Called by inet_init: identifications, routing, and the packet type."""
    kernel.ip_idents = IpIdents()
    route.ip_rt_init(kernel)
    dev_core.dev_add_pack(kernel, ip_input.IpPacketType())
