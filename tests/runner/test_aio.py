"""The aio runner and afinet.aio, in virtual time: machines in one loop, joined by queues."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from afinet import aio
from afinet.drivers.tun import TunIO
from afinet.runner import aiostreams
from afinet.uapi.errno import EAGAIN, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ESHUTDOWN, ETIMEDOUT
from tests.leaks import watch
from tests.runner.virtual_loop import VirtualLoop, run_virtual

A, B = "10.0.0.1", "10.0.0.2"
Body = Callable[["Wire"], Awaitable[Any]]


class Wire:
    """Two machines, and what carries packets between them."""

    def __init__(self, limit: int, tap: bool, delay: float) -> None:
        self.delay = delay
        self.qa, self.qb = aio.QueueIO(limit, tap=tap), aio.QueueIO(limit, tap=tap)
        self.a, self.b = aio.Machine(f"{A}/24", io=self.qa), aio.Machine(f"{B}/24", io=self.qb)
        self.lose: Callable[[bytes], bool] = lambda packet: False
        self.open = asyncio.Event()
        self.open.set()

    async def carry(self, one: aio.QueueIO, other: aio.QueueIO) -> None:
        async for packet in one:
            await self.open.wait()
            if self.delay:
                await asyncio.sleep(self.delay)
            if not self.lose(packet):
                await other.put(packet)


@contextlib.asynccontextmanager
async def wired(limit: int, tap: bool, delay: float) -> AsyncIterator[Wire]:
    wire = Wire(limit, tap, delay)
    carriers = [asyncio.ensure_future(wire.carry(*ends)) for ends in ((wire.qa, wire.qb), (wire.qb, wire.qa))]
    async with wire.a, wire.b:
        for machine in (wire.a, wire.b):
            watch(machine.kernel)
        yield wire
    for io in (wire.qa, wire.qb):
        io.close()
    wire.open.set()
    await asyncio.gather(*carriers, return_exceptions=True)


def play(body: Body, limit: int = 256, tap: bool = False, delay: float = 0.0) -> Any:
    async def main() -> Any:
        async with wired(limit, tap, delay) as wire:
            return await body(wire)

    return run_virtual(main())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


# -- streams ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tap", [False, True])
@pytest.mark.parametrize("limit", [1, 7, 256])
def test_two_machines_in_one_loop_talk_over_a_queue(tap: bool, limit: int) -> None:
    data = bytes(range(256)) * 800

    async def body(wire: Wire) -> None:
        server = await wire.b.start_server(echo, port=7)
        assert server.address == ("0.0.0.0", 7)
        reader, writer = await wire.a.open_connection(B, 7)
        assert writer.get_extra_info("peername") == (B, 7) and writer.get_extra_info("sockname")[0] == A
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        assert not server.is_serving()

    play(body, limit, tap)


def test_many_connections_with_delay_and_loss() -> None:
    async def talk(wire: Wire, i: int) -> bool:
        reader, writer = await wire.a.open_connection(B, 7)
        data = b"%d" % i * 4000
        writer.write(data)
        got = await reader.readexactly(len(data))
        writer.close()
        await writer.wait_closed()
        return got == data

    async def body(wire: Wire) -> None:
        seen = [0]

        def every_twentieth(packet: bytes) -> bool:
            seen[0] += 1
            return seen[0] % 20 == 0

        wire.lose = every_twentieth
        await wire.b.start_server(echo, port=7)
        assert all(await asyncio.gather(*(talk(wire, i) for i in range(20))))

    play(body, delay=0.01)


def test_nobody_listens() -> None:
    async def body(wire: Wire) -> int | None:
        with pytest.raises(ConnectionRefusedError) as e:
            await wire.a.open_connection(B, 8)
        return e.value.errno

    assert play(body) == ECONNREFUSED


def test_nobody_answers() -> None:
    """Linux's time for a SYN: 1 + 1 + 1 + 1 + 1 + 2 + 4 + ... seconds, tcp_syn_linear_timeouts being 4."""

    async def body(wire: Wire) -> tuple[int | None, float]:
        wire.lose = lambda packet: True
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError) as e:
            await wire.a.open_connection(B, 8)
        return e.value.errno, asyncio.get_running_loop().time() - began

    error, seconds = play(body)
    assert error == ETIMEDOUT and 60 < seconds < 140


def test_no_neighbour_on_a_tap_device() -> None:
    async def body(wire: Wire) -> int | None:
        with pytest.raises(OSError) as e:
            await wire.a.open_connection("10.0.0.9", 8)
        return e.value.errno

    assert play(body, tap=True) == EHOSTUNREACH


