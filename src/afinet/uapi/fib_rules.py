"""include/uapi/linux/fib_rules.h: the actions and flags of policy routing rules."""

from typing import Final

FIB_RULE_PERMANENT: Final = 0x01
FIB_RULE_INVERT: Final = 0x02
FIB_RULE_UNRESOLVED: Final = 0x04
FIB_RULE_IIF_DETACHED: Final = 0x08
FIB_RULE_OIF_DETACHED: Final = 0x10

FR_ACT_UNSPEC: Final = 0
FR_ACT_TO_TBL: Final = 1  # look up in the rule's table
FR_ACT_GOTO: Final = 2  # go on with another rule
FR_ACT_NOP: Final = 3
FR_ACT_BLACKHOLE: Final = 6  # drop without a word
FR_ACT_UNREACHABLE: Final = 7  # -ENETUNREACH
FR_ACT_PROHIBIT: Final = 8  # -EACCES
