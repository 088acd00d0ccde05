"""Which build of afinet runs: the modules that mypyc compiled, or the .py files they were made from.

A compiled wheel holds both. Decided here, once, before any other module of the package is loaded; the answer
is `COMPILED`, and `WHY` says what decided it. `AFINET_PURE=1` chooses the .py files. There is no mixture: if
one compiled part cannot be loaded, all are left alone.

Source that has two implementations says `if COMPILED:`. mypyc is told that the name is always true, so that
the other branch is not compiled at all and calls bind directly.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    SOURCE_SUFFIXES,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from types import ModuleType

__version__ = "0.1.0.dev0"


class PureFinder:
    """A meta path finder that finds our .py files and never our extension modules."""

    def __init__(self, package: str) -> None:
        self.prefix = package + "."
        self.finders: dict[str, FileFinder] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not fullname.startswith(self.prefix):
            return None
        for entry in path:
            finder = self.finders.get(entry)
            if finder is None:
                finder = FileFinder(
                    entry, (SourceFileLoader, SOURCE_SUFFIXES), (SourcelessFileLoader, BYTECODE_SUFFIXES)
                )
                self.finders[entry] = finder
            spec = finder.find_spec(fullname)
            if spec is not None and spec.loader is not None:
                return spec
        return None

    def invalidate_caches(self) -> None:
        for finder in self.finders.values():
            finder.invalidate_caches()


def _pure_asked() -> bool:
    return os.environ.get("AFINET_PURE", "").strip().lower() not in ("", "0", "no", "false", "off")


def _choose() -> tuple[bool, str, bool]:
    """(compiled, why, whether that was asked for)."""
    try:
        info = importlib.import_module("afinet._build_info")
    except ImportError:
        return False, "it runs from the source tree", True
    if not info.COMPILED:
        return False, info.WHY, info.ASKED
    if _pure_asked():
        return False, "AFINET_PURE is set", True
    try:
        # Loads the library that holds every compiled module, and librt, which it is bound to.
        importlib.import_module("afinet__mypyc")
        importlib.import_module("librt.strings")
    except ImportError as e:
        return False, f"the compiled modules cannot be loaded: {e}", False
    return True, f"by mypyc, with librt {info.LIBRT}", True


def _start() -> tuple[bool, str]:
    compiled, why, asked = _choose()
    if not compiled:
        sys.meta_path.insert(0, PureFinder("afinet"))
        if not asked:
            warnings.warn(
                f"afinet runs as pure Python, about ten times slower than compiled: {why}. "
                "AFINET_PURE=1 says that this is meant.",
                RuntimeWarning,
                stacklevel=3,
            )
    return compiled, why


COMPILED, WHY = _start()


def describe() -> str:
    """One line for --version: which afinet, which build, why, on which Python."""
    build = "compiled" if COMPILED else "pure Python"
    python = ".".join(map(str, sys.version_info[:3]))
    return f"afinet {__version__} ({build}: {WHY}; Python {python})"
