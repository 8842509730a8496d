"""`torchperf-ci check`: accuracy, graph-breaks, performance, memory, or all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.options import Decorated, append_markdown, decorated, option, summary_file_option
from torchperf_ci.core.errors import ExitCode, UsageProblem
from torchperf_ci.core.text import one_line

if TYPE_CHECKING:
    from torchperf_ci.expectations.check import Actual, Pair
    from torchperf_ci.expectations.rules import Checked, Rules

Options = Mapping[str, Any]

MOST_ANNOTATIONS = 50

_actual = click.argument("actual", type=click.Path(exists=True, path_type=Path), envvar="TORCHPERF_RESULTS")
_expected = option(
    "--expected",
    type=click.Path(exists=True, path_type=Path),
    metavar="TABLE_OR_DIR",
    help="The expectation table, or a folder that has one of the same name.",
)
_scale = option(
    "--threshold-scale",
    "-s",
    "scale",
    type=click.FloatRange(min=0, min_open=True),
    help="How much of the expected value must be reached.  [default: 0.95; with --threshold: 1]",
)
_metric = option(
    "--metric",
    type=click.Choice(["speedup", "abs_latency"]),
    default="speedup",
    help="What performance means.",
)


_SHARED = (
    option(
        "--strict/--no-strict",
        default=None,
        help="Fail on improvements too.  [default: for accuracy and graph-breaks only]",
    ),
    option("--allow-missing", is_flag=True, help="Do not fail on models that only the table has: ACTUAL is a shard."),
    option(
        "--config",
        "configs",
        multiple=True,
        envvar="TORCHPERF_TABLES",
        help="Only tables of this name (shell pattern). Repeatable.",
    ),
    summary_file_option,
    option("--annotate", is_flag=True, help="Print failures as annotations for GitHub Actions, too."),
    option("--github-files", is_flag=True, help="Write step outputs and the step summary for GitHub Actions."),
)


def _shared(function: Decorated) -> Decorated:
    """Options that all checks have."""
    return decorated(function, _SHARED)


@click.group(short_help="Hold a run's results against expectation tables.")
def check() -> None:
    """Hold a run's results against expectation tables.

    ACTUAL is a CSV of a suite runner or a results folder. Models that may pass or fail are named in flaky.yaml beside
    the tables. Exit code 3: something is not as expected; 4: there was nothing to compare.
    """


@check.command()
@_actual
@_expected
@_shared
def accuracy(actual: Path, *, expected: Path | None, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Is every model's accuracy status the expected one?"""
    _check(actual, expected, ["accuracy"], options)


