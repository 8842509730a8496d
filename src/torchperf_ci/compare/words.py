"""Put a comparison into words: the verdict sentence, changes and quantities, the same in every drawing of it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Sequence

from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import (
    ACCURACY,
    COMPILING,
    GRAPHS,
    LATENCY,
    MEMORY,
    SPEEDUP,
    TIMED,
    Comparison,
    ComparisonFindings,
    Header,
    name_verdict,
    pick_case_verdicts,
    widen_for_days,
)
from torchperf_ci.core.records import METRICS, Case
from torchperf_ci.core.statistics import slow_share
from torchperf_ci.core.text import (
    ABSENT,
    count,
    duration,
    format_digits,
    is_full_sha,
    is_repository,
    is_run_id,
    one_line,
)
from torchperf_ci.report.words import format_count

SIGNS = {
    Verdict.REGRESSED: "❌",
    Verdict.FAILED: "❌",
    Verdict.MISSING: "❌",
    Verdict.REFUSED: "⚠️",
    Verdict.INCONCLUSIVE: "⚠️",
    Verdict.SKIPPED: "⏭️",
    Verdict.NEW: "🆕",
    Verdict.FIXED: "✅",
    Verdict.IMPROVED: "✅",
    Verdict.CHANGED: "🔢",
    Verdict.UNCHANGED: "▫️",
}

METRIC_TITLES = {
    LATENCY: "latency",
    SPEEDUP: "speedup",
    MEMORY: "peak memory",
    COMPILING: "compile time",
    ACCURACY: "accuracy",
    "graph_breaks": "graph breaks",
    GRAPHS: "graphs",
    "recompiles": "recompiles",
    "operators": "operators",
    "flops": "floating-point operations",
    "generated_kernels": "generated kernels",
    "kernel_launches": "kernel launches",
    "allocations": "allocations",
    "allocated_bytes": "bytes allocated",
    "instructions": "instructions",
    "compile_instructions": "instructions of compiling",
}
_MOST_NAMES = 3
_LONGEST_REASON = 90
_LONGEST_UNIT = 30
_LONGEST_WAIT = 36_000
"""Seconds; nobody waits longer for a verdict."""

LONGEST_NAME = 200
METHOD = "https://github.com/org/torchperf-ci/blob/v1/docs/method.md#base-against-head"
"""The page that says how it is measured and judged."""


Quote = Callable[[str], str]


def sign_of(comparison: Comparison) -> str:
    """Return the sign of a verdict; that of a change which somebody accepted warns of nothing."""
    return SIGNS[comparison.verdict] if comparison.accepted is None else "☑️"


def verdict_of(comparison: Comparison) -> str:
    """Return the verdict in a word or two."""
    word = name_verdict(comparison.verdict, comparison.metric)
    return word if comparison.accepted is None else f"{word}, accepted"


def write_sentence(findings: ComparisonFindings) -> str:
    """Write the verdict in words, what is bad first, as plain text."""
    headline, rest = write_headline(findings)
    return f"{headline}; {rest}." if rest else f"{headline}."


def write_headline(findings: ComparisonFindings, quote: Quote = one_line) -> tuple[str, str]:
    """Write the verdict as a headline, all that is bad or else the first there is to say, and the rest; without a full
    stop."""
    total = len({comparison.case for comparison in findings.comparisons})
    bad: list[str] = []
    others: list[str] = []
    for is_bad, number, singular, plural, details in _list_groups(findings, quote):
        if bad or others or not findings.compared:
            subject = count(number, "case")
        elif total == 1:
            subject = "The only case"
        else:
            whole = "Both cases" if total == 2 else f"All {total:,} cases"
            subject = whole if number == total else f"{number:,} of {total:,} cases"
        (bad if is_bad else others).append(f"{subject} {singular if number == 1 else plural}{details}")
    if findings.unmeasured:
        others.append(f"{findings.unmeasured:,} not measured to the end")
    if not findings.compared and not bad:
        return "No case could be compared", "; ".join(others)
    return ("; ".join(bad), "; ".join(others)) if bad else (others[0], "; ".join(others[1:]))


def _list_groups(findings: ComparisonFindings, quote: Quote) -> Iterator[tuple[bool, int, str, str, str]]:
    """List the groups of cases that the sentence speaks of, the most urgent first: whether they are bad, how many they
    are, what is said of one and of several, and details."""
    own = [*pick_case_verdicts(findings.comparisons).values()]
    others = [c for c in findings.comparisons if c.metric not in TIMED]

    def pick(verdict: Verdict, comparisons: Sequence[Comparison] = own) -> list[Comparison]:
        return [c for c in comparisons if c.verdict is verdict and c.accepted is None]

    failed, missing, slower = pick(Verdict.FAILED), pick(Verdict.MISSING), pick(Verdict.REGRESSED)
    wrong = pick(Verdict.FAILED, others)
    worse = pick(Verdict.REGRESSED, others)
    counted = pick(Verdict.CHANGED, others)
    refused = [c for c in pick(Verdict.REFUSED) if not c.fails_on_both]
    unchecked = [c for c in pick(Verdict.REFUSED, others) if c.metric == ACCURACY]
    seconds = sum(c.more_seconds or 0.0 for c in pick(Verdict.INCONCLUSIVE))
    more = f", about {max(1, round(seconds)):,} s more would decide" if 0 < seconds < _LONGEST_WAIT else ""
    within = f" (within {percent(findings.header.tolerances.latency.threshold)})"
    improved, unchanged = pick(Verdict.IMPROVED), pick(Verdict.UNCHANGED)
    bad = (
        (len(failed), "fails on head", "fail on head", _explain(failed, quote)),
        (len(wrong), "has wrong results on head", "have wrong results on head", _explain(wrong, quote)),
        (len(missing), "is missing on head", "are missing on head", _name_cases(missing, quote)),
        (len(slower), "is slower", "are slower", _name_cases(slower, quote)),
        (
            len({c.case for c in worse}),
            "is worse in another metric",
            "are worse in other metrics",
            _name_cases(worse, quote),
        ),
    )
    accepted = [c for c in findings.comparisons if c.accepted is not None]
    first = accepted[0].accepted if accepted else None
    by = f" by {quote(first.by)}{_name_cases(accepted, quote)}: {quote(first.reason)}" if first else ""
    named = {c.case for c in (*wrong, *worse, *unchecked, *accepted)}
    rest = (
        (len({c.case for c in accepted}), "is worse and accepted", "are worse and accepted", by),
        (findings.not_compiled, "was not compiled", "were not compiled", ""),
        (len(pick(Verdict.INCONCLUSIVE)), "is inconclusive", "are inconclusive", more),
        (sum(c.fails_on_both for c in own), "runs on neither side", "run on neither side", ""),
        (len(refused), "is refused", "are refused", _explain(refused, quote)),
        (sum(c.fails_on_both for c in unchecked), "is wrong on both sides", "are wrong on both sides", ""),
        (
            sum(not c.fails_on_both for c in unchecked),
            "has no verdict on its accuracy",
            "have no verdict on their accuracy",
            "",
        ),
        (len(pick(Verdict.FIXED)), "is fixed on head", "are fixed on head", ""),
        (
            len(improved),
            f"is {percent(abs(_change_of(improved[0])))} faster" if len(improved) == 1 else "is faster",
            "are faster",
            f": {quote(name(improved[0].case))}" if len(improved) == 1 else _name_cases(improved, quote),
        ),
        (sum(not c.spared and c.case not in named for c in unchanged), "is unchanged", "are unchanged", within),
        (findings.spared, "is the same program", "are the same program", " on both sides"),
        (
            len({c.case for c in counted}),
            "has different counts or code",
            "have different counts or code",
            _name_cases([*{c.case: c for c in reversed(counted)}.values()], quote),
        ),
        (len(pick(Verdict.NEW)), "is new", "are new", ""),
        (len(pick(Verdict.SKIPPED)), "has too little history", "have too little history", ""),
    )
    yield from ((True, *group) for group in bad if group[0])
    yield from ((False, *group) for group in rest if group[0])


def _explain(comparisons: Sequence[Comparison], quote: Quote) -> str:
    """Give the reason that all of them share, else their names."""
    reasons = {c.why.removeprefix("head: ") for c in comparisons}
    if len(reasons) == 1 and (reason := reasons.pop()):
        said = quote(one_line(reason, limit=_LONGEST_REASON))
        return f": {said}" if len(comparisons) > 1 else f": {quote(name(comparisons[0].case))} ({said})"
    return _name_cases(comparisons, quote)


def _name_cases(comparisons: Sequence[Comparison], quote: Quote) -> str:
    """Name the cases with the largest change, and say how many more there are."""
    if not comparisons:
        return ""
    largest = sorted(comparisons, key=lambda c: abs(_change_of(c)), reverse=True)
    names = []
    for comparison in largest[:_MOST_NAMES]:
        is_plain = comparison.metric == LATENCY or comparison.verdict is Verdict.MISSING
        parts = [] if is_plain else [metric_name(comparison.metric)]
        parts += [change(comparison.ratio)] if comparison.ratio else []
        if comparison.verdict is Verdict.CHANGED and comparison.base == comparison.head:
            parts = [_OTHERS.get(comparison.metric, metric_name(comparison.metric))]
        details = f" ({' '.join(parts)})" if parts else ""
        names.append(quote(name(comparison.case)) + details)
    hidden = len(largest) - _MOST_NAMES
    return f": {', '.join(names)}" + (f" and {hidden} more" if hidden > 0 else "")


_OTHERS = {"operators": "other operators or arguments", "generated_kernels": "other code"}
"""The words for a difference that is none in the count of a metric."""


def _change_of(comparison: Comparison) -> float:
    return round((comparison.ratio or 1.0) - 1, 3)


def name(case: Case) -> str:
    """Name a case in short: what tells it from the others of most comparisons."""
    return one_line(f"{case.suite}/{case.model} {case.compiler}")


def metric_name(metric: str) -> str:
    """Name a metric as people do; what other tools measured has their name."""
    return METRIC_TITLES.get(metric, one_line(metric))


def change(ratio: float | None) -> str:
    """Write how much more head has: `+3.1 %`."""
    return ABSENT if ratio is None else f"{round(ratio - 1, 3) + 0.0:+.1%}".replace("%", " %")


def interval(comparison: Comparison) -> str:
    """Write an interval: `+1.0 % to +3.0 %`, or a dash."""
    if comparison.low is None or comparison.high is None:
        return ABSENT
    return f"{change(comparison.low)} to {change(comparison.high)}"


def change_with_interval(comparison: Comparison | None) -> str:
    """Write a change with its interval, where it has one: `+2.0 % (+1.0 % to +3.0 %)`."""
    if comparison is None or comparison.ratio is None:
        return ABSENT
    span = "" if comparison.low is None else f" ({interval(comparison)})"
    return f"{change(comparison.ratio)}{span}"


def percent(share: float) -> str:
    """Write a share: `5 %`, `2.5 %`."""
    return f"{format_digits(100 * share, 3)} %"


def quantity(comparison: Comparison, value: float | None) -> str:
    """Write a value of a comparison's metric with its unit."""
    return amount(comparison.metric, value, unit=comparison.unit)


