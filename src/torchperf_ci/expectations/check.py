"""Results on disk held against expectation tables on disk: which table goes with which, then every check asked for."""

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
from torchperf_ci.expectations.files import Expectation, read_expectation, read_expectations
from torchperf_ci.expectations.flaky import Kind, flaky_names
from torchperf_ci.expectations.rows import Found, found_from_csv, table_stem, tables_from_files
from torchperf_ci.expectations.rules import (
    COLUMN_OF,
    Checked,
    Line,
    Outcome,
    Rules,
    check,
    columns_of,
    is_judged,
    unjudged_columns,
)
from torchperf_ci.expectations.table import NAME, Table
from torchperf_ci.github.names import is_repository, is_sha
from torchperf_ci.shards.uploads import is_suite_config

_NO_EXPECTATION = Table(columns=(NAME,))
_MODES = "|".join(mode.value for mode in Mode)
_PYTORCH_TABLE = re.compile(rf"(?P<config>\w+)_(?:{_MODES})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """What a run found. tables: by name, without `.csv`. problems: what of it could not be used.

    source: where the records come from, blank for CSVs.
    """

    path: Path
    tables: Mapping[str, Found]
    problems: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A run's rows and their expectation; one of the two may be absent. unusable: why the expectation is."""

    name: str
    actual: Found | None
    expected: Expectation | None
    unusable: str = ""


def read_actual(path: Path) -> Actual:
    """What a run found: a CSV, or a folder of results (`records.jsonl`, else CSVs). Raises `UsageProblem` for a CSV
    that holds no results, and `NothingToJudge` for such a folder."""
    if path.is_file():
        content = read_file(path)
        if isinstance(content, str):
            raise UsageProblem(f"{path} {content}")
        found = found_from_csv(content, source=str(path))
        if found is None:
            raise UsageProblem(f"{path} holds no results: a CSV of a run has a column '{NAME}' and one of its numbers")
        return Actual(path=path, tables={table_stem(path.stem): found}, problems=found.problems)
    files = tables_from_files(
        [item.name for item in path.iterdir() if item.is_file()], lambda name: read_file(path / name)
    )
    if not files.tables:
        reasons = "".join(f"\n  {problem}" for problem in files.problems[:5])
        raise NothingToJudge(f"{path} holds neither {RECORDS} nor a CSV with a column '{NAME}'{reasons}")
    problems = [*files.problems, *(f"{n}: {problem}" for n, each in files.tables.items() for problem in each.problems)]
    return Actual(
        path=path,
        tables={name.removesuffix(".csv"): each for name, each in files.tables.items()},
        problems=tuple(f"{path}: {problem}" for problem in problems),
        source=files.source,
    )


def pair(
    actual: Actual, expected: Path, configs: Sequence[str] = (), *, warn: Callable[[str], None] = lambda _: None
) -> tuple[Pair, ...]:
    """Which of the run's rows go with which table.

    `expected` is a table, or a folder of them; from a folder `configs` (shell patterns of names) choose. Folder against
    folder every table counts, also one that only one side has.
    Raises `UsageProblem` when it is not clear what goes together, `NothingToJudge` when nothing does.
    """
    if not expected.is_dir():
        return (_pair_table(actual, read_expectation(expected)),)
    if actual.path.is_file():
        (name,) = actual.tables
        return (_pair_table(actual, read_expectation(expected / f"{name}.csv")),)
    read, unusable, foreign = read_expectations(expected)
    for sentence in foreign:
        warn(sentence)
    tables = {each.name: each for each in read}
    names = sorted({*tables, *unusable, *actual.tables})
    chosen = [n for n in names if not configs or any(fnmatchcase(n, pattern) for pattern in configs)]
    if not any(name in actual.tables and (name in tables or name in unusable) for name in chosen):
        raise NothingToJudge(
            f"no table in {expected} is for what {actual.path} holds ({_listed(actual.tables)}); make the tables with "
            f"{_update_command(['--from', str(actual.path), '--expected-dir', str(expected)])}"
        )
    return tuple(
        Pair(name=n, actual=actual.tables.get(n), expected=tables.get(n), unusable=unusable.get(n, "")) for n in chosen
    )


def pair_with_threshold(actual: Actual, *, metric: str, threshold: float) -> tuple[Pair, ...]:
    """Every model of the run against the same number."""
    pairs = []
    for name, found in actual.tables.items():
        rows = [{NAME: model, metric: str(threshold)} for model in found.table.names]
        expected = Expectation(path=Path(), name=name, config=name, table=Table.of((NAME, metric), rows))
        pairs.append(Pair(name=name, actual=found, expected=expected))
    return tuple(pairs)


def run_checks(pairs: Sequence[Pair], kinds: Sequence[Kind], rules: Rules) -> tuple[Checked, ...]:
    """Every kind of check over every pair whose table has a column for it.

    Raises `NothingToJudge` when nothing was compared.
    """
    done = tuple(checked for each in pairs for checked in _checks(each, kinds, rules) if checked.lines)
    if not done:
        columns = dict.fromkeys(COLUMN_OF[kind] or rules.metric for kind in kinds)
        raise NothingToJudge(
            f"nothing to compare: none of {_listed([each.name for each in pairs])} has a model and a column "
            f"{' or '.join(columns)}"
        )
    return done


def uncovered(pairs: Sequence[Pair], kinds: Sequence[Kind], rules: Rules) -> list[str]:
    """Say what the tables do not cover: columns of the run that none of them asks for, and columns of theirs that no
    check reads."""
    lacking: dict[str, list[str]] = {}
    unread: dict[str, list[str]] = {}
    for each in pairs:
        if each.actual and each.expected:
            absent, idle = unjudged_columns(kinds, rules, each.actual.table, each.expected.table)
            for columns, told in ((absent, lacking), (idle, unread)):
                if columns:
                    told.setdefault(", ".join(columns), []).append(each.name)
    return [
        *(
            f"not compared, since the table has no such column: {what} ({_listed(names)})"
            for what, names in lacking.items()
        ),
        *(f"no check reads the column {what} ({_listed(n)})" for what, n in unread.items() if len(kinds) == len(Kind)),
    ]


def command_to_update(
    actual: Actual, pairs: Sequence[Pair], checks: Sequence[Checked], expected: Path, source: Source
) -> str:
    """The command that makes what the run found the expectation. `source` is where this runs."""
    folder = expected if expected.is_dir() else expected.parent
    gone = any(line.outcome is Outcome.MISSING and line.fails for checked in checks for line in checked.lines)
    prune = ["--prune"] if gone else []
    if actual.path.is_file() and not (is_sha(source.commit) and is_repository(source.repository)):
        (name,) = actual.tables
        config = [word for each in pairs if each.name != name for word in ("--config", each.name)]
        return _update_command(["--from", str(actual.path), "--expected-dir", str(folder), *config, *prune])
    where = _where(actual.source if actual.source.run_id else source)
    configs = [_pytorch_config(each.name) for each in pairs]
    if all(configs):
        rocm = folder.name == "rocm"
        wanted = [f"rocm/{config}" if rocm else config for config in dict.fromkeys(configs)]
        words = ["--layout", "pytorch", *(word for config in wanted for word in ("--config", config)), *prune]
        return _update_command([*where, "--expected-dir", str(folder.parent if rocm else folder), *words])
    if actual.path.is_dir() and not actual.source.run_id:
        where = ["--from", str(actual.path)]
    return _update_command([*where, "--expected-dir", str(folder), *prune])


def _where(source: Source) -> list[str]:
    """Commit and repository; what a record says of them comes from outside, and is believed when it can be meant."""
    commit = source.commit if is_sha(source.commit) else "YOUR_COMMIT_SHA"
    return [commit, "--repo", source.repository if is_repository(source.repository) else "OWNER/NAME"]


def _checks(each: Pair, kinds: Sequence[Kind], rules: Rules) -> Iterator[Checked]:
    if each.unusable:
        line = Line(name=f"{each.name}.csv", outcome=Outcome.FAIL, fails=True, detail=each.unusable)
        yield Checked(kind=kinds[0], table=each.name, lines=(line,))
        return
    if each.expected is None:
        assert each.actual is not None
        actual, broken = each.actual.table, each.actual.broken
        yield check(kinds[0], actual, _NO_EXPECTATION, table=each.name, flaky={}, rules=rules, broken=broken)
        return
    table = each.expected.table
    if each.actual is None:
        told = [kind for kind in kinds if columns_of(kind, rules, table)]
        yield from (
            check(k, Table(columns=table.columns), table, table=each.name, flaky={}, rules=rules) for k in told[:1]
        )
        return
    twice = {name: f"the table has several rows of it, on {lines}" for name, lines in each.expected.doubles.items()}
    for kind in kinds:
        if is_judged(kind, rules, each.actual.table, table):
            flaky = flaky_names(each.expected.flaky, config=each.expected.config, kind=kind)
            yield check(
                kind,
                each.actual.table,
                table,
                table=each.name,
                flaky=flaky,
                rules=rules,
                broken={**twice, **each.actual.broken},
            )


def _pair_table(actual: Actual, expected: Expectation) -> Pair:
    name = expected.name if expected.name in actual.tables else next(iter(actual.tables), "")
    if not actual.tables:
        raise NothingToJudge(f"{actual.path} holds no results")
    if name != expected.name and len(actual.tables) > 1:
        raise UsageProblem(
            f"{actual.path} holds {_listed(actual.tables)}; none of them is {expected.name}. Name the folder of tables "
            "with --expected instead"
        )
    return Pair(name=expected.name, actual=actual.tables[name], expected=expected)


def _pytorch_config(table: str) -> str:
    match = _PYTORCH_TABLE.fullmatch(table)
    return match["config"] if match and is_suite_config(match["config"]) else ""


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    shown = list(names)[:5]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return (", ".join(shown) or "nothing") + more


def _update_command(words: Iterable[str]) -> str:
    """A command as it can be typed."""
    return shlex.join(["torchperf-ci", "update-expected", *words])
