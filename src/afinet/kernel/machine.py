"""One machine: what a booted Linux keeps in global variables is an attribute of `Kernel`.

Many Kernels live in one process. A Kernel never reads a clock and never sleeps: its runner sets `now` through `run`, asks
`next_timer` when to come back, and is told through `KernelRunner.deadline_moved` when that instant moves earlier.
`init/main.py` boots one (`start_kernel`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet._mypyc import mypyc_attr
from afinet.kernel.printk import LogBuffer, RateLimit
from afinet.kernel.random import RandomStream
from afinet.kernel.softirq import NR_SOFTIRQS, SoftirqAction, do_softirq
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT, NSEC_PER_SEC, VIRTUAL_EPOCH
from afinet.kernel.timer import TimerBase, TimerList
from afinet.kernel.trace import Trace

if TYPE_CHECKING:
    from afinet.kernel.memcontrol import MemCgroup
    from afinet.kernel.notifier import NotifierBlock
    from afinet.kernel.sysctl import CtlTable
    from afinet.kernel.task import Task
    from afinet.net.core.dev import SoftnetData
    from afinet.net.core.gso import PacketOffload
    from afinet.net.core.net_namespace import Net, PernetOperations
    from afinet.net.core.netdevice import PacketType
    from afinet.net.core.sock import Proto
    from afinet.net.ipv4.af_inet import InetProtosw
    from afinet.net.ipv4.inet_hashtables import InetHashinfo
    from afinet.net.ipv4.ip_output import IpIdents
    from afinet.net.ipv4.ping import PingProto
    from afinet.net.ipv4.protocol import NetOffload, NetProtocol
    from afinet.net.ipv4.raw import RawSock
    from afinet.net.ipv4.tcp_cong import TcpCongestionOps
    from afinet.net.ipv4.tcp_rate import TcpSacktagState
    from afinet.net.ipv4.tcp_sock import TcpSock
    from afinet.net.sched.sch_generic import QdiscOps
    from afinet.net.socket import NetProtoFamily
    from afinet.security.security import SecurityHook


@mypyc_attr(allow_interpreted_subclasses=True)
class KernelRunner:
    """What a Kernel asks of whoever runs it."""

    __slots__ = ()

    def sync(self, kernel: Kernel) -> None:
        """A system call is about to be made from where the clock may be late: bring `kernel.now` up to date."""

    def deadline_moved(self, kernel: Kernel, when: int) -> None:
        """A call from outside `run` armed a timer for `when` (ns), earlier than `next_timer` said."""


class Kernel:
    """A machine. `seed` feeds every named stream of chance; `hz` is the tick (1000 by default, 250 to compare)."""

    __slots__ = (
        "_deadline",
        "boot_time",
        "cookie_seq",
        "current",
        "current_memcg",
        "fib_genid",
        "hostname",
        "hz",
        "inet_hashinfo",
        "inet_offloads",
        "inet_protos",
        "inetaddr_chain",
        "inetsw",
        "init_net",
        "init_task",
        "inode_seq",
        "ip_idents",
        "log",
        "net_families",
        "net_list",
        "net_ratelimit_state",
        "net_seq",
        "netdev_chain",
        "now",
        "offload_base",
        "pernet_device_list",
        "pernet_list",
        "pid_seq",
        "ping_prot",
        "proto_list",
        "ptype_all",
        "ptype_base",
        "qdisc_base",
        "raw_hash",
        "runner",
        "running",
        "security_hooks",
        "seed",
        "siphash_key",
        "softirq_count",
        "softirq_pending",
        "softirq_vec",
        "softnet_data",
        "streams",
        "sysctl_table",
        "tasks",
        "tcp_cong_list",
        "tcp_sacktag_state",
        "tick_nsec",
        "timers",
        "trace",
        "tsq_head",
        "warned",
    )

    def __init__(self, hostname: str = "localhost", seed: bytes = b"", hz: int = 1000) -> None:
        self.hostname: str = hostname
        self.hz: int = hz
        self.tick_nsec: int = NSEC_PER_SEC // hz
        self.seed: bytes = seed
        self.streams: dict[str, RandomStream] = {}
        self.log: LogBuffer = LogBuffer()
        self.net_ratelimit_state: RateLimit = RateLimit(5 * NSEC_PER_SEC, 10)
        self.siphash_key: bytes = RandomStream(seed, "siphash").get_random_bytes(16)
        # Clocks. `now` is CLOCK_MONOTONIC, in ns; it starts at an hour so that "a long time ago" is representable.
        self.now: int = 3600 * NSEC_PER_SEC
        self.boot_time: int = VIRTUAL_EPOCH - self.now  # CLOCK_REALTIME - CLOCK_MONOTONIC
        self.timers: TimerBase = TimerBase()
        self._deadline: int = MAX_SCHEDULE_TIMEOUT  # at or before the earliest timer
        self.running: bool = False  # inside run(), whose answer tells the deadline
        self.runner: KernelRunner | None = None
        self.trace: Trace = Trace(self)
        # kernel/softirq.py
        self.softirq_vec: list[SoftirqAction | None] = [None] * NR_SOFTIRQS
        self.softirq_pending: int = 0
        self.softirq_count: int = 0
        # kernel/sysctl.py, kernel/task.py
        self.sysctl_table: dict[str, CtlTable] = {}
        self.tasks: dict[int, Task] = {}
        self.pid_seq: int = 0
        self.init_task: Task | None = None
        self.inode_seq: int = 0
        self.cookie_seq: int = 0  # SO_COOKIE
        self.current: Task | None = None  # whose system call this is; None in softirqs and for the kernel's own socks
        self.current_memcg: MemCgroup | None = None  # of the task in whose system call we are
        self.warned: dict[str, int] = {}  # WARN_ON: invariants found broken, by name; empty in a healthy stack
        # security/security.py
        self.security_hooks: list[SecurityHook] = []
        # net/core
        self.init_net: Net | None = None
        self.net_list: list[Net] = []
        self.net_seq: int = 0
        self.pernet_list: list[PernetOperations] = []
        self.pernet_device_list: list[PernetOperations] = []
        self.softnet_data: SoftnetData | None = None
        self.ptype_base: dict[int, list[PacketType]] = {}
        self.ptype_all: list[PacketType] = []
        self.qdisc_base: dict[str, QdiscOps] = {}  # net/sched
        self.offload_base: dict[int, PacketOffload] = {}
        self.netdev_chain: list[NotifierBlock] = []
        self.inetaddr_chain: list[NotifierBlock] = []
        self.proto_list: list[Proto] = []
        # net/socket.py, net/ipv4
        self.net_families: list[NetProtoFamily | None] = []
        self.inetsw: list[list[InetProtosw]] = []
        self.inet_protos: list[NetProtocol | None] = []
        self.inet_offloads: dict[int, NetOffload] = {}
        self.inet_hashinfo: InetHashinfo | None = None
        self.ping_prot: PingProto | None = None
        self.raw_hash: dict[int, list[RawSock]] = {}
        self.tcp_cong_list: list[TcpCongestionOps] = []
        self.tcp_sacktag_state: TcpSacktagState | None = None  # the scratch of tcp_ack
        self.tsq_head: list[TcpSock] = []  # socks that wait for the tasklet of TCP small queues
        self.fib_genid: int = 0
        self.ip_idents: IpIdents | None = None

    # -- time ---------------------------------------------------------------------------------------------------------

    def run(self, now: int) -> int:
        """Set the clock to `now` (ns, never backwards), do everything that is due, and return when to call again.

        Timers and softirqs run here. A call is cheap while no deadline has come: re-armed timers are looked at lazily, so the
        answer may be early, never late.
        """
        if now > self.now:
            self.now = now
        self.running = True
        try:
            if self.softirq_pending:
                do_softirq(self)
            if self._deadline <= self.now:
                timers = self.timers
                while True:
                    timer = timers.pop_due(self.now)
                    if timer is None:
                        break
                    # Timers are softirq work: bottom halves are off while one runs, what it raises runs after it.
                    self.softirq_count += 1
                    try:
                        timer.function()
                    finally:
                        self.softirq_count -= 1
                    if self.softirq_pending:
                        do_softirq(self)
                self._deadline = timers.next_expiry()
        finally:
            # A timer or a handler that a user added may raise: that is his, the next call is ours.
            self.running = False
        return self._deadline

    def next_timer(self) -> int:
        """When to call `run` next (ns), MAX_SCHEDULE_TIMEOUT for never."""
        return self._deadline

    def mod_timer(self, timer: TimerList, expires: int) -> bool:
        """Arm `timer` for the first jiffy at or after `expires` (ns). Says whether it was pending."""
        tick = self.tick_nsec
        return self.hrtimer_start(timer, -(-expires // tick) * tick)

    def hrtimer_start(self, timer: TimerList, expires: int) -> bool:
        """Arm `timer` for exactly `expires` (ns). Says whether it was pending."""
        was = self.timers.start(timer, expires)
        if expires < self._deadline:
            self._deadline = expires
            runner = self.runner
            if runner is not None and not self.running:
                runner.deadline_moved(self, expires)
        return was

    def del_timer(self, timer: TimerList) -> bool:
        """Disarm. Says whether it was pending."""
        return self.timers.cancel(timer)

    def ktime_get_real(self) -> int:
        """CLOCK_REALTIME in ns."""
        return self.now + self.boot_time

    # -- chance -------------------------------------------------------------------------------------------------------

    def random(self, name: str) -> RandomStream:
        """The stream of that name; the same object at each call."""
        stream = self.streams.get(name)
        if stream is None:
            stream = RandomStream(self.seed, name)
            self.streams[name] = stream
        return stream

    def printk(self, text: str) -> None:
        """A line for the log that dmesg(1) shows."""
        self.log.printk(self.now, text)

    def net_ratelimit(self) -> bool:
        """Whether one more line about packets may be logged (net/core/utils.c)."""
        return self.net_ratelimit_state.ratelimit(self.now)

    def warn_on(self, what: str) -> None:
        """WARN_ON: an invariant does not hold; go on, but let the tests see it."""
        self.warned[what] = self.warned.get(what, 0) + 1

    def new_inode(self) -> int:
        self.inode_seq += 1
        return self.inode_seq
