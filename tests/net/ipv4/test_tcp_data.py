"""Sending and receiving: segments, Nagle and cork, flags of send and recv, urgent data, buffers, poll, ioctl."""

from __future__ import annotations

import pytest

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.ipv4 import tcp_ipv4, tcp_recvmsg
from afinet.uapi.errno import EAGAIN, ECONNRESET, EINTR, EINVAL, EIOCBQUEUED, ENOTCONN, EPIPE
from afinet.uapi.eventpoll import EPOLLERR, EPOLLIN, EPOLLOUT, EPOLLPRI
from afinet.uapi.sockaddr import pack_timeval
from afinet.uapi.socket import (
    MSG_DONTWAIT,
    MSG_MORE,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    SHUT_RD,
    SO_OOBINLINE,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_SNDBUF,
    SO_SNDTIMEO,
    SOL_SOCKET,
)
from afinet.uapi.sockios import SIOCATMARK, SIOCINQ, SIOCOUTQ, SIOCOUTQNSD
from afinet.uapi.tcp import TCP_CORK, TCP_INFO, TCP_INQ, TCP_NODELAY, TCP_NOTSENT_LOWAT, TCP_QUICKACK
from tests.net.ipv4.tcphost import MS, MSS1460, SEC, B, Pair, Peer, tcp_sk


def ioctl(p: Peer | Pair, task: object, fd: int, cmd: int) -> int:
    err, raw = syscalls.sys_ioctl(task, fd, cmd, bytes(4))  # type: ignore[arg-type]
    return err if err else int.from_bytes(raw, "little")


# -- sending ---------------------------------------------------------------------------------------------------------------


def test_a_write_becomes_segments_of_one_mss() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    assert p.send(p.task, fd, b"a" * 4000) == 4000
    out = p.tx()
    assert [len(s.data) for s in out] == [1460, 1460, 1080]
    assert [s.seq - isn - 1 for s in out] == [0, 1460, 2920]
    assert [s.flags for s in out] == [0x10, 0x10, 0x18]  # PSH on the last


@pytest.mark.rfc9293("SHLD-7")
def test_nagle_holds_a_small_segment_back_until_the_one_before_is_acknowledged() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.send(p.task, fd, b"a")
    assert p.tx1().data == b"a"
    p.send(p.task, fd, b"b")
    p.send(p.task, fd, b"c")
    assert p.silent()
    p.rx(".", 1001, isn + 2)
    assert p.tx1().data == b"bc"
    assert p.setsockopt(p.task, fd, 6, TCP_NODELAY, 1) == 0
    p.send(p.task, fd, b"d")
    assert p.tx1().data == b"d"


def test_a_cork_gathers_for_at_most_200_ms() -> None:
    p = Peer()
    _, fd, _ = p.open_passive(MSS1460)
    p.setsockopt(p.task, fd, 6, TCP_CORK, 1)
    p.send(p.task, fd, b"a")
    p.send(p.task, fd, b"b")
    assert p.silent()
    p.setsockopt(p.task, fd, 6, TCP_CORK, 0)
    assert p.tx1().data == b"ab"


def test_msg_more_says_that_more_comes() -> None:
    p = Peer()
    _, fd, _ = p.open_passive(MSS1460)
    p.send(p.task, fd, b"head", MSG_MORE)
    assert p.silent()
    p.send(p.task, fd, b"tail")
    s = p.tx1()
    assert s.data == b"headtail" and s.flags == 0x18


def test_many_small_writes_share_a_segment() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.send(p.task, fd, b"!")
    p.tx()
    for i in range(300):
        p.send(p.task, fd, bytes([i & 255]))
    p.rx(".", 1001, isn + 2)
    assert b"".join(s.data for s in p.tx()) == bytes(i & 255 for i in range(300))


