"""net/ipv4/arp.c: the Address Resolution Protocol (RFC 826), and the neighbour table of IPv4.

Receiving: arp_rcv -> arp_process answers requests for our addresses and tells the table what it heard. Sending: the table's state
machine (net/core/neighbour.py) calls ArpTable.solicit -> arp_solicit -> arp_send.

What is believed is Linux's choice: a request makes an entry only if it is for us and leaves it STALE, an unasked reply changes
an entry but makes none (arp_accept), a reply to us confirms, and within `locktime` of a change the first answer wins. Hostile
packets of any kind are dropped with a reason. A router with proxy_arp answers for those whom it would reach by another device
(arp_fwd_proxy), with proxy_arp_pvlan for those on the same (arp_fwd_pvlan).

Left out: the ioctls (neigh_add and neigh_delete do their work), hardware other than Ethernet, IEEE 802.11's and Frame
Relay's special cases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.notifier import NotifierBlock
from afinet.net.core import dev as dev_core
from afinet.net.core import neighbour
from afinet.net.core.drop_reason import SKB_DROP_REASON_NEIGH_FAILED, SKB_DROP_REASON_NOT_SPECIFIED, SKB_DROP_REASON_PKT_TOO_SMALL
from afinet.net.core.eth import dev_hard_header
from afinet.net.core.flow import Flowi4
from afinet.net.core.neigh_proxy import pneigh_enqueue
from afinet.net.core.neighbour import (
    NEIGH_UPDATE_F_ADMIN,
    NEIGH_UPDATE_F_OVERRIDE,
    NUD_VALID,
    Neighbour,
    NeighTable,
    neigh_create,
    neigh_lookup,
    neigh_update,
)
from afinet.net.core.net_namespace import PernetOperations, register_pernet_subsys
from afinet.net.core.netdevice import (
    NETDEV_CHANGE,
    NETDEV_CHANGEADDR,
    NETDEV_CHANGENAME,
    NETDEV_REGISTER,
    NETDEV_UNREGISTER,
    NetDevice,
    PacketType,
    dev_net,
)
from afinet.net.core.skbuff import SkBuff, alloc_skb, consume_skb, kfree_skb_reason, pskb_may_pull
from afinet.net.ipv4 import devinet, fib_frontend, route
from afinet.net.ipv4.rtable import Rtable
from afinet.uapi.errno import EINVAL, ENXIO
from afinet.uapi.if_ import IFF_LOOPBACK, IFF_NOARP, IFF_POINTOPOINT
from afinet.uapi.if_ether import ETH_P_ARP, ETH_P_IP
from afinet.uapi.if_packet import PACKET_HOST, PACKET_LOOPBACK, PACKET_OTHERHOST
from afinet.uapi.neighbour import NUD_FAILED, NUD_NOARP, NUD_PERMANENT, NUD_REACHABLE, NUD_STALE
from afinet.uapi.rtnetlink import RT_SCOPE_HOST, RT_SCOPE_LINK, RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, RTN_UNICAST
from afinet.uapi.snmp import LINUX_MIB_ARPFILTER
from afinet.wire import arp as arp_wire
from afinet.wire import be
from afinet.wire.arp import ARPOP_REPLY, ARPOP_REQUEST
from afinet.wire.ethernet import format_mac

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net
    from afinet.net.ipv4.devinet import InDevice

NEIGH_PATH: Final = "net/ipv4/neigh"
ATF_COM: Final = 0x02  # the entry has an address
ATF_PERM: Final = 0x04
ARP_BROADCAST: Final = -1  # as a destination hardware address: the device's broadcast address


class ArpTable(NeighTable):
    """arp_tbl, arp_hh_ops and arp_generic_ops."""

    __slots__ = ()

    def __init__(self, net: Net) -> None:
        super().__init__(net, "arp_cache", ETH_P_IP)

    def constructor(self, n: Neighbour) -> int:
        return arp_constructor(n)

    def is_multicast(self, key: int) -> bool:
        return ipv4_is_multicast(key)

    def solicit(self, n: Neighbour, skb: SkBuff | None) -> None:
        arp_solicit(n, skb)

    def error_report(self, n: Neighbour, skb: SkBuff) -> None:
        arp_error_report(n, skb)

    def proxy_redo(self, skb: SkBuff) -> None:
        arp_redo(skb)


def ipv4_is_multicast(addr: int) -> bool:
    return addr >> 28 == 0xE


def arp_mc_map(addr: int) -> int:
    """ip_eth_mc_map: the Ethernet address of a multicast group (RFC 1112, 6.4)."""
    return 0x01005E000000 | (addr & 0x7FFFFF)


# -- the table's part ------------------------------------------------------------------------------------------------------


def arp_constructor(n: Neighbour) -> int:
    """A new entry: what needs no question (multicast, broadcast, loopback, point-to-point) is answered at once."""
    dev = n.dev
    if dev.ip_ptr is None:
        return -EINVAL
    if dev.flags & (IFF_LOOPBACK | IFF_POINTOPOINT):
        n.primary_key = 0  # whoever it is, there is only one other end
    n.type = fib_frontend.inet_addr_type(dev_net(dev), n.primary_key)
    if dev.arp_parms is not None:
        n.parms = dev.arp_parms
    if dev.hard_header_len == 0:
        n.nud_state = NUD_NOARP
    elif n.type == RTN_MULTICAST:
        n.nud_state = NUD_NOARP
        n.ha = arp_mc_map(n.primary_key)
    elif dev.flags & (IFF_NOARP | IFF_LOOPBACK):
        n.nud_state = NUD_NOARP
        n.ha = dev.dev_addr
    elif n.type == RTN_BROADCAST or dev.flags & IFF_POINTOPOINT:
        n.nud_state = NUD_NOARP
        n.ha = dev.broadcast
    return 0


def arp_error_report(n: Neighbour, skb: SkBuff) -> None:
    """Nobody answers: the route tells the sender (EHOSTUNREACH, or an ICMP error if the packet was forwarded)."""
    dst = skb.dst
    if dst is not None:
        dst.link_failure(skb)
    kfree_skb_reason(n.tbl.net, skb, SKB_DROP_REASON_NEIGH_FAILED)


def arp_solicit(n: Neighbour, skb: SkBuff | None) -> None:
    """Ask: first the address that was known (unicast), then everyone. `skb` waits for the answer: its source address is the one
    that the other end will see, so we ask in its name (arp_announce permitting)."""
    dev = n.dev
    in_dev = dev.ip_ptr
    if in_dev is None:
        return
    target = n.primary_key
    announce = devinet.IN_DEV_ARP_ANNOUNCE(in_dev)
    saddr = 0
    if skb is not None and announce < 2:
        saddr = be.get_u32(skb.head, skb.network_header + 12)
        if fib_frontend.inet_addr_type(in_dev.net, saddr) != RTN_LOCAL:
            saddr = 0
        elif announce == 1 and not devinet.inet_addr_onlink(in_dev, target, saddr):
            saddr = 0
    if saddr == 0:
        saddr = devinet.inet_select_addr(dev, target, RT_SCOPE_LINK)
    dst_hw = ARP_BROADCAST
    probes = n.probes - n.parms.ucast_probes
    if probes < 0:
        dst_hw = n.ha
    elif probes < n.parms.app_probes:
        return  # neigh_app_ns: a daemon would ask
    arp_send(ARPOP_REQUEST, target, dev, saddr, dst_hw, dev.dev_addr, 0)


def arp_send(op: int, dest_ip: int, dev: NetDevice, src_ip: int, dest_hw: int, src_hw: int, target_hw: int) -> None:
    """Send one packet; `dest_hw` is where the frame goes (ARP_BROADCAST: to all), the others are what it says."""
    if dev.flags & IFF_NOARP or dev.hard_header_len == 0:
        return
    skb = arp_create(op, dest_ip, dev, src_ip, dest_hw, src_hw, target_hw)
    dev_core.dev_queue_xmit(skb)


def arp_create(op: int, dest_ip: int, dev: NetDevice, src_ip: int, dest_hw: int, src_hw: int, target_hw: int) -> SkBuff:
    """The packet, with its Ethernet header."""
    header = dev_hard_header(dev, ETH_P_ARP, dev.broadcast if dest_hw == ARP_BROADCAST else dest_hw, src_hw)
    skb = alloc_skb(header + arp_wire.emit(op, src_hw, src_ip, target_hw, dest_ip))
    skb.dev = dev
    skb.protocol = ETH_P_ARP
    skb.network_header = len(header)
    skb.transport_header = len(header)
    return skb


# -- receiving -------------------------------------------------------------------------------------------------------------


class ArpPacketType(PacketType):
    """arp_packet_type."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(ETH_P_ARP)

    def func(self, skb: SkBuff, dev: NetDevice) -> int:
        return arp_rcv(skb, dev)


