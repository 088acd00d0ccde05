"""The main job: examples/quickstart.py under `afinet run`, as `make demo` runs it, and the capture that it leaves.

    python -m tests.programs.test_quickstart --update     write tests/quickstart.sha256, after packets were meant to change

The hash is that of one version of Python: http.server and urllib send it in their headers.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from afinet.tools.pcapng import read_pcapng
from afinet.wire import tcp
from tests.programs.runs import afinet_run
from tests.tools.frames import check_frame

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart.py"
SHA256 = ROOT / "tests" / "quickstart.sha256"
SIZE = 10_000_000

BAD = "_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0"
UNEXPECTED = "tcp.analysis.ack_lost_segment"  # what was acknowledged, the device must have seen
CHECKS = [arg for layer in ("ip", "tcp", "udp") for arg in ("-o", f"{layer}.check_checksum:TRUE")]


VERSION = f"python-{platform.python_version()}"


def written_down() -> dict[str, str]:
    """The hash for each version of Python."""
    if not SHA256.exists():
        return {}
    return {version: digest for digest, version in map(str.split, SHA256.read_text().splitlines())}


def run(directory: Path) -> tuple[str, bytes]:
    """(what was printed, the capture)"""
    done = afinet_run(str(QUICKSTART), cwd=directory)
    return done.stdout, (directory / "quickstart.pcapng").read_bytes()


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    return run(tmp_path_factory.mktemp("quickstart"))


def test_the_quickstart_moves_ten_megabytes_and_tells_what_happened(quickstart: tuple[str, bytes]) -> None:
    stdout, _ = quickstart
    lines = dict(line.split(None, 1) for line in stdout.splitlines() if line[:1].isalpha())
    assert lines["received"] == "10,000,000 bytes, the same as sent"
    assert int(lines["retransmitted"].split()[0]) > 20  # one packet of a hundred is lost
    assert "ESTAB" in stdout and "cwnd:" in stdout


def test_every_frame_of_its_capture_is_right(quickstart: tuple[str, bytes]) -> None:
    """Lengths and checksums of every layer; time does not run backwards; ten megabytes are in it."""
    _, data = quickstart
    kinds: Counter[str] = Counter()
    payload = 0
    last = 0
    for packet in read_pcapng(data):
        kind = check_frame(packet.frame)
        kinds[kind] += 1
        assert packet.when >= last
        last = packet.when
        if kind == "tcp" and not packet.outbound:
            payload += len(packet.frame) - 34 - 4 * (tcp.parse(packet.frame, 34)[4] >> 12)
    assert payload >= SIZE
    assert kinds["tcp"] > SIZE // 1460 and kinds["arp"] >= 2, kinds


def test_the_same_seed_gives_the_same_capture_to_the_byte(quickstart: tuple[str, bytes], tmp_path: Path) -> None:
    _, data = quickstart
    _, again = run(tmp_path)
    assert hashlib.sha256(again).hexdigest() == hashlib.sha256(data).hexdigest(), "two runs differ"


def test_the_capture_is_the_one_that_is_written_down(quickstart: tuple[str, bytes]) -> None:
    """The same in both builds, and since it was last meant to change."""
    known = written_down()
    if VERSION not in known:
        pytest.skip(f"!! NOT COMPARED: tests/quickstart.sha256 has no line for {VERSION}, only for {', '.join(known)}")
    assert hashlib.sha256(quickstart[1]).hexdigest() == known[VERSION], (
        "if the packets were meant to change: python -m tests.programs.test_quickstart --update"
    )


def test_tshark_finds_nothing_malformed_and_no_bad_checksum(quickstart: tuple[str, bytes], tmp_path: Path) -> None:
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("!! tshark is NOT INSTALLED: the capture of the quickstart is checked by afinet's own reader only")
    _, data = quickstart
    capture = tmp_path / "quickstart.pcapng"
    capture.write_bytes(data)

    def ask(*args: str) -> list[str]:
        done = subprocess.run(
            [tshark, "-r", str(capture), *CHECKS, *args], capture_output=True, text=True, timeout=300, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert ask("-Y", BAD)[:5] == []
    assert ask("-Y", UNEXPECTED)[:5] == []
    # It did look: the checksums that it verified are all there.
    packets = sum(1 for packet in read_pcapng(data) if check_frame(packet.frame) == "tcp")
    assert len(ask("-Y", "ip.checksum.status == 1 && tcp.checksum.status == 1", "-T", "fields", "-e", "frame.number")) == packets


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        digest = hashlib.sha256(run(Path(directory))[1]).hexdigest()
    print(f"{digest}  {VERSION}")
    if "--update" in sys.argv:
        # Those of other versions are of other packets from now on, unless these have not changed.
        known = written_down()
        if known.get(VERSION, digest) != digest:
            known = {}
        known[VERSION] = digest
        SHA256.write_text("".join(f"{known[version]}  {version}\n" for version in sorted(known)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
