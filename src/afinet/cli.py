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


def main() -> int:
    afinet(prog_name="afinet")
    return 0
