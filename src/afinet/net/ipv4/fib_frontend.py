"""net/ipv4/fib_frontend.c: the FIB's tables, who asks them, and what keeps them in step with devices and addresses.

Tables are local (255: own addresses and broadcasts, kept by the stack), main (254), default (253) and any others that routes are
put into. `fib_lookup` asks local and main at once (they share a trie while there are no policy rules), then default; with rules of
the user's own it goes through those (fib_rules.py). An address that comes or goes is heard on `kernel.inetaddr_chain`
(`FibInetaddrNotifier`) and becomes routes: its own /32 in local, its subnet in main with itself as preferred source, its broadcast
addresses in local. `kernel.netdev_chain` tells of devices. `inet_rtm_newroute` and `inet_rtm_delroute` are `ip route`;
`ip_route_add` and `ip_route_del` fill in what that command fills in.

`fib_validate_source` decides whether a packet's source may come in by that device: reverse path filter, own addresses.

Left out: netlink messages and dumps, classid and realms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.notifier import NotifierBlock
from afinet.net.core import fib_rules as core_fib_rules
from afinet.net.core import link_watch
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_IP_INVALID_SOURCE,
    SKB_DROP_REASON_IP_LOCAL_SOURCE,
    SKB_DROP_REASON_IP_RPFILTER,
)
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import PernetOperations, register_pernet_subsys
from afinet.net.core.netdevice import (
    NETDEV_CHANGE,
    NETDEV_CHANGEMTU,
    NETDEV_DOWN,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    NetDevice,
    dev_net,
)
from afinet.net.ipv4 import arp, devinet, fib_rules, fib_semantics, fib_trie, route
from afinet.net.ipv4.ip_fib import FIB_LOOKUP_IGNORE_LINKSTATE, FIB_LOOKUP_NOREF, FibConfig, FibResult
from afinet.uapi.errno import EAGAIN, EINVAL, ENETUNREACH, ENODEV, ESRCH
from afinet.uapi.if_ import IFF_LOOPBACK, IFF_UP
from afinet.uapi.if_addr import IFA_F_NOPREFIXROUTE, IFA_F_SECONDARY
from afinet.uapi.in_route import RTCF_BROADCAST, RTCF_LOCAL, RTCF_MULTICAST
from afinet.uapi.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL
from afinet.uapi.rtnetlink import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RT_TABLE_UNSPEC,
    RTN_ANYCAST,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MAX,
    RTN_MULTICAST,
    RTN_UNICAST,
    RTN_UNSPEC,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RTNH_F_ONLINK,
    RTPROT_BOOT,
    RTPROT_KERNEL,
)
from afinet.wire import be

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.ipv4.devinet import InDevice, InIfaddr
    from afinet.net.ipv4.fib_rules import Fib4RulesOps
    from afinet.net.ipv4.fib_trie import FibTable
    from afinet.net.ipv4.ip_fib import FibInfo, FibNh, FibNhConfig

LOOPBACK_IFINDEX: Final = 1


class FibTables:
    """What struct netns_ipv4 has for the FIB, and fib_semantics.c's registers of infos."""

    __slots__ = (
        "fib_default",
        "fib_has_custom_local_routes",
        "fib_has_custom_rules",
        "fib_info_cnt",
        "fib_info_devhash",
        "fib_info_hash",
        "fib_info_laddrhash",
        "fib_main",
        "fib_rules_require_fldissect",
        "rules_ops",
        "tables",
    )

    def __init__(self) -> None:
        self.tables: dict[int, FibTable] = {}
        self.fib_main: FibTable | None = None
        self.fib_default: FibTable | None = None
        self.rules_ops: Fib4RulesOps | None = None  # set as the namespace is made
        self.fib_has_custom_rules: bool = False
        self.fib_rules_require_fldissect: int = 0  # rules that look at protocols or ports
        self.fib_has_custom_local_routes: bool = False  # local routes that no address brought
        self.fib_info_cnt: int = 0
        self.fib_info_hash: dict[tuple[int, int, int, int, int, int, int], list[FibInfo]] = {}
        self.fib_info_laddrhash: dict[int, list[FibInfo]] = {}  # by preferred source
        self.fib_info_devhash: dict[int, list[FibNh]] = {}  # by ifindex


