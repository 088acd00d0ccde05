"""Machines as small as a test of the runner needs them."""

from __future__ import annotations

from afinet.fs.file import FilesStruct
from afinet.kernel.machine import Kernel
from afinet.kernel.task import Task
from afinet.net.core.net_namespace import Net


def process(kernel: Kernel) -> Task:
    return Task(kernel, Net(kernel), FilesStruct(), "test")
