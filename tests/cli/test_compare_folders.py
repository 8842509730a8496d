"""`compare BASE_DIR HEAD_DIR`: two recorded runs, as a user types it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from torchperf_ci.records import Case, Environment, Mode, Record, Source, Status, Testing, to_line

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
    report = (tmp_path / "out/compare.md").read_text()
    assert "another moment, and maybe another machine, is part of every difference" in report
    assert json.loads((tmp_path / "out/compare.json").read_text())["comparisons"][0]["verdict"] == "regressed"


def test_other_machines_compare_by_speedup_alone(cli: Cli, tmp_path: Path) -> None:
    """The reason stands in the report, and twice the time is no regression."""
    elsewhere = Environment(cpu="Xeon", cpu_count=8, torch="2.13.0")
    base = write(tmp_path / "base", record("mlp", 2.0))
    slow = record("mlp", 2.0, metrics={"speedup": 2.0, "abs_latency": 8.0}, environment=elsewhere)
    head = write(tmp_path / "head", slow)
    done = cli("compare", base, head, "--output-dir", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "only speedups are compared, not times: CPU differs: AMD EPYC against Xeon" in done.stderr
    assert "Times are not compared." in (tmp_path / "out/compare.md").read_text()


def test_without_a_case_to_judge_the_exit_code_is_4(cli: Cli, tmp_path: Path) -> None:
    """New cases alone are no comparison."""
    base = write(tmp_path / "base", record("old", 2.0, status=Status.NOT_RUN))
    head = write(tmp_path / "head", record("mlp", 2.0), record("old", 2.0))
    done = cli("compare", base, head, "--output-dir", str(tmp_path / "out"))
    assert done.returncode == 4, done.stdout
    assert "1 new; 1 refused" in done.stdout


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
