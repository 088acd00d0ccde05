"""The system calls of a Task: raw integers and bytes in, a number or -errno out; they never sleep.

A call that takes a Kiocb and answers -EIOCBQUEUED waits: its caller waits as the Kiocb says (kernel/wait.py) and calls again with
the same arguments and Kiocb until another answer comes. To interrupt a waiting call set `ki_signal` and call again; to give one
up without an answer, `abandon` it. Lists of bytes are pieces, in order, shared with the stack.

`Kernel.current` is the calling task from entry to exit; softirqs raised in the call run at the exit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.fs import eventpoll, ioctl, memfd, pipe, read_write, select, splice
from afinet.fs import file as fs_file
from afinet.fs.file import FMODE_READ, FMODE_WRITE, fdget, fput_light, iocb_release
from afinet.init import fork
from afinet.init.fork import CLONE_NEWNET
from afinet.kernel.softirq import do_softirq
from afinet.net import socket
from afinet.net.core.net_namespace import copy_net_ns
from afinet.uapi.capability import CAP_SYS_ADMIN
from afinet.uapi.errno import EBADF, EINTR, EINVAL, EPERM, ERESTARTSYS

if TYPE_CHECKING:
    from afinet.fs.file import File
    from afinet.kernel.task import Task
    from afinet.kernel.wait import Kiocb, KiocbVec, Piece


def syscall_enter(task: Task) -> None:
    kernel = task.kernel
    kernel.current = task
    kernel.current_memcg = task.memcg


def syscall_exit(task: Task, ret: int) -> int:
    """Run the softirqs that the call raised; a call to be restarted after a signal is an interrupted one outside."""
    kernel = task.kernel
    kernel.current = None
    kernel.current_memcg = None
    if kernel.softirq_pending:
        do_softirq(kernel)
    return -EINTR if ret == -ERESTARTSYS else ret


def abandon(iocb: Kiocb) -> None:
    """The caller will not call again: let go of what the waiting call holds."""
    iocb_release(iocb)


# -- sockets ---------------------------------------------------------------------------------------------------------------


def sys_socket(task: Task, family: int, type: int, protocol: int) -> int:
    """A descriptor or -errno."""
    syscall_enter(task)
    return syscall_exit(task, socket.__sys_socket(task, family, type, protocol))


def sys_socketpair(task: Task, family: int, type: int, protocol: int) -> tuple[int, int, int]:
    """(0, fd, fd) or (-errno, -1, -1)."""
    syscall_enter(task)
    err, fd1, fd2 = socket.__sys_socketpair(task, family, type, protocol)
    return syscall_exit(task, err), fd1, fd2


def sys_bind(task: Task, fd: int, addr: bytes) -> int:
    syscall_enter(task)
    return syscall_exit(task, socket.__sys_bind(task, fd, addr))


def sys_connect(task: Task, iocb: Kiocb, fd: int, addr: bytes) -> int:
    syscall_enter(task)
    return syscall_exit(task, socket.__sys_connect(task, iocb, fd, addr))


def sys_listen(task: Task, fd: int, backlog: int) -> int:
    syscall_enter(task)
    return syscall_exit(task, socket.__sys_listen(task, fd, backlog))


def sys_accept4(task: Task, iocb: Kiocb, fd: int, flags: int) -> tuple[int, bytes]:
    """(descriptor or -errno, the peer's address)."""
    syscall_enter(task)
    ret, addr = socket.__sys_accept4(task, iocb, fd, flags)
    return syscall_exit(task, ret), addr


def sys_accept(task: Task, iocb: Kiocb, fd: int) -> tuple[int, bytes]:
    return sys_accept4(task, iocb, fd, 0)


def sys_getsockname(task: Task, fd: int) -> tuple[int, bytes]:
    """(0, address) or (-errno, b"")."""
    syscall_enter(task)
    err, addr = socket.__sys_getsockname(task, fd)
    return syscall_exit(task, err), addr


def sys_getpeername(task: Task, fd: int) -> tuple[int, bytes]:
    syscall_enter(task)
    err, addr = socket.__sys_getpeername(task, fd)
    return syscall_exit(task, err), addr


def sys_sendto(task: Task, iocb: Kiocb, fd: int, data: bytes, flags: int, addr: bytes) -> int:
    """How many bytes were taken, or -errno. `addr` is b"" for none."""
    syscall_enter(task)
    return syscall_exit(task, socket.__sys_sendto(task, iocb, fd, data, flags, addr))


def sys_recvfrom(task: Task, iocb: Kiocb, fd: int, size: int, flags: int) -> tuple[int, list[Piece], bytes]:
    """(number of bytes or -errno, the bytes, the sender's address or b""). With MSG_TRUNC the number may exceed the bytes."""
    syscall_enter(task)
    n, pieces, addr = socket.__sys_recvfrom(task, iocb, fd, size, flags)
    return syscall_exit(task, n), pieces, addr


def sys_sendmsg(task: Task, iocb: Kiocb, fd: int, data: bytes, control: bytes, flags: int, addr: bytes) -> int:
    """As sys_sendto, with packed control messages."""
    syscall_enter(task)
    return syscall_exit(task, socket.__sys_sendmsg(task, iocb, fd, data, control, flags, addr))


def sys_recvmsg(
    task: Task, iocb: Kiocb, fd: int, size: int, controllen: int, flags: int
) -> tuple[int, list[Piece], bytes, int, bytes]:
    """(number or -errno, the bytes, control messages within `controllen` bytes, msg_flags, the sender's address)."""
    syscall_enter(task)
    n, pieces, control, msg_flags, addr = socket.__sys_recvmsg(task, iocb, fd, size, controllen, flags)
    return syscall_exit(task, n), pieces, control, msg_flags, addr


def sys_sendmmsg(
    task: Task, iocb: KiocbVec, fd: int, messages: list[tuple[bytes, bytes, bytes]], flags: int
) -> tuple[int, list[int]]:
    """`messages` are (data, control messages, address), at most 1024 of them are looked at. (how many were sent, the bytes of
    each) or (-errno, [])."""
    syscall_enter(task)
    n, sent = socket.__sys_sendmmsg(task, iocb, fd, messages, flags)
    return syscall_exit(task, n), sent


def sys_recvmmsg(
    task: Task, iocb: KiocbVec, fd: int, vec: list[tuple[int, int]], flags: int, timeout: int
) -> tuple[int, list[tuple[int, list[Piece], bytes, int, bytes]], int]:
    """`vec` are (size, room for control messages), `timeout` is in ns, -1 for none. (how many came or -errno, what sys_recvmsg
    answers for each, what is left of the time)."""
    syscall_enter(task)
    n, left = socket.__sys_recvmmsg(task, iocb, fd, vec, flags, timeout)
    return syscall_exit(task, n), iocb.kv_received, left


def sys_shutdown(task: Task, fd: int, how: int) -> int:
    syscall_enter(task)
    return syscall_exit(task, socket.__sys_shutdown(task, fd, how))


def sys_setsockopt(task: Task, fd: int, level: int, optname: int, optval: bytes) -> int:
    syscall_enter(task)
    return syscall_exit(task, socket.__sys_setsockopt(task, fd, level, optname, optval))


def sys_getsockopt(task: Task, fd: int, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
    """(0, value) or (-errno, b"")."""
    syscall_enter(task)
    err, value = socket.__sys_getsockopt(task, fd, level, optname, optlen)
    return syscall_exit(task, err), value


# -- files -----------------------------------------------------------------------------------------------------------------


def sys_read(task: Task, iocb: Kiocb, fd: int, count: int) -> tuple[int, list[Piece]]:
    """(number of bytes or -errno, the bytes)."""
    file = iocb.ki_filp
    if file is None:
        file = fdget(task.files, fd)
        if file is None or not file.f_mode & FMODE_READ:
            return -EBADF, []
    if count < 0:
        return -EINVAL, []
    syscall_enter(task)
    n, pieces = file.read(iocb, count)
    return syscall_exit(task, fput_light(iocb, file, n)), pieces


def sys_write(task: Task, iocb: Kiocb, fd: int, data: bytes) -> int:
    """How many bytes were taken, or -errno."""
    file = iocb.ki_filp
    if file is None:
        file = fdget(task.files, fd)
        if file is None or not file.f_mode & FMODE_WRITE:
            return -EBADF
    syscall_enter(task)
    return syscall_exit(task, fput_light(iocb, file, file.write(iocb, data)))


def sys_pread64(task: Task, fd: int, count: int, pos: int) -> tuple[int, bytes]:
    return read_write.ksys_pread64(task, fd, count, pos)


def sys_pwrite64(task: Task, fd: int, data: bytes, pos: int) -> int:
    return read_write.ksys_pwrite64(task, fd, data, pos)


def sys_lseek(task: Task, fd: int, offset: int, whence: int) -> int:
    return read_write.ksys_lseek(task, fd, offset, whence)


def sys_ftruncate(task: Task, fd: int, size: int) -> int:
    return read_write.ksys_ftruncate(task, fd, size)


def sys_memfd_create(task: Task, name: str, flags: int) -> int:
    """A regular file in memory, which nothing else here is: a descriptor or -errno. The name is seen nowhere."""
    return memfd.do_memfd_create(task, flags)


def sys_pipe2(task: Task, flags: int) -> tuple[int, int, int]:
    """(0, the descriptor to read, the one to write) or (-errno, -1, -1)."""
    return pipe.do_pipe2(task, flags)


def sys_splice(
    task: Task, iocb: Kiocb, fd_in: int, off_in: int | None, fd_out: int, off_out: int | None, size: int, flags: int
) -> tuple[int, int | None, int | None]:
    """(bytes moved or -errno, what the offsets become)."""
    syscall_enter(task)
    n, off_in, off_out = splice.ksys_splice(task, iocb, fd_in, off_in, fd_out, off_out, size, flags)
    return syscall_exit(task, n), off_in, off_out


def sys_tee(task: Task, iocb: Kiocb, fd_in: int, fd_out: int, size: int, flags: int) -> int:
    syscall_enter(task)
    return syscall_exit(task, splice.ksys_tee(task, iocb, fd_in, fd_out, size, flags))


def sys_vmsplice(task: Task, iocb: Kiocb, fd: int, data: bytes, flags: int) -> int:
    syscall_enter(task)
    return syscall_exit(task, splice.ksys_vmsplice(task, iocb, fd, data, flags))


def sys_sendfile(
    task: Task, iocb: Kiocb, out_fd: int, in_fd: int, offset: int | None, count: int
) -> tuple[int, int | None]:
    """(bytes sent or -errno, what the offset becomes)."""
    syscall_enter(task)
    n, offset = splice.ksys_sendfile(task, iocb, out_fd, in_fd, offset, count)
    return syscall_exit(task, n), offset


def sys_sendfile_from(task: Task, iocb: Kiocb, out_fd: int, in_: File, offset: int, count: int) -> int:
    """sendfile(2) from a file that is in no table: what a runner makes of a file of the host. Bytes sent, or -errno."""
    out = iocb.ki_filp
    if out is None:
        out = fdget(task.files, out_fd)
        if out is None:
            return -EBADF
    syscall_enter(task)
    n, _ = splice.do_sendfile(task, iocb, out, in_, offset, count)
    return syscall_exit(task, fput_light(iocb, out, n))


def sys_close(task: Task, iocb: Kiocb, fd: int) -> int:
    """The descriptor is free after the first call, whatever it answers; SO_LINGER may make the call wait."""
    syscall_enter(task)
    return syscall_exit(task, fs_file.filp_close(iocb, task.files, fd))


def sys_fcntl(task: Task, fd: int, cmd: int, arg: int) -> int:
    return fs_file.do_fcntl(task, fd, cmd, arg)


def sys_ioctl(task: Task, fd: int, cmd: int, arg: bytes) -> tuple[int, bytes]:
    """(a number or -errno, what the buffer `arg` becomes; b"" for unchanged)."""
    syscall_enter(task)
    ret, out = ioctl.ksys_ioctl(task, fd, cmd, arg)
    return syscall_exit(task, ret), out


def sys_dup(task: Task, fd: int) -> int:
    return fs_file.ksys_dup(task, fd)


def sys_dup2(task: Task, oldfd: int, newfd: int) -> int:
    syscall_enter(task)
    return syscall_exit(task, fs_file.ksys_dup2(task, oldfd, newfd))


def sys_dup3(task: Task, oldfd: int, newfd: int, flags: int) -> int:
    syscall_enter(task)
    return syscall_exit(task, fs_file.ksys_dup3(task, oldfd, newfd, flags))


def sys_poll(task: Task, iocb: Kiocb, fds: list[tuple[int, int]], timeout: int) -> tuple[int, list[int]]:
    """`fds` are (descriptor, events), `timeout` is in ns, negative for ever. (how many are ready or -errno, revents)."""
    syscall_enter(task)
    n, revents = select.do_poll(task, iocb, fds, timeout)
    return syscall_exit(task, n), revents


def sys_select(
    task: Task, iocb: Kiocb, readfds: list[int], writefds: list[int], exceptfds: list[int], timeout: int
) -> tuple[int, list[int], list[int], list[int]]:
    """(how many or -errno, readable, writable, exceptional)."""
    syscall_enter(task)
    n, r, w, x = select.do_select(task, iocb, readfds, writefds, exceptfds, timeout)
    return syscall_exit(task, n), r, w, x


def sys_epoll_create1(task: Task, flags: int) -> int:
    """A descriptor or -errno."""
    return eventpoll.do_epoll_create(task, flags)


def sys_epoll_ctl(task: Task, epfd: int, op: int, fd: int, events: int, data: int) -> int:
    """`data` (64 bits) is what epoll_wait gives back with the events of `fd`."""
    syscall_enter(task)
    return syscall_exit(task, eventpoll.do_epoll_ctl(task, epfd, op, fd, events, data))


def sys_epoll_wait(task: Task, iocb: Kiocb, epfd: int, maxevents: int, timeout: int) -> tuple[int, list[tuple[int, int]]]:
    """`timeout` is in ns, negative for ever, as that of epoll_pwait2(2). (how many or -errno, (events, data) each)."""
    syscall_enter(task)
    n, events = eventpoll.do_epoll_wait(task, iocb, epfd, maxevents, timeout)
    return syscall_exit(task, n), events


# -- the process -----------------------------------------------------------------------------------------------------------


def sys_getpid(task: Task) -> int:
    return task.pid


def sys_getuid(task: Task) -> int:
    return task.cred.uid


def sys_getgid(task: Task) -> int:
    return task.cred.gid


def sys_clone(task: Task, flags: int, comm: str = "") -> tuple[int, Task | None]:
    """CLONE_FILES, CLONE_NEWNET: (the child's pid, the child) or (-errno, None). `comm` is its name, the parent's by default."""
    syscall_enter(task)
    err, child = fork.copy_process(task, flags, comm or task.comm)
    return syscall_exit(task, child.pid if child is not None else err), child


def sys_execve(task: Task, comm: str) -> int:
    """The process becomes the program `comm`: descriptors that are marked close-on-exec are closed."""
    syscall_enter(task)
    fork.begin_new_exec(task, comm)
    return syscall_exit(task, 0)


def sys_unshare(task: Task, flags: int) -> int:
    """Only CLONE_NEWNET: move the task to a new, empty network namespace."""
    if flags & ~CLONE_NEWNET:
        return -EINVAL
    if flags & CLONE_NEWNET:
        if not task.cred.cap_effective >> CAP_SYS_ADMIN & 1:
            return -EPERM
        task.net_ns = copy_net_ns(task.kernel)
    return 0


def sys_exit(task: Task) -> int:
    """The process ends: every descriptor is closed, nothing lingers. First interrupt or abandon those of its calls that wait."""
    syscall_enter(task)
    task.exiting = True
    fs_file.exit_files(task)
    task.kernel.tasks.pop(task.pid, None)
    return syscall_exit(task, 0)
