"""net/core/filter.c: socket filters in classic BPF, and whether a packet may go to a sock.

setsockopt: sk_attach_filter -> __get_filter -> bpf_check_classic -> __sk_attach_prog; sk_detach_filter, sk_get_filter. A program is
kept as it was written, after the checks; Linux translates it to eBPF, and the memory that it charges is the translation's, which
is why bpf_prog_size computes how long that would be. Receiving: sk_filter_trim_cap asks the security hooks, then runs the program,
which says how many bytes of the packet to keep.

Offsets count from where the packet's `data` is: the transport header for TCP and UDP, the IP header for raw sockets, the payload
for a program that chooses among the socks of a SO_REUSEPORT group. A load beyond the packet ends the program with 0.

Left out: eBPF (there is no bpf(2); SO_ATTACH_BPF and SO_ATTACH_REUSEPORT_EBPF are -ENOPROTOOPT), VLAN tags (always 0), and payload
offsets through tunnels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.net.core import datagram
from afinet.net.core.drop_reason import SKB_DROP_REASON_SECURITY_HOOK, SKB_DROP_REASON_SOCKET_FILTER
from afinet.net.core.skbuff import pskb_trim, skb_linearize, skb_pieces
from afinet.net.core.sock import SOCK_FILTER_LOCKED, sock_flag
from afinet.security import security
from afinet.uapi.errno import EINVAL, ENOENT, ENOMEM, EPERM
from afinet.uapi.filter import (
    BPF_A,
    BPF_ABS,
    BPF_ADD,
    BPF_ALU,
    BPF_AND,
    BPF_B,
    BPF_DIV,
    BPF_H,
    BPF_IMM,
    BPF_IND,
    BPF_JA,
    BPF_JEQ,
    BPF_JGE,
    BPF_JGT,
    BPF_JMP,
    BPF_JSET,
    BPF_K,
    BPF_LD,
    BPF_LDX,
    BPF_LEN,
    BPF_LSH,
    BPF_MAXINSNS,
    BPF_MEM,
    BPF_MEMWORDS,
    BPF_MISC,
    BPF_MOD,
    BPF_MSH,
    BPF_MUL,
    BPF_NEG,
    BPF_OR,
    BPF_RET,
    BPF_RSH,
    BPF_ST,
    BPF_STX,
    BPF_SUB,
    BPF_TAX,
    BPF_TXA,
    BPF_W,
    BPF_X,
    BPF_XOR,
    SIZEOF_SOCK_FILTER,
    SIZEOF_SOCK_FPROG,
    SKF_AD_ALU_XOR_X,
    SKF_AD_CPU,
    SKF_AD_HATYPE,
    SKF_AD_IFINDEX,
    SKF_AD_MARK,
    SKF_AD_MAX,
    SKF_AD_NLATTR,
    SKF_AD_NLATTR_NEST,
    SKF_AD_OFF,
    SKF_AD_PAY_OFFSET,
    SKF_AD_PKTTYPE,
    SKF_AD_PROTOCOL,
    SKF_AD_QUEUE,
    SKF_AD_RANDOM,
    SKF_AD_RXHASH,
    SKF_AD_VLAN_TAG,
    SKF_AD_VLAN_TAG_PRESENT,
    SKF_AD_VLAN_TPID,
    SKF_LL_OFF,
    SKF_NET_OFF,
    unpack_insn,
)
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.in_ import IPPROTO_ICMP, IPPROTO_IGMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE
from afinet.uapi.sockaddr import get_s64
from afinet.wire.ip import IP_MF, IP_OFFSET

if TYPE_CHECKING:
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Sock

U32: Final = 0xFFFFFFFF

# Whole opcodes, in the order of bpf_prog_run. What is not named here is no instruction.
LD_W_ABS: Final = BPF_LD | BPF_W | BPF_ABS
LD_H_ABS: Final = BPF_LD | BPF_H | BPF_ABS
LD_B_ABS: Final = BPF_LD | BPF_B | BPF_ABS
LD_W_IND: Final = BPF_LD | BPF_W | BPF_IND
LD_H_IND: Final = BPF_LD | BPF_H | BPF_IND
LD_B_IND: Final = BPF_LD | BPF_B | BPF_IND
LD_IMM: Final = BPF_LD | BPF_IMM
LD_MEM: Final = BPF_LD | BPF_MEM
LD_LEN: Final = BPF_LD | BPF_W | BPF_LEN
LDX_IMM: Final = BPF_LDX | BPF_IMM
LDX_MEM: Final = BPF_LDX | BPF_MEM
LDX_LEN: Final = BPF_LDX | BPF_W | BPF_LEN
LDX_MSH: Final = BPF_LDX | BPF_B | BPF_MSH
MISC_TAX: Final = BPF_MISC | BPF_TAX
MISC_TXA: Final = BPF_MISC | BPF_TXA
RET_K: Final = BPF_RET | BPF_K
RET_A: Final = BPF_RET | BPF_A
ALU_NEG: Final = BPF_ALU | BPF_NEG
JMP_JA: Final = BPF_JMP | BPF_JA
# An ancillary load, in a checked program: BPF_ANC | SKF_AD_*.
BPF_ANC: Final = 0x8000

_ALU_OPS: Final = (BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_MOD, BPF_AND, BPF_OR, BPF_XOR, BPF_LSH, BPF_RSH)
_JMP_OPS: Final = (BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JSET)
_LOADS: Final = (LD_W_ABS, LD_H_ABS, LD_B_ABS)
_OTHERS: Final = (
    LD_W_IND, LD_H_IND, LD_B_IND, LD_IMM, LD_MEM, LD_LEN, LDX_IMM, LDX_MEM, LDX_LEN, LDX_MSH,
    BPF_ST, BPF_STX, MISC_TAX, MISC_TXA, RET_K, RET_A, ALU_NEG, JMP_JA,
)  # fmt: skip

# The length of a transport header, for SKF_AD_PAY_OFFSET; TCP's is in the packet.
_HEADER_LEN: Final = {IPPROTO_UDP: 8, IPPROTO_UDPLITE: 8, IPPROTO_ICMP: 8, IPPROTO_IGMP: 8}

SIZEOF_BPF_PROG: Final = 96  # on x86-64
NLA_TYPE_MASK: Final = 0x3FFF
NLA_HDRLEN: Final = 4


class BpfProg:
    """struct bpf_prog: a checked program. `insns` is what SO_GET_FILTER shows; the lists are what runs."""

    __slots__ = ("code", "insns", "jf", "jt", "k", "size")

    def __init__(self, insns: bytes) -> None:
        self.insns: bytes = insns
        self.code: list[int] = []
        self.jt: list[int] = []
        self.jf: list[int] = []
        self.k: list[int] = []
        self.size: int = 0  # bpf_prog_size: what is charged for it


# -- checking --------------------------------------------------------------------------------------------------------------


def chk_code_allowed(code: int) -> bool:
    """Whether this is an instruction at all."""
    cls = code & 7
    op = code & 0xF0
    if code > 0xFF:
        return False
    if cls == BPF_ALU and op in _ALU_OPS:
        return True
    if cls == BPF_JMP and op in _JMP_OPS:
        return True
    return code in _LOADS or code in _OTHERS


def to_s32(k: int) -> int:
    return k - 0x100000000 if k & 0x80000000 else k


def bpf_anc_helper(code: int, k: int) -> int:
    """The code of an ancillary load, or the code itself."""
    if code in _LOADS:
        off = to_s32(k) - SKF_AD_OFF
        if 0 <= off < SKF_AD_MAX and off % 4 == 0:
            return BPF_ANC | off
    return code


def bpf_check_classic(prog: BpfProg) -> int:
    """0 if the program is sound: known instructions, constants in range, jumps forward and within, memory written before it is
    read, a return at its end. Then it can neither loop nor fault. -EINVAL otherwise."""
    flen = len(prog.code)
    for pc in range(flen):
        code = prog.code[pc]
        k = prog.k[pc]
        if not chk_code_allowed(code):
            return -EINVAL
        if code == BPF_ALU | BPF_DIV | BPF_K or code == BPF_ALU | BPF_MOD | BPF_K:
            if k == 0:
                return -EINVAL
        elif code == BPF_ALU | BPF_LSH | BPF_K or code == BPF_ALU | BPF_RSH | BPF_K:
            if k >= 32:
                return -EINVAL
        elif code == LD_MEM or code == LDX_MEM or code == BPF_ST or code == BPF_STX:
            if k >= BPF_MEMWORDS:
                return -EINVAL
        elif code == JMP_JA:
            if k >= flen - pc - 1:
                return -EINVAL
        elif code & 7 == BPF_JMP:
            if pc + prog.jt[pc] + 1 >= flen or pc + prog.jf[pc] + 1 >= flen:
                return -EINVAL
        elif code in _LOADS:
            # What lies between the ancillary data and the end of the negative numbers is nothing.
            if not bpf_anc_helper(code, k) & BPF_ANC and k >= SKF_AD_OFF & U32:
                return -EINVAL
    last = prog.code[flen - 1]
    if last != RET_K and last != RET_A:
        return -EINVAL
    return check_load_and_stores(prog)


def check_load_and_stores(prog: BpfProg) -> int:
    """Along every path, M[] is written before it is read: -EINVAL otherwise, since what was there is the kernel's."""
    flen = len(prog.code)
    masks = [0xFFFF] * flen  # what is valid along all jumps to here
    memvalid = 0
    for pc in range(flen):
        memvalid &= masks[pc]
        code = prog.code[pc]
        k = prog.k[pc]
        if code == BPF_ST or code == BPF_STX:
            memvalid |= 1 << k
        elif code == LD_MEM or code == LDX_MEM:
            if not memvalid >> k & 1:
                return -EINVAL
        elif code == JMP_JA:
            masks[pc + 1 + k] &= memvalid
            memvalid = 0xFFFF
        elif code & 7 == BPF_JMP:
            masks[pc + 1 + prog.jt[pc]] &= memvalid
            masks[pc + 1 + prog.jf[pc]] &= memvalid
            memvalid = 0xFFFF
    return 0


