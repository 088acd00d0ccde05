"""The two machines of an episode, the wire between them, and the programs on them."""

from __future__ import annotations

import random
from collections import deque

from afinet.drivers.tun import TunIO, tun_newlink, tun_poll, tun_wake
from afinet.init import main, syscalls
from afinet.init.main import new_task
from afinet.kernel.machine import Kernel
from afinet.kernel.sysctl import sysctl_write
from afinet.kernel.wait import Kiocb
from afinet.net.core import dev as dev_core
from afinet.net.core.netdevice import NetDevice
from afinet.net.ipv4 import devinet
from afinet.net.ipv4.fib_frontend import ip_route_add
from afinet.uapi.errno import EAGAIN, EIO
from afinet.uapi.sockaddr import pack_sockaddr_in
from tests.net.core.devices import init_net

NS = 1_000_000_000
NET = 0x0A000000  # 10.0.0.0/24 between the two, 10.0.1.0/24 behind the first
GROUP = 0xE1010203
TCP_PORTS, UDP_PORTS = (80, 81), (7, 9)
MAX_FDS = 40
STREAM, DGRAM, RAW, NONBLOCK = 1, 2, 3, 0x800

# Small, so that the limits are met.
SYSCTLS = {
    "net.ipv4.tcp_rmem": "4096 16384 65536",
    "net.ipv4.tcp_wmem": "4096 16384 65536",
    "net.core.rmem_max": "65536",
    "net.core.wmem_max": "65536",
    "net.ipv4.ipfrag_low_thresh": "196608",
    "net.ipv4.ipfrag_high_thresh": "262144",
    "net.ipv4.tcp_max_syn_backlog": "64",
    "net.ipv4.tcp_max_tw_buckets": "64",
    "net.ipv4.tcp_max_orphans": "64",
    "net.ipv4.tcp_ecn": "1",
    "net.ipv4.icmp_echo_ignore_broadcasts": "0",
    "net.ipv4.icmp_ratelimit": "10",
    "net.ipv4.conf.all.accept_source_route": "1",
    "net.ipv4.conf.all.secure_redirects": "0",
}
# (level, option, values) that a program sets as it likes.
OPTIONS = (
    (1, 2, (0, 1)), (1, 5, (0, 1)), (1, 7, (1, 4096, 60000)), (1, 8, (1, 4096, 60000)), (1, 9, (0, 1)), (1, 10, (0, 1)),
    (1, 18, (1, 1000)), (1, 29, (0, 1)), (1, 6, (0, 1)), (0, 1, (0, 0x10, 0xFF)), (0, 2, (1, 64, 255)), (0, 10, (0, 1, 2, 3)),
    (0, 11, (0, 1)), (0, 12, (0, 1)), (0, 13, (0, 1)), (0, 6, (0, 1)), (0, 8, (0, 1)), (0, 33, (0, 1)), (0, 34, (0, 1)),
    (6, 1, (0, 1)), (6, 2, (88, 536, 1460)), (6, 3, (0, 1)), (6, 4, (1, 10)), (6, 5, (1, 3)), (6, 6, (1, 3)), (6, 8, (-1, 0, 2)),
    (6, 9, (0, 5)), (6, 10, (0, 1000, 60000)), (6, 12, (0, 1)), (6, 18, (0, 500)), (6, 25, (0, 1)), (17, 1, (0, 1)),
)  # fmt: skip


class FuzzIO(TunIO):
    """What is to come in, and what has gone out."""

    def __init__(self) -> None:
        self.incoming: deque[bytes] = deque()
        self.sent: deque[bytes] = deque(maxlen=256)  # over that the wire loses
        self.answer = 0

    def read(self) -> bytes | None:
        return self.incoming.popleft() if self.incoming else None

    def writev(self, pieces: list[bytes]) -> int:
        if self.answer == 0:
            self.sent.append(b"".join(pieces))
        return self.answer