# -- addresses, by their kind --------------------------------------------------------------------------------------------------


def ipv4_is_loopback(addr: int) -> bool:
    return addr >> 24 == 127


def ipv4_is_multicast(addr: int) -> bool:
    return addr >> 28 == 14


def ipv4_is_local_multicast(addr: int) -> bool:
    return addr >> 8 == 0xE00000


def ipv4_is_lbcast(addr: int) -> bool:
    return addr == 0xFFFFFFFF


def ipv4_is_zeronet(addr: int) -> bool:
    """Only 0.0.0.0 since Linux 5.3: the rest of 0/8 is usable."""
    return addr == 0


# -- tables --------------------------------------------------------------------------------------------------------------------


def fib_get_table(net: Net, id: int) -> FibTable | None:
    return net.ipv4.fib.tables.get(RT_TABLE_MAIN if id == RT_TABLE_UNSPEC else id)


def fib_new_table(net: Net, id: int) -> FibTable:
    """The table, made if there is none. The local table joins the main one's trie until rules tell them apart."""
    if id == RT_TABLE_UNSPEC:
        id = RT_TABLE_MAIN
    fib = net.ipv4.fib
    tb = fib.tables.get(id)
    if tb is not None:
        return tb
    alias: FibTable | None = None
    if id == RT_TABLE_LOCAL and not fib.fib_has_custom_rules:
        alias = fib_new_table(net, RT_TABLE_MAIN)
    tb = fib_trie.FibTable(net, id, alias)
    fib.tables[id] = tb
    if id == RT_TABLE_MAIN:
        fib.fib_main = tb
    elif id == RT_TABLE_DEFAULT:
        fib.fib_default = tb
    return tb


def fib_unmerge(net: Net) -> None:
    """Give the local table a trie of its own."""
    local = net.ipv4.fib.tables.get(RT_TABLE_LOCAL)
    main = net.ipv4.fib.tables.get(RT_TABLE_MAIN)
    if local is None or main is None or local.trie is not main.trie:
        return
    net.ipv4.fib.tables[RT_TABLE_LOCAL] = fib_trie.fib_trie_unmerge(local)
    fib_trie.fib_table_flush_external(main)


def fib_flush(net: Net) -> None:
    """Remove the routes that are dead."""
    flushed = 0
    for tb in list(net.ipv4.fib.tables.values()):
        flushed += fib_trie.fib_table_flush(tb, False)
    if flushed:
        route.rt_cache_flush(net)


def fib_lookup(net: Net, flp: Flowi4, res: FibResult, flags: int) -> int:
    """The best route for the flow, in `res`. 0; -ENETUNREACH if there is none; or what an error route says."""
    fib = net.ipv4.fib
    if fib.fib_has_custom_rules:
        return fib_rules.__fib_lookup(net, flp, res, flags)
    flags |= FIB_LOOKUP_NOREF
    err = -EAGAIN
    if fib.fib_main is not None:
        err = fib_trie.fib_table_lookup(fib.fib_main, flp, res, flags)
    if err == -EAGAIN and fib.fib_default is not None:
        err = fib_trie.fib_table_lookup(fib.fib_default, flp, res, flags)
    return -ENETUNREACH if err == -EAGAIN else err


# -- what an address is --------------------------------------------------------------------------------------------------------


def __inet_dev_addr_type(net: Net, dev: NetDevice | None, addr: int, tb_id: int) -> int:
    if addr == 0 or addr == 0xFFFFFFFF:
        return RTN_BROADCAST
    if addr >> 28 == 14:
        return RTN_MULTICAST
    tb = fib_get_table(net, tb_id)
    if tb is None:
        return RTN_BROADCAST
    res = FibResult()
    if fib_trie.fib_table_lookup(tb, Flowi4(daddr=addr), res, FIB_LOOKUP_NOREF) == 0:
        fi = res.fi
        if dev is None or (fi is not None and fi.fib_nh[0].nhc_dev is dev):
            return res.type
    return RTN_UNICAST


def inet_addr_type_table(net: Net, addr: int, tb_id: int) -> int:
    return __inet_dev_addr_type(net, None, addr, tb_id)


