"""How a comparison reads: the verdict sentence, changes, quantities, and the course of a case's rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from torchperf_ci.compare.effects import Comparison, Launch, Verdict
from torchperf_ci.compare.tolerances import ACCURACY, LATENCY, SPEEDUP, Tolerances
from torchperf_ci.core.records import METRICS, Case
from torchperf_ci.core.text import ABSENT, count, one_line

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
    Verdict.UNCHANGED: "▫️",
}
ORDER = tuple(SIGNS)
"""Verdicts, the most urgent first."""

TIMED = (LATENCY, SPEEDUP)
"""The metrics a case's own verdict is made of."""

BLOCKS = "▁▂▃▄▅▆▇█"
"""What a sparkline is drawn with, low to high, and spaces between launches."""

Quote = Callable[[str], str]


def by_case(comparisons: Sequence[Comparison]) -> dict[Case, Comparison]:
    """Every case's own verdict: the most urgent one of its times."""
    found: dict[Case, Comparison] = {}
    for comparison in comparisons:
        if comparison.metric in TIMED and _urgency(comparison) < _urgency(found.get(comparison.case)):
            found[comparison.case] = comparison
    return found


def _urgency(comparison: Comparison | None) -> int:
    return len(ORDER) if comparison is None else ORDER.index(comparison.verdict)


def sentence(
    comparisons: Sequence[Comparison],
    tolerances: Tolerances,
    quote: Quote = one_line,
    *,
    unmeasured: int = 0,
    not_compiled: int = 0,
) -> str:
    """The verdict in words: how many cases are slower and which, and what is known of the others."""
    left = [f"{not_compiled} not compiled"] if not_compiled else []
    left += [f"{unmeasured} not measured"] if unmeasured else []
    return "; ".join([*_parts(comparisons, tolerances, quote), *left]) + "."


def _parts(comparisons: Sequence[Comparison], tolerances: Tolerances, quote: Quote) -> Iterator[str]:
    cases = list(by_case(comparisons).values())
    number = Counter(c.verdict for c in cases)
    yield _slower([c for c in cases if c.verdict is Verdict.REGRESSED], len(cases), quote)
    bad = [c for c in comparisons if c.verdict in {Verdict.FAILED, Verdict.MISSING}]
    if bad:
        yield f"{count(len(bad), 'case')} failed or went missing: {_names(bad, quote)}"
    worse = [c for c in comparisons if c.metric not in TIMED and c.verdict is Verdict.REGRESSED]
    if worse:
        yield f"{count(len(worse), 'other metric')} got worse: {_names(worse, quote)}"
    if number[Verdict.IMPROVED]:
        yield f"{number[Verdict.IMPROVED]} faster"
    if number[Verdict.UNCHANGED]:
        yield f"{number[Verdict.UNCHANGED]} unchanged within {percent(tolerances.latency.threshold)}"
    if number[Verdict.INCONCLUSIVE]:
        yield f"{number[Verdict.INCONCLUSIVE]} inconclusive{_more_time(cases)}"
    neither = sum(c.fails_on_both for c in cases)
    refused = [c for c in comparisons if c.metric == ACCURACY and c.verdict is Verdict.REFUSED]
    wrong = sum(c.fails_on_both for c in refused)
    others = {
        "fixed": number[Verdict.FIXED],
        "new": number[Verdict.NEW],
        "run on neither side" if neither > 1 else "runs on neither side": neither,
        "refused": number[Verdict.REFUSED] - neither,
        "wrong on both sides": wrong,
        "whose accuracy could not be judged": len(refused) - wrong,
        "skipped": number[Verdict.SKIPPED],
    }
    yield from (f"{cases_with_it} {words}" for words, cases_with_it in others.items() if cases_with_it)


def _slower(slower: Sequence[Comparison], total: int, quote: Quote) -> str:
    if not slower:
        return "The one case is not slower" if total == 1 else f"None of {count(total, 'case')} is slower"
    worst = sorted(slower, key=lambda c: abs((c.ratio or 1) - 1), reverse=True)
    verb = "is" if len(slower) == 1 else "are"
    return f"{len(slower)} of {count(total, 'case')} {verb} slower: {_names(worst, quote)}"


