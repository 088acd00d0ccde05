"""Descriptors and files, against a File that only counts."""

from __future__ import annotations

import heapq

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.fs.file import (
    FIRST_FD,
    File,
    FilesStruct,
    alloc_fd,
    close_fd_get_file,
    do_close_on_exec,
    do_fcntl,
    dup_fd,
    exit_files,
    fd_install,
    fdget,
    filp_close,
    fput_nowait,
    iocb_hold,
    iocb_release,
    ksys_dup,
    ksys_dup2,
    ksys_dup3,
)
from afinet.kernel.machine import Kernel
from afinet.kernel.task import Task
from afinet.kernel.wait import Kiocb, WaitQueueHead
from afinet.net.core.net_namespace import Net
from afinet.uapi.errno import EBADF, EINVAL, EIOCBQUEUED, EMFILE, ENOTTY
from afinet.uapi.fcntl import (
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETFL,
    F_SETFD,
    F_SETFL,
    FD_CLOEXEC,
    O_CLOEXEC,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
)


class CountingFile(File):
    """Counts its releases; `lingers` of them answer that they wait."""

    def __init__(self, kernel: Kernel, lingers: int = 0) -> None:
        super().__init__(O_RDWR)
        self.released = 0
        self.lingers = lingers
        self.wq = WaitQueueHead()

    def release(self, iocb: Kiocb) -> int:
        if self.lingers and not iocb.ki_signal:
            self.lingers -= 1
            return iocb.wait(self.wq, 0)
        self.released += 1
        return 0


def make_task() -> Task:
    kernel = Kernel()
    files = FilesStruct()
    files.count = 1
    return Task(kernel, Net(kernel), files)


def open_file(task: Task, lingers: int = 0) -> tuple[int, CountingFile]:
    file = CountingFile(task.kernel, lingers)
    fd = alloc_fd(task.files, FIRST_FD, task.rlimit_nofile)
    if fd >= 0:
        fd_install(task.files, fd, file, False)
    return fd, file


def test_the_lowest_free_number_is_given() -> None:
    task = make_task()
    assert [open_file(task)[0] for _ in range(5)] == [3, 4, 5, 6, 7]
    for fd in (6, 4):
        assert filp_close(Kiocb(), task.files, fd) == 0
    assert open_file(task)[0] == 4
    assert open_file(task)[0] == 6
    assert open_file(task)[0] == 8


def test_the_limit_is_emfile() -> None:
    task = make_task()
    task.rlimit_nofile = 5
    assert [open_file(task)[0] for _ in range(3)] == [3, 4, -EMFILE]


@settings(derandomize=True, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["open", "close", "dup", "dup2", "dupfd"]), st.integers(0, 20), st.integers(0, 20))))
def test_the_table_agrees_with_a_scan_from_the_start(ops: list[tuple[str, int, int]]) -> None:
    task = make_task()
    model: dict[int, File] = {}

    def lowest(start: int) -> int:
        fd = start
        while fd in model:
            fd += 1
        return fd

    for op, a, b in ops:
        if op == "open":
            fd, file = open_file(task)
            assert fd == lowest(3)
            model[fd] = file
        elif op == "close":
            err = filp_close(Kiocb(), task.files, a)
            assert err == (0 if a in model else -EBADF)
            model.pop(a, None)
        elif op == "dup":
            fd = ksys_dup(task, a)
            assert fd == (lowest(3) if a in model else -EBADF)
            if fd >= 0:
                model[fd] = model[a]
        elif op == "dup2":
            fd = ksys_dup2(task, a, b)
            assert fd == (b if a in model else -EBADF)
            if fd >= 0:
                model[b] = model[a]
        else:
            fd = do_fcntl(task, a, F_DUPFD, b)
            assert fd == (lowest(max(b, 3)) if a in model else -EBADF)
            if fd >= 0:
                model[fd] = model[a]
        for fd in range(25):
            assert fdget(task.files, fd) is model.get(fd)
        for held in model.values():
            assert held.f_count == list(model.values()).count(held)
        free = [fd for fd in range(3, len(task.files.fd)) if fd not in model]
        assert sorted(task.files.free) == free
        assert not task.files.free or heapq.nsmallest(1, task.files.free)[0] == task.files.free[0]


def test_a_file_is_released_once_when_the_last_descriptor_goes() -> None:
    task = make_task()
    fd, file = open_file(task)
    second = ksys_dup(task, fd)
    assert filp_close(Kiocb(), task.files, fd) == 0
    assert file.released == 0
    assert filp_close(Kiocb(), task.files, second) == 0
    assert file.released == 1
    assert filp_close(Kiocb(), task.files, second) == -EBADF


