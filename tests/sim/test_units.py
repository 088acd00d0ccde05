"""Quantities as people write them."""

from __future__ import annotations

import pytest

from afinet.sim import units
from afinet.sim.units import UsageError


@pytest.mark.parametrize(
    ("value", "ns"),
    [("20ms", 20_000_000), ("1.5s", 1_500_000_000), ("100us", 100_000), ("7ns", 7), (0.02, 20_000_000), (3, 3 * 10**9), (0, 0),
     ("2min", 120 * 10**9), ("1h", 3600 * 10**9), ("0.1 s", 10**8), (0.1, 10**8), ("5", 5 * 10**9), ("1e-3s", 10**6)],
)  # fmt: skip
def test_times_are_exact_nanoseconds(value: units.Quantity, ns: int) -> None:
    assert units.parse_time(value) == ns


@pytest.mark.parametrize(
    ("value", "bits"),
    [("10mbit", 10**7), ("1gbit", 10**9), ("9600bit", 9600), ("1.5mbit", 1_500_000), (64000, 64000), (None, 0), ("10Mbit/s", 10**7),
     ("1mibit", 1 << 20)],
)  # fmt: skip
def test_rates_are_bits_a_second(value: units.Quantity | None, bits: int) -> None:
    assert units.parse_rate(value) == bits


@pytest.mark.parametrize(("value", "share"), [("1%", 0.01), (0.01, 0.01), ("0.5", 0.5), (1, 1.0), ("100%", 1.0), (0, 0.0)])
def test_shares_are_probabilities(value: units.Quantity, share: float) -> None:
    assert units.parse_share(value) == share


@pytest.mark.parametrize(
    ("value", "queue"), [(100, (100, 0)), ("100", (100, 0)), ("50 packets", (50, 0)), ("64kb", (0, 64000)), ("1MiB", (0, 1 << 20))]
)
def test_queues_count_packets_or_bytes(value: units.Quantity, queue: tuple[int, int]) -> None:
    assert units.parse_queue(value) == queue


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (lambda: units.parse_time("20 parsecs", "delay"), "delay='20 parsecs' is not a time: write it like '20ms'"),
        (lambda: units.parse_time(-1, "delay"), "delay=-1 is not a time"),
        (lambda: units.parse_time(float("nan")), "is not a time"),
        (lambda: units.parse_time(True), "is not a time"),
        (lambda: units.parse_rate("10mbps"), "may mean bits or bytes: write '10mbit'"),
        (lambda: units.parse_rate("fast"), "is not a rate"),
        (lambda: units.parse_rate(0), "is not a rate"),
        (lambda: units.parse_share("101%"), "loss='101%' is not a share: write it like 0.01 or '1%'"),
        (lambda: units.parse_share(1.5), "is not a share"),
        (lambda: units.parse_queue(0), "is not a queue"),
        (lambda: units.parse_queue("many"), "is not a queue"),
        (lambda: units.parse_address("10.0.0.256"), "is not an IPv4 address"),
        (lambda: units.parse_address("10.0.0.1/33"), "is not an IPv4 address"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_remedy(call: object, remedy: str) -> None:
    with pytest.raises(UsageError) as e:
        call()  # type: ignore[operator]
    assert remedy in str(e.value) and "\n" not in str(e.value)


def test_addresses_are_read_and_written() -> None:
    assert units.parse_address("10.1.2.3/24") == (0x0A010203, 24)
    assert units.parse_address("10.1.2.3") == (0x0A010203, 32)
    assert units.format_address(0x0A010203) == "10.1.2.3"


def test_values_are_shown_as_people_write_them() -> None:
    assert units.format_time(20_000_000) == "20ms" and units.format_time(1_500_000_000) == "1.5s"
    assert units.format_rate(10_000_000) == "10mbit" and units.format_rate(0) == "unlimited"
