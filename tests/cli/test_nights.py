"""The gate over nights, by its commands: judge, measure again, keep, accept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dashboard_runs import results
from report_builders import accuracy, both, case, performance
from run_builders import FIRST_DAY, a_run
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Record, Status
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import CONFIRMATION, open_folder
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.runs import make_run
from torchperf_ci.history.storage import LocalFiles
from torchperf_ci.run.plan import write_case_list

SUITE = """
import torch
from torch import nn

def linear(batch_size):
    return nn.Linear(8, 8), (torch.randn(batch_size or 4, 8),)

MODELS = {"one": linear, "two": linear}
"""
QUICKLY = ("--inference", "--devices", "cpu", "--compilers", "eager", "-n", "10", "--warmup", "0", "-t", "1", "-q")


def night(speedup: float, *, fails: bool = False) -> list[Record]:
    """Two models: one of this speedup, and a steady one, which may fail."""
    steady = both(case("steady"), 1.5)
    if fails:
        steady[1] = performance(case("steady"), None, Status.CRASHED, reason="signal 11")
    return [*both(case("net"), speedup), *steady]


@pytest.fixture
def keep(dashboard: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Keep nights, numbered on from the last one, and show the last of them; return what the command said."""
    history = ParquetHistory(files=LocalFiles(root=tmp_path / "torchperf-history"))
    days = count()

    def call(*nights: Sequence[Record], arguments: Sequence[str] = ()) -> Any:
        for records in nights[:-1]:
            history.add(a_run(next(days), records), tmp_path)
        day = next(days)
        return dashboard(results(tmp_path / f"night{day}", day, nights[-1]), "--no-graphs", *arguments)

    return call


def test_a_fall_is_listed_at_once_and_open_until_it_is_back(keep: Callable[..., Any]) -> None:
    """From 1.58x to 1.007x: off in the first night, open with its own date ever after, and closed when it is back."""
    keep(*[night(1.58)] * 6)
    first = keep(night(1.007), arguments=("--fail-on", "new"))
    assert (first.returncode, "✅" in first.stdout) == (0, False)
    assert "worse in the newest run alone: tiny/net inductor: Absolute latency (ms) +56.9 %" in first.stdout
    second = keep(night(1.007), arguments=("--fail-on", "new"))
    assert second.returncode == 3
    since = "Performance speedup -36.3 % (1.58 → 1.007), since 2026-10-11 (050505050...060606060)"
    assert f"(6.329 → 9.93); {since}, 2 runs" in second.stdout
    later = keep(*[night(1.007)] * 11, arguments=("--last", "3", "--fail-on", "new"))
    assert later.returncode == 0
    assert f"{since}, 13 runs" in later.stdout
    assert "✅" not in later.stdout
    assert keep(night(1.58), arguments=("--fail-on", "open")).returncode == 3  # one good night may be chance
    back = keep(night(1.58), arguments=("--fail-on", "open"))
    assert back.returncode == 0
    assert "✅ float32: 2 cases passed; 1 case well again\n  well again: tiny/net inductor" in back.stdout


def test_a_failing_model_stands_beside_no_green_headline(keep: Callable[..., Any]) -> None:
    """Not in its first night, and not in one that did not try it."""
    keep(*[night(1.5)] * 5)
    failing = keep(night(1.5, fails=True), arguments=("--fail-on", "new"))
    assert (failing.returncode, "✅" in failing.stdout) == (3, False)
    others = keep(both(case("net"), 1.5), arguments=("--fail-on", "open"))
    assert others.returncode == 3
    headline = next(line for line in others.stdout.splitlines() if " float32: " in line)
    assert headline == "❌ float32: 1 case passed; 1 case failing that this run did not try"


def test_an_accepted_change_is_closed_until_it_gets_worse(
    keep: Callable[..., Any], in_process: Callable[..., Any], tmp_path: Path
) -> None:
    """`history accept` names what it accepts, a dry run accepts nothing, and a further fall is open again."""
    keep(*[night(1.5)] * 6, *[night(1.2)] * 2)
    accept = ("history", "accept", "tiny/net", "--reason", "safer <b>", "--by", "ana")
    dry = in_process(*accept, "--dry-run", cwd=tmp_path)
    assert "Would accept tiny/net inductor inference float32 cpu speedup: 1.5 → 1.2, since 2026-10-11" in dry.stdout
    assert not (tmp_path / "torchperf-history" / "acceptances").exists()
    other = in_process("history", "accept", "tiny/steady", "--reason", "x", cwd=tmp_path)
    assert other.returncode == 4
    assert "Open are: tiny/net inductor inference float32 cpu abs_latency" in other.stderr
    done = in_process(*accept, cwd=tmp_path)
    assert done.stdout.count("Accepted tiny/net inductor") == 2
    closed = keep(night(1.2), arguments=("--fail-on", "open"))
    assert closed.returncode == 0
    (newest,) = tmp_path.glob("night8/dashboard_float32.md")
    assert "by `ana`: `safer <b>`" in newest.read_text()
    again = keep(*[night(0.97)] * 2, arguments=("--fail-on", "new"))
    assert again.returncode == 3
    assert "(1.2 → 0.97), since 2026-10-14" in again.stdout


