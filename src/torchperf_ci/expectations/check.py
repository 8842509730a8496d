"""Compare results with expectation tables: which table goes with which, then a verdict per model and kind of check."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

from torchperf_ci.core.csv_files import finite, integer
from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.records import COUNTERS, EXACT_COUNTS, METRICS, Direction, Mode, Source, Status
from torchperf_ci.core.result_files import read_file
from torchperf_ci.core.results import RECORDS
from torchperf_ci.core.text import Word, is_repository, is_sha, some_of
from torchperf_ci.expectations.rows import PERFORMANCE, RunTable, read_run_csv, read_run_tables, strip_testing
from torchperf_ci.expectations.table import (
    ACCURACY,
    GRAPH_BREAKS,
    NAME,
    CheckKind,
    Expectation,
    ExpectationTable,
    list_doubles,
    quote,
    read_expectation,
    read_expectations,
)
from torchperf_ci.shards.uploads import is_suite_config

FEWER_IS_BETTER = (
    GRAPH_BREAKS,
    "fallbacks_to_eager",
    "unique_graph_breaks",
    "cudagraph_skips",
    "recompiles",
    *EXACT_COUNTS,
)
"""Counts of which more is a failure and fewer an improvement."""

MORE_IS_BETTER = ("calls_captured", "unique_graphs", "autograd_captures", "autograd_compiles")
"""Counters of which fewer is a failure: less of the model was compiled. More is an improvement."""

SCALE = 0.95
"""The share of the expected value that performance and memory must reach."""

COLUMN_OF: Mapping[CheckKind, str] = {
    CheckKind.ACCURACY: ACCURACY,
    CheckKind.GRAPH_BREAKS: GRAPH_BREAKS,
    CheckKind.PERFORMANCE: "",
    CheckKind.MEMORY: "compression_ratio",
}
"""The column that a kind of check is most about; blank for the metric that was chosen."""

Cells = Mapping[str, str]
"""A row by column."""

_ENDLESS = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


class CheckOutcome(Word):
    """The ways in which a model stands against its expectation."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules of what fails, and how much a number may differ.

    strict: improvements fail too (the expectation is to be updated); None: for accuracy and graph breaks only.
    allow_missing: models that only the table has do not fail (the run is a shard, say).
    metric: `speedup` or `abs_latency`, for performance. scale: how much of the expected value must be reached.
    """

    strict: bool | None = None
    allow_missing: bool = False
    metric: str = "speedup"
    scale: float = SCALE

    def is_strict(self, kind: CheckKind) -> bool:
        return kind in {CheckKind.ACCURACY, CheckKind.GRAPH_BREAKS} if self.strict is None else self.strict


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCheck:
    """The verdict on one model. `detail` is what was compared, blank where there is nothing to say."""

    name: str
    outcome: CheckOutcome
    fails: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCheck:
    """One kind of check over one table."""

    kind: CheckKind
    table: str
    lines: tuple[ModelCheck, ...]

    @property
    def failed(self) -> tuple[ModelCheck, ...]:
        """Return the lines that fail, improvements included where they do."""
        return tuple(line for line in self.lines if line.fails)

    @property
    def improved(self) -> tuple[ModelCheck, ...]:
        return tuple(line for line in self.lines if line.outcome is CheckOutcome.IMPROVED)


def list_columns(kind: CheckKind, rules: Rules, expected: ExpectationTable) -> tuple[str, ...]:
    """Return the columns of a table that a kind of check reads.

    Numbers that nobody knows are compared as well: whole ones must be the same, others may differ by the scale.
    """
    others = [column for column in expected.columns if column not in {NAME, ACCURACY, PERFORMANCE, *COUNTERS, *METRICS}]
    wanted: tuple[str, ...]
    match kind:
        case CheckKind.ACCURACY:
            wanted = (ACCURACY,)
        case CheckKind.GRAPH_BREAKS:
            whole = [column for column in others if _holds_only(integer, expected, column)]
            wanted = (*FEWER_IS_BETTER, *MORE_IS_BETTER, *whole)
        case CheckKind.PERFORMANCE:
            numbers = [c for c in others if not _holds_only(integer, expected, c) and _holds_only(finite, expected, c)]
            wanted = (PERFORMANCE, rules.metric, *numbers)
        case CheckKind.MEMORY:
            wanted = ("compression_ratio",)
    return tuple(column for column in dict.fromkeys(wanted) if column in expected.columns)


def find_unjudged_columns(
    kinds: Iterable[CheckKind], rules: Rules, actual: ExpectationTable, expected: ExpectationTable
) -> tuple[list[str], list[str]]:
    """Return what the run has and the table does not ask for, of the columns that checks are about; and the columns of
    the table that no check reads."""
    asked = {kind: column or rules.metric for kind, column in COLUMN_OF.items()}
    read = {column for kind in kinds for column in list_columns(kind, rules, expected)}
    uncovered = [c for kind, c in asked.items() if kind in kinds and c in actual.columns and c not in expected.columns]
    unread = [c for c in expected.columns if c != NAME and c not in read and _holds_only(finite, expected, c)]
    return uncovered, unread


def _holds_only(number: Callable[[str], object], table: ExpectationTable, column: str) -> bool:
    """Say whether a column has cells, and all that are not blank can be read as a `number`. NaN and infinity make no
    column one of text: such a cell is a fault of its row."""
    at = table.columns.index(column)
    cells = [row[at] for row in table.rows if row[at] and not _ENDLESS.fullmatch(row[at])]
    return bool(cells) and all(number(cell) is not None for cell in cells)


def check(
    kind: CheckKind,
    actual: ExpectationTable,
    expected: ExpectationTable,
    *,
    table: str,
    flaky: Mapping[str, str],
    rules: Rules,
    broken: Mapping[str, str] = MappingProxyType({}),
) -> TableCheck:
    """Check every model of the run, then name those that only the table has.

    flaky: the models that pass either way, with the reason. table: how the table is called. broken: the models that
    cannot be judged, with the reason; they fail.
    """
    strict = rules.is_strict(kind)
    columns = list_columns(kind, rules, expected)
    now, then = actual.by_name(), expected.by_name()
    faults = {name: fault for name, cells in then.items() if (fault := _find_fault(kind, cells, columns))}
    broken = {**faults, **broken}
    lines = []
    for name, cells in now.items():
        if name in broken:
            continue
        line = _check_model(kind, name, cells, then.get(name), columns, rules)
        if line.outcome in {CheckOutcome.FAIL, CheckOutcome.IMPROVED} and name in flaky:
            is_worse = line.outcome is CheckOutcome.FAIL
            outcome = CheckOutcome.FAIL_BUT_FLAKY if is_worse else CheckOutcome.PASS_BUT_FLAKY
            line = replace(line, outcome=outcome, fails=False, detail=f"{line.detail}, flaky: {flaky[name]}")
        elif line.outcome is CheckOutcome.IMPROVED:
            line = replace(line, fails=strict)
        lines.append(line)
    for name in then:
        if name not in now and name not in broken:
            detail = "the run has no such model"
            lines.append(
                ModelCheck(name=name, outcome=CheckOutcome.MISSING, fails=not rules.allow_missing, detail=detail)
            )
    for name, why in broken.items():
        lines.append(ModelCheck(name=name, outcome=CheckOutcome.FAIL, fails=True, detail=why))
    return TableCheck(kind=kind, table=table, lines=tuple(lines))


def _find_fault(kind: CheckKind, expected: Cells, columns: Sequence[str]) -> str:
    """Say which cell of a table's row is no number where one is compared; blank when none is."""
    number, noun = (integer, "a count") if kind is CheckKind.GRAPH_BREAKS else (finite, "a number")
    for column in columns:
        cell = expected.get(column, "")
        if cell and column not in {ACCURACY, PERFORMANCE} and number(cell) is None:
            return f"the table's {column} is {quote(cell)}, expected {noun}"
    return ""


