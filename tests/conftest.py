"""What every test shares: the report of which build is under test, and that nothing is left behind in any Kernel."""

from __future__ import annotations

import os
import signal
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

# Seconds that a test in real time may take: no passing one comes near it.
WIRE_LIMIT, SLOW_LIMIT = 120, 1200


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
def time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test in real time that hangs fails, and shows where."""
    if request.node.get_closest_marker("wire") is None:
        yield
        return
    limit = WIRE_LIMIT if request.node.get_closest_marker("slow") is None else SLOW_LIMIT
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"still running after {limit} s"))
    signal.alarm(limit)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


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
