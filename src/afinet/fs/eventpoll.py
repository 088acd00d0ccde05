"""fs/eventpoll.c: epoll, a file that knows which of the files it watches are ready.

    ep_insert           an epitem for (file, descriptor): polls the file once, leaving an entry on each of its wait queues
    ep_poll_callback    a wake-up of the file: the item joins the ready list, one waiter of the epoll is woken
    ep_send_events      epoll_wait: polls what is on the ready list. What is not ready any more falls off; what is, is reported and
                        goes to the list's end (level), stays off until woken again (EPOLLET), or is disarmed (EPOLLONESHOT)

The ready list is a dict in the order of joining. An epoll that others watch is a file like any: `poll_wait` is its wait queue, and
how deep epolls may watch each other is checked when they are joined, so that nothing here has to watch its depth.

Left out: EPOLLWAKEUP (there is no suspend: ignored), busy polling, max_user_watches (descriptors are the limit).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.fs.file import File, FileLink, fd_install, fdget, fput_light, get_unused_fd_flags
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.kernel.wait import (
    WQ_FLAG_EXCLUSIVE,
    Kiocb,
    WaitQueueEntry,
    WaitQueueHead,
    add_wait_queue,
    add_wait_queue_first,
    remove_wait_queue,
    wake_up_poll,
)
from afinet.uapi.errno import EBADF, EEXIST, EINTR, EINVAL, ELOOP, ENOENT, EPERM
from afinet.uapi.eventpoll import (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLHUP,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLRDNORM,
    EPOLLWAKEUP,
)
from afinet.uapi.fcntl import O_RDWR

if TYPE_CHECKING:
    from afinet.kernel.task import Task

# Bits of `events` that say how, not what: an item with no others is disarmed.
EP_PRIVATE_BITS: Final = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE
EPOLLINOUT_BITS: Final = EPOLLIN | EPOLLOUT
EPOLLEXCLUSIVE_OK_BITS: Final = EPOLLINOUT_BITS | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE
EP_MAX_EVENTS: Final = 0x7FFFFFFF // 12  # that many struct epoll_event fit an int's worth of bytes
EP_MAX_NESTS: Final = 4
# How many ways may lead up from one file to epolls that nobody watches, by how many epolls lie in between; none: any number.
PATH_LIMITS: Final = (0, 500, 100, 50, 10)


class Eventpoll(File):
    """struct eventpoll, and its file."""

    __slots__ = ("items", "poll_wait", "rdllist", "wq")

    def __init__(self) -> None:
        super().__init__(O_RDWR)
        self.items: dict[tuple[int, File], Epitem] = {}  # `rbr`
        self.rdllist: dict[Epitem, None] = {}  # the first to be reported first
        self.wq: WaitQueueHead = WaitQueueHead()  # who waits in epoll_wait
        self.poll_wait: WaitQueueHead = WaitQueueHead()  # who polls this file

    def poll(self, queues: list[tuple[WaitQueueHead, int]] | None) -> int:
        """Readable when an item is ready. Those that are not any more fall off the ready list as they are met."""
        if queues is not None:
            queues.append((self.poll_wait, 0))
        ready = 0
        stale: list[Epitem] = []
        for epi in self.rdllist:
            if ep_item_poll(epi):
                ready = EPOLLIN | EPOLLRDNORM
                break
            stale.append(epi)
        for epi in stale:
            del self.rdllist[epi]
        return ready

    def ioctl(self, task: Task, cmd: int, arg: bytes) -> tuple[int, bytes]:
        return -EINVAL, b""

    def release(self, iocb: Kiocb) -> int:
        for epi in list(self.items.values()):
            ep_remove(epi)
        return 0


class Epitem(FileLink):
    """struct epitem: one watched (file, descriptor). The descriptor is only part of its name: what is watched is the file, and it
    stays watched until its last descriptor is closed."""

    __slots__ = ("data", "ep", "events", "fd", "file", "pwqlist")

    def __init__(self, ep: Eventpoll, file: File, fd: int, events: int, data: int) -> None:
        self.ep: Eventpoll = ep
        self.file: File = file
        self.fd: int = fd
        self.events: int = events
        self.data: int = data  # what epoll_wait gives back; 64 bits
        self.pwqlist: list[EppollEntry] = []

    def file_released(self) -> None:
        ep_remove(self)


class EppollEntry(WaitQueueEntry):
    """struct eppoll_entry: an item's entry on a wait queue of its file."""

    __slots__ = ("base", "whead")

    def __init__(self, base: Epitem, whead: WaitQueueHead) -> None:
        super().__init__(WQ_FLAG_EXCLUSIVE if base.events & EPOLLEXCLUSIVE else 0)
        self.base: Epitem = base
        self.whead: WaitQueueHead = whead

    def func(self, key: int) -> bool:
        return ep_poll_callback(self.base, key)


