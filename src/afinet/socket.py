"""The module that stands for `socket`: Python's own socket.py over a simulated host's sockets.

    from afinet import socket

In a task of a Network, `socket.create_connection(("server", 80))` connects to the host of that name, and everything else that the
standard module has works likewise; outside of a task it is the host's sockets, unchanged. Programs under `afinet run` need not
import it: there the standard module itself is over ours.
"""

import selectors as _host_selectors
import sys as _sys

from afinet.stdlib import _socket as _c_socket
from afinet.stdlib import os as _os
from afinet.stdlib import select as _select
from afinet.stdlib import time as _time
from afinet.stdlib.bufferedio import over_io as _over_io
from afinet.stdlib.over import load_over as _load_over
from afinet.stdlib.over import run_over as _run_over

if _sys.modules.get("select") is _select:
    _selectors = _host_selectors
else:
    _selectors = _load_over("selectors", "afinet.stdlib._selectors", {"select": _select})

_run_over(
    "socket",
    globals(),
    {"_socket": _c_socket, "select": _select, "selectors": _selectors, "time": _time, "os": _os, "io": _over_io()},
)
