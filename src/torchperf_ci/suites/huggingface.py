"""The huggingface suite: transformers models from their configuration classes, with random weights.

Names and meaning are those of PyTorch's suite of that name; the configurations stand in `data/huggingface.json`.
Nothing is downloaded, and transformers is imported only when a model is built.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from torchperf_ci.suites.device_memory import device_memory_gb, fitting_batch_size
from torchperf_ci.suites.huggingface_inputs import make_inputs
from torchperf_ci.suites.offline import no_downloads
from torchperf_ci.suites.requirements import install_command, missing_package
from torchperf_ci.suites.tables import read_json, read_skips, read_tolerances

MINIMUM = "4.44"
"""The oldest transformers the configurations were written for."""

QUICK = ("Albert",)
PRELOAD = ("transformers", "transformers.modeling_utils", "transformers.generation")
SKIPS = read_skips("huggingface")

_DATA = read_json("huggingface")
_TOLERANCES = read_tolerances("huggingface")
tolerance = _TOLERANCES.tolerance
use_cosine = _TOLERANCES.use_cosine


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model as the data file has it.

    config, small: keyword arguments of the configuration class, published and for `--scale small`.
    published: the name its sizes were published under, where the class has several. parameters: at those sizes.
    length: tokens of an input (0: an image). batch_size: what fits a device with the file's `memory_gb`.
    """

    name: str
    class_name: str
    published: str
    task: str
    length: int
    batch_size: int
    parameters: int
    config: Mapping[str, Any]
    small: Mapping[str, Any]

    def settings(self, *, scale: str) -> Mapping[str, Any]:
        """Keyword arguments of the configuration class."""
        return {**self.config, **self.small} if scale == "small" else self.config

    def default_batch_size(self, *, scale: str, device: str) -> int:
        """The batch size where none is asked for."""
        if scale == "small":
            return int(_DATA["small_batch_size"])
        return fitting_batch_size(self.batch_size, reference_gb=_DATA["memory_gb"], memory_gb=device_memory_gb(device))


def _read(name: str, row: Mapping[str, Any]) -> Model:
    shape = _DATA["small_shapes"][row["shape"]] if "shape" in row else {}
    return Model(
        name=name,
        class_name=row.get("class", name),
        published=row.get("published", ""),
        task=row["task"],
        length=row.get("length", 0),
        batch_size=row["batch_size"],
        parameters=row["parameters"],
        config=row["config"],
        small={**shape, **row.get("small", {})},
    )


CATALOG: Mapping[str, Model] = MappingProxyType({name: _read(name, row) for name, row in _DATA["models"].items()})
"""Every model of the suite by name."""


class NoSuchClass(Exception):
    """This transformers does not have the model's class."""


def missing(name: str | None = None) -> str | None:
    """Why the suite, or the model `name`, cannot run in this Python; None when it can."""
    if reason := missing_package("transformers", minimum=MINIMUM):
        return reason
    return _missing_class(CATALOG[name]) if name else None


def describe(name: str) -> str:
    """The published size in one line."""
    model = CATALOG[name]
    extent = f"{model.length} tokens" if model.length else f"{model.config['image_size']} px"
    size = f"{model.parameters / 1e6:,.0f} M parameters, batch {model.batch_size}, {extent}"
    return f"{model.published}: {size}" if model.published else size


def build(
    model: Model, batch_size: int | None, *, mode: str, device: str, scale: str
) -> tuple[torch.nn.Module, tuple[()], dict[str, torch.Tensor]]:
    """The module with random weights, and its inputs by name; in training with labels, so that it has a loss.

    Raises `NoSuchClass` where transformers lacks the class and `NeedsDownload` where the configuration is not enough.
    """
    if reason := _missing_class(model):
        raise NoSuchClass(reason)
    with no_downloads(model.name), torch.device(device):
        module = make_module(model, scale=scale)
    length = min(model.length, _DATA["small_length"]) if scale == "small" else model.length
    batch = batch_size or model.default_batch_size(scale=scale, device=device)
    inputs = make_inputs(model.task, module.config, batch=batch, length=length, labels=mode == "training")
    return module, (), inputs


def make_module(model: Model, *, scale: str) -> torch.nn.Module:
    """The model's class with random weights, on torch's default device."""
    import transformers

    kind = getattr(transformers, model.class_name)
    config = kind.config_class(**model.settings(scale=scale))
    config.use_cache = False  # every iteration is one whole forward: nothing is kept for a next token
    module: torch.nn.Module = kind(config)
    return module


def _missing_class(model: Model) -> str | None:
    import transformers

    if hasattr(transformers, model.class_name):
        return None
    upgrade = install_command("--upgrade", "transformers")
    return f"transformers {transformers.__version__} has no class {model.class_name}; {upgrade} may bring it"


MODELS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {name: functools.partial(build, model) for name, model in CATALOG.items()}
)
