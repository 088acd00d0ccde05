"""net/core/dev.c: network devices by name and number, and the way of a packet into and out of them.

Receiving: a driver calls netif_rx (an interrupt's work: queue, raise NET_RX_SOFTIRQ), by way of napi_gro_receive (gro.py) when it
has several packets; the softirq's net_rx_action takes the queue to __netif_receive_skb_core, which shows the packet to the taps and
hands it to the protocol registered for its Ethernet type.
Sending: dev_queue_xmit -> the qdisc, or none -> validate_xmit_skb (what the device cannot do is done in software) ->
dev_hard_start_xmit -> ndo_start_xmit. The softirqs that this raised run at the end of the outermost dev_queue_xmit.

A device: register_netdevice, dev_open, dev_close, unregister_netdevice; each step is told on `kernel.netdev_chain`.

Left out: NAPI (drivers are functions of the packet, there is nothing to poll), RPS and XPS (one CPU), ingress qdiscs,
rx_handler (bridges and bonds), XDP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.kernel.notifier import call_notifiers
from afinet.kernel.softirq import NET_RX_SOFTIRQ, NET_TX_SOFTIRQ, SoftirqAction, do_softirq, open_softirq
from afinet.net.core import eth, gro, gso, link_watch, timestamping
from afinet.net.core.drop_reason import (
    SKB_DROP_REASON_CPU_BACKLOG,
    SKB_DROP_REASON_DEV_READY,
    SKB_DROP_REASON_FULL_RING,
    SKB_DROP_REASON_QDISC_DROP,
    SKB_DROP_REASON_QUEUE_PURGE,
    SKB_DROP_REASON_SKB_CSUM,
    SKB_DROP_REASON_SKB_GSO_SEG,
    SKB_DROP_REASON_UNHANDLED_PROTO,
)
from afinet.net.core.net_namespace import PernetOperations, register_pernet_device
from afinet.net.core.netdevice import (
    NET_RX_SUCCESS,
    NET_XMIT_CN,
    NETDEV_CHANGE,
    NETDEV_CHANGEADDR,
    NETDEV_CHANGEMTU,
    NETDEV_CHANGENAME,
    NETDEV_DOWN,
    NETDEV_GOING_DOWN,
    NETDEV_REGISTER,
    NETDEV_TX_BUSY,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    NETIF_F_GSO_UDP_L4,
    NETIF_F_HW_CSUM,
    NETIF_F_TSO,
    NETIF_F_TSO_MANGLEID,
    dev_net,
)
from afinet.net.core.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    SKB_GSO_TCP_FIXEDID,
    SKB_GSO_TCPV4,
    SKB_GSO_UDP_L4,
    SkBuff,
    consume_skb,
    kfree_skb_reason,
    skb_clone,
)
from afinet.uapi.errno import EEXIST, EINVAL, ENETDOWN, ENFILE, ENODEV, ENOMEM
from afinet.uapi.if_ import (
    IFF_ALLMULTI,
    IFF_AUTOMEDIA,
    IFF_DEBUG,
    IFF_DORMANT,
    IFF_DYNAMIC,
    IFF_LOWER_UP,
    IFF_MULTICAST,
    IFF_NOARP,
    IFF_NOTRAILERS,
    IFF_PORTSEL,
    IFF_PROMISC,
    IFF_RUNNING,
    IFF_UP,
    IFNAMSIZ,
)
from afinet.uapi.if_ether import ETH_P_ALL
from afinet.uapi.if_packet import PACKET_OUTGOING
from afinet.wire.be import put_u16
from afinet.wire.checksum import csum_partial, csum_pieces

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.kernel.notifier import NotifierBlock
    from afinet.net.core.net_namespace import Net
    from afinet.net.core.netdevice import NetDevice, PacketType
    from afinet.net.sched.sch_generic import Qdisc

NETDEV_BUDGET: Final = 300
MAX_DEVICES: Final = 32768  # what "%d" may grow to (8 * PAGE_SIZE)
RX_PENDING: Final = 1 << NET_RX_SOFTIRQ
TX_PENDING: Final = 1 << NET_TX_SOFTIRQ

# Flags that a user may set; the others say what is the case.
IFF_CHANGEABLE: Final = (
    IFF_DEBUG | IFF_NOTRAILERS | IFF_NOARP | IFF_DYNAMIC | IFF_MULTICAST | IFF_PORTSEL | IFF_AUTOMEDIA | IFF_PROMISC | IFF_ALLMULTI
)  # fmt: skip


class SoftnetData:
    """struct softnet_data: the queues between drivers and softirqs, and /proc/net/softnet_stat's counters."""

    __slots__ = ("dropped", "gro", "input_pkt_queue", "output_queue", "process_queue", "processed", "time_squeeze")

    def __init__(self) -> None:
        self.input_pkt_queue: list[SkBuff] = []
        self.process_queue: list[SkBuff] = []  # what the softirq is working on, last first
        self.output_queue: list[Qdisc] = []
        self.gro: gro.GroNode = gro.GroNode()
        self.processed: int = 0
        self.dropped: int = 0
        self.time_squeeze: int = 0


