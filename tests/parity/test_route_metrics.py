"""A route's metrics where TCP reads them: the same SYN, SYN-ACK and options as on the running kernel."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import warnings

import pytest

from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.sysctl import sysctl_write
from afinet.kernel.wait import Kiocb
from afinet.sim import iproute
from afinet.uapi.socket import AF_INET, SOCK_NONBLOCK, SOCK_STREAM
from tests.net.ipv4.iphost import Host
from tests.parity.programs import sa
from tests.parity.route_metrics import (
    IP_MTU,
    ME,
    METRICS,
    PEER,
    SYN_OPTIONS,
    TCP_CONGESTION,
    TCP_MAXSEG,
    first_tcp,
    segment,
)


@pytest.fixture(scope="module")
def linux() -> dict[str, list[object]]:
    asked = subprocess.run([sys.executable, "-m", "tests.parity.route_metrics"], capture_output=True, text=True, timeout=300)
    if asked.returncode:
        reason = asked.stderr.strip().splitlines()[-1]
        warnings.warn(f"PARITY NOT CHECKED: metrics against the running kernel ({reason})", stacklevel=1)
        pytest.skip(f"PARITY NOT CHECKED: {reason}")
    told: dict[str, list[object]] = json.loads(asked.stdout)
    return told


def ours(metrics: str) -> list[object]:
    h = Host()
    task = new_task(h.kernel, h.net, "metrics", None)
    assert sysctl_write(h.net.sysctl_table, "net/ipv4/tcp_congestion_control", "reno") == 0
    assert iproute.ip_route(h.net, f"add {PEER}/32 dev wire0 {metrics}") == (0, "")
    client = syscalls.sys_socket(task, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 6)
    syscalls.sys_connect(task, Kiocb(), client, sa(PEER, 80))
    h.kernel.run(h.kernel.now)
    answers: list[object] = [first_tcp(h.sent())]
    answers.append(syscalls.sys_getsockopt(task, client, 6, TCP_CONGESTION, 16)[1].rstrip(b"\0").decode())
    err = syscalls.sys_setsockopt(task, client, 6, TCP_CONGESTION, b"reno")
    answers.append(errno.errorcode[-err] if err else 0)
    for level, option in ((0, IP_MTU), (6, TCP_MAXSEG)):
        answers.append(int.from_bytes(syscalls.sys_getsockopt(task, client, level, option, 4)[1], "little"))
    server = syscalls.sys_socket(task, AF_INET, SOCK_STREAM, 6)
    assert syscalls.sys_bind(task, server, sa(ME, 80)) == syscalls.sys_listen(task, server, 5) == 0
    h.receive(segment(0xC2, 5000, 80, SYN_OPTIONS))
    answers.append(first_tcp(h.sent()))
    return answers


@pytest.mark.parametrize("metrics", METRICS)
def test_a_connection_begins_as_on_the_running_kernel(metrics: str, linux: dict[str, list[object]]) -> None:
    assert ours(metrics) == linux[metrics]
