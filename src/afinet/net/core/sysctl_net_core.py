"""net/core/sysctl_net_core.c: /proc/sys/net/core.

Linux keeps rmem_*, wmem_*, netdev_*, max_skb_frags and default_qdisc once for the machine; here every namespace has its own, and
may write them.

Left out: flow limits, RPS, busy polling, BPF's settings, netdev_rss_key: nothing in the stack would read them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.kernel.sysctl import CtlString, CtlTable, register_sysctl
from afinet.net.core.net_namespace import PernetOperations, register_pernet_subsys
from afinet.net.core.sock import SOCK_MIN_RCVBUF, SOCK_MIN_SNDBUF
from afinet.uapi.errno import ENOENT

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net


class DefaultQdiscCtl(CtlString):
    """set_default_qdisc: a qdisc that is registered, else -ENOENT."""

    __slots__ = ("net",)

    def __init__(self, net: Net) -> None:
        super().__init__("default_qdisc", net.core, "sysctl_default_qdisc")
        self.net: Net = net

    def write(self, text: str) -> int:
        name = text.strip()
        if name not in self.net.kernel.qdisc_base:
            return -ENOENT
        self.net.core.sysctl_default_qdisc = name
        return 0


def net_core_table(net: Net) -> list[CtlTable]:
    core = net.core
    return [
        CtlTable("somaxconn", core, "sysctl_somaxconn", 0),
        CtlTable("rmem_default", core, "sysctl_rmem_default", SOCK_MIN_RCVBUF),
        CtlTable("rmem_max", core, "sysctl_rmem_max", SOCK_MIN_RCVBUF),
        CtlTable("wmem_default", core, "sysctl_wmem_default", SOCK_MIN_SNDBUF),
        CtlTable("wmem_max", core, "sysctl_wmem_max", SOCK_MIN_SNDBUF),
        CtlTable("optmem_max", core, "sysctl_optmem_max", 0),
        CtlTable("netdev_max_backlog", core, "sysctl_netdev_max_backlog"),
        CtlTable("netdev_budget", core, "sysctl_netdev_budget"),
        CtlTable("txrehash", core, "sysctl_txrehash", 0, 1),
        DefaultQdiscCtl(net),
    ]


class SysctlCoreOps(PernetOperations):
    """sysctl_core_ops."""

    __slots__ = ()

    def init(self, net: Net) -> int:
        register_sysctl(net.sysctl_table, "net/core", net_core_table(net))
        return 0


def sysctl_core_init(kernel: Kernel) -> int:
    return register_pernet_subsys(kernel, SysctlCoreOps())