def test_what_was_measured_again_in_the_same_night_confirms_it(
    keep: Callable[..., Any], dashboard: Callable[..., Any], tmp_path: Path
) -> None:
    """--confirm names the cases and writes nothing else; a second result that is off opens the change that night, and
    one that is not says that it was chance. The history keeps both results."""
    keep(*[night(1.5)] * 6)
    folder = results(tmp_path / "tonight", 6, night(1.0))
    before = sorted(path.name for path in (tmp_path / folder).iterdir())
    outputs = {"GITHUB_OUTPUT": str(tmp_path / "output")}
    judged = dashboard(folder, "--confirm", "again.jsonl", "--github-files", env=outputs)
    assert judged.returncode == 0, judged.stderr
    assert judged.stdout == "tiny/net inductor inference float32 cpu: abs_latency, speedup\n"
    (line,) = (tmp_path / "again.jsonl").read_text().splitlines()
    assert json.loads(line)["model"] == "net"
    assert (tmp_path / "output").read_text().splitlines()[1] == "1"
    assert sorted(path.name for path in (tmp_path / folder).iterdir()) == before
    for second, code in ((1.49, 0), (1.01, 3)):
        (tmp_path / folder / CONFIRMATION / "records.jsonl").unlink(missing_ok=True)
        with open_folder(tmp_path / folder / CONFIRMATION) as opened:
            opened.append(*a_run(6, both(case("net"), second)).results.records)
        done = dashboard(folder, "--no-graphs", "--no-update-archive", "--fail-on", "new")
        assert (done.returncode, "worse" in done.stdout) == (code, bool(code)), done.stdout
    dashboard(folder, "--no-graphs")
    results(tmp_path / "after", 7, night(1.5))
    after = dashboard("after", "--no-graphs")
    assert "still open: tiny/net inductor: Absolute latency (ms) +" in after.stdout


def test_a_slow_benchmark_of_another_tool_is_open(
    dashboard: Callable[..., Any], in_process: Callable[..., Any], tmp_path: Path
) -> None:
    """Times that pytest-benchmark measured count like ours: three times longer is a change."""
    history = ParquetHistory(files=LocalFiles(root=tmp_path / "torchperf-history"))
    for day in range(8):
        seconds = 0.001 if day < 6 else 0.003
        stats = {"data": [seconds * (1 + n / 1000) for n in range(5)], "median": seconds, "rounds": 5}
        written = {
            "machine_info": {"node": "runner", "cpu": {"brand_raw": "EPYC", "count": 4}, "python_version": "3.11.7"},
            "commit_info": {"id": f"{day:02x}" * 20, "branch": "main", "time": f"2026-10-{5 + day:02d}T03:15:00+00:00"},
            "benchmarks": [{"name": "test_sort", "fullname": "test_a.py::test_sort", "params": None, "stats": stats}],
            "datetime": f"2026-10-{5 + day:02d}T03:15:00+00:00",
            "version": "4.0.0",
        }
        (tmp_path / f"{day}.json").write_text(json.dumps(written))
        made = in_process("ingest", "pytest-benchmark", f"{day}.json", "--output-dir", f"run{day}", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        results_of_day = read_folder(tmp_path / f"run{day}", CaseSelection())
        if day < 7:
            history.add(make_run(results_of_day, name="results", now=FIRST_DAY), tmp_path)
    done = dashboard("run7", "--no-graphs", "--fail-on", "new")
    assert done.returncode == 3
    assert "Absolute latency (ms) +200.0 % (1 → 3), since 2026-10-11" in done.stdout


def test_the_listed_cases_are_measured_again_and_no_others(in_process: Callable[..., Any], tmp_path: Path) -> None:
    """`run --cases-from` measures just these, into a folder inside of the first one, where a reader finds both."""
    (tmp_path / "small.py").write_text(SUITE)
    one, two = (case(model, "eager", suite="small") for model in ("one", "two"))
    (tmp_path / "again.jsonl").write_text(write_case_list([two]))
    with open_folder(tmp_path / "out") as opened:
        opened.append(*a_run(0, [accuracy(one), accuracy(two)]).results.records)
    options = ("run", "--suites", "small.py", *QUICKLY, "--no-performance", "--output-dir", "out/confirmation")
    done = in_process(*options, "--cases-from", "again.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    read = read_folder(tmp_path / "out", CaseSelection())
    assert [record.case for record in read.records] == [one, two]
    assert [record.case for record in read.confirmations] == [two]
    inner = read_folder(tmp_path / "out" / CONFIRMATION, CaseSelection())
    assert inner.builds[-1].narrowed_by == ("--cases-from",)
