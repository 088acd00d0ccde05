"""Unmodified programs of the standard library under `afinet run`, each twice: they work, and the same seed is the same run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from afinet.runner.switch import why_no_greenlets
from tests.programs.runs import afinet_run

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.py"))


def network(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    networks = json.loads(done.stdout)["networks"]
    assert len(networks) == 1
    found: dict[str, Any] = networks[0]
    return found


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda p: p.stem)
def test_an_unmodified_program_works_and_runs_the_same_by_baton_and_by_greenlets(scenario: Path) -> None:
    """Where there is no greenlet, the baton twice."""
    one = afinet_run(str(scenario), "--json", switch="baton")
    assert one.stderr.splitlines()[-1] == "ok", one.stderr
    two = afinet_run(str(scenario), "--json", switch="baton" if why_no_greenlets() else "greenlet")
    assert two.stderr == one.stderr
    assert network(one) == network(two)


def test_another_seed_is_another_run() -> None:
    scenario = str(SCENARIOS[-1])
    one, two = (network(afinet_run(scenario, "--json", "--seed", seed)) for seed in "12")
    assert (one["seed"], two["seed"]) == (1, 2) and one["trace_hash"] != two["trace_hash"]


def test_every_hosts_packets_are_left_in_a_directory(tmp_path: Path) -> None:
    from afinet.tools.pcapng import read_pcapng

    scenario = Path(__file__).parent / "scenarios" / "protocols.py"
    afinet_run(str(scenario), "--pcap", str(tmp_path / "new"))
    data = (tmp_path / "new" / "protocols.pcapng").read_bytes()
    packets = list(read_pcapng(data))
    assert {p.interface for p in packets} == {"a:eth0", "b:eth0"} and len(packets) > 100


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_arguments_and_the_directory_of_the_scenario_are_as_for_any_script(tmp_path: Path) -> None:
    write(tmp_path / "helper.py", "value = 42")
    scenario = write(tmp_path / "s.py", "import sys, helper\nprint(__name__, sys.argv[1:], helper.value)")
    assert afinet_run(scenario, "one", "--two").stdout == "__main__ ['one', '--two'] 42\n"
    scenario = write(tmp_path / "t.py", "import sys\nsys.exit(3)")
    assert afinet_run(scenario, check=False).returncode == 3


def test_a_mistake_in_a_scenario_is_one_line_with_its_place(tmp_path: Path) -> None:
    scenario = write(tmp_path / "s.py", "import afinet\nnet = afinet.Network()\nnet.link('a', 'b')\n")
    done = afinet_run(scenario, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "s.py:3: there is no host 'a'" in done.stderr


def test_a_crash_in_a_scenario_shows_its_own_frames_only(tmp_path: Path) -> None:
    scenario = write(tmp_path / "s.py", "def f():\n    1 / 0\nf()\n")
    done = afinet_run(scenario, check=False)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr
    assert "tools/run.py" not in done.stderr and 's.py", line 2' in done.stderr


def test_a_missing_scenario_and_a_topology_are_told_so(tmp_path: Path) -> None:
    assert "does not exist" in afinet_run(str(tmp_path / "none.py"), check=False).stderr
    done = afinet_run(write(tmp_path / "net.toml", ""), check=False)
    assert done.returncode == 1 and "later release" in done.stderr


def test_outside_of_tasks_the_process_is_an_ordinary_one(tmp_path: Path) -> None:
    scenario = write(
        tmp_path / "s.py",
        """
import _thread, queue, select, socket, threading, time, ssl, subprocess, sys, random, concurrent.futures
assert abs(time.time() - float(subprocess.check_output([sys.executable, "-c", "import time; print(time.time())"]))) < 60
with concurrent.futures.ThreadPoolExecutor() as pool:
    assert list(pool.map(str, range(5))) == list("01234")
server = socket.create_server(("127.0.0.1", 0))
assert server.fileno() < 1000
t = threading.Thread(target=lambda: server.accept()[0].sendall(b"real"))
t.start()
client = socket.create_connection(server.getsockname(), timeout=10)
assert client.recv(10) == b"real"
t.join()
ssl.create_default_context()
import importlib, site
assert "_thread" in repr(_thread) and threading.Lock.__name__
print("ordinary")
""",
    )
    assert afinet_run(scenario).stdout == "ordinary\n"
