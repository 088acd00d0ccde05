"""net/sched/sch_netem.py, netem_dist.py: chance in integers, and the queue that obeys it, in virtual time."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.kernel.machine import Kernel
from afinet.kernel.random import RandomStream
from afinet.kernel.time import NSEC_PER_MSEC
from afinet.net.core import dev as dev_core
from afinet.net.core.gso import skb_frames
from afinet.net.core.netdevice import NET_XMIT_DROP, NETIF_F_HW_CSUM, NETIF_F_TSO, NetDevice
from afinet.net.core.skbuff import CHECKSUM_NONE, CHECKSUM_PARTIAL, SKB_GSO_TCPV4, SkBuff, alloc_skb, skb_truesize
from afinet.net.ipv4.inet_offload import ipv4_offload_init
from afinet.net.ipv4.tcp_offload import tcpv4_offload_init
from afinet.net.sched import netem_dist
from afinet.net.sched.sch_generic import dev_graft_qdisc
from afinet.net.sched.sch_netem import (
    CLG_4_STATES,
    NETEM_ALWAYS,
    INET_ECN_set_ce,
    Netem,
    NetemQdisc,
    netem_corrupt,
    netem_threshold,
    tabledist,
)
from afinet.uapi.if_ether import ETH_P_IP
from afinet.wire import checksum, ethernet, ip, tcp
from tests.net.core.devices import Sink, boot, drops, frame, init_net, sink_device

MS = NSEC_PER_MSEC


def engine(seed: bytes = b"x") -> Netem:
    return Netem(RandomStream(seed, "link"))


def setup(limit: int = 1000) -> tuple[Kernel, NetDevice, Sink, Netem]:
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    netem = Netem(kernel.random("netem"))
    dev_graft_qdisc(dev, NetemQdisc(dev, netem, limit))
    return kernel, dev, sink, netem


def put(dev: NetDevice, payload: bytes) -> int:
    skb = frame(1, payload)
    skb.dev = dev
    return dev_core.dev_queue_xmit(skb)


def drain(kernel: Kernel) -> None:
    while kernel.timers.pending:
        kernel.run(kernel.next_timer())


# -- the engine


def test_thresholds_are_exact_at_both_ends():
    assert netem_threshold(0.0) == 0 and netem_threshold(1.0) == NETEM_ALWAYS and netem_threshold(0.5) == 1 << 31
    q = engine()
    assert not any(q.loss_event() for _ in range(1000))
    q.loss = NETEM_ALWAYS
    assert all(q.loss_event() for _ in range(1000))


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5])
def test_each_event_has_its_probability(p: float):
    q = engine()
    q.loss = q.duplicate = q.corrupt = netem_threshold(p)
    q.set_reorder(netem_threshold(p))
    n = 20000
    for event in (q.loss_event, q.duplicate_event, q.corrupt_event, q.reorder_event):
        share = sum(event() for _ in range(n)) / n
        assert abs(share - p) < 4 * (p * (1 - p) / n) ** 0.5


def test_the_same_seed_decides_the_same_and_unused_parameters_draw_nothing():
    def decide(seed: bytes, corrupt: int = 0) -> str:
        q = engine(seed)
        q.loss = netem_threshold(0.3)
        q.corrupt = corrupt
        q.latency, q.jitter = 10 * MS, 5 * MS
        out = [(q.loss_event(), q.corrupt_event(), q.delay()) for _ in range(200)]
        return hashlib.sha256(repr(out).encode()).hexdigest()

    assert decide(b"1") == decide(b"1") != decide(b"2")
    # fixed for all Pythons, interpreted or compiled
    assert decide(b"1")[:16] == "5f8ef4324e9348e6"


def test_correlated_losses_come_in_runs():
    def changes(rho: float) -> tuple[int, int]:
        q = engine()
        q.loss = netem_threshold(0.5)
        q.loss_cor.init(netem_threshold(rho))
        lost = [q.loss_event() for _ in range(5000)]
        return sum(a != b for a, b in pairwise(lost)), sum(lost)

    independent, correlated = changes(0.0), changes(0.9)
    assert correlated[0] < independent[0] / 2
    assert 1500 < correlated[1] < 3500


def test_the_gilbert_elliott_model_loses_in_bursts_of_the_right_length():
    q = engine()
    # bad once in 100 packets, for 5 packets on average; everything is lost there
    q.set_loss_gemodel(netem_threshold(0.01), netem_threshold(0.2), 0, 0)
    lost = [q.loss_event() for _ in range(50000)]
    bursts = "".join("x" if x else " " for x in lost).split()
    assert abs(sum(lost) / len(lost) - 0.01 / 0.21) < 0.01
    assert abs(sum(map(len, bursts)) / len(bursts) - 5) < 0.5


def test_the_four_state_model_goes_through_all_its_states():
    q = engine()
    t = netem_threshold
    q.set_loss_state(t(0.05), t(0.3), t(0.3), t(0.3), t(0.02))
    seen = set()
    lost = 0
    for _ in range(5000):
        lost += q.loss_event()
        seen.add(q.clg_state)
    assert seen == {1, 2, 3, 4} and 500 < lost < 2000
    assert q.loss_model == CLG_4_STATES


def test_of_each_gap_packets_at_most_one_goes_ahead():
    q = engine()
    q.set_reorder(NETEM_ALWAYS, 5)
    assert [q.reorder_event() for _ in range(12)] == [False] * 4 + [True] + [False] * 4 + [True, False, False]


# -- delays


@given(st.integers(0, 10**11), st.integers(1, 10**10), st.binary(max_size=4))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_uniform_jitter_stays_within_its_bounds(mu: int, sigma: int, seed: bytes) -> None:
    q = engine(seed)
    for _ in range(5):
        assert mu - sigma <= tabledist(mu, sigma, q.delay_cor, None) < mu + sigma


def test_a_delay_is_never_negative():
    q = engine()
    q.latency, q.jitter = MS, 10 * MS
    delays = [q.delay() for _ in range(1000)]
    assert min(delays) == 0 and max(delays) <= 11 * MS


@pytest.mark.parametrize(
    ("table", "mean", "deviation"),
    [(netem_dist.normal_table, 0.0, 1.0), (netem_dist.pareto_table, 0.0, 0.9), (netem_dist.paretonormal_table, 0.0, 0.85)],
)
def test_the_tables_have_mean_and_deviation(table, mean, deviation):
    t = table()
    assert len(t) == 4096 and min(t) >= -32768 and max(t) <= 32767
    assert t == sorted(t)
    average = sum(t) / len(t) / 8192
    spread = (sum(v * v for v in t) / len(t)) ** 0.5 / 8192
    assert abs(average - mean) < 0.05 and abs(spread - deviation) < 0.1


def test_the_tables_are_iproute2s():
    # the first, some middle and the last entries of the .dist files
    normal = netem_dist.normal_table()
    for at, theirs in ((0, -32768), (1, -28307), (2, -26871), (3, -25967), (4, -25298), (-3, 26164), (-2, 27159), (-1, 28858)):
        assert abs(normal[at] - theirs) <= 1
    pareto = netem_dist.pareto_table()
    assert pareto[:6] == [-5461, -5460, -5460, -5459, -5458, -5457] and pareto[-1] == 32767


def test_jitter_by_a_table_has_the_deviation_asked_for():
    q = engine()
    q.latency, q.jitter, q.delay_dist = 100 * MS, 10 * MS, netem_dist.normal_table()
    delays = [q.delay() for _ in range(5000)]
    mean = sum(delays) / len(delays)
    spread = (sum((d - mean) ** 2 for d in delays) / len(delays)) ** 0.5
    assert abs(mean - 100 * MS) < MS and abs(spread - 10 * MS) < MS


def test_a_rate_counts_bytes_overheads_and_cells():
    q = engine()
    assert q.packet_time_ns(1500) == 0
    q.rate = 1_000_000
    assert q.packet_time_ns(1500) == 1_500_000
    q.packet_overhead = -14
    assert q.packet_time_ns(1514) == 1_500_000 and q.packet_time_ns(10) == 0
    q.packet_overhead, q.cell_size, q.cell_overhead = 0, 48, 5
    assert q.packet_time_ns(49) == 106_000


# -- damage


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(min_size=1, max_size=60), st.integers(0, 60), st.binary(max_size=3))
def test_damage_is_one_bit(data: bytes, cut: int, seed: bytes) -> None:
    head, tail = data[:cut], data[cut:]
    skb = SkBuff(head, [tail] if tail else None, len(tail), skb_truesize(len(data)))
    assert netem_corrupt(engine(seed), skb) == 0
    after = skb.head[skb.data : skb.tail] + b"".join(skb.frags or [])
    assert len(after) == len(data)
    assert bin(int.from_bytes(after, "big") ^ int.from_bytes(data, "big")).count("1") == 1


def test_a_packet_without_its_checksum_gets_it_before_it_is_damaged():
    _, dev, sink, netem = setup()
    netem.corrupt = NETEM_ALWAYS
    dev.features |= NETIF_F_HW_CSUM
    skb = frame(1, bytes(20) + b"\x12\x34\x56\x78\0\x10" + b"\xab\xcd" + b"payload")
    skb.dev = dev
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, 34, 6
    dev_core.dev_queue_xmit(skb)
    assert len(sink.sent) == 1 and skb.ip_summed == CHECKSUM_NONE


def ipv4(tos: int) -> SkBuff:
    skb = alloc_skb(ethernet.emit(1, 2, ETH_P_IP) + ip.emit(tos, 40, 1, 0, 64, 6, 1, 2) + bytes(20))
    skb.protocol = ETH_P_IP
    skb.network_header = 14
    return skb


def test_an_ecn_mark_keeps_the_header_checksum_right():
    for tos in (1, 2, 3, 0xFD):
        skb = ipv4(tos)
        assert INET_ECN_set_ce(skb)
        assert skb.head[15] == tos | 3 and checksum.ip_fast_csum(skb.head, 14, 5) == 0
    assert not INET_ECN_set_ce(ipv4(0))


def test_with_ecn_a_capable_packet_is_marked_instead_of_lost():
    kernel, dev, sink, netem = setup()
    netem.loss, netem.ecn = NETEM_ALWAYS, True
    for tos in (0, 1):
        skb = ipv4(tos)
        skb.dev = dev
        dev_core.dev_queue_xmit(skb)
    assert [f[15] for f in sink.sent] == [3] and drops(init_net(kernel)) == {"LINK_LOSS": 1}


# -- the qdisc


def test_packets_arrive_after_the_latency_in_order():
    kernel, dev, sink, netem = setup()
    netem.latency = 20 * MS
    start = kernel.now
    for i in range(3):
        put(dev, b"%d" % i)
        kernel.run(kernel.now + MS)
    assert sink.sent == []
    drain(kernel)
    assert [f[14:] for f in sink.sent] == [b"0", b"1", b"2"]
    assert [t - start for t in sink.when] == [20 * MS, 21 * MS, 22 * MS]


def test_jitter_reorders_unless_a_rate_forbids():
    kernel, dev, sink, netem = setup()
    netem.latency, netem.jitter = 20 * MS, 10 * MS
    for i in range(50):
        put(dev, bytes([i]))
    drain(kernel)
    order = [f[14] for f in sink.sent]
    assert sorted(order) == list(range(50)) != order
    assert sink.when == sorted(sink.when)


def test_a_rate_spaces_packets():
    kernel, dev, sink, netem = setup()
    netem.rate = 100_000
    start = kernel.now
    for _ in range(4):
        put(dev, bytes(86))
    drain(kernel)
    assert [t - start for t in sink.when] == [MS, 2 * MS, 3 * MS, 4 * MS]


def test_a_latency_is_under_way_in_parallel_and_the_rate_in_a_row():
    kernel, dev, sink, netem = setup()
    netem.rate, netem.latency = 100_000, 10 * MS
    start = kernel.now
    for _ in range(3):
        put(dev, bytes(86))
    drain(kernel)
    assert [t - start for t in sink.when] == [11 * MS, 12 * MS, 13 * MS]


def test_a_reordered_packet_overtakes_what_is_under_way():
    kernel, dev, sink, netem = setup()
    netem.latency = 10 * MS
    netem.set_reorder(NETEM_ALWAYS, 3)
    for i in range(3):
        put(dev, b"%d" % i)
    assert [f[14:] for f in sink.sent] == [b"2"]
    drain(kernel)
    assert [f[14:] for f in sink.sent] == [b"2", b"0", b"1"]


def test_lost_packets_count_as_sent():
    kernel, dev, sink, netem = setup()
    netem.loss = NETEM_ALWAYS
    assert put(dev, b"x") == 0
    assert sink.sent == [] and drops(init_net(kernel)) == {"LINK_LOSS": 1}


def test_duplicates_come_twice_and_not_more():
    kernel, dev, sink, netem = setup()
    netem.duplicate = NETEM_ALWAYS
    netem.latency = MS
    for i in range(3):
        put(dev, b"%d" % i)
    drain(kernel)
    assert [f[14:] for f in sink.sent] == [b"0", b"0", b"1", b"1", b"2", b"2"]


def put_super(kernel: Kernel, dev: NetDevice, n: int = 3) -> list[bytes]:
    """A TCP super-packet of `n` packets of 1,000 bytes of payload; their frames."""
    offloads = (ipv4_offload_init, tcpv4_offload_init)
    if not kernel.offload_base:
        assert [init(kernel) for init in offloads] == [0, 0]
    payload = b"".join(bytes([i]) * 1000 for i in range(n))
    head = ip.emit(0, 40 + len(payload), 1, ip.IP_DF, 64, 6, 1, 2) + tcp.emit(1, 2, 3, 4, 0x10, 5, 0, 0, b"")
    skb = SkBuff(ethernet.emit(1, 2, ETH_P_IP) + head, [payload], len(payload), 1000)
    skb.dev, skb.protocol, skb.network_header, skb.transport_header = dev, ETH_P_IP, 14, 34
    skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, 34, 16
    skb.gso_size, skb.gso_segs, skb.gso_type = 1000, n, SKB_GSO_TCPV4
    frames = skb_frames(kernel, skb)
    dev_core.dev_queue_xmit(skb)
    return frames


def test_a_super_packet_is_one_to_loss_and_delay_and_its_packets_to_the_rate_and_the_counters():
    kernel, dev, sink, netem = setup()
    dev.features |= NETIF_F_HW_CSUM | NETIF_F_TSO
    netem.rate = 1_000_000  # bytes a second
    start = kernel.now
    put_super(kernel, dev)
    assert dev.qdisc is not None and (dev.qdisc.qlen, dev.qdisc.backlog) == (1, 3 * 1054)
    drain(kernel)
    assert sink.when == [start + 3 * 1054 * 1000]
    assert len(sink.sent) == 1 and (dev.qdisc.packets, dev.qdisc.bytes, dev.qdisc.backlog) == (3, 3 * 1054, 0)
    netem.loss = NETEM_ALWAYS
    put_super(kernel, dev)
    assert dev.qdisc.drops == 1 and drops(init_net(kernel)) == {"LINK_LOSS": 1}


def test_damage_to_a_super_packet_is_to_its_first_packet_and_the_others_take_their_own_chance():
    kernel, dev, sink, netem = setup()
    dev.features |= NETIF_F_HW_CSUM | NETIF_F_TSO
    netem.corrupt = NETEM_ALWAYS
    frames = put_super(kernel, dev)
    drain(kernel)
    assert len(sink.sent) == 3
    for sent, frame_ in zip(sink.sent, frames, strict=True):
        assert sum((x ^ y).bit_count() for x, y in zip(sent, frame_, strict=True)) == 1


def test_a_super_packet_that_is_damaged_where_there_is_no_room_is_dropped_whole():
    kernel, dev, sink, netem = setup(limit=1)
    netem.latency = MS
    put(dev, b"x")
    netem.corrupt = netem.duplicate = NETEM_ALWAYS
    put_super(kernel, dev)
    assert drops(init_net(kernel)) == {"QDISC_OVERLIMIT": 4}
    drain(kernel)
    assert len(sink.sent) == 1


def test_the_limit_holds_and_a_closing_device_leaves_nothing():
    kernel, dev, _, netem = setup(limit=3)
    netem.latency = MS
    assert [put(dev, b"x") for _ in range(5)] == [0, 0, 0, NET_XMIT_DROP, NET_XMIT_DROP]
    assert dev.qdisc is not None and dev.qdisc.qlen == 3
    qdisc = dev.qdisc
    dev_core.dev_close(dev)
    assert qdisc.qlen == 0 == qdisc.backlog and kernel.timers.pending == 0
    assert drops(init_net(kernel)) == {"QDISC_OVERLIMIT": 2, "QUEUE_PURGE": 3}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.tuples(st.integers(0, 20), st.integers(0, 30), st.integers(0, 10**6)),
    st.lists(st.sampled_from([0.0, 0.0, 0.2, 1.0]), min_size=4, max_size=4),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 30)), max_size=40),
)
def test_every_packet_is_sent_or_dropped_and_time_never_goes_back(
    timing: tuple[int, int, int], chances: list[float], packets: list[tuple[int, int]]
) -> None:
    kernel, dev, sink, netem = setup(limit=20)
    netem.latency, netem.jitter, netem.rate = timing[0] * MS, timing[1] * MS, timing[2]
    netem.loss, netem.duplicate, netem.corrupt = (netem_threshold(p) for p in chances[:3])
    netem.set_reorder(netem_threshold(chances[3]), 2)
    qdisc = dev.qdisc
    assert qdisc is not None
    for size, wait in packets:
        put(dev, bytes(size))
        assert qdisc.qlen <= 20
        kernel.run(kernel.now + wait * MS)
    drain(kernel)
    assert qdisc.qlen == 0 == qdisc.backlog
    assert sink.when == sorted(sink.when)
    total = len(sink.sent) + qdisc.drops
    assert total >= len(packets) if netem.duplicate else total == len(packets)
