"""Runs in Parquet files: nothing is lost, nothing counts twice, nobody is in the way of anybody."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report_builders import accuracy, both, case, performance
from run_builders import FIRST_DAY, MACHINE, a_run
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import (
    COUNTERS,
    METRICS,
    Build,
    Case,
    Environment,
    GraphBreak,
    Mode,
    Record,
    Source,
    Status,
    Testing,
)
from torchperf_ci.core.results import Results
from torchperf_ci.history.parquet import (
    ParquetHistory,
    Part,
    choose_parts,
    compact,
    encode_run,
    name_compacted,
    parse_part,
)
from torchperf_ci.history.runs import HistoryRun, RunFilter, make_run
from torchperf_ci.history.storage import Files, LocalFiles, open_files

ALL = RunFilter()
DECEMBER = datetime(2026, 12, 1, tzinfo=timezone.utc)


@pytest.fixture(params=["folder", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return LocalFiles(root=tmp_path / "history")
    return open_files(f"memory://{tmp_path.name}/history", cache=tmp_path / "cache")


@pytest.fixture
def history(files: Files) -> ParquetHistory:
    return ParquetHistory(files=files)


def keys(history: ParquetHistory, count: int = 10, wanted: RunFilter = ALL) -> list[str]:
    return [run.key.rpartition("/")[2] for run in history.read_last(count, wanted).runs]


def speedups(run: HistoryRun) -> dict[str, float]:
    return {r.case.model: r.metrics["speedup"] for r in run.results.records if r.testing is Testing.PERFORMANCE}


def test_the_last_runs_come_back_oldest_first(history: ParquetHistory, tmp_path: Path):
    """Of more runs than are asked for the newest come, over a month's end, and with what was measured."""
    for day in (40, 3, 0, 26, 27, 28):
        history.add(a_run(day, both(case(), 1 + day / 100)), tmp_path)
    found = history.read_last(4, RunFilter())
    assert [run.time.day for run in found.runs] == [31, 1, 2, 14]
    assert [speedups(run) for run in found.runs] == [{"mlp": 1.26}, {"mlp": 1.27}, {"mlp": 1.28}, {"mlp": 1.4}]
    assert found.runs[-1].source == a_run(40).source
    assert found.problems == ()


def test_an_empty_history_has_no_runs(history: ParquetHistory):
    """A history that does not exist yet is one without runs."""
    assert history.read_last(10, RunFilter()).runs == ()


def test_only_what_is_wanted_counts(history: ParquetHistory, tmp_path: Path):
    """Other series, branches, suites and dtypes are passed over, however many there are of them."""
    history.add(a_run(0, both(case(suite="resnet"))), tmp_path)
    for day in range(1, 9):
        history.add(a_run(day), tmp_path)
    history.add(a_run(9, branch="topic"), tmp_path)
    history.add(a_run(10, name="a100"), tmp_path)
    assert keys(history, 1, RunFilter(selection=CaseSelection(suites=("resnet",)))) == ["1000"]
    assert keys(history, 1, RunFilter(branch="main")) == ["1008"]
    assert keys(history, 1, RunFilter(branch="topic")) == ["1009"]
    assert keys(history, 3, RunFilter(name="a100")) == ["1010"]
    assert keys(history, 3, RunFilter(selection=CaseSelection(dtypes=("bfloat16",)))) == []


def test_a_run_is_kept_once(history: ParquetHistory, tmp_path: Path):
    """Adding the same run again writes nothing."""
    assert len(history.add(a_run(0), tmp_path).sizes) == 1
    assert history.add(a_run(0), tmp_path).sizes == {}
    assert keys(history) == ["1000"]


