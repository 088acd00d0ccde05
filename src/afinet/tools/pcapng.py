"""pcapng files: written from taps on the devices of a simulation, read back by the tests (IETF draft-ietf-opsawg-pcapng).

A file holds one section; each captured device is an interface of it, named "host:device", with nanosecond times. Times are
those of the simulation's clock, the virtual epoch included, so that a seed gives the same file to the byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from afinet.net.core.dev import dev_add_pack, dev_remove_pack
from afinet.net.core.gso import skb_frames
from afinet.net.core.netdevice import NetDevice, PacketType, dev_net
from afinet.net.core.skbuff import SKB_GSO_DODGY, SkBuff, skb_frame
from afinet.uapi.if_ether import ETH_P_ALL
from afinet.uapi.if_packet import PACKET_OUTGOING

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel

LINKTYPE_ETHERNET: Final = 1
LINKTYPE_RAW: Final = 101

SECTION_HEADER_BLOCK: Final = 0x0A0D0D0A
INTERFACE_DESCRIPTION_BLOCK: Final = 1
ENHANCED_PACKET_BLOCK: Final = 6
BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D

OPT_ENDOFOPT: Final = 0
OPT_COMMENT: Final = 1
IF_NAME: Final = 2
IF_TSRESOL: Final = 9
SHB_USERAPPL: Final = 4
EPB_FLAGS: Final = 2

EPB_INBOUND: Final = 1
EPB_OUTBOUND: Final = 2


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    total = len(body) + 12
    return struct.pack("<II", kind, total) + body + struct.pack("<I", total)


class PcapngWriter:
    """Writes one section to a binary file. The file is the caller's: `flush` and `close` are not called on it."""

    def __init__(self, file: BinaryIO, application: str = "afinet") -> None:
        self.file = file
        self.interfaces = 0
        self.packets = 0
        options = _option(SHB_USERAPPL, application.encode()) + _option(OPT_ENDOFOPT, b"")
        file.write(_block(SECTION_HEADER_BLOCK, struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, -1) + options))

    def interface(self, name: str, linktype: int = LINKTYPE_ETHERNET, snaplen: int = 0) -> int:
        """Declare an interface; returns its id."""
        options = _option(IF_NAME, name.encode()) + _option(IF_TSRESOL, b"\x09") + _option(OPT_ENDOFOPT, b"")
        self.file.write(_block(INTERFACE_DESCRIPTION_BLOCK, struct.pack("<HHI", linktype, 0, snaplen) + options))
        self.interfaces += 1
        return self.interfaces - 1

    def packet(self, interface: int, when: int, frame: bytes, outbound: bool, comment: str = "") -> None:
        """One packet; `when` is ns since the Unix epoch."""
        options = _option(EPB_FLAGS, struct.pack("<I", EPB_OUTBOUND if outbound else EPB_INBOUND))
        if comment:
            options += _option(OPT_COMMENT, comment.encode())
        head = struct.pack("<IIIII", interface, when >> 32, when & 0xFFFFFFFF, len(frame), len(frame))
        padded = frame + b"\0" * (-len(frame) % 4)
        self.file.write(_block(ENHANCED_PACKET_BLOCK, head + padded + options + _option(OPT_ENDOFOPT, b"")))
        self.packets += 1


class PcapngTap(PacketType):
    """A tap on every device of a Kernel but those named in `without`, or on one device; both directions.

    Super-packets are written as the packets that they stand for, as on a wire. With `whole` those that cross the device so, as they
    do a TUN device with a virtio_net_hdr, are written whole, as tcpdump shows them there; what GRO has merged is not.
    """

    def __init__(
        self,
        writer: PcapngWriter,
        kernel: Kernel,
        dev: NetDevice | None = None,
        without: tuple[str, ...] = (),
        whole: bool = False,
    ) -> None:
        super().__init__(ETH_P_ALL, dev)
        self.writer = writer
        self.kernel = kernel
        self.without = without
        self.whole = whole
        self.ids: dict[NetDevice, int] = {}
        dev_add_pack(kernel, self)

    def func(self, skb: SkBuff, dev: NetDevice) -> int:
        if dev.name in self.without:
            return 0
        interface = self.ids.get(dev)
        if interface is None:
            linktype = LINKTYPE_ETHERNET if dev.hard_header_len else LINKTYPE_RAW
            net = dev_net(dev)
            host = self.kernel.hostname + (f"/{net.name}" if net.name else "")
            interface = self.ids[dev] = self.writer.interface(f"{host}:{dev.name}", linktype)
        outbound = skb.pkt_type == PACKET_OUTGOING
        if self.whole and (outbound or skb.gso_type & SKB_GSO_DODGY):
            frames = [skb_frame(skb)]
        else:
            frames = skb_frames(self.kernel, skb)
        for frame in frames:
            self.writer.packet(interface, self.kernel.ktime_get_real(), frame, outbound)
        return 0

    def close(self) -> None:
        dev_remove_pack(self.kernel, self)


class Packet(NamedTuple):
    """What the reader gives: interface name, ns since the epoch, direction, the frame."""

    interface: str
    when: int
    outbound: bool
    frame: bytes


def read_pcapng(data: bytes) -> Iterator[Packet]:
    """The packets of a little-endian pcapng file. ValueError, saying where, for what is not one."""
    names: list[str] = []
    at = 0
    while at < len(data):
        if at + 12 > len(data):
            raise ValueError(f"pcapng: cut off at byte {at}")
        kind, total = struct.unpack_from("<II", data, at)
        if total < 12 or total % 4 or at + total > len(data):
            raise ValueError(f"pcapng: block of {total} bytes at byte {at} does not fit")
        if struct.unpack_from("<I", data, at + total - 4)[0] != total:
            raise ValueError(f"pcapng: the block at byte {at} does not end with its length")
        body = data[at + 8 : at + total - 4]
        if kind == SECTION_HEADER_BLOCK:
            if struct.unpack_from("<I", body)[0] != BYTE_ORDER_MAGIC:
                raise ValueError("pcapng: not little-endian")
            names = []
        elif kind == INTERFACE_DESCRIPTION_BLOCK:
            names.append(_find_option(body[8:], IF_NAME).decode())
        elif kind == ENHANCED_PACKET_BLOCK:
            interface, high, low, captured, _ = struct.unpack_from("<IIIII", body)
            flags = _find_option(body[20 + captured + -captured % 4 :], EPB_FLAGS)
            outbound = bool(flags) and struct.unpack("<I", flags)[0] & 3 == EPB_OUTBOUND
            yield Packet(names[interface], high << 32 | low, outbound, body[20 : 20 + captured])
        at += total


def _find_option(options: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack_from("<HH", options, at)
        if code == OPT_ENDOFOPT:
            break
        if code == wanted:
            return options[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    return b""
