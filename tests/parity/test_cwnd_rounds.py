"""The congestion window grows as the kernel's does: cwnd_rounds.py's scripts, round by round."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.ipv4.tcp_cong import tcp_set_default_congestion_control
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import MSG_DONTWAIT, SO_SNDBUFFORCE, SOL_SOCKET
from afinet.uapi.tcp import TCP_INFO, TCP_CA_Recovery
from tests.net.ipv4 import tcphost
from tests.parity.cwnd_rounds import ANSWERS, HERE, PORT, SCRIPTS, SNDBUF, THEM, Peer, Script, what

KERNEL: dict[str, list[list[int]]] = json.loads(ANSWERS.read_text())
TOLERANCE = 2  # packets: the kernel's rounds begin up to a few tenths of a millisecond late, and its K is an approximation
RECOVERY = 8  # in the round of a loss: the kernel's segments are of several packets each there, and PRR counts by segments


def ask_afinet(script: Script) -> list[list[int]]:
    p = tcphost.Peer(hz=250)
    assert tcp_set_default_congestion_control(p.net, script.congestion) == 0
    p.net.ipv4.sysctl_tcp_timestamps = 0
    p.net.ipv4.sysctl_tcp_slow_start_after_idle = 0
    peer = Peer(script)
    fd = p.socket(p.task, nonblock=True)
    assert p.setsockopt(p.task, fd, SOL_SOCKET, SO_SNDBUFFORCE, SNDBUF) == 0
    syscalls.sys_connect(p.task, Kiocb(), fd, pack_sockaddr_in(THEM, PORT))
    start = p.kernel.now
    due = 0
    rounds = []
    data = b"d" * 100_000
    for n in range(script.rounds + 1):
        due += script.rtt_us(n)
        p.run(start + due * 1000 - p.kernel.now)
        sent = p.host.link.sent
        p.host.link.sent = []
        acks = [ack for ack in map(peer.answer, sent) if ack]
        for i, ack in enumerate(acks):
            if script.spacing_us:
                p.run(start + (due + i * script.spacing_us) * 1000 - p.kernel.now)
            p.host.receive(ack)
        while p.send(p.task, fd, data, MSG_DONTWAIT) > 0:
            pass
        rounds.append(what(syscalls.sys_getsockopt(p.task, fd, IPPROTO_TCP, TCP_INFO, 280)[1]))
    return rounds


def difference(ours: list[list[int]], theirs: list[list[int]]) -> str:
    """The first round that differs by more than the tolerance; "" for none."""
    for n, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        tolerance = RECOVERY if a[2] == TCP_CA_Recovery else TOLERANCE
        if abs(a[0] - b[0]) > tolerance or abs(a[1] - b[1]) > TOLERANCE or a[2] != b[2]:
            return f"round {n}: (cwnd, ssthresh, state) {a}, the kernel's {b}"
    return ""


def test_the_stored_answers_are_of_these_scripts() -> None:
    assert list(KERNEL) == list(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_window_grows_as_linux_lets_it(name: str) -> None:
    assert difference(ask_afinet(SCRIPTS[name]), KERNEL[name]) == ""


@pytest.mark.wire
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not platform.release().startswith("6.18"),
    reason="asks the running kernel: needs root and Linux 6.18",
)
def test_the_kernel_still_answers_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.cwnd_rounds"], capture_output=True, text=True, cwd=HERE.parent.parent
    )
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr.strip().splitlines()[-1]}")
    answers = json.loads(done.stdout)
    for name in SCRIPTS:
        assert difference(answers[name], KERNEL[name]) == "", name
