"""What stands for `_socket`, the C module under Python's socket.py: sockets of the simulated host for a simulated task.

`socket` is a subclass of the host's own C type. Made inside a task, it holds a descriptor of that task's process and never opens
one of the host's; made outside, it is the host's socket and every method passes through. The decision is made once, when the
object is made.

The one place of the package where an OSError is raised. A blocking call is the loop of DESIGN.md, section 2: the operation, and
while it answers -EIOCBQUEUED, wait as its Kiocb says and call it again. A time limit set by settimeout() works as in
socketmodule.c: the descriptor is non-blocking, and the call waits in poll().

What is not defined here is the host module's own: constants, byte order, inet_aton and its sisters.
"""

from __future__ import annotations

import operator
import os
import sys
import warnings
from typing import Any

from afinet.init import syscalls
from afinet.kernel.task import Task
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.kernel.wait import Kiocb, Piece
from afinet.runner import real
from afinet.runner.virtual import FD_BASE, SimTask, current_task
from afinet.stdlib import netdb
from afinet.uapi.errno import EAFNOSUPPORT, EAGAIN, ECONNRESET, EFAULT, EINPROGRESS, EIOCBQUEUED, EISCONN
from afinet.uapi.eventpoll import POLLERR, POLLIN, POLLOUT
from afinet.uapi.fcntl import F_DUPFD_CLOEXEC, F_GETFL, F_SETFL, O_NONBLOCK
from afinet.uapi.filter import SIZEOF_SOCK_FILTER, SIZEOF_SOCK_FPROG
from afinet.uapi.sockaddr import (
    get_s32,
    get_s64,
    pack_cmsg,
    pack_s32,
    pack_sockaddr_in,
    parse_cmsgs,
    sa_family,
    unpack_sockaddr_in,
)
from afinet.uapi.socket import (
    AF_INET,
    SO_ATTACH_FILTER,
    SO_ATTACH_REUSEPORT_CBPF,
    SO_DOMAIN,
    SO_ERROR,
    SO_PROTOCOL,
    SO_TYPE,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)

_real = real._socket
_Real = _real.socket

globals().update({k: v for k, v in vars(_real).items() if not k.startswith("__")})
__all__ = [k for k in vars(_real) if not k.startswith("_")]

error = OSError
timeout = TimeoutError
gaierror = _real.gaierror
herror = _real.herror
has_ipv6 = _real.has_ipv6

# A send that may be cut short (a time limit is set) copies no more than this at a time.
CHUNK = 256 * 1024


def own_fd(me: SimTask, fd: int) -> int:
    """The process's own number of what the program calls `fd`; -1 for one of the host's, and what is out of range as it is."""
    if fd >= FD_BASE:
        return fd - FD_BASE
    return me.runner.numbers.get(fd, -1) if fd >= 0 else fd - FD_BASE


def os_error(err: int) -> OSError:
    """The exception for -errno."""
    return OSError(-err, os.strerror(-err))


def buffer_bytes(data: Any) -> bytes:
    """The bytes of any bytes-like object, itself where it is bytes. TypeError as the C functions raise it."""
    if type(data) is bytes:
        return data
    if isinstance(data, str):
        raise TypeError("a bytes-like object is required, not 'str'")
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not '{type(data).__name__}'") from None


def copy_fprog(fprog: bytes) -> bytes:
    """copy_from_user of struct sock_fprog: it points to instructions in this process's memory, which the stack wants behind it.
    OSError (EFAULT) for a pointer that leads nowhere."""
    at = get_s64(fprog, 8)
    size = (fprog[0] | fprog[1] << 8) * SIZEOF_SOCK_FILTER
    if at == 0 or size == 0:
        return fprog
    try:
        memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            insns = os.pread(memory, size, at)
        finally:
            os.close(memory)
    except (OSError, OverflowError):
        insns = b""
    if len(insns) != size:
        raise os_error(-EFAULT)
    return fprog + insns


