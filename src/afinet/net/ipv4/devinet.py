"""net/ipv4/devinet.c and include/linux/inetdevice.h: the IPv4 side of a device: its addresses and its settings.

An address enters by `inet_addr_add` (`ip addr add`) or the SIOCSIF* requests, goes through `inet_insert_ifa`, which keeps the list
of its device in Linux's order (primaries by falling scope, then secondaries) and tells `kernel.inetaddr_chain`; fib_frontend.py
hears it there and makes the local, connected and broadcast routes. Devices come and go through `kernel.netdev_chain`
(`InetdevNotifier`): registered -> `inetdev_init`, up -> loopback gets 127.0.0.1/8, unregistered -> `inetdev_destroy`.

The settings under net/ipv4/conf/ are `Ipv4Devconf`; what a packet meets is a combination of the device's own and `all`'s, through
the IN_DEV_* functions. Device requests that are not about addresses (`dev_ioctl`) are in dev_ioctl.py, the sysctl handlers in
py.

Left out: netlink messages, lifetimes of addresses (all are permanent), address labels beyond the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.notifier import NotifierBlock, call_notifiers
from afinet.kernel.sysctl import CtlTable, register_sysctl
from afinet.kernel.task import ns_capable
from afinet.net.core import dev as dev_core
from afinet.net.core import dev_ioctl
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import PernetOperations, register_pernet_subsys
from afinet.net.core.netdevice import (
    NETDEV_CHANGEADDR,
    NETDEV_CHANGEMTU,
    NETDEV_CHANGENAME,
    NETDEV_DOWN,
    NETDEV_REGISTER,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    NetDevice,
    dev_net,
)
from afinet.net.ipv4 import arp, fib_frontend, fib_trie, igmp, route
from afinet.net.ipv4.ip_fib import FIB_LOOKUP_NOREF, FibResult
from afinet.uapi.capability import CAP_NET_ADMIN
from afinet.uapi.errno import EADDRNOTAVAIL, EEXIST, EFAULT, EINVAL, ENOBUFS, ENODEV, EPERM
from afinet.uapi.if_ import IFF_BROADCAST, IFF_LOOPBACK, IFF_POINTOPOINT, IFF_UP, IFNAMSIZ
from afinet.uapi.if_addr import IFA_F_PERMANENT, IFA_F_SECONDARY, IFAPROT_KERNEL_LO
from afinet.uapi.if_arp import ARPOP_REQUEST
from afinet.uapi.in_ import INADDR_ANY, INADDR_LOOPBACK
from afinet.uapi.rtnetlink import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RT_TABLE_LOCAL, RTN_LOCAL
from afinet.uapi.sockaddr import SIZEOF_IFREQ, get_be32, pack_sockaddr_in, sa_family
from afinet.uapi.socket import AF_INET
from afinet.uapi.sockios import (
    SIOCGIFADDR,
    SIOCGIFBRDADDR,
    SIOCGIFDSTADDR,
    SIOCGIFNETMASK,
    SIOCSIFADDR,
    SIOCSIFBRDADDR,
    SIOCSIFDSTADDR,
    SIOCSIFFLAGS,
    SIOCSIFNETMASK,
)

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net
    from afinet.net.ipv4.igmp import IgmpGqTimer, IgmpIfcTimer, IpMcList

# A device whose MTU cannot carry the smallest IPv4 packet that need not be fragmented (RFC 791: 68) has no IPv4 side.
IPV4_MIN_MTU: Final = 68


class Ipv4Devconf:
    """struct ipv4_devconf: one directory under net/ipv4/conf/. The values are Linux's compiled-in ones.

    `state` has a bit for each setting that somebody has set (in the order of DEVCONF_FIELDS): what is not set
    follows writes to conf/default.
    """

    __slots__ = (
        "accept_local",
        "accept_redirects",
        "accept_source_route",
        "arp_accept",
        "arp_announce",
        "arp_evict_nocarrier",
        "arp_filter",
        "arp_ignore",
        "arp_notify",
        "bc_forwarding",
        "drop_gratuitous_arp",
        "drop_unicast_in_l2_multicast",
        "force_igmp_version",
        "forwarding",
        "igmpv2_unsolicited_report_interval",
        "igmpv3_unsolicited_report_interval",
        "ignore_routes_with_linkdown",
        "log_martians",
        "mc_forwarding",
        "medium_id",
        "promote_secondaries",
        "proxy_arp",
        "proxy_arp_pvlan",
        "route_localnet",
        "rp_filter",
        "secure_redirects",
        "send_redirects",
        "shared_media",
        "src_valid_mark",
        "state",
    )

    def __init__(self) -> None:
        self.state: int = 0
        self.forwarding: int = 0
        self.mc_forwarding: int = 0
        self.bc_forwarding: int = 0
        self.accept_redirects: int = 1
        self.secure_redirects: int = 1
        self.shared_media: int = 1
        self.rp_filter: int = 0
        self.send_redirects: int = 1
        self.accept_source_route: int = 0
        self.accept_local: int = 0
        self.src_valid_mark: int = 0
        self.proxy_arp: int = 0
        self.medium_id: int = 0
        self.log_martians: int = 0
        self.arp_filter: int = 0
        self.arp_announce: int = 0
        self.arp_ignore: int = 0
        self.arp_accept: int = 0
        self.arp_notify: int = 0
        self.arp_evict_nocarrier: int = 1
        self.proxy_arp_pvlan: int = 0
        self.force_igmp_version: int = 0
        self.igmpv2_unsolicited_report_interval: int = 10000  # ms
        self.igmpv3_unsolicited_report_interval: int = 1000
        self.ignore_routes_with_linkdown: int = 0
        self.drop_gratuitous_arp: int = 0
        self.drop_unicast_in_l2_multicast: int = 0
        self.promote_secondaries: int = 0
        self.route_localnet: int = 0

    def assign(self, source: Ipv4Devconf) -> None:
        """Take over all values of `source`, and which of them were set."""
        self.state = source.state
        self.forwarding = source.forwarding
        self.mc_forwarding = source.mc_forwarding
        self.bc_forwarding = source.bc_forwarding
        self.accept_redirects = source.accept_redirects
        self.secure_redirects = source.secure_redirects
        self.shared_media = source.shared_media
        self.rp_filter = source.rp_filter
        self.send_redirects = source.send_redirects
        self.accept_source_route = source.accept_source_route
        self.accept_local = source.accept_local
        self.src_valid_mark = source.src_valid_mark
        self.proxy_arp = source.proxy_arp
        self.medium_id = source.medium_id
        self.log_martians = source.log_martians
        self.arp_filter = source.arp_filter
        self.arp_announce = source.arp_announce
        self.arp_ignore = source.arp_ignore
        self.arp_accept = source.arp_accept
        self.arp_notify = source.arp_notify
        self.arp_evict_nocarrier = source.arp_evict_nocarrier
        self.proxy_arp_pvlan = source.proxy_arp_pvlan
        self.force_igmp_version = source.force_igmp_version
        self.igmpv2_unsolicited_report_interval = source.igmpv2_unsolicited_report_interval
        self.igmpv3_unsolicited_report_interval = source.igmpv3_unsolicited_report_interval
        self.ignore_routes_with_linkdown = source.ignore_routes_with_linkdown
        self.drop_gratuitous_arp = source.drop_gratuitous_arp
        self.drop_unicast_in_l2_multicast = source.drop_unicast_in_l2_multicast
        self.promote_secondaries = source.promote_secondaries
        self.route_localnet = source.route_localnet


class InIfaddr:
    """struct in_ifaddr: one address of a device. `ifa_address` is the peer's on a point-to-point link, else `ifa_local`."""

    __slots__ = (
        "ifa_address",
        "ifa_broadcast",
        "ifa_dev",
        "ifa_flags",
        "ifa_label",
        "ifa_local",
        "ifa_mask",
        "ifa_prefixlen",
        "ifa_proto",
        "ifa_rt_priority",
        "ifa_scope",
    )

    def __init__(self, in_dev: InDevice, local: int, prefixlen: int) -> None:
        self.ifa_dev: InDevice = in_dev
        self.ifa_local: int = local
        self.ifa_address: int = local
        self.ifa_mask: int = inet_make_mask(prefixlen)
        self.ifa_prefixlen: int = prefixlen
        self.ifa_broadcast: int = 0
        self.ifa_scope: int = RT_SCOPE_UNIVERSE
        self.ifa_flags: int = 0  # IFA_F_*
        self.ifa_label: str = in_dev.dev.name
        self.ifa_proto: int = 0  # IFAPROT_*
        self.ifa_rt_priority: int = 0  # metric of the connected route


