"""net/ethernet/eth.c: the Ethernet header, and what every Ethernet-like device has in common.

Left out: 802.3 length fields (a length below 1536 is handed up as ETH_P_802_2, which nobody takes), DSA, VLAN tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.uapi.errno import EADDRNOTAVAIL
from afinet.uapi.if_ether import ETH_P_802_2, ETH_P_802_3_MIN
from afinet.uapi.if_packet import PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST
from afinet.wire import ethernet

if TYPE_CHECKING:
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.core.skbuff import SkBuff


def eth_type_trans(skb: SkBuff, dev: NetDevice) -> int:
    """Read and step over the Ethernet header; sets `dev` and `pkt_type`, returns the protocol. The caller has made sure of 14
    linear bytes."""
    head = skb.head
    at = skb.data
    skb.dev = dev
    skb.mac_header = at
    skb.data = at + 14
    skb.len -= 14
    if head[at : at + 6] == dev.addr_bytes:
        skb.pkt_type = PACKET_HOST
    elif head[at] & 1:
        skb.pkt_type = PACKET_BROADCAST if head[at : at + 6] == b"\xff\xff\xff\xff\xff\xff" else PACKET_MULTICAST
    else:
        skb.pkt_type = PACKET_OTHERHOST
    protocol = head[at + 12] << 8 | head[at + 13]
    return protocol if protocol >= ETH_P_802_3_MIN else ETH_P_802_2


def dev_hard_header(dev: NetDevice, protocol: int, daddr: int, saddr: int) -> bytes:
    """dev->header_ops->create: the link-layer header of a packet to `daddr`; b"" where packets are bare."""
    if dev.hard_header_len == 0:
        return b""
    return ethernet.emit(daddr, saddr, protocol)


def dev_addr_set(dev: NetDevice, addr: int) -> None:
    """Write the device's address, in both of its forms."""
    dev.dev_addr = addr
    dev.addr_bytes = ethernet.mac_bytes(addr)


def eth_mac_addr(dev: NetDevice, addr: int) -> int:
    """ndo_set_mac_address of a device that takes any valid address, up or not (IFF_LIVE_ADDR_CHANGE)."""
    if not ethernet.is_valid_ether_addr(addr):
        return -EADDRNOTAVAIL
    dev_addr_set(dev, addr)
    return 0


def eth_random_addr(draw: bytes) -> int:
    """An address from six random bytes: unicast, locally administered."""
    return (ethernet.mac_int(draw) & ~0x010000000000) | 0x020000000000