def test_a_close_that_waits_has_freed_its_number_already() -> None:
    task = make_task()
    fd, file = open_file(task, lingers=2)
    iocb = Kiocb()
    assert filp_close(iocb, task.files, fd) == -EIOCBQUEUED
    assert open_file(task)[0] == fd
    assert filp_close(iocb, task.files, fd) == -EIOCBQUEUED
    assert file.released == 0
    assert filp_close(iocb, task.files, fd) == 0
    assert file.released == 1
    assert fdget(task.files, fd) is not None  # the newcomer was not touched


def test_a_lingering_close_that_is_given_up_still_releases() -> None:
    task = make_task()
    fd, file = open_file(task, lingers=5)
    iocb = Kiocb()
    assert filp_close(iocb, task.files, fd) == -EIOCBQUEUED
    iocb_release(iocb)
    assert file.released == 1


def test_a_waiting_call_keeps_its_file_over_a_close() -> None:
    task = make_task()
    fd, file = open_file(task)
    iocb = Kiocb()
    iocb_hold(iocb, file)
    iocb_hold(iocb, file)
    assert file.f_count == 2
    assert filp_close(Kiocb(), task.files, fd) == 0
    assert file.released == 0
    iocb_release(iocb)
    iocb_release(iocb)
    assert file.released == 1


def test_dup2_onto_an_open_number_closes_it_first() -> None:
    task = make_task()
    a, file_a = open_file(task)
    b, file_b = open_file(task)
    assert ksys_dup2(task, a, b) == b
    assert file_b.released == 1
    assert fdget(task.files, b) is file_a
    assert ksys_dup2(task, a, a) == a
    assert ksys_dup2(task, 9, 9) == -EBADF
    assert ksys_dup3(task, a, a, 0) == -EINVAL
    assert ksys_dup3(task, a, b, 1) == -EINVAL
    assert ksys_dup3(task, a, task.rlimit_nofile, 0) == -EBADF
    assert ksys_dup3(task, a, -1, 0) == -EBADF


def test_close_on_exec_is_the_descriptors_own() -> None:
    task = make_task()
    fd, file = open_file(task)
    assert do_fcntl(task, fd, F_GETFD, 0) == 0
    assert do_fcntl(task, fd, F_SETFD, FD_CLOEXEC) == 0
    assert do_fcntl(task, fd, F_GETFD, 0) == FD_CLOEXEC
    second = ksys_dup(task, fd)
    assert do_fcntl(task, second, F_GETFD, 0) == 0
    third = do_fcntl(task, fd, F_DUPFD_CLOEXEC, 0)
    assert do_fcntl(task, third, F_GETFD, 0) == FD_CLOEXEC
    fourth = ksys_dup3(task, fd, 12, O_CLOEXEC)
    assert do_fcntl(task, fourth, F_GETFD, 0) == FD_CLOEXEC
    do_close_on_exec(task.files)
    assert [i for i in range(14) if fdget(task.files, i)] == [second]
    assert file.released == 0


def test_flags_of_a_file_are_shared_by_its_descriptors() -> None:
    task = make_task()
    fd, _ = open_file(task)
    second = ksys_dup(task, fd)
    assert do_fcntl(task, fd, F_SETFL, O_NONBLOCK) == 0
    assert do_fcntl(task, second, F_GETFL, 0) == O_RDWR | O_NONBLOCK
    assert do_fcntl(task, second, F_SETFL, O_RDONLY) == 0  # the access mode cannot be changed
    assert do_fcntl(task, fd, F_GETFL, 0) == O_RDWR
    assert do_fcntl(task, fd, 9999, 0) == -EINVAL
    assert do_fcntl(task, 99, F_GETFL, 0) == -EBADF
    assert do_fcntl(task, fd, F_DUPFD, -1) == -EINVAL
    assert do_fcntl(task, fd, F_DUPFD, task.rlimit_nofile) == -EINVAL


def test_an_exit_closes_everything_without_lingering() -> None:
    task = make_task()
    opened = [open_file(task, lingers=3)[1] for _ in range(4)]
    exit_files(task)
    assert [file.released for file in opened] == [1] * 4
    assert not task.kernel.warned


def test_a_fork_shares_files_not_numbers() -> None:
    task = make_task()
    fd, file = open_file(task)
    child = dup_fd(task.files)
    assert file.f_count == 2
    assert close_fd_get_file(task.files, fd) is file
    fput_nowait(file)
    assert fdget(child, fd) is file
    assert file.released == 0


def test_a_bare_file_has_no_operations() -> None:
    task = make_task()
    file = File(O_RDONLY)
    assert file.read(Kiocb(), 1)[0] == -EINVAL
    assert file.write(Kiocb(), b"x") == -EINVAL
    assert file.ioctl(task, 1, b"")[0] == -ENOTTY
    assert file.f_mode == 1
