"""The data of a site's pages."""

from __future__ import annotations

import json

import pytest

from report_builders import accuracy, both, case, performance
from run_builders import a_run, collect_series
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Environment, Status
from torchperf_ci.dashboard.commits import judge_accepted
from torchperf_ci.dashboard.owners import OwnerRule
from torchperf_ci.dashboard.regressions import summarize_run
from torchperf_ci.site.data import encode_data, encode_month, name_machine
from torchperf_ci.site.months import MonthRuns
from torchperf_ci.site.pages import describe_states

FIRST = [
    *both(case("mlp", "inductor"), 1.5, compilation_latency=10.0, compression_ratio=0.9),
    *both(case("lstm", "inductor"), 0.8, compilation_latency=20.0),
    *both(case("mlp", "eager"), 1.0),
    accuracy(case("lstm", "eager"), Status.FAIL_ACCURACY),
    *both(case("Bert", "inductor", suite="huggingface", dtype="amp"), 2.0),
]
SECOND = [
    *both(case("mlp", "inductor"), 1.2),
    performance(case("lstm", "inductor"), None, Status.MODEL_FAIL_TO_LOAD),
    performance(case("unet", "inductor"), None, Status.CRASHED),
]


def test_summary_numbers_are_those_of_the_reports():
    """Of every run by itself: what another run tried changes nothing."""
    runs = (a_run(0, FIRST), a_run(1, SECOND), a_run(2, both(case("mlp", "eager"))))
    files = encode_month("2026-10", MonthRuns(runs=runs, series=tuple(collect_series(runs))))
    script = files["data/2026-10/runs.js"].decode("ascii")
    data = json.loads(script[script.index(",") + 1 : -3])
    shown = {
        (place, data["groups"][group]["suite"], data["groups"][group]["compiler"]): numbers
        for place, group, *numbers in data["trends"]
    }
    expected = {
        (place, line.suite, line.compiler): [
            line.clipped,
            100 * line.passed / line.total if line.total else None,
            line.compile_seconds,
            line.compression,
        ]
        for place, run in enumerate(runs)
        for line in summarize_run(run, CaseSelection()).lines
    }
    assert shown.keys() == expected.keys()
    for key, numbers in expected.items():
        assert [each is None for each in shown[key]] == [each is None for each in numbers], key
        assert [each or 0 for each in shown[key]] == pytest.approx([each or 0 for each in numbers], rel=1e-5), key


@pytest.mark.parametrize("text", ["</script>", "\u2028", "\udc80", "\0", '"];alert(1);["', "__proto__"])
def test_data_is_ascii_and_says_what_it_was_given(text: str):
    """Whatever stands in a name: a key named like the object's prototype is one like others."""
    script = encode_data("x", {text: [text]}).decode("ascii")
    assert script.startswith('torchperf.add("x",{')
    body = script[len('torchperf.add("x",') : -3]
    assert json.loads(body.replace('["__proto__"]:', '"__proto__":')) == {text: [text]}


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        (Environment(gpu="NVIDIA H200", gpu_count=8, cpu="EPYC"), "NVIDIA H200 ×8"),
        (Environment(cpu="EPYC", cpu_count=4, host="runner"), "EPYC, 4 CPUs"),
        (Environment(cpu="x86_64", host="runner-1"), "runner-1"),
        (Environment(), ""),
    ],
)
def test_a_machine_is_named_by_what_tells_it_apart(environment: Environment, name: str):
    """Its GPUs, its CPU, or its host."""
    assert name_machine(environment) == name


def test_what_is_open_has_an_owner():
    """And what is not has none, whosever it is."""
    runs = [a_run(day, [*both(case("mlp"), 1.0 if day > 5 else 1.5), *both(case("lstm"), 1.5)]) for day in range(8)]
    rules = [OwnerRule(owners=("@org/team",)), OwnerRule(metric="speedup", owners=("ana",))]
    described = describe_states(judge_accepted(collect_series(runs)), {}, rules)
    owners = {each["metric"]: each["owners"] for each in described if each["open"]}
    assert owners == {"abs_latency": ["org/team"], "speedup": ["ana"]}
    assert all(each["owners"] == [] for each in described if not each["open"])
