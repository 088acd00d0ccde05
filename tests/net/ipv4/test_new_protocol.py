"""A protocol from outside the package: a Proto, an InetProtosw and a NetProtocol of this test's own, and datagrams over them.

Protocol 200 has a header of four bytes: source port and destination port. The classes here are plain interpreted Python, whichever
build is under test.
"""

from __future__ import annotations

import struct

from afinet.drivers.veth import veth_newlink
from afinet.fs.file import fdget
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.machine import Kernel
from afinet.kernel.task import Task
from afinet.kernel.time import NSEC_PER_SEC
from afinet.kernel.wait import Kiocb
from afinet.net.core.datagram import (
    __skb_recv_datagram,
    skb_copy_datagram_msg,
    skb_free_datagram,
    sock_queue_rcv_skb_reason,
)
from afinet.net.core.dev import dev_open
from afinet.net.core.drop_reason import SKB_DROP_REASON_NO_SOCKET, SKB_DROP_REASON_PKT_TOO_SMALL
from afinet.net.core.flow import Flowi4
from afinet.net.core.net_namespace import Net, copy_net_ns
from afinet.net.core.skbuff import SkBuff, kfree_skb_reason, pskb_may_pull, skb_pull, skb_push, skb_tobytes
from afinet.net.core.sock import Proto, Sock, lock_sock, proto_register, release_sock
from afinet.net.ipv4.af_inet import (
    INET_PROTOSW_PERMANENT,
    InetDgramOps,
    InetProtosw,
    inet_register_protosw,
    inet_unregister_protosw,
)
from afinet.net.ipv4.devinet import inet_addr_add
from afinet.net.ipv4.inet_sock import InetSock
from afinet.net.ipv4.ip_output import IpcmCookie, ip_make_skb, ip_send_skb, ipcm_init_sk
from afinet.net.ipv4.protocol import NetProtocol, inet_add_protocol, inet_del_protocol
from afinet.net.ipv4.route import ip_route_output_flow
from afinet.net.socket import MsgHdr, SocketFile
from afinet.uapi.errno import (
    EADDRINUSE,
    EDESTADDRREQ,
    EEXIST,
    EINVAL,
    EIOCBQUEUED,
    ENOENT,
    EPERM,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
)
from afinet.uapi.sockaddr import pack_sockaddr_in, unpack_sockaddr_in
from afinet.uapi.socket import AF_INET, SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_STREAM
from afinet.uapi.tcp import TCP_CLOSE, TCP_ESTABLISHED
from tests.leaks import start_kernel

IPPROTO_TINY = 200
A, B = 0x0A000001, 0x0A000002


class TinyProto(Proto):
    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "TINY")
        self.ports: dict[tuple[int, int], InetSock] = {}  # by namespace and port

    def sk_prot_alloc(self, net: Net, family: int) -> Sock:
        return InetSock(net, family, self)

    def has_get_port(self) -> bool:
        return True

    def get_port(self, sk: Sock, snum: int) -> int:
        assert isinstance(sk, InetSock)
        cookie = sk.sk_net.net_cookie
        if snum == 0:
            snum = 40000
            while (cookie, snum) in self.ports:
                snum += 1
        elif (cookie, snum) in self.ports:
            return -EADDRINUSE
        self.ports[cookie, snum] = sk
        sk.inet_num = snum
        return 0

    def unhash(self, sk: Sock) -> None:
        assert isinstance(sk, InetSock)
        self.ports.pop((sk.sk_net.net_cookie, sk.inet_num), None)
        sk.inet_num = 0

    def connect(self, sk: Sock, uaddr: bytes) -> int:
        assert isinstance(sk, InetSock)
        lock_sock(sk)
        sk.inet_daddr, sk.inet_dport = unpack_sockaddr_in(uaddr)
        sk.sk_state = TCP_ESTABLISHED
        release_sock(sk)
        return 0

    def disconnect(self, sk: Sock, flags: int) -> int:
        assert isinstance(sk, InetSock)
        sk.inet_daddr = sk.inet_dport = 0
        sk.sk_state = TCP_CLOSE
        return 0

    def sendmsg(self, sk: Sock, msg: MsgHdr, size: int) -> int:
        assert isinstance(sk, InetSock)
        if msg.msg_name:
            daddr, dport = unpack_sockaddr_in(msg.msg_name)
        elif sk.inet_dport:
            daddr, dport = sk.inet_daddr, sk.inet_dport
        else:
            return -EDESTADDRREQ
        ipc = IpcmCookie()
        ipcm_init_sk(ipc, sk)
        fl4 = Flowi4(daddr, sk.inet_saddr, ipc.oif, IPPROTO_TINY)
        err, rt = ip_route_output_flow(sk.sk_net, fl4, sk)
        if rt is None:
            return err
        ipc.addr = fl4.daddr
        err, skb = ip_make_skb(sk, fl4, msg, size, 4, ipc, rt)
        if skb is None:
            return err
        skb_push(skb, struct.pack("!HH", sk.inet_num, dport))
        skb.transport_header = skb.data
        return ip_send_skb(sk.sk_net, skb) or size

    def recvmsg(self, sk: Sock, msg: MsgHdr, size: int, flags: int) -> int:
        return tiny_recvmsg(sk, msg, size, flags)


