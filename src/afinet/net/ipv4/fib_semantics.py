"""net/ipv4/fib_semantics.c: what a route means: its next hops, their validity, and the choice among them.

`fib_create_info` turns a request (FibConfig) into a FibInfo, shared by all routes that mean the same: it checks the request, finds
for each gateway the device that reaches it, and for each device that it is up. Devices and addresses that go make next hops or
whole infos dead (`fib_sync_down_dev`, `fib_sync_down_addr`); fib_frontend.py then flushes the tables. `fib_select_path` chooses
among several next hops (multipath) or several default routes, and the source address.

Left out: nexthop objects (`ip nexthop`), gateways of another family, encapsulation, classid and realms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.net.core import link_watch
from afinet.net.core.dst import DST_FEATURE_ECN_CA
from afinet.net.core.flow import Flowi4
from afinet.net.core.netdevice import NETDEV_CHANGE, NETDEV_DOWN, NETDEV_UNREGISTER
from afinet.net.ipv4 import devinet, fib_frontend, fib_multipath, fib_trie, route, tcp_cong
from afinet.net.ipv4.ip_fib import (
    FIB_LOOKUP_IGNORE_LINKSTATE,
    FIB_LOOKUP_NOREF,
    RT_DSCP_MASK,
    FibInfo,
    FibNh,
    FibNhConfig,
    FibResult,
)
from afinet.uapi.errno import EACCES, EAGAIN, EHOSTUNREACH, EINVAL, ENETDOWN, ENODEV
from afinet.uapi.if_ import IFF_UP
from afinet.uapi.neighbour import (
    NUD_DELAY,
    NUD_INCOMPLETE,
    NUD_NOARP,
    NUD_NONE,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
)
from afinet.uapi.rtnetlink import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTAX_ADVMSS,
    RTAX_CC_ALGO,
    RTAX_FEATURES,
    RTAX_HOPLIMIT,
    RTAX_MAX,
    RTAX_MTU,
    RTN_LOCAL,
    RTN_MAX,
    RTN_UNICAST,
    RTNH_COMPARE_MASK,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RTNH_F_ONLINK,
    RTNH_F_PERVASIVE,
)

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.ipv4.ip_fib import FibConfig

# fib_props: by RTN_*, what a lookup that finds such a route answers, and the widest scope it may have.
FIB_PROPS_ERROR: Final = (0, 0, 0, 0, 0, 0, -EINVAL, -EHOSTUNREACH, -EACCES, -EAGAIN, -EINVAL, -EINVAL)
FIB_PROPS_SCOPE: Final = (
    RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE, RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE,
    RT_SCOPE_UNIVERSE, RT_SCOPE_UNIVERSE, RT_SCOPE_UNIVERSE, RT_SCOPE_UNIVERSE, RT_SCOPE_NOWHERE, RT_SCOPE_NOWHERE,
)  # fmt: skip
RTN_MULTICAST_LAST_GOOD: Final = 5  # types up to RTN_MULTICAST lead somewhere

NUD_VALID: Final = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY
RTAX_FEATURE_BITS: Final = 0x1F  # RTAX_FEATURE_MASK with RTAX_FEATURE_TCP_USEC_TS


def fib_error(type: int) -> int:
    return FIB_PROPS_ERROR[type]


def ip_ignore_linkdown(nhc: FibNh) -> bool:
    """ignore_routes_with_linkdown of the next hop's device."""
    dev = nhc.nhc_dev
    if dev is None:
        return False
    in_dev = dev.ip_ptr
    return in_dev is not None and devinet.IN_DEV_IGNORE_ROUTES_WITH_LINKDOWN(in_dev)


def fib_nexthop_flags(nhc: FibNh) -> int:
    """fib_nexthop_info's: the flags that a listing shows."""
    flags = nhc.nhc_flags
    if flags & RTNH_F_LINKDOWN and ip_ignore_linkdown(nhc):
        flags |= RTNH_F_DEAD
    return flags


