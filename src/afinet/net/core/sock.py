"""net/core/sock.c and include/net/sock.h: struct sock, struct proto, and what every protocol shares.

Life: `sk_alloc` -> `sock_init_data` -> ... -> `sk_common_release` or the protocol's own close -> `sock_put` -> `sk_free` ->
`sk_destruct` once the last packet sent has given its charge back (`sk_wmem_alloc` starts at 1 and holds the sock until then).

Ownership: a system call that works on a sock owns it between `lock_sock` and `release_sock`; packets that arrive meanwhile go to
the backlog. Nothing here ever waits for the lock: operations never sleep, so an owner is always further up the same call stack.

Socket-level options are in sockopt.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import i16, i32, mypyc_attr
from afinet.kernel.memcontrol import MemCgroup, mem_cgroup_sk_charge, mem_cgroup_sk_uncharge
from afinet.kernel.page import PAGE_SIZE as PAGE_SIZE
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.kernel.wait import Kiocb, WaitQueueHead, wake_up_poll
from afinet.net.core import skbuff
from afinet.net.core.drop_reason import SKB_DROP_REASON_NOT_SPECIFIED
from afinet.security import security
from afinet.uapi.errno import EAGAIN, EINTR, ENOPROTOOPT, EOPNOTSUPP, EPIPE, ERESTARTSYS
from afinet.uapi.eventpoll import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDBAND,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
)
from afinet.uapi.socket import SEND_SHUTDOWN, SOCK_NOSPACE, SOCK_SNDBUF_LOCK, SOCK_STREAM
from afinet.uapi.tcp import TCP_CLOSE

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.kernel.timer import TimerList
    from afinet.net.core.datagram import SockColdFields
    from afinet.net.core.dst import DstEntry
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.skbuff import SkBuff, SkBuffHead
    from afinet.net.core.sock_reuseport import SockReuseport
    from afinet.net.ipv4.inet_hashtables import InetHashinfo
    from afinet.net.ipv4.inet_timewait_sock import TimewaitSockOps
    from afinet.net.ipv4.tcp_ipv4_reply import TcpRequestSockOps
    from afinet.net.socket import MsgHdr, Socket

# enum sock_flags, as bit numbers
SOCK_DEAD: Final = 0
SOCK_DONE: Final = 1
SOCK_URGINLINE: Final = 2
SOCK_KEEPOPEN: Final = 3
SOCK_LINGER: Final = 4
SOCK_DESTROY: Final = 5
SOCK_BROADCAST: Final = 6
SOCK_TIMESTAMP: Final = 7
SOCK_ZAPPED: Final = 8
SOCK_USE_WRITE_QUEUE: Final = 9
SOCK_DBG: Final = 10
SOCK_RCVTSTAMP: Final = 11
SOCK_RCVTSTAMPNS: Final = 12
SOCK_LOCALROUTE: Final = 13
SOCK_MEMALLOC: Final = 14
SOCK_RXQ_OVFL: Final = 15
SOCK_NOFCS: Final = 16
SOCK_FILTER_LOCKED: Final = 17
SOCK_SELECT_ERR_QUEUE: Final = 18
SOCK_RCU_FREE: Final = 19
SOCK_RCVMARK: Final = 20
SOCK_RCVPRIORITY: Final = 21
SOCK_TSTAMP_NEW: Final = 22
SOCK_ZEROCOPY: Final = 23
SOCK_TIMESTAMPING_ANY: Final = 24

# sk_userlocks, beside SOCK_SNDBUF_LOCK and SOCK_RCVBUF_LOCK of uapi
SOCK_BINDADDR_LOCK: Final = 4
SOCK_BINDPORT_LOCK: Final = 8

SK_CAN_REUSE: Final = 1
SK_FORCE_REUSE: Final = 2

# enum sk_pacing
SK_PACING_NONE: Final = 0
SK_PACING_NEEDED: Final = 1  # the protocol has to do it
SK_PACING_FQ: Final = 2  # the fq qdisc does it

SK_MEM_SEND: Final = 0
SK_MEM_RECV: Final = 1

SOCK_MIN_SNDBUF: Final = 2 * 2304  # TCP_SKB_MIN_TRUESIZE
SOCK_MIN_RCVBUF: Final = 2304

SLAB_TYPESAFE_BY_RCU: Final = 1 << 19


class SockCommon:
    """struct sock_common: what full socks, request socks and TIME_WAIT socks share, the key of every hash table.

    Addresses and ports are host-order ints. `inet_daddr` and `inet_dport` are the peer's; `inet_rcv_saddr` and `inet_num` the
    own ones that received packets are matched with.
    """

    __slots__ = (
        "inet_daddr",
        "inet_dport",
        "inet_num",
        "inet_rcv_saddr",
        "sk_bind_next",
        "sk_bind_prev",
        "sk_bound_dev_if",
        "sk_family",
        "sk_hash",
        "sk_hash_next",
        "sk_net",
        "sk_prot",
        "sk_refcnt",
        "sk_reuse",
        "sk_reuseport",
        "sk_state",
    )

    def __init__(self, net: Net, family: int, prot: Proto) -> None:
        self.sk_net: Net = net
        self.sk_prot: Proto = prot
        self.inet_daddr: int = 0
        self.inet_rcv_saddr: int = 0
        self.sk_hash: int = -1  # key under which the sock is hashed; -1: unhashed (sk_unhashed)
        self.sk_hash_next: SockCommon | None = None  # next sock of the same key
        self.sk_bind_next: SockCommon | None = None  # neighbours among the owners of a local port (sk_bind_node)
        self.sk_bind_prev: SockCommon | None = None
        # The small ones stand together, which leaves no holes in the compiled struct.
        self.sk_bound_dev_if: i32 = 0
        self.sk_refcnt: i32 = 1
        self.inet_dport: i32 = 0
        self.inet_num: i32 = 0
        self.sk_family: i16 = family
        self.sk_state: i16 = 0
        self.sk_reuse: i16 = 0
        self.sk_reuseport: bool = False


class Sock(SockCommon):
    """struct sock. Callbacks that Linux stores as pointers (`sk_data_ready`, ...) are methods, overridden by protocols."""

    __slots__ = (
        "kernel",
        "sk_ack_backlog",
        "sk_backlog",
        "sk_backlog_len",
        "sk_cold",
        "sk_disconnects",
        "sk_drops",
        "sk_dst_cache",
        "sk_dst_pending_confirm",
        "sk_err",
        "sk_err_soft",
        "sk_flags",
        "sk_forward_alloc",
        "sk_gso_max_segs",
        "sk_gso_max_size",
        "sk_incoming_cpu",
        "sk_kern_sock",
        "sk_lock_owned",
        "sk_mark",
        "sk_max_ack_backlog",
        "sk_memcg",
        "sk_net_refcnt",
        "sk_no_check_tx",
        "sk_pacing_rate",
        "sk_pacing_status",
        "sk_peek_off",
        "sk_priority",
        "sk_prot_creator",
        "sk_protocol",
        "sk_rcvbuf",
        "sk_rcvlowat",
        "sk_receive_queue",
        "sk_reuseport_cb",
        "sk_rmem_alloc",
        "sk_rx_dst",
        "sk_rx_dst_ifindex",
        "sk_rx_queue_mapping",
        "sk_shutdown",
        "sk_sndbuf",
        "sk_socket",
        "sk_stamp",
        "sk_tx_queue_mapping",
        "sk_txhash",
        "sk_txrehash",
        "sk_type",
        "sk_uid",
        "sk_userlocks",
        "sk_wmem_alloc",
        "sk_wmem_queued",
        "sk_wq",
        "sk_write_queue",
    )

    def __init__(self, net: Net, family: int, prot: Proto) -> None:
        super().__init__(net, family, prot)
        self.kernel: Kernel = net.kernel
        self.sk_prot_creator: Proto = prot
        self.sk_socket: Socket | None = None
        self.sk_wq: WaitQueueHead | None = None  # made by sk_sleep() when somebody first waits
        self.sk_uid: int = 0
        self.sk_mark: int = 0
        self.sk_priority: int = 0
        self.sk_stamp: int = -1  # when the last packet read came in (SIOCGSTAMP); -1: none was
        self.sk_txhash: int = 0
        # ownership
        self.sk_backlog: list[SkBuff] | None = None
        self.sk_backlog_len: int = 0  # truesize queued
        # memory
        self.sk_rcvbuf: int = 0
        self.sk_sndbuf: int = 0
        self.sk_rmem_alloc: int = 0
        self.sk_wmem_alloc: int = 1
        self.sk_wmem_queued: int = 0
        self.sk_forward_alloc: int = 0
        self.sk_memcg: MemCgroup | None = None
        self.sk_pacing_rate: int = -1  # bytes a second; -1: unlimited (~0UL)
        # queues
        self.sk_receive_queue: SkBuffHead = skbuff.SkBuffHead()
        self.sk_write_queue: SkBuffHead = skbuff.SkBuffHead()
        self.sk_dst_cache: DstEntry | None = None
        self.sk_rx_dst: DstEntry | None = None  # input route of the last segment, for early demux
        self.sk_reuseport_cb: SockReuseport | None = None
        self.sk_cold: SockColdFields | None = None  # error queue, filter: None until used
        # The small ones stand together, which leaves no holes in the compiled struct.
        self.sk_flags: i32 = 0
        self.sk_rcvlowat: i32 = 1
        self.sk_drops: i32 = 0
        self.sk_peek_off: i32 = -1
        self.sk_disconnects: i32 = 0  # connect(AF_UNSPEC)s: a call that waited across one is over (-EPIPE)
        self.sk_gso_max_size: i32 = 65536
        self.sk_gso_max_segs: i32 = 65535
        self.sk_ack_backlog: i32 = 0
        self.sk_max_ack_backlog: i32 = 0
        self.sk_rx_dst_ifindex: i32 = 0
        self.sk_incoming_cpu: i32 = -1  # SO_INCOMING_CPU; 0, the only CPU here, once a connected sock received something
        self.sk_type: i16 = 0
        self.sk_protocol: i16 = 0
        self.sk_shutdown: i16 = 0
        self.sk_userlocks: i16 = 0  # SOCK_SNDBUF_LOCK, SOCK_RCVBUF_LOCK, SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK
        self.sk_err: i16 = 0  # positive errno
        self.sk_err_soft: i16 = 0
        self.sk_txrehash: i16 = 0  # SO_TXREHASH
        self.sk_pacing_status: i16 = SK_PACING_NONE
        self.sk_rx_queue_mapping: i16 = -1
        self.sk_tx_queue_mapping: i16 = -1
        self.sk_kern_sock: bool = False
        self.sk_net_refcnt: bool = False
        self.sk_no_check_tx: bool = False
        self.sk_lock_owned: bool = False
        self.sk_dst_pending_confirm: bool = False  # the peer was heard: tell the neighbour with the next packet

    # -- callbacks ----------------------------------------------------------------------------------------------------

    def sk_state_change(self) -> None:
        """sock_def_wakeup."""
        wake_up_poll(self.sk_wq, 0, 0)

    def sk_data_ready(self) -> None:
        """sock_def_readable."""
        wq = self.sk_wq
        if wq is not None:
            wake_up_poll(wq, EPOLLIN | EPOLLPRI | EPOLLRDNORM | EPOLLRDBAND)

    def sk_write_space(self) -> None:
        """sock_def_write_space: wake a writer once half the buffer is free."""
        if self.sk_wq is not None and (self.sk_wmem_alloc - 1) << 1 <= self.sk_sndbuf and sock_writeable(self):
            wake_up_poll(self.sk_wq, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)

    def sk_error_report(self) -> None:
        """sk_error_report and sock_def_error_report."""
        if self.kernel.trace.inet_sk_error_report:
            self.kernel.trace.fire(
                "sock:inet_sk_error_report",
                {"error": self.sk_err, "family": self.sk_family, "protocol": self.sk_protocol, "sk": self},
            )
        wake_up_poll(self.sk_wq, EPOLLERR, 0)

    def sk_destruct(self) -> None:
        """Called once, when the last reference and the last sent packet are gone."""

    def tstamp_key(self, write_seq: bool) -> int:
        """Where SOF_TIMESTAMPING_OPT_ID begins to count the bytes of a stream; TcpSock overrides it."""
        return 0

    def tcp_wfree(self, truesize: int) -> None:
        """The destructor of TCP's packets in flight through the device queues (TSQ); TcpSock overrides it."""
        sock_wfree(self, truesize)