def test_a_dry_run_writes_nothing(history: ParquetHistory, tmp_path: Path):
    """A dry run says what it would write, with its size."""
    added = history.add(a_run(0), tmp_path, dry_run=True)
    ((path, size),) = added.sizes.items()
    assert path.startswith("month=2026-10/20261005T031500Z_octo-project-1000_1-1_1_")
    assert size > 1000
    assert keys(history) == []


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_newest_attempt_wins(history: ParquetHistory, tmp_path: Path, order: tuple[int, int]):
    """Of every case the newest attempt counts, whichever was added first; what it did not run stays."""
    attempts = {
        1: a_run(0, [*both(case("mlp"), 1.0), *both(case("lstm"), 1.0)], attempt=1),
        2: a_run(0, both(case("mlp"), 2.0), attempt=2),
    }
    for attempt in order:
        history.add(attempts[attempt], tmp_path)
    (run,) = history.read_last(10, RunFilter()).runs
    assert speedups(run) == {"lstm": 1.0, "mlp": 2.0}
    assert len(run.results.records) == 4
    assert len(history.read_run(name="results", key=run.key).results.records) == 4


def test_shards_are_files_of_their_own_and_one_run(history: ParquetHistory, tmp_path: Path):
    """Shards that are added one by one, also on both sides of a month's end, are one run."""
    late = datetime(2026, 10, 31, 23, 59, tzinfo=timezone.utc).isoformat()
    early = datetime(2026, 11, 1, 0, 1, tzinfo=timezone.utc).isoformat()
    history.add(a_run(27, both(case("mlp")), shard="1-2", run_id="77", time=late), tmp_path)
    history.add(a_run(27, both(case("lstm")), shard="2-2", run_id="77", time=early), tmp_path)
    (run,) = history.read_last(1, RunFilter()).runs
    assert sorted(speedups(run)) == ["lstm", "mlp"]
    assert sorted(history.files.list_folders()) == ["month=2026-10", "month=2026-11"]


def test_compacting_keeps_every_row(history: ParquetHistory, tmp_path: Path):
    """Months that are over become one file each; all runs, attempts and samples are as before."""
    for day in range(30):
        timed = replace(performance(case()), samples={"eager": (0.003, 0.0031), "compiled": (0.002, 0.0021)})
        history.add(a_run(day, [accuracy(case()), timed]), tmp_path)
    history.add(a_run(3, both(case("mlp"), 9.0), attempt=2), tmp_path)
    before = {key: history.read_run(name="results", key=f"octo/project/{key}") for key in keys(history, 40)}
    rows = count_rows(history)

    made = list(compact(history, now=datetime(2026, 11, 20, tzinfo=timezone.utc)))

    assert [(item.month, len(item.replaced)) for item in made] == [("month=2026-10", 28)]
    assert [len(parts) for _, parts in history.list_months()] == [3, 1]
    assert keys(history, 40) == list(before)
    assert {key: history.read_run(name="results", key=f"octo/project/{key}") for key in before} == before
    assert count_rows(history) == rows
    assert list(compact(history, now=datetime(2026, 11, 20, tzinfo=timezone.utc))) == []


def test_a_compaction_that_was_broken_off_counts_nothing_twice(history: ParquetHistory, tmp_path: Path):
    """While old files stand beside the compacted one every record counts once, and the next compaction clears up."""
    runs = [a_run(day) for day in range(3)]
    for run in runs:
        history.add(run, tmp_path)
    kept = {
        part.path: history.files.fetch([part.path])[0].read_bytes()
        for _, found in history.list_months()
        for part in found
    }
    list(compact(history, now=DECEMBER))
    history.files.write(kept)
    assert [len(run.results.records) for run in history.read_last(10, RunFilter()).runs] == [2, 2, 2]
    list(compact(history, now=DECEMBER))
    assert [len(parts) for _, parts in history.list_months()] == [1]
    assert count_rows(history) == 3 * rows_of(runs[0])


def test_late_results_join_a_compacted_month(history: ParquetHistory, tmp_path: Path):
    """What arrives after its month was compacted is found there, and compacted with it the next time."""
    history.add(a_run(0), tmp_path)
    history.add(a_run(2), tmp_path)
    list(compact(history, now=DECEMBER))
    history.add(a_run(1), tmp_path)
    assert keys(history) == ["1000", "1001", "1002"]
    list(compact(history, now=DECEMBER))
    assert keys(history, 2) == ["1001", "1002"]


