"""Options and control messages made of noise, on every kind of socket in several states: an errno, never an exception; nothing is
left. AFINET_HOSTILE_OPTIONS sets how many."""

from __future__ import annotations

import os
import struct

import pytest

from afinet.kernel.random import RandomStream
from tests.net.ipv4.dgramhost import SEC, A, B, Hosts, sa

COUNT = int(os.environ.get("AFINET_HOSTILE_OPTIONS", "4000"))
KINDS = {"tcp": (1, 6), "udp": (2, 17), "ping": (2, 1), "rawicmp": (3, 1), "rawraw": (3, 255)}
LEVELS = (0, 1, 6, 17, 255)
LENGTHS = (0, 1, 3, 4, 4, 4, 4, 8, 12, 16, 16, 24, 40, 60, 136, 200)


def noise(rng: RandomStream, n: int) -> bytes:
    """Bytes that are small numbers more often than chance would have it."""
    kind = rng.get_random_u32_below(4)
    if kind == 0:
        return rng.get_random_bytes(n)
    if kind == 1:
        return (struct.pack("=i", rng.get_random_u32_below(5) - 1) * (n // 4 + 1))[:n]
    if kind == 2:
        return (b"\2\0" + struct.pack("=H", 20480) + b"\x0a\x09\0\1" + b"\xe0\0\0\1" * 40)[:n] + bytes(max(0, n - 168))
    return bytes(n)


def control(rng: RandomStream) -> bytes:
    out = b""
    for _ in range(rng.get_random_u32_below(4)):
        data = noise(rng, LENGTHS[rng.get_random_u32_below(len(LENGTHS))])
        level = LEVELS[rng.get_random_u32_below(3)]
        length = 16 + len(data) if rng.get_random_u32_below(8) else rng.get_random_u32_below(64)
        out += struct.pack("=Qii", length, level, rng.get_random_u32_below(90)) + data + bytes(-len(data) % 8)
    return out


def end(h: Hosts, fd: int) -> None:
    """Close without waiting, whatever SO_LINGER became."""
    if fd >= 0:
        h.setsockopt(fd, 1, 13, bytes(8))
        h.close(fd)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_as_options_and_control_messages_raises_nothing_and_leaves_nothing(kind: str) -> None:
    h = Hosts()
    rng = RandomStream(b"hostile options", kind)
    type, protocol = KINDS[kind]
    peer = h.socket(1, 2, type | 0x800, protocol)
    if kind == "tcp":
        h.bind(peer, sa(B, 5000))
        h.listen(peer, 5)
    elif kind == "udp":
        h.bind(peer, sa(B, 5000))
    errnos: dict[int, int] = {}
    fd = -1
    for i in range(COUNT):
        if i % 100 == 0:
            end(h, fd)
            fd = h.socket(0, 2, type | 0x800, protocol)
            assert fd >= 0
            if i % 300:
                h.bind(fd, sa(A, 0))
            if i % 200:
                h.connect(fd, sa(B, 5000))
        level = LEVELS[rng.get_random_u32_below(len(LEVELS))]
        name = rng.get_random_u32_below(90)
        size = LENGTHS[rng.get_random_u32_below(len(LENGTHS))]
        if (level, name) != (1, 5) or rng.get_random_u32_below(10) == 0:
            err = h.setsockopt(fd, level, name, noise(rng, size))
            assert -134 <= err <= 0
            errnos[err] = errnos.get(err, 0) + 1
        err, value = h.getsockopt(fd, level, name, size)
        assert -134 <= err <= 0 and (len(value) <= max(size, 8 * 4096))
        if i % 4 == 0:
            sent = h.sendmsg(fd, noise(rng, 40), 0x4040, sa(B, 5000) if i % 8 else b"", control(rng))
            assert -134 <= sent <= 40
            h.recvmsg(fd, 100, 0x40, size)
            h.recvmsg(fd, 100, 0x2040, size)
            h.recvmsg(peer, 100, 0x40, size)
    assert len(errnos) >= 4 and errnos[0] > COUNT // 20
    assert h.kernel.warned == {}
    end(h, fd)
    h.close(peer)
    h.run_until(h.kernel.now + 200 * SEC)
