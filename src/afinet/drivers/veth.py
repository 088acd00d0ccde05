"""drivers/net/veth.c: two devices, each the other's wire; within one Kernel, or with a `Wire` to elsewhere.

veth_xmit hands the packet to the peer's netif_rx: no copy, no checksum (CHECKSUM_PARTIAL passes and counts as right, as in Linux),
no time, and a super-packet whole: it counts as one packet, as in Linux. The carrier is there while both ends are up.

A device made by `veth_wire_newlink` gives what it sends to a Wire, the simulator's link for one, and gets what comes from there
through `veth_receive`. It stands for a network card: its counters tell packets and bytes on the wire, and what arrives in one batch
may be merged (GRO, which Linux's veth has off).

Left out: XDP, NAPI, several queues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.net.core import dev as dev_core
from afinet.net.core.drop_reason import SKB_DROP_REASON_DEV_READY, SKB_DROP_REASON_HDR_TRUNC, SKB_DROP_REASON_PKT_TOO_BIG
from afinet.net.core.eth import eth_mac_addr, eth_random_addr, eth_type_trans
from afinet.net.core.gro import napi_gro_receive
from afinet.net.core.gso import qdisc_pkt_len, skb_segs
from afinet.net.core.link_watch import netif_carrier_off, netif_carrier_on
from afinet.net.core.netdevice import (
    IFF_NO_QUEUE,
    NET_RX_DROP,
    NET_RX_SUCCESS,
    NETDEV_TX_OK,
    NETIF_F_GRO,
    NETIF_F_GSO_UDP_L4,
    NETIF_F_HW_CSUM,
    NETIF_F_RXCSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO_MANGLEID,
    NetDevice,
    NetDeviceOps,
    dev_net,
)
from afinet.net.core.skbuff import kfree_skb_reason, pskb_may_pull, skb_orphan, skb_scrub_packet
from afinet.uapi.if_ import IFF_BROADCAST, IFF_MULTICAST, IFF_UP

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff

VLAN_HLEN: Final = 4  # a frame may be as much longer than the MTU says
VETH_FEATURES: Final = (
    NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_RXCSUM | NETIF_F_TSO | NETIF_F_TSO_MANGLEID | NETIF_F_GSO_UDP_L4
)  # fmt: skip


@mypyc_attr(allow_interpreted_subclasses=True)
class Wire:
    """Where a device's packets go when its other end is not in this Kernel. Override `transmit`."""

    __slots__ = ()

    def transmit(self, skb: SkBuff, dev: NetDevice) -> int:
        """Take the frame (`data` is at its Ethernet header): NETDEV_TX_OK; or refuse it for now: NETDEV_TX_BUSY.

        The packet is charged to its sender's sock until the wire calls skb_orphan, as a network card does when it has sent it: that
        is what keeps a sender from filling a slow link's queue. It must be called in the sender's Kernel, before the packet goes
        to another one, or when it is dropped (kfree_skb_reason and consume_skb do it too).
        """
        raise NotImplementedError


class VethOps(NetDeviceOps):
    """veth_netdev_ops, one instance a device: `peer` is the other end while there is one."""

    __slots__ = ("peer",)

    def __init__(self) -> None:
        self.peer: NetDevice | None = None

    def ndo_open(self, dev: NetDevice) -> int:
        peer = self.peer
        if peer is not None and peer.flags & IFF_UP:
            netif_carrier_on(dev)
            netif_carrier_on(peer)
        return 0

    def ndo_stop(self, dev: NetDevice) -> int:
        netif_carrier_off(dev)
        if self.peer is not None:
            netif_carrier_off(self.peer)
        return 0

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice) -> int:
        """veth_xmit."""
        peer = self.peer
        stats = dev.stats
        length = skb.len
        if peer is None or length < 14 or (skb.len - skb.data_len < 14 and not pskb_may_pull(skb, 14)):
            stats.tx_dropped += 1
            kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_HDR_TRUNC)
            return NETDEV_TX_OK
        stats.tx_packets += 1
        stats.tx_bytes += length
        # ____dev_forward_skb, with skb_scrub_packet: the sock stays charged (its owner is told once the packet is received),
        # all else of this side goes.
        if (length > peer.mtu + 14 + VLAN_HLEN and not skb.gso_size) or not peer.flags & IFF_UP:
            return veth_rx_drop(skb, peer)
        skb_scrub_packet(skb, peer.nd_net is not dev.nd_net)
        skb.priority = 0
        skb.protocol = eth_type_trans(skb, peer)
        if dev_core.netif_rx(skb) == 0:
            stats = peer.stats
            stats.rx_packets += 1
            stats.rx_bytes += length
        return NETDEV_TX_OK

    def ndo_set_mac_address(self, dev: NetDevice, addr: int) -> int:
        return eth_mac_addr(dev, addr)

    def ndo_uninit(self, dev: NetDevice) -> None:
        """veth_dellink: one end does not outlive the other."""
        peer = self.peer
        self.peer = None
        if peer is not None:
            dev_core.unregister_netdevice(peer)


