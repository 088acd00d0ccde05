"""The fuzzer's finds: afinet answers what Linux 6.18 answered (found_answers.json).

`python -m tests.parity.test_found_cases` asks the kernel and writes the answers anew, if afinet agrees; `make parity` asks it too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.parity.afinet_calls import AfinetCalls
from tests.parity.found_cases import CASES
from tests.parity.programs import run_program

STORED = Path(__file__).parent / "found_answers.json"
ANSWERS: dict[str, Any] = json.loads(STORED.read_text()) if STORED.exists() else {}


def test_the_stored_answers_are_of_these_cases() -> None:
    assert list(ANSWERS) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_goes_as_on_linux(name: str) -> None:
    calls = AfinetCalls(0)
    assert json.loads(json.dumps(run_program(calls, CASES[name]))) == ANSWERS[name]
    assert calls.kernel.warned == {}


def main() -> int:
    from tests.parity.__main__ import differing
    from tests.parity.linux_calls import LinuxCalls

    differ = differing(LinuxCalls(0), CASES)
    for name, lines in differ.items():
        print("\n".join([name, *["    " + line for line in lines]]))
    if not differ:
        answers = {name: run_program(AfinetCalls(0), program) for name, program in CASES.items()}
        STORED.write_text("{\n" + ",\n".join([f"{json.dumps(n)}: {json.dumps(a)}" for n, a in answers.items()]) + "\n}\n")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
