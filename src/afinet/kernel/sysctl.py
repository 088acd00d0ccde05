"""kernel/sysctl.c: the values under /proc/sys, by path, each stored in the field that the stack reads.

A `CtlTable` entry points at a field of an object as C's `.data` points at a variable: `getattr` and `setattr` with the field's
name are Python's pointer, used in this file and nowhere else in the core. Paths are relative to /proc/sys
("net/ipv4/tcp_rmem"; the dotted form is accepted). Per-namespace tables hang on `Net.sysctl_table`, the rest on the Kernel.
"""

from __future__ import annotations

from typing import Final

from afinet._mypyc import mypyc_attr
from afinet.uapi.errno import EACCES, EINVAL, ENOENT

INT_MAX: Final = 0x7FFFFFFF
INT_MIN: Final = -0x80000000
UINT_MAX: Final = 0xFFFFFFFF
LONG_MAX: Final = (1 << 62) - 1


@mypyc_attr(allow_interpreted_subclasses=True)
class CtlTable:
    """struct ctl_table, and proc_dointvec_minmax: one or several integers of a field. Other formats subclass it."""

    __slots__ = ("data", "extra1", "extra2", "field", "maxlen", "mode", "procname")

    def __init__(
        self, procname: str, data: object, field: str, extra1: int = INT_MIN, extra2: int = INT_MAX, mode: int = 0o644
    ) -> None:
        self.procname: str = procname
        self.data: object = data
        self.field: str = field
        self.extra1: int = extra1
        self.extra2: int = extra2
        self.mode: int = mode
        value = getattr(data, field)
        self.maxlen: int = len(value) if isinstance(value, list) else 1

    def read(self) -> str:
        value = getattr(self.data, self.field)
        if isinstance(value, list):
            return "\t".join([str(v) for v in value])
        if isinstance(value, bool):
            return str(int(value))
        return str(value)

    def write(self, text: str) -> int:
        """0 or -EINVAL; nothing is changed on an error. A vector may be written in part, from its start, as in Linux."""
        words = text.split()
        if not words or len(words) > self.maxlen:
            return -EINVAL
        values: list[int] = []
        for word in words:
            try:
                value = int(word, 0)
            except ValueError:
                return -EINVAL
            if not self.extra1 <= value <= self.extra2:
                return -EINVAL
            values.append(value)
        current = getattr(self.data, self.field)
        if isinstance(current, list):
            current[: len(values)] = values
        elif isinstance(current, bool):
            setattr(self.data, self.field, values[0] != 0)
        else:
            setattr(self.data, self.field, values[0])
        return 0


class CtlString(CtlTable):
    """proc_dostring."""

    __slots__ = ()

    def write(self, text: str) -> int:
        setattr(self.data, self.field, text.strip())
        return 0


def register_sysctl(table: dict[str, CtlTable], path: str, entries: list[CtlTable]) -> None:
    """Put `entries` under `path` ("net/ipv4")."""
    for entry in entries:
        table[f"{path}/{entry.procname}"] = entry


def sysctl_path(name: str) -> str:
    """The path of `name` in either notation: "net.ipv4.tcp_rmem" or "net/ipv4/tcp_rmem". With dots, a device name's own
    dots are written as slashes, as sysctl(8) has it."""
    slash, dot = name.find("/"), name.find(".")
    if dot >= 0 and (slash < 0 or dot < slash):
        return name.replace("/", "\0").replace(".", "/").replace("\0", ".")
    return name


def sysctl_read(table: dict[str, CtlTable], name: str) -> str | int:
    """The text of a value, or -ENOENT."""
    entry = table.get(sysctl_path(name))
    return -ENOENT if entry is None else entry.read()


def sysctl_write(table: dict[str, CtlTable], name: str, text: str) -> int:
    """0, -ENOENT, -EACCES (read only) or -EINVAL."""
    entry = table.get(sysctl_path(name))
    if entry is None:
        return -ENOENT
    if not entry.mode & 0o222:
        return -EACCES
    return entry.write(text)