# -- the register of infos -----------------------------------------------------------------------------------------------------


def fib_info_key(fi: FibInfo) -> tuple[int, int, int, int, int, int, int]:
    if fi.fib_nh:
        return (
            len(fi.fib_nh), fi.fib_protocol, fi.fib_scope, fi.fib_prefsrc, fi.fib_priority, fi.fib_nh[0].nhc_oif,
            fi.fib_nh[0].nhc_gw,
        )  # fmt: skip
    return 0, fi.fib_protocol, fi.fib_scope, fi.fib_prefsrc, fi.fib_priority, 0, 0


def nh_comp(fi: FibInfo, ofi: FibInfo) -> bool:
    """Whether both have the same next hops in the same order."""
    if len(fi.fib_nh) != len(ofi.fib_nh):
        return False
    for i in range(len(fi.fib_nh)):
        nh = fi.fib_nh[i]
        onh = ofi.fib_nh[i]
        if (
            nh.nhc_oif != onh.nhc_oif
            or nh.nhc_gw != onh.nhc_gw
            or nh.nhc_scope != onh.nhc_scope
            or nh.nhc_weight != onh.nhc_weight
            or (nh.nhc_flags ^ onh.nhc_flags) & ~RTNH_COMPARE_MASK
        ):
            return False
    return True


def fib_find_info(fi: FibInfo) -> FibInfo | None:
    """A registered info that means the same."""
    same = fi.fib_net.ipv4.fib.fib_info_hash.get(fib_info_key(fi))
    if same is None:
        return None
    for ofi in same:
        if (
            fi.fib_protocol == ofi.fib_protocol
            and fi.fib_scope == ofi.fib_scope
            and fi.fib_prefsrc == ofi.fib_prefsrc
            and fi.fib_priority == ofi.fib_priority
            and fi.fib_type == ofi.fib_type
            and fi.fib_tb_id == ofi.fib_tb_id
            and fi.fib_metrics == ofi.fib_metrics
            and not (fi.fib_flags ^ ofi.fib_flags) & ~RTNH_COMPARE_MASK
            and nh_comp(fi, ofi)
        ):
            return ofi
    return None


def fib_link_info(fi: FibInfo) -> None:
    fib = fi.fib_net.ipv4.fib
    fib.fib_info_hash.setdefault(fib_info_key(fi), []).append(fi)
    fib.fib_info_cnt += 1
    if fi.fib_prefsrc:
        fib.fib_info_laddrhash.setdefault(fi.fib_prefsrc, []).append(fi)
    for nh in fi.fib_nh:
        if nh.nhc_dev is not None:
            fib.fib_info_devhash.setdefault(nh.nhc_dev.ifindex, []).append(nh)


def fib_unlink_info(fi: FibInfo) -> None:
    fib = fi.fib_net.ipv4.fib
    key = fib_info_key(fi)
    same = fib.fib_info_hash[key]
    same.remove(fi)
    if not same:
        del fib.fib_info_hash[key]
    fib.fib_info_cnt -= 1
    if fi.fib_prefsrc:
        users = fib.fib_info_laddrhash[fi.fib_prefsrc]
        users.remove(fi)
        if not users:
            del fib.fib_info_laddrhash[fi.fib_prefsrc]
    for nh in fi.fib_nh:
        if nh.nhc_dev is not None:
            nhs = fib.fib_info_devhash[nh.nhc_dev.ifindex]
            nhs.remove(nh)
            if not nhs:
                del fib.fib_info_devhash[nh.nhc_dev.ifindex]


def fib_release_info(fi: FibInfo) -> None:
    """A route let go of the info; the last one takes it out of the register, and routes made from it are no longer valid."""
    fi.fib_treeref -= 1
    if fi.fib_treeref:
        return
    fib_unlink_info(fi)
    fi.fib_dead = True
    for nh in fi.fib_nh:
        route.rt_fibinfo_free(nh)
    fib_info_put(fi)


