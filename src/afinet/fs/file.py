"""fs/file.c, fs/file_table.c, fs/open.c, fs/fcntl.c: struct file, the table of descriptors, and what is done to both.

A descriptor is an index into `FilesStruct.fd`; the file behind it lives until its last reference is dropped (`fput`), which
releases it. `close_fd_get_file` frees the number first, the caller then drops the file: a close() that has to wait (SO_LINGER)
waits on a file that nobody can reach by number any more.

Who waits in a call holds the file (`Kiocb.ki_filp`), as fdget() does: a close() in another thread neither wakes nor ends that call.

Left out: paths, locks, leases, ownership for SIGIO (O_ASYNC is refused by F_SETFL's mask).
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from afinet._mypyc import i16, i32, mypyc_attr
from afinet.kernel.wait import Kiocb
from afinet.uapi.errno import EBADF, EINVAL, EIOCBQUEUED, EMFILE, ENOTTY
from afinet.uapi.eventpoll import POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM
from afinet.uapi.fcntl import (
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_GETPIPE_SZ,
    F_SETFD,
    F_SETFL,
    F_SETPIPE_SZ,
    FD_CLOEXEC,
    O_ACCMODE,
    O_APPEND,
    O_CLOEXEC,
    O_DIRECT,
    O_NONBLOCK,
    O_RDONLY,
    O_WRONLY,
)

if TYPE_CHECKING:
    from afinet.fs.pipe import PipeInodeInfo
    from afinet.kernel.task import Task
    from afinet.kernel.wait import Piece, WaitQueueHead

FMODE_READ: Final = 1
FMODE_WRITE: Final = 2
FMODE_LSEEK: Final = 4
FMODE_PREAD: Final = 8
FMODE_PWRITE: Final = 0x10

DEFAULT_POLLMASK: Final = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM
SETFL_MASK: Final = O_APPEND | O_NONBLOCK | O_DIRECT  # of Linux's also O_NOATIME and O_ASYNC, which mean nothing here

# A table starts at 3, as in a process whose standard streams are somebody else's.
FIRST_FD: Final = 3


class FileLink:
    """Something that knows a file without holding it (an epitem on `f_ep`), and has to let go of it when it ends."""

    __slots__ = ()

    def file_released(self) -> None:
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class File:
    """struct file and its operations. Errors are -errno; what must wait answers -EIOCBQUEUED as its iocb says."""

    __slots__ = ("f_count", "f_ep", "f_flags", "f_mode")

    def __init__(self, flags: int) -> None:
        self.f_flags: i32 = flags
        self.f_count: i32 = 1
        self.f_ep: list[FileLink] | None = None  # the epolls that watch this file (fs/eventpoll.py); never an empty list
        accmode = flags & O_ACCMODE
        if accmode == O_RDONLY:
            self.f_mode: i16 = FMODE_READ
        elif accmode == O_WRONLY:
            self.f_mode = FMODE_WRITE
        else:
            self.f_mode = FMODE_READ | FMODE_WRITE

    def read(self, iocb: Kiocb, count: int) -> tuple[int, list[Piece]]:
        """Up to `count` bytes, as pieces. (number or -errno, pieces)."""
        return -EINVAL, []

    def write(self, iocb: Kiocb, data: bytes) -> int:
        """How many bytes were taken, or -errno."""
        return -EINVAL

    def poll(self, queues: list[tuple[WaitQueueHead, int]] | None) -> int:
        """The poll mask now. Before looking, append to `queues` the wait queues that will tell of a change, each with the events
        that it tells of, 0 for all. None: nobody is going to wait."""
        return DEFAULT_POLLMASK

    def splice_read(self, iocb: Kiocb, pipe: PipeInodeInfo, pos: int, count: int, flags: int) -> int:
        """Move up to `count` bytes from here (from `pos`, where that means anything) to the free buffers of `pipe`. How many, 0 at
        the end, or -errno."""
        return -EINVAL

    def can_splice_write(self) -> bool:
        """Whether splice_write is there."""
        return False

    def splice_write(self, iocb: Kiocb, pipe: PipeInodeInfo, pos: int, count: int, flags: int) -> int:
        """Move up to `count` bytes from `pipe` here. How many, or -errno."""
        return -EINVAL

    def splice_eof(self) -> None:
        """Nothing follows what was spliced here with SPLICE_F_MORE."""

    def can_direct(self) -> bool:
        """Whether O_DIRECT may be set."""
        return False

    def pipe_fcntl(self, task: Task, cmd: int, arg: int) -> int:
        """F_GETPIPE_SZ and F_SETPIPE_SZ."""
        return -EBADF

    def can_poll(self) -> bool:
        """Whether readiness means anything: that of a regular file does not, and epoll refuses it."""
        return True

    def ioctl(self, task: Task, cmd: int, arg: bytes) -> tuple[int, bytes]:
        """(0, a number, or -errno; what is written back to `arg`)."""
        return -ENOTTY, b""

    def release(self, iocb: Kiocb) -> int:
        """The last reference is gone. 0, or -EIOCBQUEUED to be called again."""
        return 0


class FilesStruct:
    """struct files_struct. The lowest free number is always given: freed ones wait in a heap, above all of them is `max_fd`."""

    __slots__ = ("close_on_exec", "count", "fd", "free")

    def __init__(self) -> None:
        self.fd: list[File | None] = [None] * FIRST_FD
        self.close_on_exec: list[bool] = [False] * FIRST_FD
        self.free: list[int] = []  # heap; exactly the free numbers in [FIRST_FD, len(fd))
        self.count: int = 0  # tasks that share the table


# -- files -----------------------------------------------------------------------------------------------------------------


def get_file(file: File) -> File:
    file.f_count += 1
    return file


def fput(file: File, iocb: Kiocb) -> int:
    """Drop a reference; the last one releases the file. 0, or -EIOCBQUEUED: then call `file.release(iocb)` again."""
    file.f_count -= 1
    if file.f_count:
        return 0
    links = file.f_ep
    if links is not None:
        for link in links[:]:
            link.file_released()
    return file.release(iocb)


def fput_nowait(file: File) -> None:
    """Drop a reference where nobody can wait. What release would have waited for goes on without a waiter, as after a signal."""
    iocb = Kiocb()
    iocb.ki_signal = True
    err = fput(file, iocb)
    assert err != -EIOCBQUEUED, "release() waits in spite of a signal"


def fdget(files: FilesStruct, fd: int) -> File | None:
    """The file, without a reference of one's own: good until this call returns to its runner."""
    if fd < 0 or fd >= len(files.fd):
        return None
    return files.fd[fd]


