"""net/core/fib_rules.c: policy routing rules, whatever the family: an ordered list, each rule a selector and an action.

A lookup (fib_rules_lookup) goes through the list by rising preference; the first rule that matches and whose action does not say
"go on" (-EAGAIN) decides. Rules come and go by fib_newrule and fib_delrule, which take what `ip rule` sends as a FibRuleConfig. A
family (FibRulesOps; ipv4/fib_rules.py has the one there is) adds its part of the selector and does what an action means.

Rules that name devices outlive them: while there is none of that name the rule matches nothing (`iifindex` -1).

Left out: netlink messages and dumps, l3mdev rules, tunnel ids, masks of port selectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.kernel.notifier import NotifierBlock
from afinet.net.core.netdevice import NETDEV_CHANGENAME, NETDEV_REGISTER, NETDEV_UNREGISTER, NetDevice, dev_net
from afinet.uapi.errno import EAGAIN, EEXIST, EINVAL, ENOENT, EPERM, ESRCH
from afinet.uapi.fib_rules import FIB_RULE_INVERT, FIB_RULE_PERMANENT, FR_ACT_GOTO, FR_ACT_NOP, FR_ACT_UNSPEC
from afinet.uapi.rtnetlink import RT_TABLE_UNSPEC

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.flow import Flowi4
    from afinet.net.core.net_namespace import Net


class FibRuleConfig:
    """struct fib_rule_hdr with its attributes: a request to make or delete a rule. What has its initial value is not given. A
    refused request leaves the reason, as `ip rule` prints it, in `extack`."""

    __slots__ = (
        "action",
        "dport",
        "dscp",
        "dscp_mask",
        "dst",
        "dst_len",
        "extack",
        "flags",
        "fwmark",
        "fwmask",
        "goto",
        "iifname",
        "ip_proto",
        "oifname",
        "priority",
        "protocol",
        "sport",
        "src",
        "src_len",
        "suppress_ifgroup",
        "suppress_prefixlen",
        "table",
        "tos",
        "uid_range",
    )

    def __init__(self, action: int = FR_ACT_UNSPEC, table: int = RT_TABLE_UNSPEC, priority: int = -1) -> None:
        self.action: int = action  # FR_ACT_*
        self.table: int = table
        self.priority: int = priority
        self.flags: int = 0  # FIB_RULE_INVERT
        self.src: int = 0
        self.src_len: int = 0
        self.dst: int = 0
        self.dst_len: int = 0
        self.tos: int = 0  # compared with RFC 1349's bits only
        self.dscp: int = -1  # all six bits, in the place they have in the DS field
        self.dscp_mask: int = -1
        self.iifname: str = ""
        self.oifname: str = ""
        self.fwmark: int = -1
        self.fwmask: int = -1
        self.uid_range: tuple[int, int] = (-1, -1)
        self.ip_proto: int = 0
        self.sport: tuple[int, int] = (0, 0)
        self.dport: tuple[int, int] = (0, 0)
        self.goto: int = -1  # preference of the rule to go on with
        self.suppress_prefixlen: int = -1
        self.suppress_ifgroup: int = -1
        self.protocol: int = 0  # RTPROT_*: who made it
        self.extack: str = ""


class FibRule:
    """struct fib_rule. A family's subclass has the rest of the selector."""

    __slots__ = (
        "action",
        "ctarget",
        "dport_range",
        "flags",
        "iifindex",
        "iifname",
        "ip_proto",
        "mark",
        "mark_mask",
        "oifindex",
        "oifname",
        "pref",
        "proto",
        "sport_range",
        "suppress_ifgroup",
        "suppress_prefixlen",
        "table",
        "target",
        "uid_range",
    )

    def __init__(self) -> None:
        self.action: int = 0
        self.table: int = 0
        self.pref: int = 0
        self.flags: int = 0
        self.iifname: str = ""
        self.oifname: str = ""
        self.iifindex: int = 0  # 0: any; -1: there is no device of that name
        self.oifindex: int = 0
        self.mark: int = 0
        self.mark_mask: int = 0
        self.uid_range: tuple[int, int] = (-1, -1)  # (-1, -1): any
        self.ip_proto: int = 0
        self.sport_range: tuple[int, int] = (0, 0)  # (0, 0): any
        self.dport_range: tuple[int, int] = (0, 0)
        self.target: int = -1  # of FR_ACT_GOTO: the preference named,
        self.ctarget: FibRule | None = None  # and the rule that has it
        self.suppress_prefixlen: int = -1
        self.suppress_ifgroup: int = -1
        self.proto: int = 0


