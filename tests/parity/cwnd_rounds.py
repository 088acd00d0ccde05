"""How the congestion window grows, round by round, under a peer that follows a script: the same on the running kernel and on
afinet.

A sender at 10.0.0.1 always has data to send. Its peer answers once a round: it acknowledges every segment that came, one ACK each,
with SACK blocks, and loses those whose number the script names, the first time. After each round the sender's TCP_INFO is read.

    python -m tests.parity.cwnd_rounds            ask the kernel (half a minute; needs root) and print the answers
    python -m tests.parity.cwnd_rounds --update   ... and write them to cwnd_rounds.json

The kernel's timers are the real ones, so a round begins some 0.1 ms late at times; windows may differ by a packet or two for that.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from afinet.uapi.tcp import TCP_INFO
from afinet.wire import ip as wire_ip
from afinet.wire import tcp as wire_tcp
from afinet.wire.checksum import csum_partial, csum_tcpudp_nofold
from afinet.wire.tcp_options import build_established_options, build_syn_options

HERE = Path(__file__).parent
ANSWERS = HERE / "cwnd_rounds.json"
US, THEM = 0x0A000001, 0x0A000002
PORT = 80
MSS = 1000
ISN = 7000
SNDBUF = 3_000_000  # SO_SNDBUFFORCE: the program never is what holds the sender up


class Script:
    """`rounds` of `rtt_ms` each, or of `later_ms` from round `later` on; in each, ACKs `spacing_us` apart."""

    def __init__(
        self,
        congestion: str,
        rounds: int,
        rtt_ms: int,
        lost: tuple[int, ...] = (),
        spacing_us: int = 0,
        later_ms: int = 0,
        later: int = 0,
    ) -> None:
        self.congestion = congestion
        self.rounds = rounds
        self.rtt_ms = rtt_ms
        self.lost = lost  # numbers of segments, by order of their sequence numbers
        self.spacing_us = spacing_us
        self.later_ms = later_ms
        self.later = later

    def rtt_us(self, n: int) -> int:
        return 1000 * (self.later_ms if self.later and n >= self.later else self.rtt_ms)


SCRIPTS = {
    "reno, one loss": Script("reno", 30, 40, (60,)),
    "cubic, one loss": Script("cubic", 130, 40, (100,)),
    "cubic, a loss before the old window is reached again": Script("cubic", 120, 40, (100, 1000)),
    "cubic, three losses of one window": Script("cubic", 60, 40, (80, 85, 90)),
    "cubic, a short path, where Reno is faster": Script("cubic", 120, 8, (60,)),
    "cubic, no loss, the delay rises": Script("cubic", 20, 40, (), 0, 60, 3),
    "cubic, no loss, a train of ACKs": Script("cubic", 20, 40, (), 900),
}


class Peer:
    """The script's other end: takes packets, gives packets."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.base = 0  # the first byte of data
        self.rcv_nxt = 0
        self.blocks: list[list[int]] = []
        self.lost = list(script.lost)
        self.sport = 0

    def answer(self, packet: bytes) -> bytes:
        """The ACK of a packet; b"" when there is none."""
        ihl = (packet[0] & 15) * 4
        sport, _, seq, _, flags, _, _, _ = wire_tcp.parse(packet, ihl)
        size = len(packet) - ihl - (flags >> 12) * 4
        if flags & 2:
            self.sport = sport
            self.base = self.rcv_nxt = seq + 1 & 0xFFFFFFFF
            return self.emit(0x12, ISN, build_syn_options(MSS, 10, True, False, 0, 0))
        if size == 0:
            return b""
        offset = seq - self.base & 0xFFFFFFFF
        if offset // MSS in self.lost:
            self.lost.remove(offset // MSS)
            return b""
        self.take(offset, offset + size)
        blocks = [self.base + edge & 0xFFFFFFFF for block in self.blocks[:3] for edge in block]
        return self.emit(0x10, ISN + 1, build_established_options(False, 0, 0, blocks) if blocks else b"")

    def take(self, start: int, end: int) -> None:
        have = self.rcv_nxt - self.base & 0xFFFFFFFF
        blocks = sorted([*self.blocks, [start, end]])
        merged: list[list[int]] = []
        for block in blocks:
            if merged and block[0] <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], block[1])
            else:
                merged.append(block)
        if merged[0][0] <= have:
            have = max(have, merged.pop(0)[1])
        self.rcv_nxt = self.base + have & 0xFFFFFFFF
        # the block that this segment is in comes first
        self.blocks = sorted(merged, key=lambda b: not b[0] <= start < b[1])

    def emit(self, flags: int, seq: int, options: bytes) -> bytes:
        sum = csum_tcpudp_nofold(THEM, US, 20 + len(options), 6, 0)
        th = wire_tcp.emit_csum(PORT, self.sport, seq, self.rcv_nxt, flags, 50_000, 0, options, csum_partial(b"", 0, 0, sum))
        return wire_ip.emit(0, 20 + len(th), 1, 0x4000, 64, 6, THEM, US) + th


