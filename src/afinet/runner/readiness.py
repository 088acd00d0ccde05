"""A real descriptor that is ready when a file of the stack is: for select, poll, epoll and event loops in real time.

It is one end, `near`, of an AF_UNIX stream socketpair that nobody reads or writes; what the host's kernel says of it is steered
from the other end, `far`:

    POLLIN          a byte sent to it, or none
    POLLOUT off     2048 bytes sent from it, with SO_SNDBUF at its smallest, that the other end has not read
    POLLRDHUP       the other end is shut down for writing. From then on it is readable, as a TCP socket is
    POLLHUP         the other end is closed; POLLERR: closed with something unread

The last three are for good, as they are for a connection. POLLERR alone, which a UDP socket has until the error is read, shows as
readable and writable: whoever waits for either tries, and gets the error. POLLPRI is not shown.

`Readiness` does the first two, which is all that a queue needs (queueio.py); `Descriptor` follows a file.
"""

from __future__ import annotations

from afinet.fs.file import File
from afinet.kernel.wait import WaitQueueEntry, WaitQueueHead, add_wait_queue, remove_wait_queue
from afinet.runner import real
from afinet.uapi.eventpoll import EPOLLRDHUP, POLLERR, POLLHUP, POLLIN, POLLOUT

_socket = real._socket

# Fills a socket's smallest send buffer: four times what it charges is more than SOCK_MIN_SNDBUF.
FILL = bytes(2048)


class Readiness:
    """A descriptor that is readable and writable as it is told."""

    def __init__(self) -> None:
        pair = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.near, self.far = pair
        for end in pair:
            end.setblocking(False)
        self.near.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, 1)
        self.readable = False
        self.writable = True
        self.number = self.near.fileno()

    def fileno(self) -> int:
        return self.number

    def show_readable(self, readable: bool) -> None:
        if readable != self.readable:
            self.readable = readable
            if readable:
                self.far.send(b"\0")
            else:
                self.near.recv(1)

    def show_writable(self, writable: bool) -> None:
        if writable != self.writable:
            self.writable = writable
            if writable:
                self.far.recv(len(FILL))
            else:
                self.near.send(FILL)

    def close(self) -> None:
        self.far.close()
        self.near.close()


class _Watch(WaitQueueEntry):
    """On the file's wait queues: something has changed."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: Descriptor) -> None:
        super().__init__(0)
        self.descriptor = descriptor

    def func(self, key: int) -> bool:
        self.descriptor.update()
        return False  # nobody's wait ends by this


class Descriptor(Readiness):
    """Made, updated and closed with the runner's lock held."""

    def __init__(self, file: File) -> None:
        super().__init__()
        self.file = file
        self.eof = False
        self.over = False  # hung up
        self._watch = _Watch(self)
        queues: list[tuple[WaitQueueHead, int]] = []
        file.poll(queues)
        self._queues = [wq for wq, _ in queues]
        for wq in self._queues:
            add_wait_queue(wq, self._watch)
        self.update()

    def update(self) -> None:
        """Show what the file's poll() says now."""
        if self.over:
            return
        mask = self.file.poll(None)
        # A socket that was never connected answers POLLHUP as well, but that passes.
        if mask & POLLHUP and mask & (EPOLLRDHUP | POLLERR):
            self._hang_up(mask & POLLERR != 0)
            return
        if mask & EPOLLRDHUP and not self.eof:
            self.eof = True
            self.far.shutdown(_socket.SHUT_WR)
        if not self.eof:
            self.show_readable(mask & (POLLIN | POLLERR) != 0)
        self.show_writable(mask & (POLLOUT | POLLERR) != 0)

    def _hang_up(self, error: bool) -> None:
        self.over = True
        if self.writable and error:
            self.near.send(b"\0")  # closing with something unread is an error
        elif not self.writable and not error:
            self.far.recv(len(FILL))
        self.far.close()

    def close(self) -> None:
        for wq in self._queues:
            remove_wait_queue(wq, self._watch)
        self.over = True
        super().close()
