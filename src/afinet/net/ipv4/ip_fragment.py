"""net/ipv4/ip_fragment.c and inet_fragment.c: reassembly of received fragments (RFC 791, 3.2; RFC 5722's rule; RFC 3168, 5.3).

ip_defrag finds the queue of a datagram by (source, destination, identification, protocol, who asks), made at its first fragment;
ip_frag_queue puts the fragment in its place; when none is missing, ip_frag_reasm makes one packet of them. A fragment that overlaps
others without being contained in them ends the whole queue; one that is contained is a duplicate and ignored. After ipfrag_time the
queue goes (ip_expire) and, if the first fragment had come, its sender is told.

Bounds: ipfrag_high_thresh bytes of truesize a namespace, over which nothing is queued until queues end; ipfrag_max_dist, how many
fragments of the same sender may come between two of one datagram.

Output fragmentation is in ip_output.py, as in Linux. Left out: conntrack's users, VRFs.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from afinet.kernel.sysctl import LONG_MAX, CtlBounded, CtlTable, CtlTime, register_sysctl
from afinet.kernel.time import NSEC_PER_SEC
from afinet.kernel.timer import TimerList
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_DUP_FRAG,
    SKB_DROP_REASON_FRAG_REASM_TIMEOUT,
    SKB_DROP_REASON_FRAG_TOO_FAR,
    SKB_DROP_REASON_NOMEM,
    SKB_DROP_REASON_NOT_SPECIFIED,
)
from afinet.net.core.net_namespace import PernetOperations, register_pernet_subsys
from afinet.net.core.skbuff import (
    CHECKSUM_NONE,
    SkBuff,
    consume_skb,
    kfree_skb_reason,
    pskb_trim,
    skb_orphan,
    skb_pieces,
    skb_truesize,
)
from afinet.net.ipv4 import icmp, route, rtable
from afinet.net.ipv4.inet_sock import IPSKB_FRAG_COMPLETE, IPSKB_FRAG_PMTU
from afinet.net.ipv4.inetpeer import InetPeer, inet_getpeer_v4
from afinet.uapi.icmp import ICMP_EXC_FRAGTIME, ICMP_TIME_EXCEEDED
from afinet.uapi.rtnetlink import RTN_LOCAL
from afinet.uapi.snmp import (
    IPSTATS_MIB_REASM_OVERLAPS,
    IPSTATS_MIB_REASMFAILS,
    IPSTATS_MIB_REASMOKS,
    IPSTATS_MIB_REASMREQDS,
    IPSTATS_MIB_REASMTIMEOUT,
)
from afinet.wire import ip

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net

IP_DEFRAG_LOCAL_DELIVER: Final = 0
IP_DEFRAG_CALL_RA_CHAIN: Final = 1

INET_FRAG_FIRST_IN: Final = 1
INET_FRAG_LAST_IN: Final = 2
INET_FRAG_COMPLETE: Final = 4

# What inet_frag_queue_insert answers.
IPFRAG_OK: Final = 0
IPFRAG_DUP: Final = 1
IPFRAG_OVERLAP: Final = 2

# ip_frag_ecn_table: what the reassembled packet's ECN field is or'ed with, by the set (1 << ECN) of its fragments'. 255: fragments
# with and without ECN do not belong to one packet.
_ECN_TABLE: Final = (0, 0, 0, 255, 0, 255, 0, 255, 0, 255, 3, 255, 3, 255, 3, 255)


class FqDir:
    """struct fqdir: the reassembly queues of one namespace."""

    __slots__ = ("high_thresh", "low_thresh", "max_dist", "mem", "net", "queues", "timeout")

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self.high_thresh: int = 4 * 1024 * 1024
        self.low_thresh: int = 3 * 1024 * 1024
        self.timeout: int = 30 * NSEC_PER_SEC
        self.max_dist: int = 64
        self.mem: int = 0  # truesize queued
        self.queues: dict[tuple[int, int, int, int, int], Ipq] = {}


class FragRun:
    """A gapless run of fragments: Linux's rb-tree node with its chain."""

    __slots__ = ("end", "offset", "skbs")

    def __init__(self, offset: int, end: int, skb: SkBuff) -> None:
        self.offset: int = offset
        self.end: int = end
        self.skbs: list[SkBuff] = [skb]


