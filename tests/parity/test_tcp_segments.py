"""Segments of every kind into TCP in every state: afinet answers what Linux 6.18 answered.

Of the cases of tcp_segments.py one in seven is compared with digests of the kernel's answers (tcp_segments.json), anywhere; `make
parity` compares all of them with the running kernel. `python -m tests.parity.test_tcp_segments` asks the kernel and writes the
digests anew, if afinet agrees.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.parity.afinet_calls import AfinetCalls
from tests.parity.programs import Program, run_program
from tests.parity.tcp_segments import kept_programs

STORED = Path(__file__).parent / "tcp_segments.json"
DIGITS = 4


def by_state() -> dict[str, dict[str, Program]]:
    states: dict[str, dict[str, Program]] = {}
    for name, program in kept_programs().items():
        states.setdefault(name.partition(":")[0], {})[name] = program
    return states


def digest(answer: Any) -> str:
    return hashlib.sha256(json.dumps(answer).encode()).hexdigest()[:DIGITS]


STATES = by_state()
ANSWERS: dict[str, str] = json.loads(STORED.read_text()) if STORED.exists() else {}


def test_there_are_answers_for_every_case() -> None:
    assert {state: len(answers) for state, answers in ANSWERS.items()} == {s: DIGITS * len(p) for s, p in STATES.items()}


@pytest.mark.parametrize("state", STATES)
def test_segments_are_answered_as_linux_does_in(state: str) -> None:
    calls = AfinetCalls(0)
    wrong = []
    for i, (name, program) in enumerate(STATES[state].items()):
        answer = run_program(calls, program)
        if digest(answer) != ANSWERS[state][DIGITS * i : DIGITS * (i + 1)]:
            wrong.append((name, answer))
    assert wrong == []
    assert calls.kernel.warned == {}


def main() -> int:
    from tests.parity.__main__ import differing
    from tests.parity.linux_calls import LinuxCalls

    differ = differing(LinuxCalls(0), kept_programs())
    if differ:
        print("\n".join([f"{name}: Linux and afinet differ" for name in differ]))
        return 1
    calls = AfinetCalls(0)
    stored = {state: "".join([digest(run_program(calls, p)) for p in programs.values()]) for state, programs in STATES.items()}
    STORED.write_text(json.dumps(stored, indent=0) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
