"""`ip route` and `ip rule` in the words of ip(8): what a host is told, and what it shows.

    host.route("add 20.0.0.0/8 via 10.0.0.2 mtu 1400 table 100")
    host.rule("add from 10.1.0.0/16 fwmark 1 lookup 100")

`route_config` and `rule_config` read the words as iproute2 does, defaults and all, into the requests that the stack takes; what the
stack refuses is told in its own words. `route_show` and `rule_show` print tables and rules line by line as the command does.

Left out: addresses and links (`Host.add_address`), nexthop objects, encapsulation, realms, `ip route get`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.net.core.fib_rules import FibRuleConfig
from afinet.net.ipv4 import fib_frontend, fib_semantics, fib_trie, tcp_cong
from afinet.net.ipv4.fib_rules import Fib4Rule, ip_rule_add, ip_rule_del
from afinet.net.ipv4.ip_fib import FibConfig, FibNhConfig
from afinet.sim.units import UsageError, format_address, parse_address
from afinet.uapi.fib_rules import (
    FIB_RULE_INVERT,
    FR_ACT_BLACKHOLE,
    FR_ACT_GOTO,
    FR_ACT_NOP,
    FR_ACT_PROHIBIT,
    FR_ACT_TO_TBL,
    FR_ACT_UNREACHABLE,
)
from afinet.uapi.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from afinet.uapi.rtnetlink import (
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RT_TABLE_UNSPEC,
    RTAX_CC_ALGO,
    RTAX_FEATURE_ECN,
    RTAX_FEATURES,
    RTAX_LOCK,
    RTAX_MAX,
    RTAX_RTO_MIN,
    RTAX_RTT,
    RTAX_RTTVAR,
    RTN_ANYCAST,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_UNICAST,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RTNH_F_ONLINK,
    RTNH_F_PERVASIVE,
    RTPROT_BOOT,
    RTPROT_KERNEL,
    RTPROT_STATIC,
    RTPROT_UNSPEC,
)

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net
    from afinet.net.ipv4.ip_fib import FibInfo, FibNh

TABLES: Final = {"local": 255, "main": 254, "default": 253}
TYPES: Final = {"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6, "unreachable": 7,
                "prohibit": 8, "throw": 9}  # fmt: skip
SCOPES: Final = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
PROTOCOLS: Final = {"kernel": RTPROT_KERNEL, "boot": RTPROT_BOOT, "static": RTPROT_STATIC}
IP_PROTOCOLS: Final = {"icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "sctp": 132}
# mx_names of iproute2: RTAX_* by place.
METRICS: Final = ("", "", "mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss", "reordering", "hoplimit", "initcwnd",
                  "features", "rto_min", "initrwnd", "quickack", "congctl", "fastopen_no_cookie")  # fmt: skip
ROUTE_VERBS: Final = {"add": NLM_F_CREATE | NLM_F_EXCL, "append": NLM_F_CREATE | NLM_F_APPEND, "prepend": NLM_F_CREATE,
                      "replace": NLM_F_CREATE | NLM_F_REPLACE, "change": NLM_F_REPLACE, "del": 0}  # fmt: skip
RULE_ACTIONS: Final = {"blackhole": FR_ACT_BLACKHOLE, "prohibit": FR_ACT_PROHIBIT, "unreachable": FR_ACT_UNREACHABLE,
                       "nop": FR_ACT_NOP}  # fmt: skip
FLAGS: Final = {"dead": RTNH_F_DEAD, "onlink": RTNH_F_ONLINK, "pervasive": RTNH_F_PERVASIVE, "linkdown": RTNH_F_LINKDOWN}


class Words:
    """The arguments of a command, taken one by one."""

    def __init__(self, command: str, words: list[str]) -> None:
        self.command = command  # for errors
        self.left = words

    def __bool__(self) -> bool:
        return bool(self.left)

    def next(self, what: str) -> str:
        if not self.left:
            raise UsageError(f"{self.command}: {what} is missing at the end")
        return self.left.pop(0)

    def number(self, what: str) -> int:
        return self.number_of(self.next(what), what)

    def number_of(self, word: str, what: str) -> int:
        try:
            value = int(word, 0)
        except ValueError:
            value = -1
        if not 0 <= value <= 0xFFFFFFFF:
            raise UsageError(f"{self.command}: {what} {word!r} is not a number")
        return value

    def named(self, names: dict[str, int], what: str) -> int:
        """One of the names, or a number."""
        word = self.next(what)
        if word in names:
            return names[word]
        if not word[:1].isdigit():
            raise UsageError(f"{self.command}: {what} {word!r} is none of {', '.join(names)}, nor a number")
        return self.number_of(word, what)

    def range(self, what: str) -> tuple[int, int]:
        """ "80" or "1000-2000"."""
        word = self.next(what)
        low, dash, high = word.partition("-")
        first = self.number_of(low, what)
        return first, self.number_of(high, what) if dash else first

    def prefix(self, what: str) -> tuple[int, int]:
        word = self.next(what)
        return (0, 0) if word in ("default", "all", "any") else parse_address(word, what)

    def unknown(self, word: str) -> UsageError:
        return UsageError(f"{self.command}: {word!r} is not understood here; see ip-{self.command.split()[0]}(8)")


def oneline(command: str, verbs: list[str]) -> Words:
    words = command.split()
    if not words or words[0] not in verbs:
        raise UsageError(f"{command!r} does not begin with one of {', '.join(verbs)}")
    return Words(command, words)


# -- routes --------------------------------------------------------------------------------------------------------------------


def route_config(net: Net, command: str) -> tuple[str, FibConfig]:
    """(verb, request) of "add 20.0.0.0/8 via 10.0.0.2 ..."."""
    words = oneline(command, list(ROUTE_VERBS))
    words.command = f"route {command}"
    verb = words.next("a verb")
    cfg = FibConfig()
    cfg.fc_nlflags = ROUTE_VERBS[verb]
    if verb != "del":
        cfg.fc_type = RTN_UNICAST
        cfg.fc_protocol = RTPROT_BOOT
    word = words.next("the destination")
    if word in TYPES:
        cfg.fc_type = TYPES[word]
        word = words.next("the destination")
    cfg.fc_dst, cfg.fc_dst_len = (0, 0) if word == "default" else parse_address(word, "destination")
    scope = table = -1
    metrics = [0] * RTAX_MAX
    hop: FibNhConfig | None = None
    while words:
        word = words.next("")
        if word == "nexthop":
            hop = FibNhConfig()
            cfg.fc_mp = [*(cfg.fc_mp or []), hop]
        elif word == "via":
            gw = parse_address(words.next("the gateway"), "via")[0]
            if hop is None:
                cfg.fc_gw = gw
            else:
                hop.gw = gw
        elif word == "dev":
            oif = ifindex(net, words)
            if hop is None:
                cfg.fc_oif = oif
            else:
                hop.oif = oif
        elif word in ("onlink", "pervasive"):
            flag = RTNH_F_ONLINK if word == "onlink" else RTNH_F_PERVASIVE
            if hop is None:
                cfg.fc_flags |= flag
            else:
                hop.flags |= flag
        elif word == "weight" and hop is not None:
            hop.weight = words.number("weight")
            if not 1 <= hop.weight <= 256:
                raise UsageError(f"{words.command}: a weight is between 1 and 256")
        elif word == "src":
            cfg.fc_prefsrc = parse_address(words.next("src"), "src")[0]
        elif word in ("metric", "preference", "priority"):
            cfg.fc_priority = words.number(word)
        elif word in ("tos", "dsfield"):
            cfg.fc_dscp = words.number(word)
        elif word == "scope":
            scope = words.named(SCOPES, "scope")
        elif word in ("proto", "protocol"):
            cfg.fc_protocol = words.named(PROTOCOLS, "proto")
        elif word == "table":
            table = words.named(TABLES, "table")
        elif word in METRICS and word:
            read_metric(words, METRICS.index(word), metrics, cfg)
        else:
            raise words.unknown(word)
    if any(metrics):
        cfg.fc_metrics = metrics
    if table >= 0:
        cfg.fc_table = table
    elif cfg.fc_type in (RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST):
        cfg.fc_table = RT_TABLE_LOCAL
    if scope >= 0:
        cfg.fc_scope = scope
    elif cfg.fc_type == RTN_LOCAL:
        cfg.fc_scope = RT_SCOPE_HOST
    elif cfg.fc_type in (RTN_BROADCAST, RTN_MULTICAST, RTN_ANYCAST):
        cfg.fc_scope = RT_SCOPE_LINK
    elif verb == "del":
        cfg.fc_scope = RT_SCOPE_NOWHERE
    elif cfg.fc_type == RTN_UNICAST and "via" not in command.split() and cfg.fc_mp is None:
        cfg.fc_scope = RT_SCOPE_LINK
    else:
        cfg.fc_scope = RT_SCOPE_UNIVERSE
    return verb, cfg


def ifindex(net: Net, words: Words) -> int:
    name = words.next("a device")
    dev = net.dev_by_name.get(name)
    if dev is None:
        raise UsageError(f"{words.command}: there is no device {name!r}, only {', '.join(net.dev_by_name)}")
    return dev.ifindex


def read_metric(words: Words, metric: int, metrics: list[int], cfg: FibConfig) -> None:
    """One metric of a route; times become what the kernel counts in: rtt ms << 3, rttvar ms << 2, rto_min ms."""
    name = METRICS[metric]
    word = words.next(name)
    if word == "lock":
        metrics[RTAX_LOCK - 1] |= 1 << metric
        word = words.next(name)
    if metric == RTAX_CC_ALGO:
        cfg.fc_cc_algo = word
        return
    if metric == RTAX_FEATURES:
        if word != "ecn":
            raise UsageError(f"{words.command}: the only feature is 'ecn'")
        metrics[metric - 1] = RTAX_FEATURE_ECN
        return
    if metric not in (RTAX_RTT, RTAX_RTTVAR, RTAX_RTO_MIN):
        metrics[metric - 1] = words.number_of(word, name)
        return
    if metric == RTAX_RTO_MIN:
        metrics[RTAX_LOCK - 1] |= 1 << RTAX_RTO_MIN  # else TCP would not look at it
    digits = word.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = word[len(digits) :]
    if unit not in ("", "s", "ms"):
        raise UsageError(f"{words.command}: {name} {word!r} is not a time: write it like 100ms or 2s")
    value = words.number_of(digits, name) * (1000 if unit == "s" else 1)
    if unit:
        value <<= 3 if metric == RTAX_RTT else 2 if metric == RTAX_RTTVAR else 0
    metrics[metric - 1] = value


def ip_route(net: Net, command: str) -> tuple[int, str]:
    """Do "add ...", "del ...", ... (0, "") or (-errno, the reason in the stack's words)."""
    verb, cfg = route_config(net, command)
    if verb == "del":
        return fib_frontend.inet_rtm_delroute(net, cfg), cfg.extack
    return fib_frontend.inet_rtm_newroute(net, cfg), cfg.extack


def table_id(table: str | int) -> int:
    """The number of a table that is given by name or number."""
    if isinstance(table, int):
        return table
    return Words(f"table {table}", [table]).named(TABLES, "table")


def prefix_show(addr: int, plen: int) -> str:
    return "default" if plen == 0 else format_address(addr) if plen == 32 else f"{format_address(addr)}/{plen}"


def named(names: dict[str, int], number: int) -> str:
    for name, value in names.items():
        if value == number:
            return name
    return str(number)


def flags_show(flags: int) -> str:
    return "".join([f" {name}" for name, bit in FLAGS.items() if flags & bit])


def nexthop_show(nh: FibNh) -> str:
    out = f" via {format_address(nh.nhc_gw)}" if nh.nhc_gw else ""
    return out + (f" dev {nh.nhc_dev.name}" if nh.nhc_dev is not None else "")


def metrics_show(net: Net, metrics: list[int] | None) -> str:
    """ " mtu lock 1400 rtt 100ms"."""
    if metrics is None:
        return ""
    out = ""
    for i in range(2, len(METRICS)):
        value = metrics[i - 1]
        if value == 0:
            continue
        out += f" {METRICS[i]}" + (" lock" if metrics[RTAX_LOCK - 1] >> i & 1 else "")
        if i == RTAX_RTT:
            out += f" {value >> 3}ms"
        elif i == RTAX_RTTVAR:
            out += f" {value >> 2}ms"
        elif i == RTAX_RTO_MIN:
            out += f" {value / 1000:g}s" if value >= 1000 else f" {value}ms"
        elif i == RTAX_FEATURES:
            out += " ecn" if value & RTAX_FEATURE_ECN else ""
        elif i == RTAX_CC_ALGO:
            out += f" {tcp_cong.tcp_ca_get_name_by_key(net.kernel, value)}"
        else:
            out += f" {value}"
    return out


def one_route_show(net: Net, prefix: int, plen: int, type: int, dscp: int, fi: FibInfo, table: int) -> str:
    """A route as `ip route show table ...` prints it: a line, and a line for each of several next hops."""
    out = "" if type == RTN_UNICAST else named(TYPES, type) + " "
    out += prefix_show(prefix, plen)
    if dscp:
        out += f" tos 0x{dscp:02x}"
    nh = fi.fib_nh[0]
    single = len(fi.fib_nh) == 1
    if single:
        out += nexthop_show(nh)
    if fi.fib_protocol not in (RTPROT_BOOT, RTPROT_UNSPEC):
        out += f" proto {named(PROTOCOLS, fi.fib_protocol)}"
    if fi.fib_scope != RT_SCOPE_UNIVERSE:
        out += f" scope {named(SCOPES, fi.fib_scope)}"
    if fi.fib_prefsrc:
        out += f" src {format_address(fi.fib_prefsrc)}"
    if fi.fib_priority:
        out += f" metric {fi.fib_priority}"
    out += flags_show(fib_semantics.fib_nexthop_flags(nh) if single else fi.fib_flags)
    out += metrics_show(net, fi.fib_metrics)
    if not single:
        for nh in fi.fib_nh:
            out += f"\n\tnexthop{nexthop_show(nh)} weight {nh.nhc_weight}{flags_show(fib_semantics.fib_nexthop_flags(nh))}"
    return out


def route_show(net: Net, table: str | int = "main") -> list[str]:
    """The routes of a table, as `ip route show table TABLE` prints them."""
    id = table_id(table)
    tb = net.ipv4.fib.tables.get(id)
    if tb is None:
        return []
    return [
        one_route_show(net, prefix, 32 - fa.fa_slen, fa.fa_type, fa.fa_dscp, fa.fa_info, id)
        for prefix, fa in fib_trie.fib_table_dump(tb)
    ]


# -- rules ---------------------------------------------------------------------------------------------------------------------


def rule_config(net: Net, command: str) -> tuple[str, FibRuleConfig]:
    """(verb, request) of "add from 10.0.0.0/8 lookup 100"."""
    words = oneline(command, ["add", "del"])
    words.command = f"rule {command}"
    verb = words.next("a verb")
    cfg = FibRuleConfig()
    table_given = False  # table 0, too: the stack then finds an empty one
    if verb == "add":
        cfg.action = FR_ACT_TO_TBL
    while words:
        word = words.next("")
        if word == "not":
            cfg.flags |= FIB_RULE_INVERT
        elif word == "from":
            cfg.src, cfg.src_len = words.prefix("from")
        elif word == "to":
            cfg.dst, cfg.dst_len = words.prefix("to")
        elif word in ("preference", "pref", "order", "priority"):
            cfg.priority = words.number(word)
        elif word in ("tos", "dsfield"):
            cfg.tos = words.number(word)
        elif word == "dscp":
            cfg.dscp = words.number(word) << 2 & 0xFF
        elif word == "fwmark":
            mark, slash, mask = words.next("fwmark").partition("/")
            cfg.fwmark = words.number_of(mark, "fwmark")
            if slash:
                cfg.fwmask = words.number_of(mask, "mask of fwmark")
        elif word in ("iif", "dev"):
            cfg.iifname = words.next("iif")
        elif word == "oif":
            cfg.oifname = words.next("oif")
        elif word == "uidrange":
            cfg.uid_range = words.range("uidrange")
        elif word == "ipproto":
            cfg.ip_proto = words.named(IP_PROTOCOLS, "ipproto")
        elif word == "sport":
            cfg.sport = words.range("sport")
        elif word == "dport":
            cfg.dport = words.range("dport")
        elif word in ("table", "lookup"):
            cfg.table = words.named(TABLES, "table")
            table_given = True
        elif word in ("suppress_prefixlength", "sup_pl"):
            cfg.suppress_prefixlen = words.number(word)
        elif word in ("suppress_ifgroup", "sup_group"):
            cfg.suppress_ifgroup = words.named({"default": 0}, word)
        elif word == "protocol":
            cfg.protocol = words.named(PROTOCOLS, "protocol")
        elif word == "goto":
            cfg.action = FR_ACT_GOTO
            cfg.goto = words.number(word)
        elif word in RULE_ACTIONS:
            cfg.action = RULE_ACTIONS[word]
        else:
            raise words.unknown(word)
    if verb == "add" and not table_given:
        cfg.table = RT_TABLE_MAIN if cfg.action == FR_ACT_TO_TBL else RT_TABLE_UNSPEC
    return verb, cfg


def ip_rule(net: Net, command: str) -> tuple[int, str]:
    """Do "add ..." or "del ...". (0, "") or (-errno, the reason in the stack's words)."""
    verb, cfg = rule_config(net, command)
    if verb == "del":
        return ip_rule_del(net, cfg), cfg.extack
    return ip_rule_add(net, cfg), cfg.extack


def range_show(range: tuple[int, int]) -> str:
    return str(range[0]) if range[0] == range[1] else f"{range[0]}-{range[1]}"


def one_rule_show(rule: Fib4Rule) -> str:
    out = f"{rule.pref}:\t" + ("not " if rule.flags & FIB_RULE_INVERT else "")
    out += f"from {prefix_show(rule.src, rule.src_len) if rule.src_len else 'all'}"
    if rule.dst_len:
        out += f" to {prefix_show(rule.dst, rule.dst_len)}"
    if rule.dscp_full:
        out += f" dscp {rule.dscp >> 2}"
    elif rule.dscp:
        out += f" tos 0x{rule.dscp:02x}"
    if rule.mark or rule.mark_mask:
        out += f" fwmark {rule.mark:#x}" + ("" if rule.mark_mask == 0xFFFFFFFF else f"/{rule.mark_mask:#x}")
    if rule.iifname:
        out += f" iif {rule.iifname}" + (" [detached]" if rule.iifindex < 0 else "")
    if rule.oifname:
        out += f" oif {rule.oifname}" + (" [detached]" if rule.oifindex < 0 else "")
    if rule.uid_range[0] >= 0:
        out += f" uidrange {rule.uid_range[0]}-{rule.uid_range[1]}"
    if rule.ip_proto:
        out += f" ipproto {named(IP_PROTOCOLS, rule.ip_proto)}"
    if rule.sport_range[0]:
        out += f" sport {range_show(rule.sport_range)}"
    if rule.dport_range[0]:
        out += f" dport {range_show(rule.dport_range)}"
    if rule.table:
        out += f" lookup {named(TABLES, rule.table)}"
        if rule.suppress_prefixlen >= 0:
            out += f" suppress_prefixlength {rule.suppress_prefixlen}"
        if rule.suppress_ifgroup >= 0:
            out += f" suppress_ifgroup {named({'default': 0}, rule.suppress_ifgroup)}"
    if rule.action == FR_ACT_GOTO:
        out += f" goto {rule.target}" + (" [unresolved]" if rule.ctarget is None else "")
    elif rule.action != FR_ACT_TO_TBL:
        out += f" {named(RULE_ACTIONS, rule.action)}"
    if rule.proto not in (RTPROT_UNSPEC, RTPROT_KERNEL):
        out += f" proto {named(PROTOCOLS, rule.proto)}"
    return out


def rule_show(net: Net) -> list[str]:
    """The rules as `ip rule` prints them."""
    ops = net.ipv4.fib.rules_ops
    assert ops is not None
    return [one_rule_show(rule) for rule in ops.rules_list if isinstance(rule, Fib4Rule)]
