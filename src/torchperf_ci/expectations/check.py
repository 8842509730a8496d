"""Compare results on disk with expectation tables on disk: which table goes with which, then every check asked for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.records import Mode, Source
from torchperf_ci.core.result_files import read_file
from torchperf_ci.core.results import RECORDS
from torchperf_ci.core.text import is_repository, is_sha, some_of
from torchperf_ci.expectations.folder import CheckKind, Expectation, list_doubles, read_expectation, read_expectations
from torchperf_ci.expectations.rows import PERFORMANCE, RunTable, read_run_csv, read_run_tables, strip_testing
from torchperf_ci.expectations.rules import (
    COLUMN_OF,
    CheckOutcome,
    ModelCheck,
    Rules,
    TableCheck,
    check,
    find_unjudged_columns,
    list_columns,
)
from torchperf_ci.expectations.table import NAME, ExpectationTable
from torchperf_ci.shards.uploads import is_suite_config

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
    for sentence in foreign:
        warn(sentence)
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
    elif each.expected is None:
        assert each.actual is not None
        nothing = ExpectationTable(columns=(NAME,))
        yield check(
            kinds[0],
            each.actual.table,
            nothing,
            table=each.name,
            flaky={},
            rules=rules,
            broken=each.actual.broken,
        )
    elif each.actual is None:
        table = each.expected.table
        first = next((kind for kind in kinds if list_columns(kind, rules, table)), None)
        if first is not None:
            yield check(first, ExpectationTable(columns=table.columns), table, table=each.name, flaky={}, rules=rules)
    else:
        actual, table = each.actual.table, each.expected.table
        twice = {
            name: f"the table has several rows of it, on {at}"
            for name, at in list_doubles(each.expected.at_lines).items()
        }
        for kind in kinds:
            # Whether performance ran is asked without any column.
            asks_whether_it_ran = kind is CheckKind.PERFORMANCE and PERFORMANCE in actual.columns
            if list_columns(kind, rules, table) or asks_whether_it_ran:
                flaky = each.expected.flaky_names(kind)
                broken = {**twice, **each.actual.broken}
                yield check(kind, actual, table, table=each.name, flaky=flaky, rules=rules, broken=broken)


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
