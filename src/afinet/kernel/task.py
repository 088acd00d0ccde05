"""struct task_struct and struct cred: a process as the stack sees it. Its system calls are in init/syscalls.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from afinet.uapi.capability import CAP_LAST_CAP

if TYPE_CHECKING:
    from afinet.fs.file import FilesStruct
    from afinet.kernel.machine import Kernel
    from afinet.kernel.memcontrol import MemCgroup
    from afinet.net.core.net_namespace import Net

CAP_FULL_SET: Final = (1 << (CAP_LAST_CAP + 1)) - 1


class Cred:
    """struct cred."""

    __slots__ = ("cap_effective", "gid", "groups", "uid")

    def __init__(self, uid: int = 0, gid: int = 0, groups: list[int] | None = None, cap_effective: int = CAP_FULL_SET) -> None:
        self.uid: int = uid
        self.gid: int = gid
        self.groups: list[int] = groups if groups is not None else []
        self.cap_effective: int = cap_effective if uid == 0 or cap_effective != CAP_FULL_SET else 0


class Task:
    """A process: identity, credentials, namespace, descriptors."""

    __slots__ = ("comm", "cred", "exiting", "files", "kernel", "memcg", "net_ns", "pid", "rlimit_nofile", "sigpipe")

    def __init__(self, kernel: Kernel, net: Net, files: FilesStruct, comm: str = "init", cred: Cred | None = None) -> None:
        self.kernel: Kernel = kernel
        self.net_ns: Net = net
        kernel.pid_seq += 1
        self.pid: int = kernel.pid_seq
        self.comm: str = comm
        self.cred: Cred = cred if cred is not None else Cred()
        self.files: FilesStruct = files
        self.memcg: MemCgroup | None = None  # the group that the memory of its socks is charged to
        self.rlimit_nofile: int = 1024
        self.sigpipe: int = 0  # SIGPIPEs that were raised (a runner may deliver them; Python ignores SIGPIPE)
        self.exiting: bool = False
        kernel.tasks[self.pid] = self


def capable(task: Task, cap: int) -> bool:
    """ns_capable: whether `task` has CAP_* number `cap`."""
    return task.cred.cap_effective >> cap & 1 == 1


def ns_capable(kernel: Kernel, cap: int) -> bool:
    """Whether whoever is calling has CAP_* number `cap`. Outside system calls the kernel itself acts, and may."""
    task = kernel.current
    return task is None or task.cred.cap_effective >> cap & 1 == 1


def in_egroup(cred: Cred, low: int, high: int) -> bool:
    """Whether one of the credential's groups lies in [low, high]."""
    if low <= cred.gid <= high:
        return True
    for group in cred.groups:
        if low <= group <= high:
            return True
    return False
