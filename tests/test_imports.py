"""Every module of the core can be the first to be imported: its import cycles are harmless (DESIGN.md, section 1)."""

from __future__ import annotations

import subprocess
import sys

import pytest

import afinet

# One process: the package itself is imported once, then each module in a fork that has none of the others.
PROGRAM = """
import importlib, os, pkgutil, sys, traceback
import afinet
names = [m.name for m in pkgutil.walk_packages(afinet.__path__, "afinet.") if m.name.startswith(%r) and not m.ispkg]
for name in [n for n in sys.modules if n.startswith("afinet.") and n != "afinet._build"]:
    del sys.modules[name]
assert len(names) > 50, names
for name in names:
    if os.fork() == 0:
        try:
            importlib.import_module(name)
        except BaseException as e:
            # Not an extra that is not installed.
            if not isinstance(e, ModuleNotFoundError) or e.name.startswith("afinet"):
                print(name, traceback.format_exc(limit=-2), flush=True)
        os._exit(0)
    os.wait()
"""
CORE = ("afinet.uapi.", "afinet.wire.", "afinet.kernel.", "afinet.fs.", "afinet.security.", "afinet.net.", "afinet.drivers.",
        "afinet.init.", "afinet.runner.")  # fmt: skip


@pytest.mark.skipif(not afinet.COMPILED, reason="run with the compiled build, where it takes 5 s, not 30")
def test_every_module_can_be_imported_first() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM % (CORE,)], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
