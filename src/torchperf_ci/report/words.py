"""Put numbers, verdicts and warnings into words, the same in every drawing of a report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from torchperf_ci.core.frames import ACCURACY, LEAVES_COMPILER, Cell, SuiteTables
from torchperf_ci.core.records import (
    AS_IT_IS,
    EXACT_COUNTS,
    INSTRUCTIONS,
    METRICS,
    Environment,
    Metric,
    Mode,
    Record,
    Status,
    Testing,
)
from torchperf_ci.core.statistics import median_interval
from torchperf_ci.core.text import ABSENT, count, format_digits, one_line
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.summary import (
    COMPILE_SECONDS_ABOVE,
    COMPRESSION_BELOW,
    SPEEDUP_BELOW,
    Benefit,
    CompilerSummary,
    Failure,
    Flag,
    Interval,
    read_interval,
    runs_dynamo,
)

MOST_FIXED = 1e9
LONGEST_REASON = 120
PLAIN_TITLES = {
    "speedup": "Speedup over eager",
    "abs_latency": "Latency, compiled (ms; lower is better)",
    "compilation_latency": "Compile time (s; lower is better)",
    "compression_ratio": "Peak-memory ratio, eager over compiled (higher is better)",
}
"""Where the titles of `METRICS`, which are PyTorch's, do not say enough."""
CLIPPED = "Slowdowns as 1x: a slower model counts as 1x, since eager can be used instead."
NO_INTERVALS = "No intervals: these results hold no raw times of pairs."


def format_number(value: float, digits: int) -> str:
    """`1,234.50`; what is too large for that, as `1.23e+09`."""
    return f"{value:,.{digits}f}" if abs(value) < MOST_FIXED else f"{value:.3g}"


def ratio(value: float | None) -> str:
    """`1.23x`, or a dash."""
    return ABSENT if value is None else f"{format_number(value, 2)}x"


def seconds(value: float | None) -> str:
    return ABSENT if value is None else f"{format_number(value, 1)} s"


def whole(number: int) -> str:
    """Write a count, or a dash for 0."""
    return f"{number:,}" if number else ABSENT


def format_pass_rate(line: CompilerSummary) -> str:
    """`85 %`, never rounded up to 100."""
    if not line.total:
        return ABSENT
    return f"{100 if line.passed == line.total else min(99, round(100 * line.passed / line.total))} %"


def metric_title(metric: str, own: Mapping[str, Metric] = METRICS) -> str:
    """Write the title of a metric that `own` defines; what nothing defines is called by its name."""
    if metric == ACCURACY:
        return "Accuracy"
    return own[metric].title if metric in own else metric


def plain_title(metric: str, tables: SuiteTables) -> str:
    """Write the title of one of `METRICS` where PyTorch's does not say enough; blank for others."""
    as_it_is = all(name == AS_IT_IS or (name == "eager" and not runs_dynamo(tables)) for name in tables.compilers)
    title = PLAIN_TITLES.get(metric, "")
    return title.replace("Latency, compiled", "Latency") if as_it_is else title


def write_title(metric: str, tables: SuiteTables) -> str:
    """Write the title of a metric in our own tables, with its unit and which way it gets better."""
    return plain_title(metric, tables) or metric_title(metric, tables.metrics)


RATES = ("throughput", "flops_per_second", "peak_share", "bytes_per_second", "energy", "recompile_seconds")
"""The metrics that are shown where they were measured, as those of a suite's own."""


def list_own_metrics(tables: SuiteTables) -> list[str]:
    """List the metrics of a suite that `METRICS` does not have, as the suite or another tool names them, and what is
    done in a second, where that is known."""
    rates = [name for name in RATES if tables.values[name].notna().any(axis=None)]
    return [*(name for name in tables.metrics if name not in METRICS), *rates]


