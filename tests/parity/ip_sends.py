"""Sends of datagram and raw sockets with all kinds of options, flags, control messages and destinations; and the same on afinet."""

from __future__ import annotations

import struct
from typing import Any

from afinet.init import syscalls
from afinet.kernel.wait import Kiocb
from afinet.net.ipv4.fib_frontend import ip_route_add
from afinet.uapi import rtnetlink
from afinet.uapi.sockaddr import pack_cmsg, pack_in_pktinfo, pack_sockaddr_in
from tests.net.ipv4.iphost import FAR, ME, PROTO, Host, addr
from tests.parity.ip_packets import Maker, blur

PORT = 7777
# As `ip route add` has them; ask_afinet adds the same.
ROUTES = [
    "8.0.0.0/8 via 192.0.2.9",
    "9.0.0.0/8 via 10.0.0.254 mtu 1000",
    "7.0.0.0/8 via 10.0.0.254 mtu lock 800",
    "224.0.0.0/4 dev wire1",
    "unreachable 6.0.0.0/8",
    "prohibit 5.0.0.0/8",
    "blackhole 4.0.0.0/8",
]
DESTINATIONS = ["10.0.0.2"] * 6 + [
    "8.8.8.8", "9.9.9.9", "7.7.7.7", "192.0.2.9", "10.0.0.255", "255.255.255.255", "224.1.1.1", "224.0.0.5", "10.0.0.1",
    "127.0.0.1", "6.6.6.6", "5.5.5.5", "4.4.4.4", "3.3.3.3", "0.0.0.0", "192.0.2.1",
]  # fmt: skip
SIZES = [0, 1, 8, 20, 28, 100, 500, 780, 900, 980, 1452, 1472, 1473, 1480, 1500, 2000, 5000, 20000, 65507, 65515, 65516]
IP_OPTIONS = [
    b"", bytes([7, 7, 4, 0, 0, 0, 0]), bytes([7, 39, 4]) + bytes(36), bytes([68, 12, 5, 0]) + bytes(8),
    bytes([68, 12, 5, 1]) + bytes(8), bytes([131, 7, 4, 10, 0, 0, 8]), bytes([137, 7, 4, 10, 0, 0, 8]),
    bytes([137, 7, 4, 8, 8, 8, 8]), bytes([131, 11, 4, 10, 0, 0, 8, 192, 0, 2, 7]), bytes([148, 4, 0, 0]), bytes([1, 1, 1]),
    bytes([7, 0, 4]), bytes([68, 12, 5, 3, 10, 0, 0, 1, 0, 0, 0, 0]),
]  # fmt: skip


def i32(value: int) -> bytes:
    return struct.pack("<i", value)


class SendMaker(Maker):
    def option(self) -> tuple[int, int, bytes]:
        """(level, name, value)"""
        return [
            (0, 10, i32(self.below(6))),  # IP_MTU_DISCOVER
            (0, 1, i32(self.pick([0, 4, 0x10, 0xB8, 3, 0xFF]))),  # IP_TOS
            (0, 2, i32(self.pick([1, 7, 255, -1]))),  # IP_TTL
            (0, 33, i32(self.pick([0, 1, 9]))),  # IP_MULTICAST_TTL
            (0, 4, IP_OPTIONS[self.below(len(IP_OPTIONS))]),
            (1, 6, i32(1)),  # SO_BROADCAST
            (0, 34, i32(self.below(2))),  # IP_MULTICAST_LOOP
            (0, 32, ME.to_bytes(4, "big")),  # IP_MULTICAST_IF
            (0, 50, self.pick([2, 3]).to_bytes(4, "big")),  # IP_UNICAST_IF
            (0, 3, i32(self.below(2))),  # IP_HDRINCL
            (0, 11, i32(1)),  # IP_RECVERR
            (1, 5, i32(1)),  # SO_DONTROUTE
            (1, 12, i32(3)),  # SO_PRIORITY
        ][self.below(13)]

    def control(self) -> tuple[int, int, bytes]:
        source = self.pick([0, ME, addr("192.0.2.1"), addr("9.1.1.1")])
        return [
            (0, 2, i32(self.pick([1, 9, 255]))),
            (0, 1, b"\x10"),
            (0, 1, i32(8)),
            (0, 8, pack_in_pktinfo(self.pick([0, 2, 3]), source, 0)),
            (0, 7, IP_OPTIONS[self.below(len(IP_OPTIONS))]),
            (1, 12, i32(2)),
        ][self.below(6)]

    def destination(self) -> str:
        return DESTINATIONS[self.below(len(DESTINATIONS))]

    def send(self) -> dict[str, Any]:
        type, protocol = [(2, 17), (2, 17), (3, 254), (3, 1)][self.below(4)]
        options = [self.option() for _ in range(self.below(4))]
        connect = self.destination() if self.below(5) < 2 else ""
        sends = []
        for _ in range(self.pick([1, 1, 2])):
            control = [self.control()] if self.below(10) < 3 else []
            to = self.destination() if not connect or self.below(10) < 3 else ""
            flags = self.pick([0, 0, 0, 0x8000, 4, 0x800])  # MSG_MORE, MSG_DONTROUTE, MSG_CONFIRM
            sends.append((SIZES[self.below(len(SIZES))], flags, to, [(a, b, c.hex()) for a, b, c in control]))
        binds = ["10.0.0.1"] * 16 + ["0.0.0.0", "192.0.2.1", "10.0.0.255", "224.1.1.1", "127.0.0.1"]
        return {
            "type": type,
            "protocol": protocol,
            "options": [(level, name, value.hex()) for level, name, value in options],
            "bind": (binds[self.below(len(binds))], 5000),
            "connect": connect,
            "port": PORT,
            "sends": sends,
        }


