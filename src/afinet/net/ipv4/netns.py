"""include/net/netns/ipv4.h: struct netns_ipv4, what IPv4 keeps for each namespace.

Fields named `sysctl_*` are the values under /proc/sys/net/ipv4 (sysctl_net_ipv4.py binds them to their paths), with the defaults
of Linux 6.18. Times that Linux keeps in jiffies are ns here; the sysctl handlers convert from the seconds or milliseconds that
users write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.net.core.skbuff import SkBuffHead
from afinet.net.ipv4.inetpeer import InetPeerBase

if TYPE_CHECKING:
    from afinet.net.core.net_namespace import Net
    from afinet.net.ipv4.devinet import InIfaddr, Ipv4Devconf
    from afinet.net.ipv4.fib_frontend import FibTables
    from afinet.net.ipv4.inet_sock import InetSock
    from afinet.net.ipv4.ip_fragment import FqDir
    from afinet.net.ipv4.rtable import RouteState
    from afinet.net.ipv4.tcp_cong import TcpCongestionOps


class NetnsIpv4:
    """struct netns_ipv4."""

    # Filled by the pernet operations of their files, before anything can read them.
    devconf_all: Ipv4Devconf
    devconf_dflt: Ipv4Devconf
    fib: FibTables
    route: RouteState
    tcp_congestion_control: TcpCongestionOps

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self.fqdir: FqDir | None = None
        self.peers: InetPeerBase = InetPeerBase()
        self.icmp_global_credit: int = 0
        self.icmp_global_stamp: int = 0  # ns
        self.no_packets: SkBuffHead = SkBuffHead()  # the queues of TCP socks that never queued anything: always empty
        self.tw_count: int = 0  # TIME_WAIT socks (tcp_death_row)
        self.inet_addr_lst: dict[int, list[InIfaddr]] = {}  # by local address
        self.ra_chain: list[InetSock] = []  # raw socks with IP_ROUTER_ALERT
        self.dev_addr_genid: int = 0  # moves with every change of an address
        # ip
        self.sysctl_ip_default_ttl: int = 64
        self.sysctl_ip_no_pmtu_disc: int = 0
        self.sysctl_ip_fwd_use_pmtu: int = 0
        self.sysctl_ip_fwd_update_priority: int = 1
        self.sysctl_ip_nonlocal_bind: int = 0
        self.sysctl_ip_autobind_reuse: int = 0
        self.sysctl_ip_dynaddr: int = 0
        self.sysctl_ip_early_demux: int = 1
        self.sysctl_tcp_early_demux: int = 1
        self.sysctl_udp_early_demux: int = 1
        self.sysctl_fwmark_reflect: int = 0
        self.sysctl_tcp_fwmark_accept: int = 0
        self.sysctl_ip_prot_sock: int = 1024  # ip_unprivileged_port_start
        self.ip_local_ports: list[int] = [32768, 60999]
        self.ip_local_reserved_ports: list[int] = []
        self.ping_group_range: list[int] = [1, 0]
        self.sysctl_fib_multipath_hash_policy: int = 0
        self.sysctl_fib_multipath_hash_fields: int = 7  # FIB_MULTIPATH_HASH_FIELD_DEFAULT_MASK
        self.sysctl_fib_multipath_hash_seed: int = 0
        self.sysctl_fib_multipath_use_neigh: int = 0
        self.sysctl_inet_peer_threshold: int = 65664
        self.ip_rt_min_pmtu: int = 552
        self.ip_rt_mtu_expires: int = 600 * NSEC_PER_SEC
        self.ip_rt_min_advmss: int = 256
        # icmp
        self.sysctl_icmp_echo_ignore_all: int = 0
        self.sysctl_icmp_echo_ignore_broadcasts: int = 1
        self.sysctl_icmp_ignore_bogus_error_responses: int = 1
        self.sysctl_icmp_ratelimit: int = NSEC_PER_SEC
        self.sysctl_icmp_ratemask: int = 6168
        self.sysctl_icmp_msgs_per_sec: int = 1000
        self.sysctl_icmp_msgs_burst: int = 50
        self.sysctl_icmp_errors_use_inbound_ifaddr: int = 0
        # igmp
        self.sysctl_igmp_max_memberships: int = 20
        self.sysctl_igmp_max_msf: int = 10
        self.sysctl_igmp_qrv: int = 2
        self.sysctl_igmp_llm_reports: int = 1
        # tcp
        self.sysctl_tcp_mem: list[int] = [188_130, 250_842, 376_260]  # pages; a machine of 16 GiB
        self.sysctl_tcp_rmem: list[int] = [4096, 131072, 33554432]
        self.sysctl_tcp_wmem: list[int] = [4096, 16384, 4194304]
        self.sysctl_tcp_ecn: int = 2
        self.sysctl_tcp_ecn_fallback: int = 1
        self.sysctl_tcp_timestamps: int = 1
        self.sysctl_tcp_window_scaling: int = 1
        self.sysctl_tcp_sack: int = 1
        self.sysctl_tcp_dsack: int = 1
        self.sysctl_tcp_app_win: int = 31
        self.sysctl_tcp_workaround_signed_windows: int = 0
        self.sysctl_tcp_moderate_rcvbuf: int = 1
        self.sysctl_tcp_keepalive_time: int = 7200 * NSEC_PER_SEC
        self.sysctl_tcp_keepalive_probes: int = 9
        self.sysctl_tcp_keepalive_intvl: int = 75 * NSEC_PER_SEC
        self.sysctl_tcp_syn_retries: int = 6
        self.sysctl_tcp_syn_linear_timeouts: int = 4
        self.sysctl_tcp_synack_retries: int = 5
        self.sysctl_tcp_syncookies: int = 1
        self.sysctl_tcp_retries1: int = 3
        self.sysctl_tcp_retries2: int = 15
        self.sysctl_tcp_orphan_retries: int = 0
        self.sysctl_tcp_fin_timeout: int = 60 * NSEC_PER_SEC
        self.sysctl_tcp_max_orphans: int = 65536
        self.sysctl_tcp_max_tw_buckets: int = 65536
        self.sysctl_max_syn_backlog: int = 1024
        self.sysctl_tcp_tw_reuse: int = 2
        self.sysctl_tcp_tw_reuse_delay: int = 1000  # ms
        self.sysctl_tcp_rfc1337: int = 0
        self.sysctl_tcp_abort_on_overflow: int = 0
        self.sysctl_tcp_stdurg: int = 0
        self.sysctl_tcp_retrans_collapse: int = 1
        self.sysctl_tcp_reordering: int = 3
        self.sysctl_tcp_max_reordering: int = 300
        self.sysctl_tcp_recovery: int = 1
        self.sysctl_tcp_early_retrans: int = 3
        self.sysctl_tcp_frto: int = 2
        self.sysctl_tcp_thin_linear_timeouts: int = 0
        self.sysctl_tcp_slow_start_after_idle: int = 1
        self.sysctl_tcp_autocorking: int = 1
        self.sysctl_tcp_limit_output_bytes: int = 4 * 1048576
        self.sysctl_tcp_challenge_ack_limit: int = 0x7FFFFFFF
        self.sysctl_tcp_min_tso_segs: int = 2
        self.sysctl_tcp_tso_win_divisor: int = 3
        self.sysctl_tcp_tso_rtt_log: int = 9
        self.sysctl_tcp_pacing_ss_ratio: int = 200
        self.sysctl_tcp_pacing_ca_ratio: int = 120
        self.tcp_challenge_timestamp: int = 0  # the second that tcp_challenge_count is for
        self.tcp_challenge_count: int = 0
        self.sysctl_tcp_invalid_ratelimit: int = 500 * NSEC_PER_MSEC
        self.sysctl_tcp_mtu_probing: int = 0
        self.sysctl_tcp_base_mss: int = 1024
        self.sysctl_tcp_min_snd_mss: int = 48
        self.sysctl_tcp_mtu_probe_floor: int = 48
        self.sysctl_tcp_probe_threshold: int = 8  # bytes: a search within less is over
        self.sysctl_tcp_probe_interval: int = 600  # seconds
        self.sysctl_tcp_notsent_lowat: int = 0xFFFFFFFF
        self.sysctl_tcp_min_rtt_wlen: int = 300
        self.sysctl_tcp_comp_sack_delay_ns: int = 1_000_000
        self.sysctl_tcp_comp_sack_nr: int = 44
        self.sysctl_tcp_reflect_tos: int = 0
        self.sysctl_tcp_pingpong_thresh: int = 1
        self.sysctl_tcp_rto_min_us: int = 200_000
        self.sysctl_tcp_rto_max_ms: int = 120_000
        self.sysctl_tcp_backlog_ack_defer: int = 1
        self.sysctl_tcp_shrink_window: int = 0
        # udp
        self.sysctl_udp_rmem_min: int = 4096
        self.sysctl_udp_wmem_min: int = 4096
        self.sysctl_udp_mem: list[int] = [376_260, 501_684, 752_520]
        # raw
