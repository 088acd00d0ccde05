"""include/uapi/linux/netlink.h: the flags of a request to make or change an object."""

from typing import Final

NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800
