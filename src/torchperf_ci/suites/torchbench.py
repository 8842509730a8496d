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

from torchperf_ci.suites.published import (
    install_command,
    no_downloads,
    random_weights,
    read_json,
    read_skips,
    read_tolerances,
)
from torchperf_ci.suites.registry import SuiteError

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
    """Make the module and inputs that the model's own class makes.

    It has no sizes to choose from: `small` is a batch of two, where the model lets its batch be chosen. Raises
    `CannotBuild` and `NeedsDownload`.
    """
    checkout = _PACKAGE.parent
    if batch_size is None:  # None still leaves it to the model's class, which knows the device
        batch_size = _DATA["small_batch_size"] if scale == "small" else _DATA["batch_sizes"][mode].get(name)
    special = _DATA["model_kwargs"][mode].get(name)
    with no_downloads(name), random_weights(), _working_folder(checkout):
        module_name = f"torchbenchmark.{_FOLDERS[name].parent.name}.{name}"
        try:
            kind = getattr(importlib.import_module(module_name), "Model", None)
            if kind is None:
                raise CannotBuild(f"{module_name} defines no class Model")
            has_free_batch = getattr(kind, "ALLOW_CUSTOMIZE_BSIZE", True) and name not in _DATA["fixed_batch_sizes"]
            benchmark = kind(
                test=_TESTS[mode],
                device=device,
                batch_size=batch_size if has_free_batch else None,
                extra_args=[],
                **({"model_kwargs": special} if special else {}),
            )
            module, inputs = benchmark.get_module()
        except ModuleNotFoundError as error:
            raise CannotBuild(
                f"{name} needs {error.name}, which is not installed; run `python install.py {name}` in {checkout}"
            ) from error
    if shape := _DATA["image_inputs"].get(name):
        inputs = (torch.rand(benchmark.batch_size, *shape),)
    return (module, (), inputs) if isinstance(inputs, Mapping) else (module, tuple(inputs))


@contextmanager
def _working_folder(folder: Path) -> Iterator[None]:
    """Make `folder` the working folder while the block runs: some models read files by relative paths."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _find_package() -> Path:
    """Return the folder of the package torchbenchmark, made importable. Raises `SuiteError`."""
    if directory := os.environ.get(_DIRECTORY):
        root = Path(directory).absolute()
        if not (root / "torchbenchmark" / "models").is_dir():
            raise SuiteError(f"--torchbench-dir {root} is no checkout of pytorch/benchmark: no torchbenchmark/models")
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
        return root / "torchbenchmark"
    spec = importlib.util.find_spec("torchbenchmark")
    if spec is None or not spec.submodule_search_locations:
        raise SuiteError(
            "torchbenchmark is not installed in this Python; give --torchbench-dir a checkout of "
            f"https://github.com/pytorch/benchmark, or install one with {install_command('PATH_OF_THE_CHECKOUT')}"
        )
    return Path(next(iter(spec.submodule_search_locations))).absolute()


def _find_models(package: Path) -> dict[str, Path]:
    """List the models' folders by name, as the package does; of the canaries those of PyTorch's suite."""
    folders = sorted((package / "models").iterdir())
    canaries = [package / "canary_models" / name for name in _DATA["canary_models"]]
    return {folder.name: folder for folder in [*folders, *canaries] if (folder / "__init__.py").is_file()}


_PACKAGE = _find_package()
_FOLDERS = _find_models(_PACKAGE)
MODELS: Mapping[str, Callable[..., Any]] = MappingProxyType({name: functools.partial(build, name) for name in _FOLDERS})
