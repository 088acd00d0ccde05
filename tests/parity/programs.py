"""Parity programs: lists of system calls as data, and how to run one on anything that has `LinuxCalls`'s methods.

A step is (call, slot, arguments...); slots name descriptors. `run_program` answers what each step returned, with everything that
may rightly differ between two machines replaced: ports nobody asked for, IP identifications and the checksums over them.

Programs on the wire have steps of packets.py too: ("peer", name, port of the host) and ("target", name, port of the peer) name the
other end of a connection, ("<", name, line) puts a packet in. What comes out of t0 stands with the step that it followed:
[returned, line, ...]. ("count", "") and ("counters", "") tell what was counted between them, ("info", slot) what TCP_INFO shows.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any, Protocol

from tests.parity.packets import Wire

Step = tuple[Any, ...]
Program = list[Step]

AF_INET, AF_INET6, AF_UNSPEC = 2, 10, 0
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 1, 2, 3
SOCK_NONBLOCK = 0x800
MSG_OOB, MSG_PEEK, MSG_DONTROUTE, MSG_TRUNC, MSG_DONTWAIT = 1, 2, 4, 0x20, 0x40
MSG_PROBE, MSG_CONFIRM, MSG_ERRQUEUE, MSG_MORE = 0x10, 0x800, 0x2000, 0x8000

KINDS = {
    "udp": (SOCK_DGRAM, socket.IPPROTO_UDP),
    "ping": (SOCK_DGRAM, socket.IPPROTO_ICMP),
    "rawicmp": (SOCK_RAW, socket.IPPROTO_ICMP),
    "raw253": (SOCK_RAW, 253),
    "rawudp": (SOCK_RAW, socket.IPPROTO_UDP),
    "rawraw": (SOCK_RAW, socket.IPPROTO_RAW),
    "tcp": (SOCK_STREAM, socket.IPPROTO_TCP),
}


class Calls(Protocol):
    """System calls on raw numbers and bytes: the kernel's (linux_calls.py) or afinet's (afinet_calls.py)."""

    def socket(self, ns: int, family: int, type: int, protocol: int) -> int: ...
    def close(self, fd: int) -> int: ...
    def bind(self, fd: int, addr: bytes) -> int: ...
    def connect(self, fd: int, addr: bytes) -> int: ...
    def listen(self, fd: int, backlog: int) -> int: ...
    def accept(self, fd: int) -> int: ...
    def shutdown(self, fd: int, how: int) -> int: ...
    def getsockname(self, fd: int) -> tuple[int, bytes]: ...
    def getpeername(self, fd: int) -> tuple[int, bytes]: ...
    def setsockopt(self, fd: int, level: int, name: int, value: bytes) -> int: ...
    def attach_filter(self, fd: int, option: int, insns: bytes) -> int: ...
    def getsockopt(self, fd: int, level: int, name: int, size: int) -> tuple[int, bytes]: ...
    def ioctl_int(self, fd: int, cmd: int) -> tuple[int, int]: ...
    def poll(self, fd: int, events: int, timeout_ms: int = 0) -> int: ...
    def sendmsg(self, fd: int, data: bytes, flags: int, addr: bytes = b"", control: bytes = b"") -> int: ...
    def recvmsg(self, fd: int, size: int, flags: int, controllen: int = 0) -> tuple[int, bytes, bytes, bytes, int]: ...
    def begin(self) -> None: ...
    def put(self, packet: bytes) -> None: ...
    def take(self) -> list[bytes]: ...
    def counters(self) -> dict[str, int]: ...
    def sleep(self, ms: int) -> None: ...
    def sysctl(self, name: str, value: str) -> int: ...


def sa(host: str, port: int = 0, family: int = AF_INET) -> bytes:
    """A packed sockaddr_in."""
    return struct.pack("=H", family) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def i32(value: int) -> bytes:
    return struct.pack("=i", value)


def cmsg(level: int, type: int, data: bytes) -> bytes:
    return struct.pack("=Qii", 16 + len(data), level, type) + data + bytes(-len(data) % 8)


def icmp(type: int, code: int, ident: int, seq: int, data: bytes = b"") -> bytes:
    """An ICMP message with its checksum."""
    body = struct.pack("!BBHHH", type, code, 0, ident, seq) + data
    padded = body + bytes(len(body) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return body[:2] + struct.pack("!H", total ^ 0xFFFF) + body[4:]


def iphdr(src: str, dst: str, protocol: int, payload: bytes, **fields: int) -> bytes:
    """An IP header whose checksum is left 0."""
    return (
        struct.pack(
            "!BBHHHBBH4s4s",
            fields.get("version_ihl", 0x45),
            fields.get("tos", 0),
            fields.get("tot_len", 20 + len(payload)),
            fields.get("id", 0),
            fields.get("frag_off", 0),
            fields.get("ttl", 64),
            protocol,
            0,
            socket.inet_aton(src),
            socket.inet_aton(dst),
        )
        + payload
    )


def named_ports(program: Program) -> set[int]:
    ports: set[int] = set()
    for step in program:
        for arg in step:
            if isinstance(arg, bytes) and len(arg) >= 16 and arg[:2] in (b"\2\0", b"\0\0"):
                ports.add(struct.unpack("!H", arg[2:4])[0])
    return ports


def show_addr(addr: bytes, ports: set[int]) -> str:
    if len(addr) != 16 or addr[:2] != b"\2\0":
        return addr.hex()
    port = struct.unpack("!H", addr[2:4])[0]
    shown = str(port) if port == 0 or port in ports else "EPH"
    return f"{socket.inet_ntoa(addr[4:8])}:{shown}"


def show_data(kind: str, data: bytes) -> str:
    """A raw packet loses its identification and header checksum, an echo of a ping socket its identifier and checksum."""
    if kind.startswith("raw") and len(data) >= 6:
        data = data[:4] + b"\0\0" + data[6:10] + (b"\0\0" + data[12:] if len(data) >= 12 else b"")
    elif kind == "ping" and len(data) >= 8:
        data = data[:2] + b"\0\0\0\0" + data[6:]
    return data.hex() if len(data) <= 128 else f"{data[:64].hex()}..{len(data)}"


def show_control(control: bytes) -> list[tuple[int, int, str]]:
    """Control messages; timestamps lose their value."""
    out = []
    off = 0
    while off + 16 <= len(control):
        length, level, type = struct.unpack_from("=Qii", control, off)
        if length < 16:
            break
        data = control[off + 16 : off + length]
        out.append((level, type, f"time[{len(data)}]" if level == 1 and type in (29, 35, 37, 63, 64, 65) else data.hex()))
        off += (length + 7) & -8
    return out


def show_err(value: int) -> int | str:
    return errno.errorcode.get(-value, str(value)) if value < 0 else value


# struct tcp_info: what a case can compare, which is all but times and what follows from them.
TCP_INFO = 11
INFO_BYTES = ("state", "ca_state", "retransmits", "probes", "backoff", "options", "wscale", "")
INFO_WORDS = (
    "", "", "snd_mss", "rcv_mss", "unacked", "sacked", "lost", "retrans", "", "", "", "", "", "pmtu", "rcv_ssthresh", "", "",
    "snd_ssthresh", "snd_cwnd", "advmss", "reordering", "", "rcv_space", "total_retrans", "", "max_pacing_rate", "bytes_acked",
    "bytes_received", "segs_out", "segs_in", "notsent", "", "data_segs_in", "data_segs_out", "", "", "", "", "delivered",
    "delivered_ce", "bytes_sent", "bytes_retrans", "dsack_dups", "reord_seen", "rcv_ooopack", "snd_wnd", "rcv_wnd", "", "total_rto",
    "total_rto_recoveries",
)  # fmt: skip
INFO_FORMAT = "<8B24I4Q6I4Q2I2Q6I2H"
STATES = (
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN",
    "CLOSING",
)  # fmt: skip


def show_info(info: bytes) -> str:
    """The state, and what is not 0."""
    values = struct.unpack_from(INFO_FORMAT, info)
    pairs = zip(INFO_BYTES + INFO_WORDS, values, strict=True)
    shown = [f"{name} {value}" for name, value in pairs if name and value and name != "state"]
    return ", ".join([STATES[values[0]], *shown])


# afinet keeps SACKed segments apart (docs/differences.md).
NOT_COUNTED = ("TcpExtTCPSackShifted", "TcpExtTCPSackMerged", "TcpExtTCPSackShiftFallback")


class Run:
    """A program while it runs: its descriptors, its packets, what it counted."""

    ports_used = 20000  # each peer of this process has a port of its own

    def __init__(self, calls: Calls, program: Program) -> None:
        self.calls = calls
        self.fds: dict[str, int] = {}
        self.kinds: dict[str, str] = {}
        self.ports = named_ports(program)
        self.counted: dict[str, int] = {}
        self.wire: Wire | None = None
        if any(step[0] in ("peer", "target", "<") for step in program):
            self.wire = Wire(Run.ports_used)
            calls.take()
            calls.sysctl("net.ipv4.route.flush", "1")  # what earlier programs learnt of the path
        calls.begin()

    def step(self, step: Step) -> Any:
        """What the step answered, and with it the packets that came out."""
        value = self.call(step[0], step[1], step[2:])
        if self.wire is None:
            return value
        out = [self.wire.show(packet) for packet in self.calls.take()]
        return [value, *out] if out else value

    def call(self, call: str, slot: str, args: tuple[Any, ...]) -> Any:
        calls = self.calls
        if call == "socket":
            kind = args[0]
            type, protocol = KINDS[kind]
            self.fds[slot] = calls.socket(args[1] if len(args) > 1 else 0, AF_INET, type | SOCK_NONBLOCK, protocol)
            self.kinds[slot] = kind
            return "fd" if self.fds[slot] >= 0 else show_err(self.fds[slot])
        if call == "socket3":
            err = calls.socket(0, *args)
            if err >= 0:
                self.fds[slot] = err
                self.kinds[slot] = "raw" if args[1] & 15 == SOCK_RAW else "udp"
            return "fd" if err >= 0 else show_err(err)
        if call in ("peer", "target", "<", "count", "counters", "sleep", "sysctl"):
            return self.wire_call(call, slot, args)
        fd = self.fds.get(slot, -1)
        if call in ("getsockname", "getpeername"):
            err, addr = calls.getsockname(fd) if call == "getsockname" else calls.getpeername(fd)
            return show_err(err) if err else show_addr(addr, self.ports)
        if call == "setsockopt":
            return show_err(calls.setsockopt(fd, *args))
        if call == "getsockopt":
            err, value = calls.getsockopt(fd, *args)
            return show_err(err) if err else value.hex()
        if call == "info":
            err, value = calls.getsockopt(fd, socket.IPPROTO_TCP, TCP_INFO, struct.calcsize(INFO_FORMAT))
            return show_err(err) if err else show_info(value)
        if call == "ioctl":
            err, number = calls.ioctl_int(fd, args[0])
            return show_err(err) if err else number
        if call == "poll":
            return hex(calls.poll(fd, args[0] if args else 0x7FFF))
        if call == "send":
            return show_err(calls.sendmsg(fd, *args))
        if call == "recv":
            n, data, addr, control, flags = calls.recvmsg(fd, *args)
            if n < 0:
                return show_err(n)
            if args[1] & MSG_TRUNC and self.kinds[slot] == "tcp":
                data = b""  # nothing is copied
            return (n, show_data(self.kinds[slot], data), show_addr(addr, self.ports), show_control(control), hex(flags))
        if call == "accept":
            err = calls.accept(fd)
            if err >= 0 and args:
                self.fds[args[0]] = err
                self.kinds[args[0]] = self.kinds[slot]
            elif err >= 0:
                calls.close(err)
            return "fd" if err >= 0 else show_err(err)
        if call == "attach":
            return show_err(calls.attach_filter(fd, *args))
        if call == "close":
            self.fds.pop(slot, None)
            return show_err(calls.close(fd))
        verbs: dict[str, Any] = {
            "bind": calls.bind,
            "connect": calls.connect,
            "listen": calls.listen,
            "shutdown": calls.shutdown,
        }
        return show_err(verbs[call](fd, *args))

    def wire_call(self, call: str, slot: str, args: tuple[Any, ...]) -> Any:
        if call == "sleep":
            self.calls.sleep(args[0])
        elif call == "sysctl":
            return show_err(self.calls.sysctl(*args))
        elif call == "count":
            self.counted = self.calls.counters()
        elif call == "counters":
            now = self.calls.counters()
            grown = {name: n - self.counted.get(name, 0) for name, n in now.items()}
            return {name: n for name, n in sorted(grown.items()) if n and name not in NOT_COUNTED}
        else:
            assert self.wire is not None
            if call == "peer":
                self.wire.peer(slot, *args)
                Run.ports_used = self.wire.port if self.wire.port < 60000 else 20000
            elif call == "target":
                self.wire.target(slot, *args)
            else:
                self.calls.put(self.wire.emit(slot, *args))
        return None

    def end(self) -> None:
        """Everything is closed; connections on the wire are reset from both sides, so that no later program hears of them."""
        for fd in self.fds.values():
            if fd >= 0:
                if self.wire is not None:
                    self.calls.setsockopt(fd, socket.SOL_SOCKET, socket.SO_LINGER, i32(1) + i32(0))
                self.calls.close(fd)
        if self.wire is not None:
            for name in self.wire.conns:
                self.calls.put(self.wire.emit(name, "R nxt"))
            self.calls.take()


def has_timers(program: Program) -> bool:
    """Whether the answers may depend on how long the program takes: TCP with a played peer. (Among sockets of the loopback, and of
    datagrams, what is on its way has to be waited for.)"""
    return any(s[0] in ("peer", "target") for s in program) and any(s[0] == "socket" and s[2] == "tcp" for s in program)


def run_program(calls: Calls, program: Program) -> list[Any]:
    """What every step answered."""
    run = Run(calls, program)
    out = [run.step(step) for step in program]
    run.end()
    return out
