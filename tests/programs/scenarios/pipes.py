"""Pipes between threads, a proxy that splices, and a buffer that two threads read: nothing here may stop the world."""

import sys

import afinet

with afinet.Network(seed=15) as net:
    a, b, c = net.host("a"), net.host("b"), net.host("c")
    net.link(a, b, delay="4ms", rate="5mbit")
    net.link(b, c, delay="4ms", rate="3mbit")

    @c.spawn
    def serve():
        import socket

        out = 0
        with socket.create_server(("", 80)) as s:
            conn, _ = s.accept()
            with conn, conn.makefile("rb") as f:
                for line in f:
                    out += len(line)
                    conn.sendall(b"%d\n" % out)
        return out

    @b.spawn
    def proxy():
        import os
        import socket
        import threading

        def pump(src, dst):
            r, w = os.pipe()
            while n := os.splice(src.fileno(), w, 1 << 16):
                while n:
                    n -= os.splice(r, dst.fileno(), n)
            dst.shutdown(socket.SHUT_WR)
            os.close(r)
            os.close(w)

        with socket.create_server(("", 8080)) as s:
            inner, _ = s.accept()
            outer = socket.create_connection(("c", 80))
            back = threading.Thread(target=pump, args=(outer, inner))
            back.start()
            pump(inner, outer)
            back.join()
            inner.close()
            outer.close()

    @a.spawn
    def work():
        import os
        import socket
        import threading
        import time

        s = socket.create_connection(("b", 8080))
        f = s.makefile("rb")
        r, w = os.pipe()
        totals = []

        def read():
            # Two of them share the buffer: each line is whole, and goes to one.
            while line := f.readline():
                totals.append(int(line))
                os.write(w, line)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for t in readers:
            t.start()
        for n in range(1, 41):
            s.sendall(b"x" * (50 * n) + b"\n")
            if n % 8 == 0:
                time.sleep(0.05)
        s.shutdown(socket.SHUT_WR)
        for t in readers:
            t.join()
        os.close(w)
        with os.fdopen(r) as text:
            lines = [int(line) for line in text]
        assert sorted(totals) == sorted(lines) == totals
        f.close()
        s.close()
        return totals[-1]

    net.run(until=work)
    assert work.result() == serve.result() == sum(50 * n + 1 for n in range(1, 41))
    print("ok", file=sys.stderr)
