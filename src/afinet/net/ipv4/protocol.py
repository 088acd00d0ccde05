"""net/ipv4/protocol.c: who takes a packet by the protocol number of its IP header.

`Kernel.inet_protos` has 256 slots, made by the first registration. ip_local_deliver calls `handler`, icmp_rcv passes an error about
a packet of ours to `err_handler`. `Kernel.inet_offloads` has the transports that cut super-packets and put them together.

Left out: IPv6's tables (net/ipv6), xfrm policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.net.core.drop_reason import SKB_DROP_REASON_IP_NOPROTO
from afinet.net.core.skbuff import kfree_skb_reason
from afinet.uapi.errno import EINVAL, ENOENT, EPERM, EPROTONOSUPPORT

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.gro import GroNode
    from afinet.net.core.gso import GsoSegmenter
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff

MAX_INET_PROTOS: Final = 256


@mypyc_attr(allow_interpreted_subclasses=True)
class NetProtocol:
    """struct net_protocol. A subclass per transport protocol; an instance belongs to one Kernel's table."""

    __slots__ = ("icmp_strict_tag_validation", "no_policy")

    def __init__(self, no_policy: bool = True, icmp_strict_tag_validation: bool = False) -> None:
        self.no_policy: bool = no_policy
        # Whether icmp_rcv believes an unreachable about this protocol only if its quote holds the full header's tags.
        self.icmp_strict_tag_validation: bool = icmp_strict_tag_validation

    def early_demux(self, net: Net, skb: SkBuff) -> None:
        """Find the sock before the route is looked up: an established sock knows its input route. May set `skb.sk`
        and `skb.dst`. `skb.data` is at the IP header, `skb.transport_header` is set."""

    def handler(self, skb: SkBuff) -> int:
        """Take the packet, `skb.data` at the transport header. 0, or the negated number of another protocol that is
        to have it."""
        return kfree_skb_reason(net_of(skb), skb, SKB_DROP_REASON_IP_NOPROTO)

    def err_handler(self, skb: SkBuff, info: int) -> int:
        """An ICMP error about a packet of this protocol. `skb.data` is at the quoted IP header, `transport_header` at the
        ICMP header, `network_header` at the IP header that brought it; the quoted header and 8 bytes behind it are there.
        `info` is the MTU, pointer or gateway that the message told. The skb stays the caller's. 0, or -errno when nothing
        belongs to the quote."""
        return -ENOENT


@mypyc_attr(allow_interpreted_subclasses=True)
class NetOffload:
    """struct net_offload: how a transport's packets are cut and put together."""

    __slots__ = ()

    def gso_segment(self, skb: SkBuff, nh: int, th: int) -> tuple[int, GsoSegmenter | None]:
        """(0, who cuts the super-packet) or (-errno, None). Its IP header is at `nh` and linear, with options up to `th`."""
        return -EPROTONOSUPPORT, None

    def gro_receive(self, node: GroNode, skb: SkBuff, th: int, traits: int, id: int) -> bool:
        """Whether the packet was taken, merged or held back. Its IP header, 20 bytes at `skb.data`, is right and tells the
        packet's length; `th` is behind it. `traits` and `id` are for NapiGroCb.network_flush."""
        return False


def net_of(skb: SkBuff) -> Net:
    """dev_net(skb->dev)."""
    dev = skb.dev
    assert dev is not None
    net = dev.nd_net
    assert net is not None
    return net


def inet_add_protocol(kernel: Kernel, prot: NetProtocol, protocol: int) -> int:
    """0, -EINVAL for a number out of range, or -EPERM (Linux answers -1) when the number is taken."""
    protos = kernel.inet_protos
    if not protos:
        protos.extend([None] * MAX_INET_PROTOS)
    if not 0 <= protocol < MAX_INET_PROTOS:
        return -EINVAL
    if protos[protocol] is not None:
        return -EPERM
    protos[protocol] = prot
    return 0


def inet_del_protocol(kernel: Kernel, prot: NetProtocol, protocol: int) -> int:
    """0, or -EPERM (Linux answers -1) when `prot` is not what is registered."""
    protos = kernel.inet_protos
    if not 0 <= protocol < len(protos) or protos[protocol] is not prot:
        return -EPERM
    protos[protocol] = None
    return 0


def inet_add_offload(kernel: Kernel, offload: NetOffload, protocol: int) -> int:
    """0, or -EPERM (Linux answers -1) when the number is taken."""
    if protocol in kernel.inet_offloads:
        return -EPERM
    kernel.inet_offloads[protocol] = offload
    return 0
