"""Storms: what a machine does while somebody floods it, in virtual time, packet by packet.

`python -m tests.storms` runs each with 100,000 packets and prints a line for it; test_storms.py runs them smaller. Asserted each
time: the memory that is charged and every queue stay within their limits; the counters move that Linux moves; a legitimate client
connects before, in the middle and afterwards; and when the storm is over and its connections are closed, nothing is left
(tests/leaks.py).

The client comes to another listener than the one that is flooded: SYN cookies, by which Linux serves that one too, come later.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from afinet.drivers.tun import TunIO, tun_newlink, tun_poll
from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.core import dev as dev_core
from afinet.net.core.neighbour import neigh_add
from afinet.net.ipv4 import devinet
from afinet.net.ipv4.fib_frontend import ip_route_add
from afinet.uapi.errno import EAGAIN
from afinet.uapi.snmp import SNMP4_ICMP_LIST, SNMP4_IPSTATS_LIST, SNMP4_NET_LIST, SNMP4_TCP_LIST, SNMP4_UDP_LIST
from afinet.uapi.socket import MSG_DONTWAIT, SO_SNDBUF, SOL_SOCKET
from afinet.uapi.tcp import TCP_ESTABLISHED
from afinet.wire import arp as wire_arp
from afinet.wire import ethernet
from afinet.wire.tcp_options import build_syn_options
from tests import leaks
from tests.net.ipv4.iphost import addr, icmp_packet, packet
from tests.net.ipv4.tcphost import MSS1460, SEC, A, B, Peer, Segment, tcp_sk
from tests.test_hostile_tcp import tcp_packet

CLIENT = addr("10.0.0.77")
FLOODED, OTHER = 80, 81
BACKLOG = 128
GAP = 10_000  # ns between two packets of a storm: 100,000 a second


class Victim(Peer):
    """10.0.0.1, with a listener on each of two ports; everything else is behind 10.0.0.2."""

    def __init__(self) -> None:
        super().__init__(b"storm")
        assert ip_route_add(self.net, 0, 0, B) == 0
        self.flooded = self.listener(self.task, FLOODED, BACKLOG)
        self.other = self.listener(self.task, OTHER, BACKLOG)
        self.chance = random.Random(7)
        self.clients = 0
        self.answers = 0  # packets sent
        self.fds: list[int] = []

    def put(self, packet: bytes) -> None:
        """A packet comes in, and GAP passes."""
        self.host.receive(packet)
        self.answers += len(self.host.link.sent)
        self.host.link.sent.clear()
        self.run(GAP)

    def answer(self, packet: bytes) -> list[Segment]:
        """A packet comes in; what TCP sends at once."""
        self.tx()
        self.host.receive(packet)
        sent = self.tx()
        self.answers += len(sent)
        return sent

    def legitimate_client(self) -> bool:
        """Connect to the other port, say something, be answered, and close."""
        self.clients += 1
        sport, me = 20000 + self.clients, CLIENT

        def to(seq: int, ack: int, flags: int, data: bytes = b"") -> list[Segment]:
            raw = tcp_packet(sport, OTHER, seq, ack, flags, options=MSS1460 if flags & 2 else b"", data=data, saddr=me)
            return [s for s in self.answer(raw) if s.daddr == me and s.dport == sport]

        synack = to(1000, 0, 2)
        if len(synack) != 1 or synack[0].flags != 0x12:
            return False
        isn = synack[0].seq
        to(1001, isn + 1, 0x10)
        fd, _ = syscalls.sys_accept4(self.task, Kiocb(), self.other, 0x800)
        if fd < 0:
            return False
        to(1001, isn + 1, 0x18, b"ping")
        ok = self.recv(self.task, fd, 100, MSG_DONTWAIT) == b"ping"
        self.tx()
        ok = ok and self.send(self.task, fd, b"pong", MSG_DONTWAIT) == 4
        ok = ok and [s.data for s in self.tx() if s.daddr == me] == [b"pong"]
        to(1005, isn + 5, 0x11)
        self.close(self.task, fd)
        self.tx()
        to(1006, isn + 6, 0x10)
        return ok

    def connection(self, options: bytes = MSS1460, win: int = 65535, sport: int = 0) -> tuple[int, int, int]:
        """(descriptor, the peer's port, our initial sequence number) of a connection to the flooded port; the peer is at 1001."""
        sport = sport or 30000 + len(self.fds)
        synack = self.answer(tcp_packet(sport, FLOODED, 1000, 0, 2, win, options=options))[0]
        self.answer(tcp_packet(sport, FLOODED, 1001, synack.seq + 1, 0x10, win))
        fd = self.accept(self.task, self.flooded, 0x800)
        self.fds.append(fd)
        return fd, sport, synack.seq

    def end(self) -> None:
        """The storm's connections are closed, by a peer that is not there any more."""
        for fd in self.fds:
            self.close(self.task, fd)
        self.fds.clear()
        self.tx()

    def charged(self) -> int:
        """Bytes charged to anybody."""
        net = self.net
        total = sum(prot.memory_allocated for prot in self.kernel.proto_list) * 4096
        assert net.ipv4.fqdir is not None
        total += net.ipv4.fqdir.mem
        return total + sum(n.arp_queue_len_bytes for n in net.arp_tbl.hash.values()) if net.arp_tbl is not None else total

    def queued(self) -> int:
        """Connections, requests and TIME_WAITs, datagrams in pieces, neighbours: whatever a packet can make an entry of."""
        net, hashinfo = self.net, self.kernel.inet_hashinfo
        assert hashinfo is not None and net.ipv4.fqdir is not None and net.arp_tbl is not None
        return len(hashinfo.ehash) + len(net.ipv4.fqdir.queues) + len(net.arp_tbl.hash)

    def counters(self) -> dict[str, int]:
        net = self.net
        found: dict[str, int] = {}
        for prefix, names, values in (
            ("Ip", SNMP4_IPSTATS_LIST, net.ip_statistics),
            ("Icmp", SNMP4_ICMP_LIST, net.icmp_statistics),
            ("Tcp", SNMP4_TCP_LIST, net.tcp_statistics),
            ("Udp", SNMP4_UDP_LIST, net.udp_statistics),
            ("TcpExt", SNMP4_NET_LIST, net.net_statistics),
        ):
            found.update((prefix + name, values[i]) for i, name in enumerate(names))
        return found


@dataclass
class Result:
    """What came of a storm."""

    name: str
    packets: int = 0
    answers: int = 0
    peak: int = 0  # bytes charged
    queued: int = 0  # entries, at most
    moved: dict[str, int] = field(default_factory=dict)  # counters
    clients: list[bool] = field(default_factory=list)  # before, in the middle, after
    left: list[str] = field(default_factory=list)


Storm = Callable[[Victim, int], Iterator[None]]


def run_storm(name: str, n: int) -> Result:
    """One storm of about `n` packets."""
    storm, check = STORMS[name]
    v = Victim()
    result = Result(name)
    result.clients.append(v.legitimate_client())
    before, charged = v.counters(), v.charged()
    for _ in storm(v, n):
        result.packets += 1
        if result.packets & 31 == 0:
            result.peak = max(result.peak, v.charged())
            result.queued = max(result.queued, v.queued())
        if result.packets == n // 2:
            middle = v.counters()
            result.clients.append(v.legitimate_client())
            for key, value in v.counters().items():
                before[key] += value - middle[key]  # the client's own do not count
    result.moved = {k: d for k, value in v.counters().items() if (d := value - before[k])}
    result.answers = v.answers
    v.end()
    v.run(200 * SEC)
    result.clients.append(v.legitimate_client())
    v.run(1500 * SEC)
    v.tx()
    assert v.charged() == charged, (v.charged(), charged)
    result.left = leaks.close_and_check([v.kernel])
    check(result, v)
    assert result.clients == [True, True, True], result
    assert result.left == [], result.left
    return result


# -- the handshake ---------------------------------------------------------------------------------------------------------


def syn(v: Victim, n: int) -> Iterator[None]:
    """Each SYN from another address, and no answer to the SYN-ACK."""
    for i in range(n):
        v.put(tcp_packet(1024 + i % 60000, FLOODED, v.chance.getrandbits(32), 0, 2, options=MSS1460, saddr=0x0B000000 + i))
        yield


def check_syn(r: Result, v: Victim) -> None:
    """A request for each place in the backlog; the others are dropped, and counted twice, as Linux does without cookies."""
    taken = r.packets - r.moved["TcpExtListenDrops"]
    assert BACKLOG <= taken <= BACKLOG + 1 and r.moved["TcpExtTCPReqQFullDrop"] == r.packets - taken
    assert r.queued <= BACKLOG + 8 and r.peak == 0


def half_open(v: Victim, n: int) -> Iterator[None]:
    """Handshakes from ever new addresses, completed; then silence, and nobody accepts them."""
    for i in range(n // 2):
        saddr, sport = 0x0B000000 + i, 1024 + i % 60000
        sent = v.answer(tcp_packet(sport, FLOODED, 1000, 0, 2, options=MSS1460, saddr=saddr))
        v.run(GAP)
        yield
        v.put(tcp_packet(sport, FLOODED, 1001, sent[0].seq + 1 if sent else 1, 0x10, saddr=saddr))
        yield


def check_half_open(r: Result, v: Victim) -> None:
    """The accept queue takes one more than the backlog. Then SYNs are dropped: ListenOverflows, and ListenDrops with it."""
    assert r.moved["TcpPassiveOpens"] == BACKLOG + 1
    assert r.moved["TcpExtListenOverflows"] == r.moved["TcpExtListenDrops"] == r.packets // 2 - (BACKLOG + 1)
    assert r.queued <= BACKLOG + 8


# -- segments to nobody, and to somebody else's connection -----------------------------------------------------------------


def blind(v: Victim, n: int, flags: int) -> Iterator[None]:
    """A quarter each to a closed port, to the listener, and to a connection twice: with its ports, and numbers that are guessed."""
    fd, sport, isn = v.connection()
    sk = tcp_sk(v.task, fd)
    for i in range(n):
        seq, ack = v.chance.getrandbits(32), v.chance.getrandbits(32)
        if i & 1:
            v.put(tcp_packet(sport, FLOODED, 1001 + (seq % 60000 + 1 if i & 2 else seq), ack, flags))
        else:
            v.put(tcp_packet(1024 + i % 60000, FLOODED if i & 2 else 82, seq, ack, flags, saddr=0x0B000000 + i))
        yield
    assert sk.sk_state == TCP_ESTABLISHED and sk.rcv_nxt == 1001
    v.answer(tcp_packet(sport, FLOODED, 1001, isn + 1, 0x18, data=b"alive"))
    assert v.recv(v.task, fd, 100) == b"alive"


def ack(v: Victim, n: int) -> Iterator[None]:
    return blind(v, n, 0x10)


def check_ack(r: Result, v: Victim) -> None:
    """A reset for each that belongs to nothing; the connection answers a challenge twice a second at most (RFC 5961)."""
    assert r.moved["TcpOutRsts"] == r.packets // 2
    limit = 2 * (r.packets * GAP // SEC + 1) + 2
    assert r.moved.get("TcpExtTCPChallengeACK", 0) <= limit
    assert r.answers - r.moved["TcpOutRsts"] <= limit + r.packets // 100 + 16


def rst(v: Victim, n: int) -> Iterator[None]:
    return blind(v, n, 4)


def check_rst(r: Result, v: Victim) -> None:
    """None is answered by a reset, and none that does not hit rcv_nxt ends the connection."""
    assert "TcpOutRsts" not in r.moved and "TcpEstabResets" not in r.moved
    assert 0 < r.moved["TcpExtTCPChallengeACK"] <= 2 * (r.packets * GAP // SEC + 1) + 2


def fin(v: Victim, n: int) -> Iterator[None]:
    return blind(v, n, 0x11)


def check_fin(r: Result, v: Victim) -> None:
    assert r.moved["TcpOutRsts"] == r.packets // 2
    assert r.moved.get("TcpExtTCPChallengeACK", 0) <= 2 * (r.packets * GAP // SEC + 1) + 2


# -- peers that do not read ------------------------------------------------------------------------------------------------


def slow_reader(v: Victim, n: int) -> Iterator[None]:
    """Connections to a program that writes all it can, and peers that never open their windows but answer each probe."""
    count = max(min(n // 500, 100), 4)
    peers = []
    for _ in range(count):
        fd, sport, isn = v.connection(win=0)
        while v.send(v.task, fd, bytes(4096), MSG_DONTWAIT) > 0:
            pass
        assert v.send(v.task, fd, b"x", MSG_DONTWAIT) == -EAGAIN
        peers.append((sport, isn))
    for i in range(n):
        sport, isn = peers[i % count]
        v.put(tcp_packet(sport, FLOODED, 1001, isn + 1, 0x10, 0))
        if i % 1000 == 0:
            v.run(SEC)
        yield


def check_slow_reader(r: Result, v: Victim) -> None:
    """Each socket has what its send buffer takes, and no more; a probe now and then."""
    count = max(min(r.packets // 500, 100), 4)
    assert 0 < r.peak <= count * 2 * 131072
    assert r.queued <= count + 8 and r.moved["TcpExtTCPWinProbe"] > 0


def tiny_window(v: Victim, n: int) -> Iterator[None]:
    """A peer that acknowledges what it got and opens its window by a byte, each time."""
    fd, sport, isn = v.connection()
    while v.send(v.task, fd, bytes(4096), MSG_DONTWAIT) > 0:
        pass
    acked = isn + 1
    for _ in range(n):
        sent = v.answer(tcp_packet(sport, FLOODED, 1001, acked, 0x10, 1))
        acked = max([acked, *(s.seq + len(s.data) for s in sent if s.data)])
        v.run(GAP)
        yield


def check_tiny_window(r: Result, v: Victim) -> None:
    """The silly window syndrome is avoided: a peer that offers a byte is not sent a segment for it, but for the probe timer."""
    assert r.peak <= 2 * 131072
    assert r.answers <= r.packets // 10 + 64


def sack_bomb(v: Victim, n: int) -> Iterator[None]:
    """The smallest segments, a large send buffer, and SACKs for a byte here and there: CVE-2019-11477 to 11479."""
    options = build_syn_options(48, 7, True, False, 0, 0)
    fd, sport, isn = v.connection(options)
    v.setsockopt(v.task, fd, SOL_SOCKET, SO_SNDBUF, 1 << 20)
    una, end = isn + 1, isn + 1
    for i in range(n):
        while v.send(v.task, fd, bytes(16384), MSG_DONTWAIT) > 0:
            pass
        for s in v.tx():
            end = max(end, s.seq + len(s.data))
        if i < 200:
            una = end  # let the congestion window grow
            v.put(tcp_packet(sport, FLOODED, 1001, una, 0x10))
        else:
            blocks = b""
            for _ in range(3):
                start = una + 1 + v.chance.randrange(max(end - una - 2, 1))
                blocks += (start & 0xFFFFFFFF).to_bytes(4, "big") + (start + 1 & 0xFFFFFFFF).to_bytes(4, "big")
            v.put(tcp_packet(sport, FLOODED, 1001, una, 0x10, options=b"\1\1\5\x1a" + blocks))
        yield


def check_sack_bomb(r: Result, v: Victim) -> None:
    """No segment is cut without end: the queue's truesize stays within twice the send buffer and an allowance."""
    assert r.peak <= 2 * (2 * (1 << 20) + 2 * 65536) + (1 << 20)


# -- below TCP -------------------------------------------------------------------------------------------------------------


def fragment_bomb(v: Victim, n: int) -> Iterator[None]:
    """Pieces of datagrams that never become whole, from ever new addresses."""
    for i in range(n):
        # Of every tenth datagram the last piece overlaps the first, which ends it.
        saddr, at = 0x0B000000 + i // 3, (0, 300, 100 if i // 3 % 10 == 0 else 600)[i % 3]
        v.put(packet(bytes(1200), 17, saddr, A, frag_off=0x2000 | at, id=i // 3 & 0xFFFF))
        yield
    assert v.net.ipv4.fqdir is not None and v.net.ipv4.fqdir.mem > 0
    v.run(31 * SEC)
    assert v.net.ipv4.fqdir.mem == 0 and not v.net.ipv4.fqdir.queues


def check_fragment_bomb(r: Result, v: Victim) -> None:
    """ipfrag_high_thresh bounds it, and one more packet; overlaps end their datagram."""
    assert 0 < r.peak <= 4 * 1024 * 1024 + 4096
    assert r.moved["IpReasmReqds"] == r.packets and r.moved["IpReasmFails"] > 0 and r.moved["IpReasmOverlaps"] > 0


def icmp_flood(v: Victim, n: int) -> Iterator[None]:
    """Echo requests, and datagrams to a port that nobody has."""
    for i in range(n):
        saddr = 0x0B000000 + i
        if i & 1:
            v.put(packet(bytes((0, 9, 0, 82, 0, 8, 0, 0)), 17, saddr, A))
        else:
            v.put(icmp_packet(8, 0, i & 0xFFFFFFFF, bytes(56), saddr, A))
        yield


def check_icmp_flood(r: Result, v: Victim) -> None:
    """Each request is answered; of the errors, icmp_msgs_per_sec a second, and a burst (icmp_msgs_burst)."""
    assert r.moved["IcmpInMsgs"] == (r.packets + 1) // 2 and r.moved["UdpNoPorts"] == r.packets // 2
    errors = r.moved["IcmpOutMsgs"] - r.moved["IcmpInMsgs"]
    assert 0 < errors <= 1000 * r.packets * GAP / SEC + 51
    assert r.moved["IcmpOutRateLimitGlobal"] == r.moved["UdpNoPorts"] - errors
    assert r.peak == 0


class ArpIO(TunIO):
    def __init__(self) -> None:
        self.incoming: list[bytes] = []
        self.sent = 0

    def read(self) -> bytes | None:
        return self.incoming.pop() if self.incoming else None

    def writev(self, pieces: list[bytes]) -> int:
        self.sent += 1
        return 0


def arp_flood(v: Victim, n: int) -> Iterator[None]:
    """Requests for us from all over a /8, and packets that want an answer to neighbours that there are not.

    While the table is full of what is younger than 5 s, nobody new becomes a neighbour: the kernel answers a new client's SYN then
    as little as afinet does. This client is a permanent neighbour (`ip neigh replace ... nud permanent`), as who is to be served
    should be.
    """
    assert v.net.arp_tbl is not None and neigh_add(v.net.arp_tbl, CLIENT, v.host.dev, 0x020000000077) == 0
    io = ArpIO()
    dev = tun_newlink(v.net, "tap0", io, True)
    assert dev_core.dev_open(dev) == 0
    me = addr("30.0.0.1")
    assert devinet.inet_addr_add(dev, me, 8) == 0
    table = v.net.arp_tbl
    assert table is not None
    for i in range(n):
        spa = addr("30.0.0.2") + i
        if i & 1:
            frame = ethernet.emit(0xFFFFFFFFFFFF, 0x020000000000 + i, 0x0806) + wire_arp.emit(1, 0x020000000000 + i, spa, 0, me)
        else:
            frame = ethernet.emit(dev.dev_addr, 0x020000000000 + i, 0x0800) + icmp_packet(8, 0, i, bytes(1000), spa, me)
        io.incoming.append(frame)
        tun_poll(dev, 1)
        v.run(GAP)
        v.answers += io.sent
        io.sent = 0
        assert len(table.hash) <= table.gc_thresh3 + 1
        yield
    assert table.stats.forced_gc_runs > 0 and (table.stats.table_fulls > 0 or n < 3000)
    v.run(60 * SEC)
    dev_core.unregister_netdevice(dev)


def check_arp_flood(r: Result, v: Victim) -> None:
    """gc_thresh3 bounds the table; a full one is counted (table_fulls)."""
    assert r.queued <= 1024 + 8
    assert r.peak <= 1024 * 110_000


STORMS: dict[str, tuple[Storm, Callable[[Result, Victim], None]]] = {
    "syn": (syn, check_syn),
    "half-open": (half_open, check_half_open),
    "ack": (ack, check_ack),
    "rst": (rst, check_rst),
    "fin": (fin, check_fin),
    "slow reader": (slow_reader, check_slow_reader),
    "tiny window": (tiny_window, check_tiny_window),
    "sack bomb": (sack_bomb, check_sack_bomb),
    "fragment bomb": (fragment_bomb, check_fragment_bomb),
    "icmp flood": (icmp_flood, check_icmp_flood),
    "arp flood": (arp_flood, check_arp_flood),
}
