"""Folders with lookup.csv: archives that PyTorch's dashboard made are read, and ours can be read by it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from report_builders import both, case
from run_builders import a_run
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Testing
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import open_folder
from torchperf_ci.history.archive import ArchiveHistory
from torchperf_ci.history.runs import HistoryRun, RunFilter
from torchperf_ci.report.gh_parts import case_csvs

FLOAT32 = RunFilter(selection=CaseSelection(dtypes=("float32",)))


def archive(root: Path, name: str = "") -> ArchiveHistory:
    return ArchiveHistory(root=root, read=read_folder, archive_name=name)


def results_folder(path: Path, run: HistoryRun, *, records: bool = True) -> Path:
    with open_folder(path) as folder:
        if records:
            folder.append(*run.results.records)
        for name, text in case_csvs(run.results.records):
            folder.write_text(name, text)
    return path


def pytorch_archive(root: Path, *names: str) -> Path:
    """An archive as PyTorch's scripts leave it: the speedup tells the folders apart."""
    root.mkdir()
    lines = []
    for number, name in enumerate(names):
        (root / name).mkdir()
        for testing, columns, values in (
            (
                "performance",
                "dev,name,batch_size,speedup,abs_latency,compilation_latency,compression_ratio",
                f"cuda,BERT,8,{1 + number},2.0,30.0,0.9",
            ),
            ("accuracy", "dev,name,batch_size,accuracy", "cuda,BERT,8,pass"),
        ):
            file = root / name / f"inductor_huggingface_float32_training_cuda_{testing}.csv"
            file.write_text(f"{columns}\n{values}\n")
        lines.append(f"{name.split('_')[1]},performance,float32,{name}\n")
    (root / "lookup.csv").write_text("".join(lines))
    return root


def speedups(run: HistoryRun) -> list[float]:
    return [r.metrics["speedup"] for r in run.results.records if r.testing is Testing.PERFORMANCE]


def test_an_archive_of_pytorch_is_read(tmp_path: Path):
    """Runs come by the date in their folders' names, which has the year, and on one day in the order of the index."""
    root = pytorch_archive(
        tmp_path / "archive",
        "day_002_02_01_23_performance_float32_101",
        "day_360_26_12_22_performance_float32_555",
        "day_002_02_01_23_performance_float32_100",
    )
    found = archive(root).read_last(10, FLOAT32)
    assert [(run.time.date(), speedups(run)) for run in found.runs] == [
        (date(2022, 12, 26), [2.0]),
        (date(2023, 1, 2), [1.0]),
        (date(2023, 1, 2), [3.0]),
    ]
    assert [speedups(run) for run in archive(root).read_last(2, FLOAT32).runs] == [[1.0], [3.0]]
    assert archive(root).read_last(10, RunFilter(selection=CaseSelection(dtypes=("amp",)))).runs == ()


def test_a_folder_without_a_date_has_the_year_it_was_written(tmp_path: Path):
    """Where the folder's name has no date, the day of the index is one of the year of the folder's last change."""
    root = pytorch_archive(tmp_path / "archive", "nightly_17_run")
    os.utime(root / "nightly_17_run", (1_700_000_000, 1_700_000_000))
    (run,) = archive(root).read_last(1, FLOAT32).runs
    assert run.time.date() == date(2023, 1, 17)


def test_folders_without_dates_keep_the_order_of_the_index_over_a_new_year(tmp_path: Path):
    """Nothing but the order tells that day 3 came after day 360, and nothing is lost of a day 0."""
    names = ("run_350_a", "run_360_b", "run_000_c", "run_003_d", "run_003_e", "run_100_f", "run_000_g", "run_090_h")
    root = pytorch_archive(tmp_path / "archive", *names)
    for name in names:  # as a checkout leaves them
        os.utime(root / name, (1_700_000_000, 1_700_000_000))
    found = archive(root).read_last(20, FLOAT32)
    assert found.problems == ()
    assert [run.key for run in found.runs] == list(names)
    assert [run.time for run in found.runs] == sorted({run.time for run in found.runs})
    assert [run.time.date() for run in found.runs] == [
        *(date(2021, 12, 16), date(2021, 12, 26), date(2022, 1, 3), date(2022, 1, 3), date(2022, 1, 3)),
        *(date(2022, 4, 10), date(2023, 3, 31), date(2023, 3, 31)),
    ]


def test_an_undated_folder_stands_between_its_dated_neighbours(tmp_path: Path):
    """It is from no day before the line above."""
    names = ("day_152_01_06_23_performance_float32_100", "mine_100", "day_182_01_07_23_performance_float32_101")
    root = pytorch_archive(tmp_path / "archive", *names)
    assert [run.key for run in archive(root).read_last(9, FLOAT32).runs] == list(names)


def test_every_file_of_an_archived_folder_counts_whatever_the_index_calls_its_precision(tmp_path: Path):
    """The index knows one word for a folder; the files say what they hold."""
    name = "day_002_02_01_23_performance_amp_101"
    root = pytorch_archive(tmp_path / "archive", name)
    for file in list((root / name).iterdir()):
        file.rename(file.with_name(file.name.replace("float32", "amp_bf16")))
    entries, _ = archive(root).list_entries()
    run, problems = archive(root).read_run(entries[0], CaseSelection(), name="x")
    assert problems == []
    assert {record.case.dtype for record in run.results.records} == {"amp_bf16"}


