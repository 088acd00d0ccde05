"""net/core/sock_reuseport.c: the group of socks that share a local address and port by SO_REUSEPORT.

A connection or a flow stays with one member, chosen by its hash, or by a classic BPF program that somebody of the group attached
(SO_ATTACH_REUSEPORT_CBPF). Left out: eBPF programs, and the migration of requests from a closed listener to another
(`tcp_migrate_req`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.net.core import filter
from afinet.net.core.skbuff import pskb_may_pull, skb_pull
from afinet.uapi.errno import EINVAL, ENOENT
from afinet.uapi.tcp import TCP_ESTABLISHED

if TYPE_CHECKING:
    from afinet.net.core.filter import BpfProg
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Sock


class SockReuseport:
    """struct sock_reuseport."""

    __slots__ = ("has_conns", "prog", "socks")

    def __init__(self) -> None:
        self.socks: list[Sock] = []  # in order of joining
        self.prog: BpfProg | None = None
        self.has_conns: bool = False  # a member is, or was, a connected datagram sock: the lookup must score them one by one


def reuseport_alloc(sk: Sock) -> None:
    """The first member: a group of its own."""
    if sk.sk_reuseport_cb is None:
        group = SockReuseport()
        group.socks.append(sk)
        sk.sk_reuseport_cb = group


def reuseport_add_sock(sk: Sock, sk2: Sock) -> None:
    """Let `sk` join the group of `sk2`."""
    group = sk2.sk_reuseport_cb
    if group is None:
        reuseport_alloc(sk2)
        group = sk2.sk_reuseport_cb
        assert group is not None
    own = sk.sk_reuseport_cb
    if own is None or (own is not group and len(own.socks) == 1):  # one that it has for a program's sake is given up
        group.socks.append(sk)
        sk.sk_reuseport_cb = group


def reuseport_detach_sock(sk: Sock) -> None:
    """Leave: the last member takes the place, as in Linux, so that few flows change hands."""
    group = sk.sk_reuseport_cb
    if group is None:
        return
    sk.sk_reuseport_cb = None
    socks = group.socks
    for i in range(len(socks)):
        if socks[i] is sk:
            socks[i] = socks[-1]
            socks.pop()
            return


def reuseport_has_conns(sk: Sock) -> bool:
    group = sk.sk_reuseport_cb
    return group is not None and group.has_conns


def reuseport_has_conns_set(sk: Sock) -> None:
    """A datagram sock connects."""
    if sk.sk_reuseport_cb is not None:
        sk.sk_reuseport_cb.has_conns = True


def reciprocal_scale(val: int, ep_ro: int) -> int:
    """A 32-bit `val` mapped onto [0, ep_ro)."""
    return (val & 0xFFFFFFFF) * ep_ro >> 32


def reuseport_select_sock(sk: Sock, hash: int, skb: SkBuff | None, hdr_len: int) -> Sock | None:
    """The member of the group of `sk` for a packet: the one that the group's program says, given the packet from behind the
    `hdr_len` bytes of its transport header, else the one that 32-bit `hash` belongs to. None where there is none."""
    group = sk.sk_reuseport_cb
    if group is None or not group.socks:
        return None
    if group.prog is not None and skb is not None:
        member = run_bpf_filter(sk, group, group.prog, skb, hdr_len)
        if member is not None:
            return member
    return reuseport_select_sock_by_hash(group, hash)


def run_bpf_filter(sk: Sock, group: SockReuseport, prog: BpfProg, skb: SkBuff, hdr_len: int) -> Sock | None:
    """The member whose number, in the order of joining, the program returns."""
    if not pskb_may_pull(skb, hdr_len):
        return None
    skb_pull(skb, hdr_len)
    index = filter.bpf_prog_run(sk, prog, skb)
    skb.data -= hdr_len
    skb.len += hdr_len
    return group.socks[index] if index < len(group.socks) else None


def reuseport_select_sock_by_hash(group: SockReuseport, hash: int) -> Sock | None:
    """From the one that `hash` belongs to on: the first that asked for this CPU (SO_INCOMING_CPU), else the first; connected ones
    are passed over."""
    socks = group.socks
    n = len(socks)
    first = reciprocal_scale(hash, n)
    first_valid: Sock | None = None
    for i in range(n):
        member = socks[(first + i) % n]
        if member.sk_state != TCP_ESTABLISHED:
            if member.sk_incoming_cpu == 0:
                return member
            if first_valid is None:
                first_valid = member
    return first_valid


def reuseport_attach_prog(sk: Sock, prog: BpfProg) -> int:
    """The group, one of its own if the sock is not bound yet, chooses by `prog` from now on. 0 or -EINVAL."""
    if not sk.sk_prot.hashed(sk):
        if not sk.sk_reuseport:
            return -EINVAL
        reuseport_alloc(sk)
    group = sk.sk_reuseport_cb
    if group is None:
        return -EINVAL  # bound without SO_REUSEPORT
    group.prog = prog
    return 0


def reuseport_detach_prog(sk: Sock) -> int:
    """SO_DETACH_REUSEPORT_BPF: 0, -ENOENT, -EINVAL."""
    group = sk.sk_reuseport_cb
    if group is None:
        return -ENOENT if sk.sk_reuseport else -EINVAL
    if group.prog is None:
        return -ENOENT
    group.prog = None
    return 0
