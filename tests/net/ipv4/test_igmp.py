"""igmp.c: the groups of a device follow its state and its socks; when reports are sent, and when not; IP_ROUTER_ALERT. What the
reports say is compared with the running kernel in tests/parity/test_multicast.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.wait import Kiocb
from afinet.net.core import dev as dev_core
from afinet.net.core.sock import Proto
from afinet.net.ipv4 import igmp_sock
from afinet.net.ipv4.fib_frontend import ip_route_add
from afinet.net.ipv4.inet_sock import INET_FLAGS_MC_ALL, InetSock
from afinet.uapi.errno import EADDRINUSE, EINVAL, ENOBUFS, ENODEV
from afinet.uapi.if_packet import PACKET_MULTICAST
from afinet.uapi.in_ import INADDR_ALLHOSTS_GROUP, IP_ROUTER_ALERT, IPPROTO_IGMP, MCAST_EXCLUDE
from afinet.uapi.socket import AF_INET, MSG_DONTWAIT, SOCK_DGRAM, SOCK_RAW
from afinet.wire.checksum import ip_compute_csum
from tests.net.ipv4.iphost import FAR, ME, Host, addr, packet

MS = 1_000_000
SEC = 1_000_000_000

GROUP = addr("224.5.6.7")


def test_a_device_that_is_up_is_in_the_all_hosts_group() -> None:
    h = Host()
    in_dev = h.dev.ip_ptr
    assert in_dev is not None
    assert list(in_dev.mc_list) == [INADDR_ALLHOSTS_GROUP]
    dev_core.dev_close(h.dev)
    assert list(in_dev.mc_list) == []
    dev_core.dev_open(h.dev)
    assert list(in_dev.mc_list) == [INADDR_ALLHOSTS_GROUP]


def test_without_a_device_the_groups_route_decides() -> None:
    h = Host()
    sk = InetSock(h.net, AF_INET, Proto(h.kernel, "TEST"))
    assert igmp_sock.ip_mc_join_group(sk, igmp_sock.IpMreqn(GROUP)) == -ENODEV
    assert ip_route_add(h.net, addr("224.0.0.0"), 4, dev="wire1") == 0
    imr = igmp_sock.IpMreqn(GROUP)
    assert igmp_sock.ip_mc_join_group(sk, imr) == 0
    assert imr.imr_ifindex == h.far.ifindex
    assert igmp_sock.ip_mc_leave_group(sk, igmp_sock.IpMreqn(GROUP)) == 0


def test_a_sock_hears_the_groups_it_joined_and_others_only_with_multicast_all() -> None:
    h = Host()
    sk = InetSock(h.net, AF_INET, Proto(h.kernel, "TEST"))
    assert igmp_sock.ip_mc_join_group(sk, igmp_sock.IpMreqn(GROUP, ME)) == 0
    assert igmp_sock.ip_mc_sf_allow(sk, GROUP, 0, h.dev.ifindex)
    assert not igmp_sock.ip_mc_sf_allow(sk, GROUP, 0, h.far.ifindex)
    assert not igmp_sock.ip_mc_sf_allow(sk, GROUP + 1, 0, h.dev.ifindex)
    assert igmp_sock.ip_mc_sf_allow(sk, ME, 0, h.far.ifindex)
    sk.inet_flags |= 1 << INET_FLAGS_MC_ALL
    assert igmp_sock.ip_mc_sf_allow(sk, GROUP + 1, 0, h.dev.ifindex)


# -- queries and reports ------------------------------------------------------------------------------------------------------


def igmp(type: int, code: int, group: int, rest: bytes = b"") -> bytes:
    body = bytes([type, code, 0, 0]) + group.to_bytes(4, "big") + rest
    return body[:2] + ip_compute_csum(body, 0, len(body)).to_bytes(2, "big") + body[4:]


QUERY2 = igmp(0x11, 100, 0)
QUERY3 = igmp(0x11, 100, 0, bytes([2, 125, 0, 0]))


def hear(h: Host, data: bytes, daddr: int = INADDR_ALLHOSTS_GROUP) -> None:
    h.receive(packet(data, IPPROTO_IGMP, daddr=daddr, ttl=1), pkt_type=PACKET_MULTICAST)


def joined(h: Host, group: int = GROUP) -> InetSock:
    sk = InetSock(h.net, AF_INET, Proto(h.kernel, "TEST"))
    assert igmp_sock.ip_mc_join_group(sk, igmp_sock.IpMreqn(group, ME)) == 0
    return sk


def reports(h: Host) -> list[tuple[int, int]]:
    """(type, group or number of records) of the messages sent since."""
    return [(data[24], int.from_bytes(data[28:32], "big")) for data in h.sent() if data[9] == IPPROTO_IGMP]


@pytest.mark.parametrize(
    "data, drops",
    [
        (QUERY2, {}),
        (b"", {"PKT_TOO_SMALL": 1}),
        (QUERY2[:7], {"PKT_TOO_SMALL": 1}),
        (b"\x12" + QUERY2[1:], {"NOT_SPECIFIED": 1}),
        (QUERY3, {}),
        (igmp(0x11, 100, 0, b"\0\0\0"), {"NOT_SPECIFIED": 1}),
        (igmp(0x11, 100, GROUP, bytes([2, 125, 0, 1])), {"NOT_SPECIFIED": 1}),
        (igmp(0x22, 0, 0), {}),
    ],
)
def test_igmp_packets_are_checked_and_a_host_in_no_group_says_nothing(data: bytes, drops: dict[str, int]) -> None:
    h = Host()
    hear(h, data)
    assert h.drops() == drops
    h.sleep(60 * SEC)
    assert h.sent() == []


def test_a_device_without_memberships_has_no_timer() -> None:
    h = Host()
    assert h.kernel.timers.pending == 0
    sk = joined(h)
    assert h.kernel.timers.pending == 1
    h.sleep(3 * SEC)
    assert h.kernel.timers.pending == 0
    igmp_sock.ip_mc_drop_socket(sk)
    h.sleep(3 * SEC)
    assert h.kernel.timers.pending == 0


def test_a_join_is_reported_at_once_and_again_within_the_unsolicited_interval() -> None:
    h = Host()
    joined(h)
    h.sleep(3 * MS)
    assert reports(h) == [(0x22, 1)]
    h.sleep(1003 * MS)
    assert reports(h) == [(0x22, 1)]
    h.sleep(10 * SEC)
    assert reports(h) == []


def test_a_general_query_is_answered_once_within_its_time() -> None:
    h = Host()
    joined(h)
    joined(h, GROUP + 1)
    h.sleep(3 * SEC)
    reports(h)
    hear(h, QUERY3)
    hear(h, QUERY3)
    h.sleep(10 * SEC + 3 * MS)
    assert reports(h) == [(0x22, 2)]


def test_version_2_and_back_when_its_querier_is_not_heard_any_more() -> None:
    h = Host()
    joined(h)
    h.sleep(3 * SEC)
    reports(h)
    hear(h, QUERY2)
    h.sleep(11 * SEC)
    assert reports(h) == [(0x16, GROUP)]
    hear(h, QUERY3)  # counts as a query of the older version
    h.sleep(11 * SEC)
    assert reports(h) == [(0x16, GROUP)]
    h.sleep(2 * 125 * SEC + 10 * SEC - 22 * SEC + MS)
    hear(h, QUERY3)
    h.sleep(11 * SEC)
    assert reports(h) == [(0x22, 1)]


def test_another_ones_report_replaces_ours_and_our_leave() -> None:
    h = Host()
    sk = joined(h)
    h.sleep(3 * SEC)
    hear(h, QUERY2)
    reports(h)
    hear(h, igmp(0x16, 0, GROUP), GROUP)
    h.sleep(11 * SEC)
    assert reports(h) == []
    igmp_sock.ip_mc_drop_socket(sk)
    assert reports(h) == []


def test_the_last_reporter_says_that_it_leaves() -> None:
    h = Host()
    sk = joined(h)
    hear(h, QUERY2)
    h.sleep(11 * SEC)
    assert reports(h) == [(0x16, GROUP)]
    igmp_sock.ip_mc_drop_socket(sk)
    assert reports(h) == [(0x17, GROUP)]


def test_a_device_that_goes_away_takes_its_timers_with_it() -> None:
    h = Host()
    joined(h)
    hear(h, QUERY3)
    assert h.kernel.timers.pending > 0
    dev_core.unregister_netdevice(h.dev)
    assert h.kernel.timers.pending == 0


@given(st.binary(max_size=40), st.sampled_from([0x11, 0x12, 0x16, 0x17, 0x22]), st.booleans())
def test_no_message_whatever_does_harm(data: bytes, type: int, old: bool) -> None:
    h = Host()
    sk = joined(h)
    assert igmp_sock.ip_mc_source(sk, True, MCAST_EXCLUDE, igmp_sock.IpMreqn(GROUP, ME), ME + 7) == 0
    if old:
        hear(h, QUERY2)
    hear(h, igmp(type, data[0] if data else 0, int.from_bytes(data[1:5], "big"), data[5 : len(data) // 2 * 2 + 1]))
    hear(h, igmp(type, 1, GROUP, data[: len(data) // 2 * 2]))
    h.sleep(7200 * SEC)
    assert h.kernel.timers.pending == 0


# -- IP_ROUTER_ALERT ----------------------------------------------------------------------------------------------------------


def test_packets_with_router_alert_go_to_the_raw_sock_that_asks_instead_of_on() -> None:
    h = Host()
    h.net.ipv4.devconf_all.forwarding = 1
    assert h.dev.ip_ptr is not None
    h.dev.ip_ptr.cnf.forwarding = 1
    task = new_task(h.kernel, h.net, "rsvpd", None)
    raw = syscalls.sys_socket(task, AF_INET, SOCK_RAW, 46)
    set = syscalls.sys_setsockopt
    alert = b"\x94\x04\0\0"
    one, none = (1).to_bytes(4, "little"), bytes(4)

    def through(protocol: int, options: bytes) -> str:
        h.receive(packet(b"x" * 8, protocol, daddr=FAR, options=options))
        went = "on" * len(h.farlink.sent)
        h.farlink.sent.clear()
        return went + "up" * (syscalls.sys_recvfrom(task, Kiocb(), raw, 100, MSG_DONTWAIT)[0] > 0)

    assert set(task, raw, 0, IP_ROUTER_ALERT, none) == -ENOBUFS
    assert through(46, alert) == "on"
    assert set(task, raw, 0, IP_ROUTER_ALERT, one) == 0
    assert set(task, raw, 0, IP_ROUTER_ALERT, one) == -EADDRINUSE
    assert syscalls.sys_getsockopt(task, raw, 0, IP_ROUTER_ALERT, 4) == (0, one)
    assert (through(46, alert), through(46, b""), through(47, alert)) == ("up", "on", "on")
    assert syscalls.sys_close(task, Kiocb(), raw) == 0
    assert h.net.ipv4.ra_chain == []
    udp = syscalls.sys_socket(task, AF_INET, SOCK_DGRAM, 17)
    assert set(task, udp, 0, IP_ROUTER_ALERT, one) == -EINVAL
