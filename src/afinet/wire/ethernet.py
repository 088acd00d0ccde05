"""The Ethernet header (include/uapi/linux/if_ether.h). Addresses are 48-bit integers.

0          6          12      14
| dst      | src      | proto | payload ...
"""

from __future__ import annotations

from typing import Final

from afinet.wire import be
from afinet.wire.be import pack_eth as emit  # noqa: F401
from afinet.wire.be import unpack_eth as parse  # noqa: F401

# parse(b, off) -> (dst, src, proto), at least ETH_HLEN bytes at `off`; emit(dst, src, proto) -> 14 bytes.

ETH_ALEN: Final = 6
ETH_HLEN: Final = 14
ETH_ZLEN: Final = 60
ETH_P_802_3_MIN: Final = 0x0600
ETH_BROADCAST: Final = 0xFFFFFFFFFFFF

ETH_DST: Final = 0
ETH_SRC: Final = 6
ETH_PROTO: Final = 12


def is_broadcast_ether_addr(addr: int) -> bool:
    return addr == ETH_BROADCAST


def is_multicast_ether_addr(addr: int) -> bool:
    """True of the broadcast address as well, as in Linux."""
    return addr & 0x010000000000 != 0


def is_zero_ether_addr(addr: int) -> bool:
    return addr == 0


def is_valid_ether_addr(addr: int) -> bool:
    return addr != 0 and addr & 0x010000000000 == 0


def mac_int(mac: bytes) -> int:
    """Six bytes, as an ioctl or netlink carries them."""
    return be.get_u16(mac, 0) << 32 | be.get_u32(mac, 2)


def mac_bytes(addr: int) -> bytes:
    return be.put_u16(addr >> 32) + be.put_u32(addr & 0xFFFFFFFF)


def format_mac(addr: int) -> str:
    return mac_bytes(addr).hex(":")