class Machine:
    """One of the two: 10.0.0.1, which forwards to 10.0.1.0/24, or 10.0.0.2."""

    def __init__(self, number: int, seed: bytes, tap: bool, hdr: int) -> None:
        self.number = number
        self.local = NET + number
        self.kernel: Kernel = main.start_kernel(f"fuzz{number}", seed + bytes((number,)))
        self.net = init_net(self.kernel)
        for name, value in SYSCTLS.items():
            tables = (self.net.sysctl_table, self.kernel.sysctl_table)
            assert 0 in [sysctl_write(table, name, value) for table in tables], name
        lo = self.net.loopback_dev
        assert lo is not None and dev_core.dev_open(lo) == 0
        self.io = FuzzIO()
        self.dev = self.device("tun0", self.io, tap, hdr, self.local)
        self.far_io = FuzzIO()
        if number == 1:
            # Without a virtio_net_hdr: what is forwarded is cut and summed here.
            self.device("far0", self.far_io, tap, 0, NET + 0x101)
            assert sysctl_write(self.net.sysctl_table, "net.ipv4.ip_forward", "1") == 0
        else:
            assert ip_route_add(self.net, NET + 0x100, 24, NET + 1) == 0
        self.programs: list[Program] = []

    def device(self, name: str, io: FuzzIO, tap: bool, hdr: int, local: int) -> NetDevice:
        dev = tun_newlink(self.net, name, io, tap, hdr, hdr != 0)
        assert dev_core.dev_open(dev) == 0
        assert devinet.inet_addr_add(dev, local, 24, broadcast=local | 0xFF) == 0
        return dev

    def take(self, frame: bytes) -> None:
        """A frame comes in, and all that follows from it happens."""
        self.io.incoming.append(frame)
        tun_poll(self.dev, 1)
        self.kernel.run(self.kernel.now)

    def sleep(self, ns: int) -> None:
        end = self.kernel.now + ns
        while self.kernel.next_timer() <= end:
            self.kernel.run(self.kernel.next_timer())
        self.kernel.run(end)

    def block(self, answer: int) -> None:
        """From now on the wire takes nothing, loses everything, or works again."""
        self.io.answer = answer
        if answer == 0 and self.dev.queue_stopped:
            tun_wake(self.dev)
            self.kernel.run(self.kernel.now)

    def check(self) -> None:
        """What the limits bound is within them."""
        kernel, net = self.kernel, self.net
        assert not kernel.warned, kernel.warned
        assert kernel.softirq_count == 0 and kernel.current is None
        socks = sum(len(p.fds) for p in self.programs) + 2 * 64 + 64
        for prot in kernel.proto_list:
            assert 0 <= prot.memory_allocated * 4096 <= socks * 4 * 131072, (prot.name, prot.memory_allocated)
        fqdir = net.ipv4.fqdir
        assert fqdir is not None and 0 <= fqdir.mem <= 262144 + 70000
        assert net.ipv4.tw_count <= 64
        assert net.arp_tbl is not None and len(net.arp_tbl.hash) <= 1024 + 16
        assert len(net.ipv4.peers.peers) <= 65664
        hashinfo, softnet = kernel.inet_hashinfo, kernel.softnet_data
        assert hashinfo is not None and len(hashinfo.ehash) <= 1000
        assert softnet is not None and not softnet.input_pkt_queue


