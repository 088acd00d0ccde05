"""`python -m tests.storms [NAME...] [--packets N]`: each storm, and a line of what came of it."""

from __future__ import annotations

import argparse
import time

from tests.storms.storms import STORMS, run_storm

# The counters that a line shows, of those that moved.
SHOWN = (
    "TcpExtListenDrops", "TcpExtListenOverflows", "TcpExtTCPReqQFullDrop", "TcpOutRsts", "TcpExtTCPChallengeACK",
    "TcpExtTCPACKSkippedChallenge", "TcpExtTCPACKSkippedSeq", "TcpExtTCPWinProbe", "TcpExtTCPWqueueTooBig", "TcpExtTCPSACKDiscard",
    "IpReasmFails", "IpReasmOverlaps", "IcmpOutMsgs", "IcmpOutRateLimitGlobal", "UdpNoPorts",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.storms")
    parser.add_argument("names", nargs="*", choices=[[], *STORMS], default=[])
    parser.add_argument("--packets", type=int, default=100_000)
    args = parser.parse_args()
    print(f"{'storm':14} {'packets':>8} {'answers':>8} {'peak KiB':>9} {'entries':>8} client  left  seconds  counters")
    for name in args.names or STORMS:
        began = time.monotonic()
        r = run_storm(name, args.packets)
        moved = ", ".join(f"{k.removeprefix('TcpExt')} {r.moved[k]:,}" for k in SHOWN if k in r.moved)
        client = "yes" if all(r.clients) else "NO"
        print(
            f"{name:14} {r.packets:8,} {r.answers:8,} {r.peak / 1024:9,.0f} {r.queued:8,} {client:7} {len(r.left):<5} "
            f"{time.monotonic() - began:7.1f}  {moved}",
            flush=True,
        )


if __name__ == "__main__":
    main()