def amount(metric: str, value: float | None, *, unit: str = "") -> str:
    """Write a value of a metric with its unit. unit: that of a metric that is not ours."""
    if value is None:
        return ABSENT
    unit = METRICS[metric].unit if metric in METRICS else one_line(unit, limit=_LONGEST_UNIT)
    match unit:
        case "ratio":
            return f"{format_digits(value, 3)}x"
        case "bytes" | "count":
            return format_count(metric, value)
        case _:
            return f"{format_digits(value, 4)} {unit}".strip()


def why(comparison: Comparison) -> str:
    """Say what there is to say beside the numbers, in one line."""
    parts = [comparison.why]
    if comparison.more_launches:
        launches = "launch" if comparison.more_launches == 1 else "launches"
        parts.append(f"about {comparison.more_launches:,} more {launches} would decide")
    if comparison.verdict is Verdict.REGRESSED and comparison.listed and not comparison.blocks:
        parts.append("with so many cases one may look like this by chance: it does not fail the comparison")
    if comparison.confirmed:
        parts.append("seen twice")
    if _is_rough(comparison):
        parts.append("the two sizes disagree, so take it as rough")
    if (of_medians := _find_uneven_medians(comparison)) is not None:
        parts.append(f"the medians alone say {change(of_medians)}: the machine was uneven")
    if comparison.accepted:
        limit = comparison.accepted.limit
        size = f" up to {percent(limit - 1)}" if math.isfinite(limit) else ""
        parts.append(f"accepted{size} by {comparison.accepted.by}: {comparison.accepted.reason}")
    if comparison.log:
        parts.append(f"log: {comparison.log}")
    return one_line("; ".join(part for part in parts if part))