def fib_info_put(fi: FibInfo) -> None:
    fi.fib_clntref -= 1


# -- making one ----------------------------------------------------------------------------------------------------------------


def fib_valid_prefsrc(net: Net, cfg: FibConfig, prefsrc: int) -> bool:
    """A preferred source is one of our addresses, or the one that this very request adds."""
    if cfg.fc_type == RTN_LOCAL and cfg.fc_dst and prefsrc == cfg.fc_dst:
        return True
    table = RT_TABLE_LOCAL if cfg.fc_table == RT_TABLE_MAIN else cfg.fc_table
    rc = fib_frontend.inet_addr_type_table(net, prefsrc, table)
    if rc != RTN_LOCAL and table != RT_TABLE_LOCAL:
        rc = fib_frontend.inet_addr_type_table(net, prefsrc, RT_TABLE_LOCAL)
    return rc == RTN_LOCAL


def fib_check_nh_v4_gw(net: Net, nh: FibNh, cfg: FibConfig) -> int:
    """Find how the gateway is reached: over which device, and that it is not itself behind a gateway."""
    scope = cfg.fc_scope
    if nh.nhc_flags & RTNH_F_ONLINK:
        if scope >= RT_SCOPE_LINK:
            cfg.extack = "Nexthop has invalid scope"
            return -EINVAL
        dev = net.dev_by_index.get(nh.nhc_oif)
        if dev is None:
            cfg.extack = "Nexthop device required for onlink"
            return -ENODEV
        if not dev.flags & IFF_UP:
            cfg.extack = "Nexthop device is not up"
            return -ENETDOWN
        if fib_frontend.inet_addr_type(net, nh.nhc_gw) != RTN_UNICAST:
            cfg.extack = "Nexthop has invalid gateway"
            return -EINVAL
        nh.nhc_dev = dev
        nh.nhc_scope = RT_SCOPE_LINK
        if not link_watch.netif_carrier_ok(dev):
            nh.nhc_flags |= RTNH_F_LINKDOWN
        return 0
    # A route of wider scope may only lead to a gateway of narrower scope: each hop is nearer than what it leads to.
    fl4 = Flowi4(daddr=nh.nhc_gw, oif=nh.nhc_oif, scope=max(scope + 1, RT_SCOPE_LINK))
    res = FibResult()
    err = -1
    if cfg.fc_table and cfg.fc_table != RT_TABLE_MAIN:
        tb = fib_frontend.fib_get_table(net, cfg.fc_table)
        if tb is not None:
            err = fib_trie.fib_table_lookup(tb, fl4, res, FIB_LOOKUP_IGNORE_LINKSTATE | FIB_LOOKUP_NOREF)
    if err:
        err = fib_frontend.fib_lookup(net, fl4, res, FIB_LOOKUP_IGNORE_LINKSTATE)
    if err:
        cfg.extack = "Nexthop has invalid gateway"
        return err
    if res.type != RTN_UNICAST and res.type != RTN_LOCAL:
        cfg.extack = "Nexthop has invalid gateway"
        return -EINVAL
    nhc = res.nhc
    assert nhc is not None
    nh.nhc_scope = res.scope
    nh.nhc_oif = nhc.nhc_oif
    dev = nhc.nhc_dev
    if dev is None:
        cfg.extack = "No egress device for nexthop gateway"
        return -EINVAL
    nh.nhc_dev = dev
    if not link_watch.netif_carrier_ok(dev):
        nh.nhc_flags |= RTNH_F_LINKDOWN
    return 0 if dev.flags & IFF_UP else -ENETDOWN