class InDevice:
    """struct in_device: what IPv4 keeps for a device. `mc_*` and `mr_*` are igmp.py's."""

    __slots__ = (
        "cnf",
        "cnf_all",
        "conf_name",
        "dead",
        "dev",
        "ifa_list",
        "mc_list",
        "mc_tomb",
        "mr_gq_timer",
        "mr_ifc_count",
        "mr_ifc_timer",
        "mr_maxdelay",
        "mr_qi",
        "mr_qri",
        "mr_qrv",
        "mr_v1_seen",
        "mr_v2_seen",
        "net",
        "orig_mtu",
    )

    def __init__(self, net: Net, dev: NetDevice, cnf: Ipv4Devconf) -> None:
        self.net: Net = net
        self.dev: NetDevice = dev
        self.cnf: Ipv4Devconf = cnf
        self.cnf_all: Ipv4Devconf = net.ipv4.devconf_all
        self.ifa_list: list[InIfaddr] = []
        self.dead: bool = False
        self.conf_name: str = dev.name  # under which the settings are registered
        self.orig_mtu: int = dev.mtu  # before a change of which NETDEV_CHANGEMTU tells
        self.mc_list: dict[int, IpMcList] = {}  # by group
        self.mc_tomb: list[IpMcList] = []  # groups that went, newest first, until that has been told
        self.mr_v1_seen: int = 0  # ns; until then an older querier counts as heard
        self.mr_v2_seen: int = 0
        self.mr_maxdelay: int = 0  # ns, of the last query
        self.mr_qi: int = 0  # ns; the querier's interval
        self.mr_qri: int = 0  # ns; within which it wants answers
        self.mr_qrv: int = 0  # its robustness variable
        self.mr_ifc_count: int = 0  # reports of changes still to come
        self.mr_gq_timer: IgmpGqTimer | None = None
        self.mr_ifc_timer: IgmpIfcTimer | None = None


def inet_make_mask(logmask: int) -> int:
    """The netmask of a prefix length."""
    return (0xFFFFFFFF << (32 - logmask)) & 0xFFFFFFFF


