"""net/ipv4/tcp.c: TCP as the socket layer sees it: states, sending, receiving, closing.

tcp_sendmsg cuts the program's bytes into segments on the write queue and pushes them (tcp_output.py); tcp_recvmsg takes from
the receive queue what tcp_input.py put there; tcp_set_state is the one place where a state changes. Payload is shared, not
copied: a segment's frags are slices of what was written, and what is read are the pieces that came in.

Calls that would wait answer -EIOCBQUEUED (kernel/wait.py) and are made again; how far they got is in the Kiocb. In other rooms:
options (tcp_sockopt.py), TCP_INFO (tcp_info.py). Left out: fast open, TCP_ZEROCOPY_RECEIVE, repair, ULP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_USEC
from afinet.net.core import datagram, stream, timestamping
from afinet.net.core.drop_reason import SKB_DROP_REASON_TCP_CLOSE
from afinet.net.core.net_namespace import Net, PernetOperations, register_pernet_subsys
from afinet.net.core.skbuff import (
    CHECKSUM_PARTIAL,
    SkbTxTstamp,
    SkBuff,
    skb_queue_purge,
    skb_unlink,
)
from afinet.net.core.sock import (
    SOCK_BINDPORT_LOCK,
    SOCK_DEAD,
    SOCK_DONE,
    SOCK_LINGER,
    SOCK_URGINLINE,
    SOCK_USE_WRITE_QUEUE,
    SOCK_ZEROCOPY,
    Sock,
    SockCommon,
    __release_sock,
    lock_sock,
    release_sock,
    sk_dst_reset,
    sk_error_report,
    sk_forced_mem_schedule,
    sk_stream_moderate_sndbuf,
    sk_wmem_schedule,
    sock_flag,
    sock_hold,
    sock_orphan,
    sock_put,
    sock_rcvlowat,
    sock_reset_flag,
    sock_set_flag,
    sock_sndtimeo,
)
from afinet.net.ipv4 import (
    af_inet,
    inet_connection_sock,
    inet_hashtables,
    inet_timewait_sock,
    ip_output,
    ip_sockglue,
    tcp_ack,
    tcp_cong,
    tcp_cubic,
    tcp_fragment,
    tcp_ipv4,
    tcp_minisocks,
    tcp_output,
    tcp_rate,
    tcp_rcvq,
    tcp_recvmsg,
    tcp_sockopt,
    tcp_timer,
)
from afinet.net.ipv4.inet_sock import (
    INET_FLAGS_DEFER_CONNECT,
    inet_test_bit,
)
from afinet.net.ipv4.tcp_inline import (
    TCP_CHRONO_BUSY,
    TCP_CHRONO_SNDBUF_LIMITED,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_MIN_MSS,
    TCP_MSS_DEFAULT,
    TCP_NAGLE_CORK,
    TCP_NAGLE_PUSH,
    TCP_RTO_MIN,
    TCP_TIMEOUT_INIT,
    TCP_TIMEWAIT_LEN,
    TCP_URG_VALID,
    TSQF_THROTTLED,
    forced_push,
    inet_csk_delack_init,
    tcp_fin_time,
    tcp_linger2,
    tcp_out_of_memory,
    tcp_rtx_and_write_queues_empty,
    tcp_rtx_queue_empty,
    tcp_scaling_ratio_init,
    tcp_space_from_win,
    tcp_too_many_orphans,
    tcp_wmem_free_skb,
)
from afinet.net.ipv4.tcp_sock import (
    TCPHDR_ACK,
    TCPHDR_FIN,
    TCPHDR_PSH,
    TcpOptionsReceived,
    TcpRequestSock,
    TcpSock,
    after,
    tcp_cold,
    tcp_write_queue,
)
from afinet.uapi.errno import EAGAIN, ECONNABORTED, ECONNRESET, EINVAL, EIOCBQUEUED, ENOENT, ENOIOCTLCMD, EPIPE
from afinet.uapi.eventpoll import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
    EPOLLRDNORM,
    EPOLLWRNORM,
)
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.net_tstamp import SOF_TIMESTAMPING_TX_ACK, SOF_TIMESTAMPING_TX_RECORD_MASK
from afinet.uapi.snmp import (
    LINUX_MIB_TCPABORTONCLOSE,
    LINUX_MIB_TCPABORTONDATA,
    LINUX_MIB_TCPABORTONLINGER,
    LINUX_MIB_TCPABORTONMEMORY,
    LINUX_MIB_TCPAUTOCORKING,
    LINUX_MIB_TCPMEMORYPRESSURES,
    LINUX_MIB_TCPMEMORYPRESSURESCHRONO,
    TCP_MIB_ATTEMPTFAILS,
    TCP_MIB_CURRESTAB,
    TCP_MIB_ESTABRESETS,
)
from afinet.uapi.sockaddr import pack_s32, parse_cmsgs
from afinet.uapi.socket import (
    MSG_DONTWAIT,
    MSG_EOR,
    MSG_MORE,
    MSG_OOB,
    MSG_ZEROCOPY,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SOCK_NOSPACE,
    SOCK_RCVBUF_LOCK,
    SOL_SOCKET,
)
from afinet.uapi.sockios import SIOCATMARK, SIOCINQ, SIOCOUTQ, SIOCOUTQNSD
from afinet.uapi.tcp import (
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_NEW_SYN_RECV,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
    TCPF_CLOSE_WAIT,
    TCPF_CLOSING,
    TCPF_ESTABLISHED,
    TCPF_FIN_WAIT1,
    TCPF_FIN_WAIT2,
    TCPF_LAST_ACK,
    TCPF_SYN_RECV,
    TCPF_SYN_SENT,
    TCP_CA_Open,
)

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.kernel.wait import Kiocb
    from afinet.net.socket import MsgHdr

_SKB_BASE: Final = 832  # skb_truesize(MAX_TCP_HEADER): what a segment is charged beside its payload
_MAX_SKB_FRAGS: Final = 17
_PIECE: Final = 8192
_FRAG_SIZE: Final = 32768  # a page fragment: Linux asks for memory for so much at a time, and here that matters where it is limited
_FLUSH_BACKLOG: Final = 16  # segments made in one call before the backlog is looked at

TCP_CONG_DEFAULT: Final = "cubic"  # CONFIG_DEFAULT_TCP_CONG

CLOSE_NEW: Final = 0  # iocb.ki_state of a close()
CLOSE_LINGERING: Final = 1


# -- boot ------------------------------------------------------------------------------------------------------------------


def tcp_init_mem() -> list[int]:
    """tcp_mem, in pages: of a machine with 16 GiB. One list a Kernel, which every namespace shows."""
    return [188_130, 250_842, 376_260]


class TcpSkOps(PernetOperations):
    """tcp_sk_ops."""

    def init(self, net: Net) -> int:
        prot = tcp_ipv4.tcp_prot(net.kernel)
        mem = prot.sysctl_mem
        if mem is not None:
            net.ipv4.sysctl_tcp_mem = mem
        init_net = net.kernel.init_net
        if init_net is not None and net is not init_net:
            net.ipv4.tcp_congestion_control = init_net.ipv4.tcp_congestion_control
            return 0
        return tcp_cong.tcp_set_default_congestion_control(net, TCP_CONG_DEFAULT)

    def exit(self, net: Net) -> None:
        inet_timewait_sock.inet_twsk_purge(net)


def tcp_init(kernel: Kernel) -> None:
    tcp_cong.tcp_cong_init(kernel)
    tcp_cubic.cubictcp_register(kernel)
    tcp_output.tcp_tasklet_init(kernel)
    register_pernet_subsys(kernel, TcpSkOps())


def tcp_init_sock(sk: TcpSock) -> None:
    """A new sock of any family's TCP."""
    tcp_init_sock_values(sk)
    tcp_cong.tcp_assign_congestion_control(sk)
    sock_set_flag(sk, SOCK_USE_WRITE_QUEUE)
    ipv4 = sk.sk_net.ipv4
    sk.sk_sndbuf = ipv4.sysctl_tcp_wmem[1]
    sk.sk_rcvbuf = ipv4.sysctl_tcp_rmem[1]
    sk.sk_prot.sockets_allocated += 1


