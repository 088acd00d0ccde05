"""net/core/request_sock.c and include/net/request_sock.h: a connection being set up, before it earns a full sock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.net.core.sock import SockCommon

if TYPE_CHECKING:
    from afinet.kernel.timer import TimerList
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.sock import Proto, Sock


class RequestSock(SockCommon):
    """struct request_sock; `sk_state` is TCP_NEW_SYN_RECV. It stands in the established hash like a full sock."""

    __slots__ = (
        "cookie_ts",
        "mss",
        "num_retrans",
        "num_timeout",
        "rsk_listener",
        "rsk_rcv_wnd",
        "rsk_timer",
        "rsk_window_clamp",
        "sk",
        "syncookie",
        "timeout",
        "ts_recent",
    )

    def __init__(self, net: Net, family: int, prot: Proto, listener: Sock) -> None:
        super().__init__(net, family, prot)
        self.rsk_listener: Sock | None = listener
        self.sk: Sock | None = None  # the child, once it is made
        self.mss: int = 0
        self.num_retrans: int = 0  # SYN-ACKs sent again
        self.num_timeout: int = 0
        self.syncookie: bool = False
        self.cookie_ts: bool = False
        self.timeout: int = 0  # ns
        self.ts_recent: int = 0
        self.rsk_rcv_wnd: int = 0
        self.rsk_window_clamp: int = 0
        self.rsk_timer: TimerList | None = None


class RequestSockQueue:
    """struct request_sock_queue: the accept queue of a listener, and its counts."""

    __slots__ = ("accept_queue", "qlen", "rskq_defer_accept", "young")

    def __init__(self) -> None:
        self.accept_queue: list[RequestSock] = []  # handshakes completed, oldest first; bounded by the backlog
        self.qlen: int = 0  # requests not completed yet
        self.young: int = 0  # those of them whose SYN-ACK was not yet retransmitted
        self.rskq_defer_accept: int = 0  # TCP_DEFER_ACCEPT, in SYN-ACK retransmissions
