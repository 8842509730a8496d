"""`torchperf-ci history`: import, list, query, export, compact, accept."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.config import tolerance_rules
from torchperf_ci.cli.files import ImportOptions, ProblemTeller, tell_problems
from torchperf_ci.cli.history_options import HistoryOptions, JudgingOptions
from torchperf_ci.cli.options import GitHubOptions, Group, argument, command_options, option, takes
from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Metric, Source
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import RECORDS, Problem, Results, open_folder
from torchperf_ci.core.text import count, csv_cell, draw_table, format_digits, one_line, some_of, write_csv
from torchperf_ci.formats.model import ImportFormat

if TYPE_CHECKING:
    from torchperf_ci.history.runs import HistoryRun

MOST_LEFT_OUT = 20
"""So many of the things left out by an import are named."""

_FORMAT = option("--format", type=click.Choice(["table", "csv", "json"]), default="table", help="How to print it.")
_DRY_RUN = option(help="Write nothing; say what would be done.")


@command_options
class HistoryImportOptions:
    path: str = argument()
    form: str | None = option(
        "--format",
        type=click.Choice([each.value for each in ImportFormat]),
        metavar="FORMAT",
        help=f"The format of another tool's files: {', '.join(ImportFormat)}.  [default: by their content]",
    )
    git_branch: str = option(
        metavar="BRANCH",
        help="PATH is a git repository, here or a URL; read the data.js of github-action-benchmark on this branch.",
    )
    commit: str = option(help="The commit of everything.  [default: as in the files]")
    branch: str = option(help="The branch of everything.  [default: as in the files]")
    suite: str = option(help="The suite of everything.  [default: as in the files]")
    device: str = option(default="cpu", help="The device of benchmarks that do not say it.")
    dtype: str = option(default="unknown", help="Likewise the dtype.")
    dry_run: bool = _DRY_RUN
    reading: ImportOptions
    history: HistoryOptions
    github: GitHubOptions


@command_options
class HistoryListOptions:
    last: int = option(type=click.IntRange(min=1), default=20, help="How many runs, newest first.")
    form: str = _FORMAT
    history: HistoryOptions
    github: GitHubOptions


@command_options
class HistoryQueryOptions:
    sql: str = argument()
    form: str = _FORMAT
    history: HistoryOptions
    github: GitHubOptions


@command_options
class HistoryExportOptions:
    key: str = argument()
    directory: Path = argument(metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
    history: HistoryOptions
    github: GitHubOptions


@command_options
class HistoryCompactOptions:
    dry_run: bool = _DRY_RUN
    history: HistoryOptions
    github: GitHubOptions


@command_options
class HistoryAcceptOptions:
    """Say which changes may be as they are, and why."""

    case: str = argument()
    metric: str = option(
        metavar="NAME", default="*", help="Only this metric, e.g. speedup; a pattern of shell wildcards."
    )
    reason: str = option(required=True, help="Why it may be so; the dashboard shows it.")
    by: str = option(help="Who says so.  [default: the user]")
    dry_run: bool = _DRY_RUN
    history: HistoryOptions
    judging: JudgingOptions
    github: GitHubOptions


@click.group(cls=Group, short_help="Import, list, ask and compact the kept runs; accept changes.")
def history() -> None:
    """Look into the runs that `torchperf-ci dashboard` keeps: Parquet files, one per run, shard and attempt."""


@history.command("import")
@takes(HistoryImportOptions)
def import_(options: HistoryImportOptions) -> None:
    """Add the runs in PATH. What is there already stays; importing twice adds nothing.

    PATH is an archive with lookup.csv, a results folder, or another tool's history: the data.js of
    github-action-benchmark, asv's results, rows of PyTorch's benchmark database (a file, a folder, or a URL that
    fsspec knows), a .benchmarks folder of pytest-benchmark, files of Google Benchmark, Bencher or fastrnns, or a table
    with named columns. Metrics of other tools keep their names, units and directions.

    CSV files of runs say neither commit nor time: --commit, --branch and --time do. The runs of an archive have times
    of their own; --commit and --time are for one run.

    \b
    Examples:
      torchperf-ci history import . --git-branch gh-pages
      torchperf-ci history import .asv/results
      torchperf-ci history import times.csv --column model=name --column value=seconds --column time=date
    """
    with options.history.open(options.github) as kept, ProblemTeller() as teller:
        added = known = 0
        for run, problems in _read_runs(options):
            teller.tell(problems)
            if not run.results.records:
                continue
            sizes = kept.add(run, Path(options.path), dry_run=options.dry_run).sizes
            for file, size in sizes.items():
                click.echo(f"{'Would write' if options.dry_run else 'Wrote'} {file} ({size:,} bytes)", err=True)
            added, known = (added + 1, known) if sizes else (added, known + 1)
        if not added and not known:
            raise NothingToJudge(
                f"there are no results in {one_line(options.path)}; name a results folder, an archive with lookup.csv, "
                "or another tool's files, of which --format says the format"
            )
        done = "Would add" if options.dry_run else "Added"
        click.echo(f"{done} {count(added, 'run')} to {kept.files.where}; {known:,} were there already")


@history.command("list")
@takes(HistoryListOptions)
def list_(options: HistoryListOptions) -> None:
    """List the newest runs: key, time, commit, and what was measured."""
    from torchperf_ci.history.parquet import describe_empty
    from torchperf_ci.history.runs import RunFilter

    with options.history.open(options.github) as kept:
        past = kept.read_last(options.last, RunFilter(name=options.history.name))
        tell_problems(past.problems)
        if not past.runs:
            raise NothingToJudge(describe_empty(kept.files.where, options.history.name))
    rows = []
    for run in reversed(past.runs):
        records = run.results.records
        cases = [record.case for record in records]
        rows.append(
            {
                "key": run.key,
                "time": f"{run.time:%Y-%m-%d %H:%M}",
                "commit": run.source.commit[:12],
                "branch": run.source.branch,
                "attempts": max(record.source.attempt for record in records),
                "suites": " ".join(dict.fromkeys(case.suite for case in cases)),
                "compilers": " ".join(dict.fromkeys(case.compiler for case in cases)),
                "dtypes": " ".join(dict.fromkeys(case.dtype for case in cases)),
                "passed": sum(record.status.is_pass for record in records),
                "records": len(records),
            }
        )
    if options.form == "table":  # as narrow as can be; what is the same in all runs tells little
        for row in rows:
            row["passed"] = f"{row['passed']:,}/{row.pop('records'):,}"
        if all(row["attempts"] == 1 for row in rows):
            rows = [{name: cell for name, cell in row.items() if name != "attempts"} for row in rows]
    click.echo(_print_table(list(rows[0]), [list(row.values()) for row in rows], options.form))


@history.command()
@takes(HistoryQueryOptions)
def query(options: HistoryQueryOptions) -> None:
    """Answer a question in DuckDB's SQL over the table `history`: a row per metric of a record, docs/scale.md has the
    columns. The table `parts` holds superseded attempts as well.

    \b
    Example:
      torchperf-ci history query "SELECT run_time, value FROM history
        WHERE model = 'mlp' AND metric = 'speedup' ORDER BY run_time"
    """
    with options.history.open(options.github) as kept:
        result = kept.ask(options.sql)
        tell_problems(result.problems)
        click.echo(_print_table(result.columns, result.rows, options.form))


@history.command()
@takes(HistoryExportOptions)
def export(options: HistoryExportOptions) -> None:
    """Write the run KEY of `history list` back into the results folder DIR, e.g. to compare another run with it."""
    target = options.directory / RECORDS
    if target.exists():
        raise UsageProblem(f"{options.directory} holds results already; choose another folder")
    with options.history.open(options.github) as kept:
        run = kept.read_run(name=options.history.name, key=options.key)
    with open_folder(options.directory, option="") as folder:
        folder.append(*run.results.builds, *run.results.records)
        if run.results.confirmations:
            folder.append_confirmations(run.results.confirmations)
    click.echo(one_line(f"Wrote {count(len(run.results.records), 'record')} to {target}"))


@history.command()
@takes(HistoryCompactOptions)
def compact(options: HistoryCompactOptions) -> None:
    """Make one file of the many of every month that is over. Nothing is lost; the current month is not changed."""
    from torchperf_ci.history.parquet import compact as compact_months

    with options.history.open(options.github) as kept:
        done = "Would compact" if options.dry_run else "Compacted"
        months = 0
        for item in compact_months(kept, now=datetime.now(timezone.utc), dry_run=options.dry_run):
            months += 1
            click.echo(
                f"{done} {item.month}: {count(len(item.replaced), 'file')} ({item.before:,} bytes) into {item.path} "
                f"({item.after:,} bytes)"
            )
        if not months:
            click.echo("There is nothing to compact: no finished month has more than one file")


@history.command()
@takes(HistoryAcceptOptions)
def accept(options: HistoryAcceptOptions) -> None:
    """Accept the changes for the worse that are open now: they are not open any more, and their level is the usual one.

    CASE is suite/model, or a whole name as in "tiny/mlp inductor inference float32 cpu"; both may be patterns of shell
    wildcards. What gets still worse is open again. A failure cannot be accepted.

    \b
    Examples:
      torchperf-ci history accept tiny/mlp --metric speedup --reason "safer attention, see #42"
      torchperf-ci history accept "huggingface/*" --reason "torch 2.13" --data-branch torchperf-data --repo org/project
    """
    from torchperf_ci.dashboard.commits import judge_accepted
    from torchperf_ci.dashboard.states import State
    from torchperf_ci.history.acceptances import Acceptance, encode_acceptances, read_acceptances
    from torchperf_ci.history.parquet import describe_empty
    from torchperf_ci.history.runs import RunFilter

    name = options.history.name
    with options.history.open(options.github, message="Accept a change") as kept:
        collection = kept.read_series(
            options.judging.look_back, RunFilter(name=name, branch=options.judging.compare_branch)
        )
        known, problems = read_acceptances(kept.files, name)
        tell_problems([*collection.problems, *problems])
        series = collection.list_series()
        if not series:
            raise NothingToJudge(describe_empty(kept.files.where, name))
        newest = max((each.points[-1].run for each in series), key=lambda run: run.time)
        acceptance = Acceptance(
            case=options.case,
            metric=options.metric,
            name=name,
            commit=newest.commit,
            time=datetime.now(timezone.utc),
            until=newest.time,
            by=options.by or os.environ.get("GITHUB_ACTOR", "") or getpass.getuser(),
            reason=options.reason,
        )
        states = judge_accepted(series, rules=tolerance_rules(), acceptances=known)
        changed = [item for item in states if item.state is State.CHANGED]
        accepted = [item for item in changed if acceptance.fits(item.case, item.metric.name)]
        if not accepted:
            there_are = some_of(list(dict.fromkeys(f"{item.case} {item.metric.name}" for item in changed)), 10)
            raise NothingToJudge(
                f"no open change fits {one_line(options.case)!r} with --metric {one_line(options.metric)!r}. "
                + (f"Open are: {one_line(there_are)}" if changed else "No change is open")
            )
        if not options.dry_run:
            kept.files.write(encode_acceptances([acceptance]))
        for item in accepted:
            day = f"{item.since.time:%Y-%m-%d}" if item.since else ""
            done = "Would accept" if options.dry_run else "Accepted"
            values = [format_digits(value, 4) for value in (item.old, item.new) if value is not None]
            numbers = " → ".join(values) if len(values) == 2 else ""
            click.echo(one_line(f"{done} {item.case} {item.metric.name}: {numbers}, since {day}", limit=300))


def _read_runs(options: HistoryImportOptions) -> Iterator[tuple[HistoryRun, Sequence[Problem]]]:
    """Read the runs of our own folders, or of another tool's files; of these, say what was taken and what was not."""
    from torchperf_ci.formats.imports import read_location, runs_of
    from torchperf_ci.formats.model import ImportRequest
    from torchperf_ci.history.archive import INDEX

    folder = Path(options.path)
    ours = [INDEX, RECORDS, "*_performance.csv", "*_accuracy.csv"]
    is_foreign = options.form or options.git_branch
    if not is_foreign and folder.is_dir() and any(next(folder.glob(name), None) for name in ours):
        moment = options.reading.moment()
        fields = {"time": moment.isoformat() if moment else "", "commit": options.commit, "branch": options.branch}
        given = {name: value for name, value in fields.items() if value}
        yield from _read_own_runs(folder, name=options.history.name, given=given)
        return
    known = ImportRequest(
        # Not of this job: what is imported was measured elsewhere, at another time.
        source=Source(repository=options.github.repository or ""),
        form=ImportFormat(options.form) if options.form else None,
        commit=options.commit,
        branch=options.branch,
        suite=options.suite,
        device=options.device or "cpu",
        dtype=options.dtype or "unknown",
    )
    imported = read_location(options.path, options.reading.add_to(known), git_branch=options.git_branch)
    runs, timeless = runs_of(imported, name=options.history.name)
    _print_import(runs, [*imported.left_out, *timeless])
    for run in runs:
        yield run, ()


