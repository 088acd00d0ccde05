"""What every test shares: the report of which build is under test."""

from __future__ import annotations

import os

import pytest

import afinet
from afinet import _build


def pytest_report_header() -> str:
    return f"{_build.describe()} from {os.path.dirname(afinet.__file__)}"


def pytest_configure(config: pytest.Config) -> None:
    expected = os.environ.get("AFINET_EXPECT")
    actual = "compiled" if afinet.COMPILED else "pure"
    if expected and expected != actual:
        raise pytest.UsageError(f"AFINET_EXPECT={expected}, but {_build.describe()}")
