"""Two hosts for the tests of datagram sockets: A (10.9.0.1) and B (10.9.0.2) over veth in one Kernel, as in the parity tests.

`Hosts.udp(0)` is a socket of host A; a call that may wait is started by `Wait` and looked at later. `Hosts.inject` puts bytes on
B's device as if A had sent them.
"""

from __future__ import annotations

import socket as host_socket
import struct
from collections.abc import Callable
from typing import Any

from afinet.init import syscalls
from afinet.kernel.time import MAX_SCHEDULE_TIMEOUT
from afinet.kernel.wait import Kiocb, WaitQueueEntry, add_wait_queue, remove_wait_queue
from afinet.net.core.dev import netif_rx
from afinet.net.core.net_namespace import Net
from afinet.net.core.skbuff import alloc_skb
from afinet.net.core.sock import Proto, Sock
from afinet.net.socket import SocketFile
from afinet.uapi.errno import EIOCBQUEUED
from afinet.uapi.if_ether import ETH_P_IP
from afinet.uapi.socket import AF_INET, SOCK_DGRAM, SOCK_RAW
from afinet.wire import checksum, ip
from tests.parity.afinet_calls import AfinetCalls
from tests.parity.programs import sa

A, B, LO = "10.9.0.1", "10.9.0.2", "127.0.0.1"
MS = 1_000_000
SEC = 1_000_000_000


def addr(text: str) -> int:
    return int.from_bytes(host_socket.inet_aton(text), "big")


class Entry(WaitQueueEntry):
    """A waiter that notes whether it was woken."""

    def __init__(self, flags: int, mask: int) -> None:
        super().__init__(flags)
        self.mask = mask
        self.woken = False

    def func(self, key: int) -> bool:
        if key and self.mask and not key & self.mask:
            return False
        self.woken = True
        return True


class Wait:
    """A call that may wait, driven as a runner drives it: called again when woken or out of time, never else."""

    def __init__(self, hosts: Hosts, call: Callable[[Any], Any], iocb: Kiocb | None = None) -> None:
        self.hosts = hosts
        self.call = call
        self.iocb = iocb if iocb is not None else Kiocb()
        self.entry: Entry | None = None
        self.result: Any = None
        self.done = False
        self.again()

    def again(self) -> None:
        if self.entry is not None and self.iocb.ki_wq is not None:
            remove_wait_queue(self.iocb.ki_wq, self.entry)
        self.entry = None
        result = self.call(self.iocb)
        ret = result[0] if isinstance(result, tuple) else result
        if ret != -EIOCBQUEUED:
            self.result = result
            self.done = True
            return
        assert self.iocb.ki_wq is not None
        self.entry = Entry(1 if self.iocb.ki_exclusive else 0, self.iocb.ki_mask)
        add_wait_queue(self.iocb.ki_wq, self.entry)

    def step(self) -> bool:
        """Whether it is over; if it was woken or its time is up, it is called again."""
        if not self.done and self.entry is not None:
            late = self.iocb.wakes_at() <= self.hosts.kernel.now
            if self.entry.woken or late:
                self.again()
        return self.done

    def interrupt(self) -> Any:
        self.iocb.ki_signal = True
        self.again()
        return self.result


class Hosts(AfinetCalls):
    def __init__(self) -> None:
        super().__init__(hz=1000)
        self.a: Net = self.nets[0]
        self.b: Net = self.nets[1]

    def udp(self, ns: int = 0, bind: bytes = b"", connect: bytes = b"") -> int:
        fd = self.socket(ns, AF_INET, SOCK_DGRAM, 17)
        assert fd >= 0
        if bind:
            assert self.bind(fd, bind) == 0
        if connect:
            assert self.connect(fd, connect) == 0
        return fd

    def ping(self, ns: int = 0) -> int:
        fd = self.socket(ns, AF_INET, SOCK_DGRAM, 1)
        assert fd >= 0
        return fd

    def raw(self, protocol: int, ns: int = 0) -> int:
        fd = self.socket(ns, AF_INET, SOCK_RAW, protocol)
        assert fd >= 0
        return fd

    def sk(self, fd: int) -> Sock:
        file = self.task.files.fd[fd]
        assert isinstance(file, SocketFile) and file.sock.sk is not None
        return file.sock.sk

    def prot(self, name: str) -> Proto:
        for prot in self.kernel.proto_list:
            if prot.name == name:
                return prot
        raise KeyError(name)

    def send(self, fd: int, data: bytes, to: bytes = b"", flags: int = 0) -> int:
        return self.sendmsg(fd, data, flags | 0x40, to)

    def recv(self, fd: int, size: int = 65536, flags: int = 0) -> bytes | int:
        """The bytes, or -errno."""
        iocb = Kiocb()
        n, pieces, _ = syscalls.sys_recvfrom(self.task, iocb, fd, size, flags | 0x40)
        self.settle()
        return n if n < 0 else b"".join(pieces)

    def recv_wait(self, fd: int, size: int = 65536) -> Wait:
        return Wait(self, lambda iocb: syscalls.sys_recvfrom(self.task, iocb, fd, size, 0))

    def send_wait(self, fd: int, data: bytes, to: bytes) -> Wait:
        return Wait(self, lambda iocb: syscalls.sys_sendto(self.task, iocb, fd, data, 0, to))

    def run_until(self, when: int) -> None:
        """Let time pass."""
        while True:
            at = self.kernel.next_timer()
            if at > when or at >= MAX_SCHEDULE_TIMEOUT:
                break
            self.kernel.run(at)
        self.kernel.run(when)

    def inject(self, packet: bytes) -> None:
        """An IP packet comes in at B's v1."""
        dev = self.b.dev_by_name["v1"]
        skb = alloc_skb(packet)
        skb.dev = dev
        skb.protocol = ETH_P_IP
        netif_rx(skb)
        self.settle()

    def check_clean(self) -> None:
        """Every descriptor closed: nothing hashed, charged or armed is left of datagram sockets, and no invariant was broken."""
        for fd in range(3, len(self.task.files.fd)):
            if self.task.files.fd[fd] is not None:
                self.close(fd)
        self.run_until(self.kernel.now + 120 * SEC)  # neighbours give up, what waited for them is freed
        for name in ("UDP", "RAW", "PING"):
            prot = self.prot(name)
            assert sum(prot.inuse.values()) == 0, name
            assert prot.memory_allocated == 0, name
        assert self.kernel.raw_hash == {}
        assert self.kernel.warned == {}


def udp_packet(src: str, dst: str, sport: int, dport: int, data: bytes, check: int = -1, length: int = -1) -> bytes:
    """An IP packet with a UDP datagram; `check` and `length` replace what would be right."""
    ulen = 8 + len(data) if length < 0 else length
    header = struct.pack("!HHHH", sport, dport, ulen, 0)
    if check < 0:
        total = checksum.csum_partial(header + data, 0, 8 + len(data), 0)
        check = checksum.csum_tcpudp_magic(addr(src), addr(dst), ulen, 17, total) or 0xFFFF
    return ip_packet(src, dst, 17, header[:6] + struct.pack("!H", check) + data)


def ip_packet(src: str, dst: str, protocol: int, payload: bytes, frag_off: int = 0) -> bytes:
    return ip.emit(0, 20 + len(payload), 0, frag_off, 64, protocol, addr(src), addr(dst)) + payload


__all__ = ["A", "B", "LO", "MS", "SEC", "Hosts", "Wait", "addr", "ip_packet", "sa", "udp_packet"]
