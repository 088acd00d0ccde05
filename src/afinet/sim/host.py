"""A host of a Network: a Kernel with `lo` up, and the programs that run on it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from afinet.fs.file import fdget
from afinet.init import syscalls
from afinet.init.fork import close_all_but
from afinet.init.main import new_task
from afinet.kernel.machine import Kernel
from afinet.kernel.memcontrol import MemCgroup, mem_cgroup_attach
from afinet.kernel.random import RandomStream
from afinet.kernel.task import Task
from afinet.net.core.net_namespace import Net
from afinet.net.core.netdevice import NetDevice
from afinet.net.ipv4.devinet import inet_addr_add
from afinet.net.ipv4.fib_frontend import ip_route_add
from afinet.runner.boot import SetUpError, boot, sysctl
from afinet.runner.virtual import FD_BASE, SimTask, current_task
from afinet.sim import iproute
from afinet.sim.security import HostSecurity
from afinet.sim.units import Quantity, UsageError, format_address, parse_address, parse_size
from afinet.stdlib.install import installed
from afinet.uapi.errno import EEXIST

if TYPE_CHECKING:
    from afinet.sim.link import Link
    from afinet.sim.network import Network


class Host:
    """Made by `Network.host`. `kernel` is its machine, `net` the machine's network namespace, `security` its security modules."""

    def __init__(self, network: Network, name: str, hz: int, router: bool | None) -> None:
        self.network = network
        self.name = name
        self.router = router  # None: it is one when it has two links or more
        self.kernel: Kernel
        self.net: Net
        self.kernel, self.net = boot(name, RandomStream(network.seed_bytes, f"host {name}").get_random_bytes(32), hz)
        self.place = network.runner.hub.attach(self.kernel)
        self.security = HostSecurity(self.kernel)
        self.links: list[Link] = []
        self.links_to: dict[Host, list[Link]] = {}

    def __repr__(self) -> str:
        return f"<host {self.name}>"

    # -- programs -----------------------------------------------------------------------------------------------------

    def spawn(
        self, fn: Callable[..., Any] | None = None, *args: Any, name: str = "", pass_fds: Sequence[int] = (), **kwargs: Any
    ) -> Any:
        """Start `fn(*args, **kwargs)` as a program on this host: a process with descriptors of its own. Returns its task.

        As a decorator, `@host.spawn` or `@host.spawn(name="server")`, it leaves the task under the function's name:
        `net.run(until=fetch)`, then `fetch.result()`. The program begins when the network runs.

        A program may start another on its own host and hand it descriptors, as subprocess does: those of `pass_fds` have the same
        numbers there (`socket.socket(fileno=...)`), all others are closed.
        """
        if fn is None:

            def decorate(function: Callable[..., Any]) -> SimTask:
                task: SimTask = self.spawn(function, *args, name=name, pass_fds=pass_fds, **kwargs)
                return task

            return decorate
        if not callable(fn):
            raise UsageError(f"{self.name}.spawn({fn!r}): give it a function, and its arguments after it")
        if inspect.iscoroutinefunction(fn):
            return self._spawn_coroutine(fn, args, kwargs, name, pass_fds)
        name = name or getattr(fn, "__name__", type(fn).__name__)
        process = self._inherit(name, pass_fds) if pass_fds else new_task(self.kernel, self.net, name, None)
        return self.network.runner.spawn(process, fn, args, kwargs, name)

    def _inherit(self, name: str, pass_fds: Sequence[int]) -> Task:
        """A child of the calling program: fork, close, exec."""
        parent = current_task()
        if parent is None or parent.kernel is not self.kernel:
            raise UsageError(f"{self.name}.spawn(pass_fds=...) is for a program that runs on {self.name}: it has the descriptors")
        keep = [fd - FD_BASE for fd in pass_fds]
        for fd in keep:
            if fdget(parent.process.files, fd) is None:
                raise UsageError(f"{self.name}.spawn(pass_fds=...): {parent.name} has no descriptor {fd + FD_BASE}")
        _, process = syscalls.sys_clone(parent.process, 0, name)
        assert process is not None
        close_all_but(process, keep)
        syscalls.sys_execve(process, name)
        return process

    def _spawn_coroutine(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], name: str, pass_fds: Sequence[int]
    ) -> SimTask:
        name = name or fn.__name__
        if not installed():
            raise NotImplementedError(
                f"{name} is a coroutine function: asyncio runs on a simulated host under `afinet run`, where its modules are over "
                "the simulated ones; inside an ordinary process it will in a later release"
            )

        def run_coroutine() -> Any:
            import asyncio

            return asyncio.run(fn(*args, **kwargs))

        task: SimTask = self.spawn(run_coroutine, name=name, pass_fds=pass_fds)
        return task

    # -- configuration ------------------------------------------------------------------------------------------------

    def sysctl(self, name: str, value: object = None) -> str:
        """Read /proc/sys (`host.sysctl("net.ipv4.tcp_rmem")`), or write it when a value is given. Returns the text that is there
        then. A list or tuple is written as a vector."""
        try:
            return sysctl(self.net, name, value)
        except SetUpError as e:
            raise UsageError(f"{self.name}: {e}") from None

    def dmesg(self) -> list[str]:
        """The lines of the kernel's log, each with its time in seconds."""
        return [f"[{when / 1e9:12.6f}] {text}" for when, text in self.kernel.log.lines]

    def memory_group(self, name: str, limit: Quantity, *tasks: SimTask, parent: MemCgroup | None = None) -> MemCgroup:
        """A task group whose sockets may hold `limit` bytes ("1mib") in all; the group has its usage and its failures. `tasks` that
        spawn() gave are put into it (their later sockets count); `parent` is a group whose limit holds as well."""
        group = MemCgroup(name, parse_size(limit, "limit"), parent)
        for task in tasks:
            mem_cgroup_attach(task.process, group)
        return group

    @property
    def devices(self) -> list[NetDevice]:
        """`lo` and the ends of the links."""
        return list(self.net.dev_by_index.values())

    @property
    def addresses(self) -> list[str]:
        """All addresses but lo's, in the order of the devices."""
        return [format_address(a) for a in self.ipv4_addresses()]

    @property
    def address(self) -> str:
        """The first address."""
        addresses = self.addresses
        if not addresses:
            raise UsageError(f"{self.name} has no address: net.link({self.name}, ...) gives it one")
        return addresses[0]

    def ipv4_addresses(self) -> list[int]:
        out = []
        for dev in self.devices:
            if dev is not self.net.loopback_dev and dev.ip_ptr is not None:
                out += [ifa.ifa_local for ifa in dev.ip_ptr.ifa_list]
        return out

    def device(self, name: str) -> NetDevice:
        """`ip link show NAME`."""
        dev = self.net.dev_by_name.get(name)
        if dev is None:
            raise UsageError(f"{self.name} has no device {name!r}: it has {', '.join(self.net.dev_by_name)}")
        return dev

    def add_address(self, address: str, device: str) -> None:
        """`ip addr add ADDRESS dev DEVICE`."""
        addr, plen = parse_address(address)
        err = inet_addr_add(self.device(device), addr, plen)
        if err == -EEXIST:
            raise UsageError(f"{self.name}: {device} has the address {address} already")
        if err:
            raise UsageError(f"{self.name}: {device} cannot have the address {address} (error {-err})")
        self.network.addresses_changed()

    def add_route(self, destination: str, via: str = "", device: str = "") -> None:
        """`ip route add DESTINATION via VIA dev DEVICE`; "default" is 0.0.0.0/0."""
        dst, plen = (0, 0) if destination == "default" else parse_address(destination, "destination")
        gateway = parse_address(via, "via")[0] if via else 0
        if device:
            self.device(device)
        err = ip_route_add(self.net, dst, plen, gateway, device)
        if err == -EEXIST:
            raise UsageError(f"{self.name} has a route to {destination} already")
        if err:
            raise UsageError(f"{self.name}: no route to {destination} via {via or device!r} (error {-err}): is that a neighbour?")

    def route(self, command: str) -> None:
        """`ip route COMMAND`: host.route("add 20.0.0.0/8 nexthop via 10.0.0.2 weight 3 nexthop via 10.1.0.2 table 100")."""
        self._told("route", command, *iproute.ip_route(self.net, command))

    def rule(self, command: str) -> None:
        """`ip rule COMMAND`, policy routing: host.rule("add from 10.1.0.0/16 lookup 100")."""
        self._told("rule", command, *iproute.ip_rule(self.net, command))

    def _told(self, what: str, command: str, err: int, reason: str) -> None:
        if err:
            raise UsageError(f"{self.name}: ip {what} {command}: {reason or os.strerror(-err)}")

    def routes(self, table: str | int = "main") -> list[str]:
        """`ip route show table TABLE`, an entry for each route."""
        return iproute.route_show(self.net, table)

    def rules(self) -> list[str]:
        """`ip rule show`."""
        return iproute.rule_show(self.net)
