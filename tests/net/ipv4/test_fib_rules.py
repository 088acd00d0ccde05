"""Policy rules: the fast path without them, received packets that have to be read for them, devices that come and go."""

from __future__ import annotations

import errno

import pytest

import afinet
from afinet.net.core import dev as dev_core
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.ipv4 import fib_frontend, route
from afinet.net.ipv4.ip_fib import FibResult
from afinet.sim import iproute
from afinet.sim.units import UsageError
from tests.net.ipv4.iphost import FAR, Host, addr, packet
from tests.net.ipv4.routing import A, add_dev, boot, route_get


def told(net: Net, *commands: str) -> None:
    for command in commands:
        what, _, rest = command.partition(" ")
        assert (iproute.ip_rule if what == "rule" else iproute.ip_route)(net, rest) == (0, ""), command


def test_without_rules_of_ones_own_tables_are_asked_directly_and_share_a_trie() -> None:
    net = boot()
    add_dev(net, "e0", "10.0.0.1/24")
    fib = net.ipv4.fib
    assert not fib.fib_has_custom_rules
    assert fib.tables[255].trie is fib.tables[254].trie
    told(net, "rule add from 1.2.3.4 blackhole")
    assert fib.fib_has_custom_rules
    assert fib.tables[255].trie is not fib.tables[254].trie
    assert route_get(net, "10.0.0.1")[0] == route_get(net, "10.0.0.2")[0] == 0
    told(net, "rule del from 1.2.3.4")
    assert iproute.rule_show(net) == [
        "0:\tfrom all lookup local", "32766:\tfrom all lookup main", "32767:\tfrom all lookup default",
    ]  # fmt: skip


def test_cached_routes_do_not_outlive_a_change_of_rules() -> None:
    net = boot()
    add_dev(net, "e0", "10.0.0.1/24")
    told(net, "route add default via 10.0.0.9")
    err, rt = route.ip_route_output_flow(net, Flowi4(A("20.0.0.1")), None)
    assert err == 0 and rt is not None and rt.check(0)
    told(net, "rule add to 20.0.0.0/8 prohibit")
    assert not rt.check(0)
    assert route_get(net, "20.0.0.1") == (-errno.EACCES, "")


def test_protocol_and_ports_of_a_forwarded_packet_choose_its_table() -> None:
    h = Host()
    h.net.ipv4.devconf_all.forwarding = 1
    for dev in (h.dev, h.far):
        assert dev.ip_ptr is not None
        dev.ip_ptr.cnf.forwarding = 1
        dev.ip_ptr.cnf.send_redirects = h.net.ipv4.devconf_all.send_redirects = 0
    told(h.net, "route add default via 10.0.0.99 table 7", "rule add iif wire0 ipproto udp dport 53 table 7")
    told(h.net, "rule add ipproto tcp sport 1000-1999 blackhole")

    def forwarded(proto: int, sport: int, dport: int, frag_off: int = 0) -> str:
        ports = sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + bytes(4)
        h.receive(packet(ports, proto, daddr=FAR, frag_off=frag_off))
        near, far = len(h.sent()), len(h.farlink.sent)
        h.farlink.sent.clear()
        return "near" * near + "far" * far

    assert forwarded(17, 9, 53) == "near"
    assert forwarded(17, 9, 54) == "far"
    assert forwarded(17, 9, 53, frag_off=0x2000) == "far"  # a fragment has no ports
    assert forwarded(6, 999, 53) == "far"
    assert forwarded(6, 1999, 53) == ""
    told(h.net, "rule del dport 53", "rule del sport 1000-1999")
    assert h.net.ipv4.fib.fib_rules_require_fldissect == 0
    assert forwarded(17, 9, 53) == forwarded(6, 1999, 53) == "far"


