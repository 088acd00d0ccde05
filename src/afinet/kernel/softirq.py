"""kernel/softirq.c: work put off until bottom halves are enabled again, in the order of its vector, never nested."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet._mypyc import mypyc_attr

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel

TIMER_SOFTIRQ: Final = 1
NET_TX_SOFTIRQ: Final = 2
NET_RX_SOFTIRQ: Final = 3
TASKLET_SOFTIRQ: Final = 6
NR_SOFTIRQS: Final = 10


@mypyc_attr(allow_interpreted_subclasses=True)
class SoftirqAction:
    """struct softirq_action."""

    __slots__ = ()

    def action(self, kernel: Kernel) -> None:
        raise NotImplementedError


def open_softirq(kernel: Kernel, nr: int, action: SoftirqAction) -> None:
    kernel.softirq_vec[nr] = action


def raise_softirq(kernel: Kernel, nr: int) -> None:
    """Mark the vector: it runs when bottom halves are enabled again, or when the runner next calls `Kernel.run`."""
    kernel.softirq_pending |= 1 << nr


def local_bh_disable(kernel: Kernel) -> None:
    kernel.softirq_count += 1


def local_bh_enable(kernel: Kernel) -> None:
    kernel.softirq_count -= 1
    if kernel.softirq_pending and kernel.softirq_count == 0:
        do_softirq(kernel)


def do_softirq(kernel: Kernel) -> None:
    """Run what is pending until nothing is; returns at once inside a softirq or with bottom halves off."""
    if kernel.softirq_count:
        return
    kernel.softirq_count = 1
    try:
        while kernel.softirq_pending:
            pending = kernel.softirq_pending
            kernel.softirq_pending = 0
            nr = 0
            while pending:
                if pending & 1:
                    vec = kernel.softirq_vec[nr]
                    if vec is not None:
                        vec.action(kernel)
                pending >>= 1
                nr += 1
    finally:
        # A handler that a user added may raise: that is his, the next softirq is ours.
        kernel.softirq_count = 0
