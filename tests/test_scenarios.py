"""The core is deterministic: each scenario gives the hash that is written down, in either build and on every Python."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from afinet import Network
from tests.scenarios import HASHES, SCENARIOS, one_byte_each_way, trace_hash


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_the_scenario_gives_the_hash_that_is_written_down(scenario: Callable[[Network], None]) -> None:
    expected = json.loads(HASHES.read_text())[scenario.__name__]
    assert trace_hash(scenario) == expected, "if the packets were meant to change: python -m tests.scenarios --update"


def test_another_seed_gives_another_trace() -> None:
    assert trace_hash(one_byte_each_way, 7) != trace_hash(one_byte_each_way, 8)
