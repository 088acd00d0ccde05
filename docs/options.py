"""Generates docs/options.md: every socket option of Linux 6.18, whether it works here, for whom, and what acts on it or why not.

    python docs/options.py           write docs/options.md
    python docs/options.py --check   exit with 1, naming them, if an option is missing from the list, if one that is refused has no
                                     line in docs/differences.md, if nothing reads what is set, if one has no test, or the page is
                                     out of date

Whether an option works is asked of the stack itself, with many values on every kind of socket; the words are those of
docs/option_names.txt. That it answers as Linux does, value by value, is for tests/parity to show.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "options.md"
sys.path.insert(0, str(ROOT / "src"))

from afinet.init import syscalls  # noqa: E402
from afinet.init.main import new_task, start_kernel  # noqa: E402
from afinet.kernel.sysctl import sysctl_write  # noqa: E402
from afinet.kernel.task import Task  # noqa: E402
from afinet.kernel.wait import Kiocb  # noqa: E402
from afinet.net.socket import Socket  # noqa: E402
from afinet.security.security import SecurityHook, security_add_hooks  # noqa: E402
from afinet.uapi import icmp, in_, socket, tcp, udp  # noqa: E402
from afinet.uapi.errno import ENOPROTOOPT, EOPNOTSUPP  # noqa: E402
from afinet.uapi.filter import bpf_insn, pack_sock_fprog  # noqa: E402
from afinet.uapi.sockaddr import pack_s32, pack_sockaddr_in  # noqa: E402

LEVELS = {"SOL_SOCKET": 1, "SOL_IP": 0, "SOL_TCP": 6, "SOL_UDP": 17, "SOL_RAW": 255}
KINDS = {"tcp": (1, 6), "udp": (2, 17), "ping": (2, 1), "raw": (3, 1)}
VALUES = (
    pack_s32(1),
    pack_s32(0),
    pack_s32(2000),
    bytes(8),
    bytes(12),
    bytes(16),
    bytes(136),
    b"cubic",
    pack_sock_fprog(bpf_insn(6, 1)),
)
LENGTHS = (4, 8, 12, 16, 100, 300)
# Names in the headers that are no options of their own: values, flags, sizes, and other names of the same number.
NO_OPTIONS = re.compile(
    r"SO_(DETACH_BPF|EE_|SECURITY_)|IP_(PMTUDISC_|DEFAULT_|RECVORIGDSTADDR|RECVRETOPTS)|MCAST_(EXCLUDE|INCLUDE)"
    r"|UDP_ENCAP_|TCP_(CA_|CLOSE|CLOSING|CM_INQ|ESTABLISHED|SYN_|FIN_|TIME_WAIT|LAST_ACK|LISTEN|NEW_SYN|BOUND|MAX_STATES|MSS_"
    r"|MD5SIG_(FLAG|MAX)|NO_QUEUE|RECV_QUEUE|SEND_QUEUE|QUEUES_NR|REPAIR_O(N|FF)|RECEIVE_ZEROCOPY|RESERVED_BITS|DATA_OFFSET)"
)


# tests/parity/option_cases.py leaves these out: their values are chance, or the machine's.
UNCOMPARED = ("SO_COOKIE", "SO_NETNS_COOKIE", "SO_INCOMING_NAPI_ID", "TCP_CONGESTION", "TCP_TIMESTAMP", "TCP_CC_INFO")


# Options that do something at once and keep nothing of their own.
ACTIONS = (
    "SO_CNX_ADVICE", "SO_DETACH_FILTER", "SO_DETACH_REUSEPORT_BPF", "SO_GET_FILTER", "IP_DROP_MEMBERSHIP",
    "IP_DROP_SOURCE_MEMBERSHIP", "IP_BLOCK_SOURCE", "IP_UNBLOCK_SOURCE", "IP_MSFILTER", "MCAST_BLOCK_SOURCE", "MCAST_JOIN_GROUP",
    "MCAST_JOIN_SOURCE_GROUP", "MCAST_LEAVE_GROUP", "MCAST_LEAVE_SOURCE_GROUP", "MCAST_MSFILTER", "MCAST_UNBLOCK_SOURCE",
    "TCP_TIMESTAMP",
)  # fmt: skip


class Option(NamedTuple):
    level: str
    name: str
    number: int
    words: str
    field: str


def headers() -> dict[str, int]:
    """The names of uapi that look like options."""
    found: dict[str, int] = {}
    for module, prefixes in ((socket, ("SO_",)), (in_, ("IP_", "MCAST_")), (tcp, ("TCP_",)), (udp, ("UDP_",))):
        for name, value in vars(module).items():
            if name.startswith(prefixes) and isinstance(value, int) and not NO_OPTIONS.match(name):
                found[name] = value
    found["ICMP_FILTER"] = icmp.ICMP_FILTER
    return found


def options() -> list[Option]:
    known = headers()
    out: list[Option] = []
    level = ""
    for line in (ROOT / "docs" / "option_names.txt").read_text().splitlines():
        if line.startswith("== "):
            level = line[3:]
        elif line and not line.startswith("#"):
            parts = [part.strip() for part in line.split("|")]
            name, _, number = parts[0].partition("=")
            field = parts[2] if len(parts) > 2 else ""
            out.append(Option(level, name, int(number) if number else known[name], parts[1], field))
    return out


class Labels(SecurityHook):
    """A module that knows peers' contexts, as SO_PEERSEC needs one."""

    def socket_getpeersec_stream(self, sock: Socket) -> tuple[int, bytes]:
        return 0, b"context"