def test_a_rule_waits_for_its_device() -> None:
    net = boot()
    add_dev(net, "e0", "10.0.0.1/24")
    told(net, "route add 20.0.0.0/8 via 10.0.0.9 table 7", "rule add oif tun7 table 7", "rule add iif e9 prohibit")
    assert [line.partition("\t")[2] for line in iproute.rule_show(net)[1:3]] == [
        "from all iif e9 [detached] prohibit", "from all oif tun7 [detached] lookup 7",
    ]  # fmt: skip
    dev = add_dev(net, "tun7", "10.7.0.1/24")
    assert "oif tun7 lookup" in iproute.rule_show(net)[2]
    fl4 = Flowi4(A("20.0.0.1"), oif=dev.ifindex)
    assert fib_frontend.fib_lookup(net, fl4, FibResult(), 0) == -errno.ENETUNREACH  # table 7's route is not over tun7
    told(net, "route add 20.0.0.0/8 dev tun7 table 7 metric 5")
    assert fib_frontend.fib_lookup(net, fl4, FibResult(), 0) == 0
    dev_core.unregister_netdevice(dev)
    assert "oif tun7 [detached]" in iproute.rule_show(net)[2]


def test_the_source_filter_sees_the_ports_the_other_way_round() -> None:
    h = Host()
    in_dev = h.dev.ip_ptr
    assert in_dev is not None
    in_dev.cnf.rp_filter = 1
    told(h.net, "rule add ipproto udp sport 53 to 10.0.0.0/24 blackhole")
    h.receive(packet((9).to_bytes(2, "big") + (53).to_bytes(2, "big") + bytes(4), 17))
    assert h.drops() == {"IP_RPFILTER": 1}  # its answer would have sport 53
    h.receive(packet((53).to_bytes(2, "big") + (9).to_bytes(2, "big") + bytes(4)))
    assert h.drops() == {"IP_RPFILTER": 1}


def test_a_rule_without_a_table_gets_a_new_one_and_full_dscp_is_all_six_bits() -> None:
    net = boot()
    add_dev(net, "e0", "10.0.0.1/24")
    told(net, "rule add dscp 10 table 0", "route add 20.0.0.0/8 via 10.0.0.7 table 1")
    assert iproute.rule_show(net)[1] == "32765:\tfrom all dscp 10 lookup 1"
    for dscp, gateway in ((10, A("10.0.0.7")), (8, 0), (2, 0)):
        res = FibResult()
        err = fib_frontend.fib_lookup(net, Flowi4(A("20.0.0.1"), dscp=dscp << 2), res, 0)
        assert (err, 0 if res.nhc is None else res.nhc.nhc_gw) == (0 if gateway else -errno.ENETUNREACH, gateway)


def test_a_host_is_told_in_the_words_of_ip() -> None:
    with afinet.Network(seed=1) as net:
        a, b = net.host("a"), net.host("b")
        net.link(a, b)
        near = b.address
        a.route(f"add 20.0.0.0/8 via {near} mtu 1400 table 100")
        a.rule("add to 20.0.0.0/8 lookup 100")
        assert a.routes(100) == [f"20.0.0.0/8 via {near} dev {a.devices[1].name} mtu 1400"]
        assert a.rules()[1] == "32765:\tfrom all to 20.0.0.0/8 lookup 100"
        for command, words in {
            "add 20.0.0.0/8 via 99.0.0.1": "Nexthop has invalid gateway",
            "add 20.0.0.0/8 via": "the gateway is missing",
            "add 20.0.0.0/8 dev nosuch": "there is no device 'nosuch'",
            "add 20.0.0.0/8 rtt 5min": "is not a time",
            "ad 20.0.0.0/8": "does not begin with one of add",
            "add 20.0.0.0/8 encap mpls": "'encap' is not understood",
            "del 21.0.0.0/8": "No such process",
        }.items():
            with pytest.raises(UsageError, match=words):
                a.route(command)
        with pytest.raises(UsageError, match="is none of local, main, default"):
            a.rule("add lookup nowhere")


def test_rules_hold_for_packets_of_the_hosts_own() -> None:
    h = Host()
    told(h.net, "rule add from 10.0.0.1 to 198.51.100.0/24 table 9", "route add default via 10.0.0.77 table 9")
    err, rt = route.ip_route_output_flow(h.net, Flowi4(addr("198.51.100.1"), addr("10.0.0.1")), None)
    assert err == 0 and rt is not None and rt.rt_gw4 == addr("10.0.0.77")
    assert route.ip_route_output_flow(h.net, Flowi4(addr("198.51.100.1")), None)[0] == -errno.ENETUNREACH
