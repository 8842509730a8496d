"""A run's rows held against an expectation table: one verdict per model and kind of check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType

from torchperf_ci.core.csv_files import finite, integer
from torchperf_ci.core.records import COUNTERS, METRICS, Direction, Status
from torchperf_ci.expectations.flaky import Kind
from torchperf_ci.expectations.rows import PERFORMANCE
from torchperf_ci.expectations.table import ACCURACY, GRAPH_BREAKS, NAME, Table

FEWER_IS_BETTER = (GRAPH_BREAKS, "fallbacks_to_eager", "unique_graph_breaks", "cudagraph_skips", "recompiles")
"""Counters of which more is a failure and fewer an improvement."""

MORE_IS_BETTER = ("calls_captured", "unique_graphs", "autograd_captures", "autograd_compiles")
"""Counters of which fewer is a failure: less of the model was compiled. More is an improvement."""

SCALE = 0.95
"""How much of the expected value performance and memory must reach."""

COLUMN_OF: Mapping[Kind, str] = {
    Kind.ACCURACY: ACCURACY,
    Kind.GRAPH_BREAKS: GRAPH_BREAKS,
    Kind.PERFORMANCE: "",
    Kind.MEMORY: "compression_ratio",
}
"""The column that a kind of check is most about; blank for the metric that was chosen."""

Row = Mapping[str, str]


class Outcome(str, Enum):
    """How a model stands against its expectation."""

    PASS = "PASS"
    XFAIL = "XFAIL"
    FAIL = "FAIL"
    IMPROVED = "IMPROVED"
    PASS_BUT_FLAKY = "PASS_BUT_FLAKY"
    FAIL_BUT_FLAKY = "FAIL_BUT_FLAKY"
    EAGER_FAILED = "EAGER_FAILED"
    """The compiler was never called, and the accuracy says why: nothing to compare."""
    MISSING = "MISSING"
    """The table has the model, the run does not."""
    MISSING_ACTUAL = "MISSING_ACTUAL"
    MISSING_ACCURACY = "MISSING_ACCURACY"
    MISSING_EXPECTED = "MISSING_EXPECTED"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What fails, and how much a number may differ.

    strict: improvements fail too (the expectation is to be updated); None: for accuracy and graph breaks only.
    allow_missing: models that only the table has do not fail (the run is a shard, say).
    metric: `speedup` or `abs_latency`, for performance. scale: how much of the expected value must be reached.
    """

    strict: bool | None = None
    allow_missing: bool = False
    metric: str = "speedup"
    scale: float = SCALE

    def is_strict(self, kind: Kind) -> bool:
        return kind in {Kind.ACCURACY, Kind.GRAPH_BREAKS} if self.strict is None else self.strict


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The verdict on one model. `detail` is what was compared, blank where there is nothing to say."""

    name: str
    outcome: Outcome
    fails: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One kind of check over one table."""

    kind: Kind
    table: str
    lines: tuple[Line, ...]

    @property
    def failed(self) -> tuple[Line, ...]:
        """The lines that fail, improvements included where they do."""
        return tuple(line for line in self.lines if line.fails)

    @property
    def improved(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.outcome is Outcome.IMPROVED)

    @property
    def compared(self) -> bool:
        """Was anything compared at all?"""
        return bool(self.lines)


def columns_of(kind: Kind, rules: Rules, expected: Table) -> tuple[str, ...]:
    """The columns of a table that a kind of check reads.

    Numbers that nobody knows are compared as well: whole ones must be the same, others may differ by the scale.
    """
    others = [column for column in expected.columns if column not in {NAME, ACCURACY, PERFORMANCE, *COUNTERS, *METRICS}]
    wanted: tuple[str, ...]
    match kind:
        case Kind.ACCURACY:
            wanted = (ACCURACY,)
        case Kind.GRAPH_BREAKS:
            whole = [column for column in others if _is_whole(expected, column)]
            wanted = (*FEWER_IS_BETTER, *MORE_IS_BETTER, *whole)
        case Kind.PERFORMANCE:
            numbers = [c for c in others if not _is_whole(expected, c) and _is_number(expected, c)]
            wanted = (PERFORMANCE, rules.metric, *numbers)
        case Kind.MEMORY:
            wanted = ("compression_ratio",)
    return tuple(column for column in dict.fromkeys(wanted) if column in expected.columns)


