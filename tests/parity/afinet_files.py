"""The calls of file_programs.py on afinet."""

from __future__ import annotations

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
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

    def clean(self, fds: list[int]) -> None:
        for fd in fds:
            self.close(fd)
