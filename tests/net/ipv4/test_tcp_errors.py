"""What ICMP says to a connection, and the rarer ways to read one."""

from __future__ import annotations

import pytest

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.core.skbuff import SkBuff, skb_pieces
from afinet.net.core.sock import lock_sock, release_sock
from afinet.net.ipv4 import tcp_ipv4, tcp_recvmsg
from afinet.net.ipv4.inet_hashtables import InetHashinfo
from afinet.net.ipv4.tcp_recvmsg import TcpReadActor
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.uapi.errno import EAGAIN, EHOSTUNREACH
from afinet.uapi.in_ import IP_PKTINFO, IP_RECVERR, IP_RECVTTL, IP_TTL
from afinet.uapi.snmp import LINUX_MIB_TCPMINTTLDROP
from afinet.uapi.sockaddr import pack_s32, parse_cmsgs
from afinet.uapi.socket import AF_INET, MSG_ERRQUEUE, SO_ERROR, SOCK_STREAM
from afinet.uapi.tcp import TCP_ESTABLISHED, TCP_SAVE_SYN, TCP_SAVED_SYN
from afinet.wire import ip as wire_ip
from afinet.wire import tcp as wire_tcp
from tests.net.ipv4 import dgramhost
from tests.net.ipv4.iphost import icmp_packet
from tests.net.ipv4.tcphost import MSS1460, SEC, A, B, Peer, tcp_sk


def quote(p: Peer, seq: int, length: int = 1500) -> bytes:
    """What a router quotes of our segment that begins at `seq`."""
    th = wire_tcp.emit(p.dport, p.sport, seq & 0xFFFFFFFF, 0, 0x10, 0, 0, 0, b"")
    return wire_ip.emit(0, length, 0, 0x4000, 63, 6, A, B) + th[:8]


def test_fragmentation_needed_makes_segments_smaller_and_sends_again_at_once() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.send(p.task, fd, b"x" * 4380)
    assert [len(s.data) for s in p.tx()] == [1460] * 3
    p.host.receive(icmp_packet(3, 4, 1000, quote(p, isn + 1)))
    again = p.tx()
    assert again and again[0].seq == (isn + 1) & 0xFFFFFFFF
    assert all(len(s.data) <= 960 for s in again)
    assert tcp_sk(p.task, fd).mss_cache == 960
    p.rx(".", 1001, isn + 1 + 4380)
    p.send(p.task, fd, b"y" * 2000)
    assert max(len(s.data) for s in p.tx()) == 960


def test_fragmentation_needed_out_of_window_or_absurd_is_not_believed() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.send(p.task, fd, b"x" * 1460)
    p.tx()
    p.host.receive(icmp_packet(3, 4, 1000, quote(p, isn + 100_000)))
    assert tcp_sk(p.task, fd).mss_cache == 1460
    p.host.receive(icmp_packet(3, 4, 0, quote(p, isn + 1)))
    p.host.receive(icmp_packet(3, 4, 20, quote(p, isn + 1)))
    assert tcp_sk(p.task, fd).mss_cache >= 512


@pytest.mark.rfc9293("MUST-56")
def test_an_unreachable_does_not_end_a_connection_that_stands() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.send(p.task, fd, b"x")
    p.tx()
    p.host.receive(icmp_packet(3, 1, 0, quote(p, isn + 1)))
    sk = tcp_sk(p.task, fd)
    assert sk.sk_state == TCP_ESTABLISHED and sk.sk_err == 0 and sk.sk_err_soft == EHOSTUNREACH
    p.rx(".", 1001, isn + 2)
    assert p.so_error(p.task, fd) == 0


@pytest.mark.rfc9293("MUST-55")
def test_a_source_quench_is_ignored() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    p.send(p.task, fd, b"x")
    p.tx()
    p.host.receive(icmp_packet(4, 0, 0, quote(p, isn + 1)))
    assert tcp_sk(p.task, fd).sk_err_soft == 0 and p.silent()


def test_an_unreachable_undoes_one_backoff() -> None:
    """RFC 6069: silence that a router explains is not congestion."""
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    sk = tcp_sk(p.task, fd)
    p.send(p.task, fd, b"x")
    p.run(3 * SEC)
    p.tx()
    backoff, rto = sk.icsk_backoff, sk.icsk_rto
    assert backoff >= 2
    p.host.receive(icmp_packet(3, 1, 0, quote(p, isn + 1)))
    assert sk.icsk_backoff == backoff - 1 and sk.icsk_rto == rto // 2


def test_a_time_to_live_below_the_sockets_minimum_is_dropped() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    tcp_sk(p.task, fd).min_ttl = 65
    p.rx("P.", 1001, isn + 1, b"x")
    assert p.silent() and p.net.net_statistics[LINUX_MIB_TCPMINTTLDROP] == 1
    tcp_sk(p.task, fd).min_ttl = 64
    p.rx("P.", 1001, isn + 1, b"x")
    assert p.recv(p.task, fd, 10) == b"x"


