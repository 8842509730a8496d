"""The options of `torchperf-ci compare`: the daily ones first, those of recorded runs and of GitHub last."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.case_options import CaseOptions, TalkOptions
from torchperf_ci.cli.config import tolerance_rules
from torchperf_ci.cli.history_options import PastOptions
from torchperf_ci.cli.options import (
    ACCEPT_LABEL,
    GITHUB_FILES,
    GitHubOptions,
    KeyValues,
    LineFolder,
    Number,
    argument,
    command_options,
    option,
)
from torchperf_ci.compare.effects import LAUNCHES

if TYPE_CHECKING:
    from torchperf_ci.compare.effects import ChangeTolerance
    from torchperf_ci.compare.model import ToleranceRules

SHARE = Number(min=0, min_open=True, max=10)

SETUP = option(
    help="Shell command that installs a commit, run in its worktree, for example `pip install -e .`.",
)

BUDGET_PER_CASE = option(
    type=Number(min=0.5),
    default=10,
    help="Seconds of sampling per case, at most; but every pair of processes runs ten iterations, however long "
    "they are.",
)

INTERLEAVE = option(
    type=click.Choice(["auto", "iteration", "block", "launch"]),
    default="auto",
    help="How the sides take turns: one iteration each (several where they are shorter than 3 ms), a block of some 50 "
    "ms, or a whole launch (a pair of processes, one after the other), for models that do not fit twice; auto: like "
    "iteration, and whole launches where they do not fit.",
)


EXPLAIN = option(
    type=click.Choice(["never", "confirmed", "all"]),
    default="confirmed",
    help="Which changes are explained: both sides are profiled in turn, and the report names operators, Python "
    "functions, graphs and lines that differ. confirmed: what is worse for certain; all: all that changed.",
)


@command_options("What to compare")
class SideOptions:
    base_ref: str | None = option(help="Commit of base in this repository; merge-base: where head left --upstream.")
    head_ref: str | None = option(help="Commit of head.  [default: HEAD with the changes of the working tree]")
    setup: str = SETUP
    base_python: str | None = option(help="The Python of base.  [default: --python]")
    head_python: str | None = option(help="The Python of head.  [default: --python]")
    base_compiler: str | None = option(help="Compiler of base; with --head-compiler, instead of --compilers.")
    head_compiler: str | None = option(help="Compiler of head.")
    base_env: tuple[tuple[str, str], ...] = option(
        type=KeyValues(), metavar="KEY=VALUE", help="An environment variable for base alone. Repeatable."
    )
    head_env: tuple[tuple[str, str], ...] = option(
        type=KeyValues(), metavar="KEY=VALUE", help="An environment variable for head alone. Repeatable."
    )
    upstream: str = option(
        help="The branch that merge-base is taken with.  [default: that of the pull request, else origin's default "
        "branch]"
    )


@command_options("What counts as a change")
class VerdictOptions:
    margin: float | None = option(
        type=SHARE,
        help="The smallest slowdown that counts: 0.02 is 2 %. A case is slower when its whole interval lies beyond "
        "it.  [default: 0.02; both sides in one process: 0.01]",
    )
    threshold: float | None = option(
        type=SHARE,
        help="The largest difference that may be called unchanged: 0.05 is 5 %. A case is unchanged when its whole "
        "interval lies within it, to either side; what is neither slower, faster nor unchanged is inconclusive.  "
        "[default: 0.05; both sides in one process: 0.03]",
    )
    gate_on: tuple[str, ...] = option(
        type=click.Choice(["counts"]),
        help="counts: more operators, generated kernels, kernel launches, allocations or floating-point operations "
        "fail too (exit code 3), not only more instructions.  [default: they are only reported]",
    )
    strict: bool = option(help="Inconclusive and refused cases fail as well (exit code 3).")

    def tolerances(self, usual: ChangeTolerance) -> ToleranceRules:
        """Return what these options ask for, `usual` where they are silent, with the rules of the configuration file.

        Raises `click.UsageError` for a margin above the threshold.
        """
        from torchperf_ci.compare.effects import ChangeTolerance
        from torchperf_ci.compare.model import ToleranceRules

        margin, threshold = self.margin or usual.margin, self.threshold or usual.threshold
        if self.threshold is None:
            threshold = max(margin, threshold)
        if margin > threshold:
            raise click.UsageError(
                f"--margin {margin:g} is above --threshold {threshold:g}: a case could be both slower and unchanged"
            )
        latency = ChangeTolerance(margin=margin, threshold=threshold)
        return ToleranceRules(latency=latency, rules=tolerance_rules(), gate_counts="counts" in self.gate_on)


@command_options("How to measure")
class EffortOptions:
    budget_per_case: float = BUDGET_PER_CASE
    launches: int = option(
        type=click.IntRange(min=1),
        default=LAUNCHES,
        help="Pairs of fresh processes that a case is measured in, at most.",
    )
    earlier: tuple[Path, ...] = option(
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="The output folder of an earlier comparison on this machine: it shows how much processes of equal code "
        "differ. Repeatable.",
    )
    measure_all: bool = option(
        help="Measure every case in full. By default a case that is proved to be the same program on two commits (the "
        "same code, data, settings and libraries) gets a short check instead."
    )
    interleave: str = INTERLEAVE
    explain: str = EXPLAIN


@command_options("Recorded runs")
class RecordedOptions:
    """Say where base comes from when head is a results folder."""

    baseline_artifact: str | None = option(
        metavar="NAME",
        help="With HEAD_DIR alone: base is GitHub's newest artifact of this name of the commit where head left "
        "--baseline-branch, or of the nearest one before it.",
    )
    baseline_branch: str | None = option(
        metavar="BRANCH",
        envvar=["TORCHPERF_BASELINE_BRANCH", "GITHUB_BASE_REF"],
        help="The branch that head left.  [default: the repository's default branch]",
    )
    name: str = option(default="results", help="The series of runs in the history.")
    same_machine: bool = option(
        help="Compare times although it is not recorded which machine they are of: it was one. Where the machines "
        "are known to differ, times stay out."
    )


@command_options
class CompareOptions:
    folders: tuple[Path, ...] = argument(
        metavar="[BASE_DIR] [HEAD_DIR]", nargs=-1, type=LineFolder(), envvar="TORCHPERF_RESULTS"
    )
    sides: SideOptions
    effort: EffortOptions
    cases: CaseOptions
    verdicts: VerdictOptions
    output_dir: Path = option(
        type=click.Path(path_type=Path),
        default=Path("compare_logs"),
        help="The folder for the result. What an earlier comparison wrote there is removed first.",
    )
    talk: TalkOptions
    recorded: RecordedOptions
    past: PastOptions
    github: GitHubOptions
    github_files: bool = GITHUB_FILES
    accept_label: str = ACCEPT_LABEL
