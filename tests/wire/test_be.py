"""The two codecs are one: what struct says, librt says, in either direction, at any offset."""

from __future__ import annotations

import struct
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import afinet
from afinet.wire import _be_struct, be

try:
    from afinet.wire import _be_librt

    MODULES: list[ModuleType] = [be, _be_struct, _be_librt]
except ModuleNotFoundError:  # no librt in a pure installation
    MODULES = [be, _be_struct]

both = pytest.mark.parametrize("m", MODULES, ids=lambda m: m.__name__.rpartition(".")[2])

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u48 = st.integers(0, 0xFFFFFFFFFFFF)

# name -> (the fields, as struct has them; a 48-bit field is H and I together)
SHAPES: dict[str, str] = {
    "u32x3": "III",
    "eth": "MMH",
    "arp": "HHBBHMIMI",
    "ip": "BBHHHBBHII",
    "icmp": "BBHI",
    "udp": "HHHH",
    "tcp": "HHIIHHHH",
}
FIELD = {"B": u8, "H": u16, "I": u32, "M": u48}
SIZE = {"B": 1, "H": 2, "I": 4, "M": 6}


def reference(shape: str, values: tuple[int, ...]) -> bytes:
    return b"".join(v.to_bytes(SIZE[c], "big") for c, v in zip(SHAPES[shape], values, strict=True))


@st.composite
def headers(draw: st.DrawFn) -> tuple[str, tuple[int, ...]]:
    shape = draw(st.sampled_from(sorted(SHAPES)))
    return shape, tuple(draw(FIELD[c]) for c in SHAPES[shape])


@both
@given(header=headers(), before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_a_header_survives_the_round_trip(
    m: ModuleType, header: tuple[str, tuple[int, ...]], before: bytes, after: bytes
) -> None:
    shape, values = header
    packed = getattr(m, f"pack_{shape}")(*values)
    assert packed == reference(shape, values)
    assert type(packed) is bytes
    assert getattr(m, f"unpack_{shape}")(before + packed + after, len(before)) == values


@both
@pytest.mark.parametrize("shape", SHAPES)
def test_the_extremes_of_every_field(m: ModuleType, shape: str) -> None:
    top = [(1 << 8 * SIZE[c]) - 1 for c in SHAPES[shape]]
    half = [1 << 8 * SIZE[c] - 1 for c in SHAPES[shape]]
    for values in (top, half, [0] * len(top), [1] * len(top)):
        packed = getattr(m, f"pack_{shape}")(*values)
        assert packed == reference(shape, tuple(values))
        assert getattr(m, f"unpack_{shape}")(packed, 0) == tuple(values)


@both
@given(values=st.tuples(u16, u16, u32, u32, u16, u16, u16, u16), options=st.binary(max_size=40))
def test_tcp_with_options_is_the_header_and_the_options(
    m: ModuleType, values: tuple[Any, ...], options: bytes
) -> None:
    assert m.pack_tcp_options(*values, options) == m.pack_tcp(*values) + options


@both
@given(data=st.binary(min_size=8, max_size=40), at=st.integers(0, 32))
def test_numbers_are_big_endian_and_unsigned(m: ModuleType, data: bytes, at: int) -> None:
    off = min(at, len(data) - 8)
    for bits in (8, 16, 32, 64):
        assert getattr(m, f"get_u{bits}")(data, off) == int.from_bytes(data[off : off + bits // 8], "big")


@both
@given(v=u32, words=st.lists(u32, max_size=12))
def test_numbers_are_put_as_they_are_got(m: ModuleType, v: int, words: list[int]) -> None:
    assert m.put_u32(v) == v.to_bytes(4, "big")
    assert m.put_u16(v & 0xFFFF) == (v & 0xFFFF).to_bytes(2, "big")
    assert m.put_u32s(words) == b"".join(w.to_bytes(4, "big") for w in words)


@both
@pytest.mark.parametrize("shape", SHAPES)
def test_a_read_past_the_end_raises_and_reads_nothing(m: ModuleType, shape: str) -> None:
    size = sum(SIZE[c] for c in SHAPES[shape])
    with pytest.raises((IndexError, struct.error)):
        getattr(m, f"unpack_{shape}")(bytes(size - 1), 0)
    with pytest.raises((IndexError, struct.error)):
        getattr(m, f"unpack_{shape}")(bytes(size), 1)


def test_the_build_uses_its_own_codec() -> None:
    if afinet.COMPILED:
        assert be.unpack_tcp is _be_librt.unpack_tcp
    else:
        assert be.unpack_tcp is _be_struct.unpack_tcp


def test_both_codecs_have_the_same_names() -> None:
    def names(m: ModuleType) -> set[str]:
        return {n for n in dir(m) if n.startswith(("get_", "put_", "pack_", "unpack_", "csum_"))}

    assert names(be) | {"csum_partial"} == names(_be_struct)
    for m in MODULES:
        assert names(m) | {"csum_partial"} == names(_be_struct)
