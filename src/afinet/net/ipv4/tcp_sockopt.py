"""net/ipv4/tcp.c: do_tcp_setsockopt and do_tcp_getsockopt, the options of tcp(7).

Refused with -ENOPROTOOPT, since nothing here would act on them: TCP_MD5SIG, TCP_MD5SIG_EXT, the TCP_AO options, TCP_REPAIR and
what belongs to it, TCP_FASTOPEN and its sisters, TCP_ULP, TCP_ZEROCOPY_RECEIVE, TCP_TX_DELAY, TCP_CC_INFO of an algorithm that
has none. """

from __future__ import annotations

from typing import Final

from afinet.kernel.task import ns_capable
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC
from afinet.net.core.sock import SOCK_KEEPOPEN, SOCK_MIN_RCVBUF, lock_sock, release_sock, sock_flag
from afinet.net.ipv4 import inet_connection_sock, tcp_cong, tcp_info, tcp_output, tcp_recvmsg, tcp_timer
from afinet.net.ipv4.inet_sock import ICSK_ACK_PUSHED
from afinet.net.ipv4.tcp_inline import (
    MAX_TCP_KEEPCNT,
    MAX_TCP_KEEPIDLE,
    MAX_TCP_KEEPINTVL,
    MAX_TCP_SYNCNT,
    MAX_TCP_WINDOW,
    TCP_DELACK_MAX,
    TCP_FIN_TIMEOUT_MAX,
    TCP_MIN_MSS,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
    TCP_RTO_MIN,
    inet_csk_ack_scheduled,
    inet_csk_enter_pingpong_mode,
    inet_csk_exit_pingpong_mode,
    inet_csk_in_pingpong_mode,
    keepalive_intvl_when,
    keepalive_probes,
    keepalive_time_elapsed,
    keepalive_time_when,
    tcp_clock_ts,
    tcp_delack_max,
    tcp_linger2,
    tcp_rto_max,
    tcp_rto_min,
    tcp_user_timeout,
)
from afinet.net.ipv4.tcp_sock import TcpSock, tcp_cold
from afinet.uapi.capability import CAP_NET_ADMIN
from afinet.uapi.errno import EINVAL, ENOPROTOOPT, EPERM
from afinet.uapi.sockaddr import get_s32, pack_s32
from afinet.uapi.tcp import (
    TCP_CC_INFO,
    TCP_CLOSE,
    TCP_CONGESTION,
    TCP_CORK,
    TCP_DEFER_ACCEPT,
    TCP_INFO,
    TCP_INQ,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_LINGER2,
    TCP_LISTEN,
    TCP_MAXSEG,
    TCP_NODELAY,
    TCP_NOTSENT_LOWAT,
    TCP_QUICKACK,
    TCP_SAVE_SYN,
    TCP_SAVED_SYN,
    TCP_SYNCNT,
    TCP_THIN_DUPACK,
    TCP_THIN_LINEAR_TIMEOUTS,
    TCP_TIMESTAMP,
    TCP_USER_TIMEOUT,
    TCP_WINDOW_CLAMP,
    TCPF_CLOSE_WAIT,
    TCPF_ESTABLISHED,
)

TCP_IS_MPTCP: Final = 43
TCP_RTO_MAX_MS: Final = 44
TCP_RTO_MIN_US: Final = 45
TCP_DELACK_MAX_US: Final = 46

TCP_CA_NAME_MAX: Final = 16
_RTO_MAX_SEC: Final = 120


def secs_to_retrans(seconds: int, timeout: int, rto_max: int) -> int:
    """How many retransmissions, the first after `timeout` seconds and each after twice as long, last for `seconds`."""
    if seconds <= 0:
        return 0
    res = 1
    period = timeout
    while seconds > period and res < 255:
        res += 1
        timeout = min(timeout << 1, rto_max)
        period += timeout
    return res


def retrans_to_secs(retrans: int, timeout: int, rto_max: int) -> int:
    """How long `retrans` retransmissions last."""
    period = 0
    for i in range(retrans):
        if i:
            timeout = min(timeout << 1, rto_max)
        period += timeout
    return period


# -- set -------------------------------------------------------------------------------------------------------------------


