"""`torchperf-ci run`: measure eager against compiled models on this machine into a results folder."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.case_options import case_options, selection_from, settings_from, worker_variables
from torchperf_ci.cli.dynamo_options import dynamo_options, refuse_other_harness
from torchperf_ci.cli.finish import announce, conclude, resume_hint, told_github
from torchperf_ci.cli.interrupt import Interrupted, interrupted, signals_interrupt
from torchperf_ci.cli.options import option
from torchperf_ci.errors import TorchperfError

if TYPE_CHECKING:
    from torchperf_ci.bench.case_worker import Settings
    from torchperf_ci.bench.plan import Selection


@click.command(short_help="Measure eager against compiled models on this machine.")
@case_options
@dynamo_options
@option(
    "--flag-compilers",
    multiple=True,
    help="Compilers whose slow, failing or heavy models the report warns about. Repeatable.  [default: inductor's]",
)
@option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("benchmark_logs"),
    help="The results folder. What an earlier run wrote there is removed first.",
)
@option("--keep-output-dir", is_flag=True, help="Keep what is recorded there, and measure only the rest.")
@option(
    "--fail-on",
    type=click.Choice(["failed", "never"]),
    default="failed",
    help="failed: exit with 6 when a case did not pass; never: with 0.",
)
@option("--strict", is_flag=True, help="Exit with 6 as well when a case passed without anything being compiled.")
@option("--name", default="results", help="Name of these results; part of the artifact's name in GitHub Actions.")
@option("--github-files", is_flag=True, help="Write step outputs and the step summary for GitHub Actions.")
def run(**options: Any) -> int:  # noqa: ANN401 - click's values
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
    refuse_other_harness(click.get_current_context(), options["harness"])
    if options["harness"] == "dynamo":
        from torchperf_ci.cli.run_dynamo import run_dynamo

        return run_dynamo(options)
    selection, settings = selection_from(options), settings_from(options)
    try:
        with signals_interrupt():
            return _measure_and_report(selection, settings, options)
    except Interrupted as error:
        return told_github(interrupted(error, resume_hint(options["output_dir"])), options)
    except TorchperfError as error:
        told_github(int(error.exit_code), options)
        raise


def _measure_and_report(selection: Selection, settings: Settings, options: Mapping[str, Any]) -> int:
    """Everything from the folder to the report; the exit code."""
    from torchperf_ci.bench.clocks import locked_clocks
    from torchperf_ci.bench.run import (
        Run,
        note_settings,
        plan_run,
        preload,
        python_under_test,
        refuse_cold_l2,
        survey,
    )
    from torchperf_ci.cli.progress import progress_for
    from torchperf_ci.github.context import source_from
    from torchperf_ci.github.workflow_commands import commands_stopped
    from torchperf_ci.report.checkouts import read_checkouts
    from torchperf_ci.report.model import ReportOptions
    from torchperf_ci.results import open_folder, read_results

    with (
        commands_stopped(os.environ),
        open_folder(options["output_dir"]) as folder,
        tempfile.TemporaryDirectory(prefix="torchperf-log-") as logs,
        python_under_test(
            options["python"],
            os.environ,
            threads=settings.threads,
            extra=worker_variables(torchbench_dir=options["torchbench_dir"], extra_env=options["extra_env"]),
            log=Path(logs) / "preload.log",
        ) as python,
    ):
        click.echo(f"Starting {options['python']} …", err=True)
        with python.start() as preloaded:
            found = survey(preloaded, selection.suites, threads=settings.threads, command=sys.argv[1:])
            plan = plan_run(selection, found)
            refuse_cold_l2(plan.cases, settings)
            found = note_settings(preload(preloaded, plan, found), settings)
            if not options["keep_output_dir"]:
                folder.empty()
            for warning in found.build.warnings:
                click.echo(f"Warning: {warning}", err=True)
            if options["github_files"]:
                announce(folder.path, options["name"], selection.shard)
            planned = Run(
                plan=plan,
                survey=found,
                settings=settings,
                source=source_from(os.environ, shard=selection.shard, folder=Path.cwd()),
                folder=folder,
                python=python,
            )
            devices = [*plan.places, *(planned_case.device for planned_case in plan.cases)]
            with (
                locked_clocks(options["lock_clocks"], devices, found.accelerators, found.build.variables) as told,
                progress_for(sys.stderr) as progress,
            ):
                for sentence in told:
                    click.echo(f"Note: {sentence}.", err=True)
                planned.measure(preloaded, progress)
        report_options = ReportOptions(
            flag_compilers=tuple(options["flag_compilers"]),
            run_name=options["output_dir"].resolve().name,
            checkouts=read_checkouts(pytorch_dir=None, torchbench_dir=None, base_sha=""),
        )
        return conclude(folder, read_results(folder.path), report_options, options, os.environ)