def tiny_recvmsg(sk: Sock, msg: MsgHdr, size: int, flags: int) -> int:
    """A function, because a name that begins with two underscores means something else inside a class."""
    err, skb, off = __skb_recv_datagram(sk, sk.sk_receive_queue, flags, 0, msg)
    if skb is None:
        return err
    n = min(size, skb.len - off)
    skb_copy_datagram_msg(skb, off, msg, n)
    (saddr,) = struct.unpack_from("!I", skb.head, skb.network_header + 12)
    (sport,) = struct.unpack_from("!H", skb.head, skb.transport_header)
    msg.msg_name = pack_sockaddr_in(saddr, sport)
    skb_free_datagram(sk, skb)
    return n


class TinyProtocol(NetProtocol):
    def __init__(self, prot: TinyProto) -> None:
        super().__init__()
        self.prot = prot
        self.errors: list[int] = []

    def handler(self, skb: SkBuff) -> int:
        assert skb.dev is not None and skb.dev.nd_net is not None
        net = skb.dev.nd_net
        if not pskb_may_pull(skb, 4):
            return kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_SMALL)
        (dport,) = struct.unpack_from("!H", skb.head, skb.data + 2)
        sk = self.prot.ports.get((net.net_cookie, dport))
        if sk is None:
            return kfree_skb_reason(net, skb, SKB_DROP_REASON_NO_SOCKET)
        skb_pull(skb, 4)
        reason = sock_queue_rcv_skb_reason(sk, skb)
        if reason:
            return kfree_skb_reason(net, skb, reason)
        return 0

    def err_handler(self, skb: SkBuff, info: int) -> int:
        self.errors.append(skb_tobytes(skb)[9])
        return 0


