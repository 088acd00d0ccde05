"""Programs that nobody here wrote, as peers: ping, curl, wget, iperf3, ab, wrk, urllib and http.server; on a clean wire, and on one
with 10 ms and 1 % loss each way. What travels is checked by its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wire_real.namespaces import Namespace, finish, require, wait_for_line
from tests.wire_real.wires import AFINET, ROOT, Wire, direct

require()
pytestmark = pytest.mark.wire

BIG, SMALL = 100_000_000, 2_000_000


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"NOT TESTED: {name} is not installed")
    return found


def run(ns: Namespace, *command: str, timeout: float = 100) -> str:
    """A tool's output. What it complains about is the failure's text."""
    process = ns.start([tool(command[0]), *command[1:]])
    try:
        status, out, err = finish(process, timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = (text.decode() for text in process.communicate())
        raise AssertionError(f"{command[0]} does not end; it said {out[-500:]!r} {err[-500:]!r}") from None
    assert status == 0, f"{command[0]}: {err or out}"
    return out


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content(size: int) -> bytes:
    return hashlib.shake_128(b"%d" % size).digest(size)


# -- ping ------------------------------------------------------------------------------------------------------------------


def test_pings(wire: Wire) -> None:
    wait_for_line(wire.up("python", "-c", "print('ready', flush=True); input()", stdin=subprocess.PIPE), "ready")
    count = 20
    command = [tool("ping"), "-c", f"{count}", "-i", "0.05", "-W", "2", "-s", "1000", AFINET]
    _, out, _ = finish(wire.peer.start(command))
    found = re.search(r"(\d+) received", out)
    assert found and "duplicates" not in out
    assert count - 6 * wire.lossy <= int(found[1]) <= count


def test_a_ping_flood_is_answered_to_the_last(tmp_path: Path) -> None:
    with direct() as wire:
        wait_for_line(wire.up("python", "-c", "print('ready', flush=True); input()", stdin=subprocess.PIPE), "ready")
        assert " 3000 received, 0% packet loss" in run(wire.peer, "ping", "-f", "-q", "-c", "3000", AFINET)
        # A hundred on their way at once, and fragments.
        assert " 2000 received, 0% packet loss" in run(wire.peer, "ping", "-f", "-q", "-l", "100", "-c", "2000", AFINET)
        assert " 500 received, 0% packet loss" in run(wire.peer, "ping", "-f", "-q", "-s", "9000", "-c", "500", AFINET)


# -- HTTP ------------------------------------------------------------------------------------------------------------------

HTTP_SERVER = """
import hashlib, sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_PUT(self):
        left = int(self.headers["Content-Length"])
        digest = hashlib.sha256()
        while left:
            data = self.rfile.read(min(left, 1 << 16))
            assert data
            digest.update(data)
            left -= len(data)
        answer = digest.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    do_POST = do_PUT
    def log_message(self, *args):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 512

with Server(("", 80), Handler) as server:
    print("ready", flush=True)
    server.serve_forever()
"""


@pytest.fixture
def files(wire: Wire, tmp_path: Path) -> Path:
    """A directory with `file` in it, 100 MB where nothing is lost."""
    (tmp_path / "file").write_bytes(content(SMALL if wire.lossy else BIG))
    (tmp_path / "little").write_bytes(content(3000))
    return tmp_path


def serve(wire: Wire, directory: Path) -> str:
    """The server on afinet. Its URL."""
    (directory / "server.py").write_text(HTTP_SERVER)
    wait_for_line(wire.up("python", "server.py", cwd=directory), "ready")
    return f"http://{AFINET}"


def test_curl_fetches_from_afinet(wire: Wire, files: Path) -> None:
    url = serve(wire, files)
    run(wire.peer, "curl", "-sS", "-o", f"{files}/got", f"{url}/file")
    assert sha256((files / "got").read_bytes()) == sha256((files / "file").read_bytes())


@pytest.mark.parametrize("how", ["PUT", "POST"])
def test_curl_uploads_to_afinet(wire: Wire, files: Path, how: str) -> None:
    url = serve(wire, files)
    data = ["-T", f"{files}/file"] if how == "PUT" else ["--data-binary", f"@{files}/file"]
    assert run(wire.peer, "curl", "-sS", *data, f"{url}/x") == sha256((files / "file").read_bytes())


def test_wget_fetches_from_afinet(wire: Wire, files: Path) -> None:
    url = serve(wire, files)
    run(wire.peer, "wget", "-q", "-O", f"{files}/got", f"{url}/file")
    assert sha256((files / "got").read_bytes()) == sha256((files / "file").read_bytes())


def test_urllib_on_afinet_fetches_from_the_kernel_and_uploads_to_it(wire: Wire, files: Path) -> None:
    (files / "server.py").write_text(HTTP_SERVER)
    wait_for_line(wire.peer.start([sys.executable, "server.py"], cwd=files), "ready")
    text = f"""
