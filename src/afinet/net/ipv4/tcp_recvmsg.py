"""net/ipv4/tcp.c, its part that gives received data to the program.

tcp_recvmsg takes from the receive queue what tcp_rcvq.py put there: the pieces as they came, shared, not copied.
tcp_cleanup_rbuf then decides whether the peer should hear of the room at once. Left out: TCP_ZEROCOPY_RECEIVE. """

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.net.core import datagram, timestamping
from afinet.net.core.scm import put_cmsg
from afinet.net.core.skbuff import DESTRUCTOR_RFREE, SkBuff, consume_skb, skb_pieces, skb_unlink
from afinet.net.core.sock import (
    SOCK_DONE,
    SOCK_RCVTSTAMP,
    SOCK_TIMESTAMPING_ANY,
    SOCK_URGINLINE,
    lock_sock,
    release_sock,
    sk_mem_uncharge,
    sk_sleep,
    sock_error,
    sock_flag,
    sock_intr_errno,
    sock_rcvlowat,
    sock_rcvtimeo,
)
from afinet.net.ipv4 import ip_sockglue, tcp_output, tcp_rcvq
from afinet.net.ipv4.inet_sock import ICSK_ACK_PUSHED, ICSK_ACK_PUSHED2, ICSK_ACK_SCHED
from afinet.net.ipv4.tcp_inline import (
    TCP_URG_READ,
    TCP_URG_VALID,
    inet_csk_in_pingpong_mode,
    tcp_fast_path_check,
    tcp_receive_window,
)
from afinet.net.ipv4.tcp_sock import TCPHDR_FIN, TcpSock, after, before, tcp_cold
from afinet.uapi.errno import EAGAIN, EINVAL, EIOCBQUEUED, ENOTCONN, EPIPE
from afinet.uapi.eventpoll import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLPRI, EPOLLRDHUP, EPOLLRDNORM
from afinet.uapi.in_ import IPPROTO_TCP
from afinet.uapi.sockaddr import pack_s32
from afinet.uapi.socket import MSG_DONTWAIT, MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, RCV_SHUTDOWN
from afinet.uapi.tcp import TCP_CLOSE, TCP_CM_INQ, TCP_LISTEN, TCPF_SYN_RECV, TCPF_SYN_SENT

if TYPE_CHECKING:
    from afinet.kernel.wait import Kiocb
    from afinet.net.socket import MsgHdr

_RX_TSTAMP_FLAGS: Final = 1 << SOCK_RCVTSTAMP | 1 << SOCK_TIMESTAMPING_ANY
# A part of a packet longer than this is handed out as a view: below, a copy costs less than the view.
_VIEW: Final = 2048

_READ_EVENTS: Final = EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLPRI | EPOLLERR | EPOLLHUP


# -- receiving -------------------------------------------------------------------------------------------------------------


def tcp_recv_urg(sk: TcpSock, msg: MsgHdr, length: int, flags: int) -> int:
    """recv(MSG_OOB): the one byte that is out of band. It never waits (BSD)."""
    if sock_flag(sk, SOCK_URGINLINE) or not sk.urg_data or sk.urg_data == TCP_URG_READ:
        return -EINVAL
    if sk.sk_state == TCP_CLOSE and not sock_flag(sk, SOCK_DONE):
        return -ENOTCONN
    if sk.urg_data & TCP_URG_VALID:
        byte = sk.urg_data & 0xFF
        if not flags & MSG_PEEK:
            sk.urg_data = TCP_URG_READ
        msg.msg_flags |= MSG_OOB
        if length > 0:
            if not flags & MSG_TRUNC:
                msg.pieces.append(bytes([byte]))
            return 1
        msg.msg_flags |= MSG_TRUNC
        return 0
    if sk.sk_state == TCP_CLOSE or sk.sk_shutdown & RCV_SHUTDOWN:
        return 0
    return -EAGAIN


