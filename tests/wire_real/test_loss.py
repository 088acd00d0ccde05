"""No byte is lost where one packet in fifty is, and each takes its time: kernel, relay, kernel as a router, afinet."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire_real.namespaces import Namespace, finish, require, wait_for_line
from tests.wire_real.relay import attach
from tests.wire_real.test_tun import SINK, payload, program

require()
pytestmark = pytest.mark.wire

FAR, AFINET = "10.1.0.1", "10.9.0.2"
SIZES = [0, 1, 1448, 1449, 65536, 300_000]
UP = ["--tun", "afi0", "--address", f"{AFINET}/24", "--gateway", "10.9.0.1"]


@pytest.fixture
def path() -> Iterator[tuple[Namespace, Namespace]]:
    """(where the far kernel is, where afinet's device is); 5 ms and 2 % each way between them."""
    far, near = Namespace(), Namespace()
    fds = []
    for ns, name, address in ((far, "far0", f"{FAR}/24"), (near, "near0", "10.1.0.2/24")):
        with ns.inside():
            fds.append(attach(name))
        ns.run("ip", "addr", "add", address, "dev", name)
        ns.run("ip", "link", "set", name, "up", "txqueuelen", "10000")
    far.run("ip", "route", "add", "10.9.0.0/24", "via", "10.1.0.2")
    with near.inside():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    root = Path(__file__).resolve().parents[2]
    relay = subprocess.Popen(
        [sys.executable, "-m", "tests.wire_real.relay", *map(str, fds), "5", "0.02", "7"], pass_fds=fds, cwd=root
    )
    for fd in fds:
        os.close(fd)
    yield far, near
    relay.kill()
    relay.wait()
    for ns in (near, far):
        ns.close()


def test_the_kernels_bytes_arrive(path: tuple[Namespace, Namespace]) -> None:
    far, near = path
    process = near.up(*UP, *program(SINK))
    wait_for_line(process, "ready")
    for size in SIZES:
        data = payload(size)
        with far.inside():
            s = socket.create_connection((AFINET, 9), 20)
        with s:
            s.settimeout(30)
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            assert s.makefile().read() == f"{size} {hashlib.sha256(data).hexdigest()}"


def test_afinets_bytes_arrive_though_the_program_has_ended(path: tuple[Namespace, Namespace]) -> None:
    far, near = path
    text = f"""
        import hashlib, socket
        for size in {SIZES}:
            s = socket.create_connection(("{FAR}", 9))
            s.sendall(hashlib.shake_128(b"%d" % size).digest(size))
            s.close()
    """
    with far.inside():
        listener = socket.create_server(("0.0.0.0", 9))
    with listener:
        listener.settimeout(30)
        process = near.up(*UP, *program(text))
        # A SYN that is lost makes its connection the later one.
        got = []
        for _ in SIZES:
            c, _ = listener.accept()
            with c:
                c.settimeout(30)
                got.append(c.makefile("rb").read())
        assert sorted(got, key=len) == [payload(size) for size in SIZES]
    status, _, err = finish(process)
    assert status == 0 and "it has not" not in err
