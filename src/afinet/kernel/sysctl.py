"""kernel/sysctl.c: the values under /proc/sys, by path, each stored in the field that the stack reads.

A `CtlTable` entry points at a field of an object as C's `.data` points at a variable: `getattr` and `setattr` with the field's
name are Python's pointer, used in this file and nowhere else in the core. Paths are relative to /proc/sys
("net/ipv4/tcp_rmem"; the dotted form is accepted). Per-namespace tables hang on `Net.sysctl_table`, the rest on the Kernel.
"""

from __future__ import annotations

from typing import Final

from afinet._mypyc import mypyc_attr
from afinet.kernel.time import NSEC_PER_SEC
from afinet.uapi.errno import EACCES, EINVAL, ENOENT

INT_MAX: Final = 0x7FFFFFFF
INT_MIN: Final = -0x80000000
UINT_MAX: Final = 0xFFFFFFFF
LONG_MAX: Final = (1 << 63) - 1
PROC_NUMBER_MAX: Final = 20  # characters: TMPBUFLEN leaves room for no longer one


def parse_long(word: str) -> tuple[bool, int]:
    """strtoul with base 0: decimal, 0x... or 0...; a minus may stand before it, no plus. (whether it is a number, the number)."""
    digits = word[1:] if word[:1] == "-" else word
    base = 10
    if digits[:2] in ("0x", "0X"):
        digits = digits[2:]
        base = 16
    elif digits[:1] == "0" and len(digits) > 1:
        base = 8
    if not digits.isascii() or not digits.isalnum() or len(word) > PROC_NUMBER_MAX:
        return False, 0
    try:
        value = int(digits, base)
    except ValueError:
        return False, 0
    return True, -value if word[:1] == "-" else value


@mypyc_attr(allow_interpreted_subclasses=True)
class CtlTable:
    """struct ctl_table, and proc_dointvec_minmax: one or several integers of a field. Other formats subclass it; one that only
    keeps numbers in another unit overrides `stored` and `shown`."""

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

    def stored(self, value: int) -> int | None:
        """What is kept for a number that was written; None: it is refused."""
        return value if self.extra1 <= value <= self.extra2 else None

    def shown(self, value: int) -> int:
        return value

    def read(self) -> str:
        value = getattr(self.data, self.field)
        if isinstance(value, list):
            return "\t".join([str(self.shown(v)) for v in value])
        return str(self.shown(int(value)))

    def write(self, text: str) -> int:
        """0 or -EINVAL. As do_proc_dointvec: a vector may be written in part, from its start; what stands behind the last number is
        not looked at; of numbers before one that is refused each has been stored."""
        words = text.split()
        if not words:
            return -EINVAL
        for i in range(min(len(words), self.maxlen)):
            known, number = parse_long(words[i])
            if not known:
                return -EINVAL
            value = self.stored(number)
            if value is None:
                return -EINVAL
            self.put(i, value)
        return 0

    def put(self, i: int, value: int) -> None:
        current = getattr(self.data, self.field)
        if isinstance(current, list):
            current[i] = value
        elif isinstance(current, bool):
            setattr(self.data, self.field, value != 0)
        else:
            setattr(self.data, self.field, value)


class CtlBounded(CtlTable):
    """proc_doulongvec_minmax and its like, where a limit is another setting: field `low` or `high` of the same object."""

    __slots__ = ("high", "low")

    def __init__(self, procname: str, data: object, field: str, low: str, high: str, extra1: int, extra2: int) -> None:
        super().__init__(procname, data, field, extra1, extra2)
        self.low: str = low
        self.high: str = high

    def stored(self, value: int) -> int | None:
        if self.low and value < int(getattr(self.data, self.low)):
            return None
        if self.high and value > int(getattr(self.data, self.high)):
            return None
        return super().stored(value)


class CtlTime(CtlTable):
    """proc_dointvec_jiffies (`per_second` 1), its sisters for clock ticks of users (USER_HZ, 100) and for milliseconds (1000):
    times that are written in these units and kept in ns, as whole jiffies of a machine with `hz`. Where Linux lets a number
    overflow, it is refused."""

    __slots__ = ("hz", "per_second")

    def __init__(self, procname: str, data: object, field: str, per_second: int, hz: int, extra1: int = INT_MIN) -> None:
        super().__init__(procname, data, field, extra1)
        self.per_second: int = per_second
        self.hz: int = hz

    def stored(self, value: int) -> int | None:
        jiffies = value * self.hz
        if self.per_second == 1:
            # seconds may be negative
            return jiffies // self.hz * NSEC_PER_SEC if abs(value) <= INT_MAX // self.hz else None
        if value < 0 or not self.extra1 <= value <= INT_MAX:
            return None
        if self.per_second == 1000:
            jiffies += 999  # msecs_to_jiffies rounds up
        jiffies //= self.per_second
        return jiffies * (NSEC_PER_SEC // self.hz) if jiffies <= INT_MAX else None

    def shown(self, value: int) -> int:
        return value // (NSEC_PER_SEC // self.per_second)


class CtlString(CtlTable):
    """proc_dostring."""

    __slots__ = ()

    def read(self) -> str:
        return str(getattr(self.data, self.field))

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
