"""Looking at packets: taps on every device of a host, and the hash that says whether two runs were the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from afinet.net.core.dev import dev_add_pack, dev_remove_pack
from afinet.net.core.gso import skb_frames
from afinet.net.core.netdevice import NetDevice, PacketType
from afinet.net.core.skbuff import SkBuff
from afinet.uapi.if_ether import ETH_P_ALL
from afinet.uapi.if_packet import PACKET_OUTGOING

if TYPE_CHECKING:
    from afinet.sim.host import Host

# (host, device name, ns since the epoch, whether it leaves the host, the frame with its checksums filled in)
CaptureCallback = Callable[["Host", str, int, bool, bytes], None]


class CaptureTap(PacketType):
    """Calls back for each packet that a device of `host` sends or receives. A super-packet is shown as the packets that it stands
    for, as on a wire."""

    def __init__(self, host: Host, callback: CaptureCallback) -> None:
        super().__init__(ETH_P_ALL)
        self.host = host
        self.callback = callback
        dev_add_pack(host.kernel, self)

    def func(self, skb: SkBuff, dev: NetDevice) -> int:
        kernel = self.host.kernel
        outbound = skb.pkt_type == PACKET_OUTGOING
        for frame in skb_frames(kernel, skb):
            self.callback(self.host, dev.name, kernel.ktime_get_real(), outbound, frame)
        return 0

    def close(self) -> None:
        dev_remove_pack(self.host.kernel, self)


class Capture:
    """A callback on every host of a Network, those made later too. `close`, or the end of a with block, ends it."""

    def __init__(self, callback: CaptureCallback) -> None:
        self.callback = callback
        self.taps: list[CaptureTap] = []
        self.closed = False

    def add_host(self, host: Host) -> None:
        if not self.closed:
            self.taps.append(CaptureTap(host, self.callback))

    def close(self) -> None:
        self.closed = True
        for tap in self.taps:
            tap.close()
        self.taps.clear()

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class TraceHash:
    """SHA-256 over every packet at every device: time, host, device, direction, bytes."""

    def __init__(self) -> None:
        self.sha = hashlib.sha256()
        self.packets = 0

    def __call__(self, host: Host, dev: str, when: int, outbound: bool, frame: bytes) -> None:
        self.packets += 1
        self.sha.update(f"{when} {host.name} {dev} {'>' if outbound else '<'} {len(frame)}\n".encode())
        self.sha.update(frame)

    def hexdigest(self) -> str:
        return self.sha.hexdigest()