def writable(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    if view.readonly:
        raise TypeError(f"a read-write bytes-like object is required, not '{type(buffer).__name__}'")
    return view.cast("B") if view.nbytes else view


def scatter(pieces: list[Piece], views: list[memoryview]) -> None:
    """Lay what was received into the caller's buffers, one after the other."""
    slot, at = 0, 0
    for piece in pieces:
        start = 0
        while start < len(piece):
            view = views[slot]
            n = min(len(piece) - start, len(view) - at)
            if n == 0:
                slot, at = slot + 1, 0
                continue
            view[at : at + n] = piece[start : start + n]
            at += n
            start += n


def _joined(pieces: list[Piece]) -> bytes:
    first = pieces[0] if len(pieces) == 1 else None
    return first if type(first) is bytes else b"".join(pieces)


class socket(_Real):
    __doc__ = _Real.__doc__

    # _task is the simulated process, None for a socket of the host; _fd its own number there.
    __slots__ = ("_family", "_fd", "_proto", "_task", "_timeout", "_type")

    _task: Task | None
    _fd: int
    _timeout: float | None

    def __new__(cls, *args: Any, **kwargs: Any) -> socket:
        self = _Real.__new__(cls)
        self._task = None
        self._fd = -1
        self._timeout = None
        return self

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        me = current_task()
        if me is None or (own_fd(me, fileno) == -1 if fileno is not None else family in me.runner.host_families):
            _Real.__init__(self, family, type, proto, fileno)
            return
        sys.audit("socket.__new__", self, family, type, proto)
        task = me.process
        if fileno is not None:
            if isinstance(fileno, float):
                raise TypeError("integer argument expected, got float")
            if fileno < 0:
                raise ValueError("negative file descriptor")
            fd = own_fd(me, fileno)
            values = []
            for given, optname in ((family, SO_DOMAIN), (type, SO_TYPE), (proto, SO_PROTOCOL)):
                err, value = syscalls.sys_getsockopt(task, fd, SOL_SOCKET, optname, 4)
                if err < 0:
                    raise os_error(err)
                values.append(get_s32(value, 0) if given == -1 else int(given))
            family, type, proto = values
        else:
            family = AF_INET if family == -1 else int(family)
            type = SOCK_STREAM if type == -1 else int(type)
            proto = 0 if proto == -1 else int(proto)
            fd = syscalls.sys_socket(task, family, type | SOCK_CLOEXEC, proto)
            if fd < 0:
                raise os_error(fd)
        self._task = task
        self._fd = fd
        self._family = family
        self._type = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)
        self._proto = proto
        if type & SOCK_NONBLOCK:
            self._timeout = 0.0
        else:
            default = me.runner.default_timeout.get(id(task))
            if default is not None:
                self.settimeout(default)

    # -- attributes ---------------------------------------------------------------------------------------------------

    @property
    def family(self) -> int:
        return _Real.family.__get__(self) if self._task is None else self._family

    @property
    def type(self) -> int:
        return _Real.type.__get__(self) if self._task is None else self._type

    @property
    def proto(self) -> int:
        return _Real.proto.__get__(self) if self._task is None else self._proto

    @property
    def timeout(self) -> float | None:
        return _Real.gettimeout(self) if self._task is None else self._timeout

    def __repr__(self) -> str:
        if self._task is None:
            return _Real.__repr__(self)
        return (
            f"<socket object, fd={self.fileno()}, family={int(self._family)}, type={int(self._type)}, proto={int(self._proto)}>"
        )

    def __del__(self) -> None:
        # The C type has no __del__: its finalizer finds no descriptor in a simulated socket.
        if self._task is not None and self._fd >= 0:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            fd, self._fd = self._fd, -1
            if not self._task.exiting:
                self._close(fd)

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _enter(self) -> Task:
        """The process, its machine's clock on time. Only a call from outside the process can find it late."""
        task = self._task
        assert task is not None
        runner = task.kernel.runner
        if runner is not None:
            runner.sync(task.kernel)
        return task

    def _wait(self, iocb: Kiocb, what: str) -> None:
        me = current_task()
        if me is None:
            syscalls.abandon(iocb)
            raise RuntimeError(f"{what} on a simulated socket has to wait, and only a task of the network can: spawn it on a host")
        me.wait_iocb(iocb, what, self._fd + FD_BASE)

    def _limit(self) -> int:
        """When (ns) a call that begins now is out of time, -1 for a blocking or non-blocking socket."""
        timeout = self._timeout
        if not timeout:
            return -1
        me = current_task()
        assert self._task is not None
        now = me.hub.now if me is not None else self._task.kernel.now
        return min(now + -int(-timeout * 1e9 // 1), MAX_SCHEDULE_TIMEOUT)

    def _retry(self, err: int, events: int, limit: int, what: str) -> None:
        """A call answered `err`. With a time limit and nothing to do yet, wait for `events` and return to try again; else raise."""
        if limit < 0 or err != -EAGAIN:
            if err == -EAGAIN:
                me = current_task()
                if me is not None:
                    me.spin()
            raise os_error(err)
        self._poll(events, limit, what)

    def _poll(self, events: int, limit: int, what: str) -> int:
        task = self._enter()
        iocb = Kiocb()
        while True:
            left = limit - task.kernel.now
            if left <= 0:
                raise TimeoutError("timed out")
            n, revents = syscalls.sys_poll(task, iocb, [(self._fd, events)], left)
            if n == -EIOCBQUEUED:
                self._wait(iocb, what)
                continue
            if n < 0:
                raise os_error(n)
            if n > 0:
                return revents[0]

    def _address(self, addr: Any, caller: str) -> bytes:
        """getsockaddrarg() of socketmodule.c, for AF_INET."""
        if self._family != AF_INET:
            raise OSError(EAFNOSUPPORT, f"{caller}(): bad family")
        if not isinstance(addr, tuple):
            raise TypeError(f"{caller}(): AF_INET address must be tuple, not {type(addr).__name__}")
        if len(addr) != 2:
            raise TypeError(f"{caller}(): AF_INET address must be a pair (host, port)")
        host, port = addr
        text = netdb.host_text(host, f"{caller}(): host")
        number = operator.index(port)
        me = current_task()
        if me is None:
            value = netdb.numeric(text or "0.0.0.0")
            if value is None:
                raise netdb.gaierror("EAI_NONAME")
        else:
            value = netdb.resolve(me, text)
        if not 0 <= number <= 0xFFFF:
            raise OverflowError(f"{caller}(): port must be 0-65535.")
        return pack_sockaddr_in(value, number)

    # -- life ---------------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        if self._task is None:
            return _Real.fileno(self)
        if self._fd < 0:
            return -1
        me = current_task()
        return me.runner.show(self._task, self._fd) if me is not None else self._fd + FD_BASE

    def detach(self) -> int:
        if self._task is None:
            return _Real.detach(self)
        fd = self.fileno()
        self._fd = -1
        return fd

    def close(self) -> None:
        if self._task is None:
            _Real.close(self)
            return
        fd, self._fd = self._fd, -1
        if fd >= 0 and not self._task.exiting:
            err = self._close(fd)
            # What the peer did before is no error of close().
            if err < 0 and err != -ECONNRESET:
                raise os_error(err)

    def _close(self, fd: int) -> int:
        task = self._enter()
        return finish_close(task, fd)

    def shutdown(self, how: int, /) -> None:
        if self._task is None:
            _Real.shutdown(self, how)
            return
        self._check(syscalls.sys_shutdown(self._enter(), self._fd, how))

    def _check(self, err: int) -> int:
        if err < 0:
            raise os_error(err)
        return err

    # -- blocking -----------------------------------------------------------------------------------------------------

    def settimeout(self, value: float | None, /) -> None:
        if self._task is None:
            _Real.settimeout(self, value)
            return
        self._timeout = _timeout_value(value)
        self._set_nonblock(self._timeout is not None)

    def gettimeout(self) -> float | None:
        return _Real.gettimeout(self) if self._task is None else self._timeout

    def setblocking(self, flag: bool, /) -> None:
        if self._task is None:
            _Real.setblocking(self, flag)
            return
        self._timeout = None if flag else 0.0
        self._set_nonblock(not flag)

    def getblocking(self) -> bool:
        return _Real.getblocking(self) if self._task is None else self._timeout != 0.0

    def _set_nonblock(self, on: bool) -> None:
        task = self._enter()
        flags = self._check(syscalls.sys_fcntl(task, self._fd, F_GETFL, 0))
        new = flags | O_NONBLOCK if on else flags & ~O_NONBLOCK
        if new != flags:
            self._check(syscalls.sys_fcntl(task, self._fd, F_SETFL, new))

    # -- names --------------------------------------------------------------------------------------------------------

    def bind(self, address: Any, /) -> None:
        if self._task is None:
            _Real.bind(self, address)
            return
        sys.audit("socket.bind", self, address)
        self._check(syscalls.sys_bind(self._enter(), self._fd, self._address(address, "bind")))

    def getsockname(self) -> Any:
        if self._task is None:
            return _Real.getsockname(self)
        err, addr = syscalls.sys_getsockname(self._enter(), self._fd)
        self._check(err)
        return make_sockaddr(addr)

    def getpeername(self) -> Any:
        if self._task is None:
            return _Real.getpeername(self)
        err, addr = syscalls.sys_getpeername(self._enter(), self._fd)
        self._check(err)
        return make_sockaddr(addr)

    def listen(self, backlog: int | None = None, /) -> None:
        if self._task is None:
            _Real.listen(self) if backlog is None else _Real.listen(self, backlog)
            return
        if backlog is None:
            backlog = min(_real.SOMAXCONN, 128)
        self._check(syscalls.sys_listen(self._enter(), self._fd, max(backlog, 0)))

    def connect(self, address: Any, /) -> None:
        if self._task is None:
            _Real.connect(self, address)
            return
        sys.audit("socket.connect", self, address)
        err = self._connect(address)
        if err:
            raise os_error(err)

    def connect_ex(self, address: Any, /) -> int:
        if self._task is None:
            return _Real.connect_ex(self, address)
        sys.audit("socket.connect", self, address)
        try:
            return -self._connect(address)
        except TimeoutError as e:
            if e.errno is not None:
                raise
            return EAGAIN  # as CPython: the time limit of connect_ex is not an exception

    def _connect(self, address: Any) -> int:
        """0 or -errno; TimeoutError when the time limit is over."""
        uaddr = self._address(address, "connect")
        task = self._enter()
        limit = self._limit()
        iocb = Kiocb()
        while (err := syscalls.sys_connect(task, iocb, self._fd, uaddr)) == -EIOCBQUEUED:
            self._wait(iocb, "connect()")
        if err != -EINPROGRESS or limit < 0:
            return err
        self._poll(POLLOUT | POLLERR, limit, "connect()")
        err, value = syscalls.sys_getsockopt(task, self._fd, SOL_SOCKET, SO_ERROR, 4)
        self._check(err)
        code = get_s32(value, 0)
        return 0 if code == EISCONN else -code

    def _accept(self) -> tuple[int, Any]:
        if self._task is None:
            return _Real._accept(self)  # type: ignore[attr-defined, no-any-return]
        task = self._enter()
        limit = self._limit()
        while True:
            iocb = Kiocb()
            while True:
                fd, addr = syscalls.sys_accept4(task, iocb, self._fd, SOCK_CLOEXEC)
                if fd != -EIOCBQUEUED:
                    break
                self._wait(iocb, "accept()")
            if fd >= 0:
                return fd + FD_BASE, make_sockaddr(addr)
            self._retry(fd, POLLIN, limit, "accept()")

    # -- options ------------------------------------------------------------------------------------------------------

    def getsockopt(self, level: int, optname: int, buflen: int = 0, /) -> Any:
        if self._task is None:
            return _Real.getsockopt(self, level, optname, buflen)
        if buflen < 0 or buflen > 1024:
            raise OSError("getsockopt buflen out of range")
        err, value = syscalls.sys_getsockopt(self._enter(), self._fd, level, optname, buflen or 4)
        self._check(err)
        if buflen:
            return value
        return get_s32(value + bytes(4), 0)

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None, /) -> None:
        if self._task is None:
            if value is None:
                assert optlen is not None
                _Real.setsockopt(self, level, optname, None, optlen)
            else:
                _Real.setsockopt(self, level, optname, value)
            return
        if value is None:
            if optlen is None:
                raise TypeError("setsockopt() takes exactly 4 arguments (3 given)")
            data = bytes(optlen)
        elif isinstance(value, int):
            if not -0x80000000 <= value <= 0x7FFFFFFF:
                raise OverflowError("signed integer is out of range")
            data = pack_s32(value)
        else:
            data = buffer_bytes(value)
            if level == SOL_SOCKET and optname in (SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF) and len(data) == SIZEOF_SOCK_FPROG:
                data = copy_fprog(data)
        self._check(syscalls.sys_setsockopt(self._enter(), self._fd, level, optname, data))

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _recvfrom(self, size: int, flags: int, what: str) -> tuple[int, list[Piece], bytes]:
        if size < 0:
            raise ValueError(f"negative buffersize in {what[:-2]}")
        task = self._enter()
        limit = self._limit()
        while True:
            iocb = Kiocb()
            while True:
                n, pieces, addr = syscalls.sys_recvfrom(task, iocb, self._fd, size, flags)
                if n != -EIOCBQUEUED:
                    break
                self._wait(iocb, what)
            if n >= 0:
                return n, pieces, addr
            self._retry(n, POLLIN, limit, what)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if self._task is None:
            return _Real.recv(self, bufsize, flags)
        return _joined(self._recvfrom(bufsize, flags, "recv()")[1])

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        if self._task is None:
            return _Real.recvfrom(self, bufsize, flags)
        _, pieces, addr = self._recvfrom(bufsize, flags, "recvfrom()")
        return _joined(pieces), make_sockaddr(addr)

    def _into(self, buffer: Any, nbytes: int, flags: int, what: str) -> tuple[int, bytes]:
        view = writable(buffer)
        if nbytes < 0:
            raise ValueError(f"negative buffersize in {what[:-2]}")
        if nbytes > view.nbytes:
            raise ValueError("buffer too small for requested bytes")
        n, pieces, addr = self._recvfrom(nbytes or view.nbytes, flags, what)
        if len(pieces) == 1 and n <= len(pieces[0]):
            view[: len(pieces[0])] = pieces[0]
        elif pieces:
            scatter(pieces, [view])
        return n, addr

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        if self._task is None:
            return _Real.recv_into(self, buffer, nbytes, flags)
        return self._into(buffer, nbytes, flags, "recv_into()")[0]

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        if self._task is None:
            return _Real.recvfrom_into(self, buffer, nbytes, flags)
        n, addr = self._into(buffer, nbytes, flags, "recvfrom_into()")
        return n, make_sockaddr(addr)

    def _recvmsg(self, size: int, ancbufsize: int, flags: int, what: str) -> tuple[int, list[Piece], Any, int, Any]:
        if size < 0:
            raise ValueError(f"negative buffer size in {what[:-2]}")
        if ancbufsize < 0:
            raise ValueError("invalid ancillary data buffer length")
        task = self._enter()
        limit = self._limit()
        while True:
            iocb = Kiocb()
            while True:
                n, pieces, control, msg_flags, addr = syscalls.sys_recvmsg(task, iocb, self._fd, size, ancbufsize, flags)
                if n != -EIOCBQUEUED:
                    break
                self._wait(iocb, what)
            if n >= 0:
                return n, pieces, parse_cmsgs(control) or [], msg_flags, make_sockaddr(addr)
            self._retry(n, POLLIN, limit, what)

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, Any, int, Any]:
        if self._task is None:
            return _Real.recvmsg(self, bufsize, ancbufsize, flags)
        _, pieces, ancdata, msg_flags, addr = self._recvmsg(bufsize, ancbufsize, flags, "recvmsg()")
        return _joined(pieces), ancdata, msg_flags, addr

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> tuple[int, Any, int, Any]:
        if self._task is None:
            return _Real.recvmsg_into(self, buffers, ancbufsize, flags)
        views = [writable(b) for b in buffers]
        size = sum(v.nbytes for v in views)
        n, pieces, ancdata, msg_flags, addr = self._recvmsg(size, ancbufsize, flags, "recvmsg_into()")
        scatter(pieces, views)
        return n, ancdata, msg_flags, addr

    # -- sending ------------------------------------------------------------------------------------------------------

    def _send(self, data: bytes, flags: int, addr: bytes, control: bytes, limit: int, what: str) -> int:
        task = self._enter()
        while True:
            iocb = Kiocb()
            while True:
                if control:
                    n = syscalls.sys_sendmsg(task, iocb, self._fd, data, control, flags, addr)
                else:
                    n = syscalls.sys_sendto(task, iocb, self._fd, data, flags, addr)
                if n != -EIOCBQUEUED:
                    break
                self._wait(iocb, what)
            if n >= 0:
                return n
            self._retry(n, POLLOUT, limit, what)

    def send(self, data: Any, flags: int = 0, /) -> int:
        if self._task is None:
            return _Real.send(self, data, flags)
        return self._send(buffer_bytes(data), flags, b"", b"", self._limit(), "send()")

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        if self._task is None:
            _Real.sendall(self, data, flags)
            return
        limit = self._limit()
        if self._timeout is None:
            whole = buffer_bytes(data)
            n = self._send(whole, flags, b"", b"", limit, "sendall()")
            while n < len(whole):  # a signal, or SO_SNDTIMEO with progress
                n += self._send(whole[n:], flags, b"", b"", limit, "sendall()")
            return
        view = memoryview(buffer_bytes(data))
        at = 0
        while True:
            at += self._send(bytes(view[at : at + CHUNK]), flags, b"", b"", limit, "sendall()")
            if at >= len(view):
                return

    def sendto(self, data: Any, *args: Any) -> int:
        if self._task is None:
            return _Real.sendto(self, data, *args)
        if not 1 <= len(args) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(args) + 1} given)")
        flags = args[0] if len(args) == 2 else 0
        sys.audit("socket.sendto", self, args[-1])
        addr = self._address(args[-1], "sendto")
        return self._send(buffer_bytes(data), flags, addr, b"", self._limit(), "sendto()")

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        if self._task is None:
            return _Real.sendmsg(self, buffers, ancdata, flags, address)
        data = b"".join([buffer_bytes(b) for b in buffers])
        control = b""
        for item in ancdata:
            if len(item) != 3:
                raise TypeError("[sendmsg() ancillary data items] must be sequence of length 3")
            control += pack_cmsg(item[0], item[1], buffer_bytes(item[2]))
        addr = b"" if address is None else self._address(address, "sendmsg")
        sys.audit("socket.sendmsg", self, address)
        return self._send(data, flags, addr, control, self._limit(), "sendmsg()")

    if hasattr(_Real, "sendmsg_afalg"):

        def sendmsg_afalg(self, *args: Any, **kwargs: Any) -> int:
            if self._task is None:
                return _Real.sendmsg_afalg(self, *args, **kwargs)
            raise OSError("algset is only supported for AF_ALG")


