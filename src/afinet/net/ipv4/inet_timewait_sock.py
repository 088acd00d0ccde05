"""net/ipv4/inet_timewait_sock.c: the small sock that stands in for a closed connection, and its timer.

tcp_time_wait (tcp_minisocks.py) -> inet_twsk_alloc -> inet_twsk_hashdance_schedule: the small sock takes the four-tuple and the
port of the full one and lives until its timer (inet_twsk_kill) or until a connection reuses it (inet_twsk_deschedule_put).

References as in Linux: one for the four-tuple, one for the port, one for the timer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from afinet._mypyc import mypyc_attr
from afinet.kernel.time import NSEC_PER_SEC
from afinet.kernel.timer import TimerList
from afinet.net.core.net_namespace import Net
from afinet.net.core.sock import Proto, SockCommon
from afinet.net.ipv4 import inet_hashtables
from afinet.net.ipv4.inet_sock import INET_FLAGS_TRANSPARENT, inet_test_bit
from afinet.net.ipv4.tcp_sock import TcpSock, TcpTimewaitSock
from afinet.uapi.snmp import LINUX_MIB_TIMEWAITED, LINUX_MIB_TIMEWAITKILLED
from afinet.uapi.tcp import TCP_TIME_WAIT

if TYPE_CHECKING:
    from afinet.net.ipv4.inet_sock import InetConnectionSock


@mypyc_attr(allow_interpreted_subclasses=True)
class TimewaitSockOps:
    """struct timewait_sock_ops (proto.twsk_prot): how a protocol's TIME_WAIT socks are made and unmade."""

    __slots__ = ()

    def twsk_alloc(self, net: Net, family: int, prot: Proto) -> TcpTimewaitSock:
        """The slab's allocation."""
        return TcpTimewaitSock(net, family, prot)

    def twsk_destructor(self, tw: TcpTimewaitSock) -> None:
        """The last reference is gone."""


class TwTimer(TimerList):
    """tw->tw_timer."""

    __slots__ = ("tw",)

    def __init__(self, tw: TcpTimewaitSock) -> None:
        super().__init__()
        self.tw: TcpTimewaitSock = tw

    def function(self) -> None:
        """tw_timer_handler."""
        inet_twsk_kill(self.tw)


def inet_twsk(sk: SockCommon) -> TcpTimewaitSock:
    return cast(TcpTimewaitSock, sk)


def inet_twsk_put(tw: TcpTimewaitSock) -> None:
    tw.sk_refcnt -= 1
    if tw.sk_refcnt == 0:
        ops = tw.sk_prot.twsk_prot
        if ops is not None:
            ops.twsk_destructor(tw)
        tw.tw_timer = None


def inet_twsk_bind_unhash(tw: TcpTimewaitSock) -> None:
    """Give the port back."""
    tb = tw.tw_tb
    tb2 = tw.tw_tb2
    if tb is None or tb2 is None:
        return
    hinfo = inet_hashtables.hashinfo_of(tw)
    inet_hashtables.sk_del_bind_node(tw, tb2)
    tw.tw_tb = None
    tw.tw_tb2 = None
    inet_hashtables.inet_bind2_bucket_destroy(hinfo, tb2)
    inet_hashtables.inet_bind_bucket_destroy(hinfo, tb)
    tw.sk_refcnt -= 1


def inet_twsk_kill(tw: TcpTimewaitSock) -> None:
    """Out of the tables; the timer's reference goes last."""
    if tw.sk_hash >= 0:
        inet_hashtables.ehash_del(inet_hashtables.hashinfo_of(tw), tw)
    tw.sk_refcnt -= 1
    inet_twsk_bind_unhash(tw)
    tw.sk_net.ipv4.tw_count -= 1
    inet_twsk_put(tw)


