"""A congestion control of one's own beside CUBIC and Reno, over the same link, and a picture of their windows.

    afinet run examples/congestion_aimd.py

The link has 20 ms each way, 10 Mbit/s and room for 60 packets where the rate limits. `Aimd` adds twice what Reno adds a round trip,
and keeps three quarters of its window after a loss instead of half. The windows over virtual time are left in congestion_aimd.svg.
"""

import socket
import struct
import sys
import time

import afinet
from afinet import congestion

SECONDS = 30
NAMES = ("cubic", "reno", "aimd")


class Aimd(congestion.TcpCongestionOps):
    """Additive increase of 2 packets a round trip, multiplicative decrease to 3/4."""

    def __init__(self):
        super().__init__("aimd")

    def ssthresh(self, sk):
        return max(sk.snd_cwnd * 3 // 4, 2)

    def cong_avoid(self, sk, ack, acked):
        if not congestion.tcp_is_cwnd_limited(sk):
            return
        if congestion.tcp_in_slow_start(sk):
            acked = congestion.tcp_slow_start(sk, acked)
            if not acked:
                return
        congestion.tcp_cong_avoid_ai(sk, max(sk.snd_cwnd // 2, 1), acked)


def sink():
    listener = socket.create_server(("", 80))
    while True:
        conn, _ = listener.accept()
        received = 0
        while data := conn.recv(1 << 20):
            received += len(data)
        conn.close()


def send(name, samples):
    """Send for SECONDS, and note the window whenever the send buffer has room again."""
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
    s.connect(("receiver", 80))
    data = bytes(16384)
    began = now = time.monotonic()
    while now - began < SECONDS:
        s.sendall(data)
        now = time.monotonic()
        info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        samples.append((now - began, struct.unpack_from("=I", info, 80)[0]))
    s.close()


def measure(name):
    """(samples of (seconds, packets), bytes a second)"""
    samples = []
    with afinet.Network(seed=7) as net:
        sender, receiver = net.host("sender"), net.host("receiver")
        net.link(sender, receiver, delay="20ms", rate="10mbit", queue=60)
        congestion.register(sender, Aimd())
        receiver.spawn(sink)
        task = sender.spawn(send, name, samples)
        net.run(until=task)
        task.result()
    return samples, len(samples) * 16384 / samples[-1][0]


def svg(curves):
    """A picture of {name: samples}; time to the right, packets upwards."""
    width, height, left, top = 900, 360, 60, 30
    highest = max(cwnd for samples, _ in curves.values() for _, cwnd in samples)
    highest += -highest % 20
    colours = dict(zip(curves, ("#1b6ca8", "#c8553d", "#3a7d44"), strict=True))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + left + 20}" height="{height + top + 50}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for cwnd in range(0, highest + 1, 20):
        y = top + height - cwnd * height / highest
        out.append(f'<path d="M{left} {y:.1f}h{width}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{cwnd}</text>')
    for second in range(0, SECONDS + 1, 5):
        x = left + second * width / SECONDS
        out.append(f'<path d="M{x:.1f} {top}v{height}" stroke="#eee"/>')
        out.append(f'<text x="{x:.1f}" y="{top + height + 20}" text-anchor="middle">{second} s</text>')
    for i, (name, (samples, rate)) in enumerate(curves.items()):
        # a window holds until the next sample
        path = ""
        for t, cwnd in samples:
            x, y = left + t * width / SECONDS, top + height - cwnd * height / highest
            path += f"M{x:.1f} {y:.1f}" if not path else f"H{x:.1f}V{y:.1f}"
        out.append(f'<path d="{path}" fill="none" stroke="{colours[name]}" stroke-width="1.5"/>')
        out.append(
            f'<text x="{left + 12 + 220 * i}" y="{top - 10}" fill="{colours[name]}">{name}: {rate * 8 / 1e6:.2f} Mbit/s</text>'
        )
    out.append(f'<text x="{left + width}" y="{top - 10}" text-anchor="end">congestion window, packets</text>')
    return "\n".join([*out, "</svg>\n"])


def main():
    curves = {name: measure(name) for name in NAMES}
    for name, (samples, rate) in curves.items():
        windows = [cwnd for t, cwnd in samples if t > 5]
        print(f"{name:6} {rate * 8 / 1e6:5.2f} Mbit/s, window {min(windows)} to {max(windows)} packets after 5 s")
    with open("congestion_aimd.svg", "w") as file:
        file.write(svg(curves))
    print("congestion_aimd.svg shows their windows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