def tcp_init_sock_values(sk: TcpSock) -> None:
    """What a new sock and a new child begin with alike. Queues and timers are made when first used."""
    ipv4 = sk.sk_net.ipv4
    sk.icsk_rto = TCP_TIMEOUT_INIT
    sk.icsk_rto_max = ipv4.sysctl_tcp_rto_max_ms * NSEC_PER_MSEC
    sk.icsk_rto_min = ipv4.sysctl_tcp_rto_min_us * NSEC_PER_USEC
    sk.mdev_us = TCP_TIMEOUT_INIT // NSEC_PER_USEC
    sk.snd_cwnd = TCP_INIT_CWND
    # The pipe has a bubble until the first ACK at least.
    sk.app_limited = 0xFFFFFFFF
    sk.rate_app_limited = True
    sk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    sk.mss_cache = TCP_MSS_DEFAULT
    sk.reordering = ipv4.sysctl_tcp_reordering
    sk.rack_reo_wnd_steps = 1
    tcp_scaling_ratio_init(sk)


# -- states ----------------------------------------------------------------------------------------------------------------


def tcp_set_state(sk: Sock, state: int) -> None:
    """The one setter of a full sock's state: counters, and the end of its names when it closes."""
    oldstate = sk.sk_state
    stats = sk.sk_net.tcp_statistics
    if state == TCP_ESTABLISHED:
        if oldstate != TCP_ESTABLISHED:
            stats[TCP_MIB_CURRESTAB] += 1
    elif state == TCP_CLOSE_WAIT:  # counts as established
        if oldstate == TCP_SYN_RECV:
            stats[TCP_MIB_CURRESTAB] += 1
    else:
        if state == TCP_CLOSE:
            if oldstate == TCP_CLOSE_WAIT or oldstate == TCP_ESTABLISHED:
                stats[TCP_MIB_ESTABRESETS] += 1
            sk.sk_prot.unhash(sk)
            tp = cast(TcpSock, sk)
            if tp.icsk_bind2_hash is not None and not tp.sk_userlocks & SOCK_BINDPORT_LOCK:
                inet_hashtables.inet_put_port(tp)
        if oldstate == TCP_ESTABLISHED or oldstate == TCP_CLOSE_WAIT:
            stats[TCP_MIB_CURRESTAB] -= 1
    # The state changes after the sock is unhashed, so that no closed sock is found in the tables.
    af_inet.inet_sk_state_store(sk, state)


def tcp_need_reset(state: int) -> bool:
    """States in which RFC 9293's ABORT sends a RST."""
    return (TCPF_ESTABLISHED | TCPF_CLOSE_WAIT | TCPF_FIN_WAIT1 | TCPF_FIN_WAIT2 | TCPF_SYN_RECV) >> state & 1 == 1


