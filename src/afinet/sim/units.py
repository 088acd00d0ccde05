"""Quantities as people write them: "20ms", "10mbit", "1%", "64kb". Everything becomes an integer, exactly where it can.

Every error is one line that shows what would have been right.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from afinet.kernel.time import NSEC_PER_SEC


class UsageError(ValueError):
    """A mistake in how the network was described. One line, which names the remedy."""


Quantity = str | int | float

_TIME = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": NSEC_PER_SEC,
    "sec": NSEC_PER_SEC,
    "min": 60 * NSEC_PER_SEC,
    "m": 60 * NSEC_PER_SEC,
    "h": 3600 * NSEC_PER_SEC,
    "d": 86400 * NSEC_PER_SEC,
}
_RATE = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12, "kibit": 1 << 10, "mibit": 1 << 20}
_SIZE = {"b": 1, "kb": 1000, "mb": 10**6, "gb": 10**9, "k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20}

_NUMBER = re.compile(r"\s*([0-9_]*\.?[0-9_]+(?:e[+-]?[0-9]+)?)\s*(.*?)\s*", re.IGNORECASE)


def _split(value: str) -> tuple[Decimal, str] | None:
    match = _NUMBER.fullmatch(value)
    if match is None:
        return None
    try:
        return Decimal(match[1].replace("_", "")), match[2]
    except InvalidOperation:
        return None


def _number(value: int | float) -> Decimal | None:
    if isinstance(value, bool) or value != value or value in (float("inf"), float("-inf")) or value < 0:
        return None
    return Decimal(repr(value))


def parse_time(value: Quantity, what: str = "time") -> int:
    """Nanoseconds. A bare number is seconds."""
    parts = _split(value) if isinstance(value, str) else None
    number = parts[0] if parts is not None else _number(value) if isinstance(value, (int, float)) else None
    unit = parts[1] if parts is not None else ""
    if unit in ("M", "D", "H"):
        unit = ""  # not a time in any notation: fall through to the error
        number = None
    factor = _TIME.get(unit.lower()) if unit else NSEC_PER_SEC
    if number is None or factor is None:
        raise UsageError(f"{what}={value!r} is not a time: write it like '20ms', '1.5s' or '100us', or as a number of seconds")
    return int((number * factor).to_integral_value())


def parse_rate(value: Quantity | None, what: str = "rate") -> int:
    """Bits a second; 0 for None: no limit."""
    if value is None:
        return 0
    parts = _split(value) if isinstance(value, str) else None
    number = parts[0] if parts is not None else _number(value) if isinstance(value, (int, float)) else None
    unit = parts[1].lower() if parts is not None else ""
    if unit.endswith("/s"):
        unit = unit[:-2]
    if unit.endswith("bps"):
        # tc(8) reads mbps as megabytes, everybody else as megabits
        raise UsageError(f"{what}={value!r} may mean bits or bytes: write '10mbit' for ten million bits a second")
    if unit in ("mbits", "kbits", "gbits"):
        unit = unit[:-1]
    factor = _RATE.get(unit) if unit else 1
    if number is None or factor is None or number * factor < 1:
        raise UsageError(f"{what}={value!r} is not a rate: write it like '10mbit' or '1gbit', or as a number of bits a second")
    return int((number * factor).to_integral_value())


def parse_size(value: Quantity, what: str = "size") -> int:
    """Bytes, from a number or "64kb"."""
    parts = _split(value) if isinstance(value, str) else None
    number = parts[0] if parts is not None else _number(value) if isinstance(value, (int, float)) else None
    factor = _SIZE.get(parts[1].lower()) if parts is not None and parts[1] else 1
    if number is None or factor is None or number * factor != (number * factor).to_integral_value():
        raise UsageError(f"{what}={value!r} is not a size: write a number of bytes, or '64kb', '1mib'")
    return int(number * factor)


def parse_share(value: Quantity, what: str = "loss") -> float:
    """A probability, 0 to 1, from 0.01 or "1%"."""
    number: Decimal | None = None
    if isinstance(value, str):
        parts = _split(value)
        if parts is not None and parts[1] == "%":
            number = parts[0] / 100
        elif parts is not None and parts[1] == "":
            number = parts[0]
    elif isinstance(value, (int, float)):
        number = _number(value)
    if number is None or number > 1:
        raise UsageError(f"{what}={value!r} is not a share: write it like 0.01 or '1%', from 0 to 1 or 100%")
    return float(number)


def parse_queue(value: Quantity | None, what: str = "queue") -> tuple[int, int]:
    """(packets, bytes) that may wait; 0 for no limit of that kind. A bare number counts packets."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value, 0
    if isinstance(value, str):
        parts = _split(value)
        if parts is not None:
            number, unit = parts[0], parts[1].lower()
            if unit in ("", "p", "packet", "packets") and number == number.to_integral_value() and number >= 1:
                return int(number), 0
            if unit in _SIZE and number * _SIZE[unit] >= 1:
                return 0, int((number * _SIZE[unit]).to_integral_value())
    raise UsageError(f"{what}={value!r} is not a queue: write a number of packets like 100, or of bytes like '64kb'")


def parse_address(value: str, what: str = "address") -> tuple[int, int]:
    """(address, prefix length) of "10.0.0.1/24"; without a length, 32."""
    text, slash, length = value.partition("/")
    parts = text.split(".")
    if (
        len(parts) == 4
        and all(p.isascii() and p.isdigit() and len(p) <= 3 and int(p) < 256 for p in parts)
        and (not slash or (length.isascii() and length.isdigit() and int(length) <= 32))
    ):
        a, b, c, d = map(int, parts)
        return a << 24 | b << 16 | c << 8 | d, int(length) if slash else 32
    raise UsageError(f"{what}={value!r} is not an IPv4 address: write it like '10.0.0.1/24'")


def parse_route(text: str, what: str = "route") -> tuple[int, int, int]:
    """(destination, prefix length, gateway or 0) of "10.1.0.0/16 via 10.0.0.1", in the words of `ip route add`."""
    words = text.split()
    if len(words) not in (1, 3) or (len(words) == 3 and words[1] != "via"):
        raise UsageError(f"{what} {text!r}: write it like '10.1.0.0/16 via 10.0.0.1', or '10.1.0.0/16' for a neighbour's")
    destination, plen = (0, 0) if words[0] == "default" else parse_address(words[0], what)
    if destination & 0xFFFFFFFF >> plen:
        network = format_address(destination & ~(0xFFFFFFFF >> plen))
        raise UsageError(f"{what} {text!r}: {words[0]} is not the first address of its network: write {network}/{plen}")
    return destination, plen, parse_address(words[2], f"{what} ... via")[0] if len(words) == 3 else 0


def format_address(addr: int) -> str:
    return f"{addr >> 24}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


def format_time(nsec: int) -> str:
    """ "20ms", "1.5s": the shortest unit that keeps three digits."""
    for factor, unit in ((NSEC_PER_SEC, "s"), (10**6, "ms"), (10**3, "us")):
        if nsec >= factor:
            return f"{nsec / factor:.6g}{unit}"
    return f"{nsec}ns"


def format_rate(bits: int) -> str:
    if not bits:
        return "unlimited"
    for factor, unit in ((10**9, "gbit"), (10**6, "mbit"), (10**3, "kbit")):
        if bits >= factor:
            return f"{bits / factor:.6g}{unit}"
    return f"{bits}bit"
