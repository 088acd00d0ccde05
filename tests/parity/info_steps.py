"""TCP_INFO after every step of a story, on the running kernel and on afinet: each field that a clock does not decide.

The host at 10.0.0.1 is under test; its peer is the script: what it sends is written into a TUN device, what it hears is not looked
at.

    python -m tests.parity.info_steps --update     ask the kernel and write info_steps.json (root, Linux 6.18)

A story connects, actively, to a peer with the options it names. Steps: ("send", n) and ("recv", n) of the program; ("rx", flags,
seq, ack, n) and more by name, a segment of n bytes, its numbers counted from the first byte of data each way; ("wait", ms); ("set",
option, value) of level IPPROTO_TCP; ("shutdown",). """

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from afinet.uapi.tcp import TCP_INFO
from afinet.wire import ip as wire_ip
from afinet.wire import tcp as wire_tcp
from afinet.wire.checksum import csum_partial, csum_tcpudp_nofold
from afinet.wire.tcp_options import build_established_options, build_syn_options
from tests.parity.cwnd_rounds import ISN, PORT, THEM, US, own_namespace, pending

HERE = Path(__file__).parent
ANSWERS = HERE / "info_steps.json"

# struct tcp_info: what stands in a row of one size, each with its name, then the few others
ROWS = (
    ("B", 0, "state ca_state retransmits probes backoff options wscale app_limited"),
    ("I", 8, "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets"),
    ("I", 44, "last_data_sent last_ack_sent last_data_recv last_ack_recv"),
    ("I", 60, "pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans"),
    ("Q", 104, "pacing_rate max_pacing_rate bytes_acked bytes_received"),
    ("I", 136, "segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out"),
    ("Q", 160, "delivery_rate busy_time rwnd_limited sndbuf_limited"),
    ("I", 192, "delivered delivered_ce"),
    ("Q", 200, "bytes_sent bytes_retrans"),
    ("I", 216, "dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash"),
    ("H", 240, "total_rto total_rto_recoveries"),
    ("I", 244, "total_rto_time accecn0 accecn1 accecn2 accecn3 accecn4 accecn5 accecn6 accecn7"),
)
LAYOUT = [(name, fmt, at + i * struct.calcsize("=" + fmt)) for fmt, at, names in ROWS for i, name in enumerate(names.split())]
# What a clock decides.
CLOCKS = frozenset(
    ["rto", "ato", "last_data_sent", "last_data_recv", "last_ack_recv", "rtt", "rttvar", "rcv_rtt", "pacing_rate", "min_rtt"]
    + ["delivery_rate", "busy_time", "rwnd_limited", "sndbuf_limited", "total_rto_time"]
)
FIELDS = [field for field in LAYOUT if field[0] not in CLOCKS]

Step = tuple[Any, ...]


def fields(info: bytes) -> dict[str, int]:
    return {name: struct.unpack_from("=" + fmt, info, offset)[0] for name, fmt, offset in FIELDS}


def rx(flags: str, seq: int, ack: int, n: int = 0, **more: Any) -> Step:
    return ("rx", flags, seq, ack, n, more)


PLAIN = {"mss": 1000, "wscale": -1, "sack": False, "ts": False}
SACK = {"mss": 1000, "wscale": 7, "sack": True, "ts": False}
WIDE = {"mss": 1000, "wscale": 3, "sack": True, "ts": False}
PROBE = {"mss": 1460, "wscale": 7, "sack": True, "ts": False, "mtu_probing": 2}
FULL = {"mss": 1460, "wscale": 3, "sack": True, "ts": True}

