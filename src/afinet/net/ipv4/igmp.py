"""net/ipv4/igmp.c, the device's half: which multicast groups and sources a device listens to, and how routers learn of it.

A device's groups (IpMcList) are what the memberships of all its socks add up to: for each group the filter mode and for each source
how many include and how many exclude it (`ip_mc_add_src`, `ip_mc_del_src`; igmp_sock.py has the socks' half). A received multicast
asks `ip_check_mc_rcu`.

What changes is told in version 3 reports (RFC 3376) to 224.0.0.22: `igmp_ifc_event` starts the device's change timer, which sends
igmpv3_send_cr, igmp_qrv times. Groups and sources that went stay in `mc_tomb` and `IpMcList.tomb` until that is done. A query
starts the device's answer timer (general) or the group's own (`igmp_heard_query`). While an older querier has been heard, or
force_igmp_version says so, each group has its version 1 or 2 report with a timer, taken back when somebody else reports
(`igmp_heard_report`), and a leave to 224.0.0.2.

Every device that is up is in 224.0.0.1, of which no report is ever sent. Times are ns, drawn in jiffies as in Linux from the stream
"igmp"; a device without memberships has no timer.

Left out: multicast routing's part (PIM, DVMRP).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.kernel.timer import TimerList
from afinet.net.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED, SKB_DROP_REASON_PKT_TOO_SMALL
from afinet.net.core.flow import Flowi4
from afinet.net.core.skbuff import alloc_skb, consume_skb, kfree_skb_reason, skb_tobytes
from afinet.net.ipv4 import ip_output, route
from afinet.net.ipv4.protocol import NetProtocol, net_of
from afinet.net.ipv4.rtable import Rtable, rt_cache_flush
from afinet.uapi.errno import EINVAL, ENODEV, ESRCH
from afinet.uapi.if_packet import PACKET_BROADCAST, PACKET_MULTICAST
from afinet.uapi.igmp import (
    IGMP_ALL_HOSTS,
    IGMP_ALL_ROUTER,
    IGMP_HOST_LEAVE_MESSAGE,
    IGMP_HOST_MEMBERSHIP_QUERY,
    IGMP_HOST_MEMBERSHIP_REPORT,
    IGMPV2_HOST_MEMBERSHIP_REPORT,
    IGMPV3_ALL_MCR,
    IGMPV3_ALLOW_NEW_SOURCES,
    IGMPV3_BLOCK_OLD_SOURCES,
    IGMPV3_CHANGE_TO_EXCLUDE,
    IGMPV3_CHANGE_TO_INCLUDE,
    IGMPV3_MODE_IS_EXCLUDE,
    IGMPV3_MODE_IS_INCLUDE,
)
from afinet.uapi.in_ import IPPROTO_IGMP, MCAST_EXCLUDE, MCAST_INCLUDE, ipv4_is_local_multicast
from afinet.wire import be, igmp, ip
from afinet.wire.checksum import ip_compute_csum

if TYPE_CHECKING:
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.ipv4.devinet import InDevice

IGMP_QUERY_INTERVAL: Final = 125 * NSEC_PER_SEC
IGMP_QUERY_RESPONSE_INTERVAL: Final = 10 * NSEC_PER_SEC
IGMP_TIMER_SCALE: Final = NSEC_PER_SEC // 10  # the unit of a query's maximum response code
IGMP_TOS: Final = 0xC0  # internetwork control
IGMP_ROUTER_ALERT: Final = b"\x94\x04\x00\x00"  # RFC 2113: routers on the way look at it
TC_PRIO_CONTROL: Final = 7
IPV4_MIN_MTU: Final = 68


class IpSfList:
    """struct ip_sf_list: a source of a device's group."""

    __slots__ = ("sf_count", "sf_crcount", "sf_gsresp", "sf_inaddr", "sf_oldin")

    def __init__(self, inaddr: int) -> None:
        self.sf_inaddr: int = inaddr
        self.sf_count: list[int] = [0, 0]  # of socks that exclude it (MCAST_EXCLUDE), that include it (MCAST_INCLUDE)
        self.sf_gsresp: bool = False  # named in a query that is to be answered
        self.sf_oldin: bool = False  # was reported before the change that is being made
        self.sf_crcount: int = 0  # change reports that are still to name it


class IpMcList:
    """struct ip_mc_list: a group that a device listens to, what filter the socks' filters make together, and its report."""

    __slots__ = ("crcount", "gsquery", "interface", "multiaddr", "reporter", "sfcount", "sfmode", "sources", "timer", "tm_running",
                 "tomb", "unsolicit_count", "users")  # fmt: skip

    def __init__(self, interface: InDevice, multiaddr: int, sfmode: int) -> None:
        self.interface: InDevice = interface
        self.multiaddr: int = multiaddr
        self.users: int = 1
        self.sfmode: int = sfmode
        self.sfcount: list[int] = [0, 0]  # filters of each mode; by MCAST_*
        self.sfcount[sfmode] = 1
        self.sources: list[IpSfList] = []
        self.tomb: list[IpSfList] = []  # sources that went; newest first
        self.timer: IgmpGroupTimer | None = None
        self.tm_running: bool = False
        self.reporter: bool = False  # ours was the last report heard
        self.unsolicit_count: int = 0  # version 1 and 2 reports still to be sent
        self.gsquery: bool = False  # the report to come answers a query for some sources only
        self.crcount: int = 0  # change reports that are still to name the filter mode