class Probe:
    """Sockets of every kind on a machine of its own."""

    def __init__(self) -> None:
        self.kernel = start_kernel("options", b"options")
        assert self.kernel.init_net is not None
        self.task: Task = new_task(self.kernel, self.kernel.init_net, "options", None)
        security_add_hooks(self.kernel, Labels())
        sysctl_write(self.kernel.init_net.sysctl_table, "net.ipv4.ping_group_range", "0 0")

    def socket(self, kind: str) -> int:
        type, protocol = KINDS[kind]
        fd = syscalls.sys_socket(self.task, socket.AF_INET, type, protocol)
        assert fd >= 0
        return fd

    def can_set(self, kind: str, option: Option) -> bool:
        for value in VALUES:
            fd = self.socket(kind)
            if option.name == "SO_ATTACH_REUSEPORT_CBPF":
                syscalls.sys_setsockopt(self.task, fd, 1, socket.SO_REUSEPORT, pack_s32(1))
            err = syscalls.sys_setsockopt(self.task, fd, LEVELS[option.level], option.number, value)
            syscalls.sys_close(self.task, Kiocb(), fd)
            if err not in (-ENOPROTOOPT, -EOPNOTSUPP):
                return True
        return False

    def can_get(self, kind: str, option: Option) -> bool:
        fd = self.socket(kind)
        if kind == "udp":
            syscalls.sys_bind(self.task, fd, pack_sockaddr_in(0, 0))
        errs = [syscalls.sys_getsockopt(self.task, fd, LEVELS[option.level], option.number, length)[0] for length in LENGTHS]
        syscalls.sys_close(self.task, Kiocb(), fd)
        return any(err not in (-ENOPROTOOPT, -EOPNOTSUPP) for err in errs)


def tests() -> dict[str, str]:
    """For each word, a test file in which it stands."""
    words: dict[str, str] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for word in set(re.findall(r"\w+", path.read_text())):
            words.setdefault(word, path.relative_to(ROOT).as_posix())
    return words


def readers() -> dict[str, str]:
    """For each word, a file of the stack that looks at it: not where options are set and read back, not where it is declared,
    imported or only stored."""
    words: dict[str, str] = {}
    for path in sorted((ROOT / "src" / "afinet" / "net").rglob("*.py")):
        if path.name in ("sockopt.py", "tcp_sockopt.py"):
            continue
        where = path.relative_to(ROOT / "src" / "afinet").as_posix()
        for line in path.read_text().splitlines():
            text = line.strip()
            if re.match(r'"?\w+"?,?$|self\.\w+: |\w+: Final|from |import |\w+: INET_FLAGS_|#', text) or "__slots__" in text:
                continue
            text = re.sub(r"^[\w.]*\.(\w+) (=|\|=) ", "", text)  # a store is no look
            for word in set(re.findall(r"\w+", text)):
                words.setdefault(word, where)
    return words


