"""What a route's metrics do to a connection: the SYN of a client, the SYN-ACK of a server and what their sockets say, on the
running kernel (`python -m tests.parity.route_metrics`: a TUN device in a namespace of its own; needs root) and on afinet
(test_route_metrics.py)."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from tests.parity.linux_tun import CLONE_NEWNET, drain, tun
from tests.parity.multicast_stories import a4, checksum

PEER, ME = "10.0.0.9", "10.0.0.1"
# iproute2's words after `ip route add 10.0.0.9/32 dev wire0`.
METRICS = (
    "", "mtu 1000", "mtu lock 1000", "mtu 300", "advmss 700", "advmss 70", "window 5000", "window 100000", "initrwnd 4",
    "initrwnd 100",
    "hoplimit 7", "hoplimit 255", "features ecn", "quickack 1", "initcwnd 3", "rto_min 50ms", "congctl cubic", "congctl lock cubic",
    "mtu 1200 advmss 500 window 3000", "initrwnd 2 window 20000", "advmss 1400 mtu 600",
)  # fmt: skip
SYN_OPTIONS = bytes.fromhex("020405b40402080a00000001000000000103030 7".replace(" ", ""))
TCP_CONGESTION, TCP_MAXSEG, TCP_WINDOW_CLAMP, TCP_INFO, IP_MTU = 13, 2, 10, 11, 14


def segment(flags: int, sport: int, dport: int, options: bytes) -> bytes:
    """From the peer to us, sequence number 1000."""
    body = struct.pack("!HHIIBBHHH", sport, dport, 1000, 0, (5 + len(options) // 4) << 4, flags, 65535, 0, 0) + options
    pseudo = a4(PEER) + a4(ME) + struct.pack("!HH", 6, len(body))
    body = body[:16] + checksum(pseudo + body).to_bytes(2, "big") + body[18:]
    head = bytes([0x45, 0]) + (20 + len(body)).to_bytes(2, "big") + bytes([0, 0, 0, 0, 64, 6, 0, 0]) + a4(PEER) + a4(ME)
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + body


def shown(packet: bytes) -> str:
    """A SYN or SYN-ACK without its numbers: TTL, DF and ECN, flags, window, options without timestamps."""
    ihl = (packet[0] & 15) * 4
    tcp = packet[ihl:]
    options = tcp[20 : (tcp[12] >> 4) * 4]
    out = []
    while options:
        kind = options[0]
        size = 1 if kind < 2 else options[1]
        out.append(f"{kind}" if kind < 2 or kind == 8 else f"{kind}:{options[2:size].hex()}")
        options = options[size:]
    window = int.from_bytes(tcp[14:16], "big")
    return f"ttl {packet[8]} tos {packet[1]:#x} frag {packet[6]:#x} flags {tcp[13]:#x} win {window} options {' '.join(out)}"


def first_tcp(packets: list[bytes]) -> str:
    return next((shown(packet) for packet in packets if packet[9] == 6), "nothing")


def main() -> None:
    told = {}
    for metrics in METRICS:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise PermissionError(ctypes.get_errno(), "cannot make a network namespace (needs root)")
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")
        for scope in ("all", "default"):
            path = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
            if path.exists():
                path.write_text("1")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        fd = tun("wire0", f"{ME}/24")
        subprocess.run(["ip", "route", "add", f"{PEER}/32", "dev", "wire0", *metrics.split()], check=True)
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((PEER, 80))
        time.sleep(0.01)
        syn = first_tcp(drain(fd))
        answers: list[object] = [syn, client.getsockopt(6, TCP_CONGESTION, 16).rstrip(b"\0").decode()]
        try:
            client.setsockopt(6, TCP_CONGESTION, b"reno")
            answers.append(0)
        except OSError as e:
            answers.append(errno.errorcode[e.errno or 0])
        answers.append(client.getsockopt(0, IP_MTU))
        answers.append(client.getsockopt(6, TCP_MAXSEG))
        server = socket.socket()
        server.bind((ME, 80))
        server.listen(5)
        os.write(fd, segment(0xC2, 5000, 80, SYN_OPTIONS))
        time.sleep(0.01)
        answers.append(first_tcp(drain(fd)))
        told[metrics] = answers
        client.close()
        server.close()
        os.close(fd)
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
