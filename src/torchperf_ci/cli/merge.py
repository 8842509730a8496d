"""`torchperf-ci merge`: the results of several runners in one folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.finish import conclude, tell_step, tells_failure
from torchperf_ci.cli.options import GITHUB_FILES, LineItem, argument, command, command_options, option, takes
from torchperf_ci.core.errors import ExitCode, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Record
from torchperf_ci.core.result_files import read_folder, result_folders
from torchperf_ci.core.results import LOGS, ResultsFolder, open_folder, read_results
from torchperf_ci.core.text import count, one_line, safe_name

if TYPE_CHECKING:
    from torchperf_ci.shards.uploads import Piece, Promise

LARGEST_LOG = 16 * 1024 * 1024


@command_options
class MergeOptions:
    folders: tuple[str, ...] = argument(
        metavar="DIR...", nargs=-1, type=LineItem(), envvar="TORCHPERF_FOLDERS", required=True
    )
    output_dir: Path = option(
        type=click.Path(path_type=Path),
        default=Path("benchmark_logs"),
        help="The folder for the joined results. Results of an earlier command there are removed first.",
    )
    matrix: str = option(
        metavar="JSON", help="The matrix that `plan` printed: every shard and model of it must be there."
    )
    allow_missing: bool = option(help="Do not fail when a shard or a model is missing.")
    flag_compilers: tuple[str, ...] = option(
        help="Compilers whose slow, failing or heavy models the report warns about. Repeatable.  [default: inductor's]"
    )
    fail_on: str = option(
        type=click.Choice(["failed", "never"]),
        default="failed",
        help="failed: exit code 6 when a case did not pass; never: exit code 0.",
    )
    name: str = option(default="results", help="The name of these results; it becomes part of the artifact's name.")
    github_files: bool = GITHUB_FILES


@command(short_help="Join the results of several runners into one folder.")
@takes(MergeOptions)
def merge(options: MergeOptions) -> int:
    """Join the results of several runners into one results folder, and write its report.

    DIR is a results folder, or a folder of results folders, such as all downloaded artifacts of a workflow run. The
    name of a folder, torchperf-{name}-{shard}-{attempt}, or else its records say which shard and attempt it holds. The
    newest attempt of each shard counts.

    Exit code 4: a shard or a model is missing, or the results contradict each other; the messages name each of them.

    \b
    Example:
      torchperf-ci merge artifacts --matrix "$MATRIX" --output-dir merged
    """
    with tells_failure(github_files=options.github_files):
        return _merge(options)


def _merge(options: MergeOptions) -> int:
    """Join, report, and tell GitHub; return the exit code with what is missing taken into account."""
    from torchperf_ci.report.model import ReportOptions
    from torchperf_ci.shards.uploads import merge as merge_pieces

    target = options.output_dir
    folders = result_folders([Path(folder) for folder in options.folders])
    if target.resolve() in {each.resolve() for each in folders}:
        raise UsageProblem(f"{target} is one of the folders to merge; choose another with --output-dir")
    merged = merge_pieces([_piece(folder) for folder in folders], _promises(options.matrix))
    for sentence in (*merged.gaps, *merged.notes):
        click.echo(f"Warning: {sentence}", err=True)
    with open_folder(target) as folder:
        folder.empty()
        builds = merged.annotated_builds(allow_missing=options.allow_missing)
        folder.append(*builds, *(_with_log(record, folders[place], folder) for record, place in merged.records))
        if merged.confirmations:
            folder.append_confirmations(merged.confirmations)
        code = conclude(
            folder,
            read_results(target),
            ReportOptions(flag_compilers=options.flag_compilers),
            github_files=options.github_files,
            fail_on=options.fail_on,
        )
    artifact = f"torchperf-merged-{safe_name(options.name)}"
    outputs = {"results": target, "artifact-name": artifact, "missing": len(merged.gaps)}
    tell_step(outputs, github_files=options.github_files)
    if merged.gaps and not options.allow_missing:
        click.echo("Error: results are missing; measure them and merge again, or use --allow-missing", err=True)
        code = int(ExitCode.NOTHING_TO_JUDGE)
        tell_step({"exit-code": code}, github_files=options.github_files)
    said = f"{count(len(merged.records), 'result')} of {count(len(folders), 'folder')}"
    click.echo(one_line(f"Merged {said} into {target}"), err=True)
    return code


def _piece(folder: Path) -> Piece:
    """Read the results of a folder with their shard and attempt."""
    from torchperf_ci.shards.uploads import Piece, identify_folder

    results = read_folder(folder, CaseSelection())
    for problem in results.problems:
        click.echo(one_line(f"Warning: {folder / str(problem)}", limit=300), err=True)
    shard, attempt = identify_folder(folder, lambda: results.records)
    return Piece(label=folder.resolve().name, shard=shard, attempt=attempt, results=results)


def _promises(matrix: str) -> list[Promise]:
    """Read the shards of a plan's matrix. Raises `UsageProblem` when it is none."""
    from torchperf_ci.shards.matrix import parse_filter
    from torchperf_ci.shards.uploads import Configuration, Promise, Shard, parse_shard_name

    if not matrix.strip():
        return []
    try:
        promises = []
        for job in json.loads(matrix)["include"]:
            if (shard := parse_shard_name(job["shard"])) is None:
                raise ValueError(f"shard {job['shard']!r}")
            models = frozenset(model for pattern in job["filter"].split() if (model := parse_filter(pattern)))
            promises.append(Promise(shard=Shard(Configuration(safe_name(job["name"])), *shard), models=models))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageProblem(
            f'--matrix is not what `torchperf-ci plan` prints ({error!r}); pass its output, e.g. --matrix "$MATRIX"'
        ) from error
    return promises


def _with_log(record: Record, source: Path, folder: ResultsFolder) -> Record:
    """Return the record with its log beside it. What is no file among the logs of its folder is left behind."""
    if not record.log:
        return record
    log, logs = (source / record.log).resolve(), (source / LOGS).resolve()
    if not (log.is_relative_to(logs) and log.is_file() and log.stat().st_size <= LARGEST_LOG):
        return replace(record, log="")
    relative = f"{LOGS}/{log.relative_to(logs).as_posix()}"
    folder.write_bytes(relative, log.read_bytes())
    return replace(record, log=relative)
