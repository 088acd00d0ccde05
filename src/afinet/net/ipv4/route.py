"""net/ipv4/route.c: the answer to "where does this packet go?", made from a FIB result, cached, and kept right.

Out: ip_route_connect / ip_route_output_flow -> ip_route_output_key_hash -> ip_route_output_key_hash_rcu (sources, devices, special
addresses) -> fib_lookup -> fib_select_path -> __mkroute_output. In: ip_route_input_noref -> ip_route_input_rcu (multicast) ->
ip_route_input_slow (martians, fib_lookup, broadcast, local) -> ip_mkroute_input -> __mkroute_input (forwarding).

An `Rtable` is cached in the next hop that it was made from, so all flows over a next hop share one. It holds as long as the
namespace's `rt_genid` stands still: any change of routes, addresses or devices moves it, `Rtable.check` sees it, and whoever keeps
a route asks again. What the network tells about single destinations behind a next hop (path MTUs, redirects) are its exceptions
(FibNhException), which have routes of their own.

struct rtable itself, its MTU and its validity are in rtable.py, the hash that chooses among next hops in fib_multipath.py. The
route of packets for ourselves is looked up once for each destination and generation (`RouteState.input_local`): the result depends
on nothing else while there are no policy rules. Sources are validated for each packet.

Left out: multicast routing, IPsec, classid and realms, l3mdev, the list of uncached routes (`rt_flush_dev`: a route to a device
that goes is invalid through its generation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.kernel.sysctl import CtlTable, CtlTime, register_sysctl
from afinet.net.core import neighbour
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_ARP_PVLAN_DISABLE,
    SKB_DROP_REASON_INVALID_PROTO,
    SKB_DROP_REASON_IP_INADDRERRORS,
    SKB_DROP_REASON_IP_INNOROUTES,
    SKB_DROP_REASON_IP_INVALID_DEST,
    SKB_DROP_REASON_IP_INVALID_SOURCE,
    SKB_DROP_REASON_IP_LOCALNET,
    SKB_DROP_REASON_NOT_SPECIFIED,
)
from afinet.net.core.dst import DST_OBSOLETE_DEAD, DST_OBSOLETE_FORCE_CHK, DST_OBSOLETE_KILL
from afinet.net.core.flow import FLOWI_FLAG_ANY_SPORT, FLOWI_FLAG_ANYSRC, FLOWI_FLAG_KNOWN_NH, Flowi4
from afinet.net.core.net_namespace import PernetOperations, register_pernet_subsys
from afinet.net.core.netdevice import dev_net
from afinet.net.core.skbuff import kfree_skb_reason
from afinet.net.core.sock import sk_dst_set
from afinet.net.ipv4 import (
    devinet,
    fib_frontend,
    fib_multipath,
    fib_rules,
    fib_semantics,
    icmp,
    igmp,
    ip_output,
)
from afinet.net.ipv4.inet_sock import INET_FLAGS_HDRINCL, INET_FLAGS_TRANSPARENT, IPSKB_DOREDIRECT, InetSock
from afinet.net.ipv4.inetpeer import inet_getpeer_v4
from afinet.net.ipv4.ip_fib import FNHE_HASH_SIZE, FNHE_RECLAIM_DEPTH, FibNhException, FibResult
from afinet.net.ipv4.rtable import (
    RT_INPUT_ERROR,
    RT_INPUT_FORWARD,
    RT_OUTPUT_BUG,
    RT_OUTPUT_MC,
    RouteState,
    dst_set_expires,
    ip_mtu_locked,
    rt_cache_valid,
    rt_nexthop,
)
from afinet.net.ipv4.rtable import Rtable as Rtable
from afinet.net.ipv4.rtable import ip_dst_mtu_maybe_forward as ip_dst_mtu_maybe_forward
from afinet.net.ipv4.rtable import rt_cache_flush as rt_cache_flush
from afinet.uapi.errno import EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH, ENODEV
from afinet.uapi.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_HOST_UNREACH,
    ICMP_NET_UNREACH,
    ICMP_PKT_FILTERED,
    ICMP_REDIR_HOST,
    ICMP_REDIR_HOSTTOS,
    ICMP_REDIRECT,
)
from afinet.uapi.if_ import IFF_LOOPBACK, IFF_UP
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.in_ import (
    INADDR_LOOPBACK,
    IP_PMTUDISC_INTERFACE,
    IP_PMTUDISC_OMIT,
    IPPROTO_IGMP,
    IPPROTO_RAW,
)
from afinet.uapi.in_route import RTCF_BROADCAST, RTCF_LOCAL, RTCF_MULTICAST, RTCF_REDIRECTED
from afinet.uapi.rtnetlink import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from afinet.uapi.snmp import IPSTATS_MIB_INADDRERRORS, IPSTATS_MIB_INNOROUTES
from afinet.wire import be

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.flow_dissector import FlowKeys
    from afinet.net.core.neighbour import Neighbour
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Sock
    from afinet.net.ipv4.devinet import InDevice
    from afinet.net.ipv4.ip_fib import FibInfo, FibNh

LOOPBACK_IFINDEX: Final = 1
INET_DSCP_MASK: Final = 0xFC
IPTOS_RT_MASK: Final = 0x1C

RT_INPUT_LOCAL_MAX: Final = 1024  # own addresses whose route is remembered; 127/8 alone would be sixteen million


def rt_fibinfo_free(nhc: FibNh) -> None:
    """The next hop goes: so do the routes cached in it."""
    if nhc.nhc_rth_input is not None:
        nhc.nhc_rth_input.obsolete = DST_OBSOLETE_DEAD
        nhc.nhc_rth_input = None
    if nhc.nhc_pcpu_rth_output is not None:
        nhc.nhc_pcpu_rth_output.obsolete = DST_OBSOLETE_DEAD
        nhc.nhc_pcpu_rth_output = None
    exceptions = nhc.nhc_exceptions
    if exceptions is not None:
        nhc.nhc_exceptions = None
        for fnhe in exceptions.values():
            fnhe_flush_routes(fnhe)


def inet_addr_type(net: Net, addr: int) -> int:
    """RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST or RTN_UNICAST."""
    return fib_frontend.inet_addr_type(net, addr)


# -- exceptions ----------------------------------------------------------------------------------------------------------------


def fnhe_flush_routes(fnhe: FibNhException) -> None:
    if fnhe.fnhe_rth_input is not None:
        fnhe.fnhe_rth_input.obsolete = DST_OBSOLETE_DEAD
        fnhe.fnhe_rth_input = None
    if fnhe.fnhe_rth_output is not None:
        fnhe.fnhe_rth_output.obsolete = DST_OBSOLETE_DEAD
        fnhe.fnhe_rth_output = None


def fill_route_from_fnhe(rt: Rtable, fnhe: FibNhException) -> None:
    rt.rt_pmtu = fnhe.fnhe_pmtu
    rt.rt_mtu_locked = fnhe.fnhe_mtu_locked
    rt.expires = fnhe.fnhe_expires
    if fnhe.fnhe_gw:
        rt.rt_flags |= RTCF_REDIRECTED
        rt.rt_uses_gateway = True
        rt.rt_gw4 = fnhe.fnhe_gw
        rt.neigh_cache = None


def update_or_create_fnhe(net: Net, nhc: FibNh, daddr: int, gw: int, pmtu: int, lock: bool, expires: int) -> None:
    """Remember a better gateway or a path MTU for `daddr`. The oldest is forgotten when there are too many."""
    genid = net.ipv4.route.fnhe_genid
    exceptions = nhc.nhc_exceptions
    if exceptions is None:
        exceptions = {}
        nhc.nhc_exceptions = exceptions
    fnhe = exceptions.pop(daddr, None)
    if fnhe is not None:
        fnhe.fnhe_genid = genid
        if gw:
            fnhe.fnhe_gw = gw
        if pmtu:
            fnhe.fnhe_pmtu = pmtu
            fnhe.fnhe_mtu_locked = lock
        fnhe.fnhe_expires = max(1, expires)
        if fnhe.fnhe_rth_input is not None:
            fill_route_from_fnhe(fnhe.fnhe_rth_input, fnhe)
        if fnhe.fnhe_rth_output is not None:
            fill_route_from_fnhe(fnhe.fnhe_rth_output, fnhe)
    else:
        while len(exceptions) >= FNHE_HASH_SIZE * FNHE_RECLAIM_DEPTH:
            oldest = exceptions.pop(next(iter(exceptions)))
            fnhe_flush_routes(oldest)
        fnhe = FibNhException(daddr, genid)
        fnhe.fnhe_gw = gw
        fnhe.fnhe_pmtu = pmtu
        fnhe.fnhe_mtu_locked = lock
        fnhe.fnhe_expires = max(1, expires)
        # Whoever keeps the next hop's common route must ask again: the exception may be for him.
        if nhc.nhc_rth_input is not None:
            nhc.nhc_rth_input.obsolete = DST_OBSOLETE_KILL
        if nhc.nhc_pcpu_rth_output is not None:
            nhc.nhc_pcpu_rth_output.obsolete = DST_OBSOLETE_KILL
    fnhe.fnhe_stamp = net.kernel.now
    exceptions[daddr] = fnhe  # at the end: the order is that of use


def find_exception(net: Net, nhc: FibNh, daddr: int) -> FibNhException | None:
    """What is known about `daddr`; what has expired is deleted."""
    exceptions = nhc.nhc_exceptions
    if exceptions is None:
        return None
    fnhe = exceptions.get(daddr)
    if fnhe is None:
        return None
    if fnhe.fnhe_expires and net.kernel.now > fnhe.fnhe_expires:
        del exceptions[daddr]
        fnhe_flush_routes(fnhe)
        return None
    return fnhe


def rt_bind_exception(rt: Rtable, nhc: FibNh, fnhe: FibNhException, daddr: int, do_cache: bool) -> bool:
    """Give the route what the exception knows; say whether the exception keeps it."""
    net = rt.net
    genid = net.ipv4.route.fnhe_genid
    if fnhe.fnhe_genid != genid:
        # `ip route flush cache` came in between: the knowledge is void.
        fnhe.fnhe_genid = genid
        fnhe.fnhe_gw = 0
        fnhe.fnhe_pmtu = 0
        fnhe.fnhe_expires = 0
        fnhe.fnhe_mtu_locked = False
        fnhe_flush_routes(fnhe)
    fill_route_from_fnhe(rt, fnhe)
    if rt.rt_gw4 == 0:
        rt.rt_gw4 = daddr
    fnhe.fnhe_stamp = net.kernel.now
    exceptions = nhc.nhc_exceptions
    if exceptions is not None and exceptions.pop(daddr, None) is not None:
        exceptions[daddr] = fnhe
    if not do_cache:
        return False
    if rt.rt_is_input:
        fnhe.fnhe_rth_input = rt
    else:
        fnhe.fnhe_rth_output = rt
    return True


def rt_set_nexthop(
    rt: Rtable, daddr: int, nhc: FibNh | None, fnhe: FibNhException | None, fi: FibInfo | None, do_cache: bool
) -> None:
    """Gateway and metrics of the next hop; and the route's place in it, or in the exception, if it may be shared."""
    if fi is None or nhc is None:
        return
    if nhc.nhc_gw and nhc.nhc_scope == RT_SCOPE_LINK:
        rt.rt_uses_gateway = True
        rt.rt_gw4 = nhc.nhc_gw
    rt.metrics = fi.fib_metrics
    if fnhe is not None:
        cached = rt_bind_exception(rt, nhc, fnhe, daddr, do_cache)
    else:
        cached = do_cache
        if do_cache:
            rt_cache_route(nhc, rt)
    if not cached and rt.rt_gw4 == 0:
        rt.rt_gw4 = daddr  # the route is for this destination only


