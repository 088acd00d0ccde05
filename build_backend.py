"""The build backend: setuptools, which asks for the compiler's packages only when it is going to compile.

There is deliberately no prepare_metadata_for_build_wheel. Whether the wheel depends on librt is known only
once everything is compiled, so an installer that wants the metadata gets it from the finished wheel.
"""

from __future__ import annotations

from typing import Any

from setuptools import build_meta as _setuptools
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    # setup.py is not run for this: it would need what is being asked for.
    from setup import COMPILE_REQUIRES, why_not_compile

    return [] if why_not_compile() else COMPILE_REQUIRES


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    return str(_setuptools.build_wheel(wheel_directory, config_settings, metadata_directory))
