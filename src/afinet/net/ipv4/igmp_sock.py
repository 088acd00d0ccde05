"""net/ipv4/igmp.c, the socks' half: memberships and source filters (RFC 3678), and what they let through.

A sock joins by ip_mc_join_group (IP_ADD_MEMBERSHIP: all sources, MCAST_EXCLUDE) or ip_mc_join_group_ssm
(IP_ADD_SOURCE_MEMBERSHIP: those it names, MCAST_INCLUDE); `ip_mc_source` adds or removes one source, `ip_mc_msfilter` puts a whole
filter in place. Each change goes on to the device's list (igmp.ip_mc_add_src, ip_mc_del_src). `ip_mc_sf_allow` decides for each
multicast and sock.

Left out: reading filters back (ip_mc_msfget, ip_mc_gsfget).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.net.core.flow import Flowi4
from afinet.net.ipv4 import devinet, igmp, ip_sockglue, route
from afinet.net.ipv4.inet_sock import INET_FLAGS_MC_ALL, InetSock
from afinet.uapi.errno import EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENOBUFS, ENODEV
from afinet.uapi.in_ import MCAST_EXCLUDE, MCAST_INCLUDE, ipv4_is_multicast

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.ipv4.devinet import InDevice


class IpMreqn:
    """struct ip_mreqn."""

    __slots__ = ("imr_address", "imr_ifindex", "imr_multiaddr")

    def __init__(self, multiaddr: int, address: int = 0, ifindex: int = 0) -> None:
        self.imr_multiaddr: int = multiaddr
        self.imr_address: int = address  # of the device, if ifindex is 0
        self.imr_ifindex: int = ifindex


class IpMcSocklist:
    """struct ip_mc_socklist: a membership of a sock."""

    __slots__ = ("multi", "sflist", "sfmode")

    def __init__(self, multi: IpMreqn, sfmode: int) -> None:
        self.multi: IpMreqn = multi
        self.sfmode: int = sfmode
        self.sflist: list[int] | None = None  # the sources that `sfmode` includes or excludes; None: no filter was ever set


def ip_mc_find_dev(net: Net, imr: IpMreqn) -> InDevice | None:
    """The device of a membership: by index, by one of its addresses, or where the group's route leads. Fills in the index."""
    if imr.imr_ifindex:
        return devinet.inetdev_by_index(net, imr.imr_ifindex)
    dev: NetDevice | None = None
    if imr.imr_address:
        dev = devinet.ip_dev_find(net, imr.imr_address)
        if dev is None:
            return None
    else:
        err, rt = route.ip_route_output_flow(net, Flowi4(imr.imr_multiaddr), None)
        if err == 0 and rt is not None:
            dev = rt.dev
    if dev is None:
        return None
    imr.imr_ifindex = dev.ifindex
    return dev.ip_ptr


def find_membership(sk: InetSock, group: int, ifindex: int) -> IpMcSocklist | None:
    cold = sk.inet_cold
    if cold is not None:
        for iml in cold.mc_list:
            if iml.multi.imr_multiaddr == group and iml.multi.imr_ifindex == ifindex:
                return iml
    return None


# -- joining and leaving -------------------------------------------------------------------------------------------------------


def ip_mc_join_group(sk: InetSock, imr: IpMreqn) -> int:
    return ip_mc_join_group_ssm(sk, imr, MCAST_EXCLUDE)


def ip_mc_join_group_ssm(sk: InetSock, imr: IpMreqn, mode: int) -> int:
    """0, -EINVAL (no group), -ENODEV, -EADDRINUSE (joined already), -ENOBUFS (igmp_max_memberships)."""
    addr = imr.imr_multiaddr
    if not ipv4_is_multicast(addr):
        return -EINVAL
    net = sk.sk_net
    in_dev = ip_mc_find_dev(net, imr)
    if in_dev is None:
        return -ENODEV
    if find_membership(sk, addr, imr.imr_ifindex) is not None:
        return -EADDRINUSE
    cold = ip_sockglue.inet_cold(sk)
    if len(cold.mc_list) >= net.ipv4.sysctl_igmp_max_memberships:
        return -ENOBUFS
    cold.mc_list.insert(0, IpMcSocklist(imr, mode))
    igmp.ip_mc_inc_group(in_dev, addr, mode)
    return 0


def ip_mc_leave_src(iml: IpMcSocklist, in_dev: InDevice | None) -> None:
    igmp.ip_mc_del_src(in_dev, iml.multi.imr_multiaddr, iml.sfmode, iml.sflist or [], False)
    iml.sflist = None


