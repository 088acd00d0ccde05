"""What is read out of a packet about its flow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afinet.net.core.flow_dissector import FLOW_DISSECTOR_F_STOP_AT_ENCAP, FlowKeys, skb_flow_dissect_flow_keys
from afinet.net.core.skbuff import SkBuff, alloc_skb
from afinet.wire import ip

A, B, C, D = 0x0A000001, 0x0A000002, 0x14000001, 0x14000002
PORTS = (1000).to_bytes(2, "big") + (80).to_bytes(2, "big") + bytes(4)


def packet(payload: bytes, proto: int, src: int = A, dst: int = B, frag_off: int = 0, options: bytes = b"") -> bytes:
    return ip.emit(0, 20 + len(options) + len(payload), 0, frag_off, 64, proto, src, dst, options) + payload


def told(data: bytes, flags: int = 0) -> tuple[int, int, int, int, int, bool]:
    keys = skb_flow_dissect_flow_keys(alloc_skb(data), flags)
    return keys.src, keys.dst, keys.ip_proto, keys.sport, keys.dport, keys.encapsulation


@pytest.mark.parametrize("proto", [6, 17, 33, 50, 132, 136])
def test_ports_are_the_first_four_bytes_of_protocols_that_have_them(proto: int) -> None:
    assert told(packet(PORTS, proto)) == (A, B, proto, 1000, 80, False)
    assert told(packet(PORTS, proto, options=bytes([1] * 8))) == (A, B, proto, 1000, 80, False)


def test_others_have_none_and_ah_has_its_index_there() -> None:
    assert told(packet(PORTS, 1)) == (A, B, 1, 0, 0, False)
    assert told(packet(bytes(4) + PORTS, 51)) == (A, B, 51, 1000, 80, False)


@pytest.mark.parametrize("frag_off", [0x2000, 0x2001, 1])
def test_the_ports_of_a_fragment_do_not_count_not_even_of_the_first(frag_off: int) -> None:
    assert told(packet(PORTS, 17, frag_off=frag_off)) == (A, B, 17, 0, 0, False)


def test_a_tunnel_is_followed_unless_the_caller_stops_at_it() -> None:
    inner = packet(PORTS, 6, C, D)
    outer = packet(inner, 4)
    assert told(outer) == (C, D, 6, 1000, 80, True)
    assert told(outer, FLOW_DISSECTOR_F_STOP_AT_ENCAP) == (A, B, 4, 0, 0, True)


@pytest.mark.parametrize("flags, words", [(0, 0), (0x2000, 1), (0xB000, 3)])
def test_gre_is_followed_over_its_optional_words(flags: int, words: int) -> None:
    gre = flags.to_bytes(2, "big") + b"\x08\x00" + bytes(4 * words)
    assert told(packet(gre + packet(PORTS, 17, C, D), 47)) == (C, D, 17, 1000, 80, True)


def test_gre_of_another_version_or_with_another_payload_ends_it() -> None:
    assert told(packet(b"\x00\x01\x08\x00" + packet(PORTS, 17), 47)) == (A, B, 47, 0, 0, False)
    assert told(packet(b"\x00\x00\x86\xdd" + bytes(40), 47)) == (A, B, 47, 0, 0, False)


def test_headers_are_found_in_pieces_too() -> None:
    whole = packet(packet(PORTS, 6, C, D), 4)
    skb = SkBuff(whole[:20], [whole[20:33], whole[33:42], whole[42:]], len(whole) - 20, 1000)
    keys = skb_flow_dissect_flow_keys(skb, 0)
    assert (keys.src, keys.dst, keys.ip_proto, keys.sport, keys.dport) == (C, D, 6, 1000, 80)


@given(st.binary(max_size=120), st.integers(0, 1))
def test_no_bytes_whatever_make_it_raise(data: bytes, flags: int) -> None:
    told(packet(data, 4), flags)
    told(packet(data, 47), flags)
    told(data, flags)


def test_a_chain_of_tunnels_has_an_end() -> None:
    data = packet(PORTS, 6, C, D)
    for _ in range(40):
        data = packet(data, 4)
    assert told(data) == (A, B, 4, 0, 0, True)


def test_both_directions_look_the_same() -> None:
    keys = FlowKeys()
    keys.src, keys.dst, keys.sport, keys.dport = B, A, 80, 1000
    keys.consistentify()
    assert (keys.src, keys.dst, keys.sport, keys.dport) == (A, B, 80, 1000)
