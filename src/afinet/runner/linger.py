"""Whether a machine whose programs have ended still has something to see to, for the runners in real time."""

from __future__ import annotations

from typing import Any, Final

from afinet.kernel.machine import Kernel
from afinet.kernel.time import NSEC_PER_SEC
from afinet.net.ipv4.tcp_sock import TcpSock, TcpTimewaitSock
from afinet.uapi.tcp import TCP_CLOSING, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK

# How long (ns) a process that has ended goes on for the acknowledgement of what it sent.
LINGER_LIMIT: Final = 60 * NSEC_PER_SEC
# How often (ns) it looks: nothing wakes anybody when an orphan has been acknowledged.
LINGER_STEP: Final = 5_000_000
# How long (ns) it stays for the peer's own FIN once that is so.
FIN_WAIT2_GRACE: Final = 100_000_000

# A FIN is on its way, or data before it.
SENDING: Final = (TCP_FIN_WAIT1, TCP_CLOSING, TCP_LAST_ACK)


def unacknowledged(kernel: Kernel) -> bool:
    """Whether something that was sent is still on its way: a sock with data or a FIN to be acknowledged, a packet that
    waits for a link address."""
    if tcp_socks_in(kernel, SENDING, True):
        return True
    for net in kernel.net_list:
        if net.arp_tbl is not None:
            for n in net.arp_tbl.hash.values():
                if n.arp_queue is not None and n.arp_queue.qlen:
                    return True
        for dev in net.dev_by_index.values():
            if dev.qdisc is not None and dev.qdisc.qlen:
                return True
    return False


def tcp_socks_in(kernel: Kernel, states: tuple[int, ...], or_data: bool) -> bool:
    """Whether any TCP sock is in one of `states`, or, with `or_data`, has data that is not acknowledged."""
    hinfo = kernel.inet_hashinfo
    if hinfo is None:
        return False
    for first in hinfo.ehash.values():
        sk: Any = first
        while sk is not None:
            if isinstance(sk, TcpSock):
                if sk.sk_state in states or (or_data and sk.snd_una != sk.write_seq):
                    return True
            elif isinstance(sk, TcpTimewaitSock) and sk.tw_substate in states:
                return True
            sk = sk.sk_hash_next
    return False


def awaiting_fin(kernel: Kernel) -> bool:
    """Whether a connection has had its FIN acknowledged, and waits for the peer's."""
    return tcp_socks_in(kernel, (TCP_FIN_WAIT2,), False)