def inet_twsk_alloc(sk: TcpSock, state: int) -> TcpTimewaitSock | None:
    """The small sock of `sk`, None over tcp_max_tw_buckets. `state` is TCP_FIN_WAIT2 or TCP_TIME_WAIT."""
    net = sk.sk_net
    ops = sk.sk_prot_creator.twsk_prot
    if ops is None or net.ipv4.tw_count >= net.ipv4.sysctl_tcp_max_tw_buckets:
        return None
    tw = ops.twsk_alloc(net, sk.sk_family, sk.sk_prot_creator)
    net.ipv4.tw_count += 1
    tw.sk_refcnt = 0  # inet_twsk_hashdance_schedule gives it its references
    tw.sk_state = TCP_TIME_WAIT
    tw.tw_substate = state
    tw.inet_daddr = sk.inet_daddr
    tw.inet_rcv_saddr = sk.inet_rcv_saddr
    tw.sk_bound_dev_if = sk.sk_bound_dev_if
    tw.tw_tos = sk.tos
    tw.inet_num = sk.inet_num
    tw.tw_sport = sk.inet_sport
    tw.inet_dport = sk.inet_dport
    tw.sk_reuse = sk.sk_reuse
    tw.sk_reuseport = sk.sk_reuseport
    tw.tw_transparent = inet_test_bit(sk, INET_FLAGS_TRANSPARENT)
    return tw


def inet_twsk_hashdance_schedule(tw: TcpTimewaitSock, sk: TcpSock, timeo: int) -> None:
    """Put `tw` where `sk` is in the tables, and start its timer (ns)."""
    _bind_dance(tw, sk)
    hinfo = inet_hashtables.hashinfo_of(sk)
    if sk.sk_hash >= 0:
        tw.sk_hash = sk.sk_hash
        inet_hashtables.inet_unhash(sk)
        inet_hashtables.ehash_add(hinfo, tw)
    tw.sk_refcnt += 3
    __inet_twsk_schedule(tw, timeo, False)


def _bind_dance(tw: TcpTimewaitSock, sk: InetConnectionSock) -> None:
    """`tw` becomes an owner of the port as well; `sk` gives it up when it is destroyed."""
    tb2 = sk.icsk_bind2_hash
    if tb2 is not None:
        tw.tw_tb = tb2.tb
        tw.tw_tb2 = tb2
        inet_hashtables.sk_add_bind_node(tw, tb2)


def __inet_twsk_schedule(tw: TcpTimewaitSock, timeo: int, rearm: bool) -> None:
    """(Re)start the timer. A short-lived one counts as killed, the others as timed out, when they begin, as in Linux."""
    net = tw.sk_net
    if not rearm:
        tw.tw_timeout = timeo
        tw.tw_timer = TwTimer(tw)
        net.net_statistics[LINUX_MIB_TIMEWAITKILLED if timeo <= 4 * NSEC_PER_SEC else LINUX_MIB_TIMEWAITED] += 1
    timer = tw.tw_timer
    if timer is not None and (not rearm or timer.timer_pending()):
        net.kernel.mod_timer(timer, net.kernel.now + timeo)


def inet_twsk_reschedule(tw: TcpTimewaitSock, timeo: int) -> None:
    __inet_twsk_schedule(tw, timeo, True)


def inet_twsk_deschedule_put(tw: TcpTimewaitSock) -> None:
    """End it now."""
    timer = tw.tw_timer
    if timer is not None and tw.sk_net.kernel.del_timer(timer):
        inet_twsk_kill(tw)


def inet_twsk_purge(net: Net) -> None:
    """The namespace goes away: end all its TIME_WAIT socks."""
    hinfo = net.kernel.inet_hashinfo
    if hinfo is None:
        return
    doomed: list[TcpTimewaitSock] = []
    for first in hinfo.ehash.values():
        sk: SockCommon | None = first
        while sk is not None:
            if sk.sk_state == TCP_TIME_WAIT and sk.sk_net is net:
                doomed.append(inet_twsk(sk))
            sk = sk.sk_hash_next
    for tw in doomed:
        inet_twsk_deschedule_put(tw)
