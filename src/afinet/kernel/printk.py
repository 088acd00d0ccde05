"""kernel/printk and lib/ratelimit.c: what the stack has to say to whoever runs the machine, as dmesg(1) shows it.

`Kernel.log` keeps the last lines with the time at which they came. Whoever logs because of packets asks a RateLimit first.
"""

from __future__ import annotations

from typing import Final

LOG_LINES: Final = 1000


class LogBuffer:
    """The log of a Kernel."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []  # (ns, text), oldest first

    def printk(self, now: int, text: str) -> None:
        if len(self.lines) >= LOG_LINES:
            del self.lines[: LOG_LINES // 2]
        self.lines.append((now, text))


class RateLimit:
    """struct ratelimit_state: at most `burst` in each `interval` (ns)."""

    __slots__ = ("begin", "burst", "interval", "missed", "printed")

    def __init__(self, interval: int, burst: int) -> None:
        self.interval: int = interval
        self.burst: int = burst
        self.begin: int = -interval - 1
        self.printed: int = 0
        self.missed: int = 0

    def ratelimit(self, now: int) -> bool:
        if now - self.begin > self.interval:
            self.begin = now
            self.printed = 0
        if self.printed < self.burst:
            self.printed += 1
            return True
        self.missed += 1
        return False
