"""net/core/gro.py: what is held back, for how long, and in which order it goes up. Who may be merged: test_tcp_offload.py."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.net.core.gro import GRO_MAX_HELD
from afinet.net.core.netdevice import NETIF_F_GRO
from afinet.net.core.skbuff import CHECKSUM_PARTIAL, SKB_GSO_TCPV4, skb_tobytes
from afinet.wire import ethernet, ip, tcp
from tests.net.ipv4.grohost import ACK, PSH, GroHost, segment, train


def test_a_batch_of_one_stream_goes_up_as_one() -> None:
    h = GroHost()
    (skb,) = h.batch(*train(10, 1400))
    assert (skb.gso_size, skb.gso_segs, skb.gso_type) == (1400, 10, SKB_GSO_TCPV4)
    assert (skb.ip_summed, skb.csum_start - skb.data, skb.csum_offset) == (CHECKSUM_PARTIAL, 20, 16)
    packet = skb_tobytes(skb)
    assert ip.parse(packet, 0)[2] == len(packet) == 40 + 14_000
    assert packet[40:] == b"".join(bytes([i]) * 1400 for i in range(10))
    assert h.dev.stats.rx_packets == 10 and h.dev.stats.rx_bytes == 14_400


def test_a_batch_does_not_outlive_itself() -> None:
    h = GroHost()
    assert h.lengths(*train(3)) == [3]
    assert h.lengths(*train(3, seq=4000, first_id=4)) == [3]


def test_a_packet_alone_is_not_held_back() -> None:
    h = GroHost()
    (skb,) = h.batch(*train(1))
    assert skb.gso_size == 0 and skb.frags is None


def test_flows_are_told_apart_and_each_keeps_its_order() -> None:
    h = GroHost()
    a, b = train(4), train(4, sport=9)
    mixed = [p for pair in zip(a, b, strict=True) for p in pair]
    skbs = h.batch(*mixed)
    assert [s.gso_segs for s in skbs] == [4, 4]
    assert h.frames(skbs) == a + b


def test_what_cannot_be_merged_sends_what_was_held_on_before_itself() -> None:
    h = GroHost()
    packets = [*train(3), segment(4000, b"", id=4), *train(2, seq=4000, first_id=5)]
    skbs = h.batch(*packets)
    assert [s.len - 40 for s in skbs] == [3000, 0, 2000]
    assert h.frames(skbs) == packets


def test_no_more_flows_are_held_than_the_limit_and_the_oldest_goes_first() -> None:
    h = GroHost()
    flows = [train(2, sport=100 + i) for i in range(GRO_MAX_HELD + 10)]
    packets = [f[0] for f in flows] + [f[1] for f in flows]
    skbs = h.batch(*packets)
    assert len(h.frames(skbs)) == len(packets) and set(h.frames(skbs)) == set(packets)
    # The first went when the one beyond the limit came, alone.
    assert h.frames(skbs)[0] == flows[0][0] and skbs[0].gso_size == 0


def test_a_device_without_gro_hands_up_what_came() -> None:
    h = GroHost()
    h.dev.features &= ~NETIF_F_GRO
    assert h.lengths(*train(5)) == [1] * 5


def test_another_protocol_passes() -> None:
    h = GroHost()
    ipv6 = bytes([0x60]) + bytes(59)
    assert h.lengths(ipv6, ipv6) == [1, 1]
    assert h.dev.stats.rx_nohandler == 2


def test_frames_from_two_senders_are_not_one_flow() -> None:
    h = GroHost(tap=True)
    mine = h.dev.dev_addr
    packets = train(4)
    skbs = h.batch(*[ethernet.emit(mine, 0x02 + (i >> 1), 0x0800) + p for i, p in enumerate(packets)])
    assert [s.gso_segs for s in skbs] == [2, 2]


def test_the_length_stays_below_64_kb() -> None:
    h = GroHost()
    skbs = h.batch(*train(60, 1448))
    assert [s.gso_segs for s in skbs] == [45, 15]
    assert all(s.len < 65536 for s in skbs)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(2, 12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 139), st.integers(0, 255)), max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 140)), max_size=3),
    st.booleans(),
)
def test_damage_anywhere_raises_nothing_and_no_packet_is_lost_or_changed(
    n: int, damage: list[tuple[int, int, int]], cuts: list[tuple[int, int]], tap: bool
) -> None:
    h = GroHost(tap=tap)
    link = ethernet.emit(h.dev.dev_addr, 7, 0x0800) if tap else b""
    packets = [link + p for p in train(n, 100)]
    for which, at, value in damage:
        p = packets[which % n]
        at %= len(p)
        packets[which % n] = p[:at] + bytes([value]) + p[at + 1 :]
    for which, length in cuts:
        packets[which % n] = packets[which % n][: max(length, 20 + len(link))]
    skbs = h.batch(*packets)
    taken = [p for p in packets if tap or p[0] >> 4 in (4, 6)]
    got = h.frames(skbs)
    assert sorted(got) == sorted(taken)
    assert h.dev.stats.rx_errors == n - len(taken)


def test_a_merged_stream_is_received_as_it_was_sent() -> None:
    """The whole way: one acknowledgement for what came as one."""
    h = GroHost()
    skbs = h.batch(*train(5, last=ACK | PSH))
    assert [tcp.parse(s.head, s.data + 20)[4] & 0x1FF for s in skbs] == [ACK | PSH]
    assert skbs[0].truesize > 5000
