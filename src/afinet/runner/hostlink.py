"""What the host is asked about its devices, and told: link_info, addresses, the configuration of a device that was made (pyroute2).

Always about the calling process's network namespace; /sys may show another one's. Errors are HostError: one line that names the
remedy.
"""

from __future__ import annotations

import fcntl
import struct
from contextlib import closing

from afinet.drivers.tun import TUN_TX_QUEUE_LEN
from afinet.runner import real
from afinet.runner.boot import HostError, quad

os = real.os
_socket = real._socket

# linux/sockios.h, if.h
SIOCSIFTXQLEN = 0x8943
IFF_UP = 1

# linux/if_tun.h
IFF_TAP = 0x0002

# linux/netlink.h, rtnetlink.h, if_link.h
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
NLA_TYPE_MASK = 0x3FFF
RTM_GETLINK = 18
RTM_GETROUTE = 26
RTA_DST = 1
RTN_LOCAL = 2
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_LINKINFO = 18
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_TUN_TYPE = 3
IFLA_TUN_PI = 4
IFLA_TUN_MULTI_QUEUE = 7
IFLA_TUN_NUM_QUEUES = 8

IFREQ_INT = struct.Struct("16si20x")
IFNAMSIZ = 16


def ifreq_name(name: str) -> bytes:
    raw = os.fsencode(name)
    if not 0 < len(raw) < IFNAMSIZ or b"/" in raw or raw in (b".", b".."):
        raise HostError(f"{name!r} is no name for a network device: up to 15 bytes, without '/'")
    return raw


class LinkInfo:
    """What the host's kernel tells of a device. `kind` is the kind of link, "tun" for TUN and TAP, "" for hardware."""

    def __init__(self, kind: str, flags: int, mtu: int, data: dict[int, bytes]) -> None:
        self.kind = kind
        self.up = flags & IFF_UP != 0
        self.mtu = mtu
        self.tap = data.get(IFLA_TUN_TYPE, b"\0")[0] == IFF_TAP
        self.pi = data.get(IFLA_TUN_PI, b"\0")[0] != 0  # a header of its own before each packet: IFF_NO_PI was not given
        self.multi_queue = data.get(IFLA_TUN_MULTI_QUEUE, b"\0")[0] != 0
        self.queues = int.from_bytes(data.get(IFLA_TUN_NUM_QUEUES, b""), "little")  # how many are attached, if there may be several


def link_info(name: str) -> LinkInfo | None:
    """`ip -d link show NAME`; None if there is no such device in the calling process's network namespace."""
    answer = _netlink(RTM_GETLINK, bytes(16), IFLA_IFNAME, ifreq_name(name) + b"\0")
    if answer is None:
        return None
    (flags,) = struct.unpack_from("I", answer, 8)
    link = _attributes(answer, 16)
    info = _attributes(link.get(IFLA_LINKINFO, b""), 0)
    kind = os.fsdecode(info.get(IFLA_INFO_KIND, b"").rstrip(b"\0"))
    return LinkInfo(kind, flags, int.from_bytes(link[IFLA_MTU], "little"), _attributes(info.get(IFLA_INFO_DATA, b""), 0))


def _netlink(request: int, header: bytes, attribute: int, value: bytes) -> bytes | None:
    """What follows the header of rtnetlink's answer to a request with one attribute; None for an error."""
    body = header + struct.pack("HH", 4 + len(value), attribute) + value + bytes(-len(value) % 4)
    with closing(_socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, 0)) as s:
        s.send(struct.pack("IHHII", 16 + len(body), request, NLM_F_REQUEST, 1, 0) + body)
        answer = s.recv(1 << 17)
    _, kind, _, _, _ = struct.unpack_from("IHHII", answer)
    return None if kind == NLMSG_ERROR else answer[16:]


def _attributes(data: bytes, at: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("HH", data, at)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = data[at + 4 : at + length]
        at += length + -length % 4
    return found


def host_has(address: int) -> bool:
    """Whether the address is one of the host's own, on any device."""
    rtmsg = struct.pack("BBBBBBBBI", _socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    answer = _netlink(RTM_GETROUTE, rtmsg, RTA_DST, address.to_bytes(4, "big"))
    return answer is not None and answer[7] == RTN_LOCAL


def set_tx_queue_len(name: str, length: int = TUN_TX_QUEUE_LEN) -> bool:
    """How many packets may wait for us to read them. False without the right to say so."""
    with closing(_socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)) as s:
        try:
            fcntl.ioctl(s.fileno(), SIOCSIFTXQLEN, IFREQ_INT.pack(ifreq_name(name), length))
        except OSError:
            return False
    return True


def host_address(local: int, plen: int, gateway: int) -> int:
    """The host's own address on a device made for `local`/`plen`: the gateway if it is of that subnet, else the first other one; 0
    where there is no room."""
    if plen >= 31:
        return local ^ 1 if plen == 31 else 0
    mask = (0xFFFFFFFF << (32 - plen)) & 0xFFFFFFFF
    if gateway and gateway & mask == local & mask and gateway != local:
        return gateway
    first = (local & mask) + 1
    return first if first != local else first + 1


def configure_new(name: str, local: int, plen: int, gateway: int, mtu: int | None) -> None:
    """Give the host's end its address and bring it up."""
    from concurrent.futures import ThreadPoolExecutor

    # pyroute2 runs an event loop, and the caller may be inside one of his own: in a new thread, of the same network namespace.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_configure, name, local, plen, host_address(local, plen, gateway), mtu).result()


def _configure(name: str, local: int, plen: int, peer: int, mtu: int | None) -> None:
    try:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError:
        raise HostError(
            f"{name} is new, and to configure it takes pyroute2: pip install 'afinet[tun]', or make {name} yourself first"
        ) from None
    try:
        with IPRoute() as ipr:
            index = ipr.link_lookup(ifname=name)[0]
            if mtu is not None:
                ipr.link("set", index=index, mtu=mtu)
            if peer:
                ipr.addr("add", index=index, address=quad(peer), prefixlen=plen)
            ipr.link("set", index=index, state="up")
            if not peer:
                ipr.route("add", dst=f"{quad(local)}/32", oif=index)
    except NetlinkError as e:
        raise HostError(f"{name}: the host refused {quad(peer or local)}/{plen} or MTU {mtu} ({e}): choose another") from None
