"""The capture format: what the writer writes, the reader gives back, and tshark, where there is one, reads too."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afinet.tools.pcapng import PcapngWriter, read_pcapng
from afinet.wire import ethernet, ip, udp

frames = st.binary(max_size=200)
times = st.integers(0, 2**63 - 1)


@given(st.lists(st.tuples(st.integers(0, 2), times, st.booleans(), frames), max_size=8))
def test_the_reader_gives_back_what_the_writer_wrote(packets: list[tuple[int, int, bool, bytes]]) -> None:
    file = io.BytesIO()
    writer = PcapngWriter(file)
    names = ["a:eth0", "b:eth0", "c:lo"]
    ids = [writer.interface(name) for name in names]
    for interface, when, outbound, frame in packets:
        writer.packet(ids[interface], when, frame, outbound, comment="x" * (len(frame) % 5))
    got = [(p.interface, p.when, p.outbound, p.frame) for p in read_pcapng(file.getvalue())]
    assert got == [(names[i], when, outbound, frame) for i, when, outbound, frame in packets]


@given(st.binary(max_size=120), st.integers(0, 200))
def test_a_file_that_is_cut_or_damaged_is_refused_by_name(noise: bytes, cut: int) -> None:
    file = io.BytesIO()
    writer = PcapngWriter(file)
    writer.packet(writer.interface("a:eth0"), 1, noise, True)
    data = file.getvalue()
    cut = min(cut, len(data) - 1)
    try:
        list(read_pcapng(data[:cut]))
    except ValueError as e:
        assert "pcapng" in str(e)


def test_tshark_reads_a_capture(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed: the capture is checked by afinet's own reader only")
    path = tmp_path / "one.pcapng"
    payload = b"hello"
    datagram = udp.emit_csum(1000, 2000, 8 + len(payload), 0) + payload
    packet = ip.emit(0, 20 + len(datagram), 1, 0, 64, 17, 0x0A000001, 0x0A000002) + datagram
    with open(path, "wb") as file:
        writer = PcapngWriter(file)
        writer.packet(writer.interface("a:eth0"), 946684800 * 10**9, ethernet.emit(1, 2, 0x0800) + packet, True)
    out = subprocess.run(
        ["tshark", "-r", str(path), "-T", "fields", "-e", "frame.interface_name", "-e", "udp.dstport", "-e", "frame.time_epoch"],
        capture_output=True,
        text=True,
        check=True,
    )
    name, port, when = out.stdout.split()
    assert (name, port) == ("a:eth0", "2000")
    assert when.startswith(("946684800", "2000-01-01"))
