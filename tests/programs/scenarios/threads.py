"""socketserver's threads, a pool, queues, logging from many threads, selectors: threading as programs use it."""

import sys

import afinet

with afinet.Network(seed=5) as net:
    a, b = net.host("a"), net.host("b")
    net.link(a, b, delay="10ms")

    @b.spawn
    def serve():
        import socketserver

        class Upper(socketserver.StreamRequestHandler):
            def handle(self):
                for line in self.rfile:
                    self.wfile.write(line.upper())

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            request_queue_size = 50

        with Server(("", 7), Upper) as server:
            server.serve_forever()

    @a.spawn
    def work():
        import logging
        import queue
        import selectors
        import socket
        import threading
        import time
        from concurrent.futures import ThreadPoolExecutor, as_completed

        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(threadName)s %(message)s")

        def ask(n):
            with socket.create_connection(("b", 7)) as s, s.makefile("rw") as f:
                time.sleep(n / 1000)
                f.write(f"line {n}\n")
                f.flush()
                logging.info("asked %d", n)
                return f.readline()

        began = time.monotonic()
        with ThreadPoolExecutor(max_workers=8) as pool:
            answers = list(pool.map(ask, range(24)))
            assert answers == [f"LINE {n}\n" for n in range(24)]
            futures = [pool.submit(time.sleep, n) for n in (3, 1, 2)]
            order = [futures.index(f) for f in as_completed(futures)]
            assert order == [1, 2, 0], order
        assert time.monotonic() - began < 5

        jobs: queue.Queue = queue.Queue()
        done = []

        def worker():
            while (job := jobs.get()) is not None:
                time.sleep(0.1)
                done.append((job, threading.current_thread().name))
                jobs.task_done()

        workers = [threading.Thread(target=worker, daemon=True) for _ in range(3)]
        for w in workers:
            w.start()
        for n in range(9):
            jobs.put(n)
        jobs.join()
        assert sorted(n for n, _ in done) == list(range(9))
        for _ in workers:
            jobs.put(None)
        for w in workers:
            w.join()

        with selectors.DefaultSelector() as sel:
            one, two = socket.socketpair()
            sel.register(one, selectors.EVENT_READ)
            assert sel.select(0.5) == []
            two.send(b"x")
            assert [key.fileobj for key, _ in sel.select()] == [one]
            sel.unregister(one)
            one.close()
            two.close()

        timer = threading.Timer(2, done.clear)
        timer.start()
        timer.join()
        assert done == []
        return time.monotonic() - began

    net.run(until=work)
    assert 5 < work.result() < 8, work.result()
    print("ok", file=sys.stderr)