def rt_cache_route(nhc: FibNh, rt: Rtable) -> None:
    if rt.rt_is_input:
        nhc.nhc_rth_input = rt
    else:
        nhc.nhc_pcpu_rth_output = rt


def build_flow_key(fl4: Flowi4, sk: Sock | None, head: bytes, off: int, oif: int, proto: int, mark: int) -> None:
    """__build_flow_key: the flow of the packet whose IP header is at `off`; a sock's own routing comes first. `proto` -1: the
    packet's."""
    tos = head[off + 1]
    protocol = head[off + 9] if proto < 0 else proto
    fl4.daddr = be.get_u32(head, off + 16)
    fl4.saddr = be.get_u32(head, off + 12)
    fl4.flowi4_dscp = tos & INET_DSCP_MASK
    fl4.flowi4_scope = RT_SCOPE_UNIVERSE
    if isinstance(sk, InetSock):
        oif = sk.sk_bound_dev_if
        mark = sk.sk_mark
        fl4.flowi4_dscp = sk.tos & INET_DSCP_MASK
        fl4.flowi4_scope = ip_output.ip_sock_rt_scope(sk)
        protocol = IPPROTO_RAW if sk.inet_flags >> INET_FLAGS_HDRINCL & 1 else sk.sk_protocol
        fl4.flowi4_uid = sk.sk_uid
    fl4.flowi4_oif = oif
    fl4.flowi4_mark = mark
    fl4.flowi4_proto = protocol


