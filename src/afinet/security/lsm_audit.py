"""security/lsm_audit.c: what security modules decided, in a bounded trail that reads like the kernel's audit log.

    type=1400 audit(1000000003.250:7): host=client pid=4 comm="fetch" denied { connect } proto=tcp dest=10.0.0.2:22 rule=2

The newest records are kept; `lost` counts those that had to go. A module that wants to tell somebody at once overrides
`AuditLog.emit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel

AUDIT_AVC: Final = 1400  # the type of a record about an access

_PROTOCOLS: Final = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 255: "raw"}


def show_addr(addr: int) -> str:
    return f"{addr >> 24 & 255}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


class AuditRecord:
    """struct common_audit_data, as far as sockets go. `addr` is -1 where the access is to no address."""

    __slots__ = ("addr", "allowed", "comm", "host", "op", "pid", "port", "protocol", "rule", "serial", "when")

    def __init__(
        self, kernel: Kernel, pid: int, comm: str, op: str, allowed: bool, protocol: int, addr: int, port: int, rule: int
    ) -> None:
        self.when: int = kernel.ktime_get_real()  # ns
        self.serial: int = 0  # set by AuditLog
        self.host: str = kernel.hostname
        self.pid: int = pid  # 0: no process, a packet that came in
        self.comm: str = comm
        self.op: str = op
        self.allowed: bool = allowed
        self.protocol: int = protocol
        self.addr: int = addr
        self.port: int = port
        self.rule: int = rule  # its number from 1, 0 for the default

    def line(self) -> str:
        verdict = "granted" if self.allowed else "denied"
        out = (
            f"type={AUDIT_AVC} audit({self.when // NSEC_PER_SEC}.{self.when % NSEC_PER_SEC // NSEC_PER_MSEC:03d}:{self.serial}): "
            f'host={self.host} pid={self.pid} comm="{self.comm}" {verdict} {{ {self.op} }} '
            f"proto={_PROTOCOLS.get(self.protocol, str(self.protocol))}"
        )
        if self.addr >= 0:
            side = "src" if self.op in ("bind", "listen") else "dest" if self.op in ("connect", "send") else "saddr"
            out += f" {side}={show_addr(self.addr)}:{self.port}"
        return f"{out} rule={self.rule or 'default'}"


@mypyc_attr(allow_interpreted_subclasses=True)
class AuditLog:
    """The trail of one security module."""

    def __init__(self, limit: int = 1000) -> None:
        self.limit: int = limit
        self.serial: int = 0
        self.lost: int = 0
        self._ring: list[AuditRecord] = []
        self._next: int = 0  # where in a full ring the next one goes

    def log(self, record: AuditRecord) -> None:
        self.serial += 1
        record.serial = self.serial
        if len(self._ring) < self.limit:
            self._ring.append(record)
        else:
            self.lost += 1
            if self.limit:
                self._ring[self._next] = record
                self._next = (self._next + 1) % self.limit
        self.emit(record)

    def emit(self, record: AuditRecord) -> None:
        """Override to hear of each record as it is made. Must not act on the stack."""

    def records(self) -> list[AuditRecord]:
        """Oldest first."""
        return self._ring[self._next :] + self._ring[: self._next]

    def lines(self) -> list[str]:
        return [record.line() for record in self.records()]

    def clear(self) -> None:
        self._ring = []
        self._next = 0
