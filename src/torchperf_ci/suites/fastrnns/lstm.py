"""The LSTM variants as modules. Time comes first: inputs (steps, batch, input), states (layers, batch, hidden).

Every forward returns first what a backward pass starts from (a tensor or a list of tensors), then the last states,
where nn.LSTM does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from torchperf_ci.suites.fastrnns.catalog import Sizes

Loop = Callable[..., Any]
States = tuple[Tensor, Tensor]

DROPOUT = 0.4


class Layer(nn.Module):
    """One layer's weights, initialised as nn.LSTM's, and the loop that uses them."""

    def __init__(self, loop: Loop, inputs: int, hidden: int) -> None:
        super().__init__()
        self.loop = loop
        self.weight_ih, self.weight_hh = _weight(4 * hidden, inputs), _weight(4 * hidden, hidden)
        self.bias_ih, self.bias_hh = _weight(4 * hidden), _weight(4 * hidden)
        initialise(self, hidden)

    def forward(self, x: Any, hidden: Tensor, cell: Tensor) -> Any:  # noqa: ANN401 - a tensor, or a list of sequences
        """`x` through the loop: outputs of every step, last hidden state, last cell state."""
        return self.loop(x, hidden, cell, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


class NormalizedLayer(nn.Module):
    """One layer with layer norm in its cell; the norms have the biases."""

    def __init__(self, loop: Loop, inputs: int, hidden: int) -> None:
        super().__init__()
        self.loop = loop
        self.weight_ih, self.weight_hh = _weight(4 * hidden, inputs), _weight(4 * hidden, hidden)
        initialise(self, hidden)
        self.norm_ih, self.norm_hh = nn.LayerNorm(4 * hidden), nn.LayerNorm(4 * hidden)
        self.norm_cell = nn.LayerNorm(hidden)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> Any:  # noqa: ANN401 - as `Layer`
        norms = [t for norm in (self.norm_ih, self.norm_hh, self.norm_cell) for t in (norm.weight, norm.bias)]
        return self.loop(x, hidden, cell, self.weight_ih, self.weight_hh, norms)


class StackedLSTM(nn.Module):
    """Layers one after the other, with dropout between them where asked for, as nn.LSTM has it."""

    def __init__(
        self, make_layer: Callable[[Loop, int, int], nn.Module], loop: Loop, sizes: Sizes, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [sizes.input_size, *[sizes.hidden_size] * (sizes.num_layers - 1)]
        self.layers = nn.ModuleList(make_layer(loop, width, sizes.hidden_size) for width in widths)
        self.dropout = dropout

    def forward(self, x: Any, states: States) -> tuple[Any, States]:  # noqa: ANN401 - a tensor, or a list of sequences
        hiddens, cells = [], []
        for number, layer in enumerate(self.layers):
            if self.dropout and number:
                x = F.dropout(x, self.dropout, self.training)
            x, hidden, cell = layer(x, states[0][number], states[1][number])
            hiddens.append(hidden)
            cells.append(cell)
        return x, (torch.stack(hiddens), torch.stack(cells))


class FlatLSTM(nn.Module):
    """One layer over flat states (batch, hidden), returning the last ones only."""

    def __init__(self, loop: Loop, sizes: Sizes) -> None:
        super().__init__()
        if sizes.num_layers != 1:
            raise ValueError(f"jit_simple has one layer: it does not run with {sizes.num_layers}")
        self.layer = Layer(loop, sizes.input_size, sizes.hidden_size)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> States:
        return self.layer(x, hidden, cell)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped


class MultilayerLSTM(nn.Module):
    """All layers in one loop, its weights a flat list: Wih, Whh, bih and bhh of each layer."""

    def __init__(self, loop: Loop, sizes: Sizes) -> None:
        super().__init__()
        self.loop = loop
        lstm = nn.LSTM(sizes.input_size, sizes.hidden_size, sizes.num_layers)
        self.weights = nn.ParameterList(lstm.parameters())

    def forward(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        return self.loop(x, states, list(self.weights))  # type: ignore[no-any-return]  # a function under TorchScript


class AtenLSTM(nn.LSTM):
    """nn.LSTM with cuDNN off. On a CPU, where there is no cuDNN, it is nn.LSTM."""

    def forward(self, x: Tensor, states: States) -> tuple[Tensor, States]:  # type: ignore[override]  # no overloads
        cudnn = torch.backends.cudnn
        before, cudnn.enabled = cudnn.enabled, False
        try:
            return super().forward(x, states)
        finally:
            cudnn.enabled = before


class PackedLSTM(nn.LSTM):
    """nn.LSTM over sequences of different lengths, packed; the outputs are padded with zeros to the longest."""

    def forward(self, sequences: Sequence[Tensor], states: States) -> tuple[Tensor, States]:  # type: ignore[override]  # no overloads
        packed, last = super().forward(pack_sequence(list(sequences), enforce_sorted=False), states)
        return pad_packed_sequence(packed)[0], last


class LayerNormBound(nn.Module):
    """What a fused layer-norm LSTM would cost at least: nn.LSTM, and beside it the layer norms of every step.

    cuDNN has no layer norm inside its LSTM. The norms run over tensors of the cell's sizes, each on what the one
    before made, as they would in the recurrence; the LSTM's own results are nn.LSTM's.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.lstm = nn.LSTM(sizes.input_size, sizes.hidden_size, sizes.num_layers)
        self.norm_ih, self.norm_hh = nn.LayerNorm(4 * sizes.hidden_size), nn.LayerNorm(4 * sizes.hidden_size)
        self.norm_cell = nn.LayerNorm(sizes.hidden_size)

    def forward(self, x: Tensor, states: States, gates: Tensor) -> tuple[list[Tensor], States]:
        """`gates`: (batch, 4·hidden), what the norms of the gates begin with."""
        output, last = self.lstm(x, states)
        cell = last[1][-1]
        for _ in range(x.shape[0] * self.lstm.num_layers):
            gates = self.norm_hh(self.norm_ih(gates))
            cell = self.norm_cell(cell)
        return [output, gates, cell], last


def initialise(module: nn.Module, hidden: int) -> None:
    """nn.LSTM's initial weights: uniform within ±1/√hidden."""
    bound = 1 / math.sqrt(hidden)
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -bound, bound)


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape))