def bpf_prog_size(prog: BpfProg) -> int:
    """Bytes that Linux charges: struct bpf_prog and eight for each eBPF instruction that bpf_convert_filter makes of these."""
    total = 3  # every translation begins so
    loads = False
    for pc in range(len(prog.code)):
        code = prog.code[pc]
        k = prog.k[pc]
        anc = bpf_anc_helper(code, k)
        if anc & BPF_ANC:
            total += _anc_ebpf_len(anc & ~BPF_ANC)
        elif code in _LOADS:
            loads = True
            if k & 0x80000000:
                total += 8
            else:
                total += (12 if code == LD_B_ABS else 13) + _far(k)
        elif code == LD_W_IND or code == LD_H_IND or code == LD_B_IND:
            loads = True
            total += 9 if k else 8
        elif code == LDX_MSH:
            loads = True
            total += 14 if k & 0x80000000 else 18 + _far(k)
        elif code == BPF_ALU | BPF_DIV | BPF_X or code == BPF_ALU | BPF_MOD | BPF_X:
            total += 5
        elif code == RET_K:
            total += 2
        elif code & 7 == BPF_JMP and code != JMP_JA:
            # A jump of its own where both ways lead elsewhere; JSET has no opposite; a constant is not sign-extended.
            total += 1 if prog.jf[pc] == 0 or (prog.jt[pc] == 0 and code & 0xF0 != BPF_JSET) else 2
            total += 1 if not code & BPF_X and k & 0x80000000 else 0
        else:
            total += 1
    return SIZEOF_BPF_PROG + 8 * (total + (4 if loads else 0))