def _read_own_runs(
    path: Path, *, name: str, given: Mapping[str, str]
) -> Iterator[tuple[HistoryRun, Sequence[Problem]]]:
    """Read the runs of an archive, oldest first, or the one of a results folder, with what cannot be read of each.

    given: what was typed of a source, by the names of its fields.
    """
    from torchperf_ci.history.archive import INDEX, ArchiveHistory
    from torchperf_ci.history.runs import make_folder_run, make_run, parse_time

    if not (path / INDEX).is_file():
        results = read_folder(path, CaseSelection())
        source = Source(commit=given.get("commit", ""), branch=given.get("branch", ""))
        run = make_folder_run(path, results, name=name, source=source)
        if given:
            run = make_run(_stamp(run.results, given), name=name, now=run.time)
        yield run, results.problems
        return
    archive = ArchiveHistory(root=path, read=read_folder)
    entries, problems = archive.list_entries()
    tell_problems(problems)
    if len(entries) > 1 and {"time", "commit"} & set(given):
        raise click.UsageError(f"--time and --commit are for one run; {path} is an archive of {len(entries)}")
    for entry in entries:
        run, problems = archive.read_run(entry, CaseSelection(), name=name)
        if given:
            # A record needs a time to keep the source that was given; that of the archive is the run's.
            stamp = {"time": run.time.isoformat(), **given}
            run = replace(run, results=_stamp(run.results, stamp), time=parse_time(stamp["time"]) or run.time)
        yield run, problems


