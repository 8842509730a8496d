"""Comments and labels that accept changes of a pull request: whether they count, and the sizes that they were written
for.

A comment counts while its author may write to the repository, by GitHub's word, and while it stands as it was written.
A label counts as if who put it there had written what the description said at that moment. To what names no size
belongs our answer, which holds the sizes of that moment.

Asked for after the merge, what was accepted comes from the pull requests; no file keeps it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from torchperf_ci.compare.acceptance import (
    COMMAND,
    IN_DESCRIPTION,
    AcceptCommand,
    ChangeAcceptance,
    accept_changes,
    identify,
    list_accepted,
    measure_sizes,
    parse_command,
)
from torchperf_ci.compare.model import ComparisonFindings
from torchperf_ci.compare.words import change_with_interval, metric_name, name
from torchperf_ci.core.errors import NothingToJudge, TorchperfError, UsageProblem
from torchperf_ci.core.text import code, count, html, one_line
from torchperf_ci.github.client import Client, GitHubRefused
from torchperf_ci.github.issues import IssueRemark, Marker, list_comments, read_login
from torchperf_ci.github.pulls import PullHead, find_label, list_merged_pulls, may_write, read_head
from torchperf_ci.github.runs import list_artifacts, list_runs
from torchperf_ci.post.origin import Origin
from torchperf_ci.post.stored import COMPARISON, Expected, download_files, read_stored_comparison

_SIZES = "<!-- sizes "


def read_acceptances(
    client: Client, repository: str, number: int, *, label: str
) -> tuple[tuple[ChangeAcceptance, ...], tuple[str, ...]]:
    """Read the comments on a pull request, and its label, that accept changes; say of others why they do not count.

    Raises `GitHubRefused`.
    """
    comments = list_comments(client, repository, number)
    permissions: dict[str, bool] = {}
    acceptances, refusals = [], []
    for comment in [*comments, *_read_label(client, repository, number, label)]:
        try:
            command = _parse(comment)
        except UsageProblem as error:
            refusals.append(f"{comment.url}: {error}")
            continue
        if command is None:
            continue
        if comment.author not in permissions:
            permissions[comment.author] = _may_accept(client, repository, comment.author)
        acceptance = ChangeAcceptance(command=command, by=comment.author, url=comment.url, time=comment.created)
        problem = find_problem(comment, is_writer=permissions[comment.author])
        if not problem and command.limit is None:
            sizes = _find_sizes(client, comment, comments)
            problem = "" if sizes else f"{comment.url}: it names no size, and no answer to it holds one; write +N%"
            acceptance = replace(acceptance, sizes=sizes)
        if problem:
            refusals.append(problem)
        else:
            acceptances.append(acceptance)
    return tuple(acceptances), tuple(refusals)


def find_problem(comment: IssueRemark, *, is_writer: bool) -> str:
    """Say why a comment accepts nothing; blank when it may."""
    author = one_line(comment.author, limit=100) or "somebody whose account is gone"
    if _is_program(comment.author):
        return f"{comment.url}: {author} is a program; a person has to accept"
    if not is_writer:
        return f"{comment.url}: {author} may not write to this repository"
    if comment.updated != comment.created:
        return f"{comment.url}: it was edited after it was written; write a new comment, or put the label on again"
    return ""


def _may_accept(client: Client, repository: str, author: str) -> bool:
    return bool(author) and not _is_program(author) and may_write(client, repository, author)


def _is_program(author: str) -> bool:
    """Say whether an account is a program's: it may repeat what others wrote, and labels what others chose."""
    return author.endswith("[bot]")


def _parse(remark: IssueRemark) -> AcceptCommand | None:
    """Read the command of a comment, or of a description. Raises `UsageProblem`."""
    is_description = remark.body.startswith(IN_DESCRIPTION)
    return parse_command(remark.body, start=IN_DESCRIPTION if is_description else COMMAND)


