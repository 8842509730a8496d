"""`torchperf-ci run --harness dynamo`: the commands of PyTorch's own suite runner, in a checkout of it."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from torchperf_ci.cli.case_options import CaseOptions, TalkOptions
from torchperf_ci.cli.finish import announce
from torchperf_ci.cli.options import shell_words
from torchperf_ci.cli.run_options import HarnessOptions, RunOptions
from torchperf_ci.core.errors import ExitCode, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Build
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import RECORDS, open_folder
from torchperf_ci.github.job import stop_commands
from torchperf_ci.pytorch.harness import (
    DEFAULT_COMPILERS,
    DEFAULT_DEVICES,
    DEFAULT_SUITES,
    SUITES_FOLDER,
    TESTINGS,
    CheckoutRun,
    HarnessRequest,
    PyTorchCheckout,
    ScriptPlace,
    Skips,
    ask_skips,
    check,
    commands,
    read_checkouts,
    script,
    script_name,
)
from torchperf_ci.report.model import ReportOptions
from torchperf_ci.run.session import Python, package_path
from torchperf_ci.run.supervisor import command_environment
from torchperf_ci.run.survey import survey

DEFAULT_TIMEOUT = 24 * 3600.0
"""Seconds for a command, that is, for all models of a suite with a compiler."""


def run_dynamo(context: click.Context, options: RunOptions) -> int:
    """Write the script; unless only that was asked for, run its commands, and report. Return the exit code."""
    cases, output = options.cases, options.output_dir
    request = _request(context, cases, options.harness)
    folder_of_checkout = (options.harness.pytorch_dir or Path.cwd()).absolute()
    if not (folder_of_checkout / SUITES_FOLDER).is_dir():
        raise UsageProblem(
            f"{folder_of_checkout} is no PyTorch checkout: it has no folder {SUITES_FOLDER}. Clone "
            "https://github.com/pytorch/pytorch and name its folder with --pytorch-dir"
        )
    torchbench, extra_env = cases.interpreter.torchbench_dir, dict(cases.machine.extra_env)
    module_paths = (str(torchbench.absolute()),) if torchbench else ()
    environ = command_environment(os.environ, extra=extra_env, module_paths=module_paths)
    checkout = PyTorchCheckout(folder=folder_of_checkout, environ=environ)
    check(request, checkout.suites())
    # Run from the checkout itself, a script of it says what was typed; else it needs to know where everything is.
    is_here = folder_of_checkout.resolve() == Path.cwd()
    place = ScriptPlace(
        output=str(output if is_here else output.absolute()),
        checkout=None if is_here else str(folder_of_checkout),
        extra_env=extra_env,
        module_paths=module_paths,
    )
    with stop_commands(os.environ), open_folder(output) as folder:
        build = None if options.harness.print_run_commands else _build(request, checkout, options.talk)
        skips = _skips(request, checkout, options.talk)
        # The script calls Python by the path that was given, else `python`, whichever that is where it is run.
        python = request.python if _is_given(context, "python") else "python"
        printable = commands(replace(request, python=python), output=place.output, skips=skips)
        text = script(printable, place, keep=options.keep_output_dir)
        if build is None:
            folder.write_text(script_name(request), text).chmod(0o755)
            click.echo(text, nl=False)
            return int(ExitCode.OK)
        if not options.keep_output_dir:
            folder.empty()
        elif (folder.path / RECORDS).is_file():
            raise UsageProblem(
                f"{folder.path} holds results of the harness torchperf, which these cannot be added to; "
                "choose another folder with --output-dir"
            )
        if options.github_files:
            announce(folder.path, options.name, cases.selection().shard)
        folder.write_text(script_name(request), text).chmod(0o755)
        CheckoutRun(
            commands=commands(request, output=place.output, skips=skips),
            checkout=checkout,
            folder=folder,
            build=build,
            # The default of the other harness is for a single model.
            timeout=cases.method.timeout if _is_given(context, "timeout") else DEFAULT_TIMEOUT,
            budget=cases.method.budget,
        ).measure(options.talk.say)
        selection = CaseSelection(
            suites=request.suites,
            devices=request.devices,
            dtypes=request.dtypes,
            compilers=request.compilers,
            mode=request.mode,
        )
        report_options = ReportOptions(
            selection=selection,
            flag_compilers=options.flag_compilers,
            run_name=output.resolve().name,
            checkouts=read_checkouts(pytorch_dir=checkout.folder, torchbench_dir=torchbench, base_sha=""),
            case_csvs=False,
        )
        return options.conclude(folder, read_folder(output, selection), report_options)


def _build(request: HarnessRequest, checkout: PyTorchCheckout, talk: TalkOptions) -> Build:
    """Ask a process of the Python under test what it is. Raises `UsageProblem` when it has no torch."""
    talk.say(f"Starting {request.python} …")
    with (
        package_path(checkout.environ) as environ,
        tempfile.TemporaryDirectory(prefix="torchperf-log-") as logs,
        # Not from the working folder, often the checkout: its source tree `torch` would hide the installed one.
        Python(
            executable=request.python, environ=environ, log=Path(logs) / "preload.log", cwd=Path("/")
        ).start() as preloaded,
    ):
        build = survey(preloaded, (), threads=request.threads, command=sys.argv[1:]).build
    for warning in build.warnings:
        talk.say(f"Warning: {warning}")
    return build


def _skips(request: HarnessRequest, checkout: PyTorchCheckout, talk: TalkOptions) -> Skips:
    """Ask every suite which models it leaves out; of one that cannot say it, none is skipped, which is said."""
    skips: dict[tuple[str, str], list[str]] = {}
    for suite in dict.fromkeys(request.suites):
        names_by_device, reason = ask_skips(checkout, request, suite)
        skips |= {(suite, device): names for device, names in names_by_device.items()}
        if reason:
            talk.say(f"Warning: {suite} cannot say which models to skip, so none is skipped: {reason}")
    return skips


def _request(context: click.Context, cases: CaseOptions, harness: HarnessOptions) -> HarnessRequest:
    """Say what is asked of the checkout. Raises `click.UsageError` for what cannot be meant."""
    selection, settings = cases.selection(), cases.settings()
    if harness.cpu_launcher_args and not harness.enable_cpu_launcher:
        raise click.UsageError("--cpu-launcher-args without --enable-cpu-launcher has no effect; give both")
    launcher = shell_words(harness.cpu_launcher_args or "", name="--cpu-launcher-args")
    python = cases.interpreter.python
    is_partitioned = selection.total_partitions > 1
    return HarnessRequest(
        mode=selection.mode,
        # It is started in the checkout: a path from here stays one; a name is looked up as ever.
        python=str(Path(python).absolute()) if "/" in python else python,
        suites=selection.suites if _is_given(context, "suites") else DEFAULT_SUITES,
        devices=selection.devices or DEFAULT_DEVICES,
        dtypes=selection.dtypes,
        compilers=selection.compilers if _is_given(context, "compilers") else DEFAULT_COMPILERS,
        testings=tuple(testing for testing in TESTINGS if testing in settings.testings),
        quick=selection.quick,
        filters=tuple(pattern.pattern for pattern in selection.filters),
        exclude=selection.exclude,
        log_operator_inputs=harness.log_operator_inputs,
        cold_start=settings.cold_start,
        batch_size=settings.batch_size,
        threads=settings.threads,
        repeat=settings.rule.repeat,
        total_partitions=selection.total_partitions if is_partitioned else None,
        partition_id=selection.partition_id if is_partitioned else None,
        inductor_mode=settings.inductor_mode,
        extra=tuple(shell_words(harness.extra_args or "", name="--extra-args")),
        launcher=tuple(launcher) if harness.enable_cpu_launcher else None,
    )


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) not in {ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP}
