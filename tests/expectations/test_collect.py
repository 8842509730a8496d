"""The tables of a commit, out of its runs on GitHub."""

import re

import pytest

from fakes.artifacts import accuracy_csv, record, records_file, zipped
from fakes.github_server import REPOSITORY, SHA
from fakes.http_server import Reply
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import Status
from torchperf_ci.expectations.collect import Wish, collect
from torchperf_ci.github.client import GitHubRefused
from torchperf_ci.shards.uploads import Layout

PYTORCH = Wish(layout=Layout.PYTORCH)
RUNNER = "linux.g5.4xlarge.nvidia.gpu"


@pytest.fixture
def gather(client):
    """What `collect` makes of the server's state."""

    def call(wish: Wish = PYTORCH):
        return collect(client, REPOSITORY, SHA, wish, threads=4, say=lambda _: None)

    return call


def add_test(
    server,
    run,
    config,
    files,
    *,
    shard=(1, 1),
    attempt=1,
    build="cuda12.8-sm86",
    runner=RUNNER,
    conclusion="success",
    status="completed",
    expired=False,
    zip_content=None,
):
    """A test job with the artifact that it uploads; `files` None: it uploads nothing."""
    name = f"{build} / test ({config}, {shard[0]}, {shard[1]}, {runner})"
    job = server.add_job(run, name, attempt=attempt, conclusion=conclusion, status=status)
    if files is not None:
        artifact = f"test-reports-runattempt{attempt}-test-{config}-{shard[0]}-{shard[1]}-{runner}_{job}.zip"
        server.add_artifact(run, artifact, zip_content or zipped(files), expired=expired)
    return job


def accuracies(collected):
    """Path of every table, and its models with their accuracy."""
    return {
        path: {name: cells["accuracy"] for name, cells in table.by_name().items()}
        for each in collected.configs
        for path, table in each.tables.items()
    }


def test_shards_and_modes_of_test_jobs_become_tables(server, gather):
    """Both folders of reports, both modes, timm's other name, rocm's own folder; jobs of other tests do not matter."""
    server.most_per_page = 3
    run = server.add_run(workflow="inductor")
    csv = {
        f"test/test-reports/{mode}_timm_models.csv": accuracy_csv(f"a_{mode},pass,1,0")
        for mode in ("training", "inference")
    }
    add_test(server, run, "inductor_timm", csv, shard=(1, 2))
    csv = {
        f"test-reports/{mode}_timm_models.csv": accuracy_csv(f"b_{mode},OOM,,") for mode in ("training", "inference")
    }
    add_test(server, run, "inductor_timm", csv, shard=(2, 2), conclusion="failure")
    rocm = {"test-reports/inference_huggingface.csv": accuracy_csv("c,pass,1,2")}
    add_test(server, run, "inductor_huggingface", rocm, build="rocm-py3.10", runner="linux.rocm.gpu.2")
    add_test(server, run, "inductor_distributed", {"x.csv": "name\n"})
    server.add_job(run, "cuda12.8-sm86 / build")
    server.add_run(workflow="trunk")
    skipped = server.add_run(workflow="inductor", event="workflow_run")
    add_test(server, skipped, "inductor_timm", {}, shard=(1, 2))
    found = gather()
    assert accuracies(found) == {
        "inductor_timm_inference.csv": {"a_inference": "pass", "b_inference": "OOM"},
        "inductor_timm_training.csv": {"a_training": "pass", "b_training": "OOM"},
        "rocm/inductor_huggingface_inference.csv": {"c": "pass"},
    }
    assert found.gaps == ()
    assert [each.gaps for each in found.configs] == [(), ()]


def reports(*rows):
    return {"test/test-reports/inference_torchbench.csv": accuracy_csv(*rows)}


def test_the_newest_finished_attempt_counts(server, gather):
    """A re-run replaces what it ran again; a shard that was not run again keeps its artifact, which is said."""
    run = server.add_run(workflow="inductor", attempt=2)
    add_test(server, run, "inductor_torchbench", reports("a,pass,1,0"), shard=(1, 2))
    add_test(server, run, "inductor_torchbench", reports("b,fail_accuracy,1,0"), shard=(2, 2), conclusion="failure")
    copied = add_test(server, run, "inductor_torchbench", None, shard=(1, 2), attempt=2)
    add_test(server, run, "inductor_torchbench", reports("b,pass,1,0"), shard=(2, 2), attempt=2)
    found = gather()
    assert accuracies(found) == {"inductor_torchbench_inference.csv": {"a": "pass", "b": "pass"}}
    first = server.jobs[run][0]["id"]
    (note,) = found.configs[0].notes
    assert note == (
        f"shard 1 of 2: job {first} (attempt 1 of run {run}) is used, because job {copied} (attempt 2 of run {run}) "
        "left no artifact"
    )
    assert found.configs[0].gaps == ()


