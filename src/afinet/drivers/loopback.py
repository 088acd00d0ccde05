"""drivers/net/loopback.c: `lo`. What is sent is received, in the next softirq.

Frames carry an Ethernet header with zero addresses, as in Linux, so that a capture on lo has one. Checksums are never filled in:
CHECKSUM_PARTIAL counts as right on receipt. The route stays on the packet (IFF_XMIT_DST_RELEASE is off), so that input does not
look it up again.

Super-packets pass whole.

Left out: the transmit timestamps' special cases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.net.core import dev as dev_core
from afinet.net.core.eth import eth_type_trans
from afinet.net.core.net_namespace import PernetOperations, register_pernet_device
from afinet.net.core.netdevice import (
    IFF_NO_QUEUE,
    NETDEV_TX_OK,
    NETIF_F_GSO_UDP_L4,
    NETIF_F_HW_CSUM,
    NETIF_F_LOOPBACK,
    NETIF_F_RXCSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO_MANGLEID,
    NetDevice,
    NetDeviceOps,
)
from afinet.net.core.skbuff import skb_orphan
from afinet.uapi.if_ import IFF_LOOPBACK
from afinet.uapi.if_arp import ARPHRD_LOOPBACK

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff


class LoopbackOps(NetDeviceOps):
    """loopback_ops."""

    __slots__ = ()

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice) -> int:
        """loopback_xmit."""
        # The sender's charge ends here: before netif_rx, so that a full backlog does not call back into a freed packet.
        skb_orphan(skb)
        skb.protocol = eth_type_trans(skb, dev)
        stats = dev.stats
        length = skb.len + 14
        if dev_core.netif_rx(skb) == 0:
            stats.tx_packets += 1
            stats.rx_packets += 1
            stats.tx_bytes += length
            stats.rx_bytes += length
        return NETDEV_TX_OK


def loopback_setup(dev: NetDevice) -> None:
    dev.mtu = 64 * 1024
    dev.min_mtu = 0
    dev.max_mtu = 0  # no limit
    dev.hard_header_len = 14
    dev.addr_len = 6
    dev.broadcast = 0
    dev.tx_queue_len = 1000
    dev.type = ARPHRD_LOOPBACK
    dev.flags = IFF_LOOPBACK
    dev.priv_flags |= IFF_NO_QUEUE
    dev.features = NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_RXCSUM | NETIF_F_LOOPBACK
    dev.features |= NETIF_F_TSO | NETIF_F_TSO_MANGLEID | NETIF_F_GSO_UDP_L4


class LoopbackNetOps(PernetOperations):
    """loopback_net_ops."""

    __slots__ = ()

    def init(self, net: Net) -> int:
        return loopback_net_init(net)


def loopback_net_init(net: Net) -> int:
    """`lo` of a namespace: its first device, closed as yet. 0 or -errno."""
    dev = NetDevice("lo", LoopbackOps())
    loopback_setup(dev)
    err = dev_core.register_netdevice(net, dev)
    if err == 0:
        net.loopback_dev = dev
    return err


def loopback_init(kernel: Kernel) -> int:
    """Have each namespace get its `lo` (Linux does it at the end of net_dev_init, which here is below the drivers)."""
    return register_pernet_device(kernel, LoopbackNetOps())
