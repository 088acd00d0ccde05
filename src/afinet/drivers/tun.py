"""drivers/net/tun.c, from its other end: a device whose wire is the file of a TUN or TAP device, or anything that moves packets.

What the host's kernel sends through its tun device is received here, and the other way round. The bytes come and go through a
`TunIO`, which a runner fills with a real descriptor and a user with a queue, a datagram socket or a serial line: `tun_poll` reads
(the runner calls it when there is something), `ndo_start_xmit` writes.

With `vnet_hdr_sz` each packet has a struct virtio_net_hdr in front, little-endian (TUNSETVNETLE), as include/linux/virtio_net.h
reads and writes it. It carries what a network card would know: NEEDS_CSUM is CHECKSUM_PARTIAL both ways, and the gso fields let one
read or write move 64 KB of a TCP stream, or of datagrams of one length. TUN carries bare IP packets, TAP Ethernet frames.

Several packets that are read in one go pass through GRO, so a stream that comes packet by packet goes up in large segments, too.

Nothing that is read is believed: every length and offset is checked, what does not fit is counted and dropped. A super-packet of a
kind that was not offered (TUNSETOFFLOAD) is such a thing. The kernel offers datagrams of IPv4 and IPv6 only together: what comes as
IPv6 is counted (rx_nohandler) and dropped, whatever its size.

Left out: IFF_PI's header (nobody asks for it), several queues, XDP, UFO, and TCP segments of IPv6 until there is IPv6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.net.core import dev as dev_core
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_DEV_HDR,
    SKB_DROP_REASON_HDR_TRUNC,
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_UNHANDLED_PROTO,
)
from afinet.net.core.eth import eth_mac_addr, eth_random_addr, eth_type_trans
from afinet.net.core.gro import napi_gro_flush, napi_gro_receive
from afinet.net.core.netdevice import (
    NET_RX_DROP,
    NET_RX_SUCCESS,
    NETDEV_TX_BUSY,
    NETDEV_TX_OK,
    NETIF_F_GRO,
    NETIF_F_GSO_UDP_L4,
    NETIF_F_HW_CSUM,
    NETIF_F_RXCSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NetDevice,
    NetDeviceOps,
    dev_net,
)
from afinet.net.core.skbuff import (
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_DODGY,
    SKB_GSO_TCPV4,
    SKB_GSO_UDP_L4,
    SkBuff,
    consume_skb,
    kfree_skb_reason,
    skb_truesize,
)
from afinet.uapi.errno import EAGAIN
from afinet.uapi.if_ import IFF_BROADCAST, IFF_MULTICAST, IFF_NOARP, IFF_POINTOPOINT
from afinet.uapi.if_arp import ARPHRD_NONE
from afinet.uapi.if_ether import ETH_P_IP, ETH_P_IPV6
from afinet.uapi.if_packet import PACKET_HOST
from afinet.uapi.virtio_net import (
    VIRTIO_NET_HDR_F_DATA_VALID,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_NONE,
    VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_GSO_UDP_L4,
    VIRTIO_NET_HDR_SIZE,
)

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net

TUN_TX_QUEUE_LEN: Final = 10_000  # a burst of small packets while nobody reads: the kernel's default of 500 loses them
TUN_RX_PAD: Final = 64  # NET_SKB_PAD: the room in front of each packet that Linux allocates and charges
TUN_MAX_PIECES: Final = 1000  # below IOV_MAX, with the headers
TUN_BUDGET: Final = 64  # packets read in one go before the softirqs have a turn

TCP_CSUM_OFFSET: Final = 16
TCP_DOFF: Final = 12
TCP_FLAGS: Final = 13
TCP_CWR: Final = 0x80
UDP_HLEN: Final = 8


@mypyc_attr(allow_interpreted_subclasses=True)
class TunIO:
    """Where a device's packets come from and go to. Override `read` and `writev`; neither may wait, or raise."""

    __slots__ = ()

    def read(self) -> bytes | None:
        """The next packet, its virtio_net_hdr in front if the device has them; None: there is none now."""
        raise NotImplementedError

    def writev(self, pieces: list[bytes]) -> int:
        """Send the concatenation of `pieces` as one packet. 0; -EAGAIN: not now, the caller waits for `tun_wake`; or another
        -errno: the packet is lost."""
        raise NotImplementedError


