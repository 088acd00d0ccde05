"""What runner/hostio.py asks of the host's kernel, and what it makes of a no. The real device: tests/wire_real."""

from __future__ import annotations

import os
from typing import Any

import pytest

from afinet.runner import hostio
from afinet.runner.hostio import TUN_F_CSUM, TUN_F_TSO4, TUN_F_USO4, TUN_F_USO6, TUNSETOFFLOAD, HostTun


class Kernel:
    """Answers ioctl(): knows the offloads `known` and refuses a request that has others, as tun.c does."""

    def __init__(self, known: int) -> None:
        self.known = known
        self.asked: list[int] = []

    def ioctl(self, fd: int, request: int, arg: Any) -> int:
        if request == TUNSETOFFLOAD:
            self.asked.append(arg)
            if arg & ~self.known:
                raise OSError(22, "Invalid argument")
        return 0


@pytest.mark.parametrize(
    "known, tso, uso",
    [
        (0xFF, True, True),
        (0x1F, True, False),  # before 6.2
        (TUN_F_CSUM, False, False),
        (0, False, False),
    ],
)
def test_the_best_that_the_kernel_takes_is_chosen(monkeypatch: pytest.MonkeyPatch, known: int, tso: bool, uso: bool) -> None:
    kernel = Kernel(known)
    monkeypatch.setattr(hostio, "fcntl", kernel)
    fd, other = os.pipe()
    try:
        io = HostTun(fd, "tun0", False)
        assert (io.tso, io.uso) == (tso, uso)
    finally:
        os.close(fd)
        os.close(other)
    # USO for IPv4 alone is no request that a kernel takes.
    assert all(bool(asked & TUN_F_USO4) == bool(asked & TUN_F_USO6) for asked in kernel.asked)
    assert kernel.asked[0] & TUN_F_TSO4


def test_nothing_is_asked_of_a_device_without_offloads(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(0xFF)
    monkeypatch.setattr(hostio, "fcntl", kernel)
    fd, other = os.pipe()
    try:
        io = HostTun(fd, "tun0", False, offload=False)
        assert (io.tso, io.uso) == (False, False) and kernel.asked == [0]
    finally:
        os.close(fd)
        os.close(other)
