"""ICMP redirects by every setting: which are believed, and which are sent. The same packets for afinet and for the running kernel.

A machine at 10.0.0.1/24 has two gateways, 10.0.0.2 for everything and 10.0.0.3 for 9.0.0.0/8. For each setting it is told to reach
8.0.0.1 by another gateway (RECEIVED), and then is given packets that, if it forwards, it has to send back over the same link.
`python -m tests.parity.redirects` asks the kernel, in a network namespace of its own; needs root.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

from afinet.runner.boot import sysctl
from afinet.wire import icmp as wire_icmp
from afinet.wire import ip as wire_ip
from tests.net.ipv4.iphost import Host, addr

ME, GATEWAY, SECOND, FAR = addr("10.0.0.1"), addr("10.0.0.2"), addr("10.0.0.3"), addr("8.0.0.1")
# (the sender, the gateway that it names)
RECEIVED = [
    (sender, new)
    for sender in (GATEWAY, SECOND)
    for new in map(addr, ("10.0.0.3", "10.0.0.9", "10.7.0.1", "10.0.0.1", "10.0.0.255", "224.0.0.1", "0.0.0.0"))
]
# all.accept_redirects, wire0's, secure_redirects, shared_media, send_redirects, ip_forward
SETTINGS = list(itertools.product((0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 1)))


def sysctls(setting: tuple[int, ...]) -> list[tuple[str, str]]:
    accept_all, accept, secure, shared, send, forward = setting
    conf = "net.ipv4.conf"
    values = [("net.ipv4.ip_forward", forward)]  # first: it resets some of the others
    values += [(f"{conf}.all.accept_redirects", accept_all), (f"{conf}.wire0.accept_redirects", accept)]
    for scope in ("all", "wire0"):
        values += [
            (f"{conf}.{scope}.secure_redirects", secure),
            (f"{conf}.{scope}.shared_media", shared),
            (f"{conf}.{scope}.send_redirects", send),
            (f"{conf}.{scope}.rp_filter", 0),
        ]
    return [(name, str(value)) for name, value in values]


def redirect(sender: int, new: int) -> bytes:
    """It quotes an echo reply to FAR: what the kernel itself sent, no socket."""
    quoted = wire_ip.emit(0, 28, 1, 0, 64, 1, ME, FAR) + bytes(8)
    message = wire_icmp.emit(5, 1, new, quoted)
    return wire_ip.emit(0, 20 + len(message), 1, 0, 64, 1, sender, ME) + message


def transit(number: int, onlink: bool) -> bytes:
    """A packet for 9.0.0.1 from a sender that nobody has heard of yet."""
    source = addr("10.0.0.10") + number if onlink else addr("11.0.0.1") + number
    return wire_ip.emit(0, 28, 1, 0, 64, 17, source, addr("9.0.0.1")) + struct.pack(">HHHH", 1, 2, 8, 0)


def told(sent: list[bytes]) -> str:
    """Of what left: the gateway that a redirect names, and whether the packet went on."""
    words = []
    for p in sent:
        if p[9] == 1 and p[20] == 5:
            words.append("redirect to " + ".".join(map(str, p[24:28])))
        elif p[9] == 17:
            words.append("forwarded")
    return ", ".join(words) or "-"


def ask_afinet() -> list[list[str]]:
    from afinet.net.core.flow import Flowi4
    from afinet.net.ipv4 import route
    from afinet.net.ipv4.fib_frontend import ip_route_add
    from afinet.runner.boot import quad

    host = Host()
    assert ip_route_add(host.net, 0, 0, GATEWAY) == 0
    assert ip_route_add(host.net, addr("9.0.0.0"), 8, SECOND) == 0
    answers = []
    for number, setting in enumerate(SETTINGS):
        for name, value in sysctls(setting):
            sysctl(host.net, name, value)
        row = []
        for sender, new in RECEIVED:
            host.receive(redirect(sender, new))
            _, rt = route.ip_route_output_flow(host.net, Flowi4(FAR), None)
            assert rt is not None
            row.append(quad(rt.rt_gw4))
            sysctl(host.net, "net.ipv4.route.flush", 1)
        for onlink in (True, False):
            host.link.sent.clear()
            host.receive(transit(number, onlink))
            row.append(told(host.link.sent))
            host.sleep(2_000_000_000)  # the limits of all ICMP together are another matter
        answers.append(row)
    return answers


def ask_kernel() -> list[list[str]]:
    """In this process's namespace, which is to be a new one."""
    import time

    from tests.parity.linux_tun import drain, tun

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    fd = tun("wire0", "10.0.0.1/24")
    subprocess.run(["ip", "route", "add", "default", "via", "10.0.0.2"], check=True)
    subprocess.run(["ip", "route", "add", "9.0.0.0/8", "via", "10.0.0.3"], check=True)
    flush = Path("/proc/sys/net/ipv4/route/flush")
    answers = []
    for number, setting in enumerate(SETTINGS):
        for name, value in sysctls(setting):
            Path("/proc/sys", name.replace(".", "/")).write_text(value)
        row = []
        for sender, new in RECEIVED:
            os.write(fd, redirect(sender, new))
            way = subprocess.run(["ip", "route", "get", "8.0.0.1"], check=True, capture_output=True, text=True).stdout.split()
            row.append(way[way.index("via") + 1])
            flush.write_text("1")
        for onlink in (True, False):
            drain(fd)
            os.write(fd, transit(number, onlink))
            sent = drain(fd)
            end = time.monotonic() + (0.5 if setting[-1] else 0)
            while "forwarded" not in told(sent) and time.monotonic() < end:
                time.sleep(0.001)  # ksoftirqd has it, on a busy machine
                sent += drain(fd)
            row.append(told(sent))
        answers.append(row)
        time.sleep(0.01)
    return answers


def main() -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):
        raise PermissionError(ctypes.get_errno(), "cannot make a network namespace (needs root)")
    json.dump(ask_kernel(), sys.stdout)


if __name__ == "__main__":
    main()
