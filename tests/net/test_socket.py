"""The socket layer alone: a family of the test's own, which says what it was asked."""

from __future__ import annotations

import pytest

from afinet.fs.file import FilesStruct, fdget
from afinet.init import syscalls
from afinet.init.fork import CLONE_NEWNET
from afinet.kernel.machine import Kernel
from afinet.kernel.task import Cred, Task
from afinet.kernel.wait import Kiocb, WaitQueueHead
from afinet.net import socket as net_socket
from afinet.net.core.net_namespace import Net
from afinet.net.core.scm import put_cmsg
from afinet.net.core.sock import Proto, Sock, sk_alloc, sk_sleep, sock_init_data
from afinet.net.socket import (
    MsgHdr,
    NetProtoFamily,
    ProtoOps,
    Socket,
    SocketFile,
    kernel_accept,
    kernel_bind,
    kernel_connect,
    kernel_getsockname,
    kernel_listen,
    kernel_recvmsg,
    kernel_sendmsg,
    kernel_sock_shutdown,
    sock_create_kern,
    sock_init,
    sock_register,
    sock_unregister,
)
from afinet.security.security import SecurityHook, security_add_hooks, security_delete_hooks
from afinet.uapi.errno import (
    EACCES,
    EAFNOSUPPORT,
    EAGAIN,
    EBADF,
    ECONNABORTED,
    EEXIST,
    EINTR,
    EINVAL,
    EIOCBQUEUED,
    EMFILE,
    ENOBUFS,
    ENOTSOCK,
    ENOTTY,
    EOPNOTSUPP,
    EPERM,
    ERESTARTSYS,
    ESOCKTNOSUPPORT,
)
from afinet.uapi.eventpoll import EPOLLIN, EPOLLOUT
from afinet.uapi.fcntl import F_GETFD, F_GETFL, O_NONBLOCK, O_RDWR
from afinet.uapi.sockaddr import pack_cmsg, pack_s32, parse_cmsgs
from afinet.uapi.socket import (
    AF_MAX,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_SPLICE_PAGES,
    SO_DOMAIN,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)
from afinet.uapi.sockios import FIONBIO

AF_TEST = 11  # AF_DECnet's neighbour: a family that afinet does not have


class EchoOps(ProtoOps):
    """Receives what it sent. `log` tells the calls; `answer` overrides the next answers, one a call."""

    def __init__(self) -> None:
        super().__init__(AF_TEST)
        self.log: list[tuple[object, ...]] = []
        self.answer: dict[str, int] = {}
        self.released = 0
        self.lingers = 0
        self.queues: dict[Sock, list[bytes]] = {}

    def queue(self, sock: Socket) -> list[bytes]:
        assert sock.sk is not None
        return self.queues.setdefault(sock.sk, [])

    def release(self, sock: Socket, iocb: Kiocb) -> int:
        if self.lingers and not iocb.ki_signal:
            self.lingers -= 1
            return iocb.wait(WaitQueueHead(), 0)
        self.released += 1
        return 0

    def bind(self, sock: Socket, uaddr: bytes, task: Task | None) -> int:
        self.log.append(("bind", uaddr))
        return self.answer.get("bind", 0)

    def connect(self, sock: Socket, uaddr: bytes, flags: int, iocb: Kiocb) -> int:
        self.log.append(("connect", uaddr, flags))
        return self.answer.get("connect", 0)

    def listen(self, sock: Socket, backlog: int) -> int:
        self.log.append(("listen", backlog))
        return 0

    def accept(self, sock: Socket, newsock: Socket, flags: int, iocb: Kiocb) -> int:
        err = self.answer.get("accept", 0)
        if err == 0:
            assert sock.sk is not None
            newsock.sk = sock.sk
        elif err == -EIOCBQUEUED:
            assert sock.sk is not None
            return iocb.wait(sk_sleep(sock.sk), EPOLLIN, True)
        return err

    def getname(self, sock: Socket, peer: int) -> tuple[int, bytes]:
        return self.answer.get("getname", 0), b"name%d" % peer

    def poll(self, file: object, sock: Socket) -> int:
        return EPOLLOUT | (EPOLLIN if self.queue(sock) else 0)

    def shutdown(self, sock: Socket, how: int) -> int:
        self.log.append(("shutdown", how))
        return 0

    def sendmsg(self, sock: Socket, msg: MsgHdr, size: int) -> int:
        assert size == len(msg.msg_data)
        self.log.append(("sendmsg", msg.msg_flags, msg.msg_name, msg.msg_control))
        self.queue(sock).append(msg.msg_data)
        return size

    def recvmsg(self, sock: Socket, msg: MsgHdr, size: int, flags: int) -> int:
        """Waits until `size` bytes are gathered: a call in several tries."""
        queue = self.queue(sock)
        while queue and msg.iocb.ki_done < size:
            data = queue.pop(0)
            msg.pieces.append(data)
            msg.iocb.ki_done += len(data)
        if msg.iocb.ki_done >= size:
            msg.msg_name = b"peer"
            put_cmsg(msg, 1, 2, b"12345")
            return msg.iocb.ki_done
        if flags & MSG_DONTWAIT:
            return msg.iocb.ki_done or -EAGAIN
        if msg.iocb.ki_signal:
            return msg.iocb.ki_done or -ERESTARTSYS
        assert sock.sk is not None
        return msg.iocb.wait(sk_sleep(sock.sk), EPOLLIN)


