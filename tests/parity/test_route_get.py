"""The same addresses and routes given to the running kernel (`ip` in a namespace) and to afinet: the same tables, the same answers
to `ip route get`, the same errors in the same words."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator

import pytest

from afinet.kernel.sysctl import sysctl_write
from afinet.net.core import dev as dev_core
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.ipv4 import fib_frontend, route
from afinet.net.ipv4.inet_sock import IPSKB_DOREDIRECT
from afinet.net.ipv4.ip_fib import FibConfig, FibNhConfig
from afinet.uapi.in_route import RTCF_BROADCAST, RTCF_LOCAL, RTCF_MULTICAST, RTCF_REDIRECTED
from afinet.uapi.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from afinet.uapi.rtnetlink import RTAX_ADVMSS, RTAX_LOCK, RTAX_MAX, RTAX_MTU, RTNH_F_ONLINK
from tests.net.ipv4.routing import A, S, add_addr, add_dev, boot, del_addr, ip_route_show, packet

NS = f"afinet-rt-{os.getpid()}"
TYPES = {"unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6, "unreachable": 7,
         "prohibit": 8, "throw": 9}  # fmt: skip
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
ADDRESS_ERRORS = {"Address already assigned": "EEXIST", "Invalid scope value": "EINVAL", "Address not found": "EADDRNOTAVAIL"}
TABLES = {"local": 255, "main": 254, "default": 253}


def ip(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *args], capture_output=True, text=True, timeout=20)


def why_not() -> str:
    if shutil.which("ip") is None:
        return "no ip(8)"
    if os.geteuid() != 0:
        return "not root"
    made = ip("netns", "add", NS)
    if made.returncode:
        return f"no network namespaces: {made.stderr.strip()}"
    link = ip("-n", NS, "link", "add", "e0", "type", "veth", "peer", "name", "q0")
    ip("netns", "del", NS)
    return f"no veth: {link.stderr.strip()}" if link.returncode else ""


@pytest.fixture(scope="module")
def usable() -> None:
    reason = why_not()
    if reason:
        warnings.warn(f"PARITY NOT CHECKED: routes against the running kernel ({reason})", stacklevel=1)
        pytest.skip(f"PARITY NOT CHECKED: {reason}")


class Linux:
    """The kernel's side."""

    def __init__(self) -> None:
        assert ip("netns", "add", NS).returncode == 0
        for name in ("all", "default"):  # a host's own settings must not decide
            self.sysctl(f"net.ipv4.conf.{name}.rp_filter", "0")
        self.do("link set lo up")
        for i in range(3):
            self.do(f"link add e{i} type veth peer name q{i}")
        for i in range(3):
            self.do(f"link set e{i} up")
            self.do(f"link set q{i} up")
            self.sysctl(f"net.ipv4.conf.e{i}.rp_filter", "0")

    def close(self) -> None:
        ip("netns", "del", NS)

    def sysctl(self, name: str, value: str) -> None:
        path = "/proc/sys/" + name.replace(".", "/")
        subprocess.run(["ip", "netns", "exec", NS, "sh", "-c", f"echo {value} > {path}"], check=True, timeout=20)

    def do(self, command: str) -> str:
        return self.error(ip("-n", NS, *command.split()).stderr)

    @staticmethod
    def error(text: str) -> str:
        """What was refused, as a name of errno or in the words of the kernel."""
        line = text.strip().partition("\n")[0]
        for words, name in ADDRESS_ERRORS.items():
            if words in line:
                return name
        if line.startswith("RTNETLINK answers: "):
            words = line.partition(": ")[2]
            return next(errno.errorcode[e] for e in errno.errorcode if os.strerror(e) == words)
        return line.removeprefix("Error: ").rstrip(".")

    def show(self, table: str) -> list[str]:
        out = ip("-n", NS, "-4", "route", "show", "table", table).stdout
        return [" ".join(line.split()) for line in out.splitlines()]

    def get_all(self, queries: list[str]) -> list[dict[str, object]]:
        """One `ip -batch` for all: answers on stdout, in order; on stderr the error and then the number of each that failed."""
        batch = "".join(f"route get {query}\n" for query in queries)
        done = subprocess.run(
            ["ip", "-force", "-j", "-n", NS, "-batch", "-"], input=batch, capture_output=True, text=True, timeout=60
        )
        failed: dict[int, str] = {}
        error = ""
        for line in done.stderr.splitlines():
            if line.startswith("Command failed -:"):
                failed[int(line.rpartition(":")[2])] = self.error(error)
            else:
                error = line
        answers = iter([json.loads(line)[0] for line in done.stdout.splitlines() if line.strip()])
        out: list[dict[str, object]] = []
        for number in range(1, len(queries) + 1):
            if number in failed:
                out.append({"error": failed[number]})
                continue
            answer = next(answers)
            keep = {k: answer[k] for k in ("type", "dst", "gateway", "dev", "prefsrc") if k in answer}
            keep["cache"] = sorted(answer.get("cache", []))
            out.append(keep)
        assert next(answers, None) is None
        return out


