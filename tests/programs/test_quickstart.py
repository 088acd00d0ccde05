"""The main job: examples/quickstart.py under `afinet run`, as `make demo` runs it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from afinet.tools.pcapng import read_pcapng
from afinet.wire import ip, tcp
from afinet.wire.checksum import csum_partial, csum_tcpudp_magic, ip_fast_csum
from tests.programs.runs import afinet_run

QUICKSTART = Path(__file__).resolve().parents[2] / "examples" / "quickstart.py"


def test_the_quickstart_moves_ten_megabytes_and_tells_what_happened(tmp_path: Path) -> None:
    done = afinet_run(str(QUICKSTART), cwd=tmp_path)
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines() if line[:1].isalpha())
    assert lines["received"] == "10,000,000 bytes, the same as sent"
    assert int(lines["retransmitted"].split()[0]) > 20  # one packet of a hundred is lost
    assert "ESTAB" in done.stdout and "cwnd:" in done.stdout
    data = (tmp_path / "quickstart.pcapng").read_bytes()

    payload = 0
    for packet in read_pcapng(data):
        frame = packet.frame
        if frame[12:14] != b"\x08\x00":
            continue
        version_ihl, _, tot_len, _, _, _, protocol, _, saddr, daddr = ip.parse(frame, 14)
        assert version_ihl == 0x45 and ip_fast_csum(frame, 14, 5) == 0
        assert protocol == 6 and tot_len == len(frame) - 14
        doff = tcp.parse(frame, 34)[4] >> 12
        assert csum_tcpudp_magic(saddr, daddr, tot_len - 20, 6, csum_partial(frame, 34, len(frame), 0)) == 0
        if not packet.outbound:
            payload += tot_len - 20 - 4 * doff
    assert payload >= 10_000_000

    afinet_run(str(QUICKSTART), cwd=tmp_path)
    again = (tmp_path / "quickstart.pcapng").read_bytes()
    assert hashlib.sha256(again).digest() == hashlib.sha256(data).digest()
