"""Every storm of storms.py, small."""

from __future__ import annotations

import pytest

from tests.storms.storms import STORMS, run_storm


@pytest.mark.parametrize("name", STORMS)
def test_a_storm_passes(name: str) -> None:
    result = run_storm(name, 2000)
    assert result.clients == [True, True, True] and result.left == []
