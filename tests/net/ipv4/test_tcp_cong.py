"""Congestion control: the registry, Reno, and an algorithm of the user's own."""

from __future__ import annotations

import pytest

import afinet
from afinet import congestion
from afinet.kernel.sysctl import sysctl_write
from afinet.net.ipv4.tcp_cong import (
    TCP_CONG_NEEDS_ECN,
    TCP_CONG_NON_RESTRICTED,
    TcpCongestionOps,
    TcpReno,
    tcp_ca_find,
    tcp_cong_avoid_ai,
    tcp_get_allowed_congestion_control,
    tcp_get_available_congestion_control,
    tcp_register_congestion_control,
    tcp_set_allowed_congestion_control,
    tcp_set_congestion_control,
    tcp_set_default_congestion_control,
    tcp_unregister_congestion_control,
)
from afinet.net.ipv4.tcp_inline import CA_EVENT_ECN_IS_CE, CA_EVENT_ECN_NO_CE
from afinet.net.ipv4.tcp_rate import RateSample
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.uapi.errno import EACCES, EEXIST, EINVAL, ENOENT, EPERM
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.tcp import TCP_CONGESTION
from tests.net.ipv4.tcphost import MS, B, Pair, Peer, tcp_sk
from tests.net.ipv4.test_tcp_recovery import SACK_SYN, Sender


class Fixed(TcpCongestionOps):
    """A window that nothing moves."""

    def __init__(self) -> None:
        super().__init__("fixed", TCP_CONG_NON_RESTRICTED)
        self.calls: list[str] = []

    def init(self, sk: TcpSock) -> None:
        sk.icsk_ca_priv = {"acks": 0}
        self.calls.append("init")

    def release(self, sk: TcpSock) -> None:
        self.calls.append("release")

    def cong_control(self, sk: TcpSock, ack: int, flag: int, rs: RateSample) -> bool:
        self.calls.append("cong_control")
        sk.snd_cwnd = 7
        return True

    def ssthresh(self, sk: TcpSock) -> int:
        return 7


@pytest.mark.rfc9293("MUST-19")
def test_slow_start_doubles_and_congestion_avoidance_adds_one_a_round_trip() -> None:
    p = Sender(10)
    assert p.sk.snd_cwnd == 10
    p.tx()
    p.run(20 * MS)
    for i in range(2, 11, 2):
        p.ack(i)
    assert p.sk.snd_cwnd == 20
    p.sk.snd_ssthresh = 20
    first = 10
    for _ in range(2):
        cwnd = p.sk.snd_cwnd
        p.write(cwnd)
        p.tx()
        p.run(20 * MS)
        for i in range(first + 1, first + cwnd + 1):
            p.ack(i)
        first += cwnd
        assert p.sk.snd_cwnd == cwnd + 1


def test_a_window_that_is_not_used_does_not_grow() -> None:
    p = Sender(1)
    for i in range(1, 20):
        p.ack(i)
        p.write(1)
        p.run(10 * MS)
    assert p.sk.snd_cwnd == 10


def test_idleness_shrinks_the_window_to_the_initial_one() -> None:
    p = Sender(10)
    p.run(20 * MS)
    p.ack(10)
    assert p.sk.snd_cwnd == 20
    p.run(3000 * MS)
    p.tx()
    p.write(15)
    assert p.sk.snd_cwnd == 10
    assert len(p.sent()) == 10


def test_the_registry_knows_names_and_restrictions() -> None:
    p = Sender(0)
    kernel = p.kernel
    mine = Fixed()
    assert tcp_register_congestion_control(kernel, mine) == 0
    assert tcp_register_congestion_control(kernel, Fixed()) == -EEXIST
    assert tcp_register_congestion_control(kernel, TcpCongestionOps("x" * 16)) == -EINVAL
    assert "reno" in tcp_get_available_congestion_control(kernel).split()
    assert tcp_set_congestion_control(p.sk, "nothing") == -ENOENT
    assert tcp_set_allowed_congestion_control(kernel, "reno nothing") == -ENOENT
    assert tcp_set_allowed_congestion_control(kernel, "reno") == 0
    assert tcp_get_allowed_congestion_control(kernel) == "reno"
    assert tcp_set_congestion_control(p.sk, "fixed") == -EPERM
    assert tcp_set_congestion_control(p.sk, "fixed", True, True) == 0
    assert mine.calls == ["init"]
    assert tcp_set_congestion_control(p.sk, "reno") == 0
    assert mine.calls == ["init", "release"]
    tcp_unregister_congestion_control(kernel, mine)
    assert tcp_ca_find(kernel, "fixed") is None


def test_an_algorithm_of_the_users_own_decides() -> None:
    p = Sender(0, SACK_SYN)
    mine = Fixed()
    tcp_register_congestion_control(p.kernel, mine)
    assert tcp_set_default_congestion_control(p.net, "fixed") == 0
    assert tcp_set_congestion_control(p.sk, "fixed") == 0
    p.write(10)
    p.tx()
    p.ack(4)
    assert p.sk.snd_cwnd == 7 and "cong_control" in mine.calls
    assert isinstance(p.sk.icsk_ca_priv, dict)


