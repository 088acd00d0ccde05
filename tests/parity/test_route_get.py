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

from afinet.drivers.veth import veth_newlink
from afinet.kernel.sysctl import sysctl_write
from afinet.net.core import dev as dev_core
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.ipv4 import route
from afinet.net.ipv4.inet_sock import IPSKB_DOREDIRECT
from afinet.sim import iproute
from afinet.uapi.in_route import RTCF_BROADCAST, RTCF_LOCAL, RTCF_MULTICAST, RTCF_REDIRECTED
from tests.leaks import start_kernel
from tests.net.ipv4.routing import A, S, add_addr, del_addr, packet

NS = f"afinet-rt-{os.getpid()}"
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}
ADDRESS_ERRORS = {"Address already assigned": "EEXIST", "Invalid scope value": "EINVAL", "Address not found": "EADDRNOTAVAIL"}


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
        return [line.rstrip() for line in out.splitlines()]

    def rules(self) -> list[str]:
        return [line.rstrip() for line in ip("-n", NS, "-4", "rule", "show").stdout.splitlines()]

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
            keep["metrics"] = answer.get("metrics", [{}])[0]
            out.append(keep)
        assert next(answers, None) is None
        return out


class Afinet:
    """Ours, taking the same commands."""

    def __init__(self) -> None:
        net = start_kernel("test", b"routes").init_net
        assert net is not None and net.loopback_dev is not None
        self.net: Net = net
        for dev in (net.loopback_dev, *(dev for i in range(3) for dev in veth_newlink(net, f"e{i}", net, f"q{i}"))):
            assert dev_core.dev_open(dev) == 0

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
        verb, _, rest = command.partition(" ")
        return self.error(*(iproute.ip_route if verb == "route" else iproute.ip_rule)(self.net, rest))

    @staticmethod
    def error(err: int, extack: str) -> str:
        return extack or errno.errorcode[-err] if err else ""

    def show(self, table: str) -> list[str]:
        return [line for route in iproute.route_show(self.net, table) for line in route.split("\n")]

    def rules(self) -> list[str]:
        return iproute.rule_show(self.net)

    def get(self, query: str) -> dict[str, object]:
        words = query.split()
        dst = words.pop(0)
        args = dict(zip(words[::2], words[1::2], strict=True))
        src = A(args["from"]) if "from" in args else 0
        tos = int(args.get("tos", "0"), 0)
        net = self.net
        proto = iproute.IP_PROTOCOLS[args["ipproto"]] if "ipproto" in args else 0
        sport, dport, mark = int(args.get("sport", "0")), int(args.get("dport", "0")), int(args.get("mark", "0"), 0)
        fl4 = Flowi4(A(dst), src, 0, proto, tos, mark=mark, sport=sport, dport=dport, uid=int(args.get("uid", "0")))
        rt: route.Rtable | None
        redirect = False
        if "iif" in args:
            dev = net.dev_by_name[args["iif"]]
            skb = packet(dev, args.get("from", "0.0.0.0"), dst, proto or 17, tos, sport, dport)
            skb.mark = mark
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
            answer["type"] = iproute.named(iproute.TYPES, rt.rt_type)
        answer["dst"] = S(fl4.daddr)
        if rt.rt_uses_gateway:
            answer["gateway"] = S(rt.rt_gw4)
        answer["dev"] = rt.dev.name
        if not rt.rt_is_input and fl4.saddr != src:
            answer["prefsrc"] = S(fl4.saddr)
        flags = ((RTCF_LOCAL, "local"), (RTCF_BROADCAST, "brd"), (RTCF_MULTICAST, "mc"), (RTCF_REDIRECTED, "redirected"))
        answer["cache"] = sorted([name for bit, name in flags if rt.rt_flags & bit] + ["redirect"] * redirect)
        answer["metrics"] = metrics_json(net, rt)
        if answer["dst"] == "0.0.0.0" or dst == "0.0.0.0":
            answer["dst"] = dst
        return answer


