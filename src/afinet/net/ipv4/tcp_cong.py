"""net/ipv4/tcp_cong.c: pluggable congestion control, and NewReno ("reno"), the algorithm that needs no plug.

An algorithm is one `TcpCongestionOps` object per Kernel, registered under its name; what it keeps for a sock is in
`sk.icsk_ca_priv`. Subclass it, override methods, and `tcp_register_congestion_control(kernel, ops)`. `TCP_CONGESTION` and
net.ipv4.tcp_congestion_control then know it. (afinet.congestion is the public face of this.)

Call order: tcp_assign_congestion_control (a new sock) -> tcp_init_congestion_control (at ESTABLISHED) -> `cong_avoid` or
`cong_control` (each ACK, from tcp_ack.py), `ssthresh` (a loss), `set_state`, `cwnd_event` -> tcp_cleanup_congestion_control.

Left out: loadable modules (all that is registered is there), BPF.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr
from afinet.uapi.errno import EEXIST, EINVAL, ENOENT, EPERM
from afinet.uapi.rtnetlink import RTAX_CC_ALGO, RTAX_LOCK
from afinet.uapi.tcp import TCP_CLOSE, TCP_LISTEN

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.dst import DstEntry
    from afinet.net.core.net_namespace import Net
    from afinet.net.ipv4.tcp_rate import RateSample
    from afinet.net.ipv4.tcp_sock import TcpSock

TCP_CA_NAME_MAX: Final = 16

TCP_CONG_NON_RESTRICTED: Final = 1 << 0  # anybody may choose it
TCP_CONG_NEEDS_ECN: Final = 1 << 1


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpCongestionOps:
    """struct tcp_congestion_ops. Windows are packets, times ns unless said otherwise."""

    def __init__(self, name: str, flags: int = 0) -> None:
        self.name: str = name
        self.flags: int = flags  # TCP_CONG_*

    def init(self, sk: TcpSock) -> None:
        """The connection is established: make `icsk_ca_priv`."""

    def release(self, sk: TcpSock) -> None:
        """The connection leaves this algorithm."""

    def ssthresh(self, sk: TcpSock) -> int:
        """The slow start threshold after a loss."""
        return tcp_reno_ssthresh(sk)

    def cong_avoid(self, sk: TcpSock, ack: int, acked: int) -> None:
        """`acked` packets were delivered by the ACK `ack`: grow `snd_cwnd`."""
        tcp_reno_cong_avoid(sk, ack, acked)

    def set_state(self, sk: TcpSock, new_state: int) -> None:
        """TCP_CA_* is about to change."""

    def cwnd_event(self, sk: TcpSock, ev: int) -> None:
        """CA_EVENT_*."""

    def in_ack_event(self, sk: TcpSock, flags: int) -> None:
        """An ACK arrives; CA_ACK_*."""

    def undo_cwnd(self, sk: TcpSock) -> int:
        """The window to go back to when a reduction proves wrong."""
        return tcp_reno_undo_cwnd(sk)

    def pkts_acked(self, sk: TcpSock, pkts_acked: int, rtt_us: int, in_flight: int) -> None:
        """Packets left the queue, or were SACKed; `rtt_us` is -1 where nothing was measured. `in_flight`: bytes that were, when the
        last of them was sent (struct ack_sample)."""

    def cong_control(self, sk: TcpSock, ack: int, flag: int, rs: RateSample) -> bool:
        """Take over all of it: set the window and the pacing rate from the rate sample. True if it did; else `cong_avoid` is
        called."""
        return False

    def min_tso_segs(self, sk: TcpSock) -> int:
        """How many packets a super-packet should have at least; 0 leaves it to tcp_min_tso_segs."""
        return 0

    def sndbuf_expand(self, sk: TcpSock) -> int:
        """How many windows the send buffer should hold."""
        return 2

    def get_info(self, sk: TcpSock, ext: int) -> tuple[int, bytes]:
        """(attribute, struct) for inet_diag and TCP_CC_INFO, (0, b"") for none."""
        return 0, b""


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpReno(TcpCongestionOps):
    """tcp_reno: RFC 5681 and 6582."""


def tcp_cong_init(kernel: Kernel) -> None:
    """Register what is built in."""
    if tcp_ca_find(kernel, "reno") is None:
        tcp_register_congestion_control(kernel, TcpReno("reno", TCP_CONG_NON_RESTRICTED))


# -- registry --------------------------------------------------------------------------------------------------------------


def tcp_ca_find(kernel: Kernel, name: str) -> TcpCongestionOps | None:
    for ca in kernel.tcp_cong_list:
        if ca.name == name:
            return ca
    return None


def tcp_ca_key(name: str) -> int:
    """The number that stands for an algorithm in a route's metrics: FNV-1a of its name where Linux has jhash. Never 0."""
    key = 0x811C9DC5
    for byte in name.encode():
        key = (key ^ byte) * 0x01000193 & 0xFFFFFFFF
    return key or 1