class Ipq(TimerList):
    """struct ipq: the fragments of one datagram, and the timer that ends it."""

    __slots__ = (
        "ecn",
        "flags",
        "fqdir",
        "key",
        "len",
        "max_df_size",
        "max_size",
        "meat",
        "mem",
        "peer",
        "rid",
        "runs",
        "starts",
        "user",
    )

    def __init__(self, fqdir: FqDir, key: tuple[int, int, int, int, int], user: int, peer: InetPeer | None) -> None:
        super().__init__()
        self.fqdir: FqDir = fqdir
        self.key: tuple[int, int, int, int, int] = key
        self.user: int = user
        self.peer: InetPeer | None = peer
        self.rid: int = 0 if peer is None else peer.rid
        self.flags: int = 0
        self.ecn: int = 0  # 1 << ECN of each fragment
        self.len: int = 0  # of the whole payload, as far as known
        self.meat: int = 0  # bytes that are here
        self.max_size: int = 0  # longest fragment, IP header included
        self.max_df_size: int = 0  # longest with DF
        self.mem: int = 0
        self.runs: list[FragRun] = []  # by offset
        self.starts: list[int] = []  # their offsets, to bisect

    def function(self) -> None:
        ip_expire(self)


def frag_kill(q: Ipq) -> None:
    """inet_frag_kill: out of the table, no more timer."""
    fqdir = q.fqdir
    fqdir.net.kernel.del_timer(q)
    if not q.flags & INET_FRAG_COMPLETE:
        q.flags |= INET_FRAG_COMPLETE
        del fqdir.queues[q.key]


def frag_release(q: Ipq, reason: int) -> None:
    """Drop the fragments that are queued."""
    net = q.fqdir.net
    runs = q.runs
    q.runs = []
    q.starts = []
    q.fqdir.mem -= q.mem
    q.mem = 0
    for run in runs:
        for skb in run.skbs:
            kfree_skb_reason(net, skb, reason)


def ip_expire(q: Ipq) -> None:
    """The timer: the datagram did not become whole in time. RFC 792: tell its sender if its first fragment is here."""
    net = q.fqdir.net
    frag_kill(q)
    net.ip_statistics[IPSTATS_MIB_REASMFAILS] += 1
    net.ip_statistics[IPSTATS_MIB_REASMTIMEOUT] += 1
    if q.flags & INET_FRAG_FIRST_IN:
        head = q.runs[0].skbs[0]
        dev = net.dev_by_index.get(head.skb_iif)
        if dev is not None:
            head.dev = dev
            _, tos, _, _, _, _, _, _, saddr, daddr = ip.parse(head.head, head.network_header)
            reason = route.ip_route_input_noref(head, daddr, saddr, tos, dev)
            rt = head.dst
            if reason == 0 and isinstance(rt, rtable.Rtable):
                # Only an end host says this: a router that reassembles for its own purposes does not.
                if q.user == IP_DEFRAG_LOCAL_DELIVER or rt.rt_type == RTN_LOCAL:
                    icmp.icmp_send(head, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0)
    frag_release(q, SKB_DROP_REASON_FRAG_REASM_TIMEOUT)


def ip_defrag(net: Net, skb: SkBuff, user: int) -> SkBuff | None:
    """Take a fragment, `data` at its IP header. The whole packet once it is complete, in the same state; else None."""
    net.ip_statistics[IPSTATS_MIB_REASMREQDS] += 1
    fqdir = net.ipv4.fqdir
    if fqdir is None or fqdir.high_thresh == 0 or fqdir.mem > fqdir.high_thresh:
        net.ip_statistics[IPSTATS_MIB_REASMFAILS] += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NOMEM)
        return None
    version_ihl, tos, _, id, frag_off, _, protocol, _, saddr, daddr = ip.parse(skb.head, skb.network_header)
    key = (saddr, daddr, id, protocol, user)
    q = fqdir.queues.get(key)
    if q is None:
        peer = inet_getpeer_v4(net, saddr) if fqdir.max_dist else None
        q = Ipq(fqdir, key, user, peer)
        fqdir.queues[key] = q
        net.kernel.mod_timer(q, net.kernel.now + fqdir.timeout)
    return ip_frag_queue(net, q, skb, (version_ihl & 15) * 4, tos, frag_off)


