"""net/ipv4/udp_offload.py: datagrams put together for a sock with UDP_GRO. What UDP_SEGMENT answers: tests/parity."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.drivers.tun import tun_poll
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.wait import Kiocb
from afinet.net.core import gso
from afinet.net.core.skbuff import CHECKSUM_PARTIAL, SKB_GSO_UDP_L4, skb_tobytes
from afinet.net.ipv4.udp_offload import UDP_GRO_CNT_MAX
from afinet.uapi.errno import EAGAIN
from afinet.uapi.sockaddr import pack_s32, pack_sockaddr_in
from afinet.uapi.socket import AF_INET, MSG_DONTWAIT, SOCK_DGRAM, SOL_UDP
from afinet.uapi.udp import UDP_GRO, UDP_SEGMENT
from afinet.wire import ip
from tests.net.ipv4.grohost import ME, PEER, GroHost, datagram, normal


class UdpHost(GroHost):
    """Port 2 is a sock's, with UDP_GRO if `gro`."""

    def __init__(self, gro: bool = True) -> None:
        super().__init__()
        self.task = new_task(self.kernel, self.net, "udp", None)
        self.fd = self.socket(2)
        if gro:
            self.set(UDP_GRO, 1)

    def socket(self, port: int) -> int:
        fd = syscalls.sys_socket(self.task, AF_INET, SOCK_DGRAM, 0)
        assert syscalls.sys_bind(self.task, fd, pack_sockaddr_in(0, port)) == 0
        return fd

    def set(self, option: int, value: int) -> None:
        assert syscalls.sys_setsockopt(self.task, self.fd, SOL_UDP, option, pack_s32(value)) == 0

    def received(self) -> list[tuple[bytes, int]]:
        """What the sock has: (bytes, the size of the datagrams in it or 0)."""
        out: list[tuple[bytes, int]] = []
        while True:
            n, pieces, control, _, name = syscalls.sys_recvmsg(self.task, Kiocb(), self.fd, 1 << 17, 100, MSG_DONTWAIT)
            if n == -EAGAIN:
                return out
            assert n >= 0 and name == pack_sockaddr_in(PEER, 1)
            size = 0
            if control:
                assert struct.unpack_from("=Qii", control) == (20, SOL_UDP, UDP_GRO)
                (size,) = struct.unpack_from("=i", control, 16)
            out.append((b"".join(pieces), size))


def datagrams(n: int, size: int = 100, **kw: int) -> list[bytes]:
    return [datagram(bytes([i & 0xFF]) * size, id=1 + i, **kw) for i in range(n)]  # type: ignore[arg-type]


def test_datagrams_of_one_length_go_up_as_one_and_the_sock_is_told_their_size() -> None:
    h = UdpHost()
    packets = [*datagrams(5), datagram(b"end", id=6)]
    (skb,) = h.batch(*packets)
    assert (skb.gso_size, skb.gso_segs, skb.gso_type, skb.ip_summed) == (100, 6, SKB_GSO_UDP_L4, CHECKSUM_PARTIAL)
    assert h.frames([skb]) == packets
    assert h.received() == [(b"".join(bytes([i]) * 100 for i in range(5)) + b"end", 100)]


def test_a_sock_that_did_not_ask_gets_datagrams() -> None:
    h = UdpHost(gro=False)
    assert h.lengths(*datagrams(3)) == [1, 1, 1]
    assert [d for d, _ in h.received()] == [bytes([i]) * 100 for i in range(3)]


def test_only_those_of_socks_that_asked_are_merged() -> None:
    h = UdpHost()
    h.socket(3)
    assert h.lengths(*datagrams(3, dport=3), *datagrams(3)) == [1, 1, 1, 3]
    h.set(UDP_GRO, 0)
    assert h.lengths(*datagrams(3)) == [1, 1, 1]


def test_what_was_merged_is_cut_again_when_the_sock_has_changed_its_mind() -> None:
    h = UdpHost()
    h.io.incoming.extend(bytes(10) + p for p in datagrams(3))
    tun_poll(h.dev, 3)
    h.set(UDP_GRO, 0)  # between the driver and the softirq
    h.kernel.run(h.kernel.now)
    assert h.received() == [(bytes([i]) * 100, 0) for i in range(3)]


