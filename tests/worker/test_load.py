"""From a suite's model to a workload: precision, loss, and copies that share nothing."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from torchperf_ci.suites.registry import Suite, SuiteError
from torchperf_ci.worker.load import (
    DTYPES,
    Workload,
    build,
    default_loss,
    seed_all,
    tensors_of,
)


def made(make, *, batch_size: int | None = None, seed: int = 0, loss=None, **request: str) -> Workload:
    """The workload of a one-model suite."""
    module = ModuleType("one")
    module.MODELS = {"it": make}
    if loss:
        module.loss = loss
    asked = {"mode": "inference", "device": "cpu", "dtype": "float32", "scale": "full", **request}
    return build(Suite(name="one", module=module), "it", batch_size=batch_size, seed=seed, **asked)


def linear(batch_size):
    return nn.Linear(4, 2), (torch.randn(batch_size or 3, 4), torch.arange(5))


class Second(nn.Module):
    """Two inputs, of which the second is not a float."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x, index, *, flag=None):
        return self.layer(x)


def second(batch_size):
    return Second(), [torch.randn(batch_size or 3, 4), torch.arange(5)], {"flag": {"deep": [torch.ones(1)]}}


@pytest.mark.parametrize(
    ("dtype", "weights", "output"),
    [
        ("float32", torch.float32, torch.float32),
        ("float16", torch.float16, torch.float16),
        ("bfloat16", torch.bfloat16, torch.bfloat16),
        ("amp", torch.float32, torch.bfloat16),
    ],
)
def test_weights_and_floating_inputs_get_the_precision(dtype: str, weights: torch.dtype, output: torch.dtype) -> None:
    """Integers stay what they are, nested inputs follow, and amp leaves the weights in float32."""
    workload = made(second, dtype=dtype)
    assert workload.module.layer.weight.dtype is weights
    assert [tensor.dtype for tensor in tensors_of((workload.args, workload.kwargs))] == [weights, torch.int64, weights]
    assert workload.iteration()().dtype is output
    assert dtype in DTYPES


def test_the_float64_copy_is_all_float64_and_the_original_is_not() -> None:
    """For amp, too: there is no autocast in the reference."""
    workload = made(second, dtype="amp")
    wide = workload.in_float64()
    assert wide.iteration()().dtype is torch.float64
    assert workload.module.layer.weight.dtype is torch.float32
    assert [tensor.dtype for tensor in tensors_of(wide.args)] == [torch.float64, torch.int64]


def test_the_batch_size_is_the_one_asked_for_or_the_models_own() -> None:
    """The model's own is the first dimension of its first tensor."""
    assert made(second).batch_size == 3
    assert made(second, batch_size=7).batch_size == 7
    assert made(lambda batch_size: (nn.Linear(1, 1), (torch.tensor(1.0),))).batch_size == 1
    assert made(lambda batch_size: (nn.Linear(1, 1), ())).batch_size == 1


def test_the_same_seed_makes_the_same_model_and_inputs() -> None:
    """And another one makes others."""
    first, again, other = made(linear, seed=3), made(linear, seed=3), made(linear, seed=4)
    assert torch.equal(first.module.weight, again.module.weight)
    assert torch.equal(first.args[0], again.args[0])
    assert not torch.equal(first.module.weight, other.module.weight)


def test_a_mode_sets_the_module() -> None:
    """Inference evaluates, training trains."""
    assert made(linear).module.training is False
    assert made(linear, mode="training").module.training is True


def test_inference_has_no_gradients_and_training_leaves_them_in_the_parameters() -> None:
    """Every iteration's gradients are its own, not a sum."""
    inference, training = made(second), made(second, mode="training")
    assert inference.iteration()().requires_grad is False
    step = training.iteration()
    step()
    once = training.module.layer.weight.grad.clone()
    outputs, loss = step()
    assert torch.equal(training.module.layer.weight.grad, once)
    assert (outputs.shape, loss.ndim) == ((3, 2), 0)


def test_a_copy_shares_nothing_with_the_original() -> None:
    """Weights, buffers and inputs of a copy can be changed in place."""
    workload = made(lambda batch_size: (nn.BatchNorm1d(4), (torch.randn(3, 4),)), mode="training")
    before = [tensor.clone() for tensor in (*workload.module.state_dict().values(), *workload.args)]
    copied = workload.copied()
    for tensor in (*copied.module.state_dict().values(), *copied.args):
        with torch.no_grad():
            tensor.add_(1)
    copied.iteration()()
    after = [*workload.module.state_dict().values(), *workload.args]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


