"""Cases spread over devices: who gets which, what a lost device leaves to the others, which CPUs belong to which."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from torchperf_ci.compare.session import CaseBudget
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Mode
from torchperf_ci.machine.accelerators import Accelerator
from torchperf_ci.run.lanes import cpu_sets, may_be_of_the_device, unlike_devices, work_on_lanes
from torchperf_ci.run.plan import Machine, Selection, SuiteListing, make_plan

MACHINE = Machine(devices={"cpu": 1, "cuda": 3}, compilers=("eager",), dtypes=("float32",))
SUITE = SuiteListing(spec="s", name="s", models=("a", "b"))


def planned(*devices: str, parallel: bool = False, machine: Machine = MACHINE) -> tuple[list[str], tuple[str, ...]]:
    selection = Selection(suites=("s",), mode=Mode.INFERENCE, compilers=("eager",), devices=devices, parallel=parallel)
    plan = make_plan(selection, [SUITE], machine)
    return [f"{case.case.model} {case.case.device}" for case in plan.cases], plan.places


def test_all_devices_are_measured_one_after_the_other() -> None:
    """Without `--parallel` a case is measured on every device."""
    cases, places = planned("all")
    assert cases == [f"{model} cuda:{number}" for model in "ab" for number in range(3)]
    assert places == ()


@pytest.mark.parametrize("devices", [(), ("all",), ("cuda",)])
def test_cases_are_spread_over_all_devices(devices: tuple[str, ...]) -> None:
    """Each is measured once, under the name of the type, which any of them may run."""
    assert planned(*devices, parallel=True) == (["a cuda", "b cuda"], ("cuda:0", "cuda:1", "cuda:2"))


def test_cases_are_spread_over_a_list_of_devices() -> None:
    """Those that are asked for and no other."""
    assert planned("cuda:0", "cuda:2", parallel=True) == (["a cuda", "b cuda"], ("cuda:0", "cuda:2"))


@pytest.mark.parametrize(
    ("devices", "parallel", "words"),
    [
        (("cpu",), True, "one case at a time"),
        (("cuda:0", "cpu"), True, "devices of one type"),
        (("cuda:7",), True, "counted from 0"),
        (("npu",), True, "no device 'npu'"),
    ],
)
def test_what_cannot_be_spread_is_refused(devices: tuple[str, ...], parallel: bool, words: str) -> None:  # noqa: FBT001
    """In words, before anything runs."""
    with pytest.raises(UsageProblem, match=words):
        planned(*devices, parallel=parallel)


def test_all_needs_an_accelerator() -> None:
    """A CPU is not what is meant by all."""
    machine = Machine(devices={"cpu": 1}, compilers=("eager",), dtypes=("float32",))
    for parallel in (False, True):
        with pytest.raises(UsageProblem, match=r"no accelerator here|none here"):
            planned("all", parallel=parallel, machine=machine)


def test_lanes_share_one_queue() -> None:
    """Every job is done once, by whoever is free; a lane that is stuck keeps no other from the rest."""
    done: list[tuple[str, int]] = []
    go_on = threading.Event()

    def work(lane: str, job: int) -> bool:
        if lane == "slow":
            go_on.wait(60)
        done.append((lane, job))
        if len(done) >= 9:
            go_on.set()
        return True

    assert work_on_lanes(range(10), ["slow", "fast"], work) == []
    assert sorted(job for _, job in done) == list(range(10))
    assert sum(lane == "slow" for lane, _ in done) == 1


def test_a_lost_lane_leaves_its_jobs_to_the_others() -> None:
    """And what no lane is left for comes back."""
    done: list[int] = []

    def work(lane: str, job: int) -> bool:
        done.append(job)
        return lane != "lost"

    assert work_on_lanes(range(5), ["lost", "good"], work) == []
    assert sorted(done) == list(range(5))
    assert work_on_lanes(range(5), ["lost"], work) == [1, 2, 3, 4]


def test_an_error_in_a_lane_ends_them_all() -> None:
    """Work under way is made to fail, and the error is raised when every lane has ended."""
    stopped = threading.Event()

    def work(lane: str, job: int) -> bool:
        if lane == "bad":
            raise ValueError("a fault of ours")
        assert stopped.wait(60)
        raise RuntimeError("its process has gone")

    with pytest.raises(ValueError, match="a fault of ours"):
        work_on_lanes(range(9), ["bad", "good"], work, stop=stopped.set)


def test_cpus_follow_the_devices_nodes(tmp_path: Path) -> None:
    """Devices of one NUMA node share its CPUs; where nothing is told, all are shared out; too few are had by all."""
    for node, cpus in enumerate(("0-3,8", "4-7")):
        (tmp_path / f"sys/devices/system/node/node{node}").mkdir(parents=True)
        (tmp_path / f"sys/devices/system/node/node{node}/cpulist").write_text(cpus)
    places, devices = ["cuda:0", "cuda:1", "cuda:2"], []
    for number, node in enumerate((0, 0, 1)):
        pci = f"00000000:{number + 1:02x}:00.0"
        (tmp_path / f"sys/bus/pci/devices/{pci[4:]}").mkdir(parents=True)
        (tmp_path / f"sys/bus/pci/devices/{pci[4:]}/numa_node").write_text(f"{node}\n")
        devices.append(Accelerator(device=f"cuda:{number}", name="GPU", pci=pci))
    assert cpu_sets(places, devices, range(9), root=tmp_path) == {
        "cuda:0": (0, 1),
        "cuda:1": (2, 3),
        "cuda:2": (4, 5, 6, 7),
    }
    assert cpu_sets(places, [], range(6), root=tmp_path) == {"cuda:0": (0, 1), "cuda:1": (2, 3), "cuda:2": (4, 5)}
    assert cpu_sets(places, devices, range(4), root=tmp_path)["cuda:2"] == (2,), "no CPU of its node is ours"
    assert cpu_sets(places, [], range(2), root=tmp_path) == dict.fromkeys(places, (0, 1))


def test_unlike_devices_are_warned_of() -> None:
    """Which of them ran a case is an accident."""
    devices = [Accelerator(device=f"cuda:{number}", name=name) for number, name in enumerate(("H100", "H100", "T4"))]
    assert unlike_devices(["cuda:0", "cuda:1"], devices) == []
    assert "H100, T4" in unlike_devices(["cuda:1", "cuda:2"], devices)[0]


@pytest.mark.parametrize(
    ("reason", "is_worth_trying"),
    [
        ("AcceleratorError: CUDA error: unspecified launch failure", True),
        ("RuntimeError: Unable to determine the device handle for GPU0: GPU is lost", True),
        ("RuntimeError: HIP error: the operation cannot be performed", True),
        ("ValueError: no such weights", False),
    ],
)
def test_failures_that_may_be_the_devices(reason: str, is_worth_trying: bool) -> None:  # noqa: FBT001
    """The device is tried after these alone."""
    assert may_be_of_the_device(reason) == is_worth_trying


def test_a_budget_counts_what_runs_at_the_same_time() -> None:
    """Two devices have twice the time for their cases, and one case alone has no more than all of it."""
    assert CaseBudget(60, usual=10, lanes=2, clock=lambda: 0.0).share(12) == 10
    assert CaseBudget(60, usual=100, lanes=2, clock=lambda: 0.0).share(1) == 60
    assert CaseBudget(60, usual=10, clock=lambda: 0.0).share(12) == 5
