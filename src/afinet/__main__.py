"""The `afinet` command, also `python -m afinet`."""

from __future__ import annotations

import sys


def main() -> int:
    try:
        from afinet import cli
    except ModuleNotFoundError as e:
        if e.name not in ("click", "rich"):
            raise
        if sys.argv[1:] == ["--version"]:
            from afinet._build import describe

            print(describe())
            return 0
        print(f"afinet: the command needs {e.name}: pip install 'afinet[cli]'", file=sys.stderr)
        return 1
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