# -- versions and intervals ----------------------------------------------------------------------------------------------------


def igmp_v1_seen(in_dev: InDevice) -> bool:
    return (
        in_dev.cnf_all.force_igmp_version == 1
        or in_dev.cnf.force_igmp_version == 1
        or in_dev.net.kernel.now < in_dev.mr_v1_seen
    )


def igmp_v2_seen(in_dev: InDevice) -> bool:
    return (
        in_dev.cnf_all.force_igmp_version == 2
        or in_dev.cnf.force_igmp_version == 2
        or in_dev.net.kernel.now < in_dev.mr_v2_seen
    )


def igmp_older_seen(in_dev: InDevice) -> bool:
    return igmp_v1_seen(in_dev) or igmp_v2_seen(in_dev)


def unsolicited_report_interval(in_dev: InDevice) -> int:
    """ns."""
    cnf = in_dev.cnf
    ms = cnf.igmpv2_unsolicited_report_interval if igmp_older_seen(in_dev) else cnf.igmpv3_unsolicited_report_interval
    return max(ms * NSEC_PER_MSEC, in_dev.net.kernel.tick_nsec)


def igmp_qrv(in_dev: InDevice) -> int:
    """The robustness variable: how often what changed is told."""
    return in_dev.mr_qrv or in_dev.net.ipv4.sysctl_igmp_qrv


def igmp_unreported(in_dev: InDevice, group: int) -> bool:
    """Groups that no report names: all hosts, and those of the link unless igmp_llm_reports."""
    return group == IGMP_ALL_HOSTS or (ipv4_is_local_multicast(group) and not in_dev.net.ipv4.sysctl_igmp_llm_reports)


# -- timers --------------------------------------------------------------------------------------------------------------------


class IgmpGroupTimer(TimerList):
    """ip_mc_list.timer: this group's own report."""

    __slots__ = ("im",)

    def __init__(self, im: IpMcList) -> None:
        super().__init__()
        self.im: IpMcList = im

    def function(self) -> None:
        igmp_timer_expire(self.im)


class IgmpGqTimer(TimerList):
    """in_device.mr_gq_timer: the answer to a general query."""

    __slots__ = ("in_dev",)

    def __init__(self, in_dev: InDevice) -> None:
        super().__init__()
        self.in_dev: InDevice = in_dev

    def function(self) -> None:
        igmpv3_send_report(self.in_dev, None)


class IgmpIfcTimer(TimerList):
    """in_device.mr_ifc_timer: the next report of changes."""

    __slots__ = ("in_dev",)

    def __init__(self, in_dev: InDevice) -> None:
        super().__init__()
        self.in_dev: InDevice = in_dev

    def function(self) -> None:
        igmp_ifc_timer_expire(self.in_dev)