class FibLookupArg:
    """struct fib_lookup_arg. A family's subclass has the result."""

    __slots__ = ("flags", "rule")

    def __init__(self, flags: int) -> None:
        self.flags: int = flags
        self.rule: FibRule | None = None  # the one that decided


class FibRulesOps:
    """struct fib_rules_ops: the rules of a family in one namespace, and what they mean there."""

    __slots__ = ("fro_net", "rules_list")

    def __init__(self, net: Net) -> None:
        self.fro_net: Net = net
        self.rules_list: list[FibRule] = []  # by rising preference; equals in the order they came

    def action(self, rule: FibRule, fl: Flowi4, arg: FibLookupArg) -> int:
        """Do what the rule says. 0, -errno, -EAGAIN: go on with the next rule."""
        raise NotImplementedError

    def suppress(self, rule: FibRule, arg: FibLookupArg) -> bool:
        """Whether the rule does not want the result that its own table gave."""
        return False

    def match(self, rule: FibRule, fl: Flowi4) -> bool:
        raise NotImplementedError

    def configure(self, cfg: FibRuleConfig) -> tuple[int, FibRule | None]:
        """(0, a rule with the family's part of the request) or (-errno, None)."""
        raise NotImplementedError

    def added(self, rule: FibRule) -> int:
        """The rule is about to enter the list: give it a table if it needs one. 0 or -errno."""
        return 0

    def delete(self, rule: FibRule) -> None:
        """The rule is about to leave the list."""

    def compare(self, rule: FibRule, cfg: FibRuleConfig) -> bool:
        """Whether the family's part of the rule is the one requested."""
        raise NotImplementedError

    def flush_cache(self) -> None:
        """Rules changed."""


def fib_rules_register(ops: FibRulesOps) -> None:
    ops.fro_net.rules_ops.append(ops)


def fib_default_rule_add(ops: FibRulesOps, rule: FibRule) -> None:
    """A rule of the kernel's own; at the end of the list."""
    ops.rules_list.append(rule)


def fib_default_rule_pref(ops: FibRulesOps) -> int:
    """Where a rule goes that names no preference: before the second, and so after the local table's."""
    rules = ops.rules_list
    if len(rules) > 1 and rules[1].pref:
        return rules[1].pref - 1
    return 0


# -- lookup --------------------------------------------------------------------------------------------------------------------


def fib_rule_port_match(range: tuple[int, int], port: int) -> bool:
    return range[0] <= port <= range[1]


def fib_rule_match(rule: FibRule, ops: FibRulesOps, fl: Flowi4) -> bool:
    ret = False
    if (
        (rule.iifindex == 0 or rule.iifindex == fl.flowi4_iif)
        and (rule.oifindex == 0 or rule.oifindex == fl.flowi4_oif)
        and not (rule.mark ^ fl.flowi4_mark) & rule.mark_mask
        and (rule.uid_range[0] < 0 or rule.uid_range[0] <= fl.flowi4_uid <= rule.uid_range[1])
    ):
        ret = ops.match(rule, fl)
    return not ret if rule.flags & FIB_RULE_INVERT else ret


def fib_rules_lookup(ops: FibRulesOps, fl: Flowi4, arg: FibLookupArg) -> int:
    """0 or what the deciding rule's action says; -ESRCH: no rule decided."""
    rules = ops.rules_list
    i = 0
    while i < len(rules):
        rule = rules[i]
        i += 1
        if not fib_rule_match(rule, ops, fl):
            continue
        if rule.action == FR_ACT_GOTO:
            target = rule.ctarget
            if target is not None:
                i = rules.index(target)  # always further down
            continue
        if rule.action == FR_ACT_NOP:
            continue
        err = ops.action(rule, fl, arg)
        if err == 0 and ops.suppress(rule, arg):
            continue
        if err != -EAGAIN:
            arg.rule = rule
            return err
    return -ESRCH


