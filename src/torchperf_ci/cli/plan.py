"""`torchperf-ci plan`: the models of the suites as a matrix of GitHub Actions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.case_options import PythonOptions, model_options, models_from
from torchperf_ci.cli.history_options import opened_history, past_options
from torchperf_ci.cli.options import GitHubOptions, KeyValues, build, command, github_options, option, split_list
from torchperf_ci.cli.suites import preloaded_python
from torchperf_ci.core.errors import UsageProblem

if TYPE_CHECKING:
    from torchperf_ci.core.records import Record
    from torchperf_ci.run.plan import Selection, SuiteListing
    from torchperf_ci.shards.matrix import Choice, Entry, Runner

RUNS_FOR_DURATIONS = 5
"""Of a history: some may have measured a few models only."""

LARGEST_OUTPUT = 1_000_000
"""Bytes of a job's output; GitHub takes 1 MiB."""


@command(short_help="Share models out over runners: a matrix for GitHub Actions.")
@model_options
@option("--shards", type=click.IntRange(1, 256), default=1, help="Into how many parts the models go, on every runner.")
@option(
    "--runner",
    "runners",
    multiple=True,
    type=KeyValues(),
    default=["cpu=ubuntu-latest"],
    metavar="DEVICE=LABELS",
    help="A runner by its labels, and the device to measure there, say 'cuda=self-hosted gpu'. Repeatable.",
)
@option("--name", default="results", help="Name of the results; part of the artifacts' names.")
@option(
    "--durations",
    "durations_dirs",
    multiple=True,
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="An earlier results folder that tells how long models take. Repeatable.",
)
@option(
    "--durations-artifact",
    metavar="NAME",
    help="The newest artifact of this name from the default branch tells it, say torchperf-merged-results.",
)
@option(
    "--fetch-durations",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Only put what tells how long models take into the results folder DIR. A plan that is given it with "
    "--durations needs no token while it imports suites.",
)
@past_options
@github_options
@option("--github-files", is_flag=True, help="Write step outputs for GitHub Actions.")
def plan(github: GitHubOptions, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Share the models of the suites out over runners, and print the matrix for GitHub Actions.

    Every shard gets models by name, so that `run --shard` measures exactly those, and about the same time of work:
    the models that took longest go first, each to the shard that has the least. Without known durations the shards
    have equally many models.

    \b
    Examples:
      torchperf-ci plan --inference --suites huggingface --shards 4 --runner 'cuda=self-hosted gpu' --durations out
      torchperf-ci plan --training --suites huggingface --shards 4 --data-branch torchperf-data --name nightly-training
    """
    from torchperf_ci.shards.matrix import entries

    if options["fetch_durations"]:
        _fetch_durations(github, options)
        return
    selection, runners = models_from(options), _runners(options["runners"])
    choice = _choice(selection, options)
    records = [*_records_elsewhere(github, options), *_records_on_disk(options["durations_dirs"])]
    made = entries(
        choice, runners, shards=options["shards"], name=options["name"], records=records, mode=selection.mode
    )
    _tell(made, len(choice.models), known=bool(records))
    matrix = json.dumps({"include": [entry.as_json() for entry in made]}, separators=(",", ":"))
    if len(matrix.encode()) > LARGEST_OUTPUT:
        raise UsageProblem(f"the matrix has {len(matrix):,} characters, more than GitHub takes; plan suites apart")
    click.echo(matrix)
    if options["github_files"]:
        from torchperf_ci.github.step_files import write_outputs

        write_outputs(os.environ, {"matrix": matrix, "jobs": str(len(made))})


def _fetch_durations(github: GitHubOptions, options: dict[str, Any]) -> None:
    from torchperf_ci.core.results import open_folder

    records = _records_elsewhere(github, options)
    with open_folder(Path(options["fetch_durations"])) as folder:
        folder.append(*records)
    click.echo(f"{len(records):,} records tell durations, in {options['fetch_durations']}", err=True)
    if options["github_files"]:
        from torchperf_ci.github.step_files import write_outputs

        write_outputs(os.environ, {"durations": options["fetch_durations"]})


def _records_elsewhere(github: GitHubOptions, options: dict[str, Any]) -> list[Record]:
    return [*_records_in_history(github, options), *_records_on_github(github, options["durations_artifact"])]


def _runners(given: Sequence[tuple[str, str]]) -> list[Runner]:
    from torchperf_ci.shards.matrix import Runner

    runners = [Runner(device=device.strip(), labels=tuple(split_list(labels))) for device, labels in given]
    if empty := [runner.device for runner in runners if not runner.labels]:
        raise click.UsageError(f"--runner {empty[0]}= names no runner; say {empty[0]}=ubuntu-latest")
    return list(dict.fromkeys(runners))


def _choice(selection: Selection, options: dict[str, Any]) -> Choice:
    """What the suites have of what is asked for. Raises `UsageProblem` for what they do not."""
    from torchperf_ci.run.plan import chosen_models, nothing_left, suite_problems
    from torchperf_ci.shards.matrix import Choice, Model

    listings = _listings(selection.suites, options)
    if problems := suite_problems(selection, list(listings.values())):
        raise UsageProblem("\n".join(problems))
    models = tuple(Model(suite.name, name) for suite in listings.values() for name in chosen_models(selection, suite))
    if not models:
        raise UsageProblem(nothing_left(selection, list(listings.values())))
    return Choice(models=models, specs={suite.name: asked for asked, suite in listings.items()})


def _listings(suites: Sequence[str], options: dict[str, Any]) -> dict[str, SuiteListing]:
    """What every suite holds, by how it was asked for."""
    from torchperf_ci.github.workflow_commands import commands_stopped
    from torchperf_ci.run.run import list_suite

    if spaced := [name for name in suites if split_list(name) != [name]]:
        raise UsageProblem(f"--suites {spaced[0]!r}: a list of suites is split there; give the file another name")
    extra = build(PythonOptions, options).variables()
    with commands_stopped(os.environ), preloaded_python(options["python"], extra) as preloaded:
        return {name: list_suite(preloaded, name) for name in dict.fromkeys(suites)}


def _records_on_disk(folders: Sequence[str]) -> Iterator[Record]:
    from torchperf_ci.core.frames import CaseSelection
    from torchperf_ci.core.result_files import read_folder

    for folder in folders:
        records = read_folder(Path(folder), CaseSelection()).records
        if not records:
            click.echo(f"Warning: {folder} holds no results, so it tells no durations", err=True)
        yield from records


def _records_on_github(github: GitHubOptions, name: str | None) -> Sequence[Record]:
    """The records of the newest artifact; a plan that is not balanced beats none, so a refusal is a warning."""
    if not name:
        return ()
    from torchperf_ci.core.errors import TorchperfError
    from torchperf_ci.github.recorded import newest_results
    from torchperf_ci.github.runs import checked_repository

    try:
        with github.client(os.environ) as client:
            return newest_results(client, checked_repository(github.repository), name).records
    except TorchperfError as error:
        click.echo(f"Warning: no durations from {name}: {error}", err=True)
        return ()


def _records_in_history(github: GitHubOptions, options: dict[str, Any]) -> Sequence[Record]:
    """The records of the last runs, oldest first; as above, a refusal is a warning."""
    if not (options["history"] or options["data_branch"]):
        return ()
    from torchperf_ci.core.errors import TorchperfError
    from torchperf_ci.history.store import Wanted

    try:
        with opened_history(options, github) as history:
            past = history.last(RUNS_FOR_DURATIONS, Wanted(name=options["name"]))
    except TorchperfError as error:
        click.echo(f"Warning: no durations from the history: {error}", err=True)
        return ()
    if not past.runs:
        click.echo(f"Warning: the history holds no runs of the series {options['name']}: no durations", err=True)
    return [record for run in past.runs for record in run.results.records]


def _tell(made: Sequence[Entry], models: int, *, known: bool) -> None:
    from torchperf_ci.core.text import count

    for title in dict.fromkeys(entry.name for entry in made):
        seconds = [entry.seconds for entry in made if entry.name == title]
        expected = f", each about {min(seconds):,.0f} to {max(seconds):,.0f} s" if known and any(seconds) else ""
        click.echo(f"{title}: {count(models, 'model')} in {count(len(seconds), 'shard')}{expected}", err=True)
