"""The two builds: which one runs, why, and what happens where nothing can be compiled.

The tests marked `build` make wheels; `make test` runs them once, with AFINET_WHEEL naming the compiled one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import afinet
from afinet import _build

ROOT = Path(__file__).resolve().parent.parent


def python(
    *args: str, env: dict[str, str] | None = None, path: Path | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run this interpreter, with `path` (an unpacked wheel) before its own packages."""
    full = {k: v for k, v in os.environ.items() if not k.startswith("AFINET_")}
    if path is not None:
        full["PYTHONPATH"] = str(path)
    full.update(env or {})
    return subprocess.run([sys.executable, *args], env=full, cwd=cwd, capture_output=True, text=True)


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


# --- the build under test ---------------------------------------------------------------------------------


def test_version_says_which_build_runs_and_why() -> None:
    env = {"AFINET_PURE": os.environ.get("AFINET_PURE", "")}
    out = ok(python("-m", "afinet", "--version", env=env))
    assert out.startswith(f"afinet {afinet.__version__} (")
    assert ("(compiled: " if afinet.COMPILED else "(pure Python: ") in out
    assert _build.WHY in out


def test_no_module_is_of_the_other_build() -> None:
    """All or nothing: every module of the compiled packages comes from the same build."""
    import afinet.wire.tcp_options  # something of the core is loaded

    core = ("uapi", "wire", "kernel", "fs", "security", "net", "drivers", "init")
    files = {
        name: module.__file__
        for name, module in sys.modules.items()
        if name.startswith(tuple(f"afinet.{p}." for p in core))
        and module.__file__
        and not module.__file__.endswith("__init__.py")
    }
    assert "afinet.wire.tcp_options" in files
    for name, file in files.items():
        assert file.endswith(".py") != afinet.COMPILED, (name, file)


def test_the_source_tree_holds_no_extension_module() -> None:
    found = [p for p in (ROOT / "src").rglob("*") if p.suffix in (".so", ".pyd", ".dylib")]
    assert not found, "a stale one would beat the .py file in silence"


def test_the_command_names_what_is_missing() -> None:
    """Without click, --version still answers, and anything else says what to install."""
    program = "import sys; sys.modules['click'] = None; import afinet.__main__ as m; sys.exit(m.main())"
    assert ok(python("-c", program, "--version")).startswith("afinet ")
    done = python("-c", program, "ss")
    assert done.returncode == 1
    assert done.stderr == "afinet: the command needs click: pip install 'afinet[cli]'\n"


def test_the_pure_finder_leaves_other_packages_alone(tmp_path: Path) -> None:
    finder = _build.PureFinder("afinet")
    (tmp_path / "mod.py").write_text("")
    assert finder.find_spec("other.mod", [str(tmp_path)]) is None
    assert finder.find_spec("afinet", None) is None
    spec = finder.find_spec("afinet.mod", [str(tmp_path)])
    assert spec is not None and spec.origin == str(tmp_path / "mod.py")


# --- a compiled wheel -------------------------------------------------------------------------------------

WHICH = "import afinet, afinet.wire.tcp as t; print(afinet.COMPILED, t.__file__)"


@pytest.fixture(scope="module")
def compiled_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled wheel, unpacked."""
    wheel = os.environ.get("AFINET_WHEEL")
    if not wheel:
        pytest.skip("AFINET_WHEEL does not name a compiled wheel")
    pytest.importorskip("librt.strings")
    out = tmp_path_factory.mktemp("compiled")
    with zipfile.ZipFile(ROOT / wheel) as z:
        z.extractall(out)
    return out


@pytest.mark.build
def test_a_compiled_wheel_runs_compiled(compiled_wheel: Path) -> None:
    out = ok(python("-W", "error", "-c", WHICH, path=compiled_wheel))
    assert out.startswith("True ") and not out.endswith(".py")
    assert "(compiled: " in ok(python("-m", "afinet", "--version", path=compiled_wheel))


@pytest.mark.build
def test_afinet_pure_chooses_the_py_files_of_a_compiled_wheel(compiled_wheel: Path) -> None:
    env = {"AFINET_PURE": "1"}
    out = ok(python("-W", "error", "-c", WHICH, path=compiled_wheel, env=env))
    assert out.startswith("False ") and out.endswith("tcp.py")
    assert "(pure Python: AFINET_PURE is set" in ok(python("-m", "afinet", "--version", path=compiled_wheel, env=env))


@pytest.mark.build
def test_without_librt_a_compiled_wheel_runs_pure_and_warns_once(compiled_wheel: Path) -> None:
    program = "import sys; sys.modules['librt'] = None; sys.modules['librt.strings'] = None; " + WHICH
    done = python("-c", program, path=compiled_wheel)
    out = ok(done)
    assert out.startswith("False ") and out.endswith("tcp.py")
    assert done.stderr.count("RuntimeWarning: afinet runs as pure Python") == 1
    assert "librt" in done.stderr


@pytest.mark.build
def test_one_missing_extension_makes_the_whole_wheel_run_pure(compiled_wheel: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(compiled_wheel, damaged)
    for library in damaged.glob("afinet__mypyc*"):
        library.unlink()
    done = python("-c", WHICH, path=damaged)
    assert ok(done).startswith("False ")
    assert done.stderr.count("RuntimeWarning") == 1


@pytest.mark.build
@pytest.mark.parametrize("pure", ["", "1"], ids=["compiled", "pure"])
def test_every_module_can_be_the_first_one_imported(compiled_wheel: Path, pure: str) -> None:
    """Inside a layer imports are cyclic; that must not depend on who comes first. mypy_extensions is hidden:
    an installation does not have it."""
    program = """