# -- making and deleting -------------------------------------------------------------------------------------------------------


def port_range_valid(range: tuple[int, int]) -> bool:
    """nla_get_port_range."""
    return 0 < range[0] <= range[1] <= 0xFFFF


def fib_nl2rule(ops: FibRulesOps, cfg: FibRuleConfig) -> tuple[int, FibRule | None]:
    """The rule that the request describes, not yet in the list. (0, rule) or (-errno, None)."""
    err, rule = ops.configure(cfg)
    if err or rule is None:
        return err, None
    net = ops.fro_net
    rule.proto = cfg.protocol
    rule.pref = cfg.priority if cfg.priority >= 0 else fib_default_rule_pref(ops)
    rule.iifname = cfg.iifname
    rule.oifname = cfg.oifname
    rule.iifindex = fib_rule_ifindex(net, cfg.iifname)
    rule.oifindex = fib_rule_ifindex(net, cfg.oifname)
    if cfg.fwmark >= 0:
        rule.mark = cfg.fwmark
        # A mark without a mask is compared whole; mark 0 without one matches all.
        if cfg.fwmark:
            rule.mark_mask = 0xFFFFFFFF
    if cfg.fwmask >= 0:
        rule.mark_mask = cfg.fwmask
    rule.action = cfg.action
    rule.flags = cfg.flags & FIB_RULE_INVERT
    rule.table = cfg.table
    rule.suppress_prefixlen = cfg.suppress_prefixlen
    rule.suppress_ifgroup = cfg.suppress_ifgroup
    if cfg.goto >= 0:
        if rule.action != FR_ACT_GOTO:
            cfg.extack = "Unexpected goto"
            return -EINVAL, None
        # Backward jumps could go round for ever.
        if cfg.goto <= rule.pref:
            cfg.extack = "Backward goto not supported"
            return -EINVAL, None
        rule.target = cfg.goto
    elif rule.action == FR_ACT_GOTO:
        cfg.extack = "Missing goto target for action goto"
        return -EINVAL, None
    if cfg.uid_range != (-1, -1):
        if not 0 <= cfg.uid_range[0] <= cfg.uid_range[1]:
            cfg.extack = "Invalid uid range"
            return -EINVAL, None
        rule.uid_range = cfg.uid_range
    rule.ip_proto = cfg.ip_proto
    if cfg.sport != (0, 0):
        if not port_range_valid(cfg.sport):
            cfg.extack = "Invalid sport range"
            return -EINVAL, None
        rule.sport_range = cfg.sport
    if cfg.dport != (0, 0):
        if not port_range_valid(cfg.dport):
            cfg.extack = "Invalid dport range"
            return -EINVAL, None
        rule.dport_range = cfg.dport
    return 0, rule


def fib_rule_ifindex(net: Net, name: str) -> int:
    if not name:
        return 0
    dev = net.dev_by_name.get(name)
    return -1 if dev is None else dev.ifindex


def rule_exists(ops: FibRulesOps, cfg: FibRuleConfig, rule: FibRule) -> bool:
    for r in ops.rules_list:
        if (
            r.action == rule.action
            and r.table == rule.table
            and r.suppress_ifgroup == rule.suppress_ifgroup
            and r.suppress_prefixlen == rule.suppress_prefixlen
            and r.pref == rule.pref
            and r.iifname == rule.iifname
            and r.oifname == rule.oifname
            and r.mark == rule.mark
            and r.mark_mask == rule.mark_mask
            and r.uid_range == rule.uid_range
            and r.ip_proto == rule.ip_proto
            and r.proto == rule.proto
            and r.sport_range == rule.sport_range
            and r.dport_range == rule.dport_range
            and ops.compare(r, cfg)
        ):
            return True
    return False