def build_sk_flow_key(fl4: Flowi4, sk: InetSock) -> None:
    opt = sk.inet_opt
    fl4.daddr = opt.faddr if opt is not None and opt.srr else sk.inet_daddr
    fl4.saddr = sk.inet_saddr
    fl4.flowi4_oif = sk.sk_bound_dev_if
    fl4.flowi4_mark = sk.sk_mark
    fl4.flowi4_dscp = sk.tos & INET_DSCP_MASK
    fl4.flowi4_scope = ip_output.ip_sock_rt_scope(sk)
    fl4.flowi4_proto = IPPROTO_RAW if sk.inet_flags >> INET_FLAGS_HDRINCL & 1 else sk.sk_protocol
    fl4.flowi4_uid = sk.sk_uid


def ip_rt_build_flow_key(fl4: Flowi4, sk: Sock | None, skb: SkBuff | None) -> None:
    if skb is not None:
        oif = 0 if skb.dev is None else skb.dev.ifindex
        build_flow_key(fl4, sk, skb.head, skb.network_header, oif, -1, skb.mark)
    elif isinstance(sk, InetSock):
        build_sk_flow_key(fl4, sk)


def ip_rt_update_pmtu(rt: Rtable, sk: Sock | None, skb: SkBuff | None, mtu: int) -> None:
    fl4 = Flowi4()
    ip_rt_build_flow_key(fl4, sk, skb)
    __ip_rt_update_pmtu(rt, fl4, mtu)


def __ip_rt_update_pmtu(rt: Rtable, fl4: Flowi4, mtu: int) -> None:
    """A router says that packets over `mtu` do not pass: remember it for the destination, at every next hop it may take."""
    if ip_mtu_locked(rt):
        return
    net = rt.net
    ipv4 = net.ipv4
    now = net.kernel.now
    old_mtu = rt.mtu()
    if old_mtu < mtu:
        return
    lock = False
    if mtu < ipv4.ip_rt_min_pmtu:
        # Implausibly small, or malice: do not go below the minimum, and let such packets be fragmented.
        lock = True
        mtu = min(old_mtu, ipv4.ip_rt_min_pmtu)
    if rt.rt_pmtu == mtu and not lock and now < rt.expires - ipv4.ip_rt_mtu_expires // 2:
        return
    res = FibResult()
    if fib_frontend.fib_lookup(net, fl4, res, 0):
        return
    fib_semantics.fib_select_path(net, res, fl4, None)
    fi = res.fi
    nhc = res.nhc
    assert fi is not None and nhc is not None
    expires = now + ipv4.ip_rt_mtu_expires
    if len(fi.fib_nh) > 1:
        for nh in fi.fib_nh:
            update_or_create_fnhe(net, nh, fl4.daddr, 0, mtu, lock, expires)
    else:
        update_or_create_fnhe(net, nhc, fl4.daddr, 0, mtu, lock, expires)


def ipv4_update_pmtu(skb: SkBuff, net: Net, mtu: int, oif: int, protocol: int) -> None:
    """ICMP "fragmentation needed" about a packet that no sock sent. `skb.data` is at the header quoted in it."""
    fl4 = Flowi4()
    build_flow_key(fl4, None, skb.head, skb.data, oif, protocol, 0)
    _err, rt = __ip_route_output_key(net, fl4)
    if rt is not None:
        __ip_rt_update_pmtu(rt, fl4, mtu)


def ip_sk_accept_pmtu(sk: InetSock) -> bool:
    return sk.pmtudisc != IP_PMTUDISC_INTERFACE and sk.pmtudisc != IP_PMTUDISC_OMIT


def ipv4_sk_update_pmtu(skb: SkBuff, sk: InetSock, mtu: int) -> None:
    """The same about a packet of `sk`, whose cached route is brought up to date, unless a call owns the sock."""
    if not ip_sk_accept_pmtu(sk):
        return
    net = sk.sk_net
    fl4 = Flowi4()
    build_flow_key(fl4, sk, skb.head, skb.data, 0, -1, 0)
    odst = sk.sk_dst_cache
    if sk.sk_lock_owned or odst is None:
        _err, rt = __ip_route_output_key(net, fl4)
        if rt is not None:
            __ip_rt_update_pmtu(rt, fl4, mtu)
        return
    new = False
    known: Rtable | None = cast("Rtable", odst)
    if not odst.check(0):
        _err, known = ip_route_output_flow(net, fl4, sk)
        new = True
    if known is None:
        return
    __ip_rt_update_pmtu(known, fl4, mtu)
    if not known.check(0):
        _err, known = ip_route_output_flow(net, fl4, sk)
        new = True
    if new and known is not None:
        sk_dst_set(sk, known)


def ip_do_redirect(rt: Rtable, sk: Sock | None, skb: SkBuff) -> None:
    """`rt` is the route that a sock uses: it has to ask for another."""
    fl4 = Flowi4()
    dev = skb.dev
    assert dev is not None
    build_flow_key(fl4, sk, skb.head, skb.data, dev.ifindex, -1, skb.mark)
    __ip_do_redirect(rt, skb, fl4, True)


def __ip_do_redirect(rt: Rtable, skb: SkBuff, fl4: Flowi4, kill_route: bool) -> None:
    """Believe an ICMP redirect (`transport_header`) from the gateway of `rt`, where the device's settings allow it and the new
    gateway is a neighbour."""
    th = skb.transport_header
    new_gw = be.get_u32(skb.head, th + 4)
    old_gw = be.get_u32(skb.head, skb.network_header + 12)
    if skb.head[th + 1] & 7 > ICMP_REDIR_HOSTTOS:
        return
    if rt.rt_gw4 != old_gw:
        return
    dev = skb.dev
    if dev is None or dev.ip_ptr is None:
        return
    in_dev = dev.ip_ptr
    net = in_dev.net
    if (
        new_gw == old_gw
        or not devinet.IN_DEV_RX_REDIRECTS(in_dev)
        or fib_frontend.ipv4_is_multicast(new_gw)
        or fib_frontend.ipv4_is_lbcast(new_gw)
        or fib_frontend.ipv4_is_zeronet(new_gw)
    ):
        return
    if devinet.IN_DEV_SHARED_MEDIA(in_dev):
        if fib_frontend.inet_addr_type(net, new_gw) != RTN_UNICAST:
            return
    else:
        if not devinet.inet_addr_onlink(in_dev, new_gw, old_gw):
            return
        if devinet.IN_DEV_SEC_REDIRECTS(in_dev) and not ip_fib_check_default(net, new_gw, dev):
            return
    n = ip_output.ip_neigh_gw4(net, rt.dev, new_gw)
    if n is None:
        return
    if not n.nud_state & fib_semantics.NUD_VALID:
        neighbour.neigh_event_send(n, None)  # the next redirect will find it
        return
    res = FibResult()
    if fib_frontend.fib_lookup(net, fl4, res, 0) == 0:
        fib_semantics.fib_select_path(net, res, fl4, skb)
        if res.nhc is not None:
            expires = net.kernel.now + net.ipv4.route.ip_rt_gc_timeout
            update_or_create_fnhe(net, res.nhc, fl4.daddr, new_gw, 0, False, expires)
    if kill_route:
        rt.obsolete = DST_OBSOLETE_KILL


