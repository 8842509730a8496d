"""Records survive their way through JSON lines, and everything else is refused by name."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.core.records import (
    COUNTERS,
    MACHINE_UNKNOWN,
    METRICS,
    Build,
    Case,
    Direction,
    Environment,
    GraphBreak,
    Mode,
    Record,
    RecordProblem,
    Source,
    Status,
    Testing,
    from_line,
    own_metric,
    to_line,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)

CASES = st.builds(Case, suite=NAME, model=NAME, mode=st.sampled_from(Mode), device=NAME, dtype=NAME, compiler=NAME)
ENVIRONMENTS = st.builds(
    Environment, python=TEXT, torch=TEXT, gpu=TEXT, gpu_count=st.integers(0, 16), threads=st.integers(0, 256)
)
RECORDS = st.builds(
    Record,
    case=CASES,
    testing=st.sampled_from(Testing),
    status=st.sampled_from(Status),
    batch_size=st.integers(0, 10**6),
    metrics=st.dictionaries(st.sampled_from(sorted(METRICS)), NUMBER),
    samples=st.dictionaries(st.sampled_from(["eager", "compiled", "probe"]), st.lists(NUMBER, max_size=5).map(tuple)),
    counters=st.dictionaries(st.sampled_from(COUNTERS), st.integers(0, 10**6)),
    graph_breaks=st.lists(st.builds(GraphBreak, reason=TEXT, user_stack=TEXT), max_size=2).map(tuple),
    parameters=st.integers(0, 10**12),
    seconds=NUMBER,
    reason=TEXT,
    remarks=st.lists(TEXT, max_size=2).map(tuple),
    not_compiled=st.booleans(),
    compile_scope=st.sampled_from(["", "step", "module"]),
    log=TEXT,
    environment=ENVIRONMENTS,
    source=st.builds(Source, repository=TEXT, commit=TEXT, attempt=st.integers(1, 9), time=TEXT),
)


@given(RECORDS)
def test_a_record_comes_back_from_its_line_unchanged(record: Record) -> None:
    """What was measured is what is read, whatever the names hold."""
    line = to_line(record)
    assert "\n" not in line
    assert from_line(line) == record


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"reason": "half \ud83d of a pair"}, "reason", "half \ud83d of a pair"),
        ({"batch_size": 10**30}, "batch_size", 10**30),
        ({"later_field": {"x": [1]}}, "batch_size", 0),
        ({"metrics": {"speedup": 1}}, "metrics", {"speedup": 1.0}),
    ],
)
def test_an_odd_line_is_read(fields: dict[str, object], name: str, value: object) -> None:
    """Halves of surrogate pairs, large numbers and fields of later versions lose no record."""
    record = from_line(json.dumps({**GOOD, **fields}))
    assert getattr(record, name) == value
    assert from_line(to_line(record)) == record


def test_a_metric_of_ones_own_keeps_its_unit_and_direction() -> None:
    """Other tools and users measure what this package has no name for."""
    metric = own_metric("tokens", unit="tokens/s", direction=Direction.HIGHER)
    record = dataclasses.replace(from_line(json.dumps(GOOD)), metrics={"tokens": 3.5}, own_metrics={"tokens": metric})
    assert from_line(to_line(record)) == record


def test_a_build_comes_back_from_its_line_unchanged() -> None:
    """The build of a run is kept beside its records."""
    build = Build(
        environment=Environment(torch="2.13.0"),
        dynamo_flags={"verbose": True},
        variables={"CUDA_HOME": "/usr"},
        packages={"torch": "2.13.0"},
        suites={"models": "benchmarks/models.py"},
        warnings=("all CPUs are used",),
        command=("run", "--inference"),
        time="2026-11-21T00:00:00+00:00",
    )
    assert from_line(to_line(build)) == build


def test_a_metric_that_is_no_number_is_left_out() -> None:
    """JSON has no NaN, and an invented number would be worse than none."""
    case = Case(suite="s", model="m", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="eager")
    record = Record(
        case=case,
        testing=Testing.PERFORMANCE,
        status=Status.PASS,
        metrics={"speedup": float("nan"), "abs_latency": 1.0},
    )
    assert from_line(to_line(record)) == dataclasses.replace(record, metrics={"abs_latency": 1.0})


GOOD = json.loads(
    to_line(
        Record(
            case=Case(suite="s", model="m", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="eager"),
            testing=Testing.ACCURACY,
            status=Status.PASS,
        )
    )
)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "not JSON: "),
        ("{", "not JSON: "),
        ("[" * 100_000, "expected `object`"),
        ("{}", "field 'type' is '', expected one of: record, build"),
        ("[]", "expected `object`"),
        (json.dumps({**GOOD, "v": 99}), "written by a newer torchperf-ci"),
        (json.dumps({**GOOD, "status": "so fine"}), "field 'status': invalid enum value 'so fine'"),
        (json.dumps({**GOOD, "testing": 3}), "field 'testing': expected `str`, got `int`"),
        (json.dumps({**GOOD, "batch_size": "8"}), "field 'batch_size': expected `int`, got `str`"),
        (json.dumps({**GOOD, "batch_size": True}), "field 'batch_size': expected `int`, got `bool`"),
        (json.dumps({**GOOD, "not_compiled": 1}), "field 'not_compiled': expected `bool`"),
        (json.dumps({**GOOD, "remarks": "slow"}), "field 'remarks': expected `array`"),
        (json.dumps({**GOOD, "metrics": [1]}), "field 'metrics': expected `object`"),
        (json.dumps({**GOOD, "metrics": {"speedup": float("nan")}}), "not JSON: NaN is not a finite number"),
        (json.dumps(GOOD)[:-1] + ', "seconds": 1e999}', "field 'seconds': number out of range"),
        (json.dumps({**GOOD, "samples": {"eager": 1}}), "field 'samples[...]': expected `array`"),
        (
            json.dumps({**GOOD, "case": {**GOOD["case"], "model": ""}}),
            "field 'case.model': expected `str` of length >= 1",
        ),
        (json.dumps({**GOOD, "environment": {"gpu_count": "two"}}), "field 'environment.gpu_count': expected `int`"),
    ],
)
def test_a_line_that_is_no_record_is_refused_by_field(line: str, message: str) -> None:
    """The message names what is wrong, so that the line can be found and mended."""
    with pytest.raises(RecordProblem) as refused:
        from_line(line)
    assert str(refused.value).startswith(message)


def test_a_line_of_an_earlier_version_is_read() -> None:
    """What it does not say yet has its default, so that recorded runs stay comparable."""
    new = {"remarks", "not_compiled", "compile_scope"}
    record = from_line(json.dumps({name: value for name, value in GOOD.items() if name not in new}))
    assert isinstance(record, Record)
    assert (record.remarks, record.not_compiled, record.compile_scope) == ((), False, "")


def test_environments_say_why_they_cannot_be_compared() -> None:
    """Another GPU, another driver: each is a sentence; the same machine has none."""
    ours = Environment(gpu="H200", driver="570.1", cpu="EPYC", threads=8, torch="2.13.0")
    assert ours.comparable_to(dataclasses.replace(ours, torch="2.14.0", host="elsewhere")) == []
    assert ours.comparable_to(dataclasses.replace(ours, gpu="", driver="571.2")) == [
        "GPU differs: H200 against none",
        "GPU driver differs: 570.1 against 571.2",
    ]


def test_a_status_that_nobody_knows_stays_what_it_is() -> None:
    """A word of a later version, or of a relative of PyTorch's runner, is kept through a file, and is no pass."""
    record = from_line(json.dumps({**GOOD, "status": "0.0000"}))
    assert isinstance(record, Record)
    assert (record.status.value, record.status.is_pass) == ("0.0000", False)
    assert from_line(to_line(record)) == record