SocketType = socket


def finish_close(task: Task, fd: int) -> int:
    """close(2), which waits only for SO_LINGER. Outside of a task nobody can wait: the rest goes on by itself."""
    me = current_task()
    iocb = Kiocb()
    if me is None:
        iocb.ki_signal = True
    while (err := syscalls.sys_close(task, iocb, fd)) == -EIOCBQUEUED:
        assert me is not None
        me.wait_iocb(iocb, "close()", fd + FD_BASE)
    return err


def _timeout_value(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, (int, float)):
        value = value.__float__() if hasattr(value, "__float__") else value.__index__()
    if value != value:
        raise ValueError("Invalid value NaN (not a number)")
    if value < 0:
        raise ValueError("Timeout value out of range")
    if value > 1e9:
        if value > 9.2e9:
            raise OverflowError("timeout doesn't fit into C timeval")
    return float(value)


def make_sockaddr(addr: bytes) -> Any:
    """makesockaddr() of socketmodule.c: None for no address."""
    if len(addr) < 2:
        return None
    if sa_family(addr) == AF_INET and len(addr) >= 8:
        host, port = unpack_sockaddr_in(addr)
        return netdb.dotted(host), port
    return sa_family(addr), addr[2:]


# -- functions -------------------------------------------------------------------------------------------------------------