def ip_fib_check_default(net: Net, gw: int, dev: NetDevice) -> bool:
    """Whether `gw` is a gateway that a route over `dev` names: what secure_redirects asks for."""
    for nh in fib_semantics.fib_dev_nhs(net, dev):
        if nh.nhc_dev is dev and nh.nhc_gw == gw and nh.nhc_flags & 1 == 0:
            return True
    return False


def ipv4_redirect(skb: SkBuff, net: Net, oif: int, protocol: int) -> None:
    """ICMP redirect about a packet that no sock sent. `skb.data` is at the header quoted in it."""
    fl4 = Flowi4()
    build_flow_key(fl4, None, skb.head, skb.data, oif, protocol, 0)
    _err, rt = __ip_route_output_key(net, fl4)
    if rt is not None:
        __ip_do_redirect(rt, skb, fl4, False)


def ipv4_sk_redirect(skb: SkBuff, sk: InetSock) -> None:
    net = sk.sk_net
    fl4 = Flowi4()
    build_flow_key(fl4, sk, skb.head, skb.data, 0, -1, 0)
    _err, rt = __ip_route_output_key(net, fl4)
    if rt is not None:
        __ip_do_redirect(rt, skb, fl4, False)


def ip_neigh_lookup(dev: NetDevice, addr: int) -> Neighbour | None:
    """The neighbour if there is one."""
    tbl = dev_net(dev).arp_tbl
    return None if tbl is None else neighbour.neigh_lookup(tbl, addr, dev)


# -- output --------------------------------------------------------------------------------------------------------------------


def __mkroute_output(
    net: Net, res: FibResult, fl4: Flowi4, orig_oif: int, dev_out: NetDevice, flags: int
) -> tuple[int, Rtable | None]:
    """The route for a lookup's result: the next hop's cached one, or a new one."""
    in_dev = dev_out.ip_ptr
    if in_dev is None:
        return -EINVAL, None
    daddr = fl4.daddr
    loopback = dev_out.flags & IFF_LOOPBACK != 0
    if not loopback and fl4.saddr >> 24 == 127 and not devinet.IN_DEV_ROUTE_LOCALNET(in_dev):
        return -EINVAL, None
    type = res.type
    fi = res.fi
    if daddr >> 28 >= 14:
        if daddr == 0xFFFFFFFF:
            type = RTN_BROADCAST
            fi = None  # it goes to the link, whatever gateway the routes name
        elif daddr >> 28 == 14:
            type = RTN_MULTICAST
    elif daddr == 0:
        return -EINVAL, None
    if loopback:
        flags |= RTCF_LOCAL
    do_cache = True
    if type == RTN_BROADCAST:
        flags |= RTCF_BROADCAST | RTCF_LOCAL
    elif type == RTN_MULTICAST:
        flags |= RTCF_MULTICAST
        if igmp.ip_check_mc_rcu(in_dev, daddr, fl4.saddr, fl4.flowi4_proto):
            flags |= RTCF_LOCAL
            do_cache = False
        else:
            flags &= ~RTCF_LOCAL
        # Only a route for multicast addresses names a gateway for them; the default route does not.
        if res.prefixlen < 4:
            fi = None
    elif type == RTN_LOCAL and orig_oif and orig_oif != dev_out.ifindex:
        # Shared, it would lose the device that was asked for, which the receiver wants to see.
        do_cache = False
    nhc = res.nhc
    fnhe: FibNhException | None = None
    if fi is None or nhc is None:
        do_cache = False
    else:
        if nhc.nhc_exceptions is not None:
            fnhe = find_exception(net, nhc, daddr)
        if do_cache:
            if fnhe is not None:
                rth = fnhe.fnhe_rth_output
            elif fl4.flowi4_flags & FLOWI_FLAG_KNOWN_NH and not (nhc.nhc_gw and nhc.nhc_scope == RT_SCOPE_LINK):
                do_cache = False
                rth = None
            else:
                rth = nhc.nhc_pcpu_rth_output
            if rth is not None and rth.obsolete == DST_OBSOLETE_FORCE_CHK and rth.rt_genid == rth.rt_state.rt_genid:
                return 0, rth
    rt = Rtable(net, dev_out, flags, type)
    rt.rt_iif = orig_oif
    rt.rt_state.out_slow_tot += 1
    if flags & (RTCF_BROADCAST | RTCF_MULTICAST) and flags & RTCF_LOCAL and not loopback:
        rt.rt_output = RT_OUTPUT_MC
    rt_set_nexthop(rt, daddr, nhc, fnhe, fi, do_cache)
    return 0, rt


def ip_route_output_key_hash(net: Net, fl4: Flowi4, skb: SkBuff | None) -> tuple[int, Rtable | None]:
    """(0, route) or (-errno, None): -EINVAL, -ENODEV, -ENETUNREACH, or what an error route says. Choices left to the lookup
    (source, destination 0) are written into `fl4`."""
    fl4.flowi4_iif = LOOPBACK_IFINDEX
    return ip_route_output_key_hash_rcu(net, fl4, FibResult(), skb)