class NetRxAction(SoftirqAction):
    """NET_RX_SOFTIRQ."""

    __slots__ = ()

    def action(self, kernel: Kernel) -> None:
        net_rx_action(kernel)


class NetTxAction(SoftirqAction):
    """NET_TX_SOFTIRQ."""

    __slots__ = ()

    def action(self, kernel: Kernel) -> None:
        net_tx_action(kernel)


class DefaultDeviceOps(PernetOperations):
    """default_device_ops: the devices of a namespace end with it."""

    __slots__ = ()

    def exit(self, net: Net) -> None:
        while net.dev_by_index:
            ifindex = max(net.dev_by_index)  # the youngest first: lo is the last
            unregister_netdevice(net.dev_by_index[ifindex])


def net_dev_init(kernel: Kernel) -> int:
    """Set up what every device needs. Called once per Kernel, before any device."""
    kernel.softnet_data = SoftnetData()
    open_softirq(kernel, NET_RX_SOFTIRQ, NetRxAction())
    open_softirq(kernel, NET_TX_SOFTIRQ, NetTxAction())
    return register_pernet_device(kernel, DefaultDeviceOps())


# -- receiving -------------------------------------------------------------------------------------------------------------


def netif_rx(skb: SkBuff) -> int:
    """A driver's packet: queue it for the softirq. `skb.dev`, `protocol` and `pkt_type` are set, `data` is behind the link header.

    NET_RX_DROP when the backlog (net.core.netdev_max_backlog) is full or the device is down; the packet is consumed either way.
    Who calls from outside a softirq and a system call (a link's event) has `Kernel.run` do the work, as an interrupt's end does.
    """
    dev = skb.dev
    assert dev is not None
    net = dev.nd_net
    assert net is not None
    kernel = net.kernel
    sd = kernel.softnet_data
    assert sd is not None
    queue = sd.input_pkt_queue
    if len(queue) > net.core.sysctl_netdev_max_backlog:
        sd.dropped += 1
        dev.stats.rx_dropped += 1
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_CPU_BACKLOG)
    if not dev.flags & IFF_UP:
        dev.stats.rx_dropped += 1
        return kfree_skb_reason(net, skb, SKB_DROP_REASON_DEV_READY)
    skb.tstamp = kernel.now + kernel.boot_time
    if kernel.trace.netif_rx:
        kernel.trace.fire("net:netif_rx", {"skb": skb, "len": skb.len, "name": dev.name})
    queue.append(skb)
    kernel.softirq_pending |= RX_PENDING
    return NET_RX_SUCCESS


def net_rx_action(kernel: Kernel) -> None:
    """Work off the backlog; after netdev_budget packets, let the other softirqs have a turn."""
    sd = kernel.softnet_data
    assert sd is not None
    init_net = kernel.init_net
    budget = NETDEV_BUDGET if init_net is None else init_net.core.sysctl_netdev_budget
    queue = sd.process_queue
    while True:
        if not queue:
            if not sd.input_pkt_queue:
                return
            queue = sd.input_pkt_queue
            queue.reverse()
            sd.process_queue = queue
            sd.input_pkt_queue = []
        sd.processed += 1
        __netif_receive_skb_core(kernel, queue.pop())
        budget -= 1
        if budget <= 0 and (queue or sd.input_pkt_queue):
            sd.time_squeeze += 1
            kernel.softirq_pending |= RX_PENDING
            return


