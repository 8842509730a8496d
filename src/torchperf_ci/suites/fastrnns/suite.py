"""The suite `fastrnns`: the variants through compilers, reports and comparisons like any other model.

Here the uncompiled arm of a `jit` variant is TorchScript, and torch.compile sees the Python that it was made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torchperf_ci.suites.fastrnns.catalog import VARIANTS, Group, Sizes, group_of
from torchperf_ci.suites.fastrnns.models import Made, build, heads

GROUPS = {group.value: names for group, names in VARIANTS.items()}
QUICK = ("^jit$", "^py$", "^resnet18$")

SIZES = {
    "full": Sizes(),
    "small": Sizes(
        seq_length=8,
        input_size=64,
        hidden_size=64,
        mini_batch=8,
        min_length=3,
        max_length=8,
        images=4,
        image_size=64,
    ),
}
SEQUENCES = 4
"""Batch size of the variants with sequences of different lengths: a compiler sees every step of every sequence."""


def make(variant: str, batch_size: int | None, *, scale: str = "full") -> Made:
    """`variant` at the sizes of `scale`; with two layers where there is dropout, which lies between layers."""
    sizes = SIZES[scale]
    if group_of(variant) is Group.VL:
        sizes = replace(sizes, mini_batch=SEQUENCES)
    if variant.endswith("_dropout"):
        sizes = replace(sizes, num_layers=2)
    if batch_size is not None:
        sizes = replace(sizes, mini_batch=batch_size, images=batch_size)
    return build(variant, sizes)


MODELS: dict[str, Callable[..., Made]] = {
    variant: partial(make, variant) for names in VARIANTS.values() for variant in names
}


def batch_size(model: str, args: tuple[Any, ...]) -> int:
    """How many sequences or images `args` hold."""
    match group_of(model):
        case Group.RNNS:
            return int(args[0].shape[1])
        case Group.CNNS:
            return int(args[0].shape[0])
        case Group.VL:
            return len(args[0])


def loss(module: nn.Module, output: Any) -> Tensor:  # noqa: ANN401, ARG001 - any variant's output
    """The mean of what a backward pass starts from."""
    return torch.stack([head.float().mean() for head in heads(output)]).mean()
