"""The TCP header (RFC 9293; include/uapi/linux/tcp.h). Options: tcp_options.py.

     0       2       4     8         12           14       16      18        20
     | sport | dport | seq | ack_seq | doff_flags | window | check | urg_ptr | options

doff_flags holds the length in words (upper four bits), three reserved bits, and nine flags.
"""

from __future__ import annotations

from typing import Final

from afinet.wire import be
from afinet.wire.be import unpack_tcp as parse  # noqa: F401
from afinet.wire.checksum import csum_fold, csum_partial

# parse(b, off) -> (sport, dport, seq, ack_seq, doff_flags, window, check, urg_ptr), at least TCP_HLEN bytes
# at `off`: doff = doff_flags >> 12, flags = doff_flags & TCPHDR_MASK.

TCP_SPORT: Final = 0
TCP_DPORT: Final = 2
TCP_SEQ: Final = 4
TCP_ACK_SEQ: Final = 8
TCP_DOFF_FLAGS: Final = 12
TCP_WINDOW: Final = 14
TCP_CHECK: Final = 16
TCP_URG_PTR: Final = 18
TCP_HLEN: Final = 20

TCPHDR_FIN: Final = 0x001
TCPHDR_SYN: Final = 0x002
TCPHDR_RST: Final = 0x004
TCPHDR_PSH: Final = 0x008
TCPHDR_ACK: Final = 0x010
TCPHDR_URG: Final = 0x020
TCPHDR_ECE: Final = 0x040
TCPHDR_CWR: Final = 0x080
TCPHDR_AE: Final = 0x100
TCPHDR_MASK: Final = 0x1FF
TCPHDR_ACE: Final = 0x1C0
TCPHDR_SYN_ECN: Final = 0x0C2
TCPHDR_SYNACK_ACE: Final = 0x1D2


def emit(
    sport: int, dport: int, seq: int, ack_seq: int, flags: int, window: int, check: int, urg_ptr: int,
    options: bytes,
) -> bytes:  # fmt: skip
    """The header. `options` comes padded to four bytes."""
    n = len(options)
    doff_flags = 20 + n << 10 | flags
    if n == 0:
        return be.pack_tcp(sport, dport, seq, ack_seq, doff_flags, window, check, urg_ptr)
    return be.pack_tcp_options(sport, dport, seq, ack_seq, doff_flags, window, check, urg_ptr, options)


def header_sum(
    sport: int, dport: int, seq: int, ack_seq: int, flags: int, window: int, urg_ptr: int, options: bytes
) -> int:
    """The running sum (checksum.py) of the header that emit() makes, its check field being 0."""
    n = len(options)
    sum = sport + dport + seq + ack_seq + (20 + n << 10 | flags) + window + urg_ptr
    if n == 12:  # the timestamp alone: three words at once
        a, b, c = be.unpack_u32x3(options, 0)
        return sum + a + b + c
    if n == 0:
        return sum
    return csum_partial(options, 0, n, sum)


def emit_csum(
    sport: int, dport: int, seq: int, ack_seq: int, flags: int, window: int, urg_ptr: int, options: bytes,
    sum: int,
) -> bytes:  # fmt: skip
    """The header with its checksum; `sum` is that of the payload and the pseudo-header (csum_tcpudp_nofold,
    whose length counts header, options and payload)."""
    check = csum_fold(sum + header_sum(sport, dport, seq, ack_seq, flags, window, urg_ptr, options))
    return emit(sport, dport, seq, ack_seq, flags, window, check, urg_ptr, options)
