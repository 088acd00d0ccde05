"""Next hops: shared meanings, shares of several, dead ones, default routes."""

from __future__ import annotations

from afinet.kernel.sysctl import sysctl_write
from afinet.net.core import dev as dev_core
from afinet.net.core import link_watch, neighbour
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.core.netdevice import NetDevice
from afinet.net.ipv4 import fib_frontend, fib_semantics, route
from afinet.net.ipv4.fib_multipath import fib_multipath_hash
from afinet.net.ipv4.ip_fib import FibInfo, FibNhConfig, FibResult
from afinet.uapi.neighbour import NUD_FAILED, NUD_PERMANENT
from afinet.uapi.netlink import NLM_F_APPEND, NLM_F_CREATE
from afinet.uapi.rtnetlink import RTAX_ADVMSS, RTAX_HOPLIMIT, RTAX_MAX, RTAX_MTU, RTNH_F_DEAD, RTNH_F_LINKDOWN
from tests.net.ipv4.routing import A, S, add_addr, add_dev, boot, del_addr, ip_route_show, packet, route_get


def two_links() -> tuple[Net, NetDevice, NetDevice]:
    net = boot()
    return net, add_dev(net, "e0", "10.0.0.1/24"), add_dev(net, "e1", "10.1.0.1/24")


def info_of(net: Net, daddr: str) -> FibInfo:
    res = FibResult()
    assert fib_frontend.fib_lookup(net, Flowi4(A(daddr)), res, 0) == 0
    assert res.fi is not None
    return res.fi


def infos(net: Net) -> int:
    return sum(len(same) for same in net.ipv4.fib.fib_info_hash.values())


def test_routes_that_mean_the_same_share_an_info_and_the_last_one_frees_it() -> None:
    net, _, _ = two_links()
    before = infos(net)
    for i in range(20, 30):
        assert fib_frontend.ip_route_add(net, i << 24, 8, A("10.0.0.2")) == 0
    assert infos(net) == before + 1
    fi = info_of(net, "20.0.0.1")
    assert fi is info_of(net, "29.0.0.1") and fi.fib_treeref == 10
    assert fib_frontend.ip_route_add(net, A("30.0.0.0"), 8, A("10.0.0.2"), metric=7) == 0
    assert infos(net) == before + 2
    for i in range(20, 30):
        assert fib_frontend.ip_route_del(net, i << 24, 8) == 0
    assert fib_frontend.ip_route_del(net, A("30.0.0.0"), 8) == 0
    assert infos(net) == before == net.ipv4.fib.fib_info_cnt and fi.fib_dead
    assert sum(len(nhs) for nhs in net.ipv4.fib.fib_info_devhash.values()) == sum(
        len(fi.fib_nh) for same in net.ipv4.fib.fib_info_hash.values() for fi in same
    )


def test_metrics_are_clamped() -> None:
    net, _, _ = two_links()
    metrics = [0] * RTAX_MAX
    metrics[RTAX_MTU - 1] = metrics[RTAX_ADVMSS - 1] = metrics[RTAX_HOPLIMIT - 1] = 70_000
    assert fib_frontend.ip_route_add(net, A("20.0.0.0"), 8, A("10.0.0.2"), metrics=metrics) == 0
    stored = info_of(net, "20.0.0.1").fib_metrics
    assert stored is not None
    assert (stored[RTAX_MTU - 1], stored[RTAX_ADVMSS - 1], stored[RTAX_HOPLIMIT - 1]) == (65520, 65495, 255)


def multipath(net: Net, weight0: int = 1, weight1: int = 1) -> None:
    hops = [FibNhConfig(A("10.0.0.2"), 0, weight0), FibNhConfig(A("10.1.0.2"), 0, weight1)]
    assert fib_frontend.ip_route_add(net, A("20.0.0.0"), 8, nexthops=hops) == 0


def spread(net: Net, n: int = 600, sport: int = 0) -> dict[str, int]:
    counts: dict[str, int] = {}
    for i in range(n):
        fl4 = Flowi4(A("20.0.0.0") + (0 if sport else i), proto=17, sport=sport and sport + i, dport=53)
        err, rt = route.ip_route_output_flow(net, fl4, None)
        assert err == 0 and rt is not None
        assert fl4.saddr >> 8 == rt.rt_gw4 >> 8  # the source goes with the next hop
        counts[rt.dev.name] = counts.get(rt.dev.name, 0) + 1
    return counts


def test_several_next_hops_share_flows_by_weight() -> None:
    net, _, _ = two_links()
    multipath(net, 3, 1)
    counts = spread(net)
    assert counts == spread(net)  # a flow keeps its way
    assert 400 < counts["e0"] < 500 and counts["e0"] + counts["e1"] == 600


def test_ports_count_under_hash_policy_one_only() -> None:
    net, _, _ = two_links()
    multipath(net)
    assert len(spread(net, 100, sport=1000)) == 1
    net.ipv4.sysctl_fib_multipath_hash_policy = 1
    counts = spread(net, 400, sport=1000)
    assert 130 < counts["e0"] < 270


def test_a_source_that_belongs_to_a_next_hop_chooses_it() -> None:
    net, _, _ = two_links()
    multipath(net)
    for i in range(50):
        assert route_get(net, S(A("20.0.0.0") + i), "10.1.0.1")[1].startswith("e1 10.1.0.1 10.1.0.2")