def tcp_close_state(sk: TcpSock) -> bool:
    """Go where CLOSE leads from here; whether a FIN has to be sent."""
    state = sk.sk_state
    if state == TCP_ESTABLISHED or state == TCP_SYN_RECV:
        tcp_set_state(sk, TCP_FIN_WAIT1)
        return True
    if state == TCP_CLOSE_WAIT:
        tcp_set_state(sk, TCP_LAST_ACK)
        return True
    if state == TCP_FIN_WAIT1 or state == TCP_FIN_WAIT2 or state == TCP_LAST_ACK or state == TCP_CLOSING:
        return False
    tcp_set_state(sk, TCP_CLOSE)
    return False


# -- memory ----------------------------------------------------------------------------------------------------------------


def tcp_enter_memory_pressure(sk: Sock) -> None:
    prot = sk.sk_prot
    if prot.memory_pressure == 0:
        prot.memory_pressure = sk.kernel.now or 1
        sk.sk_net.net_statistics[LINUX_MIB_TCPMEMORYPRESSURES] += 1


def tcp_leave_memory_pressure(sk: Sock) -> None:
    prot = sk.sk_prot
    since = prot.memory_pressure
    if since:
        prot.memory_pressure = 0
        sk.sk_net.net_statistics[LINUX_MIB_TCPMEMORYPRESSURESCHRONO] += (sk.kernel.now - since) // NSEC_PER_MSEC


def tcp_notsent_lowat(sk: TcpSock) -> int:
    cold = sk.tcp_cold
    return (cold.notsent_lowat if cold is not None else 0) or sk.sk_net.ipv4.sysctl_tcp_notsent_lowat


def tcp_stream_memory_free(sk: TcpSock, wake: int) -> bool:
    """TCP_NOTSENT_LOWAT: what is written but not sent is below the mark (below half of it to wake a writer)."""
    return ((sk.write_seq - sk.snd_nxt) & 0xFFFFFFFF) << wake < tcp_notsent_lowat(sk)


def tcp_check_oom(sk: TcpSock, shift: int) -> bool:
    """An orphan has to go: too many of them, or no memory."""
    return tcp_too_many_orphans(sk, sk.sk_prot.orphan_count << shift) or tcp_out_of_memory(sk)


# -- sending ---------------------------------------------------------------------------------------------------------------


def tcp_xmit_size_goal(sk: TcpSock, mss_now: int, large_allowed: bool) -> int:
    """How much payload a segment should get: several packets' worth where the device cuts them."""
    if not large_allowed or not tcp_output.tcp_can_tso(sk):
        return mss_now
    goal = tcp_fragment.tcp_bound_to_half_wnd(sk, tcp_output.tcp_gso_max_size(sk))
    segs = goal // mss_now
    if segs > sk.sk_gso_max_segs:
        segs = sk.sk_gso_max_segs
    return segs * mss_now if segs > 1 else mss_now


def tcp_send_mss(sk: TcpSock, flags: int) -> tuple[int, int]:
    """(MSS now, size of a segment to aim at)."""
    mss_now = tcp_fragment.tcp_current_mss(sk)
    return mss_now, tcp_xmit_size_goal(sk, mss_now, not flags & MSG_OOB)


def tcp_mark_push(tp: TcpSock, skb: SkBuff) -> None:
    skb.tcp_flags |= TCPHDR_PSH
    tp.pushed_seq = tp.write_seq


def tcp_mark_urg(tp: TcpSock, flags: int) -> None:
    if flags & MSG_OOB:
        tp.snd_up = tp.write_seq


def tcp_should_autocork(sk: TcpSock, skb: SkBuff, size_goal: int) -> bool:
    """A small segment waits while one before it is still in the device queues: more may be written meanwhile."""
    return (
        skb.len < size_goal
        and sk.sk_net.ipv4.sysctl_tcp_autocorking != 0
        and not tcp_rtx_queue_empty(sk)
        and sk.sk_wmem_alloc > skb.truesize
        and not skb.eor
    )


def tcp_push(sk: TcpSock, flags: int, mss_now: int, nonagle: int, size_goal: int) -> None:
    """The end of a write: send what may be sent."""
    skb = sk.sk_write_queue.tail
    if skb is None:
        return
    if not flags & MSG_MORE or forced_push(sk):
        tcp_mark_push(sk, skb)
    tcp_mark_urg(sk, flags)
    if tcp_should_autocork(sk, skb, size_goal):
        if not sk.tsq_flags & TSQF_THROTTLED:
            sk.sk_net.net_statistics[LINUX_MIB_TCPAUTOCORKING] += 1
            sk.tsq_flags |= TSQF_THROTTLED
        return
    if flags & MSG_MORE:
        nonagle = TCP_NAGLE_CORK
    tcp_output.__tcp_push_pending_frames(sk, mss_now, nonagle)


def tcp_stream_alloc_skb(sk: TcpSock, force_schedule: bool) -> SkBuff | None:
    """An empty segment, its memory reserved. None: no memory. `force_schedule`: a connection with nothing queued always gets
    one."""
    if sk.sk_forward_alloc < _SKB_BASE and not sk_wmem_schedule(sk, _SKB_BASE):
        if not force_schedule:
            sk.sk_prot.enter_memory_pressure(sk)
            sk_stream_moderate_sndbuf(sk)
            return None
        sk_forced_mem_schedule(sk, _SKB_BASE)
    skb = SkBuff(b"", None, 0, _SKB_BASE)
    skb.ip_summed = CHECKSUM_PARTIAL
    return skb


