"""UDP_SEGMENT and UDP_GRO: afinet answers what Linux 6.18 answered (segment_answers.json), and hands IP the same packets.

`python -m tests.parity.linux_oracle tests.parity.segment_programs` asks the kernel anew.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.parity.afinet_calls import AfinetCalls
from tests.parity.programs import run_program
from tests.parity.segment_programs import all_programs

HERE = Path(__file__).parent
ANSWERS: dict[str, Any] = json.loads((HERE / "segment_answers.json").read_text())
PROGRAMS = all_programs()


def test_the_stored_answers_are_of_these_programs() -> None:
    assert list(ANSWERS) == list(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_answers_as_linux(name: str) -> None:
    calls = AfinetCalls()
    ours = json.loads(json.dumps(run_program(calls, PROGRAMS[name])))
    assert ours == ANSWERS[name]
    assert calls.kernel.warned == {}


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not platform.release().startswith("6.18"),
    reason="asks the running kernel: needs root and Linux 6.18",
)
def test_the_kernel_still_answers_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.linux_oracle", "tests.parity.segment_programs"],
        capture_output=True,
        text=True,
        cwd=HERE.parent.parent,
    )
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip().splitlines()[-1]}")
    assert json.loads(done.stdout) == ANSWERS
