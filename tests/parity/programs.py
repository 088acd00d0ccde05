"""Parity programs: lists of system calls as data, and how to run one on anything that has `LinuxCalls`'s methods.

A step is (call, slot, arguments...); slots name descriptors. `run_program` answers what each step returned, with everything that
may rightly differ between two machines replaced: ports nobody asked for, IP identifications and the checksums over them.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any, Protocol

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


def run_program(calls: Calls, program: Program) -> list[Any]:
    """What every step answered."""
    fds: dict[str, int] = {}
    kinds: dict[str, str] = {}
    ports = named_ports(program)
    out: list[Any] = []
    for step in program:
        call, slot = step[0], step[1]
        args = step[2:]
        if call == "socket":
            kind = args[0]
            ns = args[1] if len(args) > 1 else 0
            type, protocol = KINDS[kind]
            fds[slot] = calls.socket(ns, AF_INET, type | SOCK_NONBLOCK, protocol)
            kinds[slot] = kind
            out.append("fd" if fds[slot] >= 0 else show_err(fds[slot]))
            continue
        if call == "socket3":
            err = calls.socket(0, *args)
            if err >= 0:
                fds[slot] = err
                kinds[slot] = "raw" if args[1] & 15 == SOCK_RAW else "udp"
            out.append("fd" if err >= 0 else show_err(err))
            continue
        fd = fds.get(slot, -1)
        if call in ("getsockname", "getpeername"):
            err, addr = calls.getsockname(fd) if call == "getsockname" else calls.getpeername(fd)
            out.append(show_err(err) if err else show_addr(addr, ports))
        elif call == "setsockopt":
            out.append(show_err(calls.setsockopt(fd, *args)))
        elif call == "getsockopt":
            err, value = calls.getsockopt(fd, *args)
            out.append(show_err(err) if err else value.hex())
        elif call == "ioctl":
            err, number = calls.ioctl_int(fd, args[0])
            out.append(show_err(err) if err else number)
        elif call == "poll":
            out.append(hex(calls.poll(fd, args[0] if args else 0x7FFF)))
        elif call == "send":
            out.append(show_err(calls.sendmsg(fd, *args)))
        elif call == "recv":
            n, data, addr, control, flags = calls.recvmsg(fd, *args)
            if n < 0:
                out.append(show_err(n))
            else:
                out.append((n, show_data(kinds[slot], data), show_addr(addr, ports), show_control(control), hex(flags)))
        elif call == "accept":
            err = calls.accept(fd)
            if err >= 0:
                calls.close(err)
            out.append("fd" if err >= 0 else show_err(err))
        elif call == "attach":
            out.append(show_err(calls.attach_filter(fd, *args)))
        elif call == "close":
            out.append(show_err(calls.close(fd)))
            fds.pop(slot, None)
        else:
            verbs: dict[str, Any] = {
                "bind": calls.bind,
                "connect": calls.connect,
                "listen": calls.listen,
                "shutdown": calls.shutdown,
            }
            out.append(show_err(verbs[call](fd, *args)))
    for fd in fds.values():
        if fd >= 0:
            calls.close(fd)
    return out