def rule_find(ops: FibRulesOps, cfg: FibRuleConfig, rule: FibRule) -> FibRule | None:
    """The first rule that has everything the request names."""
    for r in ops.rules_list:
        if (
            (rule.action == FR_ACT_UNSPEC or r.action == rule.action)
            and (rule.table == RT_TABLE_UNSPEC or r.table == rule.table)
            and (cfg.priority < 0 or r.pref == rule.pref)
            and (not rule.iifname or r.iifname == rule.iifname)
            and (not rule.oifname or r.oifname == rule.oifname)
            and (rule.mark == 0 or r.mark == rule.mark)
            and (rule.suppress_ifgroup == -1 or r.suppress_ifgroup == rule.suppress_ifgroup)
            and (rule.suppress_prefixlen == -1 or r.suppress_prefixlen == rule.suppress_prefixlen)
            and (rule.mark_mask == 0 or r.mark_mask == rule.mark_mask)
            and (rule.uid_range[0] < 0 or r.uid_range == rule.uid_range)
            and (rule.ip_proto == 0 or r.ip_proto == rule.ip_proto)
            and (rule.proto == 0 or r.proto == rule.proto)
            and (rule.sport_range == (0, 0) or r.sport_range == rule.sport_range)
            and (rule.dport_range == (0, 0) or r.dport_range == rule.dport_range)
            and ops.compare(r, cfg)
        ):
            return r
    return None


def fib_newrule(ops: FibRulesOps, cfg: FibRuleConfig, excl: bool) -> int:
    """RTM_NEWRULE. 0, -EINVAL, -ENOBUFS; with `excl` (NLM_F_EXCL) -EEXIST if there is such a rule."""
    err, rule = fib_nl2rule(ops, cfg)
    if err or rule is None:
        return err
    if excl and rule_exists(ops, cfg, rule):
        return -EEXIST
    err = ops.added(rule)
    if err:
        return err
    rules = ops.rules_list
    for r in rules:
        if r.pref == rule.target:
            rule.ctarget = r
            break
    place = 0
    while place < len(rules) and rules[place].pref <= rule.pref:
        place += 1
    rules.insert(place, rule)
    for r in rules:
        # Jumps that waited for a rule of this preference.
        if r.action == FR_ACT_GOTO and r.target == rule.pref and r.ctarget is None:
            r.ctarget = rule
    ops.flush_cache()
    return 0


def fib_delrule(ops: FibRulesOps, cfg: FibRuleConfig) -> int:
    """RTM_DELRULE. 0, -ENOENT, -EPERM, -EINVAL."""
    err, wanted = fib_nl2rule(ops, cfg)
    if err or wanted is None:
        return err
    rule = rule_find(ops, cfg, wanted)
    if rule is None:
        return -ENOENT
    if rule.flags & FIB_RULE_PERMANENT:
        return -EPERM
    ops.delete(rule)
    rules = ops.rules_list
    place = rules.index(rule)
    del rules[place]
    heir = rules[place] if place < len(rules) and rules[place].pref == rule.pref else None
    for r in rules:
        if r.ctarget is rule:
            r.ctarget = heir
    ops.flush_cache()
    return 0


# -- devices -------------------------------------------------------------------------------------------------------------------


def attach_rules(ops: FibRulesOps, dev: NetDevice) -> None:
    for rule in ops.rules_list:
        if rule.iifindex == -1 and rule.iifname == dev.name:
            rule.iifindex = dev.ifindex
        if rule.oifindex == -1 and rule.oifname == dev.name:
            rule.oifindex = dev.ifindex


def detach_rules(ops: FibRulesOps, dev: NetDevice) -> None:
    for rule in ops.rules_list:
        if rule.iifindex == dev.ifindex:
            rule.iifindex = -1
        if rule.oifindex == dev.ifindex:
            rule.oifindex = -1


class FibRulesNotifier(NotifierBlock):
    """fib_rules_event."""

    __slots__ = ()

    def notifier_call(self, event: int, data: object) -> int:
        if not isinstance(data, NetDevice):
            return 0
        for ops in dev_net(data).rules_ops:
            if event == NETDEV_REGISTER:
                attach_rules(ops, data)
            elif event == NETDEV_CHANGENAME:
                detach_rules(ops, data)
                attach_rules(ops, data)
            elif event == NETDEV_UNREGISTER:
                detach_rules(ops, data)
        return 0


def fib_rules_init(kernel: Kernel) -> None:
    kernel.netdev_chain.append(FibRulesNotifier())