def ip_mc_leave_group(sk: InetSock, imr: IpMreqn) -> int:
    """0, -ENODEV, -EADDRNOTAVAIL (no such membership)."""
    net = sk.sk_net
    group = imr.imr_multiaddr
    named = imr.imr_ifindex != 0 or imr.imr_address != 0
    in_dev = ip_mc_find_dev(net, imr)
    if not named and in_dev is None:
        return -ENODEV
    cold = sk.inet_cold
    memberships = [] if cold is None else cold.mc_list
    for i in range(len(memberships)):
        iml = memberships[i]
        if iml.multi.imr_multiaddr != group:
            continue
        if imr.imr_ifindex:
            if iml.multi.imr_ifindex != imr.imr_ifindex:
                continue
        elif imr.imr_address and imr.imr_address != iml.multi.imr_address:
            continue
        ip_mc_leave_src(iml, in_dev)
        del memberships[i]
        if in_dev is not None:
            igmp.ip_mc_dec_group(in_dev, group)
        return 0
    return -EADDRNOTAVAIL


def ip_mc_drop_socket(sk: InetSock) -> None:
    """The sock is closed: it leaves all its groups."""
    cold = sk.inet_cold
    if cold is None:
        return
    memberships = cold.mc_list
    cold.mc_list = []
    for iml in memberships:
        in_dev = devinet.inetdev_by_index(sk.sk_net, iml.multi.imr_ifindex)
        ip_mc_leave_src(iml, in_dev)
        if in_dev is not None:
            igmp.ip_mc_dec_group(in_dev, iml.multi.imr_multiaddr)


# -- filters -------------------------------------------------------------------------------------------------------------------


def ip_mc_source(sk: InetSock, add: bool, omode: int, imr: IpMreqn, source: int) -> int:
    """Add a source to the membership's filter, or take it out: of those included (`omode` MCAST_INCLUDE) or blocked
    (MCAST_EXCLUDE). 0, -EINVAL (no group, or not joined, or the filter is of the other kind), -ENODEV, -EADDRNOTAVAIL, -ENOBUFS
    (igmp_max_msf)."""
    group = imr.imr_multiaddr
    if not ipv4_is_multicast(group):
        return -EINVAL
    net = sk.sk_net
    in_dev = ip_mc_find_dev(net, imr)
    if in_dev is None:
        return -ENODEV
    iml = find_membership(sk, group, imr.imr_ifindex)
    if iml is None:
        return -EINVAL
    if iml.sfmode != omode:
        if iml.sflist is not None:
            return -EINVAL
        # An empty filter may change its kind.
        igmp.ip_mc_add_src(in_dev, group, omode, [], False)
        igmp.ip_mc_del_src(in_dev, group, iml.sfmode, [], False)
        iml.sfmode = omode
    sources = iml.sflist
    if not add:
        if sources is None or source not in sources:
            return -EADDRNOTAVAIL
        if len(sources) == 1 and omode == MCAST_INCLUDE:
            return ip_mc_leave_group(sk, imr)  # to include nothing is to leave
        igmp.ip_mc_del_src(in_dev, group, omode, [source], True)
        sources.remove(source)
        return 0
    if sources is None:
        sources = []
    if len(sources) >= net.ipv4.sysctl_igmp_max_msf and iml.sflist is not None:
        return -ENOBUFS
    iml.sflist = sources
    if source in sources:
        return -EADDRNOTAVAIL
    sources.append(source)
    igmp.ip_mc_add_src(in_dev, group, omode, [source], True)
    return 0


def ip_mc_msfilter(sk: InetSock, imr: IpMreqn, fmode: int, sources: list[int]) -> int:
    """Put a filter in the place of the membership's. 0, -EINVAL, -ENODEV, -EADDRNOTAVAIL."""
    group = imr.imr_multiaddr
    if not ipv4_is_multicast(group) or (fmode != MCAST_INCLUDE and fmode != MCAST_EXCLUDE):
        return -EINVAL
    in_dev = ip_mc_find_dev(sk.sk_net, imr)
    if in_dev is None:
        return -ENODEV
    if fmode == MCAST_INCLUDE and not sources:
        return ip_mc_leave_group(sk, imr)
    iml = find_membership(sk, group, imr.imr_ifindex)
    if iml is None:
        return -EINVAL
    err = igmp.ip_mc_add_src(in_dev, group, fmode, sources, False)
    if err:
        return err
    igmp.ip_mc_del_src(in_dev, group, iml.sfmode, iml.sflist or [], False)
    iml.sflist = sources or None
    iml.sfmode = fmode
    return 0


def ip_mc_sf_allow(sk: InetSock, loc_addr: int, rmt_addr: int, dif: int) -> bool:
    """Whether a packet from `rmt_addr` to `loc_addr` that came by device `dif` is for this sock: it joined there and its filter has
    nothing against it; or it did not join and has IP_MULTICAST_ALL."""
    if not ipv4_is_multicast(loc_addr):
        return True
    iml = find_membership(sk, loc_addr, dif)
    if iml is None:
        return sk.inet_flags >> INET_FLAGS_MC_ALL & 1 == 1
    named = iml.sflist is not None and rmt_addr in iml.sflist
    return named == (iml.sfmode == MCAST_INCLUDE)