def fib_check_nh_nongw(net: Net, nh: FibNh, cfg: FibConfig) -> int:
    """The destination is on the link of the device."""
    if nh.nhc_flags & (RTNH_F_PERVASIVE | RTNH_F_ONLINK):
        cfg.extack = "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set"
        return -EINVAL
    in_dev = devinet.inetdev_by_index(net, nh.nhc_oif)
    if in_dev is None:
        return -ENODEV
    if not in_dev.dev.flags & IFF_UP:
        cfg.extack = "Device for nexthop is not up"
        return -ENETDOWN
    nh.nhc_dev = in_dev.dev
    nh.nhc_scope = RT_SCOPE_HOST
    if not link_watch.netif_carrier_ok(in_dev.dev):
        nh.nhc_flags |= RTNH_F_LINKDOWN
    return 0


def fib_check_nh(net: Net, nh: FibNh, cfg: FibConfig) -> int:
    if nh.nhc_gw:
        return fib_check_nh_v4_gw(net, nh, cfg)
    return fib_check_nh_nongw(net, nh, cfg)


def fib_metrics_init(net: Net, cfg: FibConfig) -> tuple[int, list[int] | None]:
    """ip_fib_metrics_init: (0, the metrics, clamped as Linux does) or (-EINVAL, None)."""
    mx = cfg.fc_metrics
    if mx is None and not cfg.fc_cc_algo:
        return 0, None
    metrics = [0] * RTAX_MAX
    some = False
    for i in range(0 if mx is None else min(len(mx), RTAX_MAX)):
        value = 0 if mx is None else mx[i]
        if i == RTAX_ADVMSS - 1 and value > 65535 - 40:
            value = 65535 - 40
        elif i == RTAX_MTU - 1 and value > 65535 - 15:
            value = 65535 - 15
        elif i == RTAX_HOPLIMIT - 1 and value > 255:
            value = 255
        elif i == RTAX_FEATURES - 1 and value & ~RTAX_FEATURE_BITS:
            cfg.extack = "Unknown flag set in feature mask in metrics attribute"
            return -EINVAL, None
        if value:
            some = True
        metrics[i] = value
    if cfg.fc_cc_algo:
        key, ecn_ca = tcp_cong.tcp_ca_get_key_by_name(net.kernel, cfg.fc_cc_algo)
        if key == 0:
            cfg.extack = "Unknown tcp congestion algorithm"
            return -EINVAL, None
        metrics[RTAX_CC_ALGO - 1] = key
        if ecn_ca:
            metrics[RTAX_FEATURES - 1] |= DST_FEATURE_ECN_CA
        some = True
    return 0, metrics if some else None


def fib_create_info(net: Net, cfg: FibConfig) -> tuple[int, FibInfo | None]:
    """(0, an info with one more reference) or (-errno, None): -EINVAL, -ENODEV, -ENETDOWN, and what a lookup of the gateway says
    (-ENETUNREACH if no route leads to it)."""
    if cfg.fc_type > RTN_MAX:
        return -EINVAL, None
    if FIB_PROPS_SCOPE[cfg.fc_type] > cfg.fc_scope:
        cfg.extack = "Invalid scope"
        return -EINVAL, None
    if cfg.fc_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN):
        cfg.extack = "Invalid rtm_flags - can not contain DEAD or LINKDOWN"
        return -EINVAL, None
    hops = cfg.fc_mp
    if hops is None:
        hops = [FibNhConfig(cfg.fc_gw, cfg.fc_oif, 1, cfg.fc_flags)]
    elif not hops:
        cfg.extack = "Invalid nexthop configuration - no nexthops"
        return -EINVAL, None
    fi = FibInfo(net)
    fi.fib_tb_id = cfg.fc_table
    fi.fib_protocol = cfg.fc_protocol
    fi.fib_scope = cfg.fc_scope
    fi.fib_flags = cfg.fc_flags
    fi.fib_priority = cfg.fc_priority
    fi.fib_prefsrc = cfg.fc_prefsrc
    fi.fib_type = cfg.fc_type
    err, metrics = fib_metrics_init(net, cfg)
    if err:
        return err, None
    fi.fib_metrics = metrics
    if fib_error(cfg.fc_type):
        if cfg.fc_gw or cfg.fc_oif or cfg.fc_mp is not None:
            cfg.extack = "Gateway, device and multipath can not be specified for this route type"
            return -EINVAL, None
        fi.fib_nh = [FibNh(fi)]
    else:
        if cfg.fc_type == 0 or cfg.fc_type > RTN_MULTICAST_LAST_GOOD:
            cfg.extack = "Invalid route type"
            return -EINVAL, None
        if cfg.fc_scope > RT_SCOPE_HOST:
            cfg.extack = "Invalid scope"
            return -EINVAL, None
        for hop in hops:
            if hop.flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN):
                cfg.extack = "Invalid flags for nexthop - can not contain DEAD or LINKDOWN"
                return -EINVAL, None
            nh = FibNh(fi)
            nh.nhc_oif = hop.oif
            nh.nhc_gw = hop.gw
            nh.nhc_flags = hop.flags
            nh.nhc_weight = hop.weight
            fi.fib_nh.append(nh)
        err = fib_check_nhs(net, fi, cfg)
        if err:
            return err, None
    if fi.fib_prefsrc and not fib_valid_prefsrc(net, cfg, fi.fib_prefsrc):
        cfg.extack = "Invalid prefsrc address"
        return -EINVAL, None
    ofi = fib_find_info(fi)
    if ofi is not None:
        ofi.fib_treeref += 1
        return 0, ofi
    for nh in fi.fib_nh:
        if nh.nhc_dev is not None:
            fib_info_update_nhc_saddr(net, nh, fi.fib_scope)
    fib_rebalance(fi)
    fi.fib_treeref = 1
    fib_link_info(fi)
    return 0, fi


