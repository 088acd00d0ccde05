"""net/ipv4/inet_offload.py: what a super-packet becomes on a device that cannot cut it."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.kernel.machine import Kernel
from afinet.net.core import dev as dev_core
from afinet.net.core.netdevice import NETIF_F_HW_CSUM, NETIF_F_TSO, NetDevice
from afinet.net.core.skbuff import CHECKSUM_PARTIAL, SKB_GSO_TCPV4, SKB_GSO_UDP_L4, SkBuff, skb_set_owner_w, skb_truesize
from afinet.net.core.sock import Proto, Sock
from afinet.net.ipv4.inet_offload import inet_gso_segment, ipv4_offload_init
from afinet.net.ipv4.tcp_offload import tcpv4_offload_init
from afinet.net.ipv4.udp_offload import udpv4_offload_init
from afinet.uapi.errno import EINVAL, EPROTONOSUPPORT
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.in_ import IPPROTO_TCP, IPPROTO_UDP
from afinet.wire import checksum, ethernet, ip, tcp, udp
from tests.net.core.devices import Sink, boot, drops, init_net, sink_device

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