def arp_rcv(skb: SkBuff, dev: NetDevice) -> int:
    """A packet of type ETH_P_ARP, `data` at its ARP header."""
    pkt_type = skb.pkt_type
    if dev.flags & IFF_NOARP or pkt_type == PACKET_OTHERHOST or pkt_type == PACKET_LOOPBACK:
        consume_skb(skb)  # ignored, not dropped
        return 0
    net = dev_net(dev)
    if not pskb_may_pull(skb, arp_wire.ARP_LEN):
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
    parsed = arp_wire.parse(skb.head, skb.data)
    in_dev = dev.ip_ptr
    if parsed is None or in_dev is None:
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    op, sha, sip, tha, tip = parsed
    return arp_process(net, skb, in_dev, op, sha, sip, tha, tip, False)


def arp_redo(skb: SkBuff) -> None:
    """parp_redo: a question that waited in the proxy queue."""
    dev = skb.dev
    assert dev is not None
    parsed = arp_wire.parse(skb.head, skb.data)
    if parsed is None or dev.ip_ptr is None:
        kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return
    op, sha, sip, tha, tip = parsed
    arp_process(dev_net(dev), skb, dev.ip_ptr, op, sha, sip, tha, tip, True)


def arp_process(
    net: Net, skb: SkBuff, in_dev: InDevice, op: int, sha: int, sip: int, tha: int, tip: int, enqueued: bool
) -> int:
    """`enqueued`: it has waited in the proxy queue already."""
    dev = in_dev.dev
    tbl = net.arp_tbl
    assert tbl is not None
    # 1. what nobody may ask
    if op != ARPOP_REPLY and op != ARPOP_REQUEST:
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    if ipv4_is_multicast(tip) or (tip >> 24 == 127 and not devinet.IN_DEV_ROUTE_LOCALNET(in_dev)):
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    if sip == tip and (in_dev.cnf_all.drop_gratuitous_arp or in_dev.cnf.drop_gratuitous_arp):
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    # 2. somebody checks whether an address is free before taking it (RFC 5227; RFC 2131, 4.4.1)
    if sip == 0:
        if op == ARPOP_REQUEST and fib_frontend.inet_addr_type(net, tip) == RTN_LOCAL and not arp_ignore(in_dev, sip, tip):
            arp_send(ARPOP_REPLY, sip, dev, tip, sha, dev.dev_addr, sha)
        consume_skb(skb)
        return 0
    # 3. a question: answer it if it is for us, and remember who asked
    if op == ARPOP_REQUEST and route.ip_route_input_noref(skb, tip, sip, 0, dev) == 0:
        dst = skb.dst
        skb.dst = None
        if isinstance(dst, Rtable) and dst.rt_type == RTN_LOCAL:
            if not arp_ignore(in_dev, sip, tip) and not (devinet.IN_DEV_ARPFILTER(in_dev) and arp_filter(net, sip, tip, dev)):
                if neigh_event_ns(tbl, sha, sip, dev) is not None:
                    arp_send(ARPOP_REPLY, sip, dev, tip, sha, dev.dev_addr, sha)
            consume_skb(skb)
            return 0
        # or if we stand in for the one who is asked for.
        if isinstance(dst, Rtable) and devinet.IN_DEV_FORWARD(in_dev) and dst.rt_type == RTN_UNICAST:
            if arp_fwd_proxy(in_dev, dst) or arp_fwd_pvlan(in_dev, dst, sip, tip):
                neigh_event_ns(tbl, sha, sip, dev)
                parms = dev.arp_parms
                if enqueued or skb.pkt_type == PACKET_HOST or parms is None or parms.proxy_delay == 0:
                    arp_send(ARPOP_REPLY, sip, dev, tip, sha, dev.dev_addr, sha)
                    consume_skb(skb)
                else:
                    pneigh_enqueue(tbl, parms, skb)
                return 0
    # 4. news of a neighbour
    n = neigh_lookup(tbl, sip, dev)
    accept = arp_accept(in_dev, sip)
    is_garp = False
    if n is not None or accept:
        is_garp = arp_is_garp(net, op, sip, tip, sha, tha)
    if n is None and accept:
        if is_garp or (op == ARPOP_REPLY and fib_frontend.inet_addr_type(net, sip) == RTN_UNICAST):
            n = neigh_create(tbl, sip, dev)
    if n is not None:
        # Of several answers in a row the first counts: with several proxies the nearest, and nobody can take an address over by
        # answering later.
        override = is_garp or net.kernel.now > n.updated + n.parms.locktime
        # A broadcast, or a question, does not show that the other end hears us.
        state = NUD_REACHABLE if op == ARPOP_REPLY and skb.pkt_type == PACKET_HOST else NUD_STALE
        neigh_update(n, sha, state, NEIGH_UPDATE_F_OVERRIDE if override else 0)
    consume_skb(skb)
    return 0


