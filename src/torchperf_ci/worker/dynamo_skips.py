"""`python -m torchperf_ci.worker.dynamo_skips REPLY FOLDER SUITE MODE DEVICE…`: the models a PyTorch suite leaves out.

Runs in the Python under test, since torchbench's module imports torch and more. Only that one is imported, and while it
is, nothing can be installed or downloaded: other modules run `pip install` where their package is missing. Their lists
are read from the source. Writes to the file REPLY, as JSON, `{"skips": {device: [name, …]}}`, or `{"error": …}`.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from torchperf_ci.worker.protocol import describe

RUNNER = "TorchBenchmarkRunner"
"""torchbench's class that knows its skips; the modules of other suites have lists."""

LISTS = {"SKIP": "", "SKIP_TRAIN": "training"}
"""Those lists, each with the one mode it is for or nothing."""

_INSTALLERS = re.compile(
    r"(^|[\s/;&|(])((pip|uv|pipx)[\d.]*|conda|mamba|micromamba|poetry|pdm|easy_install|ensurepip|apt|apt-get|yum|dnf"
    r"|brew|curl|wget|setup\.py|git\s+(clone|fetch|pull|submodule|lfs))(\s|$)"
)
_STARTING = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"})
_GOING_OUT = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"})
_OFFLINE = {
    "CONDA_OFFLINE": "true",
    "HF_HUB_OFFLINE": "1",
    "PIP_NO_INDEX": "1",
    "PIP_NO_INPUT": "1",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "UV_OFFLINE": "1",
}
"""For what a child of a child might start, which no hook sees."""


class InstallRefused(Exception):
    """A module wanted to install or to download something, only to be imported."""


def main(arguments: Sequence[str]) -> None:
    """Ask the suite in its folder, and write the reply."""
    reply, folder, suite, mode, *devices = arguments
    # With `-m` the working folder comes first: in a PyTorch checkout its `torch` would hide the installed one.
    sys.path[:] = [folder, *(path for path in sys.path if path not in {"", str(Path.cwd())})]
    try:
        source = ast.parse((Path(folder) / f"{suite}.py").read_text(encoding="utf-8"))
        if any(isinstance(node, ast.ClassDef) and node.name == RUNNER for node in source.body):
            names = _ask_runner(suite, mode, devices)
        else:
            written = sorted(set(_written_lists(source, mode)))
            names = dict.fromkeys(devices, written)
        answer: dict[str, object] = {"skips": names}
    except BaseException as error:  # noqa: BLE001 - foreign code: a missing torchbench also ends in SystemExit
        traceback.print_exception(error)
        answer = {"error": describe(error)}
    Path(reply).write_text(json.dumps(answer), encoding="utf-8")


def refuse_installs(scratch: str) -> None:
    """Let this process and what it starts install and download nothing, from now on.

    An audit hook sees every program that Python starts and every host it looks up; it cannot be taken out again. What
    it cannot see, a shell script that calls pip, finds no index, and would install into `scratch`.
    """
    os.environ.update({**_OFFLINE, "PIP_TARGET": scratch, "PYTHONUSERBASE": scratch})
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event in _STARTING:
        command = " ".join(_words(arguments))
        if _INSTALLERS.search(command):
            raise InstallRefused(f"it wants to run {command[:200]!r}, and nothing is installed here")
    elif event in _GOING_OUT:
        raise InstallRefused(f"it wants to reach {' '.join(_words(arguments))[:200]!r}, and nothing is downloaded here")
    elif event == "import" and str(arguments[0]).partition(".")[0] in {"pip", "ensurepip"}:
        raise InstallRefused(f"it wants to import {arguments[0]}, and nothing is installed here")


def _words(value: object) -> Iterator[str]:
    """Yield all that an event's arguments say, without the variables of a process."""
    match value:
        case str():
            yield value
        case bytes():
            yield os.fsdecode(value)
        case os.PathLike():
            yield os.fsdecode(value)
        case list() | tuple():
            for item in value:
                yield from _words(item)
        case _:
            return


def _ask_runner(suite: str, mode: str, devices: Sequence[str]) -> dict[str, list[str]]:
    with tempfile.TemporaryDirectory(prefix="torchperf-refused-") as scratch:
        refuse_installs(scratch)
        runner = getattr(importlib.import_module(suite), RUNNER)()
        return {device: sorted(set(_runner_skips(runner, mode, device.partition(":")[0]))) for device in devices}


def _runner_skips(runner: object, mode: str, device: str) -> Iterator[str]:
    """Return the names; a list that a checkout does not have counts as empty."""
    attributes = ["skip_models", f"skip_models_for_{device}"]
    if mode == "training":
        attributes.append("skip_not_suitable_for_training_models")
    if device == "cpu":
        attributes.append(f"skip_models_for_cpu_{platform.machine()}")
    for attribute in attributes:
        yield from (str(name) for name in getattr(runner, attribute, ()))


def _written_lists(source: ast.Module, mode: str) -> Iterator[str]:
    """Return the names in a module's lists, as far as they are written there."""
    for node in source.body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and LISTS.get(target.id, "-") in {"", mode}:
                try:
                    yield from (str(name) for name in ast.literal_eval(node.value))
                except (ValueError, TypeError) as error:
                    raise ValueError(f"{target.id} is not written out in the module, so it is not known") from error


if __name__ == "__main__":
    main(sys.argv[1:])
