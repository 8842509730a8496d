"""`torchperf-ci history`: import, list, query, export, compact."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.history_options import history_options, opened_history
from torchperf_ci.cli.import_options import import_options, import_request
from torchperf_ci.cli.options import Decorated, GitHubOptions, Group, github_options, option
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.text import csv_cell, one_line
from torchperf_ci.formats.imports import Format as ImportFormat

if TYPE_CHECKING:
    from torchperf_ci.core.results import Problem, Results
    from torchperf_ci.history.store import Run

FORMATS = ("table", "csv", "json")


@click.group(cls=Group, short_help="Import, list, ask and compact the kept runs.")
def history() -> None:
    """The runs that `torchperf-ci dashboard` keeps: Parquet files, one per run, shard and attempt."""


def _place_options(function: Decorated) -> Decorated:
    return history_options(github_options(function))


_format_option = option("--format", "form", type=click.Choice(FORMATS), default="table", help="How to print it.")


@history.command("import")
@click.argument("path")
@_place_options
@option(
    "--format",
    "form",
    type=click.Choice([each.value for each in ImportFormat]),
    help="The format of another tool's files.  [default: by their content]",
)
@option(
    "--git-branch",
    metavar="BRANCH",
    default="",
    show_default=False,
    help="PATH is a git repository, here or a URL; read the data.js of github-action-benchmark on this branch.",
)
@import_options
@option("--commit", default="", show_default=False, help="The commit of everything.  [default: as in the files]")
@option("--branch", default="", show_default=False, help="The branch of everything.  [default: as in the files]")
@option("--suite", default="", show_default=False, help="The suite of everything.  [default: as in the files]")
@option("--device", default="cpu", help="The device of benchmarks that do not say it.")
@option("--dtype", default="unknown", help="Likewise the dtype.")
@option("--dry-run", is_flag=True, help="Only say what would be written.")
def import_(path: str, *, github: GitHubOptions, dry_run: bool, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Add the runs in PATH. What is there already stays, and importing twice adds nothing.

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
    from torchperf_ci.core.text import count

    with opened_history(options, github) as kept:
        added = known = 0
        for run, problems in _runs_to_import(path, github, options):
            _warn(problems)
            if not run.results.records:
                continue
            sizes = kept.add(run, Path(path), dry_run=dry_run).sizes
            for file, size in sizes.items():
                click.echo(f"{'Would write' if dry_run else 'Wrote'} {file} ({size:,} bytes)", err=True)
            added, known = (added + 1, known) if sizes else (added, known + 1)
        if not added and not known:
            raise NothingToJudge(f"there are no results in {one_line(path)}")
        done = "Would add" if dry_run else "Added"
        click.echo(f"{done} {count(added, 'run')} to {kept.files.where}; {known:,} were there already")


@history.command("list")
@_place_options
@option("--last", type=click.IntRange(min=1), default=20, help="How many runs, newest first.")
@_format_option
def list_(*, github: GitHubOptions, last: int, form: str, **options: Any) -> None:  # noqa: ANN401 - click's values
    """List the newest runs: key, time, commit, and what was measured."""
    from torchperf_ci.history.store import Wanted

    with opened_history(options, github) as kept:
        past = kept.last(last, Wanted(name=options["name"]))
        _warn(past.problems)
        if not past.runs:
            raise NothingToJudge(f"the history {kept.files.where} holds no runs of the series {options['name']}")
        click.echo(_printed(_LISTED, [_listed(run) for run in reversed(past.runs)], form))


@history.command()
@click.argument("sql")
@_place_options
@_format_option
def query(sql: str, *, github: GitHubOptions, form: str, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Answer a question in DuckDB's SQL over the table `history`: a row per metric of a record, docs/scale.md has the
    columns. The table `parts` holds superseded attempts as well.

    \b
    Example:
      torchperf-ci history query "SELECT run_time, value FROM history
        WHERE model = 'mlp' AND metric = 'speedup' ORDER BY run_time"
    """
    from torchperf_ci.history.query import ask

    with opened_history(options, github) as kept:
        answer = ask(kept, sql)
        _warn(answer.problems)
        click.echo(_printed(answer.columns, answer.rows, form))


