"""What source files need of mypy_extensions, without depending on it: `from afinet._mypyc import mypyc_attr, i64`.

mypyc sees the names of mypy_extensions and compiles them away: i64 is a machine word, mypyc_attr tells it how a
class may be used. At run time, in either build, this module is interpreted, and they do nothing.

i16 and i32 make fields small. Compiled, an operation with one of them is computed in that type: an int of the other side is
converted (ValueError if it does not fit), and `<<`, `+` and `*` wrap. So use them for states, flags, ports, indices and small
counts that are compared, tested and stepped, and read one into a local annotated `int` before shifting or multiplying. (There is
u8 in mypyc too: it has no room for `~FLAG`, nor for a mask of states.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import i16 as i16
    from mypy_extensions import i32 as i32
    from mypy_extensions import i64 as i64
    from mypy_extensions import mypyc_attr as mypyc_attr
else:
    i16 = i32 = i64 = int

    def mypyc_attr(*attrs, **kwattrs):
        return lambda cls: cls
