"""drivers/tun.py: what crosses, its header, and what the other end may not do. The real device: tests/wire_real."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.drivers.tun import TunIO, TunOps, tun_newlink, tun_poll, tun_receive, tun_wake
from afinet.init.main import new_task
from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core import dev as dev_core
from afinet.net.core.gso import dev_add_offload
from afinet.net.core.netdevice import NetDevice
from afinet.net.core.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_DODGY,
    SKB_GSO_TCPV4,
    SKB_GSO_UDP_L4,
    SkBuff,
    alloc_skb,
    consume_skb,
    skb_tobytes,
)
from afinet.net.ipv4 import devinet
from afinet.net.ipv4.inet_offload import IpPacketOffload
from afinet.net.ipv4.udp_offload import udpv4_offload_init
from afinet.runner.hub import Event, Hub, HubKernel
from afinet.sim.script import Calls, start
from afinet.uapi.errno import EAGAIN, EIO
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import AF_INET, SOCK_STREAM
from afinet.wire import ip, tcp, udp
from tests.leaks import start_kernel
from tests.net.core.devices import Handler, boot, drops, init_net
from tests.net.ipv4.iphost import addr

ME, PEER = addr("10.0.0.1"), addr("10.0.0.2")
NEEDS_CSUM, DATA_VALID = 1, 2
NONE, TCPV4, UDP_L4, ECN = 0, 1, 5, 0x80


class FakeIO(TunIO):
    def __init__(self) -> None:
        self.incoming: deque[bytes] = deque()
        self.sent: list[bytes] = []
        self.answer = 0

    def read(self) -> bytes | None:
        return self.incoming.popleft() if self.incoming else None

    def writev(self, pieces: list[bytes]) -> int:
        if self.answer == 0:
            assert len(pieces) <= 1024
            self.sent.append(b"".join(pieces))
        return self.answer


class Look(Handler):
    """Keeps what the stack is given."""

    def __init__(self) -> None:
        super().__init__(ETH_P_IP)
        self.skbs: list[SkBuff] = []

    def func(self, skb: SkBuff, dev: NetDevice) -> int:
        self.skbs.append(skb)
        return super().func(skb, dev)


def device(tap: bool = False, hdr: int = 10, tso: bool = True, uso: bool = False) -> tuple[NetDevice, FakeIO, Look]:
    kernel = boot()
    io = FakeIO()
    dev = tun_newlink(init_net(kernel), "tun0", io, tap, hdr, tso, uso=uso)
    assert dev_core.dev_open(dev) == 0
    look = Look()
    dev_core.dev_add_pack(kernel, look)
    return dev, io, look


def vnet(flags: int = 0, gso: int = 0, hdr_len: int = 0, size: int = 0, start: int = 0, offset: int = 0, pad: int = 0) -> bytes:
    return struct.pack("<BBHHHH", flags, gso, hdr_len, size, start, offset) + bytes(pad)


def segment(data: bytes) -> bytes:
    header = tcp.emit(1, 2, 3, 4, 0x10, 5, 0, 0, b"")
    return ip.emit(0, 40 + len(data), 1, 0, 64, 6, PEER, ME, b"") + header + data


def take(dev: NetDevice, io: FakeIO, *frames: bytes) -> None:
    io.incoming.extend(frames)
    assert tun_poll(dev, 64) == len(frames)
    assert dev.nd_net is not None
    dev.nd_net.kernel.run(0)


# -- in --------------------------------------------------------------------------------------------------------------------


def test_a_bare_packet_comes_in() -> None:
    dev, io, look = device(hdr=0)
    take(dev, io, segment(b"abc"))
    assert look.got == [("tun0", 0, segment(b"abc"))]
    assert (dev.stats.rx_packets, dev.stats.rx_bytes) == (1, 43)


def test_an_ethernet_frame_comes_in_for_its_address() -> None:
    dev, io, look = device(tap=True)
    frame = dev.addr_bytes + bytes.fromhex("020000000009") + b"\x08\x00" + segment(b"abc")
    take(dev, io, vnet() + frame)
    assert look.got == [("tun0", 0, segment(b"abc"))]


@pytest.mark.parametrize(
    "flags, summed", [(0, CHECKSUM_NONE), (DATA_VALID, CHECKSUM_UNNECESSARY), (NEEDS_CSUM, CHECKSUM_PARTIAL)]
)
def test_the_header_says_what_the_checksum_is(flags: int, summed: int) -> None:
    dev, io, look = device()
    take(dev, io, vnet(flags, start=20, offset=16) + segment(b"abc"))
    skb = look.skbs[0]
    assert skb.ip_summed == summed and skb_tobytes(skb) == segment(b"abc")
    if summed == CHECKSUM_PARTIAL:
        assert skb.csum_start - skb.data == 20 and skb.csum_offset == 16


def test_a_super_packet_comes_in_whole() -> None:
    dev, io, look = device(hdr=12)
    data = bytes(60_001)
    take(dev, io, vnet(NEEDS_CSUM, TCPV4 | ECN, 40, 1460, 20, 16, pad=2) + segment(data))
    skb = look.skbs[0]
    assert (skb.gso_size, skb.gso_segs, skb.gso_type) == (1460, 42, SKB_GSO_TCPV4 | SKB_GSO_DODGY)
    assert skb.len == 40 + len(data)


def test_a_packet_of_one_segment_is_no_super_packet() -> None:
    dev, io, look = device()
    take(dev, io, vnet(NEEDS_CSUM, TCPV4, 40, 1460, 20, 16) + segment(bytes(1460)))
    assert look.skbs[0].gso_size == 0 and look.skbs[0].ip_summed == CHECKSUM_PARTIAL


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        vnet()[:9],
        vnet(),  # no packet behind it
        vnet(NEEDS_CSUM, start=50, offset=16) + segment(b""),
        vnet(NEEDS_CSUM, start=65535, offset=65535) + segment(b""),
        vnet(NEEDS_CSUM, TCPV4, 40, 0, 20, 16) + segment(bytes(3000)),  # segments of nothing
        vnet(NEEDS_CSUM, TCPV4, 40, 1460, 20, 6) + segment(bytes(3000)),  # not TCP's checksum
        vnet(NEEDS_CSUM, TCPV4, 40, 1460, 3030, 8) + segment(bytes(3000)),
        vnet(0, TCPV4, 40, 1460) + segment(bytes(3000)),  # a super-packet with a checksum
        vnet(NEEDS_CSUM, UDP_L4, 28, 1000, 20, 6) + segment(bytes(3000)),  # not offered
        vnet(NEEDS_CSUM, 3, 28, 1000, 20, 6) + segment(bytes(3000)),  # UFO
        vnet(NEEDS_CSUM, 77, 40, 1460, 20, 16) + segment(bytes(3000)),
        vnet() + b"\x00" * 40,  # neither IPv4 nor IPv6
    ],
)
def test_what_cannot_be_is_counted_and_dropped(frame: bytes) -> None:
    dev, io, look = device()
    take(dev, io, frame)
    assert look.skbs == [] and dev.stats.rx_errors == 1 and dev.stats.rx_packets == 0
    assert sum(drops(init_net_of(dev)).values()) == 1


def init_net_of(dev: NetDevice) -> Any:
    return dev.nd_net


def test_a_device_without_tso_takes_no_super_packet() -> None:
    dev, io, look = device(tso=False)
    take(dev, io, vnet(NEEDS_CSUM, TCPV4, 40, 1460, 20, 16) + segment(bytes(3000)))
    assert look.skbs == [] and dev.stats.rx_errors == 1


def datagrams(data: bytes) -> bytes:
    return ip.emit(0, 28 + len(data), 1, 0, 64, 17, PEER, ME, b"") + udp.emit(1, 2, 8 + len(data), 0xABCD) + data


def test_a_super_packet_of_datagrams_comes_in_whole_where_it_was_offered() -> None:
    dev, io, look = device(uso=True)
    take(dev, io, vnet(NEEDS_CSUM, UDP_L4, 28, 1000, 20, 6) + datagrams(bytes(3500)))
    (skb,) = look.skbs
    assert (skb.gso_size, skb.gso_segs, skb.gso_type) == (1000, 4, SKB_GSO_UDP_L4 | SKB_GSO_DODGY)
    assert (skb.ip_summed, skb.csum_start - skb.data, skb.csum_offset) == (CHECKSUM_PARTIAL, 20, 6)
    take(dev, io, vnet(NEEDS_CSUM, UDP_L4, 28, 1000, 20, 6) + datagrams(bytes(1000)))
    assert look.skbs[1].gso_size == 0
    dev, io, look = device(uso=False)
    take(dev, io, vnet(NEEDS_CSUM, UDP_L4, 28, 1000, 20, 6) + datagrams(bytes(3500)))
    assert look.skbs == [] and dev.stats.rx_errors == 1


@pytest.mark.parametrize("kind", [UDP_L4, TCPV4])
def test_a_super_packet_of_ipv6_is_dropped_and_counted(kind: int) -> None:
    dev, io, look = device(uso=True)
    ipv6 = bytes([0x60]) + bytes(5) + bytes([6 if kind == TCPV4 else 17, 64]) + bytes(32)
    packet = vnet(NEEDS_CSUM, kind, 60, 1000, 40, 16 if kind == TCPV4 else 6) + ipv6 + bytes(12) + b"\x50" + bytes(4000)
    take(dev, io, packet, packet)
    assert look.skbs == [] and dev.stats.rx_nohandler == 2
    assert drops(init_net_of(dev)) == {"UNHANDLED_PROTO": 2}


def test_a_short_ethernet_frame_is_dropped() -> None:
    dev, io, _ = device(tap=True)
    take(dev, io, vnet() + bytes(13))
    assert dev.stats.rx_errors == 1


def test_the_budget_bounds_what_is_read() -> None:
    dev, io, _ = device()
    io.incoming.extend([vnet() + segment(b"")] * 10)
    assert tun_poll(dev, 4) == 4 and len(io.incoming) == 6


# -- out -------------------------------------------------------------------------------------------------------------------


def outgoing(dev: NetDevice, data: bytes, partial: bool = True, gso: int = 0) -> SkBuff:
    skb = alloc_skb(segment(b"")[:20] + tcp.emit(1, 2, 3, 4, 0x90, 5, 0, 0, b""))
    if data:
        skb.frags, skb.data_len = [data], len(data)
        skb.len += len(data)
    skb.dev = dev
    skb.protocol = ETH_P_IP
    skb.transport_header = 20
    if partial:
        skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, 20, 16
    if gso:
        skb.gso_size, skb.gso_segs, skb.gso_type = gso, -(-len(data) // gso), SKB_GSO_TCPV4
    return skb


def test_headers_go_out_as_the_kernel_reads_them() -> None:
    dev, io, _ = device()
    plain, partial, large = outgoing(dev, b"abc", False), outgoing(dev, b"abc"), outgoing(dev, bytes(5000), gso=1000)
    bodies = [skb_tobytes(s) for s in (plain, partial, large)]
    for skb in (plain, partial, large):
        assert dev_core.dev_queue_xmit(skb) == 0
    # CWR is set in these
    heads = [vnet(), vnet(NEEDS_CSUM, 0, 0, 0, 20, 16), vnet(NEEDS_CSUM, TCPV4 | ECN, 40, 1000, 20, 16)]
    assert io.sent == [h + b for h, b in zip(heads, bodies, strict=True)]
    assert dev.stats.tx_packets == 3


def test_a_super_packet_of_datagrams_goes_out_whole_where_the_other_end_takes_it() -> None:
    for uso in (True, False):
        dev, io, _ = device(uso=uso)
        dev_add_offload(dev.nd_net.kernel, IpPacketOffload(dev.nd_net.kernel))  # type: ignore[union-attr]
        assert udpv4_offload_init(dev.nd_net.kernel) == 0  # type: ignore[union-attr]
        skb = alloc_skb(datagrams(b""))
        skb.frags, skb.data_len, skb.len = [bytes(2500)], 2500, 2528
        skb.dev, skb.protocol, skb.transport_header = dev, ETH_P_IP, 20
        skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, 20, 6
        skb.gso_size, skb.gso_segs, skb.gso_type = 1000, 3, SKB_GSO_UDP_L4
        assert dev_core.dev_queue_xmit(skb) == 0
        if uso:
            assert [f[:10] for f in io.sent] == [vnet(NEEDS_CSUM, UDP_L4, 28, 1000, 20, 6)]
        else:
            assert [f[:10] for f in io.sent] == [vnet(NEEDS_CSUM, start=20, offset=6)] * 3
            assert [len(f) - 38 for f in io.sent] == [1000, 1000, 500]


def test_the_header_of_the_packet_before_is_not_used_for_another_kind() -> None:
    dev, io, _ = device()
    for gso in (0, 1000, 1000, 999, 0):
        dev_core.dev_queue_xmit(outgoing(dev, bytes(5000), gso=gso))
    assert [struct.unpack("<H", f[4:6])[0] for f in io.sent] == [0, 1000, 1000, 999, 0]


def test_offsets_beyond_a_byte_are_not_mixed_up() -> None:
    dev, _, _ = device()
    ops = dev.netdev_ops
    assert isinstance(ops, TunOps)
    for at in (20, 276, 20, 300, 276):
        skb = alloc_skb(bytes(400))
        skb.ip_summed, skb.csum_start, skb.csum_offset = CHECKSUM_PARTIAL, at, 16
        assert ops.virtio_net_hdr(skb) == vnet(NEEDS_CSUM, start=at, offset=16)
        consume_skb(skb)


def test_without_headers_checksums_and_segments_are_made_in_software() -> None:
    kernel = start_kernel("host", b"tun")
    net = init_net(kernel)
    io = FakeIO()
    dev = tun_newlink(net, "tun0", io, False)
    dev_core.dev_open(dev)
    dev_core.dev_queue_xmit(outgoing(dev, bytes(2500), gso=1000))
    assert [len(f) for f in io.sent] == [1040, 1040, 540]


def test_many_small_pieces_are_joined_before_the_host_refuses_them() -> None:
    dev, io, _ = device()
    skb = outgoing(dev, b"")
    skb.frags, skb.data_len = [b"x"] * 5000, 5000
    skb.len += 5000
    dev_core.dev_queue_xmit(skb)
    assert len(io.sent[0]) == 10 + 40 + 5000


def test_a_full_wire_holds_packets_back_and_takes_them_later() -> None:
    dev, io, _ = device()
    io.answer = -EAGAIN
    for i in range(3):
        dev_core.dev_queue_xmit(outgoing(dev, bytes([i])))
    assert io.sent == [] and dev.queue_stopped
    io.answer = 0
    tun_wake(dev)
    assert dev.nd_net is not None
    dev.nd_net.kernel.run(0)
    assert [f[-1] for f in io.sent] == [0, 1, 2]


def test_a_broken_wire_loses_packets_and_counts_them() -> None:
    dev, io, _ = device()
    io.answer = -EIO
    dev_core.dev_queue_xmit(outgoing(dev, b"x"))
    assert dev.stats.tx_errors == 1 and not dev.queue_stopped


# -- both ------------------------------------------------------------------------------------------------------------------


class Arrival(Event):
    def __init__(self, dev: NetDevice, place: HubKernel) -> None:
        super().__init__()
        self.dev = dev
        self.place = place

    def fire(self, hub: Hub) -> None:
        tun_poll(self.dev, 64)
        self.place.run()


class CrossIO(TunIO):
    """Two of these are a wire: what one is given, the other has to read a millisecond later."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.incoming: deque[bytes] = deque()
        self.peer: CrossIO | None = None
        self.arrival: Arrival | None = None
        self.largest = 0

    def read(self) -> bytes | None:
        return self.incoming.popleft() if self.incoming else None

    def writev(self, pieces: list[bytes]) -> int:
        frame = b"".join(pieces)
        self.largest = max(self.largest, len(frame))
        assert self.peer is not None and self.peer.arrival is not None
        self.peer.incoming.append(frame)
        if self.peer.arrival.when < 0:
            self.hub.schedule(self.peer.arrival, self.hub.now + 1_000_000)
        return 0


