"""net/core/stream.c: the waits and the wake-ups that stream protocols share.

Nothing here waits: each function answers 0 when the caller may go on, -errno when it must give up, or -EIOCBQUEUED when the
call is to be made again (kernel/wait.py). Who waits is woken by sk_state_change, sk_write_space or sk_error_report. """

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.kernel.wait import wake_up_poll
from afinet.net.core.drop_reason import SKB_DROP_REASON_QUEUE_PURGE
from afinet.net.core.skbuff import skb_queue_purge
from afinet.net.core.sock import Sock, sk_mem_reclaim, sk_sleep, sock_error, sock_intr_errno
from afinet.uapi.errno import EAGAIN, EPIPE
from afinet.uapi.eventpoll import EPOLLOUT, EPOLLWRBAND, EPOLLWRNORM
from afinet.uapi.socket import MSG_NOSIGNAL, SEND_SHUTDOWN, SOCK_NOSPACE
from afinet.uapi.tcp import (
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCPF_CLOSE_WAIT,
    TCPF_CLOSING,
    TCPF_ESTABLISHED,
    TCPF_FIN_WAIT1,
    TCPF_LAST_ACK,
)

if TYPE_CHECKING:
    from afinet.kernel.wait import Kiocb


def sk_stream_min_wspace(sk: Sock) -> int:
    """How much must be free before a writer is woken: as much as half of what is queued."""
    return sk.sk_wmem_queued >> 1


def sk_stream_wspace(sk: Sock) -> int:
    return sk.sk_sndbuf - sk.sk_wmem_queued


def __sk_stream_memory_free(sk: Sock, wake: int) -> bool:
    """The send buffer takes one more segment."""
    return sk.sk_wmem_queued < sk.sk_sndbuf and sk.sk_prot.stream_memory_free(sk, wake)


def sk_stream_memory_free(sk: Sock) -> bool:
    return sk.sk_wmem_queued < sk.sk_sndbuf and sk.sk_prot.stream_memory_free(sk, 0)


def __sk_stream_is_writeable(sk: Sock, wake: int) -> bool:
    """A third of the send buffer is free: what poll calls writable."""
    return sk_stream_wspace(sk) >= sk_stream_min_wspace(sk) and __sk_stream_memory_free(sk, wake)


def sk_stream_is_writeable(sk: Sock) -> bool:
    return __sk_stream_is_writeable(sk, 0)


def sk_stream_write_space(sk: Sock) -> None:
    """sk->sk_write_space of streams: wake who waits for room, if somebody said so (SOCK_NOSPACE)."""
    sock = sk.sk_socket
    if sock is not None and __sk_stream_is_writeable(sk, 1):
        sock.flags &= ~(1 << SOCK_NOSPACE)
        if sk.sk_wq is not None:
            wake_up_poll(sk.sk_wq, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)


def sk_stream_wait_connect(sk: Sock, iocb: Kiocb, timeo: int) -> int:
    """Until the handshake is over; `timeo` (ns) is what the call may still wait."""
    err = sock_error(sk)
    if err:
        return err
    if (TCPF_ESTABLISHED | TCPF_CLOSE_WAIT) >> sk.sk_state & 1:
        return 0
    if sk.sk_state != TCP_SYN_SENT and sk.sk_state != TCP_SYN_RECV:
        return -EPIPE
    if timeo == 0:
        return -EAGAIN
    if iocb.ki_signal:
        return sock_intr_errno(timeo)
    return iocb.wait(sk_sleep(sk), 0)


def sk_stream_closing(sk: Sock) -> bool:
    """Our FIN is sent and not acknowledged yet."""
    return (TCPF_FIN_WAIT1 | TCPF_CLOSING | TCPF_LAST_ACK) >> sk.sk_state & 1 == 1


def sk_stream_wait_close(sk: Sock, iocb: Kiocb, timeout: int) -> int:
    """SO_LINGER: until all that was sent is acknowledged, but no longer than `timeout` ns from the first try; 0: go on
    closing."""
    if timeout == 0 or not sk_stream_closing(sk) or iocb.ki_signal:
        return 0
    if iocb.timeout(sk.kernel.now, timeout) == 0:
        return 0
    return iocb.wait(sk_sleep(sk), 0)


def sk_stream_wait_memory(sk: Sock, iocb: Kiocb, timeo: int) -> int:
    """Until the send buffer has room. Where it has, the protocol's memory is what is missing, and nobody will say when there is
    some: try again after 2 ticks to a fifth of a second (vm_wait)."""
    if sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
        return -EPIPE
    sock = sk.sk_socket
    if sock is not None:
        sock.flags |= 1 << SOCK_NOSPACE
    if timeo == 0:
        return -EAGAIN
    if iocb.ki_signal:
        return sock_intr_errno(timeo)
    kernel = sk.kernel
    if iocb.ki_retry <= kernel.now:
        iocb.ki_retry = -1
        if sk_stream_memory_free(sk):
            ticks = kernel.random("vm_wait").get_random_u32_below(kernel.hz // 5) + 2
            iocb.ki_retry = kernel.now + ticks * kernel.tick_nsec
    return iocb.wait(sk_sleep(sk), EPOLLOUT | EPOLLWRNORM)


def sk_stream_error(sk: Sock, flags: int, err: int) -> int:
    """The errno of a failed write: the sock's own error if there is one; EPIPE comes with SIGPIPE."""
    if err == -EPIPE:
        err = sock_error(sk) or -EPIPE
        if err == -EPIPE and not flags & MSG_NOSIGNAL:
            task = sk.kernel.current
            if task is not None:
                task.sigpipe += 1
    return err


def sk_stream_kill_queues(sk: Sock) -> None:
    """The sock is being destroyed: throw away what nobody will read, and give the memory back."""
    if sk.sk_receive_queue.qlen:
        skb_queue_purge(sk.sk_net, sk.sk_receive_queue, SKB_DROP_REASON_QUEUE_PURGE)
    kernel = sk.kernel
    if sk.sk_write_queue.qlen:
        kernel.warn_on("sk_stream_kill_queues: write queue not empty")
    sk_mem_reclaim(sk)
    if sk.sk_wmem_queued:
        kernel.warn_on("sk_stream_kill_queues: sk_wmem_queued")
