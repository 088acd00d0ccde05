"""include/net/route.h: struct rtable, and what decides whether one still holds.

`Rtable` overrides what Linux reaches through `dst->ops`, `dst->input` and `dst->output`: the latter two are numbers here
(`rt_input`, `rt_output`), so that a packet costs a compare. The work is done in route.py, ip_input.py, ip_output.py, ip_forward.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED
from afinet.net.core.dst import DST_OBSOLETE_FORCE_CHK, DstEntry
from afinet.net.core.skbuff import kfree_skb_reason
from afinet.uapi.if_ import IFF_LOOPBACK
from afinet.uapi.in_route import RTCF_LOCAL
from afinet.uapi.rtnetlink import RTAX_ADVMSS, RTAX_LOCK, RTAX_MTU

if TYPE_CHECKING:
    from afinet.net.core.neighbour import Neighbour
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Sock

IP_MAX_MTU: Final = 0xFFFF
IPV4_MAX_PMTU: Final = 65535
TCP_IP_HEADERS: Final = 40

# What becomes of a received packet (dst->input), and how one is sent (dst->output).
RT_INPUT_NONE: Final = 0
RT_INPUT_LOCAL: Final = 1  # ip_local_deliver
RT_INPUT_FORWARD: Final = 2  # ip_forward
RT_INPUT_ERROR: Final = 3  # ip_error
RT_OUTPUT: Final = 0  # ip_output
RT_OUTPUT_MC: Final = 1  # ip_mc_output
RT_OUTPUT_BUG: Final = 2  # ip_rt_bug


class Rtable(DstEntry):
    """struct rtable: an IPv4 route, ready for use."""

    __slots__ = (
        "neigh_cache",
        "rt_flags",
        "rt_genid",
        "rt_gw4",
        "rt_iif",
        "rt_input",
        "rt_is_input",
        "rt_mtu_locked",
        "rt_output",
        "rt_pmtu",
        "rt_state",
        "rt_type",
        "rt_uses_gateway",
    )

    def __init__(self, net: Net, dev: NetDevice, rt_flags: int, rt_type: int) -> None:
        super().__init__(net, dev)
        self.obsolete = DST_OBSOLETE_FORCE_CHK  # every user is to ask check()
        self.rt_state: RouteState = net.ipv4.route
        self.rt_genid: int = self.rt_state.rt_genid
        self.rt_flags: int = rt_flags  # RTCF_*
        self.rt_type: int = rt_type  # RTN_*
        self.rt_input: int = RT_INPUT_LOCAL if rt_flags & RTCF_LOCAL else RT_INPUT_NONE
        self.rt_output: int = RT_OUTPUT
        self.rt_is_input: bool = False
        self.rt_uses_gateway: bool = False
        self.rt_iif: int = 0  # the device asked for when the route was made; 0: ask the packet
        self.rt_gw4: int = 0  # the next hop; 0: the destination, whichever it is
        self.rt_pmtu: int = 0  # learnt, until `expires`
        self.rt_mtu_locked: bool = False
        self.neigh_cache: Neighbour | None = None  # the neighbour last used, for ip_finish_output2

    def input(self, skb: SkBuff) -> int:
        kind = self.rt_input
        if kind == RT_INPUT_LOCAL:
            return ip_input.ip_local_deliver(skb)
        if kind == RT_INPUT_FORWARD:
            return ip_forward.ip_forward(skb)
        if kind == RT_INPUT_ERROR:
            return route.ip_error(skb)
        return kfree_skb_reason(self.net, skb, SKB_DROP_REASON_NOT_SPECIFIED)

    def output(self, net: Net, sk: Sock | None, skb: SkBuff) -> int:
        kind = self.rt_output
        if kind == RT_OUTPUT:
            return ip_output.ip_output(net, sk, skb)
        if kind == RT_OUTPUT_MC:
            return ip_output.ip_mc_output(net, sk, skb)
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)  # ip_rt_bug
        return 0

    def check(self, cookie: int) -> bool:
        """ipv4_dst_check."""
        return self.obsolete == DST_OBSOLETE_FORCE_CHK and self.rt_genid == self.rt_state.rt_genid

    def mtu(self) -> int:
        """ipv4_mtu."""
        pmtu = self.rt_pmtu
        if pmtu and self.net.kernel.now < self.expires:
            return pmtu if pmtu < IP_MAX_MTU else IP_MAX_MTU
        return ip_route_mtu(self)

    def advmss(self) -> int:
        """dst_metric_advmss, and ipv4_default_advmss."""
        metrics = self.metrics
        if metrics is not None and metrics[RTAX_ADVMSS - 1]:
            return metrics[RTAX_ADVMSS - 1]
        advmss = max(self.mtu() - TCP_IP_HEADERS, self.net.ipv4.ip_rt_min_advmss)
        return min(advmss, IPV4_MAX_PMTU - TCP_IP_HEADERS)

    def update_pmtu(self, sk: Sock | None, skb: SkBuff | None, mtu: int, confirm_neigh: bool) -> None:
        """ip_rt_update_pmtu."""
        route.ip_rt_update_pmtu(self, sk, skb, mtu)

    def redirect(self, sk: Sock | None, skb: SkBuff) -> None:
        """ip_do_redirect."""
        route.ip_do_redirect(self, sk, skb)

    def link_failure(self, skb: SkBuff) -> None:
        """ipv4_link_failure."""
        route.ipv4_link_failure(skb)

    def neigh_lookup(self, daddr: int) -> Neighbour | None:
        """ipv4_neigh_lookup."""
        nexthop = self.rt_gw4 or daddr
        if self.dev.flags & IFF_LOOPBACK:
            nexthop = 0
        return ip_output.ip_neigh_gw4(self.net, self.dev, nexthop)


class RouteState:
    """What struct netns_ipv4 has for routes; and route.c's limits, under net/ipv4/route/. Times are ns."""

    __slots__ = (
        "fnhe_genid",
        "hash_key",
        "in_brd",
        "in_martian_dst",
        "in_martian_src",
        "in_no_route",
        "in_slow_mc",
        "in_slow_tot",
        "input_local",
        "ip_rt_error_burst",
        "ip_rt_error_cost",
        "ip_rt_gc_timeout",
        "ip_rt_redirect_load",
        "ip_rt_redirect_number",
        "ip_rt_redirect_silence",
        "out_slow_tot",
        "rt_genid",
    )

    def __init__(self, net: Net) -> None:
        self.rt_genid: int = 1
        self.fnhe_genid: int = 1
        self.input_local: dict[int, Rtable] = {}  # by daddr << 8 | DS field; of the present generation
        self.ip_rt_redirect_number: int = 9
        self.ip_rt_redirect_load: int = NSEC_PER_SEC // 50
        self.ip_rt_redirect_silence: int = (NSEC_PER_SEC // 50) << 10
        self.ip_rt_error_cost: int = NSEC_PER_SEC
        self.ip_rt_error_burst: int = 5 * NSEC_PER_SEC
        self.ip_rt_gc_timeout: int = 300 * NSEC_PER_SEC
        self.hash_key: bytes = net.kernel.siphash_key
        # /proc/net/stat/rt_cache: routes made, and packets that got none
        self.in_slow_tot: int = 0
        self.in_slow_mc: int = 0
        self.in_no_route: int = 0
        self.in_brd: int = 0
        self.in_martian_dst: int = 0
        self.in_martian_src: int = 0
        self.out_slow_tot: int = 0


def rt_cache_flush(net: Net) -> None:
    """Routes changed: what was made from them no longer holds."""
    state = net.ipv4.route
    state.rt_genid += 1
    if state.input_local:
        state.input_local = {}


def rt_cache_valid(rt: Rtable | None) -> bool:
    return rt is not None and rt.obsolete == DST_OBSOLETE_FORCE_CHK and rt.rt_genid == rt.rt_state.rt_genid


def dst_set_expires(dst: DstEntry, when: int) -> None:
    """Let it expire at `when`, if it does not before."""
    if dst.expires == 0 or dst.expires > when:
        dst.expires = when


def rt_nexthop(rt: Rtable, daddr: int) -> int:
    return rt.rt_gw4 or daddr


# -- MTU ----------------------------------------------------------------------------------------------------------------------


def ip_mtu_locked(rt: Rtable) -> bool:
    metrics = rt.metrics
    return rt.rt_mtu_locked or (metrics is not None and metrics[RTAX_LOCK - 1] >> RTAX_MTU & 1 == 1)


def ip_route_mtu(rt: Rtable) -> int:
    """The MTU of the route, or of its device, whatever was learnt."""
    metrics = rt.metrics
    if metrics is not None and metrics[RTAX_MTU - 1]:
        return min(metrics[RTAX_MTU - 1], IP_MAX_MTU)
    mtu = rt.dev.mtu
    if mtu > 576 and rt.rt_uses_gateway and ip_mtu_locked(rt):
        return 576
    return mtu if mtu < IP_MAX_MTU else IP_MAX_MTU


def ip_dst_mtu_maybe_forward(rt: Rtable, forwarding: bool) -> int:
    """The MTU for a packet of ours, or for one that we forward: a path MTU that somebody told us need not hold for others."""
    if not forwarding or ip_mtu_locked(rt) or rt.net.ipv4.sysctl_ip_fwd_use_pmtu:
        return rt.mtu()
    return ip_route_mtu(rt)

# Last, since route.py takes names from here while it is being imported itself, whichever of the two comes first.
from afinet.net.ipv4 import ip_forward, ip_input, ip_output, route  # noqa: E402
