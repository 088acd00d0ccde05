"""Fuzzing every receive path: `python -m tests.fuzz TARGET --inputs N --seed S`.

Two machines of the stack talk over a TUN or TAP device each (machine.py): programs that open, use and close sockets of every kind
at random, in virtual time. What crosses between them is delayed, doubled, reordered and changed (mutate.py), and packets that
nobody sent are put in between, so that hostile bytes meet live conversations in every state. A target says what kind of packets.

A run is cut in episodes of EPISODE inputs, each with two fresh machines and a seed of its own; at its end all programs exit, time
passes, and nothing may be left (tests/leaks.py). A failure names the episode, which alone replays it.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from afinet.init import syscalls
from afinet.uapi.if_ether import ETH_P_ARP, ETH_P_IP
from afinet.wire import arp as wire_arp
from afinet.wire import ethernet
from afinet.wire import icmp as wire_icmp
from afinet.wire import ip as wire_ip
from afinet.wire import tcp as wire_tcp
from afinet.wire import udp as wire_udp
from afinet.wire.checksum import csum_fold, csum_partial
from tests import leaks
from tests.fuzz.machine import EAGAIN, EIO, GROUP, NET, NS, TCP_PORTS, UDP_PORTS, Machine, Program
from tests.fuzz.mutate import (
    ICMP,
    IGMP,
    IP_OPTIONS,
    TCP,
    UDP,
    Packet,
    flip,
    fragments,
    icmp_error,
    mutate_packet,
    mutate_tcp,
    mutate_vnet,
)

EPISODE = 5000
KINDS = ("tcp", "udp", "ping", "raw", "igmp")
ADDRESSES = (
    NET, NET + 1, NET + 2, NET + 9, NET + 0xFF, NET + 0x101, NET + 0x109, NET + 0x1FF, 0x7F000001, GROUP, 0xE0000001, 0xE0000016,
    0, 0xFFFFFFFF, 0xF0000001, 0x08080808,
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """`tap` and `hdr` say what the device is; `kinds` which sockets are used; `makes` which packets are made beside theirs."""

    name: str
    kinds: tuple[str, ...]
    makes: tuple[str, ...]
    tap: bool = False
    hdr: int = 10


EVERYTHING = ("tcp", "udp", "icmp", "igmp", "raw", "fragments", "options", "noise")
TARGETS = {
    t.name: t
    for t in (
        Target("tun", KINDS, EVERYTHING),
        Target("tun-bare", KINDS, EVERYTHING, hdr=0),
        Target("tap", KINDS, (*EVERYTHING, "arp"), tap=True),
        Target("tap-bare", KINDS, (*EVERYTHING, "arp"), tap=True, hdr=0),
        Target("arp", ("udp", "ping"), ("arp",), tap=True, hdr=0),
        Target("icmp", ("tcp", "udp", "ping", "raw"), ("icmp",), hdr=0),
        Target("igmp", ("igmp", "udp"), ("igmp",), hdr=0),
        Target("udp", ("udp",), ("udp",), hdr=0),
        Target("raw", ("raw", "ping"), ("raw", "icmp"), hdr=0),
        Target("tcp", ("tcp",), ("tcp",), hdr=0),
        Target("fragments", ("udp", "ping", "raw"), ("fragments",), hdr=0),
        Target("options", KINDS, ("options",), hdr=0),
    )
}
# Several at once, each with its share of the inputs.
GROUPS = {
    "devices": ("tun", "tun-bare", "tap", "tap-bare"),
    "paths": ("arp", "icmp", "igmp", "udp", "raw", "tcp", "fragments", "options"),
    "all": tuple(TARGETS),
}


class FuzzFailure(Exception):
    """What went wrong, and how to see it again."""


class Episode:
    """`run` it. The same seed does the same."""

    def __init__(self, target: Target, seed: str) -> None:
        self.target = target
        self.chance = random.Random(seed)
        self.machines = [Machine(n, seed.encode(), target.tap, target.hdr) for n in (1, 2)]
        self.programs = [Program(m, self.chance, target.kinds) for m in self.machines]
        self.recent: deque[tuple[int, bytes]] = deque(maxlen=64)  # (who was to get it, an IP packet)
        self.made: deque[bytes] = deque()  # frames that belong together
        self.inputs = 0
        self.last = b""
        self.steps = 0

    def run(self, inputs: int) -> None:
        chance = self.chance
        machines = self.machines
        while self.inputs < inputs:
            self.steps += 1
            what = chance.random()
            if what < 0.35:
                chance.choice(self.programs).step()
            elif what < 0.78:
                self.carry(chance.choice(machines))
            elif what < 0.96:
                self.inject(chance.choice(machines))
            elif what < 0.99:
                self.sleep(chance.choice((1000, 1_000_000, 10_000_000, 50_000_000, 250_000_000, NS)))
            elif what < 0.993:
                self.close_both_ends()
            elif what < 0.9995:
                chance.choice(machines).block(chance.choice((0, 0, -EAGAIN, -EIO)))
            else:
                self.sleep(chance.choice((30, 70, 130)) * NS)
            if self.steps & 0xFF == 0:
                for machine in machines:
                    machine.check()

    def sleep(self, ns: int) -> None:
        for machine in self.machines:
            machine.sleep(ns)

    def close_both_ends(self) -> None:
        """Of one connection, so that the FINs cross."""
        ends: dict[tuple[bytes, bytes], int] = {}
        for program, mirrored in zip(self.programs, (False, True), strict=True):
            for fd in program.fds:
                err, name = syscalls.sys_getsockname(program.task, fd)
                err2, peer = syscalls.sys_getpeername(program.task, fd)
                if err or err2:
                    continue
                if not mirrored:
                    ends[name, peer] = fd
                elif (peer, name) in ends:
                    syscalls.sys_shutdown(program.task, fd, 1)
                    syscalls.sys_shutdown(self.programs[0].task, ends[peer, name], 1)
                    return

    def give(self, machine: Machine, frame: bytes) -> None:
        self.inputs += 1
        self.last = frame
        machine.take(frame)

    # -- what the other has sent ---------------------------------------------------------------------------------------

    def carry(self, to: Machine) -> None:
        sent = self.machines[2 - to.number].io.sent
        if not sent:
            return
        chance, target = self.chance, self.target
        how = chance.random()
        if how < 0.1:
            sent.rotate(-1)
        frame = sent.popleft() if how < 0.95 else sent[0]
        if how > 0.9 and how < 0.92:
            return
        cut = target.hdr + (14 if target.tap else 0)
        if not target.tap or frame[cut - 2 : cut] == b"\x08\x00":
            self.recent.append((to.number, frame[cut:]))
        if chance.random() < 0.3:
            frame = self.change(frame, cut)
        self.give(to, frame)

    def change(self, frame: bytes, cut: int) -> bytes:
        """The frame with something wrong in it."""
        chance, target = self.chance, self.target
        vnet, link, packet = frame[: target.hdr], frame[target.hdr : cut], frame[cut:]
        what = chance.random()
        if vnet and what < 0.25:
            vnet = mutate_vnet(chance, vnet)
        elif link and what < 0.35:
            link = flip(chance, link)
        elif target.tap and link[12:14] == b"\x08\x06":
            packet = flip(chance, packet)
        else:
            packet = mutate_packet(chance, packet, ADDRESSES)
        return vnet + link + packet

    # -- what nobody has sent ------------------------------------------------------------------------------------------

    def inject(self, to: Machine) -> None:
        chance, target = self.chance, self.target
        if not self.made:
            kind = chance.choice(target.makes)
            packets = self.make(kind, to)
            for packet in packets:
                if kind == "noise":
                    self.made.append(packet)
                else:
                    self.made.append(self.frame(to, packet, ETH_P_ARP if kind == "arp" else ETH_P_IP))
        self.give(to, self.made.popleft())

    def frame(self, to: Machine, packet: bytes, protocol: int) -> bytes:
        chance, target = self.chance, self.target
        vnet = bytes(target.hdr)
        if vnet and chance.random() < 0.2:
            vnet = mutate_vnet(chance, vnet)
        if not target.tap:
            return vnet + packet
        dst = chance.choice((to.dev.dev_addr, to.dev.dev_addr, to.dev.dev_addr, 0xFFFFFFFFFFFF, 0x01005E010203, 0x020000000001))
        return vnet + ethernet.emit(dst, self.machines[2 - to.number].dev.dev_addr, protocol) + packet

    def template(self, to: Machine, protocol: int) -> bytes:
        """A packet for that machine, a real one if there is one."""
        candidates = [p for n, p in self.recent if n == to.number and len(p) > 20 and (protocol < 0 or p[9] == protocol)]
        if candidates and self.chance.random() < 0.8:
            return self.chance.choice(candidates)
        return self.fresh(to, protocol)

    def fresh(self, to: Machine, protocol: int) -> bytes:
        chance = self.chance
        source = NET + 3 - to.number
        data = chance.randbytes(chance.choice((0, 1, 8, 100, 1400)))
        if protocol == TCP:
            seq, ack = chance.getrandbits(32), chance.getrandbits(32)
            flags = chance.choice((2, 0x10, 0x11, 0x12, 4, 0x14, 0x18))
            source = chance.choice((source, NET + chance.randrange(3, 250)))
            payload = wire_tcp.emit(chance.randrange(1, 65536), chance.choice(TCP_PORTS), seq, ack, flags, 1000, 0, 0, b"") + data
        elif protocol == UDP:
            payload = wire_udp.emit(chance.randrange(65536), chance.choice((*UDP_PORTS, 4242)), 8 + len(data), 0) + data
        elif protocol == ICMP:
            payload = wire_icmp.emit(chance.choice((8, 0, 13, 17, 10)), 0, 77 << 16 | chance.randrange(10), data)
        elif protocol == IGMP:
            payload = self.igmp()
        else:
            payload = data
        protocol = 253 if protocol < 0 else protocol
        packet = Packet(wire_ip.emit(0, 20 + len(payload), chance.randrange(65536), 0, 64, protocol, source, to.local) + payload)
        packet.resum()
        return packet.emit()

    def igmp(self) -> bytes:
        chance = self.chance
        group = chance.choice((0, GROUP, GROUP + 1, 0xE0000001, chance.getrandbits(32)))
        kind = chance.choice((0x11, 0x11, 0x12, 0x16, 0x17, 0x22, 0x13, chance.randrange(256)))
        body = bytes((kind, chance.choice((0, 1, 100, 127, 128, 255)), 0, 0)) + group.to_bytes(4, "big")
        if chance.random() < 0.6:
            sources = chance.choice((0, 1, 2, 20, 300))
            claimed = chance.choice((sources, sources, sources, 0xFFFF))
            body += chance.randbytes(2) + claimed.to_bytes(2, "big") + chance.randbytes(4 * sources)
        if chance.random() < 0.2:
            body = flip(chance, body)
        check = csum_fold(csum_partial(body, 0, len(body), 0))
        return body[:2] + check.to_bytes(2, "big") + body[4:] if len(body) >= 4 else body

    def make(self, kind: str, to: Machine) -> list[bytes]:
        chance = self.chance
        if kind == "tcp":
            packet = Packet(self.template(to, TCP))
            for _ in range(chance.randrange(1, 4)):
                packet.payload = mutate_tcp(chance, packet.payload)
            packet.resum()
            return [packet.emit()]
        if kind == "udp":
            return [mutate_packet(chance, self.template(to, UDP), ADDRESSES)]
        if kind == "icmp":
            if chance.random() < 0.4:
                return [mutate_packet(chance, self.template(to, ICMP), ADDRESSES)]
            about = self.template(self.machines[2 - to.number], -1)
            return [icmp_error(chance, about, chance.choice((NET + 3 - to.number, *ADDRESSES)), to.local)]
        if kind == "igmp":
            packet = Packet(self.fresh(to, IGMP))
            packet.daddr = chance.choice((GROUP, 0xE0000001, 0xE0000016, to.local))
            packet.ttl = 1
            packet.options = chance.choice((b"", b"\x94\x04\x00\x00"))
            return [packet.emit()]
        if kind == "raw":
            return [mutate_packet(chance, self.template(to, -1), ADDRESSES)]
        if kind == "fragments":
            whole = self.template(to, chance.choice((UDP, ICMP, TCP, -1)))
            if chance.random() < 0.3 and len(whole) > 28:
                packet = Packet(whole)
                packet.payload += chance.randbytes(chance.choice((3000, 20000, 65000)))[: 65515 - len(packet.payload)]
                packet.payload = packet.payload[:4] + len(packet.payload).to_bytes(2, "big") + packet.payload[6:]
                packet.resum()
                whole = packet.emit()
            pieces = fragments(chance, whole)
            if chance.random() < 0.2:
                pieces = [mutate_packet(chance, p, ADDRESSES) for p in pieces]
            return pieces or [whole]
        if kind == "options":
            packet = Packet(self.template(to, -1))
            packet.options = b"".join(chance.choice(IP_OPTIONS) for _ in range(chance.randrange(1, 4)))[:40]
            if chance.random() < 0.3:
                packet.options = flip(chance, packet.options)
            packet.daddr = chance.choice((to.local, to.local, NET + 0x109, NET + 0xFF))
            packet.resum()
            return [packet.emit()]
        if kind == "arp":
            sha = chance.choice((self.machines[2 - to.number].dev.dev_addr, to.dev.dev_addr, 0, 0xFFFFFFFFFFFF, 0x020000000001))
            spa = chance.choice((NET + 3 - to.number, NET + chance.randrange(256), *ADDRESSES))
            tpa = chance.choice((to.local, *ADDRESSES))
            body = wire_arp.emit(chance.choice((1, 1, 2, 2, 3, 9)), sha, spa, chance.choice((0, to.dev.dev_addr)), tpa)
            return [flip(chance, body) if chance.random() < 0.3 else body]
        # noise: any bytes at all, or a header's first byte before them
        size = chance.choice((0, 1, 9, 10, 11, 14, 20, 34, 60, 200, 1500, 66000))
        raw = chance.randbytes(size)
        return [bytes(self.target.hdr) + chance.choice((b"", b"\x45", b"\x4f", b"\x60")) + raw if chance.random() < 0.5 else raw]

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self) -> list[str]:
        """All programs exit, time passes; what is left."""
        for machine in self.machines:
            machine.block(0)
            machine.check()
        return leaks.close_and_check([m.kernel for m in self.machines])


def run_episode(target: Target, seed: int, number: int, inputs: int) -> int:
    """One episode. How many inputs there were; FuzzFailure if the stack does not do as it should."""
    episode = Episode(target, f"{target.name} {seed} {number}")
    try:
        episode.run(inputs)
        left = episode.close()
    except Exception as e:
        at = f"input {episode.inputs}: {episode.last.hex()}"
        replay = f"python -m tests.fuzz {target.name} --seed {seed} --episode {number} --inputs {inputs}"
        raise FuzzFailure(f"{type(e).__name__}: {e}\nat {at}\nreplay: {replay}") from e
    if left:
        raise FuzzFailure("left behind:\n" + "\n".join(left) + f"\nreplay: {target.name} --seed {seed} --episode {number}")
    return episode.inputs