def getdefaulttimeout() -> float | None:
    me = current_task()
    return _real.getdefaulttimeout() if me is None else me.runner.default_timeout.get(id(me.process))


def setdefaulttimeout(timeout: float | None, /) -> None:
    me = current_task()
    if me is None:
        _real.setdefaulttimeout(timeout)
        return
    value = _timeout_value(timeout)
    if value is None:
        me.runner.default_timeout.pop(id(me.process), None)
    else:
        me.runner.default_timeout[id(me.process)] = value


def close(fd: int, /) -> None:
    me = current_task()
    if me is None or (own := own_fd(me, fd)) == -1:
        _real.close(fd)
        return
    err = finish_close(me.process, own)
    if err < 0 and err != -ECONNRESET:
        raise os_error(err)


def dup(fd: int, /) -> int:
    me = current_task()
    if me is None or (own := own_fd(me, fd)) == -1:
        return _real.dup(fd)
    new = syscalls.sys_fcntl(me.process, own, F_DUPFD_CLOEXEC, 0)
    if new < 0:
        raise os_error(new)
    return me.runner.show(me.process, new)


def socketpair(family: int | None = None, type: int = SOCK_STREAM, proto: int = 0, /) -> tuple[socket, socket]:
    """Two connected sockets. There is no AF_UNIX in a simulated host today: a pair there is a TCP connection over its `lo`."""
    me = current_task()
    if me is None or me.runner.host_families:
        pair = _real.socketpair(*([] if family is None else [family, type, proto]))
        return _adopt(pair[0]), _adopt(pair[1])
    if type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC) != SOCK_STREAM or family not in (None, AF_INET, getattr(_real, "AF_UNIX", None)):
        raise os_error(-EAFNOSUPPORT)
    with_listener = socket(AF_INET, SOCK_STREAM)
    try:
        with_listener.bind(("127.0.0.1", 0))
        with_listener.listen(1)
        near = socket(AF_INET, SOCK_STREAM)
        near.connect(with_listener.getsockname())
        fd, _ = with_listener._accept()
        far = socket(AF_INET, SOCK_STREAM, 0, fd)
    finally:
        with_listener.close()
    for end in (near, far):
        end.setsockopt(6, 1, 1)  # TCP_NODELAY: each byte is a message
    return near, far


