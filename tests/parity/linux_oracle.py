"""Run parity programs on the kernel and print what they answered, as JSON: `python -m tests.parity.linux_oracle MODULE`."""

from __future__ import annotations

import importlib
import json
import sys

from tests.parity.linux_calls import LinuxCalls
from tests.parity.programs import run_program


def main() -> None:
    programs = importlib.import_module(sys.argv[1]).all_programs()
    calls = LinuxCalls()
    json.dump({name: run_program(calls, program) for name, program in programs.items()}, sys.stdout)


if __name__ == "__main__":
    main()
