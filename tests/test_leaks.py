"""The leak check itself: it sees what it is for, and no test boots a machine behind its back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from afinet.init import syscalls
from afinet.kernel.memcontrol import MemCgroup
from afinet.kernel.time import NSEC_PER_SEC
from afinet.kernel.timer import TimerList
from afinet.kernel.wait import Kiocb
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import AF_INET, SOCK_DGRAM, SOCK_RAW
from tests.leaks import check_kernel, close_and_check, let_time_pass
from tests.net.ipv4.tcphost import B, Pair

TESTS = Path(__file__).resolve().parent


class Tick(TimerList):
    def __init__(self, pair: Pair, again: int) -> None:
        super().__init__()
        self.kernel, self.again = pair.kernel, again

    def function(self) -> None:
        self.kernel.mod_timer(self, self.kernel.now + self.again)


def a_timer_that_never_ends(p: Pair) -> None:
    p.kernel.mod_timer(Tick(p, 400 * NSEC_PER_SEC), 0)


def a_call_that_is_not_given_up(p: Pair) -> None:
    fd = p.listener(p.tb, 80)
    syscalls.sys_accept4(p.tb, Kiocb(), fd, 0)


def a_warning(p: Pair) -> None:
    p.kernel.warn_on("something")


def a_page_that_is_not_given_back(p: Pair) -> None:
    p.kernel.proto_list[0].memory_allocated += 1


def a_charge_to_a_group(p: Pair) -> None:
    p.ta.memcg = MemCgroup("group")
    p.ta.memcg.usage += 1


def a_call_that_did_not_end(p: Pair) -> None:
    p.kernel.current = p.kernel.init_task
    p.kernel.softirq_count = 1


@pytest.mark.leaks("on purpose")
@pytest.mark.parametrize(
    ("leak", "said"),
    [
        (a_timer_that_never_ends, "timers: ['Tick']"),
        (a_call_that_is_not_given_up, "in lhash2"),
        (a_warning, "WARN"),
        (a_page_that_is_not_given_back, "memory_allocated 1"),
        (a_charge_to_a_group, "memory cgroup group: 1"),
        (a_call_that_did_not_end, "in a call"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_leak_is_seen(leak: Callable[[Pair], None], said: str) -> None:
    p = Pair()
    leak(p)
    left = close_and_check([p.kernel])
    assert any(said in line for line in left), left


def test_what_is_in_use_is_listed_and_what_has_ended_is_not() -> None:
    p = Pair()
    client, _server, _listener = p.established()
    for type in (SOCK_DGRAM, SOCK_RAW):
        fd = syscalls.sys_socket(p.ta, AF_INET, type, 1 if type == SOCK_RAW else 0)
        assert syscalls.sys_bind(p.ta, fd, pack_sockaddr_in(0, 53)) == 0
    assert p.send(p.ta, client, b"x" * 50000) == 50000
    said = "\n".join(check_kernel(p.kernel))
    for word in ("tasks", "ehash", "lhash2", "bhash", "bhash2", "raw", "UDP", "TCP", "socks in use", "timers"):
        assert word in said, word
    assert close_and_check([p.kernel]) == []


def test_a_connection_in_the_middle_of_anything_is_gone_after_its_programs() -> None:
    """Data unread, unsent and unacknowledged, the peer gone: orphans give up by themselves (tcp_orphan_retries)."""
    p = Pair()
    client, server, _ = p.established()
    assert p.send(p.tb, server, b"y" * 100) == 100
    syscalls.sys_sendto(p.ta, Kiocb(), client, b"x" * 10_000_000, 0x40, b"")
    dark = p.socket(p.ta, nonblock=True)
    syscalls.sys_connect(p.ta, Kiocb(), dark, pack_sockaddr_in(B + 77, 80))
    p.run(NSEC_PER_SEC // 100)
    assert close_and_check([p.kernel]) == []


def test_time_passes_to_the_nanosecond() -> None:
    p = Pair()
    began = p.kernel.now
    let_time_pass(p.kernel, 12345)
    assert p.kernel.now == began + 12345


def test_no_test_boots_a_machine_that_nobody_looks_through() -> None:
    """Whoever needs a Kernel takes start_kernel from tests.leaks, or has his own watched."""
    for path in sorted(TESTS.rglob("*.py")):
        if path.name != "leaks.py":
            for line in path.read_text().splitlines():
                assert not (line.startswith("from afinet.init.main import") and "start_kernel" in line), path
