"""The reference for what IPv4 answers: packets put into the running kernel through TUN devices in a network namespace of this
process's own. `python -m tests.parity.linux_tun SYSCTLS < packets`: a JSON object of sysctls; packets as lines of hex; out comes
JSON, the packets that left by each device after each of them, and by how much the counters of /proc/net/snmp and netstat grew.

The kernel works a written packet off before write() returns, so that nothing here waits. Needs root; nothing outside is touched.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_TAP, IFF_NO_PI = 1, 2, 0x1000


def tun(name: str, address: str, mac: str = "") -> int:
    """A TUN device, or with a hardware address a TAP device that asks nobody for another."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), (IFF_TAP if mac else IFF_TUN) | IFF_NO_PI))
    if mac:
        subprocess.run(["ip", "link", "set", name, "address", mac, "arp", "off"], check=True)
    subprocess.run(["ip", "link", "set", name, "up", "mtu", "1500", "multicast", "off"], check=True)
    subprocess.run(["ip", "addr", "add", address, "broadcast", "+", "dev", name], check=True)
    return fd


def drain(fd: int) -> list[bytes]:
    """What has come out since the last time."""
    out = []
    while True:
        try:
            out.append(os.read(fd, 70000))
        except BlockingIOError:
            return out


def counters() -> dict[str, int]:
    """Under the names of nstat(8)."""
    found: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        lines = Path("/proc/net", name).read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            prefix, *keys = names.split()
            for key, value in zip(keys, values.split()[1:], strict=True):
                found[prefix.rstrip(":") + key] = int(value)
    return found


def main() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise PermissionError(ctypes.get_errno(), "cannot make a network namespace (needs root)")
    for scope in ("all", "default"):
        path = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
        if path.exists():
            path.write_text("1")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    near = tun("wire0", "10.0.0.1/24")
    far = tun("wire1", "192.0.2.1/24")
    for name, value in json.loads(sys.argv[1]).items():
        Path("/proc/sys", name.replace(".", "/")).write_text(value)
    if Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1":
        subprocess.run(["ip", "route", "add", "8.0.0.0/8", "via", "192.0.2.9"], check=True)  # as in ip_packets.ask_afinet
    before = counters()
    answers = []
    for line in sys.stdin:
        os.write(near, bytes.fromhex(line))
        answers.append([[p.hex() for p in drain(fd)] for fd in (near, far)])
    after = counters()
    grown = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
    json.dump({"answers": answers, "counters": grown}, sys.stdout)


if __name__ == "__main__":
    main()
