"""The timm_models suite: image models from timm's own factory, with random weights.

Without more it is the list of PyTorch's suite of that name (`data/timm_models.csv`). The environment variable
TORCHPERF_TIMM_MODELS holds wildcards ("resnet*,vit_tiny*", "*") for what timm itself lists, in its place.
"""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from torchperf_ci.suites.published import (
    device_memory_gb,
    fitting_batch_size,
    missing_package,
    read_rows,
    read_skips,
    read_tolerances,
)
from torchperf_ci.suites.registry import SuiteError

MINIMUM = "1.0"
"""The oldest timm that knows every name of the list."""

QUICK = ("^resnet", "^inception")
PRELOAD = ("timm",)
SKIPS = read_skips("timm_models")

_TOLERANCES = read_tolerances("timm_models")
tolerance = _TOLERANCES.tolerance
use_cosine = _TOLERANCES.use_cosine

_WILDCARDS = "TORCHPERF_TIMM_MODELS"
_MEMORY_GB = 40
_DEFAULT_BATCH_SIZE = 64
_SMALL_BATCH_SIZE = 2  # batch norm in training needs more than one value
_SMALL_IMAGE = 112  # a multiple of 14 and of 16, the patches of most transformers


@dataclass(frozen=True, kw_only=True)
class TimmModel:
    """A row of the list. `batch_size` fits a device with 40 GB; `image_size` is that of inference, in pixels."""

    batch_size: int
    parameters: int
    image_size: int


CATALOG: Mapping[str, TimmModel] = MappingProxyType(
    {
        row["name"]: TimmModel(
            batch_size=int(row["batch_size"]),
            parameters=int(row["parameters"]),
            image_size=int(row["image_size"]),
        )
        for row in read_rows("timm_models.csv")
    }
)
"""The models of PyTorch's suite by name."""


def missing(name: str | None = None) -> str | None:
    """Say why the suite, or the model `name`, cannot run in this Python; None when it can."""
    if reason := missing_package("timm", minimum=MINIMUM):
        return reason
    if name is None:
        return None
    import timm  # type: ignore[import-not-found, unused-ignore]  # only where it is installed

    if timm.is_model(name):
        return None
    near = difflib.get_close_matches(name, timm.list_models(), n=1)
    hint = f"; the nearest it has is {near[0]}" if near else ""
    return f"timm {timm.__version__} has no model {name}{hint}"


def describe(name: str) -> str:
    """Give the published size in one line; nothing for a model that is not in the list."""
    if name not in CATALOG:
        return ""
    model = CATALOG[name]
    return f"{model.parameters / 1e6:,.0f} M parameters, batch {model.batch_size}, {model.image_size} px"


def build(
    name: str, batch_size: int | None, *, mode: str, device: str, scale: str
) -> tuple[torch.nn.Module, tuple[torch.Tensor]]:
    """Make the module with random weights, and images of shape (batch, channels, height, width).

    `small` keeps the architecture, and takes two images of 112 pixels where the model lets its size be chosen.
    """
    from timm.data import resolve_data_config  # type: ignore[import-not-found, unused-ignore]  # only where there is timm

    with torch.device(device):
        module, size = _create_small(name) if scale == "small" else (_create(name), None)
    channels, *published = resolve_data_config({}, model=module, use_test_size=mode != "training")["input_size"]
    height, width = (min(side, size or side) for side in published)
    if scale == "small":
        batch = _SMALL_BATCH_SIZE
    else:
        listed = CATALOG[name].batch_size if name in CATALOG else _DEFAULT_BATCH_SIZE
        batch = fitting_batch_size(listed, reference_gb=_MEMORY_GB, memory_gb=device_memory_gb(device))
    return module, (torch.randn(batch_size or batch, channels, height, width),)


def _create(name: str, **settings: int) -> torch.nn.Module:
    import timm

    module: torch.nn.Module = timm.create_model(name, pretrained=False, in_chans=3, drop_rate=0.0, **settings)
    return module


def _create_small(name: str) -> tuple[torch.nn.Module, int | None]:
    """Make the module; also return the side of the images it takes, None for those it was published with."""
    import timm

    published = timm.get_pretrained_cfg(name)
    if not (published and published.fixed_input_size):
        return _create(name), _SMALL_IMAGE
    try:
        return _create(name, img_size=_SMALL_IMAGE), _SMALL_IMAGE
    except TypeError:  # the size is built in
        return _create(name), None


def _list_names() -> list[str]:
    wildcards = os.environ.get(_WILDCARDS, "").replace(",", " ").split()
    if not wildcards:
        return list(CATALOG)
    if reason := missing_package("timm", minimum=MINIMUM):
        raise SuiteError(f"{_WILDCARDS} asks timm for its models, and {reason}")
    import timm

    names: list[str] = timm.list_models(wildcards)
    if not names:
        raise SuiteError(f"{_WILDCARDS}={' '.join(wildcards)}: timm {timm.__version__} lists no such model")
    return names


MODELS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {name: functools.partial(build, name) for name in _list_names()}
)