def fib_check_nhs(net: Net, fi: FibInfo, cfg: FibConfig) -> int:
    if cfg.fc_scope == RT_SCOPE_HOST:
        # A local address: it is reached through no next hop at all.
        if len(fi.fib_nh) != 1:
            cfg.extack = "Route with host scope can not have multiple nexthops"
            return -EINVAL
        nh = fi.fib_nh[0]
        if nh.nhc_gw:
            cfg.extack = "Route with host scope can not have a gateway"
            return -EINVAL
        nh.nhc_scope = RT_SCOPE_NOWHERE
        nh.nhc_dev = net.dev_by_index.get(nh.nhc_oif)
        return -ENODEV if nh.nhc_dev is None else 0
    linkdown = 0
    for nh in fi.fib_nh:
        err = fib_check_nh(net, nh, cfg)
        if err:
            return err
        if nh.nhc_flags & RTNH_F_LINKDOWN:
            linkdown += 1
    if linkdown == len(fi.fib_nh):
        fi.fib_flags |= RTNH_F_LINKDOWN
    return 0


# -- matching a deletion -------------------------------------------------------------------------------------------------------


def fib_nh_match(cfg: FibConfig, fi: FibInfo) -> bool:
    """Whether `fi` has the metric and next hops that the deletion names."""
    if cfg.fc_priority and cfg.fc_priority != fi.fib_priority:
        return False
    if cfg.fc_oif or cfg.fc_gw:
        nh = fi.fib_nh[0]
        return (cfg.fc_oif == 0 or cfg.fc_oif == nh.nhc_oif) and (cfg.fc_gw == 0 or cfg.fc_gw == nh.nhc_gw)
    hops = cfg.fc_mp
    if hops is None:
        return True
    if len(hops) < len(fi.fib_nh):
        return False  # a part of the next hops does not name the route
    for i, nh in enumerate(fi.fib_nh):
        hop = hops[i]
        if hop.weight > 1 and hop.weight != nh.nhc_weight:
            return False
        if (hop.oif and hop.oif != nh.nhc_oif) or (hop.gw and hop.gw != nh.nhc_gw):
            return False
    return True


def fib_metrics_match(cfg: FibConfig, fi: FibInfo) -> bool:
    mx = cfg.fc_metrics
    if mx is None:
        return True
    for i in range(min(len(mx), RTAX_MAX)):
        if mx[i] and (fi.fib_metrics is None or fi.fib_metrics[i] != mx[i]):
            return False
    return True


