"""Time stamps: their values, their owner, their bounds. Who gets which is compared with Linux in tests/parity."""

from __future__ import annotations

import struct

from afinet.init import syscalls
from afinet.kernel.time import VIRTUAL_EPOCH
from afinet.kernel.wait import Kiocb
from afinet.uapi.errno import EAGAIN, EINVAL, EOPNOTSUPP
from afinet.uapi.net_tstamp import (
    SOF_TIMESTAMPING_BIND_PHC,
    SOF_TIMESTAMPING_OPT_ID,
    SOF_TIMESTAMPING_OPT_STATS,
    SOF_TIMESTAMPING_OPT_TSONLY,
    SOF_TIMESTAMPING_RX_SOFTWARE,
    SOF_TIMESTAMPING_SOFTWARE,
    SOF_TIMESTAMPING_TX_ACK,
    SOF_TIMESTAMPING_TX_SOFTWARE,
)
from afinet.uapi.sockaddr import pack_s32, parse_cmsgs
from afinet.uapi.socket import (
    AF_INET,
    MSG_ERRQUEUE,
    SO_BINDTODEVICE,
    SO_ERROR,
    SO_TIMESTAMPING,
    SO_TIMESTAMPNS,
    SOCK_STREAM,
    SOL_SOCKET,
)
from tests.net.ipv4.dgramhost import MS, SEC, B, Hosts, sa

Stamp = tuple[int, int, int]  # ns, SCM_TSTAMP_*, number


def stamps(h: Hosts, fd: int) -> list[Stamp]:
    """What the error queue of `fd` tells."""
    out: list[Stamp] = []
    while True:
        n, _, _, control, _ = h.recvmsg(fd, 0, MSG_ERRQUEUE | 0x40, 300)
        if n < 0:
            return out
        when = kind = number = -1
        for level, type, data in parse_cmsgs(control) or []:
            if (level, type) == (SOL_SOCKET, SO_TIMESTAMPING):
                sec, nsec = struct.unpack_from("=qq", data)
                when = sec * SEC + nsec
            elif level == 0:
                _, _, kind, number = struct.unpack_from("=IIII", data)
        out.append((when, kind, number))


def ask(h: Hosts, fd: int, flags: int) -> None:
    assert h.setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, pack_s32(flags)) == 0


def test_a_stamp_is_the_time_when_the_packet_left_and_came() -> None:
    h = Hosts()
    rx, tx = h.udp(1, bind=sa(B, 5000)), h.udp(0)
    ask(h, tx, SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE)
    assert h.setsockopt(rx, SOL_SOCKET, SO_TIMESTAMPNS, pack_s32(1)) == 0
    now = h.kernel.ktime_get_real()
    assert now >= VIRTUAL_EPOCH
    h.send(tx, b"x", sa(B, 5000))
    assert stamps(h, tx) == [(now, 0, 0)]
    (_, _, data) = (parse_cmsgs(h.recvmsg(rx, 10, 0x40, 100)[3]) or [])[0]
    sec, nsec = struct.unpack("=qq", data)
    assert sec * SEC + nsec == now


def test_an_acknowledgement_is_stamped_when_it_comes() -> None:
    """SOF_TIMESTAMPING_TX_ACK: here the receiver delays its ACK."""
    h = Hosts()
    ln = h.socket(1, AF_INET, SOCK_STREAM | 0x800, 0)
    h.bind(ln, sa(B, 80))
    h.listen(ln, 1)
    c = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0)
    h.connect(c, sa(B, 80))
    s = syscalls.sys_accept4(h.task, Kiocb(), ln, 0x800)[0]
    h.send(s, b"first")
    h.setsockopt(s, 6, 12, pack_s32(0))  # TCP_QUICKACK off
    flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE
    ask(h, c, flags | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY)
    now = h.kernel.ktime_get_real()
    h.send(c, b"hello")
    h.run_until(h.kernel.now + SEC)
    sent, acked = stamps(h, c)
    assert sent == (now, 0, 4), "the number of the last byte"
    assert acked[1:] == (2, 4)
    assert now + 30 * MS <= acked[0] <= now + 250 * MS


def test_the_stamp_of_a_long_write_is_that_of_its_last_packet() -> None:
    """tcp_fragment_tstamp, tcp_gso_tstamp: cut as it may be, one packet has the byte."""
    h = Hosts()
    ln = h.socket(1, AF_INET, SOCK_STREAM | 0x800, 0)
    h.bind(ln, sa(B, 80))
    h.listen(ln, 1)
    c = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0)
    h.connect(c, sa(B, 80))
    s = syscalls.sys_accept4(h.task, Kiocb(), ln, 0x800)[0]
    flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE
    ask(h, c, flags | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY)
    assert h.send(c, bytes(40000)) == 40000
    got = 0
    while got < 40000:
        data = h.recv(s)
        if isinstance(data, bytes):
            got += len(data)
        else:
            h.run_until(h.kernel.now + 10 * MS)
    h.run_until(h.kernel.now + SEC)
    told = stamps(h, c)
    assert [(kind, number) for _, kind, number in told] == [(0, 39999), (2, 39999)]


def test_the_error_queue_is_bounded_by_the_receive_buffer() -> None:
    h = Hosts()
    tx = h.udp(0)
    h.setsockopt(tx, SOL_SOCKET, 8, pack_s32(4000))  # SO_RCVBUF
    ask(h, tx, SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY | SOF_TIMESTAMPING_OPT_ID)
    for _ in range(100):
        h.send(tx, b"x", sa(B, 5000))
    told = stamps(h, tx)
    assert 0 < len(told) < 20
    assert h.sk(tx).sk_rmem_alloc == 0
    h.send(tx, b"x", sa(B, 5000))
    assert stamps(h, tx)[0][2] == 100, "those that found no room are counted all the same"


def test_a_stamp_is_no_error() -> None:
    """sock_dequeue_err_skb: SO_ERROR stays what it was."""
    h = Hosts()
    tx = h.udp(0)
    ask(h, tx, SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE)
    h.send(tx, b"x", sa(B, 5000))
    assert h.getsockopt(tx, SOL_SOCKET, SO_ERROR, 4) == (0, pack_s32(0))
    assert h.recv(tx) == -EAGAIN
    assert len(stamps(h, tx)) == 1


def test_what_no_device_has_is_refused() -> None:
    h = Hosts()
    fd = h.udp(0)

    def set(flags: int) -> int:
        return h.setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, pack_s32(flags))

    assert set(SOF_TIMESTAMPING_BIND_PHC) == -EOPNOTSUPP
    assert h.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, b"v0") == 0
    assert set(SOF_TIMESTAMPING_BIND_PHC) == -EINVAL
    assert set(SOF_TIMESTAMPING_OPT_STATS) == -EINVAL
    assert set(SOF_TIMESTAMPING_OPT_STATS | SOF_TIMESTAMPING_OPT_TSONLY) == -EOPNOTSUPP
    assert set(SOF_TIMESTAMPING_RX_SOFTWARE) == 0