def test_a_full_send_buffer_waits_and_a_write_goes_on_where_it_stopped() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_SNDBUF, 8192)
    data = bytes(range(256)) * 400
    iocb = Kiocb()
    assert syscalls.sys_sendto(p.task, iocb, fd, data, 0, b"") == -EIOCBQUEUED
    assert 0 < iocb.ki_done < len(data)
    assert p.poll(p.task, fd) & EPOLLOUT == 0
    assert syscalls.sys_sendto(p.task, Kiocb(), fd, b"more", MSG_DONTWAIT, b"") == -EAGAIN
    got = bytearray()
    ret = -EIOCBQUEUED
    for _ in range(500):
        for s in p.tx():
            off = (s.seq - isn - 1) & 0xFFFFFFFF
            if off == len(got):
                got += s.data
        p.rx(".", 1001, isn + 1 + len(got))
        if ret == -EIOCBQUEUED:
            ret = syscalls.sys_sendto(p.task, iocb, fd, data, 0, b"")
        if len(got) == len(data):
            break
    assert ret == len(data) and bytes(got) == data
    assert p.poll(p.task, fd) & EPOLLOUT


def test_a_time_limit_ends_a_write_with_what_was_done() -> None:
    p = Peer()
    _, fd, _ = p.open_passive(MSS1460)
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_SNDBUF, 8192)
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_SNDTIMEO, pack_timeval(1, 0))
    start = p.kernel.now
    ret = p.send(p.task, fd, b"x" * 100000)
    assert 0 < ret < 100000
    assert SEC <= p.kernel.now - start < 2 * SEC
    assert p.send(p.task, fd, b"x" * 100000) == -EAGAIN


def test_a_signal_ends_a_write() -> None:
    p = Peer()
    _, fd, _ = p.open_passive(MSS1460)
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_SNDBUF, 8192)
    iocb = Kiocb()
    assert syscalls.sys_sendto(p.task, iocb, fd, b"x" * 100000, 0, b"") == -EIOCBQUEUED
    done = iocb.ki_done
    iocb.ki_signal = True
    assert syscalls.sys_sendto(p.task, iocb, fd, b"x" * 100000, 0, b"") == done
    iocb = Kiocb()
    iocb.ki_signal = True
    assert syscalls.sys_sendto(p.task, iocb, fd, b"x", 0, b"") == -EINTR


def test_writing_to_a_closed_connection_raises_sigpipe_unless_told_not_to() -> None:
    p = Peer()
    _, fd, _ = p.open_passive(MSS1460)
    p.rx("R", 1001)
    assert p.so_error(p.task, fd) == 104
    assert p.send(p.task, fd, b"x", MSG_NOSIGNAL) == -EPIPE
    assert p.task.sigpipe == 0
    assert p.send(p.task, fd, b"x") == -EPIPE
    assert p.task.sigpipe == 1


def test_tcp_notsent_lowat_makes_poll_wait_for_the_unsent_part() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.setsockopt(p.task, fd, 6, TCP_NOTSENT_LOWAT, 1000)
    p.send(p.task, fd, b"x" * 14600)
    p.tx()
    assert p.poll(p.task, fd) & EPOLLOUT
    iocb = Kiocb()
    assert syscalls.sys_sendto(p.task, iocb, fd, b"y" * 14600, 0, b"") == -EIOCBQUEUED
    assert iocb.ki_done < 5000
    assert p.poll(p.task, fd) & EPOLLOUT == 0
    p.rx(".", 1001, isn + 1 + 14600)
    assert p.poll(p.task, fd) & EPOLLOUT
    syscalls.abandon(iocb)


# -- receiving -------------------------------------------------------------------------------------------------------------


def test_reading_takes_what_is_there_and_no_more() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.rx("P.", 1001, isn + 1, b"hello")
    p.rx("P.", 1006, isn + 1, b"world")
    assert p.recv(p.task, fd, 3) == b"hel"
    assert p.recv(p.task, fd, 100) == b"loworld"


def test_peek_leaves_everything_where_it_is() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.rx("P.", 1001, isn + 1, b"hello")
    p.rx("P.", 1006, isn + 1, b"world")
    assert p.recv(p.task, fd, 7, MSG_PEEK) == b"hellowo"
    assert p.recv(p.task, fd, 100, MSG_PEEK) == b"helloworld"
    assert ioctl(p, p.task, fd, SIOCINQ) == 10
    assert p.recv(p.task, fd, 100) == b"helloworld"


def test_trunc_throws_data_away() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.rx("P.", 1001, isn + 1, b"hello")
    ret, pieces, _ = syscalls.sys_recvfrom(p.task, Kiocb(), fd, 3, MSG_TRUNC)
    assert ret == 3 and pieces == []
    assert p.recv(p.task, fd, 100) == b"lo"


