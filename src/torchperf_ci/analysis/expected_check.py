"""A run's rows held against an expectation table: one verdict per model and kind of check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from torchperf_ci.analysis.expected import ACCURACY, Table
from torchperf_ci.analysis.expected_flaky import Kind
from torchperf_ci.analysis.expected_rows import GRAPH_BREAKS, integer, number
from torchperf_ci.records import METRICS, Direction, Status

FEWER_IS_BETTER = (GRAPH_BREAKS, "fallbacks_to_eager", "recompiles")
"""Counters that must be exactly as expected: more is a failure, fewer an improvement."""

CALLS_CAPTURED = "calls_captured"
CALLS_TOLERANCE = 0.05
"""How far, relative to the expectation, `calls_captured` may drop; a larger rise is an improvement."""

SCALE = 0.95
"""How much of the expected value performance and memory must reach."""

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


def columns_of(kind: Kind, rules: Rules) -> tuple[str, ...]:
    """The columns of a table that a kind of check reads; without any of them there is nothing to compare."""
    match kind:
        case Kind.ACCURACY:
            return (ACCURACY,)
        case Kind.GRAPH_BREAKS:
            return (*FEWER_IS_BETTER, CALLS_CAPTURED)
        case Kind.PERFORMANCE:
            return (rules.metric,)
        case Kind.MEMORY:
            return ("compression_ratio",)


def check(kind: Kind, actual: Table, expected: Table, *, table: str, flaky: Mapping[str, str], rules: Rules) -> Checked:
    """Every model of the run, then those that only the table has.

    flaky: the models that pass either way, with the reason. table: how the table is called.
    """
    judge = _judge(kind, rules)
    now, then = actual.by_name(), expected.by_name()
    lines = [judge(name, now[name], then.get(name)) for name in now]
    lines += [
        Line(name=name, outcome=Outcome.MISSING, fails=not rules.allow_missing, detail="the run has no such model")
        for name in then
        if name not in now
    ]
    strict = rules.is_strict(kind)
    return Checked(kind=kind, table=table, lines=tuple(_settled(line, flaky, strict=strict) for line in lines))


def _settled(line: Line, flaky: Mapping[str, str], *, strict: bool) -> Line:
    """The line with flakiness and strictness applied."""
    if line.outcome in {Outcome.FAIL, Outcome.IMPROVED} and line.name in flaky:
        outcome = Outcome.FAIL_BUT_FLAKY if line.outcome is Outcome.FAIL else Outcome.PASS_BUT_FLAKY
        return replace(line, outcome=outcome, fails=False, detail=f"{line.detail}, flaky: {flaky[line.name]}")
    if line.outcome is Outcome.IMPROVED:
        return replace(line, fails=strict)
    return line


def _judge(kind: Kind, rules: Rules) -> Callable[[str, Row, Row | None], Line]:
    match kind:
        case Kind.ACCURACY:
            return _accuracy
        case Kind.GRAPH_BREAKS:
            return _graph_breaks
        case Kind.PERFORMANCE:
            return _number_judge(rules.metric, rules.scale, strict=rules.is_strict(kind))
        case Kind.MEMORY:
            return _number_judge("compression_ratio", rules.scale, strict=rules.is_strict(kind))


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


def _graph_breaks(name: str, actual: Row, expected: Row | None) -> Line:
    if expected is None:
        now = actual.get(GRAPH_BREAKS)
        return Line(
            name=name, outcome=Outcome.MISSING_EXPECTED, fails=True, detail=f"{GRAPH_BREAKS}={now}, expected=None"
        )
    if _never_compiled(actual):
        return Line(name=name, outcome=Outcome.EAGER_FAILED, fails=False, detail=f"accuracy={actual.get(ACCURACY)}")
    found = {column: _counter(column, actual, expected) for column in (*FEWER_IS_BETTER, CALLS_CAPTURED)}
    worst = next((outcome for outcome in _WORST_FIRST if outcome in found.values()), Outcome.PASS)
    detail = "; ".join(
        f"{column}={actual.get(column)}, expected={expected.get(column)}"
        for column, outcome in found.items()
        if outcome is not Outcome.PASS
    )
    return Line(name=name, outcome=worst, fails=worst is not Outcome.PASS, detail=detail)


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
    slack = then * CALLS_TOLERANCE if column == CALLS_CAPTURED else 0
    worse, better = (now > then, now < then) if column in FEWER_IS_BETTER else (now < then - slack, now > then + slack)
    return Outcome.FAIL if worse else Outcome.IMPROVED if better else Outcome.PASS


def _number_judge(metric: str, scale: float, *, strict: bool) -> Callable[[str, Row, Row | None], Line]:
    """The judge of a number that is better in the direction of its metric. A model without an expected value fails
    only when strict: such tables need not have every model."""
    lower_is_better = METRICS[metric].direction is Direction.LOWER

    def judge(name: str, actual: Row, expected: Row | None) -> Line:
        now, then = number(actual.get(metric, "")), number((expected or {}).get(metric, ""))
        if then is None:
            detail = f"{metric}={_shown(now)}, expected=None"
            return Line(name=name, outcome=Outcome.MISSING_EXPECTED, fails=strict, detail=detail)
        if now is None:
            detail = f"{metric}=None, expected={_shown(then)}"
            return Line(name=name, outcome=Outcome.MISSING_ACTUAL, fails=True, detail=detail)
        outcome = _against(now, then, scale, lower_is_better=lower_is_better)
        detail = f"{metric}={_shown(now)}, expected={_shown(then)}"
        return Line(name=name, outcome=outcome, fails=outcome is Outcome.FAIL, detail=detail)

    return judge


def _against(now: float, then: float, scale: float, *, lower_is_better: bool) -> Outcome:
    """Higher is better: at least `then · scale`. Lower is better: at most the larger of `then · scale` and
    `then / scale`. Beyond the other one of the two it is an improvement."""
    low, high = sorted((then * scale, then / scale))
    if lower_is_better:
        return Outcome.FAIL if now > high else Outcome.IMPROVED if now < low else Outcome.PASS
    return Outcome.FAIL if now < then * scale else Outcome.IMPROVED if now > high else Outcome.PASS


def _shown(value: float | None) -> str:
    return "None" if value is None else f"{value:.3f}"


def failed_names(checks: Iterable[Checked], kind: Kind) -> tuple[str, ...]:
    """The models that fail a kind of check, improvements aside, in order and once each."""
    lines = [line for checked in checks if checked.kind is kind for line in checked.failed]
    return tuple(dict.fromkeys(line.name for line in lines if line.outcome is not Outcome.IMPROVED))