@mypyc_attr(allow_interpreted_subclasses=True)
class Proto:
    """struct proto: one transport protocol of one Kernel. A subclass per protocol, one instance a Kernel.

    Members Linux keeps as pointers to shared variables (`memory_allocated`, `sysctl_mem`, ...) are values of the instance, which
    belongs to one Kernel. Errors are -errno. Default verbs are Linux's absent ones.
    """

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel: Kernel = kernel
        self.name: str = name
        self.owner: str = "afinet"  # THIS_MODULE
        self.obj_size: int = 0  # bytes charged for a sock
        self.slab_flags: int = 0
        self.max_header: int = 0
        self.no_autobind: bool = False
        self.hashinfo: InetHashinfo | None = None
        self.memory_allocated: int = 0  # pages
        self.sockets_allocated: int = 0
        self.orphan_count: int = 0
        self.memory_pressure: int = 0  # 0, or when it was entered (ns)
        self.sysctl_mem: list[int] | None = None  # pages: min, pressure, max; None: not accounted
        self.inuse: dict[int, int] = {}  # socks in use by net_cookie
        self.twsk_prot: TimewaitSockOps | None = None
        self.rsk_prot: TcpRequestSockOps | None = None

    # making
    def sk_prot_alloc(self, net: Net, family: int) -> Sock:
        """A sock of this protocol's struct (the slab's `obj_size` in Linux)."""
        return Sock(net, family, self)

    def init(self, sk: Sock) -> int:
        return 0

    def destroy(self, sk: Sock) -> None:
        """Called by sk_common_release and inet_csk_destroy_sock."""

    # verbs of the socket layer
    def close(self, sk: Sock, timeout: int, iocb: Kiocb) -> int:
        """End the sock. `timeout` (ns) is SO_LINGER's. -EIOCBQUEUED to be called again, else 0."""
        sk_common_release(sk)
        return 0

    def pre_connect(self, sk: Sock, uaddr: bytes) -> int:
        return 0

    def connect(self, sk: Sock, uaddr: bytes) -> int:
        return -EOPNOTSUPP

    def disconnect(self, sk: Sock, flags: int) -> int:
        return -EOPNOTSUPP

    def accept(self, sk: Sock, flags: int, iocb: Kiocb) -> tuple[int, Sock | None]:
        return -EOPNOTSUPP, None

    def ioctl(self, sk: Sock, cmd: int, arg: bytes) -> tuple[int, bytes]:
        return -EOPNOTSUPP, b""

    def shutdown(self, sk: Sock, how: int) -> None:
        """`how` is a mask of RCV_SHUTDOWN and SEND_SHUTDOWN."""

    def setsockopt(self, sk: Sock, level: int, optname: int, optval: bytes) -> int:
        return -ENOPROTOOPT

    def getsockopt(self, sk: Sock, level: int, optname: int, optlen: int) -> tuple[int, bytes]:
        return -ENOPROTOOPT, b""

    def keepalive(self, sk: Sock, valbool: bool) -> None:
        """SO_KEEPALIVE was set or cleared."""

    def sendmsg(self, sk: Sock, msg: MsgHdr, size: int) -> int:
        return -EOPNOTSUPP

    def splice_eof(self, sk: Sock) -> None:
        """Send what MSG_MORE held back."""

    def recvmsg(self, sk: Sock, msg: MsgHdr, size: int, flags: int) -> int:
        return -EOPNOTSUPP

    def bind(self, sk: Sock, uaddr: bytes) -> int:
        """Only raw and ping have one of their own; `has_bind` says so."""
        return -EOPNOTSUPP

    def has_bind(self) -> bool:
        return False

    # softirq side
    def backlog_rcv(self, sk: Sock, skb: SkBuff) -> int:
        return skbuff.kfree_skb_reason(sk.sk_net, skb, SKB_DROP_REASON_NOT_SPECIFIED)

    def release_cb(self, sk: Sock) -> None:
        """What was put off while the sock was owned."""

    # names
    def hash(self, sk: Sock) -> int:
        return 0

    def hashed(self, sk: Sock) -> bool:
        """sk_hashed: whether packets find the sock."""
        return sk.sk_hash >= 0

    def unhash(self, sk: Sock) -> None:
        """Take the sock out of the tables."""

    def rehash(self, sk: Sock) -> None:
        """The local address changed."""

    def get_port(self, sk: Sock, snum: int) -> int:
        """Bind to local port `snum`, 0 for any. 0 or -errno. `has_get_port` is false for raw."""
        return 0

    def has_get_port(self) -> bool:
        return False

    def put_port(self, sk: Sock) -> None:
        """Release the local port."""

    # memory
    def has_memory_pressure(self) -> bool:
        """sk_has_memory_pressure: False for UDP, whose socks are refused beyond sysctl_mem[0] already."""
        return True

    def enter_memory_pressure(self, sk: Sock) -> None:
        """Allocation passed sysctl_mem[1]."""

    def leave_memory_pressure(self, sk: Sock) -> None:
        """Allocation fell below sysctl_mem[0]."""

    def stream_memory_free(self, sk: Sock, wake: int) -> bool:
        return True

    def sysctl_wmem(self, net: Net) -> list[int]:
        """Send buffer: min, default, max (bytes)."""
        return [SOCK_MIN_SNDBUF, net.core.sysctl_wmem_default, net.core.sysctl_wmem_max]

    def sysctl_rmem(self, net: Net) -> list[int]:
        return [SOCK_MIN_RCVBUF, net.core.sysctl_rmem_default, net.core.sysctl_rmem_max]

    def diag_destroy(self, sk: SockCommon, err: int) -> int:
        """Abort from outside (`ss -K`)."""
        return -EOPNOTSUPP


