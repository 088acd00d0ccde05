"""A live connection in each of TCP's states, and everything that may be thrown at it: packets cut at every byte, wrong lengths and
checksums, options that lie about themselves, all 512 sets of flags, any numbers, LAND, martians, urgent pointers, ICMP errors.

Asserted each time: nothing is raised; the packet is accounted for (a drop with its reason, a counter, an answer, or what it did to
the connection); memory stays within the socket limits; a legitimate connection afterwards works; nothing is left (tests/leaks.py).
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.core import dev as dev_core
from afinet.net.core.skbuff import SkBuff, skb_truesize
from afinet.net.ipv4 import tcp_ipv4
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.snmp import (
    ICMP_MIB_CSUMERRORS,
    IPSTATS_MIB_CSUMERRORS,
    IPSTATS_MIB_INHDRERRORS,
    IPSTATS_MIB_INTRUNCATEDPKTS,
    LINUX_MIB_LISTENDROPS,
    SNMP4_IPSTATS_LIST,
    TCP_MIB_CSUMERRORS,
    TCP_MIB_INERRS,
    TCP_MIB_INSEGS,
)
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import SO_RCVBUF, SOL_SOCKET
from afinet.uapi.tcp import (
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
)
from afinet.wire import icmp as wire_icmp
from afinet.wire import ip as wire_ip
from afinet.wire import tcp as wire_tcp
from afinet.wire.checksum import csum_partial, csum_tcpudp_nofold
from tests.net.ipv4.iphost import addr
from tests.net.ipv4.tcphost import MS, MSS1460, SEC, A, B, Peer, Segment, syn_options, tcp_sk, ts_options

STATES = (
    "LISTEN",
    "SYN_SENT",
    "NEW_SYN_RECV",
    "SYN_RECV",  # of a simultaneous open
    "ESTABLISHED",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "CLOSE_WAIT",
    "CLOSING",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
)
NUMBERS = {
    "LISTEN": TCP_LISTEN,
    "SYN_SENT": TCP_SYN_SENT,
    "SYN_RECV": TCP_SYN_RECV,
    "ESTABLISHED": TCP_ESTABLISHED,
    "FIN_WAIT1": TCP_FIN_WAIT1,
    "FIN_WAIT2": TCP_FIN_WAIT2,
    "CLOSE_WAIT": TCP_CLOSE_WAIT,
    "CLOSING": TCP_CLOSING,
    "LAST_ACK": TCP_LAST_ACK,
    "CLOSE": TCP_CLOSE,
}
RCVBUF = 20_000
ISN = Peer.ISN
# What every IP packet counts, good or bad; the rest of the counters says what became of it.
ALWAYS = tuple(
    i
    for i, name in enumerate(SNMP4_IPSTATS_LIST)
    if name in ("InReceives", "InDelivers", "InOctets", "InNoECTPkts", "InECT1Pkts", "InECT0Pkts", "InCEPkts", "InMcastPkts",
                "InBcastPkts", "InMcastOctets", "InBcastOctets")
)  # fmt: skip


def tcp_packet(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    win: int = 65535,
    urg: int = 0,
    options: bytes = b"",
    data: bytes = b"",
    saddr: int = B,
    daddr: int = A,
) -> bytes:
    """A right IP packet around a right segment."""
    sum = csum_partial(data, 0, len(data), csum_tcpudp_nofold(saddr, daddr, 20 + len(options) + len(data), 6, 0))
    th = wire_tcp.emit_csum(sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, flags, win, urg, options, sum)
    return wire_ip.emit(0, 20 + len(th) + len(data), 1, 0x4000, 64, 6, saddr, daddr) + th + data


def with_header_checksum(packet: bytes, length: int) -> bytes:
    """The packet saying that it is `length` bytes long, its header's checksum right."""
    vi, tos, _, id, off, ttl, protocol, _, saddr, daddr = wire_ip.parse(packet, 0)
    assert vi == 0x45
    return wire_ip.emit(tos, length, id, off, ttl, protocol, saddr, daddr) + packet[20:]


