"""net/core/neighbour.c: who answers at an address on a link, and whether it still does (the NUD states of RFC 4861, section 7.3).

neigh_output is the way out of the IP layer: one push of the cached header while the neighbour is known; else neigh_resolve_output
asks neigh_event_send, which queues the packet and starts the state machine:

    NONE/FAILED --send--> INCOMPLETE --answer--> REACHABLE --reachable_time--> STALE --send--> DELAY --5 s--> PROBE --answer--> ...
                              `--no answer--> FAILED, error_report for each queued packet     (DELAY --confirmed--> REACHABLE)

neigh_timer_handler moves an entry by time, neigh_update by what was heard (arp.py) or by hand. A protocol subclasses `NeighTable`
for what is its own: constructor, solicit, error_report.

A table belongs to a namespace; in Linux all namespaces share one, with one gc_thresh. The periodic garbage collection runs while
there are gc_thresh1 entries or more (below that Linux's does nothing either), so that an idle machine has no timer; the reachable
time is drawn anew when it is next read, at most every 300 s.

Left out: proxy entries and their delayed answers, netlink and the user-space resolver (app_solicit counts probes that nobody
sends), NTF_EXT_LEARNED and managed entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.kernel.notifier import NotifierBlock
from afinet.kernel.sysctl import INT_MAX, CtlTable, CtlTime, register_sysctl
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.kernel.timer import TimerList
from afinet.net.core import dev as dev_core
from afinet.net.core import neigh_proxy
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_NEIGH_DEAD,
    SKB_DROP_REASON_NEIGH_FAILED,
    SKB_DROP_REASON_NEIGH_QUEUEFULL,
)
from afinet.net.core.eth import dev_hard_header
from afinet.net.core.netdevice import (
    NET_XMIT_DROP,
    NETDEV_DOWN,
    NETDEV_UNREGISTER,
    NetDevice,
    dev_net,
)
from afinet.net.core.skbuff import (
    SKB_OVERHEAD,
    SkBuffHead,
    consume_skb,
    kfree_skb_reason,
    skb_clone,
    skb_dequeue,
    skb_peek_tail,
    skb_push,
    skb_queue_purge,
    skb_queue_tail,
)
from afinet.uapi.errno import EINVAL, ENOBUFS, ENOENT, EPERM
from afinet.uapi.neighbour import (
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NOARP,
    NUD_NONE,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
)

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.neigh_proxy import ProxyQueue
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff

NUD_IN_TIMER: Final = NUD_INCOMPLETE | NUD_REACHABLE | NUD_DELAY | NUD_PROBE
NUD_VALID: Final = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY
NUD_CONNECTED: Final = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE

NEIGH_UPDATE_F_OVERRIDE: Final = 0x01
NEIGH_UPDATE_F_WEAK_OVERRIDE: Final = 0x02
NEIGH_UPDATE_F_ADMIN: Final = 0x80000000

NEIGH_MIN_DELAY: Final = NSEC_PER_SEC // 100  # no timer of the state machine is shorter (HZ/100)
NEIGH_RAND_INTERVAL: Final = 300 * NSEC_PER_SEC
NEIGH_FLUSH_INTERVAL: Final = 5 * NSEC_PER_SEC
SKB_TRUESIZE_FRAME: Final = 1514 + SKB_OVERHEAD  # SKB_TRUESIZE(ETH_FRAME_LEN): the packets of unres_qlen


class NeighParms:
    """struct neigh_parms: the settings of a table on one device (`dev`), or its defaults (None). Times are ns."""

    __slots__ = (
        "app_probes",
        "base_reachable_time",
        "dead",
        "delay_probe_time",
        "dev",
        "gc_staletime",
        "locktime",
        "mcast_probes",
        "mcast_reprobes",
        "name",
        "proxy_delay",
        "proxy_qlen",
        "qlen",
        "queue_len_bytes",
        "reachable_time",
        "retrans_time",
        "tbl",
        "ucast_probes",
        "written",
    )

    def __init__(self, tbl: NeighTable, dev: NetDevice | None) -> None:
        self.tbl: NeighTable = tbl
        self.dev: NetDevice | None = dev
        self.name: str = "default" if dev is None else dev.name  # of its directory under /proc/sys
        self.dead: bool = False
        self.written: list[str] = []  # fields set for this device (data_state)
        self.mcast_probes: int = 3
        self.ucast_probes: int = 3
        self.app_probes: int = 0
        self.mcast_reprobes: int = 0
        self.retrans_time: int = NSEC_PER_SEC
        self.base_reachable_time: int = 30 * NSEC_PER_SEC
        self.delay_probe_time: int = 5 * NSEC_PER_SEC
        self.gc_staletime: int = 60 * NSEC_PER_SEC
        self.queue_len_bytes: int = 212992  # SK_WMEM_DEFAULT
        self.proxy_qlen: int = 64
        self.qlen: int = 0  # of the proxy queue
        self.proxy_delay: int = 800 * NSEC_PER_MSEC
        self.locktime: int = NSEC_PER_SEC
        self.reachable_time: int = 30 * NSEC_PER_SEC  # base_reachable_time times 0.5 to 1.5; see neigh_reachable_time


class Neighbour(TimerList):
    """struct neighbour, and its timer. `hh` is the whole link-layer header while packets may go out at once, else b""."""

    __slots__ = (
        "arp_queue",
        "arp_queue_len_bytes",
        "confirmed",
        "dead",
        "dev",
        "ha",
        "hh",
        "hh_header",
        "nud_state",
        "parms",
        "primary_key",
        "probes",
        "tbl",
        "type",
        "updated",
        "used",
    )

    def __init__(self, tbl: NeighTable, key: int, dev: NetDevice, now: int) -> None:
        super().__init__()
        self.tbl: NeighTable = tbl
        self.parms: NeighParms = tbl.parms
        self.dev: NetDevice = dev
        self.primary_key: int = key
        self.ha: int = 0  # link-layer address
        self.hh: bytes = b""
        self.hh_header: bytes = b""  # header for `ha`
        self.nud_state: int = NUD_NONE
        self.type: int = 0  # RTN_*
        self.dead: bool = True  # not in the table (yet, or any more)
        self.probes: int = 0
        self.updated: int = now
        self.used: int = now
        self.confirmed: int = 0
        self.arp_queue: SkBuffHead | None = None  # waits for the address; None while empty
        self.arp_queue_len_bytes: int = 0

    def function(self) -> None:
        neigh_timer_handler(self)


class NeighStatistics:
    """struct neigh_statistics: /proc/net/stat/arp_cache."""

    __slots__ = (
        "allocs",
        "destroys",
        "forced_gc_runs",
        "hits",
        "lookups",
        "periodic_gc_runs",
        "res_failed",
        "table_fulls",
        "unres_discards",
    )

    def __init__(self) -> None:
        self.allocs: int = 0
        self.destroys: int = 0
        self.lookups: int = 0
        self.hits: int = 0
        self.res_failed: int = 0
        self.periodic_gc_runs: int = 0
        self.forced_gc_runs: int = 0
        self.unres_discards: int = 0
        self.table_fulls: int = 0


class NeighGcTimer(TimerList):
    """gc_work of a table."""

    __slots__ = ("tbl",)

    def __init__(self, tbl: NeighTable) -> None:
        super().__init__()
        self.tbl: NeighTable = tbl

    def function(self) -> None:
        neigh_periodic_work(self.tbl)


@mypyc_attr(allow_interpreted_subclasses=True)
class NeighTable:
    """struct neigh_table: the neighbours of one protocol in one namespace. The protocol's part is in the methods."""

    __slots__ = (
        "gc_thresh1",
        "gc_thresh2",
        "gc_thresh3",
        "gc_work",
        "hash",
        "id",
        "kernel",
        "last_flush",
        "last_rand",
        "net",
        "parms",
        "parms_list",
        "permanent",
        "protocol",
        "proxy_queue",
        "stats",
    )

    def __init__(self, net: Net, id: str, protocol: int) -> None:
        kernel = net.kernel
        self.net: Net = net
        self.kernel: Kernel = kernel
        self.id: str = id
        self.protocol: int = protocol  # ETH_P_*
        self.gc_thresh1: int = 128
        self.gc_thresh2: int = 512
        self.gc_thresh3: int = 1024
        self.hash: dict[int, Neighbour] = {}  # by ifindex << 32 | key, oldest first
        self.permanent: int = 0  # entries that garbage collection leaves alone, and gc_thresh does not count
        self.gc_work: NeighGcTimer = NeighGcTimer(self)
        self.last_flush: int = kernel.now
        self.last_rand: int = kernel.now
        self.stats: NeighStatistics = NeighStatistics()
        self.proxy_queue: ProxyQueue | None = None  # made when first needed
        self.parms: NeighParms = NeighParms(self, None)
        self.parms_list: list[NeighParms] = [self.parms]
        self.parms.reachable_time = neigh_rand_reach_time(kernel, self.parms.base_reachable_time)

    def constructor(self, n: Neighbour) -> int:
        """Set type, parms and, where no protocol is needed, address and state of a new entry. 0 or -errno."""
        return 0

    def is_multicast(self, key: int) -> bool:
        """Whether an entry for this key may always be forgotten."""
        return False

    def solicit(self, n: Neighbour, skb: SkBuff | None) -> None:
        """Send a question; `skb` is the last packet that waits for the answer."""

    def error_report(self, n: Neighbour, skb: SkBuff) -> None:
        """Tell the sender of a packet that waited in vain, and free it."""
        kfree_skb_reason(self.net, skb, SKB_DROP_REASON_NEIGH_FAILED)

    def proxy_redo(self, skb: SkBuff) -> None:
        """A question that waited in the proxy queue: answer it now."""


