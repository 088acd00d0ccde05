"""What stands for `os` under our socket.py: the host's module, with the calls on descriptors that reach simulated ones.

Under `afinet run` install.py puts the same functions into the host's module. A pipe that a simulated task makes is one of its
machine's; io.open() knows nothing of it, fdopen() does. A file of the host can be sent from (sendfile): it is shown to the stack as
a regular file.
"""

from __future__ import annotations

import io
import os as _os
import stat as _stat
from collections.abc import Callable
from typing import Any

from afinet.fs.file import File, fdget
from afinet.fs.memfd import RegularFile
from afinet.fs.pipe import PipeFile
from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.socket import SocketFile
from afinet.runner import real
from afinet.runner.virtual import SimTask, current_task
from afinet.stdlib import bufferedio
from afinet.stdlib._socket import buffer_bytes, os_error, own_fd
from afinet.stdlib._socket import close as _close
from afinet.stdlib._socket import dup as _dup
from afinet.uapi.errno import EAGAIN, EBADF, EINVAL, EIOCBQUEUED, ENOSYS
from afinet.uapi.fcntl import F_GETFD, F_GETFL, F_SETFD, F_SETFL, FD_CLOEXEC, O_CLOEXEC, O_NONBLOCK, O_RDONLY, SEEK_CUR, SEEK_SET

globals().update({k: v for k, v in vars(_os).items() if not k.startswith("__")})


def _simulated(fd: Any) -> SimTask | None:
    """The calling task, if `fd` is one of its simulated descriptors."""
    me = current_task()
    return me if me is not None and isinstance(fd, int) and fd >= 0 and own_fd(me, fd) >= 0 else None


def _check(me: SimTask, err: int) -> int:
    if err < 0:
        if err == -EAGAIN:
            me.spin()
        raise os_error(err)
    return err


def read(fd: int, n: int, /) -> bytes:
    me = _simulated(fd)
    if me is None:
        return _real["read"](fd, n)  # type: ignore[no-any-return]
    iocb = Kiocb()
    while True:
        count, pieces = syscalls.sys_read(me.process, iocb, own_fd(me, fd), n)
        if count != -EIOCBQUEUED:
            break
        me.wait_iocb(iocb, "read()", fd)
    _check(me, count)
    return b"".join(pieces)


def write(fd: int, data: Any, /) -> int:
    me = _simulated(fd)
    if me is None:
        return _real["write"](fd, data)  # type: ignore[no-any-return]
    whole = buffer_bytes(data)
    iocb = Kiocb()
    while (n := syscalls.sys_write(me.process, iocb, own_fd(me, fd), whole)) == -EIOCBQUEUED:
        me.wait_iocb(iocb, "write()", fd)
    return _check(me, n)


def close(fd: int) -> None:
    if _simulated(fd) is None:
        _real["close"](fd)
    else:
        _close(fd)


def dup(fd: int, /) -> int:
    if _simulated(fd) is None:
        return _real["dup"](fd)  # type: ignore[no-any-return]
    return _dup(fd)


def _fcntl(me: SimTask, fd: int, cmd: int, arg: int) -> int:
    return _check(me, syscalls.sys_fcntl(me.process, own_fd(me, fd), cmd, arg))


def get_inheritable(fd: int, /) -> bool:
    me = _simulated(fd)
    if me is None:
        return _real["get_inheritable"](fd)  # type: ignore[no-any-return]
    return not _fcntl(me, fd, F_GETFD, 0) & FD_CLOEXEC


def set_inheritable(fd: int, inheritable: int, /) -> None:
    me = _simulated(fd)
    if me is None:
        _real["set_inheritable"](fd, inheritable)
    else:
        _fcntl(me, fd, F_SETFD, 0 if inheritable else FD_CLOEXEC)


def get_blocking(fd: int, /) -> bool:
    me = _simulated(fd)
    if me is None:
        return _real["get_blocking"](fd)  # type: ignore[no-any-return]
    return not _fcntl(me, fd, F_GETFL, 0) & O_NONBLOCK


def set_blocking(fd: int, blocking: bool, /) -> None:
    me = _simulated(fd)
    if me is None:
        _real["set_blocking"](fd, blocking)
    else:
        flags = _fcntl(me, fd, F_GETFL, 0)
        _fcntl(me, fd, F_SETFL, flags & ~O_NONBLOCK if blocking else flags | O_NONBLOCK)


