"""Security modules on simulated hosts: `host.security`, and the ready policy with addresses and ports as people write them.

    policy = afinet.Policy()
    policy.deny("connect", address="10.0.0.0/8", port=22, protocol="tcp", task="fetch")
    host.security.add(policy)
    ...
    print(*policy.audit.lines(), sep="\\n")

A module of one's own is a subclass of `afinet.SecurityHook` that overrides the methods it cares about: 0, or -errno to refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from afinet.security import policy
from afinet.security.security import SecurityHook, security_add_hooks, security_delete_hooks
from afinet.sim.units import UsageError, parse_address

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel

PROTOCOLS = {"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17}


class Policy(policy.Policy):
    """Rules, asked in the order of `allow` and `deny`; the first that matches decides, else `default`. Denials are in `audit`."""

    def __init__(self, default: str = "allow", log_allowed: bool = False, audit_limit: int = 1000) -> None:
        if default not in ("allow", "deny"):
            raise UsageError(f"a policy's default is 'allow' or 'deny', not {default!r}")
        super().__init__(default == "allow", log_allowed, audit_limit)

    def allow(self, *ops: str, **conditions: object) -> Policy:
        """Allow the operations `ops` (all, if none is named) where every condition holds: host="client", task="fetch",
        address="10.0.0.0/8", port=80 or "1024-65535", protocol="tcp" or a number. Returns the policy."""
        self.append(make_rule(True, ops, conditions))
        return self

    def deny(self, *ops: str, **conditions: object) -> Policy:
        """As `allow`, with the other answer: EACCES, or a packet dropped."""
        self.append(make_rule(False, ops, conditions))
        return self


def make_rule(allow: bool, ops: tuple[str, ...], conditions: dict[str, object]) -> policy.PolicyRule:
    for op in ops:
        if op not in policy.POLICY_OPS:
            raise UsageError(f"no operation {op!r}: there are {', '.join(policy.POLICY_OPS)}")
    known = ("host", "task", "address", "port", "protocol")
    for name in conditions:
        if name not in known:
            raise UsageError(f"no condition {name!r}: there are {', '.join(known)}")
    addr, plen = 0, -1
    if "address" in conditions:
        addr, plen = parse_address(str(conditions["address"]), "address")
    low, high = parse_ports(conditions.get("port", ""))
    return policy.PolicyRule(
        allow,
        ops or policy.POLICY_OPS,
        str(conditions.get("host", "")),
        str(conditions.get("task", "")),
        addr,
        plen,
        low,
        high,
        parse_protocol(conditions.get("protocol", 0)),
    )


def parse_ports(port: object) -> tuple[int, int]:
    """80, "80" or "1024-65535"; all of them for ""."""
    if port == "":
        return 0, 0xFFFF
    first, dash, last = str(port).partition("-")
    if first.isdigit() and (last.isdigit() if dash else True):
        low, high = int(first), int(last or first)
        if low <= high <= 0xFFFF:
            return low, high
    raise UsageError(f"port {port!r}: give a number, or a range such as '1024-65535'")


def parse_protocol(protocol: object) -> int:
    if isinstance(protocol, int) and 0 <= protocol <= 255:
        return protocol
    number = PROTOCOLS.get(str(protocol).lower())
    if number is None:
        raise UsageError(f"protocol {protocol!r}: give one of {', '.join(PROTOCOLS)}, or a number")
    return number


class HostSecurity:
    """The security modules of a host, in the order in which they are asked: `host.security`."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def add(self, hook: SecurityHook) -> SecurityHook:
        """Ask `hook` from now on; the sockets that exist stay. Returns it."""
        if not isinstance(hook, SecurityHook):
            raise UsageError(f"{hook!r} is no security module: subclass afinet.SecurityHook, or use afinet.Policy")
        if hook in self._kernel.security_hooks:
            raise UsageError(f"{hook!r} is one of {self._kernel.hostname}'s security modules already")
        security_add_hooks(self._kernel, hook)
        return hook

    def remove(self, hook: SecurityHook) -> None:
        if hook not in self._kernel.security_hooks:
            raise UsageError(f"{hook!r} is none of {self._kernel.hostname}'s security modules")
        security_delete_hooks(self._kernel, hook)

    def __iter__(self) -> Iterator[SecurityHook]:
        return iter(list(self._kernel.security_hooks))

    def __len__(self) -> int:
        return len(self._kernel.security_hooks)
