"""A congestion control of your own, in plain Python, interpreted or compiled.

    from afinet import congestion

    class Aimd(congestion.TcpCongestionOps):
        def __init__(self):
            super().__init__("aimd")

        def ssthresh(self, sk):                  # after a loss
            return max(sk.snd_cwnd * 3 // 4, 2)

        def cong_avoid(self, sk, ack, acked):    # ACKs came in
            ...

    congestion.register(host, Aimd())
    host.sysctl("net.ipv4.tcp_congestion_control", "aimd")     # for all of the host's connections, or for one:
    sock.setsockopt(IPPROTO_TCP, TCP_CONGESTION, b"aimd")

`TcpCongestionOps` says what each method is for; what is not overridden is Reno's. One object serves all connections of a host: what
belongs to one connection goes into `sk.icsk_ca_priv`, made in `init`. The fields of `sk` bear the kernel's names
(net/ipv4/tcp_sock.py): `snd_cwnd` and `snd_ssthresh` in packets, `srtt_us` in microseconds << 3, `tcp_mstamp` and `kernel.now` in
ns. `sk.sk_pacing_rate` (bytes a second) is kept to when `sk.sk_pacing_status` is SK_PACING_NEEDED. `TcpCubic` can be subclassed as
well.

examples/congestion_aimd.py is a whole one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.kernel.machine import Kernel
from afinet.net.core.sock import SK_PACING_NEEDED, SK_PACING_NONE
from afinet.net.ipv4.tcp_cong import (
    TCP_CA_NAME_MAX,
    TCP_CONG_NEEDS_ECN,
    TCP_CONG_NON_RESTRICTED,
    TcpCongestionOps,
    TcpReno,
    tcp_ca_find,
    tcp_cong_avoid_ai,
    tcp_register_congestion_control,
    tcp_reno_cong_avoid,
    tcp_reno_ssthresh,
    tcp_reno_undo_cwnd,
    tcp_slow_start,
)
from afinet.net.ipv4.tcp_cubic import TcpCubic
from afinet.net.ipv4.tcp_inline import (
    CA_EVENT_COMPLETE_CWR,
    CA_EVENT_CWND_RESTART,
    CA_EVENT_ECN_IS_CE,
    CA_EVENT_ECN_NO_CE,
    CA_EVENT_LOSS,
    CA_EVENT_TX_START,
    TCP_INFINITE_SSTHRESH,
    tcp_in_slow_start,
    tcp_is_cwnd_limited,
    tcp_packets_in_flight,
)
from afinet.net.ipv4.tcp_rate import RateSample
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.sim.units import UsageError
from afinet.uapi.tcp import TCP_CA_CWR, TCP_CA_Disorder, TCP_CA_Loss, TCP_CA_Open, TCP_CA_Recovery

if TYPE_CHECKING:
    from afinet.sim.host import Host

__all__ = [
    "CA_EVENT_COMPLETE_CWR",
    "CA_EVENT_CWND_RESTART",
    "CA_EVENT_ECN_IS_CE",
    "CA_EVENT_ECN_NO_CE",
    "CA_EVENT_LOSS",
    "CA_EVENT_TX_START",
    "SK_PACING_NEEDED",
    "SK_PACING_NONE",
    "TCP_CA_CWR",
    "TCP_CA_Disorder",
    "TCP_CA_Loss",
    "TCP_CA_Open",
    "TCP_CA_Recovery",
    "TCP_CONG_NEEDS_ECN",
    "TCP_CONG_NON_RESTRICTED",
    "TCP_INFINITE_SSTHRESH",
    "RateSample",
    "TcpCongestionOps",
    "TcpCubic",
    "TcpReno",
    "TcpSock",
    "register",
    "tcp_cong_avoid_ai",
    "tcp_in_slow_start",
    "tcp_is_cwnd_limited",
    "tcp_packets_in_flight",
    "tcp_reno_cong_avoid",
    "tcp_reno_ssthresh",
    "tcp_reno_undo_cwnd",
    "tcp_slow_start",
]


def register(machine: Host | Kernel, ops: TcpCongestionOps) -> None:
    """Make `ops` known to a host, or a Kernel, under its name. Without TCP_CONG_NON_RESTRICTED among its flags only tasks with
    CAP_NET_ADMIN (a host's are root's) can choose it, until it is the default somewhere."""
    if not isinstance(ops, TcpCongestionOps):
        raise UsageError(f"register({ops!r}): give it an object of a subclass of TcpCongestionOps")
    kernel = machine if isinstance(machine, Kernel) else machine.kernel
    if not 0 < len(ops.name) < TCP_CA_NAME_MAX:
        raise UsageError(f"{ops.name!r} is no name of a congestion control: 1 to {TCP_CA_NAME_MAX - 1} characters")
    if tcp_ca_find(kernel, ops.name) is not None:
        raise UsageError(f"{kernel.hostname} has a congestion control {ops.name!r} already: give yours another name")
    tcp_register_congestion_control(kernel, ops)