def ip_route_output_key_hash_rcu(
    net: Net, fl4: Flowi4, res: FibResult, skb: SkBuff | None
) -> tuple[int, Rtable | None]:
    """The same, with the FIB's result in `res`."""
    orig_oif = fl4.flowi4_oif
    saddr = fl4.saddr
    daddr = fl4.daddr
    special = daddr >> 28 >= 14 and (daddr >> 28 == 14 or daddr == 0xFFFFFFFF)  # multicast or limited broadcast

    # 1. The source: one of ours, unless the caller knows what he does.
    if saddr:
        if saddr >> 28 == 14 or saddr == 0xFFFFFFFF:
            return -EINVAL, None
        if orig_oif == 0 and special:
            # It chooses the device, so that a program can direct its multicasts by binding to an address.
            dev = devinet.ip_dev_find(net, saddr)
            if dev is None:
                return -ENETUNREACH, None
            fl4.flowi4_oif = dev.ifindex
            return __mkroute_output(net, res, fl4, orig_oif, dev, 0)
        if (
            not fl4.flowi4_flags & FLOWI_FLAG_ANYSRC
            and saddr not in net.ipv4.inet_addr_lst
            and devinet.ip_dev_find(net, saddr) is None
        ):
            return -ENETUNREACH, None

    # 2. The device, if one is named.
    dev_out: NetDevice | None = None
    if orig_oif:
        dev_out = net.dev_by_index.get(orig_oif)
        if dev_out is None:
            return -ENODEV, None
        if not dev_out.flags & IFF_UP or dev_out.ip_ptr is None:
            return -ENETUNREACH, None
        if daddr >> 8 == 0xE00000 or daddr == 0xFFFFFFFF or fl4.flowi4_proto == IPPROTO_IGMP:
            # These never leave the link: no route is needed.
            if saddr == 0:
                fl4.saddr = devinet.inet_select_addr(dev_out, 0, RT_SCOPE_LINK)
            return __mkroute_output(net, res, fl4, orig_oif, dev_out, 0)
        if saddr == 0:
            if special:
                fl4.saddr = devinet.inet_select_addr(dev_out, 0, fl4.flowi4_scope)
            elif daddr == 0:
                fl4.saddr = devinet.inet_select_addr(dev_out, 0, RT_SCOPE_HOST)

    # 3. The destination 0 is this host.
    lo = net.loopback_dev
    if daddr == 0:
        if fl4.saddr == 0:
            fl4.saddr = INADDR_LOOPBACK
        fl4.daddr = fl4.saddr
        if lo is None:
            return -ENETUNREACH, None
        fl4.flowi4_oif = LOOPBACK_IFINDEX
        res.type = RTN_LOCAL
        return __mkroute_output(net, res, fl4, orig_oif, lo, RTCF_LOCAL)

    # 4. The FIB.
    err = fib_frontend.fib_lookup(net, fl4, res, 0)
    if err:
        res.fi = None
        res.nhc = None
        res.table = None
        if dev_out is None:
            return err, None
        # A device was named and no route over it is known: then the destination is on its link. Without this nobody
        # could configure an interface over itself (DHCP).
        if fl4.saddr == 0:
            fl4.saddr = devinet.inet_select_addr(dev_out, 0, RT_SCOPE_LINK)
        res.type = RTN_UNICAST
        return __mkroute_output(net, res, fl4, orig_oif, dev_out, 0)
    nhc = res.nhc
    assert nhc is not None
    if res.type == RTN_LOCAL:
        fi = res.fi
        if fl4.saddr == 0:
            fl4.saddr = fi.fib_prefsrc if fi is not None and fi.fib_prefsrc else daddr
        if lo is None:
            return -ENETUNREACH, None
        # Packets go over the loopback device; what was asked for, or the address's own device, is told to the receiver.
        fl4.flowi4_oif = lo.ifindex
        return __mkroute_output(net, res, fl4, nhc.nhc_oif, lo, RTCF_LOCAL)
    fib_semantics.fib_select_path(net, res, fl4, skb)
    nhc = res.nhc
    assert nhc is not None
    dev_out = nhc.nhc_dev
    if dev_out is None:
        return -ENETUNREACH, None
    return __mkroute_output(net, res, fl4, orig_oif, dev_out, 0)


def __ip_route_output_key(net: Net, fl4: Flowi4) -> tuple[int, Rtable | None]:
    return ip_route_output_key_hash(net, fl4, None)


def ip_route_output_flow(net: Net, fl4: Flowi4, sk: Sock | None) -> tuple[int, Rtable | None]:
    """The route for a flow. (0, route) or (-errno, None); see ip_route_output_key_hash."""
    return ip_route_output_key_hash(net, fl4, None)


def ip_route_output_ports(
    net: Net, fl4: Flowi4, sk: InetSock | None, daddr: int, saddr: int, dport: int, sport: int, proto: int, dscp: int,
    oif: int,
) -> tuple[int, Rtable | None]:  # fmt: skip
    fl4.flowi4_oif = oif
    fl4.flowi4_mark = sk.sk_mark if sk is not None else 0
    fl4.flowi4_dscp = dscp & INET_DSCP_MASK
    fl4.flowi4_scope = ip_output.ip_sock_rt_scope(sk) if sk is not None else RT_SCOPE_UNIVERSE
    fl4.flowi4_proto = proto
    fl4.flowi4_flags = inet_sk_flowi_flags(sk) if sk is not None else 0
    fl4.flowi4_uid = sk.sk_uid if sk is not None else 0
    fl4.daddr = daddr
    fl4.saddr = saddr
    fl4.fl4_dport = dport
    fl4.fl4_sport = sport
    return ip_route_output_flow(net, fl4, sk)


def inet_sk_flowi_flags(sk: InetSock) -> int:
    """A transparent sock may speak from any address; so may one with IP_HDRINCL, which writes it itself."""
    if sk.inet_flags & (1 << INET_FLAGS_TRANSPARENT | 1 << INET_FLAGS_HDRINCL):
        return FLOWI_FLAG_ANYSRC
    return 0


def inet_iif(skb: SkBuff) -> int:
    """The device a packet came in by, as its receiver sees it: for one that came through loopback from a sock bound to a device,
    that device."""
    rt = skb.dst
    if isinstance(rt, Rtable) and rt.rt_iif:
        return rt.rt_iif
    return skb.skb_iif


def ip_route_connect_init(
    fl4: Flowi4, dst: int, src: int, oif: int, protocol: int, sport: int, dport: int, sk: InetSock
) -> None:
    """The flow of a sock that connects."""
    flow_flags = FLOWI_FLAG_ANYSRC if sk.inet_flags >> INET_FLAGS_TRANSPARENT & 1 else 0
    if sport == 0:
        flow_flags |= FLOWI_FLAG_ANY_SPORT  # multipath: the port is not known yet, so it does not count
    fl4.flowi4_oif = oif
    fl4.flowi4_mark = sk.sk_mark
    fl4.flowi4_dscp = sk.tos & INET_DSCP_MASK
    fl4.flowi4_scope = ip_output.ip_sock_rt_scope(sk)
    fl4.flowi4_proto = protocol
    fl4.flowi4_flags = flow_flags
    fl4.flowi4_uid = sk.sk_uid
    fl4.daddr = dst
    fl4.saddr = src
    fl4.fl4_sport = sport
    fl4.fl4_dport = dport


def ip_route_connect(
    fl4: Flowi4, dst: int, src: int, oif: int, protocol: int, sport: int, dport: int, sk: InetSock
) -> tuple[int, Rtable | None]:
    """The route of a connection, with its source address. If either address was open, the lookup is done again with both, since
    rules and multipath may depend on them."""
    net = sk.sk_net
    ip_route_connect_init(fl4, dst, src, oif, protocol, sport, dport, sk)
    if dst == 0 or src == 0:
        err, rt = __ip_route_output_key(net, fl4)
        if rt is None:
            return err, None
        fl4.flowi4_oif = oif
    return ip_route_output_flow(net, fl4, sk)


