"""init/main.c: boot a Kernel.

start_kernel calls the init functions of the subsystems in Linux's order (core_initcall, subsys_initcall, fs_initcall there); each
registers what it has for every namespace; the first namespace and the first task are made last. A fresh namespace has `lo`, and
`lo` is down, as in Linux.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.drivers import loopback
from afinet.fs.file import FilesStruct
from afinet.kernel.machine import Kernel
from afinet.kernel.task import Task
from afinet.net import socket
from afinet.net.core import dev, neighbour, sysctl_net_core
from afinet.net.core.net_namespace import copy_net_ns
from afinet.net.ipv4 import af_inet, inet_offload, tcp_offload, udp_offload
from afinet.net.sched import sch_fifo

if TYPE_CHECKING:
    from afinet.kernel.task import Cred
    from afinet.net.core.net_namespace import Net


def start_kernel(hostname: str = "localhost", seed: bytes = b"", hz: int = 1000) -> Kernel:
    """A running machine with its first namespace (`init_net`) and its first task (`init_task`)."""
    kernel = Kernel(hostname, seed, hz)
    check(socket.sock_init(kernel))
    check(sysctl_net_core.sysctl_core_init(kernel))
    check(dev.net_dev_init(kernel))
    check(sch_fifo.pktsched_init(kernel))
    check(neighbour.neigh_init(kernel))
    check(loopback.loopback_init(kernel))
    check(af_inet.inet_init(kernel))
    check(inet_offload.ipv4_offload_init(kernel))
    check(tcp_offload.tcpv4_offload_init(kernel))
    check(udp_offload.udpv4_offload_init(kernel))
    kernel.init_net = copy_net_ns(kernel)
    kernel.init_task = new_task(kernel, kernel.init_net, "init", None)
    return kernel


def check(err: int) -> None:
    assert err == 0, f"boot failed: {err}"


def new_task(kernel: Kernel, net: Net, comm: str, cred: Cred | None) -> Task:
    """A process of its own in `net`, with an empty table of descriptors; `cred` is root's unless given."""
    files = FilesStruct()
    files.count = 1
    return Task(kernel, net, files, comm, cred)
