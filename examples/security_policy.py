"""A firewall in the kernel's own place: security modules on simulated hosts.

    python examples/security_policy.py

A ready policy (afinet.Policy) lets the client speak to the web server and to nothing else, and keeps an audit trail. A module of
one's own (a subclass of afinet.SecurityHook) gives every program a quota of connections.
"""

from __future__ import annotations

import errno

import afinet


class Quota(afinet.SecurityHook):
    """At most `limit` connections a program, of any number that the policy allows."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used: dict[str, int] = {}

    def socket_connect(self, sock, address):
        task = sock.kernel.current
        name = task.comm if task is not None else "kernel"
        self.used[name] = self.used.get(name, 0) + 1
        return 0 if self.used[name] <= self.limit else -errno.EDQUOT


def serve(port: int) -> None:
    from afinet import socket

    with socket.create_server(("", port)) as listener:
        for _ in range(3):
            conn, _ = listener.accept()
            conn.sendall(b"welcome")
            conn.close()


def visit(host: str) -> list[str]:
    """Try the ports one after the other."""
    from afinet import socket

    said = []
    for port in (80, 22, 80, 80):
        try:
            with socket.create_connection((host, port), timeout=5) as conn:
                said.append(f"port {port}: {conn.recv(100).decode()}")
        except OSError as e:
            said.append(f"port {port}: {errno.errorcode.get(e.errno or 0, e)}")
    return said


def main() -> tuple[list[str], list[str]]:
    with afinet.Network(seed=7) as net:
        client, server = net.host("client"), net.host("server")
        net.link(client, server, delay="5ms")
        policy = afinet.Policy(default="allow")
        policy.allow("connect", address=server.address, port=80, protocol="tcp")
        policy.deny("connect", host="client")
        client.security.add(policy)
        client.security.add(Quota(2))
        server.spawn(serve, 80)
        server.spawn(serve, 22)
        visitor = client.spawn(visit, server.address)
        net.run(until=visitor)
        return visitor.result(), policy.audit.lines()


if __name__ == "__main__":
    said, audit = main()
    print(*said, *audit, sep="\n")
