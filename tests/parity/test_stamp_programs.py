"""Time stamps and their error queue: afinet tells what Linux 6.18 told (stamp_answers.json).

python -m tests.parity.linux_oracle tests.parity.stamp_programs > tests/parity/stamp_answers.json     asks the kernel anew
"""

from __future__ import annotations

import pytest

from tests.parity.afinet_calls import AfinetCalls
from tests.parity.programs import run_program
from tests.parity.stamp_programs import all_programs
from tests.parity.stored import as_stored, asks_the_kernel, check_kernel, stored

ANSWERS = stored("stamp")
PROGRAMS = all_programs()


def test_the_stored_answers_are_of_these_programs() -> None:
    assert list(ANSWERS) == list(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_told_as_on_linux(name: str) -> None:
    calls = AfinetCalls()
    assert as_stored(run_program(calls, PROGRAMS[name])) == ANSWERS[name]
    assert calls.kernel.warned == {}


@asks_the_kernel
def test_the_kernel_still_answers_so() -> None:
    check_kernel("stamp_programs", ANSWERS)
