"""The commands of docs/howto, as they are printed: each ```sh block is run by bash in a network namespace, as root."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wire_real.namespaces import HOME, Namespace, require

require()
pytestmark = pytest.mark.wire

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "howto").glob("*.md"))
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
BLOCKS = [(page.stem, i, block) for page in PAGES for i, block in enumerate(BLOCK.findall(page.read_text()))]


@pytest.mark.parametrize("page, number, block", BLOCKS, ids=[f"{page}-{i}" for page, i, _ in BLOCKS])
def test_the_commands_do_what_the_page_says(page: str, number: int, block: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, command in (("python", ""), ("afinet", "-m afinet ")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {command}"$@"\n')
        program.chmod(0o755)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment.update(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", PYTHONPATH=HOME)
    ns = Namespace()
    try:
        with ns.inside():
            shell = subprocess.Popen(
                ["bash", "-e", "-o", "pipefail", "-c", block], cwd=tmp_path, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        try:
            shell.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # whatever it has left in the background
            out, err = shell.communicate()
    finally:
        ns.close()
    assert shell.returncode == 0, err
    expected = {"service-on-tun": "<!DOCTYPE HTML>\n", "container": "hello 10.9.0.1\n", "tunnel": "10000 lines of THROUGH A TUNNEL"}
    assert expected[page] in out
