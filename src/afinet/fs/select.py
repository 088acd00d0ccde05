"""fs/select.c: poll(2) and select(2), called again until something is ready or the time is over.

A try asks every file for its mask and for the wait queues that will tell of a change; if nothing is ready the call waits on all of
them at once (Kiocb.wait_poll), each with the events that matter. A wake-up without a mask always counts.

As in Linux the descriptors are looked up at every try: one that was closed meanwhile answers POLLNVAL. Unlike there the files
are not held while the call waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.fs.file import File, fdget
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.kernel.wait import Kiocb, WaitQueueHead
from afinet.uapi.errno import EBADF, EINTR, EINVAL
from afinet.uapi.eventpoll import (
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLNVAL,
    POLLOUT,
    POLLPRI,
    POLLRDBAND,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
)

if TYPE_CHECKING:
    from afinet.kernel.task import Task

# What makes a descriptor readable, writable, or exceptional to select().
POLLIN_SET: Final = POLLNVAL | POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR
POLLOUT_SET: Final = POLLNVAL | POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR
POLLEX_SET: Final = POLLNVAL | POLLPRI


def vfs_poll(file: File, events: int, queues: list[tuple[WaitQueueHead, int]]) -> int:
    """The mask now; appends to `queues` what to wait on for `events`."""
    first = len(queues)
    mask = file.poll(queues)
    for i in range(first, len(queues)):
        wq, tells = queues[i]
        queues[i] = (wq, events & tells if tells else events)
    return mask


def poll_wait(task: Task, iocb: Kiocb, queues: list[tuple[WaitQueueHead, int]], timeout: int) -> int:
    """Nothing was ready: 0 when the time is over, -EINTR for a signal, or -EIOCBQUEUED."""
    if timeout < 0:
        timeout = MAX_SCHEDULE_TIMEOUT
    if iocb.timeout(task.kernel.now, timeout) == 0:
        return 0
    if iocb.ki_signal:
        return -EINTR
    return iocb.wait_poll(queues)


def do_poll(task: Task, iocb: Kiocb, fds: list[tuple[int, int]], timeout: int) -> tuple[int, list[int]]:
    """poll(2). `fds` are (descriptor, events), `timeout` is in ns, negative for ever. (how many have events or -errno, revents)."""
    if len(fds) > task.rlimit_nofile:
        return -EINVAL, []
    queues: list[tuple[WaitQueueHead, int]] = []
    revents: list[int] = []
    count = 0
    for fd, events in fds:
        if fd < 0:
            revents.append(0)
            continue
        file = fdget(task.files, fd)
        if file is None:
            mask = POLLNVAL
        else:
            filter = events & 0xFFFF | POLLERR | POLLHUP
            mask = vfs_poll(file, filter, queues) & filter
        revents.append(mask)
        if mask:
            count += 1
    if count:
        return count, revents
    return poll_wait(task, iocb, queues, timeout), revents


def do_select(
    task: Task, iocb: Kiocb, inp: list[int], outp: list[int], exp: list[int], timeout: int
) -> tuple[int, list[int], list[int], list[int]]:
    """select(2) over descriptors instead of bit maps: (how many bits are set or -errno, readable, writable, exceptional), each
    in the order given. -EBADF if one is not open."""
    wanted: dict[int, int] = {}
    for fd in inp:
        wanted[fd] = POLLIN_SET
    for fd in outp:
        wanted[fd] = wanted.get(fd, 0) | POLLOUT_SET
    for fd in exp:
        wanted[fd] = wanted.get(fd, 0) | POLLEX_SET
    queues: list[tuple[WaitQueueHead, int]] = []
    masks: dict[int, int] = {}
    for fd, events in wanted.items():
        file = fdget(task.files, fd)
        if file is None:
            return -EBADF, [], [], []
        masks[fd] = vfs_poll(file, events, queues)
    readable = [fd for fd in inp if masks[fd] & POLLIN_SET]
    writable = [fd for fd in outp if masks[fd] & POLLOUT_SET]
    exceptional = [fd for fd in exp if masks[fd] & POLLEX_SET]
    count = len(readable) + len(writable) + len(exceptional)
    if count:
        return count, readable, writable, exceptional
    return poll_wait(task, iocb, queues, timeout), [], [], []