# -- sending ---------------------------------------------------------------------------------------------------------------


def neigh_output(n: Neighbour, skb: SkBuff) -> int:
    """Send a packet, `data` at its network header, to the neighbour; `skb.dev` is the neighbour's. NET_XMIT_* or -errno."""
    hh = n.hh
    if hh:
        skb_push(skb, hh)
        return dev_core.dev_queue_xmit(skb)
    return neigh_resolve_output(n, skb)


def neigh_resolve_output(n: Neighbour, skb: SkBuff) -> int:
    """The slow path: send if the address is known, or wait for it."""
    if n.dead:
        kfree_skb_reason(n.tbl.net, skb, SKB_DROP_REASON_NEIGH_DEAD)
        return NET_XMIT_DROP
    if n.dev.hard_header_len == 0:
        return dev_core.dev_queue_xmit(skb)  # neigh_direct_output: the device has no header, so there is nothing to resolve
    if neigh_event_send(n, skb):
        return 0
    skb_push(skb, n.hh_header)
    return dev_core.dev_queue_xmit(skb)


def neigh_event_send(n: Neighbour, skb: SkBuff | None) -> int:
    """A packet wants to go. 0: send it now; 1: it is queued until the address is known, or dropped."""
    n.used = n.tbl.kernel.now
    if n.nud_state & (NUD_CONNECTED | NUD_DELAY | NUD_PROBE):
        return 0
    return __neigh_event_send(n, skb, True)