class EchoFamily(NetProtoFamily):
    def __init__(self, ops: EchoOps, prot: Proto) -> None:
        super().__init__(AF_TEST)
        self.ops = ops
        self.prot = prot
        self.created: list[tuple[int, bool]] = []

    def create(self, net: Net, sock: Socket, protocol: int, kern: bool, task: Task | None) -> int:
        if sock.type != SOCK_STREAM:
            return -ESOCKTNOSUPPORT
        self.created.append((protocol, kern))
        sock.ops = self.ops
        sk = sk_alloc(net, AF_TEST, self.prot, kern)
        assert sk is not None
        sock_init_data(sock, sk, sock.uid)
        return 0


class Machine:
    def __init__(self) -> None:
        self.kernel = Kernel()
        sock_init(self.kernel)
        self.net = Net(self.kernel)
        self.ops = EchoOps()
        self.family = EchoFamily(self.ops, Proto(self.kernel, "ECHO"))
        assert sock_register(self.kernel, self.family) == 0
        self.task = self.new_task()

    def new_task(self, uid: int = 0, gid: int = 0) -> Task:
        files = FilesStruct()
        files.count = 1
        return Task(self.kernel, self.net, files, "test", Cred(uid, gid))

    def socket(self, flags: int = 0) -> int:
        return syscalls.sys_socket(self.task, AF_TEST, SOCK_STREAM | flags, 0)

    def sock(self, fd: int) -> Socket:
        file = fdget(self.task.files, fd)
        assert isinstance(file, SocketFile)
        return file.sock


@pytest.fixture
def m() -> Machine:
    return Machine()


# -- families ----------------------------------------------------------------------------------------------------------


def test_a_family_registers_once_and_in_range(m: Machine) -> None:
    assert sock_register(m.kernel, m.family) == -EEXIST
    assert sock_register(m.kernel, NetProtoFamily(AF_MAX)) == -ENOBUFS
    sock_unregister(m.kernel, AF_TEST)
    assert m.socket() == -EAFNOSUPPORT
    sock_unregister(m.kernel, AF_MAX)
    assert sock_register(m.kernel, m.family) == 0
    assert len(m.kernel.net_families) == AF_MAX


def test_socket_checks_its_arguments_in_linuxs_order(m: Machine) -> None:
    sys_socket = syscalls.sys_socket
    assert sys_socket(m.task, AF_TEST, SOCK_STREAM | 0x100, 0) == -EINVAL
    assert sys_socket(m.task, -1, SOCK_STREAM, 0) == -EAFNOSUPPORT
    assert sys_socket(m.task, AF_MAX, SOCK_STREAM, 0) == -EAFNOSUPPORT
    assert sys_socket(m.task, AF_MAX, 15, 0) == -EAFNOSUPPORT
    assert sys_socket(m.task, AF_TEST, 11, 0) == -EINVAL
    assert sys_socket(m.task, 38, SOCK_STREAM, 0) == -EAFNOSUPPORT
    assert sys_socket(m.task, AF_TEST, SOCK_DGRAM, 0) == -ESOCKTNOSUPPORT