def __tcp_sock_set_cork(sk: TcpSock, on: bool) -> None:
    """TCP_CORK holds small segments back; taking it off sends them. It wins over TCP_NODELAY while it is set."""
    if on:
        sk.nonagle |= TCP_NAGLE_CORK
        return
    sk.nonagle &= ~TCP_NAGLE_CORK
    if sk.nonagle & TCP_NAGLE_OFF:
        sk.nonagle |= TCP_NAGLE_PUSH
    tcp_output.tcp_push_pending_frames(sk)


def __tcp_sock_set_nodelay(sk: TcpSock, on: bool) -> None:
    """TCP_NODELAY sends at once what Nagle holds back, even a corked segment, this once."""
    if on:
        sk.nonagle |= TCP_NAGLE_OFF | TCP_NAGLE_PUSH
        tcp_output.tcp_push_pending_frames(sk)
    else:
        sk.nonagle &= ~TCP_NAGLE_OFF


def __tcp_sock_set_quickack(sk: TcpSock, val: int) -> None:
    """1: ACK at once from now on; 0: delay; an even number: ACK now what is owed, then delay."""
    if not val:
        inet_csk_enter_pingpong_mode(sk)
        return
    inet_csk_exit_pingpong_mode(sk)
    if (TCPF_ESTABLISHED | TCPF_CLOSE_WAIT) >> sk.sk_state & 1 and inet_csk_ack_scheduled(sk):
        sk.icsk_ack_pending |= ICSK_ACK_PUSHED
        tcp_recvmsg.tcp_cleanup_rbuf(sk, 1)
        if not val & 1:
            inet_csk_enter_pingpong_mode(sk)


def tcp_sock_set_keepidle_locked(sk: TcpSock, val: int) -> int:
    if val < 1 or val > MAX_TCP_KEEPIDLE:
        return -EINVAL
    time = val * NSEC_PER_SEC
    tcp_cold(sk).keepalive_time = time
    if sock_flag(sk, SOCK_KEEPOPEN) and sk.sk_state != TCP_CLOSE and sk.sk_state != TCP_LISTEN:
        elapsed = keepalive_time_elapsed(sk)
        left = time - elapsed if time > elapsed else 0
        tcp_timer.inet_csk_reset_keepalive_timer(sk, left)
    return 0


