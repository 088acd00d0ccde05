"""net/ipv4/arp.py, in packets. What is expected was seen on Linux 6.18 (a namespace on a veth, ARP spoken by hand at its end)."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.drivers.veth import veth_receive, veth_wire_newlink
from afinet.kernel.sysctl import sysctl_write
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.net.core import dev as dev_core
from afinet.net.core import neighbour
from afinet.net.core.flow import Flowi4
from afinet.net.core.skbuff import alloc_skb, skb_tobytes
from afinet.net.core.sock import Proto, Sock
from afinet.net.ipv4 import arp, devinet, ip_output, route
from afinet.uapi.if_ import IFF_NOARP
from afinet.uapi.if_ether import ETH_P_ARP, ETH_P_IP
from afinet.uapi.neighbour import NUD_FAILED, NUD_INCOMPLETE, NUD_NOARP, NUD_PERMANENT, NUD_REACHABLE, NUD_STALE
from afinet.wire import arp as arp_wire
from afinet.wire import ethernet, ip
from afinet.wire.arp import ARPOP_REPLY, ARPOP_REQUEST
from tests.leaks import start_kernel
from tests.net.core.devices import RecordingWire, drops, init_net
from tests.net.ipv4.iphost import addr

S = NSEC_PER_SEC
ALL = 0xFFFFFFFFFFFF
PEER_MAC = 0x02AA00000002
OTHER_MAC = 0x020101010101
ME, PEER, FOREIGN = addr("10.0.0.1"), addr("10.0.0.2"), addr("10.9.9.9")


class Arp(NamedTuple):
    """One packet: the frame's destination, then what it says."""

    dst: int
    op: int
    sha: int
    spa: int
    tha: int
    tpa: int


class Host:
    """10.0.0.1/24 on eth0, 10.0.1.1/24 on lo; the other end of eth0 is the test."""

    def __init__(self) -> None:
        self.kernel = start_kernel("host", b"arp")
        self.net = init_net(self.kernel)
        self.wire = RecordingWire()
        lo = self.net.loopback_dev
        assert lo is not None
        dev_core.dev_open(lo)
        self.dev = veth_wire_newlink(self.net, "eth0", self.wire)
        dev_core.dev_open(self.dev)
        devinet.inet_addr_add(self.dev, ME, 24, broadcast=ME | 0xFF)
        devinet.inet_addr_add(lo, addr("10.0.1.1"), 24)
        self.mac = self.dev.dev_addr
        tbl = self.net.arp_tbl
        assert tbl is not None
        self.tbl = tbl
        self.sent()

    def sent(self) -> list[Arp]:
        """The ARP packets sent since the last look; other frames are kept in `other`."""
        out = []
        self.other: list[bytes] = []
        for skb in self.wire.sent:
            frame = skb_tobytes(skb)
            dst, src, protocol = ethernet.parse(frame, 0)
            if protocol != ETH_P_ARP:
                self.other.append(frame)
                continue
            assert src == self.mac and len(frame) == 42
            parsed = arp_wire.parse(frame, 14)
            assert parsed is not None
            out.append(Arp(dst, *parsed))
        self.wire.sent.clear()
        return out

    def put(self, frame: bytes) -> None:
        veth_receive(self.dev, alloc_skb(frame))
        self.kernel.run(self.kernel.now)

    def hear(self, op: int, sha: int, spa: int, tha: int, tpa: int, dst: int = ALL) -> list[Arp]:
        """Put one packet in; what is sent because of it."""
        self.put(ethernet.emit(dst, sha, ETH_P_ARP) + arp_wire.emit(op, sha, spa, tha, tpa))
        return self.sent()

    def sleep(self, ns: int) -> None:
        end = self.kernel.now + ns
        while self.kernel.next_timer() <= end:
            self.kernel.run(self.kernel.next_timer())
        self.kernel.run(end)

    def neigh(self) -> dict[int, tuple[int, int]]:
        return {n.primary_key: (n.ha, n.nud_state) for n in self.tbl.hash.values() if n.dev is self.dev}

    def conf(self, **settings: int) -> None:
        for name, value in settings.items():
            assert sysctl_write(self.net.sysctl_table, f"net/ipv4/conf/eth0/{name}", str(value)) == 0


@pytest.fixture
def host() -> Host:
    return Host()


def reply(host: Host, spa: int = ME, to: int = PEER_MAC, tpa: int = PEER) -> list[Arp]:
    return [Arp(to, ARPOP_REPLY, host.mac, spa, to, tpa)]


# -- questions


