"""`torchperf-ci compare`: base against head, with a verdict per case: live on this machine, or from results folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.case_options import case_options
from torchperf_ci.cli.options import KeyValues, option
from torchperf_ci.errors import ExitCode

if TYPE_CHECKING:
    from torchperf_ci.report.compare import Findings

_SHARE = click.FloatRange(min=0, min_open=True, max=10)


@click.command(short_help="Compare base with head on this machine, with a verdict per case.")
@click.argument(
    "folders", metavar="[BASE_DIR] [HEAD_DIR]", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@case_options
@option("--base-python", help="The Python of base.  [default: --python]")
@option("--head-python", help="The Python of head.  [default: --python]")
@option("--base-ref", help="Commit of base in this repository; merge-base: where head left --upstream.")
@option("--head-ref", help="Commit of head.  [default: HEAD with the changes of the working tree]")
@option("--upstream", default="origin/HEAD", help="The branch that merge-base is taken with.")
@option(
    "--setup", default="", help="Shell command that installs a commit, run in its worktree, say `pip install -e .`."
)
@option("--base-env", multiple=True, type=KeyValues(), metavar="KEY=VALUE", help="Variable of base alone. Repeatable.")
@option("--head-env", multiple=True, type=KeyValues(), metavar="KEY=VALUE", help="Variable of head alone. Repeatable.")
@option("--base-compiler", help="Compiler of base; with --head-compiler, instead of --compilers.")
@option("--head-compiler", help="Compiler of head.")
@option("--launches", type=click.IntRange(min=1), default=3, help="Pairs of processes per case, at most.")
@option(
    "--budget-per-case",
    type=click.FloatRange(min=0.5),
    default=10.0,
    help="Seconds of sampling per case, at most; but a launch takes ten rounds whatever they cost.",
)
@option(
    "--interleave",
    type=click.Choice(["iteration", "block", "launch"]),
    default="iteration",
    help="How the sides take turns. launch: for models that do not fit twice.",
)
@option("--margin", type=_SHARE, help="The slowdown that counts, as a share.  [default: 0.02; in one process 0.01]")
@option("--threshold", type=_SHARE, help="How far it may stay open.  [default: 0.05; in one process 0.03]")
@option("--strict", is_flag=True, help="Inconclusive cases fail as well (exit code 3).")
@option(
    "--output-dir",
    type=click.Path(path_type=Path),
    default=Path("compare_logs"),
    help="The folder for the result. What an earlier comparison wrote there is removed first.",
)
def compare(**options: Any) -> int:  # noqa: ANN401 - click's values
    """Compare base with head, with a verdict per case.

    Without folders it measures now, on this machine: the two run in processes of their own on the same CPUs or the
    same GPU, one iteration each in turn, in several launches, because processes of equal code differ among
    themselves. What looks slower is measured again. With the compiler `eager` the module runs as it is, without
    torch.compile.

    With two results folders of `run` it compares what is recorded there. Another day or machine is then part of the
    difference, so that only large changes count.

    \b
    Examples:
      torchperf-ci compare --base-ref merge-base --setup "pip install -e ." --suites bench.py --inference
      torchperf-ci compare --base-python old/bin/python --head-python new/bin/python --inference
      torchperf-ci compare --base-compiler eager --head-compiler inductor --inference
      torchperf-ci compare main_logs head_logs

    Exit code 0: nothing is slower; 3: something is; 4: nothing could be compared.
    """
    if options["folders"]:
        from torchperf_ci.cli.compare_folders import compare_folders

        return compare_folders(options)
    from torchperf_ci.cli.compare_live import compare_live

    return compare_live(options)


def conclude(findings: Findings, *, strict: bool) -> int:
    """Print what was found; the exit code."""
    from torchperf_ci.report.compare import text

    click.echo(text(findings))
    return int(_exit_code(findings, strict=strict))


def _exit_code(findings: Findings, *, strict: bool) -> ExitCode:
    if findings.blocking:
        return ExitCode.FAILED_CHECK
    if not findings.compared:
        return ExitCode.NOTHING_TO_JUDGE
    return ExitCode.FAILED_CHECK if strict and findings.inconclusive else ExitCode.OK