def test_a_socket_has_an_inode_an_owner_and_the_lowest_number(m: Machine) -> None:
    m.task = m.new_task(1000, 100)
    assert [m.socket(), m.socket()] == [3, 4]
    sock = m.sock(3)
    assert (sock.uid, sock.gid) == (1000, 100)
    assert sock.ino != m.sock(4).ino
    assert sock.sk is not None and sock.sk.sk_uid == 1000 and sock.sk.sk_socket is sock
    assert sock.sk.sk_net_refcnt and not sock.sk.sk_kern_sock


def test_flags_of_the_type_become_the_descriptors(m: Machine) -> None:
    fd = m.socket(SOCK_CLOEXEC | SOCK_NONBLOCK)
    assert syscalls.sys_fcntl(m.task, fd, F_GETFD, 0) == 1
    assert syscalls.sys_fcntl(m.task, fd, F_GETFL, 0) == O_RDWR | O_NONBLOCK
    fd = m.socket()
    assert syscalls.sys_fcntl(m.task, fd, F_GETFD, 0) == 0
    assert syscalls.sys_fcntl(m.task, fd, F_GETFL, 0) == O_RDWR


def test_no_descriptor_left_ends_the_new_socket(m: Machine) -> None:
    m.task.rlimit_nofile = 4
    assert m.socket() == 3
    assert m.socket() == -EMFILE
    assert m.ops.released == 1


def test_the_kernels_own_socket_belongs_to_nobody(m: Machine) -> None:
    err, sock = sock_create_kern(m.net, AF_TEST, SOCK_STREAM, 7)
    assert err == 0 and sock is not None and sock.sk is not None
    assert m.family.created == [(7, True)]
    assert sock.sk.sk_kern_sock and not sock.sk.sk_net_refcnt
    assert kernel_bind(sock, b"x") == 0
    assert kernel_listen(sock, 5) == 0
    assert kernel_connect(sock, b"y", 0, Kiocb()) == 0
    assert kernel_getsockname(sock) == (0, b"name0")
    assert kernel_sendmsg(sock, b"abc", b"", 0, Kiocb()) == 3
    assert kernel_recvmsg(sock, 3, 0, Kiocb()) == (3, [b"abc"], b"peer")
    assert kernel_sock_shutdown(sock, 2) == 0
    err, new = kernel_accept(sock, 0, Kiocb())
    assert err == 0 and new is not None and new.ino > sock.ino


# -- calls ---------------------------------------------------------------------------------------------------------------


def test_every_call_says_ebadf_and_enotsock(m: Machine) -> None:
    from afinet.fs.file import File, fd_install

    fd_install(m.task.files, 3, File(O_RDWR), False)
    t = m.task
    for fd, err in ((99, -EBADF), (-1, -EBADF), (3, -ENOTSOCK)):
        assert syscalls.sys_bind(t, fd, b"") == err
        assert syscalls.sys_connect(t, Kiocb(), fd, b"") == err
        assert syscalls.sys_listen(t, fd, 1) == err
        assert syscalls.sys_accept4(t, Kiocb(), fd, 0)[0] == err
        assert syscalls.sys_getsockname(t, fd)[0] == err
        assert syscalls.sys_getpeername(t, fd)[0] == err
        assert syscalls.sys_sendto(t, Kiocb(), fd, b"", 0, b"") == err
        assert syscalls.sys_sendmsg(t, Kiocb(), fd, b"", b"", 0, b"") == err
        assert syscalls.sys_recvfrom(t, Kiocb(), fd, 1, 0)[0] == err
        assert syscalls.sys_recvmsg(t, Kiocb(), fd, 1, 0, 0)[0] == err
        assert syscalls.sys_shutdown(t, fd, 0) == err
        assert syscalls.sys_setsockopt(t, fd, SOL_SOCKET, 2, b"1234") == err
        assert syscalls.sys_getsockopt(t, fd, SOL_SOCKET, 2, 4)[0] == err
    assert syscalls.sys_read(t, Kiocb(), 99, 1)[0] == -EBADF
    assert syscalls.sys_write(t, Kiocb(), 99, b"") == -EBADF
    assert syscalls.sys_ioctl(t, 99, FIONBIO, pack_s32(1))[0] == -EBADF
    assert syscalls.sys_close(t, Kiocb(), 99) == -EBADF


