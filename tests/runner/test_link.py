"""One direction of a link: when frames arrive, and which do not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afinet import Network
from afinet.net.core.dev import dev_add_pack, dev_queue_xmit
from afinet.net.core.drop_reason import SKB_DROP_REASON_LINK_LOSS, SKB_DROP_REASON_QDISC_DROP
from afinet.net.core.netdevice import NETIF_F_TSO, NetDevice, PacketType
from afinet.net.core.skbuff import CHECKSUM_PARTIAL, SKB_GSO_TCPV4, SkBuff, alloc_skb, consume_skb, skb_tobytes
from afinet.runner.link import COALESCE
from afinet.uapi.if_ether import ETH_P_ALL, ETH_P_IP
from afinet.uapi.if_packet import PACKET_HOST
from afinet.wire import ethernet, ip, tcp
from afinet.wire.checksum import csum_fold, csum_tcpudp_nofold
from tests.tools.frames import check_frame

PROTO = 0x88B5  # local experimental Ethertype


class Sink(PacketType):
    """Notes when each frame of ours arrives, and its number."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(PROTO)
        self.bench = bench

    def func(self, skb: SkBuff, dev: NetDevice) -> int:
        payload = skb_tobytes(skb)
        self.bench.seen.append((self.bench.net.now_ns, int.from_bytes(payload[:4], "big")))
        self.bench.payloads.append(payload)
        consume_skb(skb)
        return 0


class Bench:
    def __init__(self, seed: int = 1, **parameters: Any) -> None:
        self.net = Network(seed=seed)
        a, b = self.net.host("a"), self.net.host("b")
        self.link = self.net.link(a, b, **parameters)
        self.end = self.link.to_b
        self.device = self.link.device_a
        self.seen: list[tuple[int, int]] = []
        self.payloads: list[bytes] = []
        self.number = 0
        dev_add_pack(b.kernel, Sink(self))
        self.net.run_for("10s")  # past whatever the hosts say when they come up
        self.base = self.net.now_ns
        self.packets = self.end.packets
        self.lost = self.end.lost

    def send(self, length: int = 1000, n: int = 1) -> None:
        """`n` frames of `length` bytes, link header and all, now."""
        self.device.nd_net.kernel.now = self.net.runner.hub.now  # type: ignore[union-attr]
        for _ in range(n):
            payload = self.number.to_bytes(4, "big").ljust(length - 14, b"\0")
            self.number += 1
            skb = alloc_skb(ethernet.emit(self.link.device_b.dev_addr, self.device.dev_addr, PROTO) + payload)
            skb.dev = self.device
            skb.protocol = PROTO
            dev_queue_xmit(skb)

    def arrivals(self) -> list[tuple[int, int]]:
        self.net.run_for("100s")
        return [(when - self.base, n) for when, n in self.seen]


@pytest.fixture
def make() -> Iterator[Any]:
    benches: list[Bench] = []

    def build(**parameters: Any) -> Bench:
        benches.append(Bench(**parameters))
        return benches[-1]

    yield build
    for bench in benches:
        bench.net.close()


def test_without_a_rate_frames_arrive_together_after_the_delay(make: Any) -> None:
    bench = make(delay="20ms")
    before = bench.net.runner.hub.events
    bench.send(n=50)
    assert bench.arrivals() == [(20_000_000, n) for n in range(50)]
    assert bench.net.runner.hub.events - before < 50  # one event for all of them, and the hosts' own timers


def test_with_a_rate_each_waits_for_those_before_it(make: Any) -> None:
    bench = make(delay="1ms", rate="8mbit")  # a byte a microsecond
    bench.send(1000, n=3)
    assert bench.arrivals() == [(2_000_000, 0), (3_000_000, 1), (4_000_000, 2)]