def iocb_hold(iocb: Kiocb, file: File) -> None:
    """A call is about to wait: keep its file, once."""
    if iocb.ki_filp is None:
        file.f_count += 1
        iocb.ki_filp = file


def iocb_hold_out(iocb: Kiocb, file: File) -> None:
    """The same for the other file of a call on two."""
    if iocb.ki_out is None:
        file.f_count += 1
        iocb.ki_out = file


def iocb_release(iocb: Kiocb) -> None:
    """The call is over, or is given up: drop what it held while it waited."""
    out = iocb.ki_out
    if out is not None:
        iocb.ki_out = None
        fput_nowait(out)
    file = iocb.ki_filp
    if file is not None:
        iocb.ki_filp = None
        if file.f_count == 0:
            file.f_count = 1  # a close() that lingered
        fput_nowait(file)


def fput_light(iocb: Kiocb, file: File, err: int) -> int:
    """The end of a try: keep the file if the call is going to wait, let it go if it is over. Returns `err`."""
    if err == -EIOCBQUEUED:
        iocb_hold(iocb, file)
    elif iocb.ki_filp is not None:
        iocb_release(iocb)
    return err


# -- descriptors -----------------------------------------------------------------------------------------------------------


def has_unused_fd(files: FilesStruct, rlimit: int) -> bool:
    """Whether get_unused_fd_flags would find a number."""
    lowest = files.free[0] if files.free else len(files.fd)
    return lowest < rlimit


def alloc_fd(files: FilesStruct, start: int, rlimit: int) -> int:
    """The lowest free number from `start` on, below `rlimit`, or -EMFILE. It stays free until fd_install."""
    size = len(files.fd)
    if not files.free:
        fd = start if start > size else size
    elif start <= files.free[0]:
        fd = files.free[0]
    else:
        fd = start
        while fd < size and files.fd[fd] is not None:
            fd += 1
    return fd if fd < rlimit else -EMFILE


def fd_install(files: FilesStruct, fd: int, file: File, cloexec: bool) -> None:
    """Put `file` behind `fd`, which is free. The table takes over the caller's reference."""
    size = len(files.fd)
    if fd >= size:
        while size < fd:
            files.fd.append(None)
            files.close_on_exec.append(False)
            if size >= FIRST_FD:
                heappush(files.free, size)
            size += 1
        files.fd.append(file)
        files.close_on_exec.append(cloexec)
        return
    if fd >= FIRST_FD:
        if files.free[0] == fd:
            heappop(files.free)
        else:
            # dup2() or F_DUPFD into a hole that is not the lowest: rare, so the heap is mended by hand
            files.free.remove(fd)
            files.free.sort()
    files.fd[fd] = file
    files.close_on_exec[fd] = cloexec


def get_unused_fd_flags(task: Task, flags: int) -> int:
    """The number that fd_install(…) is going to use. Unlike Linux it is not reserved: nothing runs between the two."""
    return alloc_fd(task.files, FIRST_FD, task.rlimit_nofile)


