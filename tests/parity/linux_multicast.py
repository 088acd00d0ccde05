"""Tells the running kernel the stories of multicast_stories.py, each in a namespace of its own with a TUN device wire0:
`python -m tests.parity.linux_multicast` prints the answers as JSON. Needs root; nothing outside the namespaces is touched."""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

from tests.parity.linux_tun import CLONE_NEWNET, drain, tun
from tests.parity.multicast_stories import ME, QUICK, STORIES, Step, a4, checksum

TROUBLE = 0.7  # s; longer than any timer of the stories


class Teller:
    def __init__(self) -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise PermissionError(ctypes.get_errno(), "cannot make a network namespace (needs root)")
        for scope in ("all", "default"):
            self.sysctl(f"net.ipv6.conf.{scope}.disable_ipv6", "1")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self.fd = tun("wire0", f"{ME}/24")
        for name, value in QUICK.items():
            self.sysctl(name, value)
        subprocess.run(["ip", "link", "set", "wire0", "multicast", "on"], check=True)
        subprocess.run(["ip", "route", "add", "default", "dev", "wire0"], check=True)
        self.socks: list[socket.socket] = []

    @staticmethod
    def sysctl(name: str, value: str) -> None:
        path = Path("/proc/sys", name.replace(".", "/"))
        if path.exists():
            path.write_text(value)

    def tell(self, step: Step) -> object:
        match step:
            case ("socket",):
                sk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                sk.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sk.bind(("", 5000))
                self.socks.append(sk)
                return 0
            case ("close", int(i)):
                self.socks[i].close()
                return 0
            case ("opt", int(i), name, value):
                try:
                    self.socks[i].setsockopt(0, int(name), bytes.fromhex(value))
                except OSError as e:
                    return -(e.errno or 0)
                return 0
            case ("heard", str(data), daddr):
                os.write(self.fd, packet(2, "10.0.0.9", str(daddr), bytes.fromhex(data)))
                return 0
            case ("udp", str(group), source):
                os.write(self.fd, packet(17, str(source), group, b"\x13\x88\x13\x88\x00\x0a\x00\x00hi"))
                return [self.got(sk) for sk in self.socks]
            case ("reports",):
                poll = select.poll()
                poll.register(self.fd, select.POLLIN)
                out: list[str] = []
                while poll.poll(TROUBLE * 1000):
                    out += [packet.hex() for packet in drain(self.fd)]
                return igmp_of(out)
            case ("sysctl", str(name), value):
                Path("/proc/sys", name.replace(".", "/")).write_text(str(value))
                return 0
            case ("mtu", value):
                subprocess.run(["ip", "link", "set", "wire0", "mtu", str(value)], check=True)
                return 0
            case ("link", value):
                subprocess.run(["ip", "link", "set", "wire0", str(value)], check=True)
                return 0
        raise AssertionError(step)

    @staticmethod
    def got(sk: socket.socket) -> bool:
        try:
            sk.recv(100)
        except OSError:
            return False
        return True


def packet(protocol: int, saddr: str, daddr: str, payload: bytes) -> bytes:
    length = (20 + len(payload)).to_bytes(2, "big")
    head = bytes([0x45, 0]) + length + bytes([0, 0, 0, 0, 1, protocol, 0, 0]) + a4(saddr) + a4(daddr)
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + payload


def igmp_of(packets: list[str]) -> list[str]:
    """The IGMP packets, whole, once each where the same one comes several times running (how often depends on random delays)."""
    out: list[str] = []
    for data in packets:
        if data[18:20] == "02" and data not in out[-1:]:
            out.append(data)
    return out


def main() -> None:
    if len(sys.argv) > 1:
        teller = Teller()
        json.dump([teller.tell(step) for step in STORIES[sys.argv[1]]], sys.stdout)
        return
    command = [sys.executable, "-m", "tests.parity.linux_multicast"]
    running = {name: subprocess.Popen([*command, name], stdout=subprocess.PIPE) for name in STORIES}
    answers = {}
    for name, process in running.items():
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, name
        answers[name] = json.loads(out)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
