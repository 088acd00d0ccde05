"""start_kernel, namespaces, and the sysctls of a booted machine."""

from __future__ import annotations

import pytest

from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.machine import Kernel
from afinet.kernel.sysctl import CtlTable, sysctl_read, sysctl_write
from afinet.kernel.task import Cred
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.net.core.net_namespace import Net, copy_net_ns
from afinet.uapi.errno import EACCES, EINVAL, ENOENT
from afinet.uapi.if_ import IFF_UP
from afinet.uapi.socket import AF_INET, AF_MAX, SOCK_DGRAM, SOCK_STREAM
from tests.leaks import start_kernel


def boot() -> tuple[Kernel, Net]:
    kernel = start_kernel("host", b"seed")
    assert kernel.init_net is not None
    return kernel, kernel.init_net


def test_a_booted_kernel_has_a_namespace_a_task_and_lo_down() -> None:
    kernel, net = boot()
    assert kernel.hostname == "host"
    assert kernel.net_list == [net]
    assert kernel.init_task is not None and kernel.init_task.pid == 1
    assert kernel.init_task.net_ns is net
    assert net.loopback_dev is not None
    assert net.loopback_dev.name == "lo" and net.loopback_dev.ifindex == 1
    assert not net.loopback_dev.flags & IFF_UP
    assert len(kernel.net_families) == AF_MAX
    assert [prot.name for prot in kernel.proto_list] == ["TCP", "UDP", "RAW", "PING"]
    assert kernel.softirq_count == 0 and not kernel.warned


def test_two_kernels_share_nothing() -> None:
    a, net_a = boot()
    _b, net_b = boot()
    assert sysctl_write(net_a.sysctl_table, "net.ipv4.ip_default_ttl", "33") == 0
    assert sysctl_read(net_b.sysctl_table, "net.ipv4.ip_default_ttl") == "64"
    assert a.init_task is not None
    assert syscalls.sys_socket(a.init_task, AF_INET, SOCK_STREAM, 0) == 3


def test_a_second_namespace_has_its_own_lo_and_sysctls() -> None:
    kernel, net = boot()
    other = copy_net_ns(kernel, "other")
    assert kernel.net_list == [net, other]
    assert other.loopback_dev is not None and other.loopback_dev is not net.loopback_dev
    assert sysctl_write(other.sysctl_table, "net.ipv4.tcp_syn_retries", "3") == 0
    assert net.ipv4.sysctl_tcp_syn_retries == 6
    assert other.ipv4.sysctl_tcp_syn_retries == 3
    task = new_task(kernel, other, "child", Cred(1000, 1000))
    fd = syscalls.sys_socket(task, AF_INET, SOCK_DGRAM, 0)
    assert fd == 3
    assert sysctl_read(other.sysctl_table, "net.ipv4.tcp_mem") == -ENOENT  # the machine's, in the first namespace only


def test_the_same_seed_gives_the_same_machine() -> None:
    a, _ = boot()
    b, _ = boot()
    assert a.siphash_key == b.siphash_key
    assert a.random("isn").get_random_u32() == b.random("isn").get_random_u32()


# -- sysctl --------------------------------------------------------------------------------------------------------------

