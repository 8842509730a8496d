"""A commit's tables, from folders on disk or from elsewhere, merged into the expectation tables of a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.result_files import holds_results, read_file
from torchperf_ci.core.results import RECORDS, read_results
from torchperf_ci.expectations.collect import (
    ConfigRun,
    Files,
    assemble,
    refuse_shared_tables,
    wanted_files,
)
from torchperf_ci.expectations.files import read_table, write_expectation
from torchperf_ci.expectations.merge import Merged, merge
from torchperf_ci.expectations.rows import found_from_csv, table_stem, whole_rows
from torchperf_ci.expectations.table import TableProblem, shown, write_table
from torchperf_ci.shards.uploads import (
    Attempt,
    Config,
    Layout,
    Shard,
    State,
    choose,
    parse_own_artifact,
    parse_test_reports,
    shard_recorded,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableUpdate:
    """What a run does to one table. path: below the expected folder. is_new: there was no such table."""

    path: str
    merged: Merged
    is_new: bool

    @property
    def text(self) -> str:
        """The file's new content."""
        return write_table(self.merged.table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a run does to a folder of tables.

    gaps: by configuration (blank: beyond a single one) why it is incomplete. untouched: the configurations whose tables
    were left alone for it. notes: by configuration what else to know.
    """

    tables: tuple[TableUpdate, ...]
    gaps: tuple[tuple[str, str], ...] = ()
    untouched: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def written(self) -> tuple[TableUpdate, ...]:
        """The tables that differ from what was there."""
        return tuple(table for table in self.tables if table.merged.written)


def plan_update(
    folder: Path,
    runs: Sequence[ConfigRun],
    *,
    gaps: Iterable[str] = (),
    metric_columns: Sequence[str] = (),
    prune: bool = False,
    allow_missing: bool = False,
) -> Update:
    """What the tables of `runs` do to those in `folder`; nothing is written.

    An incomplete configuration leaves its tables alone, or, with `allow_missing`, updates the rows it has and prunes
    none. Raises `UsageProblem` when two configurations fill the same table.
    """
    refuse_shared_tables(runs)
    tables: list[TableUpdate] = []
    found = [("", gap) for gap in gaps]
    untouched = []
    notes: list[tuple[str, str]] = []
    for run in runs:
        changes, problems, said = _planned(folder, run, metric_columns, prune=prune and not run.gaps)
        notes += [(str(run.config), note) for note in (*run.notes, *said)]
        reasons = [*run.gaps, *problems]
        found += [(str(run.config), gap) for gap in reasons]
        if reasons and not allow_missing:
            untouched.append(str(run.config))
        else:
            tables += changes
    return Update(tables=tuple(tables), gaps=tuple(found), untouched=tuple(untouched), notes=tuple(notes))


def apply_update(folder: Path, update: Update) -> None:
    """Write the tables that change, each at once. Raises `UsageProblem` when one cannot be written."""
    for table in update.written:
        write_expectation(folder / table.path, table.merged.table)


def runs_on_disk(directory: Path, layout: Layout, configs: Sequence[str] = ()) -> tuple[ConfigRun, ...]:
    """The tables of results folders: `directory` itself, or the folders in it (artifacts as they were downloaded).

    A CSV of a run is read as well, for the table of its name, or of the one configuration that is asked for. Raises
    `NothingToJudge` when there is none, and `UsageProblem` when one cannot be read.
    """
    if directory.is_file():
        return (_run_in_file(directory, configs),)
    folders = dict(enumerate(_upload_folders(directory, layout), start=1))
    attempts = [attempt for number, folder in folders.items() if (attempt := _attempt(folder, layout, number))]
    choices = [
        choice
        for choice in choose(attempts)
        if not configs or choice.config.name in configs or str(choice.config) in configs
    ]
    if not choices:
        what = f"{RECORDS} or CSV file of results" if layout is Layout.TORCHPERF else "a folder named test-reports-…"
        raise NothingToJudge(f"{directory} holds no {what}{' of ' + ', '.join(configs) if configs else ''}")
    uploads = {a.upload: _files(folders[a.upload], layout, a.shard.config) for c in choices for a in c.chosen}
    return tuple(assemble(layout, choice, uploads) for choice in choices)


def _run_in_file(path: Path, configs: Sequence[str]) -> ConfigRun:
    """What a single CSV of a run says."""
    content = read_file(path)
    found = found_from_csv(content, source=path.name) if isinstance(content, bytes) else None
    if found is None:
        raise UsageProblem(f"{path} holds no results: a CSV of a run has a column 'name' and one of its numbers")
    if len(configs) > 1:
        raise UsageProblem(f"{path} is for one table; give one --config, not {len(configs)}")
    name = configs[0] if configs else table_stem(path.stem)
    return ConfigRun(config=Config(name), tables={f"{name}.csv": whole_rows(found)}, gaps=found.problems)


def _planned(
    folder: Path, run: ConfigRun, metric_columns: Sequence[str], *, prune: bool
) -> tuple[list[TableUpdate], list[str], list[str]]:
    """The changes to a run's tables, what keeps some from being changed, and what else to know."""
    changes, problems, notes = [], [], []
    for path, found in sorted(run.tables.items()):
        doubles: dict[str, str] = {}
        try:
            old = read_table(folder / path, doubles)
            merged = merge(old, found, metric_columns=metric_columns, prune=prune)
        except TableProblem as error:
            problems.append(f"{path}: {error}")
        else:
            changes.append(
                TableUpdate(
                    path=path, merged=replace(merged, written=merged.written or bool(doubles)), is_new=old is None
                )
            )
            notes += [f"{path}: {shown(name)} stood there twice ({at})" for name, at in doubles.items()]
    return changes, problems, notes


def _upload_folders(directory: Path, layout: Layout) -> Iterator[Path]:
    if not directory.is_dir():
        raise UsageProblem(f"there is no folder {directory}")
    for folder in (directory, *sorted(path for path in directory.iterdir() if path.is_dir())):
        if holds_results(folder) if layout is Layout.TORCHPERF else parse_test_reports(folder.name) is not None:
            yield folder


def _attempt(folder: Path, layout: Layout, number: int) -> Attempt | None:
    """The attempt that a folder is, by its name, or else by what its records say; a folder of CSVs, which say nothing,
    is a configuration of its own."""
    name = folder.resolve().name
    if layout is Layout.TORCHPERF:
        shard, attempt = parse_own_artifact(name) or _recorded(folder, name)
        age: tuple[int, ...] = (attempt,)
    elif reports := parse_test_reports(name):
        shard, age = reports.shard, (reports.attempt, reports.job)
    else:
        return None
    return Attempt(shard=shard, age=(*age, number), state=State.UPLOADED, label=str(folder), upload=number)


def _recorded(folder: Path, name: str) -> tuple[Shard, int]:
    if (folder / RECORDS).is_file():
        return shard_recorded(read_results(folder).records)
    return Shard(Config(name), 1, 1), 1


def _files(folder: Path, layout: Layout, config: Config) -> Mapping[str, bytes]:
    below = folder.rglob("*") if layout is Layout.PYTORCH else folder.iterdir()
    names = [path.relative_to(folder).as_posix() for path in below if path.is_file()]
    try:
        found: Files = {name: (folder / name).read_bytes() for name in wanted_files(layout, config)(names)}
    except OSError as error:
        raise UsageProblem(f"{error.filename} cannot be read ({error.strerror})") from error
    return found
