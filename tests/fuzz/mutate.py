"""Packets that are wrong in one place and right in the others: a mutation is followed by new lengths and checksums, mostly."""

from __future__ import annotations

import random
import struct

from afinet.wire import icmp as wire_icmp
from afinet.wire import ip as wire_ip
from afinet.wire import tcp as wire_tcp
from afinet.wire.checksum import csum_fold, csum_partial, csum_tcpudp_nofold

TCP, UDP, ICMP, IGMP = 6, 17, 1, 2
BYTES = (0, 1, 2, 4, 0x0F, 0x40, 0x45, 0x4F, 0x7F, 0x80, 0xF0, 0xFE, 0xFF)
WORDS = (0, 1, 7, 8, 20, 28, 40, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
LONGS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7F000001, 0xE0000001, 0xFFFFFFFF)
TCP_OPTIONS = (
    b"\x02\x04\x05\xb4", b"\x02\x04\x00\x00", b"\x02\x04\x00\x01", b"\x02\x04\xff\xff", b"\x02\x02\x01\x01",
    b"\x01\x03\x03\x07", b"\x01\x03\x03\xff", b"\x01\x01\x04\x02", b"\x01\x01\x08\x0a" + bytes(8),
    b"\x01\x01\x08\x0a" + b"\xff" * 8, b"\x01\x01\x05\x0a" + bytes(8), b"\x01\x01\x05\x0a" + b"\xff" * 8, b"\x01\x01\x05\xff",
    b"\x05\x02\x00\x00", b"\x02\x00\x00\x00", b"\xfd\x04\xf9\x89", b"\x22\x02\x01\x01", b"\x22\x0a" + bytes(8) + b"\x01\x01",
    b"\x13\x12" + bytes(16) + b"\x01\x01", b"\x1d\x10" + bytes(14), b"\x00\x00\x00\x00",
)  # fmt: skip
IP_OPTIONS = (
    b"\x01\x01\x01\x01", b"\x00\x00\x00\x00", b"\x07\x07\x04" + bytes(4) + b"\x00", b"\x07\x27\x04" + bytes(36) + b"\x00",
    b"\x07\x03\x04\x00", b"\x07\x02\x04\x00", b"\x07\x04\x05\x00", b"\x07\x08\x06" + bytes(5), b"\x07\x00\x00\x00",
    b"\x44\x0c\x05\x00" + bytes(8), b"\x44\x0c\x05\x01" + bytes(8), b"\x44\x0c\x05\x03" + bytes(8), b"\x44\x04\x05\xf1",
    b"\x44\x08\x09\xf0" + bytes(4), b"\x83\x07\x04\x0a\x00\x00\x01\x00", b"\x89\x07\x04\x0a\x00\x00\x01\x00", b"\x83\x0b\x04"
    + b"\x0a\x00\x00\x02\x0a\x00\x01\x09\x00", b"\x89\x03\x04\x00", b"\x94\x04\x00\x00", b"\x94\x04\xff\xff", b"\x82\x0b"
    + bytes(10), b"\x86\x04\x00\x00", b"\xff\xff\xff\xff", b"\x88\x04\x12\x34",
)  # fmt: skip


def flip(chance: random.Random, data: bytes) -> bytes:
    """One thing about any bytes: a bit, a byte, a word, cut off, longer, a stretch zero, doubled or moved."""
    n = len(data)
    if n == 0:
        return chance.randbytes(chance.randrange(40))
    at = chance.randrange(n)
    how = chance.randrange(9)
    if how == 0:
        return data[:at] + bytes((data[at] ^ 1 << chance.randrange(8),)) + data[at + 1 :]
    if how == 1:
        return data[:at] + bytes((chance.choice(BYTES),)) + data[at + 1 :]
    if how == 2:
        return (data[:at] + chance.choice(WORDS).to_bytes(2, "big") + data[at + 2 :])[:n]
    if how == 3:
        return (data[:at] + chance.choice(LONGS).to_bytes(4, "big") + data[at + 4 :])[:n]
    if how == 4:
        return data[:at]
    if how == 5:
        return data + chance.randbytes(chance.choice((1, 2, 4, 40, 1500)))
    size = chance.randrange(1, 17)
    if how == 6:
        return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]
    if how == 7:
        return data[:at] + data[at : at + size] + data[at:]
    return data[:at] + data[at + size :] + data[at : at + size]


