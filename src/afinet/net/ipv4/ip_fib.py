"""include/net/ip_fib.h: what the FIB's files share: a route's meaning, its next hops, requests, the answer of a lookup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.uapi.rtnetlink import RT_SCOPE_NOWHERE, RT_TABLE_MAIN, RTN_UNSPEC

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.ipv4.fib_trie import FibAlias, FibTable
    from afinet.net.ipv4.route import Rtable

FIB_LOOKUP_NOREF: Final = 1  # the result is used at once: count no reference to the fib_info
FIB_LOOKUP_IGNORE_LINKSTATE: Final = 2

# The bits of a packet's DS field that routes are chosen by: RFC 1349's type of service, without the bit that ECN took
# (fib_dscp_masked_match). The precedence bits do not count, so a route with any of them set matches nothing.
RT_DSCP_MASK: Final = 0x1C

# Exceptions a next hop may hold: 2048 chains of at most 6 in Linux, one bounded dict here.
FNHE_HASH_SIZE: Final = 2048
FNHE_RECLAIM_DEPTH: Final = 5


class FibNhConfig:
    """struct rtnexthop as a request gives it: one next hop of several. `weight` is rtnh_hops + 1."""

    __slots__ = ("flags", "gw", "oif", "weight")

    def __init__(self, gw: int = 0, oif: int = 0, weight: int = 1, flags: int = 0) -> None:
        self.gw: int = gw
        self.oif: int = oif
        self.weight: int = weight
        self.flags: int = flags


class FibConfig:
    """struct fib_config: a request to make or delete a route. What is 0 or None is not given; a deletion then matches anything.

    `fc_metrics` is indexed by RTAX_* - 1. A refused request leaves the reason, as `ip route` prints it, in `extack`.
    """

    __slots__ = (
        "extack",
        "fc_cc_algo",
        "fc_dscp",
        "fc_dst",
        "fc_dst_len",
        "fc_flags",
        "fc_gw",
        "fc_metrics",
        "fc_mp",
        "fc_nlflags",
        "fc_oif",
        "fc_prefsrc",
        "fc_priority",
        "fc_protocol",
        "fc_scope",
        "fc_table",
        "fc_type",
    )

    def __init__(self) -> None:
        self.fc_dst: int = 0
        self.fc_dst_len: int = 0
        self.fc_dscp: int = 0
        self.fc_protocol: int = 0  # RTPROT_*
        self.fc_scope: int = RT_SCOPE_NOWHERE
        self.fc_type: int = RTN_UNSPEC
        self.fc_table: int = RT_TABLE_MAIN
        self.fc_gw: int = 0
        self.fc_oif: int = 0
        self.fc_flags: int = 0  # RTNH_F_*
        self.fc_priority: int = 0  # the metric
        self.fc_prefsrc: int = 0
        self.fc_metrics: list[int] | None = None
        self.fc_cc_algo: str = ""  # the congestion control that stands for RTAX_CC_ALGO, by name
        self.fc_mp: list[FibNhConfig] | None = None
        self.fc_nlflags: int = 0  # NLM_F_*
        self.extack: str = ""


class FibNhException:
    """struct fib_nh_exception: what the network told about one destination behind a next hop: a path MTU, a better gateway."""

    __slots__ = ("fnhe_daddr", "fnhe_expires", "fnhe_genid", "fnhe_gw", "fnhe_mtu_locked", "fnhe_pmtu", "fnhe_rth_input",
                 "fnhe_rth_output", "fnhe_stamp")  # fmt: skip

    def __init__(self, daddr: int, genid: int) -> None:
        self.fnhe_daddr: int = daddr
        self.fnhe_genid: int = genid  # the route generation in which it was learnt
        self.fnhe_gw: int = 0
        self.fnhe_pmtu: int = 0
        self.fnhe_mtu_locked: bool = False
        self.fnhe_expires: int = 0  # ns; 0: never
        self.fnhe_stamp: int = 0  # when it was last used
        self.fnhe_rth_input: Rtable | None = None
        self.fnhe_rth_output: Rtable | None = None


class FibNh:
    """struct fib_nh with its fib_nh_common: a next hop. It keeps the routes made for it (`nhc_pcpu_rth_output`, `nhc_rth_input`),
    so that all flows over it share them."""

    __slots__ = (
        "nh_parent",
        "nh_saddr",
        "nh_saddr_genid",
        "nhc_dev",
        "nhc_exceptions",
        "nhc_flags",
        "nhc_gw",
        "nhc_oif",
        "nhc_pcpu_rth_output",
        "nhc_rth_input",
        "nhc_scope",
        "nhc_upper_bound",
        "nhc_weight",
    )

    def __init__(self, nh_parent: FibInfo) -> None:
        self.nh_parent: FibInfo = nh_parent
        self.nhc_dev: NetDevice | None = None
        self.nhc_oif: int = 0
        self.nhc_gw: int = 0  # 0: the destination itself is on the link
        self.nhc_scope: int = 0
        self.nhc_flags: int = 0  # RTNH_F_*
        self.nhc_weight: int = 1
        self.nhc_upper_bound: int = 0  # of the 31-bit hashes that take this one
        self.nh_saddr: int = 0  # preferred source, valid while nh_saddr_genid is the namespace's dev_addr_genid
        self.nh_saddr_genid: int = -1
        self.nhc_pcpu_rth_output: Rtable | None = None
        self.nhc_rth_input: Rtable | None = None
        self.nhc_exceptions: dict[int, FibNhException] | None = None  # by destination, oldest first


class FibInfo:
    """struct fib_info: what routes with the same meaning share, whatever their prefix. Counted: by routes (`fib_treeref`) and by
    everything else (`fib_clntref`)."""

    __slots__ = (
        "fib_clntref",
        "fib_dead",
        "fib_flags",
        "fib_metrics",
        "fib_net",
        "fib_nh",
        "fib_prefsrc",
        "fib_priority",
        "fib_protocol",
        "fib_scope",
        "fib_tb_id",
        "fib_treeref",
        "fib_type",
        "pfsrc_removed",
    )

    def __init__(self, net: Net) -> None:
        self.fib_net: Net = net
        self.fib_treeref: int = 0
        self.fib_clntref: int = 1
        self.fib_dead: bool = False
        self.fib_flags: int = 0  # RTNH_F_DEAD, RTNH_F_LINKDOWN: all next hops are
        self.fib_protocol: int = 0
        self.fib_scope: int = 0
        self.fib_type: int = 0
        self.fib_prefsrc: int = 0
        self.fib_tb_id: int = 0
        self.fib_priority: int = 0
        self.fib_metrics: list[int] | None = None  # as DstEntry.metrics
        self.fib_nh: list[FibNh] = []
        self.pfsrc_removed: bool = False  # dead because its preferred source went


class FibResult:
    """struct fib_result."""

    __slots__ = ("dscp", "fa_head", "fi", "nh_sel", "nhc", "prefix", "prefixlen", "scope", "table", "type")

    def __init__(self) -> None:
        self.prefix: int = 0
        self.prefixlen: int = 0
        self.nh_sel: int = 0
        self.type: int = RTN_UNSPEC
        self.scope: int = 0
        self.dscp: int = 0
        self.nhc: FibNh | None = None
        self.fi: FibInfo | None = None
        self.table: FibTable | None = None
        self.fa_head: list[FibAlias] | None = None