# -- flags -----------------------------------------------------------------------------------------------------------------


def sock_flag(sk: Sock, flag: int) -> bool:
    return sk.sk_flags >> flag & 1 == 1


def sock_set_flag(sk: Sock, flag: int) -> None:
    sk.sk_flags |= 1 << flag


def sock_reset_flag(sk: Sock, flag: int) -> None:
    sk.sk_flags &= ~(1 << flag)


def sock_valbool_flag(sk: Sock, flag: int, valbool: bool) -> None:
    if valbool:
        sock_set_flag(sk, flag)
    else:
        sock_reset_flag(sk, flag)


# -- life ------------------------------------------------------------------------------------------------------------------


def sk_alloc(net: Net, family: int, prot: Proto, kern: bool) -> Sock | None:
    """A sock with one reference, its net and its memory cgroup set; None if a security module refuses it."""
    sk = prot.sk_prot_alloc(net, family)
    sk.sk_family = family
    sk.sk_prot = prot
    sk.sk_prot_creator = prot
    sk.sk_kern_sock = kern
    if net.kernel.security_hooks and security.security_sk_alloc(sk, family):
        return None
    sk.sk_net_refcnt = not kern  # a kernel sock does not hold its namespace
    sock_net_set(sk, net)
    sk.sk_wmem_alloc = 1
    if not kern:
        sock_inuse_add(net, 1)
    mem_cgroup_sk_alloc(sk)
    return sk


