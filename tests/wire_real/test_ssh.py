"""ssh and scp, OpenSSH's clients, against paramiko's server on afinet: what they carry is checked by its SHA-256."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.wire_real.namespaces import finish, require, wait_for_line
from tests.wire_real.wires import AFINET, Wire

require()
pytestmark = pytest.mark.wire

# paramiko's threads, locks and timeouts over the stack; the commands themselves run on the host.
SERVER = """
import socket, subprocess, threading
import paramiko

class Server(paramiko.ServerInterface):
    def get_allowed_auths(self, username):
        return "none"
    def check_auth_none(self, username):
        return paramiko.AUTH_SUCCESSFUL
    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED
    def check_channel_exec_request(self, channel, command):
        threading.Thread(target=execute, args=(channel, command.decode()), daemon=True).start()
        return True

def execute(channel, command):
    process = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    threading.Thread(target=feed, args=(channel, process.stdin), daemon=True).start()
    while data := process.stdout.read(1 << 16):
        channel.sendall(data)
    channel.send_exit_status(process.wait())
    channel.close()

def feed(channel, pipe):
    while data := channel.recv(1 << 16):
        pipe.write(data)
    pipe.close()

key = paramiko.ECDSAKey.generate()
with socket.create_server(("", 22)) as listener:
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        transport = paramiko.Transport(connection)
        transport.add_server_key(key)
        transport.start_server(server=Server())
"""
OPTIONS = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]


def test_ssh_and_scp_both_ways(wire: Wire, tmp_path: Path) -> None:
    for needed in ("ssh", "scp"):
        if shutil.which(needed) is None:
            pytest.skip(f"NOT TESTED: {needed} is not installed")
    if importlib.util.find_spec("paramiko") is None:
        pytest.skip("NOT TESTED: paramiko is not installed")
    size = 1_000_000 if wire.lossy else 10_000_000
    data = hashlib.shake_128(b"ssh").digest(size)
    (tmp_path / "file").write_bytes(data)
    wait_for_line(wire.up("python", "-c", SERVER), "ready")

    def client(*command: str, stdin: int | None = None) -> str:
        status, out, err = finish(wire.peer.start([command[0], *OPTIONS, *command[1:]], stdin=stdin), 100)
        assert status == 0, err
        return out

    assert client("ssh", "-n", f"user@{AFINET}", "echo hello") == "hello\n"
    with (tmp_path / "file").open("rb") as f:
        assert client("ssh", f"user@{AFINET}", "sha256sum", stdin=f.fileno()).split()[0] == hashlib.sha256(data).hexdigest()
    # -O: the protocol in which scp itself runs at the other end.
    client("scp", "-O", str(tmp_path / "file"), f"user@{AFINET}:{tmp_path}/there", stdin=subprocess.DEVNULL)
    client("scp", "-O", f"user@{AFINET}:{tmp_path}/there", str(tmp_path / "back"), stdin=subprocess.DEVNULL)
    assert (tmp_path / "back").read_bytes() == data
