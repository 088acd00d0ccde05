"""docs/sysctls.md: every sysctl is read by something, and each that is missing has its reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_sysctl_is_read_and_the_page_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, "docs/sysctls.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