HOST = {"host": "bench-01", "cpu_count": 4}


@pytest.mark.parametrize(
    ("one", "other", "word"),
    [
        ({"cpu": "Intel i7"}, {"cpu": "Intel i7"}, ""),
        ({"cpu": "Intel i7", "host": "a"}, {"cpu": "Intel i7", "host": "b"}, ""),
        ({"cpu": "Intel i7"}, {"cpu": "AMD Ryzen"}, "CPU differs"),
        (HOST, HOST, ""),
        ({**HOST, "cpu_mhz": 4228}, {**HOST, "cpu_mhz": 4190}, ""),
        ({**HOST, "cpu_mhz": 4228}, {**HOST, "cpu_mhz": 2100}, "clock differs"),
        (HOST, {**HOST, "host": "bench-02"}, "host differs"),
        ({**HOST, "cpu": "aarch64"}, {"host": "bench-02", "cpu_count": 4, "cpu": "aarch64"}, "host differs"),
        ({"cpu": "x86_64"}, {"cpu": "x86_64"}, MACHINE_UNKNOWN),
        ({"cpu": "arm64", "host": "localhost"}, {"cpu": "arm64", "host": "localhost"}, MACHINE_UNKNOWN),
        ({}, {}, MACHINE_UNKNOWN),
        ({"cpu": "Intel i7"}, {}, MACHINE_UNKNOWN),
        ({**HOST, "cpu": "Intel i7"}, HOST, ""),
        (HOST, {**HOST, "cpu_count": 8}, "number of CPUs differs"),
    ],
)
def test_a_machine_is_known_by_brand_or_by_host_and_clock(one, other, word) -> None:
    """An architecture is no CPU, and what is not recorded is not the same."""
    reasons = Environment(**one).comparable_to(Environment(**other))
    assert bool(reasons) is bool(word)
    assert word in "; ".join(reasons)
    assert bool(Environment(**other).comparable_to(Environment(**one))) is bool(word)