def what(info: bytes) -> list[int]:
    """(snd_cwnd, snd_ssthresh, ca_state) of a struct tcp_info."""
    ssthresh, cwnd = struct.unpack_from("<II", info, 76)
    return [cwnd, ssthresh, info[1]]


# -- the kernel ------------------------------------------------------------------------------------------------------------


def own_namespace() -> int:
    """A namespace of this process's own, and in it a TUN device. Its descriptor."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):
        raise PermissionError(ctypes.get_errno(), "cannot make a network namespace (needs root)")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"wire0", 0x1001))
    for words in ("link set lo up", "link set wire0 up mtu 1500 txqueuelen 10000", "addr add 10.0.0.1/24 dev wire0"):
        subprocess.run(["ip", *words.split()], check=True)
    # nothing is remembered from one script to the next, and the segments are those of afinet's SYN
    for name, value in {"tcp_no_metrics_save": "1", "tcp_timestamps": "0", "tcp_slow_start_after_idle": "0"}.items():
        Path("/proc/sys/net/ipv4", name).write_text(value)
    return fd


def pending(fd: int) -> Iterator[bytes]:
    """The TCP packets that wait on the device; a host says other things, too."""
    while True:
        try:
            packet = os.read(fd, 70000)
        except BlockingIOError:
            return
        if packet[0] >> 4 == 4 and packet[9] == socket.IPPROTO_TCP:
            yield packet


def wait_until(when: float) -> None:
    while True:
        left = when - time.monotonic()
        if left <= 0:
            return
        if left > 0.002:
            time.sleep(left - 0.001)


def ask_kernel(script: Script, fd: int) -> list[list[int]]:
    peer = Peer(script)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, 32, SNDBUF)  # SO_SNDBUFFORCE
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, script.congestion.encode())
    s.setblocking(False)
    s.connect_ex(("10.0.0.2", PORT))
    start = time.monotonic()
    due = 0
    rounds = []
    data = b"d" * 100_000
    for n in range(script.rounds + 1):
        due += script.rtt_us(n)
        wait_until(start + due / 1e6)
        acks = [ack for ack in map(peer.answer, list(pending(fd))) if ack]
        for i, ack in enumerate(acks):
            if script.spacing_us:
                wait_until(start + (due + i * script.spacing_us) / 1e6)
            os.write(fd, ack)
        if n == 0:
            select.select([], [s], [], 1)
        while True:
            try:
                s.send(data)
            except BlockingIOError:
                break
        rounds.append(what(s.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 280)))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    for _ in pending(fd):
        pass
    return rounds


def main() -> None:
    fd = own_namespace()
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    answers = {name: ask_kernel(script, fd) for name, script in SCRIPTS.items()}
    if "--update" in sys.argv:
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(rounds)}" for name, rounds in answers.items())
        ANSWERS.write_text("{\n" + lines + "\n}\n")
    else:
        json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
