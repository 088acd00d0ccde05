"""ip_options.c: every length is checked, routes and times are recorded, source routes followed where allowed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.kernel.time import NSEC_PER_MSEC
from afinet.net.ipv4 import ip_options
from tests.net.ipv4.iphost import FAR, ME, PEER, Host, addr, icmp_packet, packet, parse_icmp


def b4(text: str) -> bytes:
    return addr(text).to_bytes(4, "big")


def rr(slots: int, pointer: int = 4) -> bytes:
    return bytes([7, 3 + 4 * slots, pointer]) + bytes(4 * slots)


def pad(options: bytes) -> bytes:
    return options + bytes(-len(options) % 4)


def header_of(h: Host) -> bytes:
    skb = h.taker.got[-1]
    return skb.head[skb.network_header : skb.transport_header]


@pytest.mark.rfc9293("MAY-11")
def test_record_route_gets_our_address() -> None:
    h = Host()
    h.receive(packet(options=pad(rr(2))))
    assert header_of(h)[20:] == pad(bytes([7, 11, 8]) + b4("10.0.0.1") + bytes(4))


def test_a_full_record_route_stays_as_it_is() -> None:
    h = Host()
    full = bytes([7, 7, 8]) + b4("9.9.9.9")
    h.receive(packet(options=pad(full)))
    assert header_of(h)[20:] == pad(full)


@pytest.mark.rfc9293("MAY-10")
def test_a_timestamp_option_gets_address_and_time() -> None:
    h = Host()
    h.receive(packet(options=bytes([68, 12, 5, 1]) + bytes(8)))
    now = h.kernel.ktime_get_real() // NSEC_PER_MSEC % 86_400_000
    assert header_of(h)[20:] == bytes([68, 12, 13, 1]) + b4("10.0.0.1") + now.to_bytes(4, "big")


def test_a_full_timestamp_option_counts_its_overflow() -> None:
    h = Host()
    h.receive(packet(options=bytes([68, 8, 9, 0x20]) + bytes(4)))
    assert header_of(h)[20:24] == bytes([68, 8, 9, 0x30])


@pytest.mark.parametrize(
    "options, pointer",
    [
        (bytes([7, 0, 4, 0]), 20),  # length 0
        (bytes([7, 1, 4, 0]), 20),
        (bytes([7, 5, 4, 0]), 20),  # past the end
        (bytes([1, 1, 1, 7]), 23),  # no room for the length
        (bytes([7, 2, 0, 0]), 21),  # too short
        (bytes([7, 3, 3, 0]), 22),  # pointer into the option's own head
        (bytes([7, 7, 5, 0, 0, 0, 0, 0]), 22),  # pointer past the last slot
        (rr(1) + rr(1) + bytes(2), 27),  # twice
        (bytes([68, 3, 5, 0]), 21),
        (bytes([68, 4, 4, 0]), 22),
        (bytes([68, 8, 6, 0]) + bytes(4), 22),
        (bytes([68, 8, 5, 1]) + bytes(4), 22),
        (bytes([68, 4, 5, 0xF0]), 23),  # overflow at its end
        (bytes([148, 2, 0, 0]), 21),
        (bytes([131, 2, 0, 0]), 21),
        (bytes([131, 3, 3, 0]), 22),
        (bytes([134, 6, 0, 0, 0, 1, 0, 0]), 21),  # CIPSO
        (bytes([134, 8, 0, 0, 0, 1, 0, 0]), 22),
        (bytes([131, 7, 8]) + b4("10.0.0.8") + bytes([137, 7, 8]) + bytes(6), 27),  # two source routes
    ],
)
def test_a_malformed_option_is_answered_by_a_parameter_problem(options: bytes, pointer: int) -> None:
    h = Host()
    data = packet(options=options)
    h.receive(data)
    assert h.taker.got == []
    assert h.drops() == {"IP_INHDR": 1}
    assert h.ip_stats()["InHdrErrors"] == 1
    (reply,) = h.sent()
    type, code, rest, body = parse_icmp(reply)
    assert (type, code, rest) == (12, 0, pointer << 24)
    assert body[:10] == data[:10]


@pytest.mark.parametrize("options", [bytes([1, 1, 1, 0]), bytes([0, 9, 9, 9]), bytes([30, 4, 0, 0]), bytes([148, 4, 0, 0])])
def test_harmless_options_pass(options: bytes) -> None:
    h = Host()
    h.receive(packet(options=options))
    assert len(h.taker.got) == 1


def test_what_follows_the_end_of_the_options_is_cleared() -> None:
    h = Host()
    h.receive(packet(options=bytes([0, 9, 9, 9])))
    assert header_of(h)[20:] == bytes(4)


def test_a_source_route_is_refused_by_default() -> None:
    h = Host()
    h.receive(packet(options=pad(bytes([131, 7, 8]) + b4("10.0.0.1"))))
    assert h.taker.got == []
    assert h.drops() == {"NOT_SPECIFIED": 1}
    assert h.sent() == []


def allow_source_routes(h: Host) -> None:
    for dev in (h.dev, h.far):
        assert dev.ip_ptr is not None
        dev.ip_ptr.cnf.accept_source_route = 1
        dev.ip_ptr.cnf.forwarding = 1
    h.net.ipv4.devconf_all.accept_source_route = 1


def test_a_source_route_that_is_allowed_and_at_its_end_is_delivered() -> None:
    h = Host()
    allow_source_routes(h)
    h.receive(packet(options=pad(bytes([131, 7, 8]) + b4("10.0.0.1"))))
    assert len(h.taker.got) == 1


def test_a_source_route_is_followed_and_records_our_address() -> None:
    h = Host()
    allow_source_routes(h)
    h.receive(packet(options=pad(bytes([131, 7, 4]) + FAR.to_bytes(4, "big"))))
    assert h.taker.got == []
    (out,) = h.farlink.sent
    assert int.from_bytes(out[16:20], "big") == FAR
    assert out[20:28] == pad(bytes([131, 7, 8]) + b4("192.0.2.1"))
    assert out[8] == 63


def test_a_strict_source_route_that_does_not_name_us_is_a_parameter_problem() -> None:
    h = Host()
    allow_source_routes(h)
    h.receive(packet(daddr=FAR, options=pad(bytes([137, 7, 4]) + FAR.to_bytes(4, "big"))))
    (reply,) = h.sent()
    assert parse_icmp(reply)[:3] == (12, 0, 16 << 24)


def test_an_echo_reply_carries_the_record_route_on_and_the_source_route_back() -> None:
    h = Host()
    allow_source_routes(h)
    h.receive(icmp_packet(8, 0, 1, b"", options=pad(rr(3))))
    (reply,) = h.sent()
    # our address as recorded on receipt, and as sender
    assert reply[20:32] == bytes([7, 15, 12]) + b4("10.0.0.1") + b4("10.0.0.1") + bytes(1)
    hops = b4("10.0.0.8") + b4("10.0.0.9")
    h.receive(icmp_packet(8, 0, 1, b"", options=pad(bytes([131, 11, 12]) + hops)))
    (reply,) = h.sent()
    assert int.from_bytes(reply[16:20], "big") == addr("10.0.0.9")
    assert reply[20:32] == pad(bytes([131, 11, 4]) + b4("10.0.0.8") + PEER.to_bytes(4, "big"))


# -- sent ------------------------------------------------------------------------------------------------------------------


def test_options_of_a_program_are_padded_compiled_and_built() -> None:
    h = Host()
    err, opt = ip_options.ip_options_get(h.net, rr(2))
    assert err == 0
    assert opt is not None
    assert opt.optlen == 12
    assert opt.rr == 20
    built = ip_options.ip_options_build(opt, ME, PEER, h.kernel)
    assert built == pad(bytes([7, 11, 8]) + b4("10.0.0.1") + bytes(4))
    assert ip_options.ip_options_undo(opt) == pad(rr(2))


def test_a_source_route_of_a_program_goes_to_its_first_hop() -> None:
    h = Host()
    given_ = bytes([131, 11, 4]) + b4("10.0.0.8") + b4("10.0.0.9")
    err, opt = ip_options.ip_options_get(h.net, given_)
    assert err == 0
    assert opt is not None
    assert opt.faddr == addr("10.0.0.8")
    built = ip_options.ip_options_build(opt, ME, FAR, h.kernel)
    assert built == pad(bytes([131, 11, 4]) + b4("10.0.0.9") + FAR.to_bytes(4, "big"))
    assert ip_options.ip_options_undo(opt) == pad(given_)


@pytest.mark.parametrize("data", [bytes([7, 0, 4, 0]), bytes([131, 7, 8, 1, 2, 3, 4]), bytes([131, 6, 4, 1, 2, 3]), bytes(41)])
def test_malformed_options_of_a_program_are_refused(data: bytes) -> None:
    h = Host()
    assert ip_options.ip_options_get(h.net, data)[0] == -22


def test_fragments_after_the_first_keep_only_options_with_the_copy_bit() -> None:
    options = bytes([148, 4, 0, 0]) + rr(1) + bytes([1])
    assert ip_options.ip_options_fragment(options) == bytes([148, 4, 0, 0]) + b"\x01" * 8


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(min_size=4, max_size=40), st.booleans())
def test_no_options_raise(options: bytes, source_routes: bool) -> None:
    h = HOST
    if source_routes:
        allow_source_routes(h)
    h.taker.got.clear()
    options = options[: len(options) // 4 * 4]
    before = sum(h.net.drop_reasons)
    h.receive(packet(options=options))
    h.receive(icmp_packet(8, 0, 1, b"abc", options=options))
    done = len(h.taker.got) + len(h.farlink.sent) + sum(h.net.drop_reasons) - before
    assert done >= 1
    h.link.sent.clear()
    h.farlink.sent.clear()
    opt = ip_options.ip_options_get(h.net, options)[1]
    if opt is not None:
        built = ip_options.ip_options_build(opt, ME, PEER, h.kernel)
        assert len(built) == opt.optlen
        assert len(ip_options.ip_options_undo(opt)) == opt.optlen
    ip_options.ip_options_fragment(options)


HOST = Host()
