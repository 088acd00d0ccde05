"""Running the `afinet` command as a user does, with the afinet under test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import afinet


def afinet_run(*args: str, check: bool = True, cwd: Path | None = None, switch: str = "") -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if switch:
        environment["AFINET_SWITCH"] = switch
    # Found from any directory, also where it is not installed.
    home = os.path.dirname(os.path.dirname(os.path.abspath(afinet.__file__)))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [home, environment.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "afinet", "run", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=cwd, env=environment)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done