def _stamp(results: Results, given: Mapping[str, str]) -> Results:
    """Replace what is given of every record's source."""
    fields: dict[str, Any] = dict(given)
    records = tuple(replace(record, source=replace(record.source, **fields)) for record in results.records)
    builds = tuple(replace(build, time=given.get("time", build.time)) for build in results.builds)
    return replace(results, records=records, builds=builds)


def _print_import(runs: Sequence[HistoryRun], left_out: Sequence[str]) -> None:
    """Say what was taken, metric by metric, and what was not, and why."""
    series: dict[Metric, set[object]] = {}
    values = 0
    for record in (record for run in runs for record in run.results.records):
        for metric in record.defined_metrics():
            series.setdefault(metric, set()).add((record.case, record.environment.host))
            values += 1
    if runs:
        commits = {run.source.commit for run in runs} - {""}
        span = f"{runs[0].time:%Y-%m-%d} to {runs[-1].time:%Y-%m-%d}"
        click.echo(
            f"Took {count(values, 'value')} in {count(len(runs), 'run')} of {count(len(commits), 'commit')}, {span}"
        )
    for metric, cases in series.items():
        better = "direction unknown" if metric.direction == "unknown" else f"{metric.direction} is better"
        unit = f" ({one_line(metric.unit, limit=40)})" if metric.unit else ""
        click.echo(f"  {one_line(metric.name, limit=80)}{unit}, {better}: {len(cases):,} series")
    if left_out:
        click.echo(f"Left out {len(left_out):,}:")
    for text in left_out[:MOST_LEFT_OUT]:
        click.echo(f"  {one_line(text, limit=300)}")
    if len(left_out) > MOST_LEFT_OUT:
        click.echo(f"  and {len(left_out) - MOST_LEFT_OUT:,} more")


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], form: str) -> str:
    """Write a table as text for a terminal, as CSV or as JSON."""
    match form:
        case "csv":
            cells = [[csv_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
            return write_csv([columns, *cells]).rstrip("\n")
        case "json":
            return json.dumps([dict(zip(columns, row, strict=True)) for row in rows], default=str, indent=2)
        case _:
            texts = [["" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
            return draw_table(list(map(one_line, columns)), texts)