def inet_addr_type(net: Net, addr: int) -> int:
    """RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST or RTN_UNICAST."""
    return __inet_dev_addr_type(net, None, addr, RT_TABLE_LOCAL)


def inet_dev_addr_type(net: Net, dev: NetDevice, addr: int) -> int:
    """The same, where only addresses of `dev` count as local or broadcast."""
    return __inet_dev_addr_type(net, dev, addr, RT_TABLE_LOCAL)


def inet_addr_type_dev_table(net: Net, dev: NetDevice, addr: int) -> int:
    """The same in the table of the device's routing domain: the local one, without VRFs."""
    return __inet_dev_addr_type(net, None, addr, RT_TABLE_LOCAL)


def fib_compute_spec_dst(skb: SkBuff) -> int:
    """The own address that a packet is taken to be sent to: for broadcasts and multicasts, the one we would answer from."""
    head = skb.head
    nh = skb.network_header
    rt = skb.dst
    if isinstance(rt, route.Rtable) and rt.rt_flags & (RTCF_BROADCAST | RTCF_MULTICAST | RTCF_LOCAL) == RTCF_LOCAL:
        return be.get_u32(head, nh + 16)
    dev = skb.dev
    assert dev is not None
    saddr = be.get_u32(head, nh + 12)
    if saddr == 0:
        return devinet.inet_select_addr(dev, saddr, RT_SCOPE_LINK)
    net = dev_net(dev)
    in_dev = dev.ip_ptr
    mark = skb.mark if in_dev is not None and devinet.IN_DEV_SRC_VMARK(in_dev) else 0
    res = FibResult()
    if fib_lookup(net, Flowi4(daddr=saddr, dscp=head[nh + 1] & 0xFC, mark=mark), res, 0) == 0:
        return fib_semantics.fib_result_prefsrc(net, res)
    return devinet.inet_select_addr(dev, saddr, RT_SCOPE_UNIVERSE)


# -- sources -------------------------------------------------------------------------------------------------------------------


def __fib_validate_source(
    net: Net, skb: SkBuff, src: int, dst: int, dscp: int, oif: int, dev: NetDevice, rpf: int, in_dev: InDevice
) -> int:
    """Look up the way back to `src`. 1: it is a host on the link of `dev`; 0: it is all right; else -SKB_DROP_REASON_*."""
    mark = skb.mark if devinet.IN_DEV_SRC_VMARK(in_dev) else 0
    fl4 = Flowi4(daddr=src, saddr=dst, dscp=dscp, mark=mark, iif=oif or LOOPBACK_IFINDEX)
    if fib_rules.fib4_rules_early_flow_dissect(net, skb, fl4) is not None:
        fl4.fl4_sport, fl4.fl4_dport = fl4.fl4_dport, fl4.fl4_sport
    no_addr = not in_dev.ifa_list
    res = FibResult()
    if fib_lookup(net, fl4, res, 0):
        return -SKB_DROP_REASON_IP_RPFILTER if rpf else 0
    if res.type != RTN_UNICAST:
        if res.type != RTN_LOCAL:
            return -SKB_DROP_REASON_IP_INVALID_SOURCE
        if not devinet.IN_DEV_ACCEPT_LOCAL(in_dev):
            return -SKB_DROP_REASON_IP_LOCAL_SOURCE
    fi = res.fi
    nhc = res.nhc
    assert fi is not None and nhc is not None
    if fib_semantics.fib_info_nh_uses_dev(fi, dev) or (res.type == RTN_LOCAL and dev is net.loopback_dev):
        return 1 if nhc.nhc_scope >= RT_SCOPE_HOST else 0
    if no_addr:
        return -SKB_DROP_REASON_IP_RPFILTER if rpf else 0
    if rpf == 1:  # strict (RFC 3704): the best way back has to be this device
        return -SKB_DROP_REASON_IP_RPFILTER
    fl4.flowi4_oif = dev.ifindex
    if fib_lookup(net, fl4, res, FIB_LOOKUP_IGNORE_LINKSTATE) == 0 and res.type == RTN_UNICAST:
        nhc = res.nhc
        if nhc is not None and nhc.nhc_scope >= RT_SCOPE_HOST:
            return 1
    return 0