def _far(k: int) -> int:
    """A load at an offset takes more instructions than one at 0, and more still beyond 16 bits."""
    return 3 if k > 0x7FFF else 1 if k else 0


def _anc_ebpf_len(ad: int) -> int:
    if ad in (SKF_AD_PROTOCOL, SKF_AD_PKTTYPE, SKF_AD_VLAN_TPID):
        return 2
    if ad == SKF_AD_VLAN_TAG_PRESENT:
        return 3
    if ad in (SKF_AD_MARK, SKF_AD_QUEUE, SKF_AD_RXHASH, SKF_AD_VLAN_TAG, SKF_AD_ALU_XOR_X):
        return 1
    return 4  # those that call a helper, and those that look at the device first


# -- attaching -------------------------------------------------------------------------------------------------------------


def __get_filter(sk: Sock, optval: bytes) -> tuple[int, BpfProg | None]:
    """(0, program) of struct sock_fprog and what its pointer points to (uapi/filter.py, pack_sock_fprog), or (-errno, None)."""
    if len(optval) < SIZEOF_SOCK_FPROG:
        return -EINVAL, None
    insns = optval[SIZEOF_SOCK_FPROG:]
    n = optval[0] | optval[1] << 8
    if sock_flag(sk, SOCK_FILTER_LOCKED):
        return -EPERM, None
    if get_s64(optval, 8) == 0 or n == 0 or n > BPF_MAXINSNS or len(insns) != n * SIZEOF_SOCK_FILTER:
        return -EINVAL, None
    prog = BpfProg(insns)
    for pc in range(n):
        code, jt, jf, k = unpack_insn(insns, pc)
        prog.code.append(code)
        prog.jt.append(jt)
        prog.jf.append(jf)
        prog.k.append(k)
    err = bpf_check_classic(prog)
    if err:
        return err, None
    prog.size = bpf_prog_size(prog)
    for pc in range(n):
        prog.code[pc] = bpf_anc_helper(prog.code[pc], prog.k[pc])
    return 0, prog


