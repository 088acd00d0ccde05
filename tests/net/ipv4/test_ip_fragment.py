"""ip_fragment.c: reassembly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core.skbuff import skb_tobytes
from afinet.wire.ip import IP_DF, IP_MF
from tests.net.ipv4.iphost import PEER, PROTO, Host, packet, parse_icmp


def fragment(
    data: bytes, start: int, end: int, id: int = 7, tos: int = 0, df: int = 0, options: bytes = b"", saddr: int = PEER
) -> bytes:
    more = IP_MF if end < len(data) else 0
    return packet(data[start:end], id=id, frag_off=start >> 3 | more | df, tos=tos, options=options, saddr=saddr)


DATA = bytes(range(256)) * 10


def queued(h: Host) -> int:
    fqdir = h.net.ipv4.fqdir
    assert fqdir is not None
    assert (fqdir.mem == 0) == (not fqdir.queues)
    return len(fqdir.queues)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_fragments_become_one_packet_in_any_order(order: tuple[int, ...]) -> None:
    h = Host()
    cuts = [(0, 1000), (1000, 2000), (2000, len(DATA))]
    for i in order:
        h.receive(fragment(DATA, *cuts[i]))
    (skb,) = h.taker.got
    assert skb_tobytes(skb) == DATA
    assert skb.frag_max_size == 1020
    assert queued(h) == 0
    assert h.kernel.timers.pending == pending(Host())
    stats = h.ip_stats()
    assert stats["ReasmReqds"] == 3
    assert stats["ReasmOKs"] == 1
    assert stats["InDelivers"] == 1


def pending(h: Host) -> int:
    return h.kernel.timers.pending


def test_datagrams_of_different_identification_or_source_do_not_mix() -> None:
    h = Host()
    h.receive(fragment(DATA, 0, 1000, id=1))
    h.receive(fragment(DATA, 1000, len(DATA), id=2))
    h.receive(fragment(DATA, 1000, len(DATA), id=1, saddr=PEER + 1))
    assert h.taker.got == []
    assert queued(h) == 3


def test_an_exact_duplicate_is_ignored() -> None:
    h = Host()
    h.receive(fragment(DATA, 0, 1000))
    h.receive(fragment(DATA, 0, 1000))
    h.receive(fragment(DATA, 8, 500 // 8 * 8))
    assert h.drops() == {"DUP_FRAG": 2}
    h.receive(fragment(DATA, 1000, len(DATA)))
    assert len(h.taker.got) == 1


@pytest.mark.parametrize("start, end", [(992, 1600), (0, 1008), (800, 1200)])
def test_an_overlap_ends_the_whole_datagram(start: int, end: int) -> None:
    h = Host()
    h.receive(fragment(DATA, 0, 1000))
    h.receive(fragment(DATA, 2000, len(DATA)))
    h.receive(fragment(DATA, start, end))
    assert queued(h) == 0
    stats = h.ip_stats()
    assert stats["ReasmOverlaps"] == 1
    assert stats["ReasmFails"] == 1
    h.receive(fragment(DATA, 1000, 2000))
    assert h.taker.got == []


def test_two_different_ends_end_the_datagram() -> None:
    h = Host()
    h.receive(packet(b"a" * 16, id=7, frag_off=100))
    h.receive(packet(b"a" * 24, id=7, frag_off=100))
    assert queued(h) == 0
    assert h.ip_stats()["ReasmFails"] == 1


def test_bits_beyond_the_end_end_the_datagram() -> None:
    h = Host()
    h.receive(packet(b"a" * 16, id=7, frag_off=100))
    h.receive(packet(b"a" * 16, id=7, frag_off=200 | IP_MF))
    assert queued(h) == 0


def test_a_fragment_without_payload_ends_the_datagram() -> None:
    h = Host()
    h.receive(packet(b"", id=7, frag_off=100 | IP_MF))
    h.receive(packet(b"1234567", id=7, frag_off=100 | IP_MF))
    assert queued(h) == 0
    assert h.ip_stats()["ReasmFails"] == 2


def test_a_datagram_over_64k_is_refused() -> None:
    h = Host()
    big = bytes(65528)
    h.receive(packet(big[:32768], id=7, frag_off=IP_MF))
    h.receive(packet(big[32768:], id=7, frag_off=32768 >> 3))
    assert h.taker.got == []
    assert queued(h) == 0
    assert h.ip_stats()["ReasmFails"] == 1


def test_after_thirty_seconds_the_sender_of_a_first_fragment_is_told() -> None:
    h = Host()
    first = fragment(DATA, 0, 1000)
    h.receive(first)
    h.sleep(29 * NSEC_PER_SEC)
    assert queued(h) == 1
    assert h.sent() == []
    h.sleep(2 * NSEC_PER_SEC)
    assert queued(h) == 0
    (reply,) = h.sent()
    type, code, rest, body = parse_icmp(reply)
    assert (type, code, rest) == (11, 1, 0)
    assert body == first[:548]
    stats = h.ip_stats()
    assert stats["ReasmTimeout"] == 1
    assert stats["ReasmFails"] == 1
    assert h.drops() == {"FRAG_REASM_TIMEOUT": 1}


def test_without_a_first_fragment_nobody_is_told() -> None:
    h = Host()
    h.receive(fragment(DATA, 1000, 2000))
    h.sleep(31 * NSEC_PER_SEC)
    assert queued(h) == 0
    assert h.sent() == []


def test_memory_is_bounded_by_ipfrag_high_thresh() -> None:
    h = Host()
    fqdir = h.net.ipv4.fqdir
    assert fqdir is not None
    fqdir.high_thresh = 100_000
    for i in range(500):
        h.receive(fragment(DATA, 0, 1000, id=i))
    assert fqdir.mem < 102_000
    assert h.drops()["NOMEM"] == 500 - len(fqdir.queues)
    h.sleep(31 * NSEC_PER_SEC)
    assert fqdir.mem == 0


def test_too_many_other_fragments_in_between_begin_the_datagram_anew() -> None:
    h = Host()
    h.receive(fragment(DATA, 0, 1000, id=7))
    for i in range(70):
        h.receive(fragment(DATA, 0, 1000, id=100 + i))
    h.receive(fragment(DATA, 1000, len(DATA), id=7))
    assert h.taker.got == []
    assert h.drops() == {"FRAG_TOO_FAR": 1}


@pytest.mark.parametrize("first, second, result", [(0, 0, 0), (2, 3, 3), (1, 3, 3), (2, 2, 2), (2, 1, 2), (0, 2, -1), (3, 0, -1)])
def test_ecn_of_the_fragments_is_joined(first: int, second: int, result: int) -> None:
    h = Host()
    h.receive(fragment(DATA, 0, 1000, tos=first))
    h.receive(fragment(DATA, 1000, len(DATA), tos=second))
    if result < 0:
        assert h.taker.got == []
    else:
        (skb,) = h.taker.got
        assert skb.head[skb.network_header + 1] & 3 == result


def test_options_are_those_of_the_first_fragment() -> None:
    h = Host()
    h.receive(fragment(DATA, 1000, len(DATA), options=b"\x01\x01\x01\x00"))
    h.receive(fragment(DATA, 0, 1000, options=bytes([148, 4, 0, 0])))
    (skb,) = h.taker.got
    assert skb.head[skb.network_header + 20 : skb.transport_header] == bytes([148, 4, 0, 0])
    assert skb_tobytes(skb) == DATA


def test_fragments_with_df_make_a_packet_with_df() -> None:
    h = Host()
    h.receive(fragment(DATA, 0, 1000, df=IP_DF))
    h.receive(fragment(DATA, 1000, len(DATA), df=IP_DF))
    (skb,) = h.taker.got
    assert skb.head[skb.network_header + 6] == 0x40


def test_a_namespace_that_goes_leaves_no_timer() -> None:
    from afinet.net.core.net_namespace import copy_net_ns

    h = Host()
    before = h.kernel.timers.pending
    h.receive(fragment(DATA, 0, 1000))
    assert h.kernel.timers.pending == before + 1
    for ops in reversed(h.kernel.pernet_list):
        if type(ops).__name__ == "Ip4FragsOps":
            ops.exit(h.net)
    assert h.kernel.timers.pending == before
    copy_net_ns(h.kernel)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.data())
def test_any_cut_in_any_order_with_duplicates_gives_the_datagram(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 400))
    payload = bytes((i * 7) & 0xFF for i in range(size))
    points = sorted({8 * p for p in data.draw(st.lists(st.integers(1, max(1, (size - 1) // 8)), max_size=8)) if 8 * p < size})
    cuts = list(zip([0, *points], [*points, size], strict=True))
    if len(cuts) < 2:
        return
    order = data.draw(st.permutations(cuts))
    again = data.draw(st.lists(st.booleans(), min_size=9, max_size=9))
    sequence: list[tuple[int, int]] = []
    for cut in order:
        if sequence and again[len(sequence) % 9]:
            sequence.append(sequence[-1])
        sequence.append(cut)
    h = HOST
    h.taker.got.clear()
    for start, end in sequence:
        h.receive(fragment(payload, start, end))
        if h.taker.got:
            break
    (skb,) = h.taker.got
    assert skb_tobytes(skb) == payload
    assert queued(h) == 0


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40), st.booleans(), st.integers(0, 2)), max_size=12))
def test_no_fragments_raise_or_leak(pieces: list[tuple[int, int, bool, int]]) -> None:
    h = HOST
    for off, size, more, id in pieces:
        h.receive(packet(bytes(size), id=id, frag_off=off | (IP_MF if more else 0), protocol=PROTO))
    h.sleep(40 * NSEC_PER_SEC)
    assert queued(h) == 0
    h.sent()


HOST = Host()