def test_a_cancelled_attempt_does_not_count(server, gather):
    """What it uploaded may be a part."""
    run = server.add_run(workflow="inductor")
    add_test(server, run, "inductor_torchbench", reports("a,pass,1,0"), conclusion="cancelled")
    (config,) = gather().configs
    assert config.tables == {}
    assert config.gaps[0].endswith("was cancelled or did not finish")


@pytest.mark.parametrize(
    ("broken", "gap"),
    [
        ({"files": reports("b,pass,1,0"), "expired": True}, "its artifact has expired"),
        ({"files": {}, "zip_content": zipped(reports("b,pass,1,0"))[:-40]}, "is no readable zip"),
        ({"files": {"junit.xml": "<x/>"}}, "holds neither inference_torchbench.csv nor training_torchbench.csv"),
        ({"files": reports("b,pass,1,0", "b,pass,1,0")}, "'b' again, first on line 2"),
        ({"files": reports("b,=1+1,1,0")}, "the accuracy '=1+1' is not a status"),
        ({"files": reports("a,pass,1,0")}, "the model 'a' is in shard 1 of 2 and in shard 2 of 2"),
        ({"files": None}, "left no artifact"),
        ({"files": None, "status": "in_progress"}, "is still running"),
    ],
)
def test_a_shard_that_cannot_be_used_makes_its_configuration_incomplete(server, gather, broken, gap: str):
    """Expired, truncated, without reports, hostile, overlapping, missing, running; other configurations are whole."""
    run = server.add_run(workflow="inductor")
    add_test(server, run, "inductor_torchbench", reports("a,pass,1,0"), shard=(1, 2))
    add_test(server, run, "inductor_torchbench", **broken, shard=(2, 2))
    add_test(server, run, "aot_eager_torchbench", reports("a,pass,1,0"))
    whole, incomplete = gather().configs
    assert (str(whole.config), whole.gaps) == ("aot_eager_torchbench", ())
    assert [each for each in incomplete.gaps if gap in each], incomplete.gaps


def test_an_artifact_that_expires_on_the_way_is_a_gap(server, gather):
    """GitHub's list may be older than its answer 410."""
    run = server.add_run(workflow="inductor")
    add_test(server, run, "inductor_torchbench", reports("a,pass,1,0"))
    server.fail("GET .*/zip", Reply(status=410, body={"message": "Artifact has expired"}))
    (config,) = gather().configs
    assert config.gaps[0].endswith("has expired")


def test_a_mode_that_one_shard_lacks_is_a_gap(server, gather):
    """Shards share models out, not modes."""
    run = server.add_run(workflow="inductor")
    training = {"test/test-reports/training_torchbench.csv": accuracy_csv("a,pass,1,0")}
    add_test(server, run, "inductor_torchbench", {**reports("a,pass,1,0"), **training}, shard=(1, 2))
    add_test(server, run, "inductor_torchbench", reports("b,pass,1,0"), shard=(2, 2))
    (config,) = gather().configs
    assert config.gaps == ("shard 2 of 2: has no rows for inductor_torchbench_training.csv, while other shards have",)


def test_jobs_that_may_still_bring_configurations_are_named(server, gather):
    """A build that is going on will start test jobs that nobody knows yet."""
    run = server.add_run(workflow="inductor", status="in_progress")
    add_test(server, run, "inductor_torchbench", reports("a,pass,1,0"))
    server.add_job(run, "cuda12.8-sm90 / build", status="in_progress")
    queued = server.add_run(workflow="inductor-periodic", status="queued")
    found = gather()
    assert found.gaps == (
        f"run {run} of inductor is still going: jobs cuda12.8-sm90 / build",
        f"run {queued} of inductor-periodic is still going: no job has started",
    )


def test_a_build_can_be_left_out(server, gather):
    """Two builds of a configuration are not mixed; --exclude-job says which one counts."""
    run = server.add_run(workflow="inductor")
    add_test(server, run, "inductor_torchbench", reports("a,pass,1,0"))
    add_test(server, run, "inductor_torchbench", reports("a,OOM,1,0"), build="cuda13.0-sm86")
    (config,) = gather().configs
    assert config.gaps == ("several builds tested it (cuda12.8-sm86, cuda13.0-sm86); choose with --exclude-job",)
    (config,) = gather(Wish(layout=Layout.PYTORCH, exclude_jobs=(re.compile("cuda13"),))).configs
    assert (config.gaps, config.tables["inductor_torchbench_inference.csv"].rows[0][1]) == ((), "pass")


