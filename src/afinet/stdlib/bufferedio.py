"""What stands for `io` under socket.py: buffers that two tasks may share.

A buffer of C holds a lock of C while it reads or writes below itself. Below, a simulated socket may have to wait, and another task
that comes to the same buffer meanwhile would stop the OS thread, and all of the simulation with it, or be told that it re-enters.
Here tasks take turns before they come to that lock, in a lock that the hub knows. The one who has it may re-enter, and is told so.
"""

from __future__ import annotations

import io as _io
from types import ModuleType
from typing import Any

from afinet.stdlib._thread import RLock


class BufferedReader(_io.BufferedReader):
    def __init__(self, raw: Any, buffer_size: int = _io.DEFAULT_BUFFER_SIZE) -> None:
        self._turn = RLock()
        super().__init__(raw, buffer_size)

    def peek(self, size: int = 0, /) -> bytes:
        with self._turn:
            return super().peek(size)

    def read(self, size: int | None = -1, /) -> bytes:
        with self._turn:
            return super().read(size)

    def read1(self, size: int = -1, /) -> bytes:
        with self._turn:
            return super().read1(size)

    def readinto(self, buffer: Any, /) -> int:
        with self._turn:
            return super().readinto(buffer)

    def readinto1(self, buffer: Any, /) -> int:
        with self._turn:
            return super().readinto1(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        with self._turn:
            return super().readline(size)

    def close(self) -> None:
        with self._turn:
            super().close()


class BufferedWriter(_io.BufferedWriter):
    def __init__(self, raw: Any, buffer_size: int = _io.DEFAULT_BUFFER_SIZE) -> None:
        self._turn = RLock()
        super().__init__(raw, buffer_size)

    def write(self, buffer: Any, /) -> int:
        with self._turn:
            return super().write(buffer)

    def flush(self) -> None:
        with self._turn:
            super().flush()

    def close(self) -> None:
        with self._turn:
            super().close()


class BufferedRWPair(_io.BufferedRWPair):
    """Its halves have a turn each: a reader that waits does not stop a writer."""

    def __init__(self, reader: Any, writer: Any, buffer_size: int = _io.DEFAULT_BUFFER_SIZE, /) -> None:
        self._read_turn = RLock()
        self._write_turn = RLock()
        super().__init__(reader, writer, buffer_size)

    def peek(self, size: int = 0, /) -> bytes:
        with self._read_turn:
            return super().peek(size)

    def read(self, size: int | None = -1, /) -> bytes:
        with self._read_turn:
            return super().read(size)

    def read1(self, size: int = -1, /) -> bytes:
        with self._read_turn:
            return super().read1(size)

    def readinto(self, buffer: Any, /) -> int:
        with self._read_turn:
            return super().readinto(buffer)

    def readinto1(self, buffer: Any, /) -> int:
        with self._read_turn:
            return super().readinto1(buffer)

    def write(self, buffer: Any, /) -> int:
        with self._write_turn:
            return super().write(buffer)

    def flush(self) -> None:
        with self._write_turn:
            super().flush()


def over_io() -> ModuleType:
    """The host's io with the classes of this module in it."""
    module = ModuleType("io", _io.__doc__)
    vars(module).update({k: v for k, v in vars(_io).items() if not k.startswith("__")})
    for cls in (BufferedReader, BufferedWriter, BufferedRWPair):
        vars(module)[cls.__name__] = cls
    return module
