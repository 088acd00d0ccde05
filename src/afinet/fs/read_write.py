"""fs/read_write.c: read and write at a position, and where that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.fs.file import FMODE_LSEEK, FMODE_PREAD, FMODE_PWRITE, FMODE_READ, FMODE_WRITE, fdget
from afinet.fs.memfd import RegularFile
from afinet.uapi.errno import EBADF, EINVAL, ESPIPE
from afinet.uapi.fcntl import SEEK_CUR, SEEK_END, SEEK_SET

if TYPE_CHECKING:
    from afinet.kernel.task import Task

LLONG_MAX: Final = (1 << 63) - 1


def ksys_lseek(task: Task, fd: int, offset: int, whence: int) -> int:
    """The new position, or -errno."""
    file = fdget(task.files, fd)
    if file is None:
        return -EBADF
    if not file.f_mode & FMODE_LSEEK or not isinstance(file, RegularFile):
        return -ESPIPE
    if whence == SEEK_SET:
        pos = offset
    elif whence == SEEK_CUR:
        pos = file.f_pos + offset
    elif whence == SEEK_END:
        pos = file.size() + offset
    else:
        return -EINVAL
    if pos < 0 or pos > LLONG_MAX:
        return -EINVAL
    file.f_pos = pos
    return pos


def ksys_pread64(task: Task, fd: int, count: int, pos: int) -> tuple[int, bytes]:
    if pos < 0:
        return -EINVAL, b""
    file = fdget(task.files, fd)
    if file is None:
        return -EBADF, b""
    if not file.f_mode & FMODE_PREAD or not isinstance(file, RegularFile):
        return -ESPIPE, b""
    if not file.f_mode & FMODE_READ:
        return -EBADF, b""
    if count < 0:
        return -EINVAL, b""
    data = file.read_at(pos, count)
    return len(data), data


def ksys_pwrite64(task: Task, fd: int, data: bytes, pos: int) -> int:
    if pos < 0:
        return -EINVAL
    file = fdget(task.files, fd)
    if file is None:
        return -EBADF
    if not file.f_mode & FMODE_PWRITE or not isinstance(file, RegularFile):
        return -ESPIPE
    if not file.f_mode & FMODE_WRITE:
        return -EBADF
    return file.write_at(pos, data)


def ksys_ftruncate(task: Task, fd: int, size: int) -> int:
    if size < 0:
        return -EINVAL
    file = fdget(task.files, fd)
    if file is None:
        return -EBADF
    if not isinstance(file, RegularFile) or not file.f_mode & FMODE_WRITE:
        return -EINVAL
    return file.truncate(size)
