"""A thousand sockets send: afinet's calls return what Linux 6.18's return, and the same packets leave, to the byte.

The answers are compared with digests of the kernel's (ip_sends.json), and with the running kernel's own where that can be asked.
`python -m tests.parity.test_ip_sends` asks the kernel and writes the digests anew.
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

from tests.parity.ip_packets import blur
from tests.parity.ip_sends import ask_afinet, host, sends

HERE = Path(__file__).parent
STORED = HERE / "ip_sends.json"
COUNT = 1000
SEED = "sends"


def ask_linux() -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.linux_sends"],
        input="\n".join(json.dumps(what) for what in sends(SEED, COUNT)),
        capture_output=True,
        text=True,
        cwd=HERE.parent.parent,
        timeout=120,
    )
    if done.returncode:
        raise OSError(done.stderr.strip().splitlines()[-1])
    told = json.loads(done.stdout)
    return [[returned, [[blur(bytes.fromhex(p)) for p in sent] for sent in left]] for returned, left in told]


def digest(answer: object) -> str:
    return hashlib.sha256(json.dumps(answer).encode()).hexdigest()[:8]


def test_every_send_returns_and_puts_on_the_wire_what_it_did_on_linux() -> None:
    stored: dict[str, Any] = json.loads(STORED.read_text())
    given = sends(SEED, COUNT)
    assert digest(given) == stored["sends"], "other sends than the stored ones"
    h = host()
    ours = [ask_afinet(h, what) for what in given]
    wrong = [(given[i], ours[i]) for i in range(COUNT) if digest(ours[i]) != stored["answers"][i]]
    assert wrong == []
    assert h.kernel.warned == {}


def test_the_running_kernel_sends_so() -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or not platform.release().startswith("6.18"):
        pytest.skip("asks the running kernel: needs root and Linux 6.18")
    try:
        theirs = ask_linux()
    except OSError as why:
        warnings.warn(f"PARITY NOT CHECKED: sends against the running kernel ({why})", stacklevel=1)
        pytest.skip(f"PARITY NOT CHECKED: {why}")
    h = host()
    given = sends(SEED, COUNT)
    ours = [list(ask_afinet(h, what)) for what in given]
    wrong = [(given[i], theirs[i], ours[i]) for i in range(COUNT) if ours[i] != theirs[i]]
    assert wrong == []


def main() -> None:
    stored = {"sends": digest(sends(SEED, COUNT)), "answers": [digest(answer) for answer in ask_linux()]}
    STORED.write_text(json.dumps(stored, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
