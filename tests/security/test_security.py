"""security/security.c: every hook is asked where Linux asks it, and its refusal is what Linux makes of it."""

from __future__ import annotations

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.core.drop_reason import SKB_DROP_REASON_SECURITY_HOOK
from afinet.security.security import SecurityHook, security_add_hooks, security_delete_hooks
from afinet.uapi.errno import EACCES, EAGAIN, ENOBUFS, ENOPROTOOPT, ERANGE
from afinet.uapi.sockaddr import pack_s32, parse_cmsgs
from afinet.uapi.socket import AF_INET, SO_PEERSEC, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET
from tests.net.ipv4.dgramhost import SEC, B, Hosts, sa


class Recorder(SecurityHook):
    """Notes every question; answers -EACCES to those in `refuse`."""

    def __init__(self, *refuse: str) -> None:
        self.asked: list[str] = []
        self.refuse = refuse

    def note(self, name: str) -> int:
        self.asked.append(name)
        return -EACCES if name in self.refuse else 0

    def socket_create(self, net, family, type, protocol, kern):
        return 0 if kern else self.note("create")

    def socket_post_create(self, sock, family, type, protocol, kern):
        return 0 if kern else self.note("post_create")

    def socket_bind(self, sock, address):
        return self.note("bind")

    def socket_connect(self, sock, address):
        return self.note("connect")

    def socket_listen(self, sock, backlog):
        return self.note("listen")

    def socket_accept(self, sock, newsock):
        return self.note("accept")

    def socket_sendmsg(self, sock, msg, size):
        return self.note("sendmsg")

    def socket_recvmsg(self, sock, msg, size, flags):
        return self.note("recvmsg")

    def socket_getsockname(self, sock):
        return self.note("getsockname")

    def socket_getpeername(self, sock):
        return self.note("getpeername")

    def socket_getsockopt(self, sock, level, optname):
        return self.note("getsockopt")

    def socket_setsockopt(self, sock, level, optname):
        return self.note("setsockopt")

    def socket_shutdown(self, sock, how):
        return self.note("shutdown")

    def socket_sock_rcv_skb(self, sk, skb):
        return self.note("sock_rcv_skb")

    def sk_alloc_security(self, sk, family):
        return self.note("sk_alloc")

    def sk_free_security(self, sk):
        self.note("sk_free")

    def sk_clone_security(self, sk, newsk):
        self.note("sk_clone")

    def sock_graft(self, sk, parent):
        self.note("sock_graft")

    def inet_conn_request(self, sk, skb):
        return self.note("inet_conn_request")

    def inet_csk_clone(self, newsk, req):
        self.note("inet_csk_clone")

    def inet_conn_established(self, sk, skb):
        self.note("inet_conn_established")

    def took(self) -> list[str]:
        out = self.asked
        self.asked = []
        return out


def guarded(*refuse: str) -> tuple[Hosts, Recorder]:
    h = Hosts()
    hook = Recorder(*refuse)
    security_add_hooks(h.kernel, hook)
    return h, hook


def test_a_connection_asks_each_hook_in_its_turn() -> None:
    h, hook = guarded()
    ln = h.socket(1, AF_INET, SOCK_STREAM | 0x800, 0)
    assert hook.took() == ["create", "sk_alloc", "post_create"]
    h.bind(ln, sa(B, 80))
    h.listen(ln, 1)
    assert hook.took() == ["bind", "listen"]
    c = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0)
    hook.took()
    h.connect(c, sa(B, 80))
    h.settle()
    # The SYN and then the ACK pass the listener's filter, the SYN-ACK that of the client.
    assert hook.took() == [
        "connect",
        "sock_rcv_skb",
        "inet_conn_request",
        "sock_rcv_skb",
        "inet_conn_established",
        "sock_rcv_skb",
        "sk_clone",
        "inet_csk_clone",
    ]
    s = syscalls.sys_accept4(h.task, Kiocb(), ln, 0x800)[0]
    assert hook.took() == ["accept", "sock_graft"]
    h.send(c, b"x")
    assert hook.took()[:2] == ["sendmsg", "sock_rcv_skb"]
    assert h.recv(s) == b"x"
    h.getsockname(s)
    h.getpeername(s)
    h.getsockopt(s, SOL_SOCKET, 3, 4)
    h.setsockopt(s, SOL_SOCKET, 2, pack_s32(1))
    h.shutdown(s, 1)
    asked = hook.took()
    assert [name for name in asked if name != "sock_rcv_skb"] == [
        "recvmsg",
        "getsockname",
        "getpeername",
        "getsockopt",
        "setsockopt",
        "shutdown",
    ]
    for fd in (c, s, ln):
        h.close(fd)
    h.run_until(h.kernel.now + 120 * SEC)
    assert hook.took().count("sk_free") == 3


