"""net/core/sock.c's socket-level options: setsockopt() and getsockopt() with SOL_SOCKET.

sock_setsockopt -> sk_setsockopt, sock_getsockopt -> sk_getsockopt. A value is packed little-endian; a length below an int's is
-EINVAL, a longer one is fine, and getsockopt cuts what does not fit.

Left out, with -ENOPROTOOPT: SO_TXTIME, eBPF programs (SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF), busy
polling (SO_BUSY_POLL and its sisters: no device here has a NAPI context to poll), SO_WIFI_STATUS, device memory. SO_PASSCRED,
SO_PASSSEC and their like belong to AF_UNIX and AF_NETLINK and are -EOPNOTSUPP elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.memcontrol import mem_cgroup_sk_charge
from afinet.kernel.task import ns_capable
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT, NSEC_PER_SEC, NSEC_PER_USEC, USEC_PER_SEC
from afinet.net.core import datagram, filter, sock_reuseport, timestamping
from afinet.net.core import dev as dev_mod
from afinet.net.core.sock import (
    PAGE_SIZE,
    SK_CAN_REUSE,
    SK_PACING_NEEDED,
    SK_PACING_NONE,
    SOCK_BROADCAST,
    SOCK_DBG,
    SOCK_FILTER_LOCKED,
    SOCK_KEEPOPEN,
    SOCK_LINGER,
    SOCK_LOCALROUTE,
    SOCK_MIN_RCVBUF,
    SOCK_MIN_SNDBUF,
    SOCK_NOFCS,
    SOCK_RCVMARK,
    SOCK_RCVPRIORITY,
    SOCK_RCVTSTAMP,
    SOCK_RCVTSTAMPNS,
    SOCK_RXQ_OVFL,
    SOCK_SELECT_ERR_QUEUE,
    SOCK_TSTAMP_NEW,
    SOCK_URGINLINE,
    SOCK_ZEROCOPY,
    __sk_mem_reduce_allocated,
    lock_sock,
    release_sock,
    sk_dst_reset,
    sk_mem_reclaim,
    sk_wmem_alloc_get,
    sock_error,
    sock_flag,
    sock_reset_flag,
    sock_set_flag,
    sock_valbool_flag,
)
from afinet.security import security
from afinet.uapi.capability import CAP_NET_ADMIN, CAP_NET_RAW
from afinet.uapi.errno import (
    EACCES,
    EDOM,
    EINVAL,
    ENODATA,
    ENODEV,
    ENOMEM,
    ENOPROTOOPT,
    ENOTCONN,
    EOPNOTSUPP,
    EPERM,
    ERANGE,
)
from afinet.uapi.filter import SKF_AD_MAX
from afinet.uapi.if_ import IFNAMSIZ
from afinet.uapi.in_ import IPPROTO_TCP, IPPROTO_UDP
from afinet.uapi.sockaddr import (
    SIZEOF_INT,
    SIZEOF_LINGER,
    SIZEOF_TIMEVAL,
    get_s32,
    get_s64,
    pack_linger,
    pack_s32,
    pack_timeval,
    pack_u64,
    unpack_linger,
    unpack_timeval,
)
from afinet.uapi.socket import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_UNIX,
    SO_ACCEPTCONN,
    SO_ATTACH_FILTER,
    SO_ATTACH_REUSEPORT_CBPF,
    SO_BINDTODEVICE,
    SO_BINDTOIFINDEX,
    SO_BPF_EXTENSIONS,
    SO_BROADCAST,
    SO_BSDCOMPAT,
    SO_BUF_LOCK,
    SO_CNX_ADVICE,
    SO_COOKIE,
    SO_DEBUG,
    SO_DETACH_FILTER,
    SO_DETACH_REUSEPORT_BPF,
    SO_DOMAIN,
    SO_DONTROUTE,
    SO_ERROR,
    SO_GET_FILTER,
    SO_INCOMING_CPU,
    SO_INCOMING_NAPI_ID,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_LOCK_FILTER,
    SO_MARK,
    SO_MAX_PACING_RATE,
    SO_MEMINFO,
    SO_NETNS_COOKIE,
    SO_NO_CHECK,
    SO_NOFCS,
    SO_OOBINLINE,
    SO_PASSCRED,
    SO_PASSPIDFD,
    SO_PASSRIGHTS,
    SO_PASSSEC,
    SO_PEEK_OFF,
    SO_PEERCRED,
    SO_PEERGROUPS,
    SO_PEERNAME,
    SO_PEERPIDFD,
    SO_PEERSEC,
    SO_PRIORITY,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVBUFFORCE,
    SO_RCVLOWAT,
    SO_RCVMARK,
    SO_RCVPRIORITY,
    SO_RCVTIMEO,
    SO_RCVTIMEO_NEW,
    SO_RESERVE_MEM,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_RXQ_OVFL,
    SO_SELECT_ERR_QUEUE,
    SO_SNDBUF,
    SO_SNDBUFFORCE,
    SO_SNDLOWAT,
    SO_SNDTIMEO,
    SO_SNDTIMEO_NEW,
    SO_TIMESTAMP,
    SO_TIMESTAMP_NEW,
    SO_TIMESTAMPING,
    SO_TIMESTAMPING_NEW,
    SO_TIMESTAMPNS,
    SO_TIMESTAMPNS_NEW,
    SO_TXREHASH,
    SO_TYPE,
    SO_ZEROCOPY,
    SOCK_BUF_LOCK_MASK,
    SOCK_DGRAM,
    SOCK_RCVBUF_LOCK,
    SOCK_SNDBUF_LOCK,
    SOCK_STREAM,
    SOCK_TXREHASH_DEFAULT,
)
from afinet.uapi.tcp import TCP_LISTEN

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.sock import Sock
    from afinet.net.socket import Socket

INT_MAX: Final = 0x7FFFFFFF
UINT_MAX: Final = 0xFFFFFFFF
TC_PRIO_INTERACTIVE: Final = 6
SIZEOF_UCRED: Final = 12


def sk_is_inet(sk: Sock) -> bool:
    return sk.sk_family == AF_INET or sk.sk_family == AF_INET6


def sk_is_tcp(sk: Sock) -> bool:
    return sk_is_inet(sk) and sk.sk_type == SOCK_STREAM and sk.sk_protocol == IPPROTO_TCP


def sk_may_scm_recv(sk: Sock) -> bool:
    """Only these families pass credentials."""
    return sk.sk_family == AF_UNIX or sk.sk_family == AF_NETLINK


def sock_gen_cookie(sk: Sock) -> int:
    """A number that no other sock of this machine has had."""
    cold = datagram.sk_cold(sk)
    if cold.sk_cookie == 0:
        sk.kernel.cookie_seq += 1
        cold.sk_cookie = sk.kernel.cookie_seq
    return cold.sk_cookie


# -- set -------------------------------------------------------------------------------------------------------------------


def sock_setsockopt(sock: Socket, level: int, optname: int, optval: bytes) -> int:
    sk = sock.sk
    assert sk is not None
    return sk_setsockopt(sk, level, optname, optval)


def sk_setsockopt(sk: Sock, level: int, optname: int, optval: bytes) -> int:
    """0 or -errno."""
    if optname == SO_BINDTODEVICE:
        return sock_setbindtodevice(sk, optval)
    if len(optval) < SIZEOF_INT:
        return -EINVAL
    val = get_s32(optval, 0)
    err = sk_setsockopt_unlocked(sk, optname, val, optval)
    if err != -ENOPROTOOPT:
        return err
    lock_sock(sk)
    err = sk_setsockopt_locked(sk, optname, val, optval)
    release_sock(sk)
    return err


def sk_setsockopt_unlocked(sk: Sock, optname: int, val: int, optval: bytes) -> int:
    """Options that take effect without owning the sock. -ENOPROTOOPT: not one of them."""
    if optname == SO_PRIORITY:
        if not sk_set_prio_allowed(sk, val):
            return -EPERM
        sk.sk_priority = val & UINT_MAX
        return 0
    if optname in (SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD, SO_PASSRIGHTS):
        return -ENOPROTOOPT if sk_may_scm_recv(sk) else -EOPNOTSUPP
    if optname == SO_MAX_PACING_RATE:
        rate = -1 if val == -1 else val & UINT_MAX
        if len(optval) >= 8:
            rate = get_s64(optval, 0)
        datagram.sk_cold(sk).sk_max_pacing_rate = rate
        if rate != -1 and sk.sk_pacing_status == SK_PACING_NONE:
            sk.sk_pacing_status = SK_PACING_NEEDED
        if rate >= 0 and (sk.sk_pacing_rate < 0 or sk.sk_pacing_rate > rate):
            sk.sk_pacing_rate = rate
        return 0
    if optname == SO_TXREHASH:
        if not sk_is_tcp(sk):
            return -EOPNOTSUPP
        if val < -1 or val > 1:
            return -EINVAL
        sk.sk_txrehash = sk.sk_net.core.sysctl_txrehash if val & 0xFF == SOCK_TXREHASH_DEFAULT else val
        return 0
    if optname == SO_PEEK_OFF:
        sock = sk.sk_socket
        if sock is None or sock.ops is None:
            return -EOPNOTSUPP
        return sock.ops.set_peek_off(sk, val)
    return -ENOPROTOOPT


def sk_setsockopt_locked(sk: Sock, optname: int, val: int, optval: bytes) -> int:
    kernel = sk.kernel
    valbool = val != 0
    if optname == SO_REUSEADDR:
        sk.sk_reuse = SK_CAN_REUSE if valbool else 0
    elif optname == SO_REUSEPORT:
        if valbool and not sk_is_inet(sk):
            return -EOPNOTSUPP
        sk.sk_reuseport = valbool
    elif optname == SO_KEEPALIVE:
        sk.sk_prot.keepalive(sk, valbool)
        sock_valbool_flag(sk, SOCK_KEEPOPEN, valbool)
    elif optname == SO_BROADCAST:
        sock_valbool_flag(sk, SOCK_BROADCAST, valbool)
    elif optname == SO_SNDBUF:
        # Compared as unsigned: a negative size asks for the most there is.
        return sock_set_sndbuf(sk, min(val & UINT_MAX, sk.sk_net.core.sysctl_wmem_max))
    elif optname == SO_SNDBUFFORCE:
        if not ns_capable(kernel, CAP_NET_ADMIN):
            return -EPERM
        return sock_set_sndbuf(sk, max(val, 0))
    elif optname == SO_RCVBUF:
        return __sock_set_rcvbuf(sk, min(val & UINT_MAX, sk.sk_net.core.sysctl_rmem_max))
    elif optname == SO_RCVBUFFORCE:
        if not ns_capable(kernel, CAP_NET_ADMIN):
            return -EPERM
        return __sock_set_rcvbuf(sk, max(val, 0))
    elif optname == SO_LINGER:
        return sock_set_linger(sk, optval)
    elif optname == SO_RCVTIMEO or optname == SO_RCVTIMEO_NEW:
        err, timeo = sock_set_timeout(kernel, optval)
        if err:
            return err
        if timeo >= 0:
            datagram.sk_cold(sk).sk_rcvtimeo = timeo
    elif optname == SO_SNDTIMEO or optname == SO_SNDTIMEO_NEW:
        err, timeo = sock_set_timeout(kernel, optval)
        if err:
            return err
        if timeo >= 0:
            datagram.sk_cold(sk).sk_sndtimeo = timeo
    elif optname == SO_RCVLOWAT:
        sock = sk.sk_socket
        if val < 0:
            val = INT_MAX
        if sock is not None and sock.ops is not None:
            return sock.ops.set_rcvlowat(sk, val)
        sk.sk_rcvlowat = val or 1
    elif optname == SO_OOBINLINE:
        sock_valbool_flag(sk, SOCK_URGINLINE, valbool)
    elif optname == SO_ATTACH_FILTER:
        return filter.sk_attach_filter(sk, optval)
    elif optname == SO_ATTACH_REUSEPORT_CBPF:
        err, prog = filter.reuseport_filter(sk, optval)
        return err if prog is None else sock_reuseport.reuseport_attach_prog(sk, prog)
    elif optname == SO_DONTROUTE:
        sock_valbool_flag(sk, SOCK_LOCALROUTE, valbool)
        sk_dst_reset(sk)
    elif optname == SO_NO_CHECK:
        sk.sk_no_check_tx = valbool
    elif optname == SO_TIMESTAMP or optname == SO_TIMESTAMP_NEW:
        timestamping.sock_set_timestamps(sk, valbool, optname == SO_TIMESTAMP_NEW, False)
    elif optname == SO_TIMESTAMPNS or optname == SO_TIMESTAMPNS_NEW:
        timestamping.sock_set_timestamps(sk, valbool, optname == SO_TIMESTAMPNS_NEW, True)
    elif optname == SO_TIMESTAMPING or optname == SO_TIMESTAMPING_NEW:
        return timestamping.sock_set_timestamping(sk, optval, optname == SO_TIMESTAMPING_NEW)
    elif optname == SO_MARK:
        if not ns_capable(kernel, CAP_NET_RAW) and not ns_capable(kernel, CAP_NET_ADMIN):
            return -EPERM
        mark = val & UINT_MAX
        if mark != sk.sk_mark:
            sk.sk_mark = mark
            sk_dst_reset(sk)
    else:
        return sk_setsockopt_rare(sk, optname, val)
    return 0


def sk_setsockopt_rare(sk: Sock, optname: int, val: int) -> int:
    valbool = val != 0
    if optname == SO_DEBUG:
        if val and not ns_capable(sk.kernel, CAP_NET_ADMIN):
            return -EACCES
        sock_valbool_flag(sk, SOCK_DBG, valbool)
    elif optname == SO_BSDCOMPAT:
        return 0
    elif optname == SO_RCVMARK:
        sock_valbool_flag(sk, SOCK_RCVMARK, valbool)
    elif optname == SO_RCVPRIORITY:
        sock_valbool_flag(sk, SOCK_RCVPRIORITY, valbool)
    elif optname == SO_RXQ_OVFL:
        sock_valbool_flag(sk, SOCK_RXQ_OVFL, valbool)
    elif optname == SO_NOFCS:
        sock_valbool_flag(sk, SOCK_NOFCS, valbool)
    elif optname == SO_SELECT_ERR_QUEUE:
        sock_valbool_flag(sk, SOCK_SELECT_ERR_QUEUE, valbool)
    elif optname == SO_DETACH_FILTER:
        return filter.sk_detach_filter(sk)
    elif optname == SO_LOCK_FILTER:
        if sock_flag(sk, SOCK_FILTER_LOCKED) and not valbool:
            return -EPERM
        sock_valbool_flag(sk, SOCK_FILTER_LOCKED, valbool)
    elif optname == SO_INCOMING_CPU:
        # There is one CPU, number 0: the lookups prefer a sock that asks for it; another number prefers nothing.
        sk.sk_incoming_cpu = val
    elif optname == SO_DETACH_REUSEPORT_BPF:
        return sock_reuseport.reuseport_detach_prog(sk)
    elif optname == SO_CNX_ADVICE:
        if val == 1:
            sk_dst_reset(sk)
    elif optname == SO_ZEROCOPY:
        if not sk_is_tcp(sk) and not (
            sk_is_inet(sk) and sk.sk_type == SOCK_DGRAM and sk.sk_protocol == IPPROTO_UDP
        ):
            return -EOPNOTSUPP
        if val < 0 or val > 1:
            return -EINVAL
        sock_valbool_flag(sk, SOCK_ZEROCOPY, valbool)
    elif optname == SO_BINDTOIFINDEX:
        return sock_bindtoindex_locked(sk, val)
    elif optname == SO_BUF_LOCK:
        if val & ~SOCK_BUF_LOCK_MASK:
            return -EINVAL
        sk.sk_userlocks = val | sk.sk_userlocks & ~SOCK_BUF_LOCK_MASK
    elif optname == SO_RESERVE_MEM:
        return sock_reserve_memory(sk, val)
    else:
        return -ENOPROTOOPT
    return 0


def sk_set_prio_allowed(sk: Sock, val: int) -> bool:
    """Priorities above TC_PRIO_INTERACTIVE are for the privileged."""
    return (
        0 <= val <= TC_PRIO_INTERACTIVE or ns_capable(sk.kernel, CAP_NET_RAW) or ns_capable(sk.kernel, CAP_NET_ADMIN)
    )


def sock_set_sndbuf(sk: Sock, val: int) -> int:
    """Twice what the program asks for, since bookkeeping is charged too."""
    sk.sk_userlocks |= SOCK_SNDBUF_LOCK
    sk.sk_sndbuf = max(min(val, INT_MAX // 2) * 2, SOCK_MIN_SNDBUF)
    sk.sk_write_space()
    return 0


def __sock_set_rcvbuf(sk: Sock, val: int) -> int:
    sk.sk_userlocks |= SOCK_RCVBUF_LOCK
    sk.sk_rcvbuf = max(min(val, INT_MAX // 2) * 2, SOCK_MIN_RCVBUF)
    return 0


def sock_set_linger(sk: Sock, optval: bytes) -> int:
    if len(optval) < SIZEOF_LINGER:
        return -EINVAL
    onoff, linger = unpack_linger(optval)
    if not onoff:
        sock_reset_flag(sk, SOCK_LINGER)
        return 0
    # A negative time is a huge unsigned one.
    if linger < 0 or linger >= MAX_SCHEDULE_TIMEOUT // NSEC_PER_SEC:
        datagram.sk_cold(sk).sk_lingertime = MAX_SCHEDULE_TIMEOUT
    else:
        datagram.sk_cold(sk).sk_lingertime = linger * NSEC_PER_SEC
    sock_set_flag(sk, SOCK_LINGER)
    return 0


def sock_set_timeout(kernel: Kernel, optval: bytes) -> tuple[int, int]:
    """(0 or -errno, ns). Zero is for ever; a time before zero does not wait at all; microseconds round up to jiffies."""
    if len(optval) < SIZEOF_TIMEVAL:
        return -EINVAL, -1
    sec, usec = unpack_timeval(optval)
    if usec < 0 or usec >= USEC_PER_SEC:
        return -EDOM, -1
    if sec < 0:
        return 0, 0
    if (sec == 0 and usec == 0) or sec >= MAX_SCHEDULE_TIMEOUT // NSEC_PER_SEC - 1:
        return 0, MAX_SCHEDULE_TIMEOUT
    tick = kernel.tick_nsec
    return 0, sec * NSEC_PER_SEC + -(-usec * NSEC_PER_USEC // tick) * tick


def sock_setbindtodevice(sk: Sock, optval: bytes) -> int:
    """Bind to the device of that name; an empty name, or none, unbinds."""
    raw = optval[: IFNAMSIZ - 1]
    end = raw.find(b"\0")
    if end >= 0:
        raw = raw[:end]
    index = 0
    if raw:
        dev = dev_mod.dev_get_by_name(sk.sk_net, raw.decode("latin-1"))
        if dev is None:
            return -ENODEV
        index = dev.ifindex
    lock_sock(sk)
    err = sock_bindtoindex_locked(sk, index)
    release_sock(sk)
    return err


def sock_bindtoindex_locked(sk: Sock, ifindex: int) -> int:
    """Anybody may bind to a device; only the privileged may change their mind."""
    if sk.sk_bound_dev_if and not ns_capable(sk.kernel, CAP_NET_RAW):
        return -EPERM
    if ifindex < 0:
        return -EINVAL
    sk.sk_bound_dev_if = ifindex
    sk.sk_prot.rehash(sk)
    sk_dst_reset(sk)
    return 0


def sock_reserve_memory(sk: Sock, val: int) -> int:
    """SO_RESERVE_MEM: keep whole pages charged to the sock's memory cgroup."""
    if val < 0:
        return -EINVAL
    cold = datagram.sk_cold(sk)
    delta = val - cold.sk_reserved_mem
    if delta < 0:
        cold.sk_reserved_mem = val
        sk_mem_reclaim(sk)
        return 0
    if sk.sk_memcg is None or sk.sk_prot.sysctl_mem is None:
        return -EOPNOTSUPP
    if delta == 0:
        return 0
    pages = (delta + PAGE_SIZE - 1) // PAGE_SIZE
    if not mem_cgroup_sk_charge(sk.sk_memcg, pages):
        return -ENOMEM
    sk.sk_prot.memory_allocated += pages
    if sk.sk_prot.memory_allocated > sk.sk_prot.sysctl_mem[1]:
        __sk_mem_reduce_allocated(sk, pages)
        return -ENOMEM
    sk.sk_forward_alloc += pages * PAGE_SIZE
    cold.sk_reserved_mem += pages * PAGE_SIZE
    return 0


