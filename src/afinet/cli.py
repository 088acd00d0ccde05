"""One command, `afinet`, over all of it. Each subcommand is a function added to `afinet` below."""

from __future__ import annotations

import sys

import click

from afinet._build import describe


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(message=describe())
def afinet() -> None:
    """Linux's socket layer and TCP/IP stack, in Python, under a clock you control."""


@afinet.command(context_settings={"ignore_unknown_options": True})
@click.argument("scenario", type=click.Path(exists=True, dir_okay=False))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--seed", type=int, help="Override the seed of every Network of the scenario.")
@click.option("--pcap", type=click.Path(file_okay=False), metavar="DIR", help="Write what every host sends and receives to DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print what happened as JSON; the scenario's own output goes to stderr.")
def run(scenario: str, args: tuple[str, ...], seed: int | None, pcap: str | None, as_json: bool) -> None:
    """Run SCENARIO, a Python file that makes a Network, with unmodified programs on its hosts.

    The file runs in a process of its own in which the standard library is over the simulated network. ARGS are its sys.argv.
    """
    if not scenario.endswith(".py"):
        raise click.ClickException(f"{scenario}: a scenario is a .py file (topologies in .toml come in a later release)")
    from afinet.tools.run import launch

    sys.exit(launch(scenario, list(args), seed, pcap, as_json))


@afinet.command(context_settings={"ignore_unknown_options": True})
@click.option("--tun", "name", required=True, metavar="NAME", help="The device: one that exists, or a new one.")
@click.option("--address", required=True, metavar="A/P", help="The program's address, like 10.9.0.2/24.")
@click.option("--tap", is_flag=True, help="A TAP device, with Ethernet frames, instead of a TUN device.")
@click.option("--mtu", type=int, help="Default: the device's own.")
@click.option("--route", "routes", multiple=True, metavar="ROUTE", help="Like '10.1.0.0/16 via 10.9.0.1'; may be repeated.")
@click.option("--gateway", metavar="A", help="Where everything else goes; on a new device, the host's own address.")
@click.option("--pcap", metavar="FILE", help="Write what the device sends and receives to FILE (pcapng); - is standard output.")
@click.option("--offload/--no-offload", default=True, help="Super-packets of 64 KB and checksums left out: as with ethtool -K.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def up(
    name: str,
    address: str,
    tap: bool,
    mtu: int | None,
    routes: tuple[str, ...],
    gateway: str | None,
    pcap: str | None,
    offload: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND, a Python program, with its IPv4 sockets on a TUN or TAP device.

    COMMAND is a script, or `python` with a script, -m MODULE or -c TEXT; it runs in this process. The host reaches it at A, and it
    reaches the host at the device's own address there: on a new device the gateway, or the first other one of the subnet.
    """
    from afinet.runner.boot import HostError
    from afinet.tools.up import UpError, launch

    try:
        sys.exit(launch(name, address, list(command), tap, mtu, routes, gateway, pcap, offload))
    except (HostError, UpError) as e:
        raise click.ClickException(str(e)) from None


def main() -> int:
    afinet(prog_name="afinet")
    return 0