STORIES: dict[str, tuple[dict[str, Any], list[Step]]] = {
    "data that is acknowledged": (
        SACK,
        [
            ("send", 500), rx(".", 0, 500), ("send", 3500), rx(".", 0, 1500), rx(".", 0, 4000), ("send", 100), ("send", 100),
            rx(".", 0, 4200), rx(".", 0, 4100), rx(".", 0, 4200),
        ],
    ),
    "without SACK, scaling and timestamps": (PLAIN, [("send", 2500), rx(".", 0, 1000), rx(".", 0, 2500), rx("P.", 0, 2500, 10)]),
    "with timestamps": (FULL, [("send", 5000), rx(".", 0, 1448), rx(".", 0, 5000), rx("P.", 0, 5000, 300), ("recv", 100)]),
    "data that comes": (
        SACK,
        [rx("P.", 0, 0, 1000), rx("P.", 1000, 0, 500), ("recv", 700), ("wait", 60), rx("P.", 1500, 0, 1), ("recv", 5000)],
    ),
    "data out of order": (SACK, [rx("P.", 2000, 0, 1000), rx("P.", 4000, 0, 100), rx("P.", 0, 0, 2000), rx("P.", 3000, 0, 1000)]),
    "a closed window": (
        SACK,
        [("send", 1000), rx(".", 0, 1000, win=0), ("send", 700), ("wait", 500), rx(".", 0, 1000, win=0), rx(".", 0, 1000, win=100)],
    ),
    "a lost segment, found by SACK": (
        SACK,
        [
            ("send", 8000), rx(".", 0, 0, sack=(1000, 4000)), rx(".", 0, 0, sack=(1000, 5000)), rx(".", 0, 0, sack=(1000, 8000)),
            rx(".", 0, 8000), ("send", 1000), rx(".", 0, 9000),
        ],
    ),
    "a lost segment, found by duplicates": (
        PLAIN,
        [("send", 6000), *[rx(".", 0, 0)] * 4, rx(".", 0, 6000), ("send", 1000), rx(".", 0, 7000)],
    ),
    "a retransmission in vain": (
        SACK,
        [
            ("send", 6000), rx(".", 0, 0, sack=(1000, 4000)), rx(".", 0, 0, sack=(1000, 6000)),
            rx(".", 0, 6000, sack=(0, 1000)), ("send", 1000), rx(".", 0, 7000),
        ],
    ),
    "a timeout": (
        PLAIN,
        [("send", 3000), ("wait", 450), rx(".", 0, 1000), ("wait", 20), rx(".", 0, 3000), ("send", 100), rx(".", 0, 3100)],
    ),
    "two timeouts": (PLAIN, [("send", 1000), ("wait", 1000), rx(".", 0, 1000), ("send", 100)]),
    "a tail loss probe": (
        SACK,
        [("send", 3000), rx(".", 0, 1000), ("wait", 120), rx(".", 0, 1000, sack=(2000, 3000)), rx(".", 0, 3000)],
    ),
    "more than the window takes": (
        WIDE,
        [rx(".", 0, 0, win=125), ("send", 5000), rx(".", 0, 1000, win=250), rx(".", 0, 3000, win=10), rx(".", 0, 3000, win=1000)],
    ),
    "an ACK of what was not sent": (SACK, [("send", 100), rx(".", 0, 200), rx(".", 0, 200), rx("P.", 0, 300, 10), rx(".", 0, 100)]),
    "held back": (SACK, [("set", 3, 1), ("send", 300), ("send", 300), ("set", 3, 0), rx(".", 0, 600), ("send", 10), ("send", 10)]),
    "the peer's end": (SACK, [("send", 100), rx("F.", 0, 100), ("send", 100), rx(".", 1, 200), ("shutdown",), rx(".", 1, 201)]),
    "our end": (SACK, [("send", 100), ("shutdown",), rx(".", 0, 101), rx("P.", 0, 101, 50), rx("F.", 50, 101)]),
    "a window clamp": (SACK, [("set", 10, 5000), rx("P.", 0, 0, 1000), rx("P.", 1000, 0, 1000), ("recv", 5000)]),
    "a smaller segment size": (SACK, [("set", 2, 500), ("send", 2500), rx(".", 0, 2500)]),
    "path MTU probing that finds more": (
        PROBE,
        [("send", 61440), *[rx(".", 0, n * 1024) for n in range(2, 11)], rx(".", 0, 11482), rx(".", 0, 13530), rx(".", 0, 15578)],
    ),
    "path MTU probing that fails": (
        PROBE,
        [
            ("send", 61440), rx(".", 0, 1024), rx(".", 0, 5120), rx(".", 0, 10240), rx(".", 0, 10240, sack=(11482, 12506)),
            rx(".", 0, 10240, sack=(11482, 13530)), rx(".", 0, 10240, sack=(11482, 14554)), rx(".", 0, 14554),
        ],
    ),
    "ECN that is not agreed on": (SACK, [("send", 1000), rx("E.", 0, 1000), rx("W.", 0, 1000)]),
}  # fmt: skip


