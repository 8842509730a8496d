"""Results in other tools' formats, read back by those tools."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from pytest_benchmark.stats import Stats

from torchperf_ci.cli.files import write_output
from torchperf_ci.core.records import METRICS, Direction, Status
from torchperf_ci.formats.imports import export_records
from torchperf_ci.formats.model import ExportFormat, ImportFormat
from torchperf_ci.formats.openmetrics import as_openmetrics
from upload_builders import GOLDEN, accuracy, measured, record, write_results

RECORDS = (
    measured(),
    accuracy(),
    measured('=cmd|" /C calc"!A0\n{x="\\"}', "eager"),
    record("broken", status=Status.CRASHED, reason="signal 11"),
)


@pytest.mark.parametrize(
    ("form", "direction", "name"),
    [
        (ExportFormat.GITHUB_ACTION_BENCHMARK, Direction.HIGHER, "bigger_is_better.json"),
        (ExportFormat.GITHUB_ACTION_BENCHMARK, Direction.LOWER, "smaller_is_better.json"),
        (ExportFormat.BENCHER, Direction.LOWER, "bencher.json"),
        (ExportFormat.OPENMETRICS, Direction.LOWER, "openmetrics.txt"),
        (ExportFormat.CSV, Direction.LOWER, "tidy.csv"),
    ],
)
def test_a_text_format_in_whole(form, direction, name):
    """Units and directions are those of the metrics; raw times and intervals become ranges."""
    assert export_records(RECORDS, form, direction=direction).decode() == (GOLDEN / name).read_text()


def test_prometheus_reads_openmetrics():
    """Its parser finds every metric with its unit and every label as it was, and the failed record too."""
    families = {family.name: family for family in text_string_to_metric_families(as_openmetrics(RECORDS).decode())}
    latency = families["torchperf_abs_latency_seconds"]
    assert (latency.type, latency.unit) == ("gauge", "seconds")
    assert [sample.value for sample in latency.samples] == [0.0025, 0.0025]
    assert latency.samples[1].labels["model"] == RECORDS[2].case.model
    passes = {
        (s.labels["model"], s.labels["testing"]): (s.value, s.labels["status"])
        for s in families["torchperf_pass"].samples
    }
    assert passes["broken", "performance"] == (0, "crashed")
    assert passes["mlp", "accuracy"] == (1, "pass")
    assert families["torchperf_graph_breaks"].samples[0].value == 1


@given(st.text())
def test_any_name_survives_openmetrics(model):
    """A label's value is read back as it was written, whatever it holds."""
    named = replace(measured(), case=replace(measured().case, model=model))
    (first, *_) = text_string_to_metric_families(as_openmetrics([named]).decode())
    assert first.samples[0].labels["model"] == model.encode("utf-8", errors="replace").decode()


def test_every_unit_has_a_base_unit():
    """A metric with a new unit cannot be forgotten here."""
    everything = record(metrics=dict.fromkeys(METRICS, 1.0))
    assert len(list(text_string_to_metric_families(as_openmetrics([everything]).decode()))) == len(METRICS) + 1


@given(st.lists(st.floats(min_value=1e-9, max_value=1e3), min_size=1, max_size=40))
def test_statistics_are_those_of_pytest_benchmark(times):
    """Every statistic of the export is what pytest-benchmark itself computes of the same rounds."""
    theirs = Stats()
    for time in times:
        theirs.update(time)
    exported = json.loads(export_records([measured(samples={"compiled": tuple(times)})], ExportFormat.PYTEST_BENCHMARK))
    ours = exported["benchmarks"][0]["stats"]
    exact = {"rounds", "data", "iterations", "min", "max"}
    counts = {"outliers", "iqr_outliers", "stddev_outliers", "ld15iqr", "hd15iqr"}  # differ by rounding at the fences
    assert ours.keys() == {*Stats.fields, "data", "iterations"}
    assert (ours["data"], ours["iterations"], ours["rounds"]) == (times, 1, len(times))
    for name in ours.keys() - exact - counts:
        assert ours[name] == pytest.approx(getattr(theirs, name), rel=1e-9, abs=1e-12)


def test_outliers_are_counted_as_pytest_benchmark_does():
    """Rounds beyond a standard deviation, and beyond the fences of Tukey."""
    times = (1.0, 1.1, 1.2, 1.3, 1.4, 9.0)
    theirs = Stats()
    for time in times:
        theirs.update(time)
    exported = json.loads(export_records([measured(samples={"compiled": times})], ExportFormat.PYTEST_BENCHMARK))
    ours = exported["benchmarks"][0]["stats"]
    assert {name: ours[name] for name in ("outliers", "ld15iqr", "hd15iqr")} == {
        "outliers": theirs.outliers,
        "ld15iqr": theirs.ld15iqr,
        "hd15iqr": theirs.hd15iqr,
    }


