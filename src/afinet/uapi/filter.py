"""include/uapi/linux/filter.h and bpf_common.h: classic BPF. Numbers, and the layouts of sock_filter and sock_fprog."""

from __future__ import annotations

from typing import Final

from afinet.uapi.sockaddr import get_u32, pack_u32, pack_u64

BPF_MAXINSNS: Final = 4096
BPF_MEMWORDS: Final = 16

# classes
BPF_LD: Final = 0x00
BPF_LDX: Final = 0x01
BPF_ST: Final = 0x02
BPF_STX: Final = 0x03
BPF_ALU: Final = 0x04
BPF_JMP: Final = 0x05
BPF_RET: Final = 0x06
BPF_MISC: Final = 0x07

# sizes and modes of loads
BPF_W: Final = 0x00
BPF_H: Final = 0x08
BPF_B: Final = 0x10
BPF_IMM: Final = 0x00
BPF_ABS: Final = 0x20
BPF_IND: Final = 0x40
BPF_MEM: Final = 0x60
BPF_LEN: Final = 0x80
BPF_MSH: Final = 0xA0

# ALU and jump operations, and where their operand comes from
BPF_ADD: Final = 0x00
BPF_SUB: Final = 0x10
BPF_MUL: Final = 0x20
BPF_DIV: Final = 0x30
BPF_OR: Final = 0x40
BPF_AND: Final = 0x50
BPF_LSH: Final = 0x60
BPF_RSH: Final = 0x70
BPF_NEG: Final = 0x80
BPF_MOD: Final = 0x90
BPF_XOR: Final = 0xA0
BPF_JA: Final = 0x00
BPF_JEQ: Final = 0x10
BPF_JGT: Final = 0x20
BPF_JGE: Final = 0x30
BPF_JSET: Final = 0x40
BPF_K: Final = 0x00
BPF_X: Final = 0x08
BPF_A: Final = 0x10
BPF_TAX: Final = 0x00
BPF_TXA: Final = 0x80

# Offsets of loads that are not in the packet, as signed numbers.
SKF_AD_OFF: Final = -0x1000
SKF_AD_PROTOCOL: Final = 0
SKF_AD_PKTTYPE: Final = 4
SKF_AD_IFINDEX: Final = 8
SKF_AD_NLATTR: Final = 12
SKF_AD_NLATTR_NEST: Final = 16
SKF_AD_MARK: Final = 20
SKF_AD_QUEUE: Final = 24
SKF_AD_HATYPE: Final = 28
SKF_AD_RXHASH: Final = 32
SKF_AD_CPU: Final = 36
SKF_AD_ALU_XOR_X: Final = 40
SKF_AD_VLAN_TAG: Final = 44
SKF_AD_VLAN_TAG_PRESENT: Final = 48
SKF_AD_PAY_OFFSET: Final = 52
SKF_AD_RANDOM: Final = 56
SKF_AD_VLAN_TPID: Final = 60
SKF_AD_MAX: Final = 64
SKF_NET_OFF: Final = -0x100000
SKF_LL_OFF: Final = -0x200000

SIZEOF_SOCK_FILTER: Final = 8
SIZEOF_SOCK_FPROG: Final = 16


def bpf_insn(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
    """struct sock_filter: BPF_STMT and, with jt and jf, BPF_JUMP."""
    return bytes([code & 0xFF, code >> 8, jt, jf]) + pack_u32(k)


def pack_sock_fprog(insns: bytes) -> bytes:
    """struct sock_fprog as system calls take it here: `len`, a pointer that is not null, and, since a pointer cannot be followed,
    the instructions behind it."""
    n = len(insns) // SIZEOF_SOCK_FILTER
    return bytes([n & 0xFF, n >> 8 & 0xFF, 0, 0, 0, 0, 0, 0]) + pack_u64(1 if insns else 0) + insns


def unpack_insn(insns: bytes, pc: int) -> tuple[int, int, int, int]:
    """(code, jt, jf, k) of instruction `pc`."""
    at = pc * SIZEOF_SOCK_FILTER
    return insns[at] | insns[at + 1] << 8, insns[at + 2], insns[at + 3], get_u32(insns, at + 4)
