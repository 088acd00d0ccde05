"""ARP for IPv4 over Ethernet (RFC 826; include/uapi/linux/if_arp.h).

0     2     4     5     6    8      14    18     24    28
 | hrd | pro | hln | pln | op | sha  | spa | tha  | tpa |
"""

from __future__ import annotations

from typing import Final

from afinet.wire import be

ARP_HRD: Final = 0
ARP_PRO: Final = 2
ARP_HLN: Final = 4
ARP_PLN: Final = 5
ARP_OP: Final = 6
ARP_SHA: Final = 8
ARP_SPA: Final = 14
ARP_THA: Final = 18
ARP_TPA: Final = 24
ARP_LEN: Final = 28

ARPHRD_ETHER: Final = 1
ARPHRD_IEEE802: Final = 6
ARPOP_REQUEST: Final = 1
ARPOP_REPLY: Final = 2


def parse(b: bytes, off: int) -> tuple[int, int, int, int, int] | None:
    """(op, sha, spa, tha, tpa), or None: cut short, or not IPv4 over Ethernet. As arp_process does, hardware
    type 6 (IEEE 802) passes for Ethernet."""
    if off < 0 or len(b) - off < ARP_LEN:
        return None
    hrd, pro, hln, pln, op, sha, spa, tha, tpa = be.unpack_arp(b, off)
    if hrd != ARPHRD_ETHER and hrd != ARPHRD_IEEE802:
        return None
    if pro != 0x0800 or hln != 6 or pln != 4:
        return None
    return op, sha, spa, tha, tpa


def emit(op: int, sha: int, spa: int, tha: int, tpa: int) -> bytes:
    return be.pack_arp(ARPHRD_ETHER, 0x0800, 6, 4, op, sha, spa, tha, tpa)