def fib_validate_source(
    net: Net, skb: SkBuff, src: int, dst: int, dscp: int, oif: int, dev: NetDevice, in_dev: InDevice
) -> int:
    """Whether a packet from `src` may come in by `dev` (and leave by device number `oif`, 0: it stays here). 0; 1 if besides the
    sender is on the link; -SKB_DROP_REASON_* if not."""
    rpf = devinet.IN_DEV_RPFILTER(in_dev)
    if rpf == 0 and (dev.ifindex != oif or not devinet.IN_DEV_TX_REDIRECTS(in_dev)):
        # No filter, and nobody wants to know whether a redirect is due: only our own addresses are no source.
        if devinet.IN_DEV_ACCEPT_LOCAL(in_dev):
            return 0
        fib = net.ipv4.fib
        if not fib.fib_has_custom_local_routes and not fib.fib_has_custom_rules:
            return -SKB_DROP_REASON_IP_LOCAL_SOURCE if src in net.ipv4.inet_addr_lst else 0
    return __fib_validate_source(net, skb, src, dst, dscp, oif, dev, rpf, in_dev)


# -- routes that the stack keeps itself ----------------------------------------------------------------------------------------


def fib_magic(add: bool, type: int, dst: int, dst_len: int, ifa: InIfaddr, rt_priority: int) -> None:
    """Add or delete a route that an address implies. That it is there already, or gone already, does not matter."""
    net = ifa.ifa_dev.net
    cfg = FibConfig()
    cfg.fc_protocol = RTPROT_KERNEL
    cfg.fc_type = type
    cfg.fc_dst = dst
    cfg.fc_dst_len = dst_len
    cfg.fc_priority = rt_priority
    cfg.fc_prefsrc = ifa.ifa_local
    cfg.fc_oif = ifa.ifa_dev.dev.ifindex
    cfg.fc_nlflags = NLM_F_CREATE | NLM_F_APPEND
    cfg.fc_table = RT_TABLE_MAIN if type == RTN_UNICAST else RT_TABLE_LOCAL
    cfg.fc_scope = RT_SCOPE_HOST if type == RTN_LOCAL else RT_SCOPE_LINK
    tb = fib_new_table(net, cfg.fc_table)
    if add:
        fib_trie.fib_table_insert(net, tb, cfg)
    else:
        fib_trie.fib_table_delete(net, tb, cfg)


def fib_add_ifaddr(ifa: InIfaddr) -> None:
    """The routes of an address; of a device that is down, only the local one."""
    in_dev = ifa.ifa_dev
    dev = in_dev.dev
    mask = ifa.ifa_mask
    prefix = ifa.ifa_address & mask
    prim = ifa
    if ifa.ifa_flags & IFA_F_SECONDARY:
        found = devinet.inet_ifa_byprefix(in_dev, prefix, mask)
        if found is None:
            return
        prim = found
    fib_magic(True, RTN_LOCAL, ifa.ifa_local, 32, prim, 0)
    if not dev.flags & IFF_UP:
        return
    if ifa.ifa_broadcast and ifa.ifa_broadcast != 0xFFFFFFFF:
        fib_magic(True, RTN_BROADCAST, ifa.ifa_broadcast, 32, prim, 0)
        arp.arp_invalidate(dev, ifa.ifa_broadcast, False)
    if prefix and not ifa.ifa_flags & IFA_F_SECONDARY and (prefix != ifa.ifa_local or ifa.ifa_prefixlen < 32):
        if not ifa.ifa_flags & IFA_F_NOPREFIXROUTE:
            type = RTN_LOCAL if dev.flags & IFF_LOOPBACK else RTN_UNICAST
            fib_magic(True, type, prefix, ifa.ifa_prefixlen, prim, ifa.ifa_rt_priority)
        if ifa.ifa_prefixlen < 31:
            brd = prefix | (0xFFFFFFFF ^ mask)
            fib_magic(True, RTN_BROADCAST, brd, 32, prim, 0)
            arp.arp_invalidate(dev, brd, False)