def tcp_ca_find_key(kernel: Kernel, key: int) -> TcpCongestionOps | None:
    for ca in kernel.tcp_cong_list:
        if tcp_ca_key(ca.name) == key:
            return ca
    return None


def tcp_ca_get_key_by_name(kernel: Kernel, name: str) -> tuple[int, bool]:
    """(key, whether it needs ECN); key 0 (TCP_CA_UNSPEC): there is no such algorithm."""
    ca = tcp_ca_find(kernel, name)
    if ca is None:
        return 0, False
    return tcp_ca_key(name), ca.flags & TCP_CONG_NEEDS_ECN != 0


def tcp_ca_get_name_by_key(kernel: Kernel, key: int) -> str:
    ca = tcp_ca_find_key(kernel, key)
    return "" if ca is None else ca.name


def tcp_register_congestion_control(kernel: Kernel, ca: TcpCongestionOps) -> int:
    """0, -EINVAL for an impossible name, -EEXIST for a name that is taken."""
    if not 0 < len(ca.name) < TCP_CA_NAME_MAX:
        return -EINVAL
    if tcp_ca_find(kernel, ca.name) is not None:
        return -EEXIST
    kernel.tcp_cong_list.append(ca)
    return 0


def tcp_unregister_congestion_control(kernel: Kernel, ca: TcpCongestionOps) -> None:
    """New socks cannot choose it any more; those that have it keep it."""
    if ca in kernel.tcp_cong_list:
        kernel.tcp_cong_list.remove(ca)


def tcp_get_available_congestion_control(kernel: Kernel) -> str:
    return " ".join([ca.name for ca in kernel.tcp_cong_list])


def tcp_get_allowed_congestion_control(kernel: Kernel) -> str:
    return " ".join([ca.name for ca in kernel.tcp_cong_list if ca.flags & TCP_CONG_NON_RESTRICTED])


def tcp_set_allowed_congestion_control(kernel: Kernel, names: str) -> int:
    """Everybody may choose these, and only these. -ENOENT for an unknown one, and nothing changes."""
    wanted = names.split()
    for name in wanted:
        if tcp_ca_find(kernel, name) is None:
            return -ENOENT
    for ca in kernel.tcp_cong_list:
        if ca.name in wanted:
            ca.flags |= TCP_CONG_NON_RESTRICTED
        else:
            ca.flags &= ~TCP_CONG_NON_RESTRICTED
    return 0


def tcp_set_default_congestion_control(net: Net, name: str) -> int:
    """Of the namespace. -ENOENT: no such algorithm; -EPERM: a restricted one, which only the first namespace may choose."""
    ca = tcp_ca_find(net.kernel, name)
    if ca is None:
        return -ENOENT
    init_net = net.kernel.init_net
    if not ca.flags & TCP_CONG_NON_RESTRICTED and init_net is not None and net is not init_net:
        return -EPERM
    ca.flags |= TCP_CONG_NON_RESTRICTED
    net.ipv4.tcp_congestion_control = ca
    return 0


# -- of one sock -----------------------------------------------------------------------------------------------------------


def tcp_ca_dst_init(sk: TcpSock, dst: DstEntry) -> bool:
    """The route names an algorithm (`congctl`): the connection has it; TCP_CONGESTION may not change it if the route locks it."""
    metrics = dst.metrics
    if metrics is None or metrics[RTAX_CC_ALGO - 1] == 0:
        return False
    ca = tcp_ca_find_key(sk.kernel, metrics[RTAX_CC_ALGO - 1])
    if ca is None:
        return False
    sk.icsk_ca_dst_locked = metrics[RTAX_LOCK - 1] >> RTAX_CC_ALGO & 1 == 1
    sk.icsk_ca_ops = ca
    sk.icsk_ca_priv = None
    return True


def tcp_assign_congestion_control(sk: TcpSock) -> None:
    """A new sock gets the namespace's algorithm."""
    ca = sk.sk_net.ipv4.tcp_congestion_control
    sk.icsk_ca_ops = ca
    sk.icsk_ca_priv = None
    tcp_ca_ecn_xmit(sk, ca)


def tcp_init_congestion_control(sk: TcpSock) -> None:
    """The connection is established."""
    if sk.loss_state is not None:
        sk.loss_state.prior_ssthresh = 0
    ca = sk.icsk_ca_ops
    if ca is None:
        tcp_assign_congestion_control(sk)
        ca = sk.icsk_ca_ops
    assert ca is not None
    ca.init(sk)
    tcp_ca_ecn_xmit(sk, ca)
    sk.icsk_ca_initialized = True