class World:
    """Two namespaces of one Kernel, 10.0.0.1 and 10.0.0.2, and TINY registered."""

    def __init__(self) -> None:
        self.kernel = start_kernel("tiny", b"seed")
        net_a, net_b = copy_net_ns(self.kernel, "a"), copy_net_ns(self.kernel, "b")
        self.nets = (net_a, net_b)
        for dev, addr in zip(veth_newlink(net_a, "v0", net_b, "v1"), (A, B), strict=True):
            assert inet_addr_add(dev, addr, 24) == 0
            assert dev_open(dev) == 0
        self.a = new_task(self.kernel, net_a, "a", None)
        self.b = new_task(self.kernel, net_b, "b", None)
        self.prot = TinyProto(self.kernel)
        assert proto_register(self.kernel, self.prot) == 0
        self.protocol = TinyProtocol(self.prot)
        assert inet_add_protocol(self.kernel, self.protocol, IPPROTO_TINY) == 0
        self.switch = InetProtosw(SOCK_DGRAM, IPPROTO_TINY, self.prot, InetDgramOps(), 0)
        assert inet_register_protosw(self.kernel, self.switch) == 0
        self.settle()

    def settle(self, seconds: int = 1) -> None:
        end = self.kernel.now + seconds * NSEC_PER_SEC
        when = self.kernel.run(self.kernel.now)
        while when <= end:
            when = self.kernel.run(when)
        self.kernel.run(end)

    def socket(self, task: Task, port: int = 0) -> int:
        fd = syscalls.sys_socket(task, AF_INET, SOCK_DGRAM, IPPROTO_TINY)
        assert fd >= 0
        if port:
            assert syscalls.sys_bind(task, fd, pack_sockaddr_in(0, port)) == 0
        return fd

    def recv(self, task: Task, fd: int) -> tuple[int, bytes, bytes]:
        """A blocking receive: waits for what is on its way."""
        iocb = Kiocb()
        for _ in range(100):
            n, pieces, addr = syscalls.sys_recvfrom(task, iocb, fd, 2000, 0)
            if n != -EIOCBQUEUED:
                return n, b"".join(pieces), addr
            self.kernel.run(self.kernel.next_timer())
        raise AssertionError("nothing came")


def test_a_protocol_registered_from_outside_carries_datagrams() -> None:
    w = World()
    server = w.socket(w.b, 7)
    client = w.socket(w.a)
    assert syscalls.sys_sendto(w.a, Kiocb(), client, b"ping", 0, pack_sockaddr_in(B, 7)) == 4
    n, data, peer = w.recv(w.b, server)
    assert (n, data, unpack_sockaddr_in(peer)) == (4, b"ping", (A, 40000))
    assert syscalls.sys_sendto(w.b, Kiocb(), server, b"pong", 0, peer) == 4
    assert w.recv(w.a, client) == (4, b"pong", pack_sockaddr_in(B, 7))
    # connected, and a datagram that is fragmented on the way
    assert syscalls.sys_connect(w.a, Kiocb(), client, pack_sockaddr_in(B, 7)) == 0
    big = bytes(range(256)) * 7
    assert syscalls.sys_sendto(w.a, Kiocb(), client, big, 0, b"") == len(big)
    assert w.recv(w.b, server)[1] == big
    assert syscalls.sys_getpeername(w.a, client) == (0, pack_sockaddr_in(B, 7))


def test_its_socks_end_without_a_leak() -> None:
    w = World()
    server = w.socket(w.b, 7)
    client = w.socket(w.a)
    for i in range(5):
        syscalls.sys_sendto(w.a, Kiocb(), client, b"x" * i, 0, pack_sockaddr_in(B, 7))
    w.settle()
    file = fdget(w.b.files, server)
    assert isinstance(file, SocketFile) and file.sock.sk is not None
    sk = file.sock.sk
    assert sk.sk_receive_queue.qlen == 5 and sk.sk_rmem_alloc > 0
    assert syscalls.sys_close(w.b, Kiocb(), server) == 0
    assert syscalls.sys_close(w.a, Kiocb(), client) == 0
    assert (sk.sk_receive_queue.qlen, sk.sk_rmem_alloc, sk.sk_forward_alloc, sk.sk_refcnt) == (0, 0, 0, 0)
    assert w.prot.ports == {}
    assert w.kernel.warned == {}
    # nobody there: counted, and nothing breaks
    client = w.socket(w.a)
    syscalls.sys_sendto(w.a, Kiocb(), client, b"x", 0, pack_sockaddr_in(B, 7))
    w.settle()
    assert w.nets[1].drop_reasons[SKB_DROP_REASON_NO_SOCKET] == 1


