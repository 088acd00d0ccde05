"""The counters of nstat: what 6.18 counted while these programs ran (counter_answers.json), afinet counts.

python -m tests.parity.test_counters     asks the kernel anew (root, Linux 6.18; two minutes) and writes the file
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parity.afinet_calls import AfinetCalls
from tests.parity.counter_programs import all_programs, run_program

FILE = Path(__file__).parent / "counter_answers.json"
ANSWERS: dict[str, list[dict[str, int]]] = json.loads(FILE.read_text()) if FILE.exists() else {}
PROGRAMS = all_programs()


def test_the_stored_answers_are_of_these_programs() -> None:
    assert list(ANSWERS) == list(PROGRAMS)


@pytest.mark.parametrize("name", list(ANSWERS))
def test_what_is_counted_is_what_linux_counts(name: str) -> None:
    mine = run_program(AfinetCalls(), PROGRAMS[name])
    differ = [
        {key: (ours.get(key, 0), linux.get(key, 0)) for key in {**ours, **linux} if ours.get(key, 0) != linux.get(key, 0)}
        for ours, linux in zip(mine, ANSWERS[name], strict=True)
    ]
    assert differ == [{}, {}], "(afinet's, Linux's)"


def main() -> None:
    command = [sys.executable, "-m", "tests.parity.linux_oracle", "tests.parity.counter_programs"]
    answers: dict[str, object] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    lines = [f"{json.dumps(name)}: {json.dumps(answer)}" for name, answer in answers.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