class Wire:
    """The peer's segments."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.isn = 0  # ours, that is the host's
        self.sport = 0
        self.tsval = 1000
        self.tsecr = 0

    def syn(self, packet: bytes) -> bytes:
        """The SYN-ACK."""
        ihl = (packet[0] & 15) * 4
        self.sport, _, self.isn, _, _, _, _, _ = wire_tcp.parse(packet, ihl)
        self.hear(packet)
        o = self.options
        options = build_syn_options(o["mss"], o["wscale"], o["sack"], o["ts"], 1000, self.tsecr)
        return self.emit(0x12, ISN, self.isn + 1, b"", 60000, options)

    def hear(self, packet: bytes) -> None:
        """Remember the host's timestamp."""
        at = packet.find(b"\x08\x0a", 40, 60)
        if at > 0:
            self.tsecr = int.from_bytes(packet[at + 2 : at + 6], "big")

    def segment(self, flags: str, seq: int, ack: int, n: int, more: dict[str, Any]) -> bytes:
        mask = sum({"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}[c] for c in flags)
        blocks = [self.isn + 1 + edge & 0xFFFFFFFF for edge in more.get("sack", ())]
        options = b""
        if blocks or self.options["ts"]:
            self.tsval += 1
            options = build_established_options(self.options["ts"], self.tsval, self.tsecr, blocks)
        return self.emit(mask, ISN + 1 + seq, self.isn + 1 + ack, bytes(n), more.get("win", 50000), options)

    def emit(self, flags: int, seq: int, ack: int, data: bytes, win: int, options: bytes) -> bytes:
        sum = csum_partial(data, 0, len(data), csum_tcpudp_nofold(THEM, US, 20 + len(options) + len(data), 6, 0))
        th = wire_tcp.emit_csum(PORT, self.sport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, flags, win, 0, options, sum)
        return wire_ip.emit(0, 20 + len(th) + len(data), 1, 0x4000, 64, 6, THEM, US) + th + data


def ask_kernel(options: dict[str, Any], steps: list[Step], fd: int) -> list[dict[str, int]]:
    Path("/proc/sys/net/ipv4/tcp_timestamps").write_text("1" if options["ts"] else "0")
    Path("/proc/sys/net/ipv4/tcp_mtu_probing").write_text(str(options.get("mtu_probing", 0)))
    wire = Wire(options)
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    s.setblocking(False)
    s.connect_ex(("10.0.0.2", PORT))
    time.sleep(0.02)
    os.write(fd, wire.syn(next(iter(pending(fd)))))
    out = []
    for step in [("wait", 20), *steps]:
        kind = step[0]
        if kind == "send":
            assert s.send(bytes(step[1])) == step[1]
        elif kind == "recv":
            s.recv(step[1])
        elif kind == "rx":
            for packet in pending(fd):
                wire.hear(packet)
            os.write(fd, wire.segment(*step[1:]))
        elif kind == "wait":
            time.sleep(step[1] / 1000)
        elif kind == "set":
            s.setsockopt(socket.IPPROTO_TCP, step[1], step[2])
        else:
            s.shutdown(socket.SHUT_WR)
        time.sleep(0.012)
        out.append(fields(s.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 280)))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    for _ in pending(fd):
        pass
    return out


def main() -> None:
    fd = own_namespace()
    answers = {name: ask_kernel(options, steps, fd) for name, (options, steps) in STORIES.items()}
    # each step tells what it changed
    told = {
        name: [rows[0], *({k: v for k, v in b.items() if a[k] != v} for a, b in pairwise(rows))] for name, rows in answers.items()
    }
    if "--update" in sys.argv:
        lines = ",\n".join(json.dumps(n) + ": [\n" + ",\n".join(map(json.dumps, rows)) + "\n]" for n, rows in told.items())
        ANSWERS.write_text("{\n" + lines + "\n}\n")
    else:
        json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
