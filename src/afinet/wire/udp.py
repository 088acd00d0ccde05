"""The UDP header (RFC 768; include/uapi/linux/udp.h).

0       2       4     6       8
| sport | dport | len | check | payload ...
"""

from __future__ import annotations

from typing import Final

from afinet.wire import be
from afinet.wire.be import pack_udp as emit  # noqa: F401
from afinet.wire.be import unpack_udp as parse  # noqa: F401
from afinet.wire.checksum import CSUM_MANGLED_0, csum_fold

# parse(b, off) -> (sport, dport, len, check), at least UDP_HLEN bytes at `off`.
# emit(sport, dport, len, check) -> 8 bytes; `len` counts the header.

UDP_SPORT: Final = 0
UDP_DPORT: Final = 2
UDP_LEN: Final = 4
UDP_CHECK: Final = 6
UDP_HLEN: Final = 8


def emit_csum(sport: int, dport: int, length: int, sum: int) -> bytes:
    """The header with its checksum; `sum` is that of the payload and the pseudo-header (csum_tcpudp_nofold).
    A checksum of 0 is sent as CSUM_MANGLED_0, since 0 says there is none."""
    check = csum_fold(sum + sport + dport + length)
    if check == 0:
        check = CSUM_MANGLED_0
    return be.pack_udp(sport, dport, length, check)
