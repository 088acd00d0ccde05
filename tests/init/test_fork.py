"""clone and execve: which descriptors a process has, and whose files they are."""

from __future__ import annotations

from afinet.fs.file import fdget
from afinet.init import syscalls
from afinet.init.fork import CLONE_FILES, CLONE_NEWNET
from afinet.init.main import new_task
from afinet.kernel.task import Cred, Task
from afinet.kernel.wait import Kiocb
from afinet.uapi.errno import EBADF, EINVAL, EPERM
from afinet.uapi.sockaddr import pack_sockaddr_in
from tests.leaks import start_kernel


def parent(cred: Cred | None = None) -> Task:
    kernel = start_kernel()
    assert kernel.init_net is not None
    return new_task(kernel, kernel.init_net, "parent", cred)


def clone(task: Task, flags: int = 0) -> Task:
    pid, child = syscalls.sys_clone(task, flags, "child")
    assert child is not None and pid == child.pid
    return child


def test_a_child_has_a_table_of_its_own_with_the_same_files() -> None:
    task = parent()
    fd = syscalls.sys_socket(task, 2, 2, 0)
    child = clone(task)
    assert fdget(child.files, fd) is fdget(task.files, fd)
    assert syscalls.sys_bind(child, fd, pack_sockaddr_in(0, 7)) == 0
    assert syscalls.sys_getsockname(task, fd)[1][:4] == pack_sockaddr_in(0, 7)[:4]  # one socket
    assert syscalls.sys_close(task, Kiocb(), fd) == 0
    assert syscalls.sys_getsockname(child, fd)[0] == 0  # which lives as long as one of them has it
    assert syscalls.sys_socket(task, 2, 2, 0) == fd
    assert syscalls.sys_exit(child) == 0
    assert syscalls.sys_getsockname(task, fd)[0] == 0


def test_with_clone_files_the_table_is_shared_until_the_exec() -> None:
    task = parent()
    child = clone(task, CLONE_FILES)
    fd = syscalls.sys_socket(child, 2, 2, 0)
    assert syscalls.sys_getsockname(task, fd)[0] == 0
    marked = syscalls.sys_socket(task, 2, 2 | 0x80000, 0)
    assert syscalls.sys_execve(child, "program") == 0
    assert child.comm == "program"
    assert syscalls.sys_getsockname(child, marked)[0] == -EBADF
    assert syscalls.sys_getsockname(child, fd)[0] == 0
    assert syscalls.sys_getsockname(task, marked)[0] == 0  # the exec closed in a table of its own
    assert syscalls.sys_close(child, Kiocb(), fd) == 0
    assert syscalls.sys_getsockname(task, fd)[0] == 0
    assert syscalls.sys_exit(task) == 0


def test_the_last_of_those_that_share_closes() -> None:
    task = parent()
    fd = syscalls.sys_socket(task, 2, 2, 0)
    child = clone(task, CLONE_FILES)
    assert syscalls.sys_exit(task) == 0
    assert syscalls.sys_getsockname(child, fd)[0] == 0
    assert syscalls.sys_exit(child) == 0
    assert fdget(child.files, fd) is None


def test_a_child_keeps_credentials_and_may_get_a_namespace_of_its_own() -> None:
    task = parent(Cred(1000, 1000, [5]))
    task.rlimit_nofile = 7
    child = clone(task)
    assert (child.cred.uid, child.cred.groups, child.cred.cap_effective, child.rlimit_nofile) == (1000, [5], 0, 7)
    assert child.net_ns is task.net_ns and child.cred is not task.cred
    assert syscalls.sys_clone(task, CLONE_NEWNET) == (-EPERM, None)
    assert syscalls.sys_clone(task, 0x100) == (-EINVAL, None)
    root = parent()
    assert clone(root, CLONE_NEWNET).net_ns is not root.net_ns
