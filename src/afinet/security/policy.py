"""A ready security module: allow and deny by host, task, address, port and protocol, with an audit trail.

Rules are asked in order, the first that matches decides, and `default_allow` what none of them knows. A refusal is -EACCES for a
system call and a silent drop for a packet. One Policy may hang on any number of hosts; its rules may name the host they mean.

    op        asked when                                   address and port
    create    socket()                                     none
    bind      bind()                                       the local ones
    listen    listen()                                     the local ones
    connect   connect()                                    the peer's
    accept    a SYN reaches a listener, and accept()       the peer's; for accept(), which comes first, none
    send      sendmsg() and its sisters                    the destination's
    recv      a packet is about to be queued to a sock     the sender's

A packet has no process: the task of a sock is the one that made it, which the module remembers from sk_alloc_security on, as
others keep a label in sk->sk_security.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.security.lsm_audit import AuditLog, AuditRecord
from afinet.security.security import SecurityHook
from afinet.uapi.errno import EACCES
from afinet.uapi.in_ import IPPROTO_TCP, IPPROTO_UDP
from afinet.uapi.sockaddr import SIZEOF_SOCKADDR_IN, sa_family, unpack_sockaddr_in
from afinet.uapi.socket import AF_INET, AF_UNSPEC, SOCK_DGRAM, SOCK_STREAM, SOCK_TYPE_MASK
from afinet.wire import be, ip

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Sock
    from afinet.net.socket import MsgHdr, Socket

POLICY_OPS: Final = ("create", "bind", "listen", "connect", "accept", "send", "recv")


class PolicyRule:
    """What a rule asks of an access; "" and 0 mean anything. `addr` and `mask` are host-order, ports a closed range."""

    __slots__ = ("addr", "allow", "has_addr", "hits", "host", "mask", "ops", "port_max", "port_min", "protocol", "task")

    def __init__(
        self,
        allow: bool,
        ops: tuple[str, ...],
        host: str = "",
        task: str = "",
        addr: int = 0,
        plen: int = -1,
        port_min: int = 0,
        port_max: int = 0xFFFF,
        protocol: int = 0,
    ) -> None:
        self.allow: bool = allow
        self.ops: tuple[str, ...] = ops
        self.host: str = host
        self.task: str = task
        self.has_addr: bool = plen >= 0  # even 0.0.0.0/0 does not match an access to no address
        self.mask: int = 0xFFFFFFFF << 32 - max(plen, 0) & 0xFFFFFFFF
        self.addr: int = addr & self.mask
        self.port_min: int = port_min
        self.port_max: int = port_max
        self.protocol: int = protocol
        self.hits: int = 0

    def matches(self, host: str, comm: str, op: str, protocol: int, addr: int, port: int) -> bool:
        if op not in self.ops or (self.host and self.host != host) or (self.task and self.task != comm):
            return False
        if self.protocol and self.protocol != protocol:
            return False
        if self.has_addr and (addr < 0 or addr & self.mask != self.addr):
            return False
        if self.port_min == 0 and self.port_max == 0xFFFF:
            return True
        return addr >= 0 and self.port_min <= port <= self.port_max


@mypyc_attr(allow_interpreted_subclasses=True)
class Policy(SecurityHook):
    """Add rules with `append`, hang it on a Kernel with security_add_hooks. `audit` has what was denied, with `log_allowed` also
    what was granted."""

    def __init__(self, default_allow: bool = True, log_allowed: bool = False, audit_limit: int = 1000) -> None:
        self.rules: list[PolicyRule] = []
        self.default_allow: bool = default_allow
        self.log_allowed: bool = log_allowed
        self.audit: AuditLog = AuditLog(audit_limit)
        self._labels: dict[Sock, str] = {}  # by sock: the name of the task that made it

    def append(self, rule: PolicyRule) -> None:
        self.rules.append(rule)

    def check(
        self, kernel: Kernel, sk: Sock | None, op: str, protocol: int, addr: int, port: int, packet: bool = False
    ) -> int:
        """0 or -EACCES, and a record of it. `packet`: no process asks, whatever call the softirq has interrupted."""
        task = None if packet else kernel.current
        comm = ""
        if task is not None:
            comm = task.comm
        elif sk is not None:
            comm = self._labels.get(sk, "")
        allow = self.default_allow
        number = 0
        for i, rule in enumerate(self.rules):
            if rule.matches(kernel.hostname, comm, op, protocol, addr, port):
                rule.hits += 1
                allow = rule.allow
                number = i + 1
                break
        if not allow or self.log_allowed:
            pid = 0 if task is None else task.pid
            self.audit.log(AuditRecord(kernel, pid, comm, op, allow, protocol, addr, port, number))
        return 0 if allow else -EACCES

    def check_name(self, sock: Socket, op: str, address: bytes) -> int:
        """An access to the address of a system call; one that is no AF_INET address is refused by the call itself."""
        sk = sock.sk
        if sk is None or sk.sk_family != AF_INET:
            return 0
        if len(address) < SIZEOF_SOCKADDR_IN or sa_family(address) not in (AF_INET, AF_UNSPEC):
            return 0
        addr, port = unpack_sockaddr_in(address)
        if op == "connect" and sa_family(address) == AF_UNSPEC:
            return 0  # dissolves an association
        return self.check(sock.kernel, sk, op, sk.sk_protocol, addr, port)

    # -- the hooks ----------------------------------------------------------------------------------------------------------

    def socket_create(self, net: Net, family: int, type: int, protocol: int, kern: bool) -> int:
        if kern or family != AF_INET:
            return 0
        if protocol == 0:
            kind = type & SOCK_TYPE_MASK
            protocol = IPPROTO_TCP if kind == SOCK_STREAM else IPPROTO_UDP if kind == SOCK_DGRAM else 0
        return self.check(net.kernel, None, "create", protocol, -1, 0)

    def socket_bind(self, sock: Socket, address: bytes) -> int:
        return self.check_name(sock, "bind", address)

    def socket_connect(self, sock: Socket, address: bytes) -> int:
        return self.check_name(sock, "connect", address)

    def socket_listen(self, sock: Socket, backlog: int) -> int:
        sk = sock.sk
        if sk is None or sk.sk_family != AF_INET:
            return 0
        return self.check(sock.kernel, sk, "listen", sk.sk_protocol, sk.inet_rcv_saddr, sk.inet_num)

    def socket_accept(self, sock: Socket, newsock: Socket) -> int:
        sk = sock.sk
        if sk is None or sk.sk_family != AF_INET:
            return 0
        return self.check(sock.kernel, sk, "accept", sk.sk_protocol, -1, 0)

    def socket_sendmsg(self, sock: Socket, msg: MsgHdr, size: int) -> int:
        if msg.msg_name:
            return self.check_name(sock, "send", msg.msg_name)
        sk = sock.sk
        if sk is None or sk.sk_family != AF_INET:
            return 0
        addr = sk.inet_daddr if sk.inet_daddr else -1
        return self.check(sock.kernel, sk, "send", sk.sk_protocol, addr, sk.inet_dport)

    def socket_sock_rcv_skb(self, sk: Sock, skb: SkBuff) -> int:
        return self.check_packet(sk, "recv", skb)

    def inet_conn_request(self, sk: Sock, skb: SkBuff) -> int:
        return self.check_packet(sk, "accept", skb)

    def check_packet(self, sk: Sock, op: str, skb: SkBuff) -> int:
        if sk.sk_family != AF_INET:
            return 0
        head = skb.head
        port = 0
        if (sk.sk_protocol == IPPROTO_TCP or sk.sk_protocol == IPPROTO_UDP) and skb.transport_header + 2 <= skb.tail:
            port = be.get_u16(head, skb.transport_header)
        return self.check(sk.kernel, sk, op, sk.sk_protocol, be.get_u32(head, skb.network_header + ip.IP_SADDR), port, True)

    def sk_alloc_security(self, sk: Sock, family: int) -> int:
        task = sk.kernel.current
        if task is not None and not sk.sk_kern_sock:
            self._labels[sk] = task.comm
        return 0

    def sk_clone_security(self, sk: Sock, newsk: Sock) -> None:
        label = self._labels.get(sk)
        if label is not None:
            self._labels[newsk] = label

    def sk_free_security(self, sk: Sock) -> None:
        self._labels.pop(sk, None)
