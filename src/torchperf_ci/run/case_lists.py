"""Lists of cases in files: those that are to be measured once more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Case, RecordProblem, decode_line, encode_line
from torchperf_ci.core.results import read_lines
from torchperf_ci.core.text import count
from torchperf_ci.run.plan import Plan


def write_case_list(cases: Iterable[Case]) -> str:
    """Write cases as text, a line of JSON each."""
    return "".join(f"{encode_line('case', case)}\n" for case in cases)


def read_case_list(path: Path) -> frozenset[Case]:
    """Read a list of cases. Raises `UsageProblem` for a line that is none, and for a list without any."""
    cases = set()
    for number, line in read_lines(path):
        try:
            cases.add(decode_line(line, {"case": Case}))
        except RecordProblem as error:
            raise UsageProblem(
                f"{path}:{number}: is no case: {error}; `torchperf-ci dashboard DIR --confirm FILE` writes such a list"
            ) from error
    if not cases:
        raise UsageProblem(f"{path} names no case, so there is nothing to measure")
    return frozenset(cases)


def keep_listed(plan: Plan, cases: frozenset[Case], path: Path) -> Plan:
    """Keep the cases of a plan that are listed. Raises `UsageProblem` when the plan lacks one of them."""
    kept = tuple(planned for planned in plan.cases if planned.case in cases)
    if lost := sorted(cases - {planned.case for planned in kept}):
        raise UsageProblem(
            f"{path} names {count(len(lost), 'case')} that the other options do not choose, e.g. {lost[0]}; give the "
            "options of the run that it was made of"
        )
    return replace(plan, cases=kept)
