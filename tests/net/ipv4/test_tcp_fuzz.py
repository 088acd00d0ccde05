"""Whatever comes in over IP as TCP: a counted drop or an answer, never an exception, and nothing left behind."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afinet.uapi.snmp import TCP_MIB_CSUMERRORS, TCP_MIB_INERRS
from afinet.uapi.socket import MSG_DONTWAIT, MSG_NOSIGNAL
from afinet.wire import ip as wire_ip
from afinet.wire import tcp as wire_tcp
from afinet.wire.checksum import csum_partial, csum_tcpudp_nofold
from tests.net.ipv4.tcphost import MS, MSS1460, SEC, A, B, Peer, syn_options, ts_options

FAST = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

OPTIONS = st.one_of(
    st.just(b""),
    st.just(MSS1460),
    st.just(syn_options(1460, 7, True, True, 1, 0)),
    st.builds(lambda a, b: ts_options(True, a, b, None), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=6).map(lambda v: ts_options(False, 0, 0, v[: len(v) & ~1])),
    st.binary(min_size=4, max_size=40).map(lambda b: b[: len(b) & ~3]),
)
OFFSETS = st.sampled_from([0, 0, 0, 1, 2, 5, -1, -2, 100, 1459, 1460, 65535, 65536, 2**31 - 1, 2**31, -(2**31), 70000])
SEGMENTS = st.lists(
    st.tuples(
        st.integers(0, 255),  # flags
        OFFSETS,  # sequence number, against what is expected
        OFFSETS,  # acknowledgement, likewise
        st.binary(max_size=20),
        st.sampled_from([0, 1, 100, 65535]),
        OPTIONS,
        st.integers(0, 65535),
        st.sampled_from(["", "send", "recv", "close", "shutdown", "tick", "long"]),
    ),
    max_size=25,
)


def put(p: Peer, flags: int, seq: int, ack: int, data: bytes, win: int, options: bytes, urg: int) -> None:
    seq &= 0xFFFFFFFF
    ack &= 0xFFFFFFFF
    sum = csum_partial(data, 0, len(data), csum_tcpudp_nofold(B, A, 20 + len(options) + len(data), 6, 0))
    th = wire_tcp.emit_csum(p.sport, p.dport, seq, ack, flags, win, urg, options, sum)
    p.host.receive(wire_ip.emit(0, 20 + len(th) + len(data), 1, 0x4000, 64, 6, B, A) + th + data)


def play(p: Peer, fd: int, isn: int, segments: list[tuple[int, int, int, bytes, int, bytes, int, str]]) -> None:
    nxt = 1001
    una = isn + 1
    is_open = True
    for flags, dseq, dack, data, win, options, urg, act in segments:
        if act == "send" and is_open:
            p.send(p.task, fd, b"d" * 3000, MSG_DONTWAIT | MSG_NOSIGNAL)
        elif act == "recv" and is_open:
            p.recv(p.task, fd, 100, MSG_DONTWAIT)
        elif act == "close" and is_open:
            is_open = False
            p.close(p.task, fd)
        elif act == "shutdown" and is_open:
            p.shutdown(p.task, fd, 1)
        elif act == "tick":
            p.run(250 * MS)
        elif act == "long":
            p.run(20 * SEC)
        put(p, flags, nxt + dseq, una + dack, data, win, options, urg)
        for s in p.tx():
            if s.flags & 4 == 0:
                una = s.seq + len(s.data)
                nxt = s.ack or nxt
    if is_open:
        p.close(p.task, fd)


@FAST
@given(SEGMENTS)
def test_any_segments_to_a_connection(segments: list[tuple[int, int, int, bytes, int, bytes, int, str]]) -> None:
    p = Peer()
    listener, fd, isn = p.open_passive(syn_options(1460, 7, True, True, 1, 0) if len(segments) & 1 else MSS1460)
    play(p, fd, isn, segments)
    p.close(p.task, listener)
    p.run(1500 * SEC)
    p.tx()
    p.assert_nothing_left()


@FAST
@given(SEGMENTS)
def test_any_segments_to_a_listener(segments: list[tuple[int, int, int, bytes, int, bytes, int, str]]) -> None:
    p = Peer()
    listener = p.listener(p.task, 80, backlog=2)
    seq = 1000
    ack = 0
    for i, (flags, dseq, dack, data, win, options, urg, act) in enumerate(segments):
        if i & 1 == 0:
            flags = flags & ~5 | 2
        p.sport = 5000 + (i >> 2)
        put(p, flags, seq + dseq, ack + dack, data, win, options, urg)
        for s in p.tx():
            if s.flags & 2:
                ack = s.seq + 1
                seq = s.ack
        if act == "tick":
            p.run(250 * MS)
        elif act == "long":
            p.run(20 * SEC)
    p.close(p.task, listener)
    p.run(1500 * SEC)
    p.tx()
    p.assert_nothing_left()


@FAST
@given(SEGMENTS)
def test_any_segments_to_a_connection_being_opened(segments: list[tuple[int, int, int, bytes, int, bytes, int, str]]) -> None:
    p = Peer()
    fd = p.socket(p.task, nonblock=True)
    p.connect(p.task, fd, B, 80)
    syn = p.tx1()
    p.sport, p.dport = 80, syn.sport
    play(p, fd, syn.seq, segments)
    p.run(1500 * SEC)
    p.tx()
    p.assert_nothing_left()


def test_a_segment_cut_at_every_byte_and_with_every_byte_wrong() -> None:
    p = Peer()
    p.open_passive(MSS1460)
    good = wire_tcp.emit_csum(
        5000, 80, 1001, 1, 0x18, 100, 0, MSS1460, csum_partial(b"abcd", 0, 4, csum_tcpudp_nofold(B, A, 28, 6, 0))
    )
    segment = good + b"abcd"
    for n in range(len(segment)):
        p.host.receive(wire_ip.emit(0, 20 + n, 1, 0x4000, 64, 6, B, A) + segment[:n])
    assert p.silent()
    before = p.net.tcp_statistics[TCP_MIB_CSUMERRORS]
    for i in range(len(segment)):
        bad = segment[:i] + bytes([segment[i] ^ 0x55]) + segment[i + 1 :]
        p.host.receive(wire_ip.emit(0, 20 + len(bad), 1, 0x4000, 64, 6, B, A) + bad)
    assert p.silent()
    assert p.net.tcp_statistics[TCP_MIB_CSUMERRORS] - before >= len(segment) - 2
    assert p.net.tcp_statistics[TCP_MIB_INERRS] >= p.net.tcp_statistics[TCP_MIB_CSUMERRORS]


def test_a_segment_from_oneself_to_oneself_does_no_harm() -> None:
    """LAND."""
    p = Peer()
    fd = p.listener(p.task, 80)
    th = wire_tcp.emit_csum(80, 80, 1, 0, 2, 100, 0, b"", csum_tcpudp_nofold(A, A, 20, 6, 0))
    p.host.receive(wire_ip.emit(0, 40, 1, 0x4000, 64, 6, A, A) + th)
    p.close(p.task, fd)
    p.run(100 * SEC)
    p.assert_nothing_left()