class Packet:
    """An IPv4 packet taken to pieces, to be put together again with what is derived made right."""

    def __init__(self, raw: bytes) -> None:
        vi, self.tos, _, self.id, self.frag_off, self.ttl, self.protocol, _, self.saddr, self.daddr = wire_ip.parse(raw, 0)
        ihl = max((vi & 15) * 4, 20)
        self.options = raw[20:ihl]
        self.payload = raw[ihl:]

    def emit(self, extra: int = 0) -> bytes:
        options = (self.options + bytes(-len(self.options) % 4))[:40]
        length = 20 + len(options) + len(self.payload) + extra
        header = wire_ip.emit(
            self.tos, length & 0xFFFF, self.id, self.frag_off, self.ttl, self.protocol, self.saddr, self.daddr, options
        )
        return header + self.payload

    def resum(self) -> None:
        """The transport checksum made right."""
        p, n = self.payload, len(self.payload)
        at = {TCP: 16, UDP: 6, ICMP: 2, IGMP: 2}.get(self.protocol, n)
        if at + 2 > n or self.frag_off & 0x3FFF:
            return
        sum = csum_tcpudp_nofold(self.saddr, self.daddr, n, self.protocol, 0) if self.protocol in (TCP, UDP) else 0
        p = p[:at] + b"\0\0" + p[at + 2 :]
        self.payload = p[:at] + csum_fold(csum_partial(p, 0, n, sum)).to_bytes(2, "big") + p[at + 2 :]