def ep_poll_callback(epi: Epitem, pollflags: int) -> bool:
    """The file of `epi` was woken. The answer matters to an exclusive item only: whether this wake-up has found somebody."""
    ep = epi.ep
    events = epi.events
    if not events & ~EP_PRIVATE_BITS:
        return not events & EPOLLEXCLUSIVE  # EPOLLONESHOT has been used up
    if pollflags and not pollflags & events:
        return not events & EPOLLEXCLUSIVE
    ep.rdllist[epi] = None
    ewake = False
    if ep.wq.entries is not None and events & EPOLLEXCLUSIVE:
        inout = pollflags & EPOLLINOUT_BITS
        # Both at once are nobody's in particular: Linux wakes the next epoll, too.
        ewake = not inout or (inout != EPOLLINOUT_BITS and events & inout != 0)
    wake_up_poll(ep.wq, 0)
    if ep.poll_wait.entries is not None:
        wake_up_poll(ep.poll_wait, EPOLLIN | pollflags)
    return ewake or not events & EPOLLEXCLUSIVE


def ep_item_poll(epi: Epitem) -> int:
    """Which of the events asked for there are now."""
    return epi.file.poll(None) & epi.events & 0xFFFF


def ep_wake(ep: Eventpoll) -> None:
    """An item is ready that was not found by a wake-up."""
    wake_up_poll(ep.wq, 0)
    if ep.poll_wait.entries is not None:
        wake_up_poll(ep.poll_wait, EPOLLIN)


# -- epoll_ctl -------------------------------------------------------------------------------------------------------------


def ep_insert(ep: Eventpoll, file: File, fd: int, events: int, data: int, full_check: bool) -> int:
    epi = Epitem(ep, file, fd, events, data)
    if file.f_ep is None:
        file.f_ep = [epi]
    else:
        file.f_ep.append(epi)
    ep.items[fd, file] = epi
    if full_check and reverse_path_check(file):
        ep_remove(epi)
        return -EINVAL
    queues: list[tuple[WaitQueueHead, int]] = []
    revents = file.poll(queues) & events & 0xFFFF
    for whead, _ in queues:
        pwq = EppollEntry(epi, whead)
        epi.pwqlist.append(pwq)
        if events & EPOLLEXCLUSIVE:
            add_wait_queue(whead, pwq)
        else:
            add_wait_queue_first(whead, pwq)
    if revents and epi not in ep.rdllist:
        ep.rdllist[epi] = None
        ep_wake(ep)
    return 0


def ep_modify(epi: Epitem, events: int, data: int) -> int:
    """New events, looked at once: a change re-arms EPOLLET and EPOLLONESHOT."""
    epi.events = events
    epi.data = data
    if ep_item_poll(epi) and epi not in epi.ep.rdllist:
        epi.ep.rdllist[epi] = None
        ep_wake(epi.ep)
    return 0


def ep_remove(epi: Epitem) -> None:
    """Off every list. Nobody is woken: a waiter that was told of it finds nothing, and waits on."""
    for pwq in epi.pwqlist:
        remove_wait_queue(pwq.whead, pwq)
    epi.pwqlist.clear()
    links = epi.file.f_ep
    if links is not None:
        links.remove(epi)
        if not links:
            epi.file.f_ep = None
    epi.ep.items.pop((epi.fd, epi.file), None)
    epi.ep.rdllist.pop(epi, None)


def ep_depth_below(ep: Eventpoll, inserting_into: Eventpoll, known: dict[Eventpoll, int]) -> int:
    """How many epolls hang one below the other under `ep`; more than EP_MAX_NESTS when `inserting_into` is one of them."""
    if ep in known:
        return known[ep]
    result = 0
    for epi in ep.items.values():
        below = epi.file
        if not isinstance(below, Eventpoll):
            continue
        if below is inserting_into:
            result = EP_MAX_NESTS + 1
        else:
            result = max(result, ep_depth_below(below, inserting_into, known) + 1)
        if result > EP_MAX_NESTS:
            break
    known[ep] = result
    return result


def ep_depth_above(ep: Eventpoll, known: dict[Eventpoll, int]) -> int:
    """How many epolls watch `ep` one above the other."""
    if ep in known:
        return known[ep]
    result = 0
    for link in ep.f_ep or []:
        assert isinstance(link, Epitem)
        result = max(result, ep_depth_above(link.ep, known) + 1)
    known[ep] = result
    return result


def ep_loop_check(ep: Eventpoll, to: Eventpoll) -> int:
    """-ELOOP if `ep` may not watch `to`: a cycle, or a chain of more than EP_MAX_NESTS."""
    depth = ep_depth_below(to, ep, {})
    if depth > EP_MAX_NESTS or depth + 1 + ep_depth_above(ep, {}) > EP_MAX_NESTS:
        return -ELOOP
    return 0


def ep_files_below(file: File, out: list[File], known: dict[File, None]) -> None:
    """The files that are no epolls themselves, at the bottom of what `file` watches."""
    if file in known:
        return
    known[file] = None
    if not isinstance(file, Eventpoll):
        out.append(file)
        return
    for epi in file.items.values():
        ep_files_below(epi.file, out, known)


