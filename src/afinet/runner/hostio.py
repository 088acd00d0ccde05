"""The host's side of a TUN or TAP device: the descriptor of /dev/net/tun as a `TunIO`, and what the host is asked about it.

`open_tun` attaches to a device of that name (TUN or TAP, persistent or not), or makes a new one, which lives as long as its
descriptor. What a queue of a device is like, IFF_NO_PI and IFF_VNET_HDR, is its attacher's to say: each packet then has a
virtio_net_hdr, little-endian, of 10 bytes, and the kernel is told that it may leave checksums and segmentation to us, as far as
it knows of it (TUNSETOFFLOAD). Only IFF_MULTI_QUEUE is the device's. `adopt_tun` takes over a descriptor that somebody has
attached, and goes by the flags that it was attached with (TUNGETIFF): bare packets too, but not those with IFF_PI's header.

A device that was made is down and has no address; `open_for` gives it one, and looks whether an existing one is fit for use.

Errors are HostError: one line that names the remedy.
"""

from __future__ import annotations

import errno
import fcntl
import struct

from afinet.drivers.tun import TunIO
from afinet.runner import real
from afinet.runner.boot import HostError, quad
from afinet.runner.hostlink import configure_new, host_has, ifreq_name, link_info, set_tx_queue_len
from afinet.uapi.virtio_net import VIRTIO_NET_HDR_SIZE

os = real.os
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

IFREQ_FLAGS = struct.Struct("16sH22x")

# The longest read: a header, a link header, 64 KB.
READ_SIZE = VIRTIO_NET_HDR_SIZE + 14 + 4 + 65536


class HostTun(TunIO):
    """A descriptor of /dev/net/tun. `name` and `tap` tell which device it is, `vnet_hdr_sz` what is in front of each packet."""

    def __init__(self, fd: int, name: str, tap: bool, vnet_hdr: bool = True, offload: bool = True) -> None:
        super().__init__()
        self.fd = fd
        self.name = name
        self.tap = tap
        self.vnet_hdr_sz = VIRTIO_NET_HDR_SIZE if vnet_hdr else 0
        self.tso = False
        self.uso = False
        self.gone = 0  # errno, once the device has been taken away
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        if not vnet_hdr:
            # What another has been offered before must not come as it cannot be told.
            fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
            return
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

    def mtu(self) -> int:
        """The device's own."""
        found = link_info(self.name)
        return found.mtu if found is not None else 1500

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


def open_tun(name: str, tap: bool = False) -> tuple[HostTun, bool]:
    """(attached to the TUN, or TAP, device `name`; whether it was made for it). `name` may be a template: "tun%d"."""
    raw = ifreq_name(name)
    found = link_info(name)
    kind, other = ("TAP", "TUN") if tap else ("TUN", "TAP")
    if found is not None:
        if found.kind != "tun":
            raise HostError(f"{name} is a device of another kind, no {kind} device: choose another name")
        if found.tap != tap:
            raise HostError(f"{name} is a {other} device: {'leave --tap out' if tap else 'give --tap'}, or choose another name")
        if found.multi_queue and found.queues:
            raise HostError(f"{name} is in use by another program, which would get some of the packets: choose another name")
    try:
        fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise HostError(f"no right to open {TUN_DEVICE}: run as root, or have root allow it (chmod 666 {TUN_DEVICE})") from None
    except OSError as e:
        raise HostError(f"{TUN_DEVICE}: {e.strerror}: load the module (modprobe tun), or give the container the device") from None
    flags = (IFF_TAP if tap else IFF_TUN) | IFF_NO_PI | IFF_VNET_HDR
    if found is not None and found.multi_queue:
        flags |= IFF_MULTI_QUEUE
    try:
        answer = fcntl.ioctl(fd, TUNSETIFF, IFREQ_FLAGS.pack(raw, flags))
    except OSError as e:
        os.close(fd)
        raise HostError(_refused(name, kind, found is not None, e)) from None
    io = HostTun(fd, os.fsdecode(IFREQ_FLAGS.unpack(answer)[0].rstrip(b"\0")), tap)
    set_tx_queue_len(io.name)
    return io, found is None


def _refused(name: str, kind: str, existed: bool, error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return f"{name} is in use by another program: one at a time can be attached to it"
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
    # TUNGETIFF cannot tell: its IFF_NOFILTER is the same bit. A device of another network namespace cannot be asked either.
    found = link_info(name)
    if found is not None and found.pi:
        raise HostError(f"descriptor {fd} of {name} was attached without IFF_NO_PI: attach it with that flag")
    return HostTun(fd, name, flags & IFF_TAP != 0, flags & IFF_VNET_HDR != 0, offload)


def open_for(name: str, tap: bool, local: int, plen: int, gateway: int, mtu: int | None) -> HostTun:
    """Attached to `name`, for a machine that will be `local`/`plen` on it. A new device is given the host's own address and brought
    up; an existing one must be up, and `local` no address of the host's."""
    if host_has(local):
        raise HostError(f"{quad(local)} is an address of this host already: choose another one of its subnet")
    io, created = open_tun(name, tap)
    try:
        if created:
            configure_new(io.name, local, plen, gateway, mtu)
        else:
            found = link_info(io.name)
            if found is None or not found.up:
                raise HostError(f"{io.name} is down: ip link set {io.name} up")
            if mtu is not None and mtu > found.mtu:
                raise HostError(f"the MTU of {io.name} is {found.mtu}: ip link set {io.name} mtu {mtu}, or give --mtu {found.mtu}")
    except BaseException:
        io.close()
        raise
    return io