def ip_route_newports(
    fl4: Flowi4, rt: Rtable, orig_sport: int, orig_dport: int, sport: int, dport: int, sk: InetSock
) -> tuple[int, Rtable | None]:
    """The same route with the ports as they are now; a new lookup if they changed."""
    if dport == orig_dport and sport == orig_sport:
        return 0, rt
    fl4.fl4_dport = dport
    fl4.fl4_sport = sport
    fl4.flowi4_oif = sk.sk_bound_dev_if
    if sport:
        fl4.flowi4_flags &= ~FLOWI_FLAG_ANY_SPORT
    return ip_route_output_flow(sk.sk_net, fl4, sk)


# -- input ---------------------------------------------------------------------------------------------------------------------


def ip_route_input_noref(skb: SkBuff, daddr: int, saddr: int, tos: int, dev: NetDevice) -> int:
    """Give a received packet its route. 0 or SKB_DROP_REASON_*; the packet stays the caller's."""
    in_dev = dev.ip_ptr
    if in_dev is None:
        return SKB_DROP_REASON_NOT_SPECIFIED
    net = in_dev.net
    if saddr >> 28 < 14 and saddr and daddr >> 24 != 127 and saddr >> 24 != 127:
        # For us, and known: only the source has to be looked at.
        rt = net.ipv4.route.input_local.get(daddr << 8 | tos & IPTOS_RT_MASK)
        if rt is not None and rt.obsolete == DST_OBSOLETE_FORCE_CHK:
            ret = fib_frontend.fib_validate_source(net, skb, saddr, daddr, tos & INET_DSCP_MASK, 0, dev, in_dev)
            if ret < 0:
                ip_handle_martian_source(dev, in_dev, skb, daddr, saddr)
                return -ret
            skb.dst = rt
            return 0
    if daddr >> 28 == 14:
        our = igmp.ip_check_mc_rcu(in_dev, daddr, saddr, skb.head[skb.network_header + 9])
        if not our:
            return SKB_DROP_REASON_NOT_SPECIFIED
        return ip_route_input_mc(net, skb, daddr, saddr, tos & INET_DSCP_MASK, dev, in_dev)
    return ip_route_input_slow(net, skb, daddr, saddr, tos & INET_DSCP_MASK, dev, in_dev)


def ip_mc_validate_source(
    net: Net, skb: SkBuff, daddr: int, saddr: int, dscp: int, dev: NetDevice, in_dev: InDevice
) -> int:
    if saddr >> 28 == 14 or saddr == 0xFFFFFFFF:
        return SKB_DROP_REASON_IP_INVALID_SOURCE
    if skb.protocol != ETH_P_IP:
        return SKB_DROP_REASON_INVALID_PROTO
    if saddr >> 24 == 127 and not devinet.IN_DEV_ROUTE_LOCALNET(in_dev):
        return SKB_DROP_REASON_IP_LOCALNET
    if saddr == 0:
        # A host without an address yet may join groups and speak on the link.
        if daddr >> 8 != 0xE00000 and skb.head[skb.network_header + 9] != IPPROTO_IGMP:
            return SKB_DROP_REASON_IP_INVALID_SOURCE
        return 0
    ret = fib_frontend.fib_validate_source(net, skb, saddr, 0, dscp, 0, dev, in_dev)
    return -ret if ret < 0 else 0


def ip_route_input_mc(
    net: Net, skb: SkBuff, daddr: int, saddr: int, dscp: int, dev: NetDevice, in_dev: InDevice
) -> int:
    """A multicast for a group that was joined on the device."""
    reason = ip_mc_validate_source(net, skb, daddr, saddr, dscp, dev, in_dev)
    if reason:
        return reason
    lo = net.loopback_dev
    rt = Rtable(net, dev if lo is None else lo, RTCF_MULTICAST | RTCF_LOCAL, RTN_MULTICAST)
    rt.rt_output = RT_OUTPUT_BUG
    rt.rt_is_input = True
    rt.rt_state.in_slow_mc += 1
    skb.dst = rt
    return 0


def ip_route_input_slow(
    net: Net, skb: SkBuff, daddr: int, saddr: int, dscp: int, dev: NetDevice, in_dev: InDevice
) -> int:
    # 1. Martians that no lookup can tell.
    if saddr >> 28 == 14 or saddr == 0xFFFFFFFF:
        ip_handle_martian_source(dev, in_dev, skb, daddr, saddr)
        return SKB_DROP_REASON_IP_INVALID_SOURCE
    res = FibResult()
    if daddr == 0xFFFFFFFF or (saddr == 0 and daddr == 0):
        return ip_route_input_brd(net, skb, res, daddr, saddr, dscp, dev, in_dev, True)
    if saddr == 0:
        ip_handle_martian_source(dev, in_dev, skb, daddr, saddr)
        return SKB_DROP_REASON_IP_INVALID_SOURCE
    if daddr == 0:
        ip_handle_martian_destination(dev, in_dev, daddr, saddr)
        return SKB_DROP_REASON_IP_INVALID_DEST
    if daddr >> 24 == 127:
        if not devinet.IN_DEV_ROUTE_LOCALNET(in_dev):
            ip_handle_martian_destination(dev, in_dev, daddr, saddr)
            return SKB_DROP_REASON_IP_LOCALNET
    elif saddr >> 24 == 127 and not devinet.IN_DEV_ROUTE_LOCALNET(in_dev):
        ip_handle_martian_source(dev, in_dev, skb, daddr, saddr)
        return SKB_DROP_REASON_IP_LOCALNET

    # 2. The FIB.
    fl4 = Flowi4(daddr, saddr, 0, 0, dscp, RT_SCOPE_UNIVERSE, skb.mark, 0, 0, 0, dev.ifindex)
    flkeys = fib_rules.fib4_rules_early_flow_dissect(net, skb, fl4)
    err = fib_frontend.fib_lookup(net, fl4, res, 0)
    if err:
        if not devinet.IN_DEV_FORWARD(in_dev):
            err = -EHOSTUNREACH
        return ip_route_input_no_route(net, skb, dev, err)
    if res.type == RTN_BROADCAST:
        if not devinet.IN_DEV_BFORWARD(in_dev):
            do_cache = net.ipv4.devconf_all.bc_forwarding == 0
            return ip_route_input_brd(net, skb, res, daddr, saddr, dscp, dev, in_dev, do_cache)
    elif res.type == RTN_LOCAL:
        ret = fib_frontend.fib_validate_source(net, skb, saddr, daddr, dscp, 0, dev, in_dev)
        if ret < 0:
            ip_handle_martian_source(dev, in_dev, skb, daddr, saddr)
            return -ret
        rt = ip_route_input_local(net, res, 0, dev, True)
        state = net.ipv4.route
        if not net.ipv4.fib.fib_has_custom_rules:
            if len(state.input_local) >= RT_INPUT_LOCAL_MAX:
                state.input_local = {}
            state.input_local[daddr << 8 | dscp & IPTOS_RT_MASK] = rt
        skb.dst = rt
        return 0
    else:
        if not devinet.IN_DEV_FORWARD(in_dev):
            return ip_route_input_no_route(net, skb, dev, -EHOSTUNREACH)
        if res.type != RTN_UNICAST:
            ip_handle_martian_destination(dev, in_dev, daddr, saddr)
            return SKB_DROP_REASON_IP_INVALID_DEST
    return ip_mkroute_input(net, skb, res, in_dev, daddr, saddr, dscp, flkeys)