def tcp_skb_entail(sk: TcpSock, skb: SkBuff) -> None:
    """Put a new segment at the end of the write queue."""
    skb.seq = sk.write_seq
    skb.end_seq = skb.seq
    skb.tcp_flags = TCPHDR_ACK
    tcp_output.tcp_add_write_queue_tail(sk, skb)
    sk.sk_wmem_queued += skb.truesize
    sk.sk_forward_alloc -= skb.truesize
    if sk.nonagle & TCP_NAGLE_PUSH:
        sk.nonagle &= ~TCP_NAGLE_PUSH
    tcp_output.tcp_slow_start_after_idle_check(sk)


def tcp_wmem_schedule(sk: TcpSock, copy: int) -> int:
    """How many of `copy` bytes may be queued."""
    if copy > _FRAG_SIZE and (sk.sk_memcg is not None or sk.sk_prot.memory_pressure):
        copy = _FRAG_SIZE
    if sk.sk_forward_alloc >= copy or sk_wmem_schedule(sk, copy):
        return copy
    # Something must go on even when the protocol has no memory left: tcp_wmem[0] is every sock's.
    left = sk.sk_net.ipv4.sysctl_tcp_wmem[0] - sk.sk_wmem_queued
    if left > 0:
        sk_forced_mem_schedule(sk, min(left, copy))
    return min(copy, sk.sk_forward_alloc)


def skb_add_data(skb: SkBuff, piece: bytes) -> None:
    """Append payload to a segment that was not sent yet; small pieces are joined when there are too many (Linux fills
    pages)."""
    frags = skb.frags
    if frags is None:
        skb.frags = [piece]
    elif len(frags) < _MAX_SKB_FRAGS:
        skb.frags = [*frags, piece]
    else:
        skb.frags = [b"".join([*frags, piece])]
    n = len(piece)
    skb.data_len += n
    skb.len += n
    skb.truesize += n


def skb_add_user_data(skb: SkBuff, data: bytes, offset: int, n: int) -> None:
    """Append `n` bytes of the program's, from `offset` on: the one time that they are copied. In pieces of _PIECE, since whoever
    cuts the segment later copies no more than what is left of the piece that it cuts."""
    while n > _PIECE:
        skb_add_data(skb, data[offset : offset + _PIECE])
        offset += _PIECE
        n -= _PIECE
    skb_add_data(skb, data[offset : offset + n])


def tcp_remove_empty_skb(sk: TcpSock) -> None:
    """A segment was made, and then there was no memory for its data."""
    skb = sk.sk_write_queue.tail
    if skb is not None and skb.seq == skb.end_seq and not skb.tcp_flags & TCPHDR_FIN:
        skb_unlink(sk.sk_write_queue, skb)
        if tcp_rtx_and_write_queues_empty(sk):
            tcp_output.tcp_chrono_stop(sk, TCP_CHRONO_BUSY)
        tcp_wmem_free_skb(sk, skb)


def tcp_sendmsg(sk: TcpSock, msg: MsgHdr, size: int) -> int:
    """proto.sendmsg: bytes taken, or -errno. MSG_SPLICE_PAGES needs nothing special: the program's bytes are shared in any
    case."""
    lock_sock(sk)
    ret = tcp_sendmsg_locked(sk, msg, size)
    while ret == -EIOCBQUEUED and (sk.sk_backlog is not None or sk.tsq_flags & ~3):
        # What came in meanwhile may be what the call is going to wait for.
        release_sock(sk)
        lock_sock(sk)
        ret = tcp_sendmsg_locked(sk, msg, size)
    if ret > 0 and msg.msg_flags & MSG_ZEROCOPY and sock_flag(sk, SOCK_ZEROCOPY):
        datagram.msg_zerocopy_callback(sk)
    release_sock(sk)
    return ret


def tcp_splice_eof(sk: TcpSock) -> None:
    """Nothing follows what sendfile said MSG_MORE about."""
    if sk.sk_write_queue.tail is None:
        return
    lock_sock(sk)
    mss_now, size_goal = tcp_send_mss(sk, 0)
    tcp_push(sk, 0, mss_now, sk.nonagle, size_goal)
    release_sock(sk)


