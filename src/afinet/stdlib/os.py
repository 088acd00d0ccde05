"""What stands for `os` under our socket.py: the host's module, with the calls on descriptors that reach simulated ones.

Under `afinet run` install.py puts the same functions into the host's module.
"""

from __future__ import annotations

import os as _os
from collections.abc import Callable
from typing import Any

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.runner import real
from afinet.runner.virtual import SimTask, current_task
from afinet.stdlib._socket import buffer_bytes, os_error, own_fd
from afinet.stdlib._socket import close as _close
from afinet.stdlib._socket import dup as _dup
from afinet.uapi.errno import EAGAIN, EIOCBQUEUED, ESPIPE
from afinet.uapi.fcntl import F_GETFD, F_GETFL, F_SETFD, F_SETFL, FD_CLOEXEC, O_NONBLOCK

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


def sendfile(out_fd: int, in_fd: int, offset: Any, count: int, *args: Any, **kwargs: Any) -> int:
    me = _simulated(out_fd) or _simulated(in_fd)
    if me is not None:
        # Splicing from files of the host comes later; socket.sendfile() then reads and sends.
        raise os_error(-ESPIPE)
    return _real["sendfile"](out_fd, in_fd, offset, count, *args, **kwargs)  # type: ignore[no-any-return]


REPLACED: tuple[str, ...] = tuple(
    name
    for name in (
        "read", "write", "close", "dup", "get_inheritable", "set_inheritable", "get_blocking", "set_blocking", "sendfile",
    )
    if hasattr(_os, name)
)  # fmt: skip

# The host's own, whatever install.py has put in their places since.
_real: dict[str, Callable[..., Any]] = {name: getattr(_os, name) for name in REPLACED}
for _name in ("get_blocking", "set_blocking", "sendfile"):
    if _name not in REPLACED:
        del globals()[_name]

real.like_builtins(globals(), _os)
