"""The scenario of switch.py, under `afinet run`: how many requests a second of CPU time http.server answers."""

import json
import time

import afinet

CLIENTS, EACH = 4, 150

with afinet.Network(seed=1) as net:
    client, server = net.host("client"), net.host("server")
    net.link(client, server, delay="1ms")

    @server.spawn
    def serve():
        import http.server

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(bytes(100))

            def log_message(self, *args):
                pass

        http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()

    def ask():
        import http.client

        connection = http.client.HTTPConnection("server")
        for _ in range(EACH):
            connection.request("GET", "/")
            assert len(connection.getresponse().read()) == 100

    tasks = [client.spawn(ask) for _ in range(CLIENTS)]
    began = time.process_time()
    net.run(until=tasks)
    rate = CLIENTS * EACH / (time.process_time() - began)
    print(json.dumps({"requests_s": rate, "switch": net.runner.switch.name}))
