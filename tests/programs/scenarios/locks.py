"""Locks, conditions, barriers, queues, thread-locals and contexts between the threads of one process, over a connection."""

import sys

import afinet

with afinet.Network(seed=11) as net:
    a, b = net.host("a"), net.host("b")
    net.link(a, b, delay="5ms", rate="2mbit")

    @b.spawn
    def serve():
        import socketserver
        import threading

        total = threading.Condition()
        state = {"lines": 0}
        local = threading.local()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                local.mine = 0
                for line in self.rfile:
                    with total:
                        state["lines"] += 1
                        local.mine += 1
                        total.notify_all()
                    self.wfile.write(b"%d %s" % (local.mine, line))
                assert local.mine == 25

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        with Server(("", 99), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with total:
                assert total.wait_for(lambda: state["lines"] == 100, timeout=60)
            server.shutdown()
        return state["lines"]

    @a.spawn
    def work():
        import contextvars
        import queue
        import socket
        import threading
        import time

        jobs: queue.Queue[tuple[int, int]] = queue.Queue(maxsize=3)
        done: queue.LifoQueue[int] = queue.LifoQueue()
        barrier = threading.Barrier(4)
        gate = threading.Semaphore(2)
        once = threading.Event()
        var = contextvars.ContextVar("var", default="none")
        again = threading.RLock()
        inside = []

        def worker(n):
            var.set(n)
            with socket.create_connection(("b", 99)) as s, s.makefile("rwb") as f:
                barrier.wait()
                if n == 0:
                    time.sleep(0.1)
                    once.set()
                assert once.wait(5)
                for i in range(25):
                    with gate, again, again:
                        inside.append(n)
                        f.write(b"line %d of %d\n" % (i, n))
                        f.flush()
                        answer = f.readline()
                        assert answer == b"%d line %d of %d\n" % (i + 1, i, n), answer
                        assert inside.pop() == n
                    jobs.put((n, i), timeout=30)
                assert var.get() == n
            done.put(n)

        threads = [threading.Thread(target=worker, args=(n,)) for n in range(4)]
        for t in threads:
            t.start()
        got = [jobs.get(timeout=30) for _ in range(100)]
        for t in threads:
            t.join()
        assert sorted(got) == [(n, i) for n in range(4) for i in range(25)]
        assert sorted(done.get_nowait() for _ in range(4)) == [0, 1, 2, 3]
        assert var.get() == "none" and again.acquire(timeout=1)
        return time.monotonic()

    net.run(until=[work, serve])
    assert serve.result() == 100
    print("ok", file=sys.stderr)
