"""Whatever the path loses, doubles and reorders, the byte stream arrives, to the last byte, through close; and nothing is left."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.core.netdevice import NETIF_F_TSO
from afinet.net.core.skbuff import SkBuff
from afinet.uapi import snmp
from afinet.uapi.errno import EIOCBQUEUED
from tests.net.ipv4.lossy import MS, lossy_pair, steady
from tests.net.ipv4.tcphost import SEC, Pair

PATTERN = bytes(i * 7 & 0xFF for i in range(65521))


def pattern(n: int) -> bytes:
    return (PATTERN * (n // len(PATTERN) + 1))[:n]


def transfer(p: Pair, size: int, back: int = 0) -> tuple[bytes, bytes]:
    """`size` bytes from a to b, `back` bytes the other way at the same time; both close when done. What arrived at b, and at a."""
    client, server, listener = p.established()
    todo = {0: pattern(size), 1: pattern(back)}
    got: list[list[bytes]] = [[], []]
    done = [0, 0]
    eof = [False, False]
    shut = [False, False]
    ends = [(p.ta, client), (p.tb, server)]
    limit = p.kernel.now + 3600 * SEC
    iocb_s = [Kiocb(), Kiocb()]
    iocb_r = [Kiocb(), Kiocb()]
    while not (eof[0] and eof[1]):
        progress = False
        for i in (0, 1):
            task, fd = ends[i]
            if not shut[i]:
                if done[i] < len(todo[i]):
                    chunk = todo[i][done[i] : done[i] + 40000]
                    n = syscalls.sys_sendto(task, iocb_s[i], fd, chunk, 0, b"")
                    if n != -EIOCBQUEUED:
                        assert n > 0, n
                        done[i] += n
                        iocb_s[i] = Kiocb()
                        progress = True
                else:
                    assert syscalls.sys_shutdown(task, fd, 1) == 0
                    shut[i] = True
                    progress = True
            if not eof[i]:
                n, pieces, _ = syscalls.sys_recvfrom(task, iocb_r[i], fd, 100000, 0)
                if n != -EIOCBQUEUED:
                    assert n >= 0, n
                    iocb_r[i] = Kiocb()
                    progress = True
                    if n == 0:
                        eof[i] = True
                    else:
                        got[i].append(b"".join(pieces))
        if not progress:
            when = p.kernel.run(p.kernel.now)
            assert when < limit, "stuck"
            p.kernel.run(when)
    for task, fd in [*ends, (p.tb, listener)]:
        assert p.close(task, fd) == 0
    p.run(400 * SEC)
    return b"".join(got[1]), b"".join(got[0])


def mib(p: Pair, name: str, b: bool = False) -> int:
    net = p.nb if b else p.na
    return net.net_statistics[snmp.SNMP4_NET_LIST.index(name)]


def check(p: Pair, size: int, back: int = 0) -> None:
    at_b, at_a = transfer(p, size, back)
    assert at_b == pattern(size)
    assert at_a == pattern(back)
    p.assert_nothing_left()
    assert not p.kernel.tsq_head


def test_a_clean_path_needs_no_retransmission() -> None:
    p = lossy_pair(steady(10 * MS), steady(10 * MS))
    check(p, 1_000_000)
    assert p.na.tcp_statistics[snmp.TCP_MIB_RETRANSSEGS] == 0
    assert p.kernel.timers.pending <= 4  # the neighbours' own


def drop(*which: int) -> Callable[[int, SkBuff], list[int]]:
    return lambda n, skb: [] if n in which else [10 * MS]


def test_one_loss_is_repaired_by_fast_retransmit_without_a_timeout() -> None:
    p = lossy_pair(drop(30), steady(10 * MS))
    check(p, 400_000)
    assert mib(p, "TCPSackRecovery") == 1
    assert mib(p, "TCPFastRetrans") == 1
    assert mib(p, "TCPTimeouts") == 0
    assert mib(p, "TCPOFOQueue", True) > 0


def test_a_lost_tail_is_found_by_a_probe() -> None:
    p = lossy_pair(drop(11, 13), steady(10 * MS))
    check(p, 14480)
    assert mib(p, "TCPLossProbes") >= 1
    assert mib(p, "TCPTimeouts") == 0


def test_many_losses_in_one_window_are_repaired_in_one_recovery() -> None:
    p = lossy_pair(drop(40, 42, 44, 50, 51, 52), steady(10 * MS))
    check(p, 400_000)
    assert mib(p, "TCPSackRecovery") == 1
    assert mib(p, "TCPFastRetrans") == 6
    assert mib(p, "TCPTimeouts") == 0


def test_the_loss_of_a_retransmission_is_found_too() -> None:
    seen: dict[int, int] = {}

    def fate(n: int, skb: SkBuff) -> list[int]:
        if n == 30:
            seen[skb.len] = n
            fate.seq = skb.head[skb.transport_header + 4 : skb.transport_header + 8]  # type: ignore[attr-defined]
            return []
        seq = skb.head[skb.transport_header + 4 : skb.transport_header + 8]
        if n > 30 and seq == getattr(fate, "seq", None) and n < 80:
            return []
        return [10 * MS]

    p = lossy_pair(fate, steady(10 * MS))
    check(p, 400_000)
    assert mib(p, "TCPLostRetransmit") + mib(p, "TCPTimeouts") >= 1


def test_without_sack_newreno_repairs() -> None:
    p = lossy_pair(drop(30, 33), steady(10 * MS))
    p.na.ipv4.sysctl_tcp_sack = 0
    check(p, 400_000)
    assert mib(p, "TCPRenoRecovery") == 1
    assert mib(p, "TCPFastRetrans") >= 2
    assert mib(p, "TCPTimeouts") == 0


def test_reordering_alone_is_undone_or_never_taken_for_loss() -> None:
    p = lossy_pair(lambda n, skb: [14 * MS if n % 9 == 0 else 10 * MS], steady(10 * MS))
    check(p, 600_000)
    assert mib(p, "TCPTimeouts") == 0
    assert mib(p, "TCPSACKReorder") + mib(p, "TCPTSReorder") > 0


def test_a_delay_spike_is_a_spurious_timeout_and_is_undone() -> None:
    box: list[Pair] = []
    end = [0]

    def fate(n: int, skb: SkBuff) -> list[int]:
        now = box[0].kernel.now
        if n == 60:
            end[0] = now + 900 * MS  # everything stands still until then
        return [max(10 * MS, end[0] - now)] if n >= 60 else [10 * MS]

    p = lossy_pair(fate, steady(10 * MS))
    box.append(p)
    check(p, 600_000)
    assert mib(p, "TCPTimeouts") >= 1
    assert mib(p, "TCPLossUndo") >= 1
    assert mib(p, "TCPSackRecovery") == 0


def test_duplicates_are_told_by_dsack() -> None:
    p = lossy_pair(lambda n, skb: [10 * MS, 10 * MS] if n % 5 == 0 else [10 * MS], steady(10 * MS))
    check(p, 300_000)
    assert mib(p, "TCPDSACKOldSent", True) > 0


def test_a_path_that_dies_ends_the_connection_with_etimedout() -> None:
    p = lossy_pair(lambda n, skb: [10 * MS] if n < 4 else [], steady(10 * MS))
    client, server, listener = p.established()
    assert p.send(p.ta, client, b"x" * 3000) == 3000
    p.run(1200 * SEC)
    assert p.so_error(p.ta, client) == 110
    assert mib(p, "TCPAbortOnTimeout") == 1
    for task, fd in ((p.ta, client), (p.tb, server), (p.tb, listener)):
        p.close(task, fd)
    p.run(2000 * SEC)
    p.assert_nothing_left()


fates = st.lists(
    st.one_of(
        st.just([10 * MS]),
        st.just([10 * MS]),
        st.just([10 * MS]),
        st.just([]),
        st.just([10 * MS, 11 * MS]),
        st.integers(1, 60).map(lambda ms: [ms * MS]),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ab=fates, ba=fates, size=st.integers(0, 200_000), back=st.sampled_from([0, 1, 5000, 120_000]), sack=st.booleans(),
       ts=st.booleans(), mtu=st.sampled_from([1500, 576, 9000]))  # fmt: skip
def test_any_schedule_of_loss_reordering_and_duplication_delivers_the_stream(
    ab: list[list[int]], ba: list[list[int]], size: int, back: int, sack: bool, ts: bool, mtu: int
) -> None:
    # the schedule repeats four times, then the path is good: else a schedule that loses everything would be no test
    def fate(schedule: list[list[int]]) -> Callable[[int, SkBuff], list[int]]:
        return lambda n, skb: schedule[n % len(schedule)] if 4 <= n < 4 * len(schedule) + 4 else [10 * MS]

    p = lossy_pair(fate(ab), fate(ba), mtu)
    p.na.ipv4.sysctl_tcp_sack = int(sack)
    p.na.ipv4.sysctl_tcp_timestamps = int(ts)
    check(p, size, back)


def test_segments_of_several_packets_are_sent_cut_and_repaired_where_the_device_takes_them() -> None:
    for delay, most in ((10 * MS, 2), (MS // 20, 20)):
        sizes: list[int] = []

        def fate(n: int, skb: SkBuff, delay: int = delay, sizes: list[int] = sizes) -> list[int]:
            sizes.append(skb.gso_segs)
            return [] if n in (20, 22, 23, 60) else [delay]

        p = lossy_pair(fate, steady(delay))
        p.da.features |= NETIF_F_TSO
        p.db.features |= NETIF_F_TSO
        check(p, 2_000_000, 300_000)
        assert max(sizes) >= most  # about a millisecond's worth each
        assert mib(p, "TCPSackRecovery") >= 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(ab=fates, ba=fates, size=st.integers(0, 400_000), sack=st.booleans())
def test_any_schedule_delivers_the_stream_with_large_segments_too(
    ab: list[list[int]], ba: list[list[int]], size: int, sack: bool
) -> None:
    def fate(schedule: list[list[int]]) -> Callable[[int, SkBuff], list[int]]:
        return lambda n, skb: [d // 100 for d in schedule[n % len(schedule)]] if 4 <= n < 4 * len(schedule) + 4 else [MS // 10]

    p = lossy_pair(fate(ab), fate(ba))
    p.da.features |= NETIF_F_TSO
    p.db.features |= NETIF_F_TSO
    p.na.ipv4.sysctl_tcp_sack = int(sack)
    check(p, size)
