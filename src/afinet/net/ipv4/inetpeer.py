"""net/ipv4/inetpeer.c: what is remembered about a peer address, for as long as it matters: the token bucket of ICMP errors, the
redirects sent to it, the fragments received from it.

`inet_getpeer_v4` finds or makes the entry. When there are more than `inet_peer_threshold`, those that were least recently used go,
so the table is bounded whoever sends. Times are ns.

Left out: the tree (a dict in order of use serves both purposes), dtime-based expiry below the threshold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net

XRLIM_BURST_FACTOR: Final = 6
PEER_REST: Final = 60 * 1_000_000_000  # a new peer looks as if it had been silent for a minute


class InetPeer:
    """struct inet_peer."""

    __slots__ = ("addr", "n_redirects", "rate_last", "rate_tokens", "rid")

    def __init__(self, addr: int, now: int) -> None:
        self.addr: int = addr
        self.n_redirects: int = 0
        self.rid: int = 0  # fragments received, for ip_frag_too_far
        self.rate_tokens: int = 0  # ns of credit
        self.rate_last: int = now - PEER_REST


class InetPeerBase:
    """struct inet_peer_base: the peers of one namespace, least recently used first."""

    __slots__ = ("peers",)

    def __init__(self) -> None:
        self.peers: dict[int, InetPeer] = {}


def inet_getpeer_v4(net: Net, addr: int) -> InetPeer:
    """The entry for `addr`, made if there is none."""
    peers = net.ipv4.peers.peers
    peer = peers.pop(addr, None)
    if peer is None:
        peer = InetPeer(addr, net.kernel.now)
        limit = net.ipv4.sysctl_inet_peer_threshold
        while peers and len(peers) >= limit:
            del peers[next(iter(peers))]
    peers[addr] = peer
    return peer


def inet_peer_xrlim_allow(net: Net, peer: InetPeer, timeout: int) -> bool:
    """Whether a message may go to this peer: one each `timeout` (ns), XRLIM_BURST_FACTOR of them saved up."""
    now = net.kernel.now
    token = peer.rate_tokens + now - peer.rate_last
    if token > XRLIM_BURST_FACTOR * timeout:
        token = XRLIM_BURST_FACTOR * timeout
    peer.rate_last = now
    allowed = token >= timeout
    if allowed:
        token -= timeout
    peer.rate_tokens = token
    return allowed
