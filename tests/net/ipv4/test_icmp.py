"""icmp.c: answers, errors, and the rules for not sending any."""

from __future__ import annotations

import pytest

from afinet.kernel.sysctl import sysctl_write
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.net.core import dev as dev_core
from afinet.net.core.skbuff import alloc_skb
from afinet.net.ipv4 import icmp
from afinet.sim import iproute
from afinet.uapi.errno import ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, ENETUNREACH
from afinet.uapi.icmp import ICMP_ECHO
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.if_packet import PACKET_BROADCAST
from tests.net.ipv4.iphost import ME, PEER, PROTO, Host, addr, icmp_packet, packet, parse_icmp


def test_an_echo_request_is_answered_with_its_data() -> None:
    h = Host()
    h.receive(icmp_packet(8, 0, 0x12340001, b"abcdefg", tos=0x10))
    (reply,) = h.sent()
    assert parse_icmp(reply) == (0, 0, 0x12340001, b"abcdefg")
    assert reply[1] == 0x10
    assert reply[6] & 0x40 == 0  # no DF
    assert reply[8] == 64
    assert int.from_bytes(reply[12:16], "big") == ME
    assert int.from_bytes(reply[16:20], "big") == PEER
    assert h.icmp_stats() == {"InMsgs": 1, "OutMsgs": 1}
    assert h.net.icmpmsg_in == {8: 1}
    assert h.net.icmpmsg_out == {0: 1}


def test_a_large_echo_is_answered_in_fragments() -> None:
    h = Host(mtu=576)
    h.dev.mtu = 2000
    h.dev.mtu = 576
    data = bytes(range(256)) * 4
    whole = icmp_packet(8, 0, 7, data)
    h.receive(whole)
    out = h.sent()
    assert len(out) == 2
    assert b"".join(p[20:] for p in out)[8:] == data
    assert len({p[4:6] for p in out}) == 1


def test_echo_can_be_switched_off() -> None:
    h = Host()
    h.net.ipv4.sysctl_icmp_echo_ignore_all = 1
    h.receive(icmp_packet(8, 0, 1, b""))
    assert h.sent() == []
    assert h.drops() == {}


@pytest.mark.parametrize("type", [8, 13])
def test_broadcast_requests_are_ignored_unless_allowed(type: int) -> None:
    h = Host()
    h.receive(icmp_packet(type, 0, 1, bytes(12), daddr=addr("10.0.0.255")), pkt_type=PACKET_BROADCAST)
    assert h.sent() == []
    assert h.drops() == {"INVALID_PROTO": 1}
    h.net.ipv4.sysctl_icmp_echo_ignore_broadcasts = 0
    h.receive(icmp_packet(type, 0, 1, bytes(12), daddr=addr("10.0.0.255")), pkt_type=PACKET_BROADCAST)
    (reply,) = h.sent()
    assert int.from_bytes(reply[12:16], "big") == ME


def test_a_timestamp_request_gets_the_time_of_day() -> None:
    h = Host()
    h.receive(icmp_packet(13, 0, 0x10002, (5).to_bytes(4, "big") + bytes(8)))
    (reply,) = h.sent()
    type, code, rest, body = parse_icmp(reply)
    assert (type, code, rest) == (14, 0, 0x10002)
    now = h.kernel.ktime_get_real() // NSEC_PER_MSEC % 86_400_000
    assert body == (5).to_bytes(4, "big") + now.to_bytes(4, "big") * 2


def test_a_short_timestamp_request_is_an_error() -> None:
    h = Host()
    h.receive(icmp_packet(13, 0, 1, b"abc"))
    assert h.sent() == []
    assert h.drops() == {"PKT_TOO_SMALL": 1}
    assert h.icmp_stats()["InErrors"] == 1


def test_the_code_of_an_echo_request_comes_back() -> None:
    h = Host()
    h.receive(icmp_packet(8, 5, 1, b"x"))
    (reply,) = h.sent()
    assert parse_icmp(reply)[:2] == (0, 5)


def test_a_reply_of_zeros_has_checksum_zero() -> None:
    h = Host()
    h.receive(icmp_packet(8, 0, 0, bytes(4)))
    (reply,) = h.sent()
    assert reply[20:] == bytes(12)


def test_a_timestamp_reply_counts_as_an_echo_reply() -> None:
    h = Host()
    h.receive(icmp_packet(13, 0, 1, bytes(12)))
    assert h.net.icmpmsg_out == {0: 1}


def test_a_wrong_checksum_is_counted() -> None:
    h = Host()
    whole = icmp_packet(8, 0, 1, b"abcd")
    h.receive(whole[:-1] + b"!")
    assert h.sent() == []
    assert h.drops() == {"ICMP_CSUM": 1}
    assert h.icmp_stats() == {"InMsgs": 1, "InErrors": 1, "InCsumErrors": 1}


def test_an_unknown_type_is_discarded() -> None:
    h = Host()
    h.receive(icmp_packet(60, 0, 1, b"abcd"))
    assert h.sent() == []
    assert h.drops() == {"UNHANDLED_PROTO": 1}


def test_an_unreachable_reaches_the_protocol_of_the_quoted_packet() -> None:
    h = Host()
    quoted = packet(b"12345678", saddr=ME, daddr=PEER)
    h.receive(icmp_packet(3, 1, 0, quoted))
    assert h.taker.errors == [(3, 1, 0)]
    h.receive(icmp_packet(3, 4, 1280, quoted))
    h.receive(icmp_packet(12, 0, 20 << 24, quoted))
    h.receive(icmp_packet(11, 0, 0, quoted))
    assert h.taker.errors[1:] == [(3, 4, 1280), (12, 0, 20), (11, 0, 0)]
    # reassembly failed there: nobody is told
    h.receive(icmp_packet(11, 1, 0, quoted))
    assert len(h.taker.errors) == 4


