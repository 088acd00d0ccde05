"""Routes: caching and invalidation, path MTUs, redirects, martians, what a packet meets that leads nowhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.kernel.sysctl import sysctl_read, sysctl_write
from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core import dev as dev_core
from afinet.net.core import neighbour
from afinet.net.core.drop_reason import DROP_REASON_NAMES
from afinet.net.core.flow import FLOWI_FLAG_ANYSRC, Flowi4
from afinet.net.core.net_namespace import Net
from afinet.net.core.netdevice import NetDevice
from afinet.net.core.skbuff import SkBuff, alloc_skb
from afinet.net.core.sock import Proto, sk_dst_set
from afinet.net.ipv4 import fib_frontend, route
from afinet.net.ipv4.inet_sock import InetSock
from afinet.net.ipv4.route import Rtable
from afinet.uapi.errno import EINVAL, ENETUNREACH, ENODEV
from afinet.uapi.icmp import ICMP_REDIR_HOST, ICMP_REDIRECT
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.in_ import IP_PMTUDISC_INTERFACE, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP
from afinet.uapi.in_route import RTCF_REDIRECTED
from afinet.uapi.rtnetlink import RTAX_LOCK, RTAX_MAX, RTAX_MTU
from afinet.uapi.snmp import IPSTATS_MIB_INADDRERRORS, IPSTATS_MIB_INNOROUTES
from afinet.wire import icmp, ip
from tests.net.ipv4.routing import A, S, add_addr, add_dev, boot, del_addr, packet, route_get, route_input


def host() -> tuple[Net, NetDevice]:
    """10.0.0.1/24 on e0, default route over 10.0.0.254."""
    net = boot()
    dev = add_dev(net, "e0", "10.0.0.1/24")
    assert fib_frontend.ip_route_add(net, 0, 0, A("10.0.0.254")) == 0
    return net, dev


def output(net: Net, daddr: str, saddr: str = "", oif: int = 0, flags: int = 0) -> Rtable:
    err, rt = route.ip_route_output_flow(net, Flowi4(A(daddr), A(saddr) if saddr else 0, oif, flags=flags), None)
    assert err == 0 and rt is not None
    return rt


def inet_sock(net: Net, proto: int = IPPROTO_UDP) -> InetSock:
    sk = InetSock(net, 2, Proto(net.kernel, "test"))
    sk.sk_protocol = proto
    return sk


# -- caching ---------------------------------------------------------------------------------------------------------------


def test_all_flows_over_a_next_hop_share_one_route() -> None:
    net, _ = host()
    assert output(net, "8.8.8.8") is output(net, "9.9.9.9")
    assert output(net, "10.0.0.2") is output(net, "10.0.0.3")
    assert output(net, "8.8.8.8") is not output(net, "10.0.0.2")
    assert output(net, "127.0.0.1") is output(net, "127.0.0.2")


def test_a_route_to_an_own_address_is_made_anew_each_time_since_it_remembers_its_device() -> None:
    net, dev = host()
    rt = output(net, "10.0.0.1")
    assert (rt.dev.name, rt.rt_iif) == ("lo", dev.ifindex)
    assert output(net, "10.0.0.1") is not rt


def test_a_change_of_addresses_routes_or_devices_makes_cached_routes_stale() -> None:
    net, dev = host()
    changes = [
        lambda: add_addr(dev, "10.5.0.1/24"),
        lambda: fib_frontend.ip_route_add(net, A("20.0.0.0"), 8, A("10.0.0.2")),
        lambda: fib_frontend.ip_route_del(net, A("20.0.0.0"), 8),
        lambda: add_dev(net, "e1").ifindex and 0,
        lambda: sysctl_write(net.sysctl_table, "net.ipv4.route.flush", "1"),
        lambda: sysctl_write(net.sysctl_table, "net.ipv4.ip_forward", "1"),
        lambda: del_addr(dev, "10.5.0.1/24"),
    ]
    for change in changes:
        rt = output(net, "8.8.8.8")
        assert rt.check(0)
        assert change() == 0
        assert not rt.check(0)
        fresh = output(net, "8.8.8.8")
        assert fresh is not rt and fresh.check(0)


# -- the rules of output ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("daddr", "saddr", "oif", "flags", "err"),
    [
        ("8.8.8.8", "1.2.3.4", 0, 0, -ENETUNREACH),  # not ours
        ("8.8.8.8", "1.2.3.4", 0, FLOWI_FLAG_ANYSRC, 0),  # IP_TRANSPARENT
        ("8.8.8.8", "224.0.0.1", 0, 0, -EINVAL),
        ("8.8.8.8", "255.255.255.255", 0, FLOWI_FLAG_ANYSRC, -EINVAL),
        ("8.8.8.8", "127.0.0.1", 0, 0, -EINVAL),  # loopback must not leave
        ("224.0.0.5", "1.2.3.4", 0, FLOWI_FLAG_ANYSRC, -ENETUNREACH),  # it would have to choose the device
        ("8.8.8.8", "", 77, 0, -ENODEV),
        ("8.8.8.8", "", 3, 0, -ENETUNREACH),  # down
        ("8.8.8.8", "10.0.0.1", 2, 0, 0),
    ],
)
def test_output_refuses_what_linux_refuses(daddr: str, saddr: str, oif: int, flags: int, err: int) -> None:
    net, _ = host()
    add_dev(net, "e1", up=False)
    fl4 = Flowi4(A(daddr), A(saddr) if saddr else 0, oif, flags=flags)
    assert route.ip_route_output_flow(net, fl4, None)[0] == err


def test_without_any_route_the_network_is_unreachable() -> None:
    net = boot()
    assert route_get(net, "8.8.8.8") == (-ENETUNREACH, "")
    assert route_get(net, "127.0.0.1") == (0, "lo 127.0.0.1 -")
    assert route_get(net, "0.0.0.0") == (0, "lo 127.0.0.1 -")


def test_connect_learns_its_source_and_destination_zero_is_this_host() -> None:
    net, _ = host()
    sk = inet_sock(net, IPPROTO_TCP)
    fl4 = Flowi4()
    err, rt = route.ip_route_connect(fl4, A("8.8.8.8"), 0, 0, IPPROTO_TCP, 0, 80, sk)
    assert err == 0 and rt is not None
    assert (S(fl4.saddr), S(fl4.daddr), rt.rt_uses_gateway, S(rt.rt_gw4)) == ("10.0.0.1", "8.8.8.8", True, "10.0.0.254")
    err, same = route.ip_route_newports(fl4, rt, 0, 80, 0, 80, sk)
    assert same is rt
    err, same = route.ip_route_newports(fl4, rt, 0, 80, 5555, 80, sk)
    assert err == 0 and same is rt and fl4.fl4_sport == 5555
    fl4 = Flowi4()
    err, rt = route.ip_route_connect(fl4, 0, 0, 0, IPPROTO_TCP, 0, 80, sk)
    assert err == 0 and rt is not None and rt.dev is net.loopback_dev
    assert (S(fl4.saddr), S(fl4.daddr)) == ("127.0.0.1", "127.0.0.1")


def test_advmss_is_the_mtu_less_forty_and_never_below_min_adv_mss() -> None:
    net, dev = host()
    assert output(net, "8.8.8.8").advmss() == 1460
    dev.mtu = 100
    assert output(net, "8.8.8.8").advmss() == 256
    assert output(net, "127.0.0.1").advmss() == 65495


# -- path MTU --------------------------------------------------------------------------------------------------------------


def test_a_path_mtu_holds_for_its_destination_alone_and_expires() -> None:
    net, _ = host()
    sk = inet_sock(net)
    sk.inet_daddr, sk.inet_saddr = A("8.8.8.8"), A("10.0.0.1")
    rt = output(net, "8.8.8.8")
    rt.update_pmtu(sk, None, 1400, True)
    assert not rt.check(0)  # whoever shares it must ask again
    rt = output(net, "8.8.8.8")
    assert (rt.mtu(), rt.advmss()) == (1400, 1360)
    assert output(net, "8.8.8.8") is rt
    assert output(net, "9.9.9.9").mtu() == 1500
    rt.update_pmtu(sk, None, 1450, True)  # larger: not believed
    assert rt.mtu() == 1400
    rt.update_pmtu(sk, None, 1300, True)  # the exception's own route follows
    assert rt.check(0) and rt.mtu() == 1300
    # A router keeps it from packets that it forwards.
    assert route.ip_dst_mtu_maybe_forward(rt, True) == 1500
    net.kernel.run(net.kernel.now + 601 * NSEC_PER_SEC)
    assert rt.mtu() == 1500
    assert output(net, "8.8.8.8").rt_pmtu == 0


def test_a_path_mtu_below_the_minimum_is_raised_to_it_and_locked() -> None:
    net, _ = host()
    sk = inet_sock(net)
    sk.inet_daddr, sk.inet_saddr = A("8.8.8.8"), A("10.0.0.1")
    output(net, "8.8.8.8").update_pmtu(sk, None, 68, True)
    rt = output(net, "8.8.8.8")
    assert (rt.mtu(), rt.rt_mtu_locked) == (552, True)
    rt.update_pmtu(sk, None, 500, True)
    assert rt.mtu() == 552
    # Afterwards a locked route behind a gateway is taken for RFC 791's 576.
    net.kernel.run(net.kernel.now + 601 * NSEC_PER_SEC)
    assert output(net, "8.8.8.8").mtu() == 1500


def test_a_locked_route_mtu_is_not_lowered() -> None:
    net, _ = host()
    metrics = [0] * RTAX_MAX
    metrics[RTAX_MTU - 1] = 1400
    metrics[RTAX_LOCK - 1] = 1 << RTAX_MTU
    assert fib_frontend.ip_route_add(net, A("20.0.0.0"), 8, A("10.0.0.2"), metrics=metrics) == 0
    sk = inet_sock(net)
    sk.inet_daddr, sk.inet_saddr = A("20.0.0.1"), A("10.0.0.1")
    rt = output(net, "20.0.0.1")
    rt.update_pmtu(sk, None, 1000, True)
    assert output(net, "20.0.0.1").mtu() == 1400


def frag_needed(dev: NetDevice, saddr: str, daddr: str, inner: bytes) -> SkBuff:
    """An ICMP error as its handlers get it: `transport_header` at the ICMP header, `data` at the quoted packet."""
    skb = alloc_skb(ip.emit(0, 28 + len(inner), 0, 0, 64, IPPROTO_ICMP, A(saddr), A(daddr)) + icmp.emit(3, 4, 0, inner))
    skb.transport_header, skb.data = 20, 28
    skb.protocol, skb.dev = ETH_P_IP, dev
    return skb


def test_frag_needed_updates_the_route_of_the_sock_it_is_about() -> None:
    net, dev = host()
    sk = inet_sock(net)
    sk.inet_daddr, sk.inet_saddr = A("8.8.8.8"), A("10.0.0.1")
    sk_dst_set(sk, output(net, "8.8.8.8"))
    inner = ip.emit(0, 1500, 0, 0x4000, 64, IPPROTO_UDP, A("10.0.0.1"), A("8.8.8.8")) + bytes(8)
    skb = frag_needed(dev, "10.0.0.254", "10.0.0.1", inner)
    sk.pmtudisc = IP_PMTUDISC_INTERFACE
    route.ipv4_sk_update_pmtu(skb, sk, 1200)
    assert output(net, "8.8.8.8").mtu() == 1500  # IP_PMTUDISC_INTERFACE does not believe it
    sk.pmtudisc = 1
    route.ipv4_sk_update_pmtu(skb, sk, 1200)
    dst = sk.sk_dst_cache
    assert dst is not None and dst.check(0) and dst.mtu() == 1200
    # A call owns the sock: the exception is made, the sock's route is replaced when it is next checked.
    sk.sk_lock_owned = True
    route.ipv4_sk_update_pmtu(skb, sk, 1100)
    assert output(net, "8.8.8.8").mtu() == 1100
    route.ipv4_update_pmtu(skb, net, 1000, 0, IPPROTO_UDP)
    assert output(net, "8.8.8.8").mtu() == 1000


def test_exceptions_are_bounded_and_the_oldest_goes_first() -> None:
    net, _ = host()
    nhc = net.ipv4.fib.tables[254].trie
    rt = output(net, "8.8.8.8")
    sk = inet_sock(net)
    sk.inet_saddr = A("10.0.0.1")
    for i in range(10_300):
        sk.inet_daddr = A("20.0.0.0") + i
        rt.update_pmtu(sk, None, 1400, True)
    holders = [nh for same in net.ipv4.fib.fib_info_hash.values() for fi in same for nh in fi.fib_nh if nh.nhc_exceptions]
    assert len(holders) == 1 and nhc is not None
    exceptions = holders[0].nhc_exceptions
    assert exceptions is not None and len(exceptions) == 2048 * 5
    assert A("20.0.0.0") not in exceptions and A("20.0.0.0") + 10_299 in exceptions


def test_flushing_the_cache_voids_what_was_learnt() -> None:
    net, _ = host()
    sk = inet_sock(net)
    sk.inet_daddr, sk.inet_saddr = A("8.8.8.8"), A("10.0.0.1")
    output(net, "8.8.8.8").update_pmtu(sk, None, 1400, True)
    assert output(net, "8.8.8.8").mtu() == 1400
    assert sysctl_write(net.sysctl_table, "net/ipv4/route/flush", "1") == 0
    assert output(net, "8.8.8.8").mtu() == 1500


def test_a_smaller_device_mtu_lowers_path_mtus() -> None:
    net, dev = host()
    sk = inet_sock(net)
    sk.inet_daddr, sk.inet_saddr = A("8.8.8.8"), A("10.0.0.1")
    output(net, "8.8.8.8").update_pmtu(sk, None, 1400, True)
    assert dev_core.dev_set_mtu(dev, 1300) == 0
    assert output(net, "8.8.8.8").mtu() == 1300


# -- redirects -------------------------------------------------------------------------------------------------------------


def redirect(dev: NetDevice, gateway: str, new_gateway: str, daddr: str = "8.8.8.8") -> SkBuff:
    inner = ip.emit(0, 100, 0, 0, 64, IPPROTO_UDP, A("10.0.0.1"), A(daddr)) + bytes(8)
    message = icmp.emit(ICMP_REDIRECT, ICMP_REDIR_HOST, A(new_gateway), inner)
    skb = alloc_skb(ip.emit(0, 20 + len(message), 0, 0, 64, IPPROTO_ICMP, A(gateway), A("10.0.0.1")) + message)
    skb.transport_header, skb.data = 20, 28
    skb.protocol, skb.dev = ETH_P_IP, dev
    return skb


def know(net: Net, dev: NetDevice, *addresses: str) -> None:
    assert net.arp_tbl is not None
    for address in addresses:
        assert neighbour.neigh_add(net.arp_tbl, A(address), dev, 0x020000001234) == 0


def test_a_redirect_from_the_gateway_changes_the_next_hop_of_its_destination() -> None:
    net, dev = host()
    know(net, dev, "10.0.0.253")
    route.ipv4_redirect(redirect(dev, "10.0.0.254", "10.0.0.253"), net, 0, IPPROTO_UDP)
    rt = output(net, "8.8.8.8")
    assert (S(rt.rt_gw4), rt.rt_flags & RTCF_REDIRECTED != 0) == ("10.0.0.253", True)
    assert S(output(net, "9.9.9.9").rt_gw4) == "10.0.0.254"
    net.kernel.run(net.kernel.now + 301 * NSEC_PER_SEC)
    assert S(output(net, "8.8.8.8").rt_gw4) == "10.0.0.254"


@pytest.mark.parametrize(
    ("gateway", "new_gateway", "setting"),
    [
        ("10.0.0.7", "10.0.0.253", ""),  # not our gateway
        ("10.0.0.254", "10.0.0.254", ""),
        ("10.0.0.254", "10.0.0.1", ""),  # ourselves
        ("10.0.0.254", "224.0.0.1", ""),
        ("10.0.0.254", "255.255.255.255", ""),
        ("10.0.0.254", "0.0.0.0", ""),
        ("10.0.0.254", "10.0.0.255", ""),
        ("10.0.0.254", "10.0.0.253", "accept_redirects=0"),
        ("10.0.0.254", "10.0.0.253", "forwarding=1"),
        ("10.0.0.254", "10.9.0.253", "shared_media=0"),
        ("10.0.0.254", "10.0.0.253", "shared_media=0"),  # secure_redirects: only to a known gateway
    ],
)
def test_other_redirects_are_not_believed(gateway: str, new_gateway: str, setting: str) -> None:
    net, dev = host()
    if new_gateway in ("10.0.0.253", "10.9.0.253"):
        know(net, dev, new_gateway)
    if setting:
        name, value = setting.split("=")
        assert sysctl_write(net.sysctl_table, f"net/ipv4/conf/all/{name}", value) == 0
        assert sysctl_write(net.sysctl_table, f"net/ipv4/conf/e0/{name}", value) == 0
    route.ipv4_redirect(redirect(dev, gateway, new_gateway), net, 0, IPPROTO_UDP)
    assert S(output(net, "8.8.8.8").rt_gw4) == "10.0.0.254"


def test_a_sock_leaves_its_route_after_a_redirect() -> None:
    net, dev = host()
    know(net, dev, "10.0.0.253")
    sk = inet_sock(net)
    sk.inet_daddr, sk.inet_saddr = A("8.8.8.8"), A("10.0.0.1")
    rt = output(net, "8.8.8.8")
    sk_dst_set(sk, rt)
    rt.redirect(sk, redirect(dev, "10.0.0.254", "10.0.0.253"))
    assert not rt.check(0)


# -- input -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saddr", "daddr", "reason"),
    [
        ("10.0.0.9", "10.0.0.1", "NOT_DROPPED_YET"),
        ("224.0.0.1", "10.0.0.1", "IP_INVALID_SOURCE"),
        ("255.255.255.255", "10.0.0.1", "IP_INVALID_SOURCE"),
        ("0.0.0.0", "10.0.0.1", "IP_INVALID_SOURCE"),
        ("10.0.0.1", "10.0.0.1", "IP_LOCAL_SOURCE"),
        ("127.0.0.1", "10.0.0.1", "IP_LOCALNET"),
        ("10.0.0.9", "127.0.0.1", "IP_LOCALNET"),
        ("10.0.0.9", "0.0.0.0", "IP_INVALID_DEST"),
        ("0.0.0.0", "0.0.0.0", "NOT_DROPPED_YET"),  # BOOTP of 4.2BSD
        ("0.0.0.0", "255.255.255.255", "NOT_DROPPED_YET"),
        ("10.0.0.1", "255.255.255.255", "IP_LOCAL_SOURCE"),
        ("10.0.0.9", "10.0.0.255", "NOT_DROPPED_YET"),
        ("10.0.0.9", "224.0.0.99", "NOT_SPECIFIED"),  # nobody joined it
        ("10.0.0.9", "8.8.8.8", "NOT_DROPPED_YET"),  # leads to ip_error
    ],
)
def test_martians_are_dropped_for_their_reason(saddr: str, daddr: str, reason: str) -> None:
    _, dev = host()
    for _ in range(2):  # the second time what is cached answers
        assert DROP_REASON_NAMES[route_input(dev, saddr, daddr)[0]] == reason


def test_the_route_of_packets_for_us_is_shared_until_something_changes() -> None:
    _, dev = host()
    _, rt = route_input(dev, "10.0.0.9", "10.0.0.1")
    assert rt is not None and rt.rt_is_input
    for saddr in ("10.0.0.8", "8.8.8.8"):
        assert route_input(dev, saddr, "10.0.0.1")[1] is rt
    assert route_input(dev, "10.0.0.1", "10.0.0.1")[1] is None  # the source is looked at each time
    assert add_addr(dev, "10.0.0.2/24") == 0
    _, fresh = route_input(dev, "10.0.0.9", "10.0.0.1")
    assert fresh is not None and fresh is not rt and not rt.check(0)
    assert del_addr(dev, "10.0.0.1/24") == 0
    _, gone = route_input(dev, "10.0.0.9", "10.0.0.1")
    assert gone is None or gone.error


def test_what_is_remembered_of_own_addresses_is_bounded() -> None:
    net, dev = host()
    assert fib_frontend.ip_route_add(net, A("30.0.0.0"), 8, dev="lo", type=2) == 0
    for i in range(3000):
        assert route_input(dev, "10.0.0.9", S(A("30.0.0.0") + i))[0] == 0
    assert len(net.ipv4.route.input_local) <= 1024


def test_a_host_counts_packets_for_others_and_stays_silent() -> None:
    net, dev = host()
    skb = packet(dev, "10.0.0.9", "8.8.8.8")
    assert route.ip_route_input_noref(skb, A("8.8.8.8"), A("10.0.0.9"), 0, dev) == 0
    assert skb.dst is not None
    skb.dst.input(skb)
    assert net.ip_statistics[IPSTATS_MIB_INADDRERRORS] == 1
    assert dev.stats.tx_packets == 0


def test_a_router_tells_senders_of_unreachable_networks_at_a_limited_rate() -> None:
    net = boot()
    dev = add_dev(net, "e0", "10.0.0.1/24")
    know(net, dev, "10.0.0.9")
    assert sysctl_write(net.sysctl_table, "net.ipv4.ip_forward", "1") == 0
    for _ in range(20):
        skb = packet(dev, "10.0.0.9", "8.8.8.8")
        assert route.ip_route_input_noref(skb, A("8.8.8.8"), A("10.0.0.9"), 0, dev) == 0
        assert skb.dst is not None
        skb.dst.input(skb)
    assert net.ip_statistics[IPSTATS_MIB_INNOROUTES] == 20
    assert 1 <= dev.stats.tx_packets <= 6


def test_a_router_sends_fewer_and_fewer_redirects_to_who_does_not_listen() -> None:
    net, dev = host()
    know(net, dev, "10.0.0.9", "10.0.0.254")
    assert sysctl_write(net.sysctl_table, "net.ipv4.ip_forward", "1") == 0
    sent: list[int] = []
    for second in range(40):
        skb = packet(dev, "10.0.0.9", "8.8.8.8")
        assert route.ip_route_input_noref(skb, A("8.8.8.8"), A("10.0.0.9"), 0, dev) == 0
        before = dev.stats.tx_packets
        route.ip_rt_send_redirect(skb)
        if dev.stats.tx_packets != before:
            sent.append(second)
        net.kernel.run(net.kernel.now + NSEC_PER_SEC)
    assert sent[0] == 0 and 5 <= len(sent) <= 9
    gaps = [b - a for a, b in pairwise(sent)]
    assert gaps == sorted(gaps)


def test_the_limits_stand_under_their_sysctls() -> None:
    net, _ = host()
    table = net.sysctl_table
    assert sysctl_read(table, "net.ipv4.route.mtu_expires") == "600"
    assert sysctl_read(table, "net.ipv4.route.min_pmtu") == "552"
    assert sysctl_read(table, "net.ipv4.route.error_cost") == "1000"
    assert sysctl_read(table, "net.ipv4.route.error_burst") == "5000"
    assert sysctl_read(table, "net.ipv4.route.redirect_load") == "20"
    assert sysctl_read(table, "net.ipv4.route.redirect_silence") == "20480"
    assert sysctl_write(table, "net.ipv4.route.mtu_expires", "60") == 0
    assert net.ipv4.ip_rt_mtu_expires == 60 * NSEC_PER_SEC
    assert sysctl_write(table, "net.ipv4.route.mtu_expires", "x") == -EINVAL


# -- anything --------------------------------------------------------------------------------------------------------------

ADDRESSES = st.one_of(
    st.sampled_from([A(a) for a in ("0.0.0.0", "10.0.0.1", "10.0.0.9", "10.0.0.255", "127.0.0.1", "224.0.0.1", "239.1.1.1",
                                    "255.255.255.255", "8.8.8.8", "20.0.0.1", "21.0.0.1", "240.0.0.1")]),
    st.integers(0, 0xFFFFFFFF),
)  # fmt: skip


def router() -> tuple[Net, NetDevice]:
    net, dev = host()
    assert fib_frontend.ip_route_add(net, A("20.0.0.0"), 8, type=6) == 0
    assert fib_frontend.ip_route_add(net, A("21.0.0.0"), 8, type=8) == 0
    assert sysctl_write(net.sysctl_table, "net.ipv4.ip_forward", "1") == 0
    return net, dev


PLACES = (host(), router())


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.sampled_from([0, 1]), ADDRESSES, ADDRESSES, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=64))
def test_no_packet_raises_and_each_is_dropped_or_routed(
    place: int, saddr: int, daddr: int, tos: int, proto: int, payload: bytes
) -> None:
    net, dev = PLACES[place]
    skb = alloc_skb(ip.emit(tos, 20 + len(payload), 0, 0, 64, proto, saddr, daddr) + payload)
    skb.transport_header = 20
    skb.protocol, skb.dev = ETH_P_IP, dev
    reason = route.ip_route_input_noref(skb, daddr, saddr, tos, dev)
    assert (reason == 0) == (skb.dst is not None)
    # What is remembered answers as a lookup does.
    again = packet(dev, S(saddr), S(daddr), proto, tos)
    net.ipv4.route.input_local = {}
    assert route.ip_route_input_noref(again, daddr, saddr, tos, dev) == reason
    if skb.dst is not None:
        assert isinstance(skb.dst, Rtable) and isinstance(again.dst, Rtable)
        assert (skb.dst.rt_type, skb.dst.rt_input, skb.dst.error) == (again.dst.rt_type, again.dst.rt_input, again.dst.error)
    fl4 = Flowi4(daddr, saddr, dscp=tos, proto=proto)
    err, rt = route.ip_route_output_flow(net, fl4, None)
    assert (err == 0) == (rt is not None)


# -- martians --------------------------------------------------------------------------------------------------------------------


def test_martians_are_logged_where_a_device_says_so_but_not_without_end() -> None:
    net = boot()
    e0 = add_dev(net, "e0", "10.0.0.1/24")
    log = net.kernel.log
    route_input(e0, "224.0.0.5", "10.0.0.1")
    assert log.lines == [] and net.ipv4.route.in_martian_src == 1
    assert sysctl_write(net.sysctl_table, "net/ipv4/conf/e0/log_martians", "1") == 0
    route_input(e0, "224.0.0.5", "10.0.0.1")
    route_input(e0, "10.0.0.1", "10.0.0.1")
    route_input(e0, "10.0.0.9", "127.0.0.1")
    assert [text for _, text in log.lines] == [
        "IPv4: martian source 10.0.0.1 from 224.0.0.5, on dev e0",
        "IPv4: martian source 10.0.0.1 from 10.0.0.1, on dev e0",
        "IPv4: martian destination 127.0.0.1 from 10.0.0.9, dev e0",
    ]
    for _ in range(100):
        route_input(e0, "224.0.0.5", "10.0.0.1")
    assert len(log.lines) == 10
    net.kernel.now += 6 * NSEC_PER_SEC
    route_input(e0, "224.0.0.5", "10.0.0.1")
    assert len(log.lines) == 11
