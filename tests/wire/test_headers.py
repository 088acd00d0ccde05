"""Each header: parse and emit are mirrors, the checksums are right, hostile bytes are harmless."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from afinet.wire import arp, checksum, ethernet, icmp, ip, tcp, udp

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u48 = st.integers(0, 0xFFFFFFFFFFFF)
options = st.integers(0, 10).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
junk = st.binary(max_size=16)


@given(dst=u48, src=u48, proto=u16, before=junk, after=junk)
def test_ethernet_round_trip(dst: int, src: int, proto: int, before: bytes, after: bytes) -> None:
    header = ethernet.emit(dst, src, proto)
    assert len(header) == ethernet.ETH_HLEN
    assert ethernet.parse(before + header + after, len(before)) == (dst, src, proto)
    assert ethernet.mac_int(header[:6]) == dst
    assert ethernet.mac_bytes(src) == header[6:12]


def test_ethernet_addresses_are_told_apart() -> None:
    broadcast, multicast, unicast = 0xFFFFFFFFFFFF, 0x01005E000001, 0x020000000001
    assert ethernet.is_broadcast_ether_addr(broadcast) and ethernet.is_multicast_ether_addr(broadcast)
    assert ethernet.is_multicast_ether_addr(multicast) and not ethernet.is_broadcast_ether_addr(multicast)
    assert not ethernet.is_multicast_ether_addr(unicast) and ethernet.is_valid_ether_addr(unicast)
    assert not ethernet.is_valid_ether_addr(0) and ethernet.is_zero_ether_addr(0)
    assert ethernet.format_mac(unicast) == "02:00:00:00:00:01"


@given(op=u16, sha=u48, spa=u32, tha=u48, tpa=u32, before=junk, after=junk)
def test_arp_round_trip(op: int, sha: int, spa: int, tha: int, tpa: int, before: bytes, after: bytes) -> None:
    packet = arp.emit(op, sha, spa, tha, tpa)
    assert len(packet) == arp.ARP_LEN
    assert arp.parse(before + packet + after, len(before)) == (op, sha, spa, tha, tpa)
    for cut in range(arp.ARP_LEN):
        assert arp.parse(packet[:cut], 0) is None


def test_arp_takes_ieee802_for_ethernet_and_nothing_else() -> None:
    packet = arp.emit(1, 2, 3, 4, 5)
    assert arp.parse(b"\0\6" + packet[2:], 0) == (1, 2, 3, 4, 5)
    for at, wrong in ((1, 2), (2, 0x86), (4, 8), (5, 16)):
        assert arp.parse(packet[:at] + bytes([wrong]) + packet[at + 1 :], 0) is None


@given(data=st.binary(max_size=64), off=st.integers(-70, 70))
def test_arp_never_raises(data: bytes, off: int) -> None:
    arp.parse(data, off)


@given(
    tos=u8, tot_len=u16, id=u16, frag_off=u16, ttl=u8, protocol=u8, saddr=u32, daddr=u32, opts=options,
    before=junk,
)  # fmt: skip
def test_ip_round_trip(
    tos: int, tot_len: int, id: int, frag_off: int, ttl: int, protocol: int, saddr: int, daddr: int,
    opts: bytes, before: bytes,
) -> None:  # fmt: skip
    header = ip.emit(tos, tot_len, id, frag_off, ttl, protocol, saddr, daddr, opts)
    ihl = 5 + len(opts) // 4
    assert len(header) == ihl * 4 and header[20:] == opts
    got = ip.parse(before + header, len(before))
    check = got[7]
    assert got == (0x40 | ihl, tos, tot_len, id, frag_off, ttl, protocol, check, saddr, daddr)
    assert checksum.ip_fast_csum(before + header, len(before), ihl) == 0


@given(tos=u8, id=u16, ttl=st.integers(1, 255), protocol=u8, saddr=u32, daddr=u32, opts=options, before=junk)
def test_a_lower_ttl_keeps_the_checksum_right(
    tos: int, id: int, ttl: int, protocol: int, saddr: int, daddr: int, opts: bytes, before: bytes
) -> None:
    header = ip.emit(tos, 100, id, 0, ttl, protocol, saddr, daddr, opts)
    lower = ip.ip_decrease_ttl(before + header + b"payload", len(before))
    assert len(lower) == len(header)
    assert lower[ip.IP_TTL] == ttl - 1
    assert lower[:8] + lower[9:10] + lower[12:] == header[:8] + header[9:10] + header[12:]
    assert checksum.ip_fast_csum(lower, 0, len(lower) // 4) == 0


@given(check=u16)
def test_the_incremental_checksum_is_linuxs(check: int) -> None:
    swapped = (check & 0xFF) << 8 | check >> 8  # as a little-endian Linux holds it
    swapped += 1
    swapped = swapped + (swapped >= 0xFFFF) & 0xFFFF
    assert ip.csum_decreased_ttl(check) == (swapped & 0xFF) << 8 | swapped >> 8


@given(type=u8, code=u8, rest=u32, payload=st.binary(max_size=100))
def test_icmp_round_trip(type: int, code: int, rest: int, payload: bytes) -> None:
    message = icmp.emit(type, code, rest, payload)
    assert icmp.parse(message, 0) == (type, code, int.from_bytes(message[2:4], "big"), rest)
    assert message[8:] == payload
    if any(message):
        assert checksum.ip_compute_csum(message, 0, len(message)) == 0


@given(sport=u16, dport=u16, saddr=u32, daddr=u32, payload=st.binary(max_size=100))
def test_udp_round_trip_and_its_checksum_is_never_zero(
    sport: int, dport: int, saddr: int, daddr: int, payload: bytes
) -> None:
    n = udp.UDP_HLEN + len(payload)
    sum = checksum.csum_partial(payload, 0, len(payload), 0)
    header = udp.emit_csum(sport, dport, n, checksum.csum_tcpudp_nofold(saddr, daddr, n, 17, sum))
    check = int.from_bytes(header[6:8], "big")
    assert check != 0
    assert udp.parse(header, 0) == (sport, dport, n, check)
    assert header == udp.emit(sport, dport, n, check)
    whole = header + payload
    assert checksum.csum_tcpudp_magic(saddr, daddr, n, 17, checksum.csum_partial(whole, 0, n, 0)) == 0


def test_a_udp_checksum_of_zero_is_sent_as_ones() -> None:
    # 8 + 17 + 8 of lengths and protocol, and ports that complete the sum to 0xffff.
    header = udp.emit_csum(0xFFFF - 33, 0, 8, checksum.csum_tcpudp_nofold(0, 0, 8, 17, 0))
    assert header[6:8] == b"\xff\xff"


@given(
    sport=u16, dport=u16, seq=u32, ack=u32, flags=st.integers(0, 0x1FF), window=u16, urg=u16, opts=options,
    payload=st.binary(max_size=60), saddr=u32, daddr=u32,
)  # fmt: skip
def test_tcp_round_trip(
    sport: int, dport: int, seq: int, ack: int, flags: int, window: int, urg: int, opts: bytes,
    payload: bytes, saddr: int, daddr: int,
) -> None:  # fmt: skip
    n = tcp.TCP_HLEN + len(opts) + len(payload)
    sum = checksum.csum_tcpudp_nofold(saddr, daddr, n, 6, checksum.csum_partial(payload, 0, len(payload), 0))
    header = tcp.emit_csum(sport, dport, seq, ack, flags, window, urg, opts, sum)
    check = int.from_bytes(header[16:18], "big")
    assert header == tcp.emit(sport, dport, seq, ack, flags, window, check, urg, opts)
    got = tcp.parse(b"?" + header, 1)
    assert got == (sport, dport, seq, ack, got[4], window, check, urg)
    assert (got[4] >> 12) * 4 == len(header)
    assert got[4] & tcp.TCPHDR_MASK == flags
    assert header[20:] == opts
    whole = header + payload
    assert checksum.csum_tcpudp_magic(saddr, daddr, n, 6, checksum.csum_partial(whole, 0, n, 0)) == 0
    bare = tcp.emit(sport, dport, seq, ack, flags, window, 0, urg, opts)
    header_sum = tcp.header_sum(sport, dport, seq, ack, flags, window, urg, opts)
    assert checksum.csum_fold(header_sum) == checksum.ip_compute_csum(bare, 0, len(bare))