def test_what_a_division_leaves_over_is_carried_on(make: Any) -> None:
    bench = make(rate=3_000_000, queue=5000)
    bench.send(1000, n=3000)
    times = [when for when, _ in bench.arrivals()]
    assert times[2999] == 8_000_000_000  # 3000 * 8000 bits at 3 Mbit/s, to the nanosecond
    assert {b - a for a, b in itertools.pairwise(times)} == {2_666_666, 2_666_667}


def test_a_full_queue_drops_and_counts(make: Any) -> None:
    bench = make(rate="8mbit", queue=10)
    bench.send(1000, n=15)
    # one is being sent, ten wait
    assert [n for _, n in bench.arrivals()] == list(range(11))
    assert bench.end.overflowed == 4 and bench.device.stats.tx_dropped == 4
    assert bench.device.nd_net.drop_reasons[SKB_DROP_REASON_QDISC_DROP] == 4
    bench.send(1000, n=2)
    assert len(bench.arrivals()) == 13


def test_a_queue_may_be_bounded_in_bytes(make: Any) -> None:
    bench = make(rate="8mbit", queue="5kb")
    bench.send(1000, n=10)
    assert len(bench.arrivals()) == 6
    bench.send(2000 - 500, n=1)
    bench.send(600, n=10)
    assert len(bench.arrivals()) == 6 + 1 + 8


def test_loss_is_the_seeds_and_what_is_lost_has_used_the_rate(make: Any) -> None:
    bench = make(rate="8mbit", loss="25%", queue=2000)
    bench.send(1000, n=1000)
    arrived = bench.arrivals()
    lost = bench.end.lost - bench.lost
    assert len(arrived) == 1000 - lost and 200 < lost < 300
    assert all(when == (n + 1) * 1_000_000 for when, n in arrived)
    assert bench.device.nd_net.drop_reasons[SKB_DROP_REASON_LINK_LOSS] == bench.end.lost
    again = make(rate="8mbit", loss="25%", queue=2000)
    again.send(1000, n=1000)
    assert again.arrivals() == arrived
    other = make(rate="8mbit", loss="25%", queue=2000, seed=2)
    other.send(1000, n=1000)
    assert other.arrivals() != arrived


