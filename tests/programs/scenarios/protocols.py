"""Other protocols of the standard library: XML-RPC, mail, UDP servers, logging over the network, http.client kept alive."""

import sys

import afinet

with afinet.Network(seed=5) as net:
    a, b = net.host("a"), net.host("b")
    net.link(a, b, delay="3ms")

    @b.spawn
    def rpc():
        from xmlrpc.server import SimpleXMLRPCServer

        server = SimpleXMLRPCServer(("", 8000), logRequests=False)
        server.register_function(lambda x, y: x**y, "pow")
        server.serve_forever()

    @b.spawn
    def time_server():
        import socketserver

        class Echo(socketserver.BaseRequestHandler):
            def handle(self):
                data, sock = self.request
                sock.sendto(data[::-1], self.client_address)

        socketserver.UDPServer(("", 37), Echo).serve_forever()

    @b.spawn
    def mail():
        import socket

        with socket.create_server(("", 25)) as s:
            conn, _ = s.accept()
            with conn, conn.makefile("rwb", buffering=0) as f:
                f.write(b"220 b ready\r\n")
                message = b""
                while True:
                    line = f.readline()
                    if line.upper().startswith(b"DATA"):
                        f.write(b"354 go ahead\r\n")
                        while (part := f.readline()) != b".\r\n":
                            message += part
                        f.write(b"250 taken\r\n")
                    elif line.upper().startswith(b"QUIT"):
                        f.write(b"221 bye\r\n")
                        return message
                    else:
                        f.write(b"250 fine\r\n")

    @b.spawn
    def web():
        from http.server import BaseHTTPRequestHandler, HTTPServer

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.path.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        HTTPServer(("", 80), Handler).serve_forever()

    @a.spawn
    def work():
        import http.client
        import random
        import secrets
        import smtplib
        import socket
        import uuid
        import xmlrpc.client

        with xmlrpc.client.ServerProxy("http://b:8000") as proxy:
            assert proxy.pow(2, 10) == 1024
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"ping", ("b", 37))
            assert s.recv(10) == b"gnip"
        with smtplib.SMTP("b") as smtp:
            smtp.sendmail("a@a", ["b@b"], "Subject: hello\r\n\r\nfrom a simulated host\r\n")
        connection = http.client.HTTPConnection("b")
        for n in range(5):
            connection.request("GET", f"/{n}")
            assert connection.getresponse().read() == b"/%d" % n
        connection.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            # chance is the seed's: the trace hash covers it
            s.sendto(f"{random.random()} {uuid.uuid4()} {secrets.token_hex(8)} {random.Random().random()}".encode(), ("b", 9))

    net.run(until=[work, mail])
    work.result()
    assert b"from a simulated host" in mail.result()
    print("ok", file=sys.stderr)
