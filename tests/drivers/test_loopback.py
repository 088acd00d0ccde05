"""drivers/loopback.py."""

from __future__ import annotations

from afinet.net.core import dev as dev_core
from afinet.net.core.netdevice import NET_XMIT_CN, NetDevice
from afinet.net.core.skbuff import CHECKSUM_PARTIAL, SkBuff
from afinet.uapi.if_packet import PACKET_HOST, PACKET_OUTGOING
from tests.net.core.devices import Handler, Tap, boot, drops, frame, init_net, send


def test_what_goes_out_comes_in_and_both_are_counted():
    kernel = boot()
    lo = init_net(kernel).loopback_dev
    assert lo is not None
    handler, tap = Handler(), Tap()
    dev_core.dev_add_pack(kernel, handler)
    dev_core.dev_add_pack(kernel, tap)
    assert send(lo, 0, b"x" * 60000) == NET_XMIT_CN  # down
    assert dev_core.dev_open(lo) == 0
    assert send(lo, 0, b"x" * 60000) == 0
    assert handler.got == [("lo", PACKET_HOST, b"x" * 60000)]
    assert [t for _, t, _ in tap.got] == [PACKET_OUTGOING, PACKET_HOST]
    s = lo.stats
    assert (s.tx_packets, s.rx_packets, s.tx_bytes, s.rx_bytes) == (1, 1, 60014, 60014)


def test_checksums_are_not_filled_in_on_the_way():
    class Look(Handler):
        def func(self, skb: SkBuff, dev: NetDevice) -> int:
            self.ip_summed = skb.ip_summed
            return super().func(skb, dev)

    kernel = boot()
    lo = init_net(kernel).loopback_dev
    assert lo is not None
    dev_core.dev_open(lo)
    look = Look()
    dev_core.dev_add_pack(kernel, look)
    skb = frame(0, bytes(40), source=0)
    skb.dev = lo
    skb.ip_summed = CHECKSUM_PARTIAL
    skb.csum_start = 34
    dev_core.dev_queue_xmit(skb)
    assert look.ip_summed == CHECKSUM_PARTIAL
    assert drops(init_net(kernel)) == {}
