"""`torchperf-ci merge`: what several runners left becomes one results folder, and what is missing is said."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.artifacts import record
from torchperf_ci.core.records import Build, Environment, Record, Source, Status, Testing, to_line
from torchperf_ci.core.results import open_folder, read_results
from torchperf_ci.shards.matrix import SuiteModel, make_filter

SHA = "a" * 40
Call = Callable[..., Any]


@pytest.fixture
def cli(in_process: Call, tmp_path: Path) -> Call:
    """The command line in an empty folder."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    return functools.partial(in_process, cwd=folder)


def shard(
    root: Path, name: str, *records: Record, commit: str = SHA, time: str = "2026-01-02T03:04:05Z", log: str = ""
) -> Path:
    """An artifact as it was downloaded; `log` is that of every record."""
    number, total, attempt = name.rsplit("-", 3)[1:]
    source = Source(commit=commit, run_id="7", shard=f"{number}-{total}", attempt=int(attempt), time=time)
    with open_folder(root / name) as folder:
        folder.append(Build(environment=Environment(cpu="x")))
        for made in records:
            metrics = {"speedup": 1.5} if made.testing is Testing.PERFORMANCE else {}
            folder.append(replace(made, source=source, metrics=metrics, log=log))
    return root / name


def both(model: str, **options) -> tuple[Record, Record]:
    return record(model, **options), record(model, testing=Testing.PERFORMANCE, **options)


def entry(name: str, shard: str, *models: str) -> dict[str, object]:
    return {
        "name": name,
        "shard": shard,
        "filter": " ".join(make_filter(SuiteModel("tiny", model)) for model in models),
    }


def matrix(*entries: dict[str, object]) -> str:
    return json.dumps({"include": entries})


def said(done: Any, start: str = "Warning: ") -> list[str]:
    return [line.removeprefix(start) for line in done.stderr.splitlines() if line.startswith(start)]


def held(folder: Path) -> Sequence[tuple[str, str]]:
    return [(each.case.model, each.status.value) for each in read_results(folder).records]


def test_the_newest_attempt_of_every_shard_counts(cli: Call, tmp_path: Path) -> None:
    """A shard that failed and was repeated leaves no trace of its first attempt but a report without it."""
    artifacts, out = tmp_path / "artifacts", tmp_path / "out"
    shard(artifacts, "torchperf-results-1-2-1", *both("mlp"))
    shard(artifacts, "torchperf-results-2-2-1", record("lstm", Status.CRASHED))
    shard(artifacts, "torchperf-results-2-2-2", *both("lstm"))
    done = cli("merge", str(artifacts), "--output-dir", str(out))
    assert (done.returncode, said(done)) == (0, [])
    assert held(out) == [("mlp", "pass"), ("mlp", "pass"), ("lstm", "pass"), ("lstm", "pass")]
    assert [each.source.attempt for each in read_results(out).records] == [1, 1, 2, 2]
    assert (out / "report.md").read_text().startswith("## ✅")


def test_a_missing_shard_is_named_and_fails(cli: Call, tmp_path: Path) -> None:
    """With exit code 4, after the report of what there is, which names it too."""
    artifacts, out = tmp_path / "artifacts", tmp_path / "out"
    shard(artifacts, "torchperf-results-1-3-1", *both("mlp"))
    shard(artifacts, "torchperf-results-3-3-1", *both("unet"))
    done = cli("merge", str(artifacts), "--output-dir", str(out))
    assert done.returncode == 4
    assert said(done) == ["results: shard 2 of 3: no attempt at it"]
    assert said(done, "Error: ") == ["results are missing; measure them and merge again, or use --allow-missing"]
    assert "results: shard 2 of 3: no attempt at it" in (out / "report.md").read_text()
    allowed = cli("merge", str(artifacts), "--output-dir", str(out), "--allow-missing")
    assert (allowed.returncode, said(allowed)) == (0, ["results: shard 2 of 3: no attempt at it"])


def test_a_matrix_is_held_to_its_word(cli: Call, tmp_path: Path) -> None:
    """Shards of runners that left nothing, the last shard, and models that are missing in a shard that is there."""
    artifacts = tmp_path / "artifacts"
    shard(artifacts, "torchperf-nightly-cpu-1-2-1", *both("mlp"))
    shard(artifacts, "torchperf-other-1-1-1", *both("unet"))
    plan = matrix(
        entry("nightly-cpu", "1-2", "mlp", "lstm"),
        entry("nightly-cpu", "2-2", "unet"),
        entry("nightly-cuda", "1-1", "mlp"),
    )
    done = cli("merge", str(artifacts), "--matrix", plan)
    assert done.returncode == 4
    assert said(done) == [
        "nightly-cpu: shard 2 of 2: no attempt at it",
        "nightly-cpu: shard 1 of 2: no result of tiny/lstm",
        "nightly-cuda: shard 1 of 1: no attempt at it",
        "torchperf-other-1-1-1 was not planned and is left out",
    ]


