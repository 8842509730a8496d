"""The options of `torchperf-ci run`, for both harnesses."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from torchperf_ci.cli.case_options import CaseOptions, TalkOptions
from torchperf_ci.cli.finish import conclude
from torchperf_ci.cli.options import GITHUB_FILES, command_options, option
from torchperf_ci.core.results import Results, ResultsFolder

if TYPE_CHECKING:
    from torchperf_ci.report.model import ReportOptions

_FOLDER = click.Path(path_type=Path)

_ONLY_TORCHPERF = (
    "cases_from",
    "warmup",
    "seed",
    "scale",
    "compile_scope",
    "cold_l2",
    "count",
    "instructions",
    "dynamic",
)


@command_options("PyTorch's own suite runner")
class HarnessOptions:
    """Choose the harness, and say what only PyTorch's own takes."""

    harness: str = option(
        type=click.Choice(["torchperf", "dynamo"]),
        default="torchperf",
        help="torchperf: measure as docs/method.md says; dynamo: run the scripts of a PyTorch checkout "
        "(benchmarks/dynamo), with the commands of PyTorch's own suite runner.",
    )
    pytorch_dir: Path | None = option(
        type=_FOLDER, help="dynamo: the PyTorch checkout to run in.  [default: the working folder]"
    )
    print_run_commands: bool = option(help="dynamo: write and print the script of the commands; run none.")
    log_operator_inputs: bool = option(help="dynamo: let the scripts log the operators' inputs.")
    extra_args: str | None = option(
        metavar="ARGS", help="dynamo: more arguments for the scripts, quoted as in a shell."
    )
    enable_cpu_launcher: bool = option(help="dynamo: start the scripts with torch.backends.xeon.run_cpu.")
    cpu_launcher_args: str | None = option(
        metavar="ARGS", help="dynamo: arguments of that launcher, quoted as in a shell."
    )


@command_options
class RunOptions:
    cases: CaseOptions
    output_dir: Path = option(
        type=click.Path(path_type=Path),
        default=Path("benchmark_logs"),
        help="The results folder. What an earlier run wrote there is removed first.",
    )
    keep_output_dir: bool = option(help="Keep what is recorded there, and measure the rest.")
    cases_from: Path | None = option(
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Measure only the cases that FILE lists, of those that the other options choose; `dashboard --confirm "
        "FILE` writes one.",
    )
    fail_on: str = option(
        type=click.Choice(["failed", "never"]),
        default="failed",
        help="failed: exit with 6 when a case did not pass; never: exit with 0.",
    )
    strict: bool = option(help="Exit with 6 as well when a case passed without anything being compiled.")
    flag_compilers: tuple[str, ...] = option(
        help="Compiler whose slow, failing or heavy models the report warns about. Repeatable.  [default: "
        "inductor and inductor_no_cudagraphs]"
    )
    talk: TalkOptions
    harness: HarnessOptions
    name: str = option(
        default="results", section="GitHub", help="Name of these results, in the name of the artifact on GitHub."
    )
    github_files: bool = GITHUB_FILES

    def conclude(self, folder: ResultsFolder, results: Results, report_options: ReportOptions) -> int:
        """Write and print the report as these options ask; return the exit code."""
        return conclude(
            folder,
            results,
            report_options,
            github_files=self.github_files,
            fail_on=self.fail_on,
            strict=self.strict,
            quiet=self.talk.quiet,
        )


def refuse_other_harness(context: click.Context, harness: str) -> None:
    """Raise `click.UsageError` for options on the command line that the harness does not know.

    Those of the environment may be meant for another command, and stay unused.
    """
    only_dynamo = [each.name for each in fields(HarnessOptions) if each.name != "harness"]
    other = _ONLY_TORCHPERF if harness == "dynamo" else only_dynamo
    typed = [name for name in other if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if typed:
        names = ", ".join("--" + name.replace("_", "-") for name in typed)
        advice = "; the scripts' own options go into --extra-args" if harness == "dynamo" else ""
        raise click.UsageError(f"{names}: not an option of --harness {harness}{advice}")
