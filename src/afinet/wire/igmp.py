"""IGMP messages (RFC 1112, 2236, 3376; include/uapi/linux/igmp.h). Addresses are 32-bit integers in host order.

     0      1      2          4       8           9       10      12
     | type | code | checksum | group |                                       a version 1 or 2 message
     | 0x11 | code | checksum | group | s and qrv | qqic  | nsrcs | source ...   a version 3 query
     | 0x22 | 0    | checksum | 0     | ngrec     | record ...                   a version 3 report (2 bytes each from 4 on)

A record: type, 0, number of sources (2), group (4), sources (4 each).
"""

from __future__ import annotations

from typing import Final

from afinet.uapi.igmp import IGMPV3_HOST_MEMBERSHIP_REPORT
from afinet.wire import be
from afinet.wire.be import unpack_icmp as parse  # noqa: F401
from afinet.wire.checksum import csum_fold, csum_partial

# parse(b, off) -> (type, code, checksum, group), at least IGMP_HLEN bytes at `off`: the header is shaped as ICMP's.

IGMP_HLEN: Final = 8
IGMPV3_QUERY_HLEN: Final = 12
IGMPV3_REPORT_HLEN: Final = 8
IGMPV3_GREC_HLEN: Final = 8


def emit(type: int, code: int, group: int) -> bytes:
    """A message of version 1 or 2."""
    return be.pack_icmp(type, code, csum_fold((type << 8 | code) + group), group)


def grec(type: int, group: int, sources: list[int]) -> bytes:
    """A group record."""
    return b"".join([be.put_u32(type << 24 | len(sources)), be.put_u32(group), *[be.put_u32(source) for source in sources]])


def emit_v3_report(records: list[bytes]) -> bytes:
    body = b"".join(records)
    head = IGMPV3_HOST_MEMBERSHIP_REPORT << 8
    check = csum_fold(csum_partial(body, 0, len(body), head + len(records)))
    return be.pack_icmp(IGMPV3_HOST_MEMBERSHIP_REPORT, 0, check, len(records)) + body


def float8(value: int) -> int:
    """IGMPV3_MRC and IGMPV3_QQIC: from 128 on three bits of exponent and four of mantissa (RFC 3376, 4.1.1)."""
    if value < 0x80:
        return value
    return (value & 0x0F | 0x10) << ((value >> 4 & 7) + 3)
