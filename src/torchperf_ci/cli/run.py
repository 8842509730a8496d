"""`torchperf-ci run`: measure eager against compiled models on this machine into a results folder."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from torchperf_ci.cli.finish import (
    Interrupted,
    announce,
    interrupted,
    resume_hint,
    signals_interrupt,
    tell_step,
    tells_failure,
)
from torchperf_ci.cli.options import command, takes
from torchperf_ci.cli.progress import progress_for
from torchperf_ci.cli.run_options import RunOptions, refuse_other_harness
from torchperf_ci.core.results import open_folder, read_results
from torchperf_ci.core.text import count
from torchperf_ci.github.job import read_source, stop_commands


@command(short_help="Measure eager against compiled models on this machine.")
@takes(RunOptions)
def run(options: RunOptions) -> int:
    """Measure eager against compiled models on this machine.

    Each case is one model with one compiler. A process of its own checks that the compiled results are right, then
    times eager and compiled iterations in turn, so that both see the same machine at the same moment. OUTPUT_DIR gets
    a record of each case as soon as it is measured, and at the end the report: report.md and report.html.

    \b
    Examples:
      torchperf-ci run --inference --quick
      torchperf-ci run --inference --suites bench.py --compilers inductor --output-dir out
      torchperf-ci run --training --suites huggingface --scale small --dtypes bfloat16
      torchperf-ci run --harness dynamo --pytorch-dir ~/pytorch --training --suites huggingface

    The first one takes a few minutes and needs only torch. docs/suites.md says how to write bench.py.

    With --harness dynamo the scripts in a PyTorch checkout do the measuring, started with the commands of PyTorch's
    own suite runner. OUTPUT_DIR then holds their CSV files, a log of each command, and commands.jsonl. By default the
    suites are torchbench, huggingface and timm_models, the device is cuda, and --timeout, for a command, is a day.
    --filter and --exclude are regular expressions that the scripts get.
    """
    context = click.get_current_context()
    refuse_other_harness(context, options.harness.harness)
    try:
        with tells_failure(github_files=options.github_files), signals_interrupt():
            if options.harness.harness == "dynamo":
                from torchperf_ci.cli.run_dynamo import run_dynamo

                return run_dynamo(context, options)
            return _measure_and_report(options)
    except Interrupted as error:
        code = interrupted(error, resume_hint(options.output_dir))
        tell_step({"exit-code": code}, github_files=options.github_files)
        return code


def _measure_and_report(options: RunOptions) -> int:
    """Do everything from the folder to the report; return the exit code."""
    from torchperf_ci.machine.gpu import locked_clocks
    from torchperf_ci.report.model import ReportOptions, SourceTree
    from torchperf_ci.run.counting import InstructionMethod, choose_method
    from torchperf_ci.run.plan import keep_listed, make_plan, read_case_list
    from torchperf_ci.run.runner import measure_plan
    from torchperf_ci.run.survey import note_settings, preload, python_under_test, refuse_cold_l2, survey

    selection, settings = options.cases.selection(), options.cases.settings()
    with (
        stop_commands(os.environ),
        open_folder(options.output_dir) as folder,
        python_under_test(
            options.cases.interpreter.python,
            os.environ,
            threads=settings.threads,
            extra=options.cases.variables(),
        ) as python,
    ):
        talk = options.talk
        talk.say(f"Starting {options.cases.interpreter.python} …")
        with python.start() as preloaded:
            surveyed = survey(preloaded, selection.suites, threads=settings.threads, command=sys.argv[1:])
            plan = make_plan(selection, surveyed.suites, surveyed.machine)
            if options.cases_from is not None:
                plan = keep_listed(plan, read_case_list(options.cases_from), options.cases_from)
            narrowed_by = (*selection.list_narrowings(), *(["--cases-from"] if options.cases_from else []))
            surveyed = replace(surveyed, build=replace(surveyed.build, narrowed_by=narrowed_by))
            refuse_cold_l2(plan.cases, settings)
            method = choose_method(InstructionMethod(settings.instructions), surveyed, plan.cases)
            settings = replace(settings, instructions=method.value)
            surveyed = note_settings(preload(preloaded, plan, surveyed), settings)
            if not options.keep_output_dir:
                folder.empty()
            for warning in surveyed.build.warnings:
                talk.say(f"Warning: {warning}")
            environment = surveyed.environment
            talk.explain(
                f"Python {environment.python}, torch {environment.torch}, {count(environment.threads, 'thread')}, "
                f"devices: {', '.join(surveyed.machine.devices)}"
            )
            if options.github_files:
                announce(folder.path, options.name, selection.shard)
            devices = [*plan.places, *(planned.device for planned in plan.cases)]
            clocks = options.cases.machine.lock_clocks
            with (
                locked_clocks(clocks, devices, surveyed.accelerators, surveyed.build.variables) as notes,
                progress_for(sys.stderr, quiet=talk.quiet, logs_in=folder.path if talk.verbose else None) as progress,
            ):
                for note in notes:
                    talk.say(f"Note: {note}.")
                measure_plan(
                    plan,
                    surveyed,
                    settings,
                    source=read_source(os.environ, shard=selection.shard, folder=Path.cwd()),
                    folder=folder,
                    python=python,
                    preloaded=preloaded,
                    progress=progress,
                )
        report_options = ReportOptions(
            flag_compilers=options.flag_compilers,
            run_name=options.output_dir.resolve().name,
            checkouts=(SourceTree(name="pytorch"), SourceTree(name="torchbench")),
        )
        return options.conclude(folder, read_results(folder.path), report_options)
