"""drivers/char/random.c, and lib/siphash.c's part: named streams of chance, all derived from one seed.

A stream is SHA-256 in counter mode over (seed, name): the same bytes on every Python, whatever else draws. Keyed hashes
(`siphash`) serve where Linux uses them: initial sequence numbers, ports, the hash tables' secrets. Outside simulations the
seed comes from the operating system's own generator, through the runner, so that nobody can guess either.
"""

from __future__ import annotations

import hashlib


class RandomStream:
    """One named stream. Integers only; bounds are exact (rejection, no modulo bias)."""

    __slots__ = ("_buf", "_counter", "_key", "_off")

    def __init__(self, seed: bytes, name: str) -> None:
        self._key: bytes = hashlib.sha256(seed + b"\0" + name.encode()).digest()
        self._counter: int = 0
        self._buf: bytes = b""
        self._off: int = 0

    def get_random_bytes(self, n: int) -> bytes:
        out = b""
        while len(out) < n:
            if self._off >= len(self._buf):
                self._refill()
            take = self._buf[self._off : self._off + n - len(out)]
            self._off += len(take)
            out += take
        return out

    def _refill(self) -> None:
        self._buf = hashlib.sha256(self._key + self._counter.to_bytes(8, "big")).digest()
        self._counter += 1
        self._off = 0

    def get_random_u32(self) -> int:
        if self._off + 4 > len(self._buf):
            self._refill()
        off = self._off
        self._off = off + 4
        buf = self._buf
        return buf[off] << 24 | buf[off + 1] << 16 | buf[off + 2] << 8 | buf[off + 3]

    def get_random_u32_below(self, ceil: int) -> int:
        """Uniform in [0, ceil), 0 < ceil <= 2**32."""
        limit = (1 << 32) - (1 << 32) % ceil
        while True:
            value = self.get_random_u32()
            if value < limit:
                return value % ceil


def siphash(key: bytes, data: bytes) -> int:
    """A keyed hash of `data`, 62 bits. The function is BLAKE2s where Linux has SipHash: any keyed PRF serves (RFC 6528)."""
    return int.from_bytes(hashlib.blake2s(data, digest_size=8, key=key).digest(), "big") >> 2