def _adopt(sock: Any) -> socket:
    return socket(sock.family, sock.type, sock.proto, sock.detach())


def gethostname() -> str:
    me = current_task()
    return _real.gethostname() if me is None else me.kernel.hostname


def sethostname(name: Any, /) -> None:
    me = current_task()
    if me is None:
        _real.sethostname(name)
    else:
        me.kernel.hostname = name if isinstance(name, str) else bytes(name).decode()


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
    me = current_task()
    if me is None:
        return _real.getaddrinfo(host, port, family, type, proto, flags)
    sys.audit("socket.getaddrinfo", host, port, family, type, proto, flags)
    return netdb.getaddrinfo(me, host, port, int(family), int(type), int(proto), int(flags))


def getnameinfo(sockaddr: Any, flags: int, /) -> tuple[str, str]:
    me = current_task()
    return _real.getnameinfo(sockaddr, flags) if me is None else netdb.getnameinfo(me, sockaddr, int(flags))


def gethostbyname(hostname: Any, /) -> str:
    me = current_task()
    return _real.gethostbyname(hostname) if me is None else netdb.gethostbyname(me, hostname)


def gethostbyname_ex(hostname: Any, /) -> tuple[str, list[str], list[str]]:
    me = current_task()
    return _real.gethostbyname_ex(hostname) if me is None else netdb.gethostbyname_ex(me, hostname)


def gethostbyaddr(ip_address: Any, /) -> tuple[str, list[str], list[str]]:
    me = current_task()
    return _real.gethostbyaddr(ip_address) if me is None else netdb.gethostbyaddr(me, ip_address)


def if_nameindex() -> list[tuple[int, str]]:
    me = current_task()
    if me is None:
        return _real.if_nameindex()
    return [(dev.ifindex, dev.name) for dev in me.process.net_ns.dev_by_index.values()]


def if_nametoindex(name: Any, /) -> int:
    me = current_task()
    if me is None:
        return _real.if_nametoindex(name)
    dev = me.process.net_ns.dev_by_name.get(name if isinstance(name, str) else os.fsdecode(name))
    if dev is None:
        raise OSError("no interface with this name")
    return dev.ifindex


def if_indextoname(index: int, /) -> str:
    me = current_task()
    if me is None:
        return _real.if_indextoname(index)
    dev = me.process.net_ns.dev_by_index.get(index)
    if dev is None:
        raise os_error(-6)  # ENXIO
    return dev.name

real.like_builtins(globals(), _real)