def compare(folder, *arguments):
    command = [sys.executable, "-m", "pytest_benchmark", "compare", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, env=os.environ).stdout


def test_pytest_benchmark_compares_exports(torchperf, tmp_path):
    """Its command line reads two exports and puts the same benchmark of both side by side."""
    slower = {"compiled": (0.002, 0.004, 0.006, 0.008)}
    for name, records in (("base", RECORDS), ("head", (measured(samples=slower),))):
        folder = write_results(tmp_path / name, *records)
        out = tmp_path / f"{name}.json"
        done = torchperf("export", folder, "--format", "pytest-benchmark", "--out", out)
        assert done.code == 0
    seen = compare(
        tmp_path, "base.json", "head.json", "--csv=seen.csv", "--group-by=fullname", "--columns=median,rounds"
    )
    assert "benchmark 'tiny::mlp[inductor-inference-float32-cuda]': 2 tests" in seen
    rows = list(csv.DictReader(io.StringIO((tmp_path / "seen.csv").read_text())))
    medians = [row["median"] for row in rows if row["name"].startswith("tiny::mlp")]
    assert sorted(map(float, medians)) == [0.0025, 0.005]
    by_compiler = compare(tmp_path, "base.json", "--group-by=param:compiler")
    assert "benchmark 'compiler=inductor': 1 tests" in by_compiler


def test_a_latency_without_raw_times_is_a_median_alone():
    """Results that were recorded without samples have no rounds and no spread, and none are made up."""
    exported = json.loads(export_records([record(metrics={"abs_latency": 4.0})], ExportFormat.PYTEST_BENCHMARK))
    stats = exported["benchmarks"][0]["stats"]
    assert stats == {"median": 0.004}


def test_csv_is_tidy_and_harmless():
    """A line per value with the columns' meaning fixed; a record without numbers has one too; no cell is a formula."""
    text = export_records(RECORDS, ExportFormat.CSV).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert text.count("\n") == len(rows) + 1
    assert [row["metric"] for row in rows if row["model"] == "mlp" and row["testing"] == "accuracy"] == [""]
    (broken,) = (row for row in rows if row["model"] == "broken")
    assert (broken["status"], broken["reason"], broken["value"]) == ("crashed", "signal 11", "")
    memory = next(row for row in rows if row["metric"] == "eager_peak_mem")
    assert (memory["value"], memory["unit"], memory["direction"]) == ("2000000000.0", "bytes", "lower")
    assert not any(cell.startswith("=") for row in rows for cell in row.values())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_in_a_line(tmp_path):
    """It is no error of this program, and has no traceback."""
    folder = write_results(tmp_path / "out", *RECORDS)
    command = [sys.executable, "-m", "torchperf_ci", "export", str(folder), "--format", "csv"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_parquet_is_read_by_duckdb(torchperf, tmp_path):
    """Types are those of the values, and text stays as it was."""
    folder = write_results(tmp_path / "out", *RECORDS, record("\ud800", status=Status.OOM))
    table = tmp_path / "table.parquet"
    assert torchperf("export", folder, "--format", "parquet", "--out", table).code == 0
    query = "select compiler, value, batch_size from read_parquet(?) where metric = 'speedup' order by compiler"
    with duckdb.connect() as connection:
        assert connection.execute(query, [str(table)]).fetchall() == [("eager", 1.5, 8), ("inductor", 1.5, 8)]
        (models,) = zip(
            *connection.execute("select distinct model from read_parquet(?)", [str(table)]).fetchall(), strict=True
        )
    assert set(models) == {"mlp", "broken", RECORDS[2].case.model, "?"}


def test_nothing_measured_is_still_a_file_of_the_format():
    """Without a number every format is empty, and valid."""
    failed = [record(status=Status.OOM)]
    assert json.loads(export_records(failed, ExportFormat.GITHUB_ACTION_BENCHMARK)) == []
    assert json.loads(export_records(failed, ExportFormat.BENCHER)) == {}
    assert json.loads(export_records(failed, ExportFormat.PYTEST_BENCHMARK))["benchmarks"] == []
    assert [family.name for family in text_string_to_metric_families(as_openmetrics(failed).decode())] == [
        "torchperf_pass"
    ]


def test_standard_output_holds_the_export_alone(torchperf, tmp_path):
    """What did not pass is named beside it, with its status and reason."""
    folder = write_results(tmp_path / "out", *RECORDS)
    done = torchperf("export", folder, "--format", "bencher")
    assert (done.code, done.out) == (0, (GOLDEN / "bencher.json").read_text())
    head, failure = done.err.splitlines()
    assert head.startswith("1 result did not pass")
    assert failure == "  tiny/broken inductor inference float32 cuda, performance: crashed (signal 11)"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("{out}", "--format", "github-action-benchmark"), 2, "--better bigger for speedups, or --better smaller"),
        (("{out}", "--format", "csv", "--better", "bigger"), 2, "belongs to --format github-action-benchmark"),
        (("{out}", "--format", "parquet"), 2, "name a file with --out"),
        (("{out}", "--format", "bensher"), 2, "Did you mean bencher?"),
        (("{out}", "--format", "csv", "--out", "{empty}/no/x.csv"), 2, "cannot be written (No such file or directory)"),
        (("{out}", "--format", "csv", "--out", "{empty}"), 2, "is a directory"),
        (("{out}", "--format", "csv", "--out", ""), 2, "give the name of a file"),
        (("{empty}", "--format", "csv"), 4, "there are no results in"),
        (("{empty}/no", "--format", "csv"), 2, "does not exist"),
    ],
)
def test_wrong_usage_is_said(torchperf, tmp_path, arguments, code, said):
    """The message tells what to do, and nothing is written."""
    places = {"out": write_results(tmp_path / "out", measured()), "empty": tmp_path / "empty"}
    places["empty"].mkdir()
    done = torchperf("export", *(argument.format(**places) for argument in arguments))
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_lines_that_cannot_be_read_are_said(torchperf, tmp_path):
    """A broken line is left out with a warning that names it."""
    folder = write_results(tmp_path / "out", measured())
    with (folder / "records.jsonl").open("a") as stream:
        stream.write("oops\n")
    done = torchperf("export", folder, "--format", "csv")
    assert done.code == 0
    assert f"{folder}/records.jsonl:2: not JSON" in done.err


