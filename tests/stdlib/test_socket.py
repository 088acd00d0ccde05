"""afinet.socket: Python's own socket.py over simulated hosts, used as programs use it."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import select as host_select
import socket as host_socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from afinet import Host, Network, socket
from afinet.runner.virtual import FD_BASE
from afinet.stdlib import _socket, _thread, select, time

epoll: Any = vars(select).get("epoll")


class World:
    """Two hosts with a link of 10 ms."""

    def __init__(self) -> None:
        self.net = Network(seed=3)
        self.a, self.b = self.net.host("a"), self.net.host("b")
        self.net.link(self.a, self.b, delay="10ms")

    def run(self, fn: Callable[[], Any], host: Host | None = None) -> Any:
        """Run `fn` on host a to its end, and what it returned."""
        task = (host or self.a).spawn(fn)
        self.net.run(until=task)
        return task.result()


@pytest.fixture
def world() -> Iterator[World]:
    w = World()
    yield w
    w.net.close()


def listener(world: World, port: int = 80) -> None:
    """A server on b that echoes every connection, for ever."""

    def serve() -> None:
        with socket.create_server(("", port)) as s:
            while True:
                conn, _ = s.accept()
                with conn:
                    while data := conn.recv(65536):
                        conn.sendall(data)

    world.b.spawn(serve)


# -- the module ----------------------------------------------------------------------------------------------------------------


def test_no_name_of_the_standard_module_is_missing() -> None:
    assert not set(dir(host_socket)) - set(dir(socket))
    import _socket as host

    assert not set(dir(host)) - set(dir(_socket))
    assert not set(dir(host.socket)) - set(dir(_socket.socket))


def test_constants_and_classes_are_the_standard_ones() -> None:
    assert socket.AF_INET == host_socket.AF_INET and socket.SOCK_STREAM == host_socket.SOCK_STREAM
    assert socket.timeout is TimeoutError and socket.error is OSError
    assert socket.gaierror is host_socket.gaierror and socket.herror is host_socket.herror
    assert issubclass(socket.socket, _socket.socket) and socket.SocketType is _socket.socket


def test_outside_of_a_task_it_is_the_hosts_network() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        assert s.fileno() < FD_BASE
        s.bind(("127.0.0.1", 0))
        s.settimeout(5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as t:
            t.sendto(b"real", s.getsockname())
            assert s.recvfrom(10) == (b"real", ("127.0.0.1", t.getsockname()[1]))
        assert select.select([s], [], [], 0) == ([], [], [])
        assert "fd=" in repr(s) and s.family == socket.AF_INET and s.timeout == 5
    a, b = socket.socketpair()
    with a, b:
        a.sendall(b"pair")
        assert b.recv(10) == b"pair"


# -- streams -------------------------------------------------------------------------------------------------------------------


def test_a_connection_has_names_at_both_ends(world: World) -> None:
    listener(world)

    def client() -> Any:
        with socket.create_connection(("b", 80)) as s:
            assert s.getpeername() == ("10.0.0.2", 80)
            assert s.getsockname()[0] == "10.0.0.1"
            assert s.fileno() == FD_BASE + 3
            assert (s.family, s.type, s.proto) == (socket.AF_INET, socket.SOCK_STREAM, 6)
            assert s.gettimeout() is None and s.getblocking()
            assert repr(s).startswith("<afinet.socket.socket fd=1048579")
        assert s.fileno() == -1
        with pytest.raises(OSError) as e:
            s.send(b"x")
        return e.value.errno

    assert world.run(client) == errno.EBADF


def test_sending_takes_any_bytes_like_object_and_refuses_text(world: World) -> None:
    listener(world)

    def client() -> None:
        import array

        with socket.create_connection(("b", 80)) as s:
            for data in (b"bytes", bytearray(b"array"), memoryview(b"a view")[2:], array.array("I", [1, 2, 3])):
                s.sendall(data)
                want = bytes(memoryview(data))
                assert s.recv(100, socket.MSG_WAITALL if len(want) == 100 else 0) == want
            with pytest.raises(TypeError, match="bytes-like object is required, not 'str'"):
                s.send("text")  # type: ignore[arg-type]

    world.run(client)


def test_recv_into_and_its_sisters_fill_the_callers_buffer(world: World) -> None:
    listener(world)

    def client() -> None:
        with socket.create_connection(("b", 80)) as s:
            s.sendall(b"0123456789")
            buf = bytearray(20)
            assert s.recv_into(buf, 4) == 4 and buf[:4] == b"0123"
            assert s.recv_into(memoryview(buf)[10:12]) == 2 and buf[10:12] == b"45"
            n, _addr = s.recvfrom_into(buf, 2)
            assert n == 2 and buf[:2] == b"67"
            one, two = bytearray(1), bytearray(5)
            n, anc, flags, _addr = s.recvmsg_into([one, two])
            assert (n, bytes(one), bytes(two[:1]), anc, flags) == (2, b"8", b"9", [], 0)
            with pytest.raises(ValueError, match="buffer too small"):
                s.recv_into(bytearray(3), 4)
            with pytest.raises(TypeError):
                s.recv_into(b"read only")
            with pytest.raises(ValueError, match="negative buffersize"):
                s.recv(-1)

    world.run(client)


def test_makefile_reads_lines_and_writes(world: World) -> None:
    listener(world)

    def client() -> None:
        s = socket.create_connection(("b", 80))
        with s, s.makefile("rw", newline="\n") as f:
            f.write("one\ntwo\n")
            f.flush()
            assert [f.readline(), f.readline()] == ["one\n", "two\n"]

    world.run(client)


def test_shutdown_ends_one_direction(world: World) -> None:
    listener(world)

    def client() -> None:
        with socket.create_connection(("b", 80)) as s:
            s.sendall(b"last words")
            s.shutdown(socket.SHUT_WR)
            assert s.recv(100, socket.MSG_WAITALL) == b"last words"
            assert s.recv(100) == b""
            with pytest.raises(BrokenPipeError):
                s.send(b"more")

    world.run(client)


def test_nobody_listens_there(world: World) -> None:
    def client() -> None:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("b", 81))
        with socket.socket() as s:
            assert s.connect_ex(("b", 81)) == errno.ECONNREFUSED
        with pytest.raises(socket.gaierror) as e:
            socket.create_connection(("nobody", 80))
        assert e.value.errno == socket.EAI_NONAME

    world.run(client)


def test_errors_carry_linuxs_numbers_and_texts(world: World) -> None:
    def client() -> None:
        with socket.socket() as s, socket.socket() as t:
            with pytest.raises(OSError, match="Transport endpoint is not connected") as e:
                s.getpeername()
            assert e.value.errno == errno.ENOTCONN
            s.bind(("", 80))
            s.listen()
            with pytest.raises(OSError) as e:
                t.bind(("", 80))
            assert e.value.errno == errno.EADDRINUSE
            with pytest.raises(OSError) as e:
                t.bind(("10.9.9.9", 0))
            assert e.value.errno == errno.EADDRNOTAVAIL
        with pytest.raises(OSError) as e:
            socket.socket(socket.AF_UNIX)
        assert e.value.errno == errno.EAFNOSUPPORT
        with pytest.raises(OSError) as e:
            socket.socket(socket.AF_INET, 77)
        assert e.value.errno == errno.EINVAL
        with pytest.raises(TypeError, match=r"bind\(\): AF_INET address must be tuple, not str"):
            t.bind("10.0.0.1")
        with socket.socket() as t, pytest.raises(OverflowError, match="port must be 0-65535"):
            t.bind(("", 70000))

    world.run(client)


# -- time limits ---------------------------------------------------------------------------------------------------------------


def test_time_limits_are_virtual_and_raise_timeout(world: World) -> None:
    listener(world)

    def client() -> None:
        with socket.create_connection(("b", 80), timeout=2.5) as s:
            assert s.gettimeout() == 2.5 and s.timeout == 2.5
            began = world.net.now
            with pytest.raises(socket.timeout, match="timed out"):
                s.recv(1)
            assert world.net.now - began == pytest.approx(2.5)
            s.sendall(b"x" * 300_000)
            got = b""
            while len(got) < 300_000:
                got += s.recv(1 << 20)
        with socket.create_server(("", 81)) as listening:
            listening.settimeout(1)
            with pytest.raises(TimeoutError):
                listening.accept()
        with pytest.raises(ValueError, match="out of range"):
            listening.settimeout(-1)

    world.run(client)


def test_a_connect_into_nowhere_times_out(world: World) -> None:
    def client() -> float:
        world.net.links[0].cut()
        began = world.net.now
        with pytest.raises(TimeoutError):
            socket.create_connection(("10.0.0.2", 80), timeout=3)
        return world.net.now - began

    assert world.run(client) == pytest.approx(3)


def test_a_non_blocking_socket_says_so(world: World) -> None:
    listener(world)

    def client() -> None:
        s = socket.socket()
        s.setblocking(False)
        assert s.gettimeout() == 0.0 and not s.getblocking()
        with pytest.raises(BlockingIOError):
            s.connect(("b", 80))
        _r, w, _x = select.select([], [s], [], 5)
        assert w == [s] and s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        with pytest.raises(BlockingIOError):
            s.recv(1)
        s.send(b"x")
        poll = select.poll()
        poll.register(s, select.POLLIN)
        assert poll.poll(1000) == [(s.fileno(), select.POLLIN)]
        assert s.recv(10) == b"x"
        poll.modify(s.fileno(), select.POLLOUT)
        assert poll.poll() == [(s.fileno(), select.POLLOUT)]
        poll.unregister(s)
        assert poll.poll(10) == []
        s.close()

    world.run(client)


def test_default_time_limits_belong_to_a_program(world: World) -> None:
    def client() -> None:
        socket.setdefaulttimeout(1.5)
        assert socket.getdefaulttimeout() == 1.5
        with socket.socket() as s:
            assert s.gettimeout() == 1.5

    world.run(client)
    assert socket.getdefaulttimeout() is None
    assert world.run(socket.getdefaulttimeout) is None


# -- select --------------------------------------------------------------------------------------------------------------------


def test_select_waits_in_virtual_time_and_finds_the_ready_one(world: World) -> None:
    def client() -> None:
        one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with one, two:
            one.bind(("", 1))
            two.bind(("", 2))
            began = world.net.now
            assert select.select([one, two], [], [], 0.5) == ([], [], [])
            assert world.net.now - began == pytest.approx(0.5)
            one.sendto(b"x", ("localhost", 2))
            assert select.select([one, two], [one], [], None) == ([two], [one], [])
            closed = two.fileno()
        with pytest.raises(OSError) as e:
            select.select([closed], [], [], 0)
        assert e.value.errno == errno.EBADF
        with pytest.raises(ValueError, match="host's own"):
            select.select([0], [], [], 0)
        assert select.select([], [], [], 0.1) == ([], [], [])

    world.run(client)


@pytest.mark.skipif(not hasattr(host_select, "epoll"), reason="where the host has no epoll, selectors use poll")
def test_epoll_waits_in_virtual_time_and_finds_the_ready_one(world: World) -> None:
    def client() -> None:
        one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with one, two, epoll() as ep:
            two.bind(("", 2))
            ep.register(one, host_select.EPOLLIN)
            ep.register(two.fileno(), host_select.EPOLLIN)
            began = world.net.now
            assert ep.poll(0.0001) == []
            assert world.net.now - began == pytest.approx(0.001)  # whole milliseconds, as CPython
            one.sendto(b"x", ("localhost", 2))
            assert ep.poll() == [(two.fileno(), host_select.EPOLLIN)]
            assert select.select([ep], [], [], 0) == ([ep], [], [])
            ep.modify(two, host_select.EPOLLOUT)
            ep.unregister(one)
            assert ep.poll(1, maxevents=1) == [(two.fileno(), host_select.EPOLLOUT)]
            two.close()
            assert ep.poll(0) == []  # what is closed is forgotten
            for call, number in ((lambda: ep.unregister(one), errno.ENOENT), (lambda: ep.register(ep), errno.EINVAL)):
                with pytest.raises(OSError) as e:
                    call()
                assert e.value.errno == number
            with pytest.raises(ValueError, match="host's own"):
                ep.register(0)
            with pytest.raises(ValueError, match="maxevents must be greater than 0, got 0"):
                ep.poll(0, 0)
        assert ep.closed
        with pytest.raises(ValueError, match="closed epoll"):
            ep.poll(0)
        with pytest.raises(ValueError, match="sizehint"):
            epoll(0)

    world.run(client)
    outside = epoll()
    assert isinstance(outside, host_select.epoll)
    outside.close()


@pytest.mark.skipif(not hasattr(host_select, "epoll"), reason="the host has no epoll")
def test_of_two_tasks_that_wait_in_one_epoll_each_event_wakes_one(world: World) -> None:
    log: list[tuple[int, int]] = []

    def client() -> None:
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        ep = epoll()
        for port, s in enumerate(socks, 10):
            s.bind(("", port))
            ep.register(s, host_select.EPOLLIN | host_select.EPOLLET)

        def wait(n: int) -> None:
            for fd, _ in ep.poll():
                log.append((n, fd - socks[0].fileno()))

        for n in range(2):
            _thread.start_new_thread(wait, (n,))
        time.sleep(1)
        socks[0].sendto(b"x", ("localhost", 11))
        time.sleep(1)
        assert log == [(0, 1)]
        socks[0].sendto(b"x", ("localhost", 10))
        time.sleep(1)

    world.run(client)
    assert log == [(0, 1), (1, 0)]


# -- datagrams, options, messages ----------------------------------------------------------------------------------------------


def test_datagrams_carry_their_senders_address(world: World) -> None:
    def serve() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(("", 53))
            data, addr = s.recvfrom(100)
            s.sendto(data.upper(), addr)

    def client() -> Any:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            assert s.sendto(b"query", ("b", 53)) == 5
            return s.recvfrom(100)

    world.b.spawn(serve)
    assert world.run(client) == (b"QUERY", ("10.0.0.2", 53))


def test_messages_carry_control_data_and_flags(world: World) -> None:
    def client() -> None:
        s, t = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with s, t:
            t.bind(("127.0.0.1", 9))
            t.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTTL if hasattr(socket, "IP_RECVTTL") else 12, 1)
            assert s.sendmsg([b"one", b"two"], [], 0, ("127.0.0.1", 9)) == 6
            data, anc, flags, addr = t.recvmsg(4, socket.CMSG_SPACE(4))
            assert data == b"onet" and flags & socket.MSG_TRUNC and addr == ("127.0.0.1", s.getsockname()[1])
            assert anc == [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", 64))]
            with pytest.raises(TypeError):
                s.sendmsg([b"x"], [(1, 2)])  # type: ignore[list-item]

    world.run(client)


def test_options_are_integers_or_buffers(world: World) -> None:
    def client() -> None:
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            assert s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 7))
            assert s.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == struct.pack("ii", 1, 7)
            with pytest.raises(OSError) as e:
                s.setsockopt(socket.SOL_SOCKET, 12345, 1)
            assert e.value.errno == errno.ENOPROTOOPT
            with pytest.raises(OSError, match="buflen out of range"):
                s.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 5000)

    world.run(client)


# -- names ---------------------------------------------------------------------------------------------------------------------


def test_getaddrinfo_answers_like_glibc_for_the_networks_names(world: World) -> None:
    def client() -> None:
        INET, STREAM, DGRAM, RAW = socket.AF_INET, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
        addr = ("10.0.0.2", 80)
        assert socket.getaddrinfo("b", 80) == [(INET, STREAM, 6, "", addr), (INET, DGRAM, 17, "", addr), (INET, RAW, 0, "", addr)]
        assert socket.getaddrinfo("b", "http", type=STREAM) == [(INET, STREAM, 6, "", addr)]
        assert socket.getaddrinfo(None, 80, type=STREAM)[0][4] == ("127.0.0.1", 80)
        assert socket.getaddrinfo(None, 80, type=STREAM, flags=socket.AI_PASSIVE)[0][4] == ("0.0.0.0", 80)
        assert socket.getaddrinfo("localhost", None, proto=17)[0][1:3] == (DGRAM, 17)
        assert socket.getaddrinfo("b", 1, type=STREAM, flags=socket.AI_CANONNAME)[0][3] == "b"
        assert socket.getaddrinfo("127.1", 1, type=STREAM)[0][4] == ("127.0.0.1", 1)
        for args, code in (
            (("nobody", 80), socket.EAI_NONAME),
            (("b", 80, 0, 0, 0, socket.AI_NUMERICHOST), socket.EAI_NONAME),
            (("b", "no-such-service"), socket.EAI_SERVICE),
            (("b", 80, 77), socket.EAI_FAMILY),
            (("b", 80, 0, 77), socket.EAI_SOCKTYPE),
            (("b", 80, socket.AF_INET6), socket.EAI_ADDRFAMILY),
        ):
            with pytest.raises(socket.gaierror) as e:
                socket.getaddrinfo(*args)
            assert e.value.errno == code
        assert socket.getnameinfo(("10.0.0.2", 80), 0) == ("b", "http")
        assert socket.getnameinfo(("10.0.0.2", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) == ("10.0.0.2", "80")
        assert socket.gethostname() == "a" and socket.getfqdn("b") == "b"
        assert socket.gethostbyname("B") == "10.0.0.2"
        assert socket.gethostbyname_ex("b") == ("b", [], ["10.0.0.2"])
        with pytest.raises(socket.herror):
            socket.gethostbyaddr("10.9.9.9")
        assert socket.if_nameindex() == [(1, "lo"), (2, "eth0")]
        assert socket.if_nametoindex("eth0") == 2 and socket.if_indextoname(1) == "lo"

    world.run(client)


# -- descriptors ---------------------------------------------------------------------------------------------------------------


def test_descriptors_are_duplicated_detached_adopted_and_closed(world: World) -> None:
    listener(world)

    def client() -> None:
        s = socket.create_connection(("b", 80))
        twin = s.dup()
        s.close()
        twin.sendall(b"still here")
        assert twin.recv(100) == b"still here"
        assert not twin.get_inheritable()
        twin.set_inheritable(True)
        assert twin.get_inheritable()
        fd = twin.detach()
        again = socket.socket(fileno=fd)
        assert (again.family, again.type, again.proto) == (socket.AF_INET, socket.SOCK_STREAM, 6)
        other = socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM)
        again.close()
        other.sendall(b"x")
        assert other.recv(1) == b"x"
        socket.close(other.detach())
        with pytest.raises(OSError) as e:
            socket.close(fd)
        assert e.value.errno == errno.EBADF

    world.run(client)


def test_socketpair_is_a_connection_over_lo(world: World) -> None:
    def client() -> None:
        one, two = socket.socketpair()
        with one, two:
            one.sendall(b"there")
            assert two.recv(10) == b"there"
            two.sendall(b"and back")
            assert one.recv(10) == b"and back"
            one.close()
            assert two.recv(1) == b""

    world.run(client)


def test_sendfile_sends_a_file(world: World, tmp_path: Any) -> None:
    listener(world)
    path = tmp_path / "file"
    path.write_bytes(b"contents" * 1000)

    def client() -> None:
        with socket.create_connection(("b", 80)) as s, open(path, "rb") as f:
            assert s.sendfile(f) == 8000
            got = b""
            while len(got) < 8000:
                got += s.recv(65536)
            assert got == path.read_bytes()

    world.run(client)


def test_a_forgotten_socket_is_closed_and_warned_about(world: World) -> None:
    def client() -> None:
        with pytest.warns(ResourceWarning, match="unclosed"):
            socket.socket().bind(("", 80))
        with socket.socket() as s:
            s.bind(("", 80))

    world.run(client)


def test_what_would_wait_outside_of_a_task_says_so(world: World) -> None:
    keep: list[socket.socket] = []

    def client() -> None:
        keep.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        keep[0].bind(("", 9))
        world.net.sleep(10)

    world.a.spawn(client)
    world.net.run_for(1)
    assert keep[0].getsockname() == ("0.0.0.0", 9)
    with pytest.raises(RuntimeError, match="spawn it on a host"):
        keep[0].recv(1)
    keep[0].close()


def test_close_in_another_thread_does_not_wake_the_reader_but_shutdown_does(world: World) -> None:
    """As on Linux: a blocked call holds its own reference to the file."""
    listener(world)
    log: list[Any] = []

    def client() -> None:
        from afinet.stdlib import _thread

        s = socket.create_connection(("b", 80))

        def reader() -> None:
            log.append(s.recv(100))

        _thread.start_new_thread(reader, ())
        world.net.sleep(1)
        s.shutdown(socket.SHUT_RD)
        world.net.sleep(1)
        s.close()

    world.run(client)
    assert log == [b""]


def test_the_sources_lines_show_in_tracebacks() -> None:
    assert socket.create_connection.__code__.co_filename == host_socket.__file__ or sys.version_info >= (3, 13)
    assert io.RawIOBase in socket.SocketIO.__mro__ and os.path.exists(host_socket.__file__)


@pytest.mark.skipif(sys.platform != "linux", reason="compares with the host's own control messages")
def test_control_messages_go_both_ways_as_on_the_host(world: World) -> None:
    def story(socket: Any) -> list[Any]:
        a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        out: list[Any] = []
        with a, b:
            a.bind(("127.0.0.1", 0))
            for option in (8, 12, 13):  # IP_PKTINFO, IP_RECVTTL, IP_RECVTOS
                a.setsockopt(0, option, 1)

            def send(*control: tuple[int, int, bytes]) -> None:
                try:
                    out.append(b.sendmsg([b"he", b"llo"], control, 0, a.getsockname()))
                except OSError as e:
                    out.append(e.errno)
                else:
                    out.append(a.recvmsg(100, 200)[:3])

            i32 = struct.Struct("i").pack
            send()
            send((0, 2, i32(7)), (0, 1, i32(0x10)))
            send((0, 2, i32(0)))
            send((0, 1, b"\x08"))
            send((0, 8, struct.pack("I4s4s", 1, socket.inet_aton("127.0.0.9"), bytes(4))))
            for level, type in ((0, 99), (41, 1), (1, 99)):
                send((level, type, b""))
            for room in (0, 1, 15, 16, 20, 24, 28, 32, 40, 60, 80, 88, 100):
                b.sendto(b"hello", a.getsockname())
                out.append(a.recvmsg(3, room)[:3])
            buffers = [bytearray(n) for n in (2, 0, 9)]
            b.sendto(b"hello", a.getsockname())
            out.append(a.recvmsg_into(buffers, socket.CMSG_SPACE(4))[:3])
            return [*out, *map(bytes, buffers)]

    assert world.run(lambda: story(socket)) == story(host_socket)


# -- socket filters ------------------------------------------------------------------------------------------------------------


def test_a_filter_is_attached_by_pointer_as_programs_do_it(world: World) -> None:
    """struct sock_fprog with the address of the instructions, as scapy and tcpdump in Python pack it."""
    insns = struct.pack("=HBBI", 0x06, 0, 0, 11)  # ret #11: the UDP header and three bytes

    def program() -> tuple[bytes, bytes, int]:
        rx = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        rx.bind(("127.0.0.1", 5000))
        buffer = ctypes.create_string_buffer(insns, len(insns))
        rx.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", 1, ctypes.addressof(buffer)))
        tx = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tx.sendto(b"filtered", ("127.0.0.1", 5000))
        with pytest.raises(OSError) as error:
            rx.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", 1, 16))
        return rx.recv(100), rx.getsockopt(socket.SOL_SOCKET, 26, 1), error.value.errno or 0

    assert world.run(program) == (b"fil", insns, errno.EFAULT)
