"""The stand-in of os: pipes, sendfile, splice, and what simulated tasks cannot do."""

from __future__ import annotations

import errno
import os as host_os
import stat
import sys
import tempfile
from typing import Any

import pytest

from afinet import socket
from afinet.runner.virtual import FD_BASE
from afinet.stdlib import _thread, time
from tests.stdlib.test_socket import World, world

os: Any = __import__("afinet.stdlib.os", fromlist=["os"])
assert world  # the fixture


def test_a_pipe_joins_two_threads_in_virtual_time(world: World) -> None:
    def program() -> list[Any]:
        r, w = os.pipe()
        assert r >= FD_BASE and not os.get_inheritable(r) and os.get_blocking(w)
        assert stat.S_ISFIFO(os.fstat(r).st_mode) and not os.isatty(r)
        began = world.net.now

        def writer() -> None:
            for word in (b"one", b"two"):
                time.sleep(1)
                os.write(w, word)
            os.close(w)

        _thread.start_new_thread(writer, ())
        out = []
        while data := os.read(r, 10):
            out.append((round(world.net.now - began), data))
        os.close(r)
        return out

    assert world.run(program) == [(1, b"one"), (2, b"two")]


def test_fdopen_reads_lines_and_writes_text(world: World) -> None:
    def program() -> None:
        r, w = os.pipe()
        with os.fdopen(w, "w", encoding="utf-8") as out:
            print("zwölf", file=out)
            print("last", end="", file=out)
        with os.fdopen(r, "rb", 0) as raw:
            assert raw.read(3) == b"zw\xc3"
            assert os.fdopen(r, "r", encoding="latin-1", closefd=False).read() == "¶lf\nlast"
        with pytest.raises(OSError):
            os.read(r, 1)
        r, w = os.pipe2(host_os.O_NONBLOCK)
        raw = os.fdopen(r, "rb", 0)
        assert raw.read(1) is None
        with pytest.raises(BlockingIOError):
            os.read(r, 1)
        with pytest.raises(ValueError, match="unbuffered text"):
            os.fdopen(r, "r", 0)
        os.close(w)
        assert raw.read(1) == b""
        raw.close()

    world.run(program)


def receive_all(world: World) -> Any:
    def serve() -> bytes:
        with socket.create_server(("", 80)) as s:
            conn, _ = s.accept()
            with conn:
                out = b""
                while data := conn.recv(65536):
                    out += data
        return out

    return world.b.spawn(serve)


@pytest.mark.skipif(sys.platform != "linux", reason="os.sendfile as Linux has it")
def test_a_file_of_the_host_is_sent_by_sendfile(world: World) -> None:
    server = receive_all(world)
    data = bytes(i * 3 & 255 for i in range(300_000))

    def client() -> None:
        with tempfile.TemporaryFile() as file, socket.create_connection(("b", 80)) as s:
            file.write(data)
            file.flush()
            assert os.sendfile(s.fileno(), file.fileno(), 10, 90) == 90
            host_os.lseek(file.fileno(), 100, 0)
            assert os.sendfile(s.fileno(), file.fileno(), None, 100) == 100
            assert host_os.lseek(file.fileno(), 0, 1) == 200
            file.seek(200)
            assert s.sendfile(file, 200) == len(data) - 200  # socket.py's own, over os.sendfile
            assert os.sendfile(s.fileno(), file.fileno(), len(data), 10) == 0
            r, w = os.pipe()
            with pytest.raises(ValueError, match="the host's own"):
                os.sendfile(file.fileno(), r, None, 1)
            with pytest.raises(ValueError, match="splice"):
                os.splice(file.fileno(), w, 1)
            inner, outer = host_os.pipe()
            with pytest.raises(OSError) as e:
                os.sendfile(s.fileno(), inner, None, 1)
            assert e.value.errno == errno.EINVAL
            for fd in (inner, outer):
                host_os.close(fd)
            for fd in (r, w):
                os.close(fd)

    world.run(client)
    world.net.run(until=server)
    assert server.result() == data[10:]


@pytest.mark.skipif(not hasattr(host_os, "splice"), reason="os.splice is of Linux and Python 3.10")
def test_a_proxy_moves_bytes_with_splice(world: World) -> None:
    server = receive_all(world)

    def proxy() -> None:
        with socket.create_server(("", 8080)) as s:
            conn, _ = s.accept()
            out = socket.create_connection(("b", 80))
            r, w = os.pipe()
            while n := os.splice(conn.fileno(), w, 1 << 20):
                while n:
                    n -= os.splice(r, out.fileno(), n)
            for fd in (r, w):
                os.close(fd)
            conn.close()
            out.close()

    def client() -> None:
        with socket.create_connection(("localhost", 8080)) as s:
            s.sendall(b"x" * 200_000)

    world.a.spawn(proxy)
    world.a.spawn(client)
    world.net.run(until=server)
    assert server.result() == b"x" * 200_000


def test_a_program_hands_descriptors_to_another_on_its_host(world: World) -> None:
    def parent() -> Any:
        listener = socket.create_server(("", 80))
        other = socket.socket()
        r, w = os.pipe()

        def child() -> None:
            with socket.socket(fileno=listener.fileno()) as mine:
                assert mine.getsockname() == ("0.0.0.0", 80)
            for fd in (other.fileno(), r):
                with pytest.raises(OSError) as e:
                    os.read(fd, 1)
                assert e.value.errno == errno.EBADF
            os.write(w, b"from the child")

        task = world.a.spawn(child, name="child", pass_fds=[listener.fileno(), w])
        os.close(w)
        assert os.read(r, 100) == b"from the child"
        assert os.read(r, 100) == b""  # its exit closed the last one
        assert listener.accept is not None and listener.getsockname()[1] == 80
        task.join()
        task.result()
        with pytest.raises(ValueError, match="has no descriptor"):
            world.a.spawn(child, pass_fds=[w])
        with pytest.raises(ValueError, match="runs on b"):
            world.b.spawn(child, pass_fds=[r])
        listener.close()
        other.close()
        os.close(r)

    world.run(parent)


@pytest.mark.skipif(not hasattr(host_os, "fork"), reason="the host has no fork")
def test_a_process_of_the_host_is_fenced_off(world: World) -> None:
    def program() -> None:
        for call in (lambda: os.fork(), lambda: os.system("true"), lambda: os.fork_exec()):
            with pytest.raises(OSError, match="outside of the simulation") as e:
                call()
            assert e.value.errno == errno.ENOSYS

    world.run(program)
    assert os.system("true") == 0
