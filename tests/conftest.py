"""What every test shares: the report of which build is under test."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

import afinet
from afinet import _build

# The same examples in every run: a test passes or fails, it does not flicker. AFINET_EXAMPLES=N, for a soak, draws anew.
settings.register_profile("afinet", derandomize="AFINET_EXAMPLES" not in os.environ, deadline=None, database=None)
settings.load_profile("afinet")


def pytest_report_header() -> str:
    return f"{_build.describe()} from {os.path.dirname(afinet.__file__)}"


def pytest_configure(config: pytest.Config) -> None:
    expected = os.environ.get("AFINET_EXPECT")
    actual = "compiled" if afinet.COMPILED else "pure"
    if expected and expected != actual:
        raise pytest.UsageError(f"AFINET_EXPECT={expected}, but {_build.describe()}")
