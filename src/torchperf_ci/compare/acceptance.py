"""Let an intended slowdown land: commands that accept changes, and findings that know of them.

A command is a line of a comment: `/torchperf accept CASE|all [METRIC] [+N%] because REASON`, or, with a label, of the
pull request's description: `torchperf: accept …`. It holds for a case, a metric and a size, and for nothing else: the
gate stays as narrow as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase

from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import TIMED, AcceptedChange, Comparison, ComparisonFindings
from torchperf_ci.compare.words import METRIC_TITLES, metric_name, name
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Case
from torchperf_ci.core.text import format_digits, nearest, one_line

COMMAND = "/torchperf accept"
IN_DESCRIPTION = "torchperf: accept"
"""The beginning of a command in the description of a pull request, where a label makes it count."""

EVERYTHING = "all"
_LONGEST_REASON = 500
_ACCEPTABLE = frozenset({Verdict.REGRESSED, Verdict.MISSING})
"""The verdicts that can be accepted: a crash or a wrong result has no size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptCommand:
    """A command as it was typed.

    case: `all`, or a pattern with shell wildcards. metric: blank for every metric of the case that is worse.
    limit: the largest change, 0.05 for +5 %; None: as much as was measured when it was typed.
    """

    case: str
    metric: str
    limit: float | None
    reason: str

    def fits(self, case: Case, metric: str) -> bool:
        """Say whether it speaks of this metric of this case."""
        is_meant = self.case == EVERYTHING or case.matches(self.case) or fnmatchcase(name(case), self.case)
        return is_meant and self.metric in {"", metric}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAcceptance:
    """An acceptance that counts. sizes: the change of each case and metric that it was typed for, where it names none;
    by the names of `identify`. time: when it was written, in UTC, where that is known."""

    command: AcceptCommand
    by: str
    url: str
    sizes: dict[str, float] | None = None
    time: datetime | None = None

    def limit_of(self, case: Case, metric: str) -> float | None:
        """Return the largest ratio of head to base that it lets pass, or None where it does not speak of this."""
        if not self.command.fits(case, metric):
            return None
        if self.command.limit is not None:
            return 1 + self.command.limit
        return (self.sizes or {}).get(identify(case, metric))

    def limit_in_history(self, case: Case, metric: str) -> float | None:
        """Return the same for runs over time, which follow latency and speedup of a case, of which a comparison judges
        one alone."""
        metrics = (metric, *(each for each in TIMED if each != metric)) if metric in TIMED else (metric,)
        limits = (self.limit_of(case, each) for each in metrics)
        return next((limit for limit in limits if limit is not None), None)


def identify(case: Case, metric: str) -> str:
    """Name a metric of a case, to find its size again."""
    return f"{case} {metric}"