def tcp_cleanup_rbuf(sk: TcpSock, copied: int) -> None:
    """The program took `copied` bytes: send an ACK if the peer should know at once."""
    time_to_ack = False
    pending = sk.icsk_ack_pending
    if pending & ICSK_ACK_SCHED:
        if (sk.rcv_nxt - sk.rcv_wup) & 0xFFFFFFFF > sk.icsk_ack_rcv_mss or (
            # The buffer is empty now: a pushed segment of a one-way connection need not wait for the timer.
            copied > 0
            and sk.sk_rmem_alloc == 0
            and (pending & ICSK_ACK_PUSHED2 != 0 or (pending & ICSK_ACK_PUSHED != 0 and not inet_csk_in_pingpong_mode(sk)))
        ):
            time_to_ack = True
    # A window that at least doubles is worth an ACK of its own.
    if copied > 0 and not time_to_ack and not sk.sk_shutdown & RCV_SHUTDOWN:
        rcv_window_now = tcp_receive_window(sk)
        if 2 * rcv_window_now <= sk.window_clamp:
            new_window = tcp_output.__tcp_select_window(sk)
            if new_window and new_window >= 2 * rcv_window_now:
                time_to_ack = True
    if time_to_ack:
        tcp_output.tcp_send_ack(sk)


def tcp_eat_recv_skb(sk: TcpSock, skb: SkBuff) -> None:
    """A segment was read to its end."""
    skb_unlink(sk.sk_receive_queue, skb)
    if skb.destructor == DESTRUCTOR_RFREE:
        truesize = skb.truesize
        sk.sk_rmem_alloc -= truesize
        skb.destructor = 0
        skb.sk = None
        sk_mem_uncharge(sk, truesize)
    consume_skb(skb)


def tcp_recvmsg(sk: TcpSock, msg: MsgHdr, size: int, flags: int) -> int:
    """proto.recvmsg: appends to `msg.pieces`; bytes, 0 at the end of the stream, or -errno."""
    if flags & MSG_ERRQUEUE:
        return ip_sockglue.ip_recv_error(sk, msg, size)
    lock_sock(sk)
    ret = tcp_recvmsg_locked(sk, msg, size, flags)
    while ret == -EIOCBQUEUED and (sk.sk_backlog is not None or sk.tsq_flags & ~3):
        release_sock(sk)
        lock_sock(sk)
        ret = tcp_recvmsg_locked(sk, msg, size, flags)
    if ret >= 0 and sk.sk_flags & _RX_TSTAMP_FLAGS:
        cold = datagram.sk_cold(sk)
        if cold.sk_rx_tstamp:
            timestamping.tcp_recv_timestamp(msg, sk, cold.sk_rx_tstamp)
            cold.sk_rx_tstamp = 0
    if ret >= 0 and sk.tcp_cold is not None and sk.tcp_cold.recvmsg_inq:
        put_cmsg(msg, IPPROTO_TCP, TCP_CM_INQ, pack_s32(tcp_inq_hint(sk)))
    release_sock(sk)
    return ret


def tcp_inq_hint(sk: TcpSock) -> int:
    """TCP_INQ: bytes left to read; 1 when only the end of the stream is."""
    inq = (sk.rcv_nxt - sk.copied_seq) & 0xFFFFFFFF
    if inq > 0x7FFFFFFF:
        inq = tcp_inq(sk)
    if inq == 0 and sock_flag(sk, SOCK_DONE):
        inq = 1
    return inq


