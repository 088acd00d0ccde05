"""Two ways to look at TCP: `Pair`, two namespaces of one Kernel on a veth, driven by system calls; and `Peer`, one host whose
other end is the test itself, one packet per line."""

from __future__ import annotations

from collections.abc import Callable

from afinet.drivers.veth import veth_newlink
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.machine import Kernel
from afinet.kernel.task import Task
from afinet.kernel.time import NSEC_PER_MSEC, NSEC_PER_SEC
from afinet.kernel.wait import Kiocb, Piece
from afinet.net.core import dev as dev_core
from afinet.net.core.net_namespace import Net, copy_net_ns
from afinet.net.ipv4 import devinet, tcp_ipv4
from afinet.net.ipv4.tcp_sock import TcpSock
from afinet.net.socket import SocketFile
from afinet.uapi.errno import EIOCBQUEUED
from afinet.uapi.sockaddr import pack_s32, pack_sockaddr_in
from afinet.uapi.socket import AF_INET, SO_ERROR, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET
from afinet.wire import ip as wire_ip
from afinet.wire import tcp as wire_tcp
from afinet.wire.checksum import csum_partial, csum_tcpudp_nofold
from afinet.wire.tcp_options import build_established_options, build_syn_options
from tests.leaks import start_kernel
from tests.net.ipv4.iphost import Host, addr

A = addr("10.0.0.1")
B = addr("10.0.0.2")


def tcp_sk(task: Task, fd: int) -> TcpSock:
    """The sock behind a descriptor."""
    file = task.files.fd[fd]
    assert isinstance(file, SocketFile)
    sk = file.sock.sk
    assert isinstance(sk, TcpSock)
    return sk


class Machine:
    """What both views share: a clock, and system calls that wait."""

    kernel: Kernel

    def run(self, duration: int = 0) -> None:
        """Let `duration` ns pass."""
        end = self.kernel.now + duration
        while True:
            when = self.kernel.run(self.kernel.now)
            if when > end:
                break
            self.kernel.run(when)
        self.kernel.run(end)

    def wait(self, call: Callable[[Kiocb], int], limit: int = 300 * NSEC_PER_SEC) -> int:
        """Make a call until it is over. A call that is still waiting after `limit` ns is an error."""
        iocb = Kiocb()
        end = self.kernel.now + limit
        while True:
            ret = call(iocb)
            if ret != -EIOCBQUEUED:
                return ret
            when = min(self.kernel.run(self.kernel.now), iocb.wakes_at())
            ret = call(iocb)
            if ret != -EIOCBQUEUED:
                return ret
            assert when <= end, "the call waits for ever"
            self.kernel.run(when)

    def socket(self, task: Task, nonblock: bool = False) -> int:
        fd = syscalls.sys_socket(task, AF_INET, SOCK_STREAM | (SOCK_NONBLOCK if nonblock else 0), 0)
        assert fd >= 0, fd
        return fd

    def connect(self, task: Task, fd: int, ip: int, port: int) -> int:
        return self.wait(lambda iocb: syscalls.sys_connect(task, iocb, fd, pack_sockaddr_in(ip, port)))

    def accept(self, task: Task, fd: int, flags: int = 0) -> int:
        return self.wait(lambda iocb: syscalls.sys_accept4(task, iocb, fd, flags)[0])

    def send(self, task: Task, fd: int, data: bytes, flags: int = 0) -> int:
        return self.wait(lambda iocb: syscalls.sys_sendto(task, iocb, fd, data, flags, b""))

    def recv(self, task: Task, fd: int, size: int, flags: int = 0) -> bytes | int:
        """The bytes, or -errno."""
        got: list[Piece] = []

        def call(iocb: Kiocb) -> int:
            ret, pieces, _name = syscalls.sys_recvfrom(task, iocb, fd, size, flags)
            got[:] = pieces
            return ret

        ret = self.wait(call)
        return ret if ret < 0 else b"".join(got)

    def close(self, task: Task, fd: int) -> int:
        return self.wait(lambda iocb: syscalls.sys_close(task, iocb, fd))

    def shutdown(self, task: Task, fd: int, how: int) -> int:
        return syscalls.sys_shutdown(task, fd, how)

    def setsockopt(self, task: Task, fd: int, level: int, optname: int, value: int | bytes) -> int:
        raw = value if isinstance(value, bytes) else pack_s32(value)
        return syscalls.sys_setsockopt(task, fd, level, optname, raw)

    def getsockopt(self, task: Task, fd: int, level: int, optname: int) -> int:
        err, raw = syscalls.sys_getsockopt(task, fd, level, optname, 4)
        return err if err else int.from_bytes(raw, "little", signed=True)

    def so_error(self, task: Task, fd: int) -> int:
        return self.getsockopt(task, fd, SOL_SOCKET, SO_ERROR)

    def poll(self, task: Task, fd: int) -> int:
        _n, revents = syscalls.sys_poll(task, Kiocb(), [(fd, 0xFFFF)], 0)
        return revents[0]

    def listener(self, task: Task, port: int, backlog: int = 128, ip: int = 0) -> int:
        fd = self.socket(task)
        assert syscalls.sys_bind(task, fd, pack_sockaddr_in(ip, port)) == 0
        assert syscalls.sys_listen(task, fd, backlog) == 0
        return fd

    def assert_nothing_left(self) -> None:
        """No sock, no port, no timer, no memory: what a test owes when all its sockets are closed and time has passed."""
        prot = tcp_ipv4.tcp_prot(self.kernel)
        hinfo = self.kernel.inet_hashinfo
        assert hinfo is not None
        assert not hinfo.ehash and not hinfo.lhash2
        assert not hinfo.bhash and not hinfo.bhash2
        assert prot.sockets_allocated == 0
        assert prot.orphan_count == 0
        assert prot.memory_allocated == 0
        assert self.kernel.warned == {}