class Afinet:
    """Ours, taking the same commands."""

    def __init__(self) -> None:
        self.net: Net = boot()
        for i in range(3):
            add_dev(self.net, f"e{i}")
            add_dev(self.net, f"q{i}")

    def close(self) -> None:
        pass

    def sysctl(self, name: str, value: str) -> None:
        assert sysctl_write(self.net.sysctl_table, name, value) == 0

    def do(self, command: str) -> str:
        words = command.split()
        if words[:2] == ["addr", "add"]:
            brd = words[words.index("brd") + 1] if "brd" in words else ""
            scope = SCOPES[words[words.index("scope") + 1]] if "scope" in words else 0
            dev = self.net.dev_by_name[words[words.index("dev") + 1]]
            return self.error(add_addr(dev, words[2], scope, brd), "")
        if words[:2] == ["addr", "del"]:
            return self.error(del_addr(self.net.dev_by_name[words[4]], words[2]), "")
        if words[:2] == ["link", "set"]:
            dev = self.net.dev_by_name[words[2]]
            if words[3] == "up":
                return self.error(dev_core.dev_open(dev), "")
            dev_core.dev_close(dev)
            return ""
        assert words[0] == "route"
        cfg = self.config(words[1], words[2:])
        if words[1] == "del":
            return self.error(fib_frontend.inet_rtm_delroute(self.net, cfg), cfg.extack)
        return self.error(fib_frontend.inet_rtm_newroute(self.net, cfg), cfg.extack)

    @staticmethod
    def error(err: int, extack: str) -> str:
        return extack or errno.errorcode[-err] if err else ""

    def config(self, verb: str, words: list[str]) -> FibConfig:
        """iproute2's reading of the arguments."""
        cfg = FibConfig()
        cfg.fc_nlflags = {
            "add": NLM_F_CREATE | NLM_F_EXCL,
            "append": NLM_F_CREATE | NLM_F_APPEND,
            "prepend": NLM_F_CREATE,
            "replace": NLM_F_CREATE | NLM_F_REPLACE,
            "change": NLM_F_REPLACE,
            "del": 0,
        }[verb]
        cfg.fc_type = 0 if verb == "del" else 1
        cfg.fc_protocol = 0 if verb == "del" else 3
        if words[0] in TYPES:
            cfg.fc_type = TYPES[words.pop(0)]
        dst = words.pop(0)
        if dst != "default":
            addr, _, plen = dst.partition("/")
            cfg.fc_dst, cfg.fc_dst_len = A(addr), int(plen or "32")
        scope = -1
        table = -1
        gw_ok = False
        metrics = [0] * RTAX_MAX
        hop: FibNhConfig | None = None
        while words:
            word = words.pop(0)
            if word == "nexthop":
                hop = FibNhConfig()
                cfg.fc_mp = [*(cfg.fc_mp or []), hop]
            elif word == "via":
                if hop is not None:
                    hop.gw = A(words.pop(0))
                else:
                    cfg.fc_gw = A(words.pop(0))
                    gw_ok = True
            elif word == "dev":
                oif = self.net.dev_by_name[words.pop(0)].ifindex
                if hop is not None:
                    hop.oif = oif
                else:
                    cfg.fc_oif = oif
            elif word == "weight":
                assert hop is not None
                hop.weight = int(words.pop(0))
            elif word == "onlink":
                cfg.fc_flags |= RTNH_F_ONLINK
            elif word == "src":
                cfg.fc_prefsrc = A(words.pop(0))
            elif word == "metric":
                cfg.fc_priority = int(words.pop(0))
            elif word == "tos":
                cfg.fc_dscp = int(words.pop(0), 0)
            elif word == "scope":
                scope = SCOPES[words.pop(0)]
            elif word == "table":
                name = words.pop(0)
                table = TABLES.get(name) or int(name)
            elif word == "mtu":
                if words[0] == "lock":
                    words.pop(0)
                    metrics[RTAX_LOCK - 1] |= 1 << RTAX_MTU
                metrics[RTAX_MTU - 1] = int(words.pop(0))
            elif word == "advmss":
                metrics[RTAX_ADVMSS - 1] = int(words.pop(0))
            else:
                raise AssertionError(word)
        if any(metrics):
            cfg.fc_metrics = metrics
        if table >= 0:
            cfg.fc_table = table
        elif cfg.fc_type in (2, 3, 4):
            cfg.fc_table = 255
        if scope >= 0:
            cfg.fc_scope = scope
        elif cfg.fc_type == 2:
            cfg.fc_scope = 254
        elif cfg.fc_type in (3, 4, 5):
            cfg.fc_scope = 253
        elif verb == "del":
            cfg.fc_scope = 255
        elif cfg.fc_type == 1 and not gw_ok and cfg.fc_mp is None:
            cfg.fc_scope = 253
        else:
            cfg.fc_scope = 0
        return cfg

    def show(self, table: str) -> list[str]:
        return ip_route_show(self.net, TABLES.get(table) or int(table))

    def get(self, query: str) -> dict[str, object]:
        words = query.split()
        dst = words.pop(0)
        args = dict(zip(words[::2], words[1::2], strict=True))
        src = A(args["from"]) if "from" in args else 0
        tos = int(args.get("tos", "0"), 0)
        net = self.net
        fl4 = Flowi4(A(dst), src, dscp=tos)
        rt: route.Rtable | None
        redirect = False
        if "iif" in args:
            dev = net.dev_by_name[args["iif"]]
            skb = packet(dev, args.get("from", "0.0.0.0"), dst, tos=tos)
            reason = route.ip_route_input_noref(skb, A(dst), src, tos, dev)
            if reason:
                return {"error": "EINVAL"}
            assert isinstance(skb.dst, route.Rtable)
            rt = skb.dst
            redirect = skb.ip_flags & IPSKB_DOREDIRECT != 0
            if rt.error:
                return {"error": errno.errorcode[rt.error]}
        else:
            if "oif" in args:
                fl4.flowi4_oif = net.dev_by_name[args["oif"]].ifindex
            err, rt = route.ip_route_output_flow(net, fl4, None)
            if rt is None:
                return {"error": errno.errorcode[-err]}
        answer: dict[str, object] = {}
        if rt.rt_type != 1:
            answer["type"] = next(name for name in TYPES if TYPES[name] == rt.rt_type)
        answer["dst"] = S(fl4.daddr)
        if rt.rt_uses_gateway:
            answer["gateway"] = S(rt.rt_gw4)
        answer["dev"] = rt.dev.name
        if not rt.rt_is_input and fl4.saddr != src:
            answer["prefsrc"] = S(fl4.saddr)
        flags = ((RTCF_LOCAL, "local"), (RTCF_BROADCAST, "brd"), (RTCF_MULTICAST, "mc"), (RTCF_REDIRECTED, "redirected"))
        answer["cache"] = sorted([name for bit, name in flags if rt.rt_flags & bit] + ["redirect"] * redirect)
        if answer["dst"] == "0.0.0.0" or dst == "0.0.0.0":
            answer["dst"] = dst
        return answer


