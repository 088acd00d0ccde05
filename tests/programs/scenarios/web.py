"""http.server's directory listing, urllib, and a POST, with several clients at once."""

import os
import sys
import tempfile
from pathlib import Path

import afinet

root = Path(tempfile.mkdtemp())
(root / "hello.txt").write_text("hello over a simulated network\n" * 1000)
os.utime(root / "hello.txt", (946_684_800, 946_684_800))  # Last-Modified is part of the answer

with afinet.Network(seed=5) as net:
    server = net.host("server")
    clients = [net.host(f"client{n}") for n in range(3)]
    for client in clients:
        net.link(client, server, delay="5ms", rate="10mbit", loss="1%")

    @server.spawn
    def serve():
        from functools import partial
        from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

        class Handler(SimpleHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[::-1])

            def log_message(self, *args):
                pass

        ThreadingHTTPServer(("", 80), partial(Handler, directory=str(root))).serve_forever()

    def fetch(n):
        import urllib.request

        with urllib.request.urlopen("http://server/hello.txt", timeout=30) as r:
            date = r.headers["Date"]
            text = r.read()
        with urllib.request.urlopen("http://server/reverse", data=b"abc%d" % n) as r:
            return date, len(text), r.read()

    tasks = [client.spawn(fetch, n) for n, client in enumerate(clients)]
    net.run(until=tasks)
    for n, task in enumerate(tasks):
        date, length, answer = task.result()
        assert date.startswith("Sat, 01 Jan 2000 00:00:0"), date
        assert (length, answer) == (31000, b"%dcba" % n)
    print("ok", file=sys.stderr)