def netif_receive_skb(skb: SkBuff) -> int:
    """Hand a packet up at once; only from a softirq."""
    dev = skb.dev
    assert dev is not None
    kernel = dev_net(dev).kernel
    skb.tstamp = kernel.now + kernel.boot_time
    return __netif_receive_skb_core(kernel, skb)


def __netif_receive_skb_core(kernel: Kernel, skb: SkBuff) -> int:
    dev = skb.dev
    assert dev is not None
    data = skb.data
    skb.network_header = data
    skb.transport_header = data
    skb.skb_iif = dev.ifindex
    if kernel.trace.netif_receive_skb:
        kernel.trace.fire("net:netif_receive_skb", {"skb": skb, "len": skb.len, "name": dev.name})
    if kernel.ptype_all or dev.ptype_all:
        deliver_ptype_all(kernel, skb, dev, skb.pkt_type)
    handlers = kernel.ptype_base.get(skb.protocol)
    if handlers is not None:
        if len(handlers) == 1:
            handler = handlers[0]
            if handler.dev is None or handler.dev is dev:
                return handler.func(skb, dev)
        else:
            return deliver_ptype_list(handlers, skb, dev)
    dev.stats.rx_nohandler += 1
    return kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_UNHANDLED_PROTO)


def deliver_ptype_list(handlers: list[PacketType], skb: SkBuff, dev: NetDevice) -> int:
    """Several handlers of one type: each gets a packet of its own, the last the original."""
    found: PacketType | None = None
    for handler in handlers[:]:
        if handler.dev is None or handler.dev is dev:
            if found is not None:
                found.func(skb_clone(skb), dev)
            found = handler
    if found is not None:
        return found.func(skb, dev)
    dev.stats.rx_nohandler += 1
    return kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_UNHANDLED_PROTO)


def deliver_ptype_all(kernel: Kernel, skb: SkBuff, dev: NetDevice, pkt_type: int) -> None:
    """Show a clone to each tap; the frame begins at `mac_header`. The tap keeps or forgets it: nobody is charged for it."""
    for taps in (kernel.ptype_all, dev.ptype_all):
        for tap in taps[:]:
            clone = skb_clone(skb)
            clone.pkt_type = pkt_type
            tap.func(clone, dev)


def flush_backlog(sd: SoftnetData, dev: NetDevice) -> None:
    """The device is going: drop what it has received and nobody has seen."""
    net = dev_net(dev)
    for skb in sd.input_pkt_queue:
        if skb.dev is dev:
            kfree_skb_reason(net, skb, SKB_DROP_REASON_QUEUE_PURGE)
    sd.input_pkt_queue = [skb for skb in sd.input_pkt_queue if skb.dev is not dev]
    for skb in sd.process_queue:
        if skb.dev is dev:
            kfree_skb_reason(net, skb, SKB_DROP_REASON_QUEUE_PURGE)
    # In place: net_rx_action holds on to this list.
    sd.process_queue[:] = [skb for skb in sd.process_queue if skb.dev is not dev]


def dev_add_pack(kernel: Kernel, pt: PacketType) -> None:
    """Register a protocol handler, or a tap (type ETH_P_ALL) on one device or on all."""
    if pt.type != ETH_P_ALL:
        kernel.ptype_base.setdefault(pt.type, []).append(pt)
    elif pt.dev is not None:
        pt.dev.ptype_all.append(pt)
    else:
        kernel.ptype_all.append(pt)


def dev_remove_pack(kernel: Kernel, pt: PacketType) -> None:
    """Take it out again; nothing happens if it is not there."""
    if pt.type == ETH_P_ALL:
        taps = kernel.ptype_all if pt.dev is None else pt.dev.ptype_all
    else:
        taps = kernel.ptype_base.get(pt.type, [])
    for i in range(len(taps)):
        if taps[i] is pt:
            del taps[i]
            break
    if pt.type != ETH_P_ALL and not taps:
        kernel.ptype_base.pop(pt.type, None)


# -- sending ---------------------------------------------------------------------------------------------------------------


