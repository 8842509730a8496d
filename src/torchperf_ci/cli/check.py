"""`torchperf-ci check`: accuracy, graph-breaks, performance, memory, or all of them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.finish import tell_step
from torchperf_ci.cli.options import (
    GITHUB_FILES,
    SUMMARY_FILE,
    Group,
    Number,
    append_markdown,
    argument,
    command_options,
    option,
    takes,
)
from torchperf_ci.core.errors import ExitCode, UsageProblem
from torchperf_ci.core.text import code, count, one_line
from torchperf_ci.github.job import annotate, read_source

if TYPE_CHECKING:
    from torchperf_ci.expectations.check import Actual, TableCheck, TablePair

MOST_ANNOTATIONS = 50


@command_options
class CheckOptions:
    actual: Path = argument(type=click.Path(exists=True, path_type=Path), envvar="TORCHPERF_RESULTS")
    expected: Path | None = option(
        type=click.Path(exists=True, path_type=Path),
        metavar="TABLE_OR_DIR",
        help="The expectation table, or a folder that has a table of the same name as the results.",
    )
    strict: bool | None = option(
        "--strict/--no-strict",
        default=None,
        help="Fail on improvements too.  [default: for accuracy and graph-breaks only]",
    )
    allow_missing: bool = option(
        help="Do not fail on models that only the table has, for example because ACTUAL is one shard of several."
    )
    tables: tuple[str, ...] = option(
        "--config", envvar="TORCHPERF_TABLES", help="Only tables whose name matches this shell pattern. Repeatable."
    )
    summary_file: Path | None = SUMMARY_FILE
    annotate: bool = option(help="Also print failures as annotations for GitHub Actions.")
    github_files: bool = GITHUB_FILES


@command_options
class MemoryOptions(CheckOptions):
    scale: float | None = option(
        "--threshold-scale",
        "-s",
        type=Number(min=0, min_open=True),
        help="The share of the expected value that must be reached.  [default: 0.95; with --threshold: 1]",
    )


@command_options
class MetricOptions(MemoryOptions):
    metric: str = option(
        type=click.Choice(["speedup", "abs_latency"]),
        default="speedup",
        help="The number that the performance is judged by.",
    )


@command_options
class PerformanceOptions(MetricOptions):
    threshold: float | None = option(
        "-t", type=Number(min=0), help="A number that every model must reach, instead of a table."
    )


class TablesFolder(click.Path):
    """The folder of the tables; of one that is not there the error says how it is made."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if not Path(value).exists():
            self.fail(
                f"there is no folder {os.fspath(value)!r}; make it and its tables from a run that is as it should be: "
                f"torchperf-ci update-expected --from benchmark_logs --expected-dir {shlex.quote(os.fspath(value))}",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


@command_options
class AllOptions(MetricOptions):
    expected: Path | None = option(
        "--expected-dir",
        type=TablesFolder(exists=True, file_okay=False, path_type=Path),
        help="The folder of expectation tables.",
    )


@command_options
class CountOptions:
    actual: Path = argument(type=click.Path(exists=True, path_type=Path), envvar="TORCHPERF_RESULTS")
    expected: Path = option(
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        required=True,
        metavar="TABLE",
        help="The file of expected counts.",
    )
    summary_file: Path | None = SUMMARY_FILE
    github_files: bool = GITHUB_FILES


class CheckGroup(Group):
    """The checks; who types `check DIR` means all of them."""

    def suggest(self, ctx: click.Context, name: str) -> str:
        """Say which check may be meant, or how a folder or file is checked."""
        if Path(name).exists():
            return f" Did you mean {ctx.command_path} all {shlex.quote(name)}?"
        return super().suggest(ctx, name)


@click.group(cls=CheckGroup, short_help="Compare a run's results with expectation tables.")
def check() -> None:
    """Compare a run's results with expectation tables.

    ACTUAL is a results folder, or one CSV file of a suite runner. The file flaky.yaml beside the tables names the
    models that may pass or fail. Exit code 3: something is not as expected; 4: there was nothing to compare.
    """


@check.command()
@takes(CheckOptions)
def accuracy(options: CheckOptions) -> None:
    """Check that every model's accuracy status is the expected one."""
    _check(options, ["accuracy"])


@check.command("graph-breaks")
@takes(CheckOptions)
def graph_breaks(options: CheckOptions) -> None:
    """Check graph breaks, fallbacks to eager, recompiles and captured calls.

    More graph breaks, fallbacks, recompiles, operators or kernels than expected fail, and so do fewer captured calls or
    graphs; the opposite is an improvement. Other whole numbers of the table must be the same.
    """
    _check(options, ["graph-breaks"])


@check.command()
@takes(PerformanceOptions)
def performance(options: PerformanceOptions) -> None:
    """Check that every model's performance was measured, and that its speedup or latency is good enough."""
    _check(
        options,
        ["performance"],
        scale=options.scale,
        metric=options.metric,
        threshold=options.threshold,
        wanted="either --expected or --threshold, which",
    )


@check.command()
@takes(MemoryOptions)
def memory(options: MemoryOptions) -> None:
    """Check that every model's memory compression ratio is good enough."""
    _check(options, ["memory"], scale=options.scale)


@check.command()
@takes(CountOptions)
def counts(options: CountOptions) -> None:
    """Check counts against a file of PyTorch's pr_time_benchmarks.

    ACTUAL is a CSV of rows benchmark,metric,value, or a results folder. TABLE has rows benchmark,metric,expected,noise
    without a header. More than expected (REGRESSION), less (WIN) and no result fail; a result that nothing is expected
    of is only reported. Exit code 4: nothing is expected at all.
    """
    from torchperf_ci.expectations.counts import (
        CountOutcome,
        check_counts,
        describe_count,
        read_counts,
        read_expected_counts,
    )

    checks = check_counts(read_counts(options.actual, warn=_warn), read_expected_counts(options.expected))
    failed = [each for each in checks if each.outcome.fails]
    is_compared = any(each.outcome is not CountOutcome.NEW for each in checks)
    sign = "✅ As expected" if is_compared else "⚠️ Nothing is expected"
    sign = f"❌ {count(len(failed), 'count')} not as expected" if failed else sign
    verdict = f"{sign}, of {len(checks):,}"
    lines = [f"- {code(describe_count(each), limit=300)}" for each in checks if each.outcome is not CountOutcome.PASS]
    markdown = "\n".join([f"## {verdict}", "", *lines, ""])
    append_markdown(options.summary_file, markdown)
    for each in checks:
        click.echo(describe_count(each))
    click.echo(verdict)
    if failed or not is_compared:
        is_gone = any(each.outcome is CountOutcome.MISSING for each in failed)
        prune = ["--prune"] if is_gone else []
        words = ["--from", str(options.actual), "--counts", str(options.expected), *prune]
        click.echo(f"If these results are right: torchperf-ci update-expected {shlex.join(words)}")
    tell_step({"failed": len(failed)}, markdown, github_files=options.github_files)
    if failed:
        sys.exit(int(ExitCode.FAILED_CHECK))
    if not is_compared:
        sys.exit(int(ExitCode.NOTHING_TO_JUDGE))


@check.command("all")
@takes(AllOptions)
def everything(options: AllOptions) -> None:
    """Run all four checks, each on the tables that have a column for it."""
    _check(
        options,
        ["accuracy", "graph-breaks", "performance", "memory"],
        scale=options.scale,
        metric=options.metric,
        wanted="--expected-dir: the tables that",
    )


def _check(
    options: CheckOptions,
    names: Sequence[str],
    *,
    scale: float | None = None,
    metric: str = "speedup",
    threshold: float | None = None,
    wanted: str = "--expected: the tables that",
) -> None:
    """Run the checks of these names, print what they found and exit. wanted: what is lacking when nothing is given to
    compare with."""
    from torchperf_ci.expectations.check import (
        SCALE,
        Rules,
        describe_coverage,
        pair_tables,
        pair_with_threshold,
        read_actual,
        run_checks,
    )
    from torchperf_ci.expectations.report import write_check_markdown, write_check_text
    from torchperf_ci.expectations.table import CheckKind

    actual = read_actual(options.actual)
    for problem in actual.problems:
        _warn(problem)
    pairs: Sequence[TablePair]
    if threshold is not None and options.expected is None:
        pairs = pair_with_threshold(actual, metric=metric, threshold=threshold)
    elif options.expected is not None and threshold is None:
        pairs = pair_tables(actual, options.expected, options.tables, warn=_warn)
    else:
        raise UsageProblem(f"give {wanted} {actual.path} is compared with")
    scale = scale or (SCALE if threshold is None else 1.0)  # a threshold is to be reached whole
    rules = Rules(strict=options.strict, allow_missing=options.allow_missing, metric=metric, scale=scale)
    kinds = [CheckKind(name) for name in names]
    checks = run_checks(pairs, kinds, rules)
    command = _update_command(actual, pairs, checks, options) if any(c.failed or c.improved for c in checks) else ""
    notes = describe_coverage(pairs, kinds, rules)
    markdown = write_check_markdown(checks, command, notes)
    append_markdown(options.summary_file, markdown)  # first: a full disk is told in place of a verdict, not after it
    click.echo(write_check_text(checks, command, notes))
    if options.annotate:
        _annotate(checks, pairs)
    counts = {
        "failed": sum(len(checked.failed) for checked in checks),
        "improved": sum(len(checked.improved) for checked in checks),
    }
    tell_step(counts, markdown, github_files=options.github_files)
    if any(checked.failed for checked in checks):
        sys.exit(int(ExitCode.FAILED_CHECK))


def _warn(sentence: str) -> None:
    click.echo(f"Warning: {one_line(sentence, limit=300)}", err=True)


def _update_command(
    actual: Actual, pairs: Sequence[TablePair], checks: Sequence[TableCheck], options: CheckOptions
) -> str:
    """Make the command that takes these results as the expectation; empty where there is no table."""
    from torchperf_ci.expectations.check import make_update_command

    if options.expected is None:
        return ""
    source = read_source(os.environ, shard="", folder=Path.cwd())
    return make_update_command(actual, pairs, checks, options.expected, source)


def _annotate(checks: Sequence[TableCheck], pairs: Sequence[TablePair]) -> None:
    tables = {each.name: each.expected for each in pairs if each.expected}
    failed = [(checked, line) for checked in checks for line in checked.failed]
    for checked, line in failed[:MOST_ANNOTATIONS]:
        title = f"{line.name}: {line.outcome} ({checked.kind})"
        message = f"{checked.table}: {line.detail}"
        table = tables.get(checked.table)
        at = table.at_lines.get(line.name, [0])[0] if table else 0
        annotate(message, title=title, file=str(table.path) if table else "", line=at)
    if (more := len(failed) - MOST_ANNOTATIONS) > 0:
        annotate(f"{count(more, 'more failure')}; see the log", title="and more")
