"""net/core/sock_reuseport.c: who of a SO_REUSEPORT group gets a packet: a program, SO_INCOMING_CPU, the hash."""

from __future__ import annotations

from afinet.uapi.errno import EADDRINUSE, EAGAIN, EINVAL, ENOENT
from afinet.uapi.filter import bpf_insn, pack_sock_fprog
from afinet.uapi.sockaddr import pack_s32
from afinet.uapi.socket import (
    AF_INET,
    SO_ATTACH_REUSEPORT_CBPF,
    SO_DETACH_REUSEPORT_BPF,
    SO_INCOMING_CPU,
    SO_REUSEPORT,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
)
from tests.net.ipv4.dgramhost import B, Hosts, sa

FIRST_PAYLOAD_BYTE = bpf_insn(0x30, 0) + bpf_insn(0x16, 0)  # ldb [0]; ret a
RANDOM_MEMBER = bpf_insn(0x20, 0xFFFFF038) + bpf_insn(0x94, 4) + bpf_insn(0x16, 0)  # ld rand; mod #4; ret a


def group(h: Hosts, n: int, type: int = SOCK_DGRAM) -> list[int]:
    out = []
    for _ in range(n):
        fd = h.socket(1, AF_INET, type, 0)
        assert h.setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, pack_s32(1)) == 0
        assert h.bind(fd, sa(B, 5000)) == 0
        if type == SOCK_STREAM:
            assert h.listen(fd, 5) == 0
        out.append(fd)
    return out


def attach(h: Hosts, fd: int, insns: bytes) -> int:
    return h.setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, pack_sock_fprog(insns))


def readers(h: Hosts, members: list[int]) -> list[int]:
    return [i for i, fd in enumerate(members) if h.recv(fd) != -EAGAIN]


def test_a_program_sees_the_payload_and_names_the_member() -> None:
    h = Hosts()
    members = group(h, 4)
    tx = h.udp(0)
    assert attach(h, members[2], FIRST_PAYLOAD_BYTE) == 0, "any member's will do for all"
    for wanted in (0, 3, 1, 2):
        h.send(tx, bytes([wanted]) + b" mine", sa(B, 5000))
        assert readers(h, members) == [wanted]
    # A number that nobody has, and a payload too short to load from (the program ends with 0).
    h.send(tx, b"\7", sa(B, 5000))
    hashed = readers(h, members)
    assert len(hashed) == 1
    h.send(tx, b"", sa(B, 5000))
    assert readers(h, members) == [0]
    assert h.setsockopt(members[0], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, bytes(4)) == 0
    h.send(tx, b"\0", sa(B, 5000))
    assert readers(h, members) == hashed, "the flow's hash again"
    assert h.setsockopt(members[0], SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, bytes(4)) == -ENOENT


def test_listeners_are_chosen_at_the_syn() -> None:
    h = Hosts()
    members = group(h, 4, SOCK_STREAM)
    assert attach(h, members[0], RANDOM_MEMBER) == 0
    for _ in range(12):
        h.connect(h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0), sa(B, 5000))
    h.settle()
    assert len([fd for fd in members if h.poll(fd, 1)]) >= 3


def test_a_program_waits_for_a_sock_that_is_not_bound_yet() -> None:
    h = Hosts()
    plain = h.udp(1)
    assert attach(h, plain, FIRST_PAYLOAD_BYTE) == -EINVAL, "no SO_REUSEPORT"
    bound = h.udp(1, bind=sa(B, 5001))
    assert h.setsockopt(bound, SOL_SOCKET, SO_REUSEPORT, pack_s32(1)) == 0
    assert attach(h, bound, FIRST_PAYLOAD_BYTE) == -EINVAL, "bound without it"
    early = h.udp(1)
    assert h.setsockopt(early, SOL_SOCKET, SO_REUSEPORT, pack_s32(1)) == 0
    assert h.setsockopt(early, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, bytes(4)) == -ENOENT
    assert attach(h, early, FIRST_PAYLOAD_BYTE) == 0
    assert h.bind(early, sa(B, 5000)) == 0
    late = h.udp(1)
    assert h.setsockopt(late, SOL_SOCKET, SO_REUSEPORT, pack_s32(1)) == 0
    assert h.bind(late, sa(B, 5000)) == 0
    h.send(h.udp(0), b"\1", sa(B, 5000))
    assert readers(h, [early, late]) == [1]
    # Whoever has a group of his own, by a program, cannot join another's by bind().
    third = h.udp(1)
    assert h.setsockopt(third, SOL_SOCKET, SO_REUSEPORT, pack_s32(1)) == 0
    assert attach(h, third, FIRST_PAYLOAD_BYTE) == 0
    assert h.bind(third, sa(B, 5000)) == -EADDRINUSE


def test_the_member_that_asked_for_this_cpu_is_preferred() -> None:
    """SO_INCOMING_CPU: there is CPU 0 and no other."""
    h = Hosts()
    members = group(h, 4)
    for i, fd in enumerate(members):
        assert h.setsockopt(fd, SOL_SOCKET, SO_INCOMING_CPU, pack_s32(i)) == 0
    for _ in range(8):
        h.send(h.udp(0), b"x", sa(B, 5000))
    assert readers(h, members) == [0]


def test_the_cpu_of_a_connected_sock_is_known_once_it_received() -> None:
    h = Hosts()
    rx = h.udp(1, bind=sa(B, 5000))
    tx = h.udp(0, connect=sa(B, 5000))
    address = h.getsockname(tx)[1]
    assert h.getsockopt(tx, SOL_SOCKET, SO_INCOMING_CPU, 4) == (0, pack_s32(-1))
    h.send(rx, b"x", address)
    assert h.getsockopt(tx, SOL_SOCKET, SO_INCOMING_CPU, 4) == (0, pack_s32(0))
    h.send(tx, b"x")
    assert h.getsockopt(rx, SOL_SOCKET, SO_INCOMING_CPU, 4) == (0, pack_s32(-1)), "unconnected: it may be anybody's"
