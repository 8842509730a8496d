"""`torchperf-ci accept`: let an intended slowdown land, by a comment of somebody who may write to the repository."""

from __future__ import annotations

import os
from functools import partial

import click

from torchperf_ci.cli.finish import tell_step
from torchperf_ci.cli.options import ACCEPT_LABEL, GITHUB_FILES, GitHubOptions, command, command_options, option, takes
from torchperf_ci.core.errors import ExitCode, UsageProblem
from torchperf_ci.github.job import read_event, read_server


@command_options
class AcceptOptions:
    pull_request: int | None = option(type=click.IntRange(min=1), help="Its number.  [default: that of the event]")
    comment: int | None = option(
        type=click.IntRange(min=1), help="The number of the comment.  [default: that of the event]"
    )
    artifact: str = option(default="torchperf-report", help="The name under which runs store their comparison.")
    name: str = option(default="torchperf", help="The name of the check that is judged anew.")
    dry_run: bool = option(help="Say what would be accepted, and write nothing.")
    accept_label: str = ACCEPT_LABEL
    github_files: bool = GITHUB_FILES
    github: GitHubOptions


@command(short_help="Let an intended slowdown land, by a comment on the pull request.")
@takes(AcceptOptions)
def accept(options: AcceptOptions) -> int:
    """Judge a comment that accepts changes of a pull request, answer it, and renew the check without measuring.

    A line of the comment is `/torchperf accept CASE|all [METRIC] [+N%] because REASON`. Its author must have write
    access, by GitHub's word, and it must not have been edited. It holds for the case, the metric and the size, also for
    later commits of the pull request, and ends with it; without +N%, for the size that was measured at that moment. A
    workflow that `issue_comment` starts calls this (examples/accept.yml). The label --accept-label does the same for a
    line `torchperf: accept CASE|all [METRIC] [+N%] because REASON` of the description, as it is at that moment.

    \b
    Examples, as comments:
      /torchperf accept tiny/mlp +12% because the result is now exact
      /torchperf accept all because the new kernel comes next week

    Exit code 0 also for a comment that is no command, or that nobody with write access wrote.
    """
    from torchperf_ci.github.issues import post_comment
    from torchperf_ci.post.acceptances import judge_comment, make_marker
    from torchperf_ci.post.desk import PostingDesk
    from torchperf_ci.post.origin import read_comment, read_label
    from torchperf_ci.post.stored import review_comparison

    repository = options.github.require_repository()
    happened = read_event(os.environ)
    of_event = read_comment(happened)
    labelled = read_label(happened, options.accept_label)
    number, comment = options.pull_request or of_event[0] or labelled, options.comment or of_event[1]
    if not number or not (comment or labelled):
        raise UsageProblem(
            f"the event is neither a comment on a pull request nor its label {options.accept_label!r}; `accept` "
            "belongs in a workflow that these start (examples/accept.yml), elsewhere give --pull-request and --comment"
        )
    server = read_server(os.environ)
    with options.github.client(os.environ) as client:
        answer = judge_comment(
            client,
            repository,
            number,
            comment,
            label=options.accept_label,
            artifact=options.artifact,
            server=server,
        )
        click.echo(answer.why)
        outputs = {"accepted": str(answer.findings is not None).lower(), "conclusion": ""}
        code = ExitCode.OK
        if options.dry_run:
            click.echo(f"Would answer:\n{answer.text}" if answer.text else "Would not answer", err=True)
        elif answer.text:
            post_comment(client, repository, number, answer.text, make_marker(answer.remark, answer.time), sticky=True)
        if answer.findings is not None and answer.origin is not None:
            posting = review_comparison(answer.findings)
            outputs["conclusion"] = posting.conclusion.value
            click.echo(posting.title)
            if not options.dry_run:
                desk = PostingDesk(
                    client=client,
                    origin=answer.origin,
                    name=options.name,
                    server=server,
                    say=partial(click.echo, err=True),
                    replaces_failure=True,
                )
                if desk.post(posting).is_refused:
                    code = ExitCode.REFUSED
    tell_step(outputs, answer.text or f"{answer.why}\n", github_files=options.github_files)
    return int(code)
