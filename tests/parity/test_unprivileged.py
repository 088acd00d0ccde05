"""The same matrix for somebody without a capability: sockets that root made, options that uid 1000 sets and reads.

unprivileged_answers.json has the kernel's answers where they are others than root's (option_answers.json).

    python -m tests.parity.test_unprivileged     asks the kernel anew (root, Linux 6.18) and writes the file
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from afinet.init.main import new_task
from afinet.kernel.task import Cred
from tests.parity.afinet_calls import AfinetCalls
from tests.parity.linux_calls import LinuxCalls
from tests.parity.option_cases import REFUSED, all_programs, option_of, shorten, step_answers
from tests.parity.programs import run_program
from tests.parity.stored import HERE, as_stored, ask, asks_the_kernel, stored

ROOTS = stored("option")
ANSWERS = stored("unprivileged")
PROGRAMS = all_programs()
NOBODY = 1000


class UnprivilegedLinux(LinuxCalls):
    """Options are set and read with an effective uid that has no capability."""

    def setsockopt(self, fd: int, level: int, name: int, value: bytes) -> int:
        os.seteuid(NOBODY)
        try:
            return super().setsockopt(fd, level, name, value)
        finally:
            os.seteuid(0)

    def getsockopt(self, fd: int, level: int, name: int, size: int) -> tuple[int, bytes]:
        os.seteuid(NOBODY)
        try:
            return super().getsockopt(fd, level, name, size)
        finally:
            os.seteuid(0)


class UnprivilegedAfinet(AfinetCalls):
    def __init__(self) -> None:
        super().__init__()
        self.root = self.task
        self.nobody = new_task(self.kernel, self.nets[0], "nobody", Cred(NOBODY, NOBODY))
        self.nobody.files = self.task.files
        self.task.files.count += 1

    def setsockopt(self, fd: int, level: int, name: int, value: bytes) -> int:
        self.task = self.nobody
        try:
            return super().setsockopt(fd, level, name, value)
        finally:
            self.task = self.root

    def getsockopt(self, fd: int, level: int, name: int, size: int) -> tuple[int, bytes]:
        self.task = self.nobody
        try:
            return super().getsockopt(fd, level, name, size)
        finally:
            self.task = self.root


def ask_linux() -> dict[str, str]:
    """Where the kernel answers otherwise than it answers root."""
    return ask("tests.parity.test_unprivileged", "ask")


def test_somebody_without_capabilities_is_answered_as_on_linux() -> None:
    calls = UnprivilegedAfinet()
    wrong: list[str] = []
    for name, program in PROGRAMS.items():
        theirs = ANSWERS.get(name, ROOTS[name])
        mine = shorten(as_stored(run_program(calls, program)))
        if mine != theirs and option_of(name) not in REFUSED:
            pairs = zip(program, step_answers(mine), step_answers(theirs), strict=True)
            differ = [f"{step[0]}{step[2:]}: afinet {a}, Linux {b}" for step, a, b in pairs if a != b]
            wrong.append(f"{name}: {len(differ)} steps differ: {differ[0]}")
    assert not wrong, "\n".join(wrong[:20])
    assert len(ANSWERS) >= 20, "some options ask for a capability"


@asks_the_kernel
def test_the_kernel_still_answers_so() -> None:
    assert ask_linux() == ANSWERS


def main() -> None:
    if sys.argv[1:] == ["ask"]:
        calls: Any = UnprivilegedLinux()
        answers = {name: shorten(as_stored(run_program(calls, program))) for name, program in PROGRAMS.items()}
        json.dump({name: short for name, short in answers.items() if short != ROOTS[name]}, sys.stdout)
        return
    answers = ask_linux()
    (HERE / "unprivileged_answers.json").write_text(json.dumps(answers, indent=0) + "\n")
    print(f"wrote unprivileged_answers.json: {len(answers)} programs")


if __name__ == "__main__":
    main()