@check.command("graph-breaks")
@_actual
@_expected
@_shared
def graph_breaks(actual: Path, *, expected: Path | None, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Does every model break its graph, fall back to eager, compile again and capture calls as expected?

    More graph breaks, fallbacks or recompiles fail, and so do fewer captured calls or graphs; the other way it is an
    improvement. Other whole numbers of the table must be the same.
    """
    _check(actual, expected, ["graph-breaks"], options)


@check.command()
@_actual
@_expected
@_metric
@_scale
@option("--threshold", "-t", type=float, help="What every model must reach, instead of a table.")
@_shared
def performance(actual: Path, *, expected: Path | None, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Did every model's performance run, and does its speedup, or its latency, reach what is expected?"""
    _check(actual, expected, ["performance"], options)


@check.command()
@_actual
@_expected
@_scale
@_shared
def memory(actual: Path, *, expected: Path | None, **options: Any) -> None:  # noqa: ANN401 - click's values
    """Does every model's memory compression ratio reach what is expected?"""
    _check(actual, expected, ["memory"], options)


@check.command("all")
@_actual
@option(
    "--expected-dir",
    "expected",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder of expectation tables.",
)
@_metric
@_scale
@_shared
def everything(actual: Path, *, expected: Path | None, **options: Any) -> None:  # noqa: ANN401 - click's values
    """All four checks, each for the tables that have a column for it."""
    _check(actual, expected, ["accuracy", "graph-breaks", "performance", "memory"], options)


def _check(actual_path: Path, expected: Path | None, kinds: Sequence[str], options: Options) -> None:
    from torchperf_ci.expectations.check import read_actual, run_checks, uncovered
    from torchperf_ci.expectations.flaky import Kind
    from torchperf_ci.expectations.report import check_markdown, check_text

    actual = read_actual(actual_path)
    for problem in actual.problems:
        _warn(problem)
    pairs = _pairs(actual, expected, options)
    rules = _rules(options)
    checks = run_checks(pairs, [Kind(kind) for kind in kinds], rules)
    command = _command(actual, pairs, checks, expected) if any(c.failed or c.improved for c in checks) else ""
    notes = uncovered(pairs, [Kind(kind) for kind in kinds], rules)
    click.echo(check_text(checks, command, notes))
    markdown = check_markdown(checks, command, notes)
    append_markdown(options["summary_file"], markdown)
    if options["annotate"]:
        _annotate(checks, pairs)
    if options["github_files"]:
        _tell_github(checks, markdown)
    if any(checked.failed for checked in checks):
        sys.exit(int(ExitCode.FAILED_CHECK))


def _warn(sentence: str) -> None:
    click.echo(f"Warning: {one_line(sentence, limit=300)}", err=True)


def _tell_github(checks: Sequence[Checked], markdown: str) -> None:
    from torchperf_ci.github.step_files import append_summary, write_outputs

    append_summary(os.environ, markdown)
    counts = {
        "failed": sum(len(checked.failed) for checked in checks),
        "improved": sum(len(checked.improved) for checked in checks),
    }
    write_outputs(os.environ, {name: str(count) for name, count in counts.items()})


def _pairs(actual: Actual, expected: Path | None, options: Options) -> Sequence[Pair]:
    from torchperf_ci.expectations.check import pair, pair_with_threshold

    threshold = options.get("threshold")
    if (expected is None) == (threshold is None):
        choice = "either --expected or --threshold" if "threshold" in options else "--expected"
        raise UsageProblem(f"give {choice}: what is {actual.path} to be held against?")
    if expected is None:
        return pair_with_threshold(actual, metric=options["metric"], threshold=float(options["threshold"]))
    return pair(actual, expected, options["configs"], warn=_warn)


def _rules(options: Options) -> Rules:
    from torchperf_ci.expectations.rules import SCALE, Rules

    default = 1.0 if options.get("threshold") is not None else SCALE
    return Rules(
        strict=options["strict"],
        allow_missing=options["allow_missing"],
        metric=options.get("metric", "speedup"),
        scale=options.get("scale") or default,
    )


def _command(actual: Actual, pairs: Sequence[Pair], checks: Sequence[Checked], expected: Path | None) -> str:
    from torchperf_ci.expectations.check import command_to_update
    from torchperf_ci.github.context import source_from

    if expected is None:
        return ""
    return command_to_update(actual, pairs, checks, expected, source_from(os.environ, shard="", folder=Path.cwd()))


def _annotate(checks: Sequence[Checked], pairs: Sequence[Pair]) -> None:
    from torchperf_ci.github.workflow_commands import Annotation, Level, annotate

    files = {each.name: str(each.expected.path) for each in pairs if each.expected}
    failed = [(checked, line) for checked in checks for line in checked.failed]
    for checked, line in failed[:MOST_ANNOTATIONS]:
        title = f"{line.name}: {line.outcome} ({checked.kind})"
        message = f"{checked.table}: {line.detail}"
        annotate(Annotation(level=Level.ERROR, title=title, message=message, file=files.get(checked.table, "")))
    if (more := len(failed) - MOST_ANNOTATIONS) > 0:
        annotate(Annotation(level=Level.ERROR, title="and more", message=f"{more} more models fail; see the log"))