# `sysctl -a` in a fresh namespace of Linux 6.18, without what depends on the machine's memory.
LINUX_DEFAULTS = {
    "net.core.rmem_default": "212992",
    "net.core.rmem_max": "4194304",
    "net.core.somaxconn": "4096",
    "net.core.txrehash": "1",
    "net.core.wmem_default": "212992",
    "net.core.wmem_max": "4194304",
    "net.ipv4.fib_multipath_hash_policy": "0",
    "net.ipv4.icmp_echo_ignore_all": "0",
    "net.ipv4.icmp_echo_ignore_broadcasts": "1",
    "net.ipv4.icmp_errors_use_inbound_ifaddr": "0",
    "net.ipv4.icmp_ignore_bogus_error_responses": "1",
    "net.ipv4.icmp_msgs_burst": "50",
    "net.ipv4.icmp_msgs_per_sec": "1000",
    "net.ipv4.icmp_ratelimit": "1000",
    "net.ipv4.icmp_ratemask": "6168",
    "net.ipv4.igmp_max_memberships": "20",
    "net.ipv4.ip_autobind_reuse": "0",
    "net.ipv4.ip_default_ttl": "64",
    "net.ipv4.ip_dynaddr": "0",
    "net.ipv4.ip_early_demux": "1",
    "net.ipv4.ip_forward": "0",
    "net.ipv4.ip_forward_use_pmtu": "0",
    "net.ipv4.ip_local_port_range": "32768\t60999",
    "net.ipv4.ip_local_reserved_ports": "",
    "net.ipv4.ip_no_pmtu_disc": "0",
    "net.ipv4.ip_nonlocal_bind": "0",
    "net.ipv4.ip_unprivileged_port_start": "1024",
    "net.ipv4.ipfrag_high_thresh": "4194304",
    "net.ipv4.ipfrag_low_thresh": "3145728",
    "net.ipv4.ipfrag_max_dist": "64",
    "net.ipv4.ipfrag_time": "30",
    "net.ipv4.ping_group_range": "1\t0",
    "net.ipv4.route.min_adv_mss": "256",
    "net.ipv4.route.min_pmtu": "552",
    "net.ipv4.route.mtu_expires": "600",
    "net.ipv4.tcp_abort_on_overflow": "0",
    "net.ipv4.tcp_adv_win_scale": "1",
    "net.ipv4.tcp_app_win": "31",
    "net.ipv4.tcp_autocorking": "1",
    "net.ipv4.tcp_backlog_ack_defer": "1",
    "net.ipv4.tcp_base_mss": "1024",
    "net.ipv4.tcp_challenge_ack_limit": "2147483647",
    "net.ipv4.tcp_comp_sack_delay_ns": "1000000",
    "net.ipv4.tcp_comp_sack_nr": "44",
    "net.ipv4.tcp_dsack": "1",
    "net.ipv4.tcp_early_retrans": "3",
    "net.ipv4.tcp_ecn": "2",
    "net.ipv4.tcp_ecn_fallback": "1",
    "net.ipv4.tcp_fin_timeout": "60",
    "net.ipv4.tcp_frto": "2",
    "net.ipv4.tcp_invalid_ratelimit": "500",
    "net.ipv4.tcp_keepalive_intvl": "75",
    "net.ipv4.tcp_keepalive_probes": "9",
    "net.ipv4.tcp_keepalive_time": "7200",
    "net.ipv4.tcp_limit_output_bytes": "4194304",
    "net.ipv4.tcp_max_reordering": "300",
    "net.ipv4.tcp_min_rtt_wlen": "300",
    "net.ipv4.tcp_min_snd_mss": "48",
    "net.ipv4.tcp_min_tso_segs": "2",
    "net.ipv4.tcp_moderate_rcvbuf": "1",
    "net.ipv4.tcp_mtu_probing": "0",
    "net.ipv4.tcp_notsent_lowat": "4294967295",
    "net.ipv4.tcp_orphan_retries": "0",
    "net.ipv4.tcp_pacing_ca_ratio": "120",
    "net.ipv4.tcp_pacing_ss_ratio": "200",
    "net.ipv4.tcp_pingpong_thresh": "1",
    "net.ipv4.tcp_recovery": "1",
    "net.ipv4.tcp_reflect_tos": "0",
    "net.ipv4.tcp_reordering": "3",
    "net.ipv4.tcp_retrans_collapse": "1",
    "net.ipv4.tcp_retries1": "3",
    "net.ipv4.tcp_retries2": "15",
    "net.ipv4.tcp_rfc1337": "0",
    "net.ipv4.tcp_rmem": "4096\t131072\t33554432",
    "net.ipv4.tcp_rto_max_ms": "120000",
    "net.ipv4.tcp_rto_min_us": "200000",
    "net.ipv4.tcp_sack": "1",
    "net.ipv4.tcp_shrink_window": "0",
    "net.ipv4.tcp_slow_start_after_idle": "1",
    "net.ipv4.tcp_stdurg": "0",
    "net.ipv4.tcp_syn_linear_timeouts": "4",
    "net.ipv4.tcp_syn_retries": "6",
    "net.ipv4.tcp_synack_retries": "5",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv4.tcp_thin_linear_timeouts": "0",
    "net.ipv4.tcp_timestamps": "1",
    "net.ipv4.tcp_tso_rtt_log": "9",
    "net.ipv4.tcp_tso_win_divisor": "3",
    "net.ipv4.tcp_tw_reuse": "2",
    "net.ipv4.tcp_tw_reuse_delay": "1000",
    "net.ipv4.tcp_window_scaling": "1",
    "net.ipv4.tcp_wmem": "4096\t16384\t4194304",
    "net.ipv4.tcp_workaround_signed_windows": "0",
    "net.ipv4.udp_rmem_min": "4096",
    "net.ipv4.udp_wmem_min": "4096",
}


def test_the_defaults_are_linuxs() -> None:
    _, net = boot()
    ours = {name: sysctl_read(net.sysctl_table, name) for name in LINUX_DEFAULTS}
    assert ours == LINUX_DEFAULTS


