"""asyncio transports over sockets of the stack, and the server that accepts them: what asyncio's selector loop has over the host's.

A transport watches its file's wait queues. A wake-up only schedules `_serve` in the loop, once; that receives while its protocol
takes it, sends what is buffered, and ends the connection. Nothing is called back from inside the stack.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any

from afinet.fs.file import File, fdget
from afinet.init import syscalls
from afinet.kernel.task import Task
from afinet.kernel.wait import Kiocb, WaitQueueEntry, WaitQueueHead, add_wait_queue, remove_wait_queue
from afinet.runner.aio import AioRunner
from afinet.runner.boot import quad
from afinet.uapi.errno import EAGAIN, ECONNABORTED, EIOCBQUEUED
from afinet.uapi.eventpoll import POLLERR, POLLHUP, POLLIN
from afinet.uapi.sockaddr import get_s32, pack_s32, pack_sockaddr_in, unpack_sockaddr_in
from afinet.uapi.socket import (
    AF_INET,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SHUT_WR,
    SO_BROADCAST,
    SO_REUSEADDR,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
)
from afinet.uapi.tcp import TCP_NODELAY

IPPROTO_TCP = 6
FLAGS = MSG_DONTWAIT | MSG_NOSIGNAL
READ_SIZE = 256 * 1024
TURN = 16  # how many reads in one go, before the loop has its turn
HIGH_WATER = 64 * 1024

Address = tuple[str, int]
_RECEIVING = (asyncio.Protocol, asyncio.BufferedProtocol)


def os_error(err: int) -> OSError:
    """The exception for -errno."""
    return OSError(-err, os.strerror(-err))


def checked(err: int) -> int:
    if err < 0:
        raise os_error(err)
    return err


def address(name: bytes) -> Address:
    """What a program sees of a sockaddr_in."""
    ip, port = unpack_sockaddr_in(name)
    return quad(ip), port


class _Watch(WaitQueueEntry):
    """On the wait queues of a file: something may have changed."""

    __slots__ = ("changed",)

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__(0)
        self.changed = changed

    def func(self, key: int) -> bool:
        self.changed()
        return False  # nobody's wait ends by this


class Socket:
    """A socket of the stack and its watch. `on_ready` is called by the loop after a change."""

    def __init__(self, runner: AioRunner, task: Task, fd: int) -> None:
        self.runner = runner
        self.task = task
        self.fd = fd
        file = fdget(task.files, fd)
        assert file is not None
        self.file: File = file
        self.on_ready: Callable[[], None] | None = None
        self._scheduled = False
        self._watch = _Watch(self.kick)
        queues: list[tuple[WaitQueueHead, int]] = []
        self.file.poll(queues)
        self._queues = [wq for wq, _ in queues]

    @classmethod
    def new(cls, runner: AioRunner, task: Task, kind: int) -> Socket:
        return cls(runner, task, checked(runner.call(syscalls.sys_socket, task, AF_INET, kind, 0)))

    def watch(self, on_ready: Callable[[], None]) -> None:
        self.on_ready = on_ready
        for wq in self._queues:
            add_wait_queue(wq, self._watch)
        self.kick()

    def kick(self) -> None:
        """Have `on_ready` called."""
        if not self._scheduled and self.on_ready is not None:
            self._scheduled = True
            self.runner.loop.call_soon(self._ready)

    def _ready(self) -> None:
        self._scheduled = False
        if self.on_ready is not None:
            self.on_ready()

    def poll(self) -> int:
        return self.file.poll(None)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.runner.call(function, self.task, self.fd, *args)

    def try_once(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.runner.call(function, self.task, Kiocb(), self.fd, *args)

    async def finish(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self.runner.finish(function, self.task, self.fd, *args)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        checked(self.call(syscalls.sys_setsockopt, level, option, pack_s32(value)))

    def getsockopt(self, level: int, option: int) -> int:
        err, value = self.call(syscalls.sys_getsockopt, level, option, 4)
        checked(err)
        return get_s32(value, 0)

    def name(self, function: Callable[..., Any]) -> Address | None:
        err, name = self.call(function)
        return address(name) if err == 0 else None

    def close(self) -> None:
        if self.fd < 0:
            return
        self.on_ready = None
        for wq in self._queues:
            remove_wait_queue(wq, self._watch)
        iocb = Kiocb()
        if self.runner.call(syscalls.sys_close, self.task, iocb, self.fd) == -EIOCBQUEUED:
            syscalls.abandon(iocb)  # SO_LINGER: the stack goes on without us
        self.fd = -1


class _Transport(asyncio.BaseTransport):
    """What connections and datagram sockets share: closing, and the buffer's limits."""

    def __init__(self, sock: Socket, protocol: asyncio.BaseProtocol, peer: Address | None, owner: Owner) -> None:
        super().__init__({
            "socket": sock,
            "sockname": sock.name(syscalls.sys_getsockname),
            "peername": peer,
        })  # fmt: skip
        self.sock = sock
        self.loop = sock.runner.loop
        self.protocol = protocol
        self.owner = owner
        self.high, self.low = HIGH_WATER, HIGH_WATER // 4
        self.paused = False  # the protocol has been told not to write
        self.closing = False
        self.error: BaseException | None = None
        self.size = 0  # bytes buffered
        owner.transports[self] = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def is_closing(self) -> bool:
        return self.closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high, self.low = high, low
        self._limits()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self.low, self.high

    def get_write_buffer_size(self) -> int:
        return self.size

    def _limits(self) -> None:
        """Tell the protocol to stop writing, or to go on."""
        if not self.paused and self.size > self.high:
            self.paused = True
            self._tell(self.protocol.pause_writing)
        elif self.paused and self.size <= self.low:
            self.paused = False
            self._tell(self.protocol.resume_writing)

    def _tell(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call the protocol. What it raises ends the connection, not the loop."""
        try:
            return method(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as e:
            self.loop.call_exception_handler({"message": "a protocol's method failed", "exception": e, "transport": self})
            self._fail(e)
        return None

    def _fail(self, error: BaseException | None) -> None:
        """Forget what is buffered, and end."""
        if self.error is None:
            self.error = error
        self.size = 0
        self._forget()
        self.closing = True
        self.sock.kick()

    def _forget(self) -> None:
        """Drop the buffer."""

    def abort(self) -> None:
        self._fail(None)

    def _end(self) -> None:
        """The socket is closed, and the protocol told."""
        if self.sock.fd < 0:
            return
        self.sock.close()
        self.owner.transports.pop(self, None)
        self.paused = False
        self._tell(self.protocol.connection_lost, self.error)
        self.owner.transport_ended()


class Owner:
    """Who made the transports: a server, or the machine itself."""

    def __init__(self) -> None:
        self.transports: dict[_Transport, None] = {}

    def transport_ended(self) -> None:
        pass


class StreamTransport(_Transport, asyncio.Transport):
    """A TCP connection."""

    def __init__(self, sock: Socket, protocol: asyncio.BaseProtocol, peer: Address | None, owner: Owner) -> None:
        super().__init__(sock, protocol, peer, owner)
        self.buffer: deque[bytes] = deque()
        self.reading = True
        self.eof_received = False
        self.eof_wanted = False  # shut down for writing once the buffer is empty
        self.eof_sent = False
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # as asyncio does
        self._tell(protocol.connection_made, self)
        sock.watch(self._serve)

    # -- reading -------------------------------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self.reading and not self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        if not self.reading:
            self.reading = True
            self.sock.kick()

    def _serve(self) -> None:
        if self.buffer:
            self._flush()
        turns = TURN
        while turns and self.reading and not self.closing and not self.eof_received:
            turns -= 1
            if not self._receive():
                break
        else:
            if not turns:
                self.sock.kick()
        if self.closing and not self.buffer:
            self._end()
        elif self.closing and self.sock.poll() & (POLLERR | POLLHUP):
            # Nobody reads any more, but what was written is on its way: until the connection breaks.
            self._fail(None)
            self._end()

    def _receive(self) -> bool:
        """One read. Whether there may be more."""
        n, pieces, _ = self.sock.try_once(syscalls.sys_recvfrom, READ_SIZE, FLAGS)
        if n == -EAGAIN:
            return False
        if n < 0:
            self._fail(os_error(n))
            return False
        protocol = self.protocol
        if n == 0:
            self.eof_received = True
            keep_open = self._tell(protocol.eof_received) if isinstance(protocol, _RECEIVING) else None
            if not keep_open:
                self.close()
            return False
        if isinstance(protocol, asyncio.BufferedProtocol):
            self._fill(protocol, b"".join(pieces))
        elif isinstance(protocol, asyncio.Protocol):
            self._tell(protocol.data_received, b"".join(pieces))
        return True

    def _fill(self, protocol: asyncio.BufferedProtocol, data: bytes) -> None:
        at = 0
        while at < len(data) and not self.closing:
            space = self._tell(protocol.get_buffer, len(data) - at)
            if space is None:
                return
            n = min(len(space), len(data) - at)
            space[:n] = data[at : at + n]
            self._tell(protocol.buffer_updated, n)
            at += n

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self.eof_wanted:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self.closing:
            return
        data = bytes(data)
        self.buffer.append(data)
        self.size += len(data)
        if len(self.buffer) == 1:
            self._flush()
        self._limits()

    def _flush(self) -> None:
        """Send what the socket takes."""
        buffer = self.buffer
        while buffer:
            data = buffer[0]
            n = self.sock.try_once(syscalls.sys_sendto, data, FLAGS, b"")
            if n == -EAGAIN:
                break
            if n < 0:
                # The connection is gone; what the peer still sent can be read before that is told.
                self._fail(os_error(n))
                return
            self.size -= n
            if n < len(data):
                buffer[0] = data[n:]
            else:
                buffer.popleft()
        if not buffer and self.eof_wanted and not self.eof_sent:
            self.eof_sent = True
            self.sock.call(syscalls.sys_shutdown, SHUT_WR)
        self._limits()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self.eof_wanted and not self.closing:
            self.eof_wanted = True
            self._flush()

    def _forget(self) -> None:
        self.buffer.clear()

    def close(self) -> None:
        """No more is read; the rest of the buffer is sent, and then the connection closed."""
        if not self.closing:
            self.closing = True
            self.sock.kick()


class DatagramTransport(_Transport, asyncio.DatagramTransport):
    """A UDP socket."""

    def __init__(self, sock: Socket, protocol: asyncio.DatagramProtocol, peer: Address | None, owner: Owner) -> None:
        super().__init__(sock, protocol, peer, owner)
        self.datagrams: deque[tuple[bytes, bytes]] = deque()
        self._tell(protocol.connection_made, self)
        sock.watch(self._serve)

    def _serve(self) -> None:
        self._flush()
        turns = TURN
        while turns and not self.closing and self._receive():
            turns -= 1
        if not turns:
            self.sock.kick()
        if self.closing and not self.datagrams:
            self._end()

    def _receive(self) -> bool:
        n, pieces, name = self.sock.try_once(syscalls.sys_recvfrom, 65536, FLAGS)
        if n == -EAGAIN:
            return False
        protocol = self.protocol
        assert isinstance(protocol, asyncio.DatagramProtocol)
        if n < 0:
            self._tell(protocol.error_received, os_error(n))
        else:
            self._tell(protocol.datagram_received, b"".join(pieces), address(name))
        return True

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        if self.closing:
            return
        name = pack_sockaddr_in(numeric(addr[0]), addr[1]) if addr is not None else b""
        self.datagrams.append((bytes(data), name))
        self.size += len(data)
        if len(self.datagrams) == 1:
            self._flush()
        self._limits()

    def _flush(self) -> None:
        while self.datagrams:
            data, name = self.datagrams[0]
            n = self.sock.try_once(syscalls.sys_sendto, data, FLAGS, name)
            if n == -EAGAIN:
                break
            self.datagrams.popleft()
            self.size -= len(data)
            if n < 0:
                protocol = self.protocol
                assert isinstance(protocol, asyncio.DatagramProtocol)
                self._tell(protocol.error_received, os_error(n))
        self._limits()

    def _forget(self) -> None:
        self.datagrams.clear()

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.sock.kick()


def numeric(host: str) -> int:
    """The number of a dotted quad. ValueError if it is none."""
    parts = host.split(".")
    if len(parts) != 4 or not all(p.isascii() and p.isdigit() and len(p) <= 3 and int(p) < 256 for p in parts):
        raise ValueError(f"{host!r} is not an IPv4 address")
    a, b, c, d = map(int, parts)
    return a << 24 | b << 16 | c << 8 | d


class Server(Owner):
    """A listening socket, as asyncio.Server is one. `async with server:` closes it at the end."""

    def __init__(self, sock: Socket, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        super().__init__()
        self.sock = sock
        self.factory = factory
        self._forever: asyncio.Future[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self.address = sock.name(syscalls.sys_getsockname)
        sock.watch(self._accept)

    def _accept(self) -> None:
        for _ in range(TURN):
            if not self.sock.poll() & POLLIN:
                return
            fd, name = self.sock.try_once(syscalls.sys_accept4, 0)
            if fd in (-ECONNABORTED, -EAGAIN):
                continue
            if fd < 0:
                # Out of descriptors, mostly: those who wait are accepted when one has been closed.
                self.sock.runner.loop.call_exception_handler({"message": "accept() failed", "exception": os_error(fd)})
                self.sock.runner.loop.call_later(1, self.sock.kick)
                return
            sock = Socket(self.sock.runner, self.sock.task, fd)
            try:
                protocol = self.factory()
            except BaseException:
                sock.close()
                self.sock.kick()
                raise
            StreamTransport(sock, protocol, address(name), self)
        self.sock.kick()

    def is_serving(self) -> bool:
        return self.sock.fd >= 0

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.sock.runner.loop

    async def serve_forever(self) -> None:
        """Until cancelled, or closed."""
        if not self.is_serving():
            raise RuntimeError("the server is closed")
        self._forever = self.get_loop().create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._forever = None

    def close(self) -> None:
        """No new connections; those that there are go on."""
        self.sock.close()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self.transport_ended()

    async def wait_closed(self) -> None:
        """Until it is closed and its last connection has ended."""
        if self.is_serving() or self.transports:
            waiter = self.get_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def transport_ended(self) -> None:
        if self.is_serving() or self.transports:
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        await self.wait_closed()


async def connect(runner: AioRunner, task: Task, name: bytes, local: bytes = b"") -> Socket:
    """A connected socket. OSError if it cannot be; cancelled, the attempt is given up."""
    sock = Socket.new(runner, task, SOCK_STREAM)
    try:
        if local:
            checked(sock.call(syscalls.sys_bind, local))
        checked(await sock.finish(syscalls.sys_connect, name))
    except BaseException:
        sock.close()
        raise
    return sock


def listen(runner: AioRunner, task: Task, name: bytes, backlog: int) -> Socket:
    """A listening socket."""
    sock = Socket.new(runner, task, SOCK_STREAM)
    try:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        checked(sock.call(syscalls.sys_bind, name))
        checked(sock.call(syscalls.sys_listen, backlog))
    except BaseException:
        sock.close()
        raise
    return sock


async def datagram_socket(runner: AioRunner, task: Task, local: bytes, remote: bytes, broadcast: bool) -> Socket:
    """A UDP socket, bound to `local` and connected to `remote` as far as they are given."""
    sock = Socket.new(runner, task, SOCK_DGRAM)
    try:
        if broadcast:
            sock.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
        if local:
            checked(sock.call(syscalls.sys_bind, local))
        if remote:
            checked(await sock.finish(syscalls.sys_connect, remote))
    except BaseException:
        sock.close()
        raise
    return sock


class Datagrams:
    """A UDP socket for coroutines: `async with` closes it, `async for data, addr in` it receives."""

    def __init__(self, sock: Socket) -> None:
        self.sock = sock
        self.address = sock.name(syscalls.sys_getsockname)

    async def recvfrom(self, size: int = 65536) -> tuple[bytes, Address]:
        """The next datagram, and who sent it. OSError for an error that the network has reported."""
        n, pieces, name = await self.sock.finish(syscalls.sys_recvfrom, size, 0)
        checked(n)
        return b"".join(pieces), address(name)

    async def sendto(self, data: bytes | bytearray | memoryview, addr: Address | None = None) -> None:
        """Send a datagram, to `addr` or to the address that the socket was opened for. Waits while the buffer is full."""
        name = pack_sockaddr_in(numeric(addr[0]), addr[1]) if addr is not None else b""
        checked(await self.sock.finish(syscalls.sys_sendto, bytes(data), MSG_NOSIGNAL, name))

    def close(self) -> None:
        self.sock.close()

    async def __aenter__(self) -> Datagrams:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def __aiter__(self) -> Datagrams:
        return self

    async def __anext__(self) -> tuple[bytes, Address]:
        return await self.recvfrom()
