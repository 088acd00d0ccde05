"""net/core/filter.c: whether a packet may go to a sock.

Left out: classic and extended BPF programs. SO_ATTACH_FILTER answers -ENOPROTOOPT; where a program would be run, the security
hooks alone are asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.net.core.drop_reason import SKB_DROP_REASON_SECURITY_HOOK
from afinet.security import security

if TYPE_CHECKING:
    from afinet.net.core.skbuff import SkBuff
    from afinet.net.core.sock import Sock


def sk_filter(sk: Sock, skb: SkBuff) -> int:
    """sk_filter_trim_cap: 0, or the reason for which the caller must drop the packet."""
    if sk.kernel.security_hooks and security.security_sock_rcv_skb(sk, skb):
        return SKB_DROP_REASON_SECURITY_HOOK
    return 0
