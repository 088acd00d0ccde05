"""ARP questions from all sorts of askers for all sorts of addresses, under each setting that has a say: answered as by the running
kernel, byte for byte, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import pytest

from afinet.drivers.veth import veth_receive, veth_wire_newlink
from afinet.kernel.sysctl import sysctl_write
from afinet.net.core import dev as dev_core
from afinet.net.core.skbuff import alloc_skb, skb_tobytes
from afinet.sim import iproute
from tests.leaks import start_kernel
from tests.net.core.devices import RecordingWire, init_net
from tests.net.ipv4.routing import add_addr
from tests.parity.arp_questions import ADDRESSES, ALWAYS, MACS, ROUTES, SETTINGS, SOURCES, TARGETS, answers, question


@pytest.fixture(scope="module")
def linux() -> dict[str, list[list[str]]]:
    asked = subprocess.run([sys.executable, "-m", "tests.parity.arp_questions"], capture_output=True, text=True, timeout=300)
    if asked.returncode:
        reason = asked.stderr.strip().splitlines()[-1]
        warnings.warn(f"PARITY NOT CHECKED: ARP against the running kernel ({reason})", stacklevel=1)
        pytest.skip(f"PARITY NOT CHECKED: {reason}")
    told: dict[str, list[list[str]]] = json.loads(asked.stdout)
    return told


@pytest.mark.parametrize("name", list(SETTINGS))
def test_questions_are_answered_as_by_the_running_kernel(name: str, linux: dict[str, list[list[str]]]) -> None:
    kernel = start_kernel("arp", b"arp")
    net = init_net(kernel)
    assert net.loopback_dev is not None
    dev_core.dev_open(net.loopback_dev)
    wires = {}
    for wire, mac in MACS.items():
        wires[wire] = RecordingWire()
        dev = veth_wire_newlink(net, wire, wires[wire])
        assert dev_core.dev_set_mac_address(dev, int(mac.replace(":", ""), 16)) == 0
        assert dev_core.dev_open(dev) == 0
    for text in ADDRESSES:
        address, _, dev_name = text.partition(" ")
        assert add_addr(net.dev_by_name[dev_name], address) == 0
    for text in ROUTES:
        assert iproute.ip_route(net, f"add {text}") == (0, "")
    for key, value in {**ALWAYS, **SETTINGS[name]}.items():
        assert sysctl_write(net.sysctl_table, f"net/ipv4/{key.replace('.', '/')}", value) == 0
    wrong = []
    rows = iter(linux[name])
    for source in SOURCES:
        for target in TARGETS:
            wires["wire0"].sent.clear()
            veth_receive(net.dev_by_name["wire0"], alloc_skb(question(source, target)))
            kernel.run(kernel.now)
            mine = answers([skb_tobytes(skb) for skb in wires["wire0"].sent])
            theirs = next(rows)
            if mine != theirs:
                wrong.append((source, target, mine, theirs))
    assert wrong == []
