"""net/ipv4/tcp_offload.py, inet_offload.py: what a super-packet becomes where nobody cuts it, and what is made one. UDP's own is in
test_udp_offload.py."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.drivers.tun import tun_poll
from afinet.kernel.machine import Kernel
from afinet.kernel.sysctl import sysctl_write
from afinet.net.core import dev as dev_core
from afinet.net.core import gso
from afinet.net.core.netdevice import NETIF_F_HW_CSUM, NETIF_F_TSO, NetDevice
from afinet.net.core.skbuff import (
    CHECKSUM_PARTIAL,
    SKB_GSO_TCP_FIXEDID,
    SKB_GSO_TCPV4,
    SKB_GSO_UDP_L4,
    SkBuff,
    skb_set_owner_w,
    skb_tobytes,
    skb_truesize,
)
from afinet.net.core.sock import Proto, Sock
from afinet.net.ipv4 import devinet
from afinet.net.ipv4.inet_offload import inet_gso_segment, ipv4_offload_init
from afinet.net.ipv4.tcp_offload import tcpv4_offload_init
from afinet.net.ipv4.udp_offload import udpv4_offload_init
from afinet.uapi.errno import EINVAL, EPROTONOSUPPORT
from afinet.uapi.if_ import IFF_NOARP
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.in_ import IPPROTO_TCP, IPPROTO_UDP
from afinet.uapi.snmp import TCP_MIB_CSUMERRORS
from afinet.wire import checksum, ethernet, ip, tcp, udp
from tests.net.core.devices import Sink, boot, drops, init_net, sink_device
from tests.net.ipv4.grohost import ACK, CWR, ECE, FIN, ME, PEER, PSH, RST, STAMP, SYN, URG, GroHost, normal, segment, train

FLAGS = tcp.TCPHDR_ACK | tcp.TCPHDR_PSH | tcp.TCPHDR_FIN | tcp.TCPHDR_CWR


def pieces(payload: bytes, cuts: list[int]) -> list[bytes]:
    """The payload, cut here and there."""
    bounds = sorted({0, len(payload), *(c % (len(payload) + 1) for c in cuts)})
    return [payload[a:b] for a, b in itertools.pairwise(bounds)]


def super_packet(protocol: int, payload: bytes, mss: int, cuts: list[int], options: bytes = b"", linear: int = 0) -> SkBuff:
    if protocol == IPPROTO_TCP:
        transport = tcp.emit(80, 4000, 0xFFFFFF00, 7, FLAGS, 500, 0xABCD, 0, bytes(12))
    else:
        transport = udp.emit(80, 4000, 8 + len(payload), 0xABCD)
    network = ip.emit(0, 20 + len(options) + len(transport) + len(payload), 0xFFFE, ip.IP_DF, 64, protocol, 1, 2, options)
    head = ethernet.emit(1, 2, ETH_P_IP) + network + transport + payload[:linear]
    frags = pieces(payload[linear:], cuts)
    size = len(payload) - len(payload[:linear])
    skb = SkBuff(head, frags or None, size, skb_truesize(len(head) + size))
    skb.protocol = ETH_P_IP
    skb.network_header = 14
    skb.transport_header = 14 + len(network)
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_start = skb.transport_header
    skb.csum_offset = 16 if protocol == IPPROTO_TCP else 6
    skb.gso_size = mss
    skb.gso_type = SKB_GSO_TCPV4 if protocol == IPPROTO_TCP else SKB_GSO_UDP_L4
    return skb


def setup(features: int = 0) -> tuple[Kernel, NetDevice, Sink]:
    kernel = boot()
    for init in (ipv4_offload_init, tcpv4_offload_init, udpv4_offload_init):
        assert init(kernel) == 0
    dev, sink = sink_device(init_net(kernel))
    dev.features |= features
    return kernel, dev, sink


def right_checksum(frame: bytes, th: int, protocol: int) -> bool:
    length = len(frame) - th
    return checksum.csum_tcpudp_magic(1, 2, length, protocol, checksum.csum_partial(frame, th, len(frame), 0)) == 0


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from([IPPROTO_TCP, IPPROTO_UDP]),
    st.integers(1, 3000),
    st.integers(1, 1500),
    st.lists(st.integers(0, 5000), max_size=5),
    st.sampled_from([b"", b"\x01\x01\x01\x00"]),
    st.integers(0, 50),
)
def test_the_segments_carry_the_payload_in_order_with_right_headers(
    protocol: int, size: int, mss: int, cuts: list[int], options: bytes, linear: int
) -> None:
    payload = bytes(i * 7 & 0xFF for i in range(size))
    mss = max(mss, size // 60 + 1)
    kernel, dev, sink = setup()
    skb = super_packet(protocol, payload, mss, cuts, options, linear)
    skb.dev = dev
    assert dev_core.dev_queue_xmit(skb) == 0
    count = -(-size // mss)
    assert len(sink.sent) == count and drops(init_net(kernel)) == {}
    got = b""
    for i, frame in enumerate(sink.sent):
        assert ethernet.parse(frame, 0) == (1, 2, ETH_P_IP)
        _, _, tot_len, id, frag_off, _, _, _, _, _ = ip.parse(frame, 14)
        th = 34 + len(options)
        assert tot_len == len(frame) - 14 and id == 0xFFFE + i & 0xFFFF and frag_off == ip.IP_DF
        assert checksum.ip_fast_csum(frame, 14, (th - 14) // 4) == 0
        assert right_checksum(frame, th, protocol)
        if protocol == IPPROTO_TCP:
            _, _, seq, ack, doff_flags, _, _, _ = tcp.parse(frame, th)
            assert seq == 0xFFFFFF00 + i * mss & 0xFFFFFFFF and ack == 7
            expected = tcp.TCPHDR_ACK
            if i == 0:
                expected |= tcp.TCPHDR_CWR
            if i == count - 1:
                expected |= tcp.TCPHDR_PSH | tcp.TCPHDR_FIN
            assert doff_flags & tcp.TCPHDR_MASK == expected
            got += frame[th + 32 :]
        else:
            assert udp.parse(frame, th)[2] == len(frame) - th
            got += frame[th + 8 :]
    assert got == payload


def test_a_device_that_cuts_gets_the_whole():
    _, dev, sink = setup(NETIF_F_HW_CSUM | NETIF_F_TSO)
    skb = super_packet(IPPROTO_TCP, bytes(3000), 1000, [])
    skb.dev = dev
    dev_core.dev_queue_xmit(skb)
    assert len(sink.sent) == 1 and len(sink.sent[0]) == 14 + 20 + 32 + 3000


def test_a_device_with_checksums_gets_segments_without():
    _, dev, sink = setup(NETIF_F_HW_CSUM)
    skb = super_packet(IPPROTO_TCP, bytes(2000), 1000, [])
    skb.dev = dev
    dev_core.dev_queue_xmit(skb)
    for frame in sink.sent:
        field = tcp.parse(frame, 34)[6]
        # the pseudo-header's sum, folded but not complemented
        assert field == checksum.csum_fold(checksum.csum_tcpudp_nofold(1, 2, 1032, IPPROTO_TCP, 0)) ^ 0xFFFF


def test_the_senders_charge_goes_over_to_the_segments_and_comes_back_as_they_are_freed():
    kernel, dev, sink = setup()
    sk = Sock(init_net(kernel), 2, Proto(kernel, "TEST"))
    sk.sk_sndbuf = 1 << 20
    skb = super_packet(IPPROTO_TCP, bytes(3000), 1000, [])
    skb.dev = dev
    skb_set_owner_w(skb, sk)
    dev_core.netif_stop_queue(dev)
    dev_core.dev_queue_xmit(skb)
    dev_core.netif_wake_queue(dev)
    sink.busy = True
    kernel.run(kernel.now)
    qdisc = dev.qdisc
    assert qdisc is not None and qdisc.qlen == 3
    assert sk.sk_wmem_alloc - 1 == 3 * skb_truesize(1066)
    sink.busy = False
    qdisc.run()
    assert len(sink.sent) == 3 and sk.sk_wmem_alloc == 1 and qdisc.qlen == 0


def test_what_is_not_whole_or_not_known_is_refused():
    kernel, _, _ = setup()
    good = super_packet(IPPROTO_TCP, b"", 1000, [])
    for cut in range(14, 65):
        skb = SkBuff(good.head[:cut], None, 0, 1000)
        skb.network_header, skb.gso_size, skb.gso_type = 14, 1000, SKB_GSO_TCPV4
        assert inet_gso_segment(kernel, skb)[0] == -EINVAL, cut
    skb = super_packet(IPPROTO_UDP, b"x" * 20, 10, [])
    skb.gso_type = SKB_GSO_TCPV4
    assert inet_gso_segment(kernel, skb) == (-EPROTONOSUPPORT, None)
    skb.gso_size = 0
    assert inet_gso_segment(kernel, skb) == (-EINVAL, None)


# -- cutting some at a time ------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.sampled_from([IPPROTO_TCP, IPPROTO_UDP]),
    st.integers(1, 3000),
    st.integers(50, 1500),
    st.lists(st.integers(1, 9), max_size=9),
)
def test_taking_several_at_a_time_and_cutting_those_gives_the_same_packets(
    protocol: int, size: int, mss: int, counts: list[int]
) -> None:
    payload = bytes(i * 7 & 0xFF for i in range(size))
    kernel, _, _ = setup()
    whole = super_packet(protocol, payload, mss, [100, 777])
    whole.gso_segs = -(-size // mss)
    expected = gso.skb_frames(kernel, whole)
    err, cutter = gso.skb_gso_segmenter(kernel, whole)
    assert err == 0 and cutter is not None and cutter.left == len(expected)
    got: list[bytes] = []
    length = 0
    while cutter.left:
        count = min(counts.pop() if counts else 3, cutter.left)
        piece = cutter.take(count)
        assert gso.skb_segs(piece) == count
        length += gso.qdisc_pkt_len(piece)
        got += gso.skb_frames(kernel, piece)
    assert got == expected
    assert length == gso.qdisc_pkt_len(whole) == sum(len(f) for f in expected)
    assert gso.skb_gso_network_seglen(whole) == 20 + (32 if protocol == IPPROTO_TCP else 8) + mss


def test_an_identification_that_stays_stays() -> None:
    kernel, _, _ = setup()
    skb = super_packet(IPPROTO_TCP, bytes(3000), 1000, [])
    skb.gso_type |= SKB_GSO_TCP_FIXEDID
    assert [ip.parse(f, 14)[3] for f in gso.skb_frames(kernel, skb)] == [0xFFFE] * 3


# -- putting together ------------------------------------------------------------------------------------------------------


def test_a_short_segment_ends_what_is_merged() -> None:
    h = GroHost()
    packets = [*train(3), segment(4000, b"x" * 10, id=4), *train(2, seq=4010, first_id=5)]
    skbs = h.batch(*packets)
    assert [s.gso_segs for s in skbs] == [4, 2] and h.frames(skbs) == packets


def test_a_longer_segment_is_not_merged() -> None:
    assert GroHost().lengths(segment(0, b"x" * 100, id=1), segment(100, b"x" * 101, id=2)) == [1, 1]


@pytest.mark.parametrize("flag, lengths", [(PSH, [4, 3]), (FIN, [4, 3])])
def test_push_and_fin_end_it_and_are_on_the_last_packet(flag: int, lengths: list[int]) -> None:
    h = GroHost()
    packets = [*train(4, last=ACK | flag), *train(3, seq=5000 + (flag == FIN), first_id=5)]
    skbs = h.batch(*packets)
    assert [s.gso_segs for s in skbs] == lengths and h.frames(skbs) == packets


@pytest.mark.parametrize("flag", [SYN, RST, URG, CWR])
def test_what_must_stand_alone_does(flag: int) -> None:
    h = GroHost()
    packets = [*train(2), segment(3000, b"x" * 1000, ACK | flag, id=3), *train(2, seq=4000, first_id=4)]
    skbs = h.batch(*packets)
    # A first packet may have CWR: it stays where it is when the whole is cut.
    assert [gso.skb_segs(s) for s in skbs] == ([2, 1, 2] if flag != CWR else [2, 3])
    assert h.frames(skbs) == packets


def test_ece_on_all_is_merged_and_on_some_is_not() -> None:
    h = GroHost()
    assert h.lengths(*[segment(i * 100, b"x" * 100, ACK | ECE, id=i) for i in range(3)]) == [3]
    assert h.lengths(segment(0, b"x" * 100), segment(100, b"x" * 100, ACK | ECE, id=2)) == [1, 1]


def test_acknowledgements_are_never_merged() -> None:
    assert GroHost().lengths(segment(0, ack=1), segment(0, ack=2, id=2), segment(0, ack=2, id=3)) == [1, 1, 1]


CHANGES: list[dict[str, Any]] = [
    {"ack": 8},
    {"window": 501},
    {"options": STAMP[:-1] + b"\x03"},
    {"options": b""},
    {"options": STAMP + b"\x01" * 4},
    {"tos": 4},
    {"tos": 3},
    {"ttl": 63},
    {"frag": 0},
    {"id": 3},
    {"id": 0},
    {"sport": 9},
    {"saddr": PEER + 1},
]


@pytest.mark.parametrize("change", CHANGES, ids=repr)
def test_what_differs_in_a_header_is_not_merged(change: dict[str, Any]) -> None:
    h = GroHost()
    same: dict[str, Any] = {"options": STAMP, "id": 2}
    assert h.lengths(segment(0, b"x" * 100, options=STAMP), segment(100, b"x" * 100, **same)) == [2]
    packets = [segment(0, b"x" * 100, options=STAMP), segment(100, b"x" * 100, **(same | change))]
    skbs = h.batch(*packets)
    assert [s.gso_size for s in skbs] == [0, 0]
    assert sorted(h.frames(skbs)) == sorted(packets)


def test_an_identification_may_stay_where_nobody_may_fragment() -> None:
    h = GroHost()
    packets = [segment(i * 100, b"x" * 100, id=5) for i in range(4)]
    skbs = h.batch(*packets)
    assert [s.gso_segs for s in skbs] == [4] and skbs[0].gso_type & SKB_GSO_TCP_FIXEDID
    assert h.frames(skbs) == packets
    assert h.lengths(*[segment(i * 100, b"x" * 100, id=5, frag=0) for i in range(4)]) == [1] * 4
    # stays, then goes on
    assert h.lengths(*[segment(i * 100, b"x" * 100, id=id) for i, id in enumerate((5, 5, 6))]) == [2, 1]


def test_a_gap_and_an_old_segment_are_not_merged_and_keep_their_place() -> None:
    h = GroHost()
    for second in (1001, 900, 0):
        packets = [segment(0, b"x" * 1000), segment(second, b"y" * 1000, id=2), segment(second + 1000, b"z" * 1000, id=3)]
        skbs = h.batch(*packets)
        assert [gso.skb_segs(s) for s in skbs] == [1, 2] and h.frames(skbs) == packets


def test_sequence_numbers_and_identifications_wrap() -> None:
    assert GroHost().lengths(*train(6, seq=0xFFFFFFFF - 2500, first_id=0xFFFE)) == [6]


def test_a_wrong_checksum_is_never_merged_and_is_counted_above() -> None:
    h = GroHost()
    good = train(3)
    for at in range(3):
        packets = good[:]
        packets[at] = segment(1000 + at * 1000, bytes([at]) * 1000, id=1 + at, wrong=1)
        before = h.net.tcp_statistics[TCP_MIB_CSUMERRORS]
        skbs = h.batch(*packets)
        assert packets[at] in [skb_tobytes(s) for s in skbs]
        assert h.net.tcp_statistics[TCP_MIB_CSUMERRORS] == before + 1
    wrong_ip = good[1][:10] + b"\x12\x34" + good[1][12:]
    assert h.lengths(good[0], wrong_ip, good[2]) == [1, 1, 1]


def test_options_fragments_padding_and_cut_headers_pass_as_they_came() -> None:
    h = GroHost()
    whole = train(2)
    odd = [
        segment(0, b"x" * 100, ip_options=b"\1\1\1\0"),
        segment(0, b"x" * 100, frag=ip.IP_MF),
        segment(0, b"x" * 100, frag=3),
        whole[0] + bytes(6),  # padded
        whole[0][:30],
        whole[0][:-1],
        ip.emit(0, 30, 1, 0, 64, 6, PEER, ME) + bytes(10),
        segment(0, b"")[:32] + b"\xf0" + segment(0, b"")[33:],  # a header longer than the packet
        segment(0, b"")[:32] + b"\x10" + segment(0, b"")[33:],
    ]
    for packet in odd:
        skbs = h.batch(packet, packet)
        assert [s.gso_size for s in skbs] == [0, 0]
        assert [skb_tobytes(s) for s in skbs] == [packet, packet]


def test_a_super_packet_from_outside_is_not_merged_but_ends_what_was_held() -> None:
    h = GroHost()
    big = segment(3000, b"x" * 2500, id=3)
    h.io.incoming.extend([bytes(10) + p for p in train(2)])
    h.io.incoming.append(bytes.fromhex("01 01 2800 e803 1400 1000") + big)
    h.io.incoming.append(bytes(10) + segment(5500, b"x" * 100, id=6))
    assert tun_poll(h.dev, 9) == 4
    h.kernel.run(h.kernel.now)
    assert [gso.skb_segs(s) for s in h.tap.skbs] == [2, 3, 1]


Field = st.sampled_from


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            Field([0, 0, 0, 0, 1]),  # the flow
            Field(["next", "next", "next", "next", "next", "gap", "old"]),
            Field([100, 100, 100, 100, 100, 99, 101, 1, 0]),
            Field([ACK, ACK, ACK, ACK, ACK | PSH, ACK | FIN, ACK | CWR, ACK | ECE, ACK | URG, SYN, RST]),
            Field([{}] * 4 + [{"ack": 9}, {"window": 3}, {"tos": 2}, {"ttl": 1}, {"frag": 0}, {"options": STAMP}, {"wrong": 1}]),
            Field([1, 1, 1, 1, 0, 2]),  # how the identification goes on
        ),
        max_size=40,
    )
)
def test_whatever_comes_can_be_cut_again_into_what_came(
    packets: list[tuple[int, str, int, int, dict[str, Any], int]],
) -> None:
    h = GroHost()
    seqs, ids = [0, 0], [0, 0]
    sent: list[list[bytes]] = [[], []]
    batch: list[bytes] = []
    for flow, where, size, flags, change, step in packets:
        seq = seqs[flow] + {"next": 0, "gap": 50, "old": -50}[where]
        packet = segment(seq & 0xFFFFFFFF, bytes([len(batch)]) * size, flags, sport=10 + flow, id=ids[flow] & 0xFFFF, **change)
        seqs[flow] = seq + size
        ids[flow] += step
        batch.append(packet)
        sent[flow].append(packet)
    frames = h.frames(h.batch(*batch))
    for flow in (0, 1):
        got = [f for f in frames if f[20:22] == (10 + flow).to_bytes(2, "big")]
        # What is damaged or holds no data overtakes nothing of its own flow that was held, but a damaged one may be overtaken.
        good = [normal(p) for p in sent[flow] if not damaged(p)]
        assert [normal(f) for f in got if not damaged(f)] == good
        assert sorted(f for f in got if damaged(f)) == sorted(p for p in sent[flow] if damaged(p))


def damaged(packet: bytes) -> bool:
    try:
        normal(packet)
    except AssertionError:
        return True
    return False


# -- a machine that forwards -----------------------------------------------------------------------------------------------


class Router(GroHost):
    """Packets for 10.0.1.0/24 leave by a device that cuts nothing itself, to a neighbour that is known."""

    def __init__(self, mtu: int = 1500, features: int = 0) -> None:
        super().__init__()
        self.out, self.sink = sink_device(self.net, "sink0")
        self.out.mtu = mtu
        self.out.features |= features
        self.out.flags |= IFF_NOARP
        devinet.inet_addr_add(self.out, ME + 256, 24)
        sysctl_write(self.net.sysctl_table, "net.ipv4.ip_forward", "1")

    def forward(self, *packets: bytes) -> list[bytes]:
        """What leaves, from the IP header on, when `packets` come in one batch."""
        self.sink.sent.clear()
        self.batch(*(to_the_other_side(p) for p in packets))
        return [f[14:] for f in self.sink.sent]


def to_the_other_side(packet: bytes, ttl: int = 64) -> bytes:
    """The same segment to 10.0.1.2."""
    _, tos, _, id, frag, _, _, _, saddr, _ = ip.parse(packet, 0)
    th = bytearray(packet[20:])
    th[16:18] = bytes(2)
    check = checksum.csum_tcpudp_magic(saddr, ME + 257, len(th), 6, checksum.csum_partial(bytes(th), 0, len(th), 0))
    th[16:18] = check.to_bytes(2, "big")
    return ip.emit(tos, len(packet), id, frag, ttl, 6, saddr, ME + 257) + bytes(th)


@pytest.mark.parametrize("features", [0, NETIF_F_HW_CSUM])
@pytest.mark.parametrize("id", [None, 0])
def test_what_is_forwarded_leaves_as_the_packets_that_came(features: int, id: int | None) -> None:
    h = Router(features=features)
    packets = train(10, last=ACK | PSH) if id is None else [segment(i * 100, b"x" * 100, id=id) for i in range(10)]
    out = h.forward(*packets)
    assert len(h.tap.skbs) == 1
    if features:
        assert [o[:20] + o[38:] for o in out] == [(p := to_the_other_side(q, 63))[:20] + p[38:] for q in packets]
    else:
        assert [normal(o) for o in out] == [normal(to_the_other_side(p, 63)) for p in packets]


def test_a_device_that_cuts_gets_what_was_merged_whole_unless_the_identification_stays() -> None:
    h = Router(features=NETIF_F_HW_CSUM | NETIF_F_TSO)
    assert len(h.forward(*train(10))) == 1
    assert len(h.forward(*[segment(i * 100, b"x" * 100, id=0) for i in range(10)])) == 10


def test_packets_too_long_for_the_way_on_are_told_so_once_and_not_forwarded() -> None:
    h = Router(mtu=1000)
    assert h.forward(*train(5, 1000)) == []
    (answer,) = [f[10:] for f in h.io.sent if f[19] == 1]
    assert answer[20:22] == b"\x03\x04" and answer[26:28] == (1000).to_bytes(2, "big")
    assert len(h.forward(*train(5, 960))) == 5


def test_packets_that_may_be_fragmented_are() -> None:
    h = Router(mtu=600)
    out = h.forward(*train(3, 1000, frag=0))
    assert [len(o) for o in out] == [596, 464] * 3
    assert [ip.parse(o, 0)[3] for o in out] == [1, 1, 2, 2, 3, 3]