def test_cong_avoid_uses_up_credit_gently() -> None:
    p = Sender(0)
    p.sk.snd_cwnd = 10
    p.sk.snd_cwnd_cnt = 15
    tcp_cong_avoid_ai(p.sk, 10, 1)
    assert (p.sk.snd_cwnd, p.sk.snd_cwnd_cnt) == (11, 1)


def test_release_is_called_only_after_init() -> None:
    p = Sender(0)
    mine = Fixed()
    tcp_register_congestion_control(p.kernel, mine)
    assert tcp_set_default_congestion_control(p.net, "fixed") == 0
    fd = p.socket(p.task)
    p.close(p.task, fd)
    assert mine.calls == []


class Marks(TcpCongestionOps):
    """An algorithm that lives on ECN marks."""

    def __init__(self) -> None:
        super().__init__("marks", TCP_CONG_NON_RESTRICTED | TCP_CONG_NEEDS_ECN)
        self.events: list[int] = []

    def cwnd_event(self, sk: TcpSock, ev: int) -> None:
        self.events.append(ev)


def test_an_algorithm_that_needs_ecn_asks_for_it_and_marks_all_its_packets() -> None:
    p = Peer()
    tcp_register_congestion_control(p.kernel, Marks())
    assert tcp_set_default_congestion_control(p.net, "marks") == 0
    fd = p.socket(p.task, nonblock=True)
    p.connect(p.task, fd, B, 80)
    syn = p.tx1()
    assert syn.flags == 0xC2 and syn.tos == 2
    p.sport, p.dport = 80, syn.sport
    p.rx("S.E", p.ISN, syn.seq + 1, options=SACK_SYN)
    assert p.tx1().tos == 2  # the pure ACK, too
    # another algorithm stops it
    assert p.setsockopt(p.task, fd, IPPROTO_TCP, TCP_CONGESTION, b"reno") == 0
    p.rx("P.", p.ISN + 1, syn.seq + 1, b"data")
    assert p.tx1().tos == 0


def test_marks_are_told_to_an_algorithm_that_needs_them() -> None:
    p = Peer()
    marks = Marks()
    tcp_register_congestion_control(p.kernel, marks)
    assert tcp_set_default_congestion_control(p.net, "marks") == 0
    listener = p.listener(p.task, p.dport)
    p.rx("SEW", p.ISN, options=SACK_SYN)
    synack = p.tx1()
    assert synack.flags == 0x52
    p.rx(".", p.ISN + 1, synack.seq + 1)
    assert p.accept(p.task, listener) >= 0
    marks.events.clear()
    p.rx("P.", p.ISN + 1, synack.seq + 1, b"a", tos=2)
    p.rx("P.", p.ISN + 2, synack.seq + 1, b"b", tos=3)
    assert marks.events == [CA_EVENT_ECN_NO_CE, CA_EVENT_ECN_IS_CE]


def test_a_namespace_other_than_the_first_chooses_among_the_allowed() -> None:
    p = Pair()
    init_net = p.kernel.init_net
    assert init_net is not None
    tcp_register_congestion_control(p.kernel, TcpReno("mine"))
    assert tcp_set_default_congestion_control(p.na, "mine") == -EPERM
    assert tcp_set_default_congestion_control(init_net, "mine") == 0
    assert tcp_set_default_congestion_control(p.na, "mine") == 0
    assert sysctl_write(p.na.sysctl_table, "net.ipv4.tcp_allowed_congestion_control", "reno") == -EACCES


def test_an_accepted_sock_has_the_listeners_choice_else_the_namespaces() -> None:
    p = Pair()
    listener = p.listener(p.tb, 80)
    assert p.setsockopt(p.tb, listener, IPPROTO_TCP, TCP_CONGESTION, b"reno") == 0
    client = p.socket(p.ta)
    assert p.connect(p.ta, client, B, 80) == 0
    ops = tcp_sk(p.tb, p.accept(p.tb, listener)).icsk_ca_ops
    assert ops is not None and ops.name == "reno"
    other = p.listener(p.tb, 81)
    assert tcp_set_default_congestion_control(p.nb, "reno") == 0  # after the listener was made
    client = p.socket(p.ta)
    assert p.connect(p.ta, client, B, 81) == 0
    ops = tcp_sk(p.tb, p.accept(p.tb, other)).icsk_ca_ops
    assert ops is not None and ops.name == "reno"


def test_the_public_face_registers_with_clear_errors() -> None:
    with afinet.Network(seed=1) as net:
        host = net.host("a")
        congestion.register(host, TcpReno("mine"))
        host.sysctl("net.ipv4.tcp_congestion_control", "mine")
        assert host.sysctl("net.ipv4.tcp_available_congestion_control") == "reno cubic mine"
        with pytest.raises(afinet.UsageError, match="a has a congestion control 'mine' already"):
            congestion.register(host.kernel, TcpReno("mine"))
        with pytest.raises(afinet.UsageError, match="1 to 15 characters"):
            congestion.register(host, TcpReno("x" * 16))
        with pytest.raises(afinet.UsageError, match="a subclass of TcpCongestionOps"):
            congestion.register(host, TcpReno)  # type: ignore[arg-type]