def test_input_and_icmp_errors_follow_the_hash_of_their_flow() -> None:
    net, e0, _ = two_links()
    multipath(net)
    from afinet.wire import icmp, ip

    for i in range(30):
        there = packet(e0, S(A("10.0.0.100") + i), "20.0.0.9")
        inner = ip.emit(0, 28, 0, 0, 64, 17, A("20.0.0.9"), A("10.0.0.100") + i) + bytes(8)
        error = packet(e0, "20.9.9.9", "20.0.0.9", 1)
        error.head = error.head[:20] + icmp.emit(3, 1, 0, inner)
        error.tail = len(error.head)
        assert fib_multipath_hash(net, None, there, None) == fib_multipath_hash(net, None, error, None)


def test_a_next_hop_whose_device_goes_down_is_not_chosen_and_comes_back() -> None:
    net, e0, e1 = two_links()
    multipath(net)
    dev_core.dev_close(e0)
    fi = info_of(net, "20.0.0.1")
    assert fi.fib_nh[0].nhc_flags & RTNH_F_DEAD and not fi.fib_flags & RTNH_F_DEAD
    assert set(spread(net, 50)) == {"e1"}
    assert dev_core.dev_open(e0) == 0
    assert set(spread(net, 50)) == {"e0", "e1"}
    dev_core.dev_close(e0)
    dev_core.dev_close(e1)
    assert not any("20.0.0.0" in r for r in ip_route_show(net, 254))  # both dead: the route is flushed


def test_a_lost_carrier_counts_only_where_it_is_asked_for() -> None:
    net, e0, _ = two_links()
    multipath(net)
    assert fib_frontend.ip_route_add(net, A("30.0.0.0"), 8, A("10.0.0.3")) == 0
    link_watch.netif_carrier_off(e0)
    assert info_of(net, "30.0.0.1").fib_flags & RTNH_F_LINKDOWN
    assert route_get(net, "30.0.0.1")[0] == 0
    assert set(spread(net, 50)) == {"e0", "e1"}
    assert sysctl_write(net.sysctl_table, "net/ipv4/conf/e0/ignore_routes_with_linkdown", "1") == 0
    route.rt_cache_flush(net)
    assert route_get(net, "30.0.0.1")[0] < 0
    link_watch.netif_carrier_on(e0)
    assert route_get(net, "30.0.0.1")[0] == 0
    assert not info_of(net, "30.0.0.1").fib_flags & RTNH_F_LINKDOWN


def know(net: Net, dev: NetDevice, address: str, state: int) -> None:
    assert net.arp_tbl is not None
    assert neighbour.neigh_add(net.arp_tbl, A(address), dev, 0x020000001234) == 0
    n = neighbour.neigh_lookup(net.arp_tbl, A(address), dev)
    assert n is not None
    n.nud_state = state


def test_among_default_routes_a_dead_gateway_is_passed_over() -> None:
    net, e0, _ = two_links()
    for gw in ("10.0.0.254", "10.0.0.253"):
        assert fib_frontend.ip_route_add(net, 0, 0, A(gw), nlflags=NLM_F_CREATE | NLM_F_APPEND) == 0
    assert route_get(net, "8.8.8.8")[1] == "e0 10.0.0.1 10.0.0.254"
    know(net, e0, "10.0.0.254", NUD_FAILED)
    know(net, e0, "10.0.0.253", NUD_PERMANENT)
    assert route_get(net, "8.8.8.8")[1] == "e0 10.0.0.1 10.0.0.253"
    know(net, e0, "10.0.0.254", NUD_PERMANENT)
    assert route_get(net, "8.8.8.8")[1] == "e0 10.0.0.1 10.0.0.254"


def test_neighbours_decide_between_next_hops_when_asked_to() -> None:
    net, e0, _ = two_links()
    multipath(net)
    net.ipv4.sysctl_fib_multipath_use_neigh = 1
    know(net, e0, "10.0.0.2", NUD_FAILED)
    assert set(spread(net, 50)) == {"e1"}


def test_routes_that_prefer_an_address_go_with_it() -> None:
    net, e0, _ = two_links()
    assert add_addr(e0, "10.9.0.1/24") == 0
    assert fib_frontend.ip_route_add(net, A("20.0.0.0"), 8, A("10.1.0.2"), src=A("10.9.0.1")) == 0
    assert fib_frontend.ip_route_add(net, A("21.0.0.0"), 8, A("10.1.0.2")) == 0
    assert del_addr(e0, "10.9.0.1/24") == 0
    assert [r for r in ip_route_show(net, 254) if r.startswith("2")] == ["21.0.0.0/8 via 10.1.0.2 dev e1"]


def test_the_source_of_a_next_hop_follows_changes_of_addresses() -> None:
    net, e0, _ = two_links()
    assert fib_frontend.ip_route_add(net, A("20.0.0.0"), 8, A("10.0.0.2")) == 0
    assert route_get(net, "20.0.0.1")[1] == "e0 10.0.0.1 10.0.0.2"
    assert add_addr(e0, "10.0.0.9/25") == 0  # another primary, not the first
    assert route_get(net, "20.0.0.1")[1] == "e0 10.0.0.1 10.0.0.2"
    assert add_addr(e0, "10.7.0.1/24", scope=253) == 0
    assert route_get(net, "20.0.0.1")[1] == "e0 10.0.0.1 10.0.0.2"
    assert fib_semantics.fib_error(6) < 0
