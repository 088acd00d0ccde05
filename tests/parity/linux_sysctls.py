"""The running kernel's sysctls of net.ipv4 and net.core in a new namespace with nothing but lo: `python -m
tests.parity.linux_sysctls` prints, as JSON, for each name its default and what became of each value written: [errno or 0, text read
then]. Needs root; nothing outside the namespace is touched."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

from tests.parity.linux_tun import CLONE_NEWNET
from tests.parity.sysctl_cases import VALUES, wanted

ROOT = Path("/proc/sys")


def write(path: Path, text: str) -> int:
    """One write() of the text, as `sysctl -w` makes it. 0 or errno."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode() + b"\n")
    except OSError as e:
        return e.errno or 0
    finally:
        os.close(fd)
    return 0


def read(path: Path) -> str:
    return path.read_text().rstrip("\n")


def main() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise PermissionError(ctypes.get_errno(), "cannot make a network namespace (needs root)")
    told = {}
    settings: dict[str, tuple[Path, str]] = {}
    for area in ("core", "ipv4"):
        for path in sorted((ROOT / "net" / area).rglob("*")):
            name = path.relative_to(ROOT).as_posix().replace("/", ".")
            if not path.is_file() or not wanted(name) or not path.stat().st_mode & 0o400:
                continue
            settings[name] = (path, read(path))
    for name, (path, default) in settings.items():
        answers: list[list[object]] = []
        if path.stat().st_mode & 0o200:
            for value in VALUES:
                if read(path) != default:  # also where two names show one value
                    write(path, default)
                assert read(path) == default, name
                answers.append([write(path, value), read(path)])
            write(path, default)
        told[name] = {"default": default, "answers": answers}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
