"""include/linux/udp.h, include/net/udp.h: struct udp_sock and struct udp_table."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from afinet.net.core.sock import Proto
from afinet.net.ipv4.inet_sock import InetSock

if TYPE_CHECKING:
    from afinet.kernel.machine import Kernel
    from afinet.net.core.flow import Flowi4
    from afinet.net.core.net_namespace import Net


class UdpSock(InetSock):
    """struct udp_sock."""

    __slots__ = ("cork_fl4", "corkflag", "corklen", "gro_enabled", "gso_size", "pending", "udp_key", "udp_key2", "udp_key4")

    def __init__(self, net: Net, family: int, prot: Proto) -> None:
        super().__init__(net, family, prot)
        self.pending: int = 0  # AF_INET while corked data waits
        self.corkflag: bool = False
        # inet->cork.fl: the flow of the last connect() or cork, which a connected sock sends along while its route holds. After a
        # cork for another address that is where the next datagram goes, as in Linux.
        self.cork_fl4: Flowi4 | None = None
        self.corklen: int = 0  # UDP header included
        self.gso_size: int = 0  # UDP_SEGMENT
        self.gro_enabled: bool = False  # UDP_GRO: super-packets are welcome
        # Where the sock stands in UdpTable's tables, -1: not there.
        self.udp_key: int = -1
        self.udp_key2: int = -1
        self.udp_key4: int = -1


class UdpTable:
    """struct udp_table: by port (bind, multicast), by own address and port, and, connected socks, by both ends.

    The newest sock of a key stands first, so that of two that would do the one bound last is found.
    """

    __slots__ = ("gro_socks", "hash", "hash2", "hash4")

    def __init__(self) -> None:
        self.hash: dict[int, list[UdpSock]] = {}
        self.hash2: dict[int, list[UdpSock]] = {}
        self.hash4: dict[int, list[UdpSock]] = {}
        self.gro_socks: int = 0  # socks with UDP_GRO: without any, nobody looks for one


class UdpTableProto(Proto):
    """The part of udp_prot that has the table (`h.udp_table`)."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        super().__init__(kernel, name)
        self.table: UdpTable = UdpTable()


def udp_get_table_prot(sk: UdpSock) -> UdpTable:
    return cast(UdpTableProto, sk.sk_prot).table
