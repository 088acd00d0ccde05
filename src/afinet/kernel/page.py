"""include/asm/page.h: memory is counted in pages, whatever the host's are."""

from typing import Final

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 1 << PAGE_SHIFT
