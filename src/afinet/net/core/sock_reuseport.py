"""net/core/sock_reuseport.c: the group of socks that share a local address and port by SO_REUSEPORT.

A connection or a flow stays with one member, chosen by its hash. Left out: programs attached with SO_ATTACH_REUSEPORT_*, and the
migration of requests from a closed listener to another (`tcp_migrate_req`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afinet.net.core.sock import Sock


class SockReuseport:
    """struct sock_reuseport."""

    __slots__ = ("socks",)

    def __init__(self) -> None:
        self.socks: list[Sock] = []  # in order of joining


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


def reciprocal_scale(val: int, ep_ro: int) -> int:
    """A 32-bit `val` mapped onto [0, ep_ro)."""
    return (val & 0xFFFFFFFF) * ep_ro >> 32


def reuseport_select_sock(sk: Sock, hash: int) -> Sock | None:
    """The member of the group of `sk` that 32-bit `hash` belongs to; None where there is no group."""
    group = sk.sk_reuseport_cb
    if group is None or not group.socks:
        return None
    return group.socks[reciprocal_scale(hash, len(group.socks))]