def test_a_question_for_us_is_answered_and_the_asker_remembered_as_stale(host: Host):
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME) == reply(host)
    assert host.neigh() == {PEER: (PEER_MAC, NUD_STALE)}
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME, host.mac) == reply(host)


def test_questions_for_others_are_met_with_silence(host: Host):
    for target in ("10.0.0.9", "127.0.0.1", "10.0.0.255", "224.0.0.1", "255.255.255.255"):
        assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, addr(target)) == []
    assert host.neigh() == {}


def test_questions_from_impossible_askers_are_met_with_silence(host: Host):
    for sender in ("10.0.0.1", "255.255.255.255", "224.0.0.1", "127.0.0.5"):
        assert host.hear(ARPOP_REQUEST, PEER_MAC, addr(sender), 0, ME) == []
    assert host.neigh() == {}


def test_a_probe_for_an_address_in_use_is_answered_and_makes_no_entry(host: Host):
    assert host.hear(ARPOP_REQUEST, PEER_MAC, 0, 0, ME) == reply(host, tpa=0)
    assert host.hear(ARPOP_REQUEST, PEER_MAC, 0, 0, PEER) == []
    assert host.neigh() == {}


def test_an_asker_of_another_subnet_is_answered(host: Host):
    assert host.hear(ARPOP_REQUEST, PEER_MAC, FOREIGN, 0, ME) == reply(host, tpa=FOREIGN)
    assert host.neigh() == {FOREIGN: (PEER_MAC, NUD_STALE)}


def test_an_asker_with_a_broadcast_address_is_answered_where_he_is_and_no_entry_is_spoilt(host: Host):
    # Linux checks the source of a packet in full only with rp_filter, or policy routing
    broadcast = ME | 0xFF
    assert host.hear(ARPOP_REQUEST, PEER_MAC, broadcast, 0, ME) == reply(host, tpa=broadcast)
    assert host.neigh() == {broadcast: (ALL, NUD_NOARP)}


def test_the_address_of_another_device_is_ours_too_unless_arp_ignore_says_no(host: Host):
    other = addr("10.0.1.1")
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, other) == reply(host, other)
    host.conf(arp_ignore=1)
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, other) == []
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME) == reply(host)


def test_arp_ignore_2_answers_the_own_subnet_only_and_8_nobody(host: Host):
    host.conf(arp_ignore=2)
    assert host.hear(ARPOP_REQUEST, PEER_MAC, FOREIGN, 0, ME) == []
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME) == reply(host)
    host.conf(arp_ignore=8)
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME) == []
    assert host.hear(ARPOP_REQUEST, PEER_MAC, 0, 0, ME) == []


def test_arp_filter_answers_only_where_packets_to_the_asker_would_leave(host: Host):
    host.conf(arp_filter=1)
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME) == reply(host)
    assert host.hear(ARPOP_REQUEST, PEER_MAC, FOREIGN, 0, ME) == []  # there is no way to it


# -- answers and announcements


def test_unasked_answers_and_announcements_make_no_entry(host: Host):
    assert host.hear(ARPOP_REPLY, PEER_MAC, PEER, host.mac, ME, host.mac) == []
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, PEER) == []
    assert host.neigh() == {}


def test_arp_accept_makes_entries_of_both(host: Host):
    host.conf(arp_accept=1)
    host.hear(ARPOP_REPLY, PEER_MAC, PEER, host.mac, ME, host.mac)
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER + 1, 0, PEER + 1)
    assert host.neigh() == {PEER: (PEER_MAC, NUD_REACHABLE), PEER + 1: (PEER_MAC, NUD_STALE)}
    host.conf(arp_accept=2)
    host.hear(ARPOP_REQUEST, PEER_MAC, FOREIGN, 0, FOREIGN)
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER + 2, 0, PEER + 2)
    assert FOREIGN not in host.neigh() and PEER + 2 in host.neigh()


def test_an_announcement_changes_an_entry_at_once(host: Host):
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME)
    host.hear(ARPOP_REQUEST, OTHER_MAC, PEER, 0, PEER)
    assert host.neigh() == {PEER: (OTHER_MAC, NUD_STALE)}


def test_an_announcement_by_answer_must_name_its_address_twice(host: Host):
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME)
    host.hear(ARPOP_REPLY, OTHER_MAC, PEER, host.mac, PEER)
    assert host.neigh() == {PEER: (PEER_MAC, NUD_STALE)}
    host.hear(ARPOP_REPLY, OTHER_MAC, PEER, OTHER_MAC, PEER)
    assert host.neigh() == {PEER: (OTHER_MAC, NUD_STALE)}


