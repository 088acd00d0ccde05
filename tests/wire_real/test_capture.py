"""What `afinet up --pcap` writes is what crossed the device: tcpdump, on the host's side of it, sees the same, byte for byte.

The packets of each connection and direction are compared in their order. How connections mix is each observer's own: a packet waits
in GRO for others of its flow, and afinet's capture is behind that, as Linux's is. Super-packets are one packet on both sides.
Masked is the checksum of TCP, which the offload leaves open: one side may show it filled in, the other not yet.
"""

from __future__ import annotations

import shutil
import signal
import socket
import struct
from pathlib import Path

import pytest

from afinet.tools.pcapng import read_pcapng
from tests.wire_real.namespaces import finish, require, wait_for_line
from tests.wire_real.wires import AFINET, GATEWAY, Wire

require()
pytestmark = pytest.mark.wire

KINDS: dict[str, list[str]] = {"tun": [], "tap": ["--tap"], "plain": ["--no-offload"]}
SOURCE = bytes(int(part) for part in AFINET.split("."))

PROGRAM = """
import socket
s = socket.create_server(("", 9))
print("ready", flush=True)
for _ in range(3):
    c, _ = s.accept()
    with c:
        size = 0
        while data := c.recv(1 << 17):
            size += len(data)
        c.sendall(bytes(size))
"""


def read_pcap(data: bytes) -> list[bytes]:
    """The frames of a file that tcpdump wrote."""
    magic, _, _, _, _, _, _ = struct.unpack_from("<IHHiIII", data)
    assert magic == 0xA1B2C3D4
    frames = []
    at = 24
    while at < len(data):
        _, _, size, whole = struct.unpack_from("<IIII", data, at)
        assert size == whole
        frames.append(data[at + 16 : at + 16 + size])
        at += 16 + size
    return frames


def tcp_packets(frames: list[bytes], link: int) -> tuple[list[bytes], list[bytes]]:
    """(those from afinet, those to it) by connection, without their link header, the checksum of TCP masked."""
    out: list[bytes] = []
    to: list[bytes] = []
    for frame in frames:
        if link and frame[12:14] != b"\x08\0":
            continue
        packet = frame[link:]
        if packet[0] >> 4 != 4 or packet[9] != 6:
            continue
        assert packet[0] & 15 == 5
        packet = packet[:36] + b"\0\0" + packet[38:]
        (out if packet[12:16] == SOURCE else to).append(packet)
    for packets in (out, to):
        packets.sort(key=lambda packet: packet[20:24])  # the ports; the order of each connection stays
    return out, to


@pytest.mark.parametrize("kind", KINDS)
def test_tcpdump_sees_the_same_packets(wire: Wire, kind: str, tmp_path: Path) -> None:
    tcpdump = shutil.which("tcpdump")
    if tcpdump is None:
        pytest.skip("NOT TESTED: tcpdump is not installed")
    link = 14 if kind == "tap" else 0
    near = wire.near
    near.run("ip", "tuntap", "add", "afi0", "mode", "tap" if link else "tun")
    near.run("ip", "addr", "add", f"{GATEWAY}/24", "dev", "afi0")
    near.run("ip", "link", "set", "afi0", "up")
    ours, theirs = tmp_path / "ours.pcapng", tmp_path / "theirs.pcap"
    # A slot of its ring holds the longest packet that it is told of.
    longest = "1600" if kind == "plain" else "66000"
    options = ["--immediate-mode", "-s", longest, "-B", "65536", "-Z", "root", "-w", str(theirs)]
    watcher = near.start([tcpdump, "-i", "afi0", *options, "tcp"])
    assert watcher.stderr is not None
    while b"listening on" not in (line := watcher.stderr.readline()):
        assert line, "tcpdump has ended"
    process = wire.up("python", "-c", PROGRAM, options=("--pcap", str(ours), *KINDS[kind]))
    wait_for_line(process, "ready")
    with wire.peer.inside():
        for size in (1, 200_000, 500_000 if wire.lossy else 3_000_000):
            with socket.create_connection((AFINET, 9), 20) as s:
                s.settimeout(60)
                s.sendall(bytes(size))
                s.shutdown(socket.SHUT_WR)
                got = 0
                while n := len(s.recv(1 << 18)):
                    got += n
                assert got == size
    assert finish(process) == (0, "", "")
    watcher.send_signal(signal.SIGINT)
    _, err = watcher.communicate(timeout=20)
    assert b"0 packets dropped by kernel" in err, err
    afinet = tcp_packets([packet.frame for packet in read_pcapng(ours.read_bytes())], link)
    kernel = tcp_packets(read_pcap(theirs.read_bytes()), link)
    assert len(afinet[0]) > 20 and len(afinet[1]) > 20
    biggest = max(map(len, kernel[0] + kernel[1]))
    assert biggest <= 1500 if kind == "plain" else biggest > 1500
    for mine, other in zip(afinet, kernel, strict=True):
        assert len(mine) == len(other)
        assert mine == other