def dev_queue_xmit(skb: SkBuff) -> int:
    """Send: `data` is at the link-layer header, `skb.dev` is the way out. The packet is consumed, whatever comes of it.

    Returns NET_XMIT_* (positive: dropped or congested) or -errno. Softirqs raised meanwhile have run when the outermost call
    returns.
    """
    dev = skb.dev
    assert dev is not None
    net = dev.nd_net
    assert net is not None
    kernel = net.kernel
    kernel.softirq_count += 1
    skb.mac_header = skb.data
    if skb.tx_tstamp is not None:
        timestamping.skb_sched_timestamp(skb)
    if kernel.trace.net_dev_queue:
        kernel.trace.fire("net:net_dev_queue", {"skb": skb, "len": skb.len, "name": dev.name})
    qdisc = dev.qdisc
    if qdisc is not None:
        rc = qdisc.dev_xmit_skb(skb)
    elif not dev.xmit_active:
        dev.stats.tx_dropped += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_QDISC_DROP)
        rc = NET_XMIT_CN
    elif skb.gso_size or (skb.ip_summed == CHECKSUM_PARTIAL and not dev.features & NETIF_F_HW_CSUM):
        rc = dev_xmit_validated(net, skb, dev)
    else:
        rc = dev_hard_start_xmit(skb, dev)
        if rc == NETDEV_TX_BUSY:
            rc = dev_xmit_busy(net, skb, dev)
    kernel.softirq_count -= 1
    if kernel.softirq_pending and kernel.softirq_count == 0:
        do_softirq(kernel)
    return rc


def dev_xmit_validated(net: Net, skb: SkBuff, dev: NetDevice) -> int:
    """Send, without a qdisc, a packet that the device may not be able to take as it is."""
    valid = validate_xmit_skb(skb, dev)
    if valid is None:
        return -ENOMEM
    rc, rest = dev_xmit_list(valid, dev)
    while rest is not None:
        following = rest.next
        rest.next = None
        rc = dev_xmit_busy(net, rest, dev)
        rest = following
    return rc


def dev_xmit_busy(net: Net, skb: SkBuff, dev: NetDevice) -> int:
    """A device without a queue refused a packet ("Virtual device asks to queue packet!"): it is lost."""
    dev.stats.tx_dropped += 1
    kfree_skb_reason(net, skb, SKB_DROP_REASON_FULL_RING)
    return -ENETDOWN


def dev_hard_start_xmit(skb: SkBuff, dev: NetDevice) -> int:
    """xmit_one: show the packet to the taps and give it to the driver. NETDEV_TX_BUSY: it is the caller's still."""
    if dev.queue_stopped:
        return NETDEV_TX_BUSY
    net = dev.nd_net
    assert net is not None
    kernel = net.kernel
    if kernel.ptype_all or dev.ptype_all:
        dev_queue_xmit_nit(kernel, skb, dev)
    if skb.tx_tstamp is not None:
        timestamping.skb_tx_timestamp(skb)  # in Linux the drivers call it, all those that are here
    if kernel.trace.net_dev_xmit:
        length = skb.len
        rc = dev.netdev_ops.ndo_start_xmit(skb, dev)
        kernel.trace.fire("net:net_dev_xmit", {"skb": skb, "len": length, "rc": rc, "name": dev.name})
        return rc
    return dev.netdev_ops.ndo_start_xmit(skb, dev)


def dev_xmit_list(skb: SkBuff, dev: NetDevice) -> tuple[int, SkBuff | None]:
    """Send packets linked through `next` (the segments of one). (NET_XMIT_* or NETDEV_TX_BUSY, what is left)."""
    at: SkBuff | None = skb
    rc = 0
    while at is not None:
        following = at.next
        at.next = None
        rc = dev_hard_start_xmit(at, dev)
        if rc == NETDEV_TX_BUSY:
            at.next = following
            return rc, at
        at = following
    return rc, None


def dev_queue_xmit_nit(kernel: Kernel, skb: SkBuff, dev: NetDevice) -> None:
    """Show an outgoing packet to the taps (Network Interface Tap)."""
    skb.mac_header = skb.data
    deliver_ptype_all(kernel, skb, dev, PACKET_OUTGOING)