def test_a_connection_attempt_can_be_given_up() -> None:
    async def body(wire: Wire) -> None:
        wire.lose = lambda packet: True
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.a.open_connection(B, 8), 5)
        wire.lose = lambda packet: False

    play(body)


def test_a_writer_waits_for_a_slow_reader() -> None:
    async def body(wire: Wire) -> None:
        arrived: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.set_result(reader)

        wire.b.sysctl("net.ipv4.tcp_rmem", (4096, 16384, 32768))
        wire.a.sysctl("net.ipv4.tcp_wmem", (4096, 16384, 32768))
        await wire.b.start_server(take, port=7, limit=4096)
        _, writer = await wire.a.open_connection(B, 7)
        total = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                while True:
                    writer.write(bytes(8192))
                    total += 8192
                    await writer.drain()
        assert total < 300_000
        writer.write_eof()
        reader = await arrived
        assert len(await reader.read()) == total
        writer.close()

    play(body)


def test_close_sends_what_is_buffered_and_lingers_until_it_is_acknowledged() -> None:
    """Nobody drains; both machines are closed at once."""
    data = bytes(range(256)) * 4000

    async def main() -> bytes:
        got = bytearray()
        ended = asyncio.Event()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while more := await reader.read(65536):
                got.extend(more)
            ended.set()
            writer.close()

        async with wired(256, False, 0.02) as wire:
            await wire.b.start_server(take, port=7)
            _, writer = await wire.a.open_connection(B, 7)
            writer.write(data)
            await wire.a.close()
            await ended.wait()
        return bytes(got)

    assert run_virtual(main()) == data


def test_close_gives_up_in_time() -> None:
    async def main() -> float:
        io = aio.QueueIO()
        loop = asyncio.get_running_loop()
        async with aio.Machine(f"{A}/24", io=io, linger=3.0) as machine:
            watch(machine.kernel)
            transport, _ = await peer(io, machine)
            transport.write(b"never acknowledged")
            began = loop.time()
        io.close()
        return loop.time() - began

    async def peer(io: aio.QueueIO, machine: aio.Machine) -> Any:
        """A SYN-ACK by hand, and then silence."""
        from tests.net.ipv4.tcphost import Segment
        from tests.test_hostile_tcp import tcp_packet

        attempt = asyncio.ensure_future(machine.create_connection(asyncio.Protocol, B, 9))
        syn = Segment(await io.get())
        me, you = int.from_bytes(b"\x0a\0\0\1", "big"), int.from_bytes(b"\x0a\0\0\2", "big")
        await io.put(tcp_packet(9, syn.sport, 77, syn.seq + 1, 0x12, saddr=you, daddr=me))
        return await attempt

    assert 3.0 <= run_virtual(main()) < 3.2


def test_what_waits_when_the_machine_is_closed_gets_an_error() -> None:
    async def body(wire: Wire) -> None:
        sock = await wire.a.open_datagram((A, 9))
        waiting = asyncio.ensure_future(sock.recvfrom())
        wire.lose = lambda packet: True
        connecting = asyncio.ensure_future(wire.a.open_connection(B, 9))
        await asyncio.sleep(0.1)
        await wire.a.close()
        for call in (waiting, connecting):
            with pytest.raises(OSError, match="the machine is closed") as e:
                await call
            assert e.value.errno == ESHUTDOWN
        with pytest.raises(RuntimeError, match="does not run"):
            await wire.a.open_connection(B, 9)

    play(body)


# -- transports ------------------------------------------------------------------------------------------------------------


class Recorder(asyncio.Protocol):
    """What it is told, in order."""

    def __init__(self, keep_open: bool = False) -> None:
        self.heard: list[Any] = []
        self.keep_open = keep_open
        self.transport: Any = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.heard.append("made")

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def eof_received(self) -> bool:
        self.heard.append("eof")
        return self.keep_open

    def connection_lost(self, exc: BaseException | None) -> None:
        self.heard.append(("lost", exc.errno if isinstance(exc, OSError) else exc))
        self.lost.set_result(None)


async def pair(wire: Wire, keep_open: bool = False) -> tuple[Recorder, Recorder]:
    accepted: asyncio.Future[Recorder] = asyncio.get_running_loop().create_future()

    def factory() -> Recorder:
        protocol = Recorder(keep_open)
        accepted.set_result(protocol)
        return protocol

    await wire.b.create_server(factory, port=7)
    _, client = await wire.a.create_connection(lambda: Recorder(keep_open), B, 7)
    assert isinstance(client, Recorder)
    return client, await accepted


