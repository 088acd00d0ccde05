"""include/uapi/linux/errqueue.h: origins and codes of sock_extended_err."""

from typing import Final

SCM_TSTAMP_SND: Final = 0
SCM_TSTAMP_SCHED: Final = 1
SCM_TSTAMP_ACK: Final = 2

SO_EE_ORIGIN_NONE: Final = 0
SO_EE_CODE_TXTIME_INVALID_PARAM: Final = 1
SO_EE_CODE_ZEROCOPY_COPIED: Final = 1
SO_EE_ORIGIN_LOCAL: Final = 1
SO_EE_RFC4884_FLAG_INVALID: Final = 1
SO_EE_CODE_TXTIME_MISSED: Final = 2
SO_EE_ORIGIN_ICMP: Final = 2
SO_EE_ORIGIN_ICMP6: Final = 3
SO_EE_ORIGIN_TIMESTAMPING: Final = 4
SO_EE_ORIGIN_TXSTATUS: Final = 4
SO_EE_ORIGIN_ZEROCOPY: Final = 5
SO_EE_ORIGIN_TXTIME: Final = 6
