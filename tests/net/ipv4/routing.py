"""A Kernel with devices, addresses and routes, and no transport protocols."""

from __future__ import annotations

from afinet.drivers.loopback import loopback_init
from afinet.drivers.veth import veth_newlink
from afinet.kernel.machine import Kernel
from afinet.net.core import dev as dev_core
from afinet.net.core import neighbour
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import Net, PernetOperations, copy_net_ns, register_pernet_subsys
from afinet.net.core.netdevice import NetDevice, NetDeviceOps
from afinet.net.core.skbuff import SkBuff, alloc_skb, consume_skb
from afinet.net.ipv4 import arp, devinet, icmp, ip_output, route
from afinet.net.ipv4.netns import NetnsIpv4
from afinet.net.sched.sch_fifo import pktsched_init
from afinet.sim import iproute
from afinet.uapi.if_ether import ETH_P_IP
from afinet.wire import ip
from tests.leaks import watch


class Ipv4Ops(PernetOperations):
    """What af_inet registers first."""

    def init(self, net: Net) -> int:
        net.ipv4 = NetnsIpv4(net)
        return 0


class Sink(NetDeviceOps):
    """A device that swallows."""

    def ndo_start_xmit(self, skb: SkBuff, dev: NetDevice) -> int:
        dev.stats.tx_packets += 1
        consume_skb(skb)
        return 0


def boot(seed: bytes = b"routing") -> Net:
    """A namespace with lo up."""
    kernel = watch(Kernel("test", seed))
    assert dev_core.net_dev_init(kernel) == 0
    assert neighbour.neigh_init(kernel) == 0
    register_pernet_subsys(kernel, Ipv4Ops())
    arp.arp_init(kernel)
    ip_output.ip_init(kernel)
    icmp.icmp_init(kernel)
    assert loopback_init(kernel) == 0
    assert pktsched_init(kernel) == 0
    net = copy_net_ns(kernel)
    kernel.init_net = net
    assert net.loopback_dev is not None
    assert dev_core.dev_open(net.loopback_dev) == 0
    return net


def add_dev(net: Net, name: str, address: str = "", up: bool = True) -> NetDevice:
    """A device that swallows what it gets, with an address in the form 10.0.0.1/24."""
    dev = NetDevice(name, Sink())
    dev.dev_addr = 0x020000000000 + len(net.dev_by_index) + 1
    dev.flags |= 0x1002  # IFF_BROADCAST, IFF_MULTICAST
    assert dev_core.register_netdevice(net, dev) == 0
    if up:
        assert dev_core.dev_open(dev) == 0
    if address:
        assert add_addr(dev, address) == 0
    return dev


def add_veth(net: Net, net2: Net, name: str) -> tuple[NetDevice, NetDevice]:
    a, b = veth_newlink(net, name, net2, name)
    assert dev_core.dev_open(a) == 0 and dev_core.dev_open(b) == 0
    return a, b


def add_addr(dev: NetDevice, address: str, scope: int = 0, brd: str = "") -> int:
    addr, _, plen = address.partition("/")
    return devinet.inet_addr_add(dev, A(addr), int(plen), broadcast=A(brd) if brd else 0, scope=scope)


def del_addr(dev: NetDevice, address: str) -> int:
    addr, _, plen = address.partition("/")
    return devinet.inet_addr_del(dev, A(addr), int(plen))


def A(text: str) -> int:
    """The integer of a dotted address."""
    a, b, c, d = text.split(".")
    return int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)


def S(addr: int) -> str:
    return f"{addr >> 24}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


def ip_route_show(net: Net, table: int) -> list[str]:
    """The routes of a table in the words of `ip route show`."""
    return iproute.route_show(net, table)


def route_get(net: Net, daddr: str, saddr: str = "", oif: int = 0) -> tuple[int, str]:
    """(0 or -errno, "device source gateway")."""
    fl4 = Flowi4(A(daddr), A(saddr) if saddr else 0, oif)
    err, rt = route.ip_route_output_flow(net, fl4, None)
    if rt is None:
        return err, ""
    return 0, f"{rt.dev.name} {S(fl4.saddr)} {S(rt.rt_gw4) if rt.rt_uses_gateway else '-'}"


def packet(
    dev: NetDevice, saddr: str, daddr: str, proto: int = 17, tos: int = 0, sport: int = 0, dport: int = 0
) -> SkBuff:
    """A received packet, as ip_rcv hands it to the input lookup."""
    ports = sport.to_bytes(2, "big") + dport.to_bytes(2, "big")
    skb = alloc_skb(ip.emit(tos, 28, 0, 0, 64, proto, A(saddr), A(daddr)) + ports + bytes(4))
    skb.transport_header = 20
    skb.protocol = ETH_P_IP
    skb.dev = dev
    return skb


def route_input(dev: NetDevice, saddr: str, daddr: str, tos: int = 0) -> tuple[int, route.Rtable | None]:
    """(drop reason, route)."""
    skb = packet(dev, saddr, daddr, tos=tos)
    reason = route.ip_route_input_noref(skb, A(daddr), A(saddr), tos, dev)
    rt = skb.dst
    assert rt is None or isinstance(rt, route.Rtable)
    return reason, rt
