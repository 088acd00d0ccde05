"""The host's own C modules, as they are before any stand-in takes their place.

Imported before stdlib/install.py does anything: whoever must reach the real clock, thread or lock takes it from here.
"""

import _socket as _socket
import _thread as _thread
import os as os
import select as select
import time as time
from types import FunctionType
from typing import Any


def like_builtins(namespace: dict[str, Any], module: Any) -> None:
    """Let the functions of `namespace` that stand for C functions of `module` behave as those do in a class: a C function is no
    descriptor, so `class Selector: factory = select.poll` does not make it a method. A staticmethod is callable, and does the same.
    """
    for name, value in list(namespace.items()):
        if isinstance(value, FunctionType) and not isinstance(vars(module).get(name), (FunctionType, type(None))):
            namespace[name] = staticmethod(value)


def notice_signals() -> None:
    """Not compiled, as this module is not: entering it is where the interpreter calls the handlers of signals that have come."""
