"""I/O objects for devices whose packets go through code of the user's: a WireGuard, SSH or QUIC tunnel, a serial line, a test.

What the stack sends waits in `outgoing` for the user to get; what the user puts waits in `incoming` for the stack. Both are
bounded, and neither loses anything: who puts into a full queue waits, and a stack whose queue is full is told -EAGAIN. Its packets
then stay in the device's qdisc, which holds its senders back as one on a slow link does, until `tun_wake`.

`PacketQueue` is what both kinds share: `QueueIO` below is for threads, as queue.Queue is; aio.py has the one for coroutines.
Nothing here is Linux's only but the descriptor of a QueueIO, by which runner/threaded.py waits for it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, Full

from afinet.drivers.tun import TunIO
from afinet.runner.readiness import Readiness
from afinet.uapi.errno import EAGAIN, ENETDOWN

LIMIT = 256  # packets


class Closed(Exception):
    """The I/O object has been closed."""


class PacketQueue(TunIO):
    """Two bounded queues of packets. `tap` says whether they are Ethernet frames, or bare IP packets."""

    def __init__(self, limit: int = LIMIT, *, tap: bool = False) -> None:
        super().__init__()
        if limit < 1:
            raise ValueError(f"limit={limit}: a queue holds at least one packet")
        self.limit = limit
        self.tap = tap
        self.incoming: deque[bytes] = deque()
        self.outgoing: deque[bytes] = deque()
        self.closed = False

    def room(self) -> bool:
        """Whether the stack's next packet will be taken."""
        return len(self.outgoing) < self.limit or self.closed

    def _checked(self, packet: bytes) -> bytes:
        if self.closed:
            raise Closed
        if not 0 < len(packet) <= 65535 + 18:
            raise ValueError(f"a packet of {len(packet)} bytes: from 1 to 65535, and the link header")
        return bytes(packet)


class QueueIO(PacketQueue):
    """For threads: `put` and `get` may be called from any, and wait as those of queue.Queue do. For the threaded runner."""

    def __init__(self, limit: int = LIMIT, *, tap: bool = False) -> None:
        super().__init__(limit, tap=tap)
        self._lock = threading.Condition(threading.Lock())
        self._readiness = Readiness()

    # -- the stack's side ----------------------------------------------------------------------------------------------

    def read(self) -> bytes | None:
        with self._lock:
            if not self.incoming:
                return None
            packet = self.incoming.popleft()
            if not self.incoming:
                self._readiness.show_readable(False)
            self._lock.notify_all()
            return packet

    def writev(self, pieces: list[bytes]) -> int:
        with self._lock:
            if self.closed:
                return -ENETDOWN
            if not self.room():
                return -EAGAIN
            self.outgoing.append(b"".join(pieces))
            if not self.room():
                self._readiness.show_writable(False)
            self._lock.notify_all()
            return 0

    def fileno(self) -> int:
        """Readable when the stack has something to read, writable when it may write."""
        return self._readiness.fileno()

    # -- the user's side -----------------------------------------------------------------------------------------------

    def put(self, packet: bytes, block: bool = True, timeout: float | None = None) -> None:
        """Hand a packet to the stack. queue.Full if there is no room, and none comes in time."""
        packet = self._checked(packet)
        with self._lock:
            if not self._wait(lambda: len(self.incoming) < self.limit, block, timeout):
                raise Full
            self.incoming.append(packet)
            self._readiness.show_readable(True)

    def get(self, block: bool = True, timeout: float | None = None) -> bytes:
        """The next packet that the stack sends. queue.Empty if there is none, and none comes in time."""
        with self._lock:
            if not self._wait(lambda: bool(self.outgoing), block, timeout):
                raise Empty
            packet = self.outgoing.popleft()
            self._readiness.show_writable(True)
            return packet

    def _wait(self, ready: Callable[[], bool], block: bool, timeout: float | None) -> bool:
        end = None if timeout is None else time.monotonic() + timeout
        while not ready():
            if self.closed:
                raise Closed
            left = None if end is None else end - time.monotonic()
            if not block or (left is not None and left <= 0):
                return False
            self._lock.wait(left)
        return True

    def close(self) -> None:
        """Whoever waits gets `Closed`, when the queue is empty; what the stack sends from now on is lost, and counted."""
        with self._lock:
            self.closed = True
            self._readiness.show_writable(True)
            self._lock.notify_all()

    def release(self) -> None:
        """Close the descriptor, too: after the runner has been stopped."""
        self.close()
        self._readiness.close()
