"""A path with delay and loss between two namespaces: what a TUN device of one is sent comes out of the other's, later or never.

`python -m tests.wire_real.relay FD FD DELAY_MS LOSS SEED` relays between two attached descriptors until it is killed.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001


def attach(name: str) -> int:
    """A new TUN device in the calling thread's namespace."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN_NO_PI))
    return fd


def relay(ends: tuple[int, int], delay: float, loss: float, seed: int) -> None:
    chance = random.Random(seed)
    queues: dict[int, deque[tuple[float, bytes]]] = {fd: deque() for fd in ends}
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    poll = select.poll()
    for fd in ends:
        poll.register(fd, select.POLLIN)
    while True:
        now = time.monotonic()
        due = [queue[0][0] for queue in queues.values() if queue]
        for fd, _ in poll.poll(max(min(due) - now, 0) * 1000 if due else None):
            for _ in range(64):
                try:
                    packet = os.read(fd, 2000)
                except BlockingIOError:
                    break
                if chance.random() >= loss:
                    queues[other[fd]].append((time.monotonic() + delay, packet))
        now = time.monotonic()
        for fd, queue in queues.items():
            while queue and queue[0][0] <= now:
                os.write(fd, queue.popleft()[1])


if __name__ == "__main__":
    first, second, milliseconds, share, number = sys.argv[1:]
    relay((int(first), int(second)), int(milliseconds) / 1000, float(share), int(number))
