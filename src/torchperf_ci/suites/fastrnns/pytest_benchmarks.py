"""fastrnns under pytest-benchmark; `pytest_plugin` says how to run it, and has its options.

A project may copy this file into its tests; then `pytest_plugins = ["torchperf_ci.suites.fastrnns.pytest_plugin"]`
goes into its top `conftest.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from torchperf_ci.suites.fastrnns.catalog import Executor, Fuser
from torchperf_ci.suites.fastrnns.pytest_plugin import DEFAULT_EXECUTOR
from torchperf_ci.suites.fastrnns.suite import apply_settings, build, heads
from torchperf_ci.worker.accelerators import choose_device
from torchperf_ci.worker.load import seed_all, to_device
from torchperf_ci.worker.timing import synchronizer


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network on its device. `finish` waits until the device has done everything."""

    module: nn.Module
    args: tuple[Any, ...]
    finish: Callable[[], None]

    def forward(self) -> Any:  # noqa: ANN401 - the network's output
        output = self.module(*self.args)
        self.finish()
        return output


@pytest.fixture(scope="class")
def network(request: pytest.FixtureRequest, net_name: str, executor: str, fuser: str) -> Network:
    """Return the network `net_name`, built under the fuser and the executor."""
    apply_settings(Fuser(fuser), None if executor == DEFAULT_EXECUTOR else Executor(executor))
    name = request.config.getoption("net_device") or ("cuda" if torch.cuda.is_available() else "cpu")
    device = choose_device(torch.device(name))
    seed_all(0)
    module, args = build(net_name, request.config.getoption("net_sizes"))
    return Network(module=module.to(device), args=to_device(args, device), finish=synchronizer(device))


@pytest.mark.benchmark(group="fastrnns", warmup=True, warmup_iterations=3, disable_gc=True, max_time=0.1)
class TestBenchNetwork:
    """Every network, forward and backward."""

    def test_forward(self, network: Network, benchmark: Any) -> None:  # noqa: ANN401 - pytest-benchmark has no types
        benchmark(network.forward)

    def test_backward(self, network: Network, benchmark: Any) -> None:  # noqa: ANN401 - as above
        """Times the backward pass, over one forward pass."""
        starts = heads(network.forward())
        gradients = [torch.randn_like(start) for start in starts]

        def backward() -> None:
            torch.autograd.backward(starts, gradients, retain_graph=True)
            network.finish()

        benchmark(backward)
        assert all(parameter.grad is not None for parameter in network.module.parameters())
