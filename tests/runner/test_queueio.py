"""The QueueIO for threads: its limits, its descriptor, and two machines of the threaded runner joined by two threads that carry."""

from __future__ import annotations

import queue
import select
import threading
from typing import Any

import pytest

from afinet.drivers.tun import tun_newlink
from afinet.init.main import new_task
from afinet.kernel.wait import Kiocb
from afinet.net.core import dev as dev_core
from afinet.net.ipv4 import devinet
from afinet.runner.queueio import Closed, QueueIO
from afinet.runner.realtask import RealTask
from afinet.runner.threaded import ThreadedRunner
from afinet.uapi.errno import EAGAIN, EIOCBQUEUED, ENETDOWN
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import AF_INET, SOCK_DGRAM, SOCK_STREAM
from tests.leaks import start_kernel
from tests.net.core.devices import init_net
from tests.net.ipv4.iphost import addr

A, B = addr("10.0.0.1"), addr("10.0.0.2")


def ready(io: QueueIO) -> int:
    poll = select.poll()
    poll.register(io.fileno(), select.POLLIN | select.POLLOUT)
    return sum(events for _, events in poll.poll(0))


def test_the_descriptor_is_ready_as_the_queues_are() -> None:
    io = QueueIO(2)
    assert ready(io) == select.POLLOUT
    io.put(b"one")
    io.put(b"two")
    assert ready(io) == select.POLLIN | select.POLLOUT
    with pytest.raises(queue.Full):
        io.put(b"three", block=False)
    with pytest.raises(queue.Full):
        io.put(b"three", timeout=0)
    assert [io.read(), io.read(), io.read()] == [b"one", b"two", None]
    assert ready(io) == select.POLLOUT
    assert [io.writev([b"a", b"b"]), io.writev([b"c"]), io.writev([b"d"])] == [0, 0, -EAGAIN]
    assert ready(io) == 0
    assert io.get() == b"ab"
    assert ready(io) == select.POLLOUT
    assert io.get(timeout=0) == b"c"
    with pytest.raises(queue.Empty):
        io.get(block=False)
    io.release()


def test_after_close_nothing_waits() -> None:
    io = QueueIO(1)
    assert io.writev([b"last"]) == 0
    io.close()
    assert io.writev([b"lost"]) == -ENETDOWN
    assert io.get() == b"last"
    with pytest.raises(Closed):
        io.get()
    with pytest.raises(Closed):
        io.put(b"x")
    io.release()


def test_who_waits_goes_on_when_the_other_side_has_been() -> None:
    io = QueueIO(1)
    io.put(b"one")
    done: list[Any] = []
    threads = [threading.Thread(target=io.put, args=(b"two",)), threading.Thread(target=lambda: done.append(io.get()))]
    for t in threads:
        t.start()
    assert io.read() == b"one"
    assert io.writev([b"out"]) == 0
    for t in threads:
        t.join(10)
    assert done == [b"out"] and list(io.incoming) == [b"two"]
    io.release()


def test_a_limit_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="limit=0"):
        QueueIO(0)


class Machine:
    """A machine of the threaded runner with one process."""

    def __init__(self, name: str, local: int, limit: int) -> None:
        self.kernel = start_kernel(name, name.encode())
        net = init_net(self.kernel)
        self.runner = ThreadedRunner(self.kernel)
        self.io = QueueIO(limit)
        self.dev = tun_newlink(net, "tun0", self.io, False)
        dev_core.dev_open(self.dev)
        assert devinet.inet_addr_add(self.dev, local, 24) == 0
        self.process = new_task(self.kernel, net, name, None)
        self.task = RealTask(self.runner, self.process)
        self.calls: Any = self.task.calls
        self.runner.attach(self.dev)
        self.runner.start()

    def wait(self, call: Any, *args: Any) -> Any:
        iocb = Kiocb()
        while True:
            answer = call(self.process, iocb, *args)
            if (answer[0] if isinstance(answer, tuple) else answer) != -EIOCBQUEUED:
                return answer
            self.task.wait_iocb(iocb, "test")

    def socket(self, kind: int) -> int:
        fd: int = self.calls.sys_socket(self.process, AF_INET, kind, 0)
        return fd

    def close(self) -> None:
        self.io.close()
        self.runner.close()
        self.io.release()


def carry(one: QueueIO, other: QueueIO) -> None:
    try:
        while True:
            other.put(one.get())
    except Closed:
        pass


@pytest.mark.wire
@pytest.mark.parametrize("limit", [1, 256])
def test_two_machines_of_the_threaded_runner_talk_over_queues(limit: int) -> None:
    a, b = Machine("a", A, limit), Machine("b", B, limit)
    carriers = [threading.Thread(target=carry, args=ends) for ends in ((a.io, b.io), (b.io, a.io))]
    for t in carriers:
        t.start()
    data = bytes(range(256)) * 1000
    got = bytearray()

    def serve() -> None:
        fd = b.socket(SOCK_STREAM)
        assert b.calls.sys_bind(b.process, fd, pack_sockaddr_in(0, 7)) == 0
        assert b.calls.sys_listen(b.process, fd, 5) == 0
        listening.set()
        conn = b.wait(b.calls.sys_accept4, fd, 0)[0]
        while True:
            n, pieces, _ = b.wait(b.calls.sys_recvfrom, conn, 1 << 16, 0)
            if n <= 0:
                break
            got.extend(b"".join(pieces))
        b.wait(b.calls.sys_close, conn)

    listening = threading.Event()
    server = threading.Thread(target=serve)
    server.start()
    assert listening.wait(10)
    fd = a.socket(SOCK_STREAM)
    assert a.wait(a.calls.sys_connect, fd, pack_sockaddr_in(B, 7)) == 0
    assert a.wait(a.calls.sys_sendto, fd, data, 0, b"") == len(data)
    assert a.wait(a.calls.sys_close, fd) == 0
    server.join(20)
    assert bytes(got) == data
    assert a.dev.stats.tx_dropped == b.dev.stats.tx_dropped == 0
    # The last acknowledgements may still stand in the queues.
    assert a.runner.linger() and b.runner.linger()
    for machine in (a, b):
        machine.close()
    for t in carriers:
        t.join(10)


@pytest.mark.wire
def test_a_sender_waits_while_nobody_takes_its_packets() -> None:
    a = Machine("a", A, 4)
    fd = a.socket(SOCK_DGRAM)
    assert a.calls.sys_setsockopt(a.process, fd, 1, 7, (8000).to_bytes(4, "little")) == 0
    sent = [0]

    def send() -> None:
        for i in range(100):
            assert a.wait(a.calls.sys_sendto, fd, i.to_bytes(2, "big") + bytes(900), 0, pack_sockaddr_in(B, 7)) == 902
            sent[0] += 1

    sender = threading.Thread(target=send)
    sender.start()
    got = []
    for _ in range(100):
        got.append(int.from_bytes(a.io.get(timeout=10)[28:30], "big"))
        assert sent[0] <= len(got) + 4 + 12
    sender.join(10)
    assert got == list(range(100)) and a.dev.stats.tx_dropped == 0
    a.close()
