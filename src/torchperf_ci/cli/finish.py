"""End a run, whichever harness it had: the report and its options, what GitHub is told, the exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.files import tell_problems
from torchperf_ci.cli.options import command_options, option
from torchperf_ci.core.errors import ExitCode, TorchperfError, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Mode
from torchperf_ci.core.results import MANIFEST, RECORDS, Results, ResultsFolder, read_results
from torchperf_ci.core.text import break_commands, one_line, safe_name, terminal, write_unguarded
from torchperf_ci.github.job import append_summary, write_outputs

if TYPE_CHECKING:
    from torchperf_ci.report.model import ReportOptions, RunOutcome


def resume_hint(folder_path: Path) -> str:
    """Say how to go on after an interruption."""
    from torchperf_ci.core.result_files import read_command_log

    if not read_results(folder_path).records and not read_command_log(folder_path).results:
        return "Nothing was measured yet."
    return f"What is finished is in {folder_path}; the same command with --keep-output-dir measures the rest."


def announce(folder_path: Path, name: str, shard: str) -> None:
    """Write outputs that later steps need also when this one is cancelled: what was measured is then uploaded."""
    attempt = os.environ.get("GITHUB_RUN_ATTEMPT", "1")
    artifact = f"torchperf-{safe_name(name)}-{shard}-{attempt}"
    write_outputs(os.environ, {"results": str(folder_path), "artifact-name": artifact})


def echo_report(summary: str, outcome: RunOutcome) -> None:
    """Print a report's text, and on a terminal its verdict, the last line, in a colour."""
    from torchperf_ci.report.model import RunOutcome

    body, _, headline = summary.rpartition("\n")
    if body:
        click.echo(body)
    colours = {RunOutcome.GOOD: "green", RunOutcome.FAILED: "red"}
    echo_coloured(headline, colours.get(outcome, "yellow"))


def echo_coloured(line: str, colour: str, *, err: bool = False) -> None:
    """Print a line, coloured where the stream is a terminal and nobody asked for none with NO_COLOR (no-color.org).

    What in it would colour or move by itself is shown instead, as everywhere.
    """
    stream = sys.stderr if err else sys.stdout
    if stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        write_unguarded(click.style(break_commands(terminal(line)), fg=colour, bold=True), stream)
    else:
        click.echo(line, err=err)


def conclude(
    folder: ResultsFolder,
    results: Results,
    report_options: ReportOptions,
    *,
    github_files: bool,
    fail_on: str,
    strict: bool = False,
    quiet: bool = False,
) -> int:
    """Write the report, print its summary, hand outputs to GitHub; return the exit code.

    fail_on: `never` makes the exit code 0 whatever failed. strict: a case of which nothing was compiled
    fails. quiet: do not say where the report is.
    """
    from torchperf_ci.report.markdown import write_markdown
    from torchperf_ci.report.write import judge_results, write_findings

    findings = judge_results(results, report_options)
    echo_report(write_findings(folder, findings), findings.outcome)
    if not quiet:
        page = folder.path / "report.html"
        click.echo(one_line(f"The report is {page}; report.md is the same for GitHub."), err=True)
    tell_problems(findings.problems, word="Problem")
    is_good = findings.outcome.is_pass and not (strict and findings.not_compiled)
    code = ExitCode.OK if is_good else ExitCode.SOME_FAILED
    cases = {record.case for record in results.records}
    failed = {record.case for record in results.records if not record.status.is_pass}  # or outside of the pass rate
    outputs = {"passed": len(cases - failed), "failed": len(failed), "exit-code": int(code)}
    tell_step(outputs, write_markdown(findings) if github_files else "", github_files=github_files)
    return int(ExitCode.OK if fail_on == "never" else code)


def tell_step(outputs: Mapping[str, object], summary: str | None = None, *, github_files: bool) -> None:
    """Give the step of GitHub Actions outputs, and its summary a text, where --github-files asks for that."""
    if not github_files:
        return
    write_outputs(os.environ, {name: str(value) for name, value in outputs.items()})
    if summary is not None:
        append_summary(os.environ, summary)


