"""examples/tunnel.py, as docs/howto/tunnel.md prints it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import afinet

ROOT = Path(__file__).resolve().parents[2]


def test_two_machines_joined_by_a_tunnel() -> None:
    environment = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(afinet.__file__)))
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / "tunnel.py"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    page = (ROOT / "docs" / "howto" / "tunnel.md").read_text()
    assert lines[0] in page and lines[1] in page
    assert lines[2].startswith("seen from outside: 42 12 1d 14") and "... of 45 00 00 3c" in lines[2]
