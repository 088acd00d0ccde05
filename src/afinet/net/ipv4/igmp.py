"""net/ipv4/igmp.c, as far as joining: which multicast groups a sock and a device listen to.

A sock joins by ip_mc_join_group (IP_ADD_MEMBERSHIP), which counts it in the device's list (ip_mc_inc_group); the routing of a
received multicast asks ip_check_mc, its delivery to a sock ip_mc_sf_allow. Every device that is up is in 224.0.0.1 (ip_mc_up).

Left out, for a later issue: IGMP itself (queries are taken and not answered, no reports are sent: a simulated link delivers every
multicast, and no router here waits for reports), source filters (INCLUDE mode and blocked sources).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.notifier import NotifierBlock
from afinet.net.core import dev as dev_core
from afinet.net.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, SKB_DROP_REASON_PKT_TOO_SMALL
from afinet.net.core.flow import Flowi4
from afinet.net.core.netdevice import NETDEV_DOWN, NETDEV_UNREGISTER, NETDEV_UP, NetDevice
from afinet.net.core.skbuff import consume_skb, kfree_skb_reason, skb_tobytes
from afinet.net.ipv4 import devinet, ip_sockglue, route
from afinet.net.ipv4.inet_sock import INET_FLAGS_MC_ALL, InetSock
from afinet.net.ipv4.protocol import NetProtocol, net_of
from afinet.uapi.errno import EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENOBUFS, ENODEV
from afinet.uapi.in_ import INADDR_ALLHOSTS_GROUP, ipv4_is_multicast
from afinet.wire.checksum import ip_compute_csum

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.ipv4.devinet import InDevice

IGMP_HLEN: Final = 8


class IpMreqn:
    """struct ip_mreqn."""

    __slots__ = ("imr_address", "imr_ifindex", "imr_multiaddr")

    def __init__(self, multiaddr: int, address: int = 0, ifindex: int = 0) -> None:
        self.imr_multiaddr: int = multiaddr
        self.imr_address: int = address  # of the device, if ifindex is 0
        self.imr_ifindex: int = ifindex


class IpMcSocklist:
    """struct ip_mc_socklist: a membership of a sock."""

    __slots__ = ("multi",)

    def __init__(self, multi: IpMreqn) -> None:
        self.multi: IpMreqn = multi


class IpMcList:
    """struct ip_mc_list: a group that a device listens to, and how many want it."""

    __slots__ = ("multiaddr", "users")

    def __init__(self, multiaddr: int) -> None:
        self.multiaddr: int = multiaddr
        self.users: int = 1


# -- a device's groups ---------------------------------------------------------------------------------------------------------


def ip_mc_inc_group(in_dev: InDevice, addr: int) -> None:
    im = in_dev.mc_list.get(addr)
    if im is not None:
        im.users += 1
        return
    in_dev.mc_list[addr] = IpMcList(addr)


def ip_mc_dec_group(in_dev: InDevice, addr: int) -> None:
    im = in_dev.mc_list.get(addr)
    if im is None:
        return
    im.users -= 1
    if im.users == 0:
        del in_dev.mc_list[addr]


def ip_check_mc(in_dev: InDevice, mc_addr: int, src_addr: int, proto: int) -> bool:
    """ip_check_mc_rcu: whether somebody here listens to the group on this device."""
    return mc_addr in in_dev.mc_list


def ip_check_mc_rcu(in_dev: InDevice, mc_addr: int, src_addr: int, proto: int) -> bool:
    return mc_addr in in_dev.mc_list


def ip_mc_up(in_dev: InDevice) -> None:
    """RFC 1112: a host is always in the all-hosts group."""
    ip_mc_inc_group(in_dev, INADDR_ALLHOSTS_GROUP)


def ip_mc_down(in_dev: InDevice) -> None:
    ip_mc_dec_group(in_dev, INADDR_ALLHOSTS_GROUP)


# -- a sock's groups -------------------------------------------------------------------------------------------------------------


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


def ip_mc_join_group(sk: InetSock, imr: IpMreqn) -> int:
    """0, -EINVAL (no group), -ENODEV, -EADDRINUSE (joined already), -ENOBUFS (igmp_max_memberships)."""
    addr = imr.imr_multiaddr
    if not ipv4_is_multicast(addr):
        return -EINVAL
    net = sk.sk_net
    in_dev = ip_mc_find_dev(net, imr)
    if in_dev is None:
        return -ENODEV
    cold = ip_sockglue.inet_cold(sk)
    for iml in cold.mc_list:
        if iml.multi.imr_multiaddr == addr and iml.multi.imr_ifindex == imr.imr_ifindex:
            return -EADDRINUSE
    if len(cold.mc_list) >= net.ipv4.sysctl_igmp_max_memberships:
        return -ENOBUFS
    cold.mc_list.insert(0, IpMcSocklist(imr))
    ip_mc_inc_group(in_dev, addr)
    return 0


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
        multi = memberships[i].multi
        if multi.imr_multiaddr != group:
            continue
        if imr.imr_ifindex:
            if multi.imr_ifindex != imr.imr_ifindex:
                continue
        elif imr.imr_address and imr.imr_address != multi.imr_address:
            continue
        del memberships[i]
        if in_dev is not None:
            ip_mc_dec_group(in_dev, group)
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
        if in_dev is not None:
            ip_mc_dec_group(in_dev, iml.multi.imr_multiaddr)


def ip_mc_sf_allow(sk: InetSock, loc_addr: int, rmt_addr: int, dif: int) -> bool:
    """Whether a packet to `loc_addr` that came by device `dif` is for this sock: it joined there, or has IP_MULTICAST_ALL."""
    if not ipv4_is_multicast(loc_addr):
        return True
    cold = sk.inet_cold
    if cold is not None:
        for iml in cold.mc_list:
            if iml.multi.imr_multiaddr == loc_addr and iml.multi.imr_ifindex == dif:
                return True
    return sk.inet_flags >> INET_FLAGS_MC_ALL & 1 == 1


# -- registration ----------------------------------------------------------------------------------------------------------------


class IgmpProtocol(NetProtocol):
    """igmp_protocol: raw socks have had their copy; what is left is checked and let go."""

    __slots__ = ()

    def handler(self, skb: SkBuff) -> int:
        return igmp_rcv(skb)


def igmp_rcv(skb: SkBuff) -> int:
    data = skb_tobytes(skb)
    if len(data) < IGMP_HLEN:
        kfree_skb_reason(net_of(skb), skb, SKB_DROP_REASON_PKT_TOO_SMALL)
    elif ip_compute_csum(data, 0, len(data)):
        kfree_skb_reason(net_of(skb), skb, SKB_DROP_REASON_NOT_SPECIFIED)
    else:
        consume_skb(skb)
    return 0


class IgmpNotifier(NotifierBlock):
    """The all-hosts group follows the device; devinet's own notifier, which comes first, has made the in_device."""

    __slots__ = ()

    def notifier_call(self, event: int, data: object) -> int:
        if not isinstance(data, NetDevice):
            return 0
        in_dev = data.ip_ptr
        if in_dev is None:
            return 0
        if event == NETDEV_UP:
            ip_mc_up(in_dev)
        elif event == NETDEV_DOWN or event == NETDEV_UNREGISTER:
            ip_mc_down(in_dev)
        return 0


def igmp_mc_init(kernel: Kernel) -> None:
    dev_core.register_netdevice_notifier(kernel, IgmpNotifier())