def inet_mask_len(mask: int) -> int:
    """The prefix length of a netmask."""
    return 32 - (0xFFFFFFFF ^ mask).bit_length()


def bad_mask(mask: int, addr: int) -> bool:
    """Whether `mask` is no netmask, or `addr` has bits outside it."""
    if addr & ~mask:
        return True
    host = 0xFFFFFFFF ^ mask
    return host & (host + 1) != 0


def inet_ifa_match(addr: int, ifa: InIfaddr) -> bool:
    """Whether `addr` is on the subnet of `ifa`."""
    return (addr ^ ifa.ifa_address) & ifa.ifa_mask == 0


# -- settings, as a packet meets them ------------------------------------------------------------------------------------------
# IN_DEV_CONF_GET: the device's. ANDCONF, ORCONF, MAXCONF: combined with conf/all's.


def IN_DEV_FORWARD(in_dev: InDevice) -> bool:
    return in_dev.cnf.forwarding != 0


def IN_DEV_BFORWARD(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.bc_forwarding != 0 and in_dev.cnf.bc_forwarding != 0


def IN_DEV_RPFILTER(in_dev: InDevice) -> int:
    return max(in_dev.cnf_all.rp_filter, in_dev.cnf.rp_filter)


def IN_DEV_SRC_VMARK(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.src_valid_mark != 0 or in_dev.cnf.src_valid_mark != 0


def IN_DEV_SOURCE_ROUTE(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.accept_source_route != 0 and in_dev.cnf.accept_source_route != 0


def IN_DEV_ACCEPT_LOCAL(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.accept_local != 0 or in_dev.cnf.accept_local != 0


def IN_DEV_LOG_MARTIANS(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.log_martians != 0 or in_dev.cnf.log_martians != 0


def IN_DEV_PROXY_ARP(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.proxy_arp != 0 or in_dev.cnf.proxy_arp != 0


def IN_DEV_PROXY_ARP_PVLAN(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.proxy_arp_pvlan != 0 or in_dev.cnf.proxy_arp_pvlan != 0


def IN_DEV_SHARED_MEDIA(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.shared_media != 0 or in_dev.cnf.shared_media != 0


def IN_DEV_TX_REDIRECTS(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.send_redirects != 0 or in_dev.cnf.send_redirects != 0


def IN_DEV_SEC_REDIRECTS(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.secure_redirects != 0 or in_dev.cnf.secure_redirects != 0


def IN_DEV_RX_REDIRECTS(in_dev: InDevice) -> bool:
    """A router believes redirects only if both say so, a host if either does (RFC 1812, 5.2.7.2)."""
    if in_dev.cnf.forwarding:
        return in_dev.cnf_all.accept_redirects != 0 and in_dev.cnf.accept_redirects != 0
    return in_dev.cnf_all.accept_redirects != 0 or in_dev.cnf.accept_redirects != 0


def IN_DEV_MEDIUM_ID(in_dev: InDevice) -> int:
    return in_dev.cnf.medium_id


def IN_DEV_PROMOTE_SECONDARIES(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.promote_secondaries != 0 or in_dev.cnf.promote_secondaries != 0


def IN_DEV_ROUTE_LOCALNET(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.route_localnet != 0 or in_dev.cnf.route_localnet != 0


def IN_DEV_IGNORE_ROUTES_WITH_LINKDOWN(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.ignore_routes_with_linkdown != 0 or in_dev.cnf.ignore_routes_with_linkdown != 0


def IN_DEV_ARPFILTER(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.arp_filter != 0 or in_dev.cnf.arp_filter != 0


def IN_DEV_ARP_ACCEPT(in_dev: InDevice) -> int:
    return max(in_dev.cnf_all.arp_accept, in_dev.cnf.arp_accept)


def IN_DEV_ARP_ANNOUNCE(in_dev: InDevice) -> int:
    return max(in_dev.cnf_all.arp_announce, in_dev.cnf.arp_announce)


def IN_DEV_ARP_IGNORE(in_dev: InDevice) -> int:
    return max(in_dev.cnf_all.arp_ignore, in_dev.cnf.arp_ignore)


def IN_DEV_ARP_NOTIFY(in_dev: InDevice) -> bool:
    return max(in_dev.cnf_all.arp_notify, in_dev.cnf.arp_notify) != 0


def IN_DEV_ARP_EVICT_NOCARRIER(in_dev: InDevice) -> bool:
    return in_dev.cnf_all.arp_evict_nocarrier != 0 and in_dev.cnf.arp_evict_nocarrier != 0


# -- devices -------------------------------------------------------------------------------------------------------------------


def __in_dev_get(dev: NetDevice) -> InDevice | None:
    """__in_dev_get_rcu and its sisters: the IPv4 side of `dev`, None if it has none."""
    return dev.ip_ptr


def inetdev_by_index(net: Net, ifindex: int) -> InDevice | None:
    dev = net.dev_by_index.get(ifindex)
    return None if dev is None else dev.ip_ptr


def inetdev_valid_mtu(mtu: int) -> bool:
    return mtu >= IPV4_MIN_MTU


def inetdev_init(dev: NetDevice) -> InDevice:
    """Give `dev` an IPv4 side, with the settings of conf/default."""
    net = dev_net(dev)
    cnf = Ipv4Devconf()
    cnf.assign(net.ipv4.devconf_dflt)
    cnf.state = 0
    in_dev = InDevice(net, dev, cnf)
    devinet_sysctl_register(in_dev)
    igmp.ip_mc_init_dev(in_dev)
    dev.ip_ptr = in_dev
    if dev.flags & IFF_UP:
        igmp.ip_mc_up(in_dev)
    return in_dev


def inetdev_destroy(in_dev: InDevice) -> None:
    """The device leaves: its addresses go first, and their routes with them."""
    in_dev.dead = True
    igmp.ip_mc_destroy_dev(in_dev)
    while in_dev.ifa_list:
        inet_del_ifa(in_dev, in_dev.ifa_list[0])
    devinet_sysctl_unregister(in_dev)
    in_dev.dev.ip_ptr = None


def inetdev_event(event: int, dev: NetDevice) -> int:
    in_dev = dev.ip_ptr
    if in_dev is None:
        if event == NETDEV_REGISTER:
            inetdev_init(dev)
        elif event == NETDEV_CHANGEMTU and inetdev_valid_mtu(dev.mtu):
            inetdev_init(dev)  # it was lost to an MTU that was too small
        return 0
    if event == NETDEV_UP:
        if not inetdev_valid_mtu(dev.mtu):
            return 0
        if dev.flags & IFF_LOOPBACK and not in_dev.ifa_list:
            ifa = InIfaddr(in_dev, INADDR_LOOPBACK, 8)
            ifa.ifa_scope = RT_SCOPE_HOST
            ifa.ifa_flags = IFA_F_PERMANENT
            ifa.ifa_proto = IFAPROT_KERNEL_LO
            ipv4_devconf_setall(in_dev.cnf)
            inet_insert_ifa(ifa)
        igmp.ip_mc_up(in_dev)
    elif event == NETDEV_DOWN:
        igmp.ip_mc_down(in_dev)
    elif event == NETDEV_CHANGEMTU:
        if not inetdev_valid_mtu(dev.mtu):
            inetdev_destroy(in_dev)
    elif event == NETDEV_UNREGISTER:
        inetdev_destroy(in_dev)
    elif event == NETDEV_CHANGENAME:
        inetdev_changename(dev, in_dev)
        devinet_sysctl_unregister(in_dev)
        devinet_sysctl_register(in_dev)
    if (event == NETDEV_UP or event == NETDEV_CHANGEADDR) and IN_DEV_ARP_NOTIFY(in_dev):
        inetdev_send_gratuitous_arp(dev, in_dev)
    return 0


def inetdev_changename(dev: NetDevice, in_dev: InDevice) -> None:
    """Labels begin with the device's name: the first address gets it alone, the others keep their alias, or get a number."""
    for i, ifa in enumerate(in_dev.ifa_list):
        if i == 0:
            ifa.ifa_label = dev.name
            continue
        colon = ifa.ifa_label.find(":")
        suffix = ifa.ifa_label[colon:] if colon >= 0 else f":{i + 1}"
        ifa.ifa_label = dev.name[: IFNAMSIZ - 1 - len(suffix)] + suffix


def inetdev_send_gratuitous_arp(dev: NetDevice, in_dev: InDevice) -> None:
    """Tell the link our addresses (arp_notify)."""
    for ifa in in_dev.ifa_list:
        arp.arp_send(ARPOP_REQUEST, ifa.ifa_local, dev, ifa.ifa_local, arp.ARP_BROADCAST, dev.dev_addr, 0)


class InetdevNotifier(NotifierBlock):
    """ip_netdev_notifier."""

    __slots__ = ()

    def notifier_call(self, event: int, data: object) -> int:
        if isinstance(data, NetDevice):
            return inetdev_event(event, data)
        return 0


# -- addresses -----------------------------------------------------------------------------------------------------------------


def inet_hash_insert(net: Net, ifa: InIfaddr) -> None:
    same = net.ipv4.inet_addr_lst.get(ifa.ifa_local)
    if same is None:
        net.ipv4.inet_addr_lst[ifa.ifa_local] = [ifa]
    else:
        same.insert(0, ifa)  # the newest is met first, as in an hlist


def inet_hash_remove(ifa: InIfaddr) -> None:
    table = ifa.ifa_dev.net.ipv4.inet_addr_lst
    same = table.get(ifa.ifa_local)
    if same is None:
        return
    for i in range(len(same)):
        if same[i] is ifa:
            del same[i]
            break
    if not same:
        del table[ifa.ifa_local]


def inet_lookup_ifaddr_rcu(net: Net, addr: int) -> InIfaddr | None:
    """An address of this namespace that equals `addr`."""
    same = net.ipv4.inet_addr_lst.get(addr)
    return None if same is None else same[0]


def inet_insert_ifa(ifa: InIfaddr) -> int:
    """Put the address on its device. 0, -EEXIST, or -EINVAL (its subnet is there with another scope)."""
    in_dev = ifa.ifa_dev
    ifa.ifa_flags &= ~IFA_F_SECONDARY
    if ifa.ifa_local == INADDR_ANY:
        return 0  # `ifconfig dev 0.0.0.0`: no address
    place = 0  # behind the last primary of the same or a wider scope
    i = 0
    for ifa1 in in_dev.ifa_list:
        i += 1
        if not ifa1.ifa_flags & IFA_F_SECONDARY and ifa.ifa_scope <= ifa1.ifa_scope:
            place = i
        if ifa1.ifa_mask == ifa.ifa_mask and inet_ifa_match(ifa1.ifa_address, ifa):
            if ifa1.ifa_local == ifa.ifa_local:
                return -EEXIST
            if ifa1.ifa_scope != ifa.ifa_scope:
                return -EINVAL
            ifa.ifa_flags |= IFA_F_SECONDARY
    if ifa.ifa_flags & IFA_F_SECONDARY:
        place = i
    in_dev.ifa_list.insert(place, ifa)
    inet_hash_insert(in_dev.net, ifa)
    call_notifiers(in_dev.net.kernel.inetaddr_chain, NETDEV_UP, ifa)
    return 0


def inet_del_ifa(in_dev: InDevice, ifa1: InIfaddr) -> None:
    """Take `ifa1` off. A primary takes its secondaries along, unless promote_secondaries puts the first of them in its place."""
    kernel = in_dev.net.kernel
    ifas = in_dev.ifa_list
    promote: InIfaddr | None = None
    same_subnet: list[InIfaddr] = []  # secondaries of `ifa1`'s subnet, in order
    last_prim = ifas[0]
    if not ifa1.ifa_flags & IFA_F_SECONDARY:
        for ifa in ifas[ifas.index(ifa1) + 1 :]:
            if not ifa.ifa_flags & IFA_F_SECONDARY:
                if ifa1.ifa_scope <= ifa.ifa_scope and promote is None:
                    last_prim = ifa
            elif ifa1.ifa_mask == ifa.ifa_mask and inet_ifa_match(ifa1.ifa_address, ifa):
                same_subnet.append(ifa)
                if promote is None:
                    promote = ifa
        if not IN_DEV_PROMOTE_SECONDARIES(in_dev):
            promote = None
            for ifa in same_subnet:
                inet_hash_remove(ifa)
                ifas.remove(ifa)
                call_notifiers(kernel.inetaddr_chain, NETDEV_DOWN, ifa)
    if promote is not None:
        # Their routes name the old primary as source: away with them silently, they come back with the new one.
        for ifa in same_subnet:
            fib_frontend.fib_del_ifaddr(ifa, ifa1)
    ifas.remove(ifa1)
    inet_hash_remove(ifa1)
    call_notifiers(kernel.inetaddr_chain, NETDEV_DOWN, ifa1)
    if promote is not None:
        if last_prim is not ifa1:
            ifas.remove(promote)
            ifas.insert(ifas.index(last_prim) + 1, promote)
        promote.ifa_flags &= ~IFA_F_SECONDARY
        call_notifiers(kernel.inetaddr_chain, NETDEV_UP, promote)
        for ifa in same_subnet:
            if ifa is not promote:
                fib_frontend.fib_add_ifaddr(ifa)


def inet_addr_add(
    dev: NetDevice,
    local: int,
    prefixlen: int,
    address: int = 0,
    broadcast: int = 0,
    scope: int = RT_SCOPE_UNIVERSE,
    flags: int = 0,
    label: str = "",
    rt_priority: int = 0,
    proto: int = 0,
) -> int:
    """`ip addr add local/prefixlen dev`: inet_rtm_newaddr. `address` is the peer's, if there is one.

    0, -EEXIST, -EINVAL (a prefix length over 32, or a scope that contradicts the subnet's), -ENOBUFS (the device has no IPv4 side).
    """
    if not 0 <= prefixlen <= 32:
        return -EINVAL
    in_dev = dev.ip_ptr
    if in_dev is None:
        return -ENOBUFS
    ipv4_devconf_setall(in_dev.cnf)
    ifa = InIfaddr(in_dev, local, prefixlen)
    if address:
        ifa.ifa_address = address
    ifa.ifa_broadcast = broadcast
    ifa.ifa_scope = scope
    ifa.ifa_flags = flags | IFA_F_PERMANENT
    if label:
        ifa.ifa_label = label
    ifa.ifa_rt_priority = rt_priority
    ifa.ifa_proto = proto
    return inet_insert_ifa(ifa)


def inet_addr_del(dev: NetDevice, local: int, prefixlen: int = 32) -> int:
    """`ip addr del local/prefixlen dev`: inet_rtm_deladdr. 0 or -EADDRNOTAVAIL."""
    in_dev = dev.ip_ptr
    if in_dev is None:
        return -EADDRNOTAVAIL
    for ifa in in_dev.ifa_list:
        if ifa.ifa_local == local and ifa.ifa_prefixlen == prefixlen:
            inet_del_ifa(in_dev, ifa)
            return 0
    return -EADDRNOTAVAIL


# -- questions -----------------------------------------------------------------------------------------------------------------


def ip_dev_find(net: Net, addr: int) -> NetDevice | None:
    """The device that owns `addr`; for an address of a local subnet such as 127/8, the one its local route names."""
    ifa = inet_lookup_ifaddr_rcu(net, addr)
    if ifa is not None:
        return ifa.ifa_dev.dev
    local = fib_frontend.fib_get_table(net, RT_TABLE_LOCAL)
    res = FibResult()
    if local is None or fib_trie.fib_table_lookup(local, Flowi4(daddr=addr), res, FIB_LOOKUP_NOREF):
        return None
    return res.nhc.nhc_dev if res.type == RTN_LOCAL and res.nhc is not None else None


def inet_addr_onlink(in_dev: InDevice, a: int, b: int) -> bool:
    """Whether one primary subnet of the device holds `a`, and `b` too unless it is 0."""
    for ifa in in_dev.ifa_list:
        if not ifa.ifa_flags & IFA_F_SECONDARY and inet_ifa_match(a, ifa) and (b == 0 or inet_ifa_match(b, ifa)):
            return True
    return False


def inet_ifa_byprefix(in_dev: InDevice, prefix: int, mask: int) -> InIfaddr | None:
    for ifa in in_dev.ifa_list:
        if ifa.ifa_mask == mask and inet_ifa_match(prefix, ifa):
            return ifa
    return None


def in_dev_select_addr(in_dev: InDevice, scope: int) -> int:
    for ifa in in_dev.ifa_list:
        if ifa.ifa_flags & IFA_F_SECONDARY:
            continue
        if ifa.ifa_scope != RT_SCOPE_LINK and ifa.ifa_scope <= scope:
            return ifa.ifa_local
    return 0


def inet_select_addr(dev: NetDevice, dst: int, scope: int) -> int:
    """A source address for packets that leave by `dev` towards `dst` (0: anywhere), valid in `scope`. 0: there is none."""
    in_dev = dev.ip_ptr
    if in_dev is not None:
        localnet_scope = RT_SCOPE_LINK if IN_DEV_ROUTE_LOCALNET(in_dev) else RT_SCOPE_HOST
        addr = 0
        for ifa in in_dev.ifa_list:
            if ifa.ifa_flags & IFA_F_SECONDARY or min(ifa.ifa_scope, localnet_scope) > scope:
                continue
            if dst == 0 or inet_ifa_match(dst, ifa):
                return ifa.ifa_local
            if addr == 0:
                addr = ifa.ifa_local
        if addr:
            return addr
    # None of its own: another device's will do. The loopback device comes first, so that an address put there is preferred.
    for other in dev_net(dev).dev_by_index.values():
        in_dev = other.ip_ptr
        if in_dev is not None:
            addr = in_dev_select_addr(in_dev, scope)
            if addr:
                return addr
    return 0


def confirm_addr_indev(in_dev: InDevice, dst: int, local: int, scope: int) -> int:
    localnet_scope = RT_SCOPE_LINK if IN_DEV_ROUTE_LOCALNET(in_dev) else RT_SCOPE_HOST
    addr = 0
    same = False
    for ifa in in_dev.ifa_list:
        min_scope = min(ifa.ifa_scope, localnet_scope)
        if addr == 0 and (local == ifa.ifa_local or local == 0) and min_scope <= scope:
            addr = ifa.ifa_local
            if same:
                break
        if not same:
            same = (local == 0 or inet_ifa_match(local, ifa)) and (dst == 0 or inet_ifa_match(dst, ifa))
            if same and addr:
                if local or dst == 0:
                    break
                # Is the address that we chose on the subnet of dst?
                if inet_ifa_match(addr, ifa):
                    break
                if min_scope <= scope:
                    addr = ifa.ifa_local
                    break
                # dst is on a subnet of which we have no address in this scope
                same = False
    return addr if same else 0


def inet_confirm_addr(net: Net, in_dev: InDevice | None, dst: int, local: int, scope: int) -> int:
    """Whether `local` (0: any) may speak to `dst` (0: anywhere) over the device (None: any). The address, or 0."""
    if in_dev is not None:
        return confirm_addr_indev(in_dev, dst, local, scope)
    for dev in net.dev_by_index.values():
        other = dev.ip_ptr
        if other is not None:
            addr = confirm_addr_indev(other, dst, local, scope)
            if addr:
                return addr
    return 0


def inet_abc_len(addr: int) -> int:
    """The classful prefix length that ifconfig assumes; -1: an address nobody may have."""
    if addr == 0 or addr == 0xFFFFFFFF:
        return 0
    top = addr >> 24
    if top < 128:
        return 8
    if top < 192:
        return 16
    if top < 224:
        return 24
    if top >= 240:
        return 32
    return -1


# -- ioctl ---------------------------------------------------------------------------------------------------------------------


def find_label(in_dev: InDevice | None, label: str, addr: int) -> InIfaddr | None:
    """The address of that label, `addr` itself if it is there (0: any)."""
    if in_dev is None:
        return None
    if addr:
        for ifa in in_dev.ifa_list:
            if ifa.ifa_label == label and ifa.ifa_local == addr:
                return ifa
    for ifa in in_dev.ifa_list:
        if ifa.ifa_label == label:
            return ifa
    return None


def devinet_ioctl(net: Net, cmd: int, arg: bytes) -> tuple[int, bytes]:
    """SIOC[GS]IF{ADDR,NETMASK,BRDADDR,DSTADDR} and SIOCSIFFLAGS, as ifconfig uses them, over a packed struct ifreq whose name may
    carry a label ("eth0:1"). (0 or -errno, the struct to write back)."""
    if len(arg) < SIZEOF_IFREQ:
        return -EFAULT, b""
    setting = cmd in (SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFBRDADDR, SIOCSIFDSTADDR, SIOCSIFFLAGS)
    family = sa_family(arg[IFNAMSIZ:])
    if setting:
        if not ns_capable(net.kernel, CAP_NET_ADMIN):
            return -EPERM, b""
        if cmd != SIOCSIFFLAGS and family != AF_INET:
            return -EINVAL, b""
    elif cmd not in (SIOCGIFADDR, SIOCGIFNETMASK, SIOCGIFBRDADDR, SIOCGIFDSTADDR):
        return -EINVAL, b""
    label = dev_ioctl.ifr_name(arg)
    name, colon, _ = label.partition(":")
    dev = net.dev_by_name.get(name)
    if dev is None:
        return -ENODEV, b""
    in_dev = dev.ip_ptr
    addr = get_be32(arg, IFNAMSIZ + 4)
    if setting:
        ifa = find_label(in_dev, label, 0)
        return devinet_set(dev, in_dev, ifa, cmd, label, colon != "", addr, arg), arg
    ifa = find_label(in_dev, label, addr if family == AF_INET else 0)
    if ifa is None:
        return -EADDRNOTAVAIL, b""
    if cmd == SIOCGIFADDR:
        value = ifa.ifa_local
    elif cmd == SIOCGIFNETMASK:
        value = ifa.ifa_mask
    elif cmd == SIOCGIFBRDADDR:
        value = ifa.ifa_broadcast
    else:
        value = ifa.ifa_address
    return 0, dev_ioctl.ifreq(arg, pack_sockaddr_in(value, 0))


def devinet_set(
    dev: NetDevice, in_dev: InDevice | None, ifa: InIfaddr | None, cmd: int, label: str, alias: bool, addr: int, arg: bytes
) -> int:
    if cmd == SIOCSIFFLAGS:
        flags = arg[IFNAMSIZ] | arg[IFNAMSIZ + 1] << 8
        if not alias:
            return dev_core.dev_change_flags(dev, flags)
        if ifa is None:
            return -EADDRNOTAVAIL
        if not flags & IFF_UP:
            inet_del_ifa(ifa.ifa_dev, ifa)
        return 0
    if cmd == SIOCSIFADDR:
        plen = inet_abc_len(addr)
        if plen < 0:
            return -EINVAL
        if ifa is None:
            if in_dev is None:
                return -ENOBUFS
            ifa = InIfaddr(in_dev, addr, plen)
            ifa.ifa_label = label
        elif ifa.ifa_local == addr:
            return 0
        else:
            inet_del_ifa(ifa.ifa_dev, ifa)
        if dev.flags & IFF_POINTOPOINT:
            plen = 32
        ifa.ifa_local = addr
        ifa.ifa_address = addr
        ifa.ifa_prefixlen = plen
        ifa.ifa_mask = inet_make_mask(plen)
        ifa.ifa_broadcast = addr | (0xFFFFFFFF ^ ifa.ifa_mask) if dev.flags & IFF_BROADCAST and plen < 31 else 0
        ifa.ifa_scope = RT_SCOPE_HOST if addr >> 24 == 127 else RT_SCOPE_UNIVERSE
        ifa.ifa_flags = IFA_F_PERMANENT
        ipv4_devconf_setall(ifa.ifa_dev.cnf)
        return inet_insert_ifa(ifa)
    if ifa is None:
        return -EADDRNOTAVAIL
    if cmd == SIOCSIFBRDADDR:
        if ifa.ifa_broadcast != addr:
            inet_del_ifa(ifa.ifa_dev, ifa)
            ifa.ifa_broadcast = addr
            inet_insert_ifa(ifa)
    elif cmd == SIOCSIFDSTADDR:
        if ifa.ifa_address != addr:
            if inet_abc_len(addr) < 0:
                return -EINVAL
            inet_del_ifa(ifa.ifa_dev, ifa)
            ifa.ifa_address = addr
            inet_insert_ifa(ifa)
    else:
        if bad_mask(addr, 0):
            return -EINVAL
        if ifa.ifa_mask != addr:
            old_brd = ifa.ifa_local | (0xFFFFFFFF ^ ifa.ifa_mask)
            inet_del_ifa(ifa.ifa_dev, ifa)
            ifa.ifa_mask = addr
            ifa.ifa_prefixlen = inet_mask_len(addr)
            # A broadcast address that followed from the old mask follows the new one; any other is the user's own choice.
            if dev.flags & IFF_BROADCAST and ifa.ifa_prefixlen < 31 and ifa.ifa_broadcast == old_brd:
                ifa.ifa_broadcast = ifa.ifa_local | (0xFFFFFFFF ^ addr)
            inet_insert_ifa(ifa)
    return 0


def inet_gifconf(net: Net, size: int) -> bytes:
    """SIOCGIFCONF: a struct ifreq for each address, as many as fit into `size` bytes; -1: all (their length is what a call without
    a buffer gets)."""
    out: list[bytes] = []
    for dev in net.dev_by_index.values():
        in_dev = dev.ip_ptr
        if in_dev is None:
            continue
        for ifa in in_dev.ifa_list:
            if 0 <= size < (len(out) + 1) * SIZEOF_IFREQ:
                return b"".join(out)
            name = ifa.ifa_label.encode("latin-1")[: IFNAMSIZ - 1]
            out.append(name + bytes(IFNAMSIZ - len(name)) + pack_sockaddr_in(ifa.ifa_local, 0) + bytes(8))
    return b"".join(out)


# -- sysctl --------------------------------------------------------------------------------------------------------------------

# The files of a directory, in the kernel's order; a setting's place is its bit in Ipv4Devconf.state. Left out: bootp_relay and tag,
# which nothing reads in Linux either, disable_xfrm and disable_policy (IPsec).
DEVCONF_FIELDS: Final = (
    "forwarding", "mc_forwarding", "bc_forwarding", "accept_redirects", "secure_redirects", "shared_media", "rp_filter",
    "send_redirects", "accept_source_route", "accept_local", "src_valid_mark", "proxy_arp", "medium_id",
    "log_martians", "arp_filter", "arp_announce", "arp_ignore", "arp_accept", "arp_notify", "arp_evict_nocarrier",
    "proxy_arp_pvlan", "force_igmp_version", "igmpv2_unsolicited_report_interval", "igmpv3_unsolicited_report_interval",
    "ignore_routes_with_linkdown", "drop_gratuitous_arp", "drop_unicast_in_l2_multicast", "promote_secondaries",
    "route_localnet",
)  # fmt: skip
# A change of one of these makes cached routes wrong.
DEVCONF_FLUSHING: Final = ("promote_secondaries", "route_localnet")


def ipv4_devconf_setall(cnf: Ipv4Devconf) -> None:
    """Somebody configured this device: it no longer follows conf/default."""
    cnf.state = (1 << len(DEVCONF_FIELDS)) - 1


def inet_forward_change(net: Net) -> None:
    """conf/all/forwarding makes the whole namespace a router or a host; a router does not believe redirects."""
    ipv4 = net.ipv4
    on = ipv4.devconf_all.forwarding
    ipv4.devconf_all.accept_redirects = 0 if on else 1
    ipv4.devconf_dflt.forwarding = on
    for dev in net.dev_by_index.values():
        in_dev = dev.ip_ptr
        if in_dev is not None:
            in_dev.cnf.forwarding = on


class DevconfCtl(CtlTable):
    """devinet_conf_proc, devinet_sysctl_forward and ipv4_doint_and_flush: a setting of conf/all, conf/default or a device."""

    __slots__ = ("cnf", "net", "option")

    def __init__(self, net: Net, cnf: Ipv4Devconf, field: str, procname: str = "") -> None:
        super().__init__(procname or field, cnf, field)
        self.net: Net = net
        self.cnf: Ipv4Devconf = cnf
        self.option: int = 1 << DEVCONF_FIELDS.index(field)
        if field == "mc_forwarding":
            self.mode = 0o444  # set by a multicast routing daemon only

    def write(self, text: str) -> int:
        old = self.read()
        err = super().write(text)
        if err:
            return err
        net = self.net
        cnf = self.cnf
        value = self.read()
        cnf.state |= self.option
        if cnf is net.ipv4.devconf_dflt:
            for dev in net.dev_by_index.values():
                in_dev = dev.ip_ptr
                if in_dev is not None and not in_dev.cnf.state & self.option:
                    CtlTable(self.procname, in_dev.cnf, self.field).write(value)
        if value == old:
            return 0
        if self.field == "forwarding" and cnf is not net.ipv4.devconf_dflt:
            if cnf is net.ipv4.devconf_all:
                inet_forward_change(net)
            route.rt_cache_flush(net)
        elif self.field in DEVCONF_FLUSHING:
            route.rt_cache_flush(net)
        elif (self.field == "accept_local" or self.field == "route_localnet") and value == "0":
            route.rt_cache_flush(net)
        return 0


def devconf_entries(net: Net, cnf: Ipv4Devconf) -> list[CtlTable]:
    entries: list[CtlTable] = []
    for field in DEVCONF_FIELDS:
        entries.append(DevconfCtl(net, cnf, field))
    return entries


def devinet_sysctl_register(in_dev: InDevice) -> None:
    in_dev.conf_name = in_dev.dev.name
    register_sysctl(in_dev.net.sysctl_table, f"net/ipv4/conf/{in_dev.conf_name}", devconf_entries(in_dev.net, in_dev.cnf))


def devinet_sysctl_unregister(in_dev: InDevice) -> None:
    for field in DEVCONF_FIELDS:
        in_dev.net.sysctl_table.pop(f"net/ipv4/conf/{in_dev.conf_name}/{field}", None)


def devinet_sysctl_init_net(net: Net) -> None:
    ipv4 = net.ipv4
    register_sysctl(net.sysctl_table, "net/ipv4/conf/all", devconf_entries(net, ipv4.devconf_all))
    register_sysctl(net.sysctl_table, "net/ipv4/conf/default", devconf_entries(net, ipv4.devconf_dflt))
    forward: list[CtlTable] = [DevconfCtl(net, ipv4.devconf_all, "forwarding", "ip_forward")]
    register_sysctl(net.sysctl_table, "net/ipv4", forward)


# -- boot ----------------------------------------------------------------------------------------------------------------------


class DevinetNetOps(PernetOperations):
    """devinet_ops."""

    __slots__ = ()

    def init(self, net: Net) -> int:
        """conf/all and conf/default. A later namespace begins with the settings of the first (devconf_inherit_init_net = 0)."""
        ipv4 = net.ipv4
        ipv4.devconf_all = Ipv4Devconf()
        ipv4.devconf_dflt = Ipv4Devconf()
        ipv4.devconf_dflt.accept_source_route = 1
        init_net = net.kernel.init_net
        if init_net is not None and init_net is not net:
            ipv4.devconf_all.assign(init_net.ipv4.devconf_all)
            ipv4.devconf_dflt.assign(init_net.ipv4.devconf_dflt)
        devinet_sysctl_init_net(net)
        return 0


def devinet_init(kernel: Kernel) -> None:
    register_pernet_subsys(kernel, DevinetNetOps())
    kernel.netdev_chain.append(InetdevNotifier())
