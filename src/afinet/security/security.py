"""security/security.c: the hooks of Linux security modules on sockets.

A `SecurityHook` hangs on `Kernel.security_hooks` (security_add_hooks) and overrides the methods that it cares about; hooks are
asked in order of registration and the first that does not answer 0 decides, with -errno. With no hook registered a check is one
test of an empty list.

policy.py is a module that is ready to use, lsm_audit.py the trail of what it decided. What Linux's modules keep in sk->sk_security,
a module keeps here in a dict by sock, from sk_alloc_security or sk_clone_security to sk_free_security.

Left out: secids and labelled packets (xfrm, NetLabel, secmark), and the hooks that are not about sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet._mypyc import mypyc_attr
from afinet.uapi.errno import ENOPROTOOPT

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.request_sock import RequestSock
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Sock
    from afinet.net.socket import MsgHdr, Socket


@mypyc_attr(allow_interpreted_subclasses=True)
class SecurityHook:
    """A security module: every method answers 0 (no objection) or -errno. Who calls is `kernel.current`."""

    __slots__ = ()

    def socket_create(self, net: Net, family: int, type: int, protocol: int, kern: bool) -> int:
        return 0

    def socket_post_create(self, sock: Socket, family: int, type: int, protocol: int, kern: bool) -> int:
        return 0

    def socket_socketpair(self, socka: Socket, sockb: Socket) -> int:
        return 0

    def socket_bind(self, sock: Socket, address: bytes) -> int:
        return 0

    def socket_connect(self, sock: Socket, address: bytes) -> int:
        return 0

    def socket_listen(self, sock: Socket, backlog: int) -> int:
        return 0

    def socket_accept(self, sock: Socket, newsock: Socket) -> int:
        return 0

    def socket_sendmsg(self, sock: Socket, msg: MsgHdr, size: int) -> int:
        return 0

    def socket_recvmsg(self, sock: Socket, msg: MsgHdr, size: int, flags: int) -> int:
        return 0

    def socket_getsockname(self, sock: Socket) -> int:
        return 0

    def socket_getpeername(self, sock: Socket) -> int:
        return 0

    def socket_getsockopt(self, sock: Socket, level: int, optname: int) -> int:
        return 0

    def socket_setsockopt(self, sock: Socket, level: int, optname: int) -> int:
        return 0

    def socket_shutdown(self, sock: Socket, how: int) -> int:
        return 0

    def socket_sock_rcv_skb(self, sk: Sock, skb: SkBuff) -> int:
        """A packet is about to be queued to `sk`. Softirq context."""
        return 0

    def socket_getpeersec_stream(self, sock: Socket) -> tuple[int, bytes]:
        """SO_PEERSEC: (0, the peer's context), or (-errno, b"")."""
        return -ENOPROTOOPT, b""

    def socket_getpeersec_dgram(self, sk: Sock, skb: SkBuff) -> bytes:
        """IP_PASSSEC: the context of the sender of `skb`, b"" for none."""
        return b""

    def sk_alloc_security(self, sk: Sock, family: int) -> int:
        """A sock is made, of which little is known yet. A refusal is -ENOBUFS to the program."""
        return 0

    def sk_free_security(self, sk: Sock) -> None:
        """The sock ends."""

    def sk_clone_security(self, sk: Sock, newsk: Sock) -> None:
        """`newsk` is the child of listener `sk`."""

    def sock_graft(self, sk: Sock, parent: Socket) -> None:
        """`sk` was accepted and gets its socket."""

    def inet_conn_request(self, sk: Sock, skb: SkBuff) -> int:
        """A SYN reached the listener `sk`."""
        return 0

    def inet_csk_clone(self, newsk: Sock, req: RequestSock) -> None:
        """A connection was accepted by the stack: `newsk` came of `req`."""

    def inet_conn_established(self, sk: Sock, skb: SkBuff) -> None:
        """The SYN-ACK of a connection that `sk` opened came in."""


def security_add_hooks(kernel: Kernel, hook: SecurityHook) -> None:
    kernel.security_hooks.append(hook)


def security_delete_hooks(kernel: Kernel, hook: SecurityHook) -> None:
    """For tests and for what comes and goes; Linux's modules stay."""
    kernel.security_hooks.remove(hook)


def security_socket_create(net: Net, family: int, type: int, protocol: int, kern: bool) -> int:
    for hook in net.kernel.security_hooks:
        err = hook.socket_create(net, family, type, protocol, kern)
        if err:
            return err
    return 0


def security_socket_post_create(sock: Socket, family: int, type: int, protocol: int, kern: bool) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_post_create(sock, family, type, protocol, kern)
        if err:
            return err
    return 0


def security_socket_socketpair(socka: Socket, sockb: Socket) -> int:
    for hook in socka.kernel.security_hooks:
        err = hook.socket_socketpair(socka, sockb)
        if err:
            return err
    return 0


def security_socket_bind(sock: Socket, address: bytes) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_bind(sock, address)
        if err:
            return err
    return 0


def security_socket_connect(sock: Socket, address: bytes) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_connect(sock, address)
        if err:
            return err
    return 0


def security_socket_listen(sock: Socket, backlog: int) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_listen(sock, backlog)
        if err:
            return err
    return 0


def security_socket_accept(sock: Socket, newsock: Socket) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_accept(sock, newsock)
        if err:
            return err
    return 0


def security_socket_sendmsg(sock: Socket, msg: MsgHdr, size: int) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_sendmsg(sock, msg, size)
        if err:
            return err
    return 0


def security_socket_recvmsg(sock: Socket, msg: MsgHdr, size: int, flags: int) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_recvmsg(sock, msg, size, flags)
        if err:
            return err
    return 0


def security_socket_getsockname(sock: Socket) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_getsockname(sock)
        if err:
            return err
    return 0


def security_socket_getpeername(sock: Socket) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_getpeername(sock)
        if err:
            return err
    return 0


def security_socket_getsockopt(sock: Socket, level: int, optname: int) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_getsockopt(sock, level, optname)
        if err:
            return err
    return 0


def security_socket_setsockopt(sock: Socket, level: int, optname: int) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_setsockopt(sock, level, optname)
        if err:
            return err
    return 0


def security_socket_shutdown(sock: Socket, how: int) -> int:
    for hook in sock.kernel.security_hooks:
        err = hook.socket_shutdown(sock, how)
        if err:
            return err
    return 0


def security_sock_rcv_skb(sk: Sock, skb: SkBuff) -> int:
    for hook in sk.kernel.security_hooks:
        err = hook.socket_sock_rcv_skb(sk, skb)
        if err:
            return err
    return 0


def security_socket_getpeersec_stream(sock: Socket) -> tuple[int, bytes]:
    """The first module that knows the peer's context."""
    for hook in sock.kernel.security_hooks:
        err, context = hook.socket_getpeersec_stream(sock)
        if err != -ENOPROTOOPT:
            return err, context
    return -ENOPROTOOPT, b""


def security_socket_getpeersec_dgram(sk: Sock, skb: SkBuff) -> bytes:
    for hook in sk.kernel.security_hooks:
        context = hook.socket_getpeersec_dgram(sk, skb)
        if context:
            return context
    return b""


def security_sk_alloc(sk: Sock, family: int) -> int:
    for hook in sk.kernel.security_hooks:
        err = hook.sk_alloc_security(sk, family)
        if err:
            security_sk_free(sk)
            return err
    return 0


def security_sk_free(sk: Sock) -> None:
    for hook in sk.kernel.security_hooks:
        hook.sk_free_security(sk)


def security_sk_clone(sk: Sock, newsk: Sock) -> None:
    for hook in sk.kernel.security_hooks:
        hook.sk_clone_security(sk, newsk)


def security_sock_graft(sk: Sock, parent: Socket) -> None:
    for hook in sk.kernel.security_hooks:
        hook.sock_graft(sk, parent)


def security_inet_csk_clone(newsk: Sock, req: RequestSock) -> None:
    for hook in newsk.kernel.security_hooks:
        hook.inet_csk_clone(newsk, req)


def security_inet_conn_request(sk: Sock, skb: SkBuff) -> int:
    for hook in sk.kernel.security_hooks:
        err = hook.inet_conn_request(sk, skb)
        if err:
            return err
    return 0


def security_inet_conn_established(sk: Sock, skb: SkBuff) -> None:
    for hook in sk.kernel.security_hooks:
        hook.inet_conn_established(sk, skb)
