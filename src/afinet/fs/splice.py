"""fs/splice.c: data moved between files through pipes, by whole buffers, without passing through the program.

    do_splice       from pipe to pipe (splice_pipe_to_pipe), from a file to a pipe (File.splice_read), from a pipe to a file
                    (File.splice_write); one of the two is a pipe, always
    do_sendfile     a regular file to anything (do_splice_direct, over a pipe of its own), or to a pipe
    do_tee          buffers shared by two pipes
    do_vmsplice     the program's bytes as buffers

A try that has to wait leaves what it has moved in `iocb.ki_done`; both files are held meanwhile.

Left out: vmsplice from a pipe to memory (use read), SPLICE_F_MOVE and SPLICE_F_GIFT (hints that Linux ignores, too).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.fs.file import (
    FMODE_LSEEK,
    FMODE_PREAD,
    FMODE_PWRITE,
    FMODE_READ,
    FMODE_WRITE,
    File,
    fdget,
    fput_light,
    iocb_hold_out,
)
from afinet.fs.memfd import RegularFile
from afinet.fs.pipe import (
    PIPE_BUF_FLAG_CAN_MERGE,
    PipeBuffer,
    PipeFile,
    PipeInodeInfo,
    broken_pipe,
    wait_readable,
    wait_writable,
    wake_readers,
    wake_writers,
)
from afinet.kernel.page import PAGE_SIZE
from afinet.uapi.errno import EAGAIN, EBADF, EINVAL, EIOCBQUEUED, EOPNOTSUPP, ERESTARTSYS, ESPIPE
from afinet.uapi.fcntl import (
    O_APPEND,
    O_NONBLOCK,
    SPLICE_F_GIFT,
    SPLICE_F_MORE,
    SPLICE_F_MOVE,
    SPLICE_F_NONBLOCK,
)

if TYPE_CHECKING:
    from afinet.kernel.task import Task
    from afinet.kernel.wait import Kiocb

SPLICE_F_ALL: Final = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT
MAX_RW_COUNT: Final = 0x7FFFF000


# -- waiting at a pipe -----------------------------------------------------------------------------------------------------


def wait_for_data(pipe: PipeInodeInfo, iocb: Kiocb, flags: int) -> int:
    """1: there is something to take; 0: there never will be; or -errno."""
    if pipe.bufs:
        return 1
    if not pipe.writers:
        return 0
    if flags & SPLICE_F_NONBLOCK:
        return -EAGAIN
    if iocb.ki_signal:
        return -ERESTARTSYS
    return wait_readable(pipe, iocb)


def wait_for_space(pipe: PipeInodeInfo, iocb: Kiocb, flags: int) -> int:
    """0: a buffer is free; or -errno."""
    if not pipe.readers:
        return broken_pipe(pipe)
    if not pipe.full():
        return 0
    if flags & SPLICE_F_NONBLOCK:
        return -EAGAIN
    if iocb.ki_signal:
        return -ERESTARTSYS
    return wait_writable(pipe, iocb)


# -- the three directions --------------------------------------------------------------------------------------------------


def splice_file_to_pipe(in_: File, pipe: PipeInodeInfo, iocb: Kiocb, pos: int, count: int, flags: int) -> int:
    err = wait_for_space(pipe, iocb, flags)
    if err:
        return err
    room = (pipe.max_usage - len(pipe.bufs)) * PAGE_SIZE
    n = in_.splice_read(iocb, pipe, pos, min(count, room), flags)
    if n > 0:
        wake_readers(pipe)
    return n


def splice_from_pipe(pipe: PipeInodeInfo, out: File, iocb: Kiocb, pos: int, count: int, flags: int) -> int:
    """do_splice_from: all that was asked for, or what the pipe has if that is something."""
    if not out.can_splice_write():
        return -EINVAL
    while iocb.ki_done < count:
        done = iocb.ki_done
        if done and not pipe.bufs:
            return done
        n = wait_for_data(pipe, iocb, flags)
        if n > 0:
            was_full = pipe.full()
            n = out.splice_write(iocb, pipe, pos + done, count - done, flags)
            if was_full and not pipe.full():
                wake_writers(pipe)
        if n <= 0:
            return n if n == -EIOCBQUEUED else done or n
        iocb.ki_done = done + n
        iocb.ki_deadline = -1  # SO_SNDTIMEO is of one send
    return iocb.ki_done


def splice_pipe_to_pipe(ipipe: PipeInodeInfo, opipe: PipeInodeInfo, iocb: Kiocb, count: int, flags: int) -> int:
    err = wait_for_data(ipipe, iocb, flags)
    if err < 0:
        return err
    err = wait_for_space(opipe, iocb, flags)
    if err:
        return err
    was_full = ipipe.full()
    done = 0
    while done < count and ipipe.bufs and not opipe.full():
        buf = ipipe.bufs[0]
        if buf.len <= count - done:
            ipipe.bufs.popleft()
            opipe.bufs.append(buf)
            done += buf.len
        else:
            # The page is shared by two buffers from here on: no write goes on in it.
            part = count - done
            opipe.bufs.append(part_of(buf, part))
            buf.flags &= ~PIPE_BUF_FLAG_CAN_MERGE
            buf.offset += part
            buf.len -= part
            done = count
    if done:
        wake_readers(opipe)
    if was_full and not ipipe.full():
        wake_writers(ipipe)
    return done


def part_of(buf: PipeBuffer, count: int) -> PipeBuffer:
    """The first `count` bytes of a buffer, on the same page."""
    end = buf.offset + count
    page = buf.page if end == len(buf.page) else buf.page[:end]
    return PipeBuffer(page, buf.offset, count, buf.flags & ~PIPE_BUF_FLAG_CAN_MERGE)


# -- splice(2) -------------------------------------------------------------------------------------------------------------


def do_splice(
    iocb: Kiocb, in_: File, off_in: int | None, out: File, off_out: int | None, count: int, flags: int
) -> tuple[int, int | None, int | None]:
    """(bytes moved or -errno, the offsets after that). An offset that is None is the file's own."""
    if isinstance(in_, PipeFile) and off_in is not None:
        return -ESPIPE, off_in, off_out
    if isinstance(out, PipeFile) and off_out is not None:
        return -ESPIPE, off_in, off_out
    if not in_.f_mode & FMODE_READ or not out.f_mode & FMODE_WRITE:
        return -EBADF, off_in, off_out
    if isinstance(in_, PipeFile):
        if isinstance(out, PipeFile):
            if in_.pipe is out.pipe:
                return -EINVAL, None, None
            if (in_.f_flags | out.f_flags) & O_NONBLOCK:
                flags |= SPLICE_F_NONBLOCK
            return splice_pipe_to_pipe(in_.pipe, out.pipe, iocb, count, flags), None, None
        if off_out is not None and not out.f_mode & FMODE_PWRITE:
            return -EINVAL, None, off_out
        if out.f_flags & O_APPEND:
            return -EINVAL, None, off_out
        if in_.f_flags & O_NONBLOCK:
            flags |= SPLICE_F_NONBLOCK
        pos = off_out if off_out is not None else file_pos(out)
        if pos < 0:
            return -EINVAL, None, off_out
        n = splice_from_pipe(in_.pipe, out, iocb, pos, min(count, MAX_RW_COUNT), flags)
        return n, None, moved(out, off_out, pos, n)
    if isinstance(out, PipeFile):
        if off_in is not None and not in_.f_mode & FMODE_PREAD:
            return -EINVAL, off_in, None
        if out.f_flags & O_NONBLOCK:
            flags |= SPLICE_F_NONBLOCK
        pos = off_in if off_in is not None else file_pos(in_)
        if pos < 0:
            return -EINVAL, off_in, None
        n = splice_file_to_pipe(in_, out.pipe, iocb, pos, min(count, MAX_RW_COUNT), flags)
        return n, moved(in_, off_in, pos, n), None
    return -EINVAL, off_in, off_out


