"""include/net/flow.h: the key of a route lookup."""

from __future__ import annotations

from typing import Final

FLOWI_FLAG_ANYSRC: Final = 0x01
FLOWI_FLAG_KNOWN_NH: Final = 0x02
FLOWI_FLAG_L3MDEV_OIF: Final = 0x04
FLOWI_FLAG_ANY_SPORT: Final = 0x08


class Flowi4:
    """struct flowi4. Addresses and ports are host-order ints; 0 leaves the choice to the lookup, which writes it back."""

    __slots__ = (
        "daddr",
        "flowi4_dscp",
        "flowi4_flags",
        "flowi4_iif",
        "flowi4_mark",
        "flowi4_multipath_hash",
        "flowi4_oif",
        "flowi4_proto",
        "flowi4_scope",
        "flowi4_uid",
        "fl4_dport",
        "fl4_sport",
        "saddr",
    )

    def __init__(
        self,
        daddr: int = 0,
        saddr: int = 0,
        oif: int = 0,
        proto: int = 0,
        dscp: int = 0,
        scope: int = 0,
        mark: int = 0,
        flags: int = 0,
        dport: int = 0,
        sport: int = 0,
        iif: int = 1,  # LOOPBACK_IFINDEX: a locally made packet
        uid: int = 0,
    ) -> None:
        self.flowi4_oif: int = oif
        self.flowi4_iif: int = iif
        self.flowi4_mark: int = mark
        self.flowi4_dscp: int = dscp
        self.flowi4_scope: int = scope
        self.flowi4_proto: int = proto
        self.flowi4_flags: int = flags
        self.flowi4_uid: int = uid
        self.flowi4_multipath_hash: int = 0
        self.saddr: int = saddr
        self.daddr: int = daddr
        self.fl4_sport: int = sport
        self.fl4_dport: int = dport