class Remembering(nn.Module):
    """Keeps results of its last call, as legacy spectral norms and routers do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x):
        self.last = self.layer(x)
        self.losses = {"auxiliary": [self.last.mean()]}
        return self.last


def test_a_module_that_keeps_results_can_be_copied() -> None:
    """After a training step they have a history, which torch does not copy."""
    workload = made(lambda batch_size: (Remembering(), (torch.randn(3, 4),)), mode="training")
    workload.iteration()()
    copied = workload.copied()
    assert torch.equal(copied.module.last, workload.module.last)
    assert copied.module.last is not workload.module.last
    assert copied.module.losses["auxiliary"][0].is_leaf
    copied.iteration()()


@dataclass
class Batch:
    """Inputs, or outputs, in a class of one's own."""

    x: torch.Tensor
    mask: torch.Tensor | None = None


class Boxed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, batch):
        return Batch(x=self.layer(batch.x))


def test_dataclasses_are_inputs_and_outputs_like_any_other() -> None:
    """They are cast and copied, count for the batch size, and training makes its loss of what is in them."""
    workload = made(lambda batch_size: (Boxed(), (Batch(torch.randn(3, 4)),)), mode="training", dtype="bfloat16")
    assert workload.batch_size == 3
    assert workload.args[0].x.dtype == torch.bfloat16
    fresh = workload.fresh_inputs()[0][0].x
    assert torch.equal(fresh, workload.args[0].x)
    assert fresh.data_ptr() != workload.args[0].x.data_ptr()
    outputs, loss = workload.iteration()()
    assert torch.equal(loss, outputs.x.float().mean())


SCALAR, VECTOR = torch.tensor(3.0), torch.tensor([1.0, 3.0])


@pytest.mark.parametrize(
    ("output", "loss"),
    [
        (SCALAR, 3.0),
        (VECTOR, 2.0),
        ({"loss": SCALAR, "logits": VECTOR}, 3.0),
        (SimpleNamespace(loss=SCALAR), 3.0),
        ({"loss": None, "logits": VECTOR}, 2.0),
        ({"loss": VECTOR, "logits": torch.tensor([6.0])}, 4.0),
        ((VECTOR, torch.tensor([10, 20]), [torch.tensor([4.0], dtype=torch.bfloat16)]), 3.0),
    ],
    ids=["scalar", "mean", "mapping", "attribute", "no loss", "loss is no scalar", "several"],
)
def test_the_loss_is_the_models_own_or_the_mean(output: object, loss: float) -> None:
    """A scalar output, a scalar `loss` in it, else the mean of the means of its floating tensors."""
    assert default_loss(nn.Identity(), output).item() == loss


def test_an_output_without_floating_point_numbers_has_no_loss() -> None:
    """The message says what is missing."""
    with pytest.raises(TypeError, match="needs a floating-point output to make a loss of, and there is none"):
        default_loss(nn.Identity(), torch.arange(3))


def test_the_suite_may_have_a_loss_of_its_own() -> None:
    """It is given the module and the output."""
    workload = made(
        second, mode="training", loss=lambda module, output: output.sum() * 0 + len(list(module.children()))
    )
    assert workload.iteration()()[1].item() == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda batch_size: (torch.ones(1), ()), "returned (a )?Tensor, neither a torch.nn.Module nor a callable"),
        (lambda batch_size: (nn.Linear(1, 1), torch.ones(1)), "a Tensor instead of the tuple of inputs"),
    ],
)
def test_what_is_no_module_with_arguments_is_refused(make, message: str) -> None:
    """With the types that came instead."""
    with pytest.raises((TypeError, SuiteError), match=message):
        made(make)


def test_a_function_is_given_what_it_declares() -> None:
    """Keyword-only parameters named mode, device, dtype and scale, and no others."""
    seen = {}

    def make(batch_size, *, mode, scale):
        seen.update(batch_size=batch_size, mode=mode, scale=scale)
        return linear(batch_size)

    made(make, batch_size=2, mode="training", scale="small")
    assert seen == {"batch_size": 2, "mode": "training", "scale": "small"}


def test_seeding_reaches_every_generator() -> None:
    """Python's, NumPy's and torch's."""
    import random

    import numpy as np

    drawn = []
    for _ in range(2):
        seed_all(-5)
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]
