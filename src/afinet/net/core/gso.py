"""net/core/gso.c: super-packets cut into what the wire can carry.

The transport's own knowledge (which header fields change from segment to segment) is registered from above with
`dev_add_offload`, as Linux's packet_offload: core knows only the Ethernet type.

Left out: encapsulation and partial segmentation (SKB_GSO_PARTIAL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet._mypyc import mypyc_attr
from afinet.uapi.errno import EPROTONOSUPPORT

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.skbuff import SkBuff


@mypyc_attr(allow_interpreted_subclasses=True)
class PacketOffload:
    """struct packet_offload: how packets of one Ethernet type are cut."""

    __slots__ = ("type",)

    def __init__(self, type: int) -> None:
        self.type: int = type

    def gso_segment(self, skb: SkBuff) -> tuple[int, SkBuff | None]:
        """(0, the segments, linked through `next`) or (-errno, None). `skb.data` is at the link-layer header and is the caller's
        still."""
        raise NotImplementedError


def dev_add_offload(kernel: Kernel, offload: PacketOffload) -> None:
    kernel.offload_base[offload.type] = offload


def skb_gso_segment(kernel: Kernel, skb: SkBuff) -> tuple[int, SkBuff | None]:
    """skb_mac_gso_segment: (0, a list through `next`) or (-errno, None)."""
    offload = kernel.offload_base.get(skb.protocol)
    if offload is None:
        return -EPROTONOSUPPORT, None
    return offload.gso_segment(skb)