def fib_info_nh_uses_dev(fi: FibInfo, dev: NetDevice) -> bool:
    for nh in fi.fib_nh:
        if nh.nhc_dev is dev:
            return True
    return False


# -- what happens to devices and addresses ------------------------------------------------------------------------------------


def fib_sync_down_addr(net: Net, dev: NetDevice, local: int) -> int:
    """The address `local` has gone: infos that prefer it are dead. How many."""
    if local == 0:
        return 0
    users = net.ipv4.fib.fib_info_laddrhash.get(local)
    if users is None:
        return 0
    ret = 0
    for fi in users:
        if fi.fib_tb_id == RT_TABLE_MAIN:
            fi.fib_flags |= RTNH_F_DEAD
            fi.pfsrc_removed = True
            ret += 1
    return ret


def fib_nhc_update_mtu(nhc: FibNh, new: int, orig: int) -> None:
    """The device's MTU changed from `orig`: a learnt path MTU that only repeated it changes along, none stays above it."""
    exceptions = nhc.nhc_exceptions
    if exceptions is None:
        return
    for fnhe in exceptions.values():
        if fnhe.fnhe_mtu_locked:
            if new <= fnhe.fnhe_pmtu:
                fnhe.fnhe_pmtu = new
                fnhe.fnhe_mtu_locked = False
        elif new < fnhe.fnhe_pmtu or orig == fnhe.fnhe_pmtu:
            fnhe.fnhe_pmtu = new


def fib_dev_nhs(net: Net, dev: NetDevice) -> list[FibNh]:
    return net.ipv4.fib.fib_info_devhash.get(dev.ifindex, [])


def fib_sync_mtu(net: Net, dev: NetDevice, orig_mtu: int) -> None:
    for nh in fib_dev_nhs(net, dev):
        fib_nhc_update_mtu(nh, dev.mtu, orig_mtu)


def fib_sync_down_dev(net: Net, dev: NetDevice, event: int, force: bool) -> int:
    """The device went down (or away, or lost its carrier): its next hops are dead (or linkdown). Local addresses of a device that
    is only down stay, unless `force`. How many infos have no next hop left."""
    ret = 0
    spared = -1 if force else RT_SCOPE_NOWHERE
    for fi in fib_dev_infos(net, dev):
        dead = 0
        for nh in fi.fib_nh:
            if nh.nhc_flags & RTNH_F_DEAD:
                dead += 1
            elif nh.nhc_dev is dev and nh.nhc_scope != spared:
                if event == NETDEV_DOWN or event == NETDEV_UNREGISTER:
                    nh.nhc_flags |= RTNH_F_DEAD | RTNH_F_LINKDOWN
                elif event == NETDEV_CHANGE:
                    nh.nhc_flags |= RTNH_F_LINKDOWN
                dead += 1
            if event == NETDEV_UNREGISTER and nh.nhc_dev is dev:
                dead = len(fi.fib_nh)
                break
        if dead == len(fi.fib_nh):
            if event == NETDEV_DOWN or event == NETDEV_UNREGISTER:
                fi.fib_flags |= RTNH_F_DEAD | RTNH_F_LINKDOWN
            elif event == NETDEV_CHANGE:
                fi.fib_flags |= RTNH_F_LINKDOWN
            ret += 1
        fib_rebalance(fi)
    return ret


