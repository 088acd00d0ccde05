"""Frames that nobody should send, put in at the device: each is answered as Linux would or dropped with a reason, none raises, and
when the dust has settled nothing is left behind."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.drivers.veth import veth_receive, veth_wire_newlink
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.net.core import dev as dev_core
from afinet.net.core.net_namespace import cleanup_net
from afinet.net.core.skbuff import CHECKSUM_UNNECESSARY, SkBuff, skb_truesize
from afinet.net.ipv4 import devinet
from afinet.uapi.if_ether import ETH_P_ARP, ETH_P_IP
from afinet.uapi.in_ import IPPROTO_ICMP, IPPROTO_IGMP, IPPROTO_TCP, IPPROTO_UDP
from afinet.wire import arp, ethernet, ip, tcp, udp
from afinet.wire.checksum import ip_compute_csum
from tests.leaks import start_kernel
from tests.net.core.devices import RecordingWire, init_net
from tests.net.ipv4.iphost import addr

ME, PEER = addr("10.0.0.1"), addr("10.0.0.2")
ALL = 0xFFFFFFFFFFFF
ODD = (0, 0xFFFFFFFF, ME | 0xFF, 0x7F000001, 0xE0000001, 0xE00000FB, 0xF0000001, addr("192.0.2.1"))
SOURCES = st.sampled_from([PEER] * 20 + [ME, *ODD])
TARGETS = st.sampled_from([ME] * 20 + [PEER, *ODD])
PORTS = st.sampled_from([0, 7, 80, 65535])


class Host:
    def __init__(self) -> None:
        self.kernel = start_kernel("host", b"hostile")
        self.net = init_net(self.kernel)
        self.wire = RecordingWire()
        self.dev = veth_wire_newlink(self.net, "eth0", self.wire)
        dev_core.dev_open(self.dev)
        devinet.inet_addr_add(self.dev, ME, 24, broadcast=ME | 0xFF)

    def put(self, frame: bytes, cut: int) -> None:
        """In one piece or two, with the transport checksum vouched for or not."""
        head, rest = frame[:cut], frame[cut:]
        skb = SkBuff(head, [rest] if rest else None, len(rest), skb_truesize(len(frame)))
        if cut & 1:
            skb.ip_summed = CHECKSUM_UNNECESSARY
        veth_receive(self.dev, skb)
        self.kernel.run(self.kernel.now)

    def sleep(self, ns: int) -> None:
        end = self.kernel.now + ns
        while self.kernel.next_timer() <= end:
            self.kernel.run(self.kernel.next_timer())
        self.kernel.run(end)


@st.composite
def ipv4_packets(draw: st.DrawFn) -> bytes:
    """An IPv4 packet of which most is right and anything may be wrong."""
    protocol = draw(st.sampled_from([IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_IGMP, 200]))
    saddr, daddr = draw(SOURCES), draw(TARGETS)
    data = draw(st.binary(max_size=40))
    if protocol == IPPROTO_TCP:
        flags = draw(st.integers(0, 0x1FF))
        options = draw(st.binary(max_size=12).map(lambda b: b + bytes(-len(b) % 4)))
        payload = tcp.emit(draw(PORTS), draw(PORTS), draw(st.integers(0, 0xFFFFFFFF)), 0, flags, 100, 0, 0, options) + data
    elif protocol == IPPROTO_UDP:
        payload = udp.emit(draw(PORTS), draw(PORTS), 8 + draw(st.sampled_from([len(data), 0, 60000])), 0) + data
    elif protocol == IPPROTO_ICMP:
        body = bytes([draw(st.integers(0, 20)), draw(st.integers(0, 16)), 0, 0]) + data
        check = ip_compute_csum(body, 0, len(body))
        payload = body[:2] + check.to_bytes(2, "big") + body[4:]
    else:
        payload = data
    options = draw(st.binary(max_size=12).map(lambda b: b + bytes(-len(b) % 4))) if draw(st.booleans()) else b""
    length = 20 + len(options) + len(payload) + draw(st.sampled_from([0] * 9 + [-1, 1, -20]))
    frag_off = draw(st.sampled_from([0] * 12 + [ip.IP_DF, ip.IP_MF, ip.IP_MF | 1, 1, 0x1FFF, 0x3FFF]))
    tos, id, ttl = draw(st.integers(0, 255)), draw(st.integers(0, 3)), draw(st.sampled_from([0, 1, 64, 64, 64]))
    packet = ip.emit(tos, length & 0xFFFF, id, frag_off, ttl, protocol, saddr, daddr, options) + payload
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(packet) - 1))
        packet = packet[:at] + bytes([packet[at] ^ 1 << draw(st.integers(0, 7))]) + packet[at + 1 :]
    if draw(st.integers(0, 5)) == 0:
        packet = packet[: draw(st.integers(0, len(packet)))]
    return packet


FRAMES = st.one_of(
    st.binary(max_size=80),
    st.builds(lambda b: ethernet.emit(ALL, 2, ETH_P_IP) + b, ipv4_packets()),
    st.builds(lambda b: ethernet.emit(ALL, 2, ETH_P_IP) + b"\x45" + b, st.binary(max_size=60)),
    st.builds(lambda b: ethernet.emit(ALL, 2, ETH_P_ARP) + b, st.binary(max_size=40)),
    st.builds(lambda s, d: ethernet.emit(ALL, 2, ETH_P_ARP) + arp.emit(1, 0x02AA00000001, s, 0, d), SOURCES, TARGETS),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(FRAMES, st.integers(0, 60), st.booleans(), st.integers(0, 400)), max_size=15))
def test_no_frame_raises_and_nothing_is_left_behind(frames: list[tuple[bytes, int, bool, int]]) -> None:
    host = Host()
    for frame, cut, to_us, wait in frames:
        if to_us and len(frame) >= 6:
            frame = host.dev.addr_bytes + frame[6:]
        host.put(frame, cut)
        host.sleep(wait * NSEC_PER_MSEC)
    host.sleep(120 * NSEC_PER_SEC)
    kernel = host.kernel
    assert kernel.softirq_count == 0 and kernel.softirq_pending == 0
    assert kernel.timers.pending == 0
    assert kernel.warned == {}
    for n in host.net.arp_tbl.hash.values() if host.net.arp_tbl else []:
        assert n.arp_queue is None or n.arp_queue.qlen == 0
    cleanup_net(host.net)
    assert kernel.timers.pending == 0
