"""include/uapi/linux/in.h: IPv4 protocols, options, addresses (the module's name avoids the keyword)."""

from typing import Final

IN_LOOPBACKNET: Final = 127

INADDR_ANY: Final = 0
INADDR_LOOPBACK: Final = 2130706433
INADDR_DUMMY: Final = 3221225480
INADDR_UNSPEC_GROUP: Final = 3758096384
INADDR_ALLHOSTS_GROUP: Final = 3758096385
INADDR_ALLRTRS_GROUP: Final = 3758096386
INADDR_ALLSNOOPERS_GROUP: Final = 3758096490
INADDR_MAX_LOCAL_GROUP: Final = 3758096639
INADDR_BROADCAST: Final = 4294967295
INADDR_NONE: Final = 4294967295

IP_PMTUDISC_DONT: Final = 0
IP_DEFAULT_MULTICAST_LOOP: Final = 1
IP_DEFAULT_MULTICAST_TTL: Final = 1
IP_PMTUDISC_WANT: Final = 1
IP_TOS: Final = 1
IP_PMTUDISC_DO: Final = 2
IP_TTL: Final = 2
IP_HDRINCL: Final = 3
IP_PMTUDISC_PROBE: Final = 3
IP_OPTIONS: Final = 4
IP_PMTUDISC_INTERFACE: Final = 4
IP_PMTUDISC_OMIT: Final = 5
IP_ROUTER_ALERT: Final = 5
IP_RECVOPTS: Final = 6
IP_RECVRETOPTS: Final = 7
IP_RETOPTS: Final = 7
IP_PKTINFO: Final = 8
IP_PKTOPTIONS: Final = 9
IP_MTU_DISCOVER: Final = 10
IP_RECVERR: Final = 11
IP_RECVTTL: Final = 12
IP_RECVTOS: Final = 13
IP_MTU: Final = 14
IP_FREEBIND: Final = 15
IP_IPSEC_POLICY: Final = 16
IP_XFRM_POLICY: Final = 17
IP_PASSSEC: Final = 18
IP_TRANSPARENT: Final = 19
IP_ORIGDSTADDR: Final = 20
IP_RECVORIGDSTADDR: Final = 20
IP_MINTTL: Final = 21
IP_NODEFRAG: Final = 22
IP_CHECKSUM: Final = 23
IP_BIND_ADDRESS_NO_PORT: Final = 0x18
IP_RECVFRAGSIZE: Final = 25
IP_RECVERR_RFC4884: Final = 26
IP_MULTICAST_IF: Final = 32
IP_MULTICAST_TTL: Final = 33
IP_MULTICAST_LOOP: Final = 34
IP_ADD_MEMBERSHIP: Final = 35
IP_DROP_MEMBERSHIP: Final = 36
IP_UNBLOCK_SOURCE: Final = 37
IP_BLOCK_SOURCE: Final = 38
IP_ADD_SOURCE_MEMBERSHIP: Final = 39
IP_DROP_SOURCE_MEMBERSHIP: Final = 40
IP_MSFILTER: Final = 41
IP_MULTICAST_ALL: Final = 49
IP_UNICAST_IF: Final = 50
IP_LOCAL_PORT_RANGE: Final = 51
IP_PROTOCOL: Final = 52

IPPROTO_IP: Final = 0
IPPROTO_ICMP: Final = 1
IPPROTO_IGMP: Final = 2
IPPROTO_IPIP: Final = 4
IPPROTO_TCP: Final = 6
IPPROTO_EGP: Final = 8
IPPROTO_PUP: Final = 0xc
IPPROTO_UDP: Final = 0x11
IPPROTO_IDP: Final = 0x16
IPPROTO_TP: Final = 0x1d
IPPROTO_DCCP: Final = 0x21
IPPROTO_IPV6: Final = 0x29
IPPROTO_RSVP: Final = 0x2e
IPPROTO_GRE: Final = 0x2f
IPPROTO_ESP: Final = 0x32
IPPROTO_AH: Final = 0x33
IPPROTO_MTP: Final = 0x5c
IPPROTO_BEETPH: Final = 0x5e
IPPROTO_ENCAP: Final = 0x62
IPPROTO_PIM: Final = 0x67
IPPROTO_COMP: Final = 0x6c
IPPROTO_L2TP: Final = 0x73
IPPROTO_SCTP: Final = 0x84
IPPROTO_UDPLITE: Final = 0x88
IPPROTO_MPLS: Final = 0x89
IPPROTO_ETHERNET: Final = 0x8f
IPPROTO_RAW: Final = 0xff
IPPROTO_MPTCP: Final = 0x106

MCAST_EXCLUDE: Final = 0
MCAST_INCLUDE: Final = 1
MCAST_JOIN_GROUP: Final = 42
MCAST_BLOCK_SOURCE: Final = 43
MCAST_UNBLOCK_SOURCE: Final = 44
MCAST_LEAVE_GROUP: Final = 45
MCAST_JOIN_SOURCE_GROUP: Final = 46
MCAST_LEAVE_SOURCE_GROUP: Final = 47
MCAST_MSFILTER: Final = 48


# include/linux/in.h, over host-order integers


def ipv4_is_multicast(addr: int) -> bool:
    return addr & 0xF0000000 == 0xE0000000


def ipv4_is_local_multicast(addr: int) -> bool:
    return addr & 0xFFFFFF00 == 0xE0000000


def ipv4_is_lbcast(addr: int) -> bool:
    return addr == 0xFFFFFFFF


def ipv4_is_loopback(addr: int) -> bool:
    return addr & 0xFF000000 == 0x7F000000


def ipv4_is_zeronet(addr: int) -> bool:
    """0.0.0.0 alone, since Linux 5.2 gave 0.0.0.0/8 to hosts."""
    return addr == 0
