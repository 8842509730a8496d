"""`compare BASE_DIR HEAD_DIR`: two recorded runs, as a user types it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.artifacts import records_file, zipped
from fakes.github_server import FakeGitHub
from step_outputs import read_outputs
from torchperf_ci.core.records import Case, Environment, Mode, Record, Source, Status, Testing, to_line

Cli = Callable[..., subprocess.CompletedProcess[str]]


def record(model: str, speedup: float, **rest: object) -> Record:
    case = Case(suite="tiny", model=model, mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")
    made = Record(
        case=case,
        testing=Testing.PERFORMANCE,
        status=Status.PASS,
        metrics={"speedup": speedup, "abs_latency": 4.0},
        environment=Environment(cpu="AMD EPYC", cpu_count=2, torch="2.13.0"),
        source=Source(time="2026-11-20T10:00:00+00:00"),
    )
    return replace(made, **rest)  # type: ignore[arg-type]  # fields of Record


def write(folder: Path, *records: Record) -> str:
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(to_line(item) + "\n" for item in records))
    return str(folder)


def test_a_speedup_that_was_lost_is_found(cli: Cli, tmp_path: Path) -> None:
    """With the words that another moment is part of the difference."""
    base = write(tmp_path / "base", record("mlp", 2.0), record("lstm", 1.5))
    head = write(tmp_path / "head", record("mlp", 1.4), record("lstm", 1.52))
    done = cli("compare", base, head, "--output-dir", str(tmp_path / "out"))
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("❌ 1 of 2 cases is slower: tiny/mlp inductor (speedup -30.0 %)")
    assert (tmp_path / "out/.gitignore").read_text() == "*\n"
    report = (tmp_path / "out/compare.md").read_text()
    assert "another moment, and maybe another machine, is part of every difference" in report
    written = json.loads((tmp_path / "out/compare.json").read_text())
    assert written["comparisons"][0]["verdict"] == "regressed"


def test_what_fails_in_both_runs_is_nobodys_change(cli: Cli, tmp_path: Path) -> None:
    """Every one of many broken models runs on neither side; results that are wrong in both are no pass."""
    broken = [record(f"b{i}", 0.0, status=Status.EAGER_FAIL_TO_RUN, reason="no x", metrics={}) for i in range(8)]
    wrong = [record("w", 2.0), record("w", 2.0, testing=Testing.ACCURACY, status=Status.FAIL_ACCURACY, metrics={})]
    base = write(tmp_path / "base", *broken, *wrong)
    head = write(tmp_path / "head", *broken, *wrong)
    done = cli("compare", base, head, "--output-dir", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("⚠️ 8 of 9 cases run on neither side; 1 case is wrong on both sides.\n")
    found = json.loads((tmp_path / "out/compare.json").read_text())["comparisons"]
    assert sum(c["fails_on_both"] for c in found) == 9
    assert "fails on both sides" in (tmp_path / "out/compare.md").read_text()


def test_other_machines_compare_by_speedup_alone(cli: Cli, tmp_path: Path) -> None:
    """The reason stands in the report, and twice the time is no regression."""
    elsewhere = Environment(cpu="Xeon", cpu_count=8, torch="2.13.0")
    base = write(tmp_path / "base", record("mlp", 2.0))
    slow = record("mlp", 2.0, metrics={"speedup": 2.0, "abs_latency": 8.0}, environment=elsewhere)
    head = write(tmp_path / "head", slow)
    done = cli("compare", base, head, "--output-dir", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "times are not compared: CPU differs: AMD EPYC against Xeon" in done.stderr
    assert "Times are not compared." in (tmp_path / "out/compare.md").read_text()
    quiet = cli("compare", base, head, "--output-dir", str(tmp_path / "out"), "--quiet")
    assert (quiet.stderr, quiet.stdout) == ("", done.stdout)


def test_other_numbers_of_threads_are_no_comparison(cli: Cli, tmp_path: Path) -> None:
    """A speedup depends on them: it is refused in yellow, with the way to compare."""
    one, four = (Environment(cpu="AMD EPYC", cpu_count=4, threads=number) for number in (1, 4))
    base = write(tmp_path / "base", record("mlp", 2.0, environment=one))
    head = write(tmp_path / "head", record("mlp", 1.0, environment=four))
    done = cli("compare", base, head, "--output-dir", str(tmp_path / "out"))
    assert done.returncode == 4, done.stderr
    assert done.stdout.startswith("⚠️ No case could be compared; 1 case is refused")
    assert "1 against 4 threads: measure both with the same --threads" in done.stdout


def test_without_a_case_to_judge_the_exit_code_is_4(cli: Cli, tmp_path: Path) -> None:
    """New cases alone are no comparison."""
    base = write(tmp_path / "base", record("old", 2.0, status=Status.NOT_RUN))
    head = write(tmp_path / "head", record("mlp", 2.0), record("old", 2.0))
    done = cli("compare", base, head, "--output-dir", str(tmp_path / "out"))
    assert done.returncode == 4, done.stdout
    assert done.stdout.startswith("⚠️ No case could be compared; 1 case is refused: tiny/old")


def test_base_comes_from_github(cli: Cli, tmp_path: Path) -> None:
    """The nearest measured commit before head's, and what it is stands in the report and in the step's outputs."""
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    with FakeGitHub() as server:
        base = server.commit({"a": b"1"}, branch="main")
        fork_point = server.commit({"a": b"2"}, branch="main", parents=[base])
        commit = server.commit({"a": b"3"}, branch="feature", parents=[fork_point])
        results = zipped({"records.jsonl": records_file(record("mlp", 2.0))})
        server.add_artifact(server.add_run(sha=base), "nightly", results)
        head = write(tmp_path / "head", record("mlp", 1.4, source=Source(commit=commit)))
        files = {"GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(summary)}
        arguments = ("--baseline-artifact", "nightly", "--baseline-branch", "main", "--github-files")
        out = ("--output-dir", str(tmp_path / "out"))
        done = cli("compare", head, *arguments, *out, env={**server.environ, **files})
        lost = cli("compare", head, *arguments, "--baseline-artifact", "other", *out, env={**server.environ, **files})
    assert done.returncode == 3, done.stderr
    assert f"Base is nightly of {base[:12]}, 1 commit before head's base" in done.stderr
    assert (lost.returncode, "no artifact other in org/project has not expired" in lost.stderr) == (4, True)
    written = (tmp_path / "out/compare.md").read_text()
    assert f"- Base: `nightly of {base[:12]}, 1 commit before head's base`" in written
    assert f"- Head: `{head}`, commit `{commit[:12]}`" in written
    assert summary.read_text().rstrip() == written.rstrip()
    assert read_outputs(outputs.read_text()) == {
        "results": str(tmp_path / "out"),
        "regressed": "1",
        "inconclusive": "0",
        "exit-code": "4",
    }


def test_head_is_held_against_the_history(cli: Cli, tmp_path: Path) -> None:
    """The band of the runs that `dashboard` kept, without head's own run; few runs are said to be few."""
    for day in range(12):
        kept = tmp_path / f"run{day}"
        time = f"2026-10-{day + 1:02}T03:00:00+00:00"
        write(kept, record("mlp", 2.0 + 0.02 * (day % 3), source=Source(run_id=str(day), time=time, branch="main")))
        added = cli("history", "import", str(kept), "--history", str(tmp_path / "history"))
        assert added.returncode == 0, added.stderr
    late = Source(run_id="99", time="2026-11-01T03:00:00+00:00")
    head = write(tmp_path / "head", record("mlp", 1.4, source=late), record("lstm", 1.5, source=late))
    arguments = ("compare", head, "--history", str(tmp_path / "history"), "--output-dir", str(tmp_path / "out"))
    done = cli(*arguments)
    assert done.returncode == 3, done.stderr
    said = done.stdout.splitlines()[0]
    assert said == "❌ 1 of 2 cases is slower: tiny/mlp inductor (speedup -30.7 %); 1 case has too little history."
    report = (tmp_path / "out/compare.md").read_text()
    assert f"- Base: `12 runs in {tmp_path}/history`" in report
    assert "| 0 comparable runs before this one, 10 are needed" in report
    assert "what the runs between 2026-10-01 and 2026-10-12 usually gave" in report
    assert "another moment, and maybe another machine of the same kind, is part of every difference" in report
    elsewhere = cli(*arguments, "--baseline-branch", "feature")
    assert elsewhere.returncode == 4
    assert "holds no runs named 'results' of the branch feature before it" in elsewhere.stderr
    two = cli(*arguments, "--baseline-artifact", "nightly")
    assert (two.returncode, "give one of them" in two.stderr) == (2, True)