def sock_net_set(sk: Sock, net: Net) -> None:
    sk.sk_net = net


def mem_cgroup_sk_alloc(sk: Sock) -> None:
    """The sock belongs to the group of the task that makes it."""
    if not sk.sk_kern_sock:
        sk.sk_memcg = sk.kernel.current_memcg


def mem_cgroup_sk_inherit(sk: Sock) -> None:
    """... or accepts it; what it holds by then is charged, whatever the limit."""
    memcg = sk.kernel.current_memcg
    if memcg is not None and sk.sk_memcg is None:
        sk.sk_memcg = memcg
        pages = (sk.sk_forward_alloc + sk.sk_rmem_alloc + PAGE_SIZE - 1) // PAGE_SIZE
        if pages:
            mem_cgroup_sk_charge(memcg, pages, True)


def sock_init_data(sock: Socket | None, sk: Sock, uid: int = 0) -> None:
    """sock_init_data_uid: defaults from sysctl, and the tie to `sock`."""
    core = sk.sk_net.core
    sk.sk_rcvbuf = core.sysctl_rmem_default
    sk.sk_sndbuf = core.sysctl_wmem_default
    sk.sk_state = TCP_CLOSE
    sk_set_socket(sk, sock)
    sock_set_flag(sk, SOCK_ZAPPED)
    if sock is not None:
        sk.sk_type = sock.type
        sock.sk = sk
    sk.sk_uid = uid
    sk.sk_rcvlowat = 1
    sk.sk_peek_off = -1
    sk.sk_stamp = -1
    sk.sk_pacing_rate = -1
    sk_rx_queue_clear(sk)
    sk_tx_queue_clear(sk)