def test_waitall_waits_for_all_over_several_segments() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    iocb = Kiocb()
    assert syscalls.sys_recvfrom(p.task, iocb, fd, 10, MSG_WAITALL)[0] == -EIOCBQUEUED
    p.rx("P.", 1001, isn + 1, b"hello")
    assert syscalls.sys_recvfrom(p.task, iocb, fd, 10, MSG_WAITALL)[0] == -EIOCBQUEUED
    p.rx("P.", 1006, isn + 1, b"world!")
    ret, pieces, _ = syscalls.sys_recvfrom(p.task, iocb, fd, 10, MSG_WAITALL)
    assert ret == 10 and b"".join(pieces) == b"helloworld"
    assert p.recv(p.task, fd, 10) == b"!"


def test_waitall_is_content_with_less_at_the_end_of_the_stream_a_timeout_or_a_signal() -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(MSS1460)
    p.rx("P.", 1001, isn + 1, b"abc")
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_RCVTIMEO, pack_timeval(1, 0))
    assert p.recv(p.task, fd, 10, MSG_WAITALL) == b"abc"
    assert p.recv(p.task, fd, 10, MSG_WAITALL) == -EAGAIN
    p.rx("P.", 1004, isn + 1, b"def")
    iocb = Kiocb()
    assert syscalls.sys_recvfrom(p.task, iocb, fd, 10, MSG_WAITALL)[0] == -EIOCBQUEUED
    iocb.ki_signal = True
    ret, pieces, _ = syscalls.sys_recvfrom(p.task, iocb, fd, 10, MSG_WAITALL)
    assert ret == 3 and b"".join(pieces) == b"def"
    p.rx("PF.", 1007, isn + 1, b"ghi")
    assert p.recv(p.task, fd, 10, MSG_WAITALL) == b"ghi"
    assert p.recv(p.task, fd, 10, MSG_WAITALL) == b""
    assert listener >= 0


def test_so_rcvlowat_is_when_a_reader_wakes() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.setsockopt(p.task, fd, SOL_SOCKET, SO_RCVLOWAT, 5)
    p.rx("P.", 1001, isn + 1, b"abc")
    assert p.poll(p.task, fd) & EPOLLIN == 0
    p.rx("P.", 1004, isn + 1, b"de")
    assert p.poll(p.task, fd) & EPOLLIN
    assert p.recv(p.task, fd, 10) == b"abcde"
    iocb = Kiocb()
    p.rx("P.", 1006, isn + 1, b"fg")
    assert syscalls.sys_recvfrom(p.task, iocb, fd, 10, 0)[0] == -EIOCBQUEUED
    p.rx("P.", 1008, isn + 1, b"hij")
    ret, pieces, _ = syscalls.sys_recvfrom(p.task, iocb, fd, 10, 0)
    assert ret == 5 and b"".join(pieces) == b"fghij"


def test_another_calls_disconnect_ends_a_read() -> None:
    p = Peer()
    _, fd, _ = p.open_passive(MSS1460)
    iocb = Kiocb()
    assert syscalls.sys_recvfrom(p.task, iocb, fd, 10, 0)[0] == -EIOCBQUEUED
    assert syscalls.sys_connect(p.task, Kiocb(), fd, bytes(16)) == 0
    assert syscalls.sys_recvfrom(p.task, iocb, fd, 10, 0)[0] == -EPIPE
    assert p.recv(p.task, fd, 10) == -ECONNRESET
    assert p.recv(p.task, fd, 10) == -ENOTCONN


def test_tcp_inq_tells_what_is_left() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    assert p.setsockopt(p.task, fd, 6, TCP_INQ, 1) == 0
    p.rx("P.", 1001, isn + 1, b"hello")
    sk = tcp_sk(p.task, fd)
    assert p.recv(p.task, fd, 2) == b"he"
    assert tcp_recvmsg.tcp_inq_hint(sk) == 3
    p.rx("F.", 1006, isn + 1)
    assert p.recv(p.task, fd, 10) == b"llo"
    assert tcp_recvmsg.tcp_inq_hint(sk) == 1


def test_the_window_opens_again_when_the_program_reads() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    seq = 1001
    closed = False
    for _ in range(200):
        p.rx(".", seq, isn + 1, b"z" * 1460)
        out = p.tx()
        if out:
            seq = out[-1].ack
            if out[-1].window == 0:
                closed = True
                break
        else:
            seq += 1460
    assert closed
    total = 0
    while True:
        data = p.recv(p.task, fd, 65536, MSG_DONTWAIT)
        if isinstance(data, int):
            assert data == -EAGAIN
            break
        total += len(data)
    assert total == seq - 1001
    assert p.tx()[-1].window > 10000