@pytest.mark.parametrize(
    "packets, lengths",
    [
        ([datagram(b"x" * 100), datagram(b"x" * 101, id=2), datagram(b"x" * 101, id=3)], [1, 2]),
        ([datagram(b"x" * 100), datagram(b"x" * 50, id=2), datagram(b"x" * 50, id=3)], [2, 1]),
        ([datagram(b"x" * 100), datagram(b"x" * 100, id=2, ttl=5)], [1, 1]),
        ([datagram(b"x" * 100), datagram(b"x" * 100, id=2, tos=5)], [1, 1]),
        ([datagram(b"x" * 100), datagram(b"x" * 100, id=3)], [1, 1]),
        ([datagram(b"x" * 100), datagram(b"x" * 100, sport=5, id=2)], [1, 1]),
        ([datagram(b"x" * 100, check=False), datagram(b"x" * 100, id=2, check=False)], [1, 1]),
        ([datagram(b""), datagram(b"", id=2)], [1, 1]),
        ([datagram(b"x" * 100, pad=1), datagram(b"x" * 100, id=2, pad=1)], [1, 1]),
        ([datagram(b"x" * 100, pad=-1), datagram(b"x" * 100, id=2, pad=-1)], [1, 1]),
        (datagrams(UDP_GRO_CNT_MAX + 3), [UDP_GRO_CNT_MAX, 3]),
        (datagrams(50, 1472), [44, 6]),
    ],
)
def test_who_is_merged(packets: list[bytes], lengths: list[int]) -> None:
    h = UdpHost()
    skbs = h.batch(*packets)
    assert sorted(gso.skb_segs(s) for s in skbs) == sorted(lengths)


def test_a_wrong_checksum_is_not_merged() -> None:
    h = UdpHost()
    a, b, c = datagrams(3)
    damaged = b[:-1] + b"\xff"
    assert h.lengths(a, damaged, c) == [1, 1, 1]
    assert [d for d, _ in h.received()] == [bytes(100), bytes([2]) * 100]


def test_headers_that_lie_pass_as_they_came() -> None:
    h = UdpHost()
    whole = datagram(b"x" * 30)
    for packet in (whole[:27], whole[:20], whole[:33], ip.emit(0, 24, 1, 0, 64, 17, PEER, ME) + b"abcd"):
        assert [skb_tobytes(s) for s in h.batch(packet, packet)] == [packet, packet]
    assert h.received() == []


def test_a_message_sent_as_datagrams_leaves_a_device_that_cannot_cut_as_datagrams() -> None:
    h = UdpHost()
    h.set(UDP_SEGMENT, 1000)
    n = syscalls.sys_sendto(h.task, Kiocb(), h.fd, b"x" * 2500, 0, pack_sockaddr_in(PEER, 1))
    assert n == 2500
    frames = [f[10:] for f in h.io.sent]
    assert [len(f) for f in frames] == [1028, 1028, 528]
    # CHECKSUM_PARTIAL, for the device fills checksums in
    assert all(f[26:28] != b"\0\0" for f in frames)


def test_a_socks_wish_ends_with_the_sock() -> None:
    h = UdpHost()
    assert h.lengths(*datagrams(2)) == [2]
    syscalls.sys_close(h.task, Kiocb(), h.fd)
    assert h.lengths(*datagrams(2)) == [1, 1]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 1, 1, 5]),
            st.sampled_from([100, 100, 100, 99, 101, 1, 0]),
            st.sampled_from([0, 1, 1, 1, 1, 2]),
            st.sampled_from([64, 64, 64, 64, 3]),
            st.sampled_from([True, True, True, False]),
        ),
        max_size=100,
    )
)
def test_whatever_comes_can_be_cut_again_and_is_received(packets: list[tuple[int, int, int, int, bool]]) -> None:
    h = UdpHost()
    id = 0
    batch: list[bytes] = []
    for sport, size, step, ttl, check in packets:
        id += step
        batch.append(datagram(bytes([len(batch)]) * size, sport=sport, id=id, ttl=ttl, check=check))
    frames = h.frames(h.batch(*batch))
    for sport in (1, 5):
        mine = [p for p in batch if p[20:22] == sport.to_bytes(2, "big")]
        got = [f for f in frames if f[20:22] == sport.to_bytes(2, "big")]
        # One without a checksum or without data may overtake what was held.
        with_sum = [normal(p) for p in mine if p[26:28] != b"\0\0" and len(p) > 28]
        assert [normal(f) for f in got if f[26:28] != b"\0\0" and len(f) > 28] == with_sum
        assert sorted(f[28:] for f in got) == sorted(p[28:] for p in mine)
