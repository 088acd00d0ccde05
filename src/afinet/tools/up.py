"""`afinet up`: a Python program whose IPv4 sockets are those of an afinet machine on a TUN or TAP device of the host.

`launch` is the command's side. It attaches to the device or makes one, gives a new one an address of its own and brings it up
(pyroute2), and becomes, by exec, a Python in which the stand-ins are there before anything is imported; the device's descriptor
stays open meanwhile. `main` is that process: it boots the machine, configures it, and runs the program by runpy. At the end, after
the last thread and atexit function, the stack lingers until what was sent is acknowledged.
"""

from __future__ import annotations

import marshal
import os
import sys
from typing import Any, NoReturn

from afinet.kernel.time import NSEC_PER_SEC

BOOT = (
    "import marshal, os, sys; request = marshal.loads(bytes.fromhex(os.environ.pop('AFINET_UP'))); "
    "sys.path[:] = request['path']; from afinet.tools.up import main; main(request)"
)


# How long (ns) an ended program's data may wait for its acknowledgement before the user is told.
PATIENCE = 2 * NSEC_PER_SEC


class UpError(Exception):
    """What cannot be. One line, which names the remedy."""


# -- the command's side ----------------------------------------------------------------------------------------------------


def launch(
    name: str,
    address: str,
    command: list[str],
    tap: bool = False,
    mtu: int | None = None,
    routes: tuple[str, ...] = (),
    gateway: str | None = None,
    pcap: str | None = None,
    offload: bool = True,
) -> int:
    """Replace this process by one that runs `command` on the device. Returns only by an exception, UpError or HostError."""
    import subprocess

    from afinet.runner import hostio
    from afinet.sim.units import UsageError, parse_address, parse_route

    if sys.platform != "linux":
        raise UpError(f"TUN and TAP devices are Linux's: on {sys.platform} see afinet.aio.Machine(io=QueueIO())")
    options, program = python_command(command)
    try:
        local, plen = parse_address(address, "--address")
        parsed_routes = [parse_route(r, "--route") for r in routes]
        via = parse_address(gateway, "--gateway")[0] if gateway else 0
    except UsageError as e:
        raise UpError(str(e)) from None
    if "/" not in address:
        raise UpError(f"--address {address}: write it with the length of its prefix, like {address}/24")
    if mtu is not None and not 68 <= mtu <= 65535:
        raise UpError(f"--mtu {mtu}: from 68 to 65535")
    if pcap not in (None, "-"):
        _check_writable(pcap)
    io = hostio.open_for(name, tap, local, plen, via, mtu)
    request = {
        "path": search_path(program),
        "fd": io.fd,
        "address": (local, plen),
        "mtu": mtu if mtu is not None else io.mtu(),
        "routes": parsed_routes,
        "gateway": via,
        "pcap": pcap,
        "offload": offload,
        "program": program,
    }
    os.set_inheritable(io.fd, True)
    environment = dict(os.environ)
    environment["AFINET_UP"] = marshal.dumps(request).hex()
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *flags, *options, "-S", "-c", BOOT], environment)


def python_command(command: list[str]) -> tuple[list[str], list[str]]:
    """(options for the interpreter; ["-m", module, ...], ["-c", text, ...] or [script, ...]) of a command that is Python's."""
    if not command:
        raise UpError("no COMMAND: afinet up --tun NAME --address A/P -- python -m http.server")
    first = command[0]
    stem = os.path.basename(first)
    if stem == "python" or (stem.startswith("python") and stem[6:].replace(".", "").isdigit()):
        rest = command[1:]
        options: list[str] = []
        while rest and rest[0] in ("-u", "-B", "-O", "-OO", "-q"):
            options.append(rest[0])
            rest = rest[1:]
        if not rest:
            raise UpError("no program after python: give a script, -m MODULE or -c TEXT")
        if rest[0] in ("-m", "-c"):
            if len(rest) < 2:
                raise UpError(f"nothing after {rest[0]}")
            return options, rest
        if rest[0].startswith("-"):
            raise UpError(f"python's option {rest[0]}: only -m, -c, -u, -B, -O and -q can be given here")
        return options, _script(rest)
    if first.endswith(".py"):
        return [], _script(command)
    if os.path.isfile(first) and _is_python_script(first):
        return [], command
    raise UpError(f"{first} is not Python: `afinet exec -- {' '.join(command)}` runs any program in a namespace of its own")


def _script(command: list[str]) -> list[str]:
    if not os.path.exists(command[0]):
        raise UpError(f"{command[0]}: no such file")
    return command


def _is_python_script(path: str) -> bool:
    try:
        with open(path, "rb") as f:
            line = f.readline(200)
    except OSError:
        return False
    return line.startswith(b"#!") and b"python" in line


def _check_writable(path: str) -> None:
    try:
        open(path, "ab").close()
    except OSError as e:
        raise UpError(f"--pcap {path}: {e.strerror}: give a file that can be written, or - for standard output") from None