def test_announcements_may_be_turned_off(host: Host):
    host.conf(drop_gratuitous_arp=1)
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME)
    host.hear(ARPOP_REQUEST, OTHER_MAC, PEER, 0, PEER)
    assert host.neigh() == {PEER: (PEER_MAC, NUD_STALE)} and drops(host.net) == {"NOT_SPECIFIED": 1}


def test_within_locktime_the_first_answer_wins(host: Host):
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME)
    host.hear(ARPOP_REPLY, OTHER_MAC, PEER, host.mac, ME, host.mac)
    assert host.neigh() == {PEER: (PEER_MAC, NUD_STALE)}
    host.sleep(1200 * NSEC_PER_MSEC)
    host.hear(ARPOP_REPLY, OTHER_MAC, PEER, host.mac, ME, host.mac)
    assert host.neigh() == {PEER: (OTHER_MAC, NUD_REACHABLE)}


def test_only_an_answer_sent_to_us_alone_confirms(host: Host):
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME)
    host.hear(ARPOP_REPLY, PEER_MAC, PEER, host.mac, ME)
    assert host.neigh() == {PEER: (PEER_MAC, NUD_STALE)}
    host.hear(ARPOP_REPLY, PEER_MAC, PEER, host.mac, ME, host.mac)
    assert host.neigh() == {PEER: (PEER_MAC, NUD_REACHABLE)}


def test_nobody_takes_over_a_permanent_entry(host: Host):
    neighbour.neigh_add(host.tbl, PEER, host.dev, PEER_MAC)
    assert host.hear(ARPOP_REQUEST, OTHER_MAC, PEER, 0, ME) == [Arp(OTHER_MAC, ARPOP_REPLY, host.mac, ME, OTHER_MAC, PEER)]
    assert host.neigh() == {PEER: (PEER_MAC, NUD_PERMANENT)}


# -- our questions


def ask(host: Host, target: int, source: int = ME) -> None:
    """A packet from `source` wants to go to `target`."""
    n = arp_neigh(host, target)
    skb = alloc_skb(b"\x45\0\0\x14" + bytes(8) + source.to_bytes(4, "big") + target.to_bytes(4, "big"))
    skb.dev = host.dev
    skb.protocol = ETH_P_IP
    neighbour.neigh_output(n, skb)


def arp_neigh(host: Host, target: int) -> neighbour.Neighbour:
    n = neighbour.neigh_lookup(host.tbl, target, host.dev) or neighbour.neigh_create(host.tbl, target, host.dev)
    assert n is not None
    return n


def test_we_ask_everyone_three_times_a_second_apart_and_give_up(host: Host):
    question = [Arp(ALL, ARPOP_REQUEST, host.mac, ME, 0, PEER)]
    ask(host, PEER)
    assert host.sent() == question
    for _ in range(2):
        host.sleep(999 * NSEC_PER_MSEC)
        assert host.sent() == []
        host.sleep(NSEC_PER_MSEC)
        assert host.sent() == question
    assert host.neigh() == {PEER: (0, NUD_INCOMPLETE)}
    host.sleep(S)
    assert host.sent() == [] and host.neigh() == {PEER: (0, NUD_FAILED)}
    assert drops(host.net) == {"NEIGH_FAILED": 1}


def test_a_known_neighbour_is_probed_alone(host: Host):
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME)
    ask(host, PEER)
    assert host.sent() == [] and len(host.other) == 1
    host.sleep(5 * S)
    assert host.sent() == [Arp(PEER_MAC, ARPOP_REQUEST, host.mac, ME, 0, PEER)]
    host.hear(ARPOP_REPLY, PEER_MAC, PEER, host.mac, ME, host.mac)
    assert host.neigh() == {PEER: (PEER_MAC, NUD_REACHABLE)}
    host.sleep(3 * S)
    assert host.sent() == []


def test_a_transport_that_hears_the_peer_spares_the_question(host: Host):
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME)
    sk = Sock(host.net, 2, Proto(host.kernel, "TEST"))
    sk.sk_dst_pending_confirm = True  # as tcp_ack leaves it
    err, rt = route.ip_route_output_flow(host.net, Flowi4(PEER), None)
    assert err == 0
    skb = alloc_skb(ip.emit(0, 20, 0, 0, 64, 253, ME, PEER))
    skb.protocol = ETH_P_IP
    skb.dev = host.dev
    skb.dst = rt
    assert ip_output.ip_finish_output2(host.net, sk, skb) == 0
    assert not sk.sk_dst_pending_confirm
    host.sleep(10 * S)
    assert host.sent() == [] and host.neigh() == {PEER: (PEER_MAC, NUD_REACHABLE)}


