"""igmp.c, as far as joining: the groups of a device follow its state, and IGMP packets do no harm."""

from __future__ import annotations

import pytest

from afinet.net.core import dev as dev_core
from afinet.net.core.sock import Proto
from afinet.net.ipv4 import igmp
from afinet.net.ipv4.fib_frontend import ip_route_add
from afinet.net.ipv4.inet_sock import INET_FLAGS_MC_ALL, InetSock
from afinet.uapi.errno import ENODEV
from afinet.uapi.in_ import INADDR_ALLHOSTS_GROUP, IPPROTO_IGMP
from afinet.uapi.socket import AF_INET
from afinet.wire.checksum import ip_compute_csum
from tests.net.ipv4.iphost import ME, Host, addr, packet

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
    assert igmp.ip_mc_join_group(sk, igmp.IpMreqn(GROUP)) == -ENODEV
    assert ip_route_add(h.net, addr("224.0.0.0"), 4, dev="wire1") == 0
    imr = igmp.IpMreqn(GROUP)
    assert igmp.ip_mc_join_group(sk, imr) == 0
    assert imr.imr_ifindex == h.far.ifindex
    assert igmp.ip_mc_leave_group(sk, igmp.IpMreqn(GROUP)) == 0


def test_a_sock_hears_the_groups_it_joined_and_others_only_with_multicast_all() -> None:
    h = Host()
    sk = InetSock(h.net, AF_INET, Proto(h.kernel, "TEST"))
    assert igmp.ip_mc_join_group(sk, igmp.IpMreqn(GROUP, ME)) == 0
    assert igmp.ip_mc_sf_allow(sk, GROUP, 0, h.dev.ifindex)
    assert not igmp.ip_mc_sf_allow(sk, GROUP, 0, h.far.ifindex)
    assert not igmp.ip_mc_sf_allow(sk, GROUP + 1, 0, h.dev.ifindex)
    assert igmp.ip_mc_sf_allow(sk, ME, 0, h.far.ifindex)
    sk.inet_flags |= 1 << INET_FLAGS_MC_ALL
    assert igmp.ip_mc_sf_allow(sk, GROUP + 1, 0, h.dev.ifindex)


def query() -> bytes:
    body = bytes([0x11, 100, 0, 0]) + bytes(4)
    return body[:2] + ip_compute_csum(body, 0, 8).to_bytes(2, "big") + body[4:]


@pytest.mark.parametrize(
    "data, drops",
    [
        (query(), {}),
        (b"", {"PKT_TOO_SMALL": 1}),
        (query()[:7], {"PKT_TOO_SMALL": 1}),
        (b"\x12" + query()[1:], {"NOT_SPECIFIED": 1}),
    ],
)
def test_igmp_packets_are_taken_checked_and_not_answered(data: bytes, drops: dict[str, int]) -> None:
    h = Host()
    h.receive(packet(data, IPPROTO_IGMP, daddr=INADDR_ALLHOSTS_GROUP, ttl=1), pkt_type=2)
    assert h.drops() == drops
    assert h.sent() == []