def test_a_dry_compaction_changes_nothing(history: ParquetHistory, tmp_path: Path):
    """A dry run says which files would become one."""
    for day in range(2):
        history.add(a_run(day), tmp_path)
    (item,) = compact(history, now=DECEMBER, dry_run=True)
    assert len(item.replaced) == 2
    assert item.before > item.after > 0
    assert [len(parts) for _, parts in history.list_months()] == [2]


def test_an_unreadable_file_is_named_and_left_out(tmp_path: Path):
    """A broken file costs its own run and no other."""
    history = ParquetHistory(files=LocalFiles(root=tmp_path))
    history.add(a_run(0), tmp_path)
    history.add(a_run(1), tmp_path)
    broken = next(tmp_path.glob("month=*/*-1001_*"))
    broken.write_bytes(broken.read_bytes()[:-9])
    found = history.read_last(10, RunFilter())
    assert [run.key for run in found.runs] == ["octo/project/1000"]
    assert [problem.file for problem in found.problems] == [broken.name]


def test_foreign_files_are_let_be(tmp_path: Path):
    """Files and folders with other names are neither read nor compacted."""
    history = ParquetHistory(files=LocalFiles(root=tmp_path))
    history.add(a_run(0), tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "month=2026-10" / "mine.parquet").write_text("not ours")
    assert keys(history) == ["1000"]
    assert list(compact(history, now=DECEMBER)) == []
    assert (tmp_path / "month=2026-10" / "mine.parquet").exists()


def test_processes_add_at_the_same_time(tmp_path: Path):
    """Processes that write to one history at once lose nothing, also when they add the same run."""
    script = (
        "import sys; from pathlib import Path; from run_builders import a_run\n"
        "from torchperf_ci.history.storage import LocalFiles\n"
        "from torchperf_ci.history.parquet import ParquetHistory\n"
        "history = ParquetHistory(files=LocalFiles(root=Path(sys.argv[1])))\n"
        "for day in range(int(sys.argv[2]), int(sys.argv[2]) + 12): history.add(a_run(day), Path())\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    running = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path, first], env={**os.environ, "PYTHONPATH": path})
        for first in ("0", "6")
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    assert keys(ParquetHistory(files=LocalFiles(root=tmp_path)), 30) == [str(1000 + day) for day in range(18)]


def test_a_run_that_is_not_there_is_said(history: ParquetHistory):
    """Asking for an unknown run names the series and the command that lists them."""
    with pytest.raises(
        UsageProblem, match=r"no run octo/project/1 in the series results; .*history list` with the same options"
    ):
        history.read_run(name="results", key="octo/project/1")


TEXT = st.text(max_size=12)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=3).map(tuple)
RECORDS = st.builds(
    Record,
    case=st.builds(Case, suite=TEXT, model=TEXT, mode=st.sampled_from(Mode), device=TEXT, dtype=TEXT, compiler=TEXT),
    testing=st.sampled_from(Testing),
    status=st.sampled_from(Status),
    batch_size=st.integers(0, 2**40),
    metrics=st.dictionaries(st.sampled_from(list(METRICS)), NUMBER, max_size=4),
    samples=st.dictionaries(st.sampled_from(["eager", "compiled", "probe", "eager_device"]), TIMES, max_size=4),
    counters=st.dictionaries(st.sampled_from(COUNTERS), st.integers(0, 2**40), max_size=3),
    graph_breaks=st.lists(st.builds(GraphBreak, reason=TEXT, user_stack=TEXT), max_size=2).map(tuple),
    parameters=st.integers(0, 2**60),
    seconds=st.floats(0, 1e6, allow_nan=False),
    reason=TEXT,
    remarks=st.lists(TEXT, max_size=2).map(tuple),
    not_compiled=st.booleans(),
    compile_scope=st.sampled_from(["", "step", "module"]),
    params=st.dictionaries(TEXT, st.one_of(TEXT, st.booleans(), st.integers(-(2**53), 2**53), NUMBER), max_size=2),
    log=TEXT,
    environment=st.builds(Environment, torch=TEXT, cpu=TEXT, memory_bytes=st.integers(0, 2**62)),
    source=st.builds(
        Source, commit=TEXT, shard=st.sampled_from(["1-2", "2-2"]), time=st.just("2026-10-05T03:15:00+00:00")
    ),
)


