"""`torchperf-ci run`: measure eager against compiled models on this machine into a results folder."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from torchperf_ci.cli.finish import announce, resume_hint, write_exit_code
from torchperf_ci.cli.interrupt import Interrupted, interrupted, signals_interrupt
from torchperf_ci.cli.options import command, takes
from torchperf_ci.cli.run_options import RunOptions, refuse_other_harness
from torchperf_ci.core.errors import TorchperfError


@command(short_help="Measure eager against compiled models on this machine.")
@takes(RunOptions)
def run(options: RunOptions) -> int:
    """Measure eager against compiled models on this machine.

    Every case is a model with a compiler. A process of its own checks that compiled results are right, then runs
    eager and compiled iterations in turn, so that both see the same machine in the same moments. Records go to
    OUTPUT_DIR/records.jsonl one by one; the report is made of them at the end.

    With --harness dynamo the scripts in a PyTorch checkout do the measuring, started with the commands of PyTorch's
    own suite runner; OUTPUT_DIR then holds their CSV files, a log of each, and commands.jsonl. By default the suites
    are torchbench, huggingface and timm_models, the device is cuda, and --timeout, for a command, is a day; --filter
    and --exclude are regular expressions that the scripts get.

    \b
    Example:
      torchperf-ci run --suites tiny --inference --compilers eager --compilers inductor --output-dir out
      torchperf-ci run --harness dynamo --pytorch-dir ~/pytorch --training --suites huggingface --output-dir out
    """
    context = click.get_current_context()
    refuse_other_harness(context, options.harness.harness)
    try:
        with signals_interrupt():
            if options.harness.harness == "dynamo":
                from torchperf_ci.cli.run_dynamo import run_dynamo

                return run_dynamo(context, options)
            return _measure_and_report(options)
    except Interrupted as error:
        code = interrupted(error, resume_hint(options.output_dir))
        return write_exit_code(code, github_files=options.github_files)
    except TorchperfError as error:
        write_exit_code(int(error.exit_code), github_files=options.github_files)
        raise


def _measure_and_report(options: RunOptions) -> int:
    """Do everything from the folder to the report; return the exit code."""
    from torchperf_ci.cli.progress import progress_for
    from torchperf_ci.core.results import open_folder, read_results
    from torchperf_ci.github.job import commands_stopped, source_from
    from torchperf_ci.machine.clocks import locked_clocks
    from torchperf_ci.pytorch.checkout import read_checkouts
    from torchperf_ci.report.model import ReportOptions
    from torchperf_ci.run.run import (
        Run,
        note_settings,
        plan_run,
        preload,
        python_under_test,
        refuse_cold_l2,
        survey,
    )

    selection, settings = options.cases.selection(), options.cases.settings()
    with (
        commands_stopped(os.environ),
        open_folder(options.output_dir) as folder,
        tempfile.TemporaryDirectory(prefix="torchperf-log-") as logs,
        python_under_test(
            options.cases.interpreter.python,
            os.environ,
            threads=settings.threads,
            extra=options.cases.variables(),
            log=Path(logs) / "preload.log",
        ) as python,
    ):
        click.echo(f"Starting {options.cases.interpreter.python} …", err=True)
        with python.start() as preloaded:
            found = survey(preloaded, selection.suites, threads=settings.threads, command=sys.argv[1:])
            plan = plan_run(selection, found)
            refuse_cold_l2(plan.cases, settings)
            found = note_settings(preload(preloaded, plan, found), settings)
            if not options.keep_output_dir:
                folder.empty()
            for warning in found.build.warnings:
                click.echo(f"Warning: {warning}", err=True)
            if options.github_files:
                announce(folder.path, options.name, selection.shard)
            planned = Run(
                plan=plan,
                survey=found,
                settings=settings,
                source=source_from(os.environ, shard=selection.shard, folder=Path.cwd()),
                folder=folder,
                python=python,
            )
            devices = [*plan.places, *(planned_case.device for planned_case in plan.cases)]
            clocks = options.cases.machine.lock_clocks
            with (
                locked_clocks(clocks, devices, found.accelerators, found.build.variables) as notes,
                progress_for(sys.stderr) as progress,
            ):
                for note in notes:
                    click.echo(f"Note: {note}.", err=True)
                planned.measure(preloaded, progress)
        report_options = ReportOptions(
            flag_compilers=options.flag_compilers,
            run_name=options.output_dir.resolve().name,
            checkouts=read_checkouts(pytorch_dir=None, torchbench_dir=None, base_sha=""),
        )
        return options.conclude(folder, read_results(folder.path), report_options)
