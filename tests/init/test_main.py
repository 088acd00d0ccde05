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

# Defaults and limits are compared with the running kernel's in tests/parity/test_sysctls.py.


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
        ("ip_local_reserved_ports", "8080,9000-9002", "ip_local_reserved_ports", [8080, 9000, 9001, 9002]),
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
        ("tcp_syn_retries", "0"),
        ("tcp_syn_retries", "128"),
        ("tcp_keepalive_probes", "256"),
        ("tcp_early_retrans", "5"),
        ("tcp_rmem", "0 1 2"),
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
