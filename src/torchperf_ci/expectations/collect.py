"""From what the chosen uploads hold to the rows of every expectation table of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Mode
from torchperf_ci.core.result_files import result_files
from torchperf_ci.core.results import RECORDS
from torchperf_ci.expectations.rows import found_from_csv, joined, tables_from_files, whole_rows
from torchperf_ci.expectations.table import Table, TableProblem
from torchperf_ci.shards.uploads import Attempt, Choice, Config, Layout, suite_of

Files = Mapping[str, bytes]
"""An upload's wanted files by name."""

_REPORT_FOLDERS = ("test/test-reports/", "test-reports/")

Part = tuple[str, str, Table]
"""A table's file name, which shard it comes from, and the shard's rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRun:
    """What a commit's runs have for one configuration.

    tables: by path below the expected folder. gaps: what keeps it from being complete. notes: what else to know.
    """

    config: Config
    tables: Mapping[str, Table]
    gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def wanted_files(layout: Layout, config: Config) -> Callable[[Sequence[str]], Sequence[str]]:
    """Which of an upload's files the tables of a configuration are made of."""

    def reports(names: Sequence[str]) -> Sequence[str]:
        found = (_report_name(names, config, mode) for mode in Mode)
        return [name for name in found if name]

    return reports if layout is Layout.PYTORCH else result_files


def assemble(layout: Layout, choice: Choice, uploads: Mapping[int, Files | str]) -> ConfigRun:
    """The tables of a configuration from the files of its chosen uploads; a text in place of files says why there are
    none. What cannot be used becomes a gap."""
    parts: list[Part] = []
    gaps = list(choice.gaps)
    for attempt in choice.chosen:
        title = f"shard {attempt.shard.number} of {attempt.shard.total}"
        files = uploads[attempt.upload]
        if isinstance(files, str):
            gaps.append(f"{title}: the artifact of {attempt.label} {files}")
            continue
        try:
            found, problems = _read(layout, attempt, files, title)
        except TableProblem as error:
            found, problems = [], [str(error)]
        parts += found
        gaps += [f"{title}: {problem}" for problem in problems]
    if layout is Layout.PYTORCH:
        gaps += _uneven(parts)
    tables, conflicts = _joined(parts, choice.config)
    return ConfigRun(config=choice.config, tables=tables, gaps=(*gaps, *conflicts), notes=choice.notes)


def refuse_shared_tables(runs: Sequence[ConfigRun]) -> None:
    """Raise `UsageProblem` when two configurations fill the same table: rows are told apart by model only."""
    owner: dict[str, Config] = {}
    for run in runs:
        for path in run.tables:
            if path in owner:
                raise UsageProblem(
                    f"the table {path} comes from both {owner[path]} and {run.config}; choose one with --config, "
                    "and give the other an --expected-dir of its own"
                )
            owner[path] = run.config


def _read(layout: Layout, attempt: Attempt, files: Files, title: str) -> tuple[list[Part], list[str]]:
    if layout is Layout.PYTORCH:
        return _read_reports(attempt.shard.config, files, title)
    return _read_records(files, title)


def _read_reports(config: Config, files: Files, title: str) -> tuple[list[Part], list[str]]:
    parts: list[Part] = []
    problems: list[str] = []
    for mode in Mode:
        if name := _report_name(list(files), config, mode):
            found = found_from_csv(files[name], source=name)
            if found is None:
                problems.append(f"{name}: holds no results")
                continue
            problems += found.problems
            parts.append((f"{config.name}_{mode.value}.csv", title, whole_rows(found)))
    suite = suite_of(config.name)
    if not parts and not problems:
        problems.append(f"holds neither inference_{suite}.csv nor training_{suite}.csv")
    return parts, problems


def _read_records(files: Files, title: str) -> tuple[list[Part], list[str]]:
    if not files:
        return [], [f"holds neither {RECORDS} nor a CSV file of results"]
    contents = {PurePosixPath(path).name: content for path, content in files.items()}
    found = tables_from_files(contents, contents.__getitem__)
    problems = list(found.problems)
    if not found.tables:
        problems.append("holds no results")
    for name, each in found.tables.items():
        problems += [f"{name}: {problem}" for problem in each.problems]
    return [(name, title, whole_rows(each)) for name, each in found.tables.items()], problems


def _report_name(names: Sequence[str], config: Config, mode: Mode) -> str:
    """The file that holds a mode's rows, or nothing."""
    candidates = [f"{folder}{mode.value}_{suite_of(config.name)}.csv" for folder in _REPORT_FOLDERS]
    return next((name for name in candidates if name in names), "")


def _uneven(parts: Sequence[Part]) -> list[str]:
    """A mode that some shards have and others lack: shards share the models out, not the modes."""
    shards = {title for _, title, _ in parts}
    tables = dict.fromkeys(name for name, _, _ in parts)
    return [
        f"{title}: has no rows for {name}, while other shards have"
        for name in tables
        for title in sorted(shards - {shard for other, shard, _ in parts if other == name})
    ]


def _joined(parts: Sequence[Part], config: Config) -> tuple[dict[str, Table], list[str]]:
    tables: dict[str, Table] = {}
    conflicts = []
    for name in dict.fromkeys(name for name, _, _ in parts):
        path = f"{config.folder}/{name}" if config.folder else name
        try:
            tables[path] = joined([(title, table) for other, title, table in parts if other == name])
        except TableProblem as error:
            conflicts.append(f"{name}: {error}")
    return tables, conflicts
