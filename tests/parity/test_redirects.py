"""ICMP redirects: believed and sent as Linux 6.18 does under each of 64 settings, 1,024 answers.

The kernel's are in redirect_answers.json; where tests may make a namespace and the kernel is 6.18, it is asked again.
`python -m tests.parity.test_redirects` writes them anew.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.parity.redirects import RECEIVED, SETTINGS, ask_afinet

HERE = Path(__file__).parent
STORED = HERE / "redirect_answers.json"


def ask_linux() -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.redirects"], capture_output=True, text=True, cwd=HERE.parent.parent, timeout=120
    )
    if done.returncode:
        raise OSError(done.stderr.strip().splitlines()[-1])
    answers: list[list[str]] = json.loads(done.stdout)
    return answers


def test_redirects_are_believed_and_sent_as_linux_did() -> None:
    stored = json.loads(STORED.read_text())
    ours = ask_afinet()
    assert len(stored) == len(ours) == len(SETTINGS) and all(len(row) == len(RECEIVED) + 2 for row in ours)
    assert [(s, a, b) for s, a, b in zip(SETTINGS, ours, stored, strict=True) if a != b] == []


def test_the_running_kernel_answers_so() -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or not platform.release().startswith("6.18"):
        pytest.skip("asks the running kernel: needs root and Linux 6.18")
    stored = json.loads(STORED.read_text())
    try:
        # On a busy machine the kernel may work a packet off later than it is asked what came of it.
        theirs = next((answers for _ in range(3) if (answers := ask_linux()) == stored), None) or ask_linux()
    except OSError as why:
        warnings.warn(f"PARITY NOT CHECKED: redirects against the running kernel ({why})", stacklevel=1)
        pytest.skip(f"PARITY NOT CHECKED: {why}")
    assert theirs == stored


if __name__ == "__main__":
    STORED.write_text("[\n" + ",\n".join(json.dumps(row) for row in ask_linux()) + "\n]\n")
