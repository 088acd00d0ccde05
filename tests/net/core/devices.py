"""A Kernel with devices and no protocols, for the tests of what lies below IP."""

from __future__ import annotations

from afinet.drivers.loopback import loopback_init
from afinet.drivers.veth import Wire, veth_newlink
from afinet.kernel.machine import Kernel
from afinet.net.core import dev as dev_core
from afinet.net.core import neighbour
from afinet.net.core.net_namespace import Net, copy_net_ns
from afinet.net.core.netdevice import NETDEV_TX_BUSY, NETDEV_TX_OK, NetDevice, NetDeviceOps, PacketType
from afinet.net.core.skbuff import SkBuff, alloc_skb, consume_skb, skb_tobytes
from afinet.net.sched.sch_fifo import pktsched_init
from afinet.uapi.if_ether import ETH_P_ALL
from afinet.wire import ethernet
from tests.leaks import watch

PROTO = 0x88B5  # for local experiments (IEEE 802)


def boot(seed: bytes = b"") -> Kernel:
    """Devices, neighbours and qdiscs, and the first namespace."""
    kernel = watch(Kernel("test", seed))
    assert dev_core.net_dev_init(kernel) == 0
    assert neighbour.neigh_init(kernel) == 0
    assert loopback_init(kernel) == 0
    assert pktsched_init(kernel) == 0
    kernel.init_net = copy_net_ns(kernel)
    return kernel


def init_net(kernel: Kernel) -> Net:
    """The first namespace."""
    net = kernel.init_net
    assert net is not None
    return net


class Handler(PacketType):
    """Takes every packet of its type, and remembers (device, pkt_type, payload)."""

    def __init__(self, type: int = PROTO, dev: NetDevice | None = None) -> None:
        super().__init__(type, dev)
        self.got: list[tuple[str, int, bytes]] = []

    def func(self, skb: SkBuff, dev: NetDevice) -> int:
        self.got.append((dev.name, skb.pkt_type, skb_tobytes(skb)))
        consume_skb(skb)
        return 0


class Tap(PacketType):
    """Sees every frame: (device, pkt_type, frame)."""

    def __init__(self, dev: NetDevice | None = None) -> None:
        super().__init__(ETH_P_ALL, dev)
        self.got: list[tuple[str, int, bytes]] = []

    def func(self, skb: SkBuff, dev: NetDevice) -> int:
        frame = skb.head[skb.mac_header : skb.tail] + b"".join(skb.frags or [])
        self.got.append((dev.name, skb.pkt_type, frame))
        return 0


class Sink(NetDeviceOps):
    """A driver that keeps what it is given, or refuses it while `busy`."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.when: list[int] = []
        self.busy = False

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice) -> int:
        if self.busy:
            return NETDEV_TX_BUSY
        self.sent.append(skb_tobytes(skb))
        assert dev.nd_net is not None
        self.when.append(dev.nd_net.kernel.now)
        consume_skb(skb)
        return NETDEV_TX_OK


class RecordingWire(Wire):
    def __init__(self) -> None:
        self.sent: list[SkBuff] = []

    def transmit(self, skb: SkBuff, dev: NetDevice) -> int:
        self.sent.append(skb)
        return NETDEV_TX_OK


def sink_device(net: Net, name: str = "sink0") -> tuple[NetDevice, Sink]:
    """An Ethernet device, up, whose packets end in a Sink."""
    ops = Sink()
    dev = NetDevice(name, ops)
    dev.dev_addr = 0x020000000001
    assert dev_core.register_netdevice(net, dev) == 0
    assert dev_core.dev_open(dev) == 0
    return dev, ops


def veth_pair(kernel: Kernel, up: bool = True) -> tuple[NetDevice, NetDevice]:
    """veth0 and veth1 in a namespace each."""
    a, b = copy_net_ns(kernel, "a"), copy_net_ns(kernel, "b")
    left, right = veth_newlink(a, "veth0", b, "veth1")
    if up:
        assert dev_core.dev_open(left) == 0
        assert dev_core.dev_open(right) == 0
    return left, right


def frame(to: int, payload: bytes, protocol: int = PROTO, source: int = 0x02AA00000001) -> SkBuff:
    skb = alloc_skb(ethernet.emit(to, source, protocol) + payload)
    skb.protocol = protocol
    return skb


def send(dev: NetDevice, to: int, payload: bytes, protocol: int = PROTO) -> int:
    skb = frame(to, payload, protocol, dev.dev_addr)
    skb.dev = dev
    return dev_core.dev_queue_xmit(skb)


def drops(net: Net) -> dict[str, int]:
    """The drop reasons that have been counted."""
    from afinet.net.core.drop_reason import DROP_REASON_NAMES

    return {DROP_REASON_NAMES[i]: n for i, n in enumerate(net.drop_reasons) if n}