@pytest.mark.parametrize(("announce", "source"), [(0, "10.0.1.1"), (1, "10.0.0.1"), (2, "10.0.0.1")])
def test_in_whose_name_we_ask(host: Host, announce: int, source: str):
    host.conf(arp_announce=announce)
    ask(host, PEER, addr("10.0.1.1"))
    assert host.sent() == [Arp(ALL, ARPOP_REQUEST, host.mac, addr(source), 0, PEER)]


def test_broadcast_and_multicast_need_no_question(host: Host):
    group = 0x01005E010203
    for target, mac in (("10.0.0.255", ALL), ("255.255.255.255", ALL), ("224.1.2.3", group), ("239.129.2.3", group)):
        ask(host, addr(target))
        assert host.sent() == []
        assert ethernet.parse(host.other[0], 0) == (mac, host.mac, ETH_P_IP)
        assert host.neigh()[addr(target)] == (mac, NUD_NOARP)


def test_all_of_lo_is_one_neighbour(host: Host):
    lo = host.net.loopback_dev
    assert lo is not None
    one = neighbour.neigh_create(host.tbl, addr("127.0.0.1"), lo)
    assert one is not None and one is neighbour.neigh_create(host.tbl, addr("127.9.9.9"), lo)
    assert one.primary_key == 0 and one.hh == ethernet.emit(0, 0, ETH_P_IP)


def test_a_new_address_of_ours_makes_cached_headers_wrong(host: Host):
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME)
    assert dev_core.dev_set_mac_address(host.dev, 0x020000000077) == 0
    assert host.neigh() == {}


def test_arp_notify_announces_our_addresses(host: Host):
    host.conf(arp_notify=1)
    dev_core.dev_close(host.dev)
    dev_core.dev_open(host.dev)
    assert host.sent() == [Arp(ALL, ARPOP_REQUEST, host.mac, ME, 0, ME)]


# -- devices


def test_each_device_has_settings_of_its_own_under_its_name(host: Host):
    table = host.net.sysctl_table
    assert sysctl_write(table, "net/ipv4/neigh/eth0/mcast_solicit", "1") == 0
    ask(host, PEER)
    host.sent()
    host.sleep(2 * S)
    assert host.sent() == [] and host.neigh() == {PEER: (0, NUD_FAILED)}
    assert dev_core.dev_change_name(host.dev, "wan0") == 0
    assert "net/ipv4/neigh/wan0/locktime" in table and "net/ipv4/neigh/eth0/locktime" not in table
    dev_core.unregister_netdevice(host.dev)
    assert not [k for k in table if k.startswith("net/ipv4/neigh/wan0/")]
    assert host.neigh() == {}


def test_without_arp_everyone_is_at_our_own_address_and_the_entries_made_before_go(host: Host):
    ask(host, PEER)
    host.sent()
    dev_core.dev_change_flags(host.dev, host.dev.flags | IFF_NOARP)
    assert host.neigh() == {}
    ask(host, PEER)
    assert host.sent() == [] and host.neigh() == {PEER: (host.mac, NUD_NOARP)}
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME) == []
    dev_core.dev_change_flags(host.dev, host.dev.flags & ~IFF_NOARP)
    assert host.neigh() == {}


def test_proc_net_arp_reads_as_linuxs(host: Host):
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME)
    neighbour.neigh_add(host.tbl, PEER + 1, host.dev, OTHER_MAC)
    ask(host, PEER + 2)
    ask(host, addr("224.0.0.1"))
    assert arp.arp_seq_show(host.net).splitlines() == [
        "IP address       HW type     Flags       HW address            Mask     Device",
        "10.0.0.2         0x1         0x2         02:aa:00:00:00:02     *        eth0",
        "10.0.0.3         0x1         0x6         02:01:01:01:01:01     *        eth0",
        "10.0.0.4         0x1         0x0         00:00:00:00:00:00     *        eth0",
    ]


# -- hostile


def test_what_is_not_for_us_or_not_arp_over_ethernet_is_dropped(host: Host):
    good = arp_wire.emit(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME)
    for at, value in ((1, 2), (2, 9), (4, 7), (5, 16), (7, 3), (7, 8)):
        host.put(ethernet.emit(ALL, PEER_MAC, ETH_P_ARP) + good[:at] + bytes([value]) + good[at + 1 :])
    assert host.sent() == [] and drops(host.net) == {"NOT_SPECIFIED": 6}
    for cut in range(28):
        host.put(ethernet.emit(ALL, PEER_MAC, ETH_P_ARP) + good[:cut])
    assert drops(host.net) == {"NOT_SPECIFIED": 6, "PKT_TOO_SMALL": 28}
    # to somebody else's address: ignored, not dropped
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME, 0x020000009999) == []
    assert sum(host.net.drop_reasons) == 34 and host.neigh() == {}


