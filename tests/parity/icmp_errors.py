"""ICMP errors of every kind about a packet of every kind of socket, and what the socket then says: on the running kernel
(`python -m tests.parity.icmp_errors`: a TUN device in a namespace of its own; needs root) and on afinet (test_icmp_errors.py).

Each case has a peer of its own, since path MTUs and redirects stay.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tests.parity.linux_tun import CLONE_NEWNET, drain, tun
from tests.parity.multicast_stories import a4, checksum

ME = "10.0.0.1"
IP_RECVERR, IP_MTU_DISCOVER, IP_MTU = 11, 10, 14
MSG_ERRQUEUE, MSG_DONTWAIT = 0x2000, 0x40
# (type, code, second word)
ERRORS = [
    *((3, code, 0) for code in range(17) if code != 4), (3, 4, 1300), (3, 4, 0), (3, 4, 100), (3, 4, 65535), (4, 0, 0),
    (5, 0, 0x0A000009), (5, 1, 0x0A000009), (11, 0, 0), (11, 1, 0), (11, 2, 0), (12, 0, 20 << 24), (12, 1, 0), (12, 2, 0),
    (19, 0, 0),
]  # fmt: skip
# kind: (type, protocol), options to set, connected
KINDS: dict[str, tuple[int, int, tuple[tuple[int, int], ...], bool]] = {
    "udp": (socket.SOCK_DGRAM, 17, (), False),
    "udp connected": (socket.SOCK_DGRAM, 17, (), True),
    "udp recverr": (socket.SOCK_DGRAM, 17, ((IP_RECVERR, 1),), False),
    "udp connected recverr": (socket.SOCK_DGRAM, 17, ((IP_RECVERR, 1),), True),
    "udp connected, no discovery": (socket.SOCK_DGRAM, 17, ((IP_MTU_DISCOVER, 0),), True),
    "udp connected, own discovery": (socket.SOCK_DGRAM, 17, ((IP_MTU_DISCOVER, 3),), True),
    "udp connected, its interface's": (socket.SOCK_DGRAM, 17, ((IP_MTU_DISCOVER, 4),), True),
    "raw": (socket.SOCK_RAW, 253, (), False),
    "raw connected": (socket.SOCK_RAW, 253, (), True),
    "raw recverr": (socket.SOCK_RAW, 253, ((IP_RECVERR, 1),), False),
    "raw connected recverr": (socket.SOCK_RAW, 253, ((IP_RECVERR, 1),), True),
    "ping": (socket.SOCK_DGRAM, 1, (), False),
    "ping connected": (socket.SOCK_DGRAM, 1, (), True),
    "ping recverr": (socket.SOCK_DGRAM, 1, ((IP_RECVERR, 1),), False),
    "tcp": (socket.SOCK_STREAM, 6, (), True),
    "tcp recverr": (socket.SOCK_STREAM, 6, ((IP_RECVERR, 1),), True),
}


class Side(Protocol):
    """System calls, -errno, and the other end of the wire."""

    def socket(self, type: int, protocol: int) -> int: ...
    def setsockopt(self, fd: int, level: int, name: int, value: int) -> int: ...
    def getsockopt(self, fd: int, level: int, name: int) -> int: ...
    def connect(self, fd: int, host: str, port: int) -> int: ...
    def sendto(self, fd: int, data: bytes, host: str, port: int) -> int: ...
    def recv(self, fd: int, flags: int) -> tuple[int, str]: ...
    def close(self, fd: int) -> None: ...
    def sent(self) -> list[bytes]: ...
    def receive(self, packet: bytes) -> None: ...


def ip_packet(protocol: int, saddr: str, payload: bytes) -> bytes:
    head = bytes([0x45, 0]) + (20 + len(payload)).to_bytes(2, "big") + bytes([0, 0, 0, 0, 64, protocol, 0, 0]) + a4(saddr) + a4(ME)
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + payload


def error(type: int, code: int, rest: int, about: bytes) -> bytes:
    body = struct.pack("!BBHI", type, code, 0, rest) + about[:68] + bytes(len(about[:68]) % 2)
    return ip_packet(1, "10.0.0.254", body[:2] + checksum(body).to_bytes(2, "big") + body[4:])


def cases() -> Iterator[tuple[str, str, tuple[int, int, int], str]]:
    """(name, kind, error, peer)."""
    number = 0
    for kind in KINDS:
        for err in ERRORS:
            number += 1
            yield f"{kind}: {err[0]}/{err[1]} {err[2]:#x}", kind, err, f"10.0.{1 + number // 200}.{1 + number % 200}"


def play(side: Side, kind: str, err: tuple[int, int, int], peer: str) -> list[object]:
    type, protocol, options, connected = KINDS[kind]
    fd = side.socket(type, protocol)
    assert fd >= 0
    for name, value in options:
        assert side.setsockopt(fd, 0, name, value) == 0
    side.sent()
    payload = b"\x08\0\0\0\0\0\0\1" + bytes(20) if protocol == 1 else bytes(24)
    if connected:
        side.connect(fd, peer, 4000)
    if protocol != 6:
        assert side.sendto(fd, payload, "" if connected else peer, 4000) == len(payload)
    about = [packet for packet in side.sent() if packet[9] == protocol]
    assert len(about) == 1
    side.receive(error(*err, about[0]))
    told: list[object] = [side.recv(fd, MSG_ERRQUEUE | MSG_DONTWAIT), side.recv(fd, MSG_ERRQUEUE | MSG_DONTWAIT)]
    told.append(side.recv(fd, MSG_DONTWAIT)[0] if protocol != 6 else 0)
    told.append(side.getsockopt(fd, 1, 4))  # SO_ERROR
    told.append(side.getsockopt(fd, 0, IP_MTU))
    if protocol != 6:
        told.append(side.sendto(fd, payload, "" if connected else peer, 4000))
    side.close(fd)
    return told


class Linux:
    def __init__(self) -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise PermissionError(ctypes.get_errno(), "cannot make a network namespace (needs root)")
        for scope in ("all", "default"):
            path = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
            if path.exists():
                path.write_text("1")
        Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self.wire = tun("wire0", f"{ME}/16")
        self.socks: dict[int, socket.socket] = {}

    def socket(self, type: int, protocol: int) -> int:
        sk = socket.socket(socket.AF_INET, type | socket.SOCK_NONBLOCK, protocol)
        self.socks[sk.fileno()] = sk
        return sk.fileno()

    def setsockopt(self, fd: int, level: int, name: int, value: int) -> int:
        self.socks[fd].setsockopt(level, name, value)
        return 0

    def getsockopt(self, fd: int, level: int, name: int) -> int:
        try:
            return self.socks[fd].getsockopt(level, name)
        except OSError as e:
            return -(e.errno or 0)

    def connect(self, fd: int, host: str, port: int) -> int:
        return -self.socks[fd].connect_ex((host, port))

    def sendto(self, fd: int, data: bytes, host: str, port: int) -> int:
        try:
            return self.socks[fd].sendto(data, (host, port)) if host else self.socks[fd].send(data)
        except OSError as e:
            return -(e.errno or 0)

    def recv(self, fd: int, flags: int) -> tuple[int, str]:
        try:
            data, control, _, _ = self.socks[fd].recvmsg(2000, 512, flags)
        except OSError as e:
            return -(e.errno or 0), ""
        return len(data), " ".join(f"{level}/{type}:{value.hex()}" for level, type, value in control)

    def close(self, fd: int) -> None:
        self.socks.pop(fd).close()

    def sent(self) -> list[bytes]:
        return drain(self.wire)

    def receive(self, packet: bytes) -> None:
        os.write(self.wire, packet)


def main() -> None:
    side = Linux()
    json.dump({name: play(side, kind, err, peer) for name, kind, err, peer in cases()}, sys.stdout)


if __name__ == "__main__":
    main()
