"""Packets for a host with 10.0.0.1/24 and 192.0.2.1/24: right and wrong ones of every kind, options, fragments, ICMP; and the same
packets put into afinet."""

from __future__ import annotations

from itertools import pairwise

from afinet.kernel.random import RandomStream
from afinet.kernel.sysctl import sysctl_write
from afinet.net.ipv4.fib_frontend import ip_route_add
from afinet.uapi.snmp import SNMP4_IPSTATS_LIST
from afinet.wire import icmp as wire_icmp
from tests.net.ipv4.iphost import FAR, ME, PEER, PROTO, Host, addr, packet

# Limits on ICMP would make an answer depend on the time that the run takes.
SYSCTLS = {
    "net.ipv4.icmp_ratelimit": "0",
    "net.ipv4.icmp_msgs_per_sec": "1000000",
    "net.ipv4.icmp_msgs_burst": "1000000",
    **{f"net.ipv4.conf.{dev}.rp_filter": "0" for dev in ("all", "default", "wire0", "wire1")},
}
FORWARD = {"net.ipv4.ip_forward": "1"}
SOURCE_ROUTE = {f"net.ipv4.conf.{dev}.accept_source_route": "1" for dev in ("all", "wire0", "wire1")}
RUNS = {
    "a host": SYSCTLS,
    "a host that takes source routes": SYSCTLS | SOURCE_ROUTE,
    "a router": SYSCTLS | FORWARD,
    "a router that takes source routes": SYSCTLS | FORWARD | SOURCE_ROUTE,
    "a host with a strict filter": SYSCTLS | {"net.ipv4.conf.all.rp_filter": "1"},
    "a host with a loose filter": SYSCTLS | {"net.ipv4.conf.wire0.rp_filter": "2"},
    "a host that accepts what is its own": SYSCTLS | {
        "net.ipv4.conf.wire0.accept_local": "1", "net.ipv4.conf.wire0.route_localnet": "1",
    },
    "a host that answers broadcasts": SYSCTLS | {
        "net.ipv4.icmp_echo_ignore_broadcasts": "0", "net.ipv4.icmp_ignore_bogus_error_responses": "0",
    },
    "a host that answers no echo": SYSCTLS | {"net.ipv4.icmp_echo_ignore_all": "1"},
    "a router that names its inbound address": SYSCTLS | FORWARD | {"net.ipv4.icmp_errors_use_inbound_ifaddr": "1"},
    "a router that forwards broadcasts": SYSCTLS | FORWARD | {
        "net.ipv4.conf.all.bc_forwarding": "1", "net.ipv4.conf.wire0.bc_forwarding": "1", "net.ipv4.conf.wire1.bc_forwarding": "1",
    },
    "a router with a strict filter": SYSCTLS | FORWARD | {"net.ipv4.conf.all.rp_filter": "1"},
    "a router without redirects": SYSCTLS | FORWARD | {
        f"net.ipv4.conf.{dev}.send_redirects": "0" for dev in ("all", "wire0", "wire1")
    },
}  # fmt: skip

SOURCES = [PEER] * 12 + [
    FAR, addr("8.8.8.8"), addr("127.0.0.1"), addr("224.0.0.1"), 0, 0xFFFFFFFF, ME, addr("10.0.0.255"), addr("240.1.1.1"),
]  # fmt: skip
DESTINATIONS = [ME] * 12 + [
    addr("192.0.2.1"), FAR, addr("10.0.0.255"), addr("255.255.255.255"), addr("224.0.0.1"), addr("224.5.5.5"), addr("127.0.0.1"),
    addr("8.8.8.8"), addr("10.0.0.0"), 0, PEER, addr("10.0.0.77"),
]  # fmt: skip


