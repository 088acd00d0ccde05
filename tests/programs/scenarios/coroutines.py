"""asyncio streams, time limits, executors and tasks on simulated hosts."""

import sys

import afinet

with afinet.Network(seed=5) as net:
    a, b = net.host("a"), net.host("b")
    net.link(a, b, delay="10ms", loss="0.5%")

    @b.spawn
    async def serve():
        import asyncio

        async def handle(reader, writer):
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "0.0.0.0", 7)
        async with server:
            await server.serve_forever()

    @a.spawn
    async def work():
        import asyncio
        import time

        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.5)
        began = loop.time()

        async def ask(n):
            reader, writer = await asyncio.open_connection("b", 7)
            writer.write(b"line %d\n" % n)
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return answer

        answers = await asyncio.gather(*(ask(n) for n in range(20)))
        assert answers == [b"LINE %d\n" % n for n in range(20)]

        try:
            async with asyncio.timeout(1.5):
                await asyncio.Event().wait()
        except TimeoutError:
            pass
        await asyncio.to_thread(time.sleep, 2)
        return loop.time() - began

    net.run(until=work)
    assert 3.5 < work.result() < 8, work.result()
    print("ok", file=sys.stderr)
