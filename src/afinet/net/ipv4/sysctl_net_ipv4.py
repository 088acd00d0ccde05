"""net/ipv4/sysctl_net_ipv4.c: /proc/sys/net/ipv4.

Each entry is bound to the field of struct netns_ipv4 that the stack reads; limits and units are Linux's. Where Linux converts
between the seconds or milliseconds that users write and jiffies, CtlTime converts to ns.

conf/ and ip_forward are devinet.py's, route/ is route.py's, neigh/ neighbour.py's, ipfrag_* ip_fragment.py's. tcp_mem, udp_mem and
tcp_max_orphans belong to the machine and stand in the first namespace only, as in Linux.

Left out is what nothing would read: docs/sysctls.md has the list with reasons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.sysctl import INT_MAX, LONG_MAX, UINT_MAX, CtlBounded, CtlTable, CtlTime, parse_long, register_sysctl
from afinet.net.core.net_namespace import PernetOperations, register_pernet_subsys
from afinet.net.ipv4 import fib_multipath, tcp_cong
from afinet.uapi.errno import EINVAL

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net
    from afinet.net.ipv4.netns import NetnsIpv4

U8_MAX: Final = 255
MAX_TCP_SYNCNT: Final = 127
GID_RANGE_MAX: Final = UINT_MAX - 1
TCP_RTO_MAX_MSEC: Final = 120_000
TCP_TW_REUSE_DELAY_MAX: Final = 60_000
ONE_DAY_SECS: Final = 86_400


class CtlPortRange(CtlTable):
    """ipv4_local_port_range: two ports, in order, above the privileged ones."""

    __slots__ = ("ipv4",)

    def __init__(self, ipv4: NetnsIpv4) -> None:
        super().__init__("ip_local_port_range", ipv4, "ip_local_ports", 1, 65535)
        self.ipv4: NetnsIpv4 = ipv4

    def write(self, text: str) -> int:
        old = self.ipv4.ip_local_ports[:]
        err = super().write(text)
        if err == 0:
            low, high = self.ipv4.ip_local_ports
            if high < low or low < self.ipv4.sysctl_ip_prot_sock:
                err = -EINVAL
        if err:
            self.ipv4.ip_local_ports[:] = old
        return err


class CtlPrivilegedPorts(CtlTable):
    """ipv4_privileged_ports: may not reach into the range of local ports."""

    __slots__ = ("ipv4",)

    def __init__(self, ipv4: NetnsIpv4) -> None:
        super().__init__("ip_unprivileged_port_start", ipv4, "sysctl_ip_prot_sock", 0, 65535)
        self.ipv4: NetnsIpv4 = ipv4

    def write(self, text: str) -> int:
        old = self.ipv4.sysctl_ip_prot_sock
        err = super().write(text)
        if err == 0 and self.ipv4.ip_local_ports[0] < self.ipv4.sysctl_ip_prot_sock:
            self.ipv4.sysctl_ip_prot_sock = old
            err = -EINVAL
        return err


class CtlPingGroupRange(CtlTable):
    """ipv4_ping_group_range: a range the wrong way round is the empty one, "1 0"."""

    __slots__ = ("ipv4",)

    def __init__(self, ipv4: NetnsIpv4) -> None:
        super().__init__("ping_group_range", ipv4, "ping_group_range", 0, GID_RANGE_MAX)
        self.ipv4: NetnsIpv4 = ipv4

    def write(self, text: str) -> int:
        rng = self.ipv4.ping_group_range
        old = rng[:]
        err = super().write(text)
        if err:
            rng[:] = old
        elif rng[1] < rng[0]:
            rng[0] = 1
            rng[1] = 0
        return err


class CtlPortBitmap(CtlTable):
    """proc_do_large_bitmap: ports and ranges of ports, "8080,9000-9010", kept as a sorted list."""

    __slots__ = ("ipv4",)

    def __init__(self, ipv4: NetnsIpv4) -> None:
        super().__init__("ip_local_reserved_ports", ipv4, "ip_local_reserved_ports")
        self.ipv4: NetnsIpv4 = ipv4

    def read(self) -> str:
        out: list[str] = []
        first = last = -1
        for port in self.ipv4.ip_local_reserved_ports + [-1]:
            if port == last + 1 and first >= 0:
                last = port
                continue
            if first >= 0:
                out.append(str(first) if first == last else f"{first}-{last}")
            first = last = port
        return ",".join(out)

    def write(self, text: str) -> int:
        ports: dict[int, bool] = {}
        text = text.rstrip("\n")
        for item in text.split(",") if text else []:
            if not item and ports:
                continue  # a comma at the end
            first, dash, last = item.partition("-")
            known, low = parse_long(first)
            known2, high = parse_long(last) if dash else (known, low)
            if not known or not known2 or not 0 <= low <= high <= 65535:
                return -EINVAL
            for port in range(low, high + 1):
                ports[port] = True
        # a new list: the old one may be in use
        self.ipv4.ip_local_reserved_ports = sorted(ports)
        return 0


class CtlCongestionControl(CtlTable):
    """proc_tcp_congestion_control: of this namespace."""

    __slots__ = ("net",)

    def __init__(self, net: Net) -> None:
        super().__init__("tcp_congestion_control", net.core, "sysctl_default_qdisc")  # the pointer is not used
        self.net: Net = net

    def read(self) -> str:
        return self.net.ipv4.tcp_congestion_control.name

    def write(self, text: str) -> int:
        return tcp_cong.tcp_set_default_congestion_control(self.net, text.strip())


class CtlAvailableCongestionControl(CtlTable):
    """proc_tcp_available_congestion_control."""

    __slots__ = ("kernel",)

    def __init__(self, net: Net) -> None:
        super().__init__("tcp_available_congestion_control", net.core, "sysctl_default_qdisc", mode=0o444)
        self.kernel: Kernel = net.kernel

    def read(self) -> str:
        return tcp_cong.tcp_get_available_congestion_control(self.kernel)


class CtlAllowedCongestionControl(CtlTable):
    """proc_allowed_congestion_control."""

    __slots__ = ("kernel",)

    def __init__(self, net: Net) -> None:
        # of the machine: only its first namespace may write
        first = net.kernel.init_net is None or net.kernel.init_net is net
        super().__init__("tcp_allowed_congestion_control", net.core, "sysctl_default_qdisc", mode=0o644 if first else 0o444)
        self.kernel: Kernel = net.kernel

    def read(self) -> str:
        return tcp_cong.tcp_get_allowed_congestion_control(self.kernel)

    def write(self, text: str) -> int:
        return tcp_cong.tcp_set_allowed_congestion_control(self.kernel, text)


def ip_table(v4: NetnsIpv4, hz: int) -> list[CtlTable]:
    return [
        CtlTable("ip_default_ttl", v4, "sysctl_ip_default_ttl", 1, U8_MAX),
        CtlTable("ip_no_pmtu_disc", v4, "sysctl_ip_no_pmtu_disc", 0, U8_MAX),
        CtlTable("ip_forward_update_priority", v4, "sysctl_ip_fwd_update_priority", 0, 1),
        CtlTable("ip_forward_use_pmtu", v4, "sysctl_ip_fwd_use_pmtu", 0, U8_MAX),
        CtlTable("ip_nonlocal_bind", v4, "sysctl_ip_nonlocal_bind", 0, U8_MAX),
        CtlTable("ip_autobind_reuse", v4, "sysctl_ip_autobind_reuse", 0, 1),
        CtlTable("ip_dynaddr", v4, "sysctl_ip_dynaddr", 0, U8_MAX),
        CtlTable("ip_early_demux", v4, "sysctl_ip_early_demux", 0, U8_MAX),
        CtlTable("tcp_early_demux", v4, "sysctl_tcp_early_demux", 0, U8_MAX),
        CtlTable("udp_early_demux", v4, "sysctl_udp_early_demux", 0, U8_MAX),
        CtlTable("fwmark_reflect", v4, "sysctl_fwmark_reflect", 0, U8_MAX),
        CtlTable("tcp_fwmark_accept", v4, "sysctl_tcp_fwmark_accept", 0, U8_MAX),
        CtlPrivilegedPorts(v4),
        CtlPortRange(v4),
        CtlPortBitmap(v4),
        CtlPingGroupRange(v4),
        CtlTable("fib_multipath_hash_policy", v4, "sysctl_fib_multipath_hash_policy", 0, 3),
        CtlTable(
            "fib_multipath_hash_fields", v4, "sysctl_fib_multipath_hash_fields", 1, fib_multipath.FIB_MULTIPATH_HASH_FIELD_ALL_MASK
        ),
        CtlTable("fib_multipath_use_neigh", v4, "sysctl_fib_multipath_use_neigh", 0, 1),
        CtlTable("inet_peer_threshold", v4, "sysctl_inet_peer_threshold"),
        CtlTable("icmp_echo_ignore_all", v4, "sysctl_icmp_echo_ignore_all", 0, 1),
        CtlTable("icmp_echo_ignore_broadcasts", v4, "sysctl_icmp_echo_ignore_broadcasts", 0, 1),
        CtlTable("icmp_ignore_bogus_error_responses", v4, "sysctl_icmp_ignore_bogus_error_responses", 0, 1),
        CtlTable("icmp_errors_use_inbound_ifaddr", v4, "sysctl_icmp_errors_use_inbound_ifaddr", 0, 1),
        CtlTime("icmp_ratelimit", v4, "sysctl_icmp_ratelimit", 1000, hz),
        CtlTable("icmp_ratemask", v4, "sysctl_icmp_ratemask"),
        CtlTable("icmp_msgs_per_sec", v4, "sysctl_icmp_msgs_per_sec", 0),
        CtlTable("icmp_msgs_burst", v4, "sysctl_icmp_msgs_burst", 0),
        CtlTable("igmp_max_memberships", v4, "sysctl_igmp_max_memberships"),
        CtlTable("igmp_max_msf", v4, "sysctl_igmp_max_msf"),
        CtlTable("igmp_qrv", v4, "sysctl_igmp_qrv", 1),
        CtlTable("igmp_link_local_mcast_reports", v4, "sysctl_igmp_llm_reports", 0, U8_MAX),
        CtlTable("udp_rmem_min", v4, "sysctl_udp_rmem_min", 1),
        CtlTable("udp_wmem_min", v4, "sysctl_udp_wmem_min", 1),
    ]


def tcp_table(v4: NetnsIpv4, hz: int) -> list[CtlTable]:
    return [
        CtlTable("tcp_rmem", v4, "sysctl_tcp_rmem", 1),
        CtlTable("tcp_wmem", v4, "sysctl_tcp_wmem", 1),
        CtlTable("tcp_ecn", v4, "sysctl_tcp_ecn", 0, 2),
        CtlTable("tcp_ecn_fallback", v4, "sysctl_tcp_ecn_fallback", 0, 1),
        CtlTable("tcp_timestamps", v4, "sysctl_tcp_timestamps", 0, U8_MAX),
        CtlTable("tcp_window_scaling", v4, "sysctl_tcp_window_scaling", 0, U8_MAX),
        CtlTable("tcp_sack", v4, "sysctl_tcp_sack", 0, U8_MAX),
        CtlTable("tcp_dsack", v4, "sysctl_tcp_dsack", 0, U8_MAX),
        CtlTable("tcp_app_win", v4, "sysctl_tcp_app_win", 0, 31),
        CtlTable("tcp_workaround_signed_windows", v4, "sysctl_tcp_workaround_signed_windows", 0, U8_MAX),
        CtlTable("tcp_moderate_rcvbuf", v4, "sysctl_tcp_moderate_rcvbuf", 0, U8_MAX),
        CtlTime("tcp_keepalive_time", v4, "sysctl_tcp_keepalive_time", 1, hz),
        CtlTable("tcp_keepalive_probes", v4, "sysctl_tcp_keepalive_probes", 0, U8_MAX),
        CtlTime("tcp_keepalive_intvl", v4, "sysctl_tcp_keepalive_intvl", 1, hz),
        CtlTable("tcp_syn_retries", v4, "sysctl_tcp_syn_retries", 1, MAX_TCP_SYNCNT),
        CtlTable("tcp_syn_linear_timeouts", v4, "sysctl_tcp_syn_linear_timeouts", 0, MAX_TCP_SYNCNT),
        CtlTable("tcp_synack_retries", v4, "sysctl_tcp_synack_retries", 0, U8_MAX),
        CtlTable("tcp_syncookies", v4, "sysctl_tcp_syncookies", 0, U8_MAX),
        CtlTable("tcp_retries1", v4, "sysctl_tcp_retries1", 0, U8_MAX),
        CtlTable("tcp_retries2", v4, "sysctl_tcp_retries2", 0, U8_MAX),
        CtlTable("tcp_orphan_retries", v4, "sysctl_tcp_orphan_retries", 0, U8_MAX),
        CtlTime("tcp_fin_timeout", v4, "sysctl_tcp_fin_timeout", 1, hz),
        CtlTable("tcp_max_tw_buckets", v4, "sysctl_tcp_max_tw_buckets"),
        CtlTable("tcp_max_syn_backlog", v4, "sysctl_max_syn_backlog"),
        CtlTable("tcp_tw_reuse", v4, "sysctl_tcp_tw_reuse", 0, 2),
        CtlTable("tcp_tw_reuse_delay", v4, "sysctl_tcp_tw_reuse_delay", 1, TCP_TW_REUSE_DELAY_MAX),
        CtlTable("tcp_rfc1337", v4, "sysctl_tcp_rfc1337", 0, U8_MAX),
        CtlTable("tcp_abort_on_overflow", v4, "sysctl_tcp_abort_on_overflow", 0, U8_MAX),
        CtlTable("tcp_stdurg", v4, "sysctl_tcp_stdurg", 0, U8_MAX),
        CtlTable("tcp_retrans_collapse", v4, "sysctl_tcp_retrans_collapse", 0, U8_MAX),
        CtlBounded("tcp_reordering", v4, "sysctl_tcp_reordering", "", "sysctl_tcp_max_reordering", 1, INT_MAX),
        CtlTable("tcp_max_reordering", v4, "sysctl_tcp_max_reordering", 1),
        CtlTable("tcp_recovery", v4, "sysctl_tcp_recovery", 0, U8_MAX),
        CtlTable("tcp_early_retrans", v4, "sysctl_tcp_early_retrans", 0, 4),
        CtlTable("tcp_frto", v4, "sysctl_tcp_frto", 0, U8_MAX),
        CtlTable("tcp_thin_linear_timeouts", v4, "sysctl_tcp_thin_linear_timeouts", 0, U8_MAX),
        CtlTable("tcp_slow_start_after_idle", v4, "sysctl_tcp_slow_start_after_idle", 0, U8_MAX),
        CtlTable("tcp_autocorking", v4, "sysctl_tcp_autocorking", 0, 1),
        CtlTable("tcp_limit_output_bytes", v4, "sysctl_tcp_limit_output_bytes"),
        CtlTable("tcp_challenge_ack_limit", v4, "sysctl_tcp_challenge_ack_limit"),
        CtlTable("tcp_min_tso_segs", v4, "sysctl_tcp_min_tso_segs", 1, U8_MAX),
        CtlTable("tcp_tso_win_divisor", v4, "sysctl_tcp_tso_win_divisor", 0, U8_MAX),
        CtlTable("tcp_tso_rtt_log", v4, "sysctl_tcp_tso_rtt_log", 0, U8_MAX),
        CtlTable("tcp_pacing_ss_ratio", v4, "sysctl_tcp_pacing_ss_ratio", 0, 1000),
        CtlTable("tcp_pacing_ca_ratio", v4, "sysctl_tcp_pacing_ca_ratio", 0, 1000),
        CtlTime("tcp_invalid_ratelimit", v4, "sysctl_tcp_invalid_ratelimit", 1000, hz),
        CtlTable("tcp_mtu_probing", v4, "sysctl_tcp_mtu_probing", 0, U8_MAX),
        CtlTable("tcp_base_mss", v4, "sysctl_tcp_base_mss"),
        CtlTable("tcp_min_snd_mss", v4, "sysctl_tcp_min_snd_mss", 48, 65535),
        CtlTable("tcp_mtu_probe_floor", v4, "sysctl_tcp_mtu_probe_floor", 48, 65535),
        CtlTable("tcp_probe_threshold", v4, "sysctl_tcp_probe_threshold"),
        CtlTable("tcp_probe_interval", v4, "sysctl_tcp_probe_interval", 0, UINT_MAX // hz),
        CtlTable("tcp_notsent_lowat", v4, "sysctl_tcp_notsent_lowat", 0, UINT_MAX),
        CtlTable("tcp_min_rtt_wlen", v4, "sysctl_tcp_min_rtt_wlen", 0, ONE_DAY_SECS),
        CtlTable("tcp_comp_sack_delay_ns", v4, "sysctl_tcp_comp_sack_delay_ns", 0, LONG_MAX),
        CtlTable("tcp_comp_sack_nr", v4, "sysctl_tcp_comp_sack_nr", 0, U8_MAX),
        CtlTable("tcp_reflect_tos", v4, "sysctl_tcp_reflect_tos", 0, 1),
        CtlTable("tcp_rto_min_us", v4, "sysctl_tcp_rto_min_us", 1),
        CtlTable("tcp_rto_max_ms", v4, "sysctl_tcp_rto_max_ms", 1000, TCP_RTO_MAX_MSEC),
        CtlTable("tcp_backlog_ack_defer", v4, "sysctl_tcp_backlog_ack_defer", 0, 1),
        CtlTable("tcp_pingpong_thresh", v4, "sysctl_tcp_pingpong_thresh", 1, U8_MAX),
        CtlTable("tcp_shrink_window", v4, "sysctl_tcp_shrink_window", 0, 1),
    ]


def ipv4_table(v4: NetnsIpv4) -> list[CtlTable]:
    """Of the whole machine: the first namespace's fields, which all read (the protocols charge one account)."""
    return [
        CtlTable("tcp_mem", v4, "sysctl_tcp_mem", 0, LONG_MAX),
        CtlTable("udp_mem", v4, "sysctl_udp_mem", 0, LONG_MAX),
        CtlTable("tcp_max_orphans", v4, "sysctl_tcp_max_orphans"),
    ]


class Ipv4SysctlOps(PernetOperations):
    """ipv4_sysctl_ops."""

    __slots__ = ()

    def init(self, net: Net) -> int:
        v4 = net.ipv4
        entries = ip_table(v4, net.kernel.hz) + tcp_table(v4, net.kernel.hz)
        entries.append(fib_multipath.FibMultipathHashSeedCtl(net))
        entries.append(CtlCongestionControl(net))
        entries.append(CtlAvailableCongestionControl(net))
        entries.append(CtlAllowedCongestionControl(net))
        register_sysctl(net.sysctl_table, "net/ipv4", entries)
        if net.kernel.init_net is None:
            # the first one: start_kernel makes it after everything is registered
            register_sysctl(net.sysctl_table, "net/ipv4", ipv4_table(v4))
        return 0


def sysctl_ipv4_init(kernel: Kernel) -> int:
    return register_pernet_subsys(kernel, Ipv4SysctlOps())
