"""Linux's socket layer and TCP/IP stack as a Python package, under a clock you control.

    import afinet

    with afinet.Network(seed=7) as net:
        client, server = net.host("client"), net.host("server")
        net.link(client, server, delay="20ms", rate="10mbit", loss=0.01)
        ...

The names below are loaded when they are first used. The stack itself is in the subpackages, at Linux's own paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# First: it decides which files every later import finds.
from afinet._build import COMPILED, __version__

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel as Kernel
    from afinet.runner.virtual import DeadlockError as DeadlockError
    from afinet.runner.virtual import SimTask as Task
    from afinet.security.security import SecurityHook as SecurityHook
    from afinet.sim.host import Host as Host
    from afinet.sim.link import Link as Link
    from afinet.sim.network import Network as Network
    from afinet.sim.security import Policy as Policy
    from afinet.sim.units import UsageError as UsageError

__all__ = [
    "COMPILED",
    "DeadlockError",
    "Host",
    "Kernel",
    "Link",
    "Network",
    "Policy",
    "SecurityHook",
    "Task",
    "UsageError",
    "__version__",
]

_HOMES = {
    "DeadlockError": ("afinet.runner.virtual", "DeadlockError"),
    "Host": ("afinet.sim.host", "Host"),
    "Kernel": ("afinet.kernel.machine", "Kernel"),
    "Link": ("afinet.sim.link", "Link"),
    "Network": ("afinet.sim.network", "Network"),
    "Policy": ("afinet.sim.security", "Policy"),
    "SecurityHook": ("afinet.security.security", "SecurityHook"),
    "Task": ("afinet.runner.virtual", "SimTask"),
    "UsageError": ("afinet.sim.units", "UsageError"),
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home[0]), home[1])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
