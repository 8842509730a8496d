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
from torch import Tensor

from torchperf_ci.suites.published import (
    device_memory_gb,
    fitting_batch_size,
    install_command,
    missing_package,
    no_downloads,
    read_json,
    read_skips,
    read_tolerances,
)

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
class TransformersModel:
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


CATALOG: Mapping[str, TransformersModel] = MappingProxyType(
    {
        name: TransformersModel(
            name=name,
            class_name=row.get("class", name),
            published=row.get("published", ""),
            task=row["task"],
            length=row.get("length", 0),
            batch_size=row["batch_size"],
            parameters=row["parameters"],
            config=row["config"],
            small={**(_DATA["small_shapes"][row["shape"]] if "shape" in row else {}), **row.get("small", {})},
        )
        for name, row in _DATA["models"].items()
    }
)
"""Every model of the suite by name."""


class NoSuchClass(Exception):
    """This transformers does not have the model's class."""


def missing(name: str | None = None) -> str | None:
    """Say why the suite, or the model `name`, cannot run in this Python; None when it can."""
    if reason := missing_package("transformers", minimum=MINIMUM):
        return reason
    return _missing_class(CATALOG[name]) if name else None


def _missing_class(model: TransformersModel) -> str | None:
    import transformers

    if hasattr(transformers, model.class_name):
        return None
    upgrade = install_command("--upgrade", "transformers")
    return f"transformers {transformers.__version__} has no class {model.class_name}; {upgrade} may bring it"


def describe(name: str) -> str:
    model = CATALOG[name]
    extent = f"{model.length} tokens" if model.length else f"{model.config['image_size']} px"
    size = f"{model.parameters / 1e6:,.0f} M parameters, batch {model.batch_size}, {extent}"
    return f"{model.published}: {size}" if model.published else size


def build(
    model: TransformersModel, batch_size: int | None, *, mode: str, device: str, scale: str
) -> tuple[torch.nn.Module, tuple[()], Inputs]:
    """Make the module with random weights, and its inputs by name; in training with labels, so that it has a loss.

    Raises `NoSuchClass` where transformers lacks the class and `NeedsDownload` where the configuration is not enough.
    """
    if reason := _missing_class(model):
        raise NoSuchClass(reason)
    with no_downloads(model.name), torch.device(device):
        module = make_module(model, scale=scale)
    if scale == "small":
        length, batch = min(model.length, _DATA["small_length"]), int(_DATA["small_batch_size"])
    else:
        length, memory = model.length, device_memory_gb(device)
        batch = fitting_batch_size(model.batch_size, reference_gb=_DATA["memory_gb"], memory_gb=memory)
    inputs = make_inputs(model.task, module.config, batch=batch_size or batch, length=length, labels=mode == "training")
    return module, (), inputs


def make_module(model: TransformersModel, *, scale: str) -> torch.nn.Module:
    """Make the model's class with random weights, on torch's default device."""
    import transformers

    kind = getattr(transformers, model.class_name)
    config = kind.config_class(**{**model.config, **(model.small if scale == "small" else {})})
    config.use_cache = False  # every iteration is one whole forward: nothing is kept for a next token
    module: torch.nn.Module = kind(config)
    return module


Inputs = dict[str, Tensor]


def make_inputs(task: str, config: Any, *, batch: int, length: int, labels: bool) -> Inputs:  # noqa: ANN401 - any transformers configuration
    """Make random keyword arguments for a model of `config`, on the CPU; with `labels` it computes its own loss.

    Token ids are int64 of shape (batch, length); images are (batch, channels, height, width), and have no length.
    """

    def tokens() -> Tensor:
        return torch.randint(0, config.vocab_size, (batch, length))

    inputs: Inputs
    if task == "image":
        inputs = {"pixel_values": torch.randn(batch, config.num_channels, config.image_size, config.image_size)}
    elif task == "speech":
        frames = 2 * config.max_source_positions  # of a log-mel spectrogram; the first convolutions halve them
        spectrogram = torch.randn(batch, config.num_mel_bins, frames)
        inputs = {"input_features": spectrogram, "decoder_input_ids": tokens()}
    else:
        inputs = {"input_ids": tokens()}
        if task == "sequence_to_sequence":
            inputs["decoder_input_ids"] = inputs["input_ids"].clone()
    if labels:
        is_class = task in {"image", "classification"}  # else every position has a label, masked and causal alike
        inputs["labels"] = torch.randint(0, config.num_labels, (batch,)) if is_class else tokens()
    return inputs


MODELS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {name: functools.partial(build, model) for name, model in CATALOG.items()}
)