class Maker:
    """Makes packets; the same for the same seed on every Python."""

    def __init__(self, seed: str) -> None:
        self.stream = RandomStream(seed.encode(), "packets")

    def below(self, n: int) -> int:
        return self.stream.get_random_u32_below(n)

    def pick(self, items: list[int]) -> int:
        return items[self.below(len(items))]

    def blob(self, n: int) -> bytes:
        return self.stream.get_random_bytes(n)

    def options(self) -> bytes:
        """Options that are right, nearly right, and anything else, in any order."""
        out = b""
        want = self.pick([4, 8, 12, 20, 40])
        while len(out) < want:
            kind = self.pick([0, 1, 7, 7, 68, 68, 131, 137, 148, 134, 30, self.below(256)])
            if kind in (0, 1):
                out += bytes([kind])
                continue
            n = self.pick([0, 1, 2, 3, 4, 7, 8, 11, 12, 15, self.below(41)])
            pointer = self.pick([4, 5, 8, 9, n, n + 1, n - 3, self.below(20)]) & 255
            if kind in (131, 137):
                hops = [FAR, ME, PEER, addr("192.0.2.1"), addr("8.8.8.8")]
                body = bytes([pointer]) + b"".join([self.pick(hops).to_bytes(4, "big") for _ in range(10)])
            else:
                flags = self.pick([0, 1, 3, 0xF0, 0xF1, 0x10, self.below(256)])
                body = bytes([pointer, flags]) + bytes([self.pick([0, 1, 10, 192, 2, 9]) for _ in range(40)])
            out += (bytes([kind, n]) + body)[: max(n, 2)]
        out = out[:40]
        return out + bytes(-len(out) % 4)

    def icmp(self) -> bytes:
        type = self.pick([0, 3, 3, 4, 5, 8, 8, 8, 11, 12, 13, 14, 15, 16, 17, 18, 19, 40, 42, 43, 200])
        code = self.pick([0, 1, 2, 3, 4, 5, 13, 15, 16, 200])
        quoted = packet(
            self.blob(self.pick([0, 7, 8, 20])),
            self.pick([1, 6, 17, 200, 255]),
            self.pick([ME, ME, PEER]),
            options=b"\1" * self.pick([0, 8]),
        )
        body = [quoted, quoted[: self.below(len(quoted) + 1)], bytes(self.below(60)), bytes(12)][self.below(4)]
        message = wire_icmp.emit(type, code, self.pick([0, 1280, 20 << 24, addr("10.0.0.254"), 0x12345678]), body)
        return message[: self.below(len(message) + 1)] if self.below(10) == 0 else message

    def fragments(self) -> list[bytes]:
        """An echo request in pieces, some of them twice, overlapping or missing, in some order."""
        message = wire_icmp.emit(8, 0, self.below(1 << 32), self.blob(self.below(400)))
        id = self.below(1 << 16)
        cuts = [0]
        while cuts[-1] < len(message):
            cuts.append(min(cuts[-1] + 8 * (1 + self.below(20)), len(message)))
        pieces = list(pairwise(cuts))
        out = []
        odd = self.below(4)
        while pieces:
            start, end = pieces.pop(self.below(len(pieces)) if self.below(3) == 0 else 0)
            more = 0x2000 if end < len(message) else 0
            if odd == 0 and self.below(4) == 0:
                end += self.pick([8, 16, 1])
            if odd == 1 and self.below(4) == 0:
                pieces.append((start, end))
            if odd == 2 and self.below(6) == 0:
                continue
            tos = self.pick([0, 0, 0, 0, 0, 0, 2, 3])
            out.append(packet(message[start:end], 1, id=id, frag_off=start >> 3 | more, tos=tos))
        return out

    def some(self) -> list[bytes]:
        kind = self.below(7)
        if kind == 6:
            return self.fragments()
        saddr, daddr = self.pick(SOURCES), self.pick(DESTINATIONS)
        ttl, tos = self.pick([64, 64, 1, 0, 255]), self.pick([0, 0, 0x10, 3, 2, 0xFF, 0xC0])
        frag_off = self.pick([0, 0, 0, 0, 0, 0, 0x4000, 0x2000, 0x2005, 7, 0x8000])
        options = self.options() if self.below(5) < 2 else b""
        if kind <= 2:
            return [packet(self.icmp(), 1, saddr, daddr, ttl, options, frag_off, self.below(4), tos)]
        protocol = self.pick([200, 254, 99, 2, 255, 0]) if kind == 3 else 254
        data = packet(bytes(self.below(1400 if kind == 3 else 300)), protocol, saddr, daddr, ttl, options, frag_off, 9, tos)
        if kind < 5:
            return [data]
        broken = bytearray(data)
        for _ in range(1 + self.below(2)):
            broken[self.below(len(broken))] ^= 1 << self.below(8)
        return [bytes(broken[: len(broken) if self.below(5) else 1 + self.below(len(broken))])]


