"""Every LSTM variant computes what nn.LSTM computes: same weights, outputs and gradients, in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows

from torchperf_ci.suites.fastrnns.catalog import Sizes
from torchperf_ci.suites.fastrnns.suite import DROPOUT, build, heads
from torchperf_ci.worker.load import to_device

SIZES = Sizes(seq_length=5, num_layers=2, input_size=6, hidden_size=4, mini_batch=3, min_length=2, max_length=7)
ONE_LAYER = replace(SIZES, num_layers=1)
CALLS = 4  # TorchScript's profiling executor runs its optimized plan from the third call on

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
    ),
]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Tensors a forward pass returned, and the gradients of weights and inputs from the same starting gradients."""

    heads: list[Tensor]
    states: tuple[Tensor, Tensor]
    gradients: list[Tensor]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def made(variant: str, sizes: Sizes, device: torch.device) -> tuple[nn.Module, tuple[Any, ...]]:
    """The variant in float64 on `device`, its inputs with gradients."""
    module, args = build(variant, sizes)
    args = to_device(args, device)
    return module.to(device, torch.float64), _map(lambda t: t.double().requires_grad_(), args)


def reference_lstm(module: nn.Module, sizes: Sizes, device: torch.device, *, dropout: float = 0.0) -> nn.LSTM:
    """nn.LSTM with the weights of `module`, whose parameters have nn.LSTM's order."""
    lstm = nn.LSTM(sizes.input_size, sizes.hidden_size, sizes.num_layers, dropout=dropout).to(device, torch.float64)
    with torch.no_grad():
        for mine, theirs in zip(lstm.parameters(), module.parameters(), strict=True):
            mine.copy_(theirs)
    return lstm


def results(call: Any, leaves: list[Tensor], *, calls: int = 1, seed: int = 1) -> Result:
    """What `call` returns the last of `calls` times, and gradients from fixed starting gradients."""
    for _ in range(calls):
        torch.manual_seed(seed)
        output = call()
        starts = heads(output)
        torch.manual_seed(seed + 1)
        weights = [torch.randn(start.shape, dtype=start.dtype).to(start.device) for start in starts]
        gradients = torch.autograd.grad(starts, leaves, weights)
    return Result(heads=starts, states=output[1], gradients=list(gradients))


def check(found: Result, expected: Result) -> None:
    torch.testing.assert_close(found.heads, expected.heads, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found.states, expected.states, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found.gradients, expected.gradients, rtol=1e-8, atol=1e-9)


