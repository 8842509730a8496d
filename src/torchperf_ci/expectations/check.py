"""Results on disk held against expectation tables on disk: which table goes with which, then every check asked for."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from torchperf_ci.analysis.expected import NAME, Table
from torchperf_ci.analysis.expected_check import Checked, Outcome, Rules, check, columns_of
from torchperf_ci.analysis.expected_flaky import Kind, flaky_names
from torchperf_ci.analysis.expected_rows import beside, table_from_csv, tables_from_records
from torchperf_ci.analysis.expected_shards import is_suite_config
from torchperf_ci.errors import NothingToJudge, UsageProblem
from torchperf_ci.expectations.files import Expectation, read_expectation, read_expectations
from torchperf_ci.github.names import is_repository, is_sha
from torchperf_ci.records import Mode, Source, Testing
from torchperf_ci.results import RECORDS, read_results

_NO_EXPECTATION = Table(columns=(NAME,))
_MODES = "|".join(mode.value for mode in Mode)
_PYTORCH_TABLE = re.compile(rf"(?P<config>\w+)_(?:{_MODES})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actual:
    """What a run found. tables: by name, without `.csv`. problems: what of it could not be used.

    source: where the records come from, blank for CSVs.
    """

    path: Path
    tables: Mapping[str, Table]
    problems: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A run's rows and their expectation; one of the two may be absent."""

    name: str
    actual: Table | None
    expected: Expectation | None


def read_actual(path: Path) -> Actual:
    """What a run found: a CSV, or a folder of results (`records.jsonl`, else CSVs). Raises `UsageProblem`."""
    if path.is_file():
        return Actual(path=path, tables={_table_name(path): _csv(path)})
    if not (path / RECORDS).is_file():
        return Actual(path=path, tables=_csv_folder(path))
    results = read_results(path)
    found = tables_from_records(results.records)
    problems = [f"{path / problem.file}:{problem.line}: {problem.what}" for problem in results.problems]
    problems += [f"{name}: {problem}" for name, table in found.items() for problem in table.problems]
    return Actual(
        path=path,
        tables={name.removesuffix(".csv"): each.table for name, each in found.items()},
        problems=tuple(problems),
        source=results.records[0].source if results.records else Source(),
    )


def pair(actual: Actual, expected: Path, configs: Sequence[str] = ()) -> tuple[Pair, ...]:
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
    tables = {each.name: each for each in read_expectations(expected)}
    names = sorted({*tables, *actual.tables})
    chosen = [n for n in names if not configs or any(fnmatchcase(n, pattern) for pattern in configs)]
    if not any(name in tables and name in actual.tables for name in chosen):
        raise NothingToJudge(
            f"no table in {expected} is for what {actual.path} holds ({_listed(actual.tables)}); make the tables with "
            f"{_update_command(['--from', str(actual.path), '--expected-dir', str(expected)])}"
        )
    return tuple(Pair(name=n, actual=actual.tables.get(n), expected=tables.get(n)) for n in chosen)


def pair_with_threshold(actual: Actual, *, metric: str, threshold: float) -> tuple[Pair, ...]:
    """Every model of the run against the same number."""
    pairs = []
    for name, table in actual.tables.items():
        rows = [{NAME: model, metric: str(threshold)} for model in table.names]
        expected = Expectation(path=Path(), name=name, config=name, table=Table.of((NAME, metric), rows))
        pairs.append(Pair(name=name, actual=table, expected=expected))
    return tuple(pairs)


def run_checks(pairs: Sequence[Pair], kinds: Sequence[Kind], rules: Rules) -> tuple[Checked, ...]:
    """Every kind of check over every pair whose table has a column for it.

    Raises `NothingToJudge` when nothing was compared.
    """
    done = tuple(checked for each in pairs for checked in _checks(each, kinds, rules) if checked.lines)
    if not done:
        columns = dict.fromkeys(column for kind in kinds for column in columns_of(kind, rules))
        raise NothingToJudge(
            f"nothing to compare: none of {_listed([each.name for each in pairs])} has a model and a column "
            f"{' or '.join(columns)}"
        )
    return done


def command_to_update(
    actual: Actual, pairs: Sequence[Pair], checks: Sequence[Checked], expected: Path, source: Source
) -> str:
    """The command that makes what the run found the expectation. `source` is where this runs."""
    folder = expected if expected.is_dir() else expected.parent
    gone = any(line.outcome is Outcome.MISSING and line.fails for checked in checks for line in checked.lines)
    prune = ["--prune"] if gone else []
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
    if each.expected is None:
        assert each.actual is not None
        yield check(kinds[0], each.actual, _NO_EXPECTATION, table=each.name, flaky={}, rules=rules)
        return
    table = each.expected.table
    told = [kind for kind in kinds if any(column in table.columns for column in columns_of(kind, rules))]
    if each.actual is None:
        yield from (
            check(k, Table(columns=table.columns), table, table=each.name, flaky={}, rules=rules) for k in told[:1]
        )
        return
    for kind in told:
        flaky = flaky_names(each.expected.flaky, config=each.expected.config, kind=kind)
        yield check(kind, each.actual, table, table=each.name, flaky=flaky, rules=rules)


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


def _csv(path: Path) -> Table:
    try:
        return table_from_csv(path.read_bytes(), source=str(path))
    except OSError as error:
        raise UsageProblem(f"{path} cannot be read ({error.strerror})") from error


def _csv_folder(folder: Path) -> dict[str, Table]:
    """The tables of a folder without records: a run's accuracy and performance CSVs make one."""
    tables: dict[str, Table] = {}
    for path in sorted(folder.glob("*.csv")):
        if _has_names(path):
            name, table = _table_name(path), _csv(path)
            tables[name] = beside(tables[name], table) if name in tables else table
    if not tables:
        raise NothingToJudge(f"{folder} holds neither {RECORDS} nor a CSV with a column '{NAME}'")
    return tables


def _has_names(path: Path) -> bool:
    """Is this a CSV of models, and not one of the others that a report writes?"""
    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        header = next(csv.reader([stream.readline(100_000)]), [])
    return NAME in header


def _table_name(path: Path) -> str:
    """A run's CSV is called like its table, with what was tested behind it."""
    stem = path.stem
    for testing in Testing:
        stem = stem.removesuffix(f"_{testing.value}")
    return stem


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