def __neigh_event_send(n: Neighbour, skb: SkBuff | None, immediate_ok: bool) -> int:
    kernel = n.tbl.kernel
    now = kernel.now
    parms = n.parms
    net = n.tbl.net
    immediate_probe = False
    # 1. a dead entry takes nothing
    if n.dead and not n.nud_state & NUD_STALE:
        if skb is not None:
            kfree_skb_reason(net, skb, SKB_DROP_REASON_NEIGH_DEAD)
        return 1
    # 2. start to resolve, or to doubt
    if not n.nud_state & (NUD_STALE | NUD_INCOMPLETE):
        if parms.mcast_probes + parms.app_probes == 0:
            n.nud_state = NUD_FAILED
            n.updated = now
            if skb is not None:
                kfree_skb_reason(net, skb, SKB_DROP_REASON_NEIGH_FAILED)
            return 1
        n.probes = parms.ucast_probes  # nothing known yet to send a unicast question to
        n.nud_state = NUD_INCOMPLETE
        n.updated = now
        if immediate_ok:
            immediate_probe = True
            kernel.mod_timer(n, now + max(parms.retrans_time, NEIGH_MIN_DELAY))
        else:
            kernel.mod_timer(n, now + 1)
    elif n.nud_state & NUD_STALE:
        n.nud_state = NUD_DELAY
        n.updated = now
        kernel.mod_timer(n, now + parms.delay_probe_time)
    # 3. wait
    rc = 0
    if n.nud_state == NUD_INCOMPLETE:
        if skb is not None:
            neigh_queue(n, skb)
        rc = 1
    # 4. ask
    if immediate_probe:
        neigh_probe(n)
    return rc


