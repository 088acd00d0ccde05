"""net/ipv4/fib_rules.c: IPv4's policy routing rules: what a rule selects by besides core/fib_rules.py's part, and its tables.

A namespace begins with three: at 0 the local table, at 32766 main, at 32767 default. As long as those are all, fib_lookup asks the
tables itself; the first rule that comes or goes sets `fib_has_custom_rules`, parts the local table's trie from main's (fib_unmerge)
and has every lookup go through the list (__fib_lookup), which from then on it does.

Left out: realms, l3mdev rules (VRF).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.net.core import fib_rules as core
from afinet.net.core.flow_dissector import FLOW_DISSECTOR_F_STOP_AT_ENCAP, FlowKeys, skb_flow_dissect_flow_keys
from afinet.net.ipv4 import devinet, fib_frontend, fib_trie, route
from afinet.net.ipv4.ip_fib import FIB_LOOKUP_NOREF, RT_DSCP_MASK, FibResult
from afinet.uapi.errno import EACCES, EAGAIN, EINVAL, ENETUNREACH, ENOBUFS, ESRCH
from afinet.uapi.fib_rules import FR_ACT_PROHIBIT, FR_ACT_TO_TBL, FR_ACT_UNREACHABLE
from afinet.uapi.rtnetlink import RT_TABLE_DEFAULT, RT_TABLE_LOCAL, RT_TABLE_MAIN, RT_TABLE_UNSPEC, RTPROT_KERNEL

if TYPE_CHECKING:
    from afinet.net.core.flow import Flowi4
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff

INET_DSCP_MASK: Final = 0xFC
FIB_EMPTY_TABLE_MAX: Final = 1 << 16  # Linux tries all 2**32 numbers before it answers -ENOBUFS


class Fib4Rule(core.FibRule):
    """struct fib4_rule."""

    __slots__ = ("dscp", "dscp_full", "dscp_mask", "dst", "dst_len", "dstmask", "src", "src_len", "srcmask")

    def __init__(self) -> None:
        super().__init__()
        self.src: int = 0
        self.src_len: int = 0
        self.srcmask: int = 0
        self.dst: int = 0
        self.dst_len: int = 0
        self.dstmask: int = 0
        self.dscp: int = 0
        self.dscp_mask: int = INET_DSCP_MASK
        self.dscp_full: bool = False  # all six bits count, not only those that were the type of service


class Fib4LookupArg(core.FibLookupArg):
    """struct fib_lookup_arg, with the route that the tables find."""

    __slots__ = ("result",)

    def __init__(self, result: FibResult, flags: int) -> None:
        super().__init__(flags)
        self.result: FibResult = result


class Fib4RulesOps(core.FibRulesOps):
    """fib4_rules_ops_template."""

    __slots__ = ()

    def action(self, rule: core.FibRule, fl: Flowi4, arg: core.FibLookupArg) -> int:
        """fib4_rule_action."""
        if rule.action != FR_ACT_TO_TBL:
            if rule.action == FR_ACT_UNREACHABLE:
                return -ENETUNREACH
            return -EACCES if rule.action == FR_ACT_PROHIBIT else -EINVAL
        tbl = fib_frontend.fib_get_table(self.fro_net, rule.table)
        if tbl is None:
            return -EAGAIN
        assert isinstance(arg, Fib4LookupArg)
        return fib_trie.fib_table_lookup(tbl, fl, arg.result, arg.flags)

    def suppress(self, rule: core.FibRule, arg: core.FibLookupArg) -> bool:
        """fib4_rule_suppress: a result that is not specific enough, or leads over a device of a group that is not wanted."""
        if rule.suppress_prefixlen < 0 and rule.suppress_ifgroup < 0:
            return False
        assert isinstance(arg, Fib4LookupArg)
        res = arg.result
        if res.prefixlen <= rule.suppress_prefixlen:
            return True
        nhc = res.nhc
        dev = None if nhc is None else nhc.nhc_dev
        return rule.suppress_ifgroup >= 0 and dev is not None and dev.group == rule.suppress_ifgroup

    def match(self, rule: core.FibRule, fl: Flowi4) -> bool:
        """fib4_rule_match."""
        assert isinstance(rule, Fib4Rule)
        if (fl.daddr ^ rule.dst) & rule.dstmask or (fl.saddr ^ rule.src) & rule.srcmask:
            return False
        if rule.dscp_full:
            if (rule.dscp ^ fl.flowi4_dscp) & rule.dscp_mask:
                return False
        elif rule.dscp and rule.dscp != fl.flowi4_dscp & RT_DSCP_MASK:
            return False
        if rule.ip_proto and rule.ip_proto != fl.flowi4_proto:
            return False
        if rule.sport_range[0] and not core.fib_rule_port_match(rule.sport_range, fl.fl4_sport):
            return False
        return rule.dport_range[0] == 0 or core.fib_rule_port_match(rule.dport_range, fl.fl4_dport)

    def configure(self, cfg: core.FibRuleConfig) -> tuple[int, core.FibRule | None]:
        """fib4_rule_configure, as far as it reads."""
        if cfg.tos & ~INET_DSCP_MASK:
            cfg.extack = "Invalid dsfield (tos): ECN bits must be 0"
            return -EINVAL, None
        if cfg.src_len > 32 or cfg.dst_len > 32:
            cfg.extack = "Invalid source or destination prefix length"
            return -EINVAL, None
        rule = Fib4Rule()
        rule.src = cfg.src
        rule.src_len = cfg.src_len
        rule.srcmask = devinet.inet_make_mask(cfg.src_len)
        rule.dst = cfg.dst
        rule.dst_len = cfg.dst_len
        rule.dstmask = devinet.inet_make_mask(cfg.dst_len)
        rule.dscp = cfg.tos
        if cfg.dscp >= 0:
            if cfg.tos:
                cfg.extack = "Cannot specify both TOS and DSCP"
                return -EINVAL, None
            rule.dscp = cfg.dscp
            rule.dscp_full = True
        if cfg.dscp_mask >= 0:
            if not rule.dscp_full or rule.dscp & ~cfg.dscp_mask:
                cfg.extack = "Invalid DSCP mask"
                return -EINVAL, None
            rule.dscp_mask = cfg.dscp_mask
        return 0, rule

    def added(self, rule: core.FibRule) -> int:
        """fib4_rule_configure, as far as it changes something."""
        net = self.fro_net
        fib = net.ipv4.fib
        fib_frontend.fib_unmerge(net)
        if rule.table == RT_TABLE_UNSPEC and rule.action == FR_ACT_TO_TBL:
            id = fib_empty_table(net)
            if id == 0:
                return -ENOBUFS
            rule.table = id
        if fib_rule_requires_fldissect(rule):
            fib.fib_rules_require_fldissect += 1
        fib.fib_has_custom_rules = True
        return 0

    def delete(self, rule: core.FibRule) -> None:
        """fib4_rule_delete."""
        net = self.fro_net
        fib_frontend.fib_unmerge(net)
        if fib_rule_requires_fldissect(rule):
            net.ipv4.fib.fib_rules_require_fldissect -= 1
        net.ipv4.fib.fib_has_custom_rules = True

    def compare(self, rule: core.FibRule, cfg: core.FibRuleConfig) -> bool:
        """fib4_rule_compare: what the request does not name matches."""
        assert isinstance(rule, Fib4Rule)
        if cfg.src_len and (rule.src_len != cfg.src_len or rule.src != cfg.src):
            return False
        if cfg.dst_len and (rule.dst_len != cfg.dst_len or rule.dst != cfg.dst):
            return False
        if cfg.tos and (rule.dscp_full or rule.dscp != cfg.tos):
            return False
        if cfg.dscp >= 0 and (not rule.dscp_full or rule.dscp != cfg.dscp):
            return False
        return cfg.dscp_mask < 0 or (rule.dscp_full and rule.dscp_mask == cfg.dscp_mask)

    def flush_cache(self) -> None:
        route.rt_cache_flush(self.fro_net)


def fib_empty_table(net: Net) -> int:
    """The lowest number that no table has, for a rule that names none; 0: there is none."""
    for id in range(1, FIB_EMPTY_TABLE_MAX):
        if fib_frontend.fib_get_table(net, id) is None:
            fib_frontend.fib_new_table(net, id)
            return id
    return 0


def fib_rule_requires_fldissect(rule: core.FibRule) -> bool:
    """Whether a received packet has to be read beyond its addresses for the rule. A rule without `iif` is for our own packets as
    well; those of a rule for loopback come with everything known."""
    return rule.iifindex != fib_frontend.LOOPBACK_IFINDEX and (
        rule.ip_proto != 0 or rule.sport_range[0] != 0 or rule.dport_range[0] != 0
    )


def fib4_rules_early_flow_dissect(net: Net, skb: SkBuff, fl4: Flowi4) -> FlowKeys | None:
    """Put protocol and ports of a received packet into the flow, if some rule wants them; what was read, for multipath."""
    if not net.ipv4.fib.fib_rules_require_fldissect:
        return None
    keys = skb_flow_dissect_flow_keys(skb, FLOW_DISSECTOR_F_STOP_AT_ENCAP)
    fl4.fl4_sport = keys.sport
    fl4.fl4_dport = keys.dport
    fl4.flowi4_proto = keys.ip_proto
    return keys


def __fib_lookup(net: Net, flp: Flowi4, res: FibResult, flags: int) -> int:
    """fib_lookup where there are rules of one's own."""
    ops = net.ipv4.fib.rules_ops
    assert ops is not None
    err = core.fib_rules_lookup(ops, flp, Fib4LookupArg(res, flags | FIB_LOOKUP_NOREF))
    return -ENETUNREACH if err == -ESRCH else err


