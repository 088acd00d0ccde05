"""net/core/secure_seq.c: initial sequence numbers, timestamp offsets and ports that an outsider cannot guess.

Each is a keyed hash (kernel/random.py) of the connection's addresses, so that one connection tells nothing about another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.kernel.random import siphash
from afinet.wire import be

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net


def seq_scale(kernel: Kernel, seq: int) -> int:
    """RFC 6528's M: a clock of 64 ns, so that numbers of the same four-tuple grow from one incarnation to the next."""
    return (seq + (kernel.ktime_get_real() >> 6)) & 0xFFFFFFFF


def secure_tcp_seq(net: Net, saddr: int, daddr: int, sport: int, dport: int) -> int:
    """RFC 6528: F(four-tuple, secret) + M."""
    kernel = net.kernel
    hash = siphash(kernel.siphash_key, b"seq" + be.pack_u32x3(saddr, daddr, sport << 16 | dport))
    return seq_scale(kernel, hash & 0xFFFFFFFF)


def secure_tcp_ts_off(net: Net, saddr: int, daddr: int) -> int:
    """What is added to the timestamps towards `daddr` (RFC 7323, 7.1): tcp_timestamps 1; 2 sends them as they are."""
    if net.ipv4.sysctl_tcp_timestamps != 1:
        return 0
    return siphash(net.kernel.siphash_key, b"ts" + be.pack_u32x3(saddr, daddr, 0)) & 0xFFFFFFFF


def secure_ipv4_port_ephemeral(net: Net, saddr: int, daddr: int, dport: int) -> int:
    """RFC 6056, algorithm 4: where the search for a local port begins. 62 bits."""
    return siphash(net.kernel.siphash_key, b"port" + be.pack_u32x3(saddr, daddr, dport))
