"""net/core/net_namespace.c: struct net, one network namespace, and the pernet operations that fill and empty it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet._mypyc import mypyc_attr
from afinet.net.core.drop_reason import DROP_REASON_NAMES
from afinet.uapi.snmp import (
    SNMP4_ICMP_LIST,
    SNMP4_IPSTATS_LIST,
    SNMP4_NET_LIST,
    SNMP4_TCP_LIST,
    SNMP4_UDP_LIST,
)

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.kernel.sysctl import CtlTable
    from afinet.net.core.fib_rules import FibRulesOps
    from afinet.net.core.neighbour import NeighTable
    from afinet.net.core.netdevice import NetDevice
    from afinet.net.ipv4.netns import NetnsIpv4


@mypyc_attr(allow_interpreted_subclasses=True)
class PernetOperations:
    """struct pernet_operations."""

    __slots__ = ()

    def init(self, net: Net) -> int:
        """Fill `net`. 0 or -errno."""
        return 0

    def exit(self, net: Net) -> None:
        """Empty `net` of what `init` put there."""


class NetnsCore:
    """struct netns_core: the sysctls of net/core that a namespace has to itself, and those Linux keeps global.

    Defaults are those of a 6.18 x86-64 machine with 4 KiB pages.
    """

    __slots__ = (
        "sysctl_default_qdisc",
        "sysctl_netdev_budget",
        "sysctl_netdev_max_backlog",
        "sysctl_optmem_max",
        "sysctl_rmem_default",
        "sysctl_rmem_max",
        "sysctl_somaxconn",
        "sysctl_txrehash",
        "sysctl_wmem_default",
        "sysctl_wmem_max",
    )

    def __init__(self) -> None:
        self.sysctl_somaxconn: int = 4096
        self.sysctl_rmem_default: int = 212992
        self.sysctl_rmem_max: int = 4 << 20
        self.sysctl_wmem_default: int = 212992
        self.sysctl_wmem_max: int = 4 << 20
        self.sysctl_optmem_max: int = 128 << 10
        self.sysctl_netdev_max_backlog: int = 1000
        self.sysctl_netdev_budget: int = 300
        self.sysctl_txrehash: int = 1
        self.sysctl_default_qdisc: str = "pfifo_fast"


class Net:
    """struct net: everything one namespace has to itself.

    The MIB arrays are indexed by the constants of uapi/snmp.py: ``net.net_statistics[LINUX_MIB_TCPTIMEOUTS] += 1``.
    """

    __slots__ = (
        "arp_tbl",
        "core",
        "dev_by_index",
        "dev_by_name",
        "dev_seq",
        "drop_reasons",
        "icmp_statistics",
        "icmpmsg_in",
        "icmpmsg_out",
        "ip_statistics",
        "ipv4",
        "kernel",
        "loopback_dev",
        "name",
        "net_cookie",
        "net_statistics",
        "rules_ops",
        "sock_inuse",
        "sysctl_table",
        "tcp_statistics",
        "udp_statistics",
    )

    ipv4: NetnsIpv4  # set by af_inet's pernet operations before anything can read it

    def __init__(self, kernel: Kernel, name: str = "") -> None:
        self.kernel: Kernel = kernel
        self.name: str = name
        kernel.net_seq += 1
        self.net_cookie: int = kernel.net_seq
        self.core: NetnsCore = NetnsCore()
        self.sysctl_table: dict[str, CtlTable] = {}
        self.dev_by_index: dict[int, NetDevice] = {}  # in order of registration
        self.dev_by_name: dict[str, NetDevice] = {}
        self.dev_seq: int = 0
        self.loopback_dev: NetDevice | None = None
        self.arp_tbl: NeighTable | None = None
        self.rules_ops: list[FibRulesOps] = []  # policy routing rules, by family
        self.ip_statistics: list[int] = [0] * len(SNMP4_IPSTATS_LIST)
        self.icmp_statistics: list[int] = [0] * len(SNMP4_ICMP_LIST)
        self.icmpmsg_in: dict[int, int] = {}
        self.icmpmsg_out: dict[int, int] = {}
        self.tcp_statistics: list[int] = [0] * len(SNMP4_TCP_LIST)
        self.udp_statistics: list[int] = [0] * len(SNMP4_UDP_LIST)
        self.net_statistics: list[int] = [0] * len(SNMP4_NET_LIST)
        self.drop_reasons: list[int] = [0] * len(DROP_REASON_NAMES)
        self.sock_inuse: dict[str, int] = {}  # socks in use, by protocol name


def register_pernet_subsys(kernel: Kernel, ops: PernetOperations) -> int:
    """Run `ops.init` for each namespace there is and for each to come. 0 or the first -errno."""
    kernel.pernet_list.append(ops)
    for net in kernel.net_list:
        err = ops.init(net)
        if err:
            return err
    return 0


def register_pernet_device(kernel: Kernel, ops: PernetOperations) -> int:
    """The same for operations that make devices: they come after every subsystem, whenever registered, since a device is told to
    subsystems that must have set the namespace up; and they go before them."""
    kernel.pernet_device_list.append(ops)
    for net in kernel.net_list:
        err = ops.init(net)
        if err:
            return err
    return 0


def copy_net_ns(kernel: Kernel, name: str = "") -> Net:
    """A new namespace, set up by every registered subsystem in order of registration (setup_net)."""
    net = Net(kernel, name)
    kernel.net_list.append(net)
    for ops in kernel.pernet_list + kernel.pernet_device_list:
        err = ops.init(net)
        assert err == 0, f"pernet init failed: {err}"
    return net


def cleanup_net(net: Net) -> None:
    """Undo the subsystems in the reverse order and forget the namespace."""
    kernel = net.kernel
    for ops in reversed(kernel.pernet_list + kernel.pernet_device_list):
        ops.exit(net)
    kernel.net_list.remove(net)
