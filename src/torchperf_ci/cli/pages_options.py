"""The options that say where the pages of a history go to, and how commands publish them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import click

from torchperf_ci.cli.config import owner_rules
from torchperf_ci.cli.history_options import repository_of
from torchperf_ci.cli.options import GitHubOptions, command_options, option
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import count, one_line

if TYPE_CHECKING:
    from torchperf_ci.github.branch import Branch
    from torchperf_ci.github.client import Client
    from torchperf_ci.site.build import SiteOptions, SiteUpdate
    from torchperf_ci.site.sources import SiteSources


@command_options
class PagesOptions:
    """Say where the pages of the history go to, and what they show."""

    SECTION: ClassVar[str] = "Pages"

    pages_branch: str = option(
        "--pages-branch",
        metavar="BRANCH",
        default="",
        show_default=False,
        help="Commit the pages of the history to this branch of --repo, e.g. gh-pages; made when it is not there.",
    )
    pages_dir: str = option(
        "--pages-dir",
        metavar="DIR",
        default="",
        show_default=False,
        help="The folder for them there.  [default: the root]",
    )
    pages_last: int = option(
        "--pages-last",
        type=click.IntRange(min=1),
        default=1000,
        help="How many of the newest runs they show one by one; of older ones, one a week.",
    )

    def check(self, github: GitHubOptions) -> None:
        """Raise `UsageProblem` for what cannot be done, before anything is."""
        if self.pages_branch:
            repository_of(github)
        if self.pages_dir and not self.pages_branch:
            raise UsageProblem("--pages-dir is a folder of --pages-branch; give that as well")
        if any(part in {"..", "."} or part.lower() == ".git" for part in self.pages_dir.split("/")):
            raise UsageProblem(f"--pages-dir {self.pages_dir!r} is no folder of a branch")

    def target(self, github: GitHubOptions) -> Branch:
        """Return the branch for the pages."""
        from torchperf_ci.github.branch import Branch

        return Branch(repository=repository_of(github), name=self.pages_branch)

    def site_options(self, github: GitHubOptions, *, name: str, url: str) -> SiteOptions:
        """Return what the pages of the series `name` show; `url` is where they are going to be, if that is known."""
        from torchperf_ci.history.data_branch import server_of
        from torchperf_ci.site.build import SiteOptions

        server = server_of(github.api_url)
        return SiteOptions(name=name, last=self.pages_last, url=url, server=server, owners=owner_rules())


def publish_pages(
    sources: SiteSources, shown: SiteOptions, target: Branch, folder: str, client: Client, *, dry_run: bool
) -> None:
    """Bring the pages in a folder of a branch up to date with what is in a history now."""
    from torchperf_ci.site.branch import commit_site, read_branch_site
    from torchperf_ci.site.build import make_site

    update = make_site(sources, shown, read_branch_site(client, target, folder))
    if not dry_run:
        newest = sources.newest
        message = f"Show the run of {newest.time:%Y-%m-%d %H:%M} UTC" if newest else "Show the history"
        commit_site(client, target, folder, update, message=message)
    tell_update(update, f"the branch {target.name} of {target.repository}", dry_run=dry_run)


def tell_update(update: SiteUpdate, where: str, *, dry_run: bool) -> None:
    """Say what was written of a site, or would be."""
    for problem in update.problems:
        click.echo(f"Warning: {one_line(str(problem))}", err=True)
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
