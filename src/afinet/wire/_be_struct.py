"""be.py and csum_partial for the interpreter: one struct.Struct a header, called as a C function.

The twin of _be_librt.py; tests/wire/test_be.py holds them equal. `unpack_tcp` and the others are the bound
methods of a Struct, so that a header costs one call and no Python frame.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct, pack
from typing import Final

_U16: Final = Struct("!H")
_U32: Final = Struct("!I")
_U64: Final = Struct("!Q")
_ETH: Final = Struct("!HIHIH")
_ARP: Final = Struct("!HHBBHHIIHII")
_IP: Final = Struct("!BBHHHBBHII")
_ICMP: Final = Struct("!BBHI")
_UDP: Final = Struct("!HHHH")
_TCP: Final = Struct("!HHIIHHHH")
_U32X3: Final = Struct("!III")

Int3 = tuple[int, int, int]
Int4 = tuple[int, int, int, int]
Int8 = tuple[int, int, int, int, int, int, int, int]
Int9 = tuple[int, int, int, int, int, int, int, int, int]
Int10 = tuple[int, int, int, int, int, int, int, int, int, int]


def get_u8(b: bytes, off: int, /) -> int:
    return b[off]


def get_u16(b: bytes, off: int, /) -> int:
    return b[off] << 8 | b[off + 1]


def get_u32(b: bytes, off: int, /) -> int:
    v: int = _U32.unpack_from(b, off)[0]
    return v


def get_u64(b: bytes, off: int, /) -> int:
    v: int = _U64.unpack_from(b, off)[0]
    return v


put_u16: Callable[[int], bytes] = _U16.pack
put_u32: Callable[[int], bytes] = _U32.pack
unpack_u32x3: Callable[[bytes, int], Int3] = _U32X3.unpack_from
pack_u32x3: Callable[[int, int, int], bytes] = _U32X3.pack
unpack_ip: Callable[[bytes, int], Int10] = _IP.unpack_from
pack_ip: Callable[[int, int, int, int, int, int, int, int, int, int], bytes] = _IP.pack
unpack_icmp: Callable[[bytes, int], Int4] = _ICMP.unpack_from
pack_icmp: Callable[[int, int, int, int], bytes] = _ICMP.pack
unpack_udp: Callable[[bytes, int], Int4] = _UDP.unpack_from
pack_udp: Callable[[int, int, int, int], bytes] = _UDP.pack
unpack_tcp: Callable[[bytes, int], Int8] = _TCP.unpack_from
pack_tcp: Callable[[int, int, int, int, int, int, int, int], bytes] = _TCP.pack


def pack_tcp_options(
    sport: int, dport: int, seq: int, ack_seq: int, doff_flags: int, window: int, check: int, urg_ptr: int,
    options: bytes, /,
) -> bytes:  # fmt: skip
    return _TCP.pack(sport, dport, seq, ack_seq, doff_flags, window, check, urg_ptr) + options


def put_u32s(words: list[int], /) -> bytes:
    return pack(f"!{len(words)}I", *words)


def unpack_eth(b: bytes, off: int, /) -> Int3:
    dst_hi, dst_lo, src_hi, src_lo, proto = _ETH.unpack_from(b, off)
    return dst_hi << 32 | dst_lo, src_hi << 32 | src_lo, proto


def pack_eth(dst: int, src: int, proto: int, /) -> bytes:
    return _ETH.pack(dst >> 32, dst & 0xFFFFFFFF, src >> 32, src & 0xFFFFFFFF, proto)


def unpack_arp(b: bytes, off: int, /) -> Int9:
    hrd, pro, hln, pln, op, sha_hi, sha_lo, spa, tha_hi, tha_lo, tpa = _ARP.unpack_from(b, off)
    return hrd, pro, hln, pln, op, sha_hi << 32 | sha_lo, spa, tha_hi << 32 | tha_lo, tpa


def pack_arp(
    hrd: int, pro: int, hln: int, pln: int, op: int, sha: int, spa: int, tha: int, tpa: int, /
) -> bytes:
    return _ARP.pack(
        hrd, pro, hln, pln, op, sha >> 32, sha & 0xFFFFFFFF, spa, tha >> 32, tha & 0xFFFFFFFF, tpa
    )


def csum_partial(data: bytes, start: int, end: int, sum: int, /) -> int:
    """See checksum.csum_partial. 2**16 is 1 modulo 0xffff, so the whole range as one number, modulo 0xffff,
    is the sum of its 16-bit words with every carry folded in; and zero only stands for all zero."""
    n = int.from_bytes(data[start:end], "big")
    if (end - start) & 1:
        n <<= 8
    n += sum
    r = n % 0xFFFF
    if r == 0 and n != 0:
        return 0xFFFF
    return r
