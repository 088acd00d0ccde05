"""A Network: hosts, the links between them, one clock, one seed.

    with Network(seed=7) as net:
        client, server = net.host("client"), net.host("server")
        net.link(client, server, delay="20ms", rate="10mbit", loss=0.01)
        ...
        net.run(until=task)

Links get addresses from 10.0.0.0/8, four each in the order of their making (the first link: 10.0.0.1 and 10.0.0.2). Hosts that are
no neighbours reach each other by static routes along the shortest path, which are made when the network runs; a host with two
links or more forwards unless it was made with `router=False`. Host names resolve: a neighbour's to its address on the common link.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from afinet.init import syscalls
from afinet.kernel.machine import Kernel
from afinet.kernel.task import Task
from afinet.kernel.time import NSEC_PER_SEC
from afinet.runner.switch import choose
from afinet.runner.virtual import Resolver, SimTask, VirtualRunner, current_task
from afinet.sim.host import Host
from afinet.sim.link import Link
from afinet.sim.options import options
from afinet.sim.routes import RoutePlanner
from afinet.sim.trace import Capture, CaptureCallback, TraceHash
from afinet.sim.units import Quantity, UsageError, parse_address, parse_time
from afinet.stdlib import install

# A name of a host that is no neighbour resolves to so many of its addresses at most, the first ones.
MAX_ADDRESSES = 4

# The clock at the beginning: CLOCK_MONOTONIC is an hour, as on a machine that was not booted just now.
START = 3600 * NSEC_PER_SEC

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")

Until = SimTask | Iterable[SimTask] | Quantity | None


class _Runner(VirtualRunner):
    def process_exit(self, process: Task) -> None:
        kernel = process.kernel
        if kernel.now < self.hub.now:
            kernel.now = self.hub.now
        syscalls.sys_exit(process)


class _Names(Resolver):
    """The hosts of a Network by name and address."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.owners: dict[int, str] | None = None

    def lookup(self, kernel: Kernel, name: str) -> list[int]:
        host = self.network.by_name.get(name)
        if host is None:
            return []
        asker = self.network.by_kernel.get(kernel)
        links = host.links_to.get(asker) if asker is not None else None
        if links:
            return [link.address_of(host) for link in links]
        return host.ipv4_addresses()[:MAX_ADDRESSES]

    def reverse(self, kernel: Kernel, addr: int) -> str | None:
        if self.owners is None:
            self.owners = {a: host.name for host in self.network.hosts.values() for a in host.ipv4_addresses()}
        return self.owners.get(addr)