import importlib, os, sys
sys.modules["mypy_extensions"] = None
failed = []
import afinet._build
for name in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        try:
            importlib.import_module(name)
        except BaseException as e:
            print(f"{name}: {type(e).__name__}: {e}", flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        failed.append(name)
sys.exit(bool(failed))
"""
    core = ("uapi", "wire", "kernel", "fs", "security", "net", "drivers", "init")
    found = sorted(p.relative_to(compiled_wheel) for c in core for p in (compiled_wheel / "afinet" / c).rglob("*.py"))
    names = [".".join(p.with_suffix("").parts) for p in found if p.name != "__init__.py"]
    ok(python("-c", program, *names, path=compiled_wheel, env={"AFINET_PURE": pure}))


# --- wheels that fall back --------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a wheel is made from."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "build_backend.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return copy


def wheel_of(checkout: Path, **env: str) -> Path:
    out = checkout / "out"
    command = ["-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(out)]
    done = python(*command, env=env, cwd=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


def assert_pure(wheel: Path, why: str, warns: bool) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    out = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        z.extractall(out)
        (metadata,) = [n for n in names if n.endswith(".dist-info/METADATA")]
        required = [
            line for line in z.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist:") and "extra ==" not in line
        ]  # fmt: skip
    assert not [n for n in names if n.endswith((".so", ".pyd", ".c", ".h"))]
    assert not required, "the pure build depends on nothing"
    done = python("-m", "afinet", "--version", path=out)
    assert f"(pure Python: {why}" in ok(done)
    assert done.stderr.count("RuntimeWarning: afinet runs as pure Python") == int(warns)
    assert not warns or why in done.stderr


@pytest.mark.build
def test_without_a_c_compiler_the_wheel_is_pure_and_says_why(checkout: Path) -> None:
    wheel = wheel_of(checkout, CC="/bin/false")
    assert_pure(wheel, "no working C compiler: /bin/false", warns=True)


@pytest.mark.build
def test_afinet_pure_builds_a_pure_wheel_and_does_not_warn(checkout: Path) -> None:
    assert_pure(wheel_of(checkout, AFINET_PURE="1"), "built with AFINET_PURE set", warns=False)


@pytest.mark.build
def test_one_module_that_mypyc_refuses_makes_the_wheel_pure(checkout: Path) -> None:
    (checkout / "src" / "afinet" / "wire" / "refused.py").write_text("x: int = 'a string'\n")
    assert_pure(wheel_of(checkout, AFINET_COMPILE_ONLY="wire"), "mypyc refused the source", warns=True)


@pytest.mark.build
def test_one_module_that_the_c_compiler_refuses_makes_the_wheel_pure(checkout: Path, tmp_path: Path) -> None:
    cc = tmp_path / "cc"
    cc.write_text('#!/bin/sh\ncase "$*" in *checksum*) echo refused >&2; exit 1;; esac\nexec cc "$@"\n')
    cc.chmod(0o755)
    wheel = wheel_of(checkout, AFINET_COMPILE_ONLY="wire", AFINET_OPT_LEVEL="0", CC=str(cc))
    assert_pure(wheel, "the C compiler or linker failed", warns=True)


@pytest.mark.build
def test_a_release_build_fails_rather_than_fall_back(checkout: Path) -> None:
    command = ["-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", "out"]
    done = python(*command, env={"CC": "/bin/false", "AFINET_REQUIRE_COMPILED": "1"}, cwd=checkout)
    assert done.returncode != 0
    assert "AFINET_REQUIRE_COMPILED is set, and no working C compiler" in done.stdout + done.stderr


@pytest.mark.build
def test_an_in_place_build_is_refused(checkout: Path) -> None:
    done = python("setup.py", "build_ext", "--inplace", cwd=checkout)
    assert "wheels only, never in place" in done.stderr
    assert not [p for p in (checkout / "src").rglob("*") if p.suffix in (".so", ".pyd")]