def fib_del_ifaddr(ifa: InIfaddr, iprim: InIfaddr | None) -> None:
    """Delete the routes of an address, save what other addresses of the device still need. `iprim` is the primary that is about
    to go, when `ifa` is a secondary that a promotion will give other routes."""
    in_dev = ifa.ifa_dev
    dev = in_dev.dev
    net = in_dev.net
    brd = ifa.ifa_address | (0xFFFFFFFF ^ ifa.ifa_mask)
    any = ifa.ifa_address & ifa.ifa_mask
    prim = ifa
    subnet = False
    if ifa.ifa_flags & IFA_F_SECONDARY:
        found = devinet.inet_ifa_byprefix(in_dev, any, ifa.ifa_mask)
        if found is None or (iprim is not None and iprim is not found):
            return
        prim = found
    elif any and (any != ifa.ifa_local or ifa.ifa_prefixlen < 32):
        if not ifa.ifa_flags & IFA_F_NOPREFIXROUTE:
            fib_magic(False, RTN_LOCAL if dev.flags & IFF_LOOPBACK else RTN_UNICAST, any, ifa.ifa_prefixlen, prim, 0)
        subnet = True

    # Which of its /32s does another address with the same preferred source still imply?
    local_ok = brd_ok = brd0_ok = brd1_ok = False
    gone = True
    same_prefsrc = False
    prim1: InIfaddr | None = None
    for ifa1 in in_dev.ifa_list:
        if ifa1 is ifa:
            gone = False  # a promotion: the address stays
            continue
        if iprim is not None and ifa1.ifa_mask == iprim.ifa_mask and devinet.inet_ifa_match(ifa1.ifa_address, iprim):
            continue
        if ifa1.ifa_flags & IFA_F_SECONDARY:
            if ifa1.ifa_mask == prim.ifa_mask and devinet.inet_ifa_match(ifa1.ifa_address, prim):
                prim1 = prim
            else:
                # Secondaries come last, so whether another primary has our address is known by now.
                if not same_prefsrc:
                    continue
                if (
                    prim1 is None
                    or ifa1.ifa_mask != prim1.ifa_mask
                    or not devinet.inet_ifa_match(ifa1.ifa_address, prim1)
                ):
                    prim1 = devinet.inet_ifa_byprefix(in_dev, ifa1.ifa_address, ifa1.ifa_mask)
                if prim1 is None or prim1.ifa_local != prim.ifa_local:
                    continue
        else:
            if prim.ifa_local != ifa1.ifa_local:
                continue
            prim1 = ifa1
            if prim is not prim1:
                same_prefsrc = True
        if ifa.ifa_local == ifa1.ifa_local:
            local_ok = True
        if ifa.ifa_broadcast == ifa1.ifa_broadcast:
            brd_ok = True
        if brd == ifa1.ifa_broadcast:
            brd1_ok = True
        if any == ifa1.ifa_broadcast:
            brd0_ok = True
        if prim1 is ifa1 and ifa1.ifa_prefixlen < 31:
            brd1 = ifa1.ifa_address | (0xFFFFFFFF ^ ifa1.ifa_mask)
            any1 = ifa1.ifa_address & ifa1.ifa_mask
            if any1:
                if ifa.ifa_broadcast == brd1 or ifa.ifa_broadcast == any1:
                    brd_ok = True
                if brd == brd1 or brd == any1:
                    brd1_ok = True
                if any == brd1 or any == any1:
                    brd0_ok = True

    if not brd_ok:
        fib_magic(False, RTN_BROADCAST, ifa.ifa_broadcast, 32, prim, 0)
    if subnet and ifa.ifa_prefixlen < 31:
        if not brd1_ok:
            fib_magic(False, RTN_BROADCAST, brd, 32, prim, 0)
        if not brd0_ok:
            fib_magic(False, RTN_BROADCAST, any, 32, prim, 0)
    if not local_ok:
        fib_magic(False, RTN_LOCAL, ifa.ifa_local, 32, prim, 0)
        # If that was the last of it, routes that prefer the address as source go too.
        if gone and inet_addr_type_dev_table(net, dev, ifa.ifa_local) != RTN_LOCAL:
            if fib_semantics.fib_sync_down_addr(net, dev, ifa.ifa_local):
                fib_flush(net)


