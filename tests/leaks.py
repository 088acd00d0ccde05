"""Nothing is left: after every test, each Kernel that it booted is looked through once its programs have ended and time has passed.

Tests boot through `start_kernel` of this module, or have their own Kernel `watch`ed; the hosts of a Network are watched by
themselves (sim.options). The fixture in conftest.py then calls `close_and_check`: every task exits as a process does, 10 virtual
minutes go by (an orphan with an unreachable peer may take a few times that), and `check_kernel` must find nothing at all.

A test that breaks the stack on purpose, or whose own driver sits on packets, says so: @pytest.mark.leaks("why").
"""

from __future__ import annotations

from afinet.init import main, syscalls
from afinet.kernel.machine import Kernel
from afinet.kernel.memcontrol import MemCgroup
from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.core.net_namespace import Net
from afinet.net.core.sock import sock_inuse_get
from afinet.net.ipv4.udp_sock import UdpTableProto
from afinet.net.sched.sch_netem import NetemQdisc
from afinet.runner.hub import HUB_BUDGET, Hub, HubKernel
from afinet.sim.host import Host
from afinet.sim.options import options

MINUTES = 60 * NSEC_PER_SEC
WAIT = 10 * MINUTES
# tcp_orphan_retries' 8 transmissions, each at most TCP_RTO_MAX after the one before, and then FIN_WAIT_2 or TIME_WAIT; the answer
# to an IGMPv3 query may wait for 53 minutes (3,174.4 s, RFC 3376, 4.1.1).
LONGEST = 60 * MINUTES


class Watched:
    """The Kernels of the test that is running, while one is."""

    def __init__(self) -> None:
        self.kernels: list[Kernel] = []
        self.active = False


watched = Watched()


def watch(kernel: Kernel) -> Kernel:
    """Have the test's end look through `kernel`."""
    if watched.active:
        watched.kernels.append(kernel)
    return kernel


def start_kernel(hostname: str = "localhost", seed: bytes = b"", hz: int = 1000) -> Kernel:
    """init.main.start_kernel, watched."""
    return watch(main.start_kernel(hostname, seed, hz))


def watch_host(host: Host) -> None:
    watch(host.kernel)


def watch_networks() -> None:
    """Hear of every host of every Network of this process."""
    if watch_host not in options.on_host:
        options.on_host.append(watch_host)


# -- looking ---------------------------------------------------------------------------------------------------------------


def check_net(net: Net) -> list[str]:
    """What is left in a namespace."""
    left: list[str] = []
    for dev in net.dev_by_index.values():
        qdiscs = [q for q in (dev.qdisc, dev.qdisc_sleeping) if q is not None]
        for q in qdiscs:
            queued = len(q.tfifo) if isinstance(q, NetemQdisc) else q.q.qlen
            if q.qlen or q.backlog or queued or q.gso_skb is not None:
                left.append(f"{dev.name}: {q.qlen} packets of {q.backlog} bytes in the qdisc, {queued} on its queue")
    if net.arp_tbl is not None:
        for n in net.arp_tbl.hash.values():
            if (n.arp_queue is not None and n.arp_queue.qlen) or n.arp_queue_len_bytes:
                left.append(f"neighbour {n.primary_key:#x}: packets wait for the address")
    if sock_inuse_get(net):
        left.append(f"{sock_inuse_get(net)} socks in use")
    if hasattr(net, "ipv4"):
        if net.ipv4.no_packets.qlen:
            left.append("packets in the queue of socks that never queued anything")
        if net.ipv4.tw_count:
            left.append(f"tw_count {net.ipv4.tw_count}")
        fqdir = net.ipv4.fqdir
        if fqdir is not None and (fqdir.queues or fqdir.mem):
            left.append(f"{len(fqdir.queues)} datagrams in pieces, {fqdir.mem} bytes")
    return [f"{net.name or 'init_net'}: {what}" for what in left]


