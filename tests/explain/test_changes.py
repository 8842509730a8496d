"""Changed lines of a real repository, and whether places lie in them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from torchperf_ci.compare.checkouts import GitFailed
from torchperf_ci.explain.model import (
    Evidence,
    SeenIteration,
    SideEvidence,
    is_changed,
    is_same_file,
    list_executed,
    read_changes,
)


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/layers.py").write_text("a = 1\nb = 2\n\n\ndef f():\n    return 1\n\n\ndef g():\n    return 2\n")
    (tmp_path / "gone.py").write_text("old = 1\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    (tmp_path / "src/layers.py").write_text(
        "a = 1\nb = 2\n\n\ndef f():\n    x = 1\n    return x\n\n\ndef g():\n    return 2\n"
    )
    (tmp_path / "gone.py").unlink()
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "second")
    return tmp_path


def test_lines_that_differ_are_read_from_git(repository: Path) -> None:
    """By path, on each side."""
    changes = read_changes(repository, "HEAD~1", "HEAD")
    assert changes.added == {"src/layers.py": frozenset({6, 7})}
    assert changes.removed == {"src/layers.py": frozenset({6}), "gone.py": frozenset({1})}
    assert changes.count == 4
    with pytest.raises(GitFailed):
        read_changes(repository, "HEAD~5", "HEAD")


def test_a_place_is_changed_where_its_line_or_its_function_is(repository: Path) -> None:
    """A function ends where the next one begins; files below a folder of packages are those of the repository."""
    changes = read_changes(repository, "HEAD~1", "HEAD")
    seen = SeenIteration(functions=[("layers.py", 5, "f", 1, 10), ("layers.py", 10, "g", 1, 10)])
    assert is_changed("layers.py:5", changes.added, seen)
    assert is_changed("layers.py:7", changes.added, seen)
    assert not is_changed("layers.py:10", changes.added, seen)
    assert not is_changed("other.py:6", changes.added, seen)
    assert not is_changed("no place", changes.added, seen)


def test_changed_lines_that_run_are_listed(repository: Path) -> None:
    changes = read_changes(repository, "HEAD~1", "HEAD")
    base = SideEvidence(seen=SeenIteration(lines={"layers.py": [6, 9]}))
    head = SideEvidence(seen=SeenIteration(lines={"layers.py": [6, 10]}))
    assert [*list_executed(Evidence(base=base, head=head, changes=changes))] == [
        "src/layers.py:6",
        "base src/layers.py:6",
    ]


@pytest.mark.parametrize(
    ("path", "file", "same"),
    [
        ("src/a/b.py", "a/b.py", True),
        ("a/b.py", "a/b.py", True),
        ("b.py", "lib/b.py", True),
        ("xb.py", "b.py", False),
    ],
)
def test_files_are_the_same_by_the_end_of_their_paths(path: str, file: str, same: bool) -> None:  # noqa: FBT001 - of a table
    assert is_same_file(path, file) is same
