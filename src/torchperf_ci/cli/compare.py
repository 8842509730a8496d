"""`torchperf-ci compare`: base against head, a verdict per case: live on this machine, or from what is recorded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.case_options import case_options
from torchperf_ci.cli.finish import write_exit_code
from torchperf_ci.cli.history_options import past_options
from torchperf_ci.cli.options import GitHubOptions, KeyValues, LineFolder, command, github_options, option
from torchperf_ci.compare.effects import LAUNCHES
from torchperf_ci.core.errors import ExitCode, TorchperfError, UsageProblem

if TYPE_CHECKING:
    from torchperf_ci.compare.report import Findings

_SHARE = click.FloatRange(min=0, min_open=True, max=10)


@command(short_help="Compare base with head on this machine, with a verdict per case.")
@click.argument("folders", metavar="[BASE_DIR] [HEAD_DIR]", nargs=-1, type=LineFolder(), envvar="TORCHPERF_RESULTS")
@case_options
@option("--base-python", help="The Python of base.  [default: --python]")
@option("--head-python", help="The Python of head.  [default: --python]")
@option("--base-ref", help="Commit of base in this repository; merge-base: where head left --upstream.")
@option("--head-ref", help="Commit of head.  [default: HEAD with the changes of the working tree]")
@option(
    "--upstream",
    default="",
    show_default=False,
    help="The branch that merge-base is taken with.  [default: that of the pull request, else origin's default branch]",
)
@option(
    "--setup", default="", help="Shell command that installs a commit, run in its worktree, say `pip install -e .`."
)
@option("--base-env", multiple=True, type=KeyValues(), metavar="KEY=VALUE", help="Variable of base alone. Repeatable.")
@option("--head-env", multiple=True, type=KeyValues(), metavar="KEY=VALUE", help="Variable of head alone. Repeatable.")
@option("--base-compiler", help="Compiler of base; with --head-compiler, instead of --compilers.")
@option("--head-compiler", help="Compiler of head.")
@option("--launches", type=click.IntRange(min=1), default=LAUNCHES, help="Pairs of processes per case, at most.")
@option(
    "--budget-per-case",
    type=click.FloatRange(min=0.5),
    default=10.0,
    help="Seconds of sampling per case, at most; but a launch takes ten rounds whatever they cost.",
)
@option(
    "--interleave",
    type=click.Choice(["auto", "iteration", "block", "launch"]),
    default="auto",
    help="How the sides take turns. launch: whole launches, for models that do not fit twice; auto: single iterations, "
    "and whole launches where they do not fit.",
)
@option("--margin", type=_SHARE, help="The slowdown that counts, as a share.  [default: 0.02; in one process 0.01]")
@option("--threshold", type=_SHARE, help="How far it may stay open.  [default: 0.05; in one process 0.03]")
@option("--strict", is_flag=True, help="Inconclusive and refused cases fail as well (exit code 3).")
@option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("compare_logs"),
    help="The folder for the result. What an earlier comparison wrote there is removed first.",
)
@option(
    "--baseline-artifact",
    metavar="NAME",
    help="With HEAD_DIR alone: base is GitHub's newest artifact of this name of the commit where head left "
    "--baseline-branch, or of the nearest one before it.",
)
@option(
    "--baseline-branch",
    metavar="BRANCH",
    envvar=["TORCHPERF_BASELINE_BRANCH", "GITHUB_BASE_REF"],
    help="The branch that head left.  [default: the repository's default branch]",
)
@option(
    "--same-machine",
    is_flag=True,
    help="What is recorded was measured on one machine: compare times although it is not recorded which. Where the "
    "machines are known to differ, times stay out.",
)
@past_options
@option("--name", default="results", help="The series of runs in the history.")
@github_options
@option("--github-files", is_flag=True, help="Write step outputs and the step summary for GitHub Actions.")
def compare(*, github: GitHubOptions, **options: Any) -> int:  # noqa: ANN401 - click's values
    """Compare base with head, with a verdict per case.

    Without folders it measures now, on this machine: the two run in processes of their own on the same CPUs or the
    same GPU, one iteration each in turn, in several launches, because processes of equal code differ among
    themselves. What looks slower is measured again. With the compiler `eager` the module runs as it is, without
    torch.compile.

    With two results folders of `run` it compares what is recorded there; with one, and --baseline-artifact, base comes
    from GitHub; with one, and --history or --data-branch, it is held against what the last 30 runs on such a machine
    usually gave. Another day or machine is then part of the difference, so that only large changes count.

    \b
    Examples:
      torchperf-ci compare --base-ref merge-base --setup "pip install -e ." --suites bench.py --inference
      torchperf-ci compare --base-python old/bin/python --head-python new/bin/python --inference
      torchperf-ci compare --base-compiler eager --head-compiler inductor --inference
      torchperf-ci compare main_logs head_logs
      torchperf-ci compare head_logs --baseline-artifact torchperf-merged-results --repo org/project
      torchperf-ci compare head_logs --history s3://bucket/history

    Exit code 0: nothing is slower; 3: something is; 4: nothing could be compared.
    """
    from torchperf_ci.github.job import commands_stopped

    try:
        with commands_stopped(os.environ):
            code = _compare(options, github)
    except TorchperfError as error:
        write_exit_code(int(error.exit_code), github_files=options["github_files"])
        raise
    return write_exit_code(code, github_files=options["github_files"])


def _compare(options: dict[str, Any], github: GitHubOptions) -> int:
    past = options["location"] or options["data_branch"]
    if past and options["baseline_artifact"]:
        raise click.UsageError("--baseline-artifact and --history are two bases; give one of them")
    if options["output_dir"].resolve() in [folder.resolve() for folder in options["folders"]]:
        raise UsageProblem(
            f"{options['output_dir']} is one of the folders to compare; choose another with --output-dir"
        )
    if past:
        from torchperf_ci.cli.compare_history import compare_history

        return compare_history(options, github)
    if options["folders"] or options["baseline_artifact"]:
        from torchperf_ci.cli.compare_folders import compare_folders

        return compare_folders(options, github)
    from torchperf_ci.cli.compare_live import compare_live

    return compare_live(options)


def conclude(findings: Findings, options: Mapping[str, Any]) -> int:
    """Print what was found, hand it to GitHub; the exit code."""
    from torchperf_ci.compare.report import markdown, text

    click.echo(text(findings))
    if options["github_files"]:
        from torchperf_ci.github.job import append_summary, write_outputs

        outputs = {"results": str(options["output_dir"]), "regressed": str(findings.blocking)}
        write_outputs(os.environ, {**outputs, "inconclusive": str(findings.inconclusive)})
        append_summary(os.environ, markdown(findings))
    return int(_exit_code(findings, strict=options["strict"]))


def _exit_code(findings: Findings, *, strict: bool) -> ExitCode:
    if findings.blocking:
        return ExitCode.FAILED_CHECK
    if not findings.compared:
        return ExitCode.NOTHING_TO_JUDGE
    return ExitCode.FAILED_CHECK if strict and findings.open else ExitCode.OK