def file_pos(file: File) -> int:
    return file.f_pos if isinstance(file, RegularFile) else 0


def moved(file: File, offset: int | None, pos: int, n: int) -> int | None:
    """The position after `n` bytes from `pos` on: the caller's offset, or the file's own."""
    if n <= 0:
        return offset
    if offset is not None:
        return pos + n
    if isinstance(file, RegularFile):
        file.f_pos = pos + n
    return None


def two_files(task: Task, iocb: Kiocb, fd_in: int, fd_out: int) -> tuple[File | None, File | None]:
    """For a call that may wait on two files: those it holds since it waits, else those behind the numbers."""
    if iocb.ki_filp is not None:
        return iocb.ki_filp, iocb.ki_out
    return fdget(task.files, fd_in), fdget(task.files, fd_out)


def fput_two(iocb: Kiocb, in_: File, out: File, err: int) -> int:
    """fput_light for both."""
    if err == -EIOCBQUEUED:
        iocb_hold_out(iocb, out)
    return fput_light(iocb, in_, err)


def ksys_splice(
    task: Task, iocb: Kiocb, fd_in: int, off_in: int | None, fd_out: int, off_out: int | None, count: int, flags: int
) -> tuple[int, int | None, int | None]:
    if not count:
        return 0, off_in, off_out
    if flags & ~SPLICE_F_ALL or count < 0:
        return -EINVAL, off_in, off_out
    in_, out = two_files(task, iocb, fd_in, fd_out)
    if in_ is None or out is None:
        return -EBADF, off_in, off_out
    n, off_in, off_out = do_splice(iocb, in_, off_in, out, off_out, count, flags)
    return fput_two(iocb, in_, out, n), off_in, off_out


# -- tee(2), vmsplice(2) ---------------------------------------------------------------------------------------------------