def format_value(metric: str, value: float, record: Record | None = None) -> str:
    """Write a number of `list_own_metrics` in the unit of its title, with the interval of its median where there are
    readings."""
    scale = METRICS[metric].csv_scale if metric in METRICS else 1.0
    readings = record.samples.get(metric, ()) if record is not None and metric in record.own_metrics else ()
    ends = median_interval(readings) or ()
    text = _four_digits(value * scale)
    return f"{text} ({' to '.join(_four_digits(end * scale) for end in ends)})" if ends else text


def _four_digits(value: float) -> str:
    size = abs(value)
    if size and not 1e-3 <= size < 1e7:
        return f"{value:.4g}"
    return f"{value:,.{max(0, 3 - (math.floor(math.log10(size)) if size else 0))}f}"


def list_counted(tables: SuiteTables) -> list[str]:
    """List the metrics of a suite that were counted, not timed."""
    counts = (*EXACT_COUNTS, *INSTRUCTIONS)
    return [name for name in counts if name in tables.values and tables.values[name].notna().any(axis=None)]


def format_count(metric: str, value: float | None) -> str:
    """Write a count with all its digits, or a large one in millions; bytes in kB or MB; a dash for none."""
    if value is None:
        return ABSENT
    if METRICS[metric].unit == "bytes":
        return f"{value / 1e6:,.1f} MB" if value >= 1e6 else f"{value / 1e3:,.1f} kB"
    return f"{value:,.0f}" if value < 1e7 else f"{value / 1e6:,.2f} M"


def format_metric(metric: str, cell: Cell, *, decimals: int = 2) -> str:
    """Write the number of a measured cell with its unit, or as many digits more where the title tells the unit."""
    if metric in METRICS and METRICS[metric].unit == "ratio":
        return f"{format_number(cell.value, decimals)}x"
    return format_digits(cell.value, decimals + 1)


def change_text(metric: str, before: Cell | None, now: Cell | None, quote: Callable[[str], str]) -> str:
    """`1.50x → 0.80x`, with as many digits as it takes to see a change; statuses are quoted."""

    def seen(cell: Cell | None, decimals: int) -> str:
        if cell is None:
            return ABSENT
        return format_metric(metric, cell, decimals=decimals) if cell.measured else quote(cell.status)

    pairs = ((seen(before, decimals), seen(now, decimals)) for decimals in range(2, 7))
    first, *others = pairs
    return " → ".join(next((pair for pair in (first, *others) if pair[0] != pair[1]), first))


def describe_flag(flag: Flag) -> str:
    """Say what is beyond which limit. For flags with a value."""
    value = flag.value or 0.0
    match flag.metric:
        case "speedup":
            return f"speedup {format_number(value, 3)}x{format_interval(flag.interval)}, below {SPEEDUP_BELOW}x"
        case "compilation_latency":
            return f"compiling took {format_number(value, 0)} s, more than {COMPILE_SECONDS_ABOVE:.0f} s"
        case "compression_ratio":
            return f"peak-memory ratio {format_number(value, 3)}x, below {COMPRESSION_BELOW}x"
        case _:
            return flag.status


def verdict(
    findings: RunFindings, quote: Callable[[str], str] = one_line, *, cut_reasons: bool = True
) -> tuple[str, str]:
    """Write a sign and the sentence that comes first, what is bad first. Text from outside goes through `quote`.

    cut_reasons: a reason too long for a headline is cut; without it, it is left out, because it is listed elsewhere.
    """
    failed = [failure for failure in findings.failures if failure.counts]
    not_run = [failure for failure in findings.failures if not failure.counts]
    parts = []
    if failed:
        statuses = Counter(failure.status for failure in failed)
        several = len(statuses) > 1
        kinds = ", ".join(f"{number:,} {quote(s)}" if several else quote(s) for s, number in statuses.most_common())
        parts.append(f"{len(failed):,} of {count(findings.total, 'case')} failed: {kinds}")
    if not_run:
        # Whole models, but for a compiler that is not here: of it cases, since other compilers ran the models.
        if all(failure.status != LEAVES_COMPILER for failure in not_run):
            number = len({(failure.section, failure.suite, failure.model) for failure in not_run})
            of_all = count(sum(len(tables.models) for tables in findings.tables), "model")
        else:
            number, of_all = len(not_run), count(findings.total + findings.left_out, "case")
        parts.append(f"{number:,} of {of_all} could not run{_name_reason(not_run, quote, cut=cut_reasons)}")
    if not failed and not not_run:
        parts.append(f"{count(findings.passed, 'case')} passed" if findings.total else "No case could be judged")
    parts += [
        f"{findings.not_compiled:,} not compiled" if findings.not_compiled else "",
        f"{findings.regressed:,} worse than in earlier runs" if findings.regressed else "",
        f"{count(len(findings.problems), 'problem')} with the input" if findings.problems else "",
    ]
    return findings.outcome.sign, "; ".join(part for part in parts if part)


