"""`torchperf-ci plan`: the models of the suites as a matrix of GitHub Actions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.case_options import ModelOptions, PythonOptions
from torchperf_ci.cli.finish import tell_step
from torchperf_ci.cli.history_options import PastOptions
from torchperf_ci.cli.options import (
    GITHUB_OUTPUTS,
    GitHubOptions,
    KeyValues,
    command,
    command_options,
    option,
    split_list,
    takes,
)
from torchperf_ci.cli.suites import preloaded_python
from torchperf_ci.core.errors import TorchperfError, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Record
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import open_folder
from torchperf_ci.core.text import count, one_line
from torchperf_ci.github.job import stop_commands

if TYPE_CHECKING:
    from torchperf_ci.run.plan import Selection
    from torchperf_ci.shards.matrix import MatrixJob, RunnerKind, SuiteModel

RUNS_FOR_DURATIONS = 5
"""Of a history: some may have measured a few models only."""

LARGEST_OUTPUT = 1_000_000
"""Bytes of a job's output; GitHub takes 1 MiB."""


@command_options("How long models take")
class DurationOptions:
    folders: tuple[str, ...] = option(
        "--durations",
        type=click.Path(file_okay=False),
        metavar="DIR",
        help="An earlier results folder, whose durations balance the shards. Repeatable.",
    )
    artifact: str | None = option(
        "--durations-artifact",
        metavar="NAME",
        help="The same from the default branch's newest artifact of this name, for example torchperf-merged-results.",
    )
    fetch_into: str | None = option(
        "--fetch-durations",
        metavar="DIR",
        type=click.Path(file_okay=False),
        help="Only save the durations from GitHub or a history into DIR, and plan nothing. A later plan with "
        "--durations DIR then needs no token while it imports suites.",
    )


@command_options
class PlanOptions:
    models: ModelOptions
    interpreter: PythonOptions
    shards: int = option(type=click.IntRange(1, 256), default=1, help="The number of shards on each runner.")
    runners: tuple[tuple[str, str], ...] = option(
        "--runner",
        type=KeyValues(),
        default=["cpu=ubuntu-latest"],
        metavar="DEVICE=LABELS",
        help="The device to measure, and the labels of its runner, e.g. 'cuda=self-hosted gpu'. Repeatable.",
    )
    name: str = option(default="results", help="The name of the results, which becomes part of artifacts' names.")
    github_files: bool = GITHUB_OUTPUTS
    durations: DurationOptions
    past: PastOptions
    github: GitHubOptions

    def runner_kinds(self) -> list[RunnerKind]:
        """Return the runners, each once. Raises `click.UsageError` for one without labels."""
        from torchperf_ci.shards.matrix import RunnerKind

        runners = [
            RunnerKind(device=device.strip(), labels=tuple(split_list(labels))) for device, labels in self.runners
        ]
        if empty := [runner.device for runner in runners if not runner.labels]:
            raise click.UsageError(f"--runner {empty[0]}= names no runner; say {empty[0]}=ubuntu-latest")
        return list(dict.fromkeys(runners))


@command(short_help="Share models out over runners: a matrix for GitHub Actions.")
@takes(PlanOptions)
def plan(options: PlanOptions) -> None:
    """Share the models of the suites out over runners, and print the matrix for GitHub Actions.

    Each shard lists its models by name, so that `run --shard` measures exactly those. The shards take about the same
    time: the models that take longest are assigned first, each to the shard with the least work. Without earlier
    results the shards have equally many models.

    \b
    Examples:
      torchperf-ci plan --inference --suites huggingface --shards 4 --durations out
      torchperf-ci plan --training --suites tiny --runner 'cuda=self-hosted gpu'
    """
    from torchperf_ci.shards.matrix import plan_jobs

    if options.durations.fetch_into is not None:
        target = Path(options.durations.fetch_into)
        records = _read_elsewhere(options)
        with open_folder(target, option="--fetch-durations") as folder:
            folder.append(*records)
        click.echo(one_line(f"Saved {count(len(records), 'record')} with durations in {target}"), err=True)
        tell_step({"durations": target}, github_files=options.github_files)
        return
    selection, runners = options.models.selection(), options.runner_kinds()
    models, specs = _list_models(selection, options)
    known = [*_read_elsewhere(options), *_read_folders(options.durations.folders)]
    jobs = plan_jobs(
        models, specs, runners, shards=options.shards, name=options.name, records=known, mode=selection.mode
    )
    _describe(jobs, len(models))
    matrix = json.dumps({"include": [job.as_json() for job in jobs]}, separators=(",", ":"))
    if len(matrix.encode()) > LARGEST_OUTPUT:
        raise UsageProblem(f"the matrix has {len(matrix):,} characters, more than GitHub takes; plan suites apart")
    click.echo(matrix)
    tell_step({"matrix": matrix, "jobs": len(jobs)}, github_files=options.github_files)


