"""docs/options.md: every socket option of Linux is listed, works or says why not, and a test names it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_socket_option_is_listed_tested_and_where_it_is_refused_explained() -> None:
    done = subprocess.run([sys.executable, "docs/options.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
