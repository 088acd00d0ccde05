"""Names and addresses for simulated tasks: what netdb.h's functions answer on a host of a Network.

A name is one of a host of the network, `localhost`, or a numeric address in any form that inet_aton(3) takes; nothing asks the
host's own resolver, and IPv4 is all there is today. Service and protocol names are the host's tables' (/etc/services). Codes and
texts of errors are glibc's.
"""

from __future__ import annotations

from typing import Any

from afinet.runner import real
from afinet.runner.virtual import SimTask

_real = real._socket

AF_UNSPEC = 0
AF_INET = int(_real.AF_INET)
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = int(_real.SOCK_STREAM), int(_real.SOCK_DGRAM), int(_real.SOCK_RAW)
IPPROTO_TCP, IPPROTO_UDP = 6, 17
INADDR_LOOPBACK = 0x7F000001

AI_PASSIVE, AI_CANONNAME, AI_NUMERICHOST = 1, 2, 4
AI_V4MAPPED, AI_ALL, AI_ADDRCONFIG, AI_NUMERICSERV = 8, 16, 32, 1024
_AI_KNOWN = AI_PASSIVE | AI_CANONNAME | AI_NUMERICHOST | AI_V4MAPPED | AI_ALL | AI_ADDRCONFIG | AI_NUMERICSERV
NI_NUMERICHOST, NI_NUMERICSERV, NI_NAMEREQD, NI_DGRAM = (
    int(_real.NI_NUMERICHOST),
    int(_real.NI_NUMERICSERV),
    int(_real.NI_NAMEREQD),
    int(_real.NI_DGRAM),
)

_GAI = {
    "EAI_BADFLAGS": "Bad value for ai_flags",
    "EAI_NONAME": "Name or service not known",
    "EAI_FAMILY": "ai_family not supported",
    "EAI_SOCKTYPE": "ai_socktype not supported",
    "EAI_SERVICE": "Servname not supported for ai_socktype",
    "EAI_ADDRFAMILY": "Address family for hostname not supported",
}
_HOST_NOT_FOUND = 1


def gaierror(code: str) -> OSError:
    return _real.gaierror(getattr(_real, code, _real.EAI_NONAME), _GAI[code])


def numeric(name: str) -> int | None:
    """The address that `name` spells in one of inet_aton(3)'s forms, or None."""
    try:
        return int.from_bytes(_real.inet_aton(name), "big")
    except OSError:
        return None


def dotted(addr: int) -> str:
    return _real.inet_ntoa(addr.to_bytes(4, "big"))


def host_text(host: Any, what: str) -> str:
    """A host name as Python's functions take it: str (IDNA), bytes or bytearray."""
    if isinstance(host, str):
        try:
            return host.encode("ascii").decode()
        except UnicodeEncodeError:
            return host.encode("idna").decode()
    if isinstance(host, (bytes, bytearray)):
        return bytes(host).decode()
    raise TypeError(f"{what} must be str, bytes or bytearray, not {type(host).__name__}")


def lookup(task: SimTask, name: str) -> list[int]:
    """All addresses of `name`, the nearest first; empty if there is no such name."""
    name = name.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return [INADDR_LOOPBACK]
    resolver = task.runner.resolver
    return resolver.lookup(task.kernel, name) if resolver is not None else []


def reverse(task: SimTask, addr: int) -> str | None:
    if addr >> 24 == 127:
        return "localhost"
    resolver = task.runner.resolver
    return resolver.reverse(task.kernel, addr) if resolver is not None else None


def resolve(task: SimTask, host: str) -> int:
    """The address for a bind or connect: setipaddr() of socketmodule.c."""
    if host == "":
        return 0
    if host == "<broadcast>":
        return 0xFFFFFFFF
    addr = numeric(host)
    if addr is not None:
        return addr
    found = lookup(task, host)
    if not found:
        raise gaierror("EAI_ADDRFAMILY" if ":" in host else "EAI_NONAME")
    return found[0]