class Taker(TcpReadActor):
    """Takes so many bytes a call."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.got = b""

    def recv_actor(self, skb: SkBuff, offset: int, length: int) -> int:
        take = min(self.n, length)
        self.got += b"".join(skb_pieces(skb, offset, take))
        return take


def test_an_actor_reads_from_within_the_kernel() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    sk: TcpSock = tcp_sk(p.task, fd)
    p.rx("P.", 1001, isn + 1, b"hello")
    p.rx("P.", 1006, isn + 1, b"world")
    actor = Taker(3)
    lock_sock(sk)
    assert tcp_recvmsg.tcp_read_sock(sk, actor) == 3
    actor.n = 100
    assert tcp_recvmsg.tcp_read_sock(sk, actor) == 7
    release_sock(sk)
    assert actor.got == b"helloworld"
    assert tcp_recvmsg.tcp_peek_len(sk) == 0


def test_splice_moves_pieces_and_sees_the_end() -> None:
    p = Peer()
    _, fd, isn = p.open_passive(MSS1460)
    sk = tcp_sk(p.task, fd)
    pieces: list[bytes] = []
    assert tcp_recvmsg.tcp_splice_read(sk, pieces, 100, True, Kiocb()) == -11
    p.rx("P.", 1001, isn + 1, b"hello")
    assert tcp_recvmsg.tcp_splice_read(sk, pieces, 3, True, Kiocb()) == 3
    p.rx("F.", 1006, isn + 1)
    assert tcp_recvmsg.tcp_splice_read(sk, pieces, 100, True, Kiocb()) == 2
    assert tcp_recvmsg.tcp_splice_read(sk, pieces, 100, True, Kiocb()) == 0
    assert b"".join(pieces) == b"hello"


def test_save_syn_keeps_the_syn_for_the_child() -> None:
    p = Peer()
    listener = p.listener(p.task, 80)
    assert p.setsockopt(p.task, listener, 6, TCP_SAVE_SYN, 1) == 0
    p.handshake(MSS1460)
    fd = p.accept(p.task, listener)
    err, syn = syscalls.sys_getsockopt(p.task, fd, 6, TCP_SAVED_SYN, 200)
    assert err == 0 and len(syn) == 44 and syn[0] == 0x45 and syn[33] == 2
    assert syscalls.sys_getsockopt(p.task, fd, 6, TCP_SAVED_SYN, 200) == (0, b"")


def test_tcp_prot_has_every_member() -> None:
    p = Peer()
    prot = tcp_ipv4.tcp_prot(p.kernel)
    assert prot.name == "TCP" and prot.owner and prot.obj_size and prot.slab_flags and prot.max_header == 256
    assert prot.no_autobind and isinstance(prot.hashinfo, InetHashinfo)
    assert prot.twsk_prot is not None and prot.rsk_prot is not None
    assert prot.sysctl_mem is p.net.ipv4.sysctl_tcp_mem
    assert prot.sysctl_wmem(p.net) is p.net.ipv4.sysctl_tcp_wmem and prot.sysctl_rmem(p.net) is p.net.ipv4.sysctl_tcp_rmem


# -- the error queue -------------------------------------------------------------------------------------------------------


def test_a_connect_that_fails_leaves_the_icmp_error_in_the_error_queue() -> None:
    """IP_RECVERR on a stream: the quoted SYN, whom it was for, who said so, and what was asked for beside it: as on Linux."""
    h = dgramhost.Hosts()
    fd = h.socket(0, AF_INET, SOCK_STREAM | 0x800, 0)
    for option in (IP_RECVERR, IP_PKTINFO, IP_RECVTTL):
        assert h.setsockopt(fd, 0, option, pack_s32(1)) == 0
    h.connect(fd, dgramhost.sa("10.9.0.77", 80))
    h.run_until(h.kernel.now + 7 * dgramhost.SEC // 2)  # ARP gives up after three seconds
    assert h.poll(fd, 0x7FFF) == 0x215D
    n, quoted, name, control, flags = h.recvmsg(fd, 100, MSG_ERRQUEUE | 0x40, 300)
    assert (n, quoted[2:4], flags) == (40, b"\0\x50", MSG_ERRQUEUE)
    assert name == dgramhost.sa("10.9.0.77", 80)
    assert parse_cmsgs(control) == [
        (0, IP_PKTINFO, bytes.fromhex("01000000000000000a090001")),
        (0, IP_TTL, pack_s32(64)),
        (0, IP_RECVERR, bytes.fromhex("71000000020301000000000000000000") + dgramhost.sa(dgramhost.A)),
    ]
    assert h.recvmsg(fd, 100, MSG_ERRQUEUE | 0x40, 300)[0] == -EAGAIN
    assert h.getsockopt(fd, 1, SO_ERROR, 4) == (0, pack_s32(0)), "told once, by the queue"
    assert h.poll(fd, 0x7FFF) == 0x2155
