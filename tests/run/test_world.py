"""Cases in several processes: real torchrun, two ranks, gloo on a CPU."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil
import pytest

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Environment, Mode, Record, Testing
from torchperf_ci.core.results import read_results
from torchperf_ci.run.plan import Machine, Selection, SuiteListing, make_plan
from torchperf_ci.run.world import log_names, merge_replies

Cli = Callable[..., subprocess.CompletedProcess[str]]

SUITE = Path(__file__).parent / "world_suite.py"
EXAMPLE = Path(__file__).parents[2] / "examples" / "world.py"


def run_suite(cli: Cli, out: Path, *more: str, suite: Path = SUITE, mode: str = "--inference") -> list[Record]:
    """Run models of the suite with the compiler `eager`; the records. No process of it is left."""
    options = ["--compilers", "eager", "--devices", "cpu", "-n", "10", "--output-dir", str(out), *more]
    done = cli("run", "--suites", str(suite), mode, *options)
    assert done.returncode in {0, 6}, done.stderr
    assert processes_of(out) == []
    return list(read_results(out).records)


def processes_of(out: Path) -> list[str]:
    """torchrun and the ranks, whose logs are below `out`, and what they start."""
    left = []
    for process in psutil.process_iter():
        try:
            if any(file.path.startswith(str(out / "logs")) for file in process.open_files()):
                left.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return left


def models(*names: str) -> list[str]:
    return [part for name in names for part in ("-k", f"^{name}$")]


def only(records: list[Record], testing: Testing = Testing.PERFORMANCE) -> dict[str, Record]:
    return {record.case.model: record for record in records if record.testing is testing}


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "testings"), [("--inference", ["--no-accuracy"]), ("--training", [])])
def test_data_parallel_and_tensor_parallel_models_are_measured(
    cli: Cli, tmp_path: Path, mode: str, testings: list[str]
) -> None:
    """By DistributedDataParallel, split by hand, split by torch: right, which training shows for both modes, and with
    the number of processes."""
    records = run_suite(cli, tmp_path / "out", *testings, suite=EXAMPLE, mode=mode)
    assert {(record.case.model, record.status.value) for record in records} == {
        ("data_parallel", "pass"),
        ("split_by_hand", "pass"),
        ("split_by_torch", "pass"),
    }
    assert len(records) == (3 if testings else 6)
    assert {record.environment.world for record in records} == {2}
    assert all(len(record.samples["eager"]) == 10 for record in only(records).values())
    assert "eager_peak_mem" in only(records)["data_parallel"].metrics


@pytest.mark.slow
def test_the_slowest_process_counts_and_the_worst_outcome(cli: Cli, tmp_path: Path) -> None:
    """Rank 1 alone sleeps, and rank 1 alone computes something else; a model without WORLD is as ever."""
    records = run_suite(cli, tmp_path / "out", *models("alone", "sleeps", "wrong"))
    times, outcomes = only(records), only(records, Testing.ACCURACY)
    assert median(times["sleeps"].samples["eager"]) > 0.05
    assert median(times["sleeps"].samples["compiled"]) > 0.05
    assert outcomes["wrong"].status.value == "fail_accuracy"
    assert outcomes["wrong"].reason.startswith("rank 1: output: ")
    assert outcomes["sleeps"].status.value == "pass"
    assert [times[model].environment.world for model in ("alone", "sleeps")] == [1, 2]


@pytest.mark.slow
def test_whatever_ends_a_rank_is_a_row_with_its_number_and_its_log(cli: Cli, tmp_path: Path) -> None:
    """Killed, an exit, an exception, a second process group."""
    out = tmp_path / "out"
    expected = {
        "killed": ("crashed", "rank 1 ended by signal 9 (SIGKILL) (see "),
        "exits": ("crashed", "rank 1 ended with exit code 7 (see "),
        "silent": ("crashed", "rank 1 ended (see "),
        "raises": ("fail_to_run", "rank 1: ValueError: the second one fails (see "),
        "again": ("model_fail_to_load", "rank 0: torchperf-ci has initialised the process group before: "),
    }
    records = run_suite(cli, out, *models(*expected), "--no-accuracy")
    for model, (status, reason) in expected.items():
        record = only(records)[model]
        assert (record.status.value, record.reason.startswith(reason)) == (status, True), record.reason
        assert record.environment.world == 2
        assert (out / record.log).is_file()
        log = record.reason.rpartition("(see ")[2].rstrip(")")
        if model != "again":
            assert log.endswith("_rank1.log")
            assert (out / "logs" / log).is_file()
    assert len(records) == len(expected)
    both = run_suite(cli, tmp_path / "both", *models("killed_while_loading"))
    assert [(record.testing.value, record.status.value) for record in both] == [
        ("accuracy", "crashed"),
        ("performance", "crashed"),
    ]
    assert all(record.reason.startswith("rank 1 ended by signal 9 (SIGKILL) (see ") for record in both)


@pytest.mark.slow
def test_a_rank_that_hangs_is_named_when_the_time_limit_has_passed(cli: Cli, tmp_path: Path) -> None:
    """The other one has come to the next barrier; the log says where it hangs; what it started is gone as well."""
    out = tmp_path / "out"
    record = only(run_suite(cli, out, *models("hangs"), "--no-accuracy", "--timeout", "25"))["hangs"]
    assert record.status.value == "timeout"
    assert "waiting for rank 1 (see " in record.reason
    assert "in _hangs" in next((out / "logs").glob("*_rank1.log")).read_text()
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if "sleep(1234)" in str(process.info["cmdline"])
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_controller_leaves_no_process(tmp_path: Path, number: int) -> None:
    """Not even when it is killed."""
    out = tmp_path / "out"
    options = ["--inference", "--compilers", "eager", "--devices", "cpu", "--output-dir", str(out), *models("hangs")]
    command = [sys.executable, "-m", "torchperf_ci", "run", "--suites", str(SUITE), "--no-accuracy", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while sum("worker.preload" in one for one in processes_of(out)) < 3 and time.monotonic() < until:
            time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(number)
        process.wait(timeout=60)
    until = time.monotonic() + 20
    while processes_of(out) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes_of(out) == []


@pytest.mark.slow
def test_base_and_head_are_compared_with_two_processes_each(cli: Cli, tmp_path: Path) -> None:
    """Equal sides are unchanged; where rank 1 of head alone sleeps longer, head is slower."""
    out = tmp_path / "out"
    command = [
        *("compare", "--suites", str(SUITE), "--inference", "--devices", "cpu"),
        *("--compilers", "eager", "--output-dir", str(out), *models("sleeps", "slower"), "--threads", "1"),
        *("--base-env", "SIDE=base", "--head-env", "SIDE=head", "--budget-per-case", "2", "--launches", "1"),
        *("--margin", "0.1", "--threshold", "0.25"),  # a busy machine leaves less than that open
    ]
    done = cli(*command, env={"WORLD_SUITE_SLEEP": "0.01"})
    assert done.returncode == 3, done.stdout + done.stderr
    comparisons = json.loads((out / "compare.json").read_text())["comparisons"]
    verdicts = {c["case"]["model"]: c["verdict"] for c in comparisons if c["metric"] == "abs_latency"}
    assert verdicts == {"sleeps": "unchanged", "slower": "regressed"}
    assert processes_of(out) == []
    assert {path.name.rpartition("_")[2] for path in (out / "logs").glob("*_rank*")} == {"rank0.log", "rank1.log"}


def test_replies_of_all_ranks_become_one() -> None:
    """The largest numbers, flags that one of them has, what is not known on one of them is not known."""
    merged = merge_replies(
        [
            {"host": {"eager": [1, 9]}, "recompiled": False, "remarks": ["a"], "peaks": {"eager": 5}, "text": "x"},
            {
                "host": {"eager": [4, 2]},
                "recompiled": True,
                "remarks": ["a", "b"],
                "peaks": {"eager": None},
                "text": "y",
            },
        ]
    )
    assert merged == {
        "host": {"eager": [4, 9]},
        "recompiled": True,
        "remarks": ["a", "b"],
        "peaks": {"eager": None},
        "text": "x",
    }


@pytest.mark.parametrize(
    ("statuses", "worst", "reason"),
    [
        (("pass", "fail_accuracy"), "fail_accuracy", "rank 1: r1"),
        (("fail_accuracy", "eager_two_runs_differ"), "fail_accuracy", "rank 0: r0"),
        (("not_judged", "pass"), "not_judged", "rank 0: r0"),
    ],
)
def test_the_worst_outcome_counts(statuses: tuple[str, ...], worst: str, reason: str) -> None:
    """With the rank that had it."""
    merged = merge_replies(
        [{"status": status, "reason": f"r{rank}", "remarks": []} for rank, status in enumerate(statuses)]
    )
    assert merged == {"status": worst, "reason": reason, "remarks": []}


def listing(**worlds: int) -> SuiteListing:
    return SuiteListing(spec="s", name="s", models=("one", "two"), worlds=worlds)


def machine(**devices: int) -> Machine:
    return Machine(devices={"cpu": 1, **devices}, compilers=("eager",), dtypes=("float32",))


def select(*devices: str, parallel: bool = False) -> Selection:
    return Selection(suites=("s",), mode=Mode.INFERENCE, devices=devices, compilers=("eager",), parallel=parallel)


@pytest.mark.parametrize(
    ("device", "devices", "lack"),
    [
        ("cpu", {}, ""),
        ("cuda", {"cuda": 2}, ""),
        ("cuda", {"cuda": 1}, "needs 2 devices, has 1 (WORLD = 2, cuda)"),
        ("cuda:1", {"cuda": 2}, "needs 2 devices: it runs on cuda:0 to cuda:1; give --devices cuda"),
    ],
)
def test_every_process_needs_a_device(device: str, devices: dict[str, int], lack: str) -> None:
    """What the machine lacks is said of the case, not of the model."""
    one, two = make_plan(select(device), [listing(two=2)], machine(**devices)).cases
    assert (one.world, one.lack) == (1, "")
    assert (two.world, two.lack) == (2, lack)


def test_cases_of_several_processes_are_not_spread_over_devices() -> None:
    """They would share them with the others."""
    with pytest.raises(UsageProblem, match="s/two runs in 2 processes"):
        make_plan(select(parallel=True), [listing(two=2)], machine(cuda=2))


def test_runs_with_other_numbers_of_processes_are_not_comparable() -> None:
    """The environment of a record says how many there were."""
    one, two = Environment(cpu="Xeon 1", world=1), Environment(cpu="Xeon 1", world=2)
    assert one.comparable_to(two) == ["number of processes differs: 1 against 2"]


def test_every_rank_has_a_log() -> None:
    """Beside that of torchrun; a single process has one."""
    assert log_names("logs/m.log", 2) == ["logs/m.log", "logs/m_rank0.log", "logs/m_rank1.log"]
    assert log_names("logs/m.log", 1) == ["logs/m.log"]