import hashlib, urllib.request
with urllib.request.urlopen("http://{wire.address}/file") as response:
    data = response.read()
print(hashlib.sha256(data).hexdigest())
with urllib.request.urlopen(urllib.request.Request("http://{wire.address}/x", data, method="POST")) as response:
    print(response.read().decode())
"""
    digest = sha256((files / "file").read_bytes())
    assert finish(wire.up("python", "-c", text), 100) == (0, f"{digest}\n{digest}\n", "")


def test_ab_with_200_connections_at_once(wire: Wire, files: Path) -> None:
    url = serve(wire, files)
    count = 400 if wire.lossy else 2000
    out = run(wire.peer, "ab", "-q", "-n", f"{count}", "-c", "200", "-s", "60", f"{url}/little")
    assert re.search(rf"Complete requests:\s+{count}\n", out) and re.search(r"Failed requests:\s+0\n", out), out
    assert re.search(rf"HTML transferred:\s+{count * 3000} bytes", out), out


def test_wrk_with_200_connections_at_once(wire: Wire, files: Path) -> None:
    """Many requests on each, unlike ab."""
    url = serve(wire, files)
    out = run(wire.peer, "wrk", "-t", "1", "-c", "200", "-d", "3", "--timeout", "30", f"{url}/little")
    assert "Socket errors" not in out and "Non-2xx" not in out, out
    found = re.search(r"(\d+) requests in", out)
    assert found and int(found[1]) > 200, out


# -- iperf3 ----------------------------------------------------------------------------------------------------------------

IPERF3 = {
    "in": [],
    "out": ["-R"],
    "both ways": ["--bidir"],
    "four streams in": ["-P", "4"],
    "four streams out": ["-P", "4", "-R"],
    "datagrams in": ["-u", "-b", "5M", "-l", "1200"],
    "datagrams out": ["-u", "-b", "5M", "-l", "1200", "-R"],
}
IPERF3_SERVER = f"{ROOT}/examples/iperf3_server.py"


def check_iperf3(out: str, options: list[str]) -> None:
    report = json.loads(out)
    assert "error" not in report
    end = report["end"]
    assert len(end["streams"]) == (4 if "-P" in options else 2 if "--bidir" in options else 1)
    if "-u" in options:
        assert end["sum"]["packets"] > 150 and end["sum"]["lost_percent"] < 10
        return
    for key in ("sum_sent", "sum_received"):
        assert end[key]["bytes"] > 100_000, key
    for stream in end["streams"]:
        assert stream["sender"]["bytes"] > 0 and stream["receiver"]["bytes"] > 0


@pytest.mark.parametrize("what", IPERF3)
def test_iperf3_with_the_example_server(wire: Wire, what: str) -> None:
    options = IPERF3[what]
    server = wire.up("python", IPERF3_SERVER, "-1")
    wait_for_line(server, "ready")
    check_iperf3(run(wire.peer, "iperf3", "-c", AFINET, "-J", "-t", "1", *options), options)
    status, out, err = finish(server)
    assert (status, err) == (0, "") and f"{wire.address}: " in out


def test_iperf3_for_an_amount_and_after_a_warming_up(wire: Wire) -> None:
    wait_for_line(wire.up("python", IPERF3_SERVER), "ready")
    report = json.loads(run(wire.peer, "iperf3", "-c", AFINET, "-J", "-n", "1M"))
    # What had not arrived when the client said that it was done is not counted: so does iperf3's own server.
    assert report["end"]["sum_sent"]["bytes"] >= 1 << 20 and report["end"]["sum_received"]["bytes"] > 0
    report = json.loads(run(wire.peer, "iperf3", "-c", AFINET, "-J", "-t", "1", "-O", "1", "-R"))
    assert report["end"]["sum_received"]["bytes"] > 0


@pytest.mark.parametrize("what", IPERF3)
def test_the_example_server_is_an_ordinary_program_and_runs_on_the_kernel(what: str) -> None:
    options = IPERF3[what]
    with direct() as wire:
        server = wire.peer.start([sys.executable, IPERF3_SERVER, "-1"])
        wait_for_line(server, "ready")
        check_iperf3(run(wire.peer, "iperf3", "-c", "127.0.0.1", "-J", "-t", "1", *options), options)
        assert finish(server)[::2] == (0, "")
