"""What is written to every sysctl of net.ipv4 and net.core: on the running kernel (linux_sysctls.py) and on afinet
(test_sysctls.py)."""

from __future__ import annotations

# Before each, the default is put back.
VALUES = (
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "30", "31", "32", "47", "48", "60", "127", "128", "255", "256", "999", "1000",
    "1001", "4095", "4096", "60000", "60001", "65535", "65536", "86400", "86401", "120000", "120001", "1048576", "2147483647",
    "2147483648", "4294967295", "4294967296", "9223372036854775807", "-1", "-31", "-32", "-2147483648", "-2147483649", "", " ",
    "x", "1x", "1 x", "0x10", "010", " 7 ", "5 9", "9 5", "5 9 12", "5 9 12 13", "2000-2010,2005,2020", "70000", "5-3", "1,", "+5",
    "--5", "5\t",
)  # fmt: skip

# Not compared: names, keys, what another part owns.
APART = (
    "net.ipv4.tcp_congestion_control", "net.ipv4.tcp_available_congestion_control", "net.ipv4.tcp_allowed_congestion_control",
    "net.ipv4.tcp_fastopen_key", "net.core.netdev_rss_key",
)  # fmt: skip
# The default depends on the machine's memory.
MACHINE = ("net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_max_tw_buckets")


def wanted(name: str) -> bool:
    return name not in APART
