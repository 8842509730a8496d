"""`torchperf-ci merge`: the results of several runners in one folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.finish import conclude, write_exit_code
from torchperf_ci.cli.options import LineItem, command, option
from torchperf_ci.core.errors import ExitCode, TorchperfError, UsageProblem

if TYPE_CHECKING:
    from torchperf_ci.core.records import Record
    from torchperf_ci.core.results import ResultsFolder
    from torchperf_ci.shards.merge import Merged, Piece, Promise

LARGEST_LOG = 16 * 1024 * 1024


@command(short_help="Join the results of several runners into one folder.")
@click.argument("folders", metavar="DIR...", nargs=-1, type=LineItem(), envvar="TORCHPERF_FOLDERS", required=True)
@option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("benchmark_logs"),
    help="The folder for the joined results. What an earlier command wrote there is removed first.",
)
@option(
    "--matrix", default="", show_default=False, metavar="JSON", help="What `plan` printed: every shard must be there."
)
@option("--allow-missing", is_flag=True, help="Do not fail when a shard, or a model of it, is missing.")
@option(
    "--flag-compilers",
    multiple=True,
    help="Compilers whose slow, failing or heavy models the report warns about. Repeatable.  [default: inductor's]",
)
@option(
    "--fail-on",
    type=click.Choice(["failed", "never"]),
    default="failed",
    help="failed: exit with 6 when a case did not pass; never: with 0.",
)
@option("--name", default="results", help="Name of these results; part of the artifact's name in GitHub Actions.")
@option("--github-files", is_flag=True, help="Write step outputs and the step summary for GitHub Actions.")
def merge(folders: tuple[str, ...], **options: Any) -> int:  # noqa: ANN401 - click's values
    """Join the results of several runners into one results folder, and make its report.

    DIR is a results folder (also one of CSV files of a suite runner), or a folder of such folders, say of all artifacts
    that a workflow downloaded. Which shard
    and which attempt a folder holds is said by its name, torchperf-{name}-{shard}-{attempt}, else by its records. Of
    every shard the newest attempt counts.

    Exit code 4: a shard or a model is missing, or the results contradict each other; everything is named.

    \b
    Example:
      torchperf-ci merge artifacts --matrix "$MATRIX" --output-dir merged
    """
    try:
        return _merge([Path(folder) for folder in folders], options)
    except TorchperfError as error:
        write_exit_code(int(error.exit_code), github_files=options["github_files"])
        raise


def _merge(folders: Sequence[Path], options: dict[str, Any]) -> int:
    from torchperf_ci.core.result_files import result_folders
    from torchperf_ci.core.results import open_folder, read_results
    from torchperf_ci.report.model import ReportOptions
    from torchperf_ci.shards.merge import merge as joined

    target: Path = options["output_dir"]
    found = result_folders(folders)
    if target.resolve() in {each.resolve() for each in found}:
        raise UsageProblem(f"{target} is one of the folders to merge; choose another with --output-dir")
    merged = joined([_piece(folder) for folder in found], _promises(options["matrix"]))
    for sentence in (*merged.gaps, *merged.notes):
        click.echo(f"Warning: {sentence}", err=True)
    with open_folder(target) as folder:
        folder.empty()
        builds = merged.told(allow_missing=options["allow_missing"])
        folder.append(*builds, *(_with_log(record, found[place], folder) for record, place in merged.records))
        report = ReportOptions(flag_compilers=tuple(options["flag_compilers"]))
        code = conclude(
            folder,
            read_results(target),
            report,
            os.environ,
            github_files=options["github_files"],
            fail_on=options["fail_on"],
        )
    code = _told(merged, target, options, code)
    click.echo(f"{len(merged.records)} results of {len(found)} folders are in {target}", err=True)
    return code


def _told(merged: Merged, target: Path, options: dict[str, Any], code: int) -> int:
    """The exit code with what is missing taken into account, told to GitHub as well."""
    missing = bool(merged.gaps) and not options["allow_missing"]
    if options["github_files"]:
        from torchperf_ci.core.text import safe_name
        from torchperf_ci.github.step_files import write_outputs

        artifact = f"torchperf-merged-{safe_name(options['name'])}"
        found = {"results": str(target), "artifact-name": artifact, "missing": str(len(merged.gaps))}
        write_outputs(os.environ, found)
    if missing:
        click.echo("Error: the results are not complete; --allow-missing takes them as they are", err=True)
        return write_exit_code(int(ExitCode.NOTHING_TO_JUDGE), github_files=options["github_files"])
    return code


def _piece(folder: Path) -> Piece:
    """The results of a folder with their shard and attempt. CSV files say nothing of one: without a name that does,
    their folder is a configuration of its own."""
    from torchperf_ci.core.frames import CaseSelection
    from torchperf_ci.core.result_files import read_folder
    from torchperf_ci.core.results import RECORDS
    from torchperf_ci.core.text import one_line
    from torchperf_ci.shards.merge import Piece
    from torchperf_ci.shards.uploads import Config, Shard, parse_own_artifact, shard_recorded

    results = read_folder(folder, CaseSelection())
    for problem in results.problems:
        click.echo(f"Warning: {folder / one_line(str(problem), limit=300)}", err=True)
    name = folder.resolve().name
    recorded = shard_recorded(results.records)
    if not (folder / RECORDS).is_file():
        recorded = Shard(Config(name), 1, 1), 1
    shard, attempt = parse_own_artifact(name) or recorded
    return Piece(label=name, shard=shard, attempt=attempt, results=results)


def _promises(matrix: str) -> list[Promise]:
    """The shards of a plan's matrix. Raises `UsageProblem` when it is none."""
    from torchperf_ci.core.text import safe_name
    from torchperf_ci.shards.matrix import model_of
    from torchperf_ci.shards.merge import Promise
    from torchperf_ci.shards.uploads import Config, Shard, parse_shard_name

    if not matrix.strip():
        return []
    try:
        promises = []
        for entry in json.loads(matrix)["include"]:
            number, total = parse_shard_name(entry["shard"]) or _refuse(entry["shard"])
            models = frozenset(model for pattern in entry["filter"].split() if (model := model_of(pattern)))
            promises.append(Promise(shard=Shard(Config(safe_name(entry["name"])), number, total), models=models))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageProblem(f"--matrix is not what `torchperf-ci plan` prints ({error!r})") from error
    return promises


def _refuse(shard: object) -> tuple[int, int]:
    raise ValueError(f"shard {shard!r}")


def _with_log(record: Record, source: Path, folder: ResultsFolder) -> Record:
    """The record with its log beside it. What is no file among the logs of its folder is left behind."""
    from torchperf_ci.core.results import LOGS

    if not record.log:
        return record
    log, logs = (source / record.log).resolve(), (source / LOGS).resolve()
    if not (log.is_relative_to(logs) and log.is_file() and log.stat().st_size <= LARGEST_LOG):
        return replace(record, log="")
    relative = f"{LOGS}/{log.relative_to(logs).as_posix()}"
    folder.write_bytes(relative, log.read_bytes())
    return replace(record, log=relative)