# -- get -------------------------------------------------------------------------------------------------------------------


def sock_getsockopt(sock: Socket, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
    """(0, value) or (-errno, b"")."""
    sk = sock.sk
    assert sk is not None
    return sk_getsockopt(sk, level, optname, optlen)


def sk_getsockopt(sk: Sock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
    if optlen < 0:
        return -EINVAL, b""
    err, val = sk_getsockopt_int(sk, optname)
    if err == 0:
        return 0, pack_s32(val)[:optlen]
    if err != -ENOPROTOOPT:
        return err, b""
    return sk_getsockopt_struct(sk, optname, optlen)


def sk_getsockopt_int(sk: Sock, optname: int) -> tuple[int, int]:
    """Options whose value is an int. (-ENOPROTOOPT, 0): not one of them."""
    val: int
    if optname == SO_ERROR:
        val = -sock_error(sk)
        if val == 0:
            val = sk.sk_err_soft
            sk.sk_err_soft = 0
    elif optname == SO_TYPE:
        val = sk.sk_type
    elif optname == SO_PROTOCOL:
        val = sk.sk_protocol
    elif optname == SO_DOMAIN:
        val = sk.sk_family
    elif optname == SO_SNDBUF:
        val = sk.sk_sndbuf
    elif optname == SO_RCVBUF:
        val = sk.sk_rcvbuf
    elif optname == SO_REUSEADDR:
        val = sk.sk_reuse
    elif optname == SO_REUSEPORT:
        val = int(sk.sk_reuseport)
    elif optname == SO_KEEPALIVE:
        val = int(sock_flag(sk, SOCK_KEEPOPEN))
    elif optname == SO_BROADCAST:
        val = int(sock_flag(sk, SOCK_BROADCAST))
    elif optname == SO_DONTROUTE:
        val = int(sock_flag(sk, SOCK_LOCALROUTE))
    elif optname == SO_DEBUG:
        val = int(sock_flag(sk, SOCK_DBG))
    elif optname == SO_OOBINLINE:
        val = int(sock_flag(sk, SOCK_URGINLINE))
    elif optname == SO_NO_CHECK:
        val = int(sk.sk_no_check_tx)
    elif optname == SO_PRIORITY:
        val = sk.sk_priority
    elif optname == SO_BSDCOMPAT:
        val = 0
    elif optname == SO_RCVLOWAT:
        val = sk.sk_rcvlowat
    elif optname == SO_SNDLOWAT:
        val = 1
    elif optname == SO_ACCEPTCONN:
        val = int(sk.sk_state == TCP_LISTEN)
    elif optname == SO_MARK:
        val = sk.sk_mark
    elif optname == SO_BINDTOIFINDEX:
        val = sk.sk_bound_dev_if
    elif optname == SO_BUF_LOCK:
        val = sk.sk_userlocks & SOCK_BUF_LOCK_MASK
    elif optname == SO_RESERVE_MEM:
        val = 0 if sk.sk_cold is None else sk.sk_cold.sk_reserved_mem
    else:
        return sk_getsockopt_rare(sk, optname)
    return 0, val


def sk_getsockopt_rare(sk: Sock, optname: int) -> tuple[int, int]:
    val: int
    if optname == SO_TIMESTAMP:
        val = int(
            sock_flag(sk, SOCK_RCVTSTAMP) and not sock_flag(sk, SOCK_RCVTSTAMPNS) and not sock_flag(sk, SOCK_TSTAMP_NEW)
        )
    elif optname == SO_TIMESTAMP_NEW:
        val = int(sock_flag(sk, SOCK_RCVTSTAMP) and sock_flag(sk, SOCK_TSTAMP_NEW))  # nanoseconds or not, as in Linux
    elif optname == SO_TIMESTAMPNS or optname == SO_TIMESTAMPNS_NEW:
        val = int(
            sock_flag(sk, SOCK_RCVTSTAMPNS) and sock_flag(sk, SOCK_TSTAMP_NEW) == (optname == SO_TIMESTAMPNS_NEW)
        )
    elif optname == SO_RCVMARK:
        val = int(sock_flag(sk, SOCK_RCVMARK))
    elif optname == SO_RCVPRIORITY:
        val = int(sock_flag(sk, SOCK_RCVPRIORITY))
    elif optname == SO_RXQ_OVFL:
        val = int(sock_flag(sk, SOCK_RXQ_OVFL))
    elif optname == SO_NOFCS:
        val = int(sock_flag(sk, SOCK_NOFCS))
    elif optname == SO_SELECT_ERR_QUEUE:
        val = int(sock_flag(sk, SOCK_SELECT_ERR_QUEUE))
    elif optname == SO_LOCK_FILTER:
        val = int(sock_flag(sk, SOCK_FILTER_LOCKED))
    elif optname == SO_ZEROCOPY:
        val = int(sock_flag(sk, SOCK_ZEROCOPY))
    elif optname == SO_BPF_EXTENSIONS:
        val = SKF_AD_MAX
    elif optname == SO_INCOMING_NAPI_ID:
        val = 0
    elif optname == SO_INCOMING_CPU:
        val = sk.sk_incoming_cpu
    elif optname == SO_TXREHASH:
        if not sk_is_tcp(sk):
            return -EOPNOTSUPP, 0
        val = sk.sk_txrehash
    elif optname == SO_PEEK_OFF:
        sock = sk.sk_socket
        if sock is None or sock.ops is None or not sock.ops.has_set_peek_off():
            return -EOPNOTSUPP, 0
        val = sk.sk_peek_off
    elif optname in (SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD, SO_PASSRIGHTS) and not sk_may_scm_recv(sk):
        return -EOPNOTSUPP, 0
    else:
        return -ENOPROTOOPT, 0
    return 0, val


def sk_getsockopt_struct(sk: Sock, optname: int, optlen: int) -> tuple[int, bytes]:
    """Options whose value is more than an int, or checks its length."""
    if optname == SO_LINGER:
        lingertime = 0 if sk.sk_cold is None else sk.sk_cold.sk_lingertime
        out = pack_linger(int(sock_flag(sk, SOCK_LINGER)), lingertime // NSEC_PER_SEC)
    elif optname == SO_RCVTIMEO or optname == SO_RCVTIMEO_NEW:
        out = sock_get_timeout(MAX_SCHEDULE_TIMEOUT if sk.sk_cold is None else sk.sk_cold.sk_rcvtimeo)
    elif optname == SO_SNDTIMEO or optname == SO_SNDTIMEO_NEW:
        out = sock_get_timeout(MAX_SCHEDULE_TIMEOUT if sk.sk_cold is None else sk.sk_cold.sk_sndtimeo)
    elif optname == SO_TIMESTAMPING or optname == SO_TIMESTAMPING_NEW:
        # The new form does not tell what the old one set.
        told = optname == SO_TIMESTAMPING or sock_flag(sk, SOCK_TSTAMP_NEW)
        out = pack_s32(timestamping.sk_tsflags(sk) if told else 0) + bytes(4)  # and bind_phc
    elif optname == SO_BINDTODEVICE:
        return sock_getbindtodevice(sk, optlen)
    elif optname == SO_PEERNAME:
        sock = sk.sk_socket
        if sock is None or sock.ops is None:
            return -ENOTCONN, b""
        err, out = sock.ops.getname(sock, 2)
        if err < 0:
            return -ENOTCONN, b""
        if len(out) < optlen:
            return -EINVAL, b""
    elif optname == SO_PEERCRED:
        out = pack_s32(0) + pack_s32(-1) + pack_s32(-1)  # nobody: pid 0, no uid, no gid
    elif optname == SO_PEERSEC:
        err, out = security.security_socket_getpeersec_stream(sk.sk_socket) if sk.sk_socket is not None else (-ENOPROTOOPT, b"")
        if err:
            return err, b""
        if len(out) > optlen:
            return -ERANGE, b""
    elif optname == SO_PEERGROUPS or optname == SO_PEERPIDFD:  # nobody
        return -ENODATA, b""
    elif optname == SO_GET_FILTER:
        return filter.sk_get_filter(sk, optlen)
    elif optname == SO_MAX_PACING_RATE:
        rate = -1 if sk.sk_cold is None else sk.sk_cold.sk_max_pacing_rate
        if optlen >= 8:
            out = pack_u64(rate)
        else:
            out = pack_s32(UINT_MAX if rate < 0 or rate > UINT_MAX else rate)
    elif optname == SO_MEMINFO:
        out = sk_get_meminfo(sk)
    elif optname == SO_COOKIE:
        if optlen < 8:
            return -EINVAL, b""
        out = pack_u64(sock_gen_cookie(sk))
    elif optname == SO_NETNS_COOKIE:
        if optlen != 8:
            return -EINVAL, b""
        out = pack_u64(sk.sk_net.net_cookie)
    else:
        return -ENOPROTOOPT, b""
    return 0, out[:optlen]


def sock_get_timeout(timeo: int) -> bytes:
    if timeo >= MAX_SCHEDULE_TIMEOUT:
        return pack_timeval(0, 0)
    return pack_timeval(timeo // NSEC_PER_SEC, timeo % NSEC_PER_SEC // NSEC_PER_USEC)


def sock_getbindtodevice(sk: Sock, optlen: int) -> tuple[int, bytes]:
    """The name with its zero byte; nothing when unbound."""
    if sk.sk_bound_dev_if == 0:
        return 0, b""
    if optlen < IFNAMSIZ:
        return -EINVAL, b""
    dev = dev_mod.dev_get_by_index(sk.sk_net, sk.sk_bound_dev_if)
    if dev is None:
        return -ENODEV, b""
    return 0, dev.name.encode("latin-1") + b"\0"


def sk_get_meminfo(sk: Sock) -> bytes:
    """SK_MEMINFO_*: nine 32-bit words."""
    words = (
        sk.sk_rmem_alloc,
        sk.sk_rcvbuf,
        sk_wmem_alloc_get(sk),
        sk.sk_sndbuf,
        sk.sk_forward_alloc,
        sk.sk_wmem_queued,
        0 if sk.sk_cold is None else sk.sk_cold.sk_omem_alloc,
        sk.sk_backlog_len,
        sk.sk_drops,
    )
    return b"".join([pack_s32(word) for word in words])
