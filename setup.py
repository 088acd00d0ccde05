"""Build afinet: compiled by mypyc where that works, pure Python where it does not. All or nothing.

Everything is compiled and linked *before* setup() is called. If any unit fails, setup() is told of no
extension at all: the wheel is pure, and says why in afinet/_build_info.py.

Environment:
    AFINET_PURE=1         build pure Python without trying (at run time: use the pure modules)
    AFINET_REQUIRE_COMPILED=1   fail instead of falling back: for CI and for release wheels
    AFINET_OPT_LEVEL=3    the C compiler's -O
    AFINET_BUILD_JOBS=N   C compilers at once; default: the number of CPUs
    AFINET_COMPILE_ONLY=wire,kernel   for trying out: compile these packages and leave the others interpreted
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
SRC = ROOT / "src"
PACKAGE = SRC / "afinet"
# The packages that mypyc compiles, and single modules beside them.
COMPILED_PACKAGES = ["uapi", "wire", "kernel", "fs", "security", "net", "drivers", "init"]
COMPILED_MODULES = ["runner/hub.py", "runner/link.py", "runner/threaded.py", "runner/realtask.py", "runner/linger.py"]
TRIAL = ["--disable-error-code=import-not-found", "--disable-error-code=attr-defined"]
COMPILE_REQUIRES = ["mypy==2.4.*", "librt==0.16.*"]

VERSION = re.findall(r'^__version__ = "(.+)"$', (PACKAGE / "_build.py").read_text(), re.M)[0]


def truthy(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() not in ("", "0", "no", "false", "off")


def why_not_compile() -> str:
    """One line, or '' when a compiled build is worth trying."""
    if truthy("AFINET_PURE"):
        return "built with AFINET_PURE set"
    if sys.implementation.name != "cpython":
        return f"mypyc compiles for CPython, this is {sys.implementation.name}"
    return why_no_c_compiler()


def c_compiler() -> list[str]:
    cc = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return str(cc).split()


def why_no_c_compiler() -> str:
    if sys.platform == "win32":
        return ""  # MSVC is found by setuptools; a failure there is a failed compile, with its reason
    include = sysconfig.get_paths()["include"]
    with tempfile.TemporaryDirectory() as tmp:
        source = Path(tmp, "probe.c")
        source.write_text("#include <Python.h>\nint probe(void) { return PY_MAJOR_VERSION; }\n")
        command = [*c_compiler(), "-I", include, "-c", str(source), "-o", str(Path(tmp, "probe.o"))]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as e:
            return f"no C compiler: {e.strerror}: {c_compiler()[0]}"
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            detail = said[0] if said else f"exit status {done.returncode}"
            return f"no working C compiler: {c_compiler()[0]}: {detail}"
    return ""


def sources() -> list[str]:
    """Every module of the compiled packages. A package's own __init__.py stays interpreted: they hold next to
    nothing, and a compiled one would hide the directory from importlib.resources."""
    packages, modules = COMPILED_PACKAGES, COMPILED_MODULES
    only = os.environ.get("AFINET_COMPILE_ONLY")
    if only:
        packages, modules = only.split(","), []
    found = [p for package in packages for p in (PACKAGE / package).rglob("*.py")]
    found += [PACKAGE / module for module in modules if (PACKAGE / module).exists()]
    return sorted(str(p.relative_to(ROOT)) for p in found if p.name != "__init__.py")


def generate(target_dir: str) -> list[Any]:
    """The front end: typed Python in, C out."""
    from mypyc.build import mypycify

    os.environ["MYPYPATH"] = str(SRC)
    extensions = mypycify(
        [
            # Only what changes the code that comes out; `make lint` runs the strict configuration.
            "--config-file=",
            f"--python-version={sys.version_info[0]}.{sys.version_info[1]}",
            "--explicit-package-bases",
            "--local-partial-types",
            # `if COMPILED:` is decided here: the other branch is not compiled, and calls bind directly.
            "--always-true=COMPILED",
            # A trial of some packages may be made while others are missing.
            *(TRIAL if os.environ.get("AFINET_COMPILE_ONLY") else []),
            *sources(),
        ],
        opt_level=os.environ.get("AFINET_OPT_LEVEL", "3"),
        debug_level="0",
        # One group: calls between modules are direct C calls and import cycles are harmless.
        # One C file per module: they compile in parallel.
        multi_file=True,
        group_name="afinet",
        target_dir=target_dir,
        strict_dunder_typing=True,
    )
    for ext in extensions:
        if sys.platform != "win32":
            ext.extra_compile_args += ["-Wno-error"]  # another compiler's new warning is no reason to go pure
    return list(extensions)


def parallel(compiler: Any, jobs: int, headers: bytes) -> None:
    """Make compiler.compile() run `jobs` compilers at once and skip objects whose input is unchanged."""

    def compile(  # the signature of distutils
        sources: list[str],
        output_dir: str | None = None,
        macros: Any = None,
        include_dirs: Any = None,
        debug: Any = 0,
        extra_preargs: Any = None,
        extra_postargs: Any = None,
        depends: Any = None,
    ) -> list[str]:
        macros, objects, extra_postargs, pp_opts, build = compiler._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        cc_args = compiler._get_cc_args(pp_opts, debug, extra_preargs)
        flags = repr((compiler.compiler_so, cc_args, extra_postargs)).encode()

        def one(obj: str) -> None:
            src, ext = build[obj]
            key = hashlib.sha256(flags + headers + Path(src).read_bytes()).hexdigest()
            stamp = Path(obj + ".key")
            if Path(obj).exists() and stamp.exists() and stamp.read_text() == key:
                return
            compiler._compile(obj, src, ext, cc_args, extra_postargs, pp_opts)
            stamp.write_text(key)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(one, sorted(objects, key=lambda o: -os.path.getsize(build[o][0]))))
        return list(objects)

    compiler.compile = compile


def compile_everything(extensions: list[Any], out: Path, target_dir: str) -> None:
    """Compile and link all extensions into `out`; raises when one fails."""
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    jobs = int(os.environ.get("AFINET_BUILD_JOBS") or os.cpu_count() or 1)
    digest = hashlib.sha256()
    for header in sorted(Path(target_dir).rglob("*.h")):
        digest.update(header.read_bytes())

    class trial(build_ext):
        def build_extensions(self) -> None:
            if self.compiler.compiler_type == "unix":
                parallel(self.compiler, jobs, digest.digest())
            super().build_extensions()

    distribution = Distribution({"name": "afinet", "ext_modules": extensions, "package_dir": {"": "src"}})
    command = trial(distribution)
    command.build_lib = str(out)
    command.build_temp = str(ROOT / "build" / "objects")
    command.inplace = False
    command.parallel = jobs
    command.ensure_finalized()
    command.run()
    missing = [e.name for e in extensions if not Path(command.get_ext_fullpath(e.name)).exists()]
    if missing:
        raise RuntimeError(f"not built: {', '.join(missing)}")


def attempt(out: Path) -> tuple[list[Any], str]:
    """(extensions, '') with everything linked in `out`, or ([], why)."""
    why = why_not_compile()
    if why:
        return [], why
    target_dir = f"build/c-{sys.implementation.cache_tag}"
    stage = "mypyc is missing or cannot start"
    try:
        for module in ("mypyc.build", "librt.strings"):
            importlib.import_module(module)

        stage = "mypyc refused the source"
        extensions = generate(target_dir)
        stage = "the C compiler or linker failed"
        compile_everything(extensions, out, target_dir)
        return extensions, ""
    except KeyboardInterrupt:
        raise
    except BaseException as e:  # SystemExit is how mypyc reports type errors
        traceback.print_exc()
        shutil.rmtree(out, ignore_errors=True)
        lines = str(e).strip().splitlines()
        detail = lines[0] if lines and not isinstance(e, SystemExit) else "see the build's output"
        return [], f"{stage}: {detail[:200]}"


def main() -> None:
    from setuptools import setup
    from setuptools.command.build_ext import build_ext
    from setuptools.command.build_py import build_py

    os.chdir(ROOT)
    # Only a wheel, or an install that makes one, is compiled. An editable install runs the .py files, and a
    # .so never lands in src/, where it would beat a changed .py in silence.
    if {"--inplace", "-i"} & set(sys.argv):
        sys.exit("afinet: extensions are built into wheels only, never in place (pip install .)")
    wants = {"bdist_wheel", "install", "bdist", "build", "build_ext", "bdist_egg"} & set(sys.argv)
    editable = {"editable_wheel", "develop"} & set(sys.argv)
    staged = ROOT / "build" / "compiled"
    extensions: list[Any] = []
    why = "an editable install runs the source as it stands"
    requires: list[str] = []
    if wants and not editable:
        # What an earlier build left may hold modules that no longer exist.
        shutil.rmtree(staged, ignore_errors=True)
        for old in (ROOT / "build").glob("lib*"):
            shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(ROOT / "build" / "bdist", ignore_errors=True)
        extensions, why = attempt(staged)
        if extensions:
            # The C that mypyc made and librt's binary interface belong together.
            requires = [f"librt=={metadata.version('librt')}"]
        elif truthy("AFINET_REQUIRE_COMPILED"):
            sys.exit(f"afinet: AFINET_REQUIRE_COMPILED is set, and {why}")
        else:
            print(f"afinet: building pure Python: {why}", file=sys.stderr)

    info = (
        '"""Written by setup.py."""\n\n'
        f"COMPILED = {bool(extensions)!r}\n"
        f"WHY = {why!r}\n"
        f"LIBRT = {requires[0].partition('==')[2] if requires else ''!r}\n"
        f"ASKED = {truthy('AFINET_PURE')!r}\n"
    )

    class build_py_and_info(build_py):
        def run(self) -> None:
            super().run()
            if not self.editable_mode:
                target = Path(self.build_lib, "afinet", "_build_info.py")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(info)

    class build_ext_from_stage(build_ext):
        """Nothing left to compile: put the finished files in place."""

        def run(self) -> None:
            if self.extensions:
                shutil.copytree(staged, self.build_lib, dirs_exist_ok=True)

    setup(
        version=VERSION,
        install_requires=requires,
        ext_modules=extensions,
        cmdclass={"build_py": build_py_and_info, "build_ext": build_ext_from_stage},
    )


# setuptools' build_meta executes this file as __main__; build_backend.py imports it.
if __name__ == "__main__":
    main()