def tcp_sendmsg_locked(sk: TcpSock, msg: MsgHdr, size: int) -> int:
    flags = msg.msg_flags
    iocb = msg.iocb
    copied = iocb.ki_done
    timeo = sock_sndtimeo(sk, iocb, flags & MSG_DONTWAIT != 0)
    tcp_rate.tcp_rate_check_app_limited(sk)
    mss_now = 0
    size_goal = 0
    # Before the handshake is over there is nobody to write to.
    state = sk.sk_state
    if state != TCP_ESTABLISHED and state != TCP_CLOSE_WAIT:
        err = stream.sk_stream_wait_connect(sk, iocb, timeo)
        if err:
            return _sendmsg_error(sk, msg, flags, err, copied, 0, 0)
    tsflags = 0 if sk.sk_cold is None else sk.sk_cold.sk_tsflags
    if msg.msg_control:
        tsflags = tcp_cmsg_send(sk, msg.msg_control, tsflags)
        if tsflags < 0:
            return tsflags
    mss_now, size_goal = tcp_send_mss(sk, flags)
    if sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
        return _sendmsg_error(sk, msg, flags, -EPIPE, copied, mss_now, size_goal)
    data = msg.msg_data
    queue = tcp_write_queue(sk)
    made = 0
    while copied < size:
        skb = queue.tail
        room = size_goal - skb.len if skb is not None and not skb.eor else 0
        if skb is None or room <= 0:
            if sk.sk_wmem_queued >= sk.sk_sndbuf or not tcp_stream_memory_free(sk, 0) or iocb.ki_retry > sk.kernel.now:
                skb = None
            elif made >= _FLUSH_BACKLOG and sk.sk_backlog is not None:
                # sk_flush_backlog: ACKs that came in during this call open the window.
                made = 0
                release_sock(sk)
                lock_sock(sk)
                mss_now, size_goal = tcp_send_mss(sk, flags)
                if sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
                    return _sendmsg_error(sk, msg, flags, -EPIPE, copied, mss_now, size_goal)
                continue
            else:
                skb = tcp_stream_alloc_skb(sk, queue.tail is None and tcp_rtx_queue_empty(sk))
                if skb is not None:
                    made += 1
                    tcp_skb_entail(sk, skb)
                    room = size_goal
        if skb is not None:
            if room > size - copied:
                room = size - copied
            room = tcp_wmem_schedule(sk, room)
        if skb is None or room == 0:
            # wait_for_space
            tcp_remove_empty_skb(sk)
            if copied > iocb.ki_done:
                tcp_push(sk, flags & ~MSG_MORE, mss_now, TCP_NAGLE_PUSH, size_goal)
            iocb.ki_done = copied
            err = stream.sk_stream_wait_memory(sk, iocb, timeo)
            if err == -EIOCBQUEUED:
                tcp_output.tcp_chrono_start(sk, TCP_CHRONO_SNDBUF_LIMITED)
                return err
            return _sendmsg_error(sk, msg, flags, err, copied, mss_now, size_goal)
        skb_add_user_data(skb, data, copied, room)
        sk.sk_wmem_queued += room
        sk.sk_forward_alloc -= room
        if copied == 0:
            skb.tcp_flags &= ~TCPHDR_PSH
        sk.write_seq = (sk.write_seq + room) & 0xFFFFFFFF
        skb.end_seq = (skb.end_seq + room) & 0xFFFFFFFF
        skb.gso_segs = 0
        copied += room
        if copied >= size:
            if flags & MSG_EOR:
                skb.eor = True
            break
        if skb.len < size_goal or flags & MSG_OOB:
            continue
        if forced_push(sk):
            tcp_mark_push(sk, skb)
            tcp_output.__tcp_push_pending_frames(sk, mss_now, TCP_NAGLE_PUSH)
        elif skb is queue.head:
            tcp_output.tcp_push_one(sk, mss_now)
    if copied:
        if tsflags:
            tcp_tx_timestamp(sk, tsflags)
        tcp_push(sk, flags, mss_now, sk.nonagle, size_goal)
    return copied


def tcp_cmsg_send(sk: TcpSock, control: bytes, tsflags: int) -> int:
    """sock_cmsg_send: of what control messages may ask, a stream knows what is to be stamped. The call's flags, or -errno."""
    ipc = ip_output.IpcmCookie()
    ipc.tsflags = tsflags
    cmsgs = parse_cmsgs(control)
    if cmsgs is None:
        return -EINVAL
    for level, type, data in cmsgs:
        if level == SOL_SOCKET:
            err = ip_sockglue.__sock_cmsg_send(sk, type, data, ipc)
            if err:
                return err
    return ipc.tsflags


def tcp_tx_timestamp(sk: TcpSock, tsflags: int) -> None:
    """The last byte that was written is the one to be stamped."""
    skb = sk.sk_write_queue.tail
    if skb is None or not tsflags & SOF_TIMESTAMPING_TX_RECORD_MASK:
        return
    key = (skb.seq + skb.len - 1) & 0xFFFFFFFF
    skb.tx_tstamp = SkbTxTstamp(timestamping.sock_tx_timestamp(tsflags), key)
    if tsflags & SOF_TIMESTAMPING_TX_ACK:
        skb.txstamp_ack = True


def _sendmsg_error(sk: TcpSock, msg: MsgHdr, flags: int, err: int, copied: int, mss_now: int, size_goal: int) -> int:
    """The end of a write that cannot go on: what was taken, if anything was, else the error."""
    if err == -EIOCBQUEUED:
        return err
    tcp_remove_empty_skb(sk)
    if copied:
        if mss_now:
            tcp_push(sk, flags, mss_now, sk.nonagle, size_goal)
        return copied
    err = stream.sk_stream_error(sk, flags, err)
    # wake an edge-triggered poller that nothing else would wake
    if err == -EAGAIN and tcp_rtx_and_write_queues_empty(sk):
        sk.sk_write_space()
        tcp_output.tcp_chrono_stop(sk, TCP_CHRONO_SNDBUF_LIMITED)
    return err


# -- poll and ioctl --------------------------------------------------------------------------------------------------------


def tcp_set_rcvlowat(sk: Sock, val: int) -> int:
    """SO_RCVLOWAT: a reader that wants much must be able to get it, so the buffer grows along."""
    tp = cast(TcpSock, sk)
    if sk.sk_userlocks & SOCK_RCVBUF_LOCK:
        cap = sk.sk_rcvbuf >> 1
    else:
        cap = sk.sk_net.ipv4.sysctl_tcp_rmem[2] >> 1
    val = min(val, cap)
    sk.sk_rcvlowat = val or 1
    # Perhaps a reader is to be woken now.
    tcp_rcvq.tcp_data_ready(tp)
    if sk.sk_userlocks & SOCK_RCVBUF_LOCK:
        return 0
    space = tcp_space_from_win(tp, val)
    if space > sk.sk_rcvbuf:
        sk.sk_rcvbuf = space
        tp.window_clamp = val
    return 0


