"""The options of `dashboard` that follow up what became worse, and how that is done: issues and a webhook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from torchperf_ci.cli.config import owner_rules
from torchperf_ci.cli.options import GitHubOptions, command_options, option
from torchperf_ci.core.errors import Refused, UsageProblem
from torchperf_ci.core.records import Environment
from torchperf_ci.core.text import count, one_line

if TYPE_CHECKING:
    from torchperf_ci.dashboard.incidents import Incident
    from torchperf_ci.dashboard.issues import FollowUpOptions, IssueDesk
    from torchperf_ci.dashboard.states import SeriesState
    from torchperf_ci.github.client import Client
    from torchperf_ci.history.runs import HistoryRun


@command_options("Follow-up")
class FollowOptions:
    opens_issues: bool = option(
        "--issues",
        help="Open an issue in --repo for every confirmed change for the worse, keep it up to date, and close it with "
        "what cured it. [[owner]] rules in torchperf.toml name owners and labels.",
    )
    most_issues: int = option(
        type=click.IntRange(min=0), default=5, help="How many issues a run may open; others wait."
    )
    issue_label: str = option(default="torchperf", help="The label by which they are found again.")
    webhook: str = option(
        metavar="URL",
        help="Send a message about what is new and what is over to this address, as JSON that receivers for Slack "
        "take. It is never printed.",
    )

    def check(self, github: GitHubOptions) -> None:
        """Raise `UsageProblem` for what cannot be done, before anything is."""
        if self.opens_issues:
            github.require_repository()
        if not self.issue_label.strip() or "," in self.issue_label or one_line(self.issue_label) != self.issue_label:
            raise UsageProblem(f"--issue-label {self.issue_label!r} cannot be a label: a name without commas")
        if self.webhook:
            from torchperf_ci.github.webhooks import check_webhook

            check_webhook(self.webhook)


def follow_up(
    options: FollowOptions,
    github: GitHubOptions,
    client: Client | None,
    *,
    run: HistoryRun,
    states: Sequence[SeriesState],
    branch: str,
    site: str,
    suites: Mapping[str, str],
    dry_run: bool,
) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """Bring issues up to date with what the history shows after a run, and tell the webhook.

    Return the addresses of issues that were opened and closed, and refusals: one keeps nothing else from being done.

    states: of all cases. branch: the only one whose runs were judged, or blank. suites: as `list_suites` has them.
    """
    from torchperf_ci.dashboard.incidents import list_incidents
    from torchperf_ci.dashboard.issues import FollowUpOptions, IssueDesk
    from torchperf_ci.history.series import make_run_info
    from torchperf_ci.history.storage import server_of

    incidents = list_incidents(states, series=run.name, branch=branch)
    asked = FollowUpOptions(
        now=make_run_info(run.key, run.time, run.source, Environment()),
        server=server_of(github.api_url),
        site=site,
        label=options.issue_label,
        most_new=options.most_issues,
        rules=owner_rules(),
        suites=suites,
    )
    opened, closed = _list_news(incidents, run.key)
    refusals: list[str] = []
    urls: tuple[Sequence[str], Sequence[str]] = ((), ())
    if options.opens_issues:
        assert client is not None
        desk = IssueDesk(
            client=client,
            repository=github.require_repository(),
            options=asked,
            say=lambda text: click.echo(text, err=True),
        )
        opened, closed = [], []
        try:
            opened, closed = _update_issues(desk, asked, incidents, states, run.name, branch, dry_run=dry_run)
        except Refused as error:
            refusals.append(f"{error}; repeat the command to bring the issues up to date")
        refusals += [f"{refusal}; repeat the command to bring the issues up to date" for refusal in desk.refusals]
        urls = [url for _, url in desk.opened], [url for _, url in desk.closed]
    if options.webhook and (opened or closed):
        try:
            _tell_webhook(options.webhook, asked, opened, closed, dry_run=dry_run)
        except Refused as error:
            refusals.append(str(error))
    return *urls, tuple(dict.fromkeys(refusals))


Told = list[tuple["Incident", str]]
Ended = list[tuple["Incident | None", str]]


def _list_news(incidents: Sequence[Incident], key: str) -> tuple[Told, Ended]:
    """List the incidents that a run confirmed, and those whose last part it showed to be over, without issues."""
    opened: Told = [(each, "") for each in incidents if each.is_confirmed and each.shown and each.shown.key == key]
    closed: Ended = [
        (each, "")
        for each in incidents
        if not each.is_open and any(part.closed and part.closed.key == key for part in each.episodes)
    ]
    return opened, closed


def _update_issues(
    desk: IssueDesk,
    asked: FollowUpOptions,
    incidents: Sequence[Incident],
    states: Sequence[SeriesState],
    series: str,
    branch: str,
    *,
    dry_run: bool,
) -> tuple[Told, Ended]:
    """Carry out what there is to do, or say it; return what is new and what is over."""
    from torchperf_ci.dashboard.incidents import list_scopes
    from torchperf_ci.dashboard.issues import StepKind, plan_steps, write_step

    scopes = list_scopes(states, series=series, branch=branch)
    steps, waiting = plan_steps(incidents, scopes, desk.list_issues(), asked)
    if waiting:
        click.echo(
            f"{count(waiting, 'change')} for the worse have no issue yet: a run opens at most {asked.most_new} "
            "(--most-issues)",
            err=True,
        )
    if not dry_run:
        desk.carry_out(steps)
        return desk.opened, desk.closed
    for step in steps:
        click.echo(one_line(write_step(step)), err=True)
    new = (StepKind.OPEN, StepKind.REOPEN)
    opened: Told = [
        (step.incident, step.issue.url if step.issue else "") for step in steps if step.kind in new and step.incident
    ]
    closed: Ended = [(step.incident, step.issue.url) for step in steps if step.kind is StepKind.CLOSE and step.issue]
    return opened, closed


def _tell_webhook(url: str, asked: FollowUpOptions, opened: Told, closed: Ended, *, dry_run: bool) -> None:
    from torchperf_ci.dashboard.incidents import make_message
    from torchperf_ci.github.webhooks import hide_webhook, send_webhook

    message = make_message(opened, closed, asked.now, asked.server)
    if dry_run:
        click.echo(f"Would send to the webhook at {hide_webhook(url)}:\n{message['text']}", err=True)
        return
    send_webhook(url, message)
    click.echo(f"Told the webhook at {hide_webhook(url)}", err=True)
