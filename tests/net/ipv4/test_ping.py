"""Ping sockets: identifiers, echo, errors, who may have one. What every call answers in every state is compared with Linux in
tests/parity/test_datagram_errnos.py."""

from __future__ import annotations

import struct

import pytest

from afinet.init.main import new_task
from afinet.init.syscalls import sys_socket
from afinet.kernel.sysctl import sysctl_read, sysctl_write
from afinet.kernel.task import Cred
from afinet.net.ipv4.ping import PingProto
from afinet.uapi.errno import EACCES, EADDRINUSE, EAGAIN, EINVAL, EMSGSIZE, EREMOTEIO
from afinet.uapi.snmp import ICMP_MIB_INMSGS
from afinet.uapi.socket import AF_INET, SOCK_DGRAM
from afinet.wire import checksum
from tests.net.ipv4.dgramhost import SEC, A, B, Hosts, ip_packet, sa
from tests.parity.programs import i32, icmp


def ident(h: Hosts, fd: int) -> int:
    return int(struct.unpack("!H", h.getsockname(fd)[1][2:4])[0])


def test_an_echo_carries_the_socks_identifier_and_a_right_checksum_both_ways() -> None:
    h = Hosts()
    fd, watcher = h.ping(), h.raw(1, 1)
    assert h.send(fd, icmp(8, 0, 0x7777, 3, b"odd"), sa(B)) == 11
    request, answer = h.recv(watcher), h.recv(fd)
    assert isinstance(request, bytes) and isinstance(answer, bytes)
    assert request[20:21] == b"\x08" and answer[:1] == b"\0"
    assert struct.unpack("!HH", request[24:28]) == struct.unpack("!HH", answer[4:8]) == (ident(h, fd), 3)
    assert checksum.ip_compute_csum(request, 20, len(request)) == checksum.ip_compute_csum(answer, 0, len(answer)) == 0
    assert h.a.icmpmsg_out == {8: 1} and h.b.icmpmsg_in == {8: 1}
    assert h.b.icmpmsg_out == {0: 1} and h.a.icmpmsg_in == {0: 1}
    assert h.a.icmp_statistics[ICMP_MIB_INMSGS] == 1
    h.check_clean()


def test_an_answer_goes_to_the_sock_with_its_identifier_only() -> None:
    h = Hosts()
    fds = [h.ping() for _ in range(3)]
    for fd in fds:
        h.send(fd, icmp(8, 0, 0, 1), sa(B))
    for fd in fds:
        answer = h.recv(fd)
        assert isinstance(answer, bytes) and struct.unpack("!H", answer[4:6])[0] == ident(h, fd)
        assert h.recv(fd) == -EAGAIN
    assert len({ident(h, fd) for fd in fds}) == 3
    h.check_clean()


def test_identifiers_are_shared_unless_reuse_is_off() -> None:
    h = Hosts()
    a, b = h.ping(), h.ping()
    assert h.bind(a, sa("0.0.0.0", 5)) == 0
    assert h.bind(b, sa("0.0.0.0", 5)) == 0
    c = h.ping()
    assert h.setsockopt(c, 1, 2, i32(0)) == 0
    assert h.bind(c, sa("0.0.0.0", 5)) == -EADDRINUSE
    # the newest takes the answers
    h.send(a, icmp(8, 0, 0, 1), sa(B))
    assert isinstance(h.recv(b), bytes) and h.recv(a) == -EAGAIN
    h.check_clean()


def test_all_identifiers_in_use_is_an_error() -> None:
    h = Hosts()
    prot = h.prot("PING")
    assert isinstance(prot, PingProto)
    fd = h.ping()
    sk = h.sk(fd)
    keys = [h.a.net_cookie << 16 | i for i in range(1, 0x10000)]
    prot.table.update({key: [] for key in keys})
    assert sk.sk_prot.get_port(sk, 0) == -EADDRINUSE
    assert h.send(fd, icmp(8, 0, 0, 1), sa(B)) == -EAGAIN
    prot.table.clear()
    h.check_clean()


