"""The same raw system calls, on afinet: two namespaces of one Kernel with the topology that `linux_calls.Namespaces` makes."""

from __future__ import annotations

from afinet.drivers.veth import veth_newlink
from afinet.init import syscalls
from afinet.init.main import new_task
from afinet.kernel.sysctl import sysctl_write
from afinet.kernel.wait import Kiocb
from afinet.net.core.dev import dev_open, dev_set_mac_address
from afinet.net.core.net_namespace import copy_net_ns
from afinet.net.ipv4.devinet import inet_addr_add
from afinet.uapi.errno import EIOCBQUEUED
from afinet.uapi.filter import pack_sock_fprog
from afinet.uapi.sockaddr import get_s32
from tests.leaks import start_kernel

NSEC_PER_USEC = 1000
NSEC_PER_MSEC = 1000000


class AfinetCalls:
    """System calls on afinet. A call that would wait is interrupted: parity programs use O_NONBLOCK."""

    def __init__(self) -> None:
        self.kernel = start_kernel("parity", b"parity")
        self.nets = [copy_net_ns(self.kernel, "A"), copy_net_ns(self.kernel, "B")]
        for net in self.nets:
            assert net.loopback_dev is not None
            dev_open(net.loopback_dev)
            inet_addr_add(net.loopback_dev, 0x7F000001, 8, scope=254)
            assert sysctl_write(net.sysctl_table, "net.ipv4.ping_group_range", "0 2147483647") == 0
            assert sysctl_write(net.sysctl_table, "net.ipv4.icmp_ratelimit", "0") == 0
            for name in ("icmp_msgs_per_sec", "icmp_msgs_burst"):
                assert sysctl_write(net.sysctl_table, f"net.ipv4.{name}", "1000000") == 0
        for index, dev in enumerate(veth_newlink(self.nets[0], "v0", self.nets[1], "v1")):
            assert dev_set_mac_address(dev, 0x020000000001 + index) == 0
            inet_addr_add(dev, 0x0A090001 + index, 24, broadcast=0x0A0900FF)
            dev_open(dev)
        self.task = new_task(self.kernel, self.nets[0], "parity", None)
        self.settle()

    def settle(self) -> None:
        """What is on its way arrives; timers that Linux would not have fired either stay."""
        self.kernel.run(self.kernel.now + 20 * NSEC_PER_USEC)

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
        return self.done(syscalls.sys_accept4(self.task, Kiocb(), fd, 0)[0])

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
            self.poll(fd, 1, 3)
        iocb = Kiocb()
        n, pieces, control, msg_flags, name = syscalls.sys_recvmsg(self.task, iocb, fd, size, controllen, flags)
        if n == -EIOCBQUEUED:
            iocb.ki_signal = True
            n, pieces, control, msg_flags, name = syscalls.sys_recvmsg(self.task, iocb, fd, size, controllen, flags)
        self.settle()
        return n, b"".join(pieces), name, control, msg_flags