def neigh_queue(n: Neighbour, skb: SkBuff) -> None:
    """Put a packet on arp_queue; the oldest go when it holds more than unres_qlen_bytes."""
    queue = n.arp_queue
    if queue is None:
        queue = SkBuffHead()
        n.arp_queue = queue
    while n.arp_queue_len_bytes + skb.truesize > n.parms.queue_len_bytes:
        old = skb_dequeue(queue)
        if old is None:
            break
        n.arp_queue_len_bytes -= old.truesize
        n.tbl.stats.unres_discards += 1
        kfree_skb_reason(n.tbl.net, old, SKB_DROP_REASON_NEIGH_QUEUEFULL)
    skb_queue_tail(queue, skb)
    n.arp_queue_len_bytes += skb.truesize


def neigh_purge_queue(n: Neighbour, reason: int) -> None:
    queue = n.arp_queue
    n.arp_queue = None
    n.arp_queue_len_bytes = 0
    if queue is not None:
        skb_queue_purge(n.tbl.net, queue, reason)


def neigh_probe(n: Neighbour) -> None:
    """Ask once more."""
    skb: SkBuff | None = None
    if n.arp_queue is not None:
        skb = skb_peek_tail(n.arp_queue)
        if skb is not None:
            # of its own: the queue may overflow while the question is sent
            skb = skb_clone(skb)
    n.tbl.solicit(n, skb)
    n.probes += 1
    if skb is not None:
        consume_skb(skb)


def neigh_confirm(n: Neighbour) -> None:
    """An upper layer heard from the neighbour: as good as an answer to a question."""
    n.confirmed = n.tbl.kernel.now


# -- the state machine -----------------------------------------------------------------------------------------------------


def neigh_connect(n: Neighbour) -> None:
    n.hh = n.hh_header


def neigh_suspect(n: Neighbour) -> None:
    n.hh = b""


def neigh_max_probes(n: Neighbour) -> int:
    p = n.parms
    return p.ucast_probes + p.app_probes + (p.mcast_reprobes if n.nud_state & NUD_PROBE else p.mcast_probes)


def neigh_rand_reach_time(kernel: Kernel, base: int) -> int:
    """A time between one half and three halves of `base` (ns), in jiffies as Linux draws it."""
    jiffies = base // kernel.tick_nsec
    if jiffies <= 0:
        return 0
    return (kernel.random("neigh").get_random_u32_below(min(jiffies, 0xFFFFFFFF)) + (jiffies >> 1)) * kernel.tick_nsec


def neigh_reachable_time(parms: NeighParms) -> int:
    """How long a confirmation holds; drawn anew for all devices every 300 s."""
    tbl = parms.tbl
    kernel = tbl.kernel
    if kernel.now > tbl.last_rand + NEIGH_RAND_INTERVAL:
        tbl.last_rand = kernel.now
        for p in tbl.parms_list:
            p.reachable_time = neigh_rand_reach_time(kernel, p.base_reachable_time)
    return parms.reachable_time


def neigh_timer_handler(n: Neighbour) -> None:
    kernel = n.tbl.kernel
    now = kernel.now
    parms = n.parms
    state = n.nud_state
    if not state & NUD_IN_TIMER:
        return
    next_expiry = now + NSEC_PER_SEC
    # 1. the time of this state is over
    if state & NUD_REACHABLE:
        reachable_time = neigh_reachable_time(parms)
        if now <= n.confirmed + reachable_time:
            next_expiry = n.confirmed + reachable_time
        elif now <= n.used + parms.delay_probe_time:
            n.nud_state = NUD_DELAY
            n.updated = now
            neigh_suspect(n)
            next_expiry = now + parms.delay_probe_time
        else:
            n.nud_state = NUD_STALE
            n.updated = now
            neigh_suspect(n)
    elif state & NUD_DELAY:
        if now <= n.confirmed + parms.delay_probe_time:
            n.nud_state = NUD_REACHABLE
            n.updated = now
            neigh_connect(n)
            next_expiry = n.confirmed + neigh_reachable_time(parms)
        else:
            n.nud_state = NUD_PROBE
            n.updated = now
            n.probes = 0
            next_expiry = now + max(parms.retrans_time, NEIGH_MIN_DELAY)
    else:
        next_expiry = now + max(parms.retrans_time, NEIGH_MIN_DELAY)
    # 2. asked often enough
    if n.nud_state & (NUD_INCOMPLETE | NUD_PROBE) and n.probes >= neigh_max_probes(n):
        n.nud_state = NUD_FAILED
        neigh_invalidate(n)
        neigh_notify(n)
        return
    # 3. the next look, the next question
    if n.nud_state & NUD_IN_TIMER:
        kernel.mod_timer(n, max(next_expiry, now + NEIGH_MIN_DELAY))
    if n.nud_state != state:
        neigh_notify(n)
    if n.nud_state & (NUD_INCOMPLETE | NUD_PROBE):
        neigh_probe(n)