def test_configurations_that_are_asked_for_must_be_there(server, gather):
    """What is asked for and not found is told, what is not asked for is not read."""
    run = server.add_run(workflow="inductor")
    add_test(server, run, "inductor_torchbench", reports("a,pass,1,0"))
    add_test(server, run, "aot_eager_torchbench", reports("a,pass,1,0"))
    found = gather(Wish(layout=Layout.PYTORCH, configs=("inductor_torchbench", "nope")))
    assert [str(each.config) for each in found.configs] == ["inductor_torchbench"]
    assert found.gaps == ("nope: no run of this commit has it",)
    assert server.count("GET .*/zip") == 1


def own(*records, folder=""):
    return zipped({f"{folder}records.jsonl": records_file(*records), "report.md": "x"})


def test_our_own_artifacts_become_tables_by_compiler(server, gather):
    """Shards of one name are joined; the newest attempt of each counts."""
    run = server.add_run(attempt=2)
    server.add_artifact(run, "torchperf-nightly-1-2-1", own(record("a", Status.OOM)))
    server.add_artifact(run, "torchperf-nightly-2-2-1", own(record("b"), folder="out/"))
    server.add_artifact(run, "torchperf-nightly-1-2-2", own(record("a", graph_breaks=2), record("a", compiler="eager")))
    found = gather(Wish())
    assert accuracies(found) == {
        "eager_tiny_float32_inference_cpu.csv": {"a": "pass"},
        "inductor_tiny_float32_inference_cpu.csv": {"a": "pass", "b": "pass"},
    }
    (config,) = found.configs
    assert (str(config.config), config.gaps) == ("nightly", ())
    assert config.notes == (
        f"shard 2 of 2: attempt 1 of run {run} is used, because attempt 2 of run {run} left no artifact",
    )


def test_our_own_run_that_is_going_on_is_incomplete(server, gather):
    """A shard that is being run again, and one that has not come yet."""
    run = server.add_run(attempt=2, status="in_progress")
    server.add_job(run, "measure (1)", status="in_progress", attempt=2)
    server.add_artifact(run, "torchperf-nightly-1-2-1", own(record("a")))
    found = gather(Wish())
    assert found.configs[0].gaps == (
        f"shard 1 of 2: attempt 2 of run {run} is still running",
        "shard 2 of 2: no attempt at it",
    )
    assert found.gaps == (f"run {run} of perf is still going: jobs measure (1)",)


@pytest.mark.parametrize(
    ("content", "gap"),
    [
        (own(record("a"), record("b", Status.NOT_RUN)), "not run: b"),
        (zipped({"records.jsonl": records_file(record("a")) + '{"type":'}), "records.jsonl:2: not JSON"),
        (zipped({"records.jsonl": "\n"}), "holds no results"),
        (zipped({"report.md": ""}), "holds neither records.jsonl nor a CSV file of results"),
        (own(record("=evil()")), "does not start with a letter"),
    ],
)
def test_results_that_are_not_whole_are_incomplete(server, gather, content: bytes, gap: str):
    """Cases that were not run, torn lines, nothing at all, hostile names."""
    run = server.add_run()
    server.add_artifact(run, "torchperf-nightly-1-1-1", content)
    (config,) = gather(Wish()).configs
    assert len(config.gaps) == 1
    assert gap in config.gaps[0]


def test_a_commit_without_runs_is_told(server, gather):
    """No run at all, none of the workflow, none with such artifacts: three messages."""
    with pytest.raises(NothingToJudge, match="org/project has no workflow run of the commit aaaa"):
        gather()
    server.add_run(workflow="lint")
    with pytest.raises(NothingToJudge, match="belongs to the workflow inductor or inductor-periodic; there are: lint"):
        gather()
    with pytest.raises(NothingToJudge, match=r"no artifact of 1 workflow run holds results.*is --layout"):
        gather(Wish())


def test_a_token_that_may_not_read_actions_stops_everything(server, gather):
    """That is no gap: nothing can be said at all."""
    server.permissions.discard("actions: read")
    with pytest.raises(GitHubRefused, match="'actions: read'"):
        gather()