def _read_label(client: Client, repository: str, number: int, label: str) -> list[IssueRemark]:
    """Read a label as a comment of who put it there, with the description's command for its text; nothing without it.

    The description is its author's to edit, maybe a stranger's: an edit after the label counts as one of the comment.
    """
    labelled = find_label(client, repository, number, label) if label else None
    if labelled is None:
        return []
    lines = (line.strip() for line in labelled.description.splitlines())
    command = next((line for line in lines if line.startswith(IN_DESCRIPTION)), IN_DESCRIPTION)
    is_edited = labelled.edited is not None and labelled.edited >= labelled.put
    return [
        IssueRemark(
            id=labelled.event,
            author=labelled.by,
            body=command,
            created=labelled.put,
            updated=labelled.edited if is_edited and labelled.edited else labelled.put,
            url=labelled.url,
        )
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a comment. text: Markdown, or blank where none is due. why: the same for the log.

    remark, time: the number of the comment, or of the event that put the label, and when that was. origin, findings:
    the results judged anew, where something was accepted.
    """

    text: str
    why: str
    remark: int
    time: datetime
    origin: Origin | None = None
    findings: ComparisonFindings | None = None


def judge_comment(
    client: Client, repository: str, number: int, comment: int, *, label: str, artifact: str, server: str
) -> Answer:
    """Judge a comment on a pull request by the newest results of its head, which the run stored as `artifact`. 0: judge
    its label in place of a comment.

    Everything but the comment's number comes from GitHub's API. Strangers get no answer: it would be a way to make us
    write. Raises `UsageProblem` for a comment that is not there, and `GitHubRefused`.
    """
    remarks = list_comments(client, repository, number) if comment else _read_label(client, repository, number, label)
    written = next((each for each in remarks if comment in {0, each.id}), None)
    if written is None:
        lacks = f"comment {comment}" if comment else f"label {label!r}"
        raise UsageProblem(f"pull request {number} has no {lacks}")
    is_writer = _may_accept(client, repository, written.author)
    try:
        command = _parse(written)
        if command is None:
            return Answer(text="", why="the comment is no command", remark=written.id, time=written.created)
        if problem := find_problem(written, is_writer=is_writer):
            raise UsageProblem(problem)
        return _accept(client, repository, number, written, command, label=label, artifact=artifact, server=server)
    except GitHubRefused:
        raise
    except TorchperfError as error:
        text = f"Nothing was accepted: {code(str(error), limit=1_000)}\n"
        return Answer(text=text if is_writer else "", why=str(error), remark=written.id, time=written.created)


def _accept(
    client: Client,
    repository: str,
    number: int,
    written: IssueRemark,
    command: AcceptCommand,
    *,
    label: str,
    artifact: str,
    server: str,
) -> Answer:
    """Accept what a comment asks for. Raises a `TorchperfError` that says why nothing is accepted."""
    head = read_head(client, repository, number)
    origin, finished = _find_results(client, repository, head, artifact)
    files = download_files(client, origin, artifact)
    if COMPARISON not in files:
        raise NothingToJudge(f"the artifact {artifact} of the newest run holds no comparison")
    expected = Expected(repository=repository, commit=head.sha, run=str(origin.run), server=server)
    findings = read_stored_comparison(files[COMPARISON], expected)
    meant = list_accepted(command, findings)
    if command.limit is None and written.created < finished:
        raise UsageProblem(
            "the newest results are newer than the comment, which names no size; look at them, then comment again"
        )
    sizes = measure_sizes(meant)
    acceptance = ChangeAcceptance(
        command=command, by=written.author, url=written.url, sizes=sizes if command.limit is None else None
    )
    known, _ = read_acceptances(client, repository, number, label=label)
    after = accept_changes(findings, [acceptance, *known])
    landed = [each for each in after.comparisons if each.accepted is not None and each.accepted.url == written.url]
    if not landed:
        measured = ", ".join(f"{name(each.case)} {change_with_interval(each)}" for each in meant)
        raise UsageProblem(f"what was measured is more than that: {measured}")
    names = [identify(each.case, each.metric) for each in landed]
    kept = base64.b64encode(json.dumps({each: sizes[each] for each in names}).encode()).decode()
    lines = [
        f"- {code(name(each.case))} {html(metric_name(each.metric))}: {change_with_interval(each)}" for each in landed
    ]
    why = f"accepted {count(len(landed), 'change')}"
    decision = f"{code(written.author)} {why} of {head.sha[:12]}: {code(command.reason)}"
    later = "Later commits of this pull request may be as much slower, and no more."
    text = "\n".join([f"{_SIZES}{kept} -->", decision, "", *lines, "", later])
    return Answer(text=f"{text}\n", why=why, remark=written.id, time=written.created, origin=origin, findings=after)


def make_marker(comment: int, time: datetime) -> Marker:
    """Make the mark of our answer to a comment."""
    return Marker(subject=f"accept {comment}", run=str(comment), time=time)


def _find_results(client: Client, repository: str, head: PullHead, artifact: str) -> tuple[Origin, datetime]:
    """Find the newest finished run of a head that stored the artifact, and when it finished.

    Raises `NothingToJudge` where there is none, and `GitHubRefused`.
    """
    if not head.is_open:
        raise NothingToJudge("the pull request is not open any more")
    runs = [run for run in list_runs(client, repository, head.sha) if run.finished]
    for run in sorted(runs, key=lambda run: run.id, reverse=True):
        if any(each.name == artifact for each in list_artifacts(client, repository, run.id)):
            origin = Origin(
                repository=repository,
                head_repository=head.repository or repository,
                head_branch=head.branch,
                sha=head.sha,
                run=run.id,
                attempt=run.attempt,
            )
            return origin, run.updated
    raise NothingToJudge(f"no finished run of {head.sha[:12]}, the pull request's head, has an artifact {artifact}")


def _find_sizes(client: Client, comment: IssueRemark, comments: Sequence[IssueRemark]) -> dict[str, float] | None:
    """Find the sizes in our own newest answer to a comment."""
    start = make_marker(comment.id, comment.created).start
    answers = [each for each in comments if each.body.startswith(start)]
    if not answers:
        return None
    login = read_login(client)
    own = next((each for each in reversed(answers) if each.author == login), None)
    return None if own is None else _read_sizes(own.body)


def _read_sizes(body: str) -> dict[str, float] | None:
    packed = next((line for line in body.splitlines() if line.startswith(_SIZES)), "")
    try:
        kept = json.loads(base64.b64decode(packed.removeprefix(_SIZES).removesuffix(" -->"), validate=True))
        return {str(name): float(size) for name, size in kept.items()}
    except (binascii.Error, ValueError, TypeError, AttributeError):
        return None


MOST_RANGES = 50
"""So many ranges of commits are asked for at most: each takes several requests, every night."""


@dataclass(kw_only=True)
class MergedPulls:
    """The merged pull requests of a repository, asked for what was accepted on them, each once.

    say: hears why an acceptance does not count, and of a refusal, after which nothing more is asked.
    """

    client: Client
    repository: str
    label: str
    say: Callable[[str], object]
    _of_range: dict[tuple[str, str], tuple[ChangeAcceptance, ...]] = field(default_factory=dict)
    _of_pull: dict[int, tuple[ChangeAcceptance, ...]] = field(default_factory=dict)
    _is_refused: bool = False

    def list_acceptances(self, good: str, bad: str) -> Sequence[ChangeAcceptance]:
        """List what was accepted on the pull requests that brought the commits after `good` up to `bad`; nothing where
        GitHub does not tell."""
        if (good, bad) not in self._of_range:
            if self._is_refused or len(self._of_range) >= MOST_RANGES:
                return ()
            try:
                self._of_range[good, bad] = self._ask(good, bad)
            except GitHubRefused as error:
                self._is_refused = error.status not in {404, 422}  # a commit that GitHub does not know is no refusal
                self._of_range[good, bad] = ()
                self.say(f"Warning: whether changes were accepted on pull requests is not known: {error}")
        return self._of_range[good, bad]

    def _ask(self, good: str, bad: str) -> tuple[ChangeAcceptance, ...]:
        numbers, is_whole = list_merged_pulls(self.client, self.repository, good, bad)
        if not is_whole:
            self.say(f"Warning: from {good[:12]} to {bad[:12]} only the newest commits were asked for acceptances")
        for number in numbers:
            if number not in self._of_pull:
                self._of_pull[number], refusals = read_acceptances(
                    self.client, self.repository, number, label=self.label
                )
                for refusal in refusals:
                    self.say(f"Not accepted: {one_line(refusal, limit=300)}")
        return tuple(acceptance for number in numbers for acceptance in self._of_pull[number])
