"""The Internet checksum (RFC 1071), under the names of include/net/checksum.h and lib/checksum.c.

A *sum* is a running one's-complement sum of 16-bit big-endian words: a host-order integer that any number of
words and other sums may simply be added to. `csum_fold` folds the carries in and complements it.

Words of 32 bits may be added as they are: 2**16 is 1 modulo 0xffff, so an address or a sequence number counts
the same whole as in halves. A header that is at hand as integers needs no bytes to be summed.

The zero: a sum is 0 only where every byte of it was zero; otherwise what is congruent to zero is 0xffff,
whose complement is 0. UDP, where 0 says "no checksum", sends CSUM_MANGLED_0 instead (udp.py).
"""

from __future__ import annotations

from typing import Final

from afinet._build import COMPILED

if COMPILED:
    from afinet.wire._be_librt import csum_partial as csum_partial
else:
    from afinet.wire._be_struct import csum_partial as csum_partial

# csum_partial(data, start, end, sum) -> sum: `sum` plus the words of data[start:end], folded to 16 bits, not
# complemented. An odd last byte counts as the upper half of a word whose lower half is zero.

CSUM_MANGLED_0: Final = 0xFFFF


def csum_block_add(sum: int, sum2: int, offset: int) -> int:
    """`sum` of the first `offset` bytes, joined with `sum2` of what follows: at an odd offset the bytes of
    the second change halves. csum_partial's value, that is at most 0xffff, is expected of sum2."""
    if offset & 1:
        sum2 = (sum2 & 0xFF) << 8 | sum2 >> 8
    return sum + sum2


def csum_pieces(pieces: list[bytes], sum: int) -> int:
    """The sum of the pieces laid end to end, of any length each, odd ones too."""
    offset = 0
    for piece in pieces:
        n = len(piece)
        sum = csum_block_add(sum, csum_partial(piece, 0, n, 0), offset)
        offset += n
    return sum


def csum_fold(sum: int) -> int:
    """The checksum field that belongs to a sum. Of a range that contains its checksum: 0 when it is right."""
    while sum > 0xFFFF:
        sum = (sum & 0xFFFF) + (sum >> 16)
    return sum ^ 0xFFFF


def ip_compute_csum(data: bytes, start: int, end: int) -> int:
    """The checksum of data[start:end]: 0 when the range contains its right checksum."""
    return csum_partial(data, start, end, 0) ^ 0xFFFF


def ip_fast_csum(b: bytes, off: int, ihl: int) -> int:
    """The checksum of the IP header at `off`, `ihl` words long: 0 when the one it contains is right."""
    return csum_partial(b, off, off + ihl * 4, 0) ^ 0xFFFF


def csum_tcpudp_nofold(saddr: int, daddr: int, length: int, proto: int, sum: int) -> int:
    """Add the pseudo-header. Not folded: CHECKSUM_PARTIAL wants it folded but not complemented
    (`csum_fold(...) ^ 0xffff`)."""
    return sum + saddr + daddr + length + proto


def csum_tcpudp_magic(saddr: int, daddr: int, length: int, proto: int, sum: int) -> int:
    """The checksum of a segment whose own bytes sum to `sum`; 0 when that includes its right checksum."""
    return csum_fold(sum + saddr + daddr + length + proto)
