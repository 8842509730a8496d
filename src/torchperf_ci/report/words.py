"""How numbers, verdicts and warnings read, the same in every drawing of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from torchperf_ci.core.frames import ACCURACY, LEAVES_COMPILER, Cell, SuiteTables
from torchperf_ci.core.records import METRICS, Environment, Metric
from torchperf_ci.core.text import count, one_line
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.summary import COMPILE_SECONDS_ABOVE, COMPRESSION_BELOW, SPEEDUP_BELOW, CompilerSummary, Flag

ABSENT = "–"
MOST_FIXED = 1e9
LONGEST_REASON = 120


def fixed(value: float, digits: int) -> str:
    """`1,234.50`; what is too large for that, as `1.23e+09`."""
    return f"{value:,.{digits}f}" if abs(value) < MOST_FIXED else f"{value:.3g}"


def ratio(value: float | None) -> str:
    """`1.23x`, or a dash."""
    return ABSENT if value is None else f"{fixed(value, 2)}x"


def seconds(value: float | None) -> str:
    return ABSENT if value is None else f"{fixed(value, 1)} s"


def whole(number: int) -> str:
    """A count, or a dash for 0."""
    return f"{number:,}" if number else ABSENT


def percent(line: CompilerSummary) -> str:
    """`85 %`, never rounded up to 100."""
    if not line.total:
        return ABSENT
    return f"{100 if line.passed == line.total else min(99, round(100 * line.passed / line.total))} %"


def metric_title(metric: str, own: Mapping[str, Metric] = METRICS) -> str:
    """The title of a metric that `own` defines; what nothing defines is called by its name."""
    if metric == ACCURACY:
        return "Accuracy"
    return own[metric].title if metric in own else metric


def own_names(tables: SuiteTables) -> list[str]:
    """The metrics of a suite that `METRICS` does not have, as other tools name them."""
    return [name for name in tables.metrics if name not in METRICS]


def metric_text(metric: str, cell: Cell, *, decimals: int = 2) -> str:
    """The number of a measured cell with its unit, or as many digits more where the title tells the unit."""
    if metric in METRICS and METRICS[metric].unit == "ratio":
        return f"{fixed(cell.value, decimals)}x"
    return f"{cell.value:.{decimals + 1}g}"


def change_text(metric: str, before: Cell | None, now: Cell | None, quote: Callable[[str], str]) -> str:
    """`1.50x → 0.80x`, with as many digits as it takes to see a change; statuses are quoted."""

    def seen(cell: Cell | None, decimals: int) -> str:
        if cell is None:
            return ABSENT
        return metric_text(metric, cell, decimals=decimals) if cell.measured else quote(cell.status)

    pairs = ((seen(before, decimals), seen(now, decimals)) for decimals in range(2, 7))
    first, *others = pairs
    return " → ".join(next((pair for pair in (first, *others) if pair[0] != pair[1]), first))


def flag_text(flag: Flag) -> str:
    """What is beyond which limit. For flags with a value."""
    value = flag.value or 0.0
    match flag.metric:
        case "speedup":
            return f"speedup {fixed(value, 3)}x, below {SPEEDUP_BELOW}x"
        case "compilation_latency":
            return f"compiling took {fixed(value, 0)} s, more than {COMPILE_SECONDS_ABOVE:.0f} s"
        case "compression_ratio":
            return f"memory compression {fixed(value, 3)}x, below {COMPRESSION_BELOW}x"
        case _:
            return flag.status


def verdict(findings: RunFindings, quote: Callable[[str], str] = one_line) -> tuple[str, str]:
    """A sign and the sentence that comes first. Text from outside in it goes through `quote`."""
    failed = findings.total - findings.passed
    remarks = [
        f"{findings.missing:,} of them without any result" if findings.missing else "",
        f"{findings.not_compiled:,} not compiled" if findings.not_compiled else "",
        f"{findings.regressed:,} worse than in the run before" if findings.regressed else "",
        f"{findings.left_out:,} left out" if findings.left_out and failed else "",
        f"{count(len(findings.problems), 'problem')} with the input" if findings.problems else "",
    ]
    tail = "".join(f", {remark}" for remark in remarks if remark)
    if failed:
        said = f"{failed:,} of {count(findings.total, 'case')} failed{tail}"
    elif findings.left_out:
        said = f"{_could_not_run(findings, quote)}{tail}"
    elif not findings.total:
        said = f"No case could be judged{tail}"
    else:
        said = f"{'The one case' if findings.total == 1 else f'All {findings.total:,} cases'} passed{tail}"
    return findings.outcome.sign, said


def _could_not_run(findings: RunFindings, quote: Callable[[str], str]) -> str:
    """How many models, or cases where other compilers ran them, could not run; and why, the commonest reason first."""
    left_out = [failure for failure in findings.failures if not failure.counts]
    reasons = Counter(failure.reason for failure in left_out if failure.reason)
    others = f" and {count(len(reasons) - 1, 'other reason')}" if len(reasons) > 1 else ""
    why = "".join(f": {quote(one_line(reason, limit=LONGEST_REASON))}{others}" for reason, _ in reasons.most_common(1))
    if all(failure.status != LEAVES_COMPILER for failure in left_out):
        number = len({(failure.section, failure.suite, failure.model) for failure in left_out})
        whole_number = count(sum(len(tables.models) for tables in findings.tables), "model")
    else:
        number, whole_number = len(left_out), count(findings.total + findings.left_out, "case")
    return f"{number:,} of {whole_number} could not run{why}"


def setting(findings: RunFindings) -> list[str]:
    """What the numbers come from: torch, machine, commit, time, as far as they are known."""
    source, build = findings.source, findings.build
    parts = [
        *(_machine(build.environment) if build else []),
        f"{source.repository} {source.commit[:12]}".strip(),
        source.time,
    ]
    return [part for part in parts if part]


def _machine(environment: Environment) -> list[str]:
    return [
        f"torch {environment.torch}" if environment.torch else "",
        f"{environment.gpu_count} × {environment.gpu}" if environment.gpu else "",
        f"{environment.cpu}, {count(environment.cpu_count, 'CPU')}" if environment.cpu else "",
    ]
