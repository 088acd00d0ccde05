"""fs/pipe.c: pipes.

A pipe is a ring of buffers, each a page or less. How much goes in is counted in buffers: a write fills up the last one if all of
its odd bytes fit there, and takes new ones for the rest; so a write of up to PIPE_BUF bytes goes in whole or not at all, and a pipe
of pages with a byte each is full. splice and tee (fs/splice.py) move and share whole buffers.

Left out: FIFOs in a file system, SIGIO, notification pipes (O_NOTIFICATION_PIPE: -ENOPKG, as without CONFIG_WATCH_QUEUE), the
limits on the pages of one user (pipe-user-pages-*).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from afinet.fs.file import (
    FMODE_READ,
    File,
    close_fd_get_file,
    fd_install,
    fput_nowait,
    get_unused_fd_flags,
)
from afinet.kernel.page import PAGE_SIZE
from afinet.kernel.task import capable
from afinet.kernel.wait import Kiocb, WaitQueueHead, wake_up_poll
from afinet.uapi.capability import CAP_SYS_RESOURCE
from afinet.uapi.errno import EAGAIN, EBUSY, EINVAL, ENOPKG, ENOTTY, EPERM, EPIPE, ERESTARTSYS
from afinet.uapi.eventpoll import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDNORM, EPOLLWRNORM
from afinet.uapi.fcntl import (
    F_GETPIPE_SZ,
    O_CLOEXEC,
    O_DIRECT,
    O_NONBLOCK,
    O_NOTIFICATION_PIPE,
    O_RDONLY,
    O_WRONLY,
)
from afinet.uapi.sockaddr import pack_s32
from afinet.uapi.sockios import FIONREAD

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.kernel.task import Task
    from afinet.kernel.wait import Piece

PIPE_DEF_BUFFERS: Final = 16
PIPE_MAX_SIZE: Final = 1 << 20  # fs.pipe-max-size

PIPE_BUF_FLAG_PACKET: Final = 8  # O_DIRECT: a read takes this buffer, and what it does not want of it is gone
PIPE_BUF_FLAG_CAN_MERGE: Final = 16  # a write may go on in this buffer


class PipeBuffer:
    """struct pipe_buffer: `len` bytes of `page`, from `offset` on; `page` ends where they end."""

    __slots__ = ("flags", "len", "offset", "page")

    def __init__(self, page: bytes, offset: int, length: int, flags: int) -> None:
        self.page: bytes = page
        self.offset: int = offset
        self.len: int = length
        self.flags: int = flags


class PipeInodeInfo:
    """struct pipe_inode_info: the ring, and who is at its ends."""

    __slots__ = ("bufs", "kernel", "max_usage", "poll_usage", "rd_wait", "readers", "wr_wait", "writers")

    def __init__(self, kernel: Kernel) -> None:
        self.kernel: Kernel = kernel
        self.bufs: deque[PipeBuffer] = deque()
        self.max_usage: int = PIPE_DEF_BUFFERS  # how many buffers it may hold
        self.readers: int = 1
        self.writers: int = 1
        self.poll_usage: bool = False  # somebody polls: an edge-triggered epoll wants to hear of every write
        self.rd_wait: WaitQueueHead = WaitQueueHead()
        self.wr_wait: WaitQueueHead = WaitQueueHead()

    def full(self) -> bool:
        return len(self.bufs) >= self.max_usage

    def size(self) -> int:
        """Bytes to read (FIONREAD)."""
        total = 0
        for buf in self.bufs:
            total += buf.len
        return total


def wake_readers(pipe: PipeInodeInfo) -> None:
    wake_up_poll(pipe.rd_wait, EPOLLIN | EPOLLRDNORM)


def wake_writers(pipe: PipeInodeInfo) -> None:
    wake_up_poll(pipe.wr_wait, EPOLLOUT | EPOLLWRNORM)


def wait_readable(pipe: PipeInodeInfo, iocb: Kiocb) -> int:
    iocb.ki_state = 1
    return iocb.wait(pipe.rd_wait, EPOLLIN | EPOLLRDNORM, True)


def wait_writable(pipe: PipeInodeInfo, iocb: Kiocb) -> int:
    iocb.ki_state = 1
    return iocb.wait(pipe.wr_wait, EPOLLOUT | EPOLLWRNORM, True)


def broken_pipe(pipe: PipeInodeInfo) -> int:
    """A write that nobody can ever read: SIGPIPE and -EPIPE."""
    task = pipe.kernel.current
    if task is not None:
        task.sigpipe += 1
    return -EPIPE


def buf_take(buf: PipeBuffer, count: int) -> bytes:
    """The next `count` bytes, which are gone from the buffer then."""
    start = buf.offset
    buf.offset = start + count
    buf.len -= count
    if start == 0 and count == len(buf.page):
        return buf.page
    return buf.page[start : start + count]


class PipeFile(File):
    """One end: pipefifo_fops."""

    __slots__ = ("pipe",)

    def __init__(self, pipe: PipeInodeInfo, flags: int) -> None:
        super().__init__(flags)
        self.pipe: PipeInodeInfo = pipe

    def read(self, iocb: Kiocb, count: int) -> tuple[int, list[Piece]]:
        return pipe_read(self, iocb, count)

    def write(self, iocb: Kiocb, data: bytes) -> int:
        return pipe_write(self, iocb, data)

    def poll(self, queues: list[tuple[WaitQueueHead, int]] | None) -> int:
        pipe = self.pipe
        pipe.poll_usage = True
        mask = 0
        if self.f_mode & FMODE_READ:
            if queues is not None:
                queues.append((pipe.rd_wait, 0))
            if pipe.bufs:
                mask = EPOLLIN | EPOLLRDNORM
            if not pipe.writers:
                mask |= EPOLLHUP
        else:
            if queues is not None:
                queues.append((pipe.wr_wait, 0))
            if not pipe.full():
                mask = EPOLLOUT | EPOLLWRNORM
            # Most Unices do not set POLLERR here; Linux does.
            if not pipe.readers:
                mask |= EPOLLERR
        return mask

    def ioctl(self, task: Task, cmd: int, arg: bytes) -> tuple[int, bytes]:
        if cmd == FIONREAD:
            return 0, pack_s32(self.pipe.size())
        return -ENOTTY, b""

    def pipe_fcntl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd == F_GETPIPE_SZ:
            return self.pipe.max_usage * PAGE_SIZE
        return pipe_set_size(self.pipe, task, arg)

    def can_direct(self) -> bool:
        return True  # it means packets

    def release(self, iocb: Kiocb) -> int:
        pipe = self.pipe
        if self.f_mode & FMODE_READ:
            pipe.readers -= 1
        else:
            pipe.writers -= 1
        if (pipe.readers == 0) != (pipe.writers == 0):
            wake_up_poll(pipe.rd_wait, 0, 0)
            wake_up_poll(pipe.wr_wait, 0, 0)
        if not pipe.readers and not pipe.writers:
            pipe.bufs.clear()
        return 0


def pipe_read(file: PipeFile, iocb: Kiocb, count: int) -> tuple[int, list[Piece]]:
    if count == 0:
        return 0, []
    pipe = file.pipe
    pieces: list[Piece] = []
    left = count
    was_full = pipe.full()
    while pipe.bufs and left:
        buf = pipe.bufs[0]
        chars = min(buf.len, left)
        pieces.append(buf_take(buf, chars))
        left -= chars
        packet = buf.flags & PIPE_BUF_FLAG_PACKET != 0
        if packet or not buf.len:
            pipe.bufs.popleft()
        if packet:
            break
    if left == count:
        if pipe.bufs:
            return 0, []  # an empty packet cannot be written, but spliced
        if not pipe.writers:
            return 0, []
        if file.f_flags & O_NONBLOCK:
            return -EAGAIN, []
        if iocb.ki_signal:
            return -ERESTARTSYS, []
        return wait_readable(pipe, iocb), []
    if was_full and not pipe.full():
        wake_writers(pipe)
    if iocb.ki_state and pipe.bufs:
        wake_readers(pipe)  # this reader used up a wake-up, and there is more
    return count - left, pieces


def pipe_write(file: PipeFile, iocb: Kiocb, data: bytes) -> int:
    """A blocking write goes on until all is in; its progress is `iocb.ki_done`."""
    total = len(data)
    if total == 0:
        return 0
    pipe = file.pipe
    done = iocb.ki_done
    if not pipe.readers:
        err = broken_pipe(pipe)
        return done or err
    was_empty = not pipe.bufs
    if iocb.ki_state == 0 and not was_empty:
        chars = total % PAGE_SIZE
        last = pipe.bufs[-1]
        if chars and last.flags & PIPE_BUF_FLAG_CAN_MERGE and last.offset + last.len + chars <= PAGE_SIZE:
            last.page = last.page + data[:chars]
            last.len += chars
            done = chars
    flags = PIPE_BUF_FLAG_PACKET if file.f_flags & O_DIRECT else PIPE_BUF_FLAG_CAN_MERGE
    while done < total and not pipe.full():
        page = data[done : done + PAGE_SIZE] if done or total > PAGE_SIZE else data
        pipe.bufs.append(PipeBuffer(page, 0, len(page), flags))
        done += len(page)
    moved = done - iocb.ki_done
    iocb.ki_done = done
    if moved and (was_empty or pipe.poll_usage):
        wake_readers(pipe)
    if done == total:
        if iocb.ki_state and not pipe.full():
            wake_writers(pipe)
        return total
    if file.f_flags & O_NONBLOCK:
        return done or -EAGAIN
    if iocb.ki_signal:
        return done or -ERESTARTSYS
    return wait_writable(pipe, iocb)


def round_pipe_size(size: int) -> int:
    """How big a pipe is that is asked to have `size` bytes; 0 if none can be."""
    if size > 1 << 31:
        return 0
    return 1 << (max(size, PAGE_SIZE) - 1).bit_length()


def pipe_set_size(pipe: PipeInodeInfo, task: Task, arg: int) -> int:
    size = round_pipe_size(arg & 0xFFFFFFFF)
    slots = size // PAGE_SIZE
    if slots == 0:
        return -EINVAL
    if slots > pipe.max_usage and size > PIPE_MAX_SIZE and not capable(task, CAP_SYS_RESOURCE):
        return -EPERM
    if slots < len(pipe.bufs):
        return -EBUSY
    was_full = pipe.full()
    pipe.max_usage = slots
    if was_full and not pipe.full():
        wake_writers(pipe)
    return size


def do_pipe2(task: Task, flags: int) -> tuple[int, int, int]:
    """pipe2(2): (0, the end to read, the end to write) or (-errno, -1, -1)."""
    if flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT | O_NOTIFICATION_PIPE):
        return -EINVAL, -1, -1
    if flags & O_NOTIFICATION_PIPE:
        return -ENOPKG, -1, -1
    pipe = PipeInodeInfo(task.kernel)
    cloexec = flags & O_CLOEXEC != 0
    fd_read = get_unused_fd_flags(task, flags)
    if fd_read < 0:
        return fd_read, -1, -1
    fd_install(task.files, fd_read, PipeFile(pipe, O_RDONLY | flags & O_NONBLOCK), cloexec)
    fd_write = get_unused_fd_flags(task, flags)
    if fd_write < 0:
        file = close_fd_get_file(task.files, fd_read)
        if file is not None:
            fput_nowait(file)
        return fd_write, -1, -1
    fd_install(task.files, fd_write, PipeFile(pipe, O_WRONLY | flags & (O_NONBLOCK | O_DIRECT)), cloexec)
    return 0, fd_read, fd_write