def _list_models(selection: Selection, options: PlanOptions) -> tuple[tuple[SuiteModel, ...], dict[str, str]]:
    """List what the suites have of what is asked for, and how each suite was asked for, by its name.

    Raises `UsageProblem` for what they do not have.
    """
    from torchperf_ci.run.plan import chosen_models, nothing_left, suite_problems
    from torchperf_ci.run.survey import list_suites
    from torchperf_ci.shards.matrix import SuiteModel

    if spaced := [name for name in selection.suites if split_list(name) != [name]]:
        raise UsageProblem(f"--suites {spaced[0]!r}: a list of suites is split there; give the file another name")
    python = options.interpreter
    with stop_commands(os.environ), preloaded_python(python.python, python.variables()) as preloaded:
        listings = list_suites(preloaded, selection.suites)
    suites = [suite for _, suite in listings]
    if problems := suite_problems(selection, suites):
        raise UsageProblem("\n".join(problems))
    models = tuple(SuiteModel(suite.name, name) for suite in suites for name in chosen_models(selection, suite))
    if not models:
        raise UsageProblem(nothing_left(selection, suites))
    return models, {suite.name: spec for spec, suite in listings}


def _read_folders(folders: Sequence[str]) -> Iterator[Record]:
    for folder in folders:
        records = read_folder(Path(folder), CaseSelection()).records
        if not records:
            click.echo(f"Warning: {folder} has no results; without durations, models count the same", err=True)
        yield from records


def _read_elsewhere(options: PlanOptions) -> list[Record]:
    """Read the records of a history's last runs, oldest first, and of the newest artifact.

    A plan that is not balanced is better than none, so that a refusal is a warning.
    """
    records: list[Record] = []
    if options.past.location or options.past.data_branch:
        from torchperf_ci.history.runs import RunFilter

        try:
            with options.past.open(options.github) as history:
                runs = history.read_last(RUNS_FOR_DURATIONS, RunFilter(name=options.name)).runs
            if not runs:
                click.echo(f"Warning: no durations: the history has no runs named {options.name}; see --name", err=True)
            records += [record for run in runs for record in run.results.records]
        except TorchperfError as error:
            click.echo(f"Warning: no durations from the history: {error}", err=True)
    if options.durations.artifact:
        from torchperf_ci.github.artifacts import read_newest_results

        try:
            with options.github.client(os.environ) as client:
                repository = options.github.require_repository()
                records += read_newest_results(client, repository, options.durations.artifact).records
        except TorchperfError as error:
            click.echo(f"Warning: no durations from the artifact {options.durations.artifact}: {error}", err=True)
    return records


def _describe(jobs: Sequence[MatrixJob], models: int) -> None:
    """Say on stderr how many shards each runner gets, and how long they take where that is known."""
    for title in dict.fromkeys(job.name for job in jobs):
        seconds = [job.seconds for job in jobs if job.name == title]
        low, high = f"{min(seconds):,.0f}", f"{max(seconds):,.0f}"
        each = " each" if len(seconds) > 1 else ""
        about = f", about {low if low == high else f'{low} to {high}'} s{each}" if any(seconds) else ""
        click.echo(f"{title}: {count(models, 'model')} in {count(len(seconds), 'shard')}{about}", err=True)