def sk_attach_filter(sk: Sock, optval: bytes) -> int:
    """SO_ATTACH_FILTER: the program takes the place of the one that was there. 0, -EINVAL, -EPERM (locked), -ENOMEM."""
    err, prog = __get_filter(sk, optval)
    if prog is None:
        return err
    cold = datagram.sk_cold(sk)
    optmem_max = sk.sk_net.core.sysctl_optmem_max
    # __sk_attach_prog charges the new one before it lets go of the old.
    if prog.size > optmem_max or cold.sk_omem_alloc + prog.size >= optmem_max:
        return -ENOMEM
    cold.sk_omem_alloc += prog.size
    old = cold.sk_filter
    cold.sk_filter = prog
    if old is not None:
        cold.sk_omem_alloc -= old.size
    return 0


def sk_detach_filter(sk: Sock) -> int:
    """SO_DETACH_FILTER: 0, -EPERM (locked), -ENOENT."""
    if sock_flag(sk, SOCK_FILTER_LOCKED):
        return -EPERM
    cold = sk.sk_cold
    if cold is None or cold.sk_filter is None:
        return -ENOENT
    cold.sk_omem_alloc -= cold.sk_filter.size
    cold.sk_filter = None
    return 0


def sk_get_filter(sk: Sock, length: int) -> tuple[int, bytes]:
    """SO_GET_FILTER: (0, the instructions). `length` counts instructions, as Linux's optlen does here; with 0 it only asks how many
    there are, which is the length of the answer divided by eight."""
    cold = sk.sk_cold
    if cold is None or cold.sk_filter is None:
        return 0, b""
    insns = cold.sk_filter.insns
    if length and length < len(insns) // SIZEOF_SOCK_FILTER:
        return -EINVAL, b""
    return 0, insns


def reuseport_filter(sk: Sock, optval: bytes) -> tuple[int, BpfProg | None]:
    """The part of sk_reuseport_attach_filter that knows programs: (0, program) or (-errno, None)."""
    err, prog = __get_filter(sk, optval)
    if prog is not None and prog.size > sk.sk_net.core.sysctl_optmem_max:
        return -ENOMEM, None
    return err, prog


# -- running ---------------------------------------------------------------------------------------------------------------


def sk_filter(sk: Sock, skb: SkBuff) -> int:
    """0, or the reason for which the caller must drop the packet."""
    return sk_filter_trim_cap(sk, skb, 1)


def sk_filter_trim_cap(sk: Sock, skb: SkBuff, cap: int) -> int:
    """Ask the hooks, then the program: it may cut the packet, but not below `cap` bytes. 0, or the drop reason."""
    if sk.kernel.security_hooks and security.security_sock_rcv_skb(sk, skb):
        return SKB_DROP_REASON_SECURITY_HOOK
    cold = sk.sk_cold
    if cold is None or cold.sk_filter is None:
        return 0
    keep = bpf_prog_run(sk, cold.sk_filter, skb)
    if keep == 0:
        return SKB_DROP_REASON_SOCKET_FILTER
    if keep < skb.len:
        pskb_trim(skb, max(cap, keep))
    return 0