def tcp_stream_is_readable(sk: TcpSock, target: int) -> bool:
    """tcp_epollin_ready, without the urge of a window that is about to close."""
    avail = (sk.rcv_nxt - sk.copied_seq) & 0xFFFFFFFF
    return avail >= target and avail < 0x80000000


def tcp_poll(sock_sk: Sock) -> int:
    """The poll mask now."""
    sk = cast(TcpSock, sock_sk)
    state = sk.sk_state
    if state == TCP_LISTEN:
        return inet_connection_sock.inet_csk_listen_poll(sk)
    mask = 0
    shutdown = sk.sk_shutdown
    # POLLHUP means that both directions are shut, and cannot be waited for otherwise.
    if shutdown == SHUTDOWN_MASK or state == TCP_CLOSE:
        mask |= EPOLLHUP
    if shutdown & RCV_SHUTDOWN:
        mask |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP
    if state != TCP_SYN_SENT and state != TCP_SYN_RECV:
        target = sock_rcvlowat(sk, False, 0x7FFFFFFF)
        if sk.urg_data and tcp_cold(sk).urg_seq == sk.copied_seq and not sock_flag(sk, SOCK_URGINLINE):
            target += 1
        if tcp_stream_is_readable(sk, target):
            mask |= EPOLLIN | EPOLLRDNORM
        if shutdown & SEND_SHUTDOWN:
            mask |= EPOLLOUT | EPOLLWRNORM
        elif stream.__sk_stream_is_writeable(sk, 1):
            mask |= EPOLLOUT | EPOLLWRNORM
        elif sk.sk_socket is not None:
            # whoever polls wants to be woken when there is room
            sk.sk_socket.flags |= 1 << SOCK_NOSPACE
        if sk.urg_data & TCP_URG_VALID:
            mask |= EPOLLPRI
    elif state == TCP_SYN_SENT and inet_test_bit(sk, INET_FLAGS_DEFER_CONNECT):
        mask |= EPOLLOUT | EPOLLWRNORM
    if sk.sk_err or (sk.sk_cold is not None and sk.sk_cold.sk_error_queue.qlen):
        mask |= EPOLLERR
    return mask


def tcp_ioctl(sk: TcpSock, cmd: int, arg: bytes) -> tuple[int, bytes]:
    """(0, an int) or (-errno, b"")."""
    if cmd == SIOCINQ:
        if sk.sk_state == TCP_LISTEN:
            return -EINVAL, b""
        return 0, pack_s32(tcp_recvmsg.tcp_inq(sk))
    if cmd == SIOCATMARK:
        return 0, pack_s32(1 if sk.urg_data and tcp_cold(sk).urg_seq == sk.copied_seq else 0)
    if cmd == SIOCOUTQ or cmd == SIOCOUTQNSD:
        if sk.sk_state == TCP_LISTEN:
            return -EINVAL, b""
        if (TCPF_SYN_SENT | TCPF_SYN_RECV) >> sk.sk_state & 1:
            return 0, pack_s32(0)
        start = sk.snd_una if cmd == SIOCOUTQ else sk.snd_nxt
        return 0, pack_s32((sk.write_seq - start) & 0xFFFFFFFF)
    return -ENOIOCTLCMD, b""


# -- options ---------------------------------------------------------------------------------------------------------------


def tcp_setsockopt(sk: TcpSock, level: int, optname: int, optval: bytes) -> int:
    if level != IPPROTO_TCP:
        return inet_connection_sock.inet_csk_init_af_ops(sk).setsockopt(sk, level, optname, optval)
    return tcp_sockopt.do_tcp_setsockopt(sk, optname, optval)


