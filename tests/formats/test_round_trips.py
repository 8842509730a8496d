"""What is exported, read back by our own readers."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchperf_ci.core.records import (
    METRICS,
    Case,
    Direction,
    Environment,
    Mode,
    Record,
    Source,
    Status,
    Testing,
    from_line,
    own_metric,
    to_line,
)
from torchperf_ci.core.results import Results, read_results
from torchperf_ci.formats.imports import detect, export_records, read_content, runs_of
from torchperf_ci.formats.model import ExportFormat, ImportFormat, ImportRequest, case_of_name, name_of_case
from torchperf_ci.history.runs import make_run
from torchperf_ci.pytorch.hud import Identity, compress, lines_of, rows_of
from upload_builders import write_results

SOURCE = Source(repository="o/r", commit="c" * 40, branch="main", run_id="7", time="2026-03-01T12:00:00+00:00")
ENVIRONMENT = Environment(host="box", cpu="A CPU", cpu_count=8, torch="2.13.0")
REQUEST = ImportRequest(source=SOURCE)

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12)
NUMBERS = st.floats(min_value=1e-9, max_value=1e9)
CASES = st.builds(
    Case,
    suite=WORDS.filter(str.strip),
    model=WORDS.filter(lambda text: text == text.strip()),
    mode=st.sampled_from(Mode),
    device=st.sampled_from(["cpu", "cuda:1", "a b"]),
    dtype=st.sampled_from(["float32", "amp_bf16"]),
    compiler=st.sampled_from(["eager", "inductor", "my compiler"]),
)
OWN = [own_metric("tokens", unit="tokens/s", direction=Direction.HIGHER), own_metric("odd one", unit="")]


@st.composite
def recorded(draw: st.DrawFn) -> list[Record]:
    """Passing performance records with any of our metrics, of their own ones, and with raw times or without."""
    records = []
    for case in draw(st.lists(CASES, min_size=1, max_size=3, unique=True)):
        own = draw(st.lists(st.sampled_from(OWN), unique=True))
        metrics = {name: draw(NUMBERS) for name in draw(st.sets(st.sampled_from(["speedup", "dynamo_peak_mem"])))}
        times = draw(st.lists(st.floats(1e-6, 10), max_size=4))
        records.append(
            Record(
                case=case,
                testing=Testing.PERFORMANCE,
                status=Status.PASS,
                metrics={"abs_latency": draw(NUMBERS), **metrics, **{metric.name: draw(NUMBERS) for metric in own}},
                samples={"compiled": tuple(times)} if times else {},
                own_metrics={metric.name: metric for metric in own},
                environment=ENVIRONMENT,
                source=SOURCE,
            )
        )
    return records


def read(content: bytes, form: ImportFormat, **rest) -> dict[Case, Record]:
    assert detect(content, file="f") is form
    imported = read_content(content, "f", replace(REQUEST, form=form, **rest))
    assert imported.left_out == ()
    return {record.case: record for record in imported.records}


def values_of(record: Record) -> dict[tuple[str, str, str], float]:
    return {(m.name, m.unit, m.direction.value): record.metrics[m.name] for m in record.defined_metrics()}


def assert_same(read_back: dict[Case, Record], records: list[Record], *, only: Direction | None = None) -> None:
    for record in records:
        wanted = {key: value for key, value in values_of(record).items() if only is None or key[2] == only.value}
        if wanted:
            assert values_of(read_back[record.case]) == pytest.approx(wanted, rel=1e-12)


@settings(max_examples=40)
@given(recorded())
def test_every_export_is_read_back_with_the_same_cases_and_values(records) -> None:
    """Whatever names hold: cases, numbers, units and directions are those that were written."""
    assert_same(read(export_records(records, ExportFormat.CSV), ImportFormat.CSV), records)
    assert_same(read(export_records(records, ExportFormat.OPENMETRICS), ImportFormat.OPENMETRICS), records)
    rows = rows_of(Results(records=tuple(records)), Identity(now=0), gpus=None)
    imported = read_content(compress(lines_of(rows)), "f", REQUEST)
    assert_same({record.case: record for record in imported.records}, records)
    for direction, tool in ((Direction.HIGHER, "customBiggerIsBetter"), (Direction.LOWER, "customSmallerIsBetter")):
        content = export_records(records, ExportFormat.GITHUB_ACTION_BENCHMARK, direction=direction)
        assert_same(read(content, ImportFormat.GITHUB_ACTION_BENCHMARK, tool=tool), records, only=direction)
    bmf = read(export_records(records, ExportFormat.BENCHER), ImportFormat.BENCHER)
    assert {case: dict(record.metrics) for case, record in bmf.items()} == {
        record.case: pytest.approx(record.metrics) for record in records
    }


def test_parameters_survive_a_dashboard() -> None:
    """What another tool calls so, and is no mapping of plain values, is left."""
    case = Case(
        suite="ops", model="matmul[n=128]", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor"
    )
    record = Record(
        case=case,
        testing=Testing.PERFORMANCE,
        status=Status.PASS,
        metrics={"abs_latency": 1.0},
        params={"n": 128, "exact": True},
        environment=ENVIRONMENT,
        source=SOURCE,
    )
    lines = lines_of(rows_of(Results(records=(record,)), Identity(now=0), gpus=None))
    (back,) = read_content(compress(lines), "f", REQUEST).records
    assert back.params == record.params
    for foreign in ("not JSON", "[1]", '{"n": [1]}'):
        rows = json.loads(json.dumps(list(rows_of(Results(records=(record,)), Identity(now=0), gpus=None))))
        for row in rows:
            row["benchmark"]["extra_info"]["params"] = foreign
        (back,) = read_content(compress(lines_of(rows)), "f", REQUEST).records
        assert back.params == {}


@settings(max_examples=40)
@given(recorded())
def test_pytest_benchmarks_file_keeps_the_rounds(records) -> None:
    """The same rounds, and no statistics where there were none: a record without raw times stays without."""
    content = export_records(records, ExportFormat.PYTEST_BENCHMARK)
    back = read(content, ImportFormat.PYTEST_BENCHMARK)
    assert {case: record.samples for case, record in back.items()} == {r.case: r.samples for r in records}
    assert_same(back, records)
    for benchmark, record in zip(json.loads(content)["benchmarks"], records, strict=True):
        rounds = len(record.samples.get("compiled", ()))
        assert benchmark["stats"].get("rounds") == (rounds or None)
        assert ("stddev" in benchmark["stats"]) == (rounds > 0)


def test_parquet_is_read_back() -> None:
    """The table of our own export, a failure included."""
    good = Record(
        case=Case(suite="s", model="m", mode=Mode.TRAINING, device="cpu", dtype="float32", compiler="inductor"),
        testing=Testing.PERFORMANCE,
        status=Status.PASS,
        batch_size=4,
        metrics={"speedup": 1.5, "tokens": 3.0},
        counters={"graph_breaks": 2},
        own_metrics={"tokens": OWN[0]},
        environment=Environment(host="box", cpu="A CPU"),
        source=SOURCE,
    )
    bad = Record(case=good.case, testing=Testing.ACCURACY, status=Status.CRASHED, reason="boom", source=SOURCE)
    content = export_records([good, bad], ExportFormat.PARQUET)
    imported = read_content(content, "f", ImportRequest(source=Source()))
    assert imported.records == (good, bad)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_run_of_no_workflow_is_read_back_as_one_run(torchperf, tmp_path, form) -> None:
    """Records of different times all come back, and the history knows the run by the name that it has already."""
    sources = [Source(time=f"2026-03-01T12:00:{second:02d}+00:00") for second in range(3)]
    cases = [
        Case(suite="s", model=name, mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="none")
        for name in "abc"
    ]
    write_results(
        tmp_path / "out",
        *(
            Record(case=case, testing=Testing.ACCURACY, status=Status.PASS, environment=ENVIRONMENT, source=source)
            for case, source in zip(cases, sources, strict=True)
        ),
    )
    table, back = tmp_path / f"table.{form}", tmp_path / "back"
    assert torchperf("export", tmp_path / "out", "--format", form, "--out", table).code == 0
    done = torchperf("ingest", form, table, "--output-dir", back)
    assert (done.code, "3 results" in done.out) == (0, True)
    assert [(record.case, record.source.time) for record in read_results(back).records] == [
        (case, source.time) for case, source in zip(cases, sources, strict=True)
    ]
    imported = read_content(table.read_bytes(), table.name, ImportRequest(source=Source()))
    (run,), left_out = runs_of(imported, name="results")
    assert left_out == []
    assert run.key == make_run(read_results(tmp_path / "out"), name="results", now=run.time).key


@given(st.builds(Case, suite=TEXTS, model=TEXTS, mode=st.sampled_from(Mode), device=TEXTS, dtype=TEXTS, compiler=TEXTS))
def test_a_case_is_read_back_from_its_name(case) -> None:
    """Line ends, slashes and spaces in any part are no trouble."""
    name = name_of_case(case)
    assert "\n" not in name
    assert case_of_name(name) == case


@given(st.text(), st.text(), st.sampled_from(Direction), st.floats(allow_nan=False, allow_infinity=False))
def test_metrics_of_other_tools_are_kept_in_records(name, unit, direction, value) -> None:
    """A line of records.jsonl holds unit and direction of what is no metric of ours."""
    record = Record(
        case=Case(suite="s", model="m", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="eager"),
        testing=Testing.PERFORMANCE,
        status=Status.PASS,
        metrics={name: value},
        own_metrics={} if name in METRICS else {name: own_metric(name, unit=unit, direction=direction)},
    )
    assert from_line(to_line(record)) == record
    assert math.isfinite(record.metrics[name])


@pytest.mark.parametrize("word", ["crashed", "pass_due_to_skip", "fail_in_a_new_way"])
def test_a_status_is_never_taken_for_a_pass(word) -> None:
    """Also one that a later version of PyTorch's runner has comes back as it was, from every format that holds it."""
    case = Case(suite="s", model="m", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")
    shared = {"case": case, "status": Status(word), "environment": ENVIRONMENT, "source": SOURCE}
    records = [Record(testing=testing, **shared) for testing in Testing]
    contents = [export_records(records, form) for form in (ExportFormat.CSV, ExportFormat.OPENMETRICS)]
    if word != "pass_due_to_skip":  # a skipped performance test has no metric, so no row
        contents.append(lines_of(rows_of(Results(records=tuple(records)), Identity(now=0), gpus=None)))
    for content in contents:
        imported = read_content(content, "f", REQUEST)
        assert imported.left_out == ()
        assert {record.testing: str(record.status) for record in imported.records} == dict.fromkeys(Testing, word)


def test_a_status_that_is_no_word_is_left_out() -> None:
    """And the place is said."""
    imported = read_content(b"model,value,status\nm,1,<b>\nn,2,pass\n", "f", REQUEST)
    assert [record.case.model for record in imported.records] == ["n"]
    assert imported.left_out[0].startswith("f:2: its status is '<b>'")
