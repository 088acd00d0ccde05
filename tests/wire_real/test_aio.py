"""afinet.aio on a TUN or TAP device, with the running kernel as its peer."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from afinet import aio
from tests.leaks import watch
from tests.wire_real.namespaces import Namespace, require

require()
pytestmark = pytest.mark.wire

KERNEL, AFINET = "10.9.0.1", "10.9.0.2"
DATA = hashlib.shake_128(b"aio").digest(2_000_000)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    ns = Namespace()
    yield ns
    ns.close()


def play(body: Callable[[aio.Machine], Awaitable[Any]], **device: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            async with aio.Machine(f"{AFINET}/24", **device) as machine:
                watch(machine.kernel)
                await body(machine)

    asyncio.run(main())


def kernel_client(ns: Namespace, port: int) -> Callable[[], tuple[bytes, bytes]]:
    """A thread that sends DATA to the stack and reads until the end."""
    result: list[bytes] = []

    def run() -> None:
        with ns.inside():
            s = socket.create_connection((AFINET, port), 20)
        with s:
            s.sendall(DATA)
            s.shutdown(socket.SHUT_WR)
            result.append(s.makefile("rb").read())

    thread = threading.Thread(target=run)
    thread.start()

    def finish() -> tuple[bytes, bytes]:
        thread.join(20)
        return result[0], DATA

    return finish


@pytest.mark.parametrize("tap", [False, True])
def test_a_server_and_a_client_in_the_loop(namespace: Namespace, tap: bool) -> None:
    async def body(machine: aio.Machine) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            writer.close()

        server = await machine.start_server(echo, port=7)
        finished = [kernel_client(namespace, 7) for _ in range(3)]
        for finish in finished:
            got, sent = await asyncio.to_thread(finish)
            assert got == sent
        server.close()
        with namespace.inside():
            listener = socket.create_server(("0.0.0.0", 9))
        with listener:
            _, writer = await machine.open_connection(KERNEL, 9)
            writer.write(DATA)
            writer.close()
            c, _ = listener.accept()
            with c:
                assert await asyncio.to_thread(c.makefile("rb").read) == DATA
        with pytest.raises(ConnectionRefusedError):
            await machine.open_connection(KERNEL, 9)

    with namespace.inside():
        play(body, tun="afi0", tap=tap)


def test_datagrams(namespace: Namespace) -> None:
    async def body(machine: aio.Machine) -> None:
        async with await machine.open_datagram(("", 7)) as sock:
            with namespace.inside():
                peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with peer:
                peer.settimeout(5)
                for size in (0, 1, 1472, 1473, 60_000):
                    peer.sendto(DATA[:size], (AFINET, 7))
                    data, addr = await sock.recvfrom()
                    assert data == DATA[:size]
                    await sock.sendto(data, addr)
                    assert peer.recv(65536) == data

    with namespace.inside():
        play(body, tun="afi0")


@pytest.mark.parametrize("vnet_hdr", [False, True])
def test_a_descriptor_that_another_has_attached(namespace: Namespace, vnet_hdr: bool) -> None:
    """With IFF_VNET_HDR, or bare packets only."""
    with namespace.inside():
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"afi0", 0x1001 | (0x4000 if vnet_hdr else 0)))
    namespace.run("ip", "addr", "add", f"{KERNEL}/24", "dev", "afi0")
    namespace.run("ip", "link", "set", "afi0", "up", "mtu", "1400")

    async def body(machine: aio.Machine) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read())[::-1])
            writer.close()

        assert machine.device.mtu == 1400
        await machine.start_server(echo, port=7)
        got, sent = await asyncio.to_thread(kernel_client(namespace, 7))
        assert got == sent[::-1]

    with namespace.inside():
        play(body, fd=fd)
    with pytest.raises(OSError):
        os.fstat(fd)  # the machine took it over


def test_a_device_without_no_pi_is_refused(namespace: Namespace) -> None:
    with namespace.inside():
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"afi0", 0x0001))
        with pytest.raises(aio.HostError, match="without IFF_NO_PI: attach it with that flag"):
            play(lambda machine: asyncio.sleep(0), fd=fd)
    os.close(fd)


def test_the_devices_end(namespace: Namespace) -> None:
    """`ip link delete` while the machine runs: what waits is told after TCP's own time, and closing does not wait for it."""

    async def body(machine: aio.Machine) -> None:
        with namespace.inside():
            listener = socket.create_server(("0.0.0.0", 9))
        with listener:
            _, writer = await machine.open_connection(KERNEL, 9)
            await asyncio.to_thread(namespace.run, "ip", "link", "delete", "afi0")
            while machine.device.carrier:
                await asyncio.sleep(0.01)
            writer.write(b"nobody will ever have this")

    with namespace.inside():
        play(body, tun="afi0")


def test_an_idle_machine_does_nothing(namespace: Namespace) -> None:
    async def body(machine: aio.Machine) -> None:
        await machine.start_server(lambda r, w: None, port=7)
        await asyncio.sleep(0.5)
        before = sum(os.times()[:2])
        await asyncio.sleep(1)
        assert sum(os.times()[:2]) - before <= 0.02

    with namespace.inside():
        play(body, tun="afi0")
