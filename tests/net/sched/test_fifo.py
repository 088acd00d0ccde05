"""net/sched/sch_generic.py, sch_fifo.py: qdiscs between the stack and a driver that may refuse."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from afinet.net.core import dev as dev_core
from afinet.net.core.netdevice import NET_XMIT_CN, NET_XMIT_DROP, NET_XMIT_SUCCESS, NetDevice
from afinet.net.core.skbuff import SkBuff
from afinet.net.sched.sch_fifo import BfifoQdisc, PfifoFastQdisc, PfifoQdisc
from afinet.net.sched.sch_generic import Qdisc, QdiscOps, dev_graft_qdisc, qdisc_drop, register_qdisc
from tests.net.core.devices import Sink, boot, drops, frame, init_net, send, sink_device, veth_pair


def put(dev: NetDevice, payload: bytes, priority: int = 0) -> int:
    skb = frame(1, payload)
    skb.dev = dev
    skb.priority = priority
    return dev_core.dev_queue_xmit(skb)


def payloads(sink: Sink) -> list[bytes]:
    return [f[14:] for f in sink.sent]


def test_the_default_qdisc_is_the_sysctls_and_virtual_devices_have_none():
    kernel = boot()
    left, _ = veth_pair(kernel)
    assert left.qdisc is None and left.qdisc_sleeping is None
    dev, _ = sink_device(init_net(kernel))
    assert isinstance(dev.qdisc, PfifoFastQdisc)
    init_net(kernel).core.sysctl_default_qdisc = "bfifo"
    other, _ = sink_device(init_net(kernel), "sink1")
    assert isinstance(other.qdisc, BfifoQdisc)


def test_while_the_driver_refuses_packets_wait_in_order_and_go_when_it_wakes():
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    dev_core.netif_stop_queue(dev)
    for i in range(3):
        assert put(dev, b"%d" % i) == NET_XMIT_SUCCESS
    assert sink.sent == []
    assert dev.qdisc is not None and dev.qdisc.qlen == 3 and dev.qdisc.backlog == 45
    dev_core.netif_wake_queue(dev)
    assert sink.sent == []  # the softirq does it
    kernel.run(kernel.now)
    assert payloads(sink) == [b"0", b"1", b"2"] and dev.qdisc.qlen == 0 == dev.qdisc.backlog
    assert (dev.qdisc.packets, dev.qdisc.bytes) == (3, 45)


def test_a_packet_that_the_driver_gives_back_goes_first():
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    sink.busy = True
    put(dev, b"0", priority=2)
    put(dev, b"1", priority=6)  # of a better band, but later
    assert dev.qdisc is not None and dev.qdisc.requeues >= 1 and dev.qdisc.gso_skb is not None
    sink.busy = False
    put(dev, b"2", priority=6)
    assert payloads(sink) == [b"0", b"1", b"2"]


def test_pfifo_fast_serves_the_better_band_first():
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    dev_core.netif_stop_queue(dev)
    for priority in (2, 0, 6, 7, 1, 15):
        put(dev, b"%d" % priority, priority)
    qdisc = dev.qdisc
    assert qdisc is not None and qdisc.peek() is not None
    dev_core.netif_wake_queue(dev)
    kernel.run(kernel.now)
    assert payloads(sink) == [b"6", b"7", b"0", b"15", b"2", b"1"]
    assert qdisc.peek() is None


def test_limits_hold_and_drops_are_counted():
    kernel = boot()
    net = init_net(kernel)
    for make in (lambda d: PfifoQdisc(d, 5), lambda d: BfifoQdisc(d, 5 * 15)):
        dev, _ = sink_device(net, "sink%d")
        dev_graft_qdisc(dev, make(dev))
        dev_core.netif_stop_queue(dev)
        assert [put(dev, b"x") for _ in range(7)] == [NET_XMIT_SUCCESS] * 5 + [NET_XMIT_DROP] * 2
        assert dev.qdisc is not None and dev.qdisc.drops == 2 and dev.qdisc.qlen == 5
        dev_core.dev_close(dev)
    assert drops(net) == {"QDISC_OVERLIMIT": 4, "QUEUE_PURGE": 10}


def test_a_device_that_closes_drops_what_is_queued():
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    sink.busy = True
    for _ in range(4):
        put(dev, b"x")
    qdisc = dev.qdisc
    assert qdisc is not None and qdisc.gso_skb is not None
    dev_core.dev_close(dev)
    assert drops(init_net(kernel)) == {"QUEUE_PURGE": 4} and qdisc.qlen == 0 and qdisc.gso_skb is None
    assert put(dev, b"x") == NET_XMIT_CN
    dev_core.dev_open(dev)
    assert dev.qdisc is qdisc
    sink.busy = False
    put(dev, b"y")
    assert payloads(sink) == [b"y"]


def test_a_replaced_qdisc_drops_what_it_held():
    kernel = boot()
    dev, _ = sink_device(init_net(kernel))
    dev_core.netif_stop_queue(dev)
    put(dev, b"x")
    dev_graft_qdisc(dev, PfifoQdisc(dev, 3))
    assert drops(init_net(kernel)) == {"QUEUE_PURGE": 1}
    assert dev.qdisc is not None and dev.qdisc.limit == 3


def test_more_than_a_quota_goes_in_several_softirqs():
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    dev_core.netif_stop_queue(dev)
    for _ in range(200):
        put(dev, b"x")
    dev_core.netif_wake_queue(dev)
    kernel.softirq_pending = 0
    dev_core.net_tx_action(kernel)
    assert len(sink.sent) == 64 and kernel.softirq_pending
    kernel.run(kernel.now)
    assert len(sink.sent) == 200


def test_a_qdisc_of_ones_own():
    class Lifo(Qdisc):
        """Last in, first out, of at most two."""

        def __init__(self, dev: NetDevice) -> None:
            super().__init__(dev, 2)
            self.held: list[SkBuff] = []

        def enqueue(self, skb: SkBuff) -> int:
            if len(self.held) >= self.limit:
                return qdisc_drop(self, skb, 64)
            self.held.append(skb)
            self.qlen += 1
            return NET_XMIT_SUCCESS

        def dequeue(self) -> SkBuff | None:
            self.qlen -= bool(self.held)
            return self.held.pop() if self.held else None

    class LifoOps(QdiscOps):
        def create(self, dev: NetDevice) -> Qdisc:
            return Lifo(dev)

    kernel = boot()
    register_qdisc(kernel, LifoOps("lifo"))
    init_net(kernel).core.sysctl_default_qdisc = "lifo"
    dev, sink = sink_device(init_net(kernel))
    dev_core.netif_stop_queue(dev)
    assert [put(dev, p) for p in (b"1", b"2", b"3")] == [0, 0, NET_XMIT_DROP]
    dev_core.netif_wake_queue(dev)
    kernel.run(kernel.now)
    assert payloads(sink) == [b"2", b"1"]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 2), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 15)), max_size=80))
def test_every_packet_is_sent_queued_or_dropped(kind: int, events: list[tuple[int, int]]) -> None:
    kernel = boot()
    dev, sink = sink_device(init_net(kernel))
    dev.tx_queue_len = 4
    dev_graft_qdisc(dev, (PfifoQdisc, BfifoQdisc, PfifoFastQdisc)[kind](dev))
    qdisc = dev.qdisc
    assert qdisc is not None
    total = 0
    for what, number in events:
        if what <= 1:
            send(dev, 1, bytes(number * 100))
            total += 1
        elif what == 2:
            sink.busy = number % 2 == 0
        elif what == 3:
            dev_core.netif_stop_queue(dev)
        else:
            dev_core.netif_wake_queue(dev)
            kernel.run(kernel.now)
    assert len(sink.sent) + qdisc.qlen + qdisc.drops == total
    assert qdisc.drops == sum(init_net(kernel).drop_reasons)
    qdisc.reset()
    assert qdisc.qlen == 0 == qdisc.backlog