def validate_xmit_skb(skb: SkBuff, dev: NetDevice) -> SkBuff | None:
    """Do in software what the device cannot: segmentation, checksums. Packets linked through `next`; None: dropped and counted."""
    features = dev.features
    if skb.gso_size and not gso_ok(skb, dev, features):
        net = dev_net(dev)
        err, segs = gso.skb_gso_segment(net.kernel, skb)
        if err:
            dev.stats.tx_dropped += 1
            kfree_skb_reason(net, skb, SKB_DROP_REASON_SKB_GSO_SEG)
            return None
        consume_skb(skb)
        if not features & NETIF_F_HW_CSUM:
            at = segs
            while at is not None:
                if at.ip_summed == CHECKSUM_PARTIAL:
                    skb_checksum_help(at)  # cannot fail: gso_segment made the offsets
                at = at.next
        return segs
    if skb.ip_summed == CHECKSUM_PARTIAL and not features & NETIF_F_HW_CSUM:
        if skb_checksum_help(skb):
            dev.stats.tx_dropped += 1
            kfree_skb_reason(dev_net(dev), skb, SKB_DROP_REASON_SKB_CSUM)
            return None
    return skb


def gso_ok(skb: SkBuff, dev: NetDevice, features: int) -> bool:
    """netif_needs_gso, the other way round: the device cuts this packet itself. With its link header, it must not be too long."""
    if not features & NETIF_F_HW_CSUM or skb.len >= dev.gso_max_size or skb.gso_segs > dev.gso_max_segs:
        return False
    if skb.gso_type & SKB_GSO_TCP_FIXEDID and not features & NETIF_F_TSO_MANGLEID:
        return False
    if skb.gso_type & SKB_GSO_TCPV4:
        return features & NETIF_F_TSO != 0
    if skb.gso_type & SKB_GSO_UDP_L4:
        return features & NETIF_F_GSO_UDP_L4 != 0
    return False


def skb_checksum_help(skb: SkBuff) -> int:
    """Complete a CHECKSUM_PARTIAL packet: sum from csum_start (the field holds the pseudo-header's part), write the field.

    0, or -EINVAL for offsets outside of the linear part.
    """
    start = skb.csum_start
    field = start + skb.csum_offset
    tail = skb.tail
    head = skb.head
    if start < skb.data or skb.csum_offset < 0 or field + 2 > tail:
        return -EINVAL
    if skb.frags is None:
        check = csum_partial(head, start, tail, 0) ^ 0xFFFF
    else:
        check = csum_pieces([head[start:tail], *skb.frags], 0)
        while check > 0xFFFF:
            check = (check & 0xFFFF) + (check >> 16)
        check ^= 0xFFFF
    if check == 0:
        check = 0xFFFF  # CSUM_MANGLED_0: for UDP, 0 means none; for TCP, both are right
    skb.head = head[:field] + put_u16(check) + head[field + 2 :]
    skb.ip_summed = CHECKSUM_NONE
    return 0


def netif_stop_queue(dev: NetDevice) -> None:
    """The driver takes nothing for now; what comes waits in the qdisc."""
    dev.queue_stopped = True


def netif_wake_queue(dev: NetDevice) -> None:
    """The driver takes packets again: NET_TX_SOFTIRQ empties the qdisc."""
    if dev.queue_stopped:
        dev.queue_stopped = False
        if dev.qdisc is not None:
            netif_schedule_qdisc(dev.qdisc)


def netif_schedule_qdisc(qdisc: Qdisc) -> None:
    """__netif_schedule: have NET_TX_SOFTIRQ run this qdisc."""
    if not qdisc.scheduled:
        qdisc.scheduled = True
        kernel = dev_net(qdisc.dev).kernel
        sd = kernel.softnet_data
        assert sd is not None
        sd.output_queue.append(qdisc)
        kernel.softirq_pending |= TX_PENDING


def net_tx_action(kernel: Kernel) -> None:
    sd = kernel.softnet_data
    assert sd is not None
    queue = sd.output_queue
    sd.output_queue = []
    for qdisc in queue:
        qdisc.scheduled = False
        if qdisc.dev.qdisc is qdisc:
            qdisc.run()


# -- names and numbers -----------------------------------------------------------------------------------------------------


def dev_get_by_name(net: Net, name: str) -> NetDevice | None:
    return net.dev_by_name.get(name)


def dev_get_by_index(net: Net, ifindex: int) -> NetDevice | None:
    return net.dev_by_index.get(ifindex)


def dev_valid_name(name: str) -> bool:
    if not 0 < len(name.encode()) < IFNAMSIZ or name == "." or name == "..":
        return False
    for c in name:
        if c == "/" or c == ":" or c.isspace():
            return False
    return True