def fib_disable_ip(net: Net, dev: NetDevice, event: int, force: bool) -> None:
    """The device has no IPv4 any more, or is down: its routes and its neighbours go."""
    if fib_semantics.fib_sync_down_dev(net, dev, event, force):
        fib_flush(net)
    else:
        route.rt_cache_flush(net)
    arp.arp_ifdown(dev)


# -- events --------------------------------------------------------------------------------------------------------------------


class FibInetaddrNotifier(NotifierBlock):
    """fib_inetaddr_event."""

    __slots__ = ()

    def notifier_call(self, event: int, data: object) -> int:
        if not isinstance(data, devinet.InIfaddr):
            return 0
        ifa = data
        in_dev = ifa.ifa_dev
        dev = in_dev.dev
        net = in_dev.net
        if event == NETDEV_UP:
            fib_add_ifaddr(ifa)
            fib_semantics.fib_sync_up(net, dev, RTNH_F_DEAD)
            net.ipv4.dev_addr_genid += 1
            route.rt_cache_flush(net)
        elif event == NETDEV_DOWN:
            fib_del_ifaddr(ifa, None)
            net.ipv4.dev_addr_genid += 1
            if in_dev.ifa_list:
                route.rt_cache_flush(net)
            else:
                fib_disable_ip(net, dev, event, True)
        return 0


class FibNetdevNotifier(NotifierBlock):
    """fib_netdev_event."""

    __slots__ = ()

    def notifier_call(self, event: int, data: object) -> int:
        if not isinstance(data, NetDevice):
            return 0
        dev = data
        net = dev_net(dev)
        if event == NETDEV_UNREGISTER:
            fib_disable_ip(net, dev, event, True)
            return 0
        in_dev = dev.ip_ptr
        if in_dev is None:
            return 0
        if event == NETDEV_UP:
            for ifa in in_dev.ifa_list:
                fib_add_ifaddr(ifa)
            fib_semantics.fib_sync_up(net, dev, RTNH_F_DEAD)
            net.ipv4.dev_addr_genid += 1
            route.rt_cache_flush(net)
        elif event == NETDEV_DOWN:
            fib_disable_ip(net, dev, event, False)
        elif event == NETDEV_CHANGE:
            if dev.flags & IFF_UP:
                if link_watch.netif_carrier_ok(dev):
                    fib_semantics.fib_sync_up(net, dev, RTNH_F_LINKDOWN)
                else:
                    fib_semantics.fib_sync_down_dev(net, dev, event, False)
            route.rt_cache_flush(net)
        elif event == NETDEV_CHANGEMTU:
            fib_semantics.fib_sync_mtu(net, dev, in_dev.orig_mtu)
            in_dev.orig_mtu = dev.mtu
            route.rt_cache_flush(net)
        return 0


# -- routes from outside -------------------------------------------------------------------------------------------------------


def inet_rtm_newroute(net: Net, cfg: FibConfig) -> int:
    """RTM_NEWROUTE. 0 or -errno: -EEXIST, -EINVAL, -ENODEV, -ENETDOWN, -ENETUNREACH, -ENOENT; the reason in words in cfg.extack."""
    if cfg.fc_type > RTN_MAX or cfg.fc_dscp & 3:
        cfg.extack = "Invalid route type" if cfg.fc_type > RTN_MAX else "Invalid dsfield (tos): ECN bits must be 0"
        return -EINVAL
    tb = fib_new_table(net, cfg.fc_table)
    err = fib_trie.fib_table_insert(net, tb, cfg)
    if err == 0 and cfg.fc_type == RTN_LOCAL:
        net.ipv4.fib.fib_has_custom_local_routes = True
    return err


def inet_rtm_delroute(net: Net, cfg: FibConfig) -> int:
    """RTM_DELROUTE. 0, -ESRCH, -EINVAL."""
    tb = fib_get_table(net, cfg.fc_table)
    if tb is None:
        cfg.extack = "FIB table does not exist"
        return -ESRCH
    return fib_trie.fib_table_delete(net, tb, cfg)


