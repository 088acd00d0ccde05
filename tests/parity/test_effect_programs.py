"""Time stamps and their error queue: afinet tells what Linux 6.18 told (effect_answers.json).

python -m tests.parity.linux_oracle tests.parity.effect_programs > tests/parity/effect_answers.json     asks the kernel anew
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
from tests.parity.effect_programs import all_programs
from tests.parity.programs import run_program

HERE = Path(__file__).parent
ANSWERS: dict[str, Any] = json.loads((HERE / "effect_answers.json").read_text())
PROGRAMS = all_programs()


def ask_linux(*args: str, names: list[str] | None = None) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.linux_oracle", "tests.parity.effect_programs", *args],
        input=None if names is None else json.dumps(names),
        capture_output=True,
        text=True,
        cwd=HERE.parent.parent,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip().splitlines()[-1]}")
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def test_the_stored_answers_are_of_these_programs() -> None:
    assert list(ANSWERS) == list(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_options_do_what_they_do_on_linux(name: str) -> None:
    calls = AfinetCalls()
    assert json.loads(json.dumps(run_program(calls, PROGRAMS[name]))) == ANSWERS[name]
    assert calls.kernel.warned == {}


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not platform.release().startswith("6.18"),
    reason="asks the running kernel: needs root and Linux 6.18",
)
def test_the_kernel_still_answers_so() -> None:
    linux = ask_linux()
    differ = [name for name in PROGRAMS if linux[name] != ANSWERS[name]]
    if differ:
        # A packet on its way: ask again, with time to spare.
        linux.update(ask_linux("-", "50", names=differ))
    assert linux == ANSWERS
