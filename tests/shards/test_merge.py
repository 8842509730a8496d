"""Shards of a run joined: what is missing, double or contradictory is named, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.artifacts import record
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import PARTITION, Build, Environment, Record, Source
from torchperf_ci.core.results import Problem, Results
from torchperf_ci.shards.uploads import Configuration, MergedRun, Piece, Promise, Shard, merge

NIGHTLY = Configuration("nightly")


def piece(number: int, *records: Record, total: int = 2, attempt: int = 1, **options: Any) -> Piece:
    config = options.pop("config", NIGHTLY)
    label = f"{config}-{number}-{total}-{attempt}"
    results = Results(records=records, **options)
    return Piece(label=label, shard=Shard(config, number, total), attempt=attempt, results=results)


def models(merged: MergedRun) -> list[tuple[str, int]]:
    return [(each.case.model, place) for each, place in merged.records]


def measured(model: str, *, time: str = "", commit: str = "c" * 40) -> Record:
    return replace(record(model), source=Source(commit=commit, time=time))


def test_every_shard_gives_its_records() -> None:
    """Each with the place of the piece that it is from, whose log belongs to it."""
    merged = merge([piece(2, record("lstm")), piece(1, record("mlp"))])
    assert models(merged) == [("mlp", 1), ("lstm", 0)]
    assert (merged.gaps, merged.notes, merged.unusable) == ((), (), ())


def test_the_newest_attempt_of_a_shard_counts() -> None:
    """Whatever the order they are given in; another shard keeps its older one."""
    pieces = [piece(1, record("new"), attempt=10), piece(1, record("old"), attempt=9), piece(2, record("lstm"))]
    assert models(merge(pieces)) == [("new", 0), ("lstm", 2)]


def test_a_missing_shard_is_a_gap() -> None:
    """Of the total that the others name."""
    assert merge([piece(1, record("mlp"), total=3), piece(3, record("lstm"), total=3)]).gaps == (
        "nightly: shard 2 of 3: no attempt at it",
    )


def test_a_plan_holds_its_shards_and_models_to_their_word() -> None:
    """A shard of which there is nothing, a model without a result; what was not planned is left out and told."""
    planned = [
        Promise(shard=Shard(NIGHTLY, 1, 2), models=frozenset({("tiny", "mlp"), ("tiny", "unet")})),
        Promise(shard=Shard(Configuration("gpu"), 1, 1), models=frozenset({("tiny", "mlp")})),
    ]
    other = piece(1, record("x"), total=1, config=Configuration("other"))
    merged = merge([piece(1, record("mlp")), piece(2, record("lstm")), other], planned)
    assert merged.gaps == ("nightly: shard 1 of 2: no result of tiny/unet", "gpu: shard 1 of 1: no attempt at it")
    assert merged.notes == ("other-1-1-1 was not planned and is left out",)
    assert models(merged) == [("mlp", 0), ("lstm", 1)]


def test_an_attempt_that_is_there_twice_counts_once() -> None:
    """When both are equal; when they differ nobody knows which is right."""
    twice = [piece(1, record("mlp"), total=1), piece(1, record("mlp"), total=1)]
    merged = merge(twice)
    assert models(merged) == [("mlp", 1)]
    assert "both attempt 1 at shard 1 of 1 of nightly, and equal" in merged.notes[0]
    with pytest.raises(NothingToJudge, match="both attempt 1 at shard 1 of 1 of nightly, and differ"):
        merge([twice[0], piece(1, record("lstm"), total=1)])


def test_a_case_in_two_shards_counts_once_and_the_newest() -> None:
    """Which is told with the names of both."""
    early, late = measured("mlp", time="2026-01-01T00:00:00Z"), measured("mlp", time="2026-01-02T00:00:00Z")
    merged = merge([piece(1, late), piece(2, early)])
    assert models(merged) == [("mlp", 0)]
    assert "nightly-1-2-1 and nightly-2-2-1 both hold" in merged.notes[0]


def test_what_cannot_be_one_run_is_refused() -> None:
    """Different commits, and two kinds of machines that measured the same; all of it is named."""
    gpu = piece(1, measured("mlp", commit="d" * 40), total=1, config=Configuration("gpu"))
    with pytest.raises(NothingToJudge) as refused:
        merge([piece(1, measured("mlp"), total=1), gpu])
    assert "they are of different commits" in str(refused.value)
    assert "both gpu and nightly hold" in str(refused.value)


def test_without_records_the_gaps_are_the_message() -> None:
    """There is nothing to merge, and it is known why."""
    with pytest.raises(NothingToJudge, match="shard 2 of 2: no attempt at it"):
        merge([piece(1)])


def test_gaps_stand_in_the_last_build_and_allowed_ones_are_warnings() -> None:
    """So that every report made of the results shows them."""
    builds = (Build(environment=Environment()), Build(environment=Environment(), warnings=("hot",)))
    problem = Problem(file="records.jsonl", what="line 3 is no record")
    merged = merge([piece(1, record("mlp"), builds=builds, problems=(problem,))])
    first, last = merged.annotated_builds(allow_missing=False)
    assert first == builds[0]
    assert last.gaps == ("nightly: shard 2 of 2: no attempt at it",)
    assert last.warnings[0] == "hot"
    assert "line 3" in last.warnings[1]
    *_, allowed = merged.annotated_builds(allow_missing=True)
    assert allowed.gaps == ()
    assert "nightly: shard 2 of 2: no attempt at it" in allowed.warnings


def test_confirmations_and_narrowings_go_with_their_shards() -> None:
    """What confirms a record that counts is kept, of an older attempt it is not; a shard of a plan is no subset."""
    again = measured("mlp", time="2026-10-05T04:00:00+00:00")
    build = Build(environment=Environment(), narrowed_by=("--filter ^tiny/mlp", PARTITION))
    pieces = [
        piece(1, record("mlp"), builds=(build,), confirmations=(again,)),
        piece(2, record("lstm"), attempt=2),
        piece(2, record("lstm"), confirmations=(measured("lstm"),)),
    ]
    merged = merge(pieces)
    assert merged.confirmations == (again,)
    assert merged.builds[0].narrowed_by == ("--filter ^tiny/mlp",)
    planned = [Promise(shard=Shard(NIGHTLY, number, 2), models=frozenset()) for number in (1, 2)]
    assert merge(pieces, planned).builds[0].narrowed_by == ()