@history.command()
@click.argument("key")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@_place_options
def export(key: str, directory: Path, *, github: GitHubOptions, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Write the run KEY of `history list` back into the results folder DIR, say to compare another run with it."""
    from torchperf_ci.core.errors import UsageProblem
    from torchperf_ci.core.results import RECORDS, open_folder
    from torchperf_ci.history.full import read_run

    if (directory / RECORDS).exists():
        raise UsageProblem(f"{directory} holds results already; choose another folder")
    with opened_history(options, github) as kept:
        run = read_run(kept, name=options["name"], key=key)
    with open_folder(directory) as folder:
        folder.append(*run.results.builds, *run.results.records)
    click.echo(f"Wrote {len(run.results.records):,} records to {directory / RECORDS}")


@history.command()
@_place_options
@option("--dry-run", is_flag=True, help="Only say what would be done.")
def compact(*, github: GitHubOptions, dry_run: bool, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Make one file of the many of every month that is over. Nothing is lost; the month that runs stays as it is."""
    from torchperf_ci.history.compact import compact as compacted

    with opened_history(options, github) as kept:
        done = "Would compact" if dry_run else "Compacted"
        items = 0
        for item in compacted(kept, now=datetime.now(timezone.utc), dry_run=dry_run):
            items += 1
            click.echo(
                f"{done} {item.month}: {len(item.replaced):,} files ({item.before:,} bytes) into {item.path} "
                f"({item.after:,} bytes)"
            )
        if not items:
            click.echo("There is nothing to compact: no finished month has more than one file")


def _given(time: str, commit: str, branch: str) -> dict[str, str]:
    """What was typed of a source, by the names of its fields."""
    from torchperf_ci.history.store import moment_of

    moment = moment_of(time) if time else None
    if time and moment is None:
        raise click.UsageError(f"--time {time!r} is no time; write it as 2026-01-31T12:00:00+00:00")
    fields = {"time": moment.isoformat() if moment else "", "commit": commit, "branch": branch}
    return {field: value for field, value in fields.items() if value}


def _with_source(results: Results, given: Mapping[str, str]) -> Results:
    if not given:
        return results
    stamps: dict[str, Any] = dict(given)
    records = tuple(replace(record, source=replace(record.source, **stamps)) for record in results.records)
    builds = tuple(replace(build, time=given.get("time", build.time)) for build in results.builds)
    return replace(results, records=records, builds=builds)


def _runs_to_import(
    path: str, github: GitHubOptions, options: dict[str, Any]
) -> Iterator[tuple[Run, Sequence[Problem]]]:
    """The runs of our own folders, or of another tool's files; of these it is said what was taken and what was not."""
    from torchperf_ci.core.records import Source
    from torchperf_ci.core.results import RECORDS
    from torchperf_ci.formats.foreign import Defaults
    from torchperf_ci.formats.imports.read import read_location, runs_of
    from torchperf_ci.history.lookup import INDEX

    folder = Path(path)
    ours = [INDEX, RECORDS, "*_performance.csv", "*_accuracy.csv"]
    foreign = options["form"] or options["git_branch"]
    if not foreign and folder.is_dir() and any(next(folder.glob(name), None) for name in ours):
        given = _given(options["time"], options["commit"], options["branch"])
        yield from _runs_in(folder, name=options["name"], given=given)
        return
    defaults = Defaults(
        # Not of this job: what is imported was measured elsewhere, at another time.
        source=Source(repository=github.repository or ""),
        commit=options["commit"],
        branch=options["branch"],
        suite=options["suite"],
        device=options["device"] or "cpu",
        dtype=options["dtype"] or "unknown",
    )
    request = import_request(options, defaults, form=options["form"])
    imported = read_location(path, request, git_branch=options["git_branch"])
    runs, timeless = runs_of(imported, name=options["name"])
    _tell_import(runs, [*imported.left_out, *timeless])
    for run in runs:
        yield run, ()


_LEFT_OUT_SHOWN = 20


def _tell_import(runs: Sequence[Run], left_out: Sequence[str]) -> None:
    """Say what was taken, metric by metric, and what was not, and why."""
    from torchperf_ci.core.records import Metric
    from torchperf_ci.core.text import count

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
    for text in left_out[:_LEFT_OUT_SHOWN]:
        click.echo(f"  {one_line(text, limit=300)}")
    if len(left_out) > _LEFT_OUT_SHOWN:
        click.echo(f"  and {len(left_out) - _LEFT_OUT_SHOWN:,} more")


def _runs_in(path: Path, *, name: str, given: dict[str, str]) -> Iterator[tuple[Run, Sequence[Problem]]]:
    """The runs of an archive, oldest first, or the one of a results folder, each with what cannot be read of it."""
    from torchperf_ci.core.frames import CaseSelection
    from torchperf_ci.core.records import Source
    from torchperf_ci.core.result_files import read_folder
    from torchperf_ci.dashboard.run import run_in
    from torchperf_ci.history.lookup import INDEX, LookupHistory
    from torchperf_ci.history.store import moment_of, run_of

    if not (path / INDEX).is_file():
        results = read_folder(path, CaseSelection())
        source = Source(commit=given.get("commit", ""), branch=given.get("branch", ""))
        run = run_in(path, results, name=name, source=source)
        if given:
            run = run_of(_with_source(run.results, given), name=name, now=run.time)
        yield run, results.problems
        return
    archive = LookupHistory(root=path, read=read_folder)
    entries, problems = archive.entries()
    _warn(problems)
    if len(entries) > 1 and {"time", "commit"} & set(given):
        raise click.UsageError(f"--time and --commit are for one run; {path} is an archive of {len(entries)}")
    for entry in entries:
        run, problems = archive.run(entry, CaseSelection(), name=name)
        # A record needs a time to keep the source that was given; that of the archive is the run's.
        stamp = {"time": run.time.isoformat(), **given} if given else {}
        results = _with_source(run.results, stamp)
        yield replace(run, results=results, time=moment_of(stamp["time"]) or run.time if stamp else run.time), problems


def _warn(problems: Sequence[Problem]) -> None:
    for problem in problems:
        click.echo(f"Warning: {one_line(str(problem))}", err=True)


_LISTED = ("key", "time", "commit", "branch", "attempts", "suites", "compilers", "dtypes", "passed", "records")


def _listed(run: Run) -> tuple[object, ...]:
    records = run.results.records
    cases = [record.case for record in records]
    return (
        run.key,
        f"{run.time:%Y-%m-%d %H:%M}",
        run.source.commit[:12],
        run.source.branch,
        max(record.source.attempt for record in records),
        *(
            " ".join(dict.fromkeys(names))
            for names in zip(*((c.suite, c.compiler, c.dtype) for c in cases), strict=True)
        ),
        sum(record.status.is_pass for record in records),
        len(records),
    )


def _printed(columns: Sequence[str], rows: Sequence[Sequence[object]], form: str) -> str:
    match form:
        case "csv":
            stream = io.StringIO()
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([csv_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
            return stream.getvalue().rstrip("\n")
        case "json":
            return json.dumps([dict(zip(columns, row, strict=True)) for row in rows], default=str, indent=2)
        case _:
            from tabulate import tabulate

            cells = [["" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
            return tabulate(cells, headers=list(map(one_line, columns)), tablefmt="simple", disable_numparse=True)