def neigh_event_ns(tbl: NeighTable, lladdr: int, saddr: int, dev: NetDevice) -> Neighbour | None:
    """Somebody asked for us: an entry for him, with the address he told. None: the table is full."""
    n = neigh_lookup(tbl, saddr, dev)
    if n is None:
        n = neigh_create(tbl, saddr, dev)
    if n is not None:
        neigh_update(n, lladdr, NUD_STALE, NEIGH_UPDATE_F_OVERRIDE)
    return n


def arp_fwd_proxy(in_dev: InDevice, rt: Rtable) -> bool:
    """Whether we answer for a host that we would reach by another device (RFC 1027): proxy_arp; not where both devices are on the
    same medium (medium_id, unless 0), nor on one that has none (-1)."""
    if rt.dev is in_dev.dev or not devinet.IN_DEV_PROXY_ARP(in_dev):
        return False
    imi = devinet.IN_DEV_MEDIUM_ID(in_dev)
    if imi == 0 or imi == -1:
        return imi == 0
    out_dev = rt.dev.ip_ptr
    omi = -1 if out_dev is None else devinet.IN_DEV_MEDIUM_ID(out_dev)
    return omi != imi and omi != -1


def arp_fwd_pvlan(in_dev: InDevice, rt: Rtable, sip: int, tip: int) -> bool:
    """Whether we answer for a host on the same link that the asker may not reach directly (RFC 3069): proxy_arp_pvlan. Not to one
    who asks for himself."""
    return rt.dev is in_dev.dev and sip != tip and devinet.IN_DEV_PROXY_ARP_PVLAN(in_dev)