def _check_model(
    kind: CheckKind, name: str, actual: Cells, expected: Cells | None, columns: Sequence[str], rules: Rules
) -> ModelCheck:
    match kind:
        case CheckKind.ACCURACY:
            return _check_accuracy(name, actual, expected)
        case CheckKind.GRAPH_BREAKS:
            return _check_counters(name, actual, expected, columns)
        case CheckKind.PERFORMANCE:
            return _check_performance(name, actual, expected, columns, rules, strict=rules.is_strict(kind))
        case CheckKind.MEMORY:
            metric = "compression_ratio"
            return _check_number(name, actual, expected, metric, rules.scale, strict=rules.is_strict(kind))


def _check_accuracy(name: str, actual: Cells, expected: Cells | None) -> ModelCheck:
    now, then = actual.get(ACCURACY, ""), expected.get(ACCURACY, "") if expected is not None else ""
    detail = f"accuracy={now or None}, {_say_expected(expected, then or 'None')}"
    if now and now == then:
        outcome = CheckOutcome.PASS if then == Status.PASS.value else CheckOutcome.XFAIL
        return ModelCheck(name=name, outcome=outcome, fails=False)
    if not now:
        outcome = CheckOutcome.MISSING_ACCURACY
    elif not then:
        outcome = CheckOutcome.MISSING_EXPECTED
    elif now == Status.PASS.value:
        outcome = CheckOutcome.IMPROVED
    else:
        outcome = CheckOutcome.FAIL
    return ModelCheck(name=name, outcome=outcome, fails=True, detail=detail)