def ip_route_input_brd(
    net: Net, skb: SkBuff, res: FibResult, daddr: int, saddr: int, dscp: int, dev: NetDevice, in_dev: InDevice, do_cache: bool
) -> int:
    """brd_input."""
    if skb.protocol != ETH_P_IP:
        return SKB_DROP_REASON_INVALID_PROTO
    if saddr:
        ret = fib_frontend.fib_validate_source(net, skb, saddr, 0, dscp, 0, dev, in_dev)
        if ret < 0:
            ip_handle_martian_source(dev, in_dev, skb, daddr, saddr)
            return -ret
    res.type = RTN_BROADCAST
    net.ipv4.route.in_brd += 1
    skb.dst = ip_route_input_local(net, res, RTCF_BROADCAST, dev, do_cache)
    return 0


def ip_route_input_local(net: Net, res: FibResult, flags: int, dev: NetDevice, do_cache: bool) -> Rtable:
    """local_input: the route up, cached in the next hop if there is one."""
    nhc = res.nhc
    if res.fi is None or nhc is None:
        do_cache = False
    elif do_cache:
        rth = nhc.nhc_rth_input
        if rth is not None and rt_cache_valid(rth):
            return rth
    lo = net.loopback_dev
    rt = Rtable(net, dev if lo is None else lo, flags | RTCF_LOCAL, res.type)
    rt.rt_state.in_slow_tot += 1
    rt.rt_output = RT_OUTPUT_BUG
    rt.rt_is_input = True
    if do_cache and nhc is not None:
        rt_cache_route(nhc, rt)
    return rt


def ip_route_input_no_route(net: Net, skb: SkBuff, dev: NetDevice, err: int) -> int:
    """no_route: a route that leads to ip_error."""
    lo = net.loopback_dev
    rt = Rtable(net, dev if lo is None else lo, 0, RTN_UNREACHABLE)
    rt.rt_output = RT_OUTPUT_BUG
    rt.rt_is_input = True
    rt.rt_input = RT_INPUT_ERROR
    rt.error = -err
    rt.rt_state.in_no_route += 1
    skb.dst = rt
    return 0


def ip_mkroute_input(
    net: Net, skb: SkBuff, res: FibResult, in_dev: InDevice, daddr: int, saddr: int, dscp: int, flkeys: FlowKeys | None
) -> int:
    fi = res.fi
    assert fi is not None
    if len(fi.fib_nh) > 1:
        fib_semantics.fib_select_multipath(res, fib_multipath.fib_multipath_hash(net, None, skb, flkeys), 0)
    return __mkroute_input(net, skb, res, in_dev, daddr, saddr, dscp)


def __mkroute_input(
    net: Net, skb: SkBuff, res: FibResult, in_dev: InDevice, daddr: int, saddr: int, dscp: int
) -> int:
    """The route of a packet that we forward."""
    nhc = res.nhc
    assert nhc is not None
    out = nhc.nhc_dev
    out_dev = None if out is None else out.ip_ptr
    if out is None or out_dev is None:
        return SKB_DROP_REASON_NOT_SPECIFIED
    err = fib_frontend.fib_validate_source(net, skb, saddr, daddr, dscp, nhc.nhc_oif, in_dev.dev, in_dev)
    if err < 0:
        ip_handle_martian_source(in_dev.dev, in_dev, skb, daddr, saddr)
        return -err
    if out_dev is in_dev:
        if err and devinet.IN_DEV_TX_REDIRECTS(out_dev):
            # The sender is on the link that the packet goes back to: it could have sent it there itself.
            if devinet.IN_DEV_SHARED_MEDIA(out_dev) or devinet.inet_addr_onlink(out_dev, saddr, nhc.nhc_gw):
                skb.ip_flags |= IPSKB_DOREDIRECT
        if skb.protocol != ETH_P_IP and not devinet.IN_DEV_PROXY_ARP_PVLAN(in_dev):
            return SKB_DROP_REASON_ARP_PVLAN_DISABLE
    fnhe = find_exception(net, nhc, daddr)
    rth = nhc.nhc_rth_input if fnhe is None else fnhe.fnhe_rth_input
    if rth is not None and rt_cache_valid(rth):
        skb.dst = rth
        return 0
    rt = Rtable(net, out, 0, res.type)
    rt.rt_is_input = True
    rt.rt_input = RT_INPUT_FORWARD
    rt.rt_state.in_slow_tot += 1
    rt_set_nexthop(rt, daddr, nhc, fnhe, res.fi, True)
    skb.dst = rt
    return 0


def ip_handle_martian_source(dev: NetDevice, in_dev: InDevice, skb: SkBuff, daddr: int, saddr: int) -> None:
    """Count it, and with log_martians say so in the log (RFC 1812, 5.3.8)."""
    net = in_dev.net
    net.ipv4.route.in_martian_src += 1
    if devinet.IN_DEV_LOG_MARTIANS(in_dev) and net.kernel.net_ratelimit():
        net.kernel.printk(f"IPv4: martian source {ip_show(daddr)} from {ip_show(saddr)}, on dev {dev.name}")
        if dev.hard_header_len and skb.network_header - skb.mac_header == dev.hard_header_len:
            # The only hint at who it was.
            net.kernel.printk("ll header: " + skb.head[skb.mac_header : skb.network_header].hex(" "))


def ip_handle_martian_destination(dev: NetDevice, in_dev: InDevice, daddr: int, saddr: int) -> None:
    net = in_dev.net
    net.ipv4.route.in_martian_dst += 1
    if devinet.IN_DEV_LOG_MARTIANS(in_dev) and net.kernel.net_ratelimit():
        net.kernel.printk(f"IPv4: martian destination {ip_show(daddr)} from {ip_show(saddr)}, dev {dev.name}")