def test_a_flood_of_askers_does_not_grow_the_table_without_bound(host: Host):
    for i in range(3000):
        host.hear(ARPOP_REQUEST, 0x020000000000 + i, addr("10.0.0.0") + 0x10000 + i, 0, ME)
    assert len(host.tbl.hash) <= host.tbl.gc_thresh3 + 1
    host.sleep(6 * S)
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME) == reply(host)


MACS = st.sampled_from([0, PEER_MAC, OTHER_MAC, ALL, 0x01005E000001])
ADDRESSES = st.sampled_from([0, ME, PEER, FOREIGN, 0xFFFFFFFF, 0xE0000001, 0x7F000001, ME | 0xFF, 0x0A000101])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(
                lambda op, sha, spa, tha, tpa, cut: arp_wire.emit(op, sha, spa, tha, tpa)[:cut],
                st.integers(0, 4), MACS, ADDRESSES, MACS, ADDRESSES, st.sampled_from([28, 28, 28, 27, 8]),
            ),
        ),
        max_size=20,
    ),
    st.integers(0, 3),
)  # fmt: skip
def test_no_packet_raises_and_what_is_known_stays_consistent(packets: list[bytes], accept: int) -> None:
    host = Host()
    host.conf(arp_accept=accept % 3)
    for packet in packets:
        host.put(ethernet.emit(ALL, PEER_MAC, ETH_P_ARP) + packet)
        host.sleep(300 * NSEC_PER_MSEC)
        for sent in host.sent():
            assert sent.op == ARPOP_REPLY and sent.sha == host.mac
    for key, (_, state) in host.neigh().items():
        assert key not in (0, ME, 0xFFFFFFFF, 0x7F000001) and key >> 28 != 0xE
        assert state in (NUD_STALE, NUD_REACHABLE) or (key == ME | 0xFF and state == NUD_NOARP)
    assert host.kernel.softirq_count == 0 and host.kernel.softirq_pending == 0
    dev_core.unregister_netdevice(host.dev)
    assert host.neigh() == {}


def test_arp_invalidate_forgets_what_is_not_valid(host: Host):
    ask(host, PEER)
    assert arp.arp_invalidate(host.dev, PEER, False) == 0 and host.neigh() == {}
    host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, ME)
    assert arp.arp_invalidate(host.dev, PEER, False) == 0 and PEER in host.neigh()
    assert arp.arp_invalidate(host.dev, PEER, True) == 0 and host.neigh() == {}
    assert arp.arp_invalidate(host.dev, PEER, True) < 0


# -- standing in for others ----------------------------------------------------------------------------------------------------


def proxy(host: Host, *settings: str) -> None:
    """A router with a route over another device."""
    for name in ("ip_forward", *settings):
        assert sysctl_write(host.net.sysctl_table, f"net/ipv4/{name}", "1") == 0
    other = veth_wire_newlink(host.net, "eth1", RecordingWire())
    dev_core.dev_open(other)
    devinet.inet_addr_add(other, addr("192.0.2.1"), 24)


def test_a_proxy_answers_after_a_random_part_of_proxy_delay(host: Host) -> None:
    proxy(host, "conf/eth0/proxy_arp")
    host.sent()
    assert host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, addr("192.0.2.7")) == []
    assert host.kernel.timers.pending
    host.sleep(800 * NSEC_PER_MSEC)
    assert host.sent() == [Arp(PEER_MAC, ARPOP_REPLY, host.mac, addr("192.0.2.7"), PEER_MAC, PEER)]


def test_a_question_to_the_proxy_alone_is_answered_at_once(host: Host) -> None:
    proxy(host, "conf/eth0/proxy_arp")
    host.sent()
    assert len(host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, addr("192.0.2.7"), host.mac)) == 1


def test_a_proxys_queue_is_bounded_and_goes_with_the_device(host: Host) -> None:
    proxy(host, "conf/eth0/proxy_arp")
    for i in range(100):
        host.hear(ARPOP_REQUEST, PEER_MAC, PEER, 0, addr("192.0.2.7") + i)
    assert host.tbl.proxy_queue is not None and len(host.tbl.proxy_queue.queue) == 65
    assert drops(host.net)["NEIGH_QUEUEFULL"] == 35
    dev_core.dev_close(host.dev)
    assert host.tbl.proxy_queue.queue == [] and not host.tbl.proxy_queue.timer_pending()
