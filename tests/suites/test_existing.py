"""Benchmarks of other tools are found by the names by which the tools' results are imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from existing_project import write_project
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Mode
from torchperf_ci.run.plan import Machine, Selection, SuiteListing, make_plan
from torchperf_ci.run.session import Preloaded
from torchperf_ci.run.survey import list_suites

MACHINE = Machine(devices={"cpu": 1}, compilers=("none",), dtypes=("float32",))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


def listed(preloaded: Preloaded, spec: str) -> dict[str, SuiteListing]:
    return {suite.name: suite for _, suite in list_suites(preloaded, [spec])}


def test_tests_are_found_with_their_groups_and_parameters(preloaded: Preloaded, project: Path) -> None:
    """Those that ask for the fixture, whatever the configuration leaves out; a file that cannot be imported is one."""
    suites = listed(preloaded, f"pytest:{project / 'bench'}")
    assert list(suites) == ["bench/test_lists", "sorting", "bench/test_broken"]
    assert suites["sorting"].models == ("test_sorted[None]", "test_sorted[é|n]")
    models = suites["bench/test_lists"].models
    assert models[:3] == ("test_sum", "TestPop::test_setup", "test_fails_after")
    assert "test_plain" not in models
    broken = suites["bench/test_broken"].broken
    assert broken == {"(collection)": "ModuleNotFoundError: No module named 'no_such_module'"}


def test_cases_run_as_they_are(preloaded: Preloaded, project: Path) -> None:
    """In no mode, precision or compiler that is asked for, each loaded by the id of its test."""
    spec = f"pytest:{project / 'bench'}"
    suites = list(listed(preloaded, spec).values())
    selection = Selection(suites=(spec,), mode=Mode.TRAINING, filters=(), compilers=("none",))
    plan = make_plan(selection, suites, MACHINE)
    cases = {planned.case.model: planned for planned in plan.cases}
    assert str(cases["test_sum"].case) == "bench/test_lists/test_sum none inference unknown cpu"
    assert cases["test_sum"].spec == f"pytest:{project}/bench/test_lists.py::test_sum"
    assert cases["(collection)"].broken
    assert "pytest" in plan.preload


def test_asv_benchmarks_are_found_with_every_combination(preloaded: Preloaded, project: Path) -> None:
    """By the folder that asv.conf.json names. What is not measured is a skip with its reason."""
    suites = listed(preloaded, f"asv:{project}")
    assert list(suites) == ["broken", "lists"]
    lists = suites["lists"]
    assert "Sorting.time_sort(100, 'reversed')" in lists.models
    assert {"time_too_slow", "peakmem_bytes", "Cached.track_count"} <= set(lists.models)
    assert "_time_nothing" not in lists.models
    reasons: dict[str, Any] = {str(skip["model"]): skip["reason"] for skip in lists.skips}
    assert "mem_" in reasons["Sorting.mem_data(10, 'plain')"]
    assert "timeraw_" in reasons["timeraw_import"]
    (metric,) = lists.metrics_of("Cached.track_count")
    assert (metric.name, metric.unit) == ("track", "files")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("pytest:{project}/nowhere", "no such file or folder"),
        ("pytest:{project}/conftest.py", "no test there asks for the fixture `benchmark`"),
        ("pytest:{project}/bench/test_lists.py::test_gone", "not found"),
        ("asv:{project}/nowhere", "no such file or folder"),
        ("asv:{project}/asv_bench/data.py", "no benchmark there"),
    ],
)
def test_a_path_without_benchmarks_says_so(preloaded: Preloaded, project: Path, spec: str, reason: str) -> None:
    """With the path, before anything is measured."""
    with pytest.raises(UsageProblem, match=reason) as error:
        list_suites(preloaded, [spec.format(project=project)])
    assert str(project) in str(error.value)
