"""The same matrix for somebody without a capability: sockets that root made, options that uid 1000 sets and reads.

unprivileged_answers.json has the kernel's answers where they are others than root's (option_answers.json).

    python -m tests.parity.test_unprivileged     asks the kernel anew (root, Linux 6.18) and writes the file
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

from afinet.init.main import new_task
from afinet.kernel.task import Cred
from tests.parity.afinet_calls import AfinetCalls
from tests.parity.linux_calls import LinuxCalls
from tests.parity.option_cases import REFUSED, all_programs, option_of, shorten, step_answers
from tests.parity.programs import run_program

HERE = Path(__file__).parent
FILE = HERE / "unprivileged_answers.json"
ROOTS: dict[str, str] = json.loads((HERE / "option_answers.json").read_text())
ANSWERS: dict[str, str] = json.loads(FILE.read_text()) if FILE.exists() else {}
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
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.test_unprivileged", "ask"],
        capture_output=True,
        text=True,
        cwd=HERE.parent.parent,
        check=False,
    )
    if done.returncode:
        raise PermissionError(f"no namespaces here: {done.stderr.strip().splitlines()[-1]}")
    answers: dict[str, str] = json.loads(done.stdout)
    return answers


def test_somebody_without_capabilities_is_answered_as_on_linux() -> None:
    calls = UnprivilegedAfinet()
    wrong: list[str] = []
    for name, program in PROGRAMS.items():
        theirs = ANSWERS.get(name, ROOTS[name])
        mine = shorten(json.loads(json.dumps(run_program(calls, program))))
        if mine != theirs and option_of(name) not in REFUSED:
            pairs = zip(program, step_answers(mine), step_answers(theirs), strict=True)
            differ = [f"{step[0]}{step[2:]}: afinet {a}, Linux {b}" for step, a, b in pairs if a != b]
            wrong.append(f"{name}: {len(differ)} steps differ: {differ[0]}")
    assert not wrong, "\n".join(wrong[:20])
    assert len(ANSWERS) >= 20, "some options ask for a capability"


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


def main() -> None:
    if sys.argv[1:] == ["ask"]:
        calls: Any = UnprivilegedLinux()
        answers = {name: shorten(json.loads(json.dumps(run_program(calls, program)))) for name, program in PROGRAMS.items()}
        json.dump({name: short for name, short in answers.items() if short != ROOTS[name]}, sys.stdout)
        return
    FILE.write_text(json.dumps(ask_linux(), indent=0) + "\n")
    print(f"wrote {FILE.name}: {len(json.loads(FILE.read_text()))} programs")


if __name__ == "__main__":
    main()
