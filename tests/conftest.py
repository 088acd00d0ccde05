"""What every test shares: the report of which build is under test, and that nothing is left behind in any Kernel."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

import afinet
from afinet import _build
from tests import leaks

# The same examples in every run: a test passes or fails, it does not flicker. AFINET_EXAMPLES=N, for a soak, draws anew.
settings.register_profile("afinet", derandomize="AFINET_EXAMPLES" not in os.environ, deadline=None, database=None)
settings.load_profile("afinet")

FAILED = pytest.StashKey[bool]()


def pytest_report_header() -> str:
    return f"{_build.describe()} from {os.path.dirname(afinet.__file__)}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "leaks(reason): leaves something in its Kernels, and says why (tests/leaks.py)")
    expected = os.environ.get("AFINET_EXPECT")
    actual = "compiled" if afinet.COMPILED else "pure"
    if expected and expected != actual:
        raise pytest.UsageError(f"AFINET_EXPECT={expected}, but {_build.describe()}")
    leaks.watch_networks()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After the test, in every Kernel that it booted: no timer, no hashed sock, no queued packet, no charged memory, no WARN."""
    leaks.watched.kernels = []
    leaks.watched.active = True
    yield
    leaks.watched.active = False
    kernels = leaks.watched.kernels
    leaks.watched.kernels = []
    if not request.node.stash.get(FAILED, True) and request.node.get_closest_marker("leaks") is None:
        left = leaks.close_and_check(kernels)
        assert not left, "left behind:\n" + "\n".join(left[:20])
