"""`python -m tests.fuzz TARGET [--inputs N] [--seed S] [--episode E]`: N inputs, or with --episode those of one episode alone."""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time
import traceback

from tests.fuzz.targets import EPISODE, GROUPS, TARGETS, FuzzFailure, run_episode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=[*TARGETS, *GROUPS])
    parser.add_argument("--inputs", type=int, default=10 * EPISODE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episode", type=int, default=-1)
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    args = parser.parse_args()
    names = GROUPS.get(args.target, (args.target,))
    began, failures = time.monotonic(), 0
    for name in names:
        done, number = 0, max(args.episode, 0)
        while done < args.inputs // len(names):
            size = min(EPISODE, args.inputs // len(names) - done)
            try:
                run_episode(TARGETS[name], args.seed, number, size)
            except FuzzFailure as e:
                failures += 1
                traceback.print_exc()
                print(e, file=sys.stderr)
                if not args.keep_going:
                    return 1
            done += size
            number += 1
            if args.episode >= 0:
                break
            gc.collect()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{name}: {done:,} inputs, {time.monotonic() - began:.0f} s, {failures} failures, {peak} MB at most", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