def _names(comparisons: Sequence[Comparison], quote: Quote, most: int = 3) -> str:
    shown = [_named(comparison, quote) for comparison in comparisons[:most]]
    hidden = len(comparisons) - most
    return ", ".join(shown) + (f" and {hidden} more" if hidden > 0 else "")


def _named(comparison: Comparison, quote: Quote) -> str:
    metric = "" if comparison.metric == LATENCY else f"{comparison.metric} "
    told = f"{metric}{change(comparison.ratio)}" if comparison.ratio else metric.strip()
    return quote(name(comparison.case)) + (f" ({told})" if told else "")


def _more_time(comparisons: Sequence[Comparison]) -> str:
    needed = sum(c.more_seconds for c in comparisons if c.more_seconds is not None)
    return f", would need about {max(1, round(needed))} s more" if 0 < needed < 36_000 else ""


def name(case: Case) -> str:
    """The short name of a case: what tells it from the others of most comparisons."""
    return one_line(f"{case.suite}/{case.model} {case.compiler}")


def change(ratio: float | None) -> str:
    """`+3.1 %`: how much more head has."""
    return ABSENT if ratio is None else f"{round(ratio - 1, 3) + 0.0:+.1%}".replace("%", " %")


def interval(comparison: Comparison) -> str:
    """`+1.0 % to +3.0 %`, or a dash."""
    if comparison.low is None or comparison.high is None:
        return ABSENT
    return f"{change(comparison.low)} to {change(comparison.high)}"


def percent(share: float) -> str:
    """`5 %`, `2.5 %`."""
    return f"{100 * share:.3g} %"


def quantity(metric: str, value: float | None) -> str:
    """A value with its unit."""
    if value is None:
        return ABSENT
    unit = METRICS[metric].unit if metric in METRICS else ""
    match unit:
        case "bytes":
            return f"{value / 1e6:,.1f} MB"
        case "ratio":
            return f"{value:.3g}x"
        case _:
            return f"{value:.4g} {unit}".strip()


def why(comparison: Comparison) -> str:
    """What there is to say beside the numbers, in one line."""
    parts = [comparison.why]
    if comparison.more_launches:
        parts.append(f"about {count(comparison.more_launches, 'launch pair')} more would decide")
    if comparison.verdict is Verdict.REGRESSED and comparison.listed and not comparison.blocks:
        parts.append("listed, but not surely enough among so many to block")
    if comparison.confirmed:
        parts.append("seen twice")
    return one_line("; ".join(part for part in parts if part))


def is_change(comparison: Comparison) -> bool:
    """Whether it belongs into the table of what changed: times that are open do, other metrics that are open do not."""
    if comparison.verdict is Verdict.INCONCLUSIVE:
        return comparison.metric in TIMED or comparison.confirmed is False
    return comparison.verdict is not Verdict.UNCHANGED or (comparison.metric == ACCURACY and bool(comparison.why))


def ordered(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The most urgent first, times before other metrics, then the largest change."""

    def rank(c: Comparison) -> tuple[int, bool, float, Case, str]:
        return ORDER.index(c.verdict), c.metric not in TIMED, -abs((c.ratio or 1) - 1), c.case, c.metric

    return sorted(comparisons, key=rank)


def sparkline(launches: Sequence[Launch], *, rounds: int = 12) -> str:
    """The ratio head / base over time as blocks, a group per launch: high blocks are slow heads."""
    groups = []
    for launch in launches:
        logs = launch.log_ratios
        size = max(1, -(-len(logs) // rounds))
        groups.append([median(logs[start : start + size]) for start in range(0, len(logs), size)])
    values = [value for group in groups for value in group]
    if not values:
        return ""
    low, high = min(*values, -0.02), max(*values, 0.02)
    return " ".join("".join(BLOCKS[min(7, int(8 * (v - low) / (high - low)))] for v in group) for group in groups)
