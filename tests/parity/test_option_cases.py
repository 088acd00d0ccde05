"""Every option number of every level with many values and lengths: afinet answers what Linux 6.18 answered (option_answers.json).

python -m tests.parity.test_option_cases     asks the kernel anew (root, Linux 6.18) and writes the file
"""

from __future__ import annotations

import json

import pytest

from tests.parity.afinet_calls import AfinetCalls
from tests.parity.option_cases import REFUSED, all_programs, option_of, shorten, step_answers
from tests.parity.programs import run_program
from tests.parity.stored import HERE, as_stored, ask_linux, asks_the_kernel, stored

ANSWERS = stored("option")
PROGRAMS = all_programs()
BY_OPTION: dict[str, list[str]] = {}
for case in PROGRAMS:
    BY_OPTION.setdefault(case.partition(" ")[2], []).append(case)


def short_answers() -> dict[str, str]:
    return {name: shorten(given) for name, given in ask_linux("option_cases").items()}


def test_the_stored_answers_are_of_these_programs() -> None:
    assert list(ANSWERS) == list(PROGRAMS)


@pytest.mark.parametrize("option", BY_OPTION)
def test_an_option_answers_as_on_linux(option: str) -> None:
    calls = AfinetCalls()
    for name in BY_OPTION[option]:
        program = PROGRAMS[name]
        mine = shorten(as_stored(run_program(calls, program)))
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


@asks_the_kernel
def test_the_kernel_still_answers_so() -> None:
    assert short_answers() == ANSWERS


if __name__ == "__main__":
    (HERE / "option_answers.json").write_text(json.dumps(short_answers(), indent=0) + "\n")
    print(f"wrote option_answers.json: {len(PROGRAMS)} programs")
