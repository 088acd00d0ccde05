"""The host's side of a TUN or TAP device: the descriptor of /dev/net/tun as a `TunIO`, and what the host is asked about it.

`open_tun` attaches to a device of that name, as it stands (TUN or TAP, persistent or not), or makes a new one, which lives as long
as its descriptor; `adopt_tun` takes over a descriptor that is attached already, and asks for its flags (TUNGETIFF). Either way
each packet has a virtio_net_hdr, little-endian, of 10 bytes, and the kernel is told that it may leave checksums and segmentation
to us (TUNSETOFFLOAD), as far as it knows of it. A device that was made by `open_tun` is down and has no address: tools/up.py sees
to that.

Errors are HostError: one line that names the remedy.
"""

from __future__ import annotations

import errno
import fcntl
import struct

from afinet.drivers.tun import TUN_TX_QUEUE_LEN, TunIO
from afinet.runner import real
from afinet.uapi.virtio_net import VIRTIO_NET_HDR_SIZE

os = real.os
_socket = real._socket
# Bound before the stand-ins for `os` take their places: these two are called for each packet.
_read, _writev = real.os.read, real.os.writev

TUN_DEVICE = "/dev/net/tun"

# linux/if_tun.h
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
TUNGETIFF = 0x800454D2
TUNSETVNETHDRSZ = 0x400454D8
TUNSETVNETLE = 0x400454DC
IFF_TUN = 0x0001
IFF_TAP = 0x0002
IFF_MULTI_QUEUE = 0x0100
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
TUN_F_CSUM = 0x01
TUN_F_TSO4 = 0x02
TUN_F_TSO_ECN = 0x08
TUN_F_USO4 = 0x20
TUN_F_USO6 = 0x40
# What is asked for, the best first. TSO6 is not, until the stack can take it; a kernel of 6.2 or later takes USO only for IPv4 and
# IPv6 together, and what comes as IPv6 is dropped as any other packet of IPv6.
TSO = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN
USO = TUN_F_USO4 | TUN_F_USO6
OFFLOADS = (TSO | USO, TSO, TUN_F_CSUM)

# linux/sockios.h
SIOCGIFFLAGS = 0x8913
SIOCGIFMTU = 0x8921
SIOCSIFTXQLEN = 0x8943
IFF_UP = 1

IFREQ_FLAGS = struct.Struct("16sH22x")
IFREQ_INT = struct.Struct("16si20x")
IFNAMSIZ = 16

# The longest read: a header, a link header, 64 KB.
READ_SIZE = VIRTIO_NET_HDR_SIZE + 14 + 4 + 65536


class HostError(Exception):
    """What the host would not do. One line, which names the remedy."""


class HostTun(TunIO):
    """A descriptor of /dev/net/tun. `name` and `tap` tell which device it is, `vnet_hdr_sz` what is in front of each packet."""

    def __init__(self, fd: int, name: str, tap: bool, offload: bool = True) -> None:
        super().__init__()
        self.fd = fd
        self.name = name
        self.tap = tap
        self.vnet_hdr_sz = VIRTIO_NET_HDR_SIZE
        self.tso = False
        self.uso = False
        self.gone = 0  # errno, once the device has been taken away
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VIRTIO_NET_HDR_SIZE))
        fcntl.ioctl(fd, TUNSETVNETLE, struct.pack("i", 1))
        for offloads in OFFLOADS if offload else (0,):
            try:
                fcntl.ioctl(fd, TUNSETOFFLOAD, offloads)
            except OSError:
                continue
            self.tso = offloads & TUN_F_TSO4 != 0
            self.uso = offloads & TUN_F_USO4 != 0
            break

    def read(self) -> bytes | None:
        # Interpreted on purpose: between two packets of a stream the interpreter looks for signals and other threads here.
        try:
            return _read(self.fd, READ_SIZE)
        except BlockingIOError:
            return None
        except OSError as e:
            # EBADFD: the device was deleted. Nothing will come any more; poll() says POLLERR.
            self.gone = e.errno or errno.EIO
            return None

    def writev(self, pieces: list[bytes]) -> int:
        try:
            _writev(self.fd, pieces)
        except OSError as e:
            return -(e.errno or errno.EIO)
        return 0

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _ifreq_name(name: str) -> bytes:
    raw = os.fsencode(name)
    if not 0 < len(raw) < IFNAMSIZ or b"/" in raw or raw in (b".", b".."):
        raise HostError(f"{name!r} is no name for a network device: up to 15 bytes, without '/'")
    return raw


