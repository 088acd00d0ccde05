"""net/socket.c: sockets as files, the protocol families, and the system calls __sys_socket() to __sys_recvmsg().

Call order: __sys_socket -> sock_create -> __sock_create -> net_families[family].create -> sock_map_fd. Every other call finds
its struct socket through the descriptor (sockfd_lookup_light) and goes on through `sock.ops`.

A call that may wait takes its Kiocb and is called again with it while it answers -EIOCBQUEUED; meanwhile the Kiocb holds the
file. accept() makes its new socket only when a connection is there, so its descriptor and inode number are drawn then; Linux
reserves both before it waits.

Left out: SIGIO (fasync), compat layouts, SO_ATTACH_BPF programs, io_uring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import i16, i32, mypyc_attr
from afinet.fs.file import (
    File,
    close_fd_get_file,
    fd_install,
    fdget,
    fput_light,
    fput_nowait,
    get_unused_fd_flags,
    has_unused_fd,
)
from afinet.fs.pipe import PipeBuffer, PipeInodeInfo, buf_take
from afinet.kernel.page import PAGE_SIZE
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT, NSEC_PER_SEC, NSEC_PER_USEC
from afinet.kernel.wait import Kiocb, KiocbVec, Piece, WaitQueueHead
from afinet.net.core import dev_ioctl, sockopt, timestamping
from afinet.net.core.scm import put_cmsg
from afinet.net.core.sock import (
    SOCK_RCVMARK,
    SOCK_RCVPRIORITY,
    SOCK_RCVTSTAMP,
    SOCK_RXQ_OVFL,
    SOCK_TIMESTAMP,
    SOCK_TIMESTAMPING_ANY,
    sk_sleep,
    sock_error,
    sock_intr_errno,
    sock_rcvtimeo,
    sock_set_flag,
    sock_sndtimeo,
)
from afinet.security.security import (
    security_socket_accept,
    security_socket_bind,
    security_socket_connect,
    security_socket_create,
    security_socket_getpeername,
    security_socket_getsockname,
    security_socket_getsockopt,
    security_socket_listen,
    security_socket_post_create,
    security_socket_recvmsg,
    security_socket_sendmsg,
    security_socket_setsockopt,
    security_socket_shutdown,
    security_socket_socketpair,
)
from afinet.uapi.errno import (
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
    ENOENT,
    ENOIOCTLCMD,
    ENOTSOCK,
    ENOTTY,
    EOPNOTSUPP,
    ERESTARTSYS,
)
from afinet.uapi.eventpoll import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM
from afinet.uapi.fcntl import O_CLOEXEC, O_NONBLOCK, O_RDWR, SPLICE_F_MORE
from afinet.uapi.sockaddr import SIZEOF_SOCKADDR_STORAGE, pack_timespec, pack_timeval, pack_u32
from afinet.uapi.socket import (
    AF_INET,
    AF_MAX,
    AF_PACKET,
    MSG_CMSG_CLOEXEC,
    MSG_CMSG_COMPAT,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_SENDPAGE_NOTLAST,
    MSG_SPLICE_PAGES,
    MSG_WAITFORONE,
    SO_MARK,
    SO_PRIORITY,
    SO_RXQ_OVFL,
    SOCK_CLOEXEC,
    SOCK_MAX,
    SOCK_NONBLOCK,
    SOCK_PACKET,
    SOCK_TYPE_MASK,
    SOL_SOCKET,
    SS_UNCONNECTED,
)
from afinet.uapi.sockios import SIOCGSTAMP, SIOCGSTAMP_NEW, SIOCGSTAMPNS, SIOCGSTAMPNS_NEW

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.kernel.task import Task
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Sock

NPROTO: Final = AF_MAX

UIO_MAXIOV: Final = 1024  # messages of one sendmmsg
MAX_SPLICE_BUFS: Final = 16  # buffers of a pipe that one send takes

# what user space may not say in send flags
MSG_INTERNAL_SENDMSG_FLAGS: Final = MSG_SPLICE_PAGES | MSG_SENDPAGE_NOTLAST


class MsgHdr:
    """struct msghdr, as the kernel side sees it, with the call's own record.

    Sending: `msg_data` is what is sent, `iocb.ki_done` says how much of it is. Receiving: the operation appends to `pieces`
    (whole buffers, shared), and sets `msg_name`, `msg_control`, `msg_flags`.
    """

    __slots__ = ("iocb", "msg_control", "msg_controllen", "msg_data", "msg_flags", "msg_name", "pieces", "task")

    def __init__(self, iocb: Kiocb, data: bytes = b"", name: bytes = b"", control: bytes = b"", flags: int = 0) -> None:
        self.iocb: Kiocb = iocb
        self.msg_data: bytes = data
        self.msg_name: bytes = name  # a packed sockaddr, b"" for none
        self.msg_control: bytes = control  # packed control messages
        self.msg_flags: int = flags
        self.msg_controllen: int = 0  # receiving: room left for control messages (net/core/scm.py fills it)
        self.pieces: list[Piece] = []
        self.task: Task | None = None  # who calls: credentials for what needs them


@mypyc_attr(allow_interpreted_subclasses=True)
class ProtoOps:
    """struct proto_ops: how a family's socket type answers the system calls. Defaults are the sock_no_* functions."""

    def __init__(self, family: int) -> None:
        self.family: int = family

    def release(self, sock: Socket, iocb: Kiocb) -> int:
        """The last file of the socket is closed. May answer -EIOCBQUEUED (SO_LINGER), else 0."""
        return 0

    def bind(self, sock: Socket, uaddr: bytes, task: Task | None) -> int:
        return -EOPNOTSUPP

    def connect(self, sock: Socket, uaddr: bytes, flags: int, iocb: Kiocb) -> int:
        """`flags` are the file's (O_NONBLOCK)."""
        return -EOPNOTSUPP

    def socketpair(self, sock1: Socket, sock2: Socket) -> int:
        return -EOPNOTSUPP

    def accept(self, sock: Socket, newsock: Socket, flags: int, iocb: Kiocb) -> int:
        return -EOPNOTSUPP

    def getname(self, sock: Socket, peer: int) -> tuple[int, bytes]:
        """(0 or -errno, packed sockaddr); `peer` is 0 for the own, 1 for the peer's address."""
        return -EOPNOTSUPP, b""

    def poll(self, file: File | None, sock: Socket) -> int:
        """The poll mask now. Who waits registers on the sock's wait queue first."""
        return 0

    def ioctl(self, sock: Socket, cmd: int, arg: bytes) -> tuple[int, bytes]:
        return -EINVAL, b""

    def listen(self, sock: Socket, backlog: int) -> int:
        return -EOPNOTSUPP

    def shutdown(self, sock: Socket, how: int) -> int:
        """`how` is SHUT_RD, SHUT_WR or SHUT_RDWR."""
        return -EOPNOTSUPP

    def setsockopt(self, sock: Socket, level: int, optname: int, optval: bytes) -> int:
        return -EOPNOTSUPP

    def getsockopt(self, sock: Socket, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        return -EOPNOTSUPP, b""

    def sendmsg(self, sock: Socket, msg: MsgHdr, size: int) -> int:
        return -EOPNOTSUPP

    def recvmsg(self, sock: Socket, msg: MsgHdr, size: int, flags: int) -> int:
        return -EOPNOTSUPP

    def splice_eof(self, sock: Socket) -> None:
        """What MSG_MORE holds back may go: nothing follows."""

    def set_peek_off(self, sk: Sock, val: int) -> int:
        return -EOPNOTSUPP

    def has_set_peek_off(self) -> bool:
        """Whether set_peek_off is there: SO_PEEK_OFF can then be read, too."""
        return False

    def set_rcvlowat(self, sk: Sock, val: int) -> int:
        """0, or -errno; the default stores the value."""
        sk.sk_rcvlowat = val or 1
        return 0


class Socket:
    """struct socket: what a process holds. `sk` is the protocol's side, which has the wait queue, too (`sk_wq`)."""

    __slots__ = ("flags", "gid", "ino", "kernel", "ops", "sk", "state", "type", "uid")

    def __init__(self, kernel: Kernel, ino: int, uid: int, gid: int) -> None:
        self.kernel: Kernel = kernel
        self.state: i16 = SS_UNCONNECTED
        self.type: i16 = 0
        self.flags: i32 = 0  # SOCK_ASYNC_NOSPACE and the like
        self.sk: Sock | None = None
        self.ops: ProtoOps | None = None
        self.ino: int = ino
        self.uid: int = uid
        self.gid: int = gid


@mypyc_attr(allow_interpreted_subclasses=True)
class NetProtoFamily:
    """struct net_proto_family."""

    def __init__(self, family: int) -> None:
        self.family: int = family

    def create(self, net: Net, sock: Socket, protocol: int, kern: bool, task: Task | None) -> int:
        """Make `sock` one of this family: set its ops and its sock. 0 or -errno. `task` is None for the kernel's own."""
        return -EOPNOTSUPP


class SocketFile(File):
    """socket_file_ops: a socket behind a descriptor."""

    __slots__ = ("sock",)

    def __init__(self, sock: Socket, flags: int) -> None:
        super().__init__(O_RDWR | flags & O_NONBLOCK)
        self.sock: Socket = sock

    def read(self, iocb: Kiocb, count: int) -> tuple[int, list[Piece]]:
        return sock_read_iter(self, iocb, count)

    def write(self, iocb: Kiocb, data: bytes) -> int:
        return sock_write_iter(self, iocb, data)

    def poll(self, queues: list[tuple[WaitQueueHead, int]] | None) -> int:
        return sock_poll(self, queues)

    def splice_read(self, iocb: Kiocb, pipe: PipeInodeInfo, pos: int, count: int, flags: int) -> int:
        return sock_splice_read(self, iocb, pipe, count)

    def can_splice_write(self) -> bool:
        return True

    def splice_write(self, iocb: Kiocb, pipe: PipeInodeInfo, pos: int, count: int, flags: int) -> int:
        return splice_to_socket(self, iocb, pipe, count, flags)

    def splice_eof(self) -> None:
        ops = self.sock.ops
        if ops is not None:
            ops.splice_eof(self.sock)

    def ioctl(self, task: Task, cmd: int, arg: bytes) -> tuple[int, bytes]:
        return sock_ioctl(self, task, cmd, arg)

    def release(self, iocb: Kiocb) -> int:
        return sock_close(self.sock, iocb)


# -- families --------------------------------------------------------------------------------------------------------------


def sock_init(kernel: Kernel) -> int:
    """Room for NPROTO families, none of which is there yet."""
    kernel.net_families.extend([None] * (NPROTO - len(kernel.net_families)))
    return 0


def sock_register(kernel: Kernel, ops: NetProtoFamily) -> int:
    """0, -ENOBUFS for a family out of range, -EEXIST for one that is taken."""
    if ops.family >= NPROTO:
        return -ENOBUFS
    if kernel.net_families[ops.family] is not None:
        return -EEXIST
    kernel.net_families[ops.family] = ops
    return 0


def sock_unregister(kernel: Kernel, family: int) -> None:
    if 0 <= family < NPROTO:
        kernel.net_families[family] = None


# -- making ----------------------------------------------------------------------------------------------------------------


def sock_alloc(kernel: Kernel, task: Task | None) -> Socket:
    """A struct socket with an inode number, owned by whoever asks."""
    if task is None:
        return Socket(kernel, kernel.new_inode(), 0, 0)
    return Socket(kernel, kernel.new_inode(), task.cred.uid, task.cred.gid)


def __sock_create(
    net: Net, family: int, type: int, protocol: int, kern: bool, task: Task | None
) -> tuple[int, Socket | None]:
    """(0, socket) or (-errno, None)."""
    if family < 0 or family >= NPROTO:
        return -EAFNOSUPPORT, None
    if type < 0 or type >= SOCK_MAX:
        return -EINVAL, None
    # Programs of the 1990s opened packet sockets as a type of AF_INET.
    if family == AF_INET and type == SOCK_PACKET:
        family = AF_PACKET
    err = security_socket_create(net, family, type, protocol, kern)
    if err:
        return err, None
    sock = sock_alloc(net.kernel, task)
    sock.type = type
    pf = net.kernel.net_families[family]
    if pf is None:
        return -EAFNOSUPPORT, None
    err = pf.create(net, sock, protocol, kern, task)
    if err < 0:
        return err, None
    err = security_socket_post_create(sock, family, type, protocol, kern)
    if err:
        sock_release(sock)
        return err, None
    return 0, sock


def sock_create(task: Task, family: int, type: int, protocol: int) -> tuple[int, Socket | None]:
    """In the namespace of `task`, on its behalf."""
    return __sock_create(task.net_ns, family, type, protocol, False, task)


def sock_create_kern(net: Net, family: int, type: int, protocol: int) -> tuple[int, Socket | None]:
    """A sock of the kernel's own: no permission is asked, and the namespace is not held."""
    return __sock_create(net, family, type, protocol, True, None)


def sock_alloc_file(sock: Socket, flags: int) -> SocketFile:
    return SocketFile(sock, flags)


def sock_map_fd(task: Task, sock: Socket, flags: int) -> int:
    """Give the socket a file and the file the lowest free descriptor. -EMFILE ends the socket."""
    fd = get_unused_fd_flags(task, flags)
    if fd < 0:
        sock_release(sock)
        return fd
    fd_install(task.files, fd, sock_alloc_file(sock, flags), flags & O_CLOEXEC != 0)
    return fd


def __sock_release(sock: Socket, iocb: Kiocb) -> int:
    ops = sock.ops
    if ops is not None:
        if ops.release(sock, iocb) == -EIOCBQUEUED:
            return -EIOCBQUEUED
        sock.sk = None
        sock.ops = None
    return 0


def sock_release(sock: Socket) -> None:
    """End a socket that has no file, without waiting."""
    iocb = Kiocb()
    iocb.ki_signal = True
    __sock_release(sock, iocb)


def sock_close(sock: Socket, iocb: Kiocb) -> int:
    return __sock_release(sock, iocb)


# -- from descriptor to socket ---------------------------------------------------------------------------------------------


def sock_from_file(file: File) -> Socket | None:
    return file.sock if isinstance(file, SocketFile) else None


def sockfd_lookup_light(task: Task, fd: int) -> tuple[int, Socket | None]:
    """(0, socket), -EBADF or -ENOTSOCK."""
    file = fdget(task.files, fd)
    if file is None:
        return -EBADF, None
    if isinstance(file, SocketFile):
        return 0, file.sock
    return -ENOTSOCK, None


def sockfd_lookup_iocb(task: Task, iocb: Kiocb, fd: int) -> tuple[int, SocketFile | None]:
    """For a call that may wait: the file it holds since it waits, else the one behind `fd`."""
    file = iocb.ki_filp
    if file is None:
        file = fdget(task.files, fd)
        if file is None:
            return -EBADF, None
    if isinstance(file, SocketFile):
        return 0, file
    return -ENOTSOCK, None


def move_addr_to_kernel(uaddr: bytes) -> int:
    """Whether an address fits struct sockaddr_storage."""
    return -EINVAL if len(uaddr) > SIZEOF_SOCKADDR_STORAGE else 0


# -- system calls ----------------------------------------------------------------------------------------------------------


def __sys_socket(task: Task, family: int, type: int, protocol: int) -> int:
    """A descriptor or -errno."""
    flags = type & ~SOCK_TYPE_MASK
    if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        return -EINVAL
    err, sock = sock_create(task, family, type & SOCK_TYPE_MASK, protocol)
    if sock is None:
        return err
    return sock_map_fd(task, sock, flags)  # SOCK_CLOEXEC and SOCK_NONBLOCK are O_CLOEXEC and O_NONBLOCK


def __sys_socketpair(task: Task, family: int, type: int, protocol: int) -> tuple[int, int, int]:
    """(0, fd, fd) or (-errno, -1, -1)."""
    flags = type & ~SOCK_TYPE_MASK
    if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        return -EINVAL, -1, -1
    type &= SOCK_TYPE_MASK
    if not has_unused_fd(task.files, task.rlimit_nofile):
        return -EMFILE, -1, -1
    err, sock1 = sock_create(task, family, type, protocol)
    if sock1 is None:
        return err, -1, -1
    err, sock2 = sock_create(task, family, type, protocol)
    if sock2 is None:
        sock_release(sock1)
        return err, -1, -1
    err = security_socket_socketpair(sock1, sock2)
    if err == 0:
        assert sock1.ops is not None
        err = sock1.ops.socketpair(sock1, sock2)
    if err < 0:
        sock_release(sock2)
        sock_release(sock1)
        return err, -1, -1
    fd1 = sock_map_fd(task, sock1, flags)
    if fd1 < 0:
        sock_release(sock2)
        return fd1, -1, -1
    fd2 = sock_map_fd(task, sock2, flags)
    if fd2 < 0:
        file = close_fd_get_file(task.files, fd1)
        if file is not None:
            fput_nowait(file)
        return fd2, -1, -1
    return 0, fd1, fd2


def __sys_bind(task: Task, fd: int, uaddr: bytes) -> int:
    err, sock = sockfd_lookup_light(task, fd)
    if sock is None:
        return err
    err = move_addr_to_kernel(uaddr)
    if err:
        return err
    err = security_socket_bind(sock, uaddr)
    if err:
        return err
    assert sock.ops is not None
    return sock.ops.bind(sock, uaddr, task)


def __sys_connect(task: Task, iocb: Kiocb, fd: int, uaddr: bytes) -> int:
    err, file = sockfd_lookup_iocb(task, iocb, fd)
    if file is None:
        return err
    return fput_light(iocb, file, __sys_connect_file(file, uaddr, iocb))


def __sys_connect_file(file: SocketFile, uaddr: bytes, iocb: Kiocb) -> int:
    sock = file.sock
    if iocb.ki_state == 0:
        err = move_addr_to_kernel(uaddr)
        if err:
            return err
        err = security_socket_connect(sock, uaddr)
        if err:
            return err
    assert sock.ops is not None
    return sock.ops.connect(sock, uaddr, file.f_flags, iocb)


def __sys_listen(task: Task, fd: int, backlog: int) -> int:
    err, sock = sockfd_lookup_light(task, fd)
    if sock is None:
        return err
    return __sys_listen_socket(sock, backlog)


def __sys_listen_socket(sock: Socket, backlog: int) -> int:
    """The backlog is unsigned here: -1 asks for all that net.core.somaxconn gives."""
    assert sock.sk is not None and sock.ops is not None
    somaxconn = sock.sk.sk_net.core.sysctl_somaxconn
    if backlog < 0 or backlog > somaxconn:
        backlog = somaxconn
    err = security_socket_listen(sock, backlog)
    if err:
        return err
    return sock.ops.listen(sock, backlog)


def __sys_accept4(task: Task, iocb: Kiocb, fd: int, flags: int) -> tuple[int, bytes]:
    """(descriptor or -errno, the peer's address)."""
    err, file = sockfd_lookup_iocb(task, iocb, fd)
    if file is None:
        return err, b""
    if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        return fput_light(iocb, file, -EINVAL), b""
    if not has_unused_fd(task.files, task.rlimit_nofile):
        return fput_light(iocb, file, -EMFILE), b""
    newfd, addr = do_accept(task, file, flags, iocb)
    return fput_light(iocb, file, newfd), addr


def do_accept(task: Task, file: SocketFile, flags: int, iocb: Kiocb) -> tuple[int, bytes]:
    sock = file.sock
    ops = sock.ops
    assert ops is not None
    newsock = Socket(sock.kernel, 0, task.cred.uid, task.cred.gid)
    newsock.type = sock.type
    newsock.ops = ops
    err = security_socket_accept(sock, newsock)
    if err:
        return err, b""
    err = ops.accept(sock, newsock, file.f_flags, iocb)
    if err < 0:
        return err, b""
    newsock.ino = sock.kernel.new_inode()
    # 2: the peer's address even if the connection is closed already
    err, addr = ops.getname(newsock, 2)
    if err < 0:
        sock_release(newsock)
        return -ECONNABORTED, b""
    return sock_map_fd(task, newsock, flags), addr


def __sys_getsockname(task: Task, fd: int) -> tuple[int, bytes]:
    err, sock = sockfd_lookup_light(task, fd)
    if sock is None:
        return err, b""
    err = security_socket_getsockname(sock)
    if err:
        return err, b""
    assert sock.ops is not None
    return sock.ops.getname(sock, 0)


def __sys_getpeername(task: Task, fd: int) -> tuple[int, bytes]:
    err, sock = sockfd_lookup_light(task, fd)
    if sock is None:
        return err, b""
    err = security_socket_getpeername(sock)
    if err:
        return err, b""
    assert sock.ops is not None
    return sock.ops.getname(sock, 1)


def __sys_shutdown(task: Task, fd: int, how: int) -> int:
    err, sock = sockfd_lookup_light(task, fd)
    if sock is None:
        return err
    err = security_socket_shutdown(sock, how)
    if err:
        return err
    assert sock.ops is not None
    return sock.ops.shutdown(sock, how)


# -- sending and receiving -------------------------------------------------------------------------------------------------


def __sock_sendmsg(sock: Socket, msg: MsgHdr) -> int:
    size = len(msg.msg_data)
    err = security_socket_sendmsg(sock, msg, size) if sock.kernel.security_hooks else 0
    if err:
        return err
    assert sock.ops is not None
    return sock.ops.sendmsg(sock, msg, size)


def sock_sendmsg(sock: Socket, msg: MsgHdr) -> int:
    """Send `msg.msg_data`. The number of bytes taken, or -errno. An address longer than sockaddr_storage is refused."""
    if len(msg.msg_name) > SIZEOF_SOCKADDR_STORAGE:
        return -EINVAL
    return __sock_sendmsg(sock, msg)


def sock_recvmsg(sock: Socket, msg: MsgHdr, size: int, flags: int) -> int:
    """Receive up to `size` bytes into `msg.pieces`. How many, or -errno."""
    err = security_socket_recvmsg(sock, msg, size, flags) if sock.kernel.security_hooks else 0
    if err:
        return err
    iocb = msg.iocb
    if iocb.ki_pieces is not None:
        msg.pieces = iocb.ki_pieces  # what earlier tries of this call gathered
    assert sock.ops is not None
    n = sock.ops.recvmsg(sock, msg, size, flags)
    if n == -EIOCBQUEUED and iocb.ki_pieces is None:
        iocb.ki_pieces = msg.pieces
    return n


def __sys_sendto(task: Task, iocb: Kiocb, fd: int, data: bytes, flags: int, addr: bytes) -> int:
    """The number of bytes taken, or -errno."""
    err, file = sockfd_lookup_iocb(task, iocb, fd)
    if file is None:
        return err
    if len(addr) > SIZEOF_SOCKADDR_STORAGE:
        return -EINVAL
    return fput_light(iocb, file, ____sys_sendmsg(task, iocb, file, data, b"", flags, addr))


def __sys_sendmsg(task: Task, iocb: Kiocb, fd: int, data: bytes, control: bytes, flags: int, addr: bytes) -> int:
    """As __sys_sendto, with control messages. An overlong address is cut, as copy_msghdr_from_user does."""
    if flags & MSG_CMSG_COMPAT:
        return -EINVAL
    err, file = sockfd_lookup_iocb(task, iocb, fd)
    if file is None:
        return err
    return fput_light(iocb, file, ____sys_sendmsg(task, iocb, file, data, control, flags, addr))


def ____sys_sendmsg(
    task: Task, iocb: Kiocb, file: SocketFile, data: bytes, control: bytes, flags: int, addr: bytes
) -> int:
    flags &= ~MSG_INTERNAL_SENDMSG_FLAGS
    if file.f_flags & O_NONBLOCK:
        flags |= MSG_DONTWAIT
    if len(addr) > SIZEOF_SOCKADDR_STORAGE:
        addr = addr[:SIZEOF_SOCKADDR_STORAGE]
    msg = MsgHdr(iocb, data, addr, control, flags)
    msg.task = task
    return __sock_sendmsg(file.sock, msg)


def __sys_sendmmsg(
    task: Task, iocb: KiocbVec, fd: int, messages: list[tuple[bytes, bytes, bytes]], flags: int
) -> tuple[int, list[int]]:
    """Send (data, control, address) of each. (how many, the bytes taken of each), or -errno if not even the first was sent: what
    stopped a later one is told by the next call."""
    if flags & MSG_CMSG_COMPAT:
        return -EINVAL, []
    err, file = sockfd_lookup_iocb(task, iocb, fd)
    if file is None:
        return err, []
    sent = iocb.kv_sent
    vlen = min(len(messages), UIO_MAXIOV)
    while len(sent) < vlen:
        data, control, addr = messages[len(sent)]
        err = ____sys_sendmsg(task, iocb, file, data, control, flags, addr)
        if err < 0:
            break
        sent.append(err)
        iocb.next_message()
        if err < len(data):
            break  # a stream took a part
    if err != -EIOCBQUEUED and sent:
        err = len(sent)
    return fput_light(iocb, file, err), sent


def __sys_recvfrom(task: Task, iocb: Kiocb, fd: int, size: int, flags: int) -> tuple[int, list[Piece], bytes]:
    """(number of bytes or -errno, the bytes in pieces, the sender's address or b"")."""
    err, file = sockfd_lookup_iocb(task, iocb, fd)
    if file is None:
        return err, [], b""
    if file.f_flags & O_NONBLOCK:
        flags |= MSG_DONTWAIT
    msg = MsgHdr(iocb)
    msg.task = task
    n = fput_light(iocb, file, sock_recvmsg(file.sock, msg, size, flags))
    if n < 0:
        return n, [], b""
    return n, msg.pieces, msg.msg_name


def __sys_recvmsg(
    task: Task, iocb: Kiocb, fd: int, size: int, controllen: int, flags: int
) -> tuple[int, list[Piece], bytes, int, bytes]:
    """(number or -errno, pieces, control messages, msg_flags, the sender's address). `controllen` is the room for control."""
    if flags & MSG_CMSG_COMPAT:
        return -EINVAL, [], b"", 0, b""
    err, file = sockfd_lookup_iocb(task, iocb, fd)
    if file is None:
        return err, [], b"", 0, b""
    answer = ____sys_recvmsg(task, iocb, file, size, controllen, flags)
    fput_light(iocb, file, answer[0])
    return answer


def ____sys_recvmsg(
    task: Task, iocb: Kiocb, file: SocketFile, size: int, controllen: int, flags: int
) -> tuple[int, list[Piece], bytes, int, bytes]:
    msg = MsgHdr(iocb)
    msg.msg_controllen = controllen
    msg.msg_flags = flags & MSG_CMSG_CLOEXEC
    msg.task = task
    if file.f_flags & O_NONBLOCK:
        flags |= MSG_DONTWAIT
    n = sock_recvmsg(file.sock, msg, size, flags)
    if n < 0:
        return n, [], b"", 0, b""
    return n, msg.pieces, msg.msg_control, msg.msg_flags, msg.msg_name


def __sys_recvmmsg(
    task: Task, iocb: KiocbVec, fd: int, vec: list[tuple[int, int]], flags: int, timeout: int
) -> tuple[int, int]:
    """Receive a message for each (size, room for control) of `vec` into `iocb.kv_received`. (how many or -errno, what is left of
    `timeout`, in ns; -1 for none). The time is looked at when a message came, never while waiting for one: as in Linux, where that
    is a known bug. An error behind the first message becomes the sock's, for the next call."""
    if flags & MSG_CMSG_COMPAT:
        return -EINVAL, timeout
    err, file = sockfd_lookup_iocb(task, iocb, fd)
    if file is None:
        return err, timeout
    kernel = task.kernel
    received = iocb.kv_received
    sk = file.sock.sk
    assert sk is not None
    if iocb.kv_end < 0:  # the first try
        iocb.kv_end = kernel.now + timeout if timeout >= 0 else MAX_SCHEDULE_TIMEOUT
        err = sock_error(sk) if not flags & MSG_ERRQUEUE else 0
        if err:
            return err, timeout
    while len(received) < len(vec):
        size, controllen = vec[len(received)]
        one = flags & ~MSG_WAITFORONE
        if received and flags & MSG_WAITFORONE:
            one |= MSG_DONTWAIT
        answer = ____sys_recvmsg(task, iocb, file, size, controllen, one)
        err = answer[0]
        if err < 0:
            break
        err = 0
        received.append(answer)
        iocb.next_message()
        if kernel.now >= iocb.kv_end or answer[3] & MSG_OOB:
            break
    if err == -EIOCBQUEUED:
        return fput_light(iocb, file, err), timeout
    if received:
        if err not in (0, -EAGAIN, -EINTR, -ERESTARTSYS):
            sk.sk_err = -err
        err = len(received)
        if timeout >= 0:
            timeout = max(iocb.kv_end - kernel.now, 0)
    return fput_light(iocb, file, err), timeout


def sock_read_iter(file: SocketFile, iocb: Kiocb, count: int) -> tuple[int, list[Piece]]:
    """read(2). A read of nothing is 0 without a look at the socket, unlike recv(2)."""
    if count == 0:
        return 0, []
    msg = MsgHdr(iocb)
    msg.task = file.sock.kernel.current
    n = sock_recvmsg(file.sock, msg, count, MSG_DONTWAIT if file.f_flags & O_NONBLOCK else 0)
    return n, msg.pieces if n >= 0 else []


def sock_write_iter(file: SocketFile, iocb: Kiocb, data: bytes) -> int:
    """write(2)."""
    msg = MsgHdr(iocb, data, b"", b"", MSG_DONTWAIT if file.f_flags & O_NONBLOCK else 0)
    msg.task = file.sock.kernel.current
    return __sock_sendmsg(file.sock, msg)


def sock_poll(file: SocketFile, queues: list[tuple[WaitQueueHead, int]] | None) -> int:
    sock = file.sock
    ops = sock.ops
    if ops is None or sock.sk is None:
        return 0
    if queues is not None:
        queues.append((sk_sleep(sock.sk), 0))
    return ops.poll(file, sock)


# -- splicing --------------------------------------------------------------------------------------------------------------
#
# Neither direction ever waits inside the protocol: bytes are in the pipe or in the sock, never on their way, so that a wait is for
# readiness alone.


def sock_splice_read(file: SocketFile, iocb: Kiocb, pipe: PipeInodeInfo, count: int) -> int:
    """One receive of up to `count` bytes into the free buffers of `pipe`. SO_RCVLOWAT does not matter to a splice."""
    sk = file.sock.sk
    assert sk is not None
    msg = MsgHdr(Kiocb())
    msg.task = sk.kernel.current
    n = sock_recvmsg(file.sock, msg, count, MSG_DONTWAIT)
    if n == -EAGAIN:
        return sock_splice_wait(file, iocb, sock_rcvtimeo(sk, iocb, file.f_flags & O_NONBLOCK != 0), EPOLLIN | EPOLLRDNORM)
    if n > 0:
        first = msg.pieces[0] if msg.pieces else b""
        data = first if len(msg.pieces) == 1 and isinstance(first, bytes) else b"".join(msg.pieces)
        for at in range(0, len(data), PAGE_SIZE):
            page = data[at : at + PAGE_SIZE]
            pipe.bufs.append(PipeBuffer(page, 0, len(page), 0))
    return n


def splice_to_socket(file: SocketFile, iocb: Kiocb, pipe: PipeInodeInfo, count: int, flags: int) -> int:
    """One send of what is in `pipe`, up to `count` bytes. It says MSG_MORE if it takes as many buffers as a send takes and less
    than was asked for: in Linux even where nothing more is there."""
    sk = file.sock.sk
    assert sk is not None
    pieces: list[bytes] = []
    size = 0
    for buf in pipe.bufs:
        if size == count or len(pieces) == MAX_SPLICE_BUFS:
            break
        chars = min(buf.len, count - size)
        pieces.append(buf.page[buf.offset : buf.offset + chars])
        size += chars
    more = flags & SPLICE_F_MORE or (size < count and len(pieces) == MAX_SPLICE_BUFS)
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    msg = MsgHdr(Kiocb(), data, b"", b"", MSG_DONTWAIT | (MSG_MORE if more else 0))
    msg.task = sk.kernel.current
    n = __sock_sendmsg(file.sock, msg)
    if n == -EAGAIN:
        return sock_splice_wait(file, iocb, sock_sndtimeo(sk, iocb, file.f_flags & O_NONBLOCK != 0), EPOLLOUT | EPOLLWRNORM)
    left = n
    while left > 0:
        buf = pipe.bufs[0]
        chars = min(buf.len, left)
        buf_take(buf, chars)
        left -= chars
        if not buf.len:
            pipe.bufs.popleft()
    return n


def sock_splice_wait(file: SocketFile, iocb: Kiocb, timeo: int, events: int) -> int:
    """Wait for `events`: -EIOCBQUEUED, or why not."""
    if timeo == 0:
        return -EAGAIN
    if iocb.ki_signal:
        return sock_intr_errno(timeo)
    queues: list[tuple[WaitQueueHead, int]] = []
    sock_poll(file, queues)
    return iocb.wait_poll([(wq, events | EPOLLERR | EPOLLHUP) for wq, _ in queues])


# -- what received packets carry beside data -------------------------------------------------------------------------------


FLAGS_RECV_CMSGS: Final = (
    1 << SOCK_RXQ_OVFL | 1 << SOCK_RCVTSTAMP | 1 << SOCK_RCVMARK | 1 << SOCK_RCVPRIORITY | 1 << SOCK_TIMESTAMPING_ANY
)


def sock_recv_cmsgs(msg: MsgHdr, sk: Sock, skb: SkBuff) -> None:
    """The socket level's control messages of a datagram."""
    flags = sk.sk_flags
    if flags & FLAGS_RECV_CMSGS:
        timestamping.sock_recv_timestamp(msg, sk, skb)
        if flags >> SOCK_RXQ_OVFL & 1 and skb.dropcount:
            put_cmsg(msg, SOL_SOCKET, SO_RXQ_OVFL, pack_u32(skb.dropcount))
        if flags >> SOCK_RCVMARK & 1:
            put_cmsg(msg, SOL_SOCKET, SO_MARK, pack_u32(skb.mark))
        if flags >> SOCK_RCVPRIORITY & 1:
            put_cmsg(msg, SOL_SOCKET, SO_PRIORITY, pack_u32(skb.priority))
    elif flags >> SOCK_TIMESTAMP & 1:
        sk.sk_stamp = skb.tstamp
    elif sk.sk_stamp == -1:
        sk.sk_stamp = 0


# -- options and ioctl -----------------------------------------------------------------------------------------------------


def __sys_setsockopt(task: Task, fd: int, level: int, optname: int, optval: bytes) -> int:
    err, sock = sockfd_lookup_light(task, fd)
    if sock is None:
        return err
    return do_sock_setsockopt(sock, level, optname, optval)


def do_sock_setsockopt(sock: Socket, level: int, optname: int, optval: bytes) -> int:
    err = security_socket_setsockopt(sock, level, optname)
    if err:
        return err
    if level == SOL_SOCKET:
        return sockopt.sock_setsockopt(sock, level, optname, optval)
    assert sock.ops is not None
    return sock.ops.setsockopt(sock, level, optname, optval)


def __sys_getsockopt(task: Task, fd: int, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
    """(0, value) or (-errno, b"")."""
    err, sock = sockfd_lookup_light(task, fd)
    if sock is None:
        return err, b""
    return do_sock_getsockopt(sock, level, optname, optlen)


def do_sock_getsockopt(sock: Socket, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
    err = security_socket_getsockopt(sock, level, optname)
    if err:
        return err, b""
    if level == SOL_SOCKET:
        return sockopt.sock_getsockopt(sock, level, optname, optlen)
    assert sock.ops is not None
    return sock.ops.getsockopt(sock, level, optname, optlen)


def sock_ioctl(file: SocketFile, task: Task, cmd: int, arg: bytes) -> tuple[int, bytes]:
    """What every socket knows, then the family's ioctls, then the devices'."""
    sock = file.sock
    sk = sock.sk
    ops = sock.ops
    if sk is None or ops is None:
        return -ENOTTY, b""
    if cmd == SIOCGSTAMP or cmd == SIOCGSTAMPNS or cmd == SIOCGSTAMP_NEW or cmd == SIOCGSTAMPNS_NEW:
        return sock_gettstamp(sk, cmd == SIOCGSTAMP or cmd == SIOCGSTAMP_NEW)
    err, out = ops.ioctl(sock, cmd, arg)
    if err == -ENOIOCTLCMD:
        err, out = dev_ioctl.dev_ioctl(sk.sk_net, cmd, arg)
    return (-ENOTTY if err == -ENOIOCTLCMD else err), out


def sock_gettstamp(sk: Sock, timeval: bool) -> tuple[int, bytes]:
    """When the last packet handed to the program came in: (0, timeval or timespec), or -ENOENT before the first."""
    sock_set_flag(sk, SOCK_TIMESTAMP)
    stamp = sk.sk_stamp
    if stamp < 0:
        return -ENOENT, b""
    if stamp == 0:  # it came before anybody asked for stamps
        stamp = sk.kernel.ktime_get_real()
        sk.sk_stamp = stamp
    sec, nsec = divmod(stamp, NSEC_PER_SEC)
    return 0, pack_timeval(sec, nsec // NSEC_PER_USEC) if timeval else pack_timespec(sec, nsec)


# -- for the kernel's own use ----------------------------------------------------------------------------------------------


def kernel_bind(sock: Socket, uaddr: bytes) -> int:
    assert sock.ops is not None
    return sock.ops.bind(sock, uaddr, None)


def kernel_listen(sock: Socket, backlog: int) -> int:
    assert sock.ops is not None
    return sock.ops.listen(sock, backlog)


def kernel_connect(sock: Socket, uaddr: bytes, flags: int, iocb: Kiocb) -> int:
    assert sock.ops is not None
    return sock.ops.connect(sock, uaddr, flags, iocb)


def kernel_accept(sock: Socket, flags: int, iocb: Kiocb) -> tuple[int, Socket | None]:
    ops = sock.ops
    assert ops is not None
    newsock = Socket(sock.kernel, 0, sock.uid, sock.gid)
    newsock.type = sock.type
    newsock.ops = ops
    err = ops.accept(sock, newsock, flags, iocb)
    if err < 0:
        return err, None
    newsock.ino = sock.kernel.new_inode()
    return 0, newsock


def kernel_getsockname(sock: Socket) -> tuple[int, bytes]:
    assert sock.ops is not None
    return sock.ops.getname(sock, 0)


def kernel_getpeername(sock: Socket) -> tuple[int, bytes]:
    assert sock.ops is not None
    return sock.ops.getname(sock, 1)


def kernel_sendmsg(sock: Socket, data: bytes, name: bytes, flags: int, iocb: Kiocb) -> int:
    return sock_sendmsg(sock, MsgHdr(iocb, data, name, b"", flags | MSG_NOSIGNAL))


def kernel_recvmsg(sock: Socket, size: int, flags: int, iocb: Kiocb) -> tuple[int, list[Piece], bytes]:
    msg = MsgHdr(iocb)
    n = sock_recvmsg(sock, msg, size, flags)
    return n, msg.pieces if n >= 0 else [], msg.msg_name


def kernel_sock_shutdown(sock: Socket, how: int) -> int:
    assert sock.ops is not None
    return sock.ops.shutdown(sock, how)