def resum(packet: bytes) -> bytes:
    """The packet with its TCP checksum made right again."""
    vi, _, _, _, _, _, _, _, saddr, daddr = wire_ip.parse(packet, 0)
    at = (vi & 15) * 4
    th = packet[at : at + 16] + b"\0\0" + packet[at + 18 :]
    sum = csum_partial(th, 0, len(th), csum_tcpudp_nofold(saddr, daddr, len(th), 6, 0))
    while sum > 0xFFFF:
        sum = (sum & 0xFFFF) + (sum >> 16)
    return packet[:at] + th[:16] + (~sum & 0xFFFF).to_bytes(2, "big") + th[18:]


def requests(sk: TcpSock) -> int:
    """Connections in the making at a listener."""
    queue = sk.icsk_accept_queue
    return queue.qlen if queue is not None else 0


class Target(Peer):
    """A host with a listener on port 80 and one on port 81, where connections in any state are made."""

    def __init__(self) -> None:
        super().__init__(b"hostile")
        self.port80 = self.listener(self.task, 80, 16)
        self.port81 = self.listener(self.task, 81, 16)
        self.setsockopt(self.task, self.port80, SOL_SOCKET, SO_RCVBUF, RCVBUF // 2)
        self.next_port = 5000

    def put(self, packet: bytes, cut: int = -1) -> None:
        """The packet arrives, in one piece or with its end in another."""
        head, rest = (packet, b"") if cut < 0 else (packet[:cut], packet[cut:])
        skb = SkBuff(head, [rest] if rest else None, len(rest), skb_truesize(len(packet)))
        skb.dev = self.host.dev
        skb.protocol = ETH_P_IP
        dev_core.netif_rx(skb)
        self.kernel.run(self.kernel.now)

    def fingerprint(self) -> tuple[object, ...]:
        """Everything that a packet may leave a trace in."""
        net = self.net
        ip_statistics = list(net.ip_statistics)
        for i in ALWAYS:
            ip_statistics[i] = 0
        tcp_statistics = list(net.tcp_statistics)
        tcp_statistics[TCP_MIB_INSEGS] = 0
        assert self.kernel.inet_hashinfo is not None
        return (
            sum(net.drop_reasons),
            ip_statistics,
            tcp_statistics,
            list(net.net_statistics),
            list(net.icmp_statistics),
            len(self.host.link.sent) + len(self.host.farlink.sent),
            len(self.kernel.inet_hashinfo.ehash),
        )

    def still_works(self) -> None:
        """A legitimate connection to port 81: opened, data both ways, closed by the peer."""
        self.tx()
        self.sport, self.dport = 60000, 81
        isn = self.handshake(MSS1460)
        fd = self.accept(self.task, self.port81)
        self.rx("P.", ISN + 1, isn + 1, b"ping")
        assert self.recv(self.task, fd, 100) == b"ping"
        assert self.send(self.task, fd, b"pong") == 4
        assert [s.data for s in self.tx() if s.data] == [b"pong"]
        self.rx("F.", ISN + 5, isn + 5)
        assert self.recv(self.task, fd, 100) == b""
        assert self.close(self.task, fd) == 0
        assert self.tx()[-1].flags == 0x11
        self.rx(".", ISN + 6, isn + 6)
        self.tx()

    def memory_is_bounded(self) -> None:
        """No more than the sockets' buffers, twice over as Linux lets them, and no more requests than the backlog."""
        assert tcp_ipv4.tcp_prot(self.kernel).memory_allocated * 4096 <= 4 * (RCVBUF + 131072)
        for fd in (self.port80, self.port81):
            sk = tcp_sk(self.task, fd)
            assert sk.sk_ack_backlog <= 17 and requests(sk) <= 17


class Live:
    """A connection in `state`. `seq` is what the host expects next from its peer, `ack` what it has sent."""

    def __init__(self, p: Target, state: str, options: bytes = MSS1460) -> None:
        self.p, self.state = p, state
        self.fd = -1
        self.sk: TcpSock = tcp_sk(p.task, p.port80)
        p.next_port += 1
        self.sport, self.dport = p.sport, p.dport = p.next_port, 80
        self.seq, self.ack = ISN, 0
        if state == "LISTEN":
            pass
        elif state in ("SYN_SENT", "SYN_RECV"):
            self.active(options)
        elif state == "NEW_SYN_RECV":
            p.rx("S", ISN, options=options)
            self.seq, self.ack = ISN + 1, p.tx1().seq + 1
        else:
            self.passive(options)
        p.tx()
        self.check()

    def active(self, options: bytes) -> None:
        p = self.p
        self.fd = p.socket(p.task, nonblock=True)
        self.sk = tcp_sk(p.task, self.fd)
        assert p.connect(p.task, self.fd, B, self.sport) < 0
        syn = p.tx1()
        self.dport = p.dport = syn.sport
        self.ack = syn.seq + 1
        if self.state == "SYN_RECV":
            p.rx("S", ISN, options=options)
            self.seq = ISN + 1

    def passive(self, options: bytes) -> None:
        p, state = self.p, self.state
        isn = p.handshake(options)
        self.fd = p.accept(p.task, p.port80)
        self.sk = tcp_sk(p.task, self.fd)
        self.seq, self.ack = ISN + 1, isn + 1
        if state in ("FIN_WAIT1", "FIN_WAIT2", "CLOSING", "TIME_WAIT"):
            assert p.shutdown(p.task, self.fd, 1) == 0
            self.ack += 1
        if state in ("FIN_WAIT2", "TIME_WAIT"):
            p.rx(".", self.seq, self.ack)
        if state == "CLOSING":
            p.rx("F.", self.seq, self.ack - 1)
        if state in ("CLOSE_WAIT", "LAST_ACK", "TIME_WAIT"):
            p.rx("F.", self.seq, self.ack)
        if state in ("CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSING"):
            self.seq += 1
        if state == "LAST_ACK":
            self.close()
            self.ack += 1
        if state == "CLOSE":
            p.rx("R", self.seq)

    def check(self) -> None:
        if self.state == "NEW_SYN_RECV":
            assert requests(self.sk) >= 1
        elif self.state == "TIME_WAIT":
            assert self.p.net.ipv4.tw_count >= 1
        else:
            assert self.sk.sk_state == NUMBERS[self.state], (self.state, self.sk.sk_state)

    def close(self) -> None:
        if self.fd >= 0:
            assert self.p.close(self.p.task, self.fd) == 0
            self.fd = -1

    def segment(
        self, flags: int, dseq: int = 0, dack: int = 0, win: int = 65535, urg: int = 0, options: bytes = b"", data: bytes = b""
    ) -> bytes:
        return tcp_packet(self.sport, self.dport, self.seq + dseq, self.ack + dack, flags, win, urg, options, data)

    def trace(self) -> tuple[object, ...]:
        sk = self.sk
        return (
            *self.p.fingerprint(),
            sk.sk_state,
            sk.rcv_nxt,
            sk.snd_una,
            sk.snd_wnd,
            sk.sk_rmem_alloc,
            sk.sk_err,
            sk.sk_err_soft,
            sk.sk_receive_queue.qlen,
            sk.sk_drops,
            requests(sk),
        )

    def accounted(self, packet: bytes, cut: int = -1) -> None:
        """The packet arrives and leaves a trace."""
        before = self.trace()
        self.p.put(packet, cut)
        assert self.trace() != before, f"{self.state}: no trace of {packet.hex()}"


# -- what is not a segment at all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_a_packet_cut_at_every_byte_is_dropped_and_counted(state: str) -> None:
    """Cut in the header of IP, of TCP, in an option, in the data; with the length that IP says, and with the one that is left."""
    p = Target()
    live = Live(p, state)
    whole = live.segment(0x18, options=MSS1460, data=b"data")
    for n in range(len(whole)):
        live.accounted(whole[:n], n // 2)
        if n >= 20:
            live.accounted(with_header_checksum(whole[:n], n))
    assert p.silent()
    live.check()
    assert p.net.ip_statistics[IPSTATS_MIB_INTRUNCATEDPKTS] == len(whole) - 20
    p.memory_is_bounded()
    p.still_works()


@pytest.mark.rfc9293("MUST-3")
@pytest.mark.parametrize("state", STATES)
def test_every_wrong_bit_is_seen_by_a_checksum(state: str) -> None:
    p = Target()
    live = Live(p, state)
    whole = live.segment(0x18, options=MSS1460, data=b"data")
    tcp, ip = p.net.tcp_statistics, p.net.ip_statistics
    for i in range(8 * len(whole)):
        before = tcp[TCP_MIB_CSUMERRORS] + ip[IPSTATS_MIB_CSUMERRORS] + ip[IPSTATS_MIB_INHDRERRORS] + tcp[TCP_MIB_INERRS]
        drops = sum(p.net.drop_reasons)
        bad = bytearray(whole)
        bad[i >> 3] ^= 1 << (i & 7)
        live.accounted(bytes(bad), i % len(whole))
        assert sum(p.net.drop_reasons) == drops + 1
        after = tcp[TCP_MIB_CSUMERRORS] + ip[IPSTATS_MIB_CSUMERRORS] + ip[IPSTATS_MIB_INHDRERRORS] + tcp[TCP_MIB_INERRS]
        # Of a data offset that points past the end, the length alone is counted.
        assert after > before or i >> 3 == 32
    assert p.silent()
    live.check()
    p.still_works()


@pytest.mark.parametrize("state", STATES)
def test_any_data_offset_and_any_length_in_ip(state: str) -> None:
    """The TCP checksum is right each time: only the lengths are wrong."""
    p = Target()
    live = Live(p, state)
    whole = live.segment(0x18, dseq=-1000, options=MSS1460, data=b"data" * 4)
    for doff in range(16):
        packet = whole[:32] + bytes([doff << 4 | whole[32] & 15]) + whole[33:]
        live.accounted(resum(packet), 33)
    for length in (0, 1, 19, 20, 21, 39, 40, 41, len(whole) - 1, len(whole) + 1, 1500, 65535):
        live.accounted(with_header_checksum(whole, length))
    p.tx()
    p.memory_is_bounded()
    p.still_works()


# -- what is a segment -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
def test_all_512_sets_of_flags_are_answered_or_dropped(state: str) -> None:
    """In the window, with a byte of data, an urgent pointer and a good ACK; a new connection for each. What comes out is
    at most two packets a time, and none answers a reset."""
    p = Target()
    for flags in range(512):
        live = Live(p, state)
        live.accounted(live.segment(flags, urg=1, data=b"x"))
        sent = p.tx()
        assert len(sent) <= 2, (flags, sent)
        if flags & 4:
            assert sent == [] or state not in ("LISTEN", "SYN_SENT", "CLOSE"), (flags, sent)
            assert all(s.flags & 4 == 0 for s in sent)
        live.close()
        # Have done with it: what still lives is reset, as is what came of a SYN.
        p.put(tcp_packet(live.sport, live.dport, live.seq, 0, 4))
        p.put(tcp_packet(live.sport, live.dport, tcp_nxt(live, sent), 0, 4))
        while p.poll(p.task, p.port80):
            p.close(p.task, p.accept(p.task, p.port80))
        p.tx()
        if flags % 64 == 63:
            p.run(200 * SEC)
            p.tx()
    p.memory_is_bounded()
    p.still_works()


def tcp_nxt(live: Live, sent: list[Segment]) -> int:
    """What the host expects from this peer after what it sent."""
    acks = [s.ack for s in sent if s.flags & 0x10]
    return acks[-1] if acks else live.seq


OPTIONS = (
    b"\x02\x00\x00\x00",  # length 0
    b"\x02\x01\x05\xb4",  # length 1
    b"\x02\x03\x05\x00",  # MSS a byte short
    b"\x02\xff\x05\xb4",  # past the end
    b"\x01\x01\x01\x02",  # a kind at the very end, without a length
    b"\x01\x01\x02\x04",  # MSS without its value
    b"\x03\x03\xff\x00",  # window scale 255
    b"\x03\x04\x07\x00",
    b"\x04\x03\x00\x00",
    b"\x05\x02\x00\x00",  # SACK without a block
    b"\x05\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x05\x0a" + b"\xff" * 8 + b"\x00\x00",
    b"\x05\x22" + bytes(range(32)) + b"\x01\x01",  # four blocks of nonsense
    b"\x05\x09" + bytes(7) + b"\x01\x01\x01",
    b"\x08\x0a" + b"\xff" * 8 + b"\x01\x01",  # timestamps nobody agreed on
    b"\x08\x09" + bytes(7) + b"\x01\x01\x01",
    b"\x13\x12" + bytes(16) + b"\x00\x00",  # an MD5 signature
    b"\x1d\x04\x00\x00",  # TCP-AO
    b"\x22\x02\x00\x00",  # fast open: a cookie is asked for
    b"\x22\x12" + bytes(16) + b"\x01\x01",
    b"\xfd\x04\xf9\x89",  # experiments
    b"\xfe\x02\x00\x00",
    b"\x00" * 40,
    b"\x01" * 40,
    b"\x02\x04\x00\x00",  # MSS 0
    b"\x02\x04\xff\xff",
    b"\x00\xff\xff\xff",  # an end, and rubbish behind
)  # fmt: skip


@pytest.mark.rfc9293("MUST-7")
@pytest.mark.parametrize("state", STATES)
def test_options_that_lie_about_themselves(state: str) -> None:
    p = Target()
    live = Live(p, state)
    for options in OPTIONS:
        for flags, dseq in ((0x10, -1), (0x02, -100), (0x12, 0), (0x14, 70000), (0x18, 1000)):
            live.accounted(live.segment(flags, dseq=dseq, options=options, data=b"x" if flags & 8 else b""))
    p.tx()
    live.close()
    p.memory_is_bounded()
    p.run(200 * SEC)
    p.still_works()


MARTIANS = ("0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255", "10.0.0.1", "192.0.2.1")
# Linux takes a subnet's broadcast address for a source like any other (seen on 6.18), and answers it.
ODD_SOURCES = ("10.0.0.255", "10.0.0.0", "192.0.2.255")


@pytest.mark.parametrize("state", STATES)
def test_land_and_martians_get_no_answer(state: str) -> None:
    """From a source that cannot be, or from oneself (LAND); to a destination that is not a host. The state stays."""
    p = Target()
    live = Live(p, state)
    for source in MARTIANS + ODD_SOURCES:
        for flags in (0x02, 0x10, 0x12, 0x04, 0x11):
            for sport, dport in ((live.sport, live.dport), (80, 80)):
                packet = tcp_packet(sport, dport, live.seq, live.ack, flags, saddr=addr(source))
                live.accounted(packet)
    for target in ("10.0.0.255", "255.255.255.255", "224.0.0.1", "127.0.0.1", "0.0.0.0", "240.0.0.1"):
        for flags in (0x02, 0x10, 0x04):
            live.accounted(tcp_packet(live.sport, live.dport, live.seq, live.ack, flags, daddr=addr(target)))
    p.run(10 * SEC)
    answered = {s.daddr for s in p.tx()} | {Segment(packet).daddr for packet in p.host.farlink.sent}
    assert answered <= {B, *map(addr, ODD_SOURCES)}
    if state not in ("SYN_SENT", "NEW_SYN_RECV", "SYN_RECV"):  # these repeat themselves
        live.check()
    p.still_works()


@pytest.mark.parametrize("state", STATES)
def test_icmp_errors_of_all_kinds_about_it(state: str) -> None:
    """About the connection, with numbers in and out of its window, whole and cut; MTUs of 0 and 65535 among them."""
    p = Target()
    live = Live(p, state)
    before = p.net.icmp_statistics[ICMP_MIB_CSUMERRORS]
    for dseq in (0, -1, 100_000, 2**31):
        inner = tcp_packet(live.dport, live.sport, live.ack - 1 + dseq, live.seq, 0x10, saddr=A, daddr=B)
        for type in (3, 4, 5, 11, 12):
            for code in (0, 1, 2, 3, 4, 5, 13, 15, 16, 255):
                for rest in (0, 68, 1400, 65535):
                    body = wire_icmp.emit(type, code, rest, inner[:28])
                    if type == 3 and code in (2, 3) and dseq == 0 and state in ("SYN_SENT", "SYN_RECV"):
                        continue  # that ends it, as it should: the next test
                    p.put(wire_ip.emit(0, 20 + len(body), 1, 0, 64, 1, B, A) + body)
    for n in range(8, 28):
        body = wire_icmp.emit(3, 1, 0, inner[:n])
        p.put(wire_ip.emit(0, 20 + len(body), 1, 0, 64, 1, B, A) + body)
    assert p.net.icmp_statistics[ICMP_MIB_CSUMERRORS] == before
    if state not in ("SYN_SENT", "SYN_RECV", "NEW_SYN_RECV"):
        live.check()
    p.memory_is_bounded()
    p.tx()
    p.still_works()


# -- anything at all -------------------------------------------------------------------------------------------------------

NEAR = st.sampled_from([0, 0, 0, 1, -1, 2, -2, 100, -100, 1460, RCVBUF - 1, RCVBUF, RCVBUF + 1, 65535, 2**31 - 1, 2**31, 2**32 - 1])
NUMBER = st.one_of(NEAR, st.integers(0, 2**32 - 1))
ANY_OPTIONS = st.one_of(
    st.sampled_from([b"", b"", MSS1460, syn_options(1460, 14, True, True, 1, 0), syn_options(1, 0, True, True, 0, 0), *OPTIONS]),
    st.builds(lambda a, b: ts_options(True, a, b, None), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.binary(max_size=40).map(lambda b: b[: len(b) & ~3]),
)


@st.composite
def hostile_packet(draw: st.DrawFn, live: Live) -> bytes:
    packet = live.segment(
        draw(st.one_of(st.sampled_from([0x10, 0x18, 0x11, 0x02, 0x12, 0x04, 0x14, 0x30]), st.integers(0, 511))),
        draw(NUMBER),
        draw(NUMBER),
        draw(st.sampled_from([0, 1, 536, 65535])),
        draw(st.sampled_from([0, 0, 1, 2, 100, 65535])),
        draw(ANY_OPTIONS),
        draw(st.binary(max_size=30)) * draw(st.sampled_from([1, 1, 40])),
    )
    harm = draw(st.integers(0, 9))
    if harm == 0:
        packet = packet[: draw(st.integers(0, len(packet)))]
    elif harm == 1:
        at = draw(st.integers(0, len(packet) - 1))
        packet = packet[:at] + bytes([packet[at] ^ 1 << draw(st.integers(0, 7))]) + packet[at + 1 :]
    elif harm == 2:
        at = draw(st.integers(20, len(packet) - 1))
        packet = resum(packet[:at] + bytes([draw(st.integers(0, 255))]) + packet[at + 1 :])
    elif harm == 3:
        packet = with_header_checksum(packet, draw(st.integers(0, 65535)))
    return packet


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
@pytest.mark.parametrize("state", STATES)
def test_any_packets_to_a_connection_in_any_state(state: str, data: st.DataObject) -> None:
    p = Target()
    live = Live(p, state, data.draw(st.sampled_from([MSS1460, b"", syn_options(1460, 7, True, True, 1, 0)]), "agreed"))
    for _ in range(data.draw(st.integers(1, 12), "packets")):
        packet = data.draw(hostile_packet(live))
        live.accounted(packet, data.draw(st.integers(-1, len(packet))))
        for s in p.tx():
            if s.flags & 4 == 0 and s.sport == live.dport and s.dport == live.sport:
                live.seq, live.ack = s.ack or live.seq, s.seq + len(s.data)
        p.memory_is_bounded()
        wait = data.draw(st.sampled_from([0, 0, 0, 40, 300, 5000]))
        if wait:
            p.run(wait * MS)
    p.run(200 * SEC)
    p.still_works()


# -- in great numbers ------------------------------------------------------------------------------------------------------


def test_a_flood_of_syns_leaves_a_bounded_number_of_requests_and_a_cookie_gets_through() -> None:
    """Sources that never answer: the backlog's worth of requests, the rest dropped or answered by a cookie, no timer each."""
    p = Target()
    timers = p.kernel.timers.pending
    for i in range(3000):
        p.put(tcp_packet(1024 + i, 80, i * 7, 0, 2, options=MSS1460, saddr=addr("10.0.0.2") + i % 200))
    sk = tcp_sk(p.task, p.port80)
    assert requests(sk) <= 17
    assert p.kernel.timers.pending - timers <= 20
    assert p.net.net_statistics[LINUX_MIB_LISTENDROPS] > 0 or len(p.tx()) >= 3000
    p.memory_is_bounded()
    p.still_works()


@pytest.mark.parametrize("state", ["ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"])
@pytest.mark.parametrize("size", [1, 100, 1460])
def test_the_queues_of_a_receiver_are_bounded(state: str, size: int) -> None:
    """Segments with holes between them, in order and backwards: the out-of-order queue is pruned, never longer than the buffer; and
    in order again: the receive queue ends at the window."""
    p = Target()
    live = Live(p, state)
    limit = live.sk.sk_rcvbuf
    for dseq in [*range(2, 30000, 2 * size), *range(30000, 2, -2 * size)]:
        p.put(live.segment(0x10, dseq=dseq, data=b"o" * size))
        assert live.sk.sk_rmem_alloc <= limit + 3000, (dseq, live.sk.sk_rmem_alloc)
    for dseq in range(0, 40000, size):
        if dseq < 4000 or size > 1:
            p.put(live.segment(0x10, dseq=dseq, data=b"i" * size))
            assert live.sk.sk_rmem_alloc <= limit + 3000
    p.memory_is_bounded()
    got = b""
    while (piece := p.recv(p.task, live.fd, 65536, 0x40)) and isinstance(piece, bytes):
        got += piece
    assert got.startswith(b"i")
    p.tx()
    p.still_works()


def test_urgent_pointers_anywhere_lose_no_byte_but_the_urgent_one() -> None:
    p = Target()
    live = Live(p, "ESTABLISHED")
    sent = b""
    for i, urg in enumerate([0, 1, 2, 5, 6, 7, 100, 65535, 1, 0, 3]):
        data = bytes([65 + i]) * 5
        live.accounted(live.segment(0x38, dseq=len(sent), urg=urg, data=data))
        sent += data
    got = b""
    for _ in range(100):
        piece = p.recv(p.task, live.fd, 100, 0x40)
        if not isinstance(piece, bytes) or not piece:
            break
        got += piece
    # A pointer far ahead marks one byte; each later one overrides it, and the byte marked before returns to the stream.
    assert len(sent) - 2 <= len(got) <= len(sent)
    for i in range(11):
        assert 3 <= got.count(bytes([65 + i])) <= 5
    p.tx()
    p.still_works()


def test_a_zero_window_for_ever_costs_one_probe_at_a_time() -> None:
    p = Target()
    live = Live(p, "ESTABLISHED")
    p.put(live.segment(0x10, win=0))
    assert syscalls.sys_sendto(p.task, Kiocb(), live.fd, b"x" * 5000, 0x40, b"") > 0
    for _ in range(12):
        p.run(120 * SEC)
        assert len(p.tx()) <= 12
        p.put(live.segment(0x10, win=0))
    live.check()
    p.still_works()


def test_an_exit_in_every_state_leaves_nothing() -> None:
    """Whatever the states of a process's sockets, its end and time end them all (tests/leaks.py looks)."""
    p = Target()
    for state in STATES:
        for _ in range(3):
            Live(p, state)
    bound = p.socket(p.task)
    assert syscalls.sys_bind(p.task, bound, pack_sockaddr_in(0, 9999)) == 0