def test_only_groups_of_ping_group_range_may_have_one() -> None:
    h = Hosts()
    for low, high, uid, gid, groups, allowed in (
        (1, 0, 0, 0, [], False),
        (0, 0, 0, 0, [], True),
        (100, 200, 1000, 150, [], True),
        (100, 200, 1000, 99, [], False),
        (100, 200, 1000, 99, [201, 100], True),
        (100, 200, 0, 0, [], False),
    ):
        assert sysctl_write(h.a.sysctl_table, "net.ipv4.ping_group_range", f"{low} {high}") == 0
        task = new_task(h.kernel, h.a, "ping", Cred(uid, gid, groups))
        fd = sys_socket(task, AF_INET, SOCK_DGRAM, 1)
        assert (fd >= 0) == allowed and (allowed or fd == -EACCES), (low, high, gid, groups)
        task.files.fd[3:] = [None] * (len(task.files.fd) - 3) if not allowed else task.files.fd[3:]
    assert sysctl_read(h.a.sysctl_table, "net.ipv4.ping_group_range") == "100\t200"


def test_a_refused_socket_leaves_nothing_behind() -> None:
    h = Hosts()
    sysctl_write(h.a.sysctl_table, "net.ipv4.ping_group_range", "1 0")
    assert h.socket(0, AF_INET, SOCK_DGRAM, 1) == -EACCES
    h.check_clean()


@pytest.mark.parametrize(
    ("kind", "code", "pending", "queued"),
    [(3, 3, 111, 111), (3, 1, 0, 113), (3, 4, EMSGSIZE, EMSGSIZE), (11, 0, 0, 113), (12, 0, 71, 71), (4, 0, 0, EREMOTEIO),
     (5, 1, 0, EREMOTEIO)],
)  # fmt: skip
def test_errors_about_a_request_reach_its_sock(kind: int, code: int, pending: int, queued: int) -> None:
    for recverr in (False, True):
        h = Hosts()
        fd = h.ping(1)
        assert h.bind(fd, sa(B, 9)) == 0 and h.connect(fd, sa(A, 0)) == 0
        h.setsockopt(fd, 0, 11, i32(recverr))
        quote = ip_packet(B, A, 1, icmp(8, 0, 9, 1))
        h.inject(ip_packet(A, B, 1, icmp(kind, code, 0, 1000 if code == 4 else 0, quote)))
        told = queued if recverr else pending
        assert h.recv(fd) == (-told if told else -EAGAIN)
        n, data, _, control, _ = h.recvmsg(fd, 100, 0x2000, 512)
        assert (n, data[:2]) == ((8, b"\x08\0") if recverr else (-EAGAIN, b""))
        assert not recverr or struct.unpack_from("<I", control, 16)[0] == queued
        h.check_clean()


def test_what_is_not_about_an_echo_request_is_ignored() -> None:
    h = Hosts()
    fd = h.ping(1)
    assert h.bind(fd, sa(B, 9)) == 0 and h.connect(fd, sa(A, 0)) == 0
    whole = ip_packet(B, A, 1, icmp(8, 0, 9, 1))
    for n in range(28):
        h.inject(ip_packet(A, B, 1, icmp(3, 3, 0, 0, whole[:n])))
    for kind in (0, 13, 3):
        h.inject(ip_packet(A, B, 1, icmp(3, 3, 0, 0, ip_packet(B, A, 1, icmp(kind, 0, 9, 1)))))
    assert h.recv(fd) == -EAGAIN
    h.check_clean()


def test_a_reader_waits_for_the_answer() -> None:
    h = Hosts()
    fd = h.ping()
    h.bind(fd, sa("0.0.0.0", 5))
    wait = h.recv_wait(fd)
    h.send(fd, icmp(8, 0, 0, 1, b"x"), sa(B))
    assert wait.step() and wait.result[0] == 9
    h.check_clean()


def test_a_host_that_is_not_there_is_told_to_a_connected_sock() -> None:
    h = Hosts()
    fd = h.ping()
    assert h.connect(fd, sa("10.9.0.77")) == 0
    h.setsockopt(fd, 0, 11, i32(1))
    h.send(fd, icmp(8, 0, 0, 1))
    h.run_until(h.kernel.now + 4 * SEC)
    assert h.recv(fd) == -113
    h.check_clean()


def test_messages_shorter_than_a_header_are_refused() -> None:
    h = Hosts()
    fd = h.ping()
    for n in range(8):
        assert h.send(fd, icmp(8, 0, 0, 1)[:n], sa(B)) == -EINVAL
    h.check_clean()