def test_a_protocol_hears_of_data_end_and_loss() -> None:
    async def body(wire: Wire) -> None:
        client, server = await pair(wire)
        client.transport.write(b"hello")
        client.transport.write_eof()
        with pytest.raises(RuntimeError):
            client.transport.write(b"more")
        await server.lost
        await client.lost
        assert server.heard == ["made", b"hello", "eof", ("lost", None)]
        assert client.heard == ["made", "eof", ("lost", None)]

    play(body)


def test_a_protocol_may_go_on_sending_after_the_peers_end() -> None:
    async def body(wire: Wire) -> None:
        client, server = await pair(wire, keep_open=True)
        client.transport.write_eof()
        while "eof" not in server.heard:
            await asyncio.sleep(0.01)
        server.transport.write(b"still here")
        server.transport.close()
        await server.lost
        while "eof" not in client.heard:
            await asyncio.sleep(0.01)
        client.transport.close()
        await client.lost
        assert client.heard == ["made", b"still here", "eof", ("lost", None)]

    play(body)


def test_a_reset_is_told_as_an_error() -> None:
    async def body(wire: Wire) -> None:
        client, server = await pair(wire)
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        client.transport.write(b"unread")
        await asyncio.sleep(0.1)
        server.transport.abort()  # with something unread: a reset
        await client.lost
        assert client.heard == ["made", ("lost", ECONNRESET)]
        assert server.heard == ["made", ("lost", None)]

    play(body)


def test_paused_reading_goes_on() -> None:
    async def body(wire: Wire) -> None:
        client, server = await pair(wire)
        server.transport.pause_reading()
        client.transport.write(b"x" * 1000)
        await asyncio.sleep(1)
        assert server.heard == ["made"]
        server.transport.resume_reading()
        await asyncio.sleep(1)
        assert server.heard == ["made", b"x" * 1000]
        client.transport.close()
        await server.lost

    play(body)


