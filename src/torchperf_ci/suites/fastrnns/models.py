"""Builds the variants: a module and its inputs on the CPU, at given sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torchperf_ci.suites import resnet
from torchperf_ci.suites.fastrnns import cells
from torchperf_ci.suites.fastrnns.catalog import Sizes
from torchperf_ci.suites.fastrnns.lstm import (
    DROPOUT,
    AtenLSTM,
    FlatLSTM,
    Layer,
    LayerNormBound,
    MultilayerLSTM,
    NormalizedLayer,
    PackedLSTM,
    StackedLSTM,
    States,
)
from torchperf_ci.suites.fastrnns.torchscript import Scripted, Traced

Made = tuple[nn.Module, tuple[Any, ...]]


def build(variant: str, sizes: Sizes) -> Made:
    """The module of `variant` in training mode, and its positional arguments; weights and inputs are random.

    Raises `KeyError` for a name that is not in the catalog and `ValueError` for sizes that the variant cannot have.
    """
    return BUILDERS[variant](sizes)


def heads(output: Any) -> list[Tensor]:  # noqa: ANN401 - any variant's output
    """The tensors that a backward pass starts from."""
    first = output if isinstance(output, Tensor) else output[0]
    return [first] if isinstance(first, Tensor) else list(first)


def _states(sizes: Sizes) -> States:
    shape = (sizes.num_layers, sizes.mini_batch, sizes.hidden_size)
    return torch.randn(shape), torch.randn(shape)


def _inputs(sizes: Sizes) -> tuple[Tensor, States]:
    return torch.randn(sizes.seq_length, sizes.mini_batch, sizes.input_size), _states(sizes)


def _sequences(sizes: Sizes) -> tuple[list[Tensor], States]:
    lengths = torch.randint(sizes.min_length, sizes.max_length + 1, (sizes.mini_batch,)).tolist()
    return [torch.randn(length, sizes.input_size) for length in lengths], _states(sizes)


def _torch_lstm(kind: type[nn.LSTM], sizes: Sizes, *, dropout: float = 0.0) -> nn.LSTM:
    """nn.LSTM has dropout between layers, and warns of it where there is one layer."""
    return kind(sizes.input_size, sizes.hidden_size, sizes.num_layers, dropout=dropout if sizes.num_layers > 1 else 0.0)


def _scripted(loop: Callable[..., Any], sizes: Sizes, *, dropout: float = 0.0) -> Made:
    return StackedLSTM(Layer, Scripted(loop), sizes, dropout=dropout), _inputs(sizes)


def _layer_norm(norm: Callable[[Tensor, Tensor, Tensor], Tensor], sizes: Sizes) -> Made:
    return StackedLSTM(NormalizedLayer, Scripted(cells.normalized_loop(norm)), sizes), _inputs(sizes)


def _simple(sizes: Sizes) -> Made:
    module = FlatLSTM(Scripted(cells.last_state_loop), sizes)
    x, (hidden, cell) = _inputs(sizes)
    return module, (x, hidden[0], cell[0])


def _layer_norm_bound(sizes: Sizes) -> Made:
    gates = torch.randn(sizes.mini_batch, 4 * sizes.hidden_size)
    return LayerNormBound(sizes), (*_inputs(sizes), gates)


def _convolutional(make: Callable[[], nn.Module], sizes: Sizes, *, traced: bool = False) -> Made:
    module = Traced(make()) if traced else make()
    return module, (torch.randn(sizes.images, 3, sizes.image_size, sizes.image_size),)


BUILDERS: Mapping[str, Callable[[Sizes], Made]] = {
    "cudnn": lambda sizes: (_torch_lstm(nn.LSTM, sizes), _inputs(sizes)),
    "aten": lambda sizes: (_torch_lstm(AtenLSTM, sizes), _inputs(sizes)),
    "jit": partial(_scripted, cells.loop),
    "jit_premul": partial(_scripted, cells.premultiplied_loop),
    "jit_premul_bias": partial(_scripted, cells.premultiplied_biased_loop),
    "jit_simple": _simple,
    "jit_multilayer": lambda sizes: (MultilayerLSTM(Scripted(cells.layers_loop), sizes), _inputs(sizes)),
    "jit_layernorm": partial(_layer_norm, cells.normalize),
    "jit_layernorm_decom": partial(_layer_norm, cells.normalize_decomposed),
    "jit_dropout": partial(_scripted, cells.loop, dropout=DROPOUT),
    "cudnn_dropout": lambda sizes: (_torch_lstm(nn.LSTM, sizes, dropout=DROPOUT), _inputs(sizes)),
    "cudnn_layernorm": _layer_norm_bound,
    "py": lambda sizes: (StackedLSTM(Layer, cells.loop, sizes), _inputs(sizes)),
    "vl_cudnn": lambda sizes: (_torch_lstm(PackedLSTM, sizes), _sequences(sizes)),
    "vl_jit": lambda sizes: (StackedLSTM(Layer, Scripted(cells.sequences_loop), sizes), _sequences(sizes)),
    "vl_py": lambda sizes: (StackedLSTM(Layer, cells.sequences_loop, sizes), _sequences(sizes)),
    "resnet18": partial(_convolutional, resnet.resnet18),
    "resnet18_jit": partial(_convolutional, resnet.resnet18, traced=True),
    "resnet50": partial(_convolutional, resnet.resnet50),
    "resnet50_jit": partial(_convolutional, resnet.resnet50, traced=True),
}
"""How each variant of the catalog is built."""
