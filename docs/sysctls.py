"""Generates docs/sysctls.md: every sysctl of net.ipv4 and net.core that Linux 6.18 has, its default, whether afinet has it, and
where it is read; and why those that are missing are.

    python docs/sysctls.py           write docs/sysctls.md
    python docs/sysctls.py --check   exit with 1, naming them, if a setting is read by nothing, a missing one has no reason, or the
                                     page is out of date

Linux's names and defaults are those of tests/parity/sysctl_answers.json, which the running kernel gave;
tests/parity/test_sysctls.py compares limits, formats and errors as well.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from afinet.init.main import start_kernel  # noqa: E402
from afinet.kernel.sysctl import CtlTable  # noqa: E402

SRC = ROOT / "src" / "afinet"
PAGE = ROOT / "docs" / "sysctls.md"
ANSWERS = ROOT / "tests" / "parity" / "sysctl_answers.json"

# Names that Linux has and afinet has not, by pattern, each with its reason.
MISSING = {
    r"net\.core\.rps_default_mask": "one CPU",
    r"net\.core\.tstamp_allow_data": "no SO_TIMESTAMPING",
    r"net\.(core\.xfrm_.*|ipv4\.xfrm4_.*)": "no IPsec",
    r"net\.ipv4\.conf\..*\.disable_(policy|xfrm)": "no IPsec",
    r"net\.ipv4\.conf\..*\.(bootp_relay|tag)": "nothing reads it in Linux either",
    r"net\.ipv4\.neigh\.lo\.anycast_delay": "IPv6's",
    r"net\.ipv4\.neigh\.lo\.interval_probe_time_ms": "no managed neighbours, which netlink makes",
    r"net\.ipv4\.(fib_notify_on_flag_change|nexthop_compat_mode)": "netlink's and nexthop objects'",
    r"net\.ipv4\.(raw|tcp|udp)_l3mdev_accept": "no VRFs",
    r"net\.ipv4\.(tcp|udp)_(child_)?e?hash_entries": "tables here are dicts and grow by themselves",
    r"net\.ipv4\.tcp_(fack|low_latency|adv_win_scale)": "does nothing in Linux either",
    r"net\.ipv4\.icmp_echo_enable_probe": "no extended echo (RFC 8335)",
    r"net\.ipv4\.tcp_fastopen.*": "no TCP fast open",
    r"net\.ipv4\.tcp_(no_metrics_save|no_ssthresh_metrics_save)": "no metrics cache; a route's own metrics are read",
    r"net\.ipv4\.tcp_plb_.*": "no protective load balancing",
    r"net\.ipv4\.tcp_ecn_option.*": "no accurate ECN",
    r"net\.ipv4\.tcp_migrate_req": "requests die with their listener",
    r"net\.ipv4\.tcp_comp_sack_slack_ns": "timers here have no slack",
}
HANDLERS = ("net/ipv4/sysctl_net_ipv4.py", "net/core/sysctl_net_core.py")
# Not found by name: what shows a state; what bounds another setting, as in Linux (ipfrag_high_thresh); a list that
# proto.sysctl_mem is, too.
SHOWN = ("mc_forwarding", "low_thresh", "sysctl_tcp_mem")


class Reads(ast.NodeVisitor):
    """The names that a file reads: attributes, functions called. Copies of all settings (`x.f = source.f`, `p.f = d.f`) are no
    reading, nor what the functions IN_DEV_* read: those count where they are called."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.in_dev: dict[str, set[str]] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name.startswith("IN_DEV_"):
            inner = Reads()
            inner.generic_visit(node)
            self.in_dev[node.name] = inner.names
        else:
            self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        copied = isinstance(node.value, ast.Name) and node.value.id in ("source", "d")
        if isinstance(node.ctx, ast.Load) and not copied:
            self.names.add(node.attr)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.names.add(node.id)


def all_reads() -> dict[str, set[str]]:
    files: dict[str, Reads] = {}
    for path in sorted(SRC.rglob("*.py")):
        reads = Reads()
        reads.visit(ast.parse(path.read_text()))
        files[path.relative_to(SRC).as_posix()] = reads
    macros = {name: fields for reads in files.values() for name, fields in reads.in_dev.items()}
    for reads in files.values():
        for name in sorted(reads.names & macros.keys()):
            reads.names |= macros[name]
    return {path: reads.names for path, reads in files.items()}


def reason(name: str) -> str:
    for pattern, why in MISSING.items():
        if re.fullmatch(pattern, name):
            return why
    return ""


def render() -> tuple[str, list[str]]:
    kernel = start_kernel("sysctls", b"sysctls", 250)
    net = kernel.init_net
    assert net is not None
    mine = {path.replace("/", "."): entry for table in (kernel.sysctl_table, net.sysctl_table) for path, entry in table.items()}
    linux: dict[str, str] = {name: told.partition("|")[0] for name, told in json.loads(ANSWERS.read_text()).items()}
    reads = all_reads()
    problems: list[str] = []
    have: list[str] = []
    missing: list[str] = []
    for name in sorted({**linux, **mine}):
        if (".conf." in name and ".conf.all." not in name) or (".neigh.lo." in name and not reason(name)):
            continue  # the same again
        entry = mine.get(name)
        default = linux.get(name, "").replace("\t", " ")
        if entry is None:
            why = reason(name)
            if not why:
                problems.append(f"{name}: missing without a reason")
            missing.append(f"| `{name}` | {default} | {why} |")
            continue
        where = [path for path, names in reads.items() if entry.field in names and not path.startswith(HANDLERS)]
        if not where and entry.field not in SHOWN and type(entry).read is CtlTable.read:
            problems.append(f"{name}: nothing reads {entry.field}")
        links = ", ".join(where[:4]) + (" ..." if len(where) > 4 else "")
        shown = entry.read().replace("\t", " ") if entry.mode & 0o400 else ""
        have.append(f"| `{name}` | {shown} | {links or 'its own handler'} |")
    out = [
        "# Sysctls",
        "",
        "Of the settings under `net.ipv4` and `net.core` that a namespace of Linux 6.18 shows, and of those of the machine that",
        f"mean something here, afinet has {len(have)}; {len(missing)} are missing. Each that is there has Linux's default, limits,",
        "format and errors (`tests/parity/test_sysctls.py`: the running kernel's answers to 62 values each) and is read by the",
        "stack. Those that depend on the machine's memory have the values of one with 16 GiB. Settings of a device (`conf.DEV`,",
        "`neigh.DEV`) are those of `conf.all` and `neigh.default` again. Generated by `python docs/sysctls.py`; CI checks it.",
        "",
        "| name | default | read in |",
        "|---|---|---|",
        *have,
        "",
        "## Missing",
        "",
        "Reading or writing one of these is ENOENT.",
        "",
        "| name | Linux's default | why |",
        "|---|---|---|",
        *missing,
    ]
    return "\n".join(out) + "\n", problems


def main() -> int:
    page, problems = render()
    # Which files read a setting changes with every edit; what must be right is the rest, and that some file does.
    loose = re.compile(r"(?<=\| )[\w/]+\.py.*$", re.M)
    if "--check" in sys.argv:
        if not PAGE.exists() or loose.sub("", PAGE.read_text()) != loose.sub("", page):
            problems.append("docs/sysctls.md is out of date: python docs/sysctls.py")
        for problem in problems:
            print(problem)
        return 1 if problems else 0
    PAGE.write_text(page)
    for problem in problems:
        print(problem)
    return 0


if __name__ == "__main__":
    sys.exit(main())
