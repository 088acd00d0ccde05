"""Units of time: every clock value in the stack is an int in nanoseconds (include/linux/time64.h, jiffies.h)."""

from typing import Final

NSEC_PER_USEC: Final = 1_000
NSEC_PER_MSEC: Final = 1_000_000
NSEC_PER_SEC: Final = 1_000_000_000
USEC_PER_MSEC: Final = 1_000
USEC_PER_SEC: Final = 1_000_000

# "For ever", as a timeout or a deadline; fits the small integers of a compiled build.
MAX_SCHEDULE_TIMEOUT: Final = (1 << 61) - 1

# Virtual time starts here: 2000-01-01T00:00:00Z, in nanoseconds since the Unix epoch.
VIRTUAL_EPOCH: Final = 946_684_800 * NSEC_PER_SEC
