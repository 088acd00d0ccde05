"""net/core/dev_ioctl.c: what ioctl() on any socket tells of network devices, and may change about them.

sock_ioctl comes here with what the family does not know. struct ifreq is 40 bytes: a name of 16, then the value.

Left out: SIOCGIFMAP, bonding, wireless, ethtool, MII, time stamping hardware, the private range: -ENOTTY.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.task import ns_capable
from afinet.net.core import dev as dev_mod
from afinet.uapi.capability import CAP_NET_ADMIN
from afinet.uapi.errno import EFAULT, EINVAL, ENODEV, ENOIOCTLCMD, EPERM
from afinet.uapi.if_ import IFNAMSIZ
from afinet.uapi.sockaddr import SIZEOF_IFREQ, get_s32, pack_s32
from afinet.uapi.sockios import (
    SIOCGIFFLAGS,
    SIOCGIFHWADDR,
    SIOCGIFINDEX,
    SIOCGIFMETRIC,
    SIOCGIFMTU,
    SIOCGIFNAME,
    SIOCGIFTXQLEN,
    SIOCSIFFLAGS,
    SIOCSIFMTU,
    SIOCSIFTXQLEN,
)

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice

GETTERS: Final = (SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFMETRIC, SIOCGIFMTU, SIOCGIFTXQLEN)
SETTERS: Final = (SIOCSIFFLAGS, SIOCSIFMTU, SIOCSIFTXQLEN)


def ifr_name(arg: bytes) -> str:
    """The name in a struct ifreq, cut at 15 characters and at an alias's colon (dev_load's idea of a name)."""
    raw = arg[: IFNAMSIZ - 1]
    end = raw.find(b"\0")
    if end >= 0:
        raw = raw[:end]
    return raw.decode("latin-1")


def ifreq(arg: bytes, value: bytes) -> bytes:
    """`arg` with its value replaced."""
    return arg[:IFNAMSIZ] + value + arg[IFNAMSIZ + len(value) : SIZEOF_IFREQ]


def dev_ioctl(net: Net, cmd: int, arg: bytes) -> tuple[int, bytes]:
    """(0 or -errno, the struct ifreq to write back). -ENOIOCTLCMD for a command that is not about devices."""
    if cmd == SIOCGIFNAME:
        return dev_ifname(net, arg)
    if cmd not in GETTERS and cmd not in SETTERS:
        return -ENOIOCTLCMD, b""
    if len(arg) < SIZEOF_IFREQ:
        return -EFAULT, b""
    name = ifr_name(arg).partition(":")[0]
    if cmd in SETTERS and not ns_capable(net.kernel, CAP_NET_ADMIN):
        return -EPERM, b""
    dev = dev_mod.dev_get_by_name(net, name)
    if dev is None:
        return -ENODEV, b""
    if cmd in GETTERS:
        return 0, ifreq(arg, dev_ifsioc_locked(dev, cmd))
    return dev_ifsioc(dev, cmd, arg), arg


def dev_ifname(net: Net, arg: bytes) -> tuple[int, bytes]:
    if len(arg) < SIZEOF_IFREQ:
        return -EFAULT, b""
    dev = dev_mod.dev_get_by_index(net, get_s32(arg, IFNAMSIZ))
    if dev is None:
        return -ENODEV, b""
    name = dev.name.encode("latin-1")[: IFNAMSIZ - 1]
    return 0, name + bytes(IFNAMSIZ - len(name)) + arg[IFNAMSIZ:SIZEOF_IFREQ]


def dev_ifsioc_locked(dev: NetDevice, cmd: int) -> bytes:
    """The value that `cmd` asks for, packed."""
    if cmd == SIOCGIFFLAGS:
        return pack_s32(dev_mod.dev_get_flags(dev))[:2]  # ifr_flags is a short
    if cmd == SIOCGIFHWADDR:
        return dev.type.to_bytes(2, "little") + dev.dev_addr.to_bytes(6, "big") + bytes(8)
    if cmd == SIOCGIFINDEX:
        return pack_s32(dev.ifindex)
    if cmd == SIOCGIFMTU:
        return pack_s32(dev.mtu)
    if cmd == SIOCGIFTXQLEN:
        return pack_s32(dev.tx_queue_len)
    return pack_s32(0)  # SIOCGIFMETRIC: nothing has one


def dev_ifsioc(dev: NetDevice, cmd: int, arg: bytes) -> int:
    value = get_s32(arg, IFNAMSIZ)
    if cmd == SIOCSIFFLAGS:
        return dev_mod.dev_change_flags(dev, value & 0xFFFF)
    if cmd == SIOCSIFMTU:
        return dev_mod.dev_set_mtu(dev, value)
    if value < 0:
        return -EINVAL
    dev.tx_queue_len = value
    return 0
