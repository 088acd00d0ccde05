"""Path MTU probing (RFC 4821). Its steps are compared with the kernel's in tests/parity/info_steps.py."""

from __future__ import annotations

from afinet.net.ipv4.tcp_cong import tcp_set_default_congestion_control
from afinet.uapi import snmp
from afinet.uapi.socket import MSG_DONTWAIT, SO_SNDBUFFORCE, SOL_SOCKET
from afinet.wire.tcp_options import build_established_options, build_syn_options
from tests.net.ipv4.tcphost import MS, SEC, Peer, tcp_sk


class Probing(Peer):
    """A sender that always has data, on a path that takes packets of at most `path` bytes of payload and tells nobody."""

    def __init__(self, mode: int, path: int) -> None:
        super().__init__()
        assert tcp_set_default_congestion_control(self.net, "reno") == 0
        self.net.ipv4.sysctl_tcp_mtu_probing = mode
        self.net.ipv4.sysctl_tcp_timestamps = 0
        self.path = path
        self.fd, isn = self.open_active(build_syn_options(1460, 10, True, False, 0, 0))
        self.base = isn + 1
        assert self.setsockopt(self.task, self.fd, SOL_SOCKET, SO_SNDBUFFORCE, 300_000) == 0
        self.sk = tcp_sk(self.task, self.fd)
        self.sk.snd_ssthresh = 20  # so that the program always has more than the window takes
        self.have = 0
        self.beyond: list[tuple[int, int]] = []  # what came behind a hole
        self.sizes: list[int] = []

    def rounds(self, n: int) -> None:
        """Round trips of 20 ms: what is not too large arrives, and is acknowledged segment by segment."""
        for _ in range(n):
            while self.send(self.task, self.fd, bytes(50_000), MSG_DONTWAIT) > 0:
                pass
            self.run(20 * MS)
            for segment in self.tx():
                size = len(segment.data)
                self.sizes.append(size)
                if 0 < size <= self.path:
                    start = (segment.seq - self.base) & 0xFFFFFFFF
                    self.arrive(start, start + size)

    def arrive(self, start: int, end: int) -> None:
        self.beyond.append((start, end))
        self.beyond.sort()
        while self.beyond and self.beyond[0][0] <= self.have:
            self.have = max(self.have, self.beyond.pop(0)[1])
        blocks: list[int] = []
        for block in self.beyond:
            if blocks and block[0] == blocks[-1]:
                blocks[-1] = block[1]
            else:
                blocks += block
        sack = build_established_options(False, 0, 0, [(self.base + e) & 0xFFFFFFFF for e in blocks[:6]]) if blocks else b""
        self.rx(".", self.ISN + 1, self.base + self.have, options=sack)

    def mib(self, name: str) -> int:
        return self.net.net_statistics[snmp.SNMP4_NET_LIST.index(name)]


def test_probes_find_what_the_path_takes_and_cost_no_window() -> None:
    p = Probing(2, 1300)
    assert p.sk.mss_cache == 1024
    p.rounds(60)
    # within tcp_probe_threshold of the truth
    assert 1300 - 8 <= p.sk.mss_cache <= 1300
    assert p.mib("TCPMTUPSuccess") >= 2 and p.mib("TCPMTUPFail") >= 2
    assert max(p.sizes) <= 1460
    # each that was too large was one lost packet; the window was never halved
    assert p.mib("TCPSackRecovery") == 0 and p.sk.snd_cwnd > 50


def test_nothing_is_found_where_nothing_is_to_be_found() -> None:
    p = Probing(2, 1460)
    p.rounds(40)
    assert p.sk.mss_cache >= 1460 - 8 and p.mib("TCPMTUPFail") == 0


def test_after_a_while_a_path_is_probed_anew() -> None:
    p = Probing(2, 1200)
    p.rounds(60)
    assert 1192 <= p.sk.mss_cache <= 1200
    p.path = 1460
    p.rounds(50)
    assert p.sk.mss_cache <= 1200  # ten minutes have not passed
    p.run(600 * SEC)
    p.rounds(60)
    assert p.sk.mss_cache >= 1460 - 8


def test_a_black_hole_is_noticed_when_asked_for() -> None:
    for mode, found in ((0, False), (1, True)):
        p = Probing(mode, 600)
        p.rounds(1000)  # 20 s of silence, and then
        assert (p.have > 0) is found
        assert (min(size for size in p.sizes if size) <= 600) is found
        # 1024 first, then half of it
        assert (1024 in p.sizes, 512 in p.sizes) == (found, found)
        if found:
            p.rounds(100)
            assert p.have > 100_000


def test_a_probe_that_waits_to_be_sent_again_proves_nothing() -> None:
    p = Probing(2, 1460)
    p.rounds(1)
    while p.sk.tcp_cold is None or p.sk.tcp_cold.icsk_mtup is None or not p.sk.tcp_cold.icsk_mtup.probe_size:
        p.rounds(1)
    p.path = 0  # now nothing arrives
    p.rounds(100)
    assert p.sk.tcp_cold.icsk_mtup.probe_size == 0
    assert p.mib("TCPMTUPFail") == 0