@pytest.mark.parametrize("text", ["[]", "{", '{"include": [{"name": "x"}]}', matrix(entry("x", "3-2")), "7"])
def test_what_is_no_matrix_is_refused(cli: Call, tmp_path: Path, text: str) -> None:
    """With exit code 2."""
    shard(tmp_path, "torchperf-results-1-1-1", *both("mlp"))
    done = cli("merge", str(tmp_path), "--matrix", text, "--output-dir", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "--matrix is not what `torchperf-ci plan` prints" in done.stderr


def test_what_is_there_twice_is_named_and_the_newest_counts(cli: Call, tmp_path: Path) -> None:
    """Within the shards of one run; equal copies of a shard do no harm."""
    artifacts, out = tmp_path / "artifacts", tmp_path / "out"
    shard(artifacts, "torchperf-results-1-2-1", *both("mlp"))
    shard(artifacts, "torchperf-results-2-2-1", record("mlp", Status.OOM), time="2026-01-02T04:00:00Z")
    shard(artifacts / "copy", "torchperf-results-1-2-1", *both("mlp"))
    done = cli("merge", str(artifacts), str(artifacts / "copy"), "--output-dir", str(out))
    assert done.returncode == 6
    assert said(done) == [
        "torchperf-results-1-2-1 and torchperf-results-1-2-1 are both attempt 1 at shard 1 of 2 of results, and equal",
        (
            "torchperf-results-1-2-1 and torchperf-results-2-2-1 both hold tiny/mlp inductor inference float32 cpu "
            "(accuracy); the newest counts"
        ),
    ]
    assert held(out) == [("mlp", "OOM"), ("mlp", "pass")]


def test_contradictions_are_named_all_at_once(cli: Call, tmp_path: Path) -> None:
    """Other commits, the same case from two kinds of runners, an attempt that is there twice and differs; nothing is
    written."""
    artifacts, out = tmp_path / "artifacts", tmp_path / "out"
    shard(artifacts, "torchperf-a-1-1-1", *both("mlp"))
    shard(artifacts, "torchperf-b-1-1-1", record("mlp"), commit="b" * 40)
    shard(artifacts / "copy", "torchperf-a-1-1-1", record("mlp", Status.OOM))
    done = cli("merge", str(artifacts), str(artifacts / "copy"), "--output-dir", str(out))
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "Error: the results contradict each other:",
        "torchperf-a-1-1-1 and torchperf-a-1-1-1 are both attempt 1 at shard 1 of 1 of a, and differ",
        "they are of different commits: torchperf-a-1-1-1 of aaaaaaaaaaaa, torchperf-b-1-1-1 of bbbbbbbbbbbb",
        (
            "both a and b hold tiny/mlp inductor inference float32 cpu (accuracy); merge them apart, each into "
            "a folder of its own"
        ),
    ]
    assert not out.exists()


def test_logs_come_along_and_nothing_else_does(cli: Call, tmp_path: Path) -> None:
    """A record cannot bring files from outside its logs."""
    artifacts, out = tmp_path / "artifacts", tmp_path / "out"
    made = shard(artifacts, "torchperf-results-1-2-1", record("mlp"), log="logs/mlp.log")
    (made / "logs").mkdir()
    (made / "logs" / "mlp.log").write_text("said")
    shard(artifacts, "torchperf-results-2-2-1", record("lstm"), log="logs/../../../secret.txt")
    (tmp_path / "secret.txt").write_text("secret")
    assert cli("merge", str(artifacts), "--output-dir", str(out)).returncode == 0
    assert [each.log for each in read_results(out).records] == ["logs/mlp.log", ""]
    assert [path.name for path in (out / "logs").iterdir()] == ["mlp.log"]
    assert (out / "logs" / "mlp.log").read_text() == "said"


def test_lines_that_cannot_be_read_are_named(cli: Call, tmp_path: Path) -> None:
    """And the others are used."""
    made = shard(tmp_path, "torchperf-results-1-1-1", *both("mlp"))
    with (made / "records.jsonl").open("a") as stream:
        stream.write("nonsense\n" + to_line(record("lstm")) + "\n")
    done = cli("merge", str(made))
    assert done.returncode == 4  # the last line has another source: no commit
    assert said(done) == [f"{made}/records.jsonl:4: not JSON: Expecting value: line 1 column 1 (char 0)"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "Missing argument 'DIR...'"),
        (("absent",), 2, "there is no folder absent"),
        (
            ("empty",),
            4,
            "there is neither records.jsonl nor a CSV file of results in empty",
        ),
        (("full", "--output-dir", "full"), 2, "full is one of the folders to merge; choose another with --output-dir"),
    ],
)
def test_bad_requests_are_refused(
    cli: Call, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """Before anything is written."""
    (tmp_path / "empty").mkdir()
    shard(tmp_path, "torchperf-results-1-1-1", *both("mlp")).rename(tmp_path / "full")
    done = cli("merge", *arguments, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_github_gets_outputs_and_a_summary(cli: Call, tmp_path: Path) -> None:
    """The exit code among them says that something is missing."""
    shard(tmp_path / "artifacts", "torchperf-nightly-1-2-1", *both("mlp"))
    outputs, summary = tmp_path / "outputs", tmp_path / "summary"
    env = {
        "GITHUB_OUTPUT": str(outputs),
        "GITHUB_STEP_SUMMARY": str(summary),
        "TORCHPERF_FOLDERS": str(tmp_path / "artifacts"),
        "TORCHPERF_NAME": "nightly",
    }
    assert cli("merge", "--github-files", env=env).returncode == 4
    lines = outputs.read_text().splitlines()
    found = {line.partition("<<")[0]: lines[at + 1] for at, line in enumerate(lines) if "<<" in line}
    assert found == {
        "results": "benchmark_logs",
        "artifact-name": "torchperf-merged-nightly",
        "passed": "1",
        "failed": "0",
        "missing": "1",
        "exit-code": "4",
    }
    assert "nightly: shard 2 of 2: no attempt at it" in summary.read_text()
