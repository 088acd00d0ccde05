"""python -m benchmarks [NAME ...] [--build compiled|interpreted] [--json]; python -m benchmarks wire ...: see wire.py

Each benchmark runs in a process of its own, for each build there is, one after the other. Figures of one run compare with each
other; machines differ.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys

BENCHMARKS = ("bulk", "idle", "connect", "switch")
UNITS = {
    "segments_s": "segments/s",
    "burst_segments_s": "segments/s in bursts",
    "mb_s": "MB/s",
    "bytes_end": "bytes an end",
    "connections_s": "connections/s",
    "baton_switches_s": "switches/s by the baton",
    "greenlet_switches_s": "switches/s by greenlets",
    "baton_http_s": "http requests/s by the baton",
    "greenlet_http_s": "http requests/s by greenlets",
}


def measure(name: str) -> dict[str, object]:
    import afinet

    module = importlib.import_module(f"benchmarks.{name}")
    result: dict[str, object] = {"benchmark": name, "build": "compiled" if afinet.COMPILED else "interpreted"}
    result.update(module.measure())
    return result


def builds_here() -> list[str]:
    env = dict(os.environ)
    env.pop("AFINET_PURE", None)
    probe = subprocess.run([sys.executable, "-c", "import afinet; print(afinet.COMPILED)"], env=env, capture_output=True, text=True)
    return ["compiled", "interpreted"] if probe.stdout.strip() == "True" else ["interpreted"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--build", choices=("compiled", "interpreted"), help="only this build")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    if sys.argv[1:2] == ["wire"]:
        # Not for one build at a time: everything in it is compared with the kernel, in the same run.
        from benchmarks import wire

        return wire.main(sys.argv[2:], builds_here())
    args = parser.parse_args()
    for name in args.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    if args.here:
        print(json.dumps(measure(args.names[0])))
        return 0
    builds = [args.build] if args.build else builds_here()
    failed = False
    for name in args.names:
        for build in builds:
            env = dict(os.environ)
            env.pop("AFINET_PURE", None)
            if build == "interpreted":
                env["AFINET_PURE"] = "1"
            print(f"{name}, {build} ...", file=sys.stderr, end="\r", flush=True)
            done = subprocess.run([sys.executable, "-m", "benchmarks", "--here", name], env=env, capture_output=True, text=True)
            if done.returncode:
                failed = True
                print(f"{name}, {build}: failed\n{done.stderr}", file=sys.stderr)
                continue
            line = done.stdout.strip().splitlines()[-1]
            result = json.loads(line)
            if result["build"] != build:
                print(f"{name}: no {build} build in this environment", file=sys.stderr)
                continue
            print(line if args.json else text(result), flush=True)
    return 1 if failed else 0


def text(result: dict[str, object]) -> str:
    head = f"{result['benchmark']:8} {result['build']:12}"
    parts = []
    for key, value in result.items():
        if key in UNITS and isinstance(value, (int, float)):
            parts.append(f"{value:>12,.0f} {UNITS[key]}")
        elif key not in ("benchmark", "build"):
            parts.append(f"{key}={value:,}" if isinstance(value, int) else f"{key}={value}")
    return head + "  ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
