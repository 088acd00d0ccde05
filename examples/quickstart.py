"""Two hosts, a bad link between them, and an unmodified web server and client.

    afinet run examples/quickstart.py

10 MB travel over a link with 20 ms delay each way, 20 Mbit/s and 1 % loss. The two functions `serve` and `fetch` use nothing
but the standard library and know nothing of afinet. What the client's network device saw is left in quickstart.pcapng.
"""

import hashlib
import sys
import time

import afinet
from afinet.tools.pcapng import PcapngTap, PcapngWriter
from afinet.tools.ss import ss_tin
from afinet.uapi.snmp import TCP_MIB_RETRANSSEGS

SIZE = 10_000_000
CONTENT = hashlib.shake_256(b"afinet").digest(SIZE)
received = 0


def serve():
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *args):
            pass

    ThreadingHTTPServer(("", 80), Handler).serve_forever()


def fetch():
    global received
    import urllib.request

    digest = hashlib.sha256()
    with urllib.request.urlopen("http://server/content", timeout=60) as response:
        while chunk := response.read(65536):
            digest.update(chunk)
            received += len(chunk)
    return digest.hexdigest()


def main():
    with afinet.Network(seed=7) as net, open("quickstart.pcapng", "wb") as file:
        client, server = net.host("client"), net.host("server")
        net.link(client, server, delay="20ms", rate="20mbit", loss=0.01)
        PcapngTap(PcapngWriter(file), client.kernel, without=("lo",))

        server.spawn(serve)
        task = client.spawn(fetch)

        began = time.perf_counter()
        sockets = ""
        with Progress(SIZE) as progress:
            # The clock here is the real one: the virtual one runs while run_for does.
            while not net.run_for("50ms", until=task):
                progress.show(received, net.now)
                if received < SIZE // 2:
                    sockets = ss_tin(server.net)
            progress.show(received, net.now, last=True)
        took = time.perf_counter() - began

        same = task.result() == hashlib.sha256(CONTENT).hexdigest()
        print(f"received        {received:,} bytes, {'the same as sent' if same else 'NOT what was sent'}")
        print(f"virtual time    {net.now:.3f} s ({received * 8 / net.now / 1e6:.2f} Mbit/s)")
        print(f"real time       {took:.2f} s ({received * 8 / took / 1e6:.2f} Mbit/s)")
        print(f"retransmitted   {server.net.tcp_statistics[TCP_MIB_RETRANSSEGS]} segments")
        print(f"the server's sockets half way, as `ss -tin` shows them:\n{sockets}")
    print("quickstart.pcapng is what the client saw: open it in Wireshark")
    return 0 if same else 1


class Progress:
    """A bar by rich where that is installed, a line of text otherwise."""

    def __init__(self, total):
        self.total = total
        self.bar = None
        try:
            from rich.progress import BarColumn, DownloadColumn, TextColumn
            from rich.progress import Progress as Bar
        except ImportError:
            return
        if sys.stdout.isatty():
            self.bar = Bar(TextColumn("{task.fields[clock]}"), BarColumn(), DownloadColumn(), auto_refresh=False)
            self.id = self.bar.add_task("", total=total, clock="")

    def __enter__(self):
        if self.bar:
            self.bar.start()
        self.shown = 0.0
        return self

    def show(self, done, now, last=False):
        if time.monotonic() - self.shown < 0.1 and not last:
            return
        self.shown = time.monotonic()
        if self.bar:
            self.bar.update(self.id, completed=done, clock=f"{now:7.3f} s", refresh=True)
        elif sys.stdout.isatty():
            print(f"\r{now:7.3f} s  {done / self.total:6.1%}", end="", flush=True)

    def __exit__(self, *exc):
        if self.bar:
            self.bar.stop()
        elif sys.stdout.isatty():
            print()


if __name__ == "__main__":
    sys.exit(main())
