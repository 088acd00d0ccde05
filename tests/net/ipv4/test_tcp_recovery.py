"""Loss recovery, one packet per line: fast retransmit with and without SACK, RACK, PRR, TLP, RTO, F-RTO, undo, D-SACK."""

from __future__ import annotations

import pytest

from afinet.net.ipv4.tcp_cong import tcp_set_default_congestion_control
from afinet.net.ipv4.tcp_sock import TcpSock, tcp_loss_state
from afinet.uapi import snmp
from afinet.uapi.tcp import TCP_CA_CWR, TCP_CA_Disorder, TCP_CA_Loss, TCP_CA_Open, TCP_CA_Recovery
from afinet.wire.tcp_options import ParsedOptions, build_established_options, build_syn_options, parse_tcp_options
from tests.net.ipv4.tcphost import MS, SEC, Peer, Segment, tcp_sk

SACK_SYN = build_syn_options(1000, -1, True, False, 0, 0)
PLAIN_SYN = build_syn_options(1000, -1, False, False, 0, 0)


def sack(*blocks: int) -> bytes:
    return build_established_options(False, 0, 0, list(blocks))


class Sender(Peer):
    """A connection on which we have sent `n` segments of 1000 bytes, 20 ms after the SYN-ACK (so the RTT is known). Its congestion
    control is Reno unless another is named."""

    def __init__(self, n: int, options: bytes = SACK_SYN, congestion: str = "reno", hz: int = 1000) -> None:
        super().__init__(hz=hz)
        assert tcp_set_default_congestion_control(self.net, congestion) == 0
        listener = self.listener(self.task, self.dport)
        self.rx("S", self.ISN, options=options)
        self.base = self.tx1().seq + 1
        self.run(20 * MS)
        self.rx(".", self.ISN + 1, self.base)
        self.fd = self.accept(self.task, listener)
        self.sk: TcpSock = tcp_sk(self.task, self.fd)
        self.write(n)

    def write(self, n: int) -> None:
        for _ in range(n):
            assert self.send(self.task, self.fd, b"d" * 1000) == 1000

    def sent(self) -> list[int]:
        """Which segments went out, by number."""
        return [(s.seq - self.base & 0xFFFFFFFF) // 1000 for s in self.tx() if s.data]

    def ack(self, n: int, *blocks: int) -> None:
        """The peer has the first `n` segments, and the SACK blocks (in segments)."""
        options = sack(*[self.base + b * 1000 for b in blocks]) if blocks else b""
        self.rx(".", self.ISN + 1, self.base + n * 1000, options=options)

    def mib(self, name: str) -> int:
        return self.net.net_statistics[snmp.SNMP4_NET_LIST.index(name)]


# -- with SACK -------------------------------------------------------------------------------------------------------------


def test_the_third_duplicate_with_sack_starts_recovery() -> None:
    p = Sender(10)
    assert p.sent() == list(range(10))
    p.run(20 * MS)
    p.ack(0, 1, 2)
    p.ack(0, 1, 3)
    assert p.sk.icsk_ca_state == TCP_CA_Disorder
    assert p.silent()
    p.ack(0, 1, 4)
    assert p.sent() == [0]
    assert p.sk.icsk_ca_state == TCP_CA_Recovery
    assert p.sk.snd_ssthresh == 5
    assert (p.mib("TCPSackRecovery"), p.mib("TCPFastRetrans")) == (1, 1)
    p.run(20 * MS)
    p.ack(10)
    assert p.sk.icsk_ca_state == TCP_CA_Open
    assert p.sk.snd_cwnd == 6  # ssthresh, and the growth that this ACK is worth
    assert (p.sk.lost_out, p.sk.sacked_out, p.sk.retrans_out, p.sk.packets_out) == (0, 0, 0, 0)


def test_two_sacks_and_a_quarter_rtt_start_recovery_by_racks_timer() -> None:
    p = Sender(4)
    p.tx()
    p.run(20 * MS)
    p.ack(0, 1, 2)
    assert p.silent()
    assert p.sk.icsk_pending == 6  # ICSK_TIME_REO_TIMEOUT
    p.run(4 * MS)
    assert p.silent()
    p.run(4 * MS)
    assert p.sent() == [0]
    assert p.sk.icsk_ca_state == TCP_CA_Recovery


def test_holes_are_repaired_oldest_first_at_the_rate_of_prr() -> None:
    p = Sender(10)
    p.tx()
    p.run(20 * MS)
    p.ack(0, 3, 4)
    p.ack(0, 3, 5)
    p.ack(0, 3, 6)
    # 0, 1 and 2 are lost; in flight is 4 (6..9) of ssthresh 5
    assert p.sent() == [0]
    p.ack(0, 3, 7)
    assert p.sent() == [1]
    p.ack(0, 3, 8)
    assert p.sent() == [2]
    p.run(20 * MS)
    p.ack(3)
    assert p.sk.icsk_ca_state == TCP_CA_Recovery
    p.ack(10)
    assert p.sk.icsk_ca_state == TCP_CA_Open
    assert p.mib("TCPFastRetrans") == 3


def test_a_retransmission_that_is_lost_is_sent_again_when_later_ones_arrive() -> None:
    p = Sender(10)
    p.tx()
    p.run(20 * MS)
    p.ack(0, 1, 2)
    p.ack(0, 1, 3)
    p.ack(0, 1, 4)
    assert p.sent() == [0]
    p.write(10)
    p.tx()
    p.run(10 * MS)
    p.ack(0, 1, 10)  # lets new data out, after the retransmission
    new = p.sent()
    assert new and new[0] == 10
    p.run(30 * MS)
    p.ack(0, 1, 10 + len(new))
    assert 0 in p.sent()
    assert p.mib("TCPLostRetransmit") == 1


def test_a_dsack_of_all_retransmissions_undoes_the_reduction() -> None:
    p = Sender(10)
    p.tx()
    p.run(20 * MS)
    p.ack(0, 1, 4)
    assert p.sent() == [0]
    before = tcp_loss_state(p.sk).prior_cwnd
    p.run(5 * MS)
    p.ack(4)  # the original, late
    p.run(15 * MS)
    p.rx(".", p.ISN + 1, p.base + 10000, options=sack(p.base, p.base + 1000))  # and the retransmission
    assert p.mib("TCPDSACKRecv") == 1
    assert p.mib("TCPDSACKUndo") + p.mib("TCPFullUndo") == 1
    assert p.sk.snd_cwnd >= before
    assert p.sk.icsk_ca_state == TCP_CA_Open


def test_a_peer_that_reneges_loses_its_sacks_at_the_timeout() -> None:
    p = Sender(4)
    p.tx()
    p.run(20 * MS)
    p.ack(0, 1, 4)
    assert p.sent() == [0]
    p.run(20 * MS)
    p.ack(1)  # 1 was SACKed, and is not acknowledged now
    p.tx()
    p.run(400 * MS)
    assert p.mib("TCPSACKReneging") == 1
    assert 1 in p.sent()


def test_sacks_that_make_no_sense_are_counted_and_ignored() -> None:
    p = Sender(4)
    p.tx()
    p.run(20 * MS)
    p.rx(".", p.ISN + 1, p.base, options=sack(p.base + 3000, p.base + 9000))  # beyond what was sent
    p.rx(".", p.ISN + 1, p.base, options=sack(p.base + 3000, p.base + 2000))  # reversed
    p.rx(".", p.ISN + 1, p.base, options=sack(p.base - 500000, p.base - 400000))  # below everything
    assert p.sk.sacked_out == 0
    assert p.mib("TCPSACKDiscard") == 3
    assert p.mib("TCPDSACKIgnoredDubious") == 1


# -- without SACK ----------------------------------------------------------------------------------------------------------


def test_three_duplicates_without_sack_and_partial_acks_repair_one_hole_a_round_trip() -> None:
    p = Sender(8, PLAIN_SYN)
    p.tx()
    p.run(20 * MS)
    p.ack(0)
    p.ack(0)
    assert p.silent()
    p.ack(0)
    assert p.sent() == [0]
    assert p.mib("TCPRenoRecovery") == 1
    p.run(20 * MS)
    p.ack(3)  # partial: 3 is lost too (RFC 6582)
    assert 3 in p.sent()
    assert p.sk.icsk_ca_state == TCP_CA_Recovery
    p.run(20 * MS)
    p.ack(8)
    # held until something above is acknowledged
    assert p.sk.icsk_ca_state == TCP_CA_Recovery
    p.write(1)
    p.tx()
    p.run(20 * MS)
    p.ack(9)
    assert p.sk.icsk_ca_state == TCP_CA_Open
    assert p.mib("TCPTimeouts") == 0


# -- tail loss probes ------------------------------------------------------------------------------------------------------


def test_a_tail_is_probed_after_two_round_trips_and_what_the_probe_repairs_costs_half_the_window() -> None:
    p = Sender(5)
    p.tx()
    p.run(20 * MS)
    p.ack(4)
    assert p.sk.icsk_pending == 5  # ICSK_TIME_LOSS_PROBE
    # one packet is out: two RTTs and the peer's delayed ACK, unless the RTO is earlier
    p.run(239 * MS)
    assert p.sent() == [4]
    assert p.mib("TCPLossProbes") == 1
    cwnd = p.sk.snd_cwnd
    p.run(20 * MS)
    p.ack(5)
    assert p.mib("TCPLossProbeRecovery") == 0  # it may have been the ACK that was late
    p.write(1)
    p.tx()
    p.run(20 * MS)
    p.ack(6)
    assert p.mib("TCPLossProbeRecovery") == 1
    assert p.sk.snd_cwnd <= cwnd // 2 + 1
    assert p.mib("TCPTimeouts") == 0


def test_a_probe_that_was_not_needed_is_known_by_its_dsack() -> None:
    p = Sender(3)
    p.tx()
    p.run(41 * MS)
    p.run(10 * MS)
    assert p.sent() == [2]
    p.ack(3)
    p.rx(".", p.ISN + 1, p.base + 3000, options=sack(p.base + 2000, p.base + 3000))
    p.write(1)
    p.tx()
    p.run(20 * MS)
    p.ack(4)
    assert p.mib("TCPLossProbeRecovery") == 0
    assert p.sk.icsk_ca_state == TCP_CA_Open


def test_a_probe_sends_new_data_when_there_is_some() -> None:
    p = Sender(14)  # a window of 10
    assert p.sent() == list(range(10))
    p.run(60 * MS)
    assert p.sent() == [10]
    assert p.mib("TCPLossProbes") == 1


def test_no_probe_without_sack() -> None:
    p = Sender(3, PLAIN_SYN)
    p.tx()
    p.run(150 * MS)
    assert p.silent()
    p.run(200 * MS)
    assert p.sent()[0] == 0
    assert (p.mib("TCPLossProbes"), p.mib("TCPTimeouts")) == (0, 1)


# -- timeouts --------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc9293("MUST-19")
def test_the_rto_doubles_and_an_ack_of_new_data_takes_the_backoff_back() -> None:
    p = Sender(1, PLAIN_SYN)
    start = p.kernel.now
    rto = p.sk.icsk_rto
    assert 220 * MS <= rto <= 222 * MS  # srtt 20 ms + the least variance
    p.tx()
    times = []
    for _ in range(4):
        while p.silent():
            p.run(MS)
        times.append((p.kernel.now - start) // MS)
        start = p.kernel.now
    assert [round(t / (rto / MS)) for t in times] == [1, 2, 4, 8]
    assert p.sk.icsk_backoff == 4 and p.sk.snd_cwnd == 1
    assert p.mib("TCPTimeouts") == 4
    p.ack(1)
    assert p.sk.icsk_retransmits == 0
    p.write(1)
    p.tx()
    p.run(20 * MS)
    p.ack(2)
    assert p.sk.icsk_backoff == 0
    assert p.sk.icsk_rto < 300 * MS


def test_after_a_timeout_the_rest_is_retransmitted_in_slow_start() -> None:
    p = Sender(6, PLAIN_SYN)
    p.tx()
    p.run(230 * MS)
    assert p.sent() == [0]
    assert p.sk.icsk_ca_state == TCP_CA_Loss
    assert p.sk.snd_ssthresh == 5
    p.net.ipv4.sysctl_tcp_frto = 0
    p.sk.frto = False
    p.run(20 * MS)
    p.ack(1)
    assert p.sent() == [1, 2]
    p.run(20 * MS)
    p.ack(3)
    assert p.sent() == [3, 4, 5]
    p.run(20 * MS)
    p.ack(6)
    assert p.mib("TCPSlowStartRetrans") == 5
    assert p.mib("TCPTimeouts") == 1


def test_frto_sends_new_data_and_finds_a_spurious_timeout() -> None:
    p = Sender(0)
    p.net.ipv4.sysctl_tcp_early_retrans = 0  # no TLP first
    p.write(6)
    p.tx()
    cwnd = p.sk.snd_cwnd
    p.run(300 * MS)
    assert p.sent() == [0]
    assert p.sk.icsk_ca_state == TCP_CA_Loss and p.sk.frto
    p.write(2)
    p.tx()
    p.ack(1)  # the original was only late
    assert p.sent()[0] >= 6  # step 2.b: new data, nothing again
    p.ack(3)
    assert p.sk.icsk_ca_state == TCP_CA_Open
    assert p.mib("TCPSpuriousRTOs") == 1
    assert p.sk.snd_cwnd >= cwnd


def test_timestamps_tell_that_a_timeout_was_spurious() -> None:
    p = Peer()
    listener = p.listener(p.task, p.dport)
    p.rx("S", p.ISN, options=build_syn_options(1012, -1, True, True, 5000, 0))
    synack = p.tx1()
    p.run(20 * MS)
    opt = ParsedOptions()
    parse_tcp_options(synack.options, 0, len(synack.options), opt)

    def stamp(s: Segment) -> int:
        parse_tcp_options(s.options, 0, len(s.options), opt)
        return opt.tsval

    base = synack.seq + 1
    p.rx(".", p.ISN + 1, base, options=build_established_options(True, 5020, stamp(synack), None))
    fd = p.accept(p.task, listener)
    sk = tcp_sk(p.task, fd)
    p.net.ipv4.sysctl_tcp_early_retrans = 0
    assert p.send(p.task, fd, b"d" * 3000) == 3000
    first = p.tx()
    p.run(300 * MS)
    assert len(p.tx()) == 1 and sk.icsk_ca_state == TCP_CA_Loss
    p.rx(".", p.ISN + 1, base + 1000, options=build_established_options(True, 5300, stamp(first[0]), None))
    assert sk.icsk_ca_state == TCP_CA_Open
    assert p.net.net_statistics[snmp.LINUX_MIB_TCPLOSSUNDO] == 1
    assert sk.snd_cwnd >= 10


@pytest.mark.rfc9293("SHLD-8")
def test_an_ecn_echo_halves_the_window_once_and_is_answered_with_cwr() -> None:
    p = Peer()
    assert tcp_set_default_congestion_control(p.net, "reno") == 0
    listener = p.listener(p.task, p.dport)
    p.rx("SEW", p.ISN, options=SACK_SYN)
    synack = p.tx1()
    assert synack.flags == 0x52  # ECE on the SYN-ACK
    p.rx(".", p.ISN + 1, synack.seq + 1)
    fd = p.accept(p.task, listener)
    sk = tcp_sk(p.task, fd)
    assert p.send(p.task, fd, b"d" * 4000) == 4000
    assert [s.tos for s in p.tx()] == [2] * 4  # ECT(0)
    p.rx(".E", p.ISN + 1, synack.seq + 1001)
    assert sk.icsk_ca_state == TCP_CA_CWR and sk.snd_ssthresh == 5
    p.rx(".E", p.ISN + 1, synack.seq + 2001)
    assert sk.snd_ssthresh == 5
    assert p.send(p.task, fd, b"d" * 1000) == 1000
    assert p.tx1().flags & 0x80  # CWR


def test_marked_data_is_echoed_until_cwr_comes() -> None:
    p = Peer()
    listener = p.listener(p.task, p.dport)
    p.rx("SEW", p.ISN, options=SACK_SYN)
    synack = p.tx1()
    p.rx(".", p.ISN + 1, synack.seq + 1)
    p.accept(p.task, listener)
    from afinet.wire import ip as wire_ip
    from afinet.wire import tcp as wire_tcp
    from afinet.wire.checksum import csum_partial, csum_tcpudp_nofold
    from tests.net.ipv4.tcphost import A, B

    def marked(seq: int, flags: int, ecn: int) -> None:
        data = b"x" * 1000
        sum = csum_partial(data, 0, 1000, csum_tcpudp_nofold(B, A, 1020, 6, 0))
        th = wire_tcp.emit_csum(p.sport, p.dport, seq, synack.seq + 1, flags, 65535, 0, b"", sum)
        p.host.receive(wire_ip.emit(ecn, 1040, 1, 0x4000, 64, 6, B, A) + th + data)

    marked(p.ISN + 1, 0x10, 3)
    assert all(s.flags & 0x40 for s in p.tx())
    marked(p.ISN + 1001, 0x10, 2)
    assert all(s.flags & 0x40 for s in p.tx())
    marked(p.ISN + 2001, 0x90, 2)
    sent = p.tx()
    assert sent and not any(s.flags & 0x40 for s in sent)


def test_nothing_is_pending_when_all_is_acknowledged() -> None:
    p = Sender(3)
    p.tx()
    p.ack(3)
    p.run(SEC)
    assert p.silent()
    assert p.sk.icsk_pending == 0
