"""A second reader of frames, written without the stack's own checksum code: is every length consistent, every checksum right?"""

from __future__ import annotations

import struct

# Of TCP's options, by kind: MSS, window scale, SACK permitted, SACK, timestamps.
LENGTHS = {2: (4,), 3: (3,), 4: (2,), 5: (10, 18, 26, 34), 8: (10,)}


def ones_complement(data: bytes) -> int:
    """RFC 1071, the plain way: 0 over data that holds its own right checksum."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def check_frame(frame: bytes) -> str:
    """Assert that an Ethernet frame is right; what it is: "arp", "tcp", "udp", "icmp", "igmp", "fragment"."""
    assert len(frame) >= 14
    ethertype = struct.unpack_from(">H", frame, 12)[0]
    if ethertype == 0x0806:
        assert len(frame) >= 42
        hardware, protocol, hlen, plen, operation = struct.unpack_from(">HHBBH", frame, 14)
        assert (hardware, protocol, hlen, plen) == (1, 0x0800, 6, 4) and operation in (1, 2)
        return "arp"
    assert ethertype == 0x0800, hex(ethertype)
    return check_packet(frame[14:])


def check_packet(packet: bytes) -> str:
    """The same for an IPv4 packet."""
    version_ihl, _, length, _, frag_off, ttl, protocol = struct.unpack_from(">BBHHHBB", packet, 0)
    header = (version_ihl & 15) * 4
    assert version_ihl >> 4 == 4 and header >= 20
    assert length == len(packet) >= header
    assert ones_complement(packet[:header]) == 0, "IP header checksum"
    assert ttl > 0
    if frag_off & 0x3FFF:
        assert not frag_off & 0x2000 or (length - header) % 8 == 0
        return "fragment"
    body = packet[header:]
    pseudo = packet[12:20] + struct.pack(">BBH", 0, protocol, len(body))
    if protocol == 6:
        assert len(body) >= 20
        offset = (body[12] >> 4) * 4
        assert 20 <= offset <= len(body)
        assert ones_complement(pseudo + body) == 0, "TCP checksum"
        check_options(body[20:offset])
        return "tcp"
    if protocol == 17:
        assert struct.unpack_from(">H", body, 4)[0] == len(body) >= 8
        if body[6:8] != b"\0\0":
            assert ones_complement(pseudo + body) == 0, "UDP checksum"
        return "udp"
    if protocol in (1, 2):
        assert len(body) >= 8
        assert ones_complement(body) == 0, "ICMP or IGMP checksum"
        return "icmp" if protocol == 1 else "igmp"
    raise AssertionError(f"protocol {protocol}")


def check_options(options: bytes) -> None:
    """Every option of TCP has the length that its kind has, and they fill the header."""
    at = 0
    while at < len(options):
        kind = options[at]
        if kind == 0:
            assert not any(options[at:])
            return
        if kind == 1:
            at += 1
            continue
        length = options[at + 1]
        if kind in LENGTHS:
            assert length in LENGTHS[kind]
        assert length >= 2
        at += length
    assert at == len(options)
