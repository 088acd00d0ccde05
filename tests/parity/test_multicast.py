"""Memberships, source filters, IGMP reports and who gets which multicast: the stories of multicast_stories.py on the running kernel
and on afinet, answer by answer, packet by packet."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest

from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.sysctl import sysctl_write
from afinet.kernel.wait import Kiocb
from afinet.net.core import dev as dev_core
from afinet.sim import iproute
from afinet.uapi.socket import AF_INET, MSG_DONTWAIT, SO_REUSEADDR, SOCK_DGRAM, SOL_SOCKET
from tests.net.ipv4.iphost import Host
from tests.parity.linux_multicast import igmp_of, packet
from tests.parity.multicast_stories import QUICK, STORIES, Step

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def linux() -> dict[str, list[object]]:
    asked = subprocess.run([sys.executable, "-m", "tests.parity.linux_multicast"], capture_output=True, text=True, timeout=300)
    if asked.returncode:
        reason = asked.stderr.strip().splitlines()[-1]
        warnings.warn(f"PARITY NOT CHECKED: multicast against the running kernel ({reason})", stacklevel=1)
        pytest.skip(f"PARITY NOT CHECKED: {reason}")
    answers: dict[str, list[object]] = json.loads(asked.stdout)
    return answers


class Afinet:
    def __init__(self) -> None:
        self.host = Host()
        self.task = new_task(self.host.kernel, self.host.net, "parity", None)
        for name, value in QUICK.items():
            self.sysctl(name, value)
        assert iproute.ip_route(self.host.net, "add default dev wire0") == (0, "")
        self.socks: list[int] = []

    def sysctl(self, name: str, value: str) -> None:
        assert sysctl_write(self.host.net.sysctl_table, name, value) == 0

    def tell(self, step: Step) -> object:
        h, task = self.host, self.task
        match step:
            case ("socket",):
                fd = syscalls.sys_socket(task, AF_INET, SOCK_DGRAM, 17)
                assert syscalls.sys_setsockopt(task, fd, SOL_SOCKET, SO_REUSEADDR, b"\1\0\0\0") == 0
                assert syscalls.sys_bind(task, fd, b"\2\0\x13\x88" + bytes(12)) == 0
                self.socks.append(fd)
                return 0
            case ("close", int(i)):
                return syscalls.sys_close(task, Kiocb(), self.socks[i])
            case ("opt", int(i), name, value):
                return syscalls.sys_setsockopt(task, self.socks[i], 0, int(name), bytes.fromhex(value))
            case ("heard", str(data), daddr):
                h.receive(packet(2, "10.0.0.9", str(daddr), bytes.fromhex(data)))
                return 0
            case ("udp", str(group), source):
                h.receive(packet(17, str(source), group, b"\x13\x88\x13\x88\x00\x0a\x00\x00hi"))
                return [syscalls.sys_recvfrom(task, Kiocb(), fd, 100, MSG_DONTWAIT)[0] > 0 for fd in self.socks]
            case ("reports",):
                h.sleep(SECOND)
                return igmp_of([data.hex() for data in h.sent()])
            case ("sysctl", str(name), value):
                self.sysctl(name, str(value))
                return 0
            case ("mtu", value):
                return dev_core.dev_set_mtu(h.dev, int(value))
            case ("link", value):
                if value == "up":
                    return dev_core.dev_open(h.dev)
                dev_core.dev_close(h.dev)
                return 0
        raise AssertionError(step)


@pytest.mark.parametrize("name", list(STORIES))
def test_the_story_ends_as_on_the_running_kernel(name: str, linux: dict[str, list[object]]) -> None:
    ours = Afinet()
    for number, step in enumerate(STORIES[name]):
        mine = ours.tell(step)
        assert (number, step, mine) == (number, step, linux[name][number]), STORIES[name][: number + 1]