def test_addresses_longer_than_sockaddr_storage(m: Machine) -> None:
    fd = m.socket()
    long = bytes(129)
    assert syscalls.sys_bind(m.task, fd, long) == -EINVAL
    assert syscalls.sys_connect(m.task, Kiocb(), fd, long) == -EINVAL
    assert syscalls.sys_sendto(m.task, Kiocb(), fd, b"x", 0, long) == -EINVAL
    assert m.ops.log == []
    # sendmsg cuts it instead
    assert syscalls.sys_sendmsg(m.task, Kiocb(), fd, b"x", b"", 0, long) == 1
    assert m.ops.log == [("sendmsg", 0, bytes(128), b"")]


def test_the_backlog_is_unsigned_and_bounded_by_somaxconn(m: Machine) -> None:
    fd = m.socket()
    m.net.core.sysctl_somaxconn = 128
    for backlog in (5, 0, 128, 129, -1):
        assert syscalls.sys_listen(m.task, fd, backlog) == 0
    assert m.ops.log == [("listen", 5), ("listen", 0), ("listen", 128), ("listen", 128), ("listen", 128)]


def test_accept_installs_a_socket_with_the_flags_asked_for(m: Machine) -> None:
    fd = m.socket()
    new, addr = syscalls.sys_accept4(m.task, Kiocb(), fd, SOCK_NONBLOCK | SOCK_CLOEXEC)
    assert (new, addr) == (4, b"name2")
    assert syscalls.sys_fcntl(m.task, new, F_GETFL, 0) & O_NONBLOCK
    assert syscalls.sys_fcntl(m.task, new, F_GETFD, 0) == 1
    assert m.sock(new).type == SOCK_STREAM
    assert m.sock(new).ino > m.sock(fd).ino
    assert syscalls.sys_accept4(m.task, Kiocb(), fd, 1)[0] == -EINVAL
    m.task.rlimit_nofile = 5
    assert syscalls.sys_accept4(m.task, Kiocb(), fd, 0)[0] == -EMFILE


def test_an_accepted_peer_without_a_name_is_econnaborted(m: Machine) -> None:
    fd = m.socket()
    m.ops.answer["getname"] = -EINVAL
    assert syscalls.sys_accept4(m.task, Kiocb(), fd, 0) == (-ECONNABORTED, b"")
    assert m.ops.released == 1


def test_a_waiting_accept_holds_its_listener_over_a_close(m: Machine) -> None:
    fd = m.socket()
    m.ops.answer["accept"] = -EIOCBQUEUED
    iocb = Kiocb()
    assert syscalls.sys_accept4(m.task, iocb, fd, 0)[0] == -EIOCBQUEUED
    assert iocb.ki_exclusive
    assert syscalls.sys_close(m.task, Kiocb(), fd) == 0
    assert m.ops.released == 0
    m.ops.answer["accept"] = -EINVAL
    assert syscalls.sys_accept4(m.task, iocb, fd, 0)[0] == -EINVAL
    assert m.ops.released == 1
    assert iocb.ki_filp is None


def test_a_receive_gathers_over_several_tries(m: Machine) -> None:
    fd = m.socket()
    iocb = Kiocb()
    assert syscalls.sys_sendto(m.task, Kiocb(), fd, b"abc", 0, b"") == 3
    assert syscalls.sys_recvfrom(m.task, iocb, fd, 6, 0)[0] == -EIOCBQUEUED
    assert syscalls.sys_write(m.task, Kiocb(), fd, b"def") == 3
    assert syscalls.sys_recvfrom(m.task, iocb, fd, 6, 0) == (6, [b"abc", b"def"], b"peer")


