"""Two machines joined by a tunnel of your own: what one sends, scrambled, in a UDP datagram of the host, to the other.

    python examples/tunnel.py

Put WireGuard, an SSH channel, QUIC datagrams or a serial line where `Tunnel` is: whatever takes a packet here and gives it there.
No rights, no device of the host and no Linux are needed. (XOR is not encryption; it shows where that would be.)
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from afinet import aio

KEY = bytes(range(7, 256, 11))
# What fits into a datagram of the path outside: 1500 less its IP and UDP headers, and less what encryption would add.
MTU = 1420


def scramble(packet: bytes) -> bytes:
    return bytes(b ^ KEY[i % len(KEY)] for i, b in enumerate(packet))


class Tunnel(asyncio.DatagramProtocol):
    """One end. Datagrams that come become packets for the machine; `run` does the other way."""

    def __init__(self, io: aio.QueueIO, peer: tuple[str, int]) -> None:
        self.io = io
        self.peer = peer
        self.seen = b""  # an example of what is seen from outside

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr != self.peer or not data:
            return  # anybody may send to us
        self.seen = self.seen or data
        try:
            self.io.put_nowait(scramble(data))
        except (asyncio.QueueFull, aio.Closed):
            pass  # as on any network: whoever sends faster than we take loses packets, and slows down

    async def run(self) -> None:
        async for packet in self.io:
            self.transport.sendto(scramble(packet), self.peer)


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def main() -> None:
    loop = asyncio.get_running_loop()
    ends = []
    for _ in range(2):
        end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        end.bind(("127.0.0.1", 0))
        ends.append(end)
    one, two = aio.QueueIO(), aio.QueueIO()
    _, left = await loop.create_datagram_endpoint(lambda: Tunnel(one, ends[1].getsockname()), sock=ends[0])
    _, right = await loop.create_datagram_endpoint(lambda: Tunnel(two, ends[0].getsockname()), sock=ends[1])
    carriers = [asyncio.create_task(tunnel.run()) for tunnel in (left, right)]

    machine = aio.Machine("10.20.0.1/24", io=one, mtu=MTU)
    other = aio.Machine("10.20.0.2/24", io=two, mtu=MTU)
    async with machine, other:
        await other.start_server(shout, port=7)
        reader, writer = await machine.open_connection("10.20.0.2", 7)
        writer.write(b"through a tunnel\n" * 10_000)
        writer.write_eof()
        lines = (await reader.read()).splitlines()
        print(len(lines), "lines of", lines[0].decode(), "from", *writer.get_extra_info("peername"))
        print("segments of", writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), "bytes")
        writer.close()

    print("seen from outside:", right.seen[:8].hex(" "), "... of", scramble(right.seen)[:8].hex(" "), "...")
    for io, carrier, tunnel in ((one, carriers[0], left), (two, carriers[1], right)):
        io.close()
        await carrier
        tunnel.transport.close()


if __name__ == "__main__":
    asyncio.run(main())
