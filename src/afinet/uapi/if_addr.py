"""include/uapi/linux/if_addr.h: flags of an interface address, and who set it."""

from typing import Final

IFA_F_SECONDARY: Final = 0x01
IFA_F_NODAD: Final = 0x02
IFA_F_OPTIMISTIC: Final = 0x04
IFA_F_DADFAILED: Final = 0x08
IFA_F_HOMEADDRESS: Final = 0x10
IFA_F_DEPRECATED: Final = 0x20
IFA_F_TENTATIVE: Final = 0x40
IFA_F_PERMANENT: Final = 0x80
IFA_F_MANAGETEMPADDR: Final = 0x100
IFA_F_NOPREFIXROUTE: Final = 0x200
IFA_F_MCAUTOJOIN: Final = 0x400
IFA_F_STABLE_PRIVACY: Final = 0x800

IFAPROT_UNSPEC: Final = 0
IFAPROT_KERNEL_LO: Final = 1
IFAPROT_KERNEL_RA: Final = 2
IFAPROT_KERNEL_LL: Final = 3
