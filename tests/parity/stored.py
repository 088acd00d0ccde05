"""What the tests of stored answers share: asking the kernel that runs here, and comparing.

A suite's programs are in tests/parity/NAME_programs.py, what Linux 6.18 answered in NAME_answers.json beside it. afinet must
give the same; so must the running kernel, where it is that one and may be asked (root).
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

HERE = Path(__file__).parent

# Skips a test that asks the kernel where it cannot be asked.
asks_the_kernel = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not platform.release().startswith("6.18"),
    reason="asks the running kernel: needs root and Linux 6.18",
)


def stored(name: str) -> dict[str, Any]:
    """The answers of `name`_answers.json; none if it has not been written yet."""
    file = HERE / f"{name}_answers.json"
    answers: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return answers


def as_stored(answers: object) -> Any:
    """As they are after a file of JSON: tuples are lists."""
    return json.loads(json.dumps(answers))


def ask(module: str, *args: str, names: list[str] | None = None) -> dict[str, Any]:
    """What `python -m MODULE ARGS` prints, `names` its standard input. Skips where it may not make a namespace."""
    done = subprocess.run(
        [sys.executable, "-m", module, *args],
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


def ask_linux(name: str, *args: str, names: list[str] | None = None) -> dict[str, Any]:
    """The kernel's answers to the programs of tests.parity.`name`."""
    return ask("tests.parity.linux_oracle", f"tests.parity.{name}", *args, names=names)


def check_kernel(name: str, answers: dict[str, Any]) -> None:
    """The kernel that runs here answers the programs of tests.parity.`name` as stored."""
    linux = ask_linux(name)
    differ = [key for key in answers if linux.get(key) != answers[key]]
    if differ:
        # A packet on its way, a work queue that was late: ask again, with time to spare.
        linux.update(ask_linux(name, "-", "50", names=differ))
    assert linux == answers