def test_a_signal_ends_a_receive_with_its_progress_or_eintr(m: Machine) -> None:
    fd = m.socket()
    iocb = Kiocb()
    assert syscalls.sys_recvfrom(m.task, iocb, fd, 6, 0)[0] == -EIOCBQUEUED
    iocb.ki_signal = True
    assert syscalls.sys_recvfrom(m.task, iocb, fd, 6, 0)[0] == -EINTR
    syscalls.sys_write(m.task, Kiocb(), fd, b"abc")
    iocb = Kiocb()
    assert syscalls.sys_recvfrom(m.task, iocb, fd, 6, 0)[0] == -EIOCBQUEUED
    iocb.ki_signal = True
    assert syscalls.sys_recvfrom(m.task, iocb, fd, 6, 0) == (3, [b"abc"], b"")


def test_an_abandoned_call_lets_go_of_its_file(m: Machine) -> None:
    fd = m.socket()
    iocb = Kiocb()
    assert syscalls.sys_recvfrom(m.task, iocb, fd, 6, 0)[0] == -EIOCBQUEUED
    assert syscalls.sys_exit(m.task) == 0
    assert m.ops.released == 0
    syscalls.abandon(iocb)
    assert m.ops.released == 1
    assert m.kernel.tasks == {}


def test_a_nonblocking_file_makes_every_call_so(m: Machine) -> None:
    fd = m.socket(SOCK_NONBLOCK)
    assert syscalls.sys_recvfrom(m.task, Kiocb(), fd, 6, 0)[0] == -EAGAIN
    assert syscalls.sys_read(m.task, Kiocb(), fd, 6)[0] == -EAGAIN
    syscalls.sys_sendto(m.task, Kiocb(), fd, b"x", MSG_SPLICE_PAGES, b"to")
    assert m.ops.log == [("sendmsg", MSG_DONTWAIT, b"to", b"")]
    assert syscalls.sys_ioctl(m.task, fd, FIONBIO, pack_s32(0)) == (0, b"")
    assert syscalls.sys_read(m.task, Kiocb(), fd, 1) == (1, [b"x"])
    assert syscalls.sys_read(m.task, Kiocb(), fd, 0) == (0, [])  # not even asked


def test_control_messages_both_ways(m: Machine) -> None:
    fd = m.socket()
    control = pack_cmsg(1, 29, b"abcd")
    assert syscalls.sys_sendmsg(m.task, Kiocb(), fd, b"x", control, 0, b"") == 1
    assert m.ops.log == [("sendmsg", 0, b"", control)]
    n, pieces, got, flags, name = syscalls.sys_recvmsg(m.task, Kiocb(), fd, 1, 24, MSG_CMSG_CLOEXEC)
    assert (n, pieces, flags, name) == (1, [b"x"], MSG_CMSG_CLOEXEC, b"peer")
    assert parse_cmsgs(got) == [(1, 2, b"12345")]


@pytest.mark.parametrize(
    ("room", "data", "truncated"),
    [(0, None, True), (15, None, True), (16, b"", True), (20, b"1234", True), (21, b"12345", False), (64, b"12345", False)],
)
def test_control_that_finds_no_room_is_cut_and_says_so(m: Machine, room: int, data: bytes | None, truncated: bool) -> None:
    fd = m.socket()
    syscalls.sys_write(m.task, Kiocb(), fd, b"x")
    _, _, got, flags, _ = syscalls.sys_recvmsg(m.task, Kiocb(), fd, 1, room, 0)
    assert flags == (MSG_CTRUNC if truncated else 0)
    assert len(got) <= room
    assert parse_cmsgs(got) == ([] if data is None else [(1, 2, data)])