def parse_command(text: str, *, start: str = COMMAND) -> AcceptCommand | None:
    """Read the first command in a text; None when there is none. start: how it begins.

    Raises `UsageProblem` for a line that begins like one and is none.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip().startswith(start)), None)
    if line is None:
        return None
    usage = f"write `{start} SUITE/MODEL +5% because REASON`"
    request, because, reason = line[len(start) :].partition(" because ")
    reason = one_line(reason, limit=_LONGEST_REASON)
    if not because or not reason:
        raise UsageProblem(f"the reason is missing: {usage}")
    words = request.replace("`", " ").split()
    limit = None
    if words and (size := re.fullmatch(r"\+?(\d{1,4}(?:\.\d{1,3})?)\s*%", words[-1])):
        limit = float(size[1]) / 100
        words = words[:-1]
    elif words and "%" in words[-1]:
        raise UsageProblem(f"{one_line(words[-1], limit=40)!r} is no size like +5%: {usage}")
    if not words:
        raise UsageProblem(f"the case is missing: {usage}")
    metrics = {title: metric for metric, title in METRIC_TITLES.items()} | {metric: metric for metric in METRIC_TITLES}
    case, metric = " ".join(words), ""
    for length in (2, 1):  # titles have one word or two
        title = " ".join(words[-length:])
        if len(words) > length and title in metrics:
            case, metric = " ".join(words[:-length]), metrics[title]
            break
    return AcceptCommand(case=case, metric=metric, limit=limit, reason=reason)


def list_accepted(command: AcceptCommand, findings: ComparisonFindings) -> list[Comparison]:
    """List what in the findings a command would let pass.

    Raises `UsageProblem` when it speaks of nothing that fails, or when what it speaks of cannot be accepted.
    """
    meant = [c for c in findings.comparisons if command.fits(c.case, c.metric)]
    acceptable = [c for c in meant if c.blocks and c.verdict in _ACCEPTABLE]
    if acceptable:
        return acceptable
    failed = next((c for c in meant if c.blocks), None)
    if failed is not None:
        raise UsageProblem(f"{name(failed.case)} does not run or is wrong on head, which cannot be accepted")
    blocking = list(dict.fromkeys(f"{c.case.suite}/{c.case.model}" for c in findings.comparisons if c.blocks))
    if not blocking:
        raise UsageProblem("nothing fails that could be accepted")
    hint = nearest(command.case, blocking)
    raise UsageProblem(
        f"{one_line(command.case, limit=100)!r} is none of what fails.{hint} There are: {', '.join(blocking[:10])}"
    )


def measure_sizes(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Return the sizes that are accepted where a command names none: the upper ends of the intervals."""
    return {identify(each.case, each.metric): _find_change(each, is_upper=True) for each in comparisons}


def accept_changes(findings: ComparisonFindings, acceptances: Sequence[ChangeAcceptance]) -> ComparisonFindings:
    """Mark what fails and was accepted, up to the size that was; what is larger stays as it is, and says so."""
    return replace(findings, comparisons=tuple(_accept(each, acceptances) for each in findings.comparisons))


def write_suggestion(findings: ComparisonFindings) -> str:
    """Write the comment that accepts all that fails and can be accepted; blank when there is nothing.

    A single change is named with its size, several are accepted at their measured sizes.
    """
    open_ones = [c for c in findings.comparisons if c.blocks and c.accepted is None and c.verdict in _ACCEPTABLE]
    if not open_ones:
        return ""
    if len(open_ones) > 1:
        return f"{COMMAND} {EVERYTHING} because REASON"
    (only,) = open_ones
    upper = _find_change(only, is_upper=True)
    size = f" +{math.ceil(100 * (upper - 1))}%" if math.isfinite(upper) else ""
    case = one_line(f"{only.case.suite}/{only.case.model}")
    return f"{COMMAND} {case} {metric_name(only.metric)}{size} because REASON"


def _accept(comparison: Comparison, acceptances: Sequence[ChangeAcceptance]) -> Comparison:
    if not comparison.blocks or comparison.verdict not in _ACCEPTABLE:
        return comparison
    smaller = None
    for acceptance in acceptances:
        limit = acceptance.limit_of(comparison.case, comparison.metric)
        if limit is None:
            continue
        known = AcceptedChange(by=acceptance.by, reason=acceptance.command.reason, url=acceptance.url, limit=limit)
        if _find_change(comparison) <= limit:
            return replace(comparison, accepted=known)
        smaller = known
    if smaller is None:
        return comparison
    more = (
        f"more than the {format_digits(100 * (smaller.limit - 1), 3)} % that {one_line(smaller.by, limit=60)} accepted"
    )
    return replace(comparison, why="; ".join(filter(None, (comparison.why, more))))


def _find_change(comparison: Comparison, *, is_upper: bool = False) -> float:
    """Return how many times worse head is, or with `is_upper` the most that the interval holds; infinite where no
    number says it, for example of what is missing."""
    ratio = comparison.ratio
    if ratio is None and comparison.base and comparison.head is not None:
        ratio = comparison.head / comparison.base
    if ratio is None:
        return math.inf
    if ratio < 1 and comparison.verdict is Verdict.REGRESSED:  # more is better, as of a speedup
        worst = comparison.low if is_upper and comparison.low else ratio
        return 1 / worst if worst else math.inf
    return comparison.high if is_upper and comparison.high else ratio