def packets(name: str, count: int) -> list[bytes]:
    """`count` packets for the run of that name. TUN itself refuses what is shorter than a header or of another version."""
    maker = Maker(name)
    out: list[bytes] = []
    while len(out) < count:
        out += [p for p in maker.some() if len(p) >= 20 and p[0] >> 4 == 4]
    return out[:count]


def blur_times(data: bytearray, start: int, end: int) -> None:
    """Zero what timestamp options between the offsets hold."""
    i = start
    while i + 1 < min(end, len(data)):
        if data[i] == 0:
            return
        if data[i] == 1:
            i += 1
            continue
        n = data[i + 1]
        if n < 2:
            return
        if data[i] == 68:
            for j in range(i + 4, min(i + n, len(data))):
                data[j] = 0
        i += n


def blur(answer: bytes) -> str:
    """The answer without what chance and the clock decide: identification, times, and the checksums that depend on them."""
    data = bytearray(answer)
    data[4:6] = b"\0\0"
    data[10:12] = b"\0\0"
    hlen = (data[0] & 15) * 4
    blur_times(data, 20, hlen)
    if data[9] == 1 and len(data) > hlen and not (data[6] & 0x1F or data[7]):
        if data[hlen] == 14:
            data[hlen + 2 : hlen + 4] = b"\0\0"
            data[hlen + 12 : hlen + 20] = bytes(len(data[hlen + 12 : hlen + 20]))
        elif data[hlen] in (3, 4, 5, 11, 12) and len(data) > hlen + 28:
            data[hlen + 2 : hlen + 4] = b"\0\0"
            quoted = hlen + 8
            blur_times(data, quoted + 20, quoted + (data[quoted] & 15) * 4)
    return data.hex()


def ask_afinet(sysctls: dict[str, str], given: list[bytes]) -> tuple[list[list[list[str]]], dict[str, int]]:
    """What left by each device after each packet (blurred), and the counters of /proc/net/snmp and netstat."""
    h = Host()
    h.kernel.inet_protos[PROTO] = None
    if "net.ipv4.ip_forward" in sysctls:
        # So that nothing is unreachable: how many such errors a router sends depends on the time (route/error_cost).
        assert ip_route_add(h.net, addr("8.0.0.0"), 8, FAR) == 0
    for name, value in sysctls.items():
        assert sysctl_write(h.net.sysctl_table, name, value) == 0, name
    answers = []
    for data in given:
        h.receive(data)
        answers.append([[blur(p) for p in h.link.sent], [blur(p) for p in h.farlink.sent]])
        h.link.sent = []
        h.farlink.sent = []
    assert h.kernel.warned == {}
    counters = {name: n for name, n in zip(SNMP4_IPSTATS_LIST, h.net.ip_statistics, strict=True) if n}
    for prefix, found in (("In", h.net.icmpmsg_in), ("Out", h.net.icmpmsg_out)):
        counters |= {f"IcmpMsg:{prefix}Type{type}": n for type, n in found.items()}
    return answers, counters


def pick_counters(linux: dict[str, int]) -> dict[str, int]:
    """Of the kernel's counters, those that ask_afinet tells, under the same names."""
    out = {}
    for name, n in linux.items():
        for group, shown in (("IpExt", ""), ("IcmpMsg", "IcmpMsg:"), ("Ip", "")):
            if name.startswith(group):
                out[shown + name.removeprefix(group)] = n
                break
    return out
