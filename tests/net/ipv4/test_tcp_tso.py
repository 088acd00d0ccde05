"""Large segments inside TCP: how large (tcp_tso_autosize), how many at once (TSQ), whether to wait (tcp_tso_should_defer)."""

from __future__ import annotations

import pytest

from afinet.kernel.win_minmax import minmax_reset
from afinet.net.core.skbuff import SkBuff, skb_pieces
from afinet.net.core.sock import SK_PACING_NEEDED
from afinet.net.ipv4 import tcp, tcp_output
from afinet.net.ipv4.tcp_sock import TcpSock
from tests.net.ipv4.tcphost import MS, Pair, tcp_sk

MSS = 1448


def connection() -> tuple[Pair, int, TcpSock]:
    p = Pair()
    client, _, _ = p.established()
    return p, client, tcp_sk(p.ta, client)


@pytest.mark.parametrize(
    "rate, rtt_us, segs",
    [
        # a millisecond's worth (1,024 us), two packets at least
        (1_250_000, 40_000, 2),
        (12_500_000, 40_000, 8),
        (125_000_000, 40_000, 45),
        # and more on a short path: 64 KB halved for each 512 us
        (1_250_000, 100, 45),
        (1_250_000, 600, 23),
        (1_250_000, 1_100, 12),
        (1_250_000, 5_000, 2),
        # no rate known
        (-1, 40_000, 45),
    ],
)
def test_a_segment_is_as_long_as_the_rate_and_the_path_say(rate: int, rtt_us: int, segs: int) -> None:
    _, _, sk = connection()
    sk.sk_pacing_rate = rate
    sk.rtt_min = minmax_reset(sk.kernel.now, rtt_us)
    assert tcp_output.tcp_tso_segs(sk, MSS) == segs


@pytest.mark.parametrize("mss", [100, 524, 536, 1000, 1448, 8948, 65483])
def test_a_segment_with_its_headers_fits_into_an_ip_packet(mss: int) -> None:
    _, _, sk = connection()
    sk.sk_pacing_rate = -1
    assert tcp_output.tcp_tso_segs(sk, mss) * mss + 60 + 60 <= 65535 or mss > 65000


def test_small_queues_hold_two_segments_or_a_milliseconds_worth() -> None:
    _, _, sk = connection()
    skb = SkBuff(b"", None, 0, 10_000)
    sk.tcp_rtx_queue = None

    def throttled(rate: int, charged: int) -> bool:
        sk.sk_pacing_rate = rate
        before = sk.sk_wmem_alloc
        sk.sk_wmem_alloc = charged
        # More than one segment is in flight, else nothing is held back.
        for n in range(2):
            other = SkBuff(b"", None, 0, 0)
            other.seq, other.end_seq = n, n + 1
            tcp_output.tcp_rtx_queue_insert(sk, other)
        result = tcp_output.tcp_small_queue_check(sk, skb, 0)
        sk.sk_wmem_alloc = before
        sk.tcp_rtx_queue = None
        sk.tsq_flags = 0
        return result

    assert not throttled(0, 20_000) and throttled(0, 20_001)  # two segments
    assert not throttled(100 << 20, 100 << 10) and throttled(100 << 20, (100 << 10) + 1)  # 100 MB/s: 1,024 us of it
    net = sk.sk_net.ipv4
    net.sysctl_tcp_limit_output_bytes = 15_000
    assert not throttled(100 << 20, 15_000) and throttled(100 << 20, 15_001)
    assert throttled(0, 15_001)  # not even two
    sk.sk_pacing_status = SK_PACING_NEEDED
    assert not throttled(100 << 20, 100 << 10)  # who is paced is not bounded otherwise


def test_a_segment_waits_for_an_acknowledgement_that_is_near_and_for_no_other() -> None:
    p, _, sk = connection()
    head = SkBuff(b"", None, 0, 0)
    head.end_seq = 1
    tcp_output.tcp_rtx_queue_insert(sk, head)
    skb = SkBuff(b"", None, 0, 0)
    skb.seq, skb.len = sk.snd_nxt, 10 * MSS
    sk.snd_wnd = 100 * MSS
    sk.snd_cwnd, sk.packets_out = 100, 98  # room for two
    now = p.kernel.now
    sk.lsndtime = now

    def defers(srtt: int, since: int) -> bool:
        sk.srtt_us = srtt // 1000 << 3
        head.tstamp = now - since
        return tcp_output.tcp_tso_should_defer(sk, skb, 45) == 1

    assert defers(20 * MS, 19 * MS) and not defers(20 * MS, 19 * MS - 1000)
    assert not defers(20 * MS, 11 * MS)  # later than half an RTT, and yet too far
    assert defers(MS, MS // 2) and not defers(MS, MS // 2 - 1000)
    sk.lsndtime = now - MS - 1
    assert not defers(20 * MS, 19 * MS)
    sk.tcp_rtx_queue = None
    sk.packets_out = 0


def test_the_programs_bytes_are_copied_once_in_pieces_that_a_cut_shares() -> None:
    skb = SkBuff(b"", None, 0, 0)
    data = bytes(range(256)) * 250
    tcp.skb_add_user_data(skb, data, 1000, 60_000)
    assert skb.frags is not None and [len(f) for f in skb.frags] == [8192] * 7 + [2656]
    assert b"".join(skb.frags) == data[1000:61_000] and skb.len == skb.data_len == 60_000
    cut = skb_pieces(skb, 2896, 57_104)
    assert all(a is b for a, b in zip(cut[1:], skb.frags[1:], strict=True))