class Pair(Machine):
    """`ta` lives at 10.0.0.1, `tb` at 10.0.0.2; no delay, no loss."""

    def __init__(self, seed: bytes = b"", mtu: int = 1500) -> None:
        self.kernel = start_kernel("pair", seed)
        self.na: Net = self._net(copy_net_ns(self.kernel, "a"))
        self.nb: Net = self._net(copy_net_ns(self.kernel, "b"))
        self.da, self.db = veth_newlink(self.na, "eth0", self.nb, "eth0")
        for dev, ip in ((self.da, A), (self.db, B)):
            if mtu != 1500:
                assert dev_core.dev_set_mtu(dev, mtu) == 0
            assert dev_core.dev_open(dev) == 0
            assert devinet.inet_addr_add(dev, ip, 24) == 0
        self.ta: Task = new_task(self.kernel, self.na, "a", None)
        self.tb: Task = new_task(self.kernel, self.nb, "b", None)
        self.run()

    def _net(self, net: Net) -> Net:
        lo = net.loopback_dev
        assert lo is not None
        assert dev_core.dev_open(lo) == 0
        return net

    def established(self, port: int = 80) -> tuple[int, int, int]:
        """(descriptor of the client at a, of the accepted connection at b, of the listener at b)."""
        listener = self.listener(self.tb, port)
        client = self.socket(self.ta)
        assert self.connect(self.ta, client, B, port) == 0
        server = self.accept(self.tb, listener)
        assert server >= 0
        return client, server, listener


