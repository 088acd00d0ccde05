"""The Internet checksum against the plain loop of RFC 1071."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afinet.wire import _be_struct, checksum

try:
    from afinet.wire import _be_librt

    CODECS: list[ModuleType] = [_be_struct, _be_librt]
except ModuleNotFoundError:
    CODECS = [_be_struct]

both = pytest.mark.parametrize("m", CODECS, ids=lambda m: m.__name__.rpartition(".")[2])
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
# Bytes that make sums of zero and all ones likely.
biased = st.lists(st.sampled_from([0, 0, 0xFF, 0xFF, 1, 0x80, 0xFE]), max_size=70).map(bytes)
anything = st.binary(max_size=200) | biased


def plain(data: bytes, sum: int = 0) -> int:
    if len(data) & 1:
        data += b"\0"
    for i in range(0, len(data), 2):
        sum += data[i] << 8 | data[i + 1]
    while sum >> 16:
        sum = (sum & 0xFFFF) + (sum >> 16)
    return sum


@both
@given(data=anything, start=st.integers(0, 20), cut=st.integers(0, 20), sum=st.integers(0, 1 << 40))
def test_a_partial_sum_is_the_plain_loop(m: ModuleType, data: bytes, start: int, cut: int, sum: int) -> None:
    start = min(start, len(data))
    end = max(start, len(data) - cut)
    assert m.csum_partial(data, start, end, sum) == plain(data[start:end], sum)


@both
@pytest.mark.parametrize("size", [0, 1, 2, 3, 31, 32, 33, 1448, 65535, 65536, 1 << 20])
@pytest.mark.parametrize("byte", [0, 0xFF, 0xA5])
def test_a_partial_sum_of_many_equal_bytes(m: ModuleType, size: int, byte: int) -> None:
    words, odd = divmod(size, 2)
    assert m.csum_partial(bytes([byte]) * size, 0, size, 0) == plain(
        b"", words * byte * 0x101 + odd * (byte << 8)
    )


@given(pieces=st.lists(anything, max_size=8), sum=u32)
def test_pieces_of_any_length_sum_to_what_they_make_joined(pieces: list[bytes], sum: int) -> None:
    joined = b"".join(pieces)
    assert checksum.csum_fold(checksum.csum_pieces(pieces, sum)) == plain(joined, sum) ^ 0xFFFF


@given(data=anything, at=st.integers(0, 100))
def test_what_contains_its_checksum_sums_to_zero(data: bytes, at: int) -> None:
    if len(data) & 1:
        data += b"\0"
    at = min(at, len(data)) & ~1
    check = checksum.ip_compute_csum(data, 0, len(data))
    whole = data[:at] + check.to_bytes(2, "big") + data[at:]
    assert checksum.ip_compute_csum(whole, 0, len(whole)) == 0 or not any(whole)
    if any(data):
        assert checksum.ip_compute_csum(whole, 0, len(whole)) == 0


def test_the_checksum_of_nothing_is_all_ones() -> None:
    assert checksum.ip_compute_csum(b"", 0, 0) == 0xFFFF
    assert checksum.csum_fold(0) == 0xFFFF
    assert checksum.csum_fold(0xFFFF) == 0
    assert checksum.csum_fold(0x1FFFE) == 0


def test_the_ip_header_of_the_textbook() -> None:
    header = bytes.fromhex("45000073000040004011b861c0a80001c0a800c7")
    assert checksum.ip_fast_csum(b"xyz" + header, 3, 5) == 0
    assert checksum.ip_fast_csum(header[:10] + b"\0\0" + header[12:], 0, 5) == 0xB861


@given(saddr=u32, daddr=u32, proto=st.integers(0, 255), data=anything)
def test_the_pseudo_header_counts_like_its_bytes(saddr: int, daddr: int, proto: int, data: bytes) -> None:
    n = len(data)
    pseudo = saddr.to_bytes(4, "big") + daddr.to_bytes(4, "big") + bytes([0, proto]) + n.to_bytes(2, "big")
    sum = checksum.csum_partial(data, 0, n, 0)
    assert checksum.csum_tcpudp_magic(saddr, daddr, n, proto, sum) == plain(pseudo + data) ^ 0xFFFF
    nofold = checksum.csum_tcpudp_nofold(saddr, daddr, n, proto, sum)
    assert checksum.csum_fold(nofold) == plain(pseudo + data) ^ 0xFFFF
