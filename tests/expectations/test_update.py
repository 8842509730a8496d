"""Updates of a folder of tables from folders of results."""

import pytest

from fakes.artifacts import accuracy_csv, record, records_file
from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.records import Source, Status
from torchperf_ci.expectations.collect import ConfigRun, collect_from_disk
from torchperf_ci.expectations.report import write_update_markdown, write_update_text
from torchperf_ci.expectations.table import ExpectationTable, write_table
from torchperf_ci.expectations.update import apply_update, plan_update
from torchperf_ci.shards.uploads import Configuration, Layout


def table(*rows: str) -> ExpectationTable:
    return ExpectationTable(
        columns=("name", "accuracy", "graph_breaks"), rows=tuple(tuple(row.split(",")) for row in rows)
    )


def run(name: str, *rows: str, **settings) -> ConfigRun:
    return ConfigRun(config=Configuration(name), tables={f"{name}.csv": table(*rows)}, **settings)


def results(folder, *records):
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text(records_file(*records))


def test_complete_configurations_are_written_and_others_left_alone(tmp_path):
    """An incomplete configuration touches nothing, whatever it has; the other one is updated."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(write_table(table("m,pass,0")))
    before = (tmp_path / "b.csv").stat().st_mtime_ns
    update = plan_update(tmp_path, [run("a", "m,OOM,0"), run("b", "m,OOM,0", gaps=("shard 2 of 2: gone",))])
    apply_update(tmp_path, update)
    assert (tmp_path / "a.csv").read_text() == write_table(table("m,OOM,0"))
    assert (tmp_path / "b.csv").stat().st_mtime_ns == before
    assert (update.untouched, update.gaps) == (("b",), (("b", "shard 2 of 2: gone"),))


def test_what_there_is_can_be_merged_but_never_pruned(tmp_path):
    """With allow_missing an incomplete configuration updates its rows; models of missing shards stay."""
    (tmp_path / "b.csv").write_text(write_table(table("m,pass,0", "n,pass,0")))
    runs = [run("b", "m,OOM,0", gaps=("shard 2 of 2: gone",))]
    apply_update(tmp_path, plan_update(tmp_path, runs, prune=True, allow_missing=True))
    assert (tmp_path / "b.csv").read_text() == write_table(table("m,OOM,0", "n,pass,0"))


def test_a_second_time_touches_nothing(tmp_path):
    """The files of the second time are those of the first, to the time of their last change."""
    runs = [run("a", "m,pass,0", "n,OOM,1")]
    apply_update(tmp_path, plan_update(tmp_path, runs))
    before = (tmp_path / "a.csv").stat().st_mtime_ns
    second = plan_update(tmp_path, runs)
    apply_update(tmp_path, second)
    assert second.written == ()
    assert (tmp_path / "a.csv").stat().st_mtime_ns == before


def test_a_table_in_another_layout_is_not_touched_when_nothing_changes(tmp_path):
    """Only content counts."""
    (tmp_path / "a.csv").write_text("name,accuracy,graph_breaks\r\nm,pass,0\r\n")
    apply_update(tmp_path, plan_update(tmp_path, [run("a", "m,pass,0")]))
    assert (tmp_path / "a.csv").read_bytes() == b"name,accuracy,graph_breaks\r\nm,pass,0\r\n"


@pytest.mark.parametrize("allow_missing", [False, True])
def test_a_table_that_cannot_be_read_stays_as_it_is(tmp_path, allow_missing):
    """The message names the file; nobody's work is overwritten, and the results are not blamed."""
    (tmp_path / "a.csv").write_text("<<<<<<< HEAD\nname,accuracy\n")
    update = plan_update(tmp_path, [run("a", "m,pass,0")], allow_missing=allow_missing)
    assert (update.tables, update.untouched, update.gaps) == ((), (), ())
    ((path, why),) = update.unusable
    assert path == str(tmp_path / "a.csv")
    assert "a.csv: no column 'name', only: '<<<<<<< HEAD'" in why
    for text in (write_update_text(update, dry_run=False), write_update_markdown(update)):
        assert "Repair or delete" in text
        assert "--allow-missing" not in text


def test_two_configurations_for_one_table_are_refused(tmp_path):
    """Rows are told apart by model only."""
    runs = [ConfigRun(config=Configuration(name), tables={"t.csv": table("m,pass,0")}) for name in ("a100", "h100")]
    with pytest.raises(UsageProblem, match=r"t\.csv comes from both a100 and h100; choose one with --config"):
        plan_update(tmp_path, runs)


def test_a_results_folder_is_a_run(tmp_path):
    """The folder itself, without an artifact's name."""
    results(tmp_path / "out", record("m", graph_breaks=3))
    (found,) = collect_from_disk(tmp_path / "out", Layout.TORCHPERF)
    assert found.tables == {"inductor_tiny_float32_inference_cpu.csv": table("m,pass,3")}
    assert found.gaps == ()


def test_downloaded_artifacts_are_shards_and_attempts(tmp_path):
    """Folders named like artifacts: the newest attempt of each shard, and a missing shard is a gap."""
    results(tmp_path / "torchperf-x-1-3-1", record("a", Status.OOM))
    results(tmp_path / "torchperf-x-1-3-2", record("a"))
    results(tmp_path / "torchperf-x-2-3-1", record("b"))
    (found,) = collect_from_disk(tmp_path, Layout.TORCHPERF)
    assert found.tables["inductor_tiny_float32_inference_cpu.csv"] == table("a,pass,0", "b,pass,0")
    assert found.gaps == ("shard 3 of 3: no attempt at it",)


def test_other_folders_tell_their_shard_by_their_records(tmp_path):
    """Shard and attempt stand in every record."""
    results(tmp_path / "one", record("a", Status.OOM, source=Source(shard="1-2", attempt=1)))
    results(tmp_path / "again", record("a", source=Source(shard="1-2", attempt=2)))
    results(tmp_path / "two", record("b", source=Source(shard="2-2", attempt=1)))
    (found,) = collect_from_disk(tmp_path, Layout.TORCHPERF)
    assert found.tables["inductor_tiny_float32_inference_cpu.csv"] == table("a,pass,0", "b,pass,0")
    assert found.gaps == ()


def test_downloaded_test_reports_are_shards(tmp_path):
    """Folders as `gh run download` makes them."""
    folder = tmp_path / "test-reports-runattempt1-test-inductor_timm-1-1-linux.rocm.gpu_7.zip" / "test-reports"
    folder.mkdir(parents=True)
    (folder / "training_timm_models.csv").write_text(accuracy_csv("a,pass,1,0"))
    (found,) = collect_from_disk(tmp_path, Layout.PYTORCH)
    assert found.tables == {"rocm/inductor_timm_training.csv": ExpectationTable(
        columns=("name", "accuracy", "calls_captured", "graph_breaks"), rows=(("a", "pass", "1", "0"),)
    )}  # fmt: skip


def test_a_folder_without_results_is_told(tmp_path):
    """Nothing there, and nothing of the name."""
    with pytest.raises(NothingToJudge, match=r"holds no records\.jsonl or CSV file of results"):
        collect_from_disk(tmp_path, Layout.TORCHPERF)
    results(tmp_path / "torchperf-x-1-1-1", record("a"))
    with pytest.raises(NothingToJudge, match=r"CSV file of results of y"):
        collect_from_disk(tmp_path, Layout.TORCHPERF, ["y"])
    with pytest.raises(UsageProblem, match="there is no folder"):
        collect_from_disk(tmp_path / "nope", Layout.TORCHPERF)
