"""The options of `torchperf-ci bisect`: what is searched, for what, and how it is measured."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import click

from torchperf_ci.bisect.model import LAUNCHES
from torchperf_ci.cli.case_options import CaseOptions, TalkOptions
from torchperf_ci.cli.compare_options import BUDGET_PER_CASE, EXPLAIN, INTERLEAVE, SETUP, SHARE, StepOptions
from torchperf_ci.cli.options import argument, command_options, option


@command_options
class SearchOptions:
    """Say what is searched, and for what."""

    SECTION: ClassVar[str] = "What to look for"

    case: str = option(
        "--case",
        metavar="SUITE/MODEL …",
        default="",
        show_default=False,
        help="The case: suite and model, and as far as needed compiler, mode, dtype and device, as reports name it.  "
        "[default: the only one there is]",
    )
    metric: str = option(
        "--metric",
        default="latency",
        help="What changed: latency, memory, compile-time, accuracy (it fails, or is wrong), or a counter, for example "
        "graph_breaks.",
    )
    margin: float | None = option(
        "--margin",
        type=SHARE,
        help="The smallest change that counts: 0.02 is 2 %. Ends that differ by less are not searched.  [default: as "
        "in compare: 0.02 for latency]",
    )
    command: str = option(
        "--run",
        metavar="COMMAND",
        default="",
        show_default=False,
        help="Ask this shell command instead of measuring a case. It runs in each commit's worktree: exit code 0 is "
        "good, 125 skips the commit, others up to 127 are bad.",
    )
    setup: str = SETUP
    first_parent: bool = option(
        "--first-parent", is_flag=True, help="Follow the first parent of merges alone: a merged branch is one commit."
    )
    paths: tuple[str, ...] = option(
        "--paths", multiple=True, metavar="PATH", help="Only commits that change something there. Repeatable."
    )
    python_of: str = option(
        "--python-of",
        metavar="COMMAND",
        default="",
        show_default=False,
        help="Search versions of a package, not commits: the shell command that installs one, for example `pip install "
        "torch=={version}`, into an environment made for it.",
    )
    versions: tuple[str, ...] = option(
        "--versions", multiple=True, metavar="VERSION", help="The versions for --python-of, oldest first. Repeatable."
    )


@command_options
class PaceOptions:
    """Say how much time a step gets, and how the sides take turns."""

    SECTION: ClassVar[str] = "How to measure"

    budget_per_case: float = BUDGET_PER_CASE
    launches: int = option(
        "--launches",
        type=click.IntRange(min=2),
        default=LAUNCHES,
        help="Pairs of fresh processes that a step is measured in, at most.",
    )
    interleave: str = INTERLEAVE
    explain: str = EXPLAIN


@command_options
class BisectOptions:
    """Say what is bisected, and how."""

    good: str = argument(metavar="[GOOD]", required=False, default="", envvar="TORCHPERF_GOOD")
    bad: str = argument(metavar="[BAD]", required=False, default="", envvar="TORCHPERF_BAD")
    output_dir: Path = option(
        "--output-dir",
        type=click.Path(path_type=Path),
        default=Path("bisect_logs"),
        help="The folder for the result. What was measured is kept there: the same command continues from it.",
    )
    restart: bool = option("--restart", is_flag=True, help="Forget what was measured before.")
    dry_run: bool = option("--dry-run", is_flag=True, help="List the commits, and about how many steps it takes.")
    talk: TalkOptions
    search: SearchOptions
    cases: CaseOptions
    pace: PaceOptions
    step: StepOptions
