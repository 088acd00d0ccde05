"""Python's own modules, loaded a second time over our stand-ins, beside the ones that the process has.

That is how `afinet.socket` is made in a process that has not been bootstrapped (`install.py`): the source of the running
interpreter's socket.py, whose `import _socket` finds ours. Names that it imports later, inside functions, are found the same way.
"""

from __future__ import annotations

import builtins
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _source(name: str) -> tuple[Any, ModuleSpec]:
    """The code object of the standard module `name`."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"afinet needs the standard library's {name}.py, and this interpreter has none", name=name)
    code = spec.loader.get_code(name)  # type: ignore[attr-defined]
    if code is None:
        raise ImportError(f"afinet needs the standard library's {name}.py, and this interpreter has none", name=name)
    return code, spec


def run_over(name: str, namespace: dict[str, Any], stand_ins: dict[str, ModuleType]) -> None:
    """Execute the standard module `name` in `namespace`, where `import x` finds `stand_ins["x"]` first."""

    def import_over(
        module: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        if level == 0 and module in stand_ins:
            return stand_ins[module]
        return builtins.__import__(module, globals, locals, fromlist, level)

    private = dict(vars(builtins))
    private["__import__"] = import_over
    namespace["__builtins__"] = private
    code, spec = _source(name)
    if spec.origin is not None:
        namespace["__file__"] = spec.origin  # tracebacks show its lines
    exec(code, namespace)


def load_over(name: str, alias: str, stand_ins: dict[str, ModuleType]) -> ModuleType:
    """A copy of the standard module `name` as the module `alias`."""
    module = ModuleType(alias)
    sys.modules[alias] = module
    try:
        run_over(name, vars(module), stand_ins)
    except BaseException:
        del sys.modules[alias]
        raise
    return module
