"""Creation, SOL_SOCKET options and TCP's states x calls: afinet answers what Linux 6.18 answered (socket_answers.json).

python -m tests.parity.linux_oracle tests.parity.socket_programs > tests/parity/socket_answers.json     asks the kernel anew
"""

from __future__ import annotations

import pytest

from tests.parity.afinet_calls import AfinetCalls
from tests.parity.programs import run_program
from tests.parity.socket_programs import all_programs
from tests.parity.stored import as_stored, asks_the_kernel, check_kernel, stored

ANSWERS = stored("socket")
PROGRAMS = all_programs()


def test_the_stored_answers_are_of_these_programs() -> None:
    assert list(ANSWERS) == list(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_answers_as_linux(name: str) -> None:
    calls = AfinetCalls()
    assert as_stored(run_program(calls, PROGRAMS[name])) == ANSWERS[name]
    assert calls.kernel.warned == {}


@asks_the_kernel
def test_the_kernel_still_answers_so() -> None:
    check_kernel("socket_programs", ANSWERS)
