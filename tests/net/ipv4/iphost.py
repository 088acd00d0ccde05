"""One host on a link that carries bare IP packets, for the tests of IPv4: what it is given is put in as received, what it sends is
kept."""

from __future__ import annotations

from afinet.kernel.machine import Kernel
from afinet.net.core import dev as dev_core
from afinet.net.core.drop_reason import DROP_REASON_NAMES
from afinet.net.core.net_namespace import Net
from afinet.net.core.netdevice import NETDEV_TX_OK, NetDevice, NetDeviceOps
from afinet.net.core.skbuff import CHECKSUM_PARTIAL, SkBuff, alloc_skb, consume_skb, skb_tobytes
from afinet.net.ipv4 import devinet
from afinet.net.ipv4.protocol import NetProtocol, inet_add_protocol
from afinet.uapi.if_ import IFF_BROADCAST, IFF_MULTICAST, IFF_NOARP
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.if_packet import PACKET_HOST
from afinet.uapi.snmp import SNMP4_ICMP_LIST, SNMP4_IPSTATS_LIST
from afinet.wire import icmp as wire_icmp
from afinet.wire import ip
from afinet.wire.checksum import ip_compute_csum, ip_fast_csum
from tests.leaks import start_kernel

PROTO = 253  # for experiments (RFC 3692)


def addr(text: str) -> int:
    """A dotted quad as a host-order int."""
    n = 0
    for part in text.split("."):
        n = n << 8 | int(part)
    return n


ME = addr("10.0.0.1")
PEER = addr("10.0.0.2")
FAR = addr("192.0.2.9")


class Link(NetDeviceOps):
    """A driver that keeps the packets it is given."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice) -> int:
        assert skb.ip_summed != CHECKSUM_PARTIAL
        self.sent.append(skb_tobytes(skb))
        consume_skb(skb)
        return NETDEV_TX_OK


class Taker(NetProtocol):
    """A transport protocol that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[SkBuff] = []
        self.errors: list[tuple[int, int, int]] = []

    def handler(self, skb: SkBuff) -> int:
        self.got.append(skb)
        return 0

    def err_handler(self, skb: SkBuff, info: int) -> int:
        th = skb.transport_header
        self.errors.append((skb.head[th], skb.head[th + 1], info))
        return 0


class Host:
    """`dev` is 10.0.0.1/24 on `link`; a second device, `far`, is 192.0.2.1/24 on `farlink`."""

    def __init__(self, seed: bytes = b"", mtu: int = 1500, hz: int = 1000) -> None:
        self.kernel: Kernel = start_kernel("test", seed, hz)
        net = self.kernel.init_net
        assert net is not None
        self.net: Net = net
        lo = net.loopback_dev
        assert lo is not None
        assert dev_core.dev_open(lo) == 0
        self.dev, self.link = self.device("wire0", mtu)
        assert devinet.inet_addr_add(self.dev, ME, 24, broadcast=ME | 0xFF) == 0
        self.far, self.farlink = self.device("wire1", mtu)
        assert devinet.inet_addr_add(self.far, addr("192.0.2.1"), 24) == 0
        self.taker = Taker()
        inet_add_protocol(self.kernel, self.taker, PROTO)

    def device(self, name: str, mtu: int) -> tuple[NetDevice, Link]:
        link = Link()
        dev = NetDevice(name, link)
        dev.flags = IFF_NOARP | IFF_BROADCAST | IFF_MULTICAST
        dev.hard_header_len = 0
        dev.mtu = mtu
        assert dev_core.register_netdevice(self.net, dev) == 0
        assert dev_core.dev_open(dev) == 0
        return dev, link

    def receive(self, packet: bytes, pkt_type: int = PACKET_HOST, dev: NetDevice | None = None) -> None:
        """The packet arrives, and everything that follows from it happens."""
        skb = alloc_skb(packet)
        skb.dev = dev or self.dev
        skb.protocol = ETH_P_IP
        skb.pkt_type = pkt_type
        dev_core.netif_rx(skb)
        self.kernel.run(self.kernel.now)

    def sleep(self, ns: int) -> None:
        """Let time pass, timer by timer."""
        end = self.kernel.now + ns
        while True:
            when = self.kernel.run(self.kernel.now)
            if when > end:
                break
            self.kernel.run(when)
        self.kernel.run(end)

    def drops(self) -> dict[str, int]:
        """Drop reasons counted so far."""
        return {DROP_REASON_NAMES[i]: n for i, n in enumerate(self.net.drop_reasons) if n}

    def ip_stats(self) -> dict[str, int]:
        return {SNMP4_IPSTATS_LIST[i]: n for i, n in enumerate(self.net.ip_statistics) if n}

    def icmp_stats(self) -> dict[str, int]:
        return {SNMP4_ICMP_LIST[i]: n for i, n in enumerate(self.net.icmp_statistics) if n}

    def sent(self) -> list[bytes]:
        """What went out on the first link since the last time; each with a right IP header."""
        out = self.link.sent
        self.link.sent = []
        for packet in out:
            check_header(packet)
        return out


def check_header(packet: bytes) -> None:
    ihl = packet[0] & 15
    assert packet[0] >> 4 == 4
    assert ihl >= 5
    assert ip_fast_csum(packet, 0, ihl) == 0
    assert int.from_bytes(packet[2:4], "big") == len(packet)


def packet(
    payload: bytes = b"x" * 8,
    protocol: int = PROTO,
    saddr: int = PEER,
    daddr: int = ME,
    ttl: int = 64,
    options: bytes = b"",
    frag_off: int = 0,
    id: int = 1,
    tos: int = 0,
) -> bytes:
    """An IP packet."""
    length = 20 + len(options) + len(payload)
    return ip.emit(tos, length, id, frag_off, ttl, protocol, saddr, daddr, options) + payload


def icmp_packet(type: int, code: int, rest: int, payload: bytes, saddr: int = PEER, daddr: int = ME, **kw: object) -> bytes:
    return packet(wire_icmp.emit(type, code, rest, payload), 1, saddr, daddr, **kw)  # type: ignore[arg-type]


def parse_icmp(data: bytes) -> tuple[int, int, int, bytes]:
    """(type, code, rest, payload) of an ICMP packet with a right checksum."""
    check_header(data)
    off = (data[0] & 15) * 4
    assert data[9] == 1
    assert ip_compute_csum(data, off, len(data)) == 0
    type, code, _, rest = wire_icmp.parse(data, off)
    return type, code, rest, data[off + 8 :]
