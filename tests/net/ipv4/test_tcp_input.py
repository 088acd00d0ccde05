"""What a connection does with segments: validity (RFC 9293, 5961, 7323), ACKs, the receive queue, SACK and D-SACK, urgent data."""

from __future__ import annotations

import pytest

from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.uapi import snmp
from afinet.uapi.errno import ECONNRESET
from afinet.uapi.tcp import TCP_CLOSE, TCP_ESTABLISHED
from afinet.wire.tcp_options import ParsedOptions, build_established_options, build_syn_options, parse_tcp_options
from tests.net.ipv4.tcphost import MS, SEC, Peer, Segment, tcp_sk

FULL_SYN = build_syn_options(1460, 7, True, True, 1000, 0)


class Receiver(Peer):
    """An established connection; `seq` numbers count from the peer's first byte."""

    def __init__(self, options: bytes = build_syn_options(1000, -1, True, False, 0, 0), ts: bool = False) -> None:
        super().__init__()
        self.ts = ts
        listener = self.listener(self.task, self.dport)
        self.rx("S", self.ISN, options=options)
        self.synack = self.tx1()
        self.run(10 * MS)
        self.ours = self.synack.seq + 1
        self.rx(".", self.ISN + 1, self.ours, options=self.stamp(1010))
        self.fd = self.accept(self.task, listener)
        self.sk: TcpSock = tcp_sk(self.task, self.fd)
        # past the segments that are acknowledged at once
        self.sk.icsk_ack_quick = 0

    def stamp(self, tsval: int) -> bytes:
        return build_established_options(True, tsval, self.options(self.synack).tsval, None) if self.ts else b""

    def options(self, s: Segment) -> ParsedOptions:
        out = ParsedOptions()
        parse_tcp_options(s.options, 0, len(s.options), out)
        return out

    def data(self, seq: int, data: bytes | int, flags: str = ".", tsval: int = 0) -> None:
        payload = data if isinstance(data, bytes) else b"d" * data
        self.rx(flags, self.ISN + 1 + seq, self.ours, payload, options=self.stamp(tsval) if self.ts else b"")

    def sacks(self, s: Segment) -> list[int]:
        blocks = self.options(s).sacks or []
        return [b - self.ISN - 1 for b in blocks]

    def acked(self, s: Segment) -> int:
        return s.ack - self.ISN - 1

    def mib(self, name: str) -> int:
        return self.net.net_statistics[snmp.SNMP4_NET_LIST.index(name)]


# -- validity --------------------------------------------------------------------------------------------------------------


def test_a_rst_with_the_next_number_resets_and_one_in_the_window_is_challenged() -> None:
    p = Receiver()
    p.rx("R", p.ISN + 1 + 100)
    assert p.acked(p.tx1()) == 0
    assert p.mib("TCPChallengeACK") == 1
    assert p.sk.sk_state == TCP_ESTABLISHED
    p.rx("R", p.ISN + 1)
    assert p.silent()
    assert p.sk.sk_state == TCP_CLOSE
    assert p.so_error(p.task, p.fd) == ECONNRESET


def test_a_rst_out_of_the_window_is_dropped_without_a_word() -> None:
    p = Receiver()
    p.rx("R", p.ISN + 1 - 100)
    p.rx("R", p.ISN + 1 + 1_000_000)
    assert p.silent() and p.sk.sk_state == TCP_ESTABLISHED


def test_a_rst_at_the_end_of_the_last_sack_block_resets() -> None:
    p = Receiver()
    p.data(1000, 1000)
    p.tx()
    p.rx("R", p.ISN + 1 + 2000)
    assert p.sk.sk_state == TCP_CLOSE


def test_a_syn_is_challenged_and_challenges_are_limited() -> None:
    p = Receiver()
    p.rx("S", p.ISN + 1 + 5000)
    assert p.tx1().flags == 0x10
    p.rx("S", p.ISN + 1)
    assert p.silent()
    assert (p.mib("TCPSYNChallenge"), p.mib("TCPChallengeACK"), p.mib("TCPACKSkippedChallenge")) == (2, 1, 1)
    p.run(600 * MS)
    p.rx("S", p.ISN + 1)
    assert p.tx1().flags == 0x10


@pytest.mark.rfc9293("MAY-12")
@pytest.mark.parametrize("ack", [1, -100_000])
def test_an_ack_of_what_was_never_sent_and_a_much_too_old_one_are_challenged(ack: int) -> None:
    p = Receiver()
    p.rx(".", p.ISN + 1, p.ours + ack)
    assert p.tx1().flags == 0x10
    assert p.mib("TCPChallengeACK") == 1


