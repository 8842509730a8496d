"""The commits between two ends, as git has them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from torchperf_ci.bisect.commits import list_commits, list_versions, read_diffstat
from torchperf_ci.compare.checkouts import Repository
from torchperf_ci.core.errors import NothingToJudge, UsageProblem


def commit(folder: Path, message: str, **files: str) -> str:
    git = ("git", "-c", "user.name=A\tB", "-c", "user.email=t@example.org")
    for name, text in files.items():
        (folder / name).write_text(text)
    subprocess.run([*git, "add", "-A"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", message], cwd=folder, check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(tmp_path)], check=True)
    return Repository.around(tmp_path)


def test_odd_subjects_and_authors_stay_with_their_commits(repository: Repository) -> None:
    """Carriage returns, line separators and nothing at all."""
    commit(repository.folder, "good")
    subjects = ("one\rtwo\r", "a\u2028b\x85c", "last | `x`")
    shas = [commit(repository.folder, subject) for subject in subjects]
    stretch = list_commits(repository, "HEAD~3", "HEAD")
    assert [candidate.key for candidate in stretch.candidates] == shas
    assert stretch.candidates[2].subject == "last | `x`"
    assert "two" in stretch.candidates[0].subject
    assert [candidate.before for candidate in stretch.candidates] == [stretch.good.key, *shas[:2]]


def test_paths_leave_out_commits_but_not_real_parents(repository: Repository) -> None:
    """What is searched leads from one to the next; what a culprit is held against is its own parent."""
    good = commit(repository.folder, "good", code="0", doc="0")
    first = commit(repository.folder, "first", code="1")
    between = commit(repository.folder, "between", doc="1")
    second = commit(repository.folder, "second", code="2")
    commit(repository.folder, "after", doc="2")
    stretch = list_commits(repository, good, "main", paths=["code"])
    assert [candidate.key for candidate in stretch.candidates] == [first, second]
    assert stretch.bad.parents == (first,)
    assert stretch.bad.before == between
    assert "itself changes none of the paths" in stretch.notes[0]
    assert "code" in read_diffstat(repository, stretch.bad)
    with pytest.raises(NothingToJudge, match="changes other"):
        list_commits(repository, good, "main", paths=["other"])


def test_versions_are_cut_to_the_ends() -> None:
    """And have to be different ones, in their order."""
    stretch = list_versions(["1", "2", "3", "4"], "2", "4")
    assert (stretch.good.key, [each.key for each in stretch.candidates]) == ("2", ["3", "4"])
    assert [each.before for each in stretch.candidates] == ["2", "3"]
    with pytest.raises(UsageProblem, match="twice"):
        list_versions(["1", "2", "1"])
    with pytest.raises(NothingToJudge, match="at least two"):
        list_versions(["1", "2"], "2", "1")