def test_unregistering_leaves_open_sockets_alone() -> None:
    w = World()
    server = w.socket(w.b, 7)
    client = w.socket(w.a)
    assert inet_unregister_protosw(w.kernel, w.switch) == 0
    assert inet_unregister_protosw(w.kernel, w.switch) == -ENOENT
    assert syscalls.sys_socket(w.a, AF_INET, SOCK_DGRAM, IPPROTO_TINY) == -EPROTONOSUPPORT
    assert syscalls.sys_sendto(w.a, Kiocb(), client, b"still", 0, pack_sockaddr_in(B, 7)) == 5
    assert w.recv(w.b, server)[1] == b"still"
    assert inet_del_protocol(w.kernel, w.protocol, IPPROTO_TINY) == 0
    assert inet_del_protocol(w.kernel, w.protocol, IPPROTO_TINY) == -EPERM
    # now nobody takes protocol 200: the host says so, by ICMP, which finds no err_handler any more
    syscalls.sys_sendto(w.a, Kiocb(), client, b"lost", 0, pack_sockaddr_in(B, 7))
    w.settle()
    assert w.protocol.errors == []
    assert not w.kernel.warned


def test_an_unreachable_port_of_the_protocol_reaches_its_err_handler() -> None:
    w = World()
    inet_del_protocol(w.kernel, w.protocol, IPPROTO_TINY)
    # an error about our packet comes back to whoever has the number on the sending side; one table serves both namespaces here
    client = w.socket(w.a)
    syscalls.sys_sendto(w.a, Kiocb(), client, b"lost", 0, pack_sockaddr_in(B, 7))
    inet_add_protocol(w.kernel, w.protocol, IPPROTO_TINY)
    w.settle()
    assert w.protocol.errors in ([], [IPPROTO_TINY])


def test_permanent_entries_cannot_be_overridden_or_removed() -> None:
    w = World()
    kernel = w.kernel
    ops = InetDgramOps()
    tcp = kernel.inetsw[SOCK_STREAM][0]
    udp = kernel.inetsw[SOCK_DGRAM][0]
    assert tcp.flags & INET_PROTOSW_PERMANENT and udp.flags & INET_PROTOSW_PERMANENT
    assert inet_unregister_protosw(kernel, tcp) == -EPERM
    assert inet_register_protosw(kernel, InetProtosw(SOCK_DGRAM, 17, w.prot, ops, 0)) == -EEXIST
    assert inet_register_protosw(kernel, InetProtosw(SOCK_STREAM, 6, w.prot, ops, 0)) == -EEXIST
    assert inet_register_protosw(kernel, InetProtosw(11, 1, w.prot, ops, 0)) == -EINVAL
    assert inet_register_protosw(kernel, InetProtosw(-1, 1, w.prot, ops, 0)) == -EINVAL
    assert kernel.inetsw[SOCK_DGRAM][0] is udp  # and still first, so that protocol 0 means UDP


def test_what_came_last_answers_first_among_those_that_may_change() -> None:
    w = World()
    kernel = w.kernel
    other = TinyProto(kernel)
    mine = InetProtosw(SOCK_RAW, 0, other, InetDgramOps(), 0)  # a wild card before raw's own
    assert inet_register_protosw(kernel, mine) == 0
    fd = syscalls.sys_socket(w.a, AF_INET, SOCK_RAW, 99)
    file = fdget(w.a.files, fd)
    assert isinstance(file, SocketFile) and file.sock.sk is not None
    assert file.sock.sk.sk_prot is other
    assert inet_unregister_protosw(kernel, mine) == 0
    fd = syscalls.sys_socket(w.a, AF_INET, SOCK_RAW, 99)
    file = fdget(w.a.files, fd)
    assert isinstance(file, SocketFile) and file.sock.sk is not None
    assert file.sock.sk.sk_prot.name == "RAW"
    # a type that nobody had
    assert syscalls.sys_socket(w.a, AF_INET, SOCK_RDM, 0) == -ESOCKTNOSUPPORT
    assert inet_register_protosw(kernel, InetProtosw(SOCK_RDM, 200, w.prot, InetDgramOps(), 0)) == 0
    assert syscalls.sys_socket(w.a, AF_INET, SOCK_RDM, 0) >= 0