def test_a_push_to_an_empty_buffer_is_acknowledged_when_read() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    tcp_sk(p.task, fd).icsk_ack_quick = 0
    p.setsockopt(p.task, fd, 6, TCP_QUICKACK, 0)
    p.rx("P.", 1001, isn + 1, b"x" * 100)
    assert p.silent()
    p.run(250 * MS)
    assert p.tx1().ack == 1101


# -- urgent data, as seen on Linux -----------------------------------------------------------------------------------------


def test_urgent_data_is_read_out_of_band() -> None:
    p = Pair()
    c, s, _ = p.established()
    assert p.recv(p.tb, s, 1, MSG_OOB) == -EINVAL
    assert p.send(p.ta, c, b"xyz", MSG_OOB) == 3
    assert p.poll(p.tb, s) & EPOLLPRI
    assert p.recv(p.tb, s, 5) == b"xy"
    assert ioctl(p, p.tb, s, SIOCATMARK) == 1
    assert p.recv(p.tb, s, 5, MSG_OOB) == b"z"
    assert p.recv(p.tb, s, 5, MSG_OOB) == -EINVAL
    assert p.recv(p.tb, s, 5, MSG_DONTWAIT) == -EAGAIN
    assert p.poll(p.tb, s) & EPOLLPRI == 0


def test_urgent_data_that_is_read_over_is_lost() -> None:
    p = Pair()
    c, s, _ = p.established()
    p.send(p.ta, c, b"u", MSG_OOB)
    p.send(p.ta, c, b"vw")
    p.run(MS)
    assert p.recv(p.tb, s, 1, MSG_PEEK) == b"v"
    assert p.recv(p.tb, s, 5) == b"vw"
    assert p.recv(p.tb, s, 5, MSG_OOB) == -EINVAL


def test_reading_stops_before_the_urgent_byte_even_with_waitall() -> None:
    p = Pair()
    c, s, _ = p.established()
    p.send(p.ta, c, b"abc", MSG_OOB)
    p.send(p.ta, c, b"def")
    p.run(MS)
    assert p.recv(p.tb, s, 6, MSG_WAITALL) == b"ab"
    assert p.recv(p.tb, s, 6) == b"def"


def test_so_oobinline_keeps_urgent_data_in_the_stream() -> None:
    p = Pair()
    c, s, _ = p.established()
    p.setsockopt(p.tb, s, SOL_SOCKET, SO_OOBINLINE, 1)
    p.send(p.ta, c, b"abc", MSG_OOB)
    p.send(p.ta, c, b"def")
    p.run(MS)
    assert p.recv(p.tb, s, 10) == b"ab"
    assert ioctl(p, p.tb, s, SIOCATMARK) == 1
    assert p.recv(p.tb, s, 10) == b"cdef"
    assert p.recv(p.tb, s, 1, MSG_OOB) == -EINVAL


# -- what ioctl and TCP_INFO say -------------------------------------------------------------------------------------------


def test_siocoutq_counts_what_is_not_acknowledged_and_siocoutqnsd_what_is_not_sent() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460, win=2000)
    p.send(p.task, fd, b"x" * 5000)
    assert ioctl(p, p.task, fd, SIOCOUTQ) == 5000
    sent = sum(len(s.data) for s in p.tx())
    assert 0 < sent <= 2000
    assert ioctl(p, p.task, fd, SIOCOUTQNSD) == 5000 - sent
    p.rx(".", 1001, isn + 1 + sent, win=2000)
    assert ioctl(p, p.task, fd, SIOCOUTQ) == 5000 - sent
    listener = p.listener(p.task, 99)
    assert ioctl(p, p.task, listener, SIOCOUTQ) == -EINVAL
    assert ioctl(p, p.task, listener, SIOCINQ) == -EINVAL