def _is_rough(comparison: Comparison) -> bool:
    """Say whether both measurements agree that it changed, and not by how much: their intervals do not meet."""
    again = comparison.again
    if not comparison.confirmed or again is None or None in {comparison.low, comparison.high, again.low, again.high}:
        return False
    return bool(comparison.low > again.high or again.low > comparison.high)  # type: ignore[operator]  # none is None


def _find_uneven_medians(comparison: Comparison) -> float | None:
    """Find the quotient of the sides' medians where it lies outside of the interval of the change; None elsewhere."""
    low, high, base, head = comparison.low, comparison.high, comparison.base, comparison.head
    if comparison.metric != LATENCY or low is None or high is None or not base or not head:
        return None
    return head / base if not low <= head / base <= high else None


def is_change(comparison: Comparison) -> bool:
    """Say whether it belongs into the table of changes: times that are open do, other metrics that are open do not.
    What counts differently has a table of its own."""
    if comparison.verdict is Verdict.INCONCLUSIVE:
        return comparison.metric in TIMED or comparison.confirmed is False
    if comparison.verdict is Verdict.CHANGED:
        return False
    return comparison.verdict is not Verdict.UNCHANGED or (comparison.metric == ACCURACY and bool(comparison.why))


def ordered(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Order them: the most urgent first, times before other metrics, then the largest change."""
    urgency = {verdict: place for place, verdict in enumerate(Verdict)}

    def rank(c: Comparison) -> tuple[int, bool, float, Case, str]:
        return urgency[c.verdict], c.metric not in TIMED, -abs(_change_of(c)), c.case, c.metric

    return sorted(comparisons, key=rank)


def split_comparisons(findings: ComparisonFindings) -> tuple[list[Comparison], list[Comparison], list[Comparison]]:
    """Split them, in order, into what changed, what counts differently and has no verdict, and the rest."""
    changed: list[Comparison] = []
    counted: list[Comparison] = []
    rest: list[Comparison] = []
    for c in ordered(findings.comparisons):
        (changed if is_change(c) else counted if c.verdict is Verdict.CHANGED else rest).append(c)
    return changed, counted, rest


def list_notes(findings: ComparisonFindings) -> Iterator[str]:
    """List what a reader has to know to read the tables."""
    tolerances = findings.header.tolerances
    if any(c.p is not None for c in findings.comparisons):
        limits = " Some cases or metrics have their own limits." if tolerances.rules else ""
        is_live = bool(findings.measured) or any(c.confirmed is not None for c in findings.comparisons)
        twice = " Changes count when a second measurement says the same." if is_live else ""
        usual = tolerances.latency
        time = widen_for_days(usual, LATENCY)
        beyond, within = percent(usual.margin), f"±{percent(usual.threshold)}"
        if findings.is_recorded:
            beyond = f"{beyond} (speedup) or {percent(time.margin)} (times)"
            within = f"{within} or ±{percent(time.threshold)}"
        yield (
            f"Slower or faster: the whole interval lies beyond {beyond}. Unchanged: it lies within {within}. Otherwise "
            f"it is inconclusive.{twice}{limits}"
        )
        if findings.inconclusive and findings.is_recorded:
            yield (
                "Runs from different times decide little. `torchperf-ci compare --base-ref …` measures both sides in "
                "turn on one machine."
            )
    if findings.spared:
        total = len({comparison.case for comparison in findings.comparisons})
        yield (
            f"{findings.spared:,} of {count(total, 'case')} had a short check only, since code, data and libraries are "
            f"the same on both sides; this saved about {duration(findings.saved_seconds)}."
        )
    if any(c.metric in TIMED and c.ratio for c in findings.comparisons):
        if findings.measured:
            yield (
                "Base and head are the medians of all iterations. The change is the middle of the ratios of iterations "
                "that ran next to each other, so it may differ a little from the quotient of the medians."
            )
        probes = [time for item in findings.measured for launch in item.launches for time in launch.probe]
        slow = slow_share(probes)
        if round(slow, 2):
            yield f"For {percent(round(slow, 2))} of the time the machine was slow; this affected both sides equally."


def make_bisect_command(good: str, bad: str, case: Case, *, metric: str = LATENCY, options: Sequence[str] = ()) -> str:
    """Write the command that looks for the commit between two which changed a metric of a case.

    options: what else it needs to know: suites that are files, the set-up command.
    """
    mode = [] if f"--{case.mode}" in options or "--mode" in options else [f"--{case.mode}"]
    asked = [] if metric == LATENCY else ["--metric", metric]
    return shlex.join(["torchperf-ci", "bisect", good, bad, "--case", str(case), *asked, *mode, *options])


def list_bisect_commands(findings: ComparisonFindings) -> list[str]:
    """List the commands that look for the commits which made head worse, the most urgent first."""
    header = findings.header
    if header.bisect_options is None or header.base_commit is None or header.head_commit is None:
        return []
    return [
        make_bisect_command(
            header.base_commit.sha,
            header.head_commit.sha,
            worse.case,
            metric=ACCURACY if worse.verdict is Verdict.FAILED else worse.metric,
            options=header.bisect_options,
        )
        for worse in ordered([c for c in findings.comparisons if c.verdict in {Verdict.REGRESSED, Verdict.FAILED}])
    ][:_MOST_NAMES]


def link_to_commit(header: Header, sha: str) -> str:
    """Make the address of a commit's page; blank where there is none."""
    is_known = header.server and is_full_sha(sha) and is_repository(header.source.repository)
    return f"{header.server}/{header.source.repository}/commit/{sha}" if is_known else ""


def link_to_run(header: Header) -> str:
    """Make the address of the page of the run on GitHub, with its log and artifacts; blank where there is none."""
    source = header.source
    is_known = header.server and is_repository(source.repository) and is_run_id(source.run_id)
    return f"{header.server}/{source.repository}/actions/runs/{source.run_id}" if is_known else ""
