"""kernel/notifier.c: chains of those who want to hear of an event."""

from __future__ import annotations

from afinet._mypyc import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class NotifierBlock:
    """struct notifier_block: override `notifier_call`."""

    __slots__ = ()

    def notifier_call(self, event: int, data: object) -> int:
        """`event` is NETDEV_* with a NetDevice, or NETDEV_UP/DOWN with an InIfaddr. 0 or -errno."""
        raise NotImplementedError


def call_notifiers(chain: list[NotifierBlock], event: int, data: object) -> int:
    """Tell all in order of registration; the first -errno ends it and is returned."""
    for block in chain:
        err = block.notifier_call(event, data)
        if err < 0:
            return err
    return 0
