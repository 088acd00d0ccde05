"""include/uapi/linux/igmp.h: message types, group records."""

from typing import Final

IGMP_HOST_MEMBERSHIP_QUERY: Final = 0x11
IGMP_HOST_MEMBERSHIP_REPORT: Final = 0x12
IGMPV2_HOST_MEMBERSHIP_REPORT: Final = 0x16
IGMP_HOST_LEAVE_MESSAGE: Final = 0x17
IGMPV3_HOST_MEMBERSHIP_REPORT: Final = 0x22

# The types of a group record: the current state (1, 2), a change of the filter mode (3, 4), of the sources (5, 6).
IGMPV3_MODE_IS_INCLUDE: Final = 1
IGMPV3_MODE_IS_EXCLUDE: Final = 2
IGMPV3_CHANGE_TO_INCLUDE: Final = 3
IGMPV3_CHANGE_TO_EXCLUDE: Final = 4
IGMPV3_ALLOW_NEW_SOURCES: Final = 5
IGMPV3_BLOCK_OLD_SOURCES: Final = 6

IGMP_ALL_HOSTS: Final = 0xE0000001
IGMP_ALL_ROUTER: Final = 0xE0000002
IGMPV3_ALL_MCR: Final = 0xE0000016
