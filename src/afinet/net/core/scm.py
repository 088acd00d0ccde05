"""net/core/scm.c: control messages on their way to the program.

Left out: SCM_RIGHTS and SCM_CREDENTIALS, which belong to AF_UNIX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afinet.uapi.sockaddr import SIZEOF_CMSGHDR, pack_s32, pack_u64
from afinet.uapi.socket import MSG_CTRUNC

if TYPE_CHECKING:
    from afinet.net.socket import MsgHdr


def put_cmsg(msg: MsgHdr, level: int, type: int, data: bytes) -> int:
    """Append a control message; what finds no room is cut, and MSG_CTRUNC says so. 0, as in Linux, either way."""
    room = msg.msg_controllen
    if room < SIZEOF_CMSGHDR:
        msg.msg_flags |= MSG_CTRUNC
        return 0
    cmlen = SIZEOF_CMSGHDR + len(data)
    space = cmlen + (-cmlen & 7)
    if room < cmlen:
        msg.msg_flags |= MSG_CTRUNC
        data = data[: room - SIZEOF_CMSGHDR]
        cmlen = room
    if space > room:
        space = room
    msg.msg_control += pack_u64(cmlen) + pack_s32(level) + pack_s32(type) + data + bytes(space - cmlen)
    msg.msg_controllen = room - space
    return 0