@pytest.mark.parametrize("tap", [False, True])
@pytest.mark.parametrize("hdr, tso", [(0, False), (10, False), (10, True), (12, True)])
def test_a_stream_crosses_whatever_the_two_ends_leave_to_each_other(tap: bool, hdr: int, tso: bool) -> None:
    kernels = [start_kernel(f"host{i}", b"%d" % i) for i in range(2)]
    hub = Hub(kernels[0].now)
    ios = [CrossIO(hub), CrossIO(hub)]
    tasks = []
    for i, (io, kernel) in enumerate(zip(ios, kernels, strict=True)):
        place = hub.attach(kernel)
        net = init_net(kernel)
        dev = tun_newlink(net, "tun0", io, tap, hdr, tso)
        dev_core.dev_open(dev)
        devinet.inet_addr_add(dev, (ME, PEER)[i], 24)
        io.peer = ios[1 - i]
        io.arrival = Arrival(dev, place)
        tasks.append(new_task(kernel, net, "test", None))
    data = bytes(range(256)) * 2000

    def server(c: Calls) -> Generator[Any, Any, bytes]:
        fd = c.socket(AF_INET, SOCK_STREAM)
        c.bind(fd, pack_sockaddr_in(0, 80))
        c.listen(fd, 1)
        conn, _ = yield c.accept(fd)
        got = b""
        while True:
            n, pieces, _ = yield c.recv(conn, 1 << 20)
            if n <= 0:
                return got
            got += b"".join(pieces)

    def client(c: Calls) -> Generator[Any, Any, None]:
        fd = c.socket(AF_INET, SOCK_STREAM)
        assert (yield c.connect(fd, pack_sockaddr_in(ME, 80))) == 0
        assert (yield c.send(fd, data)) == len(data)
        yield c.close(fd)

    serving = start(hub, tasks[0], server)
    start(hub, tasks[1], client)
    hub.run(hub.now + 10 * NSEC_PER_SEC, 1_000_000)
    assert serving.done and serving.value == data
    largest = ios[1].largest
    assert largest > 10_000 if tso else largest <= 1500 + hdr + (14 if tap else 0)


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 3, 255]),
            st.sampled_from([0, 1, 3, 4, 5, 0x80, 0x81, 0x85, 255]),
            st.integers(0, 65535),
            st.sampled_from([0, 1, 7, 1448, 1460, 65535]),
            st.sampled_from([0, 14, 19, 20, 24, 33, 34, 40, 1000, 65535]),
            st.sampled_from([0, 2, 6, 16, 17, 65535]),
            st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda b: segment(b)), st.just(segment(bytes(4000)))),
            st.integers(0, 4200),
        ),
        max_size=8,
    ),
    st.booleans(),
    st.sampled_from([0, 10, 12]),
)
def test_nothing_that_is_read_raises_or_stays(
    frames: list[tuple[int, int, int, int, int, int, bytes, int]], tap: bool, hdr: int
) -> None:
    kernel = start_kernel("host", b"hostile")
    net = init_net(kernel)
    io = FakeIO()
    dev = tun_newlink(net, "tun0", io, tap, hdr, True, uso=True)
    dev_core.dev_open(dev)
    devinet.inet_addr_add(dev, ME, 24)
    for i, (flags, gso, hdr_len, size, at, offset, body, cut) in enumerate(frames):
        head = vnet(flags, gso, hdr_len, size, at, offset, 2)[:hdr]
        link = dev.addr_bytes + bytes.fromhex("0200000000090800") if tap else b""
        tun_receive(dev, (head + link + body)[:cut])
        kernel.run((i + 1) * 1_000_000)
    stats = dev.stats
    assert stats.rx_packets + stats.rx_errors + stats.rx_dropped >= len(frames)
