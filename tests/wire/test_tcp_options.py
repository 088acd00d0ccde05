"""TCP options: Linux's order on the way out, Linux's tolerance on the way in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afinet.wire import tcp_options as o

u32 = st.integers(0, 0xFFFFFFFF)


def parse(options: bytes, before: bytes = b"", after: bytes = b"") -> o.ParsedOptions:
    out = o.ParsedOptions()
    o.parse_tcp_options(before + options + after, len(before), len(before) + len(options), out)
    return out


def said(p: o.ParsedOptions) -> dict[str, object]:
    """What differs from nothing at all."""
    nothing = o.ParsedOptions()
    return {n: getattr(p, n) for n in NAMES if getattr(p, n) != getattr(nothing, n)}


NAMES = [
    "mss", "wscale", "sack_perm", "saw_tstamp", "tsval", "tsecr", "sacks", "fastopen", "fastopen_exp", "md5",
    "saw_unknown",
]  # fmt: skip


# --- out: the bytes Linux sends ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((1460, 7, True, True, 1, 2), "020405b4 0402080a 00000001 00000002 01030307"),
        ((1460, 7, True, False, 1, 2), "020405b4 01010402 01030307"),
        ((1460, 7, False, True, 1, 2), "020405b4 0101080a 00000001 00000002 01030307"),
        ((1460, -1, True, True, 1, 2), "020405b4 0402080a 00000001 00000002"),
        ((65495, 0, False, False, 1, 2), "0204ffd7 01030300"),
        ((536, -1, False, False, 0, 0), "02040218"),
        ((0, -1, False, False, 0, 0), ""),
    ],
)
def test_the_options_of_a_syn_are_in_linuxs_order(
    args: tuple[int, int, bool, bool, int, int], expected: str
) -> None:
    assert o.build_syn_options(*args) == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("ts", "sacks", "expected"),
    [
        (False, None, ""),
        (True, None, "0101080a 00000001 00000002"),
        (True, [], "0101080a 00000001 00000002"),
        (False, [1, 2], "0101050a 00000001 00000002"),
        (True, [5, 6, 7, 8], "0101080a 00000001 00000002 01010512 00000005 00000006 00000007 00000008"),
    ],
)
def test_the_options_of_a_later_segment(ts: bool, sacks: list[int] | None, expected: str) -> None:
    assert o.build_established_options(ts, 1, 2, sacks) == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("cookie", "exp", "expected"),
    [
        ("", False, "2202 0101"),
        ("", True, "fe04f989"),
        ("0102030405060708", False, "220a 0102030405060708"),
        ("0102030405060708", True, "fe0cf989 0102030405060708"),
    ],
)
def test_fast_open(cookie: str, exp: bool, expected: str) -> None:
    built = o.build_fastopen_option(bytes.fromhex(cookie), exp)
    while len(bytes.fromhex(expected)) % 4:
        expected += "01"
    assert built == bytes.fromhex(expected)
    assert parse(built).fastopen == bytes.fromhex(cookie)
    assert parse(built).fastopen_exp is exp


@given(
    mss=st.integers(1, 0xFFFF), wscale=st.integers(-1, 255), sack=st.booleans(), ts=st.booleans(), val=u32,
    ecr=u32, before=st.binary(max_size=5), after=st.binary(max_size=5),
)  # fmt: skip
def test_a_syn_round_trip(
    mss: int, wscale: int, sack: bool, ts: bool, val: int, ecr: int, before: bytes, after: bytes
) -> None:
    options = o.build_syn_options(mss, wscale, sack, ts, val, ecr)
    assert len(options) % 4 == 0 and len(options) <= o.MAX_TCP_OPTION_SPACE
    p = parse(options, before, after)
    assert (p.mss, p.wscale, p.sack_perm, p.saw_tstamp) == (mss, wscale, sack, ts)
    assert (p.tsval, p.tsecr) == ((val, ecr) if ts else (0, 0))
    assert not p.saw_unknown and p.sacks is None


@given(ts=st.booleans(), val=u32, ecr=u32, blocks=st.lists(st.tuples(u32, u32), max_size=4))
def test_an_established_round_trip(ts: bool, val: int, ecr: int, blocks: list[tuple[int, int]]) -> None:
    sacks = [edge for block in blocks for edge in block]
    p = parse(o.build_established_options(ts, val, ecr, sacks or None))
    assert p.saw_tstamp == ts
    assert p.sacks == (sacks or None)


# --- in: the fast path ------------------------------------------------------------------------------------


@given(val=u32, ecr=u32, before=st.binary(max_size=5))
def test_the_fast_path_sees_what_the_parser_sees(val: int, ecr: int, before: bytes) -> None:
    options = o.build_established_options(True, val, ecr, None)
    assert o.parse_fast_timestamp(before + options, len(before), 12) == (True, val, ecr)


@given(data=st.binary(min_size=12, max_size=40), length=st.integers(0, 40))
def test_the_fast_path_takes_nothing_else(data: bytes, length: int) -> None:
    ok, _, _ = o.parse_fast_timestamp(data, 0, length)
    assert ok == (length == 12 and data[:4] == b"\x01\x01\x08\x0a")


# --- in: tolerance ----------------------------------------------------------------------------------------

NOTHING: dict[str, object] = {}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", NOTHING),
        ("01 01 01 01", NOTHING),
        ("00 020405b4", NOTHING),  # the end of the list is the end
        ("02", NOTHING),  # a kind with no length
        ("02 00 05b4", NOTHING),  # length 0 stops, for it would stop for ever
        ("02 01 05b4 030307", NOTHING),  # length 1 too
        ("02 05 05b4", NOTHING),  # past the end
        ("030307 02 08 05b4", {"wscale": 7}),  # what came before stands
        ("02 04 0000", NOTHING),  # an MSS of 0 is ignored
        ("02 03 05 030307", {"wscale": 7}),  # a known kind of the wrong length is skipped
        ("0303ff", {"wscale": 255}),  # the caller clamps
        ("020405b4 02040200", {"mss": 0x200}),  # the last one counts
        ("fd 04 1234 0402", {"sack_perm": True, "saw_unknown": True}),
        ("fe 04 1234 0402", {"sack_perm": True, "saw_unknown": True}),  # experimental, but not fast open
        ("fe 02 0402", {"sack_perm": True, "saw_unknown": True}),
        ("05 02 0402", {"sack_perm": True}),  # SACK without a block
        ("05 09 00000001000000", NOTHING),  # SACK of a wrong length
        ("050a 0000000100000002", {"sacks": [1, 2]}),
        ("080a 00000001 00000002", {"saw_tstamp": True, "tsval": 1, "tsecr": 2}),
        ("0809 00000001 000000", NOTHING),
        ("1312" + "ab" * 16, {"md5": b"\xab" * 16}),
        ("1311" + "ab" * 15, NOTHING),
        ("2203 aa", NOTHING),  # a cookie of odd length is not seen
        ("2204 aabb", {}),  # one too short
        ("2202 2204aabb", {}),  # voids the one before
        ("2202", {"fastopen": b""}),
        ("2206 aabbccdd", {"fastopen": b"\xaa\xbb\xcc\xdd"}),
        ("2214" + "cc" * 18, {}),  # one too long
    ],
)
def test_a_malformed_option_is_what_linux_makes_of_it(options: str, expected: dict[str, object]) -> None:
    assert said(parse(bytes.fromhex(options))) == expected


# Kinds that mean something, with lengths near the right ones.
option = st.builds(
    lambda kind, size, body: bytes([kind, size]) + body,
    st.sampled_from([0, 1, 2, 3, 4, 5, 8, 19, 29, 30, 34, 253, 254, 255]),
    st.sampled_from([0, 1, 2, 3, 4, 6, 9, 10, 11, 12, 18, 20, 26, 34, 40, 255]),
    st.binary(max_size=18),
)
hostile = st.binary(max_size=40) | st.lists(option, max_size=6).map(b"".join)


@given(options=hostile, before=st.binary(max_size=5), after=st.binary(max_size=20))
def test_hostile_options_never_raise_and_never_read_past_their_end(
    options: bytes, before: bytes, after: bytes
) -> None:
    alone, amid = parse(options), parse(options, before, after)
    assert said(alone) == said(amid)
    assert alone.sacks is None or (len(alone.sacks) % 2 == 0 and alone.sacks)
    assert alone.fastopen is None or len(alone.fastopen) in (0, 4, 6, 8, 10, 12, 14, 16)


@given(options=hostile)
def test_a_parse_leaves_nothing_of_the_one_before(options: bytes) -> None:
    used = o.ParsedOptions()
    everything = o.build_syn_options(1460, 7, True, True, 1, 2) + o.build_fastopen_option(b"abcdefgh", True)
    o.parse_tcp_options(everything, 0, len(everything), used)
    o.parse_tcp_options(options, 0, len(options), used)
    assert said(used) == said(parse(options))


@given(options=st.binary(max_size=9))
def test_padding_fills_with_nops(options: bytes) -> None:
    padded = o.pad_options(options)
    assert len(padded) % 4 == 0 and len(padded) - len(options) < 4
    assert padded[: len(options)] == options and set(padded[len(options) :]) <= {1}