def reverse_path_check_proc(file: File, depth: int, count: list[int]) -> bool:
    """Whether the ways up from `file` are too many or too long."""
    if depth > EP_MAX_NESTS:
        return True
    for link in file.f_ep or []:
        assert isinstance(link, Epitem)
        if link.ep.f_ep is not None:
            if reverse_path_check_proc(link.ep, depth + 1, count):
                return True
        elif depth:  # directly into an epoll that nobody watches: any number
            count[depth] += 1
            if count[depth] > PATH_LIMITS[depth]:
                return True
    return False


def reverse_path_check(file: File) -> bool:
    """Whether a wake-up of some file would have too many ways to go since `file` is watched once more."""
    files: list[File] = []
    ep_files_below(file, files, {})
    for one in files:
        if reverse_path_check_proc(one, 0, [0] * len(PATH_LIMITS)):
            return True
    return False


def do_epoll_ctl(task: Task, epfd: int, op: int, fd: int, events: int, data: int) -> int:
    """epoll_ctl(2). `events` are 32 bits, `data` is what epoll_wait is to give back. 0 or -errno."""
    ep = fdget(task.files, epfd)
    file = fdget(task.files, fd)
    if ep is None or file is None:
        return -EBADF
    if not file.can_poll():
        return -EPERM
    if ep is file or not isinstance(ep, Eventpoll):
        return -EINVAL
    events &= 0xFFFFFFFF & ~EPOLLWAKEUP
    if op != EPOLL_CTL_DEL and events & EPOLLEXCLUSIVE:
        if op == EPOLL_CTL_MOD:
            return -EINVAL
        if op == EPOLL_CTL_ADD and (isinstance(file, Eventpoll) or events & ~EPOLLEXCLUSIVE_OK_BITS):
            return -EINVAL
    full_check = op == EPOLL_CTL_ADD and (ep.f_ep is not None or isinstance(file, Eventpoll))
    if full_check and isinstance(file, Eventpoll):
        err = ep_loop_check(ep, file)
        if err:
            return err
    epi = ep.items.get((fd, file))
    if op == EPOLL_CTL_ADD:
        if epi is not None:
            return -EEXIST
        return ep_insert(ep, file, fd, events | EPOLLERR | EPOLLHUP, data, full_check)
    if op == EPOLL_CTL_DEL:
        if epi is None:
            return -ENOENT
        ep_remove(epi)
        return 0
    if op == EPOLL_CTL_MOD:
        if epi is None:
            return -ENOENT
        if epi.events & EPOLLEXCLUSIVE:
            return -EINVAL
        return ep_modify(epi, events | EPOLLERR | EPOLLHUP, data)
    return -EINVAL


# -- epoll_create, epoll_wait ----------------------------------------------------------------------------------------------


def do_epoll_create(task: Task, flags: int) -> int:
    """A descriptor or -errno."""
    if flags & ~EPOLL_CLOEXEC:
        return -EINVAL
    fd = get_unused_fd_flags(task, flags)
    if fd >= 0:
        fd_install(task.files, fd, Eventpoll(), flags & EPOLL_CLOEXEC != 0)
    return fd


def ep_send_events(ep: Eventpoll, maxevents: int) -> list[tuple[int, int]]:
    """Up to `maxevents` of what is ready, as (events, data). Who is left over stays in front of who is reported again."""
    out: list[tuple[int, int]] = []
    seen: list[Epitem] = []
    again: list[Epitem] = []
    for epi in ep.rdllist:
        if len(out) >= maxevents:
            break
        seen.append(epi)
        revents = ep_item_poll(epi)
        if not revents:
            continue
        out.append((revents, epi.data))
        if epi.events & EPOLLONESHOT:
            epi.events &= EP_PRIVATE_BITS
        elif not epi.events & EPOLLET:
            again.append(epi)
    for epi in seen:
        del ep.rdllist[epi]
    for epi in again:
        ep.rdllist[epi] = None
    if ep.rdllist and ep.wq.entries is not None:
        wake_up_poll(ep.wq, 0)
    return out


def do_epoll_wait(task: Task, iocb: Kiocb, epfd: int, maxevents: int, timeout: int) -> tuple[int, list[tuple[int, int]]]:
    """epoll_wait(2); `timeout` is in ns, negative for ever. (how many or -errno, the events)."""
    file = iocb.ki_filp
    if file is None:
        file = fdget(task.files, epfd)
        if file is None:
            return -EBADF, []
    if maxevents <= 0 or maxevents > EP_MAX_EVENTS or not isinstance(file, Eventpoll):
        return -EINVAL, []
    err, events = ep_poll(task, file, iocb, maxevents, timeout)
    return fput_light(iocb, file, err), events


def ep_poll(task: Task, ep: Eventpoll, iocb: Kiocb, maxevents: int, timeout: int) -> tuple[int, list[tuple[int, int]]]:
    if ep.rdllist:
        events = ep_send_events(ep, maxevents)
        if events:
            return len(events), events
    if iocb.timeout(task.kernel.now, timeout if timeout >= 0 else MAX_SCHEDULE_TIMEOUT) == 0:
        return 0, []
    if iocb.ki_signal:
        return -EINTR, []
    return iocb.wait(ep.wq, 0, True), []