def tcp_set_window_clamp(sk: TcpSock, val: int) -> int:
    """The largest window ever offered; 0, no limit, only before the connection begins."""
    if not val:
        if sk.sk_state != TCP_CLOSE:
            return -EINVAL
        sk.window_clamp = 0
        return 0
    old = sk.window_clamp
    new = max(SOCK_MIN_RCVBUF // 2, val)
    if new == old:
        return 0
    sk.window_clamp = new
    if new < old:
        sk.rcv_ssthresh = min(sk.rcv_ssthresh, new)
    else:
        sk.rcv_ssthresh = max(min(sk.rcv_wnd, new), sk.rcv_ssthresh)
    return 0


def do_tcp_setsockopt(sk: TcpSock, optname: int, optval: bytes) -> int:
    """0 or -errno."""
    if optname == TCP_CONGESTION:
        if len(optval) < 1:
            return -EINVAL
        name = optval[: TCP_CA_NAME_MAX - 1].split(b"\0", 1)[0].decode("latin-1")
        lock_sock(sk)
        err = tcp_cong.tcp_set_congestion_control(sk, name, True, ns_capable(sk.kernel, CAP_NET_ADMIN))
        release_sock(sk)
        return err
    if len(optval) < 4:
        return -EINVAL
    val = get_s32(optval, 0)
    err = _set_unlocked(sk, optname, val)
    if err <= 0:
        return err
    lock_sock(sk)
    err = _set_locked(sk, optname, val)
    release_sock(sk)
    return err


def _jiffies(sk: TcpSock, ns: int) -> int:
    """Rounded up to whole jiffies, in which Linux keeps these."""
    tick = sk.kernel.tick_nsec
    return -(-ns // tick) * tick


def _set_unlocked(sk: TcpSock, optname: int, val: int) -> int:
    """The options that need no ownership; 1: it is not one of them."""
    if optname == TCP_SYNCNT:
        if val < 1 or val > MAX_TCP_SYNCNT:
            return -EINVAL
        sk.icsk_syn_retries = val
        return 0
    if optname == TCP_USER_TIMEOUT:
        if val < 0:
            return -EINVAL
        tcp_cold(sk).icsk_user_timeout = val * NSEC_PER_MSEC
        return 0
    if optname == TCP_KEEPINTVL:
        if val < 1 or val > MAX_TCP_KEEPINTVL:
            return -EINVAL
        tcp_cold(sk).keepalive_intvl = val * NSEC_PER_SEC
        return 0
    if optname == TCP_KEEPCNT:
        if val < 1 or val > MAX_TCP_KEEPCNT:
            return -EINVAL
        tcp_cold(sk).keepalive_probes = val
        return 0
    if optname == TCP_LINGER2:
        if val < 0:
            tcp_cold(sk).linger2 = -1
        else:
            tcp_cold(sk).linger2 = min(val * NSEC_PER_SEC, TCP_FIN_TIMEOUT_MAX)
        return 0
    if optname == TCP_DEFER_ACCEPT:
        inet_connection_sock.inet_csk_accept_queue(sk).rskq_defer_accept = secs_to_retrans(val, 1, _RTO_MAX_SEC)
        return 0
    if optname == TCP_RTO_MAX_MS:
        if val < 1000 or val > _RTO_MAX_SEC * 1000:
            return -EINVAL
        sk.icsk_rto_max = _jiffies(sk, val * NSEC_PER_MSEC)
        return 0
    if optname == TCP_RTO_MIN_US:
        rto_min = _jiffies(sk, val * NSEC_PER_USEC)
        if rto_min > TCP_RTO_MIN or rto_min < 2 * sk.kernel.tick_nsec:
            return -EINVAL
        sk.icsk_rto_min = rto_min
        return 0
    if optname == TCP_DELACK_MAX_US:
        delack_max = _jiffies(sk, val * NSEC_PER_USEC)
        if delack_max > TCP_DELACK_MAX or delack_max < 2 * sk.kernel.tick_nsec:
            return -EINVAL
        tcp_cold(sk).icsk_delack_max = delack_max
        return 0
    if optname == TCP_MAXSEG:
        # What the route or the peer cannot take is clamped when the connection begins.
        if val and (val < TCP_MIN_MSS or val > MAX_TCP_WINDOW):
            return -EINVAL
        sk.rx_opt.user_mss = val
        return 0
    return 1


def _set_locked(sk: TcpSock, optname: int, val: int) -> int:
    if optname == TCP_NODELAY:
        __tcp_sock_set_nodelay(sk, val != 0)
        return 0
    if optname == TCP_CORK:
        __tcp_sock_set_cork(sk, val != 0)
        return 0
    if optname == TCP_KEEPIDLE:
        return tcp_sock_set_keepidle_locked(sk, val)
    if optname == TCP_QUICKACK:
        __tcp_sock_set_quickack(sk, val)
        return 0
    if optname == TCP_NOTSENT_LOWAT:
        tcp_cold(sk).notsent_lowat = val & 0xFFFFFFFF
        sk.sk_write_space()
        return 0
    if optname == TCP_WINDOW_CLAMP:
        return tcp_set_window_clamp(sk, val)
    if optname == TCP_THIN_LINEAR_TIMEOUTS:
        if val < 0 or val > 1:
            return -EINVAL
        tcp_cold(sk).thin_lto = val == 1
        return 0
    if optname == TCP_THIN_DUPACK:
        # Linux keeps the number for old programs' sake; RACK made the option pointless.
        return -EINVAL if val < 0 or val > 1 else 0
    if optname == TCP_SAVE_SYN:
        if val < 0 or val > 2:
            return -EINVAL
        tcp_cold(sk).save_syn = val
        return 0
    if optname == TCP_INQ:
        if val < 0 or val > 1:
            return -EINVAL
        tcp_cold(sk).recvmsg_inq = val == 1
        return 0
    if optname == TCP_TIMESTAMP:
        return -EPERM  # a sock under repair only
    return -ENOPROTOOPT


# -- get -------------------------------------------------------------------------------------------------------------------


def do_tcp_getsockopt(sk: TcpSock, optname: int, optlen: int) -> tuple[int, bytes]:
    """(0, value) or (-errno, b""). The value is cut to `optlen`."""
    if optlen < 0:
        return -EINVAL, b""
    if optname == TCP_INFO:
        return 0, tcp_info.pack_tcp_info(tcp_info.tcp_get_info(sk))[:optlen]
    if optname == TCP_CONGESTION:
        ca = sk.icsk_ca_ops
        name = b"" if ca is None else ca.name.encode("latin-1")
        return 0, name.ljust(TCP_CA_NAME_MAX, b"\0")[:optlen]
    if optname == TCP_CC_INFO:
        ca = sk.icsk_ca_ops
        info = b"" if ca is None else ca.get_info(sk, 0)[1]
        return 0, info[:optlen]
    if optname == TCP_SAVED_SYN:
        return _get_saved_syn(sk, optlen)
    if optname == TCP_NOTSENT_LOWAT:
        cold = sk.tcp_cold
        return 0, pack_s32(0 if cold is None else cold.notsent_lowat)[:optlen]
    err, val = _get_int(sk, optname)
    if err:
        return err, b""
    return 0, pack_s32(val)[:optlen]


def _get_saved_syn(sk: TcpSock, optlen: int) -> tuple[int, bytes]:
    """The SYN's headers, once: then they are forgotten. Too short a buffer is -EINVAL."""
    cold = sk.tcp_cold
    if cold is None or cold.saved_syn is None:
        return 0, b""
    syn = cold.saved_syn
    if optlen < len(syn):
        return -EINVAL, b""
    cold.saved_syn = None
    return 0, syn


def _get_int(sk: TcpSock, optname: int) -> tuple[int, int]:
    ipv4 = sk.sk_net.ipv4
    cold = sk.tcp_cold
    if optname == TCP_MAXSEG:
        if sk.rx_opt.user_mss and (sk.sk_state == TCP_CLOSE or sk.sk_state == TCP_LISTEN):
            return 0, sk.rx_opt.user_mss
        return 0, sk.mss_cache
    if optname == TCP_NODELAY:
        return 0, 1 if sk.nonagle & TCP_NAGLE_OFF else 0
    if optname == TCP_CORK:
        return 0, 1 if sk.nonagle & TCP_NAGLE_CORK else 0
    if optname == TCP_KEEPIDLE:
        return 0, keepalive_time_when(sk) // NSEC_PER_SEC
    if optname == TCP_KEEPINTVL:
        return 0, keepalive_intvl_when(sk) // NSEC_PER_SEC
    if optname == TCP_KEEPCNT:
        return 0, keepalive_probes(sk)
    if optname == TCP_SYNCNT:
        return 0, sk.icsk_syn_retries or ipv4.sysctl_tcp_syn_retries
    if optname == TCP_LINGER2:
        linger2 = tcp_linger2(sk)
        if linger2 < 0:
            return 0, -1
        return 0, (linger2 or ipv4.sysctl_tcp_fin_timeout) // NSEC_PER_SEC
    if optname == TCP_DEFER_ACCEPT:
        queue = sk.icsk_accept_queue
        return 0, 0 if queue is None else retrans_to_secs(queue.rskq_defer_accept, 1, _RTO_MAX_SEC)
    if optname == TCP_WINDOW_CLAMP:
        return 0, sk.window_clamp
    if optname == TCP_QUICKACK:
        return 0, 0 if inet_csk_in_pingpong_mode(sk) else 1
    if optname == TCP_THIN_LINEAR_TIMEOUTS:
        return 0, 1 if cold is not None and cold.thin_lto else 0
    if optname == TCP_THIN_DUPACK:
        return 0, 0
    if optname == TCP_USER_TIMEOUT:
        return 0, tcp_user_timeout(sk) // NSEC_PER_MSEC
    if optname == TCP_TIMESTAMP:
        return 0, (tcp_clock_ts(sk) + sk.tsoffset) & 0xFFFFFFFF
    if optname == TCP_INQ:
        return 0, 1 if cold is not None and cold.recvmsg_inq else 0
    if optname == TCP_SAVE_SYN:
        return 0, 0 if cold is None else cold.save_syn
    if optname == TCP_IS_MPTCP:
        return 0, 0
    if optname == TCP_RTO_MAX_MS:
        return 0, tcp_rto_max(sk) // NSEC_PER_MSEC
    if optname == TCP_RTO_MIN_US:
        return 0, tcp_rto_min(sk) // NSEC_PER_USEC
    if optname == TCP_DELACK_MAX_US:
        return 0, tcp_delack_max(sk) // NSEC_PER_USEC
    return -ENOPROTOOPT, 0