@pytest.mark.parametrize("keep", range(28))
def test_a_quote_too_short_reaches_nobody(keep: int) -> None:
    h = Host()
    quoted = packet(b"12345678", saddr=ME, daddr=PEER)
    h.receive(icmp_packet(3, 1, 0, quoted[:keep]))
    assert h.taker.errors == []
    assert h.icmp_stats()["InErrors"] == 1


@pytest.mark.parametrize("policy, expected", [(0, [1280]), (1, [0]), (2, []), (3, [])])
def test_ip_no_pmtu_disc_decides_whether_fragmentation_needed_is_believed(policy: int, expected: list[int]) -> None:
    h = Host()
    h.net.ipv4.sysctl_ip_no_pmtu_disc = policy
    h.receive(icmp_packet(3, 4, 1280, packet(b"12345678", saddr=ME, daddr=PEER)))
    assert [info for _, _, info in h.taker.errors] == expected


def test_icmp_err_convert_is_linuxs_table() -> None:
    assert icmp.icmp_err_convert(0) == (ENETUNREACH, False)
    assert icmp.icmp_err_convert(1) == (EHOSTUNREACH, False)
    assert icmp.icmp_err_convert(3) == (ECONNREFUSED, True)
    assert icmp.icmp_err_convert(4) == (EMSGSIZE, False)
    assert icmp.icmp_err_convert(15) == (EHOSTUNREACH, True)


# -- when no error is sent -------------------------------------------------------------------------------------------------


def test_no_error_about_an_icmp_error_or_an_unknown_icmp_type() -> None:
    h = Host()
    h.kernel.inet_protos[1] = None  # so that icmp itself is an unknown protocol
    quoted = packet(b"12345678", saddr=ME, daddr=PEER)
    for type in (3, 4, 5, 11, 12, 42, 200):
        h.receive(icmp_packet(type, 0, 0, quoted))
    assert h.sent() == []
    h.receive(icmp_packet(8, 0, 0, b""))
    assert len(h.sent()) == 1


def test_no_error_about_broadcasts() -> None:
    h = Host()
    h.receive(packet(protocol=254, daddr=addr("10.0.0.255")), pkt_type=PACKET_BROADCAST)
    h.receive(packet(protocol=254), pkt_type=PACKET_BROADCAST)
    assert h.sent() == []
    assert h.drops() == {"IP_NOPROTO": 2}


def test_an_error_quotes_what_fits_into_576_bytes_and_has_network_control_precedence() -> None:
    h = Host()
    h.receive(packet(b"q" * 1000, protocol=254, tos=0x08))
    (reply,) = h.sent()
    assert len(reply) == 576
    assert reply[1] == 0xC8
    type, code, rest, body = parse_icmp(reply)
    assert (type, code, rest, len(body)) == (3, 2, 0, 548)
    assert body[20:] == b"q" * 528


def test_errors_to_one_peer_are_limited_to_a_burst_of_six() -> None:
    h = Host()
    for _ in range(20):
        h.receive(packet(protocol=254))
    assert len(h.sent()) == 6
    assert h.icmp_stats()["OutRateLimitHost"] == 14
    h.sleep(NSEC_PER_SEC)
    for _ in range(3):
        h.receive(packet(protocol=254))
    assert len(h.sent()) == 1


def test_errors_to_all_peers_are_limited() -> None:
    h = Host()
    for i in range(200):
        h.receive(packet(protocol=254, saddr=addr("10.0.0.3") + i))
    stats = h.icmp_stats()
    out = len(h.sent())
    # each takes 0 to 2 of 50 credits
    assert 25 < out < 100
    assert stats["OutRateLimitGlobal"] == 200 - out


def test_what_the_rate_mask_leaves_out_is_not_limited() -> None:
    h = Host()
    for _ in range(100):
        h.receive(icmp_packet(8, 0, 1, b""))
    assert len(h.sent()) == 100


def test_the_same_seed_limits_the_same_errors() -> None:
    def run() -> list[bytes]:
        h = Host(b"seed")
        for i in range(120):
            h.receive(packet(protocol=254, saddr=addr("10.0.0.3") + i))
        return h.sent()

    assert run() == run()


def test_an_error_names_its_second_word() -> None:
    h = Host()
    h.receive(packet(protocol=PROTO))
    (skb,) = h.taker.got
    icmp.icmp_send(skb, 5, 1, addr("10.0.0.77"))
    (reply,) = h.sent()
    assert parse_icmp(reply)[:3] == (5, 1, addr("10.0.0.77"))


def test_answers_carry_the_mark_of_what_they_answer_if_fwmark_reflect_says_so() -> None:
    h = Host()
    assert iproute.ip_rule(h.net, "add fwmark 7 lookup 100") == (0, "")
    assert iproute.ip_route(h.net, "add default dev wire1 table 100") == (0, "")
    data = icmp_packet(ICMP_ECHO, 0, 1, b"", PEER)
    for reflect, link in ((0, h.link), (1, h.farlink)):
        assert sysctl_write(h.net.sysctl_table, "net/ipv4/fwmark_reflect", str(reflect)) == 0
        skb = alloc_skb(data)
        skb.dev = h.dev
        skb.protocol = ETH_P_IP
        skb.mark = 7
        dev_core.netif_rx(skb)
        h.kernel.run(h.kernel.now)
        assert len(link.sent) == 1
        link.sent.clear()
