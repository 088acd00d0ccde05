"""A star of twelve hosts around a router: everyone serves, everyone asks everyone, by TCP and by UDP."""

import sys

import afinet

with afinet.Network(seed=13) as net:
    router = net.host("router")
    hosts = [net.host(f"h{n}") for n in range(12)]
    for n, host in enumerate(hosts):
        net.link(host, router, delay=f"{n + 1}ms", rate="20mbit", loss="0.2%")

    def serve_tcp():
        import socket
        import threading

        me = socket.gethostname().encode()

        def one(conn):
            with conn:
                conn.sendall(me + b" " + conn.recv(100)[::-1])

        with socket.create_server(("", 80)) as s:
            while True:
                threading.Thread(target=one, args=(s.accept()[0],), daemon=True).start()

    def serve_udp():
        import socket

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(("", 53))
            while True:
                data, addr = s.recvfrom(1000)
                s.sendto(data.upper(), addr)

    def ask(me):
        import socket
        import time

        out = []
        for n in range(12):
            if n == me:
                continue
            with socket.create_connection((f"h{n}", 80)) as s:
                s.sendall(b"from %d" % me)
                out.append(s.recv(100))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(1)
                while True:
                    s.sendto(b"ping %d" % me, (f"h{n}", 53))
                    try:
                        assert s.recv(100) == b"PING %d" % me
                        break
                    except TimeoutError:
                        pass
            time.sleep(0.01 * me)
        return out

    for host in hosts:
        host.spawn(serve_tcp)
        host.spawn(serve_udp)
    asking = [host.spawn(ask, n, name=f"ask{n}") for n, host in enumerate(hosts)]
    net.run(until=asking)
    for me, task in enumerate(asking):
        assert task.result() == [b"h%d %s" % (n, (b"from %d" % me)[::-1]) for n in range(12) if n != me]
    print("ok", file=sys.stderr)
