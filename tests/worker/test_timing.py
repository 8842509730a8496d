"""Readings are taken in the order asked for, and divided by their repeats. No time is asserted, only whose it is."""

from __future__ import annotations

import itertools

import pytest
import torch

from torchperf_ci.worker import timing
from torchperf_ci.worker.timing import probe, sample, synchronizer

CPU = torch.device("cpu")


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A clock that an arm moves on by appending nanoseconds to it."""
    spent = [0]
    monkeypatch.setattr(timing, "perf_counter_ns", lambda: sum(spent))
    return spent


def test_every_reading_goes_to_its_arm_in_order(ticks: list[int]) -> None:
    """Sweeps may name arms in any order, and any number of them."""
    costs = itertools.count(100, 100)
    arms = {"a": lambda: ticks.append(next(costs)), "b": lambda: ticks.append(7)}
    sweep = sample(arms, [["a", "b"], ["b", "a"], ["a"]], device=CPU, inner={})
    assert (sweep.host, sweep.device, len(sweep.probe)) == ({"a": [100, 200, 300], "b": [7, 7]}, {}, 3)


def test_a_reading_is_divided_by_its_repeats(ticks: list[int]) -> None:
    """The mean of the repeats, in whole nanoseconds, for the arm that has them alone."""
    calls = {"a": 0, "b": 0}

    def arm(name: str, cost: int) -> None:
        calls[name] += 1
        ticks.append(cost)

    arms = {"a": lambda: arm("a", 10), "b": lambda: arm("b", 1000)}
    sweep = sample(arms, [["a", "b"], ["b", "a"]], device=CPU, inner={"a": 4})
    assert sweep.host == {"a": [10, 10], "b": [1000, 1000]}
    assert calls == {"a": 8, "b": 2}


def test_what_is_discarded_is_not_timed(ticks: list[int]) -> None:
    """Iterations before the first reading run, and their time is in no reading; the readings after it need none."""
    costs = itertools.count(1)
    sweep = sample({"a": lambda: ticks.append(next(costs))}, [["a"], ["a"]], device=CPU, inner={}, discard=2)
    assert sweep.host == {"a": [3, 4]}


def test_what_runs_before_every_reading_is_not_timed(ticks: list[int]) -> None:
    """It may take as long as it likes."""
    arms = {"a": lambda: ticks.append(5)}
    sweep = sample(arms, [["a"], ["a"]], device=CPU, inner={"a": 2}, before=lambda: ticks.append(1000))
    assert sweep.host == {"a": [5, 5]}
    assert ticks.count(1000) == 2


class Gpu:
    """A device whose only stream has a clock of its own, in milliseconds. It stands in the place of torch.cuda."""

    def __init__(self) -> None:
        self.clock, self.said = 0.0, list[str]()

    def current_stream(self, device: torch.device) -> str:
        return f"stream of {device}"

    def synchronize(self, device: torch.device) -> None:
        self.said.append("wait")

    def Event(self, *, enable_timing: bool) -> GpuEvent:  # noqa: N802 - torch's name
        assert enable_timing
        return GpuEvent(self)

    def replay(self) -> None:
        """A graph: the host is done at once, the stream later."""
        self.said.append("replay")
        self.clock += 0.7


class GpuEvent:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.time = gpu, 0.0

    def record(self, stream: str) -> None:
        self.gpu.said.append(f"event on {stream}")
        self.time = self.gpu.clock

    def elapsed_time(self, last: GpuEvent) -> float:
        return last.time - self.time


def test_a_graphs_time_is_read_by_events_around_its_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """On its device's stream, with that device chosen, after everything else on it is done."""
    gpu = Gpu()
    monkeypatch.setattr(timing, "device_module", lambda device: gpu)
    monkeypatch.setattr(timing, "choose_device", lambda device: gpu.said.append(f"choose {device}") or device)
    device = torch.device("cuda", 1)
    take = timing.Reader(device, before=lambda: gpu.said.append("before"))
    gpu.said.clear()
    assert take(gpu.replay, 2)[1] == 700_000
    on_stream = "event on stream of cuda:1"
    assert gpu.said == ["choose cuda:1", "before", "wait", on_stream, "replay", "replay", on_stream, "wait"]


def test_the_device_is_waited_for_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading begins with an idle device and ends when the last repeat is done."""
    said: list[str] = []
    monkeypatch.setattr(timing, "synchronizer", lambda device: lambda: said.append("wait"))
    sample({"a": lambda: said.append("run")}, [["a"]], device=CPU, inner={"a": 2})
    assert said == ["wait", "run", "run", "wait"]


def test_a_cpu_needs_no_waiting() -> None:
    """Its synchronizer does nothing."""
    assert synchronizer(CPU)() is None


def test_the_probe_takes_time() -> None:
    """It is a number of nanoseconds that is there on every machine."""
    assert probe() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_has_device_times_beside_the_host_times() -> None:
    """Event times, one for every reading, and no longer than the host's."""
    device = torch.device("cuda")
    x = torch.randn(1024, 1024, device=device)
    sweep = sample({"a": lambda: x @ x}, [["a"]] * 5, device=device, inner={"a": 3})
    assert len(sweep.host["a"]) == len(sweep.device["a"]) == 5
    assert all(on_device > 0 for on_device in sweep.device["a"])


def test_a_probe_may_be_left_out() -> None:
    """The side of a pair that comes first needs none."""
    sweep = sample({"arm": lambda: None}, [["arm", "arm"]], device=CPU, inner={}, probes=False)
    assert (len(sweep.host["arm"]), sweep.probe) == (2, [])
