"""Static routes between hosts that are no neighbours: along the shortest path, ties by the order in which links were made.

A host with one link gets a default route. Others get a route to each subnet that is not their own.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from afinet.net.ipv4.fib_frontend import ip_route_add, ip_route_del
from afinet.uapi.errno import EEXIST

if TYPE_CHECKING:
    from afinet.sim.host import Host
    from afinet.sim.network import Network

# (subnet, prefix length) -> gateway
Routes = dict[tuple[int, int], int]


class RoutePlanner:
    """Keeps the hosts' automatic routes in step with the links. `apply` is cheap while nothing has changed."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.changed = False
        self.made: dict[Host, Routes] = {}

    def apply(self) -> None:
        if not self.changed:
            return
        self.changed = False
        for host in self.network.hosts.values():
            if forwards(host):
                host.sysctl("net.ipv4.ip_forward", 1)
        for host in self.network.hosts.values():
            wanted = plan(host)
            have = self.made.get(host, {})
            if wanted == have:
                continue
            for key, gateway in have.items():
                if wanted.get(key) != gateway:
                    ip_route_del(host.net, key[0], key[1], gateway)
            kept: Routes = {}
            for key, gateway in wanted.items():
                if have.get(key) != gateway:
                    err = ip_route_add(host.net, key[0], key[1], gateway)
                    if err == -EEXIST:
                        continue  # the user has made one
                    assert err == 0, f"{host.name}: no route via {gateway:#x} ({err})"
                kept[key] = gateway
            self.made[host] = kept


def forwards(host: Host) -> bool:
    return host.router if host.router is not None else len(host.links) > 1


def plan(host: Host) -> Routes:
    """What `host` needs beside the routes of its own links."""
    if len(host.links) == 1:
        peer = host.links[0].other(host)
        if forwards(peer) and len(peer.links) > 1:
            return {(0, 0): host.links[0].address_of(peer)}
        return {}
    own = {link.subnet for link in host.links}
    routes: Routes = {}
    seen = {host}
    # (host reached, the gateway through which)
    queue: deque[tuple[Host, int]] = deque()
    for link in host.links:
        peer = link.other(host)
        if peer not in seen:
            seen.add(peer)
            queue.append((peer, link.address_of(peer)))
    while queue:
        at, gateway = queue.popleft()
        if not forwards(at):
            continue
        for link in at.links:
            if link.subnet not in own and link.subnet not in routes:
                routes[link.subnet] = gateway
            peer = link.other(at)
            if peer not in seen:
                seen.add(peer)
                queue.append((peer, gateway))
    return routes
