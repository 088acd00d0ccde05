"""net/core/link_watch.c: carrier and operational state; and dev_activate of net/sched/sch_generic.c.

dev_activate and dev_deactivate stand here because dev_open calls them, and core is below the qdiscs. Linux has noop_qdisc in
force while a device is down or without a carrier: packets are dropped and the sender is told "congestion", no error. Here
`dev.xmit_active` says so, and dev_queue_xmit does the same.

Left out: Linux lets a work queue follow the carrier, up to a second later; here it takes effect at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.kernel.notifier import call_notifiers
from afinet.net.core.netdevice import IFF_NO_QUEUE, NETDEV_CHANGE, dev_net
from afinet.uapi.if_ import IF_OPER_DOWN, IF_OPER_UNKNOWN, IF_OPER_UP, IFF_UP

if TYPE_CHECKING:
    from afinet.net.core.netdevice import NetDevice


def netif_carrier_ok(dev: NetDevice) -> bool:
    return dev.carrier


def netif_oper_up(dev: NetDevice) -> bool:
    return dev.operstate == IF_OPER_UP or dev.operstate == IF_OPER_UNKNOWN


def rfc2863_policy(dev: NetDevice) -> None:
    """default_operstate: with neither dormancy nor lower devices, the carrier is all."""
    dev.operstate = IF_OPER_UP if dev.carrier else IF_OPER_DOWN


def netif_carrier_on(dev: NetDevice) -> None:
    if not dev.carrier:
        dev.carrier = True
        linkwatch_do_dev(dev)


def netif_carrier_off(dev: NetDevice) -> None:
    if dev.carrier:
        dev.carrier = False
        linkwatch_do_dev(dev)


def linkwatch_do_dev(dev: NetDevice) -> None:
    """The carrier changed: open or close the way out, and tell."""
    rfc2863_policy(dev)
    if dev.nd_net is not None and dev.flags & IFF_UP:
        if dev.carrier:
            dev_activate(dev)
        else:
            dev_deactivate(dev)
        call_notifiers(dev_net(dev).kernel.netdev_chain, NETDEV_CHANGE, dev)


def dev_activate(dev: NetDevice) -> None:
    """Let packets out, through the configured qdisc; at the first time, through the default one."""
    if not dev.carrier:
        return  # delayed until the carrier comes
    if dev.qdisc_sleeping is None and not dev.priv_flags & IFF_NO_QUEUE and dev.tx_queue_len:
        net = dev_net(dev)
        ops = net.kernel.qdisc_base.get(net.core.sysctl_default_qdisc)
        if ops is not None:
            dev.qdisc_sleeping = ops.create(dev)
    dev.qdisc = dev.qdisc_sleeping
    dev.queue_stopped = False
    dev.xmit_active = True


def dev_deactivate(dev: NetDevice) -> None:
    """Let nothing out; what is queued is dropped."""
    dev.xmit_active = False
    qdisc = dev.qdisc
    dev.qdisc = None
    if qdisc is not None:
        qdisc.reset()
