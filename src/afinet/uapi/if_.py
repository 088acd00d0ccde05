"""include/uapi/linux/if.h: device flags and operational states (the module name avoids the keyword)."""

from typing import Final

IFNAMSIZ: Final = 16
IFALIASZ: Final = 256

IFF_UP: Final = 0x1
IFF_BROADCAST: Final = 0x2
IFF_DEBUG: Final = 0x4
IFF_LOOPBACK: Final = 0x8
IFF_POINTOPOINT: Final = 0x10
IFF_NOTRAILERS: Final = 0x20
IFF_RUNNING: Final = 0x40
IFF_NOARP: Final = 0x80
IFF_PROMISC: Final = 0x100
IFF_ALLMULTI: Final = 0x200
IFF_MASTER: Final = 0x400
IFF_SLAVE: Final = 0x800
IFF_MULTICAST: Final = 0x1000
IFF_PORTSEL: Final = 0x2000
IFF_AUTOMEDIA: Final = 0x4000
IFF_DYNAMIC: Final = 0x8000
IFF_LOWER_UP: Final = 0x10000
IFF_DORMANT: Final = 0x20000
IFF_ECHO: Final = 0x40000

IF_OPER_UNKNOWN: Final = 0
IF_OPER_NOTPRESENT: Final = 1
IF_OPER_DOWN: Final = 2
IF_OPER_LOWERLAYERDOWN: Final = 3
IF_OPER_TESTING: Final = 4
IF_OPER_DORMANT: Final = 5
IF_OPER_UP: Final = 6
