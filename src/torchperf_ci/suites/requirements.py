"""Whether a package a suite needs is there, and the command that brings it. Nothing is imported to find out."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from importlib import metadata


def missing_package(name: str, *, minimum: str) -> str | None:
    """Why the package `name` cannot be used in this Python, with what to type; None when it can."""
    if importlib.util.find_spec(name) is None:
        return f"{name} is not installed in this Python; {install_command(f'{name}>={minimum}')}"
    installed = metadata.version(name)
    if _numbers(installed) < _numbers(minimum):
        return f"{name} {installed} is too old, {minimum} is needed; {install_command(f'{name}>={minimum}')}"
    return None


def install_command(*arguments: str) -> str:
    """`python -m pip install …` for the running Python, quoted for a shell."""
    return shlex.join([sys.executable or "python", "-m", "pip", "install", *arguments])


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers a version starts with: 4.44.0rc1 is (4, 44, 0)."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading.group().split(".")) if leading else ()
