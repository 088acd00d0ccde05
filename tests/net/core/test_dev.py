"""net/core/dev.py: devices, the receive and the transmit path."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.drivers.veth import veth_newlink, veth_receive, veth_wire_newlink
from afinet.kernel.notifier import NotifierBlock
from afinet.net.core import dev as dev_core
from afinet.net.core import gso, link_watch
from afinet.net.core.dev import dev_queue_xmit, netif_rx
from afinet.net.core.net_namespace import cleanup_net, copy_net_ns
from afinet.net.core.netdevice import (
    NET_RX_DROP,
    NET_XMIT_CN,
    NETDEV_CHANGE,
    NETDEV_CHANGEMTU,
    NETDEV_DOWN,
    NETDEV_GOING_DOWN,
    NETDEV_REGISTER,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    NETIF_F_HW_CSUM,
    NetDevice,
    dev_net,
)
from afinet.net.core.skbuff import CHECKSUM_PARTIAL, SkBuff, alloc_skb, consume_skb, skb_truesize
from afinet.uapi.errno import EEXIST, EINVAL, ENETDOWN, EPROTONOSUPPORT
from afinet.uapi.if_ import IF_OPER_DOWN, IF_OPER_UNKNOWN, IF_OPER_UP, IFF_LOWER_UP, IFF_RUNNING, IFF_UP
from afinet.uapi.if_packet import PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, PACKET_OUTGOING
from afinet.wire import checksum, ethernet
from tests.net.core.devices import (
    PROTO,
    Handler,
    RecordingWire,
    Sink,
    Tap,
    boot,
    drops,
    frame,
    init_net,
    send,
    sink_device,
    veth_pair,
)

# -- names and numbers


def test_lo_is_the_first_device_of_each_namespace_and_down():
    kernel = boot()
    for net in (init_net(kernel), copy_net_ns(kernel, "second")):
        lo = dev_core.dev_get_by_name(net, "lo")
        assert lo is not None and lo.ifindex == 1 and net.loopback_dev is lo
        assert dev_core.dev_get_by_index(net, 1) is lo
        assert lo.mtu == 65536 and not lo.flags & IFF_UP
        assert lo.operstate == IF_OPER_UNKNOWN


def test_a_template_takes_the_lowest_free_number():
    kernel = boot()
    net = init_net(kernel)
    devs = [veth_newlink(net, "veth%d", net, "veth%d") for _ in range(2)]
    # the peer is registered first, as in Linux
    assert [(a.name, b.name) for a, b in devs] == [("veth1", "veth0"), ("veth3", "veth2")]
    dev_core.unregister_netdevice(devs[0][0])
    assert veth_newlink(net, "veth%d", net, "x")[0].name == "veth0"


def test_bad_and_taken_names_are_refused():
    kernel = boot()
    net = init_net(kernel)
    for name in ("", ".", "..", "a/b", "a:b", "a b", "sixteen-letters-", "%d%d", "%s", "a%"):
        assert dev_core.register_netdevice(net, NetDevice(name, Sink())) == -EINVAL, name
    assert dev_core.register_netdevice(net, NetDevice("lo", Sink())) == -EEXIST
    assert dev_core.register_netdevice(net, NetDevice("fifteen-letters", Sink())) == 0


def test_ifindexes_are_not_used_again():
    kernel = boot()
    net = init_net(kernel)
    dev, _ = sink_device(net)
    dev_core.unregister_netdevice(dev)
    again, _ = sink_device(net)
    assert again.ifindex == dev.ifindex + 1


def test_a_name_may_change_and_the_old_one_is_free():
    kernel = boot()
    net = init_net(kernel)
    dev, _ = sink_device(net)
    assert dev_core.dev_change_name(dev, "lo") == -EEXIST
    assert dev_core.dev_change_name(dev, "wan%d") == 0
    assert net.dev_by_name["wan0"] is dev and "sink0" not in net.dev_by_name


def test_addresses_are_local_unicast_and_come_from_the_seed():
    def addresses(seed: bytes) -> list[int]:
        kernel = boot(seed)
        return [d.dev_addr for d in veth_newlink(init_net(kernel), "a", init_net(kernel), "b")]

    one = addresses(b"1")
    assert one == addresses(b"1") != addresses(b"2")
    for addr in one:
        assert addr >> 40 & 3 == 2
    assert one[0] != one[1]


# -- notifiers, up and down


class Events(NotifierBlock):
    def __init__(self) -> None:
        self.events: list[tuple[int, str]] = []

    def notifier_call(self, event: int, data: object) -> int:
        assert isinstance(data, NetDevice)
        self.events.append((event, data.name))
        return 0


def test_the_notifier_chain_hears_the_life_of_a_device():
    kernel = boot()
    events = Events()
    assert dev_core.register_netdevice_notifier(kernel, events) == 0
    assert events.events == [(NETDEV_REGISTER, "lo")]
    dev, _ = sink_device(init_net(kernel))
    assert dev_core.dev_set_mtu(dev, 1400) == 0
    dev_core.unregister_netdevice(dev)
    assert [e for e, name in events.events if name == "sink0"] == [
        NETDEV_REGISTER,
        NETDEV_UP,
        NETDEV_CHANGEMTU,
        NETDEV_GOING_DOWN,
        NETDEV_DOWN,
        NETDEV_UNREGISTER,
    ]


def test_a_notifier_that_refuses_keeps_a_device_out():
    class Refuse(NotifierBlock):
        def notifier_call(self, event: int, data: object) -> int:
            return -EINVAL if event == NETDEV_REGISTER else 0

    kernel = boot()
    kernel.netdev_chain.append(Refuse())
    dev = NetDevice("x", Sink())
    assert dev_core.register_netdevice(init_net(kernel), dev) == -EINVAL
    assert "x" not in init_net(kernel).dev_by_name


def test_a_notifier_that_refuses_an_mtu_leaves_the_old_one():
    class Refuse(NotifierBlock):
        def notifier_call(self, event: int, data: object) -> int:
            return -EINVAL if event == NETDEV_CHANGEMTU and isinstance(data, NetDevice) and data.mtu == 1000 else 0

    kernel = boot()
    kernel.netdev_chain.append(Refuse())
    dev, _ = sink_device(init_net(kernel))
    assert dev_core.dev_set_mtu(dev, 1000) == -EINVAL
    assert dev.mtu == 1500


def test_an_mtu_outside_of_the_drivers_range_is_refused():
    kernel = boot()
    dev, _ = sink_device(init_net(kernel))
    assert dev_core.dev_set_mtu(dev, 67) == -EINVAL
    assert dev_core.dev_set_mtu(dev, 65536) == -EINVAL
    assert dev_core.dev_set_mtu(dev, 68) == 0
    assert dev_core.dev_set_mtu(dev, 65535) == 0


def test_the_carrier_of_a_veth_is_there_while_both_ends_are_up():
    kernel = boot()
    events = Events()
    left, right = veth_pair(kernel, up=False)
    kernel.netdev_chain.append(events)
    assert left.operstate == IF_OPER_DOWN
    dev_core.dev_open(left)
    assert dev_core.dev_get_flags(left) & (IFF_UP | IFF_RUNNING | IFF_LOWER_UP) == IFF_UP
    dev_core.dev_open(right)
    for dev in (left, right):
        assert dev_core.dev_get_flags(dev) & (IFF_UP | IFF_RUNNING | IFF_LOWER_UP) == IFF_UP | IFF_RUNNING | IFF_LOWER_UP
        assert dev.operstate == IF_OPER_UP
    dev_core.dev_change_flags(right, right.flags & ~IFF_UP)
    assert dev_core.dev_get_flags(left) & (IFF_RUNNING | IFF_LOWER_UP) == 0
    assert events.events == [
        (NETDEV_UP, "veth0"),
        (NETDEV_CHANGE, "veth0"),
        (NETDEV_UP, "veth1"),
        (NETDEV_GOING_DOWN, "veth1"),
        (NETDEV_CHANGE, "veth0"),
        (NETDEV_DOWN, "veth1"),
    ]


def test_one_end_of_a_veth_takes_the_other_with_it():
    kernel = boot()
    left, right = veth_pair(kernel)
    net = dev_net(right)
    dev_core.unregister_netdevice(left)
    assert "veth1" not in net.dev_by_name
    assert not right.flags & IFF_UP


def test_a_namespace_takes_its_devices_with_it():
    kernel = boot()
    left, right = veth_pair(kernel)
    net, other = dev_net(left), dev_net(right)
    cleanup_net(net)
    assert not net.dev_by_index and not net.dev_by_name
    assert list(other.dev_by_name) == ["lo"]
    assert net not in kernel.net_list


def test_a_device_moves_to_another_namespace_closed():
    kernel = boot()
    left, right = veth_pair(kernel)
    third = copy_net_ns(kernel, "c")
    handler = Handler()
    dev_core.dev_add_pack(kernel, handler)
    assert dev_core.dev_change_net_namespace(right, third) == 0
    assert right.nd_net is third and third.dev_by_name["veth1"] is right and not right.flags & IFF_UP
    dev_core.dev_open(right)
    send(left, right.dev_addr, b"hello")
    assert handler.got == [("veth1", PACKET_HOST, b"hello")]


# -- receiving


def test_the_destination_address_tells_the_packet_type():
    kernel = boot()
    left, right = veth_pair(kernel)
    handler = Handler()
    dev_core.dev_add_pack(kernel, handler)
    for to in (right.dev_addr, 0xFFFFFFFFFFFF, 0x01005E000001, 0x021234567890):
        send(left, to, b"x")
    assert [t for _, t, _ in handler.got] == [PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST]


def test_what_nobody_handles_is_counted_and_dropped():
    kernel = boot()
    left, right = veth_pair(kernel)
    send(left, right.dev_addr, b"x")
    send(left, right.dev_addr, b"x", 0x0005)  # an 802.3 length
    assert drops(dev_net(right)) == {"UNHANDLED_PROTO": 2}
    assert right.stats.rx_nohandler == 2 and right.stats.rx_packets == 2


def test_a_handler_may_be_for_one_device_and_several_get_a_packet_each():
    kernel = boot()
    left, right = veth_pair(kernel)
    for_left, for_right, for_all = Handler(PROTO, left), Handler(PROTO, right), Handler(PROTO)
    dev_core.dev_add_pack(kernel, for_left)
    send(left, right.dev_addr, b"1")
    dev_core.dev_add_pack(kernel, for_right)
    dev_core.dev_add_pack(kernel, for_all)
    send(left, right.dev_addr, b"2")
    assert for_left.got == []
    assert for_right.got == for_all.got == [("veth1", PACKET_HOST, b"2")]
    dev_core.dev_remove_pack(kernel, for_right)
    dev_core.dev_remove_pack(kernel, for_all)
    send(left, right.dev_addr, b"3")
    assert len(for_right.got) == 1
    assert drops(dev_net(right)) == {"UNHANDLED_PROTO": 2}


def test_taps_see_both_directions_whole():
    kernel = boot()
    left, right = veth_pair(kernel)
    everywhere, on_right = Tap(), Tap(right)
    dev_core.dev_add_pack(kernel, everywhere)
    dev_core.dev_add_pack(kernel, on_right)
    send(left, right.dev_addr, b"hello")
    whole = ethernet.emit(right.dev_addr, left.dev_addr, PROTO) + b"hello"
    assert everywhere.got == [("veth0", PACKET_OUTGOING, whole), ("veth1", PACKET_HOST, whole)]
    assert on_right.got == everywhere.got[1:]
    dev_core.dev_remove_pack(kernel, everywhere)
    dev_core.dev_remove_pack(kernel, on_right)
    send(left, right.dev_addr, b"hello")
    assert len(everywhere.got) == 2 and len(on_right.got) == 1


def test_the_backlog_is_bounded_and_what_does_not_fit_is_counted():
    kernel = boot()
    _, right = veth_pair(kernel)
    net = dev_net(right)
    net.core.sysctl_netdev_max_backlog = 10
    handler = Handler()
    dev_core.dev_add_pack(kernel, handler)
    results = []
    for i in range(15):
        skb = frame(right.dev_addr, bytes([i]))
        results.append(veth_receive(right, skb))
    # Linux queues while the queue is no longer than the limit, hence one more
    assert results == [0] * 11 + [NET_RX_DROP] * 4
    assert drops(net) == {"CPU_BACKLOG": 4} and right.stats.rx_dropped == 4
    assert kernel.softnet_data is not None and kernel.softnet_data.dropped == 4
    assert handler.got == []
    kernel.run(kernel.now)
    assert [p for _, _, p in handler.got] == [bytes([i]) for i in range(11)]


def test_the_softirq_lets_others_have_a_turn_after_its_budget():
    kernel = boot()
    _, right = veth_pair(kernel)
    handler = Handler()
    dev_core.dev_add_pack(kernel, handler)
    init_net(kernel).core.sysctl_netdev_budget = 4
    for _ in range(10):
        veth_receive(right, frame(right.dev_addr, b"x"))
    kernel.softirq_pending = 0
    dev_core.net_rx_action(kernel)
    assert len(handler.got) == 4 and kernel.softirq_pending
    kernel.run(kernel.now)
    assert len(handler.got) == 10
    assert kernel.softnet_data is not None and kernel.softnet_data.time_squeeze == 2


def test_a_closed_device_receives_nothing():
    kernel = boot()
    _, right = veth_pair(kernel, up=False)
    skb = frame(right.dev_addr, b"x")
    skb.dev = right
    assert netif_rx(skb) == NET_RX_DROP
    assert drops(dev_net(right)) == {"DEV_READY": 1}


def test_what_waits_for_a_device_that_goes_is_dropped():
    kernel = boot()
    _, right = veth_pair(kernel)
    net = dev_net(right)
    handler = Handler()
    dev_core.dev_add_pack(kernel, handler)
    veth_receive(right, frame(right.dev_addr, b"x"))
    dev_core.unregister_netdevice(right)
    kernel.run(kernel.now)
    assert handler.got == [] and drops(net) == {"QUEUE_PURGE": 1}


def test_a_received_packet_knows_when_and_where_it_came_in():
    class Look(Handler):
        def func(self, skb: SkBuff, dev: NetDevice) -> int:
            self.seen = (skb.tstamp, skb.skb_iif, skb.network_header - skb.mac_header, skb.dst, skb.mark, skb.priority)
            return super().func(skb, dev)

    kernel = boot()
    left, right = veth_pair(kernel)
    look = Look()
    dev_core.dev_add_pack(kernel, look)
    skb = frame(right.dev_addr, b"x")
    skb.dev = left
    skb.mark = 7
    skb.priority = 6
    dev_queue_xmit(skb)
    assert look.seen == (kernel.ktime_get_real(), right.ifindex, 14, None, 0, 0)


def test_softirqs_run_at_the_end_of_the_outermost_transmit_and_never_nest():
    class Echo(Handler):
        depth = 0
        deepest = 0

        def func(self, skb: SkBuff, dev: NetDevice) -> int:
            Echo.depth += 1
            Echo.deepest = max(Echo.depth, Echo.deepest)
            n = skb.head[skb.data]
            super().func(skb, dev)
            if n:
                send(dev, 0xFFFFFFFFFFFF, bytes([n - 1]))
            Echo.depth -= 1
            return 0

    kernel = boot()
    left, _ = veth_pair(kernel)
    echo = Echo()
    dev_core.dev_add_pack(kernel, echo)
    send(left, 0xFFFFFFFFFFFF, bytes([200]))
    assert len(echo.got) == 201 and Echo.deepest == 1
    assert kernel.softirq_count == 0 and kernel.softirq_pending == 0


# -- sending


def test_down_or_without_a_carrier_packets_vanish_and_the_sender_hears_of_congestion():
    kernel = boot()
    left, right = veth_pair(kernel, up=False)
    assert send(left, right.dev_addr, b"x") == NET_XMIT_CN
    dev_core.dev_open(left)
    assert send(left, right.dev_addr, b"x") == NET_XMIT_CN
    assert left.stats.tx_dropped == 2 and left.stats.tx_packets == 0
    assert drops(dev_net(left)) == {"QDISC_DROP": 2}


def test_a_driver_without_a_queue_that_refuses_loses_the_packet():
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    link_watch.dev_deactivate(dev)
    dev.qdisc_sleeping = None
    dev.tx_queue_len = 0  # noqueue
    link_watch.dev_activate(dev)
    sink.busy = True
    assert send(dev, 1, b"x") == -ENETDOWN
    sink.busy = False
    dev_core.netif_stop_queue(dev)
    assert send(dev, 1, b"x") == -ENETDOWN
    assert drops(init_net(kernel)) == {"FULL_RING": 2}


def test_statistics_count_frames_and_their_headers():
    kernel = boot()
    left, right = veth_pair(kernel)
    dev_core.dev_add_pack(kernel, Handler())
    send(left, right.dev_addr, b"x" * 86)
    assert (left.stats.tx_packets, left.stats.tx_bytes) == (1, 100)
    assert (right.stats.rx_packets, right.stats.rx_bytes) == (1, 100)


def partial(dev: NetDevice, payload: bytes, frags: list[bytes] | None = None, offset: int = 6) -> SkBuff:
    """A frame whose "transport header" of 8 bytes is to get its checksum from the device."""
    head = ethernet.emit(1, 2, PROTO) + bytes(20) + b"\x12\x34\x56\x78\0\x10" + b"\xab\xcd" + payload
    size = sum(map(len, frags or []))
    skb = SkBuff(head, frags, size, skb_truesize(len(head) + size))
    skb.dev = dev
    skb.protocol = PROTO
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_start = 34
    skb.csum_offset = offset
    return skb


def test_a_device_without_checksums_gets_them_filled_in():
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    for payload, frags in ((b"hello", None), (b"odd", [b"pieces", b"of", b"it"]), (b"", [b"x"])):
        assert dev_queue_xmit(partial(dev, payload, frags)) == 0
        sent = sink.sent[-1]
        # the field held 0xabcd, the pseudo-header's sum: the segment and that sum to zero
        assert checksum.csum_fold(checksum.csum_partial(sent, 34, len(sent), 0xABCD)) == 0
    dev_queue_xmit(partial(dev, b"", offset=7))  # the field is outside of the packet
    assert drops(init_net(kernel)) == {"SKB_CSUM": 1}


def test_a_device_with_checksums_gets_the_packet_as_it_is():
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    dev.features |= NETIF_F_HW_CSUM
    skb = partial(dev, b"hello")
    before = skb.head
    assert dev_queue_xmit(skb) == 0
    assert sink.sent == [before] and skb.ip_summed == CHECKSUM_PARTIAL


def test_a_super_packet_that_nobody_can_cut_is_a_counted_drop():
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    skb = frame(1, b"x" * 4000)
    skb.dev = dev
    skb.gso_size = 1000
    assert dev_queue_xmit(skb) < 0 or dev.stats.tx_dropped == 1
    assert drops(init_net(kernel)) == {"SKB_GSO_SEG": 1} and sink.sent == []
    assert gso.skb_gso_segment(kernel, skb) == (-EPROTONOSUPPORT, None)


def test_a_registered_offload_cuts_and_the_segments_go_in_order():
    class Cutter(gso.GsoSegmenter):
        def take(self, count: int) -> SkBuff:
            skb = self.skb
            at = skb.data + 14 + (3 - self.left) * skb.gso_size
            seg = frame(1, skb.head[at : at + count * skb.gso_size])
            seg.dev = skb.dev
            self.left -= count
            return seg

    class Cut(gso.PacketOffload):
        def gso_segment(self, skb: SkBuff) -> tuple[int, gso.GsoSegmenter | None]:
            return 0, Cutter(skb, 3)

    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    gso.dev_add_offload(kernel, Cut(PROTO))
    skb = frame(1, b"aaaabbbbcc")
    skb.dev = dev
    skb.gso_size = 4
    assert dev_queue_xmit(skb) == 0
    assert [f[14:] for f in sink.sent] == [b"aaaa", b"bbbb", b"cc"]


# -- the wire


def test_a_wire_gets_frames_and_gives_frames():
    kernel, other = boot(b"1"), boot(b"2")
    wire = RecordingWire()
    dev = veth_wire_newlink(init_net(kernel), "eth0", wire)
    far = veth_wire_newlink(init_net(other), "eth0", RecordingWire())
    dev_core.dev_open(dev)
    dev_core.dev_open(far)
    handler = Handler()
    dev_core.dev_add_pack(other, handler)
    skb = frame(far.dev_addr, b"hello")
    skb.dev = dev
    skb.mark = 1
    skb.cb = object()
    assert dev_queue_xmit(skb) == 0
    assert wire.sent == [skb] and dev.stats.tx_packets == 1
    assert veth_receive(far, skb) == 0
    assert handler.got == []
    other.run(other.now)
    assert handler.got == [("eth0", PACKET_HOST, b"hello")]
    assert skb.mark == 0 and skb.cb is None and skb.sk is None and skb.dst is None


def test_frames_too_long_or_too_short_are_dropped_by_the_receiving_end():
    kernel = boot()
    _, right = veth_pair(kernel)
    assert veth_receive(right, alloc_skb(bytes(13))) == NET_RX_DROP
    assert veth_receive(right, alloc_skb(b"")) == NET_RX_DROP
    assert veth_receive(right, frame(right.dev_addr, bytes(1505))) == NET_RX_DROP
    assert veth_receive(right, frame(right.dev_addr, bytes(1504))) == 0
    kernel.run(kernel.now)
    assert drops(dev_net(right)) == {"HDR_TRUNC": 2, "PKT_TOO_BIG": 1, "UNHANDLED_PROTO": 1}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.binary(max_size=80), st.integers(0, 5)), max_size=20))
def test_no_frame_raises_and_each_is_accounted_for(frames: list[tuple[bytes, int]]) -> None:
    kernel = boot()
    left, right = veth_pair(kernel)
    handler = Handler()
    dev_core.dev_add_pack(kernel, handler)
    for data, cut in frames:
        # linear, or split anywhere
        head, tail = data[:cut], data[cut:]
        skb = SkBuff(head, [tail] if tail else None, len(tail), skb_truesize(len(data)))
        if cut & 1:
            skb.dev = left
            dev_queue_xmit(skb)
        else:
            veth_receive(right, skb)
    kernel.run(kernel.now)
    dropped = sum(dev_net(left).drop_reasons) + sum(dev_net(right).drop_reasons)
    assert dropped + len(handler.got) == len(frames)
    assert kernel.timers.pending == 0


def test_clones_for_taps_cost_their_owner_nothing():
    kernel = boot()
    left, right = veth_pair(kernel)
    dev_core.dev_add_pack(kernel, Tap())
    skb = frame(right.dev_addr, b"x")
    skb.dev = left
    dev_queue_xmit(skb)
    consume_skb(skb)
    assert skb.sk is None and skb.destructor == 0
