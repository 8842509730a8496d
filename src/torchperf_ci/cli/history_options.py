"""The options that say where the history of runs and its pages are, and the run that a results folder holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.config import owner_rules, tolerance_rules
from torchperf_ci.cli.files import tell_problems
from torchperf_ci.cli.options import GitHubOptions, command_options, option
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Source
from torchperf_ci.core.results import Results
from torchperf_ci.core.text import count
from torchperf_ci.github.job import read_source

if TYPE_CHECKING:
    from torchperf_ci.dashboard.commits import AcceptanceSource
    from torchperf_ci.github.branch import Branch
    from torchperf_ci.github.client import Client
    from torchperf_ci.history.parquet import ParquetHistory
    from torchperf_ci.history.runs import HistoryRun
    from torchperf_ci.site.build import SiteOptions, SiteSources, SiteUpdate


DEFAULT_HISTORY = "./torchperf-history"


@command_options("History")
class PastOptions:
    """Say where a history is that may be looked at. Without them there is none."""

    location: str | None = option(
        "--history",
        metavar="URI",
        help="The runs that `dashboard` keeps: a folder, or a URL, for example s3://bucket/history.",
    )
    data_branch: str = option(metavar="BRANCH", help="The branch of --repo with them.")

    @property
    def is_on_branch(self) -> bool:
        return bool(self.data_branch) and not self.location

    def branch(self, github: GitHubOptions) -> Branch:
        """Return the data branch. Raises `UsageProblem` when the repository is not known."""
        from torchperf_ci.github.branch import Branch

        return Branch(repository=github.require_repository(), name=self.data_branch)

    def parquet(self, github: GitHubOptions, client: Client | None, *, message: str = "Add a run") -> ParquetHistory:
        """Return the history of Parquet files. `client` is needed when they are on the data branch.

        message: of commits there.
        """
        from torchperf_ci.history.parquet import ParquetHistory
        from torchperf_ci.history.storage import cache_folder, open_files

        cache = cache_folder(os.environ)
        if not self.is_on_branch:
            return ParquetHistory(files=open_files(self.location or DEFAULT_HISTORY, cache=cache))
        from torchperf_ci.history.storage import BranchFiles

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
    location: str | None = option(
        "--history",
        metavar="URI",
        help="Where runs are kept: a folder, or a URL, for example s3://bucket/history.  "
        f"[default: {DEFAULT_HISTORY}, or the data branch if one is given]",
    )
    data_branch: str = option(
        metavar="BRANCH",
        help="A branch of --repo for the history, and for pictures in comments; made when it is not there.",
    )
    name: str = option(
        default="results",
        help="The series of runs, where a history holds several: only runs of one series are compared.",
    )


@command_options("History")
class JudgingOptions:
    """Say which runs of a history are judged: by the same ones, everybody who asks is told the same."""

    compare_branch: str = option(help="Judge by runs of this branch of the repository only.  [default: all]")
    look_back: int = option(
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

    from torchperf_ci.dashboard.commits import AcceptanceSource
    from torchperf_ci.post.acceptances import MergedPulls

    pulls = MergedPulls(client=client, repository=github.repository, label=label, say=partial(click.echo, err=True))
    return AcceptanceSource(repository=github.repository, ask=pulls.list_acceptances)


def make_run_of_folder(directory: Path, results: Results, *, name: str) -> HistoryRun:
    """Make the run that a results folder holds. In a GitHub job, results without a source are of this job."""
    from torchperf_ci.history.runs import make_folder_run

    in_actions = os.environ.get("GITHUB_ACTIONS") == "true"
    source = read_source(os.environ, shard="1-1", folder=directory) if in_actions else Source()
    return make_folder_run(directory, results, name=name, source=source)


@command_options("Pages")
class PagesOptions:
    pages_branch: str = option(
        metavar="BRANCH",
        help="Commit the pages of the history to this branch of --repo, e.g. gh-pages; made when it is not there.",
    )
    pages_dir: str = option(metavar="DIR", help="The folder for them there.  [default: the root]")
    pages_last: int = option(
        type=click.IntRange(min=1),
        default=1000,
        help="How many of the newest runs they show one by one; of older ones, one a week.",
    )

    def check(self, github: GitHubOptions) -> None:
        """Raise `UsageProblem` for what cannot be done, before anything is."""
        if self.pages_branch:
            github.require_repository()
        if self.pages_dir and not self.pages_branch:
            raise UsageProblem("--pages-dir is a folder of --pages-branch; give that as well")
        if any(part in {"..", "."} or part.lower() == ".git" for part in self.pages_dir.split("/")):
            raise UsageProblem(f"--pages-dir {self.pages_dir!r} is no folder of a branch")

    def target(self, github: GitHubOptions) -> Branch:
        """Return the branch for the pages."""
        from torchperf_ci.github.branch import Branch

        return Branch(repository=github.require_repository(), name=self.pages_branch)

    def site_options(self, github: GitHubOptions, *, name: str, url: str) -> SiteOptions:
        """Return what the pages of the series `name` show; `url` is where they are going to be, if that is known."""
        from torchperf_ci.history.storage import server_of
        from torchperf_ci.site.build import SiteOptions

        server = server_of(github.api_url)
        return SiteOptions(name=name, last=self.pages_last, url=url, server=server, owners=owner_rules())


def read_site(
    history: ParquetHistory,
    asked: HistoryOptions,
    judging: JudgingOptions,
    client: Client | None,
    source: AcceptanceSource | None,
) -> SiteSources:
    """Read what the pages of a history show."""
    from torchperf_ci.history.runs import RunFilter
    from torchperf_ci.site.build import read_sources

    judged = RunFilter(name=asked.name, branch=judging.compare_branch)
    rules, here = tolerance_rules(), Path.cwd()
    return read_sources(history, judging.look_back, judged, rules=rules, checkout=here, client=client, source=source)


def publish_pages(
    sources: SiteSources, shown: SiteOptions, target: Branch, folder: str, client: Client, *, dry_run: bool
) -> None:
    """Bring the pages in a folder of a branch up to date with what is in a history now."""
    from torchperf_ci.site.build import commit_site, make_site, read_branch_site

    update = make_site(sources, shown, read_branch_site(client, target, folder))
    if not dry_run:
        newest = sources.newest
        message = f"Show the run of {newest.time:%Y-%m-%d %H:%M} UTC" if newest else "Show the history"
        commit_site(client, target, folder, update, message=message)
    tell_update(update, f"the branch {target.name} of {target.repository}", dry_run=dry_run)


def tell_update(update: SiteUpdate, where: str, *, dry_run: bool) -> None:
    """Say what was written of a site, or would be."""
    tell_problems(update.problems)
    written = [content for content in update.files.values() if content is not None]
    deleted = len(update.files) - len(written)
    if not update.files:
        click.echo(f"The pages in {where} are up to date", err=True)
        return
    size = sum(map(len, written))
    also = f" and {'would delete' if dry_run else 'deleted'} {deleted:,}" if deleted else ""
    click.echo(
        f"{'Would write' if dry_run else 'Wrote'} {count(len(written), 'file')} ({size:,} bytes){also} in {where}: "
        f"{count(update.runs, 'run')} of {count(update.cases, 'case')}, {count(update.months_read, 'month')} made anew",
        err=True,
    )