def dev_alloc_name(net: Net, name: str) -> tuple[int, str]:
    """(0, a free name) for a template with one "%d", or for a name that is free; (-EEXIST, -EINVAL or -ENFILE, "")."""
    if not dev_valid_name(name):
        return -EINVAL, ""
    if "%" not in name:
        return (-EEXIST, "") if name in net.dev_by_name else (0, name)
    at = name.find("%")
    if name[at : at + 2] != "%d" or "%" in name[at + 2 :]:
        return -EINVAL, ""
    for i in range(MAX_DEVICES):
        candidate = name[:at] + str(i) + name[at + 2 :]
        if candidate not in net.dev_by_name:
            return (0, candidate) if dev_valid_name(candidate) else (-EINVAL, "")
    return -ENFILE, ""


def register_netdevice_notifier(kernel: Kernel, nb: NotifierBlock) -> int:
    """Hear of device events from now on, and of the devices that there are. 0 or -errno."""
    kernel.netdev_chain.append(nb)
    for net in kernel.net_list:
        for dev in list(net.dev_by_index.values()):
            err = nb.notifier_call(NETDEV_REGISTER, dev)
            if err < 0:
                kernel.netdev_chain.remove(nb)
                return err
            if dev.flags & IFF_UP:
                nb.notifier_call(NETDEV_UP, dev)
    return 0


def call_netdevice_notifiers(event: int, dev: NetDevice) -> int:
    return call_notifiers(dev_net(dev).kernel.netdev_chain, event, dev)


# -- life ------------------------------------------------------------------------------------------------------------------


def register_netdevice(net: Net, dev: NetDevice) -> int:
    """Give the device its name (a template with "%d" is filled in) and number in `net`, and tell everyone. 0 or -errno."""
    err, name = dev_alloc_name(net, dev.name)
    if err:
        return err
    dev.name = name
    dev.nd_net = net
    net.dev_seq += 1
    dev.ifindex = net.dev_seq
    if dev.iflink == 0:
        dev.iflink = dev.ifindex
    eth.dev_addr_set(dev, dev.dev_addr)
    if not dev.carrier:
        link_watch.rfc2863_policy(dev)
    net.dev_by_index[dev.ifindex] = dev
    net.dev_by_name[name] = dev
    err = call_netdevice_notifiers(NETDEV_REGISTER, dev)
    if err < 0:
        call_netdevice_notifiers(NETDEV_UNREGISTER, dev)
        unlist_netdevice(dev)
        return err
    return 0


def unlist_netdevice(dev: NetDevice) -> None:
    net = dev_net(dev)
    net.dev_by_index.pop(dev.ifindex, None)
    net.dev_by_name.pop(dev.name, None)


def unregister_netdevice(dev: NetDevice) -> None:
    """Take the device out of its namespace for good; nothing happens if it is out already."""
    net = dev_net(dev)
    if net.dev_by_index.get(dev.ifindex) is not dev:
        return
    dev_close(dev)
    unlist_netdevice(dev)
    sd = net.kernel.softnet_data
    if sd is not None:
        flush_backlog(sd, dev)
    qdisc = dev.qdisc_sleeping
    dev.qdisc_sleeping = None
    if qdisc is not None:
        qdisc.reset()
        qdisc.destroy()
    call_netdevice_notifiers(NETDEV_UNREGISTER, dev)
    dev.netdev_ops.ndo_uninit(dev)
    dev.ptype_all = []


def dev_open(dev: NetDevice) -> int:
    """`ip link set up`. 0 or -errno."""
    if dev.flags & IFF_UP:
        return 0
    err = __dev_open(dev)
    if err < 0:
        return err
    call_netdevice_notifiers(NETDEV_UP, dev)
    return 0


def __dev_open(dev: NetDevice) -> int:
    net = dev_net(dev)
    if net.dev_by_index.get(dev.ifindex) is not dev:
        return -ENODEV
    err = dev.netdev_ops.ndo_open(dev)
    if err:
        return err
    dev.flags |= IFF_UP
    link_watch.dev_activate(dev)
    return 0


def dev_close(dev: NetDevice) -> None:
    """`ip link set down`."""
    if dev.flags & IFF_UP:
        __dev_close(dev)
        call_netdevice_notifiers(NETDEV_DOWN, dev)