def is_judged(kind: Kind, rules: Rules, actual: Table, expected: Table) -> bool:
    """Is there something that a kind of check can look at? Whether performance ran is asked without any column."""
    return bool(columns_of(kind, rules, expected)) or (kind is Kind.PERFORMANCE and PERFORMANCE in actual.columns)


def check(
    kind: Kind,
    actual: Table,
    expected: Table,
    *,
    table: str,
    flaky: Mapping[str, str],
    rules: Rules,
    broken: Mapping[str, str] = MappingProxyType({}),
) -> Checked:
    """Every model of the run, then those that only the table has.

    flaky: the models that pass either way, with the reason. table: how the table is called. broken: the models that
    cannot be judged, with the reason; they fail.
    """
    judge = _judge(kind, rules, actual, expected)
    now, then = actual.by_name(), expected.by_name()
    lines = [judge(name, now[name], then.get(name)) for name in now if name not in broken]
    lines += [
        Line(name=name, outcome=Outcome.MISSING, fails=not rules.allow_missing, detail="the run has no such model")
        for name in then
        if name not in now and name not in broken
    ]
    strict = rules.is_strict(kind)
    settled = [_settled(line, flaky, strict=strict) for line in lines]
    unjudged = [Line(name=name, outcome=Outcome.FAIL, fails=True, detail=why) for name, why in broken.items()]
    return Checked(kind=kind, table=table, lines=(*settled, *unjudged))


def unjudged_columns(
    kinds: Iterable[Kind], rules: Rules, actual: Table, expected: Table
) -> tuple[list[str], list[str]]:
    """What the run has and the table does not ask for, of the columns that checks are about; and the columns of the
    table that no check reads."""
    asked = {kind: column or rules.metric for kind, column in COLUMN_OF.items()}
    read = {column for kind in kinds for column in columns_of(kind, rules, expected)}
    uncovered = [c for kind, c in asked.items() if kind in kinds and c in actual.columns and c not in expected.columns]
    unread = [c for c in expected.columns if c != NAME and c not in read and _is_number(expected, c)]
    return uncovered, unread


def _is_whole(table: Table, column: str) -> bool:
    cells = _filled(table, column)
    return bool(cells) and all(integer(cell) is not None for cell in cells)


def _is_number(table: Table, column: str) -> bool:
    cells = _filled(table, column)
    return bool(cells) and all(finite(cell) is not None for cell in cells)


def _filled(table: Table, column: str) -> list[str]:
    at = table.columns.index(column)
    return [row[at] for row in table.rows if row[at]]


def _settled(line: Line, flaky: Mapping[str, str], *, strict: bool) -> Line:
    """The line with flakiness and strictness applied."""
    if line.outcome in {Outcome.FAIL, Outcome.IMPROVED} and line.name in flaky:
        outcome = Outcome.FAIL_BUT_FLAKY if line.outcome is Outcome.FAIL else Outcome.PASS_BUT_FLAKY
        return replace(line, outcome=outcome, fails=False, detail=f"{line.detail}, flaky: {flaky[line.name]}")
    if line.outcome is Outcome.IMPROVED:
        return replace(line, fails=strict)
    return line


def _judge(kind: Kind, rules: Rules, actual: Table, expected: Table) -> Callable[[str, Row, Row | None], Line]:
    strict = rules.is_strict(kind)
    match kind:
        case Kind.ACCURACY:
            return _accuracy
        case Kind.GRAPH_BREAKS:
            known = {*FEWER_IS_BETTER, *MORE_IS_BETTER, *actual.columns}
            counted = [column for column in columns_of(kind, rules, expected) if column in known]
            return _counters_judge(counted)
        case Kind.PERFORMANCE:
            unknown = [c for c in columns_of(kind, rules, expected) if c not in {PERFORMANCE, rules.metric}]
            return _performance_judge(
                rules,
                [column for column in unknown if column in actual.columns],
                has_metric=rules.metric in expected.columns,
                has_rows=PERFORMANCE in actual.columns,
                strict=strict,
            )
        case Kind.MEMORY:
            return _number_judge("compression_ratio", rules.scale, strict=strict)