def neigh_invalidate(n: Neighbour) -> None:
    """Nobody answers: whoever waits is told, packet by packet."""
    n.tbl.stats.res_failed += 1
    n.updated = n.tbl.kernel.now
    # A report may make a packet for the same neighbour (an ICMP error), which starts anew: what it queues must stay.
    queue = n.arp_queue
    n.arp_queue = None
    n.arp_queue_len_bytes = 0
    if queue is not None:
        while True:
            skb = skb_dequeue(queue)
            if skb is None:
                break
            n.tbl.error_report(n, skb)


def neigh_update(n: Neighbour, lladdr: int, new: int, flags: int) -> int:
    """Something was heard of the neighbour, or an administrator says so. `lladdr` -1: the address is not told.

    NEIGH_UPDATE_F_OVERRIDE lets another address replace a valid one; with WEAK_OVERRIDE a connected entry is doubted instead;
    ADMIN may change entries of the states NOARP and PERMANENT. 0, -EPERM or -EINVAL.
    """
    tbl = n.tbl
    kernel = tbl.kernel
    now = kernel.now
    old = n.nud_state
    if n.dead:
        return -EINVAL
    if not flags & NEIGH_UPDATE_F_ADMIN and old & (NUD_NOARP | NUD_PERMANENT):
        return -EPERM
    # 1. the neighbour is to be forgotten
    if not new & NUD_VALID:
        kernel.del_timer(n)
        if old & NUD_CONNECTED:
            neigh_suspect(n)
        neigh_set_state(n, new)
        if old & (NUD_INCOMPLETE | NUD_PROBE) and new & NUD_FAILED:
            neigh_invalidate(n)
        neigh_notify(n)
        return 0
    # 2. which address counts
    if n.dev.addr_len == 0 or (lladdr >= 0 and old & NUD_VALID and lladdr == n.ha):
        lladdr = n.ha
    elif lladdr < 0:
        if not old & NUD_VALID:
            return -EINVAL
        lladdr = n.ha
    changed = lladdr != n.ha or not old & NUD_VALID
    # confirmed even if nothing changes
    if new & NUD_CONNECTED:
        n.confirmed = now
    # 3. a valid entry keeps its address unless it may be overridden, and its state if the news is only "stale"
    if old & NUD_VALID:
        if changed and not flags & NEIGH_UPDATE_F_OVERRIDE:
            if not (flags & NEIGH_UPDATE_F_WEAK_OVERRIDE and old & NUD_CONNECTED):
                return 0
            lladdr = n.ha
            changed = False
            new = NUD_STALE
        elif not changed and new == NUD_STALE and not flags & NEIGH_UPDATE_F_ADMIN:
            new = old
    # 4. write
    if new != old or changed:
        n.updated = now
    if new != old:
        kernel.del_timer(n)
        if new & NUD_PROBE:
            n.probes = 0
        if new & NUD_IN_TIMER:
            kernel.mod_timer(n, now + (neigh_reachable_time(n.parms) if new & NUD_REACHABLE else 0))
        neigh_set_state(n, new)
    if changed:
        n.ha = lladdr
        n.hh_header = dev_hard_header(n.dev, tbl.protocol, lladdr, n.dev.dev_addr)
        if n.hh:
            n.hh = n.hh_header
        if not new & NUD_CONNECTED:
            n.confirmed = now - (n.parms.base_reachable_time << 1)
    if new == old:
        if changed:
            neigh_notify(n)
        return 0
    if new & NUD_CONNECTED:
        neigh_connect(n)
    else:
        neigh_suspect(n)
    neigh_notify(n)
    # 5. what waited for the address goes (Linux looks for the neighbour of each packet's route again, for shapers' sake)
    if not old & NUD_VALID:
        queue = n.arp_queue
        n.arp_queue = None
        n.arp_queue_len_bytes = 0
        if queue is not None:
            while True:
                skb = skb_dequeue(queue)
                if skb is None:
                    break
                neigh_output(n, skb)
    return 0


def neigh_set_state(n: Neighbour, new: int) -> None:
    """neigh_update_gc_list: permanent entries do not count for garbage collection."""
    if not n.dead:
        n.tbl.permanent += (new & NUD_PERMANENT != 0) - (n.nud_state & NUD_PERMANENT != 0)
    n.nud_state = new