def __dev_close(dev: NetDevice) -> None:
    call_netdevice_notifiers(NETDEV_GOING_DOWN, dev)
    link_watch.dev_deactivate(dev)
    # Down before the driver lets go of the carrier, so that nobody hears of a carrier lost: in Linux that news comes later, and
    # finds the device down.
    dev.flags &= ~IFF_UP
    dev.netdev_ops.ndo_stop(dev)


def dev_get_flags(dev: NetDevice) -> int:
    """The flags as a user sees them: with IFF_RUNNING (operational) and IFF_LOWER_UP (carrier)."""
    flags = dev.flags & ~(IFF_RUNNING | IFF_LOWER_UP | IFF_DORMANT)
    if flags & IFF_UP:
        if link_watch.netif_oper_up(dev):
            flags |= IFF_RUNNING
        if dev.carrier:
            flags |= IFF_LOWER_UP
    return flags


def dev_change_flags(dev: NetDevice, flags: int) -> int:
    """Set the flags a user may set, and up or down. 0 or -errno."""
    old = dev.flags
    dev.flags = flags & IFF_CHANGEABLE | old & ~IFF_CHANGEABLE
    if (old ^ flags) & IFF_UP:
        if flags & IFF_UP:
            err = dev_open(dev)
            if err:
                return err
        else:
            dev_close(dev)
    changes = (dev.flags ^ old) & ~(IFF_UP | IFF_PROMISC | IFF_ALLMULTI)
    if dev.flags & IFF_UP and changes:
        call_netdevice_notifiers(NETDEV_CHANGE, dev)
    return 0


def dev_set_mtu(dev: NetDevice, mtu: int) -> int:
    """0, or -EINVAL outside of the driver's range, or what the driver or a notifier says."""
    if mtu == dev.mtu:
        return 0
    if mtu < 0 or mtu < dev.min_mtu or 0 < dev.max_mtu < mtu:
        return -EINVAL
    old = dev.mtu
    err = dev.netdev_ops.ndo_change_mtu(dev, mtu)
    if err:
        return err
    err = call_netdevice_notifiers(NETDEV_CHANGEMTU, dev)
    if err < 0:
        dev.netdev_ops.ndo_change_mtu(dev, old)
        call_netdevice_notifiers(NETDEV_CHANGEMTU, dev)
        return err
    return 0


def dev_set_mac_address(dev: NetDevice, addr: int) -> int:
    """0 or the driver's -errno."""
    err = dev.netdev_ops.ndo_set_mac_address(dev, addr)
    if err:
        return err
    call_netdevice_notifiers(NETDEV_CHANGEADDR, dev)
    return 0


def dev_change_name(dev: NetDevice, name: str) -> int:
    """`ip link set name`; a template is filled in. 0 or -errno."""
    net = dev_net(dev)
    if name == dev.name:
        return 0
    err, new = dev_alloc_name(net, name)
    if err:
        return err
    del net.dev_by_name[dev.name]
    dev.name = new
    net.dev_by_name[new] = dev
    call_netdevice_notifiers(NETDEV_CHANGENAME, dev)
    return 0


def dev_change_net_namespace(dev: NetDevice, net: Net, pat: str = "") -> int:
    """Move the device, closed, to another namespace of the same Kernel; `pat` is its name there if its own is taken.

    It keeps its ifindex where that is free. 0 or -errno.
    """
    old = dev_net(dev)
    if old is net:
        return 0
    if old.kernel is not net.kernel or dev is old.loopback_dev:
        return -EINVAL
    err, name = dev_alloc_name(net, dev.name)
    if err == -EEXIST and pat:
        err, name = dev_alloc_name(net, pat)
    if err:
        return err
    dev_close(dev)
    unlist_netdevice(dev)
    sd = old.kernel.softnet_data
    if sd is not None:
        flush_backlog(sd, dev)
    call_netdevice_notifiers(NETDEV_UNREGISTER, dev)
    dev.nd_net = net
    dev.name = name
    if dev.ifindex in net.dev_by_index:
        net.dev_seq += 1
        dev.ifindex = net.dev_seq
    elif dev.ifindex > net.dev_seq:
        net.dev_seq = dev.ifindex
    net.dev_by_index[dev.ifindex] = dev
    net.dev_by_name[name] = dev
    return call_netdevice_notifiers(NETDEV_REGISTER, dev)