def leaves_of(args: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map(found.append, args)
    return found


def _map(function: Any, value: Any) -> Any:
    return function(value) if isinstance(value, Tensor) else type(value)(_map(function, item) for item in value)


@pytest.mark.parametrize("sizes", [ONE_LAYER, SIZES], ids=["one layer", "two layers"])
@pytest.mark.parametrize("variant", ["cudnn", "aten", "jit", "jit_premul", "jit_premul_bias", "jit_multilayer", "py"])
def test_sequence_variants_are_an_lstm(variant: str, sizes: Sizes, device: torch.device) -> None:
    """Outputs, last states and all gradients are those of nn.LSTM."""
    module, args = made(variant, sizes, device)
    lstm = reference_lstm(module, sizes, device)
    found = results(lambda: module(*args), [*module.parameters(), *leaves_of(args)], calls=CALLS)
    check(found, results(lambda: lstm(*args), [*lstm.parameters(), *leaves_of(args)]))


def test_jit_simple_returns_the_last_states(device: torch.device) -> None:
    """jit_simple takes flat states and returns the last hidden and cell state of an nn.LSTM."""
    module, (x, hidden, cell) = made("jit_simple", ONE_LAYER, device)
    lstm = reference_lstm(module, ONE_LAYER, device)

    def last() -> tuple[Tensor, Tensor]:
        _, (h, c) = lstm(x, (hidden[None], cell[None]))
        return h[0], c[0]

    found = results(lambda: module(x, hidden, cell), [*module.parameters(), x, hidden], calls=CALLS)
    check(found, results(last, [*lstm.parameters(), x, hidden]))


def test_jit_simple_has_one_layer() -> None:
    """jit_simple refuses more layers with a message that says so."""
    with pytest.raises(ValueError, match="jit_simple has one layer: it does not run with 2"):
        build("jit_simple", SIZES)


@pytest.mark.parametrize("variant", ["vl_cudnn", "vl_jit", "vl_py"])
@pytest.mark.parametrize("sizes", [ONE_LAYER, SIZES], ids=["one layer", "two layers"])
def test_variants_of_varying_length_are_an_lstm(variant: str, sizes: Sizes, device: torch.device) -> None:
    """Every sequence gets what nn.LSTM makes of it alone; padding, where there is any, is zero."""
    module, (sequences, states) = made(variant, sizes, device)
    lstm = reference_lstm(module, sizes, device)
    lengths = [len(sequence) for sequence in sequences]
    assert len(set(lengths)) > 1
    assert all(sizes.min_length <= length <= sizes.max_length for length in lengths)

    def alone() -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        made = [lstm(sequence, (states[0][:, row], states[1][:, row])) for row, sequence in enumerate(sequences)]
        outputs = [output for output, _ in made]
        hidden, cell = (torch.stack([last[which] for _, last in made], dim=1) for which in (0, 1))
        return outputs, (hidden, cell)

    def unpadded() -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        output, last = module(sequences, states)
        if isinstance(output, list):
            return output, last
        assert all(not output[length:, row].any() for row, length in enumerate(lengths))
        return [output[:length, row] for row, length in enumerate(lengths)], last

    inputs = [*sequences, *states]
    found = results(unpadded, [*module.parameters(), *inputs], calls=CALLS)
    check(found, results(alone, [*lstm.parameters(), *inputs]))


@pytest.mark.parametrize("variant", ["jit_dropout", "cudnn_dropout"])
def test_dropout_variants_without_dropout_are_an_lstm(variant: str, device: torch.device) -> None:
    """With a dropout of 0 the result is nn.LSTM's."""
    module, args = made(variant, SIZES, device)
    lstm = reference_lstm(module, SIZES, device)
    module.dropout = 0.0
    found = results(lambda: module(*args), [*module.parameters(), *leaves_of(args)], calls=CALLS)
    check(found, results(lambda: lstm(*args), [*lstm.parameters(), *leaves_of(args)]))


def test_jit_dropout_drops_what_an_lstm_with_the_same_random_numbers_drops() -> None:
    """In training mode, from the same seed, jit_dropout is nn.LSTM with dropout 0.4 between its layers."""
    cpu = torch.device("cpu")
    module, args = made("jit_dropout", SIZES, cpu)
    lstm = reference_lstm(module, SIZES, cpu, dropout=DROPOUT)
    leaves = leaves_of(args)
    found = results(lambda: module(*args), [*module.parameters(), *leaves], calls=CALLS)
    check(found, results(lambda: lstm(*args), [*lstm.parameters(), *leaves]))
    assert not torch.allclose(found.heads[0], module.eval()(*args)[0])


@pytest.mark.parametrize("variant", ["jit_layernorm", "jit_layernorm_decom"])
@pytest.mark.parametrize("sizes", [ONE_LAYER, SIZES], ids=["one layer", "two layers"])
def test_layer_norm_variants_are_the_published_cell(variant: str, sizes: Sizes, device: torch.device) -> None:
    """Both ways of writing layer norm give the layer-norm LSTM, written out step by step, and its gradients."""
    module, args = made(variant, sizes, device)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))  # norms that do something
    leaves = [*module.parameters(), *leaves_of(args)]
    expected = results(lambda: _layer_norm_lstm(dict(module.named_parameters()), *args), leaves)
    check(results(lambda: module(*args), leaves, calls=CALLS), expected)


def test_cudnn_layernorm_is_an_lstm_beside_its_norms(device: torch.device) -> None:
    """Its sequence is nn.LSTM's; gates and cell went through one norm of each kind per step and layer."""
    module, (x, states, gates) = made("cudnn_layernorm", SIZES, device)
    norms = {name: parameter for name, parameter in module.named_parameters() if name.startswith("norm")}
    with torch.no_grad():
        for parameter in norms.values():
            parameter.add_(torch.randn_like(parameter))

    def apart() -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        output, last = module.lstm(x, states)
        gate, cell = gates, last[1][-1]
        for _ in range(SIZES.seq_length * SIZES.num_layers):
            gate = _norm(_norm(gate, norms, "norm_ih"), norms, "norm_hh")
            cell = _norm(cell, norms, "norm_cell")
        return [output, gate, cell], last

    leaves = [*module.parameters(), x, *states, gates]
    check(results(lambda: module(x, states, gates), leaves), results(apart, leaves))


def _layer_norm_lstm(
    weights: dict[str, Tensor], x: Tensor, states: tuple[Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    hiddens, cells = [], []
    for number in range(len(states[0])):
        layer = {name.removeprefix(f"layers.{number}."): value for name, value in weights.items()}
        hidden, cell, steps = states[0][number], states[1][number], []
        for step in x:
            gates = _norm(F.linear(step, layer["weight_ih"]), layer, "norm_ih")
            gates = gates + _norm(F.linear(hidden, layer["weight_hh"]), layer, "norm_hh")
            i, f, g, o = gates.split(cell.shape[1], dim=1)
            cell = _norm(f.sigmoid() * cell + i.sigmoid() * g.tanh(), layer, "norm_cell")
            hidden = o.sigmoid() * cell.tanh()
            steps.append(hidden)
        x = torch.stack(steps)
        hiddens.append(hidden)
        cells.append(cell)
    return x, (torch.stack(hiddens), torch.stack(cells))


def _norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    mean, variance = x.mean(1, keepdim=True), x.var(1, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]
