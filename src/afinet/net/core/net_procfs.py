"""net/core/net-procfs.c: the text of /proc/net/dev and /proc/net/softnet_stat.

Left out: the counters of what afinet's devices do not have (FIFO and frame errors, compression): they read 0, as on Linux's veth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice

DEV_HEADER: Final = (
    "Inter-|   Receive                                                |  Transmit\n"
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
)


def dev_seq_show(net: Net) -> str:
    """/proc/net/dev."""
    return DEV_HEADER + "".join([dev_seq_printf_stats(dev) for dev in net.dev_by_index.values()])


def dev_seq_printf_stats(dev: NetDevice) -> str:
    s = dev.stats
    return (
        f"{dev.name:>6}: {s.rx_bytes:7} {s.rx_packets:7} {s.rx_errors:4} {s.rx_dropped:4} {0:4} {0:5} {0:10} {s.multicast:9} "
        f"{s.tx_bytes:8} {s.tx_packets:7} {s.tx_errors:4} {s.tx_dropped:4} {0:4} {s.collisions:5} {0:7} {0:10}\n"
    )


def softnet_seq_show(kernel: Kernel) -> str:
    """/proc/net/softnet_stat: one line, for the one CPU there is."""
    sd = kernel.softnet_data
    assert sd is not None
    words = [sd.processed, sd.dropped, sd.time_squeeze] + [0] * 8
    words += [len(sd.input_pkt_queue) + len(sd.process_queue), 0, len(sd.input_pkt_queue), len(sd.process_queue)]
    return " ".join([f"{w & 0xFFFFFFFF:08x}" for w in words]) + "\n"
