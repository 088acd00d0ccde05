"""Every ICMP error about a packet of every kind of socket: what the socket says then, its error queue and its path MTU are the
running kernel's."""

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
from afinet.net.ipv4 import devinet
from afinet.uapi.socket import AF_INET, SOCK_NONBLOCK
from tests.net.ipv4.iphost import Host
from tests.net.ipv4.routing import add_addr, del_addr
from tests.parity.icmp_errors import KINDS, ME, cases, play
from tests.parity.programs import sa, show_control


@pytest.fixture(scope="module")
def linux() -> dict[str, list[object]]:
    asked = subprocess.run([sys.executable, "-m", "tests.parity.icmp_errors"], capture_output=True, text=True, timeout=300)
    if asked.returncode:
        reason = asked.stderr.strip().splitlines()[-1]
        warnings.warn(f"PARITY NOT CHECKED: ICMP errors against the running kernel ({reason})", stacklevel=1)
        pytest.skip(f"PARITY NOT CHECKED: {reason}")
    told: dict[str, list[object]] = json.loads(asked.stdout)
    return told


class Afinet:
    def __init__(self) -> None:
        self.host = Host()
        self.task = new_task(self.host.kernel, self.host.net, "errors", None)
        assert sysctl_write(self.host.net.sysctl_table, "net/ipv4/ping_group_range", "0 2147483647") == 0
        assert del_addr(self.host.dev, f"{ME}/24") == 0
        assert add_addr(self.host.dev, f"{ME}/16") == 0
        assert devinet.ip_dev_find(self.host.net, 0x0A000001) is self.host.dev

    def socket(self, type: int, protocol: int) -> int:
        return syscalls.sys_socket(self.task, AF_INET, type | SOCK_NONBLOCK, protocol)

    def setsockopt(self, fd: int, level: int, name: int, value: int) -> int:
        return syscalls.sys_setsockopt(self.task, fd, level, name, value.to_bytes(4, "little"))

    def getsockopt(self, fd: int, level: int, name: int) -> int:
        err, value = syscalls.sys_getsockopt(self.task, fd, level, name, 4)
        return err or int.from_bytes(value, "little")

    def connect(self, fd: int, host: str, port: int) -> int:
        return self.done(syscalls.sys_connect(self.task, Kiocb(), fd, sa(host, port)))

    def sendto(self, fd: int, data: bytes, host: str, port: int) -> int:
        return self.done(syscalls.sys_sendto(self.task, Kiocb(), fd, data, 0, sa(host, port) if host else b""))

    def recv(self, fd: int, flags: int) -> tuple[int, str]:
        n, _, control, _, _ = syscalls.sys_recvmsg(self.task, Kiocb(), fd, 2000, 512, flags)
        return n, " ".join(f"{level}/{type}:{value}" for level, type, value in show_control(control))

    def close(self, fd: int) -> None:
        self.done(syscalls.sys_close(self.task, Kiocb(), fd))

    def sent(self) -> list[bytes]:
        return self.host.sent()

    def receive(self, packet: bytes) -> None:
        self.host.receive(packet)

    def done(self, ret: int) -> int:
        self.host.kernel.run(self.host.kernel.now)
        return ret


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_error_does_to_a_socket_what_it_does_on_the_running_kernel(kind: str, linux: dict[str, list[object]]) -> None:
    side = Afinet()
    wrong = {}
    for name, of, err, peer in cases():
        if of == kind:
            mine = json.loads(json.dumps(play(side, kind, err, peer)))
            if mine != linux[name]:
                wrong[name] = (mine, linux[name])
    assert wrong == {}