def _check_counters(name: str, actual: Cells, expected: Cells | None, columns: Sequence[str]) -> ModelCheck:
    if expected is None:
        detail = f"{GRAPH_BREAKS}={actual.get(GRAPH_BREAKS)}, {_say_expected(expected, '')}"
        return ModelCheck(name=name, outcome=CheckOutcome.MISSING_EXPECTED, fails=True, detail=detail)
    # No graph at all, and the accuracy tells why. A model that passes without a graph is judged: it lost them.
    if actual.get("unique_graphs") == "0" and actual.get(ACCURACY) != Status.PASS.value:
        detail = f"accuracy={actual.get(ACCURACY)}"
        return ModelCheck(name=name, outcome=CheckOutcome.EAGER_FAILED, fails=False, detail=detail)
    outcomes: dict[str, CheckOutcome] = {}
    for column in columns:
        then, now = integer(expected.get(column, "")), integer(actual.get(column, ""))
        is_known = column in actual or column in COUNTERS
        if then is None or now == then or not is_known:
            continue  # the table says nothing about it, or the run counts no such thing
        if now is None:
            outcomes[column] = CheckOutcome.MISSING_ACTUAL
        elif now < then if column in FEWER_IS_BETTER else now > then and column in MORE_IS_BETTER:
            outcomes[column] = CheckOutcome.IMPROVED
        else:
            outcomes[column] = CheckOutcome.FAIL
    if not outcomes:
        return ModelCheck(name=name, outcome=CheckOutcome.PASS, fails=False)
    worst_first = (CheckOutcome.MISSING_ACTUAL, CheckOutcome.FAIL, CheckOutcome.IMPROVED)
    worst = next(outcome for outcome in worst_first if outcome in outcomes.values())
    detail = "; ".join(f"{column}={actual.get(column)}, expected={expected.get(column)}" for column in outcomes)
    return ModelCheck(name=name, outcome=worst, fails=True, detail=detail)


