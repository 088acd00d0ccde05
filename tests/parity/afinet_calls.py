"""The same raw system calls, on afinet: two namespaces of one Kernel with the topology that `linux_calls.Namespaces` makes.

Time stands still but for 20 microseconds after each call, in which what is on its way arrives; `sleep` lets more go by."""

from __future__ import annotations

from afinet.drivers.tun import TunIO, tun_newlink, tun_receive
from afinet.drivers.veth import veth_newlink
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.sysctl import sysctl_write
from afinet.kernel.wait import Kiocb
from afinet.net.core.dev import dev_open, dev_set_mac_address
from afinet.net.core.net_namespace import copy_net_ns
from afinet.net.ipv4.devinet import inet_addr_add
from afinet.net.ipv4.proc import snmp_counters
from afinet.uapi.errno import EIOCBQUEUED
from afinet.uapi.filter import pack_sock_fprog
from afinet.uapi.if_ import IFF_BROADCAST, IFF_NOARP
from afinet.uapi.sockaddr import get_s32
from tests.leaks import start_kernel
from tests.parity.linux_calls import ETHERNET, SYSCTLS

NSEC_PER_USEC = 1000
NSEC_PER_MSEC = 1000000
NSEC_PER_SEC = 1000000000


class Tap(TunIO):
    """The other end of t0: keeps what comes out."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def read(self) -> bytes | None:
        return None

    def writev(self, pieces: list[bytes]) -> int:
        self.sent.append(b"".join(pieces)[14:])
        return 0


class AfinetCalls:
    """System calls on afinet. A call that would wait is interrupted: parity programs use O_NONBLOCK."""

    def __init__(self, wait_ms: int = 3, hz: int = 250) -> None:
        """By default with the HZ of the kernel that runs beside it."""
        self.kernel = start_kernel("parity", b"parity", hz)
        self.wait_ms = wait_ms
        self.nets = [copy_net_ns(self.kernel, "A"), copy_net_ns(self.kernel, "B")]
        for net in self.nets:
            assert net.loopback_dev is not None
            dev_open(net.loopback_dev)
            inet_addr_add(net.loopback_dev, 0x7F000001, 8, scope=254)
            for name, value in SYSCTLS.items():
                assert sysctl_write(net.sysctl_table, name, value) == 0, name
        for index, dev in enumerate(veth_newlink(self.nets[0], "v0", self.nets[1], "v1")):
            assert dev_set_mac_address(dev, 0x020000000001 + index) == 0
            inet_addr_add(dev, 0x0A090001 + index, 24, broadcast=0x0A0900FF)
            dev_open(dev)
        self.tap = Tap()
        self.tun = tun_newlink(self.nets[0], "t0", self.tap, tap=True)
        self.tun.flags = IFF_BROADCAST | IFF_NOARP
        assert dev_set_mac_address(self.tun, int.from_bytes(ETHERNET[:6], "big")) == 0
        inet_addr_add(self.tun, 0x0A080001, 24, broadcast=0x0A0800FF)
        dev_open(self.tun)
        self.task = new_task(self.kernel, self.nets[0], "parity", None)
        self.settle()

    def begin(self) -> None:
        """The next tick: where in its tick a program begins must not depend on the programs before it."""
        self.sleep(0)
        jiffy = NSEC_PER_SEC // self.kernel.hz
        self.kernel.run(-(-self.kernel.now // jiffy) * jiffy)

    def settle(self) -> None:
        """What is on its way arrives; timers that Linux would not have fired either stay."""
        self.kernel.run(self.kernel.now + 20 * NSEC_PER_USEC)

    def put(self, packet: bytes) -> None:
        tun_receive(self.tun, ETHERNET + packet)
        self.settle()

    def take(self) -> list[bytes]:
        sent = self.tap.sent
        self.tap.sent = []
        return sent

    def counters(self) -> dict[str, int]:
        return snmp_counters(self.nets[0])

    def sleep(self, ms: int) -> None:
        end = self.kernel.now + ms * NSEC_PER_MSEC
        while self.kernel.next_timer() <= end:
            self.kernel.run(self.kernel.next_timer())
        self.kernel.run(end)

    def sysctl(self, name: str, value: str) -> int:
        return sysctl_write(self.nets[0].sysctl_table, name, value)

    def done(self, ret: int) -> int:
        self.settle()
        return ret

    def socket(self, ns: int, family: int, type: int, protocol: int) -> int:
        self.task.net_ns = self.nets[ns]
        return self.done(syscalls.sys_socket(self.task, family, type, protocol))

    def close(self, fd: int) -> int:
        return self.done(syscalls.sys_close(self.task, Kiocb(), fd))

    def bind(self, fd: int, addr: bytes) -> int:
        return self.done(syscalls.sys_bind(self.task, fd, addr))

    def connect(self, fd: int, addr: bytes) -> int:
        return self.done(syscalls.sys_connect(self.task, Kiocb(), fd, addr))

    def listen(self, fd: int, backlog: int) -> int:
        return self.done(syscalls.sys_listen(self.task, fd, backlog))

    def accept(self, fd: int) -> int:
        return self.done(syscalls.sys_accept4(self.task, Kiocb(), fd, 0x800)[0])

    def shutdown(self, fd: int, how: int) -> int:
        return self.done(syscalls.sys_shutdown(self.task, fd, how))

    def getsockname(self, fd: int) -> tuple[int, bytes]:
        return syscalls.sys_getsockname(self.task, fd)

    def getpeername(self, fd: int) -> tuple[int, bytes]:
        return syscalls.sys_getpeername(self.task, fd)

    def setsockopt(self, fd: int, level: int, name: int, value: bytes) -> int:
        return self.done(syscalls.sys_setsockopt(self.task, fd, level, name, value))

    def attach_filter(self, fd: int, option: int, insns: bytes) -> int:
        return self.setsockopt(fd, 1, option, pack_sock_fprog(insns))

    def getsockopt(self, fd: int, level: int, name: int, size: int) -> tuple[int, bytes]:
        return syscalls.sys_getsockopt(self.task, fd, level, name, size)

    def ioctl_int(self, fd: int, cmd: int) -> tuple[int, int]:
        err, out = syscalls.sys_ioctl(self.task, fd, cmd, bytes(4))
        return err, get_s32(out, 0) if len(out) >= 4 else 0

    def poll(self, fd: int, events: int, timeout_ms: int = 0) -> int:
        n, revents = syscalls.sys_poll(self.task, Kiocb(), [(fd, events)], 0)
        deadline = self.kernel.now + timeout_ms * NSEC_PER_MSEC
        while n == 0 and self.kernel.next_timer() <= deadline:
            self.kernel.run(self.kernel.next_timer())
            n, revents = syscalls.sys_poll(self.task, Kiocb(), [(fd, events)], 0)
        return n if n < 0 else revents[0]

    def sendmsg(self, fd: int, data: bytes, flags: int, addr: bytes = b"", control: bytes = b"") -> int:
        iocb = Kiocb()
        n = syscalls.sys_sendmsg(self.task, iocb, fd, data, control, flags, addr)
        if n == -EIOCBQUEUED:
            iocb.ki_signal = True
            n = syscalls.sys_sendmsg(self.task, iocb, fd, data, control, flags, addr)
        return self.done(n)

    def recvmsg(self, fd: int, size: int, flags: int, controllen: int = 0) -> tuple[int, bytes, bytes, bytes, int]:
        if not flags & 0x2000:
            self.poll(fd, 1, self.wait_ms)
        iocb = Kiocb()
        n, pieces, control, msg_flags, name = syscalls.sys_recvmsg(self.task, iocb, fd, size, controllen, flags)
        if n == -EIOCBQUEUED:
            iocb.ki_signal = True
            n, pieces, control, msg_flags, name = syscalls.sys_recvmsg(self.task, iocb, fd, size, controllen, flags)
        self.settle()
        return n, b"".join(pieces), name, control, msg_flags
