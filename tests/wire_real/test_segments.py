"""Datagrams by the super-packet, with the running kernel as peer: UDP_SEGMENT and UDP_GRO both ways, and IPv6, which is dropped."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from afinet.tools.pcapng import read_pcapng
from tests.wire_real.namespaces import Namespace, finish, require, wait_for_line
from tests.wire_real.test_tun import AFINET, KERNEL, KINDS, payload, program

require()
pytestmark = pytest.mark.wire

UDP_SEGMENT, UDP_GRO = 103, 104
SIZES = [1, 999, 1000, 1001, 12_345, 40_000, 65_000]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    ns = Namespace()
    yield ns
    ns.close()


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> list[str]:
    return ["--tun", "afi0", "--address", f"{AFINET}/24", *KINDS[request.param]]


def is_plain(kind: list[str]) -> bool:
    return "--no-offload" in kind


RECEIVE = """
    import socket, struct
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(17, 104, GRO)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    s.bind(("", 9))
    print("ready", flush=True)
    while True:
        data, control, _, peer = s.recvmsg(1 << 17, 100)
        size = struct.unpack("=i", control[0][2])[0] if control else 0
        s.sendto(b"%d %d" % (len(data), size) + data[-1:], peer)
"""


@pytest.mark.parametrize("gro", [1, 0])
def test_what_the_kernel_sends_as_one_comes_as_one_or_in_pieces(
    namespace: Namespace, kind: list[str], gro: int, tmp_path: Path
) -> None:
    file = tmp_path / "x.pcapng"
    process = namespace.up(*kind, "--pcap", str(file), *program(RECEIVE.replace("GRO", str(gro))))
    wait_for_line(process, "ready")
    with namespace.inside():
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with s:
        s.settimeout(10)
        s.connect((AFINET, 9))
        s.setsockopt(17, UDP_SEGMENT, 1000)
        for size in SIZES:
            data = payload(size)
            assert s.send(data) == size
            got = 0
            while got < size:
                answer = s.recv(100)
                length, of = map(int, answer[:-1].split())
                got += length
                assert answer[-1] == data[got - 1]
                # Without offloads the kernel cuts; what is read in one go is merged again, how much is chance.
                if gro and not is_plain(kind):
                    assert (length, of) == (size, 1000 if size > 1000 else 0)
                elif not gro:
                    assert of == 0 and length <= 1000
            assert got == size
    process.terminate()
    finish(process)
    longest = max(len(p.frame) for p in read_pcapng(file.read_bytes()))
    assert longest < 1100 if is_plain(kind) else longest > 65_000


@pytest.mark.parametrize("gro", [1, 0])
def test_what_afinet_sends_as_one_comes_as_one_or_in_pieces(namespace: Namespace, kind: list[str], gro: int) -> None:
    text = f"""
        import hashlib, socket
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(("{KERNEL}", 9))
        s.settimeout(10)
        s.setsockopt(17, 103, 1000)
        for size in {SIZES}:
            data = hashlib.shake_128(b"%d" % size).digest(size)
            assert s.send(data) == size
            assert s.recv(10) == b"next"
    """
    with namespace.inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver:
        receiver.bind(("", 9))
        receiver.setsockopt(17, UDP_GRO, gro)
        receiver.settimeout(20)
        process = namespace.up(*kind, *program(text))
        for size in SIZES:
            got = b""
            while len(got) < size:
                data, control, _, peer = receiver.recvmsg(1 << 17, 100)
                got += data
                of = struct.unpack("=i", control[0][2])[0] if control else 0
                if gro and not is_plain(kind):
                    assert (len(data), of) == (size, 1000 if size > 1000 else 0)
                else:
                    assert len(data) <= 1000
            assert got == payload(size)
            receiver.sendto(b"next", peer)
    assert finish(process)[0] == 0


def test_datagrams_of_ipv6_are_dropped_and_do_no_harm(namespace: Namespace, kind: list[str]) -> None:
    process = namespace.up(*kind, *program(RECEIVE.replace("GRO", "1")))
    wait_for_line(process, "ready")
    namespace.run("ip", "-6", "addr", "add", "fd00::1/64", "dev", "afi0", "nodad")
    if "--tap" in kind:
        namespace.run("ip", "-6", "neigh", "add", "fd00::2", "lladdr", "02:00:00:00:00:01", "dev", "afi0")
    with namespace.inside():
        six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with six, s:
        six.setsockopt(17, UDP_SEGMENT, 1000)
        for size in SIZES:
            six.sendto(payload(min(size, 60_000)), ("fd00::2", 9))
        s.settimeout(10)
        s.sendto(b"still there?", (AFINET, 9))
        assert s.recv(100) == b"12 0?"