def test_poll_registers_on_the_socks_queue(m: Machine) -> None:
    fd = m.socket()
    assert syscalls.sys_poll(m.task, Kiocb(), [(fd, EPOLLOUT)], 0) == (1, [EPOLLOUT])
    iocb = Kiocb()
    assert syscalls.sys_poll(m.task, iocb, [(fd, EPOLLIN)], -1)[0] == -EIOCBQUEUED
    sk = m.sock(fd).sk
    assert sk is not None and iocb.ki_poll is not None
    assert [wq for wq, _ in iocb.ki_poll] == [sk.sk_wq]
    syscalls.sys_write(m.task, Kiocb(), fd, b"x")
    assert syscalls.sys_poll(m.task, iocb, [(fd, EPOLLIN)], -1) == (1, [EPOLLIN])
    assert syscalls.sys_select(m.task, Kiocb(), [fd], [fd], [], 0) == (2, [fd], [fd], [])


def test_close_may_linger(m: Machine) -> None:
    fd = m.socket()
    m.ops.lingers = 2
    iocb = Kiocb()
    assert syscalls.sys_close(m.task, iocb, fd) == -EIOCBQUEUED
    assert m.socket() == fd
    assert syscalls.sys_close(m.task, iocb, fd) == -EIOCBQUEUED
    assert syscalls.sys_close(m.task, iocb, fd) == 0
    assert m.ops.released == 1


def test_what_an_ops_table_does_not_have_is_eopnotsupp(m: Machine) -> None:
    fd = m.socket()
    assert syscalls.sys_getsockopt(m.task, fd, 6, 1, 4) == (-EOPNOTSUPP, b"")
    assert syscalls.sys_setsockopt(m.task, fd, 6, 1, bytes(4)) == -EOPNOTSUPP
    assert syscalls.sys_socketpair(m.task, AF_TEST, SOCK_STREAM, 0) == (-EOPNOTSUPP, -1, -1)
    assert m.ops.released == 2
    assert syscalls.sys_socketpair(m.task, AF_TEST, SOCK_STREAM | 1 << 20, 0)[0] == -EINVAL
    assert syscalls.sys_ioctl(m.task, fd, 0x1234, b"")[0] in (-EINVAL, -ENOTTY)
    assert syscalls.sys_getsockopt(m.task, fd, SOL_SOCKET, SO_DOMAIN, 4) == (0, pack_s32(AF_TEST))
    base = ProtoOps(AF_TEST)
    sock = m.sock(fd)
    assert base.bind(sock, b"", None) == base.connect(sock, b"", 0, Kiocb()) == base.listen(sock, 1) == -EOPNOTSUPP
    assert base.accept(sock, sock, 0, Kiocb()) == base.shutdown(sock, 0) == -EOPNOTSUPP
    assert base.sendmsg(sock, MsgHdr(Kiocb()), 0) == base.recvmsg(sock, MsgHdr(Kiocb()), 0, 0) == -EOPNOTSUPP
    assert base.getname(sock, 0)[0] == -EOPNOTSUPP


def test_the_current_task_is_known_during_a_call_only(m: Machine) -> None:
    seen: list[Task | None] = []

    class Watch(SecurityHook):
        def socket_create(self, net: Net, family: int, type: int, protocol: int, kern: bool) -> int:
            seen.append(net.kernel.current)
            return 0

    security_add_hooks(m.kernel, Watch())
    m.socket()
    sock_create_kern(m.net, AF_TEST, SOCK_STREAM, 0)
    assert seen == [m.task, None]
    assert m.kernel.current is None


def test_unshare_moves_the_task_to_an_empty_namespace(m: Machine) -> None:
    assert syscalls.sys_unshare(m.task, 1) == -EINVAL
    assert syscalls.sys_unshare(m.new_task(1000), CLONE_NEWNET) == -EPERM
    assert syscalls.sys_unshare(m.task, CLONE_NEWNET) == 0
    assert m.task.net_ns is not m.net
    fd = m.socket()
    sk = m.sock(fd).sk
    assert sk is not None and sk.sk_net is m.task.net_ns


# -- security ------------------------------------------------------------------------------------------------------------