def test_tcp_info_has_linuxs_280_bytes_and_real_values() -> None:
    p = Pair()
    c, s, listener = p.established()
    p.send(p.ta, c, b"x" * 5000)
    p.run(MS)
    err, raw = syscalls.sys_getsockopt(p.ta, c, 6, TCP_INFO, 1000)
    assert err == 0 and len(raw) == 280
    assert raw[0] == 1 and raw[5] & 7 == 7 and raw[6] == 0xAA
    u32 = [int.from_bytes(raw[i : i + 4], "little") for i in range(8, 104, 4)]
    rto, _ato, snd_mss, rcv_mss, unacked = u32[:5]
    assert 200_000 <= rto <= 210_000 and snd_mss == 1448 and rcv_mss == 536 and unacked == 0
    assert int.from_bytes(raw[120:128], "little") == 5001  # bytes_acked counts the SYN
    assert int.from_bytes(raw[200:208], "little") == 5000 or int.from_bytes(raw[200:204], "little") > 0
    err, raw = syscalls.sys_getsockopt(p.tb, listener, 6, TCP_INFO, 1000)
    assert raw[0] == 10 and int.from_bytes(raw[28:32], "little") == 128  # sacked: a listener's backlog
    assert s >= 0


# -- whole streams ---------------------------------------------------------------------------------------------------------


def test_megabytes_arrive_whole_and_leave_nothing_behind() -> None:
    p = Pair()
    c, s, listener = p.established()
    data = bytes(range(251)) * 8000
    got = bytearray()
    iocb = Kiocb()
    ret = syscalls.sys_sendto(p.ta, iocb, c, data, 0, b"")
    while len(got) < len(data):
        chunk = p.recv(p.tb, s, 1 << 20)
        assert isinstance(chunk, bytes) and chunk
        got += chunk
        if ret == -EIOCBQUEUED:
            ret = syscalls.sys_sendto(p.ta, iocb, c, data, 0, b"")
    assert ret == len(data) and bytes(got) == data
    for task, fd in ((p.ta, c), (p.tb, s), (p.tb, listener)):
        p.close(task, fd)
    p.run(120 * SEC)
    p.assert_nothing_left()


def test_what_was_written_before_close_still_arrives() -> None:
    for size in (0, 1, 1447, 1448, 1449, 65535, 65536, 300_000):
        p = Pair()
        c, s, _ = p.established()
        iocb = Kiocb()
        data = b"q" * size
        got = bytearray()
        ret = syscalls.sys_sendto(p.ta, iocb, c, data, 0, b"") if size else 0
        while ret == -EIOCBQUEUED:
            part = p.recv(p.tb, s, 1 << 20)
            assert isinstance(part, bytes)
            got += part
            ret = syscalls.sys_sendto(p.ta, iocb, c, data, 0, b"")
        p.close(p.ta, c)
        while True:
            part = p.recv(p.tb, s, 1 << 20)
            assert isinstance(part, bytes)
            if not part:
                break
            got += part
        assert len(got) == size


def test_memory_that_is_used_up_slows_senders_and_all_of_it_comes_back() -> None:
    p = Pair()
    prot = tcp_ipv4.tcp_prot(p.kernel)
    mem = prot.sysctl_mem
    assert mem is not None and p.na.ipv4.sysctl_tcp_mem is mem
    c, s, listener = p.established()
    mem[:] = [20, 30, 40]  # pages
    total = 0
    for _ in range(2000):
        ret = syscalls.sys_sendto(p.ta, Kiocb(), c, b"m" * 10000, MSG_DONTWAIT, b"")
        if ret > 0:
            total += ret
        p.run(MS)
        assert prot.memory_allocated <= 60
        if ret < 0 and total:
            break
    assert prot.memory_pressure
    got = 0
    for _ in range(2000):
        data = p.recv(p.tb, s, 4096, MSG_DONTWAIT)
        if isinstance(data, bytes):
            got += len(data)
        p.run(50 * MS)
        if got == total:
            break
    assert got == total
    for task, fd in ((p.ta, c), (p.tb, s), (p.tb, listener)):
        p.close(task, fd)
    p.run(120 * SEC)
    p.assert_nothing_left()


def test_a_program_that_polls_sees_errors_and_the_reading_side_shut() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    assert p.shutdown(p.task, fd, SHUT_RD) == 0
    p.rx("P.", 1001, isn + 1, b"x")
    assert p.poll(p.task, fd) & EPOLLIN
    p.rx("R", 1002)
    assert p.poll(p.task, fd) & EPOLLERR
    assert B