def test_a_refusal_is_the_calls_answer() -> None:
    h, _ = guarded(
        "bind", "connect", "listen", "accept", "sendmsg", "recvmsg", "getsockopt", "setsockopt", "shutdown", "getsockname"
    )
    fd = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0)
    assert h.bind(fd, sa(B)) == h.connect(fd, sa(B, 80)) == h.listen(fd, 1) == h.accept(fd) == -EACCES
    assert h.send(fd, b"x") == h.recv(fd) == h.shutdown(fd, 1) == h.setsockopt(fd, 1, 2, pack_s32(1)) == -EACCES
    assert h.getsockopt(fd, 1, 2, 4) == h.getsockname(fd) == (-EACCES, b"")


def test_a_socket_that_is_refused_leaves_nothing() -> None:
    for stage, err in (("create", -EACCES), ("sk_alloc", -ENOBUFS), ("post_create", -EACCES)):
        h, hook = guarded(stage)
        assert h.socket(0, AF_INET, SOCK_DGRAM, 0) == err
        assert hook.took().count("sk_free") == (0 if stage == "create" else 1)
        assert h.kernel.proto_list[0].inuse == {}


def test_a_packet_that_is_refused_is_dropped_with_its_reason() -> None:
    h = Hosts()
    rx, tx = h.udp(1, bind=sa(B, 5000)), h.udp(0)
    raw = h.raw(17, 1)
    hook = Recorder("sock_rcv_skb")
    security_add_hooks(h.kernel, hook)
    assert h.send(tx, b"x", sa(B, 5000)) == 1
    assert h.recv(rx) == h.recv(raw) == -EAGAIN
    assert h.b.drop_reasons[SKB_DROP_REASON_SECURITY_HOOK] == 2
    security_delete_hooks(h.kernel, hook)
    h.send(tx, b"x", sa(B, 5000))
    assert h.recv(rx) == b"x"


def test_a_syn_that_is_refused_is_not_answered() -> None:
    """inet_conn_request: silence, so that the client goes on trying."""
    h, hook = guarded("inet_conn_request")
    ln = h.socket(1, AF_INET, SOCK_STREAM, 0)
    h.bind(ln, sa(B, 80))
    h.listen(ln, 1)
    c = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0)
    h.connect(c, sa(B, 80))
    h.run_until(h.kernel.now + 2 * SEC)
    assert hook.took().count("inet_conn_request") == 2
    assert h.poll(c, 4) == 0


def test_the_first_of_several_modules_that_objects_decides() -> None:
    h = Hosts()
    first, second = Recorder("bind"), Recorder()
    security_add_hooks(h.kernel, first)
    security_add_hooks(h.kernel, second)
    fd = h.socket(0, AF_INET, SOCK_DGRAM, 0)
    assert h.bind(fd, sa("0.0.0.0", 0)) == -EACCES
    assert "bind" in first.asked and "bind" not in second.asked


class Labels(SecurityHook):
    """Contexts of peers, as SELinux has them."""

    def socket_getpeersec_stream(self, sock):
        return 0, b"system_u:peer\0"

    def socket_getpeersec_dgram(self, sk, skb):
        return b"mark %d" % skb.mark


def test_the_peers_context_is_told_by_SO_PEERSEC_and_IP_PASSSEC() -> None:
    h = Hosts()
    rx, tx = h.udp(0, bind=sa("127.0.0.1", 5000)), h.udp(0)
    assert h.getsockopt(rx, SOL_SOCKET, SO_PEERSEC, 100) == (-ENOPROTOOPT, b""), "no module, no context"
    security_add_hooks(h.kernel, Labels())
    assert h.getsockopt(rx, SOL_SOCKET, SO_PEERSEC, 100) == (0, b"system_u:peer\0")
    assert h.getsockopt(rx, SOL_SOCKET, SO_PEERSEC, 3) == (-ERANGE, b"")
    assert h.setsockopt(rx, 0, 18, pack_s32(1)) == 0  # IP_PASSSEC
    h.send(tx, b"x", sa("127.0.0.1", 5000))
    assert parse_cmsgs(h.recvmsg(rx, 10, 0x40, 100)[3]) == [(0, 3, b"mark 0")]  # SCM_SECURITY