def sk_set_socket(sk: Sock, sock: Socket | None) -> None:
    sk.sk_socket = sock


def sk_rx_queue_clear(sk: Sock) -> None:
    sk.sk_rx_queue_mapping = -1


def sk_tx_queue_clear(sk: Sock) -> None:
    sk.sk_tx_queue_mapping = -1


def sock_hold(sk: SockCommon) -> None:
    sk.sk_refcnt += 1


def sock_put(sk: Sock) -> None:
    sk.sk_refcnt -= 1
    if sk.sk_refcnt == 0:
        sk_free(sk)


def sk_free(sk: Sock) -> None:
    """The last reference is gone; packets still on their way keep the sock until they are freed."""
    sk.sk_wmem_alloc -= 1
    if sk.sk_wmem_alloc == 0:
        __sk_free(sk)


def __sk_free(sk: Sock) -> None:
    if sk.sk_net_refcnt:
        sock_inuse_add(sk.sk_net, -1)
    sk.sk_destruct()
    if sk.kernel.security_hooks:
        security.security_sk_free(sk)
    sk.sk_cold = None
    sk_dst_reset(sk)


def sock_orphan(sk: Sock) -> None:
    """Cut the tie to the socket: nobody will wait on this sock any more."""
    sock_set_flag(sk, SOCK_DEAD)
    sk_set_socket(sk, None)
    sk.sk_wq = None


def sock_graft(sk: Sock, parent: Socket) -> None:
    """Tie an accepted sock to its new socket."""
    parent.sk = sk
    sk_set_socket(sk, parent)
    sk.sk_uid = parent.uid
    if sk.kernel.security_hooks:
        security.security_sock_graft(sk, parent)


def sk_common_release(sk: Sock) -> None:
    """The close of protocols without states (udp, raw, ping)."""
    sk.sk_prot.destroy(sk)
    sk.sk_prot.unhash(sk)
    sock_orphan(sk)
    sock_put(sk)


def sk_sleep(sk: Sock) -> WaitQueueHead:
    """The wait queue, made at first use."""
    wq = sk.sk_wq
    if wq is None:
        wq = WaitQueueHead()
        sk.sk_wq = wq
    return wq


# -- ownership -------------------------------------------------------------------------------------------------------------