def check_kernel(kernel: Kernel, memcgs: list[MemCgroup] | None = None) -> list[str]:
    """Everything that a quiet machine without programs must not have, a line each; empty when all is well."""
    left: list[str] = []
    if kernel.tasks:
        left.append(f"tasks {[t.comm for t in kernel.tasks.values()]}")
    if kernel.current is not None or kernel.softirq_count or kernel.softirq_pending:
        left.append(f"in a call ({kernel.current}) or a softirq ({kernel.softirq_count}, pending {kernel.softirq_pending:#x})")
    if kernel.warned:
        left.append(f"WARN: {kernel.warned}")
    if kernel.timers.pending:
        armed = {id(t): type(t).__name__ for _, _, t in kernel.timers.heap if t.timer_pending()}
        left.append(f"{kernel.timers.pending} timers: {sorted(armed.values())}")
    if kernel.tsq_head:
        left.append(f"{len(kernel.tsq_head)} socks wait for the TSQ tasklet")
    sd = kernel.softnet_data
    if sd is not None and (sd.input_pkt_queue or sd.process_queue or sd.output_queue):
        left.append("packets or qdiscs wait for a softirq")
    if sd is not None and sd.gro.held:
        left.append(f"{len(sd.gro.held)} packets held back by GRO")
    hinfo = kernel.inet_hashinfo
    if hinfo is not None:
        for table, size in (
            ("ehash", len(hinfo.ehash)),
            ("lhash2", len(hinfo.lhash2)),
            ("bhash", len(hinfo.bhash)),
            ("bhash2", len(hinfo.bhash2)),
        ):
            if size:
                left.append(f"{size} in {table}")
    if kernel.raw_hash:
        left.append(f"raw socks of protocols {list(kernel.raw_hash)}")
    if kernel.ping_prot is not None and kernel.ping_prot.table:
        left.append(f"ping socks {list(kernel.ping_prot.table)}")
    for prot in kernel.proto_list:
        counts = (prot.memory_allocated, prot.sockets_allocated, prot.orphan_count, sum(map(abs, prot.inuse.values())))
        if any(counts) or prot.memory_pressure:
            left.append(
                f"{prot.name}: memory_allocated {counts[0]}, sockets_allocated {counts[1]}, orphan_count {counts[2]}, "
                f"inuse {prot.inuse}, memory_pressure {prot.memory_pressure}"
            )
        if isinstance(prot, UdpTableProto) and prot.table.gro_socks:
            left.append(f"{prot.name}: {prot.table.gro_socks} socks with UDP_GRO")
        if isinstance(prot, UdpTableProto) and (prot.table.hash or prot.table.hash2 or prot.table.hash4):
            left.append(f"{prot.name}: {len(prot.table.hash)}, {len(prot.table.hash2)}, {len(prot.table.hash4)} in its tables")
    for memcg in memcgs or []:
        if memcg.usage:
            left.append(f"memory cgroup {memcg.name}: {memcg.usage} pages")
    for net in kernel.net_list:
        left += check_net(net)
    return [f"{kernel.hostname}: {what}" for what in left]


# -- ending ----------------------------------------------------------------------------------------------------------------


def exit_tasks(kernel: Kernel) -> list[MemCgroup]:
    """Every process ends. The memory cgroups that they were in."""
    memcgs: list[MemCgroup] = []
    for task in list(kernel.tasks.values()):
        if task.memcg is not None and task.memcg not in memcgs:
            memcgs.append(task.memcg)
        syscalls.sys_exit(task)
    return memcgs


def hub_of(kernel: Kernel) -> Hub | None:
    return kernel.runner.hub if isinstance(kernel.runner, HubKernel) else None


def let_time_pass(kernel: Kernel, duration: int) -> None:
    """`duration` ns go by, for all hosts of the kernel's hub if it is on one."""
    hub = hub_of(kernel)
    if hub is not None:
        end = hub.now + duration
        while hub.run(end, 1 << 16) == HUB_BUDGET:
            pass
        hub.sync()
        return
    end = kernel.now + duration
    while True:
        when = kernel.run(kernel.now)
        if when > end:
            break
        kernel.run(when)
    kernel.run(end)


def close_and_check(kernels: list[Kernel]) -> list[str]:
    """End all that runs on these machines, let time pass, and say what is left."""
    memcgs = [exit_tasks(kernel) for kernel in kernels]
    left: list[str] = []
    waited: list[Hub] = []
    for kernel in kernels:
        hub = hub_of(kernel)
        if hub is None:
            let_time_pass(kernel, WAIT)
        elif hub not in waited:
            waited.append(hub)
            let_time_pass(kernel, WAIT)
    for kernel, groups in zip(kernels, memcgs, strict=True):
        for _ in range(WAIT, LONGEST, WAIT):
            if not kernel.timers.pending:
                break
            let_time_pass(kernel, WAIT)
        left += check_kernel(kernel, groups)
    return left
