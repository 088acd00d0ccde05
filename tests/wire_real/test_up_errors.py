"""What `afinet up` says when something is not as it should be: one line that names the remedy. And that existing devices attach,
whatever flags they were made with."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from afinet.tools.pcapng import read_pcapng
from tests.wire_real.namespaces import HOME, Namespace, finish, require, wait_for_line

require()
pytestmark = pytest.mark.wire

KERNEL, AFINET = "10.9.0.1", "10.9.0.2"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
PASS = ["--", "python", "-c", "pass"]
ECHO = """
import socket
s = socket.create_server(("", 7))
print("ready", flush=True)
c, _ = s.accept()
c.sendall(c.recv(100)[::-1])
"""


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    ns = Namespace()
    yield ns
    ns.close()


def refused(ns: Namespace, *arguments: str, prefix: tuple[str, ...] = ()) -> str:
    """The one line."""
    with ns.inside():
        process = subprocess.run(
            [*prefix, sys.executable, "-m", "afinet", "up", *arguments], env=dict(os.environ, PYTHONPATH=HOME), capture_output=True,
            text=True, timeout=30,
        )  # fmt: skip
    assert process.returncode == 1 and process.stdout == ""
    assert process.stderr.startswith("Error: ") and process.stderr.count("\n") == 1, process.stderr
    return process.stderr


def answers(ns: Namespace, *arguments: str) -> None:
    """A program on the device is reached from the namespace."""
    process = ns.up(*arguments, "--", "python", "-c", ECHO)
    wait_for_line(process, "ready")
    with ns.inside():
        s = socket.create_connection((AFINET, 7), 10)
    with s:
        s.settimeout(10)
        s.sendall(b"hello")
        assert s.recv(100) == b"olleh"
    assert finish(process)[::2] == (0, "")


def python_for_all() -> tuple[list[str], dict[str, str]]:
    """(an interpreter that everybody may execute, with an environment in which it finds what this one does)."""
    path = os.pathsep.join([HOME, *(entry for entry in sys.path if entry.endswith("-packages"))])
    environment = dict(os.environ, PYTHONPATH=path, AFINET_PURE="1", PYTHONDONTWRITEBYTECODE="1")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        # A shell between: what setpriv itself executes, it does with root's rights still.
        trial = [*NOBODY, "sh", "-c", f"{candidate} -c 'import click, afinet'"]
        found = subprocess.run(trial, env=environment, cwd="/", capture_output=True)
        if found.returncode == 0:
            return [*NOBODY, candidate], environment
    pytest.skip("no Python here that an ordinary user may execute")


def device_for_all(path: Path) -> tuple[str, ...]:
    """What makes /dev/net/tun one that everybody may open, in a mount namespace of its own."""
    node = path / "tun"
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(10, 200))
    node.chmod(0o666)
    return ("unshare", "-m", "sh", "-c", f'mount --bind {node} /dev/net/tun && exec "$@"', "sh")


# -- rights ----------------------------------------------------------------------------------------------------------------


def test_no_right_to_open_the_device(namespace: Namespace) -> None:
    if os.stat("/dev/net/tun").st_mode & 0o006:
        pytest.skip("everybody may open /dev/net/tun here")
    line = refused(namespace, "--tun", "afi0", "--address", "10.9.0.2/24", *PASS, prefix=tuple(NOBODY))
    assert line == "Error: no right to open /dev/net/tun: run as root, or have root allow it (chmod 666 /dev/net/tun)\n"


def test_no_right_to_make_a_device(namespace: Namespace, tmp_path: Path) -> None:
    line = refused(namespace, "--tun", "afi0", "--address", "10.9.0.2/24", *PASS, prefix=(*device_for_all(tmp_path), *NOBODY))
    assert "no right to make a TUN device: run as root, or inside `unshare -Urn`, or have root make it" in line


def test_no_right_to_attach(namespace: Namespace, tmp_path: Path) -> None:
    namespace.run("ip", "tuntap", "add", "afi7", "mode", "tun", "user", "1")
    namespace.run("ip", "link", "set", "afi7", "up")
    line = refused(namespace, "--tun", "afi7", "--address", "10.9.0.2/24", *PASS, prefix=(*device_for_all(tmp_path), *NOBODY))
    assert "no right to attach to afi7: run as root, or as the user it was made for" in line


def test_an_ordinary_user_attaches_to_a_device_that_was_made_for_him(namespace: Namespace, tmp_path: Path) -> None:
    namespace.run("ip", "tuntap", "add", "afi7", "mode", "tun", "user", "65534")
    namespace.run("ip", "addr", "add", f"{KERNEL}/24", "dev", "afi7")
    namespace.run("ip", "link", "set", "afi7", "up")
    python, environment = python_for_all()
    command = [*device_for_all(tmp_path), *python, "-m", "afinet", "up", "--tun", "afi7", "--address", f"{AFINET}/24"]
    with namespace.inside():
        process = subprocess.Popen(
            [*command, "--", "python", "-c", ECHO], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
        )
    namespace.processes.append(process)
    wait_for_line(process, "ready")
    with namespace.inside(), socket.create_connection((AFINET, 7), 10) as s:
        s.sendall(b"x")
        assert s.recv(9) == b"x"
    assert finish(process)[::2] == (0, "")


def test_an_ordinary_user_inside_unshare(namespace: Namespace, tmp_path: Path) -> None:
    """`unshare -Urn`: root of a namespace of his own, where he makes the device and talks to the kernel over it."""
    script = tmp_path / "both.py"
    script.write_text(
        "import socket, subprocess, sys\n"
        "s = socket.create_server(('', 7))\n"
        "code = 'import socket; s = socket.create_connection((\"10.9.0.2\", 7), 5); print(s.recv(9).decode())'\n"
        "child = subprocess.Popen([sys.executable, '-c', code])\n"
        "c, _ = s.accept()\n"
        "c.sendall(b'hello')\n"
        "c.close()\n"
        "sys.exit(child.wait())\n"
    )
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    python, environment = python_for_all()
    command = [*device_for_all(tmp_path), *NOBODY, "unshare", "-Urn", python[-1], "-m", "afinet", "up"]
    with namespace.inside():
        process = subprocess.run(
            [*command, "--tun", "afi0", "--address", "10.9.0.2/24", "--", str(script)],
            env=environment, capture_output=True, text=True, timeout=30, cwd="/",
        )  # fmt: skip
    assert (process.returncode, process.stdout, process.stderr) == (0, "hello\n", "")


# -- names, kinds, addresses -----------------------------------------------------------------------------------------------


def test_a_name_in_use(namespace: Namespace) -> None:
    process = namespace.up("--tun", "afi0", "--address", "10.9.0.2/24", "--", "python", "-c", "print('ready', flush=True); input()",
                           stdin=subprocess.PIPE)  # fmt: skip
    wait_for_line(process, "ready")
    line = refused(namespace, "--tun", "afi0", "--address", "10.9.0.3/24", *PASS)
    assert line == "Error: afi0 is in use by another program: one at a time can be attached to it\n"


def test_a_queue_of_a_device_that_has_another(namespace: Namespace) -> None:
    namespace.run("ip", "tuntap", "add", "afi7", "mode", "tun", "multi_queue")
    namespace.run("ip", "link", "set", "afi7", "up")
    process = namespace.up("--tun", "afi7", "--address", "10.9.0.2/24", "--", "python", "-c", "print('ready', flush=True); input()",
                           stdin=subprocess.PIPE)  # fmt: skip
    wait_for_line(process, "ready")
    line = refused(namespace, "--tun", "afi7", "--address", "10.9.0.3/24", *PASS)
    assert "afi7 is in use by another program, which would get some of the packets" in line


@pytest.mark.parametrize(
    "mode, options, expected",
    [
        ("tap", [], "afi7 is a TAP device: give --tap, or choose another name"),
        ("tun", ["--tap"], "afi7 is a TUN device: leave --tap out, or choose another name"),
    ],
)
def test_the_wrong_kind(namespace: Namespace, mode: str, options: list[str], expected: str) -> None:
    namespace.run("ip", "tuntap", "add", "afi7", "mode", mode)
    assert expected in refused(namespace, "--tun", "afi7", *options, "--address", "10.9.0.2/24", *PASS)


@pytest.mark.parametrize("kind", ["bridge", "veth"])
def test_no_such_device_at_all(namespace: Namespace, kind: str) -> None:
    namespace.run("ip", "link", "add", "afi7", "type", kind)
    line = refused(namespace, "--tun", "afi7", "--address", "10.9.0.2/24", *PASS)
    assert "afi7 is a device of another kind, no TUN device: choose another name" in line


def test_an_address_that_the_host_has(namespace: Namespace) -> None:
    namespace.run("ip", "tuntap", "add", "afi7", "mode", "tun")
    namespace.run("ip", "addr", "add", "10.9.0.1/24", "dev", "afi7")
    namespace.run("ip", "addr", "add", "10.7.0.1/24", "dev", "lo")
    namespace.run("ip", "link", "set", "afi7", "up")
    for name, address in (("afi7", "10.9.0.1/24"), ("afi0", "10.7.0.1/24"), ("afi7", "127.0.0.1/8")):
        line = refused(namespace, "--tun", name, "--address", address, *PASS)
        assert "is an address of this host already: choose another one of its subnet" in line
    # A free address of a subnet that is another device's is the user's to choose: a new device gets the first address of it.
    assert "File exists" not in refused(namespace, "--tun", "afi7", "--address", "10.9.0.9/24", "--gateway", "10.8.0.1", *PASS)


def test_a_device_that_is_down(namespace: Namespace) -> None:
    namespace.run("ip", "tuntap", "add", "afi7", "mode", "tun")
    assert "afi7 is down: ip link set afi7 up" in refused(namespace, "--tun", "afi7", "--address", "10.9.0.2/24", *PASS)


def test_more_than_the_devices_mtu(namespace: Namespace) -> None:
    namespace.run("ip", "tuntap", "add", "afi7", "mode", "tun")
    namespace.run("ip", "link", "set", "afi7", "up")
    line = refused(namespace, "--tun", "afi7", "--mtu", "9000", "--address", "10.9.0.2/24", *PASS)
    assert "the MTU of afi7 is 1500: ip link set afi7 mtu 9000, or give --mtu 1500" in line


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--mtu", "60"], "--mtu 60: from 68 to 65535"),
        (["--route", "10.1.0.0/16 by 10.9.0.1"], "write it like '10.1.0.0/16 via 10.0.0.1'"),
        (["--route", "10.1.2.3/16 via 10.9.0.1"], "write 10.1.0.0/16"),
        (["--route", "10.1.0.0/16 via 10.8.0.1"], "via 10.8.0.1: is that a neighbour's address?"),
        (["--gateway", "10.8.0.1"], "via 10.8.0.1: is that a neighbour's address?"),
        (["--gateway", "here"], "is not an IPv4 address"),
        (["--pcap", "/nowhere/x.pcapng"], "--pcap /nowhere/x.pcapng: No such file or directory"),
    ],
)
def test_mistakes_in_the_options(namespace: Namespace, arguments: list[str], expected: str) -> None:
    assert expected in refused(namespace, "--tun", "afi0", "--address", "10.9.0.2/24", *arguments, *PASS)


# -- what works ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["tun", "tap"])
@pytest.mark.parametrize("flags", [[], ["pi"], ["vnet_hdr"], ["multi_queue"], ["pi", "vnet_hdr", "multi_queue"]])
def test_an_existing_device_attaches_whatever_flags_it_was_made_with(namespace: Namespace, mode: str, flags: list[str]) -> None:
    namespace.run("ip", "tuntap", "add", "afi7", "mode", mode, *flags)
    namespace.run("ip", "addr", "add", f"{KERNEL}/24", "dev", "afi7")
    namespace.run("ip", "link", "set", "afi7", "up")
    answers(namespace, "--tun", "afi7", "--address", f"{AFINET}/24", *(["--tap"] if mode == "tap" else []))


def test_a_smaller_mtu_is_kept(namespace: Namespace) -> None:
    process = namespace.up("--tun", "afi0", "--mtu", "1200", "--address", f"{AFINET}/24", "--", "python", "-c", ECHO)
    wait_for_line(process, "ready")
    assert "mtu 1200" in namespace.run("ip", "link", "show", "afi0")
    with namespace.inside(), socket.create_connection((AFINET, 7), 10) as s:
        assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) == 1200 - 40 - 12
        s.sendall(b"x")
        assert s.recv(1) == b"x"


def test_routes_and_a_gateway(namespace: Namespace) -> None:
    """The program reaches an address behind the host by a route, and another by the gateway."""
    namespace.run("ip", "addr", "add", "10.1.0.1/32", "dev", "lo")
    namespace.run("ip", "addr", "add", "10.2.0.1/32", "dev", "lo")
    with namespace.inside():
        listener = socket.create_server(("0.0.0.0", 9))
    text = 'import socket\nfor ip in ("10.1.0.1", "10.2.0.1"):\n    socket.create_connection((ip, 9), 5).sendall(ip.encode())'
    for options in (["--route", "10.1.0.0/16 via 10.9.0.1", "--route", "10.2.0.0/16 via 10.9.0.1"], ["--gateway", "10.9.0.1"]):
        with namespace.inside():
            process = namespace.up("--tun", "afi0", "--address", f"{AFINET}/24", *options, "--", "python", "-c", text)
        listener.settimeout(10)
        for ip in ("10.1.0.1", "10.2.0.1"):
            c, _ = listener.accept()
            with c:
                assert c.recv(100) == ip.encode()
        assert finish(process) == (0, "", "")
    listener.close()


def test_a_capture_on_standard_output_leaves_the_programs_own_to_the_other(namespace: Namespace) -> None:
    text = 'import socket; print("mine"); socket.create_connection(("10.9.0.1", 9)).sendall(b"hello")'
    with namespace.inside():
        listener = socket.create_server(("0.0.0.0", 9))
    with listener:
        process = namespace.up("--tun", "afi0", "--address", f"{AFINET}/24", "--pcap", "-", "--", "python", "-c", text)
        listener.settimeout(30)
        c, _ = listener.accept()
        with c:
            assert c.recv(100) == b"hello"
            out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, b"mine\n")
    syn = next(p for p in read_pcapng(out) if p.outbound and p.frame[9] == 6)
    assert syn.interface.endswith(":afi0") and syn.frame[33] == 2