def search_path(program: list[str]) -> list[str]:
    """sys.path for the program: as Python makes it, and this package wherever it is."""
    import afinet

    first = "" if program[0] == "-c" else os.getcwd() if program[0] == "-m" else os.path.dirname(os.path.abspath(program[0]))
    path = [first, *(entry for entry in sys.path[0 if getattr(sys.flags, "safe_path", False) else 1 :] if entry)]
    home = os.path.dirname(os.path.dirname(os.path.abspath(afinet.__file__)))
    if home not in path:
        path.append(home)
    return path


# -- the program's process -------------------------------------------------------------------------------------------------


def main(request: dict[str, Any]) -> None:
    from afinet.runner.linger import LINGER_LIMIT
    from afinet.runner.threaded import ThreadedRunner
    from afinet.stdlib.realtime import end_by_signal, install_realtime

    kernel, dev = start(request)
    runner = ThreadedRunner(kernel)
    capture = None
    if request["pcap"]:
        from afinet.tools.pcapng import PcapngTap, PcapngWriter

        to_stdout = request["pcap"] == "-"
        # Unbuffered to a pipe: whoever reads it wants to see each packet.
        capture = os.fdopen(os.dup(1), "wb", 0) if to_stdout else open(request["pcap"], "wb")  # noqa: SIM115
        if to_stdout:
            os.dup2(2, 1)  # the program's own output would be in the way
        PcapngTap(PcapngWriter(capture), kernel, without=("lo",), whole=True)
    assert kernel.init_task is not None
    install_realtime(runner, kernel.init_task)
    runner.attach(dev)

    import atexit
    import gc
    import signal

    pid = os.getpid()

    def end() -> None:
        # Registered first, called last: no thread of the program is left.
        task = kernel.init_task
        if os.getpid() != pid or task is None or task.exiting:
            return
        runner.exit(task)
        try:
            done = runner.linger(PATIENCE)
            if not done:
                print("afinet up: waiting until the peer has acknowledged what was sent (Ctrl-C gives up)", file=sys.stderr)
                done = runner.linger()
            if not done:
                print(f"afinet up: it has not, in {LINGER_LIMIT // NSEC_PER_SEC} s", file=sys.stderr)
        except KeyboardInterrupt:
            pass
        runner.stop()
        if capture is not None:
            capture.close()

    atexit.register(end)
    for number in (signal.SIGTERM, signal.SIGHUP):
        end_by_signal(runner, end, number)
    import site

    site.main()
    runner.start()
    sys.excepthook = excepthook
    # What has been made so far, the machine and the modules, lives as long as the process: no later collection looks at it again.
    gc.collect()
    gc.freeze()
    run_program(request["program"])


def start(request: dict[str, Any]) -> tuple[Any, Any]:
    """(Kernel, device): the machine, its address and its routes."""
    import resource

    from afinet.net.core.netdevice import NETIF_F_HW_CSUM, NETIF_F_RXCSUM
    from afinet.runner import hostio
    from afinet.runner.boot import SetUpError, boot, configure, plug

    io = hostio.adopt_tun(request["fd"], request["offload"])
    routes = list(request["routes"])
    if request["gateway"]:
        routes.append((0, 0, request["gateway"]))
    kernel, net = boot()
    assert kernel.init_task is not None
    kernel.init_task.rlimit_nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        dev = plug(net, io.name, io, io.tap, request["mtu"], io.vnet_hdr_sz, io.tso, io.uso)
        if not request["offload"]:
            dev.features &= ~(NETIF_F_HW_CSUM | NETIF_F_RXCSUM)  # ethtool -K: tx off, rx off; tso is by what the host was told
        configure(dev, request["address"][0], request["address"][1], routes)
    except SetUpError as e:
        _fail(str(e))
    return kernel, dev


def _fail(text: str) -> NoReturn:
    print(f"Error: {text}", file=sys.stderr)
    sys.exit(1)


def excepthook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """The interpreter's, with the traceback from the program's own first frame on."""
    at = trace
    while at is not None and at.tb_frame.f_code is not run_program.__code__:
        at = at.tb_next
    while at is not None and (at.tb_frame.f_code is run_program.__code__ or "runpy" in at.tb_frame.f_code.co_filename):
        at = at.tb_next
    sys.__excepthook__(kind, error.with_traceback(at or trace), at or trace)


def run_program(program: list[str]) -> None:
    import runpy

    if program[0] == "-m":
        sys.argv = ["-m", *program[2:]]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    elif program[0] == "-c":
        from types import ModuleType

        sys.argv = ["-c", *program[2:]]
        module = ModuleType("__main__")
        module.__builtins__ = __builtins__  # type: ignore[attr-defined]
        sys.modules["__main__"] = module
        exec(compile(program[1], "<string>", "exec"), module.__dict__)
    else:
        sys.argv = list(program)
        runpy.run_path(program[0], run_name="__main__")