def _check_performance(
    name: str, actual: Cells, expected: Cells | None, columns: Sequence[str], rules: Rules, *, strict: bool
) -> ModelCheck:
    """Check whether a model's performance ran, and then its numbers."""
    ran, then = actual.get(PERFORMANCE, ""), expected or {}
    detail = f"{PERFORMANCE}={ran}, expected={then.get(PERFORMANCE) or Status.PASS.value}"
    if ran and not _passes(ran):
        # It is expected that the model does not run. Wrong results are no reason for a missing time.
        status, expected_status = actual.get(ACCURACY, ""), then.get(ACCURACY, "")
        is_explained = status == expected_status and not _passes(status or Status.PASS.value)
        if then.get(PERFORMANCE) == ran or (is_explained and status != Status.FAIL_ACCURACY.value):
            return ModelCheck(name=name, outcome=CheckOutcome.XFAIL, fails=False)
        return ModelCheck(name=name, outcome=CheckOutcome.FAIL, fails=True, detail=detail)
    if PERFORMANCE in actual and not ran and _passes(actual.get(ACCURACY, "")) and _passes(then.get(ACCURACY, "")):
        detail = f"{PERFORMANCE}=None: the model has no row of performance"
        return ModelCheck(name=name, outcome=CheckOutcome.MISSING_ACTUAL, fails=True, detail=detail)
    if ran and then.get(PERFORMANCE) and not _passes(then[PERFORMANCE]):
        return ModelCheck(name=name, outcome=CheckOutcome.IMPROVED, fails=strict, detail=detail)
    differing = []
    for column in columns:
        wanted = finite(then.get(column, ""))
        if column in {PERFORMANCE, rules.metric} or column not in actual or wanted is None:
            continue
        # Nobody knows which direction is better: it may not differ by more than the scale either way.
        low, high = sorted((wanted * rules.scale, wanted / rules.scale))
        number = finite(actual[column])
        if number is None or not low <= number <= high:
            differing.append(f"{column}={_format_number(number)}, expected={_format_number(wanted)}")
    if differing:
        return ModelCheck(name=name, outcome=CheckOutcome.FAIL, fails=True, detail="; ".join(differing))
    if rules.metric in columns:
        return _check_number(name, actual, expected, rules.metric, rules.scale, strict=strict)
    return ModelCheck(name=name, outcome=CheckOutcome.PASS, fails=False)


def _passes(word: str) -> bool:
    return word in {Status.PASS.value, Status.PASS_DUE_TO_SKIP.value}


def _check_number(
    name: str, actual: Cells, expected: Cells | None, metric: str, scale: float, *, strict: bool
) -> ModelCheck:
    """Check a number that is better in the direction of its metric.

    Higher is better: at least `then · scale`. Lower is better: at most the larger of `then · scale` and
    `then / scale`. Beyond the other one of the two it is an improvement. When strict the two are a range, whichever is
    the larger, as with `--fail-on-improvement` of PyTorch's check_perf_csv.py: a scale of 1.1 is one of 1 / 1.1.
    A model without an expected value fails only when strict: such tables need not have every model.
    """
    now, then = finite(actual.get(metric, "")), finite((expected or {}).get(metric, ""))
    detail = f"{metric}={_format_number(now)}, {_say_expected(expected, _format_number(then))}"
    if then is None:
        return ModelCheck(name=name, outcome=CheckOutcome.MISSING_EXPECTED, fails=strict, detail=detail)
    if now is None:
        return ModelCheck(name=name, outcome=CheckOutcome.MISSING_ACTUAL, fails=True, detail=detail)
    low, high = sorted((then * scale, then / scale))
    if METRICS[metric].direction is Direction.LOWER:
        is_worse, is_better = now > high, now < low
    else:
        is_worse = now < (low if strict else then * scale)
        is_better = now > high and (strict or scale <= 1)
    outcome = CheckOutcome.FAIL if is_worse else CheckOutcome.IMPROVED if is_better else CheckOutcome.PASS
    return ModelCheck(name=name, outcome=outcome, fails=is_worse, detail=detail)


def _say_expected(expected: Cells | None, value: str) -> str:
    return "not in the table" if expected is None else f"expected={value}"


def _format_number(value: float | None) -> str:
    return "None" if value is None else f"{value:.3f}"