def tcp_recvmsg_locked(sk: TcpSock, msg: MsgHdr, length: int, flags: int) -> int:
    if sk.sk_state == TCP_LISTEN:
        return -ENOTCONN
    iocb = msg.iocb
    timeo = sock_rcvtimeo(sk, iocb, flags & MSG_DONTWAIT != 0)
    if flags & MSG_OOB:
        return tcp_recv_urg(sk, msg, length, flags)
    peek = flags & MSG_PEEK != 0
    trunc = flags & MSG_TRUNC != 0
    pieces = msg.pieces
    copied = 0
    if peek:
        # Nothing is consumed, so a repeated call begins anew.
        pieces.clear()
        seq = sk.copied_seq
        peek_off: int = sk.sk_peek_off
        if peek_off > 0:
            seq = (seq + peek_off) & 0xFFFFFFFF
    else:
        copied = iocb.ki_done
        kept = iocb.ki_pieces
        if kept is not None and kept is not pieces:
            pieces.clear()
            pieces.extend(kept)
        seq = sk.copied_seq
    target = sock_rcvlowat(sk, flags & MSG_WAITALL != 0, length)
    taken = 0
    eof = False  # what follows is not for this call
    queue = sk.sk_receive_queue
    skb = queue.head
    stamped = sk.sk_flags & _RX_TSTAMP_FLAGS != 0
    while copied < length or not length:
        # Reading stops before the urgent byte.
        if sk.urg_data and tcp_cold(sk).urg_seq == seq and (copied or iocb.ki_signal):
            if not copied:
                return sock_intr_errno(timeo) if timeo else -EAGAIN
            eof = True  # no waiting for more
            break
        if skb is None:
            break
        offset = (seq - skb.seq) & 0xFFFFFFFF
        if offset >= skb.len:
            if skb.tcp_flags & TCPHDR_FIN and offset == skb.len:
                eof = True
                if not peek:
                    sk.copied_seq = (seq + 1) & 0xFFFFFFFF
                    tcp_eat_recv_skb(sk, skb)
                break
            if offset > 0x7FFFFFFF:
                sk.kernel.warn_on("tcp_recvmsg: a gap in the receive queue")
                break
            skb = skb.next  # peeking beyond it (or left over by an urgent byte)
            continue
        if stamped:
            datagram.sk_cold(sk).sk_rx_tstamp = skb.tstamp
        if not length:
            eof = True  # asked for nothing, which is there as soon as anything is; before that even nothing is waited for
            break
        used = skb.len - offset
        if used > length - copied:
            used = length - copied
        if sk.urg_data:
            urg_offset = (tcp_cold(sk).urg_seq - seq) & 0xFFFFFFFF
            if urg_offset < used:
                if urg_offset == 0:
                    if not sock_flag(sk, SOCK_URGINLINE):
                        # the urgent byte is read out of band
                        seq = (seq + 1) & 0xFFFFFFFF
                        if not peek:
                            sk.copied_seq = seq
                        offset += 1
                        used -= 1
                else:
                    used = urg_offset
        if used:
            if not trunc:
                if skb.frags is None and used > _VIEW:
                    start = skb.data + offset
                    pieces.append(memoryview(skb.head)[start : start + used])
                elif offset == 0 and used == skb.len and skb.data_len == used and skb.frags is not None:
                    pieces.extend(skb.frags)
                else:
                    pieces.extend(skb_pieces(skb, offset, used))
            seq = (seq + used) & 0xFFFFFFFF
            copied += used
            taken += used
            if not peek:
                sk.copied_seq = seq
        if sk.urg_data and not peek and after(sk.copied_seq, tcp_cold(sk).urg_seq):
            sk.urg_data = 0
            tcp_fast_path_check(sk)
        if used + offset < skb.len:
            continue
        following = skb.next
        if skb.tcp_flags & TCPHDR_FIN:
            eof = True
            if not peek:
                sk.copied_seq = (seq + 1) & 0xFFFFFFFF
                tcp_eat_recv_skb(sk, skb)
            break
        if not peek:
            tcp_eat_recv_skb(sk, skb)
        skb = following
    if taken:
        if peek:
            peeked: int = sk.sk_peek_off
            if peeked >= 0:
                sk.sk_peek_off = min(peeked + taken, 0x7FFFFFFF)
        else:
            if sk.sk_peek_off >= 0:
                sk.sk_peek_off = max(sk.sk_peek_off - taken, 0)
            tcp_rcvq.tcp_rcv_space_adjust(sk)
    if copied < target and not eof:
        err = _recvmsg_wait(sk, iocb, copied, timeo)
        if err == -EIOCBQUEUED:
            if peek:
                if taken and sk.sk_peek_off >= 0:
                    sk.sk_peek_off -= taken
            else:
                tcp_cleanup_rbuf(sk, copied)
                iocb.ki_done = copied
                iocb.ki_pieces = pieces
            return err
        if err:
            return err
    tcp_cleanup_rbuf(sk, copied)
    return copied