def _accuracy(name: str, actual: Row, expected: Row | None) -> Line:
    now, then = actual.get(ACCURACY, ""), expected.get(ACCURACY, "") if expected is not None else ""
    detail = f"accuracy={now or None}, expected={then or None}"
    if not now:
        return Line(name=name, outcome=Outcome.MISSING_ACCURACY, fails=True, detail=detail)
    if not then:
        return Line(name=name, outcome=Outcome.MISSING_EXPECTED, fails=True, detail=detail)
    if now == then:
        return Line(name=name, outcome=Outcome.PASS if then == Status.PASS.value else Outcome.XFAIL, fails=False)
    if now == Status.PASS.value:
        return Line(name=name, outcome=Outcome.IMPROVED, fails=True, detail=detail)
    return Line(name=name, outcome=Outcome.FAIL, fails=True, detail=detail)


def _counters_judge(columns: Sequence[str]) -> Callable[[str, Row, Row | None], Line]:
    def judge(name: str, actual: Row, expected: Row | None) -> Line:
        if expected is None:
            now = actual.get(GRAPH_BREAKS)
            detail = f"{GRAPH_BREAKS}={now}, expected=None"
            return Line(name=name, outcome=Outcome.MISSING_EXPECTED, fails=True, detail=detail)
        if _never_compiled(actual):
            detail = f"accuracy={actual.get(ACCURACY)}"
            return Line(name=name, outcome=Outcome.EAGER_FAILED, fails=False, detail=detail)
        outcomes = {column: _counter(column, actual, expected) for column in columns}
        worst = next((outcome for outcome in _WORST_FIRST if outcome in outcomes.values()), Outcome.PASS)
        detail = "; ".join(
            f"{column}={actual.get(column)}, expected={expected.get(column)}"
            for column, outcome in outcomes.items()
            if outcome is not Outcome.PASS
        )
        return Line(name=name, outcome=worst, fails=worst is not Outcome.PASS, detail=detail)

    return judge


_WORST_FIRST = (Outcome.MISSING_ACTUAL, Outcome.FAIL, Outcome.IMPROVED)


def _never_compiled(actual: Row) -> bool:
    """No graph at all, and the accuracy tells why. A model that passes without a graph is judged: it lost them."""
    return actual.get("unique_graphs") == "0" and actual.get(ACCURACY) != Status.PASS.value


def _counter(column: str, actual: Row, expected: Row) -> Outcome:
    then = integer(expected.get(column, ""))
    if then is None:
        return Outcome.PASS  # the table says nothing about it
    now = integer(actual.get(column, ""))
    if now is None:
        return Outcome.MISSING_ACTUAL
    if now == then:
        return Outcome.PASS
    improves = now < then if column in FEWER_IS_BETTER else now > then and column in MORE_IS_BETTER
    return Outcome.IMPROVED if improves else Outcome.FAIL