def listed(name: str, differences: str) -> bool:
    """Whether docs/differences.md names the option, or a family of options that it belongs to (`TCP_REPAIR*`)."""
    for word in re.findall(r"`([A-Z0-9_]+\*?)`", differences):
        if word == name or (word.endswith("*") and name.startswith(word[:-1])):
            return True
    return False


def render() -> tuple[str, list[str]]:
    probe, by_word, read_by = Probe(), tests(), readers()
    differences = (ROOT / "docs" / "differences.md").read_text()
    problems: list[str] = []
    rows: dict[str, list[str]] = {}
    counts: dict[str, list[int]] = {}
    wanted = options()
    for name in sorted({*headers()} - {option.name for option in wanted}):
        problems.append(f"{name}: not in docs/option_names.txt")
    for option in wanted:
        setting = [kind for kind in KINDS if probe.can_set(kind, option)]
        getting = [kind for kind in KINDS if probe.can_get(kind, option)]
        kinds = [kind for kind in KINDS if kind in setting or kind in getting]
        as_linux = "(= Linux)" in option.words
        state = "works" if kinds else "refused, as in Linux" if as_linux else "**refused**"
        if as_linux and kinds:
            state = "as in Linux"
        if not kinds and not as_linux and not listed(option.name, differences):
            problems.append(f"{option.name}: refused, and no line in docs/differences.md says so")
        # Every number is compared with Linux by the matrix, but for those whose value is the machine's.
        test = by_word.get(option.name, "" if option.name in UNCOMPARED else "tests/parity/option_cases.py")
        if not test and kinds:
            problems.append(f"{option.name}: no test names it")
        how = " ".join(word for word, can in (("set", setting), ("get", getting)) if can)
        who = "all" if len(kinds) == len(KINDS) else " ".join(kinds)
        words = option.words.replace(" (= Linux)", "")
        reader = read_by.get(option.field, "")
        if option.field and not reader:
            problems.append(f"{option.name}: nothing reads {option.field}")
        if setting and not as_linux and not option.field and option.name not in ACTIONS:
            problems.append(f"{option.name}: docs/option_names.txt does not say where it is kept")
        where = f"`{test}`" if test else ""
        rows.setdefault(option.level, []).append(f"| `{option.name}` | {state} | {how} | {who} | {words} | {reader} | {where} |")
        count = counts.setdefault(option.level, [0, 0, 0])
        count[0 if kinds and not as_linux else 1 if as_linux else 2] += 1
    out = [
        "# Socket options",
        "",
        "Every socket option that Linux 6.18 has for AF_INET, by level. Works: something acts on it; values, lengths and errors",
        "are Linux's (`tests/parity/option_cases.py` compares every number of every level, with many values and lengths). As in",
        "Linux: accepted or refused there, too, without effect on AF_INET. Refused: ENOPROTOOPT, or the errno that",
        "[differences.md](differences.md) gives. Generated by `python docs/options.py` from the stack itself; CI checks it.",
        "",
        "| level | work | as in Linux, no effect | refused |",
        "|---|---|---|---|",
        *[f"| {level} | {c[0]} | {c[1]} | {c[2]} |" for level, c in counts.items()],
        "| all | " + " | ".join(str(sum(c[i] for c in counts.values())) for i in range(3)) + " |",
    ]
    for level, lines in rows.items():
        out += ["", f"## {level}", "", "| option | | | sockets | what acts on it, or why nothing does | read in | a test |"]
        out += ["|---|---|---|---|---|---|---|", *lines]
    return "\n".join(out) + "\n", problems


def main() -> int:
    page, problems = render()
    # Readers and tests come and go: what must be right is the rest, and that there is one.
    loose = re.compile(r"\|[^|]*\|[^|]*\|$", re.M)
    if "--check" in sys.argv:
        if not PAGE.exists() or loose.sub("", PAGE.read_text()) != loose.sub("", page):
            problems.append("docs/options.md is out of date: run `python docs/options.py`")
        print("\n".join(problems) or "docs/options.md: every option is listed, tested, and where it is refused explained")
        return 1 if problems else 0
    PAGE.write_text(page)
    print(f"wrote docs/options.md: {len(options())} options, {len(problems)} open" + "".join(f"\n  {p}" for p in problems))
    return 0


if __name__ == "__main__":
    sys.exit(main())
