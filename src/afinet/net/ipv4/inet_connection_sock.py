"""net/ipv4/inet_connection_sock.c: local ports, listening, the requests of a listener, accept, and a connection's end.

bind: inet_csk_get_port. listen: inet_csk_listen_start. A SYN makes a request sock (tcp_conn_request), which
inet_csk_reqsk_queue_hash_add puts into ehash with its timer; the ACK makes a child (tcp_check_req), which
inet_csk_complete_hashdance puts into the accept queue; inet_csk_accept hands it out. inet_csk_destroy_sock is the end of all.

The inlines that arm the retransmit, delayed-ACK and keepalive timers are in tcp_timer.py, where those timers are made. Left
out: the migration of requests between listeners (tcp_migrate_req), fast open's requests. """

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.kernel.timer import TimerList
from afinet.net.core import datagram, stream
from afinet.net.core.flow import Flowi4
from afinet.net.core.request_sock import RequestSock, RequestSockQueue
from afinet.net.core.sock import (
    SK_FORCE_REUSE,
    SOCK_BINDPORT_LOCK,
    SOCK_DEAD,
    SOCK_RCU_FREE,
    Sock,
    SockCommon,
    lock_sock,
    release_sock,
    sk_dst_reset,
    sk_setup_caps,
    sk_sleep,
    sock_flag,
    sock_intr_errno,
    sock_inuse_add,
    sock_orphan,
    sock_put,
    sock_rcvtimeo,
    sock_reset_flag,
    sock_set_flag,
)
from afinet.net.ipv4 import inet_hashtables, ip_output, ip_sockglue, route, tcp, tcp_output
from afinet.net.ipv4.inet_sock import InetConnectionSock, InetConnectionSockAfOps, InetRequestSock
from afinet.net.ipv4.tcp_inline import inet_csk_delack_init
from afinet.net.ipv4.tcp_sock import TcpRequestSock, TcpSock, tcp_clone_cold
from afinet.security import security
from afinet.uapi.errno import EADDRINUSE, EAGAIN, EINVAL
from afinet.uapi.eventpoll import EPOLLIN, EPOLLRDNORM
from afinet.uapi.fcntl import O_NONBLOCK
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.snmp import IPSTATS_MIB_OUTNOROUTES, LINUX_MIB_TCPTIMEOUTS
from afinet.uapi.sockaddr import pack_sockaddr_in
from afinet.uapi.tcp import TCP_CLOSE, TCP_LISTEN, TCP_NEW_SYN_RECV, TCP_SYN_RECV, TCP_TIME_WAIT

if TYPE_CHECKING:
    from afinet.kernel.wait import Kiocb
    from afinet.net.core.dst import DstEntry
    from afinet.net.ipv4.inet_hashtables import InetBind2Bucket, InetBindBucket

ICSK_SYNACK_RETRIES_MIN: Final = 2


def inet_csk_init_af_ops(sk: InetConnectionSock) -> InetConnectionSockAfOps:
    """icsk_af_ops of a sock that was initialised."""
    ops = sk.icsk_af_ops
    assert ops is not None
    return ops


# -- bind ------------------------------------------------------------------------------------------------------------------


def inet_bind_conflict(sk: InetConnectionSock, sk2: SockCommon, relax: bool, reuseport_ok: bool) -> bool:
    """Whether `sk` may not have the port of `sk2`, the addresses being the same."""
    if sk is sk2:
        return False
    dev = sk.sk_bound_dev_if
    dev2 = sk2.sk_bound_dev_if
    if dev and dev2 and dev != dev2:
        return False
    shares = sk.sk_reuseport and sk2.sk_reuseport and sk.sk_reuseport_cb is None and _same_user(sk, sk2)
    if sk.sk_reuse and sk2.sk_reuse and sk2.sk_state != TCP_LISTEN:
        # an automatic bind does not take by SO_REUSEADDR what SO_REUSEPORT socks of the same user have
        return not relax or (not reuseport_ok and shares)
    return not (reuseport_ok and shares)


