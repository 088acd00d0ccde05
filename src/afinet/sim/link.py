"""A link between two hosts, as the user sees it: its parameters, which may change while the network runs, and its counters.

Faults are guards: `with link.cut(): net.run_for("5s")`, or `with link.change(loss="20%"): ...`; without `with` they stay. Each
names a direction by the host that it leads to (`towards=server`); without, both are meant.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from afinet.drivers.veth import veth_wire_newlink
from afinet.kernel.random import RandomStream
from afinet.net.core.dev import dev_open, dev_set_mtu
from afinet.net.core.netdevice import NetDevice
from afinet.net.ipv4.devinet import inet_addr_add
from afinet.net.sched.sch_netem import netem_threshold
from afinet.runner.link import LinkEnd
from afinet.sim.units import (
    Quantity,
    UsageError,
    format_address,
    format_rate,
    format_time,
    parse_queue,
    parse_rate,
    parse_share,
    parse_time,
)

if TYPE_CHECKING:
    from afinet.sim.host import Host

PARAMETERS = ("delay", "rate", "loss", "queue", "jitter", "duplicate", "reorder", "corrupt")


class Link:
    """Made by `Network.link`. `a` and `b` are the hosts, `device_a` and `device_b` their ends."""

    def __init__(self, a: Host, b: Host, base: int, plen: int, *, mtu: int, **parameters: Quantity | None) -> None:
        self.a = a
        self.b = b
        self.subnet = (base, plen)
        if not isinstance(mtu, int) or not 68 <= mtu <= 65535:
            raise UsageError(f"mtu={mtu!r}: a link's MTU is between 68 and 65535 bytes")
        network = a.network
        number = len(network.links)
        self.name = f"{a.name}-{b.name}" if b not in a.links_to else f"{a.name}-{b.name}-{number}"
        hub = network.runner.hub
        # A stream of chance of its own for each direction, whose name does not depend on the other links.
        self.to_b = LinkEnd(hub, RandomStream(network.seed_bytes, f"link {self.name} >"))
        self.to_a = LinkEnd(hub, RandomStream(network.seed_bytes, f"link {self.name} <"))
        self._values: dict[LinkEnd, dict[str, Quantity | None]] = {self.to_a: {}, self.to_b: {}}
        for end in (self.to_a, self.to_b):
            self._set(end, parameters)
        self.device_a = self._plug(a, self.to_b, base + 1, plen, mtu)
        self.device_b = self._plug(b, self.to_a, base + 2, plen, mtu)
        self.to_b.connect(self.device_b, b.place)
        self.to_a.connect(self.device_a, a.place)
        for dev in (self.device_a, self.device_b):
            err = dev_open(dev)
            assert err == 0, f"{dev.name} does not open ({err})"
        for host in (a, b):
            host.place.run()

    def __repr__(self) -> str:
        values = self._values[self.to_b]
        said = ", ".join(f"{k}={v}" for k, v in values.items() if v not in (0, None))
        return f"<link {self.name}{': ' if said else ''}{said}>"

    @staticmethod
    def _plug(host: Host, wire: LinkEnd, addr: int, plen: int, mtu: int) -> NetDevice:
        # "eth%d" takes the lowest free number.
        dev = veth_wire_newlink(host.net, "eth%d", wire)
        err = dev_set_mtu(dev, mtu)
        assert err == 0, f"mtu {mtu} refused ({err})"
        err = inet_addr_add(dev, addr, plen)
        assert err == 0, f"address {format_address(addr)}/{plen} refused ({err})"
        return dev

    def other(self, host: Host) -> Host:
        return self.b if host is self.a else self.a

    def address_of(self, host: Host) -> int:
        return self.subnet[0] + (1 if host is self.a else 2)

    # -- faults -------------------------------------------------------------------------------------------------------

    def _ends(self, towards: Host | str | None) -> list[LinkEnd]:
        if towards is None:
            return [self.to_a, self.to_b]
        host = self.a.network.find(towards)
        if host is self.a:
            return [self.to_a]
        if host is self.b:
            return [self.to_b]
        raise UsageError(f"towards={host.name!r}: this link joins {self.a.name} and {self.b.name}")

    def _set(self, end: LinkEnd, parameters: dict[str, Quantity | None]) -> None:
        for name in parameters:
            if name not in PARAMETERS:
                raise UsageError(f"a link has no {name!r}: it has {', '.join(PARAMETERS)}")
        values = {**self._values[end], **parameters}
        q = end.netem
        latency = parse_time(_given(values["delay"]), "delay")
        jitter = parse_time(_given(values["jitter"]), "jitter")
        shares = {k: netem_threshold(parse_share(_given(values[k]), k)) for k in ("loss", "duplicate", "reorder", "corrupt")}
        end.rate = parse_rate(values["rate"])
        end.limit, end.limit_bytes = parse_queue(values["queue"])
        q.latency, q.jitter = latency, jitter
        q.loss, q.duplicate, q.corrupt = shares["loss"], shares["duplicate"], shares["corrupt"]
        q.set_reorder(shares["reorder"])
        end.changed()
        self._values[end] = values

    def change(self, *, towards: Host | str | None = None, **parameters: Quantity | None) -> Guard:
        """Other parameters from now on: any of those of Network.link but mtu. Used with `with`, the old ones return at its end."""
        undo: list[Callable[[], None]] = []
        for end in self._ends(towards):
            old = dict(self._values[end])
            self._set(end, parameters)
            undo.append(_Undo(self, end, {k: old[k] for k in parameters}))
        return Guard(undo)

    def cut(self, *, towards: Host | str | None = None) -> Guard:
        """Lose every packet that is sent from now on, silently. What is under way still arrives."""
        ends = [end for end in self._ends(towards) if not end.cut]
        for end in ends:
            end.cut = True
        return Guard([_Mend(end) for end in ends])

    def mend(self, *, towards: Host | str | None = None) -> None:
        """Undo `cut`."""
        for end in self._ends(towards):
            end.cut = False

    def summary(self) -> dict[str, Any]:
        """Parameters and counters, each direction by the host that it leads to."""
        out: dict[str, Any] = {"between": [self.a.name, self.b.name]}
        for host, end in ((self.b, self.to_b), (self.a, self.to_a)):
            out[f"to {host.name}"] = {
                "delay": format_time(end.netem.latency),
                "rate": format_rate(end.rate),
                "packets": end.packets,
                "bytes": end.bytes,
                "lost": end.lost,
                "overflowed": end.overflowed,
                "duplicated": end.duplicated,
                "corrupted": end.corrupted,
            }
        return out


class Guard:
    """What a fault returns: leaving its `with` block, or `undo`, ends the fault."""

    def __init__(self, undo: list[Callable[[], None]]) -> None:
        self._undo = undo

    def undo(self) -> None:
        for step in self._undo:
            step()
        self._undo = []

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *exc: object) -> None:
        self.undo()


class _Undo:
    def __init__(self, link: Link, end: LinkEnd, values: dict[str, Quantity | None]) -> None:
        self.link = link
        self.end = end
        self.values = values

    def __call__(self) -> None:
        self.link._set(self.end, self.values)


class _Mend:
    def __init__(self, end: LinkEnd) -> None:
        self.end = end

    def __call__(self) -> None:
        self.end.cut = False


def _given(value: Quantity | None) -> Quantity:
    return 0 if value is None else value
