"""net/core/gro.c: generic receive offload. Packets of one flow that come in one batch go up the stack as one super-packet.

A driver that takes in several packets at once gives each to napi_gro_receive and calls napi_gro_flush at the end of the batch. A
packet is merged into the one held back for its flow, or held back itself, or goes on (netif_rx); whatever cannot be merged sends
what was held for its flow on first, so that a flow keeps its order. Nothing outlives its batch, and no more than GRO_MAX_HELD flows
are held: then the oldest goes.

Who may be merged is for the protocols to say: inet_offload.py (the IP header), tcp_offload.py, udp_offload.py. The rule for all:
what was put together can be cut again into the very same packets (core/gso.py), and no packet is merged whose checksum has not been
found right. So a machine that forwards may merge, too.

In Linux, flows are lists in eight buckets by the packet's hash; here they are one table by the bytes that tell the flow. What Linux
keeps in each packet's napi_gro_cb is kept once a flow.

Left out: fraglist GRO, encapsulation, the age limit and flush timer of a NAPI that ends a poll with work left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.net.core import dev as dev_core
from afinet.net.core.netdevice import NETIF_F_GRO
from afinet.net.core.skbuff import SIZEOF_SK_BUFF, SKB_GSO_DODGY, SkBuff, consume_skb, skb_pieces

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel

GRO_MAX_HELD: Final = 64  # GRO_HASH_BUCKETS * MAX_GRO_SKBS
GRO_MAX_SIZE: Final = 65536  # gro_max_size: the IP length of what is merged stays below
GRO_TRAIT_DF: Final = 0x4000  # in `traits`: TOS << 24 | TTL << 16 | DF


class NapiGroCb:
    """struct napi_gro_cb: a flow's packet `skb`, held back, and what has been merged into it. A protocol adds what it compares."""

    __slots__ = ("count", "data_len", "frags", "gso_size", "id", "ip_fixedid", "key", "link", "skb", "traits", "truesize")

    def __init__(self, key: bytes, skb: SkBuff, gso_size: int, traits: int, id: int) -> None:
        self.key: bytes = key
        self.skb: SkBuff = skb
        self.gso_size: int = gso_size  # the payload of one packet
        self.count: int = skb.gso_segs if skb.gso_size else 1  # packets on the wire
        self.frags: list[bytes] = []  # the payload of those merged into `skb`
        self.data_len: int = 0
        self.truesize: int = 0
        # what inet_gro_receive compares: TOS, TTL and DF; the identification, which goes on or stays
        self.traits: int = traits
        self.id: int = id
        self.ip_fixedid: bool = False
        self.link: bytes = skb.head[skb.mac_header : skb.data]

    def network_flush(self, skb: SkBuff, traits: int, id: int) -> bool:
        """inet_gro_flush, gro_list_prepare: whether the headers below the transport's forbid to merge `skb`. The second packet
        decides whether the identification is to count on, or, where DF is set, to stay."""
        if traits != self.traits:
            return True
        offset = id - self.id & 0xFFFF
        if self.count == 1 and offset == 0 and traits & GRO_TRAIT_DF:
            self.ip_fixedid = True
        if self.ip_fixedid:
            if offset or skb.gso_size:  # those of a super-packet count on
                return True
        elif offset != self.count & 0xFFFF:
            return True
        return skb.data != skb.mac_header and skb.head[skb.mac_header : skb.data] != self.link

    def gro_receive(self, skb: SkBuff, offset: int, length: int) -> bool:
        """skb_gro_receive: take over the payload of `skb`, `length` bytes from `data + offset` on. False: it would be too long."""
        if self.skb.len + self.data_len + length >= GRO_MAX_SIZE:
            return False
        self.frags += skb_pieces(skb, offset, length)
        self.data_len += length
        self.truesize += max(skb.truesize - SIZEOF_SK_BUFF, 0)  # the bytes stay, in memory of their own
        self.count += skb.gso_segs if skb.gso_size else 1
        consume_skb(skb)
        return True

    def gro_complete(self) -> None:
        """Several packets were put together: write their common headers into `skb`."""
        raise NotImplementedError


class GroNode:
    """struct gro_node: what is held back, the oldest first."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held: dict[bytes, NapiGroCb] = {}

    def hold(self, flow: NapiGroCb) -> None:
        """Keep a packet back for what follows."""
        held = self.held
        if len(held) >= GRO_MAX_HELD:
            self.complete(held[next(iter(held))])
        held[flow.key] = flow

    def complete(self, flow: NapiGroCb) -> None:
        """Send a flow's packet on: nothing can be added to it any more."""
        del self.held[flow.key]
        napi_gro_complete(flow)


def napi_gro_complete(flow: NapiGroCb) -> None:
    skb = flow.skb
    if flow.frags:
        # skb.frags may be shared with a clone
        skb.frags = flow.frags if skb.frags is None else skb.frags + flow.frags
        skb.data_len += flow.data_len
        skb.len += flow.data_len
        skb.truesize += flow.truesize
        skb.gso_size = flow.gso_size
        skb.gso_segs = flow.count
        flow.gro_complete()
    dev_core.netif_rx(skb)


def napi_gro_receive(kernel: Kernel, skb: SkBuff) -> None:
    """A driver's packet, one of a batch; as netif_rx wants it."""
    dev = skb.dev
    assert dev is not None
    if dev.features & NETIF_F_GRO:
        offload = kernel.offload_base.get(skb.protocol)
        sd = kernel.softnet_data
        assert sd is not None
        # A super-packet from outside is not merged; all it can do is to end what is held.
        if offload is not None and (sd.gro.held or not skb.gso_type & SKB_GSO_DODGY) and offload.gro_receive(sd.gro, skb):
            return
    dev_core.netif_rx(skb)


def napi_gro_flush(kernel: Kernel) -> None:
    """The batch is over: what was held back goes on, the oldest first."""
    sd = kernel.softnet_data
    assert sd is not None
    held = sd.gro.held
    if held:
        sd.gro.held = {}
        for flow in held.values():
            napi_gro_complete(flow)