def _same_user(sk: Sock, sk2: SockCommon) -> bool:
    """SO_REUSEPORT shares among one user's socks; a TIME_WAIT sock is nobody's."""
    return sk2.sk_state == TCP_TIME_WAIT or (isinstance(sk2, Sock) and sk2.sk_uid == sk.sk_uid)


def _bucket_conflict(sk: InetConnectionSock, tb2: InetBind2Bucket, relax: bool, reuseport_ok: bool) -> bool:
    owner = tb2.owners
    while owner is not None:
        if inet_bind_conflict(sk, owner, relax, reuseport_ok):
            return True
        owner = owner.sk_bind_next
    return False


def inet_use_bhash2_on_bind(sk: InetConnectionSock) -> bool:
    """Bound to one address: only its owners, and those of any address, are in the way."""
    return sk.inet_rcv_saddr != 0


def inet_bhash2_addr_any_conflict(sk: InetConnectionSock, port: int, relax: bool, reuseport_ok: bool) -> bool:
    """Whether an owner of `port` at any address is in the way of one address."""
    tb2 = inet_hashtables.inet_bind2_bucket_find(inet_hashtables.hashinfo_of(sk), sk.sk_net, port, 0)
    return tb2 is not None and _bucket_conflict(sk, tb2, relax, reuseport_ok)


def inet_csk_bind_conflict(
    sk: InetConnectionSock, tb: InetBindBucket, tb2: InetBind2Bucket | None, relax: bool, reuseport_ok: bool
) -> bool:
    """Whether an owner of the port is in the way of `sk`."""
    if sk.inet_rcv_saddr != 0:
        return tb2 is not None and _bucket_conflict(sk, tb2, relax, reuseport_ok)
    each = tb.bhash2
    while each is not None:
        if _bucket_conflict(sk, each, relax, reuseport_ok):
            return True
        each = each.bhash_next
    return False


def sk_reuseport_match(tb: InetBindBucket, sk: InetConnectionSock) -> bool:
    """All owners share by SO_REUSEPORT with one user, `sk` too: no need to ask each."""
    if tb.fastreuseport <= 0 or not sk.sk_reuseport or sk.sk_reuseport_cb is not None or tb.fastuid != sk.sk_uid:
        return False
    if tb.fastreuseport == inet_hashtables.FASTREUSEPORT_ANY:
        return True
    return tb.fast_rcv_saddr == sk.inet_rcv_saddr or tb.fast_rcv_saddr == 0 or sk.inet_rcv_saddr == 0


def inet_csk_update_fastreuse(tb: InetBindBucket, sk: InetConnectionSock) -> None:
    """Keep what the owners have in common, `sk` about to become one."""
    reuse = 1 if sk.sk_reuse and sk.sk_state != TCP_LISTEN else 0
    if tb.owners == 0:
        tb.fastreuse = reuse
        if sk.sk_reuseport:
            tb.fastreuseport = inet_hashtables.FASTREUSEPORT_ANY
            tb.fastuid = sk.sk_uid
            tb.fast_rcv_saddr = sk.inet_rcv_saddr
        else:
            tb.fastreuseport = 0
        return
    if not reuse:
        tb.fastreuse = 0
    if not sk.sk_reuseport:
        tb.fastreuseport = 0
    elif not sk_reuseport_match(tb, sk):
        # the owners differed so far: from now on only this one's address and user may pass without asking
        tb.fastreuseport = inet_hashtables.FASTREUSEPORT_STRICT
        tb.fastuid = sk.sk_uid
        tb.fast_rcv_saddr = sk.inet_rcv_saddr