@contextmanager
def tells_failure(*, github_files: bool) -> Iterator[None]:
    """Give the step the output `exit-code` when an error ends the block."""
    try:
        yield
    except TorchperfError as error:
        tell_step({"exit-code": int(error.exit_code)}, github_files=github_files)
        raise


class Interrupted(BaseException):
    """A signal asked us to stop. Not an Exception: nothing on the way may take it for a failure of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise `Interrupted` while the block runs; after the first one they are ignored."""

    def interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - the signature of a handler
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupted(error: Interrupted, what_is_left: str) -> int:
    """Say what happened and what is left; return the exit code."""
    click.echo(f"\nInterrupted by {signal.Signals(error.number).name}. {what_is_left}", err=True)
    return 128 + error.number


OURS = ("report.md", "report.html")
"""Files that only this program writes; PyTorch's own script writes the others of a report as well."""


@command_options("What to report on")
class ContentOptions:
    suites: tuple[str, ...] = option(help="Only these suites, in this order. Repeatable.")
    devices: tuple[str, ...] = option(help="Only these devices, in this order. Repeatable.")
    dtypes: tuple[str, ...] = option(help="Only these dtypes, in this order. Repeatable.")
    compilers: tuple[str, ...] = option(help="Only these compilers, in this order. Repeatable.")
    flag_compilers: tuple[str, ...] = option(
        help="Warn about these compilers only (else inductor and inductor_no_cudagraphs, or all if neither is "
        "there). Repeatable."
    )
    inference: bool = option(help="Only inference.")
    training: bool = option(help="Only training.")
    mode: str | None = option(type=click.Choice([mode.value for mode in Mode]), help="The same by its name.")
    include_slowdowns: bool = option(help="Count slowdowns in geomean.csv, where they are else taken as 1x.")
    base_sha: str = option(help="The commit of the tested PyTorch, for the build summary.")
    pytorch_dir: Path | None = option(
        type=click.Path(path_type=Path), help="A PyTorch checkout, for the build summary."
    )
    torchbench_dir: Path | None = option(
        type=click.Path(path_type=Path), help="A torchbench checkout, for the build summary."
    )

    def selection(self) -> CaseSelection:
        """Return what of the records is asked for. Raises `click.UsageError` for both modes at once."""
        asked = {Mode.INFERENCE: self.inference, Mode.TRAINING: self.training}
        modes = [mode for mode in Mode if asked[mode] or self.mode == mode.value]
        if len(modes) > 1:
            raise click.UsageError("give one of --inference and --training, or neither for both")
        return CaseSelection(
            suites=self.suites,
            devices=self.devices,
            dtypes=self.dtypes,
            compilers=self.compilers,
            mode=modes[0] if modes else None,
        )

    def report_options(self, directory: Path, *, limit: int) -> ReportOptions:
        """Return how to report on the results in `directory`; `limit` is the largest size of report.md in bytes."""
        from torchperf_ci.pytorch.harness import read_checkouts
        from torchperf_ci.report.model import ReportOptions

        return ReportOptions(
            selection=self.selection(),
            flag_compilers=self.flag_compilers,
            include_slowdowns=self.include_slowdowns,
            run_name=directory.resolve().name,
            checkouts=read_checkouts(
                pytorch_dir=self.pytorch_dir, torchbench_dir=self.torchbench_dir, base_sha=self.base_sha
            ),
            limit=limit,
            case_csvs=(directory / RECORDS).is_file(),
        )


def refuse_to_overwrite(target: Path, *, instead: str) -> None:
    """Raise `UsageProblem` where a report of somebody else would be overwritten. `instead`: what to do then."""
    foreign = [name for name in OURS if (target / name).exists()]
    if foreign and not (target / MANIFEST).is_file():
        raise UsageProblem(f"{target / foreign[0]} was not written by torchperf-ci; {instead}")
