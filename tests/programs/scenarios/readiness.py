"""epoll itself, edge-triggered and shared by threads, and selectors over it: an echo server for forty connections."""

import sys

import afinet

with afinet.Network(seed=12) as net:
    a, b = net.host("a"), net.host("b")
    net.link(a, b, delay="3ms", loss="1%")

    @b.spawn
    def serve():
        import select
        import socket
        import threading

        listener = socket.create_server(("", 7), backlog=50)
        listener.setblocking(False)
        conns = {}
        ep = select.epoll()
        ep.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        finished = threading.Semaphore(0)

        def loop():
            while True:
                for fd, _ in ep.poll():
                    if fd == listener.fileno():
                        try:
                            conn, _ = listener.accept()
                        except BlockingIOError:
                            continue
                        conn.setblocking(False)
                        conns[conn.fileno()] = conn
                        ep.register(conn, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET | select.EPOLLONESHOT)
                        continue
                    conn = conns[fd]
                    over = False
                    while True:
                        try:
                            data = conn.recv(100)
                        except BlockingIOError:
                            break
                        if not data:
                            over = True
                            break
                        conn.sendall(data)
                    if over:
                        del conns[fd]
                        conn.close()
                        finished.release()
                    else:
                        ep.modify(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET | select.EPOLLONESHOT)

        for _ in range(3):
            threading.Thread(target=loop, daemon=True).start()
        for _ in range(40):
            finished.acquire()
        return len(conns)

    @a.spawn
    def work():
        import selectors
        import socket

        sel = selectors.DefaultSelector()
        assert type(sel).__name__ in ("EpollSelector", "PollSelector")
        want = {}
        for n in range(40):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("b", 7))
            want[s] = bytes([n]) * (100 + 50 * n)
            sel.register(s, selectors.EVENT_WRITE, [want[s], b"", s])
        while sel.get_map():
            for key, events in sel.select(timeout=30):
                state = key.data
                s = state[2]
                if events & selectors.EVENT_WRITE:
                    n = s.send(state[0])
                    state[0] = state[0][n:]
                    if not state[0]:
                        s.shutdown(socket.SHUT_WR)
                        sel.modify(s, selectors.EVENT_READ, state)
                if events & selectors.EVENT_READ:
                    data = s.recv(65536)
                    if data:
                        state[1] += data
                    else:
                        assert state[1] == want[s]
                        sel.unregister(s)
                        s.close()

    net.run(until=[work, serve])
    assert serve.result() == 0
    print("ok", file=sys.stderr)