def bpf_skb_load(skb: SkBuff, offset: int, size: int) -> int:
    """The big-endian number of `size` bytes at `offset` (signed) of the packet, -1 beyond it. SKF_NET_OFF and SKF_LL_OFF count from
    the network and the link header."""
    if offset < 0:
        if offset >= SKF_NET_OFF:
            offset += skb.network_header - skb.data - SKF_NET_OFF
        elif offset >= SKF_LL_OFF:
            offset += skb.mac_header - skb.data - SKF_LL_OFF
        else:
            return -1
    at = skb.data + offset
    if at < 0 or offset + size > skb.len:
        return -1
    head = skb.head
    if at + size <= skb.tail:
        value = head[at]
        for i in range(at + 1, at + size):
            value = value << 8 | head[i]
        return value
    value = 0
    if offset < 0:
        return -1  # half in a header, half in a fragment: packets are not laid out so
    for piece in skb_pieces(skb, offset, size):
        for byte in piece:
            value = value << 8 | byte
    return value


def bpf_prog_run(sk: Sock, prog: BpfProg, skb: SkBuff) -> int:
    """Run a checked program over a packet: what it returns, an unsigned number."""
    codes = prog.code
    ks = prog.k
    a = 0
    x = 0
    mem: list[int] = [0] * BPF_MEMWORDS
    pc = 0
    while True:
        code = codes[pc]
        k = ks[pc]
        cls = code & 7
        if code & BPF_ANC:
            ad = code & ~BPF_ANC
            if ad == SKF_AD_ALU_XOR_X:
                a ^= x
            else:
                a = bpf_load_ancillary(sk, skb, ad, a, x)
                if a < 0:
                    return 0
        elif cls == BPF_LD:
            mode = code & 0xE0
            if mode == BPF_ABS or mode == BPF_IND:
                size = 4 if code & 0x18 == BPF_W else 2 if code & 0x18 == BPF_H else 1
                offset = k + x & U32 if mode == BPF_IND else k
                a = bpf_skb_load(skb, to_s32(offset), size)
                if a < 0:
                    return 0
            elif mode == BPF_IMM:
                a = k
            elif mode == BPF_MEM:
                a = mem[k]
            else:
                a = skb.len
        elif cls == BPF_JMP:
            if code == JMP_JA:
                pc += k
            else:
                operand = x if code & BPF_X else k
                op = code & 0xF0
                if op == BPF_JEQ:
                    taken = a == operand
                elif op == BPF_JGT:
                    taken = a > operand
                elif op == BPF_JGE:
                    taken = a >= operand
                else:
                    taken = a & operand != 0
                pc += prog.jt[pc] if taken else prog.jf[pc]
        elif cls == BPF_RET:
            return a if code == RET_A else k
        elif cls == BPF_ALU:
            operand = x if code & BPF_X else k
            op = code & 0xF0
            if op == BPF_DIV or op == BPF_MOD:
                if operand == 0:
                    return 0
                a = a // operand if op == BPF_DIV else a % operand
            else:
                a = bpf_alu(op, a, operand)
        elif cls == BPF_LDX:
            if code == LDX_MSH:
                x = bpf_skb_load(skb, to_s32(k), 1)
                if x < 0:
                    return 0
                x = (x & 15) << 2
            elif code == LDX_IMM:
                x = k
            elif code == LDX_MEM:
                x = mem[k]
            else:
                x = skb.len
        elif cls == BPF_ST:
            mem[k] = a
        elif cls == BPF_STX:
            mem[k] = x
        elif code == MISC_TAX:
            x = a
        else:
            a = x
        pc += 1