class Network:
    """`seed` decides every chance in it; `trace` keeps a hash of all packets (`trace_hash`); `hz` is the kernels' tick.

    `switch` is how tasks take turns: "greenlet", "baton", or "auto" for the one that fits (runner/switch.py); the run is the same.
    """

    def __init__(self, seed: int = 0, *, trace: bool = False, hz: int = 1000, switch: str = "auto") -> None:
        self.seed = options.seed if options.seed is not None else seed
        self.seed_bytes = str(self.seed).encode()
        self.hz = hz
        try:
            way = choose(switch, install.installed())
        except ValueError as e:
            raise UsageError(str(e)) from None
        self.runner = _Runner(START, way, self.seed_bytes)
        self.runner.resolver = self.names = _Names(self)
        self.hosts: dict[str, Host] = {}
        self.by_name: dict[str, Host] = {}  # in lower case
        self.by_kernel: dict[Kernel, Host] = {}
        self.links: list[Link] = []
        self.captures: list[Capture] = []
        self._routes = RoutePlanner(self)
        self._trace: TraceHash | None = None
        self._closed = False
        install.begin(self.seed_bytes)
        if trace or options.trace:
            self._trace = TraceHash()
            self.capture(self._trace)
        for callback in options.on_network:
            callback(self)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End every program. What the network has counted can still be read."""
        if not self._closed:
            self._closed = True
            self.runner.close()

    # -- building -----------------------------------------------------------------------------------------------------

    def host(self, name: str, *, router: bool | None = None) -> Host:
        """A new machine. `router` says whether it forwards; by default it does when it has two links or more."""
        if not isinstance(name, str) or len(name) > 64 or not _HOST_NAME.fullmatch(name):
            raise UsageError(f"host {name!r}: a host's name has letters, digits and hyphens, at most 64")
        if name.lower() in self.by_name:
            raise UsageError(f"there is a host {name!r} already: net.hosts[{name!r}]")
        if name.lower() == "localhost":
            raise UsageError("every host is 'localhost' to itself: give this one another name")
        host = Host(self, name, self.hz, router)
        self.hosts[name] = host
        self.by_name[name.lower()] = host
        self.by_kernel[host.kernel] = host
        for capture in self.captures:
            capture.add_host(host)
        for callback in options.on_host:
            callback(host)
        return host

    def find(self, host: Host | str) -> Host:
        """The host of that name, or the one given, if it is of this network."""
        if isinstance(host, str):
            found = self.by_name.get(host.lower())
            if found is None:
                known = ", ".join(self.hosts) or "none yet"
                raise UsageError(f"there is no host {host!r} in this network (there are: {known}): make it with net.host({host!r})")
            return found
        if isinstance(host, Host):
            if host.network is not self:
                raise UsageError(f"host {host.name!r} belongs to another network")
            return host
        raise UsageError(f"{host!r} is no host: give what net.host() returned, or a name")

    def link(
        self,
        a: Host | str,
        b: Host | str,
        *,
        delay: Quantity = 0,
        rate: Quantity | None = None,
        loss: Quantity = 0,
        queue: Quantity = 1000,
        jitter: Quantity = 0,
        duplicate: Quantity = 0,
        reorder: Quantity = 0,
        corrupt: Quantity = 0,
        mtu: int = 1500,
        subnet: str = "",
    ) -> Link:
        """A cable between two hosts, each way alike.

        `delay` "20ms" one way; `jitter` is how much it varies; `rate` "10mbit", None for no limit; `queue` is what may wait where
        the rate is the limit, in packets (100) or bytes ("64kb"); `loss`, `duplicate`, `reorder` and `corrupt` are shares of the
        packets (0.01 or "1%"). `subnet` ("192.168.1.0/24") overrides the automatic addresses; the first two are used.
        """
        one, two = self.find(a), self.find(b)
        if one is two:
            raise UsageError(f"a link joins two hosts: {one.name!r} is given twice (every host has lo to itself)")
        if subnet:
            base, plen = parse_address(subnet, "subnet")
            if plen > 30:
                raise UsageError(f"subnet={subnet!r} has no room for two hosts: write one like '10.1.2.0/30'")
            base &= -1 << (32 - plen)
        else:
            base, plen = (10 << 24) + 4 * len(self.links), 30
        link = Link(
            one,
            two,
            base,
            plen,
            delay=delay,
            rate=rate,
            loss=loss,
            queue=queue,
            jitter=jitter,
            duplicate=duplicate,
            reorder=reorder,
            corrupt=corrupt,
            mtu=mtu,
        )
        self.links.append(link)
        for host, other in ((one, two), (two, one)):
            host.links.append(link)
            host.links_to.setdefault(other, []).append(link)
        self.addresses_changed()
        self._routes.changed = True
        if self.runner.driving:
            self._routes.apply()
        return link

    def addresses_changed(self) -> None:
        self.names.owners = None

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, until: Until = None) -> bool:
        """Let virtual time run.

        `until` a task, or several: until they have ended; a time ("5s", or seconds on the clock `now`): until then; None: until
        every program has ended. Says whether that was reached. DeadlockError when it never can be; an exception in a task is
        raised by its `result()`.
        """
        if self._closed:
            raise UsageError("this network is closed: its programs have ended")
        self._routes.apply()
        runner = self.runner
        if until is None:
            return runner.run(goal=lambda: not runner.tasks)
        if isinstance(until, (str, int, float)):
            runner.run(until=START + parse_time(until, "until"))
            return True
        tasks = [until] if isinstance(until, SimTask) else list(until)
        for task in tasks:
            if not isinstance(task, SimTask):
                raise UsageError(f"until={task!r} is neither a time nor a task: give what host.spawn() returned")
            if task.runner is not runner:
                raise UsageError(f"task {task.name!r} runs in another network")
            task.watched = True
        return runner.run(goal=lambda: all(task.done for task in tasks))

    def run_for(self, time: Quantity, until: SimTask | None = None) -> bool:
        """Let `time` pass, or less if the task `until` ends before. Says whether it did, or, without one, True."""
        self._routes.apply()
        when = self.runner.hub.now + parse_time(time, "time")
        if until is None:
            self.runner.run(until=when)
            return True
        until.watched = True
        return self.runner.run(until=when, goal=lambda: until.done)

    @property
    def now_ns(self) -> int:
        """Virtual time since the beginning, in ns."""
        return self.runner.hub.now - START

    @property
    def now(self) -> float:
        """Virtual time since the beginning, in seconds."""
        return self.now_ns / NSEC_PER_SEC

    def sleep(self, time: Quantity) -> None:
        """For a task to call: let virtual time pass, in seconds or as "20ms"."""
        task = current_task()
        if task is None:
            raise UsageError("net.sleep() is for the programs on the hosts; from outside, net.run_for() lets time pass")
        task.sleep(parse_time(time, "time"))

    # -- looking ------------------------------------------------------------------------------------------------------

    def capture(self, callback: CaptureCallback) -> Capture:
        """Have `callback(host, device name, ns since the epoch, outbound, frame)` called for every packet at every device."""
        capture = Capture(callback)
        for host in self.hosts.values():
            capture.add_host(host)
        self.captures.append(capture)
        return capture

    @property
    def trace_hash(self) -> str:
        """SHA-256 over every packet so far: equal for equal runs. The network must have been made with trace=True."""
        if self._trace is None:
            raise UsageError("no trace was kept: make the network with Network(trace=True)")
        return self._trace.hexdigest()

    def summary(self) -> dict[str, Any]:
        """What happened, in numbers: for `afinet run --json`."""
        hosts = {
            host.name: {
                "addresses": host.addresses,
                "devices": {
                    dev.name: {
                        "tx_packets": dev.stats.tx_packets,
                        "tx_bytes": dev.stats.tx_bytes,
                        "tx_dropped": dev.stats.tx_dropped,
                        "rx_packets": dev.stats.rx_packets,
                        "rx_bytes": dev.stats.rx_bytes,
                        "rx_dropped": dev.stats.rx_dropped,
                    }
                    for dev in host.devices
                },
            }
            for host in self.hosts.values()
        }
        return {
            "seed": self.seed,
            "virtual_seconds": self.now,
            "events": self.runner.hub.events,
            "packets": self._trace.packets if self._trace is not None else None,
            "trace_hash": self._trace.hexdigest() if self._trace is not None else None,
            "hosts": hosts,
            "links": [link.summary() for link in self.links],
        }


