"""net/socket.c: sockets as files, the protocol families, and the system calls __sys_socket() to __sys_recvmsg().

Call order: __sys_socket -> sock_create -> __sock_create -> net_families[family].create -> sock_map_fd. Every other call finds
its struct socket through the descriptor (sockfd_lookup_light) and goes on through `sock.ops`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet._mypyc import mypyc_attr
from afinet.kernel.wait import Kiocb, WaitQueueHead
from afinet.uapi.errno import EINVAL, EOPNOTSUPP
from afinet.uapi.socket import SS_UNCONNECTED

if TYPE_CHECKING:
    from afinet.fs.file import File
    from afinet.kernel.machine import Kernel
    from afinet.kernel.task import Task
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.sock import Sock


class MsgHdr:
    """struct msghdr, as the kernel side sees it, with the call's own record.

    Sending: `msg_data` is what is sent, `iocb.ki_done` says how much of it is. Receiving: the operation appends to `pieces`
    (whole buffers, shared), and sets `msg_name`, `msg_control`, `msg_flags`.
    """

    __slots__ = ("iocb", "msg_control", "msg_data", "msg_flags", "msg_name", "pieces", "task")

    def __init__(self, iocb: Kiocb, data: bytes = b"", name: bytes = b"", control: bytes = b"", flags: int = 0) -> None:
        self.iocb: Kiocb = iocb
        self.msg_data: bytes = data
        self.msg_name: bytes = name  # a packed sockaddr, b"" for none
        self.msg_control: bytes = control  # packed control messages
        self.msg_flags: int = flags
        self.pieces: list[bytes] = []
        self.task: Task | None = None  # who calls: credentials for what needs them


@mypyc_attr(allow_interpreted_subclasses=True)
class ProtoOps:
    """struct proto_ops: how a family's socket type answers the system calls. Defaults are the sock_no_* functions."""

    def __init__(self, family: int) -> None:
        self.family: int = family

    def release(self, sock: Socket, iocb: Kiocb) -> int:
        """The last file of the socket is closed. May answer -EIOCBQUEUED (SO_LINGER), else 0."""
        return 0

    def bind(self, sock: Socket, uaddr: bytes, task: Task) -> int:
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

    def set_peek_off(self, sk: Sock, val: int) -> int:
        return -EOPNOTSUPP

    def set_rcvlowat(self, sk: Sock, val: int) -> int:
        """0, or -errno; the default stores the value."""
        sk.sk_rcvlowat = val or 1
        return 0


class Socket:
    """struct socket: what a process holds. `sk` is the protocol's side, `file` the descriptor's."""

    __slots__ = ("file", "flags", "gid", "ino", "kernel", "ops", "sk", "state", "type", "uid", "wq")

    def __init__(self, kernel: Kernel, ino: int, uid: int, gid: int) -> None:
        self.kernel: Kernel = kernel
        self.state: int = SS_UNCONNECTED
        self.type: int = 0
        self.flags: int = 0  # SOCK_ASYNC_NOSPACE and the like
        self.file: File | None = None
        self.sk: Sock | None = None
        self.ops: ProtoOps | None = None
        self.wq: WaitQueueHead | None = None  # made when somebody first waits
        self.ino: int = ino
        self.uid: int = uid
        self.gid: int = gid


@mypyc_attr(allow_interpreted_subclasses=True)
class NetProtoFamily:
    """struct net_proto_family."""

    def __init__(self, family: int) -> None:
        self.family: int = family

    def create(self, net: Net, sock: Socket, protocol: int, kern: bool, task: Task) -> int:
        """Make `sock` one of this family: set its ops and its sock. 0 or -errno."""
        return -EOPNOTSUPP
