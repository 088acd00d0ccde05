"""The IPv4 header (RFC 791; include/uapi/linux/ip.h). Addresses are 32-bit integers in host order.

0             1     2         4    6          8     9          10      12      16      20
| version_ihl | tos | tot_len | id | frag_off | ttl | protocol | check | saddr | daddr | options
"""

from __future__ import annotations

from typing import Final

from afinet.wire import be
from afinet.wire.be import unpack_ip as parse  # noqa: F401
from afinet.wire.checksum import csum_fold, csum_partial

# parse(b, off) -> (version_ihl, tos, tot_len, id, frag_off, ttl, protocol, check, saddr, daddr), at least
# IP_HLEN bytes at `off`. ip_rcv makes the other checks (version, ihl, tot_len, checksum).

IP_VERSION_IHL: Final = 0
IP_TOS: Final = 1
IP_TOT_LEN: Final = 2
IP_ID: Final = 4
IP_FRAG_OFF: Final = 6
IP_TTL: Final = 8
IP_PROTOCOL: Final = 9
IP_CHECK: Final = 10
IP_SADDR: Final = 12
IP_DADDR: Final = 16
IP_HLEN: Final = 20
MAX_IPOPTLEN: Final = 40

# In frag_off; the offset counts eight bytes.
IP_CE: Final = 0x8000
IP_DF: Final = 0x4000
IP_MF: Final = 0x2000
IP_OFFSET: Final = 0x1FFF


def emit(
    tos: int, tot_len: int, id: int, frag_off: int, ttl: int, protocol: int, saddr: int, daddr: int,
    options: bytes = b"",
) -> bytes:  # fmt: skip
    """The header with its checksum. `options` comes padded to four bytes."""
    n = len(options)
    version_ihl = 0x45 + (n >> 2)
    sum = (version_ihl << 8 | tos) + tot_len + id + frag_off + (ttl << 8 | protocol) + saddr + daddr
    if n == 0:
        check = csum_fold(sum)
        return be.pack_ip(version_ihl, tos, tot_len, id, frag_off, ttl, protocol, check, saddr, daddr)
    check = csum_fold(csum_partial(options, 0, n, sum))
    return be.pack_ip(version_ihl, tos, tot_len, id, frag_off, ttl, protocol, check, saddr, daddr) + options


def csum_decreased_ttl(check: int) -> int:
    """The checksum after TTL went down by one (RFC 1141): what Linux's ip_decrease_ttl computes."""
    check += 0x0100
    if check >= 0xFFFF:
        check = check + 1 & 0xFFFF
    return check


def ip_decrease_ttl(b: bytes, off: int) -> bytes:
    """The header at `off`, options and all, with TTL one lower and the checksum adjusted to it."""
    version_ihl, tos, tot_len, id, frag_off, ttl, protocol, check, saddr, daddr = parse(b, off)
    check = csum_decreased_ttl(check)
    head = be.pack_ip(version_ihl, tos, tot_len, id, frag_off, ttl - 1 & 0xFF, protocol, check, saddr, daddr)
    end = off + (version_ihl & 15) * 4
    if end > off + IP_HLEN:
        head += b[off + IP_HLEN : end]
    return head