def test_every_entry_writes_back_what_it_reads() -> None:
    _, net = boot()
    for path, entry in net.sysctl_table.items():
        if not entry.mode & 0o444:
            continue  # write-only: route/flush
        text = entry.read()
        if entry.mode & 0o222:
            err = entry.write(text)
            assert err == 0, (path, text, err)
            assert entry.read() == text, path
        else:
            assert sysctl_write(net.sysctl_table, path, text) == -EACCES


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("tcp_fin_timeout", "30", "sysctl_tcp_fin_timeout", 30 * NSEC_PER_SEC),
        ("tcp_keepalive_time", "10", "sysctl_tcp_keepalive_time", 10 * NSEC_PER_SEC),
        ("tcp_invalid_ratelimit", "250", "sysctl_tcp_invalid_ratelimit", 250 * NSEC_PER_MSEC),
        ("icmp_ratelimit", "0", "sysctl_icmp_ratelimit", 0),
        ("tcp_syn_retries", "0x7f", "sysctl_tcp_syn_retries", 127),
        ("tcp_rmem", "8192", "sysctl_tcp_rmem", [8192, 131072, 33554432]),
        ("tcp_rmem", "1 2 3\n", "sysctl_tcp_rmem", [1, 2, 3]),
        ("ip_local_port_range", "2000 3000", "ip_local_ports", [2000, 3000]),
        ("ip_local_reserved_ports", "8080, 9000-9002", "ip_local_reserved_ports", [8080, 9000, 9001, 9002]),
        ("ping_group_range", "0 100", "ping_group_range", [0, 100]),
        ("ping_group_range", "100 0", "ping_group_range", [1, 0]),
        ("ip_unprivileged_port_start", "0", "sysctl_ip_prot_sock", 0),
        ("tcp_notsent_lowat", "131072", "sysctl_tcp_notsent_lowat", 131072),
        ("route/mtu_expires", "5", "ip_rt_mtu_expires", 5 * NSEC_PER_SEC),
    ],
)
def test_a_value_reaches_the_field_that_the_stack_reads(name: str, text: str, field: str, value: object) -> None:
    _, net = boot()
    assert sysctl_write(net.sysctl_table, f"net/ipv4/{name}", text) == 0
    assert getattr(net.ipv4, field) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ip_default_ttl", "0"),
        ("ip_default_ttl", "256"),
        ("ip_default_ttl", "many"),
        ("ip_default_ttl", ""),
        ("ip_default_ttl", "1 2"),
        ("tcp_syn_retries", "0"),
        ("tcp_syn_retries", "128"),
        ("tcp_keepalive_probes", "256"),
        ("tcp_early_retrans", "5"),
        ("tcp_adv_win_scale", "32"),
        ("tcp_rmem", "0 1 2"),
        ("tcp_rmem", "1 2 3 4"),
        ("tcp_rto_max_ms", "999"),
        ("tcp_rto_max_ms", "120001"),
        ("tcp_fin_timeout", "x"),
        ("tcp_fin_timeout", "99999999999"),
        ("ip_local_port_range", "3000 2000"),
        ("ip_local_port_range", "1000 2000"),
        ("ip_local_port_range", "2000 65536"),
        ("ip_unprivileged_port_start", "32769"),
        ("ip_local_reserved_ports", "70000"),
        ("ip_local_reserved_ports", "9-8"),
        ("ip_local_reserved_ports", "a"),
        ("ping_group_range", "0 4294967295"),
        ("route/min_pmtu", "67"),
    ],
)
def test_a_value_out_of_range_is_einval_and_changes_nothing(name: str, text: str) -> None:
    _, net = boot()
    entry = net.sysctl_table[f"net/ipv4/{name}"]
    before = entry.read()
    assert sysctl_write(net.sysctl_table, f"net/ipv4/{name}", text) == -EINVAL
    assert entry.read() == before


def test_reserved_ports_read_back_as_ranges() -> None:
    _, net = boot()
    assert sysctl_write(net.sysctl_table, "net.ipv4.ip_local_reserved_ports", "5,1,2,3,9-10,10") == 0
    assert sysctl_read(net.sysctl_table, "net.ipv4.ip_local_reserved_ports") == "1-3,5,9-10"


def test_the_congestion_control_must_exist() -> None:
    _, net = boot()
    table = net.sysctl_table
    available = sysctl_read(table, "net.ipv4.tcp_available_congestion_control")
    assert isinstance(available, str) and "reno" in available.split()
    assert sysctl_write(table, "net.ipv4.tcp_congestion_control", "nosuch") == -ENOENT
    assert sysctl_write(table, "net.ipv4.tcp_congestion_control", "reno\n") == 0
    assert sysctl_read(table, "net.ipv4.tcp_congestion_control") == "reno"
    assert sysctl_write(table, "net.ipv4.tcp_allowed_congestion_control", "nosuch") == -ENOENT
    assert sysctl_write(table, "net.core.default_qdisc", "nosuch") == -ENOENT
    assert sysctl_write(table, "net.core.default_qdisc", "pfifo_fast") == 0


def test_a_table_of_ones_own_can_be_added() -> None:
    class Loud(CtlTable):
        def read(self) -> str:
            return super().read() + "!"

    _, net = boot()
    net.sysctl_table["net/ipv4/loud"] = Loud("loud", net.core, "sysctl_somaxconn")
    assert sysctl_read(net.sysctl_table, "net.ipv4.loud") == "4096!"
