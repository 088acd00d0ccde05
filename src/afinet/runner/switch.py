"""Which way the tasks of a Network are switched: the baton (baton.py), which is right always, or greenlets (greenlets.py), which
are fast. The schedule is the hub's and the same, and so are the packets: tests/test_switch.py compares them.

`auto` takes greenlets where they are installed, where this interpreter lets them have thread-locals of their own, and where the
process runs over the stand-ins (`afinet run`); elsewhere the baton. The environment's AFINET_SWITCH speaks for a Network that says
nothing.
"""

from __future__ import annotations

from afinet.runner import real
from afinet.runner.virtual import Switch

SWITCHES = ("auto", "baton", "greenlet")


def choose(wanted: str, ours: bool) -> Switch:
    """`ours`: identity and locks in this process are the stand-ins' (stdlib/install.py). ValueError for what cannot be had."""
    if wanted == "auto":
        wanted = real.os.environ.get("AFINET_SWITCH") or "auto"
    if wanted not in SWITCHES:
        raise ValueError(f"switch={wanted!r}: there are {', '.join(map(repr, SWITCHES))}")
    if wanted == "greenlet" or (wanted == "auto" and ours):
        why = why_no_greenlets()
        if not why:
            from afinet.runner.greenlets import GreenletSwitch

            return GreenletSwitch()
        if wanted == "greenlet":
            raise ValueError(why)
    from afinet.runner.baton import BatonSwitch

    return BatonSwitch()


def why_no_greenlets() -> str:
    """Empty if they can be used."""
    try:
        from afinet.runner import greenlets
    except ImportError:
        return "switch='greenlet' needs the package greenlet: pip install 'afinet[fast]'"
    try:
        if greenlets.swappable():
            return ""
    except (ImportError, AttributeError):  # no ctypes.pythonapi
        pass
    return "switch='greenlet': this interpreter keeps thread-locals where they cannot be exchanged: use 'baton'"