def _name_reason(failures: Sequence[Failure], quote: Callable[[str], str], *, cut: bool) -> str:
    """Name the commonest reason, and say how many others there are."""
    reasons = Counter(failure.reason for failure in failures if failure.reason)
    if not reasons:
        return ""
    ((reason, _),) = reasons.most_common(1)
    if not cut and len(reason) > LONGEST_REASON:
        return ""
    others = f" and {count(len(reasons) - 1, 'other reason')}" if len(reasons) > 1 else ""
    return f": {quote(one_line(reason, limit=LONGEST_REASON))}{others}"


def describe_benefit(benefit: Benefit) -> str:
    """Write what a compiler brings: `1.18x (1.16 to 1.20) on 3 models; saves 0.4 ms per call; …`."""
    interval, saved = benefit.interval, benefit.saved_ms
    text = f"{format_speedup(benefit.speedup, interval)} on {count(benefit.models, 'model')}"
    call = "iteration" if benefit.section.mode is Mode.TRAINING else "call"
    if interval is not None and interval[0] <= 1 <= interval[1]:
        return f"{text}; no difference that can be measured"
    if not saved or abs(benefit.speedup - 1) < 0.005:
        return text
    if saved < 0 < benefit.speedup - 1:
        return f"{text}; together they take no less time: those that are slower take longer"
    text += f"; {'saves' if saved > 0 else 'costs'} {_milliseconds(abs(saved))} per {call}"
    if benefit.compiler == "eager":  # PyTorch's name for dynamo with a backend that compiles nothing
        return f"{text}, which is dynamo's own: this backend compiles nothing"
    if benefit.calls_to_pay_off is not None and benefit.compile_seconds:
        calls = count(_two_digits(benefit.calls_to_pay_off), call)
        return f"{text}; {_seconds(benefit.compile_seconds)} of compiling pay off after {calls}"
    if saved < 0 and benefit.compile_seconds:
        return f"{text}; {_seconds(benefit.compile_seconds)} of compiling never pay off"
    return text


def describe_latency(record: Record) -> str:
    """Write the latency of what has no speedup: `0.15 ms (0.14 ms to 0.16 ms)`; its status where there is none."""
    metrics = record.metrics
    if "abs_latency" not in metrics:
        return one_line(record.status.value)
    low, high = metrics.get("abs_latency_low"), metrics.get("abs_latency_high")
    interval = f" ({_milliseconds(low)} to {_milliseconds(high)})" if low and high else ""
    return f"{_milliseconds(metrics['abs_latency'])}{interval}"