def ip_frag_too_far(q: Ipq) -> bool:
    """Whether so many fragments of this sender came since the last of this datagram that identifications may have wrapped."""
    peer = q.peer
    if peer is None:
        return False
    start = q.rid
    peer.rid += 1
    q.rid = peer.rid
    return len(q.runs) > 0 and q.rid - start > q.fqdir.max_dist


def ip_frag_reinit(net: Net, q: Ipq) -> None:
    """Begin the datagram anew."""
    net.ip_statistics[IPSTATS_MIB_REASMFAILS] += 1
    net.kernel.mod_timer(q, net.kernel.now + q.fqdir.timeout)
    frag_release(q, SKB_DROP_REASON_FRAG_TOO_FAR)
    q.flags = 0
    q.len = 0
    q.meat = 0
    q.max_size = 0
    q.max_df_size = 0
    q.ecn = 0


def ip_frag_discard(net: Net, q: Ipq, skb: SkBuff) -> SkBuff | None:
    """discard_qp: the fragment contradicts the others, nothing of this datagram can be trusted."""
    frag_kill(q)
    net.ip_statistics[IPSTATS_MIB_REASMFAILS] += 1
    kfree_skb_reason(net, skb, SKB_DROP_REASON_NOT_SPECIFIED)
    frag_release(q, SKB_DROP_REASON_NOT_SPECIFIED)
    return None


def ip_frag_queue(net: Net, q: Ipq, skb: SkBuff, ihl: int, tos: int, frag_off: int) -> SkBuff | None:
    if not skb.ip_flags & IPSKB_FRAG_COMPLETE and ip_frag_too_far(q):
        ip_frag_reinit(net, q)
    offset = (frag_off & ip.IP_OFFSET) << 3
    size = skb.len - ihl
    end = offset + size
    if not frag_off & ip.IP_MF:
        # The final fragment: no bits beyond its end, no other end.
        if end < q.len or (q.flags & INET_FRAG_LAST_IN and end != q.len):
            return ip_frag_discard(net, q, skb)
        q.flags |= INET_FRAG_LAST_IN
        q.len = end
    else:
        # All others count eight bytes; what is over is cut off.
        end &= ~7
        if end > q.len:
            if q.flags & INET_FRAG_LAST_IN:
                return ip_frag_discard(net, q, skb)
            q.len = end
    if end <= offset:
        return ip_frag_discard(net, q, skb)
    pskb_trim(skb, ihl + end - offset)
    placed = inet_frag_queue_insert(q, skb, offset, end)
    if placed == IPFRAG_DUP:
        kfree_skb_reason(net, skb, SKB_DROP_REASON_DUP_FRAG)
        return None
    if placed == IPFRAG_OVERLAP:
        net.ip_statistics[IPSTATS_MIB_REASM_OVERLAPS] += 1
        return ip_frag_discard(net, q, skb)
    q.meat += end - offset
    q.ecn |= 1 << (tos & 3)
    q.mem += skb.truesize
    q.fqdir.mem += skb.truesize
    if offset == 0:
        q.flags |= INET_FRAG_FIRST_IN
    fragsize = end - offset + ihl
    if fragsize > q.max_size:
        q.max_size = fragsize
    if frag_off & ip.IP_DF and fragsize > q.max_df_size:
        q.max_df_size = fragsize
    if q.flags == INET_FRAG_FIRST_IN | INET_FRAG_LAST_IN and q.meat == q.len:
        return ip_frag_reasm(net, q, skb)
    skb.dst = None
    skb_orphan(skb)
    return None