def sock_owned_by_user(sk: Sock) -> bool:
    return sk.sk_lock_owned


def lock_sock(sk: Sock) -> None:
    assert not sk.sk_lock_owned, "the sock is owned further up the call stack"
    sk.sk_lock_owned = True


def release_sock(sk: Sock) -> None:
    """Handle what came in meanwhile, then what was put off (which may send, and be answered, at once), then let go."""
    while True:
        if sk.sk_backlog is not None:
            __release_sock(sk)
        sk.sk_prot.release_cb(sk)
        if sk.sk_backlog is None:
            break
    sk.sk_lock_owned = False


def __release_sock(sk: Sock) -> None:
    while sk.sk_backlog is not None:
        backlog = sk.sk_backlog
        sk.sk_backlog = None
        for skb in backlog:
            sk.sk_prot.backlog_rcv(sk, skb)
    sk.sk_backlog_len = 0


def sk_add_backlog(sk: Sock, skb: SkBuff, limit: int) -> int:
    """Queue behind the owner. 0, or -1 (the caller drops) when `limit` bytes of truesize are queued already."""
    if sk.sk_backlog_len + sk.sk_rmem_alloc > limit:
        return -1
    if sk.sk_backlog is None:
        sk.sk_backlog = [skb]
    else:
        sk.sk_backlog.append(skb)
    sk.sk_backlog_len += skb.truesize
    return 0


# -- timers ----------------------------------------------------------------------------------------------------------------


def sk_reset_timer(sk: Sock, timer: TimerList, expires: int) -> None:
    """Arm for the jiffy at or after `expires` (ns). An armed timer holds the sock; its function ends with sock_put."""
    if not sk.kernel.mod_timer(timer, expires):
        sk.sk_refcnt += 1


def sk_stop_timer(sk: Sock, timer: TimerList | None) -> None:
    if timer is not None and sk.kernel.del_timer(timer):
        sock_put(sk)


# -- errors and times ------------------------------------------------------------------------------------------------------


def sock_error(sk: Sock) -> int:
    """Take the pending error: -errno, or 0."""
    err = sk.sk_err
    if err == 0:
        return 0
    sk.sk_err = 0
    return -err


def sk_error_report(sk: Sock) -> None:
    sk.sk_error_report()


def sock_rcvtimeo(sk: Sock, iocb: Kiocb, noblock: bool) -> int:
    """What the call may still wait for data (ns); 0: answer now."""
    if noblock:
        return 0
    return iocb.timeout(sk.kernel.now, MAX_SCHEDULE_TIMEOUT if sk.sk_cold is None else sk.sk_cold.sk_rcvtimeo)


def sock_sndtimeo(sk: Sock, iocb: Kiocb, noblock: bool) -> int:
    if noblock:
        return 0
    return iocb.timeout(sk.kernel.now, MAX_SCHEDULE_TIMEOUT if sk.sk_cold is None else sk.sk_cold.sk_sndtimeo)


def sock_intr_errno(timeo: int) -> int:
    """A call without a time limit is restarted after a signal, one with a limit answers -EINTR."""
    return -ERESTARTSYS if timeo >= MAX_SCHEDULE_TIMEOUT else -EINTR


def sock_rcvlowat(sk: Sock, waitall: bool, length: int) -> int:
    lowat: int = sk.sk_rcvlowat
    v = length if waitall else min(lowat, length)
    return v or 1


# -- destination cache -----------------------------------------------------------------------------------------------------


def __sk_dst_get(sk: Sock) -> DstEntry | None:
    return sk.sk_dst_cache


def sk_dst_set(sk: Sock, dst: DstEntry | None) -> None:
    sk_tx_queue_clear(sk)
    sk.sk_dst_cache = dst


def sk_setup_caps(sk: Sock, dst: DstEntry) -> None:
    """Take a route, and from its device what the sock may leave to it."""
    sk_dst_set(sk, dst)
    dev = dst.dev
    sk.sk_gso_max_size = dev.gso_max_size
    sk.sk_gso_max_segs = dev.gso_max_segs


def sk_dst_reset(sk: Sock) -> None:
    sk.sk_dst_cache = None


def __sk_dst_check(sk: Sock, cookie: int = 0) -> DstEntry | None:
    """The cached route if it still holds; else it is forgotten."""
    dst = sk.sk_dst_cache
    if dst is not None and dst.obsolete and not dst.check(cookie):
        sk_tx_queue_clear(sk)
        sk.sk_dst_cache = None
        return None
    return dst


# -- memory ----------------------------------------------------------------------------------------------------------------