def inet_csk_find_open_port(sk: InetConnectionSock) -> int:
    """A port that bind(0) may have, 0 if there is none: odd ones first, since connect() prefers even ones; with SO_REUSEADDR
    the lower half of the range first, which leaves ports to those who cannot share."""
    net = sk.sk_net
    hinfo = inet_hashtables.hashinfo_of(sk)
    stream = sk.kernel.random("ports")
    relax = False
    attempt_half = 1 if sk.sk_reuse == 1 else 0
    while True:
        _, low, high = inet_hashtables.inet_sk_get_local_port_range(sk)
        high += 1
        if high - low < 4:
            attempt_half = 0
        if attempt_half:
            half = low + (high - low >> 2 << 1)
            if attempt_half == 1:
                high = half
            else:
                low = half
        remaining = high - low
        if remaining > 1:
            remaining &= ~1
        offset = stream.get_random_u32_below(remaining) | 1
        while True:
            port = low + offset
            for _i in range(0, remaining, 2):
                if port >= high:
                    port -= remaining
                if not inet_hashtables.inet_is_local_reserved_port(net, port) and _port_open(sk, hinfo, port, relax):
                    return port
                port += 2
            offset -= 1
            if offset & 1:
                break
        if attempt_half == 1:
            attempt_half = 2
            continue
        if net.ipv4.sysctl_ip_autobind_reuse and not relax:
            relax = True
            continue
        return 0


def _port_open(sk: InetConnectionSock, hinfo: inet_hashtables.InetHashinfo, port: int, relax: bool) -> bool:
    net = sk.sk_net
    tb = inet_hashtables.inet_bind_bucket_find(hinfo, net, port)
    if tb is None:
        return True
    if inet_use_bhash2_on_bind(sk) and inet_bhash2_addr_any_conflict(sk, port, relax, False):
        return False
    tb2 = inet_hashtables.inet_bind2_bucket_find(hinfo, net, port, sk.inet_rcv_saddr)
    return not inet_csk_bind_conflict(sk, tb, tb2, relax, False)


def inet_csk_get_port(sk: InetConnectionSock, snum: int) -> int:
    """proto.get_port: own local port `snum`, any free one for 0. 0 or -EADDRINUSE."""
    net = sk.sk_net
    hinfo = inet_hashtables.hashinfo_of(sk)
    port = snum
    found_port = False
    if not port:
        port = inet_csk_find_open_port(sk)
        if not port:
            return -EADDRINUSE
        found_port = True
    tb = inet_hashtables.inet_bind_bucket_find(hinfo, net, port)
    tb2: InetBind2Bucket | None = None
    if tb is not None:
        tb2 = inet_hashtables.inet_bind2_bucket_find(hinfo, net, port, sk.inet_rcv_saddr)
        if not found_port:
            reuse = sk.sk_reuse and sk.sk_state != TCP_LISTEN
            shared = tb.bhash2 is not None and (
                sk.sk_reuse == SK_FORCE_REUSE or (tb.fastreuse > 0 and reuse) or sk_reuseport_match(tb, sk)
            )
            if not shared:
                if inet_use_bhash2_on_bind(sk) and inet_bhash2_addr_any_conflict(sk, port, True, True):
                    return -EADDRINUSE
                if inet_csk_bind_conflict(sk, tb, tb2, True, True):
                    return -EADDRINUSE
    else:
        tb = inet_hashtables.inet_bind_bucket_create(hinfo, net, port)
    if tb2 is None:
        tb2 = inet_hashtables.inet_bind2_bucket_create(hinfo, tb, sk.inet_rcv_saddr)
    inet_csk_update_fastreuse(tb, sk)
    if sk.icsk_bind2_hash is None:
        inet_hashtables.inet_bind_hash(sk, tb2, port)
    return 0


# -- listen and accept -----------------------------------------------------------------------------------------------------


def inet_csk_accept_queue(sk: InetConnectionSock) -> RequestSockQueue:
    """The accept queue, made when first needed (Linux has it in the struct)."""
    queue = sk.icsk_accept_queue
    if queue is None:
        queue = RequestSockQueue()
        sk.icsk_accept_queue = queue
    return queue