def igmp_delay(in_dev: InDevice, max_delay: int) -> int:
    """An instant within `max_delay` ns from now, and two jiffies."""
    kernel = in_dev.net.kernel
    tick = kernel.tick_nsec
    tv = kernel.random("igmp").get_random_u32_below(max(max_delay // tick, 1))
    return kernel.now + (tv + 2) * tick


def igmp_start_timer(im: IpMcList, max_delay: int) -> None:
    timer = im.timer
    if timer is None:
        timer = IgmpGroupTimer(im)
        im.timer = timer
    im.tm_running = True
    im.interface.net.kernel.mod_timer(timer, igmp_delay(im.interface, max_delay))


def igmp_stop_timer(im: IpMcList) -> None:
    if im.timer is not None:
        im.interface.net.kernel.del_timer(im.timer)
    im.tm_running = False
    im.reporter = False
    im.unsolicit_count = 0


def igmp_mod_timer(im: IpMcList, max_delay: int) -> None:
    """A query: report within `max_delay`, at the time already chosen if that is soon enough."""
    im.unsolicit_count = 0
    timer = im.timer
    kernel = im.interface.net.kernel
    if timer is not None and timer.timer_pending() and timer.expires - kernel.now < max_delay:
        im.tm_running = True
        return
    igmp_start_timer(im, max_delay)


def igmp_timer_expire(im: IpMcList) -> None:
    in_dev = im.interface
    im.tm_running = False
    if im.unsolicit_count:
        im.unsolicit_count -= 1
        if im.unsolicit_count:
            igmp_start_timer(im, unsolicited_report_interval(in_dev))
    im.reporter = True
    if igmp_v1_seen(in_dev):
        igmp_send_report(in_dev, im, IGMP_HOST_MEMBERSHIP_REPORT)
    elif igmp_v2_seen(in_dev):
        igmp_send_report(in_dev, im, IGMPV2_HOST_MEMBERSHIP_REPORT)
    else:
        igmpv3_send_report(in_dev, im)


def igmp_gq_start_timer(in_dev: InDevice) -> None:
    exp = igmp_delay(in_dev, in_dev.mr_maxdelay)
    timer = in_dev.mr_gq_timer
    if timer is None:
        timer = IgmpGqTimer(in_dev)
        in_dev.mr_gq_timer = timer
    if not timer.timer_pending() or exp < timer.expires:
        in_dev.net.kernel.mod_timer(timer, exp)


def igmp_ifc_start_timer(in_dev: InDevice, delay: int) -> None:
    timer = in_dev.mr_ifc_timer
    if timer is None:
        timer = IgmpIfcTimer(in_dev)
        in_dev.mr_ifc_timer = timer
    in_dev.net.kernel.mod_timer(timer, igmp_delay(in_dev, delay))


def igmp_ifc_timer_expire(in_dev: InDevice) -> None:
    igmpv3_send_cr(in_dev)
    if in_dev.mr_ifc_count:
        in_dev.mr_ifc_count -= 1
        igmp_ifc_start_timer(in_dev, unsolicited_report_interval(in_dev))


def igmp_ifc_event(in_dev: InDevice) -> None:
    """Something changed: tell it soon, and some times more."""
    if igmp_older_seen(in_dev):
        return
    in_dev.mr_ifc_count = igmp_qrv(in_dev)
    igmp_ifc_start_timer(in_dev, in_dev.net.kernel.tick_nsec)


def igmp_stop_ifc(in_dev: InDevice) -> None:
    in_dev.mr_ifc_count = 0
    if in_dev.mr_ifc_timer is not None:
        in_dev.net.kernel.del_timer(in_dev.mr_ifc_timer)


# -- sending -------------------------------------------------------------------------------------------------------------------


def igmp_xmit(in_dev: InDevice, dst: int, message: bytes) -> None:
    """A message to `dst`, for the link only (TTL 1), with the router alert option."""
    net = in_dev.net
    fl4 = Flowi4()
    err, rt = route.ip_route_output_ports(net, fl4, None, dst, 0, 0, 0, IPPROTO_IGMP, 0, in_dev.dev.ifindex)
    if err or rt is None:
        return
    saddr = fl4.saddr
    if dst == IGMPV3_ALL_MCR:
        saddr = igmpv3_get_srcaddr(in_dev, saddr)
    length = ip.IP_HLEN + len(IGMP_ROUTER_ALERT) + len(message)
    skb = alloc_skb(ip.emit(IGMP_TOS, length, 0, ip.IP_DF, 1, IPPROTO_IGMP, saddr, fl4.daddr, IGMP_ROUTER_ALERT) + message)
    skb.transport_header = ip.IP_HLEN + len(IGMP_ROUTER_ALERT)
    skb.dst = rt
    skb.dev = rt.dev
    skb.priority = TC_PRIO_CONTROL
    ip_output.ip_local_out(net, None, skb)


def igmpv3_get_srcaddr(in_dev: InDevice, saddr: int) -> int:
    """RFC 3376, 4.2.13: the address if it is the device's own, else 0.0.0.0."""
    for ifa in in_dev.ifa_list:
        if ifa.ifa_local == saddr:
            return saddr
    return 0


def igmp_send_report(in_dev: InDevice, im: IpMcList, type: int) -> None:
    """A version 1 or 2 report, or a leave."""
    group = im.multiaddr
    if ipv4_is_local_multicast(group) and not in_dev.net.ipv4.sysctl_igmp_llm_reports:
        return
    igmp_xmit(in_dev, IGMP_ALL_ROUTER if type == IGMP_HOST_LEAVE_MESSAGE else group, igmp.emit(type, 0, group))


class Igmpv3Report:
    """A version 3 report in the making: records that are complete, and the one that sources are being added to."""

    __slots__ = ("grecs", "group", "in_dev", "open", "room", "sources", "type")

    def __init__(self, in_dev: InDevice) -> None:
        self.in_dev: InDevice = in_dev
        self.grecs: list[bytes] = []
        self.room: int = 0  # bytes left in the packet
        self.open: bool = False
        self.type: int = 0
        self.group: int = 0
        self.sources: list[int] = []
        self.reset()

    def reset(self) -> None:
        """igmpv3_newpack."""
        self.grecs = []
        self.open = False
        self.room = self.in_dev.dev.mtu - ip.IP_HLEN - len(IGMP_ROUTER_ALERT) - igmp.IGMPV3_REPORT_HLEN

    def add_grhead(self, type: int, group: int) -> None:
        self.type = type
        self.group = group
        self.sources = []
        self.open = True
        self.room -= igmp.IGMPV3_GREC_HLEN

    def add_source(self, source: int) -> None:
        self.sources.append(source)
        self.room -= 4

    def close_grec(self) -> None:
        if self.open:
            self.grecs.append(igmp.grec(self.type, self.group, self.sources))
            self.open = False

    def send(self) -> None:
        """igmpv3_sendpack; what follows goes into a new packet."""
        self.close_grec()
        if self.grecs:
            igmp_xmit(self.in_dev, IGMPV3_ALL_MCR, igmp.emit_v3_report(self.grecs))
        self.reset()


def is_in(pmc: IpMcList, psf: IpSfList, type: int, gdeleted: bool, sdeleted: bool) -> bool:
    """Whether a record of `type` names the source. `gdeleted`: the group is a deleted one; `sdeleted`: the source is."""
    if type == IGMPV3_MODE_IS_INCLUDE or type == IGMPV3_MODE_IS_EXCLUDE:
        if gdeleted or sdeleted or (pmc.gsquery and not psf.sf_gsresp):
            return False
        if pmc.sfmode == MCAST_INCLUDE:
            return True
        # Excluded, if all filters exclude it.
        if psf.sf_count[MCAST_INCLUDE]:
            return type == IGMPV3_MODE_IS_INCLUDE
        return pmc.sfcount[MCAST_EXCLUDE] == psf.sf_count[MCAST_EXCLUDE]
    if type == IGMPV3_CHANGE_TO_INCLUDE:
        return not gdeleted and not sdeleted and psf.sf_count[MCAST_INCLUDE] != 0
    if type == IGMPV3_CHANGE_TO_EXCLUDE:
        if gdeleted or sdeleted or pmc.sfcount[MCAST_EXCLUDE] == 0 or psf.sf_count[MCAST_INCLUDE]:
            return False
        return pmc.sfcount[MCAST_EXCLUDE] == psf.sf_count[MCAST_EXCLUDE]
    if type == IGMPV3_ALLOW_NEW_SOURCES:
        return not gdeleted and psf.sf_crcount != 0 and (pmc.sfmode == MCAST_INCLUDE) != sdeleted
    # IGMPV3_BLOCK_OLD_SOURCES
    if pmc.sfmode == MCAST_INCLUDE:
        return gdeleted or (psf.sf_crcount != 0 and sdeleted)
    return psf.sf_crcount != 0 and not gdeleted and not sdeleted


def grec_size(pmc: IpMcList, type: int, gdeleted: bool, sdeleted: bool) -> int:
    size = igmp.IGMPV3_GREC_HLEN
    for psf in pmc.sources:
        if is_in(pmc, psf, type, gdeleted, sdeleted):
            size += 4
    return size


def add_grec(report: Igmpv3Report, pmc: IpMcList, type: int, gdeleted: bool, sdeleted: bool) -> None:
    """Add the record of `type` of a group, if there is something for it to say. Sources that do not fit go into further packets;
    a list of excluded ones is cut: what is missing in it is received too much."""
    in_dev = report.in_dev
    if igmp_unreported(in_dev, pmc.multiaddr) or in_dev.dev.mtu < IPV4_MIN_MTU:
        return
    isquery = type == IGMPV3_MODE_IS_INCLUDE or type == IGMPV3_MODE_IS_EXCLUDE
    truncate = type == IGMPV3_MODE_IS_EXCLUDE or type == IGMPV3_CHANGE_TO_EXCLUDE
    changes = type == IGMPV3_ALLOW_NEW_SOURCES or type == IGMPV3_BLOCK_OLD_SOURCES
    psf_list = pmc.tomb if sdeleted else pmc.sources
    total = 0
    if psf_list:
        if truncate and report.grecs and report.room < grec_size(pmc, type, gdeleted, sdeleted):
            report.send()
        first = True
        gone: list[IpSfList] = []
        for psf in psf_list:
            if not is_in(pmc, psf, type, gdeleted, sdeleted):
                continue
            # RFC 3376, 5.1: a change of the filter mode tells of the sources, too.
            mode_changes = pmc.sfmode == MCAST_EXCLUDE if gdeleted else pmc.crcount != 0
            if not (mode_changes and changes and psf.sf_crcount):
                if isquery:
                    psf.sf_gsresp = False
                if report.room < 4 + (igmp.IGMPV3_GREC_HLEN if first else 0):
                    if truncate and not first:
                        break
                    report.send()
                    first = True
                if first:
                    report.add_grhead(type, pmc.multiaddr)
                    first = False
                report.add_source(psf.sf_inaddr)
                total += 1
            if changes and psf.sf_crcount:
                psf.sf_crcount -= 1
                if (sdeleted or gdeleted) and psf.sf_crcount == 0:
                    gone.append(psf)
        for psf in gone:
            psf_list.remove(psf)
    if total == 0:
        if changes:
            return
        if pmc.crcount or isquery:
            if report.room < igmp.IGMPV3_GREC_HLEN:
                report.send()
            report.add_grhead(type, pmc.multiaddr)
    report.close_grec()
    if isquery:
        pmc.gsquery = False


def igmpv3_send_report(in_dev: InDevice, pmc: IpMcList | None) -> None:
    """The current state of one group, or of all."""
    report = Igmpv3Report(in_dev)
    for im in groups(in_dev) if pmc is None else [pmc]:
        type = IGMPV3_MODE_IS_EXCLUDE if im.sfcount[MCAST_EXCLUDE] else IGMPV3_MODE_IS_INCLUDE
        add_grec(report, im, type, False, False)
    report.send()


def groups(in_dev: InDevice) -> list[IpMcList]:
    """for_each_pmc_rcu: newest first."""
    pmcs = list(in_dev.mc_list.values())
    pmcs.reverse()
    return pmcs


def igmpv3_send_cr(in_dev: InDevice) -> None:
    """What changed since: groups that went, sources, filter modes."""
    report = Igmpv3Report(in_dev)
    kept: list[IpMcList] = []
    for pmc in in_dev.mc_tomb:
        if pmc.sfmode == MCAST_INCLUDE:
            add_grec(report, pmc, IGMPV3_BLOCK_OLD_SOURCES, True, False)
            add_grec(report, pmc, IGMPV3_BLOCK_OLD_SOURCES, True, True)
        if pmc.crcount:
            if pmc.sfmode == MCAST_EXCLUDE:
                add_grec(report, pmc, IGMPV3_CHANGE_TO_INCLUDE, True, False)
            pmc.crcount -= 1
            if pmc.crcount == 0:
                pmc.tomb = [psf for psf in pmc.tomb if psf.sf_crcount]
                pmc.sources = [psf for psf in pmc.sources if psf.sf_crcount]
        if pmc.crcount or pmc.tomb or pmc.sources:
            kept.append(pmc)
    in_dev.mc_tomb = kept
    for pmc in groups(in_dev):
        if pmc.sfcount[MCAST_EXCLUDE]:
            type, dtype = IGMPV3_BLOCK_OLD_SOURCES, IGMPV3_ALLOW_NEW_SOURCES
        else:
            type, dtype = IGMPV3_ALLOW_NEW_SOURCES, IGMPV3_BLOCK_OLD_SOURCES
        add_grec(report, pmc, type, False, False)
        add_grec(report, pmc, dtype, False, True)
        if pmc.crcount:
            type = IGMPV3_CHANGE_TO_EXCLUDE if pmc.sfmode == MCAST_EXCLUDE else IGMPV3_CHANGE_TO_INCLUDE
            add_grec(report, pmc, type, False, False)
            pmc.crcount -= 1
    report.send()


# -- receiving -----------------------------------------------------------------------------------------------------------------


class IgmpProtocol(NetProtocol):
    """igmp_protocol."""

    __slots__ = ()

    def handler(self, skb: SkBuff) -> int:
        return igmp_rcv(skb)


def igmp_rcv(skb: SkBuff) -> int:
    """Raw socks have had their copy."""
    net = net_of(skb)
    dev = skb.dev
    in_dev = None if dev is None else dev.ip_ptr
    data = skb_tobytes(skb)
    if len(data) < igmp.IGMP_HLEN:
        kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        return 0
    if in_dev is None or ip_compute_csum(data, 0, len(data)):
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return 0
    type = data[0]
    if type == IGMP_HOST_MEMBERSHIP_QUERY:
        if not igmp_heard_query(in_dev, data):
            kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
            return 0
    elif type == IGMP_HOST_MEMBERSHIP_REPORT or type == IGMPV2_HOST_MEMBERSHIP_REPORT:
        rt = skb.dst
        # Not our own, looped back; and what a router might not hear does not count.
        if isinstance(rt, Rtable) and rt.rt_is_input and skb.pkt_type in (PACKET_MULTICAST, PACKET_BROADCAST):
            igmp_heard_report(in_dev, be.get_u32(data, 4))
    consume_skb(skb)
    return 0


def igmp_heard_report(in_dev: InDevice, group: int) -> None:
    """Somebody else told the router (RFC 2236, 3): no need to."""
    if igmp_unreported(in_dev, group):
        return
    im = in_dev.mc_list.get(group)
    if im is not None:
        igmp_stop_timer(im)


def igmp_heard_query(in_dev: InDevice, data: bytes) -> bool:
    """False: a bogus one."""
    kernel = in_dev.net.kernel
    _, code, _, group = igmp.parse(data, 0)
    sources: list[int] = []
    if len(data) == igmp.IGMP_HLEN:
        seen = kernel.now + in_dev.mr_qrv * in_dev.mr_qi + in_dev.mr_qri
        if code == 0:
            max_delay = IGMP_QUERY_RESPONSE_INTERVAL
            in_dev.mr_v1_seen = seen
            group = 0
        else:
            max_delay = code * IGMP_TIMER_SCALE
            in_dev.mr_v2_seen = seen
        # Reports of changes are something that this querier does not know.
        igmp_stop_ifc(in_dev)
        igmpv3_clear_delrec(in_dev)
    elif len(data) < igmp.IGMPV3_QUERY_HLEN:
        return False
    elif igmp_v1_seen(in_dev):
        max_delay = IGMP_QUERY_RESPONSE_INTERVAL
        group = 0
    elif igmp_v2_seen(in_dev):
        max_delay = igmp.float8(code) * IGMP_TIMER_SCALE
    else:
        nsrcs = be.get_u16(data, 10)
        if len(data) < igmp.IGMPV3_QUERY_HLEN + 4 * nsrcs:
            return False
        max_delay = igmp.float8(code) * IGMP_TIMER_SCALE
        in_dev.mr_maxdelay = max_delay
        in_dev.mr_qrv = data[8] & 7 or in_dev.net.ipv4.sysctl_igmp_qrv
        in_dev.mr_qi = igmp.float8(data[9]) * NSEC_PER_SEC or IGMP_QUERY_INTERVAL
        # RFC 3376, 8.3: answers come within the interval between queries.
        if in_dev.mr_qri >= in_dev.mr_qi:
            in_dev.mr_qri = in_dev.mr_qi - NSEC_PER_SEC
        if group == 0:
            if nsrcs:
                return False
            igmp_gq_start_timer(in_dev)
            return True
        sources = [be.get_u32(data, igmp.IGMPV3_QUERY_HLEN + 4 * i) for i in range(nsrcs)]
    mark = len(sources) != 0
    for im in groups(in_dev):
        if (group and group != im.multiaddr) or igmp_unreported(in_dev, im.multiaddr):
            continue
        im.gsquery = mark and (im.gsquery or not im.tm_running)
        if not im.gsquery or igmp_marksources(im, sources):
            igmp_mod_timer(im, max_delay)
    return True


def igmp_marksources(pmc: IpMcList, srcs: list[int]) -> bool:
    """A query for some sources: whether there is anything to report about them."""
    scount = 0
    if pmc.sfmode == MCAST_EXCLUDE:
        # Nothing, if all of them are excluded; else the whole filter is told.
        for psf in pmc.sources:
            if not psf.sf_count[MCAST_INCLUDE] and pmc.sfcount[MCAST_EXCLUDE] == psf.sf_count[MCAST_EXCLUDE]:
                scount += psf.sf_inaddr in srcs
        pmc.gsquery = False
        return scount != len(srcs)
    for psf in pmc.sources:
        if scount == len(srcs):
            break
        if psf.sf_inaddr in srcs:
            psf.sf_gsresp = True
            scount += 1
    pmc.gsquery = scount != 0
    return pmc.gsquery


# -- groups and sources that went ----------------------------------------------------------------------------------------------


def igmpv3_add_delrec(in_dev: InDevice, im: IpMcList) -> None:
    """Remember a group that nobody listens to any more, until that has been told."""
    pmc = IpMcList(in_dev, im.multiaddr, im.sfmode)
    pmc.crcount = igmp_qrv(in_dev)
    if pmc.sfmode == MCAST_INCLUDE:
        pmc.tomb = im.tomb
        pmc.sources = im.sources
        im.tomb = []
        im.sources = []
        for psf in pmc.sources:
            psf.sf_crcount = pmc.crcount
    in_dev.mc_tomb = [pmc, *in_dev.mc_tomb]


def igmpv3_del_delrec(in_dev: InDevice, im: IpMcList) -> None:
    """The group is wanted again."""
    for i, pmc in enumerate(in_dev.mc_tomb):
        if pmc.multiaddr == im.multiaddr:
            del in_dev.mc_tomb[i]
            if im.sfmode == MCAST_INCLUDE:
                im.tomb, pmc.tomb = pmc.tomb, im.tomb
                im.sources, pmc.sources = pmc.sources, im.sources
                for psf in im.sources:
                    psf.sf_crcount = igmp_qrv(in_dev)
            else:
                im.crcount = igmp_qrv(in_dev)
            return


def igmpv3_clear_delrec(in_dev: InDevice) -> None:
    in_dev.mc_tomb = []
    for pmc in in_dev.mc_list.values():
        pmc.tomb = []


# -- a device's groups ---------------------------------------------------------------------------------------------------------


def igmp_group_added(im: IpMcList) -> None:
    in_dev = im.interface
    if igmp_unreported(in_dev, im.multiaddr) or in_dev.dead:
        return
    im.unsolicit_count = in_dev.net.ipv4.sysctl_igmp_qrv
    if igmp_older_seen(in_dev):
        igmp_start_timer(im, in_dev.net.kernel.tick_nsec)
        return
    # A new group with sources goes from none to those: that is no change of the filter mode.
    if im.sfmode == MCAST_EXCLUDE:
        im.crcount = igmp_qrv(in_dev)
    igmp_ifc_event(in_dev)


def igmp_group_dropped(im: IpMcList) -> None:
    in_dev = im.interface
    if igmp_unreported(in_dev, im.multiaddr):
        return
    reporter = im.reporter
    igmp_stop_timer(im)
    if in_dev.dead or igmp_v1_seen(in_dev):
        return
    if igmp_v2_seen(in_dev):
        if reporter:
            igmp_send_report(in_dev, im, IGMP_HOST_LEAVE_MESSAGE)
        return
    igmpv3_add_delrec(in_dev, im)
    igmp_ifc_event(in_dev)


def ip_rt_multicast_event(in_dev: InDevice) -> None:
    rt_cache_flush(in_dev.net)


def ip_mc_inc_group(in_dev: InDevice, addr: int, mode: int = MCAST_EXCLUDE) -> None:
    """One more wants the group: all sources (MCAST_EXCLUDE), or those that will be added (MCAST_INCLUDE)."""
    im = in_dev.mc_list.get(addr)
    if im is not None:
        im.users += 1
        ip_mc_add_src(in_dev, addr, mode, [], False)
        return
    im = IpMcList(in_dev, addr, mode)
    in_dev.mc_list[addr] = im
    igmpv3_del_delrec(in_dev, im)
    igmp_group_added(im)
    if not in_dev.dead:
        ip_rt_multicast_event(in_dev)


def ip_mc_dec_group(in_dev: InDevice, addr: int) -> None:
    im = in_dev.mc_list.get(addr)
    if im is None:
        return
    im.users -= 1
    if im.users == 0:
        del in_dev.mc_list[addr]
        igmp_group_dropped(im)
        if not in_dev.dead:
            ip_rt_multicast_event(in_dev)


def ip_check_mc_rcu(in_dev: InDevice, mc_addr: int, src_addr: int, proto: int) -> bool:
    """Whether somebody here listens to the group on this device, and to the source."""
    im = in_dev.mc_list.get(mc_addr)
    if im is None:
        return False
    if proto == IPPROTO_IGMP or src_addr == 0 or not im.sources:
        return proto == IPPROTO_IGMP or src_addr == 0 or im.sfcount[MCAST_EXCLUDE] != 0
    for psf in im.sources:
        if psf.sf_inaddr == src_addr:
            return psf.sf_count[MCAST_INCLUDE] != 0 or psf.sf_count[MCAST_EXCLUDE] != im.sfcount[MCAST_EXCLUDE]
    return im.sfcount[MCAST_EXCLUDE] != 0


def ip_mc_reset(in_dev: InDevice) -> None:
    """Nothing is known of a querier."""
    in_dev.mr_qi = IGMP_QUERY_INTERVAL
    in_dev.mr_qri = IGMP_QUERY_RESPONSE_INTERVAL
    in_dev.mr_qrv = in_dev.net.ipv4.sysctl_igmp_qrv


def ip_mc_init_dev(in_dev: InDevice) -> None:
    in_dev.mr_maxdelay = IGMP_QUERY_RESPONSE_INTERVAL
    ip_mc_reset(in_dev)


def ip_mc_up(in_dev: InDevice) -> None:
    """RFC 1112: a host is always in the all-hosts group. What socks joined while the device was down is told now."""
    ip_mc_reset(in_dev)
    ip_mc_inc_group(in_dev, IGMP_ALL_HOSTS)
    for pmc in groups(in_dev):
        igmpv3_del_delrec(in_dev, pmc)
        igmp_group_added(pmc)


def ip_mc_down(in_dev: InDevice) -> None:
    for pmc in groups(in_dev):
        igmp_group_dropped(pmc)
    igmp_stop_ifc(in_dev)
    if in_dev.mr_gq_timer is not None:
        in_dev.net.kernel.del_timer(in_dev.mr_gq_timer)
    ip_mc_dec_group(in_dev, IGMP_ALL_HOSTS)


def ip_mc_destroy_dev(in_dev: InDevice) -> None:
    ip_mc_down(in_dev)
    igmpv3_clear_delrec(in_dev)
    for im in in_dev.mc_list.values():
        igmp_stop_timer(im)
    in_dev.mc_list = {}


# -- a device's sources --------------------------------------------------------------------------------------------------------


def sf_in(pmc: IpMcList, psf: IpSfList) -> bool:
    """Whether the source stands in the filter that the device has: excluded by all filters that exclude and included by none; or,
    where none excludes, included by some."""
    if pmc.sfcount[MCAST_EXCLUDE]:
        return pmc.sfcount[MCAST_EXCLUDE] == psf.sf_count[MCAST_EXCLUDE] and not psf.sf_count[MCAST_INCLUDE]
    return psf.sf_count[MCAST_INCLUDE] != 0


def sf_markstate(pmc: IpMcList) -> None:
    """Note what is reported now, before a change."""
    for psf in pmc.sources:
        psf.sf_oldin = sf_in(pmc, psf)


def sf_setstate(pmc: IpMcList) -> bool:
    """After the change: sources that are new in the filter, or went, are to be told. Whether there are any."""
    qrv = pmc.interface.mr_qrv
    changed = False
    for psf in pmc.sources:
        new_in = sf_in(pmc, psf)
        if new_in == psf.sf_oldin:
            continue
        changed = True
        dead = [dpsf for dpsf in pmc.tomb if dpsf.sf_inaddr == psf.sf_inaddr]
        if new_in:
            for dpsf in dead:
                pmc.tomb.remove(dpsf)
            psf.sf_crcount = qrv
        else:
            psf.sf_crcount = 0
            if not dead:
                dpsf = IpSfList(psf.sf_inaddr)
                dpsf.sf_count = psf.sf_count[:]
                dpsf.sf_oldin = psf.sf_oldin
                dead = [dpsf]
                pmc.tomb.insert(0, dpsf)
            dead[0].sf_crcount = qrv
    return changed


def sf_mode_changed(in_dev: InDevice, pmc: IpMcList) -> None:
    """The filter mode of the group is another one: that is told, and says all about the sources."""
    pmc.crcount = igmp_qrv(in_dev)
    for psf in pmc.sources:
        psf.sf_crcount = 0
    igmp_ifc_event(in_dev)


def ip_mc_find_sf(pmc: IpMcList, source: int) -> IpSfList | None:
    for psf in pmc.sources:
        if psf.sf_inaddr == source:
            return psf
    return None


def ip_mc_add1_src(pmc: IpMcList, sfmode: int, source: int) -> None:
    psf = ip_mc_find_sf(pmc, source)
    if psf is None:
        psf = IpSfList(source)
        pmc.sources.append(psf)
    psf.sf_count[sfmode] += 1
    if psf.sf_count[sfmode] == 1:
        ip_rt_multicast_event(pmc.interface)


def ip_mc_del1_src(pmc: IpMcList, sfmode: int, source: int) -> int:
    """1: the source went and that is to be told; 0; -ESRCH."""
    psf = ip_mc_find_sf(pmc, source)
    if psf is None or psf.sf_count[sfmode] == 0:
        return -ESRCH
    psf.sf_count[sfmode] -= 1
    if psf.sf_count[sfmode] == 0:
        ip_rt_multicast_event(pmc.interface)
    if psf.sf_count[MCAST_INCLUDE] or psf.sf_count[MCAST_EXCLUDE]:
        return 0
    pmc.sources.remove(psf)
    if psf.sf_oldin and not igmp_older_seen(pmc.interface):
        psf.sf_crcount = igmp_qrv(pmc.interface)
        pmc.tomb.insert(0, psf)
        return 1
    return 0


def ip_mc_add_src(in_dev: InDevice | None, group: int, sfmode: int, sources: list[int], delta: bool) -> int:
    """A filter of `sfmode` with these sources comes; with `delta` only the sources, for a filter that is there. 0 or -errno."""
    if in_dev is None:
        return -ENODEV
    pmc = in_dev.mc_list.get(group)
    if pmc is None:
        return -ESRCH
    sf_markstate(pmc)
    isexclude = pmc.sfmode == MCAST_EXCLUDE
    if not delta:
        pmc.sfcount[sfmode] += 1
    for source in sources:
        ip_mc_add1_src(pmc, sfmode, source)
    if isexclude != (pmc.sfcount[MCAST_EXCLUDE] != 0):
        if pmc.sfcount[MCAST_EXCLUDE]:
            pmc.sfmode = MCAST_EXCLUDE
        elif pmc.sfcount[MCAST_INCLUDE]:
            pmc.sfmode = MCAST_INCLUDE
        sf_mode_changed(in_dev, pmc)
    elif sf_setstate(pmc):
        igmp_ifc_event(in_dev)
    return 0


def ip_mc_del_src(in_dev: InDevice | None, group: int, sfmode: int, sources: list[int], delta: bool) -> int:
    """The reverse. 0, -ENODEV, -ESRCH, -EINVAL."""
    if in_dev is None:
        return -ENODEV
    pmc = in_dev.mc_list.get(group)
    if pmc is None:
        return -ESRCH
    sf_markstate(pmc)
    if not delta:
        if not pmc.sfcount[sfmode]:
            return -EINVAL
        pmc.sfcount[sfmode] -= 1
    err = 0
    changed = False
    for source in sources:
        rv = ip_mc_del1_src(pmc, sfmode, source)
        if rv > 0:
            changed = True
        elif rv < 0 and err == 0:
            err = rv
    if pmc.sfmode == MCAST_EXCLUDE and pmc.sfcount[MCAST_EXCLUDE] == 0 and pmc.sfcount[MCAST_INCLUDE]:
        pmc.sfmode = MCAST_INCLUDE
        sf_mode_changed(in_dev, pmc)
    elif sf_setstate(pmc) or changed:
        igmp_ifc_event(in_dev)
    return err

