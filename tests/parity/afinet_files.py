"""The calls of file_programs.py on afinet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb, KiocbVec
from afinet.uapi.errno import EIOCBQUEUED
from tests.parity.afinet_calls import AfinetCalls


class AfinetFiles(AfinetCalls):
    """What LinuxFiles has. A call that would wait is interrupted."""

    def accept4(self, fd: int, flags: int) -> int:
        return self.done(syscalls.sys_accept4(self.task, Kiocb(), fd, flags)[0])

    def dup(self, fd: int) -> int:
        return syscalls.sys_dup(self.task, fd)

    def fcntl(self, fd: int, cmd: int, arg: int) -> int:
        return self.done(syscalls.sys_fcntl(self.task, fd, cmd, arg))

    def read(self, fd: int, size: int) -> tuple[int, bytes]:
        iocb = Kiocb()
        n, pieces = syscalls.sys_read(self.task, iocb, fd, size)
        if n == -EIOCBQUEUED:
            iocb.ki_signal = True
            n, pieces = syscalls.sys_read(self.task, iocb, fd, size)
        return self.done(n), b"".join(pieces)

    def write(self, fd: int, data: bytes) -> int:
        iocb = Kiocb()
        n = syscalls.sys_write(self.task, iocb, fd, data)
        if n == -EIOCBQUEUED:
            iocb.ki_signal = True
            n = syscalls.sys_write(self.task, iocb, fd, data)
        return self.done(n)

    # -- epoll ---------------------------------------------------------------------------------------------------------

    def epoll_create1(self, flags: int) -> int:
        return syscalls.sys_epoll_create1(self.task, flags)

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int, data: int) -> int:
        return self.done(syscalls.sys_epoll_ctl(self.task, epfd, op, fd, events, data))

    def epoll_wait(self, epfd: int, maxevents: int) -> tuple[int, list[tuple[int, int]]]:
        n, events = syscalls.sys_epoll_wait(self.task, Kiocb(), epfd, maxevents, 0)
        return self.done(n), events

    # -- pipes and files -----------------------------------------------------------------------------------------------

    def until_over(self, call: Callable[[Kiocb], Any]) -> Any:
        """A call that would wait is interrupted."""
        iocb = Kiocb()
        answer = call(iocb)
        if (answer[0] if isinstance(answer, tuple) else answer) == -EIOCBQUEUED:
            iocb.ki_signal = True
            answer = call(iocb)
        self.settle()
        return answer

    def pipe2(self, flags: int) -> tuple[int, int, int]:
        return syscalls.sys_pipe2(self.task, flags)

    def memfd_create(self, flags: int) -> int:
        return syscalls.sys_memfd_create(self.task, "parity", flags)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        return syscalls.sys_lseek(self.task, fd, offset, whence)

    def pread(self, fd: int, size: int, offset: int) -> tuple[int, bytes]:
        return syscalls.sys_pread64(self.task, fd, size, offset)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return syscalls.sys_pwrite64(self.task, fd, data, offset)

    def ftruncate(self, fd: int, size: int) -> int:
        return syscalls.sys_ftruncate(self.task, fd, size)

    def sendfile(self, out: int, in_: int, offset: int | None, count: int) -> tuple[int, int | None]:
        answer: tuple[int, int | None] = self.until_over(
            lambda iocb: syscalls.sys_sendfile(self.task, iocb, out, in_, offset, count)
        )
        return answer

    def splice(
        self, in_: int, off_in: int | None, out: int, off_out: int | None, size: int, flags: int
    ) -> tuple[int, int | None, int | None]:
        answer: tuple[int, int | None, int | None] = self.until_over(
            lambda iocb: syscalls.sys_splice(self.task, iocb, in_, off_in, out, off_out, size, flags)
        )
        return answer

    def tee(self, in_: int, out: int, size: int, flags: int) -> int:
        n: int = self.until_over(lambda iocb: syscalls.sys_tee(self.task, iocb, in_, out, size, flags))
        return n

    def vmsplice(self, fd: int, data: bytes, flags: int) -> int:
        n: int = self.until_over(lambda iocb: syscalls.sys_vmsplice(self.task, iocb, fd, data, flags))
        return n

    # -- many messages -------------------------------------------------------------------------------------------------

    def sendmmsg(self, fd: int, messages: list[tuple[bytes, bytes, bytes]], flags: int) -> tuple[int, list[int]]:
        iocb = KiocbVec()
        vec = [(data, control, addr) for data, addr, control in messages]
        n, sent = syscalls.sys_sendmmsg(self.task, iocb, fd, vec, flags)
        if n == -EIOCBQUEUED:
            iocb.ki_signal = True
            n, sent = syscalls.sys_sendmmsg(self.task, iocb, fd, vec, flags)
        return self.done(n), sent

    def recvmmsg(
        self, fd: int, count: int, size: int, flags: int, timeout_ns: int | None
    ) -> tuple[int, list[tuple[bytes, int]]]:
        self.poll(fd, 1, 3)
        timeout = -1 if timeout_ns is None else timeout_ns
        n, received, _ = syscalls.sys_recvmmsg(self.task, KiocbVec(), fd, [(size, 0)] * count, flags, timeout)
        return self.done(n), [(b"".join(pieces), msg_flags) for _, pieces, _, msg_flags, _ in received]

    def clean(self, fds: list[int]) -> None:
        for fd in fds:
            self.close(fd)