def tcp_getsockopt(sk: TcpSock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
    if level != IPPROTO_TCP:
        return inet_connection_sock.inet_csk_init_af_ops(sk).getsockopt(sk, level, optname, optlen)
    return tcp_sockopt.do_tcp_getsockopt(sk, optname, optlen)


def tcp_move_syn(sk: TcpSock, req: TcpRequestSock) -> None:
    """TCP_SAVE_SYN: the child gets the headers of its SYN."""
    if req.saved_syn is not None:
        tcp_cold(sk).saved_syn = req.saved_syn
        req.saved_syn = None


# -- the end ---------------------------------------------------------------------------------------------------------------


def tcp_rtx_queue_purge(sk: TcpSock) -> None:
    rtx = sk.tcp_rtx_queue
    if rtx is None:
        return
    skb = rtx.head
    while skb is not None:
        following = skb.next
        rtx.unlink(skb)
        tcp_wmem_free_skb(sk, skb)
        skb = following
    sk.tcp_rtx_queue = None
    sk.highest_sack = None


def tcp_write_queue_purge(sk: TcpSock) -> None:
    """Throw away what was sent without being acknowledged, and what was not sent."""
    tcp_output.tcp_chrono_stop(sk, TCP_CHRONO_BUSY)
    queue = sk.sk_write_queue
    while queue.head is not None:
        skb = queue.head
        skb_unlink(queue, skb)
        tcp_wmem_free_skb(sk, skb)
    tcp_rtx_queue_purge(sk)
    sk.tsorted_sent_queue = None
    sk.retransmit_skb_hint = None
    sk.packets_out = 0
    sk.icsk_backoff = 0


def tcp_done(sk: TcpSock) -> None:
    """The connection is over: CLOSE, and if nobody holds the sock any more, its end."""
    if sk.sk_state == TCP_SYN_SENT or sk.sk_state == TCP_SYN_RECV:
        sk.sk_net.tcp_statistics[TCP_MIB_ATTEMPTFAILS] += 1
    tcp_set_state(sk, TCP_CLOSE)
    tcp_timer.tcp_clear_xmit_timers(sk)
    sk.sk_shutdown = SHUTDOWN_MASK
    if not sock_flag(sk, SOCK_DEAD):
        sk.sk_state_change()
    else:
        inet_connection_sock.inet_csk_destroy_sock(sk)


def tcp_done_with_error(sk: TcpSock, err: int) -> None:
    """The connection failed with errno `err`."""
    sk.sk_err = err
    tcp_write_queue_purge(sk)
    tcp_done(sk)
    if not sock_flag(sk, SOCK_DEAD):
        sk_error_report(sk)


def tcp_shutdown(sk: TcpSock, how: int) -> None:
    """proto.shutdown: only the sending side is TCP's business; a FIN is sent if none was."""
    if not how & SEND_SHUTDOWN:
        return
    if (TCPF_ESTABLISHED | TCPF_SYN_SENT | TCPF_CLOSE_WAIT) >> sk.sk_state & 1 and tcp_close_state(sk):
        tcp_output.tcp_send_fin(sk)


def tcp_close(sk: TcpSock, timeout: int, iocb: Kiocb) -> int:
    """proto.close. -EIOCBQUEUED while SO_LINGER waits (`timeout` ns), then 0."""
    lock_sock(sk)
    err = __tcp_close(sk, timeout, iocb)
    while err == -EIOCBQUEUED and (sk.sk_backlog is not None or sk.tsq_flags & ~3):
        release_sock(sk)
        lock_sock(sk)
        err = __tcp_close(sk, timeout, iocb)
    release_sock(sk)
    if err == 0:
        sock_put(sk)
    return err


def __tcp_close(sk: TcpSock, timeout: int, iocb: Kiocb) -> int:
    """Steps: 1 say goodbye (once), 2 linger, 3 orphan the sock. After 3 there is a reference of the caller's to put."""
    net = sk.sk_net
    if iocb.ki_state == CLOSE_NEW:
        sk.sk_shutdown = SHUTDOWN_MASK
        if sk.sk_state == TCP_LISTEN:
            tcp_set_state(sk, TCP_CLOSE)
            inet_connection_sock.inet_csk_listen_stop(sk)
            _tcp_orphan(sk)
            return 0
        # What was not read is thrown away here, on the close of the descriptor, and not when the connection ends.
        data_was_unread = False
        queue = sk.sk_receive_queue
        while queue.head is not None:
            skb = queue.head
            end_seq = skb.end_seq
            if skb.tcp_flags & TCPHDR_FIN:
                end_seq = (end_seq - 1) & 0xFFFFFFFF
            if after(end_seq, sk.copied_seq):
                data_was_unread = True
            tcp_recvmsg.tcp_eat_recv_skb(sk, skb)
        if sk.sk_state != TCP_CLOSE:
            if data_was_unread:
                # RFC 2525, 2.17: data was lost, the peer must know.
                net.net_statistics[LINUX_MIB_TCPABORTONCLOSE] += 1
                tcp_set_state(sk, TCP_CLOSE)
                tcp_output.tcp_send_active_reset(sk)
            elif sock_flag(sk, SOCK_LINGER) and sk.sk_cold is not None and sk.sk_cold.sk_lingertime == 0:
                # SO_LINGER with 0: abort. Looked at after unread data.
                sk.sk_prot.disconnect(sk, 0)
                net.net_statistics[LINUX_MIB_TCPABORTONDATA] += 1
            elif tcp_close_state(sk):
                tcp_output.tcp_send_fin(sk)
        iocb.ki_state = CLOSE_LINGERING
    err = stream.sk_stream_wait_close(sk, iocb, timeout)
    if err:
        return err
    _tcp_orphan(sk)
    return 0


def _tcp_orphan(sk: TcpSock) -> None:
    """adjudge_to_death: nobody holds the sock any more; it lives on only as far as the protocol needs it."""
    net = sk.sk_net
    state = sk.sk_state
    sock_hold(sk)
    sock_orphan(sk)
    if sk.sk_backlog is not None:
        __release_sock(sk)
    sk.sk_prot.orphan_count += 1
    # Destroyed already, by what the backlog held?
    if state != TCP_CLOSE and sk.sk_state == TCP_CLOSE:
        return
    if sk.sk_state == TCP_FIN_WAIT2:
        # RFC 1122, 4.2.2.20 would wait for ever for the peer's FIN.
        if tcp_linger2(sk) < 0:
            tcp_set_state(sk, TCP_CLOSE)
            tcp_output.tcp_send_active_reset(sk)
            net.net_statistics[LINUX_MIB_TCPABORTONLINGER] += 1
        else:
            tmo = tcp_fin_time(sk)
            if tmo > TCP_TIMEWAIT_LEN:
                tcp_timer.inet_csk_reset_keepalive_timer(sk, tmo - TCP_TIMEWAIT_LEN)
            else:
                tcp_minisocks.tcp_time_wait(sk, TCP_FIN_WAIT2, tmo)
                return
    if sk.sk_state != TCP_CLOSE and tcp_check_oom(sk, 0):
        tcp_set_state(sk, TCP_CLOSE)
        tcp_output.tcp_send_active_reset(sk)
        net.net_statistics[LINUX_MIB_TCPABORTONMEMORY] += 1
    if sk.sk_state == TCP_CLOSE:
        inet_connection_sock.inet_csk_destroy_sock(sk)


def tcp_disconnect(sk: TcpSock, flags: int) -> int:
    """proto.disconnect: RFC 9293's ABORT, and the sock can be used again. The sock is owned. Always 0."""
    old_state = sk.sk_state
    if old_state != TCP_CLOSE:
        tcp_set_state(sk, TCP_CLOSE)
    if old_state == TCP_LISTEN:
        inet_connection_sock.inet_csk_listen_stop(sk)
    elif sk.repair:
        sk.sk_err = ECONNABORTED
    elif tcp_need_reset(old_state):
        tcp_output.tcp_send_active_reset(sk)
        sk.sk_err = ECONNRESET
    elif sk.snd_nxt != sk.write_seq and (TCPF_CLOSING | TCPF_LAST_ACK) >> old_state & 1:
        # Linux enters these states when the FIN is queued, not when it is sent.
        tcp_output.tcp_send_active_reset(sk)
        sk.sk_err = ECONNRESET
    elif old_state == TCP_SYN_SENT:
        sk.sk_err = ECONNRESET

    tcp_timer.tcp_clear_xmit_timers(sk)
    net = sk.sk_net
    if sk.sk_receive_queue.qlen:
        skb_queue_purge(net, sk.sk_receive_queue, SKB_DROP_REASON_TCP_CLOSE)
    sk.copied_seq = sk.rcv_nxt
    sk.urg_data = 0
    sk.sk_peek_off = -1
    tcp_write_queue_purge(sk)
    if sk.out_of_order_queue is not None:
        tcp_rcvq.tcp_ofo_queue_purge(sk)
    sk.inet_dport = 0
    inet_hashtables.inet_bhash2_reset_saddr(sk)
    sk.sk_shutdown = 0
    sock_reset_flag(sk, SOCK_DONE)
    sk.srtt_us = 0
    sk.mdev_us = TCP_TIMEOUT_INIT // NSEC_PER_USEC
    # the next connection's numbers begin beyond what the last one could have sent
    sk.write_seq = (sk.write_seq + sk.max_window + 2) & 0xFFFFFFFF or 1
    sk.icsk_backoff = 0
    sk.icsk_probes_out = 0
    sk.icsk_rto = TCP_TIMEOUT_INIT
    sk.icsk_rto_min = TCP_RTO_MIN
    if sk.tcp_cold is not None:
        sk.tcp_cold.icsk_delack_max = 0
        sk.tcp_cold.icsk_probes_tstamp = 0
        sk.tcp_cold.last_oow_ack_time = 0
        sk.tcp_cold.saved_syn = None
    sk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    sk.snd_cwnd = TCP_INIT_CWND
    sk.snd_cwnd_cnt = 0
    sk.is_cwnd_limited = False
    sk.max_packets_out = 0
    sk.window_clamp = 0
    sk.delivered = 0
    sk.delivered_ce = 0
    tcp_cong.tcp_cleanup_congestion_control(sk)
    tcp_cong.tcp_set_ca_state(sk, TCP_CA_Open)
    sk.is_sack_reneg = False
    tcp_ack.tcp_clear_retrans(sk)
    sk.loss_state = None
    inet_csk_delack_init(sk)
    sk.icsk_ack_rcv_mss = TCP_MIN_MSS
    sk.rx_opt = TcpOptionsReceived()
    sk_dst_reset(sk)
    sk.sk_rx_dst = None
    sk.compressed_ack = 0
    sk.segs_in = 0
    sk.segs_out = 0
    sk.bytes_sent = 0
    sk.bytes_acked = 0
    sk.bytes_received = 0
    sk.data_segs_in = 0
    sk.data_segs_out = 0
    sk.duplicate_sack = None
    sk.selective_acks = None
    sk.retrans_out = 0
    sk.sacked_out = 0
    sk.lost_out = 0
    sk.tlp_high_seq = 0
    sk.app_limited = 0xFFFFFFFF
    sk.rate_app_limited = True
    sk.rack_mstamp = 0
    sk.rack_advanced = False
    sk.rack_reo_wnd_steps = 1
    sk.rack_reo_wnd_persist = 0
    sk.rack_dsack_seen = False
    sk.pred_flags = 0
    if sk.inet_num and sk.icsk_bind2_hash is None:
        sk.kernel.warn_on("tcp_disconnect: a port without a bucket")
    sk_error_report(sk)
    return 0


def tcp_abort(sk: SockCommon, err: int) -> int:
    """proto.diag_destroy (`ss -K`): end a sock of any kind with errno `err`. 0, or -ENOENT if it is closed already."""
    if sk.sk_state == TCP_NEW_SYN_RECV:
        req = cast(TcpRequestSock, sk)
        inet_connection_sock.inet_csk_reqsk_queue_drop(req.rsk_listener, req)
        return 0
    if sk.sk_state == TCP_TIME_WAIT:
        inet_timewait_sock.inet_twsk_deschedule_put(inet_timewait_sock.inet_twsk(sk))
        return 0
    tp = cast(TcpSock, sk)
    sock_hold(tp)
    lock_sock(tp)
    ret = -ENOENT
    if tp.sk_state != TCP_CLOSE:
        if tp.sk_state == TCP_LISTEN:
            tcp_set_state(tp, TCP_CLOSE)
            inet_connection_sock.inet_csk_listen_stop(tp)
        if tcp_need_reset(tp.sk_state):
            tcp_output.tcp_send_active_reset(tp)
        tcp_done_with_error(tp, err)
        ret = 0
    release_sock(tp)
    sock_put(tp)
    return ret
