"""docs/conformance.md: each requirement of RFC 9293 has a test that shows it, or a reason why Linux departs from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_requirement_has_its_tests_or_its_reason_and_the_page_says_so() -> None:
    done = subprocess.run([sys.executable, "docs/conformance.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