def sk_acceptq_is_full(sk: Sock) -> bool:
    """One more than the backlog fits, as ever in BSD and Linux."""
    return sk.sk_ack_backlog > sk.sk_max_ack_backlog


def inet_csk_reqsk_queue_len(sk: InetConnectionSock) -> int:
    return 0 if sk.icsk_accept_queue is None else sk.icsk_accept_queue.qlen


def inet_csk_reqsk_queue_is_full(sk: InetConnectionSock) -> bool:
    return inet_csk_reqsk_queue_len(sk) > sk.sk_max_ack_backlog


def inet_csk_listen_start(sk: InetConnectionSock) -> int:
    """CLOSE -> LISTEN. The port is checked once more: between bind() and now another sock may have started to listen. 0 or
    -errno."""
    inet_csk_accept_queue(sk)
    sk.sk_ack_backlog = 0
    inet_csk_delack_init(sk)
    tcp.tcp_set_state(sk, TCP_LISTEN)
    err = sk.sk_prot.get_port(sk, sk.inet_num)
    if err == 0:
        sk.inet_sport = sk.inet_num
        sk_dst_reset(sk)
        err = sk.sk_prot.hash(sk)
        if err == 0:
            return 0
    tcp.tcp_set_state(sk, TCP_CLOSE)
    return err


def inet_csk_listen_stop(sk: InetConnectionSock) -> None:
    """Close the connections that nobody accepted. Requests in ehash end by themselves: they find their listener gone."""
    queue = sk.icsk_accept_queue
    if queue is None:
        return
    while queue.accept_queue:
        req = queue.accept_queue.pop(0)
        sk.sk_ack_backlog -= 1
        child = req.sk
        if child is not None:
            child.sk_refcnt += 1
            inet_child_forget(sk, req, cast(TcpSock, child))
            reqsk_put(req)
            sock_put(child)


def inet_child_forget(sk: InetConnectionSock, req: RequestSock, child: TcpSock) -> None:
    """Reset a connection that was never accepted."""
    child.sk_prot.disconnect(child, O_NONBLOCK)
    sock_orphan(child)
    child.sk_prot.orphan_count += 1
    inet_csk_destroy_sock(child)


def inet_csk_wait_for_connect(sk: InetConnectionSock, iocb: Kiocb, timeo: int) -> int:
    """Exclusive: a new connection wakes one of those who wait for it."""
    if timeo == 0:
        return -EAGAIN
    if iocb.ki_signal:
        return sock_intr_errno(timeo)
    return iocb.wait(sk_sleep(sk), EPOLLIN, True)


def inet_csk_accept(sk: InetConnectionSock, flags: int, iocb: Kiocb) -> tuple[int, Sock | None]:
    """proto.accept: (0, the oldest established connection), or -EINVAL, -EAGAIN, -EINTR, -EIOCBQUEUED. `flags` are the
    file's."""
    lock_sock(sk)
    err = -EINVAL
    newsk: Sock | None = None
    if sk.sk_state == TCP_LISTEN:
        queue = inet_csk_accept_queue(sk)
        if not queue.accept_queue:
            err = inet_csk_wait_for_connect(sk, iocb, sock_rcvtimeo(sk, iocb, flags & O_NONBLOCK != 0))
        else:
            req = queue.accept_queue.pop(0)
            sk.sk_ack_backlog -= 1
            newsk = req.sk
            req.sk = None
            reqsk_put(req)
            err = 0
    release_sock(sk)
    return err, newsk


def inet_csk_listen_poll(sk: InetConnectionSock) -> int:
    queue = sk.icsk_accept_queue
    return EPOLLIN | EPOLLRDNORM if queue is not None and queue.accept_queue else 0


# -- requests --------------------------------------------------------------------------------------------------------------


