"""The commits that may have made a change, oldest first, with what they are made of; or versions of a package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torchperf_ci.bisect.model import Candidate
from torchperf_ci.compare.checkouts import GitFailed, Repository, ask_git
from torchperf_ci.core.errors import NothingToJudge, UsageProblem

_FIELDS = "%H%x00%P%x00%an%x00%aI%x00%s"
_WIDTH = 100
"""Columns of a diffstat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The candidates between a good one and a bad one.

    candidates: oldest first, the bad one last; the good one is not among them. notes: what of the request was meant in
    another way than it was said.
    """

    good: Candidate
    candidates: tuple[Candidate, ...]
    kind: str
    notes: tuple[str, ...] = ()

    @property
    def bad(self) -> Candidate:
        return self.candidates[-1]


def list_commits(
    repository: Repository, good: str, bad: str, *, first_parent: bool = False, paths: Sequence[str] = ()
) -> Stretch:
    """List the commits that `bad` has and `good` has not: with `paths` those that change something below one of them.

    A good commit that is on another branch is replaced by the newest one that both have. Raises `NothingToJudge` when
    there is no commit, `UsageProblem` for refs that name none or have no common history.
    """
    start, end, notes = repository.find_commit(good), repository.find_commit(bad), []
    base = repository.find_merge_base(start, end)
    if base == end:
        reason = "is the same commit as" if start == end else "is older than"
        raise NothingToJudge(f"{bad} {reason} {good}, so no commit came between; give GOOD first, and BAD after it")
    if base != start:
        notes.append(f"{good} is on another branch than {bad}: the commit where they parted takes its place")
    options = ["--topo-order", "--reverse", "--parents", *(["--first-parent"] if first_parent else [])]
    listed = _ask(repository, "rev-list", *options, end, f"^{base}", "--", *paths)
    parents = {key: before for key, *before in (line.split() for line in listed.splitlines())}
    if not parents:
        raise NothingToJudge(f"no commit between {good} and {bad} changes {', '.join(paths)}")
    *_, newest = parents
    if newest != end:
        notes.append(f"{bad} itself changes none of the paths: the newest commit that does takes its place")
    known = _describe(repository, [base, *parents])
    candidates = (
        Candidate(
            key=key,
            name=key[:12],
            parents=tuple(before[:1] if first_parent else before),
            before=known[key][0].partition(" ")[0],
            author=known[key][1],
            date=known[key][2],
            subject=known[key][3],
        )
        for key, before in parents.items()
    )
    _, author, date, subject = known[base]
    return Stretch(
        good=Candidate(key=base, name=base[:12], author=author, date=date, subject=subject),
        candidates=tuple(candidates),
        kind="commit",
        notes=tuple(notes),
    )


def _describe(repository: Repository, keys: Sequence[str]) -> dict[str, list[str]]:
    """Read parents, author, date and subject of commits. Parents are the real ones, whatever the list left out."""
    listed = "".join(f"{key}\n" for key in keys)
    told = _ask(repository, "log", "-z", "--no-walk=unsorted", "--stdin", f"--format={_FIELDS}", stdin=listed)
    fields = told.split("\0")  # nothing else is safe: a subject may hold a carriage return
    return {fields[at]: fields[at + 1 : at + 5] for at in range(0, len(fields) - 1, 5)}


def list_versions(versions: Sequence[str], good: str = "", bad: str = "") -> Stretch:
    """List versions of a package from the good one (by default the first) to the bad one (by default the last).

    Raises `UsageProblem` for an end that is not among them, `NothingToJudge` when none is between.
    """
    if unknown := [end for end in (good, bad) if end and end not in versions]:
        raise UsageProblem(f"{', '.join(unknown)} is not among --versions {','.join(versions)}")
    if len(set(versions)) < len(versions):
        raise UsageProblem("a version occurs twice in --versions")
    start = versions.index(good) if good else 0
    end = versions.index(bad) if bad else len(versions) - 1
    if start >= end:
        raise NothingToJudge("give at least two versions with --versions, the good one first and the bad one last")
    stretch = versions[start : end + 1]
    made = [Candidate(key=stretch[0], name=stretch[0])]
    for version in stretch[1:]:
        made.append(Candidate(key=version, name=version, parents=(made[-1].key,), before=made[-1].key))
    return Stretch(good=made[0], candidates=tuple(made[1:]), kind="version")


def read_diffstat(repository: Repository, culprit: Candidate) -> str:
    """Read which files a commit changes, and by how much; blank for one without a parent."""
    if not culprit.before:
        return ""
    return _ask(repository, "diff", f"--stat={_WIDTH}", "--stat-count=40", culprit.before, culprit.key)


def _ask(repository: Repository, *arguments: str, stdin: str = "") -> str:
    try:
        return ask_git(repository.folder, *arguments, stdin=stdin)
    except GitFailed as error:
        raise UsageProblem(f"git {arguments[0]} failed: {error}") from error
