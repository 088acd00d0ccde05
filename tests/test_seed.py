"""docs/seed.md: each name of the study's path is defined, and a test says its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_name_of_the_studys_path_is_defined_and_tested_and_the_page_says_where() -> None:
    done = subprocess.run([sys.executable, "docs/seed.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