def neigh_notify(n: Neighbour) -> None:
    trace = n.tbl.kernel.trace
    if trace.neigh_update:
        trace.fire(
            "neigh:neigh_update",
            {
                "dev": n.dev.name,
                "primary_key": n.primary_key,
                "lladdr": n.ha,
                "nud_state": n.nud_state,
                "probes": n.probes,
                "confirmed": n.confirmed,
                "updated": n.updated,
                "used": n.used,
            },
        )


# -- the table -------------------------------------------------------------------------------------------------------------


def neigh_lookup(tbl: NeighTable, key: int, dev: NetDevice) -> Neighbour | None:
    n = tbl.hash.get(dev.ifindex << 32 | key)
    tbl.stats.lookups += 1
    if n is not None:
        tbl.stats.hits += 1
    return n


def neigh_create(tbl: NeighTable, key: int, dev: NetDevice) -> Neighbour | None:
    """A new entry in its first state, or the one there is. None: the table is full (Linux: -ENOBUFS), or the device has no part
    in the protocol; the packet's drop reason is NEIGH_CREATEFAIL."""
    kernel = tbl.kernel
    now = kernel.now
    entries = len(tbl.hash) - tbl.permanent
    if entries >= tbl.gc_thresh3 or (entries >= tbl.gc_thresh2 and now > tbl.last_flush + NEIGH_FLUSH_INTERVAL):
        if neigh_forced_gc(tbl) == 0 and entries >= tbl.gc_thresh3:
            tbl.stats.table_fulls += 1
            return None
    n = Neighbour(tbl, key, dev, now)
    if tbl.constructor(n) < 0:
        return None
    if n.parms.dead:
        return None
    n.confirmed = now - (n.parms.base_reachable_time << 1)
    # The constructor may have changed the key: all of a loopback device is one neighbour.
    slot = dev.ifindex << 32 | n.primary_key
    found = tbl.hash.get(slot)
    if found is not None:
        return found
    if n.nud_state & NUD_VALID:
        n.hh_header = dev_hard_header(dev, tbl.protocol, n.ha, dev.dev_addr)
        if n.nud_state & NUD_CONNECTED:
            n.hh = n.hh_header
    n.dead = False
    tbl.hash[slot] = n
    tbl.stats.allocs += 1
    if entries + 1 >= tbl.gc_thresh1 and tbl.gc_work.expires < 0:
        kernel.mod_timer(tbl.gc_work, now + (tbl.parms.base_reachable_time >> 1))
    return n


def neigh_remove(n: Neighbour) -> None:
    """neigh_mark_dead and neigh_cleanup_and_release: whoever still holds the entry finds it dead."""
    tbl = n.tbl
    if n.dead:
        return
    tbl.kernel.del_timer(n)
    del tbl.hash[n.dev.ifindex << 32 | n.primary_key]
    tbl.permanent -= n.nud_state & NUD_PERMANENT != 0
    n.dead = True
    n.hh = b""
    n.nud_state = NUD_NOARP if n.nud_state & NUD_VALID else NUD_NONE
    neigh_purge_queue(n, SKB_DROP_REASON_NEIGH_DEAD)
    tbl.stats.destroys += 1


def neigh_forced_gc(tbl: NeighTable) -> int:
    """Room for new entries, down to gc_thresh2: what failed, needs no answer, or has not changed for 5 s and is not being worked
    on. Returns how many went."""
    now = tbl.kernel.now
    tbl.stats.forced_gc_runs += 1
    max_clean = len(tbl.hash) - tbl.permanent - tbl.gc_thresh2
    shrunk = 0
    for n in list(tbl.hash.values()):
        if n.expires >= 0 or n.nud_state & NUD_PERMANENT:
            continue
        state = n.nud_state
        if (
            state == NUD_FAILED
            or state == NUD_NOARP
            or tbl.is_multicast(n.primary_key)
            or n.updated < now - NEIGH_FLUSH_INTERVAL
        ):
            neigh_remove(n)
            shrunk += 1
            if shrunk >= max_clean:
                break
    tbl.last_flush = now
    return shrunk


