"""kernel/sched/wait.c, and struct kiocb: how an operation that cannot finish says so.

Nothing below the runners sleeps. An operation finishes, or records in its `Kiocb` what it waits for and answers -EIOCBQUEUED;
the runner puts an entry on that wait queue, waits for it or for the deadline, and calls the operation again with the same Kiocb,
in which its progress lives.

Waiters are first in, first out, the exclusive ones behind all others: a wake-up that ends at an exclusive waiter has told everybody
else. It carries the poll mask of what happened; an entry not interested stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.uapi.errno import EIOCBQUEUED

if TYPE_CHECKING:
    from afinet.fs.file import File

WQ_FLAG_EXCLUSIVE: Final = 1

# What a receiving call hands out, piece by piece: bytes as they came, or a view of a part of some, so that the payload is copied
# once, by whoever joins the pieces or lays them into a buffer.
Piece = bytes | memoryview


@mypyc_attr(allow_interpreted_subclasses=True)
class WaitQueueEntry:
    """struct wait_queue_entry. `func` is called at a wake-up; what it answers counts it as woken (exclusive waiters)."""

    __slots__ = ("flags",)

    def __init__(self, flags: int = 0) -> None:
        self.flags: int = flags

    def func(self, key: int) -> bool:
        """`key` is the poll mask of what happened, 0 for anything. True if this wake-up was used."""
        raise NotImplementedError


class WaitQueueHead:
    """struct wait_queue_head."""

    __slots__ = ("entries", "wakes")

    def __init__(self) -> None:
        self.entries: list[WaitQueueEntry] | None = None  # who waits: never an empty list
        self.wakes: int = 0  # wake-ups so far, heard or not (Kiocb.missed)


def add_wait_queue(wq: WaitQueueHead, entry: WaitQueueEntry) -> None:
    """Behind those of its kind; who waits exclusively, behind all."""
    entries = wq.entries
    if entries is None:
        wq.entries = [entry]
        return
    at = len(entries)
    if not entry.flags & WQ_FLAG_EXCLUSIVE:
        while at and entries[at - 1].flags & WQ_FLAG_EXCLUSIVE:
            at -= 1
    entries.insert(at, entry)


def add_wait_queue_first(wq: WaitQueueHead, entry: WaitQueueEntry) -> None:
    """In front of all: Linux's own place for who waits not exclusively. It matters where waking leaves an order behind, as in
    the ready list of an epoll."""
    if wq.entries is None:
        wq.entries = [entry]
    else:
        wq.entries.insert(0, entry)


def remove_wait_queue(wq: WaitQueueHead, entry: WaitQueueEntry) -> None:
    """Take `entry` off; nothing happens if it is not on."""
    entries = wq.entries
    if entries is None:
        return
    for i in range(len(entries)):
        if entries[i] is entry:
            del entries[i]
            if not entries:
                wq.entries = None
            return


def wake_up_poll(wq: WaitQueueHead | None, key: int, nr_exclusive: int = 1) -> None:
    """Wake every non-exclusive waiter that `key` concerns and at most `nr_exclusive` exclusive ones (0: all)."""
    if wq is None:
        return
    wq.wakes += 1
    entries = wq.entries
    if entries is None:
        return
    for entry in entries[:]:
        if entry.func(key) and entry.flags & WQ_FLAG_EXCLUSIVE:
            nr_exclusive -= 1
            if nr_exclusive == 0:
                return


class Kiocb:
    """struct kiocb: the record of one call, held by its caller and passed in again until the call is over.

    An operation that must wait calls `wait` (or `wait_poll`) and returns what that returns. The runner reads `ki_wq`, `ki_mask`,
    `ki_exclusive`, `ki_poll` and `wakes_at()`; when any of them is met, or spuriously, it calls the operation again.
    """

    __slots__ = (
        "ki_deadline",
        "ki_done",
        "ki_exclusive",
        "ki_filp",
        "ki_mask",
        "ki_out",
        "ki_pieces",
        "ki_poll",
        "ki_pos",
        "ki_retry",
        "ki_signal",
        "ki_state",
        "ki_wakes",
        "ki_wq",
    )

    def __init__(self) -> None:
        self.ki_deadline: int = -1  # ns; -1: not computed yet
        self.ki_wq: WaitQueueHead | None = None
        self.ki_poll: list[tuple[WaitQueueHead, int]] | None = None  # several queues at once: poll, select
        self.ki_mask: int = 0  # poll mask that ends the wait; 0: any wake-up
        self.ki_exclusive: bool = False
        self.ki_wakes: int = 0  # of the queues, when the operation looked
        self.ki_retry: int = -1  # ns; when the call is to be made again in any case (memory may be there then); -1: never
        self.ki_signal: bool = False  # a signal is pending for the caller: do not wait
        self.ki_done: int = 0  # bytes done so far
        self.ki_pos: int = 0  # cursor in the message
        self.ki_state: int = 0  # which step a call of several steps has reached
        self.ki_pieces: list[Piece] | None = None  # what a receiving call has gathered
        self.ki_filp: File | None = None  # held while the call waits: a close() meanwhile does not end it
        self.ki_out: File | None = None  # the other file of splice and its sisters, held as well

    def timeout(self, now: int, timeo: int) -> int:
        """What is left (ns) of a time limit that began with the first try of this call; 0 when it is used up."""
        if timeo >= MAX_SCHEDULE_TIMEOUT:
            self.ki_deadline = MAX_SCHEDULE_TIMEOUT
            return MAX_SCHEDULE_TIMEOUT
        if self.ki_deadline < 0:
            self.ki_deadline = now + timeo
        left = self.ki_deadline - now
        return left if left > 0 else 0

    def wakes_at(self) -> int:
        """When (ns) the waiting call is to be made again though nothing woke it; MAX_SCHEDULE_TIMEOUT for never."""
        when = self.ki_deadline if self.ki_deadline >= 0 else MAX_SCHEDULE_TIMEOUT
        return self.ki_retry if 0 <= self.ki_retry < when else when

    def wait(self, wq: WaitQueueHead, mask: int, exclusive: bool = False) -> int:
        """Say what the call waits for. Returns -EIOCBQUEUED, for the operation to return."""
        self.ki_wq = wq
        self.ki_poll = None
        self.ki_mask = mask
        self.ki_exclusive = exclusive
        self.ki_wakes = wq.wakes
        return -EIOCBQUEUED

    def wait_poll(self, queues: list[tuple[WaitQueueHead, int]]) -> int:
        """Wait for any of several (queue, poll mask); an empty list waits for the deadline alone."""
        self.ki_wq = None
        self.ki_poll = queues
        wakes = 0
        for wq, _ in queues:
            wakes += wq.wakes
        self.ki_wakes = wakes
        return -EIOCBQUEUED

    def missed(self) -> bool:
        """Whether a wake-up came since the operation looked: the backlog and the softirqs of its own call run after that, and who
        waits registers only then. The runner asks this once it has registered, and if so calls the operation again at once."""
        wq = self.ki_wq
        if wq is not None:
            return wq.wakes != self.ki_wakes
        wakes = 0
        queues = self.ki_poll
        if queues is not None:
            for head, _ in queues:
                wakes += head.wakes
        return wakes != self.ki_wakes


class KiocbVec(Kiocb):
    """The record of a call on many messages: the Kiocb is that of the message it is at, those before it are done."""

    __slots__ = ("kv_end", "kv_received", "kv_sent")

    def __init__(self) -> None:
        super().__init__()
        self.kv_end: int = -1  # recvmmsg: when (ns) its own time limit is over
        self.kv_sent: list[int] = []  # sendmmsg: the bytes taken of each message
        # recvmmsg: what recvmsg answered for each: number of bytes, pieces, control, msg_flags, address
        self.kv_received: list[tuple[int, list[Piece], bytes, int, bytes]] = []

    def next_message(self) -> None:
        """A message is done: the next one begins a call of its own, time limit included. The file stays held."""
        self.ki_deadline = -1
        self.ki_retry = -1
        self.ki_wq = None
        self.ki_poll = None
        self.ki_done = 0
        self.ki_pos = 0
        self.ki_state = 0
        self.ki_pieces = None