def _port_of(port: Any, socktype: int, flags: int) -> int:
    if port is None:
        return 0
    if isinstance(port, int):
        # glibc is given the number as text and keeps sixteen bits of it.
        return port & 0xFFFF
    if isinstance(port, str):
        text = port
    elif isinstance(port, (bytes, bytearray)):
        text = bytes(port).decode()
    else:
        raise OSError("Int or String expected")
    if text == "":
        return 0
    if text.isascii() and text.isdigit():
        return int(text) & 0xFFFF
    if flags & AI_NUMERICSERV:
        raise gaierror("EAI_NONAME")
    try:
        if socktype == SOCK_DGRAM:
            return _real.getservbyname(text, "udp")
        if socktype == SOCK_STREAM:
            return _real.getservbyname(text, "tcp")
        return _real.getservbyname(text)
    except OSError:
        raise gaierror("EAI_SERVICE") from None


AddrInfo = tuple[int, int, int, str, tuple[str, int]]


def getaddrinfo(task: SimTask, host: Any, port: Any, family: int, type: int, proto: int, flags: int) -> list[AddrInfo]:
    if flags & ~_AI_KNOWN:
        raise gaierror("EAI_BADFLAGS")
    if host is None and port is None:
        raise gaierror("EAI_NONAME")
    if family not in (AF_UNSPEC, AF_INET):
        if family != int(getattr(_real, "AF_INET6", -1)):
            raise gaierror("EAI_FAMILY")
        raise gaierror("EAI_ADDRFAMILY")
    kinds = [(SOCK_STREAM, IPPROTO_TCP), (SOCK_DGRAM, IPPROTO_UDP), (SOCK_RAW, 0)]
    if type:
        kinds = [(t, p) for t, p in kinds if t == type]
        if not kinds:
            raise gaierror("EAI_SOCKTYPE")
    if proto:
        kinds = [(t, proto) for t, p in kinds if p in (0, proto)]
        if not kinds:
            raise gaierror("EAI_SERVICE" if type else "EAI_SOCKTYPE")
    number = _port_of(port, type, flags)
    canonname = ""
    if host is None:
        addrs = [0 if flags & AI_PASSIVE else INADDR_LOOPBACK]
    else:
        name = host_text(host, "getaddrinfo() argument 1")
        addr = numeric(name)
        if addr is not None:
            addrs = [addr]
        elif flags & AI_NUMERICHOST:
            raise gaierror("EAI_NONAME")
        else:
            addrs = lookup(task, name)
            if not addrs:
                raise gaierror("EAI_ADDRFAMILY" if ":" in name and family == AF_INET else "EAI_NONAME")
        if flags & AI_CANONNAME:
            canonname = name
    out: list[AddrInfo] = []
    for addr in addrs:
        for socktype, protocol in kinds:
            out.append((AF_INET, socktype, protocol, canonname, (dotted(addr), number)))
            canonname = ""
    return out


def getnameinfo(task: SimTask, sockaddr: Any, flags: int) -> tuple[str, str]:
    if not isinstance(sockaddr, tuple):
        raise TypeError("getnameinfo() argument 1 must be a tuple")
    if len(sockaddr) < 2:
        raise TypeError("getnameinfo(): illegal sockaddr argument")
    host, port = host_text(sockaddr[0], "getnameinfo() address"), sockaddr[1]
    addr = numeric(host)
    if addr is None:
        raise gaierror("EAI_NONAME")
    name: str | None = None
    if not flags & NI_NUMERICHOST:
        name = reverse(task, addr)
        if name is None and flags & NI_NAMEREQD:
            raise gaierror("EAI_NONAME")
    service = str(port)
    if not flags & NI_NUMERICSERV:
        try:
            service = _real.getservbyport(port, "udp" if flags & NI_DGRAM else "tcp")
        except OSError:
            pass
    return name if name is not None else dotted(addr), service


def gethostbyname(task: SimTask, host: Any) -> str:
    return dotted(resolve(task, host_text(host, "gethostbyname() argument 1")))


def gethostbyname_ex(task: SimTask, host: Any) -> tuple[str, list[str], list[str]]:
    name = host_text(host, "gethostbyname_ex() argument 1")
    addr = numeric(name)
    addrs = [addr] if addr is not None else lookup(task, name)
    if not addrs:
        raise gaierror("EAI_NONAME")
    return name, [], [dotted(a) for a in addrs]


def gethostbyaddr(task: SimTask, host: Any) -> tuple[str, list[str], list[str]]:
    addr = resolve(task, host_text(host, "gethostbyaddr() argument 1"))
    name = reverse(task, addr)
    if name is None:
        raise _real.herror(_HOST_NOT_FOUND, "Unknown host")
    return name, [], [dotted(addr)]
