"""Tracepoints (include/trace/events/): Linux's names and fields, one attribute test when off.

A caller writes ``if kernel.trace.inet_sock_set_state: kernel.trace.fire("sock:inet_sock_set_state", {...})``; the attribute is
True while some probe listens to that name. A probe must not act on the stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel

TRACEPOINTS: Final = (
    "sock:inet_sock_set_state",
    "sock:inet_sk_error_report",
    "sock:sock_exceed_buf_limit",
    "sock:sock_rcvqueue_full",
    "tcp:tcp_retransmit_skb",
    "tcp:tcp_retransmit_synack",
    "tcp:tcp_send_reset",
    "tcp:tcp_receive_reset",
    "tcp:tcp_destroy_sock",
    "tcp:tcp_cong_state_set",
    "skb:kfree_skb",
    "net:net_dev_queue",
    "net:net_dev_xmit",
    "net:netif_rx",
    "net:netif_receive_skb",
    "fib:fib_table_lookup",
    "neigh:neigh_update",
    "udp:udp_fail_queue_rcv_skb",
)


@mypyc_attr(allow_interpreted_subclasses=True)
class TraceProbe:
    """What listens: override `probe`."""

    __slots__ = ()

    def probe(self, kernel: Kernel, name: str, fields: dict[str, object]) -> None:
        raise NotImplementedError


class Trace:
    """The switchboard of one Kernel: a flag a tracepoint, and who listens."""

    __slots__ = (
        "_probes",
        "fib_table_lookup",
        "inet_sk_error_report",
        "inet_sock_set_state",
        "kernel",
        "kfree_skb",
        "neigh_update",
        "net_dev_queue",
        "net_dev_xmit",
        "netif_receive_skb",
        "netif_rx",
        "sock_exceed_buf_limit",
        "sock_rcvqueue_full",
        "tcp_cong_state_set",
        "tcp_destroy_sock",
        "tcp_receive_reset",
        "tcp_retransmit_skb",
        "tcp_retransmit_synack",
        "tcp_send_reset",
        "udp_fail_queue_rcv_skb",
    )

    def __init__(self, kernel: Kernel) -> None:
        self.kernel: Kernel = kernel
        self._probes: dict[str, list[TraceProbe]] = {}
        self.inet_sock_set_state: bool = False
        self.inet_sk_error_report: bool = False
        self.sock_exceed_buf_limit: bool = False
        self.sock_rcvqueue_full: bool = False
        self.tcp_retransmit_skb: bool = False
        self.tcp_retransmit_synack: bool = False
        self.tcp_send_reset: bool = False
        self.tcp_receive_reset: bool = False
        self.tcp_destroy_sock: bool = False
        self.tcp_cong_state_set: bool = False
        self.kfree_skb: bool = False
        self.net_dev_queue: bool = False
        self.net_dev_xmit: bool = False
        self.netif_rx: bool = False
        self.netif_receive_skb: bool = False
        self.fib_table_lookup: bool = False
        self.neigh_update: bool = False
        self.udp_fail_queue_rcv_skb: bool = False

    def register(self, name: str, probe: TraceProbe) -> None:
        """Listen to `name` ("system:event"). KeyError, naming the known ones, for an unknown name."""
        if name not in TRACEPOINTS:
            raise KeyError(f"no tracepoint {name!r}; there are: {', '.join(TRACEPOINTS)}")
        self._probes.setdefault(name, []).append(probe)
        self._switch(name, True)

    def unregister(self, name: str, probe: TraceProbe) -> None:
        probes = self._probes.get(name, [])
        if probe in probes:
            probes.remove(probe)
        self._switch(name, bool(probes))

    def _switch(self, name: str, on: bool) -> None:
        # The flag's name is the event's: one of the slots above, checked against TRACEPOINTS by `register`.
        setattr(self, name.partition(":")[2], on)

    def fire(self, name: str, fields: dict[str, object]) -> None:
        for probe in self._probes.get(name, []):
            probe.probe(self.kernel, name, fields)