def _ask(name: str, request: int, value: int = 0) -> int:
    """An interface ioctl on the host, in the calling process's network namespace."""
    s = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        answer = fcntl.ioctl(s.fileno(), request, IFREQ_INT.pack(_ifreq_name(name), value))
    finally:
        s.close()
    return int(IFREQ_INT.unpack(answer)[1])


def device_exists(name: str) -> bool:
    """Whether the host has a device of that name."""
    try:
        _ask(name, SIOCGIFFLAGS)
    except OSError:
        return False
    return True


def device_is_up(name: str) -> bool:
    return _ask(name, SIOCGIFFLAGS) & IFF_UP != 0


def device_mtu(name: str) -> int:
    return _ask(name, SIOCGIFMTU)


def set_tx_queue_len(name: str, length: int = TUN_TX_QUEUE_LEN) -> bool:
    """How many packets may wait for us to read them. False without the right to say so."""
    try:
        _ask(name, SIOCSIFTXQLEN, length)
    except OSError:
        return False
    return True


def open_tun(name: str, tap: bool = False) -> tuple[HostTun, bool]:
    """(attached to the TUN, or TAP, device `name`; whether it was made for it). `name` may be a template: "tun%d"."""
    raw = _ifreq_name(name)
    existed = device_exists(name)
    try:
        fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise HostError(f"no right to open {TUN_DEVICE}: run as root, or have root allow it (chmod 666 {TUN_DEVICE})") from None
    except OSError as e:
        raise HostError(f"{TUN_DEVICE}: {e.strerror}: load the module (modprobe tun), or give the container the device") from None
    flags = (IFF_TAP if tap else IFF_TUN) | IFF_NO_PI | IFF_VNET_HDR
    try:
        answer = fcntl.ioctl(fd, TUNSETIFF, IFREQ_FLAGS.pack(raw, flags))
    except OSError as e:
        os.close(fd)
        raise HostError(_refused(name, tap, existed, e)) from None
    found = os.fsdecode(IFREQ_FLAGS.unpack(answer)[0].rstrip(b"\0"))
    io = HostTun(fd, found, tap)
    set_tx_queue_len(found)
    return io, not existed


def _refused(name: str, tap: bool, existed: bool, error: OSError) -> str:
    kind, other = ("TAP", "TUN") if tap else ("TUN", "TAP")
    if error.errno == errno.EBUSY:
        return f"{name} is in use by another program: one at a time can be attached to it"
    if error.errno == errno.EINVAL and existed:
        hint = "leave --tap out" if tap else "give --tap"
        return f"{name} is in use as another kind of device: if it is a {other} device, {hint}; else choose another name"
    if error.errno == errno.EPERM:
        if existed:
            return f"no right to attach to {name}: run as root, or as the user it was made for (ip tuntap add {name} ... user USER)"
        return (
            f"no right to make a {kind} device: run as root, or inside `unshare -Urn`, "
            f"or have root make it (ip tuntap add {name} mode {kind.lower()} user USER)"
        )
    return f"{name}: cannot make or attach to a {kind} device: {error.strerror}"


def adopt_tun(fd: int, offload: bool = True) -> HostTun:
    """Take over a descriptor that is attached to a device, such as one that another process has passed on. Without `offload` each
    packet is read as it would be on a cable: of the MTU's size, its checksum in it."""
    try:
        answer = fcntl.ioctl(fd, TUNGETIFF, IFREQ_FLAGS.pack(b"", 0))
    except OSError as e:
        raise HostError(f"descriptor {fd} is not attached to a TUN or TAP device ({e.strerror})") from None
    raw, flags = IFREQ_FLAGS.unpack(answer)
    name = os.fsdecode(raw.rstrip(b"\0"))
    if not flags & IFF_NO_PI or not flags & IFF_VNET_HDR:
        raise HostError(f"descriptor {fd} of {name} was attached without IFF_NO_PI and IFF_VNET_HDR: attach it with both")
    return HostTun(fd, name, flags & IFF_TAP != 0, offload)