def metrics_json(net: Net, rt: route.Rtable) -> dict[str, object]:
    """As `ip -j route get` has them: no locks, times in ms."""
    words = iproute.metrics_show(net, rt.metrics).replace(" lock", "").split()
    out: dict[str, object] = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        if name == "features":
            out[value] = None
        elif name == "congctl":
            out["congestion"] = value
        else:
            number = float(value.removesuffix("ms").removesuffix("s"))
            out[name] = number * 1000 if value.endswith("s") and not value.endswith("ms") else number
    return out


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
        "route add 20.0.0.0/8 via 192.168.7.4 tos 0x54",
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
    "metrics of all kinds": [
        *BASE,
        "route add default via 10.0.0.254 mtu lock 1400 window 100 rtt 100ms rttvar 5 ssthresh 3 cwnd 4 advmss 1000 "
        "reordering 5 hoplimit 6 initcwnd 7 features ecn rto_min 50ms initrwnd 9 quickack 1 congctl reno fastopen_no_cookie 1",
        "route add 20.0.0.0/8 dev e1 hoplimit 255 advmss 70000 mtu 70000 rto_min 1500ms rttvar 40ms rtt 3",
        "route add 21.0.0.0/8 dev e1 congctl nosuch",
        "route add 22.0.0.0/8 dev e1 cwnd lock 10 ssthresh lock 20",
        "route change 22.0.0.0/8 dev e1 cwnd 11",
        "route add 23.0.0.0/8 nexthop via 10.0.0.2 nexthop via 192.168.7.2 weight 256",
        "route add 24.0.0.0/8 mtu 1300 nexthop via 10.0.0.2 weight 2 nexthop via 10.0.0.3 onlink dev e2",
        "route append 24.0.0.0/8 nexthop via 10.0.0.9 nexthop dev e2",
        "link set e2 down",
    ],
    "rules refused": [
        *BASE,
        "rule add from 10.0.0.0/8 tos 0x11",
        "rule add pref 100 goto 100",
        "rule add pref 100 goto 50",
        "rule add pref 100 sport 20-10",
        "rule add pref 100 dport 0-10",
        "rule add pref 100 uidrange 5-3",
        "rule del pref 100",
        "rule add from 10.0.0.0/8 table 100 pref 100",
        "rule add from 10.0.0.0/8 table 100 pref 100",
        "rule add from 10.0.0.0/8 table 101 pref 100",
        "rule add from 10.0.0.0/9 table 100 pref 100",
        "rule del from 10.0.0.0/10",
        "rule del from 10.0.0.0/9",
        "rule del table 102",
        "rule del table 101",
        "rule add table 7",
        "rule add table 8",
        "rule add not from 10.0.0.0/8 to 20.0.0.0/8 tos 0x10 fwmark 0x1/0xff iif e0 oif e9 uidrange 0-100 ipproto tcp "
        "sport 10-20 dport 80 table 100 suppress_prefixlength 5 suppress_ifgroup 3",
        "rule add pref 7 goto 9",
        "rule add pref 8 fwmark 0 table main protocol static",
        "rule add pref 8 fwmark 0x10 prohibit",
        "rule add pref 9 nop",
        "rule add pref 9 blackhole",
        "rule add pref 11 goto 9999999",
        "rule del pref 9",
        "rule del pref 9",
        "rule add pref 9 unreachable from 9.9.9.9",
        "rule del pref 0",
        "rule del pref 0",
        "rule del pref 32766",
        "rule add pref 32766 table main",
        "rule add table local",
        "rule del sport 10-20",
        "rule del iif e0",
    ],
    "rules by address and device": [
        *BASE,
        "route add default via 10.0.0.254",
        "route add default via 192.168.7.2 table 100",
        "route add default dev e2 table 101",
        "route add throw 20.0.0.0/8 table 101",
        "rule add from 192.168.7.1 table 100",
        "rule add to 21.0.0.0/8 prohibit",
        "rule add to 22.0.0.0/8 blackhole",
        "rule add to 23.0.0.0/8 unreachable",
        "rule add iif lo to 24.0.0.0/8 table 101",
        "rule add iif e1 table 101",
        "rule add oif e2 table 101",
        "rule add oif e9 table 100",
        "rule add not from 0.0.0.0/1 table 101",
        "rule add tos 0x10 table 101",
    ],
    "rules by mark, protocol and port": [
        *BASE,
        "route add default via 10.0.0.254",
        "route add default via 192.168.7.2 table 100",
        "rule add fwmark 1 table 100",
        "rule add fwmark 0x10/0xf0 prohibit",
        "rule add ipproto tcp dport 80 table 100",
        "rule add ipproto udp sport 1000-2000 table 100",
        "rule add uidrange 5-6 table 100",
        "sysctl net.ipv4.ip_forward 1",
    ],
    "rules that jump and suppress": [
        *BASE,
        "route add default via 10.0.0.254",
        "route add 20.0.0.0/8 via 10.0.0.2",
        "route add default via 192.168.7.2 table 100",
        "rule add pref 10 to 20.0.0.0/7 goto 30",
        "rule add pref 20 table 100 suppress_prefixlength 0",
        "rule add pref 21 to 22.0.0.0/8 table 100",
        "rule add pref 30 table main suppress_prefixlength 0",
        "rule add pref 40 table 100 suppress_ifgroup 0",
        "rule add pref 50 to 23.0.0.0/8 goto 60",
        "rule add pref 55 nop",
        "rule add pref 58 to 30.0.0.0/8 prohibit",
    ],
    "no rule for local addresses": [
        *BASE, "route add default via 10.0.0.254", "rule add pref 50 to 192.168.7.0/24 table 100", "rule add pref 60 table local",
        "rule del pref 0",
    ],
    "no rule at all": [*BASE, "rule del pref 32767", "rule del pref 32766", "rule del pref 0"],
    "rules of a router with filters": [
        *BASE,
        "route add default via 10.0.0.254",
        "route add default via 192.168.7.2 table 100",
        "rule add to 8.8.8.0/24 table 100",
        "rule add from 8.8.8.8 to 20.0.0.0/8 table 100",
        "sysctl net.ipv4.conf.all.rp_filter 1",
        "sysctl net.ipv4.ip_forward 1",
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
RULE_VARIANTS = [
    "mark 1", "mark 0x12", "mark 0x101", "mark 0x1f", "ipproto tcp dport 80", "ipproto tcp dport 81", "ipproto udp dport 80",
    "ipproto udp sport 1500", "ipproto udp sport 999 dport 80", "ipproto tcp sport 1500", "uid 5", "uid 7",
    "from 8.8.8.8 iif e1 mark 1", "from 8.8.8.8 iif e0 ipproto udp sport 1500 dport 9", "from 10.0.0.9 iif e0 ipproto tcp dport 80",
]  # fmt: skip
RULE_SCENES = ["rules by mark, protocol and port", "rules that jump and suppress"]
INPUT_SCENES = [
    "rules by address and device", "rules by mark, protocol and port", "rules that jump and suppress", "no rule at all",
    "no rule for local addresses", "rules of a router with filters",
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
        assert ours.show(table) == linux.show(table), table
    assert ours.rules() == linux.rules()
    variants = VARIANTS + (INPUT_VARIANTS if name in INPUT_SCENES else []) + (RULE_VARIANTS if name in RULE_SCENES else [])
    queries = [f"{dest} {variant}".strip() for dest in DESTS for variant in variants]
    wrong = []
    for query, theirs_ in zip(queries, linux.get_all(queries), strict=True):
        mine = ours.get(query)
        if mine != theirs_:
            wrong.append((query, mine, theirs_))
    assert wrong == []

