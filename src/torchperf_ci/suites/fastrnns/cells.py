"""LSTM layers as loops over time, in the subset of Python that TorchScript compiles.

Shapes: `x` (steps, batch, input), `hidden` and `cell` (batch, hidden), weights as in nn.LSTM. One step is
gates = x·Wihᵀ + h·Whhᵀ + bih + bhh, in the order input, forget, cell, output; c' = f·c + i·g; h' = o·tanh(c').
A loop returns every step's hidden state, stacked, and the last hidden and cell state.

TorchScript reads annotations from the source: this module must not postpone them.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows


def update(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The next hidden and cell state."""
    entry, forget, candidate, exit_ = gates.chunk(4, 1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(candidate)
    return torch.sigmoid(exit_) * torch.tanh(cell), cell


def loop(
    x: Tensor, hidden: Tensor, cell: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Everything inside the loop."""
    steps: list[Tensor] = []
    for step in x.unbind(0):
        gates = torch.mm(step, w_ih.t()) + torch.mm(hidden, w_hh.t()) + b_ih + b_hh
        hidden, cell = update(gates, cell)
        steps.append(hidden)
    return torch.stack(steps), hidden, cell


def premultiplied_loop(
    x: Tensor, hidden: Tensor, cell: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """x·Wihᵀ for all steps in one product before the loop."""
    steps: list[Tensor] = []
    for from_input in torch.matmul(x, w_ih.t()).unbind(0):
        gates = from_input + torch.mm(hidden, w_hh.t()) + b_ih + b_hh
        hidden, cell = update(gates, cell)
        steps.append(hidden)
    return torch.stack(steps), hidden, cell


def premultiplied_biased_loop(
    x: Tensor, hidden: Tensor, cell: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """x·Wihᵀ + bih for all steps before the loop: the gradient of bih is one sum. The cell adds bhh."""
    steps: list[Tensor] = []
    product = torch.mm(x.reshape(-1, x.size(2)), w_ih.t()) + b_ih
    for from_input in product.view(x.size(0), x.size(1), -1).unbind(0):
        gates = from_input + torch.mm(hidden, w_hh.t()) + b_hh
        hidden, cell = update(gates, cell)
        steps.append(hidden)
    return torch.stack(steps), hidden, cell


def last_state_loop(
    x: Tensor, hidden: Tensor, cell: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor]:
    """No list of outputs: the last hidden and cell state only."""
    for step in x.unbind(0):
        gates = torch.mm(step, w_ih.t()) + torch.mm(hidden, w_hh.t()) + b_ih + b_hh
        hidden, cell = update(gates, cell)
    return hidden, cell


def layers_loop(
    x: Tensor, hidden: tuple[Tensor, Tensor], weights: list[Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The loop over layers in script too. `hidden` is (layers, batch, hidden) twice, `weights` four tensors a layer."""
    hiddens: list[Tensor] = []
    cells: list[Tensor] = []
    for layer in range(len(weights) // 4):
        w_ih, w_hh, b_ih, b_hh = (
            weights[4 * layer],
            weights[4 * layer + 1],
            weights[4 * layer + 2],
            weights[4 * layer + 3],
        )
        x, last, cell = loop(x, hidden[0][layer], hidden[1][layer], w_ih, w_hh, b_ih, b_hh)
        hiddens.append(last)
        cells.append(cell)
    return x, (torch.stack(hiddens), torch.stack(cells))


def sequences_loop(
    sequences: list[Tensor], hidden: Tensor, cell: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Sequences of different lengths, (steps, input) each, one after the other."""
    outputs: list[Tensor] = []
    hiddens: list[Tensor] = []
    cells: list[Tensor] = []
    for row, sequence in enumerate(sequences):
        output, last, last_cell = loop(
            sequence.unsqueeze(1), hidden[row].unsqueeze(0), cell[row].unsqueeze(0), w_ih, w_hh, b_ih, b_hh
        )
        outputs.append(output.squeeze(1))
        hiddens.append(last)
        cells.append(last_cell)
    return outputs, torch.cat(hiddens), torch.cat(cells)


def normalize(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer norm over the last dimension by torch's operator."""
    return F.layer_norm(x, [x.size(-1)], weight, bias, 1e-5)


def normalize_decomposed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer norm over the last dimension from simple operations, which a fuser can join with what stands around."""
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred * torch.rsqrt(variance + 1e-5) * weight + bias


def normalized_loop(norm: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """A loop whose cell normalizes x·Wihᵀ, h·Whhᵀ and the cell state (Ba et al., "Layer Normalization", 2016).

    The norms' biases take the place of the gates' ones. `norms` is weight and bias of the three norms in that order.
    """

    def loop_with_norms(
        x: Tensor, hidden: Tensor, cell: Tensor, w_ih: Tensor, w_hh: Tensor, norms: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        steps: list[Tensor] = []
        for step in x.unbind(0):
            gates = norm(torch.mm(step, w_ih.t()), norms[0], norms[1])
            gates = gates + norm(torch.mm(hidden, w_hh.t()), norms[2], norms[3])
            entry, forget, candidate, exit_ = gates.chunk(4, 1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(candidate)
            cell = norm(cell, norms[4], norms[5])
            hidden = torch.sigmoid(exit_) * torch.tanh(cell)
            steps.append(hidden)
        return torch.stack(steps), hidden, cell

    return loop_with_norms
