"""Pipes, splice and sendfile where they wait. What the calls answer is in tests/parity/file_programs.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from afinet.fs.file import fdget
from afinet.fs.pipe import PipeFile
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.task import Task
from afinet.kernel.wait import WQ_FLAG_EXCLUSIVE, Kiocb, WaitQueueEntry, add_wait_queue, remove_wait_queue
from afinet.uapi.errno import EINTR, EIOCBQUEUED, EPERM, EPIPE
from afinet.uapi.fcntl import F_SETPIPE_SZ, O_NONBLOCK
from afinet.uapi.sockaddr import pack_s32, pack_timeval
from afinet.uapi.socket import MSG_DONTWAIT, SO_RCVBUF, SO_SNDBUF, SO_SNDTIMEO, SOL_SOCKET
from tests.leaks import start_kernel
from tests.net.ipv4.dgramhost import SEC, Hosts
from tests.net.test_mmsg import tcp_pair


class Waiter(WaitQueueEntry):
    def __init__(self, flags: int, mask: int) -> None:
        super().__init__(flags)
        self.mask = mask
        self.woken = False

    def func(self, key: int) -> bool:
        if self.woken or (key and self.mask and not key & self.mask):
            return False
        self.woken = True
        return True


class Call:
    """A system call that may wait, called again when it was woken, and never else."""

    def __init__(self, op: Callable[[Kiocb], Any]) -> None:
        self.op = op
        self.iocb = Kiocb()
        self.answer: Any = None
        self.entries: list[tuple[Any, Waiter]] = []
        self.tries = 0
        self.again()

    def again(self) -> None:
        for wq, entry in self.entries:
            remove_wait_queue(wq, entry)
        self.entries.clear()
        self.tries += 1
        self.answer = self.op(self.iocb)
        if not self.waits():
            return
        if self.iocb.ki_wq is not None:
            flags = WQ_FLAG_EXCLUSIVE if self.iocb.ki_exclusive else 0
            self.entries.append((self.iocb.ki_wq, Waiter(flags, self.iocb.ki_mask)))
        for wq, mask in self.iocb.ki_poll or ():
            self.entries.append((wq, Waiter(0, mask)))
        for wq, entry in self.entries:
            add_wait_queue(wq, entry)

    def waits(self) -> bool:
        return (self.answer[0] if isinstance(self.answer, tuple) else self.answer) == -EIOCBQUEUED

    def step(self) -> bool:
        """Whether it is over."""
        if self.waits() and any(entry.woken for _, entry in self.entries):
            self.again()
        return not self.waits()

    def interrupt(self) -> Any:
        self.iocb.ki_signal = True
        self.again()
        return self.answer


class Pipe:
    def __init__(self, flags: int = 0, task: Task | None = None) -> None:
        if task is None:
            kernel = start_kernel()
            assert kernel.init_net is not None
            task = new_task(kernel, kernel.init_net, "piper", None)
        self.task = task
        err, self.r, self.w = syscalls.sys_pipe2(task, flags)
        assert err == 0

    def read(self, count: int) -> Call:
        return Call(lambda iocb: syscalls.sys_read(self.task, iocb, self.r, count))

    def write(self, data: bytes) -> Call:
        return Call(lambda iocb: syscalls.sys_write(self.task, iocb, self.w, data))

    def close(self, fd: int) -> None:
        assert syscalls.sys_close(self.task, Kiocb(), fd) == 0


def got(call: Call) -> bytes | int:
    n, pieces = call.answer
    return b"".join(pieces) if n >= 0 else n


def test_a_reader_waits_for_a_byte_and_not_for_all() -> None:
    p = Pipe()
    reader = p.read(10)
    assert reader.waits()
    p.write(b"abc")
    assert reader.step() and got(reader) == b"abc"


def test_a_writer_waits_until_all_is_in() -> None:
    p = Pipe()
    data = bytes(range(256)) * 800
    writer = p.write(data)
    out = b""
    while not writer.step():
        out += got(p.read(5000))  # type: ignore[operator]
    assert writer.answer == len(data)
    out += got(p.read(1 << 20))  # type: ignore[operator]
    assert out == data
    assert writer.tries < 60  # woken when a buffer got free of a full pipe, not at every read


def test_of_two_readers_one_write_wakes_the_first_and_what_is_left_the_second() -> None:
    p = Pipe()
    readers = [p.read(2), p.read(2)]
    p.write(b"abc")
    assert [r.step() for r in readers] == [True, True]
    assert [got(r) for r in readers] == [b"ab", b"c"]
    readers = [p.read(2), p.read(2)]
    p.write(b"d")
    assert [r.step() for r in readers] == [True, False]
    p.write(b"e")
    assert readers[1].step()


def test_the_last_writers_end_is_the_end_of_the_file_and_the_last_readers_a_broken_pipe() -> None:
    p = Pipe()
    reader = p.read(1)
    p.close(p.w)
    assert reader.step() and got(reader) == b""
    p = Pipe()
    writer = p.write(bytes(70_000))
    assert writer.waits()
    p.close(p.r)
    assert writer.step() and writer.answer == 65536
    assert p.task.sigpipe == 1
    assert p.write(b"x").answer == -EPIPE
    assert p.task.sigpipe == 2


def test_a_signal_ends_a_wait_with_what_was_done() -> None:
    p = Pipe()
    assert p.read(1).interrupt()[0] == -EINTR
    writer = p.write(bytes(70_000))
    assert writer.interrupt() == 65536
    assert p.write(b"x" * 5000).interrupt() == -EINTR


def test_who_may_make_a_pipe_larger_than_a_megabyte() -> None:
    p = Pipe()
    assert syscalls.sys_fcntl(p.task, p.w, F_SETPIPE_SZ, (1 << 20) + 1) == 2 << 20
    assert syscalls.sys_fcntl(p.task, p.w, F_SETPIPE_SZ, 4096) == 4096
    p.task.cred.cap_effective = 0
    assert syscalls.sys_fcntl(p.task, p.w, F_SETPIPE_SZ, (1 << 20) + 1) == -EPERM


def test_a_pipe_that_grows_lets_a_writer_go_on() -> None:
    p = Pipe()
    writer = p.write(bytes(100_000))
    assert writer.waits()
    syscalls.sys_fcntl(p.task, p.w, F_SETPIPE_SZ, 1 << 17)
    assert writer.step() and writer.answer == 100_000


def test_nothing_stays_in_a_pipe_that_nobody_has() -> None:
    p = Pipe()
    p.write(b"abc")
    file = fdget(p.task.files, p.r)
    assert isinstance(file, PipeFile)
    p.close(p.w)
    p.close(p.r)
    assert not file.pipe.bufs


# -- splice and sendfile -----------------------------------------------------------------------------------------------------


def splice(task: Task, a: int, b: int, count: int) -> Call:
    return Call(lambda iocb: syscalls.sys_splice(task, iocb, a, None, b, None, count, 0))


def test_a_splice_waits_for_data_and_for_space() -> None:
    one = Pipe()
    two = Pipe(task=one.task)
    call = splice(one.task, one.r, two.w, 10)
    assert call.waits()
    one.write(b"abc")
    assert call.step() and call.answer[0] == 3
    two.write(bytes(15 * 4096))
    one.write(b"def")
    call = splice(one.task, one.r, two.w, 10)
    assert call.waits()
    two.read(10_000)
    assert call.step() and call.answer[0] == 3


def test_a_splice_holds_both_files_over_a_close() -> None:
    one = Pipe()
    two = Pipe(task=one.task)
    call = splice(one.task, one.r, two.w, 10)
    writer = fdget(one.task.files, one.w)
    for fd in (one.r, two.w):
        one.close(fd)
    assert isinstance(writer, PipeFile) and writer.pipe.readers == 1
    one.write(b"abc")
    assert call.step() and call.answer[0] == 3
    assert writer.pipe.readers == 0
    assert got(two.read(10)) == b"abc"


def test_a_splice_that_is_given_up_lets_go_of_both() -> None:
    one = Pipe()
    two = Pipe(task=one.task)
    call = splice(one.task, one.r, two.w, 10)
    syscalls.abandon(call.iocb)
    files = [fdget(one.task.files, fd) for fd in (one.r, two.w)]
    assert [f.f_count for f in files if f is not None] == [1, 1]


def test_a_connection_is_spliced_through_a_pipe_into_another_and_back_pressure_holds() -> None:
    h = Hosts()
    c, s = tcp_pair(h)
    h.close(3)
    listener = h.socket(0, 2, 1, 0)
    assert h.setsockopt(listener, SOL_SOCKET, SO_RCVBUF, pack_s32(4096)) == 0
    assert h.bind(listener, b"\2\0\0\x51" + bytes(12)) == 0 and h.listen(listener, 1) == 0
    out = h.socket(0, 2, 1 | 0x800, 0)
    assert h.setsockopt(out, SOL_SOCKET, SO_SNDBUF, pack_s32(4096)) == 0
    h.connect(out, b"\2\0\0\x51\x7f\0\0\1" + bytes(8))
    far = h.accept(listener)
    for fd in (s, out):
        assert syscalls.sys_fcntl(h.task, fd, 4, 0) == 0
    p = Pipe(task=h.task)
    data = bytes(i * 7 & 255 for i in range(200_000))
    sender = Call(lambda iocb: syscalls.sys_sendto(h.task, iocb, c, data, 0, b""))
    into, from_ = splice(h.task, s, p.w, 1 << 20), splice(h.task, p.r, out, 1 << 20)
    received = b""
    for _ in range(100_000):
        sender.step()
        if into.step():
            assert into.answer[0] > 0
            into = splice(h.task, s, p.w, 1 << 20)
        if from_.step():
            assert from_.answer[0] > 0
            from_ = splice(h.task, p.r, out, 1 << 20)
        _, pieces, _ = syscalls.sys_recvfrom(h.task, Kiocb(), far, 3000, MSG_DONTWAIT)
        received += b"".join(pieces)
        if len(received) == len(data):
            break
        h.run_until(min(h.kernel.next_timer(), h.kernel.now + SEC))
    assert received == data
    for call in (into, from_):
        syscalls.abandon(call.iocb)


def test_sendfile_waits_for_a_slow_reader_and_goes_on_where_it_was() -> None:
    h = Hosts()
    c, s = tcp_pair(h, sndbuf=8192)
    data = bytes(i * 11 & 255 for i in range(150_001))
    fd = syscalls.sys_memfd_create(h.task, "file", 0)
    assert syscalls.sys_write(h.task, Kiocb(), fd, data) == len(data)
    call = Call(lambda iocb: syscalls.sys_sendfile(h.task, iocb, c, fd, 1, 1 << 20))
    received = b""
    for _ in range(100_000):
        over = call.step()
        _, pieces, _ = syscalls.sys_recvfrom(h.task, Kiocb(), s, 5000, MSG_DONTWAIT)
        received += b"".join(pieces)
        if over and len(received) == len(data) - 1:
            break
        h.run_until(min(h.kernel.next_timer(), h.kernel.now + SEC))
    assert received == data[1:]
    assert call.answer == (150_000, 150_001)


def test_a_time_limit_is_of_one_send_and_not_of_all_of_sendfile() -> None:
    h = Hosts()
    c, s = tcp_pair(h, sndbuf=8192)
    assert h.setsockopt(c, SOL_SOCKET, SO_SNDTIMEO, pack_timeval(2, 0)) == 0
    fd = syscalls.sys_memfd_create(h.task, "file", 0)
    assert syscalls.sys_ftruncate(h.task, fd, 1 << 20) == 0
    began = h.kernel.now
    call = Call(lambda iocb: syscalls.sys_sendfile(h.task, iocb, c, fd, 0, 1 << 20))
    for _ in range(5):
        assert not call.step()
        syscalls.sys_recvfrom(h.task, Kiocb(), s, 20_000, MSG_DONTWAIT)
        h.run_until(h.kernel.now + SEC)
    assert not call.step() and call.iocb.ki_deadline > h.kernel.now >= began + 5 * SEC
    h.run_until(call.iocb.ki_deadline)
    call.again()
    assert 0 < call.answer[0] < 1 << 20


def test_an_interrupted_sendfile_tells_how_far_it_came() -> None:
    h = Hosts()
    c, _ = tcp_pair(h, sndbuf=8192)
    fd = syscalls.sys_memfd_create(h.task, "file", 0)
    assert syscalls.sys_ftruncate(h.task, fd, 1 << 20) == 0
    call = Call(lambda iocb: syscalls.sys_sendfile(h.task, iocb, c, fd, None, 1 << 20))
    assert call.waits()
    n, _ = call.interrupt()
    assert 0 < n < 1 << 20
    assert syscalls.sys_lseek(h.task, fd, 0, 1) == n


def test_a_full_pipe_without_waiting_takes_a_part() -> None:
    p = Pipe(O_NONBLOCK)
    assert p.write(bytes(70_000)).answer == 65536
