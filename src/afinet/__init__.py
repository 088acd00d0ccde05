"""Linux's socket layer and TCP/IP stack as a Python package, under a clock you control."""

from __future__ import annotations

# First: it decides which files every later import finds.
from afinet._build import COMPILED, __version__

__all__ = ["COMPILED", "__version__"]