def ip_route_config(
    net: Net,
    dst: int,
    plen: int,
    gateway: int,
    dev: str,
    type: int,
    table: int,
    metric: int,
    src: int,
    dscp: int,
) -> FibConfig | None:
    """What `ip route` puts into a request from its arguments; None: there is no such device."""
    cfg = FibConfig()
    if dev:
        found = net.dev_by_name.get(dev)
        if found is None:
            return None
        cfg.fc_oif = found.ifindex
    cfg.fc_dst = dst
    cfg.fc_dst_len = plen
    cfg.fc_gw = gateway
    cfg.fc_type = type
    cfg.fc_priority = metric
    cfg.fc_prefsrc = src
    cfg.fc_dscp = dscp
    if table:
        cfg.fc_table = table
    elif type == RTN_LOCAL or type == RTN_BROADCAST or type == RTN_ANYCAST:
        cfg.fc_table = RT_TABLE_LOCAL
    return cfg


def ip_route_add(
    net: Net,
    dst: int,
    plen: int,
    gateway: int = 0,
    dev: str = "",
    type: int = RTN_UNICAST,
    table: int = 0,
    metric: int = 0,
    src: int = 0,
    dscp: int = 0,
    onlink: bool = False,
    scope: int = -1,
    nexthops: list[FibNhConfig] | None = None,
    metrics: list[int] | None = None,
    nlflags: int = NLM_F_CREATE | NLM_F_EXCL,
    protocol: int = RTPROT_BOOT,
) -> int:
    """`ip route add dst/plen via gateway dev dev ...`, with that command's defaults. 0 or -errno (see inet_rtm_newroute)."""
    cfg = ip_route_config(net, dst, plen, gateway, dev, type, table, metric, src, dscp)
    if cfg is None:
        return -ENODEV
    cfg.fc_nlflags = nlflags
    cfg.fc_protocol = protocol
    cfg.fc_mp = nexthops
    cfg.fc_metrics = metrics
    if onlink:
        cfg.fc_flags |= RTNH_F_ONLINK
    if scope >= 0:
        cfg.fc_scope = scope
    elif type == RTN_LOCAL:
        cfg.fc_scope = RT_SCOPE_HOST
    elif type == RTN_BROADCAST or type == RTN_MULTICAST or type == RTN_ANYCAST:
        cfg.fc_scope = RT_SCOPE_LINK
    elif type == RTN_UNICAST and gateway == 0 and nexthops is None:
        cfg.fc_scope = RT_SCOPE_LINK
    else:
        cfg.fc_scope = RT_SCOPE_UNIVERSE
    return inet_rtm_newroute(net, cfg)


def ip_route_del(
    net: Net,
    dst: int,
    plen: int,
    gateway: int = 0,
    dev: str = "",
    type: int = RTN_UNSPEC,
    table: int = 0,
    metric: int = 0,
    src: int = 0,
    dscp: int = 0,
) -> int:
    """`ip route del`: the first route with all that is given. 0 or -errno."""
    cfg = ip_route_config(net, dst, plen, gateway, dev, type, table, metric, src, dscp)
    if cfg is None:
        return -ENODEV
    cfg.fc_scope = RT_SCOPE_NOWHERE
    return inet_rtm_delroute(net, cfg)


# -- boot ----------------------------------------------------------------------------------------------------------------------


class FibNetOps(PernetOperations):
    """fib_net_ops."""

    __slots__ = ()

    def init(self, net: Net) -> int:
        """Local and main, sharing a trie; the default table comes with its first route, as do all others."""
        net.ipv4.fib = FibTables()
        fib_new_table(net, RT_TABLE_LOCAL)
        fib_rules.fib4_rules_init(net)
        return 0

    def exit(self, net: Net) -> None:
        for tb in list(net.ipv4.fib.tables.values()):
            fib_trie.fib_table_flush(tb, True)


def ip_fib_init(kernel: Kernel) -> None:
    register_pernet_subsys(kernel, FibNetOps())
    core_fib_rules.fib_rules_init(kernel)
    kernel.netdev_chain.append(FibNetdevNotifier())
    kernel.inetaddr_chain.append(FibInetaddrNotifier())
