"""`torchperf-ci site`: make the pages of a history, in a folder or on a branch."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import click

from torchperf_ci.cli.files import tell_problems
from torchperf_ci.cli.history_options import (
    HistoryOptions,
    JudgingOptions,
    PagesOptions,
    find_acceptance_source,
    publish_pages,
    read_site,
    tell_update,
)
from torchperf_ci.cli.options import ACCEPT_LABEL, GitHubOptions, argument, command, command_options, option, takes
from torchperf_ci.core.errors import NothingToJudge, UsageProblem

DEFAULT_OUTPUT = "./torchperf-site"


@command_options
class SiteHistoryOptions(HistoryOptions):
    location: str | None = argument(metavar="[HISTORY]", required=False, envvar="TORCHPERF_HISTORY")
    data_branch: str = option(metavar="BRANCH", help="The branch of --repo with the runs, in place of HISTORY.")


@command_options
class SiteCommandOptions:
    output: Path | None = option(
        type=click.Path(file_okay=False, path_type=Path),
        help=f"The folder for the pages.  [default: {DEFAULT_OUTPUT}, or --pages-branch if one is given]",
    )
    url: str = option(
        "--site-url",
        metavar="URL",
        help="Where the pages are going to be, for the links of their feed, for example https://org.github.io/project/.",
    )
    dry_run: bool = option(help="Write nothing; say what would be written, with sizes.")
    history: SiteHistoryOptions
    accept_label: str = ACCEPT_LABEL
    judging: JudgingOptions
    pages: PagesOptions
    github: GitHubOptions


@command(short_help="Make pages of a history of runs, to be browsed without a server.")
@takes(SiteCommandOptions)
def site(options: SiteCommandOptions) -> None:
    """Make pages of the runs in HISTORY: what is open, every metric of every case over time, any two runs side by side.

    HISTORY is where `dashboard` keeps runs, a folder or a URL [default: ./torchperf-history, or --data-branch]. Open
    index.html from the disk, or put the folder behind any web server: nothing is loaded from elsewhere. A folder with
    pages from before is brought up to date: only what changed is written.

    \b
    Examples:
      torchperf-ci site torchperf-history --output site
      torchperf-ci site s3://bucket/history --output site
      torchperf-ci site --data-branch torchperf-data --repo org/project --pages-branch gh-pages
    """
    from torchperf_ci.history.parquet import describe_empty
    from torchperf_ci.site.build import make_site, open_folder_site, write_site

    pages, asked = options.pages, options.history
    pages.check(options.github)
    if options.url and not options.url.startswith(("https://", "http://")):
        raise UsageProblem(f"--site-url {options.url!r} is no address: it begins with https:// or http://")
    shown = pages.site_options(options.github, name=asked.name, url=options.url)
    folder = options.output or (None if pages.pages_branch else Path(DEFAULT_OUTPUT))
    with ExitStack() as opened:
        needs_client = asked.is_on_branch or bool(pages.pages_branch) or options.github.can_ask(os.environ)
        client = opened.enter_context(options.github.client(os.environ)) if needs_client else None
        history = asked.parquet(options.github, client)
        source = find_acceptance_source(options.github, client, options.accept_label)
        sources = read_site(history, asked, options.judging, client, source)
        tell_problems(sources.problems)
        if not sources.states:
            raise NothingToJudge(describe_empty(history.files.where, asked.name))
        if folder:
            update = make_site(sources, shown, open_folder_site(folder))
            if not options.dry_run:
                write_site(folder, update)
            tell_update(update, str(folder), dry_run=options.dry_run)
            click.echo(str(folder / "index.html"))
        if client is not None and pages.pages_branch:
            target = pages.target(options.github)
            publish_pages(sources, shown, target, pages.pages_dir, client, dry_run=options.dry_run)
