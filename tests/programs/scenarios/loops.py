"""Several asyncio loops, one in a thread of its own: asynchronous generators, contexts, cancellation, executors, sendfile."""

import sys

import afinet

with afinet.Network(seed=14) as net:
    a, b, c = net.host("a"), net.host("b"), net.host("c")
    net.link(a, b, delay="8ms", rate="10mbit")
    net.link(b, c, delay="2ms")

    async def serve():
        import asyncio
        import contextvars

        who: contextvars.ContextVar[object] = contextvars.ContextVar("who")
        running = []

        async def numbers(reader):
            try:
                while line := await reader.readline():
                    yield int(line)
            finally:
                running.append("closed")

        async def handle(reader, writer):
            who.set(writer.get_extra_info("peername"))
            async for n in numbers(reader):
                await asyncio.sleep(n / 1000)
                writer.write(b"%d\n" % (n * n))
                assert who.get() == writer.get_extra_info("peername")
                if n == 13:
                    break
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "0.0.0.0", 5000)
        async with server:
            await server.serve_forever()

    for host in (a, b, c):
        host.spawn(serve)

    @a.spawn
    def work():
        import asyncio
        import socket
        import tempfile
        import threading
        import time

        async def ask(where, numbers):
            reader, writer = await asyncio.open_connection(where, 5000)
            out = []
            try:
                for n in numbers:
                    writer.write(b"%d\n" % n)
                    out.append(int(await reader.readline()))
            finally:
                writer.close()
            await writer.wait_closed()
            return out

        async def many():
            lock = asyncio.Lock()
            order = []

            async def one(n):
                async with lock:
                    await asyncio.sleep(0.001)
                    order.append(n)
                return await ask("b" if n % 2 else "c", range(n))

            results = await asyncio.gather(*(one(n) for n in range(8)))
            assert results == [[i * i for i in range(n)] for n in range(8)]
            assert order == list(range(8))
            slow = asyncio.create_task(ask("c", [5000]))
            await asyncio.sleep(0.5)
            slow.cancel()
            try:
                await slow
            except asyncio.CancelledError:
                pass
            await asyncio.to_thread(time.sleep, 5)  # the server sees the slow one out
            return await ask("b", [13])

        box = []
        thread = threading.Thread(target=lambda: box.append(asyncio.run(many())))
        thread.start()
        # Another loop, in this thread, at the same time.
        mine = asyncio.run(many())
        thread.join()
        assert box == [mine] == [[169]]

        async def send_file():
            loop = asyncio.get_running_loop()
            with tempfile.TemporaryFile() as f:
                f.write(b"1\n2\n3\n13\n")
                f.flush()
                with socket.socket() as s:
                    s.setblocking(False)
                    await loop.sock_connect(s, ("c", 5000))
                    assert await loop.sock_sendfile(s, f) == 9
                    out = b""
                    while data := await loop.sock_recv(s, 100):
                        out += data
            return out

        return asyncio.run(send_file())

    net.run(until=work)
    assert work.result() == b"1\n4\n9\n169\n"
    print("ok", file=sys.stderr)
