"""A host with a TUN device that takes in packets by the batch, and what goes up its stack from there."""

from __future__ import annotations

from afinet.drivers.tun import TunIO, tun_newlink, tun_poll
from afinet.net.core import dev as dev_core
from afinet.net.core import gso
from afinet.net.core.netdevice import NETIF_F_GRO, NetDevice, PacketType
from afinet.net.core.skbuff import SkBuff, skb_clone
from afinet.net.ipv4 import devinet
from afinet.uapi.if_ether import ETH_P_ALL
from afinet.uapi.if_packet import PACKET_OUTGOING
from afinet.wire import ip, tcp, udp
from afinet.wire.checksum import csum_fold, csum_partial, csum_tcpudp_magic, csum_tcpudp_nofold
from tests.leaks import start_kernel
from tests.net.core.devices import init_net
from tests.net.ipv4.iphost import addr

ME, PEER = addr("10.0.0.1"), addr("10.0.0.2")
ACK, PSH, FIN, SYN, RST, URG, ECE, CWR = 0x10, 0x08, 0x01, 0x02, 0x04, 0x20, 0x40, 0x80
STAMP = bytes.fromhex("0101080a0000000100000002")


def segment(
    seq: int,
    data: bytes = b"",
    flags: int = ACK,
    *,
    ack: int = 7,
    window: int = 500,
    options: bytes = b"",
    sport: int = 1,
    dport: int = 2,
    id: int = 1,
    tos: int = 0,
    ttl: int = 64,
    frag: int = ip.IP_DF,
    ip_options: bytes = b"",
    saddr: int = PEER,
    wrong: int = 0,
) -> bytes:
    """A TCP segment for this host; `wrong` is added to its checksum."""
    length = 20 + len(options) + len(data)
    sum = csum_partial(data, 0, len(data), csum_tcpudp_nofold(saddr, ME, length, 6, wrong))
    header = tcp.emit_csum(sport, dport, seq, ack, flags, window, 0, options, sum)
    return ip.emit(tos, 20 + len(ip_options) + length, id, frag, ttl, 6, saddr, ME, ip_options) + header + data


def datagram(
    data: bytes, *, sport: int = 1, dport: int = 2, id: int = 1, ttl: int = 64, tos: int = 0, check: bool = True, pad: int = 0
) -> bytes:
    """A datagram for this host; `pad` is added to what its header says of its length."""
    length = 8 + len(data)
    sum = csum_partial(data, 0, len(data), csum_tcpudp_nofold(PEER, ME, length, 17, 0))
    header = udp.emit_csum(sport, dport, length + pad, sum) if check else udp.emit(sport, dport, length, 0)
    return ip.emit(tos, 20 + length, id, ip.IP_DF, ttl, 17, PEER, ME) + header + data


def train(n: int, size: int = 1000, seq: int = 1000, first_id: int = 1, last: int = ACK, **kw: int) -> list[bytes]:
    """`n` full segments of a stream."""
    return [
        segment(seq + i * size & 0xFFFFFFFF, bytes([i & 0xFF]) * size, last if i == n - 1 else ACK, id=first_id + i & 0xFFFF, **kw)  # type: ignore[arg-type]
        for i in range(n)
    ]


class _Batch(TunIO):
    def __init__(self) -> None:
        self.incoming: list[bytes] = []
        self.sent: list[bytes] = []

    def read(self) -> bytes | None:
        return self.incoming.pop(0) if self.incoming else None

    def writev(self, pieces: list[bytes]) -> int:
        self.sent.append(b"".join(pieces))
        return 0


class _Tap(PacketType):
    def __init__(self) -> None:
        super().__init__(ETH_P_ALL)
        self.skbs: list[SkBuff] = []

    def func(self, skb: SkBuff, dev: NetDevice) -> int:
        if skb.pkt_type != PACKET_OUTGOING:
            self.skbs.append(skb_clone(skb))
        return 0


class GroHost:
    def __init__(self, tap: bool = False) -> None:
        self.kernel = start_kernel("gro", b"gro")
        self.net = init_net(self.kernel)
        self.io = _Batch()
        self.dev = tun_newlink(self.net, "tun0", self.io, tap, 10, True)
        assert self.dev.features & NETIF_F_GRO
        dev_core.dev_open(self.dev)
        devinet.inet_addr_add(self.dev, ME, 24)
        self.tap = _Tap()
        dev_core.dev_add_pack(self.kernel, self.tap)

    def batch(self, *packets: bytes, vnet: bytes = bytes(10)) -> list[SkBuff]:
        """Take in `packets` in one go: what goes up."""
        self.tap.skbs.clear()
        self.io.incoming.extend(vnet + p for p in packets)
        assert tun_poll(self.dev, len(packets)) == len(packets)
        self.kernel.run(self.kernel.now)
        assert self.kernel.softnet_data is not None and not self.kernel.softnet_data.gro.held
        return self.tap.skbs

    def lengths(self, *packets: bytes) -> list[int]:
        """How many packets on the wire each one that goes up stands for."""
        return [gso.skb_segs(skb) for skb in self.batch(*packets)]

    def frames(self, skbs: list[SkBuff]) -> list[bytes]:
        """What went up, cut again, as a wire would carry it."""
        return [frame for skb in skbs for frame in gso.skb_frames(self.kernel, skb)]


def normal(packet: bytes) -> bytes:
    """The packet with its checksums, once found right, zeroed: in one's complement there are two zeros."""
    ihl = (packet[0] & 15) * 4
    assert csum_fold(csum_partial(packet, 0, ihl, 0)) == 0
    th = packet[ihl:]
    at = 16 if packet[9] == 6 else 6
    assert csum_tcpudp_magic(*ip.parse(packet, 0)[8:], len(th), packet[9], csum_partial(th, 0, len(th), 0)) == 0
    return packet[:10] + bytes(2) + packet[12:ihl] + th[:at] + bytes(2) + th[at + 2 :]