def fib4_rules_init(net: Net) -> None:
    """The three rules of a new namespace."""
    ops = Fib4RulesOps(net)
    for pref, table in ((0, RT_TABLE_LOCAL), (0x7FFE, RT_TABLE_MAIN), (0x7FFF, RT_TABLE_DEFAULT)):
        rule = Fib4Rule()
        rule.action = FR_ACT_TO_TBL
        rule.pref = pref
        rule.table = table
        rule.proto = RTPROT_KERNEL
        core.fib_default_rule_add(ops, rule)
    core.fib_rules_register(ops)
    net.ipv4.fib.rules_ops = ops


# -- rules from outside --------------------------------------------------------------------------------------------------------


def ip_rule_add(net: Net, cfg: core.FibRuleConfig) -> int:
    """`ip rule add`. 0 or -errno: -EINVAL, -EEXIST, -ENOBUFS; the reason in words in cfg.extack."""
    ops = net.ipv4.fib.rules_ops
    assert ops is not None
    return core.fib_newrule(ops, cfg, True)


def ip_rule_del(net: Net, cfg: core.FibRuleConfig) -> int:
    """`ip rule del`: the first rule with all that is given. 0, -ENOENT, -EINVAL."""
    ops = net.ipv4.fib.rules_ops
    assert ops is not None
    return core.fib_delrule(ops, cfg)