def test_what_is_compared_is_never_written_over(cli: Cli, tmp_path: Path) -> None:
    """Results take hours, a comparison of them a moment."""
    base, head = (write(tmp_path / name, record("mlp", 2.0)) for name in ("base", "head"))
    done = cli("compare", base, head, "--output-dir", head)
    assert (done.returncode, "is one of the folders to compare" in done.stderr) == (2, True)
    assert (tmp_path / "head/records.jsonl").is_file()


def test_a_commit_is_needed_to_look_for_base(cli: Cli, tmp_path: Path) -> None:
    """Results from nowhere have no merge base."""
    head = write(tmp_path / "head", record("mlp", 1.4))
    done = cli("compare", head, "--baseline-artifact", "nightly", "--repo", "org/project", cwd=tmp_path)
    assert (done.returncode, "the results of head name no commit" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("folders", "code", "message"), [(1, 2, "BASE_DIR HEAD_DIR"), (2, 4, "holds no results"), (3, 2, "not 3")]
)
def test_wrong_folders_are_refused(cli: Cli, tmp_path: Path, folders: int, code: int, message: str) -> None:
    """Too few, too many, or empty ones."""
    names = [str(tmp_path / str(number)) for number in range(folders)]
    for name in names:
        Path(name).mkdir()
    done = cli("compare", *names)
    assert done.returncode == code
    assert message in done.stderr
