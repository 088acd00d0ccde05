"""fs/ioctl.c: ioctl(2): what every descriptor answers, before its file is asked.

do_vfs_ioctl knows the flags of descriptor and file; the rest is the file's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.fs.file import File, fdget
from afinet.uapi.errno import EBADF, EFAULT, ENOTTY
from afinet.uapi.fcntl import O_NONBLOCK
from afinet.uapi.sockaddr import SIZEOF_INT, get_s32
from afinet.uapi.sockios import FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX, FIOQSIZE

if TYPE_CHECKING:
    from afinet.kernel.task import Task


def ksys_ioctl(task: Task, fd: int, cmd: int, arg: bytes) -> tuple[int, bytes]:
    """(a number or -errno, what `arg` becomes)."""
    file = fdget(task.files, fd)
    if file is None:
        return -EBADF, b""
    if cmd == FIOCLEX:
        task.files.close_on_exec[fd] = True
        return 0, b""
    if cmd == FIONCLEX:
        task.files.close_on_exec[fd] = False
        return 0, b""
    if cmd == FIONBIO:
        return ioctl_fionbio(file, arg), b""
    if cmd == FIOQSIZE or cmd == FIOASYNC:
        return -ENOTTY, b""  # FIOASYNC: nothing here sends SIGIO
    return file.ioctl(task, cmd, arg)


def ioctl_fionbio(file: File, arg: bytes) -> int:
    if len(arg) < SIZEOF_INT:
        return -EFAULT
    if get_s32(arg, 0):
        file.f_flags |= O_NONBLOCK
    else:
        file.f_flags &= ~O_NONBLOCK
    return 0
