"""What a switch between simulated threads costs, by the baton and by greenlets, side by side in one run.

`baton_switches_s` and `greenlet_switches_s`: two tasks that take turns, a resume counted as a switch. `baton_http_s` and
`greenlet_http_s`: requests a second of http.server's threads, asked by four threads of http.client that keep their connections, in
a process of its own under `afinet run`. Each is the best of three, taken alternately. A second is one of the process's CPU time,
threads and kernel included: either way keeps one CPU busy and no more, and on shared cores a clock would measure the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from afinet import Network
from afinet.runner.switch import why_no_greenlets
from afinet.runner.virtual import current_task

SWITCHES = {"baton": 20_000, "greenlet": 200_000}
SCENARIO = Path(__file__).with_name("switch_http.py")
ROUNDS = 3


def turns(count: int) -> None:
    task = current_task()
    assert task is not None
    for _ in range(count):
        task.sleep(1)


def switches(way: str) -> float:
    with Network(seed=1, switch=way) as net:
        host = net.host("h")
        count = SWITCHES[way] // 2
        tasks = [host.spawn(turns, count) for _ in range(2)]
        began = time.process_time()
        net.run(until=tasks)
        return 2 * count / (time.process_time() - began)


def http(way: str) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "afinet", "run", str(SCENARIO)],
        env={**os.environ, "AFINET_SWITCH": way},
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["switch"] == way
    return float(answer["requests_s"])


def measure() -> dict[str, object]:
    ways = ["baton"]
    result: dict[str, object] = {}
    why = why_no_greenlets()
    if why:
        result["greenlet"] = why
    else:
        ways.append("greenlet")
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for way in ways:
            for name, figure in ((f"{way}_switches_s", switches(way)), (f"{way}_http_s", http(way))):
                best[name] = max(best.get(name, 0.0), figure)
    result.update({name: round(best[name]) for name in sorted(best)})
    return result
