"""`afinet run`: a scenario in a process of its own, bootstrapped before anything is imported.

`launch` is the command's side: it starts Python anew, without `site` and with a fixed hash seed. `main` is the new process: first
the stand-ins (stdlib/install.py), then site, then the scenario as `__main__`. This module imports nothing that install.py must
come before.
"""

from __future__ import annotations

import marshal
import os
import sys
from typing import Any

BOOT = (
    "import marshal, os, sys; request = marshal.loads(bytes.fromhex(os.environ.pop('AFINET_RUN'))); "
    "sys.path[:] = request['path']; from afinet.tools.run import main; main(request)"
)


def launch(scenario: str, args: list[str], seed: int | None = None, pcap: str | None = None, as_json: bool = False) -> int:
    """Replace this process by one that runs `scenario`; where that cannot be (Windows), run it and return its exit status."""
    import subprocess

    request = {
        "path": search_path(scenario),
        "scenario": scenario,
        "args": args,
        "seed": seed,
        "pcap": pcap,
        "json": as_json,
    }
    environment = dict(os.environ)
    environment["PYTHONHASHSEED"] = "0"
    environment["TZ"] = "UTC"  # local time is part of what a program sends
    for name in list(environment):
        if name.lower() in ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy"):
            del environment[name]  # the host's proxy is no host of the simulated network
    environment["AFINET_RUN"] = marshal.dumps(request).hex()
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    command = [sys.executable, *flags, "-S", "-c", BOOT]
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":
        return subprocess.run(command, env=environment).returncode
    os.execve(command[0], command, environment)


def search_path(scenario: str) -> list[str]:
    """sys.path for the scenario: its own directory first, as for any script, and this package wherever it is."""
    import afinet

    path = [os.path.dirname(os.path.abspath(scenario))]
    path += [entry for entry in sys.path[0 if getattr(sys.flags, "safe_path", False) else 1 :] if entry]
    home = os.path.dirname(os.path.dirname(os.path.abspath(afinet.__file__)))
    if home not in path:
        path.append(home)
    return path


def main(request: dict[str, Any]) -> None:
    from afinet.stdlib.install import install

    install()
    import site

    site.main()
    sys.exit(_run(request))


def _run(request: dict[str, Any]) -> int:
    from types import ModuleType

    from afinet.runner.virtual import DeadlockError
    from afinet.sim.network import Network
    from afinet.sim.options import options
    from afinet.sim.units import UsageError

    scenario: str = request["scenario"]
    networks: list[Network] = []
    options.seed = request["seed"]
    options.trace = request["json"]
    options.on_network.append(networks.append)
    files = _capture_to(request["pcap"], scenario) if request["pcap"] else []
    sys.argv = [scenario, *request["args"]]
    module = ModuleType("__main__")
    module.__file__ = scenario
    module.__builtins__ = __builtins__  # type: ignore[attr-defined]
    sys.modules["__main__"] = module
    stdout = sys.stdout
    if request["json"]:
        sys.stdout = sys.stderr
    try:
        with open(scenario, "rb") as f:
            code = compile(f.read(), scenario, "exec")
        exec(code, module.__dict__)
        status = 0
    except (UsageError, DeadlockError) as e:
        print(f"{_where(e, scenario)}: {e}", file=sys.stderr)
        status = 1
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        if isinstance(e.code, str):
            print(e.code, file=sys.stderr)
    except KeyboardInterrupt:
        status = 130
    except BaseException as e:
        trace = e.__traceback__
        # Begin at the scenario's own frame.
        while trace is not None and trace.tb_frame.f_code.co_filename != scenario:
            trace = trace.tb_next
        sys.excepthook(type(e), e.with_traceback(trace or e.__traceback__), trace or e.__traceback__)
        status = 1
    finally:
        for network in networks:
            network.close()
        sys.stdout = stdout
        for file in files:
            file.close()
    if request["json"]:
        import json

        print(json.dumps({"scenario": scenario, "status": status, "networks": [n.summary() for n in networks]}, indent=2))
    return status


def _where(error: BaseException, scenario: str) -> str:
    """file:line of the scenario's own frame that is nearest to the error."""
    line = 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == scenario:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{scenario}:{line}" if line else scenario


def _capture_to(directory: str, scenario: str) -> list[Any]:
    """One pcapng file a Network in `directory`, with every device but lo of every host."""
    from afinet.sim.host import Host
    from afinet.sim.network import Network
    from afinet.sim.options import options
    from afinet.tools.pcapng import PcapngTap, PcapngWriter

    os.makedirs(directory, exist_ok=True)
    stem = os.path.splitext(os.path.basename(scenario))[0]
    files: list[Any] = []
    writers: dict[Network, PcapngWriter] = {}

    def open_file(network: Network) -> None:
        number = f"-{len(files) + 1}" if files else ""
        files.append(open(os.path.join(directory, f"{stem}{number}.pcapng"), "wb"))  # noqa: SIM115  # _run closes it
        writers[network] = PcapngWriter(files[-1])

    def tap(host: Host) -> None:
        PcapngTap(writers[host.network], host.kernel, without=("lo",))

    options.on_network.append(open_file)
    options.on_host.append(tap)
    return files