BASE = ["addr add 10.0.0.1/24 dev e0", "addr add 192.168.7.1/24 brd 192.168.7.255 dev e1"]
SCENES: dict[str, list[str]] = {
    "bare": [],
    "two subnets": BASE,
    "default route": [*BASE, "route add default via 10.0.0.254"],
    "host routes and nests": [
        *BASE,
        "route add default via 10.0.0.254",
        "route add 20.0.0.0/8 via 10.0.0.2",
        "route add 20.1.0.0/16 via 192.168.7.2",
        "route add 20.1.2.0/24 dev e2",
        "route add 20.1.2.3 via 10.0.0.3 src 192.168.7.1",
        "route add 127.0.0.5 via 10.0.0.2",
    ],
    "errors": [
        *BASE,
        "route add default via 10.0.0.254",
        "route add blackhole 20.0.0.0/8",
        "route add unreachable 20.1.0.0/16",
        "route add prohibit 20.1.2.0/24",
        "route add throw 20.1.2.3",
        "route add throw 21.0.0.0/8",
        "route add unreachable default metric 4278198272",
        "route add 22.0.0.0/8 dev e2 table default",
        "route add throw 22.0.0.0/8",
    ],
    "refused": [
        *BASE,
        "route add 20.0.0.0/8 via 11.0.0.1",
        "route add 20.0.0.0/8 via 10.0.0.1",
        "route add 20.0.0.0/8 via 10.0.0.255",
        "route add 20.0.0.0/8 via 10.0.0.2 dev e1",
        "route add 20.0.0.0/8 via 11.0.0.1 dev e1 onlink",
        "route add 20.0.0.0/8 via 10.0.0.2",
        "route add 21.0.0.0/8 via 20.0.0.1",
        "route add 21.0.0.0/8 dev e2 src 10.0.0.9",
        "route add 21.0.0.0/8 dev e2 src 10.0.0.1",
        "route add 22.0.0.1/8 dev e2",
        "route add blackhole 22.0.0.0/8 dev e2",
        "route add 22.0.0.0/8 via 10.0.0.2 scope link",
        "route add 22.0.0.0/8 via 10.0.0.2 scope host",
        "route add 22.0.0.0/8 dev e2 scope host",
        "route add 23.0.0.0/8 via 10.0.0.2 onlink",
        "route add local 24.0.0.0/8 dev lo",
        "route add local 25.0.0.1 dev e1 scope link",
        "route add broadcast 26.0.0.0/8 dev e1",
        "route add broadcast 26.0.0.1 dev e1 scope global",
        "route add multicast 225.0.0.0/8 dev e1",
        "route add default via 10.0.0.2 table 100",
        "route del 30.0.0.0/8",
        "route del 20.0.0.0/8 table 101",
        "route del 20.0.0.0/8 via 10.0.0.3",
        "route del 20.0.0.0/8 dev e0",
        "route change 20.0.0.0/8 via 10.0.0.3",
        "route replace 20.0.0.0/8 via 10.0.0.3",
        "route replace 20.0.0.0/8 via 10.0.0.4",
        "route append 20.0.0.0/8 via 10.0.0.5",
        "route append 20.0.0.0/8 via 10.0.0.5",
        "route prepend 20.0.0.0/8 via 10.0.0.6",
        "route prepend 20.0.0.0/8 via 10.0.0.6",
        "route change 20.0.0.0/8 via 10.0.0.7",
        "route add 20.0.0.0/8 via 10.0.0.9 metric 5",
        "route add 20.0.0.0/8 via 10.0.0.9 metric 5",
        "route del 20.0.0.0/8 metric 5",
        "route add 27.0.0.0/8 nexthop via 10.0.0.2 nexthop via 11.0.0.1",
        "route add 27.0.0.0/8 nexthop via 10.0.0.2 weight 3 nexthop dev e2",
        "route del 27.0.0.0/8 nexthop via 10.0.0.2",
        "route add 28.0.0.0/8 via 0.0.0.0 dev e0",
        "route add 29.0.0.0/8 via 10.0.0.2 mtu 1400 advmss 1000",
        "route add 0.0.0.0/1 via 10.0.0.2",
    ],
    "a device that is down": [
        *BASE,
        "route add default via 10.0.0.254",
        "route add 20.0.0.0/8 via 192.168.7.2",
        "route add 21.0.0.0/8 dev e2",
        "link set e1 down",
        "link set e2 down",
        "route add 22.0.0.0/8 dev e2",
        "route add 22.0.0.0/8 via 192.168.7.9",
        "route add 22.0.0.0/8 via 192.168.7.9 dev e1 onlink",
        "addr add 172.16.0.1/24 dev e2",
    ],
    "down and up again": [
        *BASE,
        "addr add 192.168.7.9/24 dev e1",
        "route add 20.0.0.0/8 via 192.168.7.2",
        "link set e1 down",
        "link set e1 up",
    ],
    "secondaries": [
        *BASE,
        "addr add 10.0.0.2/24 dev e0",
        "addr add 10.0.0.2/24 dev e0",
        "addr add 10.0.0.3/25 dev e0",
        "addr add 10.0.0.130/25 dev e0",
        "addr add 10.0.0.131/25 dev e0",
        "addr add 10.0.0.1/24 dev e2",
        "addr add 10.9.0.1/32 dev e2",
        "addr add 10.9.0.2/31 dev e2",
        "addr add 10.9.0.4/30 dev e2",
        "addr add 10.0.0.7/24 scope link dev e0",
        "addr add 10.8.0.7/24 scope link dev e0",
        "addr add 10.8.1.7/24 scope host dev e1",
    ],
    "a primary goes": [
        *BASE,
        "addr add 10.0.0.2/24 dev e0",
        "addr add 10.0.0.3/24 dev e0",
        "addr add 10.1.0.1/24 dev e0",
        "route add 20.0.0.0/8 via 10.0.0.9",
        "route add 21.0.0.0/8 dev e1 src 10.0.0.2",
        "route add 22.0.0.0/8 dev e1 src 10.1.0.1",
        "addr del 10.0.0.1/24 dev e0",
        "addr del 10.0.0.1/24 dev e0",
    ],
    "a primary goes and another takes its place": [
        *BASE,
        "sysctl net.ipv4.conf.all.promote_secondaries 1",
        "addr add 10.0.0.2/24 dev e0",
        "addr add 10.0.0.3/24 dev e0",
        "addr add 10.1.0.1/24 dev e0",
        "route add 20.0.0.0/8 via 10.0.0.9",
        "route add 21.0.0.0/8 dev e1 src 10.0.0.2",
        "addr del 10.0.0.1/24 dev e0",
    ],
    "the last address goes": [
        *BASE,
        "route add 20.0.0.0/8 via 10.0.0.9",
        "route add 20.1.0.0/16 dev e0",
        "addr del 10.0.0.1/24 dev e0",
    ],
    "types of service": [
        *BASE,
        "route add default via 10.0.0.254",
        "route add default via 10.0.0.253 tos 0x10",
        "route add default via 192.168.7.2 tos 0x08",
        "route add 20.0.0.0/8 via 192.168.7.3 tos 0x10",
        "route add 20.0.0.0/8 via 192.168.7.4 tos 0x50",
    ],
    "metrics": [
        *BASE,
        "route add default via 10.0.0.254 metric 100",
        "route add default via 192.168.7.2 metric 50",
        "route add 20.0.0.0/8 via 192.168.7.3 metric 10",
        "route add blackhole 20.0.0.0/8 metric 5",
        "route add 20.1.0.0/16 via 192.168.7.4 metric 10",
        "route del 20.1.0.0/16 metric 11",
    ],
    "a router": [
        *BASE,
        "route add default via 10.0.0.254",
        "route add 20.0.0.0/8 via 192.168.7.2",
        "route add prohibit 21.0.0.0/8",
        "route add blackhole 22.0.0.0/8",
        "route add unreachable 23.0.0.0/8",
        "route add throw 24.0.0.0/8",
        "route add multicast 225.0.0.0/8 dev e1",
        "sysctl net.ipv4.ip_forward 1",
    ],
    "a strict host": [
        *BASE,
        "route add default via 10.0.0.254",
        "sysctl net.ipv4.conf.all.rp_filter 1",
    ],
    "a loose host": [
        *BASE,
        "route add 20.0.0.0/8 via 10.0.0.254",
        "route add blackhole 21.0.0.0/8",
        "sysctl net.ipv4.conf.all.rp_filter 2",
    ],
    "a host that accepts its own": [
        *BASE,
        "sysctl net.ipv4.conf.e0.accept_local 1",
        "sysctl net.ipv4.conf.e0.route_localnet 1",
    ],
    "a local subnet": [*BASE, "route add local 30.0.0.0/8 dev lo", "route add local 31.0.0.1 dev e1"],
}
DESTS = [
    "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.0", "10.0.0.255", "10.0.0.127", "10.9.0.3", "10.9.0.7", "127.0.0.1",
    "127.0.0.5", "127.1.2.3", "127.255.255.255", "192.168.7.1", "192.168.7.9", "192.168.7.255", "20.0.0.1", "20.1.0.1",
    "20.1.2.1", "20.1.2.3", "21.0.0.1", "22.0.0.1", "23.0.0.1", "24.0.0.1", "30.1.2.3", "31.0.0.1", "8.8.8.8",
    "255.255.255.255", "224.0.0.1", "225.1.2.3", "239.1.1.1", "0.0.0.0", "0.0.0.1", "240.0.0.1",
]  # fmt: skip
VARIANTS = ["", "from 10.0.0.1", "from 192.168.7.1", "from 1.2.3.4", "from 127.0.0.1", "oif e0", "oif e1", "oif e2", "oif lo",
            "tos 0x10", "tos 0x08", "from 10.0.0.1 oif e1"]  # fmt: skip