def ksys_tee(task: Task, iocb: Kiocb, fd_in: int, fd_out: int, count: int, flags: int) -> int:
    if flags & ~SPLICE_F_ALL:
        return -EINVAL
    if not count:
        return 0
    if count < 0:
        return -EINVAL
    in_, out = two_files(task, iocb, fd_in, fd_out)
    if in_ is None or out is None:
        return -EBADF
    return fput_two(iocb, in_, out, do_tee(iocb, in_, out, count, flags))


def do_tee(iocb: Kiocb, in_: File, out: File, count: int, flags: int) -> int:
    if not in_.f_mode & FMODE_READ or not out.f_mode & FMODE_WRITE:
        return -EBADF
    if not isinstance(in_, PipeFile) or not isinstance(out, PipeFile) or in_.pipe is out.pipe:
        return -EINVAL
    if (in_.f_flags | out.f_flags) & O_NONBLOCK:
        flags |= SPLICE_F_NONBLOCK
    opipe = out.pipe
    err = wait_for_data(in_.pipe, iocb, flags)
    if err < 0:
        return err
    err = wait_for_space(opipe, iocb, flags)
    if err:
        return err
    done = 0
    for buf in in_.pipe.bufs:
        if done == count or opipe.full():
            break
        part = min(buf.len, count - done)
        opipe.bufs.append(part_of(buf, part))
        done += part
    wake_readers(opipe)
    return done


def ksys_vmsplice(task: Task, iocb: Kiocb, fd: int, data: bytes, flags: int) -> int:
    """The program's bytes into a pipe: as many as have room, a page a buffer."""
    if flags & ~SPLICE_F_ALL:
        return -EINVAL
    file = iocb.ki_filp
    if file is None:
        file = fdget(task.files, fd)
    if file is None:
        return -EBADF
    if not isinstance(file, PipeFile):
        return -EBADF
    if file.f_mode & FMODE_READ:
        return -EOPNOTSUPP
    if not data:
        return 0
    pipe = file.pipe
    err = wait_for_space(pipe, iocb, flags)
    if err:
        return fput_light(iocb, file, err)
    done = 0
    while done < len(data) and not pipe.full():
        page = data[done : done + PAGE_SIZE]
        pipe.bufs.append(PipeBuffer(page, 0, len(page), 0))
        done += len(page)
    wake_readers(pipe)
    return fput_light(iocb, file, done)


# -- sendfile(2) -----------------------------------------------------------------------------------------------------------


def do_splice_direct(task: Task, iocb: Kiocb, in_: File, pos: int, out: File, count: int) -> int:
    """From `in_` to `out` over a pipe of this call's own. That is made anew at every try: `in_` has positions, so that what was
    read and not written is read again."""
    if out.f_flags & O_APPEND:
        return -EINVAL
    if not in_.f_mode & FMODE_LSEEK:
        return -EINVAL  # what is read must not get lost
    pipe = PipeInodeInfo(task.kernel)
    out_pos = file_pos(out) - (iocb.ki_done if isinstance(out, RegularFile) else 0)
    while iocb.ki_done < count:
        done = iocb.ki_done
        if not pipe.bufs:
            n = in_.splice_read(iocb, pipe, pos + done, min(count - done, pipe.max_usage * PAGE_SIZE), 0)
            if n <= 0:
                if n == 0 and done:
                    out.splice_eof()
                return done or n
            more = SPLICE_F_MORE if n < count - done else 0
        n = out.splice_write(iocb, pipe, out_pos + done, pipe.size(), more)
        if n <= 0:
            return n if n == -EIOCBQUEUED else done or n
        iocb.ki_done = done + n
        iocb.ki_deadline = -1  # SO_SNDTIMEO is of one send
        if isinstance(out, RegularFile):
            out.f_pos = out_pos + iocb.ki_done
    return iocb.ki_done


def do_sendfile(task: Task, iocb: Kiocb, out: File, in_: File, offset: int | None, count: int) -> tuple[int, int | None]:
    """(bytes sent or -errno, the offset after that)."""
    if not in_.f_mode & FMODE_READ:
        return -EBADF, offset
    if offset is not None and not in_.f_mode & FMODE_PREAD:
        return -ESPIPE, offset
    pos = offset if offset is not None else file_pos(in_)
    if pos < 0 or count < 0:
        return -EINVAL, offset
    if not out.f_mode & FMODE_WRITE:
        return -EBADF, offset
    count = min(count, MAX_RW_COUNT)
    if isinstance(out, PipeFile):
        flags = SPLICE_F_NONBLOCK if out.f_flags & O_NONBLOCK else 0
        n = splice_file_to_pipe(in_, out.pipe, iocb, pos, count, flags)
    else:
        n = do_splice_direct(task, iocb, in_, pos, out, count)
    return n, moved(in_, offset, pos, n)


def ksys_sendfile(task: Task, iocb: Kiocb, out_fd: int, in_fd: int, offset: int | None, count: int) -> tuple[int, int | None]:
    in_, out = two_files(task, iocb, in_fd, out_fd)
    if in_ is None or out is None:
        return -EBADF, offset
    n, offset = do_sendfile(task, iocb, out, in_, offset, count)
    return fput_two(iocb, in_, out, n), offset
