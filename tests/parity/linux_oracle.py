"""Run parity programs on the kernel and print what they answered, as JSON.

    python -m tests.parity.linux_oracle MODULE [FUNCTION [WAIT_MS]]

FUNCTION is the one of MODULE that gives the programs, all_programs by default; "-" reads a list of names from standard input.
A MODULE with a run_program of its own speaks the language of file_programs.py, which asks for more calls.
"""

from __future__ import annotations

import importlib
import json
import sys

from tests.parity.linux_calls import LinuxCalls
from tests.parity.linux_files import LinuxFiles
from tests.parity.programs import run_program


def main() -> None:
    module = importlib.import_module(sys.argv[1])
    function = sys.argv[2] if len(sys.argv) > 2 else "all_programs"
    wait_ms = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    programs = module.all_programs() if function == "-" else getattr(module, function)()
    if function == "-":
        programs = {name: programs[name] for name in json.load(sys.stdin)}
    own = vars(module).get("run_program")
    run = own or run_program
    calls = LinuxFiles(wait_ms) if own else LinuxCalls(wait_ms)
    json.dump({name: run(calls, program) for name, program in programs.items()}, sys.stdout)


if __name__ == "__main__":
    main()