def sends(seed: str, count: int) -> list[dict[str, Any]]:
    maker = SendMaker(seed)
    return [maker.send() for _ in range(count)]


def host() -> Host:
    h = Host()
    h.kernel.inet_protos[PROTO] = None
    small = [0] * rtnetlink.RTAX_MAX
    small[rtnetlink.RTAX_MTU - 1] = 1000
    locked = [0] * rtnetlink.RTAX_MAX
    locked[rtnetlink.RTAX_MTU - 1] = 800
    locked[rtnetlink.RTAX_LOCK - 1] = 1 << rtnetlink.RTAX_MTU
    gateway = addr("10.0.0.254")
    assert ip_route_add(h.net, addr("8.0.0.0"), 8, FAR) == 0
    assert ip_route_add(h.net, addr("9.0.0.0"), 8, gateway, metrics=small) == 0
    assert ip_route_add(h.net, addr("7.0.0.0"), 8, gateway, metrics=locked) == 0
    assert ip_route_add(h.net, addr("224.0.0.0"), 4, dev="wire1") == 0
    kinds = {"6": rtnetlink.RTN_UNREACHABLE, "5": rtnetlink.RTN_PROHIBIT, "4": rtnetlink.RTN_BLACKHOLE}
    for net, kind in kinds.items():
        assert ip_route_add(h.net, addr(f"{net}.0.0.0"), 8, type=kind) == 0
    return h


def ask_afinet(h: Host, what: dict[str, Any]) -> tuple[list[int], list[list[str]]]:
    """What each call returned, and the packets (blurred) that left by each device."""
    task = h.kernel.init_task
    assert task is not None
    fd = syscalls.sys_socket(task, 2, what["type"], what["protocol"])
    returned = [syscalls.sys_setsockopt(task, fd, a, b, bytes.fromhex(v)) for a, b, v in what["options"]]
    text, port = what["bind"]
    err = syscalls.sys_bind(task, fd, pack_sockaddr_in(addr(text), port))
    if err == 0 and what["connect"]:
        err = syscalls.sys_connect(task, Kiocb(), fd, pack_sockaddr_in(addr(what["connect"]), PORT))
    if err:
        returned.append(err)
    for size, flags, to, control in what["sends"]:
        cmsgs = b"".join([pack_cmsg(a, b, bytes.fromhex(c)) for a, b, c in control])
        name = pack_sockaddr_in(addr(to), PORT) if to else b""
        returned.append(syscalls.sys_sendmsg(task, Kiocb(), fd, bytes([size & 255]) * size, cmsgs, flags | 0x40, name))
        h.kernel.run(h.kernel.now)
    syscalls.sys_close(task, Kiocb(), fd)
    h.kernel.run(h.kernel.now)
    left = [[blur(p) for p in h.link.sent], [blur(p) for p in h.farlink.sent]]
    h.link.sent = []
    h.farlink.sent = []
    return returned, left
