"""Serve the suites of published models: their data files, batch sizes that fit, packages they need.

`data/<suite>_skips.csv` has the columns `name,device,mode,reason`; `data/<suite>_tolerances.csv` has
`name,mode,dtype,tolerance,cosine`. An empty cell means any. Of the tolerances that apply the last one holds.

Models are built without downloading: what asks for a file from the network is refused, with the reason. Files that are
in a local cache already are used as ever. Everything is put back when the block ends, so that a suite of somebody
else's in the same process keeps its network.
"""

from __future__ import annotations

import csv
import functools
import importlib
import importlib.util
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.hub

from torchperf_ci.suites import SHARING_VARIABLE
from torchperf_ci.suites.registry import Skip

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, kw_only=True)
class SuiteTolerances:
    """One suite's rows of tolerances. The methods have the signatures that a suite's module offers."""

    rows: Sequence[Mapping[str, str]]

    def tolerance(self, model: str, mode: str, dtype: str) -> float:
        asked = {"name": model, "mode": mode, "dtype": dtype}
        fitting = [
            row["tolerance"]
            for row in self.rows
            if row["tolerance"] and all(row[column] in {"", value} for column, value in asked.items())
        ]
        return float(fitting[-1])

    def use_cosine(self, model: str) -> bool:
        return any(row["cosine"] == "yes" and row["name"] in {"", model} for row in self.rows)


def read_json(suite: str) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads((DATA / f"{suite}.json").read_text(encoding="utf-8"))
    return content


def read_skips(suite: str) -> tuple[Skip, ...]:
    return tuple(
        Skip(model=row["name"], device=row["device"] or None, mode=row["mode"] or None, reason=row["reason"])
        for row in read_rows(f"{suite}_skips.csv")
    )


def read_tolerances(suite: str) -> SuiteTolerances:
    return SuiteTolerances(rows=read_rows(f"{suite}_tolerances.csv"))


def read_rows(file: str) -> list[dict[str, str]]:
    """Read the rows of a CSV file in the data folder, by their column names."""
    with (DATA / file).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def fitting_batch_size(published: int, *, reference_gb: float, memory_gb: float) -> int:
    """Return `published` where memory is at least `reference_gb`, else the power of two below its share; at least 1.

    Activations, which grow with the batch, take most of the memory; where the weights do, out of memory halves it.
    """
    if memory_gb >= reference_gb:
        return published
    share = int(published * memory_gb / reference_gb)
    return 1 << max(share.bit_length() - 1, 0)


def device_memory_gb(device: str) -> float:
    """Measure the memory of an accelerator, or of the machine for a CPU, in 10⁹ bytes.

    Where several processes hold a model at the same time (`SHARING_VARIABLE`), it is the share of one of them.
    """
    accelerator: Any = getattr(torch, torch.device(device).type, None)
    if hasattr(accelerator, "get_device_properties") and accelerator.is_available():
        total = float(accelerator.get_device_properties(device).total_memory)
    else:
        total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return total / 1e9 / max(1, int(os.environ.get(SHARING_VARIABLE) or 1))


def missing_package(name: str, *, minimum: str) -> str | None:
    """Say why the package `name` cannot be used in this Python, with what to type; None when it can.

    Nothing is imported to find out.
    """

    def numbers(version: str) -> tuple[int, ...]:
        """Return the release numbers that a version starts with: 4.44.0rc1 is (4, 44, 0)."""
        leading = re.match(r"\d+(\.\d+)*", version)
        return tuple(int(part) for part in leading.group().split(".")) if leading else ()

    advice = install_command(f"{name}>={minimum}")
    if importlib.util.find_spec(name) is None:
        return f"{name} is not installed in this Python; {advice}"
    installed = metadata.version(name)
    if numbers(installed) < numbers(minimum):
        return f"{name} {installed} is too old, {minimum} is needed; {advice}"
    return None


def install_command(*arguments: str) -> str:
    """Return `python -m pip install …` for the running Python, quoted for a shell."""
    return shlex.join([sys.executable or "python", "-m", "pip", "install", *arguments])


_REFUSALS = {"OfflineModeIsEnabled", "LocalEntryNotFoundError"}
"""The errors that huggingface_hub raises when it may not go online; by name, since it need not be installed."""


class NeedsDownload(Exception):
    """A model that cannot be built from what is on this machine."""


@contextmanager
def no_downloads(model: str) -> Iterator[None]:
    """Refuse downloads by the Hugging Face hub and by torch.hub while the block runs. Raises `NeedsDownload`."""
    with ExitStack() as stack:
        stack.enter_context(replaced_variable("HF_HUB_OFFLINE", "1"))
        if hub := sys.modules.get("huggingface_hub.constants"):
            stack.enter_context(replaced(hub, "HF_HUB_OFFLINE", value=True))
        stack.enter_context(replaced(torch.hub, "download_url_to_file", _refuse))
        try:
            yield
        except Exception as error:
            if asked_for := _refused(error):
                raise NeedsDownload(
                    f"{model} asks for a download, and this suite downloads nothing: {asked_for}"
                ) from error
            raise


@contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:  # noqa: ANN401 - a module or a class
    """Put another value under the attribute `name` while the block runs."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def replaced_variable(name: str, value: str | None) -> Iterator[None]:
    """Give an environment variable another value, or none, while the block runs."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


class _Refused(Exception):
    """torch.hub was asked to fetch a URL."""


def _refuse(url: str, *_: object, **__: object) -> NoReturn:
    raise _Refused(url)


def _refused(error: BaseException | None) -> str | None:
    """Say what was asked for, if a refused download is the error or the cause of it."""
    outermost = error
    while error is not None:
        if isinstance(error, _Refused):
            return str(error)
        if type(error).__name__ in _REFUSALS:
            return " ".join(str(outermost).split())
        error = error.__cause__ or error.__context__
    return None


class _NoWeights(dict[str, Any]):
    """Stands for a file of weights that was not loaded."""


@contextmanager
def random_weights() -> Iterator[None]:
    """Let torchvision, timm and torch.hub keep a model's random weights where they would load published ones.

    A measurement needs the shapes, not the values.
    """
    with ExitStack() as stack:
        load = _unless_absent(torch.nn.Module.load_state_dict)
        stack.enter_context(replaced(torch.nn.Module, "load_state_dict", load))
        stack.enter_context(replaced(torch.hub, "load_state_dict_from_url", _no_weights))
        if vision := _module("torchvision.models"):
            stack.enter_context(replaced(vision.WeightsEnum, "get_state_dict", _no_weights))
        if timm := _module("timm"):
            stack.enter_context(replaced(timm, "create_model", _untrained(timm.create_model)))
        yield


def _no_weights(*_: object, **__: object) -> _NoWeights:
    return _NoWeights()


def _unless_absent(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def load_unless_absent(module: torch.nn.Module, state: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - torch's signature
        return None if isinstance(state, _NoWeights) else load(module, state, *args, **kwargs)

    return load_unless_absent


def _untrained(create: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(create)
    def create_untrained(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - timm's signature
        return create(*args, **{**kwargs, "pretrained": False})

    return create_untrained


def _module(name: str) -> Any:  # noqa: ANN401 - a module, or None where it is absent or broken
    try:
        return importlib.import_module(name)
    except Exception:  # noqa: BLE001 - a package that does not fit this torch may raise anything
        return None
