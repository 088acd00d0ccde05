"""sendmmsg and recvmmsg that wait: a message's progress is kept apart from that of the call. The rest is in tests/parity."""

from __future__ import annotations

from typing import Any

from afinet.init import syscalls
from afinet.kernel.wait import KiocbVec
from afinet.uapi.errno import EAGAIN, EINTR
from afinet.uapi.sockaddr import pack_s32, pack_timeval
from afinet.uapi.socket import MSG_DONTWAIT, MSG_WAITALL, MSG_WAITFORONE, SO_RCVBUF, SO_RCVTIMEO, SO_SNDBUF, SOL_SOCKET
from tests.net.ipv4.dgramhost import LO, SEC, Hosts, Wait, sa


def recvmmsg(h: Hosts, fd: int, count: int, size: int = 100, flags: int = 0, timeout: int = -1) -> Wait:
    return Wait(h, lambda iocb: syscalls.sys_recvmmsg(h.task, iocb, fd, [(size, 0)] * count, flags, timeout), KiocbVec())


def data(answer: Any) -> tuple[int, list[bytes], int]:
    n, messages, left = answer
    return n, [b"".join(pieces) for _, pieces, _, _, _ in messages], left


def tcp_pair(h: Hosts, sndbuf: int = 0) -> tuple[int, int]:
    listener = h.socket(0, 2, 1, 0)
    if sndbuf:
        assert h.setsockopt(listener, SOL_SOCKET, SO_RCVBUF, pack_s32(sndbuf)) == 0
    assert h.bind(listener, sa(LO, 80)) == 0
    assert h.listen(listener, 1) == 0
    fd = h.socket(0, 2, 1 | 0x800, 0)
    if sndbuf:
        assert h.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, pack_s32(sndbuf)) == 0
    h.connect(fd, sa(LO, 80))
    other, _ = syscalls.sys_accept4(h.task, KiocbVec(), listener, 0)
    assert other >= 0
    assert syscalls.sys_fcntl(h.task, fd, 4, 0) == 0
    return fd, other


def test_a_receiver_waits_for_every_message() -> None:
    h = Hosts()
    s, c = h.udp(bind=sa(LO, 1)), h.udp(connect=sa(LO, 1))
    call = recvmmsg(h, s, 3)
    for message in (b"one", b"", b"three"):
        assert not call.step()
        h.send(c, message)
    assert call.step()
    assert data(call.result) == (3, [b"one", b"", b"three"], -1)
    h.check_clean()


def test_waitforone_waits_for_the_first_and_takes_what_is_there() -> None:
    h = Hosts()
    s, c = h.udp(bind=sa(LO, 1)), h.udp(connect=sa(LO, 1))
    call = recvmmsg(h, s, 3, flags=MSG_WAITFORONE)
    assert not call.step()
    h.send(c, b"one")
    h.send(c, b"two")
    assert call.step()
    assert data(call.result) == (2, [b"one", b"two"], -1)


def test_the_time_limit_is_looked_at_when_a_message_came_and_what_is_left_is_told() -> None:
    h = Hosts()
    s, c = h.udp(bind=sa(LO, 1)), h.udp(connect=sa(LO, 1))
    call = recvmmsg(h, s, 3, timeout=2 * SEC)
    began = h.kernel.now
    h.send(c, b"one")
    assert not call.step()
    h.run_until(began + 5 * SEC)
    assert not call.step()  # out of time, and nobody looks: Linux's own bug
    h.send(c, b"two")
    assert call.step()
    assert data(call.result) == (2, [b"one", b"two"], 0)
    h.send(c, b"three")
    n, _, left = recvmmsg(h, s, 1, timeout=2 * SEC).result
    assert (n, left) == (1, 2 * SEC)


def test_what_ends_a_call_with_messages_is_told_by_the_next_one() -> None:
    h = Hosts()
    s, c = h.udp(bind=sa(LO, 1)), h.udp(connect=sa(LO, 1))
    assert h.setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, pack_timeval(1, 0)) == 0
    call = recvmmsg(h, s, 3)
    h.send(c, b"one")
    assert not call.step()
    h.run_until(h.kernel.now + 2 * SEC)
    assert call.step()
    assert data(call.result) == (1, [b"one"], -1)  # EAGAIN is no error to keep
    assert recvmmsg(h, s, 1, flags=MSG_DONTWAIT).result[0] == -EAGAIN
    call = recvmmsg(h, s, 3)
    assert call.interrupt()[0] == -EINTR


def test_each_message_of_a_stream_is_waited_for_in_full() -> None:
    h = Hosts()
    c, s = tcp_pair(h)
    call = recvmmsg(h, s, 2, size=4, flags=MSG_WAITALL)
    for part in (b"ab", b"cdef", b"g"):
        h.send(c, part)
        assert not call.step()
    h.send(c, b"hij")
    assert call.step()
    assert data(call.result) == (2, [b"abcd", b"efgh"], -1)


def test_a_sender_goes_on_where_it_had_to_wait() -> None:
    h = Hosts()
    c, s = tcp_pair(h, sndbuf=8192)
    messages = [(bytes([i]) * 40_000, b"", b"") for i in range(3)]
    call = Wait(h, lambda iocb: syscalls.sys_sendmmsg(h.task, iocb, c, messages, 0), KiocbVec())
    got = b""
    for _ in range(10_000):
        if call.step() and len(got) == 120_000:
            break
        n, pieces, _, _, _ = syscalls.sys_recvmsg(h.task, KiocbVec(), s, 65536, 0, MSG_DONTWAIT)
        assert n > 0 or n == -EAGAIN
        got += b"".join(pieces)
        h.run_until(min(h.kernel.next_timer(), h.kernel.now + SEC))
    assert call.result == (3, [40_000] * 3)
    assert got == b"".join(m[0] for m in messages)


def test_an_interrupted_sender_tells_what_was_sent() -> None:
    h = Hosts()
    c, _ = tcp_pair(h, sndbuf=8192)
    messages = [(bytes(1000), b"", b""), (bytes(1_000_000), b"", b"")]
    call = Wait(h, lambda iocb: syscalls.sys_sendmmsg(h.task, iocb, c, messages, 0), KiocbVec())
    assert not call.step()
    n, sent = call.interrupt()
    assert n == 2 and sent[0] == 1000 and 0 < sent[1] < 1_000_000
