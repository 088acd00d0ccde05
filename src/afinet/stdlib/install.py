"""Way (a) of DESIGN.md, section 5: a process of our own, in which the stand-ins are there before anything else is imported.

`afinet run` starts Python without `site` and with a fixed PYTHONHASHSEED, calls `install`, and only then lets site run and the
scenario begin. `_thread`, `time`, `select` and `_socket` in sys.modules are ours from then on, so that threading, socket,
selectors, asyncio and everything above them are the standard library's own files over our modules. Each stand-in looks at
who calls: a simulated task, or any other thread, for which it passes through.

What had been imported before (by the interpreter's own start) is mended by identity: a name that still means the host's function
is bound to ours. Chance is patched here as well: in a task, os.urandom, and with it uuid, secrets and random's seeding, draws
from the Network's seed.

Objects that the standard library keeps in sets (threads, futures, asyncio's tasks) hash by a counter instead of by their
address, so that walking such a set is the same walk in each run; asyncio's C accelerator is left out for it.

Not covered yet: datetime.now() in C, files and processes, modules in C that take locks or start threads by themselves.
"""

from __future__ import annotations

import itertools
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from afinet.kernel.random import RandomStream
from afinet.runner import real
from afinet.runner.virtual import current_task

# Modules whose C version blocks where the hub cannot see it; without it, the standard library uses its Python version.
_WITHOUT = ("_queue", "_asyncio")

# Classes whose objects stand in sets: module -> names.
_ORDINAL = {
    "threading": ("Thread",),
    "concurrent.futures._base": ("Future",),
    "asyncio.futures": ("Future",),
    "asyncio.tasks": ("Task",),
}
_ordinals = itertools.count(1)

_urandom = real.os.urandom


def urandom(size: int, /) -> bytes:
    task = current_task()
    return _urandom(size) if task is None else task.runner.urandom.get_random_bytes(size)


def installed() -> bool:
    """Whether this process runs over the stand-ins."""
    return sys.modules["_thread"] is not real._thread


def install() -> None:
    """Put the stand-ins in place. Once a process, before anything imports threading, socket, selectors or random."""
    if installed():
        return
    from afinet.stdlib import _socket, _thread, select, time
    from afinet.stdlib import os as os_stand_in

    stand_ins: dict[str, ModuleType] = {"_thread": _thread, "time": time, "select": select, "_socket": _socket}
    replaced: dict[int, Any] = {}
    for name, ours in stand_ins.items():
        theirs = getattr(real, name)
        replaced[id(theirs)] = ours
        for key, value in vars(theirs).items():
            new = getattr(ours, key, value)
            if new is not value and not key.startswith("__") and (callable(value) or isinstance(value, type)):
                replaced[id(value)] = new
        sys.modules[name] = ours
    for name in _WITHOUT:
        sys.modules[name] = None  # type: ignore[assignment]
    sys.meta_path.insert(0, _AfterImport())
    for key in os_stand_in.REPLACED + os_stand_in.FENCED:
        replaced[id(getattr(real.os, key))] = getattr(os_stand_in, key)
    spawner = sys.modules.get("_posixsubprocess")
    if spawner is not None:
        replaced[id(vars(spawner)["fork_exec"])] = vars(os_stand_in)["fork_exec"]
    replaced[id(_urandom)] = staticmethod(urandom)  # as real.like_builtins
    replaced.update(_main_thread_only())
    rebind(replaced)

    _patch_random()


def rebind(replaced: dict[int, Any]) -> None:
    """In every module that is loaded, bind the names of what was replaced to what replaces it. Ours keep what they have."""
    for key, module in list(sys.modules.items()):
        # The name says whose module it is: ours stand in sys.modules under the names of others by now.
        name = getattr(module, "__name__", key)
        if module is None or name == "afinet" or name.startswith("afinet.") or name in ("builtins", "sys"):
            continue
        if module is real._thread or module is real.time or module is real.select or module is real._socket:
            continue
        space = getattr(module, "__dict__", None)
        if not isinstance(space, dict):
            continue
        for attribute, value in list(space.items()):
            if id(value) in replaced and not attribute.startswith("__"):
                space[attribute] = replaced[id(value)]


def _change(module: ModuleType) -> None:
    """What a module of the standard library gets once it is executed."""
    for name in _ORDINAL.get(module.__name__, ()):
        getattr(module, name).__hash__ = _hash_by_ordinal
    if module.__name__ == "socket":
        from afinet.stdlib.bufferedio import over_io

        vars(module)["io"] = over_io()  # makefile's buffers


class _AfterImport:
    """Finds modules that `_change` changes as they would be found."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in _ORDINAL and fullname != "socket":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenChange(spec.loader)  # type: ignore[assignment]
        return spec


class _ThenChange:
    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _change(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # get_source, for tracebacks


def _hash_by_ordinal(self: Any) -> int:
    ordinal: int = vars(self).get("_afinet_ordinal", 0)
    if not ordinal:
        ordinal = self._afinet_ordinal = next(_ordinals)
    return ordinal


def _main_thread_only() -> dict[int, Any]:
    """What C refuses to any thread but the main one. A task that is a greenlet of the main thread is refused as one with a thread
    of its own is. id of the host's function -> ours."""
    below = import_module("_signal")
    return {
        id(function): staticmethod(_MainThreadOnly(function))
        for function in (getattr(below, name, None) for name in ("signal", "set_wakeup_fd"))
        if function is not None
    }


class _MainThreadOnly:
    def __init__(self, function: Any) -> None:
        self.function = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current_task() is not None:
            raise ValueError(f"{self.__name__} only works in main thread of the main interpreter")
        return self.function(*args, **kwargs)


def _patch_random() -> None:
    """random.Random(), random.seed(): without a value, in a task, from the network's stream."""
    import random

    host_seed = random.Random.seed

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and current_task() is not None:
            a = int.from_bytes(urandom(32), "big")
        host_seed(self, a, version)

    random.Random.seed = seed  # type: ignore[method-assign]
    random.seed = random._inst.seed  # it was bound to the old one


def begin(seed: bytes) -> None:
    """A Network begins: chance and the counters in names start anew."""
    if not installed():
        return
    global _ordinals
    import random

    _ordinals = itertools.count(1)
    random.seed(int.from_bytes(RandomStream(seed, "random").get_random_bytes(32), "big"))
    threading = sys.modules.get("threading")
    if threading is not None and hasattr(threading, "_counter"):
        vars(threading)["_counter"] = itertools.count(1).__next__