def test_many_failures_are_counted(torchperf, tmp_path):
    """Ten are named, and the file's own line says how much of the results it holds."""
    failed = [record(f"m{number}", status=Status.OOM, reason="a\nb") for number in range(13)]
    folder = write_results(tmp_path / "out", measured(), *failed)
    for form, held in (("bencher", "1 of 14 results"), ("csv", "14 of 14 results")):
        out = tmp_path / form
        done = torchperf("export", folder, "--format", form, "--out", out)
        lines = done.err.splitlines()
        assert (done.code, lines[0].startswith("13 results did not pass"), len(lines)) == (0, True, 13)
        assert (lines[10].endswith("OOM (a b)"), lines[11:]) == (True, ["  and 3 more", f"Wrote {out}: {held}"])


def test_the_docs_name_every_format_and_its_directions():
    """The table of formats says of each what writes and what reads it, and shows a command for both."""
    docs = (Path(__file__).parents[2] / "docs/upload.md").read_text()
    tables = docs.partition("## Formats")[2].partition("## Export")[0].split("One command")
    directions, examples = (
        {
            name.strip(" `"): [cell.strip() for cell in line.strip("|").split("|")]
            for line in table.splitlines()
            if line.startswith("| `")
            for name in line.split("|")[1].split(",")
        }
        for table in tables
    )
    assert {name for name, cells in directions.items() if "`export`" in cells[2]} == set(map(str, ExportFormat))
    assert directions.keys() == set(map(str, ImportFormat))
    assert all("`ingest`" in cells[3] and "`history import`" in cells[3] for cells in directions.values())
    for form in ExportFormat:
        assert f"torchperf-ci export out --format {form} " in examples[form][1]
    for form in ImportFormat:
        assert re.search(rf"torchperf-ci (ingest {form}|history import) ", examples[form][2])


def test_a_terminal_is_shown_control_characters_and_a_pipe_gets_them(monkeypatch, capsysbinary):
    """As the label of a benchmark of another tool may hold them."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write_output(None, b"a\x1b[2Jb\n")
    assert capsysbinary.readouterr().out == "a\N{REPLACEMENT CHARACTER}[2Jb\n".encode()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    write_output(None, b"a\x1b[2Jb\n")
    assert capsysbinary.readouterr().out == b"a\x1b[2Jb\n"