class TunOps(NetDeviceOps):
    """The operations of one device, and what it knows of its other end."""

    __slots__ = ("io", "tap", "txkey", "txhdr", "vnet_hdr_sz")

    def __init__(self, io: TunIO, tap: bool, vnet_hdr_sz: int) -> None:
        self.io: TunIO = io
        self.tap: bool = tap
        self.vnet_hdr_sz: int = vnet_hdr_sz
        # The header of the packet before: a stream's are all the same.
        self.txkey: int = -1
        self.txhdr: bytes = b""

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice) -> int:
        head = skb.head[skb.data : skb.tail]
        pieces = [self.virtio_net_hdr(skb), head] if self.vnet_hdr_sz else [head]
        frags = skb.frags
        if frags is not None:
            if len(frags) > TUN_MAX_PIECES:
                pieces.append(b"".join(frags))
            else:
                pieces += frags
        err = self.io.writev(pieces)
        stats = dev.stats
        if err == 0:
            stats.tx_packets += 1
            stats.tx_bytes += skb.len
            consume_skb(skb)
        elif err == -EAGAIN:
            dev_core.netif_stop_queue(dev)
            return NETDEV_TX_BUSY
        else:
            stats.tx_errors += 1
            kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return NETDEV_TX_OK

    def virtio_net_hdr(self, skb: SkBuff) -> bytes:
        """virtio_net_hdr_from_skb."""
        if skb.ip_summed != CHECKSUM_PARTIAL:
            return bytes(self.vnet_hdr_sz)
        start = skb.csum_start - skb.data
        size = skb.gso_size
        gso_type = VIRTIO_NET_HDR_GSO_NONE
        hdr_len = 0
        if size:
            # A driver is given a super-packet only if its features say so, and with its headers linear.
            th = skb.csum_start
            if skb.gso_type & SKB_GSO_UDP_L4:
                gso_type = VIRTIO_NET_HDR_GSO_UDP_L4
                hdr_len = start + UDP_HLEN
            else:
                gso_type = VIRTIO_NET_HDR_GSO_TCPV4
                if skb.head[th + TCP_FLAGS] & TCP_CWR:
                    gso_type |= VIRTIO_NET_HDR_GSO_ECN
                hdr_len = start + (skb.head[th + TCP_DOFF] >> 4) * 4
        key = (size << 40) | (hdr_len << 24) | (start << 16) | (skb.csum_offset << 8) | gso_type
        if start > 255 or skb.csum_offset > 255:
            key = -1
        elif key == self.txkey:
            return self.txhdr
        self.txkey = key
        self.txhdr = (
            bytes((VIRTIO_NET_HDR_F_NEEDS_CSUM, gso_type))
            + put_le16(hdr_len)
            + put_le16(size)
            + put_le16(start)
            + put_le16(skb.csum_offset)
            + bytes(self.vnet_hdr_sz - VIRTIO_NET_HDR_SIZE)
        )
        return self.txhdr

    def ndo_set_mac_address(self, dev: NetDevice, addr: int) -> int:
        return eth_mac_addr(dev, addr) if self.tap else super().ndo_set_mac_address(dev, addr)


def put_le16(value: int) -> bytes:
    return bytes((value & 0xFF, value >> 8 & 0xFF))


def tun_rx_error(dev: NetDevice, skb: SkBuff, reason: int) -> int:
    """The other end sent what is no packet."""
    dev.stats.rx_errors += 1
    kfree_skb_reason(dev_net(dev), skb, reason)
    return NET_RX_DROP


def tun_receive(dev: NetDevice, frame: bytes, batch: bool = False) -> int:
    """tun_get_user: `frame` was read from the other end, its virtio_net_hdr in front if the device has them. NET_RX_*; then
    `Kernel.run` does the work. With `batch` others are there, too, and the caller ends the batch with napi_gro_flush."""
    ops = dev.netdev_ops
    assert isinstance(ops, TunOps)
    size = len(frame)
    hdr = ops.vnet_hdr_sz
    skb = SkBuff(frame, None, 0, skb_truesize(TUN_RX_PAD + size))
    skb.dev = dev
    length = size - hdr
    if length <= 0:
        return tun_rx_error(dev, skb, SKB_DROP_REASON_HDR_TRUNC)
    skb.data = hdr
    skb.len = length
    skb.mac_header = hdr
    if hdr and (frame[0] or frame[1]):
        if not virtio_net_hdr_to_skb(skb, frame, hdr, length, dev.features):
            return tun_rx_error(dev, skb, SKB_DROP_REASON_DEV_HDR)
    if ops.tap:
        if length < 14:
            return tun_rx_error(dev, skb, SKB_DROP_REASON_HDR_TRUNC)
        skb.protocol = eth_type_trans(skb, dev)
    else:
        version = frame[hdr] >> 4
        if version == 4:
            skb.protocol = ETH_P_IP
        elif version == 6:
            skb.protocol = ETH_P_IPV6
        else:
            return tun_rx_error(dev, skb, SKB_DROP_REASON_UNHANDLED_PROTO)
        skb.pkt_type = PACKET_HOST
    rc = NET_RX_SUCCESS
    if batch:
        napi_gro_receive(dev_net(dev).kernel, skb)
    else:
        rc = dev_core.netif_rx(skb)
    if rc == 0:
        stats = dev.stats
        stats.rx_packets += 1
        stats.rx_bytes += length
    return rc


