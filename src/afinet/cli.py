"""One command, `afinet`, over all of it. Each subcommand is a function added to `afinet` below."""

from __future__ import annotations

import click

from afinet._build import describe


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(message=describe())
def afinet() -> None:
    """Linux's socket layer and TCP/IP stack, in Python, under a clock you control."""


def main() -> int:
    afinet(prog_name="afinet")
    return 0