class ReqskTimer(TimerList):
    """req->rsk_timer."""

    __slots__ = ("req",)

    def __init__(self, req: TcpRequestSock) -> None:
        super().__init__()
        self.req: TcpRequestSock = req

    def function(self) -> None:
        reqsk_timer_handler(self.req)


def inet_reqsk_alloc(sk_listener: Sock, attach_listener: bool) -> TcpRequestSock | None:
    """A request of `sk_listener`, made through its protocol's rsk_prot, with one reference. `attach_listener` holds the
    listener."""
    ops = sk_listener.sk_prot.rsk_prot
    if ops is None:
        return None
    req = ops.reqsk_alloc(sk_listener)
    if attach_listener:
        sk_listener.sk_refcnt += 1
    else:
        req.rsk_listener = None
    req.sk_state = TCP_NEW_SYN_RECV
    return req


def reqsk_put(req: SockCommon) -> None:
    """Let a request go; the last reference lets the listener go too (reqsk_free)."""
    req.sk_refcnt -= 1
    if req.sk_refcnt == 0:
        reqsk_free(cast(RequestSock, req))


def reqsk_free(req: RequestSock) -> None:
    listener = req.rsk_listener
    req.rsk_listener = None
    req.rsk_timer = None
    ops = req.sk_prot.rsk_prot
    if ops is not None:
        ops.destructor(cast(TcpRequestSock, req))
    if listener is not None:
        sock_put(listener)


def tcp_reqsk_timeout(req: TcpRequestSock) -> int:
    """ns until the SYN-ACK is sent again: doubled each time."""
    return min(req.timeout << req.num_timeout, req.sk_net.ipv4.sysctl_tcp_rto_max_ms * 1_000_000)


def inet_csk_reqsk_queue_hash_add(sk: InetConnectionSock, req: TcpRequestSock) -> bool:
    """reqsk_queue_hash_req: into ehash, with its timer and two references more (the hash's and the timer's)."""
    if not inet_hashtables.inet_ehash_insert(req, None):
        return False
    timer = ReqskTimer(req)
    req.rsk_timer = timer
    req.sk_refcnt += 2
    sk.kernel.mod_timer(timer, sk.kernel.now + tcp_reqsk_timeout(req))
    queue = inet_csk_accept_queue(sk)
    queue.young += 1
    queue.qlen += 1
    return True


def reqsk_queue_removed(queue: RequestSockQueue, req: RequestSock) -> None:
    if req.num_timeout == 0:
        queue.young -= 1
    queue.qlen -= 1


def reqsk_queue_unlink(req: RequestSock) -> bool:
    """Out of ehash and off the timer. Says whether it was hashed."""
    found = False
    if req.sk_hash >= 0:
        inet_hashtables.ehash_del(inet_hashtables.hashinfo_of(req), req)
        found = True
    timer = req.rsk_timer
    if timer is not None and req.sk_net.kernel.del_timer(timer):
        reqsk_put(req)
    return found


def inet_csk_reqsk_queue_drop(sk: Sock | None, req: RequestSock) -> bool:
    """Give a request up. Says whether it was still hashed."""
    unlinked = reqsk_queue_unlink(req)
    if unlinked:
        listener = cast(InetConnectionSock, sk)
        reqsk_queue_removed(inet_csk_accept_queue(listener), req)
        reqsk_put(req)
    return unlinked


def inet_csk_reqsk_queue_drop_and_put(sk: Sock | None, req: RequestSock) -> None:
    inet_csk_reqsk_queue_drop(sk, req)
    reqsk_put(req)


def syn_ack_recalc(req: InetRequestSock, max_syn_ack_retries: int, rskq_defer_accept: int) -> tuple[bool, bool]:
    """(give up, send the SYN-ACK again). With TCP_DEFER_ACCEPT a request whose ACK came is kept until data come, and its SYN-
    ACK is sent again only at the end of that time, for a last chance."""
    if not rskq_defer_accept:
        return req.num_timeout >= max_syn_ack_retries, True
    expire = req.num_timeout >= max_syn_ack_retries and (not req.acked or req.num_timeout >= rskq_defer_accept)
    return expire, not req.acked or req.num_timeout >= rskq_defer_accept - 1