INPUT_VARIANTS = [
    "from 10.0.0.9 iif e0", "from 10.0.0.1 iif e0", "from 192.168.7.9 iif e0", "from 8.8.8.8 iif e0", "from 8.8.8.8 iif e1",
    "from 127.0.0.1 iif e0", "from 224.0.0.1 iif e0", "from 255.255.255.255 iif e0", "from 0.0.0.0 iif e0",
    "from 10.0.0.255 iif e0", "from 21.0.0.1 iif e0", "from 20.0.0.1 iif e1", "from 9.9.9.9 iif e2", "from 30.0.0.1 iif e1",
]  # fmt: skip
INPUT_SCENES = [
    "bare", "two subnets", "default route", "host routes and nests", "errors", "a router", "a strict host", "a loose host",
    "a host that accepts its own", "a local subnet",
]  # fmt: skip


@pytest.fixture(params=list(SCENES))
def scene(request: pytest.FixtureRequest, usable: None) -> Iterator[tuple[str, Linux, Afinet]]:
    linux, ours = Linux(), Afinet()
    try:
        for command in SCENES[request.param]:
            if command.startswith("sysctl"):
                _, name, value = command.split()
                linux.sysctl(name, value)
                ours.sysctl(name, value)
            else:
                assert (command, ours.do(command)) == (command, linux.do(command))
        yield request.param, linux, ours
    finally:
        linux.close()
        ours.close()


def test_tables_and_answers_are_those_of_the_running_kernel(scene: tuple[str, Linux, Afinet]) -> None:
    name, linux, ours = scene
    for table in ("local", "main", "default", "100"):
        theirs = [line for line in linux.show(table) if not line.startswith(" ")]
        assert [shorten(line) for line in ours.show(table)] == [shorten(line) for line in theirs if "nexthop" not in line], table
    variants = VARIANTS + (INPUT_VARIANTS if name in INPUT_SCENES else [])
    queries = [f"{dest} {variant}".strip() for dest in DESTS for variant in variants]
    wrong = []
    for query, theirs_ in zip(queries, linux.get_all(queries), strict=True):
        mine = ours.get(query)
        if mine != theirs_:
            wrong.append((query, mine, theirs_))
    assert wrong == []


def shorten(line: str) -> str:
    """A route as far as both listings tell it."""
    words = line.split()
    out = []
    while words:
        word = words.pop(0)
        if word in ("mtu", "advmss", "tos", "error", "table"):
            if word == "mtu" and words[0] == "lock":
                words.pop(0)
            words.pop(0)
        elif word not in ("linkdown", "onlink", "dead"):
            out.append(word)
    return " ".join(out)