class Program:
    """A process that does with sockets whatever comes to mind. `kinds` are the kinds of socket: tcp, udp, ping, raw, igmp."""

    def __init__(self, machine: Machine, chance: random.Random, kinds: tuple[str, ...]) -> None:
        self.machine, self.chance, self.kinds = machine, chance, kinds
        self.task = new_task(machine.kernel, machine.net, "fuzz", None)
        self.peer = NET + 3 - machine.number
        self.fds: list[int] = []
        self.listeners: list[int] = []
        machine.programs.append(self)
        if "tcp" in kinds:
            for port in TCP_PORTS:
                fd = self.open(STREAM, 0)
                assert syscalls.sys_bind(self.task, fd, pack_sockaddr_in(0, port)) == 0
                assert syscalls.sys_listen(self.task, fd, 8) == 0
                self.listeners.append(fd)
        if "udp" in kinds:
            for port in UDP_PORTS:
                syscalls.sys_bind(self.task, self.open(DGRAM, 17), pack_sockaddr_in(0, port))
        if "ping" in kinds:
            syscalls.sys_bind(self.task, self.open(DGRAM, 1), pack_sockaddr_in(machine.local, 77))
        if "raw" in kinds:
            for protocol in (1, 253, 255):
                self.open(RAW, protocol)
        if "igmp" in kinds:
            self.join(self.open(DGRAM, 17))

    def open(self, kind: int, protocol: int) -> int:
        fd = syscalls.sys_socket(self.task, 2, kind | NONBLOCK, protocol)
        if fd >= 0:
            self.fds.append(fd)
        return fd

    def join(self, fd: int) -> None:
        group = (GROUP + self.chance.randrange(3)).to_bytes(4, "big") + bytes(4)
        syscalls.sys_setsockopt(self.task, fd, 0, self.chance.choice((35, 35, 36)), group)

    def target(self, ports: tuple[int, ...]) -> bytes:
        """Mostly the peer, and something that listens."""
        chance = self.chance
        ip = self.peer
        if chance.random() < 0.15:
            ip = chance.choice((NET + 9, NET + 0x109, NET + 0xFF, 0x7F000001, GROUP, 0xFFFFFFFF, 0, self.machine.local))
        return pack_sockaddr_in(ip, chance.choice((*ports, *ports, 4242, 0)))

    def step(self) -> None:
        chance, task = self.chance, self.task
        how = chance.randrange(20)
        if not self.fds or (how < 3 and len(self.fds) < MAX_FDS):
            self.begin(chance.choice(self.kinds))
            return
        fd = chance.choice(self.listeners if self.listeners and chance.random() < 0.3 else self.fds)
        iocb = Kiocb()
        if fd in self.listeners:
            while len(self.fds) < MAX_FDS:
                new, _ = syscalls.sys_accept4(task, iocb, fd, NONBLOCK)
                if new < 0:
                    break
                self.fds.append(new)
                iocb = Kiocb()
        elif how < 8:
            size = chance.choice((0, 1, 100, 1448, 1472, 1473, 5000, 20000))
            flags = 0x4040 | chance.choice((0, 0, 0, 1, 0x8000, 0x8001))
            addr = self.target((*TCP_PORTS, *UDP_PORTS)) if chance.random() < 0.4 else b""
            data = bytes((8, 0, 0, 0)) + bytes(size) if chance.random() < 0.3 else chance.randbytes(8) * (size // 8 + 1)
            syscalls.sys_sendto(task, iocb, fd, data, flags, addr)
        elif how < 14:
            flags = 0x40 | chance.choice((0, 0, 0, 0, 1, 2, 0x20, 0x2000))
            syscalls.sys_recvmsg(task, iocb, fd, chance.choice((1, 1000, 65536)), 256, flags)
        elif how < 15:
            level, option, values = chance.choice(OPTIONS)
            syscalls.sys_setsockopt(task, fd, level, option, (chance.choice(values) & 0xFFFFFFFF).to_bytes(4, "little"))
        elif how < 16:
            if chance.random() < 0.3:
                syscalls.sys_setsockopt(task, fd, 1, 13, chance.choice((b"\1\0\0\0\0\0\0\0", bytes(8))))
            elif "igmp" in self.kinds:
                self.join(fd)
            syscalls.sys_getsockopt(task, fd, 6, 11, 256)
            syscalls.sys_getsockopt(task, fd, 1, 4, 4)
        elif how < 17:
            syscalls.sys_shutdown(task, fd, chance.randrange(3))
        elif how < 18:
            syscalls.sys_poll(task, iocb, [(f, 0xFFFF) for f in self.fds], 0)
        elif how < 19:
            syscalls.sys_connect(task, iocb, fd, chance.choice((self.target(TCP_PORTS), self.target(UDP_PORTS), bytes(16))))
        elif len(self.fds) > 6 and fd not in self.fds[:5]:
            self.fds.remove(fd)
            if syscalls.sys_close(task, iocb, fd) < -500:
                syscalls.abandon(iocb)
        self.machine.kernel.run(self.machine.kernel.now)

    def begin(self, kind: str) -> None:
        if kind == "tcp":
            syscalls.sys_connect(self.task, Kiocb(), self.open(STREAM, 0), self.target(TCP_PORTS))
        elif kind == "udp":
            fd = self.open(DGRAM, 17)
            if self.chance.random() < 0.5:
                syscalls.sys_connect(self.task, Kiocb(), fd, self.target(UDP_PORTS))
        elif kind == "ping":
            self.open(DGRAM, 1)
        elif kind == "raw":
            fd = self.open(RAW, self.chance.choice((1, 2, 6, 17, 253, 255)))
            if self.chance.random() < 0.3:
                syscalls.sys_setsockopt(self.task, fd, 0, 3, b"\1\0\0\0")
        else:
            self.join(self.open(DGRAM, 17))
        self.machine.kernel.run(self.machine.kernel.now)


__all__ = ["EAGAIN", "EIO", "GROUP", "NET", "NS", "FuzzIO", "Machine", "Program"]
