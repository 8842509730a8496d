"""Profiles of real iterations: calls, places, lines and what lives at the peak."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from torchperf_ci.worker.profiling import inspect_iteration, profile_calls, spoken_name

CPU = torch.device("cpu")


class Scaled(nn.Module):
    """A linear layer, and a scale that is a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def scale(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x)
        return self.scale(x).clone()


LINES = {
    name: number for number, line in enumerate(Path(__file__).read_text().splitlines(), 1) for name in [line.strip()]
}
"""The lines of this file by their text."""


@pytest.fixture(scope="module")
def model() -> Scaled:
    return Scaled()


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    return torch.randn(4, 16)


def place(text: str) -> str:
    return f"tests/worker/test_profiling.py:{LINES[text]}"


def test_an_iteration_is_split_by_operator(model: Scaled, inputs: torch.Tensor) -> None:
    """Calls are those of one iteration; times of operators and the time outside are the whole iteration."""
    profile = profile_calls(lambda: model(inputs), CPU, seconds=0.05)
    calls = {name: (often, nanoseconds) for name, often, nanoseconds in profile["host"]}
    assert {name: calls[name][0] for name in ("aten::addmm", "aten::mul", "aten::clone")} == {
        "aten::addmm": 1,
        "aten::mul": 1,
        "aten::clone": 1,
    }
    assert profile["device"] == []
    assert profile["iterations"] >= 1
    assert profile["outside"] > 0
    assert sum(nanoseconds for _, nanoseconds in calls.values()) < profile["wall"]


def test_operators_are_found_where_they_are_called(model: Scaled, inputs: torch.Tensor, tmp_path: Path) -> None:
    """Forward at its line or function, backward at the forward it belongs to; with the inputs' types and shapes."""
    trace = tmp_path / "trace.json.gz"
    seen = inspect_iteration(lambda: model(inputs).sum().backward(), CPU, trace=str(trace)).reply()
    places = {(name, where) for name, where, _, _ in seen["operators"]}
    assert ("aten::addmm", place("x = self.linear(x)")) in places
    assert ("aten::clone", place("return self.scale(x).clone()")) in places
    assert ("aten::mul", place("def scale(self, x: torch.Tensor) -> torch.Tensor:")) in places
    backward = {where for name, where, _, _ in seen["operators"] if name.endswith("AddmmBackward0")}
    assert backward == {place("x = self.linear(x)")}
    given = {text for name, _, text, _ in seen["operators"] if name == "aten::addmm"}
    assert given == {"float32[16], float32[4, 16], float32[16, 16]"}
    functions = {name: (file, calls) for file, _, name, calls, _ in seen["functions"]}
    assert functions["scale"] == ("tests/worker/test_profiling.py", 1)
    with gzip.open(trace) as content:
        assert json.load(content)["traceEvents"]


def test_the_lines_that_run_are_the_projects_own(model: Scaled, inputs: torch.Tensor) -> None:
    """Torch's are not among them."""
    seen = inspect_iteration(lambda: model(inputs), CPU).reply()
    assert set(seen["lines"]) == {"tests/worker/test_profiling.py"}
    assert {LINES["x = self.linear(x)"], LINES["return x * 0.5"]} <= set(
        seen["lines"]["tests/worker/test_profiling.py"]
    )


def test_what_lives_at_the_peak_is_known_by_operator() -> None:
    """Of two large tensors the one that is freed before is not there."""

    def iterate() -> torch.Tensor:
        first = torch.zeros(1000)
        del first
        return torch.ones(4000)

    peak = {operator: size for operator, _, size in inspect_iteration(iterate, CPU).reply()["peak"]}
    assert peak == {"aten::ones": 16000}


def test_names_of_equal_kernels_are_equal() -> None:
    """Whatever number a graph has in its process."""
    assert spoken_name("graph_12_cpp_fused_add_0") == "cpp_fused_add_0"
    assert spoken_name("Torch-Compiled Region: 3/1") == "Torch-Compiled Region"
    assert spoken_name("## Call CompiledFxGraph fdtlalrr6qgk ##") == "## Call CompiledFxGraph ##"
    assert spoken_name("aten::add_") == "aten::add_"