def answer_for_one(records: Sequence[Record], target: str) -> tuple[str, str]:
    """Answer for one case whether its compiler helps: a sign, and a sentence with the speedup and its interval, the
    time that a call saves, the compile time, and the calls after which it pays off."""
    failed = next((record for record in records if not record.status.is_pass), None)
    performance = next((record for record in records if record.testing is Testing.PERFORMANCE), None)
    if failed is not None and failed.status is Status.FAIL_ACCURACY:
        return "❌", f"No: compiled, {target} gives wrong results: {failed.reason}."
    if failed is not None or performance is None or "abs_latency" not in performance.metrics:
        reason = failed.reason or failed.status.value if failed else "it was not measured"
        return "⚠️", f"{target} could not be measured: {reason}{'' if reason.endswith(('.', '?')) else '.'}"
    metrics, compiler = performance.metrics, performance.case.compiler
    if "speedup" not in metrics:
        return "✅", f"A call of {target} takes {describe_latency(performance)}."
    if performance.not_compiled:
        why = next((remark for remark in performance.remarks if "nothing was compiled" in remark), "")
        return "⚠️", f"No: torch.compile does not compile {target}, which runs uncompiled{f' ({why})' if why else ''}."
    speedup, span = metrics["speedup"], read_interval(performance)
    # Of the time before, which is told: medians of both differ from the middle of the ratios where the machine is busy.
    saved, seconds = metrics["eager_latency"] * (1 - 1 / speedup), metrics["compilation_latency"]
    times = f"{format_speedup(speedup, span)}, {_milliseconds(metrics['eager_latency'])} per call before"
    compiling = f"{_seconds(seconds)} of compiling"
    subject = f"torch.compile ({compiler})"
    if span is None or span[0] <= 1 <= span[1]:
        return "⚠️", f"Not that it can be measured: {subject} makes {target} {times}; {compiling}."
    if speedup < 1:
        return "❌", (
            f"No: {subject} makes {target} slower: {times}; it costs {_milliseconds(-saved)} per call, and {compiling} "
            "never pay off."
        )
    calls = count(_two_digits(max(1, 1000 * seconds / saved)), "call")
    return "✅", (
        f"Yes: {subject} makes {target} faster: {times}; it saves {_milliseconds(saved)} per call, and {compiling} pay "
        f"off after {calls}."
    )


def format_speedup(value: float, interval: Interval | None) -> str:
    """Write a ratio with its interval: `1.18x (1.16 to 1.20)`; `1.18x (no interval)` where there is none."""
    return f"{format_number(value, 2)}x{format_interval(interval) or ' (no interval)'}"


def describe_means(lines: Sequence[CompilerSummary]) -> str:
    """Write what stands under a summary: what its means are, and whether they have intervals."""
    return f"{CLIPPED} {'Intervals: 95 %.' if any(line.interval for line in lines) else NO_INTERVALS}"


def format_interval(interval: Interval | None) -> str:
    """Write an interval behind its number, ` (1.16 to 1.20)`; a blank where there is none."""
    return f" ({format_number(interval[0], 2)} to {format_number(interval[1], 2)})" if interval else ""


def has_intervals(tables: SuiteTables) -> bool:
    """Say whether any speedup of a suite has an interval."""
    return any(read_interval(record) is not None for record in tables.records.values())


def _milliseconds(value: float) -> str:
    for unit, scale in (("s", 1e-3), ("ms", 1.0)):
        if value * scale >= (1 if unit == "s" else 0.1):
            return f"{_short(value * scale)} {unit}"
    return f"{_short(1000 * value)} µs"


def _seconds(value: float) -> str:
    return f"{_short(value)} s"


def _short(value: float) -> str:
    """Write a positive number with two digits that mean something, and never with an exponent."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else format_digits(value, 2)


def _two_digits(value: float) -> int:
    """Round a count up to two digits that mean something."""
    unit = 10 ** max(0, math.floor(math.log10(value)) - 1) if value >= 1 else 1
    return math.ceil(value / unit) * unit


def describe_setting(findings: RunFindings) -> list[str]:
    """Say what the numbers come from: torch, machine, commit, time, as far as they are known."""
    source, build = findings.source, findings.build
    parts = [
        *(_machine(build.environment) if build else []),
        f"{source.repository} {source.commit[:12]}".strip(),
        source.time,
    ]
    return [part for part in parts if part]


def _machine(environment: Environment) -> list[str]:
    gpus, cpus = environment.gpu_count, environment.cpu_count  # 0: it is not known, as in files of other tools
    return [
        f"torch {environment.torch}" if environment.torch else "",
        f"{gpus} × {environment.gpu}" if gpus and environment.gpu else environment.gpu,
        f"{environment.cpu}, {count(cpus, 'CPU')}" if cpus and environment.cpu else environment.cpu,
    ]
