"""net/core/sock_reuseport.c: the group of socks that share a local address and port by SO_REUSEPORT.

A connection or a flow stays with one member, chosen by its hash. Left out: programs attached with SO_ATTACH_REUSEPORT_*, and
the migration of requests from a closed listener to another (`tcp_migrate_req`). """

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.uapi.tcp import TCP_ESTABLISHED

if TYPE_CHECKING:
    from afinet.net.core.sock import Sock


class SockReuseport:
    """struct sock_reuseport."""

    __slots__ = ("has_conns", "socks")

    def __init__(self) -> None:
        self.socks: list[Sock] = []  # in order of joining
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
    if sk.sk_reuseport_cb is None:
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


def reuseport_select_sock(sk: Sock, hash: int) -> Sock | None:
    """The member of the group of `sk` that 32-bit `hash` belongs to, connected ones passed over; None where there is none."""
    group = sk.sk_reuseport_cb
    if group is None:
        return None
    socks = group.socks
    n = len(socks)
    if n == 0:
        return None
    first = reciprocal_scale(hash, n)
    for i in range(n):
        member = socks[(first + i) % n]
        if member.sk_state != TCP_ESTABLISHED:
            return member
    return None
