"""`python -m torchperf_ci.worker.dynamo_skips REPLY FOLDER SUITE MODE DEVICE…`: the models a PyTorch suite leaves out.

Runs in the Python under test, since the suite's module imports torch and more. Writes to the file REPLY, as JSON,
`{"skips": {device: [name, …]}}`, or `{"error": …}` where the module cannot be asked.
"""

from __future__ import annotations

import importlib
import json
import platform
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from torchperf_ci.worker.protocol import describe

RUNNER = "TorchBenchmarkRunner"
"""torchbench's class that knows its skips; the modules of other suites have lists."""


def main(arguments: Sequence[str]) -> None:
    """Import the suite from its folder, as its own script would, and write the reply."""
    reply, folder, suite, mode, *devices = arguments
    # With `-m` the working folder comes first: in a PyTorch checkout its `torch` would hide the installed one.
    sys.path[:] = [folder, *(path for path in sys.path if path not in {"", str(Path.cwd())})]
    try:
        module = importlib.import_module(suite)
        names = {device: sorted(set(_skips(module, mode, device.partition(":")[0]))) for device in devices}
        answer: dict[str, object] = {"skips": names}
    except BaseException as error:  # noqa: BLE001 - foreign code: a missing torchbench also ends in SystemExit
        traceback.print_exception(error)
        answer = {"error": describe(error)}
    Path(reply).write_text(json.dumps(answer), encoding="utf-8")


def _skips(module: ModuleType, mode: str, device: str) -> Iterator[str]:
    """The names; a list that a checkout does not have counts as empty."""
    owner, attributes = _lists(module, device)
    for attribute, of_mode in attributes.items():
        if of_mode in {"", mode}:
            yield from (str(name) for name in getattr(owner, attribute, ()))


def _lists(module: ModuleType, device: str) -> tuple[object, dict[str, str]]:
    """What holds the lists, and their names, each with the one mode it is for or nothing."""
    if not hasattr(module, RUNNER):
        return module, {"SKIP": "", "SKIP_TRAIN": "training"}
    lists = {
        "skip_models": "",
        "skip_not_suitable_for_training_models": "training",
        f"skip_models_for_{device}": "",
    }
    if device == "cpu":
        lists[f"skip_models_for_cpu_{platform.machine()}"] = ""
    return getattr(module, RUNNER)(), lists


if __name__ == "__main__":
    main(sys.argv[1:])