def sock_wfree(sk: Sock, truesize: int) -> None:
    """A sent packet is gone: uncharge, tell writers, and free the sock if it only waited for this."""
    if sock_flag(sk, SOCK_USE_WRITE_QUEUE):
        sk.sk_wmem_alloc -= truesize
    else:
        sk.sk_wmem_alloc -= truesize - 1
        sk.sk_write_space()
        sk.sk_wmem_alloc -= 1
    if sk.sk_wmem_alloc == 0:
        __sk_free(sk)


def sock_rfree(sk: Sock, truesize: int) -> None:
    sk.sk_rmem_alloc -= truesize
    sk_mem_uncharge(sk, truesize)


def sk_wmem_alloc_get(sk: Sock) -> int:
    return sk.sk_wmem_alloc - 1


def sock_writeable(sk: Sock) -> bool:
    return sk.sk_wmem_alloc < sk.sk_sndbuf >> 1


def sk_has_account(sk: Sock) -> bool:
    return sk.sk_prot.sysctl_mem is not None


def sk_mem_charge(sk: Sock, size: int) -> None:
    if sk.sk_prot.sysctl_mem is not None:
        sk.sk_forward_alloc -= size


def sk_mem_uncharge(sk: Sock, size: int) -> None:
    """Bytes go back to the sock's reserve, and whole pages of it to the protocol."""
    if sk.sk_prot.sysctl_mem is None:
        return
    sk.sk_forward_alloc += size
    if sk.sk_forward_alloc >= PAGE_SIZE:
        sk_mem_reclaim(sk)


def sk_mem_reclaim(sk: Sock) -> None:
    if sk.sk_prot.sysctl_mem is None:
        return
    reclaimable = sk.sk_forward_alloc
    if sk.sk_cold is not None:
        reclaimable -= sk.sk_cold.sk_reserved_mem
    if reclaimable >= PAGE_SIZE:
        __sk_mem_reclaim(sk, reclaimable)


def __sk_mem_reclaim(sk: Sock, amount: int) -> None:
    pages = amount // PAGE_SIZE
    sk.sk_forward_alloc -= pages * PAGE_SIZE
    __sk_mem_reduce_allocated(sk, pages)


def __sk_mem_reduce_allocated(sk: Sock, pages: int) -> None:
    prot = sk.sk_prot
    prot.memory_allocated -= pages
    if sk.sk_memcg is not None:
        mem_cgroup_sk_uncharge(sk.sk_memcg, pages)
    mem = prot.sysctl_mem
    if prot.memory_pressure and mem is not None and prot.memory_allocated < mem[0]:
        prot.leave_memory_pressure(sk)


def sk_wmem_schedule(sk: Sock, size: int) -> bool:
    """Make sure of `size` bytes of forward allocation for sending."""
    if sk.sk_prot.sysctl_mem is None:
        return True
    delta = size - sk.sk_forward_alloc
    return delta <= 0 or __sk_mem_schedule(sk, delta, SK_MEM_SEND)


def sk_rmem_schedule(sk: Sock, size: int) -> bool:
    """Make sure of `size` bytes of forward allocation for receiving."""
    if sk.sk_prot.sysctl_mem is None:
        return True
    delta = size - sk.sk_forward_alloc
    return delta <= 0 or __sk_mem_schedule(sk, delta, SK_MEM_RECV)


def __sk_mem_schedule(sk: Sock, size: int, kind: int) -> bool:
    """Take whole pages from the protocol. False: over its limits, nothing taken."""
    pages = (size + PAGE_SIZE - 1) // PAGE_SIZE
    sk.sk_forward_alloc += pages * PAGE_SIZE
    if __sk_mem_raise_allocated(sk, size, pages, kind):
        return True
    sk.sk_forward_alloc -= pages * PAGE_SIZE
    return False


def __sk_mem_raise_allocated(sk: Sock, size: int, pages: int, kind: int) -> bool:
    """Charge `pages` to the protocol and to the sock's group. False: over a limit, nothing charged."""
    prot = sk.sk_prot
    mem = prot.sysctl_mem
    assert mem is not None
    prot.memory_allocated += pages
    allocated = prot.memory_allocated
    memcg = sk.sk_memcg
    charged = memcg is None or mem_cgroup_sk_charge(memcg, pages)
    if charged:
        if allocated <= mem[0]:
            if prot.memory_pressure:
                prot.leave_memory_pressure(sk)
            return True
        if allocated > mem[1]:
            prot.enter_memory_pressure(sk)
        if allocated <= mem[2] and sk_mem_guaranteed(sk, kind):
            return True
    if kind == SK_MEM_SEND and sk.sk_type == SOCK_STREAM:
        sk_stream_moderate_sndbuf(sk)
        # A sock that is over its own send buffer will wait for itself; only one below it can fail.
        if sk.sk_wmem_queued + size >= sk.sk_sndbuf:
            if memcg is not None and not charged:
                mem_cgroup_sk_charge(memcg, pages, True)
            return True
    if sk.kernel.trace.sock_exceed_buf_limit:
        sk.kernel.trace.fire(
            "sock:sock_exceed_buf_limit",
            {"name": prot.name, "sysctl_mem": tuple(mem), "allocated": allocated, "rmem_alloc": sk.sk_rmem_alloc},
        )
    prot.memory_allocated -= pages
    if memcg is not None and charged:
        mem_cgroup_sk_uncharge(memcg, pages)
    return False


