"""net/core/gso.c: super-packets, and how they are cut into what a wire can carry.

A super-packet stands for `gso_segs` packets, each with `gso_size` bytes of payload but the last. Its checksum is always left to the
device (CHECKSUM_PARTIAL), so `csum_start` is its transport header. The transport's own knowledge (which header fields change from
packet to packet) is registered from above with `dev_add_offload`, as Linux's packet_offload: core knows only the Ethernet type.

`skb_gso_segment` makes all packets; a `GsoSegmenter` takes them off one after the other, or several as a smaller super-packet,
which is what a link needs that loses one of them.

Left out: encapsulation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet._mypyc import mypyc_attr
from afinet.net.core.skbuff import DESTRUCTOR_NONE, SKB_GSO_UDP_L4, SkBuff, skb_clone, skb_frame
from afinet.uapi.errno import EPROTONOSUPPORT

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.gro import GroNode


@mypyc_attr(allow_interpreted_subclasses=True)
class GsoSegmenter:
    """skb_segment under way. `skb` is the whole, `left` how many packets of it have not been taken yet."""

    __slots__ = ("left", "skb")

    def __init__(self, skb: SkBuff, segs: int) -> None:
        self.skb: SkBuff = skb
        self.left: int = segs

    def take(self, count: int) -> SkBuff:
        """The next `count` packets: one packet, or a smaller super-packet. `count` is between 1 and `left`; nobody is charged."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class PacketOffload:
    """struct packet_offload: how packets of one Ethernet type are cut and put together."""

    __slots__ = ("type",)

    def __init__(self, type: int) -> None:
        self.type: int = type

    def gso_segment(self, skb: SkBuff) -> tuple[int, GsoSegmenter | None]:
        """(0, who will cut it) or (-errno, None). `skb.data` is at the link-layer header; the skb is the caller's still."""
        raise NotImplementedError

    def gro_receive(self, node: GroNode, skb: SkBuff) -> bool:
        """Whether the packet was taken: merged, or held back for what follows. `skb.data` is behind the link-layer header."""
        return False


def dev_add_offload(kernel: Kernel, offload: PacketOffload) -> None:
    kernel.offload_base[offload.type] = offload


def skb_gso_segmenter(kernel: Kernel, skb: SkBuff) -> tuple[int, GsoSegmenter | None]:
    """skb_mac_gso_segment, as far as finding out who cuts it: (0, the segmenter) or (-errno, None)."""
    offload = kernel.offload_base.get(skb.protocol)
    if offload is None:
        return -EPROTONOSUPPORT, None
    return offload.gso_segment(skb)


def skb_gso_segment(kernel: Kernel, skb: SkBuff) -> tuple[int, SkBuff | None]:
    """All packets of a super-packet: (0, a list through `next`) or (-errno, None). The sender's charge goes over from the whole to
    them, so that it is given back as they are freed."""
    err, cutter = skb_gso_segmenter(kernel, skb)
    if cutter is None:
        return err, None
    first = cutter.take(1)
    last = first
    truesize = first.truesize
    while cutter.left:
        seg = cutter.take(1)
        truesize += seg.truesize
        last.next = seg
        last = seg
    sk = skb.sk
    if sk is not None and skb.destructor != DESTRUCTOR_NONE:
        sk.sk_wmem_alloc += truesize - skb.truesize
        at: SkBuff | None = first
        while at is not None:
            at.sk = sk
            at.destructor = skb.destructor
            at = at.next
        skb.sk = None
        skb.destructor = DESTRUCTOR_NONE
    return 0, first


# -- lengths ---------------------------------------------------------------------------------------------------------------


def skb_gso_transport_seglen(skb: SkBuff) -> int:
    """The transport header of a super-packet and one packet's payload."""
    return gso_transport_hlen(skb) + skb.gso_size


def gso_transport_hlen(skb: SkBuff) -> int:
    if skb.gso_type & SKB_GSO_UDP_L4:
        return 8
    at = skb.csum_start + 12
    return (skb.head[at] >> 4) * 4 if 0 <= at < skb.tail else 20


def skb_gso_network_seglen(skb: SkBuff) -> int:
    """The IP length of one packet of a super-packet."""
    return skb.csum_start - skb.network_header + skb_gso_transport_seglen(skb)


def qdisc_pkt_len(skb: SkBuff) -> int:
    """What the packet is long on the wire, from `data` on: each packet of a super-packet has its own headers."""
    if skb.gso_size == 0:
        return skb.len
    return skb.len + (skb.gso_segs - 1) * (skb.csum_start - skb.data + gso_transport_hlen(skb))


def skb_segs(skb: SkBuff) -> int:
    """How many packets on the wire this is."""
    return skb.gso_segs if skb.gso_size else 1


def skb_frames(kernel: Kernel, skb: SkBuff) -> list[bytes]:
    """For who captures: the frames as a wire would carry them, from the link header on, checksums filled in. A super-packet that
    nobody here can cut is one frame."""
    if skb.gso_size == 0:
        return [skb_frame(skb)]
    whole = skb_clone(skb)
    whole.len += whole.data - whole.mac_header
    whole.data = whole.mac_header
    _, cutter = skb_gso_segmenter(kernel, whole)
    if cutter is None:
        return [skb_frame(skb)]
    frames: list[bytes] = []
    while cutter.left:
        frames.append(skb_frame(cutter.take(1)))
    return frames