class Deny(SecurityHook):
    """Refuses what `verbs` names, and writes down what it was asked."""

    def __init__(self, *verbs: str) -> None:
        self.verbs = verbs
        self.log: list[str] = []

    def ask(self, verb: str) -> int:
        self.log.append(verb)
        return -EACCES if verb in self.verbs else 0

    def socket_create(self, net: Net, family: int, type: int, protocol: int, kern: bool) -> int:
        return self.ask("create")

    def socket_post_create(self, sock: Socket, family: int, type: int, protocol: int, kern: bool) -> int:
        assert sock.sk is not None
        return self.ask("post_create")

    def socket_bind(self, sock: Socket, address: bytes) -> int:
        return self.ask("bind")

    def socket_connect(self, sock: Socket, address: bytes) -> int:
        return self.ask("connect")

    def socket_listen(self, sock: Socket, backlog: int) -> int:
        return self.ask("listen")

    def socket_accept(self, sock: Socket, newsock: Socket) -> int:
        return self.ask("accept")

    def socket_sendmsg(self, sock: Socket, msg: MsgHdr, size: int) -> int:
        return self.ask("sendmsg")

    def socket_recvmsg(self, sock: Socket, msg: MsgHdr, size: int, flags: int) -> int:
        return self.ask("recvmsg")

    def socket_getsockname(self, sock: Socket) -> int:
        return self.ask("getsockname")

    def socket_getpeername(self, sock: Socket) -> int:
        return self.ask("getpeername")

    def socket_getsockopt(self, sock: Socket, level: int, optname: int) -> int:
        return self.ask("getsockopt")

    def socket_setsockopt(self, sock: Socket, level: int, optname: int) -> int:
        return self.ask("setsockopt")

    def socket_shutdown(self, sock: Socket, how: int) -> int:
        return self.ask("shutdown")


def every_call(m: Machine, fd: int) -> dict[str, int]:
    t = m.task
    return {
        "bind": syscalls.sys_bind(t, fd, b""),
        "connect": syscalls.sys_connect(t, Kiocb(), fd, b""),
        "listen": syscalls.sys_listen(t, fd, 1),
        "accept": syscalls.sys_accept4(t, Kiocb(), fd, 0)[0],
        "sendmsg": syscalls.sys_sendto(t, Kiocb(), fd, b"x", 0, b""),
        "recvmsg": syscalls.sys_recvfrom(t, Kiocb(), fd, 1, MSG_DONTWAIT)[0],
        "getsockname": syscalls.sys_getsockname(t, fd)[0],
        "getpeername": syscalls.sys_getpeername(t, fd)[0],
        "getsockopt": syscalls.sys_getsockopt(t, fd, SOL_SOCKET, 2, 4)[0],
        "setsockopt": syscalls.sys_setsockopt(t, fd, SOL_SOCKET, 2, bytes(4)),
        "shutdown": syscalls.sys_shutdown(t, fd, 0),
    }


def test_a_security_hook_is_asked_by_every_call_and_decides(m: Machine) -> None:
    fd = m.socket()
    watch = Deny()
    security_add_hooks(m.kernel, watch)
    answers = every_call(m, fd)
    assert all(answer >= 0 for answer in answers.values())
    assert watch.log == list(answers)
    for verb in answers:
        deny = Deny(verb)
        security_add_hooks(m.kernel, deny)
        refused = [v for v, answer in every_call(m, fd).items() if answer == -EACCES]
        assert refused == [verb]
        security_delete_hooks(m.kernel, deny)


def test_a_refused_creation_leaves_nothing_behind(m: Machine) -> None:
    before = Deny("create")
    security_add_hooks(m.kernel, before)
    assert m.socket() == -EACCES
    assert m.family.created == [] and m.ops.released == 0
    security_delete_hooks(m.kernel, before)
    security_add_hooks(m.kernel, Deny("post_create"))
    assert m.socket() == -EACCES
    assert m.ops.released == 1
    assert len(m.task.files.fd) == 3


def test_the_first_hook_that_objects_wins(m: Machine) -> None:
    first, second, third = Deny(), Deny("create"), Deny("create")
    for hook in (first, second, third):
        security_add_hooks(m.kernel, hook)
    assert m.socket() == -EACCES
    assert (first.log, second.log, third.log) == (["create"], ["create"], [])
    assert net_socket.NPROTO == AF_MAX