def test_paws_drops_old_segments_with_an_ack_and_lets_a_rst_pass() -> None:
    p = Receiver(FULL_SYN, ts=True)
    p.data(0, 100, tsval=2000)
    p.tx()
    p.data(100, 100, tsval=1500)
    assert p.acked(p.tx1()) == 100
    assert p.mib("PAWSEstab") == 1
    p.data(100, 100, tsval=2001)
    assert p.sk.rcv_nxt == p.ISN + 1 + 200
    p.rx("R.", p.ISN + 1 + 200, p.ours, options=p.stamp(1))
    assert p.sk.sk_state == TCP_CLOSE


def test_a_disordered_duplicate_ack_passes_paws() -> None:
    p = Receiver(FULL_SYN, ts=True)
    p.data(0, 100, tsval=2000)
    p.rx(".", p.ISN + 1 + 100, p.ours, options=p.stamp(2001))
    p.rx(".", p.ISN + 1 + 100, p.ours, options=p.stamp(1990))
    assert p.mib("PAWSEstab") == 0


def test_a_keepalive_probe_is_answered() -> None:
    p = Receiver()
    p.rx(".", p.ISN, p.ours)
    assert p.acked(p.tx1()) == 0
    p.rx(".", p.ISN, p.ours)
    assert p.silent()  # limited: two such answers could become a loop
    assert p.mib("TCPACKSkippedSeq") == 1


def test_data_beyond_the_window_is_refused_once_something_waits_to_be_read() -> None:
    p = Receiver()
    p.data(0, 100)
    p.run(SEC)
    p.tx()
    p.data(100, 1000)
    p.data(10_000_000, 1000)
    assert p.acked(p.tx()[-1]) == 1100
    assert p.mib("BeyondWindow") == 1


def test_a_segment_without_ack_is_dropped() -> None:
    p = Receiver()
    p.rx("P", p.ISN + 1, 0, b"x" * 10)
    assert p.silent() and p.sk.rcv_nxt == p.ISN + 1


# -- ACKs ------------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc9293("MUST-40", "MUST-58", "SHLD-18", "SHLD-19")
def test_every_second_full_segment_is_acknowledged_and_a_lone_one_after_40_ms() -> None:
    p = Receiver()
    for i in range(10):
        p.data(i * 1000, 1000)
        p.recv(p.task, p.fd, 100_000)
    p.tx()
    p.sk.icsk_ack_quick = 0
    p.run(200 * MS)
    p.tx()
    for i in range(10, 12):
        p.data(i * 1000, 1000)
        p.sk.icsk_ack_quick = 0
        p.recv(p.task, p.fd, 100_000)
    assert p.acked(p.tx1()) == 12000
    p.data(12000, 1000)
    p.sk.icsk_ack_quick = 0
    assert p.silent()
    n = p.mib("DelayedACKs")
    p.run(39 * MS)
    assert p.silent()
    p.run(2 * MS)
    assert p.acked(p.tx1()) == 13000
    assert p.mib("DelayedACKs") == n + 1


def test_a_new_connection_acknowledges_at_once() -> None:
    p = Receiver()
    p.data(0, 1000)
    assert p.acked(p.tx1()) == 1000
    p.data(1000, 1000)
    assert p.acked(p.tx1()) == 2000


def test_in_a_dialogue_the_ack_rides_on_the_answer() -> None:
    p = Receiver()
    seq = 0
    for _ in range(4):
        p.rx("P.", p.ISN + 1 + seq, p.ours, b"q" * 10)
        seq += 10
        p.recv(p.task, p.fd, 100)
        p.send(p.task, p.fd, b"a" * 10)
        last = p.tx()[-1]
        assert last.data == b"a" * 10 and p.acked(last) == seq
        p.ours += 10
    p.rx("P.", p.ISN + 1 + seq, p.ours, b"q" * 10)
    p.recv(p.task, p.fd, 100)
    assert p.silent()
    p.run(50 * MS)
    assert p.acked(p.tx1()) == seq + 10


@pytest.mark.rfc9293("SHLD-31")
def test_data_out_of_order_is_sacked_newest_block_first_and_acknowledged_at_once_when_the_hole_fills() -> None:
    p = Receiver()
    p.data(1000, 1000)
    s = p.tx1()
    assert (p.acked(s), p.sacks(s)) == (0, [1000, 2000])
    p.data(3000, 1000)
    assert p.sacks(p.tx1()) == [3000, 4000, 1000, 2000]
    p.data(5000, 1000)
    assert p.sacks(p.tx1()) == [5000, 6000, 3000, 4000, 1000, 2000]
    p.data(2000, 1000)
    assert p.sacks(p.tx1()) == [1000, 4000, 5000, 6000]
    p.data(0, 1000)
    s = p.tx1()
    assert (p.acked(s), p.sacks(s)) == (4000, [5000, 6000])
    p.data(4000, 1000)
    s = p.tx1()
    assert (p.acked(s), p.sacks(s)) == (6000, [])
    got = p.recv(p.task, p.fd, 100_000)
    assert isinstance(got, bytes) and len(got) == 6000
    assert p.mib("TCPOFOQueue") == 4
    assert p.sk.out_of_order_queue is None


