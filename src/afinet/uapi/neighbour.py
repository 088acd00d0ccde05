"""include/uapi/linux/neighbour.h: NUD states and neighbour flags."""

from typing import Final

NTF_EXT_MANAGED: Final = 1
NTF_USE: Final = 1
NTF_SELF: Final = 2
NTF_MASTER: Final = 4
NTF_PROXY: Final = 8
NTF_EXT_LEARNED: Final = 0x10
NTF_OFFLOADED: Final = 0x20
NTF_STICKY: Final = 0x40
NTF_ROUTER: Final = 0x80

NUD_NONE: Final = 0
NUD_INCOMPLETE: Final = 1
NUD_REACHABLE: Final = 2
NUD_STALE: Final = 4
NUD_DELAY: Final = 8
NUD_PROBE: Final = 0x10
NUD_FAILED: Final = 0x20
NUD_NOARP: Final = 0x40
NUD_PERMANENT: Final = 0x80
