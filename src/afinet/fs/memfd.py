"""mm/memfd.c and mm/shmem.c: regular files, of which a machine here has those that live in memory.

`RegularFile` is what read, write, lseek and sendfile know of a regular file: bytes at positions. `memfd_create` makes one that
keeps them itself; a runner may have others (stdlib/os.py shows the host's files so).

Left out: names and directories, sealing, huge pages, memfd_create's MFD_ALLOW_SEALING and its execute bits (-EINVAL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.fs.file import FMODE_LSEEK, FMODE_PREAD, FMODE_PWRITE, File, fd_install, get_unused_fd_flags
from afinet.fs.pipe import PipeBuffer, PipeInodeInfo, buf_take
from afinet.kernel.page import PAGE_SIZE
from afinet.uapi.errno import EINVAL, ENOSPC
from afinet.uapi.fcntl import MFD_CLOEXEC, O_APPEND, O_LARGEFILE, O_RDWR

if TYPE_CHECKING:
    from afinet.kernel.task import Task
    from afinet.kernel.wait import Kiocb, Piece

# What is written far behind the end takes memory for all that lies before: none is larger than this, as on a tmpfs with a size.
MAX_SIZE: Final = 1 << 30


@mypyc_attr(allow_interpreted_subclasses=True)
class RegularFile(File):
    """A file with positions. Override the last four."""

    __slots__ = ("f_pos",)

    def __init__(self, flags: int) -> None:
        super().__init__(flags | O_LARGEFILE)
        self.f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE
        self.f_pos: int = 0

    def can_poll(self) -> bool:
        return False

    def read(self, iocb: Kiocb, count: int) -> tuple[int, list[Piece]]:
        data = self.read_at(self.f_pos, count)
        self.f_pos += len(data)
        return len(data), [data] if data else []

    def write(self, iocb: Kiocb, data: bytes) -> int:
        if self.f_flags & O_APPEND:
            self.f_pos = self.size()
        n = self.write_at(self.f_pos, data)
        if n > 0:
            self.f_pos += n
        return n

    def splice_read(self, iocb: Kiocb, pipe: PipeInodeInfo, pos: int, count: int, flags: int) -> int:
        """Page by page, as the page cache has them."""
        done = 0
        while done < count and not pipe.full():
            data = self.read_at(pos + done, min(PAGE_SIZE - (pos + done) % PAGE_SIZE, count - done))
            if not data:
                break
            pipe.bufs.append(PipeBuffer(data, 0, len(data), 0))
            done += len(data)
        return done

    def can_splice_write(self) -> bool:
        return True

    def splice_write(self, iocb: Kiocb, pipe: PipeInodeInfo, pos: int, count: int, flags: int) -> int:
        done = 0
        while done < count and pipe.bufs:
            buf = pipe.bufs[0]
            chars = min(buf.len, count - done)
            n = self.write_at(pos + done, buf.page[buf.offset : buf.offset + chars])
            if n < 0:
                return done or n
            buf_take(buf, chars)
            if not buf.len:
                pipe.bufs.popleft()
            done += n
        return done

    def size(self) -> int:
        raise NotImplementedError

    def read_at(self, pos: int, count: int) -> bytes:
        """Up to `count` bytes; fewer at the end of the file only."""
        raise NotImplementedError

    def write_at(self, pos: int, data: bytes) -> int:
        """len(data), or -errno."""
        raise NotImplementedError

    def truncate(self, size: int) -> int:
        """0, or -errno."""
        raise NotImplementedError


class MemFile(RegularFile):
    """A memfd."""

    __slots__ = ("content",)

    def __init__(self, flags: int) -> None:
        super().__init__(flags)
        self.content: bytearray = bytearray()

    def size(self) -> int:
        return len(self.content)

    def read_at(self, pos: int, count: int) -> bytes:
        return bytes(self.content[pos : pos + count])

    def write_at(self, pos: int, data: bytes) -> int:
        if not data:
            return 0
        if pos + len(data) > MAX_SIZE:
            return -ENOSPC
        if pos > len(self.content):
            self.content.extend(bytes(pos - len(self.content)))
        self.content[pos : pos + len(data)] = data
        return len(data)

    def truncate(self, size: int) -> int:
        if size > MAX_SIZE:
            return -ENOSPC
        if size > len(self.content):
            self.content.extend(bytes(size - len(self.content)))
        else:
            del self.content[size:]
        return 0


def do_memfd_create(task: Task, flags: int) -> int:
    """memfd_create(2), without the name. A descriptor or -errno."""
    if flags & ~MFD_CLOEXEC:
        return -EINVAL
    fd = get_unused_fd_flags(task, flags)
    if fd >= 0:
        fd_install(task.files, fd, MemFile(O_RDWR), flags & MFD_CLOEXEC != 0)
    return fd
