"""The ICMP header (RFC 792; include/uapi/linux/icmp.h).

     0      1      2          4        8
     | type | code | checksum | rest32 | payload ...

`rest32` is id << 16 | sequence of an echo, the gateway of a redirect, the MTU of "fragmentation needed" (its
lower half), the pointer << 24 of a parameter problem.
"""

from __future__ import annotations

from typing import Final

from afinet.wire import be
from afinet.wire.be import unpack_icmp as parse  # noqa: F401
from afinet.wire.checksum import csum_fold, csum_partial

# parse(b, off) -> (type, code, checksum, rest32), at least ICMP_HLEN bytes at `off`.

ICMP_TYPE: Final = 0
ICMP_CODE: Final = 1
ICMP_CHECKSUM: Final = 2
ICMP_REST: Final = 4
ICMP_HLEN: Final = 8


def emit(type: int, code: int, rest: int, payload: bytes) -> bytes:
    """The whole message with its checksum."""
    check = csum_fold(csum_partial(payload, 0, len(payload), (type << 8 | code) + rest))
    return be.pack_icmp(type, code, check, rest) + payload