def tcp_ca_needs_ecn(sk: TcpSock) -> bool:
    """The algorithm lives on marks: ECN is asked for whatever tcp_ecn says, and all packets say ECT."""
    ca = sk.icsk_ca_ops
    return ca is not None and ca.flags & TCP_CONG_NEEDS_ECN != 0


def tcp_ca_ecn_xmit(sk: TcpSock, ca: TcpCongestionOps) -> None:
    """INET_ECN_xmit or INET_ECN_dontxmit."""
    if ca.flags & TCP_CONG_NEEDS_ECN:
        sk.tos |= 2
    elif sk.tos & 3:
        sk.tos &= ~3


def tcp_cleanup_congestion_control(sk: TcpSock) -> None:
    ca = sk.icsk_ca_ops
    if ca is not None:
        if sk.icsk_ca_initialized:
            ca.release(sk)
            sk.icsk_ca_initialized = False
        sk.icsk_ca_priv = None


def tcp_set_congestion_control(sk: TcpSock, name: str, load: bool = True, cap_net_admin: bool = False) -> int:
    """TCP_CONGESTION. -ENOENT: no such algorithm; -EPERM: it is restricted and the caller lacks CAP_NET_ADMIN, or the route has
    locked another."""
    if sk.icsk_ca_dst_locked:
        return -EPERM
    ca = tcp_ca_find(sk.kernel, name)
    if ca is sk.icsk_ca_ops and ca is not None:
        sk.icsk_ca_setsockopt = True
        return 0
    if ca is None:
        return -ENOENT
    if not (ca.flags & TCP_CONG_NON_RESTRICTED or cap_net_admin):
        return -EPERM
    tcp_reinit_congestion_control(sk, ca)
    return 0


def tcp_reinit_congestion_control(sk: TcpSock, ca: TcpCongestionOps) -> None:
    tcp_cleanup_congestion_control(sk)
    sk.icsk_ca_ops = ca
    sk.icsk_ca_setsockopt = True
    if sk.sk_state != TCP_CLOSE and sk.sk_state != TCP_LISTEN:
        tcp_init_congestion_control(sk)
    else:
        tcp_ca_ecn_xmit(sk, ca)


def tcp_ca_event(sk: TcpSock, event: int) -> None:
    ca = sk.icsk_ca_ops
    if ca is not None:
        ca.cwnd_event(sk, event)


def tcp_set_ca_state(sk: TcpSock, ca_state: int) -> None:
    trace = sk.kernel.trace
    if trace.tcp_cong_state_set:
        trace.fire("tcp:tcp_cong_state_set", {"sport": sk.inet_sport, "dport": sk.inet_dport, "cong_state": ca_state, "sk": sk})
    ca = sk.icsk_ca_ops
    if ca is not None:
        ca.set_state(sk, ca_state)
    sk.icsk_ca_state = ca_state


# -- Reno ------------------------------------------------------------------------------------------------------------------


def tcp_slow_start(tp: TcpSock, acked: int) -> int:
    """Grow by what was acknowledged (RFC 3465, with no limit: pacing does that), up to ssthresh. What is left over is returned."""
    cwnd = min(tp.snd_cwnd + acked, tp.snd_ssthresh)
    acked -= cwnd - tp.snd_cwnd
    tp.snd_cwnd = cwnd
    return acked


def tcp_cong_avoid_ai(tp: TcpSock, w: int, acked: int) -> None:
    """Grow by one packet for every `w` acknowledged."""
    # Credits that were gathered when w was larger are used up gently, one packet an ACK.
    if tp.snd_cwnd_cnt >= w:
        tp.snd_cwnd_cnt = 0
        tp.snd_cwnd += 1
    tp.snd_cwnd_cnt += acked
    if tp.snd_cwnd_cnt >= w:
        delta = tp.snd_cwnd_cnt // w
        tp.snd_cwnd_cnt -= delta * w
        tp.snd_cwnd += delta


def tcp_reno_cong_avoid(sk: TcpSock, ack: int, acked: int) -> None:
    # A window that was not filled proves nothing (RFC 7661); in slow start, half filled will do (tcp_is_cwnd_limited).
    if not sk.is_cwnd_limited and not (sk.snd_cwnd < sk.snd_ssthresh and sk.snd_cwnd < 2 * sk.max_packets_out):
        return
    if sk.snd_cwnd < sk.snd_ssthresh:
        acked = tcp_slow_start(sk, acked)
        if acked == 0:
            return
    tcp_cong_avoid_ai(sk, sk.snd_cwnd, acked)


def tcp_reno_ssthresh(sk: TcpSock) -> int:
    """Half the window, at least two packets."""
    return max(sk.snd_cwnd >> 1, 2)


def tcp_reno_undo_cwnd(sk: TcpSock) -> int:
    return sk.snd_cwnd if sk.loss_state is None else max(sk.snd_cwnd, sk.loss_state.prior_cwnd)