def close_fd_get_file(files: FilesStruct, fd: int) -> File | None:
    """Free the number and hand out the file, with the table's reference. None: there is none (-EBADF)."""
    if fd < 0 or fd >= len(files.fd):
        return None
    file = files.fd[fd]
    if file is None:
        return None
    files.fd[fd] = None
    files.close_on_exec[fd] = False
    if fd >= FIRST_FD:
        heappush(files.free, fd)
    return file


def filp_close(iocb: Kiocb, files: FilesStruct, fd: int) -> int:
    """close(2): called first with a fresh iocb, then again while it answers -EIOCBQUEUED."""
    file = iocb.ki_filp
    if file is None:
        file = close_fd_get_file(files, fd)
        if file is None:
            return -EBADF
        err = fput(file, iocb)
    else:
        err = file.release(iocb)
    if err == -EIOCBQUEUED:
        iocb.ki_filp = file  # not a reference: the file is ours alone, and on its way out
        return err
    iocb.ki_filp = None
    return 0


def do_close_on_exec(files: FilesStruct) -> None:
    """execve(2): close what is marked."""
    for fd in range(len(files.fd)):
        if files.close_on_exec[fd]:
            file = close_fd_get_file(files, fd)
            if file is not None:
                fput_nowait(file)


def exit_files(task: Task) -> None:
    """The task ends: drop the table, and with its last user every file. SO_LINGER does not delay an exit."""
    files = task.files
    files.count -= 1
    if files.count > 0:
        return
    for fd in range(len(files.fd)):
        file = close_fd_get_file(files, fd)
        if file is not None:
            fput_nowait(file)


def dup_fd(files: FilesStruct) -> FilesStruct:
    """fork(2): a table of its own with the same files."""
    new = FilesStruct()
    new.fd = files.fd[:]
    new.close_on_exec = files.close_on_exec[:]
    new.free = files.free[:]
    for file in new.fd:
        if file is not None:
            file.f_count += 1
    return new


def ksys_dup(task: Task, fd: int) -> int:
    file = fdget(task.files, fd)
    if file is None:
        return -EBADF
    return f_dupfd(task, FIRST_FD, file, False)


def f_dupfd(task: Task, start: int, file: File, cloexec: bool) -> int:
    if start < 0 or start >= task.rlimit_nofile:
        return -EINVAL
    fd = alloc_fd(task.files, start, task.rlimit_nofile)
    if fd >= 0:
        fd_install(task.files, fd, get_file(file), cloexec)
    return fd


def ksys_dup3(task: Task, oldfd: int, newfd: int, flags: int) -> int:
    """dup3(2); what was open behind `newfd` is closed, without a word as in Linux, and without SO_LINGER's wait."""
    if flags & ~O_CLOEXEC:
        return -EINVAL
    if oldfd == newfd:
        return -EINVAL
    if newfd < 0 or newfd >= task.rlimit_nofile:
        return -EBADF
    file = fdget(task.files, oldfd)
    if file is None:
        return -EBADF
    get_file(file)
    tofree = close_fd_get_file(task.files, newfd)
    fd_install(task.files, newfd, file, flags & O_CLOEXEC != 0)
    if tofree is not None:
        fput_nowait(tofree)
    return newfd


def ksys_dup2(task: Task, oldfd: int, newfd: int) -> int:
    if oldfd == newfd:
        return oldfd if fdget(task.files, oldfd) is not None else -EBADF
    return ksys_dup3(task, oldfd, newfd, 0)


def setfl(file: File, arg: int) -> int:
    if arg & O_DIRECT and not file.can_direct():
        return -EINVAL
    file.f_flags = arg & SETFL_MASK | file.f_flags & ~SETFL_MASK
    return 0


def do_fcntl(task: Task, fd: int, cmd: int, arg: int) -> int:
    """fcntl(2): a number, 0, or -errno."""
    files = task.files
    file = fdget(files, fd)
    if file is None:
        return -EBADF
    if cmd == F_DUPFD:
        return f_dupfd(task, arg, file, False)
    if cmd == F_DUPFD_CLOEXEC:
        return f_dupfd(task, arg, file, True)
    if cmd == F_GETFD:
        return FD_CLOEXEC if files.close_on_exec[fd] else 0
    if cmd == F_SETFD:
        files.close_on_exec[fd] = arg & FD_CLOEXEC != 0
        return 0
    if cmd == F_GETFL:
        return file.f_flags
    if cmd == F_SETFL:
        return setfl(file, arg)
    if cmd == F_GETPIPE_SZ or cmd == F_SETPIPE_SZ:
        return file.pipe_fcntl(task, cmd, arg)
    return -EINVAL
