"""One variant in a worker: times of both directions, in milliseconds on every device."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest
import torch
from torch import nn

from torchperf_ci.suites.fastrnns import suite
from torchperf_ci.suites.fastrnns.catalog import VARIANTS, Sizes
from torchperf_ci.worker.fastrnns import measure

SIZES = Sizes(seq_length=3, input_size=4, hidden_size=4, mini_batch=2, min_length=2, max_length=3, image_size=64)


def request(variant: str, **changed: Any) -> dict[str, Any]:
    return {
        "variant": variant,
        "sizes": SIZES.as_json(),
        "warmup": 1,
        "nloops": 3,
        "device": "cpu",
        "seed": 0,
        "fuser": "te",
        "executor": None,
        "pointwise": {},
        "trace": None,
        **changed,
    }


def test_times_are_milliseconds_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward pass that sleeps 20 ms reads as at least 20 and far less than 20,000."""

    class Sleepy(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.02)
            return super().forward(x)

    monkeypatch.setitem(suite.BUILDERS, "py", lambda sizes: (Sleepy(2, 2), (torch.ones(1, 2),)))
    times = measure(**request("py"))
    assert len(times["forward"]) == len(times["backward"]) == 3
    assert all(20 <= value < 20_000 for value in times["forward"])
    assert gc.isenabled()


def test_a_parameter_without_a_gradient_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variant whose backward pass misses a weight is not measured but named."""

    class Partial(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight

    monkeypatch.setitem(suite.BUILDERS, "py", lambda sizes: (Partial(2, 2), (torch.ones(1, 2),)))
    with pytest.raises(RuntimeError, match="left no gradient in bias"):
        measure(**request("py"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("variant", [name for names in VARIANTS.values() for name in names])
def test_every_variant_is_measured_on_a_gpu(variant: str) -> None:
    """Both directions of every variant, timed by events on the stream."""
    times = measure(**request(variant, device="cuda"))
    assert all(0 < value < 60_000 for direction in times.values() for value in direction)