def sk_mem_guaranteed(sk: Sock, kind: int) -> bool:
    """Below the hard limit: a sock under its guaranteed minimum always gets on; so does one over it while there is no pressure, or
    that has less than its share."""
    prot = sk.sk_prot
    if kind == SK_MEM_RECV:
        if sk.sk_rmem_alloc < prot.sysctl_rmem(sk.sk_net)[0]:
            return True
    else:
        used = sk.sk_wmem_queued if sk.sk_type == SOCK_STREAM else sk.sk_wmem_alloc
        if used < prot.sysctl_wmem(sk.sk_net)[0]:
            return True
    if not prot.has_memory_pressure():
        return False
    if not prot.memory_pressure:
        return True
    mem = prot.sysctl_mem
    assert mem is not None
    used = sk.sk_wmem_queued + sk.sk_rmem_alloc + sk.sk_forward_alloc
    return mem[2] > prot.sockets_allocated * ((used + PAGE_SIZE - 1) // PAGE_SIZE)


def sk_forced_mem_schedule(sk: Sock, size: int) -> None:
    """Memory for what cannot be put off: a FIN, a probe, the only segment of a sock."""
    delta = size - sk.sk_forward_alloc
    if delta <= 0 or sk.sk_prot.sysctl_mem is None:
        return
    pages = (delta + PAGE_SIZE - 1) // PAGE_SIZE
    sk.sk_forward_alloc += pages * PAGE_SIZE
    sk.sk_prot.memory_allocated += pages
    if sk.sk_memcg is not None:
        mem_cgroup_sk_charge(sk.sk_memcg, pages, True)


def sk_unused_reserved_mem(sk: Sock) -> int:
    """What is left of SO_RESERVE_MEM's memory: the sock may go on with it under pressure."""
    cold = sk.sk_cold
    if cold is None or not cold.sk_reserved_mem:
        return 0
    unused = cold.sk_reserved_mem - sk.sk_wmem_queued - sk.sk_rmem_alloc
    return unused if unused > 0 else 0


def sk_stream_moderate_sndbuf(sk: Sock) -> None:
    """Memory is short: no larger a send buffer than half of what is queued."""
    if not sk.sk_userlocks & SOCK_SNDBUF_LOCK:
        val = max(min(sk.sk_sndbuf, sk.sk_wmem_queued >> 1), sk_unused_reserved_mem(sk))
        sk.sk_sndbuf = max(val, SOCK_MIN_SNDBUF)


def sock_alloc_send_check(sk: Sock, iocb: Kiocb, noblock: bool) -> int:
    """The wait of sock_alloc_send_pskb: 0 when a datagram may be made, else -errno or -EIOCBQUEUED."""
    err = sock_error(sk)
    if err:
        return err
    if sk.sk_shutdown & SEND_SHUTDOWN:
        return -EPIPE
    if sk_wmem_alloc_get(sk) < sk.sk_sndbuf:
        return 0
    if sk.sk_socket is not None:
        sk.sk_socket.flags |= 1 << SOCK_NOSPACE
    timeo = sock_sndtimeo(sk, iocb, noblock)
    if timeo == 0:
        return -EAGAIN
    if iocb.ki_signal:
        return sock_intr_errno(timeo)
    return iocb.wait(sk_sleep(sk), EPOLLOUT | EPOLLERR | EPOLLHUP)


# -- registry --------------------------------------------------------------------------------------------------------------


def proto_register(kernel: Kernel, prot: Proto) -> int:
    kernel.proto_list.append(prot)
    return 0


def proto_unregister(kernel: Kernel, prot: Proto) -> None:
    kernel.proto_list.remove(prot)


def sock_inuse_add(net: Net, val: int) -> None:
    """Socks of all families in use ("sockets: used" of /proc/net/sockstat)."""
    net.sock_inuse["sockets"] = net.sock_inuse.get("sockets", 0) + val


def sock_inuse_get(net: Net) -> int:
    return net.sock_inuse.get("sockets", 0)


def sock_prot_inuse_add(net: Net, prot: Proto, val: int) -> None:
    prot.inuse[net.net_cookie] = prot.inuse.get(net.net_cookie, 0) + val


def sock_prot_inuse_get(net: Net, prot: Proto) -> int:
    return prot.inuse.get(net.net_cookie, 0)
