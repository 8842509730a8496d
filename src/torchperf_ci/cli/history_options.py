"""The options that say where the history of runs is, and the run that a results folder holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import click

from torchperf_ci.cli.options import GitHubOptions, command_options, option

if TYPE_CHECKING:
    from torchperf_ci.core.results import Results
    from torchperf_ci.dashboard.accepted import AcceptanceSource
    from torchperf_ci.github.branch import Branch
    from torchperf_ci.github.client import Client
    from torchperf_ci.history.parquet import ParquetHistory
    from torchperf_ci.history.runs import HistoryRun

DEFAULT_HISTORY = "./torchperf-history"


@command_options
class PastOptions:
    """Say where a history is that may be looked at. Without them there is none."""

    SECTION: ClassVar[str] = "History"

    location: str | None = option(
        "--history",
        metavar="URI",
        help="The runs that `dashboard` keeps: a folder, or a URL, for example s3://bucket/history.",
    )
    data_branch: str = option(
        "--data-branch",
        metavar="BRANCH",
        default="",
        show_default=False,
        help="The branch of --repo with them.",
    )

    @property
    def is_on_branch(self) -> bool:
        return bool(self.data_branch) and not self.location

    def branch(self, github: GitHubOptions) -> Branch:
        """Return the data branch. Raises `UsageProblem` when the repository is not known."""
        from torchperf_ci.github.branch import Branch

        return Branch(repository=repository_of(github), name=self.data_branch)

    def parquet(self, github: GitHubOptions, client: Client | None, *, message: str = "Add a run") -> ParquetHistory:
        """Return the history of Parquet files. `client` is needed when they are on the data branch.

        message: of commits there.
        """
        from torchperf_ci.history.parquet import ParquetHistory
        from torchperf_ci.history.storage import cache_folder, open_files

        cache = cache_folder(os.environ)
        if not self.is_on_branch:
            return ParquetHistory(files=open_files(self.location or DEFAULT_HISTORY, cache=cache))
        from torchperf_ci.history.data_branch import BranchFiles

        assert client is not None
        branch = self.branch(github)
        own = cache / branch.repository / branch.name
        return ParquetHistory(files=BranchFiles(client=client, branch=branch, cache=own, message=message))

    @contextmanager
    def open(self, github: GitHubOptions, *, message: str = "Add a run") -> Iterator[ParquetHistory]:
        """Open the history while the block runs, with a client where it is on the data branch."""
        if not self.is_on_branch:
            yield self.parquet(github, None)
            return
        self.branch(github)  # an unknown repository is said before a token is asked for
        with github.client(os.environ) as client:
            yield self.parquet(github, client, message=message)


@command_options
class HistoryOptions(PastOptions):
    """Say where the history is, and which of its series."""

    location: str | None = option(
        "--history",
        metavar="URI",
        help="Where runs are kept: a folder, or a URL, for example s3://bucket/history.  "
        f"[default: {DEFAULT_HISTORY}, or the data branch if one is given]",
    )
    data_branch: str = option(
        "--data-branch",
        metavar="BRANCH",
        default="",
        show_default=False,
        help="A branch of --repo for the history, and for pictures in comments; made when it is not there.",
    )
    name: str = option(
        "--name",
        default="results",
        help="The series of runs, where a history holds several: only runs of one series are compared.",
    )


@command_options
class JudgingOptions:
    """Say which runs of a history are judged: by the same ones, everybody who asks is told the same."""

    SECTION: ClassVar[str] = "History"

    compare_branch: str = option(
        "--compare-branch",
        default="",
        show_default=False,
        help="Judge by runs of this branch of the repository only.  [default: all]",
    )
    look_back: int = option(
        "--look-back",
        type=click.IntRange(min=1),
        default=1000,
        help="How many of the newest runs to judge by. What became open before them is forgotten.",
    )


def find_acceptance_source(github: GitHubOptions, client: Client | None, label: str) -> AcceptanceSource | None:
    """Find the pull requests on which changes may have been accepted: those of --repo, for whoever has a token."""
    if client is None or not client.access.token or not github.repository:
        return None
    from functools import partial

    import click

    from torchperf_ci.dashboard.accepted import AcceptanceSource
    from torchperf_ci.post.merged import MergedPulls

    pulls = MergedPulls(client=client, repository=github.repository, label=label, say=partial(click.echo, err=True))
    return AcceptanceSource(repository=github.repository, ask=pulls.list_acceptances)


def make_run_of_folder(directory: Path, results: Results, *, name: str) -> HistoryRun:
    """Make the run that a results folder holds. In a GitHub job, results without a source are of this job."""
    from torchperf_ci.core.records import Source
    from torchperf_ci.github.job import read_source
    from torchperf_ci.history.runs import make_folder_run

    in_actions = os.environ.get("GITHUB_ACTIONS") == "true"
    source = read_source(os.environ, shard="1-1", folder=directory) if in_actions else Source()
    return make_folder_run(directory, results, name=name, source=source)


def repository_of(github: GitHubOptions) -> str:
    """Return the repository of --repo. Raises `UsageProblem` when it is not given, or cannot be one."""
    from torchperf_ci.github.runs import require_repository

    return require_repository(github.repository)
