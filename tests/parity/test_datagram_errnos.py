"""UDP, ping and raw sockets: what every call answers in every state, on afinet and on Linux 6.18.

The longer stories are compared with the answers that Linux gave (datagram_answers.json), anywhere. All of it, some 21,000 programs,
is compared with the running kernel where that is 6.18 and the test may make network namespaces. To ask it anew:

    python -m tests.parity.linux_oracle tests.parity.datagram_programs kept_programs > tests/parity/datagram_answers.json
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.parity.afinet_calls import AfinetCalls
from tests.parity.datagram_programs import all_programs, kept_programs
from tests.parity.programs import run_program

HERE = Path(__file__).parent
ANSWERS: dict[str, Any] = json.loads((HERE / "datagram_answers.json").read_text())
KEPT = kept_programs()
MODULE = "tests.parity.datagram_programs"


def ours(calls: AfinetCalls, program: list[tuple[Any, ...]]) -> Any:
    return json.loads(json.dumps(run_program(calls, program)))


def ask_linux(*args: str, names: list[str] | None = None) -> dict[str, Any]:
    """What the kernel answers; a loud skip where it cannot be asked."""
    why = ""
    if sys.platform != "linux" or not platform.release().startswith("6.18"):
        why = f"the reference is Linux 6.18, this is {platform.system()} {platform.release()}"
    elif os.geteuid() != 0:
        why = "making network namespaces needs root"
    if not why:
        done = subprocess.run(
            [sys.executable, "-m", "tests.parity.linux_oracle", MODULE, *args],
            input=json.dumps(names) if names is not None else None,
            capture_output=True,
            text=True,
            cwd=HERE.parent.parent,
            timeout=600,
        )
        if done.returncode == 0:
            answers: dict[str, Any] = json.loads(done.stdout)
            return answers
        why = f"no namespaces here: {done.stderr.strip().splitlines()[-1]}"
    warnings.warn(f"NOT compared with the running kernel: {why}", stacklevel=2)
    pytest.skip(why)


def report(wrong: dict[str, tuple[Any, Any]], programs: dict[str, Any]) -> str:
    """The first steps that differ, one a program."""
    lines = [f"{len(wrong)} programs differ"]
    for name in list(wrong)[:20]:
        mine, linux = wrong[name]
        for step, a, b in zip(programs[name], mine, linux, strict=True):
            if a != b:
                lines.append(f"{name}: {step[0]} {step[1]}: afinet {a!r}, Linux {b!r}")
                break
    return "\n".join(lines)


def test_the_kept_answers_are_of_these_programs() -> None:
    assert list(ANSWERS) == list(KEPT)


@pytest.mark.parametrize("name", KEPT)
def test_a_story_goes_as_on_linux(name: str) -> None:
    calls = AfinetCalls()
    assert ours(calls, KEPT[name]) == ANSWERS[name]
    assert calls.kernel.warned == {}


@pytest.mark.slow
def test_every_call_in_every_state_answers_as_on_the_running_kernel() -> None:
    programs = all_programs()
    linux = ask_linux("all_programs", "0")
    calls = AfinetCalls()
    mine = {name: ours(calls, program) for name, program in programs.items()}
    differ = [name for name in programs if mine[name] != linux[name]]
    if differ:
        # Nothing waited for packets on their way: ask again, with time to spare.
        linux.update(ask_linux("-", "50", names=differ[:500]))
    wrong = {name: (mine[name], linux[name]) for name in differ if mine[name] != linux[name]}
    assert not wrong, report(wrong, programs)
    assert calls.kernel.warned == {}
    # Nothing is left behind: no sock in a table, no memory charged.
    for prot in calls.kernel.proto_list:
        assert sum(prot.inuse.values()) == 0, prot.name
        assert prot.memory_allocated == 0, prot.name