class VethWireOps(NetDeviceOps):
    """The operations of an end whose other end is a Wire. The carrier is there while the device is up."""

    __slots__ = ("wire",)

    def __init__(self, wire: Wire) -> None:
        self.wire: Wire = wire

    def ndo_open(self, dev: NetDevice) -> int:
        netif_carrier_on(dev)
        return 0

    def ndo_stop(self, dev: NetDevice) -> int:
        netif_carrier_off(dev)
        return 0

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice) -> int:
        segs = skb_segs(skb)
        length = qdisc_pkt_len(skb)
        rc = self.wire.transmit(skb, dev)
        if rc == NETDEV_TX_OK:
            stats = dev.stats
            stats.tx_packets += segs
            stats.tx_bytes += length
        return rc

    def ndo_set_mac_address(self, dev: NetDevice, addr: int) -> int:
        return eth_mac_addr(dev, addr)


def veth_rx_drop(skb: SkBuff, dev: NetDevice) -> int:
    """The receiving end is down, or the frame is longer than its MTU."""
    dev.stats.rx_dropped += 1
    reason = SKB_DROP_REASON_PKT_TOO_BIG if dev.flags & IFF_UP else SKB_DROP_REASON_DEV_READY
    kfree_skb_reason(dev_net(dev), skb, reason)
    return NETDEV_TX_OK


def veth_receive(dev: NetDevice, skb: SkBuff, batch: bool = False) -> int:
    """A frame comes in from the wire (`data` at its Ethernet header). NET_RX_*; then `Kernel.run` does the work. With `batch`
    others come with it, and the caller ends the batch with napi_gro_flush.

    Whatever the sender's side had tied to the packet is gone afterwards, so frames may pass from Kernel to Kernel.
    """
    if skb.destructor:
        skb_orphan(skb)
    skb.sk = None
    skb.cb = None
    skb.opt = None
    length = skb.len
    if length < 14 or (skb.len - skb.data_len < 14 and not pskb_may_pull(skb, 14)):
        dev.stats.rx_errors += 1
        kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_HDR_TRUNC)
        return NET_RX_DROP
    if (length > dev.mtu + 14 + VLAN_HLEN and not skb.gso_size) or not dev.flags & IFF_UP:
        veth_rx_drop(skb, dev)
        return NET_RX_DROP
    segs = skb_segs(skb)
    length = qdisc_pkt_len(skb)
    skb_scrub_packet(skb, True)
    skb.priority = 0
    skb.protocol = eth_type_trans(skb, dev)
    rc = NET_RX_SUCCESS
    if batch:
        napi_gro_receive(dev_net(dev).kernel, skb)
    else:
        rc = dev_core.netif_rx(skb)
    if rc == NET_RX_SUCCESS:
        stats = dev.stats
        stats.rx_packets += segs
        stats.rx_bytes += length
    return rc


def veth_setup(net: Net, name: str, ops: NetDeviceOps) -> NetDevice:
    """A veth end as alloc_netdev and veth_setup leave it: an Ethernet device with an address of its own, without a carrier."""
    dev = NetDevice(name, ops)
    dev.flags = IFF_BROADCAST | IFF_MULTICAST
    dev.priv_flags |= IFF_NO_QUEUE
    dev.features = VETH_FEATURES
    dev.dev_addr = eth_random_addr(net.kernel.random("mac").get_random_bytes(6))
    dev.carrier = False
    return dev


def veth_newlink(net_a: Net, name_a: str, net_b: Net, name_b: str) -> tuple[NetDevice, NetDevice]:
    """`ip link add NAME_A netns A type veth peer name NAME_B netns B`: both ends, closed. Names may be templates ("veth%d").

    ValueError, naming the name, if one is taken or not valid: a mistake of the program that builds the network.
    """
    ops_a = VethOps()
    ops_b = VethOps()
    dev_a = veth_setup(net_a, name_a, ops_a)
    dev_b = veth_setup(net_b, name_b, ops_b)
    # the peer first, as Linux: `veth0` and its peer made by templates get the higher number and the lower
    err = dev_core.register_netdevice(net_b, dev_b)
    if err:
        raise ValueError(f"veth: device name {name_b!r} is taken or not valid ({err})")
    err = dev_core.register_netdevice(net_a, dev_a)
    if err:
        dev_core.unregister_netdevice(dev_b)
        raise ValueError(f"veth: device name {name_a!r} is taken or not valid ({err})")
    ops_a.peer = dev_b
    ops_b.peer = dev_a
    dev_a.iflink = dev_b.ifindex
    dev_b.iflink = dev_a.ifindex
    return dev_a, dev_b


def veth_wire_newlink(net: Net, name: str, wire: Wire) -> NetDevice:
    """One end, closed, with `wire` behind it. ValueError as `veth_newlink`."""
    dev = veth_setup(net, name, VethWireOps(wire))
    dev.features |= NETIF_F_GRO
    err = dev_core.register_netdevice(net, dev)
    if err:
        raise ValueError(f"veth: device name {name!r} is taken or not valid ({err})")
    return dev