def reqsk_timer_handler(req: TcpRequestSock) -> None:
    """The SYN-ACK was not answered in time."""
    listener = cast(InetConnectionSock, req.rsk_listener)
    if listener.sk_state != TCP_LISTEN:
        inet_csk_reqsk_queue_drop_and_put(listener, req)
        return
    net = listener.sk_net
    queue = inet_csk_accept_queue(listener)
    retries = listener.icsk_syn_retries or net.ipv4.sysctl_tcp_synack_retries
    # Half of the room is for young requests: when old ones are about to fill it, they get fewer tries.
    if queue.qlen << 1 > max(8, listener.sk_max_ack_backlog):
        young = queue.young << 1
        while retries > ICSK_SYNACK_RETRIES_MIN:
            if queue.qlen < young:
                break
            retries -= 1
            young <<= 1
    expire, resend = syn_ack_recalc(req, retries, queue.rskq_defer_accept)
    net.net_statistics[LINUX_MIB_TCPTIMEOUTS] += 1
    if not expire and (not resend or tcp_output.tcp_rtx_synack(cast(TcpSock, listener), req) == 0 or req.acked):
        if req.num_timeout == 0:
            queue.young -= 1
        req.num_timeout += 1
        timer = req.rsk_timer
        if timer is not None:
            net.kernel.mod_timer(timer, net.kernel.now + tcp_reqsk_timeout(req))
        return
    inet_csk_reqsk_queue_drop_and_put(listener, req)


def inet_csk_reqsk_queue_add(sk: InetConnectionSock, req: RequestSock, child: TcpSock) -> Sock | None:
    """Into the accept queue. None if the listener closed meanwhile: the child is reset then."""
    if sk.sk_state != TCP_LISTEN:
        inet_child_forget(sk, req, child)
        return None
    req.sk = child
    queue = inet_csk_accept_queue(sk)
    queue.accept_queue.append(req)
    sk.sk_ack_backlog += 1
    return child


def inet_csk_complete_hashdance(sk: InetConnectionSock, child: TcpSock, req: RequestSock, own_req: bool) -> Sock | None:
    """The request ends, its child goes into the accept queue. None if the child was not needed: it is dead then."""
    if own_req:
        # the child took the request's place in ehash, so that reqsk_queue_unlink found nothing hashed there
        timer = req.rsk_timer
        if timer is not None and req.sk_net.kernel.del_timer(timer):
            reqsk_put(req)
        reqsk_queue_removed(inet_csk_accept_queue(sk), req)
        if inet_csk_reqsk_queue_add(sk, req, child) is not None:
            return child
    sock_put(child)
    return None


# -- life of a connection --------------------------------------------------------------------------------------------------