def test_lines_that_cannot_be_used_are_named(tmp_path: Path):
    """A bad line of the index, or one whose folder is gone, is a problem with its number; the others count."""
    root = pytorch_archive(tmp_path / "archive", "day_002_02_01_23_performance_float32_101")
    with (root / "lookup.csv").open("a") as index:
        index.write("\nnonsense\n2,performance,float32,../../etc\n400,performance,float32,x\n2,accuracy,float32,y\n")
        index.write("5,performance,float32,day_005_05_01_23_performance_float32_200\n")
    found = archive(root).read_last(10, FLOAT32)
    assert [run.key for run in found.runs] == ["day_002_02_01_23_performance_float32_101"]
    assert [str(problem) for problem in found.problems] == [
        "lookup.csv:3: has 1 columns, expected day,mode,precision,folder; the line was left out",
        f"lookup.csv:4: the folder '../../etc' is not below {root}; the line was left out",
        "lookup.csv:5: the day is '400', expected 0 to 366; the line was left out",
        "lookup.csv:7: names the folder day_005_05_01_23_performance_float32_200, which is not there",
    ]


def test_a_run_is_added_as_pytorch_would(tmp_path: Path):
    """The folder is copied under a name by the pattern, and the index gets a line that PyTorch's scripts read."""
    run = a_run(0)
    folder = results_folder(tmp_path / "out", run)
    root = tmp_path / "archive"
    root.mkdir()
    (root / "lookup.csv").write_text("1,performance,float32,older")  # without a line end, as an editor may leave it
    added = archive(root).add(run, folder)
    before, line = (root / "lookup.csv").read_text().splitlines()
    assert before == "1,performance,float32,older"
    name = re.fullmatch(r"278,performance,float32,(day_278_05_10_26_performance_float32_\d{3})", line)
    assert name
    assert set(added.sizes) == {name[1], "lookup.csv"}
    assert (root / name[1] / "inductor_tiny_float32_inference_cpu_accuracy.csv").is_file()
    (found,) = archive(root).read_last(1, FLOAT32).runs
    assert (found.key, found.time, found.results.records) == (run.key, run.time, run.results.records)


def test_a_run_is_added_once(tmp_path: Path):
    """The same results are not archived again, with our records in the folder and without."""
    run = a_run(0)
    for records in (True, False):
        folder = results_folder(tmp_path / f"out{records}", run, records=records)
        root = tmp_path / f"archive{records}"
        assert archive(root).add(run, folder).sizes
        (folder / "report.md").write_text("made later")
        assert archive(root).add(run, folder).sizes == {}
        assert len((root / "lookup.csv").read_text().splitlines()) == 1


def test_attempts_are_one_run(tmp_path: Path):
    """A later attempt at a run is archived beside the first, and counts in its place."""
    root = tmp_path / "archive"
    for attempt in (1, 2):
        run = a_run(0, both(case(), float(attempt)), attempt=attempt)
        archive(root).add(run, results_folder(tmp_path / str(attempt), run))
    (run,) = archive(root).read_last(10, FLOAT32).runs
    assert speedups(run) == [2.0]


def test_several_dtypes_share_a_folder(tmp_path: Path):
    """A folder with several dtypes has a line for each; each is found with its own results."""
    run = a_run(0, [*both(case(), 1.0), *both(case(dtype="amp"), 3.0)])
    root = tmp_path / "archive"
    archive(root, "both").add(run, results_folder(tmp_path / "out", run))
    assert (root / "lookup.csv").read_text() == "278,performance,float32,both\n278,performance,amp,both\n"
    assert speedups(archive(root).read_last(1, FLOAT32).runs[0]) == [1.0]
    assert speedups(archive(root).read_last(1, RunFilter()).runs[0]) == [1.0, 3.0]


def test_an_archive_name_is_checked(tmp_path: Path):
    """A name that leads elsewhere, or is taken, is refused before anything is written."""
    folder = results_folder(tmp_path / "out", a_run(0))
    with pytest.raises(UsageProblem, match=r"--archive-name '\.\./x'"):
        archive(tmp_path / "archive", "../x").add(a_run(0), folder)
    assert not (tmp_path / "archive").exists()
    archive(tmp_path / "archive", "mine").add(a_run(0), folder)
    other = a_run(1)
    with pytest.raises(UsageProblem, match="has a folder mine already"):
        archive(tmp_path / "archive", "mine").add(other, results_folder(tmp_path / "out2", other))
    assert sorted(path.name for path in (tmp_path / "archive").iterdir()) == ["lookup.csv", "mine"]


def test_symbolic_links_are_left_behind(tmp_path: Path):
    """What a link in a results folder points to does not get into the archive."""
    run = a_run(0)
    folder = results_folder(tmp_path / "out", run)
    (tmp_path / "secret").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret")
    archive(tmp_path / "archive", "mine").add(run, folder)
    assert not (tmp_path / "archive" / "mine" / "link.txt").exists()


def test_processes_append_at_the_same_time(tmp_path: Path):
    """Processes that add to one archive at once each leave their folders and whole lines."""
    script = (
        "import sys; from pathlib import Path; from run_builders import a_run\n"
        "from test_archive import archive, results_folder\n"
        "for day in range(int(sys.argv[2]), int(sys.argv[2]) + 8):\n"
        "    root, run = Path(sys.argv[1]), a_run(day)\n"
        "    archive(root / 'archive').add(run, results_folder(root / f'out{day}', run))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent), *sys.path])
    running = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path, first], env={**os.environ, "PYTHONPATH": path})
        for first in ("0", "8")
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    found = archive(tmp_path / "archive").read_last(20, FLOAT32)
    assert [run.key for run in found.runs] == [f"octo/project/{1000 + day}" for day in range(16)]
    assert found.problems == ()
