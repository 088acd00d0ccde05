"""Every sysctl of net.ipv4 and net.core that afinet has: the running kernel's default, and for each of many values the same answer
and the same text afterwards. The kernel's answers are stored (sysctl_answers.json), so that this runs anywhere.

python -m tests.parity.test_sysctls     asks the kernel anew (root, Linux 6.18, HZ 250) and writes the file
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from afinet.kernel.machine import Kernel
from afinet.kernel.sysctl import INT_MAX, CtlTable, CtlTime, sysctl_path, sysctl_read, sysctl_write
from afinet.net.core.net_namespace import Net, copy_net_ns
from tests.leaks import start_kernel
from tests.parity.sysctl_cases import APART, MACHINE, VALUES

HERE = Path(__file__).parent
FILE = HERE / "sysctl_answers.json"
HZ = 250  # of the machine whose answers are stored


def unpack(told: dict[str, str]) -> dict[str, tuple[str, list[tuple[int, str]]]]:
    """{name: (default, [(errno, text afterwards) of each of VALUES])}. Stored: the default, then the values that were taken, each
    with what it reads as ("0=0|1=1"); a refused one that changed something is marked by a "!"."""
    out = {}
    for name, short in told.items():
        default, *taken = short.split("|")
        answers = [(22, default)] * len(VALUES)
        for item in taken:
            number, _, text = item.partition("=")
            answers[int(number.lstrip("!"))] = (22 if number[0] == "!" else 0, text)
        out[name] = (default, answers if taken else [])
    return out


def pack(asked: dict[str, dict[str, object]]) -> dict[str, str]:
    out = {}
    for name, told in asked.items():
        answers = told["answers"]
        assert isinstance(answers, list)
        items = [str(told["default"])]
        for number, (err, text) in enumerate(answers):
            if err == 0 or text != told["default"]:
                items.append(("!" if err else "") + f"{number}={text}")
        out[name] = "|".join(items)
    return out


LINUX = unpack(json.loads(FILE.read_text())) if FILE.exists() else {}


def boot() -> tuple[Kernel, Net]:
    """A namespace that is not the first one."""
    kernel = start_kernel("sysctls", b"sysctls", HZ)
    return kernel, copy_net_ns(kernel, "A")


def entry(net: Net, name: str) -> CtlTable | None:
    return net.sysctl_table.get(sysctl_path(name)) or net.kernel.sysctl_table.get(sysctl_path(name))


def overflows(table: CtlTable, value: str) -> bool:
    """A time that Linux lets wrap around; afinet refuses it."""
    table = getattr(table, "format", table)
    if not isinstance(table, CtlTime) or table.per_second == 1:
        return False
    try:
        number = int(value)
    except ValueError:
        return False
    return number < 0 or number > INT_MAX // 10


@pytest.mark.parametrize("name", [name for name in LINUX if entry(boot()[1], name) is not None])
def test_a_sysctl_takes_refuses_and_shows_what_the_running_kernel_does(name: str) -> None:
    _, net = boot()
    table = entry(net, name)
    assert table is not None
    default, answers = LINUX[name]
    mine = sysctl_read(net.sysctl_table, name)
    if name not in MACHINE:
        assert mine == default
    if not answers:
        if name.startswith("net.ipv4"):
            assert not table.mode & 0o222
        return
    wrong = []
    for value, (err, text) in zip(VALUES, answers, strict=True):
        answer = (-sysctl_write(net.sysctl_table, name, value), sysctl_read(net.sysctl_table, name))
        expected = (err, mine if text == default else text)
        if answer != expected and not overflows(table, value):
            wrong.append((value, answer, expected))
        if answer[1] != mine:
            assert sysctl_write(net.sysctl_table, name, str(mine)) == 0
    assert wrong == []


def test_there_is_nothing_that_linux_has_not() -> None:
    """In the first namespace, where Linux has the machine's settings, too."""
    kernel, net = boot()
    mine = [path.replace("/", ".") for path in (*net.sysctl_table, *kernel.sysctl_table)]
    first = ("net.ipv4.route.", "net.ipv4.neigh.default.")  # and inet_peer_threshold and the devices' queues
    more = ["net.ipv4.inet_peer_threshold", "net.core.default_qdisc", "net.core.netdev_max_backlog", "net.core.netdev_budget"]
    assert [name for name in mine if name not in LINUX and not name.startswith(first) and name not in (*more, *APART)] == []


def main() -> None:
    asked = subprocess.run([sys.executable, "-m", "tests.parity.linux_sysctls"], capture_output=True, text=True, check=True)
    FILE.write_text(json.dumps(pack(json.loads(asked.stdout)), indent=0) + "\n")


if __name__ == "__main__":
    main()