def mutate_tcp(chance: random.Random, segment: bytes) -> bytes:
    if len(segment) < 20:
        return flip(chance, segment)
    sport, dport, seq, ack, doff_flags, window, _, urg = wire_tcp.parse(segment, 0)
    flags, doff = doff_flags & 0xFFF, min((doff_flags >> 12) * 4, len(segment))
    options, data = segment[20:doff], segment[max(doff, 20) :]
    near = (-70000, -3000, -1460, -2, -1, 0, 0, 0, 1, 2, 1460, 3000, 70000, 1 << 31)
    how = chance.randrange(9)
    if how == 0:
        flags = chance.randrange(0x1000)
    elif how == 1:
        flags ^= 1 << chance.randrange(9)
    elif how == 2:
        seq += chance.choice(near)
    elif how == 3:
        ack += chance.choice(near)
    elif how == 4:
        window = chance.choice(WORDS)
    elif how == 5:
        urg = chance.choice(WORDS)
        flags |= 0x20
    elif how == 6:
        options = chance.choice(TCP_OPTIONS) + (options if chance.random() < 0.5 else b"")
    elif how == 7:
        data = chance.choice((b"", data[:1], data[: len(data) // 2], data + data, chance.randbytes(1460)))
    else:
        options = flip(chance, options)
    options = (options + bytes(-len(options) % 4))[:40]
    return wire_tcp.emit(sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, flags & 0xFFF, window, 0, urg, options) + data


def mutate_packet(chance: random.Random, raw: bytes, addresses: tuple[int, ...]) -> bytes:
    """One thing about an IPv4 packet."""
    if len(raw) < 20 or raw[0] >> 4 != 4 or chance.random() < 0.15:
        return flip(chance, raw)
    p = Packet(raw)
    how = chance.randrange(12)
    if how < 5:
        if p.protocol == TCP and p.frag_off & 0x1FFF == 0:
            p.payload = mutate_tcp(chance, p.payload)
        else:
            p.payload = flip(chance, p.payload)
    elif how == 5:
        p.payload = flip(chance, p.payload)
    elif how == 6:
        p.options = chance.choice(IP_OPTIONS) if chance.random() < 0.7 else flip(chance, p.options)
    elif how == 7:
        p.saddr = chance.choice(addresses)
    elif how == 8:
        p.daddr = chance.choice(addresses)
    elif how == 9:
        p.frag_off = chance.choice((0x4000, 0x2000, 0x2001, 1, 2, 185, 0x1FFF, 0x3FFF, 0x8000, 0x6000, 0))
    elif how == 10:
        p.ttl = chance.choice((0, 1, 2, 255))
        p.tos = chance.randrange(256)
    else:
        p.protocol = chance.choice((0, 1, 2, 4, 6, 17, 41, 47, 50, 132, 136, 253, 255))
    if chance.random() < 0.9:
        p.resum()
    return p.emit(chance.choice((0,) * 12 + (-1, 1, -21, 60000)))


def fragments(chance: random.Random, raw: bytes) -> list[bytes]:
    """A packet in pieces: of any size, some doubled, overlapping, missing, out of order, one too long at the end."""
    if len(raw) < 28 or raw[0] >> 4 != 4:
        return [raw]
    p = Packet(raw)
    whole, out, at = p.payload, [], 0
    p.id = chance.randrange(4) if chance.random() < 0.5 else p.id
    p.frag_off &= 0x4000
    while at < len(whole):
        size = 8 * chance.choice((1, 1, 2, 3, 10, 64, 185))
        more = 0x2000 if at + size < len(whole) or chance.random() < 0.03 else 0
        start = max(at - 8 * chance.randrange(4), 0) if chance.random() < 0.1 else at
        p.payload, p.frag_off = whole[start : at + size], more | start >> 3
        if chance.random() < 0.97:
            out.append(p.emit())
        if chance.random() < 0.05:
            out.append(out[chance.randrange(len(out))] if out else p.emit())
        at += size
    if chance.random() < 0.03:
        p.payload, p.frag_off = whole[:64], 0x1FFF - chance.randrange(3)
        out.append(p.emit())
    if chance.random() < 0.5:
        chance.shuffle(out)
    return out


def icmp_error(chance: random.Random, about: bytes, saddr: int, daddr: int) -> bytes:
    """An ICMP error about a packet that was sent, or something like one."""
    any_code = chance.randrange(17)
    kind, code = chance.choice(((3, any_code), (3, 4), (3, 3), (4, 0), (5, any_code & 3), (5, 4), (11, 0), (11, 1), (12, 0)))
    rest = chance.choice((0, 68, 552, 576, 1280, 1400, 0xFFFF, chance.getrandbits(32), 0x0A000003))
    quoted = about[: chance.choice((0, 8, 20, 27, 28, 48, 200, 576))]
    if chance.random() < 0.3:
        quoted = flip(chance, quoted)
    message = wire_icmp.emit(kind, code, rest, quoted)
    return wire_ip.emit(0xC0, 20 + len(message), chance.randrange(65536), 0, 64, ICMP, saddr, daddr) + message


def mutate_vnet(chance: random.Random, header: bytes) -> bytes:
    """Another virtio_net_hdr: one field, or all of them."""
    flags, gso, hdr_len, size, start, offset = struct.unpack("<BBHHHH", header[:10])
    how = chance.randrange(7)
    if how == 0:
        flags = chance.randrange(8)
    elif how == 1:
        gso = chance.choice((0, 1, 3, 4, 5, 0x81, 0x80, 2, 255))
    elif how == 2:
        hdr_len = chance.choice(WORDS)
    elif how == 3:
        size = chance.choice((*WORDS, 536, 1448))
    elif how == 4:
        start = chance.choice((*WORDS, 34, 54, 24))
    elif how == 5:
        offset = chance.choice((*WORDS, 6, 16))
    else:
        flags, gso = chance.randrange(4), chance.choice((1, 5, 0x81))
        hdr_len, size = chance.randrange(100), chance.choice((1, 8, 500, 1448, 65535))
        start, offset = chance.choice((0, 14, 20, 34)), chance.choice((6, 16, 2))
    return struct.pack("<BBHHHH", flags, gso, hdr_len, size, start, offset)
