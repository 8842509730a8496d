"""Which uploads make up a configuration."""

import pytest

from torchperf_ci.shards.uploads import (
    Attempt,
    AttemptState,
    Configuration,
    Shard,
    choose,
    find_suite,
    is_suite_config,
    parse_own_artifact,
    parse_test_job,
    parse_test_reports,
)

CONFIG = Configuration("inductor_torchbench")


def attempt(
    number: int, total: int = 1, *, age: int = 1, state: AttemptState = AttemptState.UPLOADED, build: str = ""
) -> Attempt:
    label = f"attempt {age}"
    return Attempt(shard=Shard(CONFIG, number, total), age=(age,), state=state, label=label, build=build, upload=age)


def test_names_of_test_jobs_are_understood():
    """Build, configuration, shard and runner; rocm jobs have tables of their own."""
    cuda = "linux-jammy-cuda12.8-py3.10-gcc9-sm86 / test (dynamic_inductor_timm, 2, 3, linux.g5.4xlarge.nvidia.gpu)"
    assert parse_test_job(cuda) == (
        Shard(Configuration("dynamic_inductor_timm"), 2, 3),
        "linux-jammy-cuda12.8-py3.10-gcc9-sm86",
    )
    rocm = "rocm-py3.10 / test (inductor_timm, 1, 2, linux.rocm.gpu.2, unstable)"
    assert parse_test_job(rocm) == (Shard(Configuration("inductor_timm", "rocm"), 1, 2), "rocm-py3.10")
    for other in (
        "lint / build",
        "a / test (x, 1, 2)",
        "a / test (x, 3, 2, r)",
        "a / test (x y, 1, 1, r)",
        "a / test ()",
    ):
        assert parse_test_job(other) is None


def test_names_of_test_reports_are_understood():
    """With and without the attempt, with and without the ending; runners have dots and hyphens."""
    name = "test-reports-runattempt2-test-aot_eager_huggingface-1-2-lf.linux.aws-h100_123.zip"
    assert parse_test_reports(name) == (Shard(Configuration("aot_eager_huggingface"), 1, 2), 123, 2)
    name = "test-reports-test-inductor_timm-1-1-linux.rocm.gpu.gfx942.1_9"
    assert parse_test_reports(name) == (Shard(Configuration("inductor_timm", "rocm"), 1, 1), 9, 0)
    for other in ("logs-test-a-1-1-r_1.zip", "test-reports-test-a-2-1-r_1.zip", "test-reports-test-../x-1-1-r_1.zip"):
        assert parse_test_reports(other) is None


def test_names_of_our_artifacts_are_understood():
    """The name may hold hyphens and numbers of its own."""
    assert parse_own_artifact("torchperf-a100-nightly-2-1-3-4") == (Shard(Configuration("a100-nightly-2"), 1, 3), 4)
    assert parse_own_artifact("torchperf-x-4-3-1") is None
    assert parse_own_artifact("other-x-1-1-1") is None


def test_the_suite_is_the_last_word():
    """timm's CSVs are called timm_models."""
    assert find_suite("cpu_inductor_amp_freezing_timm") == "timm_models"
    assert find_suite("inductor_torchbench") == "torchbench"
    assert is_suite_config("inductor_timm")
    assert not is_suite_config("inductor_distributed")
    assert not is_suite_config("timm")


def test_the_newest_attempt_that_finished_wins():
    """Every shard's newest artifact is taken, without a word when it is the newest attempt."""
    (choice,) = choose([attempt(1, 2, age=1), attempt(1, 2, age=3), attempt(2, 2, age=2)])
    assert [each.age for each in choice.attempts] == [(3,), (2,)]
    assert (choice.gaps, choice.notes) == ((), ())


@pytest.mark.parametrize("state", [AttemptState.NO_ARTIFACT, AttemptState.EXPIRED, AttemptState.STOPPED])
def test_an_older_attempt_is_used_when_the_newer_left_nothing_and_that_is_said(state: AttemptState):
    """The note tells which attempt, and why."""
    (choice,) = choose([attempt(1, age=1), attempt(1, age=2, state=state)])
    assert [each.age for each in choice.attempts] == [(1,)]
    assert choice.notes == (f"shard 1 of 1: attempt 1 is used, because attempt 2 {state}",)
    assert choice.gaps == ()


def test_a_newer_attempt_that_still_runs_makes_the_configuration_incomplete():
    """The older artifact is about to be replaced."""
    (choice,) = choose([attempt(1, age=1), attempt(1, age=2, state=AttemptState.RUNNING)])
    assert choice.gaps == ("shard 1 of 1: attempt 2 is still running",)
    assert [each.age for each in choice.attempts] == [(1,)]


def test_a_shard_without_any_artifact_is_a_gap():
    """A shard that nobody tried, and one whose attempts all left nothing."""
    (choice,) = choose([attempt(1, 3), attempt(2, 3, state=AttemptState.STOPPED)])
    assert choice.gaps == (
        "shard 2 of 3: attempt 1 was cancelled or did not finish",
        "shard 3 of 3: no attempt at it",
    )


def test_attempts_with_another_number_of_shards_are_left_out():
    """Only attempts that share the models out alike fit together."""
    (choice,) = choose([attempt(1, 2, age=1), attempt(2, 2, age=2), attempt(1, 1, age=3)])
    assert [each.age for each in choice.attempts] == [(3,)]
    assert choice.notes == ("attempt 3 has 1 shard; attempts with 2 are left out",)


def test_two_builds_of_one_configuration_are_not_mixed():
    """Somebody has to say which one the table is for."""
    (choice,) = choose([attempt(1, age=1, build="cuda12"), attempt(1, age=2, build="cuda13")])
    assert choice.gaps == ("several builds tested it (cuda12, cuda13); choose with --exclude-job",)