def arp_ignore(in_dev: InDevice, sip: int, tip: int) -> bool:
    """Whether conf/*/arp_ignore forbids to answer `sip` for `tip`, a local address."""
    net = in_dev.net
    mode = devinet.IN_DEV_ARP_IGNORE(in_dev)
    if mode == 1:  # only on the device that has the address
        return not devinet.inet_confirm_addr(net, in_dev, 0, tip, RT_SCOPE_HOST)
    if mode == 2:  # and only to its subnet
        return not devinet.inet_confirm_addr(net, in_dev, sip, tip, RT_SCOPE_HOST)
    if mode == 3:  # not for addresses of host scope
        return not devinet.inet_confirm_addr(net, None, 0, tip, RT_SCOPE_LINK)
    return mode == 8


def arp_filter(net: Net, sip: int, tip: int, dev: NetDevice) -> bool:
    """arp_filter: whether packets to the asker would leave by another device, so that it is not ours to answer."""
    err, rt = route.ip_route_output_flow(net, Flowi4(sip, tip), None)
    if err or rt is None:
        return True
    if rt.dev is not dev:
        net.net_statistics[LINUX_MIB_ARPFILTER] += 1
        return True
    return False


def arp_accept(in_dev: InDevice, sip: int) -> bool:
    """Whether unasked news of `sip` may make an entry."""
    mode = devinet.IN_DEV_ARP_ACCEPT(in_dev)
    if mode == 2:  # from the device's own subnets
        return devinet.inet_confirm_addr(in_dev.net, in_dev, sip, 0, RT_SCOPE_LINK) != 0
    return mode == 1


def arp_is_garp(net: Net, op: int, sip: int, tip: int, sha: int, tha: int) -> bool:
    """Whether this is a gratuitous announcement: a question or, with the same address as target, an answer about oneself."""
    if sip != tip or (op == ARPOP_REPLY and sha != tha):
        return False
    return fib_frontend.inet_addr_type(net, sip) == RTN_UNICAST


def arp_invalidate(dev: NetDevice, ip: int, force: bool) -> int:
    """Forget what is known of `ip`, unless it is valid and `force` is not set: an address has become a broadcast address, say.
    0, or -ENXIO if nothing is known."""
    tbl = dev_net(dev).arp_tbl
    if tbl is None:
        return -ENXIO
    n = neigh_lookup(tbl, ip, dev)
    if n is None:
        return -ENXIO
    if n.nud_state & NUD_VALID and not force:
        return 0
    if n.nud_state & ~NUD_NOARP:
        neigh_update(n, -1, NUD_FAILED, NEIGH_UPDATE_F_OVERRIDE | NEIGH_UPDATE_F_ADMIN)
    neighbour.neigh_remove(n)
    return 0


