"""net/core/datagram.c: receiving datagrams, and the error queue that Linux keeps in skbuff.c and sock.c.

Up: a protocol's softirq side calls `sock_queue_rcv_skb_reason`, which charges the packet to the receiver or refuses it.
Down: recvmsg calls `__skb_recv_datagram`, which takes a packet, peeks at one, or says what to wait for, and then
`skb_copy_datagram_msg`, which shares the packet's bytes with the message instead of copying them.

Errors that came by ICMP, or that a send of this host's met, wait in the error queue of a sock that asked for them (IP_RECVERR):
`sock_queue_err_skb`, `sock_dequeue_err_skb`.

Left out: zerocopy receive, and csum-and-copy (a checksum is verified before the bytes are handed over).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.net.core import filter
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_PROTO_MEM,
    SKB_DROP_REASON_SOCKET_RCVBUFF,
)
from afinet.net.core.skbuff import (
    SkBuff,
    SkBuffHead,
    alloc_skb,
    consume_skb,
    skb_pieces,
    skb_queue_tail,
    skb_set_owner_r,
    skb_unlink,
)
from afinet.net.core.sock import (
    SOCK_DEAD,
    SOCK_RXQ_OVFL,
    SOCK_SELECT_ERR_QUEUE,
    Sock,
    sk_rmem_schedule,
    sk_sleep,
    sock_error,
    sock_flag,
    sock_intr_errno,
    sock_rcvtimeo,
    sock_writeable,
)
from afinet.uapi.errno import EAGAIN, ENOMEM, ENOTCONN
from afinet.uapi.errqueue import (
    SO_EE_CODE_ZEROCOPY_COPIED,
    SO_EE_ORIGIN_ICMP,
    SO_EE_ORIGIN_ICMP6,
    SO_EE_ORIGIN_ZEROCOPY,
)
from afinet.uapi.eventpoll import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
)
from afinet.uapi.socket import MSG_DONTWAIT, MSG_PEEK, RCV_SHUTDOWN, SHUTDOWN_MASK, SOCK_SEQPACKET, SOCK_STREAM
from afinet.uapi.tcp import TCP_CLOSE, TCP_ESTABLISHED, TCP_LISTEN, TCP_SYN_SENT

if TYPE_CHECKING:
    from afinet.net.core.filter import BpfProg
    from afinet.net.socket import MsgHdr

# skb.cb of an empty packet that MSG_PEEK has shown (skb->peeked).
SKB_PEEKED: Final = "peeked"


class SockColdFields:
    """What few socks use: the error queue, the socket filter, rare options. Made by `sk_cold` at first use."""

    __slots__ = (
        "sk_cookie",
        "sk_error_queue",
        "sk_filter",
        "sk_lingertime",
        "sk_max_pacing_rate",
        "sk_omem_alloc",
        "sk_rcvtimeo",
        "sk_reserved_mem",
        "sk_rx_tstamp",
        "sk_sndtimeo",
        "sk_tsflags",
        "sk_tskey",
        "sk_zckey",
    )

    def __init__(self) -> None:
        self.sk_error_queue: SkBuffHead = SkBuffHead()
        self.sk_filter: BpfProg | None = None  # SO_ATTACH_FILTER
        self.sk_tsflags: int = 0  # SO_TIMESTAMPING
        self.sk_tskey: int = 0  # the number of the next datagram; of a stream, the sequence number that is number 0
        self.sk_zckey: int = 0  # the number of the next call with MSG_ZEROCOPY
        self.sk_rx_tstamp: int = 0  # of the last segment read
        self.sk_omem_alloc: int = 0  # bytes charged against net.core.optmem_max
        self.sk_cookie: int = 0  # SO_COOKIE, drawn when first asked for
        self.sk_reserved_mem: int = 0  # SO_RESERVE_MEM: bytes of sk_forward_alloc that are not given back
        self.sk_rcvtimeo: int = MAX_SCHEDULE_TIMEOUT  # SO_RCVTIMEO, ns
        self.sk_sndtimeo: int = MAX_SCHEDULE_TIMEOUT
        self.sk_lingertime: int = 0  # SO_LINGER, ns
        self.sk_max_pacing_rate: int = -1  # SO_MAX_PACING_RATE, bytes a second


def sk_cold(sk: Sock) -> SockColdFields:
    cold = sk.sk_cold
    if cold is None:
        cold = SockColdFields()
        sk.sk_cold = cold
    return cold


def sk_clone_cold(child: Sock, parent: Sock) -> None:
    """The part of sk_clone: a listener's rare options are its children's, too."""
    old = parent.sk_cold
    if old is not None:
        cold = sk_cold(child)
        if old.sk_filter is not None:
            cold.sk_filter = old.sk_filter
            cold.sk_omem_alloc += old.sk_filter.size
        cold.sk_tsflags = old.sk_tsflags
        cold.sk_rcvtimeo = old.sk_rcvtimeo
        cold.sk_sndtimeo = old.sk_sndtimeo
        cold.sk_lingertime = old.sk_lingertime
        cold.sk_max_pacing_rate = old.sk_max_pacing_rate


def connection_based(sk: Sock) -> bool:
    return sk.sk_type == SOCK_SEQPACKET or sk.sk_type == SOCK_STREAM


# -- softirq side ----------------------------------------------------------------------------------------------------------


def sock_queue_rcv_skb_reason(sk: Sock, skb: SkBuff) -> int:
    """Past the filter, queue a packet to `sk` and wake its reader. 0, or the reason for which the caller must drop it."""
    if sk.sk_cold is not None or sk.kernel.security_hooks:
        reason = filter.sk_filter(sk, skb)
        if reason:
            return reason
    if sk.sk_rmem_alloc >= sk.sk_rcvbuf:
        sk.sk_drops += 1
        if sk.kernel.trace.sock_rcvqueue_full:
            sk.kernel.trace.fire(
                "sock:sock_rcvqueue_full",
                {"rmem_alloc": sk.sk_rmem_alloc, "truesize": skb.truesize, "sk_rcvbuf": sk.sk_rcvbuf},
            )
        return SKB_DROP_REASON_SOCKET_RCVBUFF
    if not sk_rmem_schedule(sk, skb.truesize):
        sk.sk_drops += 1
        return SKB_DROP_REASON_PROTO_MEM
    __sock_queue_rcv_skb(sk, skb)
    return 0


def __sock_queue_rcv_skb(sk: Sock, skb: SkBuff) -> None:
    """The packet fits: charge it, queue it, wake the reader."""
    skb.dev = None  # the device may be gone when the program reads; skb_iif keeps its index
    skb_set_owner_r(skb, sk)
    flags = sk.sk_flags
    skb.dropcount = sk.sk_drops if flags >> SOCK_RXQ_OVFL & 1 else 0  # sock_skb_set_dropcount
    skb_queue_tail(sk.sk_receive_queue, skb)
    if not flags >> SOCK_DEAD & 1:
        sk.sk_data_ready()


class SockExterrSkb:
    """struct sock_exterr_skb, the `cb` of a packet in the error queue: sock_extended_err, and where the quote has the address that
    the datagram was sent to."""

    __slots__ = ("addr_offset", "ee_code", "ee_data", "ee_errno", "ee_info", "ee_origin", "ee_type", "iif", "port")

    def __init__(self, errno: int, origin: int, type: int, code: int, info: int, data: int = 0) -> None:
        self.ee_errno: int = errno  # positive
        self.ee_origin: int = origin  # SO_EE_ORIGIN_*
        self.ee_type: int = type
        self.ee_code: int = code
        self.ee_info: int = info
        self.ee_data: int = data
        self.addr_offset: int = 0
        self.port: int = 0
        self.iif: int = 0  # of a stamped packet: the device that it left by


def is_icmp_err_skb(skb: SkBuff) -> bool:
    err = skb.cb
    return isinstance(err, SockExterrSkb) and err.ee_origin in (SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6)


def sock_queue_err_skb(sk: Sock, skb: SkBuff) -> int:
    """Queue to the error queue, bounded by the receive buffer. 0 or -ENOMEM (the caller drops)."""
    if sk.sk_rmem_alloc + skb.truesize >= sk.sk_rcvbuf or not sk_rmem_schedule(sk, skb.truesize):
        return -ENOMEM
    skb_set_owner_r(skb, sk)
    skb_queue_tail(sk_cold(sk).sk_error_queue, skb)
    if not sock_flag(sk, SOCK_DEAD):
        sk.sk_error_report()
    return 0


def msg_zerocopy_callback(sk: Sock) -> None:
    """A call with MSG_ZEROCOPY is over, and so is its hold on the program's memory: afinet copies when the bytes come in, and
    says so (SO_EE_CODE_ZEROCOPY_COPIED), as Linux does for what it has to copy. Calls that follow each other share a notice."""
    cold = sk_cold(sk)
    number = cold.sk_zckey
    cold.sk_zckey = (number + 1) & 0xFFFFFFFF
    tail = cold.sk_error_queue.tail
    last = None if tail is None else tail.cb
    if isinstance(last, SockExterrSkb) and last.ee_origin == SO_EE_ORIGIN_ZEROCOPY and (last.ee_data + 1) & 0xFFFFFFFF == number:
        last.ee_data = number
    else:
        # Not charged: between two of these stands another entry, and those are bounded.
        skb = alloc_skb(b"")
        skb.cb = SockExterrSkb(0, SO_EE_ORIGIN_ZEROCOPY, 0, SO_EE_CODE_ZEROCOPY_COPIED, number, number)
        skb_queue_tail(cold.sk_error_queue, skb)
    if not sock_flag(sk, SOCK_DEAD):
        sk.sk_error_report()


def sock_dequeue_err_skb(sk: Sock) -> SkBuff | None:
    """The oldest entry of the error queue, or None. The pending error becomes that of the next entry, if it came by ICMP; none is
    pending any more when the last such entry is taken."""
    cold = sk.sk_cold
    if cold is None:
        return None
    skb = cold.sk_error_queue.head
    if skb is None:
        return None
    skb_unlink(cold.sk_error_queue, skb)
    following = cold.sk_error_queue.head
    icmp_next = False
    if following is not None and is_icmp_err_skb(following):
        icmp_next = True
        sk.sk_err = cast(SockExterrSkb, following.cb).ee_errno
    if not icmp_next and is_icmp_err_skb(skb):
        sk.sk_err = 0
    if following is not None:
        sk.sk_error_report()
    return skb


def error_queue_empty(sk: Sock) -> bool:
    return sk.sk_cold is None or sk.sk_cold.sk_error_queue.head is None


# -- system call side ------------------------------------------------------------------------------------------------------


def sk_peek_offset(sk: Sock, flags: int) -> int:
    """Where MSG_PEEK begins to look: SO_PEEK_OFF, -1 without it; 0 for a call that takes."""
    return sk.sk_peek_off if flags & MSG_PEEK else 0


def __skb_try_recv_from_queue(queue: SkBuffHead, flags: int, off: int) -> tuple[SkBuff | None, int]:
    """(packet, offset to read from), or (None, 0). Without MSG_PEEK the packet leaves the queue."""
    skb = queue.head
    if skb is None:
        return None, 0
    if not flags & MSG_PEEK:
        skb_unlink(queue, skb)
        return skb, 0
    if off < 0:
        return skb, 0
    while skb is not None:
        # An empty packet is shown once at its place; a peek that moves on finds it marked.
        if off >= skb.len and (off or skb.cb is SKB_PEEKED):
            off -= skb.len
            skb = skb.next
            continue
        if not skb.len:
            skb.cb = SKB_PEEKED
        return skb, off
    return None, 0


def __skb_recv_datagram(sk: Sock, queue: SkBuffHead, flags: int, off: int, msg: MsgHdr) -> tuple[int, SkBuff | None, int]:
    """(0, packet, offset to read from), or (-errno or -EIOCBQUEUED or 0 for end of file, None, 0).

    Without MSG_PEEK the packet is the caller's, to be freed by skb_free_datagram; with it, it stays queued. `off` is
    sk_peek_offset's for a protocol that has SO_PEEK_OFF, 0 for others.
    """
    err = sock_error(sk)
    if err:
        return err, None, 0
    skb, off = __skb_try_recv_from_queue(queue, flags, off)
    if skb is not None:
        return 0, skb, off
    timeo = sock_rcvtimeo(sk, msg.iocb, flags & MSG_DONTWAIT != 0)
    if timeo == 0:
        # Not even a side that is shut down says more to a caller who does not wait.
        return -EAGAIN, None, 0
    return __skb_wait_for_more_packets(sk, timeo, msg), None, 0


def __skb_wait_for_more_packets(sk: Sock, timeo: int, msg: MsgHdr) -> int:
    """Why there is nothing to wait for, or -EIOCBQUEUED. A side that is shut down reads as 0: end of file."""
    if sk.sk_shutdown & RCV_SHUTDOWN:
        return 0
    if connection_based(sk) and not (sk.sk_state == TCP_ESTABLISHED or sk.sk_state == TCP_LISTEN):
        return -ENOTCONN
    if msg.iocb.ki_signal:
        return sock_intr_errno(timeo)
    # One packet wakes one reader (prepare_to_wait_exclusive, receiver_wake_function).
    return msg.iocb.wait(sk_sleep(sk), EPOLLIN | EPOLLERR, True)


def skb_copy_datagram_msg(skb: SkBuff, offset: int, msg: MsgHdr, size: int) -> None:
    """Hand `size` bytes from `offset` on to the message; the pieces are shared, not copied."""
    if size > 0:
        msg.pieces.extend(skb_pieces(skb, offset, size))


def skb_free_datagram(sk: Sock, skb: SkBuff) -> None:
    consume_skb(skb)


def sk_peek_offset_bwd(sk: Sock, val: int) -> None:
    """SO_PEEK_OFF moves back by what was read, and on by what was peeked at (`val` negative)."""
    if sk.sk_peek_off >= 0:
        sk.sk_peek_off = max(sk.sk_peek_off - val, 0)


def datagram_poll(sk: Sock, queue: SkBuffHead) -> int:
    """datagram_poll_queue: the poll mask of a datagram sock."""
    mask = 0
    if sk.sk_err or not error_queue_empty(sk):
        mask |= EPOLLERR | (EPOLLPRI if sock_flag(sk, SOCK_SELECT_ERR_QUEUE) else 0)
    if sk.sk_shutdown & RCV_SHUTDOWN:
        mask |= EPOLLRDHUP | EPOLLIN | EPOLLRDNORM
    if sk.sk_shutdown == SHUTDOWN_MASK:
        mask |= EPOLLHUP
    if queue.head is not None:
        mask |= EPOLLIN | EPOLLRDNORM
    if connection_based(sk):
        if sk.sk_state == TCP_CLOSE:
            mask |= EPOLLHUP
        if sk.sk_state == TCP_SYN_SENT:
            return mask
    if sock_writeable(sk):
        mask |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND
    return mask
