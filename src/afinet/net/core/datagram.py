"""net/core/datagram.c: receiving datagrams, and the error queue that Linux keeps in skbuff.c and sock.c.

Up: a protocol's softirq side calls `sock_queue_rcv_skb_reason`, which charges the packet to the receiver or refuses it. Down:
recvmsg calls `__skb_recv_datagram`, which takes a packet, peeks at one, or says what to wait for, and then
`skb_copy_datagram_msg`, which shares the packet's bytes with the message instead of copying them.

Left out: zerocopy receive, and csum-and-copy (checksums are verified before queueing).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_PROTO_MEM,
    SKB_DROP_REASON_SOCKET_RCVBUFF,
)
from afinet.net.core.skbuff import (
    SkBuff,
    SkBuffHead,
    consume_skb,
    skb_pieces,
    skb_queue_tail,
    skb_set_owner_r,
    skb_unlink,
)
from afinet.net.core.sock import (
    SOCK_DEAD,
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
    from afinet.net.socket import MsgHdr


class SockColdFields:
    """What few socks use: the error queue and the socket filter. Made by `sk_cold` at first use."""

    __slots__ = ("sk_error_queue", "sk_filter")

    def __init__(self) -> None:
        self.sk_error_queue: SkBuffHead = SkBuffHead()
        self.sk_filter: object = None


def sk_cold(sk: Sock) -> SockColdFields:
    cold = sk.sk_cold
    if cold is None:
        cold = SockColdFields()
        sk.sk_cold = cold
    return cold


def connection_based(sk: Sock) -> bool:
    return sk.sk_type == SOCK_SEQPACKET or sk.sk_type == SOCK_STREAM


# -- softirq side ----------------------------------------------------------------------------------------------------------


def sock_queue_rcv_skb_reason(sk: Sock, skb: SkBuff) -> int:
    """Queue a packet to `sk` and wake its reader. 0, or the reason for which the caller must drop it."""
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
    skb.dev = None  # the device may be gone when the program reads; skb_iif keeps its index
    skb_set_owner_r(skb, sk)
    skb_queue_tail(sk.sk_receive_queue, skb)
    if not sock_flag(sk, SOCK_DEAD):
        sk.sk_data_ready()
    return 0


def sock_queue_err_skb(sk: Sock, skb: SkBuff) -> int:
    """Queue to the error queue, bounded by the receive buffer. 0 or -ENOMEM (the caller drops)."""
    if sk.sk_rmem_alloc + skb.truesize >= sk.sk_rcvbuf or not sk_rmem_schedule(sk, skb.truesize):
        return -ENOMEM
    skb_set_owner_r(skb, sk)
    skb_queue_tail(sk_cold(sk).sk_error_queue, skb)
    if not sock_flag(sk, SOCK_DEAD):
        sk.sk_error_report()
    return 0


def sock_dequeue_err_skb(sk: Sock) -> SkBuff | None:
    """The oldest entry of the error queue, or None; the next one's error becomes pending."""
    cold = sk.sk_cold
    if cold is None:
        return None
    skb = cold.sk_error_queue.head
    if skb is None:
        return None
    skb_unlink(cold.sk_error_queue, skb)
    if cold.sk_error_queue.head is not None:
        sk.sk_error_report()
    return skb


def error_queue_empty(sk: Sock) -> bool:
    return sk.sk_cold is None or sk.sk_cold.sk_error_queue.head is None


# -- system call side ------------------------------------------------------------------------------------------------------


def __skb_recv_datagram(sk: Sock, queue: SkBuffHead, flags: int, msg: MsgHdr) -> tuple[int, SkBuff | None, int]:
    """(0, packet, offset to read from), or (-errno or -EIOCBQUEUED, None, 0).

    Without MSG_PEEK the packet is the caller's, to be freed by skb_free_datagram; with it, it stays queued. The offset is
    SO_PEEK_OFF's, 0 without it.
    """
    err = sock_error(sk)
    if err:
        return err, None, 0
    skb = queue.head
    peek = flags & MSG_PEEK != 0
    off = sk.sk_peek_off if peek and sk.sk_peek_off > 0 else 0
    while skb is not None and off and off >= skb.len:
        off -= skb.len
        skb = skb.next
    if skb is not None:
        if not peek:
            skb_unlink(queue, skb)
        return 0, skb, off
    timeo = sock_rcvtimeo(sk, msg.iocb, flags & MSG_DONTWAIT != 0)
    err = __skb_wait_for_more_packets(sk, timeo, msg)
    return err, None, 0


def __skb_wait_for_more_packets(sk: Sock, timeo: int, msg: MsgHdr) -> int:
    """Why there is nothing to wait for, or -EIOCBQUEUED. A shut down side reads as 0: end of file."""
    if sk.sk_shutdown & RCV_SHUTDOWN:
        return 0
    if connection_based(sk) and not (sk.sk_state == TCP_ESTABLISHED or sk.sk_state == TCP_LISTEN):
        return -ENOTCONN
    if timeo == 0:
        return -EAGAIN
    if msg.iocb.ki_signal:
        return sock_intr_errno(timeo)
    return msg.iocb.wait(sk_sleep(sk), EPOLLIN | EPOLLERR | EPOLLHUP)


def skb_copy_datagram_msg(skb: SkBuff, offset: int, msg: MsgHdr, size: int) -> None:
    """Hand `size` bytes from `offset` on to the message; the pieces are shared, not copied."""
    if size > 0:
        msg.pieces.extend(skb_pieces(skb, offset, size))


def skb_free_datagram(sk: Sock, skb: SkBuff) -> None:
    consume_skb(skb)


def sk_peek_offset_fwd(sk: Sock, val: int) -> None:
    """SO_PEEK_OFF moves on by what was peeked at."""
    if sk.sk_peek_off >= 0:
        sk.sk_peek_off += val


def sk_peek_offset_bwd(sk: Sock, val: int) -> None:
    """and back by what was read."""
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
