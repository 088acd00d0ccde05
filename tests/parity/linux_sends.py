"""The reference for what IPv4 sends: datagram and raw sockets of the running kernel, in a network namespace of this process's own
whose two devices are TUN. `python -m tests.parity.linux_sends < sends`: each line is a JSON object of ip_sends.py; out comes JSON,
what each call returned and the packets that left by each device.
"""

from __future__ import annotations

import ctypes
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.parity.ip_sends import ROUTES
from tests.parity.linux_tun import CLONE_NEWNET, drain, tun

MSG_DONTWAIT = 0x40


def run(libc: ctypes.CDLL, what: dict[str, Any], devices: tuple[int, int]) -> tuple[list[int], list[list[str]]]:
    returned = []
    with socket.socket(socket.AF_INET, what["type"], what["protocol"]) as s:
        for level, name, text in what["options"]:
            value = bytes.fromhex(text)
            returned.append(-ctypes.get_errno() if libc.setsockopt(s.fileno(), level, name, value, len(value)) else 0)
        try:
            s.bind(tuple(what["bind"]))
            if what["connect"]:
                s.connect((what["connect"], what["port"]))
        except OSError as e:
            returned.append(-(e.errno or 0))
        for size, flags, to, control in what["sends"]:
            cmsgs = [(level, type, bytes.fromhex(data)) for level, type, data in control]
            try:
                to_addr = (to, what["port"]) if to else None
                returned.append(s.sendmsg([bytes([size & 255]) * size], cmsgs, flags | MSG_DONTWAIT, to_addr))
            except OSError as e:
                returned.append(-(e.errno or 0))
        return returned, [[p.hex() for p in drain(fd)] for fd in devices]


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise PermissionError(ctypes.get_errno(), "cannot make a network namespace (needs root)")
    for scope in ("all", "default"):
        path = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
        if path.exists():
            path.write_text("1")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    devices = tun("wire0", "10.0.0.1/24"), tun("wire1", "192.0.2.1/24")
    for route in ROUTES:
        subprocess.run(["ip", "route", "add", *route.split()], check=True)
    json.dump([run(libc, json.loads(line), devices) for line in sys.stdin], sys.stdout)


if __name__ == "__main__":
    main()
