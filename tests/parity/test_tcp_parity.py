"""tcp(7)'s options x values x states, what they do, urgent data: afinet answers what Linux 6.18 answered (tcp_answers.json).

To ask the kernel anew: python -m tests.parity.test_tcp_parity     (root, Linux 6.18)
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

from tests.parity.afinet_files import AfinetFiles
from tests.parity.tcp_programs import all_programs, run_program

HERE = Path(__file__).parent
FILE = HERE / "tcp_answers.json"
ANSWERS: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
PROGRAMS = all_programs()
REFUSALS = {"ENOPROTOOPT", "EINVAL"}


def ask_linux() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.linux_oracle", "tests.parity.tcp_programs"],
        capture_output=True,
        text=True,
        cwd=HERE.parent.parent,
        check=False,
    )
    if done.returncode:
        raise PermissionError(f"no namespaces here: {done.stderr.strip().splitlines()[-1]}")
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def test_the_stored_answers_are_of_these_programs() -> None:
    assert list(ANSWERS) == list(PROGRAMS)
    assert [len(a) for a in ANSWERS.values()] == [len(p) for p in PROGRAMS.values()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_answers_as_linux(name: str) -> None:
    calls = AfinetFiles()
    ours = json.loads(json.dumps(run_program(calls, PROGRAMS[name])))
    if name.startswith("refused"):
        # what is not here says so for every value (docs/differences.md)
        assert {answer[0] if isinstance(answer, list) else answer for answer in ours[1:]} <= REFUSALS
    else:
        steps = zip(PROGRAMS[name], ours, ANSWERS[name], strict=True)
        differ = [f"{step}: afinet {a}, Linux {b}" for step, a, b in steps if a != b]
        assert differ == []
    assert calls.kernel.warned == {}


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not platform.release().startswith("6.18"),
    reason="asks the running kernel: needs root and Linux 6.18",
)
def test_the_kernel_still_answers_so() -> None:
    try:
        linux = ask_linux()
    except PermissionError as why:
        pytest.skip(str(why))
    assert linux == ANSWERS


if __name__ == "__main__":
    FILE.write_text("{\n" + ",\n".join(f"{json.dumps(n)}: {json.dumps(a)}" for n, a in ask_linux().items()) + "\n}\n")
    print(f"wrote {FILE.name}: {len(PROGRAMS)} programs")
