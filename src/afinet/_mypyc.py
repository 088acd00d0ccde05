"""What source files need of mypy_extensions, without depending on it: `from afinet._mypyc import mypyc_attr, i64`.

mypyc sees the names of mypy_extensions and compiles them away: i64 is a machine word, mypyc_attr tells it how a
class may be used. At run time, in either build, this module is interpreted, and they do nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import i16 as i16
    from mypy_extensions import i32 as i32
    from mypy_extensions import i64 as i64
    from mypy_extensions import mypyc_attr as mypyc_attr
    from mypy_extensions import u8 as u8
else:
    i16 = i32 = i64 = u8 = int

    def mypyc_attr(*attrs, **kwattrs):
        return lambda cls: cls