def inet_csk_clone_lock(sk: InetConnectionSock, req: InetRequestSock) -> TcpSock:
    """The child of listener `sk`: its options, the addresses of the request, and nothing of the listener's state (sk_clone)."""
    child = cast(TcpSock, sk.sk_prot.sk_prot_alloc(sk.sk_net, sk.sk_family))
    parent = cast(TcpSock, sk)
    tcp.tcp_init_sock_values(child)
    # sk_clone
    child.sk_prot_creator = parent.sk_prot_creator
    child.sk_kern_sock = parent.sk_kern_sock
    child.sk_net_refcnt = parent.sk_net_refcnt
    if child.sk_net_refcnt:
        sock_inuse_add(child.sk_net, 1)
    child.sk_type = parent.sk_type
    child.sk_protocol = parent.sk_protocol
    child.sk_flags = parent.sk_flags
    sock_reset_flag(child, SOCK_RCU_FREE)
    sock_reset_flag(child, SOCK_DEAD)
    child.sk_reuse = parent.sk_reuse
    child.sk_reuseport = parent.sk_reuseport
    child.sk_bound_dev_if = parent.sk_bound_dev_if
    child.sk_userlocks = parent.sk_userlocks & ~SOCK_BINDPORT_LOCK
    child.sk_uid = parent.sk_uid
    child.sk_txrehash = parent.sk_txrehash
    child.sk_priority = parent.sk_priority
    child.sk_rcvbuf = parent.sk_rcvbuf
    child.sk_sndbuf = parent.sk_sndbuf
    child.sk_rcvlowat = parent.sk_rcvlowat
    child.sk_pacing_rate = parent.sk_pacing_rate
    child.sk_pacing_status = parent.sk_pacing_status
    child.sk_peek_off = parent.sk_peek_off
    child.sk_incoming_cpu = 0
    datagram.sk_clone_cold(child, parent)
    child.sk_wmem_alloc = 1
    child.sk_refcnt = 2  # the socket-to-be's, and that of the code that makes it (tcp_child_process lets it go)
    child.sk_prot.sockets_allocated += 1
    if child.kernel.security_hooks:
        security.security_sk_clone(parent, child)
    # inet_csk_clone_lock
    child.sk_state = TCP_SYN_RECV
    child.inet_daddr = req.inet_daddr
    child.inet_dport = req.inet_dport
    child.inet_rcv_saddr = req.inet_rcv_saddr
    child.inet_saddr = req.inet_rcv_saddr
    child.inet_num = req.inet_num
    child.inet_sport = parent.inet_sport
    child.sk_mark = req.ir_mark
    child.sk_bound_dev_if = req.sk_bound_dev_if
    # inet_sock
    child.inet_flags = parent.inet_flags
    child.uc_ttl = parent.uc_ttl
    child.tos = parent.tos
    child.min_ttl = parent.min_ttl
    child.pmtudisc = parent.pmtudisc
    child.uc_index = parent.uc_index
    if parent.inet_cold is not None and parent.inet_cold.local_port_range:
        ip_sockglue.inet_cold(child).local_port_range = parent.inet_cold.local_port_range
    # inet_connection_sock
    child.icsk_af_ops = parent.icsk_af_ops
    child.icsk_rto_min = parent.icsk_rto_min
    child.icsk_rto_max = parent.icsk_rto_max
    child.icsk_syn_retries = parent.icsk_syn_retries
    child.icsk_ack_pingpong = parent.icsk_ack_pingpong
    child.icsk_ca_ops = parent.icsk_ca_ops
    child.icsk_ca_setsockopt = parent.icsk_ca_setsockopt
    # tcp_sock
    child.rx_opt.user_mss = parent.rx_opt.user_mss
    child.window_clamp = parent.window_clamp
    child.scaling_ratio = parent.scaling_ratio
    child.nonagle = parent.nonagle
    tcp_clone_cold(child, parent)
    if child.kernel.security_hooks:
        security.security_inet_csk_clone(child, req)
    return child


def inet_csk_destroy_sock(sk: InetConnectionSock) -> None:
    """Free an orphan in CLOSE: the last of the protocol's references goes."""
    kernel = sk.kernel
    if sk.sk_state != TCP_CLOSE or not sock_flag(sk, SOCK_DEAD) or sk.sk_hash >= 0:
        kernel.warn_on("inet_csk_destroy_sock")
    if sk.inet_num and sk.icsk_bind2_hash is None:
        kernel.warn_on("inet_csk_destroy_sock: a port without a bucket")
    sk.sk_prot.destroy(sk)
    stream.sk_stream_kill_queues(sk)
    sk.sk_prot.orphan_count -= 1
    sock_put(sk)


def inet_csk_prepare_for_destroy_sock(sk: InetConnectionSock) -> None:
    sock_set_flag(sk, SOCK_DEAD)
    sk.sk_prot.orphan_count += 1


