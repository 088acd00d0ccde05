"""The reference: raw system calls of the running Linux kernel, in two network namespaces of this process's own.

Every call takes integers and bytes and answers as the kernel does: a number, -errno, or a tuple that begins with one. `Namespaces`
makes the topology that all parity programs run on: A and B, `lo` up in both, a veth pair v0 (10.9.0.1/24, in A) and v1
(10.9.0.2/24, in B), and the TAP device t0 (10.8.0.1/24, in A), whose other end is the test. Needs root; nothing outside the new
namespaces is touched, and they end with the process.

The kernel works a packet off before the write to the TAP device returns, so that nothing here waits for an answer. (TAP, not TUN:
its packets lie in page fragments, as those of real devices do, and are charged and coalesced so.)
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import time

from tests.parity.linux_tun import CLONE_NEWNET, counters, drain, tun

LIBC = ctypes.CDLL(None, use_errno=True)
ETHERNET = bytes.fromhex("02000000000a" "02000000000b" "0800")  # what comes in at t0
# What a host's own settings must not decide; afinet_calls.py sets the same.
SYSCTLS = {
    "net.ipv4.ping_group_range": "0 2147483647",
    # Limits on what ICMP says would make the answer depend on what ran before.
    "net.ipv4.icmp_ratelimit": "0",
    "net.ipv4.icmp_msgs_per_sec": "1000000",
    "net.ipv4.icmp_msgs_burst": "1000000",
    "net.ipv4.tcp_congestion_control": "reno",
    "net.ipv4.tcp_comp_sack_nr": "0",  # an ACK is not held back for a twentieth of the round trip
    "net.ipv4.tcp_early_retrans": "0",  # no loss probes: they come a few ms after the last segment
    "net.ipv4.tcp_rmem": "4096 131072 33554432",
    "net.ipv4.tcp_wmem": "4096 16384 4194304",
}


class IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class MsgHdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(IoVec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class PollFd(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]


def _ret(value: int) -> int:
    return value if value >= 0 else -ctypes.get_errno()


def _write(path: str, text: str) -> None:
    with open(path, "w") as f:
        f.write(text)


class Namespaces:
    def __init__(self) -> None:
        self.fds: list[int] = []
        for _ in range(2):
            if LIBC.unshare(CLONE_NEWNET):
                raise PermissionError(ctypes.get_errno(), "cannot make a network namespace (needs root)")
            self.fds.append(os.open("/proc/self/ns/net", os.O_RDONLY))
            # IPv6's own chatter (router solicitations, duplicate address detection) would disturb counters and taps.
            for scope in ("all", "default"):
                path = f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"
                if os.path.exists(path):
                    _write(path, "1")
            self.ip("link", "set", "lo", "up")
            for name, value in SYSCTLS.items():
                self.sysctl(name, value)
        self.enter(0)
        # Both get number 2, next to lo: numbers are seen in IP_PKTINFO.
        peer = f"/proc/{os.getpid()}/fd/{self.fds[1]}"
        self.ip("link", "add", "v0", "index", "2", "type", "veth", "peer", "name", "v1", "index", "2", "netns", peer)
        for index, name in enumerate(("v0", "v1")):
            self.enter(index)
            self.ip("addr", "add", f"10.9.0.{index + 1}/24", "broadcast", "10.9.0.255", "dev", name)
            self.ip("link", "set", name, "address", f"02:00:00:00:00:0{index + 1}", "up")
        self.enter(0)
        self.tap = tun("t0", "10.8.0.1/24", "02:00:00:00:00:0a")
        self.ip("link", "set", "t0", "gso_max_segs", "1")  # each segment is a packet of its own, and counted so

    def enter(self, index: int) -> None:
        if LIBC.setns(self.fds[index], CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    @staticmethod
    def sysctl(name: str, value: str) -> None:
        path = "/proc/sys/" + name.replace(".", "/")
        if os.path.exists(path):  # the limits on ICMP are a namespace's own in newer kernels only
            _write(path, value)

    @staticmethod
    def ip(*args: str) -> None:
        subprocess.run(["ip", *args], check=True, stdout=subprocess.DEVNULL)


class LinuxCalls:
    """System calls on the kernel."""

    def __init__(self, wait_ms: int = 3) -> None:
        self.namespaces = Namespaces()
        self.wait_ms = wait_ms  # what is on its way gets that long to arrive

    def begin(self) -> None:
        """A program begins."""

    def put(self, packet: bytes) -> None:
        os.write(self.namespaces.tap, ETHERNET + packet)

    def take(self) -> list[bytes]:
        return [frame[14:] for frame in drain(self.namespaces.tap)]

    def counters(self) -> dict[str, int]:
        return counters()

    def sleep(self, ms: int) -> None:
        time.sleep(ms / 1000)

    def sysctl(self, name: str, value: str) -> int:
        self.namespaces.sysctl(name, value)
        return 0

    def socket(self, ns: int, family: int, type: int, protocol: int) -> int:
        self.namespaces.enter(ns)
        fd = _ret(LIBC.socket(family, type, protocol))
        self.namespaces.enter(0)
        return fd

    def close(self, fd: int) -> int:
        return _ret(LIBC.close(fd))

    def bind(self, fd: int, addr: bytes) -> int:
        return _ret(LIBC.bind(fd, addr, len(addr)))

    def connect(self, fd: int, addr: bytes) -> int:
        return _ret(LIBC.connect(fd, addr, len(addr)))

    def listen(self, fd: int, backlog: int) -> int:
        return _ret(LIBC.listen(fd, backlog))

    def accept(self, fd: int) -> int:
        return _ret(LIBC.accept4(fd, None, None, 0x800))

    def shutdown(self, fd: int, how: int) -> int:
        return _ret(LIBC.shutdown(fd, how))

    def getsockname(self, fd: int) -> tuple[int, bytes]:
        buf = ctypes.create_string_buffer(128)
        size = ctypes.c_uint32(128)
        err = _ret(LIBC.getsockname(fd, buf, ctypes.byref(size)))
        return err, b"" if err else buf.raw[: size.value]

    def getpeername(self, fd: int) -> tuple[int, bytes]:
        buf = ctypes.create_string_buffer(128)
        size = ctypes.c_uint32(128)
        err = _ret(LIBC.getpeername(fd, buf, ctypes.byref(size)))
        return err, b"" if err else buf.raw[: size.value]

    def setsockopt(self, fd: int, level: int, name: int, value: bytes) -> int:
        return _ret(LIBC.setsockopt(fd, level, name, value, len(value)))

    def attach_filter(self, fd: int, option: int, insns: bytes) -> int:
        """SO_ATTACH_FILTER and its like: struct sock_fprog points to the instructions."""
        buf = ctypes.create_string_buffer(insns, len(insns))
        return self.setsockopt(fd, 1, option, struct.pack("=H6xQ", len(insns) // 8, ctypes.addressof(buf)))

    def getsockopt(self, fd: int, level: int, name: int, size: int) -> tuple[int, bytes]:
        buf = ctypes.create_string_buffer(max(size, 1) * 8)  # SO_GET_FILTER counts instructions of eight bytes
        length = ctypes.c_uint32(size)
        err = _ret(LIBC.getsockopt(fd, level, name, buf, ctypes.byref(length)))
        return err, b"" if err else buf.raw[: length.value]

    def ioctl_int(self, fd: int, cmd: int) -> tuple[int, int]:
        value = ctypes.c_int(0)
        err = _ret(LIBC.ioctl(fd, ctypes.c_ulong(cmd), ctypes.byref(value)))
        return err, value.value

    def poll(self, fd: int, events: int, timeout_ms: int = 0) -> int:
        p = PollFd(fd, events, 0)
        n = _ret(LIBC.poll(ctypes.byref(p), 1, timeout_ms))
        return n if n < 0 else p.revents

    def sendmsg(self, fd: int, data: bytes, flags: int, addr: bytes = b"", control: bytes = b"") -> int:
        iov = IoVec(data, len(data))
        name = ctypes.create_string_buffer(addr, len(addr)) if addr else None
        ctl = ctypes.create_string_buffer(control, len(control)) if control else None
        msg = MsgHdr(
            ctypes.cast(name, ctypes.c_void_p) if name is not None else None,
            len(addr),
            ctypes.pointer(iov),
            1,
            ctypes.cast(ctl, ctypes.c_void_p) if ctl is not None else None,
            len(control),
            0,
        )
        return _ret(LIBC.sendmsg(fd, ctypes.byref(msg), flags))

    def recvmsg(self, fd: int, size: int, flags: int, controllen: int = 0) -> tuple[int, bytes, bytes, bytes, int]:
        """(bytes or -errno, data, address, control, msg_flags)."""
        if not flags & 0x2000:  # MSG_ERRQUEUE does not wait for data
            self.poll(fd, 1, self.wait_ms)
        buf = ctypes.create_string_buffer(size + 1)
        name = ctypes.create_string_buffer(128)
        ctl = ctypes.create_string_buffer(controllen + 1)
        iov = IoVec(ctypes.cast(buf, ctypes.c_char_p), size)
        msg = MsgHdr(
            ctypes.cast(name, ctypes.c_void_p),
            128,
            ctypes.pointer(iov),
            1,
            ctypes.cast(ctl, ctypes.c_void_p) if controllen else None,
            controllen,
            0,
        )
        n = _ret(LIBC.recvmsg(fd, ctypes.byref(msg), flags))
        if n < 0:
            return n, b"", b"", b"", 0
        return n, buf.raw[: min(n, size)], name.raw[: msg.namelen], ctl.raw[: msg.controllen], msg.flags
