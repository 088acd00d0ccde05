"""A machine of its own inside a running asyncio loop: its IP traffic goes through a TUN or TAP device, or through your own code.

    from afinet import aio

    async with aio.Machine("10.9.0.2/24", tun="afi0") as machine:
        reader, writer = await machine.open_connection("10.9.0.1", 80)
        server = await machine.start_server(handle, port=7)

`open_connection` and `start_server` give asyncio's own StreamReader and StreamWriter; `create_connection`, `create_server` and
`create_datagram_endpoint` take protocols as the loop's methods of those names do; `open_datagram` is UDP for coroutines.

What goes wrong on the network is an OSError with Linux's errno. A mistake in the arguments is a UsageError, what the host refuses
a HostError: one line that names the remedy.

Where the packets go through code of yours, a tunnel or a serial line, give it a `QueueIO`: what you `put` arrives at the machine,
what it sends you `get`. That needs neither Linux nor any right.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from afinet.drivers.tun import TunIO
from afinet.init import syscalls
from afinet.kernel.machine import Kernel
from afinet.kernel.task import Task
from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core.net_namespace import Net
from afinet.net.core.netdevice import NetDevice
from afinet.runner import aiostreams
from afinet.runner.aio import AioRunner, QueueIO
from afinet.runner.aiostreams import Address, Datagrams, DatagramTransport, Owner, Server, StreamTransport
from afinet.runner.boot import HostError, SetUpError, boot, configure, plug, sysctl
from afinet.runner.linger import LINGER_LIMIT
from afinet.runner.queueio import Closed
from afinet.sim.units import UsageError, parse_address, parse_route
from afinet.uapi.sockaddr import pack_sockaddr_in

__all__ = ["Closed", "Datagrams", "HostError", "Machine", "QueueIO", "Server", "UsageError"]

MAX_SOCKETS = 1 << 16
STREAM_LIMIT = 64 * 1024  # of a StreamReader, as in asyncio

P = TypeVar("P", bound=asyncio.BaseProtocol)
D = TypeVar("D", bound=asyncio.DatagramProtocol)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


class Machine:
    """One machine with the address `address` ("10.9.0.2/24") and one device, which is one of:

    `tun`: a TUN device of that name, or with `tap=True` a TAP device; it is made and configured if there is none (Linux);
    `fd`: a descriptor that is attached to such a device already, which the machine takes over (Linux);
    `io`: a QueueIO, or any TunIO with a fileno() that becomes readable.

    `gateway` and `routes` ("10.1.0.0/16 via 10.9.0.1") say where packets go that are not for a neighbour. `mtu` is the device's
    own, or 1500, unless given. `linger` is how many seconds `close` waits at most for what was sent to be acknowledged.
    """

    def __init__(
        self,
        address: str,
        *,
        tun: str | None = None,
        tap: bool = False,
        fd: int | None = None,
        io: TunIO | None = None,
        gateway: str | None = None,
        routes: Sequence[str] = (),
        mtu: int | None = None,
        hostname: str = "",
        linger: float = LINGER_LIMIT / NSEC_PER_SEC,
    ) -> None:
        if "/" not in address:
            raise UsageError(f"address={address!r}: write it with the length of its prefix, like '{address}/24'")
        if (tun is not None) + (fd is not None) + (io is not None) != 1:
            raise UsageError("a machine has one device: give it tun=NAME, fd=DESCRIPTOR or io=QueueIO()")
        if mtu is not None and not 68 <= mtu <= 65535:
            raise UsageError(f"mtu={mtu}: from 68 to 65535")
        if sys.platform != "linux" and io is None:
            raise UsageError(f"TUN and TAP devices are Linux's: on {sys.platform} give io=QueueIO()")
        self._local = parse_address(address)
        self._routes = [parse_route(route, "routes") for route in routes]
        if gateway is not None:
            self._routes.append((0, 0, parse_address(gateway, "gateway")[0]))
        self._gateway = self._routes[-1][2] if gateway is not None else 0
        self._tun, self._tap, self._fd, self._io, self._mtu = tun, tap, fd, io, mtu
        self._hostname = hostname
        self._linger = int(linger * NSEC_PER_SEC)
        self._owner = Owner()
        self._servers: list[Server] = []
        self._runner: AioRunner | None = None
        self._task: Task | None = None
        self._owned: TunIO | None = None  # ours to close
        self.address = address.partition("/")[0]

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Boot, and attach to the device. `async with` does it."""
        if self._runner is not None:
            raise RuntimeError("the machine runs already")
        kernel, net = boot(self._hostname)
        try:
            dev = self._plug(net)
            configure(dev, *self._local, self._routes)
        except SetUpError as e:
            self._release()
            raise UsageError(str(e)) from None
        except BaseException:
            self._release()
            raise
        self.kernel: Kernel = kernel
        self.net: Net = net
        self.device: NetDevice = dev
        self._task = kernel.init_task
        assert self._task is not None
        self._task.rlimit_nofile = MAX_SOCKETS  # they are no descriptors of the host's
        self._runner = AioRunner(kernel, asyncio.get_running_loop())
        self._runner.attach(dev)
        self._runner.run()

    def _plug(self, net: Net) -> NetDevice:
        io = self._io
        if io is not None:
            return plug(net, "tun0", io, (isinstance(io, QueueIO) and io.tap) or self._tap, self._mtu or 1500)
        from afinet.runner import hostio

        if self._fd is not None:
            host = hostio.adopt_tun(self._fd)
        else:
            assert self._tun is not None
            host = hostio.open_for(self._tun, self._tap, *self._local, self._gateway, self._mtu)
        self._owned = host
        return plug(net, host.name, host, host.tap, self._mtu or host.mtu(), host.vnet_hdr_sz, host.tso, host.uso)

    def _release(self) -> None:
        if self._owned is not None:
            from afinet.runner.hostio import HostTun

            assert isinstance(self._owned, HostTun)
            self._owned.close()
            self._owned = None

    async def close(self) -> None:
        """End every connection as the end of a process does, once what is buffered has been sent; wait until that is acknowledged;
        let go of the device."""
        runner, task = self._runner, self._task
        if runner is None or task is None:
            return
        self._runner = self._task = None
        try:
            for server in self._servers:
                server.close()
            owners: list[Owner] = [self._owner, *self._servers]
            for owner in owners:
                for transport in list(owner.transports):
                    transport.close()
            end = runner.now() + self._linger
            while any(owner.transports for owner in owners) and runner.now() < end and runner.devices:
                await asyncio.sleep(0.001)
            for owner in owners:
                for transport in list(owner.transports):
                    transport.abort()
            await runner.interrupt()
            await asyncio.sleep(0)
            runner.call(syscalls.sys_exit, task)
            await runner.linger(max(end - runner.now(), 0))
        finally:
            if not task.exiting:
                runner.call(syscalls.sys_exit, task)
            runner.close()
            self._release()

    async def __aenter__(self) -> Machine:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def _running(self) -> tuple[AioRunner, Task]:
        if self._runner is None or self._task is None:
            raise RuntimeError("the machine does not run: use `async with machine`, or await machine.start()")
        return self._runner, self._task

    # -- connections ---------------------------------------------------------------------------------------------------

    async def _name(self, host: str, port: int) -> bytes:
        """A sockaddr of a host's name or number; names are the host's to resolve, by its own network."""
        if not 0 <= port <= 65535:
            raise UsageError(f"port={port}: from 0 to 65535")
        try:
            return pack_sockaddr_in(aiostreams.numeric(host or "0.0.0.0"), port)
        except ValueError:
            pass
        import socket

        found = await asyncio.get_running_loop().getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)
        return pack_sockaddr_in(aiostreams.numeric(str(found[0][4][0])), port)

    async def create_connection(
        self, protocol_factory: Callable[[], P], host: str, port: int, *, local_addr: Address | None = None
    ) -> tuple[asyncio.Transport, P]:
        """As loop.create_connection: (transport, protocol) of a TCP connection."""
        runner, task = self._running()
        name = await self._name(host, port)
        local = await self._name(*local_addr) if local_addr is not None else b""
        sock = await aiostreams.connect(runner, task, name, local)
        protocol = protocol_factory()
        return StreamTransport(sock, protocol, aiostreams.address(name), self._owner), protocol

    async def open_connection(
        self, host: str, port: int, *, limit: int = STREAM_LIMIT, local_addr: Address | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As asyncio.open_connection."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await self.create_connection(lambda: protocol, host, port, local_addr=local_addr)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str = "", port: int = 0, *, backlog: int = 100
    ) -> Server:
        """As loop.create_server; it serves from the start. `server.address` tells the port if 0 was given."""
        runner, task = self._running()
        server = Server(aiostreams.listen(runner, task, await self._name(host, port), backlog), protocol_factory)
        self._servers.append(server)
        return server

    async def start_server(
        self, handler: Handler, host: str = "", port: int = 0, *, limit: int = STREAM_LIMIT, backlog: int = 100
    ) -> Server:
        """As asyncio.start_server: `handler(reader, writer)`, a coroutine function mostly, is called for each connection."""
        loop = asyncio.get_running_loop()

        def factory() -> asyncio.BaseProtocol:
            reader = asyncio.StreamReader(limit=limit, loop=loop)
            return asyncio.StreamReaderProtocol(reader, handler, loop=loop)

        return await self.create_server(factory, host, port, backlog=backlog)

    # -- datagrams -----------------------------------------------------------------------------------------------------

    async def _datagrams(self, local: Address | None, remote: Address | None, broadcast: bool) -> aiostreams.Socket:
        runner, task = self._running()
        names = [await self._name(*addr) if addr is not None else b"" for addr in (local, remote)]
        return await aiostreams.datagram_socket(runner, task, names[0], names[1], broadcast)

    async def open_datagram(
        self, local_addr: Address | None = None, remote_addr: Address | None = None, *, allow_broadcast: bool = False
    ) -> Datagrams:
        """A UDP socket for coroutines, bound to `local_addr` and connected to `remote_addr` as far as they are given."""
        return Datagrams(await self._datagrams(local_addr, remote_addr, allow_broadcast))

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], D],
        local_addr: Address | None = None,
        remote_addr: Address | None = None,
        *,
        allow_broadcast: bool = False,
    ) -> tuple[asyncio.DatagramTransport, D]:
        """As loop.create_datagram_endpoint."""
        sock = await self._datagrams(local_addr, remote_addr, allow_broadcast)
        protocol = protocol_factory()
        return DatagramTransport(sock, protocol, remote_addr, self._owner), protocol

    # -- configuration -------------------------------------------------------------------------------------------------

    def sysctl(self, name: str, value: object = None) -> str:
        """Read /proc/sys of the machine, or write it when a value is given. Returns the text that is there then."""
        self._running()
        try:
            return sysctl(self.net, name, value)
        except SetUpError as e:
            raise UsageError(str(e)) from None
