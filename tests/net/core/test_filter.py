"""net/core/filter.c: socket filters. What single instructions do is compared with Linux in tests/parity/test_filter_cases.py."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.core import filter
from afinet.net.core.drop_reason import SKB_DROP_REASON_SOCKET_FILTER
from afinet.net.core.skbuff import SkBuff, alloc_skb
from afinet.uapi.errno import EAGAIN, EINVAL, ENOENT, ENOMEM, EPERM
from afinet.uapi.filter import bpf_insn, pack_sock_fprog
from afinet.uapi.snmp import UDP_MIB_INERRORS
from afinet.uapi.socket import (
    AF_INET,
    SO_ATTACH_FILTER,
    SO_DETACH_FILTER,
    SO_GET_FILTER,
    SO_LOCK_FILTER,
    SO_MEMINFO,
    SOCK_STREAM,
    SOL_SOCKET,
)
from tests.net.ipv4.dgramhost import SEC, A, B, Hosts, sa

LD_B_ABS, LD_IND_W, RET_K, RET_A, JEQ_K = 0x30, 0x40, 6, 0x16, 0x15
DROP_ALL = bpf_insn(RET_K, 0)
KEEP_ALL = bpf_insn(RET_K, 0xFFFFFFFF)


def attach(h: Hosts, fd: int, insns: bytes) -> int:
    return h.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, pack_sock_fprog(insns))


def omem(h: Hosts, fd: int) -> int:
    return int(struct.unpack("=9I", h.getsockopt(fd, SOL_SOCKET, SO_MEMINFO, 36)[1])[6])


# -- attaching -------------------------------------------------------------------------------------------------------------


def test_a_filter_is_shown_locked_and_detached() -> None:
    h = Hosts()
    fd = h.udp(0)
    assert h.setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, bytes(4)) == -ENOENT
    assert attach(h, fd, KEEP_ALL) == 0
    assert h.getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, 1) == (0, KEEP_ALL)
    assert attach(h, fd, KEEP_ALL + KEEP_ALL) == 0, "the new one takes the old one's place"
    assert h.getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, 1) == (-EINVAL, b"")
    assert h.setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, b"\1\0\0\0") == 0
    assert attach(h, fd, KEEP_ALL) == -EPERM
    assert h.setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, bytes(4)) == -EPERM
    assert h.setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, bytes(4)) == -EPERM, "for good"


def test_a_filter_is_charged_to_optmem_until_it_goes() -> None:
    h = Hosts()
    fd = h.udp(0)
    assert omem(h, fd) == 0
    assert attach(h, fd, KEEP_ALL) == 0
    assert omem(h, fd) == 136
    h.a.core.sysctl_optmem_max = 300
    # both are there for a moment
    assert attach(h, fd, bpf_insn(0, 1) * 10 + KEEP_ALL) == -ENOMEM
    assert omem(h, fd) == 136
    assert h.getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, 1) == (0, KEEP_ALL)
    assert h.setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, bytes(4)) == 0
    assert omem(h, fd) == 0


# -- filtering -------------------------------------------------------------------------------------------------------------


def test_a_udp_filter_drops_or_trims_and_sees_the_udp_header() -> None:
    """udp_queue_rcv_skb: a drop counts as InErrors with reason SOCKET_FILTER; 8 bytes, the header, always stay."""
    h = Hosts()
    rx = h.udp(1, bind=sa(B, 5001))
    tx = h.udp(0, connect=sa(B, 5001))
    # Byte 8 is the first of the payload: "k" keeps 12 bytes of the datagram, header included, anything else none.
    program = bpf_insn(LD_B_ABS, 8) + bpf_insn(JEQ_K, ord("k"), 0, 1) + bpf_insn(RET_K, 12) + DROP_ALL
    assert attach(h, rx, program) == 0
    assert h.send(tx, b"keep this") == 9
    assert h.recv(rx) == b"keep"
    assert h.send(tx, b"drop this") == 9
    assert h.recv(rx) == -EAGAIN
    assert h.b.udp_statistics[UDP_MIB_INERRORS] == 1
    assert h.b.drop_reasons[SKB_DROP_REASON_SOCKET_FILTER] == 1
    assert attach(h, rx, bpf_insn(RET_K, 1)) == 0
    assert h.send(tx, b"nothing is left") == 15
    assert h.recv(rx) == b""


def test_a_raw_filter_sees_the_ip_header_and_a_drop_is_no_delivery_to_others() -> None:
    h = Hosts()
    one, two = h.raw(253, 1), h.raw(253, 1)
    tx = h.raw(253, 0)
    assert attach(h, one, bpf_insn(LD_B_ABS, 9) + bpf_insn(JEQ_K, 253, 1, 0) + DROP_ALL + bpf_insn(RET_K, 21)) == 0
    assert h.send(tx, b"payload", sa(B)) == 7
    first, second = h.recv(one), h.recv(two)
    assert isinstance(first, bytes) and first[20:] == b"p"
    assert isinstance(second, bytes) and second[20:] == b"payload"


def test_a_tcp_filter_that_cuts_a_segment_makes_the_peer_send_the_rest_again() -> None:
    """tcp_filter: the rest of the segment was never received; what SACK and ACK say is true of what is left."""
    h = Hosts()
    ln = h.socket(1, AF_INET, SOCK_STREAM, 0)
    assert h.bind(ln, sa(B, 80)) == 0 and h.listen(ln, 1) == 0
    c = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0)
    h.connect(c, sa(B, 80))
    h.settle()
    assert attach(h, ln, KEEP_ALL) == 0
    s = syscalls.sys_accept4(h.task, Kiocb(), ln, 0x800)[0]
    assert s >= 0
    # A header with timestamps has 32 bytes; four of payload may pass a segment.
    assert attach(h, s, bpf_insn(RET_K, 36)) == 0
    assert h.send(c, b"twelve bytes") == 12
    got = h.recv(s)
    assert got == b"twel"
    h.run_until(h.kernel.now + 60 * SEC)  # four bytes with every retransmission
    assert h.recv(s) == b"ve bytes"


def test_a_listeners_filter_is_its_childrens_too() -> None:
    h = Hosts()
    ln = h.socket(1, AF_INET, SOCK_STREAM, 0)
    assert h.bind(ln, sa(B, 80)) == 0 and h.listen(ln, 1) == 0
    assert attach(h, ln, KEEP_ALL) == 0
    c = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0)
    h.connect(c, sa(B, 80))
    h.settle()
    s = syscalls.sys_accept4(h.task, Kiocb(), ln, 0x800)[0]
    assert h.getsockopt(s, SOL_SOCKET, SO_GET_FILTER, 1) == (0, KEEP_ALL)
    assert omem(h, s) == omem(h, ln) == 136


def test_a_listener_whose_filter_drops_answers_no_syn() -> None:
    h = Hosts()
    ln = h.socket(1, AF_INET, SOCK_STREAM, 0)
    assert h.bind(ln, sa(B, 80)) == 0 and h.listen(ln, 1) == 0
    assert attach(h, ln, DROP_ALL) == 0
    c = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0)
    h.connect(c, sa(B, 80))
    h.run_until(h.kernel.now + 2 * SEC)
    assert h.poll(c, 4) == 0
    assert h.b.drop_reasons[SKB_DROP_REASON_SOCKET_FILTER] == 2  # the SYN, and again a second later


# -- the interpreter against a slow model -------------------------------------------------------------------------------------


def load(packet: bytes, at: int, size: int) -> int | None:
    return int.from_bytes(packet[at : at + size], "big") if at < 1 << 31 and at + size <= len(packet) else None


def alu(op: int, a: int, b: int) -> int:
    plain = {0x00: a + b, 0x10: a - b, 0x20: a * b, 0x40: a | b, 0x50: a & b, 0x60: a << b % 32, 0x70: a >> b % 32, 0xA0: a ^ b}
    return plain[op] if op in plain else a // b if op == 0x30 else a % b


def model(insns: list[tuple[int, int, int, int]], packet: bytes) -> int:
    """Classic BPF by the book (McCanne and Jacobson 1993), over a plain packet, without ancillary data."""
    a = x = pc = 0
    mem: dict[int, int] = {}
    while True:
        code, jt, jf, k = insns[pc]
        pc += 1
        size = {0: 4, 8: 2, 0x10: 1}.get(code & 0x18, 4)

        match code & 7, code & 0xF8:
            case (0, 0x20 | 0x28 | 0x30) | (0, 0x40 | 0x48 | 0x50):
                at = (k + (x if code & 0x40 else 0)) & 0xFFFFFFFF
                value = load(packet, at, size)
                if value is None:
                    return 0
                a = value
            case 0, 0x00:
                a = k
            case 0, 0x60:
                a = mem[k]
            case ((0 | 1), 0x80):
                a, x = (len(packet), x) if code & 7 == 0 else (a, len(packet))
            case 1, 0x00:
                x = k
            case 1, 0x60:
                x = mem[k]
            case 1, 0xB0:
                value = load(packet, k, 1)
                if value is None:
                    return 0
                x = 4 * (value & 15)
            case 2, _:
                mem[k] = a
            case 3, _:
                mem[k] = x
            case 4, 0x80:
                a = -a % (1 << 32)
            case 4, op:
                b = x if op & 8 else k
                if op & 0xF0 in (0x30, 0x90) and b == 0:
                    return 0
                a = alu(op & 0xF0, a, b) % (1 << 32)
            case 5, 0x00:
                pc += k
            case 5, op:
                b = x if op & 8 else k
                pc += jt if {0x10: a == b, 0x20: a > b, 0x30: a >= b, 0x40: a & b != 0}[op & 0xF0] else jf
            case 6, op:
                return a if op & 0x18 == 0x10 else k
            case _:
                a, x = (x, x) if code & 0x80 else (a, a)


# Any sock: these programs ask nothing of it.
HOSTS = Hosts()
SOCK = HOSTS.sk(HOSTS.udp(0))
OPCODES = [code for code in range(0x100) if filter.chk_code_allowed(code)]
K = st.one_of(st.integers(0, 40), st.integers(0, 0xFFFFFFFF))
INSN = st.tuples(st.sampled_from(OPCODES), st.integers(0, 6), st.integers(0, 6), K)


def make_skb(packet: bytes, cut: int) -> SkBuff:
    """`packet` behind a link and an IP header, all but its first `cut` bytes in two fragments."""
    cut = min(cut, len(packet))
    rest = packet[cut:]
    skb = alloc_skb(bytes(34) + packet[:cut])
    if rest:
        skb.frags = [rest[:1], rest[1:]] if len(rest) > 1 else [rest]
        skb.data_len = len(rest)
        skb.len += len(rest)
    skb.data = 34
    skb.len -= 34
    skb.network_header = 14
    return skb


@given(st.lists(INSN, min_size=0, max_size=12), st.booleans(), st.binary(max_size=40), st.integers(0, 40))
def test_what_passes_the_checks_runs_to_its_end_as_the_model_says(
    insns: list[tuple[int, int, int, int]], init: bool, packet: bytes, cut: int
) -> None:
    """bpf_check_classic, bpf_prog_run: never an exception, never a loop, the same result wherever the bytes lie."""
    stores = [(2, 0, 0, m) for m in range(16)] if init else []
    program = [*stores, *insns, (RET_A, 0, 0, 0)]
    prog = filter.BpfProg(b"".join([bpf_insn(code, k, jt, jf) for code, jt, jf, k in program]))
    for code, jt, jf, k in program:
        prog.code.append(code)
        prog.jt.append(jt)
        prog.jf.append(jf)
        prog.k.append(k)
    err = filter.bpf_check_classic(prog)
    assert err in (0, -EINVAL)
    if err:
        return
    for pc in range(len(program)):
        assert not filter.bpf_anc_helper(prog.code[pc], prog.k[pc]) & filter.BPF_ANC or prog.k[pc] >= 0xFFFFF000
    assert filter.bpf_prog_run(SOCK, prog, make_skb(packet, cut)) == model(program, packet)


def test_programs_from_elsewhere_never_raise() -> None:
    """Noise as programs, half of it made of known opcodes: refused, or run."""
    h = Hosts()
    fd = h.udp(1, bind=sa(B, 5001))
    tx = h.udp(0, bind=sa(A, 5001), connect=sa(B, 5001))
    stream = h.kernel.random("noise")
    taken = 0
    for i in range(2000):
        n = 1 + stream.get_random_u32_below(6)
        noise = bytearray(stream.get_random_bytes(8 * n))
        for at in range(0, 8 * n, 8):
            noise[at + 1] = 0
            if i % 2:
                noise[at] = OPCODES[noise[at] % len(OPCODES)]
                noise[at + 2 : at + 4] = bytes(2)
        noise[-8:] = KEEP_ALL
        err = attach(h, fd, bytes(noise))
        assert err in (0, -EINVAL)
        taken += err == 0
        h.send(tx, b"0123456789")
        h.recv(fd)
    assert taken > 200