def neigh_periodic_work(tbl: NeighTable) -> None:
    """Forget what failed, and what nobody has used for gc_stale_time."""
    kernel = tbl.kernel
    now = kernel.now
    tbl.stats.periodic_gc_runs += 1
    if len(tbl.hash) - tbl.permanent < tbl.gc_thresh1:
        return  # neigh_create arms the timer again
    for n in list(tbl.hash.values()):
        state = n.nud_state
        if state & (NUD_PERMANENT | NUD_IN_TIMER):
            continue
        if n.used < n.confirmed <= now:
            n.used = n.confirmed
        if n.expires < 0 and (state == NUD_FAILED or now >= n.used + n.parms.gc_staletime):
            neigh_remove(n)
    if len(tbl.hash) - tbl.permanent >= tbl.gc_thresh1:
        kernel.mod_timer(tbl.gc_work, now + max(tbl.parms.base_reachable_time >> 1, NEIGH_MIN_DELAY))


def neigh_flush_dev(tbl: NeighTable, dev: NetDevice, skip_perm: bool) -> None:
    for n in list(tbl.hash.values()):
        if n.dev is dev and not (skip_perm and n.nud_state & NUD_PERMANENT):
            neigh_remove(n)


def neigh_changeaddr(tbl: NeighTable, dev: NetDevice) -> None:
    """The device has another address: the cached headers are wrong."""
    neigh_flush_dev(tbl, dev, False)


def neigh_carrier_down(tbl: NeighTable, dev: NetDevice) -> None:
    """Whoever was at the other end may not be there when the carrier comes back; permanent entries stay."""
    neigh_flush_dev(tbl, dev, True)


def neigh_ifdown(tbl: NeighTable, dev: NetDevice) -> None:
    """The device is down or gone."""
    neigh_flush_dev(tbl, dev, False)
    neigh_proxy.pneigh_queue_purge(tbl, dev)


def neigh_table_clear(tbl: NeighTable) -> None:
    """The namespace ends: no entry and no timer is left."""
    for n in list(tbl.hash.values()):
        neigh_remove(n)
    tbl.kernel.del_timer(tbl.gc_work)


def neigh_parms_alloc(tbl: NeighTable, dev: NetDevice) -> NeighParms:
    """The settings of a new device: a copy of the defaults."""
    d = tbl.parms
    p = NeighParms(tbl, dev)
    p.mcast_probes = d.mcast_probes
    p.ucast_probes = d.ucast_probes
    p.app_probes = d.app_probes
    p.mcast_reprobes = d.mcast_reprobes
    p.retrans_time = d.retrans_time
    p.base_reachable_time = d.base_reachable_time
    p.delay_probe_time = d.delay_probe_time
    p.gc_staletime = d.gc_staletime
    p.queue_len_bytes = d.queue_len_bytes
    p.proxy_qlen = d.proxy_qlen
    p.proxy_delay = d.proxy_delay
    p.locktime = d.locktime
    p.reachable_time = neigh_rand_reach_time(tbl.kernel, p.base_reachable_time)
    tbl.parms_list.append(p)
    return p


def neigh_parms_release(tbl: NeighTable, parms: NeighParms) -> None:
    parms.dead = True
    if parms in tbl.parms_list:
        tbl.parms_list.remove(parms)


# -- by hand ---------------------------------------------------------------------------------------------------------------


def neigh_add(tbl: NeighTable, key: int, dev: NetDevice, lladdr: int, state: int = NUD_PERMANENT) -> int:
    """`ip neigh replace`: an entry as an administrator wants it. 0, -ENOBUFS or -EINVAL."""
    n = neigh_lookup(tbl, key, dev)
    if n is None:
        n = neigh_create(tbl, key, dev)
        if n is None:
            return -ENOBUFS
    return neigh_update(n, lladdr, state, NEIGH_UPDATE_F_ADMIN | NEIGH_UPDATE_F_OVERRIDE)


def neigh_delete(tbl: NeighTable, key: int, dev: NetDevice) -> int:
    """`ip neigh del`. 0 or -ENOENT."""
    n = neigh_lookup(tbl, key, dev)
    if n is None:
        return -ENOENT
    neigh_update(n, -1, NUD_FAILED, NEIGH_UPDATE_F_ADMIN | NEIGH_UPDATE_F_OVERRIDE)
    neigh_remove(n)
    return 0


# -- devices come and go ---------------------------------------------------------------------------------------------------


class NeighNotifier(NotifierBlock):
    """Forget the neighbours on a device that goes. In Linux each protocol does it for its table (arp_ifdown and the like)."""

    __slots__ = ()

    def notifier_call(self, event: int, data: object) -> int:
        if (event == NETDEV_DOWN or event == NETDEV_UNREGISTER) and isinstance(data, NetDevice):
            tbl = dev_net(data).arp_tbl
            if tbl is not None:
                neigh_ifdown(tbl, data)
        return 0