def arp_ifdown(dev: NetDevice) -> None:
    """The device has no IPv4 any more."""
    tbl = dev_net(dev).arp_tbl
    if tbl is not None:
        neighbour.neigh_ifdown(tbl, dev)


# -- devices ---------------------------------------------------------------------------------------------------------------


class ArpNetdevNotifier(NotifierBlock):
    """arp_netdev_notifier; and the settings of each device, which Linux makes in inetdev_init."""

    __slots__ = ()

    def notifier_call(self, event: int, data: object) -> int:
        if isinstance(data, NetDevice):
            arp_netdev_event(event, data)
        return 0


def arp_netdev_event(event: int, dev: NetDevice) -> None:
    net = dev_net(dev)
    tbl = net.arp_tbl
    if tbl is None:
        return
    if event == NETDEV_REGISTER:
        parms = neighbour.neigh_parms_alloc(tbl, dev)
        dev.arp_parms = parms
        neighbour.neigh_sysctl_register(net, NEIGH_PATH, parms)
    elif event == NETDEV_UNREGISTER:
        released = dev.arp_parms
        if released is not None:
            neighbour.neigh_sysctl_unregister(net, NEIGH_PATH, released)
            neighbour.neigh_parms_release(tbl, released)
            dev.arp_parms = None
    elif event == NETDEV_CHANGENAME:
        renamed = dev.arp_parms
        if renamed is not None:
            neighbour.neigh_sysctl_unregister(net, NEIGH_PATH, renamed)
            neighbour.neigh_sysctl_register(net, NEIGH_PATH, renamed)
    elif event == NETDEV_CHANGEADDR:
        neighbour.neigh_changeaddr(tbl, dev)
    elif event == NETDEV_CHANGE:
        if arp_noarp_changed(tbl, dev):
            neighbour.neigh_changeaddr(tbl, dev)
        in_dev = dev.ip_ptr
        if not dev.carrier and (in_dev is None or devinet.IN_DEV_ARP_EVICT_NOCARRIER(in_dev)):
            neighbour.neigh_carrier_down(tbl, dev)


def arp_noarp_changed(tbl: NeighTable, dev: NetDevice) -> bool:
    """Whether IFF_NOARP is not what it was when an entry was made (the event does not tell which flags changed)."""
    noarp = dev.flags & (IFF_NOARP | IFF_LOOPBACK) != 0
    for n in tbl.hash.values():
        if n.dev is dev and n.type == RTN_UNICAST and not n.nud_state & NUD_PERMANENT:
            if (n.nud_state == NUD_NOARP) != noarp:
                return True
    return False


# -- /proc -----------------------------------------------------------------------------------------------------------------


def arp_seq_show(net: Net) -> str:
    """/proc/net/arp."""
    out = "IP address       HW type     Flags       HW address            Mask     Device\n"
    tbl = net.arp_tbl
    if tbl is not None:
        for n in tbl.hash.values():
            if n.nud_state & ~NUD_NOARP:
                key = n.primary_key
                ip = f"{key >> 24}.{key >> 16 & 255}.{key >> 8 & 255}.{key & 255}"
                flags = ATF_PERM | ATF_COM if n.nud_state & NUD_PERMANENT else ATF_COM if n.nud_state & NUD_VALID else 0
                mac = format_mac(n.ha)
                out += f"{ip:<16} {hex(n.dev.type):<12}{hex(flags):<12}{mac:<17}     *        {n.dev.name}\n"
    return out


class ArpNetOps(PernetOperations):
    """arp_net_ops, and the table."""

    __slots__ = ()

    def init(self, net: Net) -> int:
        tbl = ArpTable(net)
        net.arp_tbl = tbl
        neighbour.neigh_sysctl_register(net, NEIGH_PATH, tbl.parms)
        return 0

    def exit(self, net: Net) -> None:
        tbl = net.arp_tbl
        net.arp_tbl = None
        if tbl is not None:
            neighbour.neigh_table_clear(tbl)


def arp_init(kernel: Kernel) -> None:
    """Once per Kernel, before any device."""
    register_pernet_subsys(kernel, ArpNetOps())
    dev_core.dev_add_pack(kernel, ArpPacketType())
    kernel.netdev_chain.append(ArpNetdevNotifier())