def bpf_alu(op: int, a: int, operand: int) -> int:
    """32-bit arithmetic; a shift takes the low five bits of its operand."""
    if op == BPF_ADD:
        return a + operand & U32
    if op == BPF_SUB:
        return a - operand & U32
    if op == BPF_MUL:
        return a * operand & U32
    if op == BPF_AND:
        return a & operand
    if op == BPF_OR:
        return a | operand
    if op == BPF_XOR:
        return a ^ operand
    if op == BPF_LSH:
        return a << (operand & 31) & U32
    if op == BPF_RSH:
        return a >> (operand & 31)
    return -a & U32  # BPF_NEG


def bpf_load_ancillary(sk: Sock, skb: SkBuff, ad: int, a: int, x: int) -> int:
    """What is known about a packet beside its bytes; -1 ends the program with 0."""
    if ad == SKF_AD_PROTOCOL:
        return skb.protocol
    if ad == SKF_AD_PKTTYPE:
        return skb.pkt_type
    if ad == SKF_AD_IFINDEX or ad == SKF_AD_HATYPE:
        dev = skb.dev
        if dev is None:
            return -1
        return dev.ifindex if ad == SKF_AD_IFINDEX else dev.type
    if ad == SKF_AD_MARK:
        return skb.mark & U32
    if ad == SKF_AD_RXHASH:
        return skb.hash & U32
    if ad == SKF_AD_PAY_OFFSET:
        return skb_get_poff(skb)
    if ad == SKF_AD_RANDOM:
        return sk.kernel.random("bpf").get_random_u32()
    if ad == SKF_AD_NLATTR:
        return bpf_skb_get_nlattr(skb, a, x)
    if ad == SKF_AD_NLATTR_NEST:
        return bpf_skb_get_nlattr_nest(skb, a, x)
    # SKF_AD_QUEUE, SKF_AD_CPU: there is one of each, number 0. SKF_AD_VLAN_*: nothing here has a VLAN tag.
    assert ad in (SKF_AD_QUEUE, SKF_AD_CPU, SKF_AD_VLAN_TAG, SKF_AD_VLAN_TAG_PRESENT, SKF_AD_VLAN_TPID)
    return 0


def skb_get_poff(skb: SkBuff) -> int:
    """Where the payload of the transport protocol begins, counted from `data`; 0 where that is not known."""
    nhoff = skb.network_header - skb.data
    head = skb.head
    at = skb.network_header
    if skb.protocol != ETH_P_IP or at < 0 or at + 20 > skb.tail:
        return 0
    poff = nhoff + (head[at] & 15) * 4
    if poff < 0:
        return 0
    if (head[at + 6] << 8 | head[at + 7]) & (IP_MF | IP_OFFSET):
        return poff
    protocol = head[at + 9]
    if protocol == IPPROTO_TCP:
        doff = bpf_skb_load(skb, poff + 12, 1)
        return poff if doff < 0 else poff + max(20, (doff & 0xF0) >> 2)
    return poff + _HEADER_LEN.get(protocol, 0)


def nla_find(data: bytes, start: int, end: int, kind: int) -> int:
    """The offset of the netlink attribute `kind` among those in data[start:end], -1 if there is none."""
    while end - start >= NLA_HDRLEN:
        length = data[start] | data[start + 1] << 8
        if length < NLA_HDRLEN or length > end - start:
            return -1
        if (data[start + 2] | data[start + 3] << 8) & NLA_TYPE_MASK == kind:
            return start
        start += length + 3 & ~3
    return -1


def bpf_skb_get_nlattr(skb: SkBuff, a: int, x: int) -> int:
    """The offset of the first attribute of type X from offset A on; 0 for none."""
    if skb.len < NLA_HDRLEN or a > skb.len - NLA_HDRLEN:
        return 0
    skb_linearize(skb)
    at = nla_find(skb.head, skb.data + a, skb.tail, x)
    return 0 if at < 0 else at - skb.data


def bpf_skb_get_nlattr_nest(skb: SkBuff, a: int, x: int) -> int:
    """The same within the attribute at offset A."""
    if skb.len < NLA_HDRLEN or a > skb.len - NLA_HDRLEN:
        return 0
    skb_linearize(skb)
    start = skb.data + a
    length = skb.head[start] | skb.head[start + 1] << 8
    if length > skb.len - a:
        return 0
    at = nla_find(skb.head, start + NLA_HDRLEN, start + length, x)
    return 0 if at < 0 else at - skb.data