# -- pipes -----------------------------------------------------------------------------------------------------------------


def _simulating() -> SimTask | None:
    """The calling task, if what it makes is to be simulated: in real time pipes and processes are the host's."""
    me = current_task()
    return me if me is not None and not me.runner.host_families else None


def _pipe2(me: SimTask, flags: int) -> tuple[int, int]:
    err, r, w = syscalls.sys_pipe2(me.process, flags)
    _check(me, err)
    return me.runner.show(me.process, r), me.runner.show(me.process, w)


def pipe() -> tuple[int, int]:
    me = _simulating()
    if me is None:
        return _real["pipe"]()  # type: ignore[no-any-return]
    return _pipe2(me, O_CLOEXEC)


def pipe2(flags: int, /) -> tuple[int, int]:
    me = _simulating()
    if me is None:
        return _real["pipe2"](flags)  # type: ignore[no-any-return]
    return _pipe2(me, flags)


class _Raw(io.RawIOBase):
    """What io.FileIO is, over a simulated descriptor."""

    def __init__(self, fd: int, mode: str, closefd: bool) -> None:
        self._fd = fd
        self.mode = mode
        self._closefd = closefd

    def fileno(self) -> int:
        self._open()
        return self._fd

    def _open(self) -> None:
        if self._fd < 0:
            raise ValueError("I/O operation on closed file")

    def readable(self) -> bool:
        return "r" in self.mode or "+" in self.mode

    def writable(self) -> bool:
        return "r" not in self.mode or "+" in self.mode

    def readinto(self, buffer: Any) -> int | None:
        self._open()
        if not self.readable():
            raise io.UnsupportedOperation("File not open for reading")
        view = memoryview(buffer).cast("B")
        try:
            data = read(self._fd, len(view))
        except BlockingIOError:
            return None
        view[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int | None:
        self._open()
        if not self.writable():
            raise io.UnsupportedOperation("File not open for writing")
        try:
            return write(self._fd, data)
        except BlockingIOError:
            return None

    def close(self) -> None:
        if not self.closed:
            super().close()
            fd, self._fd = self._fd, -1
            if self._closefd:
                close(fd)

    @property
    def name(self) -> int:
        return self._fd


def fdopen(
    fd: int,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    if _simulated(fd) is None:
        return _real["fdopen"](fd, mode, buffering, encoding, errors, newline, closefd, opener)
    text = "b" not in mode
    kind = mode.replace("b", "").replace("t", "")
    if kind not in ("r", "w", "a", "x", "r+", "w+", "a+", "x+"):
        raise ValueError(f"invalid mode: {mode!r}")
    if text and buffering == 0:
        raise ValueError("can't have unbuffered text I/O")
    raw = _Raw(fd, kind, closefd)
    if buffering == 0:
        return raw
    size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
    buffered: Any
    if "+" in kind:
        buffered = bufferedio.BufferedRWPair(raw, raw, size)
    elif raw.writable():
        buffered = bufferedio.BufferedWriter(raw, size)
    else:
        buffered = bufferedio.BufferedReader(raw, size)
    if not text:
        return buffered
    wrapped = io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)
    wrapped.mode = mode  # type: ignore[misc]
    return wrapped


def fstat(fd: int, /) -> _os.stat_result:
    me = _simulated(fd)
    if me is None:
        return _real["fstat"](fd)  # type: ignore[no-any-return]
    file = fdget(me.process.files, own_fd(me, fd))
    if file is None:
        raise os_error(-EBADF)
    mode, size, inode = _stat.S_IFREG | 0o600, 0, 0
    if isinstance(file, SocketFile):
        mode, inode = _stat.S_IFSOCK | 0o777, file.sock.ino
    elif isinstance(file, PipeFile):
        mode = _stat.S_IFIFO | 0o600
    elif isinstance(file, RegularFile):
        size = file.size()
    cred = me.process.cred
    return _os.stat_result((mode, inode, 0, 1, cred.uid, cred.gid, size, 0, 0, 0))


def isatty(fd: int, /) -> bool:
    if _simulated(fd) is None:
        return _real["isatty"](fd)  # type: ignore[no-any-return]
    return False


# -- sendfile, splice ------------------------------------------------------------------------------------------------------


class HostFile(RegularFile):
    """A regular file of the host, to read from."""

    def __init__(self, fd: int) -> None:
        super().__init__(O_RDONLY)
        self.fd = fd

    def size(self) -> int:
        return _real["fstat"](self.fd).st_size  # type: ignore[no-any-return]

    def read_at(self, pos: int, count: int) -> bytes:
        return _os.pread(self.fd, count, pos)

    def write_at(self, pos: int, data: bytes) -> int:
        return -EBADF

    def truncate(self, size: int) -> int:
        return -EINVAL


def _host_file(fd: int) -> HostFile:
    if not _stat.S_ISREG(_real["fstat"](fd).st_mode):
        raise os_error(-EINVAL)
    return HostFile(fd)


def sendfile(out_fd: int, in_fd: int, offset: Any, count: int, *args: Any, **kwargs: Any) -> int:
    me = _simulated(out_fd)
    if me is None:
        if _simulated(in_fd) is not None:
            raise ValueError(f"sendfile: descriptor {out_fd} is the host's own, and {in_fd} a simulated one: read and write")
        return _real["sendfile"](out_fd, in_fd, offset, count, *args, **kwargs)  # type: ignore[no-any-return]
    out = own_fd(me, out_fd)
    iocb = Kiocb()
    if _simulated(in_fd) is not None:
        inside = own_fd(me, in_fd)
        while (n := syscalls.sys_sendfile(me.process, iocb, out, inside, offset, count)[0]) == -EIOCBQUEUED:
            me.wait_iocb(iocb, "sendfile()", out_fd)
        return _check(me, n)
    file: File = _host_file(in_fd)
    pos = _os.lseek(in_fd, 0, SEEK_CUR) if offset is None else offset
    while (n := syscalls.sys_sendfile_from(me.process, iocb, out, file, pos, count)) == -EIOCBQUEUED:
        me.wait_iocb(iocb, "sendfile()", out_fd)
    _check(me, n)
    if offset is None:
        _os.lseek(in_fd, pos + n, SEEK_SET)
    return n


def splice(
    src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None, flags: int = 0
) -> int:
    me = _simulated(src)
    if me is None and _simulated(dst) is None:
        return _real["splice"](src, dst, count, offset_src, offset_dst, flags)  # type: ignore[no-any-return]
    if me is None or _simulated(dst) is None:
        raise ValueError("splice: one of the descriptors is simulated and one the host's own: read and write, or use sendfile")
    if count < 0:
        raise ValueError("count cannot be negative")
    iocb = Kiocb()
    fd_in, fd_out = own_fd(me, src), own_fd(me, dst)
    while True:
        n, _, _ = syscalls.sys_splice(me.process, iocb, fd_in, offset_src, fd_out, offset_dst, count, flags)
        if n != -EIOCBQUEUED:
            return _check(me, n)
        me.wait_iocb(iocb, "splice()", src)


# -- processes -------------------------------------------------------------------------------------------------------------


def _fence(name: str) -> Callable[..., Any]:
    """A call that makes a process of the host: a simulated task cannot, since virtual time would not run for it."""

    def fenced(*args: Any, **kwargs: Any) -> Any:
        if _simulating() is not None:
            why = "a process of the host is outside of the simulation; host.spawn() starts one inside"
            raise OSError(ENOSYS, f"{name}() in a simulated task: {why}")
        return _real[name](*args, **kwargs)

    fenced.__name__ = name
    return fenced


REPLACED: tuple[str, ...] = tuple(
    name
    for name in (
        "read", "write", "close", "dup", "get_inheritable", "set_inheritable", "get_blocking", "set_blocking", "sendfile", "splice",
        "pipe", "pipe2", "fdopen", "fstat", "isatty",
    )
    if hasattr(_os, name)
)  # fmt: skip
FENCED: tuple[str, ...] = tuple(
    name for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system") if hasattr(_os, name)
)

# The host's own, whatever install.py has put in their places since.
_real: dict[str, Callable[..., Any]] = {name: getattr(_os, name) for name in REPLACED + FENCED}
for _name in ("get_blocking", "set_blocking", "sendfile", "splice", "pipe2"):
    if _name not in REPLACED:
        del globals()[_name]
globals().update({_name: _fence(_name) for _name in FENCED})

try:
    import _posixsubprocess
except ImportError:  # Windows
    pass
else:
    _real["fork_exec"] = _posixsubprocess.fork_exec
    fork_exec = _fence("fork_exec")

real.like_builtins(globals(), _os)
