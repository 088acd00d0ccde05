"""epoll against files whose readiness the test sets: who is woken, and what is let go of. What Linux answers is in tests/parity."""

from __future__ import annotations

from afinet.fs.eventpoll import Eventpoll, do_epoll_create, do_epoll_ctl, do_epoll_wait
from afinet.fs.file import close_fd_get_file, fdget, fput_nowait
from afinet.kernel.task import Task
from afinet.kernel.time import NSEC_PER_SEC
from afinet.kernel.wait import WQ_FLAG_EXCLUSIVE, Kiocb, WaitQueueEntry, WaitQueueHead, add_wait_queue, wake_up_poll
from afinet.uapi.errno import EINTR, EIOCBQUEUED
from afinet.uapi.eventpoll import EPOLL_CTL_ADD, EPOLLET, EPOLLEXCLUSIVE, EPOLLIN, EPOLLOUT
from tests.fs.test_select import Gauge, setup


def epoll(task: Task, fd: int, events: int) -> int:
    epfd = do_epoll_create(task, 0)
    assert do_epoll_ctl(task, epfd, EPOLL_CTL_ADD, fd, events, fd) == 0
    return epfd


class Waiter(WaitQueueEntry):
    """Somebody in epoll_wait: woken once."""

    def __init__(self, wq: WaitQueueHead) -> None:
        super().__init__(WQ_FLAG_EXCLUSIVE)
        self.woken = False
        add_wait_queue(wq, self)

    def func(self, key: int) -> bool:
        was = self.woken
        self.woken = True
        return not was


def in_epoll_wait(task: Task, epfd: int) -> Waiter:
    iocb = Kiocb()
    assert do_epoll_wait(task, iocb, epfd, 10, -1)[0] == -EIOCBQUEUED
    assert iocb.ki_wq is not None and iocb.ki_exclusive
    return Waiter(iocb.ki_wq)


def ready(gauge: Gauge, mask: int) -> None:
    gauge.mask = mask
    wake_up_poll(gauge.readers, mask)
    wake_up_poll(gauge.writers, mask)


def test_an_exclusive_item_takes_the_wake_up_and_the_others_all_hear() -> None:
    task, (gauge,) = setup(1)
    shared = [in_epoll_wait(task, epoll(task, 3, EPOLLIN)) for _ in range(2)]
    alone = [in_epoll_wait(task, epoll(task, 3, EPOLLIN | EPOLLEXCLUSIVE)) for _ in range(3)]
    gauge.mask = EPOLLIN
    wake_up_poll(gauge.readers, EPOLLIN)
    assert [w.woken for w in shared + alone] == [True, True, True, False, False]
    wake_up_poll(gauge.readers, EPOLLIN)
    assert [w.woken for w in alone] == [True, False, False]  # the first still has one coming: its epoll cannot know


def test_an_exclusive_item_that_wants_something_else_passes_the_wake_up_on() -> None:
    task, (gauge,) = setup(1)
    waiters = [in_epoll_wait(task, epoll(task, 3, events | EPOLLEXCLUSIVE)) for events in (EPOLLOUT, EPOLLIN)]
    gauge.mask = EPOLLIN
    wake_up_poll(gauge.readers, EPOLLIN)
    assert [w.woken for w in waiters] == [False, True]


def test_what_is_left_over_wakes_the_next_waiter() -> None:
    task, gauges = setup(2)
    epfd = do_epoll_create(task, 0)
    for fd in (3, 4):
        assert do_epoll_ctl(task, epfd, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, fd) == 0
    iocb = Kiocb()
    assert do_epoll_wait(task, iocb, epfd, 1, -1)[0] == -EIOCBQUEUED
    other = in_epoll_wait(task, epfd)
    other.woken = True
    for gauge in gauges:
        ready(gauge, EPOLLIN)
    other.woken = False
    assert iocb.missed()
    assert do_epoll_wait(task, iocb, epfd, 1, -1) == (1, [(EPOLLIN, 3)])
    assert other.woken


def test_a_wait_ends_at_its_deadline_or_with_a_signal() -> None:
    task, _ = setup(1)
    epfd = epoll(task, 3, EPOLLIN)
    iocb = Kiocb()
    begin = task.kernel.now
    assert do_epoll_wait(task, iocb, epfd, 10, NSEC_PER_SEC)[0] == -EIOCBQUEUED
    assert iocb.ki_deadline == begin + NSEC_PER_SEC
    iocb.ki_signal = True
    assert do_epoll_wait(task, iocb, epfd, 10, NSEC_PER_SEC) == (-EINTR, [])
    task.kernel.run(begin + NSEC_PER_SEC)
    assert do_epoll_wait(task, iocb, epfd, 10, NSEC_PER_SEC) == (0, [])


def test_a_close_during_the_wait_does_not_end_it() -> None:
    task, (gauge,) = setup(1)
    epfd = epoll(task, 3, EPOLLIN)
    iocb = Kiocb()
    assert do_epoll_wait(task, iocb, epfd, 10, -1)[0] == -EIOCBQUEUED
    file = close_fd_get_file(task.files, epfd)
    assert file is not None
    fput_nowait(file)
    ready(gauge, EPOLLIN)
    assert do_epoll_wait(task, iocb, epfd, 10, -1) == (1, [(EPOLLIN, 3)])
    assert gauge.f_ep is None  # that was the last reference


def test_nothing_of_a_closed_file_or_epoll_stays_behind() -> None:
    task, (a, b) = setup(2)
    epfds = [epoll(task, fd, EPOLLIN) for fd in (3, 3, 4)]
    outer = epoll(task, epfds[0], EPOLLIN)
    ep = fdget(task.files, epfds[0])
    assert isinstance(ep, Eventpoll)
    ready(a, EPOLLIN)
    for fd in (3, epfds[2]):
        file = close_fd_get_file(task.files, fd)
        assert file is not None
        fput_nowait(file)
    assert a.f_ep is None and b.f_ep is None and ep.f_ep is not None
    assert not ep.items and not ep.rdllist
    for gauge in (a, b):
        assert gauge.readers.entries is None and gauge.writers.entries is None
    assert do_epoll_wait(task, Kiocb(), outer, 10, 0) == (0, [])
