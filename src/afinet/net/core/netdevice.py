"""include/linux/netdevice.h: struct net_device, its operations, and packet types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.uapi.errno import EOPNOTSUPP
from afinet.uapi.if_ import IF_OPER_UNKNOWN
from afinet.uapi.if_arp import ARPHRD_ETHER

if TYPE_CHECKING:
    from afinet.net.core.neighbour import NeighParms
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.ipv4.devinet import InDevice
    from afinet.net.sched.sch_generic import Qdisc

NETDEV_TX_OK: Final = 0x00
NETDEV_TX_BUSY: Final = 0x10
NET_XMIT_SUCCESS: Final = 0
NET_XMIT_DROP: Final = 1
NET_XMIT_CN: Final = 2
NET_RX_SUCCESS: Final = 0
NET_RX_DROP: Final = 1

# Bits of `features` that the stack reads (include/linux/netdev_features.h; the numbers are afinet's own).
NETIF_F_SG: Final = 1 << 0
NETIF_F_HW_CSUM: Final = 1 << 1  # the device, or whoever receives from it in this process, needs no filled-in checksum
NETIF_F_TSO: Final = 1 << 2
NETIF_F_GSO_UDP_L4: Final = 1 << 3
NETIF_F_GRO: Final = 1 << 4
NETIF_F_RXCSUM: Final = 1 << 5
NETIF_F_LOOPBACK: Final = 1 << 6
NETIF_F_TSO_MANGLEID: Final = 1 << 7  # packets that are cut may have the same identification

# Bits of `priv_flags`.
IFF_NO_QUEUE: Final = 1 << 0  # a virtual device that never refuses a packet: no qdisc by default

# Events of `kernel.netdev_chain`.
NETDEV_UP: Final = 1
NETDEV_DOWN: Final = 2
NETDEV_CHANGE: Final = 4  # flags or carrier changed
NETDEV_REGISTER: Final = 5
NETDEV_UNREGISTER: Final = 6
NETDEV_CHANGEMTU: Final = 7
NETDEV_CHANGEADDR: Final = 8
NETDEV_GOING_DOWN: Final = 10
NETDEV_CHANGENAME: Final = 11


@mypyc_attr(allow_interpreted_subclasses=True)
class NetDeviceOps:
    """struct net_device_ops and header_ops: what a driver overrides. Errors are -errno."""

    __slots__ = ()

    def ndo_open(self, dev: NetDevice) -> int:
        return 0

    def ndo_stop(self, dev: NetDevice) -> int:
        return 0

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice) -> int:
        """Take the packet (NETDEV_TX_OK) or refuse it for now (NETDEV_TX_BUSY: it stays the qdisc's)."""
        raise NotImplementedError

    def ndo_change_mtu(self, dev: NetDevice, mtu: int) -> int:
        dev.mtu = mtu
        return 0

    def ndo_set_mac_address(self, dev: NetDevice, addr: int) -> int:
        return -EOPNOTSUPP

    def ndo_uninit(self, dev: NetDevice) -> None:
        """The device leaves its namespace for good."""


@mypyc_attr(allow_interpreted_subclasses=True)
class PacketType:
    """struct packet_type: a network protocol over Ethernet, or a tap (type ETH_P_ALL)."""

    __slots__ = ("dev", "type")

    def __init__(self, type: int, dev: NetDevice | None = None) -> None:
        self.type: int = type
        self.dev: NetDevice | None = dev  # None: every device

    def func(self, skb: SkBuff, dev: NetDevice) -> int:
        """Take the packet. A tap gets a clone of its own; `skb.pkt_type` tells the direction."""
        raise NotImplementedError


class NetDeviceStats:
    """struct rtnl_link_stats64."""

    __slots__ = (
        "collisions",
        "multicast",
        "rx_bytes",
        "rx_dropped",
        "rx_errors",
        "rx_nohandler",
        "rx_packets",
        "tx_bytes",
        "tx_dropped",
        "tx_errors",
        "tx_packets",
    )

    def __init__(self) -> None:
        self.rx_packets: int = 0
        self.tx_packets: int = 0
        self.rx_bytes: int = 0
        self.tx_bytes: int = 0
        self.rx_errors: int = 0
        self.tx_errors: int = 0
        self.rx_dropped: int = 0
        self.tx_dropped: int = 0
        self.rx_nohandler: int = 0
        self.multicast: int = 0
        self.collisions: int = 0


class NetDevice:
    """struct net_device. `hard_header_len` is 14 where the device speaks Ethernet, 0 where packets are bare (TUN)."""

    __slots__ = (
        "addr_bytes",
        "addr_len",
        "arp_parms",
        "broadcast",
        "carrier",
        "dev_addr",
        "features",
        "flags",
        "group",
        "gso_max_segs",
        "gso_max_size",
        "hard_header_len",
        "ifindex",
        "iflink",
        "ip_ptr",
        "max_mtu",
        "min_mtu",
        "mtu",
        "name",
        "nd_net",
        "netdev_ops",
        "operstate",
        "priv",
        "priv_flags",
        "promiscuity",
        "ptype_all",
        "qdisc",
        "qdisc_sleeping",
        "queue_stopped",
        "stats",
        "tx_queue_len",
        "type",
        "xmit_active",
    )

    def __init__(self, name: str, ops: NetDeviceOps) -> None:
        self.name: str = name
        self.netdev_ops: NetDeviceOps = ops
        self.nd_net: Net | None = None  # set by register_netdevice; read it through dev_net()
        self.ifindex: int = 0
        self.iflink: int = 0
        self.flags: int = 0  # IFF_*; IFF_RUNNING and IFF_LOWER_UP come from dev_get_flags()
        self.priv_flags: int = 0
        self.carrier: bool = True  # netif_carrier_ok
        self.operstate: int = IF_OPER_UNKNOWN
        self.type: int = ARPHRD_ETHER
        self.mtu: int = 1500
        self.min_mtu: int = 68
        self.max_mtu: int = 65535
        self.hard_header_len: int = 14
        self.addr_len: int = 6
        self.dev_addr: int = 0  # 48 bits; a registered device's is changed by dev_set_mac_address
        self.addr_bytes: bytes = bytes(6)  # the same, as it stands in a frame
        self.broadcast: int = 0xFFFFFFFFFFFF
        self.features: int = 0
        self.gso_max_size: int = 65536
        self.gso_max_segs: int = 65535
        self.tx_queue_len: int = 1000
        self.group: int = 0
        self.promiscuity: int = 0
        self.qdisc: Qdisc | None = None  # in force; None: noqueue
        self.qdisc_sleeping: Qdisc | None = None  # configured; in force while the device is up and has a carrier
        self.xmit_active: bool = False  # up, with a carrier: packets are taken (else Linux has noop_qdisc in force)
        self.queue_stopped: bool = False
        self.stats: NetDeviceStats = NetDeviceStats()
        self.ptype_all: list[PacketType] = []
        self.ip_ptr: InDevice | None = None
        self.arp_parms: NeighParms | None = None
        self.priv: object = None  # the driver's own


def dev_net(dev: NetDevice) -> Net:
    """The namespace of a registered device."""
    net = dev.nd_net
    assert net is not None, f"device {dev.name} is not registered"
    return net