def neigh_init(kernel: Kernel) -> int:
    """Once per Kernel, after net_dev_init."""
    kernel.netdev_chain.append(NeighNotifier())
    return 0


# -- sysctl ----------------------------------------------------------------------------------------------------------------


USER_HZ: Final = 100  # in which some times are written


class NeighCtl(CtlTable):
    """A setting under net/ipv4/neigh/, in the format of another entry. A write to neigh/default goes to all devices for which that
    setting has not been written (neigh_copy_dflt_parms)."""

    __slots__ = ("format", "parms")

    def __init__(self, parms: NeighParms, format: CtlTable) -> None:
        super().__init__(format.procname, parms, format.field)
        self.format: CtlTable = format
        self.parms: NeighParms = parms

    def stored(self, value: int) -> int | None:
        return self.format.stored(value)

    def shown(self, value: int) -> int:
        return self.format.shown(value)

    def put(self, i: int, value: int) -> None:
        parms = self.parms
        targets = [parms]
        if parms.dev is None:
            for p in parms.tbl.parms_list:
                if p is not parms and self.field not in p.written:
                    targets.append(p)
        elif self.field not in parms.written:
            parms.written.append(self.field)
        for p in targets:
            CtlTable(self.procname, p, self.field).put(i, value)
            if self.field == "base_reachable_time":
                # it takes effect at once, not in five minutes
                p.reachable_time = neigh_rand_reach_time(p.tbl.kernel, p.base_reachable_time)


class UnresQlenCtl(CtlTable):
    """proc_unres_qlen: queue_len_bytes in packets of the usual size."""

    __slots__ = ()

    def stored(self, value: int) -> int | None:
        return value * SKB_TRUESIZE_FRAME if 0 <= value <= INT_MAX // SKB_TRUESIZE_FRAME else None

    def shown(self, value: int) -> int:
        return value // SKB_TRUESIZE_FRAME


def neigh_ctls(parms: NeighParms) -> list[CtlTable]:
    """The files of net/ipv4/neigh/DEV: some of them are two views of one value."""
    hz = parms.tbl.kernel.hz
    formats: list[CtlTable] = [
        CtlTable("mcast_solicit", parms, "mcast_probes", 0),
        CtlTable("ucast_solicit", parms, "ucast_probes", 0),
        CtlTable("app_solicit", parms, "app_probes", 0),
        CtlTable("mcast_resolicit", parms, "mcast_reprobes", 0),
        CtlTime("retrans_time", parms, "retrans_time", USER_HZ, hz),
        CtlTime("retrans_time_ms", parms, "retrans_time", 1000, hz),
        CtlTime("base_reachable_time", parms, "base_reachable_time", 1, hz),
        CtlTime("base_reachable_time_ms", parms, "base_reachable_time", 1000, hz),
        CtlTime("delay_first_probe_time", parms, "delay_probe_time", 1, hz),
        CtlTime("gc_stale_time", parms, "gc_staletime", 1, hz),
        CtlTable("unres_qlen_bytes", parms, "queue_len_bytes", 0),
        UnresQlenCtl("unres_qlen", parms, "queue_len_bytes"),
        CtlTable("proxy_qlen", parms, "proxy_qlen", 0),
        CtlTime("proxy_delay", parms, "proxy_delay", USER_HZ, hz),
        CtlTime("locktime", parms, "locktime", USER_HZ, hz),
    ]
    return [NeighCtl(parms, format) for format in formats]


def neigh_sysctl_register(net: Net, path: str, parms: NeighParms) -> None:
    """Show `parms` under `path` ("net/ipv4/neigh") and the device's name, or "default" with the table's own values."""
    if parms.dev is not None:
        parms.name = parms.dev.name
    entries = neigh_ctls(parms)
    if parms.dev is None:
        tbl = parms.tbl
        entries.append(CtlTable("gc_thresh1", tbl, "gc_thresh1", 0))
        entries.append(CtlTable("gc_thresh2", tbl, "gc_thresh2", 0))
        entries.append(CtlTable("gc_thresh3", tbl, "gc_thresh3", 0))
    register_sysctl(net.sysctl_table, f"{path}/{parms.name}", entries)


def neigh_sysctl_unregister(net: Net, path: str, parms: NeighParms) -> None:
    for entry in neigh_ctls(parms):
        net.sysctl_table.pop(f"{path}/{parms.name}/{entry.procname}", None)
