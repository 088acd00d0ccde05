"""kernel/fork.c and fs/exec.c: what a new process takes over from the one that makes it, and what it gives up when it becomes
another program.

There is no memory here to copy: a process is its descriptors, credentials, limits, memory cgroup and network namespace.
"""

from __future__ import annotations

from typing import Final

from afinet.fs.file import close_fd_get_file, do_close_on_exec, dup_fd, fput_nowait
from afinet.kernel.task import Cred, Task, capable
from afinet.net.core.net_namespace import copy_net_ns
from afinet.uapi.capability import CAP_SYS_ADMIN
from afinet.uapi.errno import EINVAL, EPERM

CSIGNAL: Final = 0xFF  # the signal that the parent gets when the child ends: nobody here waits for one
CLONE_FILES: Final = 0x400
CLONE_NEWNET: Final = 0x40000000


def copy_process(task: Task, flags: int, comm: str) -> tuple[int, Task | None]:
    """clone(2): (0, the child) or (-errno, None). With CLONE_FILES the child shares the table: what one opens or closes, the other
    sees. Without, it has a table of its own with the same files in it."""
    if flags & ~(CSIGNAL | CLONE_FILES | CLONE_NEWNET):
        return -EINVAL, None
    if flags & CLONE_NEWNET and not capable(task, CAP_SYS_ADMIN):
        return -EPERM, None
    net = copy_net_ns(task.kernel) if flags & CLONE_NEWNET else task.net_ns
    files = task.files if flags & CLONE_FILES else dup_fd(task.files)
    files.count += 1
    old = task.cred
    cred = Cred(old.uid, old.gid, old.groups[:])
    cred.cap_effective = old.cap_effective
    child = Task(task.kernel, net, files, comm, cred)
    child.memcg = task.memcg
    child.rlimit_nofile = task.rlimit_nofile
    return 0, child


def unshare_files(task: Task) -> None:
    """A table of its own, if it is shared."""
    files = task.files
    if files.count > 1:
        task.files = dup_fd(files)
        task.files.count = 1
        files.count -= 1


def begin_new_exec(task: Task, comm: str) -> None:
    """execve(2): another program in the same process. What is marked close-on-exec is closed, in a table of its own."""
    unshare_files(task)
    do_close_on_exec(task.files)
    task.comm = comm


def close_all_but(task: Task, keep: list[int]) -> None:
    """What subprocess does between fork and exec: only `keep` stays open, and is not closed by the exec that follows."""
    files = task.files
    for fd in range(len(files.fd)):
        if fd in keep:
            files.close_on_exec[fd] = False
            continue
        file = close_fd_get_file(files, fd)
        if file is not None:
            fput_nowait(file)
