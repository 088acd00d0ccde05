"""The wires as fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire_real.wires import Wire, direct, lossy


@pytest.fixture(params=["direct", "lossy"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """Each kind of it: what holds on one holds on the other."""
    with direct() if request.param == "direct" else lossy() as made:
        yield made
