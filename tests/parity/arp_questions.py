"""Who gets an answer to which ARP question, under which settings: asked of the running kernel (`python -m
tests.parity.arp_questions`, on TAP devices in a namespace of its own; needs root) and of afinet (test_arp_answers.py)."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

ASKER = bytes.fromhex("02aa00000002")
MACS = {"wire0": "02:00:00:00:00:01", "wire1": "02:00:00:00:00:02"}
ADDRESSES = ("10.0.0.1/24 wire0", "10.0.0.65/26 wire0", "192.0.2.1/24 wire1", "10.1.0.1/32 lo")
ROUTES = ("8.0.0.0/8 via 192.0.2.9", "9.0.0.0/8 via 10.0.0.9", "blackhole 7.0.0.0/8")
SOURCES = ("10.0.0.2", "192.0.2.9", "0.0.0.0", "10.0.0.1", "8.8.8.8", "9.9.9.9", "7.7.7.7", "127.0.0.1", "10.0.0.255", "224.0.0.1")
TARGETS = ("10.0.0.1", "10.0.0.65", "10.0.0.3", "10.0.0.255", "192.0.2.1", "192.0.2.7", "10.1.0.1", "8.8.8.8", "9.9.9.9", "7.7.7.7",
           "6.6.6.6", "127.0.0.1", "224.0.0.1", "255.255.255.255")  # fmt: skip
ALWAYS = {"neigh.wire0.proxy_delay": "0"}
FORWARD = {"ip_forward": "1"}
PROXY = {**FORWARD, "conf.wire0.proxy_arp": "1"}
SETTINGS: dict[str, dict[str, str]] = {
    "none": {},
    "a router": FORWARD,
    **{f"arp_ignore {n}": {"conf.wire0.arp_ignore": str(n)} for n in (1, 2, 3, 4, 8, 9)},
    "arp_ignore all": {"conf.all.arp_ignore": "1", "conf.wire0.arp_ignore": "2"},
    "arp_filter": {"conf.wire0.arp_filter": "1"},
    "route_localnet": {"conf.wire0.route_localnet": "1"},
    "accept_local": {"conf.wire0.accept_local": "1"},
    "rp_filter": {"conf.all.rp_filter": "1"},
    "loose rp_filter": {"conf.all.rp_filter": "2"},
    "drop_gratuitous_arp": {"conf.all.drop_gratuitous_arp": "1"},
    "proxy_arp of a host": {"conf.wire0.proxy_arp": "1"},
    "proxy_arp": PROXY,
    "proxy_arp all": {**FORWARD, "conf.all.proxy_arp": "1"},
    "proxy_arp with rp_filter": {**PROXY, "conf.all.rp_filter": "1"},
    "proxy_arp_pvlan": {**FORWARD, "conf.wire0.proxy_arp_pvlan": "1"},
    "both": {**PROXY, "conf.wire0.proxy_arp_pvlan": "1"},
    "medium 1": {**PROXY, "conf.wire0.medium_id": "1"},
    "one medium": {**PROXY, "conf.wire0.medium_id": "1", "conf.wire1.medium_id": "1"},
    "two media": {**PROXY, "conf.wire0.medium_id": "1", "conf.wire1.medium_id": "2"},
    "no medium out": {**PROXY, "conf.wire0.medium_id": "1", "conf.wire1.medium_id": "-1"},
    "no medium in": {**PROXY, "conf.wire0.medium_id": "-1"},
}


def question(source: str, target: str) -> bytes:
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + ASKER + socket.inet_aton(source) + bytes(6) + socket.inet_aton(target)
    return b"\xff" * 6 + ASKER + b"\x08\x06" + arp


def answers(frames: list[bytes]) -> list[str]:
    """The ARP answers among the frames: whole."""
    return [frame[:42].hex() for frame in frames if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02"]


def tap(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1002))  # TUNSETIFF, IFF_TAP | IFF_NO_PI
    subprocess.run(["ip", "link", "set", name, "address", MACS[name], "up", "multicast", "off"], check=True)
    return fd


def drain(fd: int) -> list[bytes]:
    out = []
    while True:
        try:
            out.append(os.read(fd, 2000))
        except BlockingIOError:
            return out


def main() -> None:
    told = {}
    for name, settings in SETTINGS.items():
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):
            raise PermissionError(ctypes.get_errno(), "cannot make a network namespace (needs root)")
        for scope in ("all", "default"):
            path = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
            if path.exists():
                path.write_text("1")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        fds = [tap("wire0"), tap("wire1")]
        for text in ADDRESSES:
            address, _, dev = text.partition(" ")
            subprocess.run(["ip", "addr", "add", address, "dev", dev], check=True)
        for text in ROUTES:
            subprocess.run(["ip", "route", "add", *text.split()], check=True)
        for key, value in {**ALWAYS, **settings}.items():
            Path("/proc/sys/net/ipv4", key.replace(".", "/")).write_text(value)
        rows = []
        for source in SOURCES:
            for target in TARGETS:
                os.write(fds[0], question(source, target))
                rows.append(answers(drain(fds[0])))
        told[name] = rows
        for fd in fds:
            os.close(fd)
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
