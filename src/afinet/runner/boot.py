"""What a machine is given before its programs start: `lo`, a device over an I/O object, an address, routes, sysctls.

For the hosts of a Network (sim/host.py), for tools/up.py and for aio.py. A mistake is a SetUpError, one line that names the remedy.
"""

from __future__ import annotations

from afinet.drivers.tun import TunIO, tun_newlink
from afinet.init.main import start_kernel
from afinet.kernel.machine import Kernel
from afinet.kernel.sysctl import CtlTable, sysctl_path, sysctl_read, sysctl_write
from afinet.net.core.dev import dev_open
from afinet.net.core.net_namespace import Net
from afinet.net.core.netdevice import NetDevice
from afinet.net.ipv4.devinet import inet_addr_add
from afinet.net.ipv4.fib_frontend import ip_route_add
from afinet.runner import real

# (destination, prefix length, gateway or 0 for neighbours)
Route = tuple[int, int, int]


class SetUpError(ValueError):
    """What the machine cannot be told. One line, which names the remedy."""


class HostError(Exception):
    """What the host would not do. One line, which names the remedy."""


def quad(addr: int) -> str:
    """An address as people read it."""
    return real._socket.inet_ntoa(addr.to_bytes(4, "big"))


def boot(hostname: str = "", seed: bytes = b"", hz: int = 1000) -> tuple[Kernel, Net]:
    """A machine with `lo` up, and nothing else; without a seed, with the host's own chance, and without a name with its name."""
    kernel = start_kernel(hostname or real._socket.gethostname(), seed or real.os.urandom(32), hz)
    net = kernel.init_net
    assert net is not None and net.loopback_dev is not None
    dev_open(net.loopback_dev)
    return kernel, net


def plug(
    net: Net, name: str, io: TunIO, tap: bool, mtu: int, vnet_hdr_sz: int = 0, tso: bool = False, uso: bool = False
) -> NetDevice:
    """A device over `io`, up."""
    try:
        dev = tun_newlink(net, name, io, tap, vnet_hdr_sz, tso, mtu, uso)
    except ValueError as e:
        raise SetUpError(str(e)) from None
    dev_open(dev)
    return dev


def sysctl(net: Net, name: str, value: object = None) -> str:
    """Read /proc/sys, or write it when a value is given. The text that is there then. A list or tuple is written as a vector."""
    tables = (net.sysctl_table, net.kernel.sysctl_table)
    table = next((t for t in tables if sysctl_path(name) in t), None)
    if table is None:
        raise SetUpError(f"no sysctl {name!r}{_nearest(name, tables)}")
    if value is not None:
        text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(int(value) if value is True else value)
        err = sysctl_write(table, name, text)
        if err:
            raise SetUpError(f"sysctl {name} takes no {text!r} (it is {sysctl_read(table, name)!r} now)")
    now = sysctl_read(table, name)
    return now if isinstance(now, str) else ""


def _nearest(name: str, tables: tuple[dict[str, CtlTable], ...]) -> str:
    import difflib

    known = [path for table in tables for path in table]
    found = difflib.get_close_matches(sysctl_path(name), known, 1)
    return f": did you mean {found[0].replace('/', '.')!r}?" if found else ""


def configure(dev: NetDevice, local: int, plen: int, routes: list[Route]) -> None:
    """`ip addr add`, and `ip route add` for each route."""
    strerror = real.os.strerror
    net = dev.nd_net
    assert net is not None
    err = inet_addr_add(dev, local, plen, broadcast=local | 0xFFFFFFFF >> plen if plen < 31 else 0)
    if err:
        raise SetUpError(f"address {quad(local)}/{plen}: not one for a device ({strerror(-err)})")
    for destination, length, via in routes:
        err = ip_route_add(net, destination, length, via, dev.name, onlink=plen == 32)
        if err:
            way = f"via {quad(via)}: is that a neighbour's address?" if via else f"on {dev.name}"
            raise SetUpError(f"no route to {quad(destination)}/{length} {way} ({strerror(-err)})")