def test_a_segment_that_comes_twice_is_told_by_dsack() -> None:
    p = Receiver()
    p.data(0, 1000)
    p.tx()
    p.data(0, 1000)
    s = p.tx1()
    assert (p.acked(s), p.sacks(s)) == (1000, [0, 1000])
    p.data(3000, 1000)
    p.tx()
    p.data(3000, 1000)
    assert p.sacks(p.tx1()) == [3000, 4000, 3000, 4000]
    assert (p.mib("TCPDSACKOldSent"), p.mib("TCPDSACKOfoSent")) == (1, 1)
    p.data(500, 1000)  # half old, half new
    s = p.tx1()
    assert (p.acked(s), p.sacks(s)[:2]) == (1500, [500, 1000])


def test_overlapping_segments_out_of_order_deliver_each_byte_once() -> None:
    stream = bytes(range(250)) * 40
    p = Receiver()
    for a, b in ((3000, 4000), (3500, 5000), (2500, 3600), (1000, 2000), (900, 6000), (5500, 6500), (1200, 1300)):
        p.data(a, stream[a:b])
    p.data(0, stream[:950])
    assert p.recv(p.task, p.fd, 100_000) == stream[:6500]
    assert p.sk.out_of_order_queue is None and p.sk.rx_opt.num_sacks == 0
    assert p.mib("TCPOFOMerge") > 0


def test_the_out_of_order_queue_is_bounded_by_the_buffer() -> None:
    p = Receiver()
    p.sk.sk_rcvbuf = 20000
    p.sk.sk_userlocks |= 2
    for i in range(1, 60):
        p.data(i * 1000 + i, 1000)
    assert p.sk.sk_rmem_alloc <= 3 * 20000
    p.data(0, 1000)
    assert p.recv(p.task, p.fd, 100_000) is not None


def test_small_segments_are_coalesced_and_their_overhead_is_bounded() -> None:
    p = Receiver()
    p.sk.sk_rcvbuf = 60000
    p.sk.sk_userlocks |= 2
    for i in range(2000):
        p.data(i, b"x")
    got = b""
    while True:
        piece = p.recv(p.task, p.fd, 100_000, 0x40)
        if not isinstance(piece, bytes):
            break
        got += piece
    assert got == b"x" * len(got) and len(got) > 300
    assert p.sk.sk_rmem_alloc == 0
    assert p.mib("TCPRcvCoalesce") > 0


def test_a_zero_window_drops_data_but_takes_a_bare_fin() -> None:
    p = Receiver()
    p.sk.sk_rcvbuf = 6000
    p.sk.sk_userlocks |= 2
    seq = 0
    while p.sk.rcv_wnd and seq < 100_000:
        p.data(seq, 500)
        seq = p.sk.rcv_nxt - p.ISN - 1
        p.run(300 * MS)
    assert p.tx()[-1].window == 0
    p.data(seq, 500)
    assert p.mib("BeyondWindow") == 1
    assert p.tx()[-1].window == 0
    p.rx("F.", p.ISN + 1 + seq, p.ours)
    assert p.acked(p.tx()[-1]) == seq + 1


# -- the fast path ---------------------------------------------------------------------------------------------------------


def test_bulk_data_and_bulk_acks_go_by_header_prediction() -> None:
    p = Receiver(FULL_SYN, ts=True)
    for i in range(20):
        p.data(i * 1000, 1000, tsval=2000 + i)
    # The first segment of each page that the sock reserves goes the long way.
    assert 10 <= p.mib("TCPHPHits") < 20
    assert p.recv(p.task, p.fd, 100_000) == b"d" * 20000
    assert p.send(p.task, p.fd, b"d" * 10000) == 10000
    p.tx()
    n = p.mib("TCPHPAcks")
    for i in range(1, 7):
        p.rx(".", p.ISN + 1 + 20000, p.ours + i * 1448, options=p.stamp(3000 + i))
    assert p.mib("TCPHPAcks") == n + 6


def test_urgent_data_is_announced_and_its_byte_kept_out_of_the_stream() -> None:
    p = Receiver()
    p.rx("PU.", p.ISN + 1, p.ours, b"abcX", urg=4)
    assert p.sk.urg_data == 0x100 | ord("X")
    assert p.recv(p.task, p.fd, 10, 1) == b"X"
    assert p.recv(p.task, p.fd, 10) == b"abc"


def test_a_fin_out_of_order_waits_for_its_turn() -> None:
    p = Receiver()
    p.rx("F.", p.ISN + 1 + 1000, p.ours)
    assert p.sk.sk_state == TCP_ESTABLISHED
    p.data(0, 1000)
    assert p.acked(p.tx()[-1]) == 1001
    assert p.recv(p.task, p.fd, 5000) == b"d" * 1000
    assert p.recv(p.task, p.fd, 5000) == b""