def virtio_net_hdr_to_skb(skb: SkBuff, frame: bytes, hdr: int, length: int, features: int) -> bool:
    """What the header in front of `frame` says, put into `skb`. False if it cannot be true."""
    flags = frame[0]
    gso_type = frame[1] & ~VIRTIO_NET_HDR_GSO_ECN
    if flags & VIRTIO_NET_HDR_F_NEEDS_CSUM:
        start = frame[6] | frame[7] << 8
        offset = frame[8] | frame[9] << 8
        if start + offset + 2 > length:
            return False
        skb.ip_summed = CHECKSUM_PARTIAL
        skb.csum_start = hdr + start
        skb.csum_offset = offset
        if gso_type == VIRTIO_NET_HDR_GSO_NONE:
            return True
    else:
        if flags & VIRTIO_NET_HDR_F_DATA_VALID:
            skb.ip_summed = CHECKSUM_UNNECESSARY
        # A super-packet's checksum is never that of one packet: without NEEDS_CSUM it is not what it says.
        return gso_type == VIRTIO_NET_HDR_GSO_NONE
    size = frame[4] | frame[5] << 8
    th = hdr + start
    if size == 0:
        return False
    if gso_type == VIRTIO_NET_HDR_GSO_TCPV4 and features & NETIF_F_TSO:
        if offset != TCP_CSUM_OFFSET or start + 20 > length:
            return False
        headers = start + (frame[th + TCP_DOFF] >> 4) * 4
        kind = SKB_GSO_TCPV4
    elif gso_type == VIRTIO_NET_HDR_GSO_UDP_L4 and features & NETIF_F_GSO_UDP_L4:
        headers = start + UDP_HLEN
        kind = SKB_GSO_UDP_L4
    else:
        return False
    payload = length - headers
    if payload < 0:
        return False
    # "Too small packets are not really GSO ones."
    if payload > size:
        skb.gso_size = size
        skb.gso_segs = (payload + size - 1) // size
        skb.gso_type = kind | SKB_GSO_DODGY
    return True


def tun_poll(dev: NetDevice, budget: int) -> int:
    """Take in up to `budget` packets; how many there were. `Kernel.run` then does the work."""
    ops = dev.netdev_ops
    assert isinstance(ops, TunOps)
    io = ops.io
    done = 0
    frame = io.read() if budget > 0 else None
    while frame is not None:
        done += 1
        following = io.read() if done < budget else None
        # One that comes alone has nothing to be merged with.
        tun_receive(dev, frame, following is not None or done > 1)
        frame = following
    if done > 1:
        napi_gro_flush(dev_net(dev).kernel)
    return done


def tun_wake(dev: NetDevice) -> None:
    """The other end takes packets again (after -EAGAIN). `Kernel.run` sends what has waited."""
    dev_core.netif_wake_queue(dev)


def tun_newlink(
    net: Net, name: str, io: TunIO, tap: bool, vnet_hdr_sz: int = 0, tso: bool = False, mtu: int = 1500, uso: bool = False
) -> NetDevice:
    """A device, closed, with `io` behind it. ValueError if the name is taken or not valid.

    `vnet_hdr_sz` is 0, or the size of the headers (10 or more); `tso` and `uso` say that the other end takes super-packets of TCP
    and of UDP and may send them.
    """
    if vnet_hdr_sz and vnet_hdr_sz < VIRTIO_NET_HDR_SIZE:
        raise ValueError(f"tun: a virtio_net_hdr has {VIRTIO_NET_HDR_SIZE} bytes at least, not {vnet_hdr_sz}")
    dev = NetDevice(name, TunOps(io, tap, vnet_hdr_sz))
    dev.features = NETIF_F_SG | NETIF_F_GRO
    if vnet_hdr_sz:
        dev.features |= NETIF_F_HW_CSUM | NETIF_F_RXCSUM
        if tso:
            dev.features |= NETIF_F_TSO
        if uso:
            dev.features |= NETIF_F_GSO_UDP_L4
    if tap:
        dev.flags = IFF_BROADCAST | IFF_MULTICAST
        dev.dev_addr = eth_random_addr(net.kernel.random("mac").get_random_bytes(6))
    else:
        dev.type = ARPHRD_NONE
        dev.flags = IFF_POINTOPOINT | IFF_NOARP | IFF_MULTICAST
        dev.hard_header_len = 0
        dev.addr_len = 0
        dev.broadcast = 0
    dev.mtu = mtu
    dev.tx_queue_len = 500  # TUN_READQ_SIZE
    err = dev_core.register_netdevice(net, dev)
    if err:
        raise ValueError(f"tun: device name {name!r} is taken or not valid ({err})")
    return dev
