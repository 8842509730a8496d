"""The desk where a posting goes out: the check and the comment, each on its own, and what GitHub refused of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property

from torchperf_ci.compare.acceptance import ChangeAcceptance
from torchperf_ci.core.errors import NothingToJudge, TorchperfError
from torchperf_ci.core.text import code
from torchperf_ci.github.artifacts import ArtifactProblem
from torchperf_ci.github.checks import Check, Posting, complete_check, start_check
from torchperf_ci.github.client import Client, GitHubRefused
from torchperf_ci.github.issues import Marker, post_comment
from torchperf_ci.github.pulls import find_pull_request
from torchperf_ci.post.acceptances import read_acceptances
from torchperf_ci.post.origin import Origin
from torchperf_ci.post.stored import Expected, add_origin, download_files, explain_refusal, read_posting, review_problem


@dataclass(frozen=True, slots=True, kw_only=True)
class PostingOutcome:
    """A posting after it went out. shown: as the step summary shows it. outputs: those of the step.

    is_refused: nothing could be posted. is_left_to_another_workflow: nothing could be, and this job is not to.
    """

    shown: Posting
    outputs: Mapping[str, str]
    is_refused: bool
    is_left_to_another_workflow: bool


@dataclass(kw_only=True)
class PostingDesk:
    """Where a posting goes out. What GitHub refuses is told by `say` and remembered; the rest goes on.

    name: of the check; comments of different names are kept apart. server: where GitHub's pages are. is_local: it goes
    out from the job that measured. replaces_failure: whether a failure that this run posted may give way. accept_label:
    the label that accepts changes.
    """

    client: Client
    origin: Origin
    name: str
    server: str
    say: Callable[[str], object]
    has_check: bool = True
    has_comment: bool = True
    is_local: bool = False
    is_of_dependabot: bool = False
    replaces_failure: bool = False
    accept_label: str = ""
    done: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def run_url(self) -> str:
        return self.origin.url(self.server)

    @property
    def check(self) -> Check:
        return Check(
            repository=self.origin.repository,
            sha=self.origin.sha,
            name=self.name,
            run=self.origin.run,
            attempt=self.origin.attempt,
            details_url=self.run_url,
        )

    @cached_property
    def pull_request(self) -> tuple[int, str]:
        """The number of the pull request of this commit, or 0 and why there is none. Raises `GitHubRefused`."""
        origin = self.origin
        return find_pull_request(
            self.client,
            origin.repository,
            head_repository=origin.head_repository,
            branch=origin.head_branch,
            sha=origin.sha,
        )

    def expect(self) -> Expected:
        """Say what stored results have to be of."""
        origin = self.origin
        return Expected(
            repository=origin.repository,
            commit=origin.sha,
            run=str(origin.run or ""),
            server=self.server,
            list_acceptances=self._list_acceptances,
        )

    def _list_acceptances(self) -> tuple[ChangeAcceptance, ...]:
        """List the changes that were accepted. Where comments cannot be read it is none, and `say` hears why."""
        try:
            number, _ = self.pull_request
            if not number:
                return ()
            acceptances, refusals = read_acceptances(
                self.client, self.origin.repository, number, label=self.accept_label
            )
        except GitHubRefused as error:
            self.say(f"Warning: whether changes were accepted is not known: {error}")
            return ()
        for refusal in refusals:
            self.say(f"Not accepted: {refusal}")
        return acceptances

    def start(self) -> None:
        """Show the check as in progress; a missing permission shows again, and counts, when it is completed."""
        if self.has_check:
            self._try("the check", lambda: start_check(self.client, self.check))

    def post(self, posting: Posting) -> PostingOutcome:
        """Post everything that is asked for, each on its own."""
        is_own = self.origin.head_repository == self.origin.repository
        fork = code(self.origin.head_repository)
        whose = "" if is_own else f" These results come from code of {fork}, not of this repository."
        run = f"[run {self.origin.run}, attempt {self.origin.attempt}]({self.run_url})"
        posting = add_origin(posting, f"Commit {self.origin.sha[:12]}, {run}.{whose}")
        outputs = {"conclusion": posting.conclusion.value, "check-url": "", "comment-url": ""}
        if self.has_check:
            outputs["check-url"] = self._try(
                "the check",
                lambda: complete_check(self.client, self.check, posting, replaces_failure=self.replaces_failure),
            )
        if self.has_comment:
            outputs["comment-url"] = self._try("the comment", lambda: self._comment(posting.text))
        is_nothing_posted = bool(self.refused) and not self.done
        # GitHub gives these jobs no right to write: they must not fail for that.
        is_without_rights = self.is_local and (not is_own or self.is_of_dependabot)
        is_refused = is_nothing_posted and not is_without_rights
        return PostingOutcome(
            shown=explain_refusal(posting, self.refused) if is_refused else posting,
            outputs=outputs,
            is_refused=is_refused,
            is_left_to_another_workflow=is_nothing_posted and is_without_rights,
        )

    def _comment(self, text: str) -> str:
        number, reason = self.pull_request
        if not number:
            self.say(f"No comment was posted: {reason}")
            return ""
        marker = Marker(subject=f"post {self.name}", run=str(self.origin.run), time=datetime.now(timezone.utc))
        return post_comment(self.client, self.origin.repository, number, text, marker, sticky=True)[0]

    def _try(self, what: str, write: Callable[[], str | None]) -> str:
        """Write; return where it can be seen, or nothing when GitHub refuses."""
        try:
            url = write()
        except GitHubRefused as error:
            self.refused[what] = str(error)
            self.say(f"Warning: {what} was not posted: {error}")
            return ""
        self.done.append(what)
        return url or ""


def download_posting(
    client: Client, origin: Origin, artifact: str, expected: Expected, say: Callable[[str], object]
) -> Posting:
    """Read what the artifact of the run says, or why there is nothing; whatever is wrong with it, the check is to be
    completed."""
    try:
        files = download_files(client, origin, artifact)
    except ArtifactProblem as error:
        return review_problem(f"the artifact {artifact} {error}")
    except TorchperfError as error:
        say(f"Warning: {error}")
        return review_problem(str(error))
    return read_files(files, expected)


def read_files(files: Mapping[str, bytes], expected: Expected) -> Posting:
    """Read what stored files say, or why they say nothing."""
    try:
        return read_posting(files, expected)
    except NothingToJudge as error:
        return review_problem(str(error))