def fib_sync_up(net: Net, dev: NetDevice, nh_flags: int) -> int:
    """The device is up (RTNH_F_DEAD) or has its carrier back (RTNH_F_LINKDOWN). How many infos have a next hop again."""
    if not dev.flags & IFF_UP:
        return 0
    if nh_flags & RTNH_F_DEAD and link_watch.netif_carrier_ok(dev):
        nh_flags |= RTNH_F_LINKDOWN
    ret = 0
    for fi in fib_dev_infos(net, dev):
        alive = 0
        for nh in fi.fib_nh:
            if not nh.nhc_flags & nh_flags:
                alive += 1
            elif nh.nhc_dev is dev and dev.ip_ptr is not None:
                alive += 1
                nh.nhc_flags &= ~nh_flags
        if alive:
            fi.fib_flags &= ~nh_flags
            ret += 1
        fib_rebalance(fi)
    return ret


def fib_dev_infos(net: Net, dev: NetDevice) -> list[FibInfo]:
    """The infos with a next hop over `dev`, each once."""
    infos: list[FibInfo] = []
    last: FibInfo | None = None
    for nh in fib_dev_nhs(net, dev):
        # The next hops of one info stand together.
        if nh.nh_parent is not last:
            last = nh.nh_parent
            infos.append(last)
    return infos


# -- choosing ------------------------------------------------------------------------------------------------------------------