def inet_csk_prepare_forced_close(sk: InetConnectionSock) -> None:
    """Before tcp_done on a child that nobody knows yet."""
    sock_put(sk)
    inet_csk_prepare_for_destroy_sock(sk)
    sk.inet_num = 0


def inet_csk_addr2sockaddr(sk: InetConnectionSock) -> bytes:
    """The peer's address, packed."""
    return pack_sockaddr_in(sk.inet_daddr, sk.inet_dport)


# -- routes ----------------------------------------------------------------------------------------------------------------


def ip_sock_rt_tos(sk: InetConnectionSock) -> int:
    """inet_sk_dscp: the bits of TOS that choose a route."""
    return sk.tos & 0xFC


def inet_csk_route_req(sk: InetConnectionSock, fl4: Flowi4, req: InetRequestSock) -> DstEntry | None:
    """The route of a SYN-ACK, None if there is none."""
    fl4.flowi4_oif = req.sk_bound_dev_if
    fl4.flowi4_mark = req.ir_mark
    fl4.flowi4_dscp = ip_sock_rt_tos(sk)
    fl4.flowi4_proto = IPPROTO_TCP
    fl4.flowi4_flags = ip_output.inet_sk_flowi_flags(sk)
    opt = req.ireq_opt
    fl4.daddr = opt.faddr if opt is not None and opt.srr else req.inet_daddr
    fl4.saddr = req.inet_rcv_saddr
    fl4.fl4_dport = req.inet_dport
    fl4.fl4_sport = req.inet_num
    fl4.flowi4_uid = sk.sk_uid
    net = req.sk_net
    err, rt = route.ip_route_output_flow(net, fl4, sk)
    if err or rt is None:
        net.ip_statistics[IPSTATS_MIB_OUTNOROUTES] += 1
        return None
    if opt is not None and opt.is_strictroute and rt.rt_uses_gateway:
        net.ip_statistics[IPSTATS_MIB_OUTNOROUTES] += 1
        return None
    return rt


def inet_csk_route_child_sock(sk: InetConnectionSock, newsk: InetConnectionSock, req: InetRequestSock) -> DstEntry | None:
    """The route of the child of a request."""
    return inet_csk_route_req(sk, Flowi4(), req)


def inet_csk_rebuild_route(sk: InetConnectionSock) -> DstEntry | None:
    """Look the route of a connection up again."""
    opt = sk.inet_opt
    daddr = opt.faddr if opt is not None and opt.srr else sk.inet_daddr
    fl4 = Flowi4(
        daddr, sk.inet_saddr, sk.sk_bound_dev_if, sk.sk_protocol, ip_sock_rt_tos(sk), 0, sk.sk_mark,
        ip_output.inet_sk_flowi_flags(sk), sk.inet_dport, sk.inet_sport,
    )  # fmt: skip
    fl4.flowi4_uid = sk.sk_uid
    err, rt = route.ip_route_output_flow(sk.sk_net, fl4, sk)
    if err or rt is None:
        return None
    sk_setup_caps(sk, rt)
    return rt


def inet_csk_update_pmtu(sk: InetConnectionSock, mtu: int) -> DstEntry | None:
    """A router said that packets over `mtu` do not pass: tell the route; the route to use now, None if it is gone."""
    dst = sk.sk_dst_cache
    if dst is not None and dst.obsolete and not dst.check(0):
        sk_dst_reset(sk)
        dst = None
    if dst is None:
        dst = inet_csk_rebuild_route(sk)
        if dst is None:
            return None
    dst.update_pmtu(sk, None, mtu, True)
    dst = sk.sk_dst_cache
    if dst is not None and dst.obsolete and not dst.check(0):
        sk_dst_reset(sk)
        dst = None
    if dst is None:
        dst = inet_csk_rebuild_route(sk)
    return dst
