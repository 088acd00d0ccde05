"""One direction of a link: when frames arrive, and which do not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from afinet import Network
from afinet.net.core.dev import dev_add_pack, dev_queue_xmit
from afinet.net.core.drop_reason import SKB_DROP_REASON_LINK_LOSS, SKB_DROP_REASON_QDISC_DROP
from afinet.net.core.netdevice import NetDevice, PacketType
from afinet.net.core.skbuff import SkBuff, alloc_skb, consume_skb, skb_tobytes
from afinet.wire import ethernet

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
