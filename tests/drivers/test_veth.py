"""drivers/veth.py: what passes from end to end, and what does not. Names and carrier: tests/net/core/test_dev.py."""

from __future__ import annotations

import pytest

from afinet.drivers.veth import Wire, veth_newlink, veth_receive, veth_wire_newlink
from afinet.net.core import dev as dev_core
from afinet.net.core import net_procfs
from afinet.net.core.netdevice import NETDEV_TX_BUSY, NETDEV_TX_OK, NetDevice, dev_net
from afinet.net.core.skbuff import CHECKSUM_PARTIAL, SkBuff, skb_orphan, skb_set_owner_w
from afinet.net.core.sock import Proto, Sock
from afinet.net.sched.sch_fifo import PfifoQdisc
from afinet.net.sched.sch_generic import dev_graft_qdisc
from tests.net.core.devices import Handler, RecordingWire, boot, drops, frame, init_net, send, veth_pair


def test_the_senders_charge_lasts_until_the_packet_is_received():
    class Look(Handler):
        def func(self, skb: SkBuff, dev: NetDevice) -> int:
            self.charged = sk.sk_wmem_alloc - 1
            self.ip_summed = skb.ip_summed
            return super().func(skb, dev)

    kernel = boot()
    left, right = veth_pair(kernel)
    look = Look()
    dev_core.dev_add_pack(kernel, look)
    sk = Sock(dev_net(left), 2, Proto(kernel, "TEST"))
    sk.sk_sndbuf = 1 << 20
    skb = frame(right.dev_addr, bytes(100))
    skb.dev = left
    skb.ip_summed = CHECKSUM_PARTIAL
    skb_set_owner_w(skb, sk)
    dev_core.dev_queue_xmit(skb)
    # as in Linux, where the reference stays across namespaces, so that a sender feels the pressure
    assert look.charged == skb.truesize and look.ip_summed == CHECKSUM_PARTIAL
    assert sk.sk_wmem_alloc == 1


def test_no_charge_goes_from_kernel_to_kernel():
    kernel, other = boot(b"1"), boot(b"2")
    far = veth_wire_newlink(init_net(other), "eth0", RecordingWire())
    dev_core.dev_open(far)
    sk = Sock(init_net(kernel), 2, Proto(kernel, "TEST"))
    sk.sk_sndbuf = 1 << 20
    skb = frame(far.dev_addr, bytes(100))
    skb_set_owner_w(skb, sk)
    veth_receive(far, skb)
    assert sk.sk_wmem_alloc == 1 and skb.sk is None


def test_the_receiving_ends_mtu_counts():
    kernel = boot()
    left, right = veth_pair(kernel)
    handler = Handler()
    dev_core.dev_add_pack(kernel, handler)
    dev_core.dev_set_mtu(right, 1000)
    send(left, right.dev_addr, bytes(1004))  # room for a VLAN tag
    send(left, right.dev_addr, bytes(1005))
    assert len(handler.got) == 1
    assert right.stats.rx_dropped == 1 and drops(dev_net(right)) == {"PKT_TOO_BIG": 1}


def test_a_wire_that_refuses_keeps_packets_in_the_qdisc_until_it_wakes_the_queue():
    class Slow(Wire):
        def __init__(self) -> None:
            self.sent: list[SkBuff] = []
            self.room = 2

        def transmit(self, skb: SkBuff, dev: NetDevice) -> int:
            if self.room == 0:
                dev_core.netif_stop_queue(dev)
                return NETDEV_TX_BUSY
            self.room -= 1
            skb_orphan(skb)
            self.sent.append(skb)
            return NETDEV_TX_OK

    kernel = boot()
    wire = Slow()
    dev = veth_wire_newlink(init_net(kernel), "eth%d", wire)
    dev_core.dev_open(dev)
    dev_graft_qdisc(dev, PfifoQdisc(dev, 10))
    for i in range(5):
        assert send(dev, 1, bytes([i])) == 0
    assert len(wire.sent) == 2 and dev.stats.tx_packets == 2
    wire.room = 10
    dev_core.netif_wake_queue(dev)
    kernel.run(kernel.now)
    assert [s.head[14] for s in wire.sent] == [0, 1, 2, 3, 4] and dev.stats.tx_packets == 5


def test_a_mistake_in_a_name_is_told():
    kernel = boot()
    net = init_net(kernel)
    veth_newlink(net, "a", net, "b")
    with pytest.raises(ValueError, match="'b' is taken"):
        veth_newlink(net, "c", net, "b")
    with pytest.raises(ValueError, match="'a' is taken"):
        veth_newlink(net, "a", net, "d")
    assert list(net.dev_by_name) == ["lo", "b", "a"]


def test_proc_net_dev_reads_as_linuxs():
    kernel = boot()
    left, right = veth_pair(kernel)
    dev_core.dev_add_pack(kernel, Handler())
    send(left, right.dev_addr, bytes(86))
    lines = net_procfs.dev_seq_show(dev_net(left)).splitlines()
    nothing = "       0       0    0    0    0     0          0         0"
    tail = "    0    0    0     0       0          0"
    assert lines[2] == "    lo:" + nothing + "        0       0" + tail
    assert lines[3] == " veth0:" + nothing + "      100       1" + tail
    assert net_procfs.softnet_seq_show(kernel) == "00000001" + " 00000000" * 14 + "\n"