def test_duplicates_arrive_twice(make: Any) -> None:
    bench = make(delay="1ms", duplicate=1)
    bench.send(n=5)
    assert sorted(n for _, n in bench.arrivals()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_reordered_frames_overtake_those_under_way(make: Any) -> None:
    bench = make(delay="10ms", reorder="20%")
    bench.send(n=100)
    order = [n for _, n in bench.arrivals()]
    assert sorted(order) == list(range(100)) and order != list(range(100))
    assert {when for when, _ in bench.seen} == {bench.base, bench.base + 10_000_000}


def test_jitter_varies_the_delay_within_its_bounds(make: Any) -> None:
    bench = make(delay="10ms", jitter="2ms")
    bench.send(n=200)
    times = [when for when, _ in bench.arrivals()]
    assert min(times) >= 8_000_000 and max(times) <= 12_000_000 and len(set(times)) > 150


def test_damage_is_one_bit_of_a_frame(make: Any) -> None:
    bench = make(corrupt=1)
    bench.send(n=50)
    bench.arrivals()
    clean = [n.to_bytes(4, "big").ljust(986, b"\0") for n in range(50)]
    damaged = 0
    for payload in bench.payloads:
        wrong = min(sum((x ^ y).bit_count() for x, y in zip(payload, want, strict=True)) for want in clean)
        assert wrong <= 1
        damaged += wrong
    assert damaged > 40  # the others were hit in the link header


def test_a_cut_link_carries_what_is_under_way_and_no_more(make: Any) -> None:
    bench = make(delay="10ms")
    bench.send(n=2)
    bench.net.run_for("5ms")
    with bench.link.cut():
        bench.send(n=3)
        bench.net.run_for("1s")
    bench.send()
    assert [n for _, n in bench.arrivals()] == [0, 1, 5]


def test_parameters_may_change_while_frames_are_under_way(make: Any) -> None:
    bench = make(delay="50ms")
    bench.send()
    bench.link.change(delay="10ms")
    bench.send()
    assert bench.arrivals() == [(10_000_000, 1), (50_000_000, 0)]


def test_frames_longer_than_the_mtu_are_not_received(make: Any) -> None:
    bench = make(mtu=500)
    bench.send(500 + 14 + 4)
    bench.send(500 + 14 + 5)
    assert [n for _, n in bench.arrivals()] == [0]
    assert bench.link.device_b.stats.rx_dropped == 1


# -- super-packets ---------------------------------------------------------------------------------------------------------


class Packets:
    """Watches the packets that arrive at the other end: when, and the payload of each as a wire carries it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.seen: list[tuple[int, bytes]] = []
        self.objects = 0
        bench.net.capture(self.frame)
        count = self

        class Count(PacketType):
            def func(self, skb: SkBuff, dev: NetDevice) -> int:
                if skb.pkt_type == PACKET_HOST and skb.protocol == ETH_P_IP:
                    count.objects += 1
                return 0

        dev_add_pack(bench.link.b.kernel, Count(ETH_P_ALL))

    def frame(self, host: Any, dev: str, when: int, outbound: bool, frame: bytes) -> None:
        if host is self.bench.link.b and dev == "eth0" and not outbound and frame[12:14] == b"\x08\x00":
            assert self.bench.end.netem.corrupt or check_frame(frame) == "tcp"
            self.seen.append((self.bench.net.now_ns - self.bench.base, frame[54:]))


def train(bench: Bench, n: int, size: int = 1446, tail: int = 0) -> list[bytes]:
    """Send a super-packet of `n` packets of `size` bytes and their headers (1,500 bytes at 1,446), the last with `tail` bytes. What
    is in each."""
    payload = [i.to_bytes(2, "big") * (size // 2) for i in range(n)]
    if tail:
        payload[-1] = payload[-1][:tail]
    device = bench.device
    bench.device.nd_net.kernel.now = bench.net.runner.hub.now  # type: ignore[union-attr]
    saddr, daddr = bench.link.address_of(bench.link.a), bench.link.address_of(bench.link.b)
    length = sum(map(len, payload))
    header = tcp.emit(5, 9, 1000, 0, 0x18, 100, 0, 0, b"")
    check = csum_fold(csum_tcpudp_nofold(saddr, daddr, 20 + length, 6, 0)) ^ 0xFFFF
    head = ethernet.emit(bench.link.device_b.dev_addr, device.dev_addr, ETH_P_IP)
    head += ip.emit(0, 40 + length, 100, ip.IP_DF, 64, 6, saddr, daddr) + header[:16] + check.to_bytes(2, "big") + header[18:]
    skb = SkBuff(head, payload, length, 1000)
    skb.protocol = ETH_P_IP
    skb.dev = device
    skb.network_header, skb.transport_header = 14, 34
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, 34, 16
    if n > 1:
        skb.gso_size, skb.gso_segs, skb.gso_type = size, n, SKB_GSO_TCPV4
    dev_queue_xmit(skb)
    return payload


def one_by_one(bench: Bench, n: int, size: int = 1446) -> list[bytes]:
    """The same packets, each by itself."""
    device = bench.device
    device.features &= ~NETIF_F_TSO
    payload = train(bench, n, size)
    device.features |= NETIF_F_TSO
    return payload


def test_a_train_without_a_rate_arrives_whole_and_counts_by_packets(make: Any) -> None:
    bench = make(delay="20ms")
    seen = Packets(bench)
    before = bench.device.stats.tx_packets, bench.device.stats.tx_bytes, bench.end.bytes
    received = bench.link.device_b.stats.rx_packets, bench.link.device_b.stats.rx_bytes
    sent = train(bench, 40, tail=100)
    bench.net.run_for("20ms")
    assert seen.seen == [(20_000_000, p) for p in sent] and seen.objects == 1
    assert bench.end.packets - bench.packets == 40
    wire = 39 * 1500 + 154
    assert bench.end.bytes - before[2] == wire
    assert (bench.device.stats.tx_packets - before[0], bench.device.stats.tx_bytes - before[1]) == (40, wire)
    stats = bench.link.device_b.stats
    assert (stats.rx_packets - received[0], stats.rx_bytes - received[1]) == (40, wire)


@pytest.mark.parametrize("rate, together", [("10mbit", 1), ("100mbit", 1), ("1gbit", 6), ("10gbit", 40)])
def test_with_a_rate_packets_arrive_by_their_own_last_bits_close_ones_together(make: Any, rate: str, together: int) -> None:
    bench = make(delay="1ms", rate=rate)
    seen = Packets(bench)
    sent = train(bench, 40)
    bench.arrivals()
    bits = {"10mbit": 10**7, "100mbit": 10**8, "1gbit": 10**9, "10gbit": 10**10}[rate]
    own = [1_000_000 + (i + 1) * 12_000 * 10**9 // bits for i in range(40)]
    expected = [own[min(i - i % together + together, 40) - 1] for i in range(40)]
    assert seen.seen == list(zip(expected, sent, strict=True))
    assert seen.objects == -(-40 // together)
    # Never before its own last bit, and not much after.
    assert all(0 <= when - mine <= COALESCE for (when, _), mine in zip(seen.seen, own, strict=True))


def test_a_full_queue_takes_the_first_packets_of_a_train(make: Any) -> None:
    bench = make(rate="12mbit", queue=10)  # 1,500 bytes take a millisecond
    seen = Packets(bench)
    sent = train(bench, 15)
    bench.arrivals()
    assert seen.seen == [((i + 1) * 1_000_000, p) for i, p in enumerate(sent[:11])]
    assert bench.end.overflowed == 4 and bench.device.stats.tx_dropped == 4
    assert bench.device.nd_net.drop_reasons[SKB_DROP_REASON_QDISC_DROP] == 4


def test_exactly_the_packets_that_are_lost_are_missing(make: Any) -> None:
    bench = make(delay="1ms", loss="10%")
    seen = Packets(bench)
    sent = train(bench, 40)
    bench.arrivals()
    lost = bench.end.lost - bench.lost
    assert 0 < lost < 20 and len(seen.seen) == 40 - lost
    got = [p for _, p in seen.seen]
    assert got == [p for p in sent if p in got]
    assert seen.objects <= lost + 1
    assert bench.device.nd_net.drop_reasons[SKB_DROP_REASON_LINK_LOSS] == bench.end.lost


FAULTS: list[dict[str, Any]] = [
    {"loss": "10%"},
    {"duplicate": "10%"},
    {"corrupt": "10%"},
    {"reorder": "10%", "delay": "5ms"},
    {"delay": "10ms", "jitter": "3ms"},
    {"loss": "5%", "duplicate": "5%", "corrupt": "5%", "reorder": "5%", "delay": "10ms", "rate": "1gbit"},
    {"loss": "5%", "duplicate": "5%", "corrupt": "5%", "rate": "20mbit", "queue": 20},
]


@pytest.mark.parametrize("faults", FAULTS, ids=lambda f: "-".join(f))
def test_a_train_suffers_what_single_packets_would(make: Any, faults: dict[str, Any]) -> None:
    """The same draws for the same packets: the same ones are lost, doubled, damaged and late, to the nanosecond where no rate lets
    them arrive together."""
    whole, single = make(**faults), make(**faults)
    seen = Packets(whole), Packets(single)
    for _ in range(5):
        train(whole, 40)
        one_by_one(single, 40)
        for bench in (whole, single):
            bench.net.run_for("50ms")
    for bench in (whole, single):
        bench.arrivals()
    ends = whole.end, single.end
    for counter in ("packets", "bytes", "lost", "overflowed", "duplicated", "corrupted"):
        assert len({getattr(e, counter) for e in ends}) == 1, counter
    if faults.get("rate") == "1gbit":
        assert sorted(p for _, p in seen[0].seen) == sorted(p for _, p in seen[1].seen)
    else:
        assert sorted(seen[0].seen) == sorted(seen[1].seen)
    # No more objects, for what was never separated, or arrives at one instant again, is one.
    assert seen[0].objects <= seen[1].objects


SHARE = st.sampled_from([0, 0, "3%", "20%", 1])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 44), st.sampled_from(["0ms", "1ms", "30ms"])), min_size=1, max_size=8),
    st.fixed_dictionaries({"loss": SHARE, "duplicate": SHARE, "corrupt": SHARE, "reorder": SHARE}),
    st.sampled_from([None, "5mbit", "1gbit", "40gbit"]),
    st.sampled_from([5, 1000, "20kb"]),
    st.sampled_from(["0ms", "2ms"]),
)
def test_every_packet_of_every_train_is_accounted_for(
    trains: list[tuple[int, str]], faults: dict[str, Any], rate: str | None, queue: int | str, jitter: str
) -> None:
    bench = Bench(delay="10ms", rate=rate, queue=queue, jitter=jitter, **faults)
    try:
        seen = Packets(bench)
        end = bench.end
        overflowed, duplicated = end.overflowed, end.duplicated
        # What else comes this way, answers to the other end's ARP, is none of ours: the other end may not send.
        with bench.link.cut(towards="a"):
            sent = 0
            for n, pause in trains:
                train(bench, n)
                sent += n
                bench.net.run_for(pause)
            bench.arrivals()
        arrived = end.packets - bench.packets
        assert arrived == sent - (end.lost - bench.lost) - (end.overflowed - overflowed) + end.duplicated - duplicated
        # Some damage makes a frame that is no IP packet, or for somebody else.
        assert len(seen.seen) == arrived or faults["corrupt"]
        assert bench.link.device_b.stats.rx_packets >= len(seen.seen)
    finally:
        bench.net.close()


def test_a_train_on_a_cut_link_is_lost_by_packets(make: Any) -> None:
    bench = make()
    with bench.link.cut():
        train(bench, 10)
    assert bench.end.lost - bench.lost == 10


def test_a_train_whose_headers_lie_is_dropped_and_counted(make: Any) -> None:
    bench = make(rate="1gbit", loss="50%")
    device = bench.device
    for segs, size, start, version in (
        (40, 1446, 34, 4),
        (2, 1446, 34, 4),
        (3, 0xFFFF, 34, 4),
        (3, 1446, 60000, 4),
        (3, 1446, 20, 4),
        (3, 1446, 34, 6),
    ):
        payload = bytes(1446 * 3)
        head = ethernet.emit(1, 2, ETH_P_IP) + bytes([version << 4 | 5]) + bytes(39)
        skb = SkBuff(head, [payload], len(payload), 1000)
        skb.protocol, skb.dev, skb.network_header = ETH_P_IP, device, 14
        skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, start, 16
        skb.gso_size, skb.gso_segs, skb.gso_type = size, segs, SKB_GSO_TCPV4
        before = sum(device.nd_net.drop_reasons)
        bench.end.transmit(skb, device)
        bench.net.run_for("1s")
        assert sum(device.nd_net.drop_reasons) + sum(bench.link.device_b.nd_net.drop_reasons) > before


def test_what_arrives_at_one_instant_is_merged_again(make: Any) -> None:
    bench = make(delay="5ms")
    seen = Packets(bench)
    sent = one_by_one(bench, 20)
    bench.arrivals()
    assert seen.seen == [(5_000_000, p) for p in sent] and seen.objects == 1
