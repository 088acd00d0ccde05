"""Tables, kinds of addresses, sources: what tests/parity/test_route_get.py compares with Linux in bulk, by name."""

from __future__ import annotations

from afinet.kernel.sysctl import sysctl_write
from afinet.net.core import dev as dev_core
from afinet.net.core.drop_reason import DROP_REASON_NAMES
from afinet.net.core.net_namespace import cleanup_net, copy_net_ns
from afinet.net.ipv4 import fib_frontend, route
from afinet.uapi.errno import EACCES, EEXIST, EHOSTUNREACH, EINVAL, ENETUNREACH, ENODEV, ESRCH
from afinet.uapi.rtnetlink import (
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_PROHIBIT,
    RTN_THROW,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from tests.net.ipv4.routing import A, add_addr, add_dev, boot, del_addr, ip_route_show, packet, route_get, route_input


def test_an_address_brings_its_local_connected_and_broadcast_routes() -> None:
    net = boot()
    dev = add_dev(net, "e0", "10.0.0.1/24")
    assert ip_route_show(net, 254) == ["10.0.0.0/24 dev e0 proto kernel scope link src 10.0.0.1"]
    assert [r for r in ip_route_show(net, 255) if "e0" in r] == [
        "local 10.0.0.1 dev e0 proto kernel scope host src 10.0.0.1",
        "broadcast 10.0.0.255 dev e0 proto kernel scope link src 10.0.0.1",
    ]
    assert del_addr(dev, "10.0.0.1/24") == 0
    assert ip_route_show(net, 254) == [] and not [r for r in ip_route_show(net, 255) if "e0" in r]


def test_small_subnets_have_no_broadcast_and_a_32_no_subnet() -> None:
    net = boot()
    dev = add_dev(net, "e0", "10.0.0.1/32")
    assert add_addr(dev, "10.1.0.2/31") == 0
    assert ip_route_show(net, 254) == ["10.1.0.2/31 dev e0 proto kernel scope link src 10.1.0.2"]
    assert not [r for r in ip_route_show(net, 255) if r.startswith("broadcast 10")]


def test_a_device_that_is_down_keeps_its_local_addresses_only() -> None:
    net = boot()
    dev = add_dev(net, "e0", "10.0.0.1/24")
    assert fib_frontend.ip_route_add(net, A("20.0.0.0"), 8, A("10.0.0.2")) == 0
    dev_core.dev_close(dev)
    assert ip_route_show(net, 254) == []
    assert [r for r in ip_route_show(net, 255) if "e0" in r] == [
        "local 10.0.0.1 dev e0 proto kernel scope host src 10.0.0.1"
    ]
    assert dev_core.dev_open(dev) == 0
    assert len(ip_route_show(net, 254)) == 1  # the connected route is back, what somebody added is not


def test_the_kinds_of_addresses() -> None:
    net = boot()
    e0, e1 = add_dev(net, "e0", "10.0.0.1/24"), add_dev(net, "e1", "10.1.0.1/24")
    kinds = {
        "10.0.0.1": RTN_LOCAL, "10.0.0.2": RTN_UNICAST, "10.0.0.255": RTN_BROADCAST, "127.9.9.9": RTN_LOCAL,
        "224.0.0.1": RTN_MULTICAST, "255.255.255.255": RTN_BROADCAST, "0.0.0.0": RTN_BROADCAST, "8.8.8.8": RTN_UNICAST,
    }  # fmt: skip
    assert {a: route.inet_addr_type(net, A(a)) for a in kinds} == kinds
    assert fib_frontend.inet_dev_addr_type(net, e0, A("10.0.0.1")) == RTN_LOCAL
    assert fib_frontend.inet_dev_addr_type(net, e1, A("10.0.0.1")) == RTN_UNICAST
    assert fib_frontend.inet_addr_type_table(net, A("10.0.0.1"), 77) == RTN_BROADCAST  # no such table


def test_error_routes_answer_with_their_errno_and_throw_goes_on_to_the_default_table() -> None:
    net = boot()
    add_dev(net, "e0", "10.0.0.1/24")
    add = fib_frontend.ip_route_add
    for i, type in enumerate((RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW)):
        assert add(net, (20 + i) << 24, 8, type=type) == 0
        assert add(net, (20 + i) << 24, 8, dev="e0", table=253) == 0
    got = [route_get(net, f"{20 + i}.0.0.1")[0] for i in range(4)]
    assert got == [-EINVAL, -EHOSTUNREACH, -EACCES, 0]
    assert fib_frontend.ip_route_del(net, 23 << 24, 8, table=253) == 0
    assert route_get(net, "23.0.0.1")[0] == -ENETUNREACH


def test_ip_route_answers_with_netlinks_errnos() -> None:
    net = boot()
    add_dev(net, "e0", "10.0.0.1/24")
    add, delete = fib_frontend.ip_route_add, fib_frontend.ip_route_del
    assert add(net, A("20.0.0.0"), 8, dev="nope") == -ENODEV
    assert add(net, A("20.0.0.0"), 8, A("11.0.0.1")) == -ENETUNREACH
    assert add(net, A("20.0.0.0"), 8, A("10.0.0.255")) == -EINVAL
    assert add(net, A("20.0.0.1"), 8, A("10.0.0.2")) == -EINVAL
    assert add(net, A("20.0.0.0"), 8, A("10.0.0.2")) == 0
    assert add(net, A("20.0.0.0"), 8, A("10.0.0.3")) == -EEXIST
    assert add(net, A("20.0.0.0"), 8, A("10.0.0.3"), metric=1) == 0
    assert delete(net, A("21.0.0.0"), 8) == -ESRCH
    assert delete(net, A("20.0.0.0"), 8, table=99) == -ESRCH
    assert delete(net, A("20.0.0.0"), 8, A("10.0.0.9")) == -ESRCH
    assert delete(net, A("20.0.0.0"), 8, dev="nope") == -ENODEV
    assert delete(net, A("20.0.0.0"), 8, A("10.0.0.3")) == 0
    assert add(net, A("22.0.0.0"), 8, A("99.0.0.1"), dev="e0", onlink=True) == 0
    assert route_get(net, "22.0.0.1") == (0, "e0 10.0.0.1 99.0.0.1")


def test_a_wrong_source_is_refused_by_the_reverse_path_filter() -> None:
    net = boot()
    e0, e1 = add_dev(net, "e0", "10.0.0.1/24"), add_dev(net, "e1", "10.1.0.1/24")
    table = net.sysctl_table
    names = []
    for mode in ("0", "1", "2"):
        assert sysctl_write(table, "net/ipv4/conf/e0/rp_filter", mode) == 0
        names.append([DROP_REASON_NAMES[route_input(e0, s, "10.0.0.1")[0]] for s in ("10.0.0.9", "10.1.0.9", "8.8.8.8")])
    ok, bad = "NOT_DROPPED_YET", "IP_RPFILTER"
    assert names == [[ok, ok, ok], [ok, bad, bad], [ok, ok, bad]]
    assert route_input(e1, "10.1.0.9", "10.1.0.1")[0] == 0


def test_our_own_source_is_accepted_where_accept_local_says_so() -> None:
    net = boot()
    e0 = add_dev(net, "e0", "10.0.0.1/24")
    assert DROP_REASON_NAMES[route_input(e0, "10.0.0.1", "10.0.0.1")[0]] == "IP_LOCAL_SOURCE"
    assert sysctl_write(net.sysctl_table, "net/ipv4/conf/e0/accept_local", "1") == 0
    assert route_input(e0, "10.0.0.1", "10.0.0.1")[0] == 0


def test_the_address_to_answer_from() -> None:
    net = boot()
    e0 = add_dev(net, "e0", "10.0.0.1/24")
    for daddr, expect in (("10.0.0.1", "10.0.0.1"), ("255.255.255.255", "10.0.0.1"), ("10.0.0.255", "10.0.0.1")):
        skb = packet(e0, "10.0.0.9", daddr)
        assert route.ip_route_input_noref(skb, A(daddr), A("10.0.0.9"), 0, e0) == 0
        assert fib_frontend.fib_compute_spec_dst(skb) == A(expect)
    skb = packet(e0, "0.0.0.0", "255.255.255.255")
    assert fib_frontend.fib_compute_spec_dst(skb) == A("10.0.0.1")


def test_namespaces_do_not_see_each_others_routes_and_leave_nothing() -> None:
    net = boot()
    other = copy_net_ns(net.kernel)
    add_dev(net, "e0", "10.0.0.1/24")
    assert route_get(other, "10.0.0.1")[0] == -ENETUNREACH
    lo = other.loopback_dev
    assert lo is not None and dev_core.dev_open(lo) == 0
    assert fib_frontend.ip_route_add(other, A("20.0.0.0"), 8, type=RTN_BLACKHOLE) == 0
    fib = other.ipv4.fib
    cleanup_net(other)
    assert fib.fib_info_cnt == 0 and not fib.fib_info_devhash and not fib.fib_info_laddrhash