def test_a_protocol_that_raises_loses_its_connection_and_no_other() -> None:
    class Bad(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with wired(256, False, 0) as wire:
            await wire.b.create_server(Bad, port=9)
            _, bad = await wire.a.create_connection(Recorder, B, 9)
            good, _ = await pair(wire)
            assert isinstance(bad, Recorder)
            bad.transport.write(b"x")
            await bad.lost
            assert isinstance(loop.problems.pop()["exception"], ZeroDivisionError)
            good.transport.write(b"x")
            await asyncio.sleep(0.1)
            assert good.heard == ["made"]
            good.transport.close()

    run_virtual(main())


def test_a_buffered_protocol_gets_its_data_in_its_own_buffer() -> None:
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(100)
            self.got = b""
            self.lost = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.got += self.buffer[:nbytes]

        def connection_lost(self, exc: BaseException | None) -> None:
            self.lost.set_result(None)

    async def body(wire: Wire) -> None:
        made: list[Buffered] = []
        await wire.b.create_server(lambda: made.append(Buffered()) or made[0], port=7)  # type: ignore[func-returns-value]
        transport, _ = await wire.a.create_connection(Recorder, B, 7)
        transport.write(bytes(range(250)))
        transport.close()
        while not made:
            await asyncio.sleep(0.01)
        await made[0].lost
        assert made[0].got == bytes(range(250))

    play(body)


def test_write_limits_are_told_to_the_protocol() -> None:
    class Told(Recorder):
        def pause_writing(self) -> None:
            self.heard.append("pause")

        def resume_writing(self) -> None:
            self.heard.append("resume")

    async def body(wire: Wire) -> None:
        server = await wire.b.create_server(Recorder, port=7)
        transport, told = await wire.a.create_connection(Told, B, 7)
        assert isinstance(told, Told)
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(1, 2)
        transport.set_write_buffer_limits(1000, 100)
        assert transport.get_write_buffer_limits() == (100, 1000)
        transport.write(bytes(1_000_000))
        assert transport.get_write_buffer_size() > 1000 and told.heard == ["made", "pause"]
        while told.heard[-1] != "resume":
            await asyncio.sleep(0.01)
        transport.close()
        await told.lost
        server.close()

    play(body)


def test_a_server_serves_until_it_is_cancelled() -> None:
    async def body(wire: Wire) -> None:
        server = await wire.b.start_server(echo)
        assert server.address is not None and server.address[1] >= 32768
        serving = asyncio.ensure_future(server.serve_forever())
        reader, writer = await wire.a.open_connection(B, server.address[1])
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(ConnectionRefusedError):
            await wire.a.open_connection(B, server.address[1])
        writer.write(b"y")  # what there is goes on
        assert await reader.readexactly(1) == b"y"
        writer.close()
        await server.wait_closed()

    play(body)


def test_an_address_in_use_is_an_error_as_in_linux() -> None:
    async def body(wire: Wire) -> None:
        async with await wire.b.start_server(echo, port=7):
            with pytest.raises(OSError, match="Address already in use"):
                await wire.b.start_server(echo, port=7)
        async with await wire.b.start_server(echo, port=7):
            pass

    play(body)


# -- datagrams -------------------------------------------------------------------------------------------------------------


def test_datagrams_for_coroutines() -> None:
    async def body(wire: Wire) -> None:
        async with await wire.b.open_datagram(("", 7)) as server, await wire.a.open_datagram(remote_addr=(B, 7)) as client:
            assert server.address == ("0.0.0.0", 7)
            await client.sendto(b"hello")
            data, addr = await server.recvfrom()
            assert data == b"hello" and addr[0] == A
            await server.sendto(bytes(3000), addr)
            async for data, addr in client:
                assert (len(data), addr) == (3000, (B, 7))
                break

    play(body)


def test_a_datagram_that_nobody_takes_is_an_error_at_the_next_call() -> None:
    async def body(wire: Wire) -> None:
        async with await wire.a.open_datagram(remote_addr=(B, 8)) as client:
            await client.sendto(b"hello")
            with pytest.raises(ConnectionRefusedError):
                await client.recvfrom()

    play(body)


def test_a_wake_up_for_one_who_is_being_cancelled_goes_to_the_next() -> None:
    async def body(wire: Wire) -> None:
        async with await wire.b.open_datagram(("", 7)) as server, await wire.a.open_datagram(remote_addr=(B, 7)) as client:
            first, second = (asyncio.ensure_future(server.recvfrom()) for _ in range(2))
            await asyncio.sleep(0.1)
            await client.sendto(b"one")
            while not wire.qb.incoming:
                await asyncio.sleep(0)
            while wire.qb.incoming:
                await asyncio.sleep(0)
            first.cancel()
            assert (await second)[0] == b"one"
            with pytest.raises(asyncio.CancelledError):
                await first

    play(body)


def test_a_datagram_protocol() -> None:
    class Protocol(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.heard: list[Any] = []
            self.lost = asyncio.get_running_loop().create_future()
            self.transport: Any = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.heard.append((data, addr[0]))
            if data == b"ping":
                self.transport.sendto(b"pong", addr)

        def error_received(self, exc: Exception) -> None:
            self.heard.append(exc)

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    async def body(wire: Wire) -> None:
        _, server = await wire.b.create_datagram_endpoint(Protocol, ("", 7))
        transport, client = await wire.a.create_datagram_endpoint(Protocol, remote_addr=(B, 7))
        transport.sendto(b"ping")
        while not client.heard:
            await asyncio.sleep(0.01)
        assert (server.heard, client.heard) == ([(b"ping", A)], [(b"pong", B)])
        server.transport.close()
        assert await server.lost is None
        transport.sendto(b"ping")
        while len(client.heard) < 2:
            await asyncio.sleep(0.01)
        assert isinstance(client.heard[1], ConnectionRefusedError)
        transport.close()
        await client.lost

    play(body)


# -- the queue's limits ----------------------------------------------------------------------------------------------------


def test_a_full_queue_holds_the_sender_back_and_nothing_is_lost() -> None:
    """The stack's queue takes 4 packets. The rest waits in the device's qdisc, and a sender whose buffer is full waits too."""

    async def main() -> None:
        io = aio.QueueIO(4)
        async with aio.Machine(f"{A}/24", io=io) as machine:
            watch(machine.kernel)
            machine.sysctl("net.core.wmem_default", 20000)
            sock = await machine.open_datagram(remote_addr=(B, 7))
            sent = [0]

            async def send() -> None:
                for i in range(200):
                    await sock.sendto(i.to_bytes(2, "big") + bytes(998))
                    sent[0] = i + 1

            sending = asyncio.ensure_future(send())
            await asyncio.sleep(10)
            assert len(io.outgoing) == 4 and 4 < sent[0] < 30
            got = [int.from_bytes((await io.get())[28:30], "big") for _ in range(200)]
            await sending
            assert got == list(range(200))
            assert machine.device.stats.tx_dropped == 0 and machine.device.stats.tx_packets == 200
            sock.close()
        io.close()

    run_virtual(main())


def test_who_puts_more_than_the_stack_has_taken_waits() -> None:
    async def main() -> None:
        io = aio.QueueIO(3)
        for _ in range(3):
            io.put_nowait(b"\x45" + bytes(40))
        with pytest.raises(asyncio.QueueFull):
            io.put_nowait(b"\x45" + bytes(40))
        putting = [asyncio.ensure_future(io.put(b"\x45" + bytes(40 + i))) for i in range(4)]
        await asyncio.sleep(1)
        assert not any(p.done() for p in putting)
        putting[0].cancel()
        async with aio.Machine(f"{A}/24", io=io) as machine:
            watch(machine.kernel)
            await asyncio.gather(*putting[1:])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert machine.device.stats.rx_packets == 6
        io.close()
        with pytest.raises(aio.Closed):
            await io.put(b"x")
        with pytest.raises(aio.Closed):
            await io.get()
        with pytest.raises(ValueError, match="a packet of 0 bytes"):
            aio.QueueIO().put_nowait(b"")

    run_virtual(main())


def test_closing_wakes_all_who_wait() -> None:
    async def main() -> None:
        io = aio.QueueIO(1)
        io.put_nowait(b"x")
        waiting = [asyncio.ensure_future(io.get()) for _ in range(3)] + [asyncio.ensure_future(io.put(b"y")) for _ in range(3)]
        await asyncio.sleep(0)
        io.close()
        assert [type(r) for r in await asyncio.gather(*waiting, return_exceptions=True)] == [aio.Closed] * 6
        assert [packet async for packet in io] == []

    run_virtual(main())


# -- an I/O object with a descriptor ---------------------------------------------------------------------------------------


class PairIO(TunIO):
    """One end of a datagram socketpair of the host."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.full = 0
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)

    def read(self) -> bytes | None:
        try:
            return self.end.recv(70_000)
        except OSError:
            return None

    def writev(self, pieces: list[bytes]) -> int:
        try:
            self.end.sendmsg(pieces)
        except OSError:
            self.full += 1
            return -EAGAIN
        return 0

    def fileno(self) -> int:
        return self.end.fileno()


def test_a_descriptor_is_watched_for_packets_and_for_room() -> None:
    async def main() -> None:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ios = [PairIO(end) for end in ends]
        async with aio.Machine(f"{A}/24", io=ios[0]) as a, aio.Machine(f"{B}/24", io=ios[1]) as b:
            watch(a.kernel)
            watch(b.kernel)
            await b.start_server(echo, port=7)
            reader, writer = await a.open_connection(B, 7)
            writer.write(bytes(300_000))
            assert await reader.readexactly(300_000) == bytes(300_000)
            assert ios[0].full > 0
            writer.close()
        for end in ends:
            end.close()

    run_virtual(main())


# -- mistakes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, line",
    [
        ({"address": "10.0.0.1", "io": aio.QueueIO()}, "write it with the length of its prefix"),
        ({"address": "10.0.0/24", "io": aio.QueueIO()}, "not an IPv4 address"),
        ({"address": "10.0.0.1/24"}, "one device"),
        ({"address": "10.0.0.1/24", "io": aio.QueueIO(), "tun": "x"}, "one device"),
        ({"address": "10.0.0.1/24", "io": aio.QueueIO(), "mtu": 9}, "from 68 to 65535"),
        ({"address": "10.0.0.1/24", "io": aio.QueueIO(), "gateway": "10.9.9.9"}, "is that a neighbour's address?"),
        ({"address": "10.0.0.1/24", "io": aio.QueueIO(), "routes": ["10.1.0.0/16 through 10.0.0.2"]}, "write it like"),
        ({"address": "10.0.0.1/24", "io": aio.QueueIO(), "routes": ["10.1.2.3/16"]}, "write 10.1.0.0/16"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_remedy(arguments: dict[str, Any], line: str) -> None:
    async def main() -> None:
        async with aio.Machine(**arguments):
            pass

    with pytest.raises(aio.UsageError) as e:
        run_virtual(main())
    assert line in str(e.value) and "\n" not in str(e.value)


def test_numbers_of_addresses() -> None:
    assert aiostreams.numeric("10.0.0.1") == 0x0A000001
    for text in ("10.0.0", "10.0.0.256", "a.b.c.d", ""):
        with pytest.raises(ValueError):
            aiostreams.numeric(text)
