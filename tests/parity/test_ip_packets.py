"""Thousands of packets, right and wrong: afinet sends what Linux 6.18 sends, to the byte, and counts what it counts.

The answers are compared with digests of the kernel's (ip_packets.json), and, where tests may make a namespace and the kernel is
6.18, with the running kernel's own. `python -m tests.parity.test_ip_packets` asks the kernel and writes the digests anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.parity.ip_packets import RUNS, ask_afinet, blur, packets, pick_counters

HERE = Path(__file__).parent
STORED = HERE / "ip_packets.json"
COUNT = 800

Answers = list[list[list[str]]]


def ask_linux(name: str) -> tuple[Answers, dict[str, int]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.linux_tun", json.dumps(RUNS[name])],
        input="\n".join(p.hex() for p in packets(name, COUNT)),
        capture_output=True,
        text=True,
        cwd=HERE.parent.parent,
        timeout=120,
    )
    if done.returncode:
        raise OSError(done.stderr.strip().splitlines()[-1])
    told = json.loads(done.stdout)
    answers = [[[blur(bytes.fromhex(p)) for p in sent] for sent in devices] for devices in told["answers"]]
    return answers, pick_counters(told["counters"])


def digest(answer: list[list[str]]) -> str:
    """Empty for silence, so that one sees in the file what was answered at all."""
    return hashlib.sha256(json.dumps(answer).encode()).hexdigest()[:8] if any(answer) else ""


@pytest.mark.parametrize("name", RUNS)
def test_every_packet_is_answered_and_counted_as_linux_did(name: str) -> None:
    stored: dict[str, Any] = json.loads(STORED.read_text())[name]
    given = packets(name, COUNT)
    assert hashlib.sha256(b"".join(given)).hexdigest() == stored["packets"], "other packets than the stored ones"
    answers, counters = ask_afinet(RUNS[name], given)
    ours = [digest(a) for a in answers]
    wrong = [(given[i].hex(), answers[i]) for i in range(COUNT) if ours[i] != stored["answers"][i]]
    assert wrong == []
    assert counters == stored["counters"]


@pytest.mark.parametrize("name", RUNS)
def test_the_running_kernel_answers_so(name: str) -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or not platform.release().startswith("6.18"):
        pytest.skip("asks the running kernel: needs root and Linux 6.18")
    try:
        theirs, counters = ask_linux(name)
    except OSError as why:
        warnings.warn(f"PARITY NOT CHECKED: packets against the running kernel ({why})", stacklevel=1)
        pytest.skip(f"PARITY NOT CHECKED: {why}")
    given = packets(name, COUNT)
    answers, ours = ask_afinet(RUNS[name], given)
    wrong = [(given[i].hex(), theirs[i], answers[i]) for i in range(COUNT) if answers[i] != theirs[i]]
    assert wrong == []
    assert ours == counters


def main() -> None:
    stored = {}
    for name in RUNS:
        answers, counters = ask_linux(name)
        stored[name] = {
            "packets": hashlib.sha256(b"".join(packets(name, COUNT))).hexdigest(),
            "counters": counters,
            "answers": [digest(a) for a in answers],
        }
    STORED.write_text(json.dumps(stored, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
