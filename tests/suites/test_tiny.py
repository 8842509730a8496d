"""The built-in suite: small real models that run, learn and can be told apart from broken ones."""

from __future__ import annotations

import re

import pytest
import torch

from torchperf_ci.suites.registry import resolve
from torchperf_ci.worker.accuracy import AccuracyTolerance, IterationOutcome, compare_outcomes
from torchperf_ci.worker.load import Workload, build

SUITE = resolve("tiny")
MODELS = tuple(SUITE.models)


def workload(model: str, mode: str, *, batch_size: int | None = None) -> Workload:
    request = {"mode": mode, "device": "cpu", "dtype": "float32", "scale": "full"}
    return build(SUITE, model, batch_size=batch_size, seed=0, **request)


def test_the_suite_has_eight_models_and_one_that_breaks() -> None:
    """`--quick` keeps three of them."""
    assert (
        *("mlp", "convnet", "resnet18", "lstm", "transformer_encoder", "causal_attention", "unet", "recommender"),
        "graph_break",
    ) == MODELS
    quick = [model for model in MODELS if any(re.search(pattern, model) for pattern in SUITE.quick)]
    assert quick == ["mlp", "convnet", "causal_attention"]
    assert SUITE.skips == ()


@pytest.mark.parametrize("model", MODELS)
def test_inference_gives_finite_outputs_the_same_every_time(model: str) -> None:
    """One tensor, batch first."""
    made = workload(model, "inference")
    output = made.iteration()()
    assert torch.isfinite(output).all()
    assert output.shape[0] == made.batch_size
    assert output.std() > 0
    again = IterationOutcome(results={"output": made.iteration()()})
    assert (
        compare_outcomes(
            IterationOutcome(results={"output": output}), again, None, AccuracyTolerance(value=0.0), exact=True
        )
        is None
    )


@pytest.mark.parametrize("model", MODELS)
def test_training_gives_every_parameter_a_finite_gradient(model: str) -> None:
    """No layer is decoration."""
    made = workload(model, "training")
    _, loss = made.iteration()()
    assert torch.isfinite(loss)
    for name, parameter in made.module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("model", MODELS)
def test_the_batch_size_can_be_chosen(model: str) -> None:
    """Every input follows it."""
    made = workload(model, "inference", batch_size=3)
    assert {tensor.shape[0] for tensor in made.args} == {3}
    assert made.iteration()().shape[0] == 3


def test_resnet18_is_resnet18() -> None:
    """By its number of parameters."""
    assert workload("resnet18", "inference").parameters == 11_689_512


def test_attention_is_causal() -> None:
    """A later position does not change an earlier one."""
    made = workload("causal_attention", "inference", batch_size=1)
    changed = made.args[0].clone()
    changed[:, 100:] += 1.0
    before, after = made.module(made.args[0]), made.module(changed)
    assert torch.allclose(before[:, :100], after[:, :100], atol=1e-5)
    assert not torch.allclose(before[:, 100:], after[:, 100:], atol=1e-2)


def test_the_lstm_agrees_with_torchs_own() -> None:
    """The same weights give the same last hidden state: gates in the order input, forget, cell, output."""
    made = workload("lstm", "inference")
    module, (x,) = made.module, made.args
    theirs = torch.nn.LSTM(64, module.width, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(module.from_input.weight)
        theirs.bias_ih_l0.copy_(module.from_input.bias)
        theirs.weight_hh_l0.copy_(module.from_hidden.weight)
        theirs.bias_hh_l0.copy_(module.from_hidden.bias)
        expected = module.head(theirs(x)[0][:, -1])
    assert torch.allclose(made.iteration()(), expected, atol=1e-5)
