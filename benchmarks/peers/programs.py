"""The Python programs that benchmarks/wire.py measures: plain blocking sockets, unmodified under `afinet up` and on the kernel.

python programs.py sink | source | echo | accept | connect HOST SECONDS | idle COUNT

Each prints "ready" once it listens. `sink` and `source` answer SIGINT with the time at which their handler ran.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import time

ECHO, SINK, SOURCE = 7, 9, 19


def listen(port: int) -> socket.socket:
    listener = socket.create_server(("", port), backlog=1024)
    print("ready", flush=True)
    return listener


def stamp(signum: int, frame: object) -> None:
    os.write(1, b"%d\n" % time.monotonic_ns())


def sink() -> None:
    signal.signal(signal.SIGINT, stamp)
    listener = listen(SINK)
    buffer = bytearray(256 << 10)
    while True:
        connection, _ = listener.accept()
        with connection:
            while connection.recv_into(buffer):
                pass


def source() -> None:
    signal.signal(signal.SIGINT, stamp)
    listener = listen(SOURCE)
    block = bytes(128 << 10)
    while True:
        connection, _ = listener.accept()
        try:
            while True:
                connection.sendall(block)
        except (BrokenPipeError, ConnectionResetError):
            connection.close()


def echo() -> None:
    listener = listen(ECHO)
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(4096):
                connection.sendall(data)


def accept() -> None:
    listener = listen(ECHO)
    while True:
        connection, _ = listener.accept()
        connection.recv(1)
        connection.close()


def connect(host: str, seconds: float) -> None:
    began = time.monotonic()
    count = 0
    while (elapsed := time.monotonic() - began) < seconds:
        with socket.create_connection((host, ECHO)) as s:
            s.shutdown(socket.SHUT_WR)
            assert s.recv(1) == b""
        count += 1
    print(json.dumps({"count": count, "seconds": elapsed}), flush=True)


def idle(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 64, count + 64))
    listener = listen(ECHO)
    connections = [listener.accept()[0] for _ in range(count)]
    for connection in connections:
        connection.sendall(connection.recv(1))


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "connect":
        connect(rest[0], float(rest[1]))
    elif what == "idle":
        idle(int(rest[0]))
    else:
        {"sink": sink, "source": source, "echo": echo, "accept": accept}[what]()