@settings(max_examples=25)
@given(records=st.lists(RECORDS, min_size=1, max_size=4, unique_by=lambda record: record.key))
def test_a_run_comes_back_as_it_went_in(tmp_path_factory: pytest.TempPathFactory, records: list[Record]):
    """Every field of every record and build survives."""
    history = ParquetHistory(files=LocalFiles(root=tmp_path_factory.mktemp("history")))
    build = Build(environment=MACHINE, dynamo_flags={"verbose": True}, time="2026-10-05T03:15:00+00:00")
    run = make_run(Results(records=tuple(records), builds=(build,)), name="results", now=FIRST_DAY)
    history.add(run, Path())
    found = history.read_run(name="results", key=run.key)
    assert (found.key, found.time, found.results.builds) == (run.key, run.time, (build,))
    by_key = {record.key: record for record in records}
    assert {record.key: record for record in found.results.records} == by_key


def test_text_that_no_file_can_hold_is_replaced(history: ParquetHistory, tmp_path: Path):
    """Half a surrogate pair becomes a question mark, and an absurd number the largest there is."""
    odd = replace(performance(case("half \ud800")), batch_size=10**30)
    history.add(a_run(0, [odd]), tmp_path)
    (record,) = history.read_last(1, RunFilter()).runs[0].results.records
    assert (record.case.model, record.batch_size) == ("half ?", 2**63 - 1)


def count_rows(history: ParquetHistory) -> int:
    import pyarrow.parquet as pq

    paths = [part.path for _, parts in history.list_months() for part in parts]
    return sum(pq.read_metadata(path).num_rows for path in history.files.fetch(paths))


def rows_of(run: HistoryRun) -> int:
    return sum(1 + len(record.metrics) for record in run.results.records)


def part(run: str = "", *, runs: int = 1, time: str = "20261105T000000Z") -> Part:
    return Part(path=f"month/{run or f'compacted_{runs}'}", run=run, runs=runs, time=time if run else "")


def test_names_of_files_are_read_as_they_are_written():
    """A run's files have its time and key in their names, and a compacted file its number of runs."""
    paths = list(encode_run(a_run(0, both(case()), shard="1-2", attempt=3)))
    (one,) = (parse_part(*path.split("/")) for path in paths)
    assert one == Part(path=paths[0], time="20261005T031500Z", run="octo-project-1000")
    assert "_1-2_3_" in paths[0]
    compacted = parse_part("month=2026-10", name_compacted([one], 312))
    assert (compacted.is_compacted, compacted.runs) == (True, 312)
    assert parse_part("month=2026-10", "notes.parquet") is None


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (1, {"c", "c2", "compacted_7"}),
        (2, {"c", "c2", "b", "compacted_7"}),
        (3, {"c", "c2", "b", "a", "compacted_7", "compacted_5"}),
    ],
)
def test_only_the_newest_files_are_opened(wanted: int, chosen: set[str]):
    """Months are taken from the newest on, and one more for shards that began before midnight."""
    november = [part("b"), part("c", time="20261109T000000Z"), replace(part("c"), path="month/c2")]
    october = [part(runs=7), part("a")]
    september = [part(runs=5)]
    months = [("month=2026-11", november), ("month=2026-10", october), ("month=2026-09", september)]
    paths, is_all = choose_parts(iter(months), wanted)
    assert ({path.removeprefix("month/") for path in paths}, is_all) == (chosen, False)
    assert choose_parts(iter(months), 50)[1]
