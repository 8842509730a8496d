"""Changes that were accepted on pull requests, asked for after the merge: no file keeps them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torchperf_ci.compare.acceptance import ChangeAcceptance
from torchperf_ci.core.text import one_line
from torchperf_ci.github.client import Client, GitHubRefused
from torchperf_ci.github.pulls import list_merged_pulls
from torchperf_ci.post.acceptances import read_acceptances

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
