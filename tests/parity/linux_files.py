"""The reference for more than one socket at a time: epoll, pipes, splice, sendfile, and calls on many messages."""

from __future__ import annotations

import ctypes
import os

from tests.parity.linux_calls import LIBC, IoVec, LinuxCalls, MsgHdr, _ret


class EpollEvent(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("events", ctypes.c_uint32), ("data", ctypes.c_uint64)]


class MMsgHdr(ctypes.Structure):
    _fields_ = [("hdr", MsgHdr), ("len", ctypes.c_uint)]


class TimeSpec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


def _offset(value: int | None) -> ctypes.c_longlong | None:
    return None if value is None else ctypes.c_longlong(value)


def _ref(value: ctypes.c_longlong | None) -> object:
    return None if value is None else ctypes.byref(value)


def _after(value: ctypes.c_longlong | None) -> int | None:
    return None if value is None else value.value


class LinuxFiles(LinuxCalls):
    """The calls of file_programs.py on the kernel: descriptors and integers in, numbers or -errno out."""

    def accept4(self, fd: int, flags: int) -> int:
        return _ret(LIBC.accept4(fd, None, None, flags))

    def dup(self, fd: int) -> int:
        return _ret(LIBC.dup(fd))

    def fcntl(self, fd: int, cmd: int, arg: int) -> int:
        return _ret(LIBC.fcntl(fd, cmd, ctypes.c_long(arg)))

    def read(self, fd: int, size: int) -> tuple[int, bytes]:
        buf = ctypes.create_string_buffer(max(size, 1))
        n = _ret(LIBC.read(fd, buf, size))
        return n, buf.raw[: max(n, 0)]

    def write(self, fd: int, data: bytes) -> int:
        return _ret(LIBC.write(fd, data, len(data)))

    # -- epoll ---------------------------------------------------------------------------------------------------------

    def epoll_create1(self, flags: int) -> int:
        return _ret(LIBC.epoll_create1(flags))

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int, data: int) -> int:
        return _ret(LIBC.epoll_ctl(epfd, op, fd, ctypes.byref(EpollEvent(events & 0xFFFFFFFF, data))))

    def epoll_wait(self, epfd: int, maxevents: int) -> tuple[int, list[tuple[int, int]]]:
        events = (EpollEvent * max(1, min(maxevents, 100)))()
        n = _ret(LIBC.epoll_wait(epfd, events, maxevents, 0))
        return n, [(events[i].events, events[i].data) for i in range(max(n, 0))]

    # -- pipes and files -----------------------------------------------------------------------------------------------

    def pipe2(self, flags: int) -> tuple[int, int, int]:
        fds = (ctypes.c_int * 2)()
        err = _ret(LIBC.pipe2(fds, flags))
        return (err, -1, -1) if err else (0, fds[0], fds[1])

    def memfd_create(self, flags: int) -> int:
        return _ret(LIBC.memfd_create(b"parity", flags))

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        LIBC.lseek64.restype = ctypes.c_longlong
        return _ret(LIBC.lseek64(fd, ctypes.c_longlong(offset), whence))

    def pread(self, fd: int, size: int, offset: int) -> tuple[int, bytes]:
        buf = ctypes.create_string_buffer(max(size, 1))
        n = _ret(LIBC.pread64(fd, buf, size, ctypes.c_longlong(offset)))
        return n, buf.raw[: max(n, 0)]

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return _ret(LIBC.pwrite64(fd, data, len(data), ctypes.c_longlong(offset)))

    def ftruncate(self, fd: int, size: int) -> int:
        return _ret(LIBC.ftruncate64(fd, ctypes.c_longlong(size)))

    def sendfile(self, out: int, in_: int, offset: int | None, count: int) -> tuple[int, int | None]:
        at = _offset(offset)
        n = _ret(LIBC.sendfile64(out, in_, _ref(at), ctypes.c_size_t(count)))
        return n, _after(at)

    def splice(
        self, in_: int, off_in: int | None, out: int, off_out: int | None, size: int, flags: int
    ) -> tuple[int, int | None, int | None]:
        a, b = _offset(off_in), _offset(off_out)
        n = _ret(LIBC.splice(in_, _ref(a), out, _ref(b), ctypes.c_size_t(size), flags))
        return n, _after(a), _after(b)

    def tee(self, in_: int, out: int, size: int, flags: int) -> int:
        return _ret(LIBC.tee(in_, out, ctypes.c_size_t(size), flags))

    def vmsplice(self, fd: int, data: bytes, flags: int) -> int:
        iov = IoVec(data, len(data))
        return _ret(LIBC.vmsplice(fd, ctypes.byref(iov), 1, flags))

    # -- many messages -------------------------------------------------------------------------------------------------

    def sendmmsg(self, fd: int, messages: list[tuple[bytes, bytes, bytes]], flags: int) -> tuple[int, list[int]]:
        """`messages` are (data, address, control). (how many or -errno, the bytes of each)."""
        vec = (MMsgHdr * len(messages))()
        keep = []
        for i, (data, addr, control) in enumerate(messages):
            iov = IoVec(data, len(data))
            name = ctypes.create_string_buffer(addr, len(addr)) if addr else None
            ctl = ctypes.create_string_buffer(control, len(control)) if control else None
            vec[i].hdr = MsgHdr(
                ctypes.cast(name, ctypes.c_void_p) if name is not None else None,
                len(addr),
                ctypes.pointer(iov),
                1,
                ctypes.cast(ctl, ctypes.c_void_p) if ctl is not None else None,
                len(control),
                0,
            )
            keep.append((iov, name, ctl))
        n = _ret(LIBC.sendmmsg(fd, vec, len(messages), flags))
        return n, [vec[i].len for i in range(max(n, 0))]

    def recvmmsg(
        self, fd: int, count: int, size: int, flags: int, timeout_ns: int | None
    ) -> tuple[int, list[tuple[bytes, int]]]:
        """(how many or -errno, (data, msg_flags) of each)."""
        self.poll(fd, 1, self.wait_ms)
        vec = (MMsgHdr * count)()
        bufs = []
        for i in range(count):
            buf = ctypes.create_string_buffer(size + 1)
            iov = IoVec(ctypes.cast(buf, ctypes.c_char_p), size)
            vec[i].hdr = MsgHdr(None, 0, ctypes.pointer(iov), 1, None, 0, 0)
            bufs.append((buf, iov))
        timeout = None if timeout_ns is None else TimeSpec(*divmod(timeout_ns, 10**9))
        n = _ret(LIBC.recvmmsg(fd, vec, count, flags, ctypes.byref(timeout) if timeout is not None else None))
        return n, [(bufs[i][0].raw[: min(vec[i].len, size)], vec[i].hdr.flags) for i in range(max(n, 0))]

    def clean(self, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
