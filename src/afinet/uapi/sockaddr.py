"""Packed structs at the system-call face: sockaddr, linger, timeval, in_pktinfo, cmsghdr (include/uapi/linux/in.h, socket.h).

The layout is x86-64's and little-endian on every host, so that a trace is the same bytes everywhere; ports and addresses are in
network order, as always. Readers check nothing: the caller has made sure of the length, as a kernel function does after
`addr_len < sizeof(...)`. Inside the stack addresses and ports are plain ints.
"""

from __future__ import annotations

from typing import Final

SIZEOF_SA_FAMILY: Final = 2
SIZEOF_SOCKADDR: Final = 16
SIZEOF_SOCKADDR_IN: Final = 16
SIZEOF_SOCKADDR_STORAGE: Final = 128
SIZEOF_INT: Final = 4
SIZEOF_LINGER: Final = 8
SIZEOF_TIMEVAL: Final = 16
SIZEOF_TIMESPEC: Final = 16
SIZEOF_IN_PKTINFO: Final = 12
SIZEOF_CMSGHDR: Final = 16
SIZEOF_IFREQ: Final = 40

# -- integers ---------------------------------------------------------------------------------------------------------


def get_s32(b: bytes, off: int) -> int:
    v = b[off] | b[off + 1] << 8 | b[off + 2] << 16 | b[off + 3] << 24
    return v - 0x100000000 if v & 0x80000000 else v


def get_u32(b: bytes, off: int) -> int:
    return b[off] | b[off + 1] << 8 | b[off + 2] << 16 | b[off + 3] << 24


def get_s64(b: bytes, off: int) -> int:
    return get_u32(b, off) | get_s32(b, off + 4) << 32


def get_be32(b: bytes, off: int) -> int:
    return b[off] << 24 | b[off + 1] << 16 | b[off + 2] << 8 | b[off + 3]


def pack_s32(v: int) -> bytes:
    """An int, wrapped as C wraps it."""
    return (v & 0xFFFFFFFF).to_bytes(4, "little")


def pack_u32(v: int) -> bytes:
    return (v & 0xFFFFFFFF).to_bytes(4, "little")


def pack_u64(v: int) -> bytes:
    return (v & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little")


def pack_be32(v: int) -> bytes:
    return v.to_bytes(4, "big")


# -- sockaddr ---------------------------------------------------------------------------------------------------------


def pack_sockaddr_in(addr: int, port: int) -> bytes:
    """struct sockaddr_in, 16 bytes."""
    return b"\x02\0" + (port << 32 | addr).to_bytes(6, "big") + b"\0\0\0\0\0\0\0\0"


def unpack_sockaddr_in(b: bytes) -> tuple[int, int]:
    """(address, port) of eight bytes or more; the family is the caller's to check (sa_family)."""
    return b[4] << 24 | b[5] << 16 | b[6] << 8 | b[7], b[2] << 8 | b[3]


def sa_family(b: bytes) -> int:
    """The family of any sockaddr of two bytes or more."""
    return b[0] | b[1] << 8


def sockaddr_unspec() -> bytes:
    """The address that dissolves an association: AF_UNSPEC, sixteen zero bytes."""
    return bytes(SIZEOF_SOCKADDR)


# -- option values ----------------------------------------------------------------------------------------------------


def pack_linger(l_onoff: int, l_linger: int) -> bytes:
    return pack_s32(l_onoff) + pack_s32(l_linger)


def unpack_linger(b: bytes) -> tuple[int, int]:
    """(l_onoff, l_linger in seconds)."""
    return get_s32(b, 0), get_s32(b, 4)


def pack_timeval(sec: int, usec: int) -> bytes:
    """struct timeval of a 64-bit machine; __kernel_sock_timeval is the same."""
    return pack_u64(sec) + pack_u64(usec)


def unpack_timeval(b: bytes) -> tuple[int, int]:
    """(seconds, microseconds)."""
    return get_s64(b, 0), get_s64(b, 8)


def pack_timespec(sec: int, nsec: int) -> bytes:
    return pack_u64(sec) + pack_u64(nsec)


def pack_in_pktinfo(ifindex: int, spec_dst: int, addr: int) -> bytes:
    return pack_s32(ifindex) + pack_be32(spec_dst) + pack_be32(addr)


def unpack_in_pktinfo(b: bytes) -> tuple[int, int, int]:
    """(ipi_ifindex, ipi_spec_dst, ipi_addr)."""
    return get_s32(b, 0), get_be32(b, 4), get_be32(b, 8)


# -- control messages -------------------------------------------------------------------------------------------------


def cmsg_align(n: int) -> int:
    return (n + 7) & -8


def pack_cmsg(level: int, type: int, data: bytes) -> bytes:
    """One control message, padded to where the next one begins (CMSG_SPACE)."""
    pad = -len(data) & 7
    return pack_u64(SIZEOF_CMSGHDR + len(data)) + pack_s32(level) + pack_s32(type) + data + bytes(pad)


def parse_cmsgs(control: bytes) -> list[tuple[int, int, bytes]] | None:
    """(level, type, data) of each control message, None if one is malformed (CMSG_OK fails: -EINVAL).

    As for_each_cmsghdr: what is too short to hold a header ends the walk and is no error.
    """
    out: list[tuple[int, int, bytes]] = []
    off = 0
    size = len(control)
    while off + SIZEOF_CMSGHDR <= size:
        cmsg_len = get_s64(control, off)
        if cmsg_len < SIZEOF_CMSGHDR or cmsg_len > size - off:
            return None
        out.append(
            (get_s32(control, off + 8), get_s32(control, off + 12), control[off + SIZEOF_CMSGHDR : off + cmsg_len])
        )
        off += cmsg_align(cmsg_len)
    return out
