"""Time the first and the second use of each action's set-up, beside what pip takes for everything from an empty cache.

    python benchmarks/first_use.py

Both on a runner without uv and without any cache. pip's way is a virtual environment with the whole project in it, as
the actions made it before they brought uv. The targets: a first use in a quarter of pip's time, and a second one in a
tenth of a second more than the command itself takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = {"light": ("post", "check", "plan", "update-expected"), "all": ("run", "compare", "merge", "dashboard")}


def seconds_of(command: list[str], environ: dict[str, str]) -> float:
    """Run a command that has to succeed; the seconds it took."""
    started = time.perf_counter()
    subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def runner_environ(folder: Path) -> dict[str, str]:
    """Make the environment of a runner that has no uv and whose caches are in `folder`."""
    path = [each for each in os.environ["PATH"].split(os.pathsep) if not (Path(each) / "uv").exists()]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "VIRTUAL_ENV"))}
    return {**kept, "PATH": os.pathsep.join(path), "RUNNER_TOOL_CACHE": str(folder), "HOME": str(folder)}


def time_pip(folder: Path) -> float:
    """Seconds for a virtual environment, and the project with its extras in it."""
    environ = {**runner_environ(folder), "PIP_CACHE_DIR": str(folder / "cache")}
    python = [sys.executable, "-I", "-m", "venv", str(folder / "venv")]
    install = [str(folder / "venv/bin/python"), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return seconds_of(python, environ) + seconds_of(
        [*install, "--constraint", str(ROOT / "constraints.txt"), f"{ROOT}[history,hud]"], environ
    )


def time_set_up(command: str, folder: Path) -> tuple[float, float, float]:
    """Seconds of the first and the second use, and of the command alone."""
    environ = runner_environ(folder)
    use = ["bash", str(ROOT / "actions/_setup.sh"), command, "--help"]
    first = seconds_of(use, environ)
    seconds_of(use, environ)  # Python writes its bytecode
    (python,) = (folder / "torchperf-ci").glob("[0-9]*/bin/python")
    alone = [str(python), "-I", "-m", "torchperf_ci", command, "--help"]
    return first, min(seconds_of(use, environ) for _ in range(3)), min(seconds_of(alone, environ) for _ in range(3))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pip = time_pip(Path(folder))
    print(f"pip, everything: {pip:.1f} s")
    print("| Command | First use | Share of pip's | Second use beyond the command |\n| --- | --- | --- | --- |")
    for command in (command for commands in COMMANDS.values() for command in commands):
        with tempfile.TemporaryDirectory() as folder:
            first, second, alone = time_set_up(command, Path(folder))
        print(f"| `{command}` | {first:.1f} s | {first / pip:.0%} | {1000 * (second - alone):.0f} ms |")


if __name__ == "__main__":
    main()