_PYTORCH_TABLE = re.compile(rf"(?P<config>\w+)_(?:{'|'.join(mode.value for mode in Mode)})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """The results of a run as tables. tables: by name, without `.csv`. problems: what of it could not be used.

    source: where the records come from, blank for CSVs.
    """

    path: Path
    tables: Mapping[str, RunTable]
    problems: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePair:
    """A run's rows and their expectation; one of the two may be absent. unusable: why the expectation is."""

    name: str
    actual: RunTable | None
    expected: Expectation | None
    unusable: str = ""


def read_actual(path: Path) -> Actual:
    """Read what a run found: a CSV, or a folder of results (`records.jsonl`, else CSVs).

    Raises `UsageProblem` for a CSV that holds no results, and `NothingToJudge` for such a folder.
    """
    if path.is_file():
        content = read_file(path)
        if isinstance(content, str):
            raise UsageProblem(f"{path} {content}")
        table = read_run_csv(content, source=str(path))
        if table is None:
            raise UsageProblem(f"{path} holds no results: a CSV of a run has a column '{NAME}' and one of its numbers")
        return Actual(path=path, tables={strip_testing(path.stem): table}, problems=table.problems)
    names = [item.name for item in path.iterdir() if item.is_file()]
    run = read_run_tables(names, lambda name: read_file(path / name))
    if not run.tables:
        reasons = "".join(f"\n  {problem}" for problem in run.problems[:5])
        raise NothingToJudge(f"{path} holds neither {RECORDS} nor a CSV with a column '{NAME}'{reasons}")
    problems = [*run.problems, *(f"{n}: {problem}" for n, each in run.tables.items() for problem in each.problems)]
    return Actual(
        path=path,
        tables={name.removesuffix(".csv"): each for name, each in run.tables.items()},
        problems=tuple(f"{path}: {problem}" for problem in problems),
        source=run.source,
    )


def pair_tables(
    actual: Actual, expected: Path, configs: Sequence[str] = (), *, warn: Callable[[str], None] = lambda _: None
) -> tuple[TablePair, ...]:
    """Pair the run's rows with their tables.

    `expected` is a table, or a folder of them; from a folder `configs` (shell patterns of names) choose. Folder against
    folder every table counts, also one that only one side has.
    Raises `UsageProblem` when it is not clear what goes together, `NothingToJudge` when nothing does.
    """
    if actual.path.is_file() and expected.is_dir():
        expected /= f"{next(iter(actual.tables))}.csv"
    if not expected.is_dir():
        table = read_expectation(expected)
        if not actual.tables:
            raise NothingToJudge(f"{actual.path} holds no results")
        name = table.name if table.name in actual.tables else next(iter(actual.tables))
        if name != table.name and len(actual.tables) > 1:
            raise UsageProblem(
                f"{actual.path} holds {some_of(actual.tables)}; none of them is {table.name}. Name the folder of "
                "tables with --expected instead"
            )
        return (TablePair(name=table.name, actual=actual.tables[name], expected=table),)
    read, unusable, foreign = read_expectations(expected)
    for name, why in foreign.items():
        if name in actual.tables:  # a damaged table, since the run has results for it
            unusable[name] = why
        else:
            warn(f"{why}; not an expectation table, ignored")
    tables = {each.name: each for each in read}
    names = sorted({*tables, *unusable, *actual.tables})
    chosen = [n for n in names if not configs or any(fnmatchcase(n, pattern) for pattern in configs)]
    if not any(name in actual.tables and (name in tables or name in unusable) for name in chosen):
        raise NothingToJudge(
            f"no table in {expected} is for what {actual.path} holds ({some_of(actual.tables)}); make the tables with "
            f"{_join_command(['--from', str(actual.path), '--expected-dir', str(expected)])}"
        )
    return tuple(
        TablePair(name=n, actual=actual.tables.get(n), expected=tables.get(n), unusable=unusable.get(n, ""))
        for n in chosen
    )


def pair_with_threshold(actual: Actual, *, metric: str, threshold: float) -> tuple[TablePair, ...]:
    """Pair every model of the run with the same number."""
    pairs = []
    for name, run in actual.tables.items():
        rows = [{NAME: model, metric: str(threshold)} for model in run.table.names]
        table = ExpectationTable.of((NAME, metric), rows)
        expected = Expectation(path=Path(), name=name, config=name, table=table)
        pairs.append(TablePair(name=name, actual=run, expected=expected))
    return tuple(pairs)


def run_checks(pairs: Sequence[TablePair], kinds: Sequence[CheckKind], rules: Rules) -> tuple[TableCheck, ...]:
    """Run every kind of check over every pair whose table has a column for it.

    Raises `NothingToJudge` when nothing was compared.
    """
    checks = tuple(each for one in pairs for each in _check_pair(one, kinds, rules) if each.lines)
    if not checks:
        columns = dict.fromkeys(COLUMN_OF[kind] or rules.metric for kind in kinds)
        raise NothingToJudge(
            f"nothing to compare: none of {some_of([each.name for each in pairs])} has a model and a column "
            f"{' or '.join(columns)}"
        )
    return checks


def _check_pair(each: TablePair, kinds: Sequence[CheckKind], rules: Rules) -> Iterator[TableCheck]:
    """Run the checks of one pair. What only one side has is told once, by the first kind of check."""
    if each.unusable:
        line = ModelCheck(name=f"{each.name}.csv", outcome=CheckOutcome.FAIL, fails=True, detail=each.unusable)
        yield TableCheck(kind=kinds[0], table=each.name, lines=(line,))
        return
    expected = each.expected.table if each.expected else ExpectationTable(columns=(NAME,))
    actual = each.actual.table if each.actual else ExpectationTable(columns=expected.columns)
    # Whether performance ran is asked without any column.
    asked_anyway = {CheckKind.PERFORMANCE} if PERFORMANCE in actual.columns else set()
    chosen = [kind for kind in kinds if kind in asked_anyway or list_columns(kind, rules, expected)]
    broken = dict(each.actual.broken) if each.actual else {}
    if each.expected is None:
        chosen = [kinds[0]]
    elif each.actual is None:
        chosen = chosen[:1]
    else:
        doubles = list_doubles(each.expected.at_lines)
        broken = {name: f"the table has several rows of it, on {at}" for name, at in doubles.items()} | broken
    for kind in chosen:
        flaky = each.expected.flaky_names(kind) if each.expected else {}
        yield check(kind, actual, expected, table=each.name, flaky=flaky, rules=rules, broken=broken)


def describe_coverage(pairs: Sequence[TablePair], kinds: Sequence[CheckKind], rules: Rules) -> list[str]:
    """Say what the tables do not cover: columns of the run that none of them asks for, and columns of theirs that no
    check reads."""
    lacking: dict[str, list[str]] = {}
    unread: dict[str, list[str]] = {}
    for each in pairs:
        if each.actual and each.expected:
            absent, idle = find_unjudged_columns(kinds, rules, each.actual.table, each.expected.table)
            for columns, tables in ((absent, lacking), (idle, unread)):
                if columns:
                    tables.setdefault(", ".join(columns), []).append(each.name)
    if len(kinds) < len(CheckKind):
        unread = {}
    return [
        *(
            f"not compared, since the table has no such column: {columns} ({some_of(names)}); `update-expected "
            f"--metric-column {columns.partition(', ')[0]}` adds it"
            for columns, names in lacking.items()
        ),
        *(f"no check reads the column {columns} ({some_of(names)})" for columns, names in unread.items()),
    ]


def make_update_command(
    actual: Actual, pairs: Sequence[TablePair], checks: Sequence[TableCheck], expected: Path, source: Source
) -> str:
    """Return the command that makes what the run found the expectation. `source` is where this runs."""
    folder = expected if expected.is_dir() else expected.parent
    gone = any(line.outcome is CheckOutcome.MISSING and line.fails for each in checks for line in each.lines)
    prune = ["--prune"] if gone else []
    if actual.path.is_file() and not (is_sha(source.commit) and is_repository(source.repository)):
        (name,) = actual.tables
        config = [word for each in pairs if each.name != name for word in ("--config", each.name)]
        return _join_command(["--from", str(actual.path), "--expected-dir", str(folder), *config, *prune])
    # What a record says of commit and repository comes from outside, and is believed when it can be meant.
    known = actual.source if actual.source.run_id else source
    commit = known.commit if is_sha(known.commit) else "YOUR_COMMIT_SHA"
    where = [commit, "--repo", known.repository if is_repository(known.repository) else "OWNER/NAME"]
    matches = [_PYTORCH_TABLE.fullmatch(each.name) for each in pairs]
    configs = [match["config"] for match in matches if match and is_suite_config(match["config"])]
    if len(configs) == len(pairs):
        rocm = folder.name == "rocm"
        wanted = [f"rocm/{config}" if rocm else config for config in dict.fromkeys(configs)]
        words = ["--layout", "pytorch", *(word for config in wanted for word in ("--config", config)), *prune]
        return _join_command([*where, "--expected-dir", str(folder.parent if rocm else folder), *words])
    if actual.path.is_dir() and not actual.source.run_id:
        where = ["--from", str(actual.path)]
    return _join_command([*where, "--expected-dir", str(folder), *prune])


def _join_command(words: Iterable[str]) -> str:
    """Return a command as it can be typed."""
    return shlex.join(["torchperf-ci", "update-expected", *words])