def _performance_judge(
    rules: Rules, unknown: Sequence[str], *, has_metric: bool, has_rows: bool, strict: bool
) -> Callable[[str, Row, Row | None], Line]:
    """The judge of whether a model's performance ran, and then of its numbers."""
    by_metric = _number_judge(rules.metric, rules.scale, strict=strict)

    def judge(name: str, actual: Row, expected: Row | None) -> Line:
        row, then = actual.get(PERFORMANCE, ""), expected or {}
        if row and not _passes(row):
            known = then.get(PERFORMANCE) == row or _explains(actual.get(ACCURACY, ""), then.get(ACCURACY, ""))
            detail = f"{PERFORMANCE}={row}, expected={then.get(PERFORMANCE) or Status.PASS.value}"
            return Line(
                name=name,
                outcome=Outcome.XFAIL if known else Outcome.FAIL,
                fails=not known,
                detail="" if known else detail,
            )
        if has_rows and not row and _passes(actual.get(ACCURACY, "")) and _passes(then.get(ACCURACY, "")):
            detail = f"{PERFORMANCE}=None: the model has no row of performance"
            return Line(name=name, outcome=Outcome.MISSING_ACTUAL, fails=True, detail=detail)
        if row and then.get(PERFORMANCE) and not _passes(then[PERFORMANCE]):
            detail = f"{PERFORMANCE}={row}, expected={then[PERFORMANCE]}"
            return Line(name=name, outcome=Outcome.IMPROVED, fails=strict, detail=detail)
        if differing := [text for column in unknown if (text := _differs(column, actual, then, rules.scale))]:
            return Line(name=name, outcome=Outcome.FAIL, fails=True, detail="; ".join(differing))
        return by_metric(name, actual, expected) if has_metric else Line(name=name, outcome=Outcome.PASS, fails=False)

    return judge


def _passes(word: str) -> bool:
    return word in {Status.PASS.value, Status.PASS_DUE_TO_SKIP.value}


def _explains(now: str, then: str) -> bool:
    """Is it expected that the model does not run? Wrong results are no reason for a missing time."""
    return now == then and bool(then) and not _passes(then) and then != Status.FAIL_ACCURACY.value


def _differs(column: str, actual: Row, expected: Row, scale: float) -> str:
    """How a number that nobody knows differs by more than the scale, either way; empty when it does not."""
    now, then = finite(actual.get(column, "")), finite(expected.get(column, ""))
    if then is None:
        return ""
    low, high = sorted((then * scale, then / scale))
    return "" if now is not None and low <= now <= high else f"{column}={_shown(now)}, expected={_shown(then)}"


def _number_judge(metric: str, scale: float, *, strict: bool) -> Callable[[str, Row, Row | None], Line]:
    """The judge of a number that is better in the direction of its metric. A model without an expected value fails
    only when strict: such tables need not have every model."""
    lower_is_better = METRICS[metric].direction is Direction.LOWER

    def judge(name: str, actual: Row, expected: Row | None) -> Line:
        now, then = finite(actual.get(metric, "")), finite((expected or {}).get(metric, ""))
        if then is None:
            detail = f"{metric}={_shown(now)}, expected=None"
            return Line(name=name, outcome=Outcome.MISSING_EXPECTED, fails=strict, detail=detail)
        if now is None:
            detail = f"{metric}=None, expected={_shown(then)}"
            return Line(name=name, outcome=Outcome.MISSING_ACTUAL, fails=True, detail=detail)
        outcome = _against(now, then, scale, lower_is_better=lower_is_better, strict=strict)
        detail = f"{metric}={_shown(now)}, expected={_shown(then)}"
        return Line(name=name, outcome=outcome, fails=outcome is Outcome.FAIL, detail=detail)

    return judge


def _against(now: float, then: float, scale: float, *, lower_is_better: bool, strict: bool) -> Outcome:
    """Higher is better: at least `then · scale`. Lower is better: at most the larger of `then · scale` and
    `then / scale`. Beyond the other one of the two it is an improvement.

    When strict the two are a range, whichever is the larger, as with `--fail-on-improvement` of PyTorch's
    check_perf_csv.py: a scale of 1.1 is one of 1 / 1.1.
    """
    low, high = sorted((then * scale, then / scale))
    if lower_is_better:
        return Outcome.FAIL if now > high else Outcome.IMPROVED if now < low else Outcome.PASS
    least = low if strict else then * scale
    return Outcome.FAIL if now < least else Outcome.IMPROVED if now > high and (strict or scale <= 1) else Outcome.PASS


def _shown(value: float | None) -> str:
    return "None" if value is None else f"{value:.3f}"


def failed_names(checks: Iterable[Checked], kind: Kind) -> tuple[str, ...]:
    """The models that fail a kind of check, improvements aside, in order and once each."""
    lines = [line for checked in checks if checked.kind is kind for line in checked.failed]
    return tuple(dict.fromkeys(line.name for line in lines if line.outcome is not Outcome.IMPROVED))
