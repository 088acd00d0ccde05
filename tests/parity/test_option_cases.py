"""Every option number of every level with many values and lengths: afinet answers what Linux 6.18 answered (option_answers.json).

python -m tests.parity.test_option_cases     asks the kernel anew (root, Linux 6.18) and writes the file
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
from tests.parity.option_cases import REFUSED, all_programs, option_of, shorten, step_answers
from tests.parity.programs import run_program

HERE = Path(__file__).parent
FILE = HERE / "option_answers.json"
ANSWERS: dict[str, str] = json.loads(FILE.read_text()) if FILE.exists() else {}
PROGRAMS = all_programs()
BY_OPTION: dict[str, list[str]] = {}
for case in PROGRAMS:
    BY_OPTION.setdefault(case.partition(" ")[2], []).append(case)


def ask_linux() -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.linux_oracle", "tests.parity.option_cases"],
        capture_output=True,
        text=True,
        cwd=HERE.parent.parent,
        check=False,
    )
    if done.returncode:
        raise PermissionError(f"no namespaces here: {done.stderr.strip().splitlines()[-1]}")
    answers: dict[str, list[Any]] = json.loads(done.stdout)
    return {name: shorten(given) for name, given in answers.items()}


def test_the_stored_answers_are_of_these_programs() -> None:
    assert list(ANSWERS) == list(PROGRAMS)


@pytest.mark.parametrize("option", BY_OPTION)
def test_an_option_answers_as_on_linux(option: str) -> None:
    calls = AfinetCalls()
    for name in BY_OPTION[option]:
        program = PROGRAMS[name]
        mine = shorten(json.loads(json.dumps(run_program(calls, program))))
        if mine == ANSWERS[name]:
            continue
        if option_of(name) in REFUSED:
            # Said so, for every value: what is refused is not half there.
            assert set(step_answers(mine)) <= {"fd", "ENOPROTOOPT", "EINVAL", "ENOTSUP"}, name
            assert "0" not in step_answers(mine), name
        else:
            pairs = zip(program, step_answers(mine), step_answers(ANSWERS[name]), strict=True)
            differ = [f"{step[0]}{step[2:]}: afinet {a}, Linux {b}" for step, a, b in pairs if a != b]
            pytest.fail(f"{name}: {len(differ)} steps differ: " + "; ".join(differ[:3]))
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
    FILE.write_text(json.dumps(ask_linux(), indent=0) + "\n")
    print(f"wrote {FILE.name}: {len(PROGRAMS)} programs")
