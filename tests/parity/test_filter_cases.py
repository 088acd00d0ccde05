"""Classic BPF programs: afinet takes, charges and runs them as Linux 6.18 did (filter_answers.json, in the order of the cases).

python -m tests.parity.test_filter_cases     asks the kernel anew (root, Linux 6.18) and writes the file
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import pytest

from tests.parity import filter_cases
from tests.parity.afinet_calls import AfinetCalls

FILE = Path(__file__).parent / "filter_answers.json"
ANSWERS: list[str] = json.loads(FILE.read_text()) if FILE.exists() else []


def test_programs_are_taken_charged_and_run_as_on_linux() -> None:
    calls = AfinetCalls()
    ours = filter_cases.run(calls, filter_cases.cases())
    assert len(ours) == len(ANSWERS)
    programs = {name: insns for name, insns, _ in filter_cases.cases()}
    wrong = [
        f"{name}: afinet {mine}, Linux {theirs}: {programs[name][:20]}"
        for (name, mine), theirs in zip(ours.items(), ANSWERS, strict=True)
        if mine != theirs
    ]
    assert not wrong, f"{len(wrong)} of {len(ours)} differ:\n" + "\n".join(wrong[:20])
    assert calls.kernel.warned == {}


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not platform.release().startswith("6.18"),
    reason="asks the running kernel: needs root and Linux 6.18",
)
def test_the_kernel_still_answers_so() -> None:
    try:
        linux = filter_cases.linux("cases")
    except PermissionError as why:
        pytest.skip(str(why))
    assert list(linux.values()) == ANSWERS


if __name__ == "__main__":
    FILE.write_text(json.dumps(list(filter_cases.linux("cases").values())) + "\n")
    print(f"wrote {FILE.name}: {len(json.loads(FILE.read_text()))} programs")