def fib_rebalance(fi: FibInfo) -> None:
    """Give each living next hop of several its share of the 31-bit hashes, by weight."""
    if len(fi.fib_nh) < 2:
        return
    total = 0
    for nh in fi.fib_nh:
        if nh_usable(nh):
            total += nh.nhc_weight
    w = 0
    for nh in fi.fib_nh:
        if not nh_usable(nh):
            nh.nhc_upper_bound = -1
            continue
        w += nh.nhc_weight
        nh.nhc_upper_bound = ((w << 31) + total // 2) // total - 1


def nh_usable(nh: FibNh) -> bool:
    flags = nh.nhc_flags
    return not (flags & RTNH_F_DEAD or (flags & RTNH_F_LINKDOWN and ip_ignore_linkdown(nh)))


def fib_good_nh(nh: FibNh) -> bool:
    """Whether the neighbour is not known to be unreachable (fib_multipath_use_neigh)."""
    if nh.nhc_scope != RT_SCOPE_LINK or nh.nhc_dev is None:
        return True
    n = route.ip_neigh_lookup(nh.nhc_dev, nh.nhc_gw)
    return n is None or n.nud_state == NUD_NONE or n.nud_state & NUD_VALID != 0


def fib_select_multipath(res: FibResult, hash: int, saddr: int) -> None:
    """Choose the next hop whose share holds `hash`; one whose own source address is `saddr` comes before others."""
    fi = res.fi
    assert fi is not None
    use_neigh = fi.fib_net.ipv4.sysctl_fib_multipath_use_neigh != 0
    best = -1
    for nhsel, nh in enumerate(fi.fib_nh):
        upper = nh.nhc_upper_bound
        if upper != -1 and (not use_neigh or fib_good_nh(nh)):
            score = 0
            if saddr and nh.nh_saddr == saddr:
                score += 2
            if hash <= upper:
                score += 1
            if best < score:
                res.nh_sel = nhsel
                res.nhc = nh
                if score == 3 or (saddr == 0 and score == 1):
                    return
                best = score


def fib_result_assign(res: FibResult, fi: FibInfo) -> None:
    res.fi = fi
    res.nhc = fi.fib_nh[0]
    res.nh_sel = 0


class DeathWatch:
    """What fib_select_default remembers while it goes through the candidates."""

    __slots__ = ("last_idx", "last_resort")

    def __init__(self) -> None:
        self.last_resort: FibInfo | None = None
        self.last_idx: int = -1


def fib_detect_death(fi: FibInfo, order: int, watch: DeathWatch, dflt: int) -> bool:
    """Whether the gateway of a default route seems dead; `watch` keeps the one that is to be tried if all do."""
    nhc = fi.fib_nh[0]
    if nhc.nhc_dev is None:
        return False
    n = route.ip_neigh_lookup(nhc.nhc_dev, nhc.nhc_gw)
    if n is None:
        return False
    state = n.nud_state
    if state == NUD_REACHABLE:
        return False
    if state & NUD_VALID and order != dflt:
        return False
    if state & NUD_VALID or (watch.last_idx < 0 and order > dflt and state != NUD_INCOMPLETE):
        watch.last_resort = fi
        watch.last_idx = order
    return True


def fib_select_default(flp: Flowi4, res: FibResult) -> None:
    """Among default routes of the same metric take one whose gateway is not dead; start over from the one after a dead one."""
    head = res.fa_head
    tb = res.table
    rfi = res.fi
    if head is None or tb is None or rfi is None:
        return
    slen = 32 - res.prefixlen
    watch = DeathWatch()
    fi: FibInfo | None = None
    fa1: fib_trie.FibAlias | None = None
    order = -1
    last_prio = rfi.fib_priority
    last_dscp = 0
    for fa in head:
        if fa.fa_slen != slen or fa.tb_id != tb.tb_id:
            continue
        if fa.fa_dscp and fa.fa_dscp != flp.flowi4_dscp & RT_DSCP_MASK:
            continue
        next_fi = fa.fa_info
        if next_fi.fib_priority > last_prio and fa.fa_dscp == last_dscp:
            if last_dscp:
                continue
            break
        if next_fi.fib_flags & RTNH_F_DEAD:
            continue
        last_dscp = fa.fa_dscp
        last_prio = next_fi.fib_priority
        if next_fi.fib_scope != res.scope or fa.fa_type != RTN_UNICAST:
            continue
        nhc = next_fi.fib_nh[0]
        if nhc.nhc_gw == 0 or nhc.nhc_scope != RT_SCOPE_LINK:
            continue
        if fi is None:
            if next_fi is not rfi:
                break
            fa1 = fa
        else:
            assert fa1 is not None
            if not fib_detect_death(fi, order, watch, fa1.fa_default):
                fib_result_assign(res, fi)
                fa1.fa_default = order
                return
        fi = next_fi
        order += 1
    if order <= 0 or fi is None or fa1 is None:
        if fa1 is not None:
            fa1.fa_default = -1
        return
    if not fib_detect_death(fi, order, watch, fa1.fa_default):
        fib_result_assign(res, fi)
        fa1.fa_default = order
        return
    if watch.last_resort is not None:
        fib_result_assign(res, watch.last_resort)
    fa1.fa_default = watch.last_idx


def fib_info_update_nhc_saddr(net: Net, nhc: FibNh, scope: int) -> int:
    """Choose the next hop's source address and remember it until an address changes anywhere."""
    dev = nhc.nhc_dev
    if dev is None:
        return 0
    nhc.nh_saddr = devinet.inet_select_addr(dev, nhc.nhc_gw, scope)
    nhc.nh_saddr_genid = net.ipv4.dev_addr_genid
    return nhc.nh_saddr


def fib_result_prefsrc(net: Net, res: FibResult) -> int:
    """The source address of the route that was found."""
    fi = res.fi
    nhc = res.nhc
    assert fi is not None and nhc is not None
    if fi.fib_prefsrc:
        return fi.fib_prefsrc
    if nhc.nh_saddr_genid == net.ipv4.dev_addr_genid:
        return nhc.nh_saddr
    return fib_info_update_nhc_saddr(net, nhc, fi.fib_scope)


def fib_select_path(net: Net, res: FibResult, fl4: Flowi4, skb: SkBuff | None) -> None:
    """Choose among next hops or default routes, unless the flow names its device; then the source, unless it has one."""
    if fl4.flowi4_oif == 0:
        fi = res.fi
        assert fi is not None
        if len(fi.fib_nh) > 1:
            fib_select_multipath(res, fib_multipath.fib_multipath_hash(net, fl4, skb, None), fl4.saddr)
        elif res.prefixlen == 0 and res.type == RTN_UNICAST and res.table is not None and res.table.tb_num_default > 1:
            fib_select_default(fl4, res)
    if fl4.saddr == 0:
        fl4.saddr = fib_result_prefsrc(net, res)
