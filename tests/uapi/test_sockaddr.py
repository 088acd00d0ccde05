"""The packed structs, against struct."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.uapi import sockaddr as sa

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
S32 = st.integers(-(1 << 31), (1 << 31) - 1)
S64 = st.integers(-(1 << 61), (1 << 61))

prop = settings(derandomize=True, max_examples=100)


@prop
@given(U32, U16)
def test_sockaddr_in_is_linuxs(addr: int, port: int) -> None:
    packed = sa.pack_sockaddr_in(addr, port)
    assert packed == struct.pack("<H", 2) + struct.pack(">HI", port, addr) + bytes(8)
    assert len(packed) == sa.SIZEOF_SOCKADDR_IN
    assert sa.sa_family(packed) == 2
    assert sa.unpack_sockaddr_in(packed) == (addr, port)


@prop
@given(S32, S32, S64)
def test_integers_wrap_as_in_c(a: int, b: int, c: int) -> None:
    assert sa.pack_s32(a) == struct.pack("<i", a)
    assert sa.get_s32(sa.pack_s32(a), 0) == a
    assert sa.get_u32(sa.pack_s32(a), 0) == a & 0xFFFFFFFF
    assert sa.get_s64(struct.pack("<q", c), 0) == c
    assert sa.pack_linger(a, b) == struct.pack("<ii", a, b)
    assert sa.unpack_linger(sa.pack_linger(a, b)) == (a, b)
    assert sa.unpack_timeval(sa.pack_timeval(c, b)) == (c, b)


@prop
@given(S32, U32, U32)
def test_in_pktinfo(ifindex: int, spec: int, addr: int) -> None:
    assert sa.unpack_in_pktinfo(sa.pack_in_pktinfo(ifindex, spec, addr)) == (ifindex, spec, addr)


@prop
@given(st.lists(st.tuples(S32, S32, st.binary(max_size=40)), max_size=5))
def test_control_messages_come_back_as_they_were_packed(messages: list[tuple[int, int, bytes]]) -> None:
    control = b"".join(sa.pack_cmsg(*m) for m in messages)
    assert len(control) % 8 == 0
    assert sa.parse_cmsgs(control) == messages


@prop
@given(st.binary(max_size=80))
def test_no_control_buffer_raises(control: bytes) -> None:
    sa.parse_cmsgs(control)


def test_a_control_message_longer_than_the_buffer_or_than_nothing_is_malformed() -> None:
    good = sa.pack_cmsg(1, 2, b"abcd")
    assert sa.parse_cmsgs(struct.pack("<Qii", 17, 0, 0)) is None
    assert sa.parse_cmsgs(struct.pack("<Qii", 15, 0, 0)) is None
    assert sa.parse_cmsgs(good + b"short") == [(1, 2, b"abcd")]
    assert sa.parse_cmsgs(good[:20]) == [(1, 2, b"abcd")]  # the last one needs no padding
