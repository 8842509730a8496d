"""`torchperf-ci run --harness dynamo`: the commands of PyTorch's own suite runner, in a checkout of it."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from torchperf_ci.cli.case_options import CaseOptions
from torchperf_ci.cli.finish import announce
from torchperf_ci.cli.options import shell_words
from torchperf_ci.cli.run_options import HarnessOptions, RunOptions
from torchperf_ci.core.errors import ExitCode, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Build
from torchperf_ci.core.result_files import CommandResult, read_folder
from torchperf_ci.core.results import RECORDS, ResultsFolder, open_folder
from torchperf_ci.github.workflow_commands import commands_stopped
from torchperf_ci.pytorch.checkouts import read_checkouts
from torchperf_ci.pytorch.harness import (
    DEFAULT_DEVICES,
    DEFAULT_SUITES,
    SUITES_FOLDER,
    TESTINGS,
    Command,
    Place,
    Request,
    Skips,
    check,
    commands,
    script,
    script_name,
)
from torchperf_ci.pytorch.harness_run import Checkout, CheckoutRun, ask_skips
from torchperf_ci.report.model import ReportOptions
from torchperf_ci.run.run import survey
from torchperf_ci.run.session import Preloaded, package_path
from torchperf_ci.run.supervised import command_environment
from torchperf_ci.worker.protocol import one_line

DEFAULT_TIMEOUT = 24 * 3600.0
"""Seconds for a command, that is, for all models of a suite with a compiler."""


def run_dynamo(context: click.Context, options: RunOptions) -> int:
    """Write the script; unless only that was asked for, run its commands, and report. Return the exit code."""
    request, folder_path = request_from(context, options.cases, options.harness), options.output_dir
    checkout, place = _checkout(options), _place(options)
    check(request, checkout.suites())
    with commands_stopped(os.environ), open_folder(folder_path) as folder:
        build = None if options.harness.print_run_commands else _build(request, checkout)
        skips = _skips(request, checkout)
        shown = commands(replace(request, python=script_python(context, request)), output=place.output, skips=skips)
        text = script(shown, place, keep=options.keep_output_dir)
        if build is None:
            _write_script(folder, request, text)
            click.echo(text, nl=False)
            return int(ExitCode.OK)
        _prepare(folder, options)
        _write_script(folder, request, text)
        CheckoutRun(
            commands=commands(request, output=place.output, skips=skips),
            checkout=checkout,
            folder=folder,
            build=build,
            timeout=timeout_from(context, options.cases),
            budget=options.cases.method.budget,
        ).measure(Lines())
        report_options = _report_options(request, checkout, options)
        results = read_folder(folder_path, report_options.selection)
        return options.conclude(folder, results, report_options)


class Lines:
    """A line when a command starts, since it may take hours, and one when it has ended."""

    def begin(self, *, total: int, already: int) -> None:
        self._total, self._number = total, 0
        if already:
            click.echo(f"{already} commands are done already; {total} are left.", err=True)

    def start(self, command: Command) -> None:
        self._number += 1
        click.echo(f"[{self._number}/{self._total}] {one_line(str(command))} …", err=True)

    def finish(self, result: CommandResult) -> None:
        trouble = f": {one_line(result.trouble)}" if result.trouble else ""
        click.echo(f"    {result.summary}{trouble}", err=True)


def _checkout(options: RunOptions) -> Checkout:
    """Raises `UsageProblem` when the folder is no checkout."""
    folder = _checkout_folder(options)
    if not (folder / SUITES_FOLDER).is_dir():
        raise UsageProblem(
            f"{folder} is no PyTorch checkout: it has no folder {SUITES_FOLDER}; give a checkout with --pytorch-dir"
        )
    environ = command_environment(
        os.environ, extra=dict(options.cases.machine.extra_env), module_paths=_module_paths(options)
    )
    return Checkout(folder=folder, environ=environ)


def _place(options: RunOptions) -> Place:
    """Run from the checkout itself, a script of it says what was typed; else it needs to know where everything is."""
    output: Path = options.output_dir
    folder = _checkout_folder(options)
    is_here = folder.resolve() == Path.cwd()
    return Place(
        output=str(output if is_here else output.absolute()),
        checkout=None if is_here else str(folder),
        extra_env=dict(options.cases.machine.extra_env),
        module_paths=_module_paths(options),
    )


def _checkout_folder(options: RunOptions) -> Path:
    folder: Path = options.harness.pytorch_dir or Path.cwd()
    return folder.absolute()


def _module_paths(options: RunOptions) -> tuple[str, ...]:
    torchbench: Path | None = options.cases.interpreter.torchbench_dir
    return (str(torchbench.absolute()),) if torchbench else ()


def _build(request: Request, checkout: Checkout) -> Build:
    """The Python under test, as one of its processes describes it. Raises `UsageProblem` when it has no torch."""
    click.echo(f"Starting {request.python} …", err=True)
    with (
        package_path(checkout.environ) as environ,
        tempfile.TemporaryDirectory(prefix="torchperf-log-") as logs,
        # Not from the working folder, often the checkout: its source tree `torch` would hide the installed one.
        Preloaded(request.python, environ, log=Path(logs) / "preload.log", cwd=Path("/")) as preloaded,
    ):
        build = survey(preloaded, (), threads=request.threads, command=sys.argv[1:]).build
    for warning in build.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return build


def _skips(request: Request, checkout: Checkout) -> Skips:
    found: dict[tuple[str, str], list[str]] = {}
    for suite in dict.fromkeys(request.suites):
        skips, reason = ask_skips(checkout, request, suite)
        found |= {(suite, device): names for device, names in skips.items()}
        if reason:
            click.echo(f"Warning: {suite} cannot say which models to skip, so none is skipped: {reason}", err=True)
    return found


def _prepare(folder: ResultsFolder, options: RunOptions) -> None:
    """Make the folder ready for results, and say where they will be."""
    if not options.keep_output_dir:
        folder.empty()
    elif (folder.path / RECORDS).is_file():
        raise UsageProblem(
            f"{folder.path} holds results of the harness torchperf, which these cannot be added to; "
            "choose another folder with --output-dir"
        )
    if options.github_files:
        announce(folder.path, options.name, options.cases.selection().shard)


def _write_script(folder: ResultsFolder, request: Request, text: str) -> None:
    folder.write_text(script_name(request), text).chmod(0o755)


def _report_options(request: Request, checkout: Checkout, options: RunOptions) -> ReportOptions:
    return ReportOptions(
        selection=CaseSelection(
            suites=request.suites,
            devices=request.devices,
            dtypes=request.dtypes,
            compilers=request.compilers,
            mode=request.mode,
        ),
        flag_compilers=options.flag_compilers,
        run_name=options.output_dir.resolve().name,
        checkouts=read_checkouts(
            pytorch_dir=checkout.folder, torchbench_dir=options.cases.interpreter.torchbench_dir, base_sha=""
        ),
        case_csvs=False,
    )


def request_from(context: click.Context, cases: CaseOptions, harness: HarnessOptions) -> Request:
    """What is asked of the checkout. Raises `click.UsageError` for what cannot be meant."""
    selection, settings = cases.selection(), cases.settings()
    if harness.cpu_launcher_args and not harness.enable_cpu_launcher:
        raise click.UsageError("--cpu-launcher-args without --enable-cpu-launcher has no effect; give both")
    launcher = shell_words(harness.cpu_launcher_args or "", name="--cpu-launcher-args")
    partitioned = selection.total_partitions > 1
    return Request(
        mode=selection.mode,
        python=python_from(cases.interpreter.python),
        suites=selection.suites if _is_given(context, "suites") else DEFAULT_SUITES,
        devices=selection.devices or DEFAULT_DEVICES,
        dtypes=selection.dtypes,
        compilers=selection.compilers,
        testings=tuple(testing for testing in TESTINGS if testing in settings.testings),
        quick=selection.quick,
        filters=tuple(pattern.pattern for pattern in selection.filters),
        exclude=selection.exclude,
        log_operator_inputs=harness.log_operator_inputs,
        cold_start=settings.cold_start,
        batch_size=settings.batch_size,
        threads=settings.threads,
        repeat=settings.rule.repeat,
        total_partitions=selection.total_partitions if partitioned else None,
        partition_id=selection.partition_id if partitioned else None,
        inductor_mode=settings.inductor_mode,
        extra=tuple(shell_words(harness.extra_args or "", name="--extra-args")),
        launcher=tuple(launcher) if harness.enable_cpu_launcher else None,
    )


def python_from(text: str) -> str:
    """The Python to start from within the checkout: a path from here stays one; a name is looked up as ever."""
    return str(Path(text).absolute()) if "/" in text else text


def script_python(context: click.Context, request: Request) -> str:
    """How the script calls Python: by the path that was given, else `python`, whichever that is where it is run."""
    return request.python if _is_given(context, "python") else "python"


def timeout_from(context: click.Context, cases: CaseOptions) -> float:
    """Seconds for a command. The default of other harnesses is that of a single model."""
    return cases.method.timeout if _is_given(context, "timeout") else DEFAULT_TIMEOUT


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) not in {ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP}