def _recvmsg_wait(sk: TcpSock, iocb: Kiocb, copied: int, timeo: int) -> int:
    """Less than wanted is there: -EIOCBQUEUED to wait, 0 to be content with what was read, or -errno."""
    # Another call disconnected the sock while this one waited: that comes before the error which the disconnect left.
    if iocb.ki_pos and iocb.ki_pos != sk.sk_disconnects + 1:
        return 0 if copied else -EPIPE
    if copied:
        if timeo == 0 or sk.sk_err or sk.sk_state == TCP_CLOSE or sk.sk_shutdown & RCV_SHUTDOWN or iocb.ki_signal:
            return 0
    else:
        if sock_flag(sk, SOCK_DONE):
            return 0
        if sk.sk_err:
            return sock_error(sk)
        if sk.sk_shutdown & RCV_SHUTDOWN:
            return 0
        if sk.sk_state == TCP_CLOSE:
            # never connected
            return -ENOTCONN
        if timeo == 0:
            return -EAGAIN
        if iocb.ki_signal:
            return sock_intr_errno(timeo)
    if iocb.ki_pos == 0:
        iocb.ki_pos = sk.sk_disconnects + 1
    return iocb.wait(sk_sleep(sk), _READ_EVENTS)


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpReadActor:
    """sk_read_actor_t: what tcp_read_sock gives the received data to."""

    __slots__ = ()

    def recv_actor(self, skb: SkBuff, offset: int, length: int) -> int:
        """Take bytes of `skb` from `offset` on: how many (0: no more), or -errno."""
        raise NotImplementedError


def tcp_read_sock(sk: TcpSock, actor: TcpReadActor) -> int:
    """Hand what is received to `actor`, from within the kernel. Bytes taken, or -errno if none were. The sock is owned."""
    if sk.sk_state == TCP_LISTEN:
        return -ENOTCONN
    copied = 0
    seq = sk.copied_seq
    while True:
        skb = sk.sk_receive_queue.head
        if skb is None:
            break
        offset = (seq - skb.seq) & 0xFFFFFFFF
        if offset < skb.len:
            length = skb.len - offset
            # Up to the urgent byte.
            if sk.urg_data:
                urg_offset = (tcp_cold(sk).urg_seq - seq) & 0xFFFFFFFF
                if urg_offset < length:
                    length = urg_offset
                if length == 0:
                    break
            used = actor.recv_actor(skb, offset, length)
            if used <= 0:
                if not copied:
                    copied = used
                break
            seq = (seq + used) & 0xFFFFFFFF
            copied += used
            sk.copied_seq = seq
            if offset + used < skb.len:
                break
        if skb.tcp_flags & TCPHDR_FIN:
            sk.copied_seq = (seq + 1) & 0xFFFFFFFF
            tcp_eat_recv_skb(sk, skb)
            break
        tcp_eat_recv_skb(sk, skb)
    if copied > 0:
        tcp_rcvq.tcp_rcv_space_adjust(sk)
        tcp_cleanup_rbuf(sk, copied)
    return copied


class _SpliceActor(TcpReadActor):
    """tcp_splice_data_recv: the pieces themselves."""

    __slots__ = ("left", "pieces")

    def __init__(self, pieces: list[bytes], left: int) -> None:
        self.pieces: list[bytes] = pieces
        self.left: int = left

    def recv_actor(self, skb: SkBuff, offset: int, length: int) -> int:
        n = min(length, self.left)
        if n > 0:
            self.pieces.extend(skb_pieces(skb, offset, n))
            self.left -= n
        return n


def tcp_splice_read(sk: TcpSock, pieces: list[bytes], length: int, nonblock: bool, iocb: Kiocb) -> int:
    """Move up to `length` received bytes to `pieces` without copying: bytes, 0 at the end of the stream, or -errno."""
    lock_sock(sk)
    actor = _SpliceActor(pieces, length)
    ret = tcp_read_sock(sk, actor)
    if ret == 0 and length:
        ret = _recvmsg_wait(sk, iocb, 0, sock_rcvtimeo(sk, iocb, nonblock))
    release_sock(sk)
    return ret


def tcp_inq(sk: TcpSock) -> int:
    """SIOCINQ: bytes that can be read now, up to the urgent byte."""
    if (TCPF_SYN_SENT | TCPF_SYN_RECV) >> sk.sk_state & 1:
        return 0
    urg_seq = tcp_cold(sk).urg_seq if sk.urg_data else 0
    if sock_flag(sk, SOCK_URGINLINE) or not sk.urg_data or before(urg_seq, sk.copied_seq) or not before(urg_seq, sk.rcv_nxt):
        answ = (sk.rcv_nxt - sk.copied_seq) & 0xFFFFFFFF
        # the FIN has a number, too
        if answ and sock_flag(sk, SOCK_DONE):
            answ -= 1
        return answ
    return (urg_seq - sk.copied_seq) & 0xFFFFFFFF


def tcp_peek_len(sk: TcpSock) -> int:
    return tcp_inq(sk)