def ip_show(addr: int) -> str:
    """%pI4."""
    return f"{addr >> 24}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


def ipv4_link_failure(skb: SkBuff) -> None:
    """The next hop of a packet cannot be reached: tell the sender, and let what was learnt about the path go."""
    icmp.icmp_send(skb, ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, 0)
    rt = skb.dst
    if rt is not None:
        dst_set_expires(rt, rt.net.kernel.now)


# -- errors and redirects that we send ----------------------------------------------------------------------------------------


def ip_error(skb: SkBuff) -> int:
    """A received packet that leads nowhere: count it; a router tells the sender, at most once a second on average."""
    rt = cast(Rtable, skb.dst)
    net = rt.net
    reason = SKB_DROP_REASON_NOT_SPECIFIED
    dev = skb.dev
    in_dev = None if dev is None else dev.ip_ptr
    if in_dev is None:
        return kfree_skb_reason(net, skb, reason)
    if not devinet.IN_DEV_FORWARD(in_dev):
        if rt.error == EHOSTUNREACH:
            reason = SKB_DROP_REASON_IP_INADDRERRORS
            net.ip_statistics[IPSTATS_MIB_INADDRERRORS] += 1
        elif rt.error == ENETUNREACH:
            reason = SKB_DROP_REASON_IP_INNOROUTES
            net.ip_statistics[IPSTATS_MIB_INNOROUTES] += 1
        return kfree_skb_reason(net, skb, reason)
    if rt.error == EHOSTUNREACH:
        code = ICMP_HOST_UNREACH
    elif rt.error == ENETUNREACH:
        code = ICMP_NET_UNREACH
        reason = SKB_DROP_REASON_IP_INNOROUTES
        net.ip_statistics[IPSTATS_MIB_INNOROUTES] += 1
    elif rt.error == EACCES:
        code = ICMP_PKT_FILTERED
    else:
        return kfree_skb_reason(net, skb, reason)  # a blackhole is silent
    state = net.ipv4.route
    now = net.kernel.now
    peer = inet_getpeer_v4(net, be.get_u32(skb.head, skb.network_header + 12))
    peer.rate_tokens = min(peer.rate_tokens + now - peer.rate_last, state.ip_rt_error_burst)
    peer.rate_last = now
    if peer.rate_tokens >= state.ip_rt_error_cost:
        peer.rate_tokens -= state.ip_rt_error_cost
        icmp.icmp_send(skb, ICMP_DEST_UNREACH, code, 0)
    return kfree_skb_reason(net, skb, reason)


def ip_rt_send_redirect(skb: SkBuff) -> None:
    """Tell the sender of a forwarded packet the better next hop; ever more rarely to one that does not listen."""
    rt = cast(Rtable, skb.dst)
    in_dev = rt.dev.ip_ptr
    if in_dev is None or not devinet.IN_DEV_TX_REDIRECTS(in_dev):
        return
    net = rt.net
    state = net.ipv4.route
    now = net.kernel.now
    nh = skb.network_header
    peer = inet_getpeer_v4(net, be.get_u32(skb.head, nh + 12))
    if now > peer.rate_last + state.ip_rt_redirect_silence:
        peer.rate_tokens = 0
        peer.n_redirects = 0
    if peer.n_redirects >= state.ip_rt_redirect_number:
        peer.rate_last = now
        return
    if peer.n_redirects == 0 or now > peer.rate_last + (state.ip_rt_redirect_load << peer.n_redirects):
        icmp.icmp_send(skb, ICMP_REDIRECT, ICMP_REDIR_HOST, rt_nexthop(rt, be.get_u32(skb.head, nh + 16)))
        peer.rate_last = now
        peer.n_redirects += 1


def ip_rt_get_source(skb: SkBuff, rt: Rtable) -> int:
    """The address that we would send a forwarded packet from: for the record-route and timestamp options."""
    nh = skb.network_header
    saddr = be.get_u32(skb.head, nh + 12)
    if not rt.rt_is_input:
        return saddr
    daddr = be.get_u32(skb.head, nh + 16)
    iif = 0 if skb.dev is None else skb.dev.ifindex
    dscp = skb.head[nh + 1] & INET_DSCP_MASK
    fl4 = Flowi4(daddr, saddr, rt.dev.ifindex, 0, dscp, RT_SCOPE_UNIVERSE, skb.mark, 0, 0, 0, iif)
    res = FibResult()
    if fib_frontend.fib_lookup(rt.net, fl4, res, 0) == 0:
        return fib_semantics.fib_result_prefsrc(rt.net, res)
    return devinet.inet_select_addr(rt.dev, rt_nexthop(rt, daddr), RT_SCOPE_UNIVERSE)


# -- boot ----------------------------------------------------------------------------------------------------------------------


class RouteFlushCtl(CtlTable):
    """net/ipv4/route/flush: any value written makes all cached routes stale, and what was learnt void."""

    __slots__ = ("net",)

    def __init__(self, net: Net) -> None:
        super().__init__("flush", net.ipv4.route, "rt_genid", mode=0o200)
        self.net: Net = net

    def write(self, text: str) -> int:
        rt_cache_flush(self.net)
        self.net.ipv4.route.fnhe_genid += 1
        return 0


class RouteNetOps(PernetOperations):
    """rt_genid_ops, sysctl_route_ops."""

    __slots__ = ()

    def init(self, net: Net) -> int:
        ipv4 = net.ipv4
        state = RouteState(net)
        ipv4.route = state
        hz = net.kernel.hz
        entries: list[CtlTable] = [
            RouteFlushCtl(net),
            CtlTable("min_pmtu", ipv4, "ip_rt_min_pmtu", 68),
            CtlTime("mtu_expires", ipv4, "ip_rt_mtu_expires", 1, hz),
            CtlTable("min_adv_mss", ipv4, "ip_rt_min_advmss"),
            CtlTable("redirect_number", state, "ip_rt_redirect_number"),
            CtlTime("redirect_load", state, "ip_rt_redirect_load", hz, hz),
            CtlTime("redirect_silence", state, "ip_rt_redirect_silence", hz, hz),
            CtlTime("error_cost", state, "ip_rt_error_cost", hz, hz),
            CtlTime("error_burst", state, "ip_rt_error_burst", hz, hz),
            CtlTime("gc_timeout", state, "ip_rt_gc_timeout", 1, hz),
        ]
        register_sysctl(net.sysctl_table, "net/ipv4/route", entries)
        return 0


def ip_rt_init(kernel: Kernel) -> None:
    """Once per Kernel: routes, then the addresses and the FIB that they are made from."""
    register_pernet_subsys(kernel, RouteNetOps())
    devinet.devinet_init(kernel)
    fib_frontend.ip_fib_init(kernel)