class Segment:
    """What came out."""

    def __init__(self, packet: bytes) -> None:
        vi, self.tos, tot, _id, self.frag_off, self.ttl, self.protocol, _c, self.saddr, self.daddr = wire_ip.parse(packet, 0)
        hl = (vi & 15) * 4
        assert tot == len(packet)
        th = packet[hl:]
        assert csum_partial(th, 0, len(th), csum_tcpudp_nofold(self.saddr, self.daddr, len(th), 6, 0)) == 0xFFFF
        self.sport, self.dport, self.seq, self.ack, df, self.window, _k, self.urg = wire_tcp.parse(th, 0)
        self.flags = df & 0x1FF
        doff = (df >> 12) * 4
        self.options = th[20:doff]
        self.data = th[doff:]

    def __repr__(self) -> str:
        names = "".join(c for i, c in enumerate("FSRP.UEWA") if self.flags >> i & 1)
        return f"<{names} {self.seq} ack {self.ack} len {len(self.data)} win {self.window}>"


FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}


class Peer(Machine):
    """A host at 10.0.0.1 (`task`), and a peer at 10.0.0.2 played by the test: `rx` puts a segment in, `tx` takes what came out."""

    ISN = 1000

    def __init__(self, seed: bytes = b"", mtu: int = 1500, hz: int = 1000) -> None:
        self.host = Host(seed, mtu, hz)
        self.kernel = self.host.kernel
        self.net: Net = self.host.net
        task = self.kernel.init_task
        assert task is not None
        self.task: Task = task
        self.sport = 5000  # the peer's port
        self.dport = 80  # ours

    def rx(
        self,
        flags: str,
        seq: int,
        ack: int = 0,
        data: bytes = b"",
        win: int = 65535,
        options: bytes = b"",
        urg: int = 0,
        tos: int = 0,
    ) -> None:
        mask = 0
        for c in flags:
            mask |= FLAGS[c]
        sum = csum_partial(data, 0, len(data), csum_tcpudp_nofold(B, A, 20 + len(options) + len(data), 6, 0))
        th = wire_tcp.emit_csum(
            self.sport, self.dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, mask, win, urg, options, sum
        )
        self.host.receive(wire_ip.emit(tos, 20 + len(th) + len(data), 1, 0x4000, 64, 6, B, A) + th + data)

    def tx(self) -> list[Segment]:
        """What was sent since the last look, TCP only."""
        sent = [Segment(p) for p in self.host.link.sent if p[9] == 6]
        self.host.link.sent.clear()
        return sent

    def tx1(self) -> Segment:
        sent = self.tx()
        assert len(sent) == 1, sent
        return sent[0]

    def silent(self) -> bool:
        return self.tx() == []

    def open_passive(self, options: bytes = b"", backlog: int = 5, win: int = 65535) -> tuple[int, int, int]:
        """(listener, accepted descriptor, our initial sequence number) of a connection that the peer opened."""
        listener = self.listener(self.task, self.dport, backlog)
        isn = self.handshake(options, win)
        fd = self.accept(self.task, listener)
        assert fd >= 0
        return listener, fd, isn

    def handshake(self, options: bytes = b"", win: int = 65535) -> int:
        self.rx("S", self.ISN, options=options, win=win)
        synack = self.tx1()
        assert synack.flags == 0x12 and synack.ack == self.ISN + 1
        self.rx(".", self.ISN + 1, synack.seq + 1, win=win)
        return synack.seq

    def open_active(self, options: bytes = b"") -> tuple[int, int]:
        """(descriptor, our initial sequence number) of a connection that we opened."""
        fd = self.socket(self.task, nonblock=True)
        self.sport = 80
        assert self.connect(self.task, fd, B, 80) < 0
        syn = self.tx1()
        assert syn.flags == 2
        self.dport = syn.sport
        self.rx("S.", self.ISN, syn.seq + 1, options=options)
        ack = self.tx1()
        assert ack.flags == 0x10 and ack.ack == self.ISN + 1
        return fd, syn.seq


MSS1460 = build_syn_options(1460, -1, False, False, 0, 0)
ts_options = build_established_options
syn_options = build_syn_options
MS = NSEC_PER_MSEC
SEC = NSEC_PER_SEC
