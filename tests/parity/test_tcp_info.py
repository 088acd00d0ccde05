"""TCP_INFO tells what Linux's tells, after every step of info_steps.py's stories; and its clocks are right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.core.netdevice import NETIF_F_TSO
from afinet.net.ipv4.tcp_cong import tcp_set_default_congestion_control
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.socket import MSG_DONTWAIT, SHUT_WR
from afinet.uapi.tcp import TCP_INFO
from tests.net.ipv4 import tcphost
from tests.parity.cwnd_rounds import PORT, THEM
from tests.parity.info_steps import ANSWERS, STORIES, Step, Wire, fields

KERNEL: dict[str, list[dict[str, int]]] = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else {}
MS = tcphost.MS

# The memory of a received packet decides these, and Linux's packets from a TUN device are larger: compared until data comes.
MEMORY = {"rcv_ssthresh", "rcv_wnd", "rcv_space"}


def ask_afinet(options: dict[str, Any], steps: list[Step]) -> list[dict[str, int]]:
    p = tcphost.Peer(hz=250)
    assert tcp_set_default_congestion_control(p.net, "reno") == 0
    p.net.ipv4.sysctl_tcp_timestamps = 1 if options["ts"] else 0
    p.net.ipv4.sysctl_tcp_slow_start_after_idle = 0
    # Linux makes segments of several packets before every device, and cuts them in front of those that cannot.
    p.host.dev.features |= NETIF_F_TSO
    p.net.ipv4.sysctl_tcp_mtu_probing = options.get("mtu_probing", 0)
    wire = Wire(options)
    fd = p.socket(p.task, nonblock=True)
    syscalls.sys_connect(p.task, Kiocb(), fd, pack_sockaddr_in(THEM, PORT))
    p.run(20 * MS)
    p.host.receive(wire.syn(p.host.link.sent[0]))
    out = []
    for step in [("wait", 20), *steps]:
        kind = step[0]
        if kind == "send":
            assert p.send(p.task, fd, bytes(step[1])) == step[1]
        elif kind == "recv":
            p.recv(p.task, fd, step[1], MSG_DONTWAIT)
        elif kind == "rx":
            for packet in p.host.link.sent:
                wire.hear(packet)
            p.host.link.sent = []
            p.host.receive(wire.segment(*step[1:]))
        elif kind == "wait":
            p.run(step[1] * MS)
        elif kind == "set":
            assert p.setsockopt(p.task, fd, IPPROTO_TCP, step[1], step[2]) == 0
        else:
            p.shutdown(p.task, fd, SHUT_WR)
        p.run(12 * MS)
        out.append(fields(syscalls.sys_getsockopt(p.task, fd, IPPROTO_TCP, TCP_INFO, 280)[1]))
    return out


def test_the_stored_answers_are_of_these_stories() -> None:
    assert list(KERNEL) == list(STORIES)


@pytest.mark.parametrize("name", STORIES)
def test_every_field_is_what_it_is_on_linux(name: str) -> None:
    options, steps = STORIES[name]
    ours = ask_afinet(options, steps)
    theirs: dict[str, int] = {}
    data_came = False
    for n, (step, mine, told) in enumerate(zip([("wait", 20), *steps], ours, KERNEL[name], strict=True)):
        theirs |= told
        data_came |= step[0] == "rx" and step[4] > 0
        differ = {
            k: f"afinet {mine[k]}, Linux {v}" for k, v in theirs.items() if mine[k] != v and not (data_came and k in MEMORY)
        }
        assert not differ, f"step {n}, {step}: {differ}"
