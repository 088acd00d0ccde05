"""poll and select, against files whose readiness the test sets."""

from __future__ import annotations

from afinet.fs.file import File, FilesStruct, alloc_fd, fd_install
from afinet.fs.select import do_poll, do_select
from afinet.kernel.machine import Kernel
from afinet.kernel.task import Task
from afinet.kernel.time import NSEC_PER_SEC
from afinet.kernel.wait import Kiocb, WaitQueueHead
from afinet.net.core.net_namespace import Net
from afinet.uapi.errno import EBADF, EINTR, EINVAL, EIOCBQUEUED
from afinet.uapi.eventpoll import (
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLPRI,
    POLLRDNORM,
    POLLWRNORM,
)
from afinet.uapi.fcntl import O_RDWR


class Gauge(File):
    def __init__(self, kernel: Kernel) -> None:
        super().__init__(O_RDWR)
        self.mask = 0
        self.readers = WaitQueueHead()
        self.writers = WaitQueueHead()

    def poll(self, queues: list[tuple[WaitQueueHead, int]] | None) -> int:
        if queues is not None:
            queues.append((self.readers, POLLIN | POLLRDNORM | POLLHUP))
            queues.append((self.writers, 0))
        return self.mask


def setup(n: int) -> tuple[Task, list[Gauge]]:
    kernel = Kernel()
    task = Task(kernel, Net(kernel), FilesStruct())
    gauges = []
    for _ in range(n):
        gauge = Gauge(kernel)
        fd_install(task.files, alloc_fd(task.files, 3, 100), gauge, False)
        gauges.append(gauge)
    return task, gauges


def test_poll_tells_what_is_asked_and_what_cannot_be_refused() -> None:
    task, (a, b) = setup(2)
    a.mask = POLLIN | POLLOUT | POLLHUP
    b.mask = POLLERR
    n, revents = do_poll(task, Kiocb(), [(3, POLLIN), (4, 0), (-1, POLLIN), (77, POLLIN)], -1)
    assert (n, revents) == (3, [POLLIN | POLLHUP, POLLERR, 0, POLLNVAL])


def test_poll_waits_on_all_queues_for_what_matters() -> None:
    task, (a, b) = setup(2)
    iocb = Kiocb()
    n, _ = do_poll(task, iocb, [(3, POLLIN), (4, POLLOUT)], -1)
    assert n == -EIOCBQUEUED
    always = POLLERR | POLLHUP
    assert iocb.ki_poll == [
        (a.readers, POLLIN | POLLHUP),
        (a.writers, POLLIN | always),
        (b.readers, POLLHUP),
        (b.writers, POLLOUT | always),
    ]
    b.mask = POLLOUT
    assert do_poll(task, iocb, [(3, POLLIN), (4, POLLOUT)], -1) == (1, [0, POLLOUT])


def test_a_poll_ends_at_its_deadline_and_not_before() -> None:
    task, _ = setup(1)
    kernel = task.kernel
    iocb = Kiocb()
    begin = kernel.now
    assert do_poll(task, iocb, [(3, POLLIN)], NSEC_PER_SEC)[0] == -EIOCBQUEUED
    assert iocb.ki_deadline == begin + NSEC_PER_SEC
    kernel.run(begin + NSEC_PER_SEC - 1)
    assert do_poll(task, iocb, [(3, POLLIN)], NSEC_PER_SEC)[0] == -EIOCBQUEUED
    kernel.run(begin + NSEC_PER_SEC)
    assert do_poll(task, iocb, [(3, POLLIN)], NSEC_PER_SEC) == (0, [0])


def test_a_poll_of_no_time_does_not_wait_and_one_of_nothing_sleeps() -> None:
    task, _ = setup(1)
    assert do_poll(task, Kiocb(), [(3, POLLIN)], 0) == (0, [0])
    iocb = Kiocb()
    assert do_poll(task, iocb, [], 5)[0] == -EIOCBQUEUED
    assert iocb.ki_poll == []


def test_a_signal_ends_a_poll() -> None:
    task, _ = setup(1)
    iocb = Kiocb()
    assert do_poll(task, iocb, [(3, POLLIN)], -1)[0] == -EIOCBQUEUED
    iocb.ki_signal = True
    assert do_poll(task, iocb, [(3, POLLIN)], -1)[0] == -EINTR


def test_more_descriptors_than_the_limit_are_einval() -> None:
    task, _ = setup(1)
    assert do_poll(task, Kiocb(), [(3, POLLIN)] * (task.rlimit_nofile + 1), 0)[0] == -EINVAL


def test_select_counts_bits_and_sees_hangups_as_readable() -> None:
    task, (a, b, c) = setup(3)
    a.mask = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM
    b.mask = POLLHUP
    c.mask = POLLPRI
    assert do_select(task, Kiocb(), [5, 4, 3], [3, 4], [5, 3], -1) == (4, [4, 3], [3], [5])


def test_select_with_an_error_is_readable_and_writable() -> None:
    task, (a,) = setup(1)
    a.mask = POLLERR
    assert do_select(task, Kiocb(), [3], [3], [3], -1) == (2, [3], [3], [])


def test_select_refuses_what_is_not_open() -> None:
    task, _ = setup(1)
    assert do_select(task, Kiocb(), [3, 9], [], [], 0)[0] == -EBADF
    assert do_select(task, Kiocb(), [-1], [], [], 0)[0] == -EBADF


def test_select_waits_and_comes_back() -> None:
    task, (a,) = setup(1)
    iocb = Kiocb()
    assert do_select(task, iocb, [3], [], [], -1)[0] == -EIOCBQUEUED
    assert iocb.ki_poll is not None and len(iocb.ki_poll) == 2
    a.mask = POLLIN
    assert do_select(task, iocb, [3], [], [], -1) == (1, [3], [], [])
    assert do_select(task, Kiocb(), [], [], [], 0) == (0, [], [], [])