def inet_frag_queue_insert(q: Ipq, skb: SkBuff, offset: int, end: int) -> int:
    """Put a fragment in its place. RFC 5722: one that overlaps ends the datagram; Linux calls it a duplicate instead when a
    gapless run that is here contains it."""
    runs = q.runs
    if not runs:
        runs.append(FragRun(offset, end, skb))
        q.starts.append(offset)
        return IPFRAG_OK
    last = runs[-1]
    if last.end < end:
        # the common case: at the end
        if offset < last.end:
            return IPFRAG_OVERLAP
        if offset == last.end:
            last.skbs.append(skb)
            last.end = end
        else:
            runs.append(FragRun(offset, end, skb))
            q.starts.append(offset)
        return IPFRAG_OK
    i = bisect_right(q.starts, offset)
    if i > 0:
        before = runs[i - 1]
        if offset < before.end:
            return IPFRAG_DUP if end <= before.end else IPFRAG_OVERLAP
    if i < len(runs) and end > runs[i].offset:
        return IPFRAG_OVERLAP
    runs.insert(i, FragRun(offset, end, skb))
    q.starts.insert(i, offset)
    return IPFRAG_OK


def ip_frag_reasm(net: Net, q: Ipq, last: SkBuff) -> SkBuff | None:
    """Make one packet of all fragments, with the first one's header and the route of the one that came last."""
    frag_kill(q)
    ecn = _ECN_TABLE[q.ecn]
    first = q.runs[0].skbs[0]
    head = first.head
    nh = first.network_header
    version_ihl, tos, _, id, _, ttl, protocol, _, saddr, daddr = ip.parse(head, nh)
    ihl = (version_ihl & 15) * 4
    tot_len = ihl + q.len
    if ecn == 255 or tot_len > 0xFFFF:
        net.ip_statistics[IPSTATS_MIB_REASMFAILS] += 1
        frag_release(q, SKB_DROP_REASON_NOT_SPECIFIED)
        return None
    # A packet that may not be fragmented, but came in fragments, must not leave us longer than they were.
    df = 0
    flags = first.ip_flags
    if q.max_df_size == q.max_size:
        flags |= IPSKB_FRAG_PMTU
        df = ip.IP_DF
    header = ip.emit(tos | ecn, tot_len, id, df, ttl, protocol, saddr, daddr, head[nh + ip.IP_HLEN : nh + ihl])
    pieces = [header]
    for run in q.runs:
        for skb in run.skbs:
            pieces += skb_pieces(skb, ((skb.head[skb.network_header] & 15) << 2), skb.len)
    data = b"".join(pieces)
    whole = SkBuff(data, None, 0, skb_truesize(len(data)))
    whole.transport_header = ihl
    whole.dev = last.dev
    whole.dst = last.dst
    whole.protocol = first.protocol
    whole.pkt_type = last.pkt_type
    whole.skb_iif = last.skb_iif
    whole.mark = last.mark
    whole.tstamp = last.tstamp
    whole.ip_summed = CHECKSUM_NONE
    whole.opt = first.opt
    whole.ip_flags = flags
    whole.frag_max_size = max(q.max_df_size, q.max_size)
    net.ip_statistics[IPSTATS_MIB_REASMOKS] += 1
    runs = q.runs
    q.runs = []
    q.starts = []
    q.fqdir.mem -= q.mem
    q.mem = 0
    for run in runs:
        for skb in run.skbs:
            consume_skb(skb)
    return whole


# -- registration ----------------------------------------------------------------------------------------------------------


class Ip4FragsOps(PernetOperations):
    """ip4_frags_ops."""

    __slots__ = ()

    def init(self, net: Net) -> int:
        fqdir = FqDir(net)
        net.ipv4.fqdir = fqdir
        register_sysctl(
            net.sysctl_table,
            "net/ipv4",
            [
                CtlBounded("ipfrag_high_thresh", fqdir, "high_thresh", "low_thresh", "", 0, LONG_MAX),
                CtlBounded("ipfrag_low_thresh", fqdir, "low_thresh", "", "high_thresh", 0, LONG_MAX),
                CtlTime("ipfrag_time", fqdir, "timeout", 1, net.kernel.hz),
                CtlTable("ipfrag_max_dist", fqdir, "max_dist", 0),
            ],
        )
        return 0

    def exit(self, net: Net) -> None:
        fqdir = net.ipv4.fqdir
        if fqdir is None:
            return
        for q in list(fqdir.queues.values()):
            frag_kill(q)
            frag_release(q, SKB_DROP_REASON_NOT_SPECIFIED)
        net.ipv4.fqdir = None


def ipfrag_init(kernel: Kernel) -> int:
    return register_pernet_subsys(kernel, Ip4FragsOps())
