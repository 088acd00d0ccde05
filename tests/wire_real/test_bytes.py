"""No byte is ever lost: what a program sends before it closes, and ends, is what its peer counts, with and without loss.

The stack lingers for that after the program has ended, until the last byte is acknowledged. The kernel counts on its side.
"""

from __future__ import annotations

import hashlib
import socket
import time

import pytest

from tests.wire_real.namespaces import finish, require, wait_for_line
from tests.wire_real.wires import AFINET, Wire, direct, lossy

require()
pytestmark = pytest.mark.wire

MSS = 1448
SIZES = [0, 1, MSS - 1, MSS, MSS + 1, 65535, 65536, 65537, 1_000_000]
BIG = 100_000_000
# How each side ends a stream: close it, or say that nothing more comes and read the other's end.
ENDINGS = ["close", "shutdown"]

# Both directions with one program: it makes the connections, sends `size` bytes on each or counts what comes, and is gone.
CLIENT = """
import hashlib, socket, sys
address, port, ending, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
s = socket.create_connection((address, port))
s.sendall(hashlib.shake_128(b"%d" % size).digest(size))
if ending == "shutdown":
    s.shutdown(socket.SHUT_WR)
    assert s.recv(1) == b""
s.close()
"""
COUNTER = """
import hashlib, socket, sys
ending = sys.argv[1]
listener = socket.create_server(("", 9))
print("ready", flush=True)
while True:
    c, _ = listener.accept()
    digest, size = hashlib.sha256(), 0
    buffer = bytearray(1 << 18)
    while n := c.recv_into(buffer):
        digest.update(memoryview(buffer)[:n])
        size += n
    c.close()
    print(size, digest.hexdigest(), flush=True)
"""


def content(size: int) -> bytes:
    return hashlib.shake_128(b"%d" % size).digest(size)


def count(c: socket.socket) -> tuple[int, str]:
    """(how many bytes come before the end of the stream, their SHA-256)."""
    digest, size = hashlib.sha256(), 0
    buffer = bytearray(1 << 18)
    while n := c.recv_into(buffer):
        digest.update(memoryview(buffer)[:n])
        size += n
    return size, digest.hexdigest()


def expected(size: int) -> tuple[int, str]:
    return size, hashlib.sha256(content(size)).hexdigest()


def from_afinet(wire: Wire, ending: str, size: int, patience: float) -> float:
    """One program that sends and is gone. How long it took."""
    with wire.peer.inside():
        listener = socket.create_server(("", 0))
    with listener:
        listener.settimeout(20)
        process = wire.up("python", "-c", CLIENT, wire.address, str(listener.getsockname()[1]), ending, str(size))
        began = time.monotonic()
        c, _ = listener.accept()
        with c:
            c.settimeout(patience)
            assert count(c) == expected(size)
        took = time.monotonic() - began
    status, out, err = finish(process)
    assert (status, out) == (0, "") and "it has not" not in err, err
    return took


def to_afinet(wire: Wire, ending: str, size: int, patience: float) -> float:
    """The kernel sends; what the program has counted when it sees the end."""
    process = wire.up("python", "-c", COUNTER, ending)
    wait_for_line(process, "ready")
    with wire.peer.inside():
        s = socket.create_connection((AFINET, 9), 20)
    began = time.monotonic()
    with s:
        s.settimeout(patience)
        s.sendall(content(size))
        if ending == "shutdown":
            s.shutdown(socket.SHUT_WR)
            assert s.recv(1) == b""
    assert process.stdout is not None
    line = process.stdout.readline().split()
    took = time.monotonic() - began
    assert (int(line[0]), line[1].decode()) == expected(size)
    return took


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_a_program_sends_before_it_ends_arrives(wire: Wire, ending: str, size: int) -> None:
    from_afinet(wire, ending, size, 60)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_the_kernel_sends_arrives(wire: Wire, ending: str) -> None:
    process = wire.up("python", "-c", COUNTER, ending)
    wait_for_line(process, "ready")
    for size in SIZES:
        with wire.peer.inside():
            s = socket.create_connection((AFINET, 9), 20)
        with s:
            s.settimeout(60)
            s.sendall(content(size))
            if ending == "shutdown":
                s.shutdown(socket.SHUT_WR)
                assert s.recv(1) == b""
        assert process.stdout is not None
        line = process.stdout.readline().split()
        assert (int(line[0]), line[1].decode()) == expected(size)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("transfer", [from_afinet, to_afinet])
def test_100_mb(transfer, ending: str) -> None:
    with direct() as wire:
        transfer(wire, ending, BIG, 60)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("transfer", [from_afinet, to_afinet])
def test_100_mb_where_one_packet_in_a_hundred_is_lost(transfer, ending: str) -> None:
    with lossy() as wire:
        took = transfer(wire, ending, BIG, 600)
    print(f"{transfer.__name__}, {ending}: {BIG / took / 1e6:.2f} MB/s")
