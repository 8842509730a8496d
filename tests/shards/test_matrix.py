"""Models shared out over runners: every model once on each, balanced by what is known, in names nothing can split."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.artifacts import record
from torchperf_ci.cli.options import split_list
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Mode, Record, Testing
from torchperf_ci.run.plan import Selection, SuiteListing, chosen_models
from torchperf_ci.shards.matrix import (
    MatrixJob,
    RunnerKind,
    SuiteModel,
    make_filter,
    parse_filter,
    plan_jobs,
    share_out,
    sum_durations,
)

CPU = RunnerKind(device="cpu", labels=("ubuntu-latest",))
GPU = RunnerKind(device="cuda", labels=("self-hosted", "gpu"))
BIG = RunnerKind(device="cuda", labels=("self-hosted", "h100"))
MODELS = (SuiteModel("tiny", "mlp"), SuiteModel("tiny", "lstm"), SuiteModel("models", "mlp"))
SPECS = {"tiny": "tiny", "models": "bench/models.py"}


def took(model: str, seconds: float, *, device: str = "cpu", mode: Mode = Mode.INFERENCE, **options) -> Record:
    made = record(model, **options)
    return replace(made, seconds=seconds, case=replace(made.case, device=device, mode=mode))


def planned(
    *runners: RunnerKind, shards: int = 2, models: tuple[SuiteModel, ...] = MODELS, records: tuple[Record, ...] = ()
) -> tuple[MatrixJob, ...]:
    kinds = runners or (CPU,)
    return plan_jobs(models, SPECS, kinds, shards=shards, name="nightly", records=records, mode=Mode.INFERENCE)


def test_a_job_says_what_a_job_needs() -> None:
    """Results' name, shard, suites as they were asked for, its models exactly, device and labels."""
    first, second = planned(records=(took("mlp", 60.0), took("lstm", 10.0)))
    assert first.as_json() == {
        "name": "nightly",
        "shard": "1-2",
        "suites": "tiny",
        "filter": r"^tiny/mlp\Z",
        "device": "cpu",
        "runs-on": ["ubuntu-latest"],
        "seconds": 60,
    }
    assert second.as_json() == {
        "name": "nightly",
        "shard": "2-2",
        "suites": "tiny bench/models.py",
        "filter": r"^tiny/lstm\Z ^models/mlp\Z",
        "device": "cpu",
        "runs-on": ["ubuntu-latest"],
        "seconds": 45,
    }


def test_every_runner_gets_all_models_under_a_name_of_its_own() -> None:
    """By device, and by labels where two runners measure the same one."""
    names = [(job.name, job.shard) for job in planned(CPU, GPU, BIG, shards=1)]
    assert names == [
        ("nightly-cpu", "1-1"),
        ("nightly-cuda-self-hosted-gpu", "1-1"),
        ("nightly-cuda-self-hosted-h100", "1-1"),
    ]


def test_there_are_no_more_shards_than_models() -> None:
    """A job without work is no job."""
    assert [job.shard for job in planned(shards=50)] == ["1-3", "2-3", "3-3"]


def test_more_jobs_than_github_takes_are_refused() -> None:
    """The message says how many there would be."""
    many = tuple(SuiteModel("tiny", f"m{n}") for n in range(200))
    with pytest.raises(UsageProblem, match="129 shards on 2 runners are 258 jobs, and a matrix has at most 256"):
        planned(CPU, GPU, shards=129, models=many)


def test_two_runners_of_one_name_are_refused() -> None:
    """Their artifacts could not be told apart."""
    with pytest.raises(UsageProblem, match="both make the results nightly-cuda-a-b"):
        planned(RunnerKind(device="cuda", labels=("a", "b")), RunnerKind(device="cuda", labels=("a-b",)))


@given(st.lists(st.floats(0.1, 1e4), min_size=1, max_size=40), st.integers(1, 10))
def test_sharing_out_loses_nothing_and_is_balanced(seconds: list[float], shards: int) -> None:
    """Every model is in one shard, in the order it had, and no shard exceeds the mean by more than one model."""
    costs = {SuiteModel("s", f"m{number}"): cost for number, cost in enumerate(seconds)}
    shares = share_out(costs, shards)
    assert sorted(model for share in shares for model in share) == sorted(costs)
    assert all(share == [model for model in costs if model in share] for share in shares)
    loads = [sum(costs[model] for model in share) for share in shares]
    assert max(loads) <= sum(seconds) / shards + max(seconds) + 1e-6


def test_without_durations_shards_have_equally_many_models() -> None:
    """Up to one."""
    shares = share_out({SuiteModel("s", f"m{number}"): 1.0 for number in range(10)}, 4)
    assert sorted(len(share) for share in shares) == [2, 2, 3, 3]


def test_durations_add_up_what_a_model_took_where_it_fits_best() -> None:
    """All compilers and testings; of the mode and device asked for, or else of what there is; the newest of a case."""
    records = (
        took("mlp", 99.0),
        took("mlp", 3.0),
        took("mlp", 4.0, testing=Testing.PERFORMANCE),
        took("mlp", 5.0, compiler="eager"),
        took("mlp", 50.0, device="cuda"),
        took("mlp", 500.0, mode=Mode.TRAINING),
        took("lstm", 8.0, device="cuda:1"),
        took("unet", 7.0, mode=Mode.TRAINING),
        took("not-run", 0.0),
    )
    assert sum_durations(records, mode=Mode.INFERENCE, device="cpu") == {
        SuiteModel("tiny", "mlp"): 12.0,
        SuiteModel("tiny", "lstm"): 8.0,
        SuiteModel("tiny", "unet"): 7.0,
    }
    assert sum_durations(records, mode=Mode.INFERENCE, device="cuda:0")[SuiteModel("tiny", "mlp")] == 50.0


@given(st.text(min_size=1), st.text(min_size=1), st.text(min_size=1))
def test_a_filter_fits_its_model_alone(suite: str, model: str, other: str) -> None:
    """Whatever is in the names, it stays one word of a list, and no other model of any suite fits."""
    pattern = make_filter(SuiteModel(suite, model))
    assert split_list(f"a {pattern} b") == ["a", pattern, "b"]
    assert parse_filter(pattern) == SuiteModel(suite, model)
    for its_suite, listed in ((suite, (model,)), (other, (model,)), (suite, (other,))):
        listing = SuiteListing(spec="spec", name=its_suite, models=listed)
        selection = Selection(suites=("spec",), mode=Mode.INFERENCE, filters=(re.compile(pattern),))
        assert chosen_models(selection, listing) == [name for name in listed if (its_suite, name) == (suite, model)]


@pytest.mark.parametrize("pattern", ["mlp", "tiny/mlp", r"^tiny/mlp", r"^a/b/c\Z", ""])
def test_other_filters_name_no_model(pattern: str) -> None:
    """Only what `exact_filter` makes is read back."""
    assert parse_filter(pattern) is None
