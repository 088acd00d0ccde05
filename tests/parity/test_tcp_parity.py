"""tcp(7)'s options x values x states, what they do, urgent data: afinet answers what Linux 6.18 answered (tcp_answers.json).

To ask the kernel anew: python -m tests.parity.test_tcp_parity     (root, Linux 6.18)
"""

from __future__ import annotations

import json

import pytest

from tests.parity.afinet_files import AfinetFiles
from tests.parity.stored import HERE, as_stored, ask_linux, asks_the_kernel, check_kernel, stored
from tests.parity.tcp_programs import all_programs, run_program

ANSWERS = stored("tcp")
PROGRAMS = all_programs()
REFUSALS = {"ENOPROTOOPT", "EINVAL"}


def test_the_stored_answers_are_of_these_programs() -> None:
    assert list(ANSWERS) == list(PROGRAMS)
    assert [len(a) for a in ANSWERS.values()] == [len(p) for p in PROGRAMS.values()]


@pytest.mark.parametrize("name", PROGRAMS)
def test_answers_as_linux(name: str) -> None:
    calls = AfinetFiles()
    ours = as_stored(run_program(calls, PROGRAMS[name]))
    if name.startswith("refused"):
        # what is not here says so for every value (docs/differences.md)
        assert {answer[0] if isinstance(answer, list) else answer for answer in ours[1:]} <= REFUSALS
    else:
        steps = zip(PROGRAMS[name], ours, ANSWERS[name], strict=True)
        differ = [f"{step}: afinet {a}, Linux {b}" for step, a, b in steps if a != b]
        assert differ == []
    assert calls.kernel.warned == {}


@asks_the_kernel
def test_the_kernel_still_answers_so() -> None:
    check_kernel("tcp_programs", ANSWERS)


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(answer)}" for name, answer in ask_linux("tcp_programs").items()]
    (HERE / "tcp_answers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"wrote tcp_answers.json: {len(PROGRAMS)} programs")
