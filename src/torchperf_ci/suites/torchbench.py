"""The torchbench suite: the models of pytorch/benchmark through their own factories, with random weights.

They come from the checkout that TORCHPERF_TORCHBENCH_DIR (`--torchbench-dir`) names, else from an installed
torchbenchmark. Importing this module imports none of them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from torchperf_ci.suites.offline import no_downloads, random_weights
from torchperf_ci.suites.registry import SuiteError
from torchperf_ci.suites.requirements import install_command
from torchperf_ci.suites.tables import read_json, read_skips, read_tolerances

QUICK = ("resnet..$",)
PRELOAD = ("torchvision", "timm")
SKIPS = read_skips("torchbench")

_DATA = read_json("torchbench")
_TOLERANCES = read_tolerances("torchbench")
tolerance = _TOLERANCES.tolerance
use_cosine = _TOLERANCES.use_cosine

_DIRECTORY = "TORCHPERF_TORCHBENCH_DIR"
_TESTS = {"training": "train", "inference": "eval"}


class CannotBuild(Exception):
    """A model whose own factory does not give a module here; the message says what to do."""


def build(name: str, batch_size: int | None, *, mode: str, device: str, scale: str) -> tuple[Any, ...]:
    """The module and inputs that the model's own class makes.

    It has no sizes to choose from: `small` is a batch of two, where the model lets its batch be chosen.
    """
    with _explained(name), no_downloads(name), random_weights(), _inside(_checkout()):
        kind = _model_class(name)
        size = batch_size or _default_batch_size(name, mode=mode, scale=scale)
        benchmark = kind(
            test=_TESTS[mode],
            device=device,
            batch_size=size if _has_free_batch(name, kind) else None,
            extra_args=[],
            **_model_kwargs(name, mode),
        )
        module, inputs = benchmark.get_module()
    if shape := _DATA["image_inputs"].get(name):
        inputs = (torch.rand(benchmark.batch_size, *shape),)
    return (module, (), inputs) if isinstance(inputs, Mapping) else (module, tuple(inputs))


def _model_kwargs(name: str, mode: str) -> dict[str, Any]:
    special = _DATA["model_kwargs"][mode].get(name)
    return {"model_kwargs": special} if special else {}


def _has_free_batch(name: str, kind: type) -> bool:
    return getattr(kind, "ALLOW_CUSTOMIZE_BSIZE", True) and name not in _DATA["fixed_batch_sizes"]


def _default_batch_size(name: str, *, mode: str, scale: str) -> int | None:
    """None leaves it to the model's class, which knows the device."""
    if scale == "small":
        return int(_DATA["small_batch_size"])
    size: int | None = _DATA["batch_sizes"][mode].get(name)
    return size


def _model_class(name: str) -> type:
    module = f"torchbenchmark.{_FOLDERS[name].parent.name}.{name}"
    kind: type | None = getattr(importlib.import_module(module), "Model", None)
    if kind is None:
        raise CannotBuild(f"{module} defines no class Model")
    return kind


def _checkout() -> Path:
    return _PACKAGE.parent


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """A package that a model needs and this Python lacks is told with the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CannotBuild(
            f"{name} needs {error.name}, which is not installed; run `python install.py {name}` in {_checkout()}"
        ) from error


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """`folder` as the working directory: some models read files by relative paths."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _find_package() -> Path:
    """The folder of the package torchbenchmark, which can be imported from then on. Raises `SuiteError`."""
    if directory := os.environ.get(_DIRECTORY):
        root = Path(directory).absolute()
        if not (root / "torchbenchmark" / "models").is_dir():
            raise SuiteError(f"--torchbench-dir {root} is no checkout of pytorch/benchmark: no torchbenchmark/models")
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
        return root / "torchbenchmark"
    found = importlib.util.find_spec("torchbenchmark")
    if found is None or not found.submodule_search_locations:
        raise SuiteError(
            "torchbenchmark is not installed in this Python; give --torchbench-dir a checkout of "
            f"https://github.com/pytorch/benchmark, or install one with {install_command('PATH_OF_THE_CHECKOUT')}"
        )
    return Path(next(iter(found.submodule_search_locations))).absolute()


def _find_models(package: Path) -> dict[str, Path]:
    """The models' folders by name, as the package itself lists them; of the canaries those PyTorch's suite takes."""
    folders = sorted((package / "models").iterdir())
    canaries = [package / "canary_models" / name for name in _DATA["canary_models"]]
    return {folder.name: folder for folder in [*folders, *canaries] if (folder / "__init__.py").is_file()}


_PACKAGE = _find_package()
_FOLDERS = _find_models(_PACKAGE)
MODELS: Mapping[str, Callable[..., Any]] = MappingProxyType({name: functools.partial(build, name) for name in _FOLDERS})
