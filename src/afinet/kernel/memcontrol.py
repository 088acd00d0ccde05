"""mm/memcontrol-v1.c and mm/page_counter.c, their part for sockets: a task group and its limit on the memory of its socks.

A task is in a group or in none (`Task.memcg`, mem_cgroup_attach). A sock belongs to the group of the task that made it or, when it
was accepted, of the task that accepted it, and stays there (`sk_memcg`). Every page that the protocol takes for the sock
(sk_forward_alloc) is charged to the group and all above it as well: `memory.kmem.tcp.*` of Linux's version 1 of the interface,
which is the one with a limit of its own for sockets. A charge that would pass a limit fails; the group is then under pressure until
one succeeds. What must not fail (a FIN, a probe) is charged all the same. Protocols without accounting (raw, ping) charge nothing,
as in Linux.

Left out: all memory that is not the socks'; version 2's reclaim and OOM killer, which have nothing to act on here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.page import PAGE_SIZE as PAGE_SIZE

if TYPE_CHECKING:
    from afinet.kernel.task import Task

PAGE_COUNTER_MAX: Final = (1 << 63) // PAGE_SIZE - 1


class MemCgroup:
    """struct mem_cgroup, with its counter of socket memory (`tcpmem`). `limit_in_bytes` is rounded down to pages, -1 for none."""

    __slots__ = ("failcnt", "max", "max_usage", "name", "parent", "tcpmem_pressure", "usage")

    def __init__(self, name: str, limit_in_bytes: int = -1, parent: MemCgroup | None = None) -> None:
        self.name: str = name
        self.parent: MemCgroup | None = parent
        self.usage: int = 0  # pages
        self.max: int = PAGE_COUNTER_MAX
        self.max_usage: int = 0
        self.failcnt: int = 0  # charges that this group's limit refused
        self.tcpmem_pressure: bool = False  # the last charge failed
        self.set_limit(limit_in_bytes)

    def set_limit(self, limit_in_bytes: int) -> None:
        """memory.kmem.tcp.limit_in_bytes. What is charged already stays."""
        self.max = PAGE_COUNTER_MAX if limit_in_bytes < 0 else limit_in_bytes // PAGE_SIZE

    def usage_in_bytes(self) -> int:
        return self.usage * PAGE_SIZE

    def max_usage_in_bytes(self) -> int:
        return self.max_usage * PAGE_SIZE

    def limit_in_bytes(self) -> int:
        return self.max * PAGE_SIZE


def mem_cgroup_attach(task: Task, memcg: MemCgroup | None) -> None:
    """cgroup.procs: from now on `task` is in `memcg`. The socks that it has stay where they are."""
    task.memcg = memcg


def page_counter_charge(memcg: MemCgroup, pages: int) -> None:
    """Whatever the limits say."""
    group: MemCgroup | None = memcg
    while group is not None:
        group.usage += pages
        if group.usage > group.max_usage:
            group.max_usage = group.usage
        group = group.parent


def page_counter_uncharge(memcg: MemCgroup, pages: int) -> None:
    group: MemCgroup | None = memcg
    while group is not None:
        group.usage -= pages
        group = group.parent


def page_counter_try_charge(memcg: MemCgroup, pages: int) -> bool:
    """Charge the group and all above it; False, and nothing charged, if one of them would pass its limit."""
    group: MemCgroup | None = memcg
    while group is not None:
        if group.usage + pages > group.max:
            group.failcnt += 1
            return False
        group = group.parent
    page_counter_charge(memcg, pages)
    return True


def mem_cgroup_sk_charge(memcg: MemCgroup, pages: int, nofail: bool = False) -> bool:
    """memcg1_charge_skmem."""
    if page_counter_try_charge(memcg, pages):
        memcg.tcpmem_pressure = False
        return True
    memcg.tcpmem_pressure = True
    if nofail:
        page_counter_charge(memcg, pages)
    return nofail


def mem_cgroup_sk_uncharge(memcg: MemCgroup, pages: int) -> None:
    page_counter_uncharge(memcg, pages)
