"""Lists of cases that are to be measured once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from report_builders import case
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.run.plan import Plan, PlannedCase, keep_listed, read_case_list, write_case_list

ODD = case("two words\n</a>", "my compiler")
PLAN = Plan(cases=tuple(PlannedCase(case=each, spec="tiny") for each in (case("a"), ODD, case("b"))))


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Whatever is in the names."""
    path = tmp_path / "again.jsonl"
    path.write_text(write_case_list([ODD, case("a")]))
    listed = read_case_list(path)
    assert listed == {ODD, case("a")}
    assert [planned.case for planned in keep_listed(PLAN, listed, path).cases] == [case("a"), ODD]


def test_a_case_that_is_not_planned_is_refused(tmp_path: Path) -> None:
    """Else less would be measured than was asked for, and nobody would see it."""
    with pytest.raises(
        UsageProblem, match=r"names 1 case that the other options do not choose, e\.g\. tiny/c inductor"
    ):
        keep_listed(PLAN, frozenset({case("a"), case("c")}), tmp_path / "again.jsonl")


@pytest.mark.parametrize(("text", "said"), [("", "names no case"), ('{"type": "case"}\n', ":1: is no case: object")])
def test_what_is_no_list_is_said(tmp_path: Path, text: str, said: str) -> None:
    """With the line."""
    path = tmp_path / "again.jsonl"
    path.write_text(text)
    with pytest.raises(UsageProblem, match=said):
        read_case_list(path)
