"""The import order of DESIGN.md, section 1, checked by import-linter against the contracts in pyproject.toml.

Packages and modules that do not exist yet are left out, and join by themselves once they do.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("importlinter", reason="import-linter is installed for the interpreted run")

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"


def exists(module: str) -> bool:
    path = SRC.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def contracts() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    kept = []
    for contract in settings["contracts"]:
        if contract["type"] == "forbidden":
            contract["source_modules"] = [m for m in contract["source_modules"] if exists(m)]
            contract["forbidden_modules"] = [
                m for m in contract["forbidden_modules"] if not m.startswith("afinet.") or exists(m)
            ]
            if not contract["source_modules"] or not contract["forbidden_modules"]:
                continue
        kept.append(contract)
    settings["contracts"] = kept
    return settings


def dump(settings: dict[str, Any]) -> str:
    """TOML, as far as this needs it: JSON's strings, lists and booleans are TOML's too."""
    out = ["[tool.importlinter]"]
    out += [f"{k} = {json.dumps(v)}" for k, v in settings.items() if k != "contracts"]
    for contract in settings["contracts"]:
        out.append("[[tool.importlinter.contracts]]")
        out += [f"{k} = {json.dumps(v)}" for k, v in contract.items()]
    return "\n".join(out) + "\n"


def lint(directory: Path, settings: dict[str, Any], src: Path) -> subprocess.CompletedProcess[str]:
    config = directory / "layers.toml"
    config.write_text(dump(settings))
    program = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--config", str(config), "--no-cache"],
        env={"PYTHONPATH": str(src), "AFINET_PURE": "1", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        cwd=directory,
        capture_output=True,
        text=True,
    )


def test_no_module_imports_a_layer_above_its_own(tmp_path: Path) -> None:
    done = lint(tmp_path, contracts(), SRC)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contracts_notice_a_breach(tmp_path: Path) -> None:
    """A copy of the package with two forbidden imports breaks two contracts: the check itself works."""
    import shutil

    src = tmp_path / "src"
    shutil.copytree(SRC / "afinet", src / "afinet", ignore=shutil.ignore_patterns("__pycache__"))
    (src / "afinet" / "wire" / "bad_sleep.py").write_text("import time\n")
    (src / "afinet" / "wire" / "bad_up.py").write_text("import afinet.cli\n")
    done = lint(tmp_path, contracts(), src)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "afinet.wire.bad_sleep -> time" in done.stdout
    assert "afinet.wire.bad_up -> afinet.cli" in done.stdout
